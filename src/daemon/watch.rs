//! Watching the state dir for changes.
//!
//! On Linux every folder needs a watch of its own, of which a user has only so many; folders that no backup takes
//! get none. When there are too few, or the system has nothing to watch with, the tree is looked through from
//! time to time instead: names, sizes and times only. Reading a file is no change, so that our own backups make
//! none; what SQLite does to its shared memory while we read is left out too.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use notify::event::{CreateKind, ModifyKind};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::app::Profile;
use crate::fs::Dir;
use crate::model::RepoPath;

/// Events on their way, at most. When more come at once, all is set up anew.
const QUEUE: usize = 1_024;
/// How often we look whether to go on.
const LOOK: Duration = Duration::from_secs(1);
/// How often the tree is looked through when it cannot be watched, in looks.
const SCAN_EVERY: u32 = 60;
/// Folders above each other, at most: more is a loop that should not be.
const MAX_DEPTH: usize = 256;

/// What the watcher tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Something changed.
    Changed,
    /// Something about the watching itself.
    Trouble(String),
}

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
}

impl Watcher {
    /// Watches `root`, but none of `unwatched`.
    pub(super) fn start(root: &Path, unwatched: &[PathBuf], tell: impl Fn(Notice) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // Paths in events are as the watch was set.
        let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let unwatched = unwatched.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
        let tree = Tree { unwatched: unwatched.collect(), profile: profile(&root), root };
        let ended = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                watch(&tree, &ended, &tell);
            }
        });
        Self { stop }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn profile(root: &Path) -> Profile {
    Dir::open(root).map_or(Profile::of_name(root), |dir| Profile::detect_named(&dir, root))
}

/// What is watched.
struct Tree {
    root: PathBuf,
    unwatched: Vec<PathBuf>,
    profile: Profile,
}

/// Which folder it is, as long as it is there.
type Identity = (u64, u64);

impl Tree {
    fn identity(&self) -> Option<Identity> {
        std::fs::metadata(&self.root).ok().map(|meta| (meta.dev(), meta.ino()))
    }

    /// True for what no snapshot is needed for.
    fn ignores(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.root) else { return true };
        let name = path.file_name().map_or(b"".as_slice(), |name| name.as_bytes());
        let ours = name.starts_with(b".exuvia") || self.unwatched.iter().any(|own| path.starts_with(own));
        if ours || name.ends_with(b"-shm") {
            return true;
        }
        RepoPath::new(below.as_os_str().as_bytes().to_vec()).is_ok_and(|path| self.profile.leaves_out(&path))
    }

    /// Calls `each` for a folder and all below it that are not ignored. The first failure ends it.
    fn folders<E>(&self, folder: &Path, each: &mut impl FnMut(&Path) -> Result<(), E>) -> Result<(), E> {
        self.walk(folder, 0, each)
    }

    fn walk<E>(
        &self,
        folder: &Path,
        depth: usize,
        each: &mut impl FnMut(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        if depth > MAX_DEPTH || (folder != self.root && self.ignores(folder)) {
            return Ok(());
        }
        each(folder)?;
        // What cannot be read cannot be backed up either, which the backup tells.
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(&entry.path(), depth + 1, each)?;
            }
        }
        Ok(())
    }

    /// A number that changes when the tree does.
    fn digest(&self, stop: &AtomicBool) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let mut look = |folder: &Path| {
            let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries.iter().filter(|entry| !self.ignores(&entry.path())) {
                let Ok(meta) = entry.metadata() else { continue };
                hasher.update(entry.path().as_os_str().as_bytes());
                for number in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
                    // The times of a folder tell of files that are ignored, too.
                    hasher.update(&if meta.is_dir() { 0 } else { number }.to_le_bytes());
                }
                hasher.update(&meta.ino().to_le_bytes());
            }
            if stop.load(Ordering::SeqCst) { Err(()) } else { Ok(()) }
        };
        self.folders(&self.root, &mut look).ok().map(|()| hasher.finalize())
    }
}

