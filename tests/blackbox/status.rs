//! `status`: whether all is well.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, put, with_repository};

fn status(place: &Place, code: i32) -> Value {
    let run = place.run(&["--json", "status"]).exits(code);
    let document = run.summary();
    assert_eq!(document["healthy"], code == 0);
    document
}

#[test]
fn only_a_whole_backup_of_the_state_dir_makes_it_well() {
    let mut place = with_repository();
    place.set("EXUVIA_STATE_DIR", "state");
    let (state, other) = (place.path("state"), place.path("other"));
    put(&state, "a/b", b"b");
    put(&state, "d", b"d");
    put(&other, "c", b"c");
    let document = status(&place, 1);
    assert_eq!(document["problems"], json!(["never-backed-up"]));
    assert_eq!((&document["newest"], &document["last_drill"]), (&Value::Null, &Value::Null));
    assert_eq!(document["state_dir"]["path"].as_str(), state.to_str());
    let run = place.run(&["status"]).exits(1);
    assert!(run.text().contains("last backup  never"), "{}", run.text());
    assert!(run.text().contains("last drill   never"), "{}", run.text());

    // Neither another directory nor a part of this one.
    place.backup("other");
    place.run(&["backup", "state/a"]).exits(0);
    place.run(&["backup", "state/a", "state/d"]).exits(0);
    assert_eq!(status(&place, 1)["snapshots"], 3);

    let taken = place.run(&["--json", "backup"]).exits(0).summary();
    let document = status(&place, 0);
    assert_eq!(document["newest"]["id"], taken["snapshot"]);
    assert_eq!(document["newest"]["time"], taken["time"]);
    assert_eq!(document["newest"]["complete"], true);
    assert!(document["newest"]["age_seconds"].is_u64());
    assert_eq!((&document["snapshots"], &document["safety_snapshots"]), (&4.into(), &0.into()));
    assert_eq!((&document["problems"], &document["alarms"]), (&json!([]), &json!([])));

    // By another way to the same directory, and when it is lost.
    std::os::unix::fs::symlink("state", place.path("alias")).unwrap();
    place.run(&["--state-dir", "alias", "status"]).exits(0);
    fs::remove_dir_all(&state).unwrap();
    status(&place, 0);
    place.run(&["--state-dir", "other/..", "status"]).exits(1);
}

#[test]
fn records_that_cannot_be_read_are_told() {
    let mut place = with_repository();
    place.set("EXUVIA_STATE_DIR", "state");
    put(&place.path("state"), "a", b"a");
    place.run(&["backup"]).exits(0);
    put(&place.path("state"), "b", b"b");
    place.run(&["backup"]).exits(0);
    let (path, _) = crate::support::files(&place.path("repo/snapshots")).into_iter().next().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    // This machine has a copy, another one has not.
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    let document = status(&place, 1);
    assert_eq!(document["problems"], json!(["unreadable"]));
    assert_eq!(document["snapshots"], 2);
    assert!(place.run(&["status"]).exits(1).text().contains("1 snapshot cannot be read"));
}

#[test]
fn without_a_repository_there_is_no_status() {
    let mut place = Place::new();
    place.set("EXUVIA_PASSPHRASE", "x").set("EXUVIA_REPO", "nowhere");
    place.run(&["status"]).exits(10);
}
