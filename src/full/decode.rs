//! From the bytes of an archive to those of its tar stream.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::openssl::GzipReader;
use super::sealed::SealReader;
use super::{FullError, Limits};
use crate::crypto::Passphrase;
use crate::format::sealed_v1::Sealer;

/// log2 of the largest window that is taken memory for.
const WINDOW_LOG: u32 = 23;

/// Reads an archive and gives its tar stream, with some 12 MiB of memory at most. Errors of `read` hold a
/// [`FullError`].
///
/// Of the sealed form no byte is given before its frame is authenticated, and the end only when the last frame was.
/// Of the others nothing is authenticated: their SHA-256 stands in the mark.
pub struct Decoder<R: Read> {
    input: Input<R>,
    limits: Limits,
    given: u64,
}

enum Input<R: Read> {
    Sealed(Box<ZstdDecoder<'static, SealReader<R>>>),
    Gzip(Box<MultiGzDecoder<GzipReader<R>>>),
}

impl<R: Read> Decoder<R> {
    /// The sealed form; an owner's keys open it.
    pub fn sealed(input: R, sealer: &Sealer, limits: Limits) -> Result<Self, FullError> {
        let reader = SealReader::new(input, sealer)?;
        let mut zstd = ZstdDecoder::with_buffer(reader).map_err(FullError::Io)?;
        zstd.window_log_max(WINDOW_LOG).map_err(FullError::Io)?;
        Ok(Self { input: Input::Sealed(Box::new(zstd)), limits, given: 0 })
    }

    /// What `openssl enc` made of a `.tar.gz`; without a passphrase a plain one.
    pub fn openssl(input: R, passphrase: Option<&Passphrase>, limits: Limits) -> Result<Self, FullError> {
        GzipReader::new(input, passphrase).map(|reader| Self::of_gzip(reader, limits))
    }

    pub(super) fn of_gzip(reader: GzipReader<R>, limits: Limits) -> Self {
        Self { input: Input::Gzip(Box::new(MultiGzDecoder::new(reader))), limits, given: 0 }
    }

    fn stored(&self) -> u64 {
        match &self.input {
            Input::Sealed(zstd) => zstd.get_ref().read,
            Input::Gzip(gzip) => gzip.get_ref().read,
        }
    }

    fn check(&self) -> Result<(), FullError> {
        if self.given > self.limits.bytes {
            return Err(FullError::Bomb("more bytes come out of the archive than it may have"));
        }
        if self.limits.is_bomb(self.given, self.stored()) {
            return Err(FullError::Bomb("far more bytes come out of the archive than went into it"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.input {
            Input::Sealed(zstd) => zstd.read(out),
            Input::Gzip(gzip) => gzip.read(out),
        };
        let n = n.map_err(|error| told_apart(error).into_io())?;
        self.given += n as u64;
        self.check().map_err(FullError::into_io)?;
        Ok(n)
    }
}

/// What is no error of ours is one of the codec: our readers wrap those of what they read from.
fn told_apart(error: io::Error) -> FullError {
    let kind = error.kind();
    match error.downcast::<FullError>() {
        Ok(ours) => ours,
        Err(_) if kind == io::ErrorKind::UnexpectedEof => {
            FullError::Truncated("its compressed data has no end")
        }
        Err(_) => FullError::Damaged("its compressed data is malformed"),
    }
}
