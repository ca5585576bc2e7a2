//! `repair snapshots`: makes snapshots without what is lost, beside those that name it.
//!
//! A file of which a part is lost is left out whole: half a file under its own name would look like all of
//! it. Where a part of the manifest is lost, all that was in it is; a directory whose own entry was there,
//! and which holds something that is left, is made anew, closed to others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Error;
use crate::clock::Clock;
use crate::format::limits;
use crate::format::marker_v1::Operation;
use crate::model::{
    BlobId, BlobKind, Content, Entry, EntryKind, FileError, ManifestRef, Metadata, ObjectId, RepoPath, Slice,
    Slices, Snapshot, SnapshotKind, Timestamp,
};
use crate::ops::check::{Diagnosis, is_forgotten};
use crate::ops::history;
use crate::ops::tree::{LostPart, Proven, Visitor, Walk};
use crate::repo::{
    BlobReader, Catalog, CatalogEntry, ManifestWriter, Packer, PackerOptions, RepoError, Repository,
    SegmentSink, SharedIndex, load_slices,
};
use crate::report::{Monitor, Phase};

/// Marks snapshots that a repair made.
pub const TAG: &str = "repaired";
/// Permissions of directories whose own are lost.
const CLOSED: u32 = 0o700;

/// A snapshot that something is lost of.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: ObjectId,
    /// The snapshot without what is lost; `None` when none could be made, and before it is.
    pub repaired: Option<ObjectId>,
    /// A repair made that one before, and it has all that can be kept now.
    pub earlier: bool,
    /// Files that are left.
    pub files: u64,
    /// What is lost, the first 1,000.
    pub lost: Vec<FileError>,
    /// How much is lost: files, and parts of the manifest.
    pub lost_count: u64,
    /// Why nothing can be saved of it.
    pub hopeless: Option<String>,
    /// Its record was removed.
    pub forgotten: bool,
}

/// What a repair of snapshots did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The damaged snapshots, oldest first.
    pub snapshots: Vec<Damaged>,
    /// Snapshots looked at.
    pub checked: u64,
}

/// What to do.
pub struct Request {
    /// Only tell.
    pub dry_run: bool,
    /// Remove the records of snapshots that have a repaired one.
    pub forget_originals: bool,
    /// How to pack.
    pub packer: PackerOptions,
}

/// Looks at every snapshot, and makes new ones where something is lost.
pub fn run(
    repository: &Repository,
    request: &Request,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    repository.require(Operation::Write)?;
    repository.require_owner()?;
    if request.forget_originals {
        repository.require(Operation::Delete)?;
    }
    let repository = &repository.without_copies();
    monitor.phase(Phase::Check, None);
    let mut entries = Vec::new();
    for kind in [SnapshotKind::Regular, SnapshotKind::Safety] {
        entries.extend(Catalog::load(repository, kind)?.entries().iter().cloned());
    }
    let known = Diagnosis::make(repository, false, request.packer.threads, monitor.as_ref(), clock.as_ref())?;
    if monitor.cancelled() {
        return Err(Error::Interrupted);
    }
    if let Some(fault) = known.index_fault(repository)? {
        return Err(Error::Index(fault));
    }
    let mut avoid = known.condemned.clone();
    avoid.extend(known.bad.keys());
    let repair = Repair { repository, request, known: &known, monitor, avoid };
    let mut outcome = Outcome::default();
    let (mut proven, mut earlier, mut damaged) = (Proven::default(), Earlier::default(), Vec::new());
    for entry in entries {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        outcome.checked += 1;
        match repository.snapshot(&entry) {
            Ok(snapshot) => {
                if repair.is_damaged(&snapshot, &mut proven)? {
                    damaged.push((entry, snapshot));
                } else {
                    earlier.add(repository, &entry, &snapshot)?;
                }
            }
            Err(e) if e.is_service_failure() => return Err(e.into()),
            Err(RepoError::Remote(e)) if e.is_not_found() && is_forgotten(repository, &entry)? => {
                outcome.checked -= 1;
            }
            Err(e) => outcome.snapshots.push(Damaged::hopeless(&entry, e.to_string())),
        }
    }
    for (entry, snapshot) in damaged {
        let mut found = repair.one(&entry, &snapshot, &earlier)?;
        if request.forget_originals && !request.dry_run && found.repaired.is_some() {
            let time = Timestamp::from_secs(entry.time);
            let superfluous = history::announce(repository, &[(&entry, Some(&snapshot))], time)?;
            repository.remove_snapshot(&entry)?;
            repository.drop_removals(&superfluous);
            found.forgotten = true;
        }
        outcome.snapshots.push(found);
    }
    Ok(outcome)
}

