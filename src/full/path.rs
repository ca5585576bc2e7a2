//! Names of members as paths below a target.

use crate::model::{PathError, RepoPath};

/// Why the name of a member, or what a hard link names, is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafePath {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// It begins at the root of the file system.
    #[error("the name is absolute")]
    Absolute,
    /// It leads up.
    #[error("the name has a component `..`")]
    Parent,
    /// No name that a file can have here.
    #[error(transparent)]
    Path(PathError),
}

/// The path below a target that a member's name stands for. `./`, double and trailing slashes mean nothing and
/// are dropped, as all tar programs do, so that two spellings of one name are one path; `.` alone is the target itself.
/// Absolute names and `..` are refused, also where they would lead back into the target.
pub fn safe_path(name: &[u8]) -> Result<RepoPath, UnsafePath> {
    if name.is_empty() {
        return Err(UnsafePath::Empty);
    }
    if name.starts_with(b"/") {
        return Err(UnsafePath::Absolute);
    }
    let mut clean = Vec::with_capacity(name.len());
    for component in name.split(|&b| b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(UnsafePath::Parent),
            _ => {}
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    RepoPath::new(clean).map_err(UnsafePath::Path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one_path() {
        for (name, path) in [
            (&b"a"[..], &b"a"[..]),
            (b"./a/b", b"a/b"),
            (b"a//b/", b"a/b"),
            (b"a/./b/.", b"a/b"),
            (b".", b""),
            (b"./", b""),
            (b"...", b"..."),
            (b"..a/b..", b"..a/b.."),
            (b"\xff\n ", b"\xff\n "),
            (b"a\\..\\b", b"a\\..\\b"),
        ] {
            let found = safe_path(name).unwrap_or_else(|e| panic!("{}: {e}", name.escape_ascii()));
            assert_eq!(found.as_bytes(), path, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn what_leads_out_is_refused() {
        for (name, error) in [
            (&b""[..], UnsafePath::Empty),
            (b"/", UnsafePath::Absolute),
            (b"/etc/passwd", UnsafePath::Absolute),
            (b"//etc", UnsafePath::Absolute),
            (b"..", UnsafePath::Parent),
            (b"../a", UnsafePath::Parent),
            (b"a/../b", UnsafePath::Parent),
            (b"a/..", UnsafePath::Parent),
            (b"./../a", UnsafePath::Parent),
            (b"a\0b", UnsafePath::Path(PathError::Nul)),
            (&[b'a'; 1_025], UnsafePath::Path(PathError::TooLong)),
        ] {
            assert_eq!(safe_path(name), Err(error), "{}", name.escape_ascii());
        }
        assert_eq!(safe_path(&b"a/".repeat(40_000)), Err(UnsafePath::Path(PathError::TooLong)));
    }
}
