//! Databases of an archive, laid down for SQLite to look at, each together with the log or journal that the archive has
//! beside it: without that, a database that was copied while it was in use is not whole, and yet not damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use super::verify::VerifyRequest;
use crate::gather::sqlite::{self, CaptureError, CaptureOptions, IntegrityCheck, PageSink};
use crate::model::RepoPath;
use crate::ops::drill::Scratch;
use crate::report::Monitor;

/// Databases that lie there at once, at most.
const MOST: usize = 256;
/// Nobody else has them open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What SQLite and we lay beside a database.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// Beginnings of a write-ahead log, but for the last bit, and of a rollback journal that is in force ("Database File
/// Format" of SQLite, sections 4.1 and 3).
const WAL: u32 = 0x377f_0682;
const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// What a database was found to be; `None` where its journal would have to be applied first.
pub(super) type Verdict = (RepoPath, Option<Result<(), String>>);

/// Databases that wait for what may belong to them.
pub(super) struct Laid<'a> {
    request: &'a VerifyRequest,
    monitor: &'a dyn Monitor,
    /// Members come in the order of their names, as in archives of ours; in others only those of a folder are together.
    sorted: bool,
    scratch: Option<Scratch>,
    waiting: BTreeMap<RepoPath, Waiting>,
    /// For the names of files.
    count: u64,
}

#[derive(Default)]
struct Waiting {
    image: PathBuf,
    database: bool,
    log: bool,
}

/// Which database a file is, or belongs to, and in the latter case as what.
pub(super) fn part_of(path: &RepoPath, head: &[u8]) -> Option<(RepoPath, &'static str)> {
    if sqlite::is_sqlite(head) {
        return Some((path.clone(), ""));
    }
    let start = head.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let suffix = match start {
        Some(start) if start & !1 == WAL => "-wal",
        _ if head.starts_with(&JOURNAL) => "-journal",
        _ => return None,
    };
    let base = path.as_bytes().strip_suffix(suffix.as_bytes())?;
    Some((RepoPath::new(base.to_vec()).ok()?, suffix))
}

impl<'a> Laid<'a> {
    pub(super) fn new(request: &'a VerifyRequest, sorted: bool, monitor: &'a dyn Monitor) -> Self {
        Self { request, monitor, sorted, scratch: None, waiting: BTreeMap::new(), count: 0 }
    }

    /// A new file for one of the parts of a database, in a folder that is made for the first one.
    pub(super) fn lay_down(&mut self, base: &RepoPath, suffix: &str) -> Result<(File, PathBuf), Error> {
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => Scratch::new(&self.request.scratch, &self.request.state_dir, 0, self.monitor)?,
        };
        let folder = &self.scratch.insert(scratch).path;
        let count = &mut self.count;
        let waiting = self.waiting.entry(base.clone()).or_insert_with(|| {
            *count += 1;
            Waiting { image: folder.join(format!("database-{count}")), ..Waiting::default() }
        });
        let is_database = suffix.is_empty();
        waiting.database |= is_database;
        waiting.log |= !is_database;
        let path = beside(&waiting.image, suffix);
        match File::create(&path) {
            Ok(file) => Ok((file, path)),
            Err(source) => Err(Error::Target { path, source }),
        }
    }

    /// Judges those that nothing more can belong to when the next member is `next`, or there is none, and takes them
    /// away.
    pub(super) fn settle(&mut self, next: Option<&RepoPath>) -> Vec<Verdict> {
        let full = self.waiting.len() > MOST;
        let (sorted, waiting) = (self.sorted, std::mem::take(&mut self.waiting));
        let waits = |base: &RepoPath| !full && next.is_some_and(|next| may_belong(next, base, sorted));
        let (waiting, settled) = waiting.into_iter().partition::<BTreeMap<_, _>, _>(|(base, _)| waits(base));
        self.waiting = waiting;
        settled.into_iter().filter_map(|(base, one)| Some((base, one.judge()?))).collect()
    }

    /// Takes the folder away.
    pub(super) fn remove(self) -> Result<(), Error> {
        Ok(self.scratch.map_or(Ok(()), Scratch::remove)?)
    }
}

/// Whether a member, or what comes after it, may belong to a database.
fn may_belong(member: &RepoPath, base: &RepoPath, sorted: bool) -> bool {
    match sorted {
        true => member.as_bytes().strip_prefix(base.as_bytes()).is_some_and(|rest| rest.starts_with(b"-")),
        false => member.starts_with(&base.parent().unwrap_or_default()),
    }
}

fn beside(image: &std::path::Path, suffix: &str) -> PathBuf {
    let mut path = image.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

impl Waiting {
    /// The verdict, if there is a database to be judged; its files are gone then.
    fn judge(self) -> Option<Option<Result<(), String>>> {
        let verdict = self.database.then(|| self.verdict());
        for suffix in COMPANIONS {
            // What cannot be removed is removed with the folder, or told then.
            drop(std::fs::remove_file(beside(&self.image, suffix)));
        }
        verdict
    }

    fn verdict(&self) -> Option<Result<(), String>> {
        let checked = match self.log {
            false => sqlite::verify_file(&self.image, true),
            true => {
                let options = CaptureOptions { integrity: IntegrityCheck::Full, busy_timeout: BUSY_TIMEOUT };
                sqlite::capture(&self.image, &options, &mut Nowhere)
                    .map(|captured| captured.integrity.unwrap_or(Ok(())))
            }
        };
        match checked {
            Ok(Ok(())) => Some(Ok(())),
            Ok(Err(message)) | Err(CaptureError::Corrupt(message)) => {
                Some(Err(format!("SQLite finds it damaged: {}", message.replace('\n', "; "))))
            }
            Err(CaptureError::HotJournal) => None,
            Err(e) => Some(Err(format!("SQLite cannot open it: {e}"))),
        }
    }
}

/// Only the check matters.
struct Nowhere;

impl PageSink for Nowhere {
    fn begin(&mut self, _page_size: u32, _page_count: u32) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, _offset: u64, _page: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
