//! Content of a SQLite image from its pages, as `format-spec/` section 14.4 lays it out.
//!
//! Pages arrive almost in order, the first one last. They are collected in regions of 1 MiB; a
//! region is laid out when it is complete, so memory holds the few that are open, whatever the
//! image's size.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use crate::crypto::Keyring;
use crate::model::{BlobId, ContentHash, Slice};
use crate::repo::PageTable;

/// Images are laid out region by region.
const REGION: usize = 1 << 20;
/// Blobs of a region that is stored anew.
const ALIGNED_BLOB: usize = 64 << 10;
/// Blobs of changed pages.
const FRESH_BLOB: usize = 256 << 10;
/// A region of more slices than this is stored anew, so that restores stay sequential.
const MAX_REGION_SLICES: usize = 64;
/// Regions that may be open at once: beyond this, pages do not arrive as SQLite is known to hand
/// them over, and memory would not be bounded.
const MAX_OPEN: usize = 64;

/// Stores a blob and tells its id.
pub(super) type Emit<'a> = dyn FnMut(&[u8]) -> io::Result<BlobId> + 'a;

/// The pages of the previous version of an image and where they are stored.
pub(super) struct PreviousImage {
    page_size: u32,
    by_hash: HashMap<[u8; 16], u32>,
    places: Vec<(BlobId, u32)>,
}

impl PreviousImage {
    /// Joins a page table with the slices of the image it describes; only blobs that `may_be_kept` are
    /// counted on. `None` when the two do not fit.
    pub(super) fn new(
        table: &PageTable,
        slices: &[Slice],
        may_be_kept: &dyn Fn(&BlobId) -> bool,
    ) -> Option<Self> {
        let page = table.page_size;
        let mut places = Vec::with_capacity(table.pages.len());
        let mut by_hash = HashMap::with_capacity(table.pages.len());
        for slice in slices {
            let Slice::Blob { id, offset, len } = *slice else { return None };
            if len % page != 0 {
                return None;
            }
            let kept = may_be_kept(&id);
            for at in (0..len).step_by(page as usize) {
                let hash = table.pages.get(places.len())?;
                if kept {
                    by_hash.entry(*hash).or_insert(u32::try_from(places.len()).ok()?);
                }
                places.push((id, offset + at));
            }
        }
        (places.len() == table.pages.len()).then_some(Self { page_size: page, by_hash, places })
    }

    fn find(&self, hash: &[u8; 16]) -> Option<(BlobId, u32)> {
        self.by_hash.get(hash).map(|&page| self.places[page as usize])
    }
}

/// A run of bytes in a blob that may not have its id yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    blob: PartBlob,
    offset: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartBlob {
    Stored(BlobId),
    /// The n-th blob of changed pages.
    Fresh(usize),
}

fn append(parts: &mut Vec<Part>, part: Part) {
    match parts.last_mut() {
        Some(last) if last.blob == part.blob && last.offset + last.len == part.offset => last.len += part.len,
        _ => parts.push(part),
    }
}

struct Region {
    data: Vec<u8>,
    seen: Vec<bool>,
    missing: usize,
}

/// What an image has become.
pub(super) struct Image {
    pub(super) size: u64,
    pub(super) slices: Vec<Slice>,
    pub(super) hash: ContentHash,
    pub(super) pages: Vec<[u8; 16]>,
}

/// Takes pages, gives slices.
pub(super) struct PageAssembler<'a> {
    keys: &'a Keyring,
    previous: Option<Arc<PreviousImage>>,
    page_size: usize,
    size: u64,
    pages: Vec<[u8; 16]>,
    open: BTreeMap<usize, Region>,
    done: Vec<Option<Vec<Part>>>,
    fresh: Vec<u8>,
    fresh_ids: Vec<BlobId>,
}

impl<'a> PageAssembler<'a> {
    pub(super) fn new(
        keys: &'a Keyring,
        previous: Option<Arc<PreviousImage>>,
        page_size: u32,
        page_count: u32,
    ) -> Self {
        let size = u64::from(page_size) * u64::from(page_count);
        let regions = usize::try_from(size.div_ceil(REGION as u64)).unwrap_or(usize::MAX);
        Self {
            keys,
            previous: previous.filter(|p| p.page_size == page_size),
            page_size: page_size as usize,
            size,
            pages: vec![[0; 16]; page_count as usize],
            open: BTreeMap::new(),
            done: vec![None; regions],
            fresh: Vec::new(),
            fresh_ids: Vec::new(),
        }
    }

