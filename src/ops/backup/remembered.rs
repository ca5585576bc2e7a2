//! What this machine knows of its last snapshot without reading it.

use std::path::Path;

use crate::model::{ObjectId, Snapshot};
use crate::ops::cache_keys;
use crate::repo::Repository;

/// The last snapshot of all of a directory that was taken on this machine, from the cache. Whether it is still
/// there is for the caller to see.
#[must_use]
pub fn remembered(repository: &Repository, root: &Path) -> Option<(ObjectId, Snapshot)> {
    let baseline = repository.cache().baseline(&cache_keys::tree(root, &[]))?;
    Some((baseline.id, baseline.snapshot))
}
