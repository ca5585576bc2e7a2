//! The two SQLite file systems (VFS) of the capture, and every raw call into SQLite.
//!
//! *Destination*: a file system whose only file is a stream. It hands each page that the backup
//! writes to a [`PageSink`](super::PageSink) and keeps page 1 and one bit a page, so that memory does not follow
//! the size of the database. What SQLite reads back, by its source: the file header when the
//! connection opens (nothing is there yet: a short read), and, should it look for foreign changes
//! after the commit, bytes of page 1, which is pinned in its cache until the final flush and thus
//! written exactly once. Pages past the end of the file are zeroed without a read. Everything
//! else is refused, so that an SQLite that behaves otherwise fails the capture and never alters it.
//!
//! *Source*: SQLite's own `unix` file system without the means to change anything: no write,
//! no truncation, no deletion, no creation, no lock above SHARED on the main file, no memory map
//! of the main file. A missing or empty `-wal` reads as an empty one instead of being created.
//! With `detached=1` the shared `-shm` is treated as present, read-only and without an owner: the
//! answer `SQLITE_READONLY_CANTINIT`, on which SQLite builds a private index of the WAL in memory.
//!
//! Invariants that the `unsafe` code rests on:
//!
//! 1. SQLite calls the methods of a file only with the pointer that `xOpen` initialised, which
//!    points to at least `szOsFile` bytes aligned to 8, and never after `xClose`.
//! 2. `StreamFile` and `SourceFile` begin with `sqlite3_file`, so that the pointers convert.
//! 3. A `StreamFile` points to the `Stream` owned by a [`Destination`], which outlives the
//!    connection and is used by one thread at a time; during a step only through that pointer.
//! 4. A wrapped file's own data starts right after its `SourceFile`, whose size is a multiple of
//!    8; `szOsFile` of the source is the sum of both.
//! 5. Registered file systems are leaked: their pointers stay valid as long as the process runs.
#![allow(unsafe_code)]

mod destination;
mod source;

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_vfs};

pub(super) use destination::{CopyError, Destination};
pub(super) use source::{forget_modules, open_source, used_wal_index};

const STREAM_VFS: &CStr = c"exuvia-stream";
const SOURCE_VFS: &CStr = c"exuvia-source";
/// Our own file-control operations; SQLite reserves the numbers up to 100.
const ATTACH_STREAM: c_int = 0x4558_0001;
const USED_WAL_INDEX: c_int = 0x4558_0002;

fn failure(code: c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

/// The `unix` file system that both of ours stand on.
#[derive(Clone, Copy)]
struct Base(*mut sqlite3_vfs);
// SAFETY: a registered `sqlite3_vfs` is shared by all threads by SQLite's own contract; we read it.
unsafe impl Send for Base {}
// SAFETY: as above.
unsafe impl Sync for Base {}

static BASE: OnceLock<Option<Base>> = OnceLock::new();

fn register() -> rusqlite::Result<()> {
    // SAFETY: `sqlite3_vfs_find` initialises SQLite and returns null or a file system that stays
    // registered; the copies handed to `sqlite3_vfs_register` are leaked (invariant 5).
    let base = BASE.get_or_init(|| unsafe {
        let base = ffi::sqlite3_vfs_find(c"unix".as_ptr());
        let common = base.as_ref()?;
        for vfs in [destination::vfs(common)?, source::vfs(common)?] {
            if ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) != ffi::SQLITE_OK {
                return None;
            }
        }
        Some(Base(base))
    });
    base.map(|_| ()).ok_or_else(|| failure(ffi::SQLITE_MISUSE))
}

unsafe extern "C" fn done_with_int(_: *mut sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}
