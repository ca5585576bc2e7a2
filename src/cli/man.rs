//! `exuvia man`.

use std::path::PathBuf;

use clap::CommandFactory;

use super::error::{CliError, Status};
use super::{Cli, text};

/// Write the manual pages into a directory
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  exuvia man ~/.local/share/man/man1")]
pub(super) struct Args {
    /// The directory; made if it does not exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Status, CliError> {
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir))
        .map_err(|e| CliError::failed(format!("cannot write to {}: {e}", text::show(&args.dir))))?;
    Ok(Status::Done)
}
