//! Whether another process has a database open.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::stamp::{regular, with_suffix};

/// PENDING (one byte), RESERVED (one byte) and the 510 bytes of SHARED of a main file.
const MAIN_LOCKS: (u64, u64) = (0x4000_0000, 512);
/// The eight locks of a `-shm` and the byte that every connection holds while it maps it.
const SHM_LOCKS: (u64, u64) = (120, 9);

/// True when another process holds a lock on the database at `path` that SQLite's locking knows.
///
/// In WAL mode that is every connection that has read or written; in rollback-journal mode only
/// one within a transaction, so that an idle one is not seen. Locks of this process are never seen
/// either, and are dropped by this call: it must not be made while this process has the database
/// open. The database need not exist.
pub fn is_open_elsewhere(path: &Path) -> io::Result<bool> {
    Ok(locked(path, MAIN_LOCKS)? || locked(&with_suffix(path, "-shm"), SHM_LOCKS)?)
}

fn locked(path: &Path, (start, length): (u64, u64)) -> io::Result<bool> {
    let file = match regular(path).and_then(|_| open(path)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let probe =
        Flock { start, length, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    Ok(fcntl_getlk(&file, &probe)?.is_some())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    File::options().read(true).custom_flags(flags.cast_signed()).open(path)
}
