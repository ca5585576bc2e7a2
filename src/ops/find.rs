//! `find`: every version of the paths that fit a pattern, over many snapshots.
//!
//! Snapshots of one directory are gone through in the order of time, each compared with the one before:
//! segments that two manifests have in common are not read again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::compare::{self, Attention, Change, Pair};
use crate::model::{Classify, Entry, ErrorClass, ManifestRef, ObjectId, RepoPath, Snapshot, Timestamp};
use crate::repo::{BlobReader, ManifestReader, RepoError};
use crate::report::Monitor;

/// A pattern that is not understood.
#[derive(Debug, thiserror::Error)]
#[error("pattern {pattern:?}: {message}")]
pub struct PatternError {
    pattern: String,
    message: String,
}

impl Classify for PatternError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

/// Paths looked for.
#[derive(Clone, Debug)]
pub struct Pattern(Gitignore);

impl Pattern {
    /// A pattern in gitignore's syntax: with a `/` in it, that of a whole path; without, that of a name at
    /// any depth. With a `/` at its end it fits directories only. `!` and `#` have no meaning.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, PatternError> {
        let wrong = |message: String| PatternError { pattern: pattern.to_owned(), message };
        let mut builder = GitignoreBuilder::new("");
        let literal = if pattern.starts_with(['!', '#']) { "\\" } else { "" };
        builder.case_insensitive(ignore_case).map_err(|e| wrong(e.to_string()))?;
        builder.add_line(None, &format!("{literal}{pattern}")).map_err(|e| wrong(e.to_string()))?;
        let compiled = builder.build().map_err(|e| wrong(e.to_string()))?;
        if compiled.is_empty() { Err(wrong("it fits nothing".to_owned())) } else { Ok(Self(compiled)) }
    }

    /// True when an entry fits.
    #[must_use]
    pub fn fits(&self, entry: &Entry) -> bool {
        let path: &Path = entry.path.to_os_path();
        !entry.path.is_root() && matches!(self.0.matched(path, entry.is_dir()), Match::Ignore(_))
    }
}

/// A snapshot to look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its id.
    pub id: ObjectId,
    /// Its time.
    pub time: Timestamp,
}

/// One version of a path: the same type and content in snapshots that follow one another.
#[derive(Clone, Debug)]
pub struct Version {
    /// The entry of the first of them.
    pub entry: Entry,
    /// The first of them, by its place in [`Tree::snapshots`].
    pub first: usize,
    /// The last one.
    pub last: usize,
}

impl Version {
    /// Snapshots that have it.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        self.last - self.first + 1
    }
}

/// What was found of one directory of one machine.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The machine.
    pub host: String,
    /// The absolute path of the directory.
    pub root: Vec<u8>,
    /// The absolute paths asked for.
    pub paths: Vec<Vec<u8>>,
    /// The snapshots looked into, oldest first.
    pub snapshots: Vec<Moment>,
    /// The versions of each path that fits, oldest first.
    pub found: BTreeMap<RepoPath, Vec<Version>>,
}

struct Progress {
    tree: Tree,
    /// Versions that the snapshot before has: the last of each path's.
    open: BTreeSet<RepoPath>,
    /// Its manifest; `None` when it could not be read.
    previous: Option<ManifestRef>,
}

/// Looks into snapshots, to be taken in the order of their times.
pub struct Finder<'a> {
    blobs: &'a BlobReader<'a>,
    pattern: &'a Pattern,
    /// Only these paths and what is below them; all when empty.
    paths: &'a [RepoPath],
    trees: Vec<Progress>,
}

impl<'a> Finder<'a> {
    /// Has found nothing yet.
    #[must_use]
    pub fn new(blobs: &'a BlobReader<'a>, pattern: &'a Pattern, paths: &'a [RepoPath]) -> Self {
        Self { blobs, pattern, paths, trees: Vec::new() }
    }

