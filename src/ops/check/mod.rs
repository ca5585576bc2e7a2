//! `check`: whether a repository is what it should be.

mod choose;
pub(super) mod data;
mod objects;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(in crate::ops) use self::choose::{believed, choose};
use self::walk::{LostBlobs, Walks};
use crate::clock::Clock;
use crate::crypto;
use crate::format::marker_v1::Operation;
use crate::model::{BlobId, Classify, ErrorClass, ObjectId, Timestamp};
use crate::repo::{
    BlobReader, Catalog, CatalogEntry, Damage, Folder, ObjectInfo, RepoError, Repository, Standing, Survey,
    pack_name, parse_name,
};
use crate::report::{Monitor, Phase};

/// How much data to read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum ReadData {
    /// Structure only.
    #[default]
    No,
    /// Every byte of every pack.
    All,
    /// One of so many parts, by the packs' ids: the same ones each time.
    Part {
        /// Which part, from 1.
        number: u32,
        /// Of how many.
        of: u32,
    },
    /// About this percentage of the bytes, those first that were not read for the longest time.
    Percent(f64),
    /// About so many bytes, likewise.
    Bytes(u64),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// Paths that it hurts, as `<snapshot>:<path>`; at most 100.
    pub paths: Vec<String>,
    /// How many paths it hurts in all.
    pub path_count: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Damage.
    pub problems: Vec<Problem>,
    /// Things that are odd but harmless, such as packs that no index lists.
    pub notes: Vec<String>,
    /// Snapshots checked, safety snapshots included.
    pub snapshots: u64,
    /// Packs known.
    pub packs: u64,
    /// Packs whose every byte was read.
    pub packs_read: u64,
    /// Blobs known.
    pub blobs: u64,
    /// Bytes of packs read.
    pub bytes_read: u64,
    /// Packs that this machine has never read to their end.
    pub packs_unread: u64,
    /// Since when all of the others were read; `None` when none was.
    pub read_since: Option<Timestamp>,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user asked to stop: what was not looked at may be damaged.
    #[error("interrupted before everything was checked; no damage was found up to there")]
    Interrupted,
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}

/// Most paths named for one problem.
const MAX_PATHS: usize = 100;
/// Most notes of one kind that name an object each.
const MAX_NOTES: usize = 20;
/// Other clients may replace index objects and delete packs while we look.
const LISTINGS: usize = 3;

/// Checks a repository.
pub fn run(
    repository: &Repository,
    read_data: ReadData,
    threads: usize,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    repository.require(Operation::Check)?;
    if read_data != ReadData::No {
        repository.require_owner()?;
    }
    let started = clock.monotonic();
    monitor.phase(Phase::Check, None);
    // What the remote has is in question, not what was copied from it.
    let repository = &repository.without_copies();
    let mut check = Check {
        repository,
        monitor: monitor.as_ref(),
        clock: clock.as_ref(),
        threads,
        outcome: Outcome::default(),
        bad: BTreeMap::new(),
        lost: LostBlobs::new(),
    };
    check.marker()?;
    // Snapshots before the index, and the index before the packs: the reverse of the order in which a
    // backup publishes them. One that is published meanwhile is not taken for damage.
    let mut catalogs = Vec::new();
    for folder in [Folder::Snapshots, Folder::Safety] {
        catalogs.push(Catalog::of(repository, check.list(folder)?));
    }
    let condemned = check.gc_records()?;
    let mut state = check.state(&condemned)?;
    check.keys()?;
    if repository.writer_key().is_some() {
        check.index(&state)?;
        check.sealed(&catalogs);
        return check.end(started);
    }
    check.acceptances()?;
    check.removals()?;
    if check.read(&state, read_data)? {
        // Of what is damaged, some may be elsewhere.
        check.look_again(&mut state, &condemned)?;
    }
    check.index(&state)?;
    check.snapshots(&state, &condemned, &catalogs)?;
    check.end(started)
}

/// What there is: the index, its objects, and the packs by their names with their sizes.
struct State {
    survey: Survey,
    objects: Vec<ObjectInfo>,
    packs: HashMap<ObjectId, u64>,
}

