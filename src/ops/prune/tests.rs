//! Prune over a remote in memory, with a clock that is set by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod crashes;
mod last_copies;
mod phases;
mod races;
mod rot;
mod years;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Amount, Error, Outcome, Request, run};
use crate::clock::{Boot, Clock};
use crate::crypto::{Passphrase, ScryptParams};
use crate::model::{ObjectId, SnapshotKind, Timestamp};
use crate::ops::{backup, check, restore};
use crate::remote::{Counting, Fault, Listed, Memory, Remote, RemoteError, Verb};
use crate::repo::{CachePlace, Catalog, Folder, PackerOptions, Repository};
use crate::report::{Monitor, Silent};

const DAY: u64 = 24 * 3600;

/// A clock that stands still until it is moved.
pub(super) struct Hand {
    wall: AtomicI64,
    boot: AtomicU64,
}

impl Hand {
    fn new() -> Arc<Self> {
        Arc::new(Self { wall: AtomicI64::new(1_800_000_000), boot: AtomicU64::new(100) })
    }

    /// Time passes.
    fn pass(&self, secs: u64) {
        self.jump(i64::try_from(secs).unwrap());
        self.boot.fetch_add(secs, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    fn jump(&self, secs: i64) {
        self.wall.fetch_add(secs, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.wall.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.boot.load(Ordering::Relaxed))
    }

    fn boot(&self) -> Option<Boot> {
        Some(Boot { id: "boot".into(), elapsed: self.monotonic() })
    }
}

type Hook = Box<dyn FnMut(Verb, &str) -> Result<(), RemoteError> + Send>;

/// A remote in memory that asks somebody before each request.
#[derive(Default)]
pub(super) struct Hooked {
    memory: Memory,
    hook: Mutex<Option<Hook>>,
}

impl Hooked {
    fn ask(&self, verb: Verb, name: &str) -> Result<(), RemoteError> {
        // Taken out while it runs, so that what it does itself is not asked for.
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut hook) = hook else { return Ok(()) };
        let answer = hook(verb, name);
        self.hook.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(hook);
        answer
    }

    fn set(&self, hook: impl FnMut(Verb, &str) -> Result<(), RemoteError> + Send + 'static) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
    }

    fn clear(&self) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A failure of the service, of the kind given.
fn failure(verb: Verb, name: &str, fault: Fault) -> RemoteError {
    RemoteError::Service { verb, name: name.into(), message: "no".into(), fault }
}

impl Remote for Hooked {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.ask(Verb::Get, name)?;
        self.memory.get(name, max)
    }
    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.ask(Verb::Get, name)?;
        self.memory.get_range(name, offset, len)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.ask(Verb::Put, name)?;
        self.memory.put(name, bytes)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.ask(Verb::List, folder)?;
        self.memory.list(folder)
    }
    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.ask(Verb::Stat, name)?;
        self.memory.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.ask(Verb::Delete, name)?;
        self.memory.delete(name)
    }
    fn location(&self) -> String {
        "hooked".into()
    }
}

type Content = BTreeMap<String, Vec<u8>>;

/// A repository, machines that use it, and what each snapshot should be.
pub(super) struct World {
    dir: tempfile::TempDir,
    remote: Arc<Hooked>,
    clock: Arc<Hand>,
    expected: Mutex<BTreeMap<ObjectId, Content>>,
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"p".to_vec())
}

/// Bytes that do not compress and of which no part repeats.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

impl World {
    fn new() -> Arc<Self> {
        let world = Self {
            dir: crate::fs::scratch(),
            remote: Arc::default(),
            clock: Hand::new(),
            expected: Mutex::default(),
        };
        let handle: Arc<dyn Remote> = Arc::clone(&world.remote) as _;
        let caches = CachePlace { dir: &world.dir.path().join("cache of init"), keeps_key: false };
        let time = world.clock.now();
        Repository::init(&handle, &passphrase(), caches, ScryptParams::GENERATED, time, "").unwrap();
        Arc::new(world)
    }

    fn source(&self, machine: &str) -> PathBuf {
        self.dir.path().join("source of ".to_string() + machine)
    }

