//! History that cannot be rewritten silently: which snapshots are gone though nobody said to have removed them.
//! `format-spec/` sections 9, 10.2 and 13, rule 8.
//!
//! There are two witnesses. This client remembers what it has seen; and the numbers of each writer's snapshots have
//! no gaps, so that what is missing in the middle shows even to a machine that has never been here. What somebody
//! removed by this program stands in a removal record, which nobody without an owner's key can write.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Clock;
use crate::model::{ObjectId, Removed, Snapshot, SnapshotKind, SnapshotMark, Timestamp, WriterId};
use crate::repo::{
    Catalog, CatalogEntry, Folder, History, Removals, RepoError, Repository, SeenSnapshots, parse_name,
};
use crate::report::Monitor;

/// No writer makes so many snapshots: a number so far from the others was invented, and says nothing.
const MOST_MISSING: u64 = 10_000_000;
/// Records that a look asks the remote for at most: of a repository with many that are new to it, a machine learns
/// in several.
const ASKED: usize = 16;

/// A snapshot that this client has seen, that is gone, and that nobody said to have removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanished {
    /// The name that its record had.
    pub name: String,
    /// Its id.
    pub id: ObjectId,
    /// When it was taken, to the second.
    pub time: Timestamp,
}

impl Vanished {
    fn of(name: &str) -> Option<Self> {
        let (_, time, id) = parse_name(name)?;
        Some(Self { name: name.to_owned(), id, time: Timestamp::from_secs(time?) })
    }
}

/// Snapshots of one kind that are there, and what is known of them.
pub struct Listed<'a> {
    /// Which kind.
    pub kind: SnapshotKind,
    /// All that are there.
    pub catalog: &'a Catalog,
    /// The records that were read, by id.
    pub marks: BTreeMap<ObjectId, SnapshotMark>,
}

impl<'a> Listed<'a> {
    /// Nothing but names is known.
    #[must_use]
    pub fn names(kind: SnapshotKind, catalog: &'a Catalog) -> Self {
        Self { kind, catalog, marks: BTreeMap::new() }
    }

    /// The records that can be read are read.
    pub fn read(
        repository: &Repository,
        kind: SnapshotKind,
        catalog: &'a Catalog,
    ) -> Result<Self, RepoError> {
        let mut listed = Self::names(kind, catalog);
        for entry in catalog.entries() {
            match repository.snapshot(entry) {
                Ok(snapshot) => drop(listed.marks.insert(entry.id, snapshot.mark())),
                Err(e) if e.is_service_failure() => return Err(e),
                Err(_) => {}
            }
        }
        Ok(listed)
    }
}

