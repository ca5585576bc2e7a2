//! Each stage of backups and restores for itself, then all of them together: `cargo bench`, or
//! `cargo bench --bench stages NAME` for those whose name has `NAME` in it.

#![allow(clippy::unwrap_used, reason = "benchmarks may stop at the first surprise")]

use std::cell::RefCell;
use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use exuvia::app::{
    self, BackupRequest, InitRequest, Location, Passphrase, RestoreRequest, ScryptParams, Session,
};
use exuvia::chunk::Chunker;
use exuvia::clock::{Clock, SystemClock};
use exuvia::crypto::{self, FramePlace, Keyring, MasterKey, ObjectKey, ObjectKind};
use exuvia::format::index_v1::{self, PackInfo};
use exuvia::format::pack_v1::{BlobInfo, FrameInfo};
use exuvia::format::sealed_v1::{Randomness, Sealer};
use exuvia::format::segment_v1::{self, LeafBuilder};
use exuvia::full::{Decoder, Effort, Encoder, Limits};
use exuvia::gather::{Gather, TreeWalk, WalkOptions};
use exuvia::model::{
    BlobId, BlobKind, Content, Entry, EntryKind, Metadata, ObjectId, Owner, RepoPath, RepositoryId, Slice,
    Slices, Timestamp,
};
use exuvia::remote::{Local, Remote};
use exuvia::repo::{CachePlace, Index, Repository, SharedIndex};
use exuvia::report::{Monitor, Silent};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// So long after a file was written its times are trusted, also where they have no fractions of seconds.
const SETTLED: Duration = Duration::from_millis(2_500);

fn main() {
    divan::main();
}

fn keys() -> Keyring {
    Keyring::new(&MasterKey::from_bytes([7; 32]))
}

/// What does not compress.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Words, marks and numbers that compress about as notes and logs do.
fn text(seed: usize, len: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "cicada ",
        "skin ",
        "bark ",
        "summer ",
        "night ",
        "grows ",
        "left ",
        "behind ",
        "the ",
        "of ",
        "a ",
        "\"id\":",
        "\"text\":",
        "{",
        "}\n",
        ", ",
    ];
    let mut out = Vec::with_capacity(len + 16);
    for byte in noise(seed, len) {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(WORDS[usize::from(byte) % WORDS.len()].as_bytes());
        if byte > 200 {
            out.extend_from_slice(format!("{byte:x}").as_bytes());
        }
    }
    out.truncate(len);
    out
}

#[divan::bench]
fn chunk_8_mib(bencher: Bencher<'_, '_>) {
    let (bytes, chunker) = (text(1, 8 * MIB), Chunker::new(keys().gear_table()));
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        let (mut rest, mut chunks) = (bytes.as_slice(), 0);
        while let Some(len) = chunker.cut(rest, true) {
            rest = &rest[len..];
            chunks += 1;
        }
        chunks
    });
}

#[divan::bench(args = [4 * KIB, 64 * KIB, MIB])]
fn blob_id(bencher: Bencher<'_, '_>, len: usize) {
    let (bytes, keys) = (noise(2, len), keys());
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .bench_local(|| keys.blob_id(BlobKind::Data, black_box(&bytes)));
}

#[divan::bench(args = [1, 2, 3, 12])]
fn zstd_1_mib(bencher: Bencher<'_, '_>, level: i32) {
    let (frame, mut zstd) = (text(3, MIB), zstd::bulk::Compressor::new(level).unwrap());
    bencher.counter(BytesCount::of_slice(&frame)).bench_local(|| zstd.compress(&frame).unwrap());
}

fn place() -> FramePlace {
    let repository = RepositoryId([7; 16]);
    FramePlace { repository, kind: ObjectKind::Pack, version: 1, number: 0, last: false }
}

#[divan::bench]
fn seal_1_mib(bencher: Bencher<'_, '_>) {
    let (frame, key) = (noise(4, MIB), ObjectKey::from_bytes([7; 32]));
    bencher.counter(BytesCount::of_slice(&frame)).with_inputs(|| frame.clone()).bench_local_values(
        |mut buffer| {
            key.seal(place(), &mut buffer, 0).unwrap();
            buffer
        },
    );
}

