//! The threads that make packs of frames: compressed, sealed, written, uploaded.
//!
//! ```text
//! packer --frames--> workers (compress, seal, write) --full packs--> uploaders (end, name, make durable)
//! ```
//!
//! A worker appends each frame to a pack that is open at that moment, so frames of one pack are in the
//! order of the walk but for a few places. Where the remote takes an object's bytes as they are made, no
//! pack is ever held in memory; elsewhere those that are open and on their way are.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::layout::{Folder, pack_name};
use super::packer::FRAME_TARGET;
use super::{Compression, PackerOptions, RepoError, Repository};
use crate::crypto::{self, ObjectKey, ObjectKind, Sha256};
use crate::format::index_v1::PackInfo;
use crate::format::pack_v1::{self, BlobInfo, FrameInfo};
use crate::format::sealed_v1::{Randomness, Sealer};
use crate::format::{FormatError, limits};
use crate::model::{BlobKind, ObjectId};
use crate::remote::Upload;

/// One pack is filled for so many workers: sealing and writing a frame takes about a fifth of the time
/// of compressing it, and only one worker at a time can do that to a pack.
const WORKERS_PER_PACK: usize = 4;

/// Blobs to be compressed together.
pub(super) struct FrameJob {
    pub(super) kind: BlobKind,
    pub(super) blobs: Vec<BlobInfo>,
    pub(super) raw: Vec<u8>,
}

/// The threads of one packer.
pub(super) struct Threads {
    /// Present until the end.
    frames: Option<Sender<FrameJob>>,
    spare: Receiver<Vec<u8>>,
    workers: Vec<JoinHandle<()>>,
    uploaders: Vec<JoinHandle<()>>,
    packs: Receiver<PackInfo>,
    shared: Arc<Shared>,
    full: Option<Sender<OpenPack>>,
}

/// What the threads share.
struct Shared {
    repository: Repository,
    sealer: Arc<Sealer>,
    pack_size: u64,
    dry_run: bool,
    /// Packs being filled.
    open: Vec<Mutex<Option<OpenPack>>>,
    /// Bytes sealed so far.
    sealed: AtomicU64,
    level: Level,
    /// The first error of any thread; it ends the run.
    fault: Mutex<Option<RepoError>>,
    /// Nobody waits any more for what is made.
    abandoned: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    pub(super) fn start(repository: &Repository, options: PackerOptions, dry_run: bool) -> Self {
        let PackerOptions { compression, threads, uploads, pack_size } = options;
        let lanes = threads.div_ceil(WORKERS_PER_PACK);
        let shared = Arc::new(Shared {
            repository: repository.clone(),
            sealer: repository.sealer_handle(),
            pack_size: pack_size as u64,
            dry_run,
            open: (0..lanes).map(|_| Mutex::default()).collect(),
            sealed: AtomicU64::new(0),
            level: Level::new(compression),
            fault: Mutex::default(),
            abandoned: AtomicBool::new(false),
        });
        let (frames, jobs) = bounded::<FrameJob>(threads);
        let (give_back, spare) = bounded(2 * threads);
        // Handed over directly: who has filled a pack waits until an uploader is free.
        let (full, to_upload) = bounded::<OpenPack>(0);
        // Unbounded in effect: they are collected only at the end, and are small.
        let (done, packs) = crossbeam_channel::unbounded();
        let workers = (0..threads).map(|_| {
            let (shared, jobs, full, give_back) =
                (Arc::clone(&shared), jobs.clone(), full.clone(), give_back.clone());
            std::thread::spawn(move || shared.guard(|| shared.work(&jobs, &full, &give_back)))
        });
        let workers = workers.collect();
        let uploaders = (0..uploads.max(1)).map(|_| {
            let (shared, to_upload, done) = (Arc::clone(&shared), to_upload.clone(), done.clone());
            std::thread::spawn(move || shared.guard(|| shared.upload(&to_upload, &done)))
        });
        let uploaders = uploaders.collect();
        Self { frames: Some(frames), spare, workers, uploaders, packs, shared, full: Some(full) }
    }

