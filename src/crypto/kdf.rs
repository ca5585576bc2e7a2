//! From a passphrase to a key-encryption key.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::CryptoError;

/// A passphrase, wiped when dropped and never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Takes the bytes of a file, a command's output or a terminal line: one line ending at the
    /// end is not part of the passphrase.
    #[must_use]
    pub fn from_line(mut bytes: Vec<u8>) -> Self {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Work factors of scrypt: N = 2^`log_n`; takes `128 * N * r` bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptParams {
    /// log2 of the cost N, 10 to 20.
    pub log_n: u8,
    /// Block size factor, 1 to 16.
    pub r: u8,
    /// Parallelisation, 1 to 4.
    pub p: u8,
}

impl ScryptParams {
    /// For passphrases that people choose: OWASP's password storage recommendation (128 MiB).
    pub const PASSPHRASE: Self = Self { log_n: 17, r: 8, p: 1 };
    /// For generated keys of 256 bits, which need no stretching.
    pub const GENERATED: Self = Self { log_n: 10, r: 8, p: 1 };
    /// For the copy of a key in the cache of this machine: 8 MiB and some 20 ms, so that whoever reads the
    /// cache, and with it what lies beside it, still has to guess the passphrase, at a sixteenth of the cost.
    pub const CACHED: Self = Self { log_n: 13, r: 8, p: 1 };
    /// Most memory that a key object may ask for.
    const MAX_MEMORY: u64 = 1 << 30;

    /// Refuses what the format does not allow, before memory is taken.
    pub fn check(self) -> Result<Self, CryptoError> {
        let memory = 128u64 * (1u64 << self.log_n.min(63)).min(1 << 40) * u64::from(self.r);
        if (10..=20).contains(&self.log_n)
            && (1..=16).contains(&self.r)
            && (1..=4).contains(&self.p)
            && memory <= Self::MAX_MEMORY
        {
            Ok(self)
        } else {
            Err(CryptoError::Parameters)
        }
    }
}

/// What a passphrase becomes for one key object.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Stretched {
    /// Wraps the bundle.
    pub kek: [u8; 32],
    commitment: [u8; 32],
}

impl Stretched {
    /// Public value that commits to the key.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        self.commitment
    }

    /// Compares with a stored commitment, in constant time.
    #[must_use]
    pub fn commits_to(&self, stored: &[u8; 32]) -> bool {
        self.commitment.ct_eq(stored).into()
    }
}

/// Runs scrypt and derives the key-encryption key and its commitment.
pub fn stretch(
    passphrase: &Passphrase,
    salt: &[u8; 32],
    params: ScryptParams,
) -> Result<Stretched, CryptoError> {
    let params = params.check()?;
    let scrypt_params = scrypt::Params::new(params.log_n, params.r.into(), params.p.into())
        .map_err(|_| CryptoError::Parameters)?;
    let mut root = Zeroizing::new([0u8; 32]);
    scrypt::scrypt(passphrase.as_bytes(), salt, &scrypt_params, root.as_mut())
        .map_err(|_| CryptoError::Parameters)?;
    Ok(Stretched {
        kek: blake3::derive_key("exuvia format 1: key encryption", root.as_ref()),
        commitment: blake3::derive_key("exuvia format 1: key commitment", root.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_beyond_the_limits_are_refused_before_memory_is_taken() {
        for (log_n, r, p) in
            [(9, 8, 1), (21, 8, 1), (63, 8, 1), (255, 1, 1), (20, 16, 1), (17, 0, 1), (17, 8, 5)]
        {
            assert_eq!(ScryptParams { log_n, r, p }.check(), Err(CryptoError::Parameters), "{log_n} {r} {p}");
        }
        assert!(ScryptParams::PASSPHRASE.check().is_ok());
        assert!(ScryptParams::GENERATED.check().is_ok());
    }

    #[test]
    fn a_passphrase_is_never_shown() {
        assert_eq!(format!("{:?}", Passphrase::from_line(b"secret".to_vec())), "Passphrase(..)");
    }

    #[test]
    fn one_line_ending_is_not_part_of_the_passphrase() {
        for (given, want) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\n\n", "secret\n"),
            (" a ", " a "),
            ("\n", ""),
        ] {
            assert_eq!(Passphrase::from_line(given.into()).as_bytes(), want.as_bytes());
        }
    }
}
