//! The catalog: the set of snapshots.

use super::layout::{self, Folder, ObjectInfo};
use super::{RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::snapshot_v1;
use crate::model::{ObjectId, Snapshot, SnapshotKind};

/// A snapshot's name: what a listing tells without reading the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatalogEntry {
    /// Seconds since 1970 of its time.
    pub time: i64,
    /// Its id.
    pub id: ObjectId,
    /// The object.
    pub name: String,
}

/// The snapshots of a repository, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
}

impl Catalog {
    /// Lists the regular or safety snapshots.
    pub fn load(repository: &Repository, kind: SnapshotKind) -> Result<Self, RepoError> {
        Ok(Self::of(repository, repository.list(folder(kind))?))
    }

    /// The catalog of listed records.
    #[must_use]
    pub fn of(repository: &Repository, listed: Vec<ObjectInfo>) -> Self {
        let entry = |ObjectInfo { name, time, id, .. }| Some(CatalogEntry { time: time?, id, name });
        let mut catalog = Self::from_entries(listed.into_iter().filter_map(entry));
        catalog.order_ties(repository);
        catalog
    }

    /// Names tell seconds. Of snapshots of one second their records tell which came first; one that
    /// cannot be read counts as the oldest, so that it is not taken for the latest.
    fn order_ties(&mut self, repository: &Repository) {
        for same in self.entries.chunk_by_mut(|a, b| a.time == b.time).filter(|same| same.len() > 1) {
            same.sort_by_cached_key(|entry| {
                let record = repository.snapshot(entry).ok();
                (record.map(|snapshot| (snapshot.time.nanos, snapshot.sequence)), entry.id)
            });
        }
    }

    /// A catalog of these entries.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = CatalogEntry>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort();
        Self { entries }
    }

    /// The snapshots, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[CatalogEntry] {
        &self.entries
    }

    /// True when it has a snapshot of this id.
    #[must_use]
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.entries.iter().any(|e| e.id == *id)
    }
}

fn folder(kind: SnapshotKind) -> Folder {
    match kind {
        SnapshotKind::Regular => Folder::Snapshots,
        SnapshotKind::Safety => Folder::Safety,
    }
}

impl Repository {
    /// Reads a snapshot record and checks that it is what its name says.
    pub fn snapshot(&self, entry: &CatalogEntry) -> Result<Snapshot, RepoError> {
        let record = self.read_record(ObjectKind::Snapshot, &entry.name, &entry.id)?;
        let snapshot = snapshot_v1::decode(&record).map_err(RepoError::object(&entry.name))?;
        if layout::record_name(folder(snapshot.kind), snapshot.time, &entry.id) == entry.name {
            Ok(snapshot)
        } else {
            Err(RepoError::NameMismatch { name: entry.name.clone() })
        }
    }

    /// The record as this machine has it, without asking the remote; `None` when it has none.
    #[must_use]
    pub fn snapshot_copy(&self, entry: &CatalogEntry) -> Option<Snapshot> {
        let bytes = self.cache().copy(&entry.name, &entry.id)?;
        let record = self.sealer().open_record(ObjectKind::Snapshot, &bytes).ok()?;
        snapshot_v1::decode(&record).ok()
    }

    /// Removes the record of a snapshot; one that is gone already is no error.
    pub fn remove_snapshot(&self, entry: &CatalogEntry) -> Result<(), RepoError> {
        // The name came from a listing; nothing but such a record is ever removed by it.
        match layout::parse_name(&entry.name) {
            Some((Folder::Snapshots | Folder::Safety, _, id)) if id == entry.id => {}
            _ => return Err(RepoError::NameMismatch { name: entry.name.clone() }),
        }
        self.remote().delete(&entry.name)?;
        self.cache().forget_copy(&entry.name);
        Ok(())
    }

    /// Publishes a snapshot record, and reads it back if asked to. All that it needs must be durable.
    pub fn publish_snapshot(&self, snapshot: &Snapshot, read_back: bool) -> Result<CatalogEntry, RepoError> {
        let record = snapshot_v1::encode(snapshot).map_err(RepoError::object("snapshot record"))?;
        let (id, name, bytes) = self.write_record(ObjectKind::Snapshot, &record, |id| {
            layout::record_name(folder(snapshot.kind), snapshot.time, id)
        })?;
        if read_back && self.remote().get(&name, bytes.len() as u64)? != bytes {
            return Err(RepoError::ReadBack { name });
        }
        Ok(CatalogEntry { time: snapshot.time.secs, id, name })
    }
}
