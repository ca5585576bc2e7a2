//! Key objects: several passphrases may open one repository.

use super::layout::{self, Folder};
use super::{Cache, RepoError, Repository};
use crate::crypto::{self, Keyring, Passphrase, ScryptParams};
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
    passphrase: &Passphrase,
    params: ScryptParams,
    bundle: &Bundle,
) -> Result<(KeyId, Vec<u8>), RepoError> {
    let seal = || key_v1::seal(bundle, repository, passphrase, params, &Randomness::generate()?);
    let bytes = seal().map_err(RepoError::object("key object"))?;
    let id = crypto::sha256(&bytes);
    remote.put(&layout::plain_name(Folder::Keys, &ObjectId(id)), &bytes)?;
    Ok((KeyId(id), bytes))
}

/// Ids and bytes of the key objects that could be read, and why another one could not.
type KeyObjects = (Vec<(KeyId, Vec<u8>)>, Option<RepoError>);

/// Names and ids of the key objects.
pub(super) fn names(remote: &dyn Remote) -> Result<Vec<(String, KeyId)>, RepoError> {
    let mut names: Vec<_> = remote.list(Folder::Keys.name())?.into_iter().map(|l| l.name).collect();
    names.sort();
    let ours = names.into_iter().filter_map(|name| match layout::parse_name(&name) {
        Some((Folder::Keys, None, id)) => Some((name, KeyId(id.0))),
        _ => None,
    });
    Ok(ours.collect())
}

/// The key objects of these names. One that cannot be read or whose name is not its
/// hash does not keep the others from opening the repository.
fn objects(remote: &dyn Remote, names: Vec<(String, KeyId)>) -> KeyObjects {
    let (mut found, mut first_error) = (Vec::new(), None);
    for (name, id) in names {
        match remote.get(&name, limits::KEY_OBJECT as u64) {
            Ok(bytes) if crypto::sha256(&bytes) == id.0 => found.push((id, bytes)),
            Ok(_) => first_error = first_error.or(Some(RepoError::NameMismatch { name })),
            Err(e) => first_error = first_error.or(Some(e.into())),
        }
    }
    // A passphrase may open one from before a rotation and one from after it.
    found.sort_by_key(|(_, bytes)| std::cmp::Reverse(key_v1::generation(bytes)));
    (found, first_error)
}

/// The key object that a passphrase opens, what is in it, and all that were found.
pub(super) struct Found {
    pub(super) key: KeyId,
    pub(super) bundle: Bundle,
    pub(super) objects: Vec<(KeyId, Vec<u8>)>,
}

pub(super) fn find(
    remote: &dyn Remote,
    repository: RepositoryId,
    passphrase: &Passphrase,
) -> Result<Found, RepoError> {
    find_among(remote, names(remote)?, repository, passphrase)
}

fn find_among(
    remote: &dyn Remote,
    names: Vec<(String, KeyId)>,
    repository: RepositoryId,
    passphrase: &Passphrase,
) -> Result<Found, RepoError> {
    let (objects, mut first_error) = objects(remote, names);
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

/// Opens a repository: with the cached key if its key object is still there, else with that.
pub(super) fn open(
    remote: &dyn Remote,
    cache: &Cache,
    repository: RepositoryId,
    passphrase: &Passphrase,
) -> Result<Keyring, RepoError> {
    let names = names(remote)?;
    if let Some((key, keyring)) = open_cached(cache, repository, passphrase)
        && names.iter().any(|(_, id)| *id == key)
    {
        return Ok(keyring);
    }
    let Found { key, bundle, objects } = find_among(remote, names, repository, passphrase)?;
    if let Some((_, object)) = objects.into_iter().find(|(id, _)| *id == key) {
        keep(cache, repository, passphrase, &bundle, object);
    }
    Ok(bundle.keyring())
}

/// Keeps a key on this machine, if that is wanted.
pub(super) fn keep(
    cache: &Cache,
    repository: RepositoryId,
    passphrase: &Passphrase,
    bundle: &Bundle,
    object: Vec<u8>,
) {
    if !cache.keeps_key() {
        return;
    }
    let key = KeyId(crypto::sha256(&object));
    let seal = |params| key_v1::seal(bundle, repository, passphrase, params, &Randomness::generate()?);
    // One that costs little as it is, is kept as it is.
    let cheap = key_v1::cost(&object).is_some_and(|n| n <= ScryptParams::CACHED.log_n);
    let copy = if cheap { Some(object) } else { seal(ScryptParams::CACHED).ok() };
    if let Some(copy) = copy {
        cache.keep_key(&key, &copy);
    }
}

/// Stores the first key of a new repository. This machine keeps it, so that the first backup need not
/// derive it again.
pub(super) fn store_first(
    remote: &dyn Remote,
    cache: &Cache,
    repository: RepositoryId,
    passphrase: &Passphrase,
    params: ScryptParams,
    bundle: &Bundle,
) -> Result<(), RepoError> {
    let object = store(remote, repository, passphrase, params, bundle)?.1;
    keep(cache, repository, passphrase, bundle, object);
    Ok(())
}

/// Opens the key that was used last on this machine.
pub(super) fn open_cached(
    cache: &Cache,
    repository: RepositoryId,
    passphrase: &Passphrase,
) -> Option<(KeyId, Keyring)> {
    let (key, bytes) = cache.key()?;
    let bundle = key_v1::open(&bytes, repository, passphrase).ok()?;
    if bundle.generation() < cache.generation() {
        return None;
    }
    Some((key, bundle.keyring()))
}

impl Repository {
    /// Lists the key objects; those that `passphrase` opens with what is sealed in them.
    pub fn keys(&self, passphrase: &Passphrase) -> Result<Vec<KeyInfo>, RepoError> {
        let (objects, _) = objects(self.remote(), names(self.remote())?);
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
        let bundle = Bundle { created: created.secs, label: label.to_string(), ..bundle };
        Ok(store(self.remote(), self.id(), new, params, &bundle)?.0)
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
        let bundle = Bundle { created: created.secs, ..bundle };
        let (key, _) = store(self.remote(), self.id(), new, params, &bundle)?;
        self.delete_key(&current)?;
        Ok(key)
    }

    pub(super) fn delete_key(&self, key: &KeyId) -> Result<(), RepoError> {
        let name = layout::plain_name(Folder::Keys, &ObjectId(key.0));
        self.cache().forget_key();
        Ok(self.remote().delete(&name)?)
    }
}
