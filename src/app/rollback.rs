//! `rollback` and `undo`: choose the snapshot, show the plan, and apply it when the user agrees.

use std::path::{Path, PathBuf};

use super::requests::{Session, SnapshotInfo};
use super::{AppError, run};
use crate::fs;
use crate::gather::{Profile, running_gateway};
use crate::model::{ObjectId, RepoPath, SnapshotKind};
use crate::ops::rollback::{self as ops, Error, Journal};
use crate::ops::select;
use crate::remote::Counting;
use crate::repo::{Catalog, CatalogEntry, ManifestReader, PackerOptions, Repository, SharedIndex};

/// Where to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackTo {
    /// `SNAP` as the user spells it.
    Snapshot(String),
    /// The newest snapshot at or before a time.
    At(String),
    /// The newest safety snapshot.
    Undo,
    /// What an interrupted rollback was on its way to.
    Continue,
    /// What was there before an interrupted rollback.
    Abort,
}

/// Rolls back.
pub struct RollbackRequest {
    /// The state dir.
    pub state_dir: PathBuf,
    /// Where to.
    pub to: RollbackTo,
    /// Only these paths; all when empty.
    pub paths: Vec<RepoPath>,
    /// What the snapshot does not have stays.
    pub keep_extra: bool,
    /// Show the plan only: [`rollback`] asks nobody whether the application runs.
    pub dry_run: bool,
    /// Go on although the application runs.
    pub live: bool,
    /// Restore owner and group.
    pub owner: bool,
    /// Make device files.
    pub devices: bool,
}

/// What a rollback found and did.
pub struct RollbackOutcome {
    /// The snapshot gone back to.
    pub info: SnapshotInfo,
    /// The plan as it was shown.
    pub plan: ops::Plan,
    /// What was done; `None` when nothing differed, or the user did not agree.
    pub done: Option<ops::Outcome>,
    /// The state dir belongs to an application whose own state went back in time too.
    pub profile: Profile,
}

/// The note of an unfinished rollback of a state dir, if there is one.
pub fn unfinished_rollback(state_dir: &Path) -> Result<Option<Journal>, AppError> {
    Ok(ops::unfinished(state_dir)?)
}

/// What the user's word for the snapshot means here.
pub(super) struct Chooser<'a> {
    pub(super) session: &'a Session,
    pub(super) repository: &'a Repository,
    pub(super) root: &'a Path,
}

