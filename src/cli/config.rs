//! `exuvia config`.

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::output::Table;
use super::repository::Place;
use super::settings::{self, Origin, Running};
use super::{config_import, config_keys, passphrase, text};
use crate::app::Location;
use crate::config;

/// Show, check, explain or import the settings
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia config show\n  exuvia config keys schedule\n  exuvia --config ./new.toml config check\n  exuvia config import --dry-run"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show the settings in force, and where each comes from
    ///
    /// Secrets are shown as `(set)`. With --json, an array of objects with `setting`, `value`, `secret`, `origin`
    /// (flag, environment, file or default) and `from`.
    Show,
    /// Check the configuration, and say which repository is used
    ///
    /// Reads files and environment only. Whether the repository is there, and its remote answers, is not asked.
    Check,
    Keys(config_keys::Args),
    Import(config_import::Args),
}

/// A setting as `--json` shows it.
#[derive(Debug, Serialize)]
struct Row {
    setting: String,
    /// None for a secret, and for a setting that nobody gave.
    value: Option<String>,
    secret: bool,
    origin: &'static str,
    /// The flag, the variable, or the file and its line.
    from: Option<String>,
}

impl Row {
    fn new(setting: &str, value: Option<String>, origin: &Origin) -> Self {
        let from = (*origin != Origin::Default).then(|| origin.words());
        Self { setting: setting.to_owned(), value, secret: false, origin: origin.kind(), from }
    }

    fn hidden(setting: &str, origin: &Origin) -> Self {
        Self { secret: true, ..Self::new(setting, None, origin) }
    }
}

/// The last line of `config check --json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    ok: bool,
    file: Option<String>,
    repository: String,
    remote: bool,
    origin: &'static str,
    from: Option<String>,
    warnings: &'a [String],
}

