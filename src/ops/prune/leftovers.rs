//! What else lies about: acceptances of snapshots that are gone, temporary files of processes that died.

use super::Error;
use super::state::State;
use crate::fs;
use crate::model::{Classify, ErrorClass, Timestamp};
use crate::repo::{ObjectInfo, RepoError, Repository};

/// Temporary files may be removed by anyone after so many seconds: `format-spec/` section 13, rule 6.
const DAY: i64 = 24 * 3600;

/// Acceptances of which no snapshot exists any more. One that cannot be read is nobody's to remove.
pub(super) fn answered(repository: &Repository, state: &State) -> Result<Vec<ObjectInfo>, RepoError> {
    let mut old = Vec::new();
    for object in &state.accepted {
        match repository.read_acceptance(object) {
            Ok(acceptance) if acceptance.snapshots.iter().all(|id| !state.snapshots.contains(id)) => {
                old.push(object.clone());
            }
            Ok(_) => {}
            Err(e) if e.class() == ErrorClass::Damaged => {}
            Err(e) => return Err(e),
        }
    }
    Ok(old)
}

/// Removes acceptances of snapshots that are gone; tells how many.
pub(super) fn acceptances(repository: &Repository, state: &State) -> Result<u64, Error> {
    let old = answered(repository, state)?;
    for object in &old {
        repository.remove_pruned(object)?;
    }
    Ok(old.len() as u64)
}

/// Removes temporary files of a local repository and of the cache that are more than a day old; tells how
/// many. One that cannot be removed is left to the next.
pub(super) fn temporary(repository: &Repository, now: Timestamp) -> u64 {
    let before = Timestamp { secs: now.secs.saturating_sub(DAY), ..now };
    let dirs = repository.own_directories();
    dirs.iter().map(|dir| fs::remove_old_temporaries(dir, before)).sum()
}
