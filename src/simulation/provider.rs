//! Storage as a service runs it: objects, what happened to them, and what is still on its way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::remote::{Listed, RemoteError};

/// Changes remembered for listings that lag behind.
const REMEMBERED: usize = 400;

/// An object's bytes; `None` where there is no object.
type Before = Option<Arc<[u8]>>;

/// A change of what is stored.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Put(String, Arc<[u8]>),
    Delete(String),
}

impl Effect {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Put(name, _) | Self::Delete(name) => name,
        }
    }
}

/// The objects, and what is needed to show them late.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    objects: BTreeMap<String, Arc<[u8]>>,
    /// Requests answered.
    calls: u64,
    /// For each change: when it was, and what was there before.
    past: Vec<(u64, String, Before)>,
    /// Changes that come into effect at a later request.
    coming: Vec<(u64, Effect)>,
}

impl Stored {
    /// A request has arrived: what was due by now has happened.
    pub(super) fn tick(&mut self) {
        self.calls += 1;
        self.land(self.calls);
    }

    fn land(&mut self, by: u64) {
        let (due, later) = std::mem::take(&mut self.coming).into_iter().partition(|(at, _)| *at <= by);
        self.coming = later;
        let due: Vec<(u64, Effect)> = due;
        due.iter().for_each(|(_, effect)| self.apply(effect));
    }

    pub(super) fn apply(&mut self, effect: &Effect) {
        let name = effect.name().to_string();
        let before = match effect {
            // What is there already may be written again: its name is fresh, or a hash of its bytes.
            Effect::Put(_, bytes) => self.objects.insert(name.clone(), Arc::clone(bytes)),
            Effect::Delete(_) => self.objects.remove(&name),
        };
        self.past.push((self.calls, name, before));
        if self.past.len() > REMEMBERED {
            self.past.remove(0);
        }
    }

    /// Lets a change happen so many requests from now; `u64::MAX` for when everything settles.
    pub(super) fn postpone(&mut self, requests: u64, effect: Effect) {
        self.coming.push((self.calls.saturating_add(requests), effect));
    }

    pub(super) fn get(&self, name: &str) -> Result<Arc<[u8]>, RemoteError> {
        self.objects.get(name).cloned().ok_or_else(|| RemoteError::NotFound { name: name.to_string() })
    }

    /// A folder as it was so many requests ago.
    pub(super) fn listed(&self, folder: &str, ago: u64) -> Vec<Listed> {
        let prefix = format!("{folder}/");
        let mut found: BTreeMap<&str, u64> = self
            .objects
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(name, bytes)| (name.as_str(), bytes.len() as u64))
            .collect();
        let since = self.calls.saturating_sub(ago);
        for (at, name, before) in self.past.iter().rev() {
            // This request is itself counted already.
            if *at < since || ago == 0 {
                break;
            }
            if name.starts_with(&prefix) {
                match before {
                    Some(bytes) => found.insert(name, bytes.len() as u64),
                    None => found.remove(name.as_str()),
                };
            }
        }
        found.into_iter().map(|(name, size)| Listed { name: name.to_string(), size }).collect()
    }
}

/// A storage service.
#[derive(Default)]
pub(super) struct Provider {
    stored: Mutex<Stored>,
}

impl Provider {
    pub(super) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything as it is, to come back to.
    pub(super) fn save(&self) -> Stored {
        self.stored().clone()
    }

    pub(super) fn load(&self, stored: &Stored) {
        *self.stored() = stored.clone();
    }

    /// Lets everything arrive that is on its way.
    pub(super) fn settle(&self) {
        self.stored().land(u64::MAX);
    }

    /// Names of a folder's objects.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        self.stored().listed(folder, 0).into_iter().map(|listed| listed.name).collect()
    }

    /// Removes an object behind everybody's back.
    pub(super) fn remove(&self, name: &str) -> Option<Arc<[u8]>> {
        self.stored().objects.remove(name)
    }

    /// Another past: these are the objects, and nothing is on its way.
    pub(super) fn replace(&self, objects: BTreeMap<String, Arc<[u8]>>) {
        *self.stored() = Stored { objects, ..Stored::default() };
    }

    /// Puts an object there behind everybody's back.
    pub(super) fn plant(&self, name: &str, bytes: &[u8]) {
        self.stored().objects.insert(name.to_string(), bytes.into());
    }

    /// All names.
    pub(super) fn all(&self) -> Vec<String> {
        self.stored().objects.keys().cloned().collect()
    }
}
