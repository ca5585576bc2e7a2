//! A remote that is a local directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::name::is_sound;
use super::{Listed, Remote, RemoteError, Streaming, Upload, Verb};
use crate::fs::{TempFile, create_private_dir_all, remove_file, sync_dir, write_new};

/// Temporary files begin so; listings leave them out.
const TEMPORARY: &str = TempFile::PREFIX;
/// Objects are never written again.
const OBJECT_MODE: u32 = 0o600;

/// Objects as files below a directory.
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// A remote in `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, verb: Verb, name: &str) -> Result<PathBuf, RemoteError> {
        if is_sound(name) {
            Ok(self.root.join(name))
        } else {
            Err(failure(verb, name, ErrorKind::InvalidInput.into()))
        }
    }

    fn writing(&self, folder: &str) -> Result<Writing, RemoteError> {
        let path = self.path(Verb::Put, folder)?;
        let begin = || {
            make_folder(&path, &self.root)?;
            Ok(Writing { root: self.root.clone(), folder: folder.to_string(), file: TempFile::new(&path)? })
        };
        begin().map_err(|e| failure(Verb::Put, folder, e))
    }

    fn open(&self, name: &str) -> Result<(File, u64), RemoteError> {
        let path = self.path(Verb::Get, name)?;
        let open = || {
            let file = File::open(&path)?;
            let meta = file.metadata()?;
            if meta.is_file() { Ok((file, meta.len())) } else { Err(io::Error::other("not a regular file")) }
        };
        open().map_err(|e| failure(Verb::Get, name, e))
    }
}

fn failure(verb: Verb, name: &str, source: io::Error) -> RemoteError {
    match source.kind() {
        ErrorKind::NotFound if verb != Verb::Put => RemoteError::NotFound { name: name.to_string() },
        _ => RemoteError::Io { verb, name: name.to_string(), source },
    }
}

/// A file under a temporary name in the top folder of its object.
struct Writing {
    root: PathBuf,
    folder: String,
    file: TempFile,
}

impl Upload for Writing {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.file.file().write_all(bytes).map_err(|e| failure(Verb::Put, &self.folder, e))
    }

    fn finish(self: Box<Self>, name: &str) -> Result<(), RemoteError> {
        match self.place(name) {
            Err(RemoteError::Exists { .. }) => Ok(()),
            other => other,
        }
    }
}

impl Writing {
    /// Gives the file its name unless that exists.
    fn place(self, name: &str) -> Result<(), RemoteError> {
        let Self { root, file, .. } = self;
        let path = Local::new(root.clone()).path(Verb::Put, name)?;
        store_at(&path, name, &root, |folder, base| file.persist_new_in(folder, base, OBJECT_MODE))
    }
}

/// The same for an object whose name is known.
struct NamedWriting {
    writing: Box<Writing>,
    name: String,
}

impl Streaming for NamedWriting {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.writing.file.file().write_all(bytes).map_err(|e| failure(Verb::Put, &self.name, e))
    }

    fn finish(self: Box<Self>) -> Result<(), RemoteError> {
        let Self { writing, name } = *self;
        writing.place(&name)
    }
}

/// Makes the folder of the object at `path` and lets `store` put it there, given folder and base name.
fn store_at(
    path: &Path,
    name: &str,
    root: &Path,
    store: impl FnOnce(&Path, &str) -> io::Result<()>,
) -> Result<(), RemoteError> {
    let (Some(folder), Some(base)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(failure(Verb::Put, name, ErrorKind::InvalidInput.into()));
    };
    match make_folder(folder, root).and_then(|()| store(folder, base)) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(RemoteError::Exists { name: name.to_string() }),
        other => other.map_err(|e| failure(Verb::Put, name, e)),
    }
}

fn make_folder(folder: &Path, root: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_private_dir_all(folder)?;
    sync_up_to(folder, root)
}

impl Remote for Local {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        let (file, found) = self.open(name)?;
        if found > max {
            return Err(RemoteError::Size { name: name.to_string(), expected: max, found });
        }
        read_exact_at(&file, name, 0, found)
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        let (file, found) = self.open(name)?;
        let expected = offset.saturating_add(len);
        if expected > found {
            return Err(RemoteError::Size { name: name.to_string(), expected, found });
        }
        read_exact_at(&file, name, offset, len)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        match self.create(name, bytes) {
            Err(RemoteError::Exists { .. }) => Ok(()),
            other => other,
        }
    }

    fn begin(&self, folder: &str) -> Result<Option<Box<dyn Upload>>, RemoteError> {
        Ok(Some(Box::new(self.writing(folder)?)))
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        let path = self.path(Verb::Put, name)?;
        if fs::symlink_metadata(&path).is_ok() {
            return Err(RemoteError::Exists { name: name.to_string() });
        }
        let Some((folder, _)) = name.split_once('/') else {
            return Err(failure(Verb::Put, name, ErrorKind::InvalidInput.into()));
        };
        let writing = Box::new(self.writing(folder)?);
        Ok(Box::new(NamedWriting { writing, name: name.to_string() }))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let path = self.path(Verb::Put, name)?;
        store_at(&path, name, &self.root, |folder, base| write_new(folder, base, bytes, OBJECT_MODE))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        let path = self.path(Verb::List, folder)?;
        let mut found = Vec::new();
        match collect(&path, folder, &mut found) {
            Err(e) if e.kind() == ErrorKind::NotFound && !path.exists() => Ok(Vec::new()),
            Err(e) => Err(failure(Verb::List, folder, e)),
            Ok(()) => Ok(found),
        }
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        let meta = fs::symlink_metadata(self.path(Verb::Stat, name)?);
        meta.map(|m| m.len()).map_err(|e| failure(Verb::Stat, name, e))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        match remove_file(&self.path(Verb::Delete, name)?) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| failure(Verb::Delete, name, e)),
        }
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn local_directory(&self) -> Option<PathBuf> {
        Some(self.root.clone())
    }
}

fn read_exact_at(file: &File, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
    let read = || {
        let len = usize::try_from(len).map_err(|_| ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    read().map_err(|e| failure(Verb::Get, name, e))
}

/// Makes the names of new folders durable, from `folder` up to and including `root`'s parent.
fn sync_up_to(folder: &Path, root: &Path) -> io::Result<()> {
    for dir in folder.ancestors().skip(1) {
        sync_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?;
        if !dir.starts_with(root) {
            break;
        }
    }
    Ok(())
}

fn collect(path: &Path, folder: &str, found: &mut Vec<Listed>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Names that are not UTF-8 are not ours.
        let Ok(base) = entry.file_name().into_string() else { continue };
        let name = format!("{folder}/{base}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &name, found)?;
        } else if kind.is_file() && !base.starts_with(TEMPORARY) {
            match entry.metadata() {
                Ok(meta) => found.push(Listed { name, size: meta.len() }),
                // Deleted by another client since the directory was read.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}
