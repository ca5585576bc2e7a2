//! `drill`: a restore for practice. A backup that was never restored is a hope.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::restore;
use crate::clock::Clock;
use crate::crypto;
use crate::fs::{self, Dir, FileKind, Lock};
use crate::gather::sqlite;
use crate::model::{
    Capture, Classify, Content, DrillResult, Entry, EntryKind, ErrorClass, Integrity, ObjectId, RepoPath,
    Snapshot, Verdict,
};
use crate::ops::content::has_content;
use crate::repo::{BlobReader, LoadedIndex, ManifestReader, RepoError, Repository, SharedIndex, load_slices};
use crate::report::{Monitor, Phase};

/// How scratch folders are called, followed by 16 hex digits.
const PREFIX: &str = ".exuvia-drill-";
/// Tries to make a scratch folder.
const ATTEMPTS: usize = 8;
/// Room that the metadata of an entry takes on the disk, at most, roughly.
const ROOM_FOR_ENTRY: u64 = 4096;

/// What to do.
pub struct Request {
    /// The snapshot's id.
    pub id: ObjectId,
    /// Its record.
    pub snapshot: Snapshot,
    /// The folder in which the scratch folder is made.
    pub scratch: PathBuf,
    /// The directory that is backed up: no scratch folder may lie in it.
    pub state_dir: PathBuf,
    /// Worker threads.
    pub threads: usize,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scratch folder cannot be made or taken away.
    #[error("the scratch folder {path}: {source}")]
    Scratch {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The next backup would take the scratch folder with it.
    #[error("the scratch folder would lie in {0}, which is what is backed up")]
    Inside(PathBuf),
    /// The disk would be full before the end.
    #[error("this needs about {needed} bytes in {path}, and {free} are free")]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// Bytes that the snapshot takes.
        needed: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// The user asked to stop.
    #[error("interrupted; the scratch folder is gone")]
    Interrupted,
    /// The restore could not be made.
    #[error(transparent)]
    Restore(restore::Error),
    /// The repository failed.
    #[error(transparent)]
    Repo(RepoError),
}

impl From<restore::Error> for Error {
    fn from(error: restore::Error) -> Self {
        if error.class() == ErrorClass::Interrupted { Self::Interrupted } else { Self::Restore(error) }
    }
}

impl From<RepoError> for Error {
    fn from(error: RepoError) -> Self {
        if error.class() == ErrorClass::Interrupted { Self::Interrupted } else { Self::Repo(error) }
    }
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Scratch { .. } | Self::NoRoom { .. } => ErrorClass::Failed,
            Self::Inside(_) => ErrorClass::Usage,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Restore(e) => e.class(),
            Self::Repo(e) => e.class(),
        }
    }
}

