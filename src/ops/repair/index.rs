//! `repair index`: makes the index say what the packs say. Everything in it can be had from the packs'
//! tables of contents.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::Error;
use crate::clock::Clock;
use crate::format::index_v1::PackInfo;
use crate::format::marker_v1::Operation;
use crate::model::{Classify, ErrorClass, ObjectId};
use crate::ops::check::data::table;
use crate::repo::{Folder, ObjectInfo, RepoError, Repository, pack_name};
use crate::report::{Monitor, Phase};

/// Blobs of one new index object, at most.
const OBJECT_BLOBS: usize = 250_000;
/// Tables of contents read before what they say is looked at.
const BATCH: usize = 64;

/// What is to be repaired; made by [`plan`] only.
pub struct Plan {
    repository: Repository,
    /// Index objects that cannot be read, and that no other one replaces.
    damaged: Vec<ObjectInfo>,
    /// The same, replaced: only to be deleted.
    dead: Vec<ObjectInfo>,
    /// Index objects that list packs which are gone.
    affected: Vec<ObjectInfo>,
    /// Index objects that others replace.
    superfluous: Vec<ObjectInfo>,
    gone: BTreeSet<ObjectId>,
    unlisted: Vec<ObjectInfo>,
    /// gc records and acceptances that cannot be read.
    records: Vec<ObjectInfo>,
    delete_damaged: bool,
}

/// What a repair of the index did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Index objects that cannot be read.
    pub damaged: Vec<String>,
    /// gc records and acceptances that cannot be read.
    pub damaged_records: Vec<String>,
    /// Packs that were listed and are gone.
    pub gone: Vec<String>,
    /// Packs that no index object listed.
    pub unlisted: u64,
    /// Of these, those that are in the index now.
    pub indexed: u64,
    /// Of these, those whose tables of contents cannot be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// Index objects written.
    pub written: u64,
    /// Objects deleted: index objects that the new ones replace, and damaged ones if that was asked for.
    pub deleted: u64,
}

impl Plan {
    /// True when there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let nothing = self.damaged.is_empty() && self.gone.is_empty() && self.unlisted.is_empty();
        nothing && !(self.delete_damaged && (!self.dead.is_empty() || !self.records.is_empty()))
    }

    /// What would be done.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let names = |objects: &[ObjectInfo]| objects.iter().map(|object| object.name.clone()).collect();
        Outcome {
            damaged: names(&[self.damaged.clone(), self.dead.clone()].concat()),
            damaged_records: names(&self.records),
            gone: self.gone.iter().map(pack_name).collect(),
            unlisted: self.unlisted.len() as u64,
            ..Outcome::default()
        }
    }
}

/// Compares the index with the packs. Changes nothing.
pub fn plan(repository: &Repository, delete_damaged: bool, monitor: &dyn Monitor) -> Result<Plan, Error> {
    repository.require(Operation::Write)?;
    repository.require_owner()?;
    if delete_damaged {
        repository.require(Operation::Delete)?;
    }
    monitor.phase(Phase::Check, None);
    // What the remote has counts, not what was copied from it.
    let repository = repository.without_copies();
    let (records, condemned) = records(&repository)?;
    let objects = repository.list(Folder::Index)?;
    let packs = repository.list(Folder::Packs)?;
    let there: HashSet<ObjectId> = packs.iter().map(|pack| pack.id).collect();
    let mut listed = HashSet::new();
    let (mut unread, mut replaced) = (Vec::new(), BTreeSet::new());
    let mut missing: BTreeMap<ObjectId, BTreeSet<ObjectId>> = BTreeMap::new();
    for object in &objects {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        match repository.read_index(object) {
            Ok(decoded) => {
                replaced.extend(decoded.replaces);
                for pack in decoded.packs {
                    listed.insert(pack.id);
                    if !there.contains(&pack.id) {
                        missing.entry(pack.id).or_default().insert(object.id);
                    }
                }
            }
            // Merged by somebody meanwhile: what it said is in another one.
            Err(RepoError::Remote(e)) if e.is_not_found() => {}
            Err(e) if e.class() == ErrorClass::Damaged => unread.push(object.clone()),
            Err(e) => return Err(e.into()),
        }
    }
    missing.retain(|_, objects| objects.iter().any(|id| !replaced.contains(id)));
    for pack in missing.keys().copied().collect::<Vec<_>>() {
        // A listing may lag behind what is there.
        match repository.remote().size(&pack_name(&pack)) {
            Ok(_) => drop(missing.remove(&pack)),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(RepoError::from(e).into()),
        }
    }
    let affected: BTreeSet<ObjectId> = missing.values().flatten().copied().collect();
    let of = |wanted: &BTreeSet<ObjectId>| -> Vec<ObjectInfo> {
        objects.iter().filter(|object| wanted.contains(&object.id)).cloned().collect()
    };
    let affected = of(&affected);
    let (dead, damaged): (Vec<_>, Vec<_>) =
        unread.into_iter().partition(|object| replaced.contains(&object.id));
    let superfluous = of(&replaced).into_iter().filter(|o| !dead.contains(o)).collect();
    // A prune takes packs out of the index before it deletes them: one that is condemned stays out.
    let unlisted = packs.into_iter().filter(|p| !listed.contains(&p.id) && !condemned.contains(&p.id));
    let unlisted = unlisted.collect();
    let gone = missing.into_keys().collect();
    Ok(Plan { repository, damaged, dead, affected, superfluous, gone, unlisted, records, delete_damaged })
}

