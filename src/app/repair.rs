//! Repairing a damaged repository.

use super::run::{open, uploads};
use super::{AppError, Compression, Session};
use crate::model::ObjectId;
use crate::ops::repair::{Error, index, packs, snapshots};
use crate::repo::{Folder, PackerOptions, Repository, parse_name};

fn packer(session: &Session, repository: &Repository) -> PackerOptions {
    PackerOptions {
        compression: Compression::default(),
        uploads: uploads(repository),
        ..PackerOptions::new(session.threads)
    }
}

/// What is to be done to the index.
pub struct RepairIndexPlan(index::Plan);

impl RepairIndexPlan {
    /// True when there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What would be done.
    #[must_use]
    pub fn outcome(&self) -> index::Outcome {
        self.0.outcome()
    }

    /// Does it.
    pub fn run(&self, session: &Session) -> Result<index::Outcome, AppError> {
        Ok(index::run(&self.0, session.threads, &session.monitor, &session.clock)?)
    }
}

/// Compares the index with the packs. `delete_damaged`: what cannot be read is to be deleted afterwards.
pub fn repair_index(session: &Session, delete_damaged: bool) -> Result<RepairIndexPlan, AppError> {
    let (repository, _) = open(session)?;
    Ok(RepairIndexPlan(index::plan(&repository, delete_damaged, session.monitor.as_ref())?))
}

/// Which packs to look at.
pub struct RepairPacksRequest {
    /// Their names or ids, besides those that were found damaged before.
    pub named: Vec<String>,
    /// Read every pack.
    pub all: bool,
    /// Only tell.
    pub dry_run: bool,
}

/// Saves what verifies of damaged packs.
pub fn repair_packs(session: &Session, request: &RepairPacksRequest) -> Result<packs::Outcome, AppError> {
    let named = request.named.iter().map(|word| pack(word)).collect::<Result<Vec<_>, _>>()?;
    let which = match (request.all, named) {
        (true, _) => packs::Which::All,
        (false, named) if named.is_empty() => packs::Which::Known,
        (false, named) => packs::Which::Named(named),
    };
    let (repository, _) = open(session)?;
    let packer = packer(session, &repository);
    Ok(packs::run(&repository, &which, packer, request.dry_run, &session.monitor, &session.clock)?)
}

/// A pack by its id, or its whole name.
fn pack(word: &str) -> Result<ObjectId, Error> {
    let named = match parse_name(word) {
        Some((Folder::Packs, _, id)) => Some(id),
        _ => word.parse().ok(),
    };
    named.ok_or_else(|| Error::NoSuchPack(word.to_string()))
}

/// Makes snapshots without what is lost.
pub fn repair_snapshots(
    session: &Session,
    forget_originals: bool,
    dry_run: bool,
) -> Result<snapshots::Outcome, AppError> {
    let (repository, _) = open(session)?;
    let request = snapshots::Request { dry_run, forget_originals, packer: packer(session, &repository) };
    Ok(snapshots::run(&repository, &request, &session.monitor, &session.clock)?)
}
