//! What a drill found: a restore for practice.

use super::{ObjectId, Timestamp};

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything came back as it was.
    Good,
    /// Something could not be put back, for a reason that lies in this machine.
    Failed,
    /// The repository is damaged, or what it holds is not what it should be.
    Damaged,
}

impl Verdict {
    /// The word used in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed => "failed",
            Self::Damaged => "damaged",
        }
    }
}

/// The result of a drill, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillResult {
    /// When it began.
    pub time: Timestamp,
    /// The snapshot that was restored.
    pub snapshot: ObjectId,
    /// When that was taken.
    pub snapshot_time: Timestamp,
    /// How it ended.
    pub verdict: Verdict,
    /// Regular files that were restored and read again.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Databases that SQLite checked and found good.
    pub databases: u64,
    /// The first things that were wrong, each with its path where it has one.
    pub problems: Vec<String>,
    /// How many things were wrong in all.
    pub problem_count: u64,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

impl DrillResult {
    /// Problems that are remembered.
    pub const MAX_PROBLEMS: usize = 20;
}
