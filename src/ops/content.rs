//! The bytes of an entry's content, and whether two contents are the same.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::crypto::ContentHasher;
use crate::model::{BlobId, BlobKind, Capture, Content, ContentHash, Slice};
use crate::repo::{BlobReader, RepoError, load_slices};

/// Why content could not be written on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Whoever takes the bytes.
    #[error(transparent)]
    Output(#[from] io::Error),
}

fn slice_bytes(blob: &[u8], offset: u32, len: u32) -> Result<&[u8], RepoError> {
    let from = offset as usize;
    let what = "a slice exceeds its blob";
    blob.get(from..from + len as usize).ok_or(RepoError::Manifest { what })
}

/// Writes the `len` bytes from `from` on of a file's content (to its end, if that comes first).
pub fn write_range(
    content: &Content,
    blobs: &BlobReader<'_>,
    from: u64,
    len: u64,
    out: &mut dyn Write,
) -> Result<(), Error> {
    static ZEROS: [u8; 65_536] = [0; 65_536];
    let (mut at, end) = (0u64, from.saturating_add(len));
    for slice in load_slices(content, blobs)? {
        let begins = at;
        at += slice.len();
        let (first, last) = (from.max(begins), end.min(at));
        if first >= last {
            continue;
        }
        match slice {
            Slice::Hole { .. } => {
                let mut left = last - first;
                while left > 0 {
                    let n = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
                    out.write_all(&ZEROS[..n])?;
                    left -= n as u64;
                }
            }
            Slice::Blob { id, offset, len } => {
                let blob = blobs.blob(BlobKind::Data, &id)?;
                let bytes = slice_bytes(&blob, offset, len)?;
                #[allow(clippy::cast_possible_truncation)] // both within one blob
                out.write_all(&bytes[(first - begins) as usize..(last - begins) as usize])?;
            }
        }
    }
    Ok(())
}

/// Writes all of a file's content.
pub fn write_to(content: &Content, blobs: &BlobReader<'_>, out: &mut dyn Write) -> Result<(), Error> {
    write_range(content, blobs, 0, u64::MAX, out)?;
    Ok(out.flush()?)
}

/// Runs of a content from byte `from` on: neighbours that lie together in one blob are one.
fn runs(content: &Content, blobs: &BlobReader<'_>, from: u64) -> Result<Vec<Slice>, RepoError> {
    let (mut runs, mut at) = (Vec::<Slice>::new(), 0u64);
    for slice in load_slices(content, blobs)? {
        let begins = at;
        at += slice.len();
        let cut = from.saturating_sub(begins);
        if cut >= slice.len() {
            continue;
        }
        #[allow(clippy::cast_possible_truncation)] // less than the slice's length
        let slice = match slice {
            Slice::Blob { id, offset, len } => {
                Slice::Blob { id, offset: offset + cut as u32, len: len - cut as u32 }
            }
            Slice::Hole { len } => Slice::Hole { len: len - cut },
        };
        match (runs.last_mut(), slice) {
            (Some(Slice::Hole { len }), Slice::Hole { len: more }) => *len += more,
            (Some(Slice::Blob { id, offset, len }), Slice::Blob { id: next, offset: on, len: more })
                if *id == next && u64::from(*offset) + u64::from(*len) == u64::from(on) =>
            {
                *len += more;
            }
            _ => runs.push(slice),
        }
    }
    Ok(runs)
}

/// The one blob that is all of a content.
fn only_blob(content: &Content, blobs: &BlobReader<'_>) -> Result<Option<BlobId>, RepoError> {
    match load_slices(content, blobs)?.as_slice() {
        [Slice::Blob { id, offset: 0, len }] => {
            let place = blobs.index().get(id)?;
            Ok(place.is_none_or(|place| place.length == *len).then_some(*id))
        }
        _ => Ok(None),
    }
}

/// What a comparison without reading content says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same bytes; of databases, the same pages.
    Same,
    /// Other bytes.
    Different,
    /// Only the bytes themselves can tell.
    Open,
}

