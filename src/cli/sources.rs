//! `--host` and `--root`: whose snapshots `latest` and times mean.

use std::path::PathBuf;

use super::error::CliError;
use super::global;
use crate::app;

/// Options of the commands that take a SNAP.
#[derive(clap::Args, Debug)]
// The commands' own options have this name already.
#[group(skip)]
pub(super) struct Args {
    /// Let SNAP mean snapshots of this machine only
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// Let SNAP mean snapshots of this directory only, by the path that it had there
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl Args {
    /// What the options say. The directory may be one of another machine, so nothing is looked up.
    pub(super) fn sources(&self) -> Result<app::Sources, CliError> {
        let root = self.root.as_deref().map(global::absolute).transpose()?;
        Ok(app::Sources { host: self.host.clone(), root })
    }
}
