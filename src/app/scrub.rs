//! Comparing stored objects with their names, without any key.

use std::path::PathBuf;
use std::sync::Arc;

use super::run::remote;
use super::{AppError, Location, ReadData};
use crate::clock::Clock;
use crate::ops::scrub as ops_scrub;
use crate::repo::CachePlace;
use crate::report::Monitor;

/// Which objects to compare, and where.
pub struct ScrubRequest {
    /// The repository.
    pub location: Location,
    /// The user's cache directory for this program: what was found is remembered there.
    pub cache_dir: PathBuf,
    /// Which packs; all small objects are compared in any case.
    pub subset: ReadData,
    /// Listens.
    pub monitor: Arc<dyn Monitor>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Worker threads.
    pub threads: usize,
}

/// Compares objects with their names.
pub fn scrub(request: &ScrubRequest) -> Result<ops_scrub::Outcome, AppError> {
    let ScrubRequest { location, cache_dir, subset, monitor, clock, threads } = request;
    let remote = remote(location, monitor, clock);
    // Whether a key is kept there is for those to say who have one.
    let caches = CachePlace { dir: cache_dir, keeps_key: true };
    Ok(ops_scrub::run(remote.as_ref(), caches, *subset, *threads, monitor, clock)?)
}
