//! How many requests backups and restores make: the numbers that users of far remotes pay for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Error, Outcome, Request, run};
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Passphrase, ScryptParams};
use crate::model::{SnapshotKind, Timestamp};
use crate::ops::restore;
use crate::remote::{Counting, Fault, Listed, Memory, Remote, RemoteError, RequestCounts, Verb};
use crate::repo::{CachePlace, Catalog, Folder, PackerOptions, Repository};
use crate::report::{Monitor, Silent};

/// A remote in memory that may forbid to delete, or be full.
#[derive(Default)]
struct Vault {
    inner: Memory,
    keep: AtomicBool,
    full: AtomicBool,
    puts: AtomicUsize,
}

impl Remote for Vault {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get(name, max)
    }
    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get_range(name, offset, len)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        if self.full.load(Ordering::Relaxed) {
            let (name, message) = (name.to_string(), "QuotaExceeded".to_string());
            return Err(RemoteError::Service { verb: Verb::Put, name, message, fault: Fault::Permission });
        }
        self.inner.put(name, bytes)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.inner.list(folder)
    }
    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.inner.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        if self.keep.load(Ordering::Relaxed) {
            let (name, message) = (name.to_string(), "AccessDenied".to_string());
            return Err(RemoteError::Service { verb: Verb::Delete, name, message, fault: Fault::Permission });
        }
        self.inner.delete(name)
    }
    fn location(&self) -> String {
        "vault".into()
    }
}

struct World {
    dir: tempfile::TempDir,
    remote: Arc<Vault>,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), remote: Arc::default() };
        let handle: Arc<dyn Remote> = Arc::clone(&world.remote) as _;
        let time = Timestamp::default();
        let other = CachePlace { dir: &world.dir.path().join("other"), keeps_key: false };
        Repository::init(&handle, &passphrase(), other, ScryptParams::GENERATED, time, "").unwrap();
        std::fs::create_dir(world.source()).unwrap();
        for n in 0..200u32 {
            world.write(&format!("file{n}"), n);
        }
        world
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn write(&self, name: &str, seed: u32) {
        // Does not compress well, so that there are several frames.
        let words =
            (0..1_000u32).map(|i| blake3::hash(&(u64::from(seed) << 32 | u64::from(i)).to_le_bytes()));
        let bytes: Vec<u8> = words.flat_map(|hash| *hash.as_bytes()).collect();
        std::fs::write(self.source().join(name), bytes).unwrap();
    }

    fn backup(&self, machine: &str) -> (Outcome, RequestCounts) {
        let outcome = self.attempt(machine, PackerOptions::new(2), Arc::new(Silent)).unwrap();
        let counts = outcome.requests;
        (outcome, counts)
    }

    fn attempt(
        &self,
        machine: &str,
        packer: PackerOptions,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Outcome, Error> {
        let counting = Arc::new(Counting::new(Arc::clone(&self.remote) as _));
        let handle: Arc<dyn Remote> = Arc::clone(&counting) as _;
        let cache = self.dir.path().join(machine);
        let (repository, catalog) =
            Repository::open_for_backup(handle, &passphrase(), CachePlace { dir: &cache, keeps_key: true })
                .unwrap();
        let (_, clock) = silent();
        let request = Request::new(self.source(), packer);
        run(&repository, &catalog, &counting, &request, &monitor, &clock)
    }

    /// One file of 48 MiB that takes as much room in a repository.
    fn write_large(&self) {
        let mut bytes = vec![0; 48 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        std::fs::write(self.source().join("large"), bytes).unwrap();
    }

    /// Restores the latest snapshot on a machine that has never seen the repository.
    fn restore(&self, to: &str) -> RequestCounts {
        let counting = Arc::new(Counting::new(Arc::clone(&self.remote) as _));
        let handle: Arc<dyn Remote> = Arc::clone(&counting) as _;
        let cache = self.dir.path().join(format!("cache of {to}"));
        let repository =
            Repository::open(handle, &passphrase(), CachePlace { dir: &cache, keeps_key: true }).unwrap();
        let catalog = Catalog::load(&repository, SnapshotKind::Regular).unwrap();
        let entry = catalog.entries().last().unwrap();
        let (monitor, clock) = silent();
        let request = restore::Request {
            id: entry.id,
            snapshot: repository.snapshot(entry).unwrap(),
            target: self.dir.path().join(to),
            paths: Vec::new(),
            dry_run: false,
            verify: false,
            owner: false,
            set_id: false,
            devices: false,
            threads: 2,
        };
        let outcome = restore::run(&repository, &request, &monitor, &clock).unwrap();
        assert_eq!(outcome.errors, []);
        assert_eq!(names(&self.source()), names(&self.dir.path().join(to)));
        counting.counts()
    }

    fn index_objects(&self) -> usize {
        self.remote.list(Folder::Index.name()).unwrap().len()
    }
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"p".to_vec())
}

