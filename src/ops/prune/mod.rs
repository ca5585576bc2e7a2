//! `prune`: frees the space of what no snapshot needs, beside running backups and without locks.
//! `format-spec/` section 13 has the protocol and why it holds.
//!
//! A run looks at everything, plans, and then works in an order in which it can end after any request: it
//! removes packs that were condemned long enough ago, copies what is needed out of packs that are worth it,
//! and condemns what no snapshot needs now. What it condemns a later run removes.

mod age;
mod carry_out;
mod copy;
mod leftovers;
mod marks;
mod plan;
mod proof;
mod state;

use std::sync::Arc;
use std::time::Duration;

use self::age::Ages;
use self::carry_out::Work;
pub use self::plan::Amount;
use self::plan::{Limits, Plan};
use self::state::State;
use crate::clock::Clock;
use crate::format::marker_v1::Operation;
use crate::model::{Classify, ErrorClass, Timestamp};
use crate::remote::{Counting, RequestCounts};
use crate::repo::{PackerOptions, RepoError, Repository};
use crate::report::{Monitor, Phase};

/// How long packs stay condemned before they are removed, unless somebody says otherwise: longer than any
/// backup takes.
pub const GRACE: Duration = Duration::from_secs(48 * 3600);
/// How much of what packs hold may be needed by nobody, in percent of what is needed.
pub const MAX_UNUSED: f64 = 5.0;

/// Packs below this part of a new one's size are small.
const SMALL_PART: u64 = 4;
/// Gives up after others have changed the index so often while we worked.
const ATTEMPTS: usize = 3;

/// What to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// Plan, and change nothing.
    pub dry_run: bool,
    /// How long packs stay condemned; longer than any backup takes.
    pub grace: Duration,
    /// Percentage of what is needed that may be kept though nobody needs it.
    pub max_unused: f64,
    /// Bytes to be copied at most.
    pub max_repack: Option<u64>,
    /// How to pack what is copied.
    pub packer: PackerOptions,
}

impl Request {
    /// The usual way.
    #[must_use]
    pub fn new(packer: PackerOptions) -> Self {
        Self { dry_run: false, grace: GRACE, max_unused: MAX_UNUSED, max_repack: None, packer }
    }
}

/// What there is, and what is to be done about it. All bytes are stored bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Snapshots of both kinds.
    pub snapshots: u64,
    /// All packs that are there.
    pub packs: Amount,
    /// Bytes that snapshots need.
    pub used: u64,
    /// Bytes of packs that nobody condemned and of which no snapshot has need.
    pub unused: u64,
    /// Condemned long enough ago: to be removed now.
    pub delete: Amount,
    /// Condemned, and to be removed later.
    pub waiting: Amount,
    /// When the last of these may be removed, as far as that is known.
    pub until: Option<Timestamp>,
    /// To be condemned: no snapshot needs anything of them.
    pub condemn: Amount,
    /// To be condemned once what is needed of them is copied.
    pub repack: Amount,
    /// What is to be copied, in bytes.
    pub copy: u64,
    /// In no index object and not long there: they may belong to a backup that is running.
    pub fresh: Amount,
    /// Index objects that there are.
    pub index_objects: u64,
    /// Those of them to be written anew.
    pub rewrite: u64,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Removed.
    pub deleted: Amount,
    /// Condemned now, those of which a part was copied included.
    pub condemned: Amount,
    /// Of which the part that is needed was copied.
    pub repacked: Amount,
    /// New packs.
    pub new_packs: Amount,
    /// Index objects written anew.
    pub rewritten: u64,
    /// gc records removed.
    pub records: u64,
    /// Acceptances removed.
    pub acceptances: u64,
    /// Temporary files removed.
    pub temporary: u64,
    /// Packs that could not be read, which stay as they are.
    pub damaged: Vec<String>,
}

