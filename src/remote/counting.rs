//! A wrapper that counts requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Listed, Remote, RemoteError};

/// Requests made so far, by verb.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Objects stored.
    pub put: u64,
    /// Objects or ranges read.
    pub get: u64,
    /// Listings.
    pub list: u64,
    /// Deletions.
    pub delete: u64,
    /// Sizes asked for.
    pub stat: u64,
    /// Bytes of objects stored.
    pub bytes_put: u64,
}

/// Passes everything on and counts.
pub struct Counting {
    inner: Arc<dyn Remote>,
    put: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    delete: AtomicU64,
    stat: AtomicU64,
    bytes_put: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counting {
    /// Wraps a remote.
    #[must_use]
    pub fn new(inner: Arc<dyn Remote>) -> Self {
        let zero = AtomicU64::default;
        Self {
            inner,
            put: zero(),
            get: zero(),
            list: zero(),
            delete: zero(),
            stat: zero(),
            bytes_put: zero(),
        }
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            put: read(&self.put),
            get: read(&self.get),
            list: read(&self.list),
            delete: read(&self.delete),
            stat: read(&self.stat),
            bytes_put: read(&self.bytes_put),
        }
    }
}

impl Remote for Counting {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        add(&self.get, 1);
        self.inner.get(name, max)
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        add(&self.get, 1);
        self.inner.get_range(name, offset, len)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        add(&self.put, 1);
        self.inner.put(name, bytes)?;
        add(&self.bytes_put, bytes.len() as u64);
        Ok(())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        add(&self.put, 1);
        self.inner.create(name, bytes)?;
        add(&self.bytes_put, bytes.len() as u64);
        Ok(())
    }

    fn parallel_requests(&self) -> usize {
        self.inner.parallel_requests()
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        add(&self.list, 1);
        self.inner.list(folder)
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        add(&self.stat, 1);
        self.inner.size(name)
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        add(&self.delete, 1);
        self.inner.delete(name)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn local_directory(&self) -> Option<std::path::PathBuf> {
        self.inner.local_directory()
    }
}
