//! A new configuration file, from values: what `exuvia setup` and `exuvia config import` write.
//!
//! ```text
//! let mut draft = Draft::new("Made by `exuvia setup`");
//! draft.set("state_dir", Value::text("/home/ann/.openclaw"));
//! draft.set("remote.provider", Value::text("s3"));
//! draft.set("remote.secret", Value::expression("${AWS_SECRET_ACCESS_KEY}"));
//! draft.set("schedule.backup", Value::text("1h"));
//! let written = draft.write(&path, &env, Replace::No)?;
//! ```
//!
//! Keys are those of `exuvia config keys`, with their tables before them. They come into the file in the
//! order of that page, each under a comment that says what it is for. Nothing is put in place that
//! [`Config`] would not read: [`Draft::check`] and [`Draft::write`] read the text back first.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::file::MAX_BYTES;
use super::reader::Key;
use super::values::references;
use super::{Config, ConfigError, Environment, page};
use crate::fs;
use crate::model::{Classify, ErrorClass, Secret};

/// Tables that stand on no page of their own, each after the one that it belongs to.
const BESIDE: [(&str, &str); 4] = [
    ("remote.options", "remote"),
    ("hooks.prune", "hooks.backup"),
    ("hooks.check", "hooks.backup"),
    ("hooks.drill", "hooks.backup"),
];
/// Stands for variables that are not set while a draft is read back: JSON, since tokens are.
const PLACEHOLDER: &str = "{}";

/// Older files that are kept beside the one in force.
const MOST_KEPT: usize = 1000;

/// A value of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text that means itself, whatever `$` is in it.
    Text(Secret),
    /// A text in which `${NAME}` stands for a variable.
    Expression(Secret),
    /// A whole number.
    Number(i64),
    /// On or off.
    Switch(bool),
    /// Several texts that mean themselves.
    List(Vec<String>),
}

impl Value {
    /// A text that means itself.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Secret::new(text.into()))
    }

    /// A text in which `${NAME}` stands for a variable, and `$$` for `$`.
    #[must_use]
    pub fn expression(text: impl Into<String>) -> Self {
        Self::Expression(Secret::new(text.into()))
    }

    /// As TOML. `raw`: the key's text is left to a shell.
    fn toml(&self, raw: bool) -> Zeroizing<String> {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let own = |text: &str| if raw { quoted(text) } else { quoted(&text.replace('$', "$$")) };
        Zeroizing::new(match self {
            Self::Text(text) => own(text.expose()),
            Self::Expression(text) => quoted(text.expose()),
            Self::Number(number) => number.to_string(),
            Self::Switch(on) => on.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| own(item)).collect();
                format!("[{}]", items.join(", "))
            }
        })
    }
}

/// Whether a file that is there may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It stays, and the draft is not written.
    No,
    /// It is kept beside the new one, with `.old` after its name, or `.old-2` and so on.
    Yes,
}

/// Why a draft was not written.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// It would be no configuration; lines are those of the draft.
    #[error("the configuration would not be valid: {0}")]
    Config(#[from] ConfigError),
    /// There is a file already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Classify for DraftError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Config(e) => e.class(),
            Self::Exists(_) | Self::Write { .. } => ErrorClass::Failed,
        }
    }
}

/// A draft that was read back.
#[derive(Debug)]
pub struct Checked {
    /// What it says.
    pub config: Config,
    /// Variables that it refers to and that are not set here, in order.
    pub unset: Vec<String>,
}

/// A draft that was written.
#[derive(Debug)]
pub struct Written {
    /// What it says.
    pub checked: Checked,
    /// Where the file is now that was replaced.
    pub old: Option<PathBuf>,
}

/// A configuration file that is not written yet.
#[derive(Clone, Default)]
pub struct Draft {
    header: String,
    /// Table (empty for the top), key, value.
    entries: Vec<(String, String, Value)>,
}

/// Values may be secrets.
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.entries.iter().map(|(table, name, _)| format!("{table}.{name}"));
        f.debug_list().entries(keys).finish()
    }
}

impl Draft {
    /// An empty one; `header` becomes its first comment.
    #[must_use]
    pub fn new(header: &str) -> Self {
        Self { header: header.to_owned(), entries: Vec::new() }
    }

    /// Gives a key its value, in place of one that it had: `state_dir`, `remote.bucket`,
    /// `remote.options.host`, `hooks.backup.pre`.
    pub fn set(&mut self, key: &str, value: Value) {
        self.unset(key);
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        self.entries.push((table.to_owned(), name.to_owned(), value));
    }

    /// Takes a key out again.
    pub fn unset(&mut self, key: &str) {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        self.entries.retain(|(t, n, _)| t != table || n != name);
    }

    /// Takes all keys of a table out again.
    pub fn unset_table(&mut self, table: &str) {
        self.entries.retain(|(t, _, _)| t != table);
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        self.entries.iter().find(|(t, n, _)| t == table && n == name).map(|(_, _, value)| value)
    }

