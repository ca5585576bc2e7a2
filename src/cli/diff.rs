//! `exuvia diff`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::ls::{kind, line_name};
use super::output::{self, Output, Style};
use super::settings::{self, Origin};
use super::text::{self, JsonFileError, JsonPath};
use super::{snap_path, sources, units};
use crate::app::{
    self, Change, DatabaseDifferences, DiffOptions, DiffOutcome, DiffRequest, DiffSummary, Difference, Patch,
    RowCounts, SchemaChange, TableDifference,
};
use crate::model::{Entry, EntryKind, ErrorClass};

/// Show what differs between a snapshot and the live directory, or between two snapshots
///
/// One line for each path: + only the new side has it, - only the old one, M other content, T another type,
/// L hard links that parted or met, U other mode, owner, time or attributes. Of a database, the tables that
/// differ and how many rows. The live directory is the one that the snapshot was taken of, unless
/// --state-dir names another; what the snapshot's options leave out is left out here too.
///
/// Exits with 0 whether or not there are differences, unless --exit-code is given; with 3 when live files
/// could not be read.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia diff                                # what changed since the newest snapshot\n  exuvia diff yesterday --path memory --patch\n  exuvia diff latest~1 latest --metadata"
)]
pub(super) struct Args {
    /// The old side: latest, latest~N, an id, or a time
    #[arg(value_name = "SNAP", default_value = "latest")]
    old: String,

    /// The new side [default: the live directory]
    #[arg(value_name = "SNAP")]
    new: Option<String>,

    #[command(flatten)]
    sources: sources::Args,

    /// Only this file or directory; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,

    /// Show the lines that differ, of text files up to 4 MiB
    #[arg(short, long)]
    patch: bool,

    /// Show paths of which only mode, owner, time or extended attributes differ
    #[arg(long)]
    metadata: bool,

    /// Do not look into databases
    #[arg(long)]
    no_tables: bool,

    /// Show only the summary
    #[arg(long, conflicts_with = "patch")]
    stat: bool,

    /// Exit with 1 if there are differences
    #[arg(long)]
    exit_code: bool,
}

/// The letter that stands for a change, and its name in JSON.
fn mark(change: Change) -> (char, &'static str) {
    match change {
        Change::Added => ('+', "added"),
        Change::Removed => ('-', "removed"),
        Change::Content => ('M', "content"),
        Change::Type => ('T', "type"),
        Change::Link => ('L', "link"),
        Change::Metadata => ('U', "metadata"),
    }
}

/// A path that differs, as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    change: &'static str,
    old: Option<Side>,
    new: Option<Side>,
    database: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    metadata: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<Vec<Table<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<Vec<Object<'a>>>,
    /// Why there are no tables, or no patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<bool>,
}

#[derive(Serialize)]
struct Side {
    r#type: &'static str,
    size: u64,
    mtime: String,
}

#[derive(Serialize)]
struct Table<'a> {
    name: &'a str,
    schema: Option<&'static str>,
    internal: bool,
    rows_added: Option<u64>,
    rows_removed: Option<u64>,
    rows_changed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Object<'a> {
    kind: &'static str,
    name: &'a str,
    schema: Option<&'static str>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    old: String,
    new: Option<String>,
    live: Option<JsonPath>,
    identical: bool,
    added: u64,
    removed: u64,
    changed: u64,
    types: u64,
    links: u64,
    metadata: u64,
    databases: u64,
    bytes_added: u64,
    bytes_removed: u64,
    bytes_before: u64,
    bytes_after: u64,
    errors: Vec<JsonFileError<'a>>,
}

impl From<&Entry> for Side {
    fn from(entry: &Entry) -> Self {
        Self { r#type: kind(&entry.kind).1, size: entry.size(), mtime: units::rfc3339(entry.meta.mtime) }
    }
}

fn schema(change: SchemaChange) -> Option<&'static str> {
    match change {
        SchemaChange::Added => Some("added"),
        SchemaChange::Removed => Some("removed"),
        SchemaChange::Altered => Some("altered"),
        SchemaChange::Same => None,
    }
}

impl<'a> From<&'a TableDifference> for Table<'a> {
    fn from(table: &'a TableDifference) -> Self {
        let count = |count: fn(&RowCounts) -> u64| table.rows.as_ref().ok().map(count);
        Self {
            name: &table.name,
            schema: schema(table.schema),
            internal: table.internal,
            rows_added: count(|rows| rows.added),
            rows_removed: count(|rows| rows.removed),
            rows_changed: count(|rows| rows.changed),
            reason: table.rows.as_ref().err().map(String::as_str),
        }
    }
}