impl Damaged {
    fn new(entry: &CatalogEntry) -> Self {
        Self {
            name: entry.name.clone(),
            id: entry.id,
            repaired: None,
            earlier: false,
            files: 0,
            lost: Vec::new(),
            lost_count: 0,
            hopeless: None,
            forgotten: false,
        }
    }

    fn hopeless(entry: &CatalogEntry, why: String) -> Self {
        Self { hopeless: Some(why), ..Self::new(entry) }
    }

    fn lose(&mut self, path: RepoPath, message: String) {
        self.lost_count += 1;
        if self.lost.len() < limits::SNAPSHOT_ERRORS {
            self.lost.push(FileError { path, message });
        }
    }
}

/// A repaired snapshot's time: after the original, before whatever came next.
fn after(time: Timestamp) -> Timestamp {
    Timestamp { nanos: (time.nanos + 1).min(999_999_999), ..time }
}

/// Snapshots of which nothing is lost, and that may be what an earlier repair made, by what they say they were made of.
#[derive(Default)]
struct Earlier(BTreeMap<ObjectId, Vec<(ObjectId, Timestamp, ManifestRef)>>);

impl Earlier {
    /// Takes a snapshot, if it may be one. Anyone can give his snapshot a tag and a parent; those of writer keys are none.
    fn add(
        &mut self,
        repository: &Repository,
        entry: &CatalogEntry,
        snapshot: &Snapshot,
    ) -> Result<(), RepoError> {
        if let Some(parent) = snapshot.parent
            && snapshot.tags.iter().any(|tag| tag == TAG)
            && repository.sealed_by(entry)?.is_none()
        {
            self.0.entry(parent).or_default().push((entry.id, snapshot.time, snapshot.manifest));
        }
        Ok(())
    }

    /// The one that is just what a repair of `original` would make now.
    fn of(&self, entry: &CatalogEntry, original: &Snapshot, rest: ManifestRef) -> Option<ObjectId> {
        let wanted = (after(original.time), rest);
        let made = self.0.get(&entry.id)?.iter().find(|(_, time, manifest)| (*time, *manifest) == wanted);
        made.map(|(id, ..)| *id)
    }
}

struct Repair<'a> {
    repository: &'a Repository,
    request: &'a Request,
    known: &'a Diagnosis,
    monitor: &'a Arc<dyn Monitor>,
    avoid: BTreeSet<ObjectId>,
}

