#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::model::{BlobId, ManifestRef, Reason as Why, SnapshotKind, Stats};

/// A snapshot of a time such as `2026-03-10 12:00`, in the zone of the tests.
fn snapshot(time: &str, sequence: u64) -> Snapshot {
    let time: jiff::civil::DateTime = time.parse().unwrap();
    at(timestamp(time.to_zoned(zone()).unwrap().timestamp()), sequence)
}

fn at(time: Timestamp, sequence: u64) -> Snapshot {
    Snapshot {
        time,
        kind: SnapshotKind::Regular,
        reason: Why::Manual,
        host: "box".to_owned(),
        user: String::new(),
        program: String::new(),
        writer: WriterId([1; 16]),
        sequence,
        parent: None,
        root: b"/a".to_vec(),
        paths: vec![b"/a".to_vec()],
        selection: Vec::new(),
        tags: Vec::new(),
        manifest: ManifestRef { root: BlobId([0; 32]), level: 0 },
        complete: true,
        errors: Vec::new(),
        error_count: 0,
        databases: Vec::new(),
        stats: Stats::default(),
        losses: Vec::new(),
    }
}

fn zone() -> TimeZone {
    // Clocks are put back on the last Sunday of October, from 3:00 to 2:00.
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn now(time: &str) -> Zoned {
    time.parse::<jiff::civil::DateTime>().unwrap().to_zoned(zone()).unwrap()
}

fn policy(words: &str) -> Policy {
    let mut policy = Policy::default();
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "within" => policy.within = Some(value.parse().unwrap()),
            "tag" => policy.tags.push(Policy::parse_tags(value)),
            name => *policy.count_mut(name).unwrap() = Policy::parse_count(value).unwrap(),
        }
    }
    policy
}

fn candidates(snapshots: &[Snapshot], held: &[usize]) -> Vec<Candidate<'static>> {
    let candidate = |(n, snapshot): (usize, &Snapshot)| Candidate {
        id: ObjectId([u8::try_from(n % 251).unwrap(); 32]),
        snapshot: Box::leak(Box::new(snapshot.clone())),
        held: held.contains(&n),
        writer_key: None,
    };
    snapshots.iter().enumerate().map(candidate).collect()
}

/// Which are kept, by their place, and why.
fn kept(snapshots: &[Snapshot], held: &[usize], words: &str, present: &str) -> Vec<(usize, String)> {
    let groups = judge(&candidates(snapshots, held), &policy(words), Grouping::default(), &now(present));
    let judged = groups.into_iter().flat_map(|group| group.snapshots);
    let words = |reasons: &[Reason]| reasons.iter().map(|r| r.name()).collect::<Vec<_>>().join(" ");
    let mut kept: Vec<_> =
        judged.filter(Judged::is_kept).map(|one| (one.index, words(&one.reasons))).collect();
    kept.sort();
    kept
}

fn indices(snapshots: &[Snapshot], words: &str, present: &str) -> Vec<usize> {
    kept(snapshots, &[], words, present).into_iter().map(|(index, _)| index).collect()
}

fn of_times(times: &[&str]) -> Vec<Snapshot> {
    (1..).zip(times).map(|(sequence, time)| snapshot(time, sequence)).collect()
}

