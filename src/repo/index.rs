//! The index: which blob is in which frame of which pack.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::base::Base;
use super::layout::ObjectInfo;
use super::{RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::index_v1::{self, PackInfo};
use crate::format::pack_v1::FrameInfo;
use crate::format::sealed_v1::HEADER;
use crate::model::{BlobId, BlobKind, ObjectId};

/// Ids are keyed hashes already: their first bytes are as good as any hash of them.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

/// A set of blob ids.
pub type IdSet = std::collections::HashSet<BlobId, BuildHasherDefault<IdHasher>>;

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobPlace {
    /// Number of the pack, as in [`Index::packs`].
    pub pack: u32,
    /// Frame within the pack.
    pub frame: u32,
    /// First byte within the frame.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
}

/// A frame as readers need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlaceInfo {
    /// First byte within the pack.
    pub offset: u64,
    /// Stored bytes, tag included.
    pub stored: u32,
    /// Bytes before compression.
    pub raw: u32,
    /// True when compressed.
    pub compressed: bool,
    /// What its blobs hold.
    pub kind: BlobKind,
}

impl FramePlaceInfo {
    /// The form that the format module opens frames by.
    #[must_use]
    pub fn info(&self) -> FrameInfo {
        FrameInfo {
            stored: self.stored,
            raw: self.raw,
            compressed: self.compressed,
            kind: self.kind,
            blobs: Vec::new(),
        }
    }
}

/// A pack of the index.
#[derive(Debug, Clone)]
pub struct PackSummary {
    /// The pack.
    pub id: ObjectId,
    /// Its stored bytes.
    pub size: u64,
    /// Its frames.
    pub frames: Vec<FramePlaceInfo>,
}

/// Packs and their blobs, held in memory.
#[derive(Default)]
pub(super) struct InMemory {
    /// The number of the first pack.
    first: u32,
    packs: Vec<PackSummary>,
    known_packs: HashSet<ObjectId>,
    blobs: HashMap<BlobId, BlobPlace, BuildHasherDefault<IdHasher>>,
}

impl InMemory {
    /// Nothing yet; the first pack will have the number `first`.
    pub(super) fn after(first: u32) -> Self {
        Self { first, ..Self::default() }
    }

    /// Adds one pack; a pack that is known already is left as it is.
    pub(super) fn add(&mut self, pack: &PackInfo) {
        self.add_where(pack, |_| true);
    }

    /// The same, with those of its blobs that are `wanted`.
    fn add_where(&mut self, pack: &PackInfo, wanted: impl Fn(&BlobId) -> bool) {
        let number = u32::try_from(self.packs.len()).ok().and_then(|n| n.checked_add(self.first));
        let Some(number) = number else { return };
        if !self.known_packs.insert(pack.id) {
            return;
        }
        self.blobs.reserve(pack.frames.iter().map(|f| f.blobs.len()).sum());
        let mut offset = HEADER as u64;
        let mut frames = Vec::with_capacity(pack.frames.len());
        for (frame, info) in (0u32..).zip(&pack.frames) {
            let FrameInfo { stored, raw, compressed, kind, .. } = *info;
            frames.push(FramePlaceInfo { offset, stored, raw, compressed, kind });
            offset += u64::from(stored);
            let mut at = 0;
            for blob in &info.blobs {
                let place = BlobPlace { pack: number, frame, offset: at, length: blob.length };
                if wanted(&blob.id()) {
                    self.blobs.entry(blob.id()).or_insert(place);
                }
                at += blob.length;
            }
        }
        self.packs.push(PackSummary { id: pack.id, size: pack.size, frames });
    }

    pub(super) fn get(&self, id: &BlobId) -> Option<BlobPlace> {
        self.blobs.get(id).copied()
    }

    fn len(&self) -> usize {
        self.blobs.len()
    }

    pub(super) fn contains_pack(&self, id: &ObjectId) -> bool {
        self.known_packs.contains(id)
    }

    pub(super) fn packs(&self) -> &[PackSummary] {
        &self.packs
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = (&BlobId, &BlobPlace)> {
        self.blobs.iter()
    }

    pub(super) fn frame(&self, pack: u32, frame: u32) -> Option<(ObjectId, FramePlaceInfo)> {
        let pack = self.packs.get(pack.checked_sub(self.first)? as usize)?;
        Some((pack.id, *pack.frames.get(frame as usize)?))
    }
}

/// Blobs that [`Index::make_room`] keeps in memory: their table takes 100 MiB. Tests have fewer.
const IN_MEMORY: usize = if cfg!(test) { 100 } else { 1_800_000 };

/// The union of a repository's index objects: what the local table has of it, and in memory the rest.
#[derive(Default)]
pub struct Index {
    base: Option<Base>,
    added: InMemory,
}

impl Index {
    /// An index that has what `base` has.
    pub(super) fn new(base: Option<Base>) -> Self {
        let first = base.as_ref().map_or(0, Base::packs_len);
        Self { base, added: InMemory::after(first) }
    }

