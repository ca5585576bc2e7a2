//! `rollback`: makes a live state dir, or parts of it, exactly as in a snapshot.
//!
//! What shall be there is compared with what a backup would store now; a safety snapshot is taken, and
//! compared again, so that each step is between two states that are both whole in the repository. All new
//! content is fetched and verified beside its place first, then each file is renamed into it. A note in the
//! state dir ([`Journal`]) lasts from before the first change until after the last: whoever finds it can go
//! on to either end by another comparison.
//!
//! # What is promised, and what not
//!
//! Nothing is overwritten or removed that the safety snapshot does not hold: what has changed since is moved
//! to a folder `exuvia-kept-...` instead. What another program writes in the instant between that look and
//! the change, or to a file that it holds open while the file is replaced, is lost, as is what it writes
//! into a database between the safety snapshot and the transaction that replaces the database's content.

mod apply;
mod database;
mod feasible;
mod journal;
mod local;
mod plan;
mod stage;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::journal::{FOLDER, Journal};
use self::plan::Collector;
pub use self::plan::{Plan, Step};
use super::backup::{self, Selection};
use super::cache_keys;
use super::compare::{self, Change, Merge, Settle};
use super::content;
use super::forget;
use crate::clock::Clock;
use crate::fs::{Dir, Lock};
use crate::model::{
    Capture, Classify, Content, Entry, ErrorClass, FileError, ObjectId, Reason, RepoPath, Snapshot,
    SnapshotKind,
};
use crate::remote::{Counting, RequestCounts};
use crate::repo::{BlobReader, Catalog, PackerOptions, RepoError, Repository, SharedIndex};
use crate::report::Monitor;

/// Tag of a safety snapshot: what the rollback went back to.
const TAG_TARGET: &str = "rollback-to=";
/// Tag of a safety snapshot: a path that was asked for, escaped as by [`slice::escape_ascii`].
const TAG_PATH: &str = "rollback-path=";
/// Tag of a safety snapshot of what an interrupted rollback had left: no state to go back to.
const TAG_INTERRUPTED: &str = "interrupted-rollback";

/// What to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// The state dir.
    pub root: PathBuf,
    /// The snapshot that it shall be as.
    pub target: ObjectId,
    /// Its record.
    pub snapshot: Snapshot,
    /// Only these paths; all when empty.
    pub scope: Vec<RepoPath>,
    /// What the snapshot does not have stays.
    pub keep_extra: bool,
    /// The journal of the interrupted rollback that this one finishes or takes back.
    pub resumes: Option<Journal>,
    /// Go on although the application runs.
    pub live: bool,
    /// Restore owner and group.
    pub owner: bool,
    /// Make device files.
    pub devices: bool,
    /// How to pack the safety snapshot.
    pub packer: PackerOptions,
}

