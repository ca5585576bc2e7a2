//! The state dir while it is held: what is in it, and how a tree gets into its place.

use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::marker::{FOLDER, MAX_CLOSED, Marker, Stage};
use super::{Error, Reason};
use crate::fs::{self, Dir, FileKind, Lock, Stat, TempFile};
use crate::gather::Profile;
use crate::gather::openclaw::Sign;
use crate::model::{RepoPath, Timestamp};
use crate::report::Monitor;

/// The tree while it is being written, in our folder: the state dir itself may be a mount point, and only
/// what is on its file system can be renamed into it.
const TREE: &str = "tree";
/// A file system's own, in each of its roots.
const LOST: &[u8] = b"lost+found";
/// Comes last into its place, so that an application that looks for it finds everything else too.
const CONFIG: &[u8] = b"openclaw.json";
/// The directory may go and come back between being opened and being locked; not for ever.
const ATTEMPTS: u32 = 100;

/// An open state dir whose lock is ours.
#[derive(Debug)]
pub struct Site {
    path: PathBuf,
    dir: Dir,
    /// Directories that were made for it: itself and so many above it.
    made: usize,
}

/// What there is to do with a state dir.
pub(super) enum Finding {
    /// A person's, or an application's that has been working.
    InUse(Sign),
    /// An earlier run has had the last word.
    Decided(Marker),
    /// An earlier run was cut off while it put things into place.
    HalfPlaced(Marker),
    /// To be restored; with the marker of a run that was cut off.
    Restore(Reason, Option<Marker>),
}

impl Site {
    /// Holds an existing state dir; `None` when there is none. Waits while another run holds it.
    pub(super) fn open(path: &Path, monitor: &dyn Monitor) -> Result<Option<Self>, Error> {
        let failed = |source| Error::StateDir { path: path.to_path_buf(), source };
        for _ in 0..ATTEMPTS {
            let dir = match Dir::open(path) {
                Ok(dir) => dir,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(failed(e)),
            };
            match dir.lock(false).map_err(failed)? {
                Lock::Held => {}
                Lock::Elsewhere => {
                    monitor.warning(
                        None,
                        "another auto-restore or rollback is at work here: waiting until it is done",
                    );
                    dir.lock(true).map_err(failed)?;
                }
                Lock::Unsupported => {
                    monitor.warning(
                        None,
                        "the file system has no locks: see to it that only one auto-restore runs",
                    );
                }
            }
            // Whoever held it may have taken it away again.
            let held = dir.stat().map_err(failed)?.identity();
            if fs::stat_path(path).is_ok_and(|stat| stat.identity() == held) {
                return Ok(Some(Self { path: fs::resolve(path), dir, made: 0 }));
            }
        }
        Err(failed(io::Error::other("the directory keeps being replaced")))
    }

    /// Makes the state dir, and the directories above it, and holds it.
    pub(super) fn make(path: &Path, monitor: &dyn Monitor) -> Result<Self, Error> {
        let failed = |source| Error::StateDir { path: path.to_path_buf(), source };
        for _ in 0..ATTEMPTS {
            let made = path
                .ancestors()
                .take_while(|p| matches!(p.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound))
                .count();
            fs::create_private_dir_all(path).map_err(failed)?;
            if let Some(site) = Self::open(path, monitor)? {
                return Ok(Self { made, ..site });
            }
        }
        Err(failed(io::Error::other("the directory keeps being removed")))
    }

