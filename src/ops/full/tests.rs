//! What only a run from inside can show: sources that change under the reader, and remotes that fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::live::Live;
use super::tape::{Naming, Tape};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Passphrase, ScryptParams};
use crate::fs::Dir;
use crate::full::tar::Reader;
use crate::full::{ArchiveForm, Decoder, Effort, Encoder, Limits};
use crate::gather::{TreeWalk, WalkOptions};
use crate::model::{Classify, ErrorClass, Timestamp};
use crate::ops::backup::Selection;
use crate::remote::{Counting, Fault, Listed as Object, Memory, Remote, RemoteError, Streaming, Verb};
use crate::repo::{CachePlace, Repository};
use crate::report::{Monitor, Silent};

/// Bytes that no compressor makes shorter.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Does something when the first bytes of an archive come that are more than its beginning.
struct Hooked<F: FnMut()> {
    out: Vec<u8>,
    hook: Option<F>,
}

impl<F: FnMut()> Write for Hooked<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() > 1 << 16
            && let Some(mut hook) = self.hook.take()
        {
            hook();
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_leaves_a_whole_stream_that_says_so() {
    const LEN: usize = 48 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big");
    fs::write(&path, noise(1, LEN)).unwrap();
    fs::write(dir.path().join("later"), b"whole").unwrap();
    let grown = dir.path().join("grown");
    fs::write(&grown, noise(2, 2 << 20)).unwrap();
    let hook = || {
        File::options().write(true).open(&path).unwrap().set_len(LEN as u64 / 2).unwrap();
        File::options().append(true).open(&grown).unwrap().write_all(b"more").unwrap();
    };
    let effort = Effort { level: Some(1), threads: 1 };
    let encoder = Encoder::openssl(Hooked { out: Vec::new(), hook: Some(hook) }, None, effort).unwrap();
    let naming = Naming::new(ArchiveForm::Sealed, dir.path(), true);
    let mut tape = Tape::new(encoder, "test".into(), naming, &Silent);
    let root = Arc::new(Dir::open(dir.path()).unwrap());
    let mut walk = TreeWalk::of(root, WalkOptions::default()).unwrap();
    Live::new(&mut tape, dir.path()).run(&mut walk).unwrap();
    let (finished, tally) = tape.finish().unwrap();
    assert_eq!(tally.error_count, 1);
    assert!(tally.errors[0].message.contains("shrank from 50331648 to "), "{:?}", tally.errors);
    let decoder = Decoder::openssl(finished.out.out.as_slice(), None, Limits::UNKNOWN).unwrap();
    let mut reader = Reader::new(decoder, Limits::UNKNOWN);
    let mut found = Vec::new();
    while let Some(member) = reader.next_member().unwrap() {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match reader.read_data(&mut piece).unwrap() {
                0 => break,
                n => bytes.extend_from_slice(&piece[..n]),
            }
        }
        found.push((String::from_utf8(member.path).unwrap(), bytes));
    }
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["big", "grown", "later"]);
    assert_eq!(found[0].1.len(), LEN);
    assert!(found[0].1[LEN - 100..].iter().all(|&b| b == 0));
    assert_eq!((found[1].1.len() >= 2 << 20, found[2].1.as_slice()), (true, &b"whole"[..]));
}

/// A remote that fails streams after so many bytes, or the marks after them.
struct Failing {
    inner: Memory,
    after: usize,
    no_marks: bool,
}

struct FailingStream {
    inner: Box<dyn Streaming>,
    left: usize,
}

fn refused(name: &str) -> RemoteError {
    let (name, message) = (name.to_string(), "the line is dead".to_string());
    RemoteError::Service { verb: Verb::Put, name, message, fault: Fault::Transient }
}

impl Streaming for FailingStream {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| refused("full"))?;
        self.inner.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), RemoteError> {
        self.inner.finish()
    }
}

impl Remote for Failing {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get(name, max)
    }
    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get_range(name, offset, len)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        if self.no_marks && name.ends_with(".mark") {
            Err(refused(name))
        } else {
            self.inner.put(name, bytes)
        }
    }
    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        Ok(Box::new(FailingStream { inner: self.inner.stream(name)?, left: self.after }))
    }
    fn list(&self, folder: &str) -> Result<Vec<Object>, RemoteError> {
        self.inner.list(folder)
    }
    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.inner.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.inner.delete(name)
    }
    fn location(&self) -> String {
        "memory".into()
    }
}

struct World {
    repository: Repository,
    counting: Counting,
    monitor: Arc<dyn Monitor>,
    clock: Arc<dyn Clock>,
    dir: tempfile::TempDir,
}

