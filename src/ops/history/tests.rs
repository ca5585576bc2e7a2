#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::clock::SystemClock;
use crate::model::{BlobId, ManifestRef, Reason, Stats};
use crate::ops::forget;
use crate::remote::{Memory, Remote};
use crate::report::Silent;

struct World {
    dir: tempfile::TempDir,
    remote: Arc<Memory>,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), remote: Arc::default() }
    }

    /// The repository as a machine with a cache of its own sees it.
    fn machine(&self, name: &str) -> Repository {
        crate::repo::tests::repository(&self.remote, &self.dir.path().join(name))
    }

    /// All objects, to be put back later.
    fn state(&self) -> BTreeMap<String, Vec<u8>> {
        let folders = ["snapshots", "safety", "removed"].map(|f| self.remote.list(f).unwrap()).concat();
        folders.into_iter().map(|l| (l.name.clone(), self.remote.get(&l.name, 1 << 30).unwrap())).collect()
    }

    fn put_back(&self, state: &BTreeMap<String, Vec<u8>>) {
        self.state()
            .keys()
            .filter(|name| !state.contains_key(*name))
            .for_each(|n| self.remote.delete(n).unwrap());
        state.iter().for_each(|(name, bytes)| self.remote.put(name, bytes).unwrap());
    }
}

fn publish(repository: &Repository, writer: u8, sequence: u64) -> ObjectId {
    let snapshot = Snapshot {
        time: Timestamp::from_secs(1_000_000 + i64::try_from(sequence).unwrap()),
        kind: SnapshotKind::Regular,
        reason: Reason::Manual,
        host: String::new(),
        user: String::new(),
        program: String::new(),
        writer: WriterId([writer; 16]),
        sequence,
        parent: None,
        root: Vec::new(),
        paths: Vec::new(),
        selection: Vec::new(),
        tags: Vec::new(),
        manifest: ManifestRef { root: BlobId([0; 32]), level: 0 },
        complete: true,
        errors: Vec::new(),
        error_count: 0,
        databases: Vec::new(),
        stats: Stats::default(),
        losses: Vec::new(),
    };
    let entry = repository.publish_snapshot(&snapshot, true).unwrap();
    repository.cache().note_published(&entry.name, snapshot.mark()).unwrap();
    entry.id
}

fn vanished(repository: &Repository) -> Vec<ObjectId> {
    let catalog = Catalog::load(repository, SnapshotKind::Regular).unwrap();
    let listed = [Listed::names(SnapshotKind::Regular, &catalog)];
    look(repository, &listed, &Silent).unwrap().into_iter().map(|one| one.id).collect()
}

fn found(repository: &Repository) -> (Vec<ObjectId>, Vec<(u64, u64)>, usize) {
    let audit = audit(repository, &Silent).unwrap();
    let gaps = audit.gaps.iter().map(|gap| (gap.first, gap.last)).collect();
    (audit.vanished.into_iter().map(|one| one.id).collect(), gaps, audit.notes.len())
}

fn forget(repository: &Repository, ids: &[ObjectId]) {
    let words: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let targets = forget::plan_regular(repository, &words, false, &Silent).unwrap();
    forget::run(repository, &targets, &Silent).unwrap();
}

#[test]
fn an_older_state_that_is_put_back_is_noticed_until_that_is_settled() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let first = publish(&a, 1, 1);
    let older = world.state();
    let lost = [publish(&a, 1, 2), publish(&a, 1, 3)];
    assert_eq!(vanished(&a), []);
    world.put_back(&older);
    for _ in 0..2 {
        assert_eq!(vanished(&a), lost);
    }
    assert_eq!(found(&a), (lost.to_vec(), Vec::new(), 0));
    // Who has never seen them sees no gap, since it is at the end; and none later, which counts on.
    assert_eq!(found(&b), (Vec::new(), Vec::new(), 0));
    publish(&a, 1, 4);
    assert_eq!(found(&b), (Vec::new(), vec![(2, 3)], 0));
    assert_eq!(found(&a).0, lost);
    assert!(settle(&a, &audit(&a, &Silent).unwrap(), &SystemClock::new()).unwrap());
    assert_eq!(found(&a), (Vec::new(), Vec::new(), 0));
    assert_eq!(found(&b), (Vec::new(), Vec::new(), 0));
    assert_eq!(vanished(&a), []);
    assert!(
        world
            .machine("c")
            .removals()
            .unwrap()
            .removed
            .covers(SnapshotMark { writer: WriterId([1; 16]), sequence: 2 })
    );
    assert_ne!(first, lost[0]);
}

