//! `restore`: puts a snapshot, or parts of it, into a directory.

mod finish;
mod plan;
mod seed;
mod stage;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(in crate::ops) use self::finish::{apply as apply_metadata, make_special};
use self::plan::{Plan, Planner};
pub(in crate::ops) use self::seed::Seed;
pub use self::stage::{Nearby, Staged, stage};
pub(in crate::ops) use self::write::Dirs;
use crate::clock::Clock;
use crate::fs::{self, Dir};
use crate::gather::sqlite;
use crate::model::{Classify, ErrorClass, FileError, ObjectId, RepoPath, Snapshot};
use crate::repo::{BlobReader, RepoError, Repository, SharedIndex};
use crate::report::{Monitor, Phase};

/// What a restore did, or for a dry run would do.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Where.
    pub target: PathBuf,
    /// Regular files of the snapshot within the paths asked for.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symlinks, fifos, devices.
    pub others: u64,
    /// Files written.
    pub files_written: u64,
    /// Files that were there already.
    pub files_unchanged: u64,
    /// Bytes of file content written.
    pub bytes_written: u64,
    /// Databases checked and found good.
    pub databases_checked: u64,
    /// Paths that could not be put back, with the reason.
    pub errors: Vec<FileError>,
    /// True when one of the errors is damage in the repository.
    pub damaged: bool,
    /// Old database companions (`-wal` and so on) and where they were moved.
    pub moved_aside: Vec<(PathBuf, PathBuf)>,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target cannot be used.
    #[error("cannot restore to {path}: {source}")]
    Target {
        /// The target.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The target lies inside the repository or the cache.
    #[error("{path} belongs to the repository or its cache; choose another directory")]
    OwnDirectory {
        /// The target.
        path: PathBuf,
    },
    /// The snapshot does not have a path that was asked for.
    #[error("the snapshot has no {0:?}")]
    NoSuchPath(String),
    /// A database in the target is open in another process.
    #[error("{path} is open in another program; stop it first, or restore to another directory")]
    DatabaseInUse {
        /// The database.
        path: PathBuf,
    },
    /// The user asked to stop.
    #[error("interrupted; files restored so far are complete")]
    Interrupted,
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
            Self::Target { .. } => ErrorClass::Failed,
            Self::NoSuchPath(_) | Self::OwnDirectory { .. } => ErrorClass::Usage,
            Self::DatabaseInUse { .. } => ErrorClass::Busy,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}

/// What to restore, and how.
pub struct Request {
    /// The snapshot's id.
    pub id: ObjectId,
    /// Its record.
    pub snapshot: Snapshot,
    /// Where to.
    pub target: PathBuf,
    /// Only these paths; all when empty.
    pub paths: Vec<RepoPath>,
    /// Write nothing.
    pub dry_run: bool,
    /// Compare and verify by content, and check databases.
    pub verify: bool,
    /// Restore owner and group.
    pub owner: bool,
    /// Keep set-id bits.
    pub set_id: bool,
    /// Make device files.
    pub devices: bool,
    /// Worker threads.
    pub threads: usize,
}

/// What the parts of a restore share.
struct Context<'a> {
    repository: &'a Repository,
    request: &'a Request,
    blobs: BlobReader<'a>,
    monitor: &'a dyn Monitor,
    /// Where content may be had for less.
    nearby: Option<&'a dyn Nearby>,
}

/// Restores a snapshot.
pub fn run(
    repository: &Repository,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    run_as(repository, request, &request.target, monitor, clock)
}

/// The same, where the content of the target will be moved to another directory, `home`: the cache is
/// prepared for the next backup of that one.
pub fn run_as(
    repository: &Repository,
    request: &Request,
    home: &Path,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    let started = clock.monotonic();
    let loaded = SharedIndex::new(repository).get()?;
    let blobs = BlobReader::new(repository, &loaded.index);
    let context = Context { repository, request, blobs, monitor: monitor.as_ref(), nearby: None };
    let target = &request.target;
    refuse_own(repository, target)?;
    refuse_in_use(request)?;
    let failed = |source| Error::Target { path: target.clone(), source };
    if !request.dry_run {
        fs::create_private_dir_all(target).map_err(failed)?;
    }
    let root = match Dir::open(target) {
        Ok(dir) => Some(Arc::new(dir)),
        Err(e) if e.kind() == io::ErrorKind::NotFound && request.dry_run => None,
        Err(e) => return Err(failed(e)),
    };
    monitor.phase(Phase::Plan, None);
    let mut outcome = Outcome { target: target.clone(), ..Outcome::default() };
    let plan: Plan = Planner::new(&context, root.clone(), &mut outcome).plan()?;
    if let (Some(root), false) = (root, request.dry_run) {
        monitor.phase(Phase::Restore, Some(plan.bytes()));
        let written = write::run(&context, &root, &plan, &mut outcome)?;
        finish::run(&context, &root, &plan, &written, &mut outcome);
        root.sync_file_system().map_err(failed)?;
        if request.verify {
            monitor.phase(Phase::Verify, None);
            finish::check_databases(&context, &plan, &written, &mut outcome);
        }
        if request.paths.is_empty() && outcome.errors.is_empty() && !monitor.cancelled() {
            // The next backup of this directory need not read what was just written.
            if let Err(error) = seed::run(&context, &root, home, &plan, &written) {
                monitor.note(None, &format!("the cache could not be prepared for the next backup: {error}"));
            }
        }
    } else {
        outcome.files_written = plan.files.len() as u64;
        outcome.bytes_written = plan.bytes();
    }
    let taken = clock.monotonic().saturating_sub(started);
    outcome.duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    if monitor.cancelled() { Err(Error::Interrupted) } else { Ok(outcome) }
}

/// Asked of all databases before anything is changed; each is asked again when its turn comes.
fn refuse_in_use(request: &Request) -> Result<(), Error> {
    let asked =
        |path: &RepoPath| request.paths.is_empty() || request.paths.iter().any(|p| path.starts_with(p));
    for database in request.snapshot.databases.iter().filter(|d| asked(&d.path)) {
        let path = request.target.join(database.path.to_os_path());
        if sqlite::is_open_elsewhere(&path).unwrap_or(false) {
            return Err(Error::DatabaseInUse { path });
        }
    }
    Ok(())
}

/// Restoring over the repository that is read from would destroy both.
fn refuse_own(repository: &Repository, target: &Path) -> Result<(), Error> {
    let own = repository.own_directories();
    let own: Vec<_> = own.iter().filter_map(|p| fs::stat_path(p).ok()).map(|s| s.identity()).collect();
    let absolute = std::path::absolute(target).unwrap_or_else(|_| target.to_path_buf());
    let inside =
        absolute.ancestors().filter_map(|p| fs::stat_path(p).ok()).any(|s| own.contains(&s.identity()));
    if inside { Err(Error::OwnDirectory { path: target.to_path_buf() }) } else { Ok(()) }
}

impl Outcome {
    fn fail(&mut self, monitor: &dyn Monitor, path: &RepoPath, message: String) {
        monitor.error(path, &message);
        self.errors.push(FileError { path: path.clone(), message });
    }
}
