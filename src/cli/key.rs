//! `exuvia key`.

use clap::Subcommand;
use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{Context, Opened};
use super::interrupt::OnSignal;
use super::key_keyring;
use super::key_new::{New, NewPassphrase};
use super::key_recovery;
use super::key_rotate;
use super::output::Table;
use super::repository::Place;
use super::{confirm, passphrase, text, units};
use crate::app::{self, KeyDescription, KeyInfo, KeyKind, Location};
use crate::model::{KeyId, Timestamp};

/// Manage the passphrases of a repository
///
/// Each key opens the repository with a passphrase of its own; adding, changing and removing keys rewrites no data.
/// New passphrases are asked for twice on a terminal, or come from --new-passphrase-file, EXUVIA_NEW_PASSPHRASE,
/// EXUVIA_NEW_PASSPHRASE_FILE or EXUVIA_NEW_PASSPHRASE_COMMAND, never from the command line.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia key list\n  exuvia key add --label phone\n  exuvia key add --label cron --generate-key-file ~/.config/exuvia/cron.key\n  exuvia key change\n  exuvia key remove 3f9a\n  exuvia key recovery"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the keys
    ///
    /// With --json, an array of objects with `id`, `current` (the passphrase in use opens it), `kind` (owner, writer, or
    /// claim: a rotation that is being made or was cut off), `created`, `label` and `writer_key` (what snapshots name a
    /// writer key by), which are null for a key that does not say, `size` in bytes, `kdf_log_n` (the cost of trying a
    /// passphrase) and `problem`.
    #[command(after_help = "Examples:\n  exuvia key list\n  exuvia --json key list")]
    List,
    /// Add a key with a new passphrase
    ///
    /// Reports success when the new passphrase has opened what was stored.
    #[command(
        after_help = "Examples:\n  exuvia key add --label phone\n  EXUVIA_NEW_PASSPHRASE_COMMAND='pass show backup/cron' exuvia key add --label cron\n  exuvia key add --label cron --generate-key-file ~/.config/exuvia/cron.key"
    )]
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
    ///
    /// Asks first. The last key that is known to open the repository stays. Who copied the repository before can
    /// open the copy with the removed key.
    #[command(
        after_help = "Examples:\n  exuvia key list\n  exuvia key remove 3f9a\n  exuvia key remove 3f9a --yes"
    )]
    Remove {
        /// The key's id, or a unique beginning of it
        #[arg(value_name = "ID")]
        id: String,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
        /// Remove the key in use, too
        #[arg(long)]
        force: bool,
    },
    /// Replace the key in use by one with a new passphrase
    ///
    /// The old key goes when the new passphrase has opened what was stored. A change that was interrupted before is
    /// finished by the same command.
    #[command(
        after_help = "Examples:\n  exuvia key change\n  exuvia key change --new-passphrase-file ./new\n  exuvia key change --generate-key-file ~/.config/exuvia/agent.key"
    )]
    Change {
        #[command(flatten)]
        new: NewPassphrase,
    },
    Recovery(key_recovery::Args),
    Keyring(key_keyring::Args),
}

/// A key as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    current: bool,
    kind: Option<&'static str>,
    created: Option<String>,
    label: Option<&'a str>,
    /// What snapshots name a writer key by.
    writer_key: Option<String>,
    size: u64,
    kdf_log_n: Option<u8>,
    problem: Option<&'a str>,
}

impl<'a> From<&'a KeyInfo> for Row<'a> {
    fn from(key: &'a KeyInfo) -> Self {
        let described = key.description.as_ref();
        Self {
            id: key.id.to_string(),
            current: key.current,
            kind: described.map(|d| kind(d.kind)),
            created: described.map(|d| units::rfc3339(Timestamp::from_secs(d.created))),
            label: described.map(|d| d.label.as_str()),
            writer_key: described.and_then(|d| d.writer).map(|writer| writer.to_string()),
            size: key.size,
            kdf_log_n: key.cost.map(|cost| cost.log_n),
            problem: key.problem.as_deref(),
        }
    }
}

fn kind(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Owner => "owner",
        KeyKind::Writer => "writer",
        KeyKind::Claim => "claim",
    }
}

/// Of a writer key, also what snapshots name it by.
fn kind_and_writer(described: &KeyDescription) -> String {
    match described.writer {
        Some(writer) => format!("{} {}", kind(described.kind), writer.short()),
        None => kind(described.kind).to_owned(),
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    action: &'static str,
    id: String,
    #[serde(flatten)]
    more: More,
}

/// What only some commands have to say.
#[derive(Serialize, Default)]
struct More {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<String>,
    /// Keys that went for the one of `id`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
    /// What snapshots name a writer key by.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer_key: Option<String>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    match &args.command {
        Command::List => list(ctx, &ctx.open(OnSignal::End)?),
        Command::Add { label, write_only, new } => {
            add(ctx, label.as_deref().unwrap_or_default(), *write_only, new)
        }
        Command::Rotate(args) => key_rotate::run(args, ctx),
        Command::Remove { id, yes, force } => remove(ctx, id, *yes, *force),
        Command::Change { new } => change(ctx, new),
        Command::Recovery(args) => key_recovery::run(args, ctx),
        Command::Keyring(args) => key_keyring::run(args, ctx),
    }
}

