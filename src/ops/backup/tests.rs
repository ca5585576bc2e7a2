//! Backups against a prune on another machine.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Request, run};
use crate::clock::{Clock, SystemClock};
use crate::crypto::{ObjectKind, Passphrase, ScryptParams, sha256};
use crate::format::gc_v1::{self, GcRecord};
use crate::format::sealed_v1::Randomness;
use crate::model::{ObjectId, SnapshotKind, Timestamp};
use crate::ops::restore;
use crate::remote::{Counting, Listed, Memory, Remote, RemoteError};
use crate::repo::{CachePlace, Catalog, Folder, PackerOptions, Repository, record_name};
use crate::report::{Monitor, Silent};

/// Shows what is to appear under `gc/` from a certain listing on, as a prune beside us would.
#[derive(Default)]
struct Pruned {
    inner: Memory,
    /// Listings of `gc/` until the record appears, and the record.
    coming: Mutex<Option<(usize, String, Vec<u8>)>>,
}

impl Remote for Pruned {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get(name, max)
    }
    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get_range(name, offset, len)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.inner.put(name, bytes)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        if folder == "gc" {
            let mut coming = self.coming.lock().unwrap();
            match coming.as_mut() {
                Some((0, name, bytes)) => self.inner.put(name, bytes)?,
                Some((left, ..)) => *left -= 1,
                None => {}
            }
        }
        self.inner.list(folder)
    }
    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.inner.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.inner.delete(name)
    }
    fn location(&self) -> String {
        "pruned".into()
    }
}

struct World {
    dir: tempfile::TempDir,
    remote: Arc<Pruned>,
    counting: Arc<Counting>,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let remote = Arc::new(Pruned::default());
        let counting = Arc::new(Counting::new(Arc::clone(&remote) as _));
        let handle: Arc<dyn Remote> = Arc::clone(&counting) as _;
        let passphrase = Passphrase::new(b"p".to_vec());
        let cache = dir.path().join("cache");
        let caches = CachePlace { dir: &cache, keeps_key: true };
        let (cheap, time) = (ScryptParams::GENERATED, Timestamp::default());
        Repository::init(&handle, &passphrase, caches, cheap, time, "").unwrap();
        let repository = Repository::open(handle, &passphrase, caches).unwrap();
        let source = dir.path().join("source");
        std::fs::create_dir(&source).unwrap();
        for n in 0..20u8 {
            let bytes: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8 ^ n).collect();
            std::fs::write(source.join(format!("file{n}")), bytes).unwrap();
        }
        Self { dir, remote, counting, repository }
    }

    fn source(&self) -> std::path::PathBuf {
        self.dir.path().join("source")
    }

    fn backup(&self) -> super::Outcome {
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let request = Request::new(self.source(), PackerOptions::new(2));
        let catalog = Catalog::load(&self.repository, SnapshotKind::Regular).unwrap();
        run(&self.repository, &catalog, &self.counting, &request, &monitor, &clock).unwrap()
    }

    fn packs(&self) -> BTreeSet<ObjectId> {
        self.repository.list(Folder::Packs).unwrap().into_iter().map(|o| o.id).collect()
    }

    /// A gc record that condemns these packs, to appear after so many listings of `gc/`.
    fn condemn(&self, packs: &BTreeSet<ObjectId>, after: usize) {
        let record =
            gc_v1::encode(&GcRecord { time: Timestamp::default(), packs: packs.iter().copied().collect() });
        let random = Randomness::generate().unwrap();
        let bytes = self.repository.sealer().seal_record(ObjectKind::Gc, &record.unwrap(), &random).unwrap();
        let name = record_name(Folder::Gc, Timestamp::default(), &ObjectId(sha256(&bytes)));
        *self.remote.coming.lock().unwrap() = Some((after, name, bytes));
    }

    /// Carries the sentence out: deletes the packs and the index objects that list them.
    fn delete(&self, packs: &BTreeSet<ObjectId>, index: &[String]) {
        packs.iter().for_each(|id| self.remote.delete(&crate::repo::pack_name(id)).unwrap());
        index.iter().for_each(|name| self.remote.delete(name).unwrap());
    }

    fn restores(&self, outcome: &super::Outcome, to: &str) {
        let target = self.dir.path().join(to);
        let request = restore::Request {
            id: outcome.id.unwrap(),
            snapshot: outcome.snapshot.clone(),
            target: target.clone(),
            paths: Vec::new(),
            dry_run: false,
            verify: true,
            owner: false,
            set_id: false,
            devices: false,
            threads: 2,
        };
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let restored = restore::run(&self.repository, &request, &monitor, &clock).unwrap();
        assert_eq!(restored.errors, []);
        assert_eq!(content(&self.source()), content(&target));
    }
}

