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
        for ObjectInfo { name, id, .. } in self.list(Folder::Accepted)? {
            match self.read_record(ObjectKind::Acceptance, &name, &id) {
                // Removed between the listing and the read: then what it names is gone.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                Err(e) => return Err(e),
                Ok(record) => {
                    let acceptance = acceptance_v1::decode(&record).map_err(RepoError::object(&name))?;
                    if layout::record_name(Folder::Accepted, acceptance.time, &id) != name {
                        return Err(RepoError::NameMismatch { name });
                    }
                    accepted.extend(acceptance.snapshots);
                }
            }
        }
        Ok(accepted)
    }

    /// Publishes an acceptance.
    pub fn publish_acceptance(&self, time: Timestamp, snapshots: &[ObjectId]) -> Result<(), RepoError> {
        let acceptance = Acceptance { time, snapshots: snapshots.to_vec() };
        let record = acceptance_v1::encode(&acceptance).map_err(RepoError::object("acceptance"))?;
        self.write_record(ObjectKind::Acceptance, &record, |id| {
            layout::record_name(Folder::Accepted, time, id)
        })?;
        Ok(())
    }
}
