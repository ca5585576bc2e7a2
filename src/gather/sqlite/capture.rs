//! One capture: how to open the source, the pinned copy, and when to start anew.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};

use super::check::{Report, check};
use super::stamp::{regular, with_suffix};
use super::stream::Failure;
use super::vfs::{CopyError, Destination, open_source, used_wal_index};
use super::{CaptureError, CaptureOptions, Captured, IntegrityCheck, PageSink, SourceStamp};

/// Attempts before a database counts as unstable, and the pause before the second; it grows.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(5);
/// Attempts made with the `-shm` mapped read-only. A reader must write to it only if a process was
/// killed in the middle of changing it and those that live have not looked since.
const READ_ONLY_ATTEMPTS: u32 = 4;
const MAX_BUSY_TIMEOUT: Duration = Duration::from_secs(3600);

/// Streams a consistent image of the database at `path` to `sink`.
///
/// Blocks until the image is complete; see the [module](super) for what it rests on. The last
/// component of `path` must not be a link.
///
/// # Errors
///
/// [`CaptureError::Sink`] gives back the sink's own error; each other kind says why the database
/// could not be read, and some pages may have been written by then.
pub fn capture(
    path: &Path,
    options: &CaptureOptions,
    sink: &mut dyn PageSink,
) -> Result<Captured, CaptureError> {
    attempts(path, options, &mut |pinned| pinned.copy_to(sink))
}

/// What is done with a pinned source; returns the page count.
pub(super) type Copy<'a> = dyn FnMut(&Pinned<'_>) -> Result<u32, Stop> + 'a;

/// Tries as often as other processes spoil it.
pub(super) fn attempts(
    path: &Path,
    options: &CaptureOptions,
    copy: &mut Copy<'_>,
) -> Result<Captured, CaptureError> {
    let path = resolve(path)?;
    let mut attempt = 0;
    loop {
        let error = match try_capture(&path, attempt >= READ_ONLY_ATTEMPTS, options, copy) {
            Ok(captured) => return Ok(captured),
            Err(Stop::Final(error)) => return Err(error),
            Err(Stop::Again(error)) => error,
        };
        attempt += 1;
        if attempt == ATTEMPTS {
            return Err(error);
        }
        thread::sleep(PAUSE * attempt);
    }
}

pub(super) enum Stop {
    Final(CaptureError),
    /// Another process's doing: a new attempt may find a state that can be read.
    Again(CaptureError),
}

impl From<CaptureError> for Stop {
    fn from(error: CaptureError) -> Self {
        Self::Final(error)
    }
}

/// How the `-shm` is treated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shm {
    /// There is none.
    Absent,
    ReadOnly,
    ReadWrite,
}

/// A source in one read transaction, until it is dropped.
pub(super) struct Pinned<'a> {
    path: &'a Path,
    source: Connection,
    page_size: u32,
    shm: Shm,
    stamp: SourceStamp,
}

impl Pinned<'_> {
    /// Hands every page to `sink`; returns their number. Each time it is the same image.
    pub(super) fn copy_to(&self, sink: &mut dyn PageSink) -> Result<u32, Stop> {
        let failed = |error| classify_attempt(self.path, error);
        let mut destination = Destination::open(sink).map_err(failed)?;
        destination.copy(&self.source, self.page_size).map_err(|error| match error {
            CopyError::Sqlite(error) => failed(error),
            CopyError::Stream(Failure::Sink(error)) => CaptureError::Sink(error).into(),
            CopyError::Stream(Failure::Protocol(what)) => CaptureError::CannotCapture(what).into(),
            CopyError::Stream(Failure::Panic(_)) => CaptureError::CannotCapture("panic".into()).into(),
        })
    }

    /// Fails when what was read so far may be no state that the database ever had: without a `-shm` there were no
    /// locks against a checkpoint. A process that came meanwhile has made a `-shm`; one that has left again has
    /// changed the main file or removed the WAL.
    pub(super) fn settled(&self) -> Result<(), Stop> {
        if self.shm == Shm::Absent && used_wal_index(&self.source) {
            let unchanged = SourceStamp::read(self.path).is_ok_and(|now| now == self.stamp);
            if !unchanged || exists(&with_suffix(self.path, "-shm"))? {
                return Err(Stop::Again(CaptureError::Unstable));
            }
        }
        Ok(())
    }
}

