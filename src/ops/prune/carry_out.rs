//! Carrying a plan out, in an order in which it may end after any request.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::age::Ages;
use super::copy::{Copied, Victims, copy};
use super::plan::{Fate, Plan};
use super::state::State;
use super::{Done, Error, Meter, Request, leftovers};
use crate::clock::Clock;
use crate::model::ObjectId;
use crate::remote::{Fault, RemoteError};
use crate::repo::{CensusObject, CensusPack, Condemnation, ObjectInfo, RepoError, Repository, pack_name};
use crate::report::{Monitor, Phase};

/// Packs that are gone stay named in gc records, so that an index object that a client writes late, or puts
/// back, misleads nobody. So many at least; the oldest are forgotten first.
const GONE: usize = 16_384;
/// Records that name nothing but packs that are gone are put into one when there are so many.
const MANY_RECORDS: usize = 8;

pub(super) struct Work<'a> {
    pub(super) repository: &'a Repository,
    pub(super) request: &'a Request,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// What a remote says that does not allow something, if that is what it says.
fn denial(error: &RepoError) -> Option<String> {
    match error {
        RepoError::Remote(RemoteError::Service {
            fault: Fault::Permission | Fault::Authentication,
            message,
            ..
        }) => Some(message.clone()),
        RepoError::Remote(RemoteError::Io { source, .. })
            if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            Some(source.to_string())
        }
        _ => None,
    }
}

/// An index object that was there a moment ago was replaced by a merged one.
fn changed(error: RepoError) -> Error {
    match error {
        RepoError::Remote(e) if e.is_not_found() => Error::Changed,
        error => error.into(),
    }
}

