//! Policies of retention as users write them: in the table `[retention]`, or in one text.

use super::ConfigError;
use super::reader::{Field, Fields, Key, Reader, Schema};
use crate::model::{AgeError, Policy};

/// What rules with a number take.
const COUNT: &str = "0 to 1000000, or all";
/// A policy in one text is not longer, in bytes.
const LONGEST: usize = 10_000;

pub(super) const SCHEMA: Schema = Schema {
    table: Some("retention"),
    about: "which snapshots `forget` keeps; without it, all",
    tables: &[],
    keys: &[
        Key { aliases: &["keep_last", "keep-last"], ..Key::number("last") }.says(
            "so many of the newest",
            COUNT,
            "0",
            "10",
        ),
        Key { aliases: &["keep_hourly", "keep-hourly"], ..Key::number("hourly") }.says(
            "one for each of the last so many hours",
            COUNT,
            "0",
            "24",
        ),
        Key { aliases: &["keep_daily", "keep-daily"], ..Key::number("daily") }.says(
            "one for each of the last so many days",
            COUNT,
            "0",
            "7",
        ),
        Key { aliases: &["keep_weekly", "keep-weekly"], ..Key::number("weekly") }.says(
            "one for each of the last so many weeks",
            COUNT,
            "0",
            "4",
        ),
        Key { aliases: &["keep_monthly", "keep-monthly"], ..Key::number("monthly") }.says(
            "one for each of the last so many months",
            COUNT,
            "0",
            "6",
        ),
        Key { aliases: &["keep_yearly", "keep-yearly"], ..Key::number("yearly") }.says(
            "one for each of the last so many years",
            COUNT,
            "0",
            "2",
        ),
        Key { aliases: &["keep_within", "keep-within"], ..Key::text("within") }.says(
            "all that are younger",
            "an age in years, months, weeks, days, hours: 2y5m7d3h",
            "",
            "\"2d\"",
        ),
        Key { aliases: &["keep_tags", "keep-tags", "keep_tag", "keep-tag", "tag"], ..Key::text("tags") }
            .says(
                "all that have every one of these labels",
                "labels with commas between them",
                "",
                "\"keep\"",
            ),
    ],
    synonyms: &[
        ("days", "daily"),
        ("weeks", "weekly"),
        ("months", "monthly"),
        ("max", "last"),
        ("count", "last"),
    ],
    elsewhere: (&[], ""),
};

/// Reads the table `[retention]`, in line `line`.
pub(super) fn table(reader: &Reader<'_>, line: usize, table: Fields<'_, '_>) -> Result<Policy, ConfigError> {
    let mut policy = Policy::default();
    for Field { name, line, text, spelled, .. } in &table.fields {
        put(&mut policy, name, &[text.as_str()])
            .map_err(|what| reader.error(*line, format!("`{spelled}` {what}")))?;
    }
    if policy.is_empty() {
        return Err(reader.error(line, "[retention] keeps nothing; leave it out to keep everything"));
    }
    Ok(policy)
}

