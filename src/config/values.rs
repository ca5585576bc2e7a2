//! What the text of a value means: references to variables, rates, numbers, durations.

use std::time::Duration;

use zeroize::Zeroizing;

use super::Environment;
use super::error::nearest;

/// Most requests under way at once; more would only wait for each other.
const MAX_CONNECTIONS: usize = 64;
/// Above this a waiting time is a slip of the finger.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a text with `${NAME}` cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReferenceError {
    /// The variable is not set, or empty.
    Unset(String),
    /// The variable's value is no text.
    NotText(String),
    /// `${` without `}` or with what is no name.
    Form,
}

/// A text in which variables were put in.
pub(super) struct Expanded {
    pub(super) text: Zeroizing<String>,
    /// It came from variables, at least in part: a secret does not stand in the file itself.
    pub(super) referred: bool,
}

/// Puts the values of variables in for `${NAME}`, and `$` for `$$`. Any other `$` is itself: passwords
/// have them.
pub(super) fn expand(text: &str, env: &Environment) -> Result<Expanded, ReferenceError> {
    let mut out = Expanded { text: Zeroizing::new(String::new()), referred: false };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.text.push_str(before);
        rest = if let Some(reference) = after.strip_prefix('{') {
            let (name, after) = reference.split_once('}').ok_or(ReferenceError::Form)?;
            if !is_variable(name) {
                return Err(ReferenceError::Form);
            }
            let value = env.get(name).ok_or_else(|| ReferenceError::Unset(name.to_owned()))?;
            out.text.push_str(value.to_str().ok_or_else(|| ReferenceError::NotText(name.to_owned()))?);
            out.referred = true;
            after
        } else {
            out.text.push('$');
            after.strip_prefix('$').unwrap_or(after)
        };
    }
    out.text.push_str(rest);
    Ok(out)
}

/// The names of the variables that a text refers to.
pub(super) fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after.strip_prefix('$').unwrap_or(after);
        if let Some((name, after)) = after.strip_prefix('{').and_then(|r| r.split_once('}')) {
            found.extend(is_variable(name).then(|| name.to_owned()));
            rest = after;
        }
    }
    found
}

fn is_variable(name: &str) -> bool {
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// The variables that a shell command names, and whether it fails without: only `${NAME:?...}` and `${NAME?...}` are
/// certain to. What is between single quotes counts too, which a shell would leave alone.
#[must_use]
pub fn shell_variables(command: &str) -> Vec<(String, bool)> {
    let mut found: Vec<(String, bool)> = Vec::new();
    for piece in command.split('$').skip(1) {
        let (braced, rest) = piece.strip_prefix('{').map_or((false, piece), |rest| (true, rest));
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() || !is_variable(name) {
            continue;
        }
        let must = braced && (after.starts_with(":?") || after.starts_with('?'));
        // What has a value of its own for want of one is not wanted.
        let may = braced && after.trim_start_matches(':').starts_with(['-', '+', '=']);
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known |= must,
            None if may => {}
            None => found.push((name.to_owned(), must)),
        }
    }
    found
}

/// A bandwidth limit in rclone's words: `10M`, `512k:1M` (up and down), `off`, or a timetable of these.
/// Without a unit a number means KiB a second.
pub fn bandwidth(text: &str) -> Result<String, &'static str> {
    let rate = |text: &str| {
        let number = text.trim_end_matches('i');
        let number = number.strip_suffix(|c: char| "bkmgtpBKMGTP".contains(c)).unwrap_or(number);
        text == "off" || number.parse::<f64>().is_ok_and(|n| n.is_finite() && n >= 0.0)
    };
    let rates = |text: &str| text.split(':').count() <= 2 && text.split(':').all(rate);
    // `08:00,512k` or `Mon-08:00,512k`; the time itself is rclone's to judge.
    let slot = |slot: &str| slot.split_once(',').is_some_and(|(time, r)| time.contains(':') && rates(r));
    let text = text.trim();
    if !text.is_empty() && (rates(text) || text.split_whitespace().all(slot)) {
        Ok(text.to_owned())
    } else {
        Err("must be a rate such as 10M (MiB a second), 512k:2M (up and down), or off")
    }
}

