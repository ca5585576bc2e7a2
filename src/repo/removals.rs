//! Removal records: `format-spec/` section 10.2.

use super::layout::{self, Folder, ObjectInfo};
use super::{RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::removal_v1::{self, Removal};
use crate::model::{Removed, Timestamp};

/// Listings made again when a record that was listed is gone: who removed it wrote another one first.
const LOOKS: usize = 4;

/// All that removal records say.
#[derive(Debug, Default)]
pub struct Removals {
    /// Of those that can be read, together.
    pub removed: Removed,
    /// Names of those that can be read.
    pub records: Vec<String>,
    /// Why others cannot.
    pub unreadable: Vec<RepoError>,
}

impl Repository {
    /// Reads all removal records. It fails only where nothing can be known.
    pub fn removals(&self) -> Result<Removals, RepoError> {
        for _ in 1..LOOKS {
            match self.read_removals(false) {
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                other => return other,
            }
        }
        // A remote whose listings lag: what is listed and gone cannot be read, like what is damaged.
        self.read_removals(true)
    }

    fn read_removals(&self, is_last: bool) -> Result<Removals, RepoError> {
        let mut removals = Removals::default();
        for object in self.list(Folder::Removed)? {
            match self.read_removal(&object) {
                Ok(removal) => {
                    removals.removed.merge(&removal.removed);
                    removals.records.push(object.name);
                }
                Err(RepoError::Remote(e)) if !(is_last && e.is_not_found()) => return Err(e.into()),
                Err(e) => removals.unreadable.push(e),
            }
        }
        Ok(removals)
    }

    /// Reads a removal record.
    pub fn read_removal(&self, ObjectInfo { name, id, .. }: &ObjectInfo) -> Result<Removal, RepoError> {
        let record = self.read_record(ObjectKind::Removal, name, id)?;
        let removal = removal_v1::decode(&record).map_err(RepoError::object(name))?;
        if layout::record_name(Folder::Removed, removal.time, id) == *name {
            Ok(removal)
        } else {
            Err(RepoError::NameMismatch { name: name.clone() })
        }
    }

    /// Publishes a removal record; returns its name.
    pub fn publish_removal(&self, time: Timestamp, removed: &Removed) -> Result<String, RepoError> {
        let removal = Removal { time, removed: removed.clone() };
        let record = removal_v1::encode(&removal).map_err(RepoError::object("removal record"))?;
        let (_, name, _) = self.write_record(ObjectKind::Removal, &record, |id| {
            layout::record_name(Folder::Removed, time, id)
        })?;
        Ok(name)
    }

    /// Removes removal records all of which another one says; those that cannot be removed do no harm.
    pub fn drop_removals(&self, names: &[String]) {
        for name in names {
            if matches!(layout::parse_name(name), Some((Folder::Removed, _, _)))
                && self.remote().delete(name).is_ok()
            {
                self.cache().forget_copy(name);
            }
        }
    }
}
