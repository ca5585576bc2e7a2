//! Paths inside a snapshot: relative, bytes, one validated spelling.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest path in bytes that a manifest may hold (Linux `PATH_MAX` is 4,096; this leaves room for
/// trees reached through directory handles, which may be deeper).
pub(crate) const MAX_PATH: usize = 65_535;
/// Longest single name in bytes (`NAME_MAX` is 255 on Linux; some file systems allow 1,020 bytes).
pub(crate) const MAX_NAME: usize = 1_024;

/// Why bytes are not a path of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// An empty component: a leading, trailing or double slash.
    #[error("path has an empty component")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("path has a component `.` or `..`")]
    DotComponent,
    /// A NUL byte.
    #[error("path has a NUL byte")]
    Nul,
    /// Longer than the format allows.
    #[error("path or component is too long")]
    TooLong,
}

/// A path relative to the root of a snapshot; the root itself is empty.
///
/// Invariant: components are separated by single slashes; none is empty, `.` or `..`; there is no
/// NUL byte. Nothing else is assumed of the bytes: names need not be UTF-8.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// The root of a snapshot.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks outside bytes and takes them as a path.
    pub fn new(bytes: Vec<u8>) -> Result<Self, PathError> {
        if bytes.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if !bytes.is_empty() {
            bytes.split(|&b| b == b'/').try_for_each(check_name)?;
        }
        Ok(Self(bytes))
    }

    /// This path with one more component.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        if self.0.len() + 1 + name.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.0.is_empty() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Ok(Self(bytes))
    }

    /// The bytes, components separated by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root of the snapshot.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components in order; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|c| !c.is_empty())
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// The path without its last component; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// True when `self` is `ancestor` or lies below it.
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.0.is_empty()
            || self
                .0
                .strip_prefix(ancestor.0.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The path as the operating system spells it, relative to some directory.
    #[must_use]
    pub fn to_os_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    match name {
        [] => Err(PathError::EmptyComponent),
        b"." | b".." => Err(PathError::DotComponent),
        _ if name.len() > MAX_NAME => Err(PathError::TooLong),
        _ if name.contains(&b'/') => Err(PathError::EmptyComponent),
        _ if name.contains(&0) => Err(PathError::Nul),
        _ => Ok(()),
    }
}

/// Orders paths component by component: the order of a depth-first walk with sorted children.
///
/// Equal to comparing the bytes with `/` below every other byte.
#[must_use]
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let rank = |p: &[u8]| p.get(same).map(|&c| if c == b'/' { 0u16 } else { u16::from(c) + 1 });
    rank(a).cmp(&rank(b))
}

impl PartialOrd for RepoPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RepoPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_paths(&self.0, &other.0)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { "" })?;
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoPath({})", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_are_refused() {
        for (bytes, error) in [
            (&b"/etc"[..], PathError::EmptyComponent),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b"..", PathError::DotComponent),
            (b"a/../b", PathError::DotComponent),
            (b"./a", PathError::DotComponent),
            (b"a\0b", PathError::Nul),
        ] {
            assert_eq!(RepoPath::new(bytes.to_vec()), Err(error), "{}", bytes.escape_ascii());
        }
        assert_eq!(RepoPath::new(vec![b'a'; MAX_NAME + 1]), Err(PathError::TooLong));
        assert_eq!(RepoPath::root().join(b"a/b"), Err(PathError::EmptyComponent));
    }

    #[test]
    fn order_is_that_of_a_depth_first_walk() {
        let sorted = ["", "a", "a/b", "a/b/c", "a-b", "a.b", "b"];
        for pair in sorted.windows(2) {
            assert_eq!(compare_paths(pair[0].as_bytes(), pair[1].as_bytes()), Ordering::Less, "{pair:?}");
        }
        assert_eq!(compare_paths(b"a/\x01", b"a\x01"), Ordering::Less);
    }

    #[test]
    fn ancestors_are_whole_components() {
        let path = |s: &str| RepoPath::new(s.as_bytes().to_vec()).unwrap_or_default();
        assert!(path("a/b").starts_with(&path("a")));
        assert!(!path("ab").starts_with(&path("a")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RepoPath::root()));
        assert_eq!(RepoPath::root().parent(), None);
    }
}
