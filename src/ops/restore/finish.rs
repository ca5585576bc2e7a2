//! The last steps of a restore: metadata, hard links, links and special files, directories.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::plan::{Plan, PlannedFile};
use super::write::{Dirs, Written};
use super::{Context, Outcome, Request};
use crate::fs::{self, Dir, FileKind, OwnerNames};
use crate::gather::sqlite;
use crate::model::{Capture, Entry, EntryKind, Metadata, RepoPath};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

fn mode_mask(request: &Request) -> u32 {
    if request.set_id { 0o7777 } else { 0o7777 & !SET_ID }
}

/// Puts an open file's or directory's metadata right.
pub(in crate::ops) fn apply(request: &Request, file: impl AsFd, meta: &Metadata) -> io::Result<()> {
    for xattr in &meta.xattrs {
        match fs::set_xattr(file.as_fd(), xattr) {
            // Attributes of the system's own namespaces are not ours to set without privilege, and
            // not every file system has attributes.
            Err(e)
                if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
                    && !xattr.name.starts_with(b"user.") => {}
            other => other?,
        }
    }
    if request.owner {
        let (uid, gid) = OWNERS.with(|names| names.resolve(&meta.owner));
        fs::set_owner(file.as_fd(), uid, gid)?;
    }
    fs::set_mode(file.as_fd(), meta.mode, mode_mask(request))?;
    fs::set_times(file, meta.mtime.into())
}

thread_local! {
    static OWNERS: OwnerNames = OwnerNames::load();
}

/// Moves the companions of a database out of the way of the one that replaces it: SQLite would
/// replay an old log into the new file.
pub(super) fn move_aside(
    context: &Context<'_>,
    plan: &Plan,
    dir: &Dir,
    planned: &PlannedFile,
) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut moved = Vec::new();
    if planned.entry.content().is_none_or(|c| c.capture == Capture::Plain) {
        return Ok(moved);
    }
    let target = &context.request.target;
    let folder = planned.entry.path.parent().unwrap_or_default();
    let full = |name: &[u8]| -> io::Result<PathBuf> {
        let path = folder.join(name).map_err(io::Error::other)?;
        Ok(target.join(path.to_os_path()))
    };
    for suffix in [&b"-wal"[..], b"-shm", b"-journal"] {
        let name = [planned.entry.path.name(), suffix].concat();
        if dir.stat_at(&name).is_err() {
            continue;
        }
        // One that the snapshot has, beside a raw copy, belongs there.
        let path = folder.join(&name).map_err(io::Error::other)?;
        if plan.files.binary_search_by(|f| f.entry.path.cmp(&path)).is_ok()
            || plan.same.iter().any(|entry| entry.path == path)
        {
            continue;
        }
        let id = context.request.id.short();
        for n in 0..1000 {
            let aside = [&name[..], format!(".before-{id}.{n}").as_bytes()].concat();
            match dir.rename_new_at(&name, dir, &aside) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => {
                    other?;
                    moved.push((full(&name)?, full(&aside)?));
                    break;
                }
            }
        }
    }
    Ok(moved)
}

/// Does what comes after the content of files.
pub(super) fn run(
    context: &Context<'_>,
    root: &Arc<Dir>,
    plan: &Plan,
    written: &Written,
    outcome: &mut Outcome,
) {
    let mut dirs = Dirs::new(root);
    for entry in &plan.same {
        let set = dirs.parent_of(&entry.path).and_then(|dir| {
            let file = dir.open_file(entry.path.name())?;
            apply(context.request, &file, &entry.meta)
        });
        report(context, outcome, entry, set);
    }
    for (entry, first) in &plan.links {
        let made = hard_link(plan, written, &mut dirs, entry, first);
        outcome.files_written += u64::from(matches!(made, Ok(true)));
        outcome.files_unchanged += u64::from(matches!(made, Ok(false)));
        report(context, outcome, entry, made.map(drop));
    }
    // After all files: nothing is ever written through a link of the snapshot.
    for entry in &plan.others {
        match special(context.request, &mut dirs, entry) {
            Ok(true) => {}
            Ok(false) => {
                context.monitor.note(Some(&entry.path), "is a device file: left out (see --devices)")
            }
            Err(e) => report(context, outcome, entry, Err(e)),
        }
    }
    // From the deepest up: making entries changes the times of the directory above them.
    for entry in plan.dirs.iter().rev() {
        if entry.path.is_root() && !context.request.paths.is_empty() {
            continue;
        }
        let set = if entry.path.is_root() {
            apply(context.request, root.as_ref(), &entry.meta)
        } else {
            dirs.parent_of(&entry.path)
                .and_then(|dir| dir.open_dir(entry.path.name()))
                .and_then(|dir| apply(context.request, &dir, &entry.meta))
        };
        report(context, outcome, entry, set);
    }
}

