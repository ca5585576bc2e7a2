//! What differs between two texts, line by line.

use std::io;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// Larger files are not compared line by line, in bytes.
pub const MAX_TEXT: u64 = 4 << 20;
/// How far from its beginning a file is looked at for a NUL, which no text has.
const LOOKED_AT: usize = 8 << 10;
/// After this the lines that still differ are shown as removed and added again.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the content of a file differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// The hunks of a unified diff, without the two lines that name the files.
    Text(Vec<u8>),
    /// One of both is no text, or larger than [`MAX_TEXT`].
    Binary,
    /// One of both could not be read.
    Unreadable(String),
}

impl Patch {
    /// Compares two contents.
    pub(super) fn of(old: &[u8], new: &[u8]) -> Self {
        let binary = |bytes: &[u8]| bytes[..bytes.len().min(LOOKED_AT)].contains(&0);
        if binary(old) || binary(new) {
            return Self::Binary;
        }
        // Writing to memory cannot fail.
        hunks(old, new).map_or_else(|e| Self::Unreadable(e.to_string()), Self::Text)
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&b| b == b'\n').collect()
}

fn hunks(old: &[u8], new: &[u8]) -> io::Result<Vec<u8>> {
    use io::Write as _;
    // Cut here: the crate takes a lone carriage return for the end of a line, which `patch` does not.
    let (old, new) = (lines(old), lines(new));
    let diff = TextDiff::configure().timeout(PATIENCE).diff_slices(&old, &new);
    let mut out = Vec::new();
    // Not through the crate's own writer, which puts other characters for what is not UTF-8.
    for hunk in diff.unified_diff().iter_hunks() {
        writeln!(out, "{}", hunk.header())?;
        for change in hunk.iter_changes() {
            out.push(match change.tag() {
                ChangeTag::Equal => b' ',
                ChangeTag::Delete => b'-',
                ChangeTag::Insert => b'+',
            });
            out.extend_from_slice(change.value());
            if !change.value().ends_with(b"\n") {
                out.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(old: &[u8], new: &[u8]) -> String {
        match Patch::of(old, new) {
            Patch::Text(text) => text.escape_ascii().to_string().replace("\\n", "\n"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn lines_keep_their_bytes() {
        assert_eq!(patch(b"a\nb\nc\n", b"a\n\xff\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+\\xff\n c\n");
        assert_eq!(patch(b"", b"a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(patch(b"a\n", b""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(patch(b"a", b"a\n"), "@@ -1 +1 @@\n-a\n\\\\ No newline at end of file\n+a\n");
        assert_eq!(patch(b"a\r\n", b"a\n"), "@@ -1 +1 @@\n-a\\r\n+a\n");
        assert_eq!(patch(b"a\rb\n", b"a\rc\n"), "@@ -1 +1 @@\n-a\\rb\n+a\\rc\n");
    }

    #[test]
    fn only_text_is_shown() {
        assert_eq!(patch(b"a\0", b"b"), "Binary");
        assert_eq!(patch(b"", b"b\0"), "Binary");
        let late = [vec![b'x'; LOOKED_AT], vec![0]].concat();
        assert_ne!(patch(b"", &late), "Binary");
    }
}