/// Requests a second; 0 stands for no limit.
pub fn transactions(text: &str) -> Result<f64, &'static str> {
    match text.trim().parse::<f64>() {
        Ok(limit) if limit.is_finite() && (0.0..=10_000.0).contains(&limit) => Ok(limit),
        _ => Err("must be a number of requests a second, from 0 (no limit) to 10000"),
    }
}

/// Reads `on` or `off`, or `1` or `0` and the like, as variables of the environment usually have them.
pub fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" | "1" | "true" | "yes" => Ok(true),
        "off" | "0" | "false" | "no" => Ok(false),
        _ => Err("must be on or off"),
    }
}

/// A percentage, or `off`, which is 0.
pub(super) fn percent_or_off(text: &str) -> Result<u8, &'static str> {
    match text.trim() {
        "off" => Ok(0),
        number => {
            number.parse().ok().filter(|n| *n <= 100).ok_or("must be a percentage from 0 to 100, or off")
        }
    }
}

/// Requests under way at once.
pub fn connections(text: &str) -> Result<usize, &'static str> {
    match text.trim().parse::<usize>() {
        Ok(number) if (1..=MAX_CONNECTIONS).contains(&number) => Ok(number),
        _ => Err("must be a number of requests under way at once, from 1 to 64"),
    }
}

/// A time such as `90`, `90s`, `2m` or `1h30m`; a bare number means seconds.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    span(text)
        .filter(|time| !time.is_zero() && *time <= MAX_DURATION)
        .ok_or("must be a time such as 90s, 2m or 1h30m, from 1 s to 7 days")
}

/// The same from none to a day.
pub(super) fn up_to_a_day(text: &str) -> Result<Duration, &'static str> {
    span(text).filter(|time| *time <= DAY).ok_or("must be a time such as 0, 90s, 5m or 1h, up to 1 day")
}

/// The same from a second to a day.
pub(super) fn at_most_a_day(text: &str) -> Result<Duration, &'static str> {
    span(text)
        .filter(|time| !time.is_zero() && *time <= DAY)
        .ok_or("must be a time such as 30s, 10m or 1h, from 1 s to 1 day")
}

/// The same from a minute to a year.
pub(super) fn promise(text: &str) -> Result<Duration, &'static str> {
    span(text)
        .filter(|time| (MINUTE..=366 * DAY).contains(time))
        .ok_or("must be a time such as 25h or 8d, from 1 minute to 366 days")
}

/// Numbers with units, or seconds alone.
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = rest.split_at(digits);
        let number: u32 = number.parse().ok()?;
        let letters = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = unit.split_at(letters);
        let seconds = match unit {
            "" if after.is_empty() && total.is_zero() => 1,
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(seconds).checked_mul(number)?)?;
        rest = after;
    }
    Some(total)
}

/// One of several words.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = nearest(text, &words.iter().map(|(word, _)| *word).collect::<Vec<_>>());
        let meant = help.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
        format!("must be one of {}{meant}", all.join(", "))
    })
}

