//! Index objects: `format-spec/` section 7.

use super::pack_v1::{FrameInfo, Frames, WireFrame, frames_from_wire};
use super::record::{self, Extensions, List};
use super::sealed_v1::HEADER;
use super::{FormatError, limits};
use crate::model::ObjectId;

/// One pack as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// The pack.
    pub id: ObjectId,
    /// Its stored bytes.
    pub size: u64,
    /// Its frames, in order.
    pub frames: Vec<FrameInfo>,
}

/// A decoded index object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The packs.
    pub packs: Vec<PackInfo>,
    /// Index objects made superfluous.
    pub replaces: Vec<ObjectId>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct WirePack {
    id: [u8; 32],
    size: u64,
    frames: Frames,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    packs: List<WirePack>,
    replaces: List<[u8; 32]>,
    extensions: Extensions,
}

/// Encodes the record of an index object.
pub fn encode(index: &Index) -> Result<Vec<u8>, FormatError> {
    record::encode(&Wire {
        packs: List(
            index
                .packs
                .iter()
                .map(|p| WirePack {
                    id: p.id.0,
                    size: p.size,
                    frames: List(p.frames.iter().map(WireFrame::from_info).collect()),
                })
                .collect(),
        ),
        replaces: List(index.replaces.iter().map(|id| id.0).collect()),
        extensions: List::default(),
    })
}

/// Decodes the record of an index object.
pub fn decode(bytes: &[u8]) -> Result<Index, FormatError> {
    let wire: Wire = record::decode(bytes)?;
    record::check_extensions(&wire.extensions)?;
    let packs = wire.packs.0.into_iter().map(|p| {
        let room = p.size.checked_sub(HEADER as u64).filter(|_| p.size <= limits::PACK);
        let room = room.ok_or(FormatError::Damaged("a pack's size is outside the limits"))?;
        Ok(PackInfo { id: ObjectId(p.id), size: p.size, frames: frames_from_wire(p.frames, room)? })
    });
    Ok(Index {
        packs: packs.collect::<Result<_, FormatError>>()?,
        replaces: wire.replaces.0.into_iter().map(ObjectId).collect(),
    })
}
