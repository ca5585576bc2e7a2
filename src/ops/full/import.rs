//! `full import`: archives as snapshots of the repository, each with its time, so that what they have in common is
//! stored once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::archives::{Listed, Place};
use super::extract::{Wanted, extract};
use super::open::{Opened, refuse_unmarked};
use crate::clock::Clock;
use crate::crypto::{Passphrase, sha256};
use crate::format::marker_v1::Operation;
use crate::fs::{self, Dir, FileKind};
use crate::full::ArchiveName;
use crate::model::{Classify, ErrorClass, ObjectId, Reason, SnapshotKind};
use crate::ops::backup::{self, Origin, ProfileChoice, Selection};
use crate::ops::drill::Scratch;
use crate::remote::Counting;
use crate::repo::{Catalog, PackerOptions, Repository};
use crate::report::Monitor;

/// What says of a snapshot that it was an archive; which one stands in a second label, with a fingerprint.
const TAG: &str = "imported";
const TAG_OF: &str = "archive=";
/// Bytes of a fingerprint: too many for two archives of one name to have the same by chance.
const FINGERPRINT: usize = 8;

/// What to import.
pub struct ImportRequest {
    /// The archives, oldest first.
    pub archives: Vec<Listed>,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// The folder in which one archive at a time is laid down.
    pub scratch: PathBuf,
    /// The directory that archives without a mark are taken to be of.
    pub state_dir: PathBuf,
    /// How to pack.
    pub packer: PackerOptions,
}

/// An archive that is a snapshot now.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The archive.
    pub name: ArchiveName,
    /// The snapshot.
    pub snapshot: ObjectId,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that were stored for it.
    pub added: u64,
    /// False when something was missing from it.
    pub complete: bool,
}

/// What became of archives.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// Those that were imported now.
    pub imported: Vec<Imported>,
    /// Those that were imported before.
    pub known: Vec<ArchiveName>,
    /// Those that could not be: why, and what class of error that is.
    pub failed: Vec<(ArchiveName, String, ErrorClass)>,
}

/// Imports archives, one after the other. Those that were imported already are passed over, so that this may be
/// interrupted and begun again. `counting` is the remote of `repository`.
pub fn import(
    repository: &Repository,
    counting: &Counting,
    place: &Place,
    request: &ImportRequest,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Passed, Error> {
    repository.require(Operation::Write)?;
    repository.require_owner()?;
    let known = known(repository)?;
    let mut passed = Passed::default();
    for listed in &request.archives {
        if known.contains(&label(place, listed)) {
            passed.known.push(listed.name);
            continue;
        }
        let one = Importing { repository, counting, place, request, monitor, clock };
        match one.run(listed) {
            Ok(imported) => passed.imported.push(imported),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            // What is wrong with one archive is no reason to leave the others.
            Err(error) => {
                monitor.warning(None, &format!("{} was not imported: {error}", listed.name));
                passed.failed.push((listed.name, error.to_string(), error.class()));
            }
        }
    }
    Ok(passed)
}

/// Names are only of a second: archives of several machines share them. The SHA-256 of the stored bytes tells them
/// apart, as far as a mark says it; to hash an archive without one takes as long as to import it, so that of these it
/// is place and size.
fn label(place: &Place, listed: &Listed) -> String {
    let hash = match &listed.mark {
        Some(mark) => mark.sha256,
        None => sha256(format!("{}\0{}", place.name(), listed.size).as_bytes()),
    };
    let print = data_encoding::HEXLOWER.encode(hash.get(..FINGERPRINT).unwrap_or(&hash));
    format!("{TAG_OF}{}#{print}", listed.name)
}

/// The labels of the archives that were imported.
fn known(repository: &Repository) -> Result<BTreeSet<String>, Error> {
    let mut known = BTreeSet::new();
    for entry in Catalog::load(repository, SnapshotKind::Regular)?.entries() {
        match repository.snapshot(entry) {
            Ok(snapshot) if snapshot.tags.iter().any(|tag| tag == TAG) => {
                known.extend(snapshot.tags.into_iter().filter(|tag| tag.starts_with(TAG_OF)));
            }
            Ok(_) => {}
            Err(e) if e.is_service_failure() => return Err(e.into()),
            // A damaged record is told of elsewhere; at worst an archive is imported again.
            Err(_) => {}
        }
    }
    Ok(known)
}

struct Importing<'a> {
    repository: &'a Repository,
    counting: &'a Counting,
    place: &'a Place,
    request: &'a ImportRequest,
    monitor: &'a Arc<dyn Monitor>,
    clock: &'a Arc<dyn Clock>,
}