fn silent() -> (Arc<dyn Monitor>, Arc<dyn Clock>) {
    (Arc::new(Silent), Arc::new(SystemClock::new()))
}

fn names(dir: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let mut names: Vec<_> = entries.map(|e| (e.file_name(), e.metadata().unwrap().len())).collect();
    names.sort();
    names
}

fn counts(r: RequestCounts) -> [u64; 5] {
    [r.list, r.put, r.get, r.stat, r.delete]
}

#[test]
fn no_change_costs_two_listings_and_one_put() {
    let world = World::new();
    world.backup("a");
    for _ in 0..3 {
        let (outcome, requests) = world.backup("a");
        assert!(outcome.unchanged);
        assert_eq!(counts(requests), [2, 1, 0, 0, 0]);
    }
}

#[test]
fn a_small_change_costs_three_listings_three_puts_and_one_read() {
    let world = World::new();
    world.backup("a");
    for n in 0..3 {
        world.write("file7", 1_000 + n);
        let (_, requests) = world.backup("a");
        assert_eq!(counts(requests), [3, 3, 1, 0, 0]);
    }
    // Content that is known already is still recognised, without asking.
    world.write("copy", 8);
    let (outcome, requests) = world.backup("a");
    assert!(outcome.snapshot.stats.bytes_added_raw < 20_000, "{:?}", outcome.snapshot.stats);
    assert_eq!(counts(requests), [3, 3, 1, 0, 0]);
}

#[test]
fn a_change_in_a_long_file_costs_no_more() {
    let world = World::new();
    let connection = rusqlite::Connection::open(world.source().join("big.sqlite")).unwrap();
    connection.execute_batch("PRAGMA journal_mode = DELETE; CREATE TABLE t(x)").unwrap();
    let insert = |rows: u32| {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                   INSERT INTO t SELECT randomblob(2000) FROM n";
        connection.execute(sql, [rows]).unwrap();
    };
    // More than 64 slices, so that they are in a list of their own.
    insert(4_000);
    world.backup("a");
    for _ in 0..3 {
        insert(3);
        let (outcome, requests) = world.backup("a");
        assert!(outcome.snapshot.stats.bytes_added_raw < 400_000, "{:?}", outcome.snapshot.stats);
        assert_eq!(counts(requests), [3, 3, 1, 0, 0]);
    }
    world.restore("restored");
}

#[test]
fn what_another_machine_stored_is_found() {
    let world = World::new();
    world.backup("a");
    world.write("shared", 5_000);
    world.backup("b");
    let (outcome, requests) = world.backup("a");
    assert!(outcome.snapshot.stats.bytes_added_raw < 20_000, "{:?}", outcome.snapshot.stats);
    // Beside the usual ones: gc records and snapshots before the walk, the index, and what is new in it.
    assert!(requests.list <= 6 && requests.put <= 3, "{requests:?}");
}

