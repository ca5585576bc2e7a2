//! Local copies of small objects, and which repository was found at which place. Objects never change
//! and their names are hashes of their bytes, so a copy whose hash agrees is as good as the object.
//!
//! ```text
//! <cache>/<repository id>/objects/<name>   an object as stored
//! <cache>/locations/<hash of a place>      the marker that was found there
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Cache;
use super::layout::Folder;
use crate::crypto;
use crate::format::limits;
use crate::fs::{TempFile, create_private_dir_all, write_atomic};
use crate::model::ObjectId;

const MODE: u32 = 0o600;
/// Beside the caches of the repositories.
pub(super) const LOCATIONS: &str = "locations";

impl Cache {
    fn copies(&self) -> PathBuf {
        self.directory().join("objects")
    }

    /// The copy of an object, if there is one and it has the hash `id`.
    pub(super) fn copy(&self, name: &str, id: &ObjectId) -> Option<Vec<u8>> {
        let bytes = fs::read(self.copies().join(name)).ok()?;
        (crypto::sha256(&bytes) == id.0).then_some(bytes)
    }

    /// Keeps a copy. One that cannot be kept costs a request later, so failures do not matter.
    pub(super) fn keep_copy(&self, name: &str, bytes: &[u8]) {
        let path = self.copies().join(name);
        if let (Some(folder), Some(base)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
            && create_private_dir_all(folder).is_ok()
        {
            drop(write_atomic(folder, base, bytes, MODE));
        }
    }

    /// Forgets the copy of an object.
    pub(super) fn forget_copy(&self, name: &str) {
        drop(fs::remove_file(self.copies().join(name)));
    }

    /// The names of the copies of a folder's objects.
    pub(super) fn copied(&self, folder: Folder) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.copies().join(folder.name())) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let ours = names.filter(|name| !name.starts_with(TempFile::PREFIX));
        ours.map(|name| format!("{}/{name}", folder.name())).collect()
    }

    /// Forgets the copies of a folder's objects that are no longer there.
    pub(super) fn retain_copies(&self, folder: Folder, there: &BTreeSet<&str>) {
        self.copied(folder)
            .iter()
            .filter(|name| !there.contains(name.as_str()))
            .for_each(|name| self.forget_copy(name));
    }
}

fn location_name(location: &str) -> String {
    blake3::hash(location.as_bytes()).to_hex().to_string()
}

/// The marker that was last found at a place; whether it is still there is for the caller to see.
pub(super) fn remembered_marker(base: &Path, location: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(base.join(LOCATIONS).join(location_name(location))).ok()?;
    (bytes.len() <= limits::MARKER).then_some(bytes)
}

/// Remembers the marker found at a place; failures cost a request later.
pub(super) fn remember_marker(base: &Path, location: &str, marker: &[u8]) {
    let folder = base.join(LOCATIONS);
    if remembered_marker(base, location).as_deref() != Some(marker) && create_private_dir_all(&folder).is_ok()
    {
        drop(write_atomic(&folder, &location_name(location), marker, MODE));
    }
}
