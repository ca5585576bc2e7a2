//! The two SQLite file systems (VFS) of the capture, and every raw call into SQLite.
//!
//! *Destination*: a file system whose only file is a stream. It hands each page that the backup
//! writes to a [`PageSink`] and keeps page 1 and one bit a page, so that memory does not follow
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

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::OnceLock;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};
use rusqlite::{Connection, OpenFlags};

use super::stream::{Failure, PageSink, Stream};

const STREAM_VFS: &CStr = c"exuvia-stream";
const SOURCE_VFS: &CStr = c"exuvia-source";
/// Our own file-control operations; SQLite reserves the numbers up to 100.
const ATTACH_STREAM: c_int = 0x4558_0001;
const USED_WAL_INDEX: c_int = 0x4558_0002;
/// Longest path. The `unix` file system's own limit, 512, guards a buffer that it uses only for
/// opening a `-wal` or `-journal` as such, which `source_open` never makes it do.
const MAX_PATH: c_int = 4096;
const READ_WRITE: c_int = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;

/// Why a copy ended early.
pub(super) enum CopyError {
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
pub(super) struct Destination<'a> {
    connection: Option<Connection>,
    stream: *mut Stream<'a>,
}

impl<'a> Destination<'a> {
    pub(super) fn open(sink: &'a mut dyn PageSink) -> rusqlite::Result<Self> {
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
    pub(super) fn copy(&mut self, source: &Connection, page_size: u32) -> Result<u32, CopyError> {
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

/// Opens a source through the file system that cannot change anything; `uri` names it.
pub(super) fn open_source(uri: &str) -> rusqlite::Result<Connection> {
    register()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    Connection::open_with_flags_and_vfs(uri, flags, SOURCE_VFS)
}

/// True when the source has asked for an index of its WAL: it is in WAL mode.
pub(super) fn used_wal_index(source: &Connection) -> bool {
    let mut used: c_int = 0;
    let out: *mut c_int = &mut used;
    // SAFETY: the handle is open; our `xFileControl` writes one `c_int` to the argument.
    let code =
        unsafe { ffi::sqlite3_file_control(source.handle(), c"main".as_ptr(), USED_WAL_INDEX, out.cast()) };
    code != ffi::SQLITE_OK || used != 0
}

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
        let common = *base.as_ref()?;
        let stream = sqlite3_vfs {
            szOsFile: c_int::try_from(size_of::<StreamFile>()).ok()?,
            pNext: ptr::null_mut(),
            zName: STREAM_VFS.as_ptr(),
            xOpen: Some(stream_open),
            xDelete: Some(stream_delete),
            xAccess: Some(stream_access),
            xFullPathname: Some(stream_full_path),
            ..common
        };
        let source = sqlite3_vfs {
            szOsFile: c_int::try_from(size_of::<SourceFile>()).ok()?.checked_add(common.szOsFile)?,
            mxPathname: MAX_PATH,
            pNext: ptr::null_mut(),
            zName: SOURCE_VFS.as_ptr(),
            xOpen: Some(source_open),
            xDelete: Some(source_delete),
            ..common
        };
        for vfs in [stream, source] {
            if ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) != ffi::SQLITE_OK {
                return None;
            }
        }
        Some(Base(base))
    });
    base.map(|_| ()).ok_or_else(|| failure(ffi::SQLITE_MISUSE))
}

// ---- destination -------------------------------------------------------------------------------

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

