//! Patterns anchored at the root, matched one component at a time while a walk descends.
//!
//! The profile and the include sets speak of places of a state dir, such as `agents/*/sessions`. A
//! walk carries along which patterns can still match, so that below the places they speak of, where
//! nearly all files lie, matching costs nothing.

use crate::fs::{Dir, FileKind, Listing};
use crate::model::RepoPath;

/// A part of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    /// `*`: any bytes.
    Any,
    /// `<uuid>`: 8-4-4-4-12 hex digits. Tells an application's temporary copy from the one a person
    /// made and gave a similar name.
    Uuid,
}

#[derive(Clone, Debug)]
struct Pattern {
    components: Vec<Vec<Piece>>,
    dir_only: bool,
}

const UUID: &str = "<uuid>";
const UUID_LEN: usize = 36;

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == UUID_LEN
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn pieces(component: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = component;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('*') {
            pieces.push(Piece::Any);
            rest = after;
        } else if let Some(after) = rest.strip_prefix(UUID) {
            pieces.push(Piece::Uuid);
            rest = after;
        } else {
            let star = rest.find('*').unwrap_or(rest.len());
            let end = star.min(rest.find(UUID).unwrap_or(rest.len()));
            pieces.push(Piece::Literal(rest.as_bytes()[..end].to_vec()));
            rest = &rest[end..];
        }
    }
    pieces
}

fn matches(pieces: &[Piece], name: &[u8]) -> bool {
    match pieces.split_first() {
        None => name.is_empty(),
        Some((Piece::Literal(text), rest)) => {
            name.strip_prefix(text.as_slice()).is_some_and(|name| matches(rest, name))
        }
        Some((Piece::Uuid, rest)) => {
            name.split_at_checked(UUID_LEN).is_some_and(|(id, name)| is_uuid(id) && matches(rest, name))
        }
        Some((Piece::Any, [])) => true,
        Some((Piece::Any, rest)) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
    }
}

/// A list of patterns.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

/// Where a directory stands towards a list of patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// In or below what a pattern names.
    Inside,
    /// On the way to what these patterns name; so many of their components have matched.
    Leads { depth: usize, live: Vec<usize> },
    /// Nowhere near.
    Outside,
}

impl Patterns {
    /// Takes patterns of literal bytes, `*` and `<uuid>`; one that ends in `/` names directories only.
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let parse = |text: &str| Pattern {
            components: text.split('/').filter(|c| !c.is_empty()).map(pieces).collect(),
            dir_only: text.ends_with('/'),
        };
        Self(patterns.into_iter().map(parse).collect())
    }

    /// Takes paths as they are.
    pub(super) fn literal(paths: &[RepoPath]) -> Self {
        let parse = |path: &RepoPath| Pattern {
            components: path.components().map(|name| vec![Piece::Literal(name.to_vec())]).collect(),
            dir_only: false,
        };
        Self(paths.iter().map(parse).collect())
    }

    /// Where the root stands.
    pub(super) fn start(&self) -> Position {
        if self.0.iter().any(|pattern| pattern.components.is_empty()) {
            return Position::Inside;
        }
        if self.0.is_empty() {
            return Position::Outside;
        }
        Position::Leads { depth: 0, live: (0..self.0.len()).collect() }
    }

    /// Where a child of a directory at `from` stands.
    pub(super) fn step(&self, from: &Position, name: &[u8], is_dir: bool) -> Position {
        let Position::Leads { depth, live } = from else { return from.clone() };
        let mut next = Vec::new();
        for &index in live {
            let Some(pattern) = self.0.get(index) else { continue };
            let Some(component) = pattern.components.get(*depth) else { continue };
            if !matches(component, name) {
                continue;
            }
            if depth + 1 < pattern.components.len() {
                next.push(index);
            } else if is_dir || !pattern.dir_only {
                return Position::Inside;
            }
        }
        if next.is_empty() || !is_dir {
            return Position::Outside;
        }
        Position::Leads { depth: depth + 1, live: next }
    }

    /// True when a pattern names this path or a directory above it. Whether the path itself is a
    /// directory is not known here, so patterns for directories count too.
    pub(super) fn covers(&self, path: &RepoPath) -> bool {
        let mut at = self.start();
        for name in path.components() {
            at = self.step(&at, name, true);
        }
        at == Position::Inside
    }

    /// The regular files below `root` that a pattern names, in manifest order. What cannot be read is
    /// passed over: a walk of the same tree will report it.
    pub(super) fn files(&self, root: &Dir) -> Vec<RepoPath> {
        let mut found = Vec::new();
        self.collect(root, &RepoPath::root(), &self.start(), &mut found);
        found.sort_unstable();
        found
    }

    // Recursion is bounded by the longest pattern.
    fn collect(&self, dir: &Dir, path: &RepoPath, at: &Position, found: &mut Vec<RepoPath>) {
        let mut listing = Listing::new();
        if dir.list_into(&mut listing).is_err() {
            return;
        }
        for (name, kind) in listing.iter() {
            let kind = match kind {
                FileKind::Unknown => dir.stat_at(name).map_or(FileKind::Unknown, |stat| stat.kind),
                known => known,
            };
            let next = self.step(at, name, kind == FileKind::Directory);
            let Ok(child) = path.join(name) else { continue };
            match (next, kind) {
                (Position::Inside, FileKind::File) => found.push(child),
                (leads @ Position::Leads { .. }, FileKind::Directory) => {
                    if let Ok(dir) = dir.open_dir(name) {
                        self.collect(&dir, &child, &leads, found);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn path(s: &str) -> RepoPath {
        RepoPath::new(s.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn patterns_match_whole_components_at_their_place() {
        let patterns = Patterns::new(["agents/*/sessions", "work-*/", "*.sqlite.tmp-<uuid>", "a*b*c"]);
        let uuid = "0f8fad5b-d9cb-469f-a165-70867728950e";
        for yes in [
            "agents/main/sessions",
            "agents/main/sessions/deep/file",
            "work-x",
            "work-",
            "abc",
            "a12b3bc",
            &format!("main.sqlite.tmp-{uuid}"),
        ] {
            assert!(patterns.covers(&path(yes)), "{yes}");
        }
        for no in [
            "",
            "agents",
            "agents/main",
            "agents/main/session",
            "x/agents/main/sessions",
            "agents/a/b/sessions",
            "work",
            "x/work-x",
            "main.sqlite.tmp-mine",
            &format!("main.sqlite.tmp-{uuid}x"),
            "ab",
            "acb",
        ] {
            assert!(!patterns.covers(&path(no)), "{no}");
        }
    }

    #[test]
    fn directories_only_means_so() {
        let patterns = Patterns::new(["cache/"]);
        assert_eq!(patterns.step(&patterns.start(), b"cache", false), Position::Outside);
        assert_eq!(patterns.step(&patterns.start(), b"cache", true), Position::Inside);
    }

    #[test]
    fn literal_paths_have_no_wildcards() {
        let patterns = Patterns::literal(&[path("a*/b"), path("<uuid>")]);
        assert!(patterns.covers(&path("a*/b")));
        assert!(patterns.covers(&path("<uuid>")));
        assert!(!patterns.covers(&path("ax/b")));
        assert_eq!(Patterns::literal(&[RepoPath::root()]).start(), Position::Inside);
    }
}
