//! Objects that a writer seals to the owner: X25519 between a secret made for the object and the owner's key
//! pair, with a secret that the writer shares with the owner. `format-spec/` section 5.1, wrap kind 2.

use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{CryptoError, ObjectKey};

/// Bytes of an X25519 public key.
pub const PUBLIC_KEY: usize = 32;
/// Bytes of the proof that a header of this kind ends with.
pub const PROOF: usize = 16;

/// A secret that seals one object and is then forgotten.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct FreshSecret([u8; 32]);

impl FreshSecret {
    /// One from random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What the header shows of it.
    #[must_use]
    pub fn public(&self) -> [u8; PUBLIC_KEY] {
        public(&self.0)
    }
}

/// The owner's key pair of one generation.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct OwnerPair([u8; 32]);

/// Who a writer is, and to whom it seals.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct WriterIdentity {
    pub(crate) id: [u8; 24],
    /// Shared with the owner: proves who wrote.
    pub(crate) secret: [u8; 32],
    /// The owner's public key.
    pub(crate) owner: [u8; PUBLIC_KEY],
}

fn public(secret: &[u8; 32]) -> [u8; PUBLIC_KEY] {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

/// Refuses public keys with which every secret gives the same.
fn shared(secret: &[u8; 32], public: &[u8; PUBLIC_KEY]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(*public));
    if shared.was_contributory() {
        Ok(Zeroizing::new(shared.to_bytes()))
    } else {
        Err(CryptoError::Authentication)
    }
}

impl OwnerPair {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    pub(super) fn public(&self) -> [u8; PUBLIC_KEY] {
        public(&self.0)
    }

    pub(super) fn agree(
        &self,
        fresh: &[u8; PUBLIC_KEY],
        writer: &WriterIdentity,
        start: &[u8],
        rest: &[u8],
    ) -> Result<Agreed, CryptoError> {
        let shared = shared(&self.0, fresh)?;
        Ok(Agreed::new(&shared, writer, start, rest))
    }
}

impl WriterIdentity {
    pub(super) fn agree(
        &self,
        fresh: &FreshSecret,
        start: &[u8],
        rest: &[u8],
    ) -> Result<Agreed, CryptoError> {
        let shared = shared(&fresh.0, &self.owner)?;
        Ok(Agreed::new(&shared, self, start, rest))
    }
}

/// What both sides come to.
pub struct Agreed {
    /// Seals the object.
    pub key: ObjectKey,
    /// Shows that both came to the same.
    pub proof: [u8; PROOF],
}

impl Agreed {
    fn new(shared: &[u8; 32], writer: &WriterIdentity, start: &[u8], rest: &[u8]) -> Self {
        let derive = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(shared).update(&writer.secret).update(&writer.owner).update(start).update(rest);
            let derived = Zeroizing::new(*hasher.finalize().as_bytes());
            hasher.zeroize();
            derived
        };
        let mut proof = [0; PROOF];
        proof.copy_from_slice(&derive("exuvia format 1: object proof, x25519")[..PROOF]);
        Self { key: ObjectKey::from_bytes(*derive("exuvia format 1: object key, x25519")), proof }
    }

    /// The key, if the header's proof is the same. Compares in constant time.
    pub fn proved(self, proof: &[u8; PROOF]) -> Result<ObjectKey, CryptoError> {
        if self.proof.ct_eq(proof).into() { Ok(self.key) } else { Err(CryptoError::Authentication) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn writer(owner: &OwnerPair) -> WriterIdentity {
        WriterIdentity { id: [1; 24], secret: [2; 32], owner: owner.public() }
    }

    #[test]
    fn both_sides_come_to_the_same_and_only_about_the_same() {
        let (owner, fresh) = (OwnerPair::new([3; 32]), FreshSecret::from_bytes([4; 32]));
        let proof = writer(&owner).agree(&fresh, b"start", b"rest").unwrap().proof;
        let at_owner = |owner: &OwnerPair, who: &WriterIdentity, start: &[u8]| {
            owner.agree(&fresh.public(), who, start, b"rest").unwrap().proved(&proof).is_ok()
        };
        let who = writer(&owner);
        assert!(at_owner(&owner, &who, b"start"));
        assert!(!at_owner(&owner, &who, b"stars"));
        assert!(!at_owner(&owner, &WriterIdentity { secret: [9; 32], ..who.clone() }, b"start"));
        assert!(!at_owner(&OwnerPair::new([5; 32]), &who, b"start"));
    }

    #[test]
    fn public_keys_that_fix_the_result_are_refused() {
        let owner = OwnerPair::new([3; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        for public in [[0; 32], one] {
            let agreed = owner.agree(&public, &writer(&owner), b"", b"");
            assert_eq!(agreed.err(), Some(CryptoError::Authentication));
        }
    }
}
