//! What index objects say of packs, object by object: enough to see what is false, and what would be lost with an
//! object.
//!
//! Whoever has a writer key can write index objects: he can describe packs of others falsely, and name objects of
//! others as replaced. So nothing here is believed but what a pack says of itself, and what is said by an object
//! that stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Error;
use crate::model::{Classify, ErrorClass, ObjectId};
use crate::ops::check::data::table;
use crate::repo::{ObjectInfo, RepoError, Repository, digest, pack_name};
use crate::report::Monitor;

/// What one index object says of one pack: a hash of it.
type Description = (ObjectId, [u8; 32]);

/// An index object.
struct Object {
    info: ObjectInfo,
    says: Vec<Description>,
}

/// What the index objects say.
#[derive(Default)]
pub(super) struct Said {
    objects: Vec<Object>,
    /// Objects that cannot be read.
    pub(super) unread: Vec<ObjectInfo>,
    /// Ids of objects that others call superfluous.
    pub(super) replaced: BTreeSet<ObjectId>,
    /// Bytes of each pack that is listed, as the first object has it that does.
    sizes: HashMap<ObjectId, u64>,
    /// Packs that are not described alike by all.
    disputed: BTreeSet<ObjectId>,
}

/// Packs that are listed and are not there.
#[derive(Default)]
pub(super) struct Absent {
    pub(super) all: BTreeSet<ObjectId>,
    /// Without those of which a prune has taken leave already: they are condemned, and only objects that others
    /// replace list them.
    pub(super) gone: BTreeSet<ObjectId>,
}

impl Said {
    /// Reads the objects.
    pub(super) fn read(
        repository: &Repository,
        objects: &[ObjectInfo],
        monitor: &dyn Monitor,
    ) -> Result<Self, Error> {
        let (mut said, mut first) = (Self::default(), HashMap::new());
        for info in objects {
            if monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            let decoded = match repository.read_index(info) {
                Ok(decoded) => decoded,
                // Merged by somebody meanwhile: what it said is in another one.
                Err(RepoError::Remote(e)) if e.is_not_found() => continue,
                Err(e) if e.class() == ErrorClass::Damaged => {
                    said.unread.push(info.clone());
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            said.replaced.extend(decoded.replaces);
            let mut says = Vec::with_capacity(decoded.packs.len());
            for pack in decoded.packs {
                let digest = digest(&pack);
                if *first.entry(pack.id).or_insert(digest) != digest {
                    said.disputed.insert(pack.id);
                }
                said.sizes.entry(pack.id).or_insert(pack.size);
                says.push((pack.id, digest));
            }
            said.objects.push(Object { info: info.clone(), says });
        }
        Ok(said)
    }

    /// True when some object lists the pack.
    pub(super) fn lists(&self, pack: &ObjectId) -> bool {
        self.sizes.contains_key(pack)
    }

    /// Packs that are listed and are not there.
    pub(super) fn absent(
        &self,
        repository: &Repository,
        there: &HashMap<ObjectId, u64>,
        condemned: &BTreeSet<ObjectId>,
    ) -> Result<Absent, RepoError> {
        let mut absent = Absent::default();
        absent.all.extend(self.sizes.keys().filter(|pack| !there.contains_key(*pack)));
        for Object { info, says } in &self.objects {
            let left = |pack: &ObjectId| self.replaced.contains(&info.id) && condemned.contains(pack);
            let packs = says.iter().map(|(pack, _)| *pack).filter(|pack| absent.all.contains(pack));
            absent.gone.extend(packs.filter(|pack| !left(pack)));
        }
        for pack in absent.gone.clone() {
            // A listing may lag behind what is there.
            match repository.remote().size(&pack_name(&pack)) {
                Ok(_) => {
                    absent.all.remove(&pack);
                    absent.gone.remove(&pack);
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(absent)
    }

    /// Packs of which some object says what they do not say themselves. Asked are those that are described in
    /// several ways, or with another length than they have, or that were found damaged. One that says nothing of
    /// itself is damaged, and no better known for it.
    pub(super) fn misdescribed(
        &self,
        repository: &Repository,
        there: &HashMap<ObjectId, u64>,
    ) -> Result<BTreeSet<ObjectId>, RepoError> {
        let mut doubtful = self.disputed.clone();
        doubtful.extend(repository.cache().damage().into_keys().filter(|pack| self.lists(pack)));
        let other = |(pack, size): &(&ObjectId, &u64)| there.get(*pack).is_some_and(|stored| stored != *size);
        doubtful.extend(self.sizes.iter().filter(other).map(|(pack, _)| *pack));
        let mut truths = BTreeMap::new();
        for (pack, size) in doubtful.into_iter().filter_map(|pack| Some((pack, *there.get(&pack)?))) {
            match table(repository, &pack, size) {
                Ok(table) => drop(truths.insert(pack, digest(&table))),
                Err(e) if e.is_service_failure() => return Err(e),
                Err(_) => {}
            }
        }
        let all = self.objects.iter().flat_map(|object| &object.says);
        let lies = all.filter(|(pack, digest)| truths.get(pack).is_some_and(|truth| truth != digest));
        Ok(lies.map(|(pack, _)| *pack).collect())
    }

    /// The objects to be written anew without what they say of packs that are gone or `misdescribed`, and those that
    /// may go as they are, because all else that they say of packs that are there is said by others that stay.
    pub(super) fn settle(
        &self,
        absent: &Absent,
        misdescribed: &BTreeSet<ObjectId>,
    ) -> (Vec<ObjectInfo>, Vec<ObjectInfo>) {
        let (mut affected, mut superfluous) = (Vec::new(), Vec::new());
        let (replaced, stay): (Vec<&Object>, Vec<&Object>) =
            self.objects.iter().partition(|object| self.replaced.contains(&object.info.id));
        let touched = |object: &Object| {
            object.says.iter().any(|(pack, _)| absent.gone.contains(pack) || misdescribed.contains(pack))
        };
        affected.extend(stay.iter().filter(|object| touched(object)).map(|object| object.info.clone()));
        // Also what an affected one says: it is written anew.
        let needless = |pack: &ObjectId| absent.all.contains(pack) || misdescribed.contains(pack);
        let mut kept: HashSet<Description> = stay.iter().flat_map(|object| &object.says).copied().collect();
        for object in replaced {
            let lost = |says: &Description| !needless(&says.0) && !kept.contains(says);
            if object.says.iter().any(lost) {
                affected.push(object.info.clone());
                kept.extend(&object.says);
            } else {
                superfluous.push(object.info.clone());
            }
        }
        (affected, superfluous)
    }
}
