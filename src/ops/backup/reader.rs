//! Reading files: cutting, hashing, and finding what the previous snapshot has already.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use super::job::{FileDone, FileJob, Job, ReadFile};
use crate::chunk::{Chunker, MAX_CHUNK, MIN_CHUNK};
use crate::clock::Clock;
use crate::crypto::ContentHasher;
use crate::format::limits;
use crate::fs::{self, Stat};
use crate::gather::sqlite;
use crate::model::{BlobId, BlobKind, Capture, Content, ContentHash, Slice};
use crate::repo::{
    BlobReader, Filler, FullFrame, LoadedIndex, Packer, RepoError, Repository, SharedIndex, load_slices,
};
use crate::report::Monitor;

/// One read.
const READ: usize = 256 << 10;
/// Blocks of content hashes of ordinary files, and of those from 1 GiB on.
const BLOCK_LOG2: u8 = 16;
const LARGE_BLOCK_LOG2: u8 = 20;
const LARGE: u64 = 1 << 30;
/// Smaller files are stored anew when they grow: a slice more costs more than it saves.
const MIN_GROWN: u64 = 16 << 10;
/// Trailing slices shorter than a small file are cut anew when there are this many.
const MAX_TAILS: usize = 16;
/// A file that is being changed while it is read is read again so often, when it is no larger than
/// this: a torn read of a configuration file is worth a second look.
const RETRIES: u32 = 2;
const MAX_RETRIED: u64 = 512 << 10;
/// Linux's clock for file times advances in ticks of up to 10 ms: a file that changed this short a
/// time ago may change again without a visible sign.
const TICK: Duration = Duration::from_millis(20);
/// The same for file systems that keep whole or even seconds only (HFS+, FAT).
const COARSE_TICK: Duration = Duration::from_secs(2);
/// Files of the current tick are waited for so often per reader, then marked instead.
const MAX_WAITS: u32 = 8;

/// What all readers share.
pub(super) struct Context {
    pub(super) repository: Repository,
    pub(super) index: Arc<SharedIndex>,
    /// All that the previous snapshot needs is in the index.
    pub(super) is_sound: bool,
    pub(super) chunker: Chunker,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) monitor: Arc<dyn Monitor>,
    /// The walked directory, without links.
    pub(super) root: PathBuf,
    /// Check every captured database thoroughly.
    pub(super) verify: bool,
    /// Takes what is new.
    pub(super) packer: Packer,
    /// How the disk is doing.
    pub(super) pace: Pace,
}

impl Context {
    /// True when a blob of the previous snapshot may be kept. What cannot be looked up is stored again.
    pub(super) fn may_keep(&self, loaded: &LoadedIndex, id: &BlobId) -> bool {
        self.is_sound || loaded.may_keep(id).unwrap_or(false)
    }
}

/// Whether files come from a disk rather than from the system's memory. Then the walk, which is ahead of
/// the readers, asks for them early, so that many are on their way at once; where they are in memory that
/// would only cost time.
#[derive(Default)]
pub(super) struct Pace {
    /// Jobs for which the walk still asks ahead.
    ahead: AtomicU32,
}

impl Pace {
    /// Reading from memory takes less than this: a file, and a byte.
    const FILE: Duration = Duration::from_micros(100);
    const BYTES_PER_MICRO: u64 = 1000;
    /// What was asked for ahead reads like memory; so it goes on for this many jobs before it is seen anew.
    const JOBS: u32 = 64;

    fn note(&self, files: u32, bytes: u64, taken: Duration) {
        if taken > Self::FILE * files + Duration::from_micros(bytes / Self::BYTES_PER_MICRO) {
            self.ahead.store(Self::JOBS, Ordering::Relaxed);
        }
    }

