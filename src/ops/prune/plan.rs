//! What is to be done with each pack: a pure function of what there is.

use std::collections::BTreeSet;

use super::age::{Ages, Wait};
use super::marks::{Bits, lost};
use super::state::State;
use super::{Error, Summary};
use crate::model::{ObjectId, Timestamp};
use crate::repo::{Census, CensusPack, pack_name};

/// So many small packs are made into larger ones: each costs a place in every listing, and who restores a
/// request or more.
const MANY_SMALL: usize = 32;
/// A full pack is as large as so many that just count as small.
const FULL: u64 = 4;
/// What a request counts as many bytes copied: that much a far server sends in the time that it takes to answer.
const REQUEST: u64 = 256 << 10;
/// Waste that is left alone however small the repository is: the order of what one backup adds.
const LITTLE: u64 = 64 << 10;
/// So many index objects that are not full are made into one.
const MANY_OBJECTS: usize = 8;
/// An index object is worth merging while it has not more stored bytes.
const SMALL_OBJECT: u64 = 1 << 20;

/// A number of packs and their stored bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// When it is worth rewriting packs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Percentage of what is needed that may be kept though nobody needs it.
    pub(super) max_unused: f64,
    /// Bytes to be copied at most.
    pub(super) max_repack: Option<u64>,
    /// Packs below so many bytes are small.
    pub(super) small: u64,
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Stays.
    Keep,
    /// Is condemned: nothing in it is needed, or what is needed is elsewhere.
    Condemn,
    /// Is condemned once what is needed of it is copied. It may be condemned already: then a snapshot was
    /// published at about that time that needs it, and its time begins anew.
    Repack,
    /// Is condemned; its time has not come.
    Wait(Option<Timestamp>),
    /// Was condemned long enough ago.
    Delete,
    /// Is in no index, and may belong to a backup that is running.
    Fresh,
}

/// What is to be done.
pub(super) struct Plan {
    /// By numbers of packs.
    pub(super) fates: Vec<Fate>,
    /// Bytes of blobs, before compression, that are needed from each pack.
    pub(super) kept: Vec<u64>,
    /// The places of needed blobs that are counted on: one of each, or all that there are where none of them is
    /// in a pack that nothing is known against.
    pub(super) places: Bits,
    /// Numbers of the index objects to be written anew.
    pub(super) rewrite: Vec<usize>,
}

/// What is known of a pack beside what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Good,
    Condemned(Wait),
    /// In no index, and not condemned.
    Orphan(Wait),
    /// Not there as the index has it, and not condemned.
    Broken,
}

impl Plan {
    pub(super) fn make(state: &State, ages: &mut Ages, limits: &Limits) -> Result<Self, Error> {
        let census = &state.census;
        let standings = standings(state, ages);
        let trusted: Vec<bool> = census
            .packs()
            .iter()
            .zip(&standings)
            .map(|(pack, standing)| *standing == Standing::Good && !state.suspects.contains(&pack.id))
            .collect();
        let (places, kept) = choose_places(census, &state.used, &trusted)?;
        let fate = |(standing, (pack, kept)): (&Standing, (&CensusPack, &u64))| {
            match (standing, *kept) {
                (Standing::Good, 0) | (Standing::Broken, _) => Fate::Condemn,
                (Standing::Good, _) => Fate::Keep,
                (Standing::Orphan(Wait::Due), _) => Fate::Condemn,
                (Standing::Orphan(_), _) => Fate::Fresh,
                (Standing::Condemned(Wait::Due), 0) => Fate::Delete,
                (Standing::Condemned(Wait::Until(time)), 0) => Fate::Wait(Some(*time)),
                // Condemned again, at a time that can be told.
                (Standing::Condemned(Wait::Future), 0) if pack.stored.is_some() => Fate::Condemn,
                (Standing::Condemned(Wait::Future), 0) => Fate::Wait(None),
                (Standing::Condemned(_), _) => Fate::Repack,
            }
        };
        let packs = census.packs().iter().zip(&kept);
        let mut fates: Vec<Fate> = standings.iter().zip(packs).map(fate).collect();
        choose_repack(census.packs(), &kept, &mut fates, limits);
        let rewrite = choose_objects(census, &fates);
        Ok(Self { fates, kept, places, rewrite })
    }

    /// True when there is nothing to be done.
    pub(super) fn is_empty(&self) -> bool {
        let idle = |fate: &Fate| matches!(fate, Fate::Keep | Fate::Wait(_) | Fate::Fresh);
        self.rewrite.is_empty() && self.fates.iter().all(idle)
    }

