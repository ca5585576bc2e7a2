#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Request, run};
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Passphrase, ScryptParams};
use crate::model::{SnapshotKind, Timestamp};
use crate::ops::backup;
use crate::remote::{Counting, Fault, Listed, Memory, Remote, RemoteError, Verb};
use crate::repo::{CachePlace, Catalog, PackerOptions, Repository};
use crate::report::{Monitor, Phase, Silent};

/// A remote that does not answer for packs, once it was told so.
#[derive(Default)]
struct Away {
    inner: Memory,
    away: AtomicBool,
    asked: AtomicUsize,
}

impl Away {
    fn answers(&self, name: &str) -> Result<(), RemoteError> {
        if !name.starts_with("packs/") || !self.away.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (name, message) = (name.to_owned(), "nothing succeeded".to_owned());
        Err(RemoteError::Service { verb: Verb::Get, name, message, fault: Fault::Deadline })
    }
}

impl Remote for Away {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.answers(name)?;
        self.inner.get(name, max)
    }
    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.answers(name)?;
        self.inner.get_range(name, offset, len)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.inner.put(name, bytes)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.inner.list(folder)
    }
    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.inner.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.inner.delete(name)
    }
    fn location(&self) -> String {
        "away".into()
    }
}

/// Once files are written the remote is away.
struct Sentry(Arc<Away>);

impl Monitor for Sentry {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        if phase == Phase::Restore {
            self.0.away.store(true, Ordering::Relaxed);
        }
    }
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// Each request to a remote that is away takes as long as its patience, which may be a quarter of an hour.
#[test]
fn a_repository_that_does_not_answer_is_not_asked_for_each_frame() {
    const FILES: usize = 24;
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for n in 0..FILES {
        let mut bytes = vec![0; 1 << 20];
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
        std::fs::write(source.join(n.to_string()), bytes).unwrap();
    }
    let remote = Arc::new(Away::default());
    let counting = Counting::new(Arc::clone(&remote) as _);
    let handle: Arc<dyn Remote> = Arc::clone(&remote) as _;
    let passphrase = Passphrase::new(b"p".to_vec());
    let cache = dir.path().join("cache");
    let caches = CachePlace { dir: &cache, keeps_key: true };
    let (cheap, time) = (ScryptParams::GENERATED, Timestamp::default());
    Repository::init(&handle, &passphrase, caches, cheap, time, "").unwrap();
    let repository = Repository::open(handle, &passphrase, caches).unwrap();
    let monitor: Arc<dyn Monitor> = Arc::new(Silent);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let catalog = Catalog::load(&repository, SnapshotKind::Regular).unwrap();
    let take = backup::Request::new(source, PackerOptions::new(2));
    let taken = backup::run(&repository, &catalog, &counting, &take, &monitor, &clock).unwrap();
    let target = dir.path().join("target");
    let request = Request {
        id: taken.id.unwrap(),
        snapshot: taken.snapshot.clone(),
        target: target.clone(),
        paths: Vec::new(),
        dry_run: false,
        verify: false,
        owner: false,
        set_id: false,
        devices: false,
        threads: 2,
    };
    let sentry: Arc<dyn Monitor> = Arc::new(Sentry(Arc::clone(&remote)));
    let outcome = run(&repository, &request, &sentry, &clock).unwrap();
    assert_eq!((outcome.errors.len(), outcome.damaged), (FILES, false));
    let asked = remote.asked.load(Ordering::Relaxed);
    assert!((1..=2).contains(&asked), "each thread may ask once; there were {asked} requests");
    assert_eq!(files(&target), 0, "nothing half-written stays");
}
