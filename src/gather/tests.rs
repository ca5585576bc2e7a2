#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::fs::{FileKind, stat_path};
use crate::model::compare_paths;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(paths: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for path in paths {
            tree.add(path, path.as_bytes());
        }
        tree
    }

    /// Makes a file, or a directory when the path ends in a slash.
    fn add(&self, path: &str, content: &[u8]) {
        let full = self.0.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, content).unwrap();
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn walk(&self, options: WalkOptions) -> Vec<Found> {
        collect(self.path(), options)
    }
}

fn collect(root: &Path, options: WalkOptions) -> Vec<Found> {
    let mut walk = TreeWalk::new(root, options).unwrap();
    let found: Vec<Found> = std::iter::from_fn(|| walk.next()).collect();
    assert!(walk.next().is_none());
    found
}

fn repo_path(s: &str) -> RepoPath {
    RepoPath::new(s.as_bytes().to_vec()).unwrap()
}

fn entry(found: &Found) -> Option<&FoundEntry> {
    match found {
        Found::Entry(entry) => Some(entry),
        _ => None,
    }
}

fn entries(found: &[Found]) -> Vec<&FoundEntry> {
    found.iter().filter_map(entry).collect()
}

fn paths(found: &[Found]) -> Vec<String> {
    entries(found).iter().skip(1).map(|e| e.path.to_string()).collect()
}

fn skips(found: &[Found]) -> Vec<(String, SkipReason)> {
    let skip = |f: &Found| match f {
        Found::Skipped { path, reason } => Some((path.to_string(), *reason)),
        _ => None,
    };
    found.iter().filter_map(skip).collect()
}

fn errors(found: &[Found]) -> Vec<(String, ErrorKind, &'static str)> {
    let error = |f: &Found| match f {
        Found::Error { path, error, what } => Some((path.to_string(), error.kind(), *what)),
        _ => None,
    };
    found.iter().filter_map(error).collect()
}

fn excluding(patterns: &[&str]) -> WalkOptions {
    let excludes = patterns.iter().map(|&p| p.to_owned()).collect();
    with_rules(RuleOptions { excludes, ..RuleOptions::default() })
}

fn with_rules(options: RuleOptions) -> WalkOptions {
    WalkOptions { rules: Rules::compile(&options).unwrap(), ..WalkOptions::default() }
}

#[test]
fn the_order_is_that_of_the_manifest_and_the_root_is_first() {
    let tree = Tree::new(&["a/b/c", "a/z", "a-b", "a.b", "a/", "b", "a/b-c", "é/x", "Z", "empty/"]);
    tree.add("aa", b"");
    fs::write(tree.path().join(OsStr::from_bytes(b"\xff\x01")), b"").unwrap();
    symlink("a", tree.path().join("link")).unwrap();
    let found = tree.walk(WalkOptions::default());
    let entries = entries(&found);
    assert_eq!(entries.len(), found.len());
    assert!(entries[0].path.is_root());
    for pair in entries.windows(2) {
        assert!(compare_paths(pair[0].path.as_bytes(), pair[1].path.as_bytes()).is_lt());
    }
    assert_eq!(entries.len(), 16);
    for entry in &entries {
        assert_eq!(entry.opened.is_some(), entry.stat.kind == FileKind::Directory);
        if !entry.path.is_root() {
            assert_eq!(entry.parent.stat_at(entry.path.name()).unwrap(), entry.stat);
        }
    }
    let link = entries.iter().find(|e| e.path.as_bytes() == b"link").unwrap();
    assert_eq!(link.stat.kind, FileKind::Symlink);
}

#[test]
fn sockets_are_skipped_and_pipes_taken() {
    let tree = Tree::new(&["file"]);
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("sock")).unwrap();
    Dir::open(tree.path()).unwrap().mkfifo(b"pipe", 0o600).unwrap();
    let found = tree.walk(WalkOptions::default());
    assert_eq!(paths(&found), ["file", "pipe"]);
    assert_eq!(skips(&found), [("sock".to_owned(), SkipReason::Socket)]);
}

