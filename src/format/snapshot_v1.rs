//! Snapshot records: `format-spec/` section 9.

use super::record::{self, Bytes, Extension, Extensions, List, Text};
use super::{FormatError, limits};
use crate::model::{
    BlobId, DatabaseRecord, FileError, Integrity, Loss, ManifestRef, ObjectId, Reason, RepoPath, Snapshot,
    SnapshotKind, Stats, Timestamp, WriterId,
};

/// Tag of the extension that holds the losses.
const LOSSES: u16 = 1;

#[derive(bincode::Encode, bincode::Decode)]
struct WireDatabase {
    path: Bytes,
    captured_secs: i64,
    captured_nanos: u32,
    raw: bool,
    size: u64,
    user_version: u32,
    application_id: u32,
    integrity: u8,
    checked_secs: i64,
    checked_nanos: u32,
    message: Text,
}

#[derive(bincode::Encode, bincode::Decode)]
struct WireError {
    path: Bytes,
    message: Text,
}

#[derive(bincode::Encode, bincode::Decode)]
struct WireLoss {
    what: u8,
    path: Bytes,
    before: u64,
}

type WireLosses = List<WireLoss, { limits::SNAPSHOT_LIST }>;

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    secs: i64,
    nanos: u32,
    kind: u8,
    reason: u8,
    host: Text,
    user: Text,
    program: Text,
    writer: [u8; 16],
    sequence: u64,
    parent: Option<[u8; 32]>,
    root: Bytes,
    paths: List<Bytes, { limits::SNAPSHOT_LIST }>,
    selection: List<Text, { limits::SNAPSHOT_LIST }>,
    tags: List<Text, { limits::SNAPSHOT_LIST }>,
    manifest_root: [u8; 32],
    manifest_level: u8,
    complete: bool,
    errors: List<WireError, { limits::SNAPSHOT_ERRORS }>,
    error_count: u64,
    databases: List<WireDatabase, { limits::SNAPSHOT_LIST }>,
    stats: [u64; 12],
    extensions: Extensions,
}

/// Encodes a snapshot record.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, FormatError> {
    let texts = |list: &[String]| List(list.iter().cloned().map(Text).collect());
    let bytes = |path: &RepoPath| Bytes(path.as_bytes().to_vec());
    record::encode(&Wire {
        secs: snapshot.time.secs,
        nanos: snapshot.time.nanos,
        kind: match snapshot.kind {
            SnapshotKind::Regular => 0,
            SnapshotKind::Safety => 1,
        },
        reason: match snapshot.reason {
            Reason::Manual => 0,
            Reason::Schedule => 1,
            Reason::BeforeCompaction => 2,
            Reason::GatewayStop => 3,
            Reason::Safety => 4,
        },
        host: Text(snapshot.host.clone()),
        user: Text(snapshot.user.clone()),
        program: Text(snapshot.program.clone()),
        writer: snapshot.writer.0,
        sequence: snapshot.sequence,
        parent: snapshot.parent.map(|id| id.0),
        root: Bytes(snapshot.root.clone()),
        paths: List(snapshot.paths.iter().cloned().map(Bytes).collect()),
        selection: texts(&snapshot.selection),
        tags: texts(&snapshot.tags),
        manifest_root: snapshot.manifest.root.0,
        manifest_level: snapshot.manifest.level,
        complete: snapshot.complete,
        errors: List(
            snapshot
                .errors
                .iter()
                .take(limits::SNAPSHOT_ERRORS)
                .map(|e| WireError { path: bytes(&e.path), message: Text(e.message.clone()) })
                .collect(),
        ),
        error_count: snapshot.error_count,
        databases: List(snapshot.databases.iter().map(wire_database).collect()),
        stats: stats_to_wire(&snapshot.stats),
        extensions: extensions(&snapshot.losses)?,
    })
}

/// Decodes a snapshot record.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, FormatError> {
    let wire: Wire = record::decode(bytes)?;
    let losses = match record::known_extension(&wire.extensions, LOSSES)? {
        None => Vec::new(),
        Some(value) => losses(value)?,
    };
    if wire.manifest_level > limits::LEVEL {
        return Err(FormatError::Damaged("manifest is too deep"));
    }
    let texts = |list: List<Text, { limits::SNAPSHOT_LIST }>| list.0.into_iter().map(|t| t.0).collect();
    Ok(Snapshot {
        time: timestamp(wire.secs, wire.nanos)?,
        kind: match wire.kind {
            0 => SnapshotKind::Regular,
            1 => SnapshotKind::Safety,
            other => return Err(FormatError::Unsupported(format!("snapshot kind {other}"))),
        },
        reason: match wire.reason {
            1 => Reason::Schedule,
            2 => Reason::BeforeCompaction,
            3 => Reason::GatewayStop,
            4 => Reason::Safety,
            _ => Reason::Manual,
        },
        host: wire.host.0,
        user: wire.user.0,
        program: wire.program.0,
        writer: WriterId(wire.writer),
        sequence: wire.sequence,
        parent: wire.parent.map(ObjectId),
        root: wire.root.0,
        paths: wire.paths.0.into_iter().map(|p| p.0).collect(),
        selection: texts(wire.selection),
        tags: texts(wire.tags),
        manifest: ManifestRef { root: BlobId(wire.manifest_root), level: wire.manifest_level },
        complete: wire.complete,
        errors: wire
            .errors
            .0
            .into_iter()
            .map(|e| Ok(FileError { path: path(e.path)?, message: e.message.0 }))
            .collect::<Result<_, FormatError>>()?,
        error_count: wire.error_count,
        databases: wire.databases.0.into_iter().map(database).collect::<Result<_, _>>()?,
        stats: stats_from_wire(wire.stats),
        losses,
    })
}

