//! Whether a plan can be carried out to its end: asked before anything is changed, since what stops half-way
//! leaves a mixture.

use std::collections::HashSet;
use std::io;

use super::database;
use super::plan::{Plan, Step};
use super::{Error, Request};
use crate::fs::{Dir, FileKind};
use crate::model::RepoPath;
use crate::ops::compare::Change;

/// Refuses a plan with a step that cannot be made.
pub(super) fn check(root: &Dir, request: &Request, plan: &Plan) -> Result<(), Error> {
    for path in &request.scope {
        ancestors_are_directories(root, path)?;
    }
    let clears = plan.steps.iter().filter(|step| step.clears()).map(|step| &step.path).collect();
    for step in &plan.steps {
        let Some(have) = &step.have else { continue };
        if step.clears() || replaces(step) {
            no_mount_point(root, step)?;
        }
        let makes_room = step.want.as_ref().is_some_and(|want| !want.is_dir());
        if have.is_dir() && makes_room {
            empties(root, &step.path, &clears)?;
        }
    }
    Ok(())
}

/// True where what is there is replaced by a rename.
fn replaces(step: &Step) -> bool {
    step.writes_content()
        || step.change != Change::Metadata && step.want.as_ref().is_some_and(|w| !w.is_dir())
}

fn blocked(path: &RepoPath, what: &'static str) -> Error {
    Error::Blocked { path: path.clone(), what }
}

/// A path that was asked for is reached through directories, or its parents are missing and are made.
fn ancestors_are_directories(root: &Dir, path: &RepoPath) -> Result<(), Error> {
    let mut at = path.parent();
    while let Some(above) = at.filter(|above| !above.is_root()) {
        let parent = root.open_path(&above.parent().unwrap_or_default());
        if let Ok(stat) = parent.and_then(|parent| parent.stat_at(above.name()))
            && stat.kind != FileKind::Directory
        {
            return Err(blocked(&above, "is no directory today; roll that path back too"));
        }
        at = above.parent();
    }
    Ok(())
}

/// What something is mounted on cannot be replaced or removed.
fn no_mount_point(root: &Dir, step: &Step) -> Result<(), Error> {
    let parent = root.open_path(&step.path.parent().unwrap_or_default());
    match parent.and_then(|parent| parent.is_mount_point(step.path.name())) {
        Ok(true) => Err(blocked(&step.path, "is a mount point, and would have to go")),
        // What is gone meanwhile is in nobody's way.
        Ok(false) | Err(_) => Ok(()),
    }
}

/// A directory that has to make room for something else holds nothing that stays.
fn empties(root: &Dir, path: &RepoPath, clears: &HashSet<&RepoPath>) -> Result<(), Error> {
    let list = || -> io::Result<Vec<(RepoPath, bool)>> {
        let dir = root.open_path(path)?;
        let names = dir.list()?.into_iter();
        let entry = |name: Vec<u8>| {
            let is_dir = dir.stat_at(&name)?.kind == FileKind::Directory;
            Ok((path.join(&name).map_err(io::Error::other)?, is_dir))
        };
        names.map(entry).collect()
    };
    // One that is gone, or cannot be read, is told of when its turn comes.
    for (below, is_dir) in list().unwrap_or_default() {
        let goes = clears.contains(&below) || clears.iter().any(|path| database::is_companion(&below, path));
        if !goes {
            return Err(blocked(
                &below,
                "stays, and is where the snapshot has something that is no directory",
            ));
        }
        if is_dir {
            empties(root, &below, clears)?;
        }
    }
    Ok(())
}
