#![allow(clippy::unwrap_used)]

use jiff::Zoned;

use super::{Error, at, choose};
use crate::model::{ObjectId, Timestamp};
use crate::repo::{Catalog, CatalogEntry};

fn instant(time: &str) -> Timestamp {
    super::model_time(time.parse().unwrap())
}

fn catalog(times: &[&str]) -> Catalog {
    Catalog::from_entries(times.iter().enumerate().map(|(i, time)| CatalogEntry {
        time: instant(time).secs,
        id: ObjectId([u8::try_from(i).unwrap() * 0x11; 32]),
        name: String::new(),
    }))
}

fn number(entry: &CatalogEntry) -> usize {
    usize::from(entry.id.0[0] / 0x11)
}

/// For phrases that end with a second, records need not be read.
fn unread(_: &CatalogEntry) -> Option<Timestamp> {
    None
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
    let now: Zoned = "2026-02-16T12:00:00+01:00[+01:00]".parse().unwrap();
    for (word, want) in [
        ("latest", Some(3)),
        ("latest~0", Some(3)),
        ("latest~3", Some(0)),
        ("latest~4", None),
        ("latest~-1", None),
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
        let found = choose(&catalog, word, &now, &unread).ok().map(number);
        assert_eq!(found, want, "{word:?}");
    }
    assert_eq!(choose(&Catalog::default(), "latest", &now, &unread).err(), Some(Error::Empty));
}

#[test]
fn a_time_is_never_an_id() {
    let catalog = catalog(&["2026-02-13T23:30:00Z", "2026-02-14T09:59:59Z"]);
    let now: Zoned = "2026-02-16T12:00:00+01:00[+01:00]".parse().unwrap();
    for word in ["latest", "latest~1", "11", "1111", ""] {
        let error = at(&catalog, word, &now, &unread).err();
        assert_eq!(error, Some(Error::NotATime(word.to_owned())), "{word:?}");
    }
    let error = at(&catalog, "1 week ago", &now, &unread).err().unwrap();
    assert_eq!(
        error.to_string(),
        "no snapshot is as old as \"1 week ago\", which is 2026-02-09 12:00:00 +01:00"
    );
    assert!(matches!(choose(&catalog, "1 week ago", &now, &unread), Err(Error::TooEarly { .. })));
    assert!(matches!(choose(&catalog, "next week", &now, &unread), Err(Error::NoMatch(_))));
}

/// `want` is the last moment included, to the second; `None` when the phrase is no time.
fn check(now: &str, table: &[(&str, Option<&str>)]) {
    let now: Zoned = now.parse().unwrap();
    for (phrase, want) in table {
        let found = super::moment::moment(phrase, &now).map(|t| super::model_time(t).secs);
        assert_eq!(found, want.map(|want| instant(want).secs), "{phrase:?} at {now}");
    }
}

