//! Where objects live: the [`Remote`] trait, its implementations and wrappers.
//!
//! Names are those of `format-spec/` section 2: folders and one base name, joined by `/`.

pub mod contract;
mod counting;
mod local;
mod memory;
mod name;
mod rclone;
mod reading;
mod retry;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

pub use counting::{Counting, RequestCounts};
pub use local::Local;
pub use memory::Memory;
pub use rclone::Rclone;
pub use reading::ObjectReader;
pub use retry::{Policy, Retrying};

use rustix::io::Errno;

pub use crate::rclone::Fault;

use crate::model::{Classify, ErrorClass};

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Full name, folders included.
    pub name: String,
    /// Stored bytes.
    pub size: u64,
}

/// What a remote was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Read an object or a part of it.
    Get,
    /// Store an object.
    Put,
    /// List a folder.
    List,
    /// Ask for an object's size.
    Stat,
    /// Remove an object.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "read",
            Self::Put => "store",
            Self::List => "list",
            Self::Stat => "look up",
            Self::Delete => "delete",
        })
    }
}

/// Why a remote could not do it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no such object.
    #[error("{name} does not exist")]
    NotFound {
        /// The object.
        name: String,
    },
    /// The object has fewer or more bytes than asked for.
    #[error("{name} has {found} bytes where {expected} were expected")]
    Size {
        /// The object.
        name: String,
        /// What was asked for.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// `create` found an object of that name.
    #[error("{name} exists already")]
    Exists {
        /// The object.
        name: String,
    },
    /// A storage service, or the way to it, failed.
    #[error("cannot {verb} {name}: {message}")]
    Service {
        /// What was tried.
        verb: Verb,
        /// The object or folder.
        name: String,
        /// What rclone said, without secrets.
        message: String,
        /// What kind of failure this is.
        fault: Fault,
    },
    /// Reading or writing local files failed.
    #[error("cannot {verb} {name}: {source}")]
    Io {
        /// What was tried.
        verb: Verb,
        /// The object or folder.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// What the system says of a file or of the medium below it, rather than of the way to them.
const OF_THE_OBJECT: [Errno; 6] =
    [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::ISDIR, Errno::NOTDIR, Errno::LOOP];

impl RemoteError {
    /// True when nothing is known of the object: the service failed, or the disk is not there, or this process may not
    /// read it or has too many files open. An object that cannot be read for any other reason is not as it should be.
    #[must_use]
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::Service { .. } => true,
            Self::Io { source, .. } => {
                Errno::from_io_error(source).is_some_and(|errno| !OF_THE_OBJECT.contains(&errno))
            }
            Self::NotFound { .. } | Self::Size { .. } | Self::Exists { .. } => false,
        }
    }

    /// True when the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

impl Classify for RemoteError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } | Self::Size { .. } => ErrorClass::Damaged,
            Self::Service { fault: Fault::Interrupted, .. } => ErrorClass::Interrupted,
            Self::Service { fault: Fault::Setup, .. } => ErrorClass::Usage,
            Self::Service { .. } | Self::Exists { .. } | Self::Io { .. } => ErrorClass::Failed,
        }
    }
}

/// An object on its way whose name follows from its bytes. Dropped before its end, it leaves nothing;
/// a process that is killed may leave what no listing shows.
pub trait Upload: Send {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError>;

    /// Gives the object its name, as [`Remote::put`] does.
    fn finish(self: Box<Self>, name: &str) -> Result<(), RemoteError>;
}

/// An object on its way under a name that is known, and whose length is not.
///
/// Dropped before its end it is given up. A remote that cannot take back what it was sent may keep a torn object
/// under the name then: whoever streams decides by another object, stored afterwards, what is whole.
pub trait Streaming: Send {
    /// Takes the next bytes; waits where the remote is slower than its caller. Nothing is tried again, since
    /// nobody has the bytes any more: after an error the object is lost.
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError>;

    /// Ends the object. Returns when the remote has confirmed its size.
    fn finish(self: Box<Self>) -> Result<(), RemoteError>;
}

/// A flat store of immutable objects.
///
/// An object becomes visible under its name only when all of its bytes are durable. Objects are
/// never overwritten: storing a name that exists leaves what is there, which content-derived and
/// fresh names make the same bytes.
pub trait Remote: Send + Sync {
    /// Reads a whole object of at most `max` bytes.
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError>;

    /// Reads `len` bytes from `offset`; an object that ends earlier is [`RemoteError::Size`].
    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError>;

    /// Stores an object. Its name is fresh or made from its content, so no remote has to look first; one
    /// that can tell for nothing leaves an object of that name as it is. Returns when the remote has
    /// confirmed the object's size.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError>;

    /// Begins an object of `folder` (a top-level one) whose bytes are handed over as they are made.
    /// `None` where a remote wants to be told the length first: the caller keeps the bytes, and puts them.
    fn begin(&self, folder: &str) -> Result<Option<Box<dyn Upload>>, RemoteError> {
        let _ = folder;
        Ok(None)
    }

    /// Begins an object of a fresh name in a folder whose bytes are handed over as they are made, however many they will be.
    /// On a remote of rclone's this is the only object that can be seen before it is whole.
    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        let source = io::ErrorKind::Unsupported.into();
        Err(RemoteError::Io { verb: Verb::Put, name: name.to_string(), source })
    }

    /// Stores an object under a name that others may choose too; one that is there already stays, and is
    /// [`RemoteError::Exists`].
    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        match self.size(name) {
            Ok(_) => Err(RemoteError::Exists { name: name.to_string() }),
            Err(e) if e.is_not_found() => self.put(name, bytes),
            Err(e) => Err(e),
        }
    }

    /// Lists the objects of a folder and of the folders below it, in no particular order. A folder
    /// that does not exist is empty.
    ///
    /// An object of the folder `packs` lies in the folder of the first two characters of its base name
    /// (`packs/ab/ab12...`): the listing of rclone's has base names only, and full names are made again
    /// by that rule. Whoever uses a listing checks each name against the layout of the repository.
    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError>;

    /// Stored bytes of an object.
    fn size(&self, name: &str) -> Result<u64, RemoteError>;

    /// Removes an object; one that does not exist is no error.
    fn delete(&self, name: &str) -> Result<(), RemoteError>;

    /// SHA-256 of objects of these names and sizes, from a service that keeps it or computes it where they
    /// are: of those that it tells of, by name. `None` where there is no such service.
    fn sha256(&self, objects: &[(&str, u64)]) -> Result<Option<BTreeMap<String, [u8; 32]>>, RemoteError> {
        let _ = objects;
        Ok(None)
    }

    /// Where this is, for people.
    fn location(&self) -> String;

    /// How many requests are worth having under way at once: few where they cost processor time, more
    /// where they wait for a network.
    fn parallel_requests(&self) -> usize {
        1
    }

    /// True where a request costs next to nothing, so that objects are best read piece by piece.
    fn is_near(&self) -> bool {
        self.local_directory().is_some()
    }

    /// The directory that holds the objects, when they are local files; never backed up.
    fn local_directory(&self) -> Option<std::path::PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests;
