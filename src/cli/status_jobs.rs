//! The part of `exuvia status` that this machine knows by itself: what the daemon did and will do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::error::CliError;
use super::global::Context;
use super::output::Style;
use super::status::{age, ago};
use super::{daemon as common, text, units};
use crate::clock::{Clock, SystemClock};
use crate::daemon;
use crate::daemon::job::Job;
use crate::daemon::lock::{self, Holder};
use crate::daemon::records::{JobRecord, Records};
use crate::model::Timestamp;

/// What is known without the repository.
pub(super) struct Local {
    pub(super) now: Timestamp,
    pub(super) records: Records,
    holder: Option<Holder>,
    /// The age that the newest snapshot must not exceed, where somebody counts on one.
    pub(super) promise: Option<Duration>,
}

impl Local {
    pub(super) fn look(ctx: &Context) -> Result<Self, CliError> {
        let places = common::places(ctx)?;
        let clock = SystemClock::new();
        let rules = common::settings_of(ctx, &ctx.config)?.rules;
        let records = daemon::peek(&places.folder, &rules);
        let holder = lock::holder(&places.folder, &clock);
        // Who never let the daemon run has promised nothing by its schedule.
        let scheduled = records.get(Job::Backup).is_some_and(|record| record.anchor.is_some());
        let promise = match ctx.config.health.promise {
            None if !scheduled => None,
            _ => rules.promise,
        };
        Ok(Self { now: clock.now(), records, holder, promise })
    }

    /// A run by hand settles what the daemon saw fail before: `good` is when the job last went well by other accounts.
    pub(super) fn settle(&mut self, job: Job, good: Option<Timestamp>) {
        let Some(good) = good.filter(|_| self.records.get(job).is_some()) else { return };
        let record = self.records.job(job);
        if record.last_failure.as_ref().is_none_or(|failure| failure.time < good.secs) {
            record.failures = 0;
        }
    }

    /// True when a daemon, or a trigger, has been at work here.
    pub(super) fn knows_something(&self) -> bool {
        !self.records.jobs.is_empty()
    }

    /// When the last backup that we know of ended well.
    pub(super) fn last_backup(&self) -> Option<Timestamp> {
        self.records.get(Job::Backup)?.last_success.map(Timestamp::from_secs)
    }

    pub(super) fn is_overdue(&self, newest: Option<Timestamp>) -> bool {
        match (self.promise, newest) {
            (Some(promise), Some(newest)) => age(newest, self.now) > promise.as_secs(),
            // That there is none is a problem of its own.
            _ => false,
        }
    }

    /// Jobs whose last run failed, as a word.
    pub(super) fn failed(&self) -> impl Iterator<Item = &'static str> {
        let failing = self.records.jobs.iter().filter(|(_, record)| record.failures > 0);
        failing.map(|(job, _)| match job {
            Job::Backup => "backup-failed",
            Job::Prune => "prune-failed",
            Job::Check => "check-failed",
            Job::Drill => "drill-failed",
            Job::Full => "full-failed",
        })
    }

    pub(super) fn document(&self) -> JsonLocal<'_> {
        JsonLocal {
            promise_seconds: self.promise.map(|promise| promise.as_secs()),
            daemon: self
                .holder
                .as_ref()
                .map(|holder| JsonDaemon { pid: holder.process.pid, since: rfc3339(holder.since) }),
            running: self.running().map(Job::name),
            paused: self.records.paused.as_deref(),
            raised: &self.records.alarms,
            jobs: self.records.jobs.iter().map(|(job, record)| (job.name(), json_job(record))).collect(),
        }
    }

    /// The job that runs, as long as there is somebody to run it.
    fn running(&self) -> Option<Job> {
        self.records.running.as_ref().filter(|_| self.holder.is_some())?.job
    }

    /// Lines of text, one for the daemon and one for each job.
    pub(super) fn lines(&self, ctx: &Context) -> Vec<String> {
        if !self.knows_something() && self.holder.is_none() {
            return vec!["daemon       never ran; `exuvia daemon` takes snapshots by itself".to_owned()];
        }
        let daemon = match &self.holder {
            Some(holder) => {
                let since = ago(Timestamp::from_secs(holder.since), self.now);
                format!("daemon       runs as process {}, begun {since}", holder.process.pid)
            }
            None => format!("daemon       {}", ctx.output.paint(Style::Yellow, "does not run")),
        };
        let mut lines = vec![daemon];
        if let Some(why) = &self.records.paused {
            lines.push(format!("             what is due waits: {}", text::printable(why.as_bytes())));
        }
        let jobs = self.records.jobs.iter();
        lines.extend(jobs.map(|(job, record)| format!("{:<13}{}", job.name(), self.job(ctx, *job, record))));
        lines
    }

    fn job(&self, ctx: &Context, job: Job, record: &JobRecord) -> String {
        let mut parts = Vec::new();
        if self.running() == Some(job) {
            parts.push("runs now".to_owned());
        }
        let when = |secs: i64| ago(Timestamp::from_secs(secs), self.now);
        if let Some(failure) = record.last_failure.as_ref().filter(|_| record.failures > 0) {
            let head = format!("failed {}", when(failure.time));
            let times =
                if record.failures > 1 { format!(", {} times", record.failures) } else { String::new() };
            let message = text::printable(failure.message.as_bytes());
            parts.push(format!("{}{times}: {message}", ctx.output.paint(Style::Red, &head)));
        }
        parts.push(match record.last_success {
            Some(time) => format!("good {}", when(time)),
            None => "never good".to_owned(),
        });
        if let Some(next) = record.next.filter(|_| self.holder.is_some()) {
            parts.push(format!("next {}", units::local_minutes(Timestamp::from_secs(next))));
        }
        parts.join("; ")
    }
}

/// What `--json` shows of it.
#[derive(Serialize)]
pub(super) struct JsonLocal<'a> {
    /// The age that the newest snapshot must not exceed.
    promise_seconds: Option<u64>,
    daemon: Option<JsonDaemon>,
    /// The job that runs now.
    running: Option<&'static str>,
    /// Why jobs wait that are due.
    paused: Option<&'a str>,
    /// Alarms that the daemon has raised.
    raised: &'a [String],
    jobs: BTreeMap<&'static str, JsonJob<'a>>,
}

#[derive(Serialize)]
struct JsonDaemon {
    pid: u32,
    since: String,
}

#[derive(Serialize)]
struct JsonJob<'a> {
    last_start: Option<String>,
    last_success: Option<String>,
    last_failure: Option<JsonFailure<'a>>,
    /// Since the last success.
    failures: u32,
    next: Option<String>,
    duration_ms: Option<u64>,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    time: String,
    class: &'a str,
    message: &'a str,
}

fn json_job(record: &JobRecord) -> JsonJob<'_> {
    JsonJob {
        last_start: record.last_start.map(rfc3339),
        last_success: record.last_success.map(rfc3339),
        last_failure: record.last_failure.as_ref().map(|failure| JsonFailure {
            time: rfc3339(failure.time),
            class: &failure.class,
            message: &failure.message,
        }),
        failures: record.failures,
        next: record.next.map(rfc3339),
        duration_ms: record.duration_ms,
    }
}

fn rfc3339(secs: i64) -> String {
    units::rfc3339(Timestamp::from_secs(secs))
}