/// Restores a snapshot into a folder of its own, reads everything again, has SQLite check every database,
/// compares the counts, and takes the folder away. The result is remembered in the cache.
///
/// Damage is a result; an error means that nobody knows.
pub fn run(
    repository: &Repository,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<DrillResult, Error> {
    let started = (clock.now(), clock.monotonic());
    let stats = &request.snapshot.stats;
    let entries = stats.files.saturating_add(stats.dirs);
    let needed = stats.bytes.saturating_add(entries.saturating_mul(ROOM_FOR_ENTRY));
    let scratch = Scratch::new(&request.scratch, &request.state_dir, needed, monitor.as_ref())?;
    let mut findings = Findings::default();
    let found = practise(repository, request, &scratch, monitor, clock, &mut findings);
    let removed = scratch.remove();
    if let (Err(_), Err(error)) = (&found, &removed) {
        monitor.warning(None, &error.to_string());
    }
    match found {
        Ok(()) => {}
        // It cannot be read at all: that is what a drill is there to find.
        Err(error) if error.class() == ErrorClass::Damaged => {
            findings.damage(None, &error.to_string(), monitor)
        }
        Err(error) => return Err(error),
    }
    removed?;
    if monitor.cancelled() {
        return Err(Error::Interrupted);
    }
    let taken = clock.monotonic().saturating_sub(started.1);
    let result = findings.result(request, started.0, u64::try_from(taken.as_millis()).unwrap_or(u64::MAX));
    if let Err(error) = repository.cache().note_drill(&result) {
        monitor.warning(None, &format!("the result cannot be remembered: {error}"));
    }
    Ok(result)
}

/// What is being found.
#[derive(Default)]
struct Findings {
    files: u64,
    dirs: u64,
    others: u64,
    bytes: u64,
    databases: u64,
    /// Databases of the manifest, whatever came of them.
    database_entries: u64,
    problems: Vec<String>,
    problem_count: u64,
    damaged: bool,
}

impl Findings {
    fn problem(&mut self, path: Option<&RepoPath>, message: &str) {
        self.problem_count += 1;
        if self.problems.len() < DrillResult::MAX_PROBLEMS {
            self.problems.push(path.map(|path| format!("{path}: ")).unwrap_or_default() + message);
        }
    }

    fn damage(&mut self, path: Option<&RepoPath>, message: &str, monitor: &Arc<dyn Monitor>) {
        self.damaged = true;
        self.problem(path, message);
        match path {
            Some(path) => monitor.error(path, message),
            None => monitor.warning(None, message),
        }
    }

    fn count(&mut self, what: &str, recorded: u64, found: u64, monitor: &Arc<dyn Monitor>) {
        if recorded != found {
            let message = format!("the snapshot's record tells of {recorded} {what}, and there are {found}");
            self.damage(None, &message, monitor);
        }
    }

    fn result(self, request: &Request, time: crate::model::Timestamp, duration_ms: u64) -> DrillResult {
        DrillResult {
            time,
            snapshot: request.id,
            snapshot_time: request.snapshot.time,
            verdict: match (self.damaged, self.problem_count) {
                (true, _) => Verdict::Damaged,
                (false, 0) => Verdict::Good,
                (false, _) => Verdict::Failed,
            },
            files: self.files,
            dirs: self.dirs,
            bytes: self.bytes,
            databases: self.databases,
            problems: self.problems,
            problem_count: self.problem_count,
            duration_ms,
        }
    }
}

fn practise(
    repository: &Repository,
    request: &Request,
    scratch: &Scratch,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
    findings: &mut Findings,
) -> Result<(), Error> {
    let restore = restore::Request {
        id: request.id,
        snapshot: request.snapshot.clone(),
        target: scratch.path.clone(),
        // All of it, by its name: so that the scratch folder stays closed to others, whatever the root's
        // mode was, and the cache is not prepared for backups of it.
        paths: vec![RepoPath::root()],
        dry_run: false,
        verify: false,
        owner: false,
        set_id: false,
        devices: false,
        threads: request.threads,
    };
    let outcome = restore::run(repository, &restore, monitor, clock)?;
    findings.damaged |= outcome.damaged;
    for error in &outcome.errors {
        findings.problem(Some(&error.path), &error.message);
    }
    let loaded: Arc<LoadedIndex> = SharedIndex::new(repository).get()?;
    let blobs = BlobReader::new(repository, &loaded.index);
    let reader = ManifestReader::new(&blobs, request.snapshot.manifest);
    monitor.phase(Phase::Verify, Some(request.snapshot.stats.bytes));
    let failed = |source| Error::Scratch { path: scratch.path.clone(), source };
    let root = Dir::open(&scratch.path).map_err(failed)?;
    let failed: Vec<&RepoPath> = outcome.errors.iter().map(|error| &error.path).collect();
    Inspection { request, scratch, blobs: &blobs, root, failed, monitor }.run(reader, findings)
}

/// What is wrong with one entry.
enum Fault {
    /// It is not what the snapshot says.
    Damage(String),
    /// This user may not look, so nobody knows: the snapshot may be another user's.
    Forbidden(String),
}

impl Fault {
    fn of(what: &str, error: &io::Error) -> Self {
        let message = format!("{what}: {error}");
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden(message),
            _ => Self::Damage(message),
        }
    }

    fn tell(&self, path: &RepoPath, findings: &mut Findings, monitor: &Arc<dyn Monitor>) {
        match self {
            Self::Damage(message) => findings.damage(Some(path), message, monitor),
            Self::Forbidden(message) => {
                findings.problem(Some(path), message);
                monitor.error(path, message);
            }
        }
    }
}

/// Looks at what was restored.
struct Inspection<'a> {
    request: &'a Request,
    scratch: &'a Scratch,
    blobs: &'a BlobReader<'a>,
    root: Dir,
    /// What the restore failed at is told already.
    failed: Vec<&'a RepoPath>,
    monitor: &'a Arc<dyn Monitor>,
}

