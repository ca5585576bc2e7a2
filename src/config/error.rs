//! Why the configuration file cannot be used.

use std::io;
use std::path::PathBuf;

use crate::model::{Classify, ErrorClass};

/// Why the configuration file cannot be used. No message holds a value of the file: it may be a secret.
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
    /// Something in it is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl Classify for ConfigError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

/// The key that is spelled most like `name`, if any is near enough to be what was meant.
pub(super) fn nearest(name: &str, keys: &[&'static str]) -> Option<&'static str> {
    let plain = name.to_lowercase().replace('-', "_");
    let begins = |key: &&&'static str| plain.len() >= 4 && key.starts_with(plain.as_str());
    let near = |key: &'static str| Some((distance(&plain, key), key)).filter(|(d, key)| *d <= key.len() / 3);
    keys.iter()
        .filter_map(|key| near(key))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
        .or_else(|| keys.iter().find(begins).copied())
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
