//! What only a run from inside can show: sources that change under the reader, and remotes that fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::create::mark;
use super::live::Live;
use super::store::{Making, Storing, Upload};
use super::tape::{Naming, Tally, Tape};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Passphrase, ScryptParams};
use crate::fs::Dir;
use crate::full::tar::Reader;
use crate::full::{ArchiveForm, ArchiveName, Decoder, Effort, Encoder, Limits};
use crate::gather::{TreeWalk, WalkOptions};
use crate::model::{Classify, ErrorClass, Policy, SnapshotKind, Timestamp};
use crate::ops::backup::{self, Selection};
use crate::remote::{Counting, Fault, Listed as Object, Local, Memory, Remote, RemoteError, Streaming, Verb};
use crate::repo::{CachePlace, Catalog, PackerOptions, Repository};
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

/// An upload that is begun at this second, and all but ended.
struct Begun<'a> {
    world: &'a World,
    storing: Storing<'a>,
    upload: Upload,
}

impl<'a> Begun<'a> {
    fn new(world: &'a World, form: ArchiveForm) -> Self {
        let time = Timestamp::from_secs(1_700_000_000);
        let monitor = world.monitor.as_ref();
        let (storing, upload) = Storing::begin(&world.repository, monitor, time, form).unwrap();
        Self { world, storing, upload }
    }

    fn finish(self, bytes: &[u8]) -> Result<(), Error> {
        let Self { world, storing, upload } = self;
        let making = Making { form: storing.name.form(), passphrase: None, threads: 1 };
        let mut encoder = making.encoder(&world.repository, upload).unwrap();
        encoder.write_all(bytes).unwrap();
        let finished = encoder.finish().unwrap();
        let time = storing.name.time();
        let mark = mark(&world.repository, storing.name, &finished, &Tally::default(), time).unwrap();
        storing.finish(finished, &mark)
    }
}

#[test]
fn of_two_archives_of_one_name_the_first_stays_and_the_second_fails() {
    let dir = tempfile::tempdir().unwrap();
    let local = dir.path().join("remote");
    for world in [world(Memory::default()), world(Local::new(local))] {
        for form in [ArchiveForm::Sealed, ArchiveForm::Gzip] {
            let (one, two) = (Begun::new(&world, form), Begun::new(&world, form));
            assert_eq!(one.storing.name, two.storing.name);
            let object = format!("full/{}", one.storing.name);
            one.finish(&noise(1, 5_000)).unwrap();
            let stored = world.repository.remote().get(&object, u64::MAX).unwrap();
            let error = two.finish(&noise(2, 7_000)).unwrap_err();
            assert!(matches!(error, Error::Taken(_)), "{error}");
            assert_eq!(world.repository.remote().get(&object, u64::MAX).unwrap(), stored);
            assert_eq!(world.states().last(), Some(&State::Complete));
            let names: Vec<_> = world.repository.remote().list("full").unwrap();
            names.iter().for_each(|object| world.repository.remote().delete(&object.name).unwrap());
        }
    }
}

#[test]
fn an_archive_without_a_mark_yet_is_not_taken_away_by_who_wants_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(Local::new(dir.path().join("remote")));
    let begun = Begun::new(&world, ArchiveForm::Sealed);
    let object = format!("full/{}", begun.storing.name);
    world.repository.remote().put(&object, b"another run's").unwrap();
    let error = begun.finish(b"mine").unwrap_err();
    assert!(matches!(error, Error::Taken(_)), "{error}");
    assert_eq!(world.repository.remote().get(&object, 100).unwrap(), b"another run's");
}

#[test]
fn a_run_that_fails_takes_nothing_back_that_has_a_mark() {
    let world = world(Memory::default());
    let (one, two) = (Begun::new(&world, ArchiveForm::Sealed), Begun::new(&world, ArchiveForm::Sealed));
    one.finish(b"whole").unwrap();
    drop(two);
    assert_eq!(world.states(), [State::Complete]);
}

#[test]
fn what_was_given_up_is_looked_at_again_before_it_is_removed() {
    let world = world(Memory::default());
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    let policy = Policy { last: 1, ..Policy::default() };
    let remote = world.repository.remote();
    let at = |secs, form| ArchiveName::new(Timestamp::from_secs(secs), form);
    let late = at(1_700_000_000, ArchiveForm::Sealed);
    let torn = at(1_700_000_001, ArchiveForm::Sealed);
    // Another program's, for all that can be known.
    let foreign = at(1_700_000_002, ArchiveForm::Openssl);
    for name in [late, torn, foreign] {
        remote.put(&format!("full/{name}"), b"bytes").unwrap();
    }
    let plan = plan(&world.repository, &policy, &now).unwrap();
    assert_eq!((plan.left.as_slice(), plan.is_drastic), (&[late, torn][..], true));
    assert_eq!(plan.unjudged.len(), 1);
    remote.put(&format!("full/{}", late.mark()), b"since then").unwrap();
    remove(&world.repository, &plan, &Silent).unwrap();
    let left: Vec<String> = remote.list("full").unwrap().into_iter().map(|object| object.name).collect();
    assert_eq!(left, [format!("full/{late}"), format!("full/{}", late.mark()), format!("full/{foreign}")]);
}

#[test]
fn an_export_of_an_incomplete_snapshot_is_called_partial_and_one_in_the_repository_is_of_now() {
    let world = world(Memory::default());
    let root = world.dir.path().join("state");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("a"), b"content").unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    let (repository, monitor, clock) = (&world.repository, &world.monitor, &world.clock);
    let catalog = Catalog::load(repository, SnapshotKind::Regular).unwrap();
    let request = backup::Request::new(root, PackerOptions::new(1));
    let outcome = backup::run(repository, &catalog, &world.counting, &request, monitor, clock).unwrap();
    let (form, passphrase) = (ArchiveForm::Gzip, None);
    let mut request = ExportRequest { snapshot: outcome.snapshot, form, passphrase, threads: 1 };
    request.snapshot.time = Timestamp::from_secs(1_000_000_000);
    let path = world.dir.path().join("x.tar.gz");
    let partial = world.dir.path().join("x.tar.gz.partial");
    request.snapshot.complete = false;
    let exported = export(repository, &request, Target::File(path.clone()), monitor, clock).unwrap();
    assert_eq!((exported.place.as_ref(), exported.mark.complete), (Some(&partial), false));
    assert!(partial.exists() && !path.exists());
    // Told before anything is made.
    let again = export(repository, &request, Target::File(path.clone()), monitor, clock);
    assert!(matches!(again, Err(Error::Target { path, .. }) if path == partial));
    fs::remove_file(&partial).unwrap();
    request.snapshot.complete = true;
    let exported = export(repository, &request, Target::File(path.clone()), monitor, clock).unwrap();
    // The directory, a file, and a link to it.
    let counts = (exported.mark.members, exported.mark.files);
    assert_eq!((exported.place, counts), (Some(path), (3, 1)));
    let made = export(repository, &request, Target::Repository, monitor, clock).unwrap().mark;
    assert!(made.time.secs == 1_000_000_000 && made.name.time().secs > 1_700_000_000, "{}", made.name);
    // Of the two the newer one is latest, not the one that was exported later.
    let newest = world.create(ArchiveForm::Sealed).unwrap().mark;
    request.form = ArchiveForm::Sealed;
    assert!(
        newest.name < export(repository, &request, Target::Repository, monitor, clock).unwrap().mark.name
    );
    let place = Place::of(repository);
    let archives = Archives::load(&place).unwrap();
    assert_eq!(archives.choose("latest", &place).unwrap().name, newest.name);
}
