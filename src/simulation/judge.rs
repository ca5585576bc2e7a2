//! Whether everything that was published is there, byte for byte, and nothing else is amiss.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use super::client::Client;
use super::world::{KEPT, Tree, World, phrase, silent};
use crate::clock::Clock;
use crate::crypto::sha256;
use crate::format::index_v1::PackInfo;
use crate::format::key_description_v1::KeyKind;
use crate::model::{ObjectId, Snapshot, SnapshotKind};
use crate::ops::check::{self, ReadData};
use crate::ops::content;
use crate::ops::repair::snapshots::TAG;
use crate::repo::{
    BlobReader, CachePlace, Catalog, Folder, Index, ManifestReader, RepoError, Repository, SharedIndex,
};

/// The repository as a machine without any history sees it.
pub(super) fn newcomer(world: &World, passphrase: &str) -> Result<Repository, RepoError> {
    let dir = world.path("newcomer");
    drop(fs::remove_dir_all(&dir));
    let remote = Client::observer(&world.provider);
    Repository::open(remote, &phrase(passphrase), CachePlace { dir: &dir, keeps_key: false })
}

/// Opens with whichever passphrase opens.
pub(super) fn open(world: &World) -> Result<Repository, RepoError> {
    newcomer(world, "first").or_else(|_| newcomer(world, "second"))
}

/// The same with the cache of one of the machines.
pub(super) fn open_with_cache(world: &World, machine: usize) -> Result<Repository, RepoError> {
    let remote = Client::observer(&world.provider);
    let caches = CachePlace { dir: &world.machines[machine].cache, keeps_key: true };
    let open = |text| Repository::open(Arc::clone(&remote), &phrase(text), caches);
    open("first").or_else(|_| open("second"))
}

/// Why a snapshot is not what it should be.
#[derive(Debug)]
enum Fault {
    /// It cannot be had, or not all of it.
    Lost(String),
    /// It was given out, and is something else.
    Wrong(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Lost(what) | Self::Wrong(what)) = self;
        f.write_str(what)
    }
}

/// Compares a snapshot with what its directory held.
fn compare(repository: &Repository, index: &Index, snapshot: &Snapshot, want: &Tree) -> Result<(), Fault> {
    let blobs = BlobReader::new(repository, index);
    let mut reader = ManifestReader::new(&blobs, snapshot.manifest);
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.next_entry().map_err(|e| Fault::Lost(e.to_string()))? {
        let Some(file) = entry.content() else { continue };
        let mut bytes = Vec::new();
        let read = content::write_to(file, &blobs, &mut bytes);
        read.map_err(|e| Fault::Lost(format!("{}: {e}", entry.path)))?;
        found.insert(entry.path.to_string(), bytes);
    }
    let mut want: BTreeMap<String, Vec<u8>> =
        want.iter().map(|(name, text)| (name.clone(), text.bytes())).collect();
    if is_repaired(snapshot) {
        // What is left out is said, and nothing else is.
        let left_out: BTreeSet<_> = snapshot.errors.iter().map(|e| e.path.to_string()).collect();
        want.retain(|name, _| !left_out.contains(name));
    }
    if found == want {
        return Ok(());
    }
    let differ = found.keys().chain(want.keys()).filter(|name| found.get(*name) != want.get(*name));
    Err(Fault::Wrong(format!("differs in {:?}", differ.collect::<BTreeSet<_>>())))
}

/// A repair made it, of one that something is lost of.
fn is_repaired(snapshot: &Snapshot) -> bool {
    snapshot.tags.iter().any(|tag| tag == TAG)
}

/// What a snapshot must hold, by the number in its time. One that a repair made comes just after its original.
fn wanted<'a>(world: &'a World, snapshot: &Snapshot) -> Option<&'a Tree> {
    world.trees.get(&(snapshot.time.nanos - u32::from(is_repaired(snapshot))))
}

