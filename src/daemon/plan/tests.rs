#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

pub(crate) fn rules(schedules: &[(Job, &str)], zone: &str) -> Rules {
    Rules {
        schedules: schedules.iter().map(|(job, text)| (*job, text.parse().unwrap())).collect(),
        timezone: TimeZone::get(zone).unwrap(),
        jitter: Duration::ZERO,
        seed: [7; 32],
        retries: 3,
        debounce: BTreeMap::from([("before-compaction".into(), Duration::from_secs(300))]),
        watch: None,
        promise: None,
    }
}

pub(crate) fn secs(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// A scheduler whose jobs end at once.
struct Desk {
    rules: Rules,
    records: Records,
    changes: Changes,
    hold: bool,
}

impl Desk {
    fn new(rules: Rules) -> Self {
        Self { rules, records: Records::default(), changes: None, hold: false }
    }

    fn step(&mut self, now: i64) -> Step {
        settle(&self.rules, &mut self.records, now);
        decide(&self.rules, &self.records, self.changes, self.hold, now)
    }

    /// Runs all that is due.
    #[track_caller]
    fn runs(&mut self, now: i64, ending: Ending) -> Vec<(Job, Cause)> {
        let mut found = Vec::new();
        while let Step::Start(job, cause) = self.step(now) {
            begin(&mut self.records, &mut self.changes, job, &cause, now);
            let failure = (ending == Ending::Failed).then(|| Failure::new(now, "failed", "x"));
            end(&self.rules, &mut self.records, job, ending, failure, now);
            found.push((job, cause));
            assert!(found.len() < 20, "it does not end: {found:?}");
        }
        found
    }

    fn until(&mut self, now: i64) -> Option<i64> {
        match self.step(now) {
            Step::Wait { until, .. } => until,
            other => panic!("{other:?}"),
        }
    }

    fn trigger(&mut self, name: &str, now: i64) {
        self.records.asked.entry(name.to_owned()).or_insert(now);
    }
}

fn trigger(name: &str, late: bool) -> (Job, Cause) {
    (Job::Backup, Cause::Trigger { name: name.into(), late })
}

const GOOD: Ending = Ending::Success;

#[test]
fn the_first_backup_is_taken_at_once_and_the_rest_in_its_time() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(
        &[(Job::Backup, "1h"), (Job::Prune, "daily 13:00"), (Job::Check, "2h"), (Job::Drill, "off")],
        "UTC",
    ));
    assert_eq!(desk.runs(t, GOOD), [(Job::Backup, Cause::Schedule)]);
    assert_eq!(desk.until(t), Some(t + HOUR));
    // What is due together runs in the order of the list.
    let both = [(Job::Backup, Cause::Schedule), (Job::Prune, Cause::Schedule)];
    assert_eq!(desk.runs(t + HOUR, GOOD), both);
    // What waited longest comes first.
    let late = desk.runs(t + 3 * HOUR + 10, GOOD);
    assert_eq!(late, [(Job::Backup, Cause::Schedule), (Job::Check, Cause::Schedule)]);
    assert_eq!(desk.records.get(Job::Prune).unwrap().next, Some(secs("2026-05-02T13:00:00Z")));
    assert_eq!(desk.records.get(Job::Drill), None);

    // Missed many times, caught up with once.
    let week = t + 7 * DAY + 90;
    assert_eq!(desk.runs(week, GOOD).len(), 3);
    assert_eq!(desk.records.get(Job::Backup).unwrap().last_start, Some(week));
    assert_eq!(desk.until(week), Some(secs("2026-05-08T13:00:00Z")));
    // Taken out of the schedule.
    desk.rules.schedules.insert(Job::Backup, Schedule::Off);
    desk.rules.schedules.insert(Job::Prune, Schedule::Off);
    assert_eq!(desk.until(week), Some(week + 2 * HOUR));
    assert_eq!(desk.records.get(Job::Backup).unwrap().next, None);
}

