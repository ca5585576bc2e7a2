//! What to begin now, and when to look again: a pure function of the records, of what was asked for, of the
//! time and of the rules.
//!
//! - One job runs at a time. What was asked for from outside comes first, then what has waited longest.
//! - A schedule that passed several times while nothing could run (the machine slept, or was off) is caught up
//!   with by one run.
//! - A failed run is tried again after a minute, then two, four and so on up to an hour, so often as the rules
//!   say; from then on it waits for its schedule, like a run that did not fail.
//! - The wall clock may be set. A run that the records have in the future has happened all the same: times of
//!   the day up to it are not run again, unless the clock was put back by more than the schedule's own period,
//!   or it lies further ahead than that. Then the schedule begins anew from now. An interval always begins
//!   anew. So no job waits longer than one period more than it should.
//! - On battery, or on a network that is paid for by the byte, scheduled jobs and those of the watcher may be
//!   told to wait. A backup waits until the promised age of the newest snapshot is reached, and no longer; the
//!   other jobs wait as long as it lasts. Triggers do not wait: whoever fires one knows why.

mod jitter;
#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::job::{Ending, Job};
use super::records::{Failure, JobRecord, Records, Running};
use crate::model::{Schedule, Timestamp};

/// The first wait after a failure.
const FIRST_WAIT: i64 = 60;
/// The longest.
const LONGEST_WAIT: i64 = 3600;

/// What the configuration says about when.
#[derive(Clone, Debug)]
pub struct Rules {
    /// When each job runs.
    pub schedules: BTreeMap<Job, Schedule>,
    /// Whose clocks the schedules mean.
    pub timezone: TimeZone,
    /// A run comes up to this much later.
    pub jitter: Duration,
    /// What makes the jitter of this machine and state dir its own.
    pub seed: [u8; 32],
    /// How often a failed run is tried again.
    pub retries: u32,
    /// How long each trigger is deaf after it began a run; names that are not in it are never deaf.
    pub debounce: BTreeMap<String, Duration>,
    /// How long changes must have been quiet, and how long after the first a snapshot is taken anyway; `None`
    /// when nobody watches.
    pub watch: Option<(Duration, Duration)>,
    /// The age that the newest snapshot must not exceed; `None` when none is promised.
    pub promise: Option<Duration>,
}

/// The first and the last change that no snapshot has yet.
pub type Changes = Option<(i64, i64)>;

/// Why a job is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The schedule asks for it.
    Schedule,
    /// The last run failed.
    Retry,
    /// A trigger of this name. `late`: it was fired while it was deaf, so that only changes make a snapshot.
    Trigger {
        /// The trigger's name.
        name: String,
        /// Whether it had to wait.
        late: bool,
    },
    /// Files changed.
    Changes,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin this.
    Start(Job, Cause),
    /// Nothing is due before this time; `None` when nothing will ever be.
    Wait {
        /// When something will be due.
        until: Option<i64>,
        /// Something is due and has to wait.
        paused: bool,
    },
}

/// Brings the records in line with schedule and clock; true when they changed.
pub fn settle(rules: &Rules, records: &mut Records, now: i64) -> bool {
    // What a run in the future means is decided once, when the clock shows it for the first time.
    let back =
        records.clock.map_or(Some(0), |clock| Some(clock.saturating_sub(now)).filter(|back| *back > 0));
    records.clock = Some(now);
    let before = records.clone();
    for job in Job::ALL {
        if let Some(schedule) = rules.schedules.get(&job).filter(|schedule| **schedule != Schedule::Off) {
            settle_anchor(schedule, rules, records, job, (now, back));
        }
        if job == Job::Backup && rules.promise.is_some() {
            // A promise counts from when it was first seen, also where triggers alone make snapshots.
            let record = records.job(job);
            record.seen = record.seen.or(record.anchor).or(Some(now));
        }
        let Some(record) = records.jobs.get_mut(&job) else { continue };
        record.retry_at = record.retry_at.map(|at| at.min(now.saturating_add(LONGEST_WAIT)));
        for time in [&mut record.seen, &mut record.last_start, &mut record.last_success] {
            *time = time.map(|time| time.min(now));
        }
        if let Some(failure) = &mut record.last_failure {
            failure.time = failure.time.min(now);
        }
        let next = due(rules, records, job, now).map(|(due, _)| due.max(now));
        records.job(job).next = next;
    }
    records.triggers.values_mut().for_each(|time| *time = (*time).min(now));
    *records != before
}

