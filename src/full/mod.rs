//! Full archives: one tar stream, compressed and encrypted, that needs nothing else of a repository.
//! `format-spec/` section 16 states the bytes.
//!
//! Going out: [`tar::Writer`] into [`Encoder`]. Coming in: [`Decoder`] into [`tar::Reader`], which ends only when the
//! decoder has reached, and checked, the end of the archive. Both ways take bounded memory, whatever the input.

mod decode;
mod encode;
mod error;
mod openssl;
mod path;
mod pieces;
mod sealed;
pub mod tar;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead};

pub use crate::format::full_mark_v1::{decode as decode_mark, encode as encode_mark};
pub use crate::model::{ArchiveForm, ArchiveMark as Mark, ArchiveName, ArchiveObject};
pub use decode::Decoder;
pub use encode::{Effort, Encoder, Finished};
pub use error::FullError;
pub use path::{UnsafePath, safe_path};

/// `read` for a reader that has a buffer.
fn read_from_buffer(reader: &mut impl BufRead, out: &mut [u8]) -> io::Result<usize> {
    let buffer = reader.fill_buf()?;
    let n = buffer.len().min(out.len());
    out[..n].copy_from_slice(&buffer[..n]);
    reader.consume(n);
    Ok(n)
}

/// What a reader takes of an archive before it gives up: a few bytes can be made to stand for more than any disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members.
    pub members: u64,
    /// Bytes of the tar stream; and those of all files together, holes included.
    pub bytes: u64,
    /// So many times the stored bytes may be unpacked, holes included, once more than `ratio_floor` were.
    pub ratio: u64,
    /// Bytes that may be unpacked before `ratio` is looked at.
    pub ratio_floor: u64,
}

impl Limits {
    /// Whether so many bytes, those of holes included, are more than `stored` ones may stand for.
    #[must_use]
    pub fn is_bomb(&self, unpacked: u64, stored: u64) -> bool {
        unpacked > self.ratio_floor && unpacked > stored.saturating_mul(self.ratio)
    }

    /// For archives of which nothing is known beforehand. Zeros are packed a thousandfold by gzip and better by zstd, so
    /// the ratio alone says little before it has made up a few gigabytes.
    pub const UNKNOWN: Self =
        Self { members: 1 << 28, bytes: crate::format::limits::FILE_SIZE, ratio: 250, ratio_floor: 16 << 30 };

    /// For an archive whose mark was read: it says how much comes out. The ratio does not matter then.
    #[must_use]
    pub fn of_mark(mark: &Mark) -> Self {
        let bytes = mark.tar_bytes.max(mark.bytes).min(crate::format::limits::FILE_SIZE);
        Self { members: mark.members, bytes, ratio: u64::MAX, ratio_floor: bytes }
    }
}
