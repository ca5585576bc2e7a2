//! A new master key for what is written from now on: `format-spec/` section 13, rule 7.

mod claim;
#[cfg(test)]
mod tests;

use self::claim::Prepared;
use super::keys::{self, Found};
use super::layout::{self, Folder};
use super::{RepoError, Repository};
use crate::crypto::{MasterKey, Masters, ObjectKind, Passphrase, ScryptParams};
use crate::format::gc_v1::{self, GcRecord};
use crate::format::key_description_v1::KeyKind;
use crate::format::key_v1::{self, Bundle, Secrets};
use crate::model::{KeyId, Timestamp};

/// A rotation that can be made.
pub struct Rotation {
    /// The key of the passphrase in use, which is replaced.
    pub current: KeyId,
    /// The other keys, which are removed: they open nothing that is written afterwards.
    pub others: Vec<KeyId>,
    masters: Masters,
    params: ScryptParams,
    label: String,
}

/// What a rotation did.
#[derive(Debug)]
pub struct Rotated {
    /// The new key of the passphrase in use.
    pub key: KeyId,
    /// The new generation.
    pub generation: u8,
    /// Keys that were removed.
    pub removed: Vec<KeyId>,
    /// Keys that could not be removed, and why.
    pub left: Vec<(KeyId, RepoError)>,
    /// The rotation's claim, if it could not be removed. It opens nothing, and means nothing any more.
    pub claim_left: Option<(KeyId, RepoError)>,
}

impl Repository {
    /// Looks what a rotation would do, given a passphrase of an owner.
    pub fn plan_rotation(&self, passphrase: &Passphrase) -> Result<Rotation, RepoError> {
        let found = keys::find(self.remote(), self.id(), passphrase)?;
        found.require_newest(self.id())?;
        let begun = self.cache().rotation().map(|begun| begun.claim_id());
        let mut own_claim = None;
        let generation = found.bundle.generation();
        let fingerprint = keys::masters(&found.bundle)?.fingerprint();
        for (key, says, theirs) in found.described(self.id())? {
            // Those of generations that are there already mean nothing any more.
            if says.kind == KeyKind::Claim && theirs > generation {
                own_claim = begun.filter(|begun| *begun == key);
                own_claim.ok_or(RepoError::OtherRotation { key })?;
            }
            // What only that one opens would be lost with it.
            if theirs == generation && says.fingerprint.is_some() && says.fingerprint != fingerprint {
                return Err(RepoError::OtherMaster { key, generation });
            }
        }
        let Found { key: current, bundle, objects, .. } = found;
        let Secrets::Owner(masters) = bundle.secrets else { return Err(RepoError::WriterKey) };
        let objects = objects.found;
        let own = objects.iter().find(|(id, _)| *id == current);
        let params = own.and_then(|(_, bytes)| key_v1::params(bytes)).unwrap_or(ScryptParams::PASSPHRASE);
        let others = objects.iter().map(|(id, _)| *id);
        let others = others.filter(|id| *id != current && Some(*id) != own_claim).collect();
        Ok(Rotation { current, others, masters, params, label: bundle.label })
    }

    /// Makes a new master key, and a key object of it for the passphrase in use. All others are removed: what they
    /// open is given up. One that is cut off is finished by the next one on the same machine.
    pub fn rotate(
        &self,
        passphrase: &Passphrase,
        plan: Rotation,
        now: Timestamp,
    ) -> Result<Rotated, RepoError> {
        let Prepared { claim, key, bundle } = self.prepare_rotation(passphrase, &plan, now)?;
        self.claim_generation(&claim, key.0, &plan)?;
        // From here on machines with this passphrase may seal under it: it is never taken back.
        let cut = |source| RepoError::RotationCut { key: key.0, source: Box::new(source) };
        keys::put_once(self.remote(), &key.0, &key.1).map_err(cut)?;
        self.leave_trace(&bundle, now).map_err(cut)?;
        let mut rotated = Rotated {
            key: key.0,
            generation: bundle.generation(),
            removed: Vec::new(),
            left: Vec::new(),
            claim_left: None,
        };
        for old in std::iter::once(plan.current).chain(plan.others) {
            match self.delete_key(&old) {
                Ok(()) => rotated.removed.push(old),
                Err(e) => rotated.left.push((old, e)),
            }
        }
        rotated.claim_left = self.withdraw(&claim.0).err().map(|e| (claim.0, e));
        keys::keep(self.cache(), self.id(), passphrase, &bundle, key.1);
        self.cache().forget_rotation();
        // What is done is done, whatever another process has seen meanwhile.
        self.cache().attempt(self.cache().settle(bundle.keyring()).map(drop));
        Ok(rotated)
    }

    /// The new key, before anybody sees it: a fresh one, or that of a rotation which was cut off here.
    fn prepare_rotation(
        &self,
        passphrase: &Passphrase,
        plan: &Rotation,
        now: Timestamp,
    ) -> Result<Prepared, RepoError> {
        if let Some(begun) = self.begun_rotation(passphrase, plan) {
            return Ok(begun);
        }
        let failed = |e: crate::crypto::CryptoError| RepoError::object("key object")(e.into());
        let masters = plan.masters.clone().with(MasterKey::generate().map_err(failed)?);
        let masters = masters.ok_or_else(|| RepoError::Key("the keys were rotated 255 times".into()))?;
        let claim = keys::claim(self.id(), masters.generation(), &masters, now)?;
        let bundle =
            Bundle { secrets: Secrets::Owner(masters), created: now.secs, label: plan.label.clone() };
        let key = keys::seal(self.id(), passphrase, plan.params, &bundle, keys::masters(&bundle)?)?;
        self.cache().note_rotation(&claim.1, &key.1);
        Ok(Prepared { claim, key, bundle })
    }

    /// Stores a gc record that condemns nothing: the first object of the new generation. Every client reads the
    /// names of gc records before it publishes, so that one with older keys meets it. Its time is later than that of all
    /// others, since the newest one is never removed.
    fn leave_trace(&self, bundle: &Bundle, now: Timestamp) -> Result<(), RepoError> {
        let newest = self.list(Folder::Gc)?.into_iter().filter_map(|record| record.time).max();
        let after = newest.map_or(now.secs, |newest| now.secs.max(newest.saturating_add(1)));
        let time = Timestamp { secs: after, ..now };
        let record = gc_v1::encode(&GcRecord { time, packs: Vec::new() });
        let record = record.map_err(RepoError::object("gc record"))?;
        let rotated = self.rekeyed(bundle.keyring());
        rotated.write_record(ObjectKind::Gc, &record, |id| layout::record_name(Folder::Gc, time, id))?;
        Ok(())
    }
}