/// A part of the data to check, as `check --read-data-subset` takes it; `None` for `off`.
pub(super) fn part_of_data(text: &str) -> Result<Option<String>, &'static str> {
    const FORM: &str = "must be a percentage above 0 and up to 100 (2%), a size (500M), a part (3/7), or off";
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| *n > 0.0);
    let text = text.trim();
    let good = if text == "off" {
        return Ok(None);
    } else if let Some(percent) = text.strip_suffix('%') {
        number(percent).is_some_and(|n| n <= 100.0)
    } else if let Some((part, of)) = text.split_once('/') {
        let part = (part.trim().parse::<u32>(), of.trim().parse::<u32>());
        matches!(part, (Ok(part), Ok(of)) if (1..=of).contains(&part))
    } else {
        let size = text.strip_suffix("iB").unwrap_or(text);
        let size = size.strip_suffix(|c: char| "BKMGTPbkmgtp".contains(c));
        size.and_then(number).is_some_and(|n| n < 1e6)
    };
    if good { Ok(Some(text.to_owned())) } else { Err(FORM) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn references_are_put_in() {
        let env = Environment::of(&[("A", "x y"), ("B_2", "$A"), ("EMPTY", "")]);
        let text = |text: &str| expand(text, &env).map(|e| (e.text.to_string(), e.referred));
        for (given, want, referred) in [
            ("plain", "plain", false),
            ("${A}", "x y", true),
            ("-${A}/${B_2}-", "-x y/$A-", true),
            ("a$b $ $", "a$b $ $", false),
            ("$${A}", "${A}", false),
            ("$$$${A}", "$${A}", false),
            ("$$$", "$$", false),
        ] {
            assert_eq!(text(given), Ok((want.to_owned(), referred)), "{given}");
        }
        assert_eq!(references("-${A}$${C}/$$${B_2}$ ${x y}$"), ["A", "B_2"]);
        assert_eq!(text("${NO}"), Err(ReferenceError::Unset("NO".to_owned())));
        assert_eq!(text("${EMPTY}"), Err(ReferenceError::Unset("EMPTY".to_owned())));
        for form in ["${A", "${}", "${A-x}", "${1A}", "a${ A}"] {
            assert_eq!(text(form), Err(ReferenceError::Form), "{form}");
        }
    }

    #[test]
    fn a_command_names_variables() {
        let named = |command: &str| -> Vec<String> {
            let mark = |(name, must)| if must { format!("{name}!") } else { name };
            shell_variables(command).into_iter().map(mark).collect()
        };
        assert_eq!(named("printf %s 'a'\"${P_1:?is not set}\""), ["P_1!"]);
        assert_eq!(named("cat $HOME/x ${A?} ${B} $A $D?y $1 $$ $(ls) ${#C} $"), ["HOME", "A!", "B", "D"]);
        assert_eq!(named("${A:-x} ${B-x} ${C:+x} ${D:=x} plain"), [""; 0]);
    }

    #[test]
    fn rates_are_those_of_rclone() {
        for good in [
            "10M",
            "512k:1M",
            "1.5G",
            "off",
            "0",
            "off:10M",
            "08:00,512k 12:00,10M",
            "Mon-08:00,1M:2M",
            "2Mi",
        ] {
            assert_eq!(bandwidth(good).as_deref(), Ok(good));
        }
        for bad in ["", "fast", "10MB", "1M:2M:3M", "-1M", "10M,", "nan", "12,10M"] {
            assert!(bandwidth(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_limits() {
        assert_eq!(transactions("0.5"), Ok(0.5));
        for bad in ["-1", "x", "inf", "NaN", "1e9"] {
            assert!(transactions(bad).is_err(), "{bad}");
        }
        for (text, percent) in [("50", 50), (" 0 ", 0), ("100", 100), ("off", 0)] {
            assert_eq!(percent_or_off(text), Ok(percent), "{text}");
        }
        for bad in ["101", "-1", "", "on", "5.5", "50%"] {
            assert!(percent_or_off(bad).is_err(), "{bad}");
        }
        assert_eq!(connections("64"), Ok(64));
        for bad in ["0", "65", "1.5", ""] {
            assert!(connections(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("2m", 120), ("1h30m", 5400), ("1d", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0", "0s", "m", "2x", "1h30", "-1s", "1 m", "8d", "99999999999s", "1.5m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        let day = Some(Duration::from_secs(86_400));
        for (text, none, some, long) in [
            ("0", Some(Duration::ZERO), None, None),
            ("24h", day, day, day),
            ("30s", Some(Duration::from_secs(30)), Some(Duration::from_secs(30)), None),
            ("366d", None, None, Some(Duration::from_secs(366 * 86_400))),
            ("367d", None, None, None),
            ("4294967295d4294967295d", None, None, None),
            ("", None, None, None),
        ] {
            let found = (up_to_a_day(text).ok(), at_most_a_day(text).ok(), promise(text).ok());
            assert_eq!(found, (none, some, long), "{text}");
        }
    }

    #[test]
    fn parts_of_data_are_those_of_check() {
        for good in ["2%", "0.5 %", "100%", "500M", "1.5GiB", "4096B", "3/7", " 1 / 1 "] {
            assert_eq!(part_of_data(good), Ok(Some(good.trim().to_owned())), "{good}");
        }
        assert_eq!(part_of_data("off"), Ok(None));
        for bad in ["", "0%", "101%", "nan%", "500", "M", "-5M", "0/7", "8/7", "1/0", "x", "1e9G"] {
            assert!(part_of_data(bad).is_err(), "{bad}");
        }
    }
}
