//! `exuvia rollback` and `exuvia undo`.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::Style;
use super::text::{self, JsonFileError, JsonPath};
use super::{snap_path, units};
use crate::app::{
    self, AppError, Change, Profile, RollbackOutcome, RollbackPlan, RollbackRequest, RollbackStep,
    RollbackTo, RolledBack, SnapshotInfo,
};
use crate::model::{Entry, ErrorClass};

/// Lines of the plan shown without -v.
const SHOWN: usize = 40;

/// Make the live state dir exactly as in a snapshot, after a safety snapshot
///
/// Compares the state dir with the snapshot, shows what will change, and asks. Then it takes a safety snapshot,
/// fetches what is missing, puts every file in place in one step each, and looks at the result. `exuvia undo` goes
/// back. What the snapshot's rules leave out (caches, sockets, --exclude) is never touched.
///
/// A database that another program has open gets its old content in one transaction, so that the program sees
/// the old state or the new one. While an OpenClaw gateway runs on the state dir, --live is needed.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia rollback --at 'yesterday 14:00'\n  exuvia rollback latest~3 --path workspace/MEMORY.md\n  exuvia rollback 3f9a0c12 --dry-run\n  exuvia rollback --abort     after a rollback that was interrupted: back to what was there before"
)]
pub(super) struct Args {
    /// The snapshot: latest, latest~N, an id, or a time [default: latest]
    #[arg(value_name = "SNAP")]
    snapshot: Option<String>,

    /// The newest snapshot at or before this time
    #[arg(long, value_name = "TIME", conflicts_with = "snapshot")]
    at: Option<String>,

    /// Only this file or directory; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,

    /// Leave files that the snapshot does not have
    #[arg(long)]
    keep_extra: bool,

    /// Finish a rollback that was interrupted
    #[arg(long = "continue", conflicts_with_all = ["snapshot", "at", "paths", "abort"])]
    resume: bool,

    /// Take back a rollback that was interrupted
    #[arg(long, conflicts_with_all = ["snapshot", "at", "paths"])]
    abort: bool,

    #[command(flatten)]
    how: How,
}

/// Go back to the state before the last rollback
///
/// A rollback to the newest safety snapshot, with a plan, a question, and a safety snapshot of its own: a second
/// `undo` returns.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia undo --dry-run\n  exuvia undo")]
pub(super) struct UndoArgs {
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args, Debug)]
struct How {
    /// Show what would change
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,

    /// Go on although the application runs
    #[arg(long)]
    live: bool,

    /// Restore owner and group; root does so anyway
    #[arg(long)]
    owner: bool,

    /// Make device files
    #[arg(long)]
    devices: bool,
}

/// A line of `--json` for each path of the plan.
#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    change: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    size_before: Option<u64>,
    size_after: Option<u64>,
    database: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    snapshot: String,
    time: String,
    dry_run: bool,
    done: bool,
    safety_snapshot: Option<String>,
    changes: usize,
    unchanged: u64,
    extra: u64,
    files_written: u64,
    bytes_written: u64,
    bytes_local: u64,
    live_databases: Vec<JsonPath>,
    kept: Vec<Kept>,
    written_since: Vec<JsonPath>,
    errors: Vec<JsonFileError<'a>>,
    remote_requests: Option<super::backup::Requests>,
    duration_ms: u64,
}

#[derive(Serialize)]
struct Kept {
    #[serde(flatten)]
    path: JsonPath,
    kept_as: JsonPath,
}

/// What happens to the path, from the user's side.
fn word(step: &RollbackStep) -> (&'static str, &'static str, Style) {
    match step.change {
        // The comparison's new side is what is there.
        Change::Removed => ("+", "restore", Style::Bold),
        Change::Added => ("-", "remove", Style::Red),
        Change::Content => ("M", "content", Style::Bold),
        Change::Type => ("T", "type", Style::Bold),
        Change::Link => ("L", "link", Style::Bold),
        Change::Metadata => ("U", "metadata", Style::Dim),
    }
}

/// A directory whose time alone differs says nothing that other lines do not.
fn says_something(step: &RollbackStep) -> bool {
    step.change != Change::Metadata || !step.want.as_ref().is_some_and(Entry::is_dir)
}

fn line(ctx: &Context, step: &RollbackStep) -> String {
    let (sign, _, style) = word(step);
    let size = |entry: &Option<Entry>| entry.as_ref().filter(|e| e.content().is_some()).map(Entry::size);
    let sizes = match (size(&step.have), size(&step.want)) {
        (Some(before), Some(after)) if before != after => {
            format!("  {} -> {}", units::size(before), units::size(after))
        }
        (_, Some(n)) | (Some(n), None) => format!("  {}", units::size(n)),
        (None, None) => String::new(),
    };
    let database = if step.is_database() { "  database" } else { "" };
    let path = text::show_entry(&step.path);
    let slash = if [&step.want, &step.have].into_iter().flatten().next().is_some_and(Entry::is_dir) {
        "/"
    } else {
        ""
    };
    format!(
        "{} {path}{slash}{}",
        ctx.output.paint(style, sign),
        ctx.output.paint(Style::Dim, &(sizes + database))
    )
}

