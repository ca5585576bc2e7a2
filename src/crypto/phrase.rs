//! Recovery phrases: 128 random bits as twelve words that can be written down (`format-spec/` section 4.5).
//!
//! `words.txt` is the English list of BIP 39 (`bip-0039/english.txt` of the Bitcoin Improvement Proposals, MIT). No two
//! of its words begin with the same four letters, which is why four are enough.

use std::sync::LazyLock;

use zeroize::{Zeroize, Zeroizing};

use super::{CryptoError, Passphrase, random, sha256};

/// Words of a phrase.
pub const PHRASE_WORDS: usize = 12;
/// Bits that a word stands for.
const BITS: u32 = 11;
/// Of the last word's bits, those of the checksum.
const CHECKSUM_BITS: u32 = 4;
/// Letters that tell a word from all others.
const ENOUGH: usize = 4;
/// Letters of the longest word.
const LONGEST: usize = 8;
/// No phrase is longer, however it is spaced and numbered; what is longer is some other passphrase.
const MAX_BYTES: usize = 1024;

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("words.txt").lines().collect());

/// Why a text that looks like a recovery phrase is none. It names places, and no words: they are secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// There are too few words, or too many.
    #[error("it has {found} words instead of {PHRASE_WORDS}")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// A word that is not in the list.
    #[error("word {number} is not in the list of words")]
    Unknown {
        /// Its place, from 1.
        number: usize,
    },
    /// All words are in the list, but they do not belong together.
    #[error("its checksum does not fit: a word is wrong or out of order")]
    Checksum,
}

/// A fresh recovery phrase.
pub fn generate_phrase() -> Result<Passphrase, CryptoError> {
    let entropy = Zeroizing::new(random::<16>()?);
    Ok(spell_phrase(&entropy))
}

/// The phrase of 128 bits.
#[must_use]
pub fn spell_phrase(entropy: &[u8; 16]) -> Passphrase {
    let mut bits = u128::from_be_bytes(*entropy);
    let mut places = Zeroizing::new([0u16; PHRASE_WORDS]);
    let mask = (1u128 << BITS) - 1;
    // The last word has the last bits and the checksum.
    let head = BITS - CHECKSUM_BITS;
    #[allow(clippy::cast_possible_truncation)] // masked to eleven bits
    for (number, place) in places.iter_mut().enumerate() {
        let number = u32::try_from(number).unwrap_or_default();
        *place = match number {
            0..11 => (bits >> (head + BITS * (10 - number)) & mask) as u16,
            _ => ((bits << CHECKSUM_BITS & mask) as u16) | u16::from(checksum(entropy)),
        };
    }
    bits.zeroize();
    // Never grown, so that no copy stays behind in freed memory.
    let mut text = Vec::with_capacity(PHRASE_WORDS * (LONGEST + 1));
    for place in places.iter() {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(WORDS[usize::from(*place)].as_bytes());
    }
    Passphrase::new(text)
}

/// The recovery phrase that a text stands for, in its one spelling. `None` for a text that is nothing like one.
#[must_use]
pub fn read_phrase(text: &Passphrase) -> Option<Result<Passphrase, PhraseError>> {
    let text = std::str::from_utf8(text.as_bytes()).ok().filter(|text| text.len() <= MAX_BYTES)?;
    let words = || text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    let found = words().count();
    let known = words().filter(|word| place(word).is_some()).count();
    if found != PHRASE_WORDS {
        // One word too few or too many is a slip; a sentence of common words is not meant as a phrase.
        let alike = found.abs_diff(PHRASE_WORDS) <= 3 && known == found;
        return alike.then_some(Err(PhraseError::Count { found }));
    }
    if known < PHRASE_WORDS {
        let unknown = words().position(|word| place(word).is_none()).unwrap_or_default();
        return (2 * known >= PHRASE_WORDS).then_some(Err(PhraseError::Unknown { number: unknown + 1 }));
    }
    let mut bits = 0u128;
    let mut sum = 0;
    for (number, place) in words().filter_map(place).enumerate() {
        if number + 1 < PHRASE_WORDS {
            bits = bits << BITS | u128::from(place);
        } else {
            bits = bits << (BITS - CHECKSUM_BITS) | u128::from(place >> CHECKSUM_BITS);
            sum = place & ((1 << CHECKSUM_BITS) - 1);
        }
    }
    let entropy = Zeroizing::new(bits.to_be_bytes());
    bits.zeroize();
    Some(match u16::from(checksum(&entropy)) == sum {
        true => Ok(spell_phrase(&entropy)),
        false => Err(PhraseError::Checksum),
    })
}

