//! `check`: whether a repository is what it should be.

/// How much data to read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum ReadData {
    /// Structure only.
    #[default]
    No,
    /// Every byte of every pack.
    All,
    /// About this percentage of the packs, chosen at random.
    Percent(f64),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// Paths that it hurts, as `<snapshot>:<path>`; at most 100.
    pub paths: Vec<String>,
    /// How many paths it hurts in all.
    pub path_count: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Damage.
    pub problems: Vec<Problem>,
    /// Things that are odd but harmless, such as packs that no index lists.
    pub notes: Vec<String>,
    /// Snapshots checked, safety snapshots included.
    pub snapshots: u64,
    /// Packs known.
    pub packs: u64,
    /// Packs whose every byte was read.
    pub packs_read: u64,
    /// Blobs known.
    pub blobs: u64,
    /// Bytes of packs read.
    pub bytes_read: u64,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}
