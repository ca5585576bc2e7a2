//! Locks on files of their own, which hold who has them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};

use super::Lock;

/// Most that is read of what a holder wrote.
const MAX_BYTES: u64 = 64 << 10;

/// An open lock file. Its lock ends with the handle, however the process ends; programs that are started do
/// not inherit it.
#[derive(Debug)]
pub struct LockFile(File);

impl LockFile {
    /// Opens a file, or makes it, readable by its owner only. A link in its place is refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        options.open(path).map(Self)
    }

    /// Takes its lock; `wait` until another gives it up.
    pub fn lock(&self, wait: bool) -> io::Result<Lock> {
        let alone = FlockOperation::LockExclusive;
        super::lock::take(&self.0, if wait { alone } else { FlockOperation::NonBlockingLockExclusive })
    }

    /// Takes a lock of it that others may share, but that excludes [`LockFile::lock`]. Does not wait.
    pub fn share(&self) -> io::Result<Lock> {
        super::lock::take(&self.0, FlockOperation::NonBlockingLockShared)
    }

    /// What its last holder wrote.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        self.0.rewind()?;
        let mut bytes = Vec::new();
        (&self.0).take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces what is in it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.rewind()?;
        self.0.write_all(bytes)?;
        self.0.set_len(bytes.len() as u64)
    }
}
