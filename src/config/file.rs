//! The configuration file: TOML with few keys, all optional.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;
use zeroize::Zeroizing;

use super::reader::{Field, Fields, Key, Reader, Schema};
use super::remote::{self, RemoteConfig};
use super::{
    BackupConfig, FullConfig, HealthConfig, HooksConfig, ScheduleConfig, StartConfig, TriggersConfig,
};
use super::{ConfigError, Environment, values};
use super::{retention, tables};
use crate::model::Policy;

/// Far more than any real file; a device given by mistake must not fill the memory.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// Every key at the top of the file.
pub(super) const KEYS: &[Key] = &[
    Key::text("repository").says(
        "the repository, when no table [remote] says where it is",
        "a local path, or rclone:REMOTE:PATH",
        "~/.local/share/exuvia/repository",
        "\"/mnt/agent\"",
    ),
    Key::text("state_dir").says(
        "the directory to back up",
        "a path; `~/` is the home directory, relative ones start at this file's folder",
        "that of OpenClaw: $OPENCLAW_STATE_DIR, or ~/.openclaw",
        "\"~/.openclaw\"",
    ),
    Key::text("cache_dir").says(
        "where is kept what can be made again",
        "a path",
        "~/.cache/exuvia",
        "\"/var/cache/exuvia\"",
    ),
    Key::text("passphrase_file").says(
        "a file whose first line is the passphrase; only you should be able to read it",
        "a path",
        "",
        "\"~/.exuvia-passphrase\"",
    ),
    Key::command("passphrase_command").says(
        "a command that prints the passphrase",
        "a shell command",
        "",
        "\"pass show backup/agent\"",
    ),
    Key::switch("passphrase_keyring").says(
        "look for the passphrase in the keyring of the operating system",
        "true or false",
        "off",
        "true",
    ),
    Key::switch("key_cache").says(
        "keep the repository's key in the cache, wrapped in the passphrase",
        "true or false",
        "on",
        "false",
    ),
    Key::number("retention").says(
        "which snapshots `forget` keeps; may be the table [retention] instead",
        "so many of the newest, or rules such as {daily: 7, weekly: 4}",
        "",
        "7",
    ),
    Key::number("shrink_alarm").says(
        "how much may be gone from a snapshot before the alarm is raised",
        "percent, 0 to 100; 0 or off for never",
        "50",
        "30",
    ),
    Key::number("prune_grace").says(
        "how long prune leaves what it condemned; longer than any backup takes",
        "seconds, or a time such as 48h or 3d; 1 s to 7 days",
        "48h",
        "\"3d\"",
    ),
    remote::PROGRAM,
    remote::BWLIMIT,
    remote::TPSLIMIT,
    remote::CONNECTIONS,
    remote::TIMEOUT,
    remote::DEADLINE,
];

pub(super) const SCHEMA: Schema = Schema {
    table: None,
    about: "",
    tables: &["remote", "retention", "backup", "full", "schedule", "start", "triggers", "health", "hooks"],
    keys: KEYS,
    synonyms: &[
        ("idle_timeout", "timeout"),
        ("rclone", "rclone_program"),
        ("interval", "schedule"),
        ("notifications", "health"),
    ],
    elsewhere: (remote::KEYS, "into the table [remote]"),
};

/// Stand for variables that only others have: a name, or JSON, as tokens are.
const PLACEHOLDERS: [&str; 2] = ["unset-variable", "{}"];

