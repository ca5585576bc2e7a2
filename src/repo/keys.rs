//! Opening a repository by its key objects. Several passphrases may open one.

use std::cmp::Reverse;

use super::layout::{self, Folder};
use super::{Cache, RepoError};
use crate::crypto::{self, Keyring, Masters, Passphrase, ScryptParams};
use crate::format::key_description_v1::{self, Description, KeyKind};
use crate::format::key_v1::{self, Bundle, Randomness, Secrets};
use crate::format::{FormatError, limits};
use crate::model::{KeyId, ObjectId, RepositoryId, Timestamp};
use crate::remote::Remote;

/// What a bundle says of itself to all owners. `owner`: the keys that it has, or was made from; `None` where they are
/// not at hand.
pub(super) fn describe(bundle: &Bundle, owner: Option<&Masters>) -> Description {
    let (kind, writer) = match &bundle.secrets {
        Secrets::Owner(_) => (KeyKind::Owner, None),
        Secrets::Writer(keys) => (KeyKind::Writer, Some(keys.id())),
    };
    let fingerprint = owner.and_then(Masters::fingerprint);
    Description { kind, created: bundle.created, label: bundle.label.clone(), fingerprint, writer }
}

/// Makes a key object of a bundle. `owner`: the keys by which all owners read its description.
pub(super) fn seal(
    repository: RepositoryId,
    passphrase: &Passphrase,
    params: ScryptParams,
    bundle: &Bundle,
    owner: &Masters,
) -> Result<(KeyId, Vec<u8>), RepoError> {
    // A phrase is stored in its one spelling, so that every spelling opens it.
    let phrase = crypto::read_phrase(passphrase).and_then(Result::ok);
    let passphrase = phrase.as_ref().unwrap_or(passphrase);
    let seal = || key_v1::seal(bundle, repository, passphrase, params, &Randomness::generate()?);
    let object = seal().map_err(RepoError::object("key object"))?;
    describe_as(object, repository, owner, &describe(bundle, Some(owner)))
}

/// A key object that nobody opens, for a rotation that has begun.
pub(super) fn claim(
    repository: RepositoryId,
    generation: u8,
    owner: &Masters,
    created: Timestamp,
) -> Result<(KeyId, Vec<u8>), RepoError> {
    let random = crypto::random().map_err(|e| RepoError::object("key object")(e.into()))?;
    let (kind, label) = (KeyKind::Claim, "rotation".to_owned());
    let description = Description { kind, created: created.secs, label, fingerprint: None, writer: None };
    describe_as(key_v1::claim(generation, &random), repository, owner, &description)
}

fn describe_as(
    mut object: Vec<u8>,
    repository: RepositoryId,
    owner: &Masters,
    description: &Description,
) -> Result<(KeyId, Vec<u8>), RepoError> {
    let append = |object: &mut Vec<u8>| match owner.first() {
        Some(master) => {
            key_description_v1::append(object, repository, master, description, &crypto::random()?)
        }
        None => Ok(()),
    };
    append(&mut object).map_err(RepoError::object("key object"))?;
    Ok((KeyId(crypto::sha256(&object)), object))
}

/// Makes a key object of a bundle, stores it, and reads it back: a copy of the master key is nothing to take on
/// trust. `owner`: the keys by which all owners read its description. Returns its id and bytes.
pub(super) fn store(
    remote: &dyn Remote,
    repository: RepositoryId,
    passphrase: &Passphrase,
    params: ScryptParams,
    bundle: &Bundle,
    owner: &Masters,
) -> Result<(KeyId, Vec<u8>), RepoError> {
    let (id, bytes) = seal(repository, passphrase, params, bundle, owner)?;
    put(remote, &id, &bytes)?;
    Ok((id, bytes))
}

/// The master keys of an owner's bundle; a writer's has none.
pub(super) fn masters(bundle: &Bundle) -> Result<&Masters, RepoError> {
    match &bundle.secrets {
        Secrets::Owner(masters) => Ok(masters),
        Secrets::Writer(_) => Err(RepoError::WriterKey),
    }
}

