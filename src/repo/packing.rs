//! Packs of frames: compressed, sealed and written by whoever has filled a frame; ended, named and made
//! durable by threads of their own.
//!
//! A frame is appended to a pack that is open at that moment, so frames of one pack are in the order of
//! the walk but for a few places. Where the remote takes an object's bytes as they are made, no pack is
//! ever held in memory; elsewhere those that are open and on their way are.

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

/// One pack is filled for so many threads: sealing and writing a frame takes about a fifth of the time of
/// compressing it, and only one thread at a time can do that to a pack.
const THREADS_PER_PACK: usize = 4;

/// Where packs cost no memory they grow with what the run has stored, so that a large repository has fewer
/// objects and a killed run still wastes little: up to so many times the smallest size ...
const PACK_GROWTH: u64 = 4;

/// ... and up to this part of what is stored.
const PACK_PART: u64 = 32;

/// A pack is closed with so many blobs: with a frame of the smallest blobs added, its table of contents is
/// still within the format's limit.
const PACK_BLOBS: usize = 1 << 18;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blobs to be compressed together.
pub(super) struct Frame {
    kind: BlobKind,
    pub(super) blobs: Vec<BlobInfo>,
    /// The blobs' bytes, one after the other.
    pub(super) raw: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: BlobKind) -> Self {
        Self { kind, blobs: Vec::new(), raw: Vec::new() }
    }
}

/// Compresses frames, one after the other: keeps zstd's context and the buffer.
#[derive(Default)]
pub(super) struct Press {
    compressor: Option<(i32, zstd::bulk::Compressor<'static>)>,
    packed: Vec<u8>,
}

impl Press {
    /// Compresses and stores a frame, and empties it.
    pub(super) fn press(&mut self, packing: &Packing, frame: &mut Frame) -> Result<(), RepoError> {
        let Frame { kind, blobs, raw } = frame;
        if blobs.is_empty() {
            return Ok(());
        }
        self.compress(packing.shared.level.now(), raw)?;
        let compressed = self.packed.len() < raw.len();
        #[allow(clippy::cast_possible_truncation)] // at most 16 MiB and 1 MiB
        let info = FrameInfo {
            stored: (self.packed.len().min(raw.len()) + crypto::TAG) as u32,
            raw: raw.len() as u32,
            compressed,
            kind: *kind,
            blobs: std::mem::take(blobs),
        };
        let appended = packing.append(info, if compressed { &mut self.packed } else { raw });
        // Also after an error: what others put behind the bytes of a lost frame would be out of place.
        raw.clear();
        appended
    }

    fn compress(&mut self, level: i32, raw: &[u8]) -> Result<(), RepoError> {
        let failed = |_| RepoError::Object { name: "frame".into(), source: FormatError::TooLarge("frame") };
        let compressor = match &mut self.compressor {
            Some((now, compressor)) => {
                if *now != level {
                    compressor.set_compression_level(level).map_err(failed)?;
                    *now = level;
                }
                compressor
            }
            none => &mut none.insert((level, zstd::bulk::Compressor::new(level).map_err(failed)?)).1,
        };
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(raw.len()) + crypto::TAG);
        compressor.compress_to_buffer(raw, &mut self.packed).map(drop).map_err(failed)
    }
}

/// Packs being filled, and the threads that upload full ones.
pub(super) struct Packing {
    shared: Arc<Shared>,
    uploads: usize,
    /// Started by the first full pack.
    threads: Mutex<Option<Uploaders>>,
}

struct Uploaders {
    full: Sender<OpenPack>,
    handles: Vec<JoinHandle<()>>,
    packs: Receiver<PackInfo>,
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
    /// There was one.
    failed: AtomicBool,
    /// Nobody waits any more for what is made.
    abandoned: AtomicBool,
}

