//! Sealing of frames under an object key, and wrapping of keys.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, XChaCha20Poly1305};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{CryptoError, ObjectKind, random};
use crate::model::RepositoryId;

/// Bytes that authentication adds to a plaintext.
pub const TAG: usize = 16;
/// Bytes of a wrap nonce.
pub const OBJECT_NONCE: usize = 24;
/// Bytes of a wrapped object key.
pub const WRAPPED_KEY: usize = 32 + TAG;

/// The key of one object. Frame numbers are its nonces, so a key seals one object only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ObjectKey([u8; 32]);

impl ObjectKey {
    /// A fresh key.
    pub fn generate() -> Result<Self, CryptoError> {
        random().map(Self)
    }

    /// A key from its bytes, as unwrapped from a header.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals `buffer[start..]` in place as frame `number` and appends the tag.
    pub fn seal(&self, place: FramePlace, buffer: &mut Vec<u8>, start: usize) -> Result<(), CryptoError> {
        let tag = ChaCha20Poly1305::new(&self.0.into())
            .encrypt_inout_detached(&place.nonce().into(), &place.aad(), InOutBuf::from(&mut buffer[start..]))
            .map_err(|_| CryptoError::Authentication)?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens a sealed frame in place and removes its tag. On error the buffer holds nothing of use.
    pub fn open(&self, place: FramePlace, buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        let body = buffer.len().checked_sub(TAG).ok_or(CryptoError::Authentication)?;
        let (data, tag) = buffer.split_at_mut(body);
        let tag = chacha20poly1305::Tag::try_from(&*tag).map_err(|_| CryptoError::Authentication)?;
        ChaCha20Poly1305::new(&self.0.into())
            .decrypt_inout_detached(&place.nonce().into(), &place.aad(), InOutBuf::from(data), &tag)
            .map_err(|_| CryptoError::Authentication)?;
        buffer.truncate(body);
        Ok(())
    }
}

/// Where a frame stands; enters its nonce and additional data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// The repository.
    pub repository: RepositoryId,
    /// The kind of object.
    pub kind: ObjectKind,
    /// The object's format version.
    pub version: u8,
    /// The frame's number, from 0.
    pub number: u64,
    /// True for the object's last frame.
    pub last: bool,
}

impl FramePlace {
    fn nonce(self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.number.to_le_bytes());
        nonce[11] = u8::from(self.last);
        nonce
    }

    fn aad(self) -> [u8; 27] {
        let mut aad = [0; 27];
        aad[..16].copy_from_slice(&self.repository.0);
        aad[16] = self.kind as u8;
        aad[17] = self.version;
        aad[18..26].copy_from_slice(&self.number.to_le_bytes());
        aad[26] = u8::from(self.last);
        aad
    }
}

/// Encrypts a key or key bundle under a wrapping key with XChaCha20-Poly1305; the tag comes last.
pub fn wrap(
    key: &[u8; 32],
    nonce: &[u8; OBJECT_NONCE],
    aad: &[u8],
    secret: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mut out = Vec::with_capacity(secret.len() + TAG);
    out.extend_from_slice(secret);
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(out.as_mut_slice()))
        .map_err(|_| CryptoError::Authentication)?;
    out.extend_from_slice(&tag);
    Ok(out)
}

/// The reverse of [`wrap`].
pub fn unwrap(
    key: &[u8; 32],
    nonce: &[u8; OBJECT_NONCE],
    aad: &[u8],
    wrapped: &[u8],
) -> Result<zeroize::Zeroizing<Vec<u8>>, CryptoError> {
    let body = wrapped.len().checked_sub(TAG).ok_or(CryptoError::Authentication)?;
    let (data, tag) = wrapped.split_at(body);
    let tag = chacha20poly1305::Tag::try_from(tag).map_err(|_| CryptoError::Authentication)?;
    let mut out = zeroize::Zeroizing::new(data.to_vec());
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(nonce.into(), aad, InOutBuf::from(out.as_mut_slice()), &tag)
        .map_err(|_| CryptoError::Authentication)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64, last: bool) -> FramePlace {
        FramePlace { repository: RepositoryId([7; 16]), kind: ObjectKind::Pack, version: 1, number, last }
    }

    #[test]
    fn a_frame_opens_only_where_it_was_sealed() {
        let key = ObjectKey::from_bytes([1; 32]);
        let mut sealed = b"some bytes".to_vec();
        key.seal(place(3, false), &mut sealed, 0).unwrap();
        let mut copy = sealed.clone();
        key.open(place(3, false), &mut copy).unwrap();
        assert_eq!(copy, b"some bytes");

        let other_repository = FramePlace { repository: RepositoryId([8; 16]), ..place(3, false) };
        let other_kind = FramePlace { kind: ObjectKind::Index, ..place(3, false) };
        let other_version = FramePlace { version: 2, ..place(3, false) };
        for wrong in [place(2, false), place(3, true), other_repository, other_kind, other_version] {
            assert_eq!(key.open(wrong, &mut sealed.clone()), Err(CryptoError::Authentication), "{wrong:?}");
        }
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert_eq!(key.open(place(3, false), &mut bad), Err(CryptoError::Authentication));
        }
        assert_eq!(key.open(place(3, false), &mut vec![0; 3]), Err(CryptoError::Authentication));
    }
}
