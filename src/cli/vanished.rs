//! Snapshots that are gone though nobody removed them, in words and as JSON.

use serde::Serialize;

use super::units;
use crate::app::Vanished;

/// How many are named in words.
const SHOWN: usize = 3;

/// One as `--json` shows it.
#[derive(Serialize)]
pub(super) struct JsonVanished {
    id: String,
    time: String,
}

pub(super) fn json(vanished: &[Vanished]) -> Vec<JsonVanished> {
    let one = |one: &Vanished| JsonVanished { id: one.id.to_string(), time: units::rfc3339(one.time) };
    vanished.iter().map(one).collect()
}

/// What happened, what it may mean, and what to do; the newest are named.
pub(super) fn words(vanished: &[Vanished]) -> String {
    let named: Vec<String> = vanished
        .iter()
        .rev()
        .take(SHOWN)
        .map(|one| format!("{} of {}", one.id.short(), units::local(one.time)))
        .collect();
    let count = units::count(vanished.len() as u64, "snapshot");
    let more = if vanished.len() > SHOWN { ", ..." } else { "" };
    let it = if vanished.len() == 1 { "it" } else { "them" };
    format!(
        "{count} vanished: {}{more}; this machine has seen {it}, and nobody removed {it} with this program; was an older \
         state of the repository put back? if it was you: `exuvia forget --missing`",
        named.join(", ")
    )
}
