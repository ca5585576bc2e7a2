//! `exuvia auto-restore`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::error::{self, CliError, Situation, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::Style;
use super::{losses, settings, text, units};
use crate::app::AppError;
use crate::app::auto_restore::{
    self as app, Choice, Error, FOLDER, Fit, Left, Look, Outcome, Reason, Request, Stage, Verdict,
};
use crate::clock::{Clock, SystemClock};
use crate::model::ErrorClass;

/// Restore the state dir if it is missing or empty; else do nothing
///
/// For new machines and containers, before the application starts. The newest complete snapshot of such a
/// state dir is written beside its place, checked, and moved there in one go; absolute paths in OpenClaw's
/// files and databases are changed to the new place. A state dir that has anything in it but what a fresh
/// install creates is left alone, and so is one that was restored or in use before, even when it is empty
/// now: the folder .exuvia-auto-restore in it remembers. Exit code 0 in all these cases.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia auto-restore\n  exuvia auto-restore --dry-run\n  exuvia --repo rclone:b2:bucket/agent --state-dir /data auto-restore && exec openclaw gateway"
)]
pub(super) struct Args {
    /// Say what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Leave absolute paths in files and databases as they are
    #[arg(long)]
    no_relocate: bool,

    /// Restore owner and group, which mostly takes root's rights
    #[arg(long)]
    owner: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    restored: bool,
    dry_run: bool,
    /// `missing`, `empty`, `fresh-install`, `cut-off`, `in-use`, `decided` or `no-snapshot`.
    reason: &'static str,
    message: String,
    state_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir_base64: Option<String>,
    snapshot: Option<String>,
    time: Option<String>,
    files: u64,
    dirs: u64,
    others: u64,
    bytes_written: u64,
    databases_checked: u64,
    relocated: Vec<Relocated>,
    set_aside: Vec<SetAside>,
    duration_ms: u64,
}

#[derive(Serialize)]
struct Relocated {
    #[serde(flatten)]
    path: text::JsonPath,
    place: Option<String>,
    count: u64,
}

#[derive(Serialize)]
struct SetAside {
    #[serde(flatten)]
    path: text::JsonPath,
    moved_to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to_base64: Option<String>,
}

fn reason(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Restored { reason, .. } => match reason {
            Reason::Missing => "missing",
            Reason::Empty => "empty",
            Reason::FreshInstall => "fresh-install",
            Reason::CutOff => "cut-off",
        },
        Verdict::Left(Left::InUse(_)) => "in-use",
        Verdict::Left(Left::Decided(..)) => "decided",
        Verdict::Left(Left::NoSnapshot) => "no-snapshot",
    }
}

/// What was done and why, in one sentence.
fn message(outcome: &Outcome, dry_run: bool) -> String {
    let dir = text::show(&outcome.state_dir);
    match &outcome.verdict {
        Verdict::Left(Left::InUse(sign)) => format!(
            "nothing to restore: {dir} is in use ({} {})",
            text::show_entry(&sign.path),
            text::printable(sign.what.as_bytes())
        ),
        Verdict::Left(Left::Decided(stage, time)) => {
            let time = text::printable(time.as_bytes());
            let what = match stage {
                Stage::Restored => format!("was restored already, at {time}"),
                _ => format!("was in use at {time}"),
            };
            let folder = text::show(&outcome.state_dir.join(FOLDER));
            format!("nothing to restore: {dir} {what}; without {folder} it would be looked at again")
        }
        Verdict::Left(Left::NoSnapshot) => {
            format!("nothing to restore: the repository has no complete snapshot of a state dir like {dir}")
        }
        Verdict::Restored { reason: Reason::CutOff, .. } => {
            format!(
                "{dir} {} an earlier auto-restore that was cut off",
                if dry_run { "awaits the end of" } else { "is complete now, after" }
            )
        }
        Verdict::Restored { reason, .. } => {
            let was = match reason {
                Reason::Missing => "was missing",
                Reason::Empty => "was empty",
                _ => "had nothing in it but what a fresh install creates",
            };
            format!("{dir} {was}{}", if dry_run { " and would be restored" } else { ": restored" })
        }
    }
}

fn why(choice: &Choice) -> &'static str {
    match choice.fit {
        Fit::SamePlace => "the newest complete one of this directory",
        Fit::SameName => "the newest complete one of a directory of this name",
        Fit::SameProfile => "the newest complete one of OpenClaw",
        Fit::OnlyPlace => "the newest complete one",
    }
}

