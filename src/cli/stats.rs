//! `exuvia stats`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::Table;
use super::units;
use crate::app::{self, StatsOutcome};

/// Show sizes: what the snapshots hold, what is stored, and how it grew
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  exuvia stats --json")]
pub(super) struct Args {}

#[derive(Serialize)]
struct Document {
    snapshots: u64,
    total_bytes: u64,
    unique_bytes: u64,
    blobs: u64,
    packs: u64,
    pack_bytes: u64,
    other_bytes: u64,
    stored_bytes: u64,
    /// Bytes of distinct content for each byte stored; `null` when nothing is stored.
    compression_ratio: Option<f64>,
    /// Bytes in all snapshots for each byte of distinct content.
    dedup_ratio: Option<f64>,
    growth: Vec<Growth>,
}

#[derive(Serialize)]
struct Growth {
    id: String,
    time: String,
    bytes: u64,
    bytes_added_stored: u64,
}

#[expect(clippy::cast_precision_loss, reason = "two digits of a ratio are enough")]
fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| (of as f64 / to as f64 * 100.0).round() / 100.0)
}

fn document(o: &StatsOutcome) -> Document {
    Document {
        snapshots: o.snapshots,
        total_bytes: o.total_bytes,
        unique_bytes: o.unique_bytes,
        blobs: o.blobs,
        packs: o.packs,
        pack_bytes: o.pack_bytes,
        other_bytes: o.other_bytes,
        stored_bytes: o.pack_bytes.saturating_add(o.other_bytes),
        compression_ratio: ratio(o.unique_bytes, o.pack_bytes),
        dedup_ratio: ratio(o.total_bytes, o.unique_bytes),
        growth: o
            .growth
            .iter()
            .map(|(id, time, bytes, bytes_added_stored)| Growth {
                id: id.to_string(),
                time: units::rfc3339(*time),
                bytes: *bytes,
                bytes_added_stored: *bytes_added_stored,
            })
            .collect(),
    }
}

pub(super) fn run(_args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::End)?;
    let o = opened.run(app::stats)?;
    let document = document(&o);
    if ctx.output.json {
        ctx.output.document(&document)?;
        return Ok(Status::Done);
    }
    let times = |ratio: Option<f64>| ratio.map(|r| format!(" ({r:.2} to 1)")).unwrap_or_default();
    let mut lines = vec![
        format!("snapshots     {}", o.snapshots),
        format!("in all files  {}", units::size(o.total_bytes)),
        format!(
            "distinct      {} in {}{}",
            units::size(o.unique_bytes),
            units::count(o.blobs, "blob"),
            times(document.dedup_ratio)
        ),
        format!(
            "stored        {} in {}{}",
            units::size(o.pack_bytes),
            units::count(o.packs, "pack"),
            times(document.compression_ratio)
        ),
        format!("and besides   {}", units::size(o.other_bytes)),
    ];
    if !o.growth.is_empty() {
        let mut table = Table::new(&["ID", "TIME", "SIZE", "ADDED"], &[2, 3]);
        for (id, time, bytes, added) in &o.growth {
            table.row(vec![id.short(), units::local(*time), units::size(*bytes), units::size(*added)]);
        }
        lines.push(String::new());
        lines.push(table.render(&ctx.output));
    }
    ctx.output.result(&lines.join("\n"))?;
    Ok(Status::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_ratio() {
        assert_eq!(ratio(5, 0), None);
        assert_eq!(ratio(1, 3), Some(0.33));
        assert_eq!(document(&StatsOutcome::default()).compression_ratio, None);
    }
}