#[test]
fn failures_are_tried_again_with_longer_and_longer_waits() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(&[(Job::Backup, "daily 12:00")], "UTC"));
    let mut at = t;
    assert_eq!(desk.runs(at, Ending::Failed), [(Job::Backup, Cause::Schedule)]);
    for wait in [60, 120, 240] {
        assert_eq!(desk.until(at + 1), Some(at + wait), "{wait}");
        at += wait;
        assert_eq!(desk.runs(at, Ending::Failed), [(Job::Backup, Cause::Retry)], "{wait}");
    }
    assert_eq!(desk.records.get(Job::Backup).unwrap().failures, 4);
    // Enough: from now on it waits for its time.
    assert_eq!(desk.until(at), Some(t + DAY));
    assert_eq!(desk.runs(t + DAY, Ending::Failed), [(Job::Backup, Cause::Schedule)]);
    assert_eq!(desk.runs(t + DAY + 60, GOOD), [(Job::Backup, Cause::Retry)]);
    let record = desk.records.get(Job::Backup).unwrap();
    assert_eq!((record.failures, record.attempts, record.retry_at), (0, 0, None));
    assert_eq!(record.last_failure.as_ref().unwrap().time, t + DAY);
    assert_eq!(wait_after(7), HOUR);
    assert_eq!(wait_after(u32::MAX), HOUR);
    // One that was stopped begins anew when we do, and is no failure.
    desk.runs(t + 2 * DAY, Ending::Failed);
    let mut desk = Desk::new(rules(&[(Job::Backup, "1h")], "UTC"));
    settle(&desk.rules, &mut desk.records, t);
    begin(&mut desk.records, &mut desk.changes, Job::Backup, &Cause::Schedule, t);
    end(&desk.rules, &mut desk.records, Job::Backup, Ending::Stopped, None, t + 2);
    assert_eq!(desk.runs(t + 5, GOOD), [(Job::Backup, Cause::Retry)]);
    assert_eq!(desk.records.get(Job::Backup).unwrap().last_failure, None);
}

#[test]
fn a_schedule_that_is_due_takes_the_place_of_a_retry() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(&[(Job::Backup, "60")], "UTC"));
    desk.runs(t, Ending::Failed);
    desk.runs(t + 60, Ending::Failed);
    // Both are overdue after a sleep: one run.
    assert_eq!(desk.runs(t + DAY, GOOD), [(Job::Backup, Cause::Schedule)]);
    // Also where the retry has waited longer.
    let mut desk = Desk::new(rules(&[(Job::Backup, "1h")], "UTC"));
    desk.runs(t, Ending::Failed);
    assert_eq!(desk.runs(t + DAY, GOOD), [(Job::Backup, Cause::Schedule)]);
}

#[test]
fn triggers_are_deaf_for_a_while_and_lose_nothing() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(&[(Job::Backup, "1d")], "UTC"));
    desk.runs(t - HOUR, GOOD);
    desk.trigger("before-compaction", t);
    assert_eq!(desk.runs(t, GOOD), [trigger("before-compaction", false)]);
    // 99 more in the next minute: one run, at the end of the five minutes, and only if something changed.
    for n in 0..99 {
        desk.trigger("before-compaction", t + n * 60 / 99);
    }
    assert_eq!(desk.until(t + 60), Some(t + 300));
    assert_eq!(desk.runs(t + 299, GOOD), []);
    assert_eq!(desk.runs(t + 300, GOOD), [trigger("before-compaction", true)]);
    assert_eq!(desk.runs(t + 4_000, GOOD), []);
    // Another name has ears of its own, and none of these is deaf.
    for at in [t + 301, t + 302] {
        desk.trigger("gateway-stop", at);
        assert_eq!(desk.runs(at, GOOD), [trigger("gateway-stop", false)]);
    }
    // Triggers come before the schedule, and leave it as it is.
    desk.trigger("x", t + DAY);
    assert_eq!(desk.runs(t + DAY, GOOD), [trigger("x", false), (Job::Backup, Cause::Schedule)]);
    // A clock that is put back makes nobody wait longer than the five minutes.
    desk.trigger("before-compaction", t + DAY);
    assert_eq!(desk.runs(t + DAY, GOOD).len(), 1);
    desk.trigger("before-compaction", t - DAY);
    assert_eq!(desk.until(t - DAY), Some(t - DAY + 300));
    desk.records.asked.clear();
    desk.trigger("y", t + 9 * DAY);
    assert_eq!(desk.runs(t, GOOD)[0], trigger("y", false));
}

