//! The part of the index that the local table has: when it may be used, when it is written, and what
//! takes its place when it turns out to be damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use data_encoding::HEXLOWER;

use super::index::{InMemory, read_object};
use super::layout::ObjectInfo;
use super::merge::SMALL;
use super::shared_index::is_damaged;
use super::table::{self, Source, Table};
use super::{BlobPlace, FramePlaceInfo, Index, PackSummary, RepoError, Repository};
use crate::crypto;
use crate::fs::{TempFile, create_private_dir_all};
use crate::model::{BlobId, ObjectId};

const NAME: &str = "index-table";
/// Index objects are taken into the table when together they have so many stored bytes: some 4,000 blobs,
/// which are decoded in a millisecond. Tests, whose repositories are small, use it always.
const WORTH: u64 = if cfg!(test) { 1 } else { 128 << 10 };
/// And so large a part of what it has already: writing it anew costs as much as it is large.
const PART: u64 = 8;

/// A table that may be used, and how to do without it.
pub(super) struct Base {
    table: Table,
    repository: Repository,
    /// The index objects that the table was made from.
    objects: Vec<ObjectInfo>,
    /// What they say, once the table could not be read.
    instead: OnceLock<InMemory>,
    /// Held by who loads that: it is as large as the index.
    loading: Mutex<()>,
    /// The table is of one operation only, and its file has no name any more.
    scratch: bool,
}

impl Base {
    /// The table of a repository whose index objects are `objects`, written first where that is
    /// worthwhile. `None` when there is none that was made from nothing but these, or when it counts on a
    /// pack in `condemned`.
    pub(super) fn find(
        repository: &Repository,
        objects: &[ObjectInfo],
        condemned: &BTreeSet<ObjectId>,
    ) -> Result<Option<Self>, RepoError> {
        // Who wants to see what the remote has is not shown what was made of it.
        if !repository.uses_copies() {
            return Ok(None);
        }
        let open = || Self::open(repository, objects).filter(|base| base.has_none_of(condemned));
        let base = open();
        let more = worth_taking(base.as_ref().map_or(&[], |base| &base.objects), objects);
        if more.is_empty() {
            return Ok(base);
        }
        extend(repository, base, &more, condemned)?;
        Ok(open())
    }

    fn has_none_of(&self, packs: &BTreeSet<ObjectId>) -> bool {
        if packs.len() <= self.table.packs() as usize {
            return packs.iter().all(|pack| matches!(self.table.pack_number(pack), Ok(None)));
        }
        // gc records keep the names of packs that are gone: there may be many.
        (0..self.table.packs()).all(|n| self.table.pack(n).is_ok_and(|pack| !packs.contains(&pack.id)))
    }

    /// A pack that an index object no longer lists may be gone, and one object may replace another without
    /// listing the same: so each one must still be there.
    fn open(repository: &Repository, objects: &[ObjectInfo]) -> Option<Self> {
        let table = Table::open(&path(repository), repository.id()).ok()?;
        let there: BTreeMap<_, _> = objects.iter().map(|object| (object.id, object)).collect();
        let objects = table.sources().iter().map(|source| there.get(&source.id).copied().cloned());
        let objects = objects.collect::<Option<_>>()?;
        Some(Self {
            table,
            repository: repository.clone(),
            objects,
            instead: OnceLock::new(),
            loading: Mutex::default(),
            scratch: false,
        })
    }

    /// A table for one operation, of what `older` has and of what is in memory. It has no sources: what it
    /// says cannot be had again when it turns out to be damaged.
    pub(super) fn scratch(
        repository: &Repository,
        older: Option<&Self>,
        added: &InMemory,
    ) -> io::Result<Self> {
        let directory = repository.cache().directory();
        let file = begin(directory)?;
        let random: [u8; 8] = crypto::random().map_err(io::Error::other)?;
        // A name that anybody may sweep away, should this process end before it does.
        let name = format!("{}{}", TempFile::PREFIX, HEXLOWER.encode(&random));
        let written =
            table::write((file, &name), repository.id(), Vec::new(), older.map(|base| &base.table), added);
        let path = directory.join(name);
        let table = written.and_then(|()| Table::open(&path, repository.id()));
        drop(fs::remove_file(&path));
        Ok(Self {
            table: table?,
            repository: repository.clone(),
            objects: Vec::new(),
            instead: OnceLock::new(),
            loading: Mutex::default(),
            scratch: true,
        })
    }

    /// The index objects that it speaks for.
    pub(super) fn sources(&self) -> &[Source] {
        self.table.sources()
    }

    /// How many packs it has. Their numbers begin at 0.
    pub(super) fn packs_len(&self) -> u32 {
        self.table.packs()
    }

    /// Where a blob is.
    pub(super) fn blob(&self, id: &BlobId) -> Result<Option<BlobPlace>, RepoError> {
        self.ask(|table| table.blob(id), |instead| instead.get(id))
    }

