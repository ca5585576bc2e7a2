//! The index table: a local file with what many index objects say, sorted, so that the index need neither
//! be decoded for every operation nor be held in memory. It is made from published index objects and from
//! nothing else, can be lost at any time, and is believed only where its checksums agree.
//!
//! ```text
//! blocks    blobs by id | frames | packs by id, each in rows of fixed length
//! head      which index objects it was made from, the number of rows, the fan-out
//! trailer   length and BLAKE3 hash of the head, magic
//! ```
//!
//! A block is 4 KiB, its checksum included. The fan-out has the beginning of each blob block's first id:
//! it leads to the one block where an id can be.

mod blocks;
mod rows;
mod write;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use self::blocks::{BLOCK, Blocks, Nonce, blocks_of, rows_per_block};
use self::rows::{BlobRow, PackRow, Row};
use super::{BlobPlace, FramePlaceInfo, PackSummary};
use crate::model::{BlobId, ObjectId, RepositoryId};

pub(super) use self::write::write;

const MAGIC: &[u8; 8] = b"EXTABL01";
const TRAILER: usize = 8 + 32 + MAGIC.len();
/// Memory that decoding a head may take.
const MAX_HEAD: usize = 1 << 28;

/// An index object that a table was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) id: ObjectId,
    /// The index objects that it makes superfluous.
    pub(super) replaces: Vec<ObjectId>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Head {
    repository: [u8; 16],
    nonce: Nonce,
    blobs: u64,
    frames: u64,
    packs: u32,
    sources: Vec<([u8; 32], Vec<[u8; 32]>)>,
    fan_out: Vec<u64>,
}

impl Head {
    fn first_frame_block(&self) -> u64 {
        blocks_of::<BlobRow>(self.blobs)
    }

    fn first_pack_block(&self) -> u64 {
        self.first_frame_block().saturating_add(blocks_of::<FramePlaceInfo>(self.frames))
    }

    /// The blocks that there must be.
    fn blocks(&self) -> u64 {
        self.first_pack_block().saturating_add(blocks_of::<PackRow>(self.packs.into()))
    }
}