fn summary(outcome: &Outcome, dry_run: bool) -> Summary {
    let (state_dir, state_dir_base64) = text::lossy(outcome.state_dir.as_os_str().as_bytes());
    let mut summary = Summary {
        r#type: "summary",
        restored: false,
        dry_run,
        reason: reason(&outcome.verdict),
        message: message(outcome, dry_run),
        state_dir,
        state_dir_base64,
        snapshot: None,
        time: None,
        files: 0,
        dirs: 0,
        others: 0,
        bytes_written: 0,
        databases_checked: 0,
        relocated: Vec::new(),
        set_aside: Vec::new(),
        duration_ms: 0,
    };
    if let Verdict::Restored { choice, restored, relocated, set_aside, .. } = &outcome.verdict {
        summary.restored = !dry_run;
        summary.snapshot = choice.as_ref().map(|c| c.id.to_string());
        summary.time = choice.as_ref().map(|c| units::rfc3339(c.snapshot.time));
        (summary.files, summary.dirs, summary.others) = (restored.files, restored.dirs, restored.others);
        summary.bytes_written = restored.bytes_written;
        summary.databases_checked = restored.databases_checked;
        summary.duration_ms = restored.duration_ms;
        let moved = relocated.iter();
        summary.relocated = moved
            .map(|r| Relocated { path: (&r.path).into(), place: r.place.clone(), count: r.count })
            .collect();
        summary.set_aside = set_aside.iter().map(|(from, to)| aside(from, to)).collect();
    }
    summary
}

fn aside(from: &Path, to: &Path) -> SetAside {
    let (moved_to, moved_to_base64) = text::lossy(to.as_os_str().as_bytes());
    SetAside { path: from.into(), moved_to, moved_to_base64 }
}

fn words(ctx: &Context, outcome: &Outcome, dry_run: bool) -> String {
    let mut lines = vec![message(outcome, dry_run)];
    let Verdict::Restored { choice, restored, relocated, set_aside, .. } = &outcome.verdict else {
        return lines.remove(0);
    };
    if let Some(choice) = choice {
        let root = PathBuf::from(<std::ffi::OsStr as OsStrExt>::from_bytes(&choice.snapshot.root));
        lines.push(format!(
            "snapshot {} of {}, of {} on {}: {}",
            ctx.output.paint(Style::Bold, &choice.id.short()),
            units::local(choice.snapshot.time),
            text::show(&root),
            text::printable(choice.snapshot.host.as_bytes()),
            why(choice)
        ));
        if choice.incomplete > 0 {
            lines.push(format!(
                "passed over: {}",
                units::count(choice.incomplete, "newer incomplete snapshot")
            ));
        }
        if choice.snapshot.is_marked() {
            let lost = losses::words(&choice.snapshot).join("; ");
            lines.push(format!(
                "it has much less than the one before it: {lost}; `exuvia snapshots` lists that too"
            ));
        }
        for other in &choice.others {
            lines.push(format!("there are older snapshots of {} too", text::printable(other)));
        }
    }
    if restored.files > 0 {
        lines.push(format!(
            "{}, {}, {}, {}",
            units::count(restored.files, "file"),
            units::size(restored.bytes_written),
            units::count(restored.databases_checked, "good database"),
            units::duration(restored.duration_ms)
        ));
    }
    for moved in relocated {
        let place = moved.place.as_ref().map_or(String::new(), |place| format!(": {place}"));
        let path = text::show_entry(&moved.path);
        lines.push(format!("{} changed in {path}{place}", units::count(moved.count, "path")));
    }
    if let Some(folder) = set_aside.first().and_then(|(_, to)| to.parent()) {
        let names = set_aside.iter().filter_map(|(_, to)| to.file_name());
        let names: Vec<_> = names.map(|name| text::printable(name.as_bytes())).collect();
        lines.push(format!("set aside in {}: {}", text::show(folder), names.join(", ")));
    }
    lines.join("\n")
}

/// Adds what can be done about it.
fn advise(error: CliError, cause: &AppError) -> CliError {
    match cause {
        AppError::AutoRestore(Error::Marker { .. }) => {
            error.hint("remove it to have the state dir looked at again")
        }
        AppError::AutoRestore(Error::MountPoint { .. }) => {
            error.hint("`exuvia restore --to DIR` writes into a directory as it is")
        }
        AppError::AutoRestore(Error::Relocate(_)) => {
            error.hint("--no-relocate restores without changing any path")
        }
        AppError::AutoRestore(Error::Files { .. }) => {
            error.hint("`exuvia restore --to DIR` restores what can be restored")
        }
        _ => error,
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let request = Request {
        state_dir: ctx.state_dir()?,
        dry_run: args.dry_run,
        relocate: !args.no_relocate,
        owner: args.owner,
        threads: settings::threads(ctx)?.0,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Most of the time there is nothing to do, and then nobody shall be asked for a passphrase.
    let outcome = match app::look(&request, &ctx.quiet_monitor(), &clock) {
        Ok(Look::Done(outcome)) => outcome,
        Ok(Look::Open(held)) => {
            let opened = ctx.open(OnSignal::Ask)?;
            opened.run_advised(advise, |session| app::run(session, &request, held))?
        }
        Err(e) => {
            let situation =
                Situation { unmade: false, remote: false, configured: false, passphrase: String::new() };
            let explained = error::explain(&e, &situation);
            return Err(advise(
                explained.unwrap_or_else(|| CliError::new(ErrorClass::Failed, e.to_string())),
                &e,
            ));
        }
    };
    if ctx.output.json {
        ctx.output.document(&summary(&outcome, args.dry_run))?;
    } else {
        ctx.output.summary(&words(ctx, &outcome, args.dry_run))?;
    }
    Ok(Status::Done)
}
