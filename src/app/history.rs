//! Snapshots that are missing though nobody removed them.

use super::run::open;
use super::{AppError, CheckOutcome, Problem, Session};
use crate::ops::history::{self, Audit, Gap, Vanished};
use crate::repo::Repository;

/// What is missing, to be called removed.
pub struct SettlePlan {
    repository: Repository,
    audit: Audit,
}

impl SettlePlan {
    /// Snapshots that this machine has seen.
    #[must_use]
    pub fn vanished(&self) -> &[Vanished] {
        &self.audit.vanished
    }

    /// Numbers of snapshots that must have been there.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.audit.gaps
    }

    /// Says for every machine that all of these were removed on purpose.
    pub fn run(self, session: &Session) -> Result<(), AppError> {
        history::settle(&self.repository, &self.audit, session.clock.as_ref())?;
        Ok(())
    }
}

/// Looks for all that is missing.
pub fn missing(session: &Session) -> Result<SettlePlan, AppError> {
    let (repository, _) = open(session)?;
    let audit = history::audit(&repository, session.monitor.as_ref())?;
    Ok(SettlePlan { repository, audit })
}

/// Adds what is missing to what a check found.
pub(super) fn add_to(
    outcome: &mut CheckOutcome,
    repository: &Repository,
    session: &Session,
) -> Result<(), AppError> {
    if repository.writer_key().is_some() {
        // It can read neither snapshots nor removal records.
        return Ok(());
    }
    let Audit { vanished, gaps, doubtful, notes } = history::audit(repository, session.monitor.as_ref())?;
    let problem =
        |object: String, message: String| Problem { object, message, paths: Vec::new(), path_count: 0 };
    for one in vanished {
        let message = "is gone, and nobody removed it with this program: this machine has seen it";
        outcome.problems.push(problem(one.name, message.to_owned()));
    }
    for Gap { writer, first, last } in gaps {
        let numbers = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let message = format!(
            "snapshots number {numbers} of this writer are gone, and nobody removed them with this program"
        );
        // A note: programs before removal records left gaps too, and what this machine has seen is told above.
        let unless = if doubtful { ", unless they are among those that cannot be read" } else { "" };
        outcome.notes.push(format!("writer {writer}: {message}{unless}"));
    }
    outcome.notes.extend(notes);
    Ok(())
}
