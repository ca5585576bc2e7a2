//! Private temporary files, for what can be looked at only as a file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fs::{TempFile, create_private_dir_all};
use crate::gather::sqlite::PageSink;

/// A folder for them; made when first used.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Takes away what killed runs left: whoever lives holds a lock on its files.
    pub(super) fn new(dir: PathBuf) -> Self {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let ours = entry.file_name().as_bytes().starts_with(TempFile::PREFIX.as_bytes());
            let path = entry.path();
            if ours && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                // What cannot be removed now is tried again by the next run.
                drop(fs::remove_file(path));
            }
        }
        Self(dir)
    }

    /// An empty file that only its owner can read, and that is gone when it is dropped.
    pub(super) fn file(&self) -> io::Result<ScratchFile> {
        create_private_dir_all(&self.0)?;
        let mut temp = TempFile::new(&self.0)?;
        // Where locks do not exist, a run beside this one may take the name away: an error, no mixture.
        drop(temp.file().try_lock());
        let path = self.0.join(OsStr::from_bytes(temp.name()));
        Ok(ScratchFile { temp, path })
    }
}

/// A temporary file.
pub(super) struct ScratchFile {
    temp: TempFile,
    path: PathBuf,
}

impl ScratchFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&mut self) -> &mut File {
        self.temp.file()
    }
}

impl Write for ScratchFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temp.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.file().flush()
    }
}

/// Takes the image of a live database.
impl PageSink for ScratchFile {
    fn begin(&mut self, page_size: u32, page_count: u32) -> io::Result<()> {
        // Begins again when a first attempt was void.
        self.temp.file().set_len(0)?;
        self.temp.file().set_len(u64::from(page_size) * u64::from(page_count))
    }

    fn write(&mut self, offset: u64, page: &[u8]) -> io::Result<()> {
        self.temp.file().write_all_at(page, offset)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_and_go_with_their_run() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("scratch");
        let scratch = Scratch::new(folder.clone());
        let mut file = scratch.file().unwrap();
        Write::write_all(&mut file, b"secret").unwrap();
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        // What a killed run left goes; what is in use, and what is not ours, stays.
        let left = folder.join(".exuvia-tmp-1-1");
        fs::write(&left, b"secret").unwrap();
        fs::write(folder.join("other"), b"").unwrap();
        drop(Scratch::new(folder.clone()));
        assert!(!left.exists() && file.path().exists() && folder.join("other").exists());
        drop(file);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