type Events = Receiver<notify::Result<notify::Event>>;

/// Watches until told to end, or until all has to be set up anew.
fn watch(tree: &Tree, stop: &AtomicBool, tell: &impl Fn(Notice)) {
    // Another folder in its place has none of our watches.
    let identity = tree.identity();
    let (sender, events) = bounded(QUEUE);
    let lost = Arc::new(AtomicBool::new(false));
    let full = Arc::clone(&lost);
    let made = notify::recommended_watcher(move |event| {
        if sender.try_send(event).is_err() {
            full.store(true, Ordering::SeqCst);
        }
    });
    let set_up = made.and_then(|mut watcher| add(tree, &mut watcher, &tree.root).map(|()| watcher));
    match set_up {
        Ok(mut watcher) => {
            // Nobody looked before; what changed meanwhile is told of as one change.
            tell(Notice::Changed);
            listen(tree, &mut watcher, (&events, lost.as_ref(), identity), stop, tell);
        }
        Err(e) if matches!(e.kind, ErrorKind::PathNotFound) || !tree.root.exists() => {
            // It may come back, which is a change.
            while !tree.root.exists() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }
        Err(e) => {
            let why = match e.kind {
                ErrorKind::MaxFilesWatch => {
                    "there are more folders than this user may watch; `sysctl fs.inotify.max_user_watches` raises that"
                        .to_owned()
                }
                _ => e.to_string(),
            };
            tell(Notice::Trouble(format!(
                "changes cannot be watched for, so the state dir is looked through every minute: {why}"
            )));
            tell(Notice::Changed);
            scan(tree, stop, tell);
        }
    }
}

/// Watches a folder and those below it.
fn add(tree: &Tree, watcher: &mut RecommendedWatcher, folder: &Path) -> notify::Result<()> {
    if cfg!(not(target_os = "linux")) {
        return watcher.watch(folder, RecursiveMode::Recursive);
    }
    tree.folders(folder, &mut |folder: &Path| match watcher.watch(folder, RecursiveMode::NonRecursive) {
        // It went as it came.
        Err(e) if matches!(e.kind, ErrorKind::PathNotFound) && folder != tree.root => Ok(()),
        other => other,
    })
}

fn listen(
    tree: &Tree,
    watcher: &mut RecommendedWatcher,
    (events, lost, identity): (&Events, &AtomicBool, Option<Identity>),
    stop: &AtomicBool,
    tell: &impl Fn(Notice),
) {
    while !stop.load(Ordering::SeqCst) {
        let event = match events.recv_timeout(LOOK) {
            Ok(Ok(event)) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return,
        };
        // Its number may have been given out again.
        let gone = |event: &notify::Event| is_end(&event.kind) && event.paths.contains(&tree.root);
        if tree.identity() != identity || event.as_ref().is_some_and(gone) {
            return;
        }
        let Some(event) = event else { continue };
        if event.need_rescan() || lost.load(Ordering::SeqCst) {
            // Some were lost, and folders that are new with them: all is set up anew, which is told as a change.
            return;
        }
        let mut paths = event.paths.iter().filter(|path| !tree.ignores(path));
        if !is_change(&event.kind) || paths.clone().next().is_none() {
            continue;
        }
        let folder = matches!(
            event.kind,
            EventKind::Create(CreateKind::Folder | CreateKind::Any) | EventKind::Modify(ModifyKind::Name(_))
        );
        let added = folder && paths.any(|path| path.is_dir() && add(tree, watcher, path).is_err());
        tell(Notice::Changed);
        if added {
            // Setting all up anew finds out what is wrong.
            return;
        }
    }
}

/// The folder is gone, or has another name.
fn is_end(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(_) | EventKind::Other)
}