impl Work<'_> {
    /// Tries whether this remote lets us remove an object, when there is anything to be done: an acceptance
    /// that accepts nothing, which may be removed at any time by anyone. `Some` when it does not.
    pub(super) fn may_delete(&self, state: &State, plan: &Plan) -> Result<Option<String>, Error> {
        let mut old = leftovers::answered(self.repository, state)?;
        if plan.is_empty() && old.is_empty() {
            return Ok(None);
        }
        let object = match old.pop() {
            Some(object) => Ok(object),
            None => self.repository.publish_acceptance(self.clock.now(), &[]),
        };
        match object.and_then(|object| self.repository.remove_pruned(&object)) {
            Ok(()) => Ok(None),
            Err(e) => match denial(&e) {
                Some(message) => Ok(Some(message)),
                None => Err(e.into()),
            },
        }
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.monitor.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    pub(super) fn run(
        &self,
        state: &State,
        plan: &Plan,
        ages: &mut Ages,
        meter: &mut Meter<'_>,
    ) -> Result<Done, Error> {
        let mut done = Done::default();
        let census = &state.census;
        // Read while the index objects that list them are there.
        let victims = Victims::read(self.repository, plan, census).map_err(changed)?;
        let bytes = plan.with(census, Fate::Delete).map(|(_, pack)| pack.stored.unwrap_or(0)).sum();
        meter.next(Phase::Delete, Some(bytes));
        self.rewrite(state, plan, &mut done)?;
        self.delete(plan.with(census, Fate::Delete).map(|(_, pack)| pack).collect(), &mut done)?;
        let bytes = plan.with(census, Fate::Repack).map(|(_, pack)| pack.stored.unwrap_or(0)).sum();
        meter.next(Phase::Repack, Some(bytes));
        self.go_on()?;
        let copied = copy(self.repository, &victims, plan, census, self.request, self.monitor)?;
        meter.next(Phase::Publish, None);
        self.stands(state, &copied)?;
        self.note_own(state, &copied);
        self.condemn(state, plan, copied, ages, &mut done)?;
        done.acceptances = leftovers::acceptances(self.repository, state)?;
        done.temporary = leftovers::temporary(self.repository, self.clock.now());
        // Said at the very end: what was copied is of use to the next prune because it was condemned.
        self.go_on()?;
        Ok(done)
    }

    /// The index first: a pack that is gone is in no index object but those that a gc record speaks against.
    fn rewrite(&self, state: &State, plan: &Plan, done: &mut Done) -> Result<(), Error> {
        let census = &state.census;
        let gone: BTreeSet<ObjectId> = plan.with(census, Fate::Delete).map(|(_, pack)| pack.id).collect();
        let (old, dead): (Vec<_>, Vec<_>) =
            plan.rewrite.iter().map(|&n| &census.objects()[n]).partition(|object| object.is_readable);
        let infos = |objects: Vec<&CensusObject>| -> Vec<ObjectInfo> {
            objects.into_iter().map(|object| object.object.clone()).collect()
        };
        let (old, dead) = (infos(old), infos(dead));
        // Damaged ones first: who replaces them may be written anew, and no longer say so.
        self.remove(&dead)?;
        done.rewritten = dead.len() as u64;
        if old.is_empty() {
            return Ok(());
        }
        self.repository.rewrite_index(&old, &|pack| gone.contains(pack)).map_err(changed)?;
        self.remove(&old)?;
        done.rewritten += old.len() as u64;
        Ok(())
    }

    fn delete(&self, packs: Vec<&CensusPack>, done: &mut Done) -> Result<(), Error> {
        let there = packs.iter().filter_map(|pack| {
            let size = pack.stored?;
            Some(ObjectInfo { name: pack_name(&pack.id), time: None, id: pack.id, size })
        });
        let there: Vec<_> = there.collect();
        self.remove(&there)?;
        for pack in &there {
            done.deleted.add(pack.size);
        }
        Ok(())
    }

    /// Removes objects, several at once where that is faster.
    fn remove(&self, objects: &[ObjectInfo]) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        let threads = self.repository.remote().parallel_requests().clamp(1, objects.len().max(1));
        let one = || -> Result<(), Error> {
            while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.go_on()?;
                self.repository.remove_pruned(object)?;
                self.monitor.progress(1, object.size);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or(Err(Error::Repo(RepoError::Worker)))
            };
            // All of them are waited for.
            threads.into_iter().map(ended).fold(Ok(()), Result::and)
        })
    }

    /// What we have written ourselves needs no proof later.
    fn note_own(&self, state: &State, copied: &Copied) {
        let cache = self.repository.cache();
        let mut own = cache.own_packs();
        own.retain(|pack| state.census.packs().iter().any(|known| known.id == *pack && known.is_sound()));
        own.extend(&copied.written);
        // Forgotten, they will be read.
        drop(cache.note_own_packs(&own));
    }

    /// What was copied is counted on from now on. While we took our time another prune may have taken it for the
    /// remains of a backup that died: then everything is to be looked at anew.
    fn stands(&self, state: &State, copied: &Copied) -> Result<(), Error> {
        if copied.new.packs == 0 {
            return Ok(());
        }
        let known: BTreeSet<&str> = state.gc.iter().map(|record| record.object.name.as_str()).collect();
        let now = self.repository.gc_records()?;
        if now.iter().all(|name| known.contains(name.as_str())) { Ok(()) } else { Err(Error::Changed) }
    }

    /// Writes a gc record of what no snapshot needs now, and removes those that it makes superfluous.
    fn condemn(
        &self,
        state: &State,
        plan: &Plan,
        copied: Copied,
        ages: &mut Ages,
        done: &mut Done,
    ) -> Result<(), Error> {
        let mut fresh: Vec<ObjectId> = Vec::new();
        for (_, pack) in plan.with(&state.census, Fate::Condemn) {
            fresh.push(pack.id);
            done.condemned.add(pack.stored.unwrap_or(0));
        }
        let moved: BTreeSet<ObjectId> = copied.packs.into_iter().collect();
        for (_, pack) in plan.with(&state.census, Fate::Repack).filter(|(_, pack)| moved.contains(&pack.id)) {
            fresh.push(pack.id);
            done.condemned.add(pack.stored.unwrap_or(0));
            done.repacked.add(pack.stored.unwrap_or(0));
        }
        done.new_packs = copied.new;
        done.damaged = copied.damaged;
        let there = |pack: &(&CensusPack, &Fate)| *pack.1 != Fate::Delete;
        let census = state.census.packs().iter().zip(&plan.fates);
        let there: BTreeSet<ObjectId> = census.filter(there).map(|(pack, _)| pack.id).collect();
        let spent = |record: &&Condemnation| record.packs.iter().all(|pack| !there.contains(pack));
        if fresh.is_empty() && state.gc.iter().filter(spent).count() < MANY_RECORDS {
            return Ok(());
        }
        let names = names(&state.gc, &there, &fresh);
        let record = self.repository.condemn(self.clock.now(), names)?;
        ages.written(&record.object.name, self.clock);
        ages.note(self.repository, self.monitor);
        let old = superfluous(&state.gc, &record, &there);
        for object in &old {
            self.repository.remove_pruned(object)?;
        }
        done.records = old.len() as u64;
        Ok(())
    }
}

