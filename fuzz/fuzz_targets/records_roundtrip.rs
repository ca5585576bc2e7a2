//! Any records that a writer may hold are read back as they were, through their sealed objects.
#![no_main]

use exuvia::crypto::ObjectKind;
use exuvia::format::{acceptance_v1, gc_v1, index_v1, removal_v1, snapshot_v1};
use exuvia_fuzz::{randomness, sealer};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fn through_an_object(kind: ObjectKind, record: &[u8]) -> Vec<u8> {
    let object = sealer().seal_record(kind, record, &randomness()).expect("it can be sealed");
    sealer().open_record(kind, &object).expect("and opened")
}

fuzz_target!(|bytes: &[u8]| {
    let mut u = Unstructured::new(bytes);
    let Ok(gc) = exuvia_fuzz::gc(&mut u) else { return };
    let record = gc_v1::encode(&gc).expect("it encodes");
    assert_eq!(gc_v1::decode(&through_an_object(ObjectKind::Gc, &record)), Ok(gc));

    let Ok(acceptance) = exuvia_fuzz::acceptance(&mut u) else { return };
    let record = acceptance_v1::encode(&acceptance).expect("it encodes");
    assert_eq!(acceptance_v1::decode(&through_an_object(ObjectKind::Acceptance, &record)), Ok(acceptance));

    let Ok(removal) = exuvia_fuzz::removal(&mut u) else { return };
    let record = removal_v1::encode(&removal).expect("it encodes");
    assert_eq!(removal_v1::decode(&through_an_object(ObjectKind::Removal, &record)), Ok(removal));

    let Ok(index) = exuvia_fuzz::index(&mut u) else { return };
    let record = index_v1::encode(&index).expect("it encodes");
    assert_eq!(index_v1::decode(&through_an_object(ObjectKind::Index, &record)), Ok(index));

    let Ok(snapshot) = exuvia_fuzz::snapshot(&mut u) else { return };
    let record = snapshot_v1::encode(&snapshot).expect("it encodes");
    assert_eq!(snapshot_v1::decode(&through_an_object(ObjectKind::Snapshot, &record)), Ok(snapshot));
});
