//! When index objects are merged.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::format::pack_v1::{BlobInfo, FrameInfo};
use crate::model::{BlobId, BlobKind};
use crate::repo::key_changes::tests::rigged;

fn pack(n: usize, length: u32) -> PackInfo {
    let id = *blake3::hash(&n.to_le_bytes()).as_bytes();
    let blobs = vec![BlobInfo::new(BlobId(id), length)];
    let frame =
        FrameInfo { stored: length + 16, raw: length, compressed: false, kind: BlobKind::Data, blobs };
    PackInfo { id: ObjectId(id), size: 1_000, frames: vec![frame] }
}

#[test]
fn objects_that_contradict_each_other_are_none_of_the_many() {
    let dir = tempfile::tempdir().unwrap();
    for (agreeing, left) in [(MANY - 1, MANY + 1), (MANY, 3), (MANY + 1, 3)] {
        let (_, repository) = rigged(&dir.path().join(agreeing.to_string()));
        for n in 0..agreeing {
            repository.publish_index(&[pack(n, 10)]).unwrap();
        }
        let disputed = pack(1_000, 10);
        repository.publish_index(std::slice::from_ref(&disputed)).unwrap();
        repository.publish_index(&[pack(1_001, 10), PackInfo { size: 2_000, ..disputed }]).unwrap();
        let there = repository.list(Folder::Index).unwrap();
        let after = repository.merge_index(there).unwrap();
        assert_eq!(after.len(), left, "{agreeing}");
        let names: BTreeSet<_> = after.into_iter().map(|object| object.id).collect();
        let listed: BTreeSet<_> =
            repository.list(Folder::Index).unwrap().into_iter().map(|object| object.id).collect();
        assert_eq!(names, listed);
    }
}
