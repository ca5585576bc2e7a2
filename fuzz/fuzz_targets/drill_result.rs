//! Results of drills, as the local cache keeps them.
#![no_main]

use exuvia::format::drill_v1::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(result) = decode(bytes) else { return };
    assert!(result.problems.len() <= bytes.len());
    let again = encode(&result).expect("what was decoded encodes");
    // Longer spellings of integers are all that may get lost.
    assert!(again.len() <= bytes.len());
    assert_eq!(decode(&again), Ok(result));
});
