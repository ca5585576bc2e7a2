#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::clock::SystemClock;
use crate::daemon::job::{Ending, Job};
use crate::daemon::log::Style;
use crate::daemon::notes::{self, Note};
use crate::daemon::settings::tests::settings;
use crate::daemon::socket::Request;

fn parts(folder: &std::path::Path) -> Parts {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Parts {
        settings: settings(),
        reload: Box::new(|| Ok(settings())),
        places: Places { folder: folder.to_owned(), socket: folder.join("socket") },
        clock: Arc::clone(&clock),
        log: Arc::new(Log::new(Style::default(), Box::new(io::sink()), clock)),
    }
}

#[test]
fn after_a_hangup_the_moment_is_known_or_being_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, events) = bounded(QUEUE);
    let mut daemon = Daemon::start(parts(dir.path()), sender, &events).unwrap();
    daemon.look_at_conditions(1);
    daemon.handle(Event::Reload);
    assert!(daemon.moment.known);
    let pausing = || Settings { battery_pause: true, ..settings() };
    daemon.reload = Box::new(move || Ok(pausing()));
    daemon.handle(Event::Reload);
    assert!(!daemon.moment.known && daemon.moment.asking);
    let answer = events.recv().unwrap();
    daemon.handle(answer);
    assert!(daemon.moment.known);
}

#[test]
fn whoever_waits_is_answered_by_a_snapshot_taken_beside_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, events) = bounded(QUEUE);
    let mut daemon = Daemon::start(parts(dir.path()), sender, &events).unwrap();
    let fire = |daemon: &mut Daemon| {
        let (answer, answers) = bounded(1);
        daemon.answer(Request::Trigger { name: "x".into(), wait: true }, answer);
        answers
    };
    let early = fire(&mut daemon);
    let now = daemon.now();
    daemon.waiting[0].fired = now - 100;
    daemon.records.asked.insert("x".into(), now - 100);
    let late = fire(&mut daemon);
    let summary = Some(serde_json::json!({"complete": true}));
    let note = Note {
        trigger: "before-compaction".into(),
        begun: now - 50,
        ended: now - 49,
        ending: Ending::Success,
        failure: None,
        snapshot: None,
        duration_ms: None,
        alarms: Vec::new(),
        summary: summary.clone(),
    };
    notes::leave(dir.path(), &note).unwrap();
    daemon.read_notes(now);
    let response = early.try_recv().unwrap();
    assert_eq!((response.ok, response.summary), (true, summary));
    // What came after the snapshot is waited for and asked for still.
    assert!(late.try_recv().is_err());
    assert_eq!(daemon.waiting.len(), 1);
    assert!(daemon.records.asked["x"] >= now);
    assert_eq!(daemon.records.get(Job::Backup).unwrap().last_success, Some(now - 49));
}
