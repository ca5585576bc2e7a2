//! The file system that reads a user's database and cannot change anything.

use std::ffi::{c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};
use rusqlite::{Connection, OpenFlags};

use super::{BASE, Base, SOURCE_VFS, USED_WAL_INDEX, done_with_int, failure, register};

/// Longest path. The `unix` file system's own limit, 512, guards a buffer that it uses only for
/// opening a `-wal` or `-journal` as such, which `source_open` never makes it do.
const MAX_PATH: c_int = 4096;
const READ_WRITE: c_int = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;

/// Opens a source through the file system that cannot change anything; `uri` names it.
pub(in crate::gather::sqlite) fn open_source(uri: &str) -> rusqlite::Result<Connection> {
    register()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    Connection::open_with_flags_and_vfs(uri, flags, SOURCE_VFS)
}

/// Makes virtual tables unknown to a connection that has not parsed its schema yet.
pub(in crate::gather::sqlite) fn forget_modules(connection: &Connection) -> rusqlite::Result<()> {
    // SAFETY: the handle is that of an open connection, used by this thread only; null for the list
    // of modules to keep is documented to keep none.
    match unsafe { ffi::sqlite3_drop_modules(connection.handle(), std::ptr::null_mut()) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(failure(code)),
    }
}

/// True when the source has asked for an index of its WAL: it is in WAL mode.
pub(in crate::gather::sqlite) fn used_wal_index(source: &Connection) -> bool {
    let mut used: c_int = 0;
    let out: *mut c_int = &mut used;
    // SAFETY: the handle is open; our `xFileControl` writes one `c_int` to the argument.
    let code =
        unsafe { ffi::sqlite3_file_control(source.handle(), c"main".as_ptr(), USED_WAL_INDEX, out.cast()) };
    code != ffi::SQLITE_OK || used != 0
}

pub(super) fn vfs(common: &sqlite3_vfs) -> Option<sqlite3_vfs> {
    Some(sqlite3_vfs {
        szOsFile: c_int::try_from(size_of::<SourceFile>()).ok()?.checked_add(common.szOsFile)?,
        mxPathname: MAX_PATH,
        pNext: ptr::null_mut(),
        zName: SOURCE_VFS.as_ptr(),
        xOpen: Some(source_open),
        xDelete: Some(source_delete),
        ..*common
    })
}

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
