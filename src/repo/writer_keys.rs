//! Writer keys: they add snapshots and read none.

use super::keys::{self, Found};
use super::{RepoError, Repository};
use crate::crypto::{self, Passphrase, ScryptParams};
use crate::format::key_v1::{Bundle, Secrets};
use crate::model::{KeyId, Timestamp, WriterKeyId};

impl Repository {
    /// Adds a writer key for the passphrase `new`, given a passphrase of an owner. Returns the id of the key object
    /// and that by which the writer's snapshots name it.
    pub fn add_writer_key(
        &self,
        passphrase: &Passphrase,
        new: &Passphrase,
        params: ScryptParams,
        created: Timestamp,
        label: &str,
    ) -> Result<(KeyId, WriterKeyId), RepoError> {
        let Found { bundle, .. } = keys::find(self.remote(), self.id(), passphrase)?;
        let id = crypto::random().map_err(|e| RepoError::object("key object")(e.into()))?;
        let id = WriterKeyId(id);
        let secrets = bundle.keyring().for_writer(id).ok_or(RepoError::WriterKey)?;
        let secrets = Secrets::Writer(Box::new(secrets));
        let bundle = Bundle { secrets, created: created.secs, label: label.to_string() };
        let (key, _) = keys::store(self.remote(), self.id(), new, params, &bundle)?;
        Ok((key, id))
    }
}
