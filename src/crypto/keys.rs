//! The master key and the sub-keys derived from it, one per purpose.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{CryptoError, OBJECT_NONCE, ObjectKey, random, unwrap, wrap};
use crate::model::{BlobId, BlobKind};

/// The kind of a sealed object; enters its header and the additional data of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A pack of frames.
    Pack = 1,
    /// An index object.
    Index = 2,
    /// A snapshot record.
    Snapshot = 3,
    /// A gc record.
    Gc = 4,
    /// An acceptance of marked snapshots. 5 is that of a full archive.
    Acceptance = 6,
}

impl ObjectKind {
    /// The word used in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Index => "index object",
            Self::Snapshot => "snapshot record",
            Self::Gc => "gc record",
            Self::Acceptance => "acceptance",
        }
    }
}

/// The secret that a key bundle carries: everything else is derived from it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey(pub(crate) [u8; 32]);

impl MasterKey {
    /// A fresh master key.
    pub fn generate() -> Result<Self, CryptoError> {
        random().map(Self)
    }

    /// A master key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// All sub-keys of a repository.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keyring {
    data_id: [u8; 32],
    meta_id: [u8; 32],
    content: [u8; 32],
    chunker: [u8; 32],
    wrap_packs: [u8; 32],
    wrap_index: [u8; 32],
    wrap_snapshots: [u8; 32],
}

impl Keyring {
    /// Derives the sub-keys; the context strings are those of `format-spec/` section 4.3.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        let derive = |context| blake3::derive_key(context, &master.0);
        Self {
            data_id: derive("exuvia format 1: blob id, data"),
            meta_id: derive("exuvia format 1: blob id, meta"),
            content: derive("exuvia format 1: content hash"),
            chunker: derive("exuvia format 1: chunker"),
            wrap_packs: derive("exuvia format 1: wrap, packs"),
            wrap_index: derive("exuvia format 1: wrap, index"),
            wrap_snapshots: derive("exuvia format 1: wrap, snapshots"),
        }
    }

    /// The id of a blob.
    #[must_use]
    pub fn blob_id(&self, kind: BlobKind, bytes: &[u8]) -> BlobId {
        let key = match kind {
            BlobKind::Data => &self.data_id,
            BlobKind::Meta => &self.meta_id,
        };
        BlobId(*blake3::keyed_hash(key, bytes).as_bytes())
    }

    /// The hash of one block of a file: a leaf of a content hash, and what SQLite pages are
    /// compared by.
    #[must_use]
    pub fn block_hash(&self, block: &[u8]) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.content, block);
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        short
    }

    /// The content hash of a file from the hashes of its blocks, in order.
    #[must_use]
    pub fn content_hash<'a>(&self, blocks: impl IntoIterator<Item = &'a [u8; 16]>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.content);
        for block in blocks {
            hasher.update(block);
        }
        *hasher.finalize().as_bytes()
    }

    /// The gear table of the chunker.
    #[must_use]
    pub fn gear_table(&self) -> [u64; 256] {
        let mut reader = blake3::Hasher::new_keyed(&self.chunker).finalize_xof();
        let mut table = [0; 256];
        for entry in &mut table {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            *entry = u64::from_le_bytes(bytes);
        }
        table
    }

    /// Wraps an object key for the header of an object.
    pub fn wrap_object_key(
        &self,
        kind: ObjectKind,
        nonce: &[u8; OBJECT_NONCE],
        aad: &[u8],
        key: &ObjectKey,
    ) -> Result<Vec<u8>, CryptoError> {
        wrap(self.wrap_key(kind), nonce, aad, key.bytes())
    }

    /// Opens the object key in an object's header.
    pub fn unwrap_object_key(
        &self,
        kind: ObjectKind,
        nonce: &[u8; OBJECT_NONCE],
        aad: &[u8],
        wrapped: &[u8],
    ) -> Result<ObjectKey, CryptoError> {
        let key = unwrap(self.wrap_key(kind), nonce, aad, wrapped)?;
        let key: [u8; 32] = key.as_slice().try_into().map_err(|_| CryptoError::Authentication)?;
        Ok(ObjectKey::from_bytes(key))
    }

    fn wrap_key(&self, kind: ObjectKind) -> &[u8; 32] {
        match kind {
            ObjectKind::Pack => &self.wrap_packs,
            ObjectKind::Index | ObjectKind::Gc => &self.wrap_index,
            ObjectKind::Snapshot | ObjectKind::Acceptance => &self.wrap_snapshots,
        }
    }
}

