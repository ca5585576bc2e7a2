//! `exuvia check`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::{Level, Style};
use super::{text, units};
use crate::app::{self, CheckOutcome, CheckRequest, Problem, ReadData};
use crate::model::{ErrorClass, Timestamp};

/// Verify a repository
///
/// Checks that every snapshot can be reached and that everything it needs is there; with --read-data, that
/// every byte is as it was written. Ends with exit code 13 when there is damage.
///
/// A part of the data is chosen so that all of it is read in time: what this machine has not read for the longest
/// time comes first. N/M is the same part each time, whichever machine asks. Packs that were found damaged are
/// always read again.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia check\n  exuvia check --read-data-subset 10%\n  exuvia check --read-data-subset 500M\n  exuvia check --read-data-subset 3/7    the third of seven parts"
)]
pub(super) struct Args {
    /// Read and verify all data
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,

    /// Read and verify about this part of the data: a percentage, a size, or part N of M
    #[arg(long, value_name = "N%|SIZE|N/M", value_parser = subset)]
    read_data_subset: Option<ReadData>,
}

/// A part of the data, as the user spells it.
pub(super) fn subset(text: &str) -> Result<ReadData, String> {
    let wrong = || "give a percentage above 0 and up to 100 (10%), a size (500M), or a part (3/7)".to_owned();
    let part = |(number, of): (&str, &str)| {
        let (number, of) = (number.trim().parse().ok()?, of.trim().parse().ok()?);
        (1..=of).contains(&number).then_some(ReadData::Part { number, of })
    };
    let found = match (text.strip_suffix('%'), text.split_once('/')) {
        (Some(number), _) => {
            let number = number.trim().parse::<f64>().ok();
            number.filter(|n| *n > 0.0 && *n <= 100.0).map(ReadData::Percent)
        }
        (None, Some(parts)) => part(parts),
        (None, None) => bytes(text.trim()).map(ReadData::Bytes),
    };
    found.ok_or_else(wrong)
}

/// A size with a unit of 1024: `500M`, `1.5G`, `4096B`.
fn bytes(text: &str) -> Option<u64> {
    let text = text.strip_suffix("iB").unwrap_or(text);
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let shift = "BKMGTP".find(&unit.to_uppercase())? * 10;
    let number = number.parse::<f64>().ok().filter(|n| *n > 0.0 && *n < 1e6)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and bounded")]
    let whole = (number * f64::from(1u32 << 10).powi(i32::try_from(shift / 10).ok()?)).ceil() as u64;
    Some(whole)
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    ok: bool,
    problems: Vec<JsonProblem<'a>>,
    notes: &'a [String],
    snapshots: u64,
    packs: u64,
    packs_read: u64,
    blobs: u64,
    bytes_read: u64,
    packs_unread: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_since: Option<String>,
    duration_ms: u64,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    object: &'a str,
    message: &'a str,
    paths: &'a [String],
    path_count: u64,
}

impl<'a> From<&'a Problem> for JsonProblem<'a> {
    fn from(problem: &'a Problem) -> Self {
        let Problem { object, message, paths, path_count } = problem;
        Self { object, message, paths, path_count: *path_count }
    }
}

fn summary(o: &CheckOutcome) -> Summary<'_> {
    Summary {
        r#type: "summary",
        ok: o.problems.is_empty(),
        problems: o.problems.iter().map(Into::into).collect(),
        notes: &o.notes,
        snapshots: o.snapshots,
        packs: o.packs,
        packs_read: o.packs_read,
        blobs: o.blobs,
        bytes_read: o.bytes_read,
        packs_unread: o.packs_unread,
        read_since: o.read_since.map(units::rfc3339),
        duration_ms: o.duration_ms,
    }
}

/// How much of the data this machine has read, and since when.
pub(super) fn coverage(since: Option<Timestamp>, unread: u64) -> String {
    match (since, unread) {
        (Some(since), 0) => format!("all data read since {}", units::local_minutes(since)),
        (Some(since), n) => {
            format!(
                "{} never read here, the others since {}",
                units::count(n, "pack"),
                units::local_minutes(since)
            )
        }
        (None, 0) => "no data".to_owned(),
        (None, _) => "no data read here yet (--read-data)".to_owned(),
    }
}

pub(super) fn problems(ctx: &Context, problems: &[Problem]) -> String {
    let mut lines = Vec::new();
    for problem in problems {
        let object = text::printable(problem.object.as_bytes());
        let message = text::printable(problem.message.as_bytes());
        lines.push(format!("{} {object}: {message}", ctx.output.paint(Style::Red, "damaged")));
        lines
            .extend(problem.paths.iter().map(|path| format!("  hurts {}", text::printable(path.as_bytes()))));
        let more = problem.path_count.saturating_sub(problem.paths.len() as u64);
        if more > 0 {
            lines.push(format!("  and {} more", units::count(more, "path")));
        }
    }
    lines.join("\n")
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let read_data = match (args.read_data, args.read_data_subset) {
        (true, _) => ReadData::All,
        (false, Some(part)) => part,
        (false, None) => ReadData::No,
    };
    let opened = ctx.open(OnSignal::Ask)?;
    let o = opened.run(|session| app::check(session, &CheckRequest { read_data }))?;
    if ctx.output.json {
        ctx.output.document(&summary(&o))?;
    } else {
        for note in &o.notes {
            ctx.output.line(Level::Note, None, note);
        }
        if !o.problems.is_empty() {
            ctx.output.result(&problems(ctx, &o.problems))?;
        }
        let verdict = match o.problems.len() as u64 {
            0 => "no damage found".to_owned(),
            n => ctx.output.paint(Style::Red, &units::count(n, "problem")),
        };
        ctx.output.summary(&format!(
            "{verdict}: {}, {} ({} read, {}), {}, {}; {}",
            units::count(o.snapshots, "snapshot"),
            units::count(o.packs, "pack"),
            o.packs_read,
            units::size(o.bytes_read),
            units::count(o.blobs, "blob"),
            units::duration(o.duration_ms),
            coverage(o.read_since, o.packs_unread)
        ))?;
    }
    Ok(if o.problems.is_empty() { Status::Done } else { Status::Bad(ErrorClass::Damaged) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_data() {
        assert_eq!(subset("10%"), Ok(ReadData::Percent(10.0)));
        assert_eq!(subset("0.5%"), Ok(ReadData::Percent(0.5)));
        assert_eq!(subset("500M"), Ok(ReadData::Bytes(500 << 20)));
        assert_eq!(subset("1.5GiB"), Ok(ReadData::Bytes(3 << 29)));
        assert_eq!(subset("7B"), Ok(ReadData::Bytes(7)));
        assert_eq!(subset("3/7"), Ok(ReadData::Part { number: 3, of: 7 }));
        for wrong in [
            "10", "0%", "101%", "-1%", "NaN%", "%", "x%", "inf%", "0/7", "8/7", "1/0", "/", "1/x", "-5M",
            "M", "", "é",
        ] {
            assert!(subset(wrong).is_err(), "{wrong}");
        }
    }
}
