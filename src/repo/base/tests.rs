//! The index with the table, compared with what the index objects say.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::{prop_assert, prop_oneof, proptest};

use super::{NAME, worth_taking};
use crate::format::index_v1::PackInfo;
use crate::format::pack_v1::{BlobInfo, FrameInfo};
use crate::format::sealed_v1::HEADER;
use crate::model::{BlobId, BlobKind, ObjectId};
use crate::remote::{Counting, Memory, Remote};
use crate::repo::layout::{Folder, ObjectInfo, pack_name};
use crate::repo::merge::{SMALL, write_index};
use crate::repo::tests::{passphrase, repository};
use crate::repo::{CachePlace, LoadedIndex, Repository, SharedIndex};

fn id(n: u32) -> BlobId {
    BlobId(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn pack_id(n: u32) -> ObjectId {
    ObjectId(*blake3::hash(&[&b"pack"[..], &n.to_le_bytes()].concat()).as_bytes())
}

fn pack(number: u32, blobs: &[u32]) -> PackInfo {
    let frames: Vec<_> = blobs
        .chunks(3)
        .map(|blobs| {
            let blobs: Vec<_> = blobs.iter().map(|&n| BlobInfo::new(id(n), 1 + n)).collect();
            let raw = blobs.iter().map(|blob| blob.length).sum();
            FrameInfo { stored: raw + 16, raw, compressed: false, kind: BlobKind::Data, blobs }
        })
        .collect();
    let stored: u64 = frames.iter().map(|frame| u64::from(frame.stored)).sum();
    PackInfo { id: pack_id(number), size: HEADER as u64 + stored + 1_000, frames }
}

struct World {
    dir: tempfile::TempDir,
    remote: Arc<Memory>,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        let (dir, remote) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
        let repository = repository(&remote, dir.path());
        Self { dir, remote, repository }
    }

    fn write(&self, packs: &[PackInfo], replaces: &[ObjectId]) -> ObjectInfo {
        write_index(&self.repository, packs, replaces).unwrap().remove(0)
    }

    fn load(&self) -> Arc<LoadedIndex> {
        SharedIndex::new(&self.repository).get().unwrap()
    }

    fn table(&self) -> PathBuf {
        self.repository.cache().directory().join(NAME)
    }
}

/// One thing that happens to a repository.
#[derive(Debug, Clone)]
enum Step {
    /// A backup publishes packs, each with so many blobs.
    Add(Vec<u8>),
    /// Objects are merged. Those that are replaced stay where deleting is not allowed.
    Merge { from: u8, keep: bool },
    /// A prune lists a pack no longer.
    Prune(u8),
    /// The packs of which the number has these bits are condemned.
    Load { condemned: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(0..30u8, 1..4).prop_map(Step::Add),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(from, keep)| Step::Merge { from, keep }),
        1 => any::<u8>().prop_map(Step::Prune),
        4 => prop_oneof![2 => 0..1u8, 1 => any::<u8>()].prop_map(|condemned| Step::Load { condemned }),
    ]
}

/// What the index objects say, held plainly.
#[derive(Default)]
struct Model {
    objects: BTreeMap<ObjectId, (ObjectInfo, Vec<PackInfo>, Vec<ObjectId>)>,
    packs: u32,
    blobs: u32,
}

impl Model {
    fn add(&mut self, world: &World, packs: Vec<PackInfo>, replaces: Vec<ObjectId>) {
        if !packs.is_empty() {
            let object = world.write(&packs, &replaces);
            self.objects.insert(object.id, (object, packs, replaces));
        }
    }

    fn fresh(&mut self, blobs: u8) -> PackInfo {
        self.packs += 1;
        // Some of them are in an earlier pack too.
        let first = self.blobs.saturating_sub(u32::from(blobs) / 4);
        self.blobs = first + u32::from(blobs) + 1;
        pack(self.packs, &(first..self.blobs).collect::<Vec<_>>())
    }

    fn remove(&mut self, world: &World, id: &ObjectId) {
        let (object, ..) = self.objects.remove(id).unwrap();
        world.remote.delete(&object.name).unwrap();
    }

    fn step(&mut self, world: &World, step: &Step) {
        match step {
            Step::Add(packs) => {
                let packs = packs.iter().map(|&blobs| self.fresh(blobs)).collect();
                self.add(world, packs, Vec::new());
            }
            Step::Merge { from, keep } => {
                let old: Vec<_> = self.objects.keys().copied().skip(usize::from(from % 4)).take(3).collect();
                let mut packs: Vec<_> = old.iter().flat_map(|id| self.objects[id].1.clone()).collect();
                packs.sort_by_key(|pack| pack.id);
                packs.dedup_by_key(|pack| pack.id);
                self.add(world, packs, old.clone());
                if !keep {
                    old.iter().for_each(|id| self.remove(world, id));
                }
            }
            Step::Prune(which) => {
                let Some(id) = self.objects.keys().copied().nth(usize::from(which % 5)) else { return };
                let packs = self.objects[&id].1[1..].to_vec();
                self.add(world, packs, vec![id]);
                self.remove(world, &id);
            }
            Step::Load { condemned } => self.compare(world, *condemned),
        }
    }

