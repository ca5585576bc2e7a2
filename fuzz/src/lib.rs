//! What the targets share: fixed keys, and values of the model made from a fuzzer's bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use exuvia::crypto::{Keyring, MasterKey, ObjectKey, ObjectKind};
use exuvia::format::acceptance_v1::Acceptance;
use exuvia::format::gc_v1::GcRecord;
use exuvia::format::index_v1::{Index, PackInfo};
use exuvia::format::pack_v1::{BlobInfo, FrameInfo};
use exuvia::format::removal_v1::Removal;
use exuvia::format::sealed_v1::{HEADER, Randomness, Sealer};
use exuvia::format::{limits, segment_v1::Child};
use exuvia::model::{
    BlobId, BlobKind, Capture, Content, ContentHash, DatabaseRecord, Entry, EntryKind, FileError, Integrity,
    Loss, ManifestRef, Metadata, ObjectId, Owner, Reason, Removed, RepoPath, RepositoryId, Slice, Slices,
    Snapshot, SnapshotKind, Stats, Timestamp, WriterId, Xattr,
};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// Fixed keys, so that an input that failed once fails again.
pub fn sealer() -> Sealer {
    let keys = Keyring::new(&MasterKey::from_bytes([1; 32]));
    Sealer { repository: RepositoryId([7; 16]), keys }
}

/// Fixed values in place of random ones.
pub fn randomness() -> Randomness {
    Randomness { key: ObjectKey::from_bytes([3; 32]), nonce: [4; 24] }
}

/// An object of `kind` whose only frame is `plaintext`: a fuzzer cannot guess a tag, so what lies
/// behind authentication is reached this way.
pub fn object(kind: ObjectKind, plaintext: &[u8]) -> Vec<u8> {
    let (sealer, random) = (sealer(), randomness());
    let (mut object, _) = sealer.begin(kind, &random).expect("a header can be sealed");
    object.extend_from_slice(plaintext);
    random.key.seal(sealer.place(kind, 0, true), &mut object, HEADER).expect("a frame can be sealed");
    object
}

type U<'a> = Unstructured<'a>;

fn list<T>(u: &mut U<'_>, max: usize, item: impl Fn(&mut U<'_>) -> Result<T>) -> Result<Vec<T>> {
    let n = u.int_in_range(0..=max)?;
    (0..n).map(|_| item(u)).collect()
}

fn bytes(u: &mut U<'_>, max: usize) -> Result<Vec<u8>> {
    list(u, max, |u| u.arbitrary())
}

fn text(u: &mut U<'_>) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(u, 12)?).into_owned())
}

/// Few ids, so that some come twice.
fn id(u: &mut U<'_>) -> Result<[u8; 32]> {
    Ok([u.arbitrary::<u8>()? % 16; 32])
}

fn time(u: &mut U<'_>) -> Result<Timestamp> {
    Ok(Timestamp { secs: u.arbitrary()?, nanos: u.int_in_range(0..=999_999_999)? })
}

/// Any path; bytes that make none become the root.
pub fn path(u: &mut U<'_>) -> Result<RepoPath> {
    let names = list(u, 4, |u| bytes(u, 6))?;
    Ok(RepoPath::new(names.join(&b'/')).unwrap_or_default())
}

fn slice(u: &mut U<'_>) -> Result<Slice> {
    if u.ratio(1, 4)? {
        // So that the sum of a few stays within the largest file.
        return Ok(Slice::Hole { len: u.int_in_range(1..=1 << 40)? });
    }
    let max = limits::BLOB as u32;
    let len = u.int_in_range(1..=max)?;
    let offset = if u.arbitrary()? { 0 } else { u.int_in_range(0..=max - len)? };
    Ok(Slice::Blob { id: BlobId(id(u)?), offset, len })
}

/// Slices of a slice list, at least one.
pub fn slices(u: &mut U<'_>) -> Result<Vec<Slice>> {
    let mut slices = list(u, 40, slice)?;
    slices.push(slice(u)?);
    Ok(slices)
}

