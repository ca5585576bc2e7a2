//! What is exactly at a limit of `format-spec/` section 11 is taken, and what is one beyond it is refused: by who
//! reads, and before that by who writes, so that nobody writes what nobody reads.

use super::*;
use crate::format::key_description_v1::{self, Description, KeyKind};
use crate::format::marker_v1::Marker;
use crate::format::removal_v1;

const PARAMS: ScryptParams = ScryptParams { log_n: 10, r: 1, p: 1 };

fn key_object(label: usize) -> Result<Vec<u8>, FormatError> {
    let secrets = Secrets::Owner(Masters::new(MasterKey::from_bytes([1; 32])));
    let bundle = key_v1::Bundle { secrets, created: 5, label: "l".repeat(label) };
    let random = key_v1::Randomness { salt: [2; 32], nonce: [3; 24] };
    key_v1::seal(&bundle, sealer().repository, &passphrase(), PARAMS, &random)
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"passphrase".to_vec())
}

/// The largest size at which `make` does not fail, found from a smaller one by what it makes of that.
fn largest(limit: usize, from: usize, make: impl Fn(usize) -> Result<usize, FormatError>) -> usize {
    let size = from + (limit - make(from).unwrap());
    assert_eq!(make(size), Ok(limit));
    size
}

#[test]
fn a_key_object_is_as_long_as_readers_take() {
    let label = largest(limits::KEY_OBJECT, 60_000, |n| key_object(n).map(|object| object.len()));
    let object = key_object(label).unwrap();
    let opened = key_v1::open(&object, sealer().repository, &passphrase()).unwrap();
    assert_eq!(opened.label.len(), label);
    for more in [1, 2, 500] {
        assert_eq!(key_object(label + more), Err(FormatError::TooLarge("key label")));
    }
    let longer = [object.as_slice(), &[0]].concat();
    assert_eq!(key_v1::inspect(&longer), Err(FormatError::Damaged("key object is too long")));
}

#[test]
fn a_key_object_with_its_description_is_as_long_as_readers_take() {
    let master = MasterKey::from_bytes([1; 32]);
    let described = |label: usize| {
        let mut object = key_object(5)?;
        let label = "l".repeat(label);
        let description =
            Description { kind: KeyKind::Writer, created: 7, label, fingerprint: None, writer: None };
        key_description_v1::append(&mut object, sealer().repository, &master, &description, &[4; 24])?;
        Ok::<_, FormatError>((object, description))
    };
    let label = largest(limits::KEY_OBJECT, 60_000, |n| described(n).map(|(object, _)| object.len()));
    let (object, description) = described(label).unwrap();
    let read = |master| key_description_v1::read(&object, sealer().repository, master);
    assert_eq!(read(&master), Ok(Some(description)));
    assert_eq!(read(&MasterKey::from_bytes([2; 32])), Err(FormatError::Authentication));
    for more in [1, 2, 500] {
        assert_eq!(described(label + more), Err(FormatError::TooLarge("key label")));
    }
}

#[test]
fn what_a_key_object_costs_is_told_without_a_passphrase() {
    let object = key_object(5).unwrap();
    assert_eq!(key_v1::cost(&object), Some(10));
    assert_eq!(key_v1::cost(&object[..10]), None);
    assert_eq!(key_v1::inspect(&object), Ok(()));
    for cut in [0, 8, object.len() - 1] {
        assert!(matches!(key_v1::inspect(&object[..cut]), Err(FormatError::Damaged(_))), "{cut}");
    }
}

