//! A remote in memory, for tests.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::name::is_sound;
use super::{Listed, Remote, RemoteError, Streaming, Verb};

type Objects = Mutex<BTreeMap<String, Vec<u8>>>;

/// Objects in a map.
#[derive(Default)]
pub struct Memory {
    objects: Arc<Objects>,
}

/// An object of a map on its way.
struct Gathered {
    objects: Arc<Objects>,
    name: String,
    bytes: Vec<u8>,
}

impl Streaming for Gathered {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), RemoteError> {
        let Self { objects, name, bytes } = *self;
        objects.lock().unwrap_or_else(PoisonError::into_inner).insert(name, bytes);
        Ok(())
    }
}

impl Memory {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        verb: Verb,
        name: &str,
        f: impl FnOnce(&[u8]) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        sound(verb, name)?;
        match self.objects().get(name) {
            Some(bytes) => f(bytes),
            None => Err(RemoteError::NotFound { name: name.to_string() }),
        }
    }

    /// Replaces an object's bytes, as no honest client would: for tests of damage.
    pub fn tamper(&self, name: &str, bytes: Vec<u8>) {
        self.objects().insert(name.to_string(), bytes);
    }
}

/// Refuses what other remotes refuse.
fn sound(verb: Verb, name: &str) -> Result<(), RemoteError> {
    if is_sound(name) {
        return Ok(());
    }
    Err(RemoteError::Io { verb, name: name.to_string(), source: ErrorKind::InvalidInput.into() })
}

impl Remote for Memory {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.with(Verb::Get, name, |bytes| {
            let found = bytes.len() as u64;
            if found > max {
                return Err(RemoteError::Size { name: name.to_string(), expected: max, found });
            }
            Ok(bytes.to_vec())
        })
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.with(Verb::Get, name, |bytes| {
            let range = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(len)).ok());
            range.and_then(|(from, to)| bytes.get(from..to)).map(<[u8]>::to_vec).ok_or(RemoteError::Size {
                name: name.to_string(),
                expected: offset.saturating_add(len),
                found: bytes.len() as u64,
            })
        })
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        sound(Verb::Put, name)?;
        self.objects().entry(name.to_string()).or_insert_with(|| bytes.to_vec());
        Ok(())
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        sound(Verb::Put, name)?;
        if self.objects().contains_key(name) {
            return Err(RemoteError::Exists { name: name.to_string() });
        }
        let objects = Arc::clone(&self.objects);
        Ok(Box::new(Gathered { objects, name: name.to_string(), bytes: Vec::new() }))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        sound(Verb::List, folder)?;
        let prefix = format!("{folder}/");
        let objects = self.objects();
        let inside = objects.iter().filter(|(name, _)| name.starts_with(&prefix));
        Ok(inside.map(|(name, bytes)| Listed { name: name.clone(), size: bytes.len() as u64 }).collect())
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.with(Verb::Stat, name, |bytes| Ok(bytes.len() as u64))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        sound(Verb::Delete, name)?;
        self.objects().remove(name);
        Ok(())
    }

    fn location(&self) -> String {
        "memory".into()
    }
}
