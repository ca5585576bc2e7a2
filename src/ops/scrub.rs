//! `scrub`: whether every object still has the bytes that its name was made from. Needs no key, so that a
//! machine that must not read the backups can look after them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::check::{Problem, ReadData, believed, choose};
use crate::clock::Clock;
use crate::crypto;
use crate::model::{Classify, ErrorClass, ObjectId, Timestamp};
use crate::remote::{Remote, RemoteError};
use crate::repo::{Cache, CachePlace, Damage, Folder, RepoError, Repository, hash_object, parse_name};
use crate::report::{Monitor, Phase};

/// Objects that a service is asked about at once, and their bytes.
const ASKED: usize = 256;
const ASKED_BYTES: u64 = 4 << 30;

/// What a scrub found.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Objects that are not what their names say.
    pub problems: Vec<Problem>,
    /// Objects whose names say nothing of their content.
    pub notes: Vec<String>,
    /// Objects that were compared.
    pub objects: u64,
    /// Bytes that were read for that.
    pub bytes_read: u64,
    /// Objects whose hash the storage service told, so that nothing was read.
    pub told: u64,
    /// Packs among the objects compared.
    pub packs_read: u64,
    /// Packs that this machine has never compared or read to their end.
    pub packs_unread: u64,
    /// Since when all of the others were; `None` when none was.
    pub read_since: Option<Timestamp>,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user asked to stop: what was not looked at may be damaged.
    #[error("interrupted before everything was compared; no damage was found up to there")]
    Interrupted,
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Self {
        Self::Repo(error.into())
    }
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}

/// An object and what its hash must be.
struct Object {
    name: String,
    id: ObjectId,
    size: u64,
    is_pack: bool,
}

/// Compares all small objects with their names, and the packs that `subset` chooses.
pub fn run(
    remote: &dyn Remote,
    caches: CachePlace<'_>,
    subset: ReadData,
    threads: usize,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    let started = clock.monotonic();
    monitor.phase(Phase::Check, None);
    let mut outcome = Outcome::default();
    let cache = match Repository::probe(remote) {
        Ok(marker) => Some(Cache::new(caches, marker.id)),
        // Without it, what is found cannot be remembered, and can be told all the same.
        Err(e) if e.class() == ErrorClass::Damaged => {
            outcome.problems.push(problem("exuvia.json", &e.to_string()));
            None
        }
        Err(e) => return Err(e.into()),
    };
    let mut objects = Vec::new();
    for folder in [
        Folder::Keys,
        Folder::Snapshots,
        Folder::Safety,
        Folder::Gc,
        Folder::Accepted,
        Folder::Removed,
        Folder::Index,
        Folder::Packs,
    ] {
        objects.extend(list(remote, folder, &mut outcome.notes)?);
    }
    let packs: Vec<(ObjectId, u64)> = objects.iter().filter(|o| o.is_pack).map(|o| (o.id, o.size)).collect();
    let reads = cache.as_ref().map(Cache::reads).unwrap_or_default();
    let mut reads = believed(reads, clock.now());
    let draw = crypto::random().map_err(|e| RepoError::Key(e.to_string()))?;
    let mut chosen: BTreeSet<ObjectId> = choose(&packs, subset, &reads, &draw).into_iter().collect();
    let noted = cache.as_ref().map(Cache::damage).unwrap_or_default();
    chosen.extend(noted.keys());
    objects.retain(|object| !object.is_pack || chosen.contains(&object.id));
    let bytes = objects.iter().map(|object| object.size).sum();
    monitor.phase(Phase::ReadData, Some(bytes));
    let scrub = Scrub { remote, monitor: monitor.as_ref(), bytes_read: AtomicU64::new(0) };
    let told = scrub.told(&objects)?;
    outcome.told = told.len() as u64;
    let (found, failure) = scrub.compare(&objects, &told, threads);
    outcome.bytes_read = scrub.bytes_read.into_inner();
    outcome.objects = found.len() as u64;
    let now = clock.now().secs;
    let mut damaged = BTreeMap::new();
    for (number, verdict) in found {
        let Object { name, id, is_pack, .. } = &objects[number];
        outcome.packs_read += u64::from(*is_pack);
        match verdict {
            None if *is_pack => drop(reads.insert(*id, now)),
            None => {}
            Some(message) => {
                outcome.problems.push(problem(name, &message));
                if *is_pack {
                    reads.remove(id);
                    damaged.insert(*id, Damage::Damaged);
                }
            }
        }
    }
    let there: BTreeSet<ObjectId> = packs.iter().map(|(id, _)| *id).collect();
    reads.retain(|id, _| there.contains(id));
    outcome.packs_unread =
        there.iter().filter(|id| !reads.contains_key(*id) && !damaged.contains_key(*id)).count() as u64;
    outcome.read_since = reads.values().min().map(|secs| Timestamp::from_secs(*secs));
    if let Some(cache) = cache {
        let remembered = cache.note_reads(&reads).and_then(|()| {
            cache.change_damage(|noted| {
                noted.retain(|id, _| reads.get(id) != Some(&now));
                noted.extend(damaged);
            })
        });
        if let Err(error) = remembered {
            monitor.warning(None, &format!("what was found cannot be remembered: {error}"));
        }
    }
    // What was found by then counts, and is remembered.
    if let Some(error) = failure {
        tell(&outcome.problems, monitor.as_ref());
        return Err(error.into());
    }
    if monitor.cancelled() && outcome.problems.is_empty() {
        return Err(Error::Interrupted);
    }
    let taken = clock.monotonic().saturating_sub(started);
    outcome.duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    Ok(outcome)
}