#[test]
fn a_marker_has_a_limit() {
    let mut marker = Marker::new(RepositoryId([7; 16]), "2026-01-01T00:00:00Z".to_owned()).encode().unwrap();
    marker.resize(limits::MARKER, b' ');
    assert_eq!(Marker::decode(&marker).unwrap().id, RepositoryId([7; 16]));
    marker.push(b' ');
    assert_eq!(Marker::decode(&marker).unwrap_err(), FormatError::Damaged("marker is too long"));
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_record_object_is_as_long_as_readers_take() {
    let seal = |record: &[u8]| sealer().seal_record(ObjectKind::Gc, record, &randomness());
    // Codec, length, and a tag for each of 64 pieces.
    let room = limits::RECORD_OBJECT - HEADER - 5 - 64 * 16;
    let record = noise(room + 1);
    let object = seal(&record[..room]).unwrap();
    assert_eq!(object.len(), limits::RECORD_OBJECT);
    assert!(sealer().open_record(ObjectKind::Gc, &object).unwrap() == record[..room]);
    assert_eq!(seal(&record), Err(FormatError::TooLarge("record object")));
    assert_eq!(
        sealer().open_record(ObjectKind::Gc, &[object.as_slice(), &[0]].concat()),
        Err(FormatError::Damaged("record object is too long"))
    );
    assert_eq!(seal(&vec![0; limits::RECORD_RAW + 1]), Err(FormatError::TooLarge("record")));
}

#[test]
fn a_record_ends_at_the_end_of_a_piece_or_anywhere_else() {
    const PIECE: usize = 1 << 20;
    for len in [PIECE - 6, PIECE - 5, PIECE - 4, 2 * PIECE - 5] {
        let record = noise(len);
        let object = sealer().seal_record(ObjectKind::Gc, &record, &randomness()).unwrap();
        assert!(sealer().open_record(ObjectKind::Gc, &object).unwrap() == record, "{len}");
        // Without its last piece it is no shorter record.
        let cut = HEADER + PIECE + 16;
        if object.len() > cut {
            let cut = sealer().open_record(ObjectKind::Gc, &object[..cut]);
            assert_eq!(cut, Err(FormatError::Authentication), "{len}");
        }
    }
}

#[test]
fn an_empty_last_piece_is_no_second_spelling_of_a_record() {
    const PIECE: usize = 1 << 20;
    let body = sealed_v1::pack_payload(&noise(PIECE - 5)).unwrap();
    assert_eq!(body.len(), PIECE);
    let object = |pieces: &[&[u8]]| {
        let (mut object, key) = sealer().begin(ObjectKind::Gc, &randomness()).unwrap();
        for (number, piece) in (0u64..).zip(pieces) {
            let (start, last) = (object.len(), number + 1 == pieces.len() as u64);
            object.extend_from_slice(piece);
            key.seal(sealer().place(ObjectKind::Gc, number, last), &mut object, start).unwrap();
        }
        sealer().open_record(ObjectKind::Gc, &object)
    };
    assert!(object(&[&body]).is_ok());
    let empty = Err(FormatError::Damaged("record object has an empty frame"));
    for pieces in [&[&body[..], &[]][..], &[&[]], &[]] {
        assert_eq!(object(pieces), empty, "{}", pieces.len());
    }
}

#[test]
fn a_record_is_compressed_where_that_makes_it_shorter() {
    let long = sealer().seal_record(ObjectKind::Gc, &[7; 10_000], &randomness()).unwrap();
    assert!(long.len() < 1_000);
    let mut even = 0;
    for len in 0..200 {
        let record = vec![7; len];
        let shorter = zstd::bulk::compress(&record, 3).unwrap().len();
        even += usize::from(shorter == len);
        let body = sealed_v1::pack_payload(&record).unwrap();
        assert_eq!(body.len(), 5 + len.min(shorter));
        assert_eq!(body[0] == sealed_v1::ZSTD, shorter < len, "{len}");
    }
    assert!(even > 0, "one that is as long either way");
}

#[test]
fn a_record_is_unpacked_up_to_its_limit() {
    let body = sealed_v1::pack_payload(&[7; 1_000]).unwrap();
    assert_eq!(sealed_v1::unpack_payload(&body, 1_000).unwrap(), [7; 1_000]);
    for max in [999, 998, 1] {
        let long = Err(FormatError::Damaged("record is too long"));
        assert_eq!(sealed_v1::unpack_payload(&body, max), long);
    }
}

#[test]
fn a_segment_is_as_long_as_a_blob() {
    let decode = |len: usize| segment_v1::decode(&vec![0xff; len]).unwrap_err();
    assert!(matches!(decode(limits::BLOB), FormatError::Unsupported(_)));
    for more in [1, 2] {
        assert_eq!(decode(limits::BLOB + more), FormatError::Damaged("segment is too long"));
    }
    let decode = |len: usize| slices_v1::decode_list(&vec![0xff; len]).unwrap_err();
    assert!(matches!(decode(limits::BLOB), FormatError::Unsupported(_)));
    for more in [1, 2] {
        assert_eq!(decode(limits::BLOB + more), FormatError::Damaged("slice list is too long"));
    }
}

#[test]
fn a_pack_is_as_long_as_readers_take() {
    let frame = |stored: u32| FrameInfo {
        stored,
        raw: 1,
        compressed: true,
        kind: BlobKind::Data,
        blobs: vec![BlobInfo::new(BlobId([9; 32]), 1)],
    };
    let ending = |last: u64| {
        let frames = [frame(1 << 29), frame(u32::try_from(last).unwrap())];
        pack_v1::ending(&sealer(), &randomness().key, &frames).map(|bytes| bytes.len() as u64)
    };
    // Byte by byte, since the table's length depends a little on what is in it.
    let near = limits::PACK - (1 << 29) - HEADER as u64 - 400;
    let sizes =
        (near..).map_while(|last| Some((last, HEADER as u64 + (1 << 29) + last + ending(last).ok()?)));
    let (last, size) = sizes.last().unwrap();
    assert_eq!(size, limits::PACK);
    for more in [1, 8, 1_000, 1 << 28] {
        assert_eq!(ending(last + more), Err(FormatError::TooLarge("pack")));
    }
}

#[test]
fn a_trailer_is_believed_within_the_limits() {
    let place = |stored: usize, size: u64| {
        let stored = u32::try_from(stored).unwrap().to_le_bytes();
        pack_v1::toc_place(&[&stored[..], &[1, 0, 0, 0], b"EXTC"].concat(), size).map(|place| place.offset)
    };
    let (head, trailer, toc) = (HEADER as u64, TRAILER as u64, limits::TOC as u64);
    assert_eq!(place(limits::TOC, head + toc + trailer), Ok(head));
    assert_eq!(place(100, limits::PACK), Ok(limits::PACK - 100 - trailer));
    for (stored, size) in [
        (limits::TOC + 1, head + toc + 1 + trailer),
        (100, limits::PACK + 1),
        (100, head + 99 + trailer),
        (100, 50),
    ] {
        assert!(place(stored, size).is_err(), "{stored} of {size}");
    }
}

#[test]
fn runs_of_removed_snapshots_end_with_the_numbers() {
    let removal = |runs: &[([u8; 16], u64, u64)]| {
        // Time; runs; no snapshots and no extensions.
        let config = bincode::config::standard();
        bincode::encode_to_vec((5i64, 0u32, runs.to_vec(), Vec::<[u8; 32]>::new(), 0u8), config).unwrap()
    };
    let (a, b, end) = ([1; 16], [2; 16], u64::MAX);
    for (runs, good) in [
        (&[(a, 1, end), (b, 1, 1)][..], true),
        (&[(a, 1, 5), (a, 7, end)], true),
        (&[(a, 1, 5), (a, 6, 9)], false),
        (&[(a, 1, end), (a, 1, end)], false),
        (&[(a, 1, end), (a, 3, 4)], false),
        (&[(b, 1, 1), (a, 1, 1)], false),
        (&[(a, 0, 1)], false),
        (&[(a, 3, 2)], false),
    ] {
        assert_eq!(removal_v1::decode(&removal(runs)).is_ok(), good, "{runs:?}");
    }
}

fn file(content: Content) -> Entry {
    Entry {
        path: RepoPath::new(b"file".to_vec()).unwrap(),
        kind: EntryKind::File(content),
        meta: Metadata::default(),
        link_group: 0,
        unsettled: false,
    }
}

#[test]
fn a_file_has_a_largest_size_however_its_content_is_stored() {
    let hash = Some(ContentHash { block_log2: 16, hash: [5; 32] });
    let hole = |size| Content {
        size,
        slices: Slices::Inline(vec![Slice::Hole { len: size }]),
        ..Content::default()
    };
    let lists =
        |size| Content { size, slices: Slices::Lists(vec![BlobId([6; 32]); 2]), hash, ..Content::default() };
    for content in [hole(limits::FILE_SIZE), lists(limits::FILE_SIZE)] {
        let entries = [file(content)];
        assert_eq!(segment_v1::decode(&leaf(&entries)), Ok(Segment::Leaf(entries.to_vec())));
    }
    for more in [1, 2, 1 << 20] {
        for content in [hole(limits::FILE_SIZE + more), lists(limits::FILE_SIZE + more)] {
            assert!(segment_v1::decode(&leaf(&[file(content)])).is_err());
        }
    }
}

#[test]
fn extended_attributes_have_limits_of_number_and_length() {
    let with = |xattrs: Vec<Xattr>| {
        let mut entry = file(Content::default());
        entry.meta.xattrs = xattrs;
        segment_v1::decode(&leaf(&[entry]))
    };
    let outside = Err(FormatError::Damaged("extended attributes are outside the limits"));
    let many = |n: usize| (0..n).map(|n| Xattr { name: format!("{n:04}").into_bytes(), value: Vec::new() });
    assert!(with(many(limits::XATTRS).collect()).is_ok());
    assert_eq!(with(many(limits::XATTRS + 1).collect()), outside);
    // Sixteen that are as long as all may be together.
    let full =
        || (b'a'..b'q').map(|name| Xattr { name: vec![name], value: vec![0; limits::XATTR_VALUE - 1] });
    assert!(with(full().collect()).is_ok());
    for more in [0, 1, 100] {
        let one = Xattr { name: b"z".to_vec(), value: vec![0; more] };
        assert_eq!(with(full().chain([one]).collect()), outside);
    }
}

#[test]
fn a_segment_being_built_knows_its_size() {
    let mut builder = LeafBuilder::default();
    for n in 0..100u8 {
        let id = BlobId([n; 32]);
        let slices = Slices::Inline(vec![Slice::Blob { id, offset: 0, len: 9 }]);
        let mut entry = file(Content { size: 9, slices, ..Content::default() });
        entry.path = RepoPath::new(format!("{n:03}").into_bytes()).unwrap();
        entry.meta.mode = n.into();
        builder.push(&entry);
    }
    let size = builder.size();
    let segment = builder.finish();
    assert!((size..size + 16).contains(&segment.len()), "{size} of {}", segment.len());
}

/// The table of section 11, so that the text and the program do not drift apart unseen.
#[test]
fn limits_are_those_of_the_specification() {
    const MIB: usize = 1_048_576;
    assert_eq!([limits::MARKER, limits::KEY_OBJECT, limits::XATTR_VALUE], [65_536; 3]);
    assert_eq!([limits::RECORD_OBJECT, limits::TOC, limits::SEGMENT_PATHS], [64 * MIB; 3]);
    assert_eq!([limits::RECORD_RAW, limits::FRAME_RAW, limits::BLOB], [256 * MIB, 16 * MIB, 16 * MIB]);
    assert_eq!([limits::PACK_FRAMES, limits::FRAME_BLOBS, limits::SNAPSHOT_LIST], [1_048_576; 3]);
    assert_eq!([limits::XATTRS, limits::XATTRS_TOTAL], [1_000, MIB]);
    assert_eq!([limits::SEGMENT_ENTRIES, limits::SYMLINK, limits::EXTENSIONS], [65_536, 65_535, 1_024]);
    assert_eq!((limits::LEVEL, limits::SNAPSHOT_ERRORS), (10, 1_000));
    assert_eq!([limits::PACK, limits::FILE_SIZE], [1_073_741_824, 1_125_899_906_842_624]);
}

#[test]
fn flags_of_an_entry_that_mean_nothing_are_refused() {
    let fifo = Entry { kind: EntryKind::Fifo, ..file(Content::default()) };
    let bytes = leaf(&[fifo]);
    assert!(segment_v1::decode(&bytes).is_ok());
    // They follow the path.
    let flags = bytes.windows(4).position(|part| part == b"file").unwrap() + 4;
    for (bit, what) in [(1 << 7, "one that is reserved"), (1 << 5, "a blob of what is no file")] {
        let mut changed = bytes.clone();
        changed[flags] |= bit;
        let refused = FormatError::Damaged("entry's flags contradict each other");
        assert_eq!(segment_v1::decode(&changed), Err(refused), "{what}");
    }
}
