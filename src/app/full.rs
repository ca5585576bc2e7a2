//! Full archives.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::run::{choose, counted, open, open_with_any_key, tell_cache_troubles, uploads, zoned};
use super::{AppError, Location, Session, SnapshotInfo};
use crate::crypto::Passphrase;
use crate::fs::{Dir, Lock};
use crate::full::ArchiveForm;
use crate::model::{Policy, RepoPath};
use crate::ops::backup::Selection;
use crate::ops::full::{
    self, Archives, CreateRequest, Created, ExportRequest, Exported, ImportRequest, Listed, Passed, Place,
    Plan, RestoreRequest, Restored, Target, Verified, VerifyRequest,
};
use crate::ops::rollback as ops_rollback;
use crate::remote::{Counting, Local, Rclone, Remote};
use crate::repo::{PackerOptions, Repository};

/// Makes an archive of a live directory.
pub struct FullCreateRequest {
    /// The directory.
    pub root: PathBuf,
    /// What of it.
    pub selection: Selection,
    /// Labels.
    pub tags: Vec<String>,
    /// How its bytes are made.
    pub form: ArchiveForm,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
}

/// Where archives are read from.
#[derive(Clone, Copy)]
pub enum FullFrom<'a> {
    /// Those of the session's repository.
    Repository,
    /// A folder that other programs write archives to. The session's repository is not opened.
    Elsewhere(&'a Location),
}

/// Puts an archive into a folder.
pub struct FullRestoreRequest {
    /// `latest`, a name, or the beginning of one.
    pub name: String,
    /// A new folder; `None` for one in `.exuvia-restore` beside `state_dir`.
    pub target: Option<PathBuf>,
    /// For that folder's place.
    pub state_dir: PathBuf,
    /// Only these paths; all when empty.
    pub paths: Vec<RepoPath>,
    /// One without a mark too.
    pub partial: bool,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
}

/// Reads an archive to its end.
pub struct FullVerifyRequest {
    /// `latest`, a name, or the beginning of one.
    pub name: String,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// The folder in which a scratch folder is made; the one that holds the state dir when `None`.
    pub scratch: Option<PathBuf>,
    /// The state dir.
    pub state_dir: PathBuf,
}

/// Makes snapshots of archives.
pub struct FullImportRequest {
    /// Names, or beginnings of names; all that are whole when empty.
    pub names: Vec<String>,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// The folder in which a scratch folder is made; the one that holds the state dir when `None`.
    pub scratch: Option<PathBuf>,
    /// The state dir.
    pub state_dir: PathBuf,
}

/// Makes an archive of a snapshot.
pub struct FullExportRequest<'a> {
    /// `SNAP` as the user spells it.
    pub snapshot: String,
    /// How its bytes are made.
    pub form: ArchiveForm,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// Where it goes.
    pub target: FullTarget<'a>,
}

/// Where an exported archive goes.
pub enum FullTarget<'a> {
    /// Among the archives of the repository.
    Repository,
    /// A new file.
    File(PathBuf),
    /// Whoever reads.
    Writer(&'a mut dyn Write),
}

/// Archives that can be removed.
pub struct FullPrunePlan {
    repository: Repository,
    plan: Plan,
}

impl FullPrunePlan {
    /// What would be removed, and what would be kept.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Removes it; returns how many stored bytes that frees.
    pub fn run(&self, session: &Session) -> Result<u64, AppError> {
        Ok(full::remove(&self.repository, &self.plan, session.monitor.as_ref())?)
    }
}

/// The folder of a location as a folder of the remote above it: a remote lists folders.
fn elsewhere(session: &Session, location: &Location) -> Result<Place, AppError> {
    let no_folder = || full::Error::NoFolder(location.to_string());
    let (remote, folder): (Arc<dyn Remote>, String) = match location {
        Location::Local(path) => {
            let folder = path.file_name().and_then(OsStr::to_str).ok_or_else(no_folder)?;
            let above = path.parent().unwrap_or(Path::new("/")).to_path_buf();
            (Arc::new(Local::new(above)), folder.to_string())
        }
        Location::Rclone(target) => {
            let (above, folder) = target.above().ok_or_else(no_folder)?;
            let (monitor, clock) = (Arc::clone(&session.monitor), Arc::clone(&session.clock));
            (Arc::new(Rclone::new(above, monitor, clock)), folder)
        }
    };
    Ok(Place::foreign(remote, folder))
}

fn place(session: &Session, from: FullFrom<'_>) -> Result<(Place, Option<Repository>), AppError> {
    match from {
        FullFrom::Elsewhere(location) => Ok((elsewhere(session, location)?, None)),
        FullFrom::Repository => {
            let (repository, _) = open_with_any_key(session)?;
            Ok((Place::of(&repository), Some(repository)))
        }
    }
}

/// Streams a live directory into an archive. A writer key can do that.
pub fn full_create(session: &Session, request: &FullCreateRequest) -> Result<Created, AppError> {
    let (repository, counting) = open_with_any_key(session)?;
    // Together with backups, but not with a rollback.
    let root = Dir::open(&request.root).ok();
    if root.as_ref().is_some_and(|dir| matches!(dir.share(), Ok(Lock::Elsewhere))) {
        return Err(ops_rollback::Error::Busy { path: request.root.clone() }.into());
    }
    let mut tags = request.tags.clone();
    if ops_rollback::unfinished(&request.root)?.is_some() {
        tags.push("interrupted-rollback".to_string());
    }
    let request = CreateRequest {
        root: request.root.clone(),
        selection: request.selection.clone(),
        tags,
        form: request.form,
        passphrase: request.passphrase.clone(),
        threads: session.threads,
    };
    Ok(full::create(&repository, &counting, &request, &session.monitor, &session.clock)?)
}