/// Reads all snapshots, and compares each with what it must hold. Returns those found. What `torn` names may be
/// unreadable.
fn snapshots(
    world: &World,
    repository: &Repository,
    torn: Option<&str>,
) -> Result<BTreeSet<ObjectId>, String> {
    let mut found = BTreeSet::new();
    let mut index = None;
    for kind in [SnapshotKind::Regular, SnapshotKind::Safety] {
        let catalog = Catalog::load(repository, kind).map_err(|e| e.to_string())?;
        for entry in catalog.entries() {
            let snapshot = match repository.snapshot(entry) {
                Ok(snapshot) => snapshot,
                Err(_) if torn == Some(&entry.name) => continue,
                Err(e) => return Err(format!("{}: {e}", entry.name)),
            };
            let want = wanted(world, &snapshot).ok_or_else(|| format!("{} is nobody's", entry.name))?;
            if index.is_none() {
                index = Some(SharedIndex::new(repository).get().map_err(|e| format!("index: {e}"))?);
            }
            let Some(index) = &index else { continue };
            match compare(repository, &index.index, &snapshot, want) {
                Err(Fault::Lost(_)) if world.hurt.contains(&entry.name) => {}
                Err(e) => return Err(format!("{}: {e}", entry.name)),
                Ok(()) => {}
            }
            found.insert(entry.id);
        }
    }
    match world.promised.iter().find(|id| !found.contains(id)) {
        Some(lost) => Err(format!("snapshot {} was reported, and is gone", lost.short())),
        None => Ok(found),
    }
}

/// Every published snapshot is there as it was taken, as a machine sees it that has never been here.
pub(super) fn published(world: &World) -> Result<(), String> {
    let fresh = open(world).map_err(|e| format!("open: {e}"))?.without_copies();
    snapshots(world, &fresh, None).map(drop)
}

/// The same, and as `machine` sees it with its cache.
pub(super) fn nothing_is_lost(world: &World, machine: usize, torn: Option<&str>) -> Result<(), String> {
    let fresh = open(world).map_err(|e| format!("open: {e}"))?.without_copies();
    let all = snapshots(world, &fresh, torn).map_err(|e| format!("without a cache: {e}"))?;
    let old = open_with_cache(world, machine).map_err(|e| format!("open with a cache: {e}"))?;
    let same = snapshots(world, &old, torn).map_err(|e| format!("with a cache: {e}"))?;
    if all == same { Ok(()) } else { Err("a cache hides snapshots".into()) }
}

/// It is there, and its content does not match its name: nobody has removed it meanwhile, or stored it again.
pub(super) fn is_torn(world: &World, name: &str) -> bool {
    let bytes = world.provider.stored().get(name);
    bytes.is_ok_and(|bytes| !name.ends_with(&data_encoding::HEXLOWER.encode(&sha256(&bytes))))
}

/// A check finds nothing, or just the object that was torn.
pub(super) fn check(world: &World, torn: Option<&str>) -> Result<(), String> {
    let repository = open(world).map_err(|e| format!("open: {e}"))?;
    let clock: Arc<dyn Clock> = Arc::clone(&world.machines[0].clock) as _;
    let outcome = check::run(&repository, ReadData::All, 1, &silent(), &clock).map_err(|e| e.to_string())?;
    let named = outcome.problems.iter().map(|problem| problem.object.as_str());
    let named: BTreeSet<_> = named.filter(|name| !world.hurt.contains(*name)).collect();
    let torn = torn.filter(|name| is_torn(world, name));
    let notes = outcome.notes.join("\n");
    match torn {
        None if named.is_empty() => Ok(()),
        // A pack that no index lists is nobody's: a note, until it is pruned.
        Some(name) if named.is_empty() && notes.contains(name) => Ok(()),
        Some(name) if named.iter().eq([&name]) => Ok(()),
        _ => Err(format!("check finds {:?}, where {torn:?} is damaged", outcome.problems)),
    }
}

