//! `full verify`: reads all of an archive, and has SQLite look at every database in it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Error;
use super::archives::{Listed, Place, State};
use super::extract::{skip, write};
use super::laid::{Laid, part_of};
use super::open::{Opened, refuse_unmarked};
use crate::clock::Clock;
use crate::crypto::Passphrase;
use crate::full::safe_path;
use crate::full::tar::MemberKind;
use crate::gather::sqlite;
use crate::model::{FileError, RepoPath};
use crate::report::{Monitor, Phase};

const BUFFER: usize = 256 << 10;
/// Problems that are kept.
const MAX_PROBLEMS: usize = 1_000;

/// What to verify.
pub struct VerifyRequest {
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// The folder in which databases are laid down: one at a time, or where order does not tell what belongs to one,
    /// those of one folder.
    pub scratch: PathBuf,
    /// The directory that is backed up: nothing may be laid down in it.
    pub state_dir: PathBuf,
}

/// An archive that was read to its end. Its bytes could be read; what is in it may not be good.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The archive.
    pub name: String,
    /// What is known of it.
    pub state: State,
    /// Its bytes are those that its mark is about, so that nobody without keys of the repository changed them.
    pub authenticated: bool,
    /// Members of all kinds.
    pub members: u64,
    /// Files.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Databases that SQLite found good.
    pub databases: u64,
    /// The first things that are wrong.
    pub problems: Vec<FileError>,
    /// How many there were.
    pub problem_count: u64,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// Reads an archive as a restore does, every byte of it, and writes nothing but databases, for as long as SQLite looks
/// at them.
pub fn verify(
    place: &Place,
    listed: &Listed,
    request: &VerifyRequest,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Verified, Error> {
    let began = clock.monotonic();
    refuse_unmarked(place, listed, false)?;
    let mut archive = Opened::new(place, listed, request.passphrase.as_ref(), monitor)?;
    monitor.phase(Phase::Verify, listed.mark.as_ref().map(|mark| mark.bytes));
    let verified = Verified {
        name: archive.name.clone(),
        state: listed.state.clone(),
        authenticated: listed.mark.is_some(),
        members: 0,
        files: 0,
        bytes: 0,
        databases: 0,
        problems: Vec::new(),
        problem_count: 0,
        duration_ms: 0,
    };
    let laid = Laid::new(request, place.is_own(), monitor.as_ref());
    let mut reading = Reading { archive: &mut archive, monitor: monitor.as_ref(), laid, verified };
    let result = reading.run();
    let Reading { laid, mut verified, .. } = reading;
    let removed = laid.remove();
    result?;
    removed?;
    if let Some(mark) = &listed.mark {
        for (what, said, found) in [
            ("members", mark.members, verified.members),
            ("files", mark.files, verified.files),
            ("bytes of files", mark.bytes, verified.bytes),
        ] {
            if said != found {
                let message = format!("its mark tells of {said} {what}, and there are {found}");
                verified.problem(&RepoPath::root(), message);
            }
        }
    }
    let taken = clock.monotonic().saturating_sub(began);
    verified.duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    Ok(verified)
}

impl Verified {
    fn problem(&mut self, path: &RepoPath, message: String) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(FileError { path: path.clone(), message });
        }
    }
}

struct Reading<'a> {
    archive: &'a mut Opened,
    monitor: &'a dyn Monitor,
    laid: Laid<'a>,
    verified: Verified,
}

impl Reading<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
        while let Some(member) = self.archive.next()? {
            let path = safe_path(&member.path)
                .map_err(|e| Error::hostile(&self.archive.name, &member.path, e.to_string()))?;
            self.judge(Some(&path));
            self.verified.members += 1;
            if member.kind == MemberKind::File {
                self.verified.files += 1;
                self.verified.bytes += member.size;
                self.file(&path, member.size, &mut buffer)?;
                self.monitor.progress(1, 0);
            }
        }
        self.judge(None);
        Ok(())
    }

    fn file(&mut self, path: &RepoPath, size: u64, buffer: &mut [u8]) -> Result<(), Error> {
        // Data comes in pieces of any length.
        let mut filled = 0;
        while filled < sqlite::MAGIC_LEN {
            let n = self.archive.read(buffer.get_mut(filled..).unwrap_or_default())?;
            if n == 0 {
                break;
            }
            filled += n;
        }
        let image = match part_of(path, buffer.get(..filled).unwrap_or_default()) {
            Some((base, suffix)) => Some(self.laid.lay_down(&base, suffix)?),
            None => None,
        };
        let put = |bytes: &[u8], hole: u64| match &image {
            Some((file, image)) => write(file, bytes)
                .and_then(|()| skip(file, hole))
                .map_err(|source| Error::Target { path: image.clone(), source }),
            None => Ok(()),
        };
        while filled > 0 {
            let hole = self.archive.skip_hole();
            self.monitor.progress(0, hole.saturating_add(filled as u64));
            put(buffer.get(..filled).unwrap_or_default(), hole)?;
            filled = self.archive.read(buffer)?;
        }
        if let Some((file, image)) = &image {
            // A hole at the end has no byte yet.
            file.set_len(size).map_err(|source| Error::Target { path: image.clone(), source })?;
        }
        Ok(())
    }

    /// Judges the databases that nothing more can belong to.
    fn judge(&mut self, next: Option<&RepoPath>) {
        for (path, verdict) in self.laid.settle(next) {
            match verdict {
                Some(Ok(())) => self.verified.databases += 1,
                Some(Err(message)) => {
                    self.monitor.error(&path, &message);
                    self.verified.problem(&path, message);
                }
                None => {
                    let message = "was copied in the midst of a transaction, which its journal beside it takes back when it is opened: not checked";
                    self.monitor.warning(Some(&path), message);
                }
            }
        }
    }
}