impl<'a> From<&'a Difference> for Row<'a> {
    fn from(d: &'a Difference) -> Self {
        let tables = d.tables.as_ref().and_then(|tables| tables.as_ref().ok());
        let object =
            |o: &'a app::ObjectDifference| Object { kind: o.kind, name: &o.name, schema: schema(o.schema) };
        let (patch, patch_base64) = match &d.patch {
            Some(Patch::Text(text)) => {
                let (text, exact) = text::lossy(text);
                (Some(text), exact)
            }
            _ => (None, None),
        };
        let reason = match (&d.tables, &d.patch) {
            (Some(Err(reason)), _) | (_, Some(Patch::Unreadable(reason))) => Some(reason.as_str()),
            _ => None,
        };
        Self {
            r#type: "change",
            path: d.path().into(),
            change: mark(d.change).1,
            old: d.old.as_ref().map(Into::into),
            new: d.new.as_ref().map(Into::into),
            database: d.is_database(),
            metadata: &d.metadata,
            tables: tables.map(|tables| tables.tables.iter().map(Into::into).collect()),
            objects: tables.map(|tables| tables.objects.iter().map(object).collect()),
            reason,
            patch,
            patch_base64,
            binary: d.patch.as_ref().map(|patch| *patch == Patch::Binary),
        }
    }
}

fn summary<'a>(outcome: &'a DiffOutcome, metadata: bool) -> Summary<'a> {
    let s = &outcome.summary;
    Summary {
        r#type: "summary",
        old: outcome.old.id.to_string(),
        new: outcome.new.as_ref().map(|info| info.id.to_string()),
        live: outcome.live.as_deref().map(Into::into),
        identical: s.told(metadata) == 0,
        added: s.added,
        removed: s.removed,
        changed: s.changed,
        types: s.types,
        links: s.links,
        metadata: s.metadata,
        databases: s.databases,
        bytes_added: s.bytes_added,
        bytes_removed: s.bytes_removed,
        bytes_before: s.bytes_before,
        bytes_after: s.bytes_after,
        errors: s.errors.iter().map(Into::into).collect(),
    }
}

/// How the words of one difference are written.
#[derive(Clone, Copy)]
struct Look {
    /// A person reads it: nothing from outside may steer the terminal.
    terminal: bool,
    /// Tables that hold the data of virtual ones too.
    internal: bool,
}

/// What a path is or was, beside its name.
fn size(entry: &Entry) -> String {
    match &entry.kind {
        EntryKind::File(content) => units::size(content.size),
        EntryKind::Symlink(target) => format!("-> {}", text::printable(target)),
        other => kind(other).1.to_owned(),
    }
}

fn line(d: &Difference, look: Look) -> Vec<u8> {
    let mut out = vec![mark(d.change).0 as u8, b' ', b' '];
    out.extend_from_slice(&line_name(d.path(), look.terminal));
    let directory = |entry: &Option<Entry>| entry.as_ref().is_some_and(Entry::is_dir);
    let words = match (&d.old, &d.new) {
        (Some(old), Some(new)) => match d.change {
            Change::Metadata => d.metadata.join(", "),
            Change::Link => "linked otherwise".to_owned(),
            Change::Type => format!("{}, now {}", kind(&old.kind).1, kind(&new.kind).1),
            Change::Added | Change::Removed | Change::Content => format!("{}, now {}", size(old), size(new)),
        },
        (Some(entry), None) | (None, Some(entry)) if !entry.is_dir() => size(entry),
        _ => String::new(),
    };
    if directory(&d.old) && directory(&d.new) || words.is_empty() {
        out.push(b'/');
    }
    for words in [words.as_str(), if d.is_database() { "database" } else { "" }] {
        if !words.is_empty() {
            out.extend_from_slice(format!("  {words}").as_bytes());
        }
    }
    out.push(b'\n');
    out
}

fn rows(rows: &RowCounts) -> String {
    let counted = [(rows.added, "added"), (rows.removed, "removed"), (rows.changed, "changed")];
    let words: Vec<_> = counted
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{} {what}", units::count(*n, "row")))
        .collect();
    words.join(", ")
}

fn table_lines(differences: &DatabaseDifferences, look: Look) -> Vec<String> {
    let show = |name: &str| text::printable(name.as_bytes());
    let (mut lines, mut hidden) = (Vec::new(), 0u64);
    for table in &differences.tables {
        if table.internal && !look.internal {
            hidden += 1;
            continue;
        }
        let rows = match &table.rows {
            Ok(counts) => rows(counts),
            Err(reason) => format!("not compared: {}", show(reason)),
        };
        let words = [schema(table.schema).unwrap_or_default(), &rows];
        let words: Vec<_> = words.into_iter().filter(|words| !words.is_empty()).collect();
        lines.push(format!("table {}: {}", show(&table.name), words.join(", ")));
    }
    for object in &differences.objects {
        let how = schema(object.schema).unwrap_or("altered");
        lines.push(format!("{} {}: {how}", object.kind, show(&object.name)));
    }
    if lines.is_empty() && hidden == 0 {
        lines.push("no row differs".to_owned());
    }
    if hidden > 0 {
        let tables = units::count(hidden, "table");
        lines.push(format!("{tables} of virtual tables and SQLite's own (-v shows them)"));
    }
    lines
}

