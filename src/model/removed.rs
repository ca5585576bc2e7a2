//! Which snapshots owners removed, in few bytes: numbers of a writer's snapshots join to runs, so that ten years
//! of forgetting take hardly more than the snapshots that were kept in between.

use std::collections::{BTreeMap, BTreeSet};

use super::{ObjectId, WriterId};

/// What a snapshot is known by when its record is gone: who wrote it, and as which of that writer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotMark {
    /// Who wrote it.
    pub writer: WriterId,
    /// Its number among the writer's snapshots.
    pub sequence: u64,
}

/// Snapshots that owners removed, or were about to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Of each writer runs of numbers, first to last; they neither overlap nor touch.
    runs: BTreeMap<WriterId, BTreeMap<u64, u64>>,
    /// Those whose records could not be read.
    ids: BTreeSet<ObjectId>,
}

impl Removed {
    /// Adds the snapshots of a writer from `first` to `last`.
    pub fn add_run(&mut self, writer: WriterId, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        let runs = self.runs.entry(writer).or_default();
        // Those that begin at or before the end of this one, and end at or after its beginning.
        while let Some((&begin, &end)) = runs.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            runs.remove(&begin);
            (first, last) = (first.min(begin), last.max(end));
        }
        runs.insert(first, last);
    }

    /// Adds one snapshot.
    pub fn add(&mut self, mark: SnapshotMark) {
        self.add_run(mark.writer, mark.sequence, mark.sequence);
    }

    /// Adds one whose record cannot be read.
    pub fn add_unreadable(&mut self, id: ObjectId) {
        self.ids.insert(id);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        other.runs().for_each(|(writer, first, last)| self.add_run(writer, first, last));
        self.ids.extend(&other.ids);
    }

    /// Whether a snapshot was removed.
    #[must_use]
    pub fn covers(&self, mark: SnapshotMark) -> bool {
        let runs = self.runs.get(&mark.writer);
        let run = runs.and_then(|runs| runs.range(..=mark.sequence).next_back());
        run.is_some_and(|(_, last)| mark.sequence <= *last)
    }

    /// Whether one whose record could not be read was removed.
    #[must_use]
    pub fn covers_unreadable(&self, id: &ObjectId) -> bool {
        self.ids.contains(id)
    }

    /// All runs, ascending.
    pub fn runs(&self) -> impl Iterator<Item = (WriterId, u64, u64)> + '_ {
        self.runs.iter().flat_map(|(writer, runs)| runs.iter().map(|(first, last)| (*writer, *first, *last)))
    }

    /// All that could not be read, ascending.
    pub fn ids(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.ids.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::{collection, prop_assert_eq, proptest};

    use super::*;

    const WRITER: WriterId = WriterId([1; 16]);

    fn runs(added: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut removed = Removed::default();
        added.iter().for_each(|(first, last)| removed.add_run(WRITER, *first, *last));
        removed.runs().map(|(_, first, last)| (first, last)).collect()
    }

    #[test]
    fn what_touches_is_joined() {
        for (added, want) in [
            (&[(1, 1), (3, 3)][..], &[(1, 1), (3, 3)][..]),
            (&[(1, 1), (3, 3), (2, 2)], &[(1, 3)]),
            (&[(5, 9), (1, 4)], &[(1, 9)]),
            (&[(5, 9), (6, 7)], &[(5, 9)]),
            (&[(1, 2), (4, 5), (7, 8), (2, 7)], &[(1, 8)]),
            (&[(9, 8)], &[]),
            (&[(u64::MAX, u64::MAX), (0, 0)], &[(0, 0), (u64::MAX, u64::MAX)]),
        ] {
            assert_eq!(runs(added), want, "{added:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(added in collection::vec((0u64..40, 0u64..6), 0..20), other in any::<bool>()) {
            let (mut removed, mut naive) = (Removed::default(), BTreeSet::new());
            for (first, length) in added {
                removed.add_run(WRITER, first, first + length);
                naive.extend(first..=first + length);
            }
            let writer = if other { WriterId([2; 16]) } else { WRITER };
            for sequence in 0..50 {
                let covered = removed.covers(SnapshotMark { writer, sequence });
                prop_assert_eq!(covered, !other && naive.contains(&sequence));
            }
            let ends: Vec<_> = removed.runs().collect();
            for two in ends.windows(2) {
                prop_assert_eq!(two[0].2 + 1 < two[1].1, true);
            }
            let mut again = Removed::default();
            again.merge(&removed);
            prop_assert_eq!(again, removed);
        }
    }
}
