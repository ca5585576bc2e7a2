//! `full restore`: an archive, or parts of it, into a new folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::archives::{Listed, Place, State};
use super::extract::{Extracted, Wanted, extract};
use super::open::{Opened, refuse_unmarked};
use crate::clock::Clock;
use crate::crypto::Passphrase;
use crate::fs::{self, Dir};
use crate::full::Mark;
use crate::model::{FileError, RepoPath};
use crate::report::{Monitor, Phase};

/// What the folder is called until everything is in it.
const PARTIAL: &str = ".partial";
/// Names tried for it.
const ATTEMPTS: u32 = 1_000;

/// What to restore, and where to.
pub struct RestoreRequest {
    /// A folder that is not there yet, or is empty.
    pub target: PathBuf,
    /// Only these paths, as they are called in the archive; all when empty.
    pub paths: Vec<RepoPath>,
    /// An archive without a mark too.
    pub partial: bool,
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// Directories that nothing may be written to.
    pub forbidden: Vec<PathBuf>,
}

/// An archive that was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The archive.
    pub name: String,
    /// What is known of it.
    pub state: State,
    /// Its mark, if it has one.
    pub mark: Option<Box<Mark>>,
    /// Where it is.
    pub target: PathBuf,
    /// Files, further names of files included.
    pub files: u64,
    /// Folders.
    pub dirs: u64,
    /// Links and named pipes.
    pub others: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Devices, and links that lead out of the folder in archives that nobody vouches for.
    pub left_out: u64,
    /// The first paths that could not be written.
    pub errors: Vec<FileError>,
    /// How many there were.
    pub error_count: u64,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Restores an archive while it is read. It is in a folder called `.partial` until its last byte is known to be good;
/// should that not come, it stays there.
pub fn restore(
    place: &Place,
    listed: &Listed,
    request: &RestoreRequest,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Restored, Error> {
    let began = clock.monotonic();
    refuse_unmarked(place, listed, request.partial)?;
    refuse_own(request)?;
    let mut archive = Opened::new(place, listed, request.passphrase.as_ref(), monitor)?;
    let folder = Folder::new(&request.target)?;
    monitor.phase(Phase::Restore, listed.mark.as_ref().map(|mark| mark.bytes));
    let wanted = Wanted { paths: &request.paths, trusts_links: listed.mark.is_some() };
    let done = match extract(&mut archive, &folder.dir, &wanted, monitor.as_ref()) {
        Ok(done) => done,
        Err(source) => return Err(folder.leave(source)),
    };
    let missing = request.paths.iter().find(|path| !is_there(&folder.dir, path));
    if let Some(missing) = missing {
        let name = format!("{} in {}", missing, archive.name);
        return Err(folder.leave(Error::NotFound { name, place: place.name() }));
    }
    folder.finish()?;
    let taken = clock.monotonic().saturating_sub(began);
    let Extracted { files, dirs, others, bytes, left_out, errors, error_count } = done;
    Ok(Restored {
        name: archive.name,
        state: listed.state.clone(),
        mark: listed.mark.clone(),
        target: request.target.clone(),
        files,
        dirs,
        others,
        bytes,
        left_out,
        errors,
        error_count,
        duration_ms: u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
    })
}

fn is_there(root: &Dir, path: &RepoPath) -> bool {
    path.parent()
        .is_none_or(|parent| root.open_path(&parent).is_ok_and(|dir| dir.stat_at(path.name()).is_ok()))
}

/// Restoring into the repository that is read from would harm both.
fn refuse_own(request: &RestoreRequest) -> Result<(), Error> {
    let own: Vec<_> =
        request.forbidden.iter().filter_map(|p| fs::stat_path(p).ok()).map(|s| s.identity()).collect();
    let absolute = std::path::absolute(&request.target).unwrap_or_else(|_| request.target.clone());
    let inside =
        absolute.ancestors().filter_map(|p| fs::stat_path(p).ok()).any(|s| own.contains(&s.identity()));
    if inside { Err(Error::OwnDirectory(request.target.clone())) } else { Ok(()) }
}

/// The folder that is being filled.
struct Folder {
    target: PathBuf,
    above: Dir,
    partial: PathBuf,
    dir: Arc<Dir>,
}

fn name_of(path: &Path) -> io::Result<&[u8]> {
    use std::os::unix::ffi::OsStrExt;
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(name.as_bytes())
}

impl Folder {
    fn new(target: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Target { path: target.to_path_buf(), source };
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_private_dir_all(parent).map_err(failed)?;
        let above = Dir::open(parent).map_err(failed)?;
        // An empty one makes room; whatever else is there stays, and is told.
        match above.rmdir(name_of(target).map_err(failed)?) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return Err(Error::Occupied(target.to_path_buf())),
        }
        let (name, dir) = fresh(&above, name_of(target).map_err(failed)?).map_err(failed)?;
        let partial = parent.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name));
        Ok(Self { target: target.to_path_buf(), above, partial, dir: Arc::new(dir) })
    }

    /// Everything is in it.
    fn finish(self) -> Result<(), Error> {
        let failed = |source| Error::Target { path: self.target.clone(), source };
        self.dir.sync_file_system().map_err(failed)?;
        let names = (name_of(&self.partial).map_err(failed)?, name_of(&self.target).map_err(failed)?);
        self.above.rename_new_at(names.0, &self.above, names.1).map_err(failed)?;
        self.above.sync().map_err(failed)
    }

    /// It ends here; an empty folder is of no use to anybody.
    fn leave(self, source: Error) -> Error {
        match name_of(&self.partial).and_then(|name| self.above.rmdir(name)) {
            Ok(()) => source,
            Err(_) => Error::Cut { source: Box::new(source), partial: self.partial },
        }
    }
}

/// A folder under a name that says that it is not whole, beside its place.
fn fresh(above: &Dir, target: &[u8]) -> io::Result<(Vec<u8>, Dir)> {
    for number in 0..ATTEMPTS {
        let mut name = [target, PARTIAL.as_bytes()].concat();
        if number > 0 {
            name.extend_from_slice(format!("-{number}").as_bytes());
        }
        match above.create_dir(&name, 0o700) {
            Ok(()) => {
                let dir = above.open_dir(&name)?;
                return Ok((name, dir));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many folders called .partial are beside it"))
}
