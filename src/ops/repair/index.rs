//! `repair index`: makes the index say what the packs say. Everything in it can be had from the packs'
//! tables of contents.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Error;
use super::said::{Absent, Said};
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
    /// Index objects that list packs which are gone, say false things of packs, or say what nobody else says
    /// though another one claims to replace them.
    affected: Vec<ObjectInfo>,
    /// Index objects that others replace, and really do.
    superfluous: Vec<ObjectInfo>,
    absent: Absent,
    /// Packs of which some object says what they do not say themselves.
    misdescribed: Vec<ObjectInfo>,
    unlisted: Vec<ObjectInfo>,
    /// gc records, acceptances and removal records that cannot be read.
    records: Vec<ObjectInfo>,
    delete_damaged: bool,
}

/// What a repair of the index did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Index objects that cannot be read.
    pub damaged: Vec<String>,
    /// gc records, acceptances and removal records that cannot be read.
    pub damaged_records: Vec<String>,
    /// Packs that were listed and are gone.
    pub gone: Vec<String>,
    /// Packs of which the index says what they do not say themselves.
    pub misdescribed: Vec<String>,
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
        let nothing = self.damaged.is_empty() && self.absent.gone.is_empty() && self.unlisted.is_empty();
        nothing
            && self.misdescribed.is_empty()
            && !(self.delete_damaged && (!self.dead.is_empty() || !self.records.is_empty()))
    }

    /// What would be done.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let names = |objects: &[ObjectInfo]| objects.iter().map(|object| object.name.clone()).collect();
        Outcome {
            damaged: names(&[self.damaged.clone(), self.dead.clone()].concat()),
            damaged_records: names(&self.records),
            gone: self.absent.gone.iter().map(pack_name).collect(),
            misdescribed: names(&self.misdescribed),
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
    let there: HashMap<ObjectId, u64> = packs.iter().map(|pack| (pack.id, pack.size)).collect();
    let said = Said::read(&repository, &objects, monitor)?;
    let absent = said.absent(&repository, &there, &condemned)?;
    let misdescribed = said.misdescribed(&repository, &there)?;
    let (affected, superfluous) = said.settle(&absent, &misdescribed);
    let (dead, damaged): (Vec<_>, Vec<_>) =
        said.unread.iter().cloned().partition(|object| said.replaced.contains(&object.id));
    // Also those that are condemned: something in them may be needed. A prune that has taken one out of the index, to
    // delete it, does so again.
    let (listed, unlisted): (Vec<_>, Vec<_>) = packs.into_iter().partition(|pack| said.lists(&pack.id));
    let misdescribed = listed.into_iter().filter(|pack| misdescribed.contains(&pack.id)).collect();
    Ok(Plan {
        repository,
        damaged,
        dead,
        affected,
        superfluous,
        absent,
        misdescribed,
        unlisted,
        records,
        delete_damaged,
    })
}

/// The gc records, acceptances and removal records that cannot be read, and what the others condemn.
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
    for object in repository.list(Folder::Removed)? {
        match repository.read_removal(&object) {
            Ok(_) => {}
            // Another one says what it said.
            Err(RepoError::Remote(e)) if e.is_not_found() => {}
            Err(e) if e.class() == ErrorClass::Damaged => damaged.push(object),
            Err(e) => return Err(e.into()),
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
    if !plan.absent.gone.is_empty() || !plan.misdescribed.is_empty() || deletes_gc {
        // Clients that remember the index of an earlier run learn by this that it is no longer true, and
        // by its name the set of records differs from any before, also when a damaged one goes.
        repository.condemn(clock.now(), plan.absent.gone.iter().copied().collect())?;
    }
    let mut writer = Writer { repository, group: Vec::new(), blobs: 0, written: 0 };
    let misdescribed: BTreeSet<ObjectId> = plan.misdescribed.iter().map(|pack| pack.id).collect();
    for object in &plan.affected {
        let packs = repository.read_index(object)?.packs;
        packs
            .into_iter()
            .filter(|pack| !plan.absent.all.contains(&pack.id) && !misdescribed.contains(&pack.id))
            .try_for_each(|pack| writer.add(pack))?;
    }
    for batch in plan.misdescribed.chunks(BATCH) {
        for table in tables(repository, batch, threads) {
            match table {
                // Deleted since it was listed.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                table => writer.add(table?)?,
            }
        }
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
    // What is true of them is in the new ones, word for word, or in others that stay. Those that only repeat it do
    // no harm where they may not be deleted.
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
