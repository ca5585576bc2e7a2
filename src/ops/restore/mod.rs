//! `restore`: puts a snapshot, or parts of it, into a directory.

use std::io;
use std::path::PathBuf;

use crate::model::{Classify, ErrorClass, FileError};
use crate::repo::RepoError;

/// What a restore did, or for a dry run would do.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Where.
    pub target: PathBuf,
    /// Regular files of the snapshot within the paths asked for.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symlinks, fifos, devices.
    pub others: u64,
    /// Files written.
    pub files_written: u64,
    /// Files that were there already.
    pub files_unchanged: u64,
    /// Bytes of file content written.
    pub bytes_written: u64,
    /// Databases checked and found good.
    pub databases_checked: u64,
    /// Paths that could not be put back, with the reason.
    pub errors: Vec<FileError>,
    /// True when one of the errors is damage in the repository.
    pub damaged: bool,
    /// Old database companions (`-wal` and so on) and where they were moved.
    pub moved_aside: Vec<(PathBuf, PathBuf)>,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target cannot be used.
    #[error("cannot restore to {path}: {source}")]
    Target {
        /// The target.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The snapshot does not have a path that was asked for.
    #[error("the snapshot has no {0:?}")]
    NoSuchPath(String),
    /// A database in the target is open in another process.
    #[error("{path} is open in another program; stop it first, or restore to another directory")]
    DatabaseInUse {
        /// The database.
        path: PathBuf,
    },
    /// The user asked to stop.
    #[error("interrupted; files restored so far are complete")]
    Interrupted,
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Target { .. } => ErrorClass::Failed,
            Self::NoSuchPath(_) => ErrorClass::Usage,
            Self::DatabaseInUse { .. } => ErrorClass::Busy,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}