/// What a rollback did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The safety snapshot.
    pub safety: ObjectId,
    /// What was done.
    pub plan: Plan,
    /// Files written, databases included.
    pub files_written: u64,
    /// Bytes of files written.
    pub bytes_written: u64,
    /// Of these, bytes that were found in the state dir and not asked of the repository.
    pub bytes_local: u64,
    /// Databases whose content was replaced while another program had them open.
    pub live_databases: Vec<RepoPath>,
    /// What had changed since the safety snapshot, and where it is now.
    pub kept: Vec<(RepoPath, RepoPath)>,
    /// What another program has written again since.
    pub written_since: Vec<RepoPath>,
    /// What could not be done. The rollback is unfinished when there is any.
    pub errors: Vec<FileError>,
    /// Requests made to the remote.
    pub requests: RequestCounts,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Why nothing was rolled back. Unless it says otherwise, the state dir is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state dir cannot be used.
    #[error("cannot roll back {path}: {source}")]
    Root {
        /// The state dir.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The note of an interrupted rollback makes no sense.
    #[error("the note of an interrupted rollback, {path}, cannot be read: {source}")]
    Journal {
        /// The folder of the note.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// An earlier rollback was interrupted.
    #[error("a rollback to {} was interrupted and left a mixture", target.short())]
    Unfinished {
        /// What it went back to.
        target: ObjectId,
    },
    /// There is none to finish or to take back.
    #[error("no rollback of {path} was interrupted")]
    NothingUnfinished {
        /// The state dir.
        path: PathBuf,
    },
    /// A backup or another rollback is at work in the state dir.
    #[error("a backup or another rollback of {path} is at work")]
    Busy {
        /// The state dir.
        path: PathBuf,
    },
    /// The application runs.
    #[error("{program} is running (process {pid})")]
    Running {
        /// Its name.
        program: &'static str,
        /// Its process id.
        pid: u32,
    },
    /// A database that has to go is open.
    #[error("{path} is open in {holder}, and the snapshot does not have it")]
    DatabaseInUse {
        /// The database.
        path: RepoPath,
        /// Who has it open.
        holder: String,
    },
    /// A step could not be made, and would leave a mixture.
    #[error("{path} {what}")]
    Blocked {
        /// What is in the way.
        path: RepoPath,
        /// Why.
        what: &'static str,
    },
    /// The snapshot's selection has a word that this version does not know.
    #[error("the snapshot was taken with {word:?}, which this version does not know")]
    Selection {
        /// The word.
        word: String,
    },
    /// The snapshot does not have, and the state dir does not have, a path that was asked for.
    #[error("neither the snapshot nor the state dir has {0:?}")]
    NoSuchPath(String),
    /// The safety snapshot cannot hold what would be overwritten.
    #[error("{path} could not be read for the safety snapshot: {message}")]
    Unprotected {
        /// What could not be read.
        path: RepoPath,
        /// Why.
        message: String,
    },
    /// Not enough room for the new files.
    #[error("{needed} bytes are needed in {path} and {free} are free")]
    Full {
        /// The state dir.
        path: PathBuf,
        /// Bytes to be written.
        needed: u64,
        /// Bytes that may be.
        free: u64,
    },
    /// New content could not be had.
    #[error("{path} cannot be fetched: {message}")]
    Fetch {
        /// The first such file.
        path: RepoPath,
        /// Why.
        message: String,
        /// The repository is damaged.
        damaged: bool,
        /// It does not answer.
        unreachable: bool,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Reading the state dir, or the safety snapshot.
    #[error(transparent)]
    Backup(backup::Error),
    /// The repository failed.
    #[error(transparent)]
    Repo(RepoError),
}

impl From<RepoError> for Error {
    fn from(error: RepoError) -> Self {
        if error.class() == ErrorClass::Interrupted { Self::Interrupted } else { Self::Repo(error) }
    }
}

impl From<backup::Error> for Error {
    fn from(error: backup::Error) -> Self {
        match error {
            backup::Error::Interrupted => Self::Interrupted,
            backup::Error::Repo(error) => error.into(),
            error => Self::Backup(error),
        }
    }
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Root { .. }
            | Self::Journal { .. }
            | Self::Unprotected { .. }
            | Self::Blocked { .. }
            | Self::Full { .. } => ErrorClass::Failed,
            Self::Unfinished { .. }
            | Self::Busy { .. }
            | Self::Running { .. }
            | Self::DatabaseInUse { .. } => ErrorClass::Busy,
            Self::NothingUnfinished { .. } | Self::Selection { .. } | Self::NoSuchPath(_) => {
                ErrorClass::Usage
            }
            Self::Fetch { damaged, .. } if *damaged => ErrorClass::Damaged,
            Self::Fetch { .. } => ErrorClass::Failed,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Backup(e) => e.class(),
            Self::Repo(e) => e.class(),
        }
    }
}

