//! Manifests of which a part is lost, over an index that does not fit into memory.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use super::snapshots::{self, Request};
use super::{Error, index, packs};
use crate::clock::{Clock, SystemClock};
use crate::format::index_v1::PackInfo;
use crate::format::pack_v1::BlobInfo;
use crate::format::segment_v1::{self, Segment};
use crate::model::{
    BlobId, BlobKind, Content, Entry, EntryKind, ManifestRef, Metadata, ObjectId, Reason, RepoPath, Slice,
    Slices, Snapshot, SnapshotKind, Stats, Timestamp, WriterId,
};
use crate::ops::check::{self, ReadData};
use crate::remote::{Memory, Remote};
use crate::repo::tests::repository;
use crate::repo::{
    BlobReader, Catalog, Folder, ManifestReader, ManifestWriter, ObjectInfo, Packer, PackerOptions,
    RepoError, Repository, SegmentSink, SharedIndex, pack_name,
};
use crate::report::{Monitor, Silent};

const FOLDERS: usize = 20;
const FILES: usize = 40;

/// A repository with one snapshot, every segment of whose manifest is in a pack of its own.
struct World {
    _dir: tempfile::TempDir,
    remote: Arc<Memory>,
    repository: Repository,
    snapshot: ObjectId,
    /// The packs of the leaves, and what is in them.
    leaves: Vec<(ObjectId, BTreeSet<RepoPath>)>,
    root: ObjectId,
    data: ObjectId,
    entries: Vec<Entry>,
}

struct Segments<'a> {
    repository: &'a Repository,
    leaves: Vec<(ObjectId, BTreeSet<RepoPath>)>,
    last: Option<ObjectId>,
}

fn store(repository: &Repository, kind: BlobKind, blobs: &[Vec<u8>]) -> ObjectId {
    let index = SharedIndex::new(repository);
    let packer = Packer::new(repository, PackerOptions::new(1), false, index);
    for blob in blobs {
        packer.add(kind, repository.sealer().keys.blob_id(kind, blob), blob).unwrap();
    }
    let listed = packer.publish().unwrap().listed;
    assert_eq!(listed.len(), 1);
    listed[0]
}

impl SegmentSink for Segments<'_> {
    fn store(&mut self, _: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        let id = self.repository.sealer().keys.blob_id(BlobKind::Meta, &bytes);
        let pack = store(self.repository, BlobKind::Meta, std::slice::from_ref(&bytes));
        if let Segment::Leaf(entries) = segment_v1::decode(&bytes).unwrap() {
            self.leaves.push((pack, entries.into_iter().map(|entry| entry.path).collect()));
        }
        self.last = Some(pack);
        Ok(id)
    }
}

fn path(text: &str) -> RepoPath {
    RepoPath::new(text.as_bytes().to_vec()).unwrap()
}

fn entry(text: &str, kind: EntryKind) -> Entry {
    let meta = Metadata { mode: 0o755, ..Metadata::default() };
    Entry { path: path(text), kind, meta, link_group: 0, unsettled: false }
}

