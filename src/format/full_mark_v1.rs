//! Marks of full archives: `format-spec/` section 16.3.

use super::record::{self, Bytes, Extensions, List, Text};
use super::snapshot_v1::timestamp;
use super::{FormatError, limits};
use crate::model::{ArchiveMark, FileError, RepoPath, WriterId};

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    name: Text,
    size: u64,
    sha256: [u8; 32],
    secs: i64,
    nanos: u32,
    host: Text,
    user: Text,
    program: Text,
    writer: [u8; 16],
    root: Bytes,
    selection: List<Text, { limits::SNAPSHOT_LIST }>,
    tags: List<Text, { limits::SNAPSHOT_LIST }>,
    /// Members, files, bytes of files, bytes of the tar stream.
    counts: [u64; 4],
    complete: bool,
    errors: List<(Bytes, Text), { limits::SNAPSHOT_ERRORS }>,
    error_count: u64,
    extensions: Extensions,
}

/// Encodes a mark.
pub fn encode(mark: &ArchiveMark) -> Result<Vec<u8>, FormatError> {
    let texts = |list: &[String]| list.iter().cloned().map(Text).collect();
    let errors = mark.errors.iter().map(|e| (Bytes(e.path.as_bytes().to_vec()), Text(e.message.clone())));
    record::encode(&Wire {
        name: Text(mark.name.to_string()),
        size: mark.size,
        sha256: mark.sha256,
        secs: mark.time.secs,
        nanos: mark.time.nanos,
        host: Text(mark.host.clone()),
        user: Text(mark.user.clone()),
        program: Text(mark.program.clone()),
        writer: mark.writer.0,
        root: Bytes(mark.root.clone()),
        selection: List(texts(&mark.selection)),
        tags: List(texts(&mark.tags)),
        counts: [mark.members, mark.files, mark.bytes, mark.tar_bytes],
        complete: mark.complete,
        errors: List(errors.collect()),
        error_count: mark.error_count,
        extensions: List::default(),
    })
}

/// Decodes a mark.
pub fn decode(bytes: &[u8]) -> Result<ArchiveMark, FormatError> {
    let wire: Wire = record::decode(bytes)?;
    record::check_extensions(&wire.extensions)?;
    let name = wire.name.0.parse().map_err(|_| FormatError::Damaged("mark names no full archive"))?;
    let [members, files, size, tar_bytes] = wire.counts;
    let error = |(path, message): (Bytes, Text)| {
        let path = RepoPath::new(path.0).map_err(|_| FormatError::Damaged("mark has a bad path"))?;
        Ok(FileError { path, message: message.0 })
    };
    let texts = |list: Vec<Text>| list.into_iter().map(|text| text.0).collect();
    Ok(ArchiveMark {
        name,
        size: wire.size,
        sha256: wire.sha256,
        time: timestamp(wire.secs, wire.nanos)?,
        host: wire.host.0,
        user: wire.user.0,
        program: wire.program.0,
        writer: WriterId(wire.writer),
        root: wire.root.0,
        selection: texts(wire.selection.0),
        tags: texts(wire.tags.0),
        members,
        files,
        bytes: size,
        tar_bytes,
        complete: wire.complete,
        errors: wire.errors.0.into_iter().map(error).collect::<Result<_, FormatError>>()?,
        error_count: wire.error_count,
    })
}
