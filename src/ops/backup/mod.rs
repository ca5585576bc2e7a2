//! `backup`: an incremental snapshot of a directory.

mod attempt;
mod database;
mod heal;
mod job;
mod listings;
mod pages;
mod previous;
mod reader;
mod remembered;
mod selection;
mod sequence;
mod walk;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub(in crate::ops) use self::attempt::Source;
use self::attempt::{Attempt, Done};
use self::heal::Heal;
use self::listings::Listings;
pub use self::remembered::remembered;
pub use self::selection::{ProfileChoice, Selection};
pub use self::sequence::Observer;
use crate::clock::Clock;
use crate::format::marker_v1::Operation;
use crate::model::{Classify, ErrorClass, FileError, ObjectId, Reason, Snapshot, SnapshotKind, Timestamp};
use crate::ops::alarm::Threshold;
use crate::ops::history::{self, Vanished};
use crate::remote::{Counting, RequestCounts};
use crate::repo::{Catalog, PackerOptions, PageTable, RepoError, Repository};
use crate::report::Monitor;

/// What a backup did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The snapshot's id; `None` for a dry run and when it was skipped because nothing differed.
    pub id: Option<ObjectId>,
    /// Its record (for a dry run: what it would have been).
    pub snapshot: Snapshot,
    /// The root is the same as the parent's: nothing differs.
    pub unchanged: bool,
    /// All source files that could not be read.
    pub errors: Vec<FileError>,
    /// Names left out by rules; a directory counts once.
    pub excluded: u64,
    /// Requests made to the remote.
    pub requests: RequestCounts,
    /// Snapshots that this client has seen, that are gone, and that nobody said to have removed.
    pub vanished: Vec<Vanished>,
    /// Of a safety snapshot, which leaves the cache as it is: the page tables of databases captured anew, by
    /// their names in the cache.
    pub tables: Vec<(String, PageTable)>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root cannot be read at all.
    #[error("cannot read {path}: {source}")]
    Root {
        /// The root.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A pattern, set or path that makes no sense.
    #[error("{0}")]
    Selection(String),
    /// The user asked to stop.
    #[error("interrupted; what was stored so far is used by the next backup")]
    Interrupted,
    /// Packs that the backup relied on were condemned again and again while it ran.
    #[error("a prune on another machine keeps condemning packs; try again when it is done")]
    Condemned,
    /// The repository failed.
    #[error(transparent)]
    Repo(RepoError),
}

impl From<RepoError> for Error {
    fn from(error: RepoError) -> Self {
        if error.class() == ErrorClass::Interrupted { Self::Interrupted } else { Self::Repo(error) }
    }
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Root { .. } | Self::Condemned => ErrorClass::Failed,
            Self::Selection(_) => ErrorClass::Usage,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}

/// Where and when something was that lies in another folder now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// When it was captured.
    pub time: Timestamp,
    /// Name of the machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// The directory that it was.
    pub root: Vec<u8>,
    /// What was chosen of it, in words.
    pub selection: Vec<String>,
    /// What was missing from it already.
    pub errors: Vec<FileError>,
    /// How much that was.
    pub error_count: u64,
}

impl Origin {
    fn describe(&self, snapshot: &mut Snapshot) {
        snapshot.time = self.time;
        snapshot.host.clone_from(&self.host);
        snapshot.user.clone_from(&self.user);
        snapshot.root.clone_from(&self.root);
        snapshot.paths = vec![self.root.clone()];
        snapshot.selection.clone_from(&self.selection);
        snapshot.complete &= self.error_count == 0;
        let room = crate::format::limits::SNAPSHOT_ERRORS.saturating_sub(snapshot.errors.len());
        snapshot.errors.extend(self.errors.iter().take(room).cloned());
        snapshot.error_count = snapshot.error_count.saturating_add(self.error_count);
    }
}