    /// The packs that share a fate.
    pub(super) fn with<'a>(
        &'a self,
        census: &'a Census,
        fate: Fate,
    ) -> impl Iterator<Item = (u32, &'a CensusPack)> {
        let packs = (0u32..).zip(census.packs());
        packs.zip(&self.fates).filter(move |(_, of)| **of == fate).map(|(pack, _)| pack)
    }

    pub(super) fn summary(&self, state: &State) -> Summary {
        let census = &state.census;
        let mut summary = Summary {
            snapshots: state.snapshots.len() as u64,
            index_objects: census.objects().len() as u64,
            rewrite: self.rewrite.len() as u64,
            ..Summary::default()
        };
        for ((pack, fate), &kept) in census.packs().iter().zip(&self.fates).zip(&self.kept) {
            let bytes = pack.stored.unwrap_or(0);
            if pack.stored.is_some() {
                summary.packs.add(bytes);
            }
            let used = share(pack, kept);
            summary.used += used;
            match fate {
                Fate::Keep => summary.unused += bytes.saturating_sub(used),
                Fate::Condemn => {
                    summary.condemn.add(bytes);
                    summary.unused += bytes;
                }
                Fate::Repack => {
                    summary.repack.add(bytes);
                    summary.copy += used;
                    summary.unused += bytes.saturating_sub(used);
                }
                Fate::Wait(until) => {
                    summary.waiting.add(bytes);
                    summary.until = summary.until.max(*until);
                }
                Fate::Delete => summary.delete.add(bytes),
                Fate::Fresh => summary.fresh.add(bytes),
            }
        }
        summary
    }
}

/// The part of a pack's stored bytes that falls to so many bytes of its blobs.
fn share(pack: &CensusPack, raw: u64) -> u64 {
    let all = u128::from(pack.raw.max(1));
    u64::try_from(u128::from(pack.stored.unwrap_or(0)) * u128::from(raw) / all).unwrap_or(u64::MAX)
}

fn standings(state: &State, ages: &mut Ages) -> Vec<Standing> {
    // Of all records that name a pack the newest counts: it may have been condemned anew. One from the future
    // says nothing, unless there is no other.
    let mut waits = std::collections::BTreeMap::<ObjectId, Wait>::new();
    for record in &state.gc {
        let wait = ages.record(&record.object.name, record.time);
        for pack in &record.packs {
            let known = waits.entry(*pack).or_insert(wait);
            *known = match (*known, wait) {
                (Wait::Until(a), Wait::Until(b)) => Wait::Until(a.max(b)),
                (Wait::Until(time), _) | (_, Wait::Until(time)) => Wait::Until(time),
                (Wait::Due, _) | (_, Wait::Due) => Wait::Due,
                (Wait::Future, Wait::Future) => Wait::Future,
            };
        }
    }
    let standing = |pack: &CensusPack| match waits.get(&pack.id) {
        Some(wait) => Standing::Condemned(*wait),
        None if pack.listed.is_none() => Standing::Orphan(ages.orphan(pack_name(&pack.id))),
        None if pack.is_sound() => Standing::Good,
        None => Standing::Broken,
    };
    state.census.packs().iter().map(standing).collect()
}

/// Decides for each needed blob which of its places counts, given which packs are `trusted`; tells the places, and
/// the bytes that fall to each pack.
fn choose_places(census: &Census, used: &Bits, trusted: &[bool]) -> Result<(Bits, Vec<u64>), Error> {
    let places = census.places();
    let mut chosen = Bits::new(places.len());
    let mut kept = vec![0u64; census.packs().len()];
    let good = |at: usize| trusted[places[at].pack as usize];
    let sound = |at: usize| census.packs()[places[at].pack as usize].is_sound();
    let (mut several, mut missing) = (Vec::new(), BTreeSet::new());
    for number in (0..places.len()).filter(|&number| used.contains(number)) {
        let range = number..number + census.places_of(number).len();
        let mut candidates = range.clone().filter(|&at| good(at));
        match (candidates.next(), candidates.next()) {
            (Some(_), Some(_)) => several.push(range),
            (Some(at), None) => {
                chosen.insert(at);
                kept[places[at].pack as usize] += u64::from(places[at].length);
            }
            // Only in packs that are condemned, perhaps because they are damaged, or that are suspected to be: which
            // of them has it shows when it is copied.
            (None, _) => {
                let mut nowhere = true;
                for at in range.clone().filter(|&at| sound(at)) {
                    nowhere = false;
                    chosen.insert(at);
                    kept[places[at].pack as usize] += u64::from(places[at].length);
                }
                if nowhere {
                    missing.extend(range.map(|at| pack_name(&census.packs()[places[at].pack as usize].id)));
                }
            }
        }
    }
    if !missing.is_empty() {
        return Err(lost(&missing.into_iter().collect::<Vec<_>>()));
    }
    // Of several places the one counts whose pack is needed most anyway, so that the others become empty.
    let alone = kept.clone();
    for range in several {
        let worth = |at: &usize| {
            let pack = places[*at].pack as usize;
            let CensusPack { raw, id, .. } = &census.packs()[pack];
            (u128::from(alone[pack]) * 1_000_000 / u128::from((*raw).max(1)), *raw, *id)
        };
        if let Some(at) = range.filter(|&at| good(at)).max_by_key(worth) {
            chosen.insert(at);
            kept[places[at].pack as usize] += u64::from(places[at].length);
        }
    }
    Ok((chosen, kept))
}

