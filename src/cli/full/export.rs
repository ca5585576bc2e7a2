//! `exuvia full export`.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::super::error::{CliError, Status};
use super::super::global::{self, Context};
use super::super::interrupt::OnSignal;
use super::super::output::{Output, Style};
use super::super::repository::Place;
use super::super::text::{self, JsonFileError};
use super::super::units;
use super::{Form, openssl};
use crate::app::{self, FullExportRequest, FullExported, FullTarget, SnapshotInfo};
use crate::model::{ArchiveForm, ErrorClass};

/// Turn a snapshot into a full archive
///
/// Without --to it becomes one of the archives in the repository, with the snapshot's time. --to FILE writes a new file,
/// and `--to -` writes to standard output.
///
/// A file to which something is lacking, because the snapshot is incomplete or damaged, is called FILE.partial.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full export\n  exuvia full export latest~3 --form openssl --to /mnt/usb/agent.tar.gz.enc\n  exuvia full export --no-encrypt --to - | tar tzv"
)]
pub(super) struct Args {
    /// The snapshot: latest, latest~N, an id, or a time
    #[arg(value_name = "SNAP", default_value = "latest")]
    snapshot: String,

    #[command(flatten)]
    form: Form,

    /// A new file, or - for standard output [default: an archive of the repository]
    #[arg(long, value_name = "FILE")]
    to: Option<OsString>,
}

/// The last line of `--json`; on stderr where stdout is the archive.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    snapshot: String,
    time: String,
    form: &'static str,
    #[serde(flatten)]
    place: Option<text::JsonPath>,
    complete: bool,
    members: u64,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
    sha256: String,
    errors: Vec<JsonFileError<'a>>,
    error_count: u64,
    damaged: bool,
    duration_ms: u64,
}

fn summary<'a>(info: &SnapshotInfo, o: &'a FullExported) -> Summary<'a> {
    let mark = &o.mark;
    Summary {
        r#type: "summary",
        snapshot: info.id.to_string(),
        time: units::rfc3339(mark.time),
        form: mark.name.form().name(),
        place: o.place.as_deref().map(Into::into),
        complete: mark.complete,
        members: mark.members,
        files: mark.files,
        bytes: mark.bytes,
        stored_bytes: mark.size,
        sha256: data_encoding::HEXLOWER.encode(&mark.sha256),
        errors: mark.errors.iter().map(Into::into).collect(),
        error_count: mark.error_count,
        damaged: o.damaged,
        duration_ms: o.duration_ms,
    }
}

fn words(ctx: &Context, info: &SnapshotInfo, o: &FullExported) -> String {
    let mark = &o.mark;
    let to = o.place.as_deref().map(|place| format!(" to {}", text::show(place))).unwrap_or_default();
    let mut lines = vec![
        format!("exported snapshot {}{to}", ctx.output.paint(Style::Bold, &info.id.short())),
        format!(
            "{}: {}, {} stored, {}",
            units::count(mark.files, "file"),
            units::size(mark.bytes),
            units::size(mark.size),
            units::duration(o.duration_ms)
        ),
    ];
    if mark.error_count > 0 {
        let why = if o.damaged { "; the repository is damaged" } else { "" };
        let head = format!("incomplete: {}{why}", units::count(mark.error_count, "error"));
        lines.push(ctx.output.paint(Style::Red, &head));
    }
    let is_partial = o.place.as_deref().is_some_and(|place| place.extension() == Some("partial".as_ref()));
    if is_partial && (o.damaged || !mark.complete) {
        lines.push("the file has .partial at the end of its name, since something is missing from it".into());
    }
    lines.join("\n")
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let form = args.form.form(ctx);
    let to_stdout = args.to.as_deref().is_some_and(|to| to == "-");
    if to_stdout && Output::stdout_is_terminal() {
        return Err(CliError::usage("an archive is nothing to look at on a terminal")
            .hint("write it to a file with --to FILE, or into a pipe"));
    }
    let file = args.to.as_deref().filter(|_| !to_stdout).map(|to| global::absolute(Path::new(to)));
    let file = file.transpose()?;
    let place = Place::of(ctx)?;
    let obtained = place.passphrase(ctx)?;
    Form::warn(form, ctx);
    let passphrase = match form {
        ArchiveForm::Openssl => openssl(ctx, Some(&obtained.passphrase))?,
        _ => None,
    };
    let opened = ctx.open_with(&place, obtained, OnSignal::Ask)?;
    let mut stdout = io::stdout().lock();
    let target = match file {
        Some(path) => FullTarget::File(path),
        None if to_stdout => FullTarget::Writer(&mut stdout),
        None => FullTarget::Repository,
    };
    let request = FullExportRequest { snapshot: args.snapshot, form, passphrase, target };
    let exported = opened.stream(|session| app::full_export(session, request))?;
    drop(stdout);
    let Some((info, outcome)) = exported else { return Ok(Status::Done) };
    if to_stdout {
        ctx.output.say(&words(ctx, &info, &outcome));
    } else if ctx.output.json {
        ctx.output.document(&summary(&info, &outcome))?;
    } else {
        ctx.output.summary(&words(ctx, &info, &outcome))?;
    }
    Ok(match (outcome.damaged, outcome.mark.complete) {
        (true, _) => Status::Bad(ErrorClass::Damaged),
        (false, false) => Status::Incomplete,
        (false, true) => Status::Done,
    })
}
