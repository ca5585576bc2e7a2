//! Marks of full archives, once their seal is open.
#![no_main]

use exuvia::full::{ArchiveObject, decode_mark, encode_mark};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mark) = decode_mark(bytes) else { return };
    assert!(mark.errors.len() <= bytes.len());
    assert_eq!(ArchiveObject::parse(&mark.name.mark()), Some(ArchiveObject::Mark(mark.name)));
    let again = encode_mark(&mark).expect("what was decoded encodes");
    // Longer spellings of integers, and extensions that nobody knows, are all that may get lost.
    assert!(again.len() <= bytes.len());
    assert_eq!(decode_mark(&again), Ok(mark));
});
