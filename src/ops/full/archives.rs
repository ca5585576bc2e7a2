//! Which archives there are, and what is known of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use crate::full::{ArchiveName, ArchiveObject, Mark, decode_mark};
use crate::model::{Timestamp, WriterKeyId};
use crate::remote::Remote;
use crate::repo::{RepoError, Repository};

/// Where archives lie.
#[derive(Clone)]
pub struct Place {
    remote: Arc<dyn Remote>,
    folder: String,
    /// Of the repository, whose marks count.
    own: Option<Repository>,
}

impl Place {
    /// The folder of a repository.
    #[must_use]
    pub fn of(repository: &Repository) -> Self {
        let folder = ArchiveName::FOLDER.to_string();
        Self { remote: repository.remote_handle(), folder, own: Some(repository.clone()) }
    }

    /// A folder of a remote that other programs write to. Its archives have no marks, and what has one there is no
    /// more believed than the rest.
    #[must_use]
    pub fn foreign(remote: Arc<dyn Remote>, folder: String) -> Self {
        Self { remote, folder, own: None }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.remote.location().trim_end_matches('/'), self.folder)
    }

    /// Whether archives need a mark here.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn repository(&self) -> Option<&Repository> {
        self.own.as_ref()
    }

    pub(super) fn remote(&self) -> &Arc<dyn Remote> {
        &self.remote
    }

    pub(super) fn object(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// What is known of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its mark says that it is whole, and that no source file is missing from it.
    Complete,
    /// Its mark says that it is whole, and that some source files could not be read.
    Incomplete,
    /// There is no mark: its upload did not come to its end, or has not yet.
    Partial,
    /// Its mark cannot be read, or is that of another archive; the reason.
    Damaged(String),
    /// There is a mark, and no archive.
    Lost,
    /// It lies where archives have no marks.
    Unverified,
    /// It has a mark that this key cannot read.
    Sealed,
}

impl State {
    /// One word, for people and programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Partial => "partial",
            Self::Damaged(_) => "damaged",
            Self::Lost => "lost",
            Self::Unverified => "unverified",
            Self::Sealed => "sealed",
        }
    }

    /// Whether it may be taken without being named.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Complete | Self::Incomplete | Self::Unverified | Self::Sealed)
    }
}

/// An archive.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: ArchiveName,
    /// Its stored bytes; 0 for one that is lost.
    pub size: u64,
    /// What is known of it.
    pub state: State,
    /// Its mark, where it could be read.
    pub mark: Option<Box<Mark>>,
    /// The writer key that made the mark, if it was none of an owner.
    pub writer_key: Option<WriterKeyId>,
}

impl Listed {
    /// Of when it is: its mark says that, and its name where there is none.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.mark.as_ref().map_or(self.name.time(), |mark| mark.time)
    }
}

/// What lies in a place.
#[derive(Default)]
pub struct Archives {
    /// By name, and so by time.
    pub archives: Vec<Listed>,
    /// Names of all objects there that are ours, marks and checksums included.
    pub(super) objects: Vec<(ArchiveObject, u64)>,
}

impl Archives {
    /// Lists a place, without reading marks.
    pub(super) fn names(place: &Place) -> Result<Vec<(ArchiveObject, u64)>, Error> {
        let prefix = format!("{}/", place.folder);
        let listed = place.remote.list(&place.folder)?;
        let ours = listed.iter().filter_map(|object| {
            let name = object.name.strip_prefix(&prefix)?;
            Some((ArchiveObject::parse(name)?, object.size))
        });
        Ok(ours.collect())
    }

    /// Lists a place and reads the marks.
    pub fn load(place: &Place) -> Result<Self, Error> {
        let objects = Self::names(place)?;
        let mut found: BTreeMap<ArchiveName, (Option<u64>, bool)> = BTreeMap::new();
        for (object, size) in &objects {
            match object {
                ArchiveObject::Archive(name) => found.entry(*name).or_default().0 = Some(*size),
                ArchiveObject::Mark(name) => found.entry(*name).or_default().1 = true,
                ArchiveObject::Checksum(_) => {}
            }
        }
        if place.own.is_none() {
            found.retain(|_, (size, _)| size.is_some());
        }
        let wanted: Vec<_> = found.into_iter().map(|(name, (size, marked))| (name, size, marked)).collect();
        let mut archives = at_once(place, &wanted)?;
        archives.sort_by_key(|listed| listed.name);
        Ok(Self { archives, objects })
    }

