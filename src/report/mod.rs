//! What a long operation tells while it runs.

use crate::model::RepoPath;

/// What an operation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Walking the source and storing what is new.
    Backup,
    /// Making the snapshot durable.
    Publish,
    /// Comparing the target with the snapshot.
    Plan,
    /// Writing files.
    Restore,
    /// Reading written files again, or checking databases.
    Verify,
    /// Checking structure.
    Check,
    /// Reading all data.
    ReadData,
    /// Looking for what no snapshot needs.
    Look,
    /// Removing what was condemned long enough ago.
    Delete,
    /// Copying what is needed out of packs that are mostly not.
    Repack,
}

/// Listens to an operation. Called from several threads.
pub trait Monitor: Send + Sync {
    /// A new phase begins; `bytes` is how much there will be, when that is known.
    fn phase(&self, phase: Phase, bytes: Option<u64>) {
        let _ = (phase, bytes);
    }

    /// So many more files and bytes are done.
    fn progress(&self, files: u64, bytes: u64) {
        let _ = (files, bytes);
    }

    /// Something worth knowing that is no fault.
    fn note(&self, path: Option<&RepoPath>, message: &str) {
        let _ = (path, message);
    }

    /// Something that the user should look at.
    fn warning(&self, path: Option<&RepoPath>, message: &str) {
        let _ = (path, message);
    }

    /// One path failed; the operation goes on and its outcome counts it too.
    fn error(&self, path: &RepoPath, message: &str) {
        let _ = (path, message);
    }

    /// True when the operation should stop as soon as it can.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {}
