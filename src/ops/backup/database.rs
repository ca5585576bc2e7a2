//! Capturing a SQLite database: consistent image through its pages, or a raw copy that says so.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::job::{Database, FileJob, ReadFile};
use super::pages::{Image, PageAssembler, PreviousImage};
use super::reader::{ReadError, Reader, is_unsettled};
use crate::fs::{self, Dir, FileKind, Stat};
use crate::gather::sqlite::{self, CaptureError, CaptureOptions, Captured, IntegrityCheck, PageSink};
use crate::model::{BlobId, Capture, Content, Integrity, Timestamp};
use crate::ops::cache_keys;
use crate::repo::{BlobReader, FileMark, PageTable, load_slices};

/// How long to wait for a writer that holds a rollback-journal database exclusively.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A changed database is checked when its last check is this old, in seconds.
const CHECK_INTERVAL: i64 = 24 * 60 * 60;

/// The mark of a file as it was seen.
pub(super) fn mark(stat: &Stat) -> FileMark {
    FileMark { size: stat.size, mtime: stat.mtime, ctime: stat.ctime, inode: stat.inode }
}

/// The mark of the `-wal` beside a database. An empty one holds nothing and counts as absent.
pub(super) fn wal_mark(parent: &Dir, name: &[u8]) -> (FileMark, Option<Stat>) {
    match parent.stat_at(&[name, b"-wal"].concat()) {
        Ok(stat) if stat.kind == FileKind::File && stat.size > 0 => (mark(&stat), Some(stat)),
        _ => (FileMark::ABSENT, None),
    }
}

/// Passes pages on to the assembler, and its blobs to the reader.
struct Sink<'r, 'a> {
    reader: &'r mut Reader<'a>,
    previous: Option<Arc<PreviousImage>>,
    assembler: Option<PageAssembler<'a>>,
    stopped: bool,
}

fn not_begun() -> io::Error {
    io::Error::other("pages came before their number")
}

impl Sink<'_, '_> {
    fn with<T>(
        &mut self,
        f: impl FnOnce(&mut Option<PageAssembler<'_>>, &mut super::pages::Emit<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let (reader, stopped) = (&mut *self.reader, &mut self.stopped);
        let mut emit = |bytes: &[u8]| -> io::Result<BlobId> {
            reader.emit_bytes(bytes).map_err(|_| {
                *stopped = true;
                io::Error::other("the backup ended early")
            })
        };
        f(&mut self.assembler, &mut emit)
    }
}

impl PageSink for Sink<'_, '_> {
    fn begin(&mut self, page_size: u32, page_count: u32) -> io::Result<()> {
        let keys = &self.reader.context.repository.sealer().keys;
        // Begins again when another program opened the database half-way: what came before is void.
        self.assembler = Some(PageAssembler::new(keys, self.previous.clone(), page_size, page_count));
        Ok(())
    }

    fn write(&mut self, offset: u64, page: &[u8]) -> io::Result<()> {
        self.with(|assembler, emit| assembler.as_mut().ok_or_else(not_begun)?.write(offset, page, emit))
    }
}

impl Reader<'_> {
    /// Captures a database, or copies it raw when no consistent image can be had.
    pub(super) fn database(&mut self, job: &FileJob, stat: &Stat) -> Result<ReadFile, ReadError> {
        let context = self.context;
        let now = context.clock.now();
        let (wal, wal_stat) = wal_mark(&job.parent, job.path.name());
        let unsettled = is_unsettled(context.clock.as_ref(), stat)
            || wal_stat.is_some_and(|s| is_unsettled(context.clock.as_ref(), &s));
        let key = cache_keys::pages(&context.root, &job.path);
        let table = context.repository.cache().page_table(&key);
        let due = table.as_ref().is_none_or(|t| now.secs.saturating_sub(t.checked) >= CHECK_INTERVAL);
        let options = CaptureOptions {
            integrity: match (context.verify, due) {
                (true, _) => IntegrityCheck::Full,
                (false, true) => IntegrityCheck::Quick,
                (false, false) => IntegrityCheck::None,
            },
            busy_timeout: BUSY_TIMEOUT,
        };
        let previous =
            table.as_ref().and_then(|t| self.previous_image(t, job.previous.as_deref())).map(Arc::new);
        let path: PathBuf = context.root.join(job.path.to_os_path());
        let mut sink = Sink { reader: self, previous, assembler: None, stopped: false };
        let captured = sqlite::capture(&path, &options, &mut sink);
        let image = match captured {
            Ok(captured) => {
                let image = sink.with(|a, emit| a.take().ok_or_else(not_begun)?.finish(emit));
                image.map(|image| (captured, image)).map_err(CaptureError::Sink)
            }
            Err(error) => Err(error),
        };
        if sink.stopped {
            return Err(ReadError::Stop);
        }
        match image {
            Ok((captured, image)) => {
                // Opened again only now that SQLite is done with it.
                let (file, _) = job.parent.open_regular(job.path.name())?;
                let xattrs = fs::read_xattrs(&file)?;
                let last_check = table.map_or(0, |t| t.checked);
                let mut read = captured_file(*stat, wal, image, &captured, now, last_check);
                read.xattrs = xattrs;
                read.unsettled = unsettled;
                Ok(read)
            }
            Err(CaptureError::NotFound) => Err(ReadError::Io(io::ErrorKind::NotFound.into())),
            Err(error) => {
                let mut read = self.raw(job)?;
                read.warnings.push(format!(
                    "could not be captured consistently ({error}); it was copied as a plain file and may not be usable"
                ));
                read.database = Some(Database {
                    captured: now,
                    user_version: 0,
                    application_id: 0,
                    integrity: None,
                    table: None,
                });
                Ok(read)
            }
        }
    }

    /// The previous version's pages, when its table and its entry fit together.
    fn previous_image(&self, table: &PageTable, previous: Option<&Content>) -> Option<PreviousImage> {
        let previous = previous?;
        if cache_keys::binding(previous)? != table.binding {
            return None;
        }
        let loaded = self.context.index.get().ok()?;
        let blobs = BlobReader::new(&self.context.repository, &loaded.index);
        let slices = load_slices(previous, &blobs).ok()?;
        PreviousImage::new(table, &slices, &|id| self.context.may_keep(&loaded, id))
    }
}

fn captured_file(
    stat: Stat,
    wal: FileMark,
    image: Image,
    captured: &Captured,
    now: Timestamp,
    last_check: i64,
) -> ReadFile {
    let Image { size, slices, hash, pages } = image;
    let mut warnings = Vec::new();
    let integrity = captured.integrity.as_ref().map(|result| match result {
        Ok(()) => Integrity::Ok(now),
        Err(message) => {
            warnings.push(format!("SQLite's integrity check failed: {message}"));
            Integrity::Failed(now, message.clone())
        }
    });
    let checked = if integrity.is_some() { now.secs } else { last_check };
    let hash = (slices.len() > 1).then_some(hash);
    let table = cache_keys::binding_of(hash.as_ref(), &slices).map(|binding| PageTable {
        binding,
        main: mark(&stat),
        wal,
        page_size: captured.page_size,
        checked,
        user_version: captured.user_version,
        application_id: captured.application_id,
        captured: now,
        pages,
    });
    ReadFile {
        stat,
        xattrs: Vec::new(),
        slices,
        size,
        hash,
        capture: Capture::Sqlite { page_size: captured.page_size },
        unsettled: false,
        bytes_read: size,
        database: Some(Database {
            captured: now,
            user_version: captured.user_version,
            application_id: captured.application_id,
            integrity,
            table,
        }),
        notes: captured.notes.clone(),
        warnings,
    }
}