    /// Makes the tree of a machine have exactly these files.
    fn tree(&self, machine: &str, files: &[(&str, Vec<u8>)]) {
        let dir = self.source(machine);
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes).unwrap());
    }

    fn content(dir: &std::path::Path) -> Content {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
        let read =
            |e: std::fs::DirEntry| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap());
        entries.map(read).collect()
    }

    fn open(&self, machine: &str) -> (Repository, Catalog, Arc<Counting>) {
        let counting = Arc::new(Counting::new(Arc::clone(&self.remote) as _));
        let cache = self.dir.path().join("cache of ".to_string() + machine);
        let caches = CachePlace { dir: &cache, keeps_key: true };
        let (repository, catalog) =
            Repository::open_for_backup(Arc::clone(&counting) as _, &passphrase(), caches).unwrap();
        (repository, catalog, counting)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as _
    }

    fn try_backup(&self, machine: &str) -> Result<backup::Outcome, backup::Error> {
        let (repository, catalog, counting) = self.open(machine);
        let request = backup::Request { alarm: None, ..backup::Request::new(self.source(machine), packer()) };
        let outcome = backup::run(&repository, &catalog, &counting, &request, &silent(), &self.clock())?;
        let content = Self::content(&self.source(machine));
        self.expected.lock().unwrap().insert(outcome.id.unwrap(), content);
        // No two snapshots of one second: their order would be told by nothing.
        self.clock.pass(1);
        Ok(outcome)
    }

    fn backup(&self, machine: &str) -> ObjectId {
        self.try_backup(machine).unwrap().id.unwrap()
    }

    /// Takes a snapshot of these files.
    fn snapshot(&self, machine: &str, files: &[(&str, Vec<u8>)]) -> ObjectId {
        self.tree(machine, files);
        self.backup(machine)
    }

    fn forget(&self, id: ObjectId) {
        let names = self.remote.memory.list("snapshots").unwrap();
        let name = names.into_iter().find(|l| l.name.ends_with(&id.to_string())).unwrap().name;
        self.remote.memory.delete(&name).unwrap();
        self.expected.lock().unwrap().remove(&id);
    }

    fn try_prune(&self, machine: &str, change: impl FnOnce(&mut Request)) -> Result<Outcome, Error> {
        let counting = Arc::new(Counting::new(Arc::clone(&self.remote) as _));
        let cache = self.dir.path().join("cache of ".to_string() + machine);
        let caches = CachePlace { dir: &cache, keeps_key: true };
        let repository = Repository::open(Arc::clone(&counting) as _, &passphrase(), caches).unwrap();
        let mut request = Request::new(packer());
        change(&mut request);
        run(&repository, &counting, &request, &silent(), &self.clock())
    }

    fn prune(&self) -> Outcome {
        self.try_prune("pruner", |_| {}).unwrap()
    }

    /// Prunes until there is nothing to be done any more, as far as time lets it.
    fn prune_all(&self) {
        for _ in 0..6 {
            self.prune();
            self.clock.pass(3 * DAY);
        }
    }

    fn names(&self, folder: Folder) -> Vec<String> {
        self.remote.memory.list(folder.name()).unwrap().into_iter().map(|l| l.name).collect()
    }

    fn pack_bytes(&self) -> u64 {
        self.remote.memory.list("packs").unwrap().iter().map(|l| l.size).sum()
    }

    /// Every snapshot that there should be restores, and a check of every byte finds nothing.
    fn is_whole(&self) {
        let cache = tempfile::tempdir().unwrap();
        let repository = self.stranger(cache.path());
        let found = check::run(&repository, check::ReadData::All, 1, &silent(), &self.clock()).unwrap();
        assert_eq!(found.problems, []);
        self.restores();
    }

    /// The repository as a machine sees it that has never seen it.
    fn stranger(&self, cache: &std::path::Path) -> Repository {
        let caches = CachePlace { dir: cache, keeps_key: false };
        Repository::open(Arc::clone(&self.remote) as _, &passphrase(), caches).unwrap()
    }

    /// Every snapshot that there should be is there, and restores as it was.
    fn restores(&self) {
        let cache = tempfile::tempdir().unwrap();
        let repository = self.stranger(cache.path());
        let catalog = Catalog::load(&repository, SnapshotKind::Regular).unwrap();
        for (id, content) in self.expected.lock().unwrap().iter() {
            let entry = catalog.entries().iter().find(|e| e.id == *id).unwrap();
            let out = tempfile::tempdir().unwrap();
            let request = restore::Request {
                id: *id,
                snapshot: repository.snapshot(entry).unwrap(),
                target: out.path().join("to"),
                paths: Vec::new(),
                dry_run: false,
                verify: false,
                owner: false,
                set_id: false,
                devices: false,
                threads: 1,
            };
            let outcome = match restore::run(&repository, &request, &silent(), &self.clock()) {
                Ok(outcome) => outcome,
                Err(e) => panic!("{e}: {}", self.describe(&repository)),
            };
            assert_eq!(outcome.errors, []);
            assert!(Self::content(&out.path().join("to")) == *content, "{id} differs");
        }
    }
    /// What there is, for who has to find out why a test fails.
    fn describe(&self, repository: &Repository) -> String {
        let short = |id: &ObjectId| id.to_string()[..6].to_string();
        let mut text =
            format!("packs {:?}", self.names(Folder::Packs).iter().map(|n| &n[9..15]).collect::<Vec<_>>());
        for object in repository.list(Folder::Index).unwrap() {
            let packs = repository.read_index(&object).unwrap().packs;
            text += &format!("\nindex {:?}", packs.iter().map(|p| short(&p.id)).collect::<Vec<_>>());
        }
        for record in repository.condemnations().unwrap() {
            let packs: Vec<_> = record.packs.iter().map(short).collect();
            text += &format!("\ngc {} {packs:?}", record.time.secs);
        }
        text
    }
}

fn silent() -> Arc<dyn Monitor> {
    Arc::new(Silent)
}

fn packer() -> PackerOptions {
    PackerOptions { pack_size: 1 << 20, ..PackerOptions::new(1) }
}