    /// Takes a page.
    pub(super) fn write(&mut self, offset: u64, page: &[u8], emit: &mut Emit<'_>) -> io::Result<()> {
        let end = offset.checked_add(page.len() as u64);
        if page.len() != self.page_size
            || !offset.is_multiple_of(self.page_size as u64)
            || end.is_none_or(|end| end > self.size)
        {
            return Err(io::Error::other("a page outside the image"));
        }
        let number = usize::try_from(offset / REGION as u64).map_err(io::Error::other)?;
        let within = usize::try_from(offset % REGION as u64).map_err(io::Error::other)?;
        if self.done[number].is_some() {
            return self.replace(number, within, offset, page, emit);
        }
        let region = self.region(number)?;
        region.data[within..within + page.len()].copy_from_slice(page);
        let seen = &mut region.seen[within / page.len()];
        if !*seen {
            *seen = true;
            region.missing -= 1;
        }
        if region.missing == 0 { self.close(number, emit) } else { Ok(()) }
    }

    fn region(&mut self, number: usize) -> io::Result<&mut Region> {
        if self.open.len() >= MAX_OPEN && !self.open.contains_key(&number) {
            return Err(io::Error::other("pages arrive too far out of order"));
        }
        let left = self.size - number as u64 * REGION as u64;
        let len = usize::try_from(left).unwrap_or(REGION).min(REGION);
        let pages = len / self.page_size;
        Ok(self.open.entry(number).or_insert_with(|| Region {
            data: vec![0; len],
            seen: vec![false; pages],
            missing: pages,
        }))
    }

    /// Lays out a region. Pages that never came (SQLite does not copy the page that holds its lock
    /// bytes) are zero.
    fn close(&mut self, number: usize, emit: &mut Emit<'_>) -> io::Result<()> {
        let Some(region) = self.open.remove(&number) else { return Ok(()) };
        let first = number * (REGION / self.page_size);
        for (i, page) in region.data.chunks_exact(self.page_size).enumerate() {
            self.pages[first + i] = self.keys.block_hash(page);
        }
        let parts = match self.reuse(&region.data, first, emit)? {
            Some(parts) => parts,
            None => aligned(&region.data, emit)?,
        };
        self.done[number] = Some(parts);
        Ok(())
    }

    /// Lays out a region by the pages of the previous version; `None` when that would take too many
    /// slices or reuses nothing.
    fn reuse(&mut self, data: &[u8], first: usize, emit: &mut Emit<'_>) -> io::Result<Option<Vec<Part>>> {
        let Some(previous) = &self.previous else { return Ok(None) };
        let len = u32::try_from(self.page_size).map_err(io::Error::other)?;
        let (mut parts, mut changed, mut kept) = (Vec::new(), Vec::new(), false);
        for (i, page) in data.chunks_exact(self.page_size).enumerate() {
            match previous.find(&self.pages[first + i]) {
                Some((id, offset)) => {
                    kept = true;
                    append(&mut parts, Part { blob: PartBlob::Stored(id), offset, len });
                }
                None => {
                    // Blobs of changed pages fill up across regions; the place within the blob
                    // follows from how full the current one is.
                    let at = self.fresh.len() + changed.len() * self.page_size;
                    let blob = PartBlob::Fresh(self.fresh_ids.len() + at / FRESH_BLOB);
                    let offset = u32::try_from(at % FRESH_BLOB).map_err(io::Error::other)?;
                    append(&mut parts, Part { blob, offset, len });
                    changed.push(page);
                }
            }
        }
        if !kept || parts.len() > MAX_REGION_SLICES {
            return Ok(None);
        }
        for page in changed {
            self.fresh.extend_from_slice(page);
            if self.fresh.len() == FRESH_BLOB {
                self.flush(emit)?;
            }
        }
        Ok(Some(parts))
    }

    fn flush(&mut self, emit: &mut Emit<'_>) -> io::Result<()> {
        if !self.fresh.is_empty() {
            self.fresh_ids.push(emit(&self.fresh)?);
            self.fresh.clear();
        }
        Ok(())
    }

