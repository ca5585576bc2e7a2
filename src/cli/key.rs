//! `exuvia key`.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{Context, Opened};
use super::init::Kdf;
use super::interrupt::OnSignal;
use super::key_rotate;
use super::output::Table;
use super::passphrase;
use super::{text, units};
use crate::app::{self, KeyInfo, KeyOutcome, ScryptParams};
use crate::model::Timestamp;

/// Manage the passphrases of a repository
///
/// Each key opens the repository with a passphrase of its own; adding and removing keys rewrites no data.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia key list\n  exuvia key add --label phone --new-passphrase-file ./new\n  exuvia key remove 3f9a"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the keys
    List,
    /// Add a key with a new passphrase
    Add {
        /// Name of the key
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// A writer key: it can add snapshots, and read none
        #[arg(long)]
        write_only: bool,
        #[command(flatten)]
        new: NewPassphrase,
    },
    Rotate(key_rotate::Args),
    /// Remove a key
    Remove {
        /// The key's id, or a unique beginning of it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Replace the key in use by one with a new passphrase
    Change {
        #[command(flatten)]
        new: NewPassphrase,
    },
}

#[derive(clap::Args, Debug)]
struct NewPassphrase {
    /// A file that holds the new passphrase [env: EXUVIA_NEW_PASSPHRASE, EXUVIA_NEW_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    kdf: Kdf,
}

/// A key as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    /// It belongs to the passphrase in use; only then are the other fields known.
    current: bool,
    created: Option<String>,
    label: Option<&'a str>,
}

impl<'a> From<&'a KeyInfo> for Row<'a> {
    fn from(key: &'a KeyInfo) -> Self {
        let opened = key.opened.as_ref();
        Self {
            id: key.id.to_string(),
            current: opened.is_some(),
            created: opened.map(|(created, _)| units::rfc3339(Timestamp::from_secs(*created))),
            label: opened.map(|(_, label)| label.as_str()),
        }
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    action: &'static str,
    id: String,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    if let Command::Rotate(args) = &args.command {
        return key_rotate::run(args, ctx);
    }
    let opened = ctx.open(OnSignal::End)?;
    match &args.command {
        Command::List => list(ctx, &opened),
        Command::Rotate(_) => Ok(Status::Done),
        Command::Add { label, write_only: true, new } => {
            let (passphrase, params) = new.obtain(ctx)?;
            let label = label.as_deref().unwrap_or_default();
            let added = opened.run(|session| app::key_add_writer(session, &passphrase, params, label))?;
            tell(ctx, "added", &KeyOutcome { id: added.key })
        }
        Command::Add { label, write_only: false, new } => {
            let (passphrase, params) = new.obtain(ctx)?;
            let label = label.as_deref().unwrap_or_default();
            let key = opened.run(|session| app::key_add(session, &passphrase, params, label))?;
            tell(ctx, "added", &key)
        }
        Command::Remove { id } => {
            let key = opened.run(|session| app::key_remove(session, id))?;
            tell(ctx, "removed", &key)
        }
        Command::Change { new } => {
            let (passphrase, params) = new.obtain(ctx)?;
            let key = opened.run(|session| app::key_change(session, &passphrase, params))?;
            if opened.default_key {
                ctx.output.warn(
                    "the generated key file of the default repository opens it no more; from now on give \
                     the new passphrase, for example with EXUVIA_PASSPHRASE_FILE",
                );
            }
            tell(ctx, "changed", &key)
        }
    }
}

impl NewPassphrase {
    fn obtain(&self, ctx: &Context) -> Result<(app::Passphrase, ScryptParams), CliError> {
        let obtained = passphrase::new_one(ctx, self.new_passphrase_file.as_deref())?;
        Ok((obtained.passphrase, self.kdf.params(ScryptParams::PASSPHRASE)))
    }
}

fn list(ctx: &Context, opened: &Opened) -> Result<Status, CliError> {
    let keys = opened.run(app::key_list)?;
    if ctx.output.json {
        ctx.output.document(&keys.iter().map(Row::from).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    let mut table = Table::new(&["ID", "IN USE", "CREATED", "LABEL"], &[]);
    for key in &keys {
        let (created, label) = match &key.opened {
            Some((created, label)) => {
                (units::local(Timestamp::from_secs(*created)), text::printable(label.as_bytes()))
            }
            None => Default::default(),
        };
        let used = if key.opened.is_some() { "yes" } else { "" };
        table.row(vec![key.id.short(), used.to_owned(), created, label]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    Ok(Status::Done)
}

fn tell(ctx: &Context, action: &'static str, key: &KeyOutcome) -> Result<Status, CliError> {
    if ctx.output.json {
        ctx.output.document(&Summary { r#type: "summary", action, id: key.id.to_string() })?;
    } else {
        ctx.output.summary(&format!("{action} key {}", key.id.short()))?;
    }
    Ok(Status::Done)
}
