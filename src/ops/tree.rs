//! Walking manifests that may be damaged: what cannot be read is told, and the walk goes on behind it.
//!
//! What a walk has proven of a segment holds wherever the segment occurs, given what stands before it: so
//! the segments that snapshots share are read once.

use std::collections::HashMap;

use crate::format::segment_v1::{self, Segment};
use crate::model::{BlobId, BlobKind, Classify, Entry, ErrorClass, ManifestRef, RepoPath};
use crate::repo::{BlobReader, RepoError};

/// A part of a manifest that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostPart {
    /// The first path that was in it, if that is known.
    pub(super) first: Option<RepoPath>,
    /// The first path after it.
    pub(super) next: Option<RepoPath>,
    /// How many entries it had, if that is known.
    pub(super) entries: Option<u64>,
    /// Why it cannot be read.
    pub(super) reason: String,
}

impl LostPart {
    /// In words.
    pub(super) fn range(&self) -> String {
        match (&self.first, &self.next) {
            (Some(first), Some(next)) => format!("from {first} to before {next}"),
            (Some(first), None) => format!("from {first} on"),
            (None, Some(next)) => format!("before {next}"),
            (None, None) => "all of it".to_string(),
        }
    }
}

/// Is told what a walk finds, in order.
pub(super) trait Visitor {
    /// This segment is needed.
    fn segment(&mut self, id: &BlobId) -> Result<(), RepoError>;

    /// An entry; false when something is wrong with it.
    fn entry(&mut self, entry: Entry) -> Result<bool, RepoError>;

    /// A part that cannot be read, or that breaks a rule of the format.
    fn lost(&mut self, part: LostPart) -> Result<(), RepoError>;

    /// True when nobody wants to know the rest.
    fn is_over(&self) -> bool;
}

/// What is proven of a segment and of all below it.
#[derive(Debug, Clone)]
struct Span {
    last: RepoPath,
    last_is_dir: bool,
    entries: u64,
}

/// Segments that were walked to their end, with nothing wrong in them.
#[derive(Debug, Default)]
pub(super) struct Proven(HashMap<BlobId, Span>);

/// One walk.
pub(super) struct Walk<'a, V> {
    pub(super) blobs: &'a BlobReader<'a>,
    pub(super) visitor: &'a mut V,
    /// Passed over when met again; `None` to visit every entry.
    pub(super) proven: Option<&'a mut Proven>,
    last: Option<RepoPath>,
    directories: Vec<RepoPath>,
    /// Something was lost before: the parents of what follows may be missing.
    torn: bool,
}

/// Where a segment stands, as its parent says.
struct Place {
    level: u8,
    first: Option<RepoPath>,
    next: Option<RepoPath>,
    entries: Option<u64>,
    id: BlobId,
}

impl<'a, V: Visitor> Walk<'a, V> {
    pub(super) fn new(blobs: &'a BlobReader<'a>, visitor: &'a mut V, proven: Option<&'a mut Proven>) -> Self {
        Self { blobs, visitor, proven, last: None, directories: Vec::new(), torn: false }
    }

    /// Walks a manifest to its end. An error says that nobody knows, not that something is damaged.
    pub(super) fn run(mut self, manifest: ManifestRef) -> Result<(), RepoError> {
        let place =
            Place { level: manifest.level, first: None, next: None, entries: None, id: manifest.root };
        self.segment(place).map(drop)
    }

