//! Copying what is needed out of packs, so that the rest can go.

use std::collections::BTreeSet;

use super::marks::Bits;
use super::plan::{Fate, Plan};
use super::{Amount, Error, Request};
use crate::format::index_v1::PackInfo;
use crate::model::{Classify, ErrorClass, ObjectId};
use crate::repo::{
    BlobPlace, BlobReader, Census, Index, Packer, PackerOptions, Published, RepoError, Repository,
    SharedIndex, pack_name,
};
use crate::report::Monitor;

/// Unneeded bytes between two frames that are read rather than asked for around.
const NEAR: u64 = 256 << 10;
/// Most bytes read at once; they are held in memory.
const RUN: u64 = 16 << 20;

/// Packs that are to be copied from.
pub(super) struct Victims {
    packs: Vec<PackInfo>,
}

impl Victims {
    /// Reads what the index says of them, which must be done before index objects are removed.
    pub(super) fn read(repository: &Repository, plan: &Plan, census: &Census) -> Result<Self, RepoError> {
        let mut wanted: BTreeSet<ObjectId> =
            plan.with(census, Fate::Repack).map(|(_, pack)| pack.id).collect();
        let mut packs = Vec::new();
        for object in census.objects() {
            let here = |number: &u32| plan.fates[*number as usize] == Fate::Repack;
            if !object.packs.iter().any(here) {
                continue;
            }
            let decoded = repository.read_index(&object.object)?;
            packs.extend(decoded.packs.into_iter().filter(|pack| wanted.remove(&pack.id)));
        }
        Ok(Self { packs })
    }
}

/// What was copied.
#[derive(Default)]
pub(super) struct Copied {
    /// Packs of which everything that is needed is elsewhere now.
    pub(super) packs: Vec<ObjectId>,
    /// What was written for that.
    pub(super) new: Amount,
    /// The packs that were written.
    pub(super) written: Vec<ObjectId>,
    /// Packs that could not be read.
    pub(super) damaged: Vec<String>,
}

/// Copies what is needed of the victims, and publishes its index. When the user asks to stop, the packs done
/// so far are.
pub(super) fn copy(
    repository: &Repository,
    victims: &Victims,
    plan: &Plan,
    census: &Census,
    request: &Request,
    monitor: &dyn Monitor,
) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    if victims.packs.is_empty() {
        return Ok(copied);
    }
    let mut index = Index::default();
    victims.packs.iter().try_for_each(|pack| index.add_pack(pack))?;
    let numbers: std::collections::BTreeMap<ObjectId, u32> =
        plan.with(census, Fate::Repack).map(|(number, pack)| (pack.id, number)).collect();
    let options = PackerOptions { threads: 1, ..request.packer };
    let packer = Packer::new(repository, options, false, SharedIndex::nothing(repository));
    let blobs = &BlobReader::new(repository, &index);
    let work = Reading { blobs, census, wanted: &plan.places, packer: Some(&packer), monitor };
    for (here, pack) in (0u32..).zip(&victims.packs) {
        if monitor.cancelled() {
            break;
        }
        let Some(&number) = numbers.get(&pack.id) else { continue };
        match work.pack(here, number, pack) {
            Ok(()) => copied.packs.push(pack.id),
            Err(e) if e.class() == ErrorClass::Damaged => {
                copied.damaged.push(format!("{}: {e}", pack_name(&pack.id)));
            }
            Err(e) => return Err(e.into()),
        }
    }
    let Published { packs, stored, listed, .. } = packer.publish()?;
    listed.iter().for_each(|pack| repository.cache().forget_pending(pack));
    copied.new = Amount { packs, bytes: stored };
    copied.written = listed;
    Ok(copied)
}

/// Reads blobs of packs, and checks that they are what the index says.
pub(super) struct Reading<'a> {
    pub(super) blobs: &'a BlobReader<'a>,
    pub(super) census: &'a Census,
    /// Numbers of the places that are read.
    pub(super) wanted: &'a Bits,
    /// Takes them.
    pub(super) packer: Option<&'a Packer>,
    pub(super) monitor: &'a dyn Monitor,
}

impl Reading<'_> {
    /// True when this place of a blob is to be read.
    fn is_wanted(&self, number: u32, id: &crate::model::BlobId) -> bool {
        let Some(first) = self.census.number(id) else { return false };
        let places = self.census.places_of(first);
        let at = places.iter().position(|place| place.pack == number);
        at.is_some_and(|at| self.wanted.contains(first + at))
    }

    /// Reads what is wanted of one pack, number `number` of the census and `here` in the index of `blobs`.
    pub(super) fn pack(&self, here: u32, number: u32, pack: &PackInfo) -> Result<(), RepoError> {
        let needed =
            |frame: &usize| pack.frames[*frame].blobs.iter().any(|b| self.is_wanted(number, &b.id()));
        let needed: Vec<u32> = (0..pack.frames.len())
            .filter(needed)
            .map(|frame| u32::try_from(frame).unwrap_or(u32::MAX))
            .collect();
        for run in runs(self.blobs, here, &needed)? {
            let (Some(&first), Some(&last)) = (run.first(), run.last()) else { continue };
            let stored = self.blobs.frames(here, first, last)?;
            for frame in run {
                self.frame(here, number, frame, pack, &stored.open(frame)?)?;
            }
        }
        self.monitor.progress(1, pack.size);
        Ok(())
    }

    fn frame(
        &self,
        here: u32,
        number: u32,
        frame: u32,
        pack: &PackInfo,
        raw: &[u8],
    ) -> Result<(), RepoError> {
        let info = &pack.frames[frame as usize];
        let mut offset = 0u32;
        for blob in &info.blobs {
            let from = offset as usize;
            let place = BlobPlace { pack: here, frame, offset, length: blob.length };
            offset = offset.saturating_add(blob.length);
            let id = blob.id();
            if self.is_wanted(number, &id) {
                let bytes = raw.get(from..from + blob.length as usize).unwrap_or_default();
                self.blobs.verify(info.kind, &id, place, bytes)?;
                if let Some(packer) = self.packer {
                    packer.add(info.kind, id, bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// Frames that are read together.
fn runs(blobs: &BlobReader<'_>, pack: u32, frames: &[u32]) -> Result<Vec<Vec<u32>>, RepoError> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let (mut start, mut end) = (0, 0);
    for &frame in frames {
        let (from, to) = blobs.range(pack, frame)?;
        match runs.last_mut() {
            Some(run) if from <= end + NEAR && to - start <= RUN => run.push(frame),
            _ => {
                start = from;
                runs.push(vec![frame]);
            }
        }
        end = to;
    }
    Ok(runs)
}
