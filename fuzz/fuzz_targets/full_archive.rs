//! Full archives as they are stored. The first byte says which form is meant; behind the seal, and behind
//! encryption, the input is reached by being sealed here.
#![no_main]

use std::io::Read;
use std::sync::OnceLock;

use exuvia::crypto::{CbcDecryptor, CbcEncryptor, ObjectKind, OpensslKey, Passphrase};
use exuvia::full::{Decoder, FullError, Limits};
use exuvia_fuzz::{object, sealer};
use libfuzzer_sys::fuzz_target;

const MOST: u64 = 4 << 20;

fn drain<R: Read>(decoder: Result<Decoder<R>, FullError>) {
    let Ok(decoder) = decoder else { return };
    let mut tar = Vec::new();
    let _ = decoder.take(2 * MOST).read_to_end(&mut tar);
    // One read goes past the limit at most.
    assert!(tar.len() as u64 <= MOST);
}

/// Deriving it takes longer than all the rest.
fn key() -> &'static OpensslKey {
    static KEY: OnceLock<OpensslKey> = OnceLock::new();
    KEY.get_or_init(|| OpensslKey::derive(&Passphrase::new(b"fuzz".to_vec()), &[0; 8]))
}

fn decrypt(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let (mut cipher, mut out) = (CbcDecryptor::new(key()), Vec::new());
    bytes.chunks(piece).for_each(|piece| cipher.update(piece, &mut out));
    cipher.finish(&mut out).is_ok().then_some(out)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (form, bytes) = input;
    let limits = Limits { members: 1_000, bytes: MOST, ratio: 100, ratio_floor: 1 << 20 };
    match form % 4 {
        0 => drain(Decoder::sealed(bytes, &sealer(), limits)),
        1 if bytes.len() <= 1 << 20 => {
            let archive = object(ObjectKind::Archive, bytes);
            drain(Decoder::sealed(archive.as_slice(), &sealer(), limits));
        }
        2 => drain(Decoder::openssl(bytes, None, limits)),
        _ => {
            let piece = 1 + usize::from(form / 4);
            assert_eq!(decrypt(bytes, piece), decrypt(bytes, usize::MAX));
            let (mut cipher, mut sealed) = (CbcEncryptor::new(key()), Vec::new());
            bytes.chunks(piece).for_each(|piece| cipher.update(piece, &mut sealed));
            cipher.finish(&mut sealed);
            assert_eq!(decrypt(&sealed, piece).as_deref(), Some(bytes));
        }
    }
});