    /// A page of a region that is laid out already comes again: the new one counts.
    fn replace(
        &mut self,
        number: usize,
        within: usize,
        offset: u64,
        page: &[u8],
        emit: &mut Emit<'_>,
    ) -> io::Result<()> {
        let index = usize::try_from(offset / self.page_size as u64).map_err(io::Error::other)?;
        let hash = self.keys.block_hash(page);
        if self.pages[index] == hash {
            return Ok(());
        }
        self.pages[index] = hash;
        let id = emit(page)?;
        let len = u32::try_from(page.len()).map_err(io::Error::other)?;
        let (from, to) = (within as u64, within as u64 + u64::from(len));
        let mut parts = Vec::new();
        let mut at = 0u64;
        for part in self.done[number].take().unwrap_or_default() {
            let end = at + u64::from(part.len);
            // What of this part lies before the page, and what after it.
            let before = end.min(from).saturating_sub(at);
            let after = end.saturating_sub(at.max(to));
            let cut = |n: u64| u32::try_from(n).map_err(io::Error::other);
            if before > 0 {
                append(&mut parts, Part { len: cut(before)?, ..part });
            }
            if at <= from && from < end {
                append(&mut parts, Part { blob: PartBlob::Stored(id), offset: 0, len });
            }
            if after > 0 {
                let skip = part.len - cut(after)?;
                append(&mut parts, Part { offset: part.offset + skip, len: cut(after)?, ..part });
            }
            at = end;
        }
        self.done[number] = Some(parts);
        Ok(())
    }

    /// All pages have come.
    pub(super) fn finish(mut self, emit: &mut Emit<'_>) -> io::Result<Image> {
        for number in 0..self.done.len() {
            if self.done[number].is_none() {
                self.region(number)?;
                self.close(number, emit)?;
            }
        }
        self.flush(emit)?;
        let mut merged = Vec::new();
        self.done.into_iter().flatten().flatten().for_each(|part| append(&mut merged, part));
        let slices = merged.into_iter().map(|part| {
            let id = match part.blob {
                PartBlob::Stored(id) => Some(id),
                PartBlob::Fresh(n) => self.fresh_ids.get(n).copied(),
            };
            let id = id.ok_or_else(|| io::Error::other("a blob of changed pages is missing"))?;
            Ok(Slice::Blob { id, offset: part.offset, len: part.len })
        });
        let slices = slices.collect::<io::Result<Vec<_>>>()?;
        let block_log2 = u8::try_from(self.page_size.trailing_zeros()).map_err(io::Error::other)?;
        let hash = ContentHash { block_log2, hash: self.keys.content_hash(&self.pages) };
        Ok(Image { size: self.size, slices, hash, pages: self.pages })
    }
}