impl Chooser<'_> {
    fn info(&self, entry: &CatalogEntry) -> Result<SnapshotInfo, AppError> {
        Ok(SnapshotInfo { id: entry.id, snapshot: self.repository.snapshot(entry)? })
    }

    fn is_here(&self, info: &SnapshotInfo) -> bool {
        use std::os::unix::ffi::OsStrExt;
        info.snapshot.root == self.root.as_os_str().as_bytes()
    }

    /// The first of these that is of this state dir. One whose record cannot be read is passed over.
    fn first_here<'e>(
        &self,
        entries: impl Iterator<Item = &'e CatalogEntry>,
        skip: usize,
        fits: impl Fn(&SnapshotInfo) -> bool,
    ) -> Option<SnapshotInfo> {
        let read = entries.filter_map(|entry| match self.info(entry) {
            Ok(info) => Some(info),
            Err(error) => {
                self.session.monitor.warning(None, &format!("{error}; looking for another snapshot"));
                None
            }
        });
        // A container's host has another name each time; but where machines share a repository, each has its
        // own state dir at the same path.
        let host = fs::hostname();
        let (mut own, mut elsewhere) = (0, None);
        let mut others = 0;
        for info in read.filter(|info| self.is_here(info) && fits(info)) {
            if info.snapshot.host == host {
                if own == skip {
                    return Some(info);
                }
                own += 1;
            } else if others == skip && elsewhere.is_none() {
                elsewhere = Some(info);
            } else {
                others += 1;
            }
        }
        // Of this host there are too few; of none, those of others will do.
        elsewhere.filter(|_| own == 0)
    }

    fn none_here(&self) -> AppError {
        AppError::NotHere { path: self.root.to_path_buf() }
    }

    /// `latest`, `latest~N` and times mean snapshots of this state dir; an id means what it names.
    pub(super) fn choose(
        &self,
        catalog: &Catalog,
        word: &str,
        is_time: bool,
    ) -> Result<SnapshotInfo, AppError> {
        let entries = catalog.entries();
        let latest = word.strip_prefix("latest").filter(|_| !is_time);
        let back = latest.and_then(|rest| match rest.strip_prefix('~') {
            Some(n) => n.parse().ok(),
            None => rest.is_empty().then_some(0),
        });
        if let Some(back) = back
            && !entries.is_empty()
        {
            return self.first_here(entries.iter().rev(), back, |_| true).ok_or_else(|| self.none_here());
        }
        let now = run::zoned(self.session.clock.as_ref());
        let time_of = run::time_of(self.repository);
        let chosen = match is_time {
            true => select::at(catalog, word, &now, &time_of)?,
            false => match select::choose(catalog, word, &now, &time_of) {
                Ok(entry) if entry.id.to_string().starts_with(word) => return self.info(entry),
                Ok(entry) => entry,
                // A safety snapshot may be named by its id.
                Err(_) => return run::choose(self.session, self.repository, word),
            },
        };
        let upto = entries.iter().position(|entry| entry.id == chosen.id).map_or(0, |at| at + 1);
        self.first_here(entries[..upto].iter().rev(), 0, |_| true).ok_or_else(|| self.none_here())
    }

    fn safety(&self, fits: impl Fn(&SnapshotInfo) -> bool) -> Result<Option<SnapshotInfo>, AppError> {
        let catalog = Catalog::load(self.repository, SnapshotKind::Safety)?;
        Ok(self.first_here(catalog.entries().iter().rev(), 0, fits))
    }

    fn by_id(&self, regular: &Catalog, id: ObjectId) -> Result<SnapshotInfo, AppError> {
        let safety = Catalog::load(self.repository, SnapshotKind::Safety)?;
        let entry = regular.entries().iter().chain(safety.entries()).find(|entry| entry.id == id);
        let gone = || AppError::Select(select::Error::NoMatch(id.to_string()));
        self.info(entry.ok_or_else(gone)?)
    }
}

/// Rolls back, if `agrees` says so of the plan.
pub fn rollback(
    session: &Session,
    request: &RollbackRequest,
    agrees: &mut dyn FnMut(&SnapshotInfo, &ops::Plan) -> Result<bool, AppError>,
) -> Result<RollbackOutcome, AppError> {
    let path = request.state_dir.clone();
    let root = request.state_dir.canonicalize().map_err(|source| Error::Root { path, source })?;
    let journal = ops::unfinished(&root)?;
    let resuming = matches!(request.to, RollbackTo::Continue | RollbackTo::Abort);
    match &journal {
        Some(journal) if !resuming => return Err(Error::Unfinished { target: journal.target }.into()),
        None if resuming => return Err(Error::NothingUnfinished { path: root }.into()),
        _ => {}
    }
    let (handle, counting) = run::counted(session);
    let (repository, catalog) = Repository::open_for_backup(handle, &session.passphrase, session.caches())?;
    run::tell_cache_troubles(session, &repository);
    repository.require_owner()?;
    let chooser = Chooser { session, repository: &repository, root: &root };
    let info = match (&request.to, &journal) {
        (RollbackTo::Continue, Some(journal)) => chooser.by_id(&catalog, journal.target)?,
        (RollbackTo::Abort, Some(journal)) => chooser.by_id(&catalog, journal.safety)?,
        (RollbackTo::Snapshot(word), _) => chooser.choose(&catalog, word, false)?,
        (RollbackTo::At(word), _) => chooser.choose(&catalog, word, true)?,
        _ => chooser
            .safety(|info| ops::is_whole(&info.snapshot))?
            .ok_or_else(|| AppError::NothingToUndo { path: root.clone() })?,
    };
    let scope = scope(request, journal.as_ref(), &info)?;
    let profile = match info.snapshot.selection.iter().any(|word| word == "profile=openclaw") {
        true => Profile::OpenClaw,
        false => Profile::None,
    };
    let dry_run = request.dry_run;
    let (journal_owner, journal_devices) =
        journal.as_ref().map_or((false, false), |journal| (journal.owner, journal.devices));
    let request = ops::Request {
        target: info.id,
        snapshot: info.snapshot.clone(),
        scope,
        keep_extra: match (&request.to, &journal) {
            (RollbackTo::Continue, Some(journal)) => journal.keep_extra,
            _ => request.keep_extra,
        },
        resumes: journal,
        // For root, who else would take every file away from its owner.
        owner: journal_owner || request.owner || fs::is_privileged(),
        devices: journal_devices || request.devices,
        packer: PackerOptions { uploads: run::uploads(&repository), ..PackerOptions::new(session.threads) },
        live: request.live,
        root,
    };
    if !dry_run
        && !request.live
        && profile == Profile::OpenClaw
        && let Some(pid) = running_gateway(&request.root)
    {
        return Err(Error::Running { program: "the OpenClaw gateway", pid }.into());
    }
    carry_out(session, &repository, &catalog, &counting, request, info, profile, agrees)
}

