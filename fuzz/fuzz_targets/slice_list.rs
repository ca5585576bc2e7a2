//! Slice lists of long files.
#![no_main]

use exuvia::format::limits;
use exuvia::format::slices_v1::{decode_list, encode_list};
use exuvia::model::Slice;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((slices, size)) = decode_list(bytes) else { return };
    assert!(!slices.is_empty() && slices.len() <= bytes.len() / 2);
    assert!(size <= limits::FILE_SIZE);
    for slice in &slices {
        assert!(!slice.is_empty());
        if let Slice::Blob { offset, len, .. } = *slice {
            assert!(offset as usize + len as usize <= limits::BLOB);
        }
    }
    let again = encode_list(&slices);
    assert!(again.len() <= bytes.len(), "our spelling is the shortest");
    assert_eq!(decode_list(&again), Ok((slices, size)));
});
