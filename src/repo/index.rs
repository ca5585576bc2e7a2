//! The index in memory: which blob is in which frame of which pack.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

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
    /// Index into [`Index::packs`].
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

/// The union of a repository's index objects.
#[derive(Default)]
pub struct Index {
    packs: Vec<PackSummary>,
    known_packs: HashMap<ObjectId, u32>,
    blobs: HashMap<BlobId, BlobPlace, BuildHasherDefault<IdHasher>>,
}

impl Index {
    /// Adds the packs of one index object, leaving out those in `without`; returns the object.
    pub fn add_object(
        &mut self,
        repository: &Repository,
        object: &ObjectInfo,
        without: &BTreeSet<ObjectId>,
    ) -> Result<index_v1::Index, RepoError> {
        let record = repository.read_record(ObjectKind::Index, &object.name, &object.id)?;
        let decoded = index_v1::decode(&record).map_err(RepoError::object(&object.name))?;
        decoded.packs.iter().filter(|p| !without.contains(&p.id)).for_each(|pack| self.add_pack(pack));
        Ok(decoded)
    }

    /// Adds one pack; a pack that is known already is left as it is.
    pub fn add_pack(&mut self, pack: &PackInfo) {
        let Ok(number) = u32::try_from(self.packs.len()) else { return };
        if self.known_packs.contains_key(&pack.id) {
            return;
        }
        self.known_packs.insert(pack.id, number);
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
                self.blobs.entry(blob.id()).or_insert(place);
                at += blob.length;
            }
        }
        self.packs.push(PackSummary { id: pack.id, size: pack.size, frames });
    }

    /// Where a blob is.
    #[must_use]
    pub fn get(&self, id: &BlobId) -> Option<BlobPlace> {
        self.blobs.get(id).copied()
    }

    /// True when a blob is in some pack.
    #[must_use]
    pub fn contains(&self, id: &BlobId) -> bool {
        self.blobs.contains_key(id)
    }

    /// True when a pack is listed.
    #[must_use]
    pub fn contains_pack(&self, id: &ObjectId) -> bool {
        self.known_packs.contains_key(id)
    }

    /// The packs, in the order in which they were added.
    #[must_use]
    pub fn packs(&self) -> &[PackSummary] {
        &self.packs
    }

    /// All blobs with their places, in no particular order.
    pub fn blobs(&self) -> impl Iterator<Item = (&BlobId, &BlobPlace)> {
        self.blobs.iter()
    }

    /// The pack and frame of a place.
    #[must_use]
    pub fn frame(&self, pack: u32, frame: u32) -> Option<(&PackSummary, &FramePlaceInfo)> {
        let pack = self.packs.get(pack as usize)?;
        Some((pack, pack.frames.get(frame as usize)?))
    }
}
