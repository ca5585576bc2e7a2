//! Where a passphrase comes from. Never from the command line, which every process can read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::CliError;
use super::global::Context;
use super::helper::{self, read_bounded};
use super::keyring::Item;
use super::settings::{self, Origin};
use super::text;
use crate::app::Passphrase;
use crate::config::Config;
use crate::model::ErrorClass;

/// Fewer characters than these can be guessed by whoever has the repository.
const SHORT: usize = 12;

/// A passphrase and where it came from.
pub(super) struct Obtained {
    pub(super) passphrase: Passphrase,
    /// In words, for hints.
    pub(super) source: String,
    /// It is the content of the key file of the embedded default.
    pub(super) default_key: bool,
}

impl Obtained {
    fn new(passphrase: Passphrase, source: impl Into<String>) -> Result<Self, CliError> {
        let source = source.into();
        if passphrase.is_empty() {
            return Err(CliError::usage(format!("the passphrase from {source} is empty")));
        }
        Ok(Self { passphrase, source, default_key: false })
    }
}

/// The names of one passphrase's sources.
struct Names {
    value: &'static str,
    file: &'static str,
    command: &'static str,
}

const CURRENT: Names = Names {
    value: "EXUVIA_PASSPHRASE",
    file: "EXUVIA_PASSPHRASE_FILE",
    command: "EXUVIA_PASSPHRASE_COMMAND",
};
const NEW: Names = Names {
    value: "EXUVIA_NEW_PASSPHRASE",
    file: "EXUVIA_NEW_PASSPHRASE_FILE",
    command: "EXUVIA_NEW_PASSPHRASE_COMMAND",
};
const FULL: Names = Names {
    value: "EXUVIA_FULL_PASSPHRASE",
    file: "EXUVIA_FULL_PASSPHRASE_FILE",
    command: "EXUVIA_FULL_PASSPHRASE_COMMAND",
};
pub(super) use crate::model::SECRET_VARIABLES as SECRETS;

/// The passphrase of full archives in the openssl form, where one is set for them alone.
pub(super) fn of_full_archives(ctx: &Context) -> Result<Option<Obtained>, CliError> {
    if let Some(obtained) = from_environment(ctx, &FULL)? {
        return Ok(Some(obtained));
    }
    let config = &ctx.config.full;
    if let Some(path) = &config.passphrase_file {
        let source = format!("full.passphrase_file {}", text::show(path));
        return from_file(ctx, path, &source).map(Some);
    }
    let Some(command) = &config.passphrase_command else { return Ok(None) };
    from_command(command.expose().as_ref(), "full.passphrase_command", helper::LIMIT).map(Some)
}

/// The passphrase from environment, configuration file, or the keyring's item for `repository`, in this order,
/// as far as any of them is set to have one. For a repository that is not made yet the keyring has none.
pub(super) fn configured(ctx: &Context, repository: Option<&str>) -> Result<Option<Obtained>, CliError> {
    let config: &Config = &ctx.config;
    if let Some(obtained) = from_environment(ctx, &CURRENT)? {
        return Ok(Some(obtained));
    }
    let (keyring, origin) = settings::passphrase_keyring(ctx)?;
    let look = |now: bool| match repository.filter(|_| keyring && now) {
        Some(repository) => from_keyring(repository),
        None => Ok(None),
    };
    // A switch in the environment wins over what the file names.
    let early = matches!(origin, Origin::Environment(_));
    if let Some(obtained) = look(early)? {
        return Ok(Some(obtained));
    }
    if let Some(path) = &config.passphrase_file {
        return from_file(ctx, path, &format!("passphrase_file {}", text::show(path))).map(Some);
    }
    if let Some(command) = &config.passphrase_command {
        return from_command(command.as_ref(), "passphrase_command", helper::LIMIT).map(Some);
    }
    look(!early)
}

/// The keyring need not have a passphrase for every repository.
fn from_keyring(repository: &str) -> Result<Option<Obtained>, CliError> {
    let found = Item::of(repository).look()?;
    found.map(|passphrase| Obtained::new(passphrase, KEYRING)).transpose()
}

/// Where the passphrase came from when it came from the keyring.
pub(super) const KEYRING: &str = "the keyring";

/// Which setting names the passphrase, its value unless that is a secret, and who gave it. Reads nothing.
pub(super) fn source(ctx: &Context) -> Option<(&'static str, Option<OsString>, Origin)> {
    let (env, config) = (&ctx.env, &ctx.config);
    let set = |name| env.get(name).map(|value| (value, Origin::Environment(name)));
    let file = |key| Origin::of_file(ctx, config.line(key));
    if let Some((_, origin)) = set(CURRENT.value) {
        return Some(("passphrase", None, origin));
    }
    if let Some((path, origin)) = set(CURRENT.file) {
        return Some(("passphrase_file", Some(path), origin));
    }
    if let Some((_, origin)) = set(CURRENT.command) {
        return Some(("passphrase_command", None, origin));
    }
    if let Some(path) = &config.passphrase_file {
        return Some(("passphrase_file", Some(path.clone().into_os_string()), file("passphrase_file")));
    }
    config.passphrase_command.as_ref().map(|_| ("passphrase_command", None, file("passphrase_command")))
}

