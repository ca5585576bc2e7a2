//! Why an archive could not be written or read.

use std::io;

use crate::crypto::CryptoError;
use crate::format::FormatError;
use crate::model::{Classify, ErrorClass};

/// Why the bytes of an archive could not be made or taken.
#[derive(Debug, thiserror::Error)]
pub enum FullError {
    /// What the archive is read from, or written to, failed.
    #[error(transparent)]
    Io(io::Error),
    /// The sealed container is not what it should be, or not made with these keys.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The bytes break a rule of the form.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// The archive ends before its end.
    #[error("damaged: the archive is cut off: {0}")]
    Truncated(&'static str),
    /// What comes out of an encrypted archive is no gzip. There is nothing in it that tells a wrong passphrase
    /// from damage.
    #[error("the passphrase is wrong, or the beginning of the archive is damaged")]
    WrongPassphrase,
    /// More comes out than the limits allow.
    #[error("refused: {0}")]
    Bomb(&'static str),
    /// A thread of the compression ended before its work.
    #[error("compression failed: {0}")]
    Compression(&'static str),
}

impl FullError {
    /// What went wrong in a reader or writer of this module that speaks in the errors of `std::io`.
    #[must_use]
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(other) => Self::Io(other),
        }
    }

    /// The same in the errors of `std::io`: never as it was, so that the codecs above tell it from their own.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}

impl From<CryptoError> for FullError {
    fn from(error: CryptoError) -> Self {
        Self::Format(error.into())
    }
}

impl Classify for FullError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Io(_) | Self::Compression(_) => ErrorClass::Failed,
            Self::Format(error) => error.class(),
            Self::Damaged(_) | Self::Truncated(_) | Self::Bomb(_) => ErrorClass::Damaged,
            Self::WrongPassphrase => ErrorClass::WrongKey,
        }
    }
}
