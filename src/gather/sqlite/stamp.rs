//! What tells whether a database has changed since it was captured.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::Timestamp;

/// Length of a WAL's header in bytes.
const WAL_HEADER: usize = 32;

/// Identity, size and times of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// Last status change.
    pub ctime: Timestamp,
}

impl From<&Metadata> for FileStamp {
    fn from(meta: &Metadata) -> Self {
        let time = |secs, nanos| Timestamp { secs, nanos: u32::try_from(nanos).unwrap_or(0) };
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// A write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalStamp {
    /// The file.
    pub file: FileStamp,
    /// Its header, with the salts that change whenever the log starts over; zeros past its end.
    pub header: [u8; WAL_HEADER],
}

/// A database's files. In WAL mode a commit may change only the log, a checkpoint only the main
/// file: both count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceStamp {
    /// The main file.
    pub main: FileStamp,
    /// The `-wal`, unless it is missing or empty.
    pub wal: Option<WalStamp>,
}

impl SourceStamp {
    /// Looks at a database without opening its main file. Links are not followed.
    ///
    /// Like all file times these cannot tell apart two writes within one tick of the file system's
    /// clock: do not rely on a stamp whose times are not yet a few ticks old.
    pub fn read(path: &Path) -> io::Result<Self> {
        let main = FileStamp::from(&regular(path)?);
        let wal_path = with_suffix(path, "-wal");
        let wal = match regular(&wal_path) {
            Ok(meta) if meta.len() == 0 => None,
            Ok(meta) => match wal_header(&wal_path) {
                Ok(header) => Some(WalStamp { file: FileStamp::from(&meta), header }),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(Self { main, wal })
    }
}

/// Metadata of a regular file; opening anything else could block or have effects.
pub(super) fn regular(path: &Path) -> io::Result<Metadata> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_file() {
        return Ok(meta);
    }
    let name = path.file_name().unwrap_or_default().display();
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not a regular file")))
}

/// The path of a file beside the database.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn wal_header(path: &Path) -> io::Result<[u8; WAL_HEADER]> {
    let mut header = Vec::with_capacity(WAL_HEADER);
    File::open(path)?.take(WAL_HEADER as u64).read_to_end(&mut header)?;
    header.resize(WAL_HEADER, 0);
    Ok(header.try_into().unwrap_or([0; WAL_HEADER]))
}
