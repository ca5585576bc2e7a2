//! What there is to do: what is there compared with what shall be.

use std::collections::{BTreeMap, HashMap};

use super::database;
use crate::fs::Dir;
use crate::model::{Capture, Entry, EntryKind, FileError, RepoPath};
use crate::ops::compare::{self, Attention, Change, Links, Pair, Settle};
use crate::repo::{BlobReader, RepoError};

/// One path that will change.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where.
    pub path: RepoPath,
    /// How what is there differs from what shall be: [`Change::Added`] is there and shall not be,
    /// [`Change::Removed`] shall be there and is not.
    pub change: Change,
    /// What is there.
    pub have: Option<Entry>,
    /// What shall be there.
    pub want: Option<Entry>,
    /// It shall be a further name of this file, which is there or made before it.
    pub link: Option<RepoPath>,
}

impl Step {
    /// Nothing to do at the root.
    pub(super) fn root() -> Self {
        Self { path: RepoPath::root(), change: Change::Metadata, have: None, want: None, link: None }
    }

    /// True where a database is, or shall be.
    #[must_use]
    pub fn is_database(&self) -> bool {
        [&self.have, &self.want].into_iter().flatten().any(is_database)
    }

    /// True when bytes of a file must be written.
    pub(super) fn writes_content(&self) -> bool {
        self.link.is_none()
            && self.change != Change::Metadata
            && self.want.as_ref().is_some_and(|want| want.content().is_some())
    }

    /// True when what is there has to go before what shall be there can be made.
    pub(super) fn clears(&self) -> bool {
        self.have.is_some() && (self.want.is_none() || self.change == Change::Type)
    }
}

pub(super) fn is_database(entry: &Entry) -> bool {
    entry.content().is_some_and(|content| content.capture != Capture::Plain)
}

/// What a rollback will do, or has done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Paths that change, in the order of a walk.
    pub steps: Vec<Step>,
    /// Entries that are there as they shall be.
    pub unchanged: u64,
    /// Paths that the snapshot does not have and that stay ([`super::Request::keep_extra`]).
    pub extra: u64,
    /// Paths that the snapshot has, and that are there, but that a backup would leave out today: they stay as
    /// they are, with all that is below them, since no safety snapshot would hold them.
    pub left_out: Vec<RepoPath>,
}

impl Plan {
    /// True when nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// True for what stays as it is because a backup would leave it out today.
    pub(super) fn leaves_out(&self, path: &RepoPath) -> bool {
        self.left_out.iter().any(|left| path.starts_with(left))
    }

    /// Bytes of files that will be written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let wants = self.steps.iter().filter(|step| step.writes_content());
        wants.filter_map(|step| step.want.as_ref()).map(Entry::size).sum()
    }
}

/// Collects the steps of a comparison whose old side is what shall be, and whose new side is what is there.
pub(super) struct Collector<'a> {
    pub(super) blobs: &'a BlobReader<'a>,
    pub(super) settle: &'a dyn Settle,
    pub(super) scope: &'a [RepoPath],
    pub(super) keep_extra: bool,
    pub(super) owner: bool,
    /// Paths that the snapshot could not read: what is there may be what it lacks.
    pub(super) unknown: &'a [FileError],
    /// There were more of them than its record names.
    pub(super) unknown_more: bool,
    /// Devices are made.
    pub(super) devices: bool,
    /// The state dir, when it was walked for this comparison: what is there and was not told is left out.
    pub(super) walked: Option<&'a Dir>,
    /// The snapshot is what was there before a rollback of the same paths, which made the directories above
    /// them where they were missing.
    pub(super) takes_back: bool,
    /// Directories above the paths asked for that the snapshot does not have, and whether all that is in
    /// them goes.
    pub(super) made_above: BTreeMap<RepoPath, bool>,
    pub(super) names: Names,
    pub(super) plan: Plan,
}

/// What is known of files with several names, of the paths that are rolled back.
#[derive(Default)]
pub(super) struct Names {
    links: Links,
    /// For each such file of the snapshot a name of it that is there, and stays.
    staying: HashMap<u64, RepoPath>,
}

