//! The index of one operation: loaded by whoever needs it first, shared by all of its threads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::base::Base;
use super::index::IdSet;
use super::layout::{Folder, ObjectInfo, pack_name};
use super::{Index, RepoError, Repository};
use crate::format::index_v1::PackInfo;
use crate::model::ObjectId;

/// Other clients may replace index objects by merged ones while we read them.
const LISTINGS: usize = 3;

/// The index as loaded.
pub struct LoadedIndex {
    /// Packs that may be counted on.
    pub index: Index,
    /// Packs of interrupted runs, in `index` but not yet published.
    pub adopted: Vec<PackInfo>,
    /// Blobs that only condemned packs hold.
    pub avoid: IdSet,
    /// The index objects that no other one replaces.
    pub objects: Vec<ObjectInfo>,
    /// They were listed in an earlier run.
    pub remembered: bool,
}

/// An index that is loaded at first use.
pub struct SharedIndex {
    repository: Repository,
    condemned: BTreeSet<ObjectId>,
    remembered: Option<Vec<ObjectInfo>>,
    loaded: Mutex<Option<Arc<LoadedIndex>>>,
}

impl SharedIndex {
    /// The whole index.
    #[must_use]
    pub fn new(repository: &Repository) -> Arc<Self> {
        Self::without(repository, BTreeSet::new(), None)
    }

    /// An index that does not count on the packs in `condemned`: of the index objects in `remembered`,
    /// or of all that there are.
    #[must_use]
    pub fn without(
        repository: &Repository,
        condemned: BTreeSet<ObjectId>,
        remembered: Option<Vec<ObjectInfo>>,
    ) -> Arc<Self> {
        Arc::new(Self { repository: repository.clone(), condemned, remembered, loaded: Mutex::default() })
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
        let loaded = Arc::new(self.load()?);
        *slot = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The index, if someone needed it.
    #[must_use]
    pub fn loaded(&self) -> Option<Arc<LoadedIndex>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn load(&self) -> Result<LoadedIndex, RepoError> {
        let gone = |e: &RepoError| matches!(e, RepoError::Remote(e) if e.is_not_found());
        if let Some(objects) = &self.remembered {
            match self.read(objects, true) {
                Err(e) if gone(&e) => {}
                other => return other,
            }
        }
        let mut tries = 1;
        loop {
            match self.read(&self.repository.list(Folder::Index)?, false) {
                Err(e) if gone(&e) && tries < LISTINGS => tries += 1,
                other => return other,
            }
        }
    }

    fn read(&self, objects: &[ObjectInfo], remembered: bool) -> Result<LoadedIndex, RepoError> {
        let base = Base::find(&self.repository, objects, &self.condemned)?;
        let based: BTreeSet<_> = base.iter().flat_map(Base::sources).map(|source| source.id).collect();
        let mut replaced: BTreeSet<_> =
            base.iter().flat_map(Base::sources).flat_map(|source| source.replaces.clone()).collect();
        let mut index = Index::new(base);
        let mut doubtful = IdSet::default();
        for object in objects.iter().filter(|object| !based.contains(&object.id)) {
            let decoded = index.add_object(&self.repository, object, &self.condemned)?;
            replaced.extend(decoded.replaces);
            let condemned = decoded.packs.iter().filter(|pack| self.condemned.contains(&pack.id));
            let blobs = condemned.flat_map(|pack| &pack.frames).flat_map(|frame| &frame.blobs);
            doubtful.extend(blobs.map(|blob| blob.id()));
        }
        let adopted = adopt(&self.repository, &mut index, &self.condemned)?;
        let mut avoid = IdSet::default();
        for id in doubtful {
            if !index.contains(&id)? {
                avoid.insert(id);
            }
        }
        let objects = objects.iter().filter(|object| !replaced.contains(&object.id)).cloned().collect();
        Ok(LoadedIndex { index, adopted, avoid, objects, remembered })
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
        if index.contains_pack(&pack.id)? {
            repository.cache().forget_pending(&pack.id);
            continue;
        }
        match repository.remote().size(&pack_name(&pack.id)) {
            Ok(size) if size == pack.size && !condemned.contains(&pack.id) => {
                index.add_pack(&pack)?;
                adopted.push(pack);
            }
            Ok(_) => repository.cache().forget_pending(&pack.id),
            Err(e) if e.is_not_found() => repository.cache().forget_pending(&pack.id),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(adopted)
}
