//! `exuvia full import`.

use std::path::PathBuf;

use serde::Serialize;

use super::super::error::{CliError, Status};
use super::super::global::{self, Context};
use super::super::interrupt::OnSignal;
use super::super::output::Style;
use super::super::repository::Place;
use super::super::units;
use super::{From, openssl, shown};
use crate::app::{self, FullFrom, FullImportRequest, FullPassed};
use crate::model::ErrorClass;

/// Turn archives into snapshots of the repository
///
/// Each archive is laid down in a private scratch folder, one at a time, and taken as a snapshot with the time, machine
/// and directory of the archive and the tag `imported`. What archives have in common is stored once. Those that were
/// imported before are passed over, so that this can be repeated. The archives stay where they are.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full import --all\n  exuvia full import --all --from rclone:b2:backups/agent --scratch /mnt/space"
)]
pub(super) struct Args {
    /// Archives: names, or beginnings that fit no other
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// All that are whole
    #[arg(long, conflicts_with = "names")]
    all: bool,

    #[command(flatten)]
    from: From,

    /// The folder in which the scratch folder is made [default: the one that holds the state dir]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    imported: Vec<JsonImported>,
    known: Vec<String>,
    failed: Vec<JsonFailed<'a>>,
}

#[derive(Serialize)]
struct JsonImported {
    archive: String,
    snapshot: String,
    complete: bool,
    files: u64,
    bytes: u64,
    bytes_added_stored: u64,
}

#[derive(Serialize)]
struct JsonFailed<'a> {
    archive: String,
    class: &'static str,
    message: &'a str,
}

fn summary(o: &FullPassed) -> Summary<'_> {
    Summary {
        r#type: "summary",
        imported: o
            .imported
            .iter()
            .map(|one| JsonImported {
                archive: one.name.to_string(),
                snapshot: one.snapshot.to_string(),
                complete: one.complete,
                files: one.files,
                bytes: one.bytes,
                bytes_added_stored: one.added,
            })
            .collect(),
        known: o.known.iter().map(ToString::to_string).collect(),
        failed: o
            .failed
            .iter()
            .map(|(name, message, class)| JsonFailed {
                archive: name.to_string(),
                class: class.name(),
                message,
            })
            .collect(),
    }
}

fn words(ctx: &Context, o: &FullPassed) -> String {
    let mut lines: Vec<String> = o
        .imported
        .iter()
        .map(|one| {
            format!(
                "{} is snapshot {}: {}, {}, {} stored",
                one.name,
                ctx.output.paint(Style::Bold, &one.snapshot.short()),
                units::count(one.files, "file"),
                units::size(one.bytes),
                units::size(one.added)
            )
        })
        .collect();
    if !o.known.is_empty() {
        lines.push(format!("{} imported before", units::count(o.known.len() as u64, "archive")));
    }
    lines.extend(o.failed.iter().map(|(name, message, _)| {
        ctx.output.paint(Style::Red, &format!("{name} was not imported: {}", shown(message.as_bytes())))
    }));
    if lines.is_empty() {
        lines.push("there is no whole archive to import".to_owned());
    }
    lines.join("\n")
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let scratch = args.scratch.as_deref().map(global::absolute).transpose()?;
    let state_dir = ctx.state_dir()?;
    let location = args.from.location(ctx)?;
    let place = Place::of(ctx)?;
    let obtained = place.passphrase(ctx)?;
    let passphrase = openssl(ctx, Some(&obtained.passphrase))?;
    let request = FullImportRequest { names: args.names, passphrase, scratch, state_dir };
    let opened = ctx.open_with(&place, obtained, OnSignal::Ask)?;
    let from = location.as_ref().map_or(FullFrom::Repository, FullFrom::Elsewhere);
    let outcome = opened.run(|session| app::full_import(session, from, &request))?;
    if ctx.output.json {
        ctx.output.document(&summary(&outcome))?;
    } else {
        ctx.output.summary(&words(ctx, &outcome))?;
    }
    Ok(status(&outcome))
}

/// Damage weighs more than what may pass.
fn status(outcome: &FullPassed) -> Status {
    let mut classes = outcome.failed.iter().map(|(_, _, class)| *class);
    match (outcome.failed.is_empty(), classes.any(|class| class == ErrorClass::Damaged)) {
        (true, _) => Status::Done,
        (false, true) => Status::Bad(ErrorClass::Damaged),
        (false, false) => Status::Bad(ErrorClass::Failed),
    }
}
