//! The one thread that puts everything in order: takes what became of each file, writes the manifest, counts.

use std::collections::{HashMap, HashSet};
use std::io;

use crossbeam_channel::Receiver;

use super::Error;
use super::job::{Batch, FileDone, FileJob, FoundFile, Item, ReadFile};
use super::reader::{Context, Reader};
use super::walk::{Describer, link_group};
use crate::format::limits;
use crate::gather::SkipReason;
use crate::model::{
    BlobId, BlobKind, Capture, Content, DatabaseRecord, Entry, EntryKind, FileError, Integrity, ManifestRef,
    RepoPath, Slices, Stats,
};
use crate::ops::{cache_keys, rollback};
use crate::repo::{BaselineWriter, IdSet, ManifestWriter, PageTable, RepoError, SegmentSink, store_slices};

/// Stores meta blobs, and keeps the copy for the cache.
struct Segments<'a> {
    context: &'a Context,
    known: &'a IdSet,
    baseline: &'a mut Option<BaselineWriter>,
}

impl SegmentSink for Segments<'_> {
    fn store(&mut self, level: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        let id = self.context.repository.sealer().keys.blob_id(BlobKind::Meta, &bytes);
        if !self.known.contains(&id) {
            self.context.packer.add(BlobKind::Meta, id, &bytes)?;
        }
        if level.is_none() && self.baseline.is_some() {
            self.context.repository.cache().keep_list(&id, &bytes);
        }
        let written = self.baseline.as_mut().map(|baseline| {
            baseline.known(id);
            if level == Some(0) { baseline.leaf(&bytes) } else { Ok(()) }
        });
        if let Some(Err(_)) = written {
            // A full disk under the cache costs the next backup some time, not this one.
            *self.baseline = None;
        }
        Ok(id)
    }
}

/// Is told of every entry of the snapshot being made, in order.
pub type Observer<'a> = dyn FnMut(&Entry) -> Result<(), RepoError> + 'a;

/// State of the snapshot being made.
pub(super) struct Sequencer<'a> {
    pub(super) context: &'a Context,
    pub(super) known: IdSet,
    pub(super) baseline: Option<BaselineWriter>,
    pub(super) describer: Describer,
    pub(super) root_dev: u64,
    manifest: ManifestWriter,
    pub(super) stats: Stats,
    pub(super) errors: Vec<FileError>,
    pub(super) databases: Vec<DatabaseRecord>,
    /// What the previous snapshot says of databases, for those that are as they were.
    pub(super) previous_databases: HashMap<RepoPath, DatabaseRecord>,
    pub(super) tables: Vec<(String, PageTable)>,
    /// Databases read before the walk.
    early: HashMap<RepoPath, FileDone>,
    /// Databases captured consistently: their companions are not stored.
    captured: HashSet<RepoPath>,
    /// Files with several names: content by link group.
    links: HashMap<u64, (Content, bool)>,
    pub(super) skipped: HashMap<SkipReason, u64>,
    pub(super) observer: Option<&'a mut Observer<'a>>,
}

impl<'a> Sequencer<'a> {
    pub(super) fn new(context: &'a Context, known: IdSet, root_dev: u64) -> Self {
        Self {
            context,
            known,
            baseline: None,
            describer: Describer::new(),
            root_dev,
            manifest: ManifestWriter::default(),
            stats: Stats::default(),
            errors: Vec::new(),
            databases: Vec::new(),
            previous_databases: HashMap::new(),
            tables: Vec::new(),
            early: HashMap::new(),
            captured: HashSet::new(),
            links: HashMap::new(),
            skipped: HashMap::new(),
            observer: None,
        }
    }

    /// Takes the databases that are read before the walk.
    pub(super) fn early(&mut self, databases: Vec<(RepoPath, Receiver<FileDone>)>) -> Result<(), Error> {
        for (path, read) in databases {
            let done = self.read(Some(&read))?;
            self.early.insert(path, done);
        }
        Ok(())
    }

    /// What became of the next file of a batch.
    fn read(&self, read: Option<&Receiver<FileDone>>) -> Result<FileDone, Error> {
        read.and_then(|read| read.recv().ok()).ok_or_else(|| self.reader_ended())
    }

    /// A reader that ends without a word failed or was told to stop.
    fn reader_ended(&self) -> Error {
        if self.context.monitor.cancelled() {
            return Error::Interrupted;
        }
        self.context.packer.take_fault().unwrap_or(RepoError::Worker).into()
    }

    /// The databases that [`Sequencer::early`] took.
    pub(super) fn early_paths(&self) -> HashSet<RepoPath> {
        self.early.keys().cloned().collect()
    }

