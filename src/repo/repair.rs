//! What repairs need of the small objects.

use super::index::read_object;
use super::layout::{self, Folder, ObjectInfo};
use super::merge::write_index;
use super::{CatalogEntry, RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::acceptance_v1::{self, Acceptance};
use crate::format::index_v1::{self, PackInfo};
use crate::model::ObjectId;

impl Repository {
    /// Reads an index object.
    pub fn index_object(&self, object: &ObjectInfo) -> Result<index_v1::Index, RepoError> {
        read_object(self, object)
    }

    /// Reads an acceptance.
    pub fn acceptance(&self, object: &ObjectInfo) -> Result<Acceptance, RepoError> {
        let record = self.read_record(ObjectKind::Acceptance, &object.name, &object.id)?;
        acceptance_v1::decode(&record).map_err(RepoError::object(&object.name))
    }

    /// Writes index objects for packs that are there; the last one says what they replace.
    pub fn write_index_objects(
        &self,
        packs: &[PackInfo],
        replaces: &[ObjectId],
    ) -> Result<Vec<ObjectInfo>, RepoError> {
        write_index(self, packs, replaces)
    }

    /// Removes an index object that another one replaces. False where that is not allowed; it does no harm.
    pub fn remove_index_object(&self, object: &ObjectInfo) -> bool {
        let removed = self.remote().delete(&object.name).is_ok();
        if removed {
            self.cache().forget_copy(&object.name);
        }
        removed
    }

    /// Removes the record of a snapshot that a repaired one stands for.
    pub fn remove_original(&self, entry: &CatalogEntry) -> Result<(), RepoError> {
        // The name came from a listing; nothing but such a record is ever removed by it.
        match layout::parse_name(&entry.name) {
            Some((Folder::Snapshots | Folder::Safety, _, id)) if id == entry.id => {}
            _ => return Err(RepoError::NameMismatch { name: entry.name.clone() }),
        }
        self.remote().delete(&entry.name)?;
        self.cache().forget_copy(&entry.name);
        Ok(())
    }
}
