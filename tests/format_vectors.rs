//! Runs the vectors of `format-spec/vectors/`: bytes made from the text of the format by another program.
//! What they state must decode to what they say, encode to the same bytes where encoding leaves no
//! choice, and fail with the class they name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use exuvia::chunk::Chunker;
use exuvia::crypto::{
    ContentHasher, Keyring, MasterKey, Masters, ObjectKey, ObjectKind, Passphrase, PhraseError, ScryptParams,
    read_phrase, spell_phrase,
};
use exuvia::format::acceptance_v1::{self, Acceptance};
use exuvia::format::gc_v1::{self, GcRecord};
use exuvia::format::index_v1::{self, Index, PackInfo};
use exuvia::format::key_description_v1::{self, Description, KeyKind};
use exuvia::format::key_v1::Secrets;
use exuvia::format::marker_v1::{Marker, Operation};
use exuvia::format::pack_v1::{self, BlobInfo, FrameInfo, TRAILER};
use exuvia::format::removal_v1::{self, Removal};
use exuvia::format::sealed_v1::{HEADER, Randomness, Sealer};
use exuvia::format::segment_v1::{self, Child, LeafBuilder, Segment};
use exuvia::format::{FormatError, key_v1, slices_v1, snapshot_v1};
use exuvia::full::{self, Decoder, Effort, Encoder, FullError, Limits};
use exuvia::model::{
    ArchiveMark, BlobId, BlobKind, Capture, Classify, Content, ContentHash, DatabaseRecord, Entry, EntryKind,
    FileError, Integrity, Loss, ManifestRef, Metadata, ObjectId, Owner, Reason, Removed, RepoPath,
    RepositoryId, Slice, Slices, Snapshot, SnapshotKind, Stats, Timestamp, WriterId, WriterKeyId, Xattr,
    compare_paths,
};
use exuvia::repo::{Folder, pack_name, parse_name, record_name};
use serde_json::Value;

type Check = fn(&V);

/// Every file of the directory, and what reads it.
const FILES: &[(&str, Check)] = &[
    ("acceptance.json", acceptance),
    ("chunker.json", chunker),
    ("full_mark.json", full_mark),
    ("full_openssl.json", full_openssl),
    ("full_sealed.json", full_sealed),
    ("gc.json", gc),
    ("index.json", index),
    ("key.json", key),
    ("key_description.json", key_description),
    ("leaf.json", leaf),
    ("marker.json", marker),
    ("name.json", name),
    ("node.json", node),
    ("pack.json", pack),
    ("path.json", path),
    ("removal.json", removal),
    ("phrase.json", phrase),
    ("roles.json", roles),
    ("sealed.json", sealed),
    ("slices.json", slices),
    ("snapshot.json", snapshot),
    ("sub_keys.json", sub_keys),
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("format-spec/vectors")
}

#[test]
fn every_file_of_vectors_is_read() {
    let there: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            !matches!(
                name.as_str(),
                "README.md" | "make.py" | "make_full.py" | "make_records.py" | "__pycache__"
            )
        })
        .collect();
    let read: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, read);
}

#[test]
fn the_program_agrees_with_the_vectors() {
    for (file, check) in FILES {
        let text = std::fs::read(directory().join(file)).unwrap();
        let document = V { json: serde_json::from_slice(&text).unwrap(), at: (*file).to_owned() };
        assert!(!document.get("cases").list().is_empty(), "{file} is empty");
        check(&document);
    }
}

/// A JSON value that knows where it stands.
struct V {
    json: Value,
    at: String,
}

impl V {
    fn get(&self, key: &str) -> V {
        let json = self.json.get(key).unwrap_or_else(|| panic!("{}: no `{key}`", self.at)).clone();
        V { json, at: format!("{}.{key}", self.at) }
    }

    fn opt(&self, key: &str) -> Option<V> {
        self.json.get(key).filter(|v| !v.is_null()).map(|_| self.get(key))
    }

    fn list(&self) -> Vec<V> {
        let list = self.json.as_array().unwrap_or_else(|| panic!("{}: not a list", self.at));
        list.iter()
            .enumerate()
            .map(|(i, json)| V { json: json.clone(), at: format!("{}[{i}]", self.at) })
            .collect()
    }

    /// The cases, each with its name and the class it expects.
    fn cases(&self) -> Vec<(String, V)> {
        let case =
            |v: V| (v.get("expect").str(), V { at: format!("{} `{}`", self.at, v.get("name").str()), ..v });
        self.get("cases").list().into_iter().map(case).collect()
    }

    fn str(&self) -> String {
        self.json.as_str().unwrap_or_else(|| panic!("{}: not a string", self.at)).to_owned()
    }

    fn hex(&self) -> Vec<u8> {
        let text = self.str();
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", self.at))
    }

    fn array<const N: usize>(&self) -> [u8; N] {
        self.hex().try_into().unwrap_or_else(|_| panic!("{}: not {N} bytes", self.at))
    }