/// What is known of a repository before it is repaired.
pub(in crate::ops) struct Diagnosis {
    pub(in crate::ops) survey: Survey,
    pub(in crate::ops) objects: Vec<ObjectInfo>,
    /// The packs that are there, with their sizes.
    pub(in crate::ops) packs: HashMap<ObjectId, u64>,
    /// Packs that are missing or damaged, and why.
    pub(in crate::ops) bad: BTreeMap<ObjectId, String>,
    lost: LostBlobs,
    pub(in crate::ops) condemned: BTreeSet<ObjectId>,
}

impl Diagnosis {
    /// Looks at the index and the packs. Packs that were found damaged before are read, or `all`.
    pub(in crate::ops) fn make(
        repository: &Repository,
        all: bool,
        threads: usize,
        monitor: &dyn Monitor,
        clock: &dyn Clock,
    ) -> Result<Self, RepoError> {
        let mut check = Check {
            repository,
            monitor,
            clock,
            threads,
            outcome: Outcome::default(),
            bad: BTreeMap::new(),
            lost: LostBlobs::new(),
        };
        let condemned = check.gc_records()?;
        let mut state = check.state(&condemned)?;
        if check.read(&state, if all { ReadData::All } else { ReadData::No })? {
            check.look_again(&mut state, &condemned)?;
        }
        let State { survey, objects, packs } = state;
        Ok(Self { survey, objects, packs, bad: check.bad, lost: check.lost, condemned })
    }

    /// True when a blob is in no pack, or only in one that it cannot be had from.
    pub(in crate::ops) fn is_lost(&self, id: &BlobId) -> Result<bool, RepoError> {
        let index = self.survey.index();
        let Some(place) = index.get(id)? else { return Ok(true) };
        if self.survey.standing(place.pack) != Standing::Bad {
            return Ok(false);
        }
        let Some((pack, _)) = index.frame(place.pack, place.frame)? else { return Ok(true) };
        Ok(self.lost.get(&pack).is_none_or(|lost| lost.contains(id)))
    }

    /// Why the index cannot be relied on to know every pack, if it cannot. A pack that nobody lists and that says
    /// nothing of itself, as an interrupted upload may leave, could not be listed either: it is no reason.
    pub(in crate::ops) fn index_fault(&self, repository: &Repository) -> Result<Option<String>, RepoError> {
        let unread = self.survey.unreadable.iter();
        if let Some((object, _)) = unread.clone().find(|(o, _)| !self.survey.replaced.contains(&o.id)) {
            return Ok(Some(format!("{} is damaged", object.name)));
        }
        let mut unlisted = 0;
        for (id, size) in &self.packs {
            if self.survey.index().contains_pack(id)? {
                continue;
            }
            match data::table(repository, id, *size) {
                Err(e) if e.is_service_failure() => return Err(e),
                table => unlisted += u64::from(table.is_ok()),
            }
        }
        if unlisted > 0 {
            return Ok(Some(format!("packs that it does not list: {unlisted}")));
        }
        let disputed = self.misdescribed(repository)?;
        Ok((disputed > 0)
            .then(|| format!("packs of which it says what they do not say themselves: {disputed}")))
    }

    /// How many packs are not what an index object says, though they are what they say themselves. One that says
    /// nothing of itself is damaged, and not misdescribed.
    fn misdescribed(&self, repository: &Repository) -> Result<u64, RepoError> {
        let mut count = 0;
        let doubtful: BTreeSet<&ObjectId> =
            self.survey.contradictions.iter().chain(self.bad.keys()).collect();
        for (id, size) in doubtful.into_iter().filter_map(|id| Some((id, *self.packs.get(id)?))) {
            match data::table(repository, id, size) {
                Ok(table) => {
                    let disputed = self.survey.contradictions.contains(id);
                    count += u64::from(disputed || !self.survey.agrees(&table));
                }
                Err(e) if e.is_service_failure() => return Err(e),
                Err(_) => {}
            }
        }
        Ok(count)
    }
}

/// What snapshots need.
#[derive(Default)]
struct Reach {
    /// By number of the pack: some blob that a snapshot needs has its best place there.
    relied: Vec<bool>,
    /// Damaged packs of which something that a snapshot needs is elsewhere only in condemned packs.
    exposed: BTreeSet<ObjectId>,
    /// Packs in which something is lost, and what that hurts.
    hurt: BTreeMap<ObjectId, Problem>,
    /// What else is wrong.
    problems: Vec<Problem>,
}

