//! `exuvia key rotate`.

use serde::Serialize;

use super::confirm;
use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::units;
use crate::app::{self, Rotated};
use crate::model::ErrorClass;

/// Begin a new master key
///
/// What is stored from now on is sealed with a key that nobody has yet; the passphrase in use opens it. All other keys
/// are removed, since they open nothing of it: passphrases, recovery phrases and writer keys are then added again with
/// `exuvia key`. What was stored before stays as it is, readable for who had a key of it, and is still found: nothing
/// is stored twice.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia key rotate\n  exuvia key rotate --yes && exuvia key recovery")]
pub(super) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    action: &'static str,
    id: String,
    generation: u8,
    removed: Vec<String>,
    /// Keys that could not be removed.
    left: Vec<String>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::End)?;
    let plan = opened.run(app::key_rotation)?;
    let others = plan.others().len() as u64;
    if others > 0 {
        let words = match others {
            1 => "Another key is removed, and must be added again by who holds it.".to_owned(),
            n => format!("{} other keys are removed, and must be added again by who holds them.", n),
        };
        if !confirm::ask(&format!("{words} Go on?"), args.yes)? {
            return Err(CliError::failed("nothing was changed"));
        }
    }
    let rotated = opened.run(|session| plan.run(session))?;
    tell(ctx, others, &rotated)
}

fn tell(ctx: &Context, others: u64, rotated: &Rotated) -> Result<Status, CliError> {
    for (key, error) in &rotated.left {
        let short = key.short();
        ctx.output.warn(&format!(
            "key {short} could not be removed: {error}; where keys/{key} stays, it opens what was stored before"
        ));
    }
    if let Some((claim, error)) = &rotated.claim_left {
        ctx.output.warn(&format!(
            "the claim of this rotation could not be removed: {error}; keys/{claim} opens nothing and is in nobody's way"
        ));
    }
    if ctx.output.json {
        ctx.output.document(&Summary {
            r#type: "summary",
            action: "rotated",
            id: rotated.key.to_string(),
            generation: rotated.generation,
            removed: rotated.removed.iter().map(ToString::to_string).collect(),
            left: rotated.left.iter().map(|(key, _)| key.to_string()).collect(),
        })?;
    } else {
        ctx.output.summary(&format!(
            "rotated: key {} of generation {}; {} removed",
            rotated.key.short(),
            rotated.generation,
            units::count(rotated.removed.len() as u64, "key")
        ))?;
        if others > 0 {
            ctx.output.say("passphrases, recovery phrases and writer keys of others must be added again");
        }
    }
    Ok(if rotated.left.is_empty() { Status::Done } else { Status::Bad(ErrorClass::Failed) })
}
