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
        let found = keys::find(self.remote(), self.id(), passphrase)?;
        found.require_newest(self.id())?;
        if let Some((key, ..)) = self.key_of(&found, new) {
            return Err(RepoError::KeyKnown { key });
        }
        let Found { bundle: owner, .. } = found;
        let id = crypto::random().map_err(|e| RepoError::object("key object")(e.into()))?;
        let id = WriterKeyId(id);
        let secrets = owner.keyring().for_writer(id).ok_or(RepoError::WriterKey)?;
        let secrets = Secrets::Writer(Box::new(secrets));
        let bundle = Bundle { secrets, created: created.secs, label: label.to_string() };
        let (key, bytes) =
            keys::store(self.remote(), self.id(), new, params, &bundle, keys::masters(&owner)?)?;
        match keys::unlock(&bytes, self.id(), &keys::spellings(new)) {
            Ok((opened, _)) if opened.keyring().writer() == Some(id) => Ok((key, id)),
            _ => Err(RepoError::KeyReadBack { name: keys::name_of(&key) }),
        }
    }
}
