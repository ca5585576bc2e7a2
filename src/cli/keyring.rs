//! The keyring of the operating system, by the programs that speak with it: `secret-tool` (libsecret: GNOME, KDE and
//! others) and, on macOS, `security`. A secret reaches them by their input, never by an argument.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::error::CliError;
use super::helper::{self, Answer};
use super::text;
use crate::app::Passphrase;

/// What our items are found by, beside the name of the repository.
const SERVICE: &str = "exuvia";
/// `security` answers so when it has no such item.
const NO_ITEM: i32 = 44;
/// Longest passphrase that is handed over, in bytes: `security` reads lines.
const LONGEST: usize = 1024;

/// The program that speaks with the keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    SecretTool,
    Security,
}

/// One call of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Look,
    Store,
    Forget,
}

impl Tool {
    fn of_this_system() -> Self {
        if cfg!(target_os = "macos") { Self::Security } else { Self::SecretTool }
    }

    fn program(self) -> &'static str {
        match self {
            Self::SecretTool => "secret-tool",
            Self::Security => "security",
        }
    }

    /// Its arguments; none of them is secret.
    fn arguments(self, call: Call, repository: &str) -> Vec<String> {
        let words: &[&str] = match (self, call) {
            (Self::SecretTool, Call::Look) => &["lookup", "application", SERVICE, "repository", repository],
            (Self::SecretTool, Call::Forget) => &["clear", "application", SERVICE, "repository", repository],
            (Self::SecretTool, Call::Store) => {
                let label = format!("--label=Exuvia: {repository}");
                return ["store", &label, "application", SERVICE, "repository", repository]
                    .map(String::from)
                    .into();
            }
            (Self::Security, Call::Look) => &["find-generic-password", "-s", SERVICE, "-a", repository, "-w"],
            (Self::Security, Call::Forget) => &["delete-generic-password", "-s", SERVICE, "-a", repository],
            // Commands come by its input.
            (Self::Security, Call::Store) => &["-i"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What it is given to store a passphrase; `None` when it cannot take it exactly.
    fn input(self, repository: &str, passphrase: &Passphrase) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = passphrase.as_bytes();
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LONGEST)?;
        // Both programs end or change a text at some control character.
        if text.contains(char::is_control) {
            return None;
        }
        match self {
            Self::SecretTool => Some(Zeroizing::new(bytes.to_vec())),
            Self::Security => {
                // Its answer for other text is in hex, with nothing that says so.
                let exact = text.is_ascii() && !repository.contains(['"', '\\', '\n']);
                let mut line = Zeroizing::new(Vec::with_capacity(2 * LONGEST + repository.len() + 100));
                line.extend_from_slice(
                    format!("add-generic-password -U -s {SERVICE} -a \"{repository}\" -X ").as_bytes(),
                );
                let hex = Zeroizing::new(HEXLOWER.encode(bytes));
                line.extend_from_slice(hex.as_bytes());
                line.push(b'\n');
                exact.then_some(line)
            }
        }
    }

    /// It says that there is no such item.
    fn found_nothing(self, answer: &Answer) -> bool {
        match self {
            Self::SecretTool => answer.status.code() == Some(1) && answer.stderr.trim_ascii().is_empty(),
            Self::Security => answer.status.code() == Some(NO_ITEM),
        }
    }
}

/// The passphrase of one repository in the keyring.
pub(super) struct Item<'a> {
    tool: Tool,
    repository: &'a str,
}

impl<'a> Item<'a> {
    /// `repository` is what people call it, without secrets.
    pub(super) fn of(repository: &'a str) -> Self {
        Self { tool: Tool::of_this_system(), repository }
    }

    /// The passphrase, if there is one.
    pub(super) fn look(&self) -> Result<Option<Passphrase>, CliError> {
        let mut answer = self.call(Call::Look, None)?;
        if self.tool.found_nothing(&answer) {
            return Ok(None);
        }
        self.succeeded(&answer)?;
        let passphrase = Passphrase::from_line(std::mem::take(&mut *answer.stdout));
        Ok(Some(passphrase).filter(|passphrase| !passphrase.is_empty()))
    }

