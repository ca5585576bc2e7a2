//! Every place of every blob, in 24 bytes each: what a prune needs of an index that may be too large to be
//! held as the other operations hold it.
//!
//! Blobs are numbered by the order of their ids, so that sets of them are bitmaps.

use std::collections::{BTreeSet, HashMap};

use super::index::read_object;
use super::layout::ObjectInfo;
use super::shared_index::is_damaged;
use super::{Index, RepoError, Repository, Standing};
use crate::format::index_v1::{self, PackInfo};
use crate::model::{BlobId, BlobKind, ObjectId};

/// Half of an id. Ids are hashes under a secret key: nobody can make two that have it in common.
type Half = [u8; 16];

/// The fan-out takes so many bits of an id at most.
const FAN_OUT_BITS: u32 = 20;

/// One place of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    half: Half,
    /// Number of the pack, as in [`Census::packs`].
    pub pack: u32,
    /// Length of the blob in bytes.
    pub length: u32,
}

/// A pack that an index object lists, or that is there, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CensusPack {
    /// The pack.
    pub id: ObjectId,
    /// Bytes that it has according to the index; `None` when no index object lists it.
    pub listed: Option<u64>,
    /// Bytes that it has; `None` when it is not there.
    pub stored: Option<u64>,
    /// Bytes of its blobs before compression.
    pub raw: u64,
}

impl CensusPack {
    /// True when it is there as the index has it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.listed.is_some() && self.listed == self.stored
    }
}

/// An index object and the packs that it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CensusObject {
    /// The object.
    pub object: ObjectInfo,
    /// Numbers of its packs.
    pub packs: Vec<u32>,
    /// The objects that it makes superfluous.
    pub replaces: Vec<ObjectId>,
    /// False when it is damaged, and another one replaces it.
    pub is_readable: bool,
}

/// The places of all blobs, and where manifests can be read.
pub struct Census {
    packs: Vec<CensusPack>,
    objects: Vec<CensusObject>,
    places: Vec<Place>,
    fan_out: Vec<u32>,
    shift: u32,
    meta: Index,
}

fn half(id: &BlobId) -> Half {
    let mut half = [0; 16];
    half.copy_from_slice(&id.0[..16]);
    half
}