/// What of a content is lost, if anything is.
fn lost_of(
    known: &Diagnosis,
    content: &Content,
    blobs: &BlobReader<'_>,
) -> Result<Option<String>, RepoError> {
    let lost = |id: &BlobId| Ok::<_, RepoError>(known.is_lost(id)?.then(|| format!("blob {id} is lost")));
    if let Slices::Lists(lists) = &content.slices {
        for id in lists {
            if let Some(message) = lost(id)? {
                return Ok(Some(message));
            }
        }
    }
    let slices = match load_slices(content, blobs) {
        Ok(slices) => slices,
        Err(e) => return Ok(Some(crate::ops::check::verdict(e)?)),
    };
    for slice in slices {
        if let Slice::Blob { id, .. } = slice
            && let Some(message) = lost(&id)?
        {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// Looks whether anything is lost, and stops at the first thing.
struct Look<'a> {
    known: &'a Diagnosis,
    blobs: &'a BlobReader<'a>,
    monitor: &'a dyn Monitor,
    damaged: bool,
}

impl Visitor for Look<'_> {
    fn segment(&mut self, _: &BlobId) -> Result<(), RepoError> {
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<bool, RepoError> {
        if let Some(content) = entry.content() {
            self.damaged |= lost_of(self.known, content, self.blobs)?.is_some();
        }
        Ok(!self.damaged)
    }

    fn lost(&mut self, _: LostPart) -> Result<(), RepoError> {
        self.damaged = true;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.damaged || self.monitor.cancelled()
    }
}

impl Repair<'_> {
    fn is_damaged(&self, snapshot: &Snapshot, proven: &mut Proven) -> Result<bool, Error> {
        let blobs = BlobReader::new(self.repository, self.known.survey.index());
        let monitor = self.monitor.as_ref();
        let mut look = Look { known: self.known, blobs: &blobs, monitor, damaged: false };
        Walk::new(&blobs, &mut look, Some(proven)).run(snapshot.manifest)?;
        Ok(look.damaged)
    }

    /// Looks what would be kept and lost of one snapshot, and makes it anew unless that was done before.
    fn one(&self, entry: &CatalogEntry, snapshot: &Snapshot, earlier: &Earlier) -> Result<Damaged, Error> {
        let mut rest = self.walk(entry, snapshot, &mut Nowhere(self.repository))?;
        if rest.found.hopeless.is_some() {
            return Ok(rest.found);
        }
        if let Some(id) = earlier.of(entry, snapshot, rest.snapshot.manifest) {
            (rest.found.repaired, rest.found.earlier) = (Some(id), true);
            return Ok(rest.found);
        }
        if self.request.dry_run { Ok(rest.found) } else { self.rewrite(entry, snapshot) }
    }

    fn walk(
        &self,
        entry: &CatalogEntry,
        snapshot: &Snapshot,
        sink: &mut dyn SegmentSink,
    ) -> Result<Rest, Error> {
        let blobs = BlobReader::new(self.repository, self.known.survey.index());
        let mut keep = Keep {
            known: self.known,
            blobs: &blobs,
            monitor: self.monitor.as_ref(),
            sink,
            writer: ManifestWriter::default(),
            directories: Vec::new(),
            rest: Rest { found: Damaged::new(entry), snapshot: snapshot.clone(), kept: BTreeSet::new() },
            databases: snapshot.databases.iter().map(|database| database.path.clone()).collect(),
        };
        keep.rest.snapshot.stats = crate::model::Stats {
            files: 0,
            dirs: 0,
            others: 0,
            bytes: 0,
            bytes_added_raw: 0,
            bytes_added_stored: 0,
            ..snapshot.stats
        };
        Walk::new(&blobs, &mut keep, None).run(snapshot.manifest)?;
        if self.monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        let Keep { writer, sink, mut rest, .. } = keep;
        let Rest { found, snapshot, kept } = &mut rest;
        found.files = snapshot.stats.files;
        if snapshot.stats.dirs == 0 {
            found.hopeless = Some("nothing of its manifest can be read".to_string());
            return Ok(rest);
        }
        snapshot.manifest = writer.finish(sink)?;
        snapshot.databases.retain(|database| kept.contains(&database.path));
        Ok(rest)
    }

    /// Makes and publishes a snapshot of what is left.
    fn rewrite(&self, entry: &CatalogEntry, original: &Snapshot) -> Result<Damaged, Error> {
        let repository = self.repository;
        let index = SharedIndex::without(repository, self.avoid.clone(), None);
        let packer = Packer::new(repository, self.request.packer, false, index);
        let mut sink = Segments { repository, packer: &packer };
        let Rest { mut found, mut snapshot, .. } = self.walk(entry, original, &mut sink)?;
        if found.hopeless.is_some() {
            return Ok(found);
        }
        let published = packer.publish()?;
        snapshot.stats.bytes_added_raw = published.raw;
        snapshot.stats.bytes_added_stored = published.stored;
        snapshot.time = after(original.time);
        snapshot.parent = Some(entry.id);
        snapshot.program = concat!("exuvia ", env!("CARGO_PKG_VERSION")).to_string();
        snapshot.tags.push(TAG.to_string());
        snapshot.tags.sort();
        snapshot.tags.dedup();
        snapshot.complete = false;
        snapshot.error_count = found.lost_count.saturating_add(original.error_count);
        snapshot.errors = found.lost.iter().chain(&original.errors).cloned().collect();
        snapshot.errors.truncate(limits::SNAPSHOT_ERRORS);
        let cache = repository.cache();
        snapshot.writer = cache.writer()?;
        snapshot.sequence = cache.sequence().saturating_add(1);
        found.repaired = Some(repository.publish_snapshot(&snapshot, true)?.id);
        if let Err(error) = cache.note_sequence(snapshot.sequence) {
            self.monitor.warning(None, &error.to_string());
        }
        Ok(found)
    }
}

/// What is left of a snapshot.
struct Rest {
    found: Damaged,
    snapshot: Snapshot,
    /// Databases that are left.
    kept: BTreeSet<RepoPath>,
}

/// Hands on what is left.
struct Keep<'a> {
    known: &'a Diagnosis,
    blobs: &'a BlobReader<'a>,
    monitor: &'a dyn Monitor,
    sink: &'a mut dyn SegmentSink,
    writer: ManifestWriter,
    directories: Vec<RepoPath>,
    rest: Rest,
    databases: BTreeSet<RepoPath>,
}