    /// Looks into one more snapshot. After an error the next one of its directory is read from the
    /// beginning.
    pub fn snapshot(&mut self, id: ObjectId, snapshot: &Snapshot) -> Result<(), RepoError> {
        let same = |p: &Progress| {
            p.tree.host == snapshot.host && p.tree.root == snapshot.root && p.tree.paths == snapshot.paths
        };
        let at = match self.trees.iter().position(same) {
            Some(at) => at,
            None => {
                let tree = Tree {
                    host: snapshot.host.clone(),
                    root: snapshot.root.clone(),
                    paths: snapshot.paths.clone(),
                    snapshots: Vec::new(),
                    found: BTreeMap::new(),
                };
                self.trees.push(Progress { tree, open: BTreeSet::new(), previous: None });
                self.trees.len() - 1
            }
        };
        let Some(progress) = self.trees.get_mut(at) else { return Ok(()) };
        let fits = |entry: &Entry| {
            (self.paths.is_empty() || self.paths.iter().any(|path| entry.path.starts_with(path)))
                && self.pattern.fits(entry)
        };
        let pairs = match progress.previous.take() {
            Some(previous) if previous == snapshot.manifest => Ok(Vec::new()),
            Some(previous) => step(self.blobs, previous, snapshot.manifest, &fits),
            None => progress.whole(self.blobs, snapshot.manifest, &fits),
        }?;
        progress.tree.snapshots.push(Moment { id, time: snapshot.time });
        pairs.into_iter().for_each(|pair| progress.take(pair));
        progress.previous = Some(snapshot.manifest);
        Ok(())
    }

    /// What was found, in the order in which the directories were first met.
    #[must_use]
    pub fn finish(self) -> Vec<Tree> {
        let finish = |mut progress: Progress| {
            let last = progress.tree.snapshots.len().saturating_sub(1);
            for path in std::mem::take(&mut progress.open) {
                progress.end(&path, last);
            }
            progress.tree
        };
        self.trees.into_iter().map(finish).collect()
    }
}

impl Progress {
    /// The snapshot being looked into.
    fn now(&self) -> usize {
        self.tree.snapshots.len().saturating_sub(1)
    }

    fn begin(&mut self, entry: Entry) {
        let now = self.now();
        self.open.insert(entry.path.clone());
        let versions = self.tree.found.entry(entry.path.clone()).or_default();
        versions.push(Version { entry, first: now, last: now });
    }

    fn end(&mut self, path: &RepoPath, last: usize) {
        self.open.remove(path);
        if let Some(version) = self.tree.found.get_mut(path).and_then(|versions| versions.last_mut()) {
            version.last = last.max(version.first);
        }
    }

    /// What differs of all of a snapshot, where there is none before it to compare it with.
    fn whole(
        &self,
        blobs: &BlobReader<'_>,
        manifest: ManifestRef,
        fits: &dyn Fn(&Entry) -> bool,
    ) -> Result<Vec<Pair>, RepoError> {
        let mut gone = self.open.clone();
        let newest = |path: &RepoPath| Some(self.tree.found.get(path)?.last()?.entry.clone());
        let pair = |old, new| Pair { old, new, old_link: None };
        let (mut pairs, mut reader) = (Vec::new(), ManifestReader::new(blobs, manifest));
        while let Some(entry) = reader.next_entry()? {
            if fits(&entry) {
                let old = gone.take(&entry.path).and_then(|path| newest(&path));
                keep(blobs, pair(old, Some(entry)), &mut pairs)?;
            }
        }
        pairs.extend(gone.iter().map(|path| pair(newest(path), None)));
        Ok(pairs)
    }

    fn take(&mut self, pair: Pair) {
        if let Some(old) = pair.old {
            self.end(&old.path, self.now().saturating_sub(1));
        }
        if let Some(new) = pair.new {
            self.begin(new);
        }
    }
}

/// What differs from the snapshot before.
fn step(
    blobs: &BlobReader<'_>,
    previous: ManifestRef,
    manifest: ManifestRef,
    fits: &dyn Fn(&Entry) -> bool,
) -> Result<Vec<Pair>, RepoError> {
    let mut pairs = Vec::new();
    compare::snapshots(blobs, previous, manifest, &mut |mut pair| {
        pair.old = pair.old.filter(|entry| fits(entry));
        pair.new = pair.new.filter(|entry| fits(entry));
        keep(blobs, pair, &mut pairs)
    })?;
    Ok(pairs)
}

