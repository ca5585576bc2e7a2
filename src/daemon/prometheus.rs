//! The file that node_exporter's textfile collector reads.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::job::Job;
use super::plan::Rules;
use super::records::{JobRecord, Records};
use crate::fs;

/// Replaces the file in one step. Another user reads it, and there is nothing in it but times and sizes.
pub(super) fn write(path: &Path, records: &Records, rules: &Rules, state_dir: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"));
    };
    fs::write_atomic(folder, name, render(records, rules, state_dir).as_bytes(), 0o644)
}

type Value = fn(&JobRecord) -> Option<f64>;

#[expect(clippy::cast_precision_loss, reason = "numbers of that format are floats")]
const JOB_METRICS: [(&str, &str, Value); 5] = [
    ("job_last_success_timestamp_seconds", "When the job last ended well.", |r| {
        r.last_success.map(|t| t as f64)
    }),
    ("job_last_failure_timestamp_seconds", "When the job last failed.", |r| {
        r.last_failure.as_ref().map(|failure| failure.time as f64)
    }),
    ("job_failures", "Failures since the job last ended well.", |r| Some(f64::from(r.failures))),
    ("job_last_duration_seconds", "How long the job's last run took.", |r| {
        r.duration_ms.map(|ms| ms as f64 / 1000.0)
    }),
    ("job_next_run_timestamp_seconds", "When the job runs next.", |r| r.next.map(|t| t as f64)),
];

#[expect(clippy::cast_precision_loss, reason = "numbers of that format are floats")]
fn render(records: &Records, rules: &Rules, state_dir: &Path) -> String {
    let dir = escape(&state_dir.to_string_lossy());
    let mut out = String::new();
    for (name, help, value) in JOB_METRICS {
        head(&mut out, name, help);
        for (job, record) in &records.jobs {
            if let Some(value) = value(record) {
                line(&mut out, name, &format!("job=\"{}\",state_dir=\"{dir}\"", job.name()), value);
            }
        }
    }
    let mut one = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            head(&mut out, name, help);
            line(&mut out, name, &format!("state_dir=\"{dir}\""), value);
        }
    };
    let snapshot = records.get(Job::Backup).and_then(|record| record.snapshot.as_ref());
    one("snapshot_files", "Files in the newest snapshot.", snapshot.map(|s| s.files as f64));
    one("snapshot_bytes", "Bytes of files in the newest snapshot.", snapshot.map(|s| s.bytes as f64));
    one("snapshot_added_bytes", "Bytes that the newest snapshot added.", snapshot.map(|s| s.added as f64));
    one(
        "promise_seconds",
        "The age that the newest snapshot must not exceed.",
        rules.promise.map(|p| p.as_secs_f64()),
    );
    one("alarms", "Alarms that are raised now.", Some(records.alarms.len() as f64));
    out
}

// Writing to a string cannot fail.
fn head(out: &mut String, name: &str, help: &str) {
    let _ = write!(out, "# HELP exuvia_{name} {help}\n# TYPE exuvia_{name} gauge\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(out, "exuvia_{name}{{{labels}}} {value}");
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_file_is_what_prometheus_reads() {
        let mut records = Records::default();
        records.job(Job::Backup).last_success = Some(1_700_000_000);
        records.job(Job::Backup).duration_ms = Some(1_500);
        records.job(Job::Prune).failures = 2;
        let rules = crate::daemon::plan::tests::rules(&[], "UTC");
        let text = render(&records, &rules, Path::new("/a\\b\"c\nd"));
        let dir = "state_dir=\"/a\\\\b\\\"c\\nd\"";
        for line in [
            "# TYPE exuvia_job_last_success_timestamp_seconds gauge".to_owned(),
            format!("exuvia_job_last_success_timestamp_seconds{{job=\"backup\",{dir}}} 1700000000"),
            format!("exuvia_job_last_duration_seconds{{job=\"backup\",{dir}}} 1.5"),
            format!("exuvia_job_failures{{job=\"prune\",{dir}}} 2"),
            format!("exuvia_alarms{{{dir}}} 0"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("exuvia_")), "{text}");
        assert!(!text.contains("promise"));
    }
}