    fn int<T: TryFrom<i128>>(&self) -> T {
        let n = self.json.as_u64().map(i128::from).or(self.json.as_i64().map(i128::from));
        n.and_then(|n| n.try_into().ok()).unwrap_or_else(|| panic!("{}: not such a number", self.at))
    }

    fn bool(&self) -> bool {
        self.json.as_bool().unwrap_or_else(|| panic!("{}: not a bool", self.at))
    }

    fn path(&self) -> RepoPath {
        RepoPath::new(self.hex()).unwrap_or_else(|e| panic!("{}: {e}", self.at))
    }

    fn time(&self) -> Timestamp {
        let [secs, nanos] = self.pair();
        Timestamp { secs: secs.int(), nanos: nanos.int() }
    }

    fn pair(&self) -> [V; 2] {
        self.list().try_into().unwrap_or_else(|_| panic!("{}: not a pair", self.at))
    }

    fn keyring(&self) -> Keyring {
        Keyring::new(&MasterKey::from_bytes(self.get("master").array()))
    }

    fn sealer(&self) -> Sealer {
        Sealer { repository: RepositoryId(self.get("repository").array()), keys: self.keyring() }
    }

    fn randomness(&self) -> Randomness {
        Randomness { key: ObjectKey::from_bytes(self.get("key").array()), nonce: self.get("nonce").array() }
    }
}

/// What was decoded when the case expects that, else nothing after a check of the class.
fn outcome<T: Debug>(case: &V, expect: &str, result: Result<T, FormatError>) -> Option<T> {
    match result {
        Ok(value) if expect == "ok" => return Some(value),
        Ok(value) => panic!("{}: accepted, where {expect} is expected: {value:?}", case.at),
        Err(error) => assert_eq!(error.class().name(), expect, "{}: {error}", case.at),
    }
    None
}

