//! The shrink alarm: marks that every machine sees, until somebody accepts.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use exuvia::app::Passphrase;
use exuvia::model::{ObjectId, SnapshotKind};
use exuvia::ops::alarm::Held;
use exuvia::repo::{CachePlace, Catalog, Repository};
use serde_json::{Value, json};

use crate::support::{PASSPHRASE, Place, database, files, names, noise, put, with_repository};

/// Ten files of a kilobyte and a database; `state` is the state dir.
fn with_state() -> Place {
    let mut place = with_repository();
    place.set("EXUVIA_STATE_DIR", "state");
    for n in 0..10u8 {
        put(&place.path("state"), &format!("notes/{n}.md"), &noise(n.into(), 1000));
    }
    drop(database(&place.path("state/memory.sqlite"), 100, 4096));
    place
}

fn lose(place: &Place, files: std::ops::Range<u8>) {
    files.for_each(|n| fs::remove_file(place.path(&format!("state/notes/{n}.md"))).unwrap());
}

fn backup(place: &Place, args: &[&str]) -> (Value, String) {
    let run = place.run(&[&["--json", "backup"], args].concat()).exits(0);
    (run.summary(), run.stderr)
}

fn rows(place: &Place) -> Vec<Value> {
    place.run(&["--json", "snapshots"]).exits(0).summary().as_array().unwrap().clone()
}

