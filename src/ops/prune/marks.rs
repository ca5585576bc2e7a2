//! What snapshots need: a walk through all manifests at once, level by level, so that what they share is
//! read once and neighbouring segments are read together.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::unbounded;

use super::Error;
use super::state::{Manifests, damaged};
use crate::format::segment_v1::{self, Segment};
use crate::format::{limits, slices_v1};
use crate::model::{BlobId, BlobKind, Content, Slice, Slices};
use crate::repo::{BlobPlace, BlobReader, Census, RepoError, Repository};
use crate::report::Monitor;

/// Blobs that are needed and nowhere, named in the error.
const NAMED: usize = 5;

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn contains(&self, n: usize) -> bool {
        self.0.get(n / 64).is_some_and(|word| word >> (n % 64) & 1 == 1)
    }

    /// Adds a number; tells whether it was new.
    pub(super) fn insert(&mut self, n: usize) -> bool {
        let new = !self.contains(n);
        if let Some(word) = self.0.get_mut(n / 64) {
            *word |= 1 << (n % 64);
        }
        new
    }
}

/// The numbers, in the census, of the blobs that are needed.
pub(super) type Used = Bits;

/// What is to be read.
#[derive(Clone, Copy)]
enum Expected {
    Segment(u8),
    List,
}

/// What was read.
enum Found {
    Children(Vec<BlobId>),
    Content { blobs: Vec<BlobId>, lists: Vec<BlobId> },
}

/// Finds the blobs that manifests, given by level and root, need. A needed blob that no index object lists is
/// damage; whether its pack is there is for the plan to see.
pub(super) fn walk(
    repository: &Repository,
    census: &Census,
    manifests: &Manifests,
    monitor: &dyn Monitor,
) -> Result<Used, Error> {
    let blobs = BlobReader::new(repository, census.meta());
    let len = census.places().len();
    let mut walk = Walk {
        census,
        blobs: &blobs,
        monitor,
        threads: repository.remote().parallel_requests().max(1),
        used: Bits::new(len),
        walked: Bits::new(len),
        listed: Bits::new(len),
        lost: Vec::new(),
        segments: vec![Vec::new(); usize::from(limits::LEVEL) + 1],
        lists: Vec::new(),
    };
    for (level, root) in manifests {
        walk.segment(*level, BlobId(*root))?;
    }
    for level in (0..=limits::LEVEL).rev() {
        let ids = std::mem::take(&mut walk.segments[usize::from(level)]);
        walk.read(ids, Expected::Segment(level))?;
    }
    let lists = std::mem::take(&mut walk.lists);
    walk.read(lists, Expected::List)?;
    if walk.lost.is_empty() { Ok(walk.used) } else { Err(lost(&walk.lost)) }
}

/// Blobs that are needed and nowhere.
pub(super) fn lost(ids: &[impl std::fmt::Display]) -> Error {
    let names: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Error::Damaged { what: format!("snapshots need what is missing: {}{more}", names.join(", ")) }
}

struct Walk<'a> {
    census: &'a Census,
    blobs: &'a BlobReader<'a>,
    monitor: &'a dyn Monitor,
    threads: usize,
    used: Bits,
    /// Segments that were met.
    walked: Bits,
    /// Slice lists that were met.
    listed: Bits,
    lost: Vec<BlobId>,
    /// To be read, by level.
    segments: Vec<Vec<BlobId>>,
    lists: Vec<BlobId>,
}

impl Walk<'_> {
    /// Notes that a blob is needed, and tells its number.
    fn needed(&mut self, id: BlobId) -> Option<usize> {
        let number = self.census.number(&id);
        match number {
            Some(number) => drop(self.used.insert(number)),
            None => self.lost.push(id),
        }
        number
    }

    fn segment(&mut self, level: u8, id: BlobId) -> Result<(), Error> {
        let Some(number) = self.needed(id) else { return Ok(()) };
        let Some(queue) = self.segments.get_mut(usize::from(level)) else {
            return Err(Error::Damaged { what: format!("a manifest has {level} levels") });
        };
        if self.walked.insert(number) {
            queue.push(id);
        }
        Ok(())
    }

    /// Reads segments of one level, or slice lists, and notes what they need.
    fn read(&mut self, ids: Vec<BlobId>, expected: Expected) -> Result<(), Error> {
        let frames = self.by_frame(ids)?;
        let (blobs, monitor, next) = (self.blobs, self.monitor, AtomicUsize::new(0));
        let (out, found) = unbounded();
        let threads = self.threads.min(frames.len());
        let mut result = Ok(());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (out, frames, next) = (out.clone(), &frames, &next);
                scope.spawn(move || {
                    while !monitor.cancelled()
                        && let Some(frame) = frames.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if out.send(read_frame(blobs, frame, expected)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(out);
            for frame in &found {
                result = frame
                    .map_err(damaged("a manifest cannot be read"))
                    .and_then(|found| found.into_iter().try_for_each(|found| self.take(found, expected)));
                if result.is_err() {
                    // Threads end when nobody listens.
                    break;
                }
            }
            drop(found);
        });
        if monitor.cancelled() { Err(Error::Interrupted) } else { result }
    }

    fn take(&mut self, found: Found, expected: Expected) -> Result<(), Error> {
        match (found, expected) {
            (Found::Children(children), Expected::Segment(level)) => {
                children.into_iter().try_for_each(|id| self.segment(level.saturating_sub(1), id))
            }
            (Found::Content { blobs, lists }, _) => {
                for id in blobs {
                    self.needed(id);
                }
                for id in lists {
                    if let Some(number) = self.needed(id)
                        && self.listed.insert(number)
                    {
                        self.lists.push(id);
                    }
                }
                Ok(())
            }
            (Found::Children(_), Expected::List) => Ok(()),
        }
    }

    /// The blobs of each frame, frames in the order in which they lie in their packs.
    fn by_frame(&self, ids: Vec<BlobId>) -> Result<Vec<Vec<(BlobId, BlobPlace)>>, Error> {
        let mut placed = Vec::with_capacity(ids.len());
        for id in ids {
            // Listed, but in no pack that is there.
            let place = self.blobs.index().get(&id)?.ok_or_else(|| lost(&[id]))?;
            placed.push((id, place));
        }
        placed.sort_unstable_by_key(|(_, place)| (place.pack, place.frame, place.offset));
        let same =
            |a: &(BlobId, BlobPlace), b: &(BlobId, BlobPlace)| (a.1.pack, a.1.frame) == (b.1.pack, b.1.frame);
        Ok(placed.chunk_by(same).map(<[_]>::to_vec).collect())
    }
}