/// The time from which a job's next run is counted; `back`: what the clock was put back by since it was last
/// looked at, 0 when that is not known, and nothing when it was not.
fn settle_anchor(
    schedule: &Schedule,
    rules: &Rules,
    records: &mut Records,
    job: Job,
    (now, back): (i64, Option<i64>),
) {
    let record = records.job(job);
    record.seen = record.seen.or(record.anchor).or(Some(now));
    let Some(anchor) = record.anchor else {
        (record.anchor, record.fresh) = (Some(now), true);
        return;
    };
    let ahead = anchor.saturating_sub(now);
    let Some(back) = back.filter(|_| ahead > 0) else { return };
    let period = schedule.period(Timestamp::from_secs(now), &rules.timezone).unwrap_or_default();
    if matches!(schedule, Schedule::Every(_)) || ahead.max(back).unsigned_abs() > period.as_secs() {
        record.anchor = Some(now);
    }
}

/// When a job is due, and why.
fn due(rules: &Rules, records: &Records, job: Job, now: i64) -> Option<(i64, Cause)> {
    let record = records.get(job)?;
    let slot = scheduled(rules, record, job).map(|slot| (slot, Cause::Schedule));
    let retry = record.retry_at.map(|at| (at, Cause::Retry));
    // When both are due, the schedule's run is the one that counts.
    let passed = slot.clone().filter(|(at, _)| *at <= now);
    passed.or_else(|| slot.into_iter().chain(retry).min_by_key(|(at, _)| *at))
}

/// The next time that the schedule asks for a job.
fn scheduled(rules: &Rules, record: &JobRecord, job: Job) -> Option<i64> {
    let schedule = rules.schedules.get(&job).filter(|schedule| **schedule != Schedule::Off)?;
    let anchor = record.anchor?;
    // A state dir that nobody has a snapshot of does not wait for its time.
    if job == Job::Backup && record.fresh && record.last_success.is_none() {
        return Some(anchor);
    }
    let slot = schedule.next_after(Timestamp::from_secs(anchor), &rules.timezone)?.secs;
    Some(slot.saturating_add(jitter::of(rules, job, slot)))
}

