//! The marker is read before anything is known, keys included.
#![no_main]

use exuvia::format::marker_v1::{Marker, Operation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(marker) = Marker::decode(bytes) else { return };
    let again = Marker::decode(&marker.encode().expect("a marker encodes")).expect("and decodes");
    assert_eq!((again.id, &again.created), (marker.id, &marker.created));
    for operation in [Operation::Read, Operation::Write, Operation::Check, Operation::Delete] {
        assert_eq!(again.check(operation), marker.check(operation));
    }
    let read = marker.check(Operation::Read);
    assert!(read.is_ok() || marker.check(Operation::Write).is_err(), "what bars reading bars everything");
});
