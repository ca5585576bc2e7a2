//! The configuration file: TOML with few keys, all optional.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Environment;
use crate::model::{Classify, ErrorClass};

/// Every key of the file.
const KEYS: [&str; 5] = ["repository", "state_dir", "cache_dir", "passphrase_file", "passphrase_command"];
/// Far more than any real file; a device given by mistake must not fill the memory.
const MAX_BYTES: u64 = 1 << 20;

/// What the file says. Relative paths have been made relative to the file's own folder, and `~/` to
/// the home directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where it was read; `None` when there was no file.
    pub file: Option<PathBuf>,
    /// A local path or `rclone:REMOTE:PATH`.
    pub repository: Option<OsString>,
    /// The directory to back up.
    pub state_dir: Option<PathBuf>,
    /// Where this program keeps what it can make again.
    pub cache_dir: Option<PathBuf>,
    /// A file whose first line is the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// A shell command that prints the passphrase.
    pub passphrase_command: Option<String>,
}

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that has no meaning.
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), meant(.suggestion))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What may have been meant.
        suggestion: Option<&'static str>,
    },
    /// A value of the wrong type, or an empty one.
    #[error("{}:{line}: `{key}` must be a text that is not empty", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The key.
        key: String,
    },
}

impl Classify for ConfigError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

fn meant(suggestion: &Option<&'static str>) -> String {
    suggestion.map_or_else(
        || format!("; the keys are {}", KEYS.join(", ")),
        |key| format!("; did you mean `{key}`?"),
    )
}

impl Config {
    /// Reads the file that was named, or the one in the user's configuration directory, which need
    /// not exist.
    pub fn load(env: &Environment, named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = match (named, env.config_home()) {
            (Some(path), _) => path.to_owned(),
            (None, Some(home)) => home.join("exuvia").join("config.toml"),
            (None, None) => return Ok(Self::default()),
        };
        match read(&path) {
            Ok(text) => Self::parse(&text, &path, env.home().as_deref()),
            Err(e) if named.is_none() && e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    fn parse(text: &str, path: &Path, home: Option<&Path>) -> Result<Self, ConfigError> {
        let line_at =
            |offset: usize| 1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count();
        let table = DeTable::parse(text).map_err(|e| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_at(e.span().map_or(0, |span| span.start)),
            message: e.message().to_owned(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let local = |value: &str| match (value.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => folder.join(value),
        };
        let mut config = Self { file: Some(path.to_owned()), ..Self::default() };
        for (key, value) in table.get_ref() {
            let line = line_at(key.span().start);
            let name = key.get_ref().as_ref();
            if !KEYS.contains(&name) {
                let suggestion = nearest(name);
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    line,
                    key: name.to_owned(),
                    suggestion,
                });
            }
            let value = match value.get_ref() {
                DeValue::String(text) if !text.is_empty() => text.as_ref(),
                _ => return Err(ConfigError::Value { path: path.to_owned(), line, key: name.to_owned() }),
            };
            match name {
                "repository" if value.starts_with("rclone:") => config.repository = Some(value.into()),
                "repository" => config.repository = Some(local(value).into_os_string()),
                "state_dir" => config.state_dir = Some(local(value)),
                "cache_dir" => config.cache_dir = Some(local(value)),
                "passphrase_file" => config.passphrase_file = Some(local(value)),
                _ => config.passphrase_command = Some(value.to_owned()),
            }
        }
        Ok(config)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(std::fs::File::open(path)?, MAX_BYTES + 1), &mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than a configuration can be"));
    }
    Ok(text)
}

/// The key that is spelled most like `name`, if any is near enough to be what was meant.
fn nearest(name: &str) -> Option<&'static str> {
    let plain = name.to_lowercase().replace('-', "_");
    KEYS.into_iter()
        .map(|key| (distance(&plain, key), key))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, key)| {
            *distance <= key.len() / 3 || (plain.len() >= 4 && key.starts_with(plain.as_str()))
        })
        .map(|(_, key)| key)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/c/config.toml"), Some(Path::new("/h"))).map_err(|e| e.to_string())
    }

    #[test]
    fn all_keys_are_read() {
        let config = parse(
            "repository = \"~/r\"\nstate_dir = \"/s\"\ncache_dir = \"cache\"\npassphrase_file = \"~/p\"\n\
             passphrase_command = \"pass show x\"\n",
        )
        .unwrap();
        let want = Config {
            file: Some("/c/config.toml".into()),
            repository: Some("/h/r".into()),
            state_dir: Some("/s".into()),
            cache_dir: Some("/c/cache".into()),
            passphrase_file: Some("/h/p".into()),
            passphrase_command: Some("pass show x".into()),
        };
        assert_eq!(config, want);
        assert_eq!(parse("repository = \"rclone:a:b\"").unwrap().repository, Some("rclone:a:b".into()));
        assert_eq!(parse("").unwrap().repository, None);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, want) in [
            ("\nrepositry = \"x\"", "/c/config.toml:2: unknown key `repositry`; did you mean `repository`?"),
            ("state-dir = \"x\"", "/c/config.toml:1: unknown key `state-dir`; did you mean `state_dir`?"),
            ("repo = \"x\"", "/c/config.toml:1: unknown key `repo`; did you mean `repository`?"),
            ("\n\nstate_dir = 3", "/c/config.toml:3: `state_dir` must be a text that is not empty"),
            ("state_dir = \"\"", "/c/config.toml:1: `state_dir` must be a text that is not empty"),
        ] {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
        assert!(parse("bucket = 1").unwrap_err().contains("the keys are repository, state_dir"));
        assert!(parse("a = 1\nb = [").unwrap_err().starts_with("/c/config.toml:2: "));
    }
}
