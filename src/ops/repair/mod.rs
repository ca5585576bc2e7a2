//! `repair`: rebuilds what can be rebuilt of a damaged repository, and saves what can be saved. Each repair
//! writes new objects; what was there stays until the user says otherwise.

pub mod index;
pub mod packs;
mod said;
pub mod snapshots;

use crate::model::{Classify, ErrorClass};
use crate::repo::RepoError;

/// Why a repair did not come to its end. What it had written by then is of use to the next one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user asked to stop.
    #[error("interrupted; what was written so far does no harm, and the same repair goes on from there")]
    Interrupted,
    /// A pack that was named is not in the repository.
    #[error("the repository has no pack {0}")]
    NoSuchPack(String),
    /// What seems lost may only be missing in the index.
    #[error("the index must be repaired first: {0}")]
    Index(String),
    /// The repository failed.
    #[error(transparent)]
    Repo(RepoError),
}

impl From<RepoError> for Error {
    fn from(error: RepoError) -> Self {
        if error.class() == ErrorClass::Interrupted { Self::Interrupted } else { Self::Repo(error) }
    }
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Interrupted => ErrorClass::Interrupted,
            Self::NoSuchPack(_) => ErrorClass::Usage,
            Self::Index(_) => ErrorClass::Damaged,
            Self::Repo(e) => e.class(),
        }
    }
}

#[cfg(test)]
mod tests;
