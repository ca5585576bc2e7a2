//! Triggers where no daemon runs: the job is run by whoever fires one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::job::Job;
use super::lock::{self, JobLock};
use super::log::Log;
use super::plan::{self, Cause, Pending};
use super::records::{Records, Running};
use super::run::{DaemonError, Places, account, save};
use super::settings::Settings;
use super::socket::Response;
use super::worker::Order;
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

/// Runs the job of a trigger, after any other that runs at the moment. Of those that would wait, one does.
pub fn fire(
    settings: Settings,
    name: &str,
    places: &Places,
    clock: &Arc<dyn Clock>,
    log: &Arc<Log>,
    stop: &Arc<AtomicBool>,
) -> Result<Fired, DaemonError> {
    let failed = |source| DaemonError::Records { path: places.folder.clone(), source };
    fs::create_private_dir_all(&places.folder).map_err(failed)?;
    let deaf = |records: &Records| {
        let deaf = settings.rules.debounce.get(name).copied().unwrap_or_default();
        let now = clock.now().secs;
        let last = records.triggers.get(name).map(|last| (*last).min(now));
        last.map(|last| last.saturating_add_unsigned(deaf.as_secs())).filter(|until| *until > now)
    };
    // Whoever is told so at once need not wait for a job to end.
    if let Some(until) = Records::peek(&places.folder).as_ref().and_then(deaf) {
        return Ok(Fired::Deaf { until });
    }
    // A daemon that cannot be reached keeps records of its own.
    let alone = lock::holder(&places.folder, clock.as_ref()).is_none();
    let save = |records: &mut Records, settings: &Settings| {
        if alone {
            save(records, &places.folder, settings, log);
        }
    };
    let Some(_lock) = JobLock::queue(&places.folder).map_err(failed)? else { return Ok(Fired::Queued) };
    let (mut records, _) = Records::load(&places.folder).map_err(failed)?;
    if let Some(until) = deaf(&records) {
        return Ok(Fired::Deaf { until });
    }
    let cause = Cause::Trigger { name: name.to_owned(), late: false };
    let now = clock.now().secs;
    plan::begin(&mut records, &mut Pending::default(), Job::Backup, &cause, now);
    let boot = clock.boot().map(|boot| boot.id);
    records.running =
        Some(Running { job: Some(Job::Backup), process: Some(Process::of(std::process::id(), boot)) });
    save(&mut records, &settings);
    let settings = Arc::new(settings);
    let order = Order {
        settings: Arc::clone(&settings),
        job: Job::Backup,
        cause: cause.clone(),
        clock: Arc::clone(clock),
        log: Arc::clone(log),
        stop: Arc::clone(stop),
    };
    let report = order.carry_out(|_| {});
    let now = clock.now().secs;
    let response = account(&settings, &mut records, log, (Job::Backup, &cause), &report, now);
    save(&mut records, &settings);
    Ok(Fired::Ran(response))
}
