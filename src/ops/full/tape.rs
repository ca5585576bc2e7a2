//! Members into the tar stream of an archive, and what is counted of them.

use std::io::{self, Write};
use std::path::Path;

use super::Error;
use super::error::Output;
use crate::format::limits;
use crate::full::tar::{Member, MemberKind, TarError, Writer};
use crate::full::{ArchiveForm, Encoder, Finished};
use crate::model::{FileError, RepoPath};
use crate::report::Monitor;

/// What members are called.
pub(super) struct Naming {
    /// What stands before every path.
    prefix: Vec<u8>,
}

impl Naming {
    /// In the sealed form names are relative to the root. The other forms are read by programs that unpack several
    /// archives into one folder, and have names relative to what each item lies in: of a whole directory that is the
    /// folder above it, of parts of it the directory itself.
    pub(super) fn new(form: ArchiveForm, root: &Path, whole: bool) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let name = root.file_name().map(|name| name.as_bytes().to_vec());
        match (form, name) {
            (ArchiveForm::Openssl | ArchiveForm::Gzip, Some(prefix)) if whole => Self { prefix },
            _ => Self { prefix: Vec::new() },
        }
    }

    /// The name of a path; `None` for the root where it has none.
    pub(super) fn name(&self, path: &RepoPath) -> Option<Vec<u8>> {
        match (self.prefix.as_slice(), path.as_bytes()) {
            ([], []) => None,
            ([], path) => Some(path.to_vec()),
            (prefix, []) => Some(prefix.to_vec()),
            (prefix, path) => Some([prefix, b"/", path].concat()),
        }
    }
}

/// What was put into an archive.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) members: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) databases: u64,
    /// The first errors.
    pub(super) errors: Vec<FileError>,
    pub(super) error_count: u64,
    /// One of the errors is damage in the repository.
    pub(super) damaged: bool,
}

/// The tar stream of an archive being made.
pub(super) struct Tape<'a, W: Write> {
    writer: Writer<Encoder<W>>,
    /// For messages.
    name: String,
    pub(super) naming: Naming,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) tally: Tally,
}

impl<'a, W: Write> Tape<'a, W> {
    pub(super) fn new(encoder: Encoder<W>, name: String, naming: Naming, monitor: &'a dyn Monitor) -> Self {
        Self { writer: Writer::new(encoder), name, naming, monitor, tally: Tally::default() }
    }

    /// Notes that a path is not in the archive, or not as it should be.
    pub(super) fn fail(&mut self, path: &RepoPath, message: String) {
        self.monitor.error(path, &message);
        self.tally.error_count += 1;
        if self.tally.errors.len() < limits::SNAPSHOT_ERRORS {
            self.tally.errors.push(FileError { path: path.clone(), message });
        }
    }

    pub(super) fn go_on(&self) -> Result<(), Error> {
        if self.monitor.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Begins a member; false when it cannot be in an archive, which is noted.
    pub(super) fn begin(&mut self, path: &RepoPath, member: &Member) -> Result<bool, Error> {
        self.go_on()?;
        match self.writer.member(member) {
            Ok(()) => {
                self.tally.members += 1;
                if member.kind == MemberKind::File {
                    self.tally.files += 1;
                    self.tally.bytes += member.size;
                }
                Ok(true)
            }
            Err(TarError::Unwritable(what)) => {
                self.fail(path, format!("cannot be written to an archive: {what}"));
                Ok(false)
            }
            Err(e) => Err(self.broken(e)),
        }
    }

    /// Bytes of the current file.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.go_on()?;
        self.writer.data(bytes).map_err(|e| self.broken(e))?;
        self.monitor.progress(0, bytes.len() as u64);
        Ok(())
    }

    /// Bytes that are still to come of the current file.
    pub(super) fn left(&self) -> u64 {
        self.writer.left()
    }

    /// Ends a file. One whose source ended early is filled with zeros, since its length is written already; that is
    /// noted with `why`, so that the archive is incomplete.
    pub(super) fn end(&mut self, path: &RepoPath, why: &str) -> Result<(), Error> {
        let padded = self.writer.pad_member().map_err(|e| self.broken(e))?;
        if padded > 0 {
            self.fail(path, format!("{why}; {padded} bytes that were to come are zeros in the archive"));
        }
        self.monitor.progress(1, 0);
        Ok(())
    }

    fn broken(&self, error: TarError) -> Error {
        if self.monitor.cancelled() {
            return Error::Interrupted;
        }
        Error::of_stream(&self.name, error)
    }

    /// Ends the archive.
    pub(super) fn finish(self) -> Result<(Finished<W>, Tally), Error> {
        let Self { writer, name, tally, .. } = self;
        let encoder = writer.finish().map_err(|e| Error::of_stream(&name, e))?;
        let finished = encoder.finish().map_err(|e| Error::of_container(&name, e))?;
        Ok((finished, tally))
    }
}

/// Output that is not stored by us: its errors are told apart from those of the archive.
pub(super) struct Given<W>(pub(super) W);

impl<W: Write> Write for Given<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|e| io::Error::other(Output(e)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_are_those_that_other_programs_expect() {
        let path = RepoPath::new(b"memory/a".to_vec()).unwrap();
        let root = Path::new("/home/ann/.openclaw");
        for (form, whole, name, of_root) in [
            (ArchiveForm::Sealed, true, &b"memory/a"[..], None),
            (ArchiveForm::Sealed, false, b"memory/a", None),
            (ArchiveForm::Openssl, true, b".openclaw/memory/a", Some(&b".openclaw"[..])),
            (ArchiveForm::Gzip, true, b".openclaw/memory/a", Some(b".openclaw")),
            (ArchiveForm::Gzip, false, b"memory/a", None),
        ] {
            let naming = Naming::new(form, root, whole);
            assert_eq!(naming.name(&path).as_deref(), Some(name));
            assert_eq!(naming.name(&RepoPath::root()).as_deref(), of_root);
        }
        assert_eq!(Naming::new(ArchiveForm::Gzip, Path::new("/"), true).name(&RepoPath::root()), None);
    }
}
