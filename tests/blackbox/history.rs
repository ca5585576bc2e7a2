//! Snapshots that are gone though nobody removed them: told of, until somebody says that it was meant.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Place, files, names, put, with_repository};

fn with_state() -> Place {
    let mut place = with_repository();
    place.set("EXUVIA_STATE_DIR", "state");
    put(&place.path("state"), "a", b"first");
    place
}

fn backup(place: &Place) -> (String, Value, String) {
    let run = place.run(&["--json", "backup"]).exits(0);
    let summary = run.summary();
    (summary["snapshot"].as_str().unwrap().to_owned(), summary, run.stderr)
}

fn change(place: &Place, n: u8) -> String {
    put(&place.path("state"), "a", &[n; 100]);
    backup(place).0
}

/// The whole repository, as a provider may keep it.
fn copy(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&place.path("repo")).into_keys().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn put_back(place: &Place, state: &BTreeMap<PathBuf, Vec<u8>>) {
    files(&place.path("repo")).into_keys().filter(|path| !state.contains_key(path)).for_each(|path| {
        fs::remove_file(path).unwrap();
    });
    for (path, bytes) in state.iter().filter(|(path, _)| !path.exists()) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// Runs as another machine does: with a cache of its own.
fn elsewhere<T>(place: &Place, run: impl FnOnce() -> T) -> T {
    let (mine, other) = (place.path("home/.cache"), place.path("other-cache"));
    fs::rename(&mine, place.path("my-cache")).unwrap();
    if other.exists() {
        fs::rename(&other, &mine).unwrap();
    }
    let out = run();
    fs::rename(&mine, &other).unwrap();
    fs::rename(place.path("my-cache"), &mine).unwrap();
    out
}

#[test]
fn an_older_state_of_the_repository_is_told_of() {
    let place = with_state();
    let first = backup(&place).0;
    let older = copy(&place);
    let mut lost = [change(&place, 1), change(&place, 2)];
    // Those of one second are told in the order of their ids.
    lost.sort();
    place.run(&["status"]).exits(0);
    put_back(&place, &older);

    let (next, summary, said) = backup(&place);
    let mut told = ids(&summary["vanished"]);
    told.sort();
    assert_eq!(told, lost);
    assert!(said.contains("2 snapshots vanished") && said.contains("forget --missing"), "{said}");
    // It is not said once and forgotten, and however quiet.
    let run = place.run(&["--quiet", "backup"]).exits(0);
    assert!(lost.iter().all(|id| run.stderr.contains(&id[..8])), "{}", run.stderr);
    let status = place.run(&["--json", "status"]).exits(1).summary();
    let mut told = ids(&status["vanished"]);
    told.sort();
    assert_eq!((&status["problems"], told), (&json!(["vanished"]), lost.to_vec()));
    assert!(place.run(&["status"]).exits(1).text().contains("vanished "));
    let run = place.run(&["snapshots"]).exits(0);
    assert!(run.stderr.contains("2 snapshots vanished"), "{}", run.stderr);
    let run = place.run(&["--json", "check", "--read-data"]).exits(13);
    let problems = run.summary()["problems"].clone();
    let named =
        |id: &str| problems.as_array().unwrap().iter().any(|p| p["object"].as_str().unwrap().ends_with(id));
    assert!(named(&lost[0]) && named(&lost[1]), "{problems}");
    // What came after counts on, so another machine sees the gap.
    elsewhere(&place, || {
        let notes = place.run(&["--json", "check"]).exits(0).summary()["notes"].clone();
        assert!(notes.to_string().contains("number 2 to 3"), "{notes}");
    });

    // It was me.
    let before = files(&place.path("repo"));
    let run = place.run(&["--json", "forget", "--missing"]).exits(2);
    assert!(run.error()["hint"].as_str().unwrap().contains("--yes"), "{}", run.stderr);
    let shown = place.run(&["--json", "forget", "--missing", "--dry-run"]).exits(0).summary();
    let mut told = ids(&shown["vanished"]);
    told.sort();
    assert_eq!(told, lost);
    assert_eq!(files(&place.path("repo")), before);
    place.run(&["forget", "--missing", "--yes"]).exits(0);
    let run = place.run(&["forget", "--missing"]).exits(0);
    assert_eq!(run.text(), "no snapshot is missing\n");
    place.is_sound();
    elsewhere(&place, || place.is_sound());
    assert_eq!(backup(&place).1["vanished"], json!([]));
    place.run(&["status"]).exits(0);
    let left = place.snapshots();
    assert_eq!(left[..2], [first, next]);
    place.restored("latest");
}

#[test]
fn a_forget_on_another_machine_is_no_reason_to_worry() {
    let place = with_state();
    let ids: Vec<String> = (0..6).map(|n| change(&place, n)).collect();
    elsewhere(&place, || {
        place.run(&["forget", "--keep-last", "2", "--yes"]).exits(0);
        place.run(&["forget", "--yes", &ids[5]]).exits(0);
    });
    let (_, summary, said) = backup(&place);
    assert_eq!((&summary["vanished"], said.as_str()), (&json!([]), ""));
    // Some listings and a record more than usual, and only once.
    assert!(summary["remote_requests"]["list"].as_u64().unwrap() <= 7, "{summary}");
    let (_, summary, _) = backup(&place);
    assert_eq!(summary["remote_requests"], json!({"put": 1, "get": 0, "list": 2, "delete": 0, "stat": 0}));
    place.is_sound();
    elsewhere(&place, || place.is_sound());
    assert_eq!(names(&place.path("repo/removed")).len(), 1);
    // What forgets is sealed: its record is damaged, and it explains nothing.
    let record = names(&place.path("repo/removed")).remove(0);
    fs::write(place.path("repo/removed").join(record), b"damaged").unwrap();
    let run = place.run(&["--json", "check"]).exits(13);
    assert!(run.text().contains("removed/"), "{}", run.text());
}

#[test]
fn safety_snapshots_are_watched_too() {
    let place = with_state();
    backup(&place);
    change(&place, 7);
    place.run(&["rollback", "latest~1", "--yes"]).exits(0);
    let folder = place.path("repo/safety");
    place.run(&["status"]).exits(0);
    place.is_sound();
    fs::remove_file(folder.join(names(&folder).remove(0))).unwrap();
    let status = place.run(&["--json", "status"]).exits(1).summary();
    assert_eq!(status["problems"], json!(["vanished"]));
    place.run(&["check"]).exits(13);
    place.run(&["forget", "--missing", "--yes"]).exits(0);
    place.run(&["status"]).exits(0);
    place.is_sound();
    // Removed as it should be, it is missed by nobody.
    change(&place, 8);
    place.run(&["rollback", "latest~1", "--yes"]).exits(0);
    let id = names(&folder).remove(0);
    place.run(&["forget", "--safety", "--yes", &id[21..]]).exits(0);
    place.run(&["status"]).exits(0);
    place.is_sound();
}

#[test]
fn a_lost_cache_is_a_new_memory() {
    let place = with_state();
    backup(&place);
    change(&place, 1);
    let last = change(&place, 2);
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    let folder = place.path("repo/snapshots");
    let name = names(&folder).into_iter().find(|name| name.ends_with(&last)).unwrap();
    fs::remove_file(folder.join(name)).unwrap();
    // Nobody knows of it any more, and a new writer begins to count.
    let (_, summary, _) = backup(&place);
    assert_eq!(summary["vanished"], json!([]));
    place.is_sound();
}
