//! Where the content of each of the two trees is read.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scratch::{Scratch, ScratchFile};
use crate::fs::Dir;
use crate::gather::sqlite::{self, CaptureOptions, IntegrityCheck};
use crate::model::{Capture, Content, Entry, RepoPath};
use crate::ops::compare::Settle;
use crate::ops::content;
use crate::repo::{BlobReader, RepoError, load_slices};

/// How long to wait for a writer that holds a database exclusively.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why content cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// In the repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A live file, or a temporary one.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A live database.
    #[error(transparent)]
    Capture(#[from] sqlite::CaptureError),
}

impl From<content::Error> for ReadError {
    fn from(error: content::Error) -> Self {
        match error {
            content::Error::Repo(e) => Self::Repo(e),
            content::Error::Output(e) => Self::Io(e),
        }
    }
}

/// The live tree, as it is now.
pub(super) struct LiveTree {
    root: PathBuf,
    dir: Dir,
}

impl LiveTree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        // Without links, which SQLite refuses.
        let root = root.canonicalize()?;
        Ok(Self { dir: Dir::open(&root)?, root })
    }

    fn file(&self, path: &RepoPath) -> io::Result<std::fs::File> {
        let parent = self.dir.open_path(&path.parent().unwrap_or_default())?;
        parent.open_regular(path.name()).map(|(file, _)| file)
    }

    /// True when nothing has this path any more.
    pub(super) fn lacks(&self, path: &RepoPath) -> bool {
        let parent = path.parent().unwrap_or_default();
        let found = self.dir.open_path(&parent).and_then(|dir| dir.stat_at(path.name()));
        found.is_err_and(|e| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    }

    fn capture(&self, path: &RepoPath, mut file: ScratchFile) -> Result<ScratchFile, ReadError> {
        // The walk met directories that are no links; one that became a link since leads elsewhere.
        self.dir.open_path(&path.parent().unwrap_or_default())?;
        let options = CaptureOptions { integrity: IntegrityCheck::None, busy_timeout: BUSY_TIMEOUT };
        sqlite::capture(&self.root.join(path.to_os_path()), &options, &mut file)?;
        Ok(file)
    }
}

/// Where a tree's content is.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    Repository(&'a BlobReader<'a>),
    Live(&'a LiveTree),
}

impl Side<'_> {
    /// A file's content; at most `limit` bytes of it and one more.
    pub(super) fn read(self, entry: &Entry, limit: u64) -> Result<Vec<u8>, ReadError> {
        let Some(content) = entry.content() else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        match self {
            Self::Repository(blobs) => content::write_range(content, blobs, 0, limit + 1, &mut bytes)?,
            Self::Live(tree) => drop(tree.file(&entry.path)?.take(limit + 1).read_to_end(&mut bytes)?),
        }
        Ok(bytes)
    }

    /// A file's content as a file: of a live database a consistent image.
    pub(super) fn image(self, entry: &Entry, scratch: &Scratch) -> Result<ScratchFile, ReadError> {
        let mut file = scratch.file()?;
        let Some(content) = entry.content() else { return Ok(file) };
        match self {
            Self::Repository(blobs) => content::write_to(content, blobs, &mut file)?,
            Self::Live(tree) if matches!(content.capture, Capture::Sqlite { .. }) => {
                file = tree.capture(&entry.path, file)?;
            }
            Self::Live(tree) => drop(io::copy(&mut tree.file(&entry.path)?, &mut file)?),
        }
        Ok(file)
    }
}

/// Settles by reading what is live.
pub(super) struct LiveSettle<'a> {
    pub(super) blobs: &'a BlobReader<'a>,
    pub(super) tree: &'a LiveTree,
    pub(super) scratch: &'a Scratch,
}

impl Settle for LiveSettle<'_> {
    fn same_content(&self, old: &Entry, new: &Entry) -> Result<bool, RepoError> {
        let (Some(from), Some(to)) = (old.content(), new.content()) else { return Ok(false) };
        let same = match (from.capture, to.capture) {
            (Capture::Sqlite { page_size }, Capture::Sqlite { .. }) => self.same_image(from, new, page_size),
            _ => self.same_file(from, &new.path),
        };
        match same {
            Ok(same) => Ok(same),
            Err(ReadError::Repo(e)) => Err(e),
            // It changes under our eyes.
            Err(ReadError::Io(_) | ReadError::Capture(_)) => Ok(false),
        }
    }
}

impl LiveSettle<'_> {
    fn same_file(&self, old: &Content, path: &RepoPath) -> Result<bool, ReadError> {
        let file = self.tree.file(path)?;
        let slices = load_slices(old, self.blobs)?;
        Ok(content::has_content(file, old.hash.as_ref(), &slices, self.blobs)?)
    }

    fn same_image(&self, old: &Content, new: &Entry, page_size: u32) -> Result<bool, ReadError> {
        let mut image = Side::Live(self.tree).image(new, self.scratch)?;
        let file = image.file();
        if file.metadata()?.len() != old.size {
            return Ok(false);
        }
        let mut first = Vec::with_capacity(page_size as usize);
        content::write_range(old, self.blobs, 0, page_size.into(), &mut first)?;
        let mut live = vec![0; first.len()];
        file.read_exact_at(&mut live, 0)?;
        let mut rest =
            Comparing { file, at: page_size.into(), same: content::same_first_page(&first, &live) };
        if rest.same {
            content::write_range(old, self.blobs, page_size.into(), u64::MAX, &mut rest)?;
        }
        Ok(rest.same)
    }
}

/// Takes bytes and compares them with those of a file.
struct Comparing<'a> {
    file: &'a std::fs::File,
    at: u64,
    same: bool,
}

impl io::Write for Comparing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.same {
            let mut other = vec![0; bytes.len()];
            self.file.read_exact_at(&mut other, self.at)?;
            self.same = other == bytes;
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
