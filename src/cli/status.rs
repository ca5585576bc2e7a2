//! `exuvia status`.

use std::path::Path;

use serde::Serialize;

use super::drill::JsonDrill;
use super::error::{CliError, ErrorDocument, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::Style;
use super::repository::Place;
use super::status_jobs::{JsonLocal, Local};
use super::{losses, text, units, vanished};
use crate::app::{self, Health, SnapshotInfo, StatusOutcome};
use crate::daemon::job::Job;
use crate::model::{DrillResult, ErrorClass, Snapshot, Timestamp, Verdict};

/// Tell whether all is well with the backups of the state dir
///
/// Shows the newest snapshot, what the daemon did and will do, the last drill, and what the repository holds. Where the
/// repository cannot be reached, it says so, and tells what this machine knows by itself.
///
/// Exit code 0 means that all is well; 1, that something is not: the state dir was never backed up from this machine,
/// the newest snapshot is older than promised, the last run of a job failed, the repository cannot be reached, the last
/// drill failed, a snapshot is marked as shrunk and nobody accepted that, or snapshots are gone that nobody removed.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia status\n  exuvia status --json | jq .newest.age_seconds\n  exuvia status >/dev/null || notify-send 'look at your backups'"
)]
pub(super) struct Args {}

/// What `--json` shows.
#[derive(Serialize)]
struct Document<'a> {
    healthy: bool,
    /// `never-backed-up`, `overdue`, `backup-failed`, `prune-failed`, `check-failed`, `drill-failed`,
    /// `unreachable`, `shrunk`, `unreadable`, `vanished`.
    problems: Vec<&'static str>,
    repository: text::JsonPath,
    state_dir: text::JsonPath,
    /// The repository was looked at.
    reachable: bool,
    /// Why it was not.
    error: Option<ErrorDocument<'a>>,
    newest: Option<Newest>,
    /// What the snapshots of the last seven days added.
    week: Option<Week>,
    snapshots: Option<u64>,
    safety_snapshots: Option<u64>,
    last_drill: Option<JsonDrill<'a>>,
    alarms: Vec<Alarm>,
    vanished: Vec<vanished::JsonVanished>,
    #[serde(flatten)]
    local: JsonLocal<'a>,
}

#[derive(Serialize)]
struct Week {
    snapshots: u64,
    bytes_added_stored: u64,
}

#[derive(Serialize)]
struct Newest {
    /// Not known of a snapshot whose backup told it to nobody who is asked here.
    id: Option<String>,
    time: String,
    age_seconds: u64,
    complete: bool,
    files: u64,
    bytes: u64,
    bytes_added_stored: u64,
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
pub(super) fn age(time: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.secs.saturating_sub(time.secs)).unwrap_or(0)
}

/// `3 days ago`.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = age(time, now);
    let (n, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", units::count(n, unit))
}

fn document<'a>(place: &Place, state_dir: &Path, found: &'a Found) -> Document<'a> {
    let (o, local) = (found.outcome.as_ref(), &found.local);
    let problems = found.problems();
    Document {
        healthy: problems.is_empty(),
        problems,
        repository: place.json_name(),
        state_dir: state_dir.into(),
        reachable: o.is_some(),
        error: found.error.as_ref().map(CliError::document),
        newest: match o {
            Some(o) => o.newest.as_ref().map(|info| json_newest(info, o.now)),
            None => remembered(local),
        },
        week: o.map(|o| Week { snapshots: o.week.snapshots, bytes_added_stored: o.week.bytes }),
        snapshots: o.map(|o| o.snapshots),
        safety_snapshots: o.map(|o| o.safety),
        last_drill: o.and_then(|o| o.drill.as_ref()).map(Into::into),
        alarms: o.map(|o| o.alarms.iter().map(alarm).collect()).unwrap_or_default(),
        vanished: o.map(|o| vanished::json(&o.vanished)).unwrap_or_default(),
        local: local.document(),
    }
}

fn json_newest(info: &SnapshotInfo, now: Timestamp) -> Newest {
    let Snapshot { time, complete, stats, .. } = &info.snapshot;
    Newest {
        id: Some(info.id.to_string()),
        time: units::rfc3339(*time),
        age_seconds: age(*time, now),
        complete: *complete,
        files: stats.files,
        bytes: stats.bytes,
        bytes_added_stored: stats.bytes_added_stored,
    }
}

