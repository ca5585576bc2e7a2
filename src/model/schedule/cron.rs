//! Cron expressions: five fields, as `crontab(5)` knows them.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::{ScheduleError, first_at, instant, resolve};
use crate::model::Timestamp;

/// Days of the week, from Sunday, which is 0 and 7.
pub(super) const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Two 29ths of February are never further apart than eight years.
pub(super) const DAYS_AHEAD: usize = 9 * 366;
/// All bits of a field of hours.
const EVERY_HOUR: u64 = (1 << 24) - 1;
/// In seconds, and a day more than some have.
const YEAR: i64 = 367 * 86_400;
/// Longer than any change of the clocks, in minutes.
const CLOCK_CHANGE: i64 = 180;
const DAYS_OF_MONTH: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What one field may hold.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    first_name: u32,
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[], first_name: 0 },
    Field { name: "hour", least: 0, most: 23, names: &[], first_name: 0 },
    Field { name: "day of the month", least: 1, most: 31, names: &[], first_name: 0 },
    Field { name: "month", least: 1, most: 12, names: &MONTHS, first_name: 1 },
    Field { name: "day of the week", least: 0, most: 7, names: &WEEKDAYS, first_name: 0 },
];

/// A cron expression: minute, hour, day of the month, month, day of the week, each `*` or a list of numbers,
/// names and ranges, with steps (`*/15`, `8-18/2`).
///
/// When both days are given, either will do; one that begins with `*` counts as not given. An expression for
/// every hour goes by the real clock when the clocks are changed, so that no hour is left out or run together
/// with another; for all others the rule of [`Schedule`](super::Schedule) holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronExpr {
    text: String,
    /// One bit for each number.
    pub(super) minutes: u64,
    pub(super) hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

impl CronExpr {
    /// Reads the five fields, in lower case.
    pub(super) fn parse(fields: &[&str]) -> Result<Self, ScheduleError> {
        let [minute, hour, day, month, weekday] = fields else { return Err(ScheduleError::CronFields) };
        let mut masks = [0; 5];
        for ((mask, field), text) in masks.iter_mut().zip(&FIELDS).zip([minute, hour, day, month, weekday]) {
            *mask = field.parse(text)?;
        }
        let [minutes, hours, days, months, weekdays] = masks;
        // Sunday is 0 and 7.
        let weekdays = weekdays | weekdays >> 7;
        let (any_day, any_weekday) = (day.starts_with('*'), weekday.starts_with('*'));
        let has_day = |month: u32| (1..=DAYS_OF_MONTH[month as usize - 1]).any(|day| days & 1 << day != 0);
        // A day of the week that is given comes in every month.
        let by_weekday = !any_weekday && !any_day;
        if !by_weekday && !(1..=12).any(|month| months & 1 << month != 0 && has_day(month)) {
            return Err(ScheduleError::CronNever);
        }
        Ok(Self { text: fields.join(" "), minutes, hours, days, months, weekdays, any_day, any_weekday })
    }

    /// The first time after `after`.
    pub(super) fn next_after(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        if self.hours == EVERY_HOUR
            && let Some(soon) = self.within_hours(after, tz)
        {
            return Some(soon);
        }
        first_at(&self.times(), |date| self.has_date(date), after, tz)
    }