    /// A buffer for the next frame.
    pub(super) fn spare_buffer(&self) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(FRAME_TARGET))
    }

    pub(super) fn send(&self, job: FrameJob) -> Result<(), RepoError> {
        let sent = self.frames.as_ref().is_some_and(|frames| frames.send(job).is_ok());
        if sent { Ok(()) } else { Err(self.shared.take_fault().unwrap_or(RepoError::Worker)) }
    }

    /// Waits until all packs are durable.
    pub(super) fn finish(mut self) -> Result<Vec<PackInfo>, RepoError> {
        self.frames = None;
        let mut sound = join(&mut self.workers);
        if let Some(full) = self.full.take() {
            let rest = self.shared.open.iter().filter_map(|open| lock(open).take());
            // Fails only when no uploader is left, whose error is known.
            sound &= rest.map(|pack| full.send(pack)).all(|sent| sent.is_ok());
        }
        sound &= join(&mut self.uploaders);
        match self.shared.take_fault() {
            Some(error) => Err(error),
            None if sound => Ok(self.packs.try_iter().collect()),
            None => Err(RepoError::Worker),
        }
    }
}

impl Drop for Threads {
    /// Ends early: lets uploads in progress come to their end, so that no half of a pack stays behind and
    /// the next run can use the whole.
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        (self.frames, self.full) = (None, None);
        // What went wrong is known to whoever ends early, or does not matter any more.
        join(&mut self.workers);
        join(&mut self.uploaders);
    }
}

/// Waits for threads; false when one of them panicked.
fn join(threads: &mut Vec<JoinHandle<()>>) -> bool {
    threads.drain(..).map(JoinHandle::join).fold(true, |sound, ended| sound & ended.is_ok())
}

impl Shared {
    fn guard(&self, work: impl FnOnce() -> Result<(), RepoError>) {
        if let Err(error) = work() {
            lock(&self.fault).get_or_insert(error);
        }
    }

    fn take_fault(&self) -> Option<RepoError> {
        lock(&self.fault).take()
    }

    /// Compresses frames and puts them into packs, until there are no more.
    fn work(
        &self,
        jobs: &Receiver<FrameJob>,
        full: &Sender<OpenPack>,
        give_back: &Sender<Vec<u8>>,
    ) -> Result<(), RepoError> {
        let failed = |_| RepoError::Object { name: "frame".into(), source: FormatError::TooLarge("frame") };
        let mut level = self.level.now();
        let mut compressor = zstd::bulk::Compressor::new(level).map_err(failed)?;
        let mut packed = Vec::new();
        for FrameJob { kind, blobs, mut raw } in jobs {
            if self.abandoned.load(Ordering::Relaxed) {
                break;
            }
            if level != self.level.now() {
                level = self.level.now();
                compressor.set_compression_level(level).map_err(failed)?;
            }
            packed.clear();
            packed.reserve(zstd::zstd_safe::compress_bound(raw.len()) + crypto::TAG);
            compressor.compress_to_buffer(&raw, &mut packed).map_err(failed)?;
            let compressed = packed.len() < raw.len();
            #[allow(clippy::cast_possible_truncation)] // at most 16 MiB and 1 MiB
            let info = FrameInfo {
                stored: (packed.len().min(raw.len()) + crypto::TAG) as u32,
                raw: raw.len() as u32,
                compressed,
                kind,
                blobs,
            };
            if !self.append(info, if compressed { &mut packed } else { &mut raw }, full)? {
                break;
            }
            raw.clear();
            if raw.capacity() <= 2 * FRAME_TARGET {
                drop(give_back.try_send(raw));
            }
        }
        Ok(())
    }

    /// Seals a frame into an open pack; false when nobody takes packs any more.
    fn append(
        &self,
        info: FrameInfo,
        bytes: &mut Vec<u8>,
        full: &Sender<OpenPack>,
    ) -> Result<bool, RepoError> {
        let mut open = self.open_pack();
        let mut pack = match open.take() {
            Some(pack) => pack,
            None => self.begin()?,
        };
        pack.append(&self.sealer, info, bytes)?;
        self.sealed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if pack.size < self.pack_size && pack.frames.len() < limits::PACK_FRAMES {
            *open = Some(pack);
            return Ok(true);
        }
        // With the lock held: while uploaders are behind, no further pack is filled.
        match full.try_send(pack) {
            Ok(()) => {
                self.level.lower();
                Ok(true)
            }
            Err(TrySendError::Disconnected(_)) => Ok(false),
            Err(TrySendError::Full(pack)) => {
                self.level.raise();
                Ok(full.send(pack).is_ok())
            }
        }
    }