    /// The parts of which it is made.
    pub(super) fn parts(&self) -> (Option<&Base>, &InMemory) {
        (self.base.as_ref(), &self.added)
    }

    /// Adds the packs of one index object, leaving out those in `without`; returns the object.
    pub fn add_object(
        &mut self,
        repository: &Repository,
        object: &ObjectInfo,
        without: &BTreeSet<ObjectId>,
    ) -> Result<index_v1::Index, RepoError> {
        let decoded = read_object(repository, object)?;
        decoded.packs.iter().filter(|p| !without.contains(&p.id)).try_for_each(|pack| self.add_pack(pack))?;
        Ok(decoded)
    }

    /// Before so many blobs are added: moves what is in memory to a file of this operation's own, should it
    /// become too much. The numbers of packs change. Where no file can be written it stays in memory.
    pub(super) fn make_room(&mut self, repository: &Repository, blobs: usize) {
        if self.added.len() + blobs <= IN_MEMORY || self.added.len() == 0 {
            return;
        }
        if let Ok(base) = Base::scratch(repository, self.base.as_ref(), &self.added) {
            *self = Self::new(Some(base));
        }
    }

    /// Adds one pack; a pack that is known already is left as it is.
    pub fn add_pack(&mut self, pack: &PackInfo) -> Result<(), RepoError> {
        if !self.contains_pack(&pack.id)? {
            self.added.add(pack);
        }
        Ok(())
    }

    /// Adds one pack for those of its blobs that no other pack has: places of the last resort.
    pub fn add_last(&mut self, pack: &PackInfo) -> Result<(), RepoError> {
        if self.contains_pack(&pack.id)? {
            return Ok(());
        }
        let mut known = IdSet::default();
        if let Some(base) = &self.base {
            for blob in pack.frames.iter().flat_map(|frame| &frame.blobs) {
                if base.blob(&blob.id())?.is_some() {
                    known.insert(blob.id());
                }
            }
        }
        self.added.add_where(pack, |id| !known.contains(id));
        Ok(())
    }

    /// Where a blob is.
    pub fn get(&self, id: &BlobId) -> Result<Option<BlobPlace>, RepoError> {
        match (self.added.get(id), &self.base) {
            (None, Some(base)) => base.blob(id),
            (found, _) => Ok(found),
        }
    }

    /// True when a blob is in some pack.
    pub fn contains(&self, id: &BlobId) -> Result<bool, RepoError> {
        self.get(id).map(|place| place.is_some())
    }

    /// True when a pack is listed.
    pub fn contains_pack(&self, id: &ObjectId) -> Result<bool, RepoError> {
        match &self.base {
            Some(base) if !self.added.contains_pack(id) => base.contains_pack(id),
            _ => Ok(self.added.contains_pack(id)),
        }
    }

    /// The packs, by number.
    pub fn packs(&self) -> Result<Cow<'_, [PackSummary]>, RepoError> {
        let Some(base) = &self.base else { return Ok(self.added.packs().into()) };
        let mut packs = base.packs()?;
        packs.extend_from_slice(self.added.packs());
        Ok(packs.into())
    }

    /// All blobs with their places, each once, in no particular order.
    pub fn blobs(&self) -> impl Iterator<Item = Result<(BlobId, BlobPlace), RepoError>> {
        let added = self.added.blobs().map(|(id, place)| (*id, *place));
        let only_here = added.filter_map(|(id, place)| match self.base.as_ref().map(|base| base.blob(&id)) {
            Some(Ok(Some(_))) => None,
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(None)) | None => Some(Ok((id, place))),
        });
        self.base.iter().flat_map(Base::blobs).chain(only_here)
    }

    /// The pack and frame of a place.
    pub fn frame(&self, pack: u32, frame: u32) -> Result<Option<(ObjectId, FramePlaceInfo)>, RepoError> {
        match &self.base {
            Some(base) if pack < self.added.first => base.frame(pack, frame),
            _ => Ok(self.added.frame(pack, frame)),
        }
    }
}

/// Reads and decodes an index object.
pub(super) fn read_object(
    repository: &Repository,
    object: &ObjectInfo,
) -> Result<index_v1::Index, RepoError> {
    let record = repository.read_record(ObjectKind::Index, &object.name, &object.id)?;
    index_v1::decode(&record).map_err(RepoError::object(&object.name))
}
