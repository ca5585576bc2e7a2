//! Restores a state dir that is missing or empty.

use std::sync::Arc;

use super::run::open;
use super::{AppError, Session};
use crate::clock::Clock;
use crate::ops::auto_restore::{self as ops, Look as Found, Request as Job, Site};
pub use crate::ops::auto_restore::{Choice, Error, FOLDER, Fit, Left, Outcome, Reason, Stage, Verdict};
use crate::report::Monitor;

/// Restores the state dir if it is missing or empty.
#[derive(Debug, Clone)]
pub struct Request {
    /// The state dir.
    pub state_dir: std::path::PathBuf,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Change absolute paths to the new place.
    pub relocate: bool,
    /// Restore owner and group.
    pub owner: bool,
    /// Worker threads.
    pub threads: usize,
}

impl From<&Request> for Job {
    fn from(request: &Request) -> Self {
        Self {
            state_dir: request.state_dir.clone(),
            dry_run: request.dry_run,
            relocate: request.relocate,
            owner: request.owner,
            threads: request.threads,
        }
    }
}

/// What [`look`] came to.
pub enum Look {
    /// There is no more to be done.
    Done(Outcome),
    /// The repository is needed.
    Open(Held),
}

/// A state dir that is held for an auto-restore, so that no other one begins.
pub struct Held(Option<Site>);

/// Looks whether there is anything to restore, which takes neither repository nor passphrase.
pub fn look(request: &Request, monitor: &Arc<dyn Monitor>, clock: &Arc<dyn Clock>) -> Result<Look, AppError> {
    Ok(match ops::look(&request.into(), monitor.as_ref(), clock.as_ref())? {
        Found::Done(outcome) => Look::Done(outcome),
        Found::Restore(site) => Look::Open(Held(site)),
    })
}

/// Restores what a look found to be missing or empty.
pub fn run(session: &Session, request: &Request, held: Held) -> Result<Outcome, AppError> {
    let (repository, _) = open(session)?;
    Ok(ops::run(&repository, &request.into(), held.0, &session.monitor, &session.clock)?)
}