/// What to do.
pub struct Request {
    /// The directory; entries are relative to it.
    pub root: PathBuf,
    /// Only these files and directories, absolute; all when empty.
    pub paths: Vec<PathBuf>,
    /// What belongs to the snapshot.
    pub selection: Selection,
    /// Labels.
    pub tags: Vec<String>,
    /// Why.
    pub reason: Reason,
    /// Regular or safety.
    pub kind: SnapshotKind,
    /// Store nothing.
    pub dry_run: bool,
    /// Trust no recorded metadata.
    pub rescan: bool,
    /// Make no snapshot when nothing differs.
    pub skip_if_unchanged: bool,
    /// Check every captured database thoroughly.
    pub verify: bool,
    /// How much may be gone before the shrink alarm is raised; `None` when it never is.
    pub alarm: Option<Threshold>,
    /// Of what is imported: where and when it was. Its snapshot tells of that; nothing is compared with it, and the
    /// cache keeps nothing of it.
    pub origin: Option<Origin>,
    /// How to pack.
    pub packer: PackerOptions,
}

impl Request {
    /// All of a directory, taken the usual way.
    #[must_use]
    pub fn new(root: PathBuf, packer: PackerOptions) -> Self {
        Self {
            root,
            paths: Vec::new(),
            selection: Selection::default(),
            tags: Vec::new(),
            reason: Reason::Manual,
            kind: SnapshotKind::Regular,
            dry_run: false,
            rescan: false,
            skip_if_unchanged: false,
            verify: false,
            alarm: Some(Threshold::default()),
            origin: None,
            packer,
        }
    }
}

/// Gives up after so many prunes that condemned packs under a running backup.
const ATTEMPTS: usize = 3;

/// Takes a snapshot. `catalog` are the snapshots that there are now; `counting` is the remote of
/// `repository`, for the outcome's request counts.
pub fn run(
    repository: &Repository,
    catalog: &Catalog,
    counting: &Counting,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    repository.require(Operation::Write)?;
    let started = (clock.now(), clock.monotonic());
    let source = Source::prepare(repository, request)?;
    let listed = [history::Listed::names(SnapshotKind::Regular, catalog)];
    let vanished = history::look(repository, &listed, monitor.as_ref()).unwrap_or_else(|e| {
        monitor.warning(None, &format!("{e}; whether snapshots vanished is not known"));
        Vec::new()
    });
    let heal = Heal::new(repository, monitor.as_ref(), clock, request.dry_run);
    let mut listings = Listings::remembered(repository, catalog).filter(|known| heal.is_settled(known));
    let mut now = None;
    for _ in 0..ATTEMPTS {
        let known = match listings.take() {
            Some(known) => known,
            None => {
                let mut known = Listings::fresh(repository)?;
                heal.condemn(&mut known)?;
                // A parent that is there after the gc records were listed needs nothing that is gone.
                now = Some(Catalog::load(repository, SnapshotKind::Regular)?);
                known
            }
        };
        let catalog = now.as_ref().unwrap_or(catalog);
        let attempt = Attempt { repository, request, monitor, clock, source: &source, catalog, started };
        match attempt.run(known, None)? {
            Done::Finished(mut outcome) => {
                outcome.requests = counting.counts();
                outcome.vanished = vanished;
                return Ok(*outcome);
            }
            // The next attempt looks at everything anew.
            Done::Condemned => {}
        }
    }
    Err(Error::Condemned)
}

/// Tells every entry that a snapshot taken now would have, in manifest order, and stores nothing. What is
/// new is read and named as a backup would; what the cache knows is not read.
pub fn look(
    repository: &Repository,
    catalog: &Catalog,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
    observer: &mut Observer<'_>,
) -> Result<Outcome, Error> {
    debug_assert!(request.dry_run);
    let started = (clock.now(), clock.monotonic());
    let source = Source::prepare(repository, request)?;
    let known = match Listings::remembered(repository, catalog) {
        Some(known) => known,
        None => Listings::fresh(repository)?,
    };
    let attempt = Attempt { repository, request, monitor, clock, source: &source, catalog, started };
    match attempt.run(known, Some(observer))? {
        Done::Finished(outcome) => Ok(*outcome),
        Done::Condemned => Err(Error::Condemned),
    }
}

#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod tests;
