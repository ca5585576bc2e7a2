//! `forget`: removes snapshot records. What only they needed stays until a prune.

use super::alarm::Held;
use super::retention::{self, Candidate, Filter, Group, Grouping};
use super::{history, select};
use crate::format::marker_v1::Operation;
use crate::model::{Classify, ErrorClass, ObjectId, Policy, Snapshot, SnapshotKind, Timestamp};
use crate::repo::{Catalog, CatalogEntry, RepoError, Repository};
use crate::report::{Monitor, Silent};

/// The fewest digits of an id that names a snapshot to be removed: `7` may well be a number of snapshots to keep.
const FEWEST_DIGITS: usize = 8;

/// Why nothing, or not all, was removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A word names no snapshot of the kind that is removed.
    #[error(transparent)]
    Select(#[from] select::Error),
    /// A word that might mean something else.
    #[error(
        "`{0}` is no id of a snapshot: at least {FEWEST_DIGITS} digits of one name what is to be removed"
    )]
    NotAnId(String),
    /// The shrink alarm was raised over it, or over the one after it.
    #[error("snapshot {id} is held back: {why}")]
    Held {
        /// The snapshot.
        id: String,
        /// In words.
        why: &'static str,
    },
    /// The policy keeps nothing.
    #[error("the policy keeps nothing")]
    Empty,
    /// The user asked to stop.
    #[error("interrupted; what was not removed yet is removed when it is run again")]
    Interrupted,
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Select(e) => e.class(),
            Self::NotAnId(_) | Self::Held { .. } | Self::Empty => ErrorClass::Usage,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}

/// A snapshot that is to be removed; made by this module only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    entry: CatalogEntry,
    /// Its record, if that can be read.
    snapshot: Option<Snapshot>,
}

impl Target {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.entry.id
    }

    /// When it was taken, to the second.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_secs(self.entry.time)
    }
}

/// Finds safety snapshots by their ids or unique beginnings of these. Removes nothing, and finds all or fails.
/// Records need not be readable: a damaged one can be removed too.
pub fn plan_safety(repository: &Repository, ids: &[String]) -> Result<Vec<Target>, Error> {
    repository.require(Operation::Delete)?;
    named(repository, &Catalog::load(repository, SnapshotKind::Safety)?, ids)
}

/// The same for regular snapshots. Those that are held back need `force`.
pub fn plan_regular(
    repository: &Repository,
    ids: &[String],
    force: bool,
    monitor: &dyn Monitor,
) -> Result<Vec<Target>, Error> {
    repository.require(Operation::Delete)?;
    if let Some(word) = ids.iter().find(|word| word.len() < FEWEST_DIGITS) {
        return Err(Error::NotAnId(word.clone()));
    }
    let catalog = Catalog::load(repository, SnapshotKind::Regular)?;
    let targets = named(repository, &catalog, ids)?;
    if !force {
        let all = Readable::of(repository, &catalog, monitor)?;
        let held = all.held(repository)?;
        if let Some(target) = targets.iter().find(|target| held.is_held_back(&target.id())) {
            let marked = |(entry, s): &(CatalogEntry, Snapshot)| entry.id == target.id() && s.is_marked();
            let why = if all.snapshots.iter().any(marked) {
                "it has much less than the one before it, and nobody accepted that"
            } else {
                "the one after it has much less, and nobody accepted that"
            };
            return Err(Error::Held { id: target.id().short(), why });
        }
    }
    Ok(targets)
}

fn named(repository: &Repository, catalog: &Catalog, ids: &[String]) -> Result<Vec<Target>, Error> {
    let mut entries: Vec<&CatalogEntry> = Vec::new();
    for id in ids {
        let entry = select::by_id(catalog, id)?;
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    entries
        .into_iter()
        .map(|entry| match repository.snapshot(entry) {
            Err(e) if e.is_service_failure() => Err(e.into()),
            read => Ok(Target { entry: entry.clone(), snapshot: read.ok() }),
        })
        .collect()
}

/// The records that can be read.
struct Readable {
    snapshots: Vec<(CatalogEntry, Snapshot)>,
    unreadable: u64,
}

impl Readable {
    fn of(repository: &Repository, catalog: &Catalog, monitor: &dyn Monitor) -> Result<Self, Error> {
        let mut all = Self { snapshots: Vec::new(), unreadable: 0 };
        for entry in catalog.entries() {
            if monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            match repository.snapshot(entry) {
                Ok(snapshot) => all.snapshots.push((entry.clone(), snapshot)),
                // Somebody else removed it since it was listed.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                // Nothing is known of it, and all that is known may be wrong.
                Err(e) if e.is_service_failure() => return Err(e.into()),
                Err(e) => {
                    all.unreadable += 1;
                    monitor.warning(None, &format!("{e}; it is kept"));
                }
            }
        }
        Ok(all)
    }

    fn held(&self, repository: &Repository) -> Result<Held, RepoError> {
        Held::of(repository, self.snapshots.iter().map(|(entry, snapshot)| (&entry.id, snapshot)))
    }
}

/// What a policy makes of a repository.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// The snapshots that were judged.
    pub snapshots: Vec<(ObjectId, Snapshot)>,
    /// How; places are those in `snapshots`.
    pub groups: Vec<Group>,
    /// Records that cannot be read: kept, and counted for nothing.
    pub unreadable: u64,
    /// What is to be removed, oldest first.
    pub targets: Vec<Target>,
}

