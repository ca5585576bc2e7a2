//! The index of one operation: loaded by whoever needs it first, shared by all of its threads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::base::Base;
use super::layout::{Folder, ObjectInfo, pack_name};
use super::{Index, RepoError, Repository};
use crate::format::index_v1::PackInfo;
use crate::model::{BlobId, Classify, ErrorClass, ObjectId};

/// Other clients may replace index objects by merged ones while we read them.
const LISTINGS: usize = 3;

/// The index as loaded.
pub struct LoadedIndex {
    /// Packs that may be counted on.
    pub index: Index,
    /// Packs of interrupted runs, in `index` but not yet published.
    pub adopted: Vec<PackInfo>,
    /// Packs are condemned: what an earlier snapshot refers to need not be in `index` any more.
    pub doubtful: bool,
    /// The index objects that no other one replaces.
    pub objects: Vec<ObjectInfo>,
    /// They were listed in an earlier run.
    pub remembered: bool,
}

impl LoadedIndex {
    /// True when a blob of an earlier snapshot may be kept as it is. Where packs are condemned it must be in the index
    /// itself: those that a repair found gone are condemned, and in no index object any more.
    pub fn may_keep(&self, id: &BlobId) -> Result<bool, RepoError> {
        Ok(!self.doubtful || self.index.contains(id)?)
    }
}

/// An index that is loaded at first use.
pub struct SharedIndex {
    repository: Repository,
    condemned: BTreeSet<ObjectId>,
    remembered: Option<Vec<ObjectInfo>>,
    /// For who only reads, a pack that is condemned is better than none.
    reads: bool,
    loaded: Mutex<Option<Arc<LoadedIndex>>>,
}

impl SharedIndex {
    /// The whole index, for who only reads. Of several places of a blob, one in a pack that is not
    /// condemned counts: those may be damaged, or be deleted any time.
    #[must_use]
    pub fn new(repository: &Repository) -> Arc<Self> {
        Arc::new(Self {
            repository: repository.clone(),
            condemned: BTreeSet::new(),
            remembered: None,
            reads: true,
            loaded: Mutex::default(),
        })
    }

    /// An index that does not count on the packs in `condemned`: of the index objects in `remembered`,
    /// or of all that there are.
    #[must_use]
    pub fn without(
        repository: &Repository,
        condemned: BTreeSet<ObjectId>,
        remembered: Option<Vec<ObjectInfo>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            repository: repository.clone(),
            condemned,
            remembered,
            reads: false,
            loaded: Mutex::default(),
        })
    }

    /// An index that has nothing: for who knows already what is to be stored.
    #[must_use]
    pub fn nothing(repository: &Repository) -> Arc<Self> {
        let this = Self::without(repository, BTreeSet::new(), None);
        let nothing = LoadedIndex {
            index: Index::default(),
            adopted: Vec::new(),
            doubtful: false,
            objects: Vec::new(),
            remembered: false,
        };
        *this.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(nothing));
        this
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

    /// What to count on only where there is nothing else. This is a preference: that it cannot be learnt
    /// keeps nobody from reading.
    fn last_resort(&self) -> BTreeSet<ObjectId> {
        let condemned = || self.repository.condemned(&self.repository.gc_records()?);
        condemned().unwrap_or_default()
    }

    fn read(&self, objects: &[ObjectInfo], remembered: bool) -> Result<LoadedIndex, RepoError> {
        let condemned = if self.reads { &self.last_resort() } else { &self.condemned };
        let base = Base::find(&self.repository, objects, condemned)?;
        let based: BTreeSet<_> = base.iter().flat_map(Base::sources).map(|source| source.id).collect();
        let mut replaced: BTreeSet<_> =
            base.iter().flat_map(Base::sources).flat_map(|source| source.replaces.clone()).collect();
        let mut index = Index::new(base);
        let (mut last, mut unreadable) = (Vec::new(), Vec::new());
        for object in objects.iter().filter(|object| !based.contains(&object.id)) {
            match index.add_object(&self.repository, object, condemned) {
                Ok(decoded) => {
                    replaced.extend(decoded.replaces);
                    let packs = decoded.packs.into_iter();
                    last.extend(packs.filter(|pack| self.reads && condemned.contains(&pack.id)));
                }
                Err(error) if is_damaged(&error) => unreadable.push((object.id, error)),
                Err(error) => return Err(error),
            }
        }
        // One that another object replaces is no loss.
        if let Some((_, error)) = unreadable.into_iter().find(|(id, _)| !replaced.contains(id)) {
            return Err(error);
        }
        let adopted = adopt(&self.repository, &mut index, condemned)?;
        last.iter().try_for_each(|pack| index.add_last(pack))?;
        let doubtful = !self.reads && !condemned.is_empty();
        let objects = objects.iter().filter(|object| !replaced.contains(&object.id)).cloned().collect();
        Ok(LoadedIndex { index, adopted, doubtful, objects, remembered })
    }
}

/// True when an index object is there and is not what it should be.
pub(super) fn is_damaged(error: &RepoError) -> bool {
    let gone = matches!(error, RepoError::Remote(e) if e.is_not_found());
    error.class() == ErrorClass::Damaged && !gone
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
