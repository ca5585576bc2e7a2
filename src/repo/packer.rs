//! Storing blobs: deduplicated, grouped into frames, compressed and sealed in threads of their own,
//! assembled into packs and uploaded, then indexed. Owns the first two steps of the order of writes.
//!
//! One caller feeds blobs; from there everything flows through bounded channels, so memory stays
//! within a few packs:
//!
//! ```text
//! caller --frames--> compressors --> assembler (in frame order) --packs--> uploaders
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::index::IdSet;
use super::layout::{ObjectInfo, pack_name};
use super::merge::write_index;
use super::{Cache, Compression, RepoError, Repository, SharedIndex};
use crate::crypto::{self, ObjectKey, ObjectKind};
use crate::format::index_v1::PackInfo;
use crate::format::pack_v1::{self, BlobInfo, FrameInfo};
use crate::format::sealed_v1::{Randomness, Sealer};
use crate::format::{FormatError, limits};
use crate::model::{BlobId, BlobKind, ObjectId};
use crate::remote::Remote;

/// A frame is closed before a blob that would take it beyond this (bytes before compression).
const FRAME_TARGET: usize = 1 << 20;

/// How to pack.
#[derive(Debug, Clone, Copy)]
pub struct PackerOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// Compressing threads.
    pub threads: usize,
    /// Packs uploaded at once.
    pub uploads: usize,
    /// A pack is closed when it reaches this many bytes.
    pub pack_size: usize,
}

impl PackerOptions {
    /// For a machine of `threads` cores.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { compression: Compression::default(), threads: threads.max(1), uploads: 1, pack_size: 16 << 20 }
    }
}

/// What a packer has published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The new index objects.
    pub index: Vec<ObjectInfo>,
    /// The packs that they list. Their notes in the cache ([`Cache::forget_pending`]) can go as soon as
    /// the next run will find the index objects without them.
    pub listed: Vec<ObjectId>,
    /// Packs that this run stored.
    pub packs: u64,
    /// Packs that an interrupted run had stored and this one put into the index.
    pub adopted: u64,
    /// Bytes of new blobs.
    pub raw: u64,
    /// Bytes of packs and index objects stored.
    pub stored: u64,
}

#[derive(Default)]
struct FrameBuilder {
    raw: Vec<u8>,
    blobs: Vec<BlobInfo>,
}

struct FrameJob {
    number: u64,
    kind: BlobKind,
    blobs: Vec<BlobInfo>,
    raw: Vec<u8>,
}

struct ReadyFrame {
    number: u64,
    info: FrameInfo,
    bytes: Vec<u8>,
}

struct ReadyPack {
    bytes: Vec<u8>,
    frames: Vec<FrameInfo>,
}

/// The first error of any thread; it ends the run.
type Fault = Arc<Mutex<Option<RepoError>>>;

