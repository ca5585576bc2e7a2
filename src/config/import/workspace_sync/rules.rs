//! What is taken, when, how long it is kept, and what opens it.

use serde_json::Value as Json;

use crate::config::INCLUDE_SETS;
use crate::config::backup::check_pattern;
use crate::config::draft::{Draft, Value};
use crate::config::import::block::Block;
use crate::config::import::{Fate, Passphrase, Report};
use crate::model::Secret;

/// The shortest interval that the plugin keeps to, in seconds.
const SHORTEST: i64 = 300;

pub(super) fn schedule(backup: &mut Block, draft: &mut Draft, report: &mut Report) {
    const TO: &str = "schedule.backup";
    let key = backup.name("interval");
    if !backup.has("interval") {
        draft.set(TO, Value::text("1d"));
        report.note(format!("{key} is not in the block: schedule.backup is 1d, as the plugin has it"));
        return;
    }
    match backup.number("interval", report) {
        Some(0) => {
            draft.set(TO, Value::text("off"));
            report.say(&key, Fate::Taken, Some(TO), "off: by hand only");
        }
        Some(seconds @ 1..SHORTEST) => {
            draft.set(TO, Value::Number(SHORTEST));
            report.say(&key, Fate::Changed, Some(TO), format!("{seconds} became {SHORTEST} seconds"));
        }
        Some(seconds @ SHORTEST..=31_622_400) => {
            draft.set(TO, Value::Number(seconds));
            report.say(&key, Fate::Taken, Some(TO), format!("{seconds} seconds"));
        }
        Some(_) => {
            draft.set(TO, Value::text("1d"));
            report.wrong(&key, "it is no number of seconds up to 366 days; schedule.backup is 1d");
        }
        None => draft.set(TO, Value::text("1d")),
    }
}

pub(super) fn include(backup: &mut Block, draft: &mut Draft, report: &mut Report) {
    let key = backup.name("include");
    let Some(names) = backup.list("include", report) else {
        report.note(format!(
            "{key} is not in the block: the plugin takes workspace, config, cron and memory, this program the whole \
             state dir"
        ));
        return;
    };
    if names.is_empty() {
        report.unneeded(&key, "it is empty: the whole state dir is taken");
    }
    let is_set = |name: &String| INCLUDE_SETS.contains(&name.as_str());
    let (sets, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_set);
    if !others.is_empty() {
        report.wrong(&key, &format!("{} is none of {}", others.join(", "), INCLUDE_SETS.join(", ")));
    }
    if !sets.is_empty() {
        report.say(&key, Fate::Taken, Some("backup.include"), sets.join(", "));
        draft.set("backup.include", Value::List(sets));
    }
}

pub(super) fn exclude(backup: &mut Block, sync: Option<&mut Block>, draft: &mut Draft, report: &mut Report) {
    let half = match sync {
        Some(sync) if !backup.has("exclude") && sync.has("exclude") => sync,
        _ => backup,
    };
    let key = half.name("exclude");
    let Some(given) = half.list("exclude", report) else {
        report.note(format!(
            "{key} is not in the block: the plugin leaves out .git, node_modules, __pycache__, .venv and venv, this \
             program does not"
        ));
        return;
    };
    let (mut patterns, mut bad) = (Vec::new(), Vec::new());
    for pattern in &given {
        let own = anywhere(pattern);
        if own.is_empty() || check_pattern(&own).is_err() {
            bad.push(pattern.as_str())
        } else {
            patterns.push(own)
        }
    }
    if !bad.is_empty() {
        report.wrong(&key, &format!("no pattern: {}", bad.join(", ")));
    }
    let same = patterns == given;
    let words =
        if same { String::new() } else { format!("as the plugin means them: {}", patterns.join(", ")) };
    let fate = if same { Fate::Taken } else { Fate::Changed };
    if !patterns.is_empty() {
        report.say(&key, fate, Some("backup.exclude"), words);
        draft.set("backup.exclude", Value::List(patterns));
    } else if bad.is_empty() {
        report.unneeded(&key, "it is empty: nothing is left out");
    }
}

/// A pattern as the plugin hands it to `tar`, which finds it at any depth, in gitignore's words.
fn anywhere(pattern: &str) -> String {
    let plain = pattern.strip_prefix("**/").unwrap_or(pattern);
    let plain = escaped(plain.strip_suffix("/**").unwrap_or(plain));
    if plain.trim_matches('/').is_empty() {
        String::new()
    } else if plain.trim_end_matches('/').contains('/') {
        format!("**/{}", plain.trim_start_matches('/'))
    } else if plain.starts_with(['!', '#']) {
        format!("\\{plain}")
    } else {
        plain
    }
}

/// What means itself to `tar`, and something else here: braces, a bracket that is never closed, a backslash or
/// blanks at the end.
fn escaped(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match (c, rest.as_str()) {
            ('\\', "") => out.push_str("\\\\"),
            ('\\', _) => out.extend(std::iter::once(c).chain(rest.next())),
            ('[', after) => match set(after) {
                Some(len) => {
                    out.push(c);
                    out.push_str(&after[..len]);
                    rest = after[len..].chars();
                }
                None => out.push_str("\\["),
            },
            ('{' | '}', _) => out.extend(['\\', c]),
            (' ', after) if after.trim_matches(' ').is_empty() => out.push_str("\\ "),
            _ => out.push(c),
        }
    }
    out
}

