//! The last drill of a repository, in its local cache.
//!
//! ```text
//! <cache>/<repository id>/drill   the result, and the BLAKE3 hash of it
//! ```

use std::fs::File;
use std::io::Read;

use super::{Cache, RepoError};
use crate::format::drill_v1;
use crate::model::DrillResult;

const NAME: &str = "drill";
/// Far more than a result with all its problems; whatever is longer is none.
const MAX_BYTES: u64 = 1 << 20;

impl Cache {
    /// The result of the last drill on this machine, if there was one.
    #[must_use]
    pub fn last_drill(&self) -> Option<DrillResult> {
        let mut bytes = Vec::new();
        File::open(self.directory().join(NAME)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let (body, hash) = bytes.split_last_chunk::<32>()?;
        (blake3::hash(body).as_bytes() == hash).then(|| drill_v1::decode(body).ok())?
    }

    /// Remembers the result of a drill.
    pub fn note_drill(&self, result: &DrillResult) -> Result<(), RepoError> {
        let mut bytes = drill_v1::encode(result).map_err(RepoError::object("result of a drill"))?;
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        self.write("", NAME, &bytes)
    }
}
