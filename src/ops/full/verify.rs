//! `full verify`: reads all of an archive, and has SQLite look at every database in it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;
use super::archives::{Listed, Place, State};
use super::open::{Opened, refuse_unmarked};
use crate::clock::Clock;
use crate::crypto::Passphrase;
use crate::full::safe_path;
use crate::full::tar::MemberKind;
use crate::gather::sqlite;
use crate::model::{FileError, RepoPath};
use crate::ops::drill::Scratch;
use crate::report::{Monitor, Phase};

const BUFFER: usize = 256 << 10;
/// Problems that are kept.
const MAX_PROBLEMS: usize = 1_000;
/// What a database is called while it is looked at.
const IMAGE: &str = "database";

/// What to verify.
pub struct VerifyRequest {
    /// For the openssl form.
    pub passphrase: Option<Passphrase>,
    /// The folder in which one database at a time is laid down.
    pub scratch: PathBuf,
    /// The directory that is backed up: nothing may be laid down in it.
    pub state_dir: PathBuf,
}

/// An archive that was read to its end. Its bytes are good; what is in it may not be.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The archive.
    pub name: String,
    /// What is known of it.
    pub state: State,
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

/// Reads an archive as a restore does, every byte of it, and writes nothing but one database at a time.
pub fn verify(
    place: &Place,
    listed: &Listed,
    request: &VerifyRequest,
    monitor: &Arc<dyn Monitor>,
    clock: &Arc<dyn Clock>,
) -> Result<Verified, Error> {
    let began = clock.monotonic();
    refuse_unmarked(listed, false)?;
    let mut archive = Opened::new(place, listed, request.passphrase.as_ref(), monitor)?;
    monitor.phase(Phase::Verify, listed.mark.as_ref().map(|mark| mark.bytes));
    let verified = Verified {
        name: archive.name.clone(),
        state: listed.state.clone(),
        members: 0,
        files: 0,
        bytes: 0,
        databases: 0,
        problems: Vec::new(),
        problem_count: 0,
        duration_ms: 0,
    };
    let mut reading =
        Reading { archive: &mut archive, request, monitor: monitor.as_ref(), scratch: None, verified };
    let result = reading.run();
    let Reading { scratch, mut verified, .. } = reading;
    let removed = scratch.map_or(Ok(()), Scratch::remove);
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
    request: &'a VerifyRequest,
    monitor: &'a dyn Monitor,
    scratch: Option<Scratch>,
    verified: Verified,
}

impl Reading<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
        while let Some(member) = self.archive.next()? {
            let path = safe_path(&member.path)
                .map_err(|e| Error::hostile(&self.archive.name, &member.path, e.to_string()))?;
            self.verified.members += 1;
            if member.kind == MemberKind::File {
                self.verified.files += 1;
                self.verified.bytes += member.size;
                self.file(&path, &mut buffer)?;
                self.monitor.progress(1, 0);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &RepoPath, buffer: &mut [u8]) -> Result<(), Error> {
        // Data comes in pieces of any length.
        let mut filled = 0;
        while filled < sqlite::MAGIC_LEN {
            let n = self.archive.read(buffer.get_mut(filled..).unwrap_or_default())?;
            if n == 0 {
                break;
            }
            filled += n;
        }
        let head = buffer.get(..filled).unwrap_or_default();
        let mut image = match sqlite::is_sqlite(head) {
            true => Some(self.lay_down()?),
            false => None,
        };
        while filled > 0 {
            self.monitor.progress(0, filled as u64);
            if let Some((file, image)) = &mut image {
                let bytes = buffer.get(..filled).unwrap_or_default();
                let failed = |source| Error::Target { path: image.clone(), source };
                file.write_all(bytes).map_err(failed)?;
            }
            filled = self.archive.read(buffer)?;
        }
        if let Some((file, image)) = image {
            drop(file);
            self.database(path, &image);
        }
        Ok(())
    }

    /// A new file for a database, in a folder that is made for the first one.
    fn lay_down(&mut self) -> Result<(File, PathBuf), Error> {
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => Scratch::new(&self.request.scratch, &self.request.state_dir, 0, self.monitor)?,
        };
        let image = scratch.path.join(IMAGE);
        self.scratch = Some(scratch);
        match File::create(&image) {
            Ok(file) => Ok((file, image)),
            Err(source) => Err(Error::Target { path: image, source }),
        }
    }

    fn database(&mut self, path: &RepoPath, image: &std::path::Path) {
        let message = match sqlite::verify_file(image, true) {
            Ok(Ok(())) => {
                self.verified.databases += 1;
                return;
            }
            Ok(Err(message)) => format!("SQLite finds it damaged: {}", message.replace('\n', "; ")),
            Err(e) => format!("SQLite cannot open it: {e}"),
        };
        self.monitor.error(path, &message);
        self.verified.problem(path, message);
    }
}
