//! Properties that hold for every kind of object: what is encoded decodes to the same value, every
//! changed or missing byte is noticed, and few bytes never unfold to much memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod edges;

use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::gc_v1::{self, GcRecord};
use super::index_v1::{self, Index, PackInfo};
use super::key_v1::Secrets;
use super::pack_v1::{self, BlobInfo, FrameInfo, TRAILER};
use super::sealed_v1::{HEADER, Randomness, Sealer};
use super::segment_v1::{self, Child, LeafBuilder, Segment};
use super::{FormatError, key_v1, limits, sealed_v1, slices_v1, snapshot_v1};
use crate::crypto::{Keyring, MasterKey, Masters, ObjectKey, ObjectKind, Passphrase, ScryptParams};
use crate::model::{
    BlobId, BlobKind, Capture, Content, ContentHash, DatabaseRecord, Entry, EntryKind, FileError, Integrity,
    Loss, ManifestRef, Metadata, ObjectId, Owner, Reason, RepoPath, RepositoryId, Slice, Slices, Snapshot,
    SnapshotKind, Stats, Timestamp, WriterId, WriterKeyId, Xattr,
};

fn sealer() -> Sealer {
    Sealer { repository: RepositoryId([7; 16]), keys: Keyring::new(&MasterKey::from_bytes([1; 32])) }
}

fn writer() -> Sealer {
    let keys = sealer().keys.for_writer(WriterKeyId([8; 24])).unwrap();
    Sealer { keys: Keyring::of_writer(&keys), ..sealer() }
}

fn randomness() -> Randomness {
    Randomness { key: ObjectKey::from_bytes([3; 32]), nonce: [4; 24] }
}

// Arbitrary values of the model. Numbers come from the edges as often as from between.

fn edgy_u64() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 127, 128, 250, 251, 65_535, 65_536, 1 << 32, 1 << 63, u64::MAX];
    prop_oneof![any::<u64>(), 0..300u64, proptest::sample::select(edges.to_vec())]
}

fn edgy_u32() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), 0..300u32, Just(u32::MAX)]
}

fn time() -> impl Strategy<Value = Timestamp> {
    let secs = prop_oneof![edgy_u64().prop_map(u64::cast_signed), Just(i64::MIN), Just(i64::MAX), Just(-1)];
    let nanos = prop_oneof![0..1_000_000_000u32, Just(0), Just(999_999_999)];
    (secs, nanos).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // Few letters, so that prefixes are shared; among them what sorts around the slash.
    let letter = proptest::sample::select(b"aab\x01.-0\xff".to_vec());
    vec(letter, 1..5).prop_filter("dots", |n| !matches!(n.as_slice(), b"." | b".."))
}

fn path() -> impl Strategy<Value = RepoPath> {
    vec(name(), 0..5).prop_map(|names| RepoPath::new(names.join(&b'/')).unwrap())
}

fn id() -> impl Strategy<Value = [u8; 32]> {
    // Few ids, so that slices name blobs again.
    prop_oneof![any::<[u8; 32]>(), (0..4u8).prop_map(|b| [b; 32])]
}