/// What no policy may remove, as another machine sees it: which of the snapshots, by number.
fn held(place: &Place) -> Vec<usize> {
    let cache = tempfile::tempdir().unwrap();
    let remote = Arc::new(exuvia::remote::Local::new(place.path("repo")));
    let passphrase = Passphrase::new(PASSPHRASE.as_bytes().to_vec());
    let place = CachePlace { dir: cache.path(), keeps_key: false };
    let repository = Repository::open(remote, &passphrase, place).unwrap();
    let catalog = Catalog::load(&repository, SnapshotKind::Regular).unwrap();
    let read: Vec<(ObjectId, _)> =
        catalog.entries().iter().map(|e| (e.id, repository.snapshot(e).unwrap())).collect();
    let held = Held::of(&repository, read.iter().map(|(id, snapshot)| (id, snapshot))).unwrap();
    (0..read.len()).filter(|n| held.is_held_back(&read[*n].0)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn a_loss_is_marked_until_it_is_accepted() {
    let place = with_state();
    let (first, _) = backup(&place, &[]);
    assert_eq!(first["alarm"], json!([]));
    lose(&place, 0..7);
    let size = fs::metadata(place.path("state/memory.sqlite")).unwrap().len();
    for name in names(&place.path("state")).iter().filter(|name| name.starts_with("memory")) {
        fs::remove_file(place.path("state").join(name)).unwrap();
    }
    // Said before anything is stored, too.
    let (dry, _) = backup(&place, &["--dry-run"]);
    let (second, said) = backup(&place, &[]);
    assert_eq!(dry["alarm"], second["alarm"]);
    let alarm = second["alarm"].as_array().unwrap();
    assert_eq!(alarm[0], json!({"what": "files", "before": 11, "now": 3}));
    let database = alarm.iter().find(|loss| loss["what"] == "database").unwrap();
    assert_eq!((&database["path"], &database["now"]), (&"memory.sqlite".into(), &Value::Null));
    assert!(database["before"].as_u64().unwrap() >= size);
    assert!(said.contains("\"type\":\"warning\"") && said.contains("--accept"), "{said}");

    // The next one loses nothing; the mark stays where it is.
    put(&place.path("state"), "new", b"new");
    let (third, said) = backup(&place, &[]);
    assert_eq!((&third["alarm"], said.as_str()), (&json!([]), ""));
    assert_eq!(held(&place), [0, 1]);
    let marked: Vec<Value> = rows(&place).iter().map(|row| row["accepted"].clone()).collect();
    assert_eq!(marked, [Value::Null, false.into(), Value::Null]);
    assert_eq!(rows(&place)[1]["alarm"], second["alarm"]);
    let table = place.run(&["snapshots"]).exits(0);
    let shrunk: Vec<bool> = table.text().lines().map(|line| line.ends_with("  shrunk")).collect();
    assert_eq!(shrunk, [false, false, true, false, false], "{}", table.text());
    let status = place.run(&["--json", "status"]).exits(1).summary();
    assert_eq!(status["problems"], json!(["shrunk"]));
    assert_eq!(
        (&status["alarms"][0]["id"], &status["alarms"][0]["parent"]),
        (&second["snapshot"], &first["snapshot"])
    );
    let words = place.run(&["status"]).exits(1);
    assert!(words.text().contains("8 of 11 files are gone"), "{}", words.text());
    assert!(words.text().contains("the database memory.sqlite"), "{}", words.text());

    // Another machine sees it, and accepts it.
    fs::rename(place.path("home/.cache"), place.path("cache-of-another")).unwrap();
    let id = text(&second["snapshot"]);
    let run = place.run(&["--json", "snapshots", "--accept", &id[..8]]).exits(0);
    assert_eq!(run.summary()["accepted"], json!([id]));
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    fs::rename(place.path("cache-of-another"), place.path("home/.cache")).unwrap();
    assert_eq!(held(&place), [0usize; 0]);
    assert_eq!(rows(&place)[1]["accepted"], true);
    assert!(place.run(&["snapshots"]).exits(0).text().contains("shrunk (accepted)"));
    place.run(&["status"]).exits(0);

    // Once is enough.
    let before = files(&place.path("repo"));
    let run = place.run(&["snapshots", "--accept", &id]).exits(0);
    assert!(run.text().starts_with("accepted already: "), "{}", run.text());
    assert_eq!(files(&place.path("repo")), before);
    place.is_sound();
}

#[test]
fn only_what_is_marked_can_be_accepted() {
    let place = with_state();
    backup(&place, &[]);
    let run = place.run(&["--json", "snapshots", "--accept", "latest"]).exits(2);
    assert!(run.error()["message"].as_str().unwrap().contains("not marked"), "{}", run.stderr);
    place.run(&["snapshots", "--accept", "00000000"]).exits(2);
    lose(&place, 0..7);
    let id = text(&backup(&place, &[]).0["snapshot"]);
    // All or none.
    place.run(&["snapshots", "--accept", &id, "--accept", "latest~1"]).exits(2);
    assert!(!place.path("repo/accepted").exists());
    place.run(&["snapshots", "--accept", &id, "--accept", "latest"]).exits(0);
    assert_eq!(names(&place.path("repo/accepted")).len(), 1);
}

#[test]
fn what_does_not_compare_is_not_compared() {
    let place = with_state();
    backup(&place, &[]);
    // Another selection is meant to be smaller.
    let (excluded, _) = backup(&place, &["--exclude", "*.md"]);
    assert_eq!((&excluded["alarm"], &excluded["files"]), (&json!([]), &1.into()));
    // Back again: the parent has less.
    let (back, _) = backup(&place, &[]);
    assert_eq!((&back["alarm"], &back["files"]), (&json!([]), &11.into()));
    // A part of the directory has a parent of its own.
    let (part, _) = backup(&place, &["state/notes/1.md", "state/notes/2.md"]);
    assert_eq!((&part["alarm"], &part["parent"]), (&json!([]), &Value::Null));
    let (whole, _) = backup(&place, &[]);
    assert_eq!(whole["alarm"], json!([]));
    // Without a cache the parent is looked for in the repository.
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    lose(&place, 0..7);
    let (lost, _) = backup(&place, &[]);
    assert_eq!(lost["alarm"], json!([{"what": "files", "before": 11, "now": 4}]));
}

fn configure(place: &mut Place, line: &str) {
    let path = place.write("config.toml", line);
    place.set("EXUVIA_CONFIG", path.to_str().unwrap());
}

#[test]
fn the_part_is_a_setting() {
    for (line, alarming) in [
        ("", true),
        ("shrink_alarm = 60", true),
        ("shrink_alarm = 65", false),
        ("shrink_alarm = \"off\"", false),
        ("shrink_alarm = false", false),
        ("shrink_alarm = 0", false),
    ] {
        let mut place = with_state();
        configure(&mut place, line);
        backup(&place, &[]);
        lose(&place, 0..7);
        let (second, _) = backup(&place, &[]);
        assert_eq!(second["alarm"] != json!([]), alarming, "{line}: {}", second["alarm"]);
        let run = place.run(&["--quiet", "backup", "--dry-run"]).exits(0);
        assert!(!run.stderr.contains("much less"), "nothing more was lost: {}", run.stderr);
    }
    let mut place = with_state();
    configure(&mut place, "shrink_alarm = 101");
    place.run(&["backup"]).exits(2);
    configure(&mut place, "shrink_alarm = 5");
    backup(&place, &[]);
    lose(&place, 0..1);
    // However quiet.
    let run = place.run(&["--quiet", "backup"]).exits(0);
    assert!(run.stderr.contains("1 of 11 files are gone"), "{}", run.stderr);
    let shown = place.run(&["config", "show"]).exits(0);
    assert!(
        shown.text().lines().any(|line| line.starts_with("shrink_alarm") && line.contains(" 5 ")),
        "{}",
        shown.text()
    );
}

#[test]
fn a_database_that_fell_counts() {
    let place = with_state();
    let path = place.path("state/memory.sqlite");
    backup(&place, &[]);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("delete from t; vacuum; pragma wal_checkpoint(truncate)").unwrap();
    drop(db);
    let (second, _) = backup(&place, &[]);
    let alarm = second["alarm"].as_array().unwrap();
    assert_eq!(alarm.len(), 1, "{alarm:?}");
    assert_eq!((&alarm[0]["what"], &alarm[0]["path"]), (&"database".into(), &"memory.sqlite".into()));
    assert_eq!(alarm[0]["now"].as_u64(), Some(fs::metadata(&path).unwrap().len()));
    assert!(alarm[0]["before"].as_u64() > alarm[0]["now"].as_u64());
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_acceptance_is_found() {
    let place = with_state();
    backup(&place, &[]);
    lose(&place, 0..7);
    backup(&place, &[]);
    place.run(&["snapshots", "--accept", "latest"]).exits(0);
    place.is_sound();
    let (path, _) = files(&place.path("repo/accepted")).into_iter().next().unwrap();
    damage(&path);
    let run = place.run(&["--json", "check"]).exits(13);
    assert!(run.text().contains("accepted/"), "{}", run.text());
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    place.run(&["snapshots"]).exits(13);
}
