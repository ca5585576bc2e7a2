//! Hashing stored objects, for which no key is needed.

use crate::crypto::Sha256;
use crate::remote::{Remote, RemoteError};

/// Bytes asked for at once from a remote that is near.
const NEAR_PIECE: u64 = 1 << 20;
/// And from one that is far, where each request costs its time.
const FAR_PIECE: u64 = 16 << 20;

/// SHA-256 of an object of `size` stored bytes. Holds 16 MiB of it at most.
pub fn hash_object(remote: &dyn Remote, name: &str, size: u64) -> Result<[u8; 32], RemoteError> {
    let piece = if remote.is_near() { NEAR_PIECE } else { FAR_PIECE };
    let mut hash = Sha256::default();
    let mut at = 0;
    while at < size {
        let len = piece.min(size - at);
        hash.update(&remote.get_range(name, at, len)?);
        at += len;
    }
    Ok(hash.finish())
}
