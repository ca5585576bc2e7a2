//! Manifests: writing entries as segments and reading them back in order.

use super::{BlobReader, RepoError};
use crate::format::segment_v1::{self, Child, LeafBuilder, Segment};
use crate::format::{limits, slices_v1};
use crate::model::{BlobId, BlobKind, Content, Entry, ManifestRef, RepoPath, Slice, Slices};

/// The writer's rules of `format-spec/` section 8.7.
const MAX_ENTRIES: u64 = 1_024;
const MAX_LEAF_BYTES: usize = 256 << 10;
const BITS_PER_LEVEL: u32 = 6;
/// Content of more slices is written as slice lists (section 14.6).
const MAX_INLINE_SLICES: usize = 64;
const LIST_SPAN: u64 = 64 << 20;

/// Takes encoded segments and slice lists; tells their ids.
pub trait SegmentSink {
    /// Stores a meta blob. `level` is that of a segment, `None` for a slice list.
    fn store(&mut self, level: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError>;
}

#[derive(Default)]
struct Level {
    children: Vec<Child>,
    flushed: bool,
}

/// Writes a manifest; entries are pushed in ascending order of their paths.
#[derive(Default)]
pub struct ManifestWriter {
    leaf: LeafBuilder,
    first: RepoPath,
    hash: u64,
    /// `levels[k]` collects the children of the next node of level k + 1.
    levels: Vec<Level>,
}

fn path_hash(path: &RepoPath) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn is_boundary(hash: u64, level: usize) -> bool {
    let shift = BITS_PER_LEVEL * u32::try_from(level).unwrap_or(u32::MAX).min(10);
    (hash >> shift).trailing_zeros() >= BITS_PER_LEVEL
}

impl ManifestWriter {
    /// Appends an entry.
    pub fn push(&mut self, entry: &Entry, sink: &mut dyn SegmentSink) -> Result<(), RepoError> {
        if self.leaf.is_empty() {
            self.first = entry.path.clone();
        }
        self.leaf.push(entry);
        self.hash = path_hash(&entry.path);
        if is_boundary(self.hash, 0) || self.leaf.len() >= MAX_ENTRIES || self.leaf.size() >= MAX_LEAF_BYTES {
            self.flush_leaf(sink)?;
        }
        Ok(())
    }

    /// Ends the manifest. At least one entry must have been pushed.
    pub fn finish(mut self, sink: &mut dyn SegmentSink) -> Result<ManifestRef, RepoError> {
        if !self.leaf.is_empty() {
            self.flush_leaf(sink)?;
        }
        let mut level = 0;
        loop {
            let above = self.levels.iter().skip(level + 1).any(|l| l.flushed || !l.children.is_empty());
            match self.levels.get(level) {
                None => return Err(RepoError::Manifest { what: "it has no entry" }),
                Some(l) if l.children.len() == 1 && !l.flushed && !above => {
                    let root = l.children[0].id;
                    let level =
                        u8::try_from(level).map_err(|_| RepoError::Manifest { what: "it is too deep" })?;
                    return Ok(ManifestRef { root, level });
                }
                Some(l) if !l.children.is_empty() => self.flush_level(level, sink)?,
                Some(_) => {}
            }
            level += 1;
        }
    }

    fn flush_leaf(&mut self, sink: &mut dyn SegmentSink) -> Result<(), RepoError> {
        let entries = self.leaf.len();
        let id = sink.store(Some(0), self.leaf.finish())?;
        let first = std::mem::take(&mut self.first);
        self.add_child(0, Child { first, entries, id }, sink)
    }

    fn add_child(&mut self, level: usize, child: Child, sink: &mut dyn SegmentSink) -> Result<(), RepoError> {
        if self.levels.len() <= level {
            self.levels.push(Level::default());
        }
        self.levels[level].children.push(child);
        let full = self.levels[level].children.len() as u64 >= MAX_ENTRIES;
        if full || is_boundary(self.hash, level + 1) { self.flush_level(level, sink) } else { Ok(()) }
    }

