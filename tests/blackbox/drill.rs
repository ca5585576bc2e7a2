//! `drill`: a restore for practice, and what becomes of its scratch folder.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exuvia::app::{self, AppError, DrillRequest, Location, Passphrase, Session};
use exuvia::clock::SystemClock;
use exuvia::fs::{Dir, Lock};
use exuvia::model::{Classify, DrillResult, ErrorClass, ObjectId, Snapshot, Verdict};
use exuvia::repo::{CachePlace, Repository};
use exuvia::report::{Monitor, Phase, Silent};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{
    PASSPHRASE, Place, database, files, names, noise, picture, prose, put, same, with_repository,
};

/// A repository with one snapshot of a tree with something of every kind, the state dir of every run.
fn with_state() -> Place {
    let mut place = with_repository();
    let state = place.path("state");
    put(&state, "notes/a.md", &prose(1, 70_000));
    put(&state, "notes/empty", b"");
    put(&state, "large.bin", &noise(2, 3 << 20));
    fs::hard_link(state.join("notes/a.md"), state.join("again.md")).unwrap();
    symlink("notes/a.md", state.join("link")).unwrap();
    symlink("/nowhere", state.join("broken")).unwrap();
    mknodat(CWD, state.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    File::create(state.join("hole")).unwrap().set_len(1 << 20).unwrap();
    drop(database(&state.join("memory/main.sqlite"), 300, 4096));
    drop(database(&state.join("b.sqlite"), 20, 512));
    // What a folder's owner may not write to.
    put(&state, "closed/inner/x", b"x");
    fs::set_permissions(state.join("closed/inner"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(state.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    place.set("EXUVIA_STATE_DIR", "state");
    place.run(&["--json", "backup"]).exits(0);
    place
}

fn leftovers(dir: &Path) -> Vec<String> {
    names(dir).into_iter().filter(|name| name.starts_with(".exuvia-drill-")).collect()
}

fn session(place: &Place, monitor: Arc<dyn Monitor>) -> Session {
    Session {
        repository: Location::Local(place.path("repo")),
        passphrase: Passphrase::new(PASSPHRASE.as_bytes().to_vec()),
        cache_dir: place.path("home/.cache/exuvia"),
        key_cache: true,
        monitor,
        clock: Arc::new(SystemClock::new()),
        threads: 2,
    }
}

fn drill(place: &Place, monitor: Arc<dyn Monitor>) -> Result<DrillResult, AppError> {
    let request =
        DrillRequest { snapshot: "latest".to_owned(), scratch: None, state_dir: place.path("state") };
    app::drill(&session(place, monitor), &request)
}

fn repository(place: &Place) -> Repository {
    let cache = place.path("home/.cache/exuvia");
    let remote = Arc::new(exuvia::remote::Local::new(place.path("repo")));
    let passphrase = Passphrase::new(PASSPHRASE.as_bytes().to_vec());
    Repository::open(remote, &passphrase, CachePlace { dir: &cache, keeps_key: true }).unwrap()
}

#[test]
fn all_comes_back_and_nothing_is_left() {
    let place = with_state();
    // Whoever reads it waits for somebody to write.
    fs::remove_file(place.path("state/fifo")).unwrap();
    let before = picture(&place.path("state"));
    let trees = names(&only(&place.path("home/.cache/exuvia"), |name| name.len() == 32).join("trees"));
    let run = place.run(&["--json", "drill"]).exits(0);
    let found = run.summary();
    let recorded = place.run(&["--json", "snapshots"]).exits(0).summary();
    for key in ["files", "dirs", "bytes"] {
        assert_eq!(found[key], recorded[0][key], "{key}");
    }
    assert_eq!(
        (&found["type"], &found["ok"], &found["verdict"]),
        (&"summary".into(), &true.into(), &"good".into())
    );
    assert_eq!((&found["databases_checked"], &found["problem_count"]), (&2.into(), &0.into()));
    assert_eq!(found["snapshot"], recorded[0]["id"]);
    assert_eq!(found["snapshot_time"], recorded[0]["time"]);
    assert_eq!(leftovers(&place.path("")), [""; 0]);
    same(&picture(&place.path("state")), &before, "the state dir after a drill");
    let after = names(&only(&place.path("home/.cache/exuvia"), |name| name.len() == 32).join("trees"));
    assert_eq!(after, trees, "no backup of the scratch folder is prepared");

    // In another place, as words.
    fs::create_dir(place.path("space")).unwrap();
    let run = place.run(&["drill", "latest", "--scratch", "space"]).exits(0);
    assert!(run.text().starts_with("good: snapshot "), "{}", run.text());
    assert!(run.text().contains("2 databases checked and good"), "{}", run.text());
    assert!(names(&place.path("space")).is_empty());
}

/// The one name in a directory that is meant.
fn only(dir: &Path, meant: impl Fn(&str) -> bool) -> PathBuf {
    let found: Vec<String> = names(dir).into_iter().filter(|name| meant(name)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    dir.join(&found[0])
}

#[test]
fn damage_is_13_and_status_remembers_it() {
    let place = with_state();
    place.run(&["drill"]).exits(0);
    place.run(&["status"]).exits(0);
    let packs: Vec<PathBuf> = files(&place.path("repo/packs")).into_keys().collect();
    let kept: Vec<Vec<u8>> = packs.iter().map(|path| fs::read(path).unwrap()).collect();
    for pack in &packs {
        let file = File::options().write(true).open(pack).unwrap();
        let middle = file.metadata().unwrap().len() / 2;
        file.write_at(&noise(3, 64), middle).unwrap();
    }
    let run = place.run(&["--json", "drill"]).exits(13);
    let found = run.summary();
    assert_eq!((&found["ok"], &found["verdict"]), (&false.into(), &"damaged".into()));
    let count = found["problem_count"].as_u64().unwrap();
    assert!(count >= 1 && !found["problems"].as_array().unwrap().is_empty(), "{found}");
    assert_eq!(leftovers(&place.path("")), [""; 0]);

    let run = place.run(&["--json", "status"]).exits(1);
    let status = run.summary();
    assert_eq!(status["problems"], serde_json::json!(["drill-failed"]));
    assert_eq!(status["last_drill"]["problem_count"], count);
    assert_eq!(status["last_drill"]["problems"], found["problems"]);
    let words = place.run(&["status"]).exits(1);
    assert!(words.text().contains("last drill   damaged ("), "{}", words.text());

    // What cannot even be begun is damage too.
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let run = place.run(&["drill"]).exits(13);
    assert!(run.text().contains("did not come back whole"), "{}", run.text());
    assert_eq!(leftovers(&place.path("")), [""; 0]);

    // And a good drill makes up for it.
    packs.iter().zip(&kept).for_each(|(pack, bytes)| fs::write(pack, bytes).unwrap());
    place.run(&["drill"]).exits(0);
    place.run(&["status"]).exits(0);
}

/// Does something when everything is restored and nothing is looked at yet.
struct Meddler {
    above: PathBuf,
    act: fn(&Path),
    done: AtomicBool,
}

impl Monitor for Meddler {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        if phase == Phase::Verify && !self.done.swap(true, Ordering::Relaxed) {
            let [name] = &leftovers(&self.above)[..] else { panic!("no scratch folder") };
            let mode = fs::metadata(self.above.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
            (self.act)(&self.above.join(name));
        }
    }
}

/// What is done to the scratch folder, and how the problems begin that this is.
type Case = (fn(&Path), &'static [&'static str]);

#[test]
fn every_difference_is_found() {
    let place = with_state();
    let cases: [Case; 8] = [
        (|_| {}, &[]),
        (
            |dir| {
                File::options()
                    .write(true)
                    .open(dir.join("large.bin"))
                    .unwrap()
                    .write_all_at(b"!", 2 << 20)
                    .unwrap()
            },
            &["large.bin: its content after the restore is not that of the snapshot"],
        ),
        (|dir| fs::write(dir.join("notes/empty"), "x").unwrap(), &["notes/empty: has 1 bytes after"]),
        (
            |dir| fs::remove_file(dir.join("link")).and_then(|()| symlink("x", dir.join("link"))).unwrap(),
            &["link: its target is not that of the snapshot"],
        ),
        (|dir| fs::remove_file(dir.join("fifo")).unwrap(), &["fifo: cannot be found after the restore"]),
        (
            |dir| fs::remove_file(dir.join("fifo")).and_then(|()| fs::create_dir(dir.join("fifo"))).unwrap(),
            &["fifo: is of another kind"],
        ),
        (
            |dir| fs::remove_dir_all(dir.join("notes")).unwrap(),
            &[
                "notes/a.md: its folder cannot be opened",
                "notes/empty: its folder cannot be opened",
                "notes: cannot be found",
            ],
        ),
        (
            |dir| {
                let file = File::options().write(true).open(dir.join("memory/main.sqlite")).unwrap();
                file.write_all_at(&noise(5, 4000), 4096).unwrap();
            },
            &["memory/main.sqlite: SQLite finds it damaged", "memory/main.sqlite: its content"],
        ),
    ];
    for (number, (act, wanted)) in cases.into_iter().enumerate() {
        let monitor = Arc::new(Meddler { above: place.path(""), act, done: AtomicBool::new(false) });
        let found = drill(&place, Arc::<Meddler>::clone(&monitor)).unwrap();
        assert!(monitor.done.load(Ordering::Relaxed));
        let mut problems = found.problems.clone();
        // SQLite has its say after all files were read.
        problems.sort();
        assert_eq!(problems.len(), wanted.len(), "{number}: {problems:?}");
        for (problem, wanted) in problems.iter().zip(wanted) {
            assert!(problem.starts_with(wanted), "{number}: {problem}");
        }
        let verdict = if wanted.is_empty() { Verdict::Good } else { Verdict::Damaged };
        assert_eq!((found.verdict, found.problem_count), (verdict, wanted.len() as u64));
        assert_eq!(leftovers(&place.path("")), [""; 0]);
    }
}

/// Asks to stop when a phase begins.
struct Stop(Phase, AtomicBool);

impl Monitor for Stop {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        self.1.fetch_or(phase == self.0, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

#[test]
fn an_interrupted_drill_leaves_nothing_and_is_no_result() {
    let place = with_state();
    for phase in [Phase::Plan, Phase::Restore, Phase::Verify] {
        let monitor = Arc::new(Stop(phase, AtomicBool::new(false)));
        let error = drill(&place, Arc::<Stop>::clone(&monitor)).unwrap_err();
        assert!(monitor.cancelled());
        assert_eq!(error.class(), ErrorClass::Interrupted, "{phase:?}: {error}");
        assert_eq!(leftovers(&place.path("")), [""; 0], "{phase:?}");
    }
    assert!(repository(&place).cache().last_drill().is_none());
    assert_eq!(place.run(&["--json", "status"]).exits(0).summary()["last_drill"], serde_json::Value::Null);
}

#[test]
fn what_a_killed_drill_left_is_swept_and_what_is_in_use_is_not() {
    let place = with_state();
    let left = place.path(".exuvia-drill-0123456789abcdef");
    put(&left, "a/b", b"left");
    fs::set_permissions(left.join("a"), fs::Permissions::from_mode(0o500)).unwrap();
    let alive = place.path(".exuvia-drill-aaaaaaaaaaaaaaaa");
    put(&alive, "c", b"in use");
    let held = Dir::open(&alive).unwrap();
    assert_eq!(held.lock(false).unwrap(), Lock::Held);
    for other in [".exuvia-drill-0123", ".exuvia-drill-0123456789abcdeg", ".exuvia-drill-0123456789abcdef0"] {
        put(&place.path(other), "d", b"not ours");
    }
    put(&place.path(""), ".exuvia-drill-bbbbbbbbbbbbbbbb", b"a file");
    put(&place.path("outside"), "e", b"behind a link");
    symlink(place.path("outside"), place.path(".exuvia-drill-cccccccccccccccc")).unwrap();
    place.run(&["drill"]).exits(0);
    assert_eq!(
        leftovers(&place.path("")),
        [
            ".exuvia-drill-0123",
            ".exuvia-drill-0123456789abcdef0",
            ".exuvia-drill-0123456789abcdeg",
            ".exuvia-drill-aaaaaaaaaaaaaaaa",
            ".exuvia-drill-bbbbbbbbbbbbbbbb",
            ".exuvia-drill-cccccccccccccccc",
        ]
    );
    assert!(alive.join("c").exists() && place.path("outside/e").exists());
    drop(held);
    place.run(&["drill"]).exits(0);
    assert!(!alive.exists());
}

/// Publishes a record like the first with something changed.
fn forge(place: &Place, change: impl FnOnce(&mut Snapshot)) -> ObjectId {
    let repository = repository(place);
    let catalog = exuvia::repo::Catalog::load(&repository, exuvia::model::SnapshotKind::Regular).unwrap();
    let mut snapshot = repository.snapshot(catalog.entries().first().unwrap()).unwrap();
    snapshot.sequence += 1;
    change(&mut snapshot);
    repository.publish_snapshot(&snapshot, true).unwrap().id
}

#[test]
fn the_record_is_held_against_the_tree() {
    let place = with_state();
    for (what, change) in [
        ("files", (|s| s.stats.files += 1) as fn(&mut Snapshot)),
        ("directories", |s| s.stats.dirs -= 1),
        ("links and special files", |s| s.stats.others += 1),
        ("bytes", |s| s.stats.bytes -= 1),
        ("databases", |s| s.databases[0].path = exuvia::model::RepoPath::new(b"gone".to_vec()).unwrap()),
    ] {
        let id = forge(&place, change).to_string();
        let run = place.run(&["--json", "drill", &id]).exits(13);
        let problems = run.summary()["problems"].clone();
        let text = problems[0].as_str().unwrap();
        assert!(text.contains(&format!(" {what}, and there are ")), "{what}: {problems}");
        assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
    }
    // Where something could not be taken, nobody knows what was counted.
    let id = forge(&place, |s| {
        s.stats.files += 1;
        s.complete = false;
    });
    place.run(&["drill", &id.to_string()]).exits(0);
}

#[test]
fn a_database_that_was_damaged_before_is_no_fault_of_the_backup() {
    let place = with_state();
    let path = place.path("state/b.sqlite");
    for companion in ["state/b.sqlite-wal", "state/b.sqlite-shm"] {
        drop(fs::remove_file(place.path(companion)));
    }
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&noise(4, 500), 1024).unwrap();
    let run = place.run(&["--json", "backup", "--verify"]);
    assert!(matches!(run.code, Some(0 | 3)), "{}", run.stderr);
    let run = place.run(&["drill"]).exits(0);
    assert!(run.stderr.contains("b.sqlite"), "{}", run.stderr);
    assert!(run.text().contains("1 database checked and good"), "{}", run.text());
}

#[test]
fn a_scratch_folder_needs_a_place_and_room() {
    let place = with_state();
    let run = place.run(&["--json", "drill", "--scratch", "state/notes"]).exits(2);
    assert!(run.error()["hint"].as_str().unwrap().contains("--scratch"), "{}", run.stderr);
    symlink("state", place.path("alias")).unwrap();
    place.run(&["drill", "--scratch", "alias/notes"]).exits(2);
    let run = place.run(&["--json", "drill", "--scratch", "nowhere"]).exits(1);
    assert!(run.error()["message"].as_str().unwrap().contains("nowhere"), "{}", run.stderr);
    place.run(&["drill", "--scratch", "repo"]).exits(2);
    assert_eq!(leftovers(&place.path("repo")), [""; 0]);
    place.run(&["drill", "3 years ago"]).exits(2);

    let id = forge(&place, |s| s.stats.bytes = u64::MAX / 2);
    let run = place.run(&["--json", "drill", &id.to_string()]).exits(1);
    assert!(run.error()["message"].as_str().unwrap().contains("are free"), "{}", run.stderr);
    assert!(run.error()["hint"].as_str().unwrap().contains("--scratch"), "{}", run.stderr);
    assert_eq!(leftovers(&place.path("")), [""; 0]);
    // None of these is a result.
    assert!(drill(&place, Arc::new(Silent)).is_err());
    assert!(repository(&place).cache().last_drill().is_none());
}