#[test]
fn a_repository_that_was_exchanged_is_noticed() {
    let world = World::new();
    world.backup("a");
    let other = World::new();
    other.backup("a");
    for listed in ["snapshots", "index", "packs", "keys"].map(|f| world.remote.list(f).unwrap()).concat() {
        world.remote.delete(&listed.name).unwrap();
    }
    world.remote.delete("exuvia.json").unwrap();
    let handle: Arc<dyn Remote> = Arc::clone(&world.remote) as _;
    let cache = world.dir.path().join("a");
    let open = || {
        Repository::open_for_backup(
            Arc::clone(&handle),
            &passphrase(),
            CachePlace { dir: &cache, keeps_key: true },
        )
    };
    assert!(matches!(open(), Err(crate::repo::RepoError::NoRepository { .. })));
    let copied = ["keys", "snapshots", "index", "packs"].map(|f| other.remote.list(f).unwrap()).concat();
    for name in copied.into_iter().map(|l| l.name).chain(["exuvia.json".to_string()]) {
        world.remote.put(&name, &other.remote.get(&name, 1 << 30).unwrap()).unwrap();
    }
    let marker = Repository::probe(other.remote.as_ref()).unwrap();
    assert_eq!(open().unwrap().0.id(), marker.id);
}

#[test]
fn an_older_state_that_was_put_back_is_not_taken_for_the_newer() {
    let world = World::new();
    world.backup("a");
    let all = || ["snapshots", "index", "packs"].map(|f| world.remote.list(f).unwrap()).concat();
    let older: Vec<_> = all().into_iter().map(|object| object.name).collect();
    world.write("new", 7_000);
    world.backup("a");
    all().iter().filter(|o| !older.contains(&o.name)).for_each(|o| world.remote.delete(&o.name).unwrap());
    // The same content under another name: only what was undone has it.
    std::fs::rename(world.source().join("new"), world.source().join("renamed")).unwrap();
    let (outcome, _) = world.backup("a");
    assert!(outcome.snapshot.stats.bytes_added_raw > 30_000, "{:?}", outcome.snapshot.stats);
    world.restore("restored");
}

#[test]
fn a_first_restore_reads_neighbouring_frames_at_once() {
    let world = World::new();
    world.backup("a");
    let requests = world.restore("restored");
    // The marker, the key, the snapshot, the index; of the only pack what holds the manifest, and the rest. No gc
    // record was found that says which packs to be wary of.
    assert_eq!((requests.list, requests.put, requests.delete), (4, 0, 0));
    assert!(requests.get <= 7, "{requests:?}");
}

#[test]
fn many_index_objects_are_merged() {
    for keep in [false, true] {
        let world = World::new();
        world.remote.keep.store(keep, Ordering::Relaxed);
        let mut most = 0;
        for n in 0..70 {
            world.write("file7", 10_000 + n);
            world.backup("a");
            most = most.max(world.index_objects());
        }
        if keep {
            // All of them stay, and the merged ones beside them; one of 33 is merged, not one each time.
            assert_eq!(world.index_objects(), 70 + 2);
        } else {
            assert!(most <= 33, "{most}");
        }
        world.restore("restored");
        // A machine without a cache reads what is merged.
        let (outcome, _) = world.backup("b");
        assert_eq!(outcome.snapshot.stats.bytes_added_raw, 0);
    }
}

/// Asks to stop when it has been asked often enough.
struct Impatient(AtomicUsize);

impl Monitor for Impatient {
    fn cancelled(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) > 20
    }
}

const SMALL_PACKS: PackerOptions =
    PackerOptions { compression: crate::repo::Compression::Fast, threads: 2, uploads: 1, pack_size: 1 << 20 };

#[test]
fn who_reads_a_large_file_stops_when_the_user_asks() {
    let world = World::new();
    world.write_large();
    let stopped = world.attempt("a", SMALL_PACKS, Arc::new(Impatient(AtomicUsize::new(0))));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{:?}", stopped.err());
    let stored: u64 = world.remote.list("packs").unwrap().iter().map(|pack| pack.size).sum();
    assert!(stored < 30 << 20, "{stored} bytes of 54 MiB");
}

#[test]
fn who_reads_a_large_file_stops_when_nothing_can_be_stored() {
    let world = World::new();
    world.write_large();
    world.remote.puts.store(0, Ordering::Relaxed);
    world.remote.full.store(true, Ordering::Relaxed);
    let failed = world.attempt("a", SMALL_PACKS, Arc::new(Silent)).err().unwrap();
    assert!(failed.to_string().contains("QuotaExceeded"), "{failed}");
    let puts = world.remote.puts.load(Ordering::Relaxed);
    assert!(puts <= SMALL_PACKS.uploads, "{puts} tries");
}
