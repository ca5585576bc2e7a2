//! Removal records, once their seal is open.
#![no_main]

use exuvia::format::removal_v1::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = decode(bytes) else { return };
    let items = record.removed.runs().count() + record.removed.ids().count();
    assert!(items <= bytes.len());
    let again = encode(&record).expect("what was decoded encodes");
    // Longer spellings of integers and skipped extensions are all that may get lost.
    assert!(again.len() <= bytes.len());
    assert_eq!(decode(&again), Ok(record));
});
