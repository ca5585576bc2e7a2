//! The whole index for who judges it: read anew from the remote, in memory that does not grow with it, and
//! told how far each pack may be counted on.

use std::collections::{BTreeMap, BTreeSet};

use super::index::read_object;
use super::layout::{Folder, ObjectInfo};
use super::shared_index::is_damaged;
use super::{Index, RepoError, Repository};
use crate::format::index_v1::{self, PackInfo};
use crate::model::ObjectId;

/// Blobs of packs that are added last and kept in memory until then. When there are more, the index objects
/// are read again instead. Tests have fewer.
const KEPT_BACK: usize = if cfg!(test) { 100 } else { 250_000 };

/// Listings of the index while others replace its objects.
const LISTINGS: usize = 3;

/// How far a pack may be counted on. Of several places of a blob, the one of the best standing counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Standing {
    /// Nothing is known against it.
    #[default]
    Good,
    /// A gc record names it.
    Condemned,
    /// It is missing or damaged.
    Bad,
}

/// What the index objects of a repository say.
pub struct Survey {
    index: Index,
    /// By the packs' numbers.
    standings: Vec<Standing>,
    /// Index objects that cannot be read, and why.
    pub unreadable: Vec<(ObjectInfo, RepoError)>,
    /// Ids of index objects that others replace.
    pub replaced: BTreeSet<ObjectId>,
    /// A hash of what the index says of each pack.
    digests: BTreeMap<ObjectId, [u8; 32]>,
    /// Packs of which index objects say different things.
    pub contradictions: BTreeSet<ObjectId>,
}

/// A hash of what an index object, or a table of contents, says of a pack's frames and blobs.
#[must_use]
pub fn digest(pack: &PackInfo) -> [u8; 32] {
    // The encoding is that of the format, so that whatever differs in the object differs here.
    let object = index_v1::Index { packs: vec![pack.clone()], replaces: Vec::new() };
    index_v1::encode(&object).map_or([0; 32], |bytes| *blake3::hash(&bytes).as_bytes())
}

impl Survey {
    /// Reads the index objects in `objects`. An error says that one of them is gone, or that the remote
    /// failed; those that are damaged are listed in the result.
    pub fn load(
        repository: &Repository,
        objects: &[ObjectInfo],
        standing: impl Fn(&PackInfo) -> Standing,
    ) -> Result<Self, RepoError> {
        let mut survey = Self {
            index: Index::default(),
            standings: Vec::new(),
            unreadable: Vec::new(),
            replaced: BTreeSet::new(),
            digests: BTreeMap::new(),
            contradictions: BTreeSet::new(),
        };
        let mut kept_back = KeptBack::default();
        let mut poor = BTreeMap::new();
        for object in objects {
            match read_object(repository, object) {
                Ok(decoded) => {
                    survey.replaced.extend(decoded.replaces);
                    for pack in decoded.packs {
                        survey.compare(&pack);
                        match standing(&pack) {
                            Standing::Good => survey.add(repository, &pack)?,
                            other => {
                                poor.insert(pack.id, other);
                                kept_back.add(pack);
                            }
                        }
                    }
                }
                Err(error) if is_damaged(&error) => survey.unreadable.push((object.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        for rank in [Standing::Condemned, Standing::Bad] {
            let ranked = |pack: &PackInfo| poor.get(&pack.id) == Some(&rank);
            if !poor.values().any(|standing| *standing == rank) {
                continue;
            }
            match &kept_back.packs {
                Some(packs) => {
                    packs.iter().filter(|p| ranked(p)).try_for_each(|p| survey.add_last(repository, p))?;
                }
                None => {
                    for object in objects {
                        let decoded = match read_object(repository, object) {
                            Ok(decoded) => decoded,
                            Err(error) if is_damaged(&error) => continue,
                            Err(error) => return Err(error),
                        };
                        let mut packs = decoded.packs.iter().filter(|p| ranked(p));
                        packs.try_for_each(|p| survey.add_last(repository, p))?;
                    }
                }
            }
        }
        let standing = |id: &ObjectId| poor.get(id).copied().unwrap_or_default();
        survey.standings = survey.index.packs()?.iter().map(|pack| standing(&pack.id)).collect();
        Ok(survey)
    }

    fn compare(&mut self, pack: &PackInfo) {
        let digest = digest(pack);
        if *self.digests.entry(pack.id).or_insert(digest) != digest {
            self.contradictions.insert(pack.id);
        }
    }

    fn add(&mut self, repository: &Repository, pack: &PackInfo) -> Result<(), RepoError> {
        self.index.make_room(repository, blobs_of(pack));
        self.index.add_pack(pack)
    }

    fn add_last(&mut self, repository: &Repository, pack: &PackInfo) -> Result<(), RepoError> {
        self.index.make_room(repository, blobs_of(pack));
        self.index.add_last(pack)
    }

    /// The index. Its packs have their numbers for good.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// How far the pack of this number may be counted on.
    #[must_use]
    pub fn standing(&self, pack: u32) -> Standing {
        self.standings.get(pack as usize).copied().unwrap_or_default()
    }

    /// Whether the index says the same of a pack as `pack` does.
    #[must_use]
    pub fn agrees(&self, pack: &PackInfo) -> bool {
        self.digests.get(&pack.id) == Some(&digest(pack))
    }

    /// What index objects say of some packs, with their blobs: read once more. Where they are no longer those that
    /// were listed, what is there now is asked.
    pub fn details(
        repository: &Repository,
        objects: &[ObjectInfo],
        packs: &BTreeSet<ObjectId>,
    ) -> Result<BTreeMap<ObjectId, PackInfo>, RepoError> {
        let mut found = BTreeMap::new();
        let mut changed = add_details(repository, objects, packs, &mut found)?;
        for _ in 1..LISTINGS {
            if !changed || found.len() == packs.len() {
                break;
            }
            changed = add_details(repository, &repository.list(Folder::Index)?, packs, &mut found)?;
        }
        Ok(found)
    }
}

/// Adds what is not known yet of `packs`. True when an object is not there any more.
fn add_details(
    repository: &Repository,
    objects: &[ObjectInfo],
    packs: &BTreeSet<ObjectId>,
    found: &mut BTreeMap<ObjectId, PackInfo>,
) -> Result<bool, RepoError> {
    let mut changed = false;
    for object in objects {
        if found.len() == packs.len() {
            break;
        }
        match read_object(repository, object) {
            Ok(decoded) => {
                for pack in decoded.packs.into_iter().filter(|pack| packs.contains(&pack.id)) {
                    found.entry(pack.id).or_insert(pack);
                }
            }
            Err(RepoError::Remote(e)) if e.is_not_found() => changed = true,
            Err(error) if is_damaged(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

fn blobs_of(pack: &PackInfo) -> usize {
    pack.frames.iter().map(|frame| frame.blobs.len()).sum()
}

/// Packs that are added last.
struct KeptBack {
    /// `None` when they were too many.
    packs: Option<Vec<PackInfo>>,
    blobs: usize,
}

impl Default for KeptBack {
    fn default() -> Self {
        Self { packs: Some(Vec::new()), blobs: 0 }
    }
}

impl KeptBack {
    fn add(&mut self, pack: PackInfo) {
        self.blobs += blobs_of(&pack);
        if self.blobs > KEPT_BACK {
            self.packs = None;
        }
        if let Some(packs) = &mut self.packs {
            packs.push(pack);
        }
    }
}

#[cfg(test)]
mod tests;
