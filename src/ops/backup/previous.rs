//! The previous snapshot, merged with the walk.

use std::cmp::Ordering;

use crate::model::{Entry, RepoPath};
use crate::repo::{Baseline, ManifestReader};

/// Entries of the previous snapshot, in order, from wherever they are at hand.
pub(super) enum Source<'a> {
    /// There is none.
    None,
    /// The cache has them.
    Cache(Box<Baseline>),
    /// They are read from the repository.
    Repository(Box<ManifestReader<'a>>),
}

/// Walks through the previous snapshot beside the walk of the tree.
pub(super) struct Previous<'a> {
    source: Source<'a>,
    next: Option<Entry>,
    /// Files passed over since last asked: those that are gone.
    removed: u64,
    /// What went wrong; from there on everything is new.
    pub(super) fault: Option<String>,
}

impl<'a> Previous<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        let mut this = Self { source, next: None, removed: 0, fault: None };
        this.advance();
        this
    }

    fn advance(&mut self) {
        let next = match &mut self.source {
            Source::None => Ok(None),
            Source::Cache(baseline) => baseline.next_entry().map_err(|e| e.to_string()),
            Source::Repository(reader) => reader.next_entry().map_err(|e| e.to_string()),
        };
        self.next = next.unwrap_or_else(|fault| {
            self.fault = Some(fault);
            self.source = Source::None;
            None
        });
    }

    /// The entry at `path`, if the previous snapshot has it. Paths asked for must ascend.
    pub(super) fn take(&mut self, path: &RepoPath) -> Option<Entry> {
        loop {
            match self.next.as_ref()?.path.cmp(path) {
                Ordering::Greater => return None,
                Ordering::Equal => {
                    let entry = self.next.take();
                    self.advance();
                    return entry;
                }
                Ordering::Less => {
                    self.removed += u64::from(self.next.as_ref().is_some_and(|e| e.content().is_some()));
                    self.advance();
                }
            }
        }
    }

    /// Counts the files passed over since the last call.
    pub(super) fn take_removed(&mut self) -> u64 {
        std::mem::take(&mut self.removed)
    }

    /// Passes over the rest.
    pub(super) fn finish(&mut self) {
        while let Some(entry) = self.next.take() {
            self.removed += u64::from(entry.content().is_some());
            self.advance();
        }
    }
}