impl Args {
    /// Whether a configuration that is broken, or is not there yet, is in nobody's way: who explains keys, or writes
    /// another one, helps just then.
    pub(super) fn needs_no_settings(&self) -> bool {
        matches!(self.command, Command::Keys(_) | Command::Import(_))
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    match &args.command {
        Command::Show => show(ctx),
        Command::Check => check(ctx),
        Command::Keys(args) => config_keys::run(args, ctx),
        Command::Import(args) => config_import::run(args, ctx),
    }
}

fn show(ctx: &Context) -> Result<Status, CliError> {
    let rows = rows(ctx)?;
    if ctx.output.json {
        ctx.output.document(&rows)?;
        return Ok(Status::Done);
    }
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"], &[]);
    for row in rows {
        let value = match row.value {
            Some(value) => text::printable(value.as_bytes()),
            None if row.secret => "(set)".to_owned(),
            None => "(none)".to_owned(),
        };
        table.row(vec![row.setting, value, row.from.unwrap_or_else(|| row.origin.to_owned())]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    Ok(Status::Done)
}

fn rows(ctx: &Context) -> Result<Vec<Row>, CliError> {
    let path = |path: &Path| Some(path.to_string_lossy().into_owned());
    let place = Place::of(ctx)?;
    let mut rows = vec![Row::new("config", ctx.config.file.as_deref().and_then(path), &config_origin(ctx))];
    rows.push(Row::new("repository", Some(place.location.to_string()), &place.origin));
    // Those of a table that a flag or variable overrides are not in force.
    if settings::repository(ctx).is_none() {
        let remote = |key: &str| key.strip_prefix("remote.").is_some_and(|key| !RUNNING.contains(&key));
        for setting in ctx.config.settings.iter().filter(|setting| remote(&setting.key)) {
            let origin = Origin::of_file(ctx, Some(setting.line));
            rows.push(match &setting.shown {
                Some(shown) => Row::new(&setting.key, Some(shown.clone()), &origin),
                None => Row::hidden(&setting.key, &origin),
            });
        }
    }
    // Without a home there is no default; that matters only to a command that needs one.
    match settings::state_dir(ctx) {
        Ok((value, origin)) => rows.push(Row::new("state_dir", path(&value), &origin)),
        Err(_) => rows.push(Row::new("state_dir", None, &Origin::Default)),
    }
    match settings::cache_dir(ctx) {
        Ok((value, origin)) => rows.push(Row::new("cache_dir", path(&value), &origin)),
        Err(_) => rows.push(Row::new("cache_dir", None, &Origin::Default)),
    }
    let (key_cache, origin) = settings::key_cache(ctx)?;
    rows.push(Row::new("key_cache", Some(if key_cache { "on" } else { "off" }.to_owned()), &origin));
    let (percent, origin) = settings::shrink_alarm(ctx);
    let shown = if percent == 0 { "off".to_owned() } else { percent.to_string() };
    rows.push(Row::new("shrink_alarm", Some(shown), &origin));
    let rules: Vec<_> =
        ctx.config.settings.iter().filter(|s| s.key.split('.').next() == Some("retention")).collect();
    if rules.is_empty() {
        rows.push(Row::new("retention", None, &Origin::Default));
    }
    rows.extend(
        rules
            .iter()
            .map(|rule| Row::new(&rule.key, rule.shown.clone(), &Origin::of_file(ctx, Some(rule.line)))),
    );
    let (grace, origin) = settings::prune_grace(ctx, None);
    rows.push(Row::new("prune_grace", Some(seconds(grace)), &origin));
    let key_file =
        place.default.as_ref().map(|default| default.key_file.as_path()).filter(|key| key.exists());
    rows.push(match (passphrase::source(ctx), key_file) {
        (Some((setting, Some(value), origin)), _) => Row::new(setting, path(value.as_ref()), &origin),
        (Some((setting, None, origin)), _) => Row::hidden(setting, &origin),
        (None, Some(key_file)) => Row::new("passphrase_file", path(key_file), &Origin::Default),
        (None, None) => Row::new("passphrase", None, &Origin::Default),
    });
    let (keyring, origin) = settings::passphrase_keyring(ctx)?;
    rows.push(Row::new("passphrase_keyring", Some(if keyring { "on" } else { "off" }.to_owned()), &origin));
    let running = Running::of(ctx)?;
    let (program, origin) = &running.program;
    rows.push(Row::new("rclone_program", path(program), origin));
    let (bwlimit, origin) = &running.bwlimit;
    rows.push(Row::new("bwlimit", bwlimit.clone(), origin));
    let (tpslimit, origin) = &running.tpslimit;
    rows.push(Row::new("tpslimit", tpslimit.map(|limit| limit.to_string()), origin));
    let (connections, origin) = &running.connections;
    rows.push(Row::new("connections", Some(connections.to_string()), origin));
    for (name, (time, origin)) in [("timeout", &running.timeout), ("deadline", &running.deadline)] {
        rows.push(Row::new(name, Some(seconds(*time)), origin));
    }
    let (threads, origin) = settings::threads(ctx)?;
    rows.push(Row::new("threads", Some(threads.to_string()), &origin));
    rows.extend(by_itself(ctx));
    Ok(rows)
}

/// The rows of the tables that only the file has: every key, with what holds where it says nothing.
fn by_itself(ctx: &Context) -> Vec<Row> {
    let tables = ["backup", "schedule", "start", "triggers", "health", "hooks"];
    let of = |name: &str| tables.contains(&name.split('.').next().unwrap_or(name));
    let mut rows = Vec::new();
    for page in config::keys() {
        let Some(table) = page.name.filter(|table| of(table)) else { continue };
        for key in page.keys {
            let name = format!("{table}.{}", key.name);
            if !ctx.config.settings.iter().any(|setting| setting.key == name) {
                let default = (!key.default.is_empty()).then(|| key.default.to_owned());
                rows.push(Row::new(&name, default, &Origin::Default));
            }
        }
        // Those of one job stand for the defaults of all.
        let family = table.split('.').next().unwrap_or(table);
        for setting in &ctx.config.settings {
            if setting.key.split('.').next() == Some(family) {
                let origin = Origin::of_file(ctx, Some(setting.line));
                rows.push(match &setting.shown {
                    Some(shown) => Row::new(&setting.key, Some(shown.clone()), &origin),
                    None => Row::hidden(&setting.key, &origin),
                });
            }
        }
    }
    rows
}

/// Settings that have rows of their own, wherever in the file they stand.
const RUNNING: [&str; 6] = ["rclone_program", "bwlimit", "tpslimit", "connections", "timeout", "deadline"];

fn config_origin(ctx: &Context) -> Origin {
    if ctx.args.config.is_some() {
        Origin::Flag("--config")
    } else if ctx.env.get("EXUVIA_CONFIG").is_some() {
        Origin::Environment("EXUVIA_CONFIG")
    } else {
        Origin::Default
    }
}

/// As the configuration file takes it.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

fn check(ctx: &Context) -> Result<Status, CliError> {
    let place = Place::of(ctx)?;
    Running::of(ctx)?;
    let file = ctx.config.file.as_deref();
    let advice = ctx.config.advice();
    if ctx.output.json {
        let row = Row::new("repository", None, &place.origin);
        ctx.output.document(&Summary {
            r#type: "summary",
            ok: true,
            file: file.map(|file| file.to_string_lossy().into_owned()),
            repository: place.location.to_string(),
            remote: matches!(place.location, Location::Rclone(_)),
            origin: row.origin,
            from: row.from,
            warnings: &advice,
        })?;
        return Ok(Status::Done);
    }
    advice.iter().for_each(|what| ctx.output.warn(what));
    let file = file.map_or_else(
        || "no configuration file; that is fine".to_owned(),
        |file| format!("{}: no mistakes", text::show(file)),
    );
    let from = match &place.origin {
        Origin::Default => "the default".to_owned(),
        origin => format!("from {}", origin.words()),
    };
    ctx.output.summary(&format!("{file}\nrepository: {} ({from})", place.name()))?;
    Ok(Status::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_the_file_takes_them() {
        for text in ["90s", "2m", "3h", "61s"] {
            assert_eq!(crate::config::duration(text).map(seconds).as_deref(), Ok(text));
        }
    }
}