fn slice() -> impl Strategy<Value = Slice> {
    let max = u32::try_from(limits::BLOB).unwrap();
    let range = (1..=max).prop_flat_map(move |len| (0..=max - len, Just(len)));
    prop_oneof![
        4 => (id(), range).prop_map(|(id, (offset, len))| Slice::Blob { id: BlobId(id), offset, len }),
        1 => (id(), 1..=max).prop_map(|(id, len)| Slice::Blob { id: BlobId(id), offset: 0, len }),
        1 => (1..=1u64 << 40).prop_map(|len| Slice::Hole { len }),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let capture = prop_oneof![
        2 => Just(Capture::Plain),
        1 => (9..=16u32).prop_map(|log| Capture::Sqlite { page_size: 1 << log }),
        1 => Just(Capture::RawSqlite),
    ];
    let slices = prop_oneof![
        3 => vec(slice(), 0..6).prop_map(|s| (s.iter().map(Slice::len).sum(), Slices::Inline(s))),
        1 => (1..=limits::FILE_SIZE, vec(id().prop_map(BlobId), 1..4)).prop_map(|(n, l)| (n, Slices::Lists(l))),
    ];
    (slices, 9..=24u8, id(), capture).prop_map(|((size, slices), block_log2, hash, capture)| {
        let many = !matches!(&slices, Slices::Inline(s) if s.len() < 2);
        let hash = many.then_some(ContentHash { block_log2, hash });
        Content { size, slices, hash, capture }
    })
}

fn kind() -> impl Strategy<Value = EntryKind> {
    let device = || (edgy_u32(), edgy_u32());
    prop_oneof![
        5 => content().prop_map(EntryKind::File),
        2 => Just(EntryKind::Directory),
        1 => vec(1..=255u8, 1..20).prop_map(EntryKind::Symlink),
        1 => Just(EntryKind::Fifo),
        1 => device().prop_map(|(a, b)| EntryKind::CharDevice(a, b)),
        1 => device().prop_map(|(a, b)| EntryKind::BlockDevice(a, b)),
    ]
}

fn owner() -> impl Strategy<Value = Arc<Owner>> {
    let free = (edgy_u32(), edgy_u32(), any::<String>(), any::<String>());
    prop_oneof![Just((0, 0, "root".to_owned(), String::new())), free]
        .prop_map(|(uid, gid, user, group)| Arc::new(Owner { uid, gid, user, group }))
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let xattrs = btree_map(vec(1..=255u8, 1..4), vec(any::<u8>(), 0..5), 0..3)
        .prop_map(|map| map.into_iter().map(|(name, value)| Xattr { name, value }).collect());
    (0..=0o7777u32, owner(), time(), option::of(time()), edgy_u64(), xattrs).prop_map(
        |(mode, owner, mtime, ctime, inode, xattrs)| Metadata {
            mode,
            owner,
            mtime,
            ctime: ctime.unwrap_or(mtime),
            inode,
            xattrs,
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let rest = (kind(), metadata(), edgy_u64(), any::<bool>());
    btree_map(path(), rest, 1..12).prop_map(|map| {
        let entry =
            |(path, (kind, meta, link_group, unsettled))| Entry { path, kind, meta, link_group, unsettled };
        map.into_iter().map(entry).collect()
    })
}

fn frame() -> impl Strategy<Value = FrameInfo> {
    let blobs = vec((id(), 1..=5_000u32), 1..5);
    (blobs, any::<bool>(), any::<bool>(), any::<proptest::sample::Index>()).prop_map(
        |(blobs, compressed, meta, at)| {
            let raw = blobs.iter().map(|(_, n)| n).sum::<u32>();
            let stored =
                if compressed { 17 + u32::try_from(at.index(raw as usize)).unwrap() } else { raw + 16 };
            FrameInfo {
                stored: if compressed { stored.min(raw + 15).max(17) } else { stored },
                raw,
                compressed: compressed && raw > 1,
                kind: if meta { BlobKind::Meta } else { BlobKind::Data },
                blobs: blobs.into_iter().map(|(id, n)| BlobInfo::new(BlobId(id), n)).collect(),
            }
        },
    )
}

fn index() -> impl Strategy<Value = Index> {
    let pack = (id(), vec(frame(), 0..4), 0..1_000u64).prop_map(|(id, frames, more)| {
        let size = HEADER as u64 + frames.iter().map(|f| u64::from(f.stored)).sum::<u64>() + more;
        PackInfo { id: ObjectId(id), size, frames }
    });
    (vec(pack, 0..4), vec(id().prop_map(ObjectId), 0..3))
        .prop_map(|(packs, replaces)| Index { packs, replaces })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let integrity = prop_oneof![
        Just(Integrity::NotChecked),
        time().prop_map(Integrity::Ok),
        (time(), any::<String>()).prop_map(|(t, m)| Integrity::Failed(t, m)),
    ];
    let database = (path(), time(), any::<bool>(), edgy_u64(), edgy_u32(), edgy_u32(), integrity).prop_map(
        |(path, captured, raw, size, user_version, application_id, integrity)| DatabaseRecord {
            path,
            captured,
            raw,
            size,
            user_version,
            application_id,
            integrity,
        },
    );
    let kinds = proptest::sample::select(vec![SnapshotKind::Regular, SnapshotKind::Safety]);
    let reasons = proptest::sample::select(vec![
        Reason::Manual,
        Reason::Schedule,
        Reason::BeforeCompaction,
        Reason::GatewayStop,
        Reason::Safety,
    ]);
    let error = (path(), any::<String>()).prop_map(|(path, message)| FileError { path, message });
    let texts = || vec(any::<String>(), 0..3);
    let bytes = || vec(any::<u8>(), 0..300);
    let head =
        (time(), kinds, reasons, [any::<String>(), any::<String>(), any::<String>()], any::<[u8; 16]>());
    let middle = (edgy_u64(), option::of(id()), bytes(), vec(bytes(), 0..3), texts(), btree_set(".*", 0..3));
    let tail = (id(), 0..=limits::LEVEL, any::<bool>(), vec(error, 0..3), edgy_u64(), vec(database, 0..3));
    let stats = proptest::array::uniform12(edgy_u64());
    let loss = prop_oneof![
        edgy_u64().prop_map(|before| Loss::Files { before }),
        edgy_u64().prop_map(|before| Loss::Bytes { before }),
        (path(), edgy_u64()).prop_map(|(path, before)| Loss::Database { path, before }),
    ];
    (head, middle, tail, stats, vec(loss, 0..3)).prop_map(|(head, middle, tail, stats, losses)| {
        let (time, kind, reason, [host, user, program], writer) = head;
        let (sequence, parent, root, paths, selection, tags) = middle;
        let (manifest, level, complete, errors, error_count, databases) = tail;
        Snapshot {
            time,
            kind,
            reason,
            host,
            user,
            program,
            writer: WriterId(writer),
            sequence,
            parent: parent.map(ObjectId),
            root,
            paths,
            selection,
            tags: tags.into_iter().collect(),
            manifest: ManifestRef { root: BlobId(manifest), level },
            complete,
            errors,
            error_count,
            databases,
            stats: Stats {
                files: stats[0],
                dirs: stats[1],
                others: stats[2],
                bytes: stats[3],
                files_new: stats[4],
                files_changed: stats[5],
                files_unmodified: stats[6],
                files_removed: stats[7],
                bytes_read: stats[8],
                bytes_added_raw: stats[9],
                bytes_added_stored: stats[10],
                duration_ms: stats[11],
            },
            losses,
        }
    })
}

/// Neither a part of the bytes decodes nor more than all of them.
fn cuts_are_refused<T: std::fmt::Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, FormatError>) {
    for n in 0..bytes.len() {
        let result = decode(&bytes[..n]);
        assert!(result.is_err(), "cut to {n} of {} bytes: {result:?}", bytes.len());
    }
    let longer = [bytes, &[0]].concat();
    assert!(decode(&longer).is_err(), "a byte more");
}

fn leaf(entries: &[Entry]) -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    entries.iter().for_each(|e| builder.push(e));
    builder.finish()
}

proptest! {
    #[test]
    fn leaves_round_trip(entries in entries(), change in any::<(proptest::sample::Index, u8)>()) {
        let bytes = leaf(&entries);
        let decoded = segment_v1::decode(&bytes).unwrap();
        prop_assert_eq!(&decoded, &Segment::Leaf(entries));
        cuts_are_refused(&bytes, segment_v1::decode);
        // Without its seal a segment cannot notice every change, but must survive it.
        let mut changed = bytes.clone();
        changed[change.0.index(bytes.len())] = change.1;
        if let Ok(Segment::Leaf(entries)) = segment_v1::decode(&changed) {
            prop_assert_eq!(segment_v1::decode(&leaf(&entries)).unwrap(), Segment::Leaf(entries));
        }
    }

    #[test]
    fn nodes_round_trip(
        level in 1..=limits::LEVEL,
        children in btree_map(path(), (1..1u64 << 50, id()), 1..12),
    ) {
        let child = |(first, (entries, id))| Child { first, entries, id: BlobId(id) };
        let children: Vec<Child> = children.into_iter().map(child).collect();
        let bytes = segment_v1::encode_node(level, &children);
        prop_assert_eq!(segment_v1::decode(&bytes).unwrap(), Segment::Node(level, children));
        cuts_are_refused(&bytes, segment_v1::decode);
    }

    #[test]
    fn slice_lists_round_trip(slices in vec(slice(), 1..20)) {
        let bytes = slices_v1::encode_list(&slices);
        let size = slices.iter().map(Slice::len).sum();
        prop_assert_eq!(slices_v1::decode_list(&bytes).unwrap(), (slices, size));
        cuts_are_refused(&bytes, slices_v1::decode_list);
    }

    #[test]
    fn index_records_round_trip(index in index()) {
        let bytes = index_v1::encode(&index).unwrap();
        prop_assert_eq!(index_v1::decode(&bytes).unwrap(), index);
        cuts_are_refused(&bytes, index_v1::decode);
    }

    #[test]
    fn snapshot_records_round_trip(snapshot in snapshot()) {
        let bytes = snapshot_v1::encode(&snapshot).unwrap();
        prop_assert_eq!(snapshot_v1::decode(&bytes).unwrap(), snapshot);
        cuts_are_refused(&bytes, snapshot_v1::decode);
    }

    #[test]
    fn gc_records_round_trip(time in time(), packs in vec(id().prop_map(ObjectId), 0..5)) {
        let gc = GcRecord { time, packs };
        let bytes = gc_v1::encode(&gc).unwrap();
        prop_assert_eq!(gc_v1::decode(&bytes).unwrap(), gc);
        cuts_are_refused(&bytes, gc_v1::decode);
    }

    #[test]
    fn tables_of_contents_round_trip(frames in vec(frame(), 0..5)) {
        let (sealer, random) = (sealer(), randomness());
        let (mut pack, _) = sealer.begin(ObjectKind::Pack, &random).unwrap();
        // The table is proved without the frames: only their lengths enter it.
        pack.resize(pack.len() + frames.iter().map(|f| f.stored as usize).sum::<usize>(), 0);
        pack.extend(pack_v1::ending(&sealer, &random.key, &frames).unwrap());
        let trailer = pack.len() - TRAILER;
        let place = pack_v1::toc_place(&pack[trailer..], pack.len() as u64).unwrap();
        let table = pack[usize::try_from(place.offset).unwrap()..trailer].to_vec();
        prop_assert_eq!(pack_v1::open_toc(&sealer, &random.key, place, table).unwrap(), frames);
    }

    #[test]
    fn records_round_trip_in_objects(record in vec(any::<u8>(), 0..2_000), zeros in 0..2_000usize) {
        let record = [record, vec![0; zeros]].concat();
        let object = sealer().seal_record(ObjectKind::Gc, &record, &randomness()).unwrap();
        prop_assert!(object.len() <= HEADER + 5 + record.len() + 16);
        prop_assert_eq!(sealer().open_record(ObjectKind::Gc, &object).unwrap(), record);
    }
}

/// Every byte changed in three ways, and every shorter length: an error or the same value.
fn damage_is_noticed<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    open: impl Fn(&[u8]) -> Result<T, FormatError>,
) {
    let whole = open(bytes).unwrap();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut changed = bytes.to_vec();
            changed[at] ^= mask;
            if let Ok(value) = open(&changed) {
                assert_eq!(value, whole, "byte {at} xor {mask:#x}");
            }
        }
        assert!(open(&bytes[..at]).is_err(), "cut to {at}");
    }
    assert!(open(&[bytes, &[0]].concat()).is_err(), "a byte more");
}

