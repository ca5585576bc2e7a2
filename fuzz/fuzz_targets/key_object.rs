//! Key objects, as they come and with the input as the bundle inside a sound one.
#![no_main]

use std::sync::LazyLock;

use exuvia::crypto::{Passphrase, ScryptParams, Stretched, stretch, wrap};
use exuvia::format::key_v1::{self, Bundle, Randomness};
use exuvia::model::{BlobKind, RepositoryId};
use libfuzzer_sys::fuzz_target;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const SALT: [u8; 32] = [2; 32];
const NONCE: [u8; 24] = [3; 24];
const PARAMS: ScryptParams = ScryptParams { log_n: 10, r: 1, p: 1 };

static STRETCHED: LazyLock<Stretched> =
    LazyLock::new(|| stretch(&passphrase(), &SALT, PARAMS).expect("within the limits"));

fn passphrase() -> Passphrase {
    Passphrase::new(b"passphrase".to_vec())
}

fuzz_target!(|bytes: &[u8]| {
    // Any other work factor would only make the search slow; its limits have unit tests.
    if bytes.get(10..13).is_none_or(|kdf| kdf[0] == 10 && kdf[1] <= 2 && kdf[2] <= 1) {
        let _ = key_v1::open(bytes, REPOSITORY, &passphrase());
    }

    // The header names a generation, which the bundle must agree with.
    let Some((&generation, bytes)) = bytes.split_first() else { return };
    let mut object = b"EXUVIKEY\x01\x01\x0a\x01\x01".to_vec();
    object.extend_from_slice(&[generation, 0, 0]);
    object.extend_from_slice(&SALT);
    object.extend_from_slice(&STRETCHED.commitment());
    let aad = [&object[..], &REPOSITORY.0].concat();
    let wrapped = wrap(&STRETCHED.kek, &NONCE, &aad, bytes).expect("it can be wrapped");
    object.extend_from_slice(&NONCE);
    object.extend_from_slice(&u32::try_from(wrapped.len()).expect("short").to_le_bytes());
    object.extend_from_slice(&wrapped);
    let Ok(bundle) = key_v1::open(&object, REPOSITORY, &passphrase()) else { return };
    assert!(bundle.label.len() <= bytes.len());
    assert_eq!(bundle.generation(), generation);
    let random = Randomness { salt: SALT, nonce: NONCE };
    let sealed = key_v1::seal(&bundle, REPOSITORY, &passphrase(), PARAMS, &random).expect("it can be sealed");
    let again = key_v1::open(&sealed, REPOSITORY, &passphrase()).expect("and opened");
    assert_eq!((again.created, &again.label), (bundle.created, &bundle.label));
    let probe = |bundle: &Bundle| {
        let keys = bundle.keyring();
        (keys.writer(), keys.generation(), keys.blob_id(BlobKind::Meta, b"x"))
    };
    assert_eq!(probe(&again), probe(&bundle));
});
