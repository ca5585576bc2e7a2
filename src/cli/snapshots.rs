//! `exuvia snapshots`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{Context, Opened};
use super::interrupt::OnSignal;
use super::output::{Style, Table};
use super::{losses, text, units, vanished};
use crate::app::{self, CatalogEntry, Listing, SnapshotInfo};
use crate::model::{SnapshotKind, Timestamp};

/// List snapshots, oldest first
///
/// `shrunk` marks a snapshot that has much less than the one before it. It and the one before are kept, whatever is
/// forgotten, until --accept says that the loss was meant.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia snapshots\n  exuvia snapshots --safety\n  exuvia snapshots --accept 3f9a1c20\n  exuvia snapshots --json | jq -r '.[-1].id'"
)]
pub(super) struct Args {
    /// Safety snapshots instead, which are taken before live state is overwritten
    #[arg(long, conflicts_with = "accept")]
    safety: bool,

    /// Accept what this marked snapshot lost; may be given several times
    #[arg(long, value_name = "ID")]
    accept: Vec<String>,
}

/// The last line of `--accept --json`.
#[derive(Serialize)]
struct Accepted {
    r#type: &'static str,
    action: &'static str,
    snapshots: Vec<String>,
    /// Those that nobody had accepted before.
    accepted: Vec<String>,
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
    /// What it lost against its parent, when that is alarming.
    alarm: Vec<losses::JsonLoss>,
    /// Whether somebody accepted that; none where there is nothing to accept.
    accepted: Option<bool>,
    /// Id of the writer key that made it, if it was none of an owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer_key: Option<String>,
}

impl<'a> Row<'a> {
    fn of(info: &'a SnapshotInfo, listing: &Listing) -> Self {
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
            alarm: losses::json(s),
            accepted: s.is_marked().then(|| !listing.is_open(info)),
            writer_key: listing.writers.get(&info.id).map(ToString::to_string),
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
    if !args.accept.is_empty() {
        return accept(ctx, &opened, &args.accept);
    }
    let listing = opened.run(|session| app::listing(session, args.safety))?;
    if !listing.sealed.is_empty() {
        let kind = if args.safety { SnapshotKind::Safety } else { SnapshotKind::Regular };
        return sealed(ctx, &listing.sealed, kind);
    }
    if !listing.vanished.is_empty() {
        ctx.output.warn(&vanished::words(&listing.vanished));
    }
    let list = &listing.snapshots;
    if ctx.output.json {
        ctx.output.document(&list.iter().map(|info| Row::of(info, &listing)).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    if list.is_empty() {
        ctx.output.say(if args.safety {
            "there are no safety snapshots"
        } else {
            "there are no snapshots yet; `exuvia backup` takes one"
        });
        return Ok(Status::Done);
    }
    let mut table =
        Table::new(&["ID", "TIME", "HOST", "FILES", "SIZE", "REASON", "TAGS", "PATHS", ""], &[3, 4]);
    for info in list {
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
            remarks(info, &listing),
        ]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    let total = units::count(list.len() as u64, "snapshot");
    ctx.output.summary(&ctx.output.paint(Style::Dim, &total))?;
    Ok(Status::Done)
}

/// A snapshot as a writer key sees it: of the other fields nothing is known.
#[derive(Serialize)]
struct SealedRow {
    id: String,
    time: String,
    kind: &'static str,
    sealed: bool,
    host: Option<()>,
    tags: Option<()>,
    reason: Option<()>,
    paths: Option<()>,
    files: Option<()>,
    bytes: Option<()>,
    complete: Option<()>,
}

impl SealedRow {
    fn of(entry: &CatalogEntry, of: SnapshotKind) -> Self {
        Self {
            id: entry.id.to_string(),
            time: units::rfc3339(Timestamp::from_secs(entry.time)),
            kind: kind(of),
            sealed: true,
            host: None,
            tags: None,
            reason: None,
            paths: None,
            files: None,
            bytes: None,
            complete: None,
        }
    }
}

fn sealed(ctx: &Context, list: &[CatalogEntry], kind: SnapshotKind) -> Result<Status, CliError> {
    if ctx.output.json {
        ctx.output.document(&list.iter().map(|entry| SealedRow::of(entry, kind)).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    let mut table = Table::new(&["ID", "TIME", ""], &[]);
    for entry in list {
        let time = units::local(Timestamp::from_secs(entry.time));
        table.row(vec![entry.id.short(), time, "sealed".to_owned()]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    let total = units::count(list.len() as u64, "snapshot");
    ctx.output.summary(&ctx.output.paint(Style::Dim, &total))?;
    ctx.output.say("a writer key adds snapshots and reads none; an owner key shows what is in them");
    Ok(Status::Done)
}

/// What is not as it should be.
fn remarks(info: &SnapshotInfo, listing: &Listing) -> String {
    let by = listing.writers.get(&info.id).map(|writer| format!("by writer key {}", writer.short()));
    let mut remarks = Vec::from_iter(by.as_deref());
    if !info.snapshot.complete {
        remarks.push("incomplete");
    }
    if info.snapshot.is_marked() {
        remarks.push(if listing.is_open(info) { "shrunk" } else { "shrunk (accepted)" });
    }
    remarks.join(", ")
}

fn accept(ctx: &Context, opened: &Opened, words: &[String]) -> Result<Status, CliError> {
    let (found, fresh) = opened.run(|session| app::accept(session, words))?;
    if ctx.output.json {
        ctx.output.document(&Accepted {
            r#type: "summary",
            action: "accepted",
            snapshots: found.iter().map(|info| info.id.to_string()).collect(),
            accepted: fresh.iter().map(ToString::to_string).collect(),
        })?;
        return Ok(Status::Done);
    }
    for info in &found {
        let was = if fresh.contains(&info.id) { "accepted" } else { "accepted already" };
        let lost = losses::words(&info.snapshot).join("; ");
        ctx.output.summary(&format!("{was}: snapshot {} ({lost})", info.id.short()))?;
    }
    Ok(Status::Done)
}