fn pattern(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn marker(file: &V) {
    for (expect, case) in file.cases() {
        let decoded = Marker::decode(&case.get("bytes").hex());
        let Some(marker) = outcome(&case, &expect, decoded) else { continue };
        assert_eq!(marker.id.0, case.get("id").array(), "{}", case.at);
        assert_eq!(marker.created, case.get("created").str(), "{}", case.at);
        let again = Marker::decode(&marker.encode().unwrap()).unwrap();
        for (word, operation) in [
            ("read", Operation::Read),
            ("write", Operation::Write),
            ("check", Operation::Check),
            ("delete", Operation::Delete),
        ] {
            for marker in [&marker, &again] {
                let class = marker.check(operation).map_or_else(|e| e.class().name(), |()| "ok");
                assert_eq!(class, case.get("operations").get(word).str(), "{} {word}", case.at);
            }
        }
    }
}

/// The master key of a file or case, and so many of the file's later ones.
fn masters(file: &V, master: &V, later: usize) -> Masters {
    let first = Masters::new(MasterKey::from_bytes(master.get("master").array()));
    let later =
        file.get("later").list().into_iter().take(later).map(|key| MasterKey::from_bytes(key.array()));
    later.fold(first, |masters, key| masters.with(key).unwrap())
}

/// What tells keyrings apart: what they name and what they seal.
fn probe(repository: RepositoryId, keys: Keyring) -> (BlobId, Vec<u8>, Vec<u8>) {
    let id = keys.blob_id(BlobKind::Data, b"probe");
    let sealer = Sealer { repository, keys };
    let seal = |kind| {
        let random = Randomness { key: ObjectKey::from_bytes([1; 32]), nonce: [2; 24] };
        sealer.seal_record(kind, b"probe", &random).unwrap()
    };
    (id, seal(ObjectKind::Snapshot), seal(ObjectKind::Index))
}

fn key(file: &V) {
    let repository = RepositoryId(file.get("repository").array());
    for (expect, case) in file.cases() {
        let passphrase = Passphrase::new(case.get("passphrase").hex());
        let bytes = case.get("bytes").hex();
        let opened = key_v1::open(&bytes, repository, &passphrase);
        let opened =
            opened.map(|bundle| (bundle.created, bundle.label.clone(), probe(repository, bundle.keyring())));
        let Some(shown) = outcome(&case, &expect, opened) else { continue };
        let masters = masters(file, &case, case.get("later").int());
        let secrets = match case.opt("writer") {
            None => Secrets::Owner(masters),
            Some(id) => {
                let owner = Keyring::of_owner(&masters);
                Secrets::Writer(Box::new(owner.for_writer(WriterKeyId(id.array())).unwrap()))
            }
        };
        let (created, label) = (case.get("created").int(), case.get("label").str());
        let bundle = key_v1::Bundle { secrets, created, label: label.clone() };
        assert_eq!(shown, (created, label, probe(repository, bundle.keyring())), "{}", case.at);
        if case.get("encodes").bool() {
            let params = ScryptParams {
                log_n: case.get("log_n").int(),
                r: case.get("r").int(),
                p: case.get("p").int(),
            };
            let random =
                key_v1::Randomness { salt: case.get("salt").array(), nonce: case.get("nonce").array() };
            let sealed = key_v1::seal(&bundle, repository, &passphrase, params, &random).unwrap();
            assert!(sealed == bytes, "{}: encodes to other bytes", case.at);
        }
    }
}

fn roles(file: &V) {
    let repository = RepositoryId(file.get("repository").array());
    let owner = |later| Sealer { repository, keys: Keyring::of_owner(&masters(file, file, later)) };
    for (expect, case) in file.cases() {
        let kind = kind(&case.get("kind").str());
        let id = WriterKeyId(case.get("writer").array());
        let writer = |later| {
            let keys = owner(later).keys.for_writer(id).unwrap();
            Sealer { repository, keys: Keyring::of_writer(&keys) }
        };
        let later = case.get("later").int();
        let reader = if case.get("reader").str() == "writer" { writer(later) } else { owner(later) };
        let object = case.get("object").hex();
        let opened = reader.open_record(kind, &object);
        // Its class of its own shows in exit codes; it is a wrong key all the same.
        let opened = opened.map_err(|e| if e == FormatError::WriterKey { FormatError::WrongKey } else { e });
        let Some(record) = outcome(&case, &expect, opened) else { continue };
        assert_eq!(record, case.get("record").hex(), "{}", case.at);
        let sealed = case.get("sealed").int();
        let by_writer = case.get("by_writer").bool();
        let sealer = if by_writer { writer(sealed) } else { owner(sealed) };
        assert_eq!(sealer.seal_record(kind, &record, &case.randomness()).unwrap(), object, "{}", case.at);
        let by = (by_writer && kind.is_for_owner()).then_some(id);
        assert_eq!(exuvia::format::sealed_v1::sealed_by(&object), by, "{}", case.at);
    }
}

fn key_description(file: &V) {
    let repository = RepositoryId(file.get("repository").array());
    let master = MasterKey::from_bytes(file.get("master").array());
    for (expect, case) in file.cases() {
        let bytes = case.get("bytes").hex();
        let read = key_description_v1::read(&bytes, repository, &master);
        let Some(found) = outcome(&case, &expect, read) else { continue };
        let wanted = case.opt("kind").map(|kind| Description {
            kind: match kind.int() {
                0 => KeyKind::Owner,
                1 => KeyKind::Writer,
                2 => KeyKind::Claim,
                other => panic!("kind {other}"),
            },
            created: case.get("created").int(),
            label: case.get("label").str(),
            fingerprint: case.opt("fingerprint").map(|bytes| bytes.array()),
            writer: case.opt("writer").map(|id| WriterKeyId(id.array())),
        });
        assert_eq!(found, wanted, "{}", case.at);
        if let Some(description) = wanted.filter(|_| case.get("encodes").bool()) {
            let (mut object, nonce) = (case.get("key_object").hex(), case.get("nonce").array());
            key_description_v1::append(&mut object, repository, &master, &description, &nonce).unwrap();
            assert!(object == bytes, "{}: encodes to other bytes", case.at);
        }
    }
}

fn phrase(file: &V) {
    for (expect, case) in file.cases() {
        let text = Passphrase::new(case.get("text").str().into_bytes());
        let read = read_phrase(&text).unwrap_or_else(|| panic!("{}: not like a phrase", case.at));
        if expect == "ok" {
            let read = read.unwrap_or_else(|e| panic!("{}: {e}", case.at));
            let wanted = case.get("phrase").str();
            assert!(read.as_bytes() == wanted.as_bytes(), "{}", case.at);
            let spelled = spell_phrase(&case.get("entropy").array());
            assert!(spelled.as_bytes() == wanted.as_bytes(), "{}", case.at);
            continue;
        }
        let problem = match read.err().unwrap_or_else(|| panic!("{}: accepted", case.at)) {
            PhraseError::Count { found } => format!("count {found}"),
            PhraseError::Unknown { number } => format!("unknown {number}"),
            PhraseError::Checksum => "checksum".to_owned(),
        };
        assert_eq!(problem, case.get("problem").str(), "{}", case.at);
    }
}

fn sub_keys(file: &V) {
    for (_, case) in file.cases() {
        let master: [u8; 32] = case.get("master").array();
        let keys = Keyring::new(&MasterKey::from_bytes(master));
        let named = case.get("sub_keys");
        for (context, value) in named.json.as_object().unwrap() {
            let derived = blake3::derive_key(context, &master);
            assert_eq!(data_encoding::HEXLOWER.encode(&derived), value.as_str().unwrap(), "{context}");
        }
        for blob in case.get("blobs").list() {
            let bytes = blob.get("bytes").hex();
            assert_eq!(keys.blob_id(BlobKind::Data, &bytes).0, blob.get("data_id").array());
            assert_eq!(keys.blob_id(BlobKind::Meta, &bytes).0, blob.get("meta_id").array());
        }
        let content = case.get("content");
        let (bytes, log2) = (content.get("bytes").hex(), content.get("block_log2").int::<u8>());
        let hashes: Vec<[u8; 16]> = content.get("blocks").list().iter().map(V::array).collect();
        let blocks: Vec<_> = bytes.chunks(1usize << log2).map(|b| keys.block_hash(b)).collect();
        assert_eq!(blocks, hashes);
        let mut hasher = ContentHasher::new(&keys, log2);
        hasher.update(&bytes);
        assert_eq!(hasher.finish(), content.get("hash").array());
        let gear = keys.gear_table();
        let words: Vec<u64> =
            case.get("gear_first").list().iter().map(|n| n.str().parse().unwrap()).collect();
        assert_eq!(gear[..words.len()], words);
        assert_eq!(gear[255].to_string(), case.get("gear_last").str());
    }
}

fn kind(word: &str) -> ObjectKind {
    match word {
        "index" => ObjectKind::Index,
        "snapshot" => ObjectKind::Snapshot,
        "gc" => ObjectKind::Gc,
        "acceptance" => ObjectKind::Acceptance,
        "removal" => ObjectKind::Removal,
        "full mark" => ObjectKind::ArchiveMark,
        other => panic!("kind {other}"),
    }
}

fn sealed(file: &V) {
    let sealer = file.sealer();
    for (expect, case) in file.cases() {
        let kind = kind(&case.get("kind").str());
        let object = if let Some(long) = case.opt("pattern") {
            let record = pattern(&long.get("seed").str(), long.get("length").int());
            let object = sealer.seal_record(kind, &record, &case.randomness()).unwrap();
            let hash = exuvia::crypto::sha256(&object);
            assert_eq!(hash, case.get("object_sha256").array(), "{}", case.at);
            assert!(sealer.open_record(kind, &object).unwrap() == record, "{}", case.at);
            continue;
        } else {
            case.get("object").hex()
        };
        let opened = sealer.open_record(kind, &object);
        let Some(record) = outcome(&case, &expect, opened) else { continue };
        assert_eq!(record, case.get("record").hex(), "{}", case.at);
        if case.get("encodes").bool() {
            assert_eq!(sealer.seal_record(kind, &record, &case.randomness()).unwrap(), object, "{}", case.at);
        }
    }
}

/// Checks a kind of record: as a record, and where a case has one, within its object.
fn records<T: Debug + PartialEq>(
    file: &V,
    kind: ObjectKind,
    decode: fn(&[u8]) -> Result<T, FormatError>,
    encode: fn(&T) -> Result<Vec<u8>, FormatError>,
    read: fn(&V) -> T,
) {
    let sealer = file.sealer();
    for (expect, case) in file.cases() {
        let record = case.get("record").hex();
        let Some(value) = outcome(&case, &expect, decode(&record)) else { continue };
        assert_eq!(value, read(&case.get("value")), "{}", case.at);
        let encoded = encode(&value).unwrap();
        if case.get("encodes").bool() {
            assert_eq!(encoded, record, "{}", case.at);
        } else {
            assert_eq!(decode(&encoded).unwrap(), value, "{}", case.at);
        }
        let object = case.get("object").hex();
        assert_eq!(sealer.open_record(kind, &object).unwrap(), record, "{}", case.at);
        if case.get("object_encodes").bool() {
            let sealed = sealer.seal_record(kind, &record, &case.randomness()).unwrap();
            assert_eq!(sealed, object, "{}", case.at);
        }
    }
}

fn removal(file: &V) {
    records(file, ObjectKind::Removal, removal_v1::decode, removal_v1::encode, |v| {
        let mut removed = Removed::default();
        for run in v.get("runs").list() {
            removed.add_run(
                WriterId(run.get("writer").array()),
                run.get("first").int(),
                run.get("last").int(),
            );
        }
        v.get("snapshots").list().iter().for_each(|id| removed.add_unreadable(ObjectId(id.array())));
        Removal { time: v.get("time").time(), removed }
    });
}

fn full_mark(file: &V) {
    records(file, ObjectKind::ArchiveMark, full::decode_mark, full::encode_mark, |v| {
        let texts = |key: &str| v.get(key).list().iter().map(V::str).collect();
        let counts: Vec<u64> = v.get("counts").list().iter().map(V::int).collect();
        let error = |e: &V| {
            let [path, message] = e.pair();
            FileError { path: path.path(), message: message.str() }
        };
        ArchiveMark {
            name: v.get("name").str().parse().unwrap(),
            size: v.get("size").int(),
            sha256: v.get("sha256").array(),
            time: v.get("time").time(),
            host: v.get("host").str(),
            user: v.get("user").str(),
            program: v.get("program").str(),
            writer: WriterId(v.get("writer").array()),
            root: v.get("root").hex(),
            selection: texts("selection"),
            tags: texts("tags"),
            members: counts[0],
            files: counts[1],
            bytes: counts[2],
            tar_bytes: counts[3],
            complete: v.get("complete").bool(),
            errors: v.get("errors").list().iter().map(error).collect(),
            error_count: v.get("error_count").int(),
        }
    });
}

/// All that comes out of an archive, or its class of error.
fn unpacked<R: Read>(decoder: Result<Decoder<R>, FullError>) -> Result<Vec<u8>, &'static str> {
    let class = |error: FullError| error.class().name();
    let mut tar = Vec::new();
    decoder.map_err(class)?.read_to_end(&mut tar).map_err(|e| class(FullError::from_io(e)))?;
    Ok(tar)
}