    /// The times of a day that has any.
    fn times(&self) -> Vec<Time> {
        let hours = (0..24).filter(|hour| self.hours & 1 << hour != 0);
        hours
            .flat_map(|hour| (0..60).map(move |minute| (hour, minute)))
            .filter(|(_, minute)| self.minutes & 1 << minute != 0)
            .filter_map(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
            .collect()
    }

    /// The longest pause between two runs in the year after `from`, or until the second run where that is later.
    /// Days are looked at as a whole, but for those on which the clocks are changed: there may be a run each
    /// minute.
    pub(super) fn longest_pause(&self, from: Timestamp, tz: &TimeZone) -> Option<Duration> {
        let times = self.times();
        let (opening, closing) = (*times.first()?, *times.last()?);
        let at = |date: Date, time: Time| resolve(date.to_datetime(time), tz).map(|time| time.secs);
        let steps = times.windows(2).map(|pair| seconds(pair[1]) - seconds(pair[0]));
        let (within, length) = (steps.max().unwrap_or(0), seconds(closing) - seconds(opening));
        let end = from.secs.saturating_add(YEAR);
        let mut date = tz.to_datetime(instant(self.next_after(from, tz)?)?).date();
        let (mut longest, mut begin) = (0, at(date, opening)?);
        while longest == 0 || begin < end {
            let Some((next, later)) = self.date_after(date).and_then(|next| Some((next, at(next, opening)?)))
            else {
                break;
            };
            let last = at(date, closing)?;
            let days = i64::from((next - date).get_days());
            let plain = last - begin == length && later - begin == days * 86_400;
            let pause = if plain {
                within.max(later - last)
            } else {
                self.pause_between(begin, later, &times, date, tz)
            };
            longest = longest.max(pause);
            (date, begin) = (next, later);
        }
        u64::try_from(longest).ok().filter(|longest| *longest > 0).map(Duration::from_secs)
    }

    /// The longest pause from the first run of a day to the first run of the next that has any, seen one by one.
    fn pause_between(&self, begin: i64, end: i64, times: &[Time], date: Date, tz: &TimeZone) -> i64 {
        let mut runs: Vec<i64> = if self.hours == EVERY_HOUR {
            let next = |time: &i64| self.next_after(Timestamp::from_secs(*time), tz).map(|time| time.secs);
            std::iter::successors(Some(begin), next).take_while(|time| *time < end).collect()
        } else {
            times
                .iter()
                .filter_map(|time| resolve(date.to_datetime(*time), tz))
                .map(|time| time.secs)
                .collect()
        };
        runs.push(end);
        runs.sort_unstable();
        runs.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// The next day after this one that has runs.
    fn date_after(&self, date: Date) -> Option<Date> {
        let days = std::iter::successors(date.tomorrow().ok(), |date| date.tomorrow().ok());
        days.take(DAYS_AHEAD).find(|date| self.has_date(*date))
    }

    /// What comes in the next minutes by the real clock, for an expression for every hour.
    fn within_hours(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        instant(after)?;
        let start = after.secs - after.secs.rem_euclid(60);
        let minutes = (1..=CLOCK_CHANGE).map(|minute| Timestamp::from_secs(start + 60 * minute));
        minutes.into_iter().find(|time| {
            instant(*time).is_some_and(|time| {
                let local = tz.to_datetime(time);
                self.minutes & 1 << local.minute() != 0 && self.has_date(local.date())
            })
        })
    }

    pub(super) fn has_date(&self, date: Date) -> bool {
        let day = self.days & 1 << date.day() != 0;
        let weekday = self.weekdays & 1 << date.weekday().to_sunday_zero_offset() != 0;
        let right = if self.any_day || self.any_weekday { day && weekday } else { day || weekday };
        right && self.months & 1 << date.month() != 0
    }
}

/// The five fields.
impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, ScheduleError> {
        let mut mask = 0;
        for part in text.split(',') {
            mask |= self.part(part).ok_or_else(|| self.error(text))?;
        }
        Ok(mask)
    }

    /// `*`, `7`, `mon`, `1-5`, and the same with `/2`.
    fn part(&self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| (1..=self.most).contains(step))?)),
            None => (text, None),
        };
        let (first, last) = if range == "*" {
            // As a day of the week, 7 is 0 again.
            (self.least, if self.most == 7 { 6 } else { self.most })
        } else if let Some((first, last)) = range.split_once('-') {
            let (first, last) = (self.value(first)?, self.value(last)?);
            // `fri-sun`.
            (first, if self.most == 7 && last == 0 && first > 0 { 7 } else { last })
        } else {
            let first = self.value(range)?;
            (first, if step.is_some() { self.most } else { first })
        };
        (first <= last).then(|| {
            let step = step.unwrap_or(1) as usize;
            (first..=last).step_by(step).fold(0, |mask, value| mask | 1 << value)
        })
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().zip(self.first_name..).find(|(name, _)| **name == text);
        named
            .map(|(_, value)| value)
            .or_else(|| number(text))
            .filter(|n| (self.least..=self.most).contains(n))
    }

    fn error(&self, text: &str) -> ScheduleError {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(", names from {first} to {last}"),
            _ => String::new(),
        };
        let wanted =
            format!("takes * or numbers from {} to {}{names}, as 1,3-5 or */2", self.least, self.most);
        ScheduleError::CronField { field: self.name, text: text.to_owned(), wanted }
    }
}

/// Since midnight.
fn seconds(time: Time) -> i64 {
    3_600 * i64::from(time.hour()) + 60 * i64::from(time.minute())
}

fn number(text: &str) -> Option<u32> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}
