//! `exuvia full prune`.

use serde::Serialize;

use super::super::error::{CliError, Status};
use super::super::forget::Rules;
use super::super::global::Context;
use super::super::interrupt::OnSignal;
use super::super::output::{Style, Table};
use super::super::{confirm, units};
use crate::app::{self, FullPrunePlan};

/// Remove full archives by age and number
///
/// The rules are those of `exuvia forget`: what any of them keeps is kept, the newest archive and the newest complete
/// one of each machine and directory always. Without rules the policy is `retention` of the table [full]. What an
/// upload of the sealed form left that ended early is removed when it is two days old; what cannot be judged is kept:
/// damaged archives, and those of the other forms without a mark, which might be of another program.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full prune --keep-daily 7 --keep-monthly 6 --dry-run\n  exuvia full prune --policy 5 --yes"
)]
pub(super) struct Args {
    #[command(flatten)]
    rules: Rules,

    /// Show what would be kept, and why, and remove nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    dry_run: bool,
    kept: Vec<JsonKept>,
    /// For a dry run: what would be removed.
    removed: Vec<String>,
    /// What uploads left that did not come to their end.
    partial_removed: Vec<String>,
    /// What cannot be judged, and is kept.
    unjudged: Vec<String>,
    bytes_freed: u64,
}

#[derive(Serialize)]
struct JsonKept {
    name: String,
    reasons: Vec<&'static str>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let configured = || ctx.config.full.retention.clone().filter(|_| !args.rules.is_given());
    let Some(policy) = args.rules.policy()?.or_else(configured) else {
        return Err(CliError::usage(
            "no rule says which archives are kept, and none is not what anybody wants",
        )
        .hint("for example --keep-daily 7 --keep-monthly 6, or --policy 5; --dry-run shows what it does")
        .hint("`retention` in the table [full] of the configuration file says it once and for all"));
    };
    let opened = ctx.open(OnSignal::End)?;
    let plan = opened.run(|session| app::full_prune(session, &policy))?;
    let removed = plan.plan().removed.len();
    let asks = plan.plan().is_drastic && !args.yes && !args.dry_run;
    if (args.dry_run || asks) && !ctx.output.json {
        ctx.output.result(&table(ctx, &plan))?;
    }
    let going = removed + plan.plan().left.len();
    let question = format!("Remove {} for good?", units::count(going as u64, "archive"));
    if asks && !confirm::ask(&question, false)? {
        return Err(CliError::failed("nothing was removed"));
    }
    let planned: u64 = plan.plan().removed.iter().map(|listed| listed.size).sum();
    let freed = match args.dry_run {
        true => planned,
        false => opened.run(|session| plan.run(session))?,
    };
    if ctx.output.json {
        ctx.output.document(&summary(args, &plan, freed))?;
        return Ok(Status::Done);
    }
    let left = plan.plan().left.len();
    let left = match left {
        0 => String::new(),
        n => format!(" and what {} left", units::count(n as u64, "unfinished upload")),
    };
    let done = if args.dry_run { "would remove" } else { "removed" };
    let total = removed + plan.plan().kept.len();
    ctx.output.summary(&format!(
        "{done} {removed} of {}{left}, {}",
        units::count(total as u64, "archive"),
        units::size(freed)
    ))?;
    Ok(Status::Done)
}

fn summary(args: &Args, plan: &FullPrunePlan, freed: u64) -> Summary {
    let plan = plan.plan();
    let kept = |(listed, reasons): &(app::FullListed, Vec<&'static str>)| JsonKept {
        name: listed.name.to_string(),
        reasons: reasons.clone(),
    };
    Summary {
        r#type: "summary",
        dry_run: args.dry_run,
        kept: plan.kept.iter().map(kept).collect(),
        removed: plan.removed.iter().map(|listed| listed.name.to_string()).collect(),
        partial_removed: plan.left.iter().map(ToString::to_string).collect(),
        unjudged: plan.unjudged.iter().map(|listed| listed.name.to_string()).collect(),
        bytes_freed: freed,
    }
}

fn table(ctx: &Context, plan: &FullPrunePlan) -> String {
    let plan = plan.plan();
    let mut table = Table::new(&["NAME", "STORED", "KEPT AS"], &[1]);
    for (listed, reasons) in &plan.kept {
        table.row(vec![listed.name.to_string(), units::size(listed.size), reasons.join(", ")]);
    }
    for listed in &plan.removed {
        let removed = ctx.output.paint(Style::Red, "(removed)");
        table.row(vec![listed.name.to_string(), units::size(listed.size), removed]);
    }
    for name in &plan.left {
        table.row(vec![
            name.to_string(),
            String::new(),
            ctx.output.paint(Style::Red, "(unfinished, removed)"),
        ]);
    }
    for listed in &plan.unjudged {
        table.row(vec![listed.name.to_string(), units::size(listed.size), listed.state.name().to_owned()]);
    }
    table.render(&ctx.output)
}
