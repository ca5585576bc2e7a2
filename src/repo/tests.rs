//! Repository, manifest, packer and cache over a remote in memory.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    BlobReader, CachePlace, Folder, ManifestReader, ManifestWriter, Packer, PackerOptions, RepoError,
    Repository, SegmentSink, SharedIndex,
};
use crate::crypto::{Passphrase, ScryptParams};
use crate::model::{
    BlobId, BlobKind, Content, Entry, EntryKind, ManifestRef, Metadata, RepoPath, RepositoryId, Slice,
    Slices, Timestamp,
};
use crate::remote::{Memory, Remote};

pub(crate) fn passphrase() -> Passphrase {
    Passphrase::new(b"secret".to_vec())
}

fn init(remote: &Arc<dyn Remote>, cache: &std::path::Path) -> Result<RepositoryId, RepoError> {
    let caches = CachePlace { dir: cache, keeps_key: false };
    Repository::init(remote, &passphrase(), caches, ScryptParams::GENERATED, Timestamp::default(), "test")
}

pub(crate) fn repository(remote: &Arc<Memory>, cache: &std::path::Path) -> Repository {
    repository_at(&(Arc::clone(remote) as Arc<dyn Remote>), cache)
}

pub(crate) fn repository_at(remote: &Arc<dyn Remote>, cache: &std::path::Path) -> Repository {
    let made = init(remote, cache);
    assert!(made.is_ok() || matches!(made, Err(RepoError::Exists { .. })));
    Repository::open(Arc::clone(remote), &passphrase(), CachePlace { dir: cache, keeps_key: true }).unwrap()
}

fn packer(repository: &Repository) -> Packer {
    let index = SharedIndex::new(repository);
    Packer::new(repository, PackerOptions { pack_size: 200_000, ..PackerOptions::new(2) }, false, index)
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: RepoPath::new(path.as_bytes().to_vec()).unwrap(),
        kind,
        meta: Metadata::default(),
        link_group: 0,
        unsettled: false,
    }
}

fn file(path: &str, n: u64) -> Entry {
    let id = BlobId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let slices = Slices::Inline(vec![Slice::Blob { id, offset: 0, len: 10 }]);
    entry(path, EntryKind::File(Content { size: 10, slices, ..Content::default() }))
}

fn tree(files: u64) -> Vec<Entry> {
    let mut entries = vec![entry("", EntryKind::Directory)];
    for n in 0..files {
        if n % 10 == 0 {
            entries.push(entry(&format!("d{:05}", n / 10), EntryKind::Directory));
        }
        entries.push(file(&format!("d{:05}/f{n:06}", n / 10), n));
    }
    entries
}

/// Stores segments and counts the new ones.
struct Sink<'a> {
    repository: &'a Repository,
    packer: &'a mut Packer,
    fresh: usize,
}

impl SegmentSink for Sink<'_> {
    fn store(&mut self, _: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        let id = self.repository.sealer().keys.blob_id(BlobKind::Meta, &bytes);
        self.fresh += usize::from(self.packer.add(BlobKind::Meta, id, &bytes)?);
        Ok(id)
    }
}

fn write(repository: &Repository, entries: &[Entry]) -> (ManifestRef, usize) {
    let mut packer = packer(repository);
    let mut sink = Sink { repository, packer: &mut packer, fresh: 0 };
    let mut writer = ManifestWriter::default();
    entries.iter().for_each(|e| writer.push(e, &mut sink).unwrap());
    let manifest = writer.finish(&mut sink).unwrap();
    let fresh = sink.fresh;
    packer.publish().unwrap();
    (manifest, fresh)
}

fn read(repository: &Repository, manifest: ManifestRef) -> Result<Vec<Entry>, RepoError> {
    let loaded = SharedIndex::new(repository).get()?;
    let blobs = BlobReader::new(repository, &loaded.index);
    let mut reader = ManifestReader::new(&blobs, manifest);
    std::iter::from_fn(|| reader.next_entry().transpose()).collect()
}