fn report(context: &Context<'_>, outcome: &mut Outcome, entry: &Entry, result: io::Result<()>) {
    if let Err(e) = result {
        outcome.fail(context.monitor, &entry.path, format!("cannot be put in place: {e}"));
    }
}

/// Gives a file of this run a further name; false when it has it already.
fn hard_link(
    plan: &Plan,
    written: &Written,
    dirs: &mut Dirs<'_>,
    entry: &Entry,
    first: &RepoPath,
) -> io::Result<bool> {
    let at = plan.files.binary_search_by(|f| f.entry.path.cmp(first));
    let content = match at {
        Ok(at) if written.done[at] => plan.files[at].entry.content(),
        Ok(_) => return Err(io::Error::other("its first name could not be restored")),
        Err(_) => plan.same.iter().find(|e| e.path == *first).and_then(Entry::content),
    };
    if content.is_none() || content != entry.content() {
        return Err(io::Error::other("it is said to be another name of a file with other content"));
    }
    let from = dirs.parent_of(first)?;
    let to = dirs.parent_of(&entry.path)?;
    let (first, name) = (first.name(), entry.path.name());
    match to.stat_at(name) {
        Ok(stat) if stat.identity() == from.stat_at(first)?.identity() => return Ok(false),
        Ok(stat) if stat.kind == FileKind::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => to.unlink(name)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    to.hard_link_at(&from, first, name).map(|()| true)
}

/// Makes a symlink, fifo or device in a directory, under the one name that is its path.
pub(in crate::ops) fn make_special(request: &Request, dir: &Arc<Dir>, entry: &Entry) -> io::Result<()> {
    special(request, &mut Dirs::new(dir), entry).map(drop)
}

/// Makes a symlink, fifo or device; false for a device that was not asked for.
pub(super) fn special(request: &Request, dirs: &mut Dirs<'_>, entry: &Entry) -> io::Result<bool> {
    let dir = dirs.parent_of(&entry.path)?;
    let name = entry.path.name();
    let is_device = matches!(entry.kind, EntryKind::CharDevice(..) | EntryKind::BlockDevice(..));
    if is_device && !request.devices {
        return Ok(false);
    }
    match dir.stat_at(name) {
        Ok(stat) if stat.kind == FileKind::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => dir.unlink(name)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mode = entry.meta.mode & mode_mask(request);
    match &entry.kind {
        EntryKind::Symlink(target) => dir.symlink_at(target, name)?,
        EntryKind::Fifo => dir.mkfifo(name, mode)?,
        EntryKind::CharDevice(major, minor) => {
            dir.mknod(name, FileKind::CharDevice, mode, (*major, *minor))?
        }
        EntryKind::BlockDevice(major, minor) => {
            dir.mknod(name, FileKind::BlockDevice, mode, (*major, *minor))?
        }
        EntryKind::File(_) | EntryKind::Directory => {}
    }
    if request.owner {
        let (uid, gid) = OWNERS.with(|names| names.resolve(&entry.meta.owner));
        fs::set_owner_at(&dir, name, uid, gid)?;
    }
    if !matches!(entry.kind, EntryKind::Symlink(_)) {
        fs::set_mode_at(&dir, name, entry.meta.mode, mode_mask(request))?;
    }
    fs::set_times_at(&dir, name, entry.meta.mtime.into())?;
    Ok(true)
}

/// Opens every restored database and runs SQLite's integrity check.
pub(super) fn check_databases(context: &Context<'_>, plan: &Plan, written: &Written, outcome: &mut Outcome) {
    let files = plan.files.iter().zip(&written.done).filter(|(_, done)| **done).map(|(f, _)| &f.entry);
    for entry in files.chain(&plan.same) {
        if !entry.content().is_some_and(|c| matches!(c.capture, Capture::Sqlite { .. })) {
            continue;
        }
        let path = context.request.target.join(entry.path.to_os_path());
        match sqlite::verify_file(&path, true) {
            Ok(Ok(())) => outcome.databases_checked += 1,
            Ok(Err(message)) => {
                outcome.fail(context.monitor, &entry.path, format!("SQLite finds it damaged: {message}"));
            }
            Err(e) => outcome.fail(context.monitor, &entry.path, format!("cannot be checked: {e}")),
        }
    }
}