/// Lists archives, oldest first.
pub fn full_list(session: &Session, from: FullFrom<'_>) -> Result<Vec<Listed>, AppError> {
    let (place, _) = place(session, from)?;
    Ok(Archives::load(&place)?.archives)
}

/// Puts an archive into a folder.
pub fn full_restore(
    session: &Session,
    from: FullFrom<'_>,
    request: &FullRestoreRequest,
) -> Result<Restored, AppError> {
    let (place, repository) = place(session, from)?;
    let archives = Archives::load(&place)?;
    let listed = archives.choose(&request.name, &place)?;
    let target = match &request.target {
        Some(target) => target.clone(),
        None => staging(&request.state_dir, &listed.name.to_string()),
    };
    let request = RestoreRequest {
        target,
        paths: request.paths.clone(),
        partial: request.partial,
        passphrase: request.passphrase.clone(),
        forbidden: repository.map(|repository| repository.own_directories()).unwrap_or_default(),
    };
    Ok(full::restore(&place, listed, &request, &session.monitor, &session.clock)?)
}

/// A folder that is not there yet, named after an archive.
fn staging(state_dir: &Path, name: &str) -> PathBuf {
    let folder = state_dir.parent().unwrap_or(state_dir).join(".exuvia-restore");
    let names = std::iter::once(name.to_string()).chain((2..).map(|n| format!("{name}-{n}")));
    let mut paths = names.map(|name| folder.join(name));
    paths.find(|path| path.symlink_metadata().is_err()).unwrap_or(folder)
}

fn beside(state_dir: &Path) -> PathBuf {
    state_dir.parent().unwrap_or(Path::new("/")).to_path_buf()
}

/// Reads an archive to its end, and looks at the databases in it.
pub fn full_verify(
    session: &Session,
    from: FullFrom<'_>,
    request: &FullVerifyRequest,
) -> Result<Verified, AppError> {
    let (place, _repository) = place(session, from)?;
    let archives = Archives::load(&place)?;
    let listed = archives.choose(&request.name, &place)?;
    let request = VerifyRequest {
        passphrase: request.passphrase.clone(),
        scratch: request.scratch.clone().unwrap_or_else(|| beside(&request.state_dir)),
        state_dir: request.state_dir.clone(),
    };
    Ok(full::verify(&place, listed, &request, &session.monitor, &session.clock)?)
}

/// Judges the archives of a repository by a policy.
pub fn full_prune(session: &Session, policy: &Policy) -> Result<FullPrunePlan, AppError> {
    let (repository, _) = open(session)?;
    let plan = full::plan(&repository, policy, &zoned(session.clock.as_ref()))?;
    Ok(FullPrunePlan { repository, plan })
}

/// The same at once, as what follows a new archive; `None` without an owner key, which alone can read marks.
pub fn full_prune_after(session: &Session, policy: &Policy) -> Result<Option<u64>, AppError> {
    let (repository, _) = open(session)?;
    if repository.require_owner().is_err() {
        return Ok(None);
    }
    let plan = full::plan(&repository, policy, &zoned(session.clock.as_ref()))?;
    Ok(Some(full::remove(&repository, &plan, session.monitor.as_ref())?))
}

/// Makes snapshots of archives.
pub fn full_import(
    session: &Session,
    from: FullFrom<'_>,
    request: &FullImportRequest,
) -> Result<Passed, AppError> {
    let (handle, counting) = counted(session);
    let repository = Repository::open(handle, &session.passphrase, session.caches())?;
    tell_cache_troubles(session, &repository);
    repository.require_owner()?;
    let place = match from {
        FullFrom::Repository => Place::of(&repository),
        FullFrom::Elsewhere(location) => elsewhere(session, location)?,
    };
    let archives = Archives::load(&place)?;
    let mut chosen: Vec<Listed> = Vec::new();
    for name in &request.names {
        let listed = archives.choose(name, &place)?;
        if !chosen.iter().any(|known| known.name == listed.name) {
            chosen.push(listed.clone());
        }
    }
    if request.names.is_empty() {
        chosen = archives.archives.iter().filter(|listed| listed.state.is_whole()).cloned().collect();
    }
    chosen.sort_by_key(|listed| listed.name);
    import(session, &repository, &counting, &place, chosen, request)
}

fn import(
    session: &Session,
    repository: &Repository,
    counting: &Counting,
    place: &Place,
    archives: Vec<Listed>,
    request: &FullImportRequest,
) -> Result<Passed, AppError> {
    let packer = PackerOptions { uploads: uploads(repository), ..PackerOptions::new(session.threads) };
    let request = ImportRequest {
        archives,
        passphrase: request.passphrase.clone(),
        scratch: request.scratch.clone().unwrap_or_else(|| beside(&request.state_dir)),
        state_dir: request.state_dir.clone(),
        packer,
    };
    let (monitor, clock) = (&session.monitor, &session.clock);
    Ok(full::import(repository, counting, place, &request, monitor, clock)?)
}

/// Makes an archive of a snapshot.
pub fn full_export(
    session: &Session,
    request: FullExportRequest<'_>,
) -> Result<(SnapshotInfo, Exported), AppError> {
    let (repository, _) = open(session)?;
    let info = choose(session, &repository, &request.snapshot)?;
    let target = match request.target {
        FullTarget::Repository => Target::Repository,
        FullTarget::File(path) => Target::File(path),
        FullTarget::Writer(out) => Target::Writer(out),
    };
    let request = ExportRequest {
        snapshot: info.snapshot.clone(),
        form: request.form,
        passphrase: request.passphrase,
        threads: session.threads,
    };
    let exported = full::export(&repository, &request, target, &session.monitor, &session.clock)?;
    Ok((info, exported))
}
