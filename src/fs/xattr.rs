//! Extended attributes of open files and directories.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::model::Xattr;

/// Longest value taken, in bytes; Linux's own limit.
pub const MAX_XATTR_VALUE: usize = 64 * 1024;
/// Most bytes of names and values taken of one file.
pub const MAX_XATTR_TOTAL: usize = 1024 * 1024;
/// Most attributes taken of one file.
pub const MAX_XATTR_NAMES: usize = 1_000;

/// Enough for the lists and values that files really have; only larger ones cost an allocation.
const SMALL: usize = 1024;

fn too_large(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("extended attributes: {what}"))
}

/// The attributes of an open file or directory, sorted by name; none where the file system has none.
///
/// What exceeds the limits of this module is an error, not a shorter list: an attribute that was not
/// taken must not look as if it did not exist.
pub fn read_xattrs(file: impl AsFd) -> io::Result<Vec<Xattr>> {
    let file = file.as_fd();
    let mut small = [0; SMALL];
    let mut large = Vec::new();
    let names = match list(file, &mut small, &mut large) {
        Ok(names) => names,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(Errno::RANGE | Errno::TOOBIG) => return Err(too_large("list too long")),
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    let mut total = names.len();
    for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let value = match value(file, name) {
            Ok(value) => value,
            // Removed since it was listed, or listed by a file system that does not serve it.
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(Errno::RANGE | Errno::TOOBIG) => return Err(too_large("value too long")),
            Err(error) => return Err(error.into()),
        };
        total += value.len();
        if total > MAX_XATTR_TOTAL || xattrs.len() == MAX_XATTR_NAMES {
            return Err(too_large("too many"));
        }
        xattrs.push(Xattr { name: name.to_vec(), value });
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

fn list<'a>(
    file: BorrowedFd<'_>,
    small: &'a mut [u8; SMALL],
    large: &'a mut Vec<u8>,
) -> Result<&'a [u8], Errno> {
    match rustix::fs::flistxattr(file, &mut *small) {
        Ok(len) => Ok(&small[..len]),
        Err(Errno::RANGE) => {
            large.resize(MAX_XATTR_VALUE, 0);
            let len = rustix::fs::flistxattr(file, &mut large[..])?;
            Ok(&large[..len])
        }
        Err(error) => Err(error),
    }
}

fn value(file: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut small = [0; SMALL];
    match rustix::fs::fgetxattr(file, name, &mut small) {
        Ok(len) => Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; MAX_XATTR_VALUE];
            let len = rustix::fs::fgetxattr(file, name, &mut large[..])?;
            large.truncate(len);
            large.shrink_to_fit();
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

/// Sets an attribute of an open file or directory.
pub fn set_xattr(file: impl AsFd, xattr: &Xattr) -> io::Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    Ok(rustix::fs::fsetxattr(file, xattr.name.as_slice(), &xattr.value, flags)?)
}

/// Removes an attribute of an open file or directory; it need not exist.
pub fn remove_xattr(file: impl AsFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::fremovexattr(file, name) {
        Err(Errno::NODATA) => Ok(()),
        result => Ok(result?),
    }
}
