//! The table `[health]`: who is told how it goes.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::reader::{Fields, Key, Reader, Schema};
use super::values::{at_most_a_day, promise};
use crate::model::Secret;

/// Longest address, in bytes.
const LONGEST_URL: usize = 2048;

/// Who is told how it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// The age of the newest snapshot above which the state is unhealthy; `None` stands for what follows
    /// from the schedule of backups.
    pub promise: Option<Duration>,
    /// A shell command for after a job that succeeded.
    pub on_success: Option<Secret>,
    /// A shell command for after a job that failed.
    pub on_failure: Option<Secret>,
    /// A shell command for when an alarm is raised.
    pub on_alarm: Option<Secret>,
    /// The address that is told of start, success and failure: `http://` or `https://` with a host.
    pub ping_url: Option<Secret>,
    /// The file for Prometheus' node exporter.
    pub prometheus_file: Option<PathBuf>,
    /// After so long a command is stopped.
    pub hook_timeout: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            promise: None,
            on_success: None,
            on_failure: None,
            on_alarm: None,
            ping_url: None,
            prometheus_file: None,
            hook_timeout: Duration::from_secs(600),
        }
    }
}

pub(super) const SCHEMA: Schema = Schema {
    table: Some("health"),
    about: "who is told how it goes",
    tables: &[],
    keys: &[
        Key::number("promise").says(
            "the age of the newest snapshot above which `status` says unhealthy",
            "seconds, or a time such as 25h or 8d; 1 minute to 366 days",
            "twice the backup interval plus 10 minutes",
            "\"25h\"",
        ),
        Key::command("on_success").says(
            "runs after a job that succeeded, with its summary as JSON on stdin",
            "a shell command",
            "",
            "\"jq -r .snapshot >> ~/snapshots\"",
        ),
        Key::command("on_failure").says(
            "runs after a job that failed, with its summary as JSON on stdin",
            "a shell command",
            "",
            "\"mail -s 'backup failed' ann\"",
        ),
        Key::command("on_alarm").says(
            "runs when an alarm is raised, with what is known as JSON on stdin",
            "a shell command",
            "",
            "\"mail -s 'backup alarm' ann\"",
        ),
        Key::text("ping_url").says(
            "is asked at start (URL/start), success (URL) and failure (URL/fail), as healthchecks.io wants it",
            "an http:// or https:// address; a secret, or ${NAME} of a variable that holds it",
            "",
            "\"https://hc-ping.com/UUID\"",
        ),
        Key::text("prometheus_file").says(
            "written for the textfile collector of Prometheus' node exporter",
            "a path that ends in .prom",
            "",
            "\"/var/lib/node_exporter/exuvia.prom\"",
        ),
        Key::number("hook_timeout").says(
            "how long the commands above may take",
            "seconds, or a time such as 30s or 10m; 1 s to 1 day",
            "10m",
            "\"1m\"",
        ),
    ],
    synonyms: &[
        ("ping", "ping_url"),
        ("healthcheck", "ping_url"),
        ("healthchecks", "ping_url"),
        ("webhook", "ping_url"),
        ("prometheus", "prometheus_file"),
        ("textfile", "prometheus_file"),
        ("max_age", "promise"),
        ("success", "on_success"),
        ("failure", "on_failure"),
        ("on_error", "on_failure"),
        ("timeout", "hook_timeout"),
    ],
    elsewhere: (&[], ""),
};

/// Whoever knows the address can say in our name that all is well.
pub(super) fn is_secret(name: &str) -> bool {
    name == "ping_url"
}

pub(super) fn table(reader: &Reader<'_>, mut fields: Fields<'_, '_>) -> Result<HealthConfig, ConfigError> {
    let promise = fields.read(reader, "promise", promise)?;
    let mut command = |name| fields.take(name).map(|field| Secret::new(field.text.to_string()));
    let (on_success, on_failure, on_alarm) =
        (command("on_success"), command("on_failure"), command("on_alarm"));
    let ping_url = fields.read(reader, "ping_url", url)?;
    let prometheus_file = fields.read(reader, "prometheus_file", |text| {
        // The collector reads no others.
        let good = text.ends_with(".prom") && !text.ends_with("/.prom");
        good.then(|| reader.local(text)).ok_or("must be a path that ends in .prom")
    })?;
    let hook_timeout = fields.read(reader, "hook_timeout", at_most_a_day)?;
    Ok(HealthConfig {
        promise,
        on_success,
        on_failure,
        on_alarm,
        ping_url,
        prometheus_file,
        hook_timeout: hook_timeout.unwrap_or(HealthConfig::default().hook_timeout),
    })
}

/// An address, of which the part before the path is looked at. It is not repeated: it may be a secret.
fn url(text: &str) -> Result<Secret, &'static str> {
    const FORM: &str = "must be an http:// or https:// address, such as https://hc-ping.com/UUID";
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(FORM)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let good = text.len() <= LONGEST_URL && text.chars().all(|c| c.is_ascii_graphic());
    if host.is_empty() || !good { Err(FORM) } else { Ok(Secret::new(text.to_owned())) }
}
