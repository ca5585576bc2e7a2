//! What the earlier plugins' blocks in `openclaw.json` say, as a configuration of this program.
//!
//! Every key of a block is answered for: taken, changed, not needed, for later, not understood, or unknown.

mod b2_backup;
mod block;
mod json;
mod rclone_conf;
mod text;
mod workspace_sync;
mod workspaces;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use self::block::Block;
pub use self::workspaces::Outside;
use super::Environment;
use super::draft::{Draft, Value};
use crate::model::{Classify, ErrorClass, Secret};

/// An earlier plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// `openclaw-workspace-sync`.
    WorkspaceSync,
    /// `openclaw-b2-backup`.
    B2Backup,
}

impl Plugin {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::WorkspaceSync, Self::B2Backup];

    /// Its short name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkspaceSync => "workspace-sync",
            Self::B2Backup => "b2-backup",
        }
    }

    /// The ids under which its releases stand in `openclaw.json`.
    fn ids(self) -> [&'static str; 2] {
        match self {
            Self::WorkspaceSync => ["openclaw-workspace-sync", "workspace-sync"],
            Self::B2Backup => ["openclaw-b2-backup", "b2-backup"],
        }
    }

    /// Whether an object can be its block: it has one of these keys.
    fn owns(self, map: &Map<String, Json>) -> bool {
        let keys: &[&str] = match self {
            Self::WorkspaceSync => &["sync", "backup", "provider", "remotePath", "remoteName", "retain"],
            Self::B2Backup => &["keyId", "applicationKey", "keepSnapshots"],
        };
        keys.iter().any(|key| map.contains_key(*key))
    }
}

/// Why nothing is imported. No message holds a value of the file.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is no JSON5.
    #[error("{}:{line}: this is not JSON5: {what}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The parser's reason.
        what: String,
    },
    /// Something is wrong with what is included.
    #[error("{}: {what}", path.display())]
    Include {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// No block is there.
    #[error("{} has no settings of {wanted}", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// Of which plugins.
        wanted: &'static str,
    },
    /// Two blocks are there.
    #[error("{} has settings of both workspace-sync and b2-backup", .0.display())]
    Both(PathBuf),
    /// The block does not say where backups go.
    #[error("{key} is missing: {what}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What could be done.
        what: String,
    },
}

impl Classify for ImportError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It means the same here.
    Taken,
    /// It is taken, and is not quite what it was.
    Changed,
    /// It has no meaning here, and nothing is lost.
    NotNeeded,
    /// A later version of this program will do that.
    Later,
    /// Its value cannot be used.
    NotUnderstood,
    /// No release of the plugin that is known here has it.
    Unknown,
}

impl Fate {
    /// One or two words for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Changed => "changed",
            Self::NotNeeded => "not needed",
            Self::Later => "later",
            Self::NotUnderstood => "not understood",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of one key of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The key with the objects that it is in.
    pub key: String,
    /// In one word.
    pub fate: Fate,
    /// The key of this program's configuration, where there is one.
    pub to: Option<String>,
    /// Why, in a sentence; may be empty. Never a secret.
    pub words: String,
}

/// What a new repository's passphrase is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passphrase {
    /// This one. It belongs into a file of its own, which `passphrase_file` names.
    Given(Secret),
    /// The draft says how to get it, by these variables.
    Configured(Vec<String>),
    /// The plugin had none.
    Generate,
}

/// A block that was understood.
#[derive(Debug)]
pub struct Import {
    /// Whose it was.
    pub plugin: Plugin,
    /// The configuration, without a passphrase that is [`Passphrase::Given`].
    pub draft: Draft,
    /// What opens the repository.
    pub passphrase: Passphrase,
    /// What became of each key, in the order of the block's documentation.
    pub answers: Vec<Answer>,
    /// What the user should know beyond single keys.
    pub notes: Vec<String>,
    /// Folders of agents that a backup of the state dir does not take.
    pub outside: Vec<Outside>,
}