    /// The text of the file, with its secrets.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::new());
        let more =
            "`exuvia config keys` tells what may stand here, `exuvia config check` whether it is right";
        for line in self.header.lines().chain([more]) {
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            push(&mut out, format_args!("# {line}\n"));
        }
        for table in self.tables() {
            push(&mut out, format_args!("\n"));
            if !table.is_empty() {
                push(&mut out, format_args!("[{table}]\n"));
            }
            let mut entries: Vec<_> = self.entries.iter().filter(|(t, _, _)| *t == table).collect();
            let keys = keys_of(&table);
            entries.sort_by_key(|(_, name, _)| keys.iter().position(|key| key.name == name));
            for (_, name, value) in entries {
                let key = keys.iter().find(|key| key.name == name);
                if let Some(key) = key {
                    push(&mut out, format_args!("# {}\n", key.doc.about));
                }
                let value = value.toml(key.is_some_and(|key| key.raw));
                push(&mut out, format_args!("{} = {}\n", bare(name), value.as_str()));
            }
        }
        out
    }

    /// The tables that have values, in the order of the page of all keys.
    fn tables(&self) -> Vec<String> {
        let mut order: Vec<&str> = page::SCHEMAS.iter().map(|schema| schema.table.unwrap_or("")).collect();
        for (table, after) in BESIDE.iter().rev() {
            let at = order.iter().position(|name| name == after).map_or(order.len(), |at| at + 1);
            order.insert(at, table);
        }
        let mut tables: Vec<String> = self.entries.iter().map(|(table, _, _)| table.clone()).collect();
        let place = |table: &str| order.iter().position(|name| *name == table).unwrap_or(order.len());
        tables.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
        tables.dedup();
        tables
    }

    /// Reads the draft as if it stood at `path`. For variables that are not set something is put in that
    /// could be meant.
    pub fn check(&self, path: &Path, env: &Environment) -> Result<Checked, ConfigError> {
        let text = self.render();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for (_, _, value) in &self.entries {
            if let Value::Expression(text) = value {
                names.extend(references(text.expose()));
            }
        }
        let unset: Vec<String> = names.iter().filter(|name| env.get(name).is_none()).cloned().collect();
        names.insert("HOME".to_owned());
        let known = env.only(names, |name| unset.iter().any(|u| u == name).then(|| PLACEHOLDER.into()));
        let (config, _) = Config::parse(&text, path, &known)?;
        Ok(Checked { config, unset })
    }

    /// Reads the draft back and puts it in place, readable by its owner only, with the folders above it. A
    /// symbolic link is followed when what it leads to is replaced.
    pub fn write(&self, path: &Path, env: &Environment, replace: Replace) -> Result<Written, DraftError> {
        let checked = self.check(path, env)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DraftError::Write { path, source }
        };
        let real = match replace {
            Replace::Yes => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            Replace::No => path.to_owned(),
        };
        let (folder, name) = split(&real).map_err(failed(&real))?;
        fs::create_private_dir_all(folder).map_err(failed(folder))?;
        let old = match (replace, old_text(&real)) {
            (Replace::Yes, Ok(Some(old))) => {
                Some(keep(folder, name, &old).map_err(failed(&folder.join(format!("{name}.old"))))?)
            }
            (Replace::Yes, Err(source)) => return Err(failed(&real)(source)),
            _ => None,
        };
        let text = self.render();
        let done = match replace {
            Replace::Yes => fs::write_atomic(folder, name, text.as_bytes(), 0o600),
            Replace::No => fs::write_new(folder, name, text.as_bytes(), 0o600),
        };
        match done {
            Ok(()) => Ok(Written { checked, old }),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(DraftError::Exists(real)),
            Err(e) => Err(failed(&real)(e)),
        }
    }
}

/// Puts a text beside the file that it stood in, under the first name that nobody has: an earlier one that was kept
/// may be the only one of its kind, too.
fn keep(folder: &Path, name: &str, text: &[u8]) -> io::Result<PathBuf> {
    for number in 1..=MOST_KEPT {
        let kept = if number == 1 { format!("{name}.old") } else { format!("{name}.old-{number}") };
        match fs::write_new(folder, &kept, text, 0o600) {
            Ok(()) => return Ok(folder.join(kept)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "there are too many older ones beside it"))
}

/// Writes a secret into a new file that only its owner can read, with the folders above it
/// ([`io::ErrorKind::AlreadyExists`] when there is one).
pub fn write_secret(path: &Path, secret: &Secret) -> io::Result<()> {
    let (folder, name) = split(path)?;
    fs::create_private_dir_all(folder)?;
    let text = Zeroizing::new(format!("{}\n", secret.expose()));
    fs::write_new(folder, name, text.as_bytes(), 0o600)
}

/// Whether a file holds this secret and nothing else.
#[must_use]
pub fn holds_secret(path: &Path, secret: &Secret) -> bool {
    let text = old_text(path).ok().flatten();
    text.is_some_and(|text| text.strip_suffix(b"\n").unwrap_or(text.as_slice()) == secret.expose().as_bytes())
}

fn push(out: &mut String, what: fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = out.write_fmt(what);
}

/// A key as TOML has it: quoted, unless it needs no quotes.
fn bare(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        toml::Value::from(name).to_string()
    }
}

