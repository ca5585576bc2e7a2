//! Writing file content: each frame is read once, and its blobs go wherever they belong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::plan::{Plan, PlannedFile};
use super::{Context, Error, Outcome, finish};
use crate::fs::{Dir, TempFile};
use crate::model::{BlobKind, RepoPath, Slice};
use crate::ops::content::has_content;
use crate::remote::{Fault, RemoteError};
use crate::repo::{BlobPlace, RepoError};

/// Files of several frames are kept open between their pieces, up to this many at once.
const KEPT_OPEN: usize = 256;
/// Stored bytes read with one request at most; each thread holds one run.
const RUN: u64 = 8 << 20;
/// Bytes between two frames that are read, and dropped, rather than asked around.
const GAP: u64 = 256 << 10;
/// Bytes of a file that a thread copies from nearby before it asks for more to do.
const SHARE: u64 = 4 << 20;

/// Part of a frame that belongs to a file.
struct Piece {
    file: u32,
    /// First byte within the file.
    at: u64,
    place: BlobPlace,
    id: crate::model::BlobId,
    /// Range within the blob.
    offset: u32,
    len: u32,
}

/// A frame, and where its content goes.
struct Work {
    pack: u32,
    frame: u32,
    pieces: Vec<Piece>,
}

/// How a file is coming along.
struct Progress {
    /// Pieces still to be written.
    left: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    created: bool,
    failed: Option<(String, bool)>,
}

/// Which files of the plan have been written.
pub(super) struct Written {
    /// By index into the plan's files.
    pub(super) done: Vec<bool>,
    /// Bytes that were not asked of the repository.
    pub(super) local: u64,
    /// The repository did not answer for as long as was to be waited.
    pub(super) gone: bool,
}

/// Looks up directories, the last one at hand.
pub(in crate::ops) struct Dirs<'a> {
    root: &'a Arc<Dir>,
    last: Option<(RepoPath, Arc<Dir>)>,
}

impl<'a> Dirs<'a> {
    pub(in crate::ops) fn new(root: &'a Arc<Dir>) -> Self {
        Self { root, last: None }
    }

    /// The directory that holds `path`, reached without following a link.
    pub(in crate::ops) fn parent_of(&mut self, path: &RepoPath) -> io::Result<Arc<Dir>> {
        let parent = path.parent().unwrap_or_default();
        if parent.is_root() {
            return Ok(Arc::clone(self.root));
        }
        match &self.last {
            Some((last, dir)) if *last == parent => Ok(Arc::clone(dir)),
            _ => {
                let dir = Arc::new(self.root.open_path(&parent)?);
                self.last = Some((parent, Arc::clone(&dir)));
                Ok(dir)
            }
        }
    }
}

/// Name of the file that is written before it gets its own name.
fn working_name(planned: &PlannedFile, number: usize) -> Vec<u8> {
    if planned.replaces {
        format!("{}{}-r{number}", TempFile::PREFIX, std::process::id()).into_bytes()
    } else {
        planned.entry.path.name().to_vec()
    }
}

struct Writer<'a> {
    context: &'a Context<'a>,
    root: &'a Arc<Dir>,
    plan: &'a Plan,
    progress: Vec<Progress>,
    open: AtomicUsize,
    bytes: AtomicU64,
    /// Of these, bytes that were not asked of the repository.
    local: AtomicU64,
    /// Why the repository is not asked any more: it did not answer for as long as was to be waited. Asked
    /// again for each frame, it would be waited for as often.
    gone: OnceLock<String>,
    moved: Mutex<Vec<(std::path::PathBuf, std::path::PathBuf)>>,
}

