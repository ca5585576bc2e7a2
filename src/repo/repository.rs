//! Opening and making a repository, and its small objects.

use std::sync::Arc;

use super::keys;
use super::layout::{self, Folder, MARKER, ObjectInfo};
use super::{Cache, RepoError};
use crate::crypto::{self, MasterKey, ObjectKind, Passphrase, ScryptParams};
use crate::format::limits;
use crate::format::marker_v1::{Marker, Operation};
use crate::format::sealed_v1::{Randomness, Sealer};
use crate::model::{ObjectId, RepositoryId, Timestamp};
use crate::remote::Remote;

/// An open repository: its keys are at hand.
#[derive(Clone)]
pub struct Repository {
    remote: Arc<dyn Remote>,
    sealer: Arc<Sealer>,
    marker: Arc<Marker>,
    cache: Arc<Cache>,
}

impl Repository {
    /// Makes a repository. `created` is for people; the key object's label likewise.
    pub fn init(
        remote: &Arc<dyn Remote>,
        passphrase: &Passphrase,
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
        if !remote.list(Folder::Keys.name())?.is_empty() || !remote.list(Folder::Packs.name())?.is_empty() {
            // Objects without a marker: a repository that lost it. A new one on top would bury it.
            return Err(RepoError::NotEmpty { location });
        }
        let name = |error| RepoError::object(MARKER)(error);
        let id = RepositoryId(crypto::random().map_err(|e| name(e.into()))?);
        let master = MasterKey::generate().map_err(|e| name(e.into()))?;
        keys::store(remote.as_ref(), id, &master, passphrase, params, created, label)?;
        let text = jiff::Timestamp::from_second(created.secs).unwrap_or_default().to_string();
        // The marker comes last: until it is there, there is no repository.
        remote.put(MARKER, &Marker::new(id, text).encode().map_err(name)?)?;
        Ok(id)
    }

    /// Reads the marker: whether there is a repository, and of which version.
    pub fn probe(remote: &dyn Remote) -> Result<Marker, RepoError> {
        let bytes = remote.get(MARKER, limits::MARKER as u64).map_err(|e| {
            if e.is_not_found() { RepoError::NoRepository { location: remote.location() } } else { e.into() }
        })?;
        let marker = Marker::decode(&bytes).map_err(RepoError::object(MARKER))?;
        marker.check(Operation::Read).map_err(RepoError::object(MARKER))?;
        Ok(marker)
    }

    /// Opens a repository with a passphrase; `cache` makes the local cache for its id.
    pub fn open(
        remote: Arc<dyn Remote>,
        passphrase: &Passphrase,
        cache: impl FnOnce(RepositoryId) -> Result<Cache, RepoError>,
    ) -> Result<Self, RepoError> {
        let marker = Self::probe(remote.as_ref())?;
        let keys = keys::open(remote.as_ref(), marker.id, passphrase)?;
        let cache = Arc::new(cache(marker.id)?);
        let sealer = Arc::new(Sealer { repository: marker.id, keys });
        Ok(Self { remote, sealer, marker: Arc::new(marker), cache })
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

    pub(super) fn remote_handle(&self) -> Arc<dyn Remote> {
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

    /// Reads a record object whose name ends in the hash of its bytes.
    pub fn read_record(&self, kind: ObjectKind, name: &str, id: &ObjectId) -> Result<Vec<u8>, RepoError> {
        let bytes = self.remote.get(name, limits::RECORD_OBJECT as u64)?;
        if crypto::sha256(&bytes) != id.0 {
            return Err(RepoError::NameMismatch { name: name.to_string() });
        }
        self.sealer.open_record(kind, &bytes).map_err(RepoError::object(name))
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
        Ok((id, name, bytes))
    }

    /// The objects of a folder whose names are ours, sorted by name.
    pub fn list(&self, folder: Folder) -> Result<Vec<ObjectInfo>, RepoError> {
        let listed = self.remote.list(folder.name())?;
        let mut ours: Vec<_> = listed
            .into_iter()
            .filter_map(|l| match layout::parse_name(&l.name) {
                Some((f, time, id)) if f == folder => {
                    Some(ObjectInfo { name: l.name, time, id, size: l.size })
                }
                _ => None,
            })
            .collect();
        ours.sort();
        Ok(ours)
    }

    /// The packs that gc records condemn.
    pub fn condemned(&self) -> Result<std::collections::BTreeSet<ObjectId>, RepoError> {
        let mut packs = std::collections::BTreeSet::new();
        for ObjectInfo { name, id, .. } in self.list(Folder::Gc)? {
            match self.read_record(ObjectKind::Gc, &name, &id) {
                // A later prune withdrew it between the listing and the read.
                Err(RepoError::Remote(e)) if e.is_not_found() => {}
                Err(e) => return Err(e),
                Ok(record) => {
                    packs.extend(
                        crate::format::gc_v1::decode(&record).map_err(RepoError::object(&name))?.packs,
                    );
                }
            }
        }
        Ok(packs)
    }
}
