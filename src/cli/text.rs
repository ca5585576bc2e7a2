//! Bytes of paths as text: safe to show on a terminal, exact in JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use data_encoding::BASE64;
use serde::Serialize;

use crate::model::{FileError, RepoPath};

/// A path as JSON carries it: lossily, and exactly when that loses something.
#[derive(Serialize)]
pub(super) struct JsonPath {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
}

impl From<&Path> for JsonPath {
    fn from(path: &Path) -> Self {
        path.as_os_str().as_bytes().into()
    }
}

impl From<&[u8]> for JsonPath {
    fn from(bytes: &[u8]) -> Self {
        let (path, path_base64) = lossy(bytes);
        Self { path, path_base64 }
    }
}

impl From<&RepoPath> for JsonPath {
    fn from(path: &RepoPath) -> Self {
        path.as_bytes().into()
    }
}

/// A path that failed.
#[derive(Serialize)]
pub(super) struct JsonFileError<'a> {
    #[serde(flatten)]
    path: JsonPath,
    message: &'a str,
}

impl<'a> From<&'a FileError> for JsonFileError<'a> {
    fn from(error: &'a FileError) -> Self {
        Self { path: (&error.path).into(), message: &error.message }
    }
}

/// Text, and base64 when the text is not exact.
pub(super) fn lossy(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(BASE64.encode(bytes))),
    }
}

/// What may be written to a terminal: a name from a repository or a disk must not steer it.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Marks of writing direction can make a name look like another one.
            let steers = c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if steers { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The same, where line breaks are meant.
pub(super) fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// A path for people.
pub(super) fn show(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// The path of an entry for people; the root has no name of its own.
pub(super) fn show_entry(path: &RepoPath) -> String {
    if path.is_root() { ".".to_owned() } else { printable(path.as_bytes()) }
}

/// A word that a shell takes as it is.
pub(super) fn shell_word(word: &OsStr) -> String {
    let text = printable(word.as_bytes());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn paths_keep_their_bytes_in_json() {
        let json = |bytes: &[u8]| serde_json::to_string(&JsonPath::from(bytes)).unwrap();
        assert_eq!(json("a/é".as_bytes()), r#"{"path":"a/é"}"#);
        assert_eq!(json(b"a\xff"), "{\"path\":\"a\u{fffd}\",\"path_base64\":\"Yf8=\"}");
    }

    #[test]
    fn terminals_are_not_steered() {
        assert_eq!(printable(b"a\x1b[2J\n\xffz"), "a\\u{1b}[2J\\n\\xffz");
        assert_eq!(printable("\u{9b}é".as_bytes()), "\\u{9b}é");
        assert_eq!(printable_lines("a\nb\x07"), "a\nb\\u{7}");
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(shell_word(OsStr::new("/a/b-c")), "/a/b-c");
        assert_eq!(shell_word(OsStr::new("/a b/it's")), r"'/a b/it'\''s'");
        assert_eq!(shell_word(OsStr::new("")), "''");
    }
}
