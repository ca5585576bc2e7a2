//! Writing gc records: `format-spec/` sections 10 and 13.

use std::collections::BTreeSet;

use super::layout::{self, Folder};
use super::{RepoError, Repository};
use crate::crypto::ObjectKind;
use crate::format::gc_v1::{self, GcRecord};
use crate::model::{ObjectId, Timestamp};

impl Repository {
    /// Publishes a gc record that condemns packs: from now on nothing new counts on them, and who reads
    /// prefers other places. Returns its name.
    pub fn condemn(&self, time: Timestamp, packs: &BTreeSet<ObjectId>) -> Result<String, RepoError> {
        let record = GcRecord { time, packs: packs.iter().copied().collect() };
        let record = gc_v1::encode(&record).map_err(RepoError::object("gc record"))?;
        let name = |id: &ObjectId| layout::record_name(Folder::Gc, time, id);
        Ok(self.write_record(ObjectKind::Gc, &record, name)?.1)
    }
}