fn content(u: &mut U<'_>) -> Result<Content> {
    let (size, slices) = if u.ratio(1, 4)? {
        let mut lists = list(u, 3, |u| id(u).map(BlobId))?;
        lists.push(BlobId(id(u)?));
        (u.int_in_range(1..=limits::FILE_SIZE)?, Slices::Lists(lists))
    } else {
        let slices = list(u, 6, slice)?;
        (slices.iter().map(Slice::len).sum(), Slices::Inline(slices))
    };
    let many = !matches!(&slices, Slices::Inline(s) if s.len() < 2);
    let hash = if many {
        Some(ContentHash { block_log2: u.int_in_range(9..=24)?, hash: u.arbitrary()? })
    } else {
        None
    };
    let capture = match u.int_in_range(0..=3u8)? {
        0 => Capture::Sqlite { page_size: 1 << u.int_in_range(9..=16)? },
        1 => Capture::RawSqlite,
        _ => Capture::Plain,
    };
    Ok(Content { size, slices, hash, capture })
}

fn kind(u: &mut U<'_>) -> Result<EntryKind> {
    Ok(match u.int_in_range(0..=7u8)? {
        0 => EntryKind::Directory,
        1 => EntryKind::Symlink(list(u, 20, |u| u.int_in_range(1..=255)).map(|mut t: Vec<u8>| {
            t.push(b'x');
            t
        })?),
        2 => EntryKind::Fifo,
        3 => EntryKind::CharDevice(u.arbitrary()?, u.arbitrary()?),
        4 => EntryKind::BlockDevice(u.arbitrary()?, u.arbitrary()?),
        _ => EntryKind::File(content(u)?),
    })
}

fn entry(u: &mut U<'_>, path: RepoPath) -> Result<Entry> {
    let name = |u: &mut U<'_>| Ok((vec![u.int_in_range(1..=255)?; u.int_in_range(1..=9)?], bytes(u, 9)?));
    let xattrs: BTreeMap<_, _> = list(u, 3, name)?.into_iter().collect();
    let mtime = time(u)?;
    Ok(Entry {
        path,
        kind: kind(u)?,
        meta: Metadata {
            mode: u.int_in_range(0..=0o7777)?,
            owner: Arc::new(Owner {
                uid: u.arbitrary()?,
                gid: u.arbitrary()?,
                user: text(u)?,
                group: text(u)?,
            }),
            mtime,
            ctime: if u.arbitrary()? { mtime } else { time(u)? },
            inode: u.arbitrary()?,
            xattrs: xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect(),
        },
        link_group: u.arbitrary()?,
        unsettled: u.arbitrary()?,
    })
}

/// Entries in ascending order, at least one.
pub fn entries(u: &mut U<'_>) -> Result<Vec<Entry>> {
    let mut paths = list(u, 12, path)?;
    paths.push(path(u)?);
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| entry(u, path)).collect()
}

/// Children of a node segment, at least one.
pub fn children(u: &mut U<'_>) -> Result<Vec<Child>> {
    let mut paths = list(u, 12, path)?;
    paths.push(path(u)?);
    paths.sort();
    paths.dedup();
    let child = |first| Ok(Child { first, entries: u.int_in_range(1..=1 << 50)?, id: BlobId(id(u)?) });
    paths.into_iter().map(child).collect()
}

fn frame(u: &mut U<'_>) -> Result<FrameInfo> {
    let mut blobs = list(u, 4, |u| Ok(BlobInfo::new(BlobId(id(u)?), u.int_in_range(1..=3 << 20)?)))?;
    blobs.push(BlobInfo::new(BlobId(id(u)?), 2));
    let raw = blobs.iter().map(|b| b.length).sum::<u32>();
    let compressed = u.arbitrary()?;
    let stored = if compressed { u.int_in_range(17..=raw + 15)? } else { raw + 16 };
    let kind = if u.arbitrary()? { BlobKind::Data } else { BlobKind::Meta };
    Ok(FrameInfo { stored, raw, compressed, kind, blobs })
}