unsafe extern "C" fn done_with_int(_: *mut sqlite3_file, _: c_int) -> c_int {
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

// ---- source ------------------------------------------------------------------------------------

#[repr(C)]
struct SourceFile {
    base: sqlite3_file,
    /// The `-shm` is not to be touched.
    detached: bool,
    /// A `-wal` that does not exist or is empty; nothing is open below.
    empty_wal: bool,
    used_wal_index: bool,
}

const _: () = assert!(size_of::<SourceFile>().is_multiple_of(8));

/// Version 2: without `xFetch` SQLite cannot map the file.
static SOURCE_METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(source_close),
    xRead: Some(source_read),
    xWrite: Some(source_write),
    xTruncate: Some(source_truncate),
    xSync: Some(done_with_int),
    xFileSize: Some(source_size),
    xLock: Some(source_lock),
    xUnlock: Some(source_unlock),
    xCheckReservedLock: Some(source_reserved),
    xFileControl: Some(source_control),
    xSectorSize: Some(source_sector),
    xDeviceCharacteristics: Some(source_characteristics),
    xShmMap: Some(source_shm_map),
    xShmLock: Some(source_shm_lock),
    xShmBarrier: Some(source_shm_barrier),
    xShmUnmap: Some(source_shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn source_delete(_: *mut sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_IOERR_DELETE
}

unsafe extern "C" fn source_open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let Some(Some(Base(base))) = BASE.get() else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: `file` has room for a `SourceFile` and the wrapped file (invariants 1, 2 and 4);
    // `base` is valid (invariant 5), `name` is a name that SQLite made, with its parameters.
    unsafe {
        (*file).pMethods = ptr::null();
        let Some(open) = (**base).xOpen else { return ffi::SQLITE_CANTOPEN };
        let journals = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
        // As what a file is opened below: as a `-wal` or `-journal` it would have its owner set
        // when we are root, which changes its change time even where the owner stays.
        let below = match flags & journals {
            0 => flags,
            _ => flags & !journals | ffi::SQLITE_OPEN_SUPER_JOURNAL,
        };
        if flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) == 0 {
            // A hot journal is opened for writing only to be rolled back. Temporary files of the
            // sorter pass: they are made elsewhere and unlinked at once.
            if flags & journals != 0 && flags & READ_WRITE != 0 {
                return ffi::SQLITE_CANTOPEN;
            }
            return open(*base, name, file, below, out);
        }
        let read_only = |flags| flags & !READ_WRITE | ffi::SQLITE_OPEN_READONLY;
        let mut exists: c_int = 1;
        if flags & ffi::SQLITE_OPEN_WAL != 0 {
            let Some(access) = (**base).xAccess else { return ffi::SQLITE_CANTOPEN };
            // For `unix` a file of no bytes does not exist.
            let code = access(*base, name, ffi::SQLITE_ACCESS_EXISTS, &mut exists);
            if code != ffi::SQLITE_OK {
                return code;
            }
        }
        let wrapper = SourceFile {
            base: sqlite3_file { pMethods: &SOURCE_METHODS },
            detached: ffi::sqlite3_uri_boolean(name, c"detached".as_ptr(), 0) != 0,
            empty_wal: exists == 0,
            used_wal_index: false,
        };
        if wrapper.empty_wal {
            if !out.is_null() {
                *out = read_only(flags);
            }
        } else {
            let inner = file.cast::<SourceFile>().add(1).cast::<sqlite3_file>();
            (*inner).pMethods = ptr::null();
            let code = open(*base, name, inner, read_only(below), out);
            if code != ffi::SQLITE_OK {
                if let Some(close) = (*inner).pMethods.as_ref().and_then(|m| m.xClose) {
                    close(inner);
                }
                return code;
            }
        }
        file.cast::<SourceFile>().write(wrapper);
    }
    ffi::SQLITE_OK
}

/// The wrapper and, where a file is open below, that file.
unsafe fn source<'a>(file: *mut sqlite3_file) -> (&'a mut SourceFile, Option<*mut sqlite3_file>) {
    // SAFETY: invariants 1, 2 and 4; the reference covers the wrapper only, not what follows it.
    unsafe {
        let wrapper = file.cast::<SourceFile>();
        let inner = (!(*wrapper).empty_wal).then(|| wrapper.add(1).cast());
        (&mut *wrapper, inner)
    }
}