#[test]
#[cfg(target_os = "linux")]
fn an_unreadable_directory_is_reported_and_drops_nothing_else() {
    let tree = Tree::new(&["a/file", "locked/inner", "unsearchable/inner", "z/file"]);
    let mode = |name: &str, mode| {
        fs::set_permissions(tree.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(".", 0o755);
    mode("locked", 0o000);
    mode("unsearchable", 0o444);
    let found = crate::fs::without_privilege(|| tree.walk(WalkOptions::default())).unwrap();
    mode("locked", 0o755);
    mode("unsearchable", 0o755);
    assert_eq!(paths(&found), ["a", "a/file", "locked", "unsearchable", "z", "z/file"]);
    let denied = ErrorKind::PermissionDenied;
    let expected = [
        ("locked".to_owned(), denied, "open directory"),
        ("unsearchable/inner".to_owned(), denied, "read metadata"),
    ];
    assert_eq!(errors(&found), expected);
    assert!(entries(&found).iter().find(|e| e.path.as_bytes() == b"locked").unwrap().opened.is_none());
}

#[test]
fn what_vanishes_during_the_walk_is_skipped() {
    let tree = Tree::new(&["a", "b", "c/inner", "d"]);
    let mut walk = TreeWalk::new(tree.path(), WalkOptions::default()).unwrap();
    assert!(matches!(walk.next(), Some(Found::Entry(root)) if root.path.is_root()));
    fs::remove_file(tree.path().join("b")).unwrap();
    fs::remove_dir_all(tree.path().join("c")).unwrap();
    let found: Vec<Found> = std::iter::from_fn(|| walk.next()).collect();
    let gone = |name: &str| (name.to_owned(), SkipReason::Vanished);
    assert_eq!(skips(&found), [gone("b"), gone("c")]);
    assert_eq!(entries(&found).len(), 2);
    assert!(errors(&found).is_empty());
}

#[test]
fn a_root_that_was_removed_is_an_error() {
    let tree = Tree::new(&["sub/"]);
    let dir = Arc::new(Dir::open(&tree.path().join("sub")).unwrap());
    fs::remove_dir(tree.path().join("sub")).unwrap();
    let mut walk = TreeWalk::of(dir, WalkOptions::default()).unwrap();
    let found: Vec<Found> = std::iter::from_fn(|| walk.next()).collect();
    assert_eq!(errors(&found).len(), 1);
}

#[test]
fn excludes_follow_gitignore() {
    let tree = Tree::new(&[
        "keep.md",
        "x.tmp",
        "sub/y.tmp",
        "sub/keep.tmp",
        "build/out",
        "sub/build/out",
        "top",
        "sub/top",
        "node_modules/a/b",
    ]);
    fs::write(tree.path().join(OsStr::from_bytes(b"\xfe.tmp")), b"").unwrap();
    fs::write(tree.path().join(OsStr::from_bytes(b"\xfe.md")), b"").unwrap();
    let found = tree.walk(excluding(&["*.tmp", "!keep.tmp", "/build", "/top", "node_modules/"]));
    assert_eq!(
        paths(&found),
        ["keep.md", "sub", "sub/build", "sub/build/out", "sub/keep.tmp", "sub/top", "\u{fffd}.md"]
    );
    // Once for a directory, not for what is in it.
    assert!(skips(&found).contains(&("node_modules".to_owned(), SkipReason::Excluded)));
    assert_eq!(skips(&found).len(), 6);
}

#[test]
fn exclude_files_are_read_and_bad_ones_refused() {
    let tree = Tree::new(&["a.log", "b.md", "c.tmp"]);
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), b"\xef\xbb\xbf*.log\r\n# comment \xff\n\n*.tmp\n").unwrap();
    let options = |exclude_files| RuleOptions { exclude_files, ..RuleOptions::default() };
    let found = tree.walk(with_rules(options(vec![list.path().to_owned()])));
    assert_eq!(paths(&found), ["b.md"]);
    fs::write(list.path(), b"ok\n\xff\n").unwrap();
    let error = Rules::compile(&options(vec![list.path().to_owned()])).unwrap_err();
    assert!(error.to_string().contains(":2: "), "{error}");
    assert!(Rules::compile(&options(vec!["/no/such/file".into()])).is_err());
    let bad = RuleOptions { excludes: vec!["a{b".into()], ..RuleOptions::default() };
    assert!(Rules::compile(&bad).is_err());
}

#[test]
fn ignore_files_apply_to_their_subtree_and_the_deeper_wins() {
    let tree = Tree::new(&["a.log", "sub/a.log", "sub/deep/a.log", "sub/deep/b.md", "sub/only", "only"]);
    tree.add(".exuviaignore", b"*.log\n");
    tree.add("sub/.exuviaignore", b"/only\n!a.log\n");
    tree.add("sub/deep/.exuviaignore", b"*.log\nbad{pattern\n\xff\n*.md\n");
    let rules = RuleOptions { ignore_files: true, ..RuleOptions::default() };
    let found = tree.walk(with_rules(rules.clone()));
    let expected = [
        ".exuviaignore",
        "only",
        "sub",
        "sub/.exuviaignore",
        "sub/a.log",
        "sub/deep",
        "sub/deep/.exuviaignore",
    ];
    assert_eq!(paths(&found), expected);
    // What was not understood is reported; what was understood counts.
    let expected = ("sub/deep/.exuviaignore".to_owned(), ErrorKind::InvalidData, "read ignore file");
    assert_eq!(errors(&found), [expected]);
    // The command line has the last word.
    let found = tree.walk(with_rules(RuleOptions { excludes: vec!["!*.log".into()], ..rules }));
    assert!(paths(&found).contains(&"sub/deep/a.log".to_owned()));
    assert_eq!(tree.walk(WalkOptions::default()).len(), 12);
}

