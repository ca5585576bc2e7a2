//! The passphrase of a new key.

use std::io;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::global::{self, Context};
use super::init::Kdf;
use super::{key_file, passphrase, text};
use crate::app::{Passphrase, ScryptParams};

/// Where the passphrase of a new key comes from.
#[derive(clap::Args, Debug)]
pub(super) struct NewPassphrase {
    /// A file that holds the new passphrase [env: EXUVIA_NEW_PASSPHRASE, EXUVIA_NEW_PASSPHRASE_FILE,
    /// EXUVIA_NEW_PASSPHRASE_COMMAND] [default: asked for on the terminal, twice]
    #[arg(long, value_name = "FILE", conflicts_with = "generate_key_file")]
    new_passphrase_file: Option<PathBuf>,

    /// Generate a key of 256 bits in place of a passphrase, and write it to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    generate_key_file: Option<PathBuf>,

    #[command(flatten)]
    kdf: Kdf,
}

/// A new passphrase, and what it costs to try one.
pub(super) struct New {
    pub(super) passphrase: Passphrase,
    pub(super) params: ScryptParams,
    /// The file that was made for it.
    pub(super) key_file: Option<PathBuf>,
}

impl NewPassphrase {
    /// `inside`: a local repository, in which no key file may lie. `opens`: whether what an earlier try generated was
    /// stored by it, so that its file is used again.
    pub(super) fn obtain(
        &self,
        ctx: &Context,
        inside: Option<&Path>,
        opens: &dyn Fn(&Passphrase) -> bool,
    ) -> Result<New, CliError> {
        if let Some(path) = &self.generate_key_file {
            let path = global::absolute(path)?;
            let source = format!("--generate-key-file {}", text::show(&path));
            let read = || passphrase::from_file(ctx, &path, &source).map(|obtained| obtained.passphrase);
            let params = self.kdf.params(ScryptParams::GENERATED);
            if path.exists() {
                let known = read().ok().filter(|key| key_file::is_key(key.as_bytes()) && opens(key));
                let passphrase = known.ok_or_else(|| is_there(&path))?;
                return Ok(New { passphrase, params, key_file: None });
            }
            generate(&path, inside)?;
            return Ok(New { passphrase: read()?, params, key_file: Some(path) });
        }
        let obtained = passphrase::new_one(ctx, self.new_passphrase_file.as_deref())?;
        passphrase::warn_if_short(ctx, &obtained);
        let params = self.kdf.params(ScryptParams::PASSPHRASE);
        Ok(New { passphrase: obtained.passphrase, params, key_file: None })
    }
}

impl New {
    /// Adds to what is said of a failure that there is a file now.
    pub(super) fn explain(&self, error: CliError) -> CliError {
        match &self.key_file {
            Some(path) => error.hint(format!(
                "{} was written; if `exuvia key list` shows no key made now, it opens nothing and can be removed",
                text::show(path)
            )),
            None => error,
        }
    }
}

fn generate(path: &Path, inside: Option<&Path>) -> Result<(), CliError> {
    let shown = text::show(path);
    if inside.is_some_and(|repository| path.starts_with(repository)) {
        return Err(CliError::usage(format!("{shown} is in the repository, where a key protects nothing")));
    }
    key_file::write(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => CliError::failed(format!("cannot write the key file {shown}: {e}")),
    })
}

fn is_there(path: &Path) -> CliError {
    let shown = text::show(path);
    CliError::usage(format!("{shown} is there already; no key is overwritten"))
        .hint(format!("to take the key that is in it: --new-passphrase-file {shown}"))
}