#[test]
fn manifests_of_every_depth_read_back_and_can_be_entered_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository(&Arc::default(), dir.path());
    let mut levels = BTreeSet::new();
    for files in [0, 1, 50, 1_000, 20_000] {
        let entries = tree(files);
        let (manifest, _) = write(&repository, &entries);
        levels.insert(manifest.level);
        assert_eq!(read(&repository, manifest).unwrap(), entries, "{files}");

        let loaded = SharedIndex::new(&repository).get().unwrap();
        let blobs = BlobReader::new(&repository, &loaded.index);
        for at in [0, entries.len() / 3, entries.len() - 1] {
            let want = &entries[at];
            assert_eq!(ManifestReader::find(&blobs, manifest, &want.path).unwrap().as_ref(), Some(want));
            let mut rest = ManifestReader::from(&blobs, manifest, &want.path).unwrap();
            let rest: Vec<_> =
                std::iter::from_fn(|| rest.next_entry().transpose()).map(Result::unwrap).collect();
            assert_eq!(rest, entries[at..]);
        }
        let absent = RepoPath::new(b"zzz".to_vec()).unwrap();
        assert_eq!(ManifestReader::find(&blobs, manifest, &absent).unwrap(), None);
    }
    assert!(levels.len() >= 3, "{levels:?}");
}

#[test]
fn a_change_rewrites_only_the_segments_it_touches() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository(&Arc::default(), dir.path());
    let mut entries = tree(20_000);
    let (first, all) = write(&repository, &entries);
    assert!(all > 200, "{all} segments");
    assert_eq!(write(&repository, &entries), (first, 0));
    entries[7_777] = file(std::str::from_utf8(entries[7_777].path.as_bytes()).unwrap(), 1 << 40);
    let (second, fresh) = write(&repository, &entries);
    assert_ne!(first, second);
    assert!(fresh <= usize::from(second.level) + 1, "{fresh} new segments for one change");
    entries.remove(5_000);
    let (third, fresh) = write(&repository, &entries);
    assert!(fresh <= 3 * (usize::from(third.level) + 1), "{fresh} new segments for one removal");
}

#[test]
fn manifests_that_break_the_rules_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository(&Arc::default(), dir.path());
    let root = || entry("", EntryKind::Directory);
    for (what, entries) in [
        ("no root", vec![file("a", 1)]),
        ("root is a file", vec![file("", 1)]),
        ("no parent", vec![root(), file("a/b", 1)]),
        ("parent is a file", vec![root(), file("a", 1), file("a/b", 2)]),
        ("parent is a link", vec![root(), entry("a", EntryKind::Symlink(b"/etc".to_vec())), file("a/b", 2)]),
        ("descends", vec![root(), file("b", 1), file("a", 2)]),
        ("twice", vec![root(), file("a", 1), file("a", 2)]),
    ] {
        let (manifest, _) = write(&repository, &entries);
        assert!(read(&repository, manifest).is_err(), "{what}");
    }
}

#[test]
fn blobs_are_stored_once_and_read_back_verified() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Arc::new(Memory::default());
    let repository = repository(&remote, dir.path());
    let blobs: Vec<_> = (0..40u8).map(|n| bytes(n.into(), 1 + 20_000 * usize::from(n % 7))).collect();
    let id = |b: &Vec<u8>| repository.sealer().keys.blob_id(BlobKind::Data, b);
    let first = packer(&repository);
    for blob in blobs.iter().chain(&blobs) {
        first.add(BlobKind::Data, id(blob), blob).unwrap();
    }
    let published = first.publish().unwrap();
    assert_eq!(published.raw, blobs.iter().map(|b| b.len() as u64).sum::<u64>());
    assert!(published.packs > 1);

    let second = packer(&repository);
    assert!(blobs.iter().all(|b| !second.add(BlobKind::Data, id(b), b).unwrap()));
    assert_eq!(second.publish().unwrap(), super::Published::default());

    let loaded = SharedIndex::new(&repository).get().unwrap();
    let reader = BlobReader::new(&repository, &loaded.index);
    for blob in &blobs {
        assert_eq!(reader.blob(BlobKind::Data, &id(blob)).unwrap(), *blob);
        // The bytes of a file are never a manifest.
        assert!(reader.blob(BlobKind::Meta, &id(blob)).is_err());
    }
}

