//! `full prune`: retention of archives, by the rules of snapshots.

use std::collections::BTreeSet;

use super::Error;
use super::archives::{Archives, Listed, Place, State};
use super::store::is_there;
use crate::format::marker_v1::Operation;
use crate::full::{ArchiveForm, ArchiveName, ArchiveObject, Mark};
use crate::model::{BlobId, ManifestRef, ObjectId, Policy, Reason, Snapshot, SnapshotKind, Stats, Timestamp};
use crate::ops::retention::{self, Candidate, Grouping};
use crate::repo::Repository;
use crate::report::Monitor;

/// What has no mark after this many seconds was given up: no upload takes two days.
const GIVEN_UP: i64 = 48 * 60 * 60;

/// What a policy makes of the archives of a repository.
#[derive(Debug)]
pub struct Plan {
    /// Archives that are kept, and why.
    pub kept: Vec<(Listed, Vec<&'static str>)>,
    /// Archives that no rule keeps.
    pub removed: Vec<Listed>,
    /// What uploads left that did not come to their end long ago.
    pub left: Vec<ArchiveName>,
    /// Archives of which nothing can be judged: kept.
    pub unjudged: Vec<Listed>,
    /// Whether more is removed of a group than is kept of it, or something that has no mark.
    pub is_drastic: bool,
    objects: BTreeSet<String>,
}

/// Judges the archives of a repository. Removes nothing.
pub fn plan(repository: &Repository, policy: &Policy, now: &jiff::Zoned) -> Result<Plan, Error> {
    repository.require(Operation::Delete)?;
    repository.require_owner()?;
    if policy.is_empty() {
        return Err(Error::NoRule);
    }
    let place = Place::of(repository);
    let archives = Archives::load(&place)?;
    let objects = archives.objects.iter().map(|(object, _)| object_name(object)).collect();
    let present = Timestamp::from_secs(now.timestamp().as_second());
    let mut plan = Plan {
        kept: Vec::new(),
        removed: Vec::new(),
        left: left(&archives, present),
        unjudged: Vec::new(),
        is_drastic: false,
        objects,
    };
    plan.is_drastic = !plan.left.is_empty();
    let mut judged: Vec<(Listed, Snapshot)> = Vec::new();
    for listed in archives.archives {
        match (&listed.state, &listed.mark) {
            (State::Complete | State::Incomplete, Some(mark)) => {
                let record = as_snapshot(mark);
                judged.push((listed, record));
            }
            _ if plan.left.contains(&listed.name) => {}
            _ => plan.unjudged.push(listed),
        }
    }
    let candidates: Vec<Candidate<'_>> = judged
        .iter()
        .map(|(listed, snapshot)| Candidate {
            id: ObjectId(listed.mark.as_ref().map_or([0; 32], |mark| mark.sha256)),
            snapshot,
            held: false,
            // A stolen writer key can add any archive: it pushes out none but its own.
            writer_key: listed.writer_key,
        })
        .collect();
    for group in retention::judge(&candidates, policy, Grouping::default(), now) {
        let (kept, removed) = group.counts();
        plan.is_drastic |= removed > kept;
        for one in group.snapshots {
            let Some((listed, _)) = judged.get(one.index) else { continue };
            if one.is_kept() {
                let reasons = one.reasons.iter().map(|reason| reason.name()).collect();
                plan.kept.push((listed.clone(), reasons));
            } else {
                plan.removed.push(listed.clone());
            }
        }
    }
    plan.kept.sort_by_key(|(listed, _)| listed.name);
    plan.removed.sort_by_key(|listed| listed.name);
    Ok(plan)
}

fn object_name(object: &ArchiveObject) -> String {
    match object {
        ArchiveObject::Archive(name) => name.to_string(),
        ArchiveObject::Mark(name) => name.mark(),
        ArchiveObject::Checksum(name) => name.checksum(),
    }
}

/// Archives without a mark, and what is left beside none, if that is old enough. What looks like an archive of another
/// program, which makes no marks, is nobody's to remove.
fn left(archives: &Archives, present: Timestamp) -> Vec<ArchiveName> {
    let old = |name: &ArchiveName| name.time().secs < present.secs - GIVEN_UP;
    let given_up = |listed: &&Listed| match listed.state {
        State::Partial => listed.name.form() == ArchiveForm::Sealed,
        State::Lost => true,
        _ => false,
    };
    let mut left: BTreeSet<ArchiveName> = archives
        .archives
        .iter()
        .filter(|listed| given_up(listed) && old(&listed.name))
        .map(|listed| listed.name)
        .collect();
    for (object, _) in &archives.objects {
        if let ArchiveObject::Checksum(name) = object
            && old(name)
            && !archives.archives.iter().any(|listed| listed.name == *name)
        {
            left.insert(*name);
        }
    }
    left.into_iter().collect()
}

/// The record that retention judges: a mark tells all that it asks for.
fn as_snapshot(mark: &Mark) -> Snapshot {
    Snapshot {
        time: mark.time,
        kind: SnapshotKind::Regular,
        reason: Reason::Manual,
        host: mark.host.clone(),
        user: mark.user.clone(),
        program: mark.program.clone(),
        writer: mark.writer,
        // Archives are not counted; their times order them.
        sequence: 0,
        parent: None,
        root: mark.root.clone(),
        paths: vec![mark.root.clone()],
        selection: mark.selection.clone(),
        tags: mark.tags.clone(),
        manifest: ManifestRef { root: BlobId([0; 32]), level: 0 },
        complete: mark.complete,
        errors: Vec::new(),
        error_count: mark.error_count,
        databases: Vec::new(),
        stats: Stats { files: mark.files, bytes: mark.bytes, ..Stats::default() },
        losses: Vec::new(),
    }
}

/// Removes what a plan names: of each archive the mark first, so that whatever ends this leaves nothing that looks
/// whole. Returns how many stored bytes were freed.
pub fn remove(repository: &Repository, plan: &Plan, monitor: &dyn Monitor) -> Result<u64, Error> {
    let place = Place::of(repository);
    let mut freed = 0;
    let delete = |name: ArchiveName| {
        for object in [name.mark(), name.checksum(), name.to_string()] {
            if monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            if plan.objects.contains(&object) {
                repository.remote().delete(&place.object(&object))?;
            }
        }
        Ok(())
    };
    for listed in &plan.removed {
        delete(listed.name)?;
        freed += listed.size;
    }
    for name in &plan.left {
        // What had no mark may have got one since.
        let mark = name.mark();
        if plan.objects.contains(&mark) || !is_there(repository.remote(), &place.object(&mark))? {
            delete(*name)?;
        }
    }
    Ok(freed)
}