fn try_capture(
    path: &Path,
    write_shm: bool,
    options: &CaptureOptions,
    copy: &mut Copy<'_>,
) -> Result<Captured, Stop> {
    // Before anything is opened: whatever happens from here on makes a later stamp differ. What
    // lies beside the file must be regular files too, or SQLite could block on opening a pipe.
    let stamp = SourceStamp::read(path).map_err(io_error)?;
    exists(&with_suffix(path, "-journal"))?;
    let shm = match (exists(&with_suffix(path, "-shm"))?, write_shm) {
        (false, _) => Shm::Absent,
        (true, false) => Shm::ReadOnly,
        (true, true) => Shm::ReadWrite,
    };
    let failed = |error| classify_attempt(path, error);
    let source = pin(path, shm, options.busy_timeout).map_err(failed)?;
    let page_size = number(&source, "page_size").map_err(failed)?;
    let user_version = number(&source, "user_version").map_err(failed)?;
    let application_id = number(&source, "application_id").map_err(failed)?;
    let pinned = Pinned { path, source, page_size, shm, stamp };
    let page_count = copy(&pinned)?;
    let report: Option<Report> = match options.integrity {
        IntegrityCheck::None => None,
        IntegrityCheck::Quick => Some(check(&pinned.source, false)),
        IntegrityCheck::Full => Some(check(&pinned.source, true)),
    };
    pinned.settled()?;
    Ok(Captured {
        page_size,
        page_count,
        size: u64::from(page_size) * u64::from(page_count),
        user_version,
        application_id,
        integrity: report.as_ref().map(Report::verdict),
        notes: report.map_or_else(Vec::new, |report| report.notes),
        stamp: pinned.stamp,
    })
}

/// Opens the source and a read transaction that lasts until the connection is closed.
///
/// None of the statements parses the schema: a hostile one, or one of a later SQLite, is copied
/// like any other.
pub(super) fn pin(path: &Path, shm: Shm, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    let parameters: &[&str] = match shm {
        Shm::Absent => &["mode=ro", "detached=1"],
        Shm::ReadOnly => &["mode=ro", "readonly_shm=1"],
        Shm::ReadWrite => &["mode=ro"],
    };
    let source = open_source(&uri(path, parameters))?;
    source.busy_timeout(busy_timeout.min(MAX_BUSY_TIMEOUT))?;
    harden(&source)?;
    source.execute_batch("PRAGMA mmap_size=0; BEGIN; PRAGMA user_version;")?;
    Ok(source)
}

/// Schemas are hostile input: nothing in them may run or reach functions with effects.
pub(super) fn harden(connection: &Connection) -> rusqlite::Result<()> {
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, value)?;
    }
    connection.execute_batch("PRAGMA query_only=1; PRAGMA temp_store=MEMORY;")
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<u32> {
    let value: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0))?;
    Ok(i32::try_from(value).unwrap_or(0).cast_unsigned())
}

/// Whether a file beside the database is there; anything but a regular file is refused.
pub(super) fn exists(path: &Path) -> Result<bool, CaptureError> {
    match regular(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error(e)),
    }
}

/// The path with links in its directories followed: SQLite's refusal of links covers every
/// component, and a home directory may well be one.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, CaptureError> {
    let name = path.file_name().ok_or(CaptureError::NotFound)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::canonicalize(parent).map_err(io_error)?.join(name))
}

/// A URI for SQLite; every byte that might mean something in one is escaped.
pub(super) fn uri(path: &Path, parameters: &[&str]) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri + "?" + &parameters.join("&")
}

fn io_error(error: io::Error) -> CaptureError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => CaptureError::NotFound,
        io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied => {
            CaptureError::CannotCapture(error.to_string())
        }
        _ => CaptureError::Io(error),
    }
}

fn classify_attempt(path: &Path, error: rusqlite::Error) -> Stop {
    match error.sqlite_error().map(|e| e.extended_code) {
        // A writer that has just committed looks the same for an instant: its journal was there
        // when SQLite looked, and its lock was gone when it looked for that.
        Some(ffi::SQLITE_READONLY_ROLLBACK) => Stop::Again(CaptureError::HotJournal),
        // The `-shm` is being set up or recovered, or a WAL came or went between two looks.
        Some(
            ffi::SQLITE_READONLY_CANTINIT
            | ffi::SQLITE_READONLY_RECOVERY
            | ffi::SQLITE_PROTOCOL
            | ffi::SQLITE_IOERR_SHORT_READ,
        ) => Stop::Again(CaptureError::Unstable),
        _ => Stop::Final(classify(path, error)),
    }
}

pub(super) fn classify(path: &Path, error: rusqlite::Error) -> CaptureError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => CaptureError::Locked,
        Some(ErrorCode::NotADatabase) => CaptureError::NotADatabase,
        Some(ErrorCode::DatabaseCorrupt) => CaptureError::Corrupt(error.to_string()),
        _ => match regular(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => CaptureError::NotFound,
            _ => CaptureError::CannotCapture(error.to_string()),
        },
    }
}
