//! `exuvia full verify`.

use std::path::PathBuf;

use serde::Serialize;

use super::super::error::{CliError, Status};
use super::super::global::{self, Context};
use super::super::output::Style;
use super::super::text::{self, JsonFileError};
use super::super::units;
use super::{From, Reading};
use crate::app::{self, FullVerified, FullVerifyRequest};
use crate::model::ErrorClass;

/// Read an archive to its end, and check everything
///
/// Every byte is read and compared with the archive's mark, and SQLite checks every database in it; for that they are
/// laid down, one at a time or with --from those of one folder, in a scratch folder that only you can read. Exit code 13
/// means damage. An archive of another program has no mark: it can be read to its end, and that is all that is known.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full verify\n  exuvia full verify backup-20260310T020000Z --scratch /mnt/space"
)]
pub(super) struct Args {
    /// The archive: latest, its name, or a beginning of it that fits no other
    #[arg(value_name = "NAME", default_value = "latest")]
    name: String,

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
    ok: bool,
    archive: &'a str,
    state: &'static str,
    /// A mark says that nobody has changed it.
    authenticated: bool,
    members: u64,
    files: u64,
    bytes: u64,
    databases_checked: u64,
    problems: Vec<JsonFileError<'a>>,
    problem_count: u64,
    duration_ms: u64,
}

fn summary(o: &FullVerified) -> Summary<'_> {
    Summary {
        r#type: "summary",
        ok: o.problem_count == 0,
        archive: &o.name,
        state: o.state.name(),
        authenticated: o.authenticated,
        members: o.members,
        files: o.files,
        bytes: o.bytes,
        databases_checked: o.databases,
        problems: o.problems.iter().map(Into::into).collect(),
        problem_count: o.problem_count,
        duration_ms: o.duration_ms,
    }
}

fn words(ctx: &Context, o: &FullVerified) -> String {
    let name = ctx.output.paint(Style::Bold, &o.name);
    let mut lines = vec![match o.problem_count {
        0 if o.authenticated => format!("good: {name} is whole"),
        0 => format!(
            "readable, not authenticated: {name} has no mark that tells whether somebody has changed it"
        ),
        n => {
            let count = ctx.output.paint(Style::Red, &units::count(n, "problem"));
            format!("{count}: {name} could be read to its end, but not all in it is good")
        }
    }];
    lines.push(format!(
        "{}: {}, {} checked and good, {}",
        units::count(o.files, "file"),
        units::size(o.bytes),
        units::count(o.databases, "database"),
        units::duration(o.duration_ms)
    ));
    let problem = |e: &crate::model::FileError| {
        format!("  {}: {}", text::show_entry(&e.path), text::printable(e.message.as_bytes()))
    };
    lines.extend(o.problems.iter().take(20).map(problem));
    lines.join("\n")
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let scratch = args.scratch.as_deref().map(global::absolute).transpose()?;
    let state_dir = ctx.state_dir()?;
    let reading = Reading::open(ctx, &args.from)?;
    let passphrase = reading.openssl(ctx)?;
    let request = FullVerifyRequest { name: args.name, passphrase, scratch, state_dir };
    let outcome = reading.opened.run(|session| app::full_verify(session, reading.from(), &request))?;
    if ctx.output.json {
        ctx.output.document(&summary(&outcome))?;
    } else {
        ctx.output.summary(&words(ctx, &outcome))?;
    }
    Ok(if outcome.problem_count == 0 { Status::Done } else { Status::Bad(ErrorClass::Damaged) })
}
