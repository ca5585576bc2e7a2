//! Reading packs whole: hash, table of contents, every frame, every blob.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::verdict;
use crate::crypto::{ObjectKey, ObjectKind, Sha256};
use crate::format::index_v1::PackInfo;
use crate::format::sealed_v1::HEADER;
use crate::format::{FormatError, limits, pack_v1};
use crate::model::{BlobId, ObjectId};
use crate::remote::RemoteError;
use crate::repo::{ObjectInfo, RepoError, Repository, Survey, pack_name};
use crate::report::Monitor;

/// Packs read at once from a remote that is far; each is held in memory.
const PACKS_AT_ONCE: usize = 4;
/// A pack's end is asked for with so many bytes: its table of contents is in them in most cases.
const TAIL: u64 = 128 << 10;

/// What is wrong with a pack, and which blobs that costs.
pub(in crate::ops) struct Fault {
    pub(in crate::ops) message: String,
    pub(in crate::ops) lost: BTreeSet<BlobId>,
    /// Its bytes are those that its name was made from: another look finds the same.
    pub(in crate::ops) hash_fits: bool,
}

/// What became of packs.
#[derive(Default)]
pub(super) struct Results {
    /// Of those that were read: nothing is wrong, or this.
    pub(super) packs: BTreeMap<ObjectId, Option<Fault>>,
    /// Why the others were not, unless the user asked to stop.
    pub(super) failure: Option<RepoError>,
}

impl Results {
    /// An error says something of the pack, or ends the reading.
    fn settle(&mut self, id: ObjectId, error: RepoError, lost: BTreeSet<BlobId>) {
        match verdict(error) {
            Ok(message) => {
                self.packs.insert(id, Some(Fault { message, lost, hash_fits: false }));
            }
            Err(error) => drop(self.failure.get_or_insert(error)),
        }
    }
}

/// Reads packs, several at once. Those that were not reached when the user asked to stop, or when the remote failed,
/// are left out.
pub(super) fn read(
    repository: &Repository,
    survey: &Survey,
    objects: &[ObjectInfo],
    packs: &[(ObjectId, u64)],
    threads: usize,
    monitor: &dyn Monitor,
) -> Result<Results, RepoError> {
    let first = in_threads(repository, packs, threads, monitor, |(id, size)| {
        let bytes = PackBytes::open(repository, id, *size)?;
        // Its own table, so that the whole index need not be in memory.
        let table = table_of(repository, id, *size, &mut |offset, len| bytes.range(offset, len))?;
        // Where they differ it is read as the index says, which is what readers go by.
        if survey.agrees(&table) {
            scan(repository, &table, bytes, &mut |_, _| Ok(())).map(Some)
        } else {
            Ok(None)
        }
    });
    let (mut results, mut others) = (Results::default(), BTreeMap::new());
    for (id, result) in first {
        match result {
            Ok(Some(found)) => drop(results.packs.insert(id, found)),
            Ok(None) => drop(others.insert(id, None)),
            Err(error) => match verdict(error) {
                Ok(message) => drop(others.insert(id, Some(message))),
                Err(error) => drop(results.failure.get_or_insert(error)),
            },
        }
    }
    if others.is_empty() || results.failure.is_some() {
        return Ok(results);
    }
    let wanted = others.keys().copied().collect();
    let details: Vec<PackInfo> = Survey::details(repository, objects, &wanted)?.into_values().collect();
    let sized: Vec<(ObjectId, u64)> = details.iter().map(|pack| (pack.id, pack.size)).collect();
    let again = in_threads(repository, &sized, threads, monitor, |(id, size)| {
        let Some(pack) = details.iter().find(|pack| pack.id == *id) else { return Ok(None) };
        let bytes = PackBytes::open(repository, id, *size)?;
        scan(repository, pack, bytes, &mut |_, _| Ok(())).map(Some)
    });
    for (id, result) in again {
        let first = others.remove(&id).flatten();
        match result {
            Ok(Some(None)) => {
                let message = first.unwrap_or_else(|| "its table of contents differs from the index".into());
                let fault = Fault { message, lost: BTreeSet::new(), hash_fits: true };
                results.packs.insert(id, Some(fault));
            }
            Ok(Some(found)) => drop(results.packs.insert(id, found)),
            Ok(None) => {}
            Err(error) => results.settle(id, error, all_blobs(&details, &id)),
        }
    }
    if !monitor.cancelled() && results.failure.is_none() {
        // In no index object any more: nobody counts on it.
        let rest = others.into_iter().filter_map(|(id, message)| Some((id, message?)));
        let fault = |message| Some(Fault { message, lost: BTreeSet::new(), hash_fits: false });
        results.packs.extend(rest.map(|(id, message)| (id, fault(message))));
    }
    Ok(results)
}

