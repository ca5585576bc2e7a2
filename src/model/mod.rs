//! The vocabulary of the program as plain data: ids, paths, entries, snapshots, error classes.
//! Nothing in here does I/O.

mod archive;
mod class;
mod drill;
mod entry;
mod id;
mod path;
mod removed;
mod retention;
mod schedule;
mod secret;
mod snapshot;
mod time;

pub use archive::{ArchiveForm, ArchiveMark, ArchiveName, ArchiveNameError, ArchiveObject};
pub use class::{Classify, ErrorClass};
pub use drill::{DrillResult, Verdict};
pub use entry::{
    BlobKind, Capture, Content, ContentHash, Entry, EntryKind, Metadata, Owner, Slice, Slices, Xattr,
};
pub use id::{BlobId, KeyId, ObjectId, ParseIdError, RepositoryId, WriterId, WriterKeyId};
pub(crate) use path::MAX_PATH;
pub use path::{PathError, RepoPath, compare_paths};
pub use removed::{Removed, SnapshotMark};
pub use retention::{Age, AgeError, CountError, Policy};
pub use schedule::{CronExpr, Schedule, ScheduleError};
pub use secret::{SECRET_VARIABLES, Secret};
pub use snapshot::{
    DatabaseRecord, FileError, Integrity, Loss, ManifestRef, Reason, Snapshot, SnapshotKind, Stats,
};
pub use time::Timestamp;