/// Stores a key object and reads it back.
pub(super) fn put(remote: &dyn Remote, key: &KeyId, bytes: &[u8]) -> Result<(), RepoError> {
    let name = name_of(key);
    remote.put(&name, bytes)?;
    match remote.get(&name, limits::KEY_OBJECT as u64)? == bytes {
        true => Ok(()),
        false => Err(RepoError::KeyReadBack { name }),
    }
}

/// The same for one that may be there already: not every remote lets a name be written again.
pub(super) fn put_once(remote: &dyn Remote, key: &KeyId, bytes: &[u8]) -> Result<(), RepoError> {
    match remote.get(&name_of(key), limits::KEY_OBJECT as u64) {
        Ok(there) if there == bytes => Ok(()),
        _ => put(remote, key, bytes),
    }
}

/// The name of a key object.
pub(super) fn name_of(key: &KeyId) -> String {
    layout::plain_name(Folder::Keys, &ObjectId(key.0))
}

/// The key objects that could be read, those that cost least to try first and of these the newest, and those that
/// could not.
pub(super) struct Objects {
    /// Ids and bytes.
    pub(super) found: Vec<(KeyId, Vec<u8>)>,
    /// Ids, and what is wrong with each.
    pub(super) bad: Vec<(KeyId, RepoError)>,
}

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

/// The key objects of these names. One that cannot be read or whose name is not its hash does not keep the
/// others from opening the repository.
pub(super) fn objects(remote: &dyn Remote, names: Vec<(String, KeyId)>) -> Objects {
    let mut objects = Objects { found: Vec::new(), bad: Vec::new() };
    for (name, id) in names {
        match remote.get(&name, limits::KEY_OBJECT as u64) {
            Ok(bytes) if crypto::sha256(&bytes) == id.0 => objects.found.push((id, bytes)),
            Ok(_) => objects.bad.push((id, RepoError::NameMismatch { name })),
            // Removed between the listing and this.
            Err(e) if e.is_not_found() => {}
            Err(e) => objects.bad.push((id, e.into())),
        }
    }
    // What costs most may be nobody's, and made to cost that.
    let order = |bytes: &[u8]| (work(bytes), Reverse(key_v1::generation(bytes)));
    objects.found.sort_by_key(|(id, bytes)| (order(bytes), *id));
    objects
}

/// What trying a passphrase costs, in units of no meaning. What is not well-formed costs nothing.
fn work(bytes: &[u8]) -> u64 {
    key_v1::params(bytes).map_or(0, work_of)
}

fn work_of(params: ScryptParams) -> u64 {
    (u64::from(params.r) * u64::from(params.p)) << params.log_n.min(32)
}

/// Whether a key object may open more than a bundle that is at hand. A passphrase may open one from before a rotation,
/// which somebody put back, and one from after it.
fn may_be_newer(bytes: &[u8], repository: RepositoryId, than: &Bundle) -> bool {
    if key_v1::generation(bytes) <= Some(than.generation()) {
        return false;
    }
    match masters(than) {
        Ok(owner) => sealed_description(bytes, repository, owner).is_some(),
        // A writer cannot tell what it is.
        Err(_) => work(bytes) <= work_of(ScryptParams::PASSPHRASE),
    }
}

/// The texts that a passphrase may stand for: itself, and the recovery phrase that it spells in another way.
pub(super) fn spellings(passphrase: &Passphrase) -> Vec<Passphrase> {
    let phrase = crypto::read_phrase(passphrase).and_then(Result::ok);
    let other = phrase.filter(|phrase| phrase.as_bytes() != passphrase.as_bytes());
    std::iter::once(passphrase.clone()).chain(other).collect()
}

/// Opens a key object with the first of these spellings that does it.
pub(super) fn unlock<'a>(
    bytes: &[u8],
    repository: RepositoryId,
    spellings: &'a [Passphrase],
) -> Result<(Bundle, &'a Passphrase), FormatError> {
    for spelling in spellings {
        match key_v1::open(bytes, repository, spelling) {
            Err(FormatError::WrongKey) => {}
            other => return other.map(|bundle| (bundle, spelling)),
        }
    }
    Err(FormatError::WrongKey)
}

/// The key object that a passphrase opens, what is in it, and all that were found.
pub(super) struct Found {
    pub(super) key: KeyId,
    pub(super) bundle: Bundle,
    /// The passphrase as the key object takes it.
    pub(super) passphrase: Passphrase,
    pub(super) objects: Objects,
}

