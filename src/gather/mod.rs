//! Where entries come from: the walk of a state dir, what it leaves out and what it is limited to.

mod anchored;
mod gateway;
pub mod json5;
pub mod openclaw;
pub mod rules;
pub mod sets;
pub mod sqlite;
pub mod walk;

use std::io;
use std::sync::Arc;

pub use gateway::running_gateway;
pub use openclaw::Profile;
pub use rules::{IGNORE_FILE, RuleError, RuleOptions, Rules};
pub use sets::{IncludeSet, UnknownSet};
pub use walk::{TreeWalk, WalkOptions};

use crate::fs::{Dir, Stat};
use crate::model::RepoPath;

/// A source of entries, in manifest order (`compare_paths`): depth first, children sorted by their
/// names' bytes.
pub trait Gather {
    /// The next find; `None` at the end and ever after.
    fn next(&mut self) -> Option<Found>;
}

/// What a gatherer meets. Nothing that belongs to the source is passed over without one of these.
#[derive(Debug)]
pub enum Found {
    /// An entry.
    Entry(FoundEntry),
    /// Something that could not be read; the snapshot is incomplete. For a directory that cannot be
    /// opened or listed this comes after its own entry.
    Error {
        /// Where. For a name that no snapshot can hold, the directory that has it.
        path: RepoPath,
        /// What went wrong.
        error: io::Error,
        /// What was being done, such as `open directory`.
        what: &'static str,
    },
    /// Something left out on purpose; comes once for a directory, whose content is not looked at.
    Skipped {
        /// Where.
        path: RepoPath,
        /// Why.
        reason: SkipReason,
    },
}

/// An entry as found, with the handles through which to read it.
///
/// A handle stays open as long as someone holds it: who queues entries bounds the queue.
#[derive(Clone, Debug)]
pub struct FoundEntry {
    /// Path below the root; empty for the root.
    pub path: RepoPath,
    /// Metadata; for a directory that could be opened, of what was opened.
    pub stat: Stat,
    /// The directory that holds it; for the root, itself.
    pub parent: Arc<Dir>,
    /// For a directory that could be opened: its own handle.
    pub opened: Option<Arc<Dir>>,
    /// A file that belongs to the database beside it: `<base>-wal`, `<base>-shm` or `<base>-journal`
    /// where `<base>` is a regular file in the same directory. Whether that one is a database is for
    /// its reader to find out.
    pub sidecar: bool,
}

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// A rule of the user, an ignore file, or the profile.
    Excluded,
    /// A socket: it has no content, and only its server can make it.
    Socket,
    /// It was gone before it could be looked at.
    Vanished,
    /// The content of a directory marked as a cache.
    Cache,
    /// The content of a directory on another file system.
    OtherFileSystem,
    /// Our own repository, cache or output.
    OwnRepository,
}

impl SkipReason {
    /// The word used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Socket => "socket",
            Self::Vanished => "vanished",
            Self::Cache => "cache",
            Self::OtherFileSystem => "other-file-system",
            Self::OwnRepository => "own-repository",
        }
    }
}

#[cfg(test)]
mod tests;
