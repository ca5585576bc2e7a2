//! A wrapper that counts requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Listed, Remote, RemoteError, Streaming, Upload};

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

impl RequestCounts {
    /// Those made since an earlier reading.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            put: self.put - before.put,
            get: self.get - before.get,
            list: self.list - before.list,
            delete: self.delete - before.delete,
            stat: self.stat - before.stat,
            bytes_put: self.bytes_put - before.bytes_put,
        }
    }
}

#[derive(Default)]
struct Counters {
    put: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    delete: AtomicU64,
    stat: AtomicU64,
    bytes_put: AtomicU64,
}

/// Passes everything on and counts.
pub struct Counting {
    inner: Arc<dyn Remote>,
    counters: Arc<Counters>,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counting {
    /// Wraps a remote.
    #[must_use]
    pub fn new(inner: Arc<dyn Remote>) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        RequestCounts {
            put: read(&counters.put),
            get: read(&counters.get),
            list: read(&counters.list),
            delete: read(&counters.delete),
            stat: read(&counters.stat),
            bytes_put: read(&counters.bytes_put),
        }
    }
}

struct CountedUpload {
    inner: Box<dyn Upload>,
    bytes: u64,
    counters: Arc<Counters>,
}

impl Upload for CountedUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.bytes += bytes.len() as u64;
        self.inner.write(bytes)
    }

    fn finish(self: Box<Self>, name: &str) -> Result<(), RemoteError> {
        add(&self.counters.put, 1);
        self.inner.finish(name)?;
        add(&self.counters.bytes_put, self.bytes);
        Ok(())
    }
}

struct CountedStream {
    inner: Box<dyn Streaming>,
    bytes: u64,
    counters: Arc<Counters>,
}

impl Streaming for CountedStream {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.bytes += bytes.len() as u64;
        self.inner.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), RemoteError> {
        self.inner.finish()?;
        add(&self.counters.bytes_put, self.bytes);
        Ok(())
    }
}

impl Remote for Counting {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        add(&self.counters.get, 1);
        self.inner.get(name, max)
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        add(&self.counters.get, 1);
        self.inner.get_range(name, offset, len)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        add(&self.counters.put, 1);
        self.inner.put(name, bytes)?;
        add(&self.counters.bytes_put, bytes.len() as u64);
        Ok(())
    }

    fn begin(&self, folder: &str) -> Result<Option<Box<dyn Upload>>, RemoteError> {
        let counted = |inner| -> Box<dyn Upload> {
            Box::new(CountedUpload { inner, bytes: 0, counters: Arc::clone(&self.counters) })
        };
        Ok(self.inner.begin(folder)?.map(counted))
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        add(&self.counters.put, 1);
        let inner = self.inner.stream(name)?;
        Ok(Box::new(CountedStream { inner, bytes: 0, counters: Arc::clone(&self.counters) }))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        add(&self.counters.put, 1);
        self.inner.create(name, bytes)?;
        add(&self.counters.bytes_put, bytes.len() as u64);
        Ok(())
    }

    fn parallel_requests(&self) -> usize {
        self.inner.parallel_requests()
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        add(&self.counters.list, 1);
        self.inner.list(folder)
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        add(&self.counters.stat, 1);
        self.inner.size(name)
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        add(&self.counters.delete, 1);
        self.inner.delete(name)
    }

    fn sha256(&self, objects: &[(&str, u64)]) -> Result<Option<BTreeMap<String, [u8; 32]>>, RemoteError> {
        self.inner.sha256(objects)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn local_directory(&self) -> Option<std::path::PathBuf> {
        self.inner.local_directory()
    }
}
