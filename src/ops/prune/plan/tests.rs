//! What is chosen, of packs and objects of any size.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::format::index_v1::PackInfo;
use crate::format::pack_v1::{BlobInfo, FrameInfo};
use crate::model::{BlobId, BlobKind};
use crate::repo::{CensusObject, ObjectInfo};

fn id(n: u8) -> ObjectId {
    ObjectId([n; 32])
}

/// A pack whose stored bytes are those of its blobs.
fn pack(n: u8, bytes: u64) -> CensusPack {
    CensusPack { id: id(n), listed: Some(bytes), stored: Some(bytes), raw: bytes }
}

fn limits(max_unused: f64, max_repack: Option<u64>, small: u64) -> Limits {
    Limits { max_unused, max_repack, small }
}

/// What becomes of packs of which so many bytes are wasted and so many needed.
fn repacked(waste_and_need: &[(u64, u64)], limits: &Limits) -> Vec<usize> {
    let packs: Vec<_> = (1..).zip(waste_and_need).map(|(n, (waste, need))| pack(n, waste + need)).collect();
    let kept: Vec<_> = waste_and_need.iter().map(|(_, need)| *need).collect();
    let mut fates = vec![Fate::Keep; packs.len()];
    choose_repack(&packs, &kept, &mut fates, limits);
    assert!(fates.iter().all(|fate| matches!(fate, Fate::Keep | Fate::Repack)));
    (0..fates.len()).filter(|&n| fates[n] == Fate::Repack).collect()
}

#[test]
fn what_frees_most_for_what_it_costs_goes_first_until_little_is_wasted() {
    const MB: u64 = 1_000_000;
    for (packs, percent, want) in [
        // Much is wasted in the first, and much would have to be copied for it.
        (&[(MB, 10 * MB), (MB * 9 / 10, MB / 10)][..], 10.0, &[1][..]),
        // A request costs something too: hardly anything is freed by the first.
        (&[(10, 0), (2 * MB, MB)], 5.0, &[1]),
        (&[(10, 0), (2 * MB + 30, MB)], 5.0, &[1]),
        (&[(2 * MB, MB), (2 * MB, MB), (10, 0)], 5.0, &[0, 1]),
        // What may be wasted is wasted.
        (&[(2 * MB, MB), (2 * MB, MB), (10, 0)], 50.0, &[0, 1]),
        (&[(2 * MB, MB), (2 * MB, MB), (10, 0)], 150.0, &[]),
        (&[(60_000, 0)], 5.0, &[]),
        (&[(60_000, 0)], 0.0, &[0]),
        (&[(MB, MB), (MB, 2 * MB)], 100.0, &[]),
        // Nothing is wasted at all, and all of it is needed.
        (&[(0, MB)], 0.0, &[]),
    ] {
        assert_eq!(repacked(packs, &limits(percent, None, 0)), want, "{packs:?} {percent}");
    }
}

#[test]
fn no_more_is_copied_than_may_be() {
    let packs = [(5_000_000, 100), (4_000_000, 200), (3_000_000, 50)];
    for (most, want) in
        [(349, &[0, 1][..]), (350, &[0, 1, 2]), (150, &[0, 2]), (149, &[0]), (99, &[2]), (49, &[])]
    {
        assert_eq!(repacked(&packs, &limits(0.0, Some(most), 0)), want, "{most}");
    }
}

