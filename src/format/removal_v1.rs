//! Removal records: `format-spec/` section 10.2.

use super::FormatError;
use super::record::{self, Extensions, List};
use crate::model::{ObjectId, Removed, Timestamp, WriterId};

/// Which snapshots owners removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// When this was written.
    pub time: Timestamp,
    /// The snapshots.
    pub removed: Removed,
}

#[derive(bincode::Encode, bincode::Decode)]
struct WireRun {
    writer: [u8; 16],
    first: u64,
    last: u64,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    secs: i64,
    nanos: u32,
    runs: List<WireRun>,
    snapshots: List<[u8; 32]>,
    extensions: Extensions,
}

/// Encodes a removal record.
pub fn encode(removal: &Removal) -> Result<Vec<u8>, FormatError> {
    let run = |(writer, first, last): (WriterId, u64, u64)| WireRun { writer: writer.0, first, last };
    record::encode(&Wire {
        secs: removal.time.secs,
        nanos: removal.time.nanos,
        runs: List(removal.removed.runs().map(run).collect()),
        snapshots: List(removal.removed.ids().map(|id| id.0).collect()),
        extensions: List::default(),
    })
}

/// Decodes a removal record.
pub fn decode(bytes: &[u8]) -> Result<Removal, FormatError> {
    let wire: Wire = record::decode(bytes)?;
    record::check_extensions(&wire.extensions)?;
    let mut removed = Removed::default();
    let mut before: Option<&WireRun> = None;
    for run in &wire.runs.0 {
        let ascends = before.is_none_or(|b| match b.writer.cmp(&run.writer) {
            std::cmp::Ordering::Equal => b.last < u64::MAX && b.last + 1 < run.first,
            order => order.is_lt(),
        });
        if !ascends || run.first == 0 || run.first > run.last {
            return Err(FormatError::Damaged("runs of removed snapshots are out of order"));
        }
        removed.add_run(WriterId(run.writer), run.first, run.last);
        before = Some(run);
    }
    if !wire.snapshots.0.is_sorted_by(|a, b| a < b) {
        return Err(FormatError::Damaged("removed snapshots are out of order"));
    }
    wire.snapshots.0.iter().for_each(|id| removed.add_unreadable(ObjectId(*id)));
    Ok(Removal { time: super::snapshot_v1::timestamp(wire.secs, wire.nanos)?, removed })
}
