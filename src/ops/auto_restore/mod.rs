//! `auto-restore`: a state dir that is missing, or as empty as a fresh install leaves it, gets its newest
//! snapshot; any other is left alone.
//!
//! The order, and what a run finds that comes after one that was cut off at that point:
//!
//! 1. The state dir is locked and looked at. Is it in use, a marker says so once and for all, so that
//!    one that is emptied on purpose later stays empty.
//! 2. The marker says `restoring`. The tree is written to a folder of ours within the state dir, every
//!    byte is read again, every database checked, paths are changed to the new place. *Cut off here: the
//!    tree is thrown away and written anew, unless somebody has used the state dir since.*
//! 3. What a fresh install has left is set aside. *Cut off here: the same.*
//! 4. The marker says `placing`: the tree is complete and on stable storage. Its parts are renamed into
//!    their places. *Cut off here: the renaming goes on; the repository is not needed.*
//! 5. The marker says `restored`.
//!
//! When a step fails, all before it is undone, and the state dir is as empty as it was, to be tried
//! again. What an application makes that starts meanwhile is set aside too: the decision was made in 1.
//! Nothing is ever deleted that this program has not written.

mod choice;
mod marker;
mod site;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::choice::{Choice, Fit};
use self::marker::Marker;
pub use self::marker::{FOLDER, Stage};
use self::site::Finding;
pub use self::site::Site;
use super::relocate::{self, Mapping, Relocated};
use super::restore;
use crate::clock::Clock;
use crate::fs::{self, Dir};
use crate::gather::Profile;
use crate::gather::openclaw::Sign;
use crate::model::{Classify, ErrorClass, FileError};
use crate::repo::{RepoError, Repository};
use crate::report::Monitor;

/// Why a state dir is to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// There is nothing in it.
    Empty,
    /// There is nothing in it but what a fresh install creates.
    FreshInstall,
    /// An earlier run had it complete and was cut off before all was in place.
    CutOff,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The state dir is in use.
    InUse(Sign),
    /// An earlier run has decided: how, and when (RFC 3339).
    Decided(Stage, String),
    /// The repository has no complete snapshot of such a state dir.
    NoSnapshot,
}

/// What was done.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing.
    Left(Left),
    /// It was restored, or for a dry run would be.
    Restored {
        /// Why.
        reason: Reason,
        /// From what; not known any more after a run that was cut off.
        choice: Option<Box<Choice>>,
        /// What was written.
        restored: Box<restore::Outcome>,
        /// Paths that were changed to the new place.
        relocated: Vec<Relocated>,
        /// What was in the way: where it was, and where it is.
        set_aside: Vec<(PathBuf, PathBuf)>,
    },
}

/// What an auto-restore came to.
#[derive(Debug)]
pub struct Outcome {
    /// The state dir.
    pub state_dir: PathBuf,
    /// What was done.
    pub verdict: Verdict,
}

