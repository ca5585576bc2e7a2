//! `exuvia config import`.

use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{self, Context};
use super::output::Table;
use super::{key_file, settings, text};
use crate::config::Config;
use crate::config::draft::{self, DraftError, Replace, Value};
use crate::config::import::{self, Answer, Fate, Import, ImportError, Outside, Passphrase, Plugin};
use crate::model::{Classify, Secret};

/// Names that are tried for a file of a passphrase.
const NAMES: usize = 100;

/// Make a configuration of what an earlier plugin has in openclaw.json
///
/// Reads the settings of openclaw-workspace-sync or openclaw-b2-backup, and tells of each of their keys what
/// became of it: taken, changed, not needed, later (a later version will do that), not understood, unknown.
/// Nothing of openclaw.json is changed.
///
/// What is a secret there goes into the new file, which only you can read, or stays ${NAME} where it was that.
/// The passphrase gets a file of its own beside it; where the plugin had none, one is made.
///
/// With --json, one object with `keys`: an array of objects with `key`, `fate`, `to` and `words`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia config import --dry-run\n  exuvia config import\n  exuvia config import ~/.openclaw/openclaw.json --output ./exuvia.toml\n  exuvia config import --plugin b2-backup --force"
)]
pub(super) struct Args {
    /// openclaw.json, or a file with the plugin's settings alone [default: $OPENCLAW_CONFIG_PATH, or openclaw.json
    /// in the state dir]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Where the configuration goes [default: what --config or EXUVIA_CONFIG name, or ~/.config/exuvia/config.toml]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace a configuration that is there; it is kept with .old after its name, or .old-2 and so on
    #[arg(long, short)]
    force: bool,

    /// Tell what would become of each key, and write nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Whose settings, where both plugins have some
    #[arg(long, value_enum)]
    plugin: Option<PluginArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PluginArg {
    /// openclaw-workspace-sync
    WorkspaceSync,
    /// openclaw-b2-backup
    B2Backup,
}

impl From<PluginArg> for Plugin {
    fn from(plugin: PluginArg) -> Self {
        match plugin {
            PluginArg::WorkspaceSync => Self::WorkspaceSync,
            PluginArg::B2Backup => Self::B2Backup,
        }
    }
}

/// What `--json` shows.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    plugin: &'static str,
    from: text::JsonPath,
    /// None for a dry run.
    config: Option<text::JsonPath>,
    /// The file of the passphrase, where there is one.
    passphrase_file: Option<text::JsonPath>,
    dry_run: bool,
    keys: Vec<Row<'a>>,
    notes: &'a [String],
    /// Variables that are not set here.
    unset_variables: &'a [String],
    /// Folders of agents that no backup of the state dir takes.
    outside: Vec<OutsideRow<'a>>,
    /// The configuration that was there before.
    old: Option<text::JsonPath>,
}

#[derive(Serialize)]
struct OutsideRow<'a> {
    key: &'a str,
    #[serde(flatten)]
    path: text::JsonPath,
}

#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    fate: String,
    to: Option<&'a str>,
    words: &'a str,
}

impl<'a> From<&'a Answer> for Row<'a> {
    fn from(answer: &'a Answer) -> Self {
        let Answer { key, fate, to, words } = answer;
        Self { key, fate: fate.name().replace(' ', "_"), to: to.as_deref(), words }
    }
}

/// What was written, or would be.
struct Done {
    import: Import,
    from: PathBuf,
    output: PathBuf,
    passphrase_file: Option<PathBuf>,
    /// The passphrase was made for the new repository.
    generated: bool,
    old: Option<PathBuf>,
    unset: Vec<String>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let from = args.file.clone().or_else(|| match states_dir(ctx) {
        true => settings::state_dir(ctx).ok().map(|(dir, _)| dir.join("openclaw.json")),
        false => import::default_file(&ctx.env),
    });
    let from = global::absolute(&from.ok_or_else(|| global::no_home("FILE"))?)?;
    let named = args.output.clone().or_else(|| ctx.args.config.clone());
    let output = named.or_else(|| in_force(ctx));
    let output = global::absolute(&output.ok_or_else(|| global::no_home("--output"))?)?;
    let state_dir = state_dir(args, &from, ctx)?;
    let plugin = args.plugin.map(Into::into);
    let import = import::import(&from, plugin, &state_dir, &ctx.env).map_err(|e| refused(&e))?;
    let done = place(args, ctx, import, from, output)?;
    show(args, ctx, &done)?;
    Ok(Status::Done)
}

