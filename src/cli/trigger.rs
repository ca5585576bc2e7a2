//! `exuvia trigger`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::{self, OnSignal};
use super::{daemon as common, units};
use crate::clock::{Clock, SystemClock};
use crate::config::TriggersConfig;
use crate::daemon::socket::{Request, Response};
use crate::daemon::{self, Fired, Settings};
use crate::model::{ErrorClass, Timestamp};

/// What the process in the background says when it needs us no more.
const READY: &str = "ready";

/// Take a snapshot because something happened
///
/// Hands the event to the daemon of the state dir; where none can be reached, takes the snapshot itself. The reason of
/// the snapshot is NAME for before-compaction and gateway-stop; other names become a label `trigger:NAME`.
///
/// A trigger is deaf for a while after a snapshot for the same name began: five minutes for before-compaction, not at
/// all for others, or as [triggers] in the configuration file says. The daemon makes one more snapshot at the end of
/// that time when something has changed; without a daemon the event is dropped, and said to be. Runs never queue up:
/// of those that would have to wait, one does, and one snapshot is enough for all that was fired before it began. An
/// event that a daemon has accepted is not lost with it: the next one takes the snapshot.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia trigger before-compaction\n  exuvia trigger gateway-stop --detach   # for hooks that must not wait\n  exuvia trigger session-end --wait --json"
)]
pub(super) struct Args {
    /// What happened: before-compaction, gateway-stop, session-start, session-end, or any name of 1 to 32
    /// lowercase letters, digits and hyphens
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,

    /// Return at once: where no daemon runs, the snapshot is taken in the background
    #[arg(long)]
    detach: bool,

    /// Wait until the snapshot is taken, also by a daemon, and also when another run waits already
    #[arg(long, conflicts_with = "detach")]
    wait: bool,

    /// Be the process in the background
    #[arg(long, hide = true, conflicts_with_all = ["detach", "wait"])]
    background: bool,
}

fn name(text: &str) -> Result<String, &'static str> {
    const FORM: &str = "a trigger's name has 1 to 32 lowercase letters, digits and hyphens";
    if TriggersConfig::is_name(text) { Ok(text.to_owned()) } else { Err(FORM) }
}

/// What `--json` shows.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    trigger: &'a str,
    /// `ran`, `accepted` (by the daemon), `detached`, `deaf` or `queued`.
    result: &'static str,
    message: &'a str,
    /// When a trigger that is deaf is heard again.
    due: Option<String>,
    /// What `exuvia backup --json` says, after a run that was waited for.
    summary: Option<Value>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let places = common::places(ctx)?;
    if !args.background {
        let request = Request::Trigger { name: args.name.clone(), wait: args.wait };
        match daemon::ask(&places, &SystemClock::new(), &request, args.wait) {
            // One that is ending takes no note of it.
            Ok(Some(response)) if !response.ending => return told(args, ctx, response),
            Ok(_) => {}
            Err(e) => {
                ctx.output.warn(&format!("the daemon cannot be reached, so the snapshot is taken here: {e}"))
            }
        }
    }
    let settings = common::settings_of(ctx, &ctx.config)?;
    if args.detach {
        return detach(args, ctx, &settings);
    }
    if args.background {
        // Whoever started us may end its whole group once it hears that we stand on our own.
        let _ = daemon::own_session();
        // Nobody may be left to hear it.
        let _ = writeln!(std::io::stdout().lock(), "{READY}");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let log = Arc::new(common::log(ctx, settings.log_json, &clock));
    let stop = interrupt::listen(OnSignal::Ask, ctx.exit);
    let who = (args.name.as_str(), args.wait);
    let fired = daemon::fire(settings, who, &places, &clock, &log, &stop).map_err(common::explain)?;
    match fired {
        Fired::Ran(response) => told(args, ctx, response),
        Fired::Queued => say(
            args,
            ctx,
            "queued",
            "a snapshot is waiting for another to end already, and takes this along",
            None,
        ),
        Fired::Deaf { until } => {
            let message = format!(
                "a snapshot was taken for {} just now: nothing is done before {}",
                args.name,
                units::local(Timestamp::from_secs(until))
            );
            say(args, ctx, "deaf", &message, Some(until))
        }
    }
}

/// What the daemon, or our own run, came to.
fn told(args: &Args, ctx: &Context, response: Response) -> Result<Status, CliError> {
    if !response.ok {
        let class = ErrorClass::of_name(response.class.as_deref().unwrap_or_default());
        return Err(CliError::new(class, response.message));
    }
    let result = match (&response.summary, response.due) {
        (Some(_), _) => "ran",
        (None, Some(_)) => "deaf",
        (None, None) => "accepted",
    };
    let incomplete =
        response.summary.as_ref().and_then(|summary| summary.get("complete")?.as_bool()) == Some(false);
    show(args, ctx, result, &response.message, response.due, response.summary)?;
    Ok(if incomplete { Status::Incomplete } else { Status::Done })
}

fn say(
    args: &Args,
    ctx: &Context,
    result: &'static str,
    message: &str,
    due: Option<i64>,
) -> Result<Status, CliError> {
    show(args, ctx, result, message, due, None)?;
    Ok(Status::Done)
}

fn show(
    args: &Args,
    ctx: &Context,
    result: &'static str,
    message: &str,
    due: Option<i64>,
    summary: Option<Value>,
) -> Result<(), CliError> {
    // Whoever read the first line is gone.
    if args.background {
        return Ok(());
    }
    if !ctx.output.json {
        return ctx.output.summary(message);
    }
    let due = due.map(|due| units::rfc3339(Timestamp::from_secs(due)));
    ctx.output.document(&Document { r#type: "summary", trigger: &args.name, result, message, due, summary })
}

/// Has a process of its own session do it, and returns as soon as that one stands on its own.
fn detach(args: &Args, ctx: &Context, settings: &Settings) -> Result<Status, CliError> {
    let failed =
        |e: std::io::Error| CliError::failed(format!("cannot start a process in the background: {e}"));
    let mut command = Command::new(&settings.program);
    command.args(&settings.options).args(["trigger", &args.name, "--background"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(failed)?;
    }
    if line.trim_end() != READY {
        return Err(CliError::failed("the process in the background ended at once")
            .hint("without --detach it says what is wrong"));
    }
    say(
        args,
        ctx,
        "detached",
        "a snapshot is being taken in the background; `exuvia status` shows its end",
        None,
    )
}