/// Why the state dir is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state dir cannot be used.
    #[error("cannot use {path}: {source}")]
    StateDir {
        /// It, or our folder in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The marker of an earlier run makes no sense.
    #[error("{path} is not a marker of this version: {message}")]
    Marker {
        /// It.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Part of the state dir is on another file system.
    #[error("{path} is a mount point within the state dir: nothing can be put in its place")]
    MountPoint {
        /// It.
        path: PathBuf,
    },
    /// Some files could not be restored.
    #[error("{} could not be restored: {}: {}; the state dir is as it was", count(.errors.len()), first(.errors).0, first(.errors).1)]
    Files {
        /// All of them.
        errors: Vec<FileError>,
        /// Some because the repository is damaged.
        damaged: bool,
    },
    /// Something could not be put in its place.
    #[error("cannot put {path} in place: {source}")]
    Place {
        /// The place.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The restore failed.
    #[error(transparent)]
    Restore(#[from] restore::Error),
    /// Paths could not be changed to the new place.
    #[error(transparent)]
    Relocate(#[from] relocate::Error),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

fn count(files: usize) -> String {
    if files == 1 { "a path".to_owned() } else { format!("{files} paths") }
}

fn first(errors: &[FileError]) -> (String, &str) {
    errors.first().map_or((String::new(), ""), |e| (e.path.to_string(), &e.message))
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::StateDir { .. } | Self::Marker { .. } | Self::MountPoint { .. } | Self::Place { .. } => {
                ErrorClass::Failed
            }
            Self::Files { damaged: true, .. } => ErrorClass::Damaged,
            Self::Files { .. } => ErrorClass::Failed,
            Self::Restore(e) => e.class(),
            Self::Relocate(e) => e.class(),
            Self::Repo(e) => e.class(),
        }
    }
}

/// What to do.
pub struct Request {
    /// The state dir.
    pub state_dir: PathBuf,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Change absolute paths to the new place.
    pub relocate: bool,
    /// Restore owner and group.
    pub owner: bool,
    /// Worker threads.
    pub threads: usize,
}

/// What a look at the state dir came to.
pub enum Look {
    /// There is no more to be done.
    Done(Outcome),
    /// The repository is needed; with the state dir, unless it is missing.
    Restore(Option<Site>),
}

/// Looks at the state dir, which takes no repository, and finishes what an earlier run has left. Waits
/// while another run is at work there.
pub fn look(request: &Request, monitor: &dyn Monitor, clock: &dyn Clock) -> Result<Look, Error> {
    let Some(site) = Site::open(&request.state_dir, monitor)? else { return Ok(Look::Restore(None)) };
    Ok(match settle(&site, request, monitor, clock)? {
        Settled::Done(outcome) => Look::Done(outcome),
        Settled::Open(..) => Look::Restore(Some(site)),
    })
}

enum Settled {
    Done(Outcome),
    Open(Reason, Option<Marker>),
}

fn settle(
    site: &Site,
    request: &Request,
    monitor: &dyn Monitor,
    clock: &dyn Clock,
) -> Result<Settled, Error> {
    let done = |verdict| Ok(Settled::Done(Outcome { state_dir: site.path().to_path_buf(), verdict }));
    match site.finding()? {
        Finding::Decided(marker) => done(Verdict::Left(Left::Decided(marker.stage, marker.time))),
        Finding::InUse(sign) => {
            if !request.dry_run {
                // Whatever is in the tree of a run that was cut off, nobody has used it.
                let marked = site.remove_tree().and_then(|()| marker(Stage::InUse, clock).write(site.path()));
                if let Err(e) = marked {
                    monitor.warning(None, &format!("this will be decided again next time: {e}"));
                }
            }
            done(Verdict::Left(Left::InUse(sign)))
        }
        Finding::HalfPlaced(marker) => {
            if !request.dry_run {
                conclude(site, marker.clone(), monitor, clock)?;
            }
            done(Verdict::Restored {
                reason: Reason::CutOff,
                choice: None,
                restored: Box::default(),
                relocated: Vec::new(),
                set_aside: site.set_aside(&marker),
            })
        }
        Finding::Restore(reason, marker) => Ok(Settled::Open(reason, marker)),
    }
}

fn marker(stage: Stage, clock: &dyn Clock) -> Marker {
    Marker::new(stage, instant(clock).to_string())
}

fn instant(clock: &dyn Clock) -> jiff::Timestamp {
    jiff::Timestamp::from_second(clock.now().secs).unwrap_or_default()
}

/// Restores a state dir that [`look`] found to be missing or empty.
pub fn run(
    repository: &Repository,
    request: &Request,
    site: Option<Site>,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Outcome, Error> {
    let path = fs::resolve(&request.state_dir);
    let profile = site.as_ref().map_or_else(|| Profile::of_name(&path), Site::profile);
    let Some(choice) = choice::choose(repository, &path, profile, monitor.as_ref())? else {
        return Ok(Outcome { state_dir: path, verdict: Verdict::Left(Left::NoSnapshot) });
    };
    let site = match site {
        Some(site) => site,
        None if request.dry_run => {
            let verdict =
                restored(Reason::Missing, choice, restore::Outcome::default(), Vec::new(), Vec::new());
            return Ok(Outcome { state_dir: path, verdict });
        }
        None => Site::make(&path, monitor.as_ref())?,
    };
    // Another run may have been faster while this one opened the repository.
    let (reason, earlier) = match settle(&site, request, monitor.as_ref(), clock.as_ref())? {
        Settled::Done(outcome) => return Ok(outcome),
        Settled::Open(reason, earlier) => (reason, earlier),
    };
    if request.dry_run {
        let verdict = restored(reason, choice, restore::Outcome::default(), Vec::new(), Vec::new());
        return Ok(Outcome { state_dir: path, verdict });
    }
    let mut marker = marker(Stage::Restoring, clock.as_ref());
    marker.snapshot = Some(choice.id.to_string());
    let earlier = earlier.map_or((None, 0), |earlier| (earlier.aside, earlier.made));
    let name = || format!("set-aside-{}", instant(clock.as_ref()).strftime("%Y%m%dT%H%M%SZ"));
    marker.aside = Some(earlier.0.unwrap_or_else(name));
    marker.made = site.made().max(earlier.1);
    let brought = site.refuse_mounts().and_then(|()| {
        site.remove_tree()?;
        marker.write(site.path())?;
        bring(repository, request, &choice, &site, monitor, clock)
    });
    let placed = brought.and_then(|(outcome, relocated)| {
        place(&site, &mut marker, monitor.as_ref(), clock.as_ref())?;
        Ok((outcome, relocated))
    });
    match placed {
        Ok((outcome, relocated)) => {
            let set_aside = site.set_aside(&marker);
            Ok(Outcome { state_dir: path, verdict: restored(reason, choice, outcome, relocated, set_aside) })
        }
        Err(error) => {
            // Not where what is in place could not be brought back: the next run goes on from there.
            if marker.stage == Stage::Restoring {
                site.give_up(&marker, monitor.as_ref());
            }
            Err(error)
        }
    }
}

fn restored(
    reason: Reason,
    choice: Choice,
    restored: restore::Outcome,
    relocated: Vec<Relocated>,
    set_aside: Vec<(PathBuf, PathBuf)>,
) -> Verdict {
    let (choice, restored) = (Some(Box::new(choice)), Box::new(restored));
    Verdict::Restored { reason, choice, restored, relocated, set_aside }
}

/// Writes the tree, as it is to be in its place, and makes it durable.
fn bring(
    repository: &Repository,
    request: &Request,
    choice: &Choice,
    site: &Site,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<(restore::Outcome, Vec<Relocated>), Error> {
    let tree = site.tree();
    let restore = restore::Request {
        id: choice.id,
        snapshot: choice.snapshot.clone(),
        target: tree.clone(),
        paths: Vec::new(),
        dry_run: false,
        verify: true,
        owner: request.owner,
        set_id: false,
        devices: false,
        threads: request.threads,
    };
    let outcome = restore::run_as(repository, &restore, site.path(), monitor, clock)?;
    if !outcome.errors.is_empty() {
        return Err(Error::Files { errors: outcome.errors, damaged: outcome.damaged });
    }
    let relocated = match Mapping::new(&choice.snapshot.root, site.path()) {
        Some(mapping) if request.relocate => relocated(&tree, choice, &mapping, monitor.as_ref())?,
        _ => Vec::new(),
    };
    Ok((outcome, relocated))
}

fn relocated(
    tree: &Path,
    choice: &Choice,
    mapping: &Mapping,
    monitor: &dyn Monitor,
) -> Result<Vec<Relocated>, Error> {
    let failed = |source| Error::StateDir { path: tree.to_path_buf(), source };
    let dir = Dir::open(tree).map_err(failed)?;
    let recorded = choice.snapshot.selection.iter().any(|word| word == "profile=openclaw");
    let profile = if recorded { Profile::OpenClaw } else { Profile::detect(&dir) };
    let relocated = relocate::run(tree, profile, mapping, monitor)?;
    dir.sync_file_system().map_err(failed)?;
    Ok(relocated)
}

/// Puts the tree into its place, or nothing of it.
fn place(site: &Site, marker: &mut Marker, monitor: &dyn Monitor, clock: &dyn Clock) -> Result<(), Error> {
    let failed = |source| Error::StateDir { path: site.tree(), source };
    let root = fs::stat_path(&site.tree()).map_err(failed)?;
    marker.root = Some((root.mode, root.mtime.secs, root.mtime.nanos));
    marker.closed = site.closed()?;
    let names = site.tree_names()?;
    site.clear(marker)?;
    marker.stage = Stage::Placing;
    if let Err(error) = marker.write(site.path()) {
        marker.stage = Stage::Restoring;
        return Err(error);
    }
    let concluded = conclude(site, marker.clone(), monitor, clock);
    if concluded.is_err() {
        let mut back = marker.clone();
        back.stage = Stage::Restoring;
        match site.unplace(&names).map_err(failed).and_then(|()| back.write(site.path())) {
            Ok(()) => *marker = back,
            Err(e) => monitor.warning(None, &format!("the next auto-restore will go on with this: {e}")),
        }
    }
    concluded
}

/// The last steps, which a later run can take as well.
fn conclude(site: &Site, mut marker: Marker, monitor: &dyn Monitor, clock: &dyn Clock) -> Result<(), Error> {
    site.place(&marker)?;
    site.finish(&marker, monitor);
    // Last, so that whoever is cut off before does all of it again.
    (marker.stage, marker.time) = (Stage::Restored, instant(clock).to_string());
    marker.write(site.path())
}