/// Compares two contents by what is known of them. Images of a database are the same when all pages are,
/// but for the fields of the first page that every capture sets anew (`gather::sqlite`): whether they are is
/// left open.
pub fn compare(a: &Content, b: &Content, blobs: &BlobReader<'_>) -> Result<Verdict, RepoError> {
    let image = |content: &Content| matches!(content.capture, Capture::Sqlite { .. });
    // The bytes of a raw copy are not all of a database.
    if a.size != b.size || image(a) != image(b) {
        return Ok(Verdict::Different);
    }
    if a.slices == b.slices {
        return Ok(Verdict::Same);
    }
    if let (Capture::Sqlite { page_size: one }, Capture::Sqlite { page_size: other }) = (a.capture, b.capture)
    {
        return Ok(if one == other { Verdict::Open } else { Verdict::Different });
    }
    if let (Some(one), Some(other)) = (&a.hash, &b.hash)
        && one.block_log2 == other.block_log2
    {
        return Ok(if one == other { Verdict::Same } else { Verdict::Different });
    }
    if runs(a, blobs, 0)? == runs(b, blobs, 0)? {
        return Ok(Verdict::Same);
    }
    match (only_blob(a, blobs)?, only_blob(b, blobs)?) {
        (Some(one), Some(other)) if one != other => Ok(Verdict::Different),
        _ => Ok(Verdict::Open),
    }
}

/// Fields of the first page that SQLite's backup API sets: file change counter (bytes 24 to 27), schema
/// cookie (40 to 43), version-valid-for and version number (92 to 99).
/// <https://www.sqlite.org/fileformat2.html#the_database_header>
const SET_BY_CAPTURE: [std::ops::Range<usize>; 3] = [24..28, 40..44, 92..100];

/// True when two first pages of databases say the same.
#[must_use]
pub fn same_first_page(a: &[u8], b: &[u8]) -> bool {
    let skipped = |n: usize| SET_BY_CAPTURE.iter().any(|range| range.contains(&n));
    a.len() == b.len() && a.iter().zip(b).enumerate().all(|(n, (x, y))| x == y || skipped(n))
}

/// True when a file's bytes are those that `hash` and `slices` tell of. For a database's main file that
/// says nothing of what its log holds.
pub fn has_content(
    mut file: File,
    hash: Option<&ContentHash>,
    slices: &[Slice],
    blobs: &BlobReader<'_>,
) -> io::Result<bool> {
    let keys = &blobs.repository().sealer().keys;
    match (hash, slices) {
        (Some(hash), _) => {
            let mut hasher = ContentHasher::new(keys, hash.block_log2);
            let mut buffer = vec![0; 256 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(hasher.finish() == hash.hash),
                    n => hasher.update(&buffer[..n]),
                }
            }
        }
        (None, []) => Ok(file.read(&mut [0])? == 0),
        (None, [Slice::Hole { .. }, ..]) => {
            let mut buffer = vec![0; 256 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(true),
                    n if buffer[..n].iter().any(|&b| b != 0) => return Ok(false),
                    _ => {}
                }
            }
        }
        (None, [Slice::Blob { id, offset, len }, ..]) => {
            let mut bytes = Vec::with_capacity(*len as usize);
            file.read_to_end(&mut bytes)?;
            if *offset == 0 && keys.blob_id(BlobKind::Data, &bytes) == *id {
                return Ok(true);
            }
            // A part of a blob: compare with the part itself.
            let blob = blobs.blob(BlobKind::Data, id).map_err(io::Error::other)?;
            Ok(slice_bytes(&blob, *offset, *len).is_ok_and(|part| part == bytes))
        }
    }
}

/// Feeds a hasher.
struct Hashing<'a>(ContentHasher<'a>);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Settles what [`compare`] left open, of two contents that are both in the repository. Images whose pages
/// lie in different blobs count as different: to read all of both would take longer than what anybody does
/// with the answer.
pub fn same_bytes(a: &Content, b: &Content, blobs: &BlobReader<'_>) -> Result<bool, Error> {
    if let (Capture::Sqlite { page_size }, Capture::Sqlite { .. }) = (a.capture, b.capture) {
        if runs(a, blobs, page_size.into())? != runs(b, blobs, page_size.into())? {
            return Ok(false);
        }
        let first = |content| {
            let mut page = Vec::with_capacity(page_size as usize);
            write_range(content, blobs, 0, page_size.into(), &mut page).map(|()| page)
        };
        return Ok(same_first_page(&first(a)?, &first(b)?));
    }
    let hash = |content| {
        let mut hashing = Hashing(ContentHasher::new(&blobs.repository().sealer().keys, 16));
        write_to(content, blobs, &mut hashing).map(|()| hashing.0.finish())
    };
    Ok(hash(a)? == hash(b)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_capture_sets_may_differ_in_a_first_page() {
        let page = vec![7u8; 4096];
        for (at, same) in
            [(23, false), (24, true), (27, true), (28, false), (43, true), (60, false), (95, true)]
        {
            let mut other = page.clone();
            other[at] = 8;
            assert_eq!(same_first_page(&page, &other), same, "{at}");
        }
        assert!(!same_first_page(&page, &page[1..]));
    }
}
