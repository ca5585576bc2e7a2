//! What passes between the threads of a backup.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::fs::{Dir, Stat};
use crate::gather::SkipReason;
use crate::model::{Capture, Content, ContentHash, Entry, Integrity, RepoPath, Slice, Timestamp, Xattr};
use crate::repo::PageTable;

/// A file to be read.
pub(super) struct FileJob {
    pub(super) path: RepoPath,
    /// Where it was found.
    pub(super) parent: Arc<Dir>,
    /// Its content in the previous snapshot.
    pub(super) previous: Option<Arc<Content>>,
}

/// Files that one reader reads, in order.
pub(super) struct Job {
    pub(super) files: Vec<FileJob>,
    /// Takes what became of each, in order.
    pub(super) out: Sender<FileDone>,
}

/// What became of a file.
pub(super) enum FileDone {
    Read(Box<ReadFile>),
    Vanished,
    Failed(String),
}

/// A file that was read.
pub(super) struct ReadFile {
    /// Metadata at the time of reading.
    pub(super) stat: Stat,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) slices: Vec<Slice>,
    pub(super) size: u64,
    /// Present when there is more than one slice.
    pub(super) hash: Option<ContentHash>,
    pub(super) capture: Capture,
    /// It may have changed without a visible sign.
    pub(super) unsettled: bool,
    pub(super) bytes_read: u64,
    pub(super) database: Option<Database>,
    /// Things to tell the user.
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// What is known of a database that was read.
pub(super) struct Database {
    pub(super) captured: Timestamp,
    pub(super) user_version: u32,
    pub(super) application_id: u32,
    /// `None` when no check was due: the last one's result stands.
    pub(super) integrity: Option<Integrity>,
    /// For the cache, once the snapshot is published; none for a raw copy.
    pub(super) table: Option<PageTable>,
}

/// A regular file as the walk met it.
pub(super) struct FoundFile {
    pub(super) path: RepoPath,
    pub(super) stat: Stat,
    /// The previous snapshot had a file here.
    pub(super) existed: bool,
}

/// One step of the walk, in manifest order.
pub(super) enum Item {
    /// As in the previous snapshot.
    Keep(Box<Entry>),
    /// Complete without reading content.
    Made(Box<Entry>, Vec<String>),
    /// A file being read by a reader.
    File(FoundFile),
    /// A database that was captured before the walk.
    Captured(FoundFile),
    /// Another name of a file that came before.
    Link(FoundFile),
    /// A companion file: left out when `base` turns out to be a captured database.
    Sidecar { base: RepoPath, found: Box<FoundFile>, job: FileJob, kept: Option<Box<Entry>> },
    /// Could not be read.
    Failed { path: RepoPath, message: String },
    /// Left out.
    Skipped { path: RepoPath, reason: SkipReason },
    /// Files of the previous snapshot that are not there any more.
    Removed(u64),
}

/// A run of items and, when some of them are being read, where it is said what became of those.
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    pub(super) read: Option<Receiver<FileDone>>,
}