impl Importing<'_> {
    fn run(&self, listed: &Listed) -> Result<Imported, Error> {
        refuse_unmarked(self.place, listed, false)?;
        let request = self.request;
        let needed = listed.mark.as_ref().map_or(listed.size, |mark| mark.bytes);
        let scratch = Scratch::new(&request.scratch, &request.state_dir, needed, self.monitor.as_ref())?;
        let result = self.through(listed, &scratch.path);
        let removed = scratch.remove();
        let imported = result?;
        removed?;
        Ok(imported)
    }

    fn through(&self, listed: &Listed, scratch: &Path) -> Result<Imported, Error> {
        let failed = |source| Error::Target { path: scratch.to_path_buf(), source };
        // Below the scratch folder, which stays closed whatever the modes in the archive are.
        let tree = scratch.join("tree");
        fs::create_private_dir_all(&tree).map_err(failed)?;
        let root = Arc::new(Dir::open(&tree).map_err(failed)?);
        let passphrase = self.request.passphrase.as_ref();
        let mut archive = Opened::new(self.place, listed, passphrase, self.monitor)?;
        let wanted = Wanted { paths: &[], trusts_links: true };
        let done = extract(&mut archive, &root, &wanted, self.monitor.as_ref())?;
        drop(archive);
        if let Some(first) = done.errors.first() {
            // A snapshot that lacks what the archive has would pass for it.
            let what = format!("cannot be laid down whole: {}: {}", first.path, first.message);
            return Err(Error::NotWhole { name: listed.name.to_string(), what });
        }
        let root = self.root_of(listed, &root).map_or_else(|| tree.clone(), |name| tree.join(name));
        self.snapshot(listed, root)
    }

    /// The folder in an archive that is its directory itself, where names begin with that.
    fn root_of(&self, listed: &Listed, tree: &Dir) -> Option<PathBuf> {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let [only] = tree.list().ok()?.try_into().ok()?;
        let only: Vec<u8> = only;
        let root = match &listed.mark {
            Some(mark) => PathBuf::from(std::ffi::OsStr::from_bytes(&mark.root)),
            None => self.request.state_dir.clone(),
        };
        let sealed = listed.name.form() == crate::full::ArchiveForm::Sealed;
        let is_root = !sealed && root.file_name().is_some_and(|name| name.as_bytes() == only.as_slice());
        let is_dir = tree.stat_at(&only).is_ok_and(|stat| stat.kind == FileKind::Directory);
        (is_root && is_dir).then(|| PathBuf::from(std::ffi::OsString::from_vec(only)))
    }

    fn origin(&self, listed: &Listed) -> Origin {
        use std::os::unix::ffi::OsStrExt;
        match &listed.mark {
            Some(mark) => Origin {
                time: mark.time,
                host: mark.host.clone(),
                user: mark.user.clone(),
                root: mark.root.clone(),
                selection: mark.selection.clone(),
                errors: mark.errors.clone(),
                error_count: mark.error_count,
            },
            // Its name tells its time; it is taken to be of this machine, whose history it becomes.
            None => Origin {
                time: listed.name.time(),
                host: fs::hostname(),
                user: fs::user_name(),
                root: self.request.state_dir.as_os_str().as_bytes().to_vec(),
                selection: vec!["profile=none".to_string()],
                errors: Vec::new(),
                error_count: 0,
            },
        }
    }

    fn snapshot(&self, listed: &Listed, root: PathBuf) -> Result<Imported, Error> {
        let mut tags = listed.mark.as_ref().map(|mark| mark.tags.clone()).unwrap_or_default();
        tags.extend([TAG.to_string(), label(self.place, listed)]);
        let backup = backup::Request {
            selection: Selection { profile: ProfileChoice::None, ..Selection::default() },
            tags,
            reason: Reason::Manual,
            alarm: None,
            origin: Some(self.origin(listed)),
            ..backup::Request::new(root, self.request.packer)
        };
        let catalog = Catalog::load(self.repository, SnapshotKind::Regular)?;
        let outcome =
            backup::run(self.repository, &catalog, self.counting, &backup, self.monitor, self.clock)?;
        let snapshot = outcome.id.ok_or_else(|| Error::NotWhole {
            name: listed.name.to_string(),
            what: "made no snapshot".to_string(),
        })?;
        Ok(Imported {
            name: listed.name,
            snapshot,
            files: outcome.snapshot.stats.files,
            bytes: outcome.snapshot.stats.bytes,
            added: outcome.snapshot.stats.bytes_added_stored,
            complete: outcome.snapshot.complete,
        })
    }
}
