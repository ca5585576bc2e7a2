//! Master keys and the sub-keys derived from them, one per purpose; who has which.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::pair::{Agreed, FreshSecret, OwnerPair, WriterIdentity};
use super::{CryptoError, OBJECT_NONCE, ObjectKey, random, unwrap, wrap};
use crate::model::{BlobId, BlobKind, WriterKeyId};

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
    /// A full archive.
    Archive = 5,
    /// An acceptance of marked snapshots.
    Acceptance = 6,
    /// A removal record.
    Removal = 7,
    /// The mark of a full archive.
    ArchiveMark = 8,
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
            Self::Removal => "removal record",
            Self::Archive => "full archive",
            Self::ArchiveMark => "mark of a full archive",
        }
    }

    /// True for the kinds that a writer key seals to the owner.
    #[must_use]
    pub fn is_for_owner(self) -> bool {
        matches!(self, Self::Pack | Self::Snapshot | Self::Archive | Self::ArchiveMark)
    }
}

/// One of the secrets that an owner's bundle carries: everything else is derived from them.
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

    /// The key under which the descriptions of key objects are sealed (section 4.4).
    #[must_use]
    pub fn description_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key("exuvia format 1: key description", &self.0))
    }

    /// Tells it from other master keys, and nothing of it (section 4.4).
    #[must_use]
    pub fn fingerprint(&self) -> [u8; FINGERPRINT] {
        let mut short = [0; FINGERPRINT];
        let hash = Zeroizing::new(blake3::derive_key("exuvia format 1: key fingerprint", &self.0));
        short.copy_from_slice(&hash[..FINGERPRINT]);
        short
    }
}

/// Bytes of a fingerprint.
pub const FINGERPRINT: usize = 16;

/// The master keys of a repository, that of generation 0 first. There is always one, and at most 256.
#[derive(Clone)]
pub struct Masters(Vec<MasterKey>);

impl Masters {
    /// The master key of a new repository.
    #[must_use]
    pub fn new(first: MasterKey) -> Self {
        Self(vec![first])
    }

    /// The same with one more, of the next generation. `None` when there are as many as can be.
    #[must_use]
    pub fn with(self, next: MasterKey) -> Option<Self> {
        if self.0.len() > usize::from(u8::MAX) {
            return None;
        }
        // A list that grows leaves its old place behind as it is. What is dropped is wiped.
        let mut masters = Vec::with_capacity(self.0.len() + 1);
        masters.extend_from_slice(&self.0);
        masters.push(next);
        Some(Self(masters))
    }

    /// The newest generation.
    #[must_use]
    pub fn generation(&self) -> u8 {
        last_of(&self.0)
    }

    /// That of generation 0.
    #[must_use]
    pub fn first(&self) -> Option<&MasterKey> {
        self.0.first()
    }

    /// The fingerprint of the newest.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; FINGERPRINT]> {
        self.0.last().map(MasterKey::fingerprint)
    }

    /// True when these are the others and one of the next generation.
    #[must_use]
    pub fn follow(&self, others: &Self) -> bool {
        let before = self.0.split_last().map(|(_, before)| before).unwrap_or_default();
        let same = |(one, other): (&MasterKey, &MasterKey)| one.0 == other.0;
        before.len() == others.0.len() && before.iter().zip(&others.0).all(same)
    }

    /// Those of the generations from 1 on.
    #[must_use]
    pub fn later(&self) -> &[MasterKey] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// The number of the last of a list that is never empty and never longer than 256.
fn last_of<T>(list: &[T]) -> u8 {
    u8::try_from(list.len().saturating_sub(1)).unwrap_or(u8::MAX)
}

/// All sub-keys that somebody has.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keyring {
    naming: Naming,
    /// Wrap keys of index objects and gc records, by generation.
    index: Vec<[u8; 32]>,
    role: Role,
}

/// What ids, hashes and cut points are made with: that of generation 0, for everybody.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Naming {
    pub(crate) data_id: [u8; 32],
    pub(crate) meta_id: [u8; 32],
    pub(crate) content: [u8; 32],
    pub(crate) chunker: [u8; 32],
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
enum Role {
    /// By generation.
    Owner(Vec<OwnerKeys>),
    Writer(Box<WriterIdentity>),
}

