//! What there is to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A job of the scheduler; several that are due at once are done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// A snapshot of the state dir.
    Backup,
    /// Retention, where there is one, and then the space.
    Prune,
    /// A check of the repository.
    Check,
    /// A restore for practice.
    Drill,
    /// A full archive, and then the retention of archives, where there is one.
    Full,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Backup, Self::Prune, Self::Check, Self::Drill, Self::Full];

    /// The word used in the configuration, in records and in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Prune => "prune",
            Self::Check => "check",
            Self::Drill => "drill",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// All of it was done.
    Success,
    /// Done, but some source files could not be read.
    Incomplete,
    /// It failed.
    Failed,
    /// We were asked to stop before it ended.
    Stopped,
}

impl Ending {
    /// The word that hooks get.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// True when there is a result that counts.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Success | Self::Incomplete)
    }
}
