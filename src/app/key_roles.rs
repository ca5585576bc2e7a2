//! Writer keys, and new master keys.

use super::run::{open, tell_cache_troubles};
use super::{AppError, Passphrase, ScryptParams, Session};
use crate::model::{KeyId, WriterKeyId};
pub use crate::repo::Rotated;
use crate::repo::{Repository, Rotation};

/// A writer key that was added.
#[derive(Debug, Clone, Copy)]
pub struct WriterKeyAdded {
    /// Its key object.
    pub key: KeyId,
    /// The id by which the snapshots that it makes name it.
    pub writer: WriterKeyId,
}

/// Adds a writer key for a new passphrase.
pub fn key_add_writer(
    session: &Session,
    new: &Passphrase,
    params: ScryptParams,
    label: &str,
) -> Result<WriterKeyAdded, AppError> {
    let (repository, _) = open(session)?;
    let now = session.clock.now();
    let (key, writer) = repository.add_writer_key(&session.passphrase, new, params, now, label)?;
    Ok(WriterKeyAdded { key, writer })
}

/// A rotation that can be made.
pub struct RotationPlan {
    repository: Repository,
    rotation: Rotation,
}

/// Looks what a new master key would mean.
pub fn key_rotation(session: &Session) -> Result<RotationPlan, AppError> {
    let (repository, _) = open(session)?;
    let rotation = repository.plan_rotation(&session.passphrase)?;
    Ok(RotationPlan { repository, rotation })
}

impl RotationPlan {
    /// The keys beside the one in use.
    #[must_use]
    pub fn others(&self) -> &[KeyId] {
        &self.rotation.others
    }

    /// Makes it.
    pub fn run(self, session: &Session) -> Result<Rotated, AppError> {
        let now = session.clock.now();
        let rotated = self.repository.rotate(&session.passphrase, self.rotation, now)?;
        tell_cache_troubles(session, &self.repository);
        Ok(rotated)
    }
}
