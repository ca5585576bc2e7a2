//! `check`: whether a repository is what it should be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::crypto::{self, ObjectKey, ObjectKind, Sha256};
use crate::format::limits;
use crate::format::marker_v1::Operation;
use crate::format::pack_v1;
use crate::format::sealed_v1::{HEADER, Sealer};
use crate::model::{BlobId, BlobKind, Classify, Content, ErrorClass, ObjectId, Slice, Snapshot};
use crate::remote::RemoteError;
use crate::repo::{
    BlobPlace, BlobReader, Catalog, Folder, Index, ManifestReader, ObjectInfo, PackSummary, RepoError,
    Repository, load_slices, pack_name,
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
    /// About this percentage of the packs, chosen at random.
    Percent(f64),
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
/// Packs read at once from a remote that is far; each is held in memory.
const PACKS_AT_ONCE: usize = 4;

/// Checks a repository.
pub fn run(
    repository: &Repository,
    read_data: ReadData,
    threads: usize,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    repository.require(Operation::Check)?;
    let started = clock.monotonic();
    monitor.phase(Phase::Check, None);
    // What the remote has is in question, not what was copied from it.
    let repository = &repository.without_copies();
    let mut check =
        Check { repository, monitor: monitor.as_ref(), outcome: Outcome::default(), bad: Bad::default() };
    // Snapshots before the index, and the index before the packs: the reverse of the order in which a
    // backup publishes them. One that is published meanwhile is not taken for damage.
    let mut catalogs = Vec::new();
    for folder in [Folder::Snapshots, Folder::Safety] {
        catalogs.push(Catalog::of(repository, check.list(folder)?));
    }
    let index = check.index()?;
    check.packs(&index)?;
    check.keys_and_gc()?;
    match read_data {
        ReadData::No => {}
        ReadData::All => check.read(&index, 100.0, threads)?,
        ReadData::Percent(percent) => check.read(&index, percent, threads)?,
    }
    check.snapshots(&index, &catalogs)?;
    check.conclude();
    if monitor.cancelled() && check.outcome.problems.is_empty() {
        return Err(Error::Interrupted);
    }
    let taken = clock.monotonic().saturating_sub(started);
    check.outcome.duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    Ok(check.outcome)
}

/// What is known to be damaged.
#[derive(Default)]
struct Bad {
    /// Packs with at least one fault: name, message, paths hurt.
    packs: BTreeMap<u32, Problem>,
    /// Blobs that cannot be had, with their pack.
    blobs: HashMap<BlobId, u32>,
}

struct Check<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    outcome: Outcome,
    bad: Bad,
}

fn problem(object: &str, message: impl std::fmt::Display) -> Problem {
    Problem { object: object.into(), message: message.to_string(), paths: Vec::new(), path_count: 0 }
}

/// An error says something of the object only if the service that holds it answered.
fn verdict(error: RepoError) -> Result<String, RepoError> {
    if error.is_service_failure() { Err(error) } else { Ok(error.to_string()) }
}

