//! `exuvia prune`.

use std::time::Duration;

use serde::Serialize;

use super::backup::Requests;
use super::error::{CliError, Status};
use super::global::{Context, Opened};
use super::interrupt::OnSignal;
use super::output::Style;
use super::{settings, units};
use crate::app::prune::{self, Amount, Done, PruneOutcome, PruneRequest, Summary};
use crate::model::ErrorClass;
use crate::report::Phase;

/// Free the space of what no snapshot needs
///
/// Works beside running backups, on this machine and on others, and can be ended at any time. What no snapshot
/// needs is condemned; a later run removes what has been condemned for longer than --grace, unless a snapshot
/// made meanwhile needs it. Packs that are mostly not needed are copied in part, small ones are put together.
/// Where the remote does not allow to remove anything, nothing is changed.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia prune --dry-run\n  exuvia prune\n  exuvia prune --grace 7d --max-repack 2G\n  exuvia --json prune"
)]
pub(super) struct Args {
    /// Tell what would be done, and change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// How long what is condemned stays: longer than any backup takes [default: 48h, or prune_grace in the
    /// configuration file]
    #[arg(long, value_name = "TIME", value_parser = grace)]
    grace: Option<Duration>,

    /// How much may be kept that nobody needs, of what is needed
    #[arg(long, value_name = "N%", default_value = "5%", value_parser = percent)]
    max_unused: f64,

    /// Copy no more than this in one run: 500M, 2G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_repack: Option<u64>,
}

impl Default for Args {
    fn default() -> Self {
        Self { dry_run: false, grace: None, max_unused: prune::MAX_UNUSED, max_repack: None }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|n| (0.0..=100.0).contains(n))
        .ok_or_else(|| "give a percentage from 0 to 100, such as 5%".to_owned())
}

/// A number and a unit; what `unit` gives for it is multiplied.
fn measure(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, word) = text.split_at(digits);
    number.parse::<u64>().ok()?.checked_mul(unit(word)?)
}

/// Longer ones are a slip of the finger.
const MOST: u64 = 366 * 86_400;

fn grace(text: &str) -> Result<Duration, String> {
    let unit = |word: &str| match word {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(7 * 86_400),
        _ => None,
    };
    let time = if text == "0" { Some(0) } else { measure(text, unit) };
    time.filter(|secs| *secs <= MOST)
        .map(Duration::from_secs)
        .ok_or_else(|| "give a time such as 48h, 7d or 2w, up to a year".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let unit = |word: &str| match word.trim_end_matches("iB").trim_end_matches('B') {
        "" => Some(1),
        "k" | "K" => Some(1 << 10),
        "M" => Some(1 << 20),
        "G" => Some(1 << 30),
        "T" => Some(1 << 40),
        _ => None,
    };
    measure(text, unit).ok_or_else(|| "give a size such as 500M or 2G".to_owned())
}

#[derive(Serialize)]
struct JsonAmount {
    packs: u64,
    bytes: u64,
}

impl From<Amount> for JsonAmount {
    fn from(Amount { packs, bytes }: Amount) -> Self {
        Self { packs, bytes }
    }
}

#[derive(Serialize)]
struct JsonPlan {
    delete: JsonAmount,
    condemn: JsonAmount,
    repack: JsonAmount,
    copy_bytes: u64,
    rewrite_index_objects: u64,
}

#[derive(Serialize)]
struct JsonDone<'a> {
    deleted: JsonAmount,
    condemned: JsonAmount,
    repacked: JsonAmount,
    new_packs: JsonAmount,
    rewritten_index_objects: u64,
    gc_records_removed: u64,
    acceptances_removed: u64,
    temporary_files_removed: u64,
    damaged: &'a [String],
}

#[derive(Serialize)]
struct JsonPhase {
    phase: &'static str,
    requests: Requests,
    bytes_put: u64,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct JsonSummary<'a> {
    r#type: &'static str,
    dry_run: bool,
    snapshots: u64,
    packs: JsonAmount,
    used_bytes: u64,
    unused_bytes: u64,
    index_objects: u64,
    waiting: JsonAmount,
    waiting_until: Option<String>,
    fresh: JsonAmount,
    plan: JsonPlan,
    done: Option<JsonDone<'a>>,
    denied: Option<&'a str>,
    phases: Vec<JsonPhase>,
    duration_ms: u64,
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Delete => "delete",
        Phase::Repack => "repack",
        Phase::Publish => "condemn",
        _ => "look",
    }
}

fn document(o: &PruneOutcome, dry_run: bool) -> JsonSummary<'_> {
    let s = &o.summary;
    JsonSummary {
        r#type: "summary",
        dry_run,
        snapshots: s.snapshots,
        packs: s.packs.into(),
        used_bytes: s.used,
        unused_bytes: s.unused,
        index_objects: s.index_objects,
        waiting: s.waiting.into(),
        waiting_until: s.until.map(units::rfc3339),
        fresh: s.fresh.into(),
        plan: JsonPlan {
            delete: s.delete.into(),
            condemn: s.condemn.into(),
            repack: s.repack.into(),
            copy_bytes: s.copy,
            rewrite_index_objects: s.rewrite,
        },
        done: o.done.as_ref().map(|d| JsonDone {
            deleted: d.deleted.into(),
            condemned: d.condemned.into(),
            repacked: d.repacked.into(),
            new_packs: d.new_packs.into(),
            rewritten_index_objects: d.rewritten,
            gc_records_removed: d.records,
            acceptances_removed: d.acceptances,
            temporary_files_removed: d.temporary,
            damaged: &d.damaged,
        }),
        denied: o.denied.as_deref(),
        phases: o
            .requests
            .iter()
            .map(|(of, counts)| JsonPhase {
                phase: phase(*of),
                requests: (*counts).into(),
                bytes_put: counts.bytes_put,
            })
            .collect(),
        duration_ms: o.duration_ms,
    }
}

