//! Descriptions of key objects: the input as what follows the bundle, and as the record inside a sound seal.
#![no_main]

use exuvia::crypto::{MasterKey, sha256, wrap};
use exuvia::format::key_description_v1::{append, read};
use exuvia::model::RepositoryId;
use libfuzzer_sys::fuzz_target;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const NONCE: [u8; 24] = [3; 24];

/// A key object as far as its layout goes: nothing opens its bundle, and nothing needs to.
fn object() -> Vec<u8> {
    let mut object = b"EXUVIKEY\x01\x01\x0a\x01\x01\0\0\0".to_vec();
    object.extend_from_slice(&[0; 88]);
    object.extend_from_slice(&40u32.to_le_bytes());
    object.extend_from_slice(&[0; 40]);
    object
}

fuzz_target!(|bytes: &[u8]| {
    let master = MasterKey::from_bytes([1; 32]);
    let _ = read(&[&object()[..], bytes].concat(), REPOSITORY, &master);

    let mut sealed = object();
    let aad = [&sha256(&sealed)[..], &REPOSITORY.0].concat();
    let record = wrap(&master.description_key(), &NONCE, &aad, bytes).expect("it can be wrapped");
    sealed.extend_from_slice(&NONCE);
    sealed.extend_from_slice(&u32::try_from(record.len()).expect("short").to_le_bytes());
    sealed.extend_from_slice(&record);
    let Ok(description) = read(&sealed, REPOSITORY, &master) else { return };
    let description = description.expect("there is one");
    assert!(description.label.len() <= bytes.len());
    let mut again = object();
    append(&mut again, REPOSITORY, &master, &description, &NONCE).expect("it can be sealed");
    assert_eq!(read(&again, REPOSITORY, &master), Ok(Some(description)));
});
