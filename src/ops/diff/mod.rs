//! `diff`: what differs between two snapshots, or between a snapshot and the live tree.

mod patch;
mod scratch;
mod sides;

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::patch::{MAX_TEXT, Patch};
use self::scratch::Scratch;
use self::sides::{LiveSettle, LiveTree, ReadError, Side};
use super::backup;
use super::compare::{self, Attention, Change, Links, Merge, Pair, Settle};
use crate::clock::Clock;
use crate::gather::sqlite::{Differences, Images};
use crate::model::{Capture, Classify, Entry, EntryKind, ErrorClass, FileError, ManifestRef, RepoPath};
use crate::repo::{BlobReader, Catalog, ManifestReader, RepoError, Repository};
use crate::report::{Monitor, Phase};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only these paths and what is below them; all when empty.
    pub paths: Vec<RepoPath>,
    /// Tell also of entries of which only mode, owner, time or extended attributes differ.
    pub metadata: bool,
    /// Compare the content of text files line by line.
    pub patch: bool,
    /// Compare the tables of databases.
    pub tables: bool,
}

/// A path that differs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// How.
    pub change: Change,
    /// What the old tree has.
    pub old: Option<Entry>,
    /// What the new tree has.
    pub new: Option<Entry>,
    /// What differs of the metadata, for [`Change::Metadata`].
    pub metadata: Vec<&'static str>,
    /// What differs between the two lines by line, if that was asked for and both are files or nothing.
    pub patch: Option<Patch>,
    /// Which tables differ, or why they could not be compared, if that was asked for and it is a database.
    pub tables: Option<Result<Differences, String>>,
}

impl Difference {
    /// True when either tree has a database here that was captured as such.
    #[must_use]
    pub fn is_database(&self) -> bool {
        let captured = |entry: &Option<Entry>| {
            let content = entry.as_ref().and_then(Entry::content);
            content.is_some_and(|content| matches!(content.capture, Capture::Sqlite { .. }))
        };
        captured(&self.old) || captured(&self.new)
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        static ROOT: RepoPath = RepoPath::root();
        self.old.as_ref().or(self.new.as_ref()).map_or(&ROOT, |entry| &entry.path)
    }
}

/// Counts of what differs.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Paths that only the new tree has.
    pub added: u64,
    /// Paths that only the old tree has.
    pub removed: u64,
    /// Paths with other content.
    pub changed: u64,
    /// Paths that are of another type.
    pub types: u64,
    /// Names that are no longer, or newly, names of one file.
    pub links: u64,
    /// Paths of which only the metadata differ, told of or not.
    pub metadata: u64,
    /// Databases among the changed.
    pub databases: u64,
    /// Bytes of added files.
    pub bytes_added: u64,
    /// Bytes of removed files.
    pub bytes_removed: u64,
    /// Bytes of changed files as they were.
    pub bytes_before: u64,
    /// And as they are.
    pub bytes_after: u64,
    /// Live paths that could not be read, about which nothing can be said.
    pub errors: Vec<FileError>,
}

impl Summary {
    /// Differences told of.
    #[must_use]
    pub fn told(&self, metadata: bool) -> u64 {
        let metadata = if metadata { self.metadata } else { 0 };
        self.added + self.removed + self.changed + self.types + self.links + metadata
    }

    fn count(&mut self, change: Change, old: Option<&Entry>, new: Option<&Entry>) {
        let size = |entry: Option<&Entry>| entry.map_or(0, Entry::size);
        match change {
            Change::Added => {
                self.added += 1;
                self.bytes_added += size(new);
            }
            Change::Removed => {
                self.removed += 1;
                self.bytes_removed += size(old);
            }
            Change::Content => {
                self.changed += 1;
                self.bytes_before += size(old);
                self.bytes_after += size(new);
            }
            Change::Type => {
                self.types += 1;
                self.bytes_before += size(old);
                self.bytes_after += size(new);
            }
            Change::Link => self.links += 1,
            Change::Metadata => self.metadata += 1,
        }
    }
}

/// Why two trees were not compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither tree has a path that was asked for.
    #[error("{0}: neither side has such a path")]
    NoSuchPath(RepoPath),
    /// The live tree cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Root {
        /// Its root.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Looking at the live tree failed.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Whoever takes the differences.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoSuchPath(_) => ErrorClass::Usage,
            Self::Root { .. } | Self::Output(_) => ErrorClass::Failed,
            Self::Backup(e) => e.class(),
            Self::Interrupted => ErrorClass::Interrupted,
            Self::Repo(e) => e.class(),
        }
    }
}

/// Takes the differences, in manifest order.
pub type Each<'a> = dyn FnMut(&Difference) -> io::Result<()> + 'a;

/// Where temporary files of a repository lie.
fn scratch(repository: &Repository) -> Scratch {
    Scratch::new(repository.cache().directory().join("scratch"))
}

