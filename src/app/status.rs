//! Whether all is well with the backups of a state dir.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::marks::Listing;
use super::run::open_with_any_key;
use super::{AppError, Session, SnapshotInfo};
use crate::fs;
use crate::model::{DrillResult, Snapshot, SnapshotKind, Timestamp, Verdict};
use crate::ops::backup;
use crate::ops::history::Vanished;

/// What is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// There is no snapshot of the state dir from this machine.
    NeverBackedUp,
    /// The last drill did not bring everything back.
    DrillFailed,
    /// The shrink alarm was raised, and nobody accepted that.
    Shrunk(usize),
    /// Records of snapshots that cannot be read.
    Unreadable(u64),
    /// Snapshots that this machine has seen are gone, and nobody said to have removed them.
    Vanished(usize),
}

/// How much snapshots added to the repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// How many there were.
    pub snapshots: u64,
    /// Bytes, as stored.
    pub bytes: u64,
}

/// The state of the backups of one state dir.
#[derive(Debug, Clone)]
pub struct StatusOutcome {
    /// When this was found.
    pub now: Timestamp,
    /// The newest snapshot of all of the state dir, from this machine.
    pub newest: Option<SnapshotInfo>,
    /// Regular snapshots in the repository, of whatever.
    pub snapshots: u64,
    /// Safety snapshots.
    pub safety: u64,
    /// What its snapshots of the last seven days added.
    pub week: Growth,
    /// The last drill on this machine.
    pub drill: Option<DrillResult>,
    /// Snapshots that the shrink alarm was raised over and nobody accepted, oldest first.
    pub alarms: Vec<SnapshotInfo>,
    /// Snapshots that this machine has seen, that are gone, and that nobody said to have removed.
    pub vanished: Vec<Vanished>,
    /// What is not well; nothing when all is.
    pub problems: Vec<Health>,
}

/// Looks at a repository and at what was remembered of it.
pub fn status(session: &Session, state_dir: &Path) -> Result<StatusOutcome, AppError> {
    let (repository, _) = open_with_any_key(session)?;
    let mut listing = Listing::load(session, &repository, SnapshotKind::Regular)?;
    let safety = Listing::load(session, &repository, SnapshotKind::Safety)?;
    let Listing { vanished, .. } = safety;
    let safety = (safety.snapshots.len() + safety.sealed.len()) as u64 + safety.unreadable;
    // As a backup records it; a directory that is not there cannot be asked.
    let root = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_path_buf());
    // A writer key reads none of what is there: what this machine remembers of its own must do.
    let sealed = listing.sealed.len() as u64;
    if let Some((id, snapshot)) = backup::remembered(&repository, &root)
        && listing.sealed.iter().any(|entry| entry.id == id)
    {
        listing.snapshots.push(SnapshotInfo { id, snapshot });
    }
    let (root, host) = (root.as_os_str().as_bytes(), fs::hostname());
    let newest = listing.snapshots.iter().rev().find(|info| is_of(&info.snapshot, root, &host)).cloned();
    let now = session.clock.now();
    let week = growth(&listing, root, &host, now);
    let alarms: Vec<_> = listing.snapshots.iter().filter(|info| listing.is_open(info)).cloned().collect();
    let drill = repository.cache().last_drill();
    let mut problems = Vec::new();
    if newest.is_none() {
        problems.push(Health::NeverBackedUp);
    }
    if drill.as_ref().is_some_and(|drill| drill.verdict != Verdict::Good) {
        problems.push(Health::DrillFailed);
    }
    if !alarms.is_empty() {
        problems.push(Health::Shrunk(alarms.len()));
    }
    if listing.unreadable > 0 {
        problems.push(Health::Unreadable(listing.unreadable));
    }
    if !vanished.is_empty() {
        problems.push(Health::Vanished(vanished.len()));
    }
    let snapshots = if sealed > 0 { sealed } else { listing.snapshots.len() as u64 + listing.unreadable };
    Ok(StatusOutcome { now, newest, week, snapshots, safety, drill, alarms, vanished, problems })
}

fn growth(listing: &Listing, root: &[u8], host: &str, now: Timestamp) -> Growth {
    const WEEK: i64 = 7 * 24 * 3600;
    let recent = |snapshot: &Snapshot| now.secs.saturating_sub(snapshot.time.secs) < WEEK;
    let of_week = listing.snapshots.iter().map(|info| &info.snapshot);
    of_week.filter(|snapshot| is_of(snapshot, root, host) && recent(snapshot)).fold(
        Growth::default(),
        |sum, snapshot| Growth {
            snapshots: sum.snapshots + 1,
            bytes: sum.bytes.saturating_add(snapshot.stats.bytes_added_stored),
        },
    )
}

/// It is of all of a directory, and was taken on this machine.
fn is_of(snapshot: &Snapshot, root: &[u8], host: &str) -> bool {
    snapshot.host == host && snapshot.root == root && snapshot.paths == [root]
}
