//! Packs: frames, their table of contents and the trailer. `format-spec/` section 6.

use super::record::{self, Extensions, List};
use super::sealed_v1::{self, HEADER, STORED, Sealer, ZSTD};
use super::varint::Cursor;
use super::{FormatError, limits};
use crate::crypto::{ObjectKey, ObjectKind, TAG};
use crate::model::{BlobId, BlobKind};

/// Bytes of the trailer.
pub const TRAILER: usize = 12;
const TRAILER_MAGIC: &[u8; 4] = b"EXTC";

/// A blob within a frame; it starts where the one before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct BlobInfo {
    id: [u8; 32],
    /// Length in bytes.
    pub length: u32,
}

impl BlobInfo {
    /// A blob's line.
    #[must_use]
    pub fn new(id: BlobId, length: u32) -> Self {
        Self { id: id.0, length }
    }

    /// The blob's id.
    #[must_use]
    pub fn id(&self) -> BlobId {
        BlobId(self.id)
    }
}

/// One frame of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameInfo {
    /// Bytes in the pack, tag included.
    pub stored: u32,
    /// Bytes before compression.
    pub raw: u32,
    /// True when the plaintext is one zstd frame.
    pub compressed: bool,
    /// What its blobs hold.
    pub kind: BlobKind,
    /// The blobs, in order.
    pub blobs: Vec<BlobInfo>,
}

#[derive(Debug, Clone, bincode::Encode, bincode::Decode)]
pub(super) struct WireFrame {
    stored: u32,
    raw: u32,
    codec: u8,
    kind: u8,
    blobs: List<BlobInfo, { limits::FRAME_BLOBS }>,
}

pub(super) type Frames = List<WireFrame, { limits::PACK_FRAMES }>;

#[derive(bincode::Encode, bincode::Decode)]
struct WireToc {
    frames: Frames,
    extensions: Extensions,
}

impl WireFrame {
    pub(super) fn from_info(frame: &FrameInfo) -> Self {
        Self {
            stored: frame.stored,
            raw: frame.raw,
            codec: if frame.compressed { ZSTD } else { STORED },
            kind: match frame.kind {
                BlobKind::Data => 0,
                BlobKind::Meta => 1,
            },
            blobs: List(frame.blobs.clone()),
        }
    }

    pub(super) fn into_info(self) -> Result<FrameInfo, FormatError> {
        let compressed = match self.codec {
            STORED => false,
            ZSTD => true,
            other => return Err(FormatError::Unsupported(format!("codec {other}"))),
        };
        let kind = match self.kind {
            0 => BlobKind::Data,
            1 => BlobKind::Meta,
            other => return Err(FormatError::Unsupported(format!("blob kind {other}"))),
        };
        let blobs = self.blobs.0;
        let sum: u64 = blobs.iter().map(|b| u64::from(b.length)).sum();
        let tag = TAG as u64;
        let (stored, raw) = (u64::from(self.stored), u64::from(self.raw));
        let sound = !blobs.is_empty()
            && blobs.iter().all(|b| b.length > 0 && b.length as usize <= limits::BLOB)
            && sum == raw
            && raw <= limits::FRAME_RAW as u64
            && stored > tag
            && if compressed { stored < raw + tag } else { stored == raw + tag };
        if sound {
            Ok(FrameInfo { stored: self.stored, raw: self.raw, compressed, kind, blobs })
        } else {
            Err(FormatError::Damaged("a frame's lengths do not add up"))
        }
    }
}

/// Checks the frames of one pack against each other and, when known, the pack's size.
pub(super) fn frames_from_wire(frames: Frames, room: u64) -> Result<Vec<FrameInfo>, FormatError> {
    let frames = frames.0.into_iter().map(WireFrame::into_info).collect::<Result<Vec<_>, _>>()?;
    let sum: u64 = frames.iter().map(|f| u64::from(f.stored)).sum();
    if sum > room { Err(FormatError::Damaged("pack's frames exceed its size")) } else { Ok(frames) }
}