/// What a prune found and did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What there was.
    pub summary: Summary,
    /// What was done; `None` for a dry run, and where the remote does not allow it.
    pub done: Option<Done>,
    /// What the remote says of a try to remove something, where it does not allow that. Then nothing was
    /// changed.
    pub denied: Option<String>,
    /// Requests made in each phase.
    pub requests: Vec<(Phase, RequestCounts)>,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What snapshots need cannot be told, or is missing: what looks like waste may be all that is left.
    #[error("{what}; nothing was removed")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// The user asked to stop.
    #[error("interrupted; what was done stays, and the next prune goes on from there")]
    Interrupted,
    /// Others replaced index objects again and again while we worked.
    #[error("other clients keep changing the index; try again when they are done")]
    Changed,
    /// The repository failed.
    #[error(transparent)]
    Repo(RepoError),
}

impl From<RepoError> for Error {
    fn from(error: RepoError) -> Self {
        if error.class() == ErrorClass::Interrupted { Self::Interrupted } else { Self::Repo(error) }
    }
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Damaged { .. } => ErrorClass::Damaged,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Changed => ErrorClass::Failed,
            Self::Repo(e) => e.class(),
        }
    }
}

/// Counts requests by phase.
struct Meter<'a> {
    counting: &'a Counting,
    monitor: &'a dyn Monitor,
    phases: Vec<(Phase, RequestCounts)>,
    before: RequestCounts,
    phase: Phase,
}

impl<'a> Meter<'a> {
    fn new(counting: &'a Counting, monitor: &'a dyn Monitor) -> Self {
        let (before, phase) = (counting.counts(), Phase::Look);
        monitor.phase(phase, None);
        Self { counting, monitor, phases: Vec::new(), before, phase }
    }

    /// The next phase begins; `bytes` is how much there will be, when that is known.
    fn next(&mut self, phase: Phase, bytes: Option<u64>) {
        self.close();
        self.monitor.phase(phase, bytes);
        self.phase = phase;
    }

    fn close(&mut self) {
        let now = self.counting.counts();
        self.phases.push((self.phase, now.since(&self.before)));
        self.before = now;
    }
}

/// Prunes a repository; `counting` is its remote, for the outcome's request counts.
pub fn run(
    repository: &Repository,
    counting: &Counting,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    repository.require(Operation::Write)?;
    repository.require(Operation::Delete)?;
    repository.require_owner()?;
    let started = clock.monotonic();
    let mut meter = Meter::new(counting, monitor.as_ref());
    let work = Work { repository, request, monitor: monitor.as_ref(), clock };
    let mut tries = 1;
    let mut outcome = loop {
        match attempt(&work, &mut meter) {
            Err(Error::Changed) if tries < ATTEMPTS => tries += 1,
            other => break other?,
        }
    };
    meter.close();
    outcome.requests = meter.phases;
    let taken = clock.monotonic().saturating_sub(started);
    outcome.duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    Ok(outcome)
}

fn attempt(work: &Work<'_>, meter: &mut Meter<'_>) -> Result<Outcome, Error> {
    let Work { repository, request, monitor, clock } = *work;
    let state = State::load(repository, monitor)?;
    let mut ages = Ages::new(repository, clock, request.grace);
    let limits = Limits {
        max_unused: request.max_unused,
        max_repack: request.max_repack,
        small: request.packer.pack_size as u64 / SMALL_PART,
    };
    let plan = Plan::make(&state, &mut ages, &limits)?;
    let mut outcome = Outcome { summary: plan.summary(&state), ..Outcome::default() };
    if request.dry_run {
        return Ok(outcome);
    }
    // What waits is to be known as seen now, whether or not anything else is done.
    ages.note(repository, monitor);
    match work.may_delete(&state, &plan)? {
        Some(denied) => outcome.denied = Some(denied),
        None => {
            proof::prove(repository, &state, &plan, monitor)?;
            outcome.done = Some(work.run(&state, &plan, &mut ages, meter)?);
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests;
