//! What the key at hand may do, and which generation it is of.

use std::fs;

use super::{Cache, CatalogEntry, RepoError, Repository};
use crate::crypto::{Keyring, ObjectKind};
use crate::format::FormatError;
use crate::format::sealed_v1::{self, HEADER};
use crate::model::WriterKeyId;

/// Beside the cached key, and not gone with it.
const GENERATION: &str = "generation";

impl Repository {
    /// The writer key that opened the repository, if it was one.
    #[must_use]
    pub fn writer_key(&self) -> Option<WriterKeyId> {
        self.sealer().keys.writer()
    }

    /// Refuses what a writer key cannot do, before the remote is asked for anything.
    pub fn require_owner(&self) -> Result<(), RepoError> {
        match self.writer_key() {
            Some(_) => Err(RepoError::WriterKey),
            None => Ok(()),
        }
    }

    /// The same for reading objects of a kind.
    pub(super) fn require_reading(&self, kind: ObjectKind) -> Result<(), RepoError> {
        match kind {
            ObjectKind::Index | ObjectKind::Gc => Ok(()),
            ObjectKind::Pack | ObjectKind::Snapshot | ObjectKind::Acceptance | ObjectKind::Removal => {
                self.require_owner()
            }
        }
    }

    /// The writer key that sealed a snapshot, if none of an owner did. That the record opens proves it.
    pub fn sealed_by(&self, entry: &CatalogEntry) -> Result<Option<WriterKeyId>, RepoError> {
        let header = match self.cache().copy(&entry.name, &entry.id) {
            Some(bytes) => bytes,
            None => self.remote().get_range(&entry.name, 0, HEADER as u64)?,
        };
        Ok(sealed_v1::sealed_by(&header))
    }

    /// What an object could not be opened for. After a rotation the key that this machine keeps is too old: the
    /// next run asks the repository for a newer one.
    pub(super) fn unopened(&self, name: &str, error: FormatError) -> RepoError {
        if matches!(error, FormatError::Generation(_)) {
            self.cache().forget_key();
        }
        RepoError::object(name)(error)
    }
}

impl Cache {
    /// The newest key generation that this machine has seen.
    pub(super) fn generation(&self) -> u8 {
        let text = fs::read_to_string(self.directory().join(GENERATION)).unwrap_or_default();
        text.trim_end().parse().unwrap_or(0)
    }

    /// Refuses keys that are older than what this machine has seen, and remembers newer ones. Who puts back a
    /// key object that a rotation removed must not make anybody seal under the key that was given up.
    pub(super) fn settle(&self, keys: Keyring) -> Result<Keyring, RepoError> {
        let (found, seen) = (keys.generation(), self.generation());
        if found < seen {
            self.forget_key();
            return Err(RepoError::OldKey { found, seen });
        }
        if found > seen {
            self.write("", GENERATION, format!("{found}\n").as_bytes())?;
        }
        Ok(keys)
    }
}
