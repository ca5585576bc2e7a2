//! A remote that rclone reaches.

use std::sync::Arc;

use super::{Fault, Listed, Remote, RemoteError, Verb};
use crate::clock::Clock;
use crate::rclone::Target;
use crate::report::Monitor;

/// Objects on any remote of rclone's.
pub struct Rclone {
    target: Target,
}

impl Rclone {
    /// A remote at `target`; rclone is started by the first request.
    #[must_use]
    pub fn new(target: Target, _monitor: Arc<dyn Monitor>, _clock: Arc<dyn Clock>) -> Self {
        Self { target }
    }

    fn missing<T>(&self, verb: Verb, name: &str) -> Result<T, RemoteError> {
        let message = "not in this build".to_string();
        Err(RemoteError::Service { verb, name: name.to_string(), message, fault: Fault::Setup })
    }
}

impl Remote for Rclone {
    fn get(&self, name: &str, _max: u64) -> Result<Vec<u8>, RemoteError> {
        self.missing(Verb::Get, name)
    }

    fn get_range(&self, name: &str, _offset: u64, _len: u64) -> Result<Vec<u8>, RemoteError> {
        self.missing(Verb::Get, name)
    }

    fn put(&self, name: &str, _bytes: &[u8]) -> Result<(), RemoteError> {
        self.missing(Verb::Put, name)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.missing(Verb::List, folder)
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.missing(Verb::Stat, name)
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.missing(Verb::Delete, name)
    }

    fn location(&self) -> String {
        self.target.display.clone()
    }
}
