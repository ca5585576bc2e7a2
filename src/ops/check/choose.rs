//! Which packs to read when not all are to be read: those that were not read for the longest time.

use std::collections::BTreeMap;

use super::ReadData;
use crate::model::{ObjectId, Timestamp};

/// A pack and its stored bytes.
pub(in crate::ops) type SizedPack = (ObjectId, u64);

/// When packs were read, as far as that can be believed: a time after `now` was told by a clock that was wrong, and
/// says nothing.
pub(in crate::ops) fn believed(
    mut reads: BTreeMap<ObjectId, i64>,
    now: Timestamp,
) -> BTreeMap<ObjectId, i64> {
    reads.retain(|_, time| *time <= now.secs);
    reads
}

/// Chooses packs. `reads` tells when each was last read; of those that were read at one time, or never,
/// `draw` decides, so that machines that remember nothing cover all in time too.
pub(in crate::ops) fn choose(
    packs: &[SizedPack],
    what: ReadData,
    reads: &BTreeMap<ObjectId, i64>,
    draw: &[u8; 32],
) -> Vec<ObjectId> {
    let total: u64 = packs.iter().map(|(_, size)| size).sum();
    let wanted = match what {
        ReadData::No => return Vec::new(),
        ReadData::All => return packs.iter().map(|(id, _)| *id).collect(),
        ReadData::Part { number, of } => {
            let part = |id: &ObjectId| id.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            let chosen = packs.iter().map(|(id, _)| *id);
            return chosen.filter(|id| part(id) % u64::from(of.max(1)) + 1 == u64::from(number)).collect();
        }
        ReadData::Bytes(bytes) => bytes,
        // Exact enough for a part of something.
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        ReadData::Percent(percent) => (total as f64 * percent / 100.0).ceil() as u64,
    };
    let mut order: Vec<_> = packs.to_vec();
    order.sort_by_cached_key(|(id, _)| {
        let drawn = *blake3::keyed_hash(draw, &id.0).as_bytes();
        (reads.get(id).copied(), drawn)
    });
    let mut bytes = 0;
    let enough = order.into_iter().take_while(|(_, size)| {
        let more = bytes < wanted;
        bytes += size;
        more
    });
    enough.map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    fn pack(n: u8) -> ObjectId {
        ObjectId(*blake3::hash(&[n]).as_bytes())
    }

    fn packs(count: u8) -> Vec<SizedPack> {
        (0..count).map(|n| (pack(n), 1000)).collect()
    }

    #[test]
    fn parts_are_disjoint_and_together_everything() {
        let packs = packs(100);
        for of in [1, 2, 7, 1000] {
            let part = |number| choose(&packs, ReadData::Part { number, of }, &BTreeMap::new(), &[0; 32]);
            let all: Vec<ObjectId> = (1..=of).flat_map(part).collect();
            assert_eq!(all.len(), 100, "{of}");
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 100, "{of}");
        }
    }

    #[test]
    fn the_longest_unread_come_first_until_all_were_read() {
        let packs = packs(10);
        let mut reads = BTreeMap::new();
        for week in 0..10 {
            let chosen = choose(&packs, ReadData::Percent(10.0), &reads, &[9; 32]);
            assert_eq!(chosen.len(), 1);
            assert!(reads.insert(chosen[0], week).is_none(), "twice before all were read once");
        }
        let oldest = choose(&packs, ReadData::Bytes(2500), &reads, &[9; 32]);
        assert_eq!(oldest.iter().map(|id| reads[id]).collect::<Vec<_>>(), [0, 1, 2]);
        // One that was never read is the most urgent.
        reads.remove(&oldest[2]);
        assert_eq!(choose(&packs, ReadData::Bytes(1), &reads, &[9; 32]), [oldest[2]]);
    }

    #[test]
    fn what_was_read_tomorrow_was_never_read() {
        let packs = packs(3);
        let reads = [(packs[0].0, 50), (packs[1].0, 100), (packs[2].0, 101)].into();
        let reads = believed(reads, Timestamp::from_secs(100));
        assert_eq!(reads.len(), 2);
        assert_eq!(choose(&packs, ReadData::Bytes(1), &reads, &[9; 32]), [packs[2].0]);
    }

    #[test]
    fn who_remembers_nothing_draws_others_each_time() {
        let packs = packs(50);
        let chosen = |draw| choose(&packs, ReadData::Percent(20.0), &BTreeMap::new(), &[draw; 32]);
        assert_eq!(chosen(1).len(), 10);
        assert_ne!(chosen(1), chosen(2));
        assert_eq!(choose(&packs, ReadData::All, &BTreeMap::new(), &[0; 32]).len(), 50);
        assert_eq!(choose(&packs, ReadData::No, &BTreeMap::new(), &[0; 32]).len(), 0);
    }
}