#[test]
fn damage_to_a_record_object_is_noticed() {
    for record in [b"short".to_vec(), b"compressible ".repeat(50), Vec::new()] {
        for from in [sealer(), writer()] {
            let object = from.seal_record(ObjectKind::Snapshot, &record, &randomness()).unwrap();
            damage_is_noticed(&object, |bytes| sealer().open_record(ObjectKind::Snapshot, bytes));
            assert!(sealer().open_record(ObjectKind::Index, &object).is_err());
        }
    }
}

#[test]
fn a_writer_reads_the_index_and_nothing_that_is_sealed_to_the_owner() {
    let own = |kind| writer().seal_record(kind, b"record", &randomness()).unwrap();
    for kind in [ObjectKind::Index, ObjectKind::Gc] {
        for reader in [sealer(), writer()] {
            assert_eq!(reader.open_record(kind, &own(kind)).unwrap(), b"record");
        }
    }
    let snapshot = own(ObjectKind::Snapshot);
    assert_eq!(sealed_v1::sealed_by(&snapshot), Some(WriterKeyId([8; 24])));
    assert_eq!(sealer().open_record(ObjectKind::Snapshot, &snapshot).unwrap(), b"record");
    let owners = sealer().seal_record(ObjectKind::Snapshot, b"record", &randomness()).unwrap();
    assert_eq!(sealed_v1::sealed_by(&owners), None);
    for object in [snapshot, owners] {
        assert_eq!(writer().open_record(ObjectKind::Snapshot, &object), Err(FormatError::WriterKey));
    }
    assert!(writer().seal_record(ObjectKind::Acceptance, b"record", &randomness()).is_err());
}

