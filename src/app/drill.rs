//! A restore for practice.

use std::path::Path;

use super::run::{choose, open};
use super::{AppError, DrillRequest, Session};
use crate::model::DrillResult;
use crate::ops::drill as ops_drill;

/// Restores a snapshot into a scratch folder, and tells whether it came back whole.
pub fn drill(session: &Session, request: &DrillRequest) -> Result<DrillResult, AppError> {
    let (repository, _) = open(session)?;
    let info = choose(session, &repository, &request.snapshot)?;
    let beside = || request.state_dir.parent().unwrap_or(Path::new("/")).to_path_buf();
    let request = ops_drill::Request {
        id: info.id,
        snapshot: info.snapshot,
        scratch: request.scratch.clone().unwrap_or_else(beside),
        state_dir: request.state_dir.clone(),
        threads: session.threads,
    };
    Ok(ops_drill::run(&repository, &request, &session.monitor, &session.clock)?)
}
