//! The record of one snapshot.

use super::{BlobId, ObjectId, RepoPath, SnapshotMark, Timestamp, WriterId};

/// Ordinary snapshot or one taken before an operation that overwrites live state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SnapshotKind {
    /// Taken by `backup`.
    #[default]
    Regular,
    /// Taken before live state is overwritten; never removed by a policy.
    Safety,
}

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A person or script ran `backup`.
    #[default]
    Manual,
    /// The scheduler.
    Schedule,
    /// The application is about to compact its memory.
    BeforeCompaction,
    /// The application's gateway is stopping.
    GatewayStop,
    /// Before a rollback or restore over live state.
    Safety,
}

impl Reason {
    /// The word used on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
            Self::BeforeCompaction => "before-compaction",
            Self::GatewayStop => "gateway-stop",
            Self::Safety => "safety",
        }
    }
}

/// The root of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestRef {
    /// The root segment.
    pub root: BlobId,
    /// Its level: 0 when the root is itself a leaf.
    pub level: u8,
}

/// Counts and sizes of one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Regular files.
    pub files: u64,
    /// Directories, the root included.
    pub dirs: u64,
    /// Symbolic links, fifos and devices.
    pub others: u64,
    /// Sum of file sizes in bytes.
    pub bytes: u64,
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over from the parent.
    pub files_unmodified: u64,
    /// Files of the parent that are gone.
    pub files_removed: u64,
    /// Bytes of file content read.
    pub bytes_read: u64,
    /// Bytes of new blobs before compression.
    pub bytes_added_raw: u64,
    /// Bytes of new packs and index objects as stored.
    pub bytes_added_stored: u64,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// The last integrity check of a captured database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Integrity {
    /// None was due.
    #[default]
    NotChecked,
    /// SQLite found nothing wrong, at the time given.
    Ok(Timestamp),
    /// What SQLite reported, at the time given.
    Failed(Timestamp, String),
}

/// What is known of one database of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseRecord {
    /// Its path.
    pub path: RepoPath,
    /// When its image was taken.
    pub captured: Timestamp,
    /// True when it was copied raw because no consistent capture was possible.
    pub raw: bool,
    /// Image length in bytes.
    pub size: u64,
    /// `PRAGMA user_version`: the application's schema version.
    pub user_version: u32,
    /// `PRAGMA application_id`.
    pub application_id: u32,
    /// The last integrity check.
    pub integrity: Integrity,
}

/// A source path that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The path.
    pub path: RepoPath,
    /// What happened.
    pub message: String,
}

/// Something that a snapshot has much less of than its parent had: part of the shrink alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Regular files.
    Files {
        /// How many the parent had.
        before: u64,
    },
    /// Bytes of file content.
    Bytes {
        /// How many the parent had.
        before: u64,
    },
    /// A database that is gone, or far smaller.
    Database {
        /// Its path.
        path: RepoPath,
        /// Length in bytes of its image in the parent.
        before: u64,
    },
}

/// A snapshot: a small sealed record naming a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the capture began.
    pub time: Timestamp,
    /// Regular or safety.
    pub kind: SnapshotKind,
    /// Why it was taken.
    pub reason: Reason,
    /// Name of the machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// The program and its version, such as `exuvia 0.1.0`.
    pub program: String,
    /// Who wrote it.
    pub writer: WriterId,
    /// Counts the writer's snapshots, from 1.
    pub sequence: u64,
    /// The snapshot it was compared with.
    pub parent: Option<ObjectId>,
    /// Absolute path of the directory that entries are relative to.
    pub root: Vec<u8>,
    /// Absolute paths asked for; just the root in most cases.
    pub paths: Vec<Vec<u8>>,
    /// Options that chose what belongs to the snapshot, in words; equal for snapshots that compare.
    pub selection: Vec<String>,
    /// Free labels, sorted.
    pub tags: Vec<String>,
    /// The manifest.
    pub manifest: ManifestRef,
    /// False when some source file could not be read.
    pub complete: bool,
    /// The first errors (at most 1,000).
    pub errors: Vec<FileError>,
    /// How many errors there were in all.
    pub error_count: u64,
    /// The databases.
    pub databases: Vec<DatabaseRecord>,
    /// Counts and sizes.
    pub stats: Stats,
    /// What it lost against its parent, if that is so much that the shrink alarm was raised.
    pub losses: Vec<Loss>,
}

impl Snapshot {
    /// What it is known by when its record is gone.
    #[must_use]
    pub fn mark(&self) -> SnapshotMark {
        SnapshotMark { writer: self.writer, sequence: self.sequence }
    }

    /// True when the shrink alarm was raised over it.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        !self.losses.is_empty()
    }

    /// What it has of what was lost: a number of files, or of bytes; `None` for a database that is gone.
    #[must_use]
    pub fn left_of(&self, loss: &Loss) -> Option<u64> {
        match loss {
            Loss::Files { .. } => Some(self.stats.files),
            Loss::Bytes { .. } => Some(self.stats.bytes),
            Loss::Database { path, .. } => self.databases.iter().find(|d| d.path == *path).map(|d| d.size),
        }
    }
}