#[test]
fn what_was_sealed_before_a_rotation_opens_after_it_and_not_the_other_way_round() {
    let first = MasterKey::from_bytes([1; 32]);
    let masters = Masters::new(first).with(MasterKey::from_bytes([2; 32])).unwrap();
    let rotated = Sealer { keys: Keyring::of_owner(&masters), ..sealer() };
    let new_writer = rotated.keys.for_writer(WriterKeyId([9; 24])).unwrap();
    let new_writer = Sealer { keys: Keyring::of_writer(&new_writer), ..sealer() };
    for kind in [ObjectKind::Index, ObjectKind::Snapshot, ObjectKind::Gc] {
        for old in [sealer(), writer()] {
            let object = old.seal_record(kind, b"old", &randomness()).unwrap();
            assert_eq!(rotated.open_record(kind, &object).unwrap(), b"old");
        }
        for new in [&rotated, &new_writer] {
            let object = new.seal_record(kind, b"new", &randomness()).unwrap();
            assert_eq!(object[7], 1);
            assert_eq!(rotated.open_record(kind, &object).unwrap(), b"new");
            assert_eq!(sealer().open_record(kind, &object), Err(FormatError::Generation(1)));
        }
    }
}

#[test]
fn damage_to_a_key_object_is_noticed() {
    let repository = RepositoryId([7; 16]);
    let passphrase = Passphrase::new(b"passphrase".to_vec());
    let masters = Masters::new(MasterKey::from_bytes([1; 32]));
    let later = masters.clone().with(MasterKey::from_bytes([2; 32])).unwrap();
    let keys = Keyring::of_owner(&later).for_writer(WriterKeyId([8; 24])).unwrap();
    for secrets in [Secrets::Owner(masters), Secrets::Owner(later), Secrets::Writer(Box::new(keys))] {
        let bundle = key_v1::Bundle { secrets, created: 5, label: "label".to_owned() };
        let random = key_v1::Randomness { salt: [2; 32], nonce: [3; 24] };
        let params = ScryptParams { log_n: 10, r: 1, p: 1 };
        let object = key_v1::seal(&bundle, repository, &passphrase, params, &random).unwrap();
        assert_eq!(key_v1::params(&object), Some(params));
        assert_eq!(key_v1::generation(&object), Some(bundle.generation()));
        let shown = |b: key_v1::Bundle| {
            // What is sealed alike has the same keys.
            let sealer = Sealer { repository, keys: b.keyring() };
            let sealed = sealer.seal_record(ObjectKind::Snapshot, b"", &randomness()).unwrap();
            (b.keyring().writer(), sealed, b.created, b.label)
        };
        damage_is_noticed(&object, |bytes| key_v1::open(bytes, repository, &passphrase).map(shown));
    }
}