impl Inspection<'_> {
    fn run(mut self, mut reader: ManifestReader<'_>, findings: &mut Findings) -> Result<(), Error> {
        self.failed.sort();
        let mut databases = Vec::new();
        let mut folder: Option<(RepoPath, Dir)> = None;
        while let Some(entry) = reader.next_entry()? {
            if self.monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            match &entry.kind {
                EntryKind::File(content) => {
                    findings.files += 1;
                    findings.bytes += content.size;
                    findings.database_entries += u64::from(self.recorded(&entry.path).is_some());
                }
                EntryKind::Directory => findings.dirs += 1,
                _ => findings.others += 1,
            }
            if entry.path.is_root() || self.failed.binary_search(&&entry.path).is_ok() {
                continue;
            }
            let parent = entry.path.parent().unwrap_or_default();
            if folder.as_ref().is_none_or(|(path, _)| *path != parent) {
                folder = match self.root.open_path(&parent) {
                    Ok(dir) => Some((parent, dir)),
                    Err(e) => {
                        Fault::of("its folder cannot be opened after the restore", &e).tell(
                            &entry.path,
                            findings,
                            self.monitor,
                        );
                        continue;
                    }
                };
            }
            if let Some((_, dir)) = &folder
                && let Err(fault) = self.entry(&entry, dir)
            {
                fault.tell(&entry.path, findings, self.monitor);
            }
            self.monitor.progress(u64::from(entry.content().is_some()), entry.size());
            if let Some(Capture::Sqlite { .. } | Capture::RawSqlite) = entry.content().map(|c| c.capture) {
                databases.push(entry);
            }
        }
        for entry in &databases {
            if self.monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            self.database(entry, findings);
        }
        self.counts(findings);
        Ok(())
    }

    /// Compares one entry with what was restored of it.
    fn entry(&self, entry: &Entry, dir: &Dir) -> Result<(), Fault> {
        let name = entry.path.name();
        let stat = match dir.stat_at(name) {
            Ok(stat) => stat,
            // They are not made without being asked for.
            Err(_) if matches!(entry.kind, EntryKind::CharDevice(..) | EntryKind::BlockDevice(..)) => {
                return Ok(());
            }
            Err(e) => return Err(Fault::of("cannot be found after the restore", &e)),
        };
        match &entry.kind {
            EntryKind::File(content) if stat.kind == FileKind::File => self.file(content, dir, name),
            EntryKind::Symlink(target) if stat.kind == FileKind::Symlink => match dir.read_link_at(name) {
                Ok(found) if found == *target => Ok(()),
                _ => Err(Fault::Damage("its target is not that of the snapshot".to_owned())),
            },
            EntryKind::Directory if stat.kind == FileKind::Directory => Ok(()),
            EntryKind::Fifo if stat.kind == FileKind::Fifo => Ok(()),
            EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) => Ok(()),
            _ => Err(Fault::Damage("is of another kind than in the snapshot".to_owned())),
        }
    }

    fn file(&self, content: &Content, dir: &Dir, name: &[u8]) -> Result<(), Fault> {
        let unreadable = |e: io::Error| Fault::of("cannot be read after the restore", &e);
        let slices = load_slices(content, self.blobs).map_err(|e| Fault::Damage(e.to_string()))?;
        let (file, stat) = dir.open_regular(name).map_err(unreadable)?;
        if stat.size != content.size {
            let message =
                format!("has {} bytes after the restore where the snapshot has {}", stat.size, content.size);
            return Err(Fault::Damage(message));
        }
        if has_content(file, content.hash.as_ref(), &slices, self.blobs).map_err(unreadable)? {
            Ok(())
        } else {
            Err(Fault::Damage("its content after the restore is not that of the snapshot".to_owned()))
        }
    }

    fn recorded(&self, path: &RepoPath) -> Option<&crate::model::DatabaseRecord> {
        // Writers sort them; a record of another order only makes this slower.
        let databases = &self.request.snapshot.databases;
        match databases.binary_search_by(|d| d.path.cmp(path)) {
            Ok(at) => databases.get(at),
            Err(_) => databases.iter().find(|d| d.path == *path),
        }
    }

    /// Has SQLite check a restored database. One that was damaged when it was taken, or could only be copied
    /// as a file, is as it was: that is worth a word, and no fault of the backup.
    fn database(&self, entry: &Entry, findings: &mut Findings) {
        let path = self.scratch.path.join(entry.path.to_os_path());
        let message = match sqlite::verify_file(&path, true) {
            Ok(Ok(())) => {
                findings.databases += 1;
                return;
            }
            // One line for each problem.
            Ok(Err(message)) => format!("SQLite finds it damaged: {}", message.replace('\n', "; ")),
            Err(e) => format!("SQLite cannot open it: {e}"),
        };
        let before = self.recorded(&entry.path).map(|database| &database.integrity);
        let raw = entry.content().is_some_and(|c| c.capture == Capture::RawSqlite);
        if raw {
            let message = format!("{message}; it was copied as a plain file, perhaps while it was written");
            self.monitor.warning(Some(&entry.path), &message);
        } else if matches!(before, Some(Integrity::Failed(..))) {
            self.monitor.warning(Some(&entry.path), &format!("{message}; it was so when it was backed up"));
        } else {
            findings.damage(Some(&entry.path), &message, self.monitor);
        }
    }

    fn counts(&self, findings: &mut Findings) {
        // Of what could not be taken, some may have been counted.
        if !self.request.snapshot.complete {
            return;
        }
        let stats = &self.request.snapshot.stats;
        let databases = self.request.snapshot.databases.len() as u64;
        for (what, recorded, found) in [
            ("files", stats.files, findings.files),
            ("directories", stats.dirs, findings.dirs),
            ("links and special files", stats.others, findings.others),
            ("bytes", stats.bytes, findings.bytes),
            ("databases", databases, findings.database_entries),
        ] {
            findings.count(what, recorded, found, self.monitor);
        }
    }
}

