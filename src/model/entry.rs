//! Entries: one path with its metadata and, for a file, the slices of blobs that make its content.

use std::sync::Arc;

use super::{BlobId, RepoPath, Timestamp};

/// What a blob holds. Ids of the two kinds come from different keys, so that the bytes of a user's
/// file can never be taken for a part of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// File content.
    Data,
    /// A manifest segment or a slice list.
    Meta,
}

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// `len` bytes from `offset` within a blob.
    Blob {
        /// The blob.
        id: BlobId,
        /// First byte within the blob.
        offset: u32,
        /// Number of bytes, at least 1.
        len: u32,
    },
    /// `len` zero bytes that take no space in the file.
    Hole {
        /// Number of bytes, at least 1.
        len: u64,
    },
}

impl Slice {
    /// Bytes of the file that this slice covers.
    #[must_use]
    pub fn len(&self) -> u64 {
        match *self {
            Self::Blob { len, .. } => u64::from(len),
            Self::Hole { len } => len,
        }
    }

    /// A slice is never empty; present because `len` is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Hash of a file's whole content: keyed BLAKE3 over the 16-byte keyed BLAKE3 hashes of its
/// blocks of `1 << block_log2` bytes, the last one shorter. Blocks make it computable when
/// pages arrive out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash {
    /// Logarithm of the block length.
    pub block_log2: u8,
    /// The hash.
    pub hash: [u8; 32],
}

/// How a file's bytes were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// Read as a plain file.
    #[default]
    Plain,
    /// A consistent image made through SQLite's backup API; `page_size` in bytes.
    Sqlite {
        /// The database's page size in bytes, a power of two from 512 to 65,536.
        page_size: u32,
    },
    /// A SQLite database that could not be captured consistently and was copied as a plain file.
    RawSqlite,
}

/// The slices of a file, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slices {
    /// The slices themselves.
    Inline(Vec<Slice>),
    /// Meta blobs that hold them, for files with many.
    Lists(Vec<BlobId>),
}

impl Default for Slices {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

/// Content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Length in bytes: the sum of the slices' lengths.
    pub size: u64,
    /// Where the bytes are.
    pub slices: Slices,
    /// Present when there is more than one slice.
    pub hash: Option<ContentHash>,
    /// How the bytes were taken.
    pub capture: Capture,
}

/// The type of an entry with what only that type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link and its target's bytes.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
}

/// Owner and group, by number and, where the system knew them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// User name; empty when unknown.
    pub user: String,
    /// Group name; empty when unknown.
    pub group: String,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Name with its namespace, as the system spells it.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// What restore needs to put an entry back and change detection needs to leave it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, set-id and sticky bits: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// Owner and group.
    pub owner: Arc<Owner>,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Time of last status change on the machine of the backup. Only for change detection.
    pub ctime: Timestamp,
    /// Inode number on the machine of the backup. Only for change detection.
    pub inode: u64,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// One path of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, relative to the root of the snapshot.
    pub path: RepoPath,
    /// Type and content.
    pub kind: EntryKind,
    /// Metadata.
    pub meta: Metadata,
    /// Non-zero for files with several names: equal in all names of one file.
    pub link_group: u64,
    /// The file may have changed while or just after it was read; change detection must not
    /// trust the times recorded here.
    pub unsettled: bool,
}

impl Entry {
    /// The content, for a file.
    #[must_use]
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            EntryKind::File(content) => Some(content),
            _ => None,
        }
    }

    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, EntryKind::Directory)
    }

    /// File size in bytes; zero for anything else.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.content().map_or(0, |c| c.size)
    }
}