/// Writes the plan's files.
pub(super) fn run(
    context: &Context<'_>,
    root: &Arc<Dir>,
    plan: &Plan,
    outcome: &mut Outcome,
) -> Result<Written, Error> {
    let progress = plan.files.iter().map(|f| {
        let pieces = f.slices.iter().filter(|s| matches!(s, Slice::Blob { .. })).count();
        Progress { left: AtomicUsize::new(pieces), state: Mutex::default() }
    });
    let writer = Writer {
        context,
        root,
        plan,
        progress: progress.collect(),
        open: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        local: AtomicU64::new(0),
        gone: OnceLock::new(),
        moved: Mutex::default(),
    };
    writer.empty_files();
    let nearby = writer.nearby();
    let (frames, lost) = group(context, plan, &nearby);
    lost.iter().for_each(|(file, error)| writer.lose(*file, error));
    let order = in_order(frames);
    let runs = runs(context, &order);
    let next = AtomicUsize::new(0);
    // Those that wait for a network cost no processor time.
    let threads = context.request.threads.max(context.repository.remote().parallel_requests());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, runs.len().max(1)) {
            scope.spawn(|| {
                let mut dirs = Dirs::new(root);
                while !context.monitor.cancelled()
                    && let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    writer.run(&order[run.clone()], &mut dirs);
                }
            });
        }
    });
    if context.monitor.cancelled() {
        writer.abandon();
        return Err(Error::Interrupted);
    }
    Ok(writer.conclude(outcome))
}

/// Packs in the order of the walk, so that neighbouring files are written one after the other, and frames
/// in the order of their pack, so that neighbours can be read at once.
fn in_order(frames: Frames) -> Vec<Work> {
    let mut first_use: HashMap<u32, (u32, u64)> = HashMap::new();
    for ((pack, _), pieces) in &frames {
        for at in pieces.iter().map(|p| (p.file, p.at)) {
            first_use.entry(*pack).and_modify(|first| *first = at.min(*first)).or_insert(at);
        }
    }
    let mut order: Vec<_> =
        frames.into_iter().map(|((pack, frame), pieces)| Work { pack, frame, pieces }).collect();
    order.sort_by_key(|work| (first_use.get(&work.pack).copied(), work.pack, work.frame));
    order
}

/// Cuts the work into runs of frames that are read with one request each: neighbours in one pack, or
/// nearly so.
fn runs(context: &Context<'_>, order: &[Work]) -> Vec<Range<usize>> {
    let longest = if context.repository.remote().is_near() { 0 } else { RUN };
    let mut runs: Vec<Range<usize>> = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for (number, work) in order.iter().enumerate() {
        // One that the index does not know fails by itself.
        let (from, to) = context.blobs.range(work.pack, work.frame).unwrap_or_default();
        match runs.last_mut() {
            Some(run)
                if order[run.start].pack == work.pack
                    && (end..=end + GAP).contains(&from)
                    && to - begin <= longest =>
            {
                run.end = number + 1;
            }
            _ => {
                runs.push(number..number + 1);
                begin = from;
            }
        }
        end = to;
    }
    runs
}

type Frames = BTreeMap<(u32, u32), Vec<Piece>>;

/// Neighbouring slices of one file.
struct Share {
    file: usize,
    /// First byte within the file.
    at: u64,
    slices: Range<usize>,
}

/// Cuts all files into shares: a database is one file, and more than one thread's work.
fn shares(plan: &Plan) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for (file, planned) in plan.files.iter().enumerate() {
        let (mut at, mut begin) = (0, None);
        for (number, slice) in planned.slices.iter().enumerate() {
            match (begin, shares.last_mut()) {
                (Some(begin), Some(share)) if at + slice.len() - begin <= SHARE => {
                    share.slices.end = number + 1;
                }
                _ => {
                    begin = Some(at);
                    shares.push(Share { file, at, slices: number..number + 1 });
                }
            }
            at += slice.len();
        }
    }
    shares
}

/// Sorts all slices by the frame that holds them; names the files whose blobs are unknown.
fn group(
    context: &Context<'_>,
    plan: &Plan,
    nearby: &HashSet<(usize, u64)>,
) -> (Frames, Vec<(usize, RepoError)>) {
    let (mut frames, mut lost) = (Frames::new(), Vec::new());
    for (number, planned) in plan.files.iter().enumerate() {
        let mut at = 0;
        for slice in &planned.slices {
            if let Slice::Blob { id, offset, len } = *slice
                && !nearby.contains(&(number, at))
            {
                match context.blobs.place(&id) {
                    Ok(place) => {
                        let file = u32::try_from(number).unwrap_or(u32::MAX);
                        let piece = Piece { file, at, place, id, offset, len };
                        frames.entry((place.pack, place.frame)).or_default().push(piece);
                    }
                    Err(e) => lost.push((number, e)),
                }
            }
            at += slice.len();
        }
    }
    (frames, lost)
}