fn heading(ctx: &Context, info: &SnapshotInfo) -> String {
    let s = &info.snapshot;
    let incomplete = if s.complete { "" } else { ", incomplete" };
    format!(
        "snapshot {} of {}, {} on {}{incomplete}, {}: {}, {}",
        ctx.output.paint(Style::Bold, &info.id.short()),
        units::local(s.time),
        s.reason.name(),
        text::printable(s.host.as_bytes()),
        text::printable(&s.root),
        units::count(s.stats.files, "file"),
        units::size(s.stats.bytes)
    )
}

fn counts(plan: &RollbackPlan) -> String {
    let number =
        |change| plan.steps.iter().filter(|s| s.change == change && says_something(s)).count() as u64;
    let all = plan.steps.iter().filter(|s| says_something(s)).count() as u64;
    let (back, gone) = (number(Change::Removed), number(Change::Added));
    let metadata = number(Change::Metadata);
    let mut words = format!(
        "{} to restore, {} to remove, {} to change ({metadata} in metadata only), {} unchanged; {} to write",
        units::count(back, "path"),
        gone,
        all - back - gone,
        plan.unchanged,
        units::size(plan.bytes())
    );
    if !plan.left_out.is_empty() {
        let count = units::count(plan.left_out.len() as u64, "path");
        words.push_str(&format!("; {count} that a backup would leave out today stay as they are"));
    }
    if plan.extra > 0 {
        words.push_str(&format!("; {} that the snapshot does not have stay", plan.extra));
    }
    words
}

fn show(ctx: &Context, info: &SnapshotInfo, plan: &RollbackPlan) -> Result<(), CliError> {
    if ctx.output.json {
        for step in &plan.steps {
            let size = |entry: &Option<Entry>| entry.as_ref().map(Entry::size);
            ctx.output.document(&Line {
                r#type: "change",
                change: word(step).1,
                path: (&step.path).into(),
                size_before: size(&step.have),
                size_after: size(&step.want),
                database: step.is_database(),
            })?;
        }
        return Ok(());
    }
    let mut lines = vec![heading(ctx, info)];
    let telling: Vec<_> = plan.steps.iter().filter(|step| says_something(step)).collect();
    let shown = if ctx.output.verbose > 0 { telling.len() } else { SHOWN };
    lines.extend(telling.iter().take(shown).map(|step| line(ctx, step)));
    if telling.len() > shown {
        lines.push(format!("... and {} more (-v shows all)", telling.len() - shown));
        let hidden = telling.iter().skip(shown).filter(|step| step.is_database());
        lines.extend(hidden.map(|step| line(ctx, step)));
    }
    lines.push(counts(plan));
    ctx.output.summary(&lines.join("\n"))
}

/// Shows the plan, and asks.
fn agrees(ctx: &Context, how: &How, info: &SnapshotInfo, plan: &RollbackPlan) -> Result<bool, CliError> {
    show(ctx, info, plan)?;
    if how.dry_run || how.yes {
        return Ok(!how.dry_run);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::usage("nobody is there to be asked whether to roll back")
            .hint("--yes rolls back without asking, --dry-run only shows the plan"));
    }
    let mut out = io::stderr().lock();
    let asked = write!(out, "Roll back? A safety snapshot is taken first. [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|e| CliError::failed(format!("cannot ask: {e}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn summary<'a>(how: &How, outcome: &'a RollbackOutcome) -> Summary<'a> {
    let RollbackOutcome { info, plan, done, .. } = outcome;
    let paths = |paths: &[crate::model::RepoPath]| paths.iter().map(Into::into).collect();
    Summary {
        r#type: "summary",
        snapshot: info.id.to_string(),
        time: units::rfc3339(info.snapshot.time),
        dry_run: how.dry_run,
        done: done.is_some(),
        safety_snapshot: done.as_ref().map(|d| d.safety.to_string()),
        changes: done.as_ref().map_or(&plan.steps, |d| &d.plan.steps).len(),
        unchanged: plan.unchanged,
        extra: plan.extra,
        files_written: done.as_ref().map_or(0, |d| d.files_written),
        bytes_written: done.as_ref().map_or(0, |d| d.bytes_written),
        bytes_local: done.as_ref().map_or(0, |d| d.bytes_local),
        live_databases: done.as_ref().map(|d| paths(&d.live_databases)).unwrap_or_default(),
        kept: done
            .iter()
            .flat_map(|d| &d.kept)
            .map(|(path, kept)| Kept { path: path.into(), kept_as: kept.into() })
            .collect(),
        written_since: done.as_ref().map(|d| paths(&d.written_since)).unwrap_or_default(),
        errors: done.iter().flat_map(|d| &d.errors).map(Into::into).collect(),
        remote_requests: done.as_ref().map(|d| d.requests.into()),
        duration_ms: done.as_ref().map_or(0, |d| d.duration_ms),
    }
}

