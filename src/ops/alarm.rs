//! The shrink alarm: a snapshot that has much less than its parent is marked, and both are held back from
//! retention until somebody accepts the loss. `format-spec/` sections 9, 10.1 and 14.7.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Clock;
use crate::model::{Classify, ErrorClass, Loss, ObjectId, Snapshot};
use crate::repo::{RepoError, Repository};

/// Trees of fewer files say nothing by their number.
const FEWEST_FILES: u64 = 4;
/// Trees of fewer bytes say nothing by their size.
const FEWEST_BYTES: u64 = 64 << 10;

/// How much may be gone, in percent of what the parent has, before the alarm is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold(u8);

impl Default for Threshold {
    fn default() -> Self {
        Self(50)
    }
}

impl Threshold {
    /// A percentage from 1 to 100; 0 turns the alarm off and makes none.
    #[must_use]
    pub fn of_percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    /// The percentage.
    #[must_use]
    pub fn percent(self) -> u8 {
        self.0
    }

    /// More than that part of `before` is gone.
    fn is_passed(self, before: u64, now: u64) -> bool {
        u128::from(now) * 100 < u128::from(before) * u128::from(100 - self.0)
    }
}

/// What `snapshot` lost against `parent`, as far as that is alarming. Snapshots of other paths, or of a
/// selection that was changed, do not compare.
#[must_use]
pub fn losses(parent: &Snapshot, snapshot: &Snapshot, threshold: Threshold) -> Vec<Loss> {
    let same = (&parent.root, &parent.paths, &parent.selection)
        == (&snapshot.root, &snapshot.paths, &snapshot.selection);
    if !same {
        return Vec::new();
    }
    let mut losses = Vec::new();
    let (before, now) = (parent.stats.files, snapshot.stats.files);
    if before >= FEWEST_FILES && threshold.is_passed(before, now) {
        losses.push(Loss::Files { before });
    }
    let (before, now) = (parent.stats.bytes, snapshot.stats.bytes);
    if before >= FEWEST_BYTES && threshold.is_passed(before, now) {
        losses.push(Loss::Bytes { before });
    }
    let left: HashMap<_, _> = snapshot.databases.iter().map(|d| (&d.path, d.size)).collect();
    for database in &parent.databases {
        let gone = left.get(&database.path).is_none_or(|now| threshold.is_passed(database.size, *now));
        if gone {
            losses.push(Loss::Database { path: database.path.clone(), before: database.size });
        }
    }
    losses
}

/// Why a snapshot was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to accept.
    #[error("snapshot {0} is not marked: it lost nothing alarming")]
    NotMarked(String),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotMarked(_) => ErrorClass::Usage,
            Self::Repo(e) => e.class(),
        }
    }
}

/// Says of marked snapshots, for everybody and for good, that their losses are as they should be. Returns those
/// that nobody had accepted before.
pub fn accept(
    repository: &Repository,
    marked: &[(ObjectId, Snapshot)],
    clock: &dyn Clock,
) -> Result<Vec<ObjectId>, Error> {
    if let Some((id, _)) = marked.iter().find(|(_, snapshot)| !snapshot.is_marked()) {
        return Err(Error::NotMarked(id.short()));
    }
    let accepted = repository.accepted()?;
    let mut fresh: Vec<_> = marked.iter().map(|(id, _)| *id).filter(|id| !accepted.contains(id)).collect();
    fresh.sort();
    fresh.dedup();
    if !fresh.is_empty() {
        repository.publish_acceptance(clock.now(), &fresh)?;
    }
    Ok(fresh)
}

/// The snapshots that no policy may remove, because of alarms that nobody accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held(BTreeSet<ObjectId>);

