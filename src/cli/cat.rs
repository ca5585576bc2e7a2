//! `exuvia cat`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::{output, snap_path, sources};
use crate::app;

/// Write one file of a snapshot to stdout
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia cat latest openclaw.json\n  exuvia cat latest~1 memory/today.md > old.md"
)]
pub(super) struct Args {
    /// The snapshot: latest, latest~N, an id, or a time
    #[arg(value_name = "SNAP")]
    snapshot: String,

    #[command(flatten)]
    sources: sources::Args,

    /// The file
    #[arg(value_name = "PATH")]
    path: OsString,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let path = snap_path::parse(ctx, &args.path)?;
    let sources = args.sources.sources()?;
    let opened = ctx.open(OnSignal::End)?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    opened.stream(|session| {
        let snapshot = app::resolve(session, &args.snapshot, &sources)?;
        app::cat(session, &snapshot, &path, &mut out)
    })?;
    output::written(out.flush())?;
    Ok(Status::Done)
}
