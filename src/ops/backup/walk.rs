//! The walk of the tree, merged with the previous snapshot: decides what is as it was, what is
//! complete without reading, and what readers must read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, unbounded};

use super::database::{mark, wal_mark};
use super::job::{Batch, FileJob, FoundFile, Item, Job};
use super::previous::Previous;
use super::reader::{Context, Stop, is_unsettled};
use crate::fs::{self, FileKind, OwnerNames, Stat};
use crate::gather::{Found, FoundEntry, Gather};
use crate::model::{
    BlobId, Capture, Content, Entry, EntryKind, Metadata, Owner, RepoPath, Slice, Slices, Xattr,
};
use crate::ops::cache_keys;
use crate::repo::{BlobReader, load_slices};

/// Items of one batch.
const BATCH_ITEMS: usize = 256;
/// Bytes of a file that are asked for ahead; the system reads on by itself.
const ASKED_AHEAD: u64 = 1 << 20;
/// Files of one job, and their bytes: enough to make hand-over cheap, few enough to spread.
const JOB_FILES: usize = 64;
const JOB_BYTES: u64 = 512 << 10;

/// Makes metadata from what the walk saw.
pub(super) struct Describer {
    names: OwnerNames,
    owners: HashMap<(u32, u32), Arc<Owner>>,
}

impl Describer {
    pub(super) fn new() -> Self {
        Self { names: OwnerNames::load(), owners: HashMap::new() }
    }

    pub(super) fn metadata(&mut self, stat: &Stat, xattrs: Vec<Xattr>) -> Metadata {
        let names = &self.names;
        let owner = self.owners.entry((stat.uid, stat.gid));
        let owner = owner.or_insert_with(|| Arc::new(names.owner(stat.uid, stat.gid)));
        Metadata {
            mode: stat.mode,
            owner: Arc::clone(owner),
            mtime: stat.mtime,
            ctime: stat.ctime,
            inode: stat.inode,
            xattrs,
        }
    }
}

/// The same in all names of a file; zero for a file with one name.
pub(super) fn link_group(stat: &Stat, root_dev: u64) -> u64 {
    if stat.nlink < 2 || stat.kind != FileKind::File {
        return 0;
    }
    if stat.dev == root_dev {
        return stat.inode.max(1);
    }
    // Inode numbers repeat on other file systems; device numbers tell them apart within one run.
    let hash = blake3::hash(&[stat.dev.to_le_bytes(), stat.inode.to_le_bytes()].concat());
    hash.as_bytes().first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes).max(1))
}

pub(super) struct Walk<'a> {
    pub(super) context: &'a Context,
    /// Nobody needs the rest.
    pub(super) ended: Arc<AtomicBool>,
    pub(super) previous: Previous<'a>,
    pub(super) describer: Describer,
    pub(super) rescan: bool,
    /// Databases that were captured before the walk.
    pub(super) captured: Arc<HashSet<RepoPath>>,
    pub(super) root_dev: u64,
    pub(super) batches: Sender<Batch>,
    pub(super) jobs: Sender<Job>,
    /// Files with several names met so far.
    pub(super) links: HashSet<(u64, u64)>,
    pub(super) items: Vec<Item>,
    pub(super) files: Vec<FileJob>,
    pub(super) bytes: u64,
    /// Files of the next job are asked for ahead.
    pub(super) asks_ahead: bool,
}

