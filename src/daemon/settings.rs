//! What the configuration says to the daemon, as it needs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::job::Job;
use super::plan::Rules;
use crate::fs;
use crate::model::Secret;

/// Everything that the daemon is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state dir, absolute.
    pub state_dir: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// Options that every job gets, so that it means the same configuration, repository and state dir.
    pub options: Vec<OsString>,
    /// When.
    pub rules: Rules,
    /// Labels of every backup: those of a trigger are added to them.
    pub tags: Vec<String>,
    /// There is a policy of retention, so that a prune begins with it.
    pub forget: bool,
    /// How much of the data a check reads, as its option takes it; `None` for none.
    pub check_data: Option<String>,
    /// Jobs wait while the machine runs on battery.
    pub battery_pause: bool,
    /// Jobs wait while the network is paid for by the byte.
    pub metered_pause: bool,
    /// Jobs give way to other programs.
    pub low_priority: bool,
    /// `auto-restore` runs before anything else.
    pub auto_restore: bool,
    /// Folders and files in the state dir that make no snapshot when they change: the program's own.
    pub unwatched: Vec<PathBuf>,
    /// The commands around each job.
    pub hooks: BTreeMap<Job, Hooks>,
    /// Who is told.
    pub notices: Notices,
    /// Lines of the log are JSON.
    pub log_json: bool,
}

/// Commands around a job.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Before it; when it fails, the job does not run, and counts as failed.
    pub pre: Option<Secret>,
    /// After it, however it ended.
    pub post: Option<Secret>,
    /// How long each may take.
    pub timeout: Duration,
}

/// Who is told how a job ended.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// A command for every job that ended well; gets the summary.
    pub on_success: Option<Secret>,
    /// A command for every job that failed.
    pub on_failure: Option<Secret>,
    /// A command for what is not well and was before.
    pub on_alarm: Option<Secret>,
    /// How long each may take.
    pub timeout: Duration,
    /// An address that is called at the start of a backup and at its end.
    pub ping_url: Option<Secret>,
    /// A file for Prometheus.
    pub prometheus_file: Option<PathBuf>,
}

/// What makes the jitter of this machine and state dir its own, and the same each time.
#[must_use]
pub fn seed(state_dir: &Path) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(fs::machine_id().as_bytes()).update(&[0]).update(state_dir.as_os_str().as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Settings of a daemon that has nothing to do.
    pub(crate) fn settings() -> Settings {
        Settings {
            state_dir: "/state".into(),
            program: "exuvia".into(),
            options: Vec::new(),
            rules: crate::daemon::plan::tests::rules(&[], "UTC"),
            tags: Vec::new(),
            forget: false,
            check_data: None,
            battery_pause: false,
            metered_pause: false,
            low_priority: false,
            auto_restore: false,
            unwatched: Vec::new(),
            hooks: BTreeMap::new(),
            notices: Notices::default(),
            log_json: false,
        }
    }
}
