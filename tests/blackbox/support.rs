//! A place to run the program in, where it finds nothing of the machine's user.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

/// A temporary home. The environment of every run holds `HOME`, `PATH`, `TZ`, and what the test sets.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What one run of the program did.
pub(crate) struct Run {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    /// What went to stdout, as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The last line of stderr as a JSON document.
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(self.stderr.lines().last().unwrap_or_default())
            .unwrap_or_else(|e| panic!("{e}: {}", self.stderr))
    }

    /// Fails the test unless the program exited so.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout.escape_ascii(), self.stderr);
        self
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir, variables: Vec::new() }
    }

    /// Sets an environment variable for the runs that follow.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A path in this place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and the folders above it.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exuvia"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Run {
        self.command(args).output().unwrap().into()
    }
}

/// Names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A place with a repository `repo` whose passphrase is set.
pub(crate) fn with_repository() -> Place {
    let mut place = Place::new();
    place.set("EXUVIA_PASSPHRASE", PASSPHRASE).set("EXUVIA_REPO", "repo");
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    place
}

/// What opens the repositories that tests make.
pub(crate) const PASSPHRASE: &str = "correct horse";

impl Run {
    /// The last line of stdout as a JSON document.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        let line = self.text().lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{}", self.stderr))
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Place {
    /// Starts the program; its outputs are read when it has ended.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, args: &[A]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Takes a snapshot of a directory; returns the summary.
    #[track_caller]
    pub(crate) fn backup(&self, dir: &str) -> Value {
        self.run(&["--json", "backup", dir]).exits(0).summary()
    }

    /// Ids of the snapshots, oldest first.
    #[track_caller]
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let rows = self.run(&["--json", "snapshots"]).exits(0).summary();
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Restores a snapshot to a fresh directory, looks at it, and takes it away again.
    #[track_caller]
    pub(crate) fn restored(&self, snapshot: &str) -> Picture {
        let to = self.path("restored");
        self.run(&["restore", snapshot, "--to", "restored"]).exits(0);
        let picture = picture(&to);
        fs::remove_dir_all(&to).unwrap();
        picture
    }

    /// Fails the test unless every byte of the repository is as it should be.
    #[track_caller]
    pub(crate) fn is_sound(&self) {
        let run = self.run(&["--json", "check", "--read-data"]).exits(0);
        assert_eq!(run.summary()["ok"], true);
    }
}

/// Waits for a program that was started.
#[track_caller]
pub(crate) fn ended(child: Child) -> Run {
    child.wait_with_output().unwrap().into()
}

/// Asks again and again, until the answer is yes or nobody can expect it any more.
#[track_caller]
pub(crate) fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !yes() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Numbers that are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, below `limit` (`SplitMix64`).
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Bytes that no compressor makes shorter.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Text that does not repeat itself.
pub(crate) fn prose(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "shed", "skin", "of", "the", "cicada", "left", "behind", "on", "bark", "when", "it", "grows", "out",
        "a", "summer", "night",
    ];
    let (mut numbers, mut text) = (Numbers::new(seed), String::with_capacity(len + 16));
    while text.len() < len {
        text.push_str(WORDS[usize::try_from(numbers.below(16)).unwrap()]);
        text.push(if numbers.below(9) == 0 { '\n' } else { ' ' });
    }
    text.truncate(len);
    text.into_bytes()
}

/// Writes a file below a directory, with the folders above it.
pub(crate) fn put(dir: &Path, name: &str, content: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A database in WAL mode whose log is never emptied, held open as its application would.
pub(crate) fn database(path: &Path, rows: i64, page_size: u32) -> Connection {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "page_size", page_size).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    db.execute_batch("create table t (id integer primary key, body blob)").unwrap();
    insert(&db, rows);
    db
}

/// Adds rows in one transaction.
pub(crate) fn insert(db: &Connection, rows: i64) {
    db.execute_batch("begin").unwrap();
    let first: i64 = db.query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
    for id in first..first + rows {
        let body = prose(id.unsigned_abs(), 200);
        db.execute("insert into t values (?1, ?2)", (id, body)).unwrap();
    }
    db.execute_batch("commit").unwrap();
}

/// What a path holds, and what its metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    mode: u32,
    /// Seconds and nanoseconds; zero for symlinks, whose times mean nothing.
    mtime: (i64, i64),
    content: Content,
}

impl Shape {
    pub(crate) fn is_dir(&self) -> bool {
        self.content == Content::Dir
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// The times are somebody else's business.
    pub(crate) fn forget_times(&mut self) {
        self.mtime = (0, 0);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Dir,
    Link(PathBuf),
    File(blake3::Hash),
    /// The rows: an image has the same, and not the same bytes.
    Database(blake3::Hash),
}

/// A tree, to be compared with another.
pub(crate) type Picture = BTreeMap<PathBuf, Shape>;

/// Looks at everything below a directory. `*.sqlite` is a database as [`database`] makes it; the
/// companions of databases are part of them.
pub(crate) fn picture(dir: &Path) -> Picture {
    let (mut found, mut databases) = (Picture::new(), Vec::new());
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = dir.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let content = if meta.is_dir() {
            todo.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            Content::Dir
        } else if meta.is_symlink() {
            Content::Link(fs::read_link(&full).unwrap())
        } else {
            match path.extension().map(|e| e.as_bytes()) {
                Some(b"sqlite-wal" | b"sqlite-shm") => continue,
                Some(b"sqlite") => {
                    databases.push(path.clone());
                    Content::Dir
                }
                _ => Content::File(blake3::hash(&fs::read(&full).unwrap())),
            }
        };
        let mtime = if meta.is_symlink() { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        found.insert(path, Shape { mode: meta.mode(), mtime, content });
    }
    // Last: looking into a database may make files beside it.
    for path in databases {
        found.get_mut(&path).unwrap().content = Content::Database(rows(&dir.join(&path)));
    }
    found
}

fn rows(path: &Path) -> blake3::Hash {
    let wal = path.with_extension("sqlite-wal").exists();
    let uri = format!("file:{}?{}", path.display(), if wal { "mode=ro" } else { "immutable=1" });
    let db = Connection::open(uri).unwrap();
    let verdict: String = db.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{}", path.display());
    let mut hasher = blake3::Hasher::new();
    let mut query = db.prepare("select id, body from t order by id").unwrap();
    let mut rows = query.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        hasher.update(&row.get::<_, i64>(0).unwrap().to_le_bytes());
        hasher.update(&row.get::<_, Vec<u8>>(1).unwrap());
    }
    hasher.finalize()
}

/// Fails the test, naming the paths, unless two trees are the same.
#[track_caller]
pub(crate) fn same(found: &Picture, wanted: &Picture, what: &str) {
    let paths: BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let differ: Vec<_> = paths
        .into_iter()
        .filter(|path| found.get(*path) != wanted.get(*path))
        .map(|path| (path, found.get(path), wanted.get(path)))
        .collect();
    assert!(differ.is_empty(), "{what}: found, wanted: {differ:#?}");
}

/// All files below a directory with their sizes, of what is there at the moment.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![dir.to_path_buf()]);
    while let Some(path) = todo.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(entry.path()),
                Ok(meta) => drop(found.insert(entry.path(), meta.len())),
                // Gone since the directory was read.
                Err(_) => {}
            }
        }
    }
    found
}