#[test]
fn packs_of_an_interrupted_run_are_found_and_published() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Arc::new(Memory::default());
    let repository = repository(&remote, dir.path());
    let blobs: Vec<_> = (0..100).map(|n| bytes(n, 50_000)).collect();
    let id = |b: &Vec<u8>| repository.sealer().keys.blob_id(BlobKind::Data, b);
    let first = packer(&repository);
    blobs.iter().for_each(|b| assert!(first.add(BlobKind::Data, id(b), b).unwrap()));
    first.publish().unwrap();
    // As if the run had ended before its index was stored.
    let stored = remote.list("packs").unwrap().len() as u64;
    let notes: Vec<_> = {
        let loaded = SharedIndex::new(&repository).get().unwrap();
        assert!(loaded.adopted.is_empty());
        let object = repository.list(Folder::Index).unwrap().remove(0);
        let record =
            repository.read_record(crate::crypto::ObjectKind::Index, &object.name, &object.id).unwrap();
        crate::format::index_v1::decode(&record).unwrap().packs
    };
    remote.list("index").unwrap().iter().for_each(|o| remote.delete(&o.name).unwrap());
    notes.iter().for_each(|p| repository.cache().note_pending(p).unwrap());
    // One of them never arrived, one arrived cut short.
    remote.delete(&super::pack_name(&notes[0].id)).unwrap();
    remote.tamper(&super::pack_name(&notes[1].id), vec![0; 100]);

    let second = packer(&repository);
    let fresh = blobs.iter().filter(|b| second.add(BlobKind::Data, id(b), b).unwrap()).count();
    assert!((1..=45).contains(&fresh), "{fresh} blobs stored again");
    let published = second.publish().unwrap();
    assert_eq!(published.adopted, stored - 2);
    published.listed.iter().for_each(|pack| repository.cache().forget_pending(pack));
    assert!(repository.cache().pending().is_empty());
    let loaded = SharedIndex::new(&repository).get().unwrap();
    let reader = BlobReader::new(&repository, &loaded.index);
    blobs.iter().for_each(|b| assert_eq!(reader.blob(BlobKind::Data, &id(b)).unwrap(), *b));
}

#[test]
fn a_remote_that_fails_fails_the_run_and_publishes_no_index() {
    struct Failing(Memory);

    impl Remote for Failing {
        fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, crate::remote::RemoteError> {
            self.0.get(name, max)
        }
        fn get_range(&self, name: &str, from: u64, len: u64) -> Result<Vec<u8>, crate::remote::RemoteError> {
            self.0.get_range(name, from, len)
        }
        fn put(&self, name: &str, bytes: &[u8]) -> Result<(), crate::remote::RemoteError> {
            if name.starts_with("packs/") && self.0.list("packs")?.len() >= 2 {
                let source = std::io::ErrorKind::StorageFull.into();
                let (verb, name) = (crate::remote::Verb::Put, name.to_string());
                return Err(crate::remote::RemoteError::Io { verb, name, source });
            }
            self.0.put(name, bytes)
        }
        fn list(&self, folder: &str) -> Result<Vec<crate::remote::Listed>, crate::remote::RemoteError> {
            self.0.list(folder)
        }
        fn size(&self, name: &str) -> Result<u64, crate::remote::RemoteError> {
            self.0.size(name)
        }
        fn delete(&self, name: &str) -> Result<(), crate::remote::RemoteError> {
            self.0.delete(name)
        }
        fn location(&self) -> String {
            "failing".into()
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let remote: Arc<dyn Remote> = Arc::new(Failing(Memory::default()));
    init(&remote, dir.path()).unwrap();
    let repository =
        Repository::open(Arc::clone(&remote), &passphrase(), CachePlace { dir: dir.path(), keeps_key: true })
            .unwrap();
    let packer = packer(&repository);
    let mut failed = None;
    for n in 0..400 {
        let blob = bytes(n, 50_000);
        let id = repository.sealer().keys.blob_id(BlobKind::Data, &blob);
        if let Err(e) = packer.add(BlobKind::Data, id, &blob) {
            failed = Some(e);
            break;
        }
    }
    let error = failed.unwrap_or_else(|| packer.publish().unwrap_err());
    assert!(matches!(error, RepoError::Remote(_)), "{error}");
    assert!(remote.list("index").unwrap().is_empty());
}

#[test]
fn keys_open_change_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Arc::new(Memory::default());
    let first = repository(&remote, dir.path());
    let open = |text: &str| {
        let handle: Arc<dyn Remote> = Arc::clone(&remote) as _;
        let passphrase = Passphrase::new(text.as_bytes().to_vec());
        Repository::open(handle, &passphrase, CachePlace { dir: dir.path(), keeps_key: true }).map(drop)
    };
    let other = Passphrase::new(b"other".to_vec());
    let params = ScryptParams::GENERATED;
    assert!(matches!(open("other"), Err(RepoError::WrongKey { keys: 1, .. })));
    first.add_key(&passphrase(), &other, params, Timestamp::default(), "two").unwrap();
    assert!(open("secret").is_ok() && open("other").is_ok());

    let keys = first.keys(&passphrase()).unwrap();
    assert_eq!(keys.iter().filter(|k| k.current).count(), 1);
    let mine = keys.iter().find(|k| k.current).unwrap().id.to_string();
    assert!(first.key_removal(&passphrase(), "").is_err());
    first.remove_key(&first.key_removal(&other, &mine).unwrap()).unwrap();
    assert!(open("secret").is_err() && open("other").is_ok());
    first.change_key(&other, &passphrase(), params, Timestamp::default()).unwrap();
    assert!(open("secret").is_ok() && open("other").is_err());
}

#[test]
fn a_cached_key_opens_only_while_its_key_object_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Arc::new(Memory::default());
    let remote: Arc<dyn Remote> = Arc::clone(&memory) as _;
    init(&remote, dir.path()).unwrap();
    let open = |keeps_key, passphrase: &Passphrase| {
        let counting = Arc::new(crate::remote::Counting::new(Arc::clone(&remote)));
        let place = CachePlace { dir: dir.path(), keeps_key };
        let opened = Repository::open(Arc::clone(&counting) as _, passphrase, place);
        opened.map(|repository| (repository, counting.counts().get))
    };
    let (repository, gets) = open(true, &passphrase()).unwrap();
    assert_eq!(gets, 2, "the marker and the key object");
    let kept = repository.cache().directory().join("key");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&kept).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(open(true, &passphrase()).unwrap().1, 1, "the marker");
    // Another passphrase opens neither the copy nor the object.
    assert!(matches!(open(true, &Passphrase::new(b"x".to_vec())), Err(RepoError::WrongKey { .. })));
    // Somebody else removed the key: its copy does not open any more.
    let key = memory.list("keys").unwrap().remove(0).name;
    let object = memory.get(&key, 1 << 16).unwrap();
    memory.delete(&key).unwrap();
    assert!(matches!(open(true, &passphrase()), Err(RepoError::NoKeys { .. })));
    memory.put(&key, &object).unwrap();
    // Whoever does not want it finds it gone.
    assert_eq!(open(false, &passphrase()).unwrap().1, 2);
    assert!(!kept.exists());
}

