//! For tests: random trees that change as live ones do, and manifests of them.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crypto::{Passphrase, ScryptParams};
use crate::model::{
    BlobId, BlobKind, Content, Entry, EntryKind, ManifestRef, Metadata, RepoPath, Slice, Slices, Timestamp,
};
use crate::remote::{Memory, Remote};
use crate::repo::{
    CachePlace, LoadedIndex, ManifestWriter, Packer, PackerOptions, RepoError, Repository, SegmentSink,
    SharedIndex,
};

/// Numbers that are the same in every run (`SplitMix64`).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    /// The next number, below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(from.len() as u64)).unwrap();
        &from[at]
    }
}

/// A tree: its entries by path, the root among them.
pub(super) type Tree = BTreeMap<RepoPath, Entry>;

fn entry(path: RepoPath, kind: EntryKind) -> Entry {
    Entry { path, kind, meta: Metadata::default(), link_group: 0, unsettled: false }
}

/// A file whose content is told apart from others by a number.
pub(super) fn content(n: u64) -> EntryKind {
    let id = BlobId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let slices = Slices::Inline(vec![Slice::Blob { id, offset: 0, len: 10 }]);
    EntryKind::File(Content { size: 10, slices, ..Content::default() })
}

/// A tree of so many files.
pub(super) fn tree(numbers: &mut Numbers, files: u64) -> Tree {
    let mut tree = Tree::from([(RepoPath::root(), entry(RepoPath::root(), EntryKind::Directory))]);
    for n in 0..files {
        add(&mut tree, numbers, n);
    }
    tree
}

/// Puts a file somewhere, with the directories above it. A file in the way becomes a directory.
fn add(tree: &mut Tree, numbers: &mut Numbers, n: u64) {
    let mut path = RepoPath::root();
    for _ in 0..numbers.below(3) {
        path = path.join(format!("d{}", numbers.below(20)).as_bytes()).unwrap();
        let there = tree.entry(path.clone()).or_insert_with(|| entry(path.clone(), EntryKind::Directory));
        if !there.is_dir() {
            *there = entry(path.clone(), EntryKind::Directory);
        }
    }
    let path = path.join(format!("f{}", numbers.below(10_000)).as_bytes()).unwrap();
    if tree.get(&path).is_none_or(|there| !there.is_dir()) {
        tree.insert(path.clone(), entry(path, content(n)));
    }
}

/// All names of a linked file are touched when one comes or goes: the system sets their change time.
fn touch(tree: &mut Tree, groups: &BTreeSet<u64>, time: i64) {
    for entry in tree.values_mut().filter(|e| e.link_group != 0 && groups.contains(&e.link_group)) {
        entry.meta.ctime = Timestamp::from_secs(time);
    }
}

fn remove(tree: &mut Tree, path: &RepoPath) -> BTreeSet<u64> {
    let gone: Vec<_> = tree.keys().filter(|p| p.starts_with(path)).cloned().collect();
    gone.iter().filter_map(|path| tree.remove(path)).map(|e| e.link_group).collect()
}

/// Changes a tree in one of the ways in which live ones change. `time` is another one each time.
pub(super) fn change(tree: &mut Tree, numbers: &mut Numbers, time: u64) {
    let paths: Vec<_> = tree.keys().filter(|path| !path.is_root()).cloned().collect();
    let files: Vec<_> = paths.iter().filter(|p| tree[*p].content().is_some()).cloned().collect();
    if files.len() < 2 {
        return add(tree, numbers, time);
    }
    let seconds = i64::try_from(time).unwrap();
    let (path, file, other) =
        (numbers.pick(&paths).clone(), numbers.pick(&files).clone(), numbers.pick(&files).clone());
    match numbers.below(8) {
        0 | 1 => add(tree, numbers, 1_000_000 + time),
        2 => {
            // Every name of a file has its content.
            let group = tree[&file].link_group;
            for entry in tree.values_mut().filter(|e| e.path == file || group != 0 && e.link_group == group) {
                entry.kind = content(2_000_000 + time);
                entry.meta.mtime = Timestamp::from_secs(seconds);
            }
        }
        3 => tree.get_mut(&path).unwrap().meta.mode = u32::try_from(time % 512).unwrap(),
        4 => {
            let groups = remove(tree, &path);
            touch(tree, &groups, seconds);
        }
        5 => {
            // A file where a directory was, or a link where a file was.
            let groups = remove(tree, &path);
            touch(tree, &groups, seconds);
            tree.insert(path.clone(), entry(path, EntryKind::Symlink(b"to".to_vec())));
        }
        6 => {
            // One more name of a file.
            let group = match tree[&file].link_group {
                0 => 10 + time,
                group => group,
            };
            let left = tree[&other].link_group;
            let mut named = tree.get_mut(&file).unwrap().clone();
            named.link_group = group;
            tree.insert(file.clone(), named.clone());
            tree.insert(other.clone(), Entry { path: other, ..named });
            touch(tree, &BTreeSet::from([group, left]), seconds);
        }
        _ => {
            // A directory, or a file, under another name.
            let Ok(to) = path.parent().unwrap().join(format!("r{time}").as_bytes()) else { return };
            let moved: Vec<_> =
                tree.iter().filter(|(p, _)| p.starts_with(&path)).map(|(_, e)| e.clone()).collect();
            let groups = remove(tree, &path);
            for mut entry in moved {
                let rest = &entry.path.as_bytes()[path.as_bytes().len()..];
                entry.path = RepoPath::new([to.as_bytes(), rest].concat()).unwrap();
                tree.insert(entry.path.clone(), entry);
            }
            touch(tree, &groups, seconds);
        }
    }
}

/// A repository in memory.
pub(super) struct World {
    /// It.
    pub(super) repository: Repository,
    _dir: tempfile::TempDir,
}

struct Sink<'a>(&'a Repository, &'a Packer);

impl SegmentSink for Sink<'_> {
    fn store(&mut self, _: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        let id = self.0.sealer().keys.blob_id(BlobKind::Meta, &bytes);
        self.1.add(BlobKind::Meta, id, &bytes)?;
        Ok(id)
    }
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let remote: Arc<dyn Remote> = Arc::new(Memory::default());
        let passphrase = Passphrase::new(b"p".to_vec());
        let caches = CachePlace { dir: dir.path(), keeps_key: true };
        let (cheap, time) = (ScryptParams::GENERATED, Timestamp::default());
        Repository::init(&remote, &passphrase, caches, cheap, time, "").unwrap();
        Self { repository: Repository::open(remote, &passphrase, caches).unwrap(), _dir: dir }
    }

    /// Stores the manifests of trees.
    pub(super) fn store<'t>(&self, trees: impl IntoIterator<Item = &'t Tree>) -> Vec<ManifestRef> {
        let index = SharedIndex::new(&self.repository);
        let packer = Packer::new(&self.repository, PackerOptions::new(2), false, index);
        let mut sink = Sink(&self.repository, &packer);
        let manifests = trees
            .into_iter()
            .map(|tree| {
                let mut writer = ManifestWriter::default();
                tree.values().for_each(|entry| writer.push(entry, &mut sink).unwrap());
                writer.finish(&mut sink).unwrap()
            })
            .collect();
        packer.publish().unwrap();
        manifests
    }

    pub(super) fn index(&self) -> Arc<LoadedIndex> {
        SharedIndex::new(&self.repository).get().unwrap()
    }
}