fn add(ctx: &Context, label: &str, write_only: bool, new: &NewPassphrase) -> Result<Status, CliError> {
    let (opened, new) = open_and_obtain(ctx, new, false)?;
    let added = opened.run(|session| match write_only {
        true => app::key_add_writer(session, &new.passphrase, new.params, label)
            .map(|added| (added.key, Some(added.writer.to_string()))),
        false => app::key_add(session, &new.passphrase, new.params, label).map(|key| (key, None)),
    });
    let (key, writer_key) = added.map_err(|e| new.explain(e))?;
    tell(ctx, "added", key, More { key_file: shown(&new), writer_key, ..More::default() })
}

fn change(ctx: &Context, new: &NewPassphrase) -> Result<Status, CliError> {
    let (opened, new) = open_and_obtain(ctx, new, true)?;
    let change = opened
        .run(|session| app::key_change(session, &new.passphrase, new.params))
        .map_err(|e| new.explain(e))?;
    if change.resumed {
        ctx.output.say("there was a key with the new passphrase already; it stays");
    }
    if opened.default_key {
        ctx.output.warn(
            "the generated key file of the default repository opens it no more; from now on give \
             the new passphrase, for example with EXUVIA_PASSPHRASE_FILE",
        );
    } else if opened.source() == passphrase::KEYRING {
        ctx.output
            .warn("the keyring still has the old passphrase; `exuvia key keyring store --replace` stores the new one");
    }
    let removed = change.removed.iter().map(ToString::to_string).collect();
    tell(ctx, "changed", change.key, More { key_file: shown(&new), removed, ..More::default() })
}

/// What is there is opened first, so that nobody types a new passphrase for nothing.
/// `again`: the key file may be there from an earlier try, if what is in it opens the repository.
fn open_and_obtain(ctx: &Context, new: &NewPassphrase, again: bool) -> Result<(Opened, New), CliError> {
    let place = Place::of(ctx)?;
    let obtained = place.passphrase(ctx)?;
    let opened = ctx.open_with(&place, obtained, OnSignal::End)?;
    opened.run(app::unlock)?;
    let local = if let Location::Local(path) = &place.location { Some(path.as_path()) } else { None };
    let opens = |key: &app::Passphrase| again && opened.run(|session| app::key_opens(session, key)).is_ok();
    let new = new.obtain(ctx, local, &opens)?;
    Ok((opened, new))
}

fn shown(new: &New) -> Option<String> {
    new.key_file.as_deref().map(text::show)
}

fn remove(ctx: &Context, id: &str, yes: bool, force: bool) -> Result<Status, CliError> {
    let opened = ctx.open(OnSignal::End)?;
    let plan = opened.run(|session| app::key_removal(session, id))?;
    let key = plan.key().clone();
    if key.current && !force {
        return Err(CliError::usage(format!("key {} is the one in use", key.id.short())).hint(
            "open the repository with another passphrase to remove it; --force removes it all the same",
        ));
    }
    let mut words = format!("Remove key {}", key.id.short());
    if let Some(described) = &key.description {
        let created = units::local(Timestamp::from_secs(described.created));
        words += &format!(
            " ({}, {}, made {created})",
            text::printable(described.label.as_bytes()),
            kind(described.kind)
        );
    }
    let is_claim = key.description.as_ref().is_some_and(|described| described.kind == KeyKind::Claim);
    let then = match is_claim {
        true => "If its rotation still runs, it gives up.",
        false => "Its passphrase opens the repository no more.",
    };
    if !confirm::ask(&format!("{words}? {then}"), yes)? {
        return Err(CliError::failed("nothing was removed"));
    }
    opened.run(|session| plan.run(session))?;
    tell(ctx, "removed", key.id, More::default())
}

fn list(ctx: &Context, opened: &Opened) -> Result<Status, CliError> {
    let keys = opened.run(app::key_list)?;
    if ctx.output.json {
        ctx.output.document(&keys.iter().map(Row::from).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    let mut table = Table::new(&["ID", "IN USE", "KIND", "CREATED", "LABEL"], &[]);
    for key in &keys {
        let (kind, created, label) = match &key.description {
            Some(described) => (
                kind_and_writer(described),
                units::local(Timestamp::from_secs(described.created)),
                text::printable(described.label.as_bytes()),
            ),
            None => ("?".to_owned(), String::new(), String::new()),
        };
        let used = if key.current { "yes" } else { "" };
        table.row(vec![key.id.short(), used.to_owned(), kind, created, label]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    for key in &keys {
        match (&key.problem, &key.description) {
            (Some(problem), _) => ctx.output.warn(&format!("key {}: {problem}", key.id.short())),
            (None, None) => ctx.output.say(&format!(
                "key {} does not say what it is: an older version made it, or an init that was interrupted",
                key.id.short()
            )),
            (None, Some(_)) => {}
        }
    }
    Ok(Status::Done)
}

fn tell(ctx: &Context, action: &'static str, key: KeyId, more: More) -> Result<Status, CliError> {
    if ctx.output.json {
        ctx.output.document(&Summary { r#type: "summary", action, id: key.to_string(), more })?;
        return Ok(Status::Done);
    }
    let mut words = format!("{action} key {}", key.short());
    if let Some(writer) = &more.writer_key {
        words += &format!("\nits snapshots are by writer key {}", writer.get(..8).unwrap_or(writer));
    }
    if let Some(file) = &more.key_file {
        words += &format!("\nits key file: {file}\nKeep a copy of it elsewhere.");
    }
    ctx.output.summary(&words)?;
    Ok(Status::Done)
}