#[test]
fn an_ignore_file_stops_counting_where_its_directory_ends() {
    let tree = Tree::new(&["a/x", "b/x", "c/x"]);
    tree.add("b/.exuviaignore", b"x\n");
    let rules = RuleOptions { ignore_files: true, ..RuleOptions::default() };
    assert_eq!(paths(&tree.walk(with_rules(rules))), ["a", "a/x", "b", "b/.exuviaignore", "c", "c/x"]);
}

#[test]
fn sidecars_are_known_by_the_file_beside_them() {
    let tree =
        Tree::new(&["db", "db-wal", "db-shm", "db-journal", "db-x", "lone-wal", "dir/", "dir-wal", "-wal"]);
    let found = tree.walk(WalkOptions::default());
    let sidecars: Vec<String> =
        entries(&found).iter().filter(|e| e.sidecar).map(|e| e.path.to_string()).collect();
    assert_eq!(sidecars, ["db-journal", "db-shm", "db-wal"]);
}

#[test]
fn only_takes_what_was_asked_for_and_what_leads_there() {
    let tree = Tree::new(&["a/b/c", "a/b/d", "a/x", "ab", "b", "f/g"]);
    let only = |paths: &[&str]| WalkOptions {
        only: paths.iter().map(|p| repo_path(p)).collect(),
        ..WalkOptions::default()
    };
    let found = tree.walk(only(&["a/b", "a/b/c", "b"]));
    assert_eq!(paths(&found), ["a", "a/b", "a/b/c", "a/b/d", "b"]);
    assert!(errors(&found).is_empty());
    let found = tree.walk(only(&["a/b/d", "nope/x", "b/below-a-file"]));
    assert_eq!(paths(&found), ["a", "a/b", "a/b/d"]);
    let mut missing: Vec<String> = errors(&found).into_iter().map(|(path, ..)| path).collect();
    missing.sort();
    assert_eq!(missing, ["b/below-a-file", "nope/x"]);
    assert!(errors(&found).iter().all(|e| e.1 == ErrorKind::NotFound));
    assert_eq!(paths(&tree.walk(only(&[""]))).len(), 9);
    // Left out by a rule: that is the answer, not "not found".
    let found = tree.walk(WalkOptions { only: vec![repo_path("a/b/c")], ..excluding(&["/a/b"]) });
    assert_eq!(skips(&found), [("a/b".to_owned(), SkipReason::Excluded)]);
    assert!(errors(&found).is_empty());
}

#[test]
fn include_sets_limit_the_walk() {
    let tree = Tree::new(&[
        "workspace/a/b.md",
        "workspace-2/c.md",
        "openclaw.json",
        "agents/main/sessions/x.jsonl",
        "agents/main/other",
        "media/big",
        "logs/x",
    ]);
    let include = IncludeSet::parse_list("workspace,sessions").unwrap();
    let found = tree.walk(WalkOptions { include, ..WalkOptions::default() });
    assert_eq!(
        paths(&found),
        [
            "agents",
            "agents/main",
            "agents/main/sessions",
            "agents/main/sessions/x.jsonl",
            "workspace",
            "workspace/a",
            "workspace/a/b.md",
            "workspace-2",
            "workspace-2/c.md",
        ]
    );
    assert!(errors(&found).is_empty() && skips(&found).is_empty());
    let include = IncludeSet::parse_list("workspace").unwrap();
    let only = vec![repo_path("workspace/a"), repo_path("media")];
    let found = tree.walk(WalkOptions { include, only, ..WalkOptions::default() });
    assert_eq!(paths(&found), ["workspace", "workspace/a", "workspace/a/b.md"]);
}

#[test]
fn marked_caches_keep_their_tag_only() {
    const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n# more";
    let tree = Tree::new(&["cache/big", "cache/sub/x", "fake/y", "plain/z"]);
    tree.add("CACHEDIR.TAG", TAG);
    tree.add("cache/CACHEDIR.TAG", TAG);
    tree.add("fake/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc5");
    let found = tree.walk(WalkOptions { exclude_caches: true, ..WalkOptions::default() });
    assert_eq!(
        paths(&found),
        [
            "CACHEDIR.TAG",
            "cache",
            "cache/CACHEDIR.TAG",
            "fake",
            "fake/CACHEDIR.TAG",
            "fake/y",
            "plain",
            "plain/z"
        ]
    );
    assert_eq!(skips(&found), [("cache".to_owned(), SkipReason::Cache)]);
    assert_eq!(paths(&tree.walk(WalkOptions::default())).len(), 11);
}

