//! Consistent images of live SQLite databases, taken without changing one byte of them.
//!
//! [`capture()`] copies a database through SQLite's backup API into a connection whose file system
//! is a stream of pages ([`PageSink`]): no temporary file, a few MiB of memory. One read
//! transaction is opened first and all pages are copied in one step within it, so that in WAL mode
//! a busy writer neither waits for the copy nor restarts it.
//!
//! # The image
//!
//! A database file of its own that needs no `-wal`. Of the source's page 1 the backup API changes
//! the file change counter (bytes 24 to 27), the schema cookie (40 to 43), the version-valid-for
//! number (92 to 95), all set to 1, and the version of the last writer (96 to 99); and the page
//! count (28 to 31) where the source had it stale. Bytes 18 and 19 are the source's: a database in
//! WAL mode stays in WAL mode, and opens without a `-wal`. The page at byte 2^30 (locks) never
//! comes and reads as zeros.
//!
//! # How a source is opened
//!
//! Always read-only, through a file system of ours (`vfs`) that cannot write, create, truncate
//! or delete. What is beside the file decides the rest:
//!
//! | state | what happens | why the copy is consistent |
//! |---|---|---|
//! | rollback journal, none hot | SHARED lock, as any reader | a writer waits for it at its commit |
//! | hot journal (writer was killed) | [`CaptureError::HotJournal`] | rolling back would change the user's files |
//! | `-shm` in use by a process | it is mapped read-only; a read lock in it | as any reader of WAL mode |
//! | `-shm` left over, with or without `-wal` | private index in memory; read lock 0 in the `-shm` | whoever comes meanwhile cannot checkpoint |
//! | no `-shm`, `-wal` left over | private index in memory | main file and WAL must be unchanged afterwards, and no `-shm` have come |
//! | no `-shm`, no or empty `-wal`, WAL mode | an empty `-wal` is pretended | the same |
//!
//! Where the last two fail, somebody has opened the database meanwhile: the capture starts anew
//! and finds the `-shm`. A leftover WAL is read like SQLite's own recovery would: to its last
//! complete transaction.
//!
//! Nothing is created, so no directory changes either. Two traces remain: access times, and, when
//! run as root, the change time of an existing `-shm`, whose owner SQLite sets to what it is.
//!
//! # Limits
//!
//! - Paths above about 4,080 bytes are refused: [`CaptureError::CannotCapture`].
//! - A `-shm` in the way that we may not read: [`CaptureError::CannotCapture`], since nobody could
//!   say whether it is in use.
//! - Without a `-shm` to lock, a change is noticed by file times: one within a tick of the file
//!   system's clock after the last change before the capture would not be.
//! - Applications that lock by other means (`unix-dotfile`, `unix-none`, network file systems
//!   without locks) are not seen.
//! - While a database is open here, nothing in this process may open and close its main file or
//!   `-shm`: closing any descriptor drops all POSIX locks of the process on that file.
//! - In rollback-journal mode a writer's commit waits for the whole capture, checks included.
//! - [`capture_in_order()`] reads the database twice: its first page is known only at the end of a copy.

mod capture;
mod check;
mod lock;
mod ordered;
mod overwrite;
mod read;
mod rows;
mod stamp;
mod stream;
#[cfg(test)]
mod tests;
mod vfs;

use std::io;
use std::time::Duration;

pub use capture::capture;
pub use check::verify_file;
pub use lock::is_open_elsewhere;
pub use ordered::{ImageSink, capture_in_order};
pub use overwrite::overwrite;
pub use read::read;
pub use rows::{Counted, Differences, Images, ObjectDifference, RowCounts, SchemaChange, TableDifference};
pub use stamp::{FileStamp, SourceStamp, WalStamp};
pub use stream::PageSink;

use crate::model::{Classify, ErrorClass};

/// How many bytes of a file [`is_sqlite`] wants to see.
pub const MAGIC_LEN: usize = 16;

/// True when a file that begins with `head` claims to be a SQLite database.
///
/// An empty file, which SQLite would take for an empty database, is not one.
#[must_use]
pub fn is_sqlite(head: &[u8]) -> bool {
    head.starts_with(b"SQLite format 3\0")
}

/// How thoroughly a captured database is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// Not at all.
    #[default]
    None,
    /// `PRAGMA quick_check`: structure and rows; not that indexes, or full-text indexes, agree with their
    /// tables.
    Quick,
    /// `PRAGMA integrity_check`.
    Full,
}

/// What a capture may take.
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions {
    /// The check, made on the source within the transaction that is copied.
    pub integrity: IntegrityCheck,
    /// How long to wait for a lock; at most an hour.
    pub busy_timeout: Duration,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self { integrity: IntegrityCheck::None, busy_timeout: Duration::from_secs(10) }
    }
}

/// What was captured.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Page size in bytes.
    pub page_size: u32,
    /// Number of pages.
    pub page_count: u32,
    /// Length of the image in bytes.
    pub size: u64,
    /// `PRAGMA user_version`, the bits of a negative one as they are.
    pub user_version: u32,
    /// `PRAGMA application_id`, likewise.
    pub application_id: u32,
    /// The verdict of the check, `None` if none was asked for. An error holds the first messages.
    pub integrity: Option<Result<(), String>>,
    /// What the check could not look at, such as virtual tables of modules that we do not have.
    pub notes: Vec<String>,
    /// The source before its transaction was opened: as long as [`SourceStamp::read`] gives the
    /// same, the database holds what was captured.
    pub stamp: SourceStamp,
}

/// Why a database was not captured. The caller knows its path.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file is gone.
    #[error("the database vanished")]
    NotFound,
    /// The file is encrypted or something else.
    #[error("not a SQLite database, or an encrypted one")]
    NotADatabase,
    /// SQLite cannot read it.
    #[error("the database is corrupt: {0}")]
    Corrupt(String),
    /// Another process held it exclusively for longer than the busy timeout.
    #[error("the database is locked by another process")]
    Locked,
    /// The journal of a killed writer waits to be rolled back: store the file together with it.
    #[error("a hot rollback journal must be applied before the database can be read")]
    HotJournal,
    /// Other processes opened and closed it as often as we tried.
    #[error("the database kept changing hands while it was read")]
    Unstable,
    /// SQLite cannot open it here, for want of a permission or otherwise.
    #[error("the database cannot be captured: {0}")]
    CannotCapture(String),
    /// The file could not be examined.
    #[error("the database cannot be read: {0}")]
    Io(#[source] io::Error),
    /// The sink's own error.
    #[error(transparent)]
    Sink(io::Error),
}

impl Classify for CaptureError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Failed
    }
}
