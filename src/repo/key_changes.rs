//! Changes of the key objects: a passphrase more, another one, one less. None of the data is rewritten, and at no
//! moment is there no key (`format-spec/` section 13).

use super::keys::{self, Found};
use super::{RepoError, Repository};
use crate::crypto::{Masters, Passphrase, ScryptParams};
use crate::format::FormatError;
use crate::format::key_description_v1::{self, Description, KeyKind};
use crate::format::key_v1::{self, Bundle};
use crate::model::{KeyId, Timestamp};

/// A key object, for people who choose one.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// The passphrase in use opens it.
    pub current: bool,
    /// What it is, if it says so.
    pub description: Option<Description>,
    /// Stored bytes; 0 when it cannot be read.
    pub size: u64,
    /// What trying a passphrase on it costs, if it is well-formed.
    pub cost: Option<ScryptParams>,
    /// The newest key generation that it has.
    pub generation: Option<u8>,
    /// Why it cannot be used, or nothing is known of it.
    pub problem: Option<String>,
}

/// A key object that can be removed.
#[derive(Debug)]
pub struct KeyRemoval {
    /// The key.
    pub key: KeyInfo,
    /// Its bytes, for when it must be put back; `None` when it cannot be read.
    bytes: Option<Vec<u8>>,
    /// Keys of which one must be there when it is gone.
    others: Vec<KeyId>,
}

/// What became of a passphrase that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key of the new passphrase.
    pub key: KeyId,
    /// The keys of the old one, which are gone.
    pub removed: Vec<KeyId>,
    /// A change that was interrupted had stored the new key.
    pub resumed: bool,
}

/// The key objects as the holder of a passphrase sees them.
struct Seen {
    found: Found,
    keys: Vec<KeyInfo>,
}

impl Repository {
    /// Lists the key objects.
    pub fn keys(&self, passphrase: &Passphrase) -> Result<Vec<KeyInfo>, RepoError> {
        Ok(self.see_keys(passphrase)?.keys)
    }

    /// Opens the repository as a machine does that has nothing but a passphrase.
    pub fn prove(&self, passphrase: &Passphrase) -> Result<(), RepoError> {
        keys::find(self.remote(), self.id(), passphrase).map(drop)
    }

    fn see_keys(&self, passphrase: &Passphrase) -> Result<Seen, RepoError> {
        let found = keys::find(self.remote(), self.id(), passphrase)?;
        let spelling = std::slice::from_ref(&found.passphrase);
        let mut keys = Vec::new();
        for (id, bytes) in &found.objects.found {
            let opened = match *id == found.key {
                true => Ok(Some(keys::describe(&found.bundle, None))),
                false => match keys::unlock(bytes, self.id(), spelling) {
                    Ok((bundle, _)) => Ok(Some(keys::describe(&bundle, None))),
                    Err(FormatError::WrongKey) => Ok(None),
                    Err(e) => Err(e),
                },
            };
            // A writer key can read its own only.
            let master = keys::masters(&found.bundle).ok().and_then(Masters::first);
            let described =
                master.map_or(Ok(None), |master| key_description_v1::read(bytes, self.id(), master));
            let problem = opened.as_ref().err().or(described.as_ref().err()).map(|error| match error {
                FormatError::Authentication => "it is damaged, or of another repository".to_owned(),
                error => error.to_string(),
            });
            let opened = opened.ok().flatten();
            keys.push(KeyInfo {
                id: *id,
                current: opened.is_some(),
                description: described.ok().flatten().or(opened),
                size: bytes.len() as u64,
                cost: key_v1::params(bytes),
                generation: key_v1::generation(bytes),
                problem,
            });
        }
        keys.extend(found.objects.bad.iter().map(|(id, e)| KeyInfo {
            id: *id,
            current: false,
            description: None,
            size: 0,
            cost: None,
            generation: None,
            problem: Some(e.to_string()),
        }));
        keys.sort_by_key(|key| (key.description.as_ref().map_or(i64::MAX, |d| d.created), key.id));
        Ok(Seen { found, keys })
    }

