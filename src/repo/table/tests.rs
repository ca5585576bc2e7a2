#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{BLOCK, Source, Table, write};
use crate::format::index_v1::PackInfo;
use crate::format::pack_v1::{BlobInfo, FrameInfo};
use crate::fs::TempFile;
use crate::model::{BlobId, BlobKind, ObjectId, RepositoryId};
use crate::repo::index::InMemory;

const REPOSITORY: RepositoryId = RepositoryId([3; 16]);

fn id(n: u32) -> BlobId {
    BlobId(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn object(n: u32) -> ObjectId {
    ObjectId(*blake3::hash(&[&b"object"[..], &n.to_le_bytes()].concat()).as_bytes())
}

/// A pack with the blobs of `ids`, seven to a frame.
fn pack(number: u32, ids: &[BlobId]) -> PackInfo {
    let frames = ids.chunks(7).zip(0u32..).map(|(ids, n)| FrameInfo {
        stored: 1_000 + n,
        raw: 7_000,
        compressed: n % 2 == 0,
        kind: if n % 3 == 0 { BlobKind::Meta } else { BlobKind::Data },
        blobs: ids.iter().zip(10..).map(|(id, length)| BlobInfo::new(*id, length)).collect(),
    });
    PackInfo { id: object(number), size: 1 << 20, frames: frames.collect() }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("table")
    }

    fn write(&self, sources: Vec<Source>, older: Option<&Table>, packs: &[PackInfo]) -> Table {
        let mut added = InMemory::after(older.map_or(0, Table::packs));
        packs.iter().for_each(|pack| added.add(pack));
        let file = TempFile::new(self.dir.path()).unwrap();
        write((file, "table"), REPOSITORY, sources, older, &added).unwrap();
        Table::open(&self.path(), REPOSITORY).unwrap()
    }
}

/// What a table says, by pack and not by number.
type Said = BTreeMap<BlobId, (ObjectId, u32, u32, u32)>;

fn said(table: &Table) -> Said {
    let blobs = table.blobs().map(|blob| {
        let (id, place) = blob.unwrap();
        let pack = table.pack(place.pack).unwrap().id;
        (id, (pack, place.frame, place.offset, place.length))
    });
    blobs.collect()
}

/// Compares every answer of a table with those that memory gives.
fn check(table: &Table, packs: &[PackInfo]) {
    let mut memory = InMemory::default();
    packs.iter().for_each(|pack| memory.add(pack));
    assert_eq!(table.packs() as usize, memory.packs().len());
    for summary in memory.packs() {
        let number = table.pack_number(&summary.id).unwrap().unwrap();
        let found = table.pack(number).unwrap();
        assert_eq!((found.id, found.size, &found.frames), (summary.id, summary.size, &summary.frames));
        let count = u32::try_from(summary.frames.len()).unwrap();
        assert_eq!(table.frame(number, count).unwrap(), None);
    }
    assert_eq!(table.frame(table.packs(), 0).unwrap(), None);
    let want: Said = memory
        .blobs()
        .map(|(id, place)| {
            let pack = memory.packs()[place.pack as usize].id;
            (*id, (pack, place.frame, place.offset, place.length))
        })
        .collect();
    assert_eq!(said(table), want);
    let ids: Vec<_> = table.blobs().map(|blob| blob.unwrap().0).collect();
    assert!(ids.is_sorted());
    for (id, place) in table.blobs().map(Result::unwrap) {
        assert_eq!(table.blob(&id).unwrap(), Some(place));
        let (pack, frame) = table.frame(place.pack, place.frame).unwrap().unwrap();
        assert_eq!(pack, want[&id].0);
        let number = memory.packs().iter().position(|p| p.id == pack).unwrap();
        assert_eq!(frame, memory.packs()[number].frames[place.frame as usize]);
    }
}

proptest! {
    #[test]
    fn it_answers_as_memory_does(sizes in proptest::collection::vec(0..400u32, 0..6), split in 0..6usize) {
        let place = Place::new();
        let mut next = 0;
        let packs: Vec<_> = (0u32..)
            .zip(sizes)
            .map(|(number, size)| {
                let ids: Vec<_> = (next..next + size).map(id).collect();
                next += size;
                pack(number, &ids)
            })
            .collect();
        let (before, after) = packs.split_at(split.min(packs.len()));
        let sources = [1, 2].map(|n| Source { id: object(n), replaces: vec![object(n + 10)] });
        let older = place.write(sources[..1].to_vec(), None, before);
        check(&older, before);
        let table = place.write(sources.to_vec(), Some(&older), after);
        check(&table, &packs);
        // A reader keeps what it has opened.
        check(&older, before);
        let mut sources = sources.to_vec();
        sources.sort_by_key(|source| source.id);
        prop_assert_eq!(table.sources(), sources);
        for absent in next..next + 200 {
            prop_assert_eq!(table.blob(&id(absent)).unwrap(), None);
        }
        prop_assert!(table.pack_number(&object(999)).unwrap().is_none());
    }
}

#[test]
fn a_blob_of_two_packs_is_there_once() {
    let place = Place::new();
    let ids: Vec<_> = (0..300).map(id).collect();
    let older = place.write(Vec::new(), None, &[pack(1, &ids[..200])]);
    let table = place.write(Vec::new(), Some(&older), &[pack(2, &ids[100..])]);
    let found: Vec<_> = table.blobs().map(|blob| blob.unwrap().0).collect();
    let mut want = ids;
    want.sort();
    assert_eq!(found, want);
}

#[test]
fn ids_that_begin_alike_are_told_apart() {
    let place = Place::new();
    let alike = |beginning: u8, n: u32| {
        let mut id = id(n);
        id.0[..8].fill(beginning);
        id
    };
    for beginning in [0, 7, 255] {
        let mut ids: Vec<_> = (0..500).map(|n| alike(beginning, n)).collect();
        ids.extend((0..100).map(id));
        let packs = [pack(1, &ids)];
        let table = place.write(Vec::new(), None, &packs);
        check(&table, &packs);
        for n in 1_000..1_500 {
            assert_eq!(table.blob(&alike(beginning, n)).unwrap(), None);
        }
    }
}

#[test]
fn damage_is_found_wherever_it_is() {
    let place = Place::new();
    let ids: Vec<_> = (0..1_000).map(id).collect();
    let packs = [pack(1, &ids[..600]), pack(2, &ids[600..])];
    let want = said(&place.write(vec![Source { id: object(1), replaces: Vec::new() }], None, &packs));
    let good = std::fs::read(place.path()).unwrap();
    let (mut refused, mut failed) = (0, 0);
    let mut judge = |what: &str, bytes: &[u8]| {
        std::fs::write(place.path(), bytes).unwrap();
        let Ok(table) = Table::open(&place.path(), REPOSITORY) else {
            refused += 1;
            return;
        };
        let mut hurt = table.blobs().any(|blob| blob.is_err());
        for id in ids.iter().chain(&[id(5_000)]) {
            match table.blob(id) {
                Err(_) => hurt = true,
                Ok(found) => assert_eq!(found.is_some(), want.contains_key(id), "{what}"),
            }
        }
        for (number, pack) in packs.iter().enumerate() {
            match table.pack_number(&pack.id) {
                Err(_) => hurt = true,
                Ok(found) => {
                    let found = found.unwrap_or_else(|| panic!("{what}: pack {number} is lost"));
                    hurt |= table.pack(found).is_err();
                }
            }
        }
        assert!(hurt, "{what}: nothing noticed");
        failed += 1;
    };
    for at in (0..good.len()).step_by(61).chain(good.len() - 200..good.len()) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        judge(&format!("byte {at}"), &bytes);
    }
    for len in (0..good.len()).step_by(333).chain([good.len() - 1]) {
        judge(&format!("cut at {len}"), &good[..len]);
    }
    judge("longer", &[&good[..], &[0]].concat());
    // Blocks that are good, but not here.
    let mut swapped = good.clone();
    swapped[..2 * BLOCK].rotate_left(BLOCK);
    judge("swapped", &swapped);
    let other = said(&place.write(Vec::new(), None, &packs));
    assert_eq!(other, want);
    let mut mixed = std::fs::read(place.path()).unwrap();
    mixed[..BLOCK].copy_from_slice(&good[..BLOCK]);
    judge("of another table", &mixed);
    assert!(refused > 100 && failed > 100, "{refused} {failed}");
}

#[test]
fn what_is_no_table_of_this_repository_is_refused() {
    let place = Place::new();
    let open = |path: &Path, repository| Table::open(path, repository);
    assert!(open(&place.path(), REPOSITORY).is_err());
    for bytes in [&b""[..], b"EXTABL01", &[0; 100_000]] {
        std::fs::write(place.path(), bytes).unwrap();
        assert!(open(&place.path(), REPOSITORY).is_err());
    }
    place.write(Vec::new(), None, &[pack(1, &[id(1)])]);
    assert!(open(&place.path(), REPOSITORY).is_ok());
    assert!(open(&place.path(), RepositoryId([4; 16])).is_err());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(place.path()).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}
