//! `exuvia ls`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::{self, Output};
use super::{snap_path, sources, text, units};
use crate::app::{self, LsRequest};
use crate::model::{Capture, Entry, EntryKind, RepoPath};

/// List the files of a snapshot
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia ls latest\n  exuvia ls -lR '3 days ago' memory")]
pub(super) struct Args {
    /// The snapshot: latest, latest~N, an id, or a time
    #[arg(value_name = "SNAP")]
    snapshot: String,

    #[command(flatten)]
    sources: sources::Args,

    /// A file, or a directory whose content is wanted [default: everything at the top]
    #[arg(value_name = "PATH")]
    path: Option<OsString>,

    /// Show permissions, owner, size and time
    #[arg(short, long)]
    long: bool,

    /// Descend into directories
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// An entry as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    path: text::JsonPath,
    r#type: &'static str,
    size: u64,
    mode: u32,
    permissions: String,
    uid: u32,
    gid: u32,
    user: &'a str,
    group: &'a str,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    /// Present for files: whether it was taken as a consistent image of a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlite: Option<bool>,
}

impl<'a> From<&'a Entry> for Row<'a> {
    fn from(entry: &'a Entry) -> Self {
        let (letter, name) = kind(&entry.kind);
        let (target, target_base64) = match &entry.kind {
            EntryKind::Symlink(target) => {
                let (target, exact) = text::lossy(target);
                (Some(target), exact)
            }
            _ => (None, None),
        };
        let owner = &entry.meta.owner;
        Self {
            path: (&entry.path).into(),
            r#type: name,
            size: entry.size(),
            mode: entry.meta.mode,
            permissions: units::permissions(letter, entry.meta.mode),
            uid: owner.uid,
            gid: owner.gid,
            user: &owner.user,
            group: &owner.group,
            mtime: units::rfc3339(entry.meta.mtime),
            target,
            target_base64,
            sqlite: entry.content().map(|content| matches!(content.capture, Capture::Sqlite { .. })),
        }
    }
}

/// The letter of a type in permissions, and its name in JSON.
pub(super) fn kind(kind: &EntryKind) -> (char, &'static str) {
    match kind {
        EntryKind::File(_) => ('-', "file"),
        EntryKind::Directory => ('d', "dir"),
        EntryKind::Symlink(_) => ('l', "symlink"),
        EntryKind::Fifo => ('p', "fifo"),
        EntryKind::CharDevice(..) => ('c', "char-device"),
        EntryKind::BlockDevice(..) => ('b', "block-device"),
    }
}

/// A path in a line of its own. Names go out as they are when a program reads them.
pub(super) fn line_name(path: &RepoPath, escape: bool) -> Vec<u8> {
    match (path.is_root(), escape) {
        (true, _) => b".".to_vec(),
        (false, true) => text::printable(path.as_bytes()).into_bytes(),
        (false, false) => path.as_bytes().to_vec(),
    }
}

/// One line for people.
fn line(entry: &Entry, long: bool, escape: bool) -> Vec<u8> {
    let name = |bytes: &[u8]| if escape { text::printable(bytes).into_bytes() } else { bytes.to_vec() };
    let mut out = Vec::new();
    if long {
        let owner = &entry.meta.owner;
        let who = |name: &str, id: u32| match name {
            "" => id.to_string(),
            name => text::printable(name.as_bytes()),
        };
        out.extend_from_slice(
            format!(
                "{}  {:<8} {:<8} {:>10}  {}  ",
                units::permissions(kind(&entry.kind).0, entry.meta.mode),
                who(&owner.user, owner.uid),
                who(&owner.group, owner.gid),
                units::size(entry.size()),
                units::local_minutes(entry.meta.mtime),
            )
            .as_bytes(),
        );
    }
    out.extend_from_slice(&line_name(&entry.path, escape));
    if let (true, EntryKind::Symlink(target)) = (long, &entry.kind) {
        out.extend_from_slice(b" -> ");
        out.extend_from_slice(&name(target));
    }
    out.push(b'\n');
    out
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let path = args.path.as_deref().map(|path| snap_path::parse(ctx, path)).transpose()?;
    let (path, sources) = (path.unwrap_or_default(), args.sources.sources()?);
    let opened = ctx.open(OnSignal::End)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let escape = Output::stdout_is_terminal();
    let mut before: &[u8] = b"[";
    let shown = opened.stream(|session| {
        let snapshot = app::resolve(session, &args.snapshot, &sources)?;
        let request = LsRequest { snapshot, path: path.clone(), recursive: args.recursive };
        app::ls(session, &request, &mut |entry| {
            if !ctx.output.json {
                return out.write_all(&line(entry, args.long, escape));
            }
            out.write_all(std::mem::replace(&mut before, b",\n"))?;
            serde_json::to_writer(&mut out, &Row::from(entry)).map_err(io::Error::from)
        })
    })?;
    if shown.is_some() && ctx.output.json {
        let end: &[u8] = if before == b"[" { b"[]\n" } else { b"]\n" };
        output::written(out.write_all(end))?;
    }
    output::written(out.flush())?;
    Ok(Status::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use super::*;
    use crate::model::{Metadata, Owner};

    fn link() -> Entry {
        let owner = Owner { uid: 7, gid: 8, user: "ann".to_owned(), group: String::new() };
        Entry {
            path: RepoPath::new(b"a/\x1b".to_vec()).unwrap(),
            kind: EntryKind::Symlink(b"t\xff".to_vec()),
            meta: Metadata { mode: 0o777, owner: Arc::new(owner), ..Metadata::default() },
            link_group: 0,
            unsettled: false,
        }
    }

    #[test]
    fn names_are_escaped_for_people_only() {
        assert_eq!(line(&link(), false, false), b"a/\x1b\n");
        assert_eq!(line(&link(), false, true), b"a/\\u{1b}\n");
        let long = String::from_utf8(line(&link(), true, true)).unwrap();
        assert!(long.starts_with("lrwxrwxrwx  ann      8               0 B  19"), "{long}");
        assert!(long.ends_with("  a/\\u{1b} -> t\\xff\n"), "{long}");
    }

    #[test]
    fn json_has_the_exact_target() {
        let json = serde_json::to_value(Row::from(&link())).unwrap();
        assert_eq!(json["target_base64"], "dP8=");
        assert_eq!(json["type"], "symlink");
        assert_eq!(json["mtime"], "1970-01-01T00:00:00Z");
        assert!(json.get("sqlite").is_none());
    }
}
