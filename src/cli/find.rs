//! `exuvia find`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::ls::{kind, line_name};
use super::output::{self, Output, Style};
use super::text::{self, JsonPath};
use super::{snap_path, units};
use crate::app::{self, FindOutcome, FindRequest, FoundTree, Version};
use crate::model::{Capture, ErrorClass};

/// Find every version of a path in all snapshots
///
/// PATTERN is in gitignore's syntax: with a / in it, it is matched against the whole path; without, against
/// the name at any depth; with a / at its end it fits directories only. A version is the same content in
/// snapshots that follow one another: its size, the file's time, how many snapshots have it, the first and
/// the last.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia find today.md\n  exuvia find 'memory/**/*.md' --since '2 weeks ago'\n  exuvia find openclaw.json --safety --json | jq '.[].versions[].first.id'"
)]
pub(super) struct Args {
    /// What to look for
    #[arg(value_name = "PATTERN")]
    pattern: String,

    /// Large and small letters are the same
    #[arg(short, long)]
    ignore_case: bool,

    /// Only in this directory; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,

    /// Only in this snapshot; may be given several times
    #[arg(long = "snapshot", value_name = "SNAP")]
    snapshots: Vec<String>,

    /// Only from this snapshot on; a time means the newest one at or before it
    #[arg(long, value_name = "SNAP", conflicts_with = "snapshots")]
    since: Option<String>,

    /// In safety snapshots too
    #[arg(long)]
    safety: bool,
}

/// A path that was found, as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    path: JsonPath,
    host: &'a str,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_base64: Option<String>,
    versions: Vec<RowVersion>,
}

#[derive(Serialize)]
struct RowVersion {
    r#type: &'static str,
    size: u64,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlite: Option<bool>,
    snapshots: usize,
    first: Option<RowMoment>,
    last: Option<RowMoment>,
}

#[derive(Serialize)]
struct RowMoment {
    id: String,
    time: String,
}

fn moment(tree: &FoundTree, at: usize) -> Option<RowMoment> {
    tree.snapshots.get(at).map(|m| RowMoment { id: m.id.to_string(), time: units::rfc3339(m.time) })
}

fn row_version(tree: &FoundTree, version: &Version) -> RowVersion {
    let entry = &version.entry;
    RowVersion {
        r#type: kind(&entry.kind).1,
        size: entry.size(),
        mtime: units::rfc3339(entry.meta.mtime),
        sqlite: entry.content().map(|content| matches!(content.capture, Capture::Sqlite { .. })),
        snapshots: version.snapshots(),
        first: moment(tree, version.first),
        last: moment(tree, version.last),
    }
}

fn rows(tree: &FoundTree) -> impl Iterator<Item = Row<'_>> {
    tree.found.iter().map(|(path, versions)| {
        let (root, root_base64) = text::lossy(&tree.root);
        Row {
            path: path.into(),
            host: &tree.host,
            root,
            root_base64,
            versions: versions.iter().map(|version| row_version(tree, version)).collect(),
        }
    })
}

/// `cdf46cf3 2026-11-20 10:00:00`.
fn named(tree: &FoundTree, at: usize) -> String {
    tree.snapshots.get(at).map_or_else(String::new, |m| format!("{} {}", m.id.short(), units::local(m.time)))
}

/// One line for people.
fn line(tree: &FoundTree, version: &Version) -> String {
    let entry = &version.entry;
    let what = match entry.content() {
        Some(content) => units::size(content.size),
        None => kind(&entry.kind).1.to_owned(),
    };
    let snapshots = units::count(version.snapshots() as u64, "snapshot");
    let seen = match version.snapshots() {
        1 => named(tree, version.first),
        _ => format!("{} to {}", named(tree, version.first), named(tree, version.last)),
    };
    format!("  {}  {what:>10}  {snapshots}: {seen}", units::local(entry.meta.mtime))
}

fn write(outcome: &FindOutcome, out: &mut dyn Write, terminal: bool) -> io::Result<()> {
    for tree in &outcome.trees {
        if outcome.trees.len() > 1 {
            let host = text::printable(tree.host.as_bytes());
            writeln!(out, "in {} of {host}:", text::printable(&tree.root))?;
        }
        for (path, versions) in &tree.found {
            out.write_all(&line_name(path, terminal))?;
            out.write_all(b"\n")?;
            for version in versions {
                writeln!(out, "{}", line(tree, version))?;
            }
        }
    }
    out.flush()
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let paths = args.paths.iter().map(|path| snap_path::parse(ctx, path)).collect::<Result<_, _>>()?;
    let request = FindRequest {
        pattern: args.pattern,
        ignore_case: args.ignore_case,
        paths,
        snapshots: args.snapshots,
        since: args.since,
        safety: args.safety,
    };
    let opened = ctx.open(OnSignal::End)?;
    let outcome = opened.run(|session| app::find(session, &request))?;
    if ctx.output.json {
        ctx.output.document(&outcome.trees.iter().flat_map(rows).collect::<Vec<_>>())?;
    } else {
        let mut out = BufWriter::new(io::stdout().lock());
        output::written(write(&outcome, &mut out, Output::stdout_is_terminal()))?;
        drop(out);
        let found: usize = outcome.trees.iter().map(|tree| tree.found.len()).sum();
        let versions: usize = outcome.trees.iter().flat_map(|tree| tree.found.values()).map(Vec::len).sum();
        let words = format!(
            "{}, {}, in {}",
            units::count(found as u64, "path"),
            units::count(versions as u64, "version"),
            units::count(outcome.snapshots, "snapshot")
        );
        ctx.output.summary(&ctx.output.paint(Style::Dim, &words))?;
    }
    Ok(if outcome.damaged == 0 { Status::Done } else { Status::Bad(ErrorClass::Damaged) })
}
