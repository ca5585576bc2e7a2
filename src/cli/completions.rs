//! `exuvia completions`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::error::{CliError, Status};
use super::{Cli, output};

/// Write a shell's completion script to stdout
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  exuvia completions bash > ~/.local/share/bash-completion/completions/exuvia"
)]
pub(super) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<Status, CliError> {
    // Into memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "exuvia", &mut script);
    let mut out = io::stdout().lock();
    output::written(out.write_all(&script).and_then(|()| out.flush()))?;
    Ok(Status::Done)
}
