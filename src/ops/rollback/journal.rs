//! The note that a rollback leaves in the state dir while it changes it.
//!
//! It stands in the state dir itself and not in the cache: it is found by whoever looks at the directory,
//! with another cache, from another container or after a move, and the files that wait beside it to be
//! renamed into their places must be on the same file system anyway. It holds two names of snapshots and
//! no list of steps: both ends, "as in the snapshot" and "as it was before", are whole in the repository,
//! so going on or going back is a comparison of what is there with one of them.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::fs::{self, Dir};
use crate::model::{ObjectId, RepoPath};

/// The folder in the state dir; no walk enters it.
pub const FOLDER: &str = ".exuvia-rollback";
/// The note's name in the folder.
const NAME: &str = "journal.json";
/// Longest note read, in bytes.
const MAX: u64 = 1 << 20;
/// Version of what the note says.
const VERSION: u32 = 1;

/// A rollback that has begun to change the state dir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// What the state dir becomes.
    pub target: ObjectId,
    /// What it was: the safety snapshot.
    pub safety: ObjectId,
    /// Only these paths; all when empty.
    pub scope: Vec<RepoPath>,
    /// Files that the target lacks stay.
    pub keep_extra: bool,
    /// Owner and group are restored.
    pub owner: bool,
    /// Device files are made.
    pub devices: bool,
    /// The safety snapshot that stays the one to go back to, when this rollback goes on with, or takes back,
    /// one that was interrupted.
    pub resumes: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    version: u32,
    target: String,
    safety: String,
    scope_base64: Vec<String>,
    keep_extra: bool,
    owner: bool,
    devices: bool,
    resumes: bool,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

/// The folder for a state dir.
#[must_use]
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join(FOLDER)
}

impl Journal {
    /// The note of an unfinished rollback of `root`, if there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not what this version writes.
    pub fn read(root: &Path) -> io::Result<Option<Self>> {
        let open = || Dir::open(root)?.open_dir(FOLDER.as_bytes())?.open_regular(NAME.as_bytes());
        let file = match open() {
            Ok((file, _)) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut text = String::new();
        file.take(MAX).read_to_string(&mut text)?;
        Self::parse(&text).map(Some)
    }

    fn parse(text: &str) -> io::Result<Self> {
        let note: Note = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
        if note.version != VERSION {
            return Err(invalid(format!("version {} is not {VERSION}", note.version)));
        }
        let id = |text: &str| text.parse::<ObjectId>().map_err(|e| invalid(e.to_string()));
        let path = |text: &String| {
            let bytes = BASE64.decode(text.as_bytes()).map_err(|e| invalid(e.to_string()))?;
            RepoPath::new(bytes).map_err(|e| invalid(e.to_string()))
        };
        Ok(Self {
            target: id(&note.target)?,
            safety: id(&note.safety)?,
            scope: note.scope_base64.iter().map(path).collect::<Result<_, _>>()?,
            keep_extra: note.keep_extra,
            owner: note.owner,
            devices: note.devices,
            resumes: note.resumes,
        })
    }

    fn text(&self) -> io::Result<String> {
        let note = Note {
            version: VERSION,
            target: self.target.to_string(),
            safety: self.safety.to_string(),
            scope_base64: self.scope.iter().map(|p| BASE64.encode(p.as_bytes())).collect(),
            keep_extra: self.keep_extra,
            owner: self.owner,
            devices: self.devices,
            resumes: self.resumes,
        };
        serde_json::to_string_pretty(&note).map_err(io::Error::other)
    }

    /// Writes the note, durably, in place of an earlier one.
    pub(super) fn write(&self, root: &Path) -> io::Result<()> {
        fs::write_atomic(&folder(root), NAME, self.text()?.as_bytes(), 0o600)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Journal::read(dir.path()).unwrap(), None);
        std::fs::create_dir(folder(dir.path())).unwrap();
        assert_eq!(Journal::read(dir.path()).unwrap(), None);
        let journal = Journal {
            target: ObjectId([1; 32]),
            safety: ObjectId([2; 32]),
            scope: vec![RepoPath::new(b"a/\xff\n".to_vec()).unwrap()],
            keep_extra: true,
            owner: true,
            devices: false,
            resumes: false,
        };
        journal.write(dir.path()).unwrap();
        assert_eq!(Journal::read(dir.path()).unwrap(), Some(journal.clone()));
        let path = folder(dir.path()).join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("0101", "01"),
            ("\"resumes\"", "\"more\": 1, \"resumes\""),
            ("YS", "Ly"),
        ] {
            assert!(text.contains(from), "{from}");
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(Journal::read(dir.path()).is_err(), "{from} -> {to}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Journal::read(dir.path()).is_err(), "a link is not followed");
    }
}
