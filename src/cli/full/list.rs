//! `exuvia full list`.

use serde::Serialize;

use super::super::error::{CliError, Status};
use super::super::global::Context;
use super::super::output::{Style, Table};
use super::super::text::JsonPath;
use super::super::units;
use super::{From, Reading, shown};
use crate::app::{self, FullListed, FullState};

/// List full archives, oldest first
///
/// The last column says what is known of each: `incomplete` (some source files could not be read), `partial` (its
/// upload did not come to its end, or has not yet), `damaged`, `lost` (only its mark is there), `unverified` (of
/// another program, which makes no marks).
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full list\n  exuvia full list --from rclone:b2:backups/agent --json"
)]
pub(super) struct Args {
    #[command(flatten)]
    from: From,
}

/// An element of `--json`.
#[derive(Serialize)]
struct Row {
    name: String,
    time: String,
    form: &'static str,
    state: &'static str,
    /// Of a damaged one: what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    stored_bytes: u64,
    complete: Option<bool>,
    host: Option<String>,
    root: Option<JsonPath>,
    tags: Option<Vec<String>>,
    files: Option<u64>,
    bytes: Option<u64>,
    sha256: Option<String>,
    /// Id of the writer key that made it; none when an owner key did.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer_key: Option<String>,
}

fn row(listed: &FullListed) -> Row {
    let mark = listed.mark.as_deref();
    Row {
        name: listed.name.to_string(),
        time: units::rfc3339(listed.time()),
        form: listed.name.form().name(),
        state: listed.state.name(),
        reason: match &listed.state {
            FullState::Damaged(reason) => Some(reason.clone()),
            _ => None,
        },
        stored_bytes: listed.size,
        complete: mark.map(|mark| mark.complete),
        host: mark.map(|mark| mark.host.clone()),
        root: mark.map(|mark| mark.root.as_slice().into()),
        tags: mark.map(|mark| mark.tags.clone()),
        files: mark.map(|mark| mark.files),
        bytes: mark.map(|mark| mark.bytes),
        sha256: mark.map(|mark| data_encoding::HEXLOWER.encode(&mark.sha256)),
        writer_key: listed.writer_key.as_ref().map(ToString::to_string),
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let reading = Reading::open(ctx, &args.from)?;
    let list = reading.opened.run(|session| app::full_list(session, reading.from()))?;
    if ctx.output.json {
        ctx.output.document(&list.iter().map(row).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    if list.is_empty() {
        ctx.output.say(match reading.elsewhere {
            Some(_) => "there are no archives there: none has the name backup-<YYYYMMDDTHHMMSS>Z.tar.gz or .tar.gz.enc",
            None => "there are no full archives yet; `exuvia full create` makes one",
        });
        return Ok(Status::Done);
    }
    let mut table = Table::new(&["NAME", "HOST", "FILES", "SIZE", "STORED", "TAGS", ""], &[2, 3, 4]);
    for listed in &list {
        let mark = listed.mark.as_deref();
        table.row(vec![
            listed.name.to_string(),
            mark.map(|mark| shown(mark.host.as_bytes())).unwrap_or_default(),
            mark.map(|mark| mark.files.to_string()).unwrap_or_default(),
            mark.map(|mark| units::size(mark.bytes)).unwrap_or_default(),
            units::size(listed.size),
            mark.map(|mark| shown(mark.tags.join(",").as_bytes())).unwrap_or_default(),
            remark(ctx, &listed.state),
        ]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    let total = units::count(list.len() as u64, "archive");
    ctx.output.summary(&ctx.output.paint(Style::Dim, &total))?;
    Ok(Status::Done)
}

/// What is not as it should be.
fn remark(ctx: &Context, state: &FullState) -> String {
    match state {
        FullState::Complete => String::new(),
        FullState::Damaged(why) => {
            let why = shown(why.as_bytes());
            ctx.output.paint(Style::Red, &format!("damaged: {why}"))
        }
        FullState::Partial | FullState::Lost => ctx.output.paint(Style::Yellow, state.name()),
        other => other.name().to_owned(),
    }
}