fn beginning(half: &Half) -> u64 {
    half.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl Census {
    /// Reads the index `objects`; `packs` are all that are there, listed after the objects were. Manifests are
    /// read from the packs of the best standing that have them.
    pub fn take(
        repository: &Repository,
        objects: &[ObjectInfo],
        packs: &[ObjectInfo],
        standing: &dyn Fn(&ObjectId) -> Standing,
    ) -> Result<Self, RepoError> {
        let stored: HashMap<ObjectId, u64> = packs.iter().map(|pack| (pack.id, pack.size)).collect();
        let mut taking = Taking { stored, ..Taking::default() };
        let mut unreadable = Vec::new();
        for object in objects {
            match read_object(repository, object) {
                Ok(decoded) => taking.object(object, decoded, standing)?,
                Err(error) if is_damaged(&error) => unreadable.push((object, error)),
                Err(error) => return Err(error),
            }
        }
        taking.dead(unreadable)?;
        taking.finish(packs)
    }

    /// The packs, by number.
    #[must_use]
    pub fn packs(&self) -> &[CensusPack] {
        &self.packs
    }

    /// The index objects.
    #[must_use]
    pub fn objects(&self) -> &[CensusObject] {
        &self.objects
    }

    /// All places, those of one blob side by side.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The part of the index that manifests are read through: no data blob is in it.
    #[must_use]
    pub fn meta(&self) -> &Index {
        &self.meta
    }

    /// A blob's number, which is that of the first of its places; `None` for one that no index object lists.
    #[must_use]
    pub fn number(&self, id: &BlobId) -> Option<usize> {
        let wanted = half(id);
        let slot = usize::try_from(beginning(&wanted).checked_shr(self.shift).unwrap_or(0)).ok()?;
        let (from, to) = (*self.fan_out.get(slot)? as usize, *self.fan_out.get(slot + 1)? as usize);
        let near = self.places.get(from..to)?;
        let at = from + near.partition_point(|place| place.half < wanted);
        self.places.get(at).filter(|place| place.half == wanted).map(|_| at)
    }

    /// The places of a blob, by its number.
    #[must_use]
    pub fn places_of(&self, number: usize) -> &[Place] {
        let rest = self.places.get(number..).unwrap_or_default();
        let same = rest.iter().take_while(|place| place.half == rest[0].half).count();
        &rest[..same]
    }
}

/// A census being taken.
#[derive(Default)]
struct Taking {
    stored: HashMap<ObjectId, u64>,
    packs: Vec<CensusPack>,
    numbers: HashMap<ObjectId, u32>,
    objects: Vec<CensusObject>,
    places: Vec<Place>,
    /// A hash of what the index says of each pack.
    said: Vec<[u8; 32]>,
    meta: Index,
    last: Vec<(Standing, PackInfo)>,
}

impl Taking {
    fn object(
        &mut self,
        object: &ObjectInfo,
        decoded: index_v1::Index,
        standing: &dyn Fn(&ObjectId) -> Standing,
    ) -> Result<(), RepoError> {
        let mut packs = Vec::with_capacity(decoded.packs.len());
        for pack in decoded.packs {
            let (number, new) = self.number(pack.id)?;
            packs.push(number);
            let said = said(&pack);
            if !new {
                // One of them is false, and nobody knows what the pack holds.
                if self.said.get(number as usize) != Some(&said) {
                    return Err(RepoError::Manifest {
                        what: "index objects contradict each other about a pack",
                    });
                }
                continue;
            }
            self.said.push(said);
            self.places(number, &pack);
            let there = self.packs[number as usize].is_sound();
            if there && pack.frames.iter().any(|frame| frame.kind == BlobKind::Meta) {
                match standing(&pack.id) {
                    Standing::Good => self.meta.add_pack(&only_meta(pack))?,
                    other => self.last.push((other, only_meta(pack))),
                }
            }
        }
        let replaces = decoded.replaces;
        self.objects.push(CensusObject { object: object.clone(), packs, replaces, is_readable: true });
        Ok(())
    }

    /// Objects that cannot be read: each is no loss where another one replaces it, and else an error.
    fn dead(&mut self, unreadable: Vec<(&ObjectInfo, RepoError)>) -> Result<(), RepoError> {
        let replaced: BTreeSet<ObjectId> =
            self.objects.iter().flat_map(|object| object.replaces.iter().copied()).collect();
        for (object, error) in unreadable {
            if !replaced.contains(&object.id) {
                return Err(error);
            }
            let (packs, replaces) = (Vec::new(), Vec::new());
            self.objects.push(CensusObject { object: object.clone(), packs, replaces, is_readable: false });
        }
        Ok(())
    }

    fn number(&mut self, id: ObjectId) -> Result<(u32, bool), RepoError> {
        if let Some(&number) = self.numbers.get(&id) {
            return Ok((number, false));
        }
        let number = u32::try_from(self.packs.len());
        let number = number.map_err(|_| RepoError::Manifest { what: "there are too many packs" })?;
        self.numbers.insert(id, number);
        let stored = self.stored.get(&id).copied();
        self.packs.push(CensusPack { id, listed: None, stored, raw: 0 });
        Ok((number, true))
    }

    fn places(&mut self, number: u32, pack: &PackInfo) {
        self.places.reserve(pack.frames.iter().map(|frame| frame.blobs.len()).sum());
        let mut raw = 0;
        for blob in pack.frames.iter().flat_map(|frame| &frame.blobs) {
            raw += u64::from(blob.length);
            self.places.push(Place { half: half(&blob.id()), pack: number, length: blob.length });
        }
        let known = &mut self.packs[number as usize];
        known.listed = Some(pack.size);
        known.raw = raw;
    }

    fn finish(mut self, there: &[ObjectInfo]) -> Result<Census, RepoError> {
        for pack in there {
            self.number(pack.id)?;
        }
        self.last.sort_by_key(|(standing, _)| *standing);
        self.last.iter().try_for_each(|(_, pack)| self.meta.add_last(pack))?;
        let Self { packs, objects, mut places, meta, .. } = self;
        if u32::try_from(places.len()).is_err() {
            return Err(RepoError::Manifest { what: "there are too many blobs" });
        }
        places.sort_unstable();
        // A pack that has a blob twice has it once.
        places.dedup_by_key(|place| (place.half, place.pack));
        let bits = (usize::BITS - places.len().leading_zeros()).clamp(1, FAN_OUT_BITS);
        let shift = 64 - bits;
        let mut fan_out = vec![0u32; (1 << bits) + 1];
        for place in &places {
            let slot = usize::try_from(beginning(&place.half) >> shift).unwrap_or_default();
            fan_out[slot + 1] += 1;
        }
        let mut sum = 0;
        for slot in &mut fan_out {
            sum += *slot;
            *slot = sum;
        }
        Ok(Census { packs, objects, places, fan_out, shift, meta })
    }
}

/// A hash of what an index object says of a pack.
fn said(pack: &PackInfo) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pack.size.to_le_bytes());
    for frame in &pack.frames {
        let flags = u32::from(frame.compressed) << 1 | u32::from(frame.kind == BlobKind::Meta);
        for n in [frame.stored, frame.raw, flags] {
            hasher.update(&n.to_le_bytes());
        }
        hasher.update(&(frame.blobs.len() as u64).to_le_bytes());
        for blob in &frame.blobs {
            hasher.update(&blob.id().0).update(&blob.length.to_le_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

/// A pack without its data blobs; frames stay where they are.
fn only_meta(mut pack: PackInfo) -> PackInfo {
    for frame in pack.frames.iter_mut().filter(|frame| frame.kind != BlobKind::Meta) {
        frame.blobs = Vec::new();
    }
    pack
}

#[cfg(test)]
impl Census {
    /// A census of packs that are all there, and of these index objects.
    pub(crate) fn of(packs: &[PackInfo], objects: Vec<CensusObject>) -> Result<Self, RepoError> {
        let stored = packs.iter().map(|pack| (pack.id, pack.size)).collect();
        let mut taking = Taking { stored, objects, ..Taking::default() };
        for pack in packs {
            let (number, _) = taking.number(pack.id)?;
            taking.places(number, pack);
        }
        taking.finish(&[])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::pack_v1::{BlobInfo, FrameInfo};

    fn id(n: u64) -> BlobId {
        BlobId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn census(packs: &[&[u64]]) -> Census {
        let mut taking = Taking::default();
        for (n, blobs) in (0u8..).zip(packs) {
            let blobs: Vec<_> = blobs.iter().map(|n| BlobInfo::new(id(*n), 10)).collect();
            let frame = FrameInfo { stored: 1, raw: 1, compressed: false, kind: BlobKind::Data, blobs };
            let pack = PackInfo { id: ObjectId([n; 32]), size: 100, frames: vec![frame] };
            let (number, _) = taking.number(pack.id).unwrap();
            taking.places(number, &pack);
        }
        taking.finish(&[]).unwrap()
    }

    #[test]
    fn every_place_of_a_blob_is_found_and_nothing_else() {
        for blobs in [0, 1, 2, 1_000] {
            let first: Vec<u64> = (0..blobs).collect();
            let census = census(&[&first, &[1, 2, 2], &[5_000]]);
            for n in 0..blobs {
                let places = census.places_of(census.number(&id(n)).unwrap());
                let packs: Vec<u32> = places.iter().map(|place| place.pack).collect();
                assert_eq!(packs, if n == 1 || n == 2 { vec![0, 1] } else { vec![0] }, "{n} of {blobs}");
            }
            assert!(census.number(&id(5_000)).is_some());
            assert_eq!(census.number(&id(5_001)), None);
        }
    }

    #[test]
    fn a_pack_is_sound_when_it_is_there_as_it_is_listed() {
        for (listed, stored, sound) in [
            (Some(5), Some(5), true),
            (Some(5), Some(4), false),
            (Some(5), None, false),
            (None, Some(5), false),
            (None, None, false),
        ] {
            let pack = CensusPack { id: ObjectId([1; 32]), listed, stored, raw: 9 };
            assert_eq!(pack.is_sound(), sound, "{pack:?}");
        }
    }

    #[test]
    fn whatever_is_said_of_a_pack_is_said_differently() {
        let blob = |n, length| BlobInfo::new(id(n), length);
        let frame = FrameInfo {
            stored: 20,
            raw: 30,
            compressed: false,
            kind: BlobKind::Data,
            blobs: vec![blob(1, 10), blob(2, 20)],
        };
        let pack = |frames: Vec<FrameInfo>, size| PackInfo { id: ObjectId([1; 32]), size, frames };
        let mut all: Vec<PackInfo> = [
            frame.clone(),
            FrameInfo { stored: 21, ..frame.clone() },
            FrameInfo { raw: 31, ..frame.clone() },
            FrameInfo { compressed: true, ..frame.clone() },
            FrameInfo { kind: BlobKind::Meta, ..frame.clone() },
            FrameInfo { compressed: true, kind: BlobKind::Meta, ..frame.clone() },
            FrameInfo { blobs: vec![blob(2, 20), blob(1, 10)], ..frame.clone() },
            FrameInfo { blobs: vec![blob(1, 11), blob(2, 19)], ..frame.clone() },
            FrameInfo { blobs: vec![blob(1, 10), blob(3, 20)], ..frame.clone() },
        ]
        .map(|frame| pack(vec![frame], 200))
        .into();
        all.extend([
            pack(vec![frame.clone()], 201),
            pack(vec![frame.clone(), frame], 200),
            pack(vec![], 200),
        ]);
        let said: std::collections::BTreeSet<_> = all.iter().map(said).collect();
        assert_eq!(said.len(), all.len());
    }

    /// The figure for large repositories: `cargo nextest run --release --lib --run-ignored all -E
    /// 'test(ten_million)'`; it is left in `/tmp/exuvia-census`.
    #[test]
    #[ignore = "writes 400 MiB"]
    fn memory_for_ten_million_blobs() {
        let peak = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_string();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
        };
        let dir = tempfile::tempdir().unwrap();
        let remote: std::sync::Arc<dyn crate::remote::Remote> =
            std::sync::Arc::new(crate::remote::Local::new(dir.path().join("remote")));
        let repository = crate::repo::tests::repository_at(&remote, &dir.path().join("cache"));
        let (mut next, mut packs) = (0u64, Vec::new());
        // Frames of 16 blobs, packs of 250 frames, 62 packs in an object.
        for _ in 0..41 {
            let packs_here: Vec<_> = (0..62)
                .map(|_| {
                    let frames = (0..250).map(|frame| {
                        let blobs = (0..16).map(|_| {
                            next += 1;
                            BlobInfo::new(id(next), 4096)
                        });
                        let blobs = blobs.collect();
                        let kind = if frame == 0 { BlobKind::Meta } else { BlobKind::Data };
                        FrameInfo { stored: 40_000, raw: 65_536, compressed: true, kind, blobs }
                    });
                    let frames = frames.collect();
                    let pack = ObjectId(*blake3::hash(&next.to_le_bytes()).as_bytes());
                    packs.push(ObjectInfo { name: String::new(), time: None, id: pack, size: 10_100_000 });
                    PackInfo { id: pack, size: 10_100_000, frames }
                })
                .collect();
            crate::repo::merge::write_index(&repository, &packs_here, &[]).unwrap();
        }
        let objects = repository.list(crate::repo::Folder::Index).unwrap();
        let before = peak();
        let census = Census::take(&repository, &objects, &packs, &|_| Standing::Good).unwrap();
        let report =
            format!("{} blobs: {} MiB, of which {before} MiB before\n", census.places().len(), peak());
        std::fs::write(std::env::temp_dir().join("exuvia-census"), report).unwrap();
        assert_eq!(census.places().len() as u64, next);
        assert!(census.number(&id(next / 2)).is_some());
    }
}
