//! Walking every snapshot: all that it names must be there.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_PATHS, Problem, Reach, problem, verdict};
use crate::model::{BlobId, BlobKind, Content, Entry, ObjectId, Slice, Snapshot};
use crate::ops::tree::{LostPart, Proven, Visitor, Walk};
use crate::repo::{BlobReader, RepoError, Standing, Survey, load_slices, pack_name};
use crate::report::Monitor;

/// Blobs of damaged packs that were read, and are gone.
pub(super) type LostBlobs = BTreeMap<ObjectId, BTreeSet<BlobId>>;

/// What a walk over all snapshots needs and finds.
pub(super) struct Walks<'a> {
    pub(super) blobs: &'a BlobReader<'a>,
    pub(super) survey: &'a Survey,
    /// By number.
    pub(super) packs: &'a [ObjectId],
    /// Packs of [`Standing::Bad`] that could be read, and what is gone of them.
    pub(super) lost: &'a LostBlobs,
    /// Blobs that are in a damaged pack and elsewhere only in condemned ones.
    pub(super) exposed: &'a BTreeMap<BlobId, ObjectId>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) reach: Reach,
    proven: Proven,
}

impl<'a> Walks<'a> {
    pub(super) fn new(
        blobs: &'a BlobReader<'a>,
        survey: &'a Survey,
        packs: &'a [ObjectId],
        (lost, exposed): (&'a LostBlobs, &'a BTreeMap<BlobId, ObjectId>),
        monitor: &'a dyn Monitor,
    ) -> Self {
        let reach = Reach { relied: vec![false; packs.len()], ..Reach::default() };
        Self { blobs, survey, packs, lost, exposed, monitor, reach, proven: Proven::default() }
    }

    /// Walks one snapshot.
    pub(super) fn snapshot(&mut self, short: &str, name: &str, snapshot: &Snapshot) -> Result<(), RepoError> {
        let mut proven = std::mem::take(&mut self.proven);
        let blobs = self.blobs;
        let mut visit = Visit { walks: self, short, name };
        let walked = Walk::new(blobs, &mut visit, Some(&mut proven)).run(snapshot.manifest);
        self.proven = proven;
        walked
    }

    /// Notes that a blob is needed. The pack in which it is lost, if it is.
    fn rely(&mut self, id: &BlobId) -> Result<Option<u32>, Fault> {
        let place = self.blobs.place(id)?;
        let number = place.pack as usize;
        if let Some(relied) = self.reach.relied.get_mut(number) {
            *relied = true;
        }
        self.reach.exposed.extend(self.exposed.get(id));
        let Some(pack) = self.packs.get(number) else { return Ok(None) };
        Ok(match self.survey.standing(place.pack) {
            Standing::Bad if self.lost.get(pack).is_none_or(|lost| lost.contains(id)) => Some(place.pack),
            _ => None,
        })
    }

    fn content(&mut self, content: &Content) -> Result<(), Fault> {
        if let crate::model::Slices::Lists(lists) = &content.slices {
            for id in lists {
                if let Some(pack) = self.rely(id)? {
                    return Err(Fault::In(pack));
                }
            }
        }
        for slice in load_slices(content, self.blobs)? {
            let Slice::Blob { id, offset, len } = slice else { continue };
            if let Some(pack) = self.rely(&id)? {
                return Err(Fault::In(pack));
            }
            let place = self.blobs.place(&id)?;
            let frame = self.blobs.index().frame(place.pack, place.frame)?;
            let data = frame.is_some_and(|(_, f)| f.kind == BlobKind::Data);
            if !data || u64::from(offset) + u64::from(len) > u64::from(place.length) {
                return Err(Fault::Otherwise(format!("a slice does not fit blob {id}")));
            }
        }
        Ok(())
    }

    fn hurts(&mut self, pack: u32, path: String) {
        let id = self.packs.get(pack as usize).copied().unwrap_or(ObjectId([0; 32]));
        let found = self.reach.hurt.entry(id);
        found.or_insert_with(|| problem(&pack_name(&id), "holds damaged blobs")).hurt(path);
    }
}

impl Problem {
    fn hurt(&mut self, path: String) {
        self.path_count += 1;
        if self.paths.len() < MAX_PATHS {
            self.paths.push(path);
        }
    }
}

/// Why a path cannot be restored.
enum Fault {
    In(u32),
    Otherwise(String),
    /// Nobody knows: the service did not answer.
    Unknown(RepoError),
}

impl From<RepoError> for Fault {
    fn from(error: RepoError) -> Self {
        verdict(error).map_or_else(Self::Unknown, Self::Otherwise)
    }
}

/// One snapshot's walk.
struct Visit<'w, 'a> {
    walks: &'w mut Walks<'a>,
    short: &'w str,
    name: &'w str,
}

impl Visitor for Visit<'_, '_> {
    fn segment(&mut self, id: &BlobId) -> Result<(), RepoError> {
        match self.walks.rely(id) {
            Err(Fault::Unknown(error)) => Err(error),
            // That it cannot be read is told when it is read.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<bool, RepoError> {
        let Some(content) = entry.content() else { return Ok(true) };
        let Err(fault) = self.walks.content(content) else { return Ok(true) };
        let path = format!("{}:{}", self.short, entry.path);
        match fault {
            Fault::In(pack) => self.walks.hurts(pack, path),
            Fault::Otherwise(message) => {
                let mut found = problem(self.name, message);
                found.hurt(path);
                self.walks.reach.problems.push(found);
            }
            Fault::Unknown(error) => return Err(error),
        }
        Ok(false)
    }

    fn lost(&mut self, part: LostPart) -> Result<(), RepoError> {
        let entries = part.entries.map_or_else(String::new, |n| format!(" ({n} entries)"));
        let message = format!("its manifest cannot be read, {}{entries}: {}", part.range(), part.reason);
        self.walks.reach.problems.push(problem(self.name, message));
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.walks.monitor.cancelled()
    }
}