fn whole_pack(bytes: &[u8]) -> Result<Vec<(FrameInfo, Vec<u8>)>, FormatError> {
    let sealer = sealer();
    let trailer = bytes.len().checked_sub(TRAILER).ok_or(FormatError::Damaged("short"))?;
    let place = pack_v1::toc_place(&bytes[trailer..], bytes.len() as u64)?;
    let key = sealer.open_header(ObjectKind::Pack, bytes)?;
    let table = bytes[usize::try_from(place.offset).unwrap()..trailer].to_vec();
    let (mut at, mut opened) = (HEADER, Vec::new());
    for (number, frame) in pack_v1::open_toc(&sealer, &key, place, table)?.into_iter().enumerate() {
        let sealed = bytes[at..at + frame.stored as usize].to_vec();
        at += sealed.len();
        let raw = pack_v1::open_frame(&sealer, &key, number as u64, &frame, sealed)?;
        opened.push((frame, raw));
    }
    Ok(opened)
}

#[test]
fn damage_to_a_pack_is_noticed() {
    damage_is_noticed(&small_pack(&sealer()), whole_pack);
    // Sealed to the owner, as a writer does.
    damage_is_noticed(&small_pack(&writer()), whole_pack);
}

fn small_pack(sealer: &Sealer) -> Vec<u8> {
    let (mut pack, key) = sealer.begin(ObjectKind::Pack, &randomness()).unwrap();
    let mut frames = Vec::new();
    for (number, kind, raw, compressed) in [
        (0, BlobKind::Data, b"stored".to_vec(), false),
        (1, BlobKind::Data, b"compressed ".repeat(30), true),
        (2, BlobKind::Meta, vec![9; 40], false),
    ] {
        let start = pack.len();
        let packed = if compressed { zstd::bulk::compress(&raw, 1).unwrap() } else { raw.clone() };
        pack.extend_from_slice(&packed);
        key.seal(sealer.place(ObjectKind::Pack, number, false), &mut pack, start).unwrap();
        let length = u32::try_from(raw.len()).unwrap();
        frames.push(FrameInfo {
            stored: u32::try_from(pack.len() - start).unwrap(),
            raw: length,
            compressed,
            kind,
            blobs: vec![BlobInfo::new(sealer.keys.blob_id(kind, &raw), length)],
        });
    }
    pack.extend(pack_v1::ending(sealer, &key, &frames).unwrap());
    pack
}

