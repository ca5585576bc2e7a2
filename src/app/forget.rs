//! Removing snapshots: by a policy, or by their names.

use super::run::{open, zoned};
use super::{AppError, Session};
use crate::model::{ObjectId, Policy, SnapshotKind, Timestamp};
use crate::ops::forget::{self, Target, Verdict};
use crate::ops::retention::{Filter, Grouping};
use crate::repo::Repository;

/// What a policy is to do.
pub struct ForgetRequest {
    /// What is kept.
    pub policy: Policy,
    /// Which snapshots are judged together.
    pub grouping: Grouping,
    /// Which are judged at all.
    pub filter: Filter,
}

/// Snapshots that can be removed.
pub struct ForgetPlan {
    repository: Repository,
    targets: Vec<Target>,
}

impl ForgetPlan {
    /// What would be removed.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(ObjectId, Timestamp)> {
        self.targets.iter().map(|target| (target.id(), target.time())).collect()
    }

    /// Removes them. The space they take is freed by a prune.
    pub fn run(self, session: &Session) -> Result<(), AppError> {
        Ok(forget::run(&self.repository, &self.targets, session.monitor.as_ref())?)
    }
}

/// Judges snapshots by a policy, and plans to remove those that it does not keep.
pub fn forget(session: &Session, request: &ForgetRequest) -> Result<(Verdict, ForgetPlan), AppError> {
    let (repository, _) = open(session)?;
    let ForgetRequest { policy, grouping, filter } = request;
    let now = zoned(session.clock.as_ref());
    let verdict = forget::judge(&repository, policy, *grouping, filter, &now, session.monitor.as_ref())?;
    let targets = verdict.targets.clone();
    Ok((verdict, ForgetPlan { repository, targets }))
}

/// Looks up snapshots by their ids or unique beginnings of these, to be removed. `force`: those too that are held
/// back by the shrink alarm.
pub fn forget_named(
    session: &Session,
    kind: SnapshotKind,
    ids: &[String],
    force: bool,
) -> Result<ForgetPlan, AppError> {
    let (repository, _) = open(session)?;
    let targets = match kind {
        SnapshotKind::Safety => forget::plan_safety(&repository, ids)?,
        SnapshotKind::Regular => forget::plan_regular(&repository, ids, force, session.monitor.as_ref())?,
    };
    Ok(ForgetPlan { repository, targets })
}