    /// Stores a passphrase in the place of the one that is there, and looks whether it is there.
    pub(super) fn store(&self, passphrase: &Passphrase) -> Result<(), CliError> {
        let input = self.tool.input(self.repository, passphrase).ok_or_else(|| {
            CliError::usage(format!("{} cannot keep this passphrase exactly", self.tool.program()))
                .hint("keep it in a file, or let a passphrase command print it")
        })?;
        let answer = self.call(Call::Store, Some(&input))?;
        self.succeeded(&answer)?;
        match self.look()? {
            Some(kept) if kept.as_bytes() == passphrase.as_bytes() => Ok(()),
            _ => Err(CliError::failed(format!(
                "{} says that it stored the passphrase, and does not give it back",
                self.tool.program()
            ))),
        }
    }

    /// Removes the passphrase. False when there was none.
    pub(super) fn forget(&self) -> Result<bool, CliError> {
        if self.look()?.is_none() {
            return Ok(false);
        }
        self.succeeded(&self.call(Call::Forget, None)?)?;
        match self.look()? {
            None => Ok(true),
            Some(_) => Err(CliError::failed("the keyring still has the passphrase")),
        }
    }

    fn call(&self, call: Call, input: Option<&[u8]>) -> Result<Answer, CliError> {
        let program = self.tool.program();
        let mut command = Command::new(program);
        command.args(self.tool.arguments(call, self.repository)).stderr(Stdio::piped());
        if input.is_none() {
            command.stdin(Stdio::null());
        }
        // What speaks with the keyring needs none of our secrets.
        for name in super::passphrase::SECRETS {
            command.env_remove(name);
        }
        // A terminal's Ctrl-C is for us: what is stored is taken back then, and that by such a program, too.
        command.process_group(0);
        helper::ask(&mut command, input, helper::LIMIT).map_err(|e| {
            let error = CliError::usage(format!("cannot ask the keyring: {program}: {e}"));
            match e.kind() {
                io::ErrorKind::NotFound => {
                    error.hint("secret-tool is in the package libsecret-tools (Debian, Ubuntu) or libsecret")
                }
                _ => error,
            }
        })
    }

    fn succeeded(&self, answer: &Answer) -> Result<(), CliError> {
        if answer.status.success() {
            return Ok(());
        }
        let said = text::printable(answer.stderr.trim_ascii());
        let program = self.tool.program();
        Err(CliError::failed(format!("the keyring failed: {program}: {}: {said}", answer.status))
            .hint("is the keyring running, and unlocked? without a desktop session there is usually none"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_are_no_arguments() {
        let passphrase = Passphrase::new(b"correct horse".to_vec());
        for tool in [Tool::SecretTool, Tool::Security] {
            for call in [Call::Look, Call::Store, Call::Forget] {
                let arguments = tool.arguments(call, "/mnt/agent").join(" ");
                assert!(!arguments.contains("horse"), "{tool:?} {call:?}: {arguments}");
                assert!(
                    arguments.contains("/mnt/agent") || arguments == "-i",
                    "{tool:?} {call:?}: {arguments}"
                );
            }
            assert!(tool.input("/mnt/agent", &passphrase).is_some());
        }
        assert_eq!(&*Tool::SecretTool.input("/r", &passphrase).unwrap(), b"correct horse");
        assert_eq!(
            &*Tool::Security.input("/r", &passphrase).unwrap(),
            b"add-generic-password -U -s exuvia -a \"/r\" -X 636f727265637420686f727365\n"
        );
    }

    #[test]
    fn what_would_come_back_as_something_else_is_refused() {
        let takes = |tool: Tool, repository: &str, bytes: &[u8]| {
            tool.input(repository, &Passphrase::new(bytes.to_vec())).is_some()
        };
        for tool in [Tool::SecretTool, Tool::Security] {
            for bytes in [&b"a\nb"[..], b"a\0b", b"\xff", &[b'a'; LONGEST + 1]] {
                assert!(!takes(tool, "/r", bytes), "{tool:?} {bytes:?}");
            }
            assert!(takes(tool, "/r", &[b'a'; LONGEST]));
        }
        assert!(takes(Tool::SecretTool, "/r", "é".as_bytes()));
        assert!(!takes(Tool::Security, "/r", "é".as_bytes()));
        assert!(!takes(Tool::Security, "/a\" -w \"b", b"a"));
    }
}
