//! Compression in threads: a stream is cut into pieces, which are compressed each by itself and come back in order.
//!
//! How many pieces are under way is bounded, and with it the memory: whoever hands in one too many waits.

use std::collections::BTreeMap;
use std::io;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::FullError;

/// Pieces that wait, or are done and not yet fetched, beside those that the threads work at.
const AHEAD: usize = 2;
/// What deflate looks back at.
const WINDOW: usize = 32 << 10;

/// What a piece becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// A zstd frame of its own.
    Zstd(i32),
    /// Blocks of one deflate stream, ended on a whole byte and not the last.
    Deflate(u32),
}

impl Codec {
    /// Bytes of a piece. Larger ones compress better by next to nothing; these are what the bound on memory allows.
    pub(super) fn piece(self) -> usize {
        match self {
            Self::Zstd(_) => 1 << 20,
            Self::Deflate(_) => 512 << 10,
        }
    }

    /// How many threads fit into some 30 MiB, with a piece's input and output and what the codec itself takes.
    fn most_threads(self) -> usize {
        match self {
            Self::Zstd(..=4) => 6,
            Self::Zstd(5..=9) => 3,
            Self::Zstd(_) => 1,
            Self::Deflate(_) => 16,
        }
    }
}

/// A piece that was compressed. Its buffers are used again.
#[derive(Default)]
pub(super) struct Piece {
    input: Vec<u8>,
    /// What deflate may look back at.
    before: Vec<u8>,
    /// The compressed bytes.
    pub(super) output: Vec<u8>,
    /// CRC-32 of the input, where the codec wants one.
    pub(super) crc: Crc,
}

type Done = (u64, Result<Piece, FullError>);

/// The threads, and the pieces that are under way.
pub(super) struct Pieces {
    codec: Codec,
    /// Dropped first, so that the threads end.
    jobs: Option<Sender<(u64, Piece)>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
    /// The end of the piece that was handed in last.
    before: Vec<u8>,
    /// Numbers of the next piece to hand in and to fetch.
    next: (u64, u64),
    early: BTreeMap<u64, Piece>,
    spare: Vec<Piece>,
}

impl Pieces {
    pub(super) fn new(codec: Codec, threads: usize) -> Result<Self, FullError> {
        let (jobs, work) = unbounded();
        let (report, done) = unbounded();
        let count = threads.clamp(1, codec.most_threads());
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let (work, report) = (work.clone(), report.clone());
            let thread = Builder::new().name("full-compress".to_owned());
            match thread.spawn(move || compress_all(codec, &work, &report)) {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => return Err(FullError::Io(error)),
                // Fewer do it as well.
                Err(_) => break,
            }
        }
        let (next, early, spare) = ((0, 0), BTreeMap::new(), Vec::new());
        Ok(Self { codec, jobs: Some(jobs), done, threads, before: Vec::new(), next, early, spare })
    }

    /// Hands in the next piece; `input` is replaced by an empty buffer.
    pub(super) fn push(&mut self, input: &mut Vec<u8>) -> Result<(), FullError> {
        let mut piece = self.spare.pop().unwrap_or_default();
        piece.input.clear();
        std::mem::swap(&mut piece.input, input);
        if matches!(self.codec, Codec::Deflate(_)) {
            std::mem::swap(&mut piece.before, &mut self.before);
            self.before.clear();
            self.before.extend_from_slice(&piece.input[piece.input.len().saturating_sub(WINDOW)..]);
        }
        let number = self.next.0;
        self.next.0 += 1;
        let jobs = self.jobs.as_ref().ok_or(FullError::Compression(ENDED))?;
        jobs.send((number, piece)).map_err(|_| FullError::Compression(ENDED))
    }

    /// The next piece in order, if it is done, or if so many are under way that it must be waited for.
    pub(super) fn fetch(&mut self) -> Result<Option<Piece>, FullError> {
        let under_way = usize::try_from(self.next.0 - self.next.1).unwrap_or(usize::MAX);
        self.take(under_way >= self.threads.len() + AHEAD)
    }

    /// The next piece in order; `None` when all were fetched.
    pub(super) fn fetch_last(&mut self) -> Result<Option<Piece>, FullError> {
        self.take(self.next.0 > self.next.1)
    }

    fn take(&mut self, wait: bool) -> Result<Option<Piece>, FullError> {
        loop {
            if let Some(piece) = self.early.remove(&self.next.1) {
                self.next.1 += 1;
                return Ok(Some(piece));
            }
            let (number, piece) = match self.done.try_recv() {
                Ok(done) => done,
                Err(_) if !wait => return Ok(None),
                Err(_) => self.done.recv().map_err(|_| FullError::Compression(ENDED))?,
            };
            self.early.insert(number, piece?);
        }
    }

    /// Takes back the buffers of a piece.
    pub(super) fn give_back(&mut self, piece: Piece) {
        self.spare.push(piece);
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that panicked has said so by what it reported.
            let _ = thread.join();
        }
    }
}

