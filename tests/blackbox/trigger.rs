//! `trigger`: with a daemon and without one.

use std::fs::{self, File};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, QUIET, configure, records, with_config};
use crate::support::{Place, Run, ended, names, put, until};

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
    // One that waited for the first looks whether anything changed since.
    let ran = results.iter().filter(|result| **result == "ran").count();
    assert!((1..=10).contains(&ran), "{results:?}");
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
    let place = with_config(&format!("{QUIET}backup = \"off\"\n[triggers]\nquick = \"3s\"\n"));
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

#[test]
fn a_daemon_is_found_whatever_the_environment_says() {
    let mut place = with_config(&format!("{QUIET}backup = \"off\"\n"));
    fs::create_dir(place.path("run")).unwrap();
    let run = place.path("run").display().to_string();
    place.set("XDG_RUNTIME_DIR", &run);
    let mut daemon = Daemon::start(&place);
    daemon.says("the daemon begins", 1);
    // As from a service, or a cron job, which have no such variable.
    let mut command = place.command(&["--json", "trigger", "x"]);
    let run: Run = command.env_remove("XDG_RUNTIME_DIR").output().unwrap().into();
    assert_eq!(run.exits(0).summary()["result"], "accepted");
    daemon.says("backup: success", 1);
    daemon.stop();
}

#[test]
fn a_daemon_that_cannot_be_reached_hears_of_the_snapshot() {
    let place = with_config(&format!("{QUIET}backup = \"off\"\n"));
    let mut daemon = Daemon::start(&place);
    daemon.says("the daemon begins", 1);
    let home = place.path("home/.local/state/exuvia");
    let folder = home.join(&names(&home)[0]);
    let socket = names(&folder).into_iter().find(|name| name.ends_with(".sock")).unwrap();
    fs::remove_file(folder.join(socket)).unwrap();
    let run = place.run(&["--json", "trigger", "before-compaction"]).exits(0);
    assert_eq!(run.summary()["result"], "ran");
    assert!(run.stderr.contains("hears of this run by a note"), "{}", run.stderr);
    // Known at once, and entered when the daemon looks up.
    let again = place.run(&["--json", "trigger", "before-compaction"]).exits(0).summary();
    assert_eq!(again["result"], "deaf");
    let status = place.run(&["--json", "status"]).exits(0).summary();
    assert!(status["jobs"]["backup"]["last_success"].is_string(), "{status}");
    daemon.signal(Signal::HUP);
    until("the record", || records(&place).is_some_and(|r| r["triggers"]["before-compaction"].is_i64()));
    until("the end of the note", || names(&folder.join("notes")).is_empty());
    let again = place.run(&["--json", "trigger", "before-compaction"]).exits(0).summary();
    assert_eq!(again["result"], "deaf");
    assert!(records(&place).unwrap()["jobs"]["backup"]["last_success"].is_i64());
    daemon.stop();
    assert_eq!(rows(&place).len(), 1);
}

#[test]
fn what_a_daemon_accepted_is_run_by_the_next() {
    for signal in [Signal::TERM, Signal::KILL] {
        let place = with_config("");
        let go = place.path("go");
        let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
        configure(&place, &format!("{QUIET}backup = \"off\"\n[hooks.backup]\npre = \"{wait}\"\n"));
        let mut daemon = Daemon::start(&place);
        daemon.says("the daemon begins", 1);
        for name in ["gateway-stop", "session-end"] {
            let run = place.run(&["--json", "trigger", name]).exits(0).summary();
            assert_eq!(run["result"], "accepted");
            daemon.says("backup: begins (trigger:gateway-stop)", 1);
        }
        daemon.signal(signal);
        daemon.ended();
        assert_eq!(rows(&place).len(), 0);
        assert!(records(&place).unwrap()["asked"]["session-end"].is_i64());
        File::create(&go).unwrap();
        let mut daemon = Daemon::start(&place);
        daemon.says("backup: success", 1);
        daemon.stop();
        // Once.
        let run = place.run(&["daemon", "--once"]).exits(0);
        assert!(!run.stderr.contains("backup"), "{}", run.stderr);
        assert_eq!(rows(&place).len(), 1);
    }
}