impl Writer<'_> {
    fn state(&self, file: usize) -> std::sync::MutexGuard<'_, State> {
        self.progress[file].state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, file: usize, message: &str, damaged: bool) {
        self.state(file).failed.get_or_insert((message.to_string(), damaged));
    }

    /// Files without content, or of holes only, have no frame to wait for.
    fn empty_files(&self) {
        let mut dirs = Dirs::new(self.root);
        for (number, progress) in self.progress.iter().enumerate() {
            if progress.left.load(Ordering::Acquire) > 0 {
                continue;
            }
            match self.open(number, &mut dirs) {
                Ok(_) => self.complete(number, &mut dirs),
                Err(e) => self.fail(number, &format!("cannot be made: {e}"), false),
            }
        }
    }

    /// Writes what can be had without asking the repository; tells which pieces of which files.
    fn nearby(&self) -> HashSet<(usize, u64)> {
        let Some(nearby) = self.context.nearby else { return HashSet::new() };
        let (shares, next) = (shares(self.plan), AtomicUsize::new(0));
        let copy = || {
            let (mut dirs, mut buffer, mut written) = (Dirs::new(self.root), Vec::new(), Vec::new());
            while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.share(nearby, share, &mut dirs, &mut buffer, &mut written);
            }
            written
        };
        let threads = self.context.request.threads.clamp(1, shares.len().max(1));
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(copy)).collect();
            let mut written: HashSet<_> = copy().into_iter().collect();
            for helper in helpers {
                // A thread that panicked ends the process' work as it would have ended ours.
                match helper.join() {
                    Ok(more) => written.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            written
        })
    }

    /// Copies what is nearby of one share.
    fn share(
        &self,
        nearby: &dyn super::Nearby,
        share: &Share,
        dirs: &mut Dirs<'_>,
        buffer: &mut Vec<u8>,
        written: &mut Vec<(usize, u64)>,
    ) {
        let (number, mut at) = (share.file, share.at);
        for slice in &self.plan.files[number].slices[share.slices.clone()] {
            if let Slice::Blob { id, offset, len } = slice
                && !self.context.monitor.cancelled()
            {
                buffer.resize(*len as usize, 0);
                if nearby.read(id, *offset, buffer) {
                    written.push((number, at));
                    if let Err(e) = self.write(number, at, buffer, dirs) {
                        self.fail(number, &format!("cannot be written: {e}"), false);
                    }
                    self.local.fetch_add(u64::from(*len), Ordering::Relaxed);
                    self.bytes.fetch_add(u64::from(*len), Ordering::Relaxed);
                    self.context.monitor.progress(0, u64::from(*len));
                    if self.progress[number].left.fetch_sub(1, Ordering::AcqRel) == 1 {
                        self.complete(number, dirs);
                    }
                }
            }
            at += slice.len();
        }
    }

    /// A blob of this file is nowhere.
    fn lose(&self, number: usize, error: &RepoError) {
        self.fail(number, &error.to_string(), true);
        if self.progress[number].left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete(number, &mut Dirs::new(self.root));
        }
    }

    /// Reads a run with one request. Where that fails, what can be had of it is read frame by frame.
    fn run(&self, works: &[Work], dirs: &mut Dirs<'_>) {
        let [first, .., last] = works else {
            works.iter().for_each(|work| self.lone_frame(work, dirs));
            return;
        };
        if self.gone.get().is_some() {
            works.iter().for_each(|work| self.lone_frame(work, dirs));
            return;
        }
        match self.context.blobs.frames(first.pack, first.frame, last.frame) {
            Ok(run) => works.iter().for_each(|work| self.frame(&work.pieces, run.open(work.frame), dirs)),
            Err(error) if is_gone(&error) => {
                self.gone.get_or_init(|| error.to_string());
                works.iter().for_each(|work| self.lone_frame(work, dirs));
            }
            Err(_) => works.iter().for_each(|work| self.lone_frame(work, dirs)),
        }
    }

    fn lone_frame(&self, work: &Work, dirs: &mut Dirs<'_>) {
        if self.context.monitor.cancelled() {
            return;
        }
        if let Some(message) = self.gone.get() {
            self.without(&work.pieces, message, dirs);
            return;
        }
        let bytes = self.context.blobs.frame(work.pack, work.frame);
        if let Err(error) = &bytes
            && is_gone(error)
        {
            self.gone.get_or_init(|| error.to_string());
        }
        self.frame(&work.pieces, bytes, dirs);
    }

    /// The files of these pieces cannot be had.
    fn without(&self, pieces: &[Piece], message: &str, dirs: &mut Dirs<'_>) {
        for number in pieces.iter().map(|piece| piece.file as usize) {
            self.fail(number, message, false);
            if self.progress[number].left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.complete(number, dirs);
            }
        }
    }

    fn frame(&self, pieces: &[Piece], bytes: Result<Vec<u8>, RepoError>, dirs: &mut Dirs<'_>) {
        let mut verified: HashMap<u32, Result<(), String>> = HashMap::new();
        let mut total = 0;
        for piece in pieces {
            let number = piece.file as usize;
            let blob = match &bytes {
                Ok(bytes) => {
                    let from = piece.place.offset as usize;
                    bytes.get(from..from + piece.place.length as usize).unwrap_or_default()
                }
                Err(e) => {
                    self.fail(number, &e.to_string(), !is_transient(e));
                    &[]
                }
            };
            if bytes.is_ok() {
                let sound = verified.entry(piece.place.offset).or_insert_with(|| {
                    let checked = self.context.blobs.verify(BlobKind::Data, &piece.id, piece.place, blob);
                    checked.map_err(|e| e.to_string())
                });
                let from = piece.offset as usize;
                match (sound, blob.get(from..from + piece.len as usize)) {
                    (Ok(()), Some(part)) => {
                        total += part.len() as u64;
                        if let Err(e) = self.write(number, piece.at, part, dirs) {
                            self.fail(number, &format!("cannot be written: {e}"), false);
                        }
                    }
                    (Ok(()), None) => self.fail(number, "a slice exceeds its blob", true),
                    (Err(message), _) => self.fail(number, message, true),
                }
            }
            if self.progress[number].left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.complete(number, dirs);
            }
        }
        self.bytes.fetch_add(total, Ordering::Relaxed);
        self.context.monitor.progress(0, total);
    }

    /// The file, made at first use; holds its lock, so that only one thread makes it.
    fn open(&self, number: usize, dirs: &mut Dirs<'_>) -> io::Result<Option<Arc<File>>> {
        let planned = &self.plan.files[number];
        let mut state = self.state(number);
        if state.failed.is_some() {
            return Ok(None);
        }
        if let Some(file) = &state.file {
            return Ok(Some(Arc::clone(file)));
        }
        let dir = dirs.parent_of(&planned.entry.path)?;
        let name = working_name(planned, number);
        let file = if state.created {
            dir.open_file_rw(&name)?
        } else {
            let file = dir.create_file(&name, 0o600)?;
            state.created = true;
            if planned.slices.iter().any(|s| matches!(s, Slice::Hole { .. })) {
                file.set_len(planned.entry.size())?;
            }
            file
        };
        let file = Arc::new(file);
        let one_piece = planned.slices.len() < 2;
        if one_piece || self.open.fetch_add(1, Ordering::AcqRel) < KEPT_OPEN {
            state.file = Some(Arc::clone(&file));
        } else {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(Some(file))
    }

    fn write(&self, number: usize, at: u64, bytes: &[u8], dirs: &mut Dirs<'_>) -> io::Result<()> {
        match self.open(number, dirs)? {
            Some(file) => file.write_all_at(bytes, at),
            None => Ok(()),
        }
    }

    /// All pieces are written: verifies what was put together, gives it its metadata and name.
    fn complete(&self, number: usize, dirs: &mut Dirs<'_>) {
        let planned = &self.plan.files[number];
        let (file, failed) = {
            let mut state = self.state(number);
            (state.file.take(), state.failed.is_some())
        };
        if file.is_some() && planned.slices.len() > 1 {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        if !failed && let Err((message, damaged)) = self.finish_file(number, planned, file, dirs) {
            self.fail(number, &message, damaged);
        }
        let state = self.state(number);
        if state.failed.is_some()
            && state.created
            && let Ok(dir) = dirs.parent_of(&planned.entry.path)
        {
            // Nothing half-written stays under a name that looks whole.
            let _ = dir.unlink(&working_name(planned, number));
        }
        drop(state);
        self.context.monitor.progress(1, 0);
    }

    fn finish_file(
        &self,
        number: usize,
        planned: &PlannedFile,
        file: Option<Arc<File>>,
        dirs: &mut Dirs<'_>,
    ) -> Result<(), (String, bool)> {
        let io_failed = |e: io::Error| (format!("cannot be written: {e}"), false);
        let dir = dirs.parent_of(&planned.entry.path).map_err(io_failed)?;
        let name = working_name(planned, number);
        let file = match file {
            Some(file) => file,
            None => Arc::new(dir.open_file_rw(&name).map_err(io_failed)?),
        };
        let hash = planned.entry.content().and_then(|c| c.hash.as_ref());
        if hash.is_some() || self.context.request.verify {
            let again = dir.open_file_rw(&name).map_err(io_failed)?;
            if !has_content(again, hash, &planned.slices, &self.context.blobs).map_err(io_failed)? {
                return Err(("what was put together is not the file that was stored".into(), true));
            }
        }
        finish::apply(self.context.request, file.as_ref(), &planned.entry.meta).map_err(io_failed)?;
        // Also where the database itself is gone: what it left behind would be replayed into this one.
        let moved = finish::move_aside(self.context, self.plan, &dir, planned).map_err(io_failed)?;
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).extend(moved);
        if planned.replaces {
            file.sync_all().map_err(io_failed)?;
            dir.rename_at(&name, &dir, planned.entry.path.name()).map_err(io_failed)?;
        }
        Ok(())
    }

    /// Takes away what was begun and not finished.
    fn abandon(&self) {
        let mut dirs = Dirs::new(self.root);
        for (number, planned) in self.plan.files.iter().enumerate() {
            let unfinished = self.progress[number].left.load(Ordering::Acquire) > 0;
            if unfinished
                && self.state(number).created
                && let Ok(dir) = dirs.parent_of(&planned.entry.path)
            {
                let _ = dir.unlink(&working_name(planned, number));
            }
        }
    }

    fn conclude(self, outcome: &mut Outcome) -> Written {
        let mut done = Vec::with_capacity(self.plan.files.len());
        for (planned, progress) in self.plan.files.iter().zip(self.progress) {
            let failed = progress.state.into_inner().unwrap_or_else(PoisonError::into_inner).failed;
            done.push(failed.is_none());
            match failed {
                None => outcome.files_written += 1,
                Some((message, damaged)) => {
                    outcome.damaged |= damaged;
                    outcome.fail(self.context.monitor, &planned.entry.path, message);
                }
            }
        }
        outcome.bytes_written = self.bytes.into_inner();
        outcome.moved_aside = self.moved.into_inner().unwrap_or_else(PoisonError::into_inner);
        Written { done, local: self.local.into_inner(), gone: self.gone.into_inner().is_some() }
    }
}

/// True when the remote did not answer for as long as was to be waited.
fn is_gone(error: &RepoError) -> bool {
    matches!(error, RepoError::Remote(RemoteError::Service { fault: Fault::Deadline, .. }))
}

/// A remote that failed to answer is not damage.
fn is_transient(error: &RepoError) -> bool {
    use crate::model::{Classify, ErrorClass};
    error.class() != ErrorClass::Damaged
}
