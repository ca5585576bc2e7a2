//! Prunes a repository.

use std::time::Duration;

use super::run::{open, uploads};
use super::{AppError, Session};
use crate::ops::prune;
use crate::repo::{Compression, PackerOptions};

pub use crate::ops::prune::{Amount, Done, GRACE, MAX_UNUSED, Outcome as PruneOutcome, Summary};

/// What to prune.
pub struct PruneRequest {
    /// Plan, and change nothing.
    pub dry_run: bool,
    /// How long packs stay condemned.
    pub grace: Duration,
    /// Percentage of what is needed that may be kept though nobody needs it.
    pub max_unused: f64,
    /// Bytes to be copied at most.
    pub max_repack: Option<u64>,
    /// How hard to compress what is copied.
    pub compression: Compression,
}

impl Default for PruneRequest {
    fn default() -> Self {
        Self {
            dry_run: false,
            grace: GRACE,
            max_unused: MAX_UNUSED,
            max_repack: None,
            compression: Compression::default(),
        }
    }
}

/// Frees the space of what no snapshot needs.
pub fn prune(session: &Session, request: &PruneRequest) -> Result<PruneOutcome, AppError> {
    let (repository, counting) = open(session)?;
    let packer = PackerOptions {
        compression: request.compression,
        uploads: uploads(&repository),
        ..PackerOptions::new(session.threads)
    };
    let request = prune::Request {
        dry_run: request.dry_run,
        grace: request.grace,
        max_unused: request.max_unused,
        max_repack: request.max_repack,
        packer,
    };
    Ok(prune::run(&repository, &counting, &request, &session.monitor, &session.clock)?)
}
