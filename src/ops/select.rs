//! Which snapshot the user means.

use crate::model::{Classify, ErrorClass};

/// Why no snapshot could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The repository has no snapshot.
    #[error("the repository has no snapshot yet")]
    Empty,
    /// Nothing fits.
    #[error("no snapshot matches {0:?}")]
    NoMatch(String),
    /// Several ids begin so.
    #[error("{0:?} is the beginning of several snapshots' ids; give more of it")]
    Ambiguous(String),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Empty => ErrorClass::Failed,
            Self::NoMatch(_) | Self::Ambiguous(_) => ErrorClass::Usage,
        }
    }
}
