//! `exuvia check`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::output::{Level, Style};
use super::{text, units};
use crate::app::{self, CheckOutcome, CheckRequest, Problem, ReadData};
use crate::model::ErrorClass;

/// Verify a repository
///
/// Checks that every snapshot can be reached and that everything it needs is there; with --read-data, that
/// every byte is as it was written. Ends with exit code 13 when there is damage.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  exuvia check\n  exuvia check --read-data-subset 10%")]
pub(super) struct Args {
    /// Read and verify all data
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,

    /// Read and verify about this part of the data, chosen at random
    #[arg(long, value_name = "N%", value_parser = percent)]
    read_data_subset: Option<f64>,
}

fn percent(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|n| *n > 0.0 && *n <= 100.0)
        .ok_or_else(|| "give a percentage above 0 and up to 100, such as 10%".to_owned())
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
        duration_ms: o.duration_ms,
    }
}

fn problems(ctx: &Context, problems: &[Problem]) -> String {
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
        (false, Some(percent)) => ReadData::Percent(percent),
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
            "{verdict}: {}, {} ({} read, {}), {}, {}",
            units::count(o.snapshots, "snapshot"),
            units::count(o.packs, "pack"),
            o.packs_read,
            units::size(o.bytes_read),
            units::count(o.blobs, "blob"),
            units::duration(o.duration_ms)
        ))?;
    }
    Ok(if o.problems.is_empty() { Status::Done } else { Status::Bad(ErrorClass::Damaged) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        assert_eq!(percent("10%"), Ok(10.0));
        assert_eq!(percent("0.5%"), Ok(0.5));
        for wrong in ["10", "0%", "101%", "-1%", "NaN%", "%", "x%", "inf%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
