//! Tar streams: POSIX pax on writing; v7, ustar, GNU and pax on reading.
//!
//! "POSIX" means IEEE Std 1003.1-2017, utility `pax`: *ustar Interchange Format* and *pax Interchange Format*.

mod error;
mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod writer;

pub use error::TarError;
pub use reader::Reader;
pub use writer::Writer;

use crate::model::Timestamp;

/// Bytes of a block: every header is one, and data is filled up to whole ones.
pub const BLOCK: usize = 512;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to these bytes.
    Symlink(Vec<u8>),
    /// Another name of the member of this name, which came before.
    Hardlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character or block device: never restored, and so never written.
    Device,
    /// A type that is none of these, by its byte. It may have data.
    Other(u8),
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, as it stands in the archive, without trailing slashes. Whoever makes files of members asks
    /// [`super::safe_path`] first.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permissions and set-id bits, 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Name of the owner; empty when unknown.
    pub user: Vec<u8>,
    /// Name of the group; empty when unknown.
    pub group: Vec<u8>,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Bytes of data, holes included; zero for all but files.
    pub size: u64,
    /// Extended attributes: names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// A member without data and attributes, of mode 0.
    #[must_use]
    pub fn new(path: Vec<u8>, kind: MemberKind) -> Self {
        Self {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mtime: Timestamp::default(),
            size: 0,
            xattrs: Vec::new(),
        }
    }
}