impl Walk<'_> {
    /// Walks to the end, or until the other side is gone.
    pub(super) fn run(mut self, gather: &mut dyn Gather) {
        let done = self.walk(gather);
        // An early end is known to whoever ended it.
        let _: Result<(), Stop> = done;
    }

    fn walk(&mut self, gather: &mut dyn Gather) -> Result<(), Stop> {
        while let Some(found) = gather.next() {
            if self.context.monitor.cancelled() || self.ended.load(Ordering::Relaxed) {
                return Err(Stop);
            }
            match found {
                Found::Entry(entry) => self.entry(entry),
                Found::Error { path, error, what } => {
                    self.items.push(Item::Failed { path, message: format!("cannot {what}: {error}") });
                }
                Found::Skipped { path, reason } => self.items.push(Item::Skipped { path, reason }),
            }
            if self.items.len() >= BATCH_ITEMS || self.files.len() >= JOB_FILES || self.bytes >= JOB_BYTES {
                self.send()?;
            }
        }
        self.previous.finish();
        self.removed();
        if let Some(fault) = self.previous.fault.take() {
            let message =
                format!("the previous snapshot could not be read to its end, more was read anew: {fault}");
            self.context.monitor.warning(None, &message);
        }
        self.send()
    }

    fn removed(&mut self) {
        let removed = self.previous.take_removed();
        if removed > 0 {
            self.items.push(Item::Removed(removed));
        }
    }

    fn send(&mut self) -> Result<(), Stop> {
        let items = std::mem::take(&mut self.items);
        let files = std::mem::take(&mut self.files);
        self.bytes = 0;
        if items.is_empty() {
            return Ok(());
        }
        let mut read = None;
        if !files.is_empty() {
            // Unbounded in effect: as many as there are files in the job.
            let (out, receive) = unbounded();
            read = Some(receive);
            self.jobs.send(Job { files, out }).map_err(|_| Stop)?;
            self.asks_ahead = self.context.pace.is_slow();
        }
        self.batches.send(Batch { items, read }).map_err(|_| Stop)
    }

    fn entry(&mut self, found: FoundEntry) {
        let previous = self.previous.take(&found.path);
        self.removed();
        match found.stat.kind {
            FileKind::File => self.file(found, previous),
            FileKind::Socket | FileKind::Unknown => {
                let message = "is of a kind that cannot be stored".into();
                self.items.push(Item::Failed { path: found.path, message });
            }
            _ => self.other(found, previous),
        }
    }

    fn same(&self, stat: &Stat, previous: &Entry) -> bool {
        let meta = &previous.meta;
        !self.rescan
            && !previous.unsettled
            && (stat.mtime, stat.ctime, stat.inode) == (meta.mtime, meta.ctime, meta.inode)
            && (stat.mode, stat.uid, stat.gid) == (meta.mode, meta.owner.uid, meta.owner.gid)
    }

    /// Directories, links, fifos and devices: complete without reading content.
    fn other(&mut self, found: FoundEntry, previous: Option<Entry>) {
        let stat = found.stat;
        if let Some(previous) = previous {
            let kind = match (&previous.kind, stat.kind) {
                (EntryKind::Directory, FileKind::Directory)
                | (EntryKind::Symlink(_), FileKind::Symlink)
                | (EntryKind::Fifo, FileKind::Fifo) => true,
                (EntryKind::CharDevice(a, b), FileKind::CharDevice)
                | (EntryKind::BlockDevice(a, b), FileKind::BlockDevice) => (*a, *b) == stat.rdev,
                _ => false,
            };
            if kind && self.same(&stat, &previous) {
                self.items.push(Item::Keep(Box::new(previous)));
                return;
            }
        }
        let (mut notes, mut xattrs) = (Vec::new(), Vec::new());
        let kind = match stat.kind {
            FileKind::Directory => {
                match found.opened.as_deref().map(fs::read_xattrs) {
                    Some(Ok(read)) => xattrs = read,
                    Some(Err(e)) => notes.push(format!("its extended attributes cannot be read: {e}")),
                    None => {}
                }
                EntryKind::Directory
            }
            FileKind::Symlink => match found.parent.read_link_at(found.path.name()) {
                Ok(target) => EntryKind::Symlink(target),
                Err(e) => {
                    let message = format!("cannot read link: {e}");
                    self.items.push(Item::Failed { path: found.path, message });
                    return;
                }
            },
            FileKind::Fifo => EntryKind::Fifo,
            FileKind::CharDevice => EntryKind::CharDevice(stat.rdev.0, stat.rdev.1),
            _ => EntryKind::BlockDevice(stat.rdev.0, stat.rdev.1),
        };
        let meta = self.describer.metadata(&stat, xattrs);
        // The names in a directory are read after its times: a later change shows.
        let entry = Entry { path: found.path, kind, meta, link_group: 0, unsettled: false };
        self.items.push(Item::Made(Box::new(entry), notes));
    }

    fn file(&mut self, found: FoundEntry, previous: Option<Entry>) {
        let FoundEntry { path, stat, parent, sidecar, .. } = found;
        let existed = previous.as_ref().is_some_and(|e| e.content().is_some());
        let kept = previous.as_ref().is_some_and(|p| self.is_unchanged(&stat, &parent, p));
        let this = FoundFile { path: path.clone(), stat, existed };
        if self.captured.contains(&path) {
            // Two names of one database must not become two images of it.
            let first = stat.nlink < 2 || self.links.insert(stat.identity());
            self.items.push(if first { Item::Captured(this) } else { Item::Link(this) });
            return;
        }
        if kept && !sidecar {
            if stat.nlink > 1 {
                self.links.insert(stat.identity());
            }
            self.items.extend(previous.map(|p| Item::Keep(Box::new(p))));
            return;
        }
        if stat.nlink > 1 && !sidecar && !self.links.insert(stat.identity()) {
            self.items.push(Item::Link(this));
            return;
        }
        let (kept, content) = match previous {
            Some(entry) if kept => (Some(Box::new(entry)), None),
            Some(Entry { kind: EntryKind::File(content), .. }) => (None, Some(Arc::new(content))),
            _ => (None, None),
        };
        let job = FileJob { path, parent, previous: content };
        if sidecar {
            let base = sidecar_base(&job.path);
            self.items.push(Item::Sidecar { base, found: Box::new(this), job, kept });
            return;
        }
        self.bytes += stat.size;
        if self.asks_ahead {
            job.parent.will_need(job.path.name(), stat.size.min(ASKED_AHEAD));
        }
        self.files.push(job);
        self.items.push(Item::File(this));
    }

    /// True when a file need not be opened.
    fn is_unchanged(&self, stat: &Stat, parent: &fs::Dir, previous: &Entry) -> bool {
        let Some(content) = previous.content() else { return false };
        let same = self.same(stat, previous)
            && previous.link_group == link_group(stat, self.root_dev)
            && self.may_keep(content);
        match content.capture {
            Capture::Plain => same && stat.size == content.size,
            // A database lives in two files; the image's size is that of neither.
            Capture::Sqlite { .. } => same && self.is_untouched(stat, parent, &previous.path, content),
            Capture::RawSqlite => false,
        }
    }

    fn is_untouched(&self, stat: &Stat, parent: &fs::Dir, path: &RepoPath, content: &Content) -> bool {
        let key = cache_keys::pages(&self.context.root, path);
        self.context.repository.cache().page_table(&key).is_some_and(|table| {
            Some(table.binding) == cache_keys::binding(content)
                && table.main == mark(stat)
                && table.wal == wal_mark(parent, path.name()).0
        })
    }

    /// False when a blob of the content is only in packs that are condemned, or in none any more.
    fn may_keep(&self, content: &Content) -> bool {
        if self.context.is_sound || self.context.index.condemned().is_empty() {
            return true;
        }
        let Ok(loaded) = self.context.index.get() else { return false };
        let lost = |id: &BlobId| !self.context.may_keep(&loaded, id);
        if let Slices::Lists(lists) = &content.slices
            && lists.iter().any(lost)
        {
            return false;
        }
        let blobs = BlobReader::new(&self.context.repository, &loaded.index);
        load_slices(content, &blobs)
            .is_ok_and(|slices| slices.iter().all(|s| !matches!(s, Slice::Blob { id, .. } if lost(id))))
    }
}

