//! The tables `[hooks.backup]`, `[hooks.prune]`, `[hooks.check]`, `[hooks.drill]` and `[hooks.full]`: what runs
//! before and after jobs.

use std::time::Duration;

use super::ConfigError;
use super::reader::{Fields, Key, Reader, Schema};
use super::values::at_most_a_day;
use crate::model::Secret;

/// What runs before and after the daemon's jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HooksConfig {
    /// Around backups.
    pub backup: HookConfig,
    /// Around forget and prune.
    pub prune: HookConfig,
    /// Around checks.
    pub check: HookConfig,
    /// Around drills.
    pub drill: HookConfig,
    /// Around full archives.
    pub full: HookConfig,
}

/// What runs before and after a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookConfig {
    /// A shell command; unless it succeeds, the job does not run and counts as failed.
    pub pre: Option<Secret>,
    /// A shell command that always runs after it.
    pub post: Option<Secret>,
    /// After so long each of them is stopped, and has failed.
    pub timeout: Duration,
}

impl Default for HookConfig {
    fn default() -> Self {
        Self { pre: None, post: None, timeout: Duration::from_secs(600) }
    }
}

impl HooksConfig {
    /// Those of a job that has a name in [`SCHEMA`].
    pub(super) fn job_mut(&mut self, name: &str) -> &mut HookConfig {
        match name {
            "backup" => &mut self.backup,
            "prune" => &mut self.prune,
            "check" => &mut self.check,
            "full" => &mut self.full,
            _ => &mut self.drill,
        }
    }
}

pub(super) const SCHEMA: Schema = Schema {
    table: Some("hooks"),
    about: "",
    tables: &["backup", "prune", "check", "drill", "full"],
    keys: &[],
    synonyms: &[],
    elsewhere: (JOB.keys, "into the table of a job, such as [hooks.backup]"),
};

pub(super) const JOB: Schema = Schema {
    table: Some("hooks.backup"),
    about: "what runs before and after backups; [hooks.prune], [hooks.check], [hooks.drill] and [hooks.full] are \
            the same for these jobs",
    tables: &[],
    keys: &[
        Key::command("pre").says(
            "runs before the job; unless it exits with 0, the job does not run and counts as failed",
            "a shell command",
            "",
            "\"mountpoint -q /mnt/agent\"",
        ),
        Key::command("post").says(
            "always runs after it, with EXUVIA_RESULT=success, failed or incomplete in its environment",
            "a shell command",
            "",
            "\"logger \\\"backup: $EXUVIA_RESULT\\\"\"",
        ),
        Key::number("timeout").says(
            "how long each of them may take",
            "seconds, or a time such as 30s or 10m; 1 s to 1 day",
            "10m",
            "\"1m\"",
        ),
    ],
    synonyms: &[("before", "pre"), ("after", "post"), ("hook_timeout", "timeout")],
    elsewhere: (&[], ""),
};

/// The same for another job.
pub(super) fn schema(job: &str) -> Schema {
    let table = match job {
        "prune" => "hooks.prune",
        "check" => "hooks.check",
        "drill" => "hooks.drill",
        "full" => "hooks.full",
        _ => "hooks.backup",
    };
    Schema { table: Some(table), ..JOB }
}

/// Reads the table of a job.
pub(super) fn job(reader: &Reader<'_>, mut fields: Fields<'_, '_>) -> Result<HookConfig, ConfigError> {
    let mut command = |name| fields.take(name).map(|field| Secret::new(field.text.to_string()));
    let (pre, post) = (command("pre"), command("post"));
    let timeout = fields.read(reader, "timeout", at_most_a_day)?;
    Ok(HookConfig { pre, post, timeout: timeout.unwrap_or(HookConfig::default().timeout) })
}
