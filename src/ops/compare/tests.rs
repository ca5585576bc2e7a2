//! Both comparisons against a naive one, over random trees.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::ops::random_trees::{Numbers, Tree, World, change as mutate, content, tree};

const ALL: Attention = Attention { owner: true, directory_times: true };

/// What a comparison tells: path, first name in the old tree, change.
type Told = Vec<(RepoPath, Option<RepoPath>, Option<Change>)>;

fn first_names(tree: &Tree) -> HashMap<u64, RepoPath> {
    let mut first = HashMap::new();
    for entry in tree.values().filter(|e| e.link_group != 0 && e.content().is_some()) {
        first.entry(entry.link_group).or_insert_with(|| entry.path.clone());
    }
    first
}

fn naive(old: &Tree, new: &Tree) -> Told {
    let olds = first_names(old);
    let link = |names: &HashMap<u64, RepoPath>, entry: Option<&Entry>| {
        let entry = entry.filter(|e| e.content().is_some())?;
        names.get(&entry.link_group).filter(|first| **first != entry.path).cloned()
    };
    let paths: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let one = |path: &RepoPath| {
        let (from, to) = (old.get(path), new.get(path));
        let old_link = link(&olds, from);
        let change = match (from, to) {
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
            (Some(from), Some(to)) => match (&from.kind, &to.kind) {
                (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => Some(Change::Type),
                (a, b) if a != b => Some(Change::Content),
                _ if (from.meta.mode, from.meta.mtime) != (to.meta.mode, to.meta.mtime)
                    && !matches!(to.kind, EntryKind::Symlink(_)) =>
                {
                    Some(Change::Metadata)
                }
                _ => None,
            },
        };
        (path.clone(), old_link, change)
    };
    paths.into_iter().map(one).collect()
}

fn merged(blobs: &BlobReader<'_>, old: ManifestRef, new: &Tree) -> Told {
    let mut told = Told::new();
    let mut each = |pair: Pair| {
        let change = change(&pair, blobs, blobs, ALL)?;
        told.push((pair.path().clone(), pair.old_link, change));
        Ok(())
    };
    let mut merge = Merge::new(blobs, old).unwrap();
    new.values().for_each(|entry| merge.push(entry, &mut each).unwrap());
    merge.finish(&mut each).unwrap();
    told
}

/// What differs, and how many pairs were told.
fn skipping(blobs: &BlobReader<'_>, old: ManifestRef, new: ManifestRef) -> (Vec<(RepoPath, Change)>, usize) {
    let (mut differ, mut told) = (Vec::new(), 0);
    snapshots(blobs, old, new, &mut |pair| {
        told += 1;
        differ.extend(change(&pair, blobs, blobs, ALL)?.map(|change| (pair.path().clone(), change)));
        Ok(())
    })
    .unwrap();
    (differ, told)
}

fn differing(told: Told) -> Vec<(RepoPath, Change)> {
    told.into_iter().filter_map(|(path, _, change)| Some((path, change?))).collect()
}

#[test]
fn both_comparisons_agree_with_a_naive_one() {
    let world = World::new();
    let mut numbers = Numbers(7);
    let mut kinds = std::collections::BTreeSet::new();
    for (files, changes, rounds) in [(0, 3, 6), (5, 4, 20), (300, 30, 10), (3_000, 200, 4), (12_000, 25, 3)] {
        for round in 0..rounds {
            let old = tree(&mut numbers, files);
            let mut new = old.clone();
            (0..changes).for_each(|n| mutate(&mut new, &mut numbers, 1 + n));
            // Twice: so that there are links and the like to lose.
            let mut newer = new.clone();
            (0..changes).for_each(|n| mutate(&mut newer, &mut numbers, 1_000 + n));
            let manifests = world.store([&old, &new, &newer]);
            let loaded = world.index();
            let blobs = BlobReader::new(&world.repository, &loaded.index);
            for (a, b) in [(0, 1), (1, 2), (2, 0), (1, 1)] {
                let trees = [&old, &new, &newer];
                let want = naive(trees[a], trees[b]);
                assert_eq!(merged(&blobs, manifests[a], trees[b]), want, "{files} {round} {a} {b}");
                let want = differing(want);
                let (found, _) = skipping(&blobs, manifests[a], manifests[b]);
                assert_eq!(found, want, "{files} {round} {a} {b}");
                kinds.extend(want.into_iter().map(|(_, change)| change));
            }
        }
    }
    assert_eq!(kinds.len(), 5, "not every kind of change came: {kinds:?}");
}

#[test]
fn what_is_common_is_not_told() {
    let world = World::new();
    let mut numbers = Numbers(3);
    let old = tree(&mut numbers, 20_000);
    let mut new = old.clone();
    let path = new.keys().nth(10_000).unwrap().clone();
    new.get_mut(&path).unwrap().kind = content(u64::MAX);
    let manifests = world.store([&old, &new]);
    assert!(manifests[0].level >= 2);
    let loaded = world.index();
    let blobs = BlobReader::new(&world.repository, &loaded.index);
    assert_eq!(skipping(&blobs, manifests[0], manifests[0]), (Vec::new(), 0));
    let (found, told) = skipping(&blobs, manifests[0], manifests[1]);
    assert_eq!(found.len(), 1);
    assert!(told < 2_000, "{told} pairs for one change");
}