/// Compares what is there with what this client has seen, and remembers it. Returns all that vanished, oldest
/// first, also what did so earlier. The remote is asked only when something is missing.
pub fn look(
    repository: &Repository,
    listed: &[Listed<'_>],
    monitor: &dyn Monitor,
) -> Result<Vec<Vanished>, RepoError> {
    let cache = repository.cache();
    let before = cache.history();
    let mut history = before.clone().unwrap_or_default();
    let mut missing = SeenSnapshots::new();
    for Listed { kind, catalog, marks } in listed {
        let there: BTreeMap<&str, &CatalogEntry> =
            catalog.entries().iter().map(|entry| (entry.name.as_str(), entry)).collect();
        for list in [&mut history.seen, &mut history.vanished] {
            let gone = |name: &str| is_of(name, *kind) && !there.contains_key(name);
            missing
                .extend(list.iter().filter(|(name, _)| gone(name)).map(|(name, mark)| (name.clone(), *mark)));
            list.retain(|name, _| !is_of(name, *kind));
        }
        let known = before.as_ref();
        for (name, entry) in there {
            let was =
                known.and_then(|h| h.seen.get(name).or_else(|| h.vanished.get(name)).copied()).flatten();
            // What is new here may be this machine's own, and its copy at hand.
            let is_new = known.is_none_or(|h| !h.seen.contains_key(name) && !h.vanished.contains_key(name));
            let own =
                || is_new.then(|| repository.snapshot_copy(entry)).flatten().map(|snapshot| snapshot.mark());
            history.seen.insert(name.to_owned(), marks.get(&entry.id).copied().or(was).or_else(own));
        }
    }
    ask(repository, listed, &mut history);
    if !missing.is_empty() {
        history.vanished.extend(unexplained(repository, missing, monitor)?);
    }
    if before.as_ref() != Some(&history) {
        cache.note_history(&history)?;
    }
    let mut vanished: Vec<_> = history.vanished.keys().filter_map(|name| Vanished::of(name)).collect();
    vanished.sort_by_key(|one| (one.time, one.id));
    Ok(vanished)
}

/// Learns of snapshots of other machines by which numbers they can be looked up once they are gone; the newest first.
/// What cannot be read now is asked for the next time.
fn ask(repository: &Repository, listed: &[Listed<'_>], history: &mut History) {
    if repository.writer_key().is_some() {
        return;
    }
    let entries = listed.iter().flat_map(|listed| listed.catalog.entries().iter().rev());
    let unknown = |entry: &&CatalogEntry| matches!(history.seen.get(&entry.name), Some(None));
    let asked: Vec<_> = entries.filter(unknown).take(ASKED).collect();
    for entry in asked {
        match repository.snapshot(entry) {
            Ok(snapshot) => drop(history.seen.insert(entry.name.clone(), Some(snapshot.mark()))),
            // The backup that this is a part of will say so.
            Err(e) if e.is_service_failure() => return,
            Err(_) => {}
        }
    }
}

/// Those of the missing snapshots of which nobody said to have removed them.
fn unexplained(
    repository: &Repository,
    mut missing: SeenSnapshots,
    monitor: &dyn Monitor,
) -> Result<SeenSnapshots, RepoError> {
    if repository.writer_key().is_some() {
        // It can read no removal record. Where there is one, whatever is missing may stand in it; to remember that
        // for ever helps nobody.
        let tells = repository.list(Folder::Removed)?.is_empty();
        return Ok(if tells { missing } else { SeenSnapshots::new() });
    }
    let Removals { removed, unreadable, .. } = repository.removals()?;
    missing.retain(|name, mark| !is_explained(name, *mark, &removed));
    // Whoever has the remote can plant such a record: it must not excuse anything.
    if let Some(e) = unreadable.first().filter(|_| !missing.is_empty()) {
        let message =
            format!("{e}; whether it says that the snapshots that vanished were removed is not known");
        monitor.warning(None, &message);
    }
    Ok(missing)
}

fn is_of(name: &str, kind: SnapshotKind) -> bool {
    let folder = match kind {
        SnapshotKind::Regular => Folder::Snapshots,
        SnapshotKind::Safety => Folder::Safety,
    };
    parse_name(name).is_some_and(|(f, _, _)| f == folder)
}

/// What nobody here has read cannot be looked up: where anything was removed it may be that.
fn is_explained(name: &str, mark: Option<SnapshotMark>, removed: &Removed) -> bool {
    let by_id = parse_name(name).is_some_and(|(_, _, id)| removed.covers_unreadable(&id));
    by_id || mark.map_or(*removed != Removed::default(), |mark| removed.covers(mark))
}

/// Numbers of a writer's snapshots that are neither there nor were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The writer.
    pub writer: WriterId,
    /// The first number.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What can be said of the history of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Snapshots that this client has seen, and that vanished.
    pub vanished: Vec<Vanished>,
    /// Others that must have been there.
    pub gaps: Vec<Gap>,
    /// A record is unreadable, or was removed unread, so that a gap may be it.
    pub doubtful: bool,
    /// What is odd and harmless, in words.
    pub notes: Vec<String>,
}

/// Reads all records, and looks for what is missing.
pub fn audit(repository: &Repository, monitor: &dyn Monitor) -> Result<Audit, RepoError> {
    let audit = audit_once(repository, monitor)?;
    if audit.vanished.is_empty() && audit.gaps.is_empty() {
        return Ok(audit);
    }
    // A listing is not one moment: of two snapshots that were published meanwhile it may show the second only.
    audit_once(repository, monitor)
}

fn audit_once(repository: &Repository, monitor: &dyn Monitor) -> Result<Audit, RepoError> {
    // Snapshots before removal records: who removes does it the other way round.
    let regular = Catalog::load(repository, SnapshotKind::Regular)?;
    let safety = Catalog::load(repository, SnapshotKind::Safety)?;
    let listed = [
        Listed::read(repository, SnapshotKind::Regular, &regular)?,
        Listed::read(repository, SnapshotKind::Safety, &safety)?,
    ];
    let vanished = look(repository, &listed, monitor)?;
    let entries: Vec<_> = regular.entries().iter().chain(safety.entries()).map(|entry| entry.id).collect();
    let marks: Vec<(ObjectId, SnapshotMark)> = listed.iter().flat_map(|l| l.marks.clone()).collect();
    let History { seen, vanished: lost } = repository.cache().history().unwrap_or_default();
    let removals = repository.removals()?;
    let mut audit = Audit { vanished, ..Audit::default() };
    let known: BTreeSet<ObjectId> = marks.iter().map(|(id, _)| *id).collect();
    // A record that is damaged today may have been read before.
    let remembered =
        seen.iter().chain(&lost).filter_map(|(name, mark)| Some((parse_name(name)?.2, (*mark)?)));
    let remembered: BTreeMap<ObjectId, SnapshotMark> = remembered.collect();
    let unknown = entries.iter().any(|id| !known.contains(id) && !remembered.contains_key(id));
    audit.doubtful = unknown || !removals.unreadable.is_empty();
    audit.notes = notes(&marks, &removals.removed);
    let there = marks.iter().map(|(_, mark)| *mark).chain(remembered.into_values());
    let (gaps, invented): (Vec<_>, Vec<_>) =
        gaps(there, &removals.removed).into_iter().partition(|gap| gap.last - gap.first < MOST_MISSING);
    let number = |gap: Gap| format!("writer {} has numbered a snapshot {}", gap.writer.short(), gap.last + 1);
    audit.notes.extend(invented.into_iter().map(number));
    // What was removed unread has some number, too.
    let missing: u64 = gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
    audit.doubtful |= missing <= removals.removed.ids().count() as u64;
    audit.gaps = gaps;
    Ok(audit)
}

/// The gaps between the numbers that are there and those that were removed.
fn gaps(there: impl Iterator<Item = SnapshotMark>, removed: &Removed) -> Vec<Gap> {
    let mut all = removed.clone();
    there.filter(|mark| mark.sequence > 0).for_each(|mark| all.add(mark));
    let runs: Vec<_> = all.runs().collect();
    let between = |two: &[(WriterId, u64, u64)]| match two {
        [(writer, _, last), (next, first, _)] if writer == next => {
            Some(Gap { writer: *writer, first: last + 1, last: first - 1 })
        }
        _ => None,
    };
    runs.windows(2).filter_map(between).collect()
}

fn notes(marks: &[(ObjectId, SnapshotMark)], removed: &Removed) -> Vec<String> {
    let mut by_mark: BTreeMap<SnapshotMark, Vec<String>> = BTreeMap::new();
    marks.iter().for_each(|(id, mark)| by_mark.entry(*mark).or_default().push(id.short()));
    let mut notes = Vec::new();
    for (mark, ids) in by_mark {
        let SnapshotMark { writer, sequence } = mark;
        if ids.len() > 1 {
            notes.push(format!(
                "snapshots {} are all number {sequence} of writer {}: a cache was copied or put back, or a backup was \
                 interrupted at its end",
                ids.join(", "),
                writer.short()
            ));
        }
        if removed.covers(mark) {
            notes.push(format!("snapshot {} was to be removed, and is there", ids.join(", ")));
        }
    }
    notes
}

/// Says for everybody that what vanished was removed on purpose. Returns whether there was anything to say.
pub fn settle(repository: &Repository, audit: &Audit, clock: &dyn Clock) -> Result<bool, RepoError> {
    let cache = repository.cache();
    let history = cache.history().unwrap_or_default();
    let Removals { removed: before, records, .. } = repository.removals()?;
    let mut removed = before.clone();
    for one in &audit.vanished {
        match history.vanished.get(&one.name).copied().flatten() {
            Some(mark) if mark.sequence > 0 => removed.add(mark),
            _ => removed.add_unreadable(one.id),
        }
    }
    audit.gaps.iter().for_each(|gap| removed.add_run(gap.writer, gap.first, gap.last));
    if removed != before {
        repository.publish_removal(clock.now(), &removed)?;
        repository.drop_removals(&records);
    }
    cache.forget_snapshots(audit.vanished.iter().map(|one| one.name.as_str()))?;
    Ok(removed != before)
}

/// Notes down, before records of snapshots are removed, that this is meant; `None` stands for one that cannot be
/// read. Returns the removal records that are superfluous when that is done.
pub fn announce(
    repository: &Repository,
    targets: &[(&CatalogEntry, Option<&Snapshot>)],
    time: Timestamp,
) -> Result<Vec<String>, RepoError> {
    let Removals { removed: before, records, .. } = repository.removals()?;
    let history = repository.cache().history().unwrap_or_default();
    let mut removed = before.clone();
    for (entry, snapshot) in targets {
        // One that cannot be read may have been read before.
        let remembered = || history.seen.get(&entry.name).copied().flatten();
        let mark = snapshot.map(Snapshot::mark).or_else(remembered);
        // Numbers begin at 1; what has none is known by its id.
        match mark.filter(|mark| mark.sequence > 0) {
            Some(mark) => removed.add(mark),
            None => removed.add_unreadable(entry.id),
        }
    }
    let superfluous = if removed == before {
        Vec::new()
    } else {
        repository.publish_removal(time, &removed)?;
        records
    };
    repository.cache().forget_snapshots(targets.iter().map(|(entry, _)| entry.name.as_str()))?;
    Ok(superfluous)
}

#[cfg(test)]
mod tests;
