//! Times as people say them.
//!
//! A phrase means a whole stretch of time, a day, a minute, a second, and its last nanosecond is what counts:
//! what was taken within the stretch is what the user asked for. Where clocks are changed, the reading is the
//! one that cannot be too late: of an hour that comes twice the first, and of an hour that is left out the
//! last moment before it.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// No phrase is longer, in bytes.
const LONGEST: usize = 100;
const NANOSECOND: SignedDuration = SignedDuration::from_nanos(1);

/// The last moment that `phrase` includes; `None` when it is no time. What names no zone is in that of
/// `now`. Understood are
///
/// - `2026-02-15`, `today`, `yesterday`, `monday` or `last monday` (the newest before today), `3 days ago`,
/// - each of them with a time of day: `9:30`, `14:00:05`, `2pm`; a time alone is the newest one that has been,
/// - with a zone after the time: `Z`, `+02:00`, `[Europe/Berlin]`; so RFC 3339 is understood,
/// - `now`, `90 minutes ago`, `2 hours ago`; without a time of day, `3 days ago` is this time of that day.
pub(super) fn moment(phrase: &str, now: &Zoned) -> Option<Timestamp> {
    if phrase.len() > LONGEST || !phrase.is_ascii() {
        return None;
    }
    let phrase = phrase.to_ascii_lowercase();
    // `2026-02-15t10:00` is two words.
    let phrase = match phrase.as_bytes() {
        [b'0'..=b'9', rest @ ..] if rest.get(9) == Some(&b't') => phrase.replacen('t', " ", 1),
        _ => phrase,
    };
    let mut words: Vec<&str> = phrase.split_whitespace().collect();
    let zone = zone(&mut words)?;
    let clock = clock(&mut words)?;
    let zone = match (zone, clock.as_ref().and_then(|clock| clock.offset)) {
        (zone, None) => zone.unwrap_or_else(|| now.time_zone().clone()),
        (None, Some(offset)) => TimeZone::fixed(offset),
        (Some(zone), Some(offset)) => {
            // Both are given: they must agree.
            let (clock, date) = (clock.as_ref()?, self::day(&words, now)?);
            let at = offset.to_timestamp(date.to_datetime(clock.time)).ok()?;
            if zone.to_offset(at) != offset {
                return None;
            }
            TimeZone::fixed(offset)
        }
    };
    let here = now.with_time_zone(zone);
    let Some(clock) = clock else {
        return match words.as_slice() {
            ["now"] => Some(now.timestamp()),
            [.., "ago"] => ago(&words, &here),
            _ => end_of_day(day(&words, &here)?, here.time_zone()),
        };
    };
    if words.is_empty() {
        // A time alone: today's, or when that is still to come, yesterday's.
        let today = clock.last(here.date(), &here)?;
        let to_come = today.checked_sub(clock.length).ok()? >= here.timestamp();
        return if to_come { clock.last(here.date().yesterday().ok()?, &here) } else { Some(today) };
    }
    clock.last(day(&words, &here)?, &here)
}

/// A time of day.
struct Clock {
    time: Time,
    /// How long the time named is: a minute, a second or a nanosecond.
    length: SignedDuration,
    offset: Option<Offset>,
}

impl Clock {
    /// Its last moment on that day.
    fn last(&self, date: Date, here: &Zoned) -> Option<Timestamp> {
        last(date.to_datetime(self.time), self.length, here.time_zone())
    }
}

/// When a clock there shows `time`, and how long that lasts: the last moment of it.
fn last(time: DateTime, length: SignedDuration, zone: &TimeZone) -> Option<Timestamp> {
    let (start, exists) = first(time, zone)?;
    let end = if exists { start.checked_add(length).ok()? } else { start };
    end.checked_sub(NANOSECOND).ok()
}

/// The first moment at which a clock there shows `time`, or for a time that is left out (then `false`) the
/// one at which the clock is changed.
fn first(time: DateTime, zone: &TimeZone) -> Option<(Timestamp, bool)> {
    match zone.to_ambiguous_zoned(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => Some((offset.to_timestamp(time).ok()?, true)),
        AmbiguousOffset::Fold { before, .. } => Some((before.to_timestamp(time).ok()?, true)),
        AmbiguousOffset::Gap { before, .. } => {
            // By the old offset `time` is at or after the change.
            let after = before.to_timestamp(time).ok()?.checked_add(NANOSECOND).ok()?;
            Some((zone.preceding(after).next()?.timestamp(), false))
        }
    }
}

fn end_of_day(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    let (midnight, _) = first(date.tomorrow().ok()?.at(0, 0, 0, 0), zone)?;
    midnight.checked_sub(NANOSECOND).ok()
}

/// Takes a zone off the end; `Some(None)` when there is none, `None` when it is unknown.
fn zone(words: &mut Vec<&str>) -> Option<Option<TimeZone>> {
    let Some(word) = words.last().copied() else { return Some(None) };
    if let Some((rest, name)) = word.strip_suffix(']').and_then(|word| word.split_once('[')) {
        words.pop();
        words.extend((!rest.is_empty()).then_some(rest));
        return TimeZone::get(name).ok().map(Some);
    }
    let offset = if matches!(word, "utc" | "gmt") { Some(Offset::UTC) } else { self::offset(word) };
    if offset.is_some() {
        words.pop();
    }
    Some(offset.map(TimeZone::fixed))
}

