//! Bytes to model and back, one file per kind of object and version, as `format-spec/` states them.
//!
//! Decoders treat every byte as hostile: counts and lengths are checked against the bytes that are
//! left before memory is taken, and nothing is returned unless all of it is well-formed.

pub mod acceptance_v1;
pub mod drill_v1;
pub mod full_mark_v1;
pub mod gc_v1;
pub mod index_v1;
pub mod key_description_v1;
pub mod key_v1;
pub mod limits;
pub mod marker_v1;
pub mod pack_v1;
mod record;
pub mod removal_v1;
pub mod sealed_v1;
pub mod segment_v1;
pub mod slices_v1;
pub mod snapshot_v1;
#[cfg(test)]
mod tests;
mod varint;

use crate::crypto::CryptoError;
use crate::model::{Classify, ErrorClass};

/// The version of the format that this program writes.
pub const FORMAT_VERSION: u8 = 1;

/// Why bytes could not be taken as what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes break a rule of the format.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// The bytes are not what was sealed: altered, or made under another key.
    #[error("damaged: authentication failed")]
    Authentication,
    /// A newer program is needed.
    #[error("unsupported: {0}; a newer version of exuvia is needed")]
    Unsupported(String),
    /// No passphrase given opens the key object.
    #[error("the passphrase does not open this key")]
    WrongKey,
    /// Sealed under a newer master key than those at hand.
    #[error(
        "sealed with keys of generation {0}, which this key does not have: the keys were rotated since it was made"
    )]
    Generation(u8),
    /// The key at hand adds snapshots and reads none.
    #[error("a writer key cannot read it: it can add snapshots, and read none")]
    WriterKey,
    /// The data to be written is beyond a limit of the format.
    #[error("cannot be stored: {0}")]
    TooLarge(&'static str),
    /// The system failed us.
    #[error(transparent)]
    System(CryptoError),
}

impl Classify for FormatError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Damaged(_) | Self::Authentication => ErrorClass::Damaged,
            Self::Unsupported(_) => ErrorClass::Unsupported,
            Self::WrongKey | Self::Generation(_) => ErrorClass::WrongKey,
            Self::WriterKey => ErrorClass::WriterKey,
            Self::TooLarge(_) | Self::System(_) => ErrorClass::Failed,
        }
    }
}

impl From<CryptoError> for FormatError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::Authentication => Self::Authentication,
            CryptoError::Parameters => Self::Damaged("key derivation parameters are outside the limits"),
            CryptoError::Generation(generation) => Self::Generation(generation),
            CryptoError::WriterKey => Self::WriterKey,
            CryptoError::Random => Self::System(error),
        }
    }
}
