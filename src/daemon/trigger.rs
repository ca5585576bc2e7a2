//! Triggers where no daemon can be reached: the job is run by whoever fires one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::account::{account, save};
use super::alarms;
use super::job::{Ending, Job};
use super::lock::{self, JobLock, Turn};
use super::log::{Level, Log};
use super::notes::{self, Note, Notes};
use super::plan::{self, Cause};
use super::records::{Failure, Records};
use super::run::{DaemonError, Places};
use super::settings::Settings;
use super::socket::{self, Request, Response};
use super::worker::{Order, Report};
use crate::clock::Clock;
use crate::fs::{self, Process};

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub enum Fired {
    /// The job ran.
    Ran(Response),
    /// It ran for this trigger just now; nothing is done.
    Deaf {
        /// Seconds since 1970 at which the trigger is heard again.
        until: i64,
    },
    /// One run is waiting for another to end already, and will take everything along.
    Queued,
}

/// Asks the daemon of a state dir where it says that it listens. `None` when there is none; `patient` for an
/// answer that may take as long as a backup.
pub fn ask(
    places: &Places,
    clock: &dyn Clock,
    request: &Request,
    patient: bool,
) -> io::Result<Option<Response>> {
    let Some(holder) = lock::holder(&places.folder, clock) else { return Ok(None) };
    socket::ask(holder.socket.as_deref().unwrap_or(&places.socket), request, patient)
}

/// What is said when our user ended the run.
const CUT_OFF: &str = "it was cut off";

/// What the only one at work begins with.
struct Own {
    records: Records,
    notes: Notes,
    /// What the notes told to raise the alarm over.
    told: Vec<Vec<String>>,
    /// Others were told that this run takes along what they were fired for.
    promised: bool,
    lock: JobLock,
}

/// What is the same for all that a trigger does.
struct Place<'a> {
    settings: Arc<Settings>,
    places: &'a Places,
    clock: &'a Arc<dyn Clock>,
    log: &'a Arc<Log>,
}

/// Runs the job of a trigger, after any other that runs at the moment. Of those that would wait, one does, and
/// who is `patient`.
pub fn fire(
    settings: Settings,
    (name, patient): (&str, bool),
    places: &Places,
    clock: &Arc<dyn Clock>,
    log: &Arc<Log>,
    stop: &Arc<AtomicBool>,
) -> Result<Fired, DaemonError> {
    let failed = |source| DaemonError::Records { path: places.folder.clone(), source };
    fs::create_private_dir_all(&places.folder).map_err(failed)?;
    let place = Place { settings: Arc::new(settings), places, clock, log };
    // Whoever is told so at once need not wait for a job to end.
    if let Some(until) = place.deaf(&place.peek(), name).filter(|_| !patient) {
        return Ok(Fired::Deaf { until });
    }
    let (lock, waited) = match JobLock::queue(&places.folder, patient, stop).map_err(failed)? {
        Turn::Free(lock) => (lock, None),
        Turn::Waited { lock, behind } => (lock, Some(behind)),
        Turn::Another => return Ok(Fired::Queued),
        Turn::Stopped => return Err(DaemonError::Stopped),
    };
    // A daemon waits for our lock before it reads the records; one that is there keeps records of its own.
    let alone = lock::holder(&places.folder, clock.as_ref()).is_none();
    let (records, notes, told) = if alone {
        let (mut records, _) = Records::load(&places.folder).map_err(failed)?;
        let notes = Notes::read(&places.folder);
        let told = notes.enter(&place.settings.rules, &mut records);
        (records, notes, told)
    } else {
        (place.peek(), Notes::default(), Vec::new())
    };
    let deaf = place.deaf(&records, name);
    if let (Some(until), None) = (deaf, waited) {
        return Ok(Fired::Deaf { until });
    }
    // Others may have been told that we take along what they were fired for: whoever waited runs.
    let cause = Cause::Trigger { name: name.to_owned(), late: deaf.is_some() || waited == Some(true) };
    let response = if alone {
        let promised = waited.is_some();
        place.run_alone(Own { records, notes, told, promised, lock }, &cause, stop)
    } else {
        place.run_beside(records, name, &cause, stop)
    };
    Ok(Fired::Ran(response))
}

