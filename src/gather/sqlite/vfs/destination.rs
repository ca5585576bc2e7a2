//! The file system whose only file is a stream of pages, and the connection that writes to it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};
use rusqlite::{Connection, OpenFlags};

use super::super::stream::{Failure, PageSink, Stream};
use super::{ATTACH_STREAM, STREAM_VFS, done_with_int, failure, register};

/// Why a copy ended early.
pub(in crate::gather::sqlite) enum CopyError {
    /// SQLite, mostly while it read the source.
    Sqlite(rusqlite::Error),
    /// The sink, or a write that the stream cannot represent.
    Stream(Failure),
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A connection to an empty database whose writes go to a sink.
pub(in crate::gather::sqlite) struct Destination<'a> {
    connection: Option<Connection>,
    stream: *mut Stream<'a>,
}

impl<'a> Destination<'a> {
    pub(in crate::gather::sqlite) fn open(sink: &'a mut dyn PageSink) -> rusqlite::Result<Self> {
        register()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags_and_vfs("/image", flags, STREAM_VFS)?;
        let this = Self { connection: Some(connection), stream: Box::into_raw(Box::new(Stream::new(sink))) };
        this.attach(this.stream.cast())?;
        if let Some(connection) = &this.connection {
            // No journal and no sync: a failed capture is thrown away. The cache only has to be
            // small; pages leave it as new ones come.
            connection.execute_batch(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; \
                 PRAGMA cache_size=64; PRAGMA temp_store=MEMORY;",
            )?;
        }
        Ok(this)
    }

    fn attach(&self, stream: *mut c_void) -> rusqlite::Result<()> {
        let Some(connection) = &self.connection else { return Ok(()) };
        // SAFETY: the handle is open; our `xFileControl` is the only reader of the operation and
        // takes its argument as a `Stream` (invariant 3) or null.
        match unsafe {
            ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ATTACH_STREAM, stream)
        } {
            ffi::SQLITE_OK => Ok(()),
            code => Err(failure(code)),
        }
    }

    /// Copies all pages of the source, whose read transaction must be open already.
    ///
    /// Returns the page count.
    pub(in crate::gather::sqlite) fn copy(
        &mut self,
        source: &Connection,
        page_size: u32,
    ) -> Result<u32, CopyError> {
        let result = self.run(source, page_size);
        // SAFETY: `stream` came from `Box::into_raw` and lives until drop; no step is running, so
        // nothing else refers to it (invariant 3).
        let stream = unsafe { &mut *self.stream };
        match (stream.take_failure(), result) {
            (Some(Failure::Panic(payload)), _) => resume_unwind(payload),
            (Some(failure), _) => Err(CopyError::Stream(failure)),
            (None, Err(error)) => Err(error),
            (None, Ok(count)) => match stream.finish() {
                Some(failure) => Err(CopyError::Stream(failure)),
                None => Ok(count),
            },
        }
    }

    fn run(&mut self, source: &Connection, page_size: u32) -> Result<u32, CopyError> {
        let stream = self.stream;
        let Some(connection) = &mut self.connection else { return Err(failure(ffi::SQLITE_MISUSE).into()) };
        let backup = Backup::new(source, connection)?;
        // A step of no pages tells the page count without parsing the schema, which `PRAGMA
        // page_count` would do: a schema that we cannot parse must not prevent a copy.
        if backup.step(0)? == StepResult::Done {
            return Err(failure(ffi::SQLITE_NOTADB).into());
        }
        let count = u32::try_from(backup.progress().pagecount).unwrap_or(0);
        // SAFETY: as in `copy`; the reference ends before the next step.
        if !unsafe { &mut *stream }.begin(page_size, count) {
            return Err(failure(ffi::SQLITE_IOERR_WRITE).into());
        }
        match backup.step(-1)? {
            StepResult::Done => Ok(count),
            StepResult::Locked => Err(failure(ffi::SQLITE_LOCKED).into()),
            _ => Err(failure(ffi::SQLITE_BUSY).into()),
        }
    }
}

impl Drop for Destination<'_> {
    fn drop(&mut self) {
        // Even if closing should fail and SQLite keep the file, it must not see the stream again.
        let _ = self.attach(ptr::null_mut());
        self.connection = None;
        // SAFETY: from `Box::into_raw`, freed only here; the file no longer points to it.
        drop(unsafe { Box::from_raw(self.stream) });
    }
}

