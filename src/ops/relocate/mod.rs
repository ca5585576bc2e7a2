//! Moves a restored state dir to another place: the absolute paths by which it names itself are changed,
//! in text files without touching anything else in them, in databases in one transaction each.
//!
//! Meant for a tree that nobody uses yet. What the paths are and where they stand is the application's
//! business and known to [`crate::gather::openclaw`].

mod database;
mod mapping;

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

pub use self::mapping::Mapping;
use crate::fs::{self, Dir};
use crate::gather::openclaw::{self, Profile};
use crate::gather::{json5, sqlite};
use crate::model::{Classify, ErrorClass, RepoPath};
use crate::report::Monitor;

/// Longest text file that is changed, in bytes.
const MAX_TEXT: u64 = 64 << 20;

/// Paths that were changed in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocated {
    /// The file or database.
    pub path: RepoPath,
    /// Of a database: table and column, as `cron_jobs.store_key`.
    pub place: Option<String>,
    /// How many strings or rows.
    pub count: u64,
}

/// Why a tree could not be moved as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("the paths in {path} cannot be changed: {source}")]
    File {
        /// It.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A database.
    #[error("the paths in the database {path} cannot be changed: {message}")]
    Database {
        /// It.
        path: PathBuf,
        /// SQLite's reason.
        message: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::File { .. } | Self::Database { .. } => ErrorClass::Failed,
            Self::Interrupted => ErrorClass::Interrupted,
        }
    }
}

/// Changes the paths in the tree at `tree`, which may itself lie in a third place.
///
/// A text that its application could not read either stays as it is, with a warning.
///
/// # Errors
///
/// When a file cannot be written or a database not changed; by then others have been.
pub fn run(
    tree: &Path,
    profile: Profile,
    mapping: &Mapping,
    monitor: &dyn Monitor,
) -> Result<Vec<Relocated>, Error> {
    let failed = |path: &RepoPath| {
        let path = tree.join(path.to_os_path());
        move |source| Error::File { path, source }
    };
    let root = Dir::open(tree).map_err(failed(&RepoPath::root()))?;
    let mut found = Vec::new();
    for path in openclaw::moved_files(profile, &root) {
        let count = text(&root, &path, mapping, monitor).map_err(failed(&path))?;
        found.extend((count > 0).then_some(Relocated { path, place: None, count }));
    }
    for path in profile.databases(&root) {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        let dir = root.open_path(&path.parent().unwrap_or_default()).map_err(failed(&path))?;
        if !is_database(&dir, &path).map_err(failed(&path))? {
            continue;
        }
        // A log comes and goes beside the database, which must not show afterwards.
        let before = dir.stat().map_err(failed(&path))?;
        let full = tree.join(path.to_os_path());
        let changed = database::run(&full, mapping)
            .map_err(|message| Error::Database { path: full.clone(), message })?;
        fs::set_times(&dir, before.mtime.into()).map_err(failed(&path))?;
        found.extend(changed.into_iter().map(|(place, count)| Relocated {
            path: path.clone(),
            place: Some(place),
            count,
        }));
    }
    Ok(found)
}

fn is_database(dir: &Dir, path: &RepoPath) -> io::Result<bool> {
    let (file, _) = dir.open_regular(path.name())?;
    let mut head = Vec::with_capacity(sqlite::MAGIC_LEN);
    file.take(sqlite::MAGIC_LEN as u64).read_to_end(&mut head)?;
    Ok(sqlite::is_sqlite(&head))
}

/// Changes the strings of a JSON5 file in place; returns how many.
fn text(root: &Dir, path: &RepoPath, mapping: &Mapping, monitor: &dyn Monitor) -> io::Result<u64> {
    let dir = root.open_path(&path.parent().unwrap_or_default())?;
    let (file, stat) = dir.open_regular(path.name())?;
    if stat.size > MAX_TEXT {
        monitor.warning(Some(path), "is too long for a text file: paths in it stay as they are");
        return Ok(0);
    }
    let mut bytes = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|e| e.to_string());
    let exchanged = text.and_then(|text| {
        json5::exchange(&text, &mut |string| mapping.apply(string)).map_err(|e| e.to_string())
    });
    match exchanged {
        Ok((_, 0)) => Ok(0),
        Ok((new, count)) => {
            let mut file = open_for_writing(&dir, path, stat.mode)?;
            file.rewind()?;
            file.write_all(new.as_bytes())?;
            file.set_len(new.len() as u64)?;
            fs::set_mode(&file, stat.mode, 0o7777)?;
            Ok(count)
        }
        Err(message) => {
            monitor.warning(Some(path), &format!("paths in it stay as they are: {message}"));
            Ok(0)
        }
    }
}

/// Opens a file of ours that may be closed to writing.
fn open_for_writing(dir: &Dir, path: &RepoPath, mode: u32) -> io::Result<std::fs::File> {
    match dir.open_file_rw(path.name()) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_mode_at(dir, path.name(), mode | 0o600, 0o7777)?;
            dir.open_file_rw(path.name())
        }
        result => result,
    }
}