impl Place<'_> {
    /// What is remembered, for those who only look.
    fn peek(&self) -> Records {
        notes::peek(&self.places.folder, &self.settings.rules)
    }

    /// Until when a trigger is not heard, if it is not.
    fn deaf(&self, records: &Records, name: &str) -> Option<i64> {
        let deaf = self.settings.rules.debounce.get(name).copied().unwrap_or_default();
        let now = self.clock.now().secs;
        let last = records.triggers.get(name).map(|last| (*last).min(now));
        last.map(|last| last.saturating_add_unsigned(deaf.as_secs())).filter(|until| *until > now)
    }

    /// No daemon is there: the records are ours.
    fn run_alone(&self, own: Own, cause: &Cause, stop: &Arc<AtomicBool>) -> Response {
        let Own { mut records, notes, told, promised, lock } = own;
        let settings = &self.settings;
        let mut fresh = Vec::new();
        for told in &told {
            let now = self.clock.now().secs;
            fresh.extend(alarms::raise(settings, &mut records, self.log, Some(told), now).fresh);
        }
        // What a daemon was at when it was killed is asked for still.
        if let Some(job) = records.running.as_ref().and_then(|running| running.job) {
            plan::end(&settings.rules, &mut records, job, Ending::Stopped, None, self.clock.now().secs);
        }
        // What was to be done without us is so still when our user ends us.
        let asked = records.asked.clone();
        let retry_at = records.get(Job::Backup).and_then(|record| record.retry_at);
        plan::begin(&mut records, &mut None, Job::Backup, cause, self.clock.now().secs);
        if let Some(running) = &mut records.running {
            let boot = self.clock.boot().map(|boot| boot.id);
            running.process = Some(Process::of(std::process::id(), boot));
        }
        save(&mut records, &self.places.folder, settings, self.log);
        notes.remove(self.log);
        let report = self.carry_out(cause, stop);
        let now = self.clock.now().secs;
        let mut response = account(settings, &mut records, self.log, (Job::Backup, cause), &report, now);
        if report.ending == Ending::Stopped && !promised {
            records.asked = asked;
            records.job(Job::Backup).retry_at = retry_at;
            response.message = CUT_OFF.to_owned();
        }
        fresh.extend(alarms::raise(settings, &mut records, self.log, report.told(Job::Backup), now).fresh);
        save(&mut records, &self.places.folder, settings, self.log);
        // What takes as long as the user's command holds up no other job.
        drop(lock);
        for alarm in fresh {
            alarms::tell(settings, &alarm, self.clock.as_ref(), self.log);
        }
        response
    }

    /// A daemon is there, and was not reached: it hears of the run by a note.
    fn run_beside(
        &self,
        mut records: Records,
        name: &str,
        cause: &Cause,
        stop: &Arc<AtomicBool>,
    ) -> Response {
        let begun = self.clock.now().secs;
        plan::begin(&mut records, &mut None, Job::Backup, cause, begun);
        let report = self.carry_out(cause, stop);
        let ended = self.clock.now().secs;
        let mut response =
            account(&self.settings, &mut records, self.log, (Job::Backup, cause), &report, ended);
        // One that was cut off by its user is not asked for any more.
        if report.ending == Ending::Stopped {
            response.message = CUT_OFF.to_owned();
        } else {
            let message = match notes::leave(&self.places.folder, &note(name, &report, begun, ended)) {
                Ok(()) => "the daemon was not reached, and hears of this run by a note beside its records"
                    .to_owned(),
                Err(e) => {
                    let folder = self.places.folder.display();
                    format!("the daemon was not reached, and does not hear of this run: {folder}: {e}")
                }
            };
            self.log.say(Level::Warning, "daemon-not-reached", &message);
        }
        response
    }

    fn carry_out(&self, cause: &Cause, stop: &Arc<AtomicBool>) -> Report {
        let order = Order {
            settings: Arc::clone(&self.settings),
            job: Job::Backup,
            cause: cause.clone(),
            clock: Arc::clone(self.clock),
            log: Arc::clone(self.log),
            stop: Arc::clone(stop),
        };
        order.carry_out(|_| {})
    }
}

fn note(trigger: &str, report: &Report, begun: i64, ended: i64) -> Note {
    Note {
        trigger: trigger.to_owned(),
        begun,
        ended,
        ending: report.ending,
        failure: report.failure.as_ref().map(|(class, message)| Failure::new(ended, class, message)),
        snapshot: report.snapshot().filter(|_| report.ending.is_good()),
        duration_ms: Some(super::worker::millis(report.took)),
        alarms: report.alarms.clone(),
        summary: report.summary.clone().filter(|_| report.ending.is_good()).map(notes::brief),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::daemon::log::Style;
    use crate::daemon::settings::{Hooks, tests::settings};
    use crate::model::Secret;

    #[test]
    fn a_run_that_its_user_ended_is_asked_for_only_where_others_did() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let log = Arc::new(Log::new(Style::default(), Box::new(io::sink()), Arc::clone(&clock)));
        let mut settings = settings();
        // It is ended before it gets anywhere.
        let pre = Some(Secret::new("sleep 600".to_owned()));
        settings.hooks.insert(Job::Backup, Hooks { pre, post: None, timeout: Duration::from_secs(900) });
        let others = [BTreeMap::new(), BTreeMap::from([("session-end".to_owned(), 5)])];
        for (asked, retry_at) in others.into_iter().zip([None, Some(7)]) {
            let dir = tempfile::tempdir().unwrap();
            let places = Places { folder: dir.path().into(), socket: dir.path().join("socket") };
            let mut records = Records::default();
            records.asked.clone_from(&asked);
            records.job(Job::Backup).retry_at = retry_at;
            records.save(dir.path()).unwrap();
            let stop = Arc::new(AtomicBool::new(true));
            let fired = fire(settings.clone(), ("x", false), &places, &clock, &log, &stop).unwrap();
            let Fired::Ran(response) = fired else { panic!() };
            assert_eq!((response.class.as_deref(), &*response.message), (Some("interrupted"), CUT_OFF));
            let (records, _) = Records::load(dir.path()).unwrap();
            assert_eq!((records.asked, records.running), (asked, None));
            assert_eq!(records.jobs[&Job::Backup].retry_at, retry_at);
        }
    }
}
