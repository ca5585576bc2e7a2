//! Texts that may be recovery phrases, and every phrase there is.
#![no_main]

use exuvia::crypto::{PHRASE_WORDS, Passphrase, read_phrase, spell_phrase};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(Ok(phrase)) = read_phrase(&Passphrase::new(bytes.to_vec())) {
        let again = read_phrase(&phrase).expect("it is like a phrase").expect("and it is one");
        assert_eq!(again.as_bytes(), phrase.as_bytes());
        assert_eq!(phrase.as_bytes().split(|&b| b == b' ').count(), PHRASE_WORDS);
    }
    if let Some(entropy) = bytes.first_chunk::<16>() {
        let phrase = spell_phrase(entropy);
        let shouted = Passphrase::new(phrase.as_bytes().to_ascii_uppercase());
        let read = read_phrase(&shouted).expect("it is like a phrase").expect("and it is one");
        assert_eq!(read.as_bytes(), phrase.as_bytes());
    }
});