const ENDED: &str = "a thread ended before its work";

/// Answers for a piece also when the codec panics: who waits for it would wait for ever.
struct Answer<'a> {
    report: &'a Sender<Done>,
    number: u64,
    outcome: Option<Result<Piece, FullError>>,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Err(FullError::Compression(ENDED)));
        // Nobody listens any more when the encoder was dropped.
        let _ = self.report.send((self.number, outcome));
    }
}

fn compress_all(codec: Codec, work: &Receiver<(u64, Piece)>, report: &Sender<Done>) {
    let mut compressor = None;
    for (number, piece) in work {
        let mut answer = Answer { report, number, outcome: None };
        let outcome = match &mut compressor {
            Some(compressor) => Compressor::run(compressor, piece),
            none => Compressor::new(codec).and_then(|new| none.insert(new).run(piece)),
        };
        answer.outcome = Some(outcome);
    }
}

enum Compressor {
    Zstd(zstd::bulk::Compressor<'static>),
    Deflate(Compress),
}

impl Compressor {
    fn new(codec: Codec) -> Result<Self, FullError> {
        match codec {
            Codec::Zstd(level) => zstd::bulk::Compressor::new(level).map(Self::Zstd).map_err(failed),
            Codec::Deflate(level) => Ok(Self::Deflate(Compress::new(Compression::new(level), false))),
        }
    }

    fn run(&mut self, mut piece: Piece) -> Result<Piece, FullError> {
        piece.output.clear();
        match self {
            Self::Zstd(zstd) => {
                piece.output.reserve(zstd::zstd_safe::compress_bound(piece.input.len()));
                zstd.compress_to_buffer(&piece.input, &mut piece.output).map_err(failed)?;
            }
            Self::Deflate(deflate) => {
                piece.crc = Crc::new();
                piece.crc.update(&piece.input);
                run_deflate(deflate, &piece.before, &piece.input, &mut piece.output)?;
            }
        }
        Ok(piece)
    }
}

fn failed(_: io::Error) -> FullError {
    FullError::Compression("zstd gave up")
}

/// Appends blocks that end on a whole byte: an empty stored block comes last (RFC 1951, section 3.2.4).
fn run_deflate(
    deflate: &mut Compress,
    before: &[u8],
    mut input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), FullError> {
    const FAILED: FullError = FullError::Compression("deflate gave up");
    deflate.reset();
    if !before.is_empty() {
        deflate.set_dictionary(before).map_err(|_| FAILED)?;
    }
    output.reserve(input.len() + input.len() / 8 + 1024);
    loop {
        let taken = deflate.total_in();
        let status = deflate.compress_vec(input, output, FlushCompress::Sync).map_err(|_| FAILED)?;
        let taken = usize::try_from(deflate.total_in() - taken).unwrap_or(usize::MAX);
        input = input.get(taken..).unwrap_or_default();
        // With room left after all was taken the flush is complete, too.
        if input.is_empty() && output.len() < output.capacity() {
            return Ok(());
        }
        if status == Status::StreamEnd {
            return Err(FAILED);
        }
        output.reserve(64 << 10);
    }
}
