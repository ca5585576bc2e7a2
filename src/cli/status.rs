//! `exuvia status`.

use std::path::Path;

use serde::Serialize;

use super::drill::JsonDrill;
use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::Style;
use super::repository::Place;
use super::{losses, text, units, vanished};
use crate::app::{self, Health, SnapshotInfo, StatusOutcome};
use crate::model::{DrillResult, ErrorClass, Timestamp, Verdict};

/// Tell whether all is well with the backups of the state dir
///
/// Exit code 0 means that all is well; 1, that something is not: the state dir was never backed up from this machine,
/// the last drill failed, a snapshot is marked as shrunk and nobody accepted that, or snapshots are gone that nobody removed.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia status\n  exuvia status --json | jq .newest.age_seconds")]
pub(super) struct Args {}

/// What `--json` shows.
#[derive(Serialize)]
struct Document<'a> {
    healthy: bool,
    /// `never-backed-up`, `drill-failed`, `shrunk`, `unreadable`, `vanished`.
    problems: Vec<&'static str>,
    repository: text::JsonPath,
    state_dir: text::JsonPath,
    newest: Option<Newest>,
    snapshots: u64,
    safety_snapshots: u64,
    last_drill: Option<JsonDrill<'a>>,
    alarms: Vec<Alarm>,
    vanished: Vec<vanished::JsonVanished>,
}

#[derive(Serialize)]
struct Newest {
    id: String,
    time: String,
    age_seconds: u64,
    complete: bool,
}

#[derive(Serialize)]
struct Alarm {
    id: String,
    time: String,
    parent: Option<String>,
    alarm: Vec<losses::JsonLoss>,
}

fn word(problem: &Health) -> &'static str {
    match problem {
        Health::NeverBackedUp => "never-backed-up",
        Health::DrillFailed => "drill-failed",
        Health::Shrunk(_) => "shrunk",
        Health::Unreadable(_) => "unreadable",
        Health::Vanished(_) => "vanished",
    }
}

/// Seconds from `time` until `now`; a clock that was set back makes no negative ages.
fn age(time: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.secs.saturating_sub(time.secs)).unwrap_or(0)
}

/// `3 days ago`.
fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = age(time, now);
    let (n, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", units::count(n, unit))
}

fn document<'a>(place: &Place, state_dir: &Path, o: &'a StatusOutcome) -> Document<'a> {
    Document {
        healthy: o.problems.is_empty(),
        problems: o.problems.iter().map(word).collect(),
        repository: place.json_name(),
        state_dir: state_dir.into(),
        newest: o.newest.as_ref().map(|info| Newest {
            id: info.id.to_string(),
            time: units::rfc3339(info.snapshot.time),
            age_seconds: age(info.snapshot.time, o.now),
            complete: info.snapshot.complete,
        }),
        snapshots: o.snapshots,
        safety_snapshots: o.safety,
        last_drill: o.drill.as_ref().map(Into::into),
        alarms: o.alarms.iter().map(alarm).collect(),
        vanished: vanished::json(&o.vanished),
    }
}

fn alarm(info: &SnapshotInfo) -> Alarm {
    Alarm {
        id: info.id.to_string(),
        time: units::rfc3339(info.snapshot.time),
        parent: info.snapshot.parent.map(|id| id.to_string()),
        alarm: losses::json(&info.snapshot),
    }
}

fn newest(ctx: &Context, o: &StatusOutcome) -> String {
    let Some(info) = &o.newest else {
        return ctx.output.paint(Style::Red, "never; `exuvia backup` takes a snapshot");
    };
    let when = format!("{}, {}", units::local(info.snapshot.time), ago(info.snapshot.time, o.now));
    let whole = if info.snapshot.complete {
        String::new()
    } else {
        let count = units::count(info.snapshot.error_count, "file");
        format!(", {}", ctx.output.paint(Style::Yellow, &format!("incomplete ({count} could not be read)")))
    };
    format!("{} of {when}{whole}", info.id.short())
}

fn last_drill(ctx: &Context, drill: Option<&DrillResult>, now: Timestamp) -> String {
    let Some(drill) = drill else { return "never; `exuvia drill` makes one".to_owned() };
    let how = match drill.verdict {
        Verdict::Good => "good".to_owned(),
        Verdict::Failed | Verdict::Damaged => {
            let count = units::count(drill.problem_count, "problem");
            ctx.output.paint(Style::Red, &format!("{} ({count})", drill.verdict.name()))
        }
    };
    format!(
        "{how}, {}, with {} in {}",
        ago(drill.time, now),
        drill.snapshot.short(),
        units::duration(drill.duration_ms)
    )
}

fn words(ctx: &Context, place: &Place, state_dir: &Path, o: &StatusOutcome) -> String {
    let count = |n, one| units::count(n, one);
    let mut lines = vec![
        format!("repository   {}", place.name()),
        format!("state dir    {}", text::show(state_dir)),
        format!("last backup  {}", newest(ctx, o)),
        format!("snapshots    {} and {}", o.snapshots, count(o.safety, "safety snapshot")),
        format!("last drill   {}", last_drill(ctx, o.drill.as_ref(), o.now)),
    ];
    if let Some(drill) = o.drill.as_ref().filter(|drill| drill.verdict != Verdict::Good) {
        lines
            .extend(drill.problems.iter().map(|p| format!("             {}", text::printable(p.as_bytes()))));
    }
    for info in &o.alarms {
        let head = ctx.output.paint(Style::Red, "shrunk");
        let (id, lost) = (info.id.short(), losses::words(&info.snapshot).join("; "));
        lines.push(format!("{head}       {id} of {}: {lost}", units::local(info.snapshot.time)));
        lines.push(format!("             if that was meant: exuvia snapshots --accept {id}"));
    }
    if !o.vanished.is_empty() {
        let head = ctx.output.paint(Style::Red, "vanished");
        lines.push(format!("{head}     {}", vanished::words(&o.vanished)));
    }
    for problem in &o.problems {
        if let Health::Unreadable(n) = problem {
            let head = ctx.output.paint(Style::Red, "damaged");
            lines.push(format!("{head}      {} cannot be read; see `exuvia check`", count(*n, "snapshot")));
        }
    }
    lines.join("\n")
}

pub(super) fn run(_: &Args, ctx: &Context) -> Result<Status, CliError> {
    let (place, state_dir) = (Place::of(ctx)?, ctx.state_dir()?);
    let opened = ctx.open(OnSignal::End)?;
    let outcome = opened.run(|session| app::status(session, &state_dir))?;
    if ctx.output.json {
        ctx.output.document(&document(&place, &state_dir, &outcome))?;
    } else {
        ctx.output.result(&words(ctx, &place, &state_dir, &outcome))?;
    }
    Ok(if outcome.problems.is_empty() { Status::Done } else { Status::Bad(ErrorClass::Failed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_round() {
        let now = Timestamp::from_secs(1_000_000);
        for (seconds, want) in [
            (0, "0 seconds ago"),
            (1, "1 second ago"),
            (119, "1 minute ago"),
            (3600, "1 hour ago"),
            (172_799, "47 hours ago"),
            (172_800, "2 days ago"),
            // The clock was set back.
            (-5, "0 seconds ago"),
        ] {
            assert_eq!(ago(Timestamp::from_secs(now.secs - seconds), now), want);
        }
    }
}
