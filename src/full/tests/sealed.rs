//! The sealed form: whatever is done to an archive shows when the place is reached, and nothing behind it is given.

use std::io::Write;

use super::{EFFORT, drain, limits, noise, randomness, sealed, sealer, text};
use crate::crypto::{Keyring, ObjectKind, TAG};
use crate::format::FormatError;
use crate::format::sealed_v1::{HEADER, Sealer, sealed_by};
use crate::full::sealed::{FRAME, SealReader, SealWriter};
use crate::full::{Decoder, Encoder, FullError, Limits};
use crate::model::{Classify, ErrorClass, WriterKeyId};

const STORED: usize = FRAME + TAG;

fn open(archive: &[u8]) -> (Vec<u8>, Result<(), FullError>) {
    match Decoder::sealed(archive, &sealer(), limits()) {
        Ok(decoder) => drain(decoder),
        Err(error) => (Vec::new(), Err(error)),
    }
}

/// An object with this plaintext, whatever it is.
fn container(plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = SealWriter::new(&sealer(), &randomness(), &mut out).unwrap();
    writer.put(plaintext, &mut out).unwrap();
    writer.finish(&mut out).unwrap();
    out
}

#[test]
fn every_cut_and_every_change_is_found() {
    let tar = text(2_000);
    let archive = sealed(&tar);
    assert_eq!(open(&archive).0, tar);
    for len in 0..archive.len() {
        let (given, end) = open(&archive[..len]);
        assert!(matches!(end, Err(FullError::Truncated(_))), "{len}: {end:?}");
        assert!(given.is_empty(), "{len}");
    }
    for at in 0..archive.len() {
        let mut bad = archive.clone();
        bad[at] ^= 1;
        let (given, end) = open(&bad);
        assert!(end.is_err() && given.is_empty(), "{at}");
    }
    let (_, end) = open(&[archive.as_slice(), b"x"].concat());
    assert!(end.is_err());
}

#[test]
fn frames_stand_where_they_were_sealed() {
    let tar = noise(5, 5 * FRAME / 2);
    let archive = sealed(&tar);
    let (header, body) = archive.split_at(HEADER);
    let frames: Vec<&[u8]> = body.chunks(STORED).collect();
    assert_eq!(frames.len(), 3);
    assert_eq!(open(&archive).0, tar);
    for order in [
        &[1, 0, 2][..],
        &[0, 2],
        &[0, 0, 1, 2],
        &[0, 1, 1, 2],
        &[0, 1, 2, 2],
        &[1, 2],
        &[2],
        &[0, 1],
        &[0],
        &[2, 1, 0],
    ] {
        let bytes = order.iter().fold(header.to_vec(), |bytes, n| [&bytes, frames[*n]].concat());
        let (given, end) = open(&bytes);
        let error = end.expect_err("it is taken for whole");
        assert_eq!(error.class(), ErrorClass::Damaged, "{order:?}: {error}");
        assert!(tar.starts_with(&given), "{order:?}");
    }
    let missing = [header, frames[0], frames[1]].concat();
    assert!(matches!(open(&missing).1, Err(FullError::Truncated("its last frame is missing"))));
    // The last frame of another archive of the same keys.
    let other = container(&noise(6, 5 * FRAME / 2));
    let bytes = [&missing, &other[HEADER + 2 * STORED..]].concat();
    assert!(open(&bytes).1.is_err());
}

#[test]
fn full_frames_end_as_others_do_and_empty_ones_are_refused() {
    for len in [1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME] {
        let plaintext = noise(7, len);
        let bytes = container(&plaintext);
        assert_eq!(bytes.len(), HEADER + len + len.div_ceil(FRAME) * TAG);
        let (found, end) = drain(SealReader::new(bytes.as_slice(), &sealer()).unwrap());
        assert!(end.is_ok() && found == plaintext, "{len}");
    }
    let empty = container(b"");
    assert_eq!(empty.len(), HEADER + TAG);
    assert!(open(&empty).1.is_err());
    let (sealer, plaintext) = (sealer(), noise(8, FRAME));
    let (mut bytes, key) = sealer.begin(ObjectKind::Archive, &randomness()).unwrap();
    for (number, plaintext) in [(0, plaintext.as_slice()), (1, b"")] {
        let mut frame = plaintext.to_vec();
        key.seal(sealer.place(ObjectKind::Archive, number, number == 1), &mut frame, 0).unwrap();
        bytes.extend_from_slice(&frame);
    }
    let (_, end) = drain(SealReader::new(bytes.as_slice(), &sealer).unwrap());
    assert!(end.is_err());
}

#[test]
fn an_object_of_another_kind_is_none() {
    let (bytes, _) = sealer().begin(ObjectKind::Pack, &randomness()).unwrap();
    let other = Decoder::sealed(bytes.as_slice(), &sealer(), limits()).err();
    assert!(matches!(other, Some(FullError::Format(FormatError::Damaged(_)))), "{other:?}");
    let record = sealer().seal_record(ObjectKind::ArchiveMark, b"x", &randomness()).unwrap();
    assert!(Decoder::sealed(record.as_slice(), &sealer(), limits()).is_err());
}

#[test]
fn a_writer_key_makes_what_it_cannot_read() {
    let id = WriterKeyId([9; 24]);
    let keys = sealer().keys.for_writer(id).unwrap();
    let writer = Sealer { repository: sealer().repository, keys: Keyring::of_writer(&keys) };
    let mut encoder = Encoder::sealed(Vec::new(), &writer, EFFORT).unwrap();
    encoder.write_all(b"tar").unwrap();
    let archive = encoder.finish().unwrap().out;
    assert_eq!(sealed_by(&archive), Some(id));
    let refused = Decoder::sealed(archive.as_slice(), &writer, limits()).err().unwrap();
    assert_eq!(refused.class(), ErrorClass::WriterKey);
    assert_eq!(open(&archive).0, b"tar");
    let mark = writer.seal_record(ObjectKind::ArchiveMark, b"mark", &randomness()).unwrap();
    assert_eq!(sealer().open_record(ObjectKind::ArchiveMark, &mark).unwrap(), b"mark");
    assert_eq!(writer.open_record(ObjectKind::ArchiveMark, &mark), Err(FormatError::WriterKey));
}

#[test]
fn zstd_is_held_to_the_limits() {
    let mut wide = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(24).unwrap();
    wide.write_all(&text(1 << 20)).unwrap();
    let (_, end) = open(&container(&wide.finish().unwrap()));
    assert!(matches!(end, Err(FullError::Damaged(_))), "{end:?}");
    let frame = zstd::bulk::compress(b"tar", 1).unwrap();
    assert_eq!(open(&container(&[&frame[..], &frame].concat())).0, b"tartar");
    for plaintext in [&b"no zstd at all"[..], &frame[..frame.len() - 1], &[&frame[..], b"x"].concat()] {
        assert!(open(&container(plaintext)).1.is_err());
    }
    let bomb = sealed(&vec![0; 8 << 20]);
    let within = |limits| drain(Decoder::sealed(bomb.as_slice(), &sealer(), limits).unwrap()).1;
    assert!(within(Limits { bytes: 8 << 20, ..limits() }).is_ok());
    let error = within(Limits { bytes: (8 << 20) - 1, ..limits() });
    assert!(matches!(error, Err(FullError::Bomb(_))), "{error:?}");
    assert!(within(Limits { ratio: 100, ratio_floor: 8 << 20, ..limits() }).is_ok());
    let error = within(Limits { ratio: 100, ratio_floor: 4 << 20, ..limits() });
    assert!(matches!(error, Err(FullError::Bomb(_))), "{error:?}");
}