#[test]
fn our_own_repository_is_not_entered() {
    let tree = Tree::new(&["data/a", "repo/packs/x", "out.tar"]);
    let forbidden =
        ["repo", "out.tar"].map(|name| stat_path(&tree.path().join(name)).unwrap().identity()).to_vec();
    let found = tree.walk(WalkOptions { forbidden, ..WalkOptions::default() });
    assert_eq!(paths(&found), ["data", "data/a"]);
    let own = |name: &str| (name.to_owned(), SkipReason::OwnRepository);
    assert_eq!(skips(&found), [own("out.tar"), own("repo")]);
    let forbidden = vec![stat_path(tree.path()).unwrap().identity()];
    let error = TreeWalk::new(tree.path(), WalkOptions { forbidden, ..WalkOptions::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn other_file_systems_are_left_out_on_request() {
    let (root, proc) = (stat_path(Path::new("/")).unwrap(), stat_path(Path::new("/proc")));
    if !proc.is_ok_and(|proc| proc.dev != root.dev) {
        return;
    }
    let only = vec![repo_path("proc")];
    let found =
        collect(Path::new("/"), WalkOptions { only, one_file_system: true, ..WalkOptions::default() });
    assert_eq!(paths(&found), ["proc"]);
    assert_eq!(skips(&found), [("proc".to_owned(), SkipReason::OtherFileSystem)]);
}

/// Makes a chain of directories, each holding the next and a file that sorts after it; removes it
/// level by level when dropped, since the usual removal takes a handle for each level.
struct Chain {
    tree: Tree,
    name: Vec<u8>,
    depth: usize,
}

impl Chain {
    fn new(name: &[u8], depth: usize) -> Self {
        let tree = Tree::new(&[]);
        let mut dir = Dir::open(tree.path()).unwrap();
        for _ in 0..depth {
            dir.create_dir(name, 0o700).unwrap();
            dir.create_file(b"z", 0o600).unwrap();
            dir = dir.open_dir(name).unwrap();
        }
        Self { tree, name: name.to_vec(), depth }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let mut dir = Dir::open(self.tree.path()).unwrap();
        for _ in 0..self.depth {
            dir = dir.open_dir(&self.name).unwrap();
        }
        for _ in 0..self.depth {
            dir = dir.open_parent().unwrap();
            dir.rmdir(&self.name).unwrap();
            dir.unlink(b"z").unwrap();
        }
    }
}

#[test]
fn depth_exhausts_neither_handles_nor_the_stack() {
    let chain = Chain::new(b"a", 3_000);
    let mut walk = TreeWalk::new(chain.tree.path(), WalkOptions::default()).unwrap();
    let mut last = RepoPath::root();
    let mut count = 0;
    while let Some(found) = walk.next() {
        let Found::Entry(entry) = found else { panic!("{found:?}") };
        assert!(count == 0 || last < entry.path);
        last = entry.path;
        count += 1;
        assert!(walk.open_handles() < 200);
    }
    assert_eq!(count, 6_001);
}

#[test]
fn a_path_that_no_snapshot_can_hold_is_reported() {
    let chain = Chain::new(&[b'n'; 250], 270);
    let found = chain.tree.walk(WalkOptions::default());
    let errors = errors(&found);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].1, errors[0].2), (ErrorKind::InvalidInput, "take name"));
    // 65,535 bytes are 261 such names with their slashes, and each level but the last has its file.
    assert_eq!(entries(&found).len(), 1 + 261 + 262);
}

#[test]
fn a_directory_moved_while_it_is_read_is_reported() {
    let chain = Chain::new(b"a", 300);
    let mut walk = TreeWalk::new(chain.tree.path(), WalkOptions::default()).unwrap();
    for _ in 0..=300 {
        assert!(matches!(walk.next(), Some(Found::Entry(_))));
    }
    // At the bottom. Level 100, whose handle is closed, is moved to where its path does not lead, and
    // what it holds is moved out of it.
    let at = |depth: usize| repo_path(&vec!["a"; depth].join("/"));
    let root = Dir::open(chain.tree.path()).unwrap();
    let (above, moved) = (root.open_path(&at(99)).unwrap(), root.open_path(&at(100)).unwrap());
    above.rename_at(b"a", &root, b"moved").unwrap();
    moved.rename_at(b"a", &root, b"child").unwrap();
    let rest: Vec<Found> = std::iter::from_fn(|| walk.next()).collect();
    moved_back(&root, &above, &moved);
    let errors = errors(&rest);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].0.as_str(), errors[0].2), (at(100).to_string().as_str(), "return to directory"));
    // Only the file of the level that moved is missing.
    assert_eq!(entries(&rest).len(), 299);
}

fn moved_back(root: &Dir, above: &Dir, moved: &Dir) {
    root.rename_at(b"child", moved, b"a").unwrap();
    root.rename_at(b"moved", above, b"a").unwrap();
}