impl Held {
    /// Those among `snapshots`. The remote is asked only when one of them is marked.
    pub fn of<'a>(
        repository: &Repository,
        snapshots: impl IntoIterator<Item = (&'a ObjectId, &'a Snapshot)>,
    ) -> Result<Self, RepoError> {
        let marked: Vec<_> = snapshots.into_iter().filter(|(_, snapshot)| snapshot.is_marked()).collect();
        if marked.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self::since(&repository.accepted()?, marked))
    }

    fn since<'a>(
        accepted: &BTreeSet<ObjectId>,
        marked: impl IntoIterator<Item = (&'a ObjectId, &'a Snapshot)>,
    ) -> Self {
        let open = marked.into_iter().filter(|(id, _)| !accepted.contains(id));
        // The marked one too: with it the mark would go, and what keeps the parent.
        Self(open.flat_map(|(id, snapshot)| [Some(*id), snapshot.parent]).flatten().collect())
    }

    /// True for a marked snapshot that nobody accepted, and for the parent of one.
    #[must_use]
    pub fn is_held_back(&self, id: &ObjectId) -> bool {
        self.0.contains(id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{
        BlobId, DatabaseRecord, Integrity, ManifestRef, Reason, RepoPath, SnapshotKind, Stats, Timestamp,
        WriterId,
    };

    fn snapshot(files: u64, bytes: u64, databases: &[(&str, u64)]) -> Snapshot {
        let database = |(path, size): &(&str, u64)| DatabaseRecord {
            path: RepoPath::new(path.as_bytes().to_vec()).unwrap(),
            captured: Timestamp::default(),
            raw: false,
            size: *size,
            user_version: 0,
            application_id: 0,
            integrity: Integrity::NotChecked,
        };
        Snapshot {
            time: Timestamp::default(),
            kind: SnapshotKind::Regular,
            reason: Reason::Manual,
            host: String::new(),
            user: String::new(),
            program: String::new(),
            writer: WriterId([0; 16]),
            sequence: 1,
            parent: None,
            root: b"/a".to_vec(),
            paths: vec![b"/a".to_vec()],
            selection: vec!["word".to_owned()],
            tags: Vec::new(),
            manifest: ManifestRef { root: BlobId([0; 32]), level: 0 },
            complete: true,
            errors: Vec::new(),
            error_count: 0,
            databases: databases.iter().map(database).collect(),
            stats: Stats { files, bytes, ..Stats::default() },
            losses: Vec::new(),
        }
    }

    fn words(parent: &Snapshot, now: &Snapshot, percent: u8) -> Vec<String> {
        let word = |loss: &Loss| match loss {
            Loss::Files { before } => format!("files {before}"),
            Loss::Bytes { before } => format!("bytes {before}"),
            Loss::Database { path, before } => format!("{path} {before}"),
        };
        losses(parent, now, Threshold::of_percent(percent).unwrap()).iter().map(word).collect()
    }

    #[test]
    fn more_than_the_part_must_be_gone() {
        for (before, now, percent, alarming) in [
            (100, 50, 50, false),
            (100, 49, 50, true),
            (100, 100, 1, false),
            (100, 98, 1, true),
            (100, 0, 100, false),
            (100, 0, 99, true),
            (100, 200, 50, false),
            (5, 2, 50, true),
            (4, 1, 50, true),
            // Few files say nothing.
            (3, 0, 50, false),
            (0, 0, 50, false),
            (u64::MAX, u64::MAX / 2 - 1, 50, true),
        ] {
            let found = words(&snapshot(before, 0, &[]), &snapshot(now, 0, &[]), percent);
            assert_eq!(!found.is_empty(), alarming, "{before} to {now} at {percent} %");
        }
        let bytes = |before, now| words(&snapshot(0, before, &[]), &snapshot(0, now, &[]), 50);
        assert_eq!(bytes(65_536, 32_767), ["bytes 65536"]);
        assert!(bytes(65_536, 32_768).is_empty() && bytes(65_535, 0).is_empty());
        assert_eq!((Threshold::of_percent(0), Threshold::of_percent(101)), (None, None));
    }

    #[test]
    fn every_database_counts() {
        let before = snapshot(9, 9, &[("a", 100), ("b", 100), ("c", 100), ("d", 100)]);
        let now = snapshot(9, 9, &[("a", 100), ("b", 49), ("c", 50), ("e", 1)]);
        assert_eq!(words(&before, &now, 50), ["b 100", "d 100"]);
        // One that is gone is gone, however much may be.
        assert_eq!(words(&before, &now, 100), ["d 100"]);
        let left: Vec<_> =
            losses(&before, &now, Threshold::default()).iter().map(|l| now.left_of(l)).collect();
        assert_eq!(left, [Some(49), None]);
    }

    #[test]
    fn only_what_compares_is_compared() {
        let (before, now) = (snapshot(100, 0, &[]), snapshot(1, 0, &[]));
        assert_eq!(words(&before, &now, 50), ["files 100"]);
        assert!(words(&before, &Snapshot { root: b"/b".to_vec(), ..now.clone() }, 50).is_empty());
        assert!(words(&before, &Snapshot { paths: vec![b"/a/b".to_vec()], ..now.clone() }, 50).is_empty());
        assert!(words(&before, &Snapshot { selection: Vec::new(), ..now }, 50).is_empty());
    }

    #[test]
    fn a_mark_holds_the_parent_and_itself_until_it_is_accepted() {
        let [parent, marked, other] = [1, 2, 3].map(|n| ObjectId([n; 32]));
        let snapshot =
            Snapshot { parent: Some(parent), losses: vec![Loss::Files { before: 9 }], ..snapshot(1, 0, &[]) };
        let held = Held::since(&BTreeSet::new(), [(&marked, &snapshot)]);
        assert!(held.is_held_back(&parent) && held.is_held_back(&marked) && !held.is_held_back(&other));
        let held = Held::since(&BTreeSet::from([marked]), [(&marked, &snapshot)]);
        assert_eq!(held, Held::default());
    }
}
