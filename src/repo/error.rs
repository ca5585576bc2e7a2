//! What goes wrong with a repository.

use std::io;
use std::path::PathBuf;

use crate::crypto::PhraseError;
use crate::format::FormatError;
use crate::model::{BlobId, Classify, ErrorClass, KeyId};
use crate::remote::RemoteError;

/// Errors of the repository layer; each names the object.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// No marker at the remote.
    #[error("there is no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// `init` found one.
    #[error("there is a repository at {location} already")]
    Exists {
        /// Where it is.
        location: String,
    },
    /// The place holds something that is not a repository.
    #[error("{location} is not empty and holds no repository")]
    NotEmpty {
        /// The place.
        location: String,
    },
    /// The passphrase opens none of the key objects.
    #[error("wrong passphrase: it opens no key of {location} (keys tried: {keys})")]
    WrongKey {
        /// The repository.
        location: String,
        /// How many keys were tried.
        keys: usize,
        /// The passphrase looks like a recovery phrase, and is none.
        phrase: Option<PhraseError>,
    },
    /// What only an owner key can do.
    #[error("this is a writer key: it can add snapshots, and read none")]
    WriterKey,
    /// A key of an older generation than this machine has seen.
    #[error(
        "this passphrase opens a key of generation {found} only, and this machine has seen generation {seen}: the keys were rotated, and this one is given up"
    )]
    OldKey {
        /// That of the key.
        found: u8,
        /// The newest that was seen.
        seen: u8,
    },
    /// A rotation has replaced the key that the passphrase opens.
    #[error(
        "this passphrase opens a key of generation {found} only, and key {} is of generation {seen}: the keys were rotated, and this one is given up",
        key.short()
    )]
    NewerKey {
        /// The newer one.
        key: KeyId,
        /// The generation that the passphrase opens.
        found: u8,
        /// That of the newer one.
        seen: u8,
    },
    /// There is a marker but no key object.
    #[error("the repository at {location} has no key objects; its data cannot be read without them")]
    NoKeys {
        /// The repository.
        location: String,
    },
    /// An object is not what the format says.
    #[error("{name}: {source}")]
    Object {
        /// The object.
        name: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// An object's bytes do not have the hash that is its name.
    #[error("{name}: its content does not match its name")]
    NameMismatch {
        /// The object.
        name: String,
    },
    /// No index object knows a blob that is needed.
    #[error("blob {id} is in no pack of the index")]
    UnknownBlob {
        /// The blob.
        id: BlobId,
    },
    /// A blob's bytes do not have its id.
    #[error("blob {id} in {pack} is damaged")]
    BlobMismatch {
        /// The blob.
        id: BlobId,
        /// The pack that was read.
        pack: String,
    },
    /// A manifest's segments contradict each other.
    #[error("the manifest is damaged: {what}")]
    Manifest {
        /// The rule that is broken.
        what: &'static str,
    },
    /// What was written cannot be read back.
    #[error("{name} was stored but reads back differently; the snapshot cannot be relied on")]
    ReadBack {
        /// The object.
        name: String,
    },
    /// A local cache file could not be written, or not be read where it had been good before.
    #[error("cannot use the cache at {path}: {source}")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A key that is named does not exist, or names several.
    #[error("{0}")]
    Key(String),
    /// A new passphrase is that of a key that is there.
    #[error("key {} has this passphrase already", key.short())]
    KeyKnown {
        /// That key.
        key: KeyId,
    },
    /// The key to be removed is the last one that is known to open the repository.
    #[error("key {} is the only one that is known to open the repository", key.short())]
    LastKey {
        /// The key.
        key: KeyId,
    },
    /// What was stored as a key object does not come back, or does not open.
    #[error("{name} was stored but reads back differently; it cannot be relied on")]
    KeyReadBack {
        /// The object.
        name: String,
    },
    /// A passphrase was changed, and its old key object could not be removed.
    #[error(
        "key {} with the new passphrase is stored, but key {} with the old one could not be removed: {source}",
        key.short(),
        old.short()
    )]
    OldKeyStays {
        /// The new key.
        key: KeyId,
        /// The old one.
        old: KeyId,
        /// Why it is still there.
        source: Box<RepoError>,
    },
    /// While a key was removed, somebody else removed those that remained.
    #[error(
        "somebody else removed the other keys at the same time, so key {} {}",
        key.short(),
        if *put_back { "was put back" } else { "was not removed" }
    )]
    KeysGone {
        /// The key that was to be removed.
        key: KeyId,
        /// It had been removed already.
        put_back: bool,
    },
    /// Another rotation is about to make a key of the same generation.
    #[error("key {} is the claim of another rotation, which runs at the same time or was cut off", key.short())]
    OtherRotation {
        /// Its claim.
        key: KeyId,
    },
    /// Two master keys of one generation: each opens what the other does not.
    #[error(
        "key {} has another master key of generation {generation} than this passphrase opens; what was sealed under it is lost with it",
        key.short()
    )]
    OtherMaster {
        /// The key of the other one.
        key: KeyId,
        /// The generation of both.
        generation: u8,
    },
    /// The key objects are not those that were found a moment ago.
    #[error("the keys were changed by somebody else at the same time, or the listing of them lags behind")]
    KeysChange,
    /// A rotation gave way before any key was changed.
    #[error(
        "{source}; no key was changed{}",
        left.as_ref().map(|left| format!(", but the rotation's claim keys/{claim} could not be removed: {left}"))
            .unwrap_or_default()
    )]
    RotationStopped {
        /// What it had stored by then.
        claim: KeyId,
        /// Why that is still there.
        left: Option<Box<RepoError>>,
        /// Why it gave way.
        source: Box<RepoError>,
    },
    /// A rotation was cut off when its new key may have been stored.
    #[error(
        "the rotation is not finished, and no key was removed; the new one, {}, may be in use already: {source}",
        key.short()
    )]
    RotationCut {
        /// The new key.
        key: KeyId,
        /// What failed.
        source: Box<RepoError>,
    },
    /// A worker thread ended without a result.
    #[error("a worker thread failed")]
    Worker,
    /// The remote failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl RepoError {
    /// True when the storage service or the disk, and not what it stores, is at fault: nothing is known of the object.
    #[must_use]
    pub fn is_service_failure(&self) -> bool {
        matches!(self, Self::Remote(error) if error.says_nothing())
    }

    /// True when what is there was sealed with keys that are newer than those at hand.
    #[must_use]
    pub fn is_rotated(&self) -> bool {
        matches!(self, Self::Object { source: FormatError::Generation(_), .. })
    }

    /// Attaches an object's name to a format error.
    pub(crate) fn object(name: &str) -> impl FnOnce(FormatError) -> Self + '_ {
        move |source| Self::Object { name: name.to_string(), source }
    }
}