fn content(number: usize) -> Vec<u8> {
    format!("content of file {number}").into_bytes()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let remote = Arc::<Memory>::default();
        let repository = repository(&remote, dir.path());
        let contents: Vec<_> = (0..FOLDERS * FILES).map(content).collect();
        let data = store(&repository, BlobKind::Data, &contents);
        let mut entries = vec![entry("", EntryKind::Directory)];
        for folder in 0..FOLDERS {
            entries.push(entry(&format!("d{folder:02}"), EntryKind::Directory));
            for file in 0..FILES {
                let bytes = &contents[folder * FILES + file];
                let id = repository.sealer().keys.blob_id(BlobKind::Data, bytes);
                let len = u32::try_from(bytes.len()).unwrap();
                let slices = Slices::Inline(vec![Slice::Blob { id, offset: 0, len }]);
                let content = Content { size: u64::from(len), slices, ..Content::default() };
                entries.push(entry(&format!("d{folder:02}/f{file:02}"), EntryKind::File(content)));
            }
        }
        let mut sink = Segments { repository: &repository, leaves: Vec::new(), last: None };
        let mut writer = ManifestWriter::default();
        entries.iter().for_each(|entry| writer.push(entry, &mut sink).unwrap());
        let manifest = writer.finish(&mut sink).unwrap();
        let Segments { leaves, last, .. } = sink;
        assert!(manifest.level > 0 && leaves.len() > 5, "{}", leaves.len());
        let snapshot = repository.publish_snapshot(&record(manifest), true).unwrap().id;
        Self { _dir: dir, remote, repository, snapshot, leaves, root: last.unwrap(), data, entries }
    }

    fn check(&self) -> check::Outcome {
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        check::run(&self.repository, ReadData::All, 2, &monitor, &clock).unwrap()
    }

    fn try_repair(&self) -> Result<snapshots::Outcome, Error> {
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let request = Request { dry_run: false, forget_originals: false, packer: PackerOptions::new(1) };
        snapshots::run(&self.repository, &request, &monitor, &clock)
    }

    fn repair(&self) -> snapshots::Outcome {
        self.try_repair().unwrap()
    }

    fn repair_packs(&self) -> Result<packs::Outcome, Error> {
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let options = PackerOptions::new(1);
        packs::run(&self.repository, &packs::Which::Known, options, false, &monitor, &clock)
    }

    fn repair_index(&self) -> index::Outcome {
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let plan = index::plan(&self.repository, false, monitor.as_ref()).unwrap();
        assert!(!plan.is_empty());
        index::run(&plan, 1, &monitor, &clock).unwrap()
    }

    /// The index object that lists the data pack, and what it says of it.
    fn listed(&self) -> (ObjectInfo, PackInfo) {
        let objects = self.repository.list(Folder::Index).unwrap();
        let found = objects.into_iter().find_map(|object| {
            let packs = self.repository.read_index(&object).unwrap().packs;
            Some((object, packs.into_iter().find(|pack| pack.id == self.data)?))
        });
        found.unwrap()
    }

    /// Somebody with a writer key says that the data pack holds something else.
    fn lie(&self, seed: u8) {
        let (_, mut pack) = self.listed();
        for blob in pack.frames.iter_mut().flat_map(|frame| &mut frame.blobs) {
            *blob = BlobInfo::new(
                BlobId(*blake3::hash(&[&blob.id().0[..], &[seed]].concat()).as_bytes()),
                blob.length,
            );
        }
        self.repository.publish_index(&[pack]).unwrap();
    }

    /// No repair but that of the index believes what is said, and after that one all is well.
    fn index_is_put_right(&self) {
        for refused in [self.repair_packs().map(drop), self.try_repair().map(drop)] {
            assert!(matches!(refused, Err(Error::Index(_))), "{refused:?}");
        }
        assert_eq!(self.repository.condemnations().unwrap(), []);
        self.repair_index();
        let found = self.check();
        assert_eq!((found.problems, found.packs), (Vec::new(), self.leaves.len() as u64 + 2));
        assert_eq!(self.repair().snapshots.len(), 0);
    }

    /// Takes a pack away for as long as something is done.
    fn without<T>(&self, pack: &ObjectId, what: impl FnOnce() -> T) -> T {
        let name = pack_name(pack);
        let bytes = self.remote.get(&name, 1 << 30).unwrap();
        self.remote.delete(&name).unwrap();
        let result = what();
        self.remote.put(&name, &bytes).unwrap();
        result
    }

    /// All entries of a snapshot; the reader proves what the format promises of them.
    fn read(&self, id: &ObjectId) -> Vec<Entry> {
        let catalog = Catalog::load(&self.repository, SnapshotKind::Regular).unwrap();
        let entry = catalog.entries().iter().find(|entry| entry.id == *id).unwrap();
        let snapshot = self.repository.snapshot(entry).unwrap();
        assert!(!snapshot.complete && snapshot.tags == ["repaired"], "{snapshot:?}");
        assert_eq!(snapshot.parent, Some(self.snapshot));
        let loaded = SharedIndex::new(&self.repository).get().unwrap();
        let blobs = BlobReader::new(&self.repository, &loaded.index);
        let mut reader = ManifestReader::new(&blobs, snapshot.manifest);
        let entries: Vec<Entry> =
            std::iter::from_fn(|| reader.next_entry().transpose()).map(Result::unwrap).collect();
        let files = entries.iter().filter(|entry| entry.content().is_some()).count();
        assert_eq!(snapshot.stats.files, files as u64);
        entries
    }

    fn forget(&self, id: &ObjectId) {
        let catalog = Catalog::load(&self.repository, SnapshotKind::Regular).unwrap();
        let entry = catalog.entries().iter().find(|entry| entry.id == *id).unwrap();
        self.repository.remove_snapshot(entry).unwrap();
    }
}

fn record(manifest: ManifestRef) -> Snapshot {
    Snapshot {
        time: Timestamp::from_secs(1_771_459_200),
        kind: SnapshotKind::Regular,
        reason: Reason::Manual,
        host: "host".into(),
        user: "user".into(),
        program: "test".into(),
        writer: WriterId([1; 16]),
        sequence: 1,
        parent: None,
        root: b"/state".to_vec(),
        paths: vec![b"/state".to_vec()],
        selection: Vec::new(),
        tags: Vec::new(),
        manifest,
        complete: true,
        errors: Vec::new(),
        error_count: 0,
        databases: Vec::new(),
        stats: Stats::default(),
        losses: Vec::new(),
    }
}

