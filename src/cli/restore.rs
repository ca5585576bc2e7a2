//! `exuvia restore`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{self, Context};
use super::interrupt::OnSignal;
use super::output::Style;
use super::text::{self, JsonFileError};
use super::{snap_path, sources, units};
use crate::app::{self, RestoreOutcome, RestoreRequest, SnapshotInfo};
use crate::model::ErrorClass;

/// Put a snapshot, or parts of it, into a directory
///
/// Without --to, a new folder .exuvia-restore/SNAP beside the state dir receives it: live data is touched only
/// if --to says so. There, files that are the same already are left alone, files that differ are overwritten,
/// and other files stay.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia restore\n  exuvia restore 'yesterday' --path memory --path openclaw.json\n  exuvia restore latest~2 --to /tmp/look --verify"
)]
pub(super) struct Args {
    /// The snapshot: latest, latest~N, an id, or a time
    #[arg(value_name = "SNAP", default_value = "latest")]
    snapshot: String,

    #[command(flatten)]
    sources: sources::Args,

    /// The directory to write to [default: .exuvia-restore/SNAP beside the state dir]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,

    /// Only this file or directory of the snapshot; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,

    /// Show what would be written
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Compare content, not just sizes and times; read everything again afterwards; check databases
    #[arg(long)]
    verify: bool,

    /// Restore owner and group, which mostly takes root's rights
    #[arg(long)]
    owner: bool,

    /// Keep set-user-id and set-group-id bits
    #[arg(long)]
    set_id: bool,

    /// Make device files
    #[arg(long)]
    devices: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    snapshot: String,
    time: String,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    dry_run: bool,
    files: u64,
    dirs: u64,
    others: u64,
    files_written: u64,
    files_unchanged: u64,
    bytes_written: u64,
    databases_checked: u64,
    errors: Vec<JsonFileError<'a>>,
    damaged: bool,
    moved_aside: Vec<Moved>,
    duration_ms: u64,
}

#[derive(Serialize)]
struct Moved {
    #[serde(flatten)]
    path: text::JsonPath,
    moved_to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to_base64: Option<String>,
}

fn summary<'a>(info: &SnapshotInfo, o: &'a RestoreOutcome, dry_run: bool) -> Summary<'a> {
    let (target, target_base64) = text::lossy(o.target.as_os_str().as_bytes());
    let moved = |(from, to): &(PathBuf, PathBuf)| {
        let (moved_to, moved_to_base64) = text::lossy(to.as_os_str().as_bytes());
        Moved { path: from.as_os_str().as_bytes().into(), moved_to, moved_to_base64 }
    };
    Summary {
        r#type: "summary",
        snapshot: info.id.to_string(),
        time: units::rfc3339(info.snapshot.time),
        target,
        target_base64,
        dry_run,
        files: o.files,
        dirs: o.dirs,
        others: o.others,
        files_written: o.files_written,
        files_unchanged: o.files_unchanged,
        bytes_written: o.bytes_written,
        databases_checked: o.databases_checked,
        errors: o.errors.iter().map(Into::into).collect(),
        damaged: o.damaged,
        moved_aside: o.moved_aside.iter().map(moved).collect(),
        duration_ms: o.duration_ms,
    }
}

fn words(ctx: &Context, info: &SnapshotInfo, o: &RestoreOutcome, dry_run: bool) -> String {
    let mut lines = vec![format!(
        "{} {} of {} {} {}",
        if dry_run { "dry run: snapshot" } else { "restored snapshot" },
        ctx.output.paint(Style::Bold, &info.id.short()),
        units::local(info.snapshot.time),
        if dry_run { "would go to" } else { "to" },
        text::show(&o.target)
    )];
    lines.push(format!(
        "{}: {} {}, {} there already, {}, {}",
        units::count(o.files, "file"),
        o.files_written,
        if dry_run { "to write" } else { "written" },
        o.files_unchanged,
        units::size(o.bytes_written),
        units::duration(o.duration_ms)
    ));
    if o.databases_checked > 0 {
        lines.push(format!("{} checked and good", units::count(o.databases_checked, "database")));
    }
    if !info.snapshot.complete {
        let count = units::count(info.snapshot.error_count, "file");
        lines.push(format!("the snapshot is incomplete: {count} could not be read when it was taken"));
    }
    for (from, to) in &o.moved_aside {
        lines.push(format!("moved aside: {} to {}", text::show(from), text::show(to)));
    }
    if !o.errors.is_empty() {
        let count = units::count(o.errors.len() as u64, "path");
        let why = if o.damaged { "; the repository is damaged" } else { "" };
        lines.push(ctx.output.paint(Style::Red, &format!("{count} could not be restored{why}")));
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
    let sources = args.sources.sources()?;
    let mut request = RestoreRequest {
        snapshot: args.snapshot,
        target,
        state_dir,
        paths,
        dry_run: args.dry_run,
        verify: args.verify,
        owner: args.owner,
        set_id: args.set_id,
        devices: args.devices,
    };
    let opened = ctx.open(OnSignal::Ask)?;
    let (info, outcome) = opened.run(|session| {
        request.snapshot = app::resolve(session, &request.snapshot, &sources)?;
        app::restore(session, &request)
    })?;
    if ctx.output.json {
        ctx.output.document(&summary(&info, &outcome, args.dry_run))?;
    } else {
        ctx.output.summary(&words(ctx, &info, &outcome, args.dry_run))?;
    }
    Ok(status(&outcome))
}

fn status(o: &RestoreOutcome) -> Status {
    match (o.damaged, o.errors.is_empty()) {
        (true, _) => Status::Bad(ErrorClass::Damaged),
        (false, false) => Status::Bad(ErrorClass::Failed),
        (false, true) => Status::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FileError, RepoPath};

    #[test]
    fn damage_weighs_more_than_other_errors() {
        let error = FileError { path: RepoPath::root(), message: String::new() };
        let outcome = |damaged, errors| RestoreOutcome { damaged, errors, ..RestoreOutcome::default() };
        assert_eq!(status(&outcome(false, vec![])).code(), 0);
        assert_eq!(status(&outcome(false, vec![error.clone()])).code(), 1);
        assert_eq!(status(&outcome(true, vec![error])).code(), 13);
    }
}