/// The regular snapshots: id, seconds of the time, and the number of the operation that made it.
pub(super) fn regular(world: &World) -> Result<Vec<(ObjectId, i64, u32)>, RepoError> {
    let repository = open(world)?.without_copies();
    let catalog = Catalog::load(&repository, SnapshotKind::Regular)?;
    let one = |entry: &crate::repo::CatalogEntry| {
        repository.snapshot(entry).map(|snapshot| (entry.id, snapshot.time.secs, snapshot.time.nanos))
    };
    Ok(catalog.entries().iter().filter_map(|entry| one(entry).ok()).collect())
}

/// What the index says of the packs.
pub(super) fn packs(world: &World) -> Vec<PackInfo> {
    let repository = open(world).unwrap().without_copies();
    let objects = repository.list(Folder::Index).unwrap();
    objects.iter().flat_map(|object| repository.read_index(object).unwrap().packs).collect()
}

/// The snapshots that cannot be read.
pub(super) fn unreadable(world: &World) -> Result<BTreeMap<String, ObjectId>, String> {
    let repository = open(world).map_err(|e| e.to_string())?.without_copies();
    let loaded = SharedIndex::new(&repository).get().map_err(|e| e.to_string())?;
    let mut found = BTreeMap::new();
    for kind in [SnapshotKind::Regular, SnapshotKind::Safety] {
        for entry in Catalog::load(&repository, kind).map_err(|e| e.to_string())?.entries() {
            let snapshot = repository.snapshot(entry).map_err(|e| e.to_string())?;
            let want = wanted(world, &snapshot).ok_or("a snapshot of nobody")?;
            if compare(&repository, &loaded.index, &snapshot, want).is_err() {
                found.insert(entry.name.clone(), entry.id);
            }
        }
    }
    Ok(found)
}

/// How many keys of owners there are, as the holder of the first passphrase sees them.
pub(super) fn owner_keys(world: &World) -> Result<usize, String> {
    let repository = newcomer(world, "first").map_err(|e| e.to_string())?;
    let keys = repository.keys(&phrase("first")).map_err(|e| e.to_string())?;
    let kinds = keys.iter().filter_map(|key| key.description.as_ref());
    Ok(kinds.filter(|description| description.kind == KeyKind::Owner).count())
}

/// Somebody accepted a marked snapshot.
pub(super) fn is_accepted(world: &World, target: ObjectId) -> Result<(), String> {
    let repository = open(world).map_err(|e| e.to_string())?.without_copies();
    let objects = repository.list(Folder::Accepted).map_err(|e| e.to_string())?;
    let named = objects.iter().filter_map(|object| repository.read_acceptance(object).ok());
    let found = named.flat_map(|acceptance| acceptance.snapshots).any(|id| id == target);
    if found { Ok(()) } else { Err("it is not accepted".into()) }
}

/// No machine has more regular snapshots than the policy keeps.
pub(super) fn policy_holds(world: &World) -> Result<(), String> {
    let mut counts = BTreeMap::new();
    for (_, _, number) in regular(world).map_err(|e| e.to_string())? {
        *counts.entry(world.maker(number)).or_insert(0u32) += 1;
    }
    match counts.values().max() {
        Some(&most) if most > KEPT => Err(format!("{most} snapshots of one machine are left")),
        _ => Ok(()),
    }
}

/// Every damaged pack that is still there is condemned.
pub(super) fn all_are_condemned(world: &World) -> Result<(), String> {
    let repository = open(world).map_err(|e| e.to_string())?.without_copies();
    let records = world.provider.names("gc").into_iter().collect();
    let condemned = repository.condemned(&records).map_err(|e| e.to_string())?;
    let there = world.provider.names("packs");
    for pack in world.hurt.iter().filter(|name| there.contains(name)) {
        let id: ObjectId = pack.rsplit('/').next().unwrap().parse().map_err(|_| "a name without an id")?;
        if !condemned.contains(&id) {
            return Err(format!("{pack} is not condemned"));
        }
    }
    Ok(())
}