/// What comes out of an archive where the case expects that, else nothing after a check of the class.
fn archive(case: &V, expect: &str, tar: Result<Vec<u8>, &'static str>) -> Option<Vec<u8>> {
    match tar {
        Ok(tar) if expect == "ok" => return Some(tar),
        Ok(tar) => panic!("{}: {} bytes came out, where {expect} is expected", case.at, tar.len()),
        Err(class) => assert_eq!(class, expect, "{}", case.at),
    }
    None
}

const ONE_THREAD: Effort = Effort { level: None, threads: 1 };

fn full_sealed(file: &V) {
    let sealer = file.sealer();
    let open = |object: &[u8]| unpacked(Decoder::sealed(object, &sealer, Limits::UNKNOWN));
    for (expect, case) in file.cases() {
        if let Some(long) = case.opt("pattern") {
            let content = pattern(&long.get("seed").str(), long.get("length").int());
            let object = in_raw_blocks(&sealer, &content, &case.randomness());
            assert_eq!(exuvia::crypto::sha256(&object), case.get("object_sha256").array(), "{}", case.at);
            assert!(open(&object).unwrap() == content, "{}", case.at);
            continue;
        }
        let object = case.get("object").hex();
        let Some(tar) = archive(&case, &expect, open(&object)) else { continue };
        assert!(tar == case.get("tar").hex(), "{}", case.at);
        let id = case.opt("writer").map(|id| WriterKeyId(id.array()));
        assert_eq!(exuvia::format::sealed_v1::sealed_by(&object), id, "{}", case.at);
        let keys = match id {
            Some(id) => Keyring::of_writer(&sealer.keys.for_writer(id).unwrap()),
            None => sealer.keys.clone(),
        };
        let writer = Sealer { repository: sealer.repository, keys };
        let mut encoder = Encoder::sealed_with(Vec::new(), &writer, ONE_THREAD, &case.randomness()).unwrap();
        encoder.write_all(&tar).unwrap();
        let again = encoder.finish().unwrap().out;
        // What zstd makes is its own affair, and with it all that follows the header.
        assert_eq!(again[..HEADER], object[..HEADER], "{}", case.at);
        assert!(open(&again).unwrap() == tar, "{}", case.at);
    }
}