/// What a key object says of itself under the seal of all owners, and its generation, which the seal covers: anybody may
/// have put there what says nothing.
pub(super) fn sealed_description(
    bytes: &[u8],
    repository: RepositoryId,
    owner: &Masters,
) -> Option<(Description, u8)> {
    let says = key_description_v1::read(bytes, repository, owner.first()?).ok().flatten()?;
    Some((says, key_v1::generation(bytes)?))
}

impl Found {
    /// What the key objects are that say so under the seal of all owners.
    pub(super) fn described(
        &self,
        repository: RepositoryId,
    ) -> Result<Vec<(KeyId, Description, u8)>, RepoError> {
        let owner = masters(&self.bundle)?;
        let described = self.objects.found.iter().filter_map(|(key, bytes)| {
            let (says, generation) = sealed_description(bytes, repository, owner)?;
            Some((*key, says, generation))
        });
        Ok(described.collect())
    }

    /// Refuses an owner's key that a rotation has replaced.
    pub(super) fn require_newest(&self, repository: RepositoryId) -> Result<(), RepoError> {
        let found = self.bundle.generation();
        let described = self.described(repository)?.into_iter();
        // A rotation that has begun may never be made.
        let keys = described.filter(|(_, says, _)| says.kind != KeyKind::Claim);
        let newer = keys.map(|(key, _, seen)| (seen, key)).filter(|(seen, _)| *seen > found);
        newer.max().map_or(Ok(()), |(seen, key)| Err(RepoError::NewerKey { key, found, seen }))
    }
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
    let objects = objects(remote, names);
    let spellings = spellings(passphrase);
    let mut first_error = None;
    let mut found: Option<(KeyId, Bundle, Passphrase)> = None;
    for (id, bytes) in &objects.found {
        if found.as_ref().is_some_and(|(_, best, _)| !may_be_newer(bytes, repository, best)) {
            continue;
        }
        match unlock(bytes, repository, &spellings) {
            Ok((bundle, spelling)) => found = Some((*id, bundle, spelling.clone())),
            Err(FormatError::WrongKey) => {}
            Err(source) => {
                first_error = first_error.or(Some(RepoError::Object { name: name_of(id), source }));
            }
        }
    }
    if let Some((key, bundle, passphrase)) = found {
        return Ok(Found { key, bundle, passphrase, objects });
    }
    let location = remote.location();
    let Objects { found, bad } = objects;
    Err(match (bad.into_iter().map(|(_, e)| e).next().or(first_error), found.len()) {
        (Some(error), _) => error,
        (None, 0) => RepoError::NoKeys { location },
        (None, keys) => {
            let phrase = crypto::read_phrase(passphrase).and_then(Result::err);
            RepoError::WrongKey { location, keys, phrase }
        }
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
    let Found { key, bundle, passphrase, objects } = find_among(remote, names, repository, passphrase)?;
    if let Some((_, object)) = objects.found.into_iter().find(|(id, _)| *id == key) {
        keep(cache, repository, &passphrase, &bundle, object);
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
) -> Result<KeyId, RepoError> {
    let (id, object) = store(remote, repository, passphrase, params, bundle, masters(bundle)?)?;
    keep(cache, repository, passphrase, bundle, object);
    Ok(id)
}

/// Opens the key that was used last on this machine.
pub(super) fn open_cached(
    cache: &Cache,
    repository: RepositoryId,
    passphrase: &Passphrase,
) -> Option<(KeyId, Keyring)> {
    let (key, bytes) = cache.key()?;
    let (bundle, _) = unlock(&bytes, repository, &spellings(passphrase)).ok()?;
    if bundle.generation() < cache.generation() {
        return None;
    }
    Some((key, bundle.keyring()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_grows_with_every_parameter() {
        let of = |log_n, r, p| work_of(ScryptParams { log_n, r, p });
        assert!(of(1, 3, 3) > of(1, 8, 1) && of(1, 8, 1) == of(1, 1, 8));
        assert!(of(2, 1, 1) == of(1, 2, 1) && of(20, 8, 1) > of(19, 8, 1));
    }
}