/// What ends a pack after its frames: the sealed table of contents and the trailer.
pub fn ending(sealer: &Sealer, key: &ObjectKey, frames: &[FrameInfo]) -> Result<Vec<u8>, FormatError> {
    let toc = WireToc {
        frames: List(frames.iter().map(WireFrame::from_info).collect()),
        extensions: List::default(),
    };
    let toc = record::encode(&toc)?;
    if toc.len() > limits::TOC {
        return Err(FormatError::TooLarge("pack's table of contents"));
    }
    let mut out = sealed_v1::pack_payload(&toc)?;
    let number = u32::try_from(frames.len()).map_err(|_| FormatError::TooLarge("pack"))?;
    key.seal(sealer.place(ObjectKind::Pack, number.into(), true), &mut out, 0)?;
    if frames.len() > limits::PACK_FRAMES || out.len() > limits::TOC {
        return Err(FormatError::TooLarge("pack's table of contents"));
    }
    let stored = u32::try_from(out.len()).map_err(|_| FormatError::TooLarge("pack's table of contents"))?;
    out.extend_from_slice(&stored.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(TRAILER_MAGIC);
    let sum: u64 = frames.iter().map(|frame| u64::from(frame.stored)).sum();
    if (HEADER + out.len()) as u64 + sum > limits::PACK {
        Err(FormatError::TooLarge("pack"))
    } else {
        Ok(out)
    }
}

/// Where the table of contents of a pack lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TocPlace {
    /// First byte.
    pub offset: u64,
    /// Stored length.
    pub stored: u32,
    number: u32,
}

/// Reads the trailer (the last [`TRAILER`] bytes) of a pack of `size` bytes.
pub fn toc_place(trailer: &[u8], size: u64) -> Result<TocPlace, FormatError> {
    let mut cursor = Cursor::new(trailer);
    let stored = u32::from_le_bytes(cursor.array()?);
    let number = u32::from_le_bytes(cursor.array()?);
    if &cursor.array::<4>()? != TRAILER_MAGIC {
        return Err(FormatError::Damaged("pack has no trailer"));
    }
    cursor.end()?;
    let offset = size.checked_sub(u64::from(stored) + TRAILER as u64).filter(|&o| o >= HEADER as u64);
    match offset {
        Some(offset) if stored as usize <= limits::TOC && size <= limits::PACK => {
            Ok(TocPlace { offset, stored, number })
        }
        _ => Err(FormatError::Damaged("pack's trailer is malformed")),
    }
}

/// Opens the table of contents, given its stored bytes, and checks it against the pack's size.
pub fn open_toc(
    sealer: &Sealer,
    key: &ObjectKey,
    place: TocPlace,
    mut sealed: Vec<u8>,
) -> Result<Vec<FrameInfo>, FormatError> {
    key.open(sealer.place(ObjectKind::Pack, place.number.into(), true), &mut sealed)?;
    let toc: WireToc = record::decode(&sealed_v1::unpack_payload(&sealed, limits::TOC)?)?;
    record::check_extensions(&toc.extensions)?;
    let room = place.offset - HEADER as u64;
    let frames = frames_from_wire(toc.frames, room)?;
    let sum: u64 = frames.iter().map(|f| u64::from(f.stored)).sum();
    if sum != room || frames.len() != place.number as usize {
        return Err(FormatError::Damaged("pack's table of contents does not fit its size"));
    }
    Ok(frames)
}

/// Opens frame `number`: decrypts and decompresses; blob ids are still to be verified.
pub fn open_frame(
    sealer: &Sealer,
    key: &ObjectKey,
    number: u64,
    frame: &FrameInfo,
    mut sealed: Vec<u8>,
) -> Result<Vec<u8>, FormatError> {
    if sealed.len() != frame.stored as usize {
        return Err(FormatError::Damaged("frame is cut short"));
    }
    key.open(sealer.place(ObjectKind::Pack, number, false), &mut sealed)?;
    if !frame.compressed {
        return if sealed.len() == frame.raw as usize {
            Ok(sealed)
        } else {
            Err(FormatError::Damaged("frame has another length than stated"))
        };
    }
    sealed_v1::decompress(ZSTD, &sealed, frame.raw as usize)
}