pub(super) fn vfs(common: &sqlite3_vfs) -> Option<sqlite3_vfs> {
    Some(sqlite3_vfs {
        szOsFile: c_int::try_from(size_of::<StreamFile>()).ok()?,
        pNext: ptr::null_mut(),
        zName: STREAM_VFS.as_ptr(),
        xOpen: Some(stream_open),
        xDelete: Some(stream_delete),
        xAccess: Some(stream_access),
        xFullPathname: Some(stream_full_path),
        ..*common
    })
}

#[repr(C)]
struct StreamFile {
    base: sqlite3_file,
    stream: *mut Stream<'static>,
}

static STREAM_METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(done),
    xRead: Some(stream_read),
    xWrite: Some(stream_write),
    xTruncate: Some(stream_truncate),
    xSync: Some(done_with_int),
    xFileSize: Some(stream_size),
    xLock: Some(done_with_int),
    xUnlock: Some(done_with_int),
    xCheckReservedLock: Some(not_reserved),
    xFileControl: Some(stream_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn done(_: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn not_reserved(_: *mut sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

/// Not above the smallest page: with larger sectors SQLite would fetch a page's neighbours.
unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    512
}

unsafe extern "C" fn characteristics(_: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn stream_open(
    _: *mut sqlite3_vfs,
    _: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: `file` has room for a `StreamFile` (invariants 1 and 2); `out` may be null.
    unsafe {
        (*file).pMethods = ptr::null();
        if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        file.cast::<StreamFile>()
            .write(StreamFile { base: sqlite3_file { pMethods: &STREAM_METHODS }, stream: ptr::null_mut() });
        if !out.is_null() {
            *out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn stream_delete(_: *mut sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn stream_access(
    _: *mut sqlite3_vfs,
    _: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn stream_full_path(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` ends with NUL and `out` has `len` bytes.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > usize::try_from(len).unwrap_or(0) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

/// The stream of a file; `None` before it is attached and after it is detached.
unsafe fn stream<'a>(file: *mut sqlite3_file) -> Option<&'a mut Stream<'static>> {
    // SAFETY: invariants 1, 2 and 3.
    unsafe { (*file.cast::<StreamFile>()).stream.as_mut() }
}

unsafe extern "C" fn stream_read(
    file: *mut sqlite3_file,
    buf: *mut c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes `amount` writable bytes.
    let (stream, buf) = unsafe {
        ptr::write_bytes(buf.cast::<u8>(), 0, usize::try_from(amount).unwrap_or(0));
        (stream(file), std::slice::from_raw_parts_mut(buf.cast(), usize::try_from(amount).unwrap_or(0)))
    };
    match stream.map_or(Some(false), |s| s.read(buf, offset)) {
        Some(true) => ffi::SQLITE_OK,
        Some(false) => ffi::SQLITE_IOERR_SHORT_READ,
        None => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn stream_write(
    file: *mut sqlite3_file,
    data: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes `amount` readable bytes.
    let (stream, data) = unsafe {
        (stream(file), std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(amount).unwrap_or(0)))
    };
    let Some(stream) = stream else { return ffi::SQLITE_IOERR_WRITE };
    // A panic must not cross SQLite's frames; it goes on in `copy`.
    let written = catch_unwind(AssertUnwindSafe(|| stream.write(data, offset)));
    match written {
        Ok(true) => ffi::SQLITE_OK,
        Ok(false) => ffi::SQLITE_IOERR_WRITE,
        Err(payload) => {
            stream.fail(Failure::Panic(payload));
            ffi::SQLITE_IOERR_WRITE
        }
    }
}

unsafe extern "C" fn stream_truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: as `stream` asks.
    if unsafe { stream(file) }.is_some_and(|stream| stream.truncate(size)) {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_IOERR_TRUNCATE
    }
}

unsafe extern "C" fn stream_size(file: *mut sqlite3_file, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: as `stream` asks; SQLite passes a place for the answer.
    unsafe { *out = stream(file).map_or(0, |s| s.size()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn stream_control(file: *mut sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    if op != ATTACH_STREAM {
        return ffi::SQLITE_NOTFOUND;
    }
    // SAFETY: invariants 1 and 2; only `Destination::attach` uses the operation, with a pointer to
    // its stream or null.
    unsafe { (*file.cast::<StreamFile>()).stream = arg.cast() };
    ffi::SQLITE_OK
}
