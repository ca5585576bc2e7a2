//! Runs the use cases.

use std::io::Write;

use super::requests::*;
use super::{AppError, BackupOutcome, CheckOutcome, Passphrase, RestoreOutcome, ScryptParams};
use crate::crypto;
use crate::model::{Entry, RepositoryId};
use crate::ops::select;
use crate::remote::RequestCounts;
use crate::repo::KeyInfo;

fn stub<T>() -> Result<T, AppError> {
    Err(AppError::Select(select::Error::Empty))
}

/// Makes a repository.
pub fn init(_session: &Session, _request: &InitRequest) -> Result<RepositoryId, AppError> {
    stub()
}
/// Takes a snapshot.
pub fn backup(_session: &Session, _request: &BackupRequest) -> Result<BackupOutcome, AppError> {
    stub()
}
/// Lists snapshots, oldest first.
pub fn snapshots(_session: &Session, _safety: bool) -> Result<Vec<SnapshotInfo>, AppError> {
    stub()
}
/// Calls `each` for every entry asked for.
pub fn ls(
    _session: &Session,
    _request: &LsRequest,
    _each: &mut dyn FnMut(&Entry) -> std::io::Result<()>,
) -> Result<SnapshotInfo, AppError> {
    stub()
}
/// Writes one file's content.
pub fn cat(
    _session: &Session,
    _snapshot: &str,
    _path: &crate::model::RepoPath,
    _out: &mut dyn Write,
) -> Result<(), AppError> {
    stub()
}
/// Puts a snapshot back.
pub fn restore(
    _session: &Session,
    _request: &RestoreRequest,
) -> Result<(SnapshotInfo, RestoreOutcome), AppError> {
    stub()
}
/// Checks a repository.
pub fn check(_session: &Session, _request: &CheckRequest) -> Result<CheckOutcome, AppError> {
    stub()
}
/// Sizes.
pub fn stats(_session: &Session) -> Result<StatsOutcome, AppError> {
    stub()
}
/// Lists keys.
pub fn key_list(_session: &Session) -> Result<Vec<KeyInfo>, AppError> {
    stub()
}
/// Adds a key for a new passphrase.
pub fn key_add(
    _session: &Session,
    _new: &Passphrase,
    _params: ScryptParams,
    _label: &str,
) -> Result<KeyOutcome, AppError> {
    stub()
}
/// Removes a key by id or a unique beginning of it.
pub fn key_remove(_session: &Session, _id: &str) -> Result<KeyOutcome, AppError> {
    stub()
}
/// Replaces the key in use by one for a new passphrase.
pub fn key_change(
    _session: &Session,
    _new: &Passphrase,
    _params: ScryptParams,
) -> Result<KeyOutcome, AppError> {
    stub()
}
/// Whether there is a repository; for choosing between a first run and an error.
pub fn probe(_location: &Location) -> Result<bool, AppError> {
    let _ = (crypto::sha256, RequestCounts::default);
    stub()
}