fn read_frame(
    blobs: &BlobReader<'_>,
    frame: &[(BlobId, BlobPlace)],
    expected: Expected,
) -> Result<Vec<Found>, RepoError> {
    let Some((_, first)) = frame.first() else { return Ok(Vec::new()) };
    let bytes = blobs.frame(first.pack, first.frame)?;
    let mut found = Vec::with_capacity(frame.len());
    for (id, place) in frame {
        let from = place.offset as usize;
        let bytes = bytes.get(from..from + place.length as usize).unwrap_or_default();
        blobs.verify(BlobKind::Meta, id, *place, bytes)?;
        found.push(decode(bytes, expected)?);
    }
    Ok(found)
}

fn decode(bytes: &[u8], expected: Expected) -> Result<Found, RepoError> {
    let wanted = match expected {
        Expected::List => {
            let (slices, _) = slices_v1::decode_list(bytes).map_err(RepoError::object("slice list"))?;
            return Ok(Found::Content { blobs: blobs_of(&slices).collect(), lists: Vec::new() });
        }
        Expected::Segment(level) => level,
    };
    match segment_v1::decode(bytes).map_err(RepoError::object("manifest segment"))? {
        Segment::Node(level, children) if level == wanted => {
            Ok(Found::Children(children.into_iter().map(|child| child.id).collect()))
        }
        Segment::Leaf(entries) if wanted == 0 => {
            let (mut blobs, mut lists) = (Vec::new(), Vec::new());
            for Content { slices, .. } in entries.iter().filter_map(|entry| entry.content()) {
                match slices {
                    Slices::Inline(slices) => blobs.extend(blobs_of(slices)),
                    Slices::Lists(ids) => lists.extend(ids),
                }
            }
            Ok(Found::Content { blobs, lists })
        }
        _ => Err(RepoError::Manifest { what: "a segment is not what its parent says" }),
    }
}

fn blobs_of(slices: &[Slice]) -> impl Iterator<Item = BlobId> {
    slices.iter().filter_map(|slice| match slice {
        Slice::Blob { id, .. } => Some(*id),
        Slice::Hole { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment_v1::{Child, LeafBuilder, encode_node};
    use crate::model::{Entry, EntryKind, Metadata, RepoPath};

    #[test]
    fn a_segment_is_of_the_level_that_its_parent_says() {
        let Ok(first) = RepoPath::new(b"a".to_vec()) else { unreachable!("a name is a path") };
        let node =
            |level| encode_node(level, &[Child { first: first.clone(), entries: 1, id: BlobId([1; 32]) }]);
        let mut leaf = LeafBuilder::default();
        leaf.push(&Entry {
            path: first.clone(),
            kind: EntryKind::Fifo,
            meta: Metadata::default(),
            link_group: 0,
            unsettled: false,
        });
        let leaf = leaf.finish();
        let level = |bytes: &[u8], level| decode(bytes, Expected::Segment(level));
        assert!(matches!(level(&node(2), 2), Ok(Found::Children(ids)) if ids == [BlobId([1; 32])]));
        assert!(matches!(level(&leaf, 0), Ok(Found::Content { .. })));
        for (bytes, wanted) in [(node(2), 1), (node(2), 3), (node(1), 0), (leaf.clone(), 1), (leaf, 2)] {
            let refused = level(&bytes, wanted);
            assert!(matches!(refused, Err(RepoError::Manifest { .. })), "level {wanted}");
        }
    }

    #[test]
    fn some_of_what_is_lost_is_named() {
        let text = |n| lost(&(0..n).collect::<Vec<u64>>()).to_string();
        assert!(text(NAMED as u64).contains("0, 1, 2, 3, 4;"), "{}", text(NAMED as u64));
        assert!(text(NAMED as u64 + 2).contains("0, 1, 2, 3, 4 and 2 more;"));
    }

    #[test]
    fn a_set_knows_what_is_new() {
        let mut bits = Bits::new(130);
        for n in [0, 1, 63, 64, 65, 129] {
            assert!(!bits.contains(n) && bits.insert(n) && bits.contains(n) && !bits.insert(n), "{n}");
        }
        assert_eq!((0..200).filter(|n| bits.contains(*n)).collect::<Vec<_>>(), [0, 1, 63, 64, 65, 129]);
    }
}
