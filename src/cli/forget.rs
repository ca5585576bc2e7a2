//! `exuvia forget`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::{confirm, units};
use crate::app;

/// Remove safety snapshots, by their ids
///
/// Safety snapshots are taken before live state is overwritten, and nothing else ever removes one. Only the record of
/// the snapshot is removed; nothing that another snapshot needs is touched.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia snapshots --safety\n  exuvia forget --safety 3f9a1c20\n  exuvia forget --safety 3f9a1c20 77b0e4d1 --yes"
)]
pub(super) struct Args {
    /// The ids are those of safety snapshots
    #[arg(long, required = true)]
    safety: bool,

    /// Ids of snapshots, or unique beginnings of them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,

    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    removed: Vec<String>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    // Who asks needs to be ended by a signal; a removal is one request.
    let opened = ctx.open(OnSignal::End)?;
    let plan = opened.run(|session| app::forget_safety(session, &args.ids))?;
    let found = plan.snapshots();
    let count = units::count(found.len() as u64, "safety snapshot");
    let list: Vec<String> =
        found.iter().map(|(id, time)| format!("{} of {}", id.short(), units::local(*time))).collect();
    if !confirm::ask(&format!("Remove {count} for good: {}?", list.join(", ")), args.yes)? {
        return Err(CliError::failed("nothing was removed"));
    }
    opened.run(|session| plan.run(session))?;
    if ctx.output.json {
        let removed = found.iter().map(|(id, _)| id.to_string()).collect();
        ctx.output.document(&Summary { r#type: "summary", removed })?;
    } else {
        ctx.output.summary(&format!("removed {count}: {}", list.join(", ")))?;
    }
    Ok(Status::Done)
}