/// The documented keys of a table.
fn keys_of(table: &str) -> &'static [Key] {
    // The jobs' hooks have the same keys.
    let table = if table.starts_with("hooks.") { "hooks.backup" } else { table };
    let schema = page::SCHEMAS.iter().find(|schema| schema.table.unwrap_or("") == table);
    schema.map_or(&[], |schema| schema.keys)
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), name))
}

/// What the file holds, if it is there.
fn old_text(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut text = Zeroizing::new(Vec::new());
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES + 1).read_to_end(&mut text)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what is there is no configuration"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn env() -> Environment {
        Environment::of(&[("HOME", "/h"), ("SET", "x")])
    }

    fn draft() -> Draft {
        let mut draft = Draft::new("Made by a test\nin two lines");
        draft.set("schedule.backup", Value::Number(300));
        draft.set("hooks.prune.pre", Value::text("test $A = ${B:-c}"));
        draft.set("remote.options.host", Value::text("h$"));
        draft.set("remote.rclone_type", Value::text("sftp"));
        draft.set("remote.provider", Value::text("custom"));
        draft.set("state_dir", Value::text("/s \"q\"\n${HOME}\\'"));
        draft.set("backup.exclude", Value::List(vec!["*.$x".to_owned(), "a\"b".to_owned()]));
        draft.set("backup.skip_if_unchanged", Value::Switch(true));
        draft.set("remote.prefix", Value::expression("${SET}/${NOT_SET}/$$"));
        draft.set("triggers.nightly", Value::text("1m"));
        draft.set("retention", Value::Number(7));
        draft.set("health.on_alarm", Value::text("x"));
        draft.unset("health.on_alarm");
        draft
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let checked = draft().check(Path::new("/c/x.toml"), &env()).unwrap();
        let config = checked.config;
        assert_eq!(config.state_dir, Some("/s \"q\"\n${HOME}\\'".into()));
        assert_eq!(config.backup.exclude, ["*.$x", "a\"b"]);
        assert!(config.backup.skip_if_unchanged);
        assert_eq!(config.hooks.prune.pre, Some(Secret::new("test $A = ${B:-c}".to_owned())));
        assert_eq!(config.triggers.debounce("nightly").as_secs(), 60);
        let remote = config.remote.unwrap();
        assert_eq!((remote.prefix.as_str(), remote.options[0].1.expose()), ("x/{}/$", "h$"));
        assert_eq!(checked.unset, ["NOT_SET"]);
        assert!(config.health.on_alarm.is_none());
    }

    #[test]
    fn the_file_is_in_the_order_of_the_page_and_explains_itself() {
        let text = draft().render();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["# Made by a test", "# in two lines"]);
        let heads: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with('[')).collect();
        assert_eq!(
            heads,
            ["[remote]", "[remote.options]", "[backup]", "[schedule]", "[triggers]", "[hooks.prune]"]
        );
        let at = |line: &str| lines.iter().position(|l| *l == line).unwrap_or_else(|| panic!("{}", *text));
        assert_eq!(lines[at("provider = \"custom\"") - 1], "# the kind of storage");
        assert!(at("retention = 7") < at("[remote]"));
    }

    #[test]
    fn what_would_not_be_read_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.toml");
        let mut draft = draft();
        for (key, value, want) in [
            ("backup.nonsense", Value::Number(1), "unknown key `nonsense` in [backup]"),
            ("schedule.backup", Value::text("often"), "`backup` must be"),
        ] {
            draft.set(key, value);
            let error = draft.write(&path, &env(), Replace::Yes).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
            assert_eq!(error.class(), ErrorClass::Usage);
            draft.unset(key);
        }
        assert!(!path.exists() && !format!("{draft:?}").contains("custom"));
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_when_asked_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.toml");
        let written = draft().write(&path, &env(), Replace::No).unwrap();
        assert_eq!(written.old, None);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let first = std::fs::read(&path).unwrap();
        let mut other = draft();
        other.set("key_cache", Value::Switch(false));
        let refused = other.write(&path, &env(), Replace::No).unwrap_err();
        assert!(matches!(&refused, DraftError::Exists(_)), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), first);
        // As people have it who keep their settings in one folder.
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let old = other.write(&link, &env(), Replace::Yes).unwrap().old.unwrap();
        assert_eq!((std::fs::read(&old).unwrap(), link.is_symlink()), (first, true));
        assert_eq!(old.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains("key_cache = false"));
        let names = || std::fs::read_dir(dir.path().join("new")).unwrap().count();
        assert_eq!(names(), 2, "nothing else is left");
        // What was kept once is kept for good.
        let first = std::fs::read(&old).unwrap();
        let second = draft().write(&path, &env(), Replace::Yes).unwrap().old.unwrap();
        assert_eq!(second.file_name().unwrap(), "config.toml.old-2");
        assert!(std::fs::read_to_string(&second).unwrap().contains("key_cache = false"));
        assert_eq!((std::fs::read(&old).unwrap(), names()), (first, 3));
    }
}