/// `z`, `+02:00`, `-0330`, `+02`.
fn offset(word: &str) -> Option<Offset> {
    if word == "z" {
        return Some(Offset::UTC);
    }
    let sign = match word.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = match word.len() {
        3 => (word.get(1..)?, "00"),
        5 => (word.get(1..3)?, word.get(3..)?),
        6 => (word.get(1..3)?, word.get(3..)?.strip_prefix(':')?),
        _ => return None,
    };
    let (hours, minutes) = (number(hours, 23)?, number(minutes, 59)?);
    Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60)).ok()
}

/// One or two digits that make no more than `most`.
fn number(digits: &str, most: i8) -> Option<i8> {
    let digits = Some(digits).filter(|d| matches!(d.len(), 1 | 2) && d.bytes().all(|b| b.is_ascii_digit()));
    digits?.parse().ok().filter(|n| *n <= most)
}

/// Takes a time of day off the end, and an `at` before it; `Some(None)` when there is none, `None` when it
/// is malformed.
fn clock(words: &mut Vec<&str>) -> Option<Option<Clock>> {
    let Some(mut word) = words.last().copied() else { return Some(None) };
    let half = word.len().checked_sub(2).and_then(|at| word.split_at_checked(at));
    let half = half.filter(|(before, half)| {
        matches!(*half, "am" | "pm") && !before.bytes().any(|b| b.is_ascii_alphabetic())
    });
    if half.is_none() && !word.contains(':') {
        return Some(None);
    }
    words.pop();
    let mut afternoon = None;
    if let Some((before, half)) = half {
        afternoon = Some(half == "pm");
        word = if before.is_empty() { words.pop()? } else { before };
    }
    let (time, zone) = word.split_at(word.find(['z', '+', '-']).unwrap_or(word.len()));
    let offset = if zone.is_empty() { None } else { Some(self::offset(zone)?) };
    let mut parts = time.split(':');
    let mut hour = number(parts.next()?, if afternoon.is_some() { 12 } else { 23 })?;
    if let Some(afternoon) = afternoon {
        hour = match hour {
            0 => return None,
            hour => hour % 12 + if afternoon { 12 } else { 0 },
        };
    }
    let minute = parts.next().map_or(Some(0), |part| number(part, 59))?;
    let mut length = SignedDuration::from_mins(1);
    let (mut second, mut nanos) = (0, 0);
    if let Some(part) = parts.next() {
        let (whole, fraction) = part.split_once('.').map_or((part, None), |(a, b)| (a, Some(b)));
        second = number(whole, 59)?;
        length = SignedDuration::from_secs(1);
        if let Some(fraction) = fraction {
            let digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
            nanos = digits.then(|| format!("{fraction:0<9}"))?.get(..9)?.parse().ok()?;
            length = NANOSECOND;
        }
    }
    if parts.next().is_some() {
        return None;
    }
    if words.last() == Some(&"at") {
        words.pop();
    }
    Some(Some(Clock { time: Time::new(hour, minute, second, nanos).ok()?, length, offset }))
}

/// The day that the words name.
fn day(words: &[&str], here: &Zoned) -> Option<Date> {
    match words {
        ["today"] => Some(here.date()),
        ["yesterday"] => here.date().yesterday().ok(),
        ["last", name] | [name] if weekday(name).is_some() => {
            here.date().nth_weekday(-1, weekday(name)?).ok()
        }
        [count, unit, "ago"] => match span(count, unit)? {
            Back::Calendar(span) => here.date().checked_sub(span).ok(),
            Back::Exact(_) => None,
        },
        [date] => Date::strptime("%Y-%m-%d", date).ok(),
        _ => None,
    }
}

fn weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "monday" | "mon" => Weekday::Monday,
        "tuesday" | "tue" => Weekday::Tuesday,
        "wednesday" | "wed" => Weekday::Wednesday,
        "thursday" | "thu" => Weekday::Thursday,
        "friday" | "fri" => Weekday::Friday,
        "saturday" | "sat" => Weekday::Saturday,
        "sunday" | "sun" => Weekday::Sunday,
        _ => return None,
    })
}

/// How far back.
enum Back {
    /// In days, which are as long as the clock makes them.
    Calendar(Span),
    /// In time that passes.
    Exact(SignedDuration),
}

fn span(count: &str, unit: &str) -> Option<Back> {
    let count: i64 = if matches!(count, "a" | "an") { 1 } else { count.parse().ok()? };
    if !(0..=100_000).contains(&count) {
        return None;
    }
    let calendar = |span: Result<Span, jiff::Error>| span.ok().map(Back::Calendar);
    match unit.strip_suffix('s').unwrap_or(unit) {
        "second" => Some(Back::Exact(SignedDuration::from_secs(count))),
        "minute" => Some(Back::Exact(SignedDuration::from_mins(count))),
        "hour" => Some(Back::Exact(SignedDuration::from_hours(count))),
        "day" => calendar(Span::new().try_days(count)),
        "week" => calendar(Span::new().try_weeks(count)),
        "month" => calendar(Span::new().try_months(count)),
        "year" => calendar(Span::new().try_years(count)),
        _ => None,
    }
}

fn ago(words: &[&str], here: &Zoned) -> Option<Timestamp> {
    let [count, unit, _] = words else { return None };
    match span(count, unit)? {
        Back::Exact(span) => here.timestamp().checked_sub(span).ok(),
        Back::Calendar(span) => {
            let then = here.datetime().checked_sub(span).ok()?;
            last(then, NANOSECOND, here.time_zone())
        }
    }
}