fn amount(amount: Amount) -> String {
    format!("{} ({})", units::count(amount.packs, "pack"), units::size(amount.bytes))
}

/// What is to be done, as a list of what is not nothing.
fn plan(s: &Summary) -> Vec<String> {
    let mut lines = vec![format!(
        "{} of {}; needed {}, not needed {}",
        amount(s.packs),
        units::count(s.snapshots, "snapshot"),
        units::size(s.used),
        units::size(s.unused)
    )];
    let mut line = |amount: Amount, text: String| {
        if amount.packs > 0 {
            lines.push(text);
        }
    };
    line(s.delete, format!("to be removed, condemned long enough ago: {}", amount(s.delete)));
    line(s.condemn, format!("to be condemned, needed by no snapshot: {}", amount(s.condemn)));
    let copy = units::size(s.copy);
    line(s.repack, format!("to be condemned once {copy} of them are copied: {}", amount(s.repack)));
    lines.extend(waiting(s));
    if s.rewrite > 0 {
        lines.push(format!("to be written anew: {}", units::count(s.rewrite, "index object")));
    }
    lines
}

/// What a later run will do.
fn waiting(s: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if s.waiting.packs > 0 {
        let until = s.until.map_or(String::new(), |until| format!(", until {}", units::local_minutes(until)));
        lines.push(format!("condemned and waiting{until}: {}", amount(s.waiting)));
    }
    if s.fresh.packs > 0 {
        let fresh = amount(s.fresh);
        lines.push(format!("in no index, and left alone for now since a backup may be running: {fresh}"));
    }
    lines
}

fn done(s: &Summary, d: &Done) -> Vec<String> {
    let mut lines = Vec::new();
    if d.deleted.packs > 0 {
        lines.push(format!("removed {}", amount(d.deleted)));
    }
    if d.condemned.packs > 0 {
        lines.push(format!("condemned {}; a later prune removes them", amount(d.condemned)));
    }
    if d.repacked.packs > 0 {
        lines.push(format!(
            "of these {} were needed in part, which is in {} now",
            amount(d.repacked),
            amount(d.new_packs)
        ));
    }
    if d.rewritten > 0 {
        lines.push(format!("wrote anew {}", units::count(d.rewritten, "index object")));
    }
    if lines.is_empty() {
        lines.push("there was nothing to remove or condemn".to_owned());
    }
    lines.extend(waiting(s));
    lines
}

fn words(ctx: &Context, o: &PruneOutcome, dry_run: bool) -> String {
    let lines = match &o.done {
        Some(d) => done(&o.summary, d),
        None => plan(&o.summary),
    };
    let last = match (&o.denied, dry_run) {
        (Some(_), _) => ctx.output.paint(Style::Red, "nothing was changed"),
        (None, true) => "dry run: nothing was changed".to_owned(),
        (None, false) => format!("done in {}", units::duration(o.duration_ms)),
    };
    lines.into_iter().chain([last]).collect::<Vec<_>>().join("\n")
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    with(args, ctx, &ctx.open(OnSignal::Ask)?)
}

/// Prunes a repository that is open.
pub(super) fn with(args: &Args, ctx: &Context, opened: &Opened) -> Result<Status, CliError> {
    let request = PruneRequest {
        dry_run: args.dry_run,
        grace: settings::prune_grace(ctx, args.grace).0,
        max_unused: args.max_unused,
        max_repack: args.max_repack,
        ..PruneRequest::default()
    };
    let o = opened.run(|session| prune::prune(session, &request))?;
    if ctx.output.json {
        ctx.output.document(&document(&o, args.dry_run))?;
    } else {
        ctx.output.summary(&words(ctx, &o, args.dry_run))?;
    }
    let damaged = o.done.as_ref().map_or(&[][..], |done| &done.damaged);
    damaged.iter().for_each(|what| ctx.output.warn(&format!("left as it is: {what}")));
    if let Some(message) = &o.denied {
        return Err(CliError::failed(format!("the remote does not allow to remove anything: {message}"))
            .hint("give the key that prunes the permission to delete, or prune on the machine that holds the disk")
            .hint("everything else works without it"));
    }
    Ok(if damaged.is_empty() { Status::Done } else { Status::Bad(ErrorClass::Damaged) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        for (text, secs) in [("0", 0), ("90s", 90), ("48h", 172_800), ("7d", 604_800), ("2w", 1_209_600)] {
            assert_eq!(grace(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for wrong in ["", "48", "h", "-1h", "1y", "400d", "1.5h", "99999999999999999999s"] {
            assert!(grace(wrong).is_err(), "{wrong}");
        }
        for (text, bytes) in [("0", 0), ("10", 10), ("1k", 1024), ("500M", 500 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "M", "1X", "-1", "1.5G", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(percent("0%"), Ok(0.0));
        assert!(percent("5").is_err() && percent("101%").is_err());
    }
}
