//! Reading frames and blobs, verified before use.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::pack_name;
use super::{BlobPlace, Index, RepoError, Repository};
use crate::crypto::{ObjectKey, ObjectKind};
use crate::format::pack_v1;
use crate::format::sealed_v1::HEADER;
use crate::model::{BlobId, BlobKind, ObjectId};

/// Frames kept decoded: neighbouring blobs are mostly asked for one after the other.
const KEPT_FRAMES: usize = 8;

/// The object keys of packs, each unwrapped once.
#[derive(Default)]
pub struct ObjectKeys {
    keys: Mutex<HashMap<ObjectId, Arc<ObjectKey>>>,
}

impl ObjectKeys {
    /// The key of a pack, from its header.
    pub fn get(&self, repository: &Repository, pack: &ObjectId) -> Result<Arc<ObjectKey>, RepoError> {
        if let Some(key) = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(pack) {
            return Ok(Arc::clone(key));
        }
        let name = pack_name(pack);
        let header = repository.remote().get_range(&name, 0, HEADER as u64)?;
        let key =
            repository.sealer().open_header(ObjectKind::Pack, &header).map_err(RepoError::object(&name))?;
        let key = Arc::new(key);
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(*pack, Arc::clone(&key));
        Ok(key)
    }
}

type Kept = VecDeque<((u32, u32), Arc<Vec<u8>>)>;

/// Reads blobs through the index.
pub struct BlobReader<'a> {
    repository: &'a Repository,
    index: &'a Index,
    keys: ObjectKeys,
    kept: Mutex<Kept>,
}

impl<'a> BlobReader<'a> {
    /// A reader over an index.
    #[must_use]
    pub fn new(repository: &'a Repository, index: &'a Index) -> Self {
        Self { repository, index, keys: ObjectKeys::default(), kept: Mutex::default() }
    }

    /// The index read through.
    #[must_use]
    pub fn index(&self) -> &'a Index {
        self.index
    }

    /// The repository read from.
    #[must_use]
    pub fn repository(&self) -> &'a Repository {
        self.repository
    }

    /// Where a blob is, or [`RepoError::UnknownBlob`].
    pub fn place(&self, id: &BlobId) -> Result<BlobPlace, RepoError> {
        self.index.get(id).ok_or(RepoError::UnknownBlob { id: *id })
    }

    /// Reads and opens a frame. Its blobs are not verified yet.
    pub fn frame(&self, pack: u32, frame: u32) -> Result<Vec<u8>, RepoError> {
        let what = "the index names a frame that does not exist";
        let (summary, info) = self.index.frame(pack, frame).ok_or(RepoError::Manifest { what })?;
        let key = self.keys.get(self.repository, &summary.id)?;
        let name = pack_name(&summary.id);
        let sealed = self.repository.remote().get_range(&name, info.offset, info.stored.into())?;
        pack_v1::open_frame(self.repository.sealer(), &key, frame.into(), &info.info(), sealed)
            .map_err(RepoError::object(&name))
    }

    /// Checks that `bytes`, read at `place`, are the blob `id` of the kind expected.
    pub fn verify(
        &self,
        kind: BlobKind,
        id: &BlobId,
        place: BlobPlace,
        bytes: &[u8],
    ) -> Result<(), RepoError> {
        let stored_as = self.index.frame(place.pack, place.frame).map(|(_, frame)| frame.kind);
        if stored_as == Some(kind) && self.repository.sealer().keys.blob_id(kind, bytes) == *id {
            return Ok(());
        }
        let pack = self.index.packs().get(place.pack as usize).map(|p| pack_name(&p.id)).unwrap_or_default();
        Err(RepoError::BlobMismatch { id: *id, pack })
    }

    /// Reads a blob and verifies it.
    pub fn blob(&self, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>, RepoError> {
        let place = self.place(id)?;
        let frame = self.kept_frame(place.pack, place.frame)?;
        let from = place.offset as usize;
        let bytes = frame.get(from..from + place.length as usize).unwrap_or_default();
        self.verify(kind, id, place, bytes)?;
        Ok(bytes.to_vec())
    }

    fn kept_frame(&self, pack: u32, frame: u32) -> Result<Arc<Vec<u8>>, RepoError> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = lock().iter().find(|(at, _)| *at == (pack, frame)) {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.frame(pack, frame)?);
        let mut kept = lock();
        kept.push_back(((pack, frame), Arc::clone(&bytes)));
        if kept.len() > KEPT_FRAMES {
            kept.pop_front();
        }
        Ok(bytes)
    }
}
