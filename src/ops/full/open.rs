//! An archive being read: its bytes are hashed on the way, and compared with its mark at the end.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use super::archives::{Listed, Place, State};
use crate::crypto::{Passphrase, Sha256};
use crate::full::tar::{Member, Reader, TarError};
use crate::full::{ArchiveForm, Decoder, FullError, Limits, Mark};
use crate::remote::ObjectReader;
use crate::repo::Repository;
use crate::report::Monitor;

/// What came of the stored bytes so far.
#[derive(Default)]
struct Passing {
    hash: Sha256,
    bytes: u64,
}

/// Hashes what passes; ends when the user asks to stop.
struct Hashed {
    inner: ObjectReader,
    passing: Arc<Mutex<Passing>>,
    monitor: Arc<dyn Monitor>,
}

impl Read for Hashed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.monitor.cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        let n = self.inner.read(buf)?;
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        passing.hash.update(buf.get(..n).unwrap_or_default());
        passing.bytes += n as u64;
        Ok(n)
    }
}

/// An archive, open for reading.
pub(super) struct Opened {
    pub(super) name: String,
    reader: Reader<Decoder<Hashed>>,
    passing: Arc<Mutex<Passing>>,
    mark: Option<Mark>,
    limits: Limits,
    monitor: Arc<dyn Monitor>,
}

/// Refuses what has no mark, or one that these keys cannot read, unless `partial` says that it is wanted all the same.
pub(super) fn refuse_unmarked(place: &Place, listed: &Listed, partial: bool) -> Result<(), Error> {
    let what = match &listed.state {
        State::Complete | State::Incomplete | State::Unverified => return Ok(()),
        State::Sealed if partial => return Ok(()),
        // Without the mark nothing tells whether somebody has changed it.
        State::Sealed => {
            place.repository().map_or(Ok(()), Repository::require_owner)?;
            "has a mark that these keys cannot read".to_string()
        }
        State::Partial if partial => return Ok(()),
        State::Partial => "is partial: it has no mark, so its upload did not come to its end".to_string(),
        State::Damaged(_) if partial && listed.size > 0 => return Ok(()),
        State::Damaged(why) => format!("is damaged: {why}"),
        State::Lost => "is gone: only its mark is there".to_string(),
    };
    Err(Error::NotWhole { name: listed.name.to_string(), what })
}

impl Opened {
    pub(super) fn new(
        place: &Place,
        listed: &Listed,
        passphrase: Option<&Passphrase>,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Self, Error> {
        let name = listed.name.to_string();
        let io_failed = |e: io::Error| Error::of_container(&name, FullError::Io(e));
        let object = place.object(&name);
        let inner = ObjectReader::new(Arc::clone(place.remote()), &object, listed.size).map_err(io_failed)?;
        let passing = Arc::<Mutex<Passing>>::default();
        let hashed = Hashed { inner, passing: Arc::clone(&passing), monitor: Arc::clone(monitor) };
        let mark = listed.mark.as_deref().cloned();
        let limits = mark.as_ref().map_or(Limits::UNKNOWN, Limits::of_mark);
        let decoder = match (listed.name.form(), place.repository()) {
            (ArchiveForm::Sealed, Some(repository)) => {
                repository.require_owner()?;
                Decoder::sealed(hashed, repository.sealer(), limits)
            }
            // Only the keys of the repository that it was made with open it.
            (ArchiveForm::Sealed, None) => {
                let what = "is sealed by a repository: it is read there, without --from".to_string();
                return Err(Error::NotWhole { name, what });
            }
            (ArchiveForm::Openssl, _) => match passphrase {
                Some(passphrase) => Decoder::openssl(hashed, Some(passphrase), limits),
                None => return Err(Error::NoPassphrase(name)),
            },
            (ArchiveForm::Gzip, _) => Decoder::openssl(hashed, None, limits),
        };
        let decoder = decoder.map_err(|e| Error::of_container(&name, e));
        let decoder = decoder.map_err(|e| if monitor.cancelled() { Error::Interrupted } else { e })?;
        let reader = Reader::new(decoder, limits);
        Ok(Self { name, reader, passing, mark, limits, monitor: Arc::clone(monitor) })
    }

    /// Whether somebody with keys of the repository made it, as far as is known before its end.
    pub(super) fn is_vouched_for(&self) -> bool {
        self.mark.is_some()
    }

    fn broken(&self, error: TarError) -> Error {
        if self.monitor.cancelled() {
            return Error::Interrupted;
        }
        Error::of_stream(&self.name, error)
    }

    /// The next member; `None` at the end, when all stored bytes were those that the mark is about.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Error> {
        if self.monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        let next = self.reader.next_member().map_err(|e| self.broken(e))?;
        // The decoder does not see holes, which stand for any number of bytes.
        if self.limits.is_bomb(self.reader.unpacked(), self.stored()) {
            return Err(
                self.refused("far more bytes come out of the archive, holes included, than went into it")
            );
        }
        if next.is_none() {
            self.compare()?;
        }
        Ok(next)
    }

    fn stored(&self) -> u64 {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// The archive asks for more than any may.
    pub(super) fn refused(&self, what: &'static str) -> Error {
        Error::of_container(&self.name, FullError::Bomb(what))
    }

    /// Passes over the hole that the data of the current member goes on with; gives its length.
    pub(super) fn skip_hole(&mut self) -> u64 {
        self.reader.skip_hole()
    }

    /// Data of the current member; 0 at its end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        if self.monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        self.reader.read_data(buf).map_err(|e| self.broken(e))
    }

    fn compare(&self) -> Result<(), Error> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let altered = |what| Error::Altered { name: self.name.clone(), what };
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        if passing.bytes != mark.size {
            return Err(altered("it has another length"));
        }
        if std::mem::take(&mut passing.hash).finish() != mark.sha256 {
            return Err(altered("its bytes have another SHA-256"));
        }
        Ok(())
    }
}
