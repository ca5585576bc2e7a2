//! Locks on directories: they need no file of their own, and end with the process that holds them.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Dir;

/// What became of the wish for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It is ours until the handle is closed.
    Held,
    /// Another handle has it.
    Elsewhere,
    /// The file system knows no such locks.
    Unsupported,
}

impl Dir {
    /// Takes the lock of this directory; `wait` until another handle gives it up. Locks bind only those
    /// who ask for them.
    pub fn lock(&self, wait: bool) -> io::Result<Lock> {
        let alone = FlockOperation::LockExclusive;
        take(self, if wait { alone } else { FlockOperation::NonBlockingLockExclusive })
    }

    /// Takes a lock of this directory that others may share, but that excludes [`Dir::lock`]. Does not wait.
    pub fn share(&self) -> io::Result<Lock> {
        take(self, FlockOperation::NonBlockingLockShared)
    }
}

pub(super) fn take(file: impl AsFd, operation: FlockOperation) -> io::Result<Lock> {
    loop {
        return match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Lock::Held),
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => Ok(Lock::Elsewhere),
            // Network file systems lock files only, and those that are open for writing.
            Err(Errno::BADF | Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK | Errno::INVAL) => {
                Ok(Lock::Unsupported)
            }
            Err(error) => Err(error.into()),
        };
    }
}