#[test]
fn phrases() {
    // A Wednesday.
    check(
        "2026-02-18T12:00:00.5+01:00[Europe/Berlin]",
        &[
            ("now", Some("2026-02-18T11:00:00Z")),
            ("NOW", Some("2026-02-18T11:00:00Z")),
            ("today", Some("2026-02-18T22:59:59Z")),
            ("yesterday", Some("2026-02-17T22:59:59Z")),
            ("yesterday 14:00", Some("2026-02-17T13:00:59Z")),
            ("Yesterday  at 14:00:05 ", Some("2026-02-17T13:00:05Z")),
            ("today 9:30", Some("2026-02-18T08:30:59Z")),
            ("today 2pm", Some("2026-02-18T13:00:59Z")),
            ("today 12am", Some("2026-02-17T23:00:59Z")),
            ("today 12:15 pm", Some("2026-02-18T11:15:59Z")),
            ("9:30", Some("2026-02-18T08:30:59Z")),
            ("12:00", Some("2026-02-18T11:00:59Z")),
            ("12:01", Some("2026-02-17T11:01:59Z")),
            ("at 23:59", Some("2026-02-17T22:59:59Z")),
            ("monday", Some("2026-02-16T22:59:59Z")),
            ("last monday", Some("2026-02-16T22:59:59Z")),
            ("wednesday", Some("2026-02-11T22:59:59Z")),
            ("last friday 18:00", Some("2026-02-13T17:00:59Z")),
            ("thu 6am", Some("2026-02-12T05:00:59Z")),
            ("3 days ago", Some("2026-02-15T11:00:00Z")),
            ("3 days ago 12:00", Some("2026-02-15T11:00:59Z")),
            ("2 weeks ago", Some("2026-02-04T11:00:00Z")),
            ("2 weeks ago at 9:00", Some("2026-02-04T08:00:59Z")),
            ("a month ago", Some("2026-01-18T11:00:00Z")),
            ("1 year ago", Some("2025-02-18T11:00:00Z")),
            ("90 minutes ago", Some("2026-02-18T09:30:00Z")),
            ("30 seconds ago", Some("2026-02-18T10:59:30Z")),
            ("0 hours ago", Some("2026-02-18T11:00:00Z")),
            ("2026-02-15", Some("2026-02-15T22:59:59Z")),
            ("2026-02-15T10:00", Some("2026-02-15T09:00:59Z")),
            ("2026-02-15t10:00", Some("2026-02-15T09:00:59Z")),
            ("2026-02-15 10:00:30", Some("2026-02-15T09:00:30Z")),
            ("2026-02-15T10:00+02:00", Some("2026-02-15T08:00:59Z")),
            ("2026-02-15 10:00 +0200", Some("2026-02-15T08:00:59Z")),
            ("2026-02-15 10:00 -03", Some("2026-02-15T13:00:59Z")),
            ("2026-02-15T10:00:00-03:30", Some("2026-02-15T13:30:00Z")),
            ("2026-02-15T10:00:00.25Z", Some("2026-02-15T10:00:00Z")),
            ("2026-02-15T10:00Z", Some("2026-02-15T10:00:59Z")),
            ("2026-02-15 10:00 utc", Some("2026-02-15T10:00:59Z")),
            ("2026-02-15 utc", Some("2026-02-15T23:59:59Z")),
            ("yesterday 14:00 [America/New_York]", Some("2026-02-17T19:00:59Z")),
            ("2026-07-15T10:00[America/New_York]", Some("2026-07-15T14:00:59Z")),
            ("2026-07-15T10:00-04:00[America/New_York]", Some("2026-07-15T14:00:59Z")),
            ("2026-07-15T10:00-05:00[America/New_York]", None),
            ("2026-02-15 10:00[Nowhere/Atall]", None),
            ("2026-02-30", None),
            ("2026-02-15T24:00", None),
            ("2026-02-15T10:60", None),
            ("2026-02-15T10:00:60", None),
            ("2026-02-15T10:00:00:00", None),
            ("2026-02-15T10:00:00.", None),
            ("2026-02-15T10:00+25:00", None),
            ("today 13pm", None),
            ("today 0am", None),
            ("am", None),
            ("today at", None),
            ("yesterday 14", None),
            ("3 hours ago 12:00", None),
            ("3 dayss ago", None),
            ("-3 days ago", None),
            ("100001 days ago", None),
            ("100000 years ago", None),
            ("9999-12-31", None),
            ("last", None),
            ("last today", None),
            ("ago", None),
            ("[", None),
            ("]", None),
            ("yesterday 14:00 \u{e9}", None),
        ],
    );
    assert_eq!(super::moment::moment(&"1".repeat(101), &Zoned::default()), None);
}

