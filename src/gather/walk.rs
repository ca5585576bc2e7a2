//! The walk of a tree by directory handles.
//!
//! Single-threaded, with a stack of its own instead of recursion, so that depth is bounded by memory
//! only. Reading a directory (`read_dir`) touches nothing of the walk's state: another thread could
//! do it ahead of time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use super::anchored::{Patterns, Position};
use super::rules::{Judge, Rules, Standing, Verdict};
use super::{Found, FoundEntry, Gather, IGNORE_FILE, IncludeSet, SkipReason, sets};
use crate::fs::{Dir, FileKind, Listing, Stat};
use crate::model::RepoPath;

/// Levels whose handles stay open. A tree may be deeper than a process may open files: handles
/// further up are closed, and opened again on the way back.
const OPEN_LEVELS: usize = 128;

/// Largest listing kept for reuse; one directory of a million names must not cost its memory for ever.
const MAX_SPARE_LISTING: usize = 1 << 20;

/// Bytes that mark a directory as a cache when `CACHEDIR.TAG` begins with them
/// (<https://bford.info/cachedir/>).
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to walk.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// When not empty: only these subtrees and files, and the directories that lead to them. One that
    /// is not met is reported as an error.
    pub only: Vec<RepoPath>,
    /// When not empty: only what belongs to these sets, and the directories that lead to it. Together
    /// with `only`: what belongs to both.
    pub include: Vec<IncludeSet>,
    /// What to leave out.
    pub rules: Rules,
    /// Leave out the content of directories on other file systems. A file of another file system,
    /// such as one mounted into a container, is taken.
    pub one_file_system: bool,
    /// Leave out the content of directories marked by a `CACHEDIR.TAG`, save the tag; the root does
    /// not count, since the user named it.
    pub exclude_caches: bool,
    /// Device and inode of files and directories that must never be read: our own repository, cache
    /// and output.
    pub forbidden: Vec<(u64, u64)>,
}

/// A directory that the walk is in.
#[derive(Debug)]
struct Frame {
    path: RepoPath,
    /// `None` while the handle is closed because the walk is far below, or when it could not be
    /// opened again.
    dir: Option<Arc<Dir>>,
    identity: (u64, u64),
    listing: Listing,
    next: usize,
    place: Place,
    /// Only the tag of this cache is taken.
    tag_only: bool,
}

/// Where a directory stands towards all that selects.
#[derive(Clone, Debug)]
struct Place {
    standing: Standing,
    only: Position,
    include: Position,
}

/// A walk over a tree; see [`Gather`].
#[derive(Debug)]
pub struct TreeWalk {
    root: Arc<Dir>,
    root_dev: u64,
    started: bool,
    stack: Vec<Frame>,
    pending: VecDeque<Found>,
    spare: Vec<Listing>,
    judge: Judge,
    only: Only,
    include: Patterns,
    one_file_system: bool,
    exclude_caches: bool,
    forbidden: Vec<(u64, u64)>,
}

/// The paths asked for, and which of them have been met.
#[derive(Debug)]
struct Only {
    patterns: Patterns,
    missing: Vec<RepoPath>,
}

impl Only {
    fn new(mut paths: Vec<RepoPath>) -> Self {
        if paths.is_empty() {
            paths.push(RepoPath::root());
        }
        paths.sort_unstable();
        // Below one asked for, another adds nothing.
        paths.dedup_by(|later, earlier| later.starts_with(earlier));
        Self { patterns: Patterns::literal(&paths), missing: paths }
    }

    /// Something has been said of `path`, and so of all below it.
    fn answered(&mut self, path: &RepoPath) {
        self.missing.retain(|asked| !asked.starts_with(path));
    }
}

/// Reads the names of a directory, sorted. Names read before an error are kept.
fn read_dir(dir: &Dir, mut listing: Listing) -> (Listing, io::Result<()>) {
    let result = dir.list_into(&mut listing);
    listing.sort();
    (listing, result)
}

