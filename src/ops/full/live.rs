//! A live directory into an archive: the walk of a backup, file by file into the tar stream.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::Error;
use super::links::Links;
use super::tape::Tape;
use crate::fs::{self, FileKind, OwnerNames, Stat};
use crate::full::tar::{Member, MemberKind};
use crate::gather::sqlite::{self, CaptureError, CaptureOptions, ImageSink, IntegrityCheck};
use crate::gather::{Found, FoundEntry, Gather, SkipReason};
use crate::model::{RepoPath, Xattr};

/// Bytes read at once. What fits is read as a whole before its length is written, and read again when it changed
/// meanwhile.
const BUFFER: usize = 1 << 20;
/// Times that a small file is read again.
const RETRIES: usize = 3;
/// How long to wait for a writer that holds a rollback-journal database exclusively.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Puts what a walk finds onto a tape.
pub(super) struct Live<'a, 't, W: Write> {
    tape: &'t mut Tape<'a, W>,
    root: &'a Path,
    names: OwnerNames,
    /// Databases captured: what belongs to them is in their images.
    captured: HashSet<RepoPath>,
    /// Files with several names, by what the system tells them apart by.
    links: Links<(u64, u64), ()>,
    buffer: Vec<u8>,
}

impl<'a, 't, W: Write> Live<'a, 't, W> {
    pub(super) fn new(tape: &'t mut Tape<'a, W>, root: &'a Path) -> Self {
        let (captured, links) = (HashSet::new(), Links::new());
        Self { tape, root, names: OwnerNames::load(), captured, links, buffer: Vec::new() }
    }

    /// Goes on to the end of the walk.
    pub(super) fn run(mut self, gather: &mut dyn Gather) -> Result<(), Error> {
        while let Some(found) = gather.next() {
            self.tape.go_on()?;
            match found {
                Found::Entry(entry) => self.entry(entry)?,
                Found::Error { path, error, what } => {
                    self.tape.fail(&path, format!("cannot {what}: {error}"))
                }
                Found::Skipped { path, reason } => self.skipped(&path, reason),
            }
        }
        Ok(())
    }

    fn skipped(&self, path: &RepoPath, reason: SkipReason) {
        let message = match reason {
            SkipReason::Excluded | SkipReason::OwnRepository => return,
            SkipReason::Vanished => "vanished before it could be read",
            SkipReason::Socket => "is a socket, which has no content: left out",
            SkipReason::Cache => "is marked as a cache: its content is left out",
            SkipReason::OtherFileSystem => "is on another file system: its content is left out",
        };
        self.tape.monitor.note(Some(path), message);
    }

    /// A member as the walk saw it; `None` for the root of an archive that has none.
    fn member(&self, path: &RepoPath, stat: &Stat, kind: MemberKind, xattrs: Vec<Xattr>) -> Option<Member> {
        let name = self.tape.naming.name(path)?;
        let of = |name: Option<&str>| name.unwrap_or_default().as_bytes().to_vec();
        Some(Member {
            mode: stat.mode,
            uid: stat.uid.into(),
            gid: stat.gid.into(),
            user: of(self.names.user(stat.uid)),
            group: of(self.names.group(stat.gid)),
            mtime: stat.mtime,
            xattrs: xattrs.into_iter().map(|xattr| (xattr.name, xattr.value)).collect(),
            ..Member::new(name, kind)
        })
    }