/// A sealed archive of one zstd frame without compression, of which every byte is settled.
fn in_raw_blocks(sealer: &Sealer, content: &[u8], random: &Randomness) -> Vec<u8> {
    const FRAME: usize = 1 << 20;
    let le = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut plaintext = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0], &le(content.len())[..]].concat();
    let blocks: Vec<&[u8]> = content.chunks(128 << 10).collect();
    for (number, block) in blocks.iter().enumerate() {
        let head = usize::from(number + 1 == blocks.len()) | block.len() << 3;
        plaintext.extend_from_slice(&le(head)[..3]);
        plaintext.extend_from_slice(block);
    }
    let (mut object, key) = sealer.begin(ObjectKind::Archive, random).unwrap();
    let frames: Vec<&[u8]> = plaintext.chunks(FRAME).collect();
    for (number, frame) in frames.iter().enumerate() {
        let start = object.len();
        object.extend_from_slice(frame);
        let place = sealer.place(ObjectKind::Archive, number as u64, number + 1 == frames.len());
        key.seal(place, &mut object, start).unwrap();
    }
    object
}

fn full_openssl(file: &V) {
    for (expect, case) in file.cases() {
        let passphrase = case.opt("passphrase").map(|passphrase| Passphrase::new(passphrase.hex()));
        let object = case.get("object").hex();
        let open = |object: &[u8]| unpacked(Decoder::openssl(object, passphrase.as_ref(), Limits::UNKNOWN));
        let Some(tar) = archive(&case, &expect, open(&object)) else { continue };
        assert!(tar == case.get("tar").hex(), "{}", case.at);
        let mut encoder = Encoder::openssl(Vec::new(), passphrase.as_ref(), ONE_THREAD).unwrap();
        encoder.write_all(&tar).unwrap();
        assert!(open(&encoder.finish().unwrap().out).unwrap() == tar, "{}", case.at);
    }
}