/// The length of a set of characters after its bracket, up to the one that closes it.
fn set(after: &str) -> Option<usize> {
    let negated = usize::from(after.starts_with(['!', '^']));
    // A bracket that comes first belongs to the set.
    let first = negated + usize::from(after[negated..].starts_with(']'));
    after[first..].find(']').map(|at| first + at + 1)
}

pub(super) fn retain(backup: &mut Block, draft: &mut Draft, report: &mut Report) {
    let key = backup.name("retain");
    if backup.peek("retain").is_some_and(Json::is_object) {
        let Some(mut rules) = backup.object("retain", report) else { return };
        let (mut any, mut wrong) = (false, false);
        let mut kept = Vec::new();
        if !rules.has("daily") {
            kept.push(("retention.daily".to_owned(), 7));
            report.note(format!("{key} has no daily: retention.daily is 7, as the plugin has it"));
            any = true;
        }
        for rule in ["daily", "weekly", "monthly"] {
            let (name, said) = (rules.name(rule), rules.has(rule));
            match rules.number(rule, report) {
                Some(0) => report.unneeded(&name, "none are kept for it"),
                Some(number @ 1..=1_000_000) => {
                    let to = format!("retention.{rule}");
                    report.taken(&name, &to);
                    kept.push((to, number));
                    any = true;
                }
                Some(_) => {
                    report.wrong(&name, "it is no number of snapshots");
                    wrong = true;
                }
                // There, and no number at all: that was said.
                None => wrong |= said,
            }
        }
        if wrong {
            report.note(format!(
                "not all of {key} is understood: there is no retention, and all snapshots are kept"
            ));
        } else {
            kept.into_iter().for_each(|(to, number)| draft.set(&to, Value::Number(number)));
        }
        if !any && !wrong {
            draft.set("retention.last", Value::Number(1));
            report.note(format!("{key} keeps none by its rules: the newest is kept, as the plugin has it"));
        }
        rules.finish(&[], Fate::Unknown, "", report);
        return;
    }
    if !backup.has("retain") {
        report.note(format!(
            "{key} is not in the block: the plugin kept 7, this program keeps all until `retention` says otherwise"
        ));
        return;
    }
    match backup.number("retain", report) {
        Some(number @ 1..=1_000_000) => {
            draft.set("retention", Value::Number(number));
            report.taken(&key, "retention");
        }
        Some(number) if number < 1 => {
            draft.set("retention", Value::Number(1));
            report.say(&key, Fate::Changed, Some("retention"), "the newest is kept, as the plugin has it");
        }
        Some(_) => report.wrong(&key, "it is no number of snapshots; all are kept"),
        None => {}
    }
}

pub(super) fn passphrase(backup: &mut Block, draft: &mut Draft, report: &mut Report) -> Passphrase {
    let encrypt = backup.switch("encrypt", report);
    let key = backup.name("encrypt");
    match encrypt {
        Some(true) => report.unneeded(&key, "everything is encrypted, always"),
        Some(false) => report.say(&key, Fate::Changed, None, "everything is encrypted, always"),
        None => {}
    }
    let key = backup.name("passphrase");
    let Some(text) = backup.text("passphrase", report) else { return Passphrase::Generate };
    match text.plain() {
        Some(plain) if plain.contains(['\n', '\r']) => {
            report.wrong(&key, "it has several lines; a new one is made");
            Passphrase::Generate
        }
        Some(plain) => {
            let words = "in a file that only you can read";
            report.say(&key, Fate::Taken, Some("passphrase_file"), words);
            Passphrase::Given(Secret::new(plain.to_owned()))
        }
        None => {
            draft.set("passphrase_command", Value::text(text.command()));
            report.say(&key, Fate::Taken, Some("passphrase_command"), "from the same variable");
            Passphrase::Configured(text.variables().map(str::to_owned).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_tar_mean_the_same_here() {
        for (given, want) in [
            ("*.log", "*.log"),
            (".git/**", ".git"),
            ("**/a/b/**", "**/a/b"),
            ("/a/b", "**/a/b"),
            ("!x", "\\!x"),
            ("#x", "\\#x"),
            ("{a,b}.log", "\\{a,b\\}.log"),
            ("a[0-9]", "a[0-9]"),
            ("a[!]x]b{", "a[!]x]b\\{"),
            ("a[b", "a\\[b"),
            ("[", "\\["),
            ("x[]", "x\\[]"),
            ("a\\", "a\\\\"),
            ("a\\{b", "a\\{b"),
            ("a  ", "a\\ \\ "),
            ("a b", "a b"),
            ("**/", ""),
            ("/**", ""),
            ("/", ""),
        ] {
            assert_eq!(anywhere(given), want, "{given}");
            assert!(want.is_empty() || check_pattern(want).is_ok(), "{given}");
        }
    }
}
