//! Whether what is about to be the only copy of something is one.
//!
//! Whoever has a writer key can write index objects, and gc records: he can say that a pack of his holds what it
//! does not, and that the pack which holds it is condemned. So before a pack goes because what is needed of it
//! is elsewhere too, the other place is read. Packs that this client has written itself need no proof: what
//! went into them was checked. That holds until they are met damaged.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use super::copy::Reading;
use super::marks::Bits;
use super::plan::{Fate, Plan};
use super::state::{State, damaged};
use crate::format::index_v1::PackInfo;
use crate::model::ObjectId;
use crate::repo::{BlobReader, Census, Index, RepoError, Repository};
use crate::report::Monitor;

/// Reads every place that is counted on of a blob which a pack that is to go has too.
pub(super) fn prove(
    repository: &Repository,
    state: &State,
    plan: &Plan,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let census = &state.census;
    let mut own = repository.cache().own_packs();
    own.retain(|pack| !state.suspects.contains(pack));
    let (wanted, packs) = doubtful(state, plan, &own);
    if packs.is_empty() {
        return Ok(());
    }
    for (number, pack) in details(repository, census, &packs)? {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        let mut index = Index::default();
        index.add_pack(&pack)?;
        let blobs = &BlobReader::new(repository, &index);
        let reading = Reading { blobs, census, wanted: &wanted, packer: None, monitor };
        reading.pack(0, number, &pack).map_err(|error| match error {
            // Removed by another prune since we looked.
            RepoError::Remote(e) if e.is_not_found() => Error::Changed,
            error => damaged("a pack does not hold what the index says")(error),
        })?;
    }
    Ok(())
}

/// The places to be read, and their packs.
fn doubtful(state: &State, plan: &Plan, own: &BTreeSet<ObjectId>) -> (Bits, BTreeSet<u32>) {
    let census = &state.census;
    let places = census.places();
    let (mut wanted, mut packs) = (Bits::new(places.len()), BTreeSet::new());
    let goes = |pack: u32| matches!(plan.fates[pack as usize], Fate::Delete | Fate::Condemn | Fate::Repack);
    for number in (0..places.len()).filter(|&number| state.used.contains(number)) {
        let all = number..number + census.places_of(number).len();
        if all.len() < 2 {
            continue;
        }
        let Some(kept) = all.clone().find(|&at| plan.places.contains(at)) else { continue };
        let pack = places[kept].pack;
        let trusted = own.contains(&census.packs()[pack as usize].id);
        if !trusted && all.clone().any(|at| !plan.places.contains(at) && goes(places[at].pack)) {
            wanted.insert(kept);
            packs.insert(pack);
        }
    }
    (wanted, packs)
}

/// What the index says of packs, by their numbers.
fn details(
    repository: &Repository,
    census: &Census,
    packs: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, PackInfo>, Error> {
    let mut found = BTreeMap::new();
    for object in census.objects() {
        let here: BTreeMap<ObjectId, u32> = object
            .packs
            .iter()
            .filter(|number| packs.contains(number) && !found.contains_key(*number))
            .map(|&number| (census.packs()[number as usize].id, number))
            .collect();
        if here.is_empty() {
            continue;
        }
        for pack in repository.read_index(&object.object)?.packs {
            if let Some(&number) = here.get(&pack.id) {
                found.insert(number, pack);
            }
        }
    }
    Ok(found)
}