#[test]
fn a_new_repositorys_key_is_kept_where_keys_are_kept() {
    for (keeps_key, gets) in [(true, 1), (false, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let memory: Arc<dyn Remote> = Arc::new(Memory::default());
        let caches = CachePlace { dir: dir.path(), keeps_key };
        let (cheap, time) = (ScryptParams::GENERATED, Timestamp::default());
        Repository::init(&memory, &passphrase(), caches, cheap, time, "").unwrap();
        let counting = Arc::new(crate::remote::Counting::new(memory));
        Repository::open(Arc::clone(&counting) as _, &passphrase(), caches).unwrap();
        assert_eq!(counting.counts().get, gets, "the marker, and the key object unless its key is kept");
    }
}

#[test]
fn a_small_backup_is_one_pack_however_many_threads_make_it() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Arc::new(Memory::default());
    let repository = repository(&memory, dir.path());
    let index = SharedIndex::new(&repository);
    let options = PackerOptions { pack_size: 64 << 20, ..PackerOptions::new(16) };
    let packer = Packer::new(&repository, options, false, Arc::clone(&index));
    let blob = |n: u32| {
        let mut bytes = vec![0; 32_000];
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    };
    std::thread::scope(|scope| {
        for thread in 0..16u32 {
            let (packer, repository) = (&packer, &repository);
            scope.spawn(move || {
                let mut filler = packer.filler(None);
                for n in 0..50 {
                    // Some of them are the same in all threads.
                    let bytes = blob(if n == 0 { 0 } else { 100 * (thread + 1) + n });
                    filler.buffer().extend_from_slice(&bytes);
                    let id = repository.sealer().keys.blob_id(BlobKind::Data, &bytes);
                    filler.take(id, bytes.len()).unwrap();
                }
                filler.finish().unwrap();
            });
        }
    });
    let published = packer.publish().unwrap();
    assert_eq!((published.packs, published.raw), (1, (16 * 49 + 1) * 32_000));
    let loaded = SharedIndex::new(&repository).get().unwrap();
    let reader = BlobReader::new(&repository, &loaded.index);
    let last = blob(100 * 16 + 49);
    let id = repository.sealer().keys.blob_id(BlobKind::Data, &last);
    assert_eq!(reader.blob(BlobKind::Data, &id).unwrap(), last);
}

#[test]
fn nothing_is_published_after_a_thread_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Arc::new(Memory::default());
    let repository = repository(&memory, dir.path());
    let packer = Packer::new(&repository, PackerOptions::new(2), false, SharedIndex::new(&repository));
    packer.fail(RepoError::Worker);
    packer.fail(RepoError::Key("the reason".into()));
    packer.fail(RepoError::Worker);
    assert!(packer.has_failed());
    // Nothing was stored, so there is no uploader that could tell.
    assert!(matches!(packer.publish(), Err(RepoError::Key(reason)) if reason == "the reason"));
    assert!(packer.publish().is_err(), "and it stays so");
}