    fn flush_level(&mut self, level: usize, sink: &mut dyn SegmentSink) -> Result<(), RepoError> {
        let children = std::mem::take(&mut self.levels[level].children);
        self.levels[level].flushed = true;
        let number = u8::try_from(level + 1).ok().filter(|&n| n <= limits::LEVEL);
        let number = number.ok_or(RepoError::Manifest { what: "it is too deep" })?;
        let id = sink.store(Some(number), segment_v1::encode_node(number, &children))?;
        let entries = children.iter().map(|c| c.entries).sum();
        let first = children.into_iter().next().map(|c| c.first).unwrap_or_default();
        self.add_child(level + 1, Child { first, entries, id }, sink)
    }
}

/// Puts slices into a file's content: inline when few, else as lists.
pub fn store_slices(slices: Vec<Slice>, sink: &mut dyn SegmentSink) -> Result<Slices, RepoError> {
    if slices.len() <= MAX_INLINE_SLICES {
        return Ok(Slices::Inline(slices));
    }
    let mut lists = Vec::new();
    let (mut start, mut at, mut span) = (0, 0u64, 0);
    for (i, slice) in slices.iter().enumerate() {
        if at / LIST_SPAN != span && i > start {
            lists.push(sink.store(None, slices_v1::encode_list(&slices[start..i]))?);
            start = i;
        }
        span = at / LIST_SPAN;
        at += slice.len();
    }
    lists.push(sink.store(None, slices_v1::encode_list(&slices[start..]))?);
    Ok(Slices::Lists(lists))
}

/// The slices of a file, fetched when they are in lists; they cover the file exactly.
pub fn load_slices(content: &Content, blobs: &BlobReader<'_>) -> Result<Vec<Slice>, RepoError> {
    let Slices::Lists(lists) = &content.slices else {
        let Slices::Inline(slices) = &content.slices else { return Ok(Vec::new()) };
        return Ok(slices.clone());
    };
    let (mut all, mut total) = (Vec::new(), 0u64);
    for id in lists {
        let bytes = blobs.slice_list(id)?;
        let (slices, covered) = slices_v1::decode_list(&bytes).map_err(RepoError::object("slice list"))?;
        total = total.saturating_add(covered);
        if total > content.size {
            break;
        }
        all.extend(slices);
    }
    if total == content.size {
        Ok(all)
    } else {
        Err(RepoError::Manifest { what: "slice lists do not add up to their file's size" })
    }
}

/// Reads the entries of a manifest in order. Proves what the format promises of them: order,
/// counts, and that every parent is a directory seen before.
pub struct ManifestReader<'a> {
    blobs: &'a BlobReader<'a>,
    /// Segments still to be read, the next one last.
    pending: Vec<(u8, Option<RepoPath>, Option<u64>, BlobId)>,
    entries: std::vec::IntoIter<Entry>,
    last: Option<RepoPath>,
    directories: Vec<RepoPath>,
    whole: bool,
    segments: Vec<BlobId>,
}

impl<'a> ManifestReader<'a> {
    /// Reads all entries.
    #[must_use]
    pub fn new(blobs: &'a BlobReader<'a>, manifest: ManifestRef) -> Self {
        Self {
            blobs,
            pending: vec![(manifest.level, None, None, manifest.root)],
            entries: Vec::new().into_iter(),
            last: None,
            directories: Vec::new(),
            whole: true,
            segments: Vec::new(),
        }
    }

    /// The same, without looking whether parents come before what is in them: see
    /// [`ManifestReader::skip_common`].
    #[must_use]
    pub fn without_parents(blobs: &'a BlobReader<'a>, manifest: ManifestRef) -> Self {
        Self { whole: false, ..Self::new(blobs, manifest) }
    }

    /// Reads from the first entry at or after `path` on. Parents before it are not seen.
    pub fn from(
        blobs: &'a BlobReader<'a>,
        manifest: ManifestRef,
        path: &RepoPath,
    ) -> Result<Self, RepoError> {
        let mut reader = Self::new(blobs, manifest);
        reader.whole = false;
        while let Some((level, ..)) = reader.pending.last() {
            if *level == 0 {
                break;
            }
            reader.descend()?;
            // All but the last child that begins at or before the path lie before it.
            let at =
                reader.pending.iter().rposition(|(_, first, ..)| first.as_ref().is_none_or(|f| f > path));
            let keep = at.map_or(0, |at| at + 1);
            if reader.pending.len() > keep + 1 {
                let next = reader.pending.drain(keep..).next();
                reader.pending.extend(next);
            }
        }
        reader.load_leaf()?;
        let entries = std::mem::take(&mut reader.entries);
        reader.entries = entries.filter(|e| e.path >= *path).collect::<Vec<_>>().into_iter();
        Ok(reader)
    }