/// What the file says. Relative paths have been made relative to the file's own folder, and `~/` to
/// the home directory; `${NAME}` has been replaced by the variable's value.
#[derive(Clone, Default, PartialEq)]
pub struct Config {
    /// Where it was read; `None` when there was no file.
    pub file: Option<PathBuf>,
    /// A local path or `rclone:REMOTE:PATH`.
    pub repository: Option<OsString>,
    /// A storage service, where the repository is not named by `repository`.
    pub remote: Option<RemoteConfig>,
    /// The directory to back up.
    pub state_dir: Option<PathBuf>,
    /// Where this program keeps what it can make again.
    pub cache_dir: Option<PathBuf>,
    /// Whether the repository's key may be kept in the cache, wrapped in the passphrase.
    pub key_cache: Option<bool>,
    /// How much may be gone from a snapshot before the alarm is raised, in percent of its parent; 0 turns
    /// the alarm off.
    pub shrink_alarm: Option<u8>,
    /// Which snapshots `forget` keeps, unless it is told otherwise.
    pub retention: Option<Policy>,
    /// How long what a prune condemned stays.
    pub prune_grace: Option<Duration>,
    /// A file whose first line is the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// A shell command that prints the passphrase.
    pub passphrase_command: Option<String>,
    /// Whether the passphrase is looked for in the keyring of the operating system.
    pub passphrase_keyring: Option<bool>,
    /// The program rclone: a path, or a name that is looked for in PATH.
    pub rclone_program: Option<PathBuf>,
    /// How much of network and service is used.
    pub limits: Limits,
    /// What every backup of the state dir takes.
    pub backup: BackupConfig,
    /// How full archives are made and kept.
    pub full: FullConfig,
    /// What the daemon runs, and when.
    pub schedule: ScheduleConfig,
    /// What it does when it starts, and beside the schedule.
    pub start: StartConfig,
    /// Events from outside that make it take a snapshot.
    pub triggers: TriggersConfig,
    /// Who is told how it goes.
    pub health: HealthConfig,
    /// What runs before and after jobs.
    pub hooks: HooksConfig,
    /// Everything that stands in the file, in its order.
    pub settings: Vec<Setting>,
    /// Environment variables that it refers to by `${NAME}`, in order. What shell commands refer to is not among
    /// them.
    pub variables: Vec<String>,
    /// Those of them that are not set where it was read for somebody else.
    pub unset: Vec<String>,
    /// What is not wrong, but not good either.
    pub warnings: Vec<String>,
}

/// How much of network and service is used; `None` where nothing is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// In rclone's words.
    pub bwlimit: Option<String>,
    /// Requests a second; 0 stands for no limit.
    pub tpslimit: Option<f64>,
    /// Requests under way at once.
    pub connections: Option<usize>,
    /// A request without any progress for this long has failed.
    pub timeout: Option<Duration>,
    /// How long an operation goes on trying while nothing succeeds.
    pub deadline: Option<Duration>,
}

/// One line of the file, for people who ask what is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key, with the tables that it is in: `remote.options.chunk_size`.
    pub key: String,
    /// Line number, from 1.
    pub line: usize,
    /// The text that is in force; `None` for a secret.
    pub shown: Option<String>,
}

