//! Storing blobs: deduplicated, grouped into frames, compressed and sealed by whoever brings them,
//! uploaded by threads of [`packing`](super::packing), then indexed. Owns the first two steps of the
//! order of writes.
//!
//! Every thread that reads files has a [`Filler`]: it reads into the buffer that becomes the frame, so
//! content is not copied between reading and compressing, and threads wait for each other only to append
//! a finished frame to a pack, and for what is left at their end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;

use super::index::IdSet;
use super::layout::ObjectInfo;
use super::merge::write_index;
use super::packing::{Frame, Packing, Press, lock};
use super::{Compression, LoadedIndex, RepoError, Repository, SharedIndex};
use crate::format::pack_v1::BlobInfo;
use crate::format::{FormatError, limits};
use crate::model::{BlobId, BlobKind, ObjectId};

/// A frame is closed before a blob that would take it beyond this (bytes before compression).
pub(super) const FRAME_TARGET: usize = 1 << 20;

/// How to pack.
#[derive(Debug, Clone, Copy)]
pub struct PackerOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// Threads that read, compress and seal.
    pub threads: usize,
    /// Packs on their way at once.
    pub uploads: usize,
    /// A pack is closed when it reaches this many bytes. Where the remote must be told an object's length
    /// first, so many bytes are held for each pack that is open or on its way.
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

/// Stores blobs that the repository does not have.
pub struct Packer {
    repository: Repository,
    /// Compress and count, but store nothing.
    dry_run: bool,
    index: Arc<SharedIndex>,
    /// Blobs that this run stores.
    fresh: Mutex<IdSet>,
    raw: AtomicU64,
    packing: Packing,
    /// Blobs that come one by one, and what fillers had left.
    rest: Mutex<Rest>,
}

struct Rest {
    data: Frame,
    meta: Frame,
    press: Press,
}

impl Packer {
    /// A packer that deduplicates against `index`, which is loaded only when there is something to store.
    #[must_use]
    pub fn new(
        repository: &Repository,
        options: PackerOptions,
        dry_run: bool,
        index: Arc<SharedIndex>,
    ) -> Self {
        let rest = Rest {
            data: Frame::new(BlobKind::Data),
            meta: Frame::new(BlobKind::Meta),
            press: Press::default(),
        };
        Self {
            repository: repository.clone(),
            dry_run,
            index,
            fresh: Mutex::default(),
            raw: AtomicU64::new(0),
            packing: Packing::new(repository, options, dry_run),
            rest: Mutex::new(rest),
        }
    }

    /// True when a blob is in the repository or on its way there.
    pub fn contains(&self, id: &BlobId) -> Result<bool, RepoError> {
        Ok(lock(&self.fresh).contains(id) || self.index.get()?.index.contains(id)?)
    }

    /// Stores a blob unless it is there; tells whether it was new.
    pub fn add(&self, kind: BlobKind, id: BlobId, bytes: &[u8]) -> Result<bool, RepoError> {
        let blob = blob_info(id, bytes.len())?;
        if self.index.get()?.index.contains(&id)? || !self.claim(&id, bytes.len()) {
            return Ok(false);
        }
        let Rest { data, meta, press } = &mut *lock(&self.rest);
        let frame = match kind {
            BlobKind::Data => data,
            BlobKind::Meta => meta,
        };
        if frame.raw.len() + bytes.len() > FRAME_TARGET {
            press.press(&self.packing, frame).map_err(|error| self.reason(error))?;
        }
        frame.raw.extend_from_slice(bytes);
        frame.blobs.push(blob);
        Ok(true)
    }

    /// What another thread says of its failure, where all that is known is that it failed.
    fn reason(&self, error: RepoError) -> RepoError {
        match error {
            RepoError::Worker => self.take_fault().unwrap_or(RepoError::Worker),
            error => error,
        }
    }

    /// True for the one who is the first to bring a new blob.
    fn claim(&self, id: &BlobId, len: usize) -> bool {
        let first = lock(&self.fresh).insert(*id);
        if first {
            self.raw.fetch_add(len as u64, Ordering::Relaxed);
        }
        first
    }

