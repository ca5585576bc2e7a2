//! gc records, and the removal of what they condemned: `format-spec/` sections 10 and 13.

use super::layout::{self, Folder, ObjectInfo};
use super::{RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::gc_v1::{self, GcRecord};
use crate::model::{ObjectId, Timestamp};

/// A gc record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemnation {
    /// When it was written, by the clock of who wrote it.
    pub time: Timestamp,
    /// The object.
    pub object: ObjectInfo,
    /// The packs that it names.
    pub packs: Vec<ObjectId>,
}

impl Condemnation {
    /// By this records are older and newer. The time is the sealed one: a name can be changed by who has the
    /// remote.
    #[must_use]
    pub fn order(&self) -> (Timestamp, ObjectId) {
        (self.time, self.object.id)
    }
}

impl Repository {
    /// Lists and reads all gc records, oldest first.
    pub fn condemnations(&self) -> Result<Vec<Condemnation>, RepoError> {
        let mut found = Vec::new();
        for object in self.list(Folder::Gc)? {
            match self.read_record(ObjectKind::Gc, &object.name, &object.id) {
                // Another prune removed it between the listing and the read: a newer one names what it named.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                Err(e) => return Err(e),
                Ok(record) => {
                    let GcRecord { time, packs } =
                        gc_v1::decode(&record).map_err(RepoError::object(&object.name))?;
                    if layout::record_name(Folder::Gc, time, &object.id) != object.name {
                        return Err(RepoError::NameMismatch { name: object.name });
                    }
                    found.push(Condemnation { time, object, packs });
                }
            }
        }
        found.sort_by_key(Condemnation::order);
        Ok(found)
    }

    /// Publishes a gc record.
    pub fn condemn(&self, time: Timestamp, packs: Vec<ObjectId>) -> Result<Condemnation, RepoError> {
        let gc = GcRecord { time, packs };
        let record = gc_v1::encode(&gc).map_err(RepoError::object("gc record"))?;
        let (id, name, bytes) =
            self.write_record(ObjectKind::Gc, &record, |id| layout::record_name(Folder::Gc, time, id))?;
        let object = ObjectInfo { name, time: Some(time.secs), id, size: bytes.len() as u64 };
        Ok(Condemnation { time, object, packs: gc.packs })
    }

    /// Removes an object of a folder whose objects a prune may remove; one that is gone already is no error.
    pub fn remove_pruned(&self, object: &ObjectInfo) -> Result<(), RepoError> {
        // The name came from a listing; nothing else is ever removed by it.
        match layout::parse_name(&object.name) {
            Some((Folder::Packs | Folder::Index | Folder::Gc | Folder::Accepted, _, id))
                if id == object.id => {}
            _ => return Err(RepoError::NameMismatch { name: object.name.clone() }),
        }
        self.remote().delete(&object.name)?;
        self.cache().forget_copy(&object.name);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::remote::{Memory, Remote};
    use crate::repo::pack_name;
    use crate::repo::tests::repository;

    #[test]
    fn nothing_is_removed_by_a_name_that_is_not_its_own() {
        let (dir, remote) = (crate::fs::scratch(), Arc::new(Memory::default()));
        let repository = repository(&remote, dir.path());
        let (one, other) = (ObjectId([1; 32]), ObjectId([2; 32]));
        let object = |name: &str, id| ObjectInfo { name: name.to_owned(), time: None, id, size: 1 };
        let name = pack_name(&one);
        let snapshot = layout::record_name(Folder::Snapshots, Timestamp::default(), &one);
        for name in [&name, &snapshot] {
            remote.put(name, b"x").unwrap();
        }
        for wrong in [object(&name, other), object(&snapshot, one), object("exuvia.json", one)] {
            let refused = repository.remove_pruned(&wrong);
            assert!(matches!(refused, Err(RepoError::NameMismatch { .. })), "{wrong:?}");
            assert!(remote.get(&wrong.name, 1 << 20).is_ok());
        }
        repository.remove_pruned(&object(&name, one)).unwrap();
        assert!(remote.get(&name, 1).is_err());
    }
}
