//! Errors of the use cases.

use std::path::PathBuf;

use crate::crypto::{CryptoError, PhraseError};
use crate::model::{Classify, ErrorClass, KeyId};
use crate::ops::{
    alarm, auto_restore, backup, check, diff, drill, find, forget, full, prune, repair, restore, rollback,
    scrub, select,
};
use crate::remote::{Fault, RemoteError};
use crate::repo::RepoError;

/// Why a use case failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A backup.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// A check.
    #[error(transparent)]
    Check(#[from] check::Error),
    /// A repair.
    #[error(transparent)]
    Repair(#[from] repair::Error),
    /// A comparison of objects with their names.
    #[error(transparent)]
    Scrub(#[from] scrub::Error),
    /// A comparison.
    #[error(transparent)]
    Diff(diff::Error),
    /// A pattern.
    #[error(transparent)]
    Pattern(#[from] find::PatternError),
    /// A restore.
    #[error(transparent)]
    Restore(#[from] restore::Error),
    /// A rollback.
    #[error(transparent)]
    Rollback(#[from] rollback::Error),
    /// The repository has no snapshot of a state dir.
    #[error("the repository has no snapshot of {path}")]
    NotHere {
        /// The state dir.
        path: PathBuf,
    },
    /// No rollback of a state dir is known.
    #[error("there is no safety snapshot of {path}")]
    NothingToUndo {
        /// The state dir.
        path: PathBuf,
    },
    /// An auto-restore.
    #[error(transparent)]
    AutoRestore(#[from] auto_restore::Error),
    /// The snapshot that was named.
    #[error(transparent)]
    Select(#[from] select::Error),
    /// What a snapshot lost could not be accepted.
    #[error(transparent)]
    Accept(#[from] alarm::Error),
    /// A drill.
    #[error(transparent)]
    Drill(#[from] drill::Error),
    /// Snapshots could not be removed.
    #[error(transparent)]
    Forget(#[from] forget::Error),
    /// A prune.
    #[error(transparent)]
    Prune(#[from] prune::Error),
    /// Full archives.
    #[error(transparent)]
    Full(full::Error),
    /// A path that the snapshot does not have, or that is not what is asked for.
    #[error("{path}: {what}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A speed could not be measured.
    #[error("cannot measure {what}: {message}")]
    Measure {
        /// Of what.
        what: &'static str,
        /// The reason.
        message: String,
    },
    /// The system gave no random bytes.
    #[error(transparent)]
    Random(CryptoError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Writing the result failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl From<diff::Error> for AppError {
    fn from(error: diff::Error) -> Self {
        match error {
            // A reader that went away is the same whoever wrote.
            diff::Error::Output(e) => Self::Output(e),
            other => Self::Diff(other),
        }
    }
}

impl From<full::Error> for AppError {
    fn from(error: full::Error) -> Self {
        match error {
            full::Error::Interrupted => Self::Interrupted,
            // A reader that went away is the same whoever wrote.
            full::Error::Output(e) => Self::Output(e),
            other => Self::Full(other),
        }
    }
}

/// What kept a rotation of the keys from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationTrouble {
    /// The claim of another one.
    Other(KeyId),
    /// It had stored its key, or tried to.
    Cut,
    /// The keys changed under it.
    Changes,
}

impl AppError {
    /// How a passphrase that opens nothing, but looks like a recovery phrase, differs from one.
    #[must_use]
    pub fn phrase(&self) -> Option<PhraseError> {
        match self {
            Self::Repo(RepoError::WrongKey { phrase, .. }) => *phrase,
            _ => None,
        }
    }

    /// What kept a rotation of the keys from its end, if something did.
    #[must_use]
    pub fn rotation(&self) -> Option<RotationTrouble> {
        let Self::Repo(error) = self else { return None };
        let why = if let RepoError::RotationStopped { source, .. } = error { source } else { error };
        match why {
            RepoError::OtherRotation { key } => Some(RotationTrouble::Other(*key)),
            RepoError::RotationCut { .. } => Some(RotationTrouble::Cut),
            RepoError::KeysChange => Some(RotationTrouble::Changes),
            _ => None,
        }
    }

    /// What kind of failure a storage service reported, if one did.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let repo = match self {
            Self::Full(e) => return e.fault(),
            Self::Repo(e)
            | Self::Accept(alarm::Error::Repo(e))
            | Self::Forget(forget::Error::Repo(e))
            | Self::Prune(prune::Error::Repo(e))
            | Self::Drill(drill::Error::Repo(e) | drill::Error::Restore(restore::Error::Repo(e)))
            | Self::Backup(backup::Error::Repo(e))
            | Self::Check(check::Error::Repo(e))
            | Self::Repair(repair::Error::Repo(e))
            | Self::Scrub(scrub::Error::Repo(e))
            | Self::Diff(diff::Error::Repo(e) | diff::Error::Backup(backup::Error::Repo(e)))
            | Self::Restore(restore::Error::Repo(e))
            | Self::Rollback(rollback::Error::Repo(e))
            | Self::AutoRestore(
                auto_restore::Error::Repo(e) | auto_restore::Error::Restore(restore::Error::Repo(e)),
            ) => e,
            _ => return None,
        };
        match repo {
            RepoError::Remote(RemoteError::Service { fault, .. }) => Some(*fault),
            _ => None,
        }
    }
}

impl Classify for AppError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Repo(e) => e.class(),
            Self::Backup(e) => e.class(),
            Self::Check(e) => e.class(),
            Self::Repair(e) => e.class(),
            Self::Scrub(e) => e.class(),
            Self::Diff(e) => e.class(),
            Self::Pattern(e) => e.class(),
            Self::Restore(e) => e.class(),
            Self::Rollback(e) => e.class(),
            Self::NotHere { .. } => ErrorClass::Usage,
            Self::NothingToUndo { .. } => ErrorClass::Failed,
            Self::AutoRestore(e) => e.class(),
            Self::Select(e) => e.class(),
            Self::Accept(e) => e.class(),
            Self::Forget(e) => e.class(),
            Self::Prune(e) => e.class(),
            Self::Drill(e) => e.class(),
            Self::Full(e) => e.class(),
            Self::Path { .. } => ErrorClass::Usage,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Output(_) | Self::Measure { .. } | Self::Random(_) => ErrorClass::Failed,
        }
    }
}
