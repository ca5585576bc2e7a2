//! Storing blobs: deduplicated and grouped into frames here, compressed, sealed and uploaded by the
//! threads of [`packing`](super::packing), then indexed. Owns the first two steps of the order of writes.

use std::sync::Arc;

use super::index::IdSet;
use super::layout::ObjectInfo;
use super::merge::write_index;
use super::packing::{FrameJob, Threads};
use super::{Compression, RepoError, Repository, SharedIndex};
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
    /// Threads that compress and seal.
    pub threads: usize,
    /// Packs on their way at once.
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
    raw: u64,
    threads: Option<Threads>,
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
            raw: 0,
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
        if self.builder(kind).blobs.is_empty() {
            return Ok(false);
        }
        let (repository, options, dry_run) = (&self.repository, self.options, self.dry_run);
        let threads = self.threads.get_or_insert_with(|| Threads::start(repository, options, dry_run));
        let builder = match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Meta => &mut self.meta,
        };
        let raw = std::mem::replace(&mut builder.raw, threads.spare_buffer());
        let blobs = std::mem::take(&mut builder.blobs);
        threads.send(FrameJob { kind, blobs, raw }).map(|()| true)
    }

    /// Waits until all packs are durable, then publishes their index. Nothing can be added after.
    pub fn publish(&mut self) -> Result<Published, RepoError> {
        self.close_frame(BlobKind::Data)?;
        self.close_frame(BlobKind::Meta)?;
        let mut published = Published { raw: self.raw, ..Published::default() };
        let mut packs = Vec::new();
        if let Some(threads) = self.threads.take() {
            packs = threads.finish()?;
            published.packs = packs.len() as u64;
            published.stored = packs.iter().map(|pack| pack.size).sum();
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
