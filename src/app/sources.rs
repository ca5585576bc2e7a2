//! Which directory's snapshots a word means, in a repository that several directories or machines share.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::requests::{Session, SnapshotInfo};
use super::{AppError, run};
use crate::model::{Classify, ErrorClass, SnapshotKind};
use crate::ops::select;
use crate::repo::{Catalog, CatalogEntry, Repository};

/// So many of the newest snapshots are looked at to see whether several sources share the repository: more
/// would cost a request each, the first time, to say what the user mostly knows.
const LOOKED_AT: usize = 8;

/// Narrows what `latest` and times may mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Snapshots of this machine.
    pub host: Option<String>,
    /// Snapshots of this directory, by its absolute path.
    pub root: Option<PathBuf>,
}

impl Sources {
    fn take(&self, info: &SnapshotInfo) -> bool {
        let snapshot = &info.snapshot;
        self.host.as_ref().is_none_or(|host| *host == snapshot.host)
            && self.root.as_ref().is_none_or(|root| root.as_os_str().as_bytes() == snapshot.root)
    }
}

/// What a word means within these sources, as an id that every request takes. Without any, the word itself.
///
/// # Errors
///
/// [`select::Error::NoMatch`] when no snapshot of these sources fits.
pub fn resolve(session: &Session, word: &str, sources: &Sources) -> Result<String, AppError> {
    if *sources == Sources::default() {
        return Ok(word.to_owned());
    }
    let (repository, _) = run::open(session)?;
    let catalog = Catalog::load(&repository, SnapshotKind::Regular)?;
    let now = run::zoned(session.clock.as_ref());
    let info = |entry: &CatalogEntry| -> Result<SnapshotInfo, AppError> {
        Ok(SnapshotInfo { id: entry.id, snapshot: repository.snapshot(entry)? })
    };
    let entries = catalog.entries();
    // The newest that may be meant, and how many that fit are passed over.
    let (upto, back) = match steps_back(word) {
        Some(back) => (entries.len(), back),
        None => {
            let chosen = select::choose(&catalog, word, &now, &run::time_of(&repository))?;
            if chosen.id.to_string().starts_with(word) {
                return Ok(chosen.id.to_string());
            }
            (entries.iter().position(|entry| entry.id == chosen.id).map_or(0, |at| at + 1), 0)
        }
    };
    let mut left = back;
    for entry in entries[..upto].iter().rev() {
        match info(entry) {
            Ok(info) if !sources.take(&info) => {}
            Ok(info) if left == 0 => return Ok(info.id.to_string()),
            Ok(_) => left -= 1,
            // What is damaged, or has been forgotten since, is passed over. One that cannot be had now may be the one
            // that is meant.
            Err(error) if error.class() == ErrorClass::Damaged => {
                session.monitor.warning(None, &format!("{error}; looking for another snapshot"));
            }
            Err(error) => return Err(error),
        }
    }
    Err(select::Error::NoMatch(word.to_owned()).into())
}

/// The `N` of `latest~N`.
fn steps_back(word: &str) -> Option<usize> {
    match word.strip_prefix("latest")? {
        "" => Some(0),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

/// Says which snapshot a word was taken for, where the repository has snapshots of several sources.
pub(super) fn tell(
    session: &Session,
    repository: &Repository,
    catalog: &Catalog,
    word: &str,
    chosen: &SnapshotInfo,
) {
    if chosen.id.to_string().starts_with(word) {
        return;
    }
    let taken = &chosen.snapshot;
    let newest = catalog.entries().iter().rev().take(LOOKED_AT);
    // One that cannot be read is no reason to say anything.
    let mut records = newest.filter_map(|entry| repository.snapshot(entry).ok());
    if records.any(|other| (&other.host, &other.root) != (&taken.host, &taken.root)) {
        session.monitor.warning(
            None,
            &format!(
                "{word:?} is taken for snapshot {} of {} on {:?}; there are snapshots of other directories or machines",
                chosen.id.short(),
                taken.root.escape_ascii(),
                taken.host
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::steps_back;

    #[test]
    fn words_that_count_back() {
        for (word, back) in [
            ("latest", Some(0)),
            ("latest~0", Some(0)),
            ("latest~12", Some(12)),
            ("latest~", None),
            ("latest~-1", None),
            ("latestx", None),
            ("2026-02-15", None),
        ] {
            assert_eq!(steps_back(word), back, "{word}");
        }
    }
}
