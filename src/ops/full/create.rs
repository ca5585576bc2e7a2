//! `full create`: a live directory into an archive of the repository.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;
use super::live::Live;
use super::store::{Making, Storing, Upload};
use super::tape::{Naming, Tally, Tape};
use crate::clock::Clock;
use crate::crypto::Passphrase;
use crate::format::marker_v1::Operation;
use crate::fs;
use crate::full::{ArchiveForm, ArchiveName, Finished, Mark};
use crate::gather::TreeWalk;
use crate::model::Timestamp;
use crate::ops::backup::{self, Selection, Source};
use crate::remote::{Counting, RequestCounts};
use crate::repo::{PackerOptions, Repository};
use crate::report::{Monitor, Phase};

/// What to put into an archive.
pub struct CreateRequest {
    /// The directory.
    pub root: PathBuf,
    /// What of it.
    pub selection: Selection,
    /// Labels.
    pub tags: Vec<String>,
    /// How its bytes are made.
    pub form: ArchiveForm,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// Threads that compress.
    pub threads: usize,
}

/// An archive that was stored.
#[derive(Debug, Clone)]
pub struct Created {
    /// What its mark says.
    pub mark: Mark,
    /// Databases in it.
    pub databases: u64,
    /// Requests made to the remote.
    pub requests: RequestCounts,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Streams a directory to the repository. Nothing is written to this machine's disk, and memory does not follow the
/// size of the directory. `counting` is the remote of `repository`.
pub fn create(
    repository: &Repository,
    counting: &Counting,
    request: &CreateRequest,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Created, Error> {
    repository.require(Operation::Write)?;
    let (time, began) = (clock.now(), clock.monotonic());
    let source = prepare(repository, request)?;
    let making =
        Making { form: request.form, passphrase: request.passphrase.as_ref(), threads: request.threads };
    if request.form == ArchiveForm::Openssl && making.passphrase.is_none() {
        return Err(Error::NoPassphrase("the archive".to_string()));
    }
    monitor.phase(Phase::Backup, None);
    let (storing, upload) = Storing::begin(repository, monitor.as_ref(), time, request.form)?;
    let (finished, tally) =
        fill(repository, &source, request, &making, (storing.name, upload), monitor.as_ref())?;
    monitor.phase(Phase::Publish, None);
    let mut mark = mark(repository, storing.name, &finished, &tally, time)?;
    mark.root = source.root().as_os_str().as_bytes().to_vec();
    mark.selection = source.words().to_vec();
    mark.tags = sorted(&request.tags);
    mark.host = fs::hostname();
    mark.user = fs::user_name();
    storing.finish(finished, &mark)?;
    let taken = clock.monotonic().saturating_sub(began);
    Ok(Created {
        mark,
        databases: tally.databases,
        requests: counting.counts(),
        duration_ms: u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
    })
}

fn prepare(repository: &Repository, request: &CreateRequest) -> Result<Source, Error> {
    let backup = backup::Request {
        selection: request.selection.clone(),
        ..backup::Request::new(request.root.clone(), PackerOptions::new(request.threads))
    };
    Ok(Source::prepare(repository, &backup)?)
}

/// Streams everything. Whatever ends it early drops the upload before anything of it is taken back.
fn fill(
    repository: &Repository,
    source: &Source,
    request: &CreateRequest,
    making: &Making<'_>,
    (name, upload): (ArchiveName, Upload),
    monitor: &dyn Monitor,
) -> Result<(Finished<Upload>, Tally), Error> {
    let name = name.to_string();
    let encoder = making.encoder(repository, upload).map_err(|e| Error::of_container(&name, e))?;
    let naming = Naming::new(request.form, source.root(), request.selection.include.is_empty());
    let mut tape = Tape::new(encoder, name, naming, monitor);
    let mut walk = TreeWalk::of(Arc::clone(source.dir()), source.options().clone())
        .map_err(|e| Error::Backup(backup::Error::Root { path: request.root.clone(), source: e }))?;
    Live::new(&mut tape, source.root()).run(&mut walk)?;
    tape.finish()
}

/// The mark of an archive, without what only the caller knows.
pub(super) fn mark<W>(
    repository: &Repository,
    name: ArchiveName,
    finished: &Finished<W>,
    tally: &Tally,
    time: Timestamp,
) -> Result<Mark, Error> {
    Ok(Mark {
        name,
        size: finished.size,
        sha256: finished.sha256,
        time,
        host: String::new(),
        user: String::new(),
        program: concat!("exuvia ", env!("CARGO_PKG_VERSION")).to_string(),
        writer: repository.cache().writer()?,
        root: Vec::new(),
        selection: Vec::new(),
        tags: Vec::new(),
        members: tally.members,
        files: tally.files,
        bytes: tally.bytes,
        tar_bytes: finished.tar_bytes,
        complete: tally.error_count == 0,
        errors: tally.errors.clone(),
        error_count: tally.error_count,
    })
}

fn sorted(tags: &[String]) -> Vec<String> {
    let mut tags = tags.to_vec();
    tags.sort();
    tags.dedup();
    tags
}
