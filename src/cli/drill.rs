//! `exuvia drill`.

use std::path::PathBuf;

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{self, Context};
use super::interrupt::OnSignal;
use super::output::Style;
use super::{text, units};
use crate::app::{self, DrillRequest};
use crate::model::{DrillResult, ErrorClass, Verdict};

/// Restore a snapshot for practice, and check everything
///
/// Restores the snapshot into a scratch folder that only you can read, reads every file again and compares it with the
/// snapshot, has SQLite check every database, compares the counts with the snapshot's record, and takes the folder
/// away. Live data is not touched. `exuvia status` shows how the last drill ended.
///
/// The disk must have room for the snapshot. Exit code 13 means that the backup is damaged.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia drill\n  exuvia drill latest~3\n  exuvia drill --scratch /mnt/space --json"
)]
pub(super) struct Args {
    /// The snapshot: latest, latest~N, an id, or a time
    #[arg(value_name = "SNAP", default_value = "latest")]
    snapshot: String,

    /// The folder in which the scratch folder is made [default: the one that holds the state dir]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// The last line of `--json`, and `last_drill` of `status`.
#[derive(Serialize)]
pub(super) struct JsonDrill<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    ok: bool,
    /// `good`, `failed` (for a reason that lies in this machine) or `damaged`.
    verdict: &'static str,
    time: String,
    snapshot: String,
    snapshot_time: String,
    files: u64,
    dirs: u64,
    bytes: u64,
    databases_checked: u64,
    /// The first of them.
    problems: &'a [String],
    problem_count: u64,
    duration_ms: u64,
}

impl<'a> From<&'a DrillResult> for JsonDrill<'a> {
    fn from(drill: &'a DrillResult) -> Self {
        Self {
            r#type: None,
            ok: drill.verdict == Verdict::Good,
            verdict: drill.verdict.name(),
            time: units::rfc3339(drill.time),
            snapshot: drill.snapshot.to_string(),
            snapshot_time: units::rfc3339(drill.snapshot_time),
            files: drill.files,
            dirs: drill.dirs,
            bytes: drill.bytes,
            databases_checked: drill.databases,
            problems: &drill.problems,
            problem_count: drill.problem_count,
            duration_ms: drill.duration_ms,
        }
    }
}

fn words(ctx: &Context, drill: &DrillResult) -> String {
    let id = ctx.output.paint(Style::Bold, &drill.snapshot.short());
    let of = units::local(drill.snapshot_time);
    let mut lines = vec![match drill.verdict {
        Verdict::Good => format!("good: snapshot {id} of {of} came back whole"),
        Verdict::Failed | Verdict::Damaged => {
            let count = units::count(drill.problem_count, "problem");
            let head = ctx.output.paint(Style::Red, &count);
            format!("{head}: snapshot {id} of {of} did not come back whole")
        }
    }];
    lines.push(format!(
        "{} in {}, {}, {} checked and good, {}",
        units::count(drill.files, "file"),
        units::count(drill.dirs, "folder"),
        units::size(drill.bytes),
        units::count(drill.databases, "database"),
        units::duration(drill.duration_ms)
    ));
    lines.extend(drill.problems.iter().map(|problem| format!("  {}", text::printable(problem.as_bytes()))));
    if let Some(more) = drill.problem_count.checked_sub(drill.problems.len() as u64).filter(|n| *n > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let scratch = args.scratch.as_deref().map(global::absolute).transpose()?;
    let request = DrillRequest { snapshot: args.snapshot, scratch, state_dir: ctx.state_dir()? };
    let opened = ctx.open(OnSignal::Ask)?;
    let drill = opened.run(|session| app::drill(session, &request))?;
    if ctx.output.json {
        ctx.output.document(&JsonDrill { r#type: Some("summary"), ..(&drill).into() })?;
    } else {
        ctx.output.summary(&words(ctx, &drill))?;
    }
    Ok(match drill.verdict {
        Verdict::Good => Status::Done,
        Verdict::Failed => Status::Bad(ErrorClass::Failed),
        Verdict::Damaged => Status::Bad(ErrorClass::Damaged),
    })
}