/// Says what was found, where there is no outcome to say it in.
fn tell(problems: &[Problem], monitor: &dyn Monitor) {
    for Problem { object, message, .. } in problems {
        monitor.warning(None, &format!("{object}: {message}"));
    }
}

fn problem(object: &str, message: &str) -> Problem {
    Problem { object: object.into(), message: message.into(), paths: Vec::new(), path_count: 0 }
}

fn list(remote: &dyn Remote, folder: Folder, notes: &mut Vec<String>) -> Result<Vec<Object>, RemoteError> {
    let mut objects = Vec::new();
    for listed in remote.list(folder.name())? {
        match parse_name(&listed.name) {
            Some((found, _, id)) if found == folder => objects.push(Object {
                name: listed.name,
                id,
                size: listed.size,
                is_pack: folder == Folder::Packs,
            }),
            _ => notes.push(format!("{} is not an object of a repository", listed.name)),
        }
    }
    Ok(objects)
}

struct Scrub<'a> {
    remote: &'a dyn Remote,
    monitor: &'a dyn Monitor,
    bytes_read: AtomicU64,
}

impl Scrub<'_> {
    /// What the service says of these objects, where it has something to say.
    fn told(&self, objects: &[Object]) -> Result<BTreeMap<String, [u8; 32]>, RemoteError> {
        let mut all = BTreeMap::new();
        let mut rest = objects;
        while !rest.is_empty() && !self.monitor.cancelled() {
            let mut bytes = 0u64;
            let few = |object: &&Object| {
                bytes = bytes.saturating_add(object.size);
                bytes <= ASKED_BYTES
            };
            let count = rest.iter().take(ASKED).take_while(few).count().max(1);
            let (now, later) = rest.split_at(count);
            let asked: Vec<(&str, u64)> = now.iter().map(|o| (o.name.as_str(), o.size)).collect();
            let Some(told) = self.remote.sha256(&asked)? else { break };
            let sizes = now.iter().filter(|object| told.contains_key(&object.name)).map(|object| object.size);
            self.monitor.progress(told.len() as u64, sizes.sum());
            all.extend(told);
            rest = later;
        }
        Ok(all)
    }

    /// Compares until something fails; what is wrong with each object that was reached, by its number.
    fn compare(
        &self,
        objects: &[Object],
        told: &BTreeMap<String, [u8; 32]>,
        threads: usize,
    ) -> (BTreeMap<usize, Option<String>>, Option<RemoteError>) {
        let threads = threads.max(self.remote.parallel_requests()).clamp(1, objects.len().max(1));
        let next = AtomicUsize::new(0);
        let (found, failure) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
        let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let over = self.monitor.cancelled() || failed().is_some();
                        let Some(object) = objects.get(number).filter(|_| !over) else { break };
                        let verdict = match told.get(&object.name) {
                            Some(hash) => Ok(Some(*hash)),
                            None => self.read(object),
                        };
                        let verdict = match verdict {
                            Ok(None) => continue,
                            Ok(Some(hash)) if hash == object.id.0 => None,
                            Ok(Some(_)) => Some("its content does not match its name".to_string()),
                            Err(e) if e.says_nothing() => {
                                failed().get_or_insert(e);
                                break;
                            }
                            Err(e) => Some(e.to_string()),
                        };
                        found.lock().unwrap_or_else(PoisonError::into_inner).insert(number, verdict);
                    }
                });
            }
        });
        (
            found.into_inner().unwrap_or_else(PoisonError::into_inner),
            failure.into_inner().unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The hash of what is there; `None` for an object that is gone: after it was listed, somebody removed it.
    fn read(&self, object: &Object) -> Result<Option<[u8; 32]>, RemoteError> {
        let hash = match hash_object(self.remote, &object.name, object.size) {
            Err(e) if e.is_not_found() => return Ok(None),
            other => other?,
        };
        self.bytes_read.fetch_add(object.size, Ordering::Relaxed);
        self.monitor.progress(1, object.size);
        Ok(Some(hash))
    }
}
