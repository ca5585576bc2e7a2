//! Headers of sealed objects, as they come and around the input under sound keys: by owner and writer, of two
//! generations.
#![no_main]

use std::sync::LazyLock;

use exuvia::crypto::{Keyring, MasterKey, Masters, ObjectKey, ObjectKind};
use exuvia::format::sealed_v1::{self, HEADER, Randomness, Sealer};
use exuvia::model::{RepositoryId, WriterKeyId};
use libfuzzer_sys::fuzz_target;

const KINDS: [ObjectKind; 5] =
    [ObjectKind::Pack, ObjectKind::Index, ObjectKind::Snapshot, ObjectKind::Gc, ObjectKind::Acceptance];

static OWNER: LazyLock<Sealer> = LazyLock::new(|| {
    let masters = Masters::new(MasterKey::from_bytes([1; 32])).with(MasterKey::from_bytes([2; 32]));
    sealer(Keyring::of_owner(&masters.expect("two are not too many")))
});
static WRITER: LazyLock<Sealer> = LazyLock::new(|| {
    let keys = OWNER.keys.for_writer(WriterKeyId([5; 24])).expect("an owner has keys for writers");
    sealer(Keyring::of_writer(&keys))
});

fn sealer(keys: Keyring) -> Sealer {
    Sealer { repository: RepositoryId([7; 16]), keys }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = sealed_v1::sealed_by(bytes);
    for kind in KINDS {
        let _ = OWNER.open_header(kind, bytes);
        if kind.is_for_owner() {
            assert!(WRITER.open_header(kind, bytes).is_err());
        } else {
            let _ = WRITER.open_header(kind, bytes);
        }
    }
    // What the input makes of a sound header opens only if it left it as it was.
    let Some((place, change)) = bytes.split_first() else { return };
    for kind in KINDS {
        for from in [&*OWNER, &*WRITER] {
            let random = Randomness { key: ObjectKey::from_bytes([3; 32]), nonce: [4; 24] };
            let Ok((mut header, _)) = from.begin(kind, &random) else { continue };
            let before = header.clone();
            header.iter_mut().skip(usize::from(*place) % HEADER).zip(change).for_each(|(b, c)| *b ^= c);
            assert_eq!(OWNER.open_header(kind, &header).is_ok(), header == before);
        }
    }
});