pub(super) fn timestamp(secs: i64, nanos: u32) -> Result<Timestamp, FormatError> {
    if nanos < 1_000_000_000 {
        Ok(Timestamp { secs, nanos })
    } else {
        Err(FormatError::Damaged("nanoseconds are outside the limits"))
    }
}

fn path(bytes: Bytes) -> Result<RepoPath, FormatError> {
    RepoPath::new(bytes.0).map_err(|_| FormatError::Damaged("a path is malformed"))
}

/// An older reader loses nothing that it needs: the extension is optional.
fn extensions(losses: &[Loss]) -> Result<Extensions, FormatError> {
    if losses.is_empty() {
        return Ok(List::default());
    }
    let loss = |loss: &Loss| {
        let (what, path, before) = match loss {
            Loss::Files { before } => (0, Vec::new(), *before),
            Loss::Bytes { before } => (1, Vec::new(), *before),
            Loss::Database { path, before } => (2, path.as_bytes().to_vec(), *before),
        };
        WireLoss { what, path: Bytes(path), before }
    };
    let value: WireLosses = List(losses.iter().map(loss).collect());
    Ok(List(vec![Extension { tag: LOSSES, required: false, value: Bytes(record::encode(&value)?) }]))
}

fn losses(value: &[u8]) -> Result<Vec<Loss>, FormatError> {
    let list: WireLosses = record::decode(value)?;
    if list.0.is_empty() {
        return Err(FormatError::Damaged("an alarm without a reason"));
    }
    let loss = |WireLoss { what, path: bytes, before }| match what {
        0 | 1 if !bytes.0.is_empty() => Err(FormatError::Damaged("a count has a path")),
        0 => Ok(Loss::Files { before }),
        1 => Ok(Loss::Bytes { before }),
        2 => Ok(Loss::Database { path: path(bytes)?, before }),
        other => Err(FormatError::Unsupported(format!("kind of loss {other}"))),
    };
    list.0.into_iter().map(loss).collect()
}

fn wire_database(record: &DatabaseRecord) -> WireDatabase {
    let (integrity, checked, message) = match &record.integrity {
        Integrity::NotChecked => (0, Timestamp::default(), String::new()),
        Integrity::Ok(at) => (1, *at, String::new()),
        Integrity::Failed(at, message) => (2, *at, message.clone()),
    };
    WireDatabase {
        path: Bytes(record.path.as_bytes().to_vec()),
        captured_secs: record.captured.secs,
        captured_nanos: record.captured.nanos,
        raw: record.raw,
        size: record.size,
        user_version: record.user_version,
        application_id: record.application_id,
        integrity,
        checked_secs: checked.secs,
        checked_nanos: checked.nanos,
        message: Text(message),
    }
}

fn database(wire: WireDatabase) -> Result<DatabaseRecord, FormatError> {
    let checked = timestamp(wire.checked_secs, wire.checked_nanos)?;
    Ok(DatabaseRecord {
        path: path(wire.path)?,
        captured: timestamp(wire.captured_secs, wire.captured_nanos)?,
        raw: wire.raw,
        size: wire.size,
        user_version: wire.user_version,
        application_id: wire.application_id,
        integrity: match wire.integrity {
            0 if checked != Timestamp::default() || !wire.message.0.is_empty() => {
                return Err(FormatError::Damaged("a check that was not made has a result"));
            }
            1 if !wire.message.0.is_empty() => {
                return Err(FormatError::Damaged("a good check has a message"));
            }
            0 => Integrity::NotChecked,
            1 => Integrity::Ok(checked),
            2 => Integrity::Failed(checked, wire.message.0),
            other => return Err(FormatError::Unsupported(format!("integrity state {other}"))),
        },
    })
}

fn stats_to_wire(s: &Stats) -> [u64; 12] {
    [
        s.files,
        s.dirs,
        s.others,
        s.bytes,
        s.files_new,
        s.files_changed,
        s.files_unmodified,
        s.files_removed,
        s.bytes_read,
        s.bytes_added_raw,
        s.bytes_added_stored,
        s.duration_ms,
    ]
}

fn stats_from_wire(w: [u64; 12]) -> Stats {
    let [
        files,
        dirs,
        others,
        bytes,
        files_new,
        files_changed,
        files_unmodified,
        files_removed,
        bytes_read,
        bytes_added_raw,
        bytes_added_stored,
        duration_ms,
    ] = w;
    Stats {
        files,
        dirs,
        others,
        bytes,
        files_new,
        files_changed,
        files_unmodified,
        files_removed,
        bytes_read,
        bytes_added_raw,
        bytes_added_stored,
        duration_ms,
    }
}
