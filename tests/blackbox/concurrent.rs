//! Several processes at work in one repository.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use exuvia::app::{
    self, BackupRequest, CheckRequest, InitRequest, Location, Passphrase, ReadData, ScryptParams, Session,
};
use exuvia::clock::SystemClock;
use exuvia::model::{Classify, ErrorClass};
use exuvia::report::{Monitor, Phase, Silent};

use crate::support::{
    Place, Run, database, ended, insert, noise, picture, prose, put, same, with_repository,
};

fn snapshot(run: Run) -> String {
    run.exits(0).summary()["snapshot"].as_str().unwrap().to_owned()
}

/// Starts all, then waits for all.
fn at_once(place: &Place, commands: &[&[&str]]) -> Vec<Run> {
    let started: Vec<_> = commands.iter().map(|args| place.start(args)).collect();
    started.into_iter().map(ended).collect()
}

#[test]
fn two_directories_at_once() {
    let place = with_repository();
    let dirs = [place.path("one"), place.path("two")];
    let db = database(&dirs[1].join("d.sqlite"), 100, 4096);
    let shared = noise(1, 3 << 20);
    for round in 0..4u64 {
        for (dir, seed) in dirs.iter().zip([10, 20]) {
            put(dir, &format!("own/{round}"), &noise(seed + round, 2 << 20));
            put(dir, "text.md", &prose(seed + round, 100_000));
            // Both find the same bytes new.
            put(dir, "shared", &[shared.as_slice(), &round.to_le_bytes()].concat());
        }
        insert(&db, 10);
        let runs = at_once(&place, &[&["--json", "backup", "one"], &["--json", "backup", "two"]]);
        for (run, dir) in runs.into_iter().zip(&dirs) {
            let id = snapshot(run);
            same(&place.restored(&id), &picture(dir), &format!("round {round}, {}", dir.display()));
        }
        place.is_sound();
    }
    assert_eq!(place.snapshots().len(), 8);
}

#[test]
fn one_directory_twice_at_once() {
    let place = with_repository();
    let tree = place.path("tree");
    let db = database(&tree.join("d.sqlite"), 100, 4096);
    for round in 0..4u64 {
        put(&tree, &format!("{round}"), &noise(round, 3 << 20));
        insert(&db, 10);
        let wanted = picture(&tree);
        let backup: &[&str] = &["--json", "backup", "tree"];
        for run in at_once(&place, &[backup, backup, backup]) {
            same(&place.restored(&snapshot(run)), &wanted, &format!("round {round}"));
        }
        place.is_sound();
        // Whoever came last left a cache that is right.
        let idle = place.backup("tree");
        assert_eq!((&idle["unchanged"], &idle["complete"]), (&true.into(), &true.into()), "{idle}");
        same(&place.restored(idle["snapshot"].as_str().unwrap()), &wanted, "after the race");
    }
}

#[test]
fn backups_during_checks() {
    let place = with_repository();
    put(&place.path("tree"), "first", &noise(0, 12 << 20));
    place.backup("tree");
    for round in 1..6 {
        put(&place.path("tree"), &format!("{round}"), &noise(round, 1 << 20));
        let check: &[&str] = &["--json", "check", "--read-data"];
        for run in at_once(&place, &[check, &["--json", "backup", "tree"], check]) {
            run.exits(0);
        }
    }
    assert_eq!(place.snapshots().len(), 6);
    place.is_sound();
}

fn session(dir: &Path, monitor: Arc<dyn Monitor>) -> Session {
    Session {
        repository: Location::Local(dir.join("repo")),
        passphrase: Passphrase::new(b"secret".to_vec()),
        cache_dir: dir.join("cache"),
        key_cache: true,
        monitor,
        clock: Arc::new(SystemClock::new()),
        threads: 2,
    }
}

fn take(session: &Session, root: &Path) {
    let request = BackupRequest::new(root.to_path_buf());
    app::backup(session, &request).unwrap();
}

/// Takes a snapshot when a phase begins.
struct Meanwhile {
    at: Phase,
    tree: std::path::PathBuf,
    session: Session,
    done: AtomicU32,
}

impl Monitor for Meanwhile {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        if phase == self.at {
            put(&self.tree, "new", &noise(9, 50_000));
            take(&self.session, &self.tree);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The same as [`backups_during_checks`], at the one moment that matters.
#[test]
fn a_snapshot_published_during_a_check_is_not_taken_for_damage() {
    for at in [Phase::Check, Phase::ReadData] {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        put(&tree, "old", &noise(1, 50_000));
        let quiet = session(dir.path(), Arc::new(Silent));
        app::init(&quiet, &InitRequest { label: String::new(), params: ScryptParams::GENERATED }).unwrap();
        take(&quiet, &tree);
        let monitor = Arc::new(Meanwhile { at, tree, session: quiet, done: AtomicU32::new(0) });
        let outcome = app::check(
            &session(dir.path(), Arc::<Meanwhile>::clone(&monitor)),
            &CheckRequest { read_data: ReadData::All },
        );
        assert_eq!(monitor.done.load(Ordering::Relaxed), 1);
        assert_eq!(outcome.unwrap().problems, [], "{at:?}");
    }
}

/// Cancels when a phase begins.
struct Impatient(Phase, AtomicBool);

impl Monitor for Impatient {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        if phase == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

/// A check that was stopped has not found the repository good.
#[test]
fn an_interrupted_check_has_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    put(&tree, "f", &noise(1, 50_000));
    let quiet = session(dir.path(), Arc::new(Silent));
    app::init(&quiet, &InitRequest { label: String::new(), params: ScryptParams::GENERATED }).unwrap();
    take(&quiet, &tree);
    for phase in [Phase::Check, Phase::ReadData] {
        let monitor = Arc::new(Impatient(phase, AtomicBool::new(false)));
        let request = CheckRequest { read_data: ReadData::All };
        let error = app::check(&session(dir.path(), monitor), &request).expect_err("a verdict");
        assert_eq!(error.class(), ErrorClass::Interrupted);
    }
}