/// What differs between two snapshots.
pub fn snapshots(
    blobs: &BlobReader<'_>,
    old: ManifestRef,
    new: ManifestRef,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    each: &mut Each<'_>,
) -> Result<Summary, Error> {
    for path in &request.paths {
        let there = |manifest| ManifestReader::find(blobs, manifest, path).map(|found| found.is_some());
        if !there(old)? && !there(new)? {
            return Err(Error::NoSuchPath(path.clone()));
        }
    }
    let scratch = scratch(blobs.repository());
    let sides = (Side::Repository(blobs), Side::Repository(blobs));
    let mut teller = Teller { request, monitor, scratch: &scratch, sides, summary: Summary::default(), each };
    let mut sorter = Sorter { request, monitor, links: Links::default() };
    let mut failed = None;
    let result = compare::snapshots(blobs, old, new, &mut |pair| {
        let told = sorter.sort(pair, blobs, blobs).and_then(|found| match found {
            Some((change, pair)) => teller.tell(change, pair),
            None => Ok(()),
        });
        told.map_err(|error| match error {
            Error::Repo(error) => error,
            other => {
                failed = Some(other);
                RepoError::Worker
            }
        })
    });
    match (failed, result) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => Ok(teller.summary),
    }
}

/// What differs between a snapshot and the live tree that `look` tells to look at.
pub fn live(
    blobs: &BlobReader<'_>,
    old: ManifestRef,
    (look, catalog): (&backup::Request, &Catalog),
    request: &Request,
    (monitor, clock): (&Arc<dyn Monitor>, &Arc<dyn Clock>),
    each: &mut Each<'_>,
) -> Result<Summary, Error> {
    let root = |source| Error::Root { path: look.root.clone(), source };
    let tree = LiveTree::open(&look.root).map_err(root)?;
    let scratch = scratch(blobs.repository());
    let settle = LiveSettle { blobs, tree: &tree, scratch: &scratch };
    let mut sorter = Sorter { request, monitor, links: Links::default() };
    let (mut found, mut failed) = (Vec::new(), None);
    let mut unseen: HashSet<&RepoPath> = request.paths.iter().collect();
    let mut take = |pair: Pair| {
        unseen.remove(pair.path());
        match sorter.sort(pair, blobs, &settle) {
            Ok(pair) => found.extend(pair),
            Err(Error::Repo(error)) => return Err(error),
            Err(other) => {
                failed = Some(other);
                return Err(RepoError::Worker);
            }
        }
        Ok(())
    };
    let mut merge = Merge::new(blobs, old)?;
    let looking: Arc<dyn Monitor> = Arc::new(Looking(Arc::clone(monitor)));
    let looked = backup::look(blobs.repository(), catalog, look, &looking, clock, &mut |new| {
        merge.push(new, &mut take)
    });
    let finished = looked.map_err(Error::from).and_then(|looked| {
        merge.finish(&mut take)?;
        Ok(looked)
    });
    let looked = match failed {
        Some(error) => return Err(error),
        None => finished?,
    };
    if let Some(path) = unseen.into_iter().next() {
        return Err(Error::NoSuchPath(path.clone()));
    }
    // What could not be read is not known to be gone, nor is what is below it. A path that the snapshot was
    // asked for by name counts as unreadable when it is gone.
    let errors: Vec<_> = looked.errors.into_iter().filter(|error| !tree.lacks(&error.path)).collect();
    let unread: HashSet<&RepoPath> = errors.iter().map(|error| &error.path).collect();
    let unknown = |path: &RepoPath| {
        !unread.is_empty()
            && std::iter::successors(Some(path.clone()), RepoPath::parent).any(|path| unread.contains(&path))
    };
    found.retain(|(change, pair)| *change != Change::Removed || !unknown(pair.path()));
    let sides = (Side::Repository(blobs), Side::Live(&tree));
    let mut teller = Teller { request, monitor, scratch: &scratch, sides, summary: Summary::default(), each };
    for (change, pair) in found {
        teller.tell(change, pair)?;
    }
    let summary = teller.summary;
    Ok(Summary { errors, ..summary })
}

/// Listens to a look at the live tree, which would call itself a backup.
struct Looking(Arc<dyn Monitor>);

impl Monitor for Looking {
    fn phase(&self, phase: Phase, bytes: Option<u64>) {
        if phase == Phase::Backup {
            self.0.phase(Phase::Plan, bytes);
        }
    }

    fn progress(&self, files: u64, bytes: u64) {
        self.0.progress(files, bytes);
    }

    fn note(&self, path: Option<&RepoPath>, message: &str) {
        self.0.note(path, message);
    }

    fn warning(&self, path: Option<&RepoPath>, message: &str) {
        self.0.warning(path, message);
    }

