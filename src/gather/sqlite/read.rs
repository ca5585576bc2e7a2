//! Asking a live database questions.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::CaptureError;
use super::capture::{Shm, classify, exists, pin, resolve};
use super::stamp::{regular, with_suffix};

/// How long to wait for a lock.
const PATIENCE: Duration = Duration::from_secs(2);

/// Calls `ask` with a read-only connection within one transaction; nothing of the database changes. Views,
/// triggers and functions with effects are out of force.
///
/// # Errors
///
/// When the database cannot be opened or `ask` fails.
pub fn read<T>(path: &Path, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, CaptureError> {
    let path = resolve(path)?;
    regular(&path).map_err(CaptureError::Io)?;
    exists(&with_suffix(&path, "-journal"))?;
    let shm = if exists(&with_suffix(&path, "-shm"))? { Shm::ReadOnly } else { Shm::Absent };
    let source = pin(&path, shm, PATIENCE).map_err(|e| classify(&path, e))?;
    ask(&source).map_err(|e| classify(&path, e))
}
