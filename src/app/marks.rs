//! Listing snapshots with their marks, and answering them.

use std::collections::{BTreeMap, BTreeSet};

use super::run::{open, open_with_any_key, time_of, zoned};
use super::{AppError, Session, SnapshotInfo};
use crate::model::{ObjectId, SnapshotKind, WriterKeyId};
use crate::ops::history::{self, Vanished};
use crate::ops::{alarm, select};
use crate::repo::{Catalog, CatalogEntry, Repository};

/// Snapshots, and which of their alarms are answered.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// Records that could not be read; each was warned about.
    pub unreadable: u64,
    /// What there is when a writer key opened the repository, which can read none of them.
    pub sealed: Vec<CatalogEntry>,
    /// Those that a writer key made, and which one.
    pub writers: BTreeMap<ObjectId, WriterKeyId>,
    /// Those that somebody accepted, of those that the shrink alarm was raised over.
    pub accepted: BTreeSet<ObjectId>,
    /// Snapshots of any kind that this machine has seen, and that vanished.
    pub vanished: Vec<Vanished>,
}

impl Listing {
    pub(super) fn load(
        session: &Session,
        repository: &Repository,
        kind: SnapshotKind,
    ) -> Result<Self, AppError> {
        let mut listing = Self::default();
        let catalog = Catalog::load(repository, kind)?;
        if repository.writer_key().is_some() {
            listing.sealed = catalog.entries().to_vec();
            return Ok(listing);
        }
        let mut listed = history::Listed::names(kind, &catalog);
        for entry in catalog.entries() {
            let read = repository.snapshot(entry);
            listed.marks.extend(read.iter().map(|snapshot| (entry.id, snapshot.mark())));
            match read {
                Ok(snapshot) => {
                    listing.snapshots.push(SnapshotInfo { id: entry.id, snapshot });
                    listing.writers.extend(repository.sealed_by(entry)?.map(|writer| (entry.id, writer)));
                }
                // One damaged record must not hide the others; `check` counts it.
                Err(e) => {
                    listing.unreadable += 1;
                    session.monitor.warning(None, &e.to_string());
                }
            }
        }
        // What cannot be remembered is no reason to show nothing.
        listing.vanished =
            history::look(repository, &[listed], session.monitor.as_ref()).unwrap_or_else(|e| {
                session.monitor.warning(None, &e.to_string());
                Vec::new()
            });
        if listing.snapshots.iter().any(|info| info.snapshot.is_marked()) {
            listing.accepted = repository.accepted()?;
        }
        Ok(listing)
    }

    /// True when the alarm was raised over it and nobody accepted that.
    #[must_use]
    pub fn is_open(&self, info: &SnapshotInfo) -> bool {
        info.snapshot.is_marked() && !self.accepted.contains(&info.id)
    }
}

/// Lists snapshots.
pub fn listing(session: &Session, safety: bool) -> Result<Listing, AppError> {
    let (repository, _) = open_with_any_key(session)?;
    let kind = if safety { SnapshotKind::Safety } else { SnapshotKind::Regular };
    Listing::load(session, &repository, kind)
}

/// Accepts what snapshots lost. Returns them, and those among them that nobody had accepted before.
pub fn accept(session: &Session, words: &[String]) -> Result<(Vec<SnapshotInfo>, Vec<ObjectId>), AppError> {
    let (repository, _) = open(session)?;
    let catalog = Catalog::load(&repository, SnapshotKind::Regular)?;
    let now = zoned(session.clock.as_ref());
    let mut found = Vec::new();
    for word in words {
        let entry = select::choose(&catalog, word, &now, &time_of(&repository))?;
        found.push((entry.id, repository.snapshot(entry)?));
    }
    let fresh = alarm::accept(&repository, &found, session.clock.as_ref())?;
    Ok((found.into_iter().map(|(id, snapshot)| SnapshotInfo { id, snapshot }).collect(), fresh))
}
