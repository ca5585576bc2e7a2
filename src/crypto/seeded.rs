//! Tests that must run the same way twice get their random bytes from a seed, on the thread that asks for it.
//! Exists in tests only.

use std::cell::RefCell;

thread_local! {
    static SOURCE: RefCell<Option<blake3::OutputReader>> = const { RefCell::new(None) };
}

/// From here on random bytes of this thread follow from `seed`.
pub(crate) fn begin(seed: u64) {
    let reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    SOURCE.with(|source| *source.borrow_mut() = Some(reader));
}

/// Back to the operating system's.
pub(crate) fn end() {
    SOURCE.with(|source| *source.borrow_mut() = None);
}

/// False on threads that have no seed.
pub(super) fn fill(bytes: &mut [u8]) -> bool {
    SOURCE.with(|source| source.borrow_mut().as_mut().map(|reader| reader.fill(bytes)).is_some())
}