/// The gc records and acceptances that cannot be read, and what the others condemn.
fn records(repository: &Repository) -> Result<(Vec<ObjectInfo>, BTreeSet<ObjectId>), Error> {
    let (mut damaged, mut condemned) = (Vec::new(), BTreeSet::new());
    for object in repository.list(Folder::Gc)? {
        match repository.condemned(&[object.name.clone()].into()) {
            Ok(packs) => condemned.extend(packs),
            Err(e) if e.class() == ErrorClass::Damaged => damaged.push(object),
            Err(e) => return Err(e.into()),
        }
    }
    for object in repository.list(Folder::Accepted)? {
        match repository.read_acceptance(&object) {
            Err(e) if e.class() == ErrorClass::Damaged => damaged.push(object),
            Err(e) => return Err(e.into()),
            Ok(_) => {}
        }
    }
    Ok((damaged, condemned))
}

/// Repairs.
pub fn run(
    plan: &Plan,
    threads: usize,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    let repository = &plan.repository;
    let mut outcome = plan.outcome();
    let deletes_gc = plan.delete_damaged && plan.records.iter().any(|object| object.name.starts_with("gc/"));
    if !plan.gone.is_empty() || deletes_gc {
        // Clients that remember the index of an earlier run learn by this that it is no longer true, and
        // by its name the set of records differs from any before, also when a damaged one goes.
        repository.condemn(clock.now(), plan.gone.iter().copied().collect())?;
    }
    let mut writer = Writer { repository, group: Vec::new(), blobs: 0, written: 0 };
    for object in &plan.affected {
        let packs = repository.read_index(object)?.packs;
        packs
            .into_iter()
            .filter(|pack| !plan.gone.contains(&pack.id))
            .try_for_each(|pack| writer.add(pack))?;
    }
    let bytes = plan.unlisted.iter().map(|pack| pack.size).sum();
    monitor.phase(Phase::ReadData, Some(bytes));
    for batch in plan.unlisted.chunks(BATCH) {
        for (pack, table) in batch.iter().zip(tables(repository, batch, threads)) {
            if monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            match table {
                Ok(table) => {
                    writer.add(table)?;
                    outcome.indexed += 1;
                }
                Err(e) if e.is_service_failure() => return Err(e.into()),
                // Deleted since it was listed.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                Err(e) => outcome.unreadable.push((pack.name.clone(), e.to_string())),
            }
            monitor.progress(1, pack.size);
        }
    }
    let replaces: Vec<ObjectId> = plan.damaged.iter().chain(&plan.affected).map(|object| object.id).collect();
    outcome.written = writer.finish(&replaces)?;
    // These are in the new ones, word for word; without permission to delete them they do no harm.
    for object in plan.affected.iter().chain(&plan.superfluous) {
        outcome.deleted += u64::from(repository.remove_index_object(object));
    }
    if plan.delete_damaged {
        for object in plan.damaged.iter().chain(&plan.dead) {
            outcome.deleted += u64::from(repository.remove_index_object(object));
        }
        for object in &plan.records {
            repository.remote().delete(&object.name).map_err(RepoError::from)?;
            outcome.deleted += 1;
        }
    }
    Ok(outcome)
}

/// Writes index objects of bounded size.
struct Writer<'a> {
    repository: &'a Repository,
    group: Vec<PackInfo>,
    blobs: usize,
    written: u64,
}

impl Writer<'_> {
    fn add(&mut self, pack: PackInfo) -> Result<(), RepoError> {
        let more = pack.frames.iter().map(|frame| frame.blobs.len()).sum::<usize>();
        if self.blobs + more > OBJECT_BLOBS {
            self.write(&[])?;
        }
        self.blobs += more;
        self.group.push(pack);
        Ok(())
    }

    fn write(&mut self, replaces: &[ObjectId]) -> Result<(), RepoError> {
        let packs = std::mem::take(&mut self.group);
        self.blobs = 0;
        self.written += self.repository.write_index_objects(&packs, replaces)?.len() as u64;
        Ok(())
    }

    /// The last object says what is replaced: when it is there, all are.
    fn finish(mut self, replaces: &[ObjectId]) -> Result<u64, RepoError> {
        self.write(replaces)?;
        Ok(self.written)
    }
}

/// The tables of contents of packs, several read at once.
fn tables(repository: &Repository, packs: &[ObjectInfo], threads: usize) -> Vec<Result<PackInfo, RepoError>> {
    let threads = threads.max(repository.remote().parallel_requests()).clamp(1, packs.len().max(1));
    let share = packs.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let read = |packs: &'_ [ObjectInfo]| -> Vec<_> {
            packs.iter().map(|pack| table(repository, &pack.id, pack.size)).collect()
        };
        let workers: Vec<_> =
            packs.chunks(share).map(|packs| (packs.len(), scope.spawn(move || read(packs)))).collect();
        let failed = |count| (0..count).map(|_| Err(RepoError::Worker)).collect();
        workers
            .into_iter()
            .flat_map(|(count, worker)| worker.join().unwrap_or_else(|_| failed(count)))
            .collect()
    })
}