    /// The ids of the segments read so far.
    #[must_use]
    pub fn segments(&self) -> &[BlobId] {
        &self.segments
    }

    /// The next entry.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, RepoError> {
        loop {
            if let Some(entry) = self.entries.next() {
                if self.whole {
                    self.check_parent(&entry)?;
                }
                return Ok(Some(entry));
            }
            if self.pending.is_empty() {
                return Ok(None);
            }
            self.load_leaf()?;
        }
    }

    /// Passes over what the next entries of both readers have in common, as far as segments tell without
    /// being read. Only for readers that do not check parents ([`ManifestReader::from`]).
    pub fn skip_common(&mut self, other: &mut Self) -> Result<(), RepoError> {
        debug_assert!(!self.whole && !other.whole);
        while self.entries.len() == 0 && other.entries.len() == 0 {
            let (Some((level, .., id)), Some((others, .., same))) =
                (self.pending.last(), other.pending.last())
            else {
                return Ok(());
            };
            if level == others && id == same {
                self.pending.pop();
                other.pending.pop();
                continue;
            }
            let (level, others) = (*level, *others);
            if level.max(others) == 0 {
                return Ok(());
            }
            if level >= others {
                self.descend()?;
            }
            if others >= level {
                other.descend()?;
            }
        }
        Ok(())
    }

    fn load_leaf(&mut self) -> Result<(), RepoError> {
        while self.pending.last().is_some_and(|(level, ..)| *level > 0) {
            self.descend()?;
        }
        if self.pending.is_empty() { Ok(()) } else { self.descend() }
    }

    /// Replaces the next segment by what it holds.
    fn descend(&mut self) -> Result<(), RepoError> {
        let Some((level, first, count, id)) = self.pending.pop() else { return Ok(()) };
        let bytes = self.blobs.blob(BlobKind::Meta, &id)?;
        self.segments.push(id);
        let segment = segment_v1::decode(&bytes).map_err(RepoError::object("manifest segment"))?;
        let mismatch = || RepoError::Manifest { what: "a segment is not what its parent says" };
        match segment {
            Segment::Leaf(entries) if level == 0 => {
                let begins = entries.first().map(|e| &e.path);
                let ascends = self.last.is_none() || begins > self.last.as_ref();
                let sound = count.is_none_or(|n| n == entries.len() as u64)
                    && first.as_ref().is_none_or(|f| begins == Some(f))
                    && ascends;
                if !sound {
                    return Err(mismatch());
                }
                self.last = entries.last().map(|e| e.path.clone());
                self.entries = entries.into_iter();
            }
            Segment::Node(found, children) if found == level => {
                let sum = children.iter().try_fold(0u64, |sum, c| sum.checked_add(c.entries));
                let begins = children.first().map(|c| &c.first);
                if count.is_some_and(|n| sum != Some(n)) || first.as_ref().is_some_and(|f| begins != Some(f))
                {
                    return Err(mismatch());
                }
                let below = level - 1;
                self.pending.extend(
                    children.into_iter().rev().map(|c| (below, Some(c.first), Some(c.entries), c.id)),
                );
            }
            _ => return Err(mismatch()),
        }
        Ok(())
    }

    fn check_parent(&mut self, entry: &Entry) -> Result<(), RepoError> {
        let Some(parent) = entry.path.parent() else {
            if !entry.is_dir() {
                return Err(RepoError::Manifest { what: "its root is not a directory" });
            }
            self.directories.push(RepoPath::root());
            return Ok(());
        };
        while self.directories.last().is_some_and(|d| !parent.starts_with(d)) {
            self.directories.pop();
        }
        if self.directories.last() != Some(&parent) {
            return Err(RepoError::Manifest { what: "an entry's parent is not a directory before it" });
        }
        if entry.is_dir() {
            self.directories.push(entry.path.clone());
        }
        Ok(())
    }
}

impl ManifestReader<'_> {
    /// Looks up one path, reading only the segments that lead to it.
    pub fn find(
        blobs: &BlobReader<'_>,
        manifest: ManifestRef,
        path: &RepoPath,
    ) -> Result<Option<Entry>, RepoError> {
        let mut reader = ManifestReader::from(blobs, manifest, path)?;
        Ok(reader.next_entry()?.filter(|e| e.path == *path))
    }
}
