//! What reaches the disk, and when: tests let a directory be watched, and learn of every name that is made,
//! moved, removed or synced in it, in order. Exists in tests only.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Something that was done below a watched directory.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A file was made.
    File(PathBuf),
    /// A directory was made.
    Folder(PathBuf),
    /// A file's content is on stable storage: this one.
    Synced(PathBuf, Arc<[u8]>),
    /// The names in a directory are.
    SyncedFolder(PathBuf),
    /// A name was moved.
    Renamed(PathBuf, PathBuf),
    /// A name was removed.
    Removed(PathBuf),
}

impl Event {
    fn path(&self) -> &Path {
        match self {
            Self::File(path)
            | Self::Folder(path)
            | Self::Synced(path, _)
            | Self::SyncedFolder(path)
            | Self::Renamed(path, _)
            | Self::Removed(path) => path,
        }
    }
}

/// Directories under watch, and what was seen below each.
static WATCHED: Mutex<Vec<(PathBuf, Vec<Event>)>> = Mutex::new(Vec::new());

fn watched() -> MutexGuard<'static, Vec<(PathBuf, Vec<Event>)>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on everything below `path`, which is canonical, is noted.
pub(crate) fn watch(path: &Path) {
    watched().push((path.to_path_buf(), Vec::new()));
}

/// What was seen so far below a watched path.
pub(crate) fn seen(path: &Path) -> Vec<Event> {
    watched().iter().find(|(root, _)| root == path).map(|(_, events)| events.clone()).unwrap_or_default()
}

/// Nobody watches it any more.
pub(crate) fn unwatch(path: &Path) {
    watched().retain(|(root, _)| root != path);
}

/// Notes an event; `None` where its path cannot be told, or it did not happen.
pub(super) fn saw(event: impl FnOnce() -> Option<Event>) {
    let mut watched = watched();
    if watched.is_empty() {
        return;
    }
    let Some(event) = event() else { return };
    for (root, events) in watched.iter_mut() {
        if event.path().starts_with(root) {
            events.push(event.clone());
        }
    }
}

/// The path of an open file or directory.
pub(super) fn path_of(fd: impl AsFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).ok()
}

/// A name in an open directory.
pub(super) fn path_in(dir: impl AsFd, name: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(path_of(dir)?.join(std::ffi::OsStr::from_bytes(name)))
}