fn content(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name(), std::fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn index_names(world: &World) -> Vec<String> {
    world.remote.list("index").unwrap().into_iter().map(|o| o.name).collect()
}

#[test]
fn condemned_packs_are_not_counted_on() {
    let world = World::new();
    let first = world.backup();
    assert!(first.id.is_some());
    let (condemned, old_index) = (world.packs(), index_names(&world));
    world.condemn(&condemned, 0);
    let second = world.backup();
    assert_eq!(second.snapshot.stats.files_unmodified, 0, "what only condemned packs hold is read again");
    assert!(world.packs().len() > condemned.len());
    world.delete(&condemned, &old_index);
    world.restores(&second, "restored");

    // The next one is incremental again, although the record is still there.
    let third = world.backup();
    assert_eq!((third.snapshot.stats.files_unmodified, third.snapshot.stats.bytes_read), (20, 0));
}

/// A repair condemned packs that were gone, and took them out of the index: nothing says any more what they held.
#[test]
fn what_is_in_no_index_object_any_more_is_stored_again() {
    for grows in [false, true] {
        let world = World::new();
        world.backup();
        let (gone, old_index) = (world.packs(), index_names(&world));
        world.condemn(&gone, 0);
        world.delete(&gone, &old_index);
        if grows {
            for n in 0..20 {
                let path = world.source().join(format!("file{n}"));
                let mut file = std::fs::File::options().append(true).open(path).unwrap();
                std::io::Write::write_all(&mut file, b"and more").unwrap();
            }
        }
        let second = world.backup();
        world.restores(&second, "restored");
        // That all of it is there is not looked up again.
        let sound = world.repository.cache().seen().unwrap().sound;
        assert_eq!(sound, [second.snapshot.manifest.root].into());
        let third = world.backup();
        assert_eq!((third.snapshot.stats.files_unmodified, third.snapshot.stats.bytes_read), (20, 0));
        assert_eq!(world.repository.cache().seen().unwrap().sound, sound);
    }
}

/// A prune condemns all packs while a second backup runs, and deletes them afterwards.
fn pruned_while_a_backup_runs(cache_lost: bool, gc_listings_before: usize) {
    let world = World::new();
    world.backup();
    let (condemned, old_index) = (world.packs(), index_names(&world));
    std::fs::write(world.source().join("new"), b"something new").unwrap();
    if cache_lost {
        std::fs::remove_dir_all(world.repository.cache().directory()).unwrap();
    }
    world.condemn(&condemned, gc_listings_before);
    let second = world.backup();
    world.delete(&condemned, &old_index);
    world.restores(&second, "restored");
    assert_eq!(world.repository.list(Folder::Snapshots).unwrap().len(), 2);
}

#[test]
fn packs_condemned_while_a_backup_runs_are_stored_again_before_it_publishes() {
    // Without remembered listings the one before the walk sees nothing, and the one before publishing does.
    pruned_while_a_backup_runs(true, 1);
    // With them there is only the one before publishing.
    pruned_while_a_backup_runs(false, 0);
}

#[test]
fn a_remembered_index_is_not_counted_on_after_a_prune() {
    let world = World::new();
    world.backup();
    let (gone, old_index) = (world.packs(), index_names(&world));
    // All files are new ones by name, but their content is known to the remembered index only.
    std::fs::rename(world.source(), world.dir.path().join("old")).unwrap();
    std::fs::create_dir(world.source()).unwrap();
    for n in 0..20 {
        let (from, to) = (format!("old/file{n}"), world.source().join(format!("copy{n}")));
        std::fs::copy(world.dir.path().join(from), to).unwrap();
    }
    // A prune condemned the packs, deleted them, and left a newer record that names none of them.
    world.condemn(&BTreeSet::new(), 0);
    world.repository.list(Folder::Gc).unwrap();
    world.delete(&gone, &old_index);
    let second = world.backup();
    world.restores(&second, "restored");
    // Nothing changed since: the new listing is remembered, and counted on.
    let before = world.counting.counts().list;
    let third = world.backup();
    assert_eq!(third.snapshot.stats.files_unmodified, 20);
    assert_eq!(third.requests.list - before, 2, "the snapshots, and the gc records");
}