/// The configuration file that commands use to whom none is named.
fn in_force(ctx: &Context) -> Option<PathBuf> {
    ctx.env.path("EXUVIA_CONFIG").or_else(|| Config::default_path(&ctx.env))
}

/// Whether somebody says for this run which state dir is meant.
fn states_dir(ctx: &Context) -> bool {
    ctx.args.state_dir.is_some() || ctx.env.get("EXUVIA_STATE_DIR").is_some()
}

/// Where `openclaw.json` lies that was named, unless somebody says otherwise.
fn state_dir(args: &Args, from: &Path, ctx: &Context) -> Result<PathBuf, CliError> {
    match from.parent() {
        Some(folder) if !states_dir(ctx) && args.file.is_some() && from.ends_with("openclaw.json") => {
            Ok(folder.to_owned())
        }
        _ => Ok(settings::state_dir(ctx)?.0),
    }
}

/// Writes the files, unless this is a rehearsal. What was made is taken back when the rest fails.
fn place(
    args: &Args,
    ctx: &Context,
    mut import: Import,
    from: PathBuf,
    output: PathBuf,
) -> Result<Done, CliError> {
    let folder = output.parent().unwrap_or(Path::new("/")).to_owned();
    let secret = match &import.passphrase {
        Passphrase::Given(secret) => Some(secret.clone()),
        _ => None,
    };
    let generated = import.passphrase == Passphrase::Generate;
    let name = if generated { "imported.key" } else { "imported.passphrase" };
    let with_file = generated || secret.is_some();
    if with_file {
        import.draft.set("passphrase_file", Value::text(folder.join(name).to_string_lossy()));
    }
    let checked = import.draft.check(&output, &ctx.env);
    let checked = checked.map_err(|e| incomplete(&DraftError::Config(e)))?;
    let mut unset = [checked.unset, import.unset_variables(&ctx.env)].concat();
    unset.sort();
    unset.dedup();
    let mut done = Done {
        import,
        from,
        passphrase_file: with_file.then(|| folder.join(name)),
        output,
        generated,
        old: None,
        unset,
    };
    if args.dry_run {
        return Ok(done);
    }
    if !args.force && done.output.symlink_metadata().is_ok() {
        return Err(exists(&DraftError::Exists(done.output)));
    }
    let failed = |e: io::Error| {
        CliError::failed(format!("cannot write the passphrase into {}: {e}", text::show(&folder)))
    };
    let mut made = None;
    if with_file {
        let (path, new) = match &secret {
            Some(secret) => given(&folder, secret),
            None => fresh(&folder.join(name)),
        }
        .map_err(failed)?;
        done.import.draft.set("passphrase_file", Value::text(path.to_string_lossy()));
        made = new.then(|| path.clone());
        done.passphrase_file = Some(path);
    }
    let replace = if args.force { Replace::Yes } else { Replace::No };
    match done.import.draft.write(&done.output, &ctx.env, replace) {
        Ok(written) => done.old = written.old,
        Err(e) => {
            // Nobody has used it yet.
            made.into_iter().for_each(|path| drop(std::fs::remove_file(path)));
            return Err(exists(&e));
        }
    }
    Ok(done)
}

/// A generated key. One that an earlier import made may open a repository by now, and is used again.
fn fresh(path: &Path) -> io::Result<(PathBuf, bool)> {
    match key_file::write(path) {
        Ok(()) => Ok((path.to_owned(), true)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let key = std::fs::read(path)?;
            let is_key = key_file::is_key(key.trim_ascii_end());
            if is_key { Ok((path.to_owned(), false)) } else { Err(e) }
        }
        Err(e) => Err(e),
    }
}

/// The plugin's passphrase in a file of its own. One that holds another passphrase may open a repository, and is
/// left alone.
fn given(folder: &Path, secret: &Secret) -> io::Result<(PathBuf, bool)> {
    for number in 1..=NAMES {
        let name = if number == 1 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("imported{name}.passphrase"));
        match draft::write_secret(&path, secret) {
            Ok(()) => return Ok((path, true)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if draft::holds_secret(&path, secret) {
                    return Ok((path, false));
                }
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "there are too many files of that name"))
}

