//! The openssl form and plain gzip: nothing is authenticated, but what is cut off is found.

use std::io::Write;

use flate2::bufread::MultiGzDecoder;

use super::{EFFORT, drain, limits, noise, text};
use crate::crypto::{OPENSSL_MAGIC, OpensslKey, Passphrase};
use crate::full::openssl::GzipReader;
use crate::full::{Decoder, Encoder, FullError};
use crate::model::{Classify, ErrorClass};

fn passphrase() -> Passphrase {
    Passphrase::new(b"correct horse".to_vec())
}

fn encoded(tar: &[u8], passphrase: Option<&Passphrase>) -> Vec<u8> {
    let mut encoder = Encoder::openssl(Vec::new(), passphrase, EFFORT).unwrap();
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap().out
}

fn gunzip(archive: &[u8]) -> (Vec<u8>, Result<(), FullError>) {
    match Decoder::openssl(archive, None, limits()) {
        Ok(decoder) => drain(decoder),
        Err(error) => (Vec::new(), Err(error)),
    }
}

#[test]
fn a_plain_archive_that_is_cut_off_is_refused() {
    let tar = [text(700_000), noise(1, 1_000)].concat();
    let archive = encoded(&tar, None);
    assert_eq!(gunzip(&archive).0, tar);
    // The borders of its pieces are the interesting places: a flush ends there.
    for len in
        (0..200).chain((200..archive.len() - 200).step_by(997)).chain(archive.len() - 200..archive.len())
    {
        assert!(gunzip(&archive[..len]).1.is_err(), "{len}");
    }
    for at in archive.len() - 8..archive.len() {
        let mut bad = archive.clone();
        bad[at] ^= 1;
        assert!(gunzip(&bad).1.is_err(), "{at}");
    }
}

#[test]
fn an_encrypted_archive_that_is_cut_off_is_refused() {
    let tar = text(300);
    let archive = encoded(&tar, Some(&passphrase()));
    assert!(archive.starts_with(OPENSSL_MAGIC));
    let salt = archive[8..16].try_into().unwrap();
    let key = OpensslKey::derive(&passphrase(), &salt);
    let open = |bytes: &[u8]| match GzipReader::encrypted(bytes, |found| {
        assert_eq!(*found, salt);
        key.clone()
    }) {
        Ok(reader) => drain(Decoder::of_gzip(reader, limits())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let (found, end) = open(&archive);
    assert!(end.is_ok() && found == tar);
    for len in 0..archive.len() {
        let (given, end) = open(&archive[..len]);
        assert!(end.is_err() && tar.starts_with(&given), "{len}");
    }
    assert!(matches!(open(&archive[..12]).1, Err(FullError::Truncated(_))));
    let (_, end) = open(&[&archive[..], &[0; 16]].concat());
    assert!(end.is_err());
}

#[test]
fn a_wrong_passphrase_is_said_to_be_one() {
    let archive = encoded(&noise(2, 300_000), Some(&passphrase()));
    let wrong = Passphrase::new(b"incorrect horse".to_vec());
    let error = Decoder::openssl(archive.as_slice(), Some(&wrong), limits()).err().unwrap();
    assert!(matches!(error, FullError::WrongPassphrase), "{error}");
    assert_eq!(error.class(), ErrorClass::WrongKey);
    // Not even where the padding is all there is to go by.
    let error = Decoder::openssl(&archive[..32], Some(&wrong), limits()).err().unwrap();
    assert!(matches!(error, FullError::WrongPassphrase), "{error}");
}

#[test]
fn archives_that_are_not_what_their_name_says_are_told_apart() {
    let plain = encoded(b"tar", None);
    let error = |bytes: &[u8], passphrase: Option<&Passphrase>| {
        Decoder::openssl(bytes, passphrase, limits()).err().unwrap().to_string()
    };
    let passphrase = passphrase();
    assert!(error(&plain, Some(&passphrase)).contains("not encrypted"));
    assert!(error(b"Salted__", None).contains("encrypted by `openssl enc`"));
    assert!(error(b"", None).contains("no gzip file"));
    assert!(error(b"BZh91AY", Some(&passphrase)).contains("nothing that `openssl enc -salt` has written"));
}

#[test]
fn it_is_one_gzip_member_however_many_pieces_there_are() {
    let tar = text(1_700_000);
    let archive = encoded(&tar, None);
    let mut one = flate2::bufread::GzDecoder::new(archive.as_slice());
    let (found, end) = drain(&mut one);
    assert!(end.is_ok() && found == tar);
    assert!(one.into_inner().is_empty());
    // Each piece goes on from the one before: what repeats in each costs next to nothing.
    let again = noise(3, 20_000).repeat(70);
    assert!(encoded(&again, None).len() < 100_000);
    let (found, _) = drain(MultiGzDecoder::new(&*[encoded(b"a", None), encoded(b"b", None)].concat()));
    assert_eq!(found, b"ab");
}
