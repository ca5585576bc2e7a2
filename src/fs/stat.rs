//! What the system says of a file without opening it.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use crate::model::Timestamp;

/// Type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Something this program does not know.
    Unknown,
}

impl From<FileType> for FileKind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => Self::Unknown,
        }
    }
}

/// Metadata of one file, never of what a link points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Type.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Number of names.
    pub nlink: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// Last status change.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Device that holds the file.
    pub dev: u64,
    /// For a device file: major and minor number.
    pub rdev: (u32, u32),
}

impl Stat {
    /// What tells two files of one machine apart.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.dev, self.inode)
    }

    /// True when the file takes less space than its length, so that looking for holes pays.
    #[must_use]
    pub fn may_have_holes(&self) -> bool {
        self.kind == FileKind::File && self.blocks.saturating_mul(512) < self.size
    }
}

/// Widens an integer whose type differs between systems.
fn wide<T: TryInto<i128>>(value: T) -> i128 {
    value.try_into().unwrap_or_default()
}

fn unsigned(value: i128) -> u64 {
    // Some systems have signed device numbers; their bits are what counts.
    u64::try_from(value & i128::from(u64::MAX)).unwrap_or_default()
}

fn timestamp(secs: i128, nanos: i128) -> Timestamp {
    let nanos = u32::try_from(nanos).unwrap_or_default();
    Timestamp { secs: i64::try_from(secs).unwrap_or_default(), nanos: nanos.min(999_999_999) }
}

impl From<&rustix::fs::Stat> for Stat {
    fn from(s: &rustix::fs::Stat) -> Self {
        let raw_mode = u32::try_from(wide(s.st_mode)).unwrap_or_default();
        let kind = FileKind::from(FileType::from_raw_mode(s.st_mode));
        let rdev = match kind {
            FileKind::CharDevice | FileKind::BlockDevice => {
                (rustix::fs::major(s.st_rdev), rustix::fs::minor(s.st_rdev))
            }
            _ => (0, 0),
        };
        Self {
            kind,
            mode: raw_mode & 0o7777,
            uid: s.st_uid,
            gid: s.st_gid,
            size: unsigned(wide(s.st_size)),
            blocks: unsigned(wide(s.st_blocks)),
            nlink: unsigned(wide(s.st_nlink)),
            mtime: timestamp(wide(s.st_mtime), wide(s.st_mtime_nsec)),
            ctime: timestamp(wide(s.st_ctime), wide(s.st_ctime_nsec)),
            inode: unsigned(wide(s.st_ino)),
            dev: unsigned(wide(s.st_dev)),
            rdev,
        }
    }
}

/// Metadata of an open file.
pub fn stat_file(file: &File) -> io::Result<Stat> {
    Ok(Stat::from(&rustix::fs::fstat(file)?))
}

/// Metadata of what a path named by the user leads to; links are followed. For comparing places
/// (is the repository inside the state dir?), not for reading trees.
pub fn stat_path(path: &Path) -> io::Result<Stat> {
    Ok(Stat::from(&rustix::fs::stat(path)?))
}
