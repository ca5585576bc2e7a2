//! Directories of tests that write much and need nothing of a disk.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;

/// A new directory in memory, where the system has such; it goes with its handle.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
