//! `status`, in each state that the backups of a state dir can be in.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use exuvia::app::{self, BackupRequest, Location, Passphrase, Session};
use exuvia::clock::{Clock, SystemClock};
use exuvia::model::Timestamp;
use exuvia::report::Silent;
use serde_json::{Value, json};

use crate::daemon::{Daemon, QUIET, configure, records, with_config};
use crate::support::{PASSPHRASE, Place, files, until};

#[track_caller]
fn status(place: &Place, problems: &[&str]) -> Value {
    let code = if problems.is_empty() { 0 } else { 1 };
    let document = place.run(&["--json", "status"]).exits(code).summary();
    assert_eq!(
        (&document["problems"], &document["healthy"]),
        (&json!(problems), &json!(code == 0)),
        "{document}"
    );
    place.run(&["status"]).exits(code);
    document
}

#[test]
fn never_ran() {
    let place = with_config(QUIET);
    let document = status(&place, &["never-backed-up"]);
    assert_eq!((&document["jobs"], &document["daemon"]), (&json!({}), &Value::Null));
    assert_eq!((&document["newest"], &document["promise_seconds"]), (&Value::Null, &Value::Null));
    assert!(place.run(&["status"]).exits(1).text().contains("never ran"));
}

#[test]
fn healthy() {
    let place = with_config(QUIET);
    let daemon = Daemon::start(&place);
    until("the record", || {
        records(&place)
            .is_some_and(|r| r["jobs"]["backup"]["last_success"].is_i64() && r["running"].is_null())
    });
    let document = status(&place, &[]);
    let backup = &document["jobs"]["backup"];
    assert!(backup["last_success"].is_string() && backup["next"].is_string(), "{document}");
    assert_eq!((&backup["failures"], &backup["last_failure"]), (&0.into(), &Value::Null));
    assert_eq!((&document["reachable"], &document["promise_seconds"]), (&true.into(), &7_800.into()));
    assert_eq!((&document["newest"]["files"], &document["newest"]["bytes"]), (&1.into(), &1.into()));
    assert_eq!(document["week"]["snapshots"], 1);
    assert!(document["daemon"]["pid"].is_u64());
    let text = place.run(&["status"]).exits(0);
    for words in ["daemon       runs as process", "promise      kept", "backup       good", "next "] {
        assert!(text.text().contains(words), "{words}: {}", text.text());
    }
    daemon.stop();
    let document = status(&place, &[]);
    assert_eq!(document["daemon"], Value::Null);
}

/// The clock of three days ago.
struct Yore(SystemClock);

