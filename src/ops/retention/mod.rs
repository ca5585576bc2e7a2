//! Retention: which snapshots a policy keeps, and why. Pure: no I/O and no clock.
//!
//! What a wrong clock or a failing backup wrote must never cost good snapshots. So
//!
//! - snapshots of the future, and those that the shrink alarm holds back, are kept, and no rule counts them;
//! - the age that is kept ends at the present, or at the newest snapshot where backups have stopped: what comes
//!   later never pushes out what is younger than that age;
//! - of an hour, day, week, month or year the newest complete snapshot stands for it, and an incomplete one only
//!   when there is no other;
//! - the newest of each group is kept, and the newest complete one; and what a writer wrote last, when its clock
//!   says that it wrote it earlier.

mod group;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

pub use self::group::{Filter, Grouping, GroupingError, Key};
use crate::model::{Age, ObjectId, Policy, Snapshot, Timestamp, WriterId, WriterKeyId};

/// A snapshot to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: ObjectId,
    /// Its record.
    pub snapshot: &'a Snapshot,
    /// No policy may remove it.
    pub held: bool,
    /// The writer key that made it, if it was none of an owner.
    pub writer_key: Option<WriterKeyId>,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The newest of its group.
    Newest,
    /// The newest of its group that is complete.
    NewestComplete,
    /// Its writer wrote it last, though its time says otherwise.
    WrittenLast,
    /// One of the last ones.
    Last,
    /// It stands for an hour.
    Hourly,
    /// For a day.
    Daily,
    /// For a week.
    Weekly,
    /// For a month.
    Monthly,
    /// For a year.
    Yearly,
    /// Young enough.
    Within,
    /// It has a label that is kept.
    Tag,
    /// Its time has not come yet.
    Future,
    /// The shrink alarm was raised over it, or over the one after it.
    Held,
}

impl Reason {
    /// One word, for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::NewestComplete => "newest-complete",
            Self::WrittenLast => "written-last",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Within => "within",
            Self::Tag => "tag",
            Self::Future => "future",
            Self::Held => "held-back",
        }
    }
}

/// A snapshot that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its place among the candidates.
    pub index: usize,
    /// Why it is kept, each reason once; empty when it is to be removed.
    pub reasons: Vec<Reason>,
}

impl Judged {
    /// False when it is to be removed.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Snapshots that are judged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub key: Key,
    /// Oldest first.
    pub snapshots: Vec<Judged>,
}

impl Group {
    /// How many are kept, and how many are to be removed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let kept = self.snapshots.iter().filter(|judged| judged.is_kept()).count();
        (kept, self.snapshots.len() - kept)
    }
}

/// Judges snapshots, each within its group. `now` gives the present and the zone in which days begin.
#[must_use]
pub fn judge(candidates: &[Candidate<'_>], policy: &Policy, grouping: Grouping, now: &Zoned) -> Vec<Group> {
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        // A stolen writer key can add any snapshot in the name of any machine: it pushes out none but its own.
        let key = Key { writer_key: candidate.writer_key, ..grouping.key(candidate.snapshot) };
        groups.entry(key).or_default().push(index);
    }
    groups
        .into_iter()
        .map(|(key, members)| Group { key, snapshots: judge_group(candidates, members, policy, now) })
        .collect()
}

