//! Which snapshot a state dir is restored from when nobody names one.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::gather::Profile;
use crate::model::{Classify, ErrorClass, ObjectId, Snapshot, SnapshotKind};
use crate::repo::{Catalog, RepoError, Repository};
use crate::report::Monitor;

/// What makes a snapshot the right one, the best reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It is of this very directory.
    SamePlace,
    /// It is of a directory of the same name.
    SameName,
    /// It is of the same application.
    SameProfile,
    /// All snapshots are of one directory.
    OnlyPlace,
}

/// The snapshot to be restored.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Its id.
    pub id: ObjectId,
    /// Its record.
    pub snapshot: Snapshot,
    /// Why this one.
    pub fit: Fit,
    /// Newer ones of the same fit that are incomplete.
    pub incomplete: u64,
    /// Other directories of which there are snapshots that fit as well, but older ones.
    pub others: Vec<Vec<u8>>,
}

/// True for a snapshot of a whole state dir: of no paths or sets within it, and with every file that was
/// there.
fn is_whole(snapshot: &Snapshot) -> bool {
    snapshot.paths.iter().all(|path| *path == snapshot.root)
        && !snapshot.selection.iter().any(|word| word.starts_with("include="))
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// How a snapshot fits a state dir; `None` when it is another application's.
fn fit(snapshot: &Snapshot, state_dir: &[u8], profile: Profile, only_place: bool) -> Option<Fit> {
    let of_openclaw = snapshot.selection.iter().any(|word| word == "profile=openclaw");
    if snapshot.root == state_dir {
        Some(Fit::SamePlace)
    } else if name(&snapshot.root) == name(state_dir) {
        Some(Fit::SameName)
    } else if of_openclaw {
        // An unnamed empty directory may become anybody's.
        Some(Fit::SameProfile)
    } else {
        (only_place && profile == Profile::None).then_some(Fit::OnlyPlace)
    }
}

/// Chooses the newest complete snapshot of those that fit best; `None` when none fits.
pub(super) fn choose(
    repository: &Repository,
    state_dir: &Path,
    profile: Profile,
    monitor: &dyn Monitor,
) -> Result<Option<Choice>, RepoError> {
    let mut found = Vec::new();
    for entry in Catalog::load(repository, SnapshotKind::Regular)?.entries().iter().rev() {
        match repository.snapshot(entry) {
            Ok(snapshot) if is_whole(&snapshot) => {
                let best = snapshot.root == state_dir.as_os_str().as_bytes() && snapshot.complete;
                found.push((entry.id, snapshot));
                if best {
                    break;
                }
            }
            Ok(_) => {}
            // One damaged record must not hide the others.
            Err(e) if e.class() == ErrorClass::Damaged => monitor.warning(None, &e.to_string()),
            Err(e) => return Err(e),
        }
    }
    Ok(best(found, state_dir.as_os_str().as_bytes(), profile))
}

/// `found`: whole snapshots, the newest first.
fn best(found: Vec<(ObjectId, Snapshot)>, state_dir: &[u8], profile: Profile) -> Option<Choice> {
    let roots: BTreeSet<_> = found.iter().map(|(_, s)| s.root.clone()).collect();
    let mut best: Option<Choice> = None;
    let mut incomplete: Vec<Fit> = Vec::new();
    for (id, snapshot) in found {
        let Some(fit) = fit(&snapshot, state_dir, profile, roots.len() == 1) else { continue };
        if !snapshot.complete {
            incomplete.push(fit);
            continue;
        }
        match &mut best {
            Some(best) if best.fit == fit => {
                if snapshot.root != best.snapshot.root && !best.others.contains(&snapshot.root) {
                    best.others.push(snapshot.root);
                }
            }
            Some(best) if best.fit < fit => {}
            _ => {
                let passed = incomplete.iter().filter(|i| **i == fit).count() as u64;
                best = Some(Choice { id, snapshot, fit, incomplete: passed, others: Vec::new() });
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::model::{BlobId, ManifestRef, Reason, Stats, Timestamp, WriterId};

    fn snapshot(root: &str, words: &[&str], complete: bool) -> Snapshot {
        Snapshot {
            time: Timestamp::default(),
            kind: SnapshotKind::Regular,
            reason: Reason::Manual,
            host: String::new(),
            user: String::new(),
            program: String::new(),
            writer: WriterId([0; 16]),
            sequence: 1,
            parent: None,
            root: root.into(),
            paths: vec![root.into()],
            selection: words.iter().map(|w| (*w).to_owned()).collect(),
            tags: Vec::new(),
            manifest: ManifestRef { root: BlobId([0; 32]), level: 0 },
            complete,
            errors: Vec::new(),
            error_count: 0,
            databases: Vec::new(),
            stats: Stats::default(),
            losses: Vec::new(),
        }
    }

    /// Position of the one chosen, of snapshots that are given the newest first.
    fn chosen(state_dir: &str, profile: Profile, all: &[Snapshot]) -> Option<(usize, Fit)> {
        let id = |i: usize| ObjectId([u8::try_from(i).unwrap(); 32]);
        let found = all.iter().enumerate().filter(|(_, s)| is_whole(s)).map(|(i, s)| (id(i), s.clone()));
        best(found.collect(), state_dir.as_bytes(), profile).map(|c| (usize::from(c.id.0[0]), c.fit))
    }

    #[test]
    fn the_newest_of_what_fits_best() {
        let oc = &["profile=openclaw"][..];
        let none = &["profile=none"][..];
        let notes = snapshot("/home/al/notes", none, true);
        let mine = snapshot("/home/al/.openclaw", oc, true);
        let other = snapshot("/root/.openclaw", oc, true);
        let data = snapshot("/data", oc, true);
        let all = [notes.clone(), data.clone(), other.clone(), mine.clone(), other.clone()];
        let openclaw = Profile::OpenClaw;
        assert_eq!(chosen("/home/al/.openclaw", openclaw, &all), Some((3, Fit::SamePlace)));
        assert_eq!(chosen("/home/bo/.openclaw", openclaw, &all), Some((2, Fit::SameName)));
        assert_eq!(chosen("/srv/state", Profile::None, &all), Some((1, Fit::SameProfile)));
        // Notes are no state dir of an agent, even where there is nothing else.
        assert_eq!(chosen("/root/.openclaw", openclaw, std::slice::from_ref(&notes)), None);
        assert_eq!(chosen("/srv/x", Profile::None, std::slice::from_ref(&notes)), Some((0, Fit::OnlyPlace)));
        let two = [notes.clone(), snapshot("/home/al/music", none, true)];
        assert_eq!(chosen("/srv/x", Profile::None, &two), None);
        assert_eq!(chosen("/srv/notes", Profile::None, &two), Some((0, Fit::SameName)));
    }

    #[test]
    fn parts_and_incomplete_ones_are_passed_over() {
        let root = "/root/.openclaw";
        let whole = snapshot(root, &["profile=openclaw"], true);
        let incomplete = snapshot(root, &["profile=openclaw"], false);
        let set = snapshot(root, &["profile=openclaw", "include=memory"], true);
        let mut path = whole.clone();
        path.paths = vec![b"/root/.openclaw/workspace".to_vec()];
        let all = [incomplete.clone(), set.clone(), path.clone(), whole];
        assert_eq!(chosen(root, Profile::OpenClaw, &all), Some((3, Fit::SamePlace)));
        assert_eq!(chosen(root, Profile::OpenClaw, &[incomplete, set, path]), None);
    }
}
