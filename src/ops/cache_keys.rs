//! Names of files in the cache, and what ties them to a snapshot: backup and restore agree on them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::model::{Content, ContentHash, RepoPath, Slice, Slices};

fn key(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex()[..32].to_string()
}

/// Name of the last manifest of a root, of which only `paths` were taken.
pub(super) fn tree(root: &Path, paths: &[Vec<u8>]) -> String {
    let parts = std::iter::once(root.as_os_str().as_bytes()).chain(paths.iter().map(Vec::as_slice));
    key(&parts.collect::<Vec<_>>())
}

/// Name of the page table of a database.
pub(super) fn pages(root: &Path, path: &RepoPath) -> String {
    key(&[root.as_os_str().as_bytes(), path.as_bytes()])
}

/// What ties a page table to the content it describes.
pub(super) fn binding(content: &Content) -> Option<[u8; 32]> {
    match &content.slices {
        Slices::Inline(slices) => binding_of(content.hash.as_ref(), slices),
        Slices::Lists(_) => binding_of(content.hash.as_ref(), &[]),
    }
}

/// The same, from the parts of a content.
pub(super) fn binding_of(hash: Option<&ContentHash>, slices: &[Slice]) -> Option<[u8; 32]> {
    match (hash, slices) {
        (Some(hash), _) => Some(hash.hash),
        (None, [Slice::Blob { id, .. }]) => Some(id.0),
        _ => None,
    }
}