impl Packing {
    pub(super) fn new(repository: &Repository, options: PackerOptions, dry_run: bool) -> Self {
        let lanes = options.threads.div_ceil(THREADS_PER_PACK).max(1);
        let shared = Shared {
            repository: repository.clone(),
            sealer: repository.sealer_handle(),
            pack_size: options.pack_size.max(1) as u64,
            dry_run,
            open: (0..lanes).map(|_| Mutex::default()).collect(),
            sealed: AtomicU64::new(0),
            level: Level::new(options.compression),
            fault: Mutex::default(),
            failed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), uploads: options.uploads.max(1), threads: Mutex::default() }
    }

    pub(super) fn fail(&self, error: RepoError) {
        self.shared.fail(error);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Why a thread gave up: asked by who ends the run.
    pub(super) fn take_fault(&self) -> Option<RepoError> {
        lock(&self.shared.fault).take()
    }

    /// An error where a thread gave up; nothing that is missing may pass for stored.
    fn verdict(&self) -> Result<(), RepoError> {
        if self.has_failed() { Err(self.take_fault().unwrap_or(RepoError::Worker)) } else { Ok(()) }
    }

    /// Seals a frame into an open pack.
    fn append(&self, info: FrameInfo, bytes: &mut Vec<u8>) -> Result<(), RepoError> {
        let shared = &self.shared;
        let mut open = shared.open_pack();
        let mut pack = match open.take() {
            Some(pack) => pack,
            None => shared.begin()?,
        };
        pack.append(&shared.sealer, info, bytes)?;
        shared.sealed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if !pack.is_full() {
            *open = Some(pack);
            return Ok(());
        }
        // With the lock held: while uploaders are behind, no pack takes the place of this one.
        self.send(pack)
    }

    fn send(&self, pack: OpenPack) -> Result<(), RepoError> {
        let full = lock(&self.threads).get_or_insert_with(|| self.start()).full.clone();
        let sent = match full.try_send(pack) {
            Ok(()) => {
                self.shared.level.lower();
                true
            }
            Err(TrySendError::Full(pack)) => {
                self.shared.level.raise();
                full.send(pack).is_ok()
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        // Without an uploader: the last one failed, and has said why.
        if sent { Ok(()) } else { Err(RepoError::Worker) }
    }

    fn start(&self) -> Uploaders {
        // Handed over directly: who has filled a pack waits until an uploader is free.
        let (full, to_upload) = bounded::<OpenPack>(0);
        // Unbounded in effect: they are collected only at the end, and are small.
        let (done, packs) = crossbeam_channel::unbounded();
        let handles = (0..self.uploads).map(|_| {
            let (shared, to_upload, done) = (Arc::clone(&self.shared), to_upload.clone(), done.clone());
            std::thread::spawn(move || {
                if let Err(error) = shared.upload(&to_upload, &done) {
                    shared.fail(error);
                }
            })
        });
        Uploaders { full, handles: handles.collect(), packs }
    }

    /// Waits until all packs are durable.
    pub(super) fn finish(&self) -> Result<Vec<PackInfo>, RepoError> {
        self.verdict()?;
        for open in &self.shared.open {
            if let Some(pack) = lock(open).take() {
                self.send(pack).or_else(|error| self.verdict().and(Err(error)))?;
            }
        }
        let Some(uploaders) = lock(&self.threads).take() else { return Ok(Vec::new()) };
        let (sound, packs) = uploaders.join();
        self.verdict()?;
        if sound { Ok(packs) } else { Err(RepoError::Worker) }
    }
}

impl Uploaders {
    /// Waits for the end of uploads; false when a thread panicked.
    fn join(self) -> (bool, Vec<PackInfo>) {
        drop(self.full);
        let sound = self.handles.into_iter().map(JoinHandle::join).fold(true, |all, one| all & one.is_ok());
        (sound, self.packs.try_iter().collect())
    }
}

impl Drop for Packing {
    /// Ends early: lets uploads in progress come to their end, so that no half of a pack stays behind and
    /// the next run can use the whole.
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        if let Some(uploaders) = lock(&self.threads).take() {
            // What went wrong is known to whoever ends early, or does not matter any more.
            uploaders.join();
        }
    }
}

impl Shared {
    fn fail(&self, error: RepoError) {
        let mut fault = lock(&self.fault);
        // "Another thread failed" gives way to what that one says.
        if matches!(*fault, None | Some(RepoError::Worker)) {
            *fault = Some(error);
        }
        self.failed.store(true, Ordering::Relaxed);
    }

    /// A pack that nobody else is writing to. While little is stored there is only one, so that a small
    /// backup is one pack however many threads there are.
    fn open_pack(&self) -> MutexGuard<'_, Option<OpenPack>> {
        let filled =
            usize::try_from(self.sealed.load(Ordering::Relaxed) / self.pack_size).unwrap_or(usize::MAX);
        let lanes = self.open.len().min(filled.saturating_add(1));
        let free = self.open[..lanes].iter().find_map(|open| open.try_lock().ok());
        free.unwrap_or_else(|| lock(&self.open[filled % lanes]))
    }

    fn begin(&self) -> Result<OpenPack, RepoError> {
        let begin = || {
            let random = Randomness::generate()?;
            self.sealer.begin(ObjectKind::Pack, &random)
        };
        let (header, key) = begin().map_err(RepoError::object("pack"))?;
        let remote = self.repository.remote();
        let mut target = self.pack_size;
        let sink = match self.dry_run {
            true => Sink::Nowhere,
            false => match remote.begin(Folder::Packs.name())? {
                Some(upload) => {
                    target = grown(target, self.sealed.load(Ordering::Relaxed));
                    Sink::Upload(upload)
                }
                None => Sink::Memory(Vec::with_capacity(
                    usize::try_from(self.pack_size).unwrap_or_default() + FRAME_TARGET,
                )),
            },
        };
        let hash = Sha256::default();
        let mut pack = OpenPack { key, sink, hash, target, size: 0, blobs: 0, frames: Vec::new() };
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
    /// Bytes at which it is full.
    target: u64,
    size: u64,
    blobs: usize,
    frames: Vec<FrameInfo>,
}

/// Where the bytes of a pack go.
enum Sink {
    Nowhere,
    Memory(Vec<u8>),
    Upload(Box<dyn Upload>),
}

/// The size for a pack that is begun with so many bytes stored.
fn grown(smallest: u64, stored: u64) -> u64 {
    (stored / PACK_PART).clamp(smallest, smallest * PACK_GROWTH)
}

impl OpenPack {
    fn is_full(&self) -> bool {
        self.size >= self.target || self.frames.len() >= limits::PACK_FRAMES || self.blobs >= PACK_BLOBS
    }

    /// Seals `bytes` in place as the next frame, and writes them.
    fn append(&mut self, sealer: &Sealer, info: FrameInfo, bytes: &mut Vec<u8>) -> Result<(), RepoError> {
        let place = sealer.place(ObjectKind::Pack, self.frames.len() as u64, false);
        self.key.seal(place, bytes, 0).map_err(|e| RepoError::object("pack")(e.into()))?;
        self.blobs += info.blobs.len();
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::model::BlobId;
    use crate::remote::{Listed, Local, Memory, Remote, RemoteError};
    use crate::repo::tests::repository_at;

    /// A remote that takes the first packs only while the level is raised.
    struct Held {
        memory: Memory,
        shared: OnceLock<Arc<Shared>>,
        packs: AtomicI32,
    }

    impl Remote for Held {
        fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
            self.memory.get(name, max)
        }

        fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
            self.memory.get_range(name, offset, len)
        }

        fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
            if let Some(shared) = self.shared.get() {
                let held = self.packs.fetch_add(1, Ordering::Relaxed) < PACKS_HELD;
                while held && shared.level.now() == shared.level.lowest {
                    std::thread::yield_now();
                }
            }
            self.memory.put(name, bytes)
        }

        fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
            self.memory.list(folder)
        }

        fn size(&self, name: &str) -> Result<u64, RemoteError> {
            self.memory.size(name)
        }

        fn delete(&self, name: &str) -> Result<(), RemoteError> {
            self.memory.delete(name)
        }

        fn location(&self) -> String {
            self.memory.location()
        }
    }

    /// So many packs are held back until one that has to wait raises the level.
    const PACKS_HELD: i32 = 3;

    fn options(pack_size: usize, compression: Compression) -> PackerOptions {
        PackerOptions { pack_size, compression, ..PackerOptions::new(1) }
    }

    fn random_frame(n: u64, blobs: usize, length: usize) -> Frame {
        let mut frame = Frame::new(BlobKind::Data);
        frame.raw.resize(blobs * length, 0);
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut frame.raw);
        let id = |bytes: &[u8]| BlobId(*blake3::hash(bytes).as_bytes());
        frame.blobs = frame
            .raw
            .chunks(length)
            .map(|bytes| BlobInfo::new(id(bytes), u32::try_from(length).unwrap()))
            .collect();
        frame
    }

    #[test]
    fn while_uploads_are_held_back_auto_compresses_harder() {
        let dir = tempfile::tempdir().unwrap();
        let held =
            Arc::new(Held { memory: Memory::default(), shared: OnceLock::new(), packs: AtomicI32::new(0) });
        let repository = repository_at(&(Arc::clone(&held) as Arc<dyn Remote>), dir.path());
        let packing = Packing::new(&repository, options(1 << 20, Compression::Auto), false);
        drop(held.shared.set(Arc::clone(&packing.shared)));
        let mut press = Press::default();
        for n in 0..10 {
            press.press(&packing, &mut random_frame(n, 1, 2 << 20)).unwrap();
        }
        assert_eq!(packing.finish().unwrap().len(), 10);
        assert!(held.packs.load(Ordering::Relaxed) >= PACKS_HELD, "each of them saw the level rise");
    }

    #[test]
    fn a_frame_that_cannot_be_stored_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let remote: Arc<dyn Remote> = Arc::new(Local::new(dir.path().join("repo")));
        let repository = repository_at(&remote, &dir.path().join("cache"));
        let packing = Packing::new(&repository, options(1 << 20, Compression::Fast), false);
        // No pack can be begun where the folder should be.
        let packs = dir.path().join("repo/packs");
        std::fs::remove_dir_all(&packs).ok();
        std::fs::write(&packs, b"in the way").unwrap();
        let mut frame = random_frame(1, 4, 1000);
        assert!(Press::default().press(&packing, &mut frame).is_err());
        assert!(frame.raw.is_empty() && frame.blobs.is_empty(), "the next blobs would be out of place");
    }

    #[test]
    fn packs_grow_where_that_costs_no_memory() {
        let large = |stored| grown(16 << 20, stored) >> 20;
        assert_eq!([0, 512 << 20, 1 << 30, 1 << 40].map(large), [16, 16, 32, 64]);
        let dir = tempfile::tempdir().unwrap();
        for (name, grows) in [("local", true), ("memory", false)] {
            let remote: Arc<dyn Remote> = match grows {
                true => Arc::new(Local::new(dir.path().join("repo"))),
                false => Arc::new(Memory::default()),
            };
            let repository = repository_at(&remote, &dir.path().join(name));
            let packing = Packing::new(&repository, options(100_000, Compression::Fast), false);
            let mut press = Press::default();
            for n in 0..200 {
                press.press(&packing, &mut random_frame(n, 1, 60_000)).unwrap();
            }
            let largest = packing.finish().unwrap().iter().map(|pack| pack.size).max().unwrap();
            assert_eq!(largest > 200_000, grows, "{name}: {largest}");
        }
    }

    #[test]
    fn a_pack_of_the_smallest_blobs_keeps_its_table_within_limits() {
        let dir = tempfile::tempdir().unwrap();
        let remote: Arc<dyn Remote> = Arc::new(Memory::default());
        let repository = repository_at(&remote, dir.path());
        let packing = Packing::new(&repository, options(1 << 30, Compression::Fast), true);
        let mut press = Press::default();
        for n in 0..5 {
            press.press(&packing, &mut random_frame(n, PACK_BLOBS / 2, 8)).unwrap();
        }
        assert_eq!(packing.finish().unwrap().len(), 3);
    }

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