#[test]
fn what_is_condemned_and_needed_is_copied_first_or_waits() {
    let packs = [pack(1, 1_000), pack(2, 1_000), pack(3, 500_000), pack(4, 10)];
    let kept = [400, 500, 100, 0];
    for (most, want) in [
        (None, [Fate::Repack, Fate::Repack, Fate::Repack, Fate::Delete]),
        (Some(1_000), [Fate::Repack, Fate::Repack, Fate::Repack, Fate::Delete]),
        (Some(999), [Fate::Repack, Fate::Repack, Fate::Keep, Fate::Delete]),
        (Some(899), [Fate::Repack, Fate::Wait(None), Fate::Repack, Fate::Delete]),
        (Some(0), [Fate::Wait(None), Fate::Wait(None), Fate::Keep, Fate::Delete]),
    ] {
        let mut fates = [Fate::Repack, Fate::Repack, Fate::Keep, Fate::Delete];
        choose_repack(&packs, &kept, &mut fates, &limits(5.0, most, 0));
        assert_eq!(fates, want, "{most:?}");
    }
}

#[test]
fn many_small_packs_are_put_together_and_few_are_not() {
    let needed = |sizes: &[u64]| sizes.iter().map(|size| (0, *size)).collect::<Vec<_>>();
    let of = |small: usize, edge: usize, large: usize| {
        needed(&[vec![9; small], vec![10; edge], vec![11; large]].concat())
    };
    let usual = limits(5.0, None, 10);
    assert_eq!(repacked(&of(MANY_SMALL - 1, 3, 40), &usual), [0; 0]);
    let all: Vec<usize> = (0..MANY_SMALL).collect();
    assert_eq!(repacked(&needed(&[vec![9; MANY_SMALL], vec![100; 40]].concat()), &usual), all);
    // They are there twice for a while: no more at once than a tenth of what is needed.
    assert_eq!(repacked(&of(MANY_SMALL, 3, 40), &usual), (0..8).collect::<Vec<_>>());
    // Or the worth of a full pack, where that is more.
    assert_eq!(repacked(&needed(&[5; MANY_SMALL + 8]), &usual), (0..8).collect::<Vec<_>>());
    // As far as what may be copied goes.
    assert_eq!(repacked(&of(MANY_SMALL, 0, 2), &limits(5.0, Some(9 * 3 + 8), 10)), [0, 1, 2]);
}

#[test]
fn what_may_be_wasted() {
    assert_eq!(bearable(1 << 30, 5.0), (1 << 30) / 20);
    assert_eq!([bearable(0, 5.0), bearable(1 << 30, 0.000_001)], [LITTLE; 2]);
    assert_eq!([bearable(1 << 30, 0.0), bearable(1 << 30, -3.0)], [0; 2]);
    assert_eq!([bearable(0, 100.0), bearable(7, 200.0)], [u64::MAX; 2]);
}

#[test]
fn a_share_is_of_stored_bytes() {
    let one = CensusPack { stored: Some(500), raw: 2_000, ..pack(1, 0) };
    assert_eq!([share(&one, 0), share(&one, 1_000), share(&one, 2_000)], [0, 250, 500]);
    assert_eq!(share(&CensusPack { stored: None, ..one.clone() }, 1_000), 0);
    assert_eq!(share(&CensusPack { stored: Some(u64::MAX), raw: 0, ..one }, u64::MAX), u64::MAX);
}

/// A pack of these blobs, by their numbers and lengths.
fn holding(n: u8, blobs: &[(u8, u32)]) -> PackInfo {
    let blobs: Vec<_> = blobs.iter().map(|&(n, length)| BlobInfo::new(BlobId([n; 32]), length)).collect();
    let raw = blobs.iter().map(|blob| blob.length).sum();
    let frame = FrameInfo { stored: raw, raw, compressed: false, kind: BlobKind::Data, blobs };
    PackInfo { id: id(n), size: 100, frames: vec![frame] }
}

/// What is kept of packs when these blobs are needed, and in which packs each of them counts.
fn kept(packs: &[PackInfo], needed: &[u8], trusted: &[bool]) -> Result<(Vec<u64>, Vec<u32>), Error> {
    let census = Census::of(packs, Vec::new()).unwrap();
    let mut used = Bits::new(census.places().len());
    for n in needed {
        used.insert(census.number(&BlobId([*n; 32])).unwrap());
    }
    let (chosen, kept) = choose_places(&census, &used, trusted)?;
    let places = census.places().iter().enumerate();
    Ok((kept, places.filter(|(at, _)| chosen.contains(*at)).map(|(_, place)| place.pack).collect()))
}