#[test]
fn what_comes_back_was_never_gone() {
    let world = World::new();
    let a = world.machine("a");
    publish(&a, 1, 1);
    let older = world.state();
    let second = publish(&a, 1, 2);
    let newer = world.state();
    world.put_back(&older);
    assert_eq!(vanished(&a), [second]);
    world.put_back(&newer);
    assert_eq!(vanished(&a), []);
    assert_eq!(found(&a), (Vec::new(), Vec::new(), 0));
}

#[test]
fn what_others_forget_is_not_missed() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let ids: Vec<_> = (1..=9).map(|n| publish(&a, 1, n)).collect();
    publish(&a, 2, 1);
    assert_eq!(vanished(&b), []);
    forget(&b, &[ids[8], ids[1], ids[2]]);
    forget(&b, &[ids[3]]);
    assert_eq!(vanished(&a), []);
    assert_eq!(found(&a), (Vec::new(), Vec::new(), 0));
    // One record is enough, and it holds runs.
    let removals = world.machine("c").removals().unwrap();
    assert_eq!(removals.records.len(), 1);
    let runs: Vec<_> = removals.removed.runs().map(|(_, first, last)| (first, last)).collect();
    assert_eq!(runs, [(2, 4), (9, 9)]);
    // That one is missing for other reasons shows all the same.
    let entry = Catalog::load(&a, SnapshotKind::Regular).unwrap().entries()[2].clone();
    world.remote.delete(&entry.name).unwrap();
    assert_eq!(vanished(&a), [entry.id]);
    assert_eq!(found(&world.machine("d")).1, [(5, 5)]);
}

#[test]
fn a_removal_that_is_taken_back_explains_nothing() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let ids: Vec<_> = (1..=3).map(|n| publish(&a, 1, n)).collect();
    forget(&b, &ids[..1]);
    for listed in world.remote.list("removed").unwrap() {
        world.remote.delete(&listed.name).unwrap();
    }
    assert_eq!(vanished(&a), ids[..1]);
    // Nor does one that somebody without the keys made.
    let forged = format!("removed/1970-01-01T00-00-05Z-{}", ObjectId(crate::crypto::sha256(b"forged")));
    world.remote.put(&forged, b"forged").unwrap();
    assert_eq!(vanished(&a), ids[..1]);
    assert_eq!(found(&a).0, ids[..1]);
    world.remote.delete(&forged).unwrap();
    assert_eq!(vanished(&a), ids[..1]);
}

#[test]
fn a_record_that_cannot_be_read_silences_nothing_that_the_others_do_not_explain() {
    #[derive(Default)]
    struct Listening(std::sync::Mutex<Vec<String>>);
    impl Monitor for Listening {
        fn warning(&self, _: Option<&crate::model::RepoPath>, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let ids: Vec<_> = (1..=4).map(|n| publish(&a, 1, n)).collect();
    forget(&b, &ids[..1]);
    let junk = format!("removed/1970-01-01T00-00-05Z-{}", ObjectId(crate::crypto::sha256(b"junk")));
    world.remote.put(&junk, b"junk").unwrap();
    // What the others say is enough.
    assert_eq!(vanished(&a), []);
    let gone = Catalog::load(&a, SnapshotKind::Regular).unwrap().entries()[1].clone();
    world.remote.delete(&gone.name).unwrap();
    let monitor = Listening::default();
    let catalog = Catalog::load(&a, SnapshotKind::Regular).unwrap();
    let listed = [Listed::names(SnapshotKind::Regular, &catalog)];
    let found = look(&a, &listed, &monitor).unwrap();
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [gone.id]);
    let said = monitor.0.into_inner().unwrap().join("\n");
    assert!(said.contains(&junk), "{said}");
}

#[test]
fn what_other_machines_made_is_missed_though_nobody_here_has_asked_for_it() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let ids: Vec<_> = (1..=3).map(|n| publish(&a, 1, n)).collect();
    assert_eq!(vanished(&b), []);
    // Somebody forgets one as he should, and somebody else does not.
    forget(&world.machine("c"), &ids[..1]);
    assert_eq!(vanished(&b), []);
    for entry in Catalog::load(&b, SnapshotKind::Regular).unwrap().entries() {
        world.remote.delete(&entry.name).unwrap();
    }
    assert_eq!(vanished(&b), ids[1..]);
}