impl Import {
    /// Variables that the passphrase comes from and that are not set here.
    #[must_use]
    pub fn unset_variables(&self, env: &Environment) -> Vec<String> {
        match &self.passphrase {
            Passphrase::Configured(names) => {
                names.iter().filter(|name| env.get(name).is_none()).cloned().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What is known while a block is read.
struct Site<'a> {
    /// The folder of the file that has the block.
    folder: &'a Path,
    /// What is to be backed up, where the plugin keeps files of its own.
    state_dir: &'a Path,
    env: &'a Environment,
}

impl<'a> Site<'a> {
    fn of(file: &'a Path, state_dir: &'a Path, env: &'a Environment) -> Self {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self { folder: folder.unwrap_or(Path::new(".")), state_dir, env }
    }

    /// A path of the file: `~/` is the home directory, and relative ones start at the file's folder.
    fn local(&self, text: &str) -> PathBuf {
        let home = self.env.home();
        match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            (None, Some(home)) if text == "~" => home,
            _ => self.folder.join(text),
        }
    }
}

/// The file that is read when none is named.
#[must_use]
pub fn default_file(env: &Environment) -> Option<PathBuf> {
    env.path("OPENCLAW_CONFIG_PATH").or_else(|| Some(env.openclaw_state()?.join("openclaw.json")))
}

/// Reads a plugin's block from `path`: `openclaw.json`, or a file that holds the block alone. `state_dir` is
/// what is to be backed up.
pub fn import(
    path: &Path,
    plugin: Option<Plugin>,
    state_dir: &Path,
    env: &Environment,
) -> Result<Import, ImportError> {
    let whole = json::read(path)?;
    let (plugin, entry) = find(&whole, path, plugin)?;
    let site = Site::of(path, state_dir, env);
    let mut draft = Draft::new(&format!("Imported from {} by `exuvia config import`", path.display()));
    draft.set("state_dir", Value::text(state_dir.to_string_lossy()));
    let mut report = Report::default();
    let config = report.entry(entry);
    let passphrase = match plugin {
        Plugin::WorkspaceSync => workspace_sync::read(config, &site, &mut draft, &mut report)?,
        Plugin::B2Backup => b2_backup::read(config, &site, &mut draft, &mut report)?,
    };
    let Report { answers, notes } = report;
    let outside = workspaces::outside(&whole, &site);
    Ok(Import { plugin, draft, passphrase, answers, notes, outside })
}

/// Folders of agents that the file `path` puts outside of the state dir; none where it cannot be understood.
#[must_use]
pub fn outside(path: &Path, state_dir: &Path, env: &Environment) -> Vec<Outside> {
    json::read(path)
        .map(|whole| workspaces::outside(&whole, &Site::of(path, state_dir, env)))
        .unwrap_or_default()
}

/// The entry of the one plugin that is wanted, or that is there.
fn find(
    whole: &Json,
    path: &Path,
    wanted: Option<Plugin>,
) -> Result<(Plugin, Map<String, Json>), ImportError> {
    let of = |plugin: Plugin| wanted.is_none_or(|wanted| wanted == plugin);
    let mut found: Vec<_> = Plugin::ALL
        .into_iter()
        .filter(|plugin| of(*plugin))
        .filter_map(|plugin| Some((plugin, entry(whole, plugin)?)))
        .collect();
    match (found.len(), wanted) {
        (0, None) => Err(ImportError::Nothing {
            path: path.to_owned(),
            wanted: "openclaw-workspace-sync or openclaw-b2-backup",
        }),
        (0, Some(plugin)) => Err(ImportError::Nothing { path: path.to_owned(), wanted: plugin.ids()[0] }),
        (1, _) => Ok(found.swap_remove(0)),
        _ => Err(ImportError::Both(path.to_owned())),
    }
}

/// A plugin's entry: where OpenClaw keeps it, where older releases did, or the whole file.
fn entry(whole: &Json, plugin: Plugin) -> Option<Map<String, Json>> {
    let object = |value: Option<&Json>| value.and_then(Json::as_object).cloned();
    let plugins = whole.get("plugins");
    let named = plugin.ids().into_iter().find_map(|id| {
        let entries = plugins.and_then(|plugins| plugins.get("entries"));
        let places = [entries, plugins, Some(whole)];
        places.into_iter().find_map(|place| object(place.and_then(|place| place.get(id))))
    });
    let alone = || {
        let map = whole.as_object()?;
        // A whole `openclaw.json` has such words too, elsewhere.
        let config = map.get("config").and_then(Json::as_object).filter(|_| plugins.is_none());
        let own = plugins.is_none() && plugin.owns(config.unwrap_or(map));
        own.then(|| map.clone())
    };
    named.or_else(alone)
}

/// What is told of the keys.
#[derive(Default)]
struct Report {
    answers: Vec<Answer>,
    notes: Vec<String>,
}

impl Report {
    fn say(&mut self, key: &str, fate: Fate, to: Option<&str>, words: impl Into<String>) {
        let words = words.into();
        self.answers.push(Answer { key: key.to_owned(), fate, to: to.map(str::to_owned), words });
    }

    fn taken(&mut self, key: &str, to: &str) {
        self.say(key, Fate::Taken, Some(to), "");
    }

    fn unneeded(&mut self, key: &str, words: &str) {
        self.say(key, Fate::NotNeeded, None, words);
    }

    fn wrong(&mut self, key: &str, words: &str) {
        self.say(key, Fate::NotUnderstood, None, words);
    }

    fn note(&mut self, words: impl Into<String>) {
        self.notes.push(words.into());
    }

    /// The block of an entry. What stands beside it is answered for.
    fn entry(&mut self, mut entry: Map<String, Json>) -> Block {
        match entry.remove("config") {
            Some(Json::Object(config)) => {
                for (key, _) in entry {
                    match key.as_str() {
                        "enabled" => self.unneeded(
                            "enabled",
                            "it turns the plugin on or off; this program runs beside it, or instead",
                        ),
                        _ => self.unneeded(&key, "it is OpenClaw's own, and says nothing of backups"),
                    }
                }
                Block::new("", config)
            }
            other => {
                if let Some(other) = other {
                    entry.insert("config".to_owned(), other);
                }
                if entry.get("enabled").is_some_and(Json::is_boolean) && !entry.contains_key("sync") {
                    entry.remove("enabled");
                    self.unneeded("enabled", "it turns the plugin on or off");
                }
                Block::new("", entry)
            }
        }
    }
}

#[cfg(test)]
mod tests;