#[test]
fn a_lost_part_of_a_manifest_costs_only_what_was_in_it() {
    let world = World::new();
    for (pack, lost) in &world.leaves {
        let outcome = world.without(pack, || {
            let told = world.check().problems;
            let first = lost.first().unwrap().to_string();
            assert!(told.iter().any(|p| p.message.contains(&format!("from {first} "))), "{told:?}");
            world.repair()
        });
        let [damaged] = outcome.snapshots.as_slice() else { unreachable!("{outcome:?}") };
        assert!(damaged.lost_count > 0 && damaged.hopeless.is_none(), "{damaged:?}");
        let repaired = damaged.repaired.unwrap();
        let found = world.read(&repaired);
        let kept: Vec<&Entry> = world.entries.iter().filter(|e| !lost.contains(&e.path)).collect();
        // Nothing else is missing, and nothing is there that was not but folders that had to be made anew.
        let mut made = 0;
        for entry in &found {
            if kept.contains(&entry) {
                continue;
            }
            assert!(entry.is_dir() && lost.contains(&entry.path) && entry.meta.mode == 0o700, "{entry:?}");
            made += 1;
        }
        assert_eq!(found.len(), kept.len() + made);
        world.forget(&repaired);
    }
}

#[test]
fn without_its_root_nothing_of_a_manifest_can_be_saved() {
    let world = World::new();
    let outcome = world.without(&world.root, || world.repair());
    assert!(outcome.snapshots[0].hopeless.is_some(), "{outcome:?}");
    assert_eq!(Catalog::load(&world.repository, SnapshotKind::Regular).unwrap().entries().len(), 1);
}

/// The index is in a file of the check's own: there are more blobs than are kept in memory here.
#[test]
fn a_large_index_is_checked_from_a_file() {
    let world = World::new();
    let sound = world.check();
    assert!(sound.problems.is_empty(), "{:?}", sound.problems);
    let segments = world.leaves.len() + 1;
    assert_eq!(sound.blobs, (FOLDERS * FILES + segments) as u64);
    assert_eq!((sound.packs, sound.packs_read), ((segments + 1) as u64, (segments + 1) as u64));
    let left = std::fs::read_dir(world.repository.cache().directory()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with(".exuvia-tmp-")).count(), 0);
    let hurt = world.without(&world.data, || world.check().problems);
    assert_eq!(hurt.len(), 1, "{hurt:?}");
    assert_eq!((hurt[0].path_count, hurt[0].paths.len()), ((FOLDERS * FILES) as u64, 100));
}

#[test]
fn a_false_description_of_a_pack_is_no_reason_to_give_anything_up() {
    // Which of two is read first is chance.
    for seed in 0..4 {
        let world = World::new();
        world.lie(seed);
        assert!(!world.check().problems.is_empty());
        world.index_is_put_right();
    }
}

#[test]
fn a_false_description_is_put_right_though_there_is_no_other() {
    let world = World::new();
    let (truth, _) = world.listed();
    world.lie(0);
    world.remote.delete(&truth.name).unwrap();
    // Only the pack itself tells.
    assert!(!world.check().problems.is_empty());
    world.index_is_put_right();
}

/// What contradicts itself is left alone: what is true of it must not be dropped.
#[test]
fn a_merge_keeps_all_that_is_said_of_a_pack() {
    for seed in 0..4 {
        let world = World::new();
        world.lie(seed);
        let (_, one) = world.listed();
        for n in 0..40u8 {
            let pack = PackInfo { id: ObjectId([n; 32]), ..one.clone() };
            world.repository.publish_index(&[pack]).unwrap();
        }
        let there = world.repository.list(Folder::Index).unwrap();
        let before = there.len();
        let after = world.repository.merge_index(there).unwrap();
        assert!(after.len() < before / 2, "{} of {before}", after.len());
        let said = after.iter().flat_map(|object| world.repository.read_index(object).unwrap().packs);
        assert_eq!(said.filter(|pack| pack.id == world.data).count(), 2);
    }
}

#[test]
fn an_object_that_calls_all_others_superfluous_costs_nothing() {
    let world = World::new();
    let all: Vec<ObjectId> =
        world.repository.list(Folder::Index).unwrap().into_iter().map(|object| object.id).collect();
    world.repository.write_index_objects(&[], &all).unwrap();
    // Something else is to be done.
    let (gone, lost) = &world.leaves[0];
    world.remote.delete(&pack_name(gone)).unwrap();
    world.repair_index();
    let found = world.check();
    assert_eq!(found.packs, world.leaves.len() as u64 + 1);
    let first = lost.first().unwrap().to_string();
    assert!(found.problems.iter().all(|p| p.message.contains(&format!("from {first} "))), "{found:?}");
}

/// That a pack is condemned does not say that nothing in it is needed.
#[test]
fn an_index_that_is_made_anew_has_condemned_packs_too() {
    let world = World::new();
    let time = Timestamp::from_secs(1_771_459_300);
    world.repository.condemn(time, vec![world.data, world.leaves[0].0]).unwrap();
    for listed in world.remote.list("index").unwrap() {
        world.remote.delete(&listed.name).unwrap();
    }
    assert!(matches!(world.try_repair(), Err(Error::Index(_))));
    world.repair_index();
    assert_eq!(world.check().problems, []);
    assert_eq!(world.repair().snapshots.len(), 0);
}
