//! Runs the use cases.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::Location;
use super::requests::{
    BackupRequest, CheckRequest, InitRequest, LsRequest, RestoreRequest, Session, SnapshotInfo, StatsOutcome,
};
use super::{AppError, BackupOutcome, CheckOutcome, RestoreOutcome};
use crate::clock::Clock;
use crate::fs::{Dir, Lock};
use crate::model::{Entry, RepoPath, RepositoryId, SnapshotKind, Timestamp};
use crate::ops::{
    backup as ops_backup, check as ops_check, content as ops_content, restore as ops_restore,
    rollback as ops_rollback, select,
};
use crate::remote::{Counting, Local, Rclone, Remote};
use crate::repo::{
    BlobReader, Catalog, CatalogEntry, Folder, LoadedIndex, ManifestReader, PackerOptions, RepoError,
    Repository, SharedIndex,
};
use crate::report::Monitor;

/// Packs on their way at once, at most: each is held in memory.
pub(super) const UPLOADS: usize = 4;
/// And at least: while one waits for a disk, the next is filled.
const LEAST_UPLOADS: usize = 3;

pub(super) fn remote(
    location: &Location,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn Remote> {
    match location {
        Location::Local(path) => Arc::new(Local::new(path.clone())),
        Location::Rclone(target) => {
            Arc::new(Rclone::new(target.clone(), Arc::clone(monitor), Arc::clone(clock)))
        }
    }
}

fn session_remote(session: &Session) -> Arc<dyn Remote> {
    remote(&session.repository, &session.monitor, &session.clock)
}

pub(super) fn counted(session: &Session) -> (Arc<dyn Remote>, Arc<Counting>) {
    crate::fs::raise_open_file_limit();
    let counting = Arc::new(Counting::new(session_remote(session)));
    (Arc::clone(&counting) as _, counting)
}

/// The same for what needs no owner key: nothing that reads packs or snapshots.
pub(super) fn open_with_any_key(session: &Session) -> Result<(Repository, Arc<Counting>), AppError> {
    let (handle, counting) = counted(session);
    let repository = Repository::open(handle, &session.passphrase, session.caches())?;
    tell_cache_troubles(session, &repository);
    Ok((repository, counting))
}

/// Warns of what could not be written to the cache.
pub(super) fn tell_cache_troubles(session: &Session, repository: &Repository) {
    for error in repository.take_cache_troubles() {
        session
            .monitor
            .warning(None, &format!("what this machine knows of the keys cannot be kept: {error}"));
    }
}

/// An open repository and the wrapper that counts its requests. A writer key is refused.
pub(super) fn open(session: &Session) -> Result<(Repository, Arc<Counting>), AppError> {
    let opened = open_with_any_key(session)?;
    opened.0.require_owner()?;
    Ok(opened)
}

pub(super) fn index(repository: &Repository) -> Result<Arc<LoadedIndex>, RepoError> {
    SharedIndex::new(repository).get()
}

pub(super) fn zoned(clock: &dyn Clock) -> jiff::Zoned {
    let now = clock.now();
    let nanos = i32::try_from(now.nanos).unwrap_or_default();
    let now = jiff::Timestamp::new(now.secs, nanos).unwrap_or_default();
    now.to_zoned(jiff::tz::TimeZone::system())
}

/// The snapshot that the user named, of the regular ones or, by its id, a safety snapshot.
pub(super) fn choose(
    session: &Session,
    repository: &Repository,
    word: &str,
) -> Result<SnapshotInfo, AppError> {
    let now = zoned(session.clock.as_ref());
    let regular = Catalog::load(repository, SnapshotKind::Regular)?;
    let entry = match select::choose(&regular, word, &now, &time_of(repository)) {
        Ok(entry) => entry.clone(),
        Err(error) => {
            let safety = Catalog::load(repository, SnapshotKind::Safety)?;
            let by_id =
                safety.entries().iter().find(|e| word.len() >= 8 && e.id.to_string().starts_with(word));
            by_id.ok_or(error)?.clone()
        }
    };
    let info = SnapshotInfo { snapshot: repository.snapshot(&entry)?, id: entry.id };
    super::sources::tell(session, repository, &regular, word, &info);
    Ok(info)
}

/// Tells the exact time of a snapshot, for [`select::at`].
pub(super) fn time_of(repository: &Repository) -> impl Fn(&CatalogEntry) -> Option<Timestamp> {
    |entry| repository.snapshot(entry).ok().map(|snapshot| snapshot.time)
}

/// Whether there is a repository.
pub fn probe(
    location: &Location,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<bool, AppError> {
    match Repository::probe(remote(location, monitor, clock).as_ref()) {
        Ok(_) => Ok(true),
        Err(RepoError::NoRepository { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Makes a repository.
pub fn init(session: &Session, request: &InitRequest) -> Result<RepositoryId, AppError> {
    let remote = session_remote(session);
    let created = session.clock.now();
    let (passphrase, caches) = (&session.passphrase, session.caches());
    let id = Repository::init(&remote, passphrase, caches, request.params, created, &request.label)?;
    if Repository::stray_keys(remote.as_ref()).is_ok_and(|stray| stray > 0) {
        let words = "key objects that an interrupted init left were there; they open nothing, and `exuvia key list` \
                     shows them";
        session.monitor.warning(None, words);
    }
    Ok(id)
}

/// Packs that may be on their way to this repository at once.
pub(super) fn uploads(repository: &Repository) -> usize {
    repository.remote().parallel_requests().clamp(LEAST_UPLOADS, UPLOADS)
}

/// Takes a snapshot.
pub fn backup(session: &Session, request: &BackupRequest) -> Result<BackupOutcome, AppError> {
    match backup_once(session, request) {
        // The key that this machine had kept is too old, and forgotten by now. Should what the repository has be
        // too old as well, the second error says so.
        Err(AppError::Backup(ops_backup::Error::Repo(error))) if error.is_rotated() && session.key_cache => {
            session.monitor.note(None, "the keys were rotated; looking for the new one");
            backup_once(session, request)
        }
        other => other,
    }
}

fn backup_once(session: &Session, request: &BackupRequest) -> Result<BackupOutcome, AppError> {
    let (handle, counting) = counted(session);
    let (repository, catalog) = Repository::open_for_backup(handle, &session.passphrase, session.caches())?;
    tell_cache_troubles(session, &repository);
    let uploads = uploads(&repository);
    // Together with other backups, but not with a rollback. What cannot be opened is the backup's to tell of.
    let root = Dir::open(&request.root).ok();
    if root.as_ref().is_some_and(|dir| matches!(dir.share(), Ok(Lock::Elsewhere))) {
        return Err(ops_rollback::Error::Busy { path: request.root.clone() }.into());
    }
    let mut tags = request.tags.clone();
    if ops_rollback::unfinished(&request.root)?.is_some() {
        // Whoever meets it later must not take a mixture for a state that was meant.
        tags.push("interrupted-rollback".to_string());
    }
    let packer =
        PackerOptions { compression: request.compression, uploads, ..PackerOptions::new(session.threads) };
    let request = ops_backup::Request {
        root: request.root.clone(),
        paths: request.paths.clone(),
        selection: request.selection.clone(),
        tags,
        reason: request.reason,
        kind: SnapshotKind::Regular,
        dry_run: request.dry_run,
        rescan: request.rescan,
        skip_if_unchanged: request.skip_if_unchanged,
        verify: request.verify,
        alarm: request.alarm,
        origin: None,
        packer,
    };
    Ok(ops_backup::run(&repository, &catalog, &counting, &request, &session.monitor, &session.clock)?)
}

/// Lists snapshots, oldest first.
pub fn snapshots(session: &Session, safety: bool) -> Result<Vec<SnapshotInfo>, AppError> {
    Ok(super::marks::listing(session, safety)?.snapshots)
}

fn missing(path: &RepoPath) -> AppError {
    AppError::Path { path: path.to_string(), what: "the snapshot has no such path" }
}

/// Calls `each` for every entry asked for.
pub fn ls(
    session: &Session,
    request: &LsRequest,
    each: &mut dyn FnMut(&Entry) -> std::io::Result<()>,
) -> Result<SnapshotInfo, AppError> {
    let (repository, _) = open(session)?;
    let info = choose(session, &repository, &request.snapshot)?;
    let loaded = index(&repository)?;
    let blobs = BlobReader::new(&repository, &loaded.index);
    let mut reader = ManifestReader::from(&blobs, info.snapshot.manifest, &request.path)?;
    let first = reader.next_entry()?.filter(|e| e.path == request.path);
    let first = first.ok_or_else(|| missing(&request.path))?;
    if !first.is_dir() {
        each(&first)?;
        return Ok(info);
    }
    let depth = request.path.components().count() + 1;
    while let Some(entry) = reader.next_entry()?.filter(|e| e.path.starts_with(&request.path)) {
        if request.recursive || entry.path.components().count() == depth {
            each(&entry)?;
        }
    }
    Ok(info)
}

/// Writes one file's content.
pub fn cat(session: &Session, snapshot: &str, path: &RepoPath, out: &mut dyn Write) -> Result<(), AppError> {
    let (repository, _) = open(session)?;
    let info = choose(session, &repository, snapshot)?;
    let loaded = index(&repository)?;
    let blobs = BlobReader::new(&repository, &loaded.index);
    let entry = ManifestReader::find(&blobs, info.snapshot.manifest, path)?.ok_or_else(|| missing(path))?;
    let what = "is not a regular file";
    let content = entry.content().ok_or(AppError::Path { path: path.to_string(), what })?;
    ops_content::write_to(content, &blobs, out).map_err(|e| match e {
        ops_content::Error::Repo(e) => e.into(),
        ops_content::Error::Output(e) => e.into(),
    })
}

/// Puts a snapshot back.
pub fn restore(
    session: &Session,
    request: &RestoreRequest,
) -> Result<(SnapshotInfo, RestoreOutcome), AppError> {
    let (repository, _) = open(session)?;
    let info = choose(session, &repository, &request.snapshot)?;
    let target = request.target.clone().unwrap_or_else(|| staging(&request.state_dir, &info));
    let request = ops_restore::Request {
        id: info.id,
        snapshot: info.snapshot.clone(),
        target,
        paths: request.paths.clone(),
        dry_run: request.dry_run,
        verify: request.verify,
        owner: request.owner,
        set_id: request.set_id,
        devices: request.devices,
        threads: session.threads,
    };
    let outcome = ops_restore::run(&repository, &request, &session.monitor, &session.clock)?;
    Ok((info, outcome))
}

/// `.exuvia-restore/<snapshot>` beside the state dir.
fn staging(state_dir: &std::path::Path, info: &SnapshotInfo) -> PathBuf {
    state_dir.parent().unwrap_or(state_dir).join(".exuvia-restore").join(info.id.short())
}

/// Checks a repository.
pub fn check(session: &Session, request: &CheckRequest) -> Result<CheckOutcome, AppError> {
    let (repository, _) = open_with_any_key(session)?;
    let mut outcome =
        ops_check::run(&repository, request.read_data, session.threads, &session.monitor, &session.clock)?;
    super::history::add_to(&mut outcome, &repository, session)?;
    Ok(outcome)
}

/// Sizes of a repository.
pub fn stats(session: &Session) -> Result<StatsOutcome, AppError> {
    let (repository, _) = open(session)?;
    let loaded = index(&repository)?;
    let index = &loaded.index;
    let packs = index.packs()?;
    let mut stats = StatsOutcome {
        packs: packs.len() as u64,
        pack_bytes: packs.iter().map(|p| p.size).sum(),
        ..StatsOutcome::default()
    };
    for blob in index.blobs() {
        let (_, place) = blob?;
        stats.blobs += 1;
        stats.unique_bytes += u64::from(place.length);
    }
    for folder in [
        Folder::Keys,
        Folder::Index,
        Folder::Snapshots,
        Folder::Safety,
        Folder::Gc,
        Folder::Accepted,
        Folder::Removed,
    ] {
        stats.other_bytes += repository.list(folder)?.iter().map(|o| o.size).sum::<u64>();
    }
    for entry in Catalog::load(&repository, SnapshotKind::Regular)?.entries() {
        let snapshot = repository.snapshot(entry)?;
        stats.snapshots += 1;
        stats.total_bytes += snapshot.stats.bytes;
        let added = snapshot.stats.bytes_added_stored;
        stats.growth.push((entry.id, snapshot.time, snapshot.stats.bytes, added));
    }
    Ok(stats)
}
