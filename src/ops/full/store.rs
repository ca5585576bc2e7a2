//! Storing an archive: as a stream, and then what says that it is whole.

use std::io::{self, Write};

use super::Error;
use super::archives::{Archives, Place};
use crate::crypto::{ObjectKind, Passphrase};
use crate::format::sealed_v1::Randomness;
use crate::full::{
    ArchiveForm, ArchiveName, ArchiveObject, Effort, Encoder, Finished, FullError, Mark, encode_mark,
};
use crate::model::Timestamp;
use crate::remote::{Remote, RemoteError, Streaming};
use crate::repo::{RepoError, Repository};
use crate::report::Monitor;

/// The bytes of an archive on their way to the remote.
pub(super) struct Upload(Box<dyn Streaming>);

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How the bytes of an archive are made.
pub(super) struct Making<'a> {
    pub(super) form: ArchiveForm,
    /// For the openssl form.
    pub(super) passphrase: Option<&'a Passphrase>,
    pub(super) threads: usize,
}

impl Making<'_> {
    /// An encoder in front of `out`.
    pub(super) fn encoder<W: Write>(&self, repository: &Repository, out: W) -> Result<Encoder<W>, FullError> {
        let effort = Effort { level: None, threads: self.threads };
        match self.form {
            ArchiveForm::Sealed => Encoder::sealed(out, repository.sealer(), effort),
            ArchiveForm::Openssl => Encoder::openssl(out, self.passphrase, effort),
            ArchiveForm::Gzip => Encoder::openssl(out, None, effort),
        }
    }
}

/// A name that no object has: a second archive of one second is given the next. Runs that begin at once can be given
/// the same; [`Storing::finish`] finds that out.
pub(super) fn fresh_name(place: &Place, time: Timestamp, form: ArchiveForm) -> Result<ArchiveName, Error> {
    let taken: Vec<Timestamp> = Archives::names(place)?
        .into_iter()
        .map(|(object, _)| match object {
            ArchiveObject::Archive(name) | ArchiveObject::Mark(name) | ArchiveObject::Checksum(name) => {
                name.time()
            }
        })
        .collect();
    let mut name = ArchiveName::new(time, form);
    while taken.contains(&name.time()) {
        let next = name.next();
        if next == name {
            break;
        }
        name = next;
    }
    Ok(name)
}

/// Whether there is an object of this name.
pub(super) fn is_there(remote: &dyn Remote, object: &str) -> Result<bool, Error> {
    match remote.size(object) {
        Ok(_) => Ok(true),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// An archive that is being stored. Dropped before [`Storing::finish`], it leaves no mark.
pub(super) struct Storing<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    pub(super) name: ArchiveName,
    object: String,
    mark: String,
    /// What lies under the name stays: it is whole, or another run's.
    stays: bool,
}

impl<'a> Storing<'a> {
    /// Begins to store an archive under a fresh name.
    pub(super) fn begin(
        repository: &'a Repository,
        monitor: &'a dyn Monitor,
        time: Timestamp,
        form: ArchiveForm,
    ) -> Result<(Self, Upload), Error> {
        let place = Place::of(repository);
        let name = fresh_name(&place, time, form)?;
        let object = place.object(&name.to_string());
        let mark = place.object(&name.mark());
        let stream = repository.remote().stream(&object)?;
        Ok((Self { repository, monitor, name, object, mark, stays: false }, Upload(stream)))
    }

    /// Ends the stream, and stores what says that the archive is whole: the mark comes last.
    ///
    /// Another run may have been given the same name. What it stored is not touched where that can be seen, and this
    /// run fails then.
    pub(super) fn finish(mut self, finished: Finished<Upload>, mark: &Mark) -> Result<(), Error> {
        let remote = self.repository.remote();
        if is_there(remote, &self.mark)? {
            return Err(self.taken());
        }
        match finished.out.0.finish() {
            Err(RemoteError::Exists { .. }) => return Err(self.taken()),
            other => other?,
        }
        let folder = ArchiveName::FOLDER;
        if mark.name.form() != ArchiveForm::Sealed {
            // As `sha256sum -c` takes it, for who has none of our keys.
            let hash = data_encoding::HEXLOWER.encode(&mark.sha256);
            let checksum = format!("{hash}  {}\n", mark.name);
            remote.put(&format!("{folder}/{}", mark.name.checksum()), checksum.as_bytes())?;
        }
        let seal = || {
            let record = encode_mark(mark)?;
            self.repository.sealer().seal_record(ObjectKind::ArchiveMark, &record, &Randomness::generate()?)
        };
        let sealed = seal().map_err(RepoError::object(&self.mark))?;
        remote.put(&self.mark, &sealed)?;
        self.stays = true;
        self.confirm(&sealed, mark.size)
    }

    /// Looks whether mark and archive are those of this run: where names can be written over, the last one counts.
    fn confirm(mut self, sealed: &[u8], size: u64) -> Result<(), Error> {
        let remote = self.repository.remote();
        let mark = match remote.get(&self.mark, sealed.len() as u64) {
            Err(RemoteError::NotFound { .. } | RemoteError::Size { .. }) => return Err(self.taken()),
            other => other?,
        };
        let stored = match remote.size(&self.object) {
            Err(e) if e.is_not_found() => return Err(self.taken()),
            other => other?,
        };
        if mark == sealed && stored == size { Ok(()) } else { Err(self.taken()) }
    }

    fn left(&self, error: &Error) {
        let what =
            format!("{error}; what there is of {} has no mark, so nothing takes it for whole", self.name);
        self.monitor.note(None, &what);
    }

    fn taken(&mut self) -> Error {
        self.stays = true;
        Error::Taken(self.name.to_string())
    }
}

impl Drop for Storing<'_> {
    /// Takes back what a remote that cannot take it back by itself may have kept. Nobody is harmed where that fails:
    /// without a mark it is no archive. With one it is whole: that of another run, or this one's, if only the answer
    /// was lost.
    fn drop(&mut self) {
        if self.stays || self.monitor.cancelled() {
            return;
        }
        match is_there(self.repository.remote(), &self.mark) {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => return self.left(&error),
        }
        let checksum = format!("{}/{}", ArchiveName::FOLDER, self.name.checksum());
        for object in [&self.object, &checksum] {
            if let Err(error) = self.repository.remote().delete(object) {
                return self.left(&error.into());
            }
        }
    }
}
