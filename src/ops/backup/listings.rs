//! What a backup knows of the repository before it starts, and what it remembers for the next one.
//! `format-spec/` section 13, rule 4 is kept here.

use std::collections::BTreeSet;

use crate::model::{BlobId, ObjectId};
use crate::repo::{Catalog, ObjectInfo, RepoError, Repository, Seen, SharedIndex};

/// Listings that were made before a backup, or remembered from the last one.
pub(super) struct Listings {
    /// Names of gc records, listed before the index objects were.
    pub(super) gc: BTreeSet<String>,
    /// The packs that they condemn.
    pub(super) condemned: BTreeSet<ObjectId>,
    /// Index objects, when they need not be listed again.
    pub(super) index: Option<Vec<ObjectInfo>>,
    /// Root segments of manifests that need nothing else, as long as that is the index.
    pub(super) sound: BTreeSet<BlobId>,
}

impl Listings {
    /// What the last backup of this client left. `None` when other clients have published since: their
    /// packs should be known, so that nothing is stored twice. `None` too when snapshots are gone: they may
    /// have been forgotten, but an older state of the repository may also have been put back, and what was
    /// stored since with it. And without any snapshot nothing shows that this is what was seen.
    pub(super) fn remembered(repository: &Repository, catalog: &Catalog) -> Option<Self> {
        let seen = repository.cache().seen()?;
        let there = catalog.entries().iter().map(|entry| &entry.name).collect::<BTreeSet<_>>();
        if there.is_empty() || there != seen.snapshots.iter().collect() {
            return None;
        }
        let condemned = repository.condemned(&seen.gc).ok()?;
        Some(Self { gc: seen.gc, condemned, index: seen.index, sound: seen.sound })
    }

    pub(super) fn fresh(repository: &Repository) -> Result<Self, RepoError> {
        let gc = repository.gc_records()?;
        Ok(Self { condemned: repository.condemned(&gc)?, gc, index: None, sound: BTreeSet::new() })
    }
}

/// What there is before a snapshot is published.
pub(super) enum Verdict {
    /// Everything that was counted on may be: these are the gc records now.
    Sound(BTreeSet<String>),
    /// Something that was counted on may be deleted.
    Condemned,
}

/// Looks at the gc records just before publishing.
pub(super) fn judge(
    repository: &Repository,
    gc: &BTreeSet<String>,
    index: &SharedIndex,
) -> Result<Verdict, RepoError> {
    let now = repository.gc_records()?;
    if now == *gc {
        return Ok(Verdict::Sound(now));
    }
    let old_index = index.loaded().is_some_and(|loaded| loaded.remembered);
    if old_index || !repository.condemned(&now)?.is_subset(index.condemned()) {
        return Ok(Verdict::Condemned);
    }
    Ok(Verdict::Sound(now))
}

/// What the next backup may rely on. `before` are the gc records known when this one began, `now` those
/// listed at its end, `remembered` the index objects it began with, `new` those that it wrote, `sound` the manifests
/// that need nothing else.
pub(super) fn seen_after(
    snapshots: BTreeSet<String>,
    before: BTreeSet<String>,
    now: BTreeSet<String>,
    index: &SharedIndex,
    remembered: Option<Vec<ObjectInfo>>,
    new: &[ObjectInfo],
    sound: BTreeSet<BlobId>,
) -> Seen {
    match (index.loaded(), remembered) {
        // Listed after `before` was.
        (Some(loaded), _) => Seen { snapshots, gc: before, index: Some(loaded.objects_with(new)), sound },
        (None, Some(objects)) if before == now => Seen { snapshots, gc: now, index: Some(objects), sound },
        (None, _) => Seen { snapshots, gc: now, index: None, sound: BTreeSet::new() },
    }
}
