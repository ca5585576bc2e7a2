//! `repair packs`: saves what verifies of damaged packs into new ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Error;
use crate::clock::Clock;
use crate::crypto::ObjectKind;
use crate::format::index_v1::PackInfo;
use crate::format::marker_v1::Operation;
use crate::format::pack_v1;
use crate::format::sealed_v1::HEADER;
use crate::model::{BlobId, BlobKind, ObjectId};
use crate::ops::check::Diagnosis;
use crate::repo::{
    BlobReader, Damage, Folder, Packer, PackerOptions, RepoError, Repository, SharedIndex, Standing, Survey,
    pack_name,
};
use crate::report::{Monitor, Phase};

/// A damaged pack and what became of it.
#[derive(Debug, Clone)]
pub struct Repaired {
    /// Its name.
    pub pack: String,
    /// What is wrong with it.
    pub message: String,
    /// Blobs that verify, here or in a pack that is condemned, and were nowhere else.
    pub saved: u64,
    /// Blobs that do not, and are nowhere else.
    pub lost: u64,
    /// It is not there at all.
    pub gone: bool,
}

/// What a repair of packs did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The damaged packs.
    pub packs: Vec<Repaired>,
    /// New packs.
    pub written: u64,
    /// Bytes of new packs and index objects.
    pub bytes_written: u64,
}

/// Looks at the packs that are known to be damaged, and at those that are named, or at all; saves what can be saved. A
/// dry run only tells what that is.
pub fn run(
    repository: &Repository,
    which: &Which,
    packer: PackerOptions,
    dry_run: bool,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    repository.require(Operation::Write)?;
    repository.require_owner()?;
    let repository = &repository.without_copies();
    if let Which::Named(packs) = which {
        let there: BTreeSet<ObjectId> = repository.list(Folder::Packs)?.iter().map(|o| o.id).collect();
        if let Some(stranger) = packs.iter().find(|id| !there.contains(id)) {
            return Err(Error::NoSuchPack(stranger.to_string()));
        }
        // They are looked at like those that were met damaged.
        repository.cache().change_damage(|noted| {
            for pack in packs {
                noted.entry(*pack).or_insert(Damage::Suspected);
            }
        })?;
    }
    let all = matches!(which, Which::All);
    let known = Diagnosis::make(repository, all, packer.threads, monitor.as_ref(), clock.as_ref())?;
    if monitor.cancelled() {
        return Err(Error::Interrupted);
    }
    if let Some(fault) = known.index_fault(repository)? {
        return Err(Error::Index(fault));
    }
    let mut outcome = Outcome::default();
    if known.bad.is_empty() {
        return Ok(outcome);
    }
    monitor.phase(Phase::ReadData, None);
    let bad: BTreeSet<ObjectId> = known.bad.keys().copied().collect();
    let mut avoid = known.condemned.clone();
    avoid.extend(&bad);
    let index = SharedIndex::without(repository, avoid, None);
    let packer = Packer::new(repository, packer, dry_run, Arc::clone(&index));
    let details = Survey::details(repository, &known.objects, &bad)?;
    let blobs = BlobReader::new(repository, known.survey.index());
    for (id, message) in &known.bad {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        let mut repaired = Repaired {
            pack: pack_name(id),
            message: message.clone(),
            saved: 0,
            lost: 0,
            gone: !known.packs.contains_key(id),
        };
        if let Some(pack) = details.get(id) {
            salvage(&blobs, pack, &packer, &known, &mut repaired)?;
        }
        outcome.packs.push(repaired);
    }
    let published = packer.publish()?;
    outcome.written = published.packs;
    outcome.bytes_written = published.stored;
    let new: BTreeSet<ObjectId> = bad.difference(&known.condemned).copied().collect();
    if !dry_run && !new.is_empty() {
        // From now on readers prefer the new packs, and a prune may put the old ones away, as soon as
        // nothing needs what only they have.
        repository.condemn(clock.now(), new.into_iter().collect())?;
    }
    Ok(outcome)
}

/// Which packs to look at.
pub enum Which {
    /// Those that were found damaged before, and those that are missing or of another length than the index says.
    Known,
    /// These too.
    Named(Vec<ObjectId>),
    /// Every pack is read.
    All,
}

/// Brings every blob that verifies to the packer. Frame by frame: one that is damaged, or lies behind the
/// end of a pack that was cut, costs only itself.
fn salvage(
    blobs: &BlobReader<'_>,
    pack: &PackInfo,
    packer: &Packer,
    known: &Diagnosis,
    repaired: &mut Repaired,
) -> Result<(), RepoError> {
    let repository = blobs.repository();
    let (sealer, name) = (repository.sealer(), pack_name(&pack.id));
    let range = |offset, len| match repository.remote().get_range(&name, offset, len) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) => match RepoError::from(e) {
            e if e.is_service_failure() => Err(e),
            _ => Ok(None),
        },
    };
    let header = if repaired.gone { None } else { range(0, HEADER as u64)? };
    let key = header.and_then(|header| sealer.open_header(ObjectKind::Pack, &header).ok());
    let mut offset = HEADER as u64;
    for (number, frame) in (0u64..).zip(&pack.frames) {
        let sealed = if key.is_some() { range(offset, frame.stored.into())? } else { None };
        offset += u64::from(frame.stored);
        let raw = key.as_ref().zip(sealed);
        let raw = raw.and_then(|(key, sealed)| pack_v1::open_frame(sealer, key, number, frame, sealed).ok());
        let mut at = 0;
        for blob in &frame.blobs {
            let (id, end) = (blob.id(), at + blob.length as usize);
            let content = raw.as_ref().and_then(|raw| raw.get(at..end)).unwrap_or_default();
            at = end;
            if sealer.keys.blob_id(frame.kind, content) == id {
                repaired.saved += u64::from(packer.add(frame.kind, id, content)?);
                continue;
            }
            match elsewhere(blobs, known, frame.kind, &id)? {
                Elsewhere::Safe => {}
                Elsewhere::Condemned(content) => {
                    repaired.saved += u64::from(packer.add(frame.kind, id, &content)?);
                }
                Elsewhere::Nowhere => repaired.lost += 1,
            }
        }
    }
    Ok(())
}

/// Where else there is a blob that cannot be had from a damaged pack.
enum Elsewhere {
    /// In a pack that nothing is known against.
    Safe,
    /// In one that is to be removed, and this is it.
    Condemned(Vec<u8>),
    /// In none.
    Nowhere,
}

fn elsewhere(
    blobs: &BlobReader<'_>,
    known: &Diagnosis,
    kind: BlobKind,
    id: &BlobId,
) -> Result<Elsewhere, RepoError> {
    let standing = blobs.index().get(id)?.map(|place| known.survey.standing(place.pack));
    match standing {
        Some(Standing::Good) => Ok(Elsewhere::Safe),
        Some(Standing::Condemned) => match blobs.blob(kind, id) {
            Ok(content) => Ok(Elsewhere::Condemned(content)),
            Err(e) if e.is_service_failure() => Err(e),
            Err(_) => Ok(Elsewhere::Nowhere),
        },
        Some(Standing::Bad) | None => Ok(Elsewhere::Nowhere),
    }
}
