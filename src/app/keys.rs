//! Passphrases of a repository.

use super::run::{open, open_with_any_key, tell_cache_troubles};
use super::{AppError, Passphrase, ScryptParams, Session};
use crate::crypto;
use crate::model::{KeyId, Timestamp};
use crate::repo::{KeyChange, KeyInfo, KeyRemoval, Repository};

/// Opens the repository with the session's passphrase, which must be an owner's, and does nothing.
pub fn unlock(session: &Session) -> Result<(), AppError> {
    open(session).map(drop)
}

/// The same with any passphrase.
pub fn unlock_with_any_key(session: &Session) -> Result<(), AppError> {
    open_with_any_key(session).map(drop)
}

/// Fails unless another passphrase opens the repository, too.
pub fn key_opens(session: &Session, other: &Passphrase) -> Result<(), AppError> {
    let (repository, _) = open(session)?;
    Ok(repository.prove(other)?)
}

/// Lists keys.
pub fn key_list(session: &Session) -> Result<Vec<KeyInfo>, AppError> {
    let (repository, _) = open(session)?;
    Ok(repository.keys(&session.passphrase)?)
}

fn now(session: &Session) -> Timestamp {
    session.clock.now()
}

/// Adds a key for a new passphrase, which has opened it when this returns.
pub fn key_add(
    session: &Session,
    new: &Passphrase,
    params: ScryptParams,
    label: &str,
) -> Result<KeyId, AppError> {
    let (repository, _) = open(session)?;
    Ok(repository.add_key(&session.passphrase, new, params, now(session), label)?)
}

/// Puts a key for a new passphrase in the place of the one in use.
pub fn key_change(session: &Session, new: &Passphrase, params: ScryptParams) -> Result<KeyChange, AppError> {
    let (repository, _) = open(session)?;
    let change = repository.change_key(&session.passphrase, new, params, now(session))?;
    tell_cache_troubles(session, &repository);
    Ok(change)
}

/// A key that is named and can be removed.
pub struct KeyRemovalPlan {
    repository: Repository,
    removal: KeyRemoval,
}

impl KeyRemovalPlan {
    /// What would be removed.
    #[must_use]
    pub fn key(&self) -> &KeyInfo {
        &self.removal.key
    }

    /// Removes it.
    pub fn run(self, session: &Session) -> Result<(), AppError> {
        self.repository.remove_key(&self.removal)?;
        tell_cache_troubles(session, &self.repository);
        Ok(())
    }
}

/// Looks up a key by its id or a unique beginning of it, to be removed.
pub fn key_removal(session: &Session, id: &str) -> Result<KeyRemovalPlan, AppError> {
    let (repository, _) = open(session)?;
    let removal = repository.key_removal(&session.passphrase, id)?;
    Ok(KeyRemovalPlan { repository, removal })
}

/// A fresh recovery phrase whose key was added.
pub struct Recovery {
    /// Its key.
    pub key: KeyId,
    /// The phrase, which nobody else has.
    pub phrase: Passphrase,
    repository: Repository,
}

impl Recovery {
    /// Proves that a text, as it will be written down, opens the repository.
    pub fn prove(&self, text: &Passphrase) -> Result<(), AppError> {
        Ok(self.repository.prove(text)?)
    }

    /// Takes the key away again, when its phrase reached nobody.
    pub fn undo(self, session: &Session) -> Result<(), AppError> {
        let removal = self.repository.key_removal(&session.passphrase, &self.key.to_string())?;
        Ok(self.repository.remove_key(&removal)?)
    }
}

/// Makes a recovery phrase and a key for it.
pub fn key_recovery(session: &Session, label: &str) -> Result<Recovery, AppError> {
    let (repository, _) = open(session)?;
    let phrase = crypto::generate_phrase().map_err(AppError::Random)?;
    let params = ScryptParams::GENERATED;
    let key = repository.add_key(&session.passphrase, &phrase, params, now(session), label)?;
    Ok(Recovery { key, phrase, repository })
}