impl Keep<'_> {
    /// Makes the directories that lead to `path` and are lost.
    fn make_parents(&mut self, path: &RepoPath, like: &Metadata) -> Result<(), RepoError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        while self.directories.last().is_some_and(|d| !parent.starts_with(d)) {
            self.directories.pop();
        }
        if self.directories.last() == Some(&parent) {
            return Ok(());
        }
        self.make_parents(&parent, like)?;
        let meta = Metadata { mode: CLOSED, xattrs: Vec::new(), ..like.clone() };
        let entry = Entry {
            path: parent.clone(),
            kind: EntryKind::Directory,
            meta,
            link_group: 0,
            // Whatever is there must be looked at again.
            unsettled: true,
        };
        self.rest.found.lose(parent, "the directory's own metadata is lost".to_string());
        self.push(entry)
    }

    fn push(&mut self, entry: Entry) -> Result<(), RepoError> {
        let stats = &mut self.rest.snapshot.stats;
        match &entry.kind {
            EntryKind::File(content) => {
                stats.files += 1;
                stats.bytes += content.size;
                if self.databases.contains(&entry.path) {
                    self.rest.kept.insert(entry.path.clone());
                }
            }
            EntryKind::Directory => {
                stats.dirs += 1;
                self.directories.push(entry.path.clone());
            }
            _ => stats.others += 1,
        }
        self.writer.push(&entry, self.sink)
    }
}

impl Visitor for Keep<'_> {
    fn segment(&mut self, _: &BlobId) -> Result<(), RepoError> {
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<bool, RepoError> {
        if let Some(content) = entry.content()
            && let Some(reason) = lost_of(self.known, content, self.blobs)?
        {
            self.rest.found.lose(entry.path, reason);
            return Ok(false);
        }
        self.make_parents(&entry.path, &entry.meta)?;
        self.push(entry)?;
        Ok(true)
    }

    fn lost(&mut self, part: LostPart) -> Result<(), RepoError> {
        let entries = part.entries.map_or_else(String::new, |n| format!(", {n} entries"));
        let message = format!("a part of the manifest is lost ({}{entries}): {}", part.range(), part.reason);
        self.rest.found.lose(part.first.unwrap_or_default(), message);
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.monitor.cancelled()
    }
}

/// Stores segments.
struct Segments<'a> {
    repository: &'a Repository,
    packer: &'a Packer,
}

impl SegmentSink for Segments<'_> {
    fn store(&mut self, _: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        let id = self.repository.sealer().keys.blob_id(BlobKind::Meta, &bytes);
        self.packer.add(BlobKind::Meta, id, &bytes)?;
        Ok(id)
    }
}

/// For who only counts, and compares.
struct Nowhere<'a>(&'a Repository);

impl SegmentSink for Nowhere<'_> {
    fn store(&mut self, _: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        Ok(self.0.sealer().keys.blob_id(BlobKind::Meta, &bytes))
    }
}