fn gc(file: &V) {
    records(file, ObjectKind::Gc, gc_v1::decode, gc_v1::encode, |v| GcRecord {
        time: v.get("time").time(),
        packs: v.get("packs").list().iter().map(|id| ObjectId(id.array())).collect(),
    });
}

fn acceptance(file: &V) {
    records(file, ObjectKind::Acceptance, acceptance_v1::decode, acceptance_v1::encode, |v| Acceptance {
        time: v.get("time").time(),
        snapshots: v.get("snapshots").list().iter().map(|id| ObjectId(id.array())).collect(),
    });
}

fn index(file: &V) {
    records(file, ObjectKind::Index, index_v1::decode, index_v1::encode, |v| Index {
        packs: v
            .get("packs")
            .list()
            .iter()
            .map(|p| PackInfo {
                id: ObjectId(p.get("id").array()),
                size: p.get("size").int(),
                frames: p.get("frames").list().iter().map(|f| frame(f, |b| b.get("length").int())).collect(),
            })
            .collect(),
        replaces: v.get("replaces").list().iter().map(|id| ObjectId(id.array())).collect(),
    });
}

fn frame(v: &V, length: impl Fn(&V) -> u32) -> FrameInfo {
    let blobs = v.get("blobs").list();
    FrameInfo {
        stored: v.get("stored").int(),
        raw: v.get("raw").int(),
        compressed: v.get("compressed").bool(),
        kind: if v.get("kind").str() == "meta" { BlobKind::Meta } else { BlobKind::Data },
        blobs: blobs.iter().map(|b| BlobInfo::new(BlobId(b.get("id").array()), length(b))).collect(),
    }
}

fn snapshot(file: &V) {
    records(file, ObjectKind::Snapshot, snapshot_v1::decode, snapshot_v1::encode, |v| {
        let texts = |key: &str| v.get(key).list().iter().map(V::str).collect();
        let [root, level] = v.get("manifest").pair();
        let error = |e: &V| {
            let [path, message] = e.pair();
            FileError { path: path.path(), message: message.str() }
        };
        let stats = v.get("statistics");
        let stat = |key: &str| stats.get(key).int();
        Snapshot {
            time: v.get("time").time(),
            kind: [SnapshotKind::Regular, SnapshotKind::Safety][v.get("kind").int::<usize>()],
            reason: [
                Reason::Manual,
                Reason::Schedule,
                Reason::BeforeCompaction,
                Reason::GatewayStop,
                Reason::Safety,
            ][v.get("reason").int::<usize>()],
            host: v.get("host").str(),
            user: v.get("user").str(),
            program: v.get("program").str(),
            writer: WriterId(v.get("writer").array()),
            sequence: v.get("sequence").int(),
            parent: v.opt("parent").map(|id| ObjectId(id.array())),
            root: v.get("root").hex(),
            paths: v.get("paths").list().iter().map(V::hex).collect(),
            selection: texts("selection"),
            tags: texts("tags"),
            manifest: ManifestRef { root: BlobId(root.array()), level: level.int() },
            complete: v.get("complete").bool(),
            errors: v.get("errors").list().iter().map(error).collect(),
            error_count: v.get("error_count").int(),
            databases: v.get("databases").list().iter().map(database).collect(),
            stats: Stats {
                files: stat("files"),
                dirs: stat("dirs"),
                others: stat("others"),
                bytes: stat("bytes"),
                files_new: stat("files_new"),
                files_changed: stat("files_changed"),
                files_unmodified: stat("files_unmodified"),
                files_removed: stat("files_removed"),
                bytes_read: stat("bytes_read"),
                bytes_added_raw: stat("bytes_added_raw"),
                bytes_added_stored: stat("bytes_added_stored"),
                duration_ms: stat("duration_ms"),
            },
            losses: v.opt("losses").map_or_else(Vec::new, |losses| losses.list().iter().map(loss).collect()),
        }
    });
}

fn loss(v: &V) -> Loss {
    let before = v.get("before").int();
    match v.get("what").int::<u8>() {
        0 => Loss::Files { before },
        1 => Loss::Bytes { before },
        _ => Loss::Database { path: v.get("path").path(), before },
    }
}

fn database(v: &V) -> DatabaseRecord {
    let checked = v.get("checked").time();
    DatabaseRecord {
        path: v.get("path").path(),
        captured: v.get("captured").time(),
        raw: v.get("raw").bool(),
        size: v.get("size").int(),
        user_version: v.get("user_version").int(),
        application_id: v.get("application_id").int(),
        integrity: match v.get("integrity").int::<u8>() {
            0 => Integrity::NotChecked,
            1 => Integrity::Ok(checked),
            _ => Integrity::Failed(checked, v.get("message").str()),
        },
    }
}

