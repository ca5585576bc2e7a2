//! What there is to do: what is there compared with what shall be.

use crate::model::{Capture, Entry, RepoPath};
use crate::ops::compare::{self, Attention, Change, Pair, Settle};
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
    /// It shall be a further name of this file.
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
}

impl Plan {
    /// True when nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
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
    pub(super) plan: Plan,
}

impl Collector<'_> {
    fn concerns(&self, pair: &Pair) -> bool {
        if self.scope.is_empty() || self.scope.iter().any(|scope| pair.path().starts_with(scope)) {
            return true;
        }
        // A directory on the way to a path asked for is made where it is missing.
        pair.new.is_none() && self.scope.iter().any(|scope| scope.starts_with(pair.path()))
    }

    pub(super) fn pair(&mut self, pair: Pair) -> Result<(), RepoError> {
        if !self.concerns(&pair) {
            return Ok(());
        }
        let attention = Attention { owner: self.owner, directory_times: true };
        let Some(change) = compare::change(&pair, self.blobs, self.settle, attention)? else {
            self.plan.unchanged += 1;
            return Ok(());
        };
        if change == Change::Added && self.keep_extra {
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