impl Classify for RepoError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoRepository { .. } => ErrorClass::NoRepository,
            Self::Exists { .. } | Self::NotEmpty { .. } | Self::Cache { .. } | Self::Worker => {
                ErrorClass::Failed
            }
            Self::WrongKey { .. } | Self::OldKey { .. } | Self::NewerKey { .. } => ErrorClass::WrongKey,
            Self::WriterKey => ErrorClass::WriterKey,
            Self::Key(_) | Self::KeyKnown { .. } | Self::LastKey { .. } => ErrorClass::Usage,
            Self::KeysGone { .. } => ErrorClass::Failed,
            Self::OtherRotation { .. } | Self::KeysChange => ErrorClass::Busy,
            Self::OldKeyStays { source, .. }
            | Self::RotationStopped { source, .. }
            | Self::RotationCut { source, .. } => source.class(),
            Self::OtherMaster { .. }
            | Self::NoKeys { .. }
            | Self::NameMismatch { .. }
            | Self::UnknownBlob { .. }
            | Self::BlobMismatch { .. }
            | Self::Manifest { .. }
            | Self::KeyReadBack { .. }
            | Self::ReadBack { .. } => ErrorClass::Damaged,
            Self::Object { source, .. } => source.class(),
            Self::Remote(error) => error.class(),
        }
    }
}
