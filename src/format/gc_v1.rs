//! gc records: `format-spec/` section 10.

use super::FormatError;
use super::record::{self, Extensions, List};
use crate::model::{ObjectId, Timestamp};

/// Packs condemned by a prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcRecord {
    /// When the prune condemned them.
    pub time: Timestamp,
    /// The packs.
    pub packs: Vec<ObjectId>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    secs: i64,
    nanos: u32,
    packs: List<[u8; 32]>,
    extensions: Extensions,
}

/// Encodes a gc record.
pub fn encode(gc: &GcRecord) -> Result<Vec<u8>, FormatError> {
    record::encode(&Wire {
        secs: gc.time.secs,
        nanos: gc.time.nanos,
        packs: List(gc.packs.iter().map(|id| id.0).collect()),
        extensions: List::default(),
    })
}

/// Decodes a gc record.
pub fn decode(bytes: &[u8]) -> Result<GcRecord, FormatError> {
    let wire: Wire = record::decode(bytes)?;
    record::check_extensions(&wire.extensions)?;
    Ok(GcRecord {
        time: super::snapshot_v1::timestamp(wire.secs, wire.nanos)?,
        packs: wire.packs.0.into_iter().map(ObjectId).collect(),
    })
}
