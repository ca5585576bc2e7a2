//! Which snapshot the user means.

use crate::model::{Classify, ErrorClass};
use crate::repo::{Catalog, CatalogEntry};

/// Why no snapshot could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The repository has no snapshot.
    #[error("the repository has no snapshot yet")]
    Empty,
    /// Nothing fits.
    #[error("no snapshot matches {0:?}")]
    NoMatch(String),
    /// Several ids begin so.
    #[error("{0:?} is the beginning of several snapshots' ids; give more of it")]
    Ambiguous(String),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Empty => ErrorClass::Failed,
            Self::NoMatch(_) | Self::Ambiguous(_) => ErrorClass::Usage,
        }
    }
}

/// What the user may mean by a word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// So many snapshots before the newest.
    Latest(usize),
    /// The newest at or before this moment, in seconds since 1970.
    At(i64),
    /// The beginning of an id.
    Prefix(String),
}

/// Finds the snapshot that `word` means: `latest`, `latest~N`, an id or a unique beginning of one,
/// or a time, which means the newest snapshot at or before it. Times without a zone are local.
///
/// Digits alone are an id before they are a year: ids are what listings show.
pub fn choose<'a>(catalog: &'a Catalog, word: &str, now: &jiff::Zoned) -> Result<&'a CatalogEntry, Error> {
    let entries = catalog.entries();
    if entries.is_empty() {
        return Err(Error::Empty);
    }
    let no_match = || Error::NoMatch(word.to_string());
    match meaning(word, now).ok_or_else(no_match)? {
        Meaning::Latest(back) => entries.iter().rev().nth(back).ok_or_else(no_match),
        Meaning::At(moment) => entries.iter().rev().find(|e| e.time <= moment).ok_or_else(no_match),
        Meaning::Prefix(prefix) => {
            let mut matching = entries.iter().filter(|e| e.id.to_string().starts_with(&prefix));
            match (matching.next(), matching.next()) {
                (Some(_), Some(_)) => Err(Error::Ambiguous(word.to_string())),
                (Some(one), None) => Ok(one),
                (None, _) => match moment(word, now) {
                    Some(at) => entries.iter().rev().find(|e| e.time <= at).ok_or_else(no_match),
                    None => Err(no_match()),
                },
            }
        }
    }
}

fn meaning(word: &str, now: &jiff::Zoned) -> Option<Meaning> {
    if word == "latest" {
        return Some(Meaning::Latest(0));
    }
    if let Some(back) = word.strip_prefix("latest~") {
        return back.parse().ok().map(Meaning::Latest);
    }
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if !word.is_empty() && word.len() <= 64 && word.chars().all(hex) {
        return Some(Meaning::Prefix(word.to_string()));
    }
    moment(word, now).map(Meaning::At)
}

/// The last second that a time named by the user includes: `2026-02-15` is the end of that day,
/// `2026-02-15T10:00` the end of that minute.
fn moment(word: &str, now: &jiff::Zoned) -> Option<i64> {
    use jiff::civil::{Date, DateTime};
    if let Ok(exact) = word.parse::<jiff::Timestamp>() {
        return Some(exact.as_second());
    }
    if let Some(span) = word.strip_suffix(" ago").and_then(span) {
        return now.checked_sub(span).ok().map(|t| t.timestamp().as_second());
    }
    let local = |time: DateTime| time.to_zoned(now.time_zone().clone()).ok();
    let end = |zoned: jiff::Zoned, span: jiff::Span| {
        zoned.checked_add(span).ok().map(|t| t.timestamp().as_second() - 1)
    };
    let day = match word {
        "now" => return Some(now.timestamp().as_second()),
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        _ => Date::strptime("%Y-%m-%d", word).ok(),
    };
    if let Some(day) = day {
        // A day is as long as the clock makes it, with or without a change of the hour.
        return end(local(day.at(0, 0, 0, 0))?, jiff::Span::new().days(1));
    }
    let text = word.replace(' ', "T");
    for (format, span) in [
        ("%Y-%m-%dT%H:%M:%S", jiff::Span::new().seconds(1)),
        ("%Y-%m-%dT%H:%M", jiff::Span::new().minutes(1)),
    ] {
        if let Ok(time) = DateTime::strptime(format, &text) {
            return end(local(time)?, span);
        }
    }
    None
}

/// `3 days`, `1 hour`, `2 weeks` and so on.
fn span(text: &str) -> Option<jiff::Span> {
    let (count, unit) = text.trim().split_once(' ')?;
    let count: i64 = if matches!(count, "a" | "an") { 1 } else { count.parse().ok()? };
    if !(0..=100_000).contains(&count) {
        return None;
    }
    let span = jiff::Span::new();
    Some(match unit.trim_end_matches('s') {
        "second" => span.seconds(count),
        "minute" => span.minutes(count),
        "hour" => span.hours(count),
        "day" => span.days(count),
        "week" => span.weeks(count),
        "month" => span.months(count),
        "year" => span.try_years(count).ok()?,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::ObjectId;

    fn catalog(times: &[&str]) -> Catalog {
        Catalog::from_entries(times.iter().enumerate().map(|(i, time)| CatalogEntry {
            time: time.parse::<jiff::Timestamp>().unwrap().as_second(),
            id: ObjectId([u8::try_from(i).unwrap() * 0x11; 32]),
            name: String::new(),
        }))
    }

    #[test]
    fn words_mean_what_people_expect() {
        let catalog = catalog(&[
            "2026-02-13T23:30:00Z",
            "2026-02-14T09:59:59Z",
            "2026-02-14T10:00:30Z",
            "2026-02-15T12:00:00Z",
        ]);
        // One hour east of Greenwich.
        let now: jiff::Zoned = "2026-02-16T12:00:00+01:00[+01:00]".parse().unwrap();
        for (word, want) in [
            ("latest", Some(3)),
            ("latest~0", Some(3)),
            ("latest~3", Some(0)),
            ("latest~4", None),
            ("11", Some(1)),
            ("1111", Some(1)),
            ("44", None),
            ("2026-02-14", Some(2)),
            ("2026-02-13", None),
            ("2026-02-14T00:29", None),
            ("2026-02-14T00:30", Some(0)),
            ("2026-02-14T11:00", Some(2)),
            ("2026-02-14 11:00:29", Some(1)),
            ("2026-02-14T10:00:29Z", Some(1)),
            ("2026-02-14T10:00:30Z", Some(2)),
            ("today", Some(3)),
            ("yesterday", Some(3)),
            ("2 days ago", Some(2)),
            ("1 week ago", None),
            ("an hour ago", Some(3)),
            ("tomorrow or so", None),
            ("-3 days ago", None),
            ("", None),
        ] {
            let found = choose(&catalog, word, &now).ok().map(|e| usize::from(e.id.0[0] / 0x11));
            assert_eq!(found, want, "{word:?}");
        }
        assert_eq!(choose(&Catalog::default(), "latest", &now).err(), Some(Error::Empty));
    }

    #[test]
    fn a_time_never_picks_a_later_snapshot() {
        let catalog = catalog(&["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T23:30:00Z"]);
        // The day on which clocks go forward in Berlin has 23 hours; it ends at 22:00 UTC.
        let now: jiff::Zoned = "2026-04-01T12:00:00+02:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(choose(&catalog, "2026-03-29", &now).unwrap().id.0[0], 0x11);
    }
}
