//! Why a tar stream could not be written or read.

use std::io;

use crate::full::FullError;
use crate::model::{Classify, ErrorClass};

/// What is wrong with a tar stream, or with what it is read from or written to.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream below failed; it may be a [`FullError`].
    #[error(transparent)]
    Source(FullError),
    /// The bytes break a rule of the format, or can be read in two ways.
    #[error("damaged: {what} (member at byte {at} of the tar stream)")]
    Damaged {
        /// Where the headers of the member begin, in bytes from the beginning of the tar stream.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// More than the limits allow.
    #[error("refused: {what} (member at byte {at} of the tar stream)")]
    Limit {
        /// Where the headers of the member begin, in bytes from the beginning of the tar stream.
        at: u64,
        /// Which limit.
        what: &'static str,
    },
    /// It cannot be written in a tar stream.
    #[error("cannot be written to an archive: {0}")]
    Unwritable(&'static str),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Source(FullError::from_io(error))
    }
}

impl Classify for TarError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Source(error) => error.class(),
            Self::Damaged { .. } | Self::Limit { .. } => ErrorClass::Damaged,
            Self::Unwritable(_) => ErrorClass::Failed,
        }
    }
}