    /// The one that the user named: by its whole name, by a beginning that fits no other, or `latest` for the newest
    /// that is whole.
    pub fn choose(&self, word: &str, place: &Place) -> Result<&Listed, Error> {
        if word == "latest" {
            let whole = self.archives.iter().filter(|listed| listed.state.is_whole());
            // Of an exported snapshot the mark is older than the name.
            let newest = whole.max_by_key(|listed| (listed.time(), listed.name));
            return newest.ok_or_else(|| Error::Nothing(place.name()));
        }
        let named = |listed: &&Listed| listed.name.to_string() == word;
        if let Some(exact) = self.archives.iter().find(named) {
            return Ok(exact);
        }
        let begins = |listed: &&Listed| !word.is_empty() && listed.name.to_string().starts_with(word);
        let fits: Vec<&Listed> = self.archives.iter().filter(begins).collect();
        match fits.as_slice() {
            [one] => Ok(one),
            [] => Err(Error::NotFound { name: word.to_string(), place: place.name() }),
            several => {
                Err(Error::Ambiguous { name: word.to_string(), place: place.name(), found: several.len() })
            }
        }
    }
}

type Wanted = (ArchiveName, Option<u64>, bool);

/// Looks at each, several at once where the remote takes a while to answer.
fn at_once(place: &Place, wanted: &[Wanted]) -> Result<Vec<Listed>, Error> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(wanted.len())));
    let work = || -> Result<(), Error> {
        while let Some(one) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let listed = look(place, one)?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push(listed);
        }
        Ok(())
    };
    let threads = place.remote.parallel_requests().clamp(1, 16);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(RepoError::Worker.into())))
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn look(place: &Place, (name, size, marked): &Wanted) -> Result<Listed, Error> {
    let listed = |state, mark: Option<Mark>| Listed {
        name: *name,
        size: size.unwrap_or_default(),
        state,
        mark: mark.map(Box::new),
        writer_key: None,
    };
    let Some(repository) = &place.own else { return Ok(listed(State::Unverified, None)) };
    if !marked {
        return Ok(listed(State::Partial, None));
    }
    if size.is_none() {
        return Ok(listed(State::Lost, None));
    }
    if repository.writer_key().is_some() {
        return Ok(listed(State::Sealed, None));
    }
    match read_mark(repository, *name) {
        Ok((mark, writer_key)) => {
            let state = match (Some(mark.size) == *size, mark.complete) {
                (true, true) => State::Complete,
                (true, false) => State::Incomplete,
                (false, _) => {
                    let there = size.unwrap_or_default();
                    State::Damaged(format!("its mark is of {} bytes, and it has {there}", mark.size))
                }
            };
            Ok(Listed { writer_key, ..listed(state, Some(mark)) })
        }
        // Removed since it was listed.
        Err(RepoError::Remote(e)) if e.is_not_found() => Ok(listed(State::Partial, None)),
        // Nothing is known of it: the service failed, or the keys at hand are too old.
        Err(e) if e.is_service_failure() || e.is_rotated() => Err(e.into()),
        Err(e) => Ok(listed(State::Damaged(format!("its mark cannot be read: {e}")), None)),
    }
}

/// Reads the mark of an archive. What is in it is authenticated by the repository's keys.
fn read_mark(repository: &Repository, name: ArchiveName) -> Result<(Mark, Option<WriterKeyId>), RepoError> {
    let object = format!("{}/{}", ArchiveName::FOLDER, name.mark());
    let (record, writer_key) = repository.archive_mark(&object)?;
    let mark = decode_mark(&record).map_err(RepoError::object(&object))?;
    if mark.name == name {
        return Ok((mark, writer_key));
    }
    // Whoever writes to the remote could give one archive the mark of another.
    Err(RepoError::NameMismatch { name: object })
}