/// Values may be secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file that was named, or the one in the user's configuration directory, which need
    /// not exist.
    pub fn load(env: &Environment, named: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_by(env, named, |text, path| Self::parse(text, path, env))
    }

    /// The same for somebody else, who may have variables that are not set here: in their place it reads something
    /// that could be meant, and [`Config::unset`] tells their names.
    pub fn load_for_another(env: &Environment, named: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_by(env, named, |text, path| Self::parse_for_another(text, path, env))
    }

    fn load_by(
        env: &Environment,
        named: Option<&Path>,
        parse: impl Fn(&str, &Path) -> Result<(Self, Option<usize>), ConfigError>,
    ) -> Result<Self, ConfigError> {
        let Some(path) = named.map(Path::to_owned).or_else(|| Self::default_path(env)) else {
            return Ok(Self::default());
        };
        match read(&path) {
            Ok((text, open)) => {
                let (mut config, secret) = parse(&text, &path)?;
                if let Some(line) = secret.filter(|_| open) {
                    let path = path.display();
                    config.warnings.push(format!(
                        "{path} holds a secret in line {line} and is open to other users; `chmod 600` closes it"
                    ));
                }
                Ok(config)
            }
            Err(e) if named.is_none() && e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// Where the file is, unless another one is named; `None` without a home directory.
    #[must_use]
    pub fn default_path(env: &Environment) -> Option<PathBuf> {
        env.config_home().map(|home| home.join("exuvia").join("config.toml"))
    }

    /// The line of a key with its tables, as `schedule.backup`, or of one in `[remote]` that may stand at the top.
    #[must_use]
    pub fn line(&self, key: &str) -> Option<usize> {
        let named = |s: &&Setting| s.key == key || s.key.strip_prefix("remote.") == Some(key);
        self.settings.iter().find(named).map(|s| s.line)
    }

    /// Whether a path is another one than here for whom the file was read, for want of a variable.
    #[must_use]
    pub fn is_elsewhere(&self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        !self.unset.is_empty() && PLACEHOLDERS.iter().any(|placeholder| path.contains(placeholder))
    }

    /// See [`Config::load_for_another`].
    fn parse_for_another(
        text: &str,
        path: &Path,
        env: &Environment,
    ) -> Result<(Self, Option<usize>), ConfigError> {
        let mut names: BTreeSet<String> = values::references(text).into_iter().collect();
        names.insert("HOME".to_owned());
        let parse = |placeholder: &str| {
            let missing = |name: &str| (name != "HOME").then(|| placeholder.into());
            Self::parse(text, path, &env.only(names.iter().cloned(), missing))
        };
        let [first, second] = PLACEHOLDERS;
        // Of the two complaints the first is about the likelier text.
        let (mut config, secret) = parse(first).or_else(|e| parse(second).map_err(|_| e))?;
        config.unset = config.variables.iter().filter(|name| env.get(name).is_none()).cloned().collect();
        Ok((config, secret))
    }

    /// Also tells the first line in which a secret stands as it is.
    pub(super) fn parse(
        text: &str,
        path: &Path,
        env: &Environment,
    ) -> Result<(Self, Option<usize>), ConfigError> {
        let reader = Reader::new(path, text, env);
        let table = DeTable::parse(text)
            .map_err(|e| reader.error(reader.line(&e.span().unwrap_or_default()), e.message()))?;
        let mut top = reader.table(table.get_ref(), &SCHEMA)?;
        let mut settings = Settings::default();
        settings.add(&top.fields, "", |name| name == "passphrase_command", remote::is_secret);
        let mut config = Self { file: Some(path.to_owned()), ..Self::default() };
        config.running(&reader, &mut top)?;
        let local = |value: &str| reader.local(value);
        let tables = std::mem::take(&mut top.tables);
        let table_of = |wanted| tables.iter().find(|(name, _, _)| *name == wanted).copied();
        tables::read(&reader, &tables, &mut config, &mut settings)?;
        if let Some((_, line, table)) = table_of("retention") {
            let inner = reader.table(table, &retention::SCHEMA)?;
            settings.add(&inner.fields, "retention.", |_| false, |_| false);
            config.retention = Some(retention::table(&reader, line, inner)?);
        }
        if let Some((_, line, table)) = table_of("remote") {
            let mut inner = reader.table(table, &remote::SCHEMA)?;
            let options = match inner.tables.first() {
                Some((_, _, table)) => reader.options(table)?,
                None => Vec::new(),
            };
            settings.add(&inner.fields, "remote.", |_| false, remote::is_secret);
            settings.add(&options, "remote.options.", |_| false, remote::is_secret_option);
            config.running(&reader, &mut inner)?;
            if let Some(file) = inner.fields.iter_mut().find(|field| field.name == "rclone_config") {
                file.text = Zeroizing::new(local(&file.text).to_string_lossy().into_owned());
            }
            if let Some(repository) = top.fields.iter().find(|field| field.name == "repository") {
                let message = format!(
                    "both [remote] and `repository` in line {} say where the repository is; drop `repository` if \
                     the remote is meant, or else this table",
                    repository.line
                );
                return Err(reader.error(line, message));
            }
            config.remote = Some(remote::resolve(&reader, line, inner, options)?);
        }
        let mut path_of = |key| top.take(key).map(|field| local(&field.text));
        config.state_dir = path_of("state_dir");
        config.cache_dir = path_of("cache_dir");
        config.passphrase_file = path_of("passphrase_file");
        config.rclone_program = config.rclone_program.map(|program| match program.to_str() {
            // A bare name is looked for in PATH.
            Some(text) if text.contains('/') => local(text),
            _ => program,
        });
        config.repository = top.take("repository").map(|field| match field.text.starts_with("rclone:") {
            true => OsString::from(field.text.as_str()),
            false => local(&field.text).into_os_string(),
        });
        config.passphrase_command = top.take("passphrase_command").map(|field| field.text.to_string());
        for (name, place) in
            [("key_cache", &mut config.key_cache), ("passphrase_keyring", &mut config.passphrase_keyring)]
        {
            let Some(field) = top.take(name) else { continue };
            let switch = values::switch(&field.text);
            *place = Some(switch.map_err(|what| reader.error(field.line, format!("`{name}` {what}")))?);
        }
        if let Some(field) = top.take("shrink_alarm") {
            let percent = values::percent_or_off(&field.text);
            config.shrink_alarm =
                Some(percent.map_err(|what| reader.error(field.line, format!("`shrink_alarm` {what}")))?);
        }
        if let Some(field) = top.take("retention") {
            let policy = retention::retention(&field.text);
            config.retention =
                Some(policy.map_err(|what| reader.error(field.line, format!("`retention` {what}")))?);
        }
        if let Some(field) = top.take("prune_grace") {
            let grace = values::duration(&field.text);
            config.prune_grace =
                Some(grace.map_err(|what| reader.error(field.line, format!("`prune_grace` {what}")))?);
        }
        config.variables = reader.variables();
        let Settings { mut rows, secret } = settings;
        rows.sort_by_key(|row| row.line);
        config.settings = rows;
        Ok((config, secret))
    }

    /// Takes the fields that say how rclone is run, which stand at the top or in `[remote]`.
    fn running(&mut self, reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Result<(), ConfigError> {
        for name in remote::RUNNING {
            let Some(field) = fields.take(name) else { continue };
            let limits = &mut self.limits;
            let done = match name {
                "rclone_program" => put(&mut self.rclone_program, Ok(PathBuf::from(field.text.as_str()))),
                "bwlimit" => put(&mut limits.bwlimit, values::bandwidth(&field.text)),
                "tpslimit" => put(&mut limits.tpslimit, values::transactions(&field.text)),
                "connections" => put(&mut limits.connections, values::connections(&field.text)),
                "timeout" => put(&mut limits.timeout, values::duration(&field.text)),
                _ => put(&mut limits.deadline, values::duration(&field.text)),
            };
            done.map_err(|what| reader.error(field.line, format!("`{name}` {what}")))?;
        }
        Ok(())
    }
}

/// Keeps a value, unless there is one.
fn put<T>(place: &mut Option<T>, value: Result<T, &'static str>) -> Result<(), &'static str> {
    if place.is_some() {
        return Err("is given twice: at the top of the file and in [remote]");
    }
    *place = Some(value?);
    Ok(())
}

#[derive(Default)]
pub(super) struct Settings {
    rows: Vec<Setting>,
    /// The first line in which a secret stands as it is.
    secret: Option<usize>,
}

impl Settings {
    /// `hidden`: shown to nobody, though no secret of a service.
    pub(super) fn add(
        &mut self,
        fields: &[Field],
        above: &str,
        hidden: impl Fn(&str) -> bool,
        is_secret: impl Fn(&str) -> bool,
    ) {
        for field in fields {
            let name = if field.name.is_empty() { field.spelled.as_str() } else { field.name };
            let (shown, secret) = match name {
                // A remote's name and path are none, but a connection string may hold some.
                "repository" | "remote" if above != "remote.options." => {
                    let parameters = field.text.contains(',');
                    (!parameters, parameters && remote::sounds_secret(&field.text))
                }
                _ if above == "remote.options." => (!is_secret(name), remote::sounds_secret(name)),
                _ => (!hidden(name) && !is_secret(name), is_secret(name)),
            };
            self.rows.push(Setting {
                key: format!("{above}{name}"),
                line: field.line,
                shown: shown.then(|| field.text.to_string()),
            });
            if secret && field.literal {
                self.secret = Some(self.secret.map_or(field.line, |line| line.min(field.line)));
            }
        }
    }
}

/// The file's text, and whether other users can read it.
fn read(path: &Path) -> io::Result<(Zeroizing<String>, bool)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let open = metadata.is_file() && metadata.permissions().mode() & 0o077 != 0;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than a configuration can be"));
    }
    Ok((text, open))
}

#[cfg(test)]
mod tests;