    /// Adds a key object for `new`, given a passphrase that opens the repository. Before this returns, the
    /// new one has opened what the remote gave back.
    pub fn add_key(
        &self,
        passphrase: &Passphrase,
        new: &Passphrase,
        params: ScryptParams,
        created: Timestamp,
        label: &str,
    ) -> Result<KeyId, RepoError> {
        let found = keys::find(self.remote(), self.id(), passphrase)?;
        found.require_newest(self.id())?;
        if let Some((key, ..)) = self.key_of(&found, new) {
            return Err(RepoError::KeyKnown { key });
        }
        let bundle = Bundle { created: created.secs, label: label.to_string(), ..found.bundle };
        Ok(self.store_key(new, params, &bundle)?.0)
    }

    /// The key object that another passphrase opens, if any does, and what is in it.
    pub(super) fn key_of(&self, found: &Found, passphrase: &Passphrase) -> Option<(KeyId, Vec<u8>, Bundle)> {
        let spellings = keys::spellings(passphrase);
        // What is damaged, or of another repository, opens nothing of this one.
        let opened = |bytes: &[u8]| keys::unlock(bytes, self.id(), &spellings).ok().map(|(bundle, _)| bundle);
        found.objects.found.iter().find_map(|(id, bytes)| Some((*id, bytes.clone(), opened(bytes)?)))
    }

    /// Stores a key object, and opens what the remote gives back.
    fn store_key(
        &self,
        passphrase: &Passphrase,
        params: ScryptParams,
        bundle: &Bundle,
    ) -> Result<(KeyId, Vec<u8>), RepoError> {
        let owner = keys::masters(bundle)?;
        let (id, bytes) = keys::store(self.remote(), self.id(), passphrase, params, bundle, owner)?;
        match keys::unlock(&bytes, self.id(), &keys::spellings(passphrase)) {
            Ok((opened, _)) if are_same(&opened, bundle) => Ok((id, bytes)),
            _ => Err(RepoError::KeyReadBack { name: keys::name_of(&id) }),
        }
    }

    /// Looks up a key object by its id or a unique beginning of it, to be removed. Refuses the last one that is
    /// known to open the repository, and one of a newer generation than the passphrase opens: nothing here could tell
    /// whether another one opens what that does.
    pub fn key_removal(&self, passphrase: &Passphrase, id: &str) -> Result<KeyRemoval, RepoError> {
        let Seen { found, keys } = self.see_keys(passphrase)?;
        let matches = |key: &&KeyInfo| !id.is_empty() && key.id.to_string().starts_with(id);
        let matching: Vec<&KeyInfo> = keys.iter().filter(matches).collect();
        let key = match matching.as_slice() {
            [one] => (*one).clone(),
            [] => return Err(RepoError::Key(format!("no key begins with {id:?}"))),
            _ => return Err(RepoError::Key(format!("several keys begin with {id:?}"))),
        };
        keys::masters(&found.bundle)?;
        let own = found.bundle.generation();
        // A claim opens nothing, and whose it is may never come back.
        let is_key = key.description.as_ref().is_some_and(|says| says.kind != KeyKind::Claim);
        if let Some(seen) = key.generation.filter(|theirs| *theirs > own && is_key) {
            return Err(RepoError::NewerKey { key: key.id, found: own, seen });
        }
        let master = keys::masters(&found.bundle)?.fingerprint();
        let is_same = |key: &KeyInfo| {
            let theirs = key.description.as_ref().and_then(|says| says.fingerprint);
            theirs.is_none() || theirs == master
        };
        if key.generation == Some(own) && !is_same(&key) {
            return Err(RepoError::OtherMaster { key: key.id, generation: own });
        }
        let opens = |other: &KeyInfo| is_owner(other) && other.generation == Some(own) && is_same(other);
        // The one in use is proved to open the repository; with it gone, the word of the others must do.
        let others: Vec<KeyId> = keys
            .iter()
            .filter(|other| other.id != key.id && if key.current { opens(other) } else { other.current })
            .map(|other| other.id)
            .collect();
        if others.is_empty() {
            return Err(RepoError::LastKey { key: key.id });
        }
        let bytes = found.objects.found.into_iter().find(|(id, _)| *id == key.id).map(|(_, bytes)| bytes);
        Ok(KeyRemoval { key, bytes, others })
    }

