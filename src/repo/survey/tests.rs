//! What is read of an index that changes, is damaged, or cannot be reached.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::format::pack_v1::{BlobInfo, FrameInfo};
use crate::model::{BlobId, BlobKind};
use crate::remote::{Remote as _, RemoteError, Verb};
use crate::repo::key_changes::tests::{Rigged, refused, rigged};
use crate::repo::merge::write_index;
use crate::repo::tests::passphrase;
use crate::repo::{CachePlace, Census};

fn pack(n: u8) -> PackInfo {
    let blobs = vec![BlobInfo::new(BlobId([n; 32]), 10)];
    let frame = FrameInfo { stored: 26, raw: 10, compressed: false, kind: BlobKind::Data, blobs };
    PackInfo { id: ObjectId([n; 32]), size: 1_000, frames: vec![frame] }
}

/// What reads of one object say.
fn reads(remote: &Rigged, of: &ObjectInfo, answer: fn(&str) -> RemoteError) {
    let of = of.name.clone();
    Rigged::set(&remote.get, move |_, name| (name == of).then(|| Err(answer(name))));
}

/// Runs on a machine that can keep no copy of any object: its cache is no folder.
fn elsewhere<T>(remote: &Arc<Rigged>, run: impl FnOnce(&Repository) -> T) -> T {
    let cache = tempfile::NamedTempFile::new().unwrap();
    let caches = CachePlace { dir: cache.path(), keeps_key: false };
    run(&Repository::open(Arc::clone(remote) as _, &passphrase(), caches).unwrap())
}

fn gone(name: &str) -> RemoteError {
    RemoteError::NotFound { name: name.into() }
}

fn unreachable(name: &str) -> RemoteError {
    refused(Verb::Get, name)
}

#[test]
fn a_remote_that_fails_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let [one, two] = [1, 2].map(|n| repository.publish_index(&[pack(n)]).unwrap().remove(0));
    let objects = [one, two.clone()];
    let packs = BTreeSet::from([1, 2].map(|n| ObjectId([n; 32])));
    let load = |poor| {
        let survey = elsewhere(&remote, |repository| Survey::load(repository, &objects, |_| poor));
        survey.map(|survey| survey.unreadable.len())
    };
    let good = |_: &ObjectId| Standing::Good;
    // What another object replaces may be damaged.
    let heir = write_index(&repository, &[pack(1), pack(2)], &[objects[0].id, two.id]).unwrap().remove(0);
    let all = [&objects[..], &[heir]].concat();
    let census = || elsewhere(&remote, |machine| Census::take(machine, &all, &[], &good).map(drop));
    let details =
        || elsewhere(&remote, |machine| Survey::details(machine, &objects, &packs).map(|all| all.len()));
    assert_eq!((load(Standing::Good).unwrap(), details().unwrap()), (0, 2));
    census().unwrap();

    reads(&remote, &two, unreachable);
    let failed = [load(Standing::Good).err(), census().err(), details().err()];
    assert!(failed.iter().all(Option::is_some), "{failed:?}");
    remote.honest();

    let mut bytes = remote.memory.get(&two.name, 1 << 20).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    remote.memory.tamper(&two.name, bytes);
    census().unwrap();
    assert_eq!((load(Standing::Good).unwrap(), load(Standing::Bad).unwrap(), details().unwrap()), (1, 1, 1));
}

#[test]
fn packs_that_are_kept_back_in_too_great_number_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let packs: Vec<PackInfo> = (0..=u8::try_from(KEPT_BACK).unwrap()).map(pack).collect();
    let objects = [&packs[..1], &packs[1..]].map(|packs| repository.publish_index(packs).unwrap().remove(0));
    let load =
        || elsewhere(&remote, |repository| Survey::load(repository, &objects, |_| Standing::Condemned));
    let survey = load().unwrap();
    assert_eq!(survey.index().packs().unwrap().len(), packs.len());
    // The first reading succeeds, the second one does not.
    for (answer, loads) in [(unreachable as fn(&str) -> RemoteError, false), (damaged, true)] {
        let of = objects[1].name.clone();
        let read = AtomicBool::new(false);
        Rigged::set(&remote.get, move |_, name| {
            let again = name == of && read.swap(true, Ordering::Relaxed);
            again.then(|| Err(answer(name)))
        });
        assert_eq!(load().is_ok(), loads);
    }
}

fn damaged(name: &str) -> RemoteError {
    RemoteError::Size { name: name.into(), expected: 2, found: 1 }
}

#[test]
fn details_are_sought_where_they_went() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let [one, two] = [1, 2].map(|n| repository.publish_index(&[pack(n)]).unwrap().remove(0));
    let both = repository.publish_index(&[pack(1), pack(2)]).unwrap();
    let packs = BTreeSet::from([1, 2].map(|n| ObjectId([n; 32])));
    let seek = |objects: &[ObjectInfo]| {
        let found = elsewhere(&remote, |repository| Survey::details(repository, objects, &packs));
        found.unwrap().into_keys().collect::<Vec<_>>()
    };
    // Merged, and the old ones removed.
    repository.remote().delete(&two.name).unwrap();
    assert_eq!(seek(&[one.clone(), two.clone()]), [1, 2].map(|n| ObjectId([n; 32])));
    // Nothing is sought anew where nothing went.
    assert_eq!(seek(std::slice::from_ref(&one)), [ObjectId([1; 32])]);
    // What is listed and never there ends some time.
    reads(&remote, &both[0], gone);
    assert_eq!(seek(&[one, two]), [ObjectId([1; 32])]);
}