    fn entry(&mut self, found: FoundEntry) -> Result<(), Error> {
        let kind = match found.stat.kind {
            FileKind::File => return self.file(&found),
            FileKind::Directory => MemberKind::Directory,
            FileKind::Fifo => MemberKind::Fifo,
            FileKind::Symlink => match found.parent.read_link_at(found.path.name()) {
                Ok(target) => MemberKind::Symlink(target),
                Err(e) => {
                    self.tape.fail(&found.path, format!("cannot read link: {e}"));
                    return Ok(());
                }
            },
            FileKind::CharDevice | FileKind::BlockDevice => {
                self.tape.monitor.warning(Some(&found.path), "is a device, which no archive holds: left out");
                return Ok(());
            }
            FileKind::Socket | FileKind::Unknown => {
                self.tape.fail(&found.path, "is of a kind that cannot be stored".into());
                return Ok(());
            }
        };
        let mut xattrs = Vec::new();
        match found.opened.as_deref().map(fs::read_xattrs) {
            Some(Ok(read)) => xattrs = read,
            Some(Err(e)) => {
                let message = format!("its extended attributes cannot be read: {e}");
                self.tape.monitor.warning(Some(&found.path), &message);
            }
            None => {}
        }
        if let Some(member) = self.member(&found.path, &found.stat, kind, xattrs) {
            self.tape.begin(&found.path, &member)?;
        }
        Ok(())
    }

