//! What a backup does about packs that were found damaged: `format-spec/` section 14.8.
//!
//! It condemns them. Nothing then deduplicates against them any more, neither here nor on other machines,
//! so that what they held is stored again by whoever still has the content; whoever reads prefers the new
//! places; and a prune, which deletes nothing that a snapshot needs, puts them away some day.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::listings::Listings;
use crate::clock::Clock;
use crate::model::ObjectId;
use crate::repo::{Damage, RepoError, Repository, hash_object, pack_name};
use crate::report::Monitor;

/// Packs that this machine met damaged.
pub(super) struct Heal<'a> {
    pub(super) repository: &'a Repository,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) clock: &'a Arc<dyn Clock>,
    /// Writes nothing.
    pub(super) dry_run: bool,
    noted: BTreeMap<ObjectId, Damage>,
}

impl<'a> Heal<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        monitor: &'a dyn Monitor,
        clock: &'a Arc<dyn Clock>,
        dry_run: bool,
    ) -> Self {
        Self { repository, monitor, clock, dry_run, noted: repository.cache().damage() }
    }

    /// True when these listings count on none of them.
    pub(super) fn is_settled(&self, known: &Listings) -> bool {
        self.noted.keys().all(|pack| known.condemned.contains(pack))
    }

    /// Condemns those that are not yet. Before the index is listed: the record belongs to what this backup
    /// knows.
    pub(super) fn condemn(&self, known: &mut Listings) -> Result<(), RepoError> {
        let mut packs = BTreeSet::new();
        for (pack, damage) in self.noted.iter().filter(|(pack, _)| !known.condemned.contains(pack)) {
            let found = self.look(pack, *damage)?;
            if found != Found::Sound {
                packs.insert(*pack);
            }
            // What is not there any more shows to who lists packs.
            if found != Found::Damaged && !self.dry_run {
                self.repository.cache().change_damage(|noted| {
                    noted.remove(pack);
                })?;
            }
        }
        if packs.is_empty() {
            return Ok(());
        }
        if !self.dry_run {
            let names = packs.iter().copied().collect();
            known.gc.insert(self.repository.condemn(self.clock.now(), names)?.object.name);
        }
        let message = match packs.len() {
            1 => "a pack of the repository is damaged or missing".to_string(),
            n => format!("{n} packs of the repository are damaged or missing"),
        };
        let message = format!("{message}: what of it is still here is stored again");
        self.monitor.warning(None, &message);
        known.condemned.extend(packs);
        Ok(())
    }

    /// Looks again before a pack is given up: a line that fails, or a disk that is not there for a moment,
    /// is no reason to store everything twice.
    fn look(&self, pack: &ObjectId, damage: Damage) -> Result<Found, RepoError> {
        let (remote, name) = (self.repository.remote(), pack_name(pack));
        let hash = match (remote.size(&name), damage) {
            (Err(e), _) if e.is_not_found() => return Ok(Found::Gone),
            (Err(e), _) => return Err(e.into()),
            (Ok(_), Damage::Missing) => return Ok(Found::Sound),
            (Ok(_), Damage::False) => return Ok(Found::Damaged),
            (Ok(size), Damage::Damaged | Damage::Suspected) => hash_object(remote, &name, size),
        };
        match hash {
            Ok(hash) if hash == pack.0 => Ok(Found::Sound),
            Err(e) if e.is_not_found() => Ok(Found::Gone),
            Err(e) if e.says_nothing() => Err(e.into()),
            Ok(_) | Err(_) => Ok(Found::Damaged),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Sound,
    Damaged,
    Gone,
}