    /// Removes a key object. When the one that this relied on is found gone, it is put back.
    pub fn remove_key(&self, removal: &KeyRemoval) -> Result<(), RepoError> {
        let gone = |put_back| RepoError::KeysGone { key: removal.key.id, put_back };
        if !self.is_any_there(&removal.others)? {
            return Err(gone(false));
        }
        self.delete_key(&removal.key.id)?;
        if self.is_any_there(&removal.others)? {
            return Ok(());
        }
        let Some(bytes) = &removal.bytes else { return Err(gone(false)) };
        keys::put(self.remote(), &removal.key.id, bytes)?;
        Err(gone(true))
    }

    fn is_any_there(&self, keys: &[KeyId]) -> Result<bool, RepoError> {
        Ok(keys::names(self.remote())?.iter().any(|(_, id)| keys.contains(id)))
    }

    /// Puts a key object for `new` in the place of those that `passphrase` opens. They go when the new one has
    /// opened what the remote gave back; a change that was interrupted before that is gone on with.
    pub fn change_key(
        &self,
        passphrase: &Passphrase,
        new: &Passphrase,
        params: ScryptParams,
        created: Timestamp,
    ) -> Result<KeyChange, RepoError> {
        let Seen { found, keys } = self.see_keys(passphrase)?;
        found.require_newest(self.id())?;
        let old: Vec<KeyId> = keys.iter().filter(|key| key.current).map(|key| key.id).collect();
        let known = match self.key_of(&found, new) {
            Some((key, ..)) if old.contains(&key) => None,
            Some((key, bytes, bundle)) if are_same(&bundle, &found.bundle) => Some((key, bytes)),
            // A writer's, or one from before a rotation.
            Some((key, ..)) => return Err(RepoError::KeyKnown { key }),
            None => None,
        };
        let resumed = known.is_some();
        let own = keys.iter().find(|key| key.id == found.key).and_then(|key| key.description.clone());
        let label = own.map_or_else(|| found.bundle.label.clone(), |own| own.label);
        let bundle = Bundle { created: created.secs, label, ..found.bundle };
        let (key, bytes) = match known {
            Some(known) => known,
            None => self.store_key(new, params, &bundle)?,
        };
        for id in &old {
            self.delete_key(id).map_err(|source| RepoError::OldKeyStays {
                key,
                old: *id,
                source: Box::new(source),
            })?;
        }
        // A removal of the new one, by somebody who relied on the old.
        if !self.is_any_there(&[key])? {
            keys::put(self.remote(), &key, &bytes)?;
        }
        keys::keep(self.cache(), self.id(), new, &bundle, bytes);
        Ok(KeyChange { key, removed: old, resumed })
    }

    /// Makes this machine forget the key, then removes its object: whoever had it in his cache here only needs to
    /// derive it again should the object stay.
    pub(super) fn delete_key(&self, key: &KeyId) -> Result<(), RepoError> {
        self.cache().attempt(self.cache().forget_key_for_good(key));
        Ok(self.remote().delete(&keys::name_of(key))?)
    }
}

/// Whether two bundles open the same.
fn are_same(one: &Bundle, other: &Bundle) -> bool {
    match (keys::masters(one), keys::masters(other)) {
        (Ok(one), Ok(other)) => {
            let bytes = |masters: &Masters| masters.first().map(|master| master.0);
            let later = |masters: &Masters| masters.later().iter().map(|master| master.0).collect::<Vec<_>>();
            bytes(one) == bytes(other) && later(one) == later(other)
        }
        _ => false,
    }
}

fn is_owner(key: &KeyInfo) -> bool {
    key.problem.is_none() && key.description.as_ref().is_some_and(|d| d.kind == KeyKind::Owner)
}

#[cfg(test)]
pub(in crate::repo) mod tests;