    /// Walks a segment; what it spans, if nothing is wrong with it.
    fn segment(&mut self, place: Place) -> Result<Option<Span>, RepoError> {
        if self.visitor.is_over() {
            return Ok(None);
        }
        self.visitor.segment(&place.id)?;
        if let Some(span) = self.pass_over(&place) {
            return Ok(Some(span));
        }
        let span = match self.read(&place) {
            Ok(Segment::Leaf(entries)) => self.leaf(entries)?,
            Ok(Segment::Node(level, children)) => self.node(level, children, place.next.clone())?,
            Err(error) if error.class() == ErrorClass::Damaged => {
                self.lose(place, error.to_string())?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let (Some(span), Some(proven)) = (&span, &mut self.proven) {
            proven.0.insert(place.id, span.clone());
        }
        Ok(span)
    }

    fn lose(&mut self, place: Place, reason: String) -> Result<(), RepoError> {
        self.torn = true;
        let Place { first, next, entries, .. } = place;
        self.visitor.lost(LostPart { first, next, entries, reason })
    }

    /// Reads a segment, which must be what its parent says.
    fn read(&self, place: &Place) -> Result<Segment, RepoError> {
        let bytes = self.blobs.blob(BlobKind::Meta, &place.id)?;
        let segment = segment_v1::decode(&bytes).map_err(RepoError::object("manifest segment"))?;
        let (level, first, entries) = match &segment {
            Segment::Leaf(entries) => (0, entries.first().map(|e| &e.path), Some(entries.len() as u64)),
            Segment::Node(level, children) => {
                let sum = children.iter().try_fold(0u64, |sum, child| sum.checked_add(child.entries));
                (*level, children.first().map(|c| &c.first), sum)
            }
        };
        let sound = level == place.level
            && first.is_some()
            && place.first.as_ref().is_none_or(|known| first == Some(known))
            && place.entries.is_none_or(|known| entries == Some(known))
            && (self.last.is_none() || first > self.last.as_ref());
        if sound {
            Ok(segment)
        } else {
            Err(RepoError::Manifest { what: "a segment is not what its parent says" })
        }
    }

    /// Takes what was proven of a segment, if it stands here as it stood there.
    fn pass_over(&mut self, place: &Place) -> Option<Span> {
        let span = self.proven.as_ref()?.0.get(&place.id)?.clone();
        // Of the root nothing else is known; a walk of all of it would find the same.
        let Some(first) = &place.first else { return self.last.is_none().then_some(span) };
        let follows = self.last.as_ref().is_none_or(|last| first > last);
        if self.torn || !follows || place.entries != Some(span.entries) || !self.has_parent(first) {
            return None;
        }
        // All that leads to its last entry is a directory: within the segment that is proven, and what
        // stands before it is the chain of directories that leads to its first entry.
        self.directories.clear();
        let mut path = span.last.clone();
        if span.last_is_dir {
            self.directories.push(path.clone());
        }
        while let Some(parent) = path.parent() {
            self.directories.push(parent.clone());
            path = parent;
        }
        self.directories.reverse();
        self.last = Some(span.last.clone());
        Some(span)
    }

    /// Whether a directory that was met holds `path`; forgets those that do not.
    fn has_parent(&mut self, path: &RepoPath) -> bool {
        let Some(parent) = path.parent() else { return self.last.is_none() };
        while self.directories.last().is_some_and(|d| !parent.starts_with(d)) {
            self.directories.pop();
        }
        self.directories.last() == Some(&parent)
    }

    fn leaf(&mut self, entries: Vec<Entry>) -> Result<Option<Span>, RepoError> {
        let count = entries.len() as u64;
        let (mut sound, mut last_is_dir) = (true, false);
        for entry in entries {
            if self.visitor.is_over() {
                return Ok(None);
            }
            let placed = match entry.path.is_root() {
                true => entry.is_dir() && self.last.is_none(),
                false => self.has_parent(&entry.path) || self.torn,
            };
            if !placed {
                sound = false;
                let reason = "its parent is not a directory before it".to_string();
                let first = Some(entry.path.clone());
                self.visitor.lost(LostPart { first, next: None, entries: Some(1), reason })?;
                continue;
            }
            last_is_dir = entry.is_dir();
            if last_is_dir {
                self.directories.push(entry.path.clone());
            }
            self.last = Some(entry.path.clone());
            sound &= self.visitor.entry(entry)?;
        }
        let last = self.last.clone().filter(|_| sound && !self.torn);
        Ok(last.map(|last| Span { last, last_is_dir, entries: count }))
    }

    fn node(
        &mut self,
        level: u8,
        children: Vec<segment_v1::Child>,
        next: Option<RepoPath>,
    ) -> Result<Option<Span>, RepoError> {
        let mut all: Option<Span> = None;
        let mut sound = true;
        let nexts: Vec<_> = children.iter().skip(1).map(|child| Some(child.first.clone())).collect();
        for (child, next) in children.into_iter().zip(nexts.into_iter().chain([next])) {
            let place = Place {
                level: level.saturating_sub(1),
                first: Some(child.first),
                next,
                entries: Some(child.entries),
                id: child.id,
            };
            match self.segment(place)? {
                Some(span) => {
                    let before = all.map_or(0, |all| all.entries);
                    all = Some(Span { entries: before + span.entries, ..span });
                }
                None => sound = false,
            }
        }
        Ok(all.filter(|_| sound))
    }
}