/// Opens all of a pack and verifies every blob, as `check` does.
fn open_pack(sealer: &Sealer, pack: &[u8]) -> Result<Vec<(FrameInfo, Vec<u8>)>, FormatError> {
    let damaged = FormatError::Damaged("test: a part is missing");
    let trailer = pack.len().checked_sub(TRAILER).ok_or(damaged.clone())?;
    let place = pack_v1::toc_place(&pack[trailer..], pack.len() as u64)?;
    let key = sealer.open_header(ObjectKind::Pack, pack)?;
    let table = pack[usize::try_from(place.offset).unwrap()..trailer].to_vec();
    assert_eq!(table.len(), place.stored as usize);
    let mut at = exuvia::format::sealed_v1::HEADER;
    let mut opened = Vec::new();
    for (number, frame) in pack_v1::open_toc(sealer, &key, place, table)?.into_iter().enumerate() {
        let sealed = pack[at..at + frame.stored as usize].to_vec();
        at += frame.stored as usize;
        let raw = pack_v1::open_frame(sealer, &key, number as u64, &frame, sealed)?;
        let mut rest = raw.as_slice();
        for blob in &frame.blobs {
            let (bytes, tail) = rest.split_at(blob.length as usize);
            if sealer.keys.blob_id(frame.kind, bytes) != blob.id() {
                return Err(damaged);
            }
            rest = tail;
        }
        assert!(rest.is_empty());
        opened.push((frame, raw));
    }
    assert_eq!(at as u64, place.offset);
    Ok(opened)
}

fn pack(file: &V) {
    let sealer = file.sealer();
    for (expect, case) in file.cases() {
        let bytes = case.get("pack").hex();
        let Some(opened) = outcome(&case, &expect, open_pack(&sealer, &bytes)) else { continue };
        let listed = case.get("frames").list();
        let blob = |b: &V| u32::try_from(b.get("bytes").hex().len()).unwrap();
        let infos: Vec<FrameInfo> = listed.iter().map(|f| frame(f, blob)).collect();
        assert_eq!(infos, opened.iter().map(|(info, _)| info.clone()).collect::<Vec<_>>(), "{}", case.at);
        for (line, (_, raw)) in listed.iter().zip(&opened) {
            let blobs: Vec<u8> = line.get("blobs").list().iter().flat_map(|b| b.get("bytes").hex()).collect();
            assert_eq!(&blobs, raw, "{}", case.at);
        }
        if case.get("encodes").bool() {
            let random = case.randomness();
            let from = match case.opt("writer") {
                None => sealer.clone(),
                Some(id) => {
                    let keys = sealer.keys.for_writer(WriterKeyId(id.array())).unwrap();
                    Sealer { keys: Keyring::of_writer(&keys), ..sealer.clone() }
                }
            };
            let (mut pack, key) = from.begin(ObjectKind::Pack, &random).unwrap();
            for (number, line) in listed.iter().enumerate() {
                let start = pack.len();
                pack.extend_from_slice(&line.get("payload").hex());
                let place = sealer.place(ObjectKind::Pack, number as u64, false);
                key.seal(place, &mut pack, start).unwrap();
            }
            pack.extend(pack_v1::ending(&sealer, &key, &infos).unwrap());
            assert_eq!(pack, bytes, "{}", case.at);
        }
    }
}

fn slice(v: &V) -> Slice {
    match v.opt("hole") {
        Some(len) => Slice::Hole { len: len.int() },
        None => Slice::Blob {
            id: BlobId(v.get("id").array()),
            offset: v.get("offset").int(),
            len: v.get("length").int(),
        },
    }
}

fn slices(file: &V) {
    for (expect, case) in file.cases() {
        let bytes = case.get("bytes").hex();
        let decoded = slices_v1::decode_list(&bytes);
        let Some((slices, size)) = outcome(&case, &expect, decoded) else { continue };
        assert_eq!(slices, case.get("slices").list().iter().map(slice).collect::<Vec<_>>(), "{}", case.at);
        assert_eq!(size, case.get("size").int::<u64>(), "{}", case.at);
        if case.get("encodes").bool() {
            assert_eq!(slices_v1::encode_list(&slices), bytes, "{}", case.at);
        }
    }
}

fn entry(v: &V) -> Entry {
    let device = || {
        let [major, minor] = v.get("device").pair();
        (major.int(), minor.int())
    };
    let kind = match v.get("type").str().as_str() {
        "file" => EntryKind::File(content(v)),
        "directory" => EntryKind::Directory,
        "symlink" => EntryKind::Symlink(v.get("target").hex()),
        "fifo" => EntryKind::Fifo,
        "char-device" => EntryKind::CharDevice(device().0, device().1),
        "block-device" => EntryKind::BlockDevice(device().0, device().1),
        other => panic!("type {other}"),
    };
    let xattr = |x: &V| {
        let [name, value] = x.pair();
        Xattr { name: name.hex(), value: value.hex() }
    };
    Entry {
        path: v.get("path").path(),
        kind,
        meta: Metadata {
            mode: v.get("mode").int(),
            owner: Arc::new(Owner {
                uid: v.get("uid").int(),
                gid: v.get("gid").int(),
                user: v.get("user").str(),
                group: v.get("group").str(),
            }),
            mtime: v.get("mtime").time(),
            ctime: v.get("ctime").time(),
            inode: v.get("inode").int(),
            xattrs: v.get("xattrs").list().iter().map(xattr).collect(),
        },
        link_group: v.get("link_group").int(),
        unsettled: v.get("unsettled").bool(),
    }
}

