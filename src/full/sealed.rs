//! The container of the sealed form: frames of a sealed object, one after the other. `format-spec/` section 16.2.

use std::io::{self, BufRead, Read, Write};

use super::FullError;
use crate::crypto::{FramePlace, ObjectKey, ObjectKind, TAG};
use crate::format::FormatError;
use crate::format::sealed_v1::{HEADER, Randomness, Sealer};

/// Plaintext bytes of all frames but the last.
pub(super) const FRAME: usize = 1 << 20;

/// Seals bytes that come in pieces.
pub(super) struct SealWriter {
    sealer: Sealer,
    key: ObjectKey,
    number: u64,
    /// The plaintext of the next frame. A full one waits for what comes after it: it may be the last.
    frame: Vec<u8>,
}

impl SealWriter {
    /// Begins an object; its header is written to `out`.
    pub(super) fn new(sealer: &Sealer, random: &Randomness, out: &mut impl Write) -> Result<Self, FullError> {
        let (header, key) = sealer.begin(ObjectKind::Archive, random)?;
        out.write_all(&header).map_err(FullError::Io)?;
        Ok(Self { sealer: sealer.clone(), key, number: 0, frame: Vec::with_capacity(FRAME + TAG) })
    }

    pub(super) fn put(&mut self, mut bytes: &[u8], out: &mut impl Write) -> Result<(), FullError> {
        while !bytes.is_empty() {
            if self.frame.len() == FRAME {
                self.seal(false, out)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(FRAME - self.frame.len()));
            self.frame.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn finish(mut self, out: &mut impl Write) -> Result<(), FullError> {
        self.seal(true, out)
    }

    fn seal(&mut self, last: bool, out: &mut impl Write) -> Result<(), FullError> {
        let place = self.sealer.place(ObjectKind::Archive, self.number, last);
        self.key.seal(place, &mut self.frame, 0)?;
        out.write_all(&self.frame).map_err(FullError::Io)?;
        self.frame.clear();
        self.number += 1;
        Ok(())
    }
}

/// Opens frame after frame. It ends only behind the last one; an archive that ends earlier is an error.
pub(super) struct SealReader<R> {
    input: R,
    sealer: Sealer,
    key: ObjectKey,
    number: u64,
    /// A frame as stored and the byte after it, which tells whether it is the last.
    stored: Vec<u8>,
    /// The plaintext of the frame that is being used, and how much of it was.
    frame: Vec<u8>,
    used: usize,
    ended: bool,
    /// Stored bytes that were read.
    pub(super) read: u64,
}

impl<R: Read> SealReader<R> {
    /// Reads the header.
    pub(super) fn new(mut input: R, sealer: &Sealer) -> Result<Self, FullError> {
        let mut header = Vec::with_capacity(HEADER);
        fill(&mut input, &mut header, HEADER)?;
        if header.len() < HEADER {
            return Err(FullError::Truncated("it ends in its header"));
        }
        let key = sealer.open_header(ObjectKind::Archive, &header)?;
        Ok(Self {
            input,
            sealer: sealer.clone(),
            key,
            number: 0,
            stored: Vec::with_capacity(FRAME + TAG + 1),
            frame: Vec::with_capacity(FRAME + TAG),
            used: 0,
            ended: false,
            read: HEADER as u64,
        })
    }

    fn place(&self, last: bool) -> FramePlace {
        self.sealer.place(ObjectKind::Archive, self.number, last)
    }

    fn next_frame(&mut self) -> Result<(), FullError> {
        const STORED: usize = FRAME + TAG;
        let before = self.stored.len();
        fill(&mut self.input, &mut self.stored, STORED + 1)?;
        self.read += (self.stored.len() - before) as u64;
        let last = self.stored.len() <= STORED;
        if self.stored.len() <= TAG {
            // No frame is empty, and the one before was not sealed as the last.
            return Err(FullError::Truncated("its last frame is missing"));
        }
        let end = self.stored.len().min(STORED);
        self.frame.clear();
        self.frame.extend_from_slice(&self.stored[..end]);
        if let Err(error) = self.key.open(self.place(last), &mut self.frame) {
            self.frame.clear();
            return Err(self.explain(last, error.into()));
        }
        self.stored.drain(..end);
        (self.used, self.ended) = (0, last);
        self.number += 1;
        Ok(())
    }

    /// Of the last bytes that are there: they may be a frame that was whole, and more should have come. That says what
    /// happened; its plaintext is not used.
    fn explain(&mut self, last: bool, error: FormatError) -> FullError {
        if !last {
            return FullError::Format(error);
        }
        let mut frame = self.stored.clone();
        match self.key.open(self.place(false), &mut frame) {
            Ok(()) => FullError::Truncated("its last frame is missing"),
            Err(_) => FullError::Truncated("its last frame is cut off, or altered"),
        }
    }
}

impl<R: Read> BufRead for SealReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.frame.len() && !self.ended {
            self.next_frame().map_err(FullError::into_io)?;
        }
        Ok(&self.frame[self.used..])
    }

    fn consume(&mut self, bytes: usize) {
        self.used = (self.used + bytes).min(self.frame.len());
    }
}

impl<R: Read> Read for SealReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        super::read_from_buffer(self, out)
    }
}

/// Reads until `buffer` holds `len` bytes, or the input ends.
pub(super) fn fill(input: &mut impl Read, buffer: &mut Vec<u8>, len: usize) -> Result<(), FullError> {
    let missing = len.saturating_sub(buffer.len()) as u64;
    input.take(missing).read_to_end(buffer).map(drop).map_err(FullError::Io)
}