#[test]
fn of_several_places_that_counts_whose_pack_is_needed_most_anyway() {
    let good = [true; 2];
    // Half of the first is needed, and a tenth of the second, which is larger.
    let packs = [holding(1, &[(1, 10), (9, 10)]), holding(2, &[(2, 100), (3, 890), (9, 10)])];
    assert_eq!(kept(&packs, &[1, 2, 9], &good).unwrap(), (vec![20, 100], vec![0, 1, 0]));
    // Nothing else of the smaller one.
    let packs = [holding(1, &[(1, 10), (9, 10)]), holding(2, &[(2, 900), (3, 90), (9, 10)])];
    assert_eq!(kept(&packs, &[2, 9], &good).unwrap(), (vec![0, 910], vec![1, 1]));
    // As much of either: the larger one.
    assert_eq!(kept(&packs, &[9], &good).unwrap(), (vec![0, 10], vec![1]));
}

#[test]
fn what_is_not_trusted_counts_only_where_nothing_else_has_it_and_then_everywhere() {
    let packs = [holding(1, &[(1, 10), (9, 10)]), holding(2, &[(2, 900), (9, 10)])];
    let of = |first, second| kept(&packs, &[1, 9], &[first, second]).unwrap();
    assert_eq!(of(true, false), (vec![20, 0], vec![0, 0]));
    assert_eq!(of(false, true), (vec![10, 10], vec![0, 1]));
    assert_eq!(of(false, false), (vec![20, 10], vec![0, 0, 1]));
}

#[test]
fn index_objects_that_are_worth_it_are_written_anew() {
    let object = |n: u8, size: u64, packs: Vec<u32>, replaces: Vec<ObjectId>| CensusObject {
        object: ObjectInfo { name: String::new(), time: None, id: id(n), size },
        packs,
        replaces,
        is_readable: true,
    };
    let chosen = |objects: Vec<CensusObject>, fates: [Fate; 2]| {
        let census = Census::of(&[holding(1, &[(1, 1)]), holding(2, &[(2, 2)])], objects).unwrap();
        choose_objects(&census, &fates)
    };
    let keep = [Fate::Keep; 2];
    let big = SMALL_OBJECT + 1;
    let sized = |size: u64, n: u8| -> Vec<_> { (0..n).map(|n| object(n, size, vec![0], vec![])).collect() };
    let many = u8::try_from(MANY_OBJECTS).unwrap();
    let all: Vec<usize> = (0..MANY_OBJECTS).collect();
    assert_eq!(chosen(sized(SMALL_OBJECT, many), keep), all);
    assert_eq!(chosen(sized(1, many), keep), all);
    assert_eq!(chosen(sized(1, many - 1), keep), [0; 0]);
    assert_eq!(chosen(sized(big, 2 * many), keep), [0; 0]);
    let mixed = [sized(1, many), vec![object(99, big, vec![1], vec![])]].concat();
    assert_eq!(chosen(mixed, keep), all);
    // Whatever their size: those that list what is removed, that are replaced, or that list nothing.
    let three = || {
        vec![
            object(1, big, vec![0], vec![]),
            object(2, big, vec![0, 1], vec![]),
            object(3, big, vec![0], vec![]),
        ]
    };
    assert_eq!(chosen(three(), [Fate::Keep, Fate::Delete]), [1]);
    assert_eq!(chosen(three(), [Fate::Condemn, Fate::Repack]), [0; 0]);
    let mut replaced = three();
    replaced[0].replaces.push(id(3));
    assert_eq!(chosen(replaced, keep), [2]);
    let mut empty = three();
    empty[1].packs.clear();
    assert_eq!(chosen(empty, keep), [1]);
}
