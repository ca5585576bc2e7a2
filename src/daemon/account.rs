//! Entering how a job ended, and saying so.

use std::path::Path;

use super::job::{Ending, Job};
use super::log::{Level, Log};
use super::plan::{self, Cause};
use super::prometheus;
use super::records::{Failure, Records};
use super::settings::Settings;
use super::socket::Response;
use super::worker::{Report, cause_name, millis};

/// Writes the records, and the file for Prometheus. Whoever cannot goes on with those in memory: backups matter
/// more.
pub(super) fn save(records: &mut Records, folder: &Path, settings: &Settings, log: &Log) {
    if let Err(e) = records.save(folder) {
        log.say(Level::Error, "records-not-written", &format!("{}: {e}", folder.display()));
    }
    if let Some(path) = &settings.notices.prometheus_file
        && let Err(e) = prometheus::write(path, records, &settings.rules, &settings.state_dir)
    {
        log.say(Level::Warning, "prometheus-not-written", &format!("{}: {e}", path.display()));
    }
}

/// Enters how a job ended, and says so; the answer is for those who waited.
pub(super) fn account(
    settings: &Settings,
    records: &mut Records,
    log: &Log,
    (job, cause): (Job, &Cause),
    report: &Report,
    now: i64,
) -> Response {
    let failure = report.failure.as_ref().map(|(class, message)| Failure::new(now, class, message));
    plan::end(&settings.rules, records, job, report.ending, failure.clone(), now);
    let record = records.job(job);
    record.duration_ms = Some(millis(report.took));
    if job == Job::Backup && report.ending.is_good() {
        record.snapshot = report.snapshot();
    }
    let level = if report.ending == Ending::Failed { Level::Error } else { Level::Info };
    let words = match &failure {
        Some(failure) => format!("{job}: failed: {}", failure.message),
        None => format!("{job}: {}{}", report.ending.name(), snapshot_words(job, report)),
    };
    let fields = [
        ("job", job.name().into()),
        ("cause", cause_name(cause).into()),
        ("result", report.ending.name().into()),
        ("duration_ms", millis(report.took).into()),
    ];
    log.event(level, "job-ended", &fields, &words);
    match (failure, report.ending) {
        (Some(failure), _) => Response::failed(&failure.class, failure.message),
        (None, Ending::Stopped) => {
            Response::failed("interrupted", "it was cut off; the next daemon begins it anew")
        }
        (None, _) => {
            Response { ok: true, message: words, summary: report.summary.clone(), ..Response::default() }
        }
    }
}

fn snapshot_words(job: Job, report: &Report) -> String {
    match report.snapshot().filter(|_| job == Job::Backup) {
        Some(snapshot) => {
            let id = snapshot.id.unwrap_or_default();
            let short = id.get(..8).unwrap_or(&id);
            format!(", snapshot {short}, {} files, {} bytes added", snapshot.files, snapshot.added)
        }
        None => String::new(),
    }
}
