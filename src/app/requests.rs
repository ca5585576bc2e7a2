//! Requests and outcomes.

use std::path::PathBuf;
use std::sync::Arc;

use super::Location;
use crate::clock::Clock;
use crate::crypto::{Passphrase, ScryptParams};
use crate::model::{ObjectId, Reason, RepoPath, Snapshot};
use crate::ops::alarm::Threshold;
use crate::ops::backup::Selection;
use crate::ops::check::ReadData;
use crate::repo::{CachePlace, Compression};
use crate::report::Monitor;

/// What every use case needs.
#[derive(Clone)]
pub struct Session {
    /// The repository.
    pub repository: Location,
    /// Opens it.
    pub passphrase: Passphrase,
    /// The user's cache directory for this program.
    pub cache_dir: PathBuf,
    /// Whether the repository's key may be kept there, wrapped in the passphrase.
    pub key_cache: bool,
    /// Listens.
    pub monitor: Arc<dyn Monitor>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Worker threads.
    pub threads: usize,
}

impl Session {
    pub(super) fn caches(&self) -> CachePlace<'_> {
        CachePlace { dir: &self.cache_dir, keeps_key: self.key_cache }
    }
}

/// Makes a repository.
pub struct InitRequest {
    /// Label of its first key.
    pub label: String,
    /// Cost of the key derivation.
    pub params: ScryptParams,
}

/// Takes a snapshot.
pub struct BackupRequest {
    /// The directory; entries are relative to it.
    pub root: PathBuf,
    /// Only these files and directories, absolute and below `root`; empty for all.
    pub paths: Vec<PathBuf>,
    /// What belongs to the snapshot.
    pub selection: Selection,
    /// Labels.
    pub tags: Vec<String>,
    /// Why.
    pub reason: Reason,
    /// Read and compress, but store nothing.
    pub dry_run: bool,
    /// Trust no recorded metadata: read everything.
    pub rescan: bool,
    /// Make no snapshot when nothing differs from the last one.
    pub skip_if_unchanged: bool,
    /// Check every captured database, whenever it was last checked.
    pub verify: bool,
    /// How hard to compress.
    pub compression: Compression,
    /// How much may be gone before the shrink alarm is raised; `None` when it never is.
    pub alarm: Option<Threshold>,
}

impl BackupRequest {
    /// All of a directory, taken the usual way.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            paths: Vec::new(),
            selection: Selection::default(),
            tags: Vec::new(),
            reason: Reason::Manual,
            dry_run: false,
            rescan: false,
            skip_if_unchanged: false,
            verify: false,
            compression: Compression::default(),
            alarm: Some(Threshold::default()),
        }
    }
}

/// Lists entries of a snapshot.
pub struct LsRequest {
    /// `SNAP` as the user spells it.
    pub snapshot: String,
    /// A file, or a directory whose content is wanted; the root when empty.
    pub path: RepoPath,
    /// Entries of subdirectories too.
    pub recursive: bool,
}

/// Puts a snapshot back.
pub struct RestoreRequest {
    /// `SNAP` as the user spells it.
    pub snapshot: String,
    /// The target; `None` for the staging folder `.exuvia-restore/<snapshot>` beside `state_dir`.
    pub target: Option<PathBuf>,
    /// For the staging folder's place.
    pub state_dir: PathBuf,
    /// Only these paths; all when empty.
    pub paths: Vec<RepoPath>,
    /// Plan and report, write nothing.
    pub dry_run: bool,
    /// Compare content even where size and time agree; read everything again after writing; check
    /// databases.
    pub verify: bool,
    /// Restore owner and group.
    pub owner: bool,
    /// Keep set-user-id, set-group-id bits.
    pub set_id: bool,
    /// Make device files.
    pub devices: bool,
}

/// Restores a snapshot for practice.
pub struct DrillRequest {
    /// `SNAP` as the user spells it.
    pub snapshot: String,
    /// The folder in which the scratch folder is made; the state dir's own when `None`.
    pub scratch: Option<PathBuf>,
    /// The state dir.
    pub state_dir: PathBuf,
}

/// Checks a repository.
pub struct CheckRequest {
    /// How much of the packs' data to read.
    pub read_data: ReadData,
}

/// Looks whether everything is as it should be.
pub struct DoctorRequest {
    /// The repository's place.
    pub location: super::Location,
    /// Tried when there is one.
    pub passphrase: Option<Passphrase>,
    /// The user's cache directory for this program.
    pub cache_dir: PathBuf,
    /// Whether the repository's key may be kept there, wrapped in the passphrase.
    pub key_cache: bool,
    /// Run the suite that every remote must pass, in a folder of its own.
    pub remote_test: bool,
    /// Listens.
    pub monitor: Arc<dyn Monitor>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A snapshot of the catalog.
#[derive(Debug, Clone)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: ObjectId,
    /// Its record.
    pub snapshot: Snapshot,
}

/// Sizes of a repository.
#[derive(Debug, Clone, Default)]
pub struct StatsOutcome {
    /// Number of snapshots.
    pub snapshots: u64,
    /// Sum of file sizes over all snapshots, in bytes.
    pub total_bytes: u64,
    /// Bytes of distinct blobs before compression.
    pub unique_bytes: u64,
    /// Number of distinct blobs.
    pub blobs: u64,
    /// Number of packs.
    pub packs: u64,
    /// Stored bytes of packs.
    pub pack_bytes: u64,
    /// Stored bytes of everything else.
    pub other_bytes: u64,
    /// For each snapshot, oldest first: its id, time, bytes, and stored bytes that it added.
    pub growth: Vec<(ObjectId, crate::model::Timestamp, u64, u64)>,
}
