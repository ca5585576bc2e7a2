//! `full export`: a snapshot of the repository as an archive.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::create::mark;
use super::links::Links;
use super::store::{Making, Storing};
use super::tape::{Given, Naming, Tally, Tape};
use crate::clock::Clock;
use crate::crypto::Passphrase;
use crate::format::marker_v1::Operation;
use crate::fs::TempFile;
use crate::full::tar::{Member, MemberKind};
use crate::full::{ArchiveForm, ArchiveName, Finished, Mark};
use crate::model::{Capture, Content, Entry, EntryKind, Slices, Snapshot};
use crate::ops::content;
use crate::repo::{BlobReader, ManifestReader, Repository, SharedIndex};
use crate::report::{Monitor, Phase};

/// Archives are for their owner only.
const MODE: u32 = 0o600;

/// What the name of a file ends with whose archive lacks something.
const PARTIAL: &str = ".partial";

/// Where an exported archive goes.
pub enum Target<'a> {
    /// Among the archives of the repository, with a mark.
    Repository,
    /// A new file.
    File(PathBuf),
    /// Whoever reads.
    Writer(&'a mut dyn Write),
}

/// What to export.
pub struct ExportRequest {
    /// The snapshot's record.
    pub snapshot: Snapshot,
    /// How its bytes are made.
    pub form: ArchiveForm,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// Threads that compress.
    pub threads: usize,
}