/// Every snapshot that cannot be read has one beside it, or in its place, that holds what is left of it.
pub(super) fn all_are_repaired(world: &World, originals_stay: bool) -> Result<(), String> {
    let repository = open(world).map_err(|e| e.to_string())?.without_copies();
    let (mut there, mut repaired) = (BTreeSet::new(), BTreeSet::new());
    for kind in [SnapshotKind::Regular, SnapshotKind::Safety] {
        for entry in Catalog::load(&repository, kind).map_err(|e| e.to_string())?.entries() {
            // One that was torn while it was written is nobody's.
            let Ok(snapshot) = repository.snapshot(entry) else { continue };
            if is_repaired(&snapshot) {
                repaired.insert(snapshot.parent);
                continue;
            }
            there.insert(entry.name.clone());
        }
    }
    for name in world.hurt.iter().filter(|name| !name.starts_with("packs/")) {
        let id: ObjectId = name.rsplit('-').next().unwrap().parse().map_err(|_| "a name without an id")?;
        if !repaired.contains(&Some(id)) {
            return Err(format!("nothing was made of {name}"));
        }
        if there.contains(name) != originals_stay {
            return Err(format!("{name} is {}there", if originals_stay { "not " } else { "" }));
        }
    }
    Ok(())
}

/// Whatever can be read of the snapshots is right.
pub(super) fn nothing_is_wrong(world: &World, repository: &Repository) -> Result<(), String> {
    let Ok(loaded) = SharedIndex::new(repository).get() else { return Ok(()) };
    for kind in [SnapshotKind::Regular, SnapshotKind::Safety] {
        let Ok(catalog) = Catalog::load(repository, kind) else { continue };
        for entry in catalog.entries() {
            let Ok(snapshot) = repository.snapshot(entry) else { continue };
            let want = wanted(world, &snapshot).ok_or("a snapshot of nobody")?;
            if let Err(Fault::Wrong(what)) = compare(repository, &loaded.index, &snapshot, want) {
                return Err(format!("{}: {what}", entry.name));
            }
        }
    }
    Ok(())
}

/// A check by a machine, which remembers what it finds.
pub(super) fn check_from(world: &World, machine: usize) {
    let clock: Arc<dyn Clock> = Arc::clone(&world.machines[machine].clock) as _;
    if let Ok(repository) = open_with_cache(world, machine) {
        drop(check::run(&repository, ReadData::All, 1, &silent(), &clock));
    }
}

/// One snapshot is whole.
pub(super) fn reads(world: &World, id: ObjectId) -> Result<(), String> {
    let repository = open(world).map_err(|e| e.to_string())?.without_copies();
    let loaded = SharedIndex::new(&repository).get().map_err(|e| e.to_string())?;
    let catalog = Catalog::load(&repository, SnapshotKind::Regular).map_err(|e| e.to_string())?;
    let entry = catalog.entries().iter().find(|entry| entry.id == id).ok_or("it is gone")?;
    let snapshot = repository.snapshot(entry).map_err(|e| e.to_string())?;
    let want = wanted(world, &snapshot).ok_or("a snapshot of nobody")?;
    compare(&repository, &loaded.index, &snapshot, want).map_err(|e| e.to_string())
}

/// Nothing is there that nobody needs: without any one of the packs a snapshot could not be read.
pub(super) fn nothing_is_too_much(world: &World) -> Result<(), String> {
    for pack in world.provider.names("packs") {
        let bytes = world.provider.remove(&pack).unwrap();
        let needed = published(world).is_err();
        world.provider.plant(&pack, &bytes);
        if !needed {
            return Err(format!("nobody needs {pack}"));
        }
    }
    Ok(())
}
