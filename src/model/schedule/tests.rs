#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_secs(text.parse::<jiff::Timestamp>().unwrap().as_second())
}

/// The next times, in local time with its offset.
fn next(schedule: &str, after: &str, tz: &str, count: usize) -> Vec<String> {
    let (schedule, tz): (Schedule, _) = (schedule.parse().unwrap(), zone(tz));
    let mut time = at(after);
    let mut found = Vec::new();
    for _ in 0..count {
        time = schedule.next_after(time, &tz).unwrap();
        found.push(instant(time).unwrap().to_zoned(tz.clone()).strftime("%m-%d %H:%M%:z").to_string());
    }
    found
}

#[test]
fn texts_and_what_they_mean() {
    for (text, want) in [
        ("off", "off"),
        ("300", "5m"),
        ("60", "1m"),
        ("90s", "1m30s"),
        (" 1H ", "1h"),
        ("1h30m", "1h30m"),
        ("2d", "2d"),
        ("1w", "7d"),
        ("366d", "366d"),
        ("daily", "daily 00:00"),
        ("daily 3:30", "daily 03:30"),
        ("Daily  23:59", "daily 23:59"),
        ("weekly", "weekly sun 00:00"),
        ("weekly fri", "weekly fri 00:00"),
        ("weekly 04:00", "weekly sun 04:00"),
        ("weekly Saturday 04:00", "weekly sat 04:00"),
        ("cron 30 3 * * 1-5", "cron 30 3 * * 1-5"),
        ("cron  */5 8-18/2 1,15 JAN-mar,dec Mon,fri-sun", "cron */5 8-18/2 1,15 jan-mar,dec mon,fri-sun"),
        ("cron 5/20 * 29 2 *", "cron 5/20 * 29 2 *"),
    ] {
        let schedule: Schedule = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(schedule.to_string(), want, "{text}");
        assert_eq!(schedule.to_string().parse(), Ok(schedule), "{text}");
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_a_reason() {
    for (text, word) in [
        ("", "must be `off`"),
        ("hourly", "must be `off`"),
        ("daily 3:30 sun", "must be `off`"),
        ("1h 30m", "must be `off`"),
        ("1.5h", "must be `off`"),
        ("-300", "must be `off`"),
        ("+300", "must be `off`"),
        ("1hé", "must be `off`"),
        ("99999999999999999999d", "must be `off`"),
        ("0", "from 60 seconds"),
        ("59", "from 60 seconds"),
        ("59s", "from 60 seconds"),
        ("367d", "from 60 seconds"),
        ("daily 24:00", "`24:00` where a time"),
        ("daily 3", "`3` where a time"),
        ("daily 3:5", "`3:5` where a time"),
        ("daily 03:60", "`03:60` where a time"),
        ("daily -3:00", "`-3:00` where a time"),
        ("weekly someday", "`someday` where a day"),
        ("weekly 04:00 sun", "`04:00` where a day"),
        ("weekly sun 25:00", "`25:00` where a time"),
        ("cron", "five fields"),
        ("cron * * * *", "five fields"),
        ("cron * * * * * *", "five fields"),
        ("cron 60 * * * *", "`60` as the minute"),
        ("cron * 24 * * *", "`24` as the hour"),
        ("cron * * 0 * *", "`0` as the day of the month"),
        ("cron * * 32 * *", "`32` as the day of the month"),
        ("cron * * * 13 *", "`13` as the month"),
        ("cron * * * * 8", "`8` as the day of the week"),
        ("cron * * * * someday", "names from sun to sat"),
        ("cron 5-1 * * * *", "`5-1` as the minute"),
        ("cron */0 * * * *", "`*/0` as the minute"),
        ("cron */99 * * * *", "`*/99` as the minute"),
        ("cron 1, * * * *", "`1,` as the minute"),
        ("cron 1--2 * * * *", "`1--2` as the minute"),
        ("cron +1 * * * *", "`+1` as the minute"),
        ("cron mon * * * *", "`mon` as the minute"),
        ("cron 0 0 30 2 *", "no calendar"),
        ("cron 0 0 31 4,6,9,11 *", "no calendar"),
        ("cron 0 0 31 feb */2", "no calendar"),
    ] {
        let error = text.parse::<Schedule>().unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    assert!("daily ".repeat(1000).parse::<Schedule>().is_err());
}

#[test]
fn ordinary_days() {
    let berlin = "Europe/Berlin";
    for (schedule, after, want) in [
        ("5m", "2026-01-01T00:00:30Z", vec!["01-01 01:05+01:00", "01-01 01:10+01:00"]),
        ("daily 03:30", "2026-01-01T00:00:00Z", vec!["01-01 03:30+01:00", "01-02 03:30+01:00"]),
        // Not the same moment again.
        ("daily 03:30", "2026-01-01T02:30:00Z", vec!["01-02 03:30+01:00"]),
        // In UTC it is still the day before.
        ("daily", "2026-01-01T23:00:00Z", vec!["01-03 00:00+01:00"]),
        ("weekly sun 04:00", "2026-01-01T00:00:00Z", vec!["01-04 04:00+01:00", "01-11 04:00+01:00"]),
        ("cron 30 3 * * 1-5", "2026-01-02T03:00:00Z", vec!["01-05 03:30+01:00", "01-06 03:30+01:00"]),
        // Ends of months and leap years.
        ("cron 0 0 31 * *", "2026-01-30T23:30:00Z", vec!["03-31 00:00+02:00", "05-31 00:00+02:00"]),
        ("cron 0 12 29 2 *", "2026-01-01T00:00:00Z", vec!["02-29 12:00+01:00", "02-29 12:00+01:00"]),
        // Either day will do, unless one begins with a star.
        ("cron 0 0 13 * fri", "2026-02-01T00:00:00Z", vec!["02-06 00:00+01:00", "02-13 00:00+01:00"]),
        ("cron 0 0 13 * */5", "2026-02-01T00:00:00Z", vec!["02-13 00:00+01:00", "03-13 00:00+01:00"]),
        ("cron 0 0 * * 7", "2026-01-01T00:00:00Z", vec!["01-04 00:00+01:00", "01-11 00:00+01:00"]),
        ("cron 0 0 * * sat-sun", "2026-01-01T00:00:00Z", vec!["01-03 00:00+01:00", "01-04 00:00+01:00"]),
        ("cron */25 8-9 * 6 *", "2026-01-01T00:00:00Z", vec!["06-01 08:00+02:00", "06-01 08:25+02:00"]),
        ("cron 50 23 31 12 *", "2026-01-01T00:00:00Z", vec!["12-31 23:50+01:00", "12-31 23:50+01:00"]),
    ] {
        assert_eq!(next(schedule, after, berlin, want.len()), want, "{schedule}");
    }
    assert_eq!(Schedule::Off.next_after(at("2026-01-01T00:00:00Z"), &TimeZone::UTC), None);
    // 2100 is no leap year.
    let leap: Schedule = "cron 0 0 29 2 *".parse().unwrap();
    let found = leap.next_after(at("2096-03-01T00:00:00Z"), &TimeZone::UTC);
    assert_eq!(found, Some(at("2104-02-29T00:00:00Z")));
}

#[test]
fn clocks_put_forward_make_runs_come_right_after_the_gap() {
    for (zone, after, schedule, want) in [
        // 2026-03-29 02:00 becomes 03:00.
        ("Europe/Berlin", "2026-03-28T12:00:00Z", "daily 02:30", ["03-29 03:00+02:00", "03-30 02:30+02:00"]),
        ("Europe/Berlin", "2026-03-28T12:00:00Z", "daily 03:00", ["03-29 03:00+02:00", "03-30 03:00+02:00"]),
        (
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "weekly sun 02:15",
            ["03-29 03:00+02:00", "04-05 02:15+02:00"],
        ),
        (
            "Europe/Berlin",
            "2026-03-29T00:30:00Z",
            "cron 0,30 1-3 * * *",
            ["03-29 03:00+02:00", "03-29 03:30+02:00"],
        ),
        (
            "Europe/Berlin",
            "2026-03-29T00:30:00Z",
            "cron 0,30 * * * *",
            ["03-29 03:00+02:00", "03-29 03:30+02:00"],
        ),
        // 2026-03-08 02:00 becomes 03:00.
        (
            "America/New_York",
            "2026-03-07T12:00:00Z",
            "daily 02:30",
            ["03-08 03:00-04:00", "03-09 02:30-04:00"],
        ),
        (
            "America/New_York",
            "2026-03-07T12:00:00Z",
            "cron 15 2 * * *",
            ["03-08 03:00-04:00", "03-09 02:15-04:00"],
        ),
        // A whole day that never was.
        ("Pacific/Apia", "2011-12-29T20:00:00Z", "daily 12:00", ["12-29 12:00-10:00", "12-31 00:00+14:00"]),
    ] {
        assert_eq!(next(schedule, after, zone, 2), want, "{zone} {schedule}");
    }
}

#[test]
fn clocks_put_back_make_runs_come_once() {
    for (zone, after, schedule, want) in [
        // 2026-10-25 03:00 becomes 02:00.
        ("Europe/Berlin", "2026-10-24T12:00:00Z", "daily 02:30", ["10-25 02:30+02:00", "10-26 02:30+01:00"]),
        // Also when the last run was in the second of the two hours.
        ("Europe/Berlin", "2026-10-25T01:10:00Z", "daily 02:30", ["10-26 02:30+01:00", "10-27 02:30+01:00"]),
        (
            "Europe/Berlin",
            "2026-10-25T00:00:00Z",
            "cron 0,30 1-3 * * *",
            ["10-25 02:30+02:00", "10-25 03:00+01:00"],
        ),
        // 2026-11-01 02:00 becomes 01:00.
        (
            "America/New_York",
            "2026-10-31T12:00:00Z",
            "daily 01:30",
            ["11-01 01:30-04:00", "11-02 01:30-05:00"],
        ),
        (
            "America/New_York",
            "2026-10-31T12:00:00Z",
            "weekly sun 01:00",
            ["11-01 01:00-04:00", "11-08 01:00-05:00"],
        ),
    ] {
        assert_eq!(next(schedule, after, zone, 2), want, "{zone} {schedule}");
    }
    // Every hour means every hour.
    assert_eq!(
        next("cron 30 * * * *", "2026-10-24T23:45:00Z", "Europe/Berlin", 4),
        ["10-25 02:30+02:00", "10-25 02:30+01:00", "10-25 03:30+01:00", "10-25 04:30+01:00"]
    );
}

#[test]
fn periods_are_the_longest_pause() {
    let (from, tz) = (at("2026-01-01T00:00:00Z"), zone("Europe/Berlin"));
    for (schedule, hours) in [
        ("1h", 1),
        ("daily 03:30", 24),
        ("weekly", 168),
        // Six, but for the night in which the clocks are put back.
        ("cron 0 */6 * * *", 7),
        ("cron 0 * * * *", 1),
        // Many runs a day, and none in the summer: from the last of May to the first of September.
        ("cron 0 * * 1-5,9-12 *", 92 * 24 + 1),
        ("cron 0 0 29 2 *", 24 * (365 * 4 + 1)),
        // From Friday to Monday, and an hour for the change of the clocks.
        ("cron 30 3 * * 1-5", 73),
    ] {
        let schedule: Schedule = schedule.parse().unwrap();
        assert_eq!(schedule.period(from, &tz), Some(Duration::from_secs(hours * HOUR)), "{schedule}");
    }
    assert_eq!(Schedule::Off.period(from, &tz), None);
}

/// The longest pause by looking at each run of a year.
#[test]
fn the_longest_pause_is_what_a_walk_over_all_runs_finds() {
    for (text, zone_name) in [
        ("cron */7 8-18 * * 1-5", "Europe/Berlin"),
        ("cron 30 1-3 * * *", "Europe/Berlin"),
        ("cron 15 * * * *", "America/New_York"),
        ("cron 15,50 * 1,20 * *", "Australia/Lord_Howe"),
        ("cron 0 0,23 * * sun", "America/New_York"),
        ("cron 59 */2 28-31 * *", "UTC"),
    ] {
        let (schedule, tz): (Schedule, _) = (text.parse().unwrap(), zone(zone_name));
        let from = at("2026-01-01T12:00:00Z");
        let (mut time, mut longest) = (schedule.next_after(from, &tz).unwrap(), 0);
        while time.secs < from.secs + 367 * 86_400 {
            let next = schedule.next_after(time, &tz).unwrap();
            longest = longest.max(next.secs - time.secs);
            time = next;
        }
        let found = schedule.period(from, &tz).unwrap().as_secs();
        assert_eq!(i64::try_from(found).unwrap(), longest, "{text} {zone_name}");
    }
}

/// Every minute of some years, looked at one by one.
#[test]
fn cron_agrees_with_a_walk_over_all_minutes() {
    for (text, zone_name) in [
        ("cron 0 0 1 * *", "Europe/Berlin"),
        ("cron 17 5 * * *", "Europe/Berlin"),
        ("cron 0 12 10-20/5 2,3 mon", "America/New_York"),
        ("cron 59 23 31 * *", "UTC"),
        ("cron 40 */7 * 2 0", "Asia/Kolkata"),
    ] {
        let (schedule, tz): (Schedule, _) = (text.parse().unwrap(), zone(zone_name));
        let Schedule::Cron(cron) = &schedule else { panic!("{text}") };
        let (begin, end) = (at("2027-12-31T00:00:00Z"), at("2028-04-02T00:00:00Z"));
        let naive: BTreeSet<i64> = (begin.secs / 60 + 1..=end.secs / 60)
            .map(|minute| minute * 60)
            .filter(|secs| {
                let local = tz.to_datetime(jiff::Timestamp::from_second(*secs).unwrap());
                cron.minutes & 1 << local.minute() != 0
                    && cron.hours & 1 << local.hour() != 0
                    && cron.has_date(local.date())
            })
            .collect();
        let (mut found, mut time) = (BTreeSet::new(), begin);
        while let Some(next) = schedule.next_after(time, &tz).filter(|next| *next <= end) {
            found.insert(next.secs);
            time = next;
        }
        assert!(!naive.is_empty() && found == naive, "{text}: {found:?}, {naive:?}");
    }
}

#[test]
fn the_end_of_the_calendar_is_no_panic() {
    for text in ["5m", "daily", "weekly", "cron * * * * *", "cron 0 0 1 1 *"] {
        let schedule: Schedule = text.parse().unwrap();
        for secs in [i64::MAX, i64::MIN, 253_402_207_200, -377_705_023_201] {
            let _ = schedule.next_after(Timestamp::from_secs(secs), &TimeZone::UTC);
            let _ = schedule.period(Timestamp::from_secs(secs), &TimeZone::UTC);
        }
    }
}