    /// Takes the batches of the walk, in order, to the end.
    pub(super) fn batches(&mut self, batches: &Receiver<Batch>) -> Result<(), Error> {
        for batch in batches {
            if self.context.monitor.cancelled() || self.context.packer.has_failed() {
                return Err(self.reader_ended());
            }
            let before = (self.files(), self.stats.bytes);
            for item in batch.items {
                self.item(item, batch.read.as_ref())?;
            }
            self.context.monitor.progress(self.files() - before.0, self.stats.bytes - before.1);
        }
        if self.context.monitor.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn files(&self) -> u64 {
        self.stats.files
    }

    /// Ends the manifest.
    pub(super) fn finish_manifest(&mut self) -> Result<ManifestRef, Error> {
        let manifest = std::mem::take(&mut self.manifest);
        let mut sink = Segments { context: self.context, known: &self.known, baseline: &mut self.baseline };
        Ok(manifest.finish(&mut sink)?)
    }

    fn item(&mut self, item: Item, read: Option<&Receiver<FileDone>>) -> Result<(), Error> {
        match item {
            Item::Keep(entry) => self.keep(*entry),
            Item::Made(entry, notes) => {
                notes.iter().for_each(|note| self.context.monitor.warning(Some(&entry.path), note));
                self.push(*entry)
            }
            Item::File(found) => {
                let done = self.read(read)?;
                self.file(found, done)
            }
            Item::Captured(found) => match self.early.remove(&found.path) {
                Some(done) => self.file(found, done),
                None => Ok(()),
            },
            Item::Link(found) => self.link(found),
            Item::Sidecar { base, found, job, kept } => self.sidecar(&base, *found, job, kept),
            Item::Failed { path, message } => {
                self.fail(path, message);
                Ok(())
            }
            Item::Skipped { path, reason } => {
                self.skip(&path, reason);
                Ok(())
            }
            Item::Removed(n) => {
                self.stats.files_removed += n;
                Ok(())
            }
        }
    }

    fn skip(&mut self, path: &RepoPath, reason: SkipReason) {
        *self.skipped.entry(reason).or_default() += 1;
        let message = match reason {
            SkipReason::Excluded => return,
            // Every command tells of it anyway.
            SkipReason::OwnRepository if path.as_bytes() == rollback::FOLDER.as_bytes() => return,
            SkipReason::Vanished => "vanished before it could be read",
            SkipReason::Socket => "is a socket, which has no content: left out",
            SkipReason::Cache => "is marked as a cache: its content is left out",
            SkipReason::OtherFileSystem => "is on another file system: its content is left out",
            SkipReason::OwnRepository => {
                let message = "belongs to the repository or the cache of this program: left out";
                self.context.monitor.warning(Some(path), message);
                return;
            }
        };
        self.context.monitor.note(Some(path), message);
    }

    fn fail(&mut self, path: RepoPath, message: String) {
        self.context.monitor.error(&path, &message);
        self.errors.push(FileError { path, message });
    }

    fn file(&mut self, found: FoundFile, done: FileDone) -> Result<(), Error> {
        match done {
            FileDone::Read(read) => self.read_file(found, *read),
            FileDone::Vanished => {
                self.skip(&found.path, SkipReason::Vanished);
                self.stats.files_removed += u64::from(found.existed);
                Ok(())
            }
            FileDone::Failed(message) => {
                self.fail(found.path, format!("cannot be read: {message}"));
                Ok(())
            }
        }
    }

    fn read_file(&mut self, found: FoundFile, read: ReadFile) -> Result<(), Error> {
        let path = found.path;
        let monitor = &self.context.monitor;
        read.notes.iter().for_each(|note| monitor.note(Some(&path), note));
        read.warnings.iter().for_each(|warning| monitor.warning(Some(&path), warning));
        self.stats.bytes_read += read.bytes_read;
        if found.existed {
            self.stats.files_changed += 1;
        } else {
            self.stats.files_new += 1;
        }
        let mut sink = Segments { context: self.context, known: &self.known, baseline: &mut self.baseline };
        let slices = store_slices(read.slices, &mut sink)?;
        let content = Content { size: read.size, slices, hash: read.hash, capture: read.capture };
        if let Some(database) = read.database {
            self.tables.extend(database.table.map(|t| (cache_keys::pages(&self.context.root, &path), t)));
            let last = self.previous_databases.get(&path).map(|d| d.integrity.clone());
            self.databases.push(DatabaseRecord {
                path: path.clone(),
                captured: database.captured,
                raw: content.capture == Capture::RawSqlite,
                size: content.size,
                user_version: database.user_version,
                application_id: database.application_id,
                integrity: database.integrity.or(last).unwrap_or(Integrity::NotChecked),
            });
        }
        let link_group = link_group(&read.stat, self.root_dev);
        if link_group != 0 {
            self.links.insert(link_group, (content.clone(), read.unsettled));
        }
        let meta = self.describer.metadata(&read.stat, read.xattrs);
        self.push(Entry { path, kind: EntryKind::File(content), meta, link_group, unsettled: read.unsettled })
    }

    fn keep(&mut self, mut entry: Entry) -> Result<(), Error> {
        if entry.link_group != 0
            && let EntryKind::File(content) = &mut entry.kind
        {
            // Other names of this file may not have been in the previous snapshot. One that was read
            // anew may be cut in another way; all names of a file have the same content.
            let (first, unsettled) =
                self.links.entry(entry.link_group).or_insert_with(|| (content.clone(), entry.unsettled));
            content.clone_from(first);
            entry.unsettled = *unsettled;
        }
        if let Some(content) = entry.content() {
            self.stats.files_unmodified += 1;
            if content.capture != Capture::Plain {
                self.databases.extend(self.previous_databases.get(&entry.path).cloned());
            }
        }
        self.push(entry)
    }

    fn link(&mut self, found: FoundFile) -> Result<(), Error> {
        let link_group = link_group(&found.stat, self.root_dev);
        let Some((content, unsettled)) = self.links.get(&link_group).cloned() else {
            let message = "is another name of a file that could not be read".to_string();
            self.fail(found.path, message);
            return Ok(());
        };
        if found.existed {
            self.stats.files_changed += 1;
        } else {
            self.stats.files_new += 1;
        }
        let meta = self.describer.metadata(&found.stat, Vec::new());
        let kind = EntryKind::File(content);
        self.push(Entry { path: found.path, kind, meta, link_group, unsettled })
    }

    fn sidecar(
        &mut self,
        base: &RepoPath,
        found: FoundFile,
        job: FileJob,
        kept: Option<Box<Entry>>,
    ) -> Result<(), Error> {
        if self.captured.contains(base) {
            return Ok(());
        }
        if let Some(entry) = kept {
            return self.keep(*entry);
        }
        // Rare: a file that only looks like a companion, or the journal of a raw copy.
        let mut reader = Reader::new(self.context, None, 0);
        let done = reader.file(&job).and_then(|done| reader.finish().map(|()| done));
        let done = done.map_err(|_| self.reader_ended())?;
        self.file(found, done)
    }

    fn push(&mut self, entry: Entry) -> Result<(), Error> {
        match &entry.kind {
            EntryKind::File(content) => {
                self.stats.files += 1;
                self.stats.bytes += content.size;
                if matches!(content.capture, Capture::Sqlite { .. }) {
                    self.captured.insert(entry.path.clone());
                }
            }
            EntryKind::Directory => self.stats.dirs += 1,
            EntryKind::Symlink(_)
            | EntryKind::Fifo
            | EntryKind::CharDevice(..)
            | EntryKind::BlockDevice(..) => self.stats.others += 1,
        }
        let slices = entry.content().map_or(0, |c| match &c.slices {
            Slices::Inline(slices) => slices.len(),
            Slices::Lists(lists) => lists.len(),
        });
        if slices * 32 > limits::BLOB / 2 {
            self.fail(entry.path, "is too large for this format".into());
            return Ok(());
        }
        if let (Some(Slices::Lists(lists)), Some(baseline)) =
            (entry.content().map(|c| &c.slices), &mut self.baseline)
        {
            lists.iter().for_each(|id| baseline.known(*id));
        }
        if let Some(observer) = &mut self.observer {
            observer(&entry)?;
        }
        let mut sink = Segments { context: self.context, known: &self.known, baseline: &mut self.baseline };
        Ok(self.manifest.push(&entry, &mut sink)?)
    }

    /// Counts of what was left out, for the last word to the user.
    pub(super) fn excluded(&self) -> u64 {
        self.skipped.get(&SkipReason::Excluded).copied().unwrap_or_default()
    }

    /// Puts the manifest and the page tables of a published snapshot into the cache.
    pub(super) fn keep_in_cache(
        &mut self,
        id: &crate::model::ObjectId,
        snapshot: &crate::model::Snapshot,
    ) -> Result<(), RepoError> {
        let cache = self.context.repository.cache();
        for (key, table) in self.tables.drain(..) {
            cache.write_page_table(&key, &table)?;
        }
        if let Some(baseline) = self.baseline.take() {
            let failed =
                |source: io::Error| RepoError::Cache { path: cache.directory().to_path_buf(), source };
            // Of segments there are no copies; to look for them costs little.
            self.known.iter().filter(|id| !baseline.knows(id)).for_each(|id| cache.forget_list(id));
            baseline.finish(id, snapshot).map_err(failed)?;
        }
        Ok(())
    }
}