/// Computes a content hash from a file's bytes as they come, in order.
pub struct ContentHasher<'a> {
    keys: &'a Keyring,
    block_log2: u8,
    pending: Vec<u8>,
    /// Takes the hashes of whole blocks as they come: kept in a list, those of a sparse file of an
    /// exabyte would not fit into memory.
    outer: blake3::Hasher,
}

impl<'a> ContentHasher<'a> {
    /// A hasher for blocks of `1 << block_log2` bytes.
    #[must_use]
    pub fn new(keys: &'a Keyring, block_log2: u8) -> Self {
        Self { keys, block_log2, pending: Vec::new(), outer: blake3::Hasher::new_keyed(&keys.content) }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let block = 1usize << self.block_log2;
        if !self.pending.is_empty() {
            let take = bytes.len().min(block - self.pending.len());
            self.pending.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.pending.len() < block {
                return;
            }
            self.outer.update(&self.keys.block_hash(&self.pending));
            self.pending.clear();
        }
        let mut whole = bytes.chunks_exact(block);
        for chunk in &mut whole {
            self.outer.update(&self.keys.block_hash(chunk));
        }
        self.pending.extend_from_slice(whole.remainder());
    }

    /// Takes `n` zero bytes; blocks of nothing else are hashed once.
    pub fn update_zeros(&mut self, mut n: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let block = 1u64 << self.block_log2;
        while n > 0 && (!self.pending.is_empty() || n < block) {
            let room = (block - self.pending.len() as u64).min(n).min(ZEROS.len() as u64);
            #[allow(clippy::cast_possible_truncation)] // at most 4,096
            self.update(&ZEROS[..room as usize]);
            n -= room;
        }
        if n >= block {
            let hash = self.keys.block_hash(&vec![0; 1 << self.block_log2]);
            // Many at once: the hash is at its best on long input.
            const MANY: usize = 1024;
            let hashes = hash.repeat(MANY);
            let mut blocks = n / block;
            while blocks > 0 {
                #[allow(clippy::cast_possible_truncation)] // at most 1,024
                let now = blocks.min(MANY as u64) as usize;
                self.outer.update(&hashes[..now * hash.len()]);
                blocks -= now as u64;
            }
            self.update_zeros(n % block);
        }
    }

    /// The hash of all that was taken.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        if !self.pending.is_empty() {
            self.outer.update(&self.keys.block_hash(&self.pending));
        }
        *self.outer.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_two_kinds_never_agree() {
        let keys = Keyring::new(&MasterKey::from_bytes([5; 32]));
        assert_ne!(keys.blob_id(BlobKind::Data, b"x"), keys.blob_id(BlobKind::Meta, b"x"));
    }

    #[test]
    fn content_hash_does_not_depend_on_how_bytes_arrive() {
        let keys = Keyring::new(&MasterKey::from_bytes([5; 32]));
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * 31 % 251) as u8).collect();
        let want = keys.content_hash(&bytes.chunks(512).map(|b| keys.block_hash(b)).collect::<Vec<_>>());
        for step in [1, 7, 511, 512, 513, 5000] {
            let mut hasher = ContentHasher::new(&keys, 9);
            bytes.chunks(step).for_each(|part| hasher.update(part));
            assert_eq!(hasher.finish(), want, "step {step}");
        }
    }

    #[test]
    fn zeros_hash_like_zero_bytes() {
        let keys = Keyring::new(&MasterKey::from_bytes([5; 32]));
        for (before, zeros) in [(0, 1), (0, 512), (0, 10_000), (100, 412), (100, 413), (511, 5000), (3, 0)] {
            let (mut a, mut b) = (ContentHasher::new(&keys, 9), ContentHasher::new(&keys, 9));
            a.update(&vec![7; before]);
            b.update(&vec![7; before]);
            a.update_zeros(zeros);
            b.update(&vec![0; usize::try_from(zeros).unwrap_or_default()]);
            a.update(b"end");
            b.update(b"end");
            assert_eq!(a.finish(), b.finish(), "{before} {zeros}");
        }
    }
}
