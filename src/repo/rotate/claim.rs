//! What makes a rotation the only one of its generation: a claim, which nobody opens, is stored before the new key,
//! which every machine with its passphrase opens and seals under at once.
//!
//! Of two rotations each stores its claim first and looks then, so that at least one sees the other and gives way, while
//! nothing can have been sealed under its key. Who is killed in between leaves a claim; the next rotation on the same
//! machine goes on with it, and with the very key that was made then, which may have arrived or may be on its way.

use super::Rotation;
use crate::crypto::{self, Passphrase};
use crate::format::key_description_v1::KeyKind;
use crate::format::key_v1::Bundle;
use crate::format::limits;
use crate::model::KeyId;
use crate::repo::{Cache, RepoError, Repository, keys};

/// Beside the cached key: the objects of a rotation that has begun.
const ROTATION: &str = "rotation";

/// What a rotation stores, and what is in it.
pub(super) struct Prepared {
    pub(super) claim: (KeyId, Vec<u8>),
    pub(super) key: (KeyId, Vec<u8>),
    pub(super) bundle: Bundle,
}

/// The objects of a rotation that has begun on this machine.
pub(in crate::repo) struct Begun {
    claim: Vec<u8>,
    key: Vec<u8>,
}

impl Begun {
    pub(super) fn claim_id(&self) -> KeyId {
        KeyId(crypto::sha256(&self.claim))
    }
}

impl Repository {
    /// A rotation that has begun here and makes what `plan` asks for.
    pub(super) fn begun_rotation(&self, passphrase: &Passphrase, plan: &Rotation) -> Option<Prepared> {
        let begun = self.cache().rotation()?;
        let (bundle, _) = keys::unlock(&begun.key, self.id(), &keys::spellings(passphrase)).ok()?;
        let masters = keys::masters(&bundle).ok().filter(|masters| masters.follow(&plan.masters))?;
        let (says, generation) = keys::sealed_description(&begun.claim, self.id(), masters)?;
        if says.kind != KeyKind::Claim || generation != masters.generation() {
            return None;
        }
        let claim = (begun.claim_id(), begun.claim);
        Some(Prepared { claim, key: (KeyId(crypto::sha256(&begun.key)), begun.key), bundle })
    }

    /// Stores the claim, and looks whether the way is free. `key`: what is stored under it next, which may be there.
    pub(super) fn claim_generation(
        &self,
        (claim, object): &(KeyId, Vec<u8>),
        key: KeyId,
        plan: &Rotation,
    ) -> Result<(), RepoError> {
        let claimed = keys::put_once(self.remote(), claim, object);
        claimed.and_then(|()| self.prove_alone(claim, key, plan)).map_err(|source| {
            let left = self.withdraw(claim).err().map(Box::new);
            RepoError::RotationStopped { claim: *claim, left, source: Box::new(source) }
        })
    }

    /// Removes a claim that has served, or may not.
    pub(super) fn withdraw(&self, claim: &KeyId) -> Result<(), RepoError> {
        match self.remote().delete(&keys::name_of(claim)) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Looks whether somebody else makes or made a key of this generation, and whether the keys are still those of the
    /// plan: what was not in it, nobody agreed to remove.
    fn prove_alone(&self, claim: &KeyId, key: KeyId, plan: &Rotation) -> Result<(), RepoError> {
        let found = plan.masters.generation();
        let names = keys::names(self.remote())?;
        let is_there = |wanted: &KeyId| names.iter().any(|(_, id)| id == wanted);
        if !is_there(claim) || !is_there(&plan.current) {
            return Err(RepoError::KeysChange);
        }
        let mut other = None;
        for (name, id) in names.iter().filter(|(_, id)| id != claim && *id != key) {
            let bytes = match self.remote().get(name, limits::KEY_OBJECT as u64) {
                // A claim may have made place for its key.
                Err(e) if e.is_not_found() => return Err(RepoError::KeysChange),
                bytes => bytes?,
            };
            // What an interrupted upload left is nobody's key.
            if crypto::sha256(&bytes) != id.0 {
                continue;
            }
            match keys::sealed_description(&bytes, self.id(), &plan.masters) {
                Some((says, seen)) if seen > found => {
                    match says.kind {
                        KeyKind::Claim => other = Some(*id),
                        KeyKind::Owner | KeyKind::Writer => {
                            return Err(RepoError::NewerKey { key: *id, found, seen });
                        }
                    }
                    continue;
                }
                _ => {}
            }
            if *id != plan.current && !plan.others.contains(id) {
                return Err(RepoError::KeysChange);
            }
        }
        other.map_or(Ok(()), |key| Err(RepoError::OtherRotation { key }))
    }
}

impl Cache {
    /// What was begun here. What does not look like it is nothing.
    pub(in crate::repo) fn rotation(&self) -> Option<Begun> {
        let bytes = std::fs::read(self.directory().join(ROTATION)).ok()?;
        let (len, rest) = bytes.split_first_chunk()?;
        let (claim, key) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        Some(Begun { claim: claim.to_vec(), key: key.to_vec() })
    }

    /// Notes what is about to be stored, if keys are kept here. Where it cannot be noted, and the rotation is cut off,
    /// the claim is in the way of the next one until somebody removes it.
    pub(in crate::repo) fn note_rotation(&self, claim: &[u8], key: &[u8]) {
        let len = u32::try_from(claim.len()).unwrap_or_default();
        if self.keeps_key() {
            drop(self.write("", ROTATION, &[&len.to_le_bytes(), claim, key].concat()));
        }
    }

    /// Forgets a rotation that is done.
    pub(in crate::repo) fn forget_rotation(&self) {
        drop(std::fs::remove_file(self.directory().join(ROTATION)));
    }
}