/// Looks the tree through from time to time.
fn scan(tree: &Tree, stop: &AtomicBool, tell: &impl Fn(Notice)) {
    let mut last = tree.digest(stop);
    loop {
        for _ in 0..SCAN_EVERY {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let now = tree.digest(stop);
        if now.is_some() && now != last {
            tell(Notice::Changed);
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Does something until it is noticed: a watch that is being set up may miss the first.
    fn noticed(notices: &Receiver<Notice>, mut act: impl FnMut(u32)) {
        for n in 0..100 {
            act(n);
            if notices.recv_timeout(Duration::from_millis(200)).is_ok() {
                while notices.recv_timeout(Duration::from_millis(200)).is_ok() {}
                return;
            }
        }
        panic!("nothing was noticed");
    }

    #[test]
    fn what_changed_before_the_watch_was_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, notices) = bounded(100);
        let _watcher = Watcher::start(dir.path(), &[], move |notice| drop(sender.send(notice)));
        assert_eq!(notices.recv_timeout(Duration::from_secs(60)), Ok(Notice::Changed));
    }

    #[test]
    fn a_state_dir_that_is_made_anew_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        std::fs::create_dir(&root).unwrap();
        let (sender, notices) = bounded(10_000);
        let _watcher = Watcher::start(&root, &[], move |notice| drop(sender.send(notice)));
        noticed(&notices, |n| std::fs::write(root.join("a"), n.to_string()).unwrap());
        std::fs::remove_dir_all(&root).unwrap();
        std::fs::create_dir(&root).unwrap();
        // The first is the change itself, and what follows belongs to the new one.
        for name in ["b", "c"] {
            noticed(&notices, |n| std::fs::write(root.join(name), n.to_string()).unwrap());
        }
        // In a folder of another name the old one goes on.
        std::fs::rename(&root, dir.path().join("old")).unwrap();
        std::fs::create_dir(&root).unwrap();
        for name in ["d", "e"] {
            noticed(&notices, |n| std::fs::write(root.join(name), n.to_string()).unwrap());
        }
    }

    #[test]
    fn changes_are_noticed_and_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (root, own) = (dir.path().join("state"), dir.path().join("state/own"));
        std::fs::create_dir_all(&own).unwrap();
        let (sender, notices) = bounded(10_000);
        let _watcher =
            Watcher::start(&root, std::slice::from_ref(&own), move |notice| drop(sender.send(notice)));
        noticed(&notices, |n| std::fs::write(root.join("a"), n.to_string()).unwrap());
        // In a folder that came later, too.
        noticed(&notices, |_| std::fs::create_dir_all(root.join("b/c")).unwrap());
        noticed(&notices, |n| std::fs::write(root.join("b/c/d"), n.to_string()).unwrap());
        // Ours, SQLite's, and reading; then one that counts, so that nothing is waited for in vain.
        std::fs::write(own.join("x"), b"x").unwrap();
        std::fs::write(root.join("db-shm"), b"x").unwrap();
        std::fs::write(root.join(".exuvia-x"), b"x").unwrap();
        std::fs::read(root.join("a")).unwrap();
        std::fs::read_dir(&root).unwrap().for_each(drop);
        assert!(notices.recv_timeout(Duration::from_millis(500)).is_err());
        noticed(&notices, |_| drop(std::fs::remove_file(root.join("a"))));
    }

    #[test]
    fn a_tree_that_is_looked_through_tells_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let tree = Tree { unwatched: vec![root.join("own")], profile: profile(&root), root: root.clone() };
        let go = AtomicBool::new(false);
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(root.join("own")).unwrap();
        let first = tree.digest(&go);
        assert!(first.is_some());
        std::fs::write(root.join("own/x"), b"x").unwrap();
        std::fs::write(root.join("a/db-shm"), b"x").unwrap();
        assert_eq!(tree.digest(&go), first);
        std::fs::write(root.join("a/b/x"), b"x").unwrap();
        let second = tree.digest(&go);
        assert_ne!(second, first);
        std::fs::remove_file(root.join("a/b/x")).unwrap();
        assert_eq!(tree.digest(&go), first);
        go.store(true, Ordering::SeqCst);
        assert_eq!(tree.digest(&go), None);
    }
}