/// A method that passes its arguments on to the file below, or answers `$without` if there is none.
macro_rules! forward {
    ($name:ident, $method:ident($($arg:ident: $ty:ty),*), $without:expr) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($arg: $ty),*) -> c_int {
            // SAFETY: a wrapped file is open, with methods, from `xOpen` to `xClose`
            // (invariants 1 and 4); the arguments are SQLite's own.
            unsafe {
                match source(file).1 {
                    Some(inner) => match (*(*inner).pMethods).$method {
                        Some(method) => method(inner, $($arg),*),
                        None => ffi::SQLITE_IOERR,
                    },
                    None => $without,
                }
            }
        }
    };
}

forward!(source_close, xClose(), ffi::SQLITE_OK);
forward!(source_unlock, xUnlock(level: c_int), ffi::SQLITE_OK);
forward!(source_reserved, xCheckReservedLock(out: *mut c_int), ffi::SQLITE_IOERR);
forward!(source_sector, xSectorSize(), 4096);
forward!(source_characteristics, xDeviceCharacteristics(), 0);
forward!(pass_lock, xLock(level: c_int), ffi::SQLITE_OK);
forward!(pass_control, xFileControl(op: c_int, arg: *mut c_void), ffi::SQLITE_NOTFOUND);
forward!(pass_shm_lock, xShmLock(at: c_int, n: c_int, flags: c_int), ffi::SQLITE_IOERR);
forward!(
    source_read,
    xRead(buf: *mut c_void, amount: c_int, offset: sqlite3_int64),
    {
        ptr::write_bytes(buf.cast::<u8>(), 0, usize::try_from(amount).unwrap_or(0));
        ffi::SQLITE_IOERR_SHORT_READ
    }
);
forward!(
    source_size,
    xFileSize(out: *mut sqlite3_int64),
    {
        *out = 0;
        ffi::SQLITE_OK
    }
);
forward!(
    pass_shm_map,
    xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void),
    ffi::SQLITE_IOERR
);

unsafe extern "C" fn source_write(
    _: *mut sqlite3_file,
    _: *const c_void,
    _: c_int,
    _: sqlite3_int64,
) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn source_truncate(_: *mut sqlite3_file, _: sqlite3_int64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn source_lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    if level > ffi::SQLITE_LOCK_SHARED {
        return ffi::SQLITE_READONLY;
    }
    // SAFETY: the arguments are passed on.
    unsafe { pass_lock(file, level) }
}

unsafe extern "C" fn source_control(file: *mut sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    // SAFETY: as `source` asks; only `used_wal_index` uses the operation, with room for the answer.
    unsafe {
        if op == USED_WAL_INDEX {
            *arg.cast::<c_int>() = c_int::from(source(file).0.used_wal_index);
            return ffi::SQLITE_OK;
        }
        pass_control(file, op, arg)
    }
}

unsafe extern "C" fn source_shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: as `source` asks; SQLite passes a place for the answer.
    unsafe {
        let wrapper = source(file).0;
        wrapper.used_wal_index = true;
        if wrapper.detached {
            *out = ptr::null_mut();
            return ffi::SQLITE_READONLY_CANTINIT;
        }
        pass_shm_map(file, page, size, extend, out)
    }
}

unsafe extern "C" fn source_shm_lock(file: *mut sqlite3_file, at: c_int, n: c_int, flags: c_int) -> c_int {
    // SAFETY: as `source` asks.
    unsafe {
        if source(file).0.detached {
            return ffi::SQLITE_OK;
        }
        pass_shm_lock(file, at, n, flags)
    }
}

unsafe extern "C" fn source_shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: as in `forward`.
    unsafe {
        if let (SourceFile { detached: false, .. }, Some(inner)) = source(file)
            && let Some(barrier) = (*(*inner).pMethods).xShmBarrier
        {
            barrier(inner);
        }
    }
}

unsafe extern "C" fn source_shm_unmap(file: *mut sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: as in `forward`. The `-shm` is the user's: never deleted.
    unsafe {
        match source(file) {
            (SourceFile { detached: false, .. }, Some(inner)) => {
                (*(*inner).pMethods).xShmUnmap.map_or(ffi::SQLITE_OK, |unmap| unmap(inner, 0))
            }
            _ => ffi::SQLITE_OK,
        }
    }
}
