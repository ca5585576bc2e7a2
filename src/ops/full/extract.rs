//! Members of an archive as files in a new folder.
//!
//! Whoever made the archive may mean harm. So: names are taken apart and refused before anything is made
//! ([`safe_path`]); every folder on the way is opened without following links; links are made last of all, so that
//! nothing is ever written through one; a hard link names only what was extracted before; devices are not made; set-id
//! bits and attributes of the system's namespaces are dropped. The folder was made by this run, so that all that is in
//! it came from this archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::Error;
use super::open::Opened;
use crate::fs::{self, Dir, FileKind};
use crate::full::safe_path;
use crate::full::tar::{Member, MemberKind};
use crate::model::{FileError, RepoPath, Timestamp, Xattr};
use crate::ops::restore::Dirs;
use crate::report::Monitor;

const BUFFER: usize = 256 << 10;
/// Runs of zeros of this length become holes.
const HOLE: usize = 64 << 10;
/// Set-user-id, set-group-id and sticky stay away.
const MODE_MASK: u32 = 0o777;
/// Attributes that are the user's own; others may grant rights.
const USER: &[u8] = b"user.";
/// Errors that are kept.
const MAX_ERRORS: usize = 1_000;
/// Memory that links and folders may take until the end of an archive that nobody vouches for; and of one that somebody
/// with keys of the repository made, who may have millions of them.
const MEMORY: usize = 64 << 20;
const MEMORY_VOUCHED_FOR: usize = 1 << 30;
/// What each takes beside its words.
const ENTRY: usize = 128;

/// What was extracted.
#[derive(Debug, Default, Clone)]
pub(super) struct Extracted {
    pub(super) files: u64,
    pub(super) dirs: u64,
    pub(super) others: u64,
    pub(super) bytes: u64,
    /// Devices, and links that lead out of the folder where they are not trusted.
    pub(super) left_out: u64,
    pub(super) errors: Vec<FileError>,
    pub(super) error_count: u64,
}

/// What is wanted of an archive.
pub(super) struct Wanted<'a> {
    /// Only these paths; all when empty.
    pub(super) paths: &'a [RepoPath],
    /// Symbolic links are made wherever they lead: somebody that we trust put them there.
    pub(super) trusts_links: bool,
}

/// What is set when everything is in its place: it would not last, or be in the way, before.
struct Later {
    mode: u32,
    mtime: Timestamp,
}

struct Link {
    target: Vec<u8>,
    mtime: Timestamp,
}

struct Extraction<'a> {
    archive: &'a mut Opened,
    root: &'a Arc<Dir>,
    /// The folder of the last member, at hand.
    parents: Dirs<'a>,
    wanted: &'a Wanted<'a>,
    monitor: &'a dyn Monitor,
    links: BTreeMap<RepoPath, Link>,
    dirs: BTreeMap<RepoPath, Later>,
    /// Bytes that the two may still take.
    memory: usize,
    done: Extracted,
    buffer: Vec<u8>,
}

/// Extracts an archive into the folder `root`, which must be empty and this run's own. An error tells that the archive
/// is not to be trusted from some point on; what came before lies in the folder.
pub(super) fn extract<'a>(
    archive: &'a mut Opened,
    root: &'a Arc<Dir>,
    wanted: &'a Wanted<'a>,
    monitor: &'a dyn Monitor,
) -> Result<Extracted, Error> {
    let memory = if archive.is_vouched_for() { MEMORY_VOUCHED_FOR } else { MEMORY };
    let mut extraction = Extraction {
        archive,
        root,
        parents: Dirs::new(root),
        wanted,
        monitor,
        links: BTreeMap::new(),
        dirs: BTreeMap::new(),
        memory,
        done: Extracted::default(),
        buffer: vec![0; BUFFER],
    };
    while let Some(member) = extraction.archive.next()? {
        extraction.member(member)?;
    }
    extraction.conclude()?;
    Ok(extraction.done)
}