struct Check<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    clock: &'a dyn Clock,
    threads: usize,
    outcome: Outcome,
    /// Packs that are not what they should be, and why.
    bad: BTreeMap<ObjectId, String>,
    /// Of those that could be read, what is lost.
    lost: LostBlobs,
}

fn problem(object: &str, message: impl std::fmt::Display) -> Problem {
    Problem { object: object.into(), message: message.to_string(), paths: Vec::new(), path_count: 0 }
}

/// An error says something of the object only if the service that holds it answered.
pub(super) fn verdict(error: RepoError) -> Result<String, RepoError> {
    let local = matches!(error, RepoError::Cache { .. } | RepoError::Worker)
        // Nor does one about the key at hand.
        || matches!(error.class(), ErrorClass::WrongKey | ErrorClass::WriterKey);
    if error.is_service_failure() || local { Err(error) } else { Ok(error.to_string()) }
}

/// True when a snapshot that was listed, and cannot be found, is not listed any more: somebody has removed it.
pub(super) fn is_forgotten(repository: &Repository, entry: &CatalogEntry) -> Result<bool, RepoError> {
    let Some((folder, ..)) = parse_name(&entry.name) else { return Ok(false) };
    Ok(repository.list(folder)?.iter().all(|object| object.name != entry.name))
}