fn refused(error: &ImportError) -> CliError {
    let out = CliError::new(error.class(), error.to_string());
    match error {
        ImportError::Both(_) => out.hint("--plugin workspace-sync or --plugin b2-backup chooses one"),
        ImportError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            out.hint("name it: `exuvia config import FILE`")
        }
        ImportError::Nothing { .. } => {
            out.hint("they stand in plugins.entries; a file that holds such a block alone will do, too")
        }
        _ => out,
    }
}

fn incomplete(error: &DraftError) -> CliError {
    CliError::new(error.class(), format!("what the block says makes no configuration; {error}"))
        .hint("lines are those of the file that would be written; nothing was")
}

fn exists(error: &DraftError) -> CliError {
    let out = CliError::new(error.class(), error.to_string());
    match error {
        DraftError::Exists(_) => out
            .hint("--force replaces it, and keeps the old one beside it; --output FILE writes another")
            .hint("--dry-run shows what would become of each key"),
        _ => out,
    }
}

fn show(args: &Args, ctx: &Context, done: &Done) -> Result<(), CliError> {
    let Import { plugin, answers, notes, outside, .. } = &done.import;
    let json = |path: &Path| text::JsonPath::from(path);
    if ctx.output.json {
        let written = done.passphrase_file.as_deref().filter(|_| !args.dry_run);
        return ctx.output.document(&Summary {
            r#type: "summary",
            plugin: plugin.name(),
            from: json(&done.from),
            config: (!args.dry_run).then(|| json(&done.output)),
            passphrase_file: written.map(json),
            dry_run: args.dry_run,
            keys: answers.iter().map(Into::into).collect(),
            notes,
            unset_variables: &done.unset,
            outside: outside.iter().map(|one| OutsideRow { key: &one.key, path: json(&one.path) }).collect(),
            old: done.old.as_deref().map(json),
        });
    }
    let mut table = Table::new(&["KEY", "", "HERE", ""], &[]);
    for Answer { key, fate, to, words } in answers {
        let cell = |text: &str| text::printable(text.as_bytes());
        let to = to.as_deref().unwrap_or(if *fate == Fate::Unknown { "?" } else { "-" });
        table.row(vec![cell(key), fate.name().to_owned(), to.to_owned(), cell(words)]);
    }
    ctx.output.result(&table.render(&ctx.output))?;
    notes.iter().for_each(|note| ctx.output.say(&format!("note: {}", text::printable(note.as_bytes()))));
    if !done.unset.is_empty() {
        let names = done.unset.join(", ");
        ctx.output.warn(&format!(
            "not set here, and needed by every command that opens the repository: {names}; OpenClaw may have them from \
             its own .env file"
        ));
    }
    outside.iter().for_each(|one| ctx.output.warn(&outside_words(one)));
    ctx.output.summary(&words(args, ctx, done))
}

/// What to do about a folder that no backup of the state dir takes.
pub(super) fn outside_words(one: &Outside) -> String {
    let path = text::show(&one.path);
    let word = text::shell_word(one.path.as_os_str());
    format!(
        "{path} ({}) is not in the state dir, and backups of that do not take it: `exuvia backup {word}` does; as `post` \
         in [hooks.backup], with the program's full path, it follows each scheduled backup; or move the folder into the \
         state dir",
        text::printable(one.key.as_bytes())
    )
}

/// What was done, and what comes next.
fn words(args: &Args, ctx: &Context, done: &Done) -> String {
    let output = text::show(&done.output);
    if args.dry_run {
        return format!("dry run: {output} was not written");
    }
    let mut lines = vec![format!("wrote {output}")];
    lines.extend(done.old.iter().map(|old| format!("the one before it is {}", text::show(old))));
    if let Some(path) = &done.passphrase_file {
        let what = if done.generated { "a new key is in" } else { "the passphrase is in" };
        lines.push(format!("{what} {}", text::show(path)));
        lines.push("Keep a copy of it elsewhere: without it nothing can be restored.".to_owned());
    }
    let used = in_force(ctx).and_then(|path| global::absolute(&path).ok());
    let exuvia = match used.as_ref() == Some(&done.output) {
        true => "exuvia".to_owned(),
        false => format!("exuvia --config {}", text::shell_word(done.output.as_os_str())),
    };
    lines.push(format!("next: `{exuvia} config check`, `{exuvia} init`, `{exuvia} backup`"));
    lines.join("\n")
}
