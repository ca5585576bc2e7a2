//! Writing index objects, and merging them when there are many.

use std::collections::{BTreeMap, BTreeSet};

use super::index::read_object;
use super::layout::{Folder, ObjectInfo, plain_name};
use super::survey::digest;
use super::{LoadedIndex, RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::index_v1::{self, PackInfo};
use crate::model::ObjectId;

/// Blobs of one index object; keeps objects well below the format's limits.
const OBJECT_BLOBS: usize = 250_000;
/// Objects above this many stored bytes are left alone: merging them again and again would cost more
/// than the requests that it saves.
pub(super) const SMALL: u64 = 1 << 20;
/// So many small objects are merged. A new machine reads each with one request.
const MANY: usize = 32;

/// Writes index objects for packs that are durable; the first one says what they replace. Returns the
/// new objects.
pub(super) fn write_index(
    repository: &Repository,
    packs: &[PackInfo],
    replaces: &[ObjectId],
) -> Result<Vec<ObjectInfo>, RepoError> {
    let mut written = Vec::new();
    let mut group: Vec<PackInfo> = Vec::new();
    let mut blobs = 0;
    let mut flush = |group: &mut Vec<PackInfo>, last: bool| {
        // Said by the last object: until it is there, those that it replaces are still needed.
        let replaces = if last { replaces.to_vec() } else { Vec::new() };
        let object = index_v1::Index { packs: std::mem::take(group), replaces };
        let record = index_v1::encode(&object).map_err(RepoError::object("index object"))?;
        let (id, name, bytes) =
            repository.write_record(ObjectKind::Index, &record, |id| plain_name(Folder::Index, id))?;
        written.push(ObjectInfo { name, time: None, id, size: bytes.len() as u64 });
        Ok::<_, RepoError>(())
    };
    for pack in packs {
        let more = pack.frames.iter().map(|f| f.blobs.len()).sum::<usize>();
        if blobs + more > OBJECT_BLOBS && !group.is_empty() {
            flush(&mut group, false)?;
            blobs = 0;
        }
        blobs += more;
        group.push(pack.clone());
    }
    // Also where nothing is left to be listed: what is replaced must be.
    if !group.is_empty() || !replaces.is_empty() {
        flush(&mut group, true)?;
    }
    Ok(written)
}

/// What an index object lists.
type Lists = (ObjectInfo, Vec<PackInfo>);

/// Sorts out the objects that say of a pack what another one does not.
fn agreeing(read: Vec<Lists>) -> (Vec<Lists>, Vec<ObjectInfo>) {
    let (mut said, mut disputed) = (BTreeMap::new(), BTreeSet::new());
    for pack in read.iter().flat_map(|(_, packs)| packs) {
        let digest = digest(pack);
        if *said.entry(pack.id).or_insert(digest) != digest {
            disputed.insert(pack.id);
        }
    }
    let (apart, together): (Vec<_>, Vec<_>) =
        read.into_iter().partition(|(_, packs)| packs.iter().any(|pack| disputed.contains(&pack.id)));
    (together, apart.into_iter().map(|(object, _)| object).collect())
}

impl Repository {
    /// Merges small index objects when there are many of them: `there` are all that count. Returns what
    /// there is afterwards. Those that are replaced are removed where that is allowed; where it is not
    /// they are passed over by who reads.
    ///
    /// Packs that are condemned stay listed: they may be pardoned, and who deletes them puts the index
    /// right. Objects that say different things of one pack are left alone: which of them is right only the pack
    /// tells.
    pub fn merge_index(&self, there: Vec<ObjectInfo>) -> Result<Vec<ObjectInfo>, RepoError> {
        let (small, mut rest): (Vec<_>, Vec<_>) = there.into_iter().partition(|o| o.size <= SMALL);
        if small.len() < MANY {
            rest.extend(small);
            return Ok(rest);
        }
        let (mut read, mut older) = (Vec::with_capacity(small.len()), BTreeSet::new());
        for object in small {
            let index_v1::Index { packs, replaces } = self.read_index(&object)?;
            read.push((object, packs));
            older.extend(replaces);
        }
        let (read, apart) = agreeing(read);
        rest.extend(apart);
        if read.len() < MANY {
            rest.extend(read.into_iter().map(|(object, _)| object));
            return Ok(rest);
        }
        let (mut packs, mut known, mut small) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (object, listed) in read {
            packs.extend(listed.into_iter().filter(|pack| known.insert(pack.id)));
            small.push(object);
        }
        older.retain(|id| small.iter().all(|object| object.id != *id));
        let mut replaced: Vec<_> = small.iter().map(|object| object.id).collect();
        replaced.extend(self.still_there(&older)?);
        let merged = write_index(self, &packs, &replaced)?;
        if merged.is_empty() {
            rest.extend(small);
            return Ok(rest);
        }
        for object in &small {
            self.forget_index_object(object);
        }
        rest.extend(merged);
        Ok(rest)
    }

    /// Those of these index objects that have not been removed: whoever takes the place of an object that replaces
    /// them must replace them, too. They may be damaged.
    fn still_there(&self, objects: &BTreeSet<ObjectId>) -> Result<Vec<ObjectId>, RepoError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let there = self.list(Folder::Index)?.into_iter().map(|object| object.id);
        Ok(there.filter(|id| objects.contains(id)).collect())
    }

    /// Writes anew what `objects` list, without the packs that `left_out` names; returns the new objects.
    /// Nothing is removed. At most the packs of one new object are held in memory.
    ///
    /// A pack is never left out because an object that stays lists it too: another prune may be about to
    /// remove that one for the same reason.
    pub fn rewrite_index(
        &self,
        objects: &[ObjectInfo],
        left_out: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<Vec<ObjectInfo>, RepoError> {
        let (mut written, mut known) = (Vec::new(), BTreeSet::new());
        let (mut packs, mut replaced, mut blobs) = (Vec::new(), Vec::new(), 0);
        for object in objects {
            let wanted = self.read_index(object)?.packs.into_iter();
            let wanted: Vec<_> = wanted.filter(|p| !left_out(&p.id) && known.insert(p.id)).collect();
            let more = wanted.iter().flat_map(|p| &p.frames).map(|f| f.blobs.len()).sum::<usize>();
            if blobs + more > OBJECT_BLOBS && !packs.is_empty() {
                written.extend(write_index(self, &packs, &replaced)?);
                (packs, replaced, blobs) = (Vec::new(), Vec::new(), 0);
            }
            packs.extend(wanted);
            replaced.push(object.id);
            blobs += more;
        }
        // Where nothing is left to be listed nothing need be said: what was replaced will be removed.
        if !packs.is_empty() {
            written.extend(write_index(self, &packs, &replaced)?);
        }
        Ok(written)
    }

    /// Publishes an index object that lists packs, true or not.
    #[cfg(test)]
    pub(crate) fn publish_index(&self, packs: &[PackInfo]) -> Result<Vec<ObjectInfo>, RepoError> {
        write_index(self, packs, &[])
    }

    /// Reads an index object.
    pub fn read_index(&self, object: &ObjectInfo) -> Result<index_v1::Index, RepoError> {
        read_object(self, object)
    }

    /// Without permission to delete it stays, and does no harm.
    pub(super) fn forget_index_object(&self, object: &ObjectInfo) {
        if self.remote().delete(&object.name).is_ok() {
            self.cache().forget_copy(&object.name);
        }
    }
}

impl LoadedIndex {
    /// The index objects that count after `new` ones were written.
    #[must_use]
    pub fn objects_with(&self, new: &[ObjectInfo]) -> Vec<ObjectInfo> {
        self.objects.iter().chain(new).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