/// Decides. The records must have been settled.
#[must_use]
pub fn decide(rules: &Rules, records: &Records, changes: Changes, hold: bool, now: i64) -> Step {
    let mut wake: Option<i64> = None;
    let mut later = |at: i64| wake = Some(wake.map_or(at, |wake| wake.min(at)));
    let mut paused = false;

    let triggers = records.asked.iter().map(|(name, asked)| {
        let deaf = rules.debounce.get(name).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
        let free = records.triggers.get(name).map_or(i64::MIN, |last| last.saturating_add(deaf));
        // A clock that was put back asks nobody to wait longer.
        ((*asked).min(now).max(free), free > *asked, name)
    });
    let triggers: Vec<_> = triggers.collect();
    // One that makes a snapshot in any case takes along those that only changes make one for.
    let ready = triggers.iter().filter(|(at, ..)| *at <= now).min_by_key(|(at, late, name)| (late, at, name));
    if let Some((_, late, name)) = ready {
        return Step::Start(Job::Backup, Cause::Trigger { name: (*name).clone(), late: *late });
    }
    triggers.iter().for_each(|(at, ..)| later(*at));

    let held_until = |job: Job| match (hold, job, rules.promise) {
        (false, ..) => None,
        (true, Job::Backup, Some(promise)) => {
            let newest = records.get(job).and_then(JobRecord::counts_from).unwrap_or(now);
            Some(newest.saturating_add_unsigned(promise.as_secs()))
        }
        _ => Some(i64::MAX),
    };
    let mut ready: Vec<(i64, Job, Cause)> = Vec::new();
    let mut consider = |at: i64, job: Job, cause: Cause| {
        let start = held_until(job).map_or(at, |held| held.max(at));
        if start <= now {
            ready.push((at, job, cause));
        } else {
            paused |= at <= now;
            later(start);
        }
    };
    for job in Job::ALL {
        if let Some((at, cause)) = due(rules, records, job, now) {
            consider(at, job, cause);
        }
    }
    if let (Some((quiet, most)), Some((first, last))) = (rules.watch, changes) {
        let at =
            last.saturating_add_unsigned(quiet.as_secs()).min(first.saturating_add_unsigned(most.as_secs()));
        // Times of before the clock was put back lie ahead; the longest wait holds all the same.
        consider(at.min(now.saturating_add_unsigned(most.as_secs())), Job::Backup, Cause::Changes);
    }
    match ready.into_iter().min_by_key(|(at, job, _)| (*at, *job)) {
        Some((_, job, cause)) => Step::Start(job, cause),
        None => Step::Wait { until: wake.filter(|at| *at < i64::MAX), paused },
    }
}

/// Writes down that a job begins. What it will take care of waits no more: one snapshot is enough for all
/// triggers that were fired before it began.
pub fn begin(records: &mut Records, changes: &mut Changes, job: Job, cause: &Cause, now: i64) {
    let record = records.job(job);
    record.last_start = Some(now);
    record.retry_at = None;
    if *cause == Cause::Schedule {
        // A run of before the clock was put back stays the one that the schedule counts from.
        record.anchor = Some(record.anchor.map_or(now, |anchor| anchor.max(now)));
        (record.fresh, record.attempts) = (false, 0);
    }
    let mut triggers = Vec::new();
    if job == Job::Backup {
        *changes = None;
        triggers.extend(std::mem::take(&mut records.asked).into_keys());
    }
    if let Cause::Trigger { name, .. } = cause
        && !triggers.contains(name)
    {
        triggers.push(name.clone());
    }
    triggers.iter().for_each(|name| records.triggered(name, now));
    records.running = Some(Running { job: Some(job), triggers, process: None });
}

/// Writes down how the job ended that runs. A trigger that got no snapshot is not deaf; one whose run was cut off
/// is run again.
pub fn end(
    rules: &Rules,
    records: &mut Records,
    job: Job,
    ending: Ending,
    failure: Option<Failure>,
    now: i64,
) {
    let running = records.running.take().filter(|running| running.job == Some(job));
    for name in running.filter(|_| !ending.is_good()).into_iter().flat_map(|running| running.triggers) {
        records.triggers.remove(&name);
        if ending == Ending::Stopped {
            records.asked.insert(name, now);
        }
    }
    let record = records.job(job);
    match ending {
        Ending::Success | Ending::Incomplete => {
            record.last_success = Some(now);
            (record.failures, record.attempts, record.retry_at) = (0, 0, None);
        }
        // It was none of its fault: it begins anew with us.
        Ending::Stopped => record.retry_at = Some(now),
        Ending::Failed => {
            record.last_failure = failure;
            record.failures = record.failures.saturating_add(1);
            record.attempts = record.attempts.saturating_add(1);
            let again = record.attempts <= rules.retries;
            record.retry_at = again.then(|| now.saturating_add(wait_after(record.attempts)));
        }
    }
}

/// Seconds until the next try after so many failures.
fn wait_after(failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(6);
    (FIRST_WAIT << doublings).min(LONGEST_WAIT)
}
