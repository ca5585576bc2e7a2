//! `find`: every version of a path over all snapshots.

use super::AppError;
use super::requests::Session;
use super::run::{choose, index, open};
use crate::model::{RepoPath, SnapshotKind};
use crate::ops::find::{self as ops_find, Finder, Pattern, Tree};
use crate::repo::{BlobReader, Catalog, CatalogEntry};

/// Looks for paths.
pub struct FindRequest {
    /// A pattern in gitignore's syntax.
    pub pattern: String,
    /// Large and small letters are the same.
    pub ignore_case: bool,
    /// Only these paths and what is below them; all when empty.
    pub paths: Vec<RepoPath>,
    /// Only in these snapshots, as the user spells them; in all when empty.
    pub snapshots: Vec<String>,
    /// Only from this snapshot on.
    pub since: Option<String>,
    /// In safety snapshots too.
    pub safety: bool,
}

/// What was found.
pub struct FindOutcome {
    /// What was found in each directory; only where there is something.
    pub trees: Vec<Tree>,
    /// Snapshots looked into.
    pub snapshots: u64,
    /// Snapshots that are damaged and were left out.
    pub damaged: u64,
}

/// Looks into snapshots.
pub fn find(session: &Session, request: &FindRequest) -> Result<FindOutcome, AppError> {
    let pattern = Pattern::new(&request.pattern, request.ignore_case)?;
    let (repository, _) = open(session)?;
    let regular = Catalog::load(&repository, SnapshotKind::Regular)?;
    let safety = match request.safety || !request.snapshots.is_empty() {
        true => Catalog::load(&repository, SnapshotKind::Safety)?,
        false => Catalog::default(),
    };
    let named = |words: &[String]| -> Result<Vec<_>, AppError> {
        words.iter().map(|word| choose(session, &repository, word).map(|info| info.id)).collect()
    };
    let only = named(&request.snapshots)?;
    let since = named(request.since.as_slice())?;
    let first = regular.entries().iter().chain(safety.entries()).find(|entry| since.contains(&entry.id));
    let mut entries: Vec<&CatalogEntry> = regular.entries().iter().chain(safety.entries()).collect();
    // Stable: snapshots of one second are in order already.
    entries.sort_by_key(|entry| entry.time);
    let from = first.and_then(|first| entries.iter().position(|entry| entry.id == first.id)).unwrap_or(0);
    let wanted = |entry: &&&CatalogEntry| only.is_empty() || only.contains(&entry.id);
    let entries: Vec<_> = entries.iter().skip(from).filter(wanted).collect();

    let loaded = index(&repository)?;
    let blobs = BlobReader::new(&repository, &loaded.index);
    let mut finder = Finder::new(&blobs, &pattern, &request.paths);
    let records = entries.iter().map(|entry| (entry.id, repository.snapshot(entry)));
    let damaged = ops_find::run(&mut finder, records, session.monitor.as_ref())?;
    let trees = finder.finish().into_iter().filter(|tree| !tree.found.is_empty()).collect();
    Ok(FindOutcome { trees, snapshots: entries.len() as u64, damaged })
}