impl Request {
    fn failed(&self) -> impl Fn(io::Error) -> Error + '_ {
        |source| Error::Root { path: self.root.clone(), source }
    }

    /// A backup of all that the snapshot's selection takes in.
    fn backup(&self) -> Result<backup::Request, Error> {
        let unknown = |word: &str| Error::Selection { word: word.to_string() };
        let selection = Selection::from_words(&self.snapshot.selection).map_err(unknown)?;
        let safety = SnapshotKind::Safety;
        let request = backup::Request::new(self.root.clone(), self.packer);
        Ok(backup::Request { selection, kind: safety, reason: Reason::Safety, ..request })
    }

    fn tags(&self) -> Vec<String> {
        let mut tags = vec![format!("{TAG_TARGET}{}", self.target)];
        tags.extend(self.scope.iter().map(|path| format!("{TAG_PATH}{}", path.as_bytes().escape_ascii())));
        tags.extend(self.resumes.as_ref().map(|_| TAG_INTERRUPTED.to_string()));
        tags
    }
}

/// True for a safety snapshot of a state that was meant: not of what an interrupted rollback had left.
#[must_use]
pub fn is_whole(safety: &Snapshot) -> bool {
    !safety.tags.iter().any(|tag| tag == TAG_INTERRUPTED)
}

/// The paths that the rollback before which a safety snapshot was taken was limited to.
#[must_use]
pub fn scope_of(safety: &Snapshot) -> Vec<RepoPath> {
    let escaped = safety.tags.iter().filter_map(|tag| tag.strip_prefix(TAG_PATH));
    escaped.filter_map(|text| RepoPath::new(unescape(text)?).ok()).collect()
}

/// The reverse of [`slice::escape_ascii`].
fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                (*data_encoding::HEXLOWER.decode(&digits).ok()?.first()?, after)
            }
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [c @ (b'\\' | b'\'' | b'"'), after @ ..]) => (*c, after),
            (b'\\', _) => return None,
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

/// The note of an unfinished rollback of a state dir, if there is one.
pub fn unfinished(root: &Path) -> Result<Option<Journal>, Error> {
    Journal::read(root).map_err(|source| Error::Journal { path: journal::folder(root), source })
}

/// Compares what is in the state dir with what was stored.
struct Live<'a> {
    root: &'a Dir,
    blobs: &'a BlobReader<'a>,
}

impl Live<'_> {
    /// Whether the file in place has the bytes wanted. Of a database with a log that is not asked.
    fn has(&self, want: &Entry, content: &Content) -> Result<bool, RepoError> {
        let slices = crate::repo::load_slices(content, self.blobs)?;
        let has = || {
            let parent = self.root.open_path(&want.path.parent().unwrap_or_default())?;
            if content.capture != Capture::Plain && database::has_log(&parent, want.path.name()) {
                return Ok(false);
            }
            let (file, _) = parent.open_regular(want.path.name())?;
            content::has_content(file, content.hash.as_ref(), &slices, self.blobs)
        };
        // What cannot be read is written anew.
        Ok(has().unwrap_or(false))
    }
}

impl Settle for Live<'_> {
    fn same_content(&self, want: &Entry, _: &Entry) -> Result<bool, RepoError> {
        want.content().map_or(Ok(false), |content| self.has(want, content))
    }
}