/// A folder that is taken away whatever happens; what a process that was killed left, the next one takes away.
pub(in crate::ops) struct Scratch {
    pub(in crate::ops) path: PathBuf,
    /// Says that its owner is alive; held until the folder is gone.
    lock: Option<Dir>,
}

impl Scratch {
    /// A new folder in `above`, which does not lie in the state dir and has room for `needed` bytes.
    pub(in crate::ops) fn new(
        above: &Path,
        state_dir: &Path,
        needed: u64,
        monitor: &dyn Monitor,
    ) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Scratch { path, source }
        };
        let dir = Dir::open(above).map_err(failed(above))?;
        refuse_inside(above, state_dir)?;
        sweep(above, monitor);
        let free = fs::free_bytes(above).map_err(failed(above))?;
        if free < needed {
            return Err(Error::NoRoom { path: above.to_path_buf(), needed, free });
        }
        for _ in 0..ATTEMPTS {
            if let Some(scratch) = Self::make(&dir, above).map_err(failed(above))? {
                return Ok(scratch);
            }
        }
        Err(failed(above)(io::Error::other("other drills keep taking it away")))
    }

    /// `None` when another drill took the new folder for one that was left, before it was locked.
    fn make(dir: &Dir, above: &Path) -> io::Result<Option<Self>> {
        let random = crypto::random::<8>().map_err(io::Error::other)?;
        let name = format!("{PREFIX}{}", data_encoding::HEXLOWER.encode(&random));
        dir.create_dir(name.as_bytes(), 0o700)?;
        let mut scratch = Self { path: above.join(&name), lock: None };
        let lock = match dir.open_dir(name.as_bytes()) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let held = lock.lock(false)? != Lock::Elsewhere;
        let there = dir.stat_at(name.as_bytes()).is_ok();
        scratch.lock = Some(lock);
        Ok((held && there).then_some(scratch))
    }

    /// Takes the folder away, and says when that is not possible.
    pub(in crate::ops) fn remove(mut self) -> Result<(), Error> {
        let path = std::mem::take(&mut self.path);
        fs::remove_tree(&path).map_err(|source| Error::Scratch { path, source })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Only on the way out with another error, which is told.
            drop(fs::remove_tree(&self.path));
        }
    }
}

fn refuse_inside(above: &Path, state_dir: &Path) -> Result<(), Error> {
    let Ok(state) = fs::stat_path(state_dir) else { return Ok(()) };
    let real = above.canonicalize().unwrap_or_else(|_| above.to_path_buf());
    let inside =
        real.ancestors().filter_map(|p| fs::stat_path(p).ok()).any(|s| s.identity() == state.identity());
    if inside { Err(Error::Inside(state_dir.to_path_buf())) } else { Ok(()) }
}

/// Takes away the scratch folders of drills that were killed: those whose lock nobody holds.
fn sweep(above: &Path, monitor: &dyn Monitor) {
    let Ok(dir) = Dir::open(above) else { return };
    for name in dir.list().unwrap_or_default() {
        let Ok(text) = std::str::from_utf8(&name) else { continue };
        let hex = text.strip_prefix(PREFIX).filter(|hex| hex.len() == 16);
        if !hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            continue;
        }
        let Ok(left) = dir.open_dir(&name) else { continue };
        // Where locks are unknown, nobody can tell what is in use.
        if left.lock(false).ok() != Some(Lock::Held) {
            continue;
        }
        let path = above.join(text);
        match fs::remove_tree(&path) {
            Ok(()) => {
                monitor.note(None, &format!("took away what an earlier drill left: {}", path.display()))
            }
            Err(e) => monitor.warning(None, &format!("an earlier drill left {}: {e}", path.display())),
        }
    }
}
