//! The table `[triggers]`: events from outside that make the daemon take a snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeTable;

use super::ConfigError;
use super::reader::{Field, Key, Reader, Schema};
use super::values::up_to_a_day;

/// Longest name of a trigger, in bytes.
const LONGEST_NAME: usize = 32;

/// Events from outside that make the daemon take a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggersConfig {
    debounce: BTreeMap<String, Duration>,
}

impl Default for TriggersConfig {
    /// Compactions come in bursts.
    fn default() -> Self {
        let debounce = [("before-compaction".to_owned(), Duration::from_secs(300))];
        Self { debounce: debounce.into_iter().collect() }
    }
}

impl TriggersConfig {
    /// After a snapshot for this trigger, further ones of the same name make none for so long. Nothing for a
    /// name that nobody configured.
    #[must_use]
    pub fn debounce(&self, name: &str) -> Duration {
        self.debounce.get(name).copied().unwrap_or_default()
    }

    /// The names that are configured, and that have a default, with their times.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.debounce.iter().map(|(name, time)| (name.as_str(), *time))
    }

    /// Whether this may be the name of a trigger: 1 to 32 characters of `a-z`, `0-9` and `-`.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(good)
    }
}

/// Any name.
const ANY: Key = Key::number("");

const DEBOUNCE: &str = "seconds, or a time such as 90s or 5m; 0 to 1 day";

/// For the page of all keys: other names may stand here too.
pub(super) const SCHEMA: Schema = Schema {
    table: Some("triggers"),
    about: "events of `exuvia trigger NAME`, and for how long after a snapshot the same event makes no other; \
            NAME is any of a-z, 0-9 and -, up to 32 characters",
    tables: &[],
    keys: &[
        Key::number("before-compaction").says("before a compaction", DEBOUNCE, "5m", "\"10m\""),
        Key::number("gateway-stop").says("when the gateway stops", DEBOUNCE, "0", "\"1m\""),
        Key::number("session-start").says("when a session begins", DEBOUNCE, "0", "\"10m\""),
        Key::number("session-end").says("when a session ends", DEBOUNCE, "0", "\"10m\""),
    ],
    synonyms: &[],
    elsewhere: (&[], ""),
};

/// The fields of the table.
pub(super) fn names(reader: &Reader<'_>, table: &DeTable<'_>) -> Result<Vec<Field>, ConfigError> {
    reader.open(table, &ANY, |name| {
        let refused = "cannot be the name of a trigger; it has 1 to 32 characters of a-z, 0-9 and -";
        (!TriggersConfig::is_name(name)).then_some(refused)
    })
}

pub(super) fn table(reader: &Reader<'_>, fields: &[Field]) -> Result<TriggersConfig, ConfigError> {
    let mut config = TriggersConfig::default();
    for field in fields {
        let time = up_to_a_day(&field.text)
            .map_err(|what| reader.error(field.line, format!("`{}` {what}", field.spelled)))?;
        config.debounce.insert(field.spelled.clone(), time);
    }
    Ok(config)
}