fn is_cache(dir: &Dir, listing: &Listing) -> bool {
    if !matches!(listing.find(CACHE_TAG), Some(FileKind::File | FileKind::Unknown)) {
        return false;
    }
    let mut head = [0; CACHE_SIGNATURE.len()];
    let read = dir.open_regular(CACHE_TAG).and_then(|(mut file, _)| file.read_exact(&mut head));
    read.is_ok() && head == *CACHE_SIGNATURE
}

fn is_sidecar(dir: &Dir, listing: &Listing, name: &[u8]) -> bool {
    let base = [&b"-wal"[..], b"-shm", b"-journal"].iter().find_map(|suffix| name.strip_suffix(*suffix));
    base.is_some_and(|base| match listing.find(base) {
        Some(FileKind::Unknown) => dir.stat_at(base).is_ok_and(|stat| stat.kind == FileKind::File),
        kind => kind == Some(FileKind::File),
    })
}

impl TreeWalk {
    /// A walk of the directory at `root`, a path of the user: links on the way to it are followed.
    pub fn new(root: &Path, options: WalkOptions) -> io::Result<Self> {
        Self::of(Arc::new(Dir::open(root)?), options)
    }

    /// A walk of an open directory.
    pub fn of(root: Arc<Dir>, options: WalkOptions) -> io::Result<Self> {
        let stat = root.stat()?;
        if options.forbidden.contains(&stat.identity()) {
            let message = "the directory to back up is our own repository, cache or output";
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let everything = || Patterns::literal(&[RepoPath::root()]);
        Ok(Self {
            root,
            root_dev: stat.dev,
            started: false,
            stack: Vec::new(),
            pending: VecDeque::new(),
            spare: Vec::new(),
            judge: Judge::new(options.rules),
            only: Only::new(options.only),
            include: sets::compile(&options.include).unwrap_or_else(everything),
            one_file_system: options.one_file_system,
            exclude_caches: options.exclude_caches,
            forbidden: options.forbidden,
        })
    }

    #[cfg(test)]
    pub(super) fn open_handles(&self) -> usize {
        1 + self.stack.iter().filter(|frame| frame.dir.is_some()).count()
    }

    fn start(&mut self) -> Found {
        self.started = true;
        let path = RepoPath::root();
        let stat = match self.root.stat() {
            Ok(stat) => stat,
            Err(error) => return Found::Error { path, error, what: "read metadata" },
        };
        let place = Place {
            standing: self.judge.start(),
            only: self.only.patterns.start(),
            include: self.include.start(),
        };
        if place.only == Position::Inside {
            self.only.answered(&path);
        }
        let root = Arc::clone(&self.root);
        self.enter(path, root, None, stat, place)
    }

    /// The end: whatever was asked for and has not been met.
    fn finish(&mut self) -> Option<Found> {
        let path = self.only.missing.pop()?;
        Some(Found::Error { path, error: ErrorKind::NotFound.into(), what: "find" })
    }

    fn skipped(&mut self, path: RepoPath, reason: SkipReason) -> Found {
        self.only.answered(&path);
        Found::Skipped { path, reason }
    }

    fn failed(&mut self, path: RepoPath, error: io::Error, what: &'static str) -> Found {
        if error.kind() == ErrorKind::NotFound {
            return self.skipped(path, SkipReason::Vanished);
        }
        self.only.answered(&path);
        Found::Error { path, error, what }
    }

    /// Looks at the next name of the directory on top; `None` when it is not of interest.
    fn advance(&mut self) -> Option<Found> {
        let frame = self.stack.last_mut()?;
        let Some((name, kind)) = frame.listing.get(frame.next) else {
            return self.leave();
        };
        frame.next += 1;
        if frame.tag_only && name != CACHE_TAG {
            return None;
        }
        let Some(dir) = frame.dir.clone() else {
            // Said already, when the handle could not be opened again.
            frame.next = usize::MAX;
            return None;
        };
        let path = match frame.path.join(name) {
            Ok(path) => path,
            Err(error) => {
                let error = format!("name of {} bytes, {:.40}...: {error}", name.len(), name.escape_ascii());
                let error = io::Error::new(ErrorKind::InvalidInput, error);
                return Some(Found::Error { path: frame.path.clone(), error, what: "take name" });
            }
        };
        // What is left out is not even asked for its metadata: it may lie on a dead mount, which is
        // why it is left out. Only where the listing does not tell the type it must be.
        let mut known = match kind {
            FileKind::Unknown => match dir.stat_at(path.name()) {
                Ok(stat) => Some(stat),
                Err(error) => return Some(self.failed(path, error, "read metadata")),
            },
            _ => None,
        };
        let mut is_dir = known.map_or(kind, |stat| stat.kind) == FileKind::Directory;
        loop {
            let place = match self.select(&path, is_dir)? {
                Some(place) => place,
                None => return Some(self.skipped(path, SkipReason::Excluded)),
            };
            let stat = match known.take().map_or_else(|| dir.stat_at(path.name()), Ok) {
                Ok(stat) => stat,
                Err(error) => return Some(self.failed(path, error, "read metadata")),
            };
            // Changed its type since it was listed: the rules have to look again.
            if is_dir != (stat.kind == FileKind::Directory) {
                is_dir = !is_dir;
                known = Some(stat);
                continue;
            }
            return Some(self.take(path, dir, stat, place));
        }
    }

    /// Where a name of the directory on top stands: `None` when it was not asked for, `Some(None)`
    /// when it is left out.
    fn select(&mut self, path: &RepoPath, is_dir: bool) -> Option<Option<Place>> {
        let from = &self.stack.last()?.place;
        let name = path.name();
        let only = self.only.patterns.step(&from.only, name, is_dir);
        let include = self.include.step(&from.include, name, is_dir);
        if only == Position::Outside || include == Position::Outside {
            return None;
        }
        let newly_met = only == Position::Inside && from.only != Position::Inside;
        let place = match self.judge.judge(&from.standing, path.as_bytes(), name, is_dir) {
            Verdict::Keep(standing) => Some(Place { standing, only, include }),
            Verdict::LeaveOut => None,
        };
        if newly_met {
            self.only.answered(path);
        }
        Some(place)
    }

    fn take(&mut self, path: RepoPath, dir: Arc<Dir>, stat: Stat, place: Place) -> Found {
        if !self.forbidden.is_empty() && self.forbidden.contains(&stat.identity()) {
            return self.skipped(path, SkipReason::OwnRepository);
        }
        match stat.kind {
            FileKind::Socket => self.skipped(path, SkipReason::Socket),
            FileKind::Unknown => {
                self.failed(path, io::Error::other("a type of file that is not known"), "take entry")
            }
            FileKind::Directory => match dir.open_dir(path.name()) {
                Ok(opened) => self.enter_opened(path, dir, opened, stat, place),
                Err(error) if error.kind() == ErrorKind::NotFound => self.skipped(path, SkipReason::Vanished),
                Err(error) => self.unreadable(path, dir, None, stat, error, "open directory"),
            },
            _ => {
                let name = path.name();
                let sidecar = stat.kind == FileKind::File
                    && self.stack.last().is_some_and(|frame| is_sidecar(&dir, &frame.listing, name));
                Found::Entry(FoundEntry { path, stat, parent: dir, opened: None, sidecar })
            }
        }
    }

    /// The entry of a directory now and the error after it, so that neither hides the other.
    fn unreadable(
        &mut self,
        path: RepoPath,
        parent: Arc<Dir>,
        opened: Option<Arc<Dir>>,
        stat: Stat,
        error: io::Error,
        what: &'static str,
    ) -> Found {
        self.only.answered(&path);
        self.pending.push_back(Found::Error { path: path.clone(), error, what });
        Found::Entry(FoundEntry { path, stat, parent, opened, sidecar: false })
    }

    fn enter_opened(
        &mut self,
        path: RepoPath,
        parent: Arc<Dir>,
        opened: Dir,
        seen: Stat,
        place: Place,
    ) -> Found {
        let opened = Arc::new(opened);
        // From here on the metadata of the handle count: the name may have come to mean another
        // directory, and an automount shows its device only once it is open.
        let stat = match opened.stat() {
            Ok(stat) => stat,
            Err(error) => return self.unreadable(path, parent, None, seen, error, "read metadata"),
        };
        if self.forbidden.contains(&stat.identity()) {
            return self.skipped(path, SkipReason::OwnRepository);
        }
        if self.one_file_system && stat.dev != self.root_dev {
            self.only.answered(&path);
            let reason = SkipReason::OtherFileSystem;
            self.pending.push_back(Found::Skipped { path: path.clone(), reason });
            return Found::Entry(FoundEntry { path, stat, parent, opened: Some(opened), sidecar: false });
        }
        self.enter(path, opened, Some(parent), stat, place)
    }

    /// Lists an open directory and puts it on the stack.
    fn enter(
        &mut self,
        path: RepoPath,
        dir: Arc<Dir>,
        parent: Option<Arc<Dir>>,
        stat: Stat,
        place: Place,
    ) -> Found {
        let (listing, result) = read_dir(&dir, self.spare.pop().unwrap_or_default());
        if let Err(error) = result {
            if error.kind() == ErrorKind::NotFound && parent.is_some() {
                return self.skipped(path, SkipReason::Vanished);
            }
            self.pending.push_back(Found::Error { path: path.clone(), error, what: "list directory" });
        }
        let depth = self.stack.len();
        if self.judge.reads_ignore_files()
            && listing.find(IGNORE_FILE.as_bytes()).is_some()
            && let Err(error) = self.judge.enter(&dir, path.as_bytes(), depth)
            && error.kind() != ErrorKind::NotFound
        {
            let path = path.join(IGNORE_FILE.as_bytes()).unwrap_or_default();
            self.pending.push_back(Found::Error { path, error, what: "read ignore file" });
        }
        let tag_only = self.exclude_caches && parent.is_some() && is_cache(&dir, &listing);
        if tag_only {
            let reason = SkipReason::Cache;
            self.pending.push_back(Found::Skipped { path: path.clone(), reason });
        }
        if let Some(far_up) = depth.checked_sub(OPEN_LEVELS) {
            self.stack[far_up].dir = None;
        }
        let identity = stat.identity();
        let frame_dir = Some(Arc::clone(&dir));
        let frame_path = path.clone();
        self.stack.push(Frame {
            path: frame_path,
            dir: frame_dir,
            identity,
            listing,
            next: 0,
            place,
            tag_only,
        });
        let parent = parent.unwrap_or_else(|| Arc::clone(&dir));
        Found::Entry(FoundEntry { path, stat, parent, opened: Some(dir), sidecar: false })
    }

    /// Done with the directory on top.
    fn leave(&mut self) -> Option<Found> {
        let done = self.stack.pop()?;
        self.judge.leave(self.stack.len());
        if done.listing.capacity() <= MAX_SPARE_LISTING {
            self.spare.push(done.listing);
        }
        let frame = self.stack.last_mut()?;
        if frame.dir.is_some() {
            return None;
        }
        match reopen(&self.root, frame, done.dir.as_deref()) {
            Ok(dir) => frame.dir = Some(Arc::new(dir)),
            Err(error) if frame.next < frame.listing.len() => {
                let path = frame.path.clone();
                return Some(Found::Error { path, error, what: "return to directory" });
            }
            // Nothing is left to be read in it.
            Err(_) => {}
        }
        None
    }
}

/// Opens a directory again whose handle was closed. The parent of `below` is it, unless someone moved
/// a directory meanwhile, which the identity tells; then the path from the root is tried.
fn reopen(root: &Dir, frame: &Frame, below: Option<&Dir>) -> io::Result<Dir> {
    let same = |dir: Dir| match dir.stat() {
        Ok(stat) if stat.identity() == frame.identity => Ok(dir),
        Ok(_) => Err(io::Error::other("the directory was moved while it was read")),
        Err(error) => Err(error),
    };
    let up = below.map_or_else(|| Err(ErrorKind::NotFound.into()), Dir::open_parent).and_then(same);
    up.or_else(|_| root.open_path(&frame.path).and_then(same))
}

impl Gather for TreeWalk {
    fn next(&mut self) -> Option<Found> {
        if let Some(found) = self.pending.pop_front() {
            return Some(found);
        }
        if !self.started {
            return Some(self.start());
        }
        while !self.stack.is_empty() {
            if let Some(found) = self.advance() {
                return Some(found);
            }
        }
        self.finish()
    }
}