/// By these ids are sorted; the fan-out has nothing more of them.
fn beginning(id: &BlobId) -> u64 {
    id.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// An open table. It stays what it is when another one takes its place.
pub(super) struct Table {
    blocks: Blocks,
    head: Head,
    sources: Vec<Source>,
}

impl Table {
    /// Opens the table of a repository; an error for everything that is not one.
    pub(super) fn open(path: &Path, repository: RepositoryId) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let rest = size.checked_sub(TRAILER as u64).ok_or_else(invalid)?;
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, rest)?;
        let (length, hash) = trailer.split_first_chunk::<8>().ok_or_else(invalid)?;
        let hash = hash.strip_suffix(MAGIC).ok_or_else(invalid)?;
        let length = u64::from_le_bytes(*length);
        let start = rest.checked_sub(length).ok_or_else(invalid)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start)?;
        if blake3::hash(&bytes).as_bytes() != hash {
            return Err(invalid());
        }
        let config = bincode::config::standard().with_limit::<MAX_HEAD>();
        let (head, _) = bincode::decode_from_slice::<Head, _>(&bytes, config).map_err(|_| invalid())?;
        let whole = head.blocks().checked_mul(BLOCK as u64) == Some(start)
            && head.fan_out.len() as u64 == blocks_of::<BlobRow>(head.blobs);
        if !whole || head.repository != repository.0 {
            return Err(invalid());
        }
        let source = |(id, replaces): &([u8; 32], Vec<[u8; 32]>)| Source {
            id: ObjectId(*id),
            replaces: replaces.iter().copied().map(ObjectId).collect(),
        };
        let sources = head.sources.iter().map(source).collect();
        Ok(Self { blocks: Blocks::new(file, head.nonce), head, sources })
    }

    /// The index objects that it was made from, by id.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// How many packs it has. Their numbers begin at 0, in the order of their ids.
    pub(super) fn packs(&self) -> u32 {
        self.head.packs
    }

    /// Where a blob is.
    pub(super) fn blob(&self, id: &BlobId) -> io::Result<Option<BlobPlace>> {
        const PER_BLOCK: u64 = rows_per_block::<BlobRow>();
        let (wanted, fan_out) = (beginning(id), &self.head.fan_out);
        // Several blocks only where several ids have the same beginning.
        let from = fan_out.partition_point(|&first| first < wanted).saturating_sub(1) as u64;
        let to = fan_out.partition_point(|&first| first <= wanted) as u64;
        for number in from..to {
            let block = self.blocks.get(number)?;
            let (rows, _) = block.as_chunks::<{ BlobRow::SIZE }>();
            let there = usize::try_from(PER_BLOCK.min(self.head.blobs - number * PER_BLOCK));
            let rows = rows.get(..there.map_err(io::Error::other)?).ok_or_else(invalid)?;
            if let Ok(at) = rows.binary_search_by(|row| row[..BlobId::LEN].cmp(&id.0)) {
                return BlobRow::decode(&rows[at]).map(|row| Some(row.place)).ok_or_else(invalid);
            }
        }
        Ok(None)
    }

    /// The number of a pack.
    pub(super) fn pack_number(&self, id: &ObjectId) -> io::Result<Option<u32>> {
        let (mut from, mut to) = (0, self.head.packs);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.pack_row(middle)?.id.cmp(id) {
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(None)
    }

    /// The pack and frame of a place.
    pub(super) fn frame(&self, pack: u32, frame: u32) -> io::Result<Option<(ObjectId, FramePlaceInfo)>> {
        if pack >= self.head.packs {
            return Ok(None);
        }
        let pack = self.pack_row(pack)?;
        if frame >= pack.frames {
            return Ok(None);
        }
        Ok(Some((pack.id, self.frame_row(u64::from(pack.first_frame) + u64::from(frame))?)))
    }

    /// A pack with its frames.
    pub(super) fn pack(&self, number: u32) -> io::Result<PackSummary> {
        let PackRow { id, size, first_frame, frames } = self.pack_row(number)?;
        let first = u64::from(first_frame);
        let frames = (first..first + u64::from(frames)).map(|n| self.frame_row(n));
        Ok(PackSummary { id, size, frames: frames.collect::<io::Result<_>>()? })
    }

    /// All blobs, sorted by id.
    pub(super) fn blobs(&self) -> impl Iterator<Item = io::Result<(BlobId, BlobPlace)>> {
        self.scan::<BlobRow>(0, self.head.blobs).map(|row| row.map(|row| (row.id, row.place)))
    }

    fn pack_row(&self, number: u32) -> io::Result<PackRow> {
        self.row(self.head.first_pack_block(), number.into())
    }

    fn frame_row(&self, number: u64) -> io::Result<FramePlaceInfo> {
        self.row(self.head.first_frame_block(), number)
    }

    /// Row `number` of those that begin at block `first`.
    fn row<R: Row>(&self, first: u64, number: u64) -> io::Result<R> {
        let block = self.blocks.get(first + number / rows_per_block::<R>())?;
        let at = usize::try_from(number % rows_per_block::<R>()).map_err(io::Error::other)? * R::SIZE;
        block.get(at..at + R::SIZE).and_then(R::decode).ok_or_else(invalid)
    }

    /// All of `count` rows that begin at block `first`.
    fn scan<R: Row>(&self, first: u64, count: u64) -> impl Iterator<Item = io::Result<R>> {
        let mut block = Vec::new();
        (0..count).map(move |number| {
            let within = number % rows_per_block::<R>();
            if within == 0 {
                block = self.blocks.read(first + number / rows_per_block::<R>())?;
            }
            let at = usize::try_from(within).map_err(io::Error::other)? * R::SIZE;
            block.get(at..at + R::SIZE).and_then(R::decode).ok_or_else(invalid)
        })
    }
}

#[cfg(test)]
mod tests;