/// The place of a word in the list, from 0.
fn place(word: &str) -> Option<u16> {
    let mut lower = Zeroizing::new([0u8; LONGEST]);
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    let at = WORDS.partition_point(|listed| listed.as_bytes() < &*lower);
    let listed = WORDS.get(at)?.as_bytes();
    let same = listed == &*lower || lower.len() >= ENOUGH && listed.starts_with(lower);
    same.then(|| u16::try_from(at).ok()).flatten()
}

fn checksum(entropy: &[u8; 16]) -> u8 {
    sha256(entropy)[0] >> (8 - CHECKSUM_BITS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    fn read(text: &str) -> Option<Result<Passphrase, PhraseError>> {
        read_phrase(&Passphrase::new(text.into()))
    }

    fn text(phrase: &Passphrase) -> String {
        String::from_utf8(phrase.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_list_is_the_one_of_the_specification() {
        let hash = data_encoding::HEXLOWER.encode(&sha256(include_bytes!("words.txt")));
        assert_eq!(hash, "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda");
        assert_eq!(WORDS.len(), 1 << BITS);
        assert!(WORDS.is_sorted() && WORDS.iter().all(|word| word.len() <= LONGEST));
        let short: BTreeSet<&str> = WORDS.iter().map(|word| word.get(..ENOUGH).unwrap_or(word)).collect();
        assert_eq!(short.len(), WORDS.len());
    }

    #[test]
    fn every_phrase_reads_back() {
        for n in 0..200u32 {
            let mut entropy = [0; 16];
            blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut entropy);
            let phrase = spell_phrase(&entropy);
            assert_eq!(text(&phrase).split(' ').count(), PHRASE_WORDS);
            assert_eq!(text(&read_phrase(&phrase).unwrap().unwrap()), text(&phrase));
        }
        let (one, two) = (generate_phrase().unwrap(), generate_phrase().unwrap());
        assert!(read_phrase(&one).unwrap().is_ok());
        assert_ne!(text(&one), text(&two));
    }

    #[test]
    fn a_slip_is_told_from_another_passphrase() {
        let phrase = text(&spell_phrase(&[7; 16]));
        let words: Vec<&str> = phrase.split(' ').collect();
        let with = |at: usize, word: &str| {
            let mut words = words.clone();
            words[at] = word;
            words.join(" ")
        };
        assert_eq!(read(&with(4, "exuvia")).unwrap().err(), Some(PhraseError::Unknown { number: 5 }));
        assert_eq!(read(&words[..10].join(" ")).unwrap().err(), Some(PhraseError::Count { found: 10 }));
        // One word out of 2,048 has a checksum that fits one time in sixteen: some of them do, most do not.
        let fits = WORDS.iter().filter(|word| read(&with(0, word)).unwrap().is_ok()).count();
        assert!((64..=192).contains(&fits), "{fits}");
        for other in
            ["", "correct horse battery staple", "zoo", "a b c d e f g h i j k l", &"zoo ".repeat(40)]
        {
            assert!(read(other).is_none(), "{other}");
        }
        assert!(read(&" ".repeat(2000)).is_none());
        assert!(read_phrase(&Passphrase::new(vec![0xff; 12])).is_none());
    }

    #[test]
    fn errors_hold_no_word() {
        let error = read("abandon ".repeat(11).as_str()).unwrap().err().unwrap();
        assert_eq!(error.to_string(), "it has 11 words instead of 12");
        assert!(!format!("{error:?} {}", PhraseError::Checksum).contains("abandon"));
    }
}
