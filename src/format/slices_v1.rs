//! Slices of a file's content, inline or in lists of their own: `format-spec/` section 8.3.

use super::varint::{self, Cursor};
use super::{FormatError, limits};
use crate::model::{BlobId, Slice};

const ENCODING: u8 = 1;
const NEXT_ID: u64 = 0;
const HOLE: u64 = 1;
/// Least bytes of an encoded slice: tag, offset, length; a hole has one less.
const LEAST: usize = 2;

/// Appends slices; ids seen for the first time go to the id stream.
pub(super) fn put(out: &mut Vec<u8>, ids: &mut Vec<u8>, slices: &[Slice]) {
    let mut known = std::collections::HashMap::new();
    varint::put(out, slices.len() as u64);
    for slice in slices {
        match *slice {
            Slice::Hole { len } => {
                varint::put(out, HOLE);
                varint::put(out, len);
            }
            Slice::Blob { id, offset, len } => {
                let count = known.len();
                match known.get(&id) {
                    Some(&at) => varint::put(out, (count - at) as u64 + HOLE),
                    None => {
                        known.insert(id, count);
                        ids.extend_from_slice(&id.0);
                        varint::put(out, NEXT_ID);
                    }
                }
                varint::put(out, offset.into());
                varint::put(out, len.into());
            }
        }
    }
}

/// Reads slices, taking new ids from the id stream; returns them and the bytes they cover.
pub(super) fn get(cursor: &mut Cursor<'_>, ids: &mut Cursor<'_>) -> Result<(Vec<Slice>, u64), FormatError> {
    let count = cursor.count(LEAST)?;
    let mut slices = Vec::with_capacity(count);
    let mut known = Vec::new();
    let mut size = 0u64;
    for _ in 0..count {
        let slice = match cursor.varint()? {
            HOLE => Slice::Hole { len: cursor.varint()? },
            tag => {
                let id = if tag == NEXT_ID {
                    let id = BlobId(ids.array()?);
                    known.push(id);
                    id
                } else {
                    let back = usize::try_from(tag - HOLE).ok();
                    let at = back.and_then(|back| known.len().checked_sub(back));
                    *at.and_then(|at| known.get(at)).ok_or(FormatError::Damaged("slice names no blob"))?
                };
                let (offset, len) = (cursor.u32()?, cursor.u32()?);
                if u64::from(offset) + u64::from(len) > limits::BLOB as u64 {
                    return Err(FormatError::Damaged("slice exceeds its blob"));
                }
                Slice::Blob { id, offset, len }
            }
        };
        size = size
            .checked_add(slice.len())
            .filter(|&n| n <= limits::FILE_SIZE && !slice.is_empty())
            .ok_or(FormatError::Damaged("slice lengths are outside the limits"))?;
        slices.push(slice);
    }
    Ok((slices, size))
}

/// Encodes a slice list blob.
#[must_use]
pub fn encode_list(slices: &[Slice]) -> Vec<u8> {
    let (mut body, mut ids) = (Vec::new(), Vec::new());
    put(&mut body, &mut ids, slices);
    let mut out = Vec::with_capacity(body.len() + ids.len() + 8);
    out.push(ENCODING);
    varint::put_bytes(&mut out, &body);
    out.extend_from_slice(&ids);
    out
}

/// Decodes a slice list blob; returns its slices and the bytes they cover.
pub fn decode_list(bytes: &[u8]) -> Result<(Vec<Slice>, u64), FormatError> {
    if bytes.len() > limits::BLOB {
        return Err(FormatError::Damaged("slice list is too long"));
    }
    let mut cursor = Cursor::new(bytes);
    let encoding = cursor.u8()?;
    if encoding != ENCODING {
        return Err(FormatError::Unsupported(format!("slice list encoding {encoding}")));
    }
    let mut body = Cursor::new(cursor.bytes(limits::BLOB)?);
    let mut ids = cursor;
    let (slices, size) = get(&mut body, &mut ids)?;
    body.end()?;
    ids.end()?;
    if slices.is_empty() { Err(FormatError::Damaged("slice list is empty")) } else { Ok((slices, size)) }
}