/// Any index that a writer may write.
pub fn index(u: &mut U<'_>) -> Result<Index> {
    let pack = |u: &mut U<'_>| {
        let frames = list(u, 5, frame)?;
        let stored = frames.iter().map(|f| u64::from(f.stored)).sum::<u64>();
        let size = HEADER as u64 + stored + u.int_in_range(0..=1 << 20)?;
        Ok(PackInfo { id: ObjectId(id(u)?), size, frames })
    };
    Ok(Index { packs: list(u, 4, pack)?, replaces: list(u, 4, |u| id(u).map(ObjectId))? })
}

/// Any gc record.
pub fn gc(u: &mut U<'_>) -> Result<GcRecord> {
    Ok(GcRecord { time: time(u)?, packs: list(u, 9, |u| id(u).map(ObjectId))? })
}

/// Any acceptance.
pub fn acceptance(u: &mut U<'_>) -> Result<Acceptance> {
    Ok(Acceptance { time: time(u)?, snapshots: list(u, 9, |u| id(u).map(ObjectId))? })
}

/// Any removal record.
pub fn removal(u: &mut U<'_>) -> Result<Removal> {
    let mut removed = Removed::default();
    for (writer, first, length) in
        list(u, 9, |u| Ok((u.arbitrary()?, u.int_in_range(1..=99u64)?, u.arbitrary::<u64>()?)))?
    {
        removed.add_run(WriterId([writer; 16]), first, first.saturating_add(length));
    }
    for id in list(u, 9, id)? {
        removed.add_unreadable(ObjectId(id));
    }
    Ok(Removal { time: time(u)?, removed })
}

fn loss(u: &mut U<'_>) -> Result<Loss> {
    let before = u.arbitrary()?;
    Ok(match u.int_in_range(0..=2u8)? {
        0 => Loss::Files { before },
        1 => Loss::Bytes { before },
        _ => Loss::Database { path: path(u)?, before },
    })
}

fn database(u: &mut U<'_>) -> Result<DatabaseRecord> {
    Ok(DatabaseRecord {
        path: path(u)?,
        captured: time(u)?,
        raw: u.arbitrary()?,
        size: u.arbitrary()?,
        user_version: u.arbitrary()?,
        application_id: u.arbitrary()?,
        integrity: match u.int_in_range(0..=2u8)? {
            0 => Integrity::NotChecked,
            1 => Integrity::Ok(time(u)?),
            _ => Integrity::Failed(time(u)?, text(u)?),
        },
    })
}

/// Any snapshot record.
pub fn snapshot(u: &mut U<'_>) -> Result<Snapshot> {
    let reasons =
        [Reason::Manual, Reason::Schedule, Reason::BeforeCompaction, Reason::GatewayStop, Reason::Safety];
    Ok(Snapshot {
        time: time(u)?,
        kind: if u.arbitrary()? { SnapshotKind::Regular } else { SnapshotKind::Safety },
        reason: *u.choose(&reasons)?,
        host: text(u)?,
        user: text(u)?,
        program: text(u)?,
        writer: WriterId(u.arbitrary()?),
        sequence: u.arbitrary()?,
        parent: if u.arbitrary()? { Some(ObjectId(id(u)?)) } else { None },
        root: bytes(u, 12)?,
        paths: list(u, 3, |u| bytes(u, 9))?,
        selection: list(u, 3, text)?,
        tags: list(u, 3, text)?,
        manifest: ManifestRef { root: BlobId(id(u)?), level: u.int_in_range(0..=limits::LEVEL)? },
        complete: u.arbitrary()?,
        errors: list(u, 3, |u| Ok(FileError { path: path(u)?, message: text(u)? }))?,
        error_count: u.arbitrary()?,
        databases: list(u, 3, database)?,
        stats: Stats {
            files: u.arbitrary()?,
            dirs: u.arbitrary()?,
            others: u.arbitrary()?,
            bytes: u.arbitrary()?,
            files_new: u.arbitrary()?,
            files_changed: u.arbitrary()?,
            files_unmodified: u.arbitrary()?,
            files_removed: u.arbitrary()?,
            bytes_read: u.arbitrary()?,
            bytes_added_raw: u.arbitrary()?,
            bytes_added_stored: u.arbitrary()?,
            duration_ms: u.arbitrary()?,
        },
        losses: list(u, 3, loss)?,
    })
}