#[test]
fn days_on_which_clocks_change() {
    // Berlin, forward: 2:00 to 3:00 on 29 March; back: 3:00 to 2:00 on 25 October.
    check(
        "2026-03-31T02:30:00+02:00[Europe/Berlin]",
        &[
            ("2026-03-29", Some("2026-03-29T21:59:59Z")),
            ("2026-03-29T01:59", Some("2026-03-29T00:59:59Z")),
            // What no clock showed means the last moment before.
            ("2026-03-29T02:00", Some("2026-03-29T00:59:59Z")),
            ("2026-03-29T02:30", Some("2026-03-29T00:59:59Z")),
            ("2 days ago", Some("2026-03-29T00:59:59Z")),
            ("2 days ago 2:30", Some("2026-03-29T00:59:59Z")),
            ("sunday 02:59:59", Some("2026-03-29T00:59:59Z")),
            ("2026-03-29T03:00", Some("2026-03-29T01:00:59Z")),
            // Hours are time that passes, days are what the calendar says.
            ("24 hours ago", Some("2026-03-30T00:30:00Z")),
            ("72 hours ago", Some("2026-03-28T00:30:00Z")),
            ("3 days ago", Some("2026-03-28T01:30:00Z")),
        ],
    );
    check(
        "2026-10-26T02:30:00+01:00[Europe/Berlin]",
        &[
            ("2026-10-25", Some("2026-10-25T22:59:59Z")),
            ("2026-10-25T01:59", Some("2026-10-24T23:59:59Z")),
            // What clocks showed twice means the first time.
            ("2026-10-25T02:00", Some("2026-10-25T00:00:59Z")),
            ("2026-10-25T02:59", Some("2026-10-25T00:59:59Z")),
            ("1 day ago", Some("2026-10-25T00:30:00Z")),
            ("yesterday 2:30", Some("2026-10-25T00:30:59Z")),
            ("2026-10-25T03:00", Some("2026-10-25T02:00:59Z")),
            // The second time has to be named by its offset.
            ("2026-10-25T02:30+01:00", Some("2026-10-25T01:30:59Z")),
            ("2026-10-25T02:30+01:00[Europe/Berlin]", Some("2026-10-25T01:30:59Z")),
            ("24 hours ago", Some("2026-10-25T01:30:00Z")),
        ],
    );
    // Cairo leaves out the first hour of 24 April 2026; that day before ends where it begins.
    check(
        "2026-04-25T12:00:00+03:00[Africa/Cairo]",
        &[
            ("2026-04-23", Some("2026-04-23T21:59:59Z")),
            ("2026-04-24T00:30", Some("2026-04-23T21:59:59Z")),
            ("2026-04-24", Some("2026-04-24T20:59:59Z")),
        ],
    );
    // Samoa left out the whole of 30 December 2011.
    check(
        "2012-01-05T12:00:00+14:00[Pacific/Apia]",
        &[
            ("2011-12-29", Some("2011-12-30T09:59:59Z")),
            ("2011-12-30", Some("2011-12-30T09:59:59Z")),
            ("2011-12-30 12:00", Some("2011-12-30T09:59:59Z")),
            ("2011-12-31", Some("2011-12-31T09:59:59Z")),
        ],
    );
}

#[test]
fn a_time_never_picks_a_later_snapshot() {
    let catalog = catalog(&["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T23:30:00Z"]);
    // The day on which clocks go forward in Berlin has 23 hours; it ends at 22:00 UTC.
    let now: Zoned = "2026-04-01T12:00:00+02:00[Europe/Berlin]".parse().unwrap();
    for (phrase, want) in
        [("2026-03-29", 1), ("2026-03-29 02:45", 0), ("2026-03-29 03:29", 0), ("2026-03-29 03:30", 1)]
    {
        assert_eq!(number(at(&catalog, phrase, &now, &unread).unwrap()), want, "{phrase:?}");
    }
}

#[test]
fn parts_of_a_second_count() {
    let times = ["2026-03-29T00:30:00.2Z", "2026-03-29T00:30:00.7Z", "2026-03-29T00:30:01.7Z"];
    let catalog = catalog(&times);
    let exact = |entry: &CatalogEntry| Some(instant(times[number(entry)]));
    let now: Zoned = "2026-03-29T00:30:01.5+00:00[UTC]".parse().unwrap();
    for (phrase, want) in [
        ("2026-03-29T00:30:00.1Z", None),
        ("2026-03-29T00:30:00.2Z", Some(0)),
        ("2026-03-29T00:30:00.699999999Z", Some(0)),
        ("2026-03-29T00:30:00.7Z", Some(1)),
        ("2026-03-29T00:30:00Z", Some(1)),
        ("now", Some(1)),
        ("1 second ago", Some(0)),
        ("2026-03-29T00:30:01Z", Some(2)),
    ] {
        assert_eq!(at(&catalog, phrase, &now, &exact).ok().map(number), want, "{phrase:?}");
    }
    // What cannot be read may be later.
    let found = at(&catalog, "2026-03-29T00:30:01.9Z", &now, &unread).ok().map(number);
    assert_eq!(found, Some(1));
}

#[test]
fn times_before_1970() {
    assert_eq!(instant("1969-12-31T23:59:58.25Z"), Timestamp { secs: -2, nanos: 250_000_000 });
    assert_eq!(instant("1969-12-31T23:59:58Z"), Timestamp { secs: -2, nanos: 0 });
}