/// The newest snapshot as far as the records of the daemon go.
fn remembered(local: &Local) -> Option<Newest> {
    let time = local.last_backup()?;
    let snapshot = local.records.get(Job::Backup)?.snapshot.clone().unwrap_or_default();
    Some(Newest {
        id: snapshot.id,
        time: units::rfc3339(time),
        age_seconds: age(time, local.now),
        complete: snapshot.complete,
        files: snapshot.files,
        bytes: snapshot.bytes,
        bytes_added_stored: snapshot.added,
    })
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

fn words(ctx: &Context, place: &Place, state_dir: &Path, found: &Found) -> String {
    let mut lines =
        vec![format!("repository   {}", place.name()), format!("state dir    {}", text::show(state_dir))];
    if let Some(error) = &found.error {
        let head = ctx.output.paint(Style::Red, "cannot be reached");
        lines.push(format!("             {head}: {}", text::printable(error.message.as_bytes())));
    }
    match &found.outcome {
        Some(o) => {
            lines.push(format!("last backup  {}", newest(ctx, o)));
            lines.extend(promised(ctx, found));
            lines.extend(found.local.lines(ctx));
            lines.extend(of_repository(ctx, o));
        }
        None => {
            lines.push(match found.local.last_backup() {
                Some(time) => {
                    let ago = ago(time, found.local.now);
                    format!("last backup  {}, {ago}, as far as this machine knows", units::local(time))
                }
                None => "last backup  none that this machine knows of".to_owned(),
            });
            lines.extend(promised(ctx, found));
            lines.extend(found.local.lines(ctx));
        }
    }
    lines.join("\n")
}

/// What was promised, and whether that is kept.
fn promised(ctx: &Context, found: &Found) -> Option<String> {
    let promise = found.local.promise?;
    let kept = !found.local.is_overdue(found.newest());
    let word = if kept { "kept".to_owned() } else { ctx.output.paint(Style::Red, "overdue") };
    let most = units::duration(u64::try_from(promise.as_millis()).unwrap_or(u64::MAX));
    Some(format!("promise      {word}: a snapshot at least every {most}"))
}

fn of_repository(ctx: &Context, o: &StatusOutcome) -> Vec<String> {
    let count = |n, one| units::count(n, one);
    let mut lines = vec![format!("snapshots    {} and {}", o.snapshots, count(o.safety, "safety snapshot"))];
    if let Some(info) = &o.newest {
        let stats = &info.snapshot.stats;
        lines.push(format!(
            "size         {} in {}; {} stored in the last 7 days by {}",
            units::size(stats.bytes),
            count(stats.files, "file"),
            units::size(o.week.bytes),
            count(o.week.snapshots, "snapshot")
        ));
    }
    lines.push(format!("last drill   {}", last_drill(ctx, o.drill.as_ref(), o.now)));
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
    lines
}

/// What was found, there and here.
struct Found {
    /// Nothing when the repository could not be looked at.
    outcome: Option<StatusOutcome>,
    /// Why not.
    error: Option<CliError>,
    local: Local,
}

impl Found {
    fn new(outcome: Option<StatusOutcome>, error: Option<CliError>, mut local: Local) -> Self {
        if let Some(o) = &outcome {
            local.settle(Job::Backup, o.newest.as_ref().map(|info| info.snapshot.time));
            let good = o.drill.as_ref().filter(|drill| drill.verdict == Verdict::Good);
            local.settle(Job::Drill, good.map(|drill| drill.time));
        }
        Self { outcome, error, local }
    }

    /// The time of the newest snapshot that we know of.
    fn newest(&self) -> Option<Timestamp> {
        match &self.outcome {
            Some(o) => o.newest.as_ref().map(|info| info.snapshot.time).max(self.unchanged()),
            None => self.local.last_backup(),
        }
    }

    /// A backup that found nothing changed made no snapshot, and is as good as one.
    fn unchanged(&self) -> Option<Timestamp> {
        let newest = self.outcome.as_ref()?.newest.as_ref()?;
        let record = self.local.records.get(Job::Backup)?;
        let same = record.snapshot.as_ref()?.id.as_ref() == Some(&newest.id.to_string());
        self.local.last_backup().filter(|_| same)
    }

    fn problems(&self) -> Vec<&'static str> {
        let mut problems: Vec<_> = match &self.outcome {
            Some(o) => o.problems.iter().map(word).collect(),
            None if self.local.last_backup().is_none() => vec!["unreachable", "never-backed-up"],
            None => vec!["unreachable"],
        };
        if self.local.is_overdue(self.newest()) {
            problems.push("overdue");
        }
        let failed: Vec<_> = self.local.failed().filter(|name| !problems.contains(name)).collect();
        problems.extend(failed);
        problems
    }
}

/// True for what keeps the repository from being looked at, and not the user's mistake.
fn is_away(error: &CliError, local: &Local) -> bool {
    match error.class {
        ErrorClass::Failed => true,
        // An unmounted disk; whoever never had one there has made a mistake.
        ErrorClass::NoRepository => local.knows_something(),
        _ => false,
    }
}

pub(super) fn run(_: &Args, ctx: &Context) -> Result<Status, CliError> {
    let (place, state_dir) = (Place::of(ctx)?, ctx.state_dir()?);
    let local = Local::look(ctx)?;
    let looked =
        ctx.open(OnSignal::End).and_then(|opened| opened.run(|session| app::status(session, &state_dir)));
    let (outcome, error) = match looked {
        Ok(outcome) => (Some(outcome), None),
        Err(error) if is_away(&error, &local) => (None, Some(error)),
        Err(error) => return Err(error),
    };
    let found = Found::new(outcome, error, local);
    if ctx.output.json {
        ctx.output.document(&document(&place, &state_dir, &found))?;
    } else {
        ctx.output.result(&words(ctx, &place, &state_dir, &found))?;
    }
    Ok(if found.problems().is_empty() { Status::Done } else { Status::Bad(ErrorClass::Failed) })
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