    /// True when it has a pack.
    pub(super) fn contains_pack(&self, id: &ObjectId) -> Result<bool, RepoError> {
        self.ask(|table| Ok(table.pack_number(id)?.is_some()), |instead| instead.contains_pack(id))
    }

    /// The pack and frame of a place.
    pub(super) fn frame(
        &self,
        pack: u32,
        frame: u32,
    ) -> Result<Option<(ObjectId, FramePlaceInfo)>, RepoError> {
        self.ask(|table| table.frame(pack, frame), |instead| instead.frame(pack, frame))
    }

    /// The packs, by number.
    pub(super) fn packs(&self) -> Result<Vec<PackSummary>, RepoError> {
        self.ask(
            |table| (0..table.packs()).map(|number| table.pack(number)).collect(),
            |instead| instead.packs().to_vec(),
        )
    }

    /// All blobs. Where the table cannot be read to its end, that is an error.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Result<(BlobId, BlobPlace), RepoError>> {
        self.table.blobs().map(|blob| {
            blob.map_err(|source| {
                self.remove();
                RepoError::Cache { path: path(&self.repository), source }
            })
        })
    }

    /// Asks the table, or who takes its place. A read that fails says nothing of what was asked.
    fn ask<T>(
        &self,
        table: impl FnOnce(&Table) -> io::Result<T>,
        instead: impl FnOnce(&InMemory) -> T,
    ) -> Result<T, RepoError> {
        if self.instead.get().is_none()
            && let Ok(answer) = table(&self.table)
        {
            return Ok(answer);
        }
        self.instead().map(instead)
    }

    fn instead(&self) -> Result<&InMemory, RepoError> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instead) = self.instead.get() {
            return Ok(instead);
        }
        if self.scratch {
            let path = self.repository.cache().directory().to_path_buf();
            return Err(RepoError::Cache { path, source: io::ErrorKind::InvalidData.into() });
        }
        self.remove();
        let mut packs = BTreeMap::new();
        for object in &self.objects {
            packs
                .extend(read_object(&self.repository, object)?.packs.into_iter().map(|pack| (pack.id, pack)));
        }
        // In the order of their ids, so that they get the numbers that they have in the table: places
        // that were handed out stay right.
        let mut instead = InMemory::default();
        packs.values().for_each(|pack| instead.add(pack));
        Ok(self.instead.get_or_init(|| instead))
    }

    /// The next operation makes it anew.
    fn remove(&self) {
        if self.scratch {
            return;
        }
        drop(fs::remove_file(path(&self.repository)));
    }
}

fn path(repository: &Repository) -> PathBuf {
    repository.cache().directory().join(NAME)
}

/// Those of `objects` that should be taken into a table made from `taken`. Small ones are left out unless
/// they are many: they will be merged, and a table that was made from them is of no use after that.
fn worth_taking(taken: &[ObjectInfo], objects: &[ObjectInfo]) -> Vec<ObjectInfo> {
    let bytes = |objects: &[ObjectInfo]| objects.iter().map(|object| object.size).sum::<u64>();
    let known: BTreeSet<_> = taken.iter().map(|object| object.id).collect();
    let new = objects.iter().filter(|object| !known.contains(&object.id)).cloned();
    let (mut more, small): (Vec<_>, Vec<_>) = new.partition(|object| object.size > SMALL);
    if bytes(&small) > (bytes(taken) + bytes(&more)) / PART {
        more.extend(small);
    }
    if bytes(&more) < WORTH || bytes(&more) < bytes(taken) / PART { Vec::new() } else { more }
}

/// Writes a table of what `base` has and what those of the index objects `more` say that list no pack in
/// `condemned`: the others will be written anew when these packs go. One that cannot be written costs time, now
/// and later.
fn extend(
    repository: &Repository,
    base: Option<Base>,
    more: &[ObjectInfo],
    condemned: &BTreeSet<ObjectId>,
) -> Result<(), RepoError> {
    let Ok(file) = begin(repository.cache().directory()) else { return Ok(()) };
    let mut sources = base.as_ref().map_or_else(Vec::new, |base| base.sources().to_vec());
    let had = sources.len();
    let mut index = Index::new(base);
    for object in more {
        match read_object(repository, object) {
            Ok(decoded) if decoded.packs.iter().any(|pack| condemned.contains(&pack.id)) => {}
            Ok(decoded) => {
                decoded.packs.iter().try_for_each(|pack| index.add_pack(pack))?;
                sources.push(Source { id: object.id, replaces: decoded.replaces });
            }
            // Who loads the index says so, unless another object replaces it.
            Err(error) if is_damaged(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if sources.len() == had {
        return Ok(());
    }
    let (base, added) = index.parts();
    drop(table::write((file, NAME), repository.id(), sources, base.map(|base| &base.table), added));
    Ok(())
}

/// Before anything is decoded, since often enough it is known here that nothing can be written.
fn begin(dir: &Path) -> io::Result<TempFile> {
    create_private_dir_all(dir)?;
    TempFile::new(dir)
}

#[cfg(test)]
mod tests;