/// Compares the state dir with the snapshot; changes nothing.
pub fn plan(
    repository: &Repository,
    catalog: &Catalog,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Plan, Error> {
    let loaded = SharedIndex::new(repository).get()?;
    let blobs = BlobReader::new(repository, &loaded.index);
    let root = Dir::open(&request.root).map_err(request.failed())?;
    let live = Live { root: &root, blobs: &blobs };
    let mut collector = collector(request, &blobs, &live, Some(&root));
    let mut merge = Merge::new(&blobs, request.snapshot.manifest)?;
    let look = backup::Request { dry_run: true, ..request.backup()? };
    let looked = backup::look(repository, catalog, &look, monitor, clock, &mut |entry| {
        merge.push(entry, &mut |pair| collector.pair(pair))
    })?;
    merge.finish(&mut |pair| collector.pair(pair))?;
    let plan = collector.finish();
    unread(&plan, &looked.errors)?;
    Ok(plan)
}

fn collector<'a>(
    request: &'a Request,
    blobs: &'a BlobReader<'a>,
    settle: &'a dyn Settle,
    walked: Option<&'a Dir>,
) -> Collector<'a> {
    let Request { scope, keep_extra, owner, .. } = request;
    let snapshot = &request.snapshot;
    Collector {
        blobs,
        settle,
        scope,
        keep_extra: *keep_extra,
        owner: *owner,
        unknown: &snapshot.errors,
        unknown_more: snapshot.error_count > snapshot.errors.len() as u64,
        devices: request.devices,
        walked,
        takes_back: snapshot.kind == SnapshotKind::Safety
            && !scope.is_empty()
            && scope_of(snapshot) == *scope,
        made_above: BTreeMap::new(),
        names: plan::Names::default(),
        plan: Plan::default(),
    }
}

/// Refuses to overwrite what could not be read.
fn unread(plan: &Plan, errors: &[FileError]) -> Result<(), Error> {
    for error in errors {
        let touched = plan.steps.iter().any(|step| {
            step.path == error.path
                || step.change != Change::Metadata
                    && (step.path.starts_with(&error.path) && !error.path.is_root()
                        || step.clears() && error.path.starts_with(&step.path))
        });
        if touched {
            return Err(Error::Unprotected { path: error.path.clone(), message: error.message.clone() });
        }
    }
    Ok(())
}

/// Listens, and is not to be stopped.
struct Steadfast(Arc<dyn Monitor>);

impl Monitor for Steadfast {
    fn note(&self, path: Option<&RepoPath>, message: &str) {
        self.0.note(path, message);
    }

    fn warning(&self, path: Option<&RepoPath>, message: &str) {
        self.0.warning(path, message);
    }

    fn error(&self, path: &RepoPath, message: &str) {
        self.0.error(path, message);
    }
}

/// Takes back a safety snapshot before which nothing has changed. Where it cannot be removed it stays, which
/// harms nobody: to go back to it is shown, and asked, like any other way.
fn withdraw(repository: &Repository, safety: &ObjectId) {
    let catalog = Catalog::load(repository, SnapshotKind::Safety);
    let catalog = catalog.unwrap_or_default();
    if let Some(entry) = catalog.entries().iter().find(|entry| entry.id == *safety) {
        let _ = forget::withdraw(repository, entry);
    }
}

