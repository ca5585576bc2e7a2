//! What there is: everything a prune must know before it may judge.

use std::collections::BTreeSet;

use super::Error;
use super::marks::{Used, walk};
use crate::model::{Classify, ErrorClass, ManifestRef, ObjectId, SnapshotKind};
use crate::repo::{Catalog, Census, Condemnation, Folder, ObjectInfo, RepoError, Repository, Standing};
use crate::report::Monitor;

/// Index objects may be replaced by others while they are read, and a listing that lasts may miss both.
const TRIES: usize = 2;

/// A repository as a prune sees it.
pub(super) struct State {
    /// Acceptances, listed before the snapshots.
    pub(super) accepted: Vec<ObjectInfo>,
    /// gc records, oldest first.
    pub(super) gc: Vec<Condemnation>,
    /// Ids of all snapshots.
    pub(super) snapshots: BTreeSet<ObjectId>,
    pub(super) census: Census,
    /// Packs that this machine has met damaged, or has reason to suspect: nothing is left to them alone as long as
    /// it is elsewhere too.
    pub(super) suspects: BTreeSet<ObjectId>,
    /// What the snapshots need.
    pub(super) used: Used,
}

impl State {
    /// Looks at everything. The order matters: a snapshot that is published before our listing of snapshots
    /// is seen, one that is published after finds in `gc/` what was condemned before; and what a snapshot
    /// needs is listed after it.
    pub(super) fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, Error> {
        let mut tries = 1;
        loop {
            match Self::look(repository, monitor) {
                Err(Error::Damaged { .. }) if tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    fn look(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, Error> {
        // An acceptance is written when its snapshots are there.
        let accepted = repository.list(Folder::Accepted)?;
        let gc = repository.condemnations()?;
        let condemned: BTreeSet<ObjectId> =
            gc.iter().flat_map(|record| record.packs.iter().copied()).collect();
        let (snapshots, manifests) = manifests(repository)?;
        let objects = repository.list(Folder::Index)?;
        let packs = repository.list(Folder::Packs)?;
        let suspects: BTreeSet<ObjectId> = repository.cache().damage().into_keys().collect();
        let standing = |id: &ObjectId| match (suspects.contains(id), condemned.contains(id)) {
            (true, _) => Standing::Bad,
            (false, true) => Standing::Condemned,
            (false, false) => Standing::Good,
        };
        let census = Census::take(repository, &objects, &packs, &standing)
            .map_err(damaged("the index cannot be read"))?;
        let used = walk(repository, &census, &manifests, monitor)?;
        Ok(Self { accepted, gc, snapshots, census, suspects, used })
    }
}

fn manifests(repository: &Repository) -> Result<(BTreeSet<ObjectId>, Manifests), Error> {
    let (mut ids, mut manifests) = (BTreeSet::new(), BTreeSet::new());
    for kind in [SnapshotKind::Regular, SnapshotKind::Safety] {
        for entry in Catalog::load(repository, kind)?.entries() {
            ids.insert(entry.id);
            match repository.snapshot(entry) {
                Ok(snapshot) => {
                    let ManifestRef { root, level } = snapshot.manifest;
                    manifests.insert((level, root.0));
                }
                // Forgotten since it was listed.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                Err(e) => return Err(damaged("a snapshot cannot be read")(e)),
            }
        }
    }
    Ok((ids, manifests))
}

/// Levels and ids of root segments.
pub(super) type Manifests = BTreeSet<(u8, [u8; 32])>;

/// Damage of what was read ends the prune; any other failure is what it is.
pub(super) fn damaged(what: &'static str) -> impl Fn(RepoError) -> Error {
    move |error| match error.class() {
        ErrorClass::Damaged => Error::Damaged { what: format!("{what}: {error}") },
        _ => error.into(),
    }
}
