//! Where a sparse file has data.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Most ranges reported; beyond, the rest of the file counts as data. A file with more holes than
/// this gains nothing from listing them, and the list must not outgrow memory.
const MAX_RANGES: usize = 1 << 20;

/// The ranges of the first `size` bytes of `file` that hold data, ascending; what lies between them
/// reads as zeros. The whole file where the file system cannot tell.
///
/// Moves the file's position.
pub fn data_ranges(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data after `at`.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP | Errno::SPIPE) => return Ok(std::iter::once(0..size).collect()),
            Err(error) => return Err(error.into()),
        };
        if start >= size {
            break;
        }
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            // A file that shrinks meanwhile may answer anything; only going forward ends the loop.
            Ok(end) if end > start && ranges.len() + 1 < MAX_RANGES => end.min(size),
            Ok(_) | Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}
