//! `diff`: two snapshots, or a snapshot and the live directory, side by side.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::requests::{Session, SnapshotInfo};
use super::rollback::Chooser;
use super::run::{choose, index, open};
use super::sources::tell;
use super::{AppError, Selection};
use crate::model::SnapshotKind;
use crate::ops::{backup as ops_backup, diff as ops_diff};
use crate::repo::{BlobReader, Catalog, PackerOptions, Repository};

/// Compares two trees.
pub struct DiffRequest {
    /// The old snapshot, as the user spells it.
    pub old: String,
    /// The new one; `None` for the live directory.
    pub new: Option<String>,
    /// The live directory; `None` for the one that the snapshot was taken of.
    pub root: Option<PathBuf>,
    /// Where the live directory is when the one that the snapshot was taken of is not on this machine.
    pub state_dir: Option<PathBuf>,
    /// What to look at.
    pub options: ops_diff::Request,
}

/// What was compared, and counts of what differs.
pub struct DiffOutcome {
    /// The old snapshot.
    pub old: SnapshotInfo,
    /// The new one.
    pub new: Option<SnapshotInfo>,
    /// The live directory that the old one was compared with.
    pub live: Option<PathBuf>,
    /// Counts.
    pub summary: ops_diff::Summary,
}

/// Calls `each` for every path that differs.
pub fn diff(
    session: &Session,
    request: &DiffRequest,
    each: &mut ops_diff::Each<'_>,
) -> Result<DiffOutcome, AppError> {
    let (repository, _) = open(session)?;
    let old = old(session, &repository, request)?;
    let new = request.new.as_ref().map(|word| choose(session, &repository, word)).transpose()?;
    let loaded = index(&repository)?;
    let blobs = BlobReader::new(&repository, &loaded.index);
    let from = old.snapshot.manifest;
    if let Some(new) = new {
        let to = new.snapshot.manifest;
        let summary = ops_diff::snapshots(&blobs, from, to, &request.options, &session.monitor, each)?;
        return Ok(DiffOutcome { old, new: Some(new), live: None, summary });
    }
    let (root, paths) = live(&old, request)?;
    let selection = Selection::from_words(&old.snapshot.selection).map_err(|word| {
        let what = "this version does not know what the snapshot says of its selection";
        AppError::Path { path: word.to_owned(), what }
    })?;
    let look = ops_backup::Request {
        paths,
        selection,
        dry_run: true,
        ..ops_backup::Request::new(root.clone(), PackerOptions::new(session.threads))
    };
    let catalog = Catalog::load(&repository, SnapshotKind::Regular)?;
    let (monitor, clock) = (&session.monitor, &session.clock);
    let summary = ops_diff::live(&blobs, from, (&look, &catalog), &request.options, (monitor, clock), each)?;
    Ok(DiffOutcome { old, new: None, live: Some(root), summary })
}

/// The old side. Compared with the live directory, `latest` and times mean snapshots of that, as they do for
/// a rollback; where there is none, of any.
fn old(session: &Session, repository: &Repository, request: &DiffRequest) -> Result<SnapshotInfo, AppError> {
    let here = request.root.as_ref().or(request.state_dir.as_ref());
    let here = here.filter(|_| request.new.is_none()).and_then(|dir| dir.canonicalize().ok());
    let Some(root) = here else { return choose(session, repository, &request.old) };
    let catalog = Catalog::load(repository, SnapshotKind::Regular)?;
    let chooser = Chooser { session, repository, root: &root };
    match chooser.choose(&catalog, &request.old, false) {
        Ok(info) => {
            tell(session, repository, &catalog, &request.old, &info);
            Ok(info)
        }
        Err(AppError::NotHere { .. } | AppError::Select(_)) => choose(session, repository, &request.old),
        Err(error) => Err(error),
    }
}

/// The live directory, and what of it the snapshot holds.
fn live(old: &SnapshotInfo, request: &DiffRequest) -> Result<(PathBuf, Vec<PathBuf>), AppError> {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let taken = path(&old.snapshot.root);
    let root = match (&request.root, &request.state_dir) {
        (Some(root), _) => root.clone(),
        (None, Some(state_dir)) if !taken.is_dir() => state_dir.clone(),
        (None, _) => taken.clone(),
    };
    let paths: Vec<_> = old.snapshot.paths.iter().map(|bytes| path(bytes)).collect();
    if paths == [taken.clone()] {
        return Ok((root, Vec::new()));
    }
    // Named as they were, so that what the cache knows of them is found.
    if same(&root, &taken) {
        return Ok((taken, paths));
    }
    let moved = |path: PathBuf| match path.strip_prefix(&taken) {
        Ok(inside) => Ok(root.join(inside)),
        Err(_) => {
            let what =
                "was reached through a link when the snapshot was taken; compare two snapshots instead";
            Err(AppError::Path { path: path.display().to_string(), what })
        }
    };
    let paths = paths.into_iter().map(moved).collect::<Result<_, _>>()?;
    Ok((root, paths))
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}
