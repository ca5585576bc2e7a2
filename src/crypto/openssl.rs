//! What `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000` does. Only for archives that standard programs are to
//! read: nothing is authenticated. `format-spec/` section 16.4.

use aes::Aes256;
use cbc::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use zeroize::Zeroizing;

use super::{CryptoError, Passphrase};

/// What such a file begins with; the salt follows.
pub const OPENSSL_MAGIC: &[u8; 8] = b"Salted__";
/// Bytes of the salt.
pub const OPENSSL_SALT: usize = 8;
/// Bytes of a block of AES.
pub const OPENSSL_BLOCK: usize = 16;
const ITERATIONS: u32 = 100_000;
const KEY: usize = 32;

/// Key and first chaining value of one file.
#[derive(Clone)]
pub struct OpensslKey(Zeroizing<[u8; KEY + OPENSSL_BLOCK]>);

impl OpensslKey {
    /// Of a passphrase: its bytes up to the first line feed, since openssl reads one line.
    #[must_use]
    pub fn derive(passphrase: &Passphrase, salt: &[u8; OPENSSL_SALT]) -> Self {
        let line = passphrase.as_bytes().split(|&b| b == b'\n').next().unwrap_or_default();
        let mut bytes = Zeroizing::new([0; KEY + OPENSSL_BLOCK]);
        pbkdf2::pbkdf2_hmac::<sha2::Sha256>(line, salt, ITERATIONS, &mut *bytes);
        Self(bytes)
    }

    fn parts(&self) -> (Zeroizing<[u8; KEY]>, [u8; OPENSSL_BLOCK]) {
        let (mut key, mut iv) = (Zeroizing::new([0; KEY]), [0; OPENSSL_BLOCK]);
        key.copy_from_slice(&self.0[..KEY]);
        iv.copy_from_slice(&self.0[KEY..]);
        (key, iv)
    }
}

/// AES-256-CBC of bytes that come in pieces.
pub struct CbcEncryptor {
    mode: cbc::Encryptor<Aes256>,
    /// The beginning of a block; less than one.
    pending: Vec<u8>,
}

impl CbcEncryptor {
    /// Begins a file.
    #[must_use]
    pub fn new(key: &OpensslKey) -> Self {
        let (key, iv) = key.parts();
        Self { mode: cbc::Encryptor::new((&*key).into(), (&iv).into()), pending: Vec::new() }
    }

    /// Takes the next bytes, and appends to `out` what they make.
    pub fn update(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.append(&mut self.pending);
        out.extend_from_slice(bytes);
        let whole = (out.len() - start) / OPENSSL_BLOCK * OPENSSL_BLOCK;
        self.pending.extend_from_slice(&out[start + whole..]);
        out.truncate(start + whole);
        self.mode.encrypt_blocks(Array::slice_as_chunks_mut(&mut out[start..]).0);
    }

    /// Appends the end of the file: what is left, and the padding of PKCS #7.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let padding = OPENSSL_BLOCK - self.pending.len() % OPENSSL_BLOCK;
        let byte = u8::try_from(padding).unwrap_or_default();
        self.update(&[byte; OPENSSL_BLOCK][..padding], out);
    }
}

/// The reverse of [`CbcEncryptor`].
pub struct CbcDecryptor {
    mode: cbc::Decryptor<Aes256>,
    /// The last bytes that came, of which the padding may be a part: at most a block.
    held: Vec<u8>,
}

impl CbcDecryptor {
    /// Begins a file.
    #[must_use]
    pub fn new(key: &OpensslKey) -> Self {
        let (key, iv) = key.parts();
        Self { mode: cbc::Decryptor::new((&*key).into(), (&iv).into()), held: Vec::new() }
    }

    /// Takes the next bytes, and appends to `out` what they were, as far as the padding is not among them.
    pub fn update(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.append(&mut self.held);
        out.extend_from_slice(bytes);
        let whole = (out.len() - start).saturating_sub(1) / OPENSSL_BLOCK * OPENSSL_BLOCK;
        self.held.extend_from_slice(&out[start + whole..]);
        out.truncate(start + whole);
        self.mode.decrypt_blocks(Array::slice_as_chunks_mut(&mut out[start..]).0);
    }