impl Collector<'_> {
    fn concerns(&self, pair: &Pair) -> bool {
        let below =
            |scope: &RepoPath| pair.path().starts_with(scope) || database::is_companion(pair.path(), scope);
        if self.scope.is_empty() || self.scope.iter().any(below) {
            return true;
        }
        // A directory on the way to a path asked for is made where it is missing.
        pair.new.is_none() && self.is_above(pair.path())
    }

    fn is_above(&self, path: &RepoPath) -> bool {
        self.scope.iter().any(|scope| scope.starts_with(path))
    }

    /// True for a directory on the way to a path asked for that goes with it, unless something else is in it.
    fn was_made(&mut self, pair: &Pair) -> bool {
        let made = self.takes_back
            && pair.old.is_none()
            && pair.new.as_ref().is_some_and(Entry::is_dir)
            && self.is_above(pair.path());
        if made {
            self.made_above.insert(pair.path().clone(), true);
        } else if pair.new.is_some() {
            let path = pair.path();
            self.made_above
                .iter_mut()
                .filter(|(dir, _)| path.starts_with(dir))
                .for_each(|(_, goes)| *goes = false);
        }
        made
    }

    /// True for what the snapshot might have, had it been able to read it, and the directories above.
    fn is_unknown(&self, path: &RepoPath) -> bool {
        self.unknown_more
            || self.unknown.iter().any(|error| path.starts_with(&error.path) || error.path.starts_with(path))
    }

    /// Notes what is there though the walk did not tell it.
    fn is_left_out(&mut self, path: &RepoPath) -> bool {
        let Some(root) = self.walked else { return false };
        let parent = root.open_path(&path.parent().unwrap_or_default());
        let there = parent.is_ok_and(|parent| parent.stat_at(path.name()).is_ok());
        if there {
            self.plan.left_out.push(path.clone());
        }
        there
    }

    pub(super) fn pair(&mut self, pair: Pair) -> Result<(), RepoError> {
        if !self.concerns(&pair) && !self.was_made(&pair) {
            return Ok(());
        }
        let attention = Attention { owner: self.owner, directory_times: true };
        let relinked = self.names.links.differ(&pair);
        let change = match compare::change(&pair, self.blobs, self.settle, attention)? {
            None | Some(Change::Metadata) if relinked => Some(Change::Link),
            other => other,
        };
        if let (None | Some(Change::Metadata), Some(group)) = (change, group(pair.old.as_ref())) {
            self.names.staying.entry(group).or_insert_with(|| pair.path().clone());
        }
        let Some(change) = change else {
            self.plan.unchanged += 1;
            return Ok(());
        };
        if change == Change::Added && (self.keep_extra || self.is_unknown(pair.path())) {
            self.plan.extra += 1;
            return Ok(());
        }
        if change == Change::Removed && (self.plan.leaves_out(pair.path()) || self.is_left_out(pair.path())) {
            return Ok(());
        }
        let is_device =
            |entry: &Entry| matches!(entry.kind, EntryKind::CharDevice(..) | EntryKind::BlockDevice(..));
        if !self.devices && pair.old.as_ref().is_some_and(is_device) {
            self.plan.extra += 1;
            return Ok(());
        }
        let path = pair.path().clone();
        let Pair { old: want, new: have, old_link: link, .. } = pair;
        // The first name may be outside of what is rolled back, and of another content there.
        let link = link
            .filter(|first| self.scope.is_empty() || self.scope.iter().any(|scope| first.starts_with(scope)));
        self.plan.steps.push(Step { path, change, have, want, link });
        Ok(())
    }
}

impl Collector<'_> {
    /// The plan, when all pairs have been told. What becomes a name of a file of which another name stays
    /// is made from that one, so that those which stay are left alone.
    pub(super) fn finish(self) -> Plan {
        let mut plan = self.plan;
        plan.steps.retain(|step| self.made_above.get(&step.path).is_none_or(|goes| *goes));
        for step in plan.steps.iter_mut().filter(|step| step.change != Change::Metadata) {
            let staying = group(step.want.as_ref()).and_then(|group| self.names.staying.get(&group));
            step.link = staying.cloned().or(step.link.take());
        }
        plan
    }
}

/// The number of a file that has several names.
fn group(entry: Option<&Entry>) -> Option<u64> {
    entry.filter(|entry| entry.link_group != 0 && entry.content().is_some()).map(|entry| entry.link_group)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{EntryKind, Metadata};
    use crate::remote::Memory;
    use crate::repo::Index;
    use crate::repo::tests::repository;

    fn entry(path: &str, mode: u32) -> Entry {
        let path = RepoPath::new(path.as_bytes().to_vec()).unwrap();
        let meta = Metadata { mode, ..Metadata::default() };
        Entry { path, kind: EntryKind::Fifo, meta, link_group: 0, unsettled: false }
    }

    /// The changes that a plan has for these pairs of (path, in the snapshot, there).
    fn changes(scope: &[&str], unknown: &[&str], more: bool, pairs: &[(&str, bool, bool)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let repository = repository(&Arc::new(Memory::default()), dir.path());
        let index = Index::default();
        let blobs = BlobReader::new(&repository, &index);
        let path = |text: &&str| RepoPath::new(text.as_bytes().to_vec()).unwrap();
        let scope: Vec<RepoPath> = scope.iter().map(path).collect();
        let error = |text: &&str| FileError { path: path(text), message: String::new() };
        let unknown: Vec<FileError> = unknown.iter().map(error).collect();
        let mut collector = Collector {
            blobs: &blobs,
            settle: &blobs,
            scope: &scope,
            keep_extra: false,
            owner: false,
            unknown: &unknown,
            unknown_more: more,
            devices: false,
            walked: None,
            takes_back: false,
            made_above: BTreeMap::new(),
            names: Names::default(),
            plan: Plan::default(),
        };
        for (path, want, have) in pairs {
            let (old, new) = (want.then(|| entry(path, 1)), have.then(|| entry(path, 2)));
            collector.pair(Pair { old, new, old_link: None }).unwrap();
        }
        let words = collector.plan.steps.iter().map(|step| format!("{}:{:?}", step.path, step.change));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_the_snapshot_could_not_read_stays() {
        let pairs = [("a", false, true), ("a/b", false, true), ("a/c", false, true), ("d", true, false)];
        assert_eq!(changes(&[], &[], false, &pairs), "a:Added a/b:Added a/c:Added d:Removed");
        assert_eq!(changes(&[], &["a/b"], false, &pairs), "a/c:Added d:Removed");
        assert_eq!(changes(&[], &["a"], false, &pairs), "d:Removed");
        assert_eq!(changes(&[], &[], true, &pairs), "d:Removed");
    }

    #[test]
    fn a_scope_takes_in_what_is_below_and_makes_what_is_above() {
        let pairs = [("a", true, false), ("a/b", true, true), ("a/c", true, true), ("e", false, true)];
        assert_eq!(changes(&["a/b"], &[], false, &pairs), "a:Removed a/b:Metadata");
        let there = [("a", true, true), ("a/b", true, true), ("ab", true, true)];
        assert_eq!(changes(&["a/b"], &[], false, &there), "a/b:Metadata", "what is above stays as it is");
    }
}