/// `<base>-wal` and so on belong to `<base>`.
fn sidecar_base(path: &RepoPath) -> RepoPath {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|&b| b == b'-').unwrap_or(bytes.len());
    RepoPath::new(bytes[..end].to_vec()).unwrap_or_default()
}

/// Databases to capture before the walk: those that changed since the previous snapshot, of all that
/// it or the application's profile knows.
pub(super) fn changed_databases(
    context: &Context,
    root: &fs::Dir,
    known: impl IntoIterator<Item = RepoPath>,
    rescan: bool,
) -> Vec<FileJob> {
    let mut paths: Vec<RepoPath> = known.into_iter().collect();
    paths.sort();
    paths.dedup();
    let mut jobs = Vec::new();
    for path in paths {
        let Some(parent) = path.parent().and_then(|p| root.open_path(&p).ok()) else { continue };
        let Ok(stat) = parent.stat_at(path.name()) else { continue };
        let table = context.repository.cache().page_table(&cache_keys::pages(&context.root, &path));
        let untouched =
            table.is_some_and(|t| t.main == mark(&stat) && t.wal == wal_mark(&parent, path.name()).0);
        if stat.kind == FileKind::File
            && (rescan || !untouched || is_unsettled(context.clock.as_ref(), &stat))
        {
            jobs.push(FileJob { path, parent: Arc::new(parent), previous: None });
        }
    }
    jobs
}