fn world(remote: impl Remote + 'static) -> World {
    let dir = tempfile::tempdir().unwrap();
    let remote: Arc<dyn Remote> = Arc::new(remote);
    let passphrase = Passphrase::new(b"secret".to_vec());
    let cache = dir.path().join("cache");
    let caches = CachePlace { dir: &cache, keeps_key: true };
    let params = ScryptParams::GENERATED;
    Repository::init(&remote, &passphrase, caches, params, Timestamp::from_secs(0), "test").unwrap();
    let repository = Repository::open(Arc::clone(&remote), &passphrase, caches).unwrap();
    let (monitor, clock) = (Arc::new(Silent), Arc::new(SystemClock::new()));
    World { repository, counting: Counting::new(remote), monitor, clock, dir }
}

impl World {
    fn create(&self, form: ArchiveForm) -> Result<Created, Error> {
        let root: PathBuf = self.dir.path().join("state");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("a"), noise(1, 3 << 20)).unwrap();
        let request = CreateRequest {
            root,
            selection: Selection::default(),
            tags: Vec::new(),
            form,
            passphrase: Some(Passphrase::new(b"x".to_vec())),
            threads: 1,
        };
        create(&self.repository, &self.counting, &request, &self.monitor, &self.clock)
    }

    fn states(&self) -> Vec<State> {
        let archives = Archives::load(&Place::of(&self.repository)).unwrap().archives;
        archives.into_iter().map(|listed| listed.state).collect()
    }
}

#[test]
fn a_stream_that_fails_leaves_nothing_and_says_what_failed() {
    for after in [0, 1000, 2 << 20] {
        let world = world(Failing { inner: Memory::default(), after, no_marks: false });
        let error = world.create(ArchiveForm::Sealed).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Failed);
        assert_eq!(error.fault(), Some(Fault::Transient), "{error}");
        assert!(error.to_string().contains("the line is dead"), "{error}");
        assert_eq!(world.states(), []);
    }
}

#[test]
fn an_archive_whose_mark_cannot_be_stored_is_taken_back() {
    for form in ArchiveForm::ALL {
        let world = world(Failing { inner: Memory::default(), after: usize::MAX, no_marks: true });
        assert!(world.create(form).is_err());
        assert_eq!(world.repository.remote().list("full").unwrap(), []);
    }
}

#[test]
fn archives_of_one_second_have_names_of_their_own() {
    let world = world(Memory::default());
    let made: Vec<_> = (0..3).map(|_| world.create(ArchiveForm::Gzip).unwrap().mark.name).collect();
    assert!(made[0] < made[1] && made[1] < made[2], "{made:?}");
    assert_eq!(world.states(), vec![State::Complete; 3]);
    let place = Place::of(&world.repository);
    let archives = Archives::load(&place).unwrap();
    assert_eq!(archives.choose("latest", &place).unwrap().name, made[2]);
    let whole = made[1].to_string();
    assert_eq!(archives.choose(&whole, &place).unwrap().name, made[1]);
    assert!(matches!(archives.choose("backup-", &place), Err(Error::Ambiguous { found: 3, .. })));
    assert!(matches!(archives.choose("backup-1", &place), Err(Error::NotFound { .. })));
}

#[test]
fn a_mark_of_other_bytes_is_found_out_at_the_end() {
    let world = world(Memory::default());
    let name = world.create(ArchiveForm::Gzip).unwrap().mark.name;
    let place = Place::of(&world.repository);
    let object = format!("full/{name}");
    // The same length, and a valid stream: only the hash tells. Byte 4 to 7 of gzip's header are a time.
    let mut bytes = world.repository.remote().get(&object, u64::MAX).unwrap();
    bytes[4] ^= 1;
    world.repository.remote().delete(&object).unwrap();
    world.repository.remote().put(&object, &bytes).unwrap();
    let archives = Archives::load(&place).unwrap();
    let target = world.dir.path().join("out");
    let request = RestoreRequest {
        target: target.clone(),
        paths: Vec::new(),
        partial: false,
        passphrase: None,
        forbidden: Vec::new(),
    };
    let listed = archives.choose("latest", &place).unwrap();
    let error = restore(&place, listed, &request, &world.monitor, &world.clock).unwrap_err();
    assert!(
        matches!(&error, Error::Cut { source, .. } if matches!(**source, Error::Altered { .. })),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Damaged);
    assert!(!target.exists());
    assert!(world.dir.path().join("out.partial/state/a").exists());
}