fn set_fault(fault: &Fault, error: RepoError) {
    fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// Stores blobs that the repository does not have.
pub struct Packer {
    repository: Repository,
    options: PackerOptions,
    /// Compress and count, but store nothing.
    dry_run: bool,
    index: Arc<SharedIndex>,
    fresh: IdSet,
    data: FrameBuilder,
    meta: FrameBuilder,
    next_frame: u64,
    raw: u64,
    fault: Fault,
    threads: Option<Threads>,
}

struct Threads {
    frames: Sender<FrameJob>,
    packs: Receiver<(PackInfo, u64)>,
    handles: Vec<JoinHandle<()>>,
    /// Tells them that nobody waits for what they make.
    abandoned: Arc<AtomicBool>,
}

impl Drop for Packer {
    /// Ends early: lets the upload in progress come to its end, so that no half of a pack stays behind
    /// and the next run can use the whole.
    fn drop(&mut self) {
        let Some(Threads { frames, packs, handles, abandoned }) = self.threads.take() else { return };
        abandoned.store(true, Ordering::Relaxed);
        drop((frames, packs));
        for handle in handles {
            // What went wrong is known to whoever ends early, or does not matter any more.
            let _ = handle.join();
        }
    }
}

impl Packer {
    /// A packer that deduplicates against `index`. Threads and index are taken only when there is
    /// something to store.
    #[must_use]
    pub fn new(
        repository: &Repository,
        options: PackerOptions,
        dry_run: bool,
        index: Arc<SharedIndex>,
    ) -> Self {
        Self {
            repository: repository.clone(),
            options,
            dry_run,
            index,
            fresh: IdSet::default(),
            data: FrameBuilder::default(),
            meta: FrameBuilder::default(),
            next_frame: 0,
            raw: 0,
            fault: Fault::default(),
            threads: None,
        }
    }

    /// True when a blob is in the repository or on its way there.
    pub fn contains(&self, id: &BlobId) -> Result<bool, RepoError> {
        Ok(self.fresh.contains(id) || self.index.get()?.index.contains(id))
    }

    /// Stores a blob unless it is there; tells whether it was new.
    pub fn add(&mut self, kind: BlobKind, id: BlobId, bytes: &[u8]) -> Result<bool, RepoError> {
        if self.contains(&id)? {
            return Ok(false);
        }
        if bytes.is_empty() || bytes.len() > limits::BLOB {
            return Err(RepoError::Object {
                name: format!("blob {id}"),
                source: FormatError::TooLarge("blob"),
            });
        }
        if self.builder(kind).raw.len() + bytes.len() > FRAME_TARGET {
            self.close_frame(kind)?;
        }
        self.fresh.insert(id);
        self.raw += bytes.len() as u64;
        let builder = self.builder(kind);
        builder.raw.extend_from_slice(bytes);
        #[allow(clippy::cast_possible_truncation)] // at most 16 MiB, checked above
        builder.blobs.push(BlobInfo::new(id, bytes.len() as u32));
        if builder.raw.len() >= FRAME_TARGET { self.close_frame(kind) } else { Ok(true) }.map(|_| true)
    }

    fn builder(&mut self, kind: BlobKind) -> &mut FrameBuilder {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Meta => &mut self.meta,
        }
    }

    fn close_frame(&mut self, kind: BlobKind) -> Result<bool, RepoError> {
        let builder = self.builder(kind);
        if builder.blobs.is_empty() {
            return Ok(false);
        }
        let FrameBuilder { raw, blobs } = std::mem::take(builder);
        let job = FrameJob { number: self.next_frame, kind, blobs, raw };
        self.next_frame += 1;
        let sent = self.threads().frames.send(job);
        sent.map(|()| true).map_err(|_| self.take_fault())
    }

    fn take_fault(&self) -> RepoError {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(RepoError::Worker)
    }

    fn threads(&mut self) -> &Threads {
        let (repository, options, dry_run, fault) =
            (&self.repository, self.options, self.dry_run, &self.fault);
        self.threads.get_or_insert_with(|| start(repository, options, dry_run, fault))
    }

    /// Waits until all packs are durable, then publishes their index. Nothing can be added after.
    pub fn publish(&mut self) -> Result<Published, RepoError> {
        self.close_frame(BlobKind::Data)?;
        self.close_frame(BlobKind::Meta)?;
        let mut published = Published { raw: self.raw, ..Published::default() };
        let mut packs = Vec::new();
        if let Some(threads) = self.threads.take() {
            drop(threads.frames);
            for (info, stored) in &threads.packs {
                published.packs += 1;
                published.stored += stored;
                packs.push(info);
            }
            let panicked = threads.handles.into_iter().map(JoinHandle::join).any(|r| r.is_err());
            let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            match fault {
                Some(error) => return Err(error),
                None if panicked => return Err(RepoError::Worker),
                None => {}
            }
        }
        if self.dry_run {
            return Ok(published);
        }
        if let Some(loaded) = self.index.loaded() {
            published.adopted = loaded.adopted.len() as u64;
            packs.extend(loaded.adopted.iter().cloned());
        }
        published.index = write_index(&self.repository, &packs, &[])?;
        published.stored += published.index.iter().map(|object| object.size).sum::<u64>();
        published.listed = packs.iter().map(|pack| pack.id).collect();
        Ok(published)
    }
}

fn start(repository: &Repository, options: PackerOptions, dry_run: bool, fault: &Fault) -> Threads {
    let (frames, frame_jobs) = bounded::<FrameJob>(options.threads);
    let (ready_frames, ready) = bounded::<ReadyFrame>(options.threads);
    // Handed over directly: one pack is being filled or waits, one is on its way.
    let (full_packs, uploads) = bounded::<ReadyPack>(0);
    // Unbounded in effect: the caller collects only at the end, and items are small.
    let (done, packs) = crossbeam_channel::unbounded();
    let abandoned = Arc::new(AtomicBool::new(false));
    let mut handles = Vec::new();
    for _ in 0..options.threads {
        let (jobs, out, fault) = (frame_jobs.clone(), ready_frames.clone(), Arc::clone(fault));
        handles.push(std::thread::spawn(move || {
            if let Err(error) = compress(&jobs, &out, options.compression.level()) {
                set_fault(&fault, error);
            }
        }));
    }
    drop((frame_jobs, ready_frames));
    let sealer = repository.sealer_handle();
    let assembler_fault = Arc::clone(fault);
    handles.push(std::thread::spawn(move || {
        if let Err(error) = assemble(&sealer, options.pack_size, &ready, &full_packs) {
            set_fault(&assembler_fault, error);
        }
    }));
    for _ in 0..options.uploads.max(1) {
        let (jobs, done, fault, repository) =
            (uploads.clone(), done.clone(), Arc::clone(fault), repository.clone());
        let abandoned = Arc::clone(&abandoned);
        handles.push(std::thread::spawn(move || {
            for pack in jobs {
                if abandoned.load(Ordering::Relaxed) {
                    return;
                }
                let result = upload(repository.remote_handle().as_ref(), repository.cache(), pack, dry_run);
                match result {
                    Ok(stored) => drop(done.send(stored)),
                    Err(error) => return set_fault(&fault, error),
                }
            }
        }));
    }
    Threads { frames, packs, handles, abandoned }
}