/// What only owners have, of one generation.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct OwnerKeys {
    packs: [u8; 32],
    snapshots: [u8; 32],
    pair: OwnerPair,
    writers: [u8; 32],
    description: [u8; 32],
}

impl OwnerKeys {
    fn new(master: &MasterKey) -> Self {
        Self {
            packs: derive(master, "exuvia format 1: wrap, packs"),
            snapshots: derive(master, "exuvia format 1: wrap, snapshots"),
            pair: OwnerPair::new(derive(master, "exuvia format 1: owner x25519")),
            writers: derive(master, "exuvia format 1: writers"),
            description: *master.description_key(),
        }
    }

    fn writer(&self, id: WriterKeyId) -> WriterIdentity {
        let secret = *blake3::keyed_hash(&self.writers, &id.0).as_bytes();
        WriterIdentity { id: id.0, secret, owner: self.pair.public() }
    }
}

/// What a writer's bundle carries.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct WriterKeys {
    pub(crate) identity: WriterIdentity,
    pub(crate) naming: Naming,
    /// By generation; there is always one, and at most 256.
    pub(crate) index: Vec<[u8; 32]>,
}

impl WriterKeys {
    /// The writer key's id.
    #[must_use]
    pub fn id(&self) -> WriterKeyId {
        WriterKeyId(self.identity.id)
    }

    /// The generation that it writes.
    #[must_use]
    pub fn generation(&self) -> u8 {
        last_of(&self.index)
    }
}

fn derive(master: &MasterKey, context: &str) -> [u8; 32] {
    blake3::derive_key(context, &master.0)
}