/// The lines of a patch, for a person with what would steer the terminal escaped.
fn patch_lines(hunks: &[u8], look: Look) -> Vec<u8> {
    if !look.terminal {
        return hunks.to_vec();
    }
    let mut out = Vec::with_capacity(hunks.len());
    for line in hunks.split_inclusive(|&b| b == b'\n') {
        let (text, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |text| (text, b"\n"));
        for (n, part) in text.split(|&b| b == b'\t').enumerate() {
            if n > 0 {
                out.push(b'\t');
            }
            out.extend_from_slice(text::printable(part).as_bytes());
        }
        out.extend_from_slice(end);
    }
    out
}

/// All that is said about a path.
fn words(d: &Difference, look: Look) -> Vec<u8> {
    let mut out = line(d, look);
    let mut more = |line: String| {
        out.extend_from_slice(b"   ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    };
    match &d.tables {
        Some(Ok(tables)) => table_lines(tables, look).into_iter().for_each(&mut more),
        Some(Err(reason)) => more(format!("not compared: {}", text::printable(reason.as_bytes()))),
        None => {}
    }
    match &d.patch {
        Some(Patch::Text(hunks)) if !hunks.is_empty() => {
            // A name with a line break would be taken for lines of the patch.
            let path = text::show_entry(d.path());
            let name = |side: char, entry: &Option<Entry>| match entry {
                Some(_) => format!("{side}/{path}"),
                None => "/dev/null".to_owned(),
            };
            let head = format!("--- {}\n+++ {}\n", name('a', &d.old), name('b', &d.new));
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(&patch_lines(hunks, look));
        }
        Some(Patch::Binary) => more("binary files differ".to_owned()),
        Some(Patch::Unreadable(reason)) => {
            more(format!("cannot be read: {}", text::printable(reason.as_bytes())));
        }
        Some(Patch::Text(_)) | None => {}
    }
    out
}

fn closing(outcome: &DiffOutcome, metadata: bool) -> String {
    let s = &outcome.summary;
    let new = match (&outcome.new, &outcome.live) {
        (Some(info), _) => format!("snapshot {} of {}", info.id.short(), units::local(info.snapshot.time)),
        (None, Some(root)) => text::show(root),
        (None, None) => String::new(),
    };
    let old = format!("snapshot {} of {}", outcome.old.id.short(), units::local(outcome.old.snapshot.time));
    let mut lines = vec![format!("{old}, now {new}")];
    lines.push(counts(s));
    if s.metadata > 0 && !metadata {
        let paths = units::count(s.metadata, "path");
        lines.push(format!("{paths} with other times, modes or attributes only (--metadata shows them)"));
    }
    if !s.errors.is_empty() {
        let paths = units::count(s.errors.len() as u64, "path");
        lines.push(format!("{paths} could not be read and may differ"));
    }
    lines.join("\n")
}

fn counts(s: &DiffSummary) -> String {
    let mut parts = Vec::new();
    let mut part = |n: u64, words: String| {
        if n > 0 {
            parts.push(words);
        }
    };
    part(s.added, format!("{} added ({})", s.added, units::size(s.bytes_added)));
    part(s.removed, format!("{} removed ({})", s.removed, units::size(s.bytes_removed)));
    let sizes = format!("({}, now {})", units::size(s.bytes_before), units::size(s.bytes_after));
    let changed = s.changed + s.types;
    let databases = match s.databases {
        0 => String::new(),
        n => format!(", {}", units::count(n, "database")),
    };
    part(changed, format!("{changed} changed {sizes}{databases}"));
    part(s.links, format!("{} linked otherwise", s.links));
    if parts.is_empty() { "no differences".to_owned() } else { parts.join(", ") }
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    let paths = args.paths.iter().map(|path| snap_path::parse(ctx, path)).collect::<Result<_, _>>()?;
    let state_dir = settings::state_dir(ctx).ok();
    let named = state_dir.as_ref().filter(|(_, origin)| matches!(origin, Origin::Flag(_)));
    let sources = args.sources.sources()?;
    let mut request = DiffRequest {
        old: args.old,
        new: args.new,
        root: named.map(|(path, _)| path.clone()),
        state_dir: state_dir.map(|(path, _)| path),
        options: DiffOptions {
            paths,
            metadata: args.metadata,
            patch: args.patch,
            tables: !args.no_tables && !args.stat,
        },
    };
    let opened = ctx.open(OnSignal::Ask)?;
    let look = Look { terminal: Output::stdout_is_terminal(), internal: ctx.output.verbose > 0 };
    let mut out = BufWriter::new(io::stdout().lock());
    let outcome = opened.stream(|session| {
        request.old = app::resolve(session, &request.old, &sources)?;
        request.new = request.new.take().map(|word| app::resolve(session, &word, &sources)).transpose()?;
        app::diff(session, &request, &mut |difference| {
            opened.clear();
            match (args.stat, ctx.output.json) {
                (true, _) => Ok(()),
                (false, true) => {
                    serde_json::to_writer(&mut out, &Row::from(difference)).map_err(io::Error::from)?;
                    out.write_all(b"\n")
                }
                (false, false) => out.write_all(&words(difference, look)),
            }
        })
    })?;
    output::written(out.flush())?;
    drop(out);
    let Some(outcome) = outcome else { return Ok(Status::Done) };
    if ctx.output.json {
        ctx.output.document(&summary(&outcome, args.metadata))?;
    } else {
        ctx.output.summary(&ctx.output.paint(Style::Dim, &closing(&outcome, args.metadata)))?;
    }
    Ok(match (outcome.summary.errors.is_empty(), outcome.summary.told(args.metadata)) {
        (false, _) => Status::Incomplete,
        (true, 1..) if args.exit_code => Status::Bad(ErrorClass::Failed),
        _ => Status::Done,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::{Content, Metadata, RepoPath};

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        let path = RepoPath::new(path.to_vec()).unwrap();
        Entry { path, kind, meta: Metadata::default(), link_group: 0, unsettled: false }
    }

    fn difference(old: Option<Entry>, new: Option<Entry>, change: Change) -> Difference {
        Difference { change, old, new, metadata: Vec::new(), patch: None, tables: None }
    }

    #[test]
    fn a_terminal_is_not_steered() {
        let file = || entry(b"a\x1b[2J\n+b", EntryKind::File(Content { size: 3, ..Content::default() }));
        let mut d = difference(None, Some(file()), Change::Added);
        let hunks = b"@@ -0,0 +1,2 @@\n+\x1b[2J\tx\x9b\r\n+end\n\\ No newline at end of file\n".to_vec();
        d.patch = Some(Patch::Text(hunks.clone()));
        let shown = |terminal| words(&d, Look { terminal, internal: false });
        assert_eq!(
            String::from_utf8(shown(true)).unwrap(),
            "+  a\\u{1b}[2J\\n+b  3 B\n--- /dev/null\n+++ b/a\\u{1b}[2J\\n+b\n\
             @@ -0,0 +1,2 @@\n+\\u{1b}[2J\tx\\x9b\\r\n+end\n\\ No newline at end of file\n"
        );
        // A program gets the content as it is; only what frames it is kept whole.
        let plain = shown(false);
        assert!(plain.starts_with(b"+  a\x1b[2J\n+b  3 B\n--- /dev/null\n+++ b/a\\u{1b}[2J\\n+b\n"));
        assert!(plain.ends_with(&hunks));

        let link = |target: &[u8]| Some(entry(b"l", EntryKind::Symlink(target.to_vec())));
        let d = difference(link(b"\x1b"), link(b"x"), Change::Content);
        let line = words(&d, Look { terminal: false, internal: false });
        assert_eq!(line, b"M  l  -> \\u{1b}, now -> x\n");
    }

    #[test]
    fn names_of_tables_are_escaped() {
        let table = |name: &str, internal, rows| TableDifference {
            name: name.to_owned(),
            schema: SchemaChange::Same,
            internal,
            rows,
        };
        let counts = RowCounts { added: 1, removed: 0, changed: 2 };
        let mut found = DatabaseDifferences {
            tables: vec![
                table("t\x1b", false, Ok(counts)),
                table("u", false, Err("\x07".to_owned())),
                table("f_data", true, Ok(counts)),
            ],
            ..DatabaseDifferences::default()
        };
        let lines =
            |found: &DatabaseDifferences, internal| table_lines(found, Look { terminal: true, internal });
        assert_eq!(
            lines(&found, false),
            [
                "table t\\u{1b}: 1 row added, 2 rows changed",
                "table u: not compared: \\u{7}",
                "1 table of virtual tables and SQLite's own (-v shows them)"
            ]
        );
        assert_eq!(lines(&found, true)[2], "table f_data: 1 row added, 2 rows changed");
        found.tables.clear();
        assert_eq!(lines(&found, false), ["no row differs"]);
    }
}
