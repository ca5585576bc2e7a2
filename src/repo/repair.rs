//! What repairs need of the small objects.

use super::layout::ObjectInfo;
use super::merge::write_index;
use super::{RepoError, Repository};
use crate::format::index_v1::PackInfo;
use crate::model::ObjectId;

impl Repository {
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
}
