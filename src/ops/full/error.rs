//! Why nothing came of it.

use std::io;
use std::path::PathBuf;

use crate::full::FullError;
use crate::full::tar::TarError;
use crate::model::{Classify, ErrorClass};
use crate::ops::{backup, drill};
use crate::remote::{Fault, RemoteError};
use crate::repo::RepoError;

/// Why an operation on full archives failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source, or the snapshot that an import makes.
    #[error(transparent)]
    Backup(backup::Error),
    /// There is no archive of this name.
    #[error("there is no full archive {name} in {place}")]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        place: String,
    },
    /// The beginning of a name fits several.
    #[error("{name} is the beginning of {found} archives in {place}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        place: String,
        /// How many it fits.
        found: usize,
    },
    /// The top of a remote, or a name that is none.
    #[error("{0} is no folder; archives lie in a folder of a remote")]
    NoFolder(String),
    /// There is none that is whole.
    #[error("there is no whole full archive in {0}")]
    Nothing(String),
    /// It has no mark, or not the one that it should have.
    #[error("{name} {what}")]
    NotWhole {
        /// The archive.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// Two runs of one second were given one name, and the other one has it.
    #[error(
        "{0} is that of another run, which began in the same second; the archive of this run is not stored"
    )]
    Taken(String),
    /// It is encrypted, and nothing says with what.
    #[error("{0} is encrypted with openssl, and there is no passphrase for it")]
    NoPassphrase(String),
    /// The bytes of an archive.
    #[error("{name}: {source}")]
    Stream {
        /// The archive.
        name: String,
        /// What is wrong with them.
        source: TarError,
    },
    /// A member that no honest archive has.
    #[error("{name}: member {member}: {what}; nothing of this archive is taken from there on")]
    Hostile {
        /// The archive.
        name: String,
        /// The member's name, made fit to be shown.
        member: String,
        /// What is wrong with it.
        what: String,
    },
    /// The archive is not the one that its mark is about.
    #[error("{name} is not what its mark says: {what}")]
    Altered {
        /// The archive.
        name: String,
        /// In what.
        what: &'static str,
    },
    /// A restore that did not come to its end.
    #[error("{source}; what came before it is in {partial}")]
    Cut {
        /// Why.
        source: Box<Self>,
        /// Where what was extracted lies.
        partial: PathBuf,
    },
    /// The target cannot be used.
    #[error("cannot write to {path}: {source}")]
    Target {
        /// The target.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The target holds something.
    #[error("{0} is there already and not empty; an archive is put into a new folder")]
    Occupied(PathBuf),
    /// The target lies in the repository or the cache.
    #[error("{0} belongs to the repository or its cache; choose another directory")]
    OwnDirectory(PathBuf),
    /// Nothing would be kept.
    #[error("no rule says which full archives are kept")]
    NoRule,
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The reader of the output went away, or it could not be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// The folder for what is looked at.
    #[error(transparent)]
    Scratch(drill::Error),
    /// The repository failed.
    #[error(transparent)]
    Repo(RepoError),
}

impl From<RepoError> for Error {
    fn from(error: RepoError) -> Self {
        if error.class() == ErrorClass::Interrupted { Self::Interrupted } else { Self::Repo(error) }
    }
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Self {
        RepoError::from(error).into()
    }
}

impl From<backup::Error> for Error {
    fn from(error: backup::Error) -> Self {
        match error {
            backup::Error::Interrupted => Self::Interrupted,
            other => Self::Backup(other),
        }
    }
}

impl From<drill::Error> for Error {
    fn from(error: drill::Error) -> Self {
        match error {
            drill::Error::Interrupted => Self::Interrupted,
            other => Self::Scratch(other),
        }
    }
}

impl Error {
    /// What a stream of the archive `name` failed with. The remote below it has words of its own.
    pub(super) fn of_stream(name: &str, error: TarError) -> Self {
        match error {
            TarError::Source(FullError::Io(error)) => match error.downcast::<RemoteError>() {
                Ok(remote) => remote.into(),
                Err(error) => match error.downcast::<Output>() {
                    Ok(Output(error)) => Self::Output(error),
                    Err(error) => {
                        let source = TarError::Source(FullError::Io(error));
                        Self::Stream { name: name.to_string(), source }
                    }
                },
            },
            source => Self::Stream { name: name.to_string(), source },
        }
    }

    /// The same for errors below the tar stream.
    pub(super) fn of_container(name: &str, error: FullError) -> Self {
        Self::of_stream(name, TarError::Source(error))
    }

    /// A member that is refused.
    pub(super) fn hostile(name: &str, member: &[u8], what: impl Into<String>) -> Self {
        let member = String::from_utf8_lossy(member.get(..200).unwrap_or(member)).into_owned();
        Self::Hostile { name: name.to_string(), member, what: what.into() }
    }

    /// What kind of failure a storage service reported, if one did.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Repo(RepoError::Remote(RemoteError::Service { fault, .. }))
            | Self::Backup(backup::Error::Repo(RepoError::Remote(RemoteError::Service { fault, .. }))) => {
                Some(*fault)
            }
            Self::Cut { source, .. } => source.fault(),
            _ => None,
        }
    }
}

/// An error of who takes the bytes of an export, on its way through the writers above.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Output(pub(super) io::Error);

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Backup(e) => e.class(),
            Self::Scratch(e) => e.class(),
            Self::Repo(e) => e.class(),
            Self::Stream { source, .. } => source.class(),
            Self::Cut { source, .. } => source.class(),
            Self::NotFound { .. }
            | Self::Ambiguous { .. }
            | Self::NoRule
            | Self::NoFolder(_)
            | Self::OwnDirectory(_)
            | Self::Occupied(_) => ErrorClass::Usage,
            Self::NoPassphrase(_) => ErrorClass::WrongKey,
            Self::NotWhole { .. } | Self::Hostile { .. } | Self::Altered { .. } => ErrorClass::Damaged,
            Self::Nothing(_) | Self::Taken(_) | Self::Target { .. } | Self::Output(_) => ErrorClass::Failed,
            Self::Interrupted => ErrorClass::Interrupted,
        }
    }
}
