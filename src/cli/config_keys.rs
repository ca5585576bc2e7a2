//! `exuvia config keys`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::output::Style;
use crate::config::{self, KeyDoc};

/// Show every key of the configuration file
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia config keys\n  exuvia config keys schedule\n  exuvia config keys --json"
)]
pub(super) struct Args {
    /// Only this table, such as `schedule`, or this key, such as `bwlimit`
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// A key as `--json` shows it.
#[derive(Serialize)]
struct Row {
    /// None at the top of the file.
    table: Option<&'static str>,
    key: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
    takes: &'static str,
    /// None where nothing holds without it.
    default: Option<&'static str>,
    example: &'static str,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let wanted = |table: Option<&str>, key: &KeyDoc| {
        args.name.as_deref().is_none_or(|name| {
            let whole = table.map_or_else(|| key.name.to_owned(), |table| format!("{table}.{}", key.name));
            let in_table = table.is_some_and(|t| t == name || t.starts_with(&format!("{name}.")));
            in_table || key.name == name || whole == name || key.aliases.contains(&name)
        })
    };
    let mut pages = config::keys();
    for page in &mut pages {
        page.keys.retain(|key| wanted(page.name, key));
    }
    pages.retain(|page| !page.keys.is_empty());
    if pages.is_empty() {
        return Err(
            CliError::usage("there is no such table or key").hint("`exuvia config keys` shows all of them")
        );
    }
    if ctx.output.json {
        let rows: Vec<Row> =
            pages.iter().flat_map(|page| page.keys.iter().map(|key| row(page.name, key))).collect();
        ctx.output.document(&rows)?;
        return Ok(Status::Done);
    }
    let mut lines = Vec::new();
    for page in &pages {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let head = page.name.map_or_else(|| "at the top of the file".to_owned(), |name| format!("[{name}]"));
        let about = if page.about.is_empty() { String::new() } else { format!("  {}", page.about) };
        lines.push(format!("{}{about}", ctx.output.paint(Style::Bold, &head)));
        lines.extend(page.keys.iter().flat_map(words));
    }
    lines.push(String::new());
    lines.push(
        "Any text may have ${NAME} in it, the value of an environment variable; $$ stands for $.".to_owned(),
    );
    lines.push("Shell commands are left to the shell.".to_owned());
    ctx.output.result(&lines.join("\n"))?;
    Ok(Status::Done)
}

fn row(table: Option<&'static str>, key: &KeyDoc) -> Row {
    let KeyDoc { name, aliases, about, default, takes, example } = *key;
    let default = (!default.is_empty()).then_some(default);
    Row { table, key: name, aliases, about, takes, default, example }
}

fn words(key: &KeyDoc) -> Vec<String> {
    let also =
        if key.aliases.is_empty() { String::new() } else { format!(" (also {})", key.aliases.join(", ")) };
    let default = if key.default.is_empty() { "none" } else { key.default };
    vec![
        format!("  {} = {}", key.name, key.example),
        format!("      {}{also}", key.about),
        format!("      takes: {}", key.takes),
        format!("      default: {default}"),
    ]
}
