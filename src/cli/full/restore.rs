//! `exuvia full restore`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::Serialize;

use super::super::error::{CliError, Status};
use super::super::global::{self, Context};
use super::super::output::Style;
use super::super::text::{self, JsonFileError};
use super::super::{snap_path, units};
use super::{From, Reading};
use crate::app::{self, FullRestoreRequest, FullRestored};
use crate::model::ErrorClass;

/// Put an archive, or parts of it, into a new folder
///
/// Without --to, a new folder in .exuvia-restore beside the state dir receives it. The folder must not hold anything.
/// It is called .partial until the last byte of the archive is known to be good; should that not come, what was
/// extracted stays in it, and the exit code says so.
///
/// Members that would lead out of the folder are refused, whoever made the archive. Devices are not made, set-id bits
/// are dropped; links that lead out of the folder are left out, unless the archive has a mark.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full restore\n  exuvia full restore backup-20260310T020000Z --to /tmp/look --path memory\n  exuvia full restore --from rclone:b2:backups/agent --to /tmp/look"
)]
pub(super) struct Args {
    /// The archive: latest, its name, or a beginning of it that fits no other
    #[arg(value_name = "NAME", default_value = "latest")]
    name: String,

    #[command(flatten)]
    from: From,

    /// The folder to make [default: .exuvia-restore/NAME beside the state dir]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,

    /// Only this file or directory of the archive; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,

    /// Take an archive that has no mark or one that this key cannot read, or a damaged one, as far as it goes
    #[arg(long)]
    allow_partial: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    archive: &'a str,
    state: &'static str,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    files: u64,
    dirs: u64,
    others: u64,
    bytes: u64,
    left_out: u64,
    /// Of the source, when the archive was made.
    complete: Option<bool>,
    errors: Vec<JsonFileError<'a>>,
    error_count: u64,
    duration_ms: u64,
}

fn summary(o: &FullRestored) -> Summary<'_> {
    let (target, target_base64) = text::lossy(o.target.as_os_str().as_bytes());
    Summary {
        r#type: "summary",
        archive: &o.name,
        state: o.state.name(),
        target,
        target_base64,
        files: o.files,
        dirs: o.dirs,
        others: o.others,
        bytes: o.bytes,
        left_out: o.left_out,
        complete: o.mark.as_ref().map(|mark| mark.complete),
        errors: o.errors.iter().map(Into::into).collect(),
        error_count: o.error_count,
        duration_ms: o.duration_ms,
    }
}

fn words(ctx: &Context, o: &FullRestored) -> String {
    let name = ctx.output.paint(Style::Bold, &o.name);
    let mut lines = vec![
        format!("restored {name} to {}", text::show(&o.target)),
        format!(
            "{}, {}: {}, {}",
            units::count(o.files, "file"),
            units::count(o.dirs, "folder"),
            units::size(o.bytes),
            units::duration(o.duration_ms)
        ),
    ];
    match &o.mark {
        Some(mark) if !mark.complete => {
            let count = units::count(mark.error_count, "error");
            lines.push(format!("the archive is incomplete: {count} when it was made"));
        }
        Some(_) => {}
        None => lines.push("nothing vouches for this archive: it has no mark".to_owned()),
    }
    if o.left_out > 0 {
        lines.push(format!("{} left out", units::count(o.left_out, "member")));
    }
    if o.error_count > 0 {
        let head = format!("{} could not be restored", units::count(o.error_count, "path"));
        lines.push(ctx.output.paint(Style::Red, &head));
    }
    lines.join("\n")
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let target = args.to.as_deref().map(global::absolute).transpose()?;
    let paths = args.paths.iter().map(|path| snap_path::parse(ctx, path)).collect::<Result<_, _>>()?;
    // Where the target is named, no state dir needs to be known.
    let state_dir = match (&target, ctx.state_dir()) {
        (_, Ok(dir)) => dir,
        (Some(target), Err(_)) => target.clone(),
        (None, Err(e)) => return Err(e),
    };
    let reading = Reading::open(ctx, &args.from)?;
    let passphrase = reading.openssl(ctx)?;
    let partial = args.allow_partial;
    let request = FullRestoreRequest { name: args.name, target, state_dir, paths, partial, passphrase };
    let outcome = reading.opened.run(|session| app::full_restore(session, reading.from(), &request))?;
    if ctx.output.json {
        ctx.output.document(&summary(&outcome))?;
    } else {
        ctx.output.summary(&words(ctx, &outcome))?;
    }
    Ok(if outcome.error_count == 0 { Status::Done } else { Status::Bad(ErrorClass::Failed) })
}
