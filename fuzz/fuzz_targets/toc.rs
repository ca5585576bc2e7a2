//! A pack's trailer and table of contents: the first bytes say how long the frames before it are, the
//! rest is the plaintext of the table.
#![no_main]

use exuvia::crypto::ObjectKind;
use exuvia::format::pack_v1::{self, TRAILER};
use exuvia::format::sealed_v1::HEADER;
use exuvia_fuzz::{randomness, sealer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(at) = bytes.len().checked_sub(TRAILER) {
        if let Ok(place) = pack_v1::toc_place(&bytes[at..], bytes.len() as u64) {
            assert!(place.offset >= HEADER as u64);
            assert_eq!(place.offset + u64::from(place.stored) + TRAILER as u64, bytes.len() as u64);
        }
    }

    let Some((&[room, number, more], plaintext)) = bytes.split_first_chunk() else { return };
    let (sealer, random) = (sealer(), randomness());
    let room = usize::from(room) << (more % 16);
    let mut pack = vec![0; HEADER + room];
    pack.extend_from_slice(plaintext);
    let place = sealer.place(ObjectKind::Pack, number.into(), true);
    random.key.seal(place, &mut pack, HEADER + room).expect("a table can be sealed");
    let table = pack.split_off(HEADER + room);
    let stored = u32::try_from(table.len()).expect("short");
    let trailer = [&stored.to_le_bytes()[..], &u32::from(number).to_le_bytes(), b"EXTC"].concat();
    let size = (HEADER + room + table.len() + TRAILER) as u64;
    let place = pack_v1::toc_place(&trailer, size).expect("the trailer is sound");
    let Ok(frames) = pack_v1::open_toc(&sealer, &random.key, place, table) else { return };
    assert_eq!(frames.len(), usize::from(number));
    assert_eq!(frames.iter().map(|f| f.stored as usize).sum::<usize>(), room);
    for frame in &frames {
        assert_eq!(frame.blobs.iter().map(|b| b.length).sum::<u32>(), frame.raw);
        let sealed = pack[HEADER..].iter().copied().take(frame.stored as usize).collect();
        assert!(pack_v1::open_frame(&sealer, &random.key, 0, frame, sealed).is_err(), "it was never sealed");
    }
});
