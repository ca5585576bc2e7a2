//! Which snapshot the user means.

mod moment;
#[cfg(test)]
mod tests;

use crate::model::{Classify, ErrorClass, Timestamp};
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
    /// No time is said in that way.
    #[error("{0:?} is no time")]
    NotATime(String),
    /// All snapshots were taken later.
    #[error("no snapshot is as old as {word:?}, which is {moment}")]
    TooEarly {
        /// What was asked for.
        word: String,
        /// The moment that it means, with its zone.
        moment: String,
    },
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Empty => ErrorClass::Failed,
            Self::NoMatch(_) | Self::Ambiguous(_) | Self::NotATime(_) | Self::TooEarly { .. } => {
                ErrorClass::Usage
            }
        }
    }
}

/// Tells a snapshot's time to the nanosecond, which is in its record; `None` when that cannot be read. It is
/// asked only about a snapshot of the very second that the user named a part of.
pub type TimeOf<'a> = dyn Fn(&CatalogEntry) -> Option<Timestamp> + 'a;

/// What the user may mean by a word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// So many snapshots before the newest.
    Latest(usize),
    /// The beginning of an id.
    Prefix,
}

/// Finds the snapshot that `word` means: `latest`, `latest~N`, an id or a unique beginning of one,
/// or a time, as in [`at`].
///
/// Digits alone are an id before they are a year: ids are what listings show.
pub fn choose<'a>(
    catalog: &'a Catalog,
    word: &str,
    now: &jiff::Zoned,
    time_of: &TimeOf<'_>,
) -> Result<&'a CatalogEntry, Error> {
    let entries = catalog.entries();
    if entries.is_empty() {
        return Err(Error::Empty);
    }
    let no_match = || Error::NoMatch(word.to_string());
    match meaning(word) {
        Some(Meaning::Latest(back)) => entries.iter().rev().nth(back).ok_or_else(no_match),
        Some(Meaning::Prefix) => by_id(catalog, word),
        None => at(catalog, word, now, time_of).map_err(|error| match error {
            Error::NotATime(_) => no_match(),
            other => other,
        }),
    }
}

/// Finds the snapshot of this id, or of the only one that begins so.
pub fn by_id<'a>(catalog: &'a Catalog, id: &str) -> Result<&'a CatalogEntry, Error> {
    let mut matching =
        catalog.entries().iter().filter(|e| !id.is_empty() && e.id.to_string().starts_with(id));
    match (matching.next(), matching.next()) {
        (Some(_), Some(_)) => Err(Error::Ambiguous(id.to_string())),
        (Some(one), None) => Ok(one),
        (None, _) => Err(Error::NoMatch(id.to_string())),
    }
}

/// Finds the newest snapshot at or before the time that `phrase` means: never one that is later. A time
/// means all of what it names, so `2026-02-15` is the end of that day, `2026-02-15T10:00` the end of that
/// minute. Times without a zone are in that of `now`. `README.md` lists what is understood.
///
/// Where clocks are changed, the reading is the one that cannot be too late: of an hour that comes twice the
/// first, and of an hour that is left out the last moment before it.
pub fn at<'a>(
    catalog: &'a Catalog,
    phrase: &str,
    now: &jiff::Zoned,
    time_of: &TimeOf<'_>,
) -> Result<&'a CatalogEntry, Error> {
    let moment = moment::moment(phrase, now).ok_or_else(|| Error::NotATime(phrase.to_string()))?;
    let entries = catalog.entries();
    if entries.is_empty() {
        return Err(Error::Empty);
    }
    let last = model_time(moment);
    let fits = |entry: &CatalogEntry| {
        // Names tell whole seconds; the whole second fits, or nothing of it, or the record tells.
        entry.time < last.secs
            || entry.time == last.secs
                && (last.nanos == 999_999_999 || time_of(entry).is_some_and(|time| time <= last))
    };
    entries.iter().rev().find(|entry| fits(entry)).ok_or_else(|| Error::TooEarly {
        word: phrase.to_string(),
        moment: moment.to_zoned(now.time_zone().clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
    })
}

fn model_time(time: jiff::Timestamp) -> Timestamp {
    // jiff counts parts of a second towards 1970, we from the second before.
    let (secs, nanos) = (time.as_second(), time.subsec_nanosecond());
    let before = i64::from(nanos < 0);
    let nanos = u32::try_from(i64::from(nanos) + before * 1_000_000_000).unwrap_or_default();
    Timestamp { secs: secs - before, nanos }
}

fn meaning(word: &str) -> Option<Meaning> {
    if word == "latest" {
        return Some(Meaning::Latest(0));
    }
    if let Some(back) = word.strip_prefix("latest~") {
        return back.parse().ok().map(Meaning::Latest);
    }
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    (!word.is_empty() && word.len() <= 64 && word.chars().all(hex)).then_some(Meaning::Prefix)
}
