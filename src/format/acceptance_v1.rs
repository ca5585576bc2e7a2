//! Acceptances: `format-spec/` section 10.1.

use super::FormatError;
use super::record::{self, Extensions, List};
use crate::model::{ObjectId, Timestamp};

/// What somebody says of snapshots over which the shrink alarm was raised: it is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// When.
    pub time: Timestamp,
    /// The snapshots.
    pub snapshots: Vec<ObjectId>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    secs: i64,
    nanos: u32,
    snapshots: List<[u8; 32]>,
    extensions: Extensions,
}

/// Encodes an acceptance.
pub fn encode(acceptance: &Acceptance) -> Result<Vec<u8>, FormatError> {
    record::encode(&Wire {
        secs: acceptance.time.secs,
        nanos: acceptance.time.nanos,
        snapshots: List(acceptance.snapshots.iter().map(|id| id.0).collect()),
        extensions: List::default(),
    })
}

/// Decodes an acceptance.
pub fn decode(bytes: &[u8]) -> Result<Acceptance, FormatError> {
    let wire: Wire = record::decode(bytes)?;
    record::check_extensions(&wire.extensions)?;
    Ok(Acceptance {
        time: super::snapshot_v1::timestamp(wire.secs, wire.nanos)?,
        snapshots: wire.snapshots.0.into_iter().map(ObjectId).collect(),
    })
}