#[divan::bench]
fn open_1_mib(bencher: Bencher<'_, '_>) {
    let (mut frame, key) = (noise(4, MIB), ObjectKey::from_bytes([7; 32]));
    key.seal(place(), &mut frame, 0).unwrap();
    bencher.counter(BytesCount::new(MIB)).with_inputs(|| frame.clone()).bench_local_values(|mut buffer| {
        key.open(place(), &mut buffer).unwrap();
        buffer
    });
}

#[divan::bench]
fn sha256_16_mib(bencher: Bencher<'_, '_>) {
    let pack = noise(5, 16 * MIB);
    bencher.counter(BytesCount::of_slice(&pack)).bench_local(|| crypto::sha256(black_box(&pack)));
}

/// What state dirs are made of: text, and a quarter of what does not compress.
fn archive_input() -> Vec<u8> {
    (0..8).flat_map(|n| if n % 4 == 3 { noise(n, 8 * MIB) } else { text(n, 8 * MIB) }).collect()
}

fn sealer() -> Sealer {
    Sealer { repository: RepositoryId([7; 16]), keys: keys() }
}

fn encode(mut encoder: Encoder<io::Sink>, tar: &[u8]) -> u64 {
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap().size
}

/// By threads that compress. Beside it: `archive_by_programs`.
#[divan::bench(args = [1, 2], sample_count = 10, sample_size = 1)]
fn archive_sealed(bencher: Bencher<'_, '_>, threads: usize) {
    let (tar, sealer, effort) = (archive_input(), sealer(), Effort { level: None, threads });
    bencher
        .counter(BytesCount::of_slice(&tar))
        .bench_local(|| encode(Encoder::sealed(io::sink(), &sealer, effort).unwrap(), &tar));
}

#[divan::bench(args = [1, 2], sample_count = 10, sample_size = 1)]
fn archive_openssl(bencher: Bencher<'_, '_>, threads: usize) {
    let (tar, effort) = (archive_input(), Effort { level: None, threads });
    let passphrase = crypto::Passphrase::new(b"bench".to_vec());
    bencher
        .counter(BytesCount::of_slice(&tar))
        .bench_local(|| encode(Encoder::openssl(io::sink(), Some(&passphrase), effort).unwrap(), &tar));
}