/// Rolls back. `planned` is what [`plan`] said.
pub fn run(
    repository: &Repository,
    catalog: &Catalog,
    counting: &Counting,
    request: &Request,
    planned: &Plan,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    let started = clock.monotonic();
    let root = Arc::new(Dir::open(&request.root).map_err(request.failed())?);
    if root.lock(false).map_err(request.failed())? == Lock::Elsewhere {
        return Err(Error::Busy { path: request.root.clone() });
    }
    if unfinished(&request.root)? != request.resumes {
        let target = unfinished(&request.root)?.map_or(request.target, |journal| journal.target);
        return Err(Error::Unfinished { target });
    }
    database::refuse(&request.root, planned)?;
    feasible::check(&root, request, planned)?;
    let of_plan = planned.steps.iter().filter(|step| step.is_database()).map(|step| &step.path);
    let databases = request.snapshot.databases.iter().map(|database| &database.path).chain(of_plan);
    let marks: HashMap<RepoPath, database::Marks> =
        databases.filter_map(|path| Some((path.clone(), database::Marks::read(&root, path).ok()?))).collect();
    let take = backup::Request { tags: request.tags(), ..request.backup()? };
    let taken = backup::run(repository, catalog, counting, &take, monitor, clock)?;
    let Some(safety) = taken.id else { return Err(Error::Interrupted) };

    let loaded = SharedIndex::new(repository).get()?;
    let blobs = BlobReader::new(repository, &loaded.index);
    let mut collector = collector(request, &blobs, &blobs, None);
    let (want, have) = (request.snapshot.manifest, taken.snapshot.manifest);
    compare::snapshots(&blobs, want, have, &mut |pair| collector.pair(pair))?;
    let mut plan = collector.finish();
    plan.steps.retain(|step| step.change != Change::Removed || !planned.leaves_out(&step.path));
    // Two images of one content may consist of other blobs; that the files are the same was seen before.
    let changes: HashSet<&RepoPath> = planned.steps.iter().map(|step| &step.path).collect();
    plan.steps.retain(|step| {
        let seen = step.change != Change::Content || !step.is_database() || changes.contains(&step.path);
        let now = || database::Marks::read(&root, &step.path).ok();
        seen || marks.get(&step.path).is_none_or(|before| Some(*before) != now())
    });
    // What both have in common was passed over.
    (plan.unchanged, plan.extra) = (planned.unchanged, planned.extra);
    plan.left_out.clone_from(&planned.left_out);
    unread(&plan, &taken.errors)?;

    let journal = Journal {
        target: request.target,
        safety: request.resumes.as_ref().map_or(safety, |journal| journal.safety),
        scope: request.scope.clone(),
        keep_extra: request.keep_extra,
        owner: request.owner,
        devices: request.devices,
        resumes: request.resumes.is_some(),
    };
    let tables = |path: &RepoPath| {
        let key = cache_keys::pages(&request.root, path);
        let made = taken.tables.iter().find(|(name, _)| *name == key).map(|(_, table)| table.clone());
        made.or_else(|| repository.cache().page_table(&key))
    };
    let work = apply::Work {
        blobs: &blobs,
        request,
        monitor: monitor.as_ref(),
        root: &root,
        safety,
        marks,
        tables: &tables,
    };
    let mut applied = match work.run(&plan, &journal) {
        Ok(applied) => applied,
        Err(error) => {
            // Nothing was changed, so there is nothing to go back to: an undo shall not find it. A repository
            // that does not answer would be waited for once more.
            if !matches!(error, Error::Fetch { unreachable: true, .. }) {
                withdraw(repository, &safety);
            }
            return Err(error);
        }
    };
    if applied.errors.is_empty() {
        // The work is done, and no request to stop makes it undone.
        let steadfast: Arc<dyn Monitor> = Arc::new(Steadfast(Arc::clone(monitor)));
        let looked = clock.now();
        match self::plan(repository, catalog, request, &steadfast, clock) {
            Ok(again) => work.judge(&plan, &again, &mut applied),
            Err(error) => applied.fail(format!("what was put in place could not be compared: {error}")),
        }
        let all = request.scope.is_empty() && plan.extra == 0 && plan.left_out.is_empty();
        if all
            && applied.errors.is_empty()
            && applied.kept.is_empty()
            && let Err(error) = work.seed(&applied, looked)
        {
            monitor.note(None, &format!("the cache could not be prepared for the next backup: {error}"));
        }
    }
    if applied.errors.is_empty()
        && let Err(error) = work.finish(&plan)
    {
        applied.fail(error.to_string());
    }
    let spent = clock.monotonic().saturating_sub(started);
    Ok(Outcome {
        safety: journal.safety,
        plan,
        files_written: applied.files,
        bytes_written: applied.bytes,
        bytes_local: applied.local,
        live_databases: applied.live.into_iter().map(|(path, _)| path).collect(),
        kept: applied.kept,
        written_since: applied.since,
        errors: applied.errors,
        requests: counting.counts(),
        duration_ms: u64::try_from(spent.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_path_survives_in_a_tag() {
        for bytes in [&b"a b/c"[..], b"\xff\x00\n\t\r'\"\\x", "\u{e9}".as_bytes()] {
            assert_eq!(unescape(&bytes.escape_ascii().to_string()).unwrap(), bytes);
        }
        for wrong in ["\\", "\\q", "\\x1", "\\xgg"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }
}