#[test]
fn the_newest_of_each_stretch_stands_for_it() {
    let times = of_times(&[
        "2024-12-30 10:00", // 0: a Monday, week 1 of 2025
        "2025-01-05 10:00", // 1: the Sunday of that week
        "2025-12-31 10:00", // 2
        "2026-01-31 10:00", // 3
        "2026-02-01 09:00", // 4: a Sunday
        "2026-03-09 10:00", // 5: a Monday
        "2026-03-10 10:05", // 6
        "2026-03-10 10:55", // 7
        "2026-03-10 11:00", // 8
    ]);
    let present = "2026-03-10 12:00";
    for (words, want) in [
        ("last=1", &[8][..]),
        ("last=3", &[6, 7, 8]),
        ("last=100", &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("hourly=2", &[7, 8]),
        ("hourly=3", &[5, 7, 8]),
        ("daily=1", &[8]),
        ("daily=3", &[4, 5, 8]),
        // What has none does not count: these are weeks, months and years apart.
        ("weekly=3", &[2, 4, 8]),
        ("weekly=4", &[1, 2, 4, 8]),
        ("monthly=3", &[3, 4, 8]),
        ("monthly=5", &[1, 2, 3, 4, 8]),
        ("yearly=2", &[2, 8]),
        ("yearly=all", &[0, 2, 8]),
        ("daily=2 yearly=2", &[2, 5, 8]),
        ("within=1h", &[6, 7, 8]),
        ("within=25h", &[5, 6, 7, 8]),
        ("within=1m", &[5, 6, 7, 8]),
        ("within=2m", &[3, 4, 5, 6, 7, 8]),
        ("within=1000y", &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        assert_eq!(indices(&times, words, present), want, "{words}");
    }
}

#[test]
fn reasons_are_told() {
    let times = of_times(&["2026-03-08 10:00", "2026-03-09 10:00", "2026-03-10 10:00"]);
    let told = kept(&times, &[], "last=1 daily=2 within=1d", "2026-03-10 12:00");
    let want = [(1, "daily within"), (2, "newest newest-complete last daily within")];
    assert_eq!(told, want.map(|(index, words)| (index, words.to_owned())));
}

#[test]
fn days_begin_where_the_user_is() {
    // An hour before and after midnight in UTC: the tenth of March there.
    let times = [at(Timestamp::from_secs(1_773_099_000), 1), at(Timestamp::from_secs(1_773_102_600), 2)];
    assert_eq!(indices(&times, "daily=7", "2026-03-10 12:00"), [1]);
    let times = of_times(&["2026-03-09 23:59", "2026-03-10 00:00"]);
    assert_eq!(indices(&times, "daily=7", "2026-03-10 12:00"), [0, 1]);
    // An hour that comes twice: 02:30 summer time, and 02:30 winter time.
    let twice = [at(Timestamp::from_secs(1_792_888_200), 1), at(Timestamp::from_secs(1_792_891_800), 2)];
    assert_eq!(indices(&twice, "hourly=9", "2026-10-26 12:00"), [0, 1]);
    assert_eq!(indices(&twice, "daily=9", "2026-10-26 12:00"), [1]);
}

#[test]
fn the_future_is_kept_and_not_counted() {
    let times = of_times(&[
        "2026-03-08 10:00",
        "2026-03-09 10:00",
        "2026-03-10 10:00",
        "2090-01-01 00:00",
        "2026-03-10 12:00",
    ]);
    let present = "2026-03-10 12:00";
    for words in ["last=2", "daily=2", "within=1d"] {
        let kept = kept(&times, &[], words, present);
        assert_eq!(kept[kept.len() - 2], (3, "future".to_owned()), "{words}");
        // The one of this very moment is none of the future.
        assert_eq!(kept.last().unwrap().0, 4);
    }
    assert_eq!(indices(&times, "last=2", present), [2, 3, 4]);
    assert_eq!(indices(&times, "daily=2", present), [1, 3, 4]);
    assert_eq!(indices(&times, "within=1d", present), [2, 3, 4]);
    // A clock that stands at 1970 sees nothing but the future.
    assert_eq!(indices(&times, "last=1", "1970-01-01 00:00"), [0, 1, 2, 3, 4]);
}

#[test]
fn what_was_written_last_is_kept_whatever_its_clock_said() {
    let mut times =
        of_times(&["2026-03-09 10:00", "2026-03-10 10:00", "1970-01-01 00:00", "1970-01-02 00:00"]);
    let told = kept(&times, &[], "last=1", "2026-03-10 12:00");
    assert_eq!(told[1], (3, "written-last".to_owned()));
    assert_eq!(told.len(), 2);
    // That of another writer is old, and nothing else.
    times[3].writer = WriterId([2; 16]);
    assert_eq!(indices(&times, "last=1", "2026-03-10 12:00"), [1, 2]);
}

#[test]
fn an_age_ends_where_backups_stopped() {
    let times = of_times(&["2026-01-01 10:00", "2026-01-08 09:00", "2026-01-09 10:00"]);
    assert_eq!(indices(&times, "within=3d", "2026-01-10 00:00"), [1, 2]);
    assert_eq!(indices(&times, "within=3d", "2026-06-01 00:00"), [1, 2]);
}

#[test]
fn an_incomplete_one_does_not_push_out_a_complete_one() {
    let mut times = of_times(&[
        "2026-03-08 10:00",
        "2026-03-08 20:00",
        "2026-03-09 10:00",
        "2026-03-09 20:00",
        "2026-03-10 10:00",
        "2026-03-10 11:00",
    ]);
    [1, 2, 3, 5].into_iter().for_each(|n| times[n].complete = false);
    let told = kept(&times, &[], "daily=3", "2026-03-10 12:00");
    let want = [(0, "daily"), (3, "daily"), (4, "newest-complete daily"), (5, "newest")];
    assert_eq!(told, want.map(|(index, words)| (index, words.to_owned())));
    // All that is newer fails: the last whole one stays.
    times[4].complete = false;
    assert_eq!(indices(&times, "last=1", "2026-03-10 12:00"), [0, 5]);
}

#[test]
fn what_is_held_back_stays_and_is_not_counted() {
    let times = of_times(&["2026-03-07 10:00", "2026-03-08 10:00", "2026-03-09 10:00", "2026-03-10 10:00"]);
    let told = kept(&times, &[2, 3], "last=1", "2026-03-10 12:00");
    let want = [(1, "newest newest-complete last"), (2, "held-back"), (3, "held-back")];
    assert_eq!(told, want.map(|(index, words)| (index, words.to_owned())));
}

#[test]
fn labels_keep() {
    let mut times = of_times(&["2026-03-07 10:00", "2026-03-08 10:00", "2026-03-09 10:00"]);
    times[0].tags = vec!["a".to_owned(), "b".to_owned()];
    times[1].tags = vec!["b".to_owned()];
    for (words, want) in
        [("tag=b", &[0, 1, 2][..]), ("tag=a,b", &[0, 2]), ("tag=c", &[2]), ("tag=a tag=b", &[0, 1, 2])]
    {
        assert_eq!(indices(&times, words, "2026-03-10 12:00"), want, "{words}");
    }
}

#[test]
fn groups_are_judged_apart() {
    let mut times =
        of_times(&["2026-03-06 10:00", "2026-03-07 10:00", "2026-03-08 10:00", "2026-03-09 10:00"]);
    times.push(snapshot("2026-03-10 10:00", 5));
    times[0].host = "other".to_owned();
    times[1].root = b"/b".to_vec();
    times[2].paths = vec![b"/a/x".to_vec()];
    times[3].selection = vec!["profile=openclaw".to_owned(), "include=memory".to_owned()];
    let present = now("2026-03-10 12:00");
    let count = |words: &str| {
        let all = candidates(&times, &[]);
        let groups = judge(&all, &policy("last=1"), words.parse().unwrap(), &present);
        groups.iter().flat_map(|group| &group.snapshots).filter(|one| one.is_kept()).count()
    };
    for (words, want) in
        [("host,paths,sets", 5), ("host,paths", 4), ("paths", 3), ("host", 2), ("none", 1), ("tags", 1)]
    {
        assert_eq!(count(words), want, "{words}");
    }
    let filter = |filter: Filter| times.iter().filter(|s| filter.takes(s)).count();
    assert_eq!(filter(Filter::default()), 5);
    assert_eq!(filter(Filter { hosts: vec!["other".to_owned(), "no".to_owned()], ..Filter::default() }), 1);
    assert_eq!(filter(Filter { paths: vec![b"/a".to_vec()], ..Filter::default() }), 4);
    assert_eq!(filter(Filter { tags: vec![vec!["x".to_owned()]], ..Filter::default() }), 0);
}

#[test]
fn hours_of_other_days_and_months_are_others() {
    for times in [["2026-02-03 10:00", "2026-03-02 10:00"], ["2026-02-03 10:00", "2026-03-03 10:00"]] {
        assert_eq!(indices(&of_times(&times), "hourly=2", "2026-03-10 12:00"), [0, 1], "{times:?}");
    }
}

#[test]
fn what_is_of_this_very_moment_counts_and_is_not_of_the_future() {
    let times = of_times(&["2026-03-10 11:00", "2026-03-10 12:00"]);
    let newest = (1, "newest newest-complete last".to_owned());
    assert_eq!(kept(&times, &[], "last=1", "2026-03-10 12:00"), [newest]);
}

/// As after an older state of the machine was put back.
#[test]
fn of_two_snapshots_of_one_number_the_older_was_not_written_last() {
    let times = [snapshot("2026-03-08 10:00", 7), snapshot("2026-03-09 10:00", 7)];
    assert_eq!(indices(&times, "last=1", "2026-03-10 12:00"), [1]);
    let times = [snapshot("2026-03-08 10:00", 8), snapshot("2026-03-09 10:00", 7)];
    assert_eq!(indices(&times, "last=1", "2026-03-10 12:00"), [0, 1]);
}

#[test]
fn times_that_no_calendar_has_are_at_its_ends() {
    let year = |secs| zoned(Timestamp::from_secs(secs), &TimeZone::UTC).year();
    assert_eq!([year(i64::MIN), year(0), year(i64::MAX)], [-9999, 1970, 9999]);
}

#[test]
fn parts_of_a_second_count_upwards_on_both_sides_of_1970() {
    for (secs, nanos) in [(-1, 500_000_000), (-1, 1), (-7, 0), (0, 0), (0, 1), (5, 999_999_999)] {
        let time = Timestamp { secs, nanos };
        assert_eq!(timestamp(zoned(time, &TimeZone::UTC).timestamp()), time);
    }
}

#[test]
fn what_is_kept_and_what_goes_is_counted() {
    let times = of_times(&["2026-03-06 10:00", "2026-03-07 10:00", "2026-03-08 10:00", "2026-03-09 10:00"]);
    let groups =
        judge(&candidates(&times, &[]), &policy("last=1"), Grouping::default(), &now("2026-03-10 12:00"));
    assert_eq!(groups.iter().map(Group::counts).collect::<Vec<_>>(), [(1, 3)]);
}

#[test]
fn what_a_writer_key_adds_pushes_out_nothing_of_others() {
    let times = of_times(&["2026-03-06 10:00", "2026-03-07 10:00", "2026-03-08 10:00", "2026-03-09 10:00"]);
    let mut all = candidates(&times, &[]);
    all[1].writer_key = Some(WriterKeyId([1; 24]));
    all[2].writer_key = Some(WriterKeyId([2; 24]));
    all[3].writer_key = Some(WriterKeyId([1; 24]));
    let groups = judge(&all, &policy("last=1"), "none".parse().unwrap(), &now("2026-03-10 12:00"));
    let mut kept: Vec<_> = groups.iter().flat_map(|g| &g.snapshots).filter(|one| one.is_kept()).collect();
    kept.sort_by_key(|one| one.index);
    assert_eq!(kept.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 2, 3]);
}

/// A year of hours, and some of them again and again.
fn histories() -> impl Strategy<Value = Vec<Snapshot>> {
    let one = (0i64..9_000, any::<bool>(), 0u8..3).prop_map(|(hour, complete, writer)| {
        let time = Timestamp::from_secs(1_760_000_000 + hour * 3_577);
        Snapshot { complete, writer: WriterId([writer; 16]), ..at(time, 0) }
    });
    vec(one, 1..40).prop_map(|mut all| {
        // As they are written, with a clock that jumps.
        (1..).zip(&mut all).for_each(|(sequence, snapshot)| snapshot.sequence = sequence);
        all
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let count = || 0u32..5;
    let within = proptest::option::of(1u32..200);
    (count(), count(), count(), count(), count(), count(), within).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, days)| Policy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: days.map(|days| Age { days, ..Age::default() }),
            tags: Vec::new(),
        },
    )
}

