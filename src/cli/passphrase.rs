//! Where a passphrase comes from. Never from the command line, which every process can read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::error::CliError;
use super::global::Context;
use super::settings::Origin;
use super::text;
use crate::app::Passphrase;
use crate::config::{Config, Environment};
use crate::model::ErrorClass;

const MAX_BYTES: usize = 64 * 1024;

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
}

const CURRENT: Names = Names { value: "EXUVIA_PASSPHRASE", file: "EXUVIA_PASSPHRASE_FILE" };
const COMMAND: &str = "EXUVIA_PASSPHRASE_COMMAND";
const NEW: Names = Names { value: "EXUVIA_NEW_PASSPHRASE", file: "EXUVIA_NEW_PASSPHRASE_FILE" };

/// The passphrase from environment or configuration file, if either names one.
pub(super) fn configured(ctx: &Context) -> Result<Option<Obtained>, CliError> {
    let (env, config): (&Environment, &Config) = (&ctx.env, &ctx.config);
    if let Some(obtained) = from_environment(ctx, &CURRENT)? {
        return Ok(Some(obtained));
    }
    if let Some(command) = env.get(COMMAND) {
        return from_command(&command, COMMAND).map(Some);
    }
    if let Some(path) = &config.passphrase_file {
        return from_file(ctx, path, &format!("passphrase_file {}", text::show(path))).map(Some);
    }
    if let Some(command) = &config.passphrase_command {
        return from_command(command.as_ref(), "passphrase_command").map(Some);
    }
    Ok(None)
}

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
    if let Some((_, origin)) = set(COMMAND) {
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
    let Some(path) = ctx.env.path(names.file) else { return Ok(None) };
    from_file(ctx, &path, &format!("{} {}", names.file, text::show(&path))).map(Some)
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
    Err(CliError::usage("no new passphrase is given, and there is no terminal to ask for it")
        .hint(format!("give --new-passphrase-file FILE, or set {} or {}", NEW.value, NEW.file)))
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
fn from_command(command: &std::ffi::OsStr, source: &str) -> Result<Obtained, CliError> {
    let failed = |e: io::Error| CliError::usage(format!("cannot run {source}: {e}"));
    let mut child =
        Command::new("sh").arg("-c").arg(command).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let read = child.stdout.take().map_or_else(|| Ok(Zeroizing::default()), read_bounded);
    if read.is_err() {
        // It may go on printing for ever.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    let bytes = read.map_err(failed)?;
    if !status.success() {
        return Err(CliError::usage(format!("{source} failed: {status}")));
    }
    Obtained::new(line(bytes), source)
}

/// The buffer never grows, so that no copy of a secret stays behind in freed memory.
fn read_bounded(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 64));
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 64 KiB"));
    }
    Ok(bytes)
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
        "set {}, {} or {COMMAND}, or passphrase_file or passphrase_command in the configuration file",
        CURRENT.value, CURRENT.file
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn commands_print_the_passphrase() {
        let run = |command: &str| from_command(command.as_ref(), "X");
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
    fn reading_ends_at_the_limit() {
        assert_eq!(read_bounded(&vec![b'a'; MAX_BYTES][..]).unwrap().len(), MAX_BYTES);
        assert!(read_bounded(io::repeat(b'a')).is_err());
    }
}