impl Clock for Yore {
    fn now(&self) -> Timestamp {
        let now = self.0.now();
        Timestamp { secs: now.secs - 3 * 86_400, ..now }
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

#[test]
fn overdue() {
    let place = with_config(QUIET);
    let session = Session {
        repository: Location::Local(place.path("repo")),
        passphrase: Passphrase::new(PASSPHRASE.as_bytes().to_vec()),
        cache_dir: place.path("home/.cache/exuvia"),
        key_cache: false,
        monitor: Arc::new(Silent),
        clock: Arc::new(Yore(SystemClock::new())),
        threads: 1,
    };
    let root = place.path("state").canonicalize().unwrap();
    let request = BackupRequest::new(root);
    app::backup(&session, &request).unwrap();
    // Nobody promised anything.
    status(&place, &[]);
    configure(&place, &format!("{QUIET}[health]\npromise = \"71h\"\n"));
    let document = status(&place, &["overdue"]);
    assert!(document["newest"]["age_seconds"].as_u64().unwrap() > 71 * 3_600);
    assert!(place.run(&["status"]).exits(1).text().contains("promise      overdue"));
    configure(&place, &format!("{QUIET}[health]\npromise = \"80h\"\n"));
    status(&place, &[]);
    // What the daemon does about it: a backup, and all is well.
    configure(&place, &format!("{QUIET}[health]\npromise = \"71h\"\n"));
    place.run(&["daemon", "--once"]).exits(0);
    status(&place, &[]);
}

#[test]
fn last_failed() {
    let place = with_config(QUIET);
    place.run(&["daemon", "--once"]).exits(0);
    status(&place, &[]);
    let mut command = place.command(&["trigger", "x"]);
    assert_eq!(command.env("EXUVIA_PASSPHRASE", "wrong").output().unwrap().status.code(), Some(12));
    let document = status(&place, &["backup-failed"]);
    let backup = &document["jobs"]["backup"];
    assert_eq!((&backup["failures"], &backup["last_failure"]["class"]), (&1.into(), &"wrong-key".into()));
    assert!(backup["last_success"].is_string());
    let text = place.run(&["status"]).exits(1);
    assert!(text.text().contains("backup       failed"), "{}", text.text());
    place.run(&["trigger", "x"]).exits(0);
    let document = status(&place, &[]);
    // It is remembered all the same.
    assert!(document["jobs"]["backup"]["last_failure"].is_object());
}

#[test]
fn remote_gone() {
    let place = with_config(QUIET);
    place.run(&["daemon", "--once"]).exits(0);
    let id = place.snapshots()[0].clone();
    fs::rename(place.path("repo"), place.path("unmounted")).unwrap();
    let document = status(&place, &["unreachable"]);
    assert_eq!((&document["reachable"], &document["newest"]["id"]), (&false.into(), &id.into()));
    assert_eq!(document["error"]["class"], "no-repository");
    assert!(document["newest"]["age_seconds"].is_u64());
    let text = place.run(&["status"]).exits(1);
    assert!(
        text.text().contains("cannot be reached") && text.text().contains("as far as this machine knows")
    );
    // The next backup fails, and that is told too.
    place.run(&["trigger", "x"]).exits(10);
    status(&place, &["unreachable", "backup-failed"]);
    fs::rename(place.path("unmounted"), place.path("repo")).unwrap();
    status(&place, &["backup-failed"]);
    place.run(&["trigger", "x"]).exits(0);
    status(&place, &[]);
    // Who never had one there has given a wrong name.
    place.run(&["--state-dir", "/", "--repo", "nowhere", "status"]).exits(10);
}

#[test]
fn drill_failed() {
    let mut place = with_config(&format!("{QUIET}[health]\non_alarm = \"cat >> alarms\"\n"));
    place.run(&["daemon", "--once"]).exits(0);
    let pack = files(&place.path("repo/packs")).into_keys().next().unwrap();
    let sound = fs::read(&pack).unwrap();
    let file = File::options().write(true).open(&pack).unwrap();
    let middle = sound.len() / 3;
    file.write_all_at(&[!sound[middle]; 8], middle as u64).unwrap();
    place.set("EXUVIA_TEST_INTERVALS", "drill=1");
    let mut daemon = Daemon::start(&place);
    daemon.says("drill: failed", 1);
    daemon.says("alarm: drill-failed", 1);
    until("the alarm", || fs::read_to_string(place.path("alarms")).is_ok_and(|text| text.ends_with('\n')));
    daemon.stop();
    let alarm: Value =
        serde_json::from_str(fs::read_to_string(place.path("alarms")).unwrap().lines().next().unwrap())
            .unwrap();
    assert_eq!((&alarm["type"], &alarm["alarm"]), (&"alarm".into(), &"drill-failed".into()));
    let document = status(&place, &["drill-failed"]);
    assert_eq!(document["jobs"]["drill"]["last_failure"]["class"], "damaged", "{document}");
    assert_eq!(document["raised"], json!(["drill-failed"]));

    fs::write(&pack, &sound).unwrap();
    let mut daemon = Daemon::start(&place);
    daemon.says("drill: success", 1);
    daemon.stop();
    status(&place, &[]);
    assert_eq!(records(&place).unwrap()["alarms"], json!([]));
}

/// What failed, failed some time ago.
fn long_ago(place: &Place, job: &str) {
    let home = place.path("home/.local/state/exuvia");
    let path = files(&home).into_keys().find(|path| path.ends_with("jobs.json")).unwrap();
    let mut records = records(place).unwrap();
    let time = &mut records["jobs"][job]["last_failure"]["time"];
    *time = (time.as_i64().unwrap() - 60).into();
    fs::write(path, records.to_string()).unwrap();
}

#[test]
fn a_good_run_by_hand_settles_what_failed_before() {
    let mut place = with_config(QUIET);
    let mut command = place.command(&["trigger", "x"]);
    assert_eq!(command.env("EXUVIA_PASSPHRASE", "wrong").output().unwrap().status.code(), Some(12));
    status(&place, &["never-backed-up", "backup-failed"]);
    long_ago(&place, "backup");
    place.run(&["backup"]).exits(0);
    status(&place, &[]);

    let pack = files(&place.path("repo/packs")).into_keys().next().unwrap();
    let sound = fs::read(&pack).unwrap();
    let mut broken = sound.clone();
    let middle = sound.len() / 3;
    broken[middle..middle + 8].fill(!sound[middle]);
    fs::write(&pack, &broken).unwrap();
    place.set("EXUVIA_TEST_INTERVALS", "drill=1");
    let mut daemon = Daemon::start(&place);
    daemon.says("drill: failed", 1);
    daemon.stop();
    status(&place, &["drill-failed"]);
    fs::write(&pack, &sound).unwrap();
    long_ago(&place, "drill");
    place.run(&["drill"]).exits(0);
    status(&place, &[]);
    // One that fails after it counts again.
    fs::write(&pack, &broken).unwrap();
    place.run(&["drill"]).exits(13);
    status(&place, &["drill-failed"]);
}