#[allow(clippy::too_many_arguments)] // all that the choice found out
fn carry_out(
    session: &Session,
    repository: &Repository,
    catalog: &Catalog,
    counting: &Counting,
    request: ops::Request,
    info: SnapshotInfo,
    profile: Profile,
    agrees: &mut dyn FnMut(&SnapshotInfo, &ops::Plan) -> Result<bool, AppError>,
) -> Result<RollbackOutcome, AppError> {
    let (monitor, clock) = (&session.monitor, &session.clock);
    exist(repository, &request)?;
    let plan = ops::plan(repository, catalog, &request, monitor, clock)?;
    let nothing = plan.is_empty() && request.resumes.is_none();
    if nothing || !agrees(&info, &plan)? {
        return Ok(RollbackOutcome { info, plan, done: None, profile });
    }
    let done = ops::run(repository, catalog, counting, &request, &plan, monitor, clock)?;
    Ok(RollbackOutcome { info, plan, done: Some(done), profile })
}

/// The paths that are rolled back: those asked for, or those that the snapshot was limited to.
fn scope(
    request: &RollbackRequest,
    journal: Option<&Journal>,
    info: &SnapshotInfo,
) -> Result<Vec<RepoPath>, AppError> {
    if let Some(journal) = journal {
        return Ok(journal.scope.clone());
    }
    let snapshot = &info.snapshot;
    let inside = |path: &Vec<u8>| -> Option<RepoPath> {
        let rest = path.strip_prefix(snapshot.root.as_slice())?;
        RepoPath::new(rest.strip_prefix(b"/").unwrap_or(rest).to_vec()).ok()
    };
    let limits: Vec<RepoPath> = match request.to {
        RollbackTo::Undo => ops::scope_of(snapshot),
        _ => snapshot.paths.iter().filter_map(inside).collect(),
    };
    let whole = limits.is_empty() || limits.iter().any(RepoPath::is_root);
    if request.paths.is_empty() {
        return Ok(if whole { Vec::new() } else { limits });
    }
    let outside = request.paths.iter().find(|path| !whole && !limits.iter().any(|l| path.starts_with(l)));
    match outside {
        Some(path) => {
            Err(AppError::Path { path: path.to_string(), what: "the snapshot was taken of other paths only" })
        }
        // All of it is all of it, however it is spelled.
        None if request.paths.iter().any(RepoPath::is_root) => Ok(Vec::new()),
        None => Ok(request.paths.clone()),
    }
}

/// Refuses a path that is neither in the snapshot nor in the state dir: a slip of the pen.
fn exist(repository: &Repository, request: &ops::Request) -> Result<(), AppError> {
    if request.scope.is_empty() {
        return Ok(());
    }
    let loaded = SharedIndex::new(repository).get()?;
    let blobs = crate::repo::BlobReader::new(repository, &loaded.index);
    for path in &request.scope {
        let there = request.root.join(path.to_os_path()).symlink_metadata().is_ok();
        if !there && ManifestReader::find(&blobs, request.snapshot.manifest, path)?.is_none() {
            return Err(Error::NoSuchPath(path.to_string()).into());
        }
    }
    Ok(())
}