/// Which are kept, one flag for each.
fn flags(all: &[Snapshot], policy: &Policy, now: &Zoned) -> Vec<bool> {
    let mut flags = vec![false; all.len()];
    for group in judge(&candidates(all, &[]), policy, Grouping::default(), now) {
        group.snapshots.iter().for_each(|one| flags[one.index] = one.is_kept());
    }
    flags
}

proptest! {
    #[test]
    fn something_is_always_kept_and_twice_is_once(all in histories(), policy in policies()) {
        let now = now("2026-06-01 12:00");
        let mut all = all;
        // Of several writers one may contradict another, and no longer when that is gone.
        all.iter_mut().for_each(|snapshot| snapshot.writer = WriterId([1; 16]));
        let first = flags(&all, &policy, &now);
        prop_assert!(first.contains(&true));
        let left: Vec<_> = all.iter().zip(&first).filter(|(_, kept)| **kept).map(|(s, _)| s.clone()).collect();
        prop_assert_eq!(flags(&left, &policy, &now), vec![true; left.len()]);
    }

    #[test]
    fn nothing_young_enough_is_pushed_out(all in histories(), more in histories(), policy in policies(), days in 1u32..200) {
        let now = now("2026-06-01 12:00");
        let policy = Policy { within: Some(Age { days, ..Age::default() }), ..policy };
        let floor = before(&now, policy.within.unwrap()).unwrap();
        let together: Vec<_> = all.iter().chain(&more).cloned().collect();
        for (snapshot, kept) in together.iter().zip(flags(&together, &policy, &now)) {
            prop_assert!(kept || snapshot.time < floor);
        }
    }

    #[test]
    fn who_asks_for_more_keeps_more(all in histories(), policy in policies(), rule in 0usize..6) {
        let now = now("2026-06-01 12:00");
        let mut wider = policy.clone();
        *wider.count_mut(Policy::COUNTS[rule]).unwrap() += 1;
        wider.within = wider.within.map(|age| Age { days: age.days + 1, ..age });
        let (less, more) = (flags(&all, &policy, &now), flags(&all, &wider, &now));
        prop_assert!(less.iter().zip(&more).all(|(less, more)| *more || !*less));
    }

    #[test]
    fn the_future_costs_nothing(all in histories(), ahead in histories(), policy in policies()) {
        let now = now("2026-06-01 12:00");
        let moved = |snapshot: &Snapshot| Snapshot {
            time: Timestamp::from_secs(snapshot.time.secs + 2_000_000_000),
            ..snapshot.clone()
        };
        let alone = flags(&all, &policy, &now);
        let together: Vec<_> = all.iter().cloned().chain(ahead.iter().map(moved)).collect();
        let both = flags(&together, &policy, &now);
        prop_assert_eq!(&both[..all.len()], &alone[..]);
        prop_assert!(both[all.len()..].iter().all(|kept| *kept));
    }
}
