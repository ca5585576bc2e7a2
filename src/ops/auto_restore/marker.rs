//! What an auto-restore leaves in the state dir, so that the next one knows: a folder of its own with a
//! marker, the tree while it is being written, and what was set aside.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::fs::{self, Dir};

/// The folder, at the top of the state dir. A backup never looks into it.
pub const FOLDER: &str = ".exuvia-auto-restore";
const NAME: &str = "marker.json";
/// Longest marker read, in bytes; ours are a fraction of it.
const MAX: u64 = 4 << 20;
/// Directories that a marker names at most; who has more of them closed may lose a bit of mode in a crash.
pub(super) const MAX_CLOSED: usize = 4_000;
const VERSION: u32 = 1;

/// How far an auto-restore has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The tree is being written beside its place: to be started over.
    Restoring,
    /// The tree is complete and on its way to its place: to be carried on with, never started over.
    Placing,
    /// All is in place.
    Restored,
    /// The state dir was in use when it was first looked at.
    InUse,
}

/// The marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    version: u32,
    pub(super) stage: Stage,
    /// When this was decided, RFC 3339.
    pub(super) time: String,
    /// The snapshot's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<String>,
    /// The folder within ours that takes what was in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) aside: Option<String>,
    /// Directories that were made to have a state dir: itself and so many above it.
    #[serde(default)]
    pub(super) made: usize,
    /// Mode, and seconds and nanoseconds of the last modification, that the state dir will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<(u32, i64, u32)>,
    /// Directories at the top that are closed to writing, and so are opened while they are renamed: name in
    /// hex, and mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) closed: Vec<(String, u32)>,
}

impl Marker {
    pub(super) fn new(stage: Stage, time: String) -> Self {
        Self {
            version: VERSION,
            stage,
            time,
            snapshot: None,
            aside: None,
            made: 0,
            root: None,
            closed: Vec::new(),
        }
    }

    /// The marker of a state dir; `None` when there is none.
    pub(super) fn read(state_dir: &Path, dir: &Dir) -> Result<Option<Self>, Error> {
        let path = state_dir.join(FOLDER).join(NAME);
        let wrong = |message: String| Error::Marker { path: path.clone(), message };
        let opened = dir.open_dir(FOLDER.as_bytes()).and_then(|dir| dir.open_regular(NAME.as_bytes()));
        let file = match opened {
            Ok((file, _)) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(wrong(e.to_string())),
        };
        let mut bytes = Vec::new();
        file.take(MAX).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
        let marker: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        // It is joined to a path.
        let plain = |name: &String| name.starts_with("set-aside-") && !name.contains(['/', '\0']);
        if marker.version != VERSION || !marker.aside.iter().all(plain) {
            return Err(wrong("it was written by a later version".to_owned()));
        }
        Ok(Some(marker))
    }

    /// Puts the marker in place of the one that may be there. On return it is on stable storage.
    pub(super) fn write(&self, state_dir: &Path) -> Result<(), Error> {
        let folder = state_dir.join(FOLDER);
        let failed = |source| Error::StateDir { path: folder.clone(), source };
        fs::create_private_dir_all(&folder).map_err(failed)?;
        let text = serde_json::to_vec(self).map_err(|e| failed(io::Error::other(e)))?;
        fs::write_atomic(&folder, NAME, &text, 0o600).map_err(failed)
    }

    /// Takes the marker away.
    pub(super) fn remove(state_dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(state_dir.join(FOLDER).join(NAME)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(Marker::read(temp.path(), &dir).unwrap(), None);
        let mut marker = Marker::new(Stage::Restoring, "2026-01-01T00:00:00Z".into());
        marker.aside = Some("set-aside-20260101T000000Z".into());
        marker.made = 2;
        marker.write(temp.path()).unwrap();
        assert_eq!(Marker::read(temp.path(), &dir).unwrap(), Some(marker));
        Marker::remove(temp.path()).unwrap();
        Marker::remove(temp.path()).unwrap();
        assert_eq!(Marker::read(temp.path(), &dir).unwrap(), None);
    }

    #[test]
    fn a_strange_marker_stops_everything() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        for text in [
            "",
            "{}",
            r#"{"version":2,"stage":"restored","time":""}"#,
            r#"{"version":1,"stage":"lost","time":""}"#,
            r#"{"version":1,"stage":"placing","time":"","aside":"set-aside-/../../x"}"#,
            r#"{"version":1,"stage":"placing","time":"","aside":"../x"}"#,
        ] {
            std::fs::create_dir_all(temp.path().join(FOLDER)).unwrap();
            std::fs::write(temp.path().join(FOLDER).join(NAME), text).unwrap();
            assert!(matches!(Marker::read(temp.path(), &dir), Err(Error::Marker { .. })), "{text}");
        }
    }
}
