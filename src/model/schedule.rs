//! When something is to be done: intervals, times of the day and of the week, cron expressions. Pure: the
//! time and the time zone are handed in.

mod cron;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};

pub use self::cron::CronExpr;
use super::Timestamp;

/// The longest text that is looked at.
const LONGEST_TEXT: usize = 256;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// When something is to be done.
///
/// Times of the day are those of a time zone. One that the clocks leave out, when they are put forward,
/// comes right after the gap; one that they show twice, when they are put back, comes at its first turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Never.
    #[default]
    Off,
    /// So long after the last time; from [`Schedule::LEAST`] to [`Schedule::MOST`].
    Every(Duration),
    /// Each day at this time.
    Daily(Time),
    /// Each week on this day, at this time.
    Weekly(Weekday, Time),
    /// As a cron expression says.
    Cron(CronExpr),
}

/// A text that is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It begins like none.
    #[error(
        "must be `off`, an interval such as 300, 5m, 1h or 2d, `daily 03:30`, `weekly sun 04:00`, or `cron 30 3 * * 1-5`"
    )]
    Form,
    /// An interval that is too short or too long.
    #[error("must be an interval from 60 seconds to 366 days")]
    Interval,
    /// No time of the day.
    #[error("has `{0}` where a time of the day is wanted, such as 03:30")]
    Time(String),
    /// No day of the week.
    #[error("has `{0}` where a day of the week or a time is wanted, such as `sun` or 04:00")]
    Weekday(String),
    /// A cron expression has five fields.
    #[error("must have five fields after `cron`: minute, hour, day of the month, month, day of the week")]
    CronFields,
    /// A field of a cron expression.
    #[error("has `{text}` as the {field} of a cron expression, which {wanted}")]
    CronField {
        /// Its name.
        field: &'static str,
        /// What was given.
        text: String,
        /// What it takes.
        wanted: String,
    },
    /// A cron expression of days that no month has.
    #[error("is a cron expression of a day that no calendar has")]
    CronNever,
}

impl Schedule {
    /// The shortest interval.
    pub const LEAST: Duration = Duration::from_secs(MINUTE);
    /// The longest interval.
    pub const MOST: Duration = Duration::from_secs(366 * DAY);

    /// The first time after `after`; `None` when there is none, or none that a calendar has.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Off => None,
            Self::Every(interval) => {
                let secs = after.secs.checked_add(i64::try_from(interval.as_secs()).ok()?)?;
                Some(Timestamp { secs, nanos: after.nanos })
            }
            Self::Daily(time) => first_at(&[*time], |_| true, after, tz),
            Self::Weekly(day, time) => first_at(&[*time], |date| date.weekday() == *day, after, tz),
            Self::Cron(cron) => cron.next_after(after, tz),
        }
    }

    /// The longest pause between two runs, as it is in the year after `from`, or until the second run where that is
    /// later; `None` for [`Schedule::Off`]. What is late by more than this has been missed.
    #[must_use]
    pub fn period(&self, from: Timestamp, tz: &TimeZone) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Every(interval) => Some(*interval),
            Self::Daily(_) => Some(Duration::from_secs(DAY)),
            Self::Weekly(..) => Some(Duration::from_secs(WEEK)),
            Self::Cron(cron) => cron.longest_pause(from, tz),
        }
    }

    /// Reads a length of time: seconds, or numbers with the units `s`, `m`, `h`, `d` and `w`, as `1h30m`. `None`
    /// for anything else, and for what no counter holds.
    #[must_use]
    pub fn parse_interval(text: &str) -> Option<Duration> {
        let mut rest = text.trim();
        if let Ok(seconds) = rest.parse::<u32>() {
            return rest
                .starts_with(|c: char| c.is_ascii_digit())
                .then(|| Duration::from_secs(seconds.into()));
        }
        let mut total = 0_u64;
        while !rest.is_empty() {
            let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
            let unit = after.chars().next()?;
            let seconds = match unit {
                's' => 1,
                'm' => MINUTE,
                'h' => HOUR,
                'd' => DAY,
                'w' => WEEK,
                _ => return None,
            };
            total = total.checked_add(u64::from(number.parse::<u32>().ok()?).checked_mul(seconds)?)?;
            rest = &after[unit.len_utf8()..];
        }
        (!text.trim().is_empty()).then(|| Duration::from_secs(total))
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > LONGEST_TEXT {
            return Err(ScheduleError::Form);
        }
        let text = text.trim().to_ascii_lowercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["off"] => Ok(Self::Off),
            ["daily"] => Ok(Self::Daily(Time::midnight())),
            ["daily", time] => Ok(Self::Daily(time_of_day(time)?)),
            ["weekly"] => Ok(Self::Weekly(Weekday::Sunday, Time::midnight())),
            ["weekly", one] => match weekday(one) {
                Some(day) => Ok(Self::Weekly(day, Time::midnight())),
                None => {
                    let time = time_of_day(one).map_err(|_| ScheduleError::Weekday((*one).to_owned()))?;
                    Ok(Self::Weekly(Weekday::Sunday, time))
                }
            },
            ["weekly", day, time] => {
                let day = weekday(day).ok_or_else(|| ScheduleError::Weekday((*day).to_owned()))?;
                Ok(Self::Weekly(day, time_of_day(time)?))
            }
            ["cron", fields @ ..] => Ok(Self::Cron(CronExpr::parse(fields)?)),
            [interval] => {
                let interval = Self::parse_interval(interval).ok_or(ScheduleError::Form)?;
                let fits = (Self::LEAST..=Self::MOST).contains(&interval);
                if fits { Ok(Self::Every(interval)) } else { Err(ScheduleError::Interval) }
            }
            _ => Err(ScheduleError::Form),
        }
    }
}