#[test]
fn paths_of_a_segment_cannot_unfold_without_bound() {
    // A path near the limit, then entries of a few bytes each that share all of it but the end.
    let long = [vec![b'a'; 1_000], b"/".to_vec()].concat().repeat(64);
    let children = |n: u32| -> Vec<Child> {
        let path = |i: u32| RepoPath::new([long.as_slice(), format!("{i:08}").as_bytes()].concat()).unwrap();
        (0..n).map(|i| Child { first: path(i), entries: 1, id: BlobId([0; 32]) }).collect()
    };
    let fits = u32::try_from(limits::SEGMENT_PATHS / (long.len() + 8)).unwrap();
    assert!(fits > 1_024, "a writer's largest segment must fit");
    for (n, accepted) in [(fits, true), (fits + 1, false)] {
        let node = segment_v1::encode_node(1, &children(n));
        assert_eq!(segment_v1::decode(&node).is_ok(), accepted);
        let entries: Vec<Entry> = children(n)
            .into_iter()
            .map(|c| Entry {
                path: c.first,
                kind: EntryKind::Fifo,
                meta: Metadata::default(),
                link_group: 0,
                unsettled: false,
            })
            .collect();
        let bytes = leaf(&entries);
        assert!(bytes.len() < 200_000);
        assert_eq!(segment_v1::decode(&bytes).is_ok(), accepted);
    }
}

#[test]
fn segments_have_a_limit_of_entries() {
    let node = |n: usize| {
        let child = |i: usize| Child {
            first: RepoPath::new(format!("{i:08}").into_bytes()).unwrap(),
            entries: 1,
            id: BlobId([0; 32]),
        };
        segment_v1::encode_node(1, &(0..n).map(child).collect::<Vec<_>>())
    };
    assert!(segment_v1::decode(&node(limits::SEGMENT_ENTRIES)).is_ok());
    assert!(segment_v1::decode(&node(limits::SEGMENT_ENTRIES + 1)).is_err());
}
