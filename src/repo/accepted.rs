//! Acceptances of marked snapshots: `format-spec/` section 10.1.

use std::collections::BTreeSet;

use super::layout::{self, Folder, ObjectInfo};
use super::{RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::acceptance_v1::{self, Acceptance};
use crate::model::{ObjectId, Timestamp};

impl Repository {
    /// The snapshots that somebody accepted, whether they exist or not.
    pub fn accepted(&self) -> Result<BTreeSet<ObjectId>, RepoError> {
        let mut accepted = BTreeSet::new();
        for object in self.list(Folder::Accepted)? {
            match self.read_acceptance(&object) {
                // Removed between the listing and the read: then what it names is gone.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                Err(e) => return Err(e),
                Ok(acceptance) => accepted.extend(acceptance.snapshots),
            }
        }
        Ok(accepted)
    }

    /// Reads an acceptance.
    pub fn read_acceptance(&self, object: &ObjectInfo) -> Result<Acceptance, RepoError> {
        let ObjectInfo { name, id, .. } = object;
        let record = self.read_record(ObjectKind::Acceptance, name, id)?;
        let acceptance = acceptance_v1::decode(&record).map_err(RepoError::object(name))?;
        if layout::record_name(Folder::Accepted, acceptance.time, id) == *name {
            Ok(acceptance)
        } else {
            Err(RepoError::NameMismatch { name: name.clone() })
        }
    }

    /// Publishes an acceptance.
    pub fn publish_acceptance(
        &self,
        time: Timestamp,
        snapshots: &[ObjectId],
    ) -> Result<ObjectInfo, RepoError> {
        let acceptance = Acceptance { time, snapshots: snapshots.to_vec() };
        let record = acceptance_v1::encode(&acceptance).map_err(RepoError::object("acceptance"))?;
        let (id, name, bytes) = self.write_record(ObjectKind::Acceptance, &record, |id| {
            layout::record_name(Folder::Accepted, time, id)
        })?;
        Ok(ObjectInfo { name, time: Some(time.secs), id, size: bytes.len() as u64 })
    }
}