    fn file(&mut self, found: &FoundEntry) -> Result<(), Error> {
        let path = &found.path;
        if found.sidecar && self.captured.contains(&base_of(path)) {
            return Ok(());
        }
        if found.stat.nlink > 1
            && let Some(first) = self.links.further(&found.stat.identity(), &())
        {
            let kind = MemberKind::Hardlink(first);
            if let Some(member) = self.member(path, &found.stat, kind, Vec::new()) {
                self.tape.begin(path, &member)?;
            }
            return Ok(());
        }
        match self.content(found) {
            Ok(Some(stat)) if stat.nlink > 1 => {
                if let Some(name) = self.tape.naming.name(path) {
                    self.links.first(stat.identity(), name, (), stat.nlink - 1);
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(Stop::Unreadable(e)) if e.kind() == ErrorKind::NotFound => {
                self.skipped(path, SkipReason::Vanished);
                Ok(())
            }
            Err(Stop::Unreadable(e)) => {
                self.tape.fail(path, format!("cannot be read: {e}"));
                Ok(())
            }
            Err(Stop::Fatal(e)) => Err(e),
        }
    }

    /// Stores a file's content; `None` when there is none of it in the archive.
    fn content(&mut self, found: &FoundEntry) -> Result<Option<Stat>, Stop> {
        let (mut file, stat) = found.parent.open_regular(found.path.name())?;
        let mut head = [0; sqlite::MAGIC_LEN];
        let len = file.read_at(&mut head, 0)?;
        let xattrs = fs::read_xattrs(&file)?;
        if !sqlite::is_sqlite(head.get(..len).unwrap_or_default()) {
            return self.plain(&found.path, &mut file, stat, xattrs);
        }
        // Closing any handle of a database drops the locks that this process has on it, so it happens before
        // SQLite opens it.
        drop(file);
        match self.database(&found.path, &stat, xattrs.clone())? {
            Image::Stored => Ok(Some(stat)),
            Image::LeftOut => Ok(None),
            Image::Refused(why) => {
                let message = format!(
                    "could not be captured consistently ({why}); it was copied as a plain file and may not be usable"
                );
                self.tape.monitor.warning(Some(&found.path), &message);
                let (mut file, stat) = found.parent.open_regular(found.path.name())?;
                self.plain(&found.path, &mut file, stat, xattrs)
            }
        }
    }

    fn plain(
        &mut self,
        path: &RepoPath,
        file: &mut File,
        mut stat: Stat,
        xattrs: Vec<Xattr>,
    ) -> Result<Option<Stat>, Stop> {
        let Some(mut member) = self.member(path, &stat, MemberKind::File, xattrs) else { return Ok(None) };
        if let Some(bytes) = self.small(path, file, &mut stat)? {
            (member.size, member.mtime, member.mode) = (bytes.len() as u64, stat.mtime, stat.mode);
            let stored = self.tape.begin(path, &member).and_then(|begun| {
                if begun {
                    self.tape.data(&bytes)?;
                    self.tape.end(path, "")?;
                }
                Ok(begun.then_some(stat))
            });
            self.buffer = bytes;
            return Ok(stored?);
        }
        (member.size, member.mtime, member.mode) = (stat.size, stat.mtime, stat.mode);
        if !self.tape.begin(path, &member)? {
            return Ok(None);
        }
        let why = self.large(file, stat.size)?;
        self.tape.end(path, &why)?;
        let after = fs::stat_file(file)?;
        if after.size == stat.size && (after.mtime, after.ctime) != (stat.mtime, stat.ctime) {
            self.tape.monitor.note(Some(path), "changed while it was read");
        }
        Ok(Some(stat))
    }

    /// All of a small file, of one moment if it keeps still for as long as that takes; `None` for one that is not
    /// small, or not any more.
    fn small(&mut self, path: &RepoPath, file: &mut File, stat: &mut Stat) -> Result<Option<Vec<u8>>, Stop> {
        let mut bytes = std::mem::take(&mut self.buffer);
        for attempt in 0.. {
            io::Seek::rewind(file)?;
            if stat.size > BUFFER as u64 {
                self.buffer = bytes;
                return Ok(None);
            }
            bytes.clear();
            io::Read::by_ref(file).take(BUFFER as u64).read_to_end(&mut bytes)?;
            let after = fs::stat_file(file)?;
            let same = (after.mtime, after.ctime) == (stat.mtime, stat.ctime);
            // What outgrew the buffer keeps still too while only its beginning is looked at.
            let still = same && bytes.len() as u64 == after.size;
            *stat = after;
            if still {
                break;
            }
            if attempt >= RETRIES && stat.size <= BUFFER as u64 {
                self.tape.monitor.note(Some(path), "changed while it was read");
                break;
            }
        }
        Ok(Some(bytes))
    }

    /// A file piece by piece, as far as its length was written; returns why it ended early, if it did.
    fn large(&mut self, file: &mut File, size: u64) -> Result<String, Stop> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        let mut why = String::new();
        while self.tape.left() > 0 {
            let want = usize::try_from(self.tape.left()).unwrap_or(BUFFER).min(BUFFER);
            match file.read(buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) => {
                    let came = size - self.tape.left();
                    why = format!("shrank from {size} to {came} bytes while it was read");
                    break;
                }
                Ok(n) => self.tape.data(buffer.get(..n).unwrap_or_default())?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    why = format!("cannot be read to its end: {e}");
                    break;
                }
            }
        }
        self.buffer = buffer;
        Ok(why)
    }

    fn database(&mut self, path: &RepoPath, stat: &Stat, xattrs: Vec<Xattr>) -> Result<Image, Stop> {
        let Some(member) = self.member(path, stat, MemberKind::File, xattrs) else {
            return Ok(Image::LeftOut);
        };
        let options = CaptureOptions { integrity: IntegrityCheck::None, busy_timeout: BUSY_TIMEOUT };
        let mut sink = Sink { tape: &mut *self.tape, path, member, begun: None, fatal: None };
        let captured = sqlite::capture_in_order(&self.root.join(path.to_os_path()), &options, &mut sink);
        let Sink { begun, fatal, .. } = sink;
        if let Some(error) = fatal {
            return Err(Stop::Fatal(error));
        }
        match (captured, begun) {
            (_, Some(false)) => Ok(Image::LeftOut),
            (Ok(captured), _) => {
                captured.notes.iter().for_each(|note| self.tape.monitor.note(Some(path), note));
                self.tape.end(path, "")?;
                self.tape.tally.databases += 1;
                self.captured.insert(path.clone());
                Ok(Image::Stored)
            }
            (Err(error), Some(true)) => {
                // Its companions are stored too: they may hold what the image lacks.
                let why = format!("could not be captured: {error}");
                if self.tape.left() == 0 {
                    self.tape.fail(path, why.clone());
                }
                self.tape.end(path, &why)?;
                Ok(Image::Stored)
            }
            (Err(CaptureError::NotFound), None) => Err(Stop::Unreadable(ErrorKind::NotFound.into())),
            (Err(error), None) => Ok(Image::Refused(error)),
        }
    }
}

