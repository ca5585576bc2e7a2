//! What a shrunken snapshot lost, in words and as JSON.

use serde::Serialize;

use super::text::{self, JsonPath};
use super::units;
use crate::model::{Loss, Snapshot};

/// A loss as `--json` shows it.
#[derive(Serialize)]
pub(super) struct JsonLoss {
    /// `files`, `bytes` or `database`.
    what: &'static str,
    /// The database.
    #[serde(flatten)]
    path: Option<JsonPath>,
    /// Files, or bytes, that the parent had.
    before: u64,
    /// What is left; none for a database that is gone.
    now: Option<u64>,
}

pub(super) fn json(snapshot: &Snapshot) -> Vec<JsonLoss> {
    let loss = |loss: &Loss| {
        let (what, path, before) = match loss {
            Loss::Files { before } => ("files", None, *before),
            Loss::Bytes { before } => ("bytes", None, *before),
            Loss::Database { path, before } => ("database", Some(path.into()), *before),
        };
        JsonLoss { what, path, before, now: snapshot.left_of(loss) }
    };
    snapshot.losses.iter().map(loss).collect()
}

/// One phrase for each loss: `3310 of 3400 files are gone`.
pub(super) fn words(snapshot: &Snapshot) -> Vec<String> {
    let phrase = |loss: &Loss| match (loss, snapshot.left_of(loss)) {
        (Loss::Files { before }, now) => {
            format!(
                "{} of {} are gone",
                before - now.unwrap_or(0).min(*before),
                units::count(*before, "file")
            )
        }
        (Loss::Bytes { before }, now) => {
            format!("{} became {}", units::size(*before), units::size(now.unwrap_or(0)))
        }
        (Loss::Database { path, before }, None) => {
            format!("the database {} ({}) is gone", text::show_entry(path), units::size(*before))
        }
        (Loss::Database { path, before }, Some(now)) => {
            format!(
                "the database {} fell from {} to {}",
                text::show_entry(path),
                units::size(*before),
                units::size(now)
            )
        }
    };
    snapshot.losses.iter().map(phrase).collect()
}