/// Only labels may have several values: any of them keeps.
fn put(policy: &mut Policy, name: &str, values: &[&str]) -> Result<(), String> {
    if name == "tags" {
        for text in values {
            let tags = Policy::parse_tags(text);
            if tags.is_empty() {
                return Err("must name a label".to_owned());
            }
            policy.tags.push(tags);
        }
        return Ok(());
    }
    let [value] = values else { return Err("must have one value".to_owned()) };
    if name == "within" {
        policy.within = Some(value.parse().map_err(|e: AgeError| e.to_string())?);
    } else if let Some(count) = policy.count_mut(name) {
        *count = Policy::parse_count(value).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Reads a policy in one text: a number, which is how many of the newest are kept, or the rules in JSON or
/// what people take for it, as `{daily: 7, weekly: 4, monthly: 6}`.
pub fn retention(text: &str) -> Result<Policy, String> {
    const FORM: &str = "must be a number (so many of the newest are kept), or rules such as {daily: 7, weekly: 4, monthly: 6}";
    let text = text.trim();
    let mut policy = Policy::default();
    if text.len() > LONGEST {
        return Err(FORM.to_owned());
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let mut given = Vec::new();
        for (key, value) in rules(inner).ok_or(FORM)? {
            let name = name_of(&key).ok_or_else(|| {
                format!("has a rule `{key}`; the rules are {}, within, tags", Policy::COUNTS.join(", "))
            })?;
            if given.contains(&name) {
                return Err(format!("gives `{name}` twice"));
            }
            let values: Vec<&str> = value.iter().map(String::as_str).collect();
            put(&mut policy, name, &values).map_err(|what| format!("`{key}` {what}"))?;
            given.push(name);
        }
    } else {
        policy.last = Policy::parse_count(text).map_err(|_| FORM)?;
    }
    if policy.is_empty() { Err("keeps nothing".to_owned()) } else { Ok(policy) }
}

/// `daily`, `keepDaily`, `keep-daily`.
fn name_of(key: &str) -> Option<&'static str> {
    let plain: String = key.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_lowercase();
    let plain = plain.strip_prefix("keep").unwrap_or(&plain);
    SCHEMA.keys.iter().find(|known| known.name == plain || known.aliases.contains(&plain)).map(|key| key.name)
}

/// Keys and their values, between braces.
fn rules(text: &str) -> Option<Vec<(String, Vec<String>)>> {
    let mut rest = text.trim();
    let mut rules = Vec::new();
    while !rest.is_empty() {
        let (key, after) = word(rest)?;
        let after = after.trim_start().strip_prefix(':')?.trim_start();
        let (values, after) = match after.strip_prefix('[') {
            Some(list) => {
                let (list, after) = list.split_once(']')?;
                (words(list)?, after)
            }
            None => word(after).map(|(one, after)| (vec![one], after))?,
        };
        rules.push((key, values));
        rest = separated(after)?;
    }
    Some(rules)
}

/// What follows a comma, if anything follows at all.
fn separated(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(',').map(str::trim_start) }
}

fn words(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (one, after) = word(rest)?;
        words.push(one);
        rest = separated(after)?;
    }
    Some(words)
}

/// A word, bare or in quotes, and what follows. No rule has a value that needs escapes.
fn word(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        let (inner, after) = text.get(1..)?.split_once(quote)?;
        return (!inner.contains('\\')).then(|| (inner.to_owned(), after));
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.');
    let (inner, after) = text.split_at(text.find(|c| !bare(c)).unwrap_or(text.len()));
    (!inner.is_empty()).then(|| (inner.to_owned(), after))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_text_is_understood_as_it_was_meant() {
        let gfs = Policy { daily: 7, weekly: 4, monthly: 6, ..Policy::default() };
        for (text, want) in [
            ("7", Policy { last: 7, ..Policy::default() }),
            ("{daily: 7, weekly: 4, monthly: 6}", gfs.clone()),
            (" { \"daily\":7,'weekly' : \"4\",keepMonthly:6, } ", gfs.clone()),
            ("{\n  keep_daily: 7,\n  keep-weekly: 4,\n  monthly: 6, yearly: 0\n}", gfs),
            (
                "{last: all, within: '2 weeks', tags: ['a', \"b\"]}",
                Policy {
                    last: u32::MAX,
                    within: Some("2w".parse().unwrap()),
                    tags: vec![vec!["a".to_owned()], vec!["b".to_owned()]],
                    ..Policy::default()
                },
            ),
        ] {
            assert_eq!(retention(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "",
            "0",
            "-7",
            "7d",
            "{}",
            "{daily: 0}",
            "{daily}",
            "{daily: }",
            "{daily 7}",
            "{daily: 7",
            "daily: 7",
            "{daily: -7}",
            "{daily: 7.5}",
            "{daily: 7 weekly: 4}",
            "{daily: 7,, weekly: 4}",
            "{daily: 7, daily: 8}",
            "{daily: 7, keepDaily: 8}",
            "{within: 7}",
            "{tags: [}",
            "{daily: 7, tags: ''}",
            "{daily: 7, tags: ','}",
            "{daily: 7, tags: ['a', ' , ']}",
            "{tags: ['a]}",
            "{minutely: 7}",
            "{\"daily: 7}",
            "{daily: {weekly: 7}}",
            "{é: 7}",
            "{daily: \"\\u0037\"}",
        ] {
            assert!(retention(bad).is_err(), "{bad}: {:?}", retention(bad));
        }
        assert!(retention("{minutely: 7}").unwrap_err().contains("hourly"));
        assert!(retention(&format!("{{{}}}", "daily: 7,".repeat(2000))).is_err());
        let padded = |len: usize| retention(&format!("{{daily:{}7}}", " ".repeat(len - 9)));
        assert!(padded(LONGEST).is_ok());
        for more in [1, 2] {
            assert!(padded(LONGEST + more).is_err());
        }
    }
}