#[test]
fn a_trigger_that_got_no_snapshot_is_not_deaf() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(&[], "UTC"));
    for (at, ending) in [(t, Ending::Failed), (t + 1, Ending::Success)] {
        desk.trigger("before-compaction", at);
        let first = trigger("before-compaction", false);
        assert_eq!(desk.runs(at, ending).first(), Some(&first), "{at}");
    }
    // A run that is cut off is asked for again, and so are all that it was done for.
    let later = t + HOUR;
    desk.trigger("x", later);
    desk.trigger("before-compaction", later);
    let Step::Start(job, cause) = desk.step(later) else { panic!() };
    begin(&mut desk.records, &mut desk.changes, job, &cause, later);
    assert!(desk.records.asked.is_empty());
    assert_eq!(desk.records.running.as_ref().unwrap().triggers, ["before-compaction", "x"]);
    end(&desk.rules, &mut desk.records, job, Ending::Stopped, None, later + 1);
    assert_eq!(desk.records.asked.len(), 2);
    assert_eq!(desk.runs(later + 2, GOOD), [trigger("before-compaction", false)]);
}

#[test]
fn one_snapshot_is_enough_for_all_that_was_fired_before_it() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(&[(Job::Backup, "1h")], "UTC"));
    for name in ["x", "y", "before-compaction"] {
        desk.trigger(name, t);
    }
    assert_eq!(desk.runs(t, GOOD), [trigger("before-compaction", false)]);
    // A trigger that is deaf needs no run of its own when another makes a snapshot meanwhile.
    desk.trigger("before-compaction", t + 60);
    desk.trigger("x", t + 100);
    assert_eq!(desk.runs(t + 100, GOOD), [trigger("x", false)]);
    assert_eq!(desk.runs(t + 400, GOOD), []);
    // Of several, one that is not deaf is the cause: with changes or without, there is a snapshot.
    desk.trigger("before-compaction", t + 500);
    desk.runs(t + 500, GOOD);
    desk.trigger("before-compaction", t + 510);
    desk.trigger("x", t + 900);
    assert_eq!(desk.runs(t + 900, GOOD), [trigger("x", false)]);
}

#[test]
fn changes_make_a_snapshot_when_they_are_quiet_or_have_gone_on_long_enough() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(&[(Job::Backup, "1d")], "UTC"));
    desk.rules.watch = Some((Duration::from_secs(30), Duration::from_secs(600)));
    desk.runs(t, GOOD);
    desk.changes = Some((t + 10, t + 10));
    assert_eq!(desk.until(t + 11), Some(t + 40));
    desk.changes = Some((t + 10, t + 35));
    assert_eq!(desk.until(t + 40), Some(t + 65));
    assert_eq!(desk.runs(t + 65, GOOD), [(Job::Backup, Cause::Changes)]);
    assert_eq!(desk.changes, None);
    desk.changes = Some((t + 100, t + 695));
    assert_eq!(desk.until(t + 699), Some(t + 700));
    assert_eq!(desk.runs(t + 700, GOOD), [(Job::Backup, Cause::Changes)]);
    // Any snapshot takes the changes along.
    desk.changes = Some((t + 800, t + 800));
    desk.trigger("x", t + 801);
    assert_eq!(desk.runs(t + 801, GOOD).len(), 1);
    assert_eq!(desk.changes, None);
    // The clock was put back by a year.
    desk.changes = Some((t + 900, t + 900));
    assert_eq!(desk.until(t - 365 * DAY), Some(t - 365 * DAY + 600));
}