    /// Where it is, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn made(&self) -> usize {
        self.made
    }

    pub(super) fn profile(&self) -> Profile {
        Profile::detect_named(&self.dir, &self.path)
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.path.join(FOLDER)
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.folder().join(TREE)
    }

    fn failed(&self) -> impl Fn(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::StateDir { path: path.clone(), source }
    }

    /// The names at the top that are not ours.
    fn names(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut names = self.dir.list().map_err(self.failed())?;
        names.retain(|name| name != FOLDER.as_bytes() && name != LOST);
        names.sort();
        Ok(names)
    }

    pub(super) fn finding(&self) -> Result<Finding, Error> {
        let marker = Marker::read(&self.path, &self.dir)?;
        let marker = match marker {
            Some(marker) => match marker.stage {
                Stage::Restored | Stage::InUse => return Ok(Finding::Decided(marker)),
                Stage::Placing => return Ok(Finding::HalfPlaced(marker)),
                Stage::Restoring => Some(marker),
            },
            None => None,
        };
        let sign = self.profile().sign_of_use(&self.dir, &self.path, &[FOLDER.as_bytes()]);
        if let Some(sign) = sign.map_err(self.failed())? {
            return Ok(Finding::InUse(sign));
        }
        let reason = match (self.made.max(marker.as_ref().map_or(0, |m| m.made)), self.names()?.is_empty()) {
            (1.., true) => Reason::Missing,
            (_, true) => Reason::Empty,
            (_, false) => Reason::FreshInstall,
        };
        Ok(Finding::Restore(reason, marker))
    }

    /// Refuses a state dir in which something is mounted: nothing could be renamed into or out of those.
    pub(super) fn refuse_mounts(&self) -> Result<(), Error> {
        let mut todo: Vec<RepoPath> = vec![RepoPath::root()];
        while let Some(at) = todo.pop() {
            // What cannot be looked into has been found to be in use.
            let Ok(dir) = self.dir.open_path(&at) else { continue };
            for name in dir.list().map_err(self.failed())? {
                let (Ok(stat), Ok(path)) = (dir.stat_at(&name), at.join(&name)) else { continue };
                if dir.is_mount_point(&name).unwrap_or(false) {
                    return Err(Error::MountPoint { path: self.path.join(path.to_os_path()) });
                }
                if stat.kind == FileKind::Directory && path.as_bytes() != FOLDER.as_bytes() {
                    todo.push(path);
                }
            }
        }
        Ok(())
    }

    /// Takes away what a run that was cut off has written.
    pub(super) fn remove_tree(&self) -> Result<(), Error> {
        self.sweep().map_err(self.failed())
    }

    /// Takes away the tree, and markers that were being written.
    fn sweep(&self) -> io::Result<()> {
        fs::remove_tree(&self.tree())?;
        let folder = match self.dir.open_dir(FOLDER.as_bytes()) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        for name in folder.list()? {
            if name.starts_with(TempFile::PREFIX.as_bytes()) {
                folder.unlink(&name)?;
            }
        }
        Ok(())
    }

    fn aside(&self, marker: &Marker) -> Option<PathBuf> {
        marker.aside.as_ref().map(|name| self.folder().join(name))
    }

    fn move_aside(&self, marker: &Marker, name: &[u8]) -> Result<(), Error> {
        let failed = |source| Error::Place { path: self.path.join(os(name)), source };
        let path = self.aside(marker).unwrap_or_else(|| self.folder().join("set-aside"));
        fs::create_private_dir_all(&path).map_err(failed)?;
        let aside = Dir::open(&path).map_err(failed)?;
        for attempt in 0..ATTEMPTS {
            let new = match attempt {
                0 => name.to_vec(),
                _ => [name, format!(".{attempt}").as_bytes()].concat(),
            };
            match rename(&self.dir, name, &aside, &new) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // Somebody else took it away.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                result => return result.map_err(failed),
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// Sets aside everything that a snapshot would have, and whatever is in the tree's way.
    pub(super) fn clear(&self, marker: &Marker) -> Result<(), Error> {
        let tree = Dir::open(&self.tree()).map_err(self.failed())?;
        let profile = self.profile();
        for name in self.names()? {
            let stays = RepoPath::new(name.clone()).is_ok_and(|path| profile.leaves_out(&path));
            if !stays || tree.stat_at(&name).is_ok() {
                self.move_aside(marker, &name)?;
            }
        }
        Ok(())
    }

    /// Moves what is left of the tree into its place; can be cut off and done again.
    pub(super) fn place(&self, marker: &Marker) -> Result<(), Error> {
        let tree = match Dir::open(&self.tree()) {
            Ok(tree) => tree,
            // All of it was in place already.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.failed()(e)),
        };
        let mut names = tree.list().map_err(self.failed())?;
        names.retain(|name| name != FOLDER.as_bytes());
        names.sort_by_key(|name| (name == CONFIG, name.clone()));
        for name in names {
            let failed = |source| Error::Place { path: self.path.join(os(&name)), source };
            for attempt in 1.. {
                match rename(&tree, &name, &self.dir, &name) {
                    // An application that starts meanwhile makes files, too.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {
                        self.move_aside(marker, &name)?;
                    }
                    result => {
                        result.map_err(failed)?;
                        break;
                    }
                }
            }
        }
        self.dir.sync().map_err(self.failed())
    }

    /// Moves the tree's parts back where they came from, after [`Site::place`] failed half-way.
    pub(super) fn unplace(&self, top: &[Vec<u8>]) -> io::Result<()> {
        let tree = Dir::open(&self.tree())?;
        for name in top {
            if tree.stat_at(name).is_err() {
                match rename(&self.dir, name, &tree, name) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The names at the top of the tree.
    pub(super) fn tree_names(&self) -> Result<Vec<Vec<u8>>, Error> {
        Dir::open(&self.tree()).and_then(|tree| tree.list()).map_err(self.failed())
    }

    /// Directories at the top of the tree that are closed to writing, as the marker has them.
    pub(super) fn closed(&self) -> Result<Vec<(String, u32)>, Error> {
        let tree = Dir::open(&self.tree()).map_err(self.failed())?;
        let mut closed = Vec::new();
        for name in tree.list().map_err(self.failed())? {
            let stat = tree.stat_at(&name).map_err(self.failed())?;
            if is_closed(&stat) && closed.len() < MAX_CLOSED {
                closed.push((HEXLOWER.encode(&name), stat.mode));
            }
        }
        Ok(closed)
    }

    /// What was set aside: where it was, and where it is.
    pub(super) fn set_aside(&self, marker: &Marker) -> Vec<(PathBuf, PathBuf)> {
        let Some(path) = self.aside(marker) else { return Vec::new() };
        let mut names = Dir::open(&path).and_then(|dir| dir.list()).unwrap_or_default();
        names.sort();
        names.iter().map(|name| (self.path.join(os(name)), path.join(os(name)))).collect()
    }

    /// Gives the state dir the mode and time of the snapshot's root, and takes away what is of no use any
    /// more. Nothing of this matters enough to fail.
    pub(super) fn finish(&self, marker: &Marker, monitor: &dyn Monitor) {
        if let Err(e) = self.sweep() {
            monitor.note(None, &format!("{} could not be removed: {e}", self.tree().display()));
        }
        if let Some(aside) = self.aside(marker) {
            // Only when there is nothing in it.
            let _ = std::fs::remove_dir(aside);
        }
        for (name, mode) in &marker.closed {
            // One that is not there any more, or never was, is nobody's.
            let set =
                HEXLOWER.decode(name.as_bytes()).map(|name| fs::set_mode_at(&self.dir, &name, *mode, 0o7777));
            if let Ok(Err(e)) = set {
                monitor.note(None, &format!("a directory stays open to writing: {e}"));
            }
        }
        if let Some((mode, secs, nanos)) = marker.root {
            let set = fs::set_mode(&self.dir, mode, 0o1777)
                .and_then(|()| fs::set_times(&self.dir, Timestamp { secs, nanos }.into()));
            if let Err(e) = set {
                monitor.note(None, &format!("the state dir keeps its own mode and time: {e}"));
            }
        }
    }

    /// Leaves everything as it was before this run.
    pub(super) fn give_up(&self, marker: &Marker, monitor: &dyn Monitor) {
        let undo = || -> io::Result<()> {
            self.sweep()?;
            if let Some(path) = self.aside(marker)
                && let Ok(aside) = Dir::open(&path)
            {
                for name in aside.list()? {
                    match rename(&aside, &name, &self.dir, &name) {
                        // The application has made another one.
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                        result => result?,
                    }
                }
                let _ = std::fs::remove_dir(&path);
            }
            Marker::remove(&self.path)?;
            // From here on only what is empty goes.
            let _ = std::fs::remove_dir(self.folder());
            for path in self.path.ancestors().take(marker.made) {
                if std::fs::remove_dir(path).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(e) = undo() {
            monitor.warning(None, &format!("{} could not be cleared: {e}", self.folder().display()));
        }
    }
}

fn os(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

fn is_closed(stat: &Stat) -> bool {
    stat.kind == FileKind::Directory && stat.mode & 0o200 == 0
}

/// Renames to a name that is free ([`io::ErrorKind::AlreadyExists`] otherwise).
fn rename(from: &Dir, name: &[u8], to: &Dir, new: &[u8]) -> io::Result<()> {
    let stat = from.stat_at(name)?;
    // To get another parent a directory must be open to writing.
    let closed = is_closed(&stat);
    if closed {
        fs::set_mode_at(from, name, stat.mode | 0o200, 0o7777)?;
    }
    let renamed = match from.rename_new_at(name, to, new) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && stat.kind == FileKind::Directory => {
            // Not every file system can see to it in one step that the name is free.
            match to.stat_at(new) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => from.rename_at(name, to, new),
                Err(e) => Err(e),
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            }
        }
        result => result,
    };
    if closed {
        let (dir, name) = if renamed.is_ok() { (to, new) } else { (from, name) };
        fs::set_mode_at(dir, name, stat.mode, 0o7777)?;
    }
    renamed
}