/// What [`FromStr`] reads as the same schedule.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |time: &Time| format!("{:02}:{:02}", time.hour(), time.minute());
        match self {
            Self::Off => f.write_str("off"),
            Self::Every(interval) => {
                let mut left = interval.as_secs();
                for (unit, letter) in [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm'), (1, 's')] {
                    if left >= unit {
                        write!(f, "{}{letter}", left / unit)?;
                        left %= unit;
                    }
                }
                Ok(())
            }
            Self::Daily(time) => write!(f, "daily {}", clock(time)),
            Self::Weekly(day, time) => {
                let name = cron::WEEKDAYS[usize::from(day.to_sunday_zero_offset().unsigned_abs())];
                write!(f, "weekly {name} {}", clock(time))
            }
            Self::Cron(cron) => write!(f, "cron {cron}"),
        }
    }
}

/// `03:30` or `3:30`.
fn time_of_day(text: &str) -> Result<Time, ScheduleError> {
    let number = |text: &str| {
        let short = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i8>().ok().filter(|_| short)
    };
    let time = text
        .split_once(':')
        .filter(|(_, minute)| minute.len() == 2)
        .and_then(|(hour, minute)| Time::new(number(hour)?, number(minute)?, 0, 0).ok());
    time.ok_or_else(|| ScheduleError::Time(text.to_owned()))
}

/// `sun` or `sunday`.
fn weekday(text: &str) -> Option<Weekday> {
    const FULL: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let at = (0..FULL.len()).find(|&at| text == cron::WEEKDAYS[at] || text == FULL[at])?;
    Weekday::from_sunday_zero_offset(i8::try_from(at).ok()?).ok()
}

/// The first of these times, which are in order, on a day that is wanted, that comes after `after`.
fn first_at(
    times: &[Time],
    wanted: impl Fn(Date) -> bool,
    after: Timestamp,
    tz: &TimeZone,
) -> Option<Timestamp> {
    let mut date = tz.to_datetime(instant(after)?).date();
    for _ in 0..cron::DAYS_AHEAD {
        if wanted(date) {
            let found = times.iter().filter_map(|time| resolve(date.to_datetime(*time), tz));
            if let Some(found) = found.into_iter().find(|found| *found > after) {
                return Some(found);
            }
        }
        date = date.tomorrow().ok()?;
    }
    None
}

/// When the clocks of a time zone show this for the first time, or, if they skip it, what comes after the gap.
fn resolve(local: DateTime, tz: &TimeZone) -> Option<Timestamp> {
    let moment = match tz.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok()?,
        // The gap lies between the two readings of what it swallows.
        AmbiguousOffset::Gap { after, .. } => {
            tz.following(after.to_timestamp(local).ok()?).next()?.timestamp()
        }
    };
    Some(Timestamp::from_secs(moment.as_second()))
}

/// As the calendar library has it; `None` outside of its years.
fn instant(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.secs, i32::try_from(time.nanos).ok()?).ok()
}