fn judge_group(
    candidates: &[Candidate<'_>],
    mut members: Vec<usize>,
    policy: &Policy,
    now: &Zoned,
) -> Vec<Judged> {
    let of = |index: usize| candidates[index].snapshot;
    members.sort_by_key(|&index| (of(index).time, of(index).sequence, candidates[index].id));
    let mut judged: Vec<Judged> =
        members.iter().map(|&index| Judged { index, reasons: Vec::new() }).collect();
    let present = timestamp(now.timestamp());
    // Newest first, by place in `judged`.
    let mut counted = Vec::new();
    for (place, judged) in judged.iter_mut().enumerate() {
        let candidate = &candidates[judged.index];
        if candidate.snapshot.time > present {
            judged.reasons.push(Reason::Future);
        }
        if candidate.held {
            judged.reasons.push(Reason::Held);
        }
        if policy.tags.iter().any(|all| has_all(candidate.snapshot, all)) {
            judged.reasons.push(Reason::Tag);
        }
        if candidate.snapshot.time <= present && !candidate.held {
            counted.push(place);
        }
    }
    counted.reverse();
    let at = |place: usize| of(members[place]);
    let mut keep = |place: usize, reason| judged[place].reasons.push(reason);
    if let Some(&newest) = counted.first() {
        keep(newest, Reason::Newest);
    }
    if let Some(&complete) = counted.iter().find(|&&place| at(place).complete) {
        keep(complete, Reason::NewestComplete);
    }
    for place in written_last(&counted, &at) {
        keep(place, Reason::WrittenLast);
    }
    counted.iter().take(number(policy.last)).for_each(|&place| keep(place, Reason::Last));
    for (reason, bucket, count) in [
        (Reason::Hourly, hour as Bucket, policy.hourly),
        (Reason::Daily, day, policy.daily),
        (Reason::Weekly, week, policy.weekly),
        (Reason::Monthly, month, policy.monthly),
        (Reason::Yearly, year, policy.yearly),
    ] {
        let of_bucket = |place: &usize| bucket(&zoned(at(*place).time, now.time_zone()));
        for one in counted.chunk_by(|a, b| of_bucket(a) == of_bucket(b)).take(number(count)) {
            let complete = one.iter().find(|&&place| at(place).complete);
            complete.or(one.first()).into_iter().for_each(|&place| keep(place, reason));
        }
    }
    if let (Some(age), Some(&newest)) = (policy.within, counted.first()) {
        let oldest = before(&zoned(at(newest).time, now.time_zone()), age);
        counted
            .iter()
            .filter(|&&place| oldest.is_none_or(|oldest| at(place).time >= oldest))
            .for_each(|&place| keep(place, Reason::Within));
    }
    judged.iter_mut().for_each(|judged| judged.reasons.sort_unstable());
    judged
}

fn number(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn has_all(snapshot: &Snapshot, tags: &[String]) -> bool {
    !tags.is_empty() && tags.iter().all(|tag| snapshot.tags.contains(tag))
}

/// Of each writer the snapshot of the highest number, where one of a lower number claims to be younger.
fn written_last<'s>(counted: &[usize], at: &impl Fn(usize) -> &'s Snapshot) -> Vec<usize> {
    // Of each writer the newest by time, and the newest by number.
    let mut writers: BTreeMap<WriterId, (usize, usize)> = BTreeMap::new();
    for &place in counted {
        let (_, last) = writers.entry(at(place).writer).or_insert((place, place));
        if at(place).sequence > at(*last).sequence {
            *last = place;
        }
    }
    let contradicts = |(newest, last): &(usize, usize)| newest != last && at(*newest).time > at(*last).time;
    writers.into_values().filter(contradicts).map(|(_, last)| last).collect()
}

/// Names the hour, day, ... that a time is in.
type Bucket = fn(&Zoned) -> [i32; 4];

/// An hour that comes twice when clocks are changed is two.
fn hour(time: &Zoned) -> [i32; 4] {
    let [year, month, day, _] = day(time);
    [year, month * 100 + day, time.hour().into(), time.offset().seconds()]
}

fn day(time: &Zoned) -> [i32; 4] {
    [time.year().into(), time.month().into(), time.day().into(), 0]
}

fn week(time: &Zoned) -> [i32; 4] {
    let week = time.date().iso_week_date();
    [week.year().into(), week.week().into(), 0, 0]
}

fn month(time: &Zoned) -> [i32; 4] {
    [time.year().into(), time.month().into(), 0, 0]
}

fn year(time: &Zoned) -> [i32; 4] {
    [time.year().into(), 0, 0, 0]
}

/// Times that no calendar has are at its ends.
fn zoned(time: Timestamp, zone: &TimeZone) -> Zoned {
    let end = if time.secs < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let nanos = i32::try_from(time.nanos).unwrap_or_default();
    jiff::Timestamp::new(time.secs, nanos).unwrap_or(end).to_zoned(zone.clone())
}

/// `None` when it is before all times.
fn before(time: &Zoned, age: Age) -> Option<Timestamp> {
    let Age { years, months, weeks, days, hours, minutes } = age;
    let span = Span::new().try_years(years).ok()?.try_months(months).ok()?.try_weeks(weeks).ok()?;
    let span = span.try_days(days).ok()?.try_hours(hours).ok()?.try_minutes(minutes).ok()?;
    Some(timestamp(time.checked_sub(span).ok()?.timestamp()))
}

fn timestamp(time: jiff::Timestamp) -> Timestamp {
    // jiff counts parts of a second towards 1970, we from the second before.
    let nanos = time.subsec_nanosecond();
    let before = i64::from(nanos < 0);
    let nanos = u32::try_from(i64::from(nanos) + before * 1_000_000_000).unwrap_or_default();
    Timestamp { secs: time.as_second() - before, nanos }
}

#[cfg(test)]
mod tests;
