//! How fast this machine's stages and the remote are, and what that means for the state dir.
//!
//! Nothing is opened: no passphrase is needed, and what is measured with are keys of its own.

mod estimate;
mod probe;
mod sample;
mod stages;
mod timer;

use std::path::PathBuf;
use std::sync::Arc;

pub use estimate::{Bound, Estimate};
pub use probe::{Left, RemoteOutcome, RemoteSpeed};
pub use sample::Tree;
pub use stages::{Level, Stages};
pub use timer::Rate;

use self::sample::Sample;
use self::timer::Timer;
use super::{AppError, Location};
use crate::clock::Clock;
use crate::report::Monitor;

/// Measures this machine and the way to the repository.
pub struct BenchRequest {
    /// The directory that the sample is taken from; where there is none, the sample is made up.
    pub state_dir: Option<PathBuf>,
    /// The repository's place, if one is known. A local one is no part of the sample.
    pub location: Option<Location>,
    /// Measure the way to it, too.
    pub remote: bool,
    /// The user's cache directory for this program; no part of the sample either.
    pub cache_dir: PathBuf,
    /// Worker threads that backups and restores would have.
    pub threads: usize,
    /// Listens.
    pub monitor: Arc<dyn Monitor>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What was measured, and what follows.
#[derive(Debug)]
pub struct BenchOutcome {
    /// The state dir; `None` where there is none.
    pub tree: Option<Tree>,
    /// Bytes of the sample.
    pub sample_bytes: u64,
    /// The sample is the state dir's; else it was made up.
    pub sample_is_real: bool,
    /// The stages of backups and restores.
    pub stages: Stages,
    /// The way to the repository.
    pub remote: RemoteOutcome,
    /// Probes that could not be deleted.
    pub left: Vec<Left>,
    /// What to expect.
    pub estimate: Estimate,
}

/// Measures. Takes some seconds, and the remote's own time.
pub fn bench(request: &BenchRequest) -> Result<BenchOutcome, AppError> {
    let timer = Timer { clock: Arc::clone(&request.clock), monitor: Arc::clone(&request.monitor) };
    let (tree, sample) = sample::take(&timer, request)?;
    let stages = stages::measure(&timer, &sample)?;
    let (remote, left) = match &request.location {
        Some(location) if request.remote => probe::measure(&timer, location),
        _ => (RemoteOutcome::NotAsked, Vec::new()),
    };
    let speed = if let RemoteOutcome::Measured(speed) = &remote { Some(speed) } else { None };
    let estimate = estimate::estimate(tree.as_ref(), &stages, speed, request.threads);
    let Sample { bytes, real } = &sample;
    Ok(BenchOutcome {
        sample_bytes: bytes.len() as u64,
        sample_is_real: *real,
        tree,
        stages,
        remote,
        left,
        estimate,
    })
}
