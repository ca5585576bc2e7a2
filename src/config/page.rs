//! The page of all keys, from what the schemas say of themselves.

use super::reader::{Key, Schema};
use super::{backup, file, full, health, hooks, remote, retention, schedule, start, triggers};

/// A table of the configuration file, documented.
#[derive(Debug)]
pub struct TableDoc {
    /// Its name; `None` for the top of the file.
    pub name: Option<&'static str>,
    /// What it is for.
    pub about: &'static str,
    /// Its keys, in the order in which people should meet them.
    pub keys: Vec<KeyDoc>,
}

/// A key of the configuration file, documented.
#[derive(Debug, Clone, Copy)]
pub struct KeyDoc {
    /// Its name. `NAME` stands for any.
    pub name: &'static str,
    /// Other names for the same.
    pub aliases: &'static [&'static str],
    /// What it is for.
    pub about: &'static str,
    /// What holds without it; empty for nothing.
    pub default: &'static str,
    /// Which values it takes, with unit and range.
    pub takes: &'static str,
    /// A value as it would stand in the file.
    pub example: &'static str,
}

/// The tables of the file in the order of the page.
pub(super) const SCHEMAS: [&Schema; 10] = [
    &file::SCHEMA,
    &remote::SCHEMA,
    &retention::SCHEMA,
    &backup::SCHEMA,
    &full::SCHEMA,
    &schedule::SCHEMA,
    &start::SCHEMA,
    &triggers::SCHEMA,
    &health::SCHEMA,
    &hooks::JOB,
];

/// Options of rclone, of which it has more than a page.
const OPTION: Key = Key::text("NAME").says(
    "an option of the backend, in rclone's words; wins over what the provider implies",
    "as in rclone.conf; passwords as `rclone obscure` prints them",
    "",
    "\"22\"",
);

/// All tables and their keys.
#[must_use]
pub fn keys() -> Vec<TableDoc> {
    let mut tables: Vec<TableDoc> = SCHEMAS
        .iter()
        .map(|schema| TableDoc {
            name: schema.table,
            about: schema.about,
            keys: schema.keys.iter().map(KeyDoc::of).collect(),
        })
        .collect();
    let at = tables.iter().position(|table| table.name == Some("remote")).map_or(0, |at| at + 1);
    let options = TableDoc {
        name: Some("remote.options"),
        about: "options of rclone for that storage",
        keys: vec![KeyDoc::of(&OPTION)],
    };
    tables.insert(at, options);
    tables
}

impl KeyDoc {
    fn of(key: &Key) -> Self {
        let doc = key.doc;
        Self {
            name: key.name,
            aliases: key.aliases,
            about: doc.about,
            default: doc.default,
            takes: doc.takes,
            example: doc.example,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment};

    fn parse(text: &str) -> Config {
        let variables = [("HOME", "/h"), ("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let parsed = Config::parse(text, Path::new("/c/config.toml"), &Environment::of(&variables));
        parsed.unwrap_or_else(|e| panic!("{e}\n{text}")).0
    }

    #[test]
    fn every_key_of_every_table_is_documented() {
        let pages = keys();
        for schema in SCHEMAS {
            for table in schema.tables {
                let whole = schema.table.map_or((*table).to_owned(), |above| format!("{above}.{table}"));
                let shown = pages
                    .iter()
                    .any(|page| page.name.is_some_and(|n| n == whole || n.starts_with(&format!("{whole}."))));
                assert!(shown, "[{whole}] is on no page");
            }
        }
        for page in &pages {
            assert_eq!(page.about.is_empty(), page.name.is_none(), "{:?}", page.name);
            for key in &page.keys {
                let whole = [key.about, key.takes, key.example];
                assert!(whole.iter().all(|text| !text.is_empty()), "{:?} {}", page.name, key.name);
                assert!(key.about.len() < 120 && !key.about.ends_with('.'), "{}", key.name);
            }
        }
    }

    #[test]
    fn examples_are_accepted() {
        for page in keys() {
            for key in &page.keys {
                let line = format!("{} = {}\n", key.name, key.example);
                match page.name {
                    // They depend on each other; every provider has an example in the README.
                    Some("remote" | "remote.options") => {}
                    Some(table) => drop(parse(&format!("[{table}]\n{line}"))),
                    None => drop(parse(&line)),
                }
            }
        }
    }

    /// A default as a value of the file; `None` for one that is told in words.
    fn value(key: &KeyDoc) -> Option<String> {
        Some(match key.default {
            "" => return None,
            // They come from the system, or from other keys.
            text if text.contains(' ')
                || text.contains('$')
                || matches!(key.name, "timezone" | "promise") =>
            {
                return None;
            }
            "on" if !key.takes.starts_with("off;") => "true".to_owned(),
            "off" if !key.takes.starts_with("off;") => "false".to_owned(),
            text => format!("\"{text}\""),
        })
    }

    /// What the page calls a default is what holds without the key.
    #[test]
    fn defaults_are_true() {
        let empty = parse("");
        let mut compared = 0;
        let by_itself = |name: &str| !name.starts_with("remote") && name != "retention";
        for page in keys() {
            let Some(table) = page.name.filter(|table| by_itself(table)) else { continue };
            for key in &page.keys {
                let Some(value) = value(key) else { continue };
                let given = parse(&format!("[{table}]\n{} = {value}", key.name));
                let all = |c: &Config| {
                    (c.backup.clone(), c.schedule.clone(), c.start.clone(), c.health.clone(), c.hooks.clone())
                };
                assert_eq!(all(&given), all(&empty), "{table}.{}", key.name);
                assert_eq!(given.triggers.debounce(key.name), empty.triggers.debounce(key.name));
                compared += 1;
            }
        }
        assert!(compared > 20, "{compared}");
    }

    /// In `[remote]` a default is what is there when the key is left out, whatever the provider.
    #[test]
    fn defaults_of_remote_and_retention_are_true() {
        let pages = keys();
        let page = |name: &str| pages.iter().find(|page| page.name == Some(name)).unwrap();
        let providers = [
            "provider = \"s3\"\nbucket = \"b\"",
            "provider = \"custom\"\nrclone_type = \"sftp\"",
            "provider = \"gdrive\"\ntoken = \"{}\"",
        ];
        let mut compared = Vec::new();
        for key in
            page("remote").keys.iter().filter(|key| !crate::config::remote::RUNNING.contains(&key.name))
        {
            let Some(value) = value(key) else { continue };
            for provider in providers {
                let text = format!("[remote]\n{provider}\n{} = {value}", key.name);
                let env = Environment::of(&[("HOME", "/h")]);
                let Ok((given, _)) = Config::parse(&text, Path::new("/c/config.toml"), &env) else {
                    continue;
                };
                assert_eq!(given.remote, parse(&format!("[remote]\n{provider}")).remote, "{text}");
                compared.push(key.name);
            }
        }
        assert!(compared.contains(&"prefix"), "{compared:?}");
        for key in page("retention").keys.iter() {
            let Some(value) = value(key) else { continue };
            let with = |text: &str| parse(&format!("[retention]\nyearly = 9\n{text}")).retention;
            if key.name != "yearly" {
                assert_eq!(with(&format!("{} = {value}", key.name)), with(""), "{}", key.name);
            }
        }
    }
}
