//! Takes back a repository that was made a moment ago and is not wanted after all.

use super::scratch;
use super::{AppError, Location, Session};
use crate::fs;
use crate::model::RepositoryId;
use crate::repo::{Cache, Folder, MARKER, RepoError, Repository, parse_name};

/// Every folder that a repository has objects in, those that others need last.
const FOLDERS: [Folder; 8] = [
    Folder::Snapshots,
    Folder::Safety,
    Folder::Removed,
    Folder::Accepted,
    Folder::Gc,
    Folder::Index,
    Folder::Packs,
    Folder::Keys,
];

/// Removes the repository that an [`init`](super::init) by the same session made, and what this machine keeps of it.
/// `made`: what it returned. False, and nothing is removed, when there is another repository or one that has a snapshot
/// by now: somebody may need it. Whatever does not have the name of an object is somebody else's, and stays.
pub fn take_back(session: &Session, made: RepositoryId) -> Result<bool, AppError> {
    let remote = super::run::remote(&session.repository, &session.monitor, &session.clock);
    match Repository::probe(remote.as_ref()) {
        Ok(marker) if marker.id == made => {}
        Err(RepoError::NoRepository { .. }) => {}
        Ok(_) => return Ok(false),
        Err(e) => return Err(e.into()),
    }
    for folder in [Folder::Snapshots, Folder::Safety] {
        if !remote.list(folder.name()).map_err(RepoError::from)?.is_empty() {
            return Ok(false);
        }
    }
    // First, so that nobody begins to use what is going.
    remote.delete(MARKER).map_err(RepoError::from)?;
    for folder in FOLDERS {
        let listed = remote.list(folder.name()).map_err(RepoError::from)?;
        for object in listed.into_iter().filter(|object| parse_name(&object.name).is_some()) {
            remote.delete(&object.name).map_err(RepoError::from)?;
        }
    }
    drop(fs::remove_tree(Cache::new(session.caches(), made).directory()));
    if let Location::Local(path) = &session.repository {
        for folder in FOLDERS {
            drop(fs::remove_empty_dirs(&path.join(folder.name())));
        }
    }
    scratch::remove_folders(&session.repository);
    Ok(true)
}
