//! Writing files so that a crash leaves the old content or the new, never half of it.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::dir::permissions;
#[cfg(test)]
use super::witness;
use super::{Dir, Stat, stat_file, stat_path};
use crate::model::Timestamp;

/// Makes temporary names of one process differ; other processes differ in their number, and what a
/// dead process of the same number left is stepped over.
static COUNTER: AtomicU64 = AtomicU64::new(0);

const ATTEMPTS: u32 = 1_000;

/// A file under a temporary name in the directory where it belongs; it gets its real name when it is
/// complete, and is removed when it is dropped before.
#[derive(Debug)]
pub struct TempFile {
    dir: Dir,
    name: Vec<u8>,
    file: File,
    placed: bool,
}

impl TempFile {
    /// Prefix of the temporary names, for those who list a directory in which one may lie.
    pub const PREFIX: &'static str = ".exuvia-tmp-";

    /// Makes an empty temporary file, readable by its owner only.
    pub fn new(dir: &Path) -> io::Result<Self> {
        Self::new_in(Dir::open(dir)?)
    }

    /// The same, in a directory that is open already.
    pub fn new_in(dir: Dir) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}{}-{count}", Self::PREFIX, std::process::id()).into_bytes();
            match dir.create_file(&name, 0o600) {
                Ok(file) => return Ok(Self { dir, name, file, placed: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free temporary name"))
    }

    /// The file, to be written.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Its name in the directory that it was made in.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Metadata of the file.
    pub fn stat(&self) -> io::Result<Stat> {
        stat_file(&self.file)
    }

    /// Gives the file its name, replacing what is there. On return it is on stable storage.
    pub fn persist(mut self, name: &str, mode: u32) -> io::Result<()> {
        self.complete(mode)?;
        self.dir.rename_at(&self.name, &self.dir, name.as_bytes())?;
        self.placed = true;
        self.dir.sync()
    }

    /// Gives the file its name unless that exists ([`io::ErrorKind::AlreadyExists`]).
    pub fn persist_new(mut self, name: &str, mode: u32) -> io::Result<()> {
        self.complete(mode)?;
        self.dir.rename_new_at(&self.name, &self.dir, name.as_bytes())?;
        self.placed = true;
        self.dir.sync()
    }

    /// The same in another directory, which must be on the same file system.
    pub fn persist_new_in(mut self, dir: &Path, name: &str, mode: u32) -> io::Result<()> {
        self.complete(mode)?;
        let dir = Dir::open(dir)?;
        self.dir.rename_new_at(&self.name, &dir, name.as_bytes())?;
        self.placed = true;
        dir.sync()
    }

    fn complete(&self, mode: u32) -> io::Result<()> {
        // By handle, since the mode given at creation passes through the umask.
        rustix::fs::fchmod(&self.file, permissions(mode))?;
        sync_file(&self.file)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.placed {
            // Nobody is left to hear of an error here, and the caller has one of its own already.
            let _ = self.dir.unlink(&self.name);
        }
    }
}

/// Writes `bytes` to `dir/name`, replacing an existing file in one step. On return they are on stable
/// storage; on error the old file is as it was and no temporary file is left.
pub fn write_atomic(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut temp = TempFile::new(dir)?;
    temp.file().write_all(bytes)?;
    temp.persist(name, mode)
}

/// Writes `bytes` to `dir/name`, which must not exist ([`io::ErrorKind::AlreadyExists`]).
pub fn write_new(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut temp = TempFile::new(dir)?;
    temp.file().write_all(bytes)?;
    temp.persist_new(name, mode)
}

fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(test)]
    witness::saw(|| {
        let path = witness::path_of(file)?;
        let content = std::fs::read(&path).ok()?;
        Some(witness::Event::Synced(path, content.into()))
    });
    Ok(())
}

/// Brings the names of a directory to stable storage; a symbolic link to one will do.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    #[cfg(test)]
    witness::saw(|| Some(witness::Event::SyncedFolder(path.to_path_buf())));
    Ok(())
}

/// Removes a file by its path. Whether that survives a power cut is not said.
pub fn remove_file(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    #[cfg(test)]
    witness::saw(|| Some(witness::Event::Removed(path.to_path_buf())));
    Ok(())
}

/// Makes a directory and those above it that are missing, all open to their owner only. Existing ones
/// keep their modes.
pub fn create_private_dir_all(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    let missing: Vec<_> = path.ancestors().filter(|dir| !dir.exists()).map(Path::to_path_buf).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    #[cfg(test)]
    missing.into_iter().rev().for_each(|dir| witness::saw(|| Some(witness::Event::Folder(dir))));
    Ok(())
}

/// Removes a directory if there is nothing in it but directories of which the same is true.
pub fn remove_empty_dirs(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty_dirs(&entry.path())?;
        }
    }
    std::fs::remove_dir(path)
}

/// Removes temporary files of ours below `dir` that were last changed before `before`; tells how many. Links
/// are not followed, and what cannot be looked at or removed is left.
pub fn remove_old_temporaries(dir: &Path, before: Timestamp) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let mut removed = 0;
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            removed += remove_old_temporaries(&entry.path(), before);
        }
        let ours = entry.file_name().as_encoded_bytes().starts_with(TempFile::PREFIX.as_bytes());
        let old = || stat_path(&entry.path()).is_ok_and(|stat| stat.mtime < before);
        if kind.is_file() && ours && old() && remove_file(&entry.path()).is_ok() {
            removed += 1;
        }
    }
    removed
}
