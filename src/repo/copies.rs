//! Local copies of small objects, and which repository was found at which place. Objects never change
//! and their names are hashes of their bytes, so a copy whose hash agrees is as good as the object.
//!
//! ```text
//! <cache>/<repository id>/objects/<name>   an object as stored
//! <cache>/<repository id>/key              the key that opened it last, wrapped in the passphrase
//! <cache>/<repository id>/removed-keys     ids of key objects that were removed from here, never to be kept again
//! <cache>/<repository id>/lists/<blob id>  a slice list, as plain as the manifests beside it
//! <cache>/locations/<hash of a place>      the marker that was found there
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::Folder;
use super::{Cache, RepoError};
use crate::crypto;
use crate::format::limits;
use crate::fs::{TempFile, create_private_dir_all, write_atomic};
use crate::model::{BlobId, KeyId, ObjectId};

const MODE: u32 = 0o600;
const KEY: &str = "key";
const REMOVED: &str = "removed-keys";
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

    fn list_path(&self, id: &BlobId) -> PathBuf {
        self.directory().join("lists").join(id.to_string())
    }

    /// The copy of a slice list; whether it is what its name says is for the caller to see.
    pub(super) fn list(&self, id: &BlobId) -> Option<Vec<u8>> {
        fs::read(self.list_path(id)).ok()
    }

    /// Keeps a copy of a slice list, so that the next change of its file need not fetch it.
    pub fn keep_list(&self, id: &BlobId, bytes: &[u8]) {
        // Failures cost a request later.
        drop(self.write("lists", &id.to_string(), bytes));
    }

    /// Forgets the copy of a slice list, if there is one.
    pub fn forget_list(&self, id: &BlobId) {
        drop(fs::remove_file(self.list_path(id)));
    }

    /// The key that opened the repository last: the id of its key object, and a key object that only this
    /// machine has.
    pub(super) fn key(&self) -> Option<(KeyId, Vec<u8>)> {
        let bytes = self.keeps_key().then(|| fs::read(self.directory().join(KEY)).ok()).flatten()?;
        let (id, object) = bytes.split_first_chunk::<32>()?;
        (!self.removed_keys().contains(id)).then(|| (KeyId(*id), object.to_vec()))
    }

    /// Keeps a key. One that cannot be kept costs time later.
    pub(super) fn keep_key(&self, id: &KeyId, object: &[u8]) {
        // A backup that opened the repository before the key was removed is no reason to.
        if !self.removed_keys().contains(&id.0) {
            drop(self.write("", KEY, &[&id.0, object].concat()));
        }
    }

    fn removed_keys(&self) -> Vec<[u8; 32]> {
        let bytes = fs::read(self.directory().join(REMOVED)).unwrap_or_default();
        bytes.as_chunks::<32>().0.to_vec()
    }

    /// Forgets a key whose key object is about to be removed, and never keeps it again.
    pub(super) fn forget_key_for_good(&self, id: &KeyId) -> Result<(), RepoError> {
        let mut removed = self.removed_keys();
        self.forget_key();
        if removed.contains(&id.0) {
            return Ok(());
        }
        removed.push(id.0);
        self.write("", REMOVED, removed.as_flattened())
    }

    /// Forgets the key.
    pub(super) fn forget_key(&self) {
        drop(fs::remove_file(self.directory().join(KEY)));
    }

    /// Forgets the copies of a folder's objects that are no longer there.
    pub(super) fn retain_copies(&self, folder: Folder, there: &BTreeSet<&str>) {
        let Ok(entries) = fs::read_dir(self.copies().join(folder.name())) else { return };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| !name.starts_with(TempFile::PREFIX))
            .map(|name| format!("{}/{name}", folder.name()))
            .filter(|name| !there.contains(name.as_str()))
            .for_each(|name| self.forget_copy(&name));
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