/// A machine that meets a repository with many snapshots does not ask for all of them at once.
#[test]
fn what_nobody_has_read_is_missed_where_nobody_removed_anything() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let ids: Vec<_> = (1..=40).map(|n| publish(&a, 1, n)).collect();
    assert_eq!(vanished(&b), []);
    let unread = b.cache().history().unwrap().seen.values().filter(|mark| mark.is_none()).count();
    assert!((1..40).contains(&unread), "{unread}");
    for entry in Catalog::load(&b, SnapshotKind::Regular).unwrap().entries() {
        world.remote.delete(&entry.name).unwrap();
    }
    assert_eq!(vanished(&b), ids);
}

#[test]
fn a_copied_cache_is_a_note_and_no_alarm() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    publish(&a, 1, 1);
    publish(&a, 1, 2);
    publish(&b, 1, 2);
    assert_eq!(found(&a), (Vec::new(), Vec::new(), 1));
    assert_eq!(vanished(&a), []);
    assert_eq!(vanished(&b), []);
}

#[test]
fn an_invented_number_says_nothing() {
    let world = World::new();
    let a = world.machine("a");
    publish(&a, 1, 1);
    publish(&a, 1, 1 << 40);
    assert_eq!(found(&world.machine("b")), (Vec::new(), Vec::new(), 1));
    publish(&a, 2, 0);
    assert_eq!(found(&world.machine("b")), (Vec::new(), Vec::new(), 1));
}

#[test]
fn a_damaged_record_is_not_missing() {
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let ids: Vec<_> = (1..=3).map(|n| publish(&a, 1, n)).collect();
    let entry = Catalog::load(&a, SnapshotKind::Regular).unwrap().entries()[1].clone();
    world.remote.tamper(&entry.name, b"damaged".to_vec());
    assert_eq!(found(&a), (Vec::new(), Vec::new(), 0));
    assert!(audit(&b, &Silent).unwrap().doubtful);
    // Removed by its id, and then not missed by anybody.
    forget::run(&b, &forget::plan_regular(&b, &[ids[1].to_string()], true, &Silent).unwrap(), &Silent)
        .unwrap();
    assert_eq!(vanished(&a), []);
    // Nobody knows its number: the gap is no proof of anything.
    let audit = audit(&world.machine("c"), &Silent).unwrap();
    assert!(audit.doubtful && audit.gaps.len() == 1, "{audit:?}");
    // Who has read it when it was good does.
    let _ = found(&a);
}

#[test]
fn an_interrupted_forget_is_finished_later() {
    struct Impatient(std::sync::atomic::AtomicUsize);
    impl Monitor for Impatient {
        fn cancelled(&self) -> bool {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2
        }
    }
    let world = World::new();
    let (a, b) = (world.machine("a"), world.machine("b"));
    let ids: Vec<_> = (1..=5).map(|n| publish(&a, 1, n)).collect();
    assert_eq!(vanished(&b), []);
    let words: Vec<String> = ids[..4].iter().map(ToString::to_string).collect();
    let targets = forget::plan_regular(&a, &words, false, &Silent).unwrap();
    let stopped = forget::run(&a, &targets, &Impatient(0.into()));
    assert!(matches!(stopped, Err(forget::Error::Interrupted)));
    assert_eq!(world.remote.list("snapshots").unwrap().len(), 3);
    assert_eq!((vanished(&a), vanished(&b)), (Vec::new(), Vec::new()));
    // Two are announced and still there.
    assert_eq!(found(&b), (Vec::new(), Vec::new(), 2));
    forget(&b, &ids[2..4]);
    assert_eq!(found(&a), (Vec::new(), Vec::new(), 0));
    assert_eq!(world.remote.list("removed").unwrap().len(), 1);
}