fn compress(jobs: &Receiver<FrameJob>, out: &Sender<ReadyFrame>, level: i32) -> Result<(), RepoError> {
    let failed = |_| RepoError::Object { name: "frame".into(), source: FormatError::TooLarge("frame") };
    let mut compressor = zstd::bulk::Compressor::new(level).map_err(failed)?;
    for FrameJob { number, kind, blobs, raw } in jobs {
        let packed = compressor.compress(&raw).map_err(failed)?;
        let compressed = packed.len() < raw.len();
        #[allow(clippy::cast_possible_truncation)] // at most 16 MiB and 1 MiB
        let info = FrameInfo {
            stored: (packed.len().min(raw.len()) + crypto::TAG) as u32,
            raw: raw.len() as u32,
            compressed,
            kind,
            blobs,
        };
        let bytes = if compressed { packed } else { raw };
        if out.send(ReadyFrame { number, info, bytes }).is_err() {
            break;
        }
    }
    Ok(())
}

struct OpenPack {
    key: ObjectKey,
    bytes: Vec<u8>,
    frames: Vec<FrameInfo>,
}

fn assemble(
    sealer: &Sealer,
    pack_size: usize,
    ready: &Receiver<ReadyFrame>,
    packs: &Sender<ReadyPack>,
) -> Result<(), RepoError> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut open: Option<OpenPack> = None;
    for frame in ready {
        early.insert(frame.number, frame);
        while let Some(frame) = early.remove(&next) {
            next += 1;
            let mut pack = match open.take() {
                Some(pack) => pack,
                None => begin(sealer, pack_size)?,
            };
            append(sealer, &mut pack, frame).map_err(RepoError::object("pack"))?;
            if pack.bytes.len() < pack_size {
                open = Some(pack);
            } else if !send(sealer, pack, packs)? {
                return Ok(());
            }
        }
    }
    // A gap means that a compressor failed; its error ends the run.
    match open {
        Some(pack) if early.is_empty() => send(sealer, pack, packs).map(drop),
        _ => Ok(()),
    }
}

fn begin(sealer: &Sealer, pack_size: usize) -> Result<OpenPack, RepoError> {
    let begin = || {
        let random = Randomness::generate()?;
        let mut bytes = sealer.header(ObjectKind::Pack, &random)?;
        bytes.reserve(pack_size + FRAME_TARGET);
        Ok(OpenPack { key: random.key, bytes, frames: Vec::new() })
    };
    begin().map_err(RepoError::object("pack"))
}

fn append(sealer: &Sealer, pack: &mut OpenPack, frame: ReadyFrame) -> Result<(), FormatError> {
    let start = pack.bytes.len();
    pack.bytes.extend_from_slice(&frame.bytes);
    let place = sealer.place(ObjectKind::Pack, pack.frames.len() as u64, false);
    pack.key.seal(place, &mut pack.bytes, start)?;
    pack.frames.push(frame.info);
    Ok(())
}

fn send(sealer: &Sealer, mut pack: OpenPack, packs: &Sender<ReadyPack>) -> Result<bool, RepoError> {
    pack_v1::finish(sealer, &pack.key, &pack.frames, &mut pack.bytes).map_err(RepoError::object("pack"))?;
    Ok(packs.send(ReadyPack { bytes: pack.bytes, frames: pack.frames }).is_ok())
}

fn upload(
    remote: &dyn Remote,
    cache: &Cache,
    pack: ReadyPack,
    dry_run: bool,
) -> Result<(PackInfo, u64), RepoError> {
    let id = ObjectId(crypto::sha256(&pack.bytes));
    let size = pack.bytes.len() as u64;
    let info = PackInfo { id, size, frames: pack.frames };
    if dry_run {
        return Ok((info, size));
    }
    // Noted before the upload: however this run ends, the next one finds what arrived.
    cache.note_pending(&info)?;
    remote.put(&pack_name(&id), &pack.bytes)?;
    Ok((info, size))
}