    /// Appends the last bytes. An error means that the file is cut off, or that the key is not its own: it is
    /// right by chance in one of 256 cases.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CryptoError> {
        if self.held.len() != OPENSSL_BLOCK {
            return Err(CryptoError::Authentication);
        }
        let mut last = std::mem::take(&mut self.held);
        self.mode.decrypt_blocks(Array::slice_as_chunks_mut(&mut last).0);
        let padding = usize::from(last[OPENSSL_BLOCK - 1]);
        let data = OPENSSL_BLOCK.checked_sub(padding).filter(|_| padding > 0);
        let data = data.ok_or(CryptoError::Authentication)?;
        if last[data..].iter().any(|&b| usize::from(b) != padding) {
            return Err(CryptoError::Authentication);
        }
        out.extend_from_slice(&last[..data]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OpensslKey {
        OpensslKey(Zeroizing::new(std::array::from_fn(|n| u8::try_from(n).unwrap())))
    }

    /// Made with `openssl enc -aes-256-cbc -pbkdf2 -iter 100000 -S 0102030405060708 -pass pass:correct -P`.
    #[test]
    fn keys_are_those_of_openssl() {
        let key = OpensslKey::derive(&Passphrase::new(b"correct\nhorse".to_vec()), &[1, 2, 3, 4, 5, 6, 7, 8]);
        let hex = data_encoding::HEXLOWER.encode(&*key.0);
        assert_eq!(
            hex,
            "e656d343bc8bcc1ef9b957da4a0e73b6a533a9557f7340fdad28c1ff02e53c6c6a2c3ffa519070bef6b7bc8fef9f89c3"
        );
    }

    #[test]
    fn pieces_of_any_length_come_back() {
        for len in (0..50).chain([1_000]) {
            let bytes: Vec<u8> = (0..len).map(|n: u32| n.to_le_bytes()[0]).collect();
            for piece in [1, 3, 15, 16, 17, 999] {
                let (mut cipher, mut sealed) = (CbcEncryptor::new(&key()), Vec::new());
                bytes.chunks(piece).for_each(|piece| cipher.update(piece, &mut sealed));
                cipher.finish(&mut sealed);
                assert_eq!(sealed.len(), bytes.len() / 16 * 16 + 16);
                let (mut cipher, mut opened) = (CbcDecryptor::new(&key()), Vec::new());
                sealed.chunks(piece).for_each(|piece| cipher.update(piece, &mut opened));
                cipher.finish(&mut opened).unwrap();
                assert_eq!(opened, bytes, "{len} {piece}");
            }
        }
    }

    #[test]
    fn an_end_that_is_none_is_refused() {
        let finish = |sealed: &[u8]| {
            let (mut cipher, mut opened) = (CbcDecryptor::new(&key()), Vec::new());
            cipher.update(sealed, &mut opened);
            cipher.finish(&mut opened)
        };
        let seal = |last: &[u8; 16]| {
            let (mut cipher, mut sealed) = (CbcEncryptor::new(&key()), Vec::new());
            cipher.update(last, &mut sealed);
            sealed
        };
        let with = |end: &[u8]| {
            let mut block = [7; 16];
            block[16 - end.len()..].copy_from_slice(end);
            block
        };
        assert_eq!(finish(&seal(&[16; 16])), Ok(()));
        assert_eq!(finish(&seal(&with(&[1]))), Ok(()));
        assert_eq!(finish(&seal(&with(&[3, 3, 3]))), Ok(()));
        for last in [with(&[0]), with(&[17]), with(&[255]), with(&[2, 3, 3]), with(&[16])] {
            assert_eq!(finish(&seal(&last)), Err(CryptoError::Authentication), "{last:?}");
        }
        let sealed = seal(&[16; 16]);
        for len in 0..16 {
            assert_eq!(finish(&sealed[..len]), Err(CryptoError::Authentication), "{len}");
        }
    }
}
