//! Key derivation, authenticated encryption and keyed hashing, as `format-spec/` sections 4 to 6
//! fix them. Secrets are wiped when dropped.

mod aead;
mod kdf;
mod keys;
mod openssl;
mod pair;
mod phrase;
#[cfg(test)]
pub(crate) mod seeded;

pub use aead::{FramePlace, OBJECT_NONCE, ObjectKey, TAG, WRAPPED_KEY, unwrap, wrap};
pub use kdf::{Passphrase, ScryptParams, Stretched, stretch};
pub(crate) use keys::Naming;
pub use keys::{ContentHasher, FINGERPRINT, Keyring, MasterKey, Masters, ObjectKind, WriterKeys};
pub use openssl::{CbcDecryptor, CbcEncryptor, OPENSSL_BLOCK, OPENSSL_MAGIC, OPENSSL_SALT, OpensslKey};
pub(crate) use pair::WriterIdentity;
pub use pair::{Agreed, FreshSecret, PROOF, PUBLIC_KEY};
pub use phrase::{PHRASE_WORDS, PhraseError, generate_phrase, read_phrase, spell_phrase};

/// Why a cryptographic step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The tag does not fit: the bytes are not what was sealed under this key.
    #[error("authentication failed")]
    Authentication,
    /// The scrypt parameters are outside the limits of the format.
    #[error("key derivation parameters are outside the limits")]
    Parameters,
    /// A key of a generation that the keyring does not have.
    #[error("there is no key of generation {0}")]
    Generation(u8),
    /// What only an owner can do.
    #[error("a writer key reads no packs and no snapshots")]
    WriterKey,
    /// The system gave no random bytes.
    #[error("the system's random number generator failed")]
    Random,
}

/// Fresh bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    #[cfg(test)]
    if seeded::fill(&mut bytes) {
        return Ok(bytes);
    }
    getrandom::fill(&mut bytes).map_err(|_| CryptoError::Random)?;
    Ok(bytes)
}

/// SHA-256 of `bytes`: the name of a stored object.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// SHA-256 of bytes that come in pieces.
#[derive(Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// The hash of all that came.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        sha2::Digest::finalize(self.0).into()
    }
}