fn from_environment(ctx: &Context, names: &Names) -> Result<Option<Obtained>, CliError> {
    if let Some(value) = ctx.env.get(names.value) {
        return Obtained::new(Passphrase::new(value.into_encoded_bytes()), names.value).map(Some);
    }
    if let Some(path) = ctx.env.path(names.file) {
        return from_file(ctx, &path, &format!("{} {}", names.file, text::show(&path))).map(Some);
    }
    let Some(command) = ctx.env.get(names.command) else { return Ok(None) };
    from_command(&command, names.command, helper::LIMIT).map(Some)
}

/// The passphrase for a new key.
pub(super) fn new_one(ctx: &Context, file: Option<&Path>) -> Result<Obtained, CliError> {
    if let Some(path) = file {
        return from_file(ctx, path, &format!("--new-passphrase-file {}", text::show(path)));
    }
    if let Some(obtained) = from_environment(ctx, &NEW)? {
        return Ok(obtained);
    }
    if can_ask() {
        return ask_twice("New passphrase");
    }
    Err(CliError::usage("no new passphrase is given, and there is no terminal to ask for it").hint(format!(
        "give --new-passphrase-file FILE or --generate-key-file FILE, or set {}, {} or {}",
        NEW.value, NEW.file, NEW.command
    )))
}

/// Warns of a passphrase that is easily guessed. How short it is, is nobody's business.
pub(super) fn warn_if_short(ctx: &Context, obtained: &Obtained) {
    if is_short(obtained.passphrase.as_bytes()) {
        ctx.output.warn(&format!(
            "the new passphrase has fewer than {SHORT} characters: whoever gets at the repository can guess it; five \
             random words are better"
        ));
    }
}

/// Whether a passphrase is easily guessed.
pub(super) fn is_short(passphrase: &[u8]) -> bool {
    String::from_utf8_lossy(passphrase).chars().count() < SHORT
}

/// Reads the first 64 KiB of a file at most; its first line ending at the end is not part of it.
pub(super) fn from_file(ctx: &Context, path: &Path, source: &str) -> Result<Obtained, CliError> {
    let failed = |e: io::Error| CliError::usage(format!("cannot read the passphrase from {source}: {e}"));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        let path = text::show(path);
        ctx.output
            .warn(&format!("{path} holds a passphrase and is open to other users; `chmod 600` closes it"));
    }
    let bytes = read_bounded(file).map_err(failed)?;
    Obtained::new(line(bytes), source)
}

/// Runs a shell command; what it prints is the passphrase.
pub(super) fn from_command(
    command: &std::ffi::OsStr,
    source: &str,
    limit: Duration,
) -> Result<Obtained, CliError> {
    // It may ask on the terminal, and what it says of its failures is for the user.
    let answer = helper::ask(Command::new("sh").arg("-c").arg(command), None, limit)
        .map_err(|e| CliError::usage(format!("cannot run {source}: {e}")))?;
    if !answer.status.success() {
        return Err(CliError::usage(format!("{source} failed: {}", answer.status)));
    }
    Obtained::new(line(answer.stdout), source)
}

fn line(mut bytes: Zeroizing<Vec<u8>>) -> Passphrase {
    Passphrase::from_line(std::mem::take(&mut *bytes))
}

/// Whether there is somebody to ask.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks for the passphrase of a repository.
pub(super) fn ask() -> Result<Obtained, CliError> {
    Obtained::new(prompt("Passphrase: ")?, "the terminal")
}

/// Asks for a passphrase that is new, so that a slip of the finger does not lock the user out.
pub(super) fn ask_twice(what: &str) -> Result<Obtained, CliError> {
    let first = Obtained::new(prompt(&format!("{what}: "))?, "the terminal")?;
    if first.passphrase.as_bytes() != prompt(&format!("{what} again: "))?.as_bytes() {
        return Err(CliError::usage("the two passphrases differ"));
    }
    Ok(first)
}

fn prompt(words: &str) -> Result<Passphrase, CliError> {
    let text = rpassword::prompt_password(words).map_err(|e| {
        let class = match e.kind() {
            io::ErrorKind::Interrupted => ErrorClass::Interrupted,
            _ => ErrorClass::Usage,
        };
        CliError::new(class, format!("cannot read a passphrase from the terminal: {e}"))
    })?;
    Ok(Passphrase::new(text.into_bytes()))
}

/// Nothing says what the passphrase is.
pub(super) fn missing() -> CliError {
    CliError::usage("no passphrase is given, and there is no terminal to ask for it").hint(format!(
        "set {}, {} or {}, or passphrase_file or passphrase_command in the configuration file",
        CURRENT.value, CURRENT.file, CURRENT.command
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn commands_print_the_passphrase() {
        let run = |command: &str| from_command(command.as_ref(), "X", helper::LIMIT);
        assert_eq!(run("echo secret").unwrap().passphrase.as_bytes(), b"secret");
        assert_eq!(run("printf ' a\\nb'").unwrap().passphrase.as_bytes(), b" a\nb");
        for (command, want) in [
            ("echo secret; exit 3", "X failed: exit status: 3"),
            ("true", "the passphrase from X is empty"),
            ("yes", "cannot run X: it is longer than 64 KiB"),
        ] {
            assert_eq!(run(command).err().unwrap().message, want, "{command}");
        }
    }

    #[test]
    fn a_command_that_never_ends_is_given_up() {
        let error = from_command("exec tail -f /dev/null".as_ref(), "X", Duration::from_millis(20));
        let message = error.err().unwrap().message;
        assert!(message.starts_with("cannot run X: no answer within"), "{message}");
    }
}
