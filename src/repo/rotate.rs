//! A new master key for what is written from now on: `format-spec/` section 13, rule 7.

use super::keys::{self, Found};
use super::layout::{self, Folder};
use super::{RepoError, Repository};
use crate::crypto::{self, MasterKey, Masters, ObjectKind, Passphrase, ScryptParams};
use crate::format::gc_v1::{self, GcRecord};
use crate::format::key_v1::{self, Bundle, Secrets};
use crate::format::limits;
use crate::model::{KeyId, ObjectId, Timestamp};

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
}

impl Repository {
    /// Looks what a rotation would do, given a passphrase of an owner.
    pub fn plan_rotation(&self, passphrase: &Passphrase) -> Result<Rotation, RepoError> {
        let Found { key: current, bundle, objects, .. } = keys::find(self.remote(), self.id(), passphrase)?;
        let Secrets::Owner(masters) = bundle.secrets else { return Err(RepoError::WriterKey) };
        let objects = objects.found;
        let newest = objects.iter().filter_map(|(_, bytes)| key_v1::generation(bytes)).max().unwrap_or(0);
        if newest > masters.generation() {
            return Err(RepoError::OldKey { found: masters.generation(), seen: newest });
        }
        let own = objects.iter().find(|(id, _)| *id == current);
        let params = own.and_then(|(_, bytes)| key_v1::params(bytes)).unwrap_or(ScryptParams::PASSPHRASE);
        let others = objects.iter().map(|(id, _)| *id).filter(|id| *id != current).collect();
        Ok(Rotation { current, others, masters, params, label: bundle.label })
    }

    /// Makes a new master key, and a key object of it for the passphrase in use. All others are removed: what they
    /// open is given up.
    pub fn rotate(
        &self,
        passphrase: &Passphrase,
        plan: Rotation,
        now: Timestamp,
    ) -> Result<Rotated, RepoError> {
        let failed = |e: crate::crypto::CryptoError| RepoError::object("key object")(e.into());
        let masters = plan.masters.with(MasterKey::generate().map_err(failed)?);
        let masters = masters.ok_or_else(|| RepoError::Key("the keys were rotated 255 times".into()))?;
        let bundle = Bundle { secrets: Secrets::Owner(masters), created: now.secs, label: plan.label };
        let owner = keys::masters(&bundle)?;
        let (key, object) = keys::store(self.remote(), self.id(), passphrase, plan.params, &bundle, owner)?;
        self.prove_alone(&key, &object, bundle.generation())?;
        self.leave_trace(&bundle, now)?;
        let mut rotated =
            Rotated { key, generation: bundle.generation(), removed: Vec::new(), left: Vec::new() };
        for old in std::iter::once(plan.current).chain(plan.others) {
            match self.delete_key(&old) {
                Ok(()) => rotated.removed.push(old),
                Err(e) => rotated.left.push((old, e)),
            }
        }
        keys::keep(self.cache(), self.id(), passphrase, &bundle, object);
        self.cache().settle(bundle.keyring())?;
        Ok(rotated)
    }

    /// Reads the new key object back, and looks whether somebody else made one of this generation at the same time:
    /// two master keys of one generation would each seal what the other cannot open. Both store first and look
    /// then, so that at least one of them gives way.
    fn prove_alone(&self, key: &KeyId, object: &[u8], generation: u8) -> Result<(), RepoError> {
        let name = layout::plain_name(Folder::Keys, &ObjectId(key.0));
        let withdraw = |error: RepoError| {
            // What stays, where nothing can be removed, is named.
            drop(self.remote().delete(&name));
            error
        };
        if self.remote().get(&name, limits::KEY_OBJECT as u64)? != object {
            return Err(withdraw(RepoError::ReadBack { name: name.clone() }));
        }
        for (other, id) in keys::names(self.remote())?.into_iter().filter(|(_, id)| id != key) {
            let bytes = match self.remote().get(&other, limits::KEY_OBJECT as u64) {
                Err(e) if e.is_not_found() => continue,
                bytes => bytes?,
            };
            // What an interrupted upload left is nobody's key.
            let whole = crypto::sha256(&bytes) == id.0;
            if whole && key_v1::generation(&bytes).is_some_and(|theirs| theirs >= generation) {
                return Err(withdraw(RepoError::Key(format!(
                    "key {} was made by another rotation at the same time; nothing was changed, try again",
                    id.short()
                ))));
            }
        }
        Ok(())
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