#[test]
fn on_battery_jobs_wait_but_the_promise_is_kept() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut desk = Desk::new(rules(&[(Job::Backup, "1h"), (Job::Check, "2h")], "UTC"));
    desk.rules.promise = Some(Duration::from_secs(7_800));
    desk.runs(t, GOOD);
    desk.hold = true;
    assert_eq!(desk.step(t + 10), Step::Wait { until: Some(t + 7_800), paused: false });
    assert_eq!(desk.step(t + HOUR), Step::Wait { until: Some(t + 7_800), paused: true });
    assert_eq!(desk.runs(t + 7_800, GOOD), [(Job::Backup, Cause::Schedule)]);
    // Triggers know why they were fired.
    desk.trigger("x", t + 7_900);
    assert_eq!(desk.runs(t + 7_900, GOOD), [trigger("x", false)]);
    desk.hold = false;
    assert_eq!(desk.runs(t + 7_950, GOOD), [(Job::Check, Cause::Schedule)]);
}

#[test]
fn a_clock_that_is_set_neither_repeats_nor_blocks() {
    let t = secs("2026-05-01T12:00:00Z");
    // Back by an hour, over the time of a daily job: it ran.
    let mut desk = Desk::new(rules(&[(Job::Backup, "daily 12:00")], "UTC"));
    desk.runs(t, GOOD);
    assert_eq!(desk.runs(t - HOUR, GOOD), []);
    assert_eq!(desk.runs(t, GOOD), []);
    assert_eq!(desk.runs(t + DAY, GOOD), [(Job::Backup, Cause::Schedule)]);
    // Forward by two years and back: as if it had not been.
    let far = t + 730 * DAY;
    assert_eq!(desk.runs(far, GOOD), [(Job::Backup, Cause::Schedule)]);
    assert_eq!(desk.until(t + DAY + 60), Some(t + 2 * DAY));
    assert_eq!(desk.records.get(Job::Backup).unwrap().last_success, Some(t + DAY + 60));

    // An interval begins anew.
    let mut desk = Desk::new(rules(&[(Job::Backup, "1h")], "UTC"));
    desk.runs(t, GOOD);
    for back in [60, HOUR, 10 * DAY] {
        assert_eq!(desk.runs(t - back, GOOD), [], "{back}");
        assert_eq!(desk.until(t - back + 5), Some(t - back + HOUR), "{back}");
        desk.runs(t, GOOD);
        desk.runs(t + HOUR, GOOD);
        desk.records = Records::default();
        desk.runs(t, GOOD);
    }
    // A retry that lies in what is the future now.
    desk.runs(t + HOUR, Ending::Failed);
    assert_eq!(desk.until(t - 9 * DAY), Some(t - 9 * DAY + HOUR));
}

#[test]
fn jitter_is_the_same_for_the_same_run_and_within_its_bounds() {
    let t = secs("2026-05-01T12:00:00Z");
    let mut rules = rules(&[(Job::Backup, "daily 03:00")], "UTC");
    rules.jitter = Duration::from_secs(600);
    let spread: Vec<i64> = (0..200).map(|n| jitter::of(&rules, Job::Backup, t + n * DAY)).collect();
    assert!(spread.iter().all(|late| (0..=600).contains(late)));
    let mut several = spread.clone();
    several.sort_unstable();
    several.dedup();
    assert!(several.len() > 100, "{several:?}");
    let again: Vec<i64> = (0..200).map(|n| jitter::of(&rules, Job::Backup, t + n * DAY)).collect();
    assert_eq!(spread, again);
    let mut desk = Desk::new(rules);
    desk.runs(t, GOOD);
    let slot = secs("2026-05-02T03:00:00Z");
    let late = jitter::of(&desk.rules, Job::Backup, slot);
    assert_eq!(desk.until(slot - 1), Some(slot + late));
    assert_eq!(desk.runs(slot + late, GOOD).len(), 1);
    let next = jitter::of(&desk.rules, Job::Backup, slot + DAY);
    assert_eq!(desk.until(slot + late + 1), Some(slot + DAY + next));
}
