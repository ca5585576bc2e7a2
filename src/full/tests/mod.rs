//! Archives that come back, and such that must not.

mod interchange;
mod openssl;
mod sealed;

use std::io::{self, Read, Write};

use proptest::prelude::{Strategy, any};
use proptest::{collection, prop_assert_eq, proptest};

use super::pieces::Codec;
use super::{Effort, Encoder, FullError, Limits};
use crate::crypto::{Keyring, MasterKey, ObjectKey};
use crate::format::sealed_v1::{Randomness, Sealer};
use crate::model::RepositoryId;

const EFFORT: Effort = Effort { level: Some(1), threads: 2 };

fn limits() -> Limits {
    Limits { members: 1_000, bytes: 1 << 40, ratio: u64::MAX, ratio_floor: 0 }
}

fn sealer() -> Sealer {
    Sealer { repository: RepositoryId([7; 16]), keys: Keyring::new(&MasterKey::from_bytes([1; 32])) }
}

fn randomness() -> Randomness {
    Randomness { key: ObjectKey::from_bytes([3; 32]), nonce: [4; 24] }
}

/// What does not compress.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Runs that compress, of lengths that nothing is a multiple of.
fn text(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 60_000);
    for n in 0u32.. {
        if bytes.len() >= len {
            break;
        }
        bytes.extend_from_slice(format!("line {n}: {}\n", n.wrapping_mul(2_654_435_761) % 1_000).as_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn sealed(tar: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::sealed_with(Vec::new(), &sealer(), EFFORT, &randomness()).unwrap();
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap().out
}

/// All that a reader gives, and how it ended.
fn drain(mut reader: impl Read) -> (Vec<u8>, Result<(), FullError>) {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 50_000];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return (bytes, Ok(())),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) => return (bytes, Err(FullError::from_io(error))),
        }
    }
}

/// Takes so many bytes, and then nothing any more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.0);
        self.0 -= n;
        if n == 0 { Err(io::Error::other("no room left")) } else { Ok(n) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_is_said_and_nobody_waits() {
    let tar = noise(1, 12 << 20);
    for room in [0, 50, 80, 3 << 20] {
        let encoder = Encoder::sealed_with(Full(room), &sealer(), EFFORT, &randomness());
        let mut encoder = match encoder {
            Ok(encoder) => encoder,
            Err(error) => {
                assert!(room < 80 && matches!(error, FullError::Io(_)), "{room}: {error}");
                continue;
            }
        };
        let error = encoder.write_all(&tar).unwrap_err();
        assert_eq!(FullError::from_io(error).to_string(), "no room left");
        assert!(encoder.write_all(&tar).is_err(), "it goes on");
        assert!(encoder.finish().is_err(), "it is finished");
    }
    // One that is given up in the midst of its work.
    let mut encoder = Encoder::openssl(Vec::new(), None, EFFORT).unwrap();
    encoder.write_all(&tar).unwrap();
    drop(encoder);
}

#[test]
fn what_was_written_is_counted_and_hashed() {
    let tar = text(3 << 20);
    let mut encoder = Encoder::sealed(Vec::new(), &sealer(), EFFORT).unwrap();
    encoder.write_all(&tar).unwrap();
    let finished = encoder.finish().unwrap();
    assert_eq!(finished.tar_bytes, 3 << 20);
    assert_eq!(finished.size, finished.out.len() as u64);
    assert_eq!(finished.sha256, crate::crypto::sha256(&finished.out));
}

/// Lengths around the borders of pieces.
fn length(codec: Codec) -> impl Strategy<Value = usize> {
    let piece = codec.piece();
    (0usize..4, 0usize..5).prop_map(move |(pieces, more)| (pieces * piece + more).saturating_sub(2))
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(12))]

    #[test]
    fn archives_of_any_length_come_back(
        len in length(Codec::Zstd(1)),
        short in length(Codec::Deflate(1)),
        compressible in any::<bool>(),
        cuts in collection::vec(1usize..1_500_000, 1..4),
        threads in 0usize..4,
    ) {
        let make = |len| if compressible { text(len) } else { noise(2, len) };
        let effort = Effort { level: None, threads };
        let feed = |encoder: &mut dyn Write, tar: &[u8]| {
            let mut rest = tar;
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                encoder.write_all(now).unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
        };
        let tar = make(len);
        let mut encoder = Encoder::sealed(Vec::new(), &sealer(), effort).unwrap();
        feed(&mut encoder, &tar);
        let archive = encoder.finish().unwrap().out;
        let (found, end) = drain(super::Decoder::sealed(archive.as_slice(), &sealer(), limits()).unwrap());
        prop_assert_eq!(end.is_ok() && found == tar, true);

        let tar = make(short);
        let mut encoder = Encoder::openssl(Vec::new(), None, effort).unwrap();
        feed(&mut encoder, &tar);
        let archive = encoder.finish().unwrap().out;
        let (found, end) = drain(super::Decoder::openssl(archive.as_slice(), None, limits()).unwrap());
        prop_assert_eq!(end.is_ok() && found == tar, true);
    }
}