fn content(v: &V) -> Content {
    let slices = match v.opt("lists") {
        Some(lists) => Slices::Lists(lists.list().iter().map(|id| BlobId(id.array())).collect()),
        None => Slices::Inline(v.get("slices").list().iter().map(slice).collect()),
    };
    let hash = v.opt("hash").map(|hash| {
        let [block_log2, hash] = hash.pair();
        ContentHash { block_log2: block_log2.int(), hash: hash.array() }
    });
    let capture = v.opt("capture").map_or(Capture::Plain, |capture| {
        let [kind, page_size] = capture.pair();
        match kind.int::<u8>() {
            1 => Capture::Sqlite { page_size: page_size.int() },
            _ => Capture::RawSqlite,
        }
    });
    Content { size: v.get("size").int(), slices, hash, capture }
}

fn leaf(file: &V) {
    for (expect, case) in file.cases() {
        let bytes = case.get("bytes").hex();
        let Some(segment) = outcome(&case, &expect, segment_v1::decode(&bytes)) else { continue };
        let Segment::Leaf(entries) = segment else { panic!("{}: not a leaf", case.at) };
        assert_eq!(entries, case.get("entries").list().iter().map(entry).collect::<Vec<_>>(), "{}", case.at);
        let mut builder = LeafBuilder::default();
        entries.iter().for_each(|e| builder.push(e));
        let encoded = builder.finish();
        if case.get("encodes").bool() {
            assert_eq!(encoded, bytes, "{}", case.at);
        } else {
            assert_eq!(segment_v1::decode(&encoded).unwrap(), Segment::Leaf(entries), "{}", case.at);
        }
    }
}

fn node(file: &V) {
    for (expect, case) in file.cases() {
        let bytes = case.get("bytes").hex();
        let Some(segment) = outcome(&case, &expect, segment_v1::decode(&bytes)) else { continue };
        let child = |c: &V| Child {
            first: c.get("first").path(),
            entries: c.get("entries").int(),
            id: BlobId(c.get("id").array()),
        };
        let children: Vec<Child> = case.get("children").list().iter().map(child).collect();
        let level = case.get("level").int();
        assert_eq!(segment_v1::encode_node(level, &children), bytes, "{}", case.at);
        assert_eq!(segment, Segment::Node(level, children), "{}", case.at);
    }
}

fn chunker(file: &V) {
    let chunker = Chunker::new(file.keyring().gear_table());
    for (_, case) in file.cases() {
        let length = case.get("length").int();
        let bytes = case.opt("seed").map_or_else(|| vec![0; length], |seed| pattern(&seed.str(), length));
        let mut cuts = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some(cut) = chunker.cut(rest, true) {
            cuts.push(cut);
            rest = &rest[cut..];
        }
        let want: Vec<usize> = case.get("cuts").list().iter().map(V::int).collect();
        assert_eq!(cuts, want, "{}", case.at);
    }
}

fn path(file: &V) {
    for (expect, case) in file.cases() {
        let accepted = RepoPath::new(case.get("path").hex()).is_ok();
        assert_eq!(accepted, expect == "ok", "{}", case.at);
    }
    let sorted = file.get("sorted").list();
    for (i, a) in sorted.iter().enumerate() {
        for (j, b) in sorted.iter().enumerate() {
            assert_eq!(compare_paths(&a.hex(), &b.hex()), i.cmp(&j), "{} {}", a.at, b.at);
        }
    }
}

fn name(file: &V) {
    for (expect, case) in file.cases() {
        let name = case.get("name").str();
        let parsed = parse_name(&name);
        assert_eq!(parsed.is_some(), expect == "ok", "{}", case.at);
        let Some((folder, time, id)) = parsed else { continue };
        assert_eq!(folder.name(), case.get("folder").str(), "{}", case.at);
        assert_eq!(time, case.opt("time").map(|t| t.int::<i64>()), "{}", case.at);
        assert_eq!(id.0, case.get("id").array(), "{}", case.at);
        let again = match (folder, time) {
            (Folder::Packs, _) => pack_name(&id),
            (_, Some(time)) => record_name(folder, Timestamp::from_secs(time), &id),
            _ => continue,
        };
        assert_eq!(again, name);
    }
}
