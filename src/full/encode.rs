//! From the bytes of a tar stream to those of an archive.

use std::io::{self, Write};

use super::FullError;
use super::openssl::GzipWriter;
use super::pieces::{Codec, Piece, Pieces};
use super::sealed::SealWriter;
use crate::crypto::{Passphrase, Sha256};
use crate::format::sealed_v1::{Randomness, Sealer};

/// What the sealed form is compressed with when nobody says: as packs are.
const ZSTD_LEVEL: i32 = 2;
/// The same for gzip: what `gzip` does.
const GZIP_LEVEL: i32 = 6;

/// How much work goes into compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Level of zstd from 1 to 15, or of gzip from 0 to 9; the nearest counts for others, and `None` for what serves
    /// most.
    pub level: Option<i32>,
    /// Threads that compress, beside the one that writes: at least one, and not more than memory is meant for.
    pub threads: usize,
}

/// An archive that was written.
#[derive(Debug)]
pub struct Finished<W> {
    /// What it was written to.
    pub out: W,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 of these.
    pub sha256: [u8; 32],
    /// Bytes of the tar stream.
    pub tar_bytes: u64,
}

/// Takes a tar stream and writes an archive, with some 30 MiB of memory at most. Errors of `write` hold a
/// [`FullError`]; after one nothing more is written.
pub struct Encoder<W: Write> {
    pieces: Pieces,
    /// The beginning of the next piece.
    input: Vec<u8>,
    piece: usize,
    container: Container,
    out: Counted<W>,
    tar_bytes: u64,
    failed: bool,
}

enum Container {
    Sealed(Box<SealWriter>),
    /// What was encrypted and not yet written; empty between two pieces.
    Gzip(Box<GzipWriter>, Vec<u8>),
}

impl<W: Write> Encoder<W> {
    /// In the sealed form. A writer key makes what it cannot read.
    pub fn sealed(out: W, sealer: &Sealer, effort: Effort) -> Result<Self, FullError> {
        Self::sealed_with(out, sealer, effort, &Randomness::generate()?)
    }

    /// The same with fixed values in place of random ones.
    pub fn sealed_with(
        out: W,
        sealer: &Sealer,
        effort: Effort,
        random: &Randomness,
    ) -> Result<Self, FullError> {
        let mut out = Counted::new(out);
        let container = Container::Sealed(Box::new(SealWriter::new(sealer, random, &mut out)?));
        let level = effort.level.unwrap_or(ZSTD_LEVEL).clamp(1, 15);
        Self::new(Codec::Zstd(level), effort.threads, container, out)
    }

    /// As `tar cz | openssl enc` does; without a passphrase as `tar cz` does.
    pub fn openssl(out: W, passphrase: Option<&Passphrase>, effort: Effort) -> Result<Self, FullError> {
        let (mut out, mut begin) = (Counted::new(out), Vec::new());
        let gzip = GzipWriter::new(passphrase, &mut begin)?;
        out.write_all(&begin).map_err(FullError::Io)?;
        begin.clear();
        let level = effort.level.unwrap_or(GZIP_LEVEL).clamp(0, 9).unsigned_abs();
        Self::new(Codec::Deflate(level), effort.threads, Container::Gzip(Box::new(gzip), begin), out)
    }

    fn new(codec: Codec, threads: usize, container: Container, out: Counted<W>) -> Result<Self, FullError> {
        let pieces = Pieces::new(codec, threads)?;
        let (input, piece) = (Vec::new(), codec.piece());
        Ok(Self { pieces, input, piece, container, out, tar_bytes: 0, failed: false })
    }

    /// Bytes of the archive that were written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.out.size
    }

    /// Writes what is left. An archive that was not finished is found to be cut off by who reads it.
    pub fn finish(mut self) -> Result<Finished<W>, FullError> {
        if self.failed {
            return Err(FullError::Compression("the archive could not be written before"));
        }
        // No frame of the container is empty, not even of an empty stream.
        if !self.input.is_empty() || self.tar_bytes == 0 {
            self.pieces.push(&mut self.input)?;
        }
        while let Some(piece) = self.pieces.fetch_last()? {
            self.put(piece)?;
        }
        match self.container {
            Container::Sealed(sealed) => sealed.finish(&mut self.out)?,
            Container::Gzip(gzip, mut end) => {
                gzip.finish(&mut end);
                self.out.write_all(&end).map_err(FullError::Io)?;
            }
        }
        self.out.flush().map_err(FullError::Io)?;
        let Counted { out, size, hash } = self.out;
        Ok(Finished { out, size, sha256: hash.finish(), tar_bytes: self.tar_bytes })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<usize, FullError> {
        if self.input.capacity() == 0 {
            self.input.reserve_exact(self.piece);
        }
        let n = bytes.len().min(self.piece - self.input.len());
        self.input.extend_from_slice(&bytes[..n]);
        self.tar_bytes += n as u64;
        if self.input.len() == self.piece {
            self.pieces.push(&mut self.input)?;
            while let Some(piece) = self.pieces.fetch()? {
                self.put(piece)?;
            }
        }
        Ok(n)
    }

    fn put(&mut self, piece: Piece) -> Result<(), FullError> {
        match &mut self.container {
            Container::Sealed(sealed) => sealed.put(&piece.output, &mut self.out)?,
            Container::Gzip(gzip, buffer) => {
                gzip.put(&piece.output, &piece.crc, buffer);
                self.out.write_all(buffer).map_err(FullError::Io)?;
                buffer.clear();
            }
        }
        self.pieces.give_back(piece);
        Ok(())
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            let error = FullError::Compression("the archive could not be written before");
            return Err(error.into_io());
        }
        let taken = self.take(bytes);
        self.failed = taken.is_err();
        taken.map_err(FullError::into_io)
    }

    /// Does nothing: an archive has its bytes only when it is finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts and hashes what passes.
struct Counted<W> {
    out: W,
    size: u64,
    hash: Sha256,
}

impl<W> Counted<W> {
    fn new(out: W) -> Self {
        Self { out, size: 0, hash: Sha256::default() }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        let taken = bytes.get(..n).unwrap_or(bytes);
        self.size += taken.len() as u64;
        self.hash.update(taken);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