/// What became of a database.
enum Image {
    Stored,
    LeftOut,
    /// Nothing of it was written yet.
    Refused(CaptureError),
}

/// Why a file's content ends here.
enum Stop {
    /// Only this file.
    Unreadable(io::Error),
    /// The archive itself.
    Fatal(Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// Takes an image onto the tape.
struct Sink<'a, 't, W: Write> {
    tape: &'t mut Tape<'a, W>,
    path: &'t RepoPath,
    member: Member,
    /// Whether it has a place in the archive.
    begun: Option<bool>,
    fatal: Option<Error>,
}

impl<W: Write> Sink<'_, '_, W> {
    fn note<T>(&mut self, result: Result<T, Error>) -> io::Result<T> {
        result.map_err(|error| {
            self.fatal = Some(error);
            io::Error::other("the archive cannot be written")
        })
    }
}

impl<W: Write> ImageSink for Sink<'_, '_, W> {
    fn begin(&mut self, size: u64) -> io::Result<()> {
        self.member.size = size;
        let begun = self.tape.begin(self.path, &self.member);
        let begun = self.note(begun)?;
        self.begun = Some(begun);
        if begun { Ok(()) } else { Err(io::Error::other("it cannot be in an archive")) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.tape.data(bytes);
        self.note(written)
    }
}

/// `<base>-wal` and so on belong to `<base>`.
fn base_of(path: &RepoPath) -> RepoPath {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|&b| b == b'-').unwrap_or(bytes.len());
    RepoPath::new(bytes.get(..end).unwrap_or_default().to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::tape::Naming;
    use super::*;
    use crate::full::tar::Reader;
    use crate::full::{ArchiveForm, Decoder, Effort, Encoder, Limits};
    use crate::report::Silent;

    #[test]
    fn a_file_that_grows_after_it_was_opened_is_stored_whole() {
        let path = RepoPath::new(b"log".to_vec()).unwrap();
        for (before, after) in [(10, 20), (BUFFER, BUFFER + 1), (100, 3 * BUFFER), (3 * BUFFER, 100)] {
            let dir = tempfile::tempdir().unwrap();
            let log = dir.path().join("log");
            std::fs::write(&log, vec![1; before]).unwrap();
            let mut file = File::open(&log).unwrap();
            let stat = fs::stat_file(&file).unwrap();
            std::fs::write(&log, vec![2; after]).unwrap();
            let encoder = Encoder::openssl(Vec::new(), None, Effort { level: Some(1), threads: 1 }).unwrap();
            let naming = Naming::new(ArchiveForm::Sealed, dir.path(), true);
            let mut tape = Tape::new(encoder, "test".into(), naming, &Silent);
            let stored = Live::new(&mut tape, dir.path()).plain(&path, &mut file, stat, Vec::new());
            assert!(matches!(stored, Ok(Some(_))));
            let (finished, tally) = tape.finish().unwrap();
            let decoder = Decoder::openssl(finished.out.as_slice(), None, Limits::UNKNOWN).unwrap();
            let mut reader = Reader::new(decoder, Limits::UNKNOWN);
            let member = reader.next_member().unwrap().unwrap();
            if after < before {
                // The length was written before it shrank: told of.
                assert_eq!((member.size, tally.error_count), (before as u64, 1));
                continue;
            }
            assert_eq!((member.size, tally.error_count), (after as u64, 0));
            let (mut bytes, mut piece) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                match reader.read_data(&mut piece).unwrap() {
                    0 => break,
                    n => bytes.extend_from_slice(&piece[..n]),
                }
            }
            assert_eq!(bytes, vec![2; after]);
        }
    }
}
