//! `exuvia scrub`.

use std::sync::Arc;

use serde::Serialize;

use super::check::{coverage, problems, subset};
use super::error::{self, CliError, Status};
use super::global::Context;
use super::interrupt::{self, OnSignal};
use super::output::{Level, Style};
use super::progress::Screen;
use super::repository::Place;
use super::{settings, units};
use crate::app::{self, ReadData, ScrubOutcome, ScrubRequest};
use crate::clock::SystemClock;
use crate::model::ErrorClass;

/// Compare stored objects with their names, without a passphrase
///
/// The name of every object is the SHA-256 of its bytes, so that any machine that may read the repository can tell
/// damage, also one that must not know what is in it. Where the storage service has SHA-256 it is asked for it, and
/// nothing is downloaded. Ends with exit code 13 when there is damage.
///
/// `exuvia check --read-data` verifies more, and needs the passphrase.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia scrub\n  exuvia scrub --subset 10%\n  exuvia --repo rclone:b2:bucket/backup scrub --subset 2G"
)]
pub(super) struct Args {
    /// Of the packs, compare only about this part: a percentage, a size, or part N of M. What was not looked at for
    /// the longest time comes first
    #[arg(long, value_name = "N%|SIZE|N/M", value_parser = subset)]
    subset: Option<ReadData>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    ok: bool,
    problems: Vec<JsonProblem<'a>>,
    notes: &'a [String],
    objects: u64,
    objects_hashed_by_service: u64,
    packs_read: u64,
    bytes_read: u64,
    packs_unread: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_since: Option<String>,
    duration_ms: u64,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    object: &'a str,
    message: &'a str,
}

fn summary(o: &ScrubOutcome) -> Summary<'_> {
    Summary {
        r#type: "summary",
        ok: o.problems.is_empty(),
        problems: o.problems.iter().map(|p| JsonProblem { object: &p.object, message: &p.message }).collect(),
        notes: &o.notes,
        objects: o.objects,
        objects_hashed_by_service: o.told,
        packs_read: o.packs_read,
        bytes_read: o.bytes_read,
        packs_unread: o.packs_unread,
        read_since: o.read_since.map(units::rfc3339),
        duration_ms: o.duration_ms,
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let place = Place::of(ctx)?;
    let cancelled = interrupt::listen(OnSignal::Ask, ctx.exit);
    let screen = Arc::new(Screen::new(ctx.output.clone(), cancelled));
    let request = ScrubRequest {
        location: place.location.clone(),
        cache_dir: settings::cache_dir(ctx)?.0,
        subset: args.subset.unwrap_or(ReadData::All),
        monitor: Arc::<Screen>::clone(&screen),
        clock: Arc::new(SystemClock::new()),
        threads: settings::threads(ctx)?.0,
    };
    let result = app::scrub(&request);
    screen.finish();
    let situation = place.situation(String::new());
    let o = result.map_err(|e| {
        error::explain(&e, &situation).unwrap_or_else(|| CliError::failed("the output was closed"))
    })?;
    if ctx.output.json {
        ctx.output.document(&summary(&o))?;
    } else {
        o.notes.iter().for_each(|note| ctx.output.line(Level::Note, None, note));
        if !o.problems.is_empty() {
            ctx.output.result(&problems(ctx, &o.problems))?;
        }
        let verdict = match o.problems.len() as u64 {
            0 => "no damage found".to_owned(),
            n => ctx.output.paint(Style::Red, &units::count(n, "problem")),
        };
        let told = match o.told {
            0 => String::new(),
            n => format!(" ({n} by the service itself)"),
        };
        ctx.output.summary(&format!(
            "{verdict}: {} compared{told}, {} read, {}; {}",
            units::count(o.objects, "object"),
            units::size(o.bytes_read),
            units::duration(o.duration_ms),
            coverage(o.read_since, o.packs_unread)
        ))?;
    }
    Ok(if o.problems.is_empty() { Status::Done } else { Status::Bad(ErrorClass::Damaged) })
}
