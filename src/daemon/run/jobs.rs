//! What the daemon does itself: jobs, and the restore before everything else.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::triggers::Waiting;
use super::{Daemon, Event};
use crate::daemon::account::account;
use crate::daemon::alarms;
use crate::daemon::job::{Ending, Job};
use crate::daemon::lock::JobLock;
use crate::daemon::log::Level;
use crate::daemon::plan::{self, Cause};
use crate::daemon::worker::{self, Order, Report, cause_name};
use crate::fs::Process;

/// The longest wait before a failed auto-restore is tried again, in seconds.
const RESTORE_WAIT: i64 = 3_600;

/// A job that runs, and who waits for it.
pub(super) struct Current {
    pub(super) job: Job,
    cause: Cause,
    pub(super) stop: Arc<AtomicBool>,
    waiting: Vec<Waiting>,
    _lock: JobLock,
}

/// Where the restore before everything else stands.
pub(super) enum Restore {
    /// It is to be tried at this time, after so many failures.
    Due(i64, u32),
    /// It is being tried.
    Runs(u32, Arc<AtomicBool>),
    Done,
}

impl Daemon {
    /// A job that ran when an earlier daemon was killed: it may still run, and nobody would hear of its end.
    pub(super) fn put_right(&mut self) {
        let Some(running) = &self.records.running else { return };
        let Some(job) = running.job else { return };
        let now = self.now();
        if let Some(process) = &running.process {
            self.end_orphan(process, job);
        }
        plan::end(&self.settings.rules, &mut self.records, job, Ending::Stopped, None, now);
        let message = format!("{job}: it was under way when the daemon was killed, and begins anew");
        self.log.event(Level::Warning, "job-interrupted", &[("job", job.name().into())], &message);
        self.save();
    }

    fn end_orphan(&self, process: &Process, job: Job) {
        let boot = self.clock.boot().map(|boot| boot.id);
        let begun = self.clock.monotonic();
        let mut killed = false;
        process.signal(boot.as_deref(), false);
        while process.is_alive(boot.as_deref()) {
            let passed = self.clock.monotonic().saturating_sub(begun);
            if passed > worker::GRACE * 2 {
                let message = format!("{job}: process {} of an earlier daemon does not end", process.pid);
                return self.log.say(Level::Warning, "job-interrupted", &message);
            }
            if passed > worker::GRACE && !killed {
                process.signal(boot.as_deref(), true);
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn begin(&mut self, job: Job, cause: Cause, now: i64) -> bool {
        let lock = match JobLock::try_take(&self.places.folder) {
            Ok(Some(lock)) => lock,
            // A trigger that found no daemon; it is done soon.
            Ok(None) => return false,
            Err(e) => {
                let message = format!("{}: {e}", self.places.folder.display());
                self.log.say(Level::Error, "no-lock", &message);
                return false;
            }
        };
        plan::begin(&mut self.records, &mut self.changes, job, &cause, now);
        self.save();
        let why = cause_name(&cause);
        let fields = [("job", job.name().into()), ("cause", why.clone().into())];
        self.log.event(Level::Info, "job-started", &fields, &format!("{job}: begins ({why})"));
        // A backup takes along all that was asked for.
        let waiting = if job == Job::Backup { std::mem::take(&mut self.waiting) } else { Vec::new() };
        let stop = Arc::new(AtomicBool::new(false));
        let order = Order {
            settings: Arc::clone(&self.settings),
            job,
            cause: cause.clone(),
            clock: Arc::clone(&self.clock),
            log: Arc::clone(&self.log),
            stop: Arc::clone(&stop),
        };
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let report = order.carry_out(|pid| drop(sender.send(Event::Started(pid))));
            let _ = sender.send(Event::Ended(Box::new(report)));
        });
        self.current = Some(Current { job, cause, stop, waiting, _lock: lock });
        true
    }

    pub(super) fn begin_restore(&mut self, failures: u32) {
        let stop = Arc::new(AtomicBool::new(false));
        let (settings, clock, log) =
            (Arc::clone(&self.settings), Arc::clone(&self.clock), Arc::clone(&self.log));
        let (sender, ended) = (self.sender.clone(), Arc::clone(&stop));
        self.log.say(Level::Info, "restore-started", "auto-restore: begins");
        std::thread::spawn(move || {
            let arguments = ["auto-restore".into()];
            let clock = clock.as_ref();
            let report =
                worker::run_program(&settings, &arguments, &ended, clock, &log, "auto-restore", |_| {});
            let _ = sender.send(Event::Restored(Box::new(report)));
        });
        self.restore = Restore::Runs(failures, stop);
    }

    /// The job's process is there; its number is for those who come after.
    pub(super) fn started(&mut self, pid: u32) {
        let boot = self.clock.boot().map(|boot| boot.id);
        if let Some(running) = &mut self.records.running {
            running.process = Some(Process::of(pid, boot));
            self.save();
        }
    }

    pub(super) fn ended(&mut self, report: &Report) {
        let Some(current) = self.current.take() else { return };
        let now = self.now();
        let response =
            account(&self.settings, &mut self.records, &self.log, (current.job, &current.cause), report, now);
        self.raise_alarms(now, report.told(current.job));
        self.save();
        for waiting in current.waiting {
            let _ = waiting.answer.send(response.clone());
        }
    }

    /// Finds out what is not well and was before, and has the user's command tell of it. True when the list of
    /// what is not well changed.
    pub(super) fn raise_alarms(&mut self, now: i64, told: Option<&[String]>) -> bool {
        let raised = alarms::raise(&self.settings, &mut self.records, &self.log, told, now);
        for alarm in raised.fresh.into_iter().filter(|_| self.settings.notices.on_alarm.is_some()) {
            self.telling += 1;
            let (settings, clock) = (Arc::clone(&self.settings), Arc::clone(&self.clock));
            let (log, sender) = (Arc::clone(&self.log), self.sender.clone());
            std::thread::spawn(move || {
                alarms::tell(&settings, &alarm, clock.as_ref(), &log);
                let _ = sender.send(Event::Told);
            });
        }
        raised.changed
    }

    pub(super) fn restored(&mut self, report: &Report) {
        let Restore::Runs(failures, _) = self.restore else { return };
        let message = report.summary.as_ref().and_then(|summary| summary.get("message")?.as_str());
        self.restore = match (&report.failure, report.ending) {
            (_, ending) if ending.is_good() => {
                let message = format!("auto-restore: {}", message.unwrap_or("done"));
                self.log.say(Level::Info, "restore-ended", &message);
                Restore::Done
            }
            // There is nothing to restore from, and a backup will tell if there should be.
            (Some((class, message)), _) if class == "no-repository" => {
                self.log.say(Level::Warning, "restore-ended", &format!("auto-restore: {message}"));
                Restore::Done
            }
            (failure, _) => {
                let words = failure.as_ref().map_or("it was stopped", |(_, message)| message.as_str());
                let message =
                    format!("auto-restore: failed, and nothing is backed up before it succeeds: {words}");
                self.log.say(Level::Error, "restore-failed", &message);
                let wait = (60_i64 << failures.min(6)).min(RESTORE_WAIT);
                Restore::Due(self.now().saturating_add(wait), failures.saturating_add(1))
            }
        };
    }
}