fn report(ctx: &Context, outcome: &RollbackOutcome, done: &RolledBack) -> String {
    let out = &ctx.output;
    let mut lines = Vec::new();
    let info = &outcome.info;
    let written = format!(
        "{} written ({}, of which {} were at hand), {}",
        units::count(done.files_written, "file"),
        units::size(done.bytes_written),
        units::size(done.bytes_local),
        units::duration(done.duration_ms)
    );
    if done.errors.is_empty() {
        let when = units::local(info.snapshot.time);
        lines.push(format!(
            "rolled back to {} of {when}: {written}",
            out.paint(Style::Bold, &info.id.short())
        ));
    } else {
        let count = units::count(done.errors.len() as u64, "path");
        lines.push(out.paint(
            Style::Red,
            &format!("{count} could not be rolled back; the state dir is a mixture until that is done"),
        ));
    }
    for path in &done.live_databases {
        lines.push(format!(
            "{} is in use: its content was replaced in one transaction",
            text::show_entry(path)
        ));
    }
    for (path, kept) in &done.kept {
        lines.push(format!(
            "{} had changed meanwhile; that is kept as {}",
            text::show_entry(path),
            text::show_entry(kept)
        ));
    }
    for path in &done.written_since {
        lines.push(format!("{} has been written again since", text::show_entry(path)));
    }
    let databases = done.plan.steps.iter().any(RollbackStep::is_database);
    if outcome.profile == Profile::OpenClaw && databases && done.errors.is_empty() {
        lines.push(
            "restart OpenClaw: for it this is time travel; leases and outgoing messages are as old as the snapshot, and channels may have to be linked again"
                .to_owned(),
        );
    }
    let safety = out.paint(Style::Bold, &done.safety.short());
    if done.errors.is_empty() {
        lines.push(format!("`exuvia undo` goes back to what was there before (safety snapshot {safety})"));
    } else {
        lines.push(format!("when the reasons are gone, `exuvia rollback --continue` finishes it; `exuvia rollback --abort` goes back to safety snapshot {safety}"));
    }
    lines.join("\n")
}

fn carry_out(ctx: &Context, how: &How, request: &RollbackRequest) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::Ask)?;
    // An error of the question passes through the use case as an interruption.
    let failed = RefCell::new(None);
    let outcome = opened.run(|session| {
        app::rollback(session, request, &mut |info, plan| {
            agrees(ctx, how, info, plan).map_err(|error| {
                *failed.borrow_mut() = Some(error);
                AppError::Interrupted
            })
        })
    });
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let outcome = outcome?;
    for error in outcome.done.iter().flat_map(|done| &done.errors) {
        ctx.output.line(super::output::Level::Error, Some(&error.path), &error.message);
    }
    if ctx.output.json {
        ctx.output.document(&summary(how, &outcome))?;
    } else if let Some(done) = &outcome.done {
        ctx.output.summary(&report(ctx, &outcome, done))?;
    } else if outcome.plan.is_empty() {
        let words = format!(
            "{}\nthe state dir is as it was then: there is nothing to do",
            heading(ctx, &outcome.info)
        );
        ctx.output.summary(&words)?;
    } else if !how.dry_run {
        ctx.output.say("nothing was changed");
    }
    Ok(match &outcome.done {
        Some(done) if !done.errors.is_empty() => Status::Bad(ErrorClass::Failed),
        _ => Status::Done,
    })
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let paths = args.paths.iter().map(|path| snap_path::parse(ctx, path)).collect::<Result<_, _>>()?;
    let to = match (args.resume, args.abort, args.at, args.snapshot) {
        (true, ..) => RollbackTo::Continue,
        (_, true, ..) => RollbackTo::Abort,
        (_, _, Some(time), _) => RollbackTo::At(time),
        (.., snapshot) => RollbackTo::Snapshot(snapshot.unwrap_or_else(|| "latest".to_owned())),
    };
    let request = request(ctx, &args.how, to, paths, args.keep_extra)?;
    carry_out(ctx, &args.how, &request)
}

pub(super) fn undo(args: &UndoArgs, ctx: &Context) -> Result<Status, CliError> {
    let request = request(ctx, &args.how, RollbackTo::Undo, Vec::new(), false)?;
    carry_out(ctx, &args.how, &request)
}

fn request(
    ctx: &Context,
    how: &How,
    to: RollbackTo,
    paths: Vec<crate::model::RepoPath>,
    keep_extra: bool,
) -> Result<RollbackRequest, CliError> {
    Ok(RollbackRequest {
        state_dir: ctx.state_dir()?,
        to,
        paths,
        keep_extra,
        dry_run: how.dry_run,
        live: how.live,
        owner: how.owner,
        devices: how.devices,
    })
}

/// Says that a rollback of the state dir is unfinished, whatever else is about to be done.
pub(super) fn warn_of_unfinished(ctx: &Context) {
    let Ok(state_dir) = ctx.state_dir() else { return };
    match app::unfinished_rollback(&state_dir) {
        Ok(None) => {}
        Ok(Some(journal)) => ctx.output.warn(&format!(
            "a rollback of {} to snapshot {} was interrupted, and what is there is a mixture; `exuvia rollback --continue` finishes it, `exuvia rollback --abort` takes it back",
            text::show(&state_dir),
            journal.target.short()
        )),
        Err(error) => ctx.output.warn(&error.to_string()),
    }
}
