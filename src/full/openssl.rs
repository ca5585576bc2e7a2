//! The container of the openssl form, and of plain gzip files: `format-spec/` section 16.4.

use std::io::{self, BufRead, Read};

use flate2::Crc;

use super::FullError;
use super::sealed::fill;
use crate::crypto::{self, CbcDecryptor, CbcEncryptor, OPENSSL_MAGIC, OPENSSL_SALT, OpensslKey, Passphrase};

/// Bytes that are read, and decrypted, at once.
const BUFFER: usize = 128 << 10;
/// gzip, deflate, no names and no time, made on Unix (RFC 1952).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// An empty block, the last of a deflate stream.
const DEFLATE_END: [u8; 2] = [3, 0];
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];

/// Makes a gzip file of pieces of a deflate stream, and encrypts it if it is given a passphrase.
pub(super) struct GzipWriter {
    cipher: Option<CbcEncryptor>,
    crc: Crc,
}

impl GzipWriter {
    /// Begins a file; its first bytes are appended to `out`.
    pub(super) fn new(passphrase: Option<&Passphrase>, out: &mut Vec<u8>) -> Result<Self, FullError> {
        let salt: [u8; OPENSSL_SALT] = crypto::random()?;
        let cipher = passphrase.map(|passphrase| {
            out.extend_from_slice(OPENSSL_MAGIC);
            out.extend_from_slice(&salt);
            CbcEncryptor::new(&OpensslKey::derive(passphrase, &salt))
        });
        let mut writer = Self { cipher, crc: Crc::new() };
        writer.bytes(&GZIP_HEADER, out);
        Ok(writer)
    }

    /// The next piece of the deflate stream, and the checksum of what it was made of.
    pub(super) fn put(&mut self, bytes: &[u8], crc: &Crc, out: &mut Vec<u8>) {
        self.crc.combine(crc);
        self.bytes(bytes, out);
    }

    /// Ends the file.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) {
        let mut end = DEFLATE_END.to_vec();
        end.extend_from_slice(&self.crc.sum().to_le_bytes());
        end.extend_from_slice(&self.crc.amount().to_le_bytes());
        self.bytes(&end, out);
        if let Some(cipher) = self.cipher {
            cipher.finish(out);
        }
    }

    fn bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.cipher {
            Some(cipher) => cipher.update(bytes, out),
            None => out.extend_from_slice(bytes),
        }
    }
}

/// The gzip file: as it is stored, or decrypted.
pub(super) struct GzipReader<R> {
    input: R,
    cipher: Option<CbcDecryptor>,
    stored: Vec<u8>,
    plain: Vec<u8>,
    used: usize,
    ended: bool,
    /// Stored bytes that were read.
    pub(super) read: u64,
}

impl<R: Read> GzipReader<R> {
    /// Reads the beginning, and looks whether the passphrase makes sense of it.
    pub(super) fn new(input: R, passphrase: Option<&Passphrase>) -> Result<Self, FullError> {
        match passphrase {
            Some(passphrase) => Self::encrypted(input, |salt| OpensslKey::derive(passphrase, salt)),
            None => Self::plain(input),
        }
    }

    fn of(input: R) -> Self {
        let (stored, plain) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
        Self { input, cipher: None, stored, plain, used: 0, ended: false, read: 0 }
    }

    /// The same with the key that belongs to a salt.
    pub(super) fn encrypted(
        input: R,
        key: impl FnOnce(&[u8; OPENSSL_SALT]) -> OpensslKey,
    ) -> Result<Self, FullError> {
        let mut reader = Self::of(input);
        reader.begin_encrypted(key)?;
        Ok(reader)
    }

    fn plain(input: R) -> Result<Self, FullError> {
        let mut reader = Self::of(input);
        reader.begin_plain()?;
        Ok(reader)
    }

    fn begin_encrypted(
        &mut self,
        key: impl FnOnce(&[u8; OPENSSL_SALT]) -> OpensslKey,
    ) -> Result<(), FullError> {
        let mut header = Vec::new();
        fill(&mut self.input, &mut header, OPENSSL_MAGIC.len() + OPENSSL_SALT)?;
        self.read = header.len() as u64;
        let salt = header.strip_prefix(OPENSSL_MAGIC).map(<[u8; OPENSSL_SALT]>::try_from);
        match salt {
            Some(Ok(salt)) => self.cipher = Some(CbcDecryptor::new(&key(&salt))),
            Some(Err(_)) => return Err(FullError::Truncated("it ends in its header")),
            None if header.starts_with(GZIP_MAGIC) => {
                return Err(FullError::Damaged(
                    "it is a gzip file that is not encrypted, as its name says it is",
                ));
            }
            None => return Err(FullError::Damaged("it is nothing that `openssl enc -salt` has written")),
        }
        match self.more() {
            Err(FullError::Truncated(_)) if self.read == header.len() as u64 => {
                Err(FullError::Truncated("it ends behind its header"))
            }
            // What came before the end was decrypted already, and tells whose fault the end is.
            Ok(()) | Err(FullError::Truncated(_)) if !self.plain.starts_with(GZIP_MAGIC) => {
                Err(FullError::WrongPassphrase)
            }
            other => other,
        }
    }

    fn begin_plain(&mut self) -> Result<(), FullError> {
        self.more()?;
        if self.plain.starts_with(GZIP_MAGIC) {
            Ok(())
        } else if self.plain.starts_with(OPENSSL_MAGIC) {
            Err(FullError::Damaged("it is encrypted by `openssl enc`, which its name does not say"))
        } else {
            Err(FullError::Damaged("it is no gzip file"))
        }
    }

    /// Reads until there are bytes to use, or no more.
    fn more(&mut self) -> Result<(), FullError> {
        self.plain.clear();
        self.used = 0;
        while self.plain.is_empty() && !self.ended {
            self.stored.clear();
            fill(&mut self.input, &mut self.stored, BUFFER)?;
            self.read += self.stored.len() as u64;
            self.ended = self.stored.len() < BUFFER;
            match &mut self.cipher {
                None => std::mem::swap(&mut self.plain, &mut self.stored),
                Some(cipher) => cipher.update(&self.stored, &mut self.plain),
            }
            if self.ended
                && let Some(cipher) = self.cipher.take()
            {
                let end = "its length or its padding is not what encryption leaves";
                cipher.finish(&mut self.plain).map_err(|_| FullError::Truncated(end))?;
            }
        }
        Ok(())
    }
}

impl<R: Read> BufRead for GzipReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.plain.len() && !self.ended {
            self.more().map_err(FullError::into_io)?;
        }
        Ok(&self.plain[self.used..])
    }

    fn consume(&mut self, bytes: usize) {
        self.used = (self.used + bytes).min(self.plain.len());
    }
}

impl<R: Read> Read for GzipReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        super::read_from_buffer(self, out)
    }
}
