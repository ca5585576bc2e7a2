//! `trigger`: with a daemon and without one.

use std::fs::{self, File};

use serde_json::Value;

use crate::daemon::{Daemon, QUIET, configure, records, with_config};
use crate::support::{Place, ended, names, put, until};

fn rows(place: &Place) -> Vec<Value> {
    place.run(&["--json", "snapshots"]).exits(0).summary().as_array().unwrap().clone()
}

#[test]
fn a_hundred_compactions_make_one_snapshot_without_a_daemon() {
    let place = with_config(QUIET);
    // All at once, more or less.
    let mut results = Vec::new();
    for _ in 0..10 {
        let started: Vec<_> =
            (0..10).map(|_| place.start(&["--json", "trigger", "before-compaction"])).collect();
        results.extend(started.into_iter().map(|child| ended(child).exits(0).summary()["result"].clone()));
    }
    assert_eq!(results.len(), 100);
    assert_eq!(results.iter().filter(|result| **result == "ran").count(), 1, "{results:?}");
    assert!(results.iter().all(|result| ["ran", "deaf", "queued"].contains(&result.as_str().unwrap())));
    let rows = rows(&place);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["reason"], "before-compaction");
    // What is dropped is told.
    let run = place.run(&["trigger", "before-compaction"]).exits(0);
    assert!(run.text().contains("nothing is done before"), "{}", run.text());
}

#[test]
fn a_hundred_compactions_make_one_snapshot_with_a_daemon() {
    let place = with_config(&format!("{QUIET}backup = \"off\"\n[triggers]\nquick = \"1s\"\n"));
    let mut daemon = Daemon::start(&place);
    daemon.says("the daemon begins", 1);
    for _ in 0..100 {
        let summary = place.run(&["--json", "trigger", "before-compaction"]).exits(0).summary();
        assert!(["accepted", "deaf"].contains(&summary["result"].as_str().unwrap()), "{summary}");
    }
    until("the snapshot", || !rows(&place).is_empty());
    daemon.says("trigger before-compaction", 100);
    // Other names are heard, and become a label; who waits gets the summary.
    let run = place.run(&["--json", "trigger", "session-end", "--wait"]).exits(0).summary();
    assert_eq!((&run["result"], &run["trigger"]), (&"ran".into(), &"session-end".into()));
    let found = rows(&place);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1]["id"], run["summary"]["snapshot"]);
    assert_eq!(found[1]["tags"], serde_json::json!(["trigger:session-end"]));
    // One that was fired while it was deaf makes a snapshot later when something changed, and none when not.
    place.run(&["trigger", "quick", "--wait"]).exits(0);
    let late = place.run(&["--json", "trigger", "quick", "--wait"]).exits(0).summary();
    assert_eq!(late["summary"]["unchanged"], true, "{late}");
    put(&place.path("state"), "new", b"new");
    let late = place.run(&["--json", "trigger", "quick", "--wait"]).exits(0).summary();
    assert!(late["summary"]["snapshot"].is_string(), "{late}");
    daemon.stop();
    assert_eq!(rows(&place).len(), 4);
}

#[test]
fn a_stopping_gateway_is_not_held_up() {
    // The job waits for us, so that whoever returns earlier did not wait for it.
    let place = with_config("");
    let go = place.path("go");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    configure(&place, &format!("{QUIET}backup = \"off\"\n[hooks.backup]\npre = \"{wait}\"\n"));
    let run = place.run(&["--json", "trigger", "gateway-stop", "--detach"]).exits(0).summary();
    assert_eq!(run["result"], "detached");
    assert_eq!(rows(&place).len(), 0);
    // The background has a session of its own: what ends ours does not reach it.
    let pid = || records(&place).map(|records| records["running"]["process"]["pid"].clone());
    until("the record", || pid().is_some_and(|pid| pid.is_u64()));
    let pid = pid().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, pid.to_string());
    File::create(&go).unwrap();
    until("the snapshot", || rows(&place).len() == 1);
    assert_eq!(rows(&place)[0]["reason"], "gateway-stop");
    until("the end of the job", || records(&place).unwrap()["running"].is_null());

    fs::remove_file(&go).unwrap();
    let mut daemon = Daemon::start(&place);
    daemon.says("the daemon begins", 1);
    let run = place.run(&["--json", "trigger", "gateway-stop", "--detach"]).exits(0).summary();
    assert_eq!(run["result"], "accepted");
    daemon.says("backup: begins (trigger:gateway-stop)", 1);
    File::create(&go).unwrap();
    until("the snapshot", || rows(&place).len() >= 2);
    daemon.stop();
}

#[test]
fn names_are_checked_and_failures_are_told() {
    let mut place = with_config(QUIET);
    for bad in ["", "A", "a_b", "a b", "../x", "abcdefghijklmnopqrstuvwxyz0123456"] {
        place.run(&["trigger", bad]).exits(2);
    }
    place.run(&["trigger", "x", "--wait", "--detach"]).exits(2);
    place.set("EXUVIA_PASSPHRASE", "wrong");
    let error = place.run(&["--json", "trigger", "x"]).exits(12).error();
    assert_eq!(error["class"], "wrong-key");
    assert_eq!(records(&place).unwrap()["jobs"]["backup"]["failures"], 1);
    // A daemon tells those who wait the same.
    let mut daemon = Daemon::start(&place);
    daemon.says("backup: failed", 1);
    place.run(&["trigger", "x", "--wait"]).exits(12);
    daemon.stop();
}

#[test]
fn the_socket_is_where_running_programs_have_theirs() {
    let mut place = with_config(QUIET);
    fs::create_dir(place.path("run")).unwrap();
    let run = place.path("run").display().to_string();
    place.set("XDG_RUNTIME_DIR", &run);
    let mut daemon = Daemon::start(&place);
    daemon.says("backup: success", 1);
    let sockets = names(&place.path("run/exuvia"));
    assert!(sockets.len() == 1 && sockets[0].len() == 16 + ".sock".len(), "{sockets:?}");
    place.run(&["trigger", "x", "--wait"]).exits(0);
    daemon.says("trigger x", 1);
    daemon.stop();
    assert_eq!(names(&place.path("run/exuvia")), [""; 0]);
}