/// The same input through what people use instead; programs run beside each other, on as many cores as there are.
#[divan::bench(args = ["zstd -q", "gzip"], sample_count = 10, sample_size = 1)]
fn archive_by_programs(bencher: Bencher<'_, '_>, compress: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let tar = archive_input();
    fs::write(file.path(), &tar).unwrap();
    let openssl = "openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000 -pass pass:bench";
    let pipe = format!("cat | {compress} | {openssl} > /dev/null");
    bencher.counter(BytesCount::of_slice(&tar)).bench_local(|| {
        let input = fs::File::open(file.path()).unwrap();
        let status = Command::new("sh").args(["-c", &pipe]).stdin(input).status().unwrap();
        assert!(status.success());
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn archive_sealed_read(bencher: Bencher<'_, '_>) {
    let (tar, sealer) = (archive_input(), sealer());
    let mut encoder = Encoder::sealed(Vec::new(), &sealer, Effort { level: None, threads: 2 }).unwrap();
    encoder.write_all(&tar).unwrap();
    let archive = encoder.finish().unwrap().out;
    bencher.counter(BytesCount::of_slice(&tar)).bench_local(|| {
        let mut decoder = Decoder::sealed(archive.as_slice(), &sealer, Limits::UNKNOWN).unwrap();
        io::copy(&mut decoder, &mut io::sink()).unwrap()
    });
}

/// Files as most are: of one blob each.
fn entries() -> Vec<Entry> {
    let (keys, owner) = (keys(), Arc::new(Owner { uid: 1000, gid: 1000, ..Owner::default() }));
    let entry = |n: u32| {
        let id = keys.blob_id(BlobKind::Data, &n.to_le_bytes());
        let slices = Slices::Inline(vec![Slice::Blob { id, offset: 0, len: 100 + n }]);
        let time = Timestamp { secs: 1_700_000_000 + i64::from(n) * 37, nanos: n * 1_000 };
        let owner = Arc::clone(&owner);
        let meta = Metadata {
            mode: 0o644,
            owner,
            mtime: time,
            ctime: time,
            inode: u64::from(n) * 3,
            xattrs: Vec::new(),
        };
        let path = RepoPath::new(format!("sessions/{:03}/{n:06}.jsonl", n / 50).into_bytes()).unwrap();
        let kind = EntryKind::File(Content { size: u64::from(100 + n), slices, ..Content::default() });
        Entry { path, kind, meta, link_group: 0, unsettled: false }
    };
    (0..1_000).map(entry).collect()
}

fn segment(entries: &[Entry]) -> Vec<u8> {
    let mut leaf = LeafBuilder::default();
    entries.iter().for_each(|entry| leaf.push(entry));
    leaf.finish()
}

#[divan::bench]
fn segment_encode(bencher: Bencher<'_, '_>) {
    let entries = entries();
    bencher.counter(ItemsCount::new(entries.len())).bench_local(|| segment(&entries));
}

#[divan::bench]
fn segment_decode(bencher: Bencher<'_, '_>) {
    let entries = entries();
    let bytes = segment(&entries);
    bencher
        .counter(ItemsCount::new(entries.len()))
        .bench_local(|| segment_v1::decode(black_box(&bytes)).unwrap());
}

fn frames_of_200_000_blobs(id: impl Fn(u32) -> BlobId) -> Vec<FrameInfo> {
    let frame = |first: u32| FrameInfo {
        stored: 50_000,
        raw: 100_000,
        compressed: true,
        kind: BlobKind::Data,
        blobs: (first..first + 100).map(|n| BlobInfo::new(id(n), 1_000)).collect(),
    };
    (0..2_000).map(|n| frame(n * 100)).collect()
}

#[divan::bench]
fn index_lookup(bencher: Bencher<'_, '_>) {
    let keys = keys();
    let id = |n: u32| keys.blob_id(BlobKind::Data, &n.to_le_bytes());
    let frames = frames_of_200_000_blobs(id);
    let mut index = Index::default();
    index.add_pack(&PackInfo { id: ObjectId([7; 32]), size: 100_000_000, frames }).unwrap();
    // One half is there, one half is not; many, so that no cache has just those.
    let asked: Vec<BlobId> = (0..100_000).map(|n| id(n * 4)).collect();
    bencher
        .counter(ItemsCount::new(asked.len()))
        .bench_local(|| asked.iter().filter(|id| index.contains(id).unwrap()).count());
}

/// Opening the index of a large repository and asking for a few blobs: by the local table, or by decoding
/// all index objects.
#[divan::bench(args = [true, false], sample_count = 10, sample_size = 1)]
fn index_open_200_000_blobs(bencher: Bencher<'_, '_>, table: bool) {
    let dir = tempfile::tempdir().unwrap();
    let remote: Arc<dyn Remote> = Arc::new(Local::new(dir.path().join("repository")));
    let caches = CachePlace { dir: &dir.path().join("cache"), keeps_key: false };
    let passphrase = Passphrase::new(b"passphrase".to_vec());
    let params = ScryptParams::GENERATED;
    Repository::init(&remote, &passphrase, caches, params, Timestamp::default(), "").unwrap();
    let repository = Repository::open(Arc::clone(&remote), &passphrase, caches).unwrap();
    let id = |n: u32| keys().blob_id(BlobKind::Data, &n.to_le_bytes());
    let frames = frames_of_200_000_blobs(id);
    let pack = PackInfo { id: ObjectId([7; 32]), size: 110_000_000, frames };
    let record = index_v1::encode(&index_v1::Index { packs: vec![pack], replaces: Vec::new() }).unwrap();
    let random = Randomness::generate().unwrap();
    let object = repository.sealer().seal_record(ObjectKind::Index, &record, &random).unwrap();
    remote.put(&format!("index/{}", ObjectId(crypto::sha256(&object))), &object).unwrap();
    let repository = if table { repository } else { repository.without_copies() };
    let asked: Vec<BlobId> = (0..10).map(|n| id(n * 20_000)).collect();
    let open = || {
        let loaded = SharedIndex::new(&repository).get().unwrap();
        asked.iter().filter(|id| loaded.index.contains(id).unwrap()).count()
    };
    assert_eq!(open(), asked.len());
    bencher.bench_local(open);
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[divan::bench(sample_size = 1, max_time = 2)]
fn walk_4_000_files(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().unwrap();
    (0..4_000).for_each(|n| write(dir.path(), &format!("{:03}/{n}.md", n / 20), b"x"));
    bencher.counter(ItemsCount::new(4_201usize)).bench_local(|| {
        let mut walk = TreeWalk::new(dir.path(), WalkOptions::default()).unwrap();
        std::iter::from_fn(|| walk.next()).count()
    });
}

/// A tree of 2,010 files and a place for repositories.
struct World {
    dir: tempfile::TempDir,
    bytes: usize,
    made: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self { dir: tempfile::tempdir().unwrap(), bytes: 0, made: 0 };
        for n in 0..2_000 {
            world.write(&format!("notes/{:03}/{n}.md", n / 25), &text(n, 2 * KIB + n * 6));
        }
        (0..8).for_each(|n| world.write(&format!("sessions/{n}.jsonl"), &text(9_000 + n, MIB + n)));
        (0..2).for_each(|n| world.write(&format!("media/{n}.jpg"), &noise(n, 3 * MIB)));
        world
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn write(&mut self, name: &str, bytes: &[u8]) {
        write(&self.tree(), name, bytes);
        self.bytes += bytes.len();
    }

    fn fresh(&mut self, what: &str) -> PathBuf {
        self.made += 1;
        self.dir.path().join(format!("{what}-{}", self.made))
    }

    /// An empty repository, and a machine that has seen nothing of it.
    fn repository(&mut self) -> Session {
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let session = Session {
            repository: Location::Local(self.fresh("repository")),
            passphrase: Passphrase::new(b"passphrase".to_vec()),
            cache_dir: self.fresh("cache"),
            key_cache: true,
            monitor,
            clock,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
        };
        let request = InitRequest { label: String::new(), params: ScryptParams::GENERATED };
        app::init(&session, &request).unwrap();
        session
    }

    fn backup(&self, session: &Session) -> u64 {
        let request = BackupRequest::new(self.tree());
        let outcome = app::backup(session, &request).unwrap();
        assert!(outcome.errors.is_empty());
        outcome.snapshot.stats.files_unmodified
    }

    fn restore(&self, session: &Session, target: PathBuf) -> u64 {
        let request = RestoreRequest {
            snapshot: "latest".to_owned(),
            target: Some(target),
            state_dir: self.tree(),
            paths: Vec::new(),
            dry_run: false,
            verify: false,
            owner: false,
            set_id: false,
            devices: false,
        };
        let (_, outcome) = app::restore(session, &request).unwrap();
        assert!(outcome.errors.is_empty());
        outcome.files_written
    }
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn pipeline_first_backup(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let (bytes, world) = (BytesCount::new(world.bytes), RefCell::new(world));
    bencher
        .counter(bytes)
        .with_inputs(|| world.borrow_mut().repository())
        .bench_local_values(|session| world.borrow().backup(&session));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn pipeline_no_change(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let session = world.repository();
    // What was just written is read again.
    std::thread::sleep(SETTLED);
    world.backup(&session);
    assert_eq!(world.backup(&session), 2_010);
    bencher.counter(ItemsCount::new(2_010usize)).bench_local(|| world.backup(&session));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn pipeline_restore(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let session = world.repository();
    world.backup(&session);
    let (bytes, world) = (BytesCount::new(world.bytes), RefCell::new(world));
    bencher
        .counter(bytes)
        .with_inputs(|| world.borrow_mut().fresh("target"))
        .bench_local_values(|target| world.borrow().restore(&session, target));
}
