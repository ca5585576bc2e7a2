//! Folders for probes, beside the objects of a repository. Each run has one of its own in a folder that
//! no repository uses, and takes it away again.

use std::sync::Arc;
use std::time::Duration;

use super::Location;
use crate::clock::Clock;
use crate::crypto::{self, CryptoError};
use crate::fs;
use crate::rclone::{self, Environment};
use crate::remote::{Local, Rclone, Remote};
use crate::report::Monitor;

/// The folder of all probes.
const FOLDER: &str = "doctor";
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A folder that nobody has used yet.
pub(super) fn fresh() -> Result<String, CryptoError> {
    let name = crypto::random::<8>()?;
    Ok(format!("{FOLDER}/{}", data_encoding::HEXLOWER.encode(&name)))
}

/// A remote in a folder below the repository's.
pub(super) fn below(
    location: &Location,
    folder: &str,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn Remote> {
    match location {
        Location::Local(path) => Arc::new(Local::new(path.join(folder))),
        Location::Rclone(target) => {
            Arc::new(Rclone::new(target.below(folder), Arc::clone(monitor), Arc::clone(clock)))
        }
    }
}

/// Takes away the folders that are empty: they are no objects, but nobody wants to find them.
pub(super) fn remove_folders(location: &Location) {
    match location {
        Location::Local(path) => drop(fs::remove_empty_dirs(&path.join(FOLDER))),
        Location::Rclone(target) => {
            let environment = Environment::new(fs::inherited_variables());
            let place = format!("{}{FOLDER}", rclone::REMOTE);
            let arguments = ["rmdirs", place.as_str()];
            drop(rclone::command(target, &environment, &arguments, b"", COMMAND_LIMIT));
        }
    }
}