#[test]
fn a_trigger_that_failed_is_heard_again() {
    let place = with_config(QUIET);
    let mut command = place.command(&["trigger", "before-compaction"]);
    assert_eq!(command.env("EXUVIA_PASSPHRASE", "wrong").output().unwrap().status.code(), Some(12));
    let run = place.run(&["--json", "trigger", "before-compaction"]).exits(0).summary();
    assert_eq!(run["result"], "ran");
    let run = place.run(&["--json", "trigger", "before-compaction"]).exits(0).summary();
    assert_eq!(run["result"], "deaf");
}

#[test]
fn of_those_that_wait_one_runs_and_who_wants_to_wait_does() {
    let place = with_config("");
    let go = place.path("go");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    configure(
        &place,
        &format!("{QUIET}[hooks.backup]\npre = \"{wait}\"\n[triggers]\na = \"1h\"\nb = \"1h\"\n"),
    );
    let first = place.start(&["--json", "trigger", "a"]);
    until("the first", || records(&place).is_some_and(|r| r["running"]["job"].is_string()));
    let mut others: Vec<_> = (0..3).map(|_| place.start(&["--json", "trigger", "b"])).collect();
    // Two are told that the third takes them along.
    for _ in 0..2 {
        let mut done = None;
        until("one that is queued", || {
            done = others.iter_mut().position(|child| child.try_wait().unwrap().is_some());
            done.is_some()
        });
        let run = ended(others.remove(done.unwrap())).exits(0).summary();
        assert_eq!(run["result"], "queued");
    }
    // Also one that is deaf, since what it would wait for has just begun.
    let patient = place.start(&["--json", "trigger", "a", "--wait"]);
    File::create(&go).unwrap();
    for child in [first, others.pop().unwrap(), patient] {
        let run = ended(child).exits(0).summary();
        assert!(run["result"] == "ran" && run["summary"].is_object(), "{run}");
    }
    assert!(records(&place).unwrap()["triggers"]["b"].is_i64());

    // With a daemon: one run for all names that were fired before it.
    fs::remove_file(&go).unwrap();
    let before = rows(&place).len();
    configure(&place, &format!("{QUIET}backup = \"off\"\n[hooks.backup]\npre = \"{wait}\"\n"));
    let mut daemon = Daemon::start(&place);
    daemon.says("the daemon begins", 1);
    place.run(&["trigger", "a"]).exits(0);
    daemon.says("backup: begins", 1);
    for name in ["d", "e", "f"] {
        place.run(&["trigger", name]).exits(0);
    }
    let patient = place.start(&["--json", "trigger", "g", "--wait"]);
    daemon.says("trigger g", 1);
    File::create(&go).unwrap();
    assert_eq!(ended(patient).exits(0).summary()["result"], "ran");
    let log = daemon.log();
    daemon.stop();
    assert_eq!((rows(&place).len() - before, log.matches("backup: begins").count()), (2, 2), "{log}");
}

#[test]
fn a_daemon_that_is_ending_leaves_triggers_to_those_who_fire_them() {
    let place = with_config("");
    let go = place.path("go");
    // It has to be killed, so that the daemon takes a moment to end.
    let wait = format!("trap '' TERM; while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    configure(&place, &format!("{QUIET}[hooks.backup]\npre = \"{wait}\"\n"));
    let mut daemon = Daemon::start(&place);
    daemon.says("backup: begins", 1);
    daemon.signal(Signal::TERM);
    until("its ending", || daemon.log().contains("asked to end"));
    let late = place.start(&["--json", "trigger", "x"]);
    assert!(daemon.ended().success());
    File::create(&go).unwrap();
    assert_eq!(ended(late).exits(0).summary()["result"], "ran");
    assert_eq!(rows(&place).last().unwrap()["tags"], serde_json::json!(["trigger:x"]));
}
