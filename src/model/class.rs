//! How an error matters to the caller. `cli` maps each class to one exit code.

/// The classes of failure that scripts can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Anything that fits no other class: I/O errors, a full disk, a remote that does not answer.
    Failed,
    /// A wrong argument or configuration.
    Usage,
    /// The remote holds no repository.
    NoRepository,
    /// Another operation holds the state dir or the service.
    Busy,
    /// The passphrase or key opens nothing here.
    WrongKey,
    /// A writer key was given for what only an owner key can do.
    WriterKey,
    /// An object is missing, altered, or not what the format allows.
    Damaged,
    /// The repository needs a newer program.
    Unsupported,
    /// The user or the system asked us to stop.
    Interrupted,
}

impl ErrorClass {
    /// The class of this name; [`Self::Failed`] for a name that is none, as newer programs may have.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        const ALL: [ErrorClass; 8] = [
            ErrorClass::Usage,
            ErrorClass::NoRepository,
            ErrorClass::Busy,
            ErrorClass::WrongKey,
            ErrorClass::WriterKey,
            ErrorClass::Damaged,
            ErrorClass::Unsupported,
            ErrorClass::Interrupted,
        ];
        ALL.into_iter().find(|class| class.name() == name).unwrap_or(Self::Failed)
    }

    /// The name used in JSON error documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NoRepository => "no-repository",
            Self::Busy => "busy",
            Self::WrongKey => "wrong-key",
            Self::WriterKey => "writer-key",
            Self::Damaged => "damaged",
            Self::Unsupported => "unsupported",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Every module's error type tells its class.
pub trait Classify {
    /// The class that decides the exit code.
    fn class(&self) -> ErrorClass;
}