impl Extraction<'_> {
    fn hostile(&self, member: &Member, what: impl Into<String>) -> Error {
        Error::hostile(&self.archive.name, &member.path, what)
    }

    /// One path failed; the others go on.
    fn fail(&mut self, path: &RepoPath, message: String) -> Result<(), Error> {
        self.monitor.error(path, &message);
        self.done.error_count += 1;
        if self.done.errors.len() < MAX_ERRORS {
            self.done.errors.push(FileError { path: path.clone(), message });
        }
        Ok(())
    }

    fn is_wanted(&self, path: &RepoPath) -> bool {
        let paths = self.wanted.paths;
        paths.is_empty() || paths.iter().any(|wanted| path.starts_with(wanted))
    }

    fn member(&mut self, member: Member) -> Result<(), Error> {
        let path = safe_path(&member.path).map_err(|e| self.hostile(&member, e.to_string()))?;
        let mut above = path.parent();
        while let Some(folder) = above {
            if self.links.contains_key(&folder) {
                return Err(self.hostile(&member, "its path leads through a symbolic link of this archive"));
            }
            above = folder.parent();
        }
        if self.links.contains_key(&path) && !matches!(member.kind, MemberKind::Symlink(_)) {
            return Err(self.hostile(&member, "a symbolic link of this archive has this name already"));
        }
        if !self.is_wanted(&path) {
            return Ok(());
        }
        match &member.kind {
            MemberKind::Directory => self.directory(&member, path),
            MemberKind::File => self.file(&member, path),
            MemberKind::Symlink(target) => self.symlink(&member, path, target.clone()),
            MemberKind::Hardlink(first) => self.hard_link(&member, path, first),
            MemberKind::Fifo => self.fifo(&member, path),
            MemberKind::Device => {
                self.done.left_out += 1;
                self.monitor.warning(Some(&path), "is a device, which no archive may make: left out");
                Ok(())
            }
            MemberKind::Other(kind) => {
                self.done.left_out += 1;
                let message = format!("is of the unknown type {:?}: left out", char::from(*kind));
                self.monitor.warning(Some(&path), &message);
                Ok(())
            }
        }
    }

    /// The folder that holds a path, made where the archive does not name it.
    fn parent(&mut self, member: &Member, path: &RepoPath) -> Result<Result<Arc<Dir>, io::Error>, Error> {
        let Some(parent) = path.parent() else { return Err(self.hostile(member, "it is the folder itself")) };
        if let Ok(dir) = self.parents.parent_of(path) {
            return Ok(Ok(dir));
        }
        let mut dir = Arc::clone(self.root);
        for name in parent.components() {
            let next = match dir.open_dir(name) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    dir.create_dir(name, 0o700).and_then(|()| dir.open_dir(name))
                }
                Err(e) if matches!(e.kind(), ErrorKind::NotADirectory) => {
                    return Err(self.hostile(member, "its path leads through a file of this archive"));
                }
                other => other,
            };
            match next {
                Ok(next) => dir = Arc::new(next),
                Err(e) => return Ok(Err(e)),
            }
        }
        Ok(Ok(dir))
    }

    /// Counts what is kept in memory until the end.
    fn keep(&mut self, bytes: usize) -> Result<(), Error> {
        match self.memory.checked_sub(ENTRY.saturating_add(bytes)) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(self
                .archive
                .refused("its links and folders take more memory than an archive may ask for")),
        }
    }

    fn later(&mut self, member: &Member, path: RepoPath) -> Result<(), Error> {
        if !self.dirs.contains_key(&path) {
            self.keep(path.as_bytes().len())?;
        }
        self.dirs.insert(path, Later { mode: member.mode, mtime: member.mtime });
        Ok(())
    }

    /// Tells of metadata that is lost; the content is not.
    fn told(&mut self, path: &RepoPath, set: io::Result<()>) -> Result<(), Error> {
        set.or_else(|e| {
            self.fail(
                path,
                format!("its content is there, but not all of its times, mode and attributes: {e}"),
            )
        })
    }

    fn directory(&mut self, member: &Member, path: RepoPath) -> Result<(), Error> {
        if path.is_root() {
            self.told(&path, set_xattrs(self.root.as_ref(), member))?;
            return self.later(member, path);
        }
        let dir = match self.parent(member, &path)? {
            Ok(dir) => dir,
            Err(e) => return self.fail(&path, format!("cannot be made: {e}")),
        };
        match dir.create_dir(path.name(), 0o700) {
            Ok(()) => self.done.dirs += 1,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let there = dir.stat_at(path.name()).map(|stat| stat.kind);
                if !matches!(there, Ok(FileKind::Directory)) {
                    return Err(self.hostile(member, "a file of this archive has this name already"));
                }
                self.done.dirs += u64::from(!self.dirs.contains_key(&path));
            }
            Err(e) => return self.fail(&path, format!("cannot be made: {e}")),
        }
        if !member.xattrs.is_empty() {
            // At once: kept until the end they would take any amount of memory.
            self.told(&path, dir.open_dir(path.name()).and_then(|dir| set_xattrs(&dir, member)))?;
        }
        self.later(member, path)
    }

    /// Takes away an earlier member of the same name: an archive that was added to has two, and the last one counts.
    fn make_room(&self, member: &Member, dir: &Dir, path: &RepoPath) -> Result<io::Result<()>, Error> {
        match dir.stat_at(path.name()) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Ok(())),
            Err(e) => Ok(Err(e)),
            Ok(stat) if stat.kind == FileKind::Directory => {
                Err(self.hostile(member, "a folder of this archive has this name already"))
            }
            Ok(_) => Ok(dir.unlink(path.name())),
        }
    }

    fn file(&mut self, member: &Member, path: RepoPath) -> Result<(), Error> {
        let dir = match self.parent(member, &path)? {
            Ok(dir) => dir,
            Err(e) => return self.fail(&path, format!("cannot be written: {e}")),
        };
        let made = self.make_room(member, &dir, &path)?;
        let file = match made.and_then(|()| dir.create_file(path.name(), 0o600)) {
            Ok(file) => file,
            Err(e) => return self.fail(&path, format!("cannot be written: {e}")),
        };
        match self.content(&file, member) {
            Ok(Ok(())) => {
                self.done.files += 1;
                self.done.bytes += member.size;
                self.monitor.progress(1, 0);
                let later = Later { mode: member.mode, mtime: member.mtime };
                // The rest is set where one thing cannot be.
                self.told(&path, set_xattrs(&file, member).and(apply(&file, &later)))
            }
            other => {
                // Nothing half-written stays under a name that looks whole.
                drop(dir.unlink(path.name()));
                other?.or_else(|e| self.fail(&path, format!("cannot be written: {e}")))
            }
        }
    }

    /// Writes a file's content; runs of zeros become holes.
    fn content(&mut self, file: &File, member: &Member) -> Result<io::Result<()>, Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let hole = self.archive.skip_hole();
            let n = self.archive.read(&mut buffer)?;
            self.monitor.progress(0, hole.saturating_add(n as u64));
            if n == 0 {
                // A hole at the end has no byte yet.
                break file.set_len(member.size);
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            if let Err(e) = skip(file, hole).and_then(|()| write(file, bytes)) {
                break Err(e);
            }
        };
        self.buffer = buffer;
        Ok(result)
    }

    fn symlink(&mut self, member: &Member, path: RepoPath, target: Vec<u8>) -> Result<(), Error> {
        if path.is_root() || target.is_empty() || target.contains(&0) {
            return Err(self.hostile(member, "it is no symbolic link that can be made"));
        }
        if !self.wanted.trusts_links && leads_out(&path, &target) {
            self.done.left_out += 1;
            let message =
                format!("is a symbolic link out of the folder, to {}: left out", target.escape_ascii());
            self.monitor.warning(Some(&path), &message);
            return Ok(());
        }
        if let Ok(dir) = self.parents.parent_of(&path)
            && dir.stat_at(path.name()).is_ok()
        {
            return Err(self.hostile(member, "a file or folder of this archive has this name already"));
        }
        self.keep(path.as_bytes().len().saturating_add(target.len()))?;
        self.links.insert(path, Link { target, mtime: member.mtime });
        Ok(())
    }

    fn hard_link(&mut self, member: &Member, path: RepoPath, first: &[u8]) -> Result<(), Error> {
        let what = |e: String| format!("what it is another name of: {e}");
        let first = safe_path(first).map_err(|e| self.hostile(member, what(e.to_string())))?;
        if first == path {
            return Err(self.hostile(member, "it is said to be another name of itself"));
        }
        if let Some(link) = self.links.get(&first) {
            let target = link.target.clone();
            return self.symlink(member, path, target);
        }
        let from = match Dirs::new(self.root).parent_of(&first) {
            Ok(dir) if dir.stat_at(first.name()).is_ok_and(|stat| stat.kind == FileKind::File) => dir,
            _ if !self.wanted.paths.is_empty() => {
                let message = format!("is another name of {first}, which was not asked for: name it too");
                return self.fail(&path, message);
            }
            _ => return Err(self.hostile(member, "it is another name of nothing that came before it")),
        };
        let dir = match self.parent(member, &path)? {
            Ok(dir) => dir,
            Err(e) => return self.fail(&path, format!("cannot be made: {e}")),
        };
        let made = self.make_room(member, &dir, &path)?;
        match made.and_then(|()| dir.hard_link_at(&from, first.name(), path.name())) {
            Ok(()) => {
                self.done.files += 1;
                Ok(())
            }
            Err(e) => self.fail(&path, format!("cannot be made: {e}")),
        }
    }

    fn fifo(&mut self, member: &Member, path: RepoPath) -> Result<(), Error> {
        let dir = match self.parent(member, &path)? {
            Ok(dir) => dir,
            Err(e) => return self.fail(&path, format!("cannot be made: {e}")),
        };
        let made = self.make_room(member, &dir, &path)?;
        let made = made
            .and_then(|()| dir.mkfifo(path.name(), 0o600))
            .and_then(|()| fs::set_mode_at(&dir, path.name(), member.mode, MODE_MASK))
            .and_then(|()| fs::set_times_at(&dir, path.name(), member.mtime.into()));
        match made {
            Ok(()) => {
                self.done.others += 1;
                Ok(())
            }
            Err(e) => self.fail(&path, format!("cannot be made: {e}")),
        }
    }

    /// Makes the links, and then gives the folders their metadata, from the deepest up.
    fn conclude(&mut self) -> Result<(), Error> {
        for (path, link) in std::mem::take(&mut self.links) {
            let made = self.make_parents(&path).and_then(|dir| {
                dir.symlink_at(&link.target, path.name())?;
                fs::set_times_at(&dir, path.name(), link.mtime.into())
            });
            match made {
                Ok(()) => self.done.others += 1,
                Err(e) => self.fail(&path, format!("cannot be made: {e}"))?,
            }
        }
        for (path, later) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let set = match path.is_root() {
                true => apply(self.root.as_ref(), &later),
                false => self.root.open_path(&path).and_then(|dir| apply(&dir, &later)),
            };
            if let Err(e) = set {
                self.fail(&path, format!("its time or mode cannot be set: {e}"))?;
            }
        }
        Ok(())
    }

    /// The folder of a link, made where nothing but links lies in it.
    fn make_parents(&self, path: &RepoPath) -> io::Result<Arc<Dir>> {
        let mut dir = Arc::clone(self.root);
        for name in path.parent().unwrap_or_default().components() {
            dir = Arc::new(match dir.open_dir(name) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    dir.create_dir(name, 0o700)?;
                    dir.open_dir(name)?
                }
                other => other?,
            });
        }
        Ok(dir)
    }
}