/// All that the index says is in a pack.
fn all_blobs(details: &[PackInfo], id: &ObjectId) -> BTreeSet<BlobId> {
    let pack = details.iter().find(|pack| pack.id == *id);
    let blobs = pack.into_iter().flat_map(|pack| &pack.frames).flat_map(|frame| &frame.blobs);
    blobs.map(|blob| blob.id()).collect()
}

type Scanned = Result<Option<Option<Fault>>, RepoError>;

/// What `read` says of each pack that was reached before something failed.
fn in_threads(
    repository: &Repository,
    packs: &[(ObjectId, u64)],
    threads: usize,
    monitor: &dyn Monitor,
    read: impl Fn(&(ObjectId, u64)) -> Scanned + Sync,
) -> BTreeMap<ObjectId, Scanned> {
    let parallel = repository.remote().parallel_requests().min(PACKS_AT_ONCE);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(parallel).clamp(1, packs.len().max(1)) {
            scope.spawn(|| {
                while !monitor.cancelled()
                    && !failed.load(Ordering::Relaxed)
                    && let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = read(pack);
                    if result.as_ref().is_err_and(RepoError::is_service_failure) {
                        failed.store(true, Ordering::Relaxed);
                    }
                    monitor.progress(1, pack.1);
                    found.lock().unwrap_or_else(PoisonError::into_inner).insert(pack.0, result);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What a pack says of itself. An error says why that cannot be had.
pub(in crate::ops) fn table_of(
    repository: &Repository,
    id: &ObjectId,
    size: u64,
    range: &mut dyn FnMut(u64, u64) -> Result<Vec<u8>, RepoError>,
) -> Result<PackInfo, RepoError> {
    let (sealer, name) = (repository.sealer(), pack_name(id));
    let object = |error| RepoError::object(&name)(error);
    let least = (HEADER + pack_v1::TRAILER) as u64;
    if !(least..=limits::PACK).contains(&size) {
        return Err(object(FormatError::Damaged("pack's size is outside the limits")));
    }
    let header = range(0, HEADER as u64)?;
    let key = sealer.open_header(ObjectKind::Pack, &header).map_err(object)?;
    let tail = range(size.saturating_sub(TAIL).max(HEADER as u64), TAIL.min(size - HEADER as u64))?;
    let (_, trailer) = tail.split_at_checked(tail.len().saturating_sub(pack_v1::TRAILER)).unwrap_or_default();
    let place = pack_v1::toc_place(trailer, size).map_err(object)?;
    let begin = size - tail.len() as u64;
    let sealed = match place.offset.checked_sub(begin) {
        Some(at) => {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            tail.get(at..at.saturating_add(place.stored as usize)).unwrap_or_default().to_vec()
        }
        None => range(place.offset, place.stored.into())?,
    };
    let frames = pack_v1::open_toc(sealer, &key, place, sealed).map_err(object)?;
    Ok(PackInfo { id: *id, size, frames })
}

/// The same, with requests for what is needed of it.
pub(in crate::ops) fn table(
    repository: &Repository,
    id: &ObjectId,
    size: u64,
) -> Result<PackInfo, RepoError> {
    let name = pack_name(id);
    table_of(repository, id, size, &mut |offset, len| {
        Ok(repository.remote().get_range(&name, offset, len)?)
    })
}

/// A pack's bytes from its first to its last, hashed on the way. Local files are read piece by piece; one
/// request for all of it costs a far server less.
pub(in crate::ops) struct PackBytes<'a> {
    repository: &'a Repository,
    name: String,
    whole: Option<Vec<u8>>,
    at: u64,
    hash: Sha256,
}

impl<'a> PackBytes<'a> {
    /// An error where it is not there, or not so long.
    pub(in crate::ops) fn open(
        repository: &'a Repository,
        id: &ObjectId,
        expected: u64,
    ) -> Result<Self, RepoError> {
        let name = pack_name(id);
        let remote = repository.remote();
        let (found, whole) = if remote.is_near() {
            (remote.size(&name)?, None)
        } else {
            let bytes = remote.get(&name, expected)?;
            (bytes.len() as u64, Some(bytes))
        };
        if found != expected {
            return Err(RemoteError::Size { name, expected, found }.into());
        }
        Ok(Self { repository, name, whole, at: 0, hash: Sha256::default() })
    }

    fn range(&self, offset: u64, len: u64) -> Result<Vec<u8>, RepoError> {
        Ok(match &self.whole {
            None => self.repository.remote().get_range(&self.name, offset, len)?,
            Some(whole) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                whole.get(at(offset)..at(offset.saturating_add(len))).unwrap_or_default().to_vec()
            }
        })
    }

    /// The next bytes.
    fn next(&mut self, len: u64) -> Result<Vec<u8>, RepoError> {
        let bytes = self.range(self.at, len)?;
        self.hash.update(&bytes);
        self.at += len;
        Ok(bytes)
    }
}

/// What is done with each blob that verifies.
pub(in crate::ops) type Keep<'a> =
    dyn FnMut(&pack_v1::FrameInfo, (BlobId, &[u8])) -> Result<(), RepoError> + 'a;

/// Reads a pack to its end, and hands on every blob that verifies. An error says that none of it can be
/// had, or what `keep` said.
pub(in crate::ops) fn scan(
    repository: &Repository,
    pack: &PackInfo,
    mut bytes: PackBytes<'_>,
    keep: &mut Keep<'_>,
) -> Result<Option<Fault>, RepoError> {
    let sealer = repository.sealer();
    let name = pack_name(&pack.id);
    let header = bytes.next((HEADER as u64).min(pack.size))?;
    let key = sealer.open_header(ObjectKind::Pack, &header).map_err(RepoError::object(&name))?;
    let (mut message, mut lost) = (None, BTreeSet::new());
    for (number, frame) in (0u64..).zip(&pack.frames) {
        let sealed = bytes.next(frame.stored.into())?;
        match pack_v1::open_frame(sealer, &key, number, frame, sealed) {
            Err(e) => {
                message.get_or_insert(format!("frame {number}: {e}"));
                lost.extend(frame.blobs.iter().map(|blob| blob.id()));
            }
            Ok(raw) => {
                let mut at = 0;
                for blob in &frame.blobs {
                    let (id, end) = (blob.id(), at + blob.length as usize);
                    let content = raw.get(at..end).unwrap_or_default();
                    at = end;
                    if sealer.keys.blob_id(frame.kind, content) == id {
                        keep(frame, (id, content))?;
                    } else {
                        message.get_or_insert(format!("blob {id} is damaged"));
                        lost.insert(id);
                    }
                }
            }
        }
    }
    let ending = bytes.next(pack.size.saturating_sub(bytes.at))?;
    let hash_fits = bytes.hash.finish() == pack.id.0;
    if !hash_fits {
        message = Some("its content does not match its name".to_string());
    } else if let Err(error) = check_table(repository, &key, &ending, pack) {
        message.get_or_insert(error);
    }
    Ok(message.map(|message| Fault { message, lost, hash_fits }))
}

/// The table of contents must open and agree with the index. `ending` is what follows the last frame.
fn check_table(
    repository: &Repository,
    key: &ObjectKey,
    ending: &[u8],
    pack: &PackInfo,
) -> Result<(), String> {
    let at = ending.len().checked_sub(pack_v1::TRAILER).ok_or("is too short")?;
    let place = pack_v1::toc_place(&ending[at..], pack.size).map_err(|e| e.to_string())?;
    let sealed = ending.get(..at).filter(|sealed| sealed.len() == place.stored as usize);
    let sealed = sealed.ok_or("its table of contents differs from the index")?;
    let frames = pack_v1::open_toc(repository.sealer(), key, place, sealed.to_vec());
    if frames.map_err(|e| e.to_string())? == pack.frames {
        Ok(())
    } else {
        Err("its table of contents differs from the index".into())
    }
}
