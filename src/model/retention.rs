//! Policies of retention: what a user wants to be kept.

use std::fmt;
use std::str::FromStr;

/// The largest number that a policy or an age may hold: more is a slip of the finger.
const MOST: u32 = 1_000_000;

/// A stretch of time in the units of the calendar, as `2y5m7d3h`; never of no length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Weeks.
    pub weeks: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
    /// Minutes.
    pub minutes: u32,
}

/// A text that is no age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a time such as 36h, 14d, 8w, 6m or 2y5m7d: years (y), months (m), weeks (w), days (d), hours (h)"
)]
pub struct AgeError;

impl FromStr for Age {
    type Err = AgeError;

    /// `m` means months, as in other tools' retention: who meant minutes keeps more than wanted, never less.
    /// Minutes are `min`.
    fn from_str(text: &str) -> Result<Self, AgeError> {
        let mut age = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(AgeError)?;
            let (number, after) = rest.split_at(digits);
            let after = after.trim_start();
            let (unit, after) =
                after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
            let number: u32 = number.parse().ok().filter(|n| *n <= MOST).ok_or(AgeError)?;
            let place = match unit.to_ascii_lowercase().as_str() {
                "y" | "year" | "years" => &mut age.years,
                "m" | "mo" | "month" | "months" => &mut age.months,
                "w" | "week" | "weeks" => &mut age.weeks,
                "d" | "day" | "days" => &mut age.days,
                "h" | "hour" | "hours" => &mut age.hours,
                "min" | "minute" | "minutes" => &mut age.minutes,
                _ => return Err(AgeError),
            };
            if *place != 0 {
                return Err(AgeError);
            }
            *place = number;
            rest = after.trim_start();
        }
        if age == Self::default() { Err(AgeError) } else { Ok(age) }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { years, months, weeks, days, hours, minutes } = self;
        [(years, "y"), (months, "m"), (weeks, "w"), (days, "d"), (hours, "h"), (minutes, "min")]
            .into_iter()
            .filter(|(n, _)| **n > 0)
            .try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// What is to be kept, of each group of snapshots. A snapshot that no rule keeps is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// So many of the newest.
    pub last: u32,
    /// One for each of the last so many hours that have any.
    pub hourly: u32,
    /// One for each of the last so many days that have any.
    pub daily: u32,
    /// One for each of the last so many weeks that have any; they begin on Monday.
    pub weekly: u32,
    /// One for each of the last so many months that have any.
    pub monthly: u32,
    /// One for each of the last so many years that have any.
    pub yearly: u32,
    /// All that are younger.
    pub within: Option<Age>,
    /// All that have every label of one of these lists.
    pub tags: Vec<Vec<String>>,
}

/// A number of a policy that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0 to 1000000, or `all`")]
pub struct CountError;

impl Policy {
    /// Names of the rules that have a number, in the order of [`Self::count_mut`].
    pub const COUNTS: [&'static str; 6] = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];

    /// True when it keeps nothing: nobody can have meant that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The number of a rule, by one of the names of [`Self::COUNTS`].
    pub fn count_mut(&mut self, name: &str) -> Option<&mut u32> {
        Some(match name {
            "last" => &mut self.last,
            "hourly" => &mut self.hourly,
            "daily" => &mut self.daily,
            "weekly" => &mut self.weekly,
            "monthly" => &mut self.monthly,
            "yearly" => &mut self.yearly,
            _ => return None,
        })
    }

    /// Reads the number of a rule.
    pub fn parse_count(text: &str) -> Result<u32, CountError> {
        match text.trim() {
            "all" | "unlimited" => Ok(u32::MAX),
            number => number
                .parse()
                .ok()
                .filter(|n| *n <= MOST && number.starts_with(|c: char| c.is_ascii_digit()))
                .ok_or(CountError),
        }
    }

    /// Reads a list of labels that a snapshot must have all of.
    #[must_use]
    pub fn parse_tags(text: &str) -> Vec<String> {
        text.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, want) in [
            ("36h", "36h"),
            ("2y5m7d3h", "2y5m7d3h"),
            ("2 weeks", "2w"),
            ("1 year 6 months", "1y6m"),
            ("90min", "90min"),
            (" 14D ", "14d"),
        ] {
            assert_eq!(text.parse::<Age>().unwrap().to_string(), want, "{text}");
        }
        for bad in ["", "7", "d", "0d", "-1d", "1.5d", "1d1d", "7x", "99999999d", "1d7", "é1d", "7 d é"] {
            assert_eq!(bad.parse::<Age>(), Err(AgeError), "{bad}");
        }
    }

    #[test]
    fn numbers() {
        for (text, want) in [("0", 0), (" 7 ", 7), ("1000000", MOST), ("all", u32::MAX)] {
            assert_eq!(Policy::parse_count(text), Ok(want), "{text}");
        }
        for bad in ["", "-1", "+7", "1000001", "7d", "1e3", "99999999999999999999"] {
            assert_eq!(Policy::parse_count(bad), Err(CountError), "{bad}");
        }
        assert!(Policy::default().is_empty());
        for name in Policy::COUNTS {
            let mut policy = Policy::default();
            *policy.count_mut(name).unwrap() = 1;
            assert!(!policy.is_empty(), "{name}");
        }
        assert_eq!(Policy::default().count_mut("minutely"), None);
        assert_eq!(Policy::parse_tags(" a, b,,"), ["a", "b"]);
    }
}