/// Chooses packs to be rewritten: first those of which nothing else is left, then those that free most for
/// what copying costs until little enough is wasted, then small ones when there are many.
fn choose_repack(packs: &[CensusPack], kept: &[u64], fates: &mut [Fate], limits: &Limits) {
    let mut budget = limits.max_repack.unwrap_or(u64::MAX);
    let used = |n: usize| share(&packs[n], kept[n]);
    let waste = |n: usize| packs[n].stored.unwrap_or(0).saturating_sub(used(n));
    for (n, fate) in fates.iter_mut().enumerate().filter(|(_, fate)| **fate == Fate::Repack) {
        match budget.checked_sub(used(n)) {
            Some(left) => budget = left,
            None => *fate = Fate::Wait(None),
        }
    }
    let keepers: Vec<usize> = (0..fates.len()).filter(|&n| fates[n] == Fate::Keep).collect();
    let needed: u64 = keepers.iter().map(|&n| used(n)).sum();
    let mut wasted: u64 = keepers.iter().map(|&n| waste(n)).sum();
    let bearable = bearable(needed, limits.max_unused);
    let mut by_gain = keepers.clone();
    // Most bytes freed for one that is copied come first.
    by_gain.sort_by_key(|&n| {
        let gain = u128::from(waste(n)) * 1_000_000 / u128::from(used(n) + REQUEST);
        (std::cmp::Reverse(gain), packs[n].id)
    });
    for n in by_gain {
        if wasted <= bearable {
            break;
        }
        if let Some(left) = budget.checked_sub(used(n)).filter(|_| packs[n].raw > kept[n]) {
            budget = left;
            wasted -= waste(n);
            fates[n] = Fate::Repack;
        }
    }
    let small = |n: &usize| fates[*n] == Fate::Keep && packs[*n].stored.unwrap_or(0) < limits.small;
    let mut small: Vec<usize> = keepers.into_iter().filter(small).collect();
    small.sort_by_key(|&n| (packs[n].stored, packs[n].id));
    if small.len() < MANY_SMALL {
        return;
    }
    // What is copied is there twice until the old packs may go: a tenth more is bearable, and a pack's worth.
    budget = budget.min((needed / 10).max(FULL * limits.small));
    for n in small {
        let Some(left) = budget.checked_sub(used(n)) else { break };
        budget = left;
        fates[n] = Fate::Repack;
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bound"
)]
fn bearable(needed: u64, percent: f64) -> u64 {
    if percent >= 100.0 {
        return u64::MAX;
    }
    // Nobody asks for nothing at all to be wasted of what is little anyway, unless it is said so.
    let least = if percent > 0.0 { LITTLE } else { 0 };
    ((needed as f64 * percent.max(0.0) / 100.0) as u64).max(least)
}

/// Index objects that list what is to be removed, those that others replace, those that list nothing, and small
/// ones when there are many.
fn choose_objects(census: &Census, fates: &[Fate]) -> Vec<usize> {
    let objects = census.objects();
    let replaced: BTreeSet<_> = objects.iter().flat_map(|object| &object.replaces).collect();
    let small = |n: &usize| objects[*n].object.size <= SMALL_OBJECT;
    let merge = (0..objects.len()).filter(small).count() >= MANY_OBJECTS;
    let wanted = |n: &usize| {
        let object = &objects[*n];
        object.packs.iter().any(|&pack| fates[pack as usize] == Fate::Delete)
            || replaced.contains(&object.object.id)
            || object.packs.is_empty()
            || merge && small(n)
    };
    (0..objects.len()).filter(wanted).collect()
}

#[cfg(test)]
mod tests;