impl Keyring {
    /// The sub-keys of a repository whose keys were never rotated.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self::of_owner(&Masters::new(master.clone()))
    }

    /// An owner's sub-keys; the context strings are those of `format-spec/` section 4.3.
    #[must_use]
    pub fn of_owner(masters: &Masters) -> Self {
        let first = |context| masters.first().map_or([0; 32], |master| derive(master, context));
        Self {
            naming: Naming {
                data_id: first("exuvia format 1: blob id, data"),
                meta_id: first("exuvia format 1: blob id, meta"),
                content: first("exuvia format 1: content hash"),
                chunker: first("exuvia format 1: chunker"),
            },
            index: masters.0.iter().map(|master| derive(master, "exuvia format 1: wrap, index")).collect(),
            role: Role::Owner(masters.0.iter().map(OwnerKeys::new).collect()),
        }
    }

    /// A writer's sub-keys.
    #[must_use]
    pub fn of_writer(keys: &WriterKeys) -> Self {
        Self {
            naming: keys.naming.clone(),
            index: keys.index.clone(),
            role: Role::Writer(Box::new(keys.identity.clone())),
        }
    }

    /// The generation that is written.
    #[must_use]
    pub fn generation(&self) -> u8 {
        last_of(&self.index)
    }

    /// The id of the writer key, if it is one: it opens index objects and gc records only.
    #[must_use]
    pub fn writer(&self) -> Option<WriterKeyId> {
        match &self.role {
            Role::Owner(_) => None,
            Role::Writer(writer) => Some(WriterKeyId(writer.id)),
        }
    }

    /// What a writer key of this id is given. A writer has none to give.
    #[must_use]
    pub fn for_writer(&self, id: WriterKeyId) -> Option<WriterKeys> {
        let Role::Owner(owner) = &self.role else { return None };
        let identity = owner.last()?.writer(id);
        Some(WriterKeys { identity, naming: self.naming.clone(), index: self.index.clone() })
    }

    /// The id of a blob.
    #[must_use]
    pub fn blob_id(&self, kind: BlobKind, bytes: &[u8]) -> BlobId {
        let key = match kind {
            BlobKind::Data => &self.naming.data_id,
            BlobKind::Meta => &self.naming.meta_id,
        };
        BlobId(*blake3::keyed_hash(key, bytes).as_bytes())
    }

    /// The hash of one block of a file: a leaf of a content hash, and what SQLite pages are
    /// compared by.
    #[must_use]
    pub fn block_hash(&self, block: &[u8]) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.naming.content, block);
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        short
    }

    /// The content hash of a file from the hashes of its blocks, in order.
    #[must_use]
    pub fn content_hash<'a>(&self, blocks: impl IntoIterator<Item = &'a [u8; 16]>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.naming.content);
        for block in blocks {
            hasher.update(block);
        }
        *hasher.finalize().as_bytes()
    }

    /// The gear table of the chunker.
    #[must_use]
    pub fn gear_table(&self) -> [u64; 256] {
        let mut reader = blake3::Hasher::new_keyed(&self.naming.chunker).finalize_xof();
        let mut table = [0; 256];
        for entry in &mut table {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            *entry = u64::from_le_bytes(bytes);
        }
        table
    }

    /// Wraps an object key for the header of an object, under the newest generation.
    pub fn wrap_object_key(
        &self,
        kind: ObjectKind,
        nonce: &[u8; OBJECT_NONCE],
        aad: &[u8],
        key: &ObjectKey,
    ) -> Result<Vec<u8>, CryptoError> {
        wrap(self.wrap_key(kind, self.generation())?, nonce, aad, key.bytes())
    }

    /// Opens the object key in an object's header of this generation.
    pub fn unwrap_object_key(
        &self,
        kind: ObjectKind,
        generation: u8,
        nonce: &[u8; OBJECT_NONCE],
        aad: &[u8],
        wrapped: &[u8],
    ) -> Result<ObjectKey, CryptoError> {
        let key = unwrap(self.wrap_key(kind, generation)?, nonce, aad, wrapped)?;
        let key: [u8; 32] = key.as_slice().try_into().map_err(|_| CryptoError::Authentication)?;
        Ok(ObjectKey::from_bytes(key))
    }

    fn wrap_key(&self, kind: ObjectKind, generation: u8) -> Result<&[u8; 32], CryptoError> {
        let at = usize::from(generation);
        match kind {
            ObjectKind::Index | ObjectKind::Gc => {
                self.index.get(at).ok_or(CryptoError::Generation(generation))
            }
            ObjectKind::Pack | ObjectKind::Archive => Ok(&self.owner(generation)?.packs),
            ObjectKind::Snapshot | ObjectKind::Acceptance | ObjectKind::Removal | ObjectKind::ArchiveMark => {
                Ok(&self.owner(generation)?.snapshots)
            }
        }
    }

    fn owner(&self, generation: u8) -> Result<&OwnerKeys, CryptoError> {
        match &self.role {
            Role::Owner(keys) => keys.get(usize::from(generation)).ok_or(CryptoError::Generation(generation)),
            Role::Writer(_) => Err(CryptoError::WriterKey),
        }
    }

    /// The key under which the descriptions of key objects are sealed; only owners have it.
    #[must_use]
    pub fn description_key(&self) -> Option<&[u8; 32]> {
        match &self.role {
            Role::Owner(keys) => keys.first().map(|first| &first.description),
            Role::Writer(_) => None,
        }
    }

    /// True when objects of this kind are sealed to the owner: a writer key writes them and cannot read.
    #[must_use]
    pub fn seals_to_owner(&self, kind: ObjectKind) -> bool {
        matches!(self.role, Role::Writer(_)) && kind.is_for_owner()
    }

    /// What an object that is sealed to the owner is sealed with, by who writes it. `secret` is the fresh one,
    /// `start` the header up to the proof, and `rest` what else it is bound to.
    pub fn agree_as_writer(
        &self,
        secret: &FreshSecret,
        start: &[u8],
        rest: &[u8],
    ) -> Result<Agreed, CryptoError> {
        match &self.role {
            Role::Writer(writer) => writer.agree(secret, start, rest),
            Role::Owner(_) => Err(CryptoError::WriterKey),
        }
    }

    /// The same by an owner who reads it: `public` and `writer` are what the header names.
    pub fn agree_as_owner(
        &self,
        generation: u8,
        public: &[u8; 32],
        writer: WriterKeyId,
        start: &[u8],
        rest: &[u8],
    ) -> Result<Agreed, CryptoError> {
        let owner = self.owner(generation)?;
        owner.pair.agree(public, &owner.writer(writer), start, rest)
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
        Self { keys, block_log2, pending: Vec::new(), outer: blake3::Hasher::new_keyed(&keys.naming.content) }
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_stored_has_the_same_name_after_a_rotation_and_for_a_writer() {
        let first = MasterKey::from_bytes([5; 32]);
        let before = Keyring::new(&first);
        let masters = Masters::new(first).with(MasterKey::from_bytes([6; 32])).unwrap();
        let after = Keyring::of_owner(&masters);
        let writer = Keyring::of_writer(&after.for_writer(WriterKeyId([1; 24])).unwrap());
        assert_eq!((before.generation(), after.generation(), writer.generation()), (0, 1, 1));
        for keys in [&after, &writer] {
            for kind in [BlobKind::Data, BlobKind::Meta] {
                assert_eq!(keys.blob_id(kind, b"x"), before.blob_id(kind, b"x"));
            }
            assert_eq!(keys.block_hash(b"x"), before.block_hash(b"x"));
            assert_eq!(keys.gear_table(), before.gear_table());
        }
        assert!(writer.for_writer(WriterKeyId([2; 24])).is_none());
    }

    #[test]
    fn a_writer_opens_what_writers_share_and_nothing_else() {
        let owner = Keyring::new(&MasterKey::from_bytes([5; 32]));
        let writer = Keyring::of_writer(&owner.for_writer(WriterKeyId([1; 24])).unwrap());
        let key = ObjectKey::from_bytes([9; 32]);
        for (kind, opens) in [
            (ObjectKind::Pack, false),
            (ObjectKind::Index, true),
            (ObjectKind::Snapshot, false),
            (ObjectKind::Gc, true),
            (ObjectKind::Acceptance, false),
            (ObjectKind::Removal, false),
            (ObjectKind::Archive, false),
            (ObjectKind::ArchiveMark, false),
        ] {
            let wrapped = owner.wrap_object_key(kind, &[0; 24], b"aad", &key).unwrap();
            let opened = writer.unwrap_object_key(kind, 0, &[0; 24], b"aad", &wrapped);
            let want = if opens { None } else { Some(CryptoError::WriterKey) };
            assert_eq!(opened.err(), want, "{kind:?}");
            let newer = owner.unwrap_object_key(kind, 1, &[0; 24], b"aad", &wrapped);
            assert_eq!(newer.err(), Some(CryptoError::Generation(1)), "{kind:?}");
        }
    }

    #[test]
    fn masters_follow_those_that_they_hold_all_of_and_one_more() {
        let key = |n: &u8| MasterKey::from_bytes([*n; 32]);
        let of = |keys: &[u8]| {
            let first = Masters::new(key(&keys[0]));
            keys[1..].iter().fold(first, |masters, next| masters.with(key(next)).unwrap())
        };
        for (these, others, follow) in [
            (&[1, 2][..], &[1][..], true),
            (&[1, 2, 3], &[1, 2], true),
            (&[1, 2, 3], &[1, 4], false),
            (&[1, 2, 3], &[4, 2], false),
            (&[1, 2, 3], &[1], false),
            (&[1, 2], &[1, 2], false),
            (&[1, 2], &[3], false),
            (&[1], &[1], false),
        ] {
            assert_eq!(of(these).follow(&of(others)), follow, "{these:?} {others:?}");
        }
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let kinds = [
            ObjectKind::Pack,
            ObjectKind::Index,
            ObjectKind::Snapshot,
            ObjectKind::Gc,
            ObjectKind::Acceptance,
            ObjectKind::Removal,
            ObjectKind::Archive,
            ObjectKind::ArchiveMark,
        ];
        let names: std::collections::BTreeSet<_> = kinds.map(ObjectKind::name).into();
        assert_eq!(names.len(), kinds.len());
        assert!(names.contains("pack") && !names.contains(""));
    }

    #[test]
    fn there_are_at_most_256_generations() {
        let mut masters = Masters::new(MasterKey::from_bytes([0; 32]));
        for n in 1..=255 {
            masters = masters.with(MasterKey::from_bytes([n; 32])).unwrap();
            assert_eq!(masters.generation(), n);
        }
        assert!(masters.with(MasterKey::from_bytes([0; 32])).is_none());
    }

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
