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
    let (records, notes) = if alone {
        let (mut records, _) = Records::load(&places.folder).map_err(failed)?;
        let notes = Notes::read(&places.folder, log);
        notes.enter(&place.settings.rules, &mut records);
        (records, notes)
    } else {
        (place.peek(), Notes::default())
    };
    let deaf = place.deaf(&records, name);
    if let (Some(until), None) = (deaf, waited) {
        return Ok(Fired::Deaf { until });
    }
    // Others may have been told that we take along what they were fired for: whoever waited runs.
    let cause = Cause::Trigger { name: name.to_owned(), late: deaf.is_some() || waited == Some(true) };
    let response = if alone {
        place.run_alone(records, notes, &cause, stop, lock)
    } else {
        place.run_beside(records, name, &cause, stop)
    };
    Ok(Fired::Ran(response))
}

impl Place<'_> {
    /// What is remembered, for those who only look.
    fn peek(&self) -> Records {
        let mut records = Records::peek(&self.places.folder).unwrap_or_default();
        Notes::read(&self.places.folder, self.log).enter(&self.settings.rules, &mut records);
        records
    }

    /// Until when a trigger is not heard, if it is not.
    fn deaf(&self, records: &Records, name: &str) -> Option<i64> {
        let deaf = self.settings.rules.debounce.get(name).copied().unwrap_or_default();
        let now = self.clock.now().secs;
        let last = records.triggers.get(name).map(|last| (*last).min(now));
        last.map(|last| last.saturating_add_unsigned(deaf.as_secs())).filter(|until| *until > now)
    }

    /// No daemon is there: the records are ours.
    fn run_alone(
        &self,
        mut records: Records,
        notes: Notes,
        cause: &Cause,
        stop: &Arc<AtomicBool>,
        lock: JobLock,
    ) -> Response {
        let settings = &self.settings;
        // What a daemon was at when it was killed is asked for still.
        if let Some(job) = records.running.as_ref().and_then(|running| running.job) {
            plan::end(&settings.rules, &mut records, job, Ending::Stopped, None, self.clock.now().secs);
        }
        plan::begin(&mut records, &mut None, Job::Backup, cause, self.clock.now().secs);
        if let Some(running) = &mut records.running {
            let boot = self.clock.boot().map(|boot| boot.id);
            running.process = Some(Process::of(std::process::id(), boot));
        }
        save(&mut records, &self.places.folder, settings, self.log);
        notes.remove();
        let report = self.carry_out(cause, stop);
        let now = self.clock.now().secs;
        let response = account(settings, &mut records, self.log, (Job::Backup, cause), &report, now);
        let raised = alarms::raise(settings, &mut records, self.log, report.told(Job::Backup), now);
        save(&mut records, &self.places.folder, settings, self.log);
        // What takes as long as the user's command holds up no other job.
        drop(lock);
        for alarm in raised.fresh {
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
        let response = account(&self.settings, &mut records, self.log, (Job::Backup, cause), &report, ended);
        // One that was cut off by its user is not asked for any more.
        if report.ending != Ending::Stopped {
            let message = match notes::leave(&self.places.folder, name, &note(&report, begun, ended)) {
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

fn note(report: &Report, begun: i64, ended: i64) -> Note {
    Note {
        begun,
        ended,
        ending: report.ending,
        failure: report.failure.as_ref().map(|(class, message)| Failure::new(ended, class, message)),
        snapshot: report.snapshot().filter(|_| report.ending.is_good()),
        duration_ms: Some(super::worker::millis(report.took)),
        alarms: report.alarms.clone(),
    }
}
