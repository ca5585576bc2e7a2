//! Reading frames and blobs, verified before use.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::pack_name;
use super::{BlobPlace, FramePlaceInfo, Index, RepoError, Repository};
use crate::crypto::{ObjectKey, ObjectKind};
use crate::format::pack_v1;
use crate::format::sealed_v1::HEADER;
use crate::model::{BlobId, BlobKind, Classify, ErrorClass, ObjectId};

/// Frames kept decoded: neighbouring blobs are mostly asked for one after the other.
const KEPT_FRAMES: usize = 8;
/// Reading this many bytes more costs less than a request to a far server.
pub(super) const NEAR: u64 = 256 << 10;

/// The object keys of packs, each unwrapped once.
#[derive(Default)]
pub struct ObjectKeys {
    keys: Mutex<HashMap<ObjectId, Arc<ObjectKey>>>,
}

impl ObjectKeys {
    /// The key of a pack, from its header.
    pub fn get(&self, repository: &Repository, pack: &ObjectId) -> Result<Arc<ObjectKey>, RepoError> {
        if let Some(key) = self.known(pack) {
            return Ok(key);
        }
        repository.require_owner()?;
        let header = repository.remote().get_range(&pack_name(pack), 0, HEADER as u64)?;
        self.open(repository, pack, &header)
    }

    fn known(&self, pack: &ObjectId) -> Option<Arc<ObjectKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(pack).cloned()
    }

    fn open(
        &self,
        repository: &Repository,
        pack: &ObjectId,
        header: &[u8],
    ) -> Result<Arc<ObjectKey>, RepoError> {
        let opened = repository.sealer().open_header(ObjectKind::Pack, header);
        let key = Arc::new(opened.map_err(|e| repository.unopened(&pack_name(pack), e))?);
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(*pack, Arc::clone(&key));
        Ok(key)
    }
}

/// Stored bytes of neighbouring frames.
pub struct FrameRun<'a> {
    reader: &'a BlobReader<'a>,
    pack: u32,
    id: ObjectId,
    name: String,
    key: Arc<ObjectKey>,
    /// Where in the pack `bytes` begin.
    start: u64,
    bytes: Vec<u8>,
}

impl FrameRun<'_> {
    /// Opens one of the frames. Its blobs are not verified yet.
    pub fn open(&self, frame: u32) -> Result<Vec<u8>, RepoError> {
        let (_, info) = self.reader.frame_info(self.pack, frame)?;
        let at = info.offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let sealed = at.and_then(|at| self.bytes.get(at..at + info.stored as usize));
        let what = "a frame lies outside what was read";
        let sealed = sealed.ok_or(RepoError::Manifest { what })?.to_vec();
        let sealer = self.reader.repository.sealer();
        let opened = pack_v1::open_frame(sealer, &self.key, frame.into(), &info.info(), sealed);
        opened.map_err(|e| self.reader.suspect(&self.id, RepoError::object(&self.name)(e)))
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
        self.index.get(id)?.ok_or(RepoError::UnknownBlob { id: *id })
    }

    /// Reads and opens a frame. Its blobs are not verified yet.
    pub fn frame(&self, pack: u32, frame: u32) -> Result<Vec<u8>, RepoError> {
        self.frames(pack, frame, frame)?.open(frame)
    }

    /// Where a frame lies within its pack: its first byte and the one after its last.
    pub fn range(&self, pack: u32, frame: u32) -> Result<(u64, u64), RepoError> {
        let (_, info) = self.frame_info(pack, frame)?;
        Ok((info.offset, info.offset + u64::from(info.stored)))
    }

    fn frame_info(&self, pack: u32, frame: u32) -> Result<(ObjectId, FramePlaceInfo), RepoError> {
        let what = "the index names a frame that does not exist";
        self.index.frame(pack, frame)?.ok_or(RepoError::Manifest { what })
    }

    /// Reads the frames from `first` to `last` of a pack, and what lies between them, with one request.
    pub fn frames(&self, pack: u32, first: u32, last: u32) -> Result<FrameRun<'_>, RepoError> {
        self.repository.require_owner()?;
        let (id, from) = self.frame_info(pack, first)?;
        let (_, to) = self.range(pack, last)?;
        self.fetch(pack, id, (from, to)).map_err(|e| self.suspect(&id, e))
    }

    /// Remembers a pack that does not hold what it should: the next backup looks into it.
    fn suspect(&self, pack: &ObjectId, error: RepoError) -> RepoError {
        if error.class() == ErrorClass::Damaged {
            self.repository.cache().suspect(pack);
        }
        error
    }

    fn fetch(
        &self,
        pack: u32,
        id: ObjectId,
        (from, to): (FramePlaceInfo, u64),
    ) -> Result<FrameRun<'_>, RepoError> {
        let name = pack_name(&id);
        // With the header, when it is not known yet and so near that reading up to it is cheaper than
        // asking for it alone.
        let start = if from.offset <= NEAR && self.keys.known(&id).is_none() { 0 } else { from.offset };
        let bytes = self.repository.remote().get_range(&name, start, to.saturating_sub(start))?;
        // Only now: another thread may have read the header meanwhile.
        let key = match self.keys.known(&id) {
            Some(key) => key,
            None if start == 0 => {
                self.keys.open(self.repository, &id, bytes.get(..HEADER).unwrap_or_default())?
            }
            None => self.keys.get(self.repository, &id)?,
        };
        Ok(FrameRun { reader: self, pack, id, name, key, start, bytes })
    }

    /// Checks that `bytes`, read at `place`, are the blob `id` of the kind expected.
    pub fn verify(
        &self,
        kind: BlobKind,
        id: &BlobId,
        place: BlobPlace,
        bytes: &[u8],
    ) -> Result<(), RepoError> {
        let frame = self.index.frame(place.pack, place.frame)?;
        if frame.is_some_and(|(_, frame)| frame.kind == kind)
            && self.repository.sealer().keys.blob_id(kind, bytes) == *id
        {
            return Ok(());
        }
        let Some((pack, _)) = frame else {
            return Err(RepoError::BlobMismatch { id: *id, pack: String::new() });
        };
        Err(self.suspect(&pack, RepoError::BlobMismatch { id: *id, pack: pack_name(&pack) }))
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

    /// Reads a slice list, or its local copy.
    pub(super) fn slice_list(&self, id: &BlobId) -> Result<Vec<u8>, RepoError> {
        let keys = &self.repository.sealer().keys;
        match self.repository.list_copy(id).filter(|bytes| keys.blob_id(BlobKind::Meta, bytes) == *id) {
            Some(bytes) => Ok(bytes),
            None => self.blob(BlobKind::Meta, id),
        }
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
