//! `exuvia snapshots`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::{Style, Table};
use super::{text, units};
use crate::app::{self, SnapshotInfo};
use crate::model::SnapshotKind;

/// List snapshots, oldest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia snapshots\n  exuvia snapshots --json | jq -r '.[-1].id'")]
pub(super) struct Args {
    /// Safety snapshots too, which are taken before live state is overwritten
    #[arg(long)]
    safety: bool,
}

/// A snapshot as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    time: String,
    host: &'a str,
    kind: &'static str,
    tags: &'a [String],
    reason: &'static str,
    paths: Vec<String>,
    /// The same paths exactly, when one of them is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_base64: Option<Vec<String>>,
    files: u64,
    bytes: u64,
    complete: bool,
    user: &'a str,
    program: &'a str,
    parent: Option<String>,
    dirs: u64,
    errors: u64,
    sqlite_databases: usize,
    bytes_added_stored: u64,
    duration_ms: u64,
}

impl<'a> From<&'a SnapshotInfo> for Row<'a> {
    fn from(info: &'a SnapshotInfo) -> Self {
        let s = &info.snapshot;
        let exact = s.paths.iter().any(|path| std::str::from_utf8(path).is_err());
        Self {
            id: info.id.to_string(),
            time: units::rfc3339(s.time),
            host: &s.host,
            kind: kind(s.kind),
            tags: &s.tags,
            reason: s.reason.name(),
            paths: s.paths.iter().map(|path| text::lossy(path).0).collect(),
            paths_base64: exact
                .then(|| s.paths.iter().map(|path| data_encoding::BASE64.encode(path)).collect()),
            files: s.stats.files,
            bytes: s.stats.bytes,
            complete: s.complete,
            user: &s.user,
            program: &s.program,
            parent: s.parent.map(|id| id.to_string()),
            dirs: s.stats.dirs,
            errors: s.error_count,
            sqlite_databases: s.databases.len(),
            bytes_added_stored: s.stats.bytes_added_stored,
            duration_ms: s.stats.duration_ms,
        }
    }
}

fn kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Regular => "regular",
        SnapshotKind::Safety => "safety",
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::End)?;
    let list = opened.run(|session| app::snapshots(session, args.safety))?;
    if ctx.output.json {
        ctx.output.document(&list.iter().map(Row::from).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    if list.is_empty() {
        ctx.output.say("there are no snapshots yet; `exuvia backup` takes one");
        return Ok(Status::Done);
    }
    let mut table =
        Table::new(&["ID", "TIME", "HOST", "FILES", "SIZE", "REASON", "TAGS", "PATHS", ""], &[3, 4]);
    for info in &list {
        let s = &info.snapshot;
        let paths: Vec<String> = s.paths.iter().map(|path| text::printable(path)).collect();
        table.row(vec![
            info.id.short(),
            units::local(s.time),
            text::printable(s.host.as_bytes()),
            s.stats.files.to_string(),
            units::size(s.stats.bytes),
            s.reason.name().to_owned(),
            text::printable(s.tags.join(",").as_bytes()),
            paths.join(" "),
            if s.complete { String::new() } else { "incomplete".to_owned() },
        ]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    let total = units::count(list.len() as u64, "snapshot");
    ctx.output.summary(&ctx.output.paint(Style::Dim, &total))?;
    Ok(Status::Done)
}
