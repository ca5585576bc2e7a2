//! The table `[start]`: what the daemon does when it starts, and beside the schedule.

use std::time::Duration;

use super::ConfigError;
use super::reader::{Fields, Key, Reader, Schema};
use super::values::{at_most_a_day, switch};

/// What the daemon does when it starts, and beside the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartConfig {
    /// Whether it runs `auto-restore` before anything else.
    pub auto_restore: bool,
    /// Whether it takes a snapshot after changes.
    pub watch: bool,
    /// How long nothing must have changed before that.
    pub watch_quiet: Duration,
    /// So long after the first change it does not wait any more; at least [`Self::watch_quiet`].
    pub watch_max: Duration,
}

impl Default for StartConfig {
    fn default() -> Self {
        Self {
            auto_restore: false,
            watch: false,
            watch_quiet: Duration::from_secs(30),
            watch_max: Duration::from_secs(600),
        }
    }
}

pub(super) const SCHEMA: Schema = Schema {
    table: Some("start"),
    about: "what the daemon does when it starts, and beside the schedule",
    tables: &[],
    keys: &[
        Key::switch("auto_restore").says(
            "run `auto-restore` before anything else",
            "true or false",
            "off",
            "true",
        ),
        Key::switch("watch").says(
            "take a snapshot when changes have been quiet for a while",
            "true or false",
            "off",
            "true",
        ),
        Key::number("watch_quiet").says(
            "how long nothing must have changed before that",
            "seconds, or a time such as 30s or 5m; 1 s to 1 day",
            "30s",
            "\"1m\"",
        ),
        Key::number("watch_max").says(
            "how long after the first change it waits at most",
            "seconds, or a time such as 10m; not less than watch_quiet, up to 1 day",
            "10m",
            "\"30m\"",
        ),
    ],
    synonyms: &[("restore", "auto_restore"), ("watch_interval", "watch_quiet"), ("quiet", "watch_quiet")],
    elsewhere: (&[], ""),
};

pub(super) fn table(reader: &Reader<'_>, mut fields: Fields<'_, '_>) -> Result<StartConfig, ConfigError> {
    let mut config = StartConfig::default();
    for (name, place) in [("auto_restore", &mut config.auto_restore), ("watch", &mut config.watch)] {
        if let Some(on) = fields.read(reader, name, switch)? {
            *place = on;
        }
    }
    if let Some(quiet) = fields.read(reader, "watch_quiet", at_most_a_day)? {
        config.watch_quiet = quiet;
        // Who asks for more quiet than the default patience wants that, too.
        config.watch_max = config.watch_max.max(quiet);
    }
    let quiet = config.watch_quiet;
    let patience = |text: &str| {
        let time = at_most_a_day(text)?;
        if time < quiet { Err("must not be less than `watch_quiet`") } else { Ok(time) }
    };
    if let Some(longest) = fields.read(reader, "watch_max", patience)? {
        config.watch_max = longest;
    }
    Ok(config)
}