    fn compare(&self, world: &World, bits: u8) {
        let bits = u32::from(bits);
        let condemned: BTreeSet<_> =
            (1..=self.packs).filter(|n| bits != 0 && n & bits == bits).map(pack_id).collect();
        let all = || self.objects.values().flat_map(|(_, packs, _)| packs);
        let good: BTreeMap<_, _> =
            all().filter(|pack| !condemned.contains(&pack.id)).map(|pack| (pack.id, pack)).collect();
        let blobs = |pack: &PackInfo| {
            pack.frames.iter().flat_map(|frame| &frame.blobs).map(BlobInfo::id).collect::<Vec<_>>()
        };
        let there: BTreeSet<_> = good.values().flat_map(|pack| blobs(pack)).collect();

        let shared = SharedIndex::without(&world.repository, condemned.clone(), None);
        let loaded = shared.get().unwrap();
        let index = &loaded.index;
        for id in (0..self.blobs + 5).map(id) {
            assert_eq!(index.contains(&id).unwrap(), there.contains(&id));
            let Some(place) = index.get(&id).unwrap() else { continue };
            let (pack, frame) = index.frame(place.pack, place.frame).unwrap().unwrap();
            let listed = &good[&pack].frames[place.frame as usize];
            let mut offset = 0;
            let lengths = listed.blobs.iter().map(|blob| {
                let start = offset;
                offset += blob.length;
                (blob.id(), (start, blob.length))
            });
            assert_eq!(lengths.collect::<BTreeMap<_, _>>()[&id], (place.offset, place.length));
            let before: u64 =
                good[&pack].frames[..place.frame as usize].iter().map(|f| u64::from(f.stored)).sum();
            assert_eq!(frame.offset, HEADER as u64 + before);
            assert_eq!((frame.stored, frame.raw), (listed.stored, listed.raw));
        }
        let found: Vec<_> = index.blobs().map(|blob| blob.unwrap().0).collect();
        assert_eq!(found.len(), there.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), there);
        let packs = index.packs().unwrap();
        assert_eq!(packs.len(), good.len());
        for (number, summary) in (0u32..).zip(packs.iter()) {
            assert_eq!(summary.size, good[&summary.id].size);
            assert_eq!(index.frame(number, 0).unwrap().unwrap().0, summary.id);
        }
        for n in 1..=self.packs {
            assert_eq!(index.contains_pack(&pack_id(n)).unwrap(), good.contains_key(&pack_id(n)));
        }
        for id in all().flat_map(blobs) {
            assert_eq!(loaded.may_keep(&id).unwrap(), condemned.is_empty() || there.contains(&id));
        }
        let replaced: BTreeSet<_> = self.objects.values().flat_map(|(_, _, r)| r).collect();
        let objects = self.objects.values().map(|(object, ..)| object);
        let objects: Vec<_> = objects.filter(|o| !replaced.contains(&o.id)).cloned().collect();
        assert_eq!(loaded.objects, objects);
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(96))]
    #[test]
    fn every_history_gives_the_same_index_as_without_a_table(steps in vec(step(), 1..25)) {
        let (world, mut model) = (World::new(), Model::default());
        for step in &steps {
            model.step(&world, step);
        }
        model.compare(&world, 0);
        // One that was made from objects that are all gone may still lie there; nobody uses it.
        prop_assert!(world.table().exists() || model.objects.is_empty());
        model.compare(&world, 0);
        model.compare(&world, 1);
        prop_assert!(!world.load().remembered);
    }
}

#[test]
fn with_the_table_no_index_object_is_read() {
    let world = World::new();
    for n in 0..3 {
        world.write(&[pack(n, &[10 * n, 10 * n + 1])], &[]);
    }
    world.load();
    fs::remove_dir_all(world.repository.cache().directory().join("objects")).unwrap();
    let counting = Arc::new(Counting::new(Arc::clone(&world.remote) as _));
    let caches = CachePlace { dir: world.dir.path(), keeps_key: true };
    let again = Repository::open(Arc::clone(&counting) as Arc<dyn Remote>, &passphrase(), caches).unwrap();
    let before = counting.counts().get;
    let loaded = SharedIndex::new(&again).get().unwrap();
    assert!((0..3).all(|n| loaded.index.contains(&id(10 * n + 1)).unwrap()));
    assert_eq!(counting.counts().get, before);
    // Who wants to see what the remote has reads it all.
    let loaded = SharedIndex::new(&again.without_copies()).get().unwrap();
    assert_eq!(loaded.index.packs().unwrap().len(), 3);
    assert_eq!(counting.counts().get, before + 3);
}

