//! Key objects: several passphrases may open one repository.

use std::collections::BTreeSet;

use super::layout::{self, Folder};
use super::{Cache, RepoError, Repository};
use crate::crypto::{self, Keyring, MasterKey, Passphrase, ScryptParams};
use crate::format::key_v1::{self, Bundle, Randomness};
use crate::format::{FormatError, limits};
use crate::model::{KeyId, ObjectId, RepositoryId, Timestamp};
use crate::remote::Remote;

/// A key object as `key list` shows it.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// Known when the passphrase in use opens it: when it was made, seconds since 1970, and label.
    pub opened: Option<(i64, String)>,
}

pub(super) fn store(
    remote: &dyn Remote,
    repository: RepositoryId,
    master: &MasterKey,
    passphrase: &Passphrase,
    params: ScryptParams,
    created: Timestamp,
    label: &str,
) -> Result<KeyId, RepoError> {
    let bundle = Bundle { master: master.clone(), created: created.secs, label: label.to_string() };
    let seal = || key_v1::seal(&bundle, repository, passphrase, params, &Randomness::generate()?);
    let bytes = seal().map_err(RepoError::object("key object"))?;
    let id = crypto::sha256(&bytes);
    remote.put(&layout::plain_name(Folder::Keys, &ObjectId(id)), &bytes)?;
    Ok(KeyId(id))
}

/// Ids and bytes of the key objects that could be read, and why another one could not.
type KeyObjects = (Vec<(KeyId, Vec<u8>)>, Option<RepoError>);

/// The key objects of a repository. One that cannot be read or whose name is not its
/// hash does not keep the others from opening the repository.
fn objects(remote: &dyn Remote) -> Result<KeyObjects, RepoError> {
    let mut names: Vec<_> = remote.list(Folder::Keys.name())?.into_iter().map(|l| l.name).collect();
    names.sort();
    let (mut found, mut first_error) = (Vec::new(), None);
    for name in names {
        let Some((Folder::Keys, None, id)) = layout::parse_name(&name) else { continue };
        match remote.get(&name, limits::KEY_OBJECT as u64) {
            Ok(bytes) if crypto::sha256(&bytes) == id.0 => found.push((KeyId(id.0), bytes)),
            Ok(_) => first_error = first_error.or(Some(RepoError::NameMismatch { name })),
            Err(e) => first_error = first_error.or(Some(e.into())),
        }
    }
    Ok((found, first_error))
}

/// The key object that a passphrase opens, what is in it, and all that were found.
struct Found {
    key: KeyId,
    bundle: Bundle,
    objects: Vec<(KeyId, Vec<u8>)>,
}

fn find(remote: &dyn Remote, repository: RepositoryId, passphrase: &Passphrase) -> Result<Found, RepoError> {
    let (objects, mut first_error) = objects(remote)?;
    for (id, bytes) in &objects {
        match key_v1::open(bytes, repository, passphrase) {
            Ok(bundle) => return Ok(Found { key: *id, bundle, objects }),
            Err(FormatError::WrongKey) => {}
            Err(source) => {
                first_error = first_error.or(Some(RepoError::Object { name: format!("keys/{id}"), source }));
            }
        }
    }
    let location = remote.location();
    Err(match (first_error, objects.len()) {
        (Some(error), _) => error,
        (None, 0) => RepoError::NoKeys { location },
        (None, keys) => RepoError::WrongKey { location, keys },
    })
}

pub(super) fn open(
    remote: &dyn Remote,
    cache: &Cache,
    repository: RepositoryId,
    passphrase: &Passphrase,
) -> Result<Keyring, RepoError> {
    let Found { key, bundle, objects } = find(remote, repository, passphrase)?;
    // Only the one that is used: a copy of another one would have to be tried each time.
    let name = |id: &KeyId| layout::plain_name(Folder::Keys, &ObjectId(id.0));
    let used = objects.iter().find(|(id, _)| *id == key);
    cache.retain_copies(Folder::Keys, &BTreeSet::from([name(&key).as_str()]));
    if let Some((_, bytes)) = used.filter(|_| cache.copy(&name(&key), &ObjectId(key.0)).is_none()) {
        cache.keep_copy(&name(&key), bytes);
    }
    Ok(Keyring::new(&bundle.master))
}

/// Opens the copy of the key object that was used last.
pub(super) fn open_copies(
    cache: &Cache,
    repository: RepositoryId,
    passphrase: &Passphrase,
) -> Option<Keyring> {
    let copies = cache.copied(Folder::Keys);
    let mut objects = copies.iter().filter_map(|name| match layout::parse_name(name) {
        Some((Folder::Keys, None, id)) => cache.copy(name, &id),
        _ => None,
    });
    let bundle = objects.find_map(|bytes| key_v1::open(&bytes, repository, passphrase).ok())?;
    Some(Keyring::new(&bundle.master))
}

impl Repository {
    /// Lists the key objects; those that `passphrase` opens with what is sealed in them.
    pub fn keys(&self, passphrase: &Passphrase) -> Result<Vec<KeyInfo>, RepoError> {
        let (objects, _) = objects(self.remote())?;
        let info = objects.into_iter().map(|(id, bytes)| KeyInfo {
            id,
            opened: key_v1::open(&bytes, self.id(), passphrase).ok().map(|b| (b.created, b.label)),
        });
        Ok(info.collect())
    }

    /// Adds a key object for `new`, given a passphrase that opens the repository.
    pub fn add_key(
        &self,
        passphrase: &Passphrase,
        new: &Passphrase,
        params: ScryptParams,
        created: Timestamp,
        label: &str,
    ) -> Result<KeyId, RepoError> {
        let Found { bundle, .. } = find(self.remote(), self.id(), passphrase)?;
        store(self.remote(), self.id(), &bundle.master, new, params, created, label)
    }

    /// Removes a key object, named by its id or the beginning of it. Refuses to remove the last one
    /// and the one that `passphrase` opens: what remains must be known to open the repository.
    pub fn remove_key(&self, passphrase: &Passphrase, id: &str) -> Result<KeyId, RepoError> {
        let Found { key: current, objects, .. } = find(self.remote(), self.id(), passphrase)?;
        let matching: Vec<_> = objects
            .iter()
            .map(|(k, _)| *k)
            .filter(|k| !id.is_empty() && k.to_string().starts_with(id))
            .collect();
        let key = match matching.as_slice() {
            [one] => *one,
            [] => return Err(RepoError::Key(format!("no key begins with {id:?}"))),
            _ => return Err(RepoError::Key(format!("several keys begin with {id:?}"))),
        };
        if key == current {
            return Err(RepoError::Key(format!(
                "key {} is the one in use; open the repository with another passphrase to remove it",
                key.short()
            )));
        }
        self.delete_key(&key)?;
        Ok(key)
    }

    /// Replaces the key object that `passphrase` opens by one for `new`. The new one is stored
    /// before the old one goes.
    pub fn change_key(
        &self,
        passphrase: &Passphrase,
        new: &Passphrase,
        params: ScryptParams,
        created: Timestamp,
    ) -> Result<KeyId, RepoError> {
        let Found { key: current, bundle, .. } = find(self.remote(), self.id(), passphrase)?;
        let key = store(self.remote(), self.id(), &bundle.master, new, params, created, &bundle.label)?;
        self.delete_key(&current)?;
        Ok(key)
    }

    fn delete_key(&self, key: &KeyId) -> Result<(), RepoError> {
        let name = layout::plain_name(Folder::Keys, &ObjectId(key.0));
        self.cache().forget_copy(&name);
        Ok(self.remote().delete(&name)?)
    }
}
