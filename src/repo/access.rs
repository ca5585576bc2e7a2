//! What the key at hand may do, and which generation it is of.

use std::fs;
use std::sync::PoisonError;

use super::{Cache, CatalogEntry, RepoError, Repository, keys};
use crate::crypto::{Keyring, ObjectKind};
use crate::format::key_description_v1::{self, KeyKind};
use crate::format::sealed_v1::{self, HEADER};
use crate::format::{FormatError, key_v1, limits};
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
            ObjectKind::Pack
            | ObjectKind::Snapshot
            | ObjectKind::Acceptance
            | ObjectKind::Removal
            | ObjectKind::Archive
            | ObjectKind::ArchiveMark => self.require_owner(),
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

    /// Reads the record in the mark of a full archive, of this name; also by which writer key it was made, if by none
    /// of an owner.
    pub fn archive_mark(&self, name: &str) -> Result<(Vec<u8>, Option<WriterKeyId>), RepoError> {
        self.require_reading(ObjectKind::ArchiveMark)?;
        let bytes = self.remote().get(name, limits::RECORD_OBJECT as u64)?;
        let record = self.sealer().open_record(ObjectKind::ArchiveMark, &bytes);
        Ok((record.map_err(|e| self.unopened(name, e))?, sealed_v1::sealed_by(&bytes)))
    }

    /// What an object could not be opened for. After a rotation the key that this machine keeps is too old: the
    /// next run asks the repository for a newer one. The generation stands in the open, so that anybody may have
    /// written it there: when nobody made such a key, the object is damaged like another.
    pub(super) fn unopened(&self, name: &str, error: FormatError) -> RepoError {
        let FormatError::Generation(generation) = error else { return RepoError::object(name)(error) };
        if matches!(self.has_generation(generation), Ok(false)) {
            return RepoError::object(name)(FormatError::Damaged("no key of its generation was ever made"));
        }
        self.cache().forget_key();
        RepoError::object(name)(error)
    }

    /// Whether there is a key of this generation, as far as the keys at hand can tell.
    fn has_generation(&self, generation: u8) -> Result<bool, RepoError> {
        let Some(key) = self.sealer().keys.description_key() else { return Ok(true) };
        if generation <= self.cache().generation() {
            return Ok(true);
        }
        let objects = keys::objects(self.remote(), keys::names(self.remote())?);
        if let Some((_, error)) = objects.bad.into_iter().find(|(_, error)| error.is_service_failure()) {
            return Err(error);
        }
        let is_made = |bytes: &[u8]| {
            let says = key_description_v1::read_with(bytes, self.id(), key).ok().flatten();
            says.is_some_and(|says| says.kind != KeyKind::Claim)
        };
        let newest = objects.found.iter().filter(|(_, bytes)| is_made(bytes));
        Ok(newest.filter_map(|(_, bytes)| key_v1::generation(bytes)).max() >= Some(generation))
    }
}

impl Repository {
    /// What could not be written to the cache and should have been, since this was asked for the last time.
    #[must_use]
    pub fn take_cache_troubles(&self) -> Vec<RepoError> {
        std::mem::take(&mut *self.cache().troubles.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cache {
    /// Keeps an error of a local file for whoever tells the user: it is no reason to leave undone what is asked for.
    pub(super) fn attempt(&self, done: Result<(), RepoError>) {
        if let Err(error) = done {
            self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(error);
        }
    }

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
            // Where nothing can be written, nothing was seen before either, and still everything can be read.
            self.attempt(self.write("", GENERATION, format!("{found}\n").as_bytes()));
        }
        Ok(keys)
    }
}
