//! The index of one operation: loaded by whoever needs it first, shared by all of its threads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::index::IdSet;
use super::layout::pack_name;
use super::{Index, RepoError, Repository};
use crate::format::index_v1::PackInfo;
use crate::model::ObjectId;

/// The index as loaded.
pub struct LoadedIndex {
    /// Packs that may be counted on.
    pub index: Index,
    /// Packs of interrupted runs, in `index` but not yet published.
    pub adopted: Vec<PackInfo>,
    /// Blobs that only condemned packs hold.
    pub avoid: IdSet,
}

/// An index that is loaded at first use.
pub struct SharedIndex {
    repository: Repository,
    condemned: BTreeSet<ObjectId>,
    loaded: Mutex<Option<Arc<LoadedIndex>>>,
}

impl SharedIndex {
    /// An index that does not count on the packs in `condemned`.
    #[must_use]
    pub fn new(repository: &Repository, condemned: BTreeSet<ObjectId>) -> Arc<Self> {
        Arc::new(Self { repository: repository.clone(), condemned, loaded: Mutex::default() })
    }

    /// The packs not counted on.
    #[must_use]
    pub fn condemned(&self) -> &BTreeSet<ObjectId> {
        &self.condemned
    }

    /// The index, loaded when it is not yet.
    pub fn get(&self) -> Result<Arc<LoadedIndex>, RepoError> {
        let mut slot = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = slot.as_ref() {
            return Ok(Arc::clone(loaded));
        }
        let mut index = Index::load(&self.repository, &self.condemned)?;
        let adopted = adopt(&self.repository, &mut index, &self.condemned)?;
        let avoid = self.only_condemned(&index)?;
        let loaded = Arc::new(LoadedIndex { index, adopted, avoid });
        *slot = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The index, if someone needed it.
    #[must_use]
    pub fn loaded(&self) -> Option<Arc<LoadedIndex>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn only_condemned(&self, index: &Index) -> Result<IdSet, RepoError> {
        if self.condemned.is_empty() {
            return Ok(IdSet::default());
        }
        let all = Index::load(&self.repository, &BTreeSet::new())?;
        Ok(all.blobs().map(|(id, _)| *id).filter(|id| !index.contains(id)).collect())
    }
}

/// Finds packs that an interrupted run stored whole but did not publish, and adds them to the index.
fn adopt(
    repository: &Repository,
    index: &mut Index,
    condemned: &BTreeSet<ObjectId>,
) -> Result<Vec<PackInfo>, RepoError> {
    let mut adopted = Vec::new();
    for pack in repository.cache().pending() {
        if index.contains_pack(&pack.id) {
            repository.cache().forget_pending(&pack.id);
            continue;
        }
        match repository.remote().size(&pack_name(&pack.id)) {
            Ok(size) if size == pack.size && !condemned.contains(&pack.id) => {
                index.add_pack(&pack);
                adopted.push(pack);
            }
            Ok(_) => repository.cache().forget_pending(&pack.id),
            Err(e) if e.is_not_found() => repository.cache().forget_pending(&pack.id),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(adopted)
}