    /// Where one thread brings file content. Frames are offered to whoever waits at the other end of
    /// `offer`; where nobody does, their maker compresses them.
    #[must_use]
    pub fn filler(&self, offer: Option<Sender<FullFrame>>) -> Filler<'_> {
        Filler {
            packer: self,
            index: None,
            frame: Frame::new(BlobKind::Data),
            filled: 0,
            press: Press::default(),
            offer,
        }
    }

    /// Notes why a thread gave up, for whoever waits for it.
    pub fn fail(&self, error: RepoError) {
        self.packing.fail(error);
    }

    /// True when a thread gave up: what others do is in vain.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.packing.has_failed()
    }

    /// Why a thread gave up.
    pub fn take_fault(&self) -> Option<RepoError> {
        self.packing.take_fault()
    }

    /// Waits until all packs are durable, then publishes their index. Nothing can be added after.
    pub fn publish(&self) -> Result<Published, RepoError> {
        if self.has_failed() {
            return Err(self.reason(RepoError::Worker));
        }
        let Rest { data, meta, press } = &mut *lock(&self.rest);
        press.press(&self.packing, data)?;
        press.press(&self.packing, meta)?;
        let mut packs = self.packing.finish()?;
        let mut published = Published {
            raw: self.raw.load(Ordering::Relaxed),
            packs: packs.len() as u64,
            stored: packs.iter().map(|pack| pack.size).sum(),
            ..Published::default()
        };
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

fn blob_info(id: BlobId, len: usize) -> Result<BlobInfo, RepoError> {
    let length = u32::try_from(len).ok().filter(|_| (1..=limits::BLOB).contains(&len));
    let length = length.ok_or_else(|| RepoError::Object {
        name: format!("blob {id}"),
        source: FormatError::TooLarge("blob"),
    })?;
    Ok(BlobInfo::new(id, length))
}

/// A frame to be compressed by any thread.
pub struct FullFrame(Frame);

/// One thread's frame in the making: bytes are read to the end of its buffer, and cut into blobs there.
pub struct Filler<'a> {
    packer: &'a Packer,
    index: Option<Arc<LoadedIndex>>,
    frame: Frame,
    /// The bytes that belong to the frame's blobs. What follows them is loose: read, and not yet cut.
    filled: usize,
    press: Press,
    offer: Option<Sender<FullFrame>>,
}

impl Filler<'_> {
    /// The bytes that were read and not yet cut.
    #[must_use]
    pub fn loose(&self) -> &[u8] {
        &self.frame.raw[self.filled..]
    }

    /// The buffer, for appending to it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.frame.raw
    }

    /// Forgets loose bytes.
    pub fn discard(&mut self) {
        self.frame.raw.truncate(self.filled);
    }

    /// Drops the first `len` loose bytes.
    pub fn skip(&mut self, len: usize) {
        let end = (self.filled + len).min(self.frame.raw.len());
        self.frame.raw.drain(self.filled..end);
    }

    /// Makes the first `len` loose bytes a blob, unless the repository has it; tells whether it was new.
    pub fn take(&mut self, id: BlobId, len: usize) -> Result<bool, RepoError> {
        let blob = blob_info(id, len)?;
        let loaded = match &mut self.index {
            Some(loaded) => loaded,
            none => none.insert(self.packer.index.get()?),
        };
        if loaded.index.contains(&id)? || !self.packer.claim(&id, len) {
            self.skip(len);
            return Ok(false);
        }
        if self.filled + len > FRAME_TARGET {
            self.close()?;
        }
        self.filled += len;
        self.frame.blobs.push(blob);
        if self.filled >= FRAME_TARGET {
            self.close()?;
        }
        Ok(true)
    }

    /// Compresses and stores the frame; loose bytes become the beginning of the next buffer.
    fn close(&mut self) -> Result<(), RepoError> {
        let loose = self.frame.raw.split_off(self.filled);
        self.filled = 0;
        let frame = std::mem::replace(&mut self.frame, Frame::new(BlobKind::Data));
        if let Some(mut frame) = self.offered(frame) {
            self.press.press(&self.packer.packing, &mut frame)?;
            self.frame = frame;
        }
        self.frame.raw.extend_from_slice(&loose);
        Ok(())
    }

    /// Gives a frame back that no other thread has time for.
    fn offered(&self, frame: Frame) -> Option<Frame> {
        let Some(offer) = &self.offer else { return Some(frame) };
        offer.try_send(FullFrame(frame)).err().map(|refused| refused.into_inner().0)
    }

    /// Compresses and stores another thread's frame.
    pub fn help(&mut self, frame: FullFrame) -> Result<(), RepoError> {
        let FullFrame(mut frame) = frame;
        self.press.press(&self.packer.packing, &mut frame)
    }

    /// Hands what is left to the packer: together with what other threads had left it makes fuller frames.
    /// Nothing is offered any more.
    pub fn finish(&mut self) -> Result<(), RepoError> {
        self.discard();
        self.offer = None;
        let Rest { data, press, .. } = &mut *lock(&self.packer.rest);
        if data.raw.len() + self.frame.raw.len() > FRAME_TARGET {
            press.press(&self.packer.packing, data)?;
        }
        data.raw.append(&mut self.frame.raw);
        data.blobs.append(&mut self.frame.blobs);
        self.filled = 0;
        Ok(())
    }
}