#[test]
fn without_copies_no_table_is_believed_or_written() {
    let world = World::new();
    world.write(&[pack(1, &[1])], &[]);
    SharedIndex::new(&world.repository.without_copies()).get().unwrap();
    assert!(!world.table().exists());
}

#[test]
fn packs_that_are_not_published_stay_out_of_the_table() {
    let world = World::new();
    world.write(&[pack(1, &[1])], &[]);
    let pending = pack(2, &[2]);
    let size = usize::try_from(pending.size).unwrap();
    world.remote.put(&pack_name(&pending.id), &vec![0; size]).unwrap();
    world.repository.cache().note_pending(&pending).unwrap();
    for _ in 0..2 {
        let loaded = world.load();
        assert_eq!(loaded.adopted, std::slice::from_ref(&pending));
        assert!(loaded.index.contains(&id(2)).unwrap());
    }
    world.remote.delete(&pack_name(&pending.id)).unwrap();
    let loaded = world.load();
    assert!(world.table().exists() && loaded.adopted.is_empty());
    assert!(loaded.index.contains(&id(1)).unwrap() && !loaded.index.contains(&id(2)).unwrap());
}

#[test]
fn what_is_damaged_under_a_reader_is_read_from_the_index_objects() {
    let world = World::new();
    let packs: Vec<_> = (0..20).map(|n| pack(n, &(n * 50..n * 50 + 50).collect::<Vec<_>>())).collect();
    world.write(&packs[..10], &[]);
    world.write(&packs[10..], &[]);
    for damage in [0, 4_096 * 3, 4_096 * 12 + 50, 4_096 * 14] {
        let loaded = world.load();
        let place = |n| loaded.index.get(&id(n)).unwrap();
        // Handed out before; its pack must still be meant by this number.
        let early = place(777).unwrap();
        let mut bytes = fs::read(world.table()).unwrap();
        let good = bytes.clone();
        bytes[damage] ^= 1;
        fs::write(world.table(), &bytes).unwrap();
        for n in 0..1_000 {
            let place = place(n).unwrap();
            let (pack, _) = loaded.index.frame(place.pack, place.frame).unwrap().unwrap();
            assert_eq!(pack, pack_id(n / 50));
        }
        assert_eq!(place(1_000), None);
        assert_eq!(loaded.index.frame(early.pack, early.frame).unwrap().unwrap().0, pack_id(777 / 50));
        assert_eq!(loaded.index.packs().unwrap().len(), 20);
        assert!(!world.table().exists(), "what was found damaged is gone");
        world.load();
        let anew = fs::read(world.table()).unwrap();
        assert_eq!(anew.len(), good.len());
    }
    // Nothing is left of the file, and one of the objects is gone: that is an error, and no answer.
    let loaded = world.load();
    fs::OpenOptions::new().write(true).truncate(true).open(world.table()).unwrap();
    fs::remove_dir_all(world.repository.cache().directory().join("objects")).unwrap();
    let first = world.repository.list(Folder::Index).unwrap().remove(0);
    world.remote.delete(&first.name).unwrap();
    assert!(loaded.index.contains(&id(1)).is_err() && loaded.index.contains(&id(5_000)).is_err());
}

#[test]
fn a_cache_that_cannot_be_written_does_no_harm() {
    let world = World::new();
    world.write(&[pack(1, &[1])], &[]);
    // Nothing can take the place of a directory with something in it.
    fs::create_dir_all(world.table().join("x")).unwrap();
    assert!(world.load().index.contains(&id(1)).unwrap());
}

#[test]
fn small_objects_wait_until_they_are_many() {
    let object = |n: u8, size| ObjectInfo { name: n.to_string(), time: None, id: ObjectId([n; 32]), size };
    let taken = |taken: &[ObjectInfo], all: &[ObjectInfo]| worth_taking(taken, all).len();
    let large = [object(1, 20 * SMALL), object(2, 20 * SMALL)];
    let few: Vec<_> = (3..10).map(|n| object(n, SMALL / 2)).collect();
    let many: Vec<_> = (3..30).map(|n| object(n, SMALL / 2)).collect();
    assert_eq!(taken(&[], &large), 2);
    assert_eq!(taken(&[], &few), few.len());
    assert_eq!(taken(&[], &[&large[..], &few[..]].concat()), 2);
    assert_eq!(taken(&large, &[&large[..], &few[..]].concat()), 0);
    assert_eq!(taken(&large, &[&large[..], &many[..]].concat()), many.len());
    assert_eq!(taken(&large, &[&large[..], &[object(40, 2 * SMALL)]].concat()), 0);
    assert_eq!(taken(&large, &large), 0);
}