    /// Asked once for each job: whether to ask for its files ahead.
    pub(super) fn is_slow(&self) -> bool {
        let less = |jobs: u32| jobs.checked_sub(1);
        self.ahead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// The backup ends early; why is known elsewhere.
pub(super) struct Stop;

/// Why reading a file ended early.
pub(super) enum ReadError {
    Stop,
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Stop> for ReadError {
    fn from(_: Stop) -> Self {
        Self::Stop
    }
}

/// Frames that wait for a thread with time for them.
pub(super) type Offers = (Sender<FullFrame>, Receiver<FullFrame>);

/// Takes jobs until there are no more. Whenever there is none, compresses what others have read: one
/// reader with a large file keeps all processors busy.
pub(super) fn run(context: &Context, jobs: &Receiver<Job>, (offer, offered): Offers) {
    let mut reader = Reader::new(context, Some(offer), MAX_WAITS);
    // An early end is known to whoever ended it.
    let _: Result<(), Stop> = reader.run(jobs, &offered);
}

/// Reads files one after the other; what is new goes into the frames of its own filler.
pub(super) struct Reader<'a> {
    pub(super) context: &'a Context,
    filler: Filler<'a>,
    waits: u32,
    /// Time and bytes of reads since the job began.
    taken: Duration,
    bytes: u64,
}

/// Content of a file as read.
struct ReadContent {
    slices: Vec<Slice>,
    size: u64,
    hash: Option<ContentHash>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(context: &'a Context, offer: Option<Sender<FullFrame>>, waits: u32) -> Self {
        Self { context, filler: context.packer.filler(offer), waits, taken: Duration::ZERO, bytes: 0 }
    }

    fn run(&mut self, jobs: &Receiver<Job>, offered: &Receiver<FullFrame>) -> Result<(), Stop> {
        loop {
            select! {
                recv(jobs) -> job => match job {
                    Ok(job) => self.job(&job)?,
                    Err(_) => break,
                },
                recv(offered) -> frame => frame.map_or(Ok(()), |frame| self.help(frame))?,
            }
        }
        self.finish()?;
        // Until all others are done.
        offered.iter().try_for_each(|frame| self.help(frame))
    }

    fn job(&mut self, Job { files, out }: &Job) -> Result<(), Stop> {
        (self.taken, self.bytes) = (Duration::ZERO, 0);
        for file in files {
            out.send(self.file(file)?).map_err(|_| Stop)?;
        }
        self.context.pace.note(u32::try_from(files.len()).unwrap_or(u32::MAX), self.bytes, self.taken);
        self.go_on()
    }

    fn help(&mut self, frame: FullFrame) -> Result<(), Stop> {
        self.filler.help(frame).map_err(|error| stop(&self.context.packer, error))
    }

    /// Reads one file.
    pub(super) fn file(&mut self, job: &FileJob) -> Result<FileDone, Stop> {
        // What an earlier file left behind when it could not be read to its end.
        self.filler.discard();
        Ok(match self.read(job) {
            Ok(file) => FileDone::Read(Box::new(file)),
            Err(ReadError::Stop) => return Err(Stop),
            Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::NotFound => FileDone::Vanished,
            Err(ReadError::Io(e)) => FileDone::Failed(e.to_string()),
        })
    }

    /// Stores what is left.
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        self.filler.finish().map_err(|error| stop(&self.context.packer, error))
    }

    fn read(&mut self, job: &FileJob) -> Result<ReadFile, ReadError> {
        let name = job.path.name();
        let mut attempt = 0;
        loop {
            let (mut file, mut stat) = job.parent.open_regular(name)?;
            if let Some(wait) = self.wait_for(&stat) {
                // The clock's current tick ends soon: what is read after it can be trusted.
                self.waits -= 1;
                std::thread::sleep(wait);
                stat = fs::stat_file(&file)?;
            }
            let unsettled = is_unsettled(self.context.clock.as_ref(), &stat);
            let mut head = [0; 16];
            let began = self.context.clock.monotonic();
            let head_len = file.read_at(&mut head, 0)?;
            self.taken += self.context.clock.monotonic().saturating_sub(began);
            if sqlite::is_sqlite(&head[..head_len]) {
                // Closing any handle of a database drops the locks that this process has on it, so
                // it happens before SQLite opens it.
                drop(file);
                return self.database(job, &stat);
            }
            if stat.size > limits::FILE_SIZE {
                return Err(io::Error::other("is larger than 1 PiB").into());
            }
            let xattrs = fs::read_xattrs(&file)?;
            let content = self.content(&mut file, &stat, job.previous.as_deref())?;
            let after = fs::stat_file(&file)?;
            let (mut notes, mut torn) = (Vec::new(), false);
            if content.size < stat.size {
                notes.push(format!("shrank from {} to {} bytes while it was read", stat.size, content.size));
                torn = true;
            } else if after.size == stat.size && (after.mtime, after.ctime) != (stat.mtime, stat.ctime) {
                torn = true;
                notes.push("changed while it was read".into());
            }
            // One that only grew is whole up to the size it had, and shows as changed next time. What was
            // stored of the torn one stays behind: a few blobs that nothing refers to.
            if torn && attempt < RETRIES && stat.size <= MAX_RETRIED {
                attempt += 1;
                continue;
            }
            return Ok(ReadFile {
                stat,
                xattrs,
                size: content.size,
                bytes_read: content.size,
                slices: content.slices,
                hash: content.hash,
                capture: Capture::Plain,
                unsettled: unsettled || torn,
                database: None,
                notes,
                warnings: Vec::new(),
            });
        }
    }

    /// Reads a file as plain bytes although it is a database.
    pub(super) fn raw(&mut self, job: &FileJob) -> Result<ReadFile, ReadError> {
        self.filler.discard();
        let (mut file, stat) = job.parent.open_regular(job.path.name())?;
        let xattrs = fs::read_xattrs(&file)?;
        let content = self.content(&mut file, &stat, None)?;
        Ok(ReadFile {
            stat,
            xattrs,
            size: content.size,
            bytes_read: content.size,
            slices: content.slices,
            hash: content.hash,
            capture: Capture::RawSqlite,
            unsettled: true,
            database: None,
            notes: Vec::new(),
            warnings: Vec::new(),
        })
    }

    fn wait_for(&self, stat: &Stat) -> Option<Duration> {
        let age = self.context.clock.now().nanos_since(stat.ctime);
        let left = i128::try_from(TICK.as_nanos()).ok()? - age;
        let soon = self.waits > 0 && age >= 0 && left > 0;
        soon.then(|| Duration::from_nanos(u64::try_from(left).unwrap_or_default()))
    }

    fn content(
        &mut self,
        file: &mut File,
        stat: &Stat,
        previous: Option<&Content>,
    ) -> Result<ReadContent, ReadError> {
        let keys = &self.context.repository.sealer().keys;
        let block_log2 = if stat.size < LARGE { BLOCK_LOG2 } else { LARGE_BLOCK_LOG2 };
        let mut slices = Vec::new();
        // Whatever may become more than one slice, however small: the format wants its hash.
        let mut hasher = (stat.size > MIN_CHUNK as u64 || previous.is_some() || stat.may_have_holes())
            .then(|| ContentHasher::new(keys, block_log2));
        let mut size = 0;
        if stat.may_have_holes() {
            for range in fs::data_ranges(file, stat.size)? {
                self.hole(range.start - size, &mut slices, hasher.as_mut());
                file.seek(SeekFrom::Start(range.start))?;
                size =
                    range.start + self.chunks(file, range.end - range.start, &mut slices, hasher.as_mut())?;
                if size < range.end {
                    break;
                }
            }
            // A file that shrank meanwhile has no hole at its end.
            if fs::stat_file(file)?.size >= stat.size {
                self.hole(stat.size - size, &mut slices, hasher.as_mut());
                size = stat.size;
            }
        } else {
            let mut left = stat.size;
            let kept = self.kept_slices(stat, previous);
            let same = self.same_prefix(file, &mut left, &kept, &mut slices, hasher.as_mut())?;
            size = same + self.chunks(file, left, &mut slices, hasher.as_mut())?;
        }
        let hash = match hasher {
            Some(hasher) if slices.len() > 1 => Some(ContentHash { block_log2, hash: hasher.finish() }),
            _ => None,
        };
        Ok(ReadContent { slices, size, hash })
    }

    fn hole(&self, len: u64, slices: &mut Vec<Slice>, hasher: Option<&mut ContentHasher<'_>>) {
        if len > 0 {
            slices.push(Slice::Hole { len });
            if let Some(hasher) = hasher {
                hasher.update_zeros(len);
            }
        }
    }

    /// The slices of the previous version that may be kept: `format-spec/` section 14.3.
    fn kept_slices(&self, stat: &Stat, previous: Option<&Content>) -> Vec<Slice> {
        let Some(previous) = previous.filter(|p| stat.size >= MIN_GROWN && p.capture == Capture::Plain)
        else {
            return Vec::new();
        };
        let load = || {
            let loaded = self.context.index.get().ok()?;
            let blobs = BlobReader::new(&self.context.repository, &loaded.index);
            let mut slices = load_slices(previous, &blobs).ok()?;
            let usable = slices
                .iter()
                .take_while(|s| matches!(s, Slice::Blob { id, .. } if self.context.may_keep(&loaded, id)));
            let usable = usable.count();
            slices.truncate(usable);
            Some(slices)
        };
        // A manifest that cannot be read costs the saving, not the backup.
        let mut slices: Vec<Slice> = load().unwrap_or_default();
        let tails = slices.iter().rev().take_while(|s| s.len() < MIN_CHUNK as u64).count();
        if tails >= MAX_TAILS {
            slices.truncate(slices.len() - tails);
        }
        slices
    }

    /// Compares the beginning of the file with slices of its previous version; returns how many
    /// bytes are the same. What was read beyond them stays in the buffer.
    fn same_prefix(
        &mut self,
        file: &mut File,
        left: &mut u64,
        kept: &[Slice],
        slices: &mut Vec<Slice>,
        mut hasher: Option<&mut ContentHasher<'_>>,
    ) -> Result<u64, ReadError> {
        let mut same = 0;
        for slice in kept {
            let Slice::Blob { id, len, .. } = *slice else { break };
            let len = len as usize;
            self.fill(file, len, left)?;
            let Some(bytes) = self.filler.loose().get(..len) else { break };
            // Equal only when the slice is its whole blob, which is what makes it a prefix check.
            if self.context.repository.sealer().keys.blob_id(BlobKind::Data, bytes) != id {
                break;
            }
            if let Some(hasher) = hasher.as_deref_mut() {
                hasher.update(bytes);
            }
            slices.push(*slice);
            same += len as u64;
            self.filler.skip(len);
            self.go_on()?;
        }
        Ok(same)
    }

    /// Cuts the next `left` bytes, and what the buffer holds before them, into chunks; returns
    /// their number of bytes.
    fn chunks(
        &mut self,
        file: &mut File,
        mut left: u64,
        slices: &mut Vec<Slice>,
        mut hasher: Option<&mut ContentHasher<'_>>,
    ) -> Result<u64, ReadError> {
        let mut total = 0;
        loop {
            self.fill(file, MAX_CHUNK, &mut left)?;
            let bytes = self.filler.loose();
            if bytes.is_empty() {
                return Ok(total);
            }
            let len = self.context.chunker.cut(bytes, left == 0).unwrap_or(bytes.len());
            let bytes = &bytes[..len];
            if let Some(hasher) = hasher.as_deref_mut() {
                hasher.update(bytes);
            }
            let id = self.context.repository.sealer().keys.blob_id(BlobKind::Data, bytes);
            let len32 = u32::try_from(len).map_err(io::Error::other)?;
            slices.push(Slice::Blob { id, offset: 0, len: len32 });
            total += len as u64;
            self.take(id, len)?;
        }
    }

    /// Reads until there are `want` loose bytes, or nothing is left.
    fn fill(&mut self, file: &mut File, want: usize, left: &mut u64) -> io::Result<()> {
        if *left == 0 || self.filler.loose().len() >= want {
            return Ok(());
        }
        let began = self.context.clock.monotonic();
        while self.filler.loose().len() < want && *left > 0 {
            let n = usize::try_from(*left).unwrap_or(READ).min(READ);
            let buffer = self.filler.buffer();
            buffer.reserve(n);
            let got = file.by_ref().take(n as u64).read_to_end(buffer)?;
            *left -= got as u64;
            self.bytes += got as u64;
            if got < n {
                *left = 0;
            }
        }
        self.taken += self.context.clock.monotonic().saturating_sub(began);
        Ok(())
    }

    /// Stops in the middle of a large file when nobody needs it any more.
    fn go_on(&self) -> Result<(), Stop> {
        let over = self.context.monitor.cancelled() || self.context.packer.has_failed();
        if over { Err(Stop) } else { Ok(()) }
    }

    fn take(&mut self, id: BlobId, len: usize) -> Result<(), Stop> {
        self.go_on()?;
        self.filler.take(id, len).map(drop).map_err(|error| stop(&self.context.packer, error))
    }

    /// Stores a blob that was not read into the buffer.
    pub(super) fn emit_bytes(&mut self, bytes: &[u8]) -> Result<BlobId, Stop> {
        let id = self.context.repository.sealer().keys.blob_id(BlobKind::Data, bytes);
        self.filler.buffer().extend_from_slice(bytes);
        self.take(id, bytes.len())?;
        Ok(id)
    }
}

/// Notes why it is over.
fn stop(packer: &Packer, error: RepoError) -> Stop {
    packer.fail(error);
    Stop
}

/// True when the file changed so short a time before it is read that another change could leave the
/// same times.
pub(super) fn is_unsettled(clock: &dyn Clock, stat: &Stat) -> bool {
    let coarse = stat.ctime.nanos == 0 && stat.mtime.nanos == 0;
    let tick = if coarse { COARSE_TICK } else { TICK };
    clock.now().nanos_since(stat.ctime) < i128::try_from(tick.as_nanos()).unwrap_or(i128::MAX)
}