impl Check<'_> {
    /// What a writer key can say of the rest: nothing of what snapshots need, so that every bad pack counts.
    fn sealed(&mut self, catalogs: &[Catalog]) {
        let bad = std::mem::take(&mut self.bad);
        self.outcome.problems.extend(bad.iter().map(|(id, message)| problem(&pack_name(id), message)));
        let snapshots = catalogs.iter().map(|catalog| catalog.entries().len()).sum::<usize>();
        self.outcome.notes.push(format!(
            "not looked at, since a writer key cannot read them: the content of packs, what snapshots need \
             (there are {snapshots}), and acceptances; an owner key checks these too"
        ));
    }

    fn end(mut self, started: Duration) -> Result<Outcome, Error> {
        self.outcome.notes.sort();
        self.outcome.notes.dedup();
        if self.monitor.cancelled() && self.outcome.problems.is_empty() {
            return Err(Error::Interrupted);
        }
        let taken = self.clock.monotonic().saturating_sub(started);
        self.outcome.duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
        Ok(self.outcome)
    }

    /// Surveys anew with what is known of packs now. Reading them may have taken hours: when the index objects are
    /// no longer those that were listed, what is there now counts.
    fn look_again(&mut self, state: &mut State, condemned: &BTreeSet<ObjectId>) -> Result<(), RepoError> {
        match self.survey(&state.objects, &state.packs, condemned) {
            Err(RepoError::Remote(e)) if e.is_not_found() => *state = self.state(condemned)?,
            other => state.survey = other?,
        }
        Ok(())
    }

    /// Lists the index and then the packs, and reads the index.
    fn state(&mut self, condemned: &BTreeSet<ObjectId>) -> Result<State, RepoError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let objects = self.repository.list(Folder::Index)?;
            let (packs, strangers) = self.repository.list_all(Folder::Packs)?;
            let packs: HashMap<ObjectId, u64> = packs.into_iter().map(|o| (o.id, o.size)).collect();
            let survey = match self.survey(&objects, &packs, condemned) {
                Err(RepoError::Remote(e)) if e.is_not_found() && tries < LISTINGS => continue,
                other => other?,
            };
            // Packs are deleted when no index object lists them any more.
            if !self.bad.is_empty() && tries < LISTINGS && self.repository.list(Folder::Index)? != objects {
                // Those that were read are what they are.
                self.bad.retain(|id, _| self.lost.contains_key(id));
                continue;
            }
            self.strangers(strangers);
            self.strangers(self.repository.list_all(Folder::Index)?.1);
            return Ok(State { survey, objects, packs });
        }
    }

    fn survey(
        &mut self,
        objects: &[ObjectInfo],
        packs: &HashMap<ObjectId, u64>,
        condemned: &BTreeSet<ObjectId>,
    ) -> Result<Survey, RepoError> {
        let bad = std::cell::RefCell::new(&mut self.bad);
        let survey = Survey::load(self.repository, objects, |pack| {
            let message = match packs.get(&pack.id) {
                Some(&size) if size == pack.size => None,
                Some(size) => Some(format!("has {size} bytes where the index says {}", pack.size)),
                None => Some("is missing".to_string()),
            };
            let mut bad = bad.borrow_mut();
            if let Some(message) = message {
                bad.entry(pack.id).or_insert(message);
            }
            match (bad.contains_key(&pack.id), condemned.contains(&pack.id)) {
                (true, _) => Standing::Bad,
                (false, true) => Standing::Condemned,
                (false, false) => Standing::Good,
            }
        })?;
        Ok(survey)
    }

    /// Reads packs to their end: those that were chosen, and those that were found damaged before. Tells
    /// whether any is damaged.
    fn read(&mut self, state: &State, read_data: ReadData) -> Result<bool, RepoError> {
        let cache = self.repository.cache();
        let noted = cache.damage();
        let listed = state.survey.index().packs()?;
        let there: Vec<(ObjectId, u64)> =
            listed.iter().map(|p| (p.id, p.size)).filter(|(id, _)| !self.bad.contains_key(id)).collect();
        let mut reads = believed(cache.reads(), self.clock.now());
        let draw = crypto::random().map_err(|e| RepoError::Key(e.to_string()))?;
        let mut chosen: BTreeSet<ObjectId> = choose(&there, read_data, &reads, &draw).into_iter().collect();
        chosen.extend(noted.keys());
        let chosen: Vec<_> = there.iter().filter(|(id, _)| chosen.contains(id)).copied().collect();
        let bytes = chosen.iter().map(|(_, size)| size).sum();
        if !chosen.is_empty() {
            self.monitor.phase(Phase::ReadData, Some(bytes));
        }
        let (survey, objects) = (&state.survey, &state.objects);
        let results = data::read(self.repository, survey, objects, &chosen, self.threads, self.monitor)?;
        let data::Results { packs: results, failure } = results;
        let (now, mut found, mut disproved) = (self.clock.now(), false, BTreeSet::new());
        for (id, size) in chosen {
            let Some(result) = results.get(&id) else { continue };
            self.outcome.packs_read += 1;
            self.outcome.bytes_read += size;
            match result {
                None => drop(reads.insert(id, now.secs)),
                Some(fault) => {
                    found = true;
                    reads.remove(&id);
                    self.bad.insert(id, fault.message.clone());
                    if fault.hash_fits {
                        disproved.insert(id);
                    }
                    self.lost.insert(id, fault.lost.clone());
                }
            }
        }
        let known: BTreeSet<ObjectId> = listed.iter().map(|pack| pack.id).collect();
        reads.retain(|id, _| known.contains(id));
        // One that is damaged is told of as such.
        let unread = |pack: &&ObjectId| !reads.contains_key(*pack) && !self.bad.contains_key(*pack);
        self.outcome.packs_unread = known.iter().filter(unread).count() as u64;
        self.outcome.read_since = reads.values().min().map(|secs| Timestamp::from_secs(*secs));
        let remembered = cache.note_reads(&reads).and_then(|()| {
            cache.change_damage(|packs| {
                packs.retain(|id, _| !matches!(results.get(id), Some(None)));
                for id in self.bad.keys() {
                    let damage = match (state.packs.contains_key(id), disproved.contains(id)) {
                        (false, _) => Damage::Missing,
                        (true, true) => Damage::False,
                        (true, false) => Damage::Damaged,
                    };
                    packs.insert(*id, damage);
                }
                packs.retain(|id, damage| match damage {
                    Damage::Missing => self.bad.contains_key(id),
                    Damage::Damaged | Damage::Suspected | Damage::False => state.packs.contains_key(id),
                });
            })
        });
        if let Err(error) = remembered {
            self.monitor.warning(None, &format!("what was read cannot be remembered: {error}"));
        }
        // What was found by then counts, and is remembered.
        match failure {
            Some(error) => {
                let tell = |(id, message): (&ObjectId, &String)| {
                    self.monitor.warning(None, &format!("{}: {message}", pack_name(id)));
                };
                self.bad.iter().for_each(tell);
                Err(error)
            }
            None => Ok(found),
        }
    }

    /// Walks every snapshot, and tells of damaged packs what they hurt.
    fn snapshots(
        &mut self,
        state: &State,
        condemned: &BTreeSet<ObjectId>,
        catalogs: &[Catalog],
    ) -> Result<(), RepoError> {
        let survey = &state.survey;
        let blobs = BlobReader::new(self.repository, survey.index());
        let packs: Vec<ObjectId> = survey.index().packs()?.iter().map(|pack| pack.id).collect();
        let exposed = self.exposed(state, condemned)?;
        let mut walks = Walks::new(&blobs, survey, &packs, (&self.lost, &exposed), self.monitor);
        let mut unreadable = Vec::new();
        for entry in catalogs.iter().flat_map(Catalog::entries) {
            if self.monitor.cancelled() {
                break;
            }
            match self.repository.snapshot(entry) {
                Ok(snapshot) => walks.snapshot(&entry.id.short(), &entry.name, &snapshot)?,
                Err(RepoError::Remote(e)) if e.is_not_found() && is_forgotten(self.repository, entry)? => {
                    continue;
                }
                Err(e) => unreadable.push(problem(&entry.name, verdict(e)?)),
            }
            self.outcome.snapshots += 1;
        }
        let Reach { relied, exposed, mut hurt, problems } = walks.reach;
        self.outcome.problems.extend(unreadable);
        self.outcome.problems.extend(problems);
        let relied: BTreeSet<ObjectId> =
            packs.iter().zip(&relied).filter(|(_, relied)| **relied).map(|(id, _)| *id).collect();
        let mut spared = Vec::new();
        for (id, message) in std::mem::take(&mut self.bad) {
            match hurt.remove(&id) {
                Some(found) => self.outcome.problems.push(Problem { message, ..found }),
                None if relied.contains(&id) || self.monitor.cancelled() => {
                    self.outcome.problems.push(problem(&pack_name(&id), message));
                }
                None if exposed.contains(&id) => {
                    let message = format!(
                        "{message}; what snapshots need of it is elsewhere only in packs that are condemned"
                    );
                    self.outcome.problems.push(problem(&pack_name(&id), message));
                }
                // What it held is elsewhere, or belongs to no snapshot.
                None => spared.push(format!("{} {message}, and no snapshot needs it", pack_name(&id))),
            }
        }
        self.outcome.problems.extend(hurt.into_values());
        self.notes(spared);
        let pardoned = relied.intersection(condemned).count();
        if pardoned > 0 {
            self.outcome.notes.push(format!(
                "condemned packs that snapshots need: {pardoned}; a prune keeps what is needed of them"
            ));
        }
        Ok(())
    }

    /// Blobs of damaged packs which are elsewhere only in condemned ones, and whose damage does not show: a prune of
    /// a machine that knows nothing of it may take the damaged copy for the one that stays.
    fn exposed(
        &self,
        state: &State,
        condemned: &BTreeSet<ObjectId>,
    ) -> Result<BTreeMap<BlobId, ObjectId>, RepoError> {
        let survey = &state.survey;
        let looks_sound = |id: &ObjectId| self.lost.contains_key(id) && !condemned.contains(id);
        let packs: BTreeSet<ObjectId> = self.bad.keys().copied().filter(looks_sound).collect();
        let mut exposed = BTreeMap::new();
        if packs.is_empty() {
            return Ok(exposed);
        }
        for (pack, info) in Survey::details(self.repository, &state.objects, &packs)? {
            for id in info.frames.iter().flat_map(|frame| &frame.blobs).map(|blob| blob.id()) {
                let place = survey.index().get(&id)?;
                if place.is_some_and(|place| survey.standing(place.pack) == Standing::Condemned) {
                    exposed.insert(id, pack);
                }
            }
        }
        Ok(exposed)
    }

    /// Adds notes of one kind; many of them say no more than some.
    fn notes(&mut self, mut notes: Vec<String>) {
        notes.sort();
        let more = notes.len().saturating_sub(MAX_NOTES);
        notes.truncate(MAX_NOTES);
        if let (Some(last), 1..) = (notes.last(), more) {
            notes.push(format!("{last} (and {more} more like this)"));
        }
        self.outcome.notes.extend(notes);
    }
}
