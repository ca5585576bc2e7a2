//! The table `[schedule]`: what the daemon runs, and when.

use std::time::Duration;

use jiff::civil::{Weekday, time};
use jiff::tz::TimeZone;

use super::ConfigError;
use super::reader::{Fields, Key, Reader, Schema};
use super::values::{one_of, part_of_data, switch, up_to_a_day};
use crate::model::Schedule;

/// Most attempts after a failed run.
const MAX_RETRIES: u32 = 100;

/// What the daemon runs, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// Backups of the state dir.
    pub backup: Schedule,
    /// `forget`, when a retention is configured, and then `prune`.
    pub prune: Schedule,
    /// `check`.
    pub check: Schedule,
    /// The part of the data that a check reads, as `check --read-data-subset` takes it; `None` for the
    /// structure only.
    pub check_data: Option<String>,
    /// `drill`.
    pub drill: Schedule,
    /// `full create`.
    pub full: Schedule,
    /// In which times of the day are meant; `None` for that of the system.
    pub timezone: Option<TimeZone>,
    /// Each run begins up to this much later, so that many machines do not come at once.
    pub jitter: Duration,
    /// What happens while the machine runs on its battery.
    pub on_battery: OnCondition,
    /// What happens while the network costs by volume.
    pub on_metered: OnCondition,
    /// Whether jobs leave processor and disk to others.
    pub low_priority: bool,
    /// Attempts after a failed run.
    pub retries: u32,
    /// How the daemon writes its log.
    pub log_format: LogFormat,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            backup: Schedule::Every(Duration::from_secs(3600)),
            prune: Schedule::Daily(time(4, 0, 0, 0)),
            check: Schedule::Weekly(Weekday::Sunday, time(0, 0, 0, 0)),
            check_data: Some("2%".to_owned()),
            drill: Schedule::Off,
            full: Schedule::Off,
            timezone: None,
            jitter: Duration::ZERO,
            on_battery: OnCondition::Run,
            on_metered: OnCondition::Run,
            low_priority: true,
            retries: 3,
            log_format: LogFormat::Text,
        }
    }
}

/// What the daemon does under a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCondition {
    /// It runs jobs all the same.
    Run,
    /// It waits until the condition is over.
    Pause,
}

/// How the daemon writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

const WHEN: &str = "off; seconds, or 90s, 5m, 1h, 2d (1 minute to 366 days); daily 03:30; weekly sun 04:00; \
                    cron 30 3 * * 1-5";

pub(super) const SCHEMA: Schema = Schema {
    table: Some("schedule"),
    about: "what `exuvia daemon` runs, and when",
    tables: &[],
    keys: &[
        Key::number("backup").says("backups of the state dir", WHEN, "1h", "\"15m\""),
        Key::number("prune").says(
            "forget, when a retention is configured, and then prune",
            WHEN,
            "daily 04:00",
            "\"weekly sat 05:00\"",
        ),
        Key::number("check").says("check of the repository", WHEN, "weekly", "\"daily 05:30\""),
        Key::number("check_data").says(
            "the part of the data that a check reads",
            "N% (above 0, up to 100), a size (500M), N/M, or off: structure only",
            "2%",
            "\"5%\"",
        ),
        Key::number("drill").says(
            "a restore to a scratch folder, with all checks, that proves that one works",
            WHEN,
            "off",
            "\"cron 0 6 1 * *\"",
        ),
        Key::number("full").says(
            "a full archive; and then the retention of archives, where [full] has one",
            WHEN,
            "off",
            "\"weekly sun 02:00\"",
        ),
        Key::text("timezone").says(
            "in which times of the day are meant",
            "a name of the time zone database",
            "the system's",
            "\"Europe/Berlin\"",
        ),
        Key::number("jitter").says(
            "each run begins up to so much later, so that many machines do not come at once",
            "seconds, or a time such as 90s or 5m; 0 to 1 day",
            "0",
            "\"5m\"",
        ),
        Key::text("on_battery").says("what happens on battery power", "run, pause", "run", "\"pause\""),
        Key::text("on_metered").says(
            "what happens while the network costs by volume",
            "run, pause",
            "run",
            "\"pause\"",
        ),
        Key::switch("low_priority").says(
            "jobs leave processor and disk to others (nice, ionice)",
            "true or false",
            "on",
            "false",
        ),
        Key::number("retries").says(
            "attempts after a failed run, first after 1 minute, then after twice as long each, up to 1 hour",
            "0 to 100",
            "3",
            "5",
        ),
        Key::text("log_format").says("how the daemon writes its log", "text, json", "text", "\"json\""),
    ],
    synonyms: &[
        ("interval", "backup"),
        ("every", "backup"),
        ("cron", "backup"),
        ("forget", "prune"),
        ("tz", "timezone"),
        ("time_zone", "timezone"),
        ("nice", "low_priority"),
        ("battery", "on_battery"),
        ("metered", "on_metered"),
    ],
    elsewhere: (&[], ""),
};

pub(super) fn table(reader: &Reader<'_>, mut fields: Fields<'_, '_>) -> Result<ScheduleConfig, ConfigError> {
    let mut config = ScheduleConfig::default();
    for (name, place) in [
        ("backup", &mut config.backup),
        ("prune", &mut config.prune),
        ("check", &mut config.check),
        ("drill", &mut config.drill),
        ("full", &mut config.full),
    ] {
        if let Some(schedule) = fields.read(reader, name, str::parse::<Schedule>)? {
            *place = schedule;
        }
    }
    if let Some(part) = fields.read(reader, "check_data", part_of_data)? {
        config.check_data = part;
    }
    config.timezone = fields.read(reader, "timezone", zone)?;
    if let Some(jitter) = fields.read(reader, "jitter", up_to_a_day)? {
        config.jitter = jitter;
    }
    for (name, place) in [("on_battery", &mut config.on_battery), ("on_metered", &mut config.on_metered)] {
        let words = [("run", OnCondition::Run), ("pause", OnCondition::Pause)];
        if let Some(condition) = fields.read(reader, name, |text| one_of(text, &words))? {
            *place = condition;
        }
    }
    if let Some(low) = fields.read(reader, "low_priority", switch)? {
        config.low_priority = low;
    }
    if let Some(retries) = fields.read(reader, "retries", retries)? {
        config.retries = retries;
    }
    let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    if let Some(format) = fields.read(reader, "log_format", |text| one_of(text, &words))? {
        config.log_format = format;
    }
    Ok(config)
}

fn zone(name: &str) -> Result<TimeZone, &'static str> {
    TimeZone::get(name).map_err(|_| {
        "must be a name of this system's time zone database, such as Europe/Berlin or UTC; `timedatectl \
         list-timezones` shows them"
    })
}

fn retries(text: &str) -> Result<u32, &'static str> {
    let number = text.trim().parse().ok().filter(|number| *number <= MAX_RETRIES);
    number.ok_or("must be a number from 0 to 100")
}
