//! Open directories, and everything that is done to the names in them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

#[cfg(test)]
use super::witness;
use super::{FileKind, Listing, Stat};
use crate::model::RepoPath;

/// An open directory.
///
/// Every name given to its methods must be exactly one component: empty, `.`, `..`, or one with `/`
/// or NUL is refused with [`io::ErrorKind::InvalidInput`]. No method follows a symbolic link, save
/// [`Dir::open`], which takes a path that the user typed.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Listing moves the handle's position; whoever lists second gets a handle of its own, so that
    /// threads sharing one `Dir` each see every name.
    listed: AtomicBool,
}

/// Refuses what is not exactly one component.
fn one(name: &[u8]) -> io::Result<&[u8]> {
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&b| b == b'/' || b == 0) {
        let message = format!("not a single path component: {}", name.escape_ascii());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(name)
}

const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, listed: AtomicBool::new(false) }
    }

    /// Opens the directory that the user named; links on the way are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::from_fd(rustix::fs::openat(CWD, path, OPEN_DIR, Mode::empty())?))
    }

    /// Opens a directory in this one.
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Self> {
        let flags = OPEN_DIR | OFlags::NOFOLLOW;
        Ok(Self::from_fd(rustix::fs::openat(&self.fd, one(name)?, flags, Mode::empty())?))
    }

    /// Opens a directory below this one, component by component; the root path opens this one again.
    pub fn open_path(&self, path: &RepoPath) -> io::Result<Self> {
        let mut dir: Option<Self> = None;
        for name in path.components() {
            dir = Some(dir.as_ref().unwrap_or(self).open_dir(name)?);
        }
        dir.map_or_else(|| self.open_again(), Ok)
    }

    /// A second handle of the same directory, with a position of its own.
    pub fn open_again(&self) -> io::Result<Self> {
        Ok(Self::from_fd(rustix::fs::openat(&self.fd, c".", OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// The directory that holds this one *now*. Renames may have made it another than the one this
    /// handle was reached through: compare identities before trusting it.
    pub fn open_parent(&self) -> io::Result<Self> {
        Ok(Self::from_fd(rustix::fs::openat(&self.fd, c"..", OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// The names in this directory, unsorted, without `.` and `..`.
    pub fn list(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut listing = Listing::new();
        self.list_into(&mut listing)?;
        Ok(listing.iter().map(|(name, _)| name.to_vec()).collect())
    }

    /// Replaces the content of `listing` by the names in this directory, unsorted.
    pub fn list_into(&self, listing: &mut Listing) -> io::Result<()> {
        listing.clear();
        if self.listed.swap(true, Ordering::Relaxed) {
            return listing.read(&self.open_again()?.fd);
        }
        listing.read(&self.fd)
    }

    /// Metadata of this directory.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::from(&rustix::fs::fstat(&self.fd)?))
    }

    /// Metadata of a name; of the link itself if it is one.
    pub fn stat_at(&self, name: &[u8]) -> io::Result<Stat> {
        // Without NO_AUTOMOUNT a look at a mount point would mount what is behind it.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(Stat::from(&rustix::fs::statat(&self.fd, one(name)?, flags)?))
    }

    /// Opens a file for reading. A fifo does not block it and a terminal does not become ours; the
    /// access time is left alone where the system permits that.
    ///
    /// The name may have changed its meaning since it was looked at: check the type of what was
    /// opened, or use [`Dir::open_regular`].
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let name = one(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match rustix::fs::openat(&self.fd, name, flags | OFlags::NOATIME, Mode::empty()) {
            // Only the owner may leave the access time alone.
            Err(rustix::io::Errno::PERM) => {}
            result => return Ok(File::from(result?)),
        }
        Ok(File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?))
    }

    /// Tells the system that the first `len` bytes of a regular file will be read soon; does not wait for
    /// them. Only advice: what goes wrong shows when the file is read.
    pub fn will_need(&self, name: &[u8], len: u64) {
        let Ok((file, _)) = self.open_regular(name) else { return };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(len) = std::num::NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&file, 0, Some(len), rustix::fs::Advice::WillNeed);
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (file, len);
    }

    /// Opens a regular file for reading, with its metadata as of the handle; refuses anything else
    /// with [`io::ErrorKind::InvalidInput`].
    pub fn open_regular(&self, name: &[u8]) -> io::Result<(File, Stat)> {
        let file = self.open_file(name)?;
        let stat = super::stat_file(&file)?;
        if stat.kind != FileKind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((file, stat))
    }

    /// Opens an existing regular file for reading and writing.
    pub fn open_file_rw(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = File::from(rustix::fs::openat(&self.fd, one(name)?, flags, Mode::empty())?);
        if super::stat_file(&file)?.kind != FileKind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }

    /// The target of a symbolic link.
    pub fn read_link_at(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, one(name)?, Vec::new())?.into_bytes())
    }

    /// Makes a new file, open for reading and writing; fails when the name exists, as a link too.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.fd, one(name)?, flags, permissions(mode))?);
        #[cfg(test)]
        witness::saw(|| Some(witness::Event::File(witness::path_in(&self.fd, name)?)));
        Ok(file)
    }

    /// Makes a directory; fails when the name exists.
    pub fn create_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.fd, one(name)?, permissions(mode))?)
    }

    /// Makes a symbolic link; the target is stored as it is.
    pub fn symlink_at(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, one(name)?)?)
    }

    /// Gives the file `old_name` of `old_dir` a second name in this directory. If `old_name` is a
    /// symbolic link, the link itself gets the name.
    pub fn hard_link_at(&self, old_dir: &Self, old_name: &[u8], new_name: &[u8]) -> io::Result<()> {
        let (old, new) = (one(old_name)?, one(new_name)?);
        Ok(rustix::fs::linkat(&old_dir.fd, old, &self.fd, new, AtFlags::empty())?)
    }

    /// Makes a named pipe.
    pub fn mkfifo(&self, name: &[u8], mode: u32) -> io::Result<()> {
        self.make_node(name, FileType::Fifo, mode, 0)
    }

    /// Makes a device file; only character and block devices are taken.
    pub fn mknod(&self, name: &[u8], kind: FileKind, mode: u32, rdev: (u32, u32)) -> io::Result<()> {
        let kind = match kind {
            FileKind::CharDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a kind of device")),
        };
        self.make_node(name, kind, mode, rustix::fs::makedev(rdev.0, rdev.1))
    }

    #[cfg(not(target_vendor = "apple"))]
    fn make_node(&self, name: &[u8], kind: FileType, mode: u32, dev: rustix::fs::Dev) -> io::Result<()> {
        Ok(rustix::fs::mknodat(&self.fd, one(name)?, kind, permissions(mode), dev)?)
    }

    #[cfg(target_vendor = "apple")]
    fn make_node(&self, name: &[u8], _: FileType, _: u32, _: rustix::fs::Dev) -> io::Result<()> {
        // There is no mknodat before macOS 13.
        one(name)?;
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Renames `old` of this directory to `new` of `new_dir`, replacing what is there.
    pub fn rename_at(&self, old: &[u8], new_dir: &Self, new: &[u8]) -> io::Result<()> {
        rustix::fs::renameat(&self.fd, one(old)?, &new_dir.fd, one(new)?)?;
        #[cfg(test)]
        self.saw_rename(old, new_dir, new);
        Ok(())
    }

    #[cfg(test)]
    fn saw_rename(&self, old: &[u8], new_dir: &Self, new: &[u8]) {
        witness::saw(|| {
            let (from, to) = (witness::path_in(&self.fd, old)?, witness::path_in(&new_dir.fd, new)?);
            Some(witness::Event::Renamed(from, to))
        });
    }

    /// Renames `old` of this directory to `new` of `new_dir` unless that exists
    /// ([`io::ErrorKind::AlreadyExists`]), with no moment in which it could be replaced. Directories
    /// need a file system that can do it in one step; most can.
    pub fn rename_new_at(&self, old: &[u8], new_dir: &Self, new: &[u8]) -> io::Result<()> {
        use rustix::io::Errno;
        let (old, new) = (one(old)?, one(new)?);
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&self.fd, old, &new_dir.fd, new, flags) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                result => {
                    result?;
                    #[cfg(test)]
                    self.saw_rename(old, new_dir, new);
                    return Ok(());
                }
            }
        }
        rustix::fs::linkat(&self.fd, old, &new_dir.fd, new, AtFlags::empty())?;
        match rustix::fs::unlinkat(&self.fd, old, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a name that is no directory.
    pub fn unlink(&self, name: &[u8]) -> io::Result<()> {
        rustix::fs::unlinkat(&self.fd, one(name)?, AtFlags::empty())?;
        #[cfg(test)]
        witness::saw(|| Some(witness::Event::Removed(witness::path_in(&self.fd, name)?)));
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, one(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Bytes that may still be written to this directory's file system.
    pub fn free_space(&self) -> io::Result<u64> {
        let system = rustix::fs::fstatvfs(&self.fd)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    /// Brings the names of this directory to stable storage.
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        witness::saw(|| Some(witness::Event::SyncedFolder(witness::path_of(&self.fd)?)));
        match rustix::fs::fsync(&self.fd) {
            // Some network and FUSE file systems know no such thing as syncing a directory.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Brings everything written to this directory's file system to stable storage: one call after
    /// tens of thousands of files costs less than an fsync for each.
    pub fn sync_file_system(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        rustix::fs::syncfs(&self.fd)?;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        rustix::fs::sync();
        Ok(())
    }

    /// Checks a name as every method does, for callers in this module that use the handle directly.
    pub(super) fn checked<'a>(&self, name: &'a [u8]) -> io::Result<&'a [u8]> {
        one(name)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & 0o7777) as rustix::fs::RawMode)
}