/// Leaves a hole of so many bytes; one at the end of a file needs its length set, too.
pub(super) fn skip(mut file: &File, hole: u64) -> io::Result<()> {
    match i64::try_from(hole) {
        Ok(0) => Ok(()),
        Ok(hole) => file.seek(SeekFrom::Current(hole)).map(drop),
        Err(_) => Err(ErrorKind::FileTooLarge.into()),
    }
}

/// Writes bytes of which long runs of zeros become holes.
pub(super) fn write(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(HOLE));
        if piece.len() == HOLE && piece.iter().all(|&b| b == 0) {
            file.seek(SeekFrom::Current(HOLE as i64))?;
        } else {
            file.write_all(piece)?;
        }
        bytes = rest;
    }
    Ok(())
}

/// Sets the attributes that can be set; gives the first error of the others.
fn set_xattrs(file: impl AsFd, member: &Member) -> io::Result<()> {
    let mut result = Ok(());
    for (name, value) in member.xattrs.iter().filter(|(name, _)| name.starts_with(USER)) {
        let xattr = Xattr { name: name.clone(), value: value.clone() };
        match fs::set_xattr(file.as_fd(), &xattr) {
            // Not every file system has attributes.
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            other => result = result.and(other),
        }
    }
    result
}

fn apply(file: impl AsFd, later: &Later) -> io::Result<()> {
    fs::set_mode(file.as_fd(), later.mode, MODE_MASK)?;
    fs::set_times(file, later.mtime.into())
}

/// Whether a link at `path` leads out of the folder that `path` is in, as far as its words tell.
fn leads_out(path: &RepoPath, target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut depth = path.parent().unwrap_or_default().components().count();
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn links_out_of_the_folder_are_known_by_their_words() {
        for (path, target, out) in [
            ("a", "b", false),
            ("a", "/etc", true),
            ("a", "..", true),
            ("a", "b/../..", true),
            ("a/b", "..", false),
            ("a/b", "../c", false),
            ("a/b", "../../c", true),
            ("a/b/c", "./../../x", false),
            ("a/b/c", ".././/../../x", true),
        ] {
            let path = RepoPath::new(path.as_bytes().to_vec()).unwrap();
            assert_eq!(leads_out(&path, target.as_bytes()), out, "{path} -> {target}");
        }
    }

    #[test]
    fn runs_of_zeros_become_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = File::create(&path).unwrap();
        let mut bytes = vec![0; 4 << 20];
        bytes[3 << 20] = 7;
        for piece in bytes.chunks(BUFFER) {
            write(&file, piece).unwrap();
        }
        file.set_len(bytes.len() as u64).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert!(crate::fs::stat_path(&path).unwrap().blocks * 512 < 1 << 20);
    }
}
