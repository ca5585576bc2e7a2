//! `forget`: removes snapshot records. What only they needed stays until a prune.

use super::select;
use crate::format::marker_v1::Operation;
use crate::model::{Classify, ErrorClass, ObjectId, SnapshotKind, Timestamp};
use crate::repo::{Catalog, CatalogEntry, RepoError, Repository};
use crate::report::Monitor;

/// Why nothing, or not all, was removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A word names no safety snapshot.
    #[error(transparent)]
    Select(#[from] select::Error),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Select(e) => e.class(),
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}

/// A safety snapshot that is to be removed; made by [`plan`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(CatalogEntry);

impl Target {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.0.id
    }

    /// When it was taken, to the second.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_secs(self.0.time)
    }
}

/// Finds safety snapshots by their ids or unique beginnings of these. Removes nothing, and finds all or fails.
/// Records need not be readable: a damaged one can be removed too.
pub fn plan(repository: &Repository, ids: &[String]) -> Result<Vec<Target>, Error> {
    repository.require(Operation::Delete)?;
    let catalog = Catalog::load(repository, SnapshotKind::Safety)?;
    let mut targets: Vec<Target> = Vec::new();
    for id in ids {
        let target = Target(select::by_id(&catalog, id)?.clone());
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Removes what was planned: the records, and nothing else.
pub fn run(repository: &Repository, targets: &[Target], monitor: &dyn Monitor) -> Result<(), Error> {
    for Target(entry) in targets {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        repository.remove_safety_snapshot(entry)?;
    }
    Ok(())
}
