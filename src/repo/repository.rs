//! Opening and making a repository, and its small objects.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::layout::{self, Folder, MARKER, ObjectInfo};
use super::{Cache, CachePlace, Catalog, RepoError, Seen, copies, keys};
use crate::crypto::{self, Keyring, MasterKey, Masters, ObjectKind, Passphrase, ScryptParams};
use crate::format::key_v1::{Bundle, Secrets};
use crate::format::marker_v1::{Marker, Operation};
use crate::format::sealed_v1::{Randomness, Sealer};
use crate::format::{gc_v1, limits};
use crate::model::{BlobId, ObjectId, RepositoryId, SnapshotKind, Timestamp};
use crate::remote::{Listed, Remote, RemoteError};

/// An open repository: its keys are at hand.
#[derive(Clone)]
pub struct Repository {
    remote: Arc<dyn Remote>,
    sealer: Arc<Sealer>,
    marker: Arc<Marker>,
    cache: Arc<Cache>,
    copies: bool,
}

impl Repository {
    /// Makes a repository. `created` is for people; the key object's label likewise. The cache at `caches`
    /// keeps the key, if it keeps any.
    pub fn init(
        remote: &Arc<dyn Remote>,
        passphrase: &Passphrase,
        caches: CachePlace<'_>,
        params: ScryptParams,
        created: Timestamp,
        label: &str,
    ) -> Result<RepositoryId, RepoError> {
        let location = remote.location();
        match remote.size(MARKER) {
            Ok(_) => return Err(RepoError::Exists { location }),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
        for folder in [Folder::Snapshots, Folder::Safety, Folder::Index, Folder::Packs] {
            if !remote.list(folder.name())?.is_empty() {
                // Objects without a marker: a repository that lost it. A new one on top would bury it.
                return Err(RepoError::NotEmpty { location });
            }
        }
        // Key objects alone hold no data: they are what an `init` leaves that was interrupted before the marker.
        // They stay, and open nothing of the new repository.
        let name = |error| RepoError::object(MARKER)(error);
        let id = RepositoryId(crypto::random().map_err(|e| name(e.into()))?);
        let master = MasterKey::generate().map_err(|e| name(e.into()))?;
        let secrets = Secrets::Owner(Masters::new(master));
        let bundle = Bundle { secrets, created: created.secs, label: label.to_string() };
        let cache = Cache::new(caches, id);
        let key = keys::store_first(remote.as_ref(), &cache, id, passphrase, params, &bundle)?;
        let text = jiff::Timestamp::from_second(created.secs).unwrap_or_default().to_string();
        // The marker comes last: until it is there, there is no repository.
        match remote.create(MARKER, &Marker::new(id, text).encode().map_err(name)?) {
            Ok(()) => Ok(id),
            // An answer that was lost may have made us try twice.
            Err(RemoteError::Exists { .. }) if Self::probe(remote.as_ref())?.id == id => Ok(id),
            Err(RemoteError::Exists { .. }) => {
                // Another one was faster: this key opens nothing of that repository.
                cache.forget_key();
                drop(remote.delete(&keys::name_of(&key)));
                Err(RepoError::Exists { location })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Key objects in a repository that has just been made which are not its own.
    pub fn stray_keys(remote: &dyn Remote) -> Result<usize, RepoError> {
        Ok(keys::names(remote)?.len().saturating_sub(1))
    }

    /// Reads the marker: whether there is a repository, and of which version.
    pub fn probe(remote: &dyn Remote) -> Result<Marker, RepoError> {
        Self::read_marker(remote).and_then(|bytes| decode_marker(&bytes))
    }

    fn read_marker(remote: &dyn Remote) -> Result<Vec<u8>, RepoError> {
        remote.get(MARKER, limits::MARKER as u64).map_err(|e| {
            if e.is_not_found() { RepoError::NoRepository { location: remote.location() } } else { e.into() }
        })
    }

    /// Opens a repository with a passphrase.
    pub fn open(
        remote: Arc<dyn Remote>,
        passphrase: &Passphrase,
        caches: CachePlace<'_>,
    ) -> Result<Self, RepoError> {
        let bytes = Self::read_marker(remote.as_ref())?;
        let marker = decode_marker(&bytes)?;
        let cache = Cache::new(caches, marker.id);
        let keys = cache.settle(keys::open(remote.as_ref(), &cache, marker.id, passphrase)?)?;
        copies::remember_marker(caches.dir, &remote.location(), &bytes);
        Ok(Self::with_keys(remote, marker, cache, keys))
    }

    /// Opens a repository for a backup, without asking the remote for what was read there before.
    /// Returns its snapshots too: among them must be one that this client has seen, which proves that
    /// the same repository is still there. Anything else goes the long way of [`Self::open`].
    pub fn open_for_backup(
        remote: Arc<dyn Remote>,
        passphrase: &Passphrase,
        caches: CachePlace<'_>,
    ) -> Result<(Self, Catalog), RepoError> {
        if let Some((marker, cache, seen)) = Self::remembered(remote.as_ref(), caches) {
            // The remote answers while the key is derived: each takes about as long as the other.
            let (keys, listed) = std::thread::scope(|scope| {
                let listed = scope.spawn(|| remote.list(Folder::Snapshots.name()));
                (keys::open_cached(&cache, marker.id, passphrase), listed.join())
            });
            if let Some(keys) = keys.and_then(|(_, keys)| cache.settle(keys).ok()) {
                let repository = Self::with_keys(Arc::clone(&remote), marker, cache, keys);
                let listed = listed.map_err(|_| RepoError::Worker)??;
                let (ours, _) = repository.sort_out(Folder::Snapshots, listed);
                if ours.iter().any(|record| seen.snapshots.contains(&record.name)) {
                    let catalog = Catalog::of(&repository, ours);
                    return Ok((repository, catalog));
                }
            }
        }
        let repository = Self::open(remote, passphrase, caches)?;
        let catalog = Catalog::load(&repository, SnapshotKind::Regular)?;
        Ok((repository, catalog))
    }

    /// What is known of the repository at this place without asking.
    fn remembered(remote: &dyn Remote, caches: CachePlace<'_>) -> Option<(Marker, Cache, Seen)> {
        let marker = copies::remembered_marker(caches.dir, &remote.location())?;
        let marker = decode_marker(&marker).ok()?;
        let cache = Cache::new(caches, marker.id);
        let seen = cache.seen()?;
        Some((marker, cache, seen))
    }

    fn with_keys(remote: Arc<dyn Remote>, marker: Marker, cache: Cache, keys: Keyring) -> Self {
        let sealer = Arc::new(Sealer { repository: marker.id, keys });
        Self { remote, sealer, marker: Arc::new(marker), cache: Arc::new(cache), copies: true }
    }

    /// The same repository with other keys.
    pub(super) fn rekeyed(&self, keys: Keyring) -> Self {
        Self { sealer: Arc::new(Sealer { repository: self.id(), keys }), ..self.clone() }
    }

    /// The same repository, for who must see what the remote has and not what was copied from it.
    #[must_use]
    pub fn without_copies(&self) -> Self {
        Self { copies: false, ..self.clone() }
    }

    pub(super) fn uses_copies(&self) -> bool {
        self.copies
    }

    /// Refuses when the repository uses features that `operation` needs and we do not know.
    pub fn require(&self, operation: Operation) -> Result<(), RepoError> {
        self.marker.check(operation).map_err(RepoError::object(MARKER))
    }

    /// The repository's id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.marker.id
    }

    /// Where its objects live.
    #[must_use]
    pub fn remote(&self) -> &dyn Remote {
        self.remote.as_ref()
    }

    /// The same, to be kept.
    #[must_use]
    pub fn remote_handle(&self) -> Arc<dyn Remote> {
        Arc::clone(&self.remote)
    }

    /// Its keys.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    pub(super) fn sealer_handle(&self) -> Arc<Sealer> {
        Arc::clone(&self.sealer)
    }

    /// Its local cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Local directories that belong to the repository or its cache.
    #[must_use]
    pub fn own_directories(&self) -> Vec<PathBuf> {
        self.remote.local_directory().into_iter().chain(self.cache.own_directories()).collect()
    }

    /// Reads a record object whose name ends in the hash of its bytes.
    pub fn read_record(&self, kind: ObjectKind, name: &str, id: &ObjectId) -> Result<Vec<u8>, RepoError> {
        self.require_reading(kind)?;
        let bytes = self.record_object(name, id)?;
        self.sealer.open_record(kind, &bytes).map_err(|e| self.unopened(name, e))
    }

    fn record_object(&self, name: &str, id: &ObjectId) -> Result<Vec<u8>, RepoError> {
        if let Some(bytes) = self.cache.copy(name, id).filter(|_| self.copies) {
            return Ok(bytes);
        }
        let bytes = self.remote.get(name, limits::RECORD_OBJECT as u64)?;
        if crypto::sha256(&bytes) != id.0 {
            return Err(RepoError::NameMismatch { name: name.to_string() });
        }
        if self.copies {
            self.cache.keep_copy(name, &bytes);
        }
        Ok(bytes)
    }

    pub(super) fn list_copy(&self, id: &BlobId) -> Option<Vec<u8>> {
        self.copies.then(|| self.cache.list(id)).flatten()
    }

    /// Seals a record, stores it under the name that `name` makes of its id, and returns both with
    /// the stored bytes.
    pub(super) fn write_record(
        &self,
        kind: ObjectKind,
        record: &[u8],
        name: impl FnOnce(&ObjectId) -> String,
    ) -> Result<(ObjectId, String, Vec<u8>), RepoError> {
        let seal = || self.sealer.seal_record(kind, record, &Randomness::generate()?);
        let bytes = seal().map_err(RepoError::object(kind.name()))?;
        let id = ObjectId(crypto::sha256(&bytes));
        let name = name(&id);
        self.remote.put(&name, &bytes)?;
        self.cache.keep_copy(&name, &bytes);
        Ok((id, name, bytes))
    }

    /// The objects of a folder whose names are ours, sorted by name.
    pub fn list(&self, folder: Folder) -> Result<Vec<ObjectInfo>, RepoError> {
        Ok(self.list_all(folder)?.0)
    }

    /// The same, and what else lies in the folder.
    pub fn list_all(&self, folder: Folder) -> Result<(Vec<ObjectInfo>, Vec<Listed>), RepoError> {
        Ok(self.sort_out(folder, self.remote.list(folder.name())?))
    }

    fn sort_out(&self, folder: Folder, listed: Vec<Listed>) -> (Vec<ObjectInfo>, Vec<Listed>) {
        let (mut ours, mut strangers) = (Vec::new(), Vec::new());
        for listed in listed {
            match layout::parse_name(&listed.name) {
                Some((f, time, id)) if f == folder => {
                    ours.push(ObjectInfo { name: listed.name, time, id, size: listed.size });
                }
                _ => strangers.push(listed),
            }
        }
        ours.sort();
        self.cache.retain_copies(folder, &ours.iter().map(|o| o.name.as_str()).collect());
        (ours, strangers)
    }

    /// The gc records that there are, by name.
    pub fn gc_records(&self) -> Result<BTreeSet<String>, RepoError> {
        Ok(self.list(Folder::Gc)?.into_iter().map(|record| record.name).collect())
    }

    /// The packs that gc records condemn.
    pub fn condemned(&self, records: &BTreeSet<String>) -> Result<BTreeSet<ObjectId>, RepoError> {
        let mut packs = BTreeSet::new();
        for name in records {
            let Some((Folder::Gc, _, id)) = layout::parse_name(name) else { continue };
            match self.read_record(ObjectKind::Gc, name, &id) {
                // A later prune withdrew it between the listing and the read.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                Err(e) => return Err(e),
                Ok(record) => packs.extend(gc_v1::decode(&record).map_err(RepoError::object(name))?.packs),
            }
        }
        Ok(packs)
    }
}

fn decode_marker(bytes: &[u8]) -> Result<Marker, RepoError> {
    let marker = Marker::decode(bytes).map_err(RepoError::object(MARKER))?;
    marker.check(Operation::Read).map_err(RepoError::object(MARKER))?;
    Ok(marker)
}
