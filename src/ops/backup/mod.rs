//! `backup`: an incremental snapshot of a directory.

use std::io;
use std::path::PathBuf;

use crate::model::{Classify, ErrorClass, FileError, ObjectId, Snapshot};
use crate::remote::RequestCounts;
use crate::repo::RepoError;

/// Whether the application's own rules of what to leave out apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProfileChoice {
    /// Those of the application that is recognised in the directory, if any.
    #[default]
    Auto,
    /// No rules.
    None,
    /// OpenClaw's.
    OpenClaw,
}

/// What belongs to a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of include sets; everything when empty.
    pub include: Vec<String>,
    /// Patterns in gitignore syntax, anchored at the root.
    pub exclude: Vec<String>,
    /// Files of such patterns.
    pub exclude_files: Vec<PathBuf>,
    /// The application's rules.
    pub profile: ProfileChoice,
    /// Stay on the file system of the root.
    pub one_file_system: bool,
    /// Leave out what directories marked with a `CACHEDIR.TAG` hold.
    pub exclude_caches: bool,
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The snapshot's id; `None` for a dry run and when it was skipped because nothing differed.
    pub id: Option<ObjectId>,
    /// Its record (for a dry run: what it would have been).
    pub snapshot: Snapshot,
    /// The root is the same as the parent's: nothing differs.
    pub unchanged: bool,
    /// All source files that could not be read.
    pub errors: Vec<FileError>,
    /// Requests made to the remote.
    pub requests: RequestCounts,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root cannot be read at all.
    #[error("cannot read {path}: {source}")]
    Root {
        /// The root.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A pattern, set or path that makes no sense.
    #[error("{0}")]
    Selection(String),
    /// The user asked to stop.
    #[error("interrupted; what was stored so far is used by the next backup")]
    Interrupted,
    /// Packs that the backup relied on were condemned again and again while it ran.
    #[error("a prune on another machine keeps condemning packs; try again when it is done")]
    Condemned,
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Root { .. } | Self::Condemned => ErrorClass::Failed,
            Self::Selection(_) => ErrorClass::Usage,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}
