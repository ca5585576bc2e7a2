//! The rows of a table: of fixed length, numbers in little-endian order.

use crate::model::{BlobId, BlobKind, ObjectId};
use crate::repo::{BlobPlace, FramePlaceInfo};

/// Something of which a table has many.
pub(super) trait Row: Sized {
    /// Encoded bytes.
    const SIZE: usize;

    fn encode(&self, out: &mut Vec<u8>);

    /// `None` for bytes that no row encodes to.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// A blob; rows are sorted by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlobRow {
    pub(super) id: BlobId,
    pub(super) place: BlobPlace,
}

/// A pack; rows are sorted by id, and a row's number is the pack's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackRow {
    pub(super) id: ObjectId,
    pub(super) size: u64,
    /// Where its frames begin.
    pub(super) first_frame: u32,
    pub(super) frames: u32,
}

const COMPRESSED: u32 = 1;
const META: u32 = 2;

/// The rest of an encoded row.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }
}

impl Row for BlobRow {
    const SIZE: usize = 48;

    fn encode(&self, out: &mut Vec<u8>) {
        let BlobPlace { pack, frame, offset, length } = self.place;
        out.extend_from_slice(&self.id.0);
        [pack, frame, offset, length].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Fields(bytes);
        let id = BlobId(from.bytes()?);
        let (pack, frame, offset, length) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
        Some(Self { id, place: BlobPlace { pack, frame, offset, length } })
    }
}

impl Row for PackRow {
    const SIZE: usize = 48;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.first_frame.to_le_bytes());
        out.extend_from_slice(&self.frames.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Fields(bytes);
        let id = ObjectId(from.bytes()?);
        Some(Self { id, size: from.u64()?, first_frame: from.u32()?, frames: from.u32()? })
    }
}

impl Row for FramePlaceInfo {
    const SIZE: usize = 20;

    fn encode(&self, out: &mut Vec<u8>) {
        let compressed = if self.compressed { COMPRESSED } else { 0 };
        let meta = if self.kind == BlobKind::Meta { META } else { 0 };
        out.extend_from_slice(&self.offset.to_le_bytes());
        [self.stored, self.raw, compressed | meta]
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Fields(bytes);
        let (offset, stored, raw, flags) = (from.u64()?, from.u32()?, from.u32()?, from.u32()?);
        let kind = if flags & META == 0 { BlobKind::Data } else { BlobKind::Meta };
        Some(Self { offset, stored, raw, compressed: flags & COMPRESSED != 0, kind })
    }
}