    /// A pack that nobody else is writing to. While little is stored there is only one, so that a small
    /// backup is one pack however many workers there are.
    fn open_pack(&self) -> MutexGuard<'_, Option<OpenPack>> {
        let filled = self.sealed.load(Ordering::Relaxed) / self.pack_size.max(1);
        let lanes = self.open.len().min(usize::try_from(filled).unwrap_or(usize::MAX).saturating_add(1));
        let free = self.open[..lanes].iter().find_map(|open| open.try_lock().ok());
        free.unwrap_or_else(|| lock(&self.open[usize::try_from(filled).unwrap_or_default() % lanes]))
    }

    fn begin(&self) -> Result<OpenPack, RepoError> {
        let begin = || {
            let random = Randomness::generate()?;
            let header = self.sealer.header(ObjectKind::Pack, &random)?;
            Ok((random.key, header))
        };
        let (key, header) = begin().map_err(RepoError::object("pack"))?;
        let remote = self.repository.remote();
        let sink = match self.dry_run {
            true => Sink::Nowhere,
            false => match remote.begin(Folder::Packs.name())? {
                Some(upload) => Sink::Upload(upload),
                None => Sink::Memory(Vec::with_capacity(
                    usize::try_from(self.pack_size).unwrap_or_default() + FRAME_TARGET,
                )),
            },
        };
        let mut pack = OpenPack { key, sink, hash: Sha256::default(), size: 0, frames: Vec::new() };
        pack.write(&header)?;
        Ok(pack)
    }

    /// Completes packs until there are no more.
    fn upload(&self, packs: &Receiver<OpenPack>, done: &Sender<PackInfo>) -> Result<(), RepoError> {
        for pack in packs {
            if self.abandoned.load(Ordering::Relaxed) {
                break;
            }
            drop(done.send(self.complete(pack)?));
        }
        Ok(())
    }

    fn complete(&self, mut pack: OpenPack) -> Result<PackInfo, RepoError> {
        let ending = pack_v1::ending(&self.sealer, &pack.key, &pack.frames);
        pack.write(&ending.map_err(RepoError::object("pack"))?)?;
        let OpenPack { sink, hash, size, frames, .. } = pack;
        let info = PackInfo { id: ObjectId(hash.finish()), size, frames };
        if !self.dry_run {
            // Noted before the object gets its name: however this run ends, the next one finds what arrived.
            self.repository.cache().note_pending(&info)?;
        }
        let name = pack_name(&info.id);
        match sink {
            Sink::Nowhere => {}
            Sink::Memory(bytes) => self.repository.remote().put(&name, &bytes)?,
            Sink::Upload(upload) => upload.finish(&name)?,
        }
        Ok(info)
    }
}

/// A pack being filled.
struct OpenPack {
    key: ObjectKey,
    sink: Sink,
    hash: Sha256,
    size: u64,
    frames: Vec<FrameInfo>,
}

/// Where the bytes of a pack go.
enum Sink {
    Nowhere,
    Memory(Vec<u8>),
    Upload(Box<dyn Upload>),
}

impl OpenPack {
    /// Seals `bytes` in place as the next frame, and writes them.
    fn append(&mut self, sealer: &Sealer, info: FrameInfo, bytes: &mut Vec<u8>) -> Result<(), RepoError> {
        let place = sealer.place(ObjectKind::Pack, self.frames.len() as u64, false);
        self.key.seal(place, bytes, 0).map_err(|e| RepoError::object("pack")(e.into()))?;
        self.frames.push(info);
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RepoError> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::Memory(all) => all.extend_from_slice(bytes),
            Sink::Upload(upload) => upload.write(bytes)?,
        }
        Ok(())
    }
}

/// zstd's level, which follows how busy the uploaders are when that is asked for.
struct Level {
    now: AtomicI32,
    lowest: i32,
    highest: i32,
}

impl Level {
    fn new(compression: Compression) -> Self {
        let lowest = compression.level();
        Self { now: AtomicI32::new(lowest), lowest, highest: compression.highest() }
    }

    fn now(&self) -> i32 {
        self.now.load(Ordering::Relaxed)
    }

    /// A full pack had to wait for an uploader: there is time to compress harder.
    fn raise(&self) {
        self.change(1);
    }

    /// An uploader was waiting for a pack.
    fn lower(&self) {
        self.change(-1);
    }

    fn change(&self, by: i32) {
        let changed = |level: i32| Some((level + by).clamp(self.lowest, self.highest));
        // The closure always gives a level.
        let _ = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_changes_its_level_and_stays_within_bounds() {
        let auto = Level::new(Compression::Auto);
        (0..50).for_each(|_| auto.raise());
        assert_eq!(auto.now(), Compression::Max.level());
        (0..50).for_each(|_| auto.lower());
        assert_eq!(auto.now(), Compression::Default.level());
        for fixed in [Compression::Fast, Compression::Default, Compression::Max] {
            let level = Level::new(fixed);
            level.raise();
            assert_eq!(level.now(), fixed.level());
        }
    }
}