    fn error(&self, path: &RepoPath, message: &str) {
        self.0.error(path, message);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Finds out how pairs differ.
struct Sorter<'a> {
    request: &'a Request,
    monitor: &'a Arc<dyn Monitor>,
    links: Links,
}

impl Sorter<'_> {
    fn sort(
        &mut self,
        pair: Pair,
        blobs: &BlobReader<'_>,
        settle: &dyn Settle,
    ) -> Result<Option<(Change, Pair)>, Error> {
        if self.monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        let relinked = self.links.differ(&pair);
        let asked = |path: &RepoPath| {
            self.request.paths.is_empty() || self.request.paths.iter().any(|asked| path.starts_with(asked))
        };
        if !asked(pair.path()) {
            return Ok(None);
        }
        let attention = Attention { owner: true, directory_times: false };
        let change = match compare::change(&pair, blobs, settle, attention)? {
            None | Some(Change::Metadata) if relinked => Some(Change::Link),
            other => other,
        };
        Ok(change.map(|change| (change, pair)))
    }
}

/// Tells of differences, with what was asked for about each.
struct Teller<'a> {
    request: &'a Request,
    monitor: &'a Arc<dyn Monitor>,
    scratch: &'a Scratch,
    /// Where the old and the new content are.
    sides: (Side<'a>, Side<'a>),
    summary: Summary,
    each: &'a mut Each<'a>,
}

impl Teller<'_> {
    fn tell(&mut self, change: Change, pair: Pair) -> Result<(), Error> {
        let Pair { old, new, .. } = pair;
        self.summary.count(change, old.as_ref(), new.as_ref());
        if change == Change::Metadata && !self.request.metadata {
            return Ok(());
        }
        let metadata = match (&old, &new) {
            (Some(old), Some(new)) if change == Change::Metadata => differing_metadata(old, new),
            _ => Vec::new(),
        };
        let mut difference = Difference { change, old, new, metadata, patch: None, tables: None };
        if difference.is_database() {
            self.summary.databases += u64::from(change == Change::Content);
            if self.request.tables && change == Change::Content {
                difference.tables = Some(self.tables(&difference)?);
            }
        } else if self.request.patch {
            difference.patch = self.patch(&difference)?;
        }
        // A run that is stopped tells nothing half.
        if self.monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        (self.each)(&difference).map_err(Error::Output)
    }

    fn tables(&self, difference: &Difference) -> Result<Result<Differences, String>, Error> {
        let (Some(old), Some(new)) = (&difference.old, &difference.new) else {
            return Ok(Err("it has no other version".to_owned()));
        };
        let compare = || -> Result<Differences, ReadError> {
            let old = self.sides.0.image(old, self.scratch)?;
            let new = self.sides.1.image(new, self.scratch)?;
            let images = Images::open(old.path(), new.path(), self.monitor)?;
            // Open, they need no names: whatever ends this run now, nothing stays behind.
            drop((old, new));
            Ok(images.differences()?)
        };
        split(compare())
    }

    fn patch(&self, difference: &Difference) -> Result<Option<Patch>, Error> {
        let (old, new) = (difference.old.as_ref(), difference.new.as_ref());
        let file = |entry: Option<&Entry>| entry.is_none_or(|e| e.content().is_some());
        if !matches!(difference.change, Change::Added | Change::Removed | Change::Content)
            || !file(old)
            || !file(new)
        {
            return Ok(None);
        }
        if [old, new].into_iter().flatten().any(|entry| entry.size() > MAX_TEXT) {
            return Ok(Some(Patch::Binary));
        }
        let read = || -> Result<Patch, ReadError> {
            let read = |side: Side<'_>, entry: Option<&Entry>| {
                entry.map_or(Ok(Vec::new()), |entry| side.read(entry, MAX_TEXT))
            };
            let (old, new) = (read(self.sides.0, old)?, read(self.sides.1, new)?);
            // A live file may have grown since it was looked at.
            let large = |bytes: &[u8]| bytes.len() as u64 > MAX_TEXT;
            Ok(if large(&old) || large(&new) { Patch::Binary } else { Patch::of(&old, &new) })
        };
        Ok(Some(split(read())?.unwrap_or_else(Patch::Unreadable)))
    }
}

/// A failure of the repository ends the run; one of a single live file, or of a temporary one, does not.
fn split<T>(result: Result<T, ReadError>) -> Result<Result<T, String>, Error> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(ReadError::Repo(error)) => Err(Error::Repo(error)),
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn differing_metadata(old: &Entry, new: &Entry) -> Vec<&'static str> {
    let (a, b) = (&old.meta, &new.meta);
    let mode = a.mode != b.mode && !matches!(old.kind, EntryKind::Symlink(_));
    let differing = [
        ("mode", mode),
        ("owner", a.owner != b.owner),
        ("mtime", a.mtime != b.mtime),
        ("xattrs", a.xattrs != b.xattrs),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