impl Check<'_> {
    /// Loads what can be loaded of the index.
    fn index(&mut self) -> Result<Index, RepoError> {
        let mut index = Index::default();
        let none = BTreeSet::new();
        for object in self.list(Folder::Index)? {
            if let Err(e) = index.add_object(self.repository, &object, &none) {
                self.outcome.problems.push(problem(&object.name, verdict(e)?));
            }
        }
        self.outcome.packs = index.packs()?.len() as u64;
        self.outcome.blobs = index.blobs().count() as u64;
        Ok(index)
    }

    /// Compares the packs that are there with those that the index lists.
    fn packs(&mut self, index: &Index) -> Result<(), RepoError> {
        let listed: HashMap<ObjectId, u64> =
            self.list(Folder::Packs)?.into_iter().map(|o| (o.id, o.size)).collect();
        for (number, pack) in (0u32..).zip(index.packs()?.iter()) {
            let message = match listed.get(&pack.id) {
                Some(&size) if size == pack.size => continue,
                Some(size) => format!("has {size} bytes where the index says {}", pack.size),
                None => "is missing".to_string(),
            };
            self.bad.packs.insert(number, problem(&pack_name(&pack.id), message));
            for blob in index.blobs() {
                let (id, place) = blob?;
                if place.pack == number {
                    self.bad.blobs.insert(id, number);
                }
            }
        }
        for id in listed.keys() {
            if index.contains_pack(id)? {
                continue;
            }
            self.outcome.notes.push(format!(
                "{} is in no index: left by an interrupted backup, or its index is damaged",
                pack_name(id)
            ));
        }
        Ok(())
    }

    /// Lists a folder; what else lies in it is worth a note.
    fn list(&mut self, folder: Folder) -> Result<Vec<ObjectInfo>, RepoError> {
        let (ours, strangers) = self.repository.list_all(folder)?;
        let notes = strangers.into_iter().map(|l| format!("{} is not an object of a repository", l.name));
        self.outcome.notes.extend(notes);
        Ok(ours)
    }

    fn keys_and_gc(&mut self) -> Result<(), RepoError> {
        for folder in [Folder::Keys, Folder::Gc, Folder::Accepted] {
            for ObjectInfo { name, id, .. } in self.list(folder)? {
                let max = limits::RECORD_OBJECT as u64;
                match self.repository.remote().get(&name, max) {
                    Ok(bytes) if crypto::sha256(&bytes) == id.0 => {}
                    Ok(_) => {
                        self.outcome.problems.push(problem(&name, "its content does not match its name"))
                    }
                    Err(e) => self.outcome.problems.push(problem(&name, verdict(e.into())?)),
                }
            }
        }
        Ok(())
    }

    /// Reads packs whole: hash, table of contents, every frame, every blob.
    fn read(&mut self, index: &Index, percent: f64, threads: usize) -> Result<(), RepoError> {
        let packs = &*index.packs()?;
        let chosen = choose(packs.len(), percent, &self.bad)?;
        let bytes = chosen.iter().map(|&n| packs[n as usize].size).sum();
        self.monitor.phase(Phase::ReadData, Some(bytes));
        let mut blobs: HashMap<u32, PackBlobs> = chosen.iter().map(|&n| (n, PackBlobs::new())).collect();
        for blob in index.blobs() {
            let (id, place) = blob?;
            if let Some(of_pack) = blobs.get_mut(&place.pack) {
                of_pack.push((id, place));
            }
        }
        let parallel = self.repository.remote().parallel_requests().min(PACKS_AT_ONCE);
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.max(parallel).max(1) {
                scope.spawn(|| {
                    while !self.monitor.cancelled()
                        && let Some(&number) = chosen.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let of_pack = blobs.get(&number).map_or(&[][..], Vec::as_slice);
                        let fault = read_pack(self.repository, &packs[number as usize], of_pack);
                        self.monitor.progress(1, packs[number as usize].size);
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((number, fault));
                    }
                });
            }
        });
        for (number, fault) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let pack = &packs[number as usize];
            self.outcome.packs_read += 1;
            self.outcome.bytes_read += pack.size;
            if let Some(Fault { message, blobs }) = fault? {
                self.bad.packs.insert(number, problem(&pack_name(&pack.id), message));
                self.bad.blobs.extend(blobs.into_iter().map(|id| (id, number)));
            }
        }
        Ok(())
    }

    /// Walks every snapshot: all that it names must be there.
    fn snapshots(&mut self, index: &Index, catalogs: &[Catalog]) -> Result<(), RepoError> {
        let blobs = BlobReader::new(self.repository, index);
        // Manifests of successive snapshots share most of their content.
        let mut seen = HashMap::new();
        for entry in catalogs.iter().flat_map(Catalog::entries) {
            if self.monitor.cancelled() {
                break;
            }
            self.outcome.snapshots += 1;
            match self.repository.snapshot(entry) {
                Ok(snapshot) if seen.insert(snapshot.manifest.root, ()).is_some() => {}
                Ok(snapshot) => self.manifest(&blobs, &entry.id.short(), &entry.name, &snapshot)?,
                Err(e) => self.outcome.problems.push(problem(&entry.name, verdict(e)?)),
            }
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        blobs: &BlobReader<'_>,
        short: &str,
        name: &str,
        snapshot: &Snapshot,
    ) -> Result<(), RepoError> {
        let mut reader = ManifestReader::new(blobs, snapshot.manifest);
        while !self.monitor.cancelled() {
            let entry = match reader.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(e) => {
                    let message = format!("its manifest cannot be read: {}", verdict(e)?);
                    self.outcome.problems.push(problem(name, message));
                    break;
                }
            };
            let Some(content) = entry.content() else { continue };
            if let Err(message) = self.content(blobs, content) {
                let path = format!("{short}:{}", entry.path);
                match message {
                    Lost::In(pack) => {
                        let entry = self.bad.packs.entry(pack);
                        let found = entry.or_insert_with(|| problem("pack", "holds damaged blobs"));
                        found.path_count += 1;
                        if found.paths.len() < MAX_PATHS {
                            found.paths.push(path);
                        }
                    }
                    Lost::Otherwise(message) => {
                        let mut found = problem(name, message);
                        found.paths.push(path);
                        found.path_count = 1;
                        self.outcome.problems.push(found);
                    }
                    Lost::Unknown(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn content(&self, blobs: &BlobReader<'_>, content: &Content) -> Result<(), Lost> {
        let slices = load_slices(content, blobs)
            .map_err(|e| verdict(e).map_or_else(Lost::Unknown, Lost::Otherwise))?;
        for slice in slices {
            let Slice::Blob { id, offset, len } = slice else { continue };
            let place = blobs.place(&id).map_err(|e| Lost::Otherwise(e.to_string()))?;
            if let Some(&pack) = self.bad.blobs.get(&id) {
                return Err(Lost::In(pack));
            }
            let frame = blobs.index().frame(place.pack, place.frame).map_err(Lost::Unknown)?;
            let data = frame.is_some_and(|(_, f)| f.kind == BlobKind::Data);
            if !data || u64::from(offset) + u64::from(len) > u64::from(place.length) {
                return Err(Lost::Otherwise(format!("a slice does not fit blob {id}")));
            }
        }
        Ok(())
    }

    fn conclude(&mut self) {
        let packs = std::mem::take(&mut self.bad.packs);
        self.outcome.problems.extend(packs.into_values());
        self.outcome.notes.sort();
    }
}

/// Why a path cannot be restored.
enum Lost {
    In(u32),
    Otherwise(String),
    /// Nobody knows: the service did not answer.
    Unknown(RepoError),
}

/// What is wrong with a pack, and which blobs that costs.
struct Fault {
    message: String,
    blobs: Vec<BlobId>,
}

fn choose(packs: usize, percent: f64, bad: &Bad) -> Result<Vec<u32>, RepoError> {
    let mut chosen = Vec::new();
    for number in (0u32..).take(packs) {
        if bad.packs.contains_key(&number) {
            continue;
        }
        let random = crypto::random::<4>().map_err(|e| RepoError::Key(e.to_string()))?;
        let draw = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX) * 100.0;
        if percent >= 100.0 || draw < percent {
            chosen.push(number);
        }
    }
    Ok(chosen)
}

type PackBlobs = Vec<(BlobId, BlobPlace)>;

/// A pack's bytes from its first to its last, hashed on the way. Local files are read piece by piece; one
/// request for all of it costs a far server less.
struct PackBytes<'a> {
    repository: &'a Repository,
    name: String,
    whole: Option<Vec<u8>>,
    at: u64,
    hash: Sha256,
}

impl<'a> PackBytes<'a> {
    fn open(repository: &'a Repository, pack: &PackSummary) -> Result<Self, RepoError> {
        let name = pack_name(&pack.id);
        let remote = repository.remote();
        let (size, whole) = if remote.is_near() {
            (remote.size(&name)?, None)
        } else {
            let bytes = remote.get(&name, pack.size)?;
            (bytes.len() as u64, Some(bytes))
        };
        if size != pack.size {
            return Err(RemoteError::Size { name, expected: pack.size, found: size }.into());
        }
        Ok(Self { repository, name, whole, at: 0, hash: Sha256::default() })
    }

    /// The next bytes.
    fn next(&mut self, len: u64) -> Result<Vec<u8>, RepoError> {
        let bytes = match &self.whole {
            None => self.repository.remote().get_range(&self.name, self.at, len)?,
            Some(whole) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                whole.get(at(self.at)..at(self.at + len)).unwrap_or_default().to_vec()
            }
        };
        self.hash.update(&bytes);
        self.at += len;
        Ok(bytes)
    }
}

fn read_pack(
    repository: &Repository,
    pack: &PackSummary,
    blobs: &[(BlobId, BlobPlace)],
) -> Result<Option<Fault>, RepoError> {
    let mut lost = Vec::new();
    let message = match scan_pack(repository, pack, blobs, &mut lost) {
        Ok(message) => message,
        Err(Unreadable::Frames(message)) => {
            lost = blobs.iter().map(|(id, _)| *id).collect();
            Some(message)
        }
        Err(Unreadable::Unknown(error)) => return Err(error),
    };
    Ok(message.map(|message| Fault { message, blobs: lost }))
}

/// Why none of a pack's frames can be had.
enum Unreadable {
    Frames(String),
    /// Nobody knows: the service did not answer.
    Unknown(RepoError),
}

impl From<RepoError> for Unreadable {
    fn from(error: RepoError) -> Self {
        verdict(error).map_or_else(Self::Unknown, Self::Frames)
    }
}

/// Reads a pack to its end; gives what is wrong with it.
fn scan_pack(
    repository: &Repository,
    pack: &PackSummary,
    blobs: &[(BlobId, BlobPlace)],
    lost: &mut Vec<BlobId>,
) -> Result<Option<String>, Unreadable> {
    let sealer = repository.sealer();
    let mut bytes = PackBytes::open(repository, pack)?;
    let header = bytes.next((HEADER as u64).min(pack.size))?;
    let key = sealer.open_header(ObjectKind::Pack, &header).map_err(|e| Unreadable::Frames(e.to_string()))?;
    let mut by_frame: BTreeMap<u32, Vec<(&BlobId, &BlobPlace)>> = BTreeMap::new();
    blobs.iter().for_each(|(id, place)| by_frame.entry(place.frame).or_default().push((id, place)));
    let mut message = None;
    for (frame_number, frame) in (0u32..).zip(&pack.frames) {
        let blobs = by_frame.remove(&frame_number).unwrap_or_default();
        let sealed = bytes.next(frame.stored.into())?;
        match pack_v1::open_frame(sealer, &key, frame_number.into(), &frame.info(), sealed) {
            Err(e) => {
                message.get_or_insert(format!("frame {frame_number}: {e}"));
                lost.extend(blobs.iter().map(|(id, _)| **id));
            }
            Ok(raw) => {
                for (id, place) in blobs {
                    let from = place.offset as usize;
                    let blob = raw.get(from..from + place.length as usize).unwrap_or_default();
                    if sealer.keys.blob_id(frame.kind, blob) != *id {
                        message.get_or_insert(format!("blob {id} is damaged"));
                        lost.push(*id);
                    }
                }
            }
        }
    }
    let ending = bytes.next(pack.size.saturating_sub(bytes.at))?;
    if let Err(e) = check_table(sealer, &key, &ending, pack) {
        message = Some(e);
    }
    if bytes.hash.finish() != pack.id.0 {
        message = Some("its content does not match its name".to_string());
    }
    Ok(message)
}

/// The table of contents must open and agree with the index.
/// `ending` is what follows the last frame.
fn check_table(sealer: &Sealer, key: &ObjectKey, ending: &[u8], pack: &PackSummary) -> Result<(), String> {
    let at = ending.len().checked_sub(pack_v1::TRAILER).ok_or("is too short")?;
    let place = pack_v1::toc_place(&ending[at..], pack.size).map_err(|e| e.to_string())?;
    let sealed = ending.get(..at).filter(|sealed| sealed.len() == place.stored as usize);
    let sealed = sealed.ok_or("its table of contents differs from the index")?;
    let frames = pack_v1::open_toc(sealer, key, place, sealed.to_vec()).map_err(|e| e.to_string())?;
    let same = frames.len() == pack.frames.len()
        && frames
            .iter()
            .zip(&pack.frames)
            .all(|(a, b)| (a.stored, a.raw, a.kind) == (b.stored, b.raw, b.kind));
    if same { Ok(()) } else { Err("its table of contents differs from the index".into()) }
}