/// A snapshot that was exported.
#[derive(Debug, Clone)]
pub struct Exported {
    /// What the mark says, or would say.
    pub mark: Mark,
    /// Where it is, unless it went to a reader: a name in the repository, or a path. A file that is not complete is
    /// called `.partial`.
    pub place: Option<PathBuf>,
    /// Some of it is damaged in the repository.
    pub damaged: bool,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Streams a snapshot into an archive.
pub fn export(
    repository: &Repository,
    request: &ExportRequest,
    target: Target<'_>,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Exported, Error> {
    let began = clock.monotonic();
    let monitor = monitor.as_ref();
    let name = ArchiveName::new(request.snapshot.time, request.form);
    let (mark, place, damaged) = match target {
        Target::Repository => {
            repository.require(Operation::Write)?;
            // Its name is of now, its mark of the snapshot's time: what has an old name and no mark was given up.
            let (storing, upload) = Storing::begin(repository, monitor, clock.now(), request.form)?;
            let (finished, tally) = fill(repository, request, storing.name, upload, monitor)?;
            let (mark, damaged) = described(repository, request, storing.name, &finished, &tally)?;
            let place = PathBuf::from(format!("{}/{}", ArchiveName::FOLDER, storing.name));
            storing.finish(finished, &mark)?;
            (mark, Some(place), damaged)
        }
        Target::File(path) => {
            let (mark, damaged, path) = to_file(repository, request, name, &path, monitor)?;
            (mark, Some(path), damaged)
        }
        Target::Writer(out) => {
            let (mut finished, tally) = fill(repository, request, name, Given(out), monitor)?;
            finished.out.flush().map_err(Error::Output)?;
            let (mark, damaged) = described(repository, request, name, &finished, &tally)?;
            (mark, None, damaged)
        }
    };
    let taken = clock.monotonic().saturating_sub(began);
    let duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    Ok(Exported { mark, place, damaged, duration_ms })
}

/// The file has its name only when it is whole and complete; of another one, `.partial` at the end is what tells.
fn to_file(
    repository: &Repository,
    request: &ExportRequest,
    name: ArchiveName,
    path: &Path,
    monitor: &dyn Monitor,
) -> Result<(Mark, bool, PathBuf), Error> {
    let failed = |source: io::Error| Error::Target { path: path.to_path_buf(), source };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base = path.file_name().and_then(|base| base.to_str());
    let base = base.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let partial = format!("{base}{PARTIAL}");
    // Asked before anything is made, since nobody wants to hear of it hours later.
    for taken in [path.to_path_buf(), path.with_file_name(&partial)] {
        if taken.symlink_metadata().is_ok() {
            return Err(Error::Target { path: taken, source: io::ErrorKind::AlreadyExists.into() });
        }
    }
    let mut temporary = TempFile::new(folder).map_err(failed)?;
    let out: File = temporary.file().try_clone().map_err(failed)?;
    let (finished, tally) = fill(repository, request, name, Given(out), monitor).map_err(|e| match e {
        Error::Output(source) => failed(source),
        other => other,
    })?;
    let (mark, damaged) = described(repository, request, name, &finished, &tally)?;
    let base = if mark.complete && !damaged { base } else { partial.as_str() };
    temporary.persist_new(base, MODE).map_err(failed)?;
    Ok((mark, damaged, path.with_file_name(base)))
}

fn described<W>(
    repository: &Repository,
    request: &ExportRequest,
    name: ArchiveName,
    finished: &Finished<W>,
    tally: &Tally,
) -> Result<(Mark, bool), Error> {
    let snapshot = &request.snapshot;
    let mut mark = mark(repository, name, finished, tally, snapshot.time)?;
    mark.root.clone_from(&snapshot.root);
    mark.selection.clone_from(&snapshot.selection);
    mark.tags.clone_from(&snapshot.tags);
    mark.host.clone_from(&snapshot.host);
    mark.user.clone_from(&snapshot.user);
    // What was missing from the snapshot is missing from the archive.
    mark.complete &= snapshot.complete;
    if !snapshot.complete {
        let room = crate::format::limits::SNAPSHOT_ERRORS.saturating_sub(mark.errors.len());
        mark.errors.extend(snapshot.errors.iter().take(room).cloned());
        mark.error_count = mark.error_count.saturating_add(snapshot.error_count);
    }
    Ok((mark, tally.damaged))
}

fn fill<W: Write>(
    repository: &Repository,
    request: &ExportRequest,
    name: ArchiveName,
    out: W,
    monitor: &dyn Monitor,
) -> Result<(Finished<W>, Tally), Error> {
    if request.form == ArchiveForm::Openssl && request.passphrase.is_none() {
        return Err(Error::NoPassphrase("the archive".to_string()));
    }
    let making =
        Making { form: request.form, passphrase: request.passphrase.as_ref(), threads: request.threads };
    let words = name.to_string();
    let encoder = making.encoder(repository, out).map_err(|e| Error::of_container(&words, e))?;
    let root = PathBuf::from(std::ffi::OsStr::from_bytes(&request.snapshot.root));
    let parts = request.snapshot.selection.iter().any(|word| word.starts_with("include="));
    let naming = Naming::new(request.form, &root, !parts);
    let mut tape = Tape::new(encoder, words, naming, monitor);
    monitor.phase(Phase::Backup, Some(request.snapshot.stats.bytes));
    let loaded = SharedIndex::new(repository).get()?;
    let blobs = BlobReader::new(repository, &loaded.index);
    let mut reader = ManifestReader::new(&blobs, request.snapshot.manifest);
    let mut stored = Stored { tape: &mut tape, blobs: &blobs, links: Links::new() };
    while let Some(entry) = reader.next_entry()? {
        stored.entry(&entry)?;
    }
    tape.finish()
}

/// Puts entries of a snapshot onto a tape.
struct Stored<'a, 't, W: Write> {
    tape: &'t mut Tape<'a, W>,
    blobs: &'t BlobReader<'t>,
    /// Files with several names, by their groups.
    links: Links<u64, Content>,
}

impl<W: Write> Stored<'_, '_, W> {
    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let Some(name) = self.tape.naming.name(&entry.path) else { return Ok(()) };
        let kind = match &entry.kind {
            EntryKind::File(content) => return self.file(entry, name, content),
            EntryKind::Directory => MemberKind::Directory,
            EntryKind::Symlink(target) => MemberKind::Symlink(target.clone()),
            EntryKind::Fifo => MemberKind::Fifo,
            EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) => {
                let message = "is a device, which no archive holds: left out";
                self.tape.monitor.warning(Some(&entry.path), message);
                return Ok(());
            }
        };
        self.tape.begin(&entry.path, &member(entry, name, kind)).map(drop)
    }

    fn file(&mut self, entry: &Entry, name: Vec<u8>, content: &Content) -> Result<(), Error> {
        let alike = brief(content);
        if let Some(first) = self.links.further(&entry.link_group, &alike) {
            let kind = MemberKind::Hardlink(first);
            return self.tape.begin(&entry.path, &member(entry, name, kind)).map(drop);
        }
        let member = Member { size: content.size, ..member(entry, name.clone(), MemberKind::File) };
        if !self.tape.begin(&entry.path, &member)? {
            return Ok(());
        }
        let mut bytes = Bytes { tape: &mut *self.tape, fatal: None };
        let written = content::write_to(content, self.blobs, &mut bytes);
        if let Some(fatal) = bytes.fatal {
            return Err(fatal);
        }
        match written {
            Ok(()) => self.tape.end(&entry.path, "ends early in the repository")?,
            Err(content::Error::Repo(e)) if e.is_service_failure() => return Err(e.into()),
            Err(e) => {
                self.tape.tally.damaged = true;
                self.tape.end(&entry.path, &e.to_string())?;
            }
        }
        self.tape.tally.databases += u64::from(content.capture != Capture::Plain);
        if entry.link_group != 0 {
            // How many names its group has stands nowhere.
            self.links.first(entry.link_group, name, alike, u64::MAX);
        }
        Ok(())
    }
}

/// Content without its slices where a hash says as much: of a large file these take megabytes.
fn brief(content: &Content) -> Content {
    match content.hash {
        Some(_) => Content {
            size: content.size,
            slices: Slices::default(),
            hash: content.hash,
            capture: content.capture,
        },
        None => content.clone(),
    }
}

fn member(entry: &Entry, name: Vec<u8>, kind: MemberKind) -> Member {
    let meta = &entry.meta;
    // A further name of a file needs its attributes no second time.
    let xattrs = if matches!(kind, MemberKind::Hardlink(_)) { &[] } else { meta.xattrs.as_slice() };
    Member {
        mode: meta.mode,
        uid: meta.owner.uid.into(),
        gid: meta.owner.gid.into(),
        user: meta.owner.user.clone().into_bytes(),
        group: meta.owner.group.clone().into_bytes(),
        mtime: meta.mtime,
        xattrs: xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect(),
        ..Member::new(name, kind)
    }
}

/// Content onto a tape.
struct Bytes<'a, 't, W: Write> {
    tape: &'t mut Tape<'a, W>,
    fatal: Option<Error>,
}

impl<W: Write> Write for Bytes<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.tape.data(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.fatal = Some(error);
                Err(io::Error::other("the archive cannot be written"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