/// What a new record names: packs that are gone, as older records name them, and those that are condemned now.
fn names(gc: &[Condemnation], there: &BTreeSet<ObjectId>, fresh: &[ObjectId]) -> Vec<ObjectId> {
    let mut known: BTreeSet<ObjectId> = fresh.iter().copied().collect();
    // From the newest to the oldest, so that what is forgotten is what went first.
    let newest_first = gc.iter().rev().flat_map(|record| record.packs.iter().rev());
    let gone = newest_first.filter(|pack| !there.contains(pack) && known.insert(**pack)).take(GONE);
    let mut names: Vec<ObjectId> = gone.copied().collect();
    names.reverse();
    names.extend(fresh);
    names
}

/// Records each pack of which a newer one names, or which are gone and were forgotten as the oldest.
fn superfluous(gc: &[Condemnation], new: &Condemnation, there: &BTreeSet<ObjectId>) -> Vec<ObjectInfo> {
    let mut records: Vec<&Condemnation> = gc.iter().chain([new]).collect();
    records.sort_by_key(|record| record.order());
    let named: BTreeSet<ObjectId> = new.packs.iter().copied().collect();
    let full = named.iter().filter(|pack| !there.contains(pack)).count() >= GONE;
    let mut covered = BTreeSet::<ObjectId>::new();
    let mut old = Vec::new();
    for (age, record) in records.iter().rev().enumerate() {
        let forgotten = |pack: &ObjectId| full && !there.contains(pack) && !named.contains(pack);
        if age > 0 && record.packs.iter().all(|pack| covered.contains(pack) || forgotten(pack)) {
            old.push(record.object.clone());
        }
        // By one from the future nobody could tell how old what it names is.
        if record.time <= new.time {
            covered.extend(&record.packs);
        }
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::remote::Verb;

    fn id(n: u64) -> ObjectId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        ObjectId(id)
    }

    fn ids(numbers: &[u64]) -> Vec<ObjectId> {
        numbers.iter().copied().map(id).collect()
    }

    fn record(secs: i64, packs: &[u64]) -> Condemnation {
        let id = id(secs.unsigned_abs());
        let object = ObjectInfo { name: format!("gc/{secs}"), time: Some(secs), id, size: 9 };
        Condemnation { time: Timestamp::from_secs(secs), object, packs: ids(packs) }
    }

    #[test]
    fn a_new_record_names_what_is_gone_and_what_is_condemned_now_once() {
        let there: BTreeSet<ObjectId> = ids(&[3, 4, 8, 9]).into_iter().collect();
        let gc = [record(1, &[1, 2, 3]), record(2, &[2, 4, 5])];
        assert_eq!(names(&gc, &there, &ids(&[8, 9])), ids(&[1, 2, 5, 8, 9]));
        assert_eq!(names(&[], &there, &ids(&[8])), ids(&[8]));
        // What is condemned anew is named once.
        assert_eq!(names(&gc, &there, &ids(&[5, 8])), ids(&[1, 2, 5, 8]));
    }

    #[test]
    fn of_very_many_that_are_gone_the_oldest_are_forgotten() {
        let gone = GONE as u64;
        let old: Vec<u64> = (0..10).collect();
        let new: Vec<u64> = (10..gone + 5).collect();
        let gc = [record(1, &old), record(2, &new)];
        let named = names(&gc, &BTreeSet::new(), &ids(&[1 << 40]));
        let mut want: Vec<u64> = (5..gone + 5).collect();
        want.push(1 << 40);
        assert_eq!(named, ids(&want));
        // The old record says what the new one has forgotten: it may go, since that is gone.
        let there = BTreeSet::from([id(1 << 40)]);
        let made = record(3, &want);
        assert_eq!(superfluous(&gc, &made, &there), [record(2, &new).object, record(1, &old).object]);
        // Not while the new one has room for it.
        let made = record(3, &want[1..]);
        assert_eq!(superfluous(&gc, &made, &there), [record(2, &new).object]);
        // And never while it names a pack that is there.
        let there = BTreeSet::from([id(1 << 40), id(1)]);
        let made = record(3, &want);
        assert_eq!(superfluous(&gc, &made, &there), [record(2, &new).object]);
    }

    #[test]
    fn a_record_goes_when_newer_ones_name_all_that_it_names() {
        let there: BTreeSet<ObjectId> = (0..20).map(id).collect();
        let gone = |gc: &[Condemnation], new: &Condemnation| {
            superfluous(gc, new, &there).iter().map(|object| object.name.clone()).collect::<Vec<_>>()
        };
        let new = record(10, &[1, 2]);
        assert_eq!(gone(&[], &new), [""; 0]);
        assert_eq!(gone(&[record(1, &[1]), record(2, &[2, 3])], &new), ["gc/1"]);
        // Together they do.
        assert_eq!(gone(&[record(1, &[1, 3]), record(2, &[3, 4])], &new), ["gc/1"]);
        // What one from the future names does not count.
        assert_eq!(gone(&[record(1, &[3])], &new), [""; 0]);
        assert_eq!(gone(&[record(1, &[3]), record(11, &[3])], &new), [""; 0]);
        assert_eq!(gone(&[record(11, &[])], &new), [""; 0]);
        assert_eq!(gone(&[record(1, &[1]), record(11, &[1])], &new), ["gc/1"]);
    }

    #[test]
    fn a_remote_that_forbids_is_told_from_one_that_fails() {
        let name = || "packs/x".to_owned();
        let service = |fault| {
            RepoError::Remote(RemoteError::Service {
                verb: Verb::Delete,
                name: name(),
                message: "m".into(),
                fault,
            })
        };
        let io = |kind: ErrorKind| {
            RepoError::Remote(RemoteError::Io { verb: Verb::Delete, name: name(), source: kind.into() })
        };
        for (error, denied) in [
            (service(Fault::Permission), true),
            (service(Fault::Authentication), true),
            (service(Fault::Other), false),
            (io(ErrorKind::PermissionDenied), true),
            (io(ErrorKind::ReadOnlyFilesystem), true),
            (io(ErrorKind::StorageFull), false),
            (RepoError::Worker, false),
        ] {
            assert_eq!(denial(&error).is_some(), denied, "{error}");
        }
        let missing = RepoError::Remote(RemoteError::NotFound { name: name() });
        assert!(matches!(changed(missing), Error::Changed));
        assert!(matches!(changed(service(Fault::Other)), Error::Repo(_)));
        assert!(matches!(changed(RepoError::Worker), Error::Repo(_)));
    }
}
