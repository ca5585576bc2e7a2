//! What is not well, by the words of `status`, and the user's command that is told of it once.

use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::job::Job;
use super::log::{Level, Log};
use super::notify::Hook;
use super::records::Records;
use super::settings::Settings;
use crate::clock::Clock;

/// What only a backup can tell; it stands until the next one that ends well.
pub(super) const BY_BACKUP: [&str; 2] = ["shrunk", "vanished"];

/// What became of the list of alarms.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Raised {
    /// Those that were not raised before.
    pub(super) fresh: Vec<String>,
    /// The list is another one than before.
    pub(super) changed: bool,
}

/// Brings the alarms in the records up to date; `told` is what a backup said that just ended well.
pub(super) fn raise(
    settings: &Settings,
    records: &mut Records,
    log: &Log,
    told: Option<&[String]>,
    now: i64,
) -> Raised {
    let alarms = find(settings, records, told, now);
    let fresh: Vec<_> = alarms.iter().filter(|alarm| !records.alarms.contains(alarm)).cloned().collect();
    let changed = alarms != records.alarms;
    records.alarms = alarms;
    for alarm in &fresh {
        log.event(Level::Error, "alarm", &[("alarm", alarm.clone().into())], &format!("alarm: {alarm}"));
    }
    Raised { fresh, changed }
}

/// Has the user's command tell of an alarm, and waits for its end.
pub(super) fn tell(settings: &Settings, alarm: &str, clock: &dyn Clock, log: &Log) {
    let Some(command) = &settings.notices.on_alarm else { return };
    let document = json!({
        "type": "alarm",
        "alarm": alarm,
        "state_dir": settings.state_dir.to_string_lossy(),
    });
    let variables = [("EXUVIA_ALARM", alarm)];
    let input = format!("{document}\n").into_bytes();
    let hook = Hook {
        key: "health.on_alarm",
        command: command.expose(),
        timeout: settings.notices.timeout,
        variables: &variables,
        input: &input,
    };
    // An alarm is told once, so that nothing but its own limit cuts it off.
    hook.run_and_tell(&AtomicBool::new(false), clock, log);
}

fn find(settings: &Settings, records: &Records, told: Option<&[String]>, now: i64) -> Vec<String> {
    let mut found = Vec::new();
    if overdue(settings, records, now) {
        found.push("overdue".to_owned());
    }
    for (job, name) in [(Job::Drill, "drill-failed"), (Job::Check, "check-failed")] {
        let failed =
            records.get(job).and_then(|record| record.last_failure.as_ref().map(|f| (f, record.failures)));
        if failed.is_some_and(|(failure, failures)| failures > 0 && failure.class == "damaged") {
            found.push(name.to_owned());
        }
    }
    let told = told.unwrap_or(&records.alarms);
    found.extend(told.iter().filter(|alarm| BY_BACKUP.contains(&alarm.as_str())).cloned());
    found
}

/// True when the newest snapshot is older than was promised, or there never was one in all that time.
fn overdue(settings: &Settings, records: &Records, now: i64) -> bool {
    let (Some(promise), Some(record)) = (settings.rules.promise, records.get(Job::Backup)) else {
        return false;
    };
    let since = record.counts_from().unwrap_or(now);
    now.saturating_sub(since) > i64::try_from(promise.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::daemon::job::Ending;
    use crate::daemon::log::Style;
    use crate::daemon::plan::{self, Cause, Step};
    use crate::daemon::records::Failure;
    use crate::daemon::settings::tests::settings;

    fn log() -> Log {
        Log::new(Style::default(), Box::new(std::io::sink()), Arc::new(SystemClock::new()))
    }

    #[test]
    fn who_never_had_a_snapshot_is_told_when_the_promise_is_broken() {
        let mut settings = settings();
        settings.rules = plan::tests::rules(&[(Job::Backup, "1h")], "UTC");
        settings.rules.promise = Some(Duration::from_secs(7_800));
        let (mut records, mut raised) = (Records::default(), Vec::new());
        for minute in 0..180 {
            let now = 1_000_000 + minute * 60;
            plan::settle(&settings.rules, &mut records, now);
            if let Step::Start(job, cause) = plan::decide(&settings.rules, &records, None, false, now) {
                assert!(matches!(cause, Cause::Schedule | Cause::Retry));
                plan::begin(&mut records, &mut None, job, &cause, now);
                let failure = Some(Failure::new(now, "failed", "no"));
                plan::end(&settings.rules, &mut records, job, Ending::Failed, failure, now);
            }
            let fresh = raise(&settings, &mut records, &log(), None, now).fresh;
            raised.extend(fresh.into_iter().map(|alarm| (alarm, minute)));
        }
        assert_eq!(raised, [("overdue".to_owned(), 131)]);
    }

    #[test]
    fn a_promise_without_a_schedule_is_broken_too() {
        let mut settings = settings();
        settings.rules.promise = Some(Duration::from_secs(3_600));
        let mut records = Records::default();
        let mut at = |now: i64| {
            plan::settle(&settings.rules, &mut records, now);
            raise(&settings, &mut records, &log(), None, now).fresh
        };
        assert_eq!(at(1_000_000), [""; 0]);
        assert_eq!(at(1_003_600), [""; 0]);
        assert_eq!(at(1_003_601), ["overdue"]);
    }

    #[test]
    fn what_a_backup_told_stands_until_the_next_good_one() {
        let (settings, mut records) = (settings(), Records::default());
        let told = ["shrunk".to_owned(), "overdue".to_owned(), "anything".to_owned()];
        let raised = raise(&settings, &mut records, &log(), Some(&told), 1);
        assert_eq!(raised, Raised { fresh: vec!["shrunk".into()], changed: true });
        let raised = raise(&settings, &mut records, &log(), None, 2);
        assert_eq!(raised, Raised { fresh: vec![], changed: false });
        let raised = raise(&settings, &mut records, &log(), Some(&[]), 3);
        assert_eq!((raised, records.alarms), (Raised { fresh: vec![], changed: true }, vec![]));
    }
}
