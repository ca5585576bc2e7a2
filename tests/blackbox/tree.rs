//! A repository with something to back up, and trees compared by everything that a restore owes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::Value;

use crate::support::{Place, Run};

/// An initialised repository at `r`, and a source directory `s`.
pub(crate) struct Repo {
    pub(crate) place: Place,
}

impl Repo {
    pub(crate) fn new() -> Self {
        // The default repository has a generated key, which opens in no time.
        let mut place = Place::new();
        place.run(&["init"]).exits(0);
        fs::rename(place.path("home/.local/share/exuvia/repository"), place.path("r")).unwrap();
        place.set("EXUVIA_REPO", "r").set("EXUVIA_PASSPHRASE_FILE", "home/.config/exuvia/default.key");
        place.set("EXUVIA_STATE_DIR", "s");
        fs::create_dir(place.path("s")).unwrap();
        Self { place }
    }

    /// A path in the place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// A path in the source.
    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.place.path("s").join(name)
    }

    /// Writes a file of the source.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.source(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Run {
        self.place.run(args)
    }

    /// Backs up without an application's rules; must end well. Returns the summary.
    #[track_caller]
    pub(crate) fn backup(&self, args: &[&str]) -> Value {
        last(&self.run(&[&["--json", "backup", "--profile", "none"], args].concat()).exits(0))
    }

    /// Restores; must end well. Returns the summary.
    #[track_caller]
    pub(crate) fn restore(&self, args: &[&str]) -> Value {
        last(&self.run(&[&["--json", "restore"], args].concat()).exits(0))
    }

    /// A file of a snapshot.
    #[track_caller]
    pub(crate) fn cat(&self, snapshot: &str, path: &OsStr) -> Vec<u8> {
        self.run(&[OsStr::new("cat"), OsStr::new(snapshot), path]).exits(0).stdout
    }

    /// Fails unless every byte of the repository is sound.
    #[track_caller]
    pub(crate) fn check(&self) {
        self.run(&["check", "--read-data"]).exits(0);
    }

    /// Names and sizes of all objects.
    pub(crate) fn objects(&self) -> BTreeMap<PathBuf, u64> {
        let mut objects = BTreeMap::new();
        let mut dirs = vec![self.path("r")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let meta = entry.metadata().unwrap();
                if meta.is_dir() {
                    dirs.push(entry.path());
                } else {
                    objects.insert(entry.path(), meta.len());
                }
            }
        }
        objects
    }

    /// What `f` adds to the repository: objects and bytes.
    pub(crate) fn added<T>(&self, f: impl FnOnce() -> T) -> (T, Vec<PathBuf>, u64) {
        let before = self.objects();
        let result = f();
        let new: Vec<_> = self.objects().into_iter().filter(|(path, _)| !before.contains_key(path)).collect();
        let bytes = new.iter().map(|(_, size)| size).sum();
        (result, new.into_iter().map(|(path, _)| path).collect(), bytes)
    }
}

/// The last line of stdout, a summary.
#[track_caller]
pub(crate) fn last(run: &Run) -> Value {
    let line = run.text().lines().last().unwrap_or_default();
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!(value["type"], "summary", "{line}");
    value
}

/// A number of a summary.
#[track_caller]
pub(crate) fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("no {key} in {summary}"))
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Sets the time of modification; of a link itself, not of what it leads to.
pub(crate) fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let mtime = Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// The time of modification.
pub(crate) fn mtime(path: &Path) -> (i64, i64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.mtime(), meta.mtime_nsec())
}

/// Waits until the clock has left the tick in which anything in the tree changed: from then on its
/// times can be trusted. Polls.
pub(crate) fn settle(root: &Path) {
    let mut newest = Duration::ZERO;
    let mut queue = vec![root.to_path_buf()];
    while let Some(path) = queue.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let ctime = Duration::new(
            u64::try_from(meta.ctime()).unwrap_or_default(),
            u32::try_from(meta.ctime_nsec()).unwrap_or_default(),
        );
        newest = newest.max(ctime);
        if meta.is_dir() {
            queue.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    let until = newest + Duration::from_millis(60);
    let limit = Instant::now() + Duration::from_secs(20);
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap() < until && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the tests run as root, to whom no mode is a hindrance.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What an entry of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: String,
    pub(crate) mode: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) size: u64,
    /// Hash of a file's content, or the target of a link.
    pub(crate) content: String,
    /// The first name of the same file.
    pub(crate) same_as: Vec<u8>,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// Content takes less room than its size.
    pub(crate) sparse: bool,
}

/// Describes a tree, sockets left out. `mask` of the mode.
pub(crate) fn describe(root: &Path, mask: u32) -> BTreeMap<Vec<u8>, Node> {
    let mut nodes = BTreeMap::new();
    let mut queue = vec![root.to_path_buf()];
    while let Some(path) = queue.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        if kind.is_socket() {
            continue;
        }
        let mut node = Node {
            kind: format!("{:o}", meta.mode() & 0o170_000),
            mode: meta.mode() & 0o7777 & mask,
            mtime: (meta.mtime(), meta.mtime_nsec()),
            size: 0,
            content: String::new(),
            same_as: Vec::new(),
            xattrs: xattrs(&path),
            sparse: false,
        };
        if kind.is_dir() {
            queue.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_symlink() {
            node.content = fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        } else if kind.is_file() {
            node.size = meta.len();
            node.content = hash(&path);
            // File systems allocate more than is asked for; a hole of 256 KiB shows all the same.
            node.sparse = meta.blocks() * 512 + (256 << 10) <= meta.len();
        }
        nodes.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), node);
    }
    let mut first: HashMap<u64, Vec<u8>> = HashMap::new();
    for (path, node) in &mut nodes {
        let full = root.join(OsString::from_vec(path.clone()));
        let inode = fs::symlink_metadata(full).unwrap().ino();
        node.same_as.clone_from(first.entry(inode).or_insert_with(|| path.clone()));
    }
    nodes
}

/// BLAKE3 of a file.
pub(crate) fn hash(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut file = File::open(path).unwrap();
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finalize().to_string(),
            n => hasher.update(&buffer[..n]),
        };
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else { return Vec::new() };
    let mut found = Vec::new();
    for name in names[..len].split(|&b| b == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        found.push((name.escape_ascii().to_string(), value[..len].to_vec()));
    }
    found.sort();
    found
}

/// Sets an extended attribute; false where the file system has none.
pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// Fails with the first differences between two trees, if there are any.
#[track_caller]
pub(crate) fn assert_same(got: &BTreeMap<Vec<u8>, Node>, want: &BTreeMap<Vec<u8>, Node>) {
    let mut wrong = Vec::new();
    for path in want.keys().chain(got.keys().filter(|path| !want.contains_key(*path))) {
        if got.get(path) != want.get(path) {
            let name = path.escape_ascii();
            wrong.push(format!("{name:.80}\n  got  {:?}\n  want {:?}", got.get(path), want.get(path)));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(6)].join("\n"));
}

/// A file of `size` with bytes at the places given and holes elsewhere.
pub(crate) fn sparse(path: &Path, size: u64, data: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for &(at, len) in data {
        file.write_all_at(&noise(at, len), at).unwrap();
    }
}