/// Keeps a pair that is not two of one version.
fn keep(blobs: &BlobReader<'_>, pair: Pair, pairs: &mut Vec<Pair>) -> Result<(), RepoError> {
    let attention = Attention { owner: false, directory_times: false };
    match compare::change(&pair, blobs, blobs, attention)? {
        None | Some(Change::Link | Change::Metadata) => {}
        Some(Change::Added | Change::Removed | Change::Type | Change::Content) => pairs.push(pair),
    }
    Ok(())
}

/// Goes through snapshots; one whose manifest is damaged is named to the monitor and left out.
///
/// # Errors
///
/// When the repository itself cannot be read.
pub fn run(
    finder: &mut Finder<'_>,
    snapshots: impl IntoIterator<Item = (ObjectId, Result<Snapshot, RepoError>)>,
    monitor: &dyn Monitor,
) -> Result<u64, RepoError> {
    let mut damaged = 0;
    for (id, snapshot) in snapshots {
        match snapshot.and_then(|snapshot| finder.snapshot(id, &snapshot)) {
            Ok(()) => {}
            Err(error) if error.class() == ErrorClass::Damaged => {
                damaged += 1;
                monitor.warning(None, &format!("snapshot {} cannot be looked into: {error}", id.short()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(damaged)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Content, EntryKind, Metadata, Reason, SnapshotKind, Stats, WriterId};
    use crate::ops::random_trees::{Numbers, Tree as Entries, World, change as mutate, tree};

    fn snapshot(root: &str, time: i64, manifest: ManifestRef) -> Snapshot {
        Snapshot {
            time: Timestamp::from_secs(time),
            kind: SnapshotKind::Regular,
            reason: Reason::Manual,
            host: "h".into(),
            user: "u".into(),
            program: "p".into(),
            writer: WriterId([0; 16]),
            sequence: 1,
            parent: None,
            root: root.into(),
            paths: vec![root.into()],
            selection: Vec::new(),
            tags: Vec::new(),
            manifest,
            complete: true,
            errors: Vec::new(),
            error_count: 0,
            databases: Vec::new(),
            losses: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Runs of equal content, by path: first and last snapshot.
    fn naive(trees: &[Entries], fits: &dyn Fn(&Entry) -> bool) -> BTreeMap<RepoPath, Vec<(usize, usize)>> {
        let mut found: BTreeMap<RepoPath, Vec<(usize, usize)>> = BTreeMap::new();
        for (n, tree) in trees.iter().enumerate() {
            for entry in tree.values().filter(|e| fits(e)) {
                let before = n.checked_sub(1).and_then(|before| trees[before].get(&entry.path));
                let versions = found.entry(entry.path.clone()).or_default();
                match versions.last_mut() {
                    Some(last) if before.is_some_and(|b| b.kind == entry.kind && fits(b)) => last.1 = n,
                    _ => versions.push((n, n)),
                }
            }
        }
        found
    }

    #[test]
    fn versions_are_those_of_a_naive_search() {
        let world = World::new();
        let mut numbers = Numbers(11);
        let mut trees: [Vec<Entries>; 2] = [200, 3_000].map(|files| vec![tree(&mut numbers, files)]);
        for n in 0..30 {
            for trees in &mut trees {
                let mut next = trees[trees.len() - 1].clone();
                // Some snapshots are the same as the one before.
                (0..n % 4 * 5).for_each(|m| mutate(&mut next, &mut numbers, 1 + 100 * n + m));
                trees.push(next);
            }
        }
        let manifests = trees.each_ref().map(|trees| world.store(trees));
        let loaded = world.index();
        let blobs = BlobReader::new(&world.repository, &loaded.index);
        let below = [RepoPath::new(b"d3".to_vec()).unwrap()];
        let mut several = 0;
        for (pattern, paths) in [("*", &[][..]), ("f*1", &[]), ("d*/", &[]), ("*", &below)] {
            let pattern = Pattern::new(pattern, false).unwrap();
            let mut finder = Finder::new(&blobs, &pattern, paths);
            let id = |n: usize| ObjectId([u8::try_from(n).unwrap(); 32]);
            // Two directories, their snapshots in turn.
            for n in 0..manifests[0].len() {
                for (root, manifests) in ["/a", "/b"].into_iter().zip(&manifests) {
                    finder.snapshot(id(n), &snapshot(root, 60 * n as i64, manifests[n])).unwrap();
                }
            }
            for (tree, trees) in finder.finish().iter().zip(&trees) {
                assert_eq!(tree.snapshots.len(), trees.len());
                let fits = |e: &Entry| {
                    pattern.fits(e) && (paths.is_empty() || paths.iter().any(|p| e.path.starts_with(p)))
                };
                let runs = |versions: &Vec<Version>| versions.iter().map(|v| (v.first, v.last)).collect();
                let found: BTreeMap<_, Vec<_>> =
                    tree.found.iter().map(|(path, versions)| (path.clone(), runs(versions))).collect();
                let want = naive(trees, &fits);
                several += want.values().filter(|versions| versions.len() > 2).count();
                assert_eq!(found, want);
            }
        }
        assert!(several > 0);
    }

    #[test]
    fn a_damaged_manifest_hides_no_other() {
        let world = World::new();
        let mut numbers = Numbers(5);
        let first = tree(&mut numbers, 50);
        let mut last = first.clone();
        (0..10).for_each(|n| mutate(&mut last, &mut numbers, 1 + n));
        let manifests = world.store([&first, &last]);
        let nothing = ManifestRef { root: crate::model::BlobId([9; 32]), level: 0 };
        let loaded = world.index();
        let blobs = BlobReader::new(&world.repository, &loaded.index);
        let pattern = Pattern::new("*", false).unwrap();
        let mut finder = Finder::new(&blobs, &pattern, &[]);
        let snapshots = [manifests[0], nothing, manifests[1]]
            .into_iter()
            .enumerate()
            .map(|(n, manifest)| (ObjectId([u8::try_from(n).unwrap(); 32]), Ok(snapshot("/a", 0, manifest))));
        let damaged = run(&mut finder, snapshots, &crate::report::Silent).unwrap();
        assert_eq!(damaged, 1);
        let found = &finder.finish()[0].found;
        let paths = |tree: &Entries| tree.keys().filter(|p| !p.is_root()).cloned().collect::<BTreeSet<_>>();
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), &paths(&first) | &paths(&last));
        // What stayed the same is one version, whatever lay between.
        for (path, versions) in found {
            let same = first.get(path).map(|e| &e.kind) == last.get(path).map(|e| &e.kind);
            assert_eq!(
                versions.len() == 1 && versions[0].last == 1 && versions[0].first == 0,
                same,
                "{path}"
            );
        }
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        let fits = |pattern: &str, path: &str, dir: bool| {
            let kind = if dir { EntryKind::Directory } else { EntryKind::File(Content::default()) };
            let path = RepoPath::new(path.into()).unwrap();
            let entry = Entry { path, kind, meta: Metadata::default(), link_group: 0, unsettled: false };
            Pattern::new(pattern, false).unwrap().fits(&entry)
        };
        for (pattern, path, dir, want) in [
            ("today.md", "memory/today.md", false, true),
            ("today.md", "today.md", false, true),
            ("*.md", "a/b/c.md", false, true),
            ("memory/*.md", "memory/today.md", false, true),
            ("memory/*.md", "old/memory/today.md", false, false),
            ("/*.md", "memory/today.md", false, false),
            ("**/x", "a/b/x", false, true),
            ("memory", "memory/today.md", false, false),
            ("memory/", "memory", true, true),
            ("memory/", "memory", false, false),
            ("!a", "!a", false, true),
            ("#a", "b/#a", false, true),
            ("TODAY.md", "today.md", false, false),
            ("*", "", true, false),
        ] {
            assert_eq!(fits(pattern, path, dir), want, "{pattern} {path}");
        }
        assert!(Pattern::new("[z-a]", false).is_err());
        assert!(Pattern::new("", false).is_err());
        let path = RepoPath::new(b"a/Today.MD".to_vec()).unwrap();
        let kind = EntryKind::Directory;
        let entry = Entry { path, kind, meta: Metadata::default(), link_group: 0, unsettled: false };
        assert!(Pattern::new("today.md", true).unwrap().fits(&entry));
    }
}
