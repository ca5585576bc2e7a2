//! Record objects, as they come and with the input as the body behind a sound seal.
#![no_main]

use exuvia::crypto::ObjectKind;
use exuvia_fuzz::{object, randomness, sealer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let sealer = sealer();
    for kind in [ObjectKind::Index, ObjectKind::Snapshot, ObjectKind::Gc, ObjectKind::Acceptance] {
        let _ = sealer.open_record(kind, bytes);
    }
    if let Ok(record) = sealer.open_record(ObjectKind::Gc, &object(ObjectKind::Gc, bytes)) {
        let sealed = sealer.seal_record(ObjectKind::Gc, &record, &randomness()).expect("it can be sealed");
        assert_eq!(sealer.open_record(ObjectKind::Gc, &sealed), Ok(record));
    }
});