impl Verdict {
    /// True when more is to be removed of a group than is kept of it.
    #[must_use]
    pub fn is_drastic(&self) -> bool {
        self.groups.iter().map(Group::counts).any(|(kept, removed)| removed > kept)
    }
}

/// Judges the regular snapshots that `filter` takes. Removes nothing.
pub fn judge(
    repository: &Repository,
    policy: &Policy,
    grouping: Grouping,
    filter: &Filter,
    now: &jiff::Zoned,
    monitor: &dyn Monitor,
) -> Result<Verdict, Error> {
    repository.require(Operation::Delete)?;
    if policy.is_empty() {
        return Err(Error::Empty);
    }
    let catalog = Catalog::load(repository, SnapshotKind::Regular)?;
    let all = Readable::of(repository, &catalog, monitor)?;
    let held = all.held(repository)?;
    let judged: Vec<_> = all.snapshots.iter().filter(|(_, snapshot)| filter.takes(snapshot)).collect();
    let mut candidates = Vec::new();
    for (entry, snapshot) in &judged {
        let (held, writer_key) = (held.is_held_back(&entry.id), repository.sealed_by(entry)?);
        candidates.push(Candidate { id: entry.id, snapshot, held, writer_key });
    }
    let groups = retention::judge(&candidates, policy, grouping, now);
    let gone = groups.iter().flat_map(|group| &group.snapshots).filter(|one| !one.is_kept());
    let target = |(entry, snapshot): &(CatalogEntry, Snapshot)| Target {
        entry: entry.clone(),
        snapshot: Some(snapshot.clone()),
    };
    let mut targets: Vec<_> = gone.map(|one| target(judged[one.index])).collect();
    targets.sort_by(|a, b| a.entry.cmp(&b.entry));
    let snapshots = judged.iter().map(|(entry, snapshot)| (entry.id, snapshot.clone())).collect();
    Ok(Verdict { snapshots, groups, unreadable: all.unreadable, targets })
}

/// Removes what was planned, in this order: the records, and before them a note that this is meant. Interrupted, it
/// has removed some, and the same plan made again names the others.
pub fn run(repository: &Repository, targets: &[Target], monitor: &dyn Monitor) -> Result<(), Error> {
    // The note needs a time for its name only; that of the newest will do.
    let Some(time) = targets.iter().map(Target::time).max() else { return Ok(()) };
    let announced: Vec<_> = targets.iter().map(|target| (&target.entry, target.snapshot.as_ref())).collect();
    let superfluous = history::announce(repository, &announced, time)?;
    for Target { entry, .. } in targets {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        repository.remove_snapshot(entry)?;
    }
    repository.drop_removals(&superfluous);
    Ok(())
}

/// Removes a snapshot that was just made, and that nobody will miss.
pub fn withdraw(repository: &Repository, entry: &CatalogEntry) -> Result<(), Error> {
    let target = Target { entry: entry.clone(), snapshot: repository.snapshot(entry).ok() };
    run(repository, &[target], &Silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::retention::{Judged, Key, Reason};

    #[test]
    fn to_remove_more_of_any_group_than_is_kept_of_it_is_drastic() {
        let group = |kept: usize, removed: usize| {
            let reasons = (0..kept).map(|_| vec![Reason::Last]).chain((0..removed).map(|_| Vec::new()));
            let snapshots = reasons.enumerate().map(|(index, reasons)| Judged { index, reasons }).collect();
            Group { key: Key::default(), snapshots }
        };
        for (groups, drastic) in [
            (vec![], false),
            (vec![group(3, 2), group(2, 2)], false),
            (vec![group(30, 1), group(2, 3)], true),
            (vec![group(1, 2), group(1, 0)], true),
        ] {
            assert_eq!(Verdict { groups, ..Verdict::default() }.is_drastic(), drastic);
        }
    }
}
