//! What can end a command, its exit code, and the hints that help the user on.

use serde::Serialize;

use crate::app::AppError;
use crate::config::ConfigError;
use crate::model::{Classify, ErrorClass};

/// Ends a command.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) class: ErrorClass,
    pub(super) message: String,
    pub(super) hints: Vec<String>,
}

impl CliError {
    pub(super) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hints: Vec::new() }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Usage, message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Failed, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(super) fn document(&self) -> ErrorDocument<'_> {
        ErrorDocument {
            r#type: "error",
            class: self.class.name(),
            message: &self.message,
            hint: (!self.hints.is_empty()).then(|| self.hints.join("\n")),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

/// An error as `--json` shows it.
#[derive(Serialize)]
pub(super) struct ErrorDocument<'a> {
    r#type: &'static str,
    class: &'static str,
    message: &'a str,
    hint: Option<String>,
}

/// How a command ended that did not fail as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Done,
    /// Some source files could not be read.
    Incomplete,
    /// The work was done, and what it found or left counts as a failure.
    Bad(ErrorClass),
}

impl Status {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Incomplete => 3,
            Self::Bad(class) => exit_code(class),
        }
    }
}

/// The exit code of each class of error: the only place that knows.
pub(super) fn exit_code(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Failed | ErrorClass::Unsupported => 1,
        ErrorClass::Usage => 2,
        ErrorClass::NoRepository => 10,
        ErrorClass::Busy => 11,
        ErrorClass::WrongKey => 12,
        ErrorClass::Damaged => 13,
        ErrorClass::Interrupted => 130,
    }
}

/// What the hints depend on.
pub(super) struct Situation {
    /// The repository is the one that the first backup makes when nothing is configured.
    pub(super) unmade: bool,
    /// Where the passphrase came from, in words.
    pub(super) passphrase: String,
}

/// Adds the hints that fit. `None` when the reader of the output went away: that is no error, and
/// nobody is there to read about it.
pub(super) fn explain(error: &AppError, situation: &Situation) -> Option<CliError> {
    if let AppError::Output(e) = error
        && e.kind() == std::io::ErrorKind::BrokenPipe
    {
        return None;
    }
    let class = error.class();
    let out = CliError::new(class, error.to_string());
    Some(match (error, class) {
        (AppError::Select(_), ErrorClass::Usage) => out.hint("`exuvia snapshots` lists what there is"),
        (AppError::Select(_), _) => out.hint("`exuvia backup` takes one"),
        (AppError::Path { .. }, ErrorClass::Usage) => {
            out.hint("`exuvia ls SNAP` lists the paths of a snapshot")
        }
        (_, ErrorClass::NoRepository) => no_repository(out, situation.unmade),
        (_, ErrorClass::WrongKey) => out.hint(format!("the passphrase came from {}", situation.passphrase)),
        (_, ErrorClass::Damaged) => {
            out.hint("`exuvia check --read-data` finds everything that is damaged and whom it hurts")
        }
        (_, ErrorClass::Unsupported) => out.hint("a newer release of exuvia can open it"),
        _ => out,
    })
}

/// An unmounted disk must not look like a first run, so the hint names both.
pub(super) fn no_repository(error: CliError, unmade: bool) -> CliError {
    if unmade {
        error
            .hint("nothing is configured, so this is the default place; `exuvia backup` makes a repository there")
            .hint("to use another one, give --repo or set EXUVIA_REPO")
    } else {
        error
            .hint("is the disk mounted, and the path right?")
            .hint("`exuvia init` makes a new repository there")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        for (class, code) in [
            (ErrorClass::Failed, 1),
            (ErrorClass::Unsupported, 1),
            (ErrorClass::Usage, 2),
            (ErrorClass::NoRepository, 10),
            (ErrorClass::Busy, 11),
            (ErrorClass::WrongKey, 12),
            (ErrorClass::Damaged, 13),
            (ErrorClass::Interrupted, 130),
        ] {
            assert_eq!(exit_code(class), code, "{class:?}");
            assert_eq!(Status::Bad(class).code(), code);
        }
        assert_eq!((Status::Done.code(), Status::Incomplete.code()), (0, 3));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let situation = Situation { unmade: false, passphrase: String::new() };
        let error = |kind: std::io::ErrorKind| AppError::Output(kind.into());
        assert!(explain(&error(std::io::ErrorKind::BrokenPipe), &situation).is_none());
        assert!(explain(&error(std::io::ErrorKind::StorageFull), &situation).is_some());
    }

    #[test]
    fn the_document_has_all_of_its_fields() {
        let json = |e: &CliError| serde_json::to_string(&e.document()).unwrap();
        assert_eq!(
            json(&CliError::usage("m").hint("a").hint("b")),
            r#"{"type":"error","class":"usage","message":"m","hint":"a\nb"}"#
        );
        assert_eq!(
            json(&CliError::failed("m")),
            r#"{"type":"error","class":"failed","message":"m","hint":null}"#
        );
    }
}