fn aligned(data: &[u8], emit: &mut Emit<'_>) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for blob in data.chunks(ALIGNED_BLOB) {
        let len = u32::try_from(blob.len()).map_err(io::Error::other)?;
        parts.push(Part { blob: PartBlob::Stored(emit(blob)?), offset: 0, len });
    }
    Ok(parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::crypto::MasterKey;
    use crate::model::{BlobKind, Timestamp};
    use crate::repo::FileMark;

    const PAGE: usize = 4096;

    struct Store {
        keys: Keyring,
        blobs: HashMap<BlobId, Vec<u8>>,
        added: usize,
    }

    impl Store {
        fn new() -> Self {
            let keys = Keyring::new(&MasterKey::from_bytes([1; 32]));
            Self { keys, blobs: HashMap::new(), added: 0 }
        }

        fn run(
            &mut self,
            pages: &[(usize, Vec<u8>)],
            count: usize,
            previous: Option<PreviousImage>,
        ) -> Image {
            let keys = self.keys.clone();
            let mut assembler = PageAssembler::new(&keys, previous.map(Arc::new), PAGE as u32, count as u32);
            let mut emit = |bytes: &[u8]| {
                let id = keys.blob_id(BlobKind::Data, bytes);
                if self.blobs.insert(id, bytes.to_vec()).is_none() {
                    self.added += bytes.len();
                }
                Ok(id)
            };
            for (number, page) in pages {
                assembler.write((number * PAGE) as u64, page, &mut emit).unwrap();
            }
            assembler.finish(&mut emit).unwrap()
        }

        fn read(&self, image: &Image) -> Vec<u8> {
            let mut out = Vec::new();
            for slice in &image.slices {
                let Slice::Blob { id, offset, len } = *slice else { unreachable!() };
                out.extend_from_slice(&self.blobs[&id][offset as usize..][..len as usize]);
            }
            out
        }

        fn previous(&self, image: &Image) -> PreviousImage {
            let table = PageTable {
                binding: image.hash.hash,
                main: FileMark::ABSENT,
                wal: FileMark::ABSENT,
                page_size: PAGE as u32,
                checked: 0,
                user_version: 0,
                application_id: 0,
                captured: Timestamp::default(),
                pages: image.pages.clone(),
            };
            PreviousImage::new(&table, &image.slices, &|_| true).unwrap()
        }
    }

    fn page(seed: usize) -> Vec<u8> {
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill_vec()
    }

    trait FillVec {
        fn fill_vec(self) -> Vec<u8>;
    }

    impl FillVec for blake3::OutputReader {
        fn fill_vec(mut self) -> Vec<u8> {
            let mut bytes = vec![0; PAGE];
            self.fill(&mut bytes);
            bytes
        }
    }

    /// As SQLite's backup hands pages over: ascending, the first one last.
    fn in_backup_order(seeds: &[usize]) -> Vec<(usize, Vec<u8>)> {
        let mut pages: Vec<_> = seeds.iter().enumerate().map(|(i, &seed)| (i, page(seed))).collect();
        pages.rotate_left(1);
        pages
    }

    fn bytes(seeds: &[usize]) -> Vec<u8> {
        seeds.iter().flat_map(|&seed| page(seed)).collect()
    }

    #[test]
    fn changed_pages_cost_only_themselves_wherever_the_old_ones_went() {
        let mut store = Store::new();
        let old: Vec<usize> = (0..1000).collect();
        let first = store.run(&in_backup_order(&old), old.len(), None);
        assert_eq!(store.read(&first), bytes(&old));
        assert!(first.slices.iter().all(|s| s.len() <= ALIGNED_BLOB as u64));

        store.added = 0;
        let mut new = old.clone();
        (0..1000).step_by(100).for_each(|i| new[i] = 5000 + i);
        new[500..].rotate_left(3);
        new.extend(7000..7010);
        let second = store.run(&in_backup_order(&new), new.len(), Some(store.previous(&first)));
        assert_eq!(store.read(&second), bytes(&new));
        assert_eq!(store.added, 20 * PAGE, "ten changed and ten appended pages");

        store.added = 0;
        let third = store.run(&in_backup_order(&new), new.len(), Some(store.previous(&second)));
        assert_eq!((store.added, &third.slices), (0, &second.slices));
        assert_eq!(third.hash, second.hash);
    }

    #[test]
    fn a_region_in_too_many_slices_is_stored_anew() {
        let mut store = Store::new();
        let old: Vec<usize> = (0..256).collect();
        let first = store.run(&in_backup_order(&old), 256, None);
        store.added = 0;
        let mut new = old;
        (0..256).step_by(2).for_each(|i| new[i] += 9000);
        let second = store.run(&in_backup_order(&new), 256, Some(store.previous(&first)));
        assert_eq!(store.read(&second), bytes(&new));
        assert_eq!((second.slices.len(), store.added), (16, 256 * PAGE));
    }

    #[test]
    fn order_repeats_and_gaps_do_not_change_the_image() {
        let seeds: Vec<usize> = (0..700).collect();
        let mut store = Store::new();
        let want = store.run(&in_backup_order(&seeds), 700, None);

        let mut shuffled = in_backup_order(&seeds);
        shuffled.swap(10, 400);
        shuffled.swap(0, 600);
        let again = store.run(&shuffled, 700, None);
        assert_eq!((again.hash, store.read(&again)), (want.hash, bytes(&seeds)));

        // Pages of a finished region written once more, the last writing counts.
        let mut repeated: Vec<_> = vec![(300, page(1)), (301, page(2)), (511, page(3))];
        repeated.splice(0..0, in_backup_order(&seeds));
        repeated.extend([(300, page(300)), (256, page(4444))]);
        let third = store.run(&repeated, 700, None);
        let mut expected = seeds.clone();
        (expected[301], expected[511], expected[256]) = (2, 3, 4444);
        assert_eq!(store.read(&third), bytes(&expected));
        assert_eq!(third.hash, store.run(&in_backup_order(&expected), 700, None).hash);

        let mut gap = in_backup_order(&seeds);
        gap.retain(|(number, _)| *number != 650);
        let zeros = store.run(&gap, 700, None);
        let mut expected = bytes(&seeds);
        expected[650 * PAGE..651 * PAGE].fill(0);
        assert_eq!(store.read(&zeros), expected);
    }

    #[test]
    fn pages_outside_the_image_are_refused() {
        let keys = Keyring::new(&MasterKey::from_bytes([1; 32]));
        let mut assembler = PageAssembler::new(&keys, None, 4096, 2);
        let mut emit = |_: &[u8]| Ok(BlobId([0; 32]));
        assert!(assembler.write(8192, &page(1), &mut emit).is_err());
        assert!(assembler.write(100, &page(1), &mut emit).is_err());
        assert!(assembler.write(0, &[0; 512], &mut emit).is_err());
        assert!(assembler.write(u64::MAX - 4095, &page(1), &mut emit).is_err());
    }
}
