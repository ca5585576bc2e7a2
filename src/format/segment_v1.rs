//! Manifest segments: `format-spec/` section 8.

use std::collections::HashMap;
use std::sync::Arc;

use super::varint::{self, Cursor};
use super::{FormatError, limits, slices_v1};
use crate::model::{
    BlobId, Capture, Content, ContentHash, Entry, EntryKind, MAX_PATH, Metadata, Owner, RepoPath, Slice,
    Slices, Timestamp, Xattr,
};

const ENCODING: u8 = 1;

const TYPE_MASK: u8 = 0b0111;
const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const SYMLINK: u8 = 2;
const FIFO: u8 = 3;
const CHAR_DEVICE: u8 = 4;
const BLOCK_DEVICE: u8 = 5;
const UNSETTLED: u8 = 1 << 3;
const EXTENDED: u8 = 1 << 4;
const SINGLE_BLOB: u8 = 1 << 5;
const CTIME_IS_MTIME: u8 = 1 << 6;
const RESERVED: u8 = 1 << 7;

const FORM_INLINE: u8 = 0;
const FORM_LISTS: u8 = 1;

const EXT_XATTRS: u64 = 2;
const EXT_LINK_GROUP: u64 = 4;
const EXT_CAPTURE: u64 = 6;
const CAPTURE_SQLITE: u8 = 1;
const CAPTURE_RAW_SQLITE: u8 = 2;

/// Least bytes of an encoded entry, for bounding counts.
const LEAST_ENTRY: usize = 7;

/// Paths of a segment, taken together, as decoded. Front coding makes a few bytes stand for a whole
/// path, so without a bound 16 MiB could ask for 100 GiB.
struct PathBudget(usize);

impl PathBudget {
    fn new() -> Self {
        Self(limits::SEGMENT_PATHS)
    }

    fn take(&mut self, n: usize) -> Result<(), FormatError> {
        self.0 = self.0.checked_sub(n).ok_or(FormatError::Damaged("a segment's paths are too long"))?;
        Ok(())
    }
}

/// A child of a node segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Path of the first entry below it.
    pub first: RepoPath,
    /// Number of entries below it.
    pub entries: u64,
    /// The child segment.
    pub id: BlobId,
}

/// A decoded segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Level 0.
    Leaf(Vec<Entry>),
    /// A level above.
    Node(u8, Vec<Child>),
}

/// Builds one leaf segment; entries are pushed in ascending order of their paths.
#[derive(Default)]
pub struct LeafBuilder {
    attributes: HashMap<(u32, Arc<Owner>), u64>,
    table: Vec<u8>,
    body: Vec<u8>,
    ids: Vec<u8>,
    count: u64,
    previous: Vec<u8>,
    previous_mtime: i64,
    previous_inode: u64,
}

impl LeafBuilder {
    /// Entries pushed so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.count
    }

    /// True when nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the segment so far, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        self.table.len() + self.body.len() + self.ids.len()
    }

    /// Appends an entry.
    pub fn push(&mut self, entry: &Entry) {
        self.count += 1;
        put_path(&mut self.body, &mut self.previous, &entry.path);
        let single = single_blob(entry);
        let meta = &entry.meta;
        let extended = !meta.xattrs.is_empty() || entry.link_group != 0 || capture(entry) != Capture::Plain;
        let mut flags = type_bits(&entry.kind);
        for (on, bit) in [
            (entry.unsettled, UNSETTLED),
            (extended, EXTENDED),
            (single.is_some(), SINGLE_BLOB),
            (meta.ctime == meta.mtime, CTIME_IS_MTIME),
        ] {
            flags |= if on { bit } else { 0 };
        }
        self.body.push(flags);
        let attribute = self.attribute(meta);
        let body = &mut self.body;
        varint::put(body, attribute);
        varint::put_signed(body, meta.mtime.secs.wrapping_sub(self.previous_mtime));
        varint::put(body, meta.mtime.nanos.into());
        if meta.ctime != meta.mtime {
            varint::put_signed(body, meta.ctime.secs.wrapping_sub(meta.mtime.secs));
            varint::put(body, meta.ctime.nanos.into());
        }
        varint::put_signed(body, meta.inode.wrapping_sub(self.previous_inode).cast_signed());
        self.previous_mtime = meta.mtime.secs;
        self.previous_inode = meta.inode;
        match &entry.kind {
            EntryKind::File(content) => {
                varint::put(body, content.size);
                match single {
                    Some(id) => self.ids.extend_from_slice(&id.0),
                    None => put_content(body, &mut self.ids, content),
                }
            }
            EntryKind::Symlink(target) => varint::put_bytes(body, target),
            EntryKind::CharDevice(major, minor) | EntryKind::BlockDevice(major, minor) => {
                varint::put(body, (*major).into());
                varint::put(body, (*minor).into());
            }
            EntryKind::Directory | EntryKind::Fifo => {}
        }
        if extended {
            put_extensions(&mut self.body, entry);
        }
    }

    fn attribute(&mut self, meta: &Metadata) -> u64 {
        let next = self.attributes.len() as u64;
        let table = &mut self.table;
        *self.attributes.entry((meta.mode, Arc::clone(&meta.owner))).or_insert_with(|| {
            varint::put(table, meta.mode.into());
            varint::put(table, meta.owner.uid.into());
            varint::put(table, meta.owner.gid.into());
            varint::put_bytes(table, meta.owner.user.as_bytes());
            varint::put_bytes(table, meta.owner.group.as_bytes());
            next
        })
    }

    /// The segment's bytes; the builder is empty afterwards.
    pub fn finish(&mut self) -> Vec<u8> {
        let this = std::mem::take(self);
        let mut out = Vec::with_capacity(this.size() + 16);
        out.extend_from_slice(&[ENCODING, 0]);
        varint::put(&mut out, this.attributes.len() as u64);
        out.extend_from_slice(&this.table);
        varint::put(&mut out, this.count);
        varint::put_bytes(&mut out, &this.body);
        out.extend_from_slice(&this.ids);
        out
    }
}

/// Encodes a node segment.
#[must_use]
pub fn encode_node(level: u8, children: &[Child]) -> Vec<u8> {
    let (mut body, mut previous) = (Vec::new(), Vec::new());
    for child in children {
        put_path(&mut body, &mut previous, &child.first);
        varint::put(&mut body, child.entries);
    }
    let mut out = vec![ENCODING, level];
    varint::put(&mut out, children.len() as u64);
    varint::put_bytes(&mut out, &body);
    children.iter().for_each(|child| out.extend_from_slice(&child.id.0));
    out
}

/// Decodes a segment of either sort.
pub fn decode(bytes: &[u8]) -> Result<Segment, FormatError> {
    if bytes.len() > limits::BLOB {
        return Err(FormatError::Damaged("segment is too long"));
    }
    let mut cursor = Cursor::new(bytes);
    let [encoding, level] = cursor.array()?;
    if encoding != ENCODING {
        return Err(FormatError::Unsupported(format!("segment encoding {encoding}")));
    }
    match level {
        0 => decode_leaf(cursor).map(Segment::Leaf),
        1..=limits::LEVEL => decode_node(cursor).map(|children| Segment::Node(level, children)),
        _ => Err(FormatError::Damaged("segment level is outside the limits")),
    }
}

fn decode_node(mut cursor: Cursor<'_>) -> Result<Vec<Child>, FormatError> {
    let count = segment_count(&mut cursor, 3)?;
    let mut body = Cursor::new(cursor.bytes(limits::BLOB)?);
    let mut ids = cursor;
    let mut paths = PathBudget::new();
    let mut total = 0u64;
    let mut children: Vec<Child> = Vec::with_capacity(count.min(ids.remaining() / 32));
    for _ in 0..count {
        let first = get_path(&mut body, children.last().map(|c| &c.first), &mut paths)?;
        let entries = body.varint()?;
        total = total
            .checked_add(entries)
            .filter(|_| entries > 0)
            .ok_or(FormatError::Damaged("count of entries is outside the limits"))?;
        children.push(Child { first, entries, id: BlobId(ids.array()?) });
    }
    body.end()?;
    ids.end()?;
    Ok(children)
}

fn decode_leaf(mut cursor: Cursor<'_>) -> Result<Vec<Entry>, FormatError> {
    let attributes = get_attributes(&mut cursor)?;
    let count = segment_count(&mut cursor, LEAST_ENTRY)?;
    let mut body = Cursor::new(cursor.bytes(limits::BLOB)?);
    let mut ids = cursor;
    let mut paths = PathBudget::new();
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..count {
        let path = get_path(&mut body, entries.last().map(|e| &e.path), &mut paths)?;
        let entry = get_entry(&mut body, &mut ids, &attributes, path, entries.last())?;
        entries.push(entry);
    }
    body.end()?;
    ids.end()?;
    Ok(entries)
}

/// The number of entries or children of a segment, each of `least` bytes or more.
fn segment_count(cursor: &mut Cursor<'_>, least: usize) -> Result<usize, FormatError> {
    match cursor.count(least)? {
        0 => Err(FormatError::Damaged("segment is empty")),
        n if n > limits::SEGMENT_ENTRIES => Err(FormatError::Damaged("segment has too many entries")),
        n => Ok(n),
    }
}

fn get_attributes(cursor: &mut Cursor<'_>) -> Result<Vec<(u32, Arc<Owner>)>, FormatError> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| FormatError::Damaged("owner name is not UTF-8"))
    };
    let count = cursor.count(5)?;
    let mut table = Vec::new();
    for _ in 0..count {
        let mode = cursor.u32()?;
        if mode > 0o7777 {
            return Err(FormatError::Damaged("mode is outside the limits"));
        }
        let (uid, gid) = (cursor.u32()?, cursor.u32()?);
        let user = text(cursor.bytes(limits::XATTR_VALUE)?)?;
        let group = text(cursor.bytes(limits::XATTR_VALUE)?)?;
        table.push((mode, Arc::new(Owner { uid, gid, user, group })));
    }
    Ok(table)
}

fn get_entry(
    body: &mut Cursor<'_>,
    ids: &mut Cursor<'_>,
    attributes: &[(u32, Arc<Owner>)],
    path: RepoPath,
    previous: Option<&Entry>,
) -> Result<Entry, FormatError> {
    let flags = body.u8()?;
    let attribute = usize::try_from(body.varint()?).ok().and_then(|i| attributes.get(i));
    let (mode, owner) = attribute.ok_or(FormatError::Damaged("entry names no attribute"))?;
    let base = previous.map_or(0, |e| e.meta.mtime.secs);
    let mtime = get_time(body, base)?;
    let ctime = if flags & CTIME_IS_MTIME == 0 { get_time(body, mtime.secs)? } else { mtime };
    let inode = previous.map_or(0, |e| e.meta.inode).wrapping_add(body.signed()?.cast_unsigned());
    let kind_bits = flags & TYPE_MASK;
    if flags & RESERVED != 0 || (flags & SINGLE_BLOB != 0 && kind_bits != FILE) {
        return Err(FormatError::Damaged("entry's flags contradict each other"));
    }
    let kind = match kind_bits {
        FILE => EntryKind::File(get_content(body, ids, flags & SINGLE_BLOB != 0)?),
        DIRECTORY => EntryKind::Directory,
        SYMLINK => {
            let target = body.bytes(limits::SYMLINK)?;
            if target.is_empty() || target.contains(&0) {
                return Err(FormatError::Damaged("symlink target is malformed"));
            }
            EntryKind::Symlink(target.to_vec())
        }
        FIFO => EntryKind::Fifo,
        CHAR_DEVICE => EntryKind::CharDevice(body.u32()?, body.u32()?),
        BLOCK_DEVICE => EntryKind::BlockDevice(body.u32()?, body.u32()?),
        _ => return Err(FormatError::Unsupported(format!("entry type {kind_bits}"))),
    };
    let mut entry = Entry {
        path,
        kind,
        meta: Metadata { mode: *mode, owner: Arc::clone(owner), mtime, ctime, inode, xattrs: Vec::new() },
        link_group: 0,
        unsettled: flags & UNSETTLED != 0,
    };
    if flags & EXTENDED != 0 {
        get_extensions(body, &mut entry)?;
    }
    Ok(entry)
}

fn get_time(body: &mut Cursor<'_>, base: i64) -> Result<Timestamp, FormatError> {
    let secs = base.wrapping_add(body.signed()?);
    super::snapshot_v1::timestamp(secs, body.u32()?)
}

fn put_path(out: &mut Vec<u8>, previous: &mut Vec<u8>, path: &RepoPath) {
    let path = path.as_bytes();
    let shared = previous.iter().zip(path).take_while(|(a, b)| a == b).count();
    varint::put(out, shared as u64);
    varint::put_bytes(out, &path[shared..]);
    previous.truncate(shared);
    previous.extend_from_slice(&path[shared..]);
}

fn get_path(
    body: &mut Cursor<'_>,
    previous: Option<&RepoPath>,
    budget: &mut PathBudget,
) -> Result<RepoPath, FormatError> {
    let before = previous.map_or(&[][..], RepoPath::as_bytes);
    let shared = usize::try_from(body.varint()?).ok().and_then(|n| before.get(..n));
    let shared = shared.ok_or(FormatError::Damaged("path shares more than there is"))?;
    let suffix = body.bytes(MAX_PATH)?;
    budget.take(shared.len() + suffix.len())?;
    let path =
        RepoPath::new([shared, suffix].concat()).map_err(|_| FormatError::Damaged("a path is malformed"))?;
    match previous {
        Some(previous) if path <= *previous => Err(FormatError::Damaged("paths do not ascend")),
        _ => Ok(path),
    }
}

/// The blob that is the whole content, when content is just that.
fn single_blob(entry: &Entry) -> Option<BlobId> {
    let content = entry.content()?;
    match &content.slices {
        Slices::Inline(slices) => match slices.as_slice() {
            [Slice::Blob { id, offset: 0, len }] if u64::from(*len) == content.size => Some(*id),
            _ => None,
        },
        Slices::Lists(_) => None,
    }
}

fn capture(entry: &Entry) -> Capture {
    entry.content().map_or(Capture::Plain, |c| c.capture)
}

fn type_bits(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File(_) => FILE,
        EntryKind::Directory => DIRECTORY,
        EntryKind::Symlink(_) => SYMLINK,
        EntryKind::Fifo => FIFO,
        EntryKind::CharDevice(..) => CHAR_DEVICE,
        EntryKind::BlockDevice(..) => BLOCK_DEVICE,
    }
}

fn put_content(body: &mut Vec<u8>, ids: &mut Vec<u8>, content: &Content) {
    match &content.slices {
        Slices::Inline(slices) => {
            body.push(FORM_INLINE);
            slices_v1::put(body, ids, slices);
        }
        Slices::Lists(lists) => {
            body.push(FORM_LISTS);
            varint::put(body, lists.len() as u64);
            lists.iter().for_each(|id| ids.extend_from_slice(&id.0));
        }
    }
    // A hash that readers do not expect here would shift everything after it.
    let many = match &content.slices {
        Slices::Inline(slices) => slices.len() > 1,
        Slices::Lists(_) => true,
    };
    debug_assert!(!many || content.hash.is_some(), "content in parts has no content hash");
    if let Some(hash) = content.hash.as_ref().filter(|_| many) {
        body.push(hash.block_log2);
        ids.extend_from_slice(&hash.hash);
    }
}

fn get_content(body: &mut Cursor<'_>, ids: &mut Cursor<'_>, single: bool) -> Result<Content, FormatError> {
    let size = body.varint()?;
    if size > limits::FILE_SIZE {
        return Err(FormatError::Damaged("file size is outside the limits"));
    }
    if single {
        let len = u32::try_from(size).ok().filter(|&n| n > 0 && n as usize <= limits::BLOB);
        let len = len.ok_or(FormatError::Damaged("file size is outside a blob's limits"))?;
        let slices = Slices::Inline(vec![Slice::Blob { id: BlobId(ids.array()?), offset: 0, len }]);
        return Ok(Content { size, slices, ..Content::default() });
    }
    let (slices, hashed) = match body.u8()? {
        FORM_INLINE => {
            let (slices, covered) = slices_v1::get(body, ids)?;
            if covered != size {
                return Err(FormatError::Damaged("slices do not add up to the file's size"));
            }
            let many = slices.len() > 1;
            (Slices::Inline(slices), many)
        }
        FORM_LISTS => {
            let count = usize::try_from(body.varint()?).unwrap_or(usize::MAX);
            if count == 0 || count > ids.remaining() / 32 {
                return Err(FormatError::Damaged("count of slice lists is outside the limits"));
            }
            let lists = (0..count).map(|_| ids.array().map(BlobId)).collect::<Result<_, _>>()?;
            (Slices::Lists(lists), true)
        }
        other => return Err(FormatError::Unsupported(format!("content form {other}"))),
    };
    let hash = if hashed { Some(get_hash(body, ids)?) } else { None };
    Ok(Content { size, slices, hash, capture: Capture::Plain })
}

fn get_hash(body: &mut Cursor<'_>, ids: &mut Cursor<'_>) -> Result<ContentHash, FormatError> {
    let block_log2 = body.u8()?;
    if !(9..=24).contains(&block_log2) {
        return Err(FormatError::Damaged("content hash has an odd block length"));
    }
    Ok(ContentHash { block_log2, hash: ids.array()? })
}

fn put_extensions(out: &mut Vec<u8>, entry: &Entry) {
    let mut items: Vec<(u64, Vec<u8>)> = Vec::new();
    if !entry.meta.xattrs.is_empty() {
        let mut value = Vec::new();
        varint::put(&mut value, entry.meta.xattrs.len() as u64);
        for xattr in &entry.meta.xattrs {
            varint::put_bytes(&mut value, &xattr.name);
            varint::put_bytes(&mut value, &xattr.value);
        }
        items.push((EXT_XATTRS, value));
    }
    if entry.link_group != 0 {
        let mut value = Vec::new();
        varint::put(&mut value, entry.link_group);
        items.push((EXT_LINK_GROUP, value));
    }
    let (kind, page_size) = match capture(entry) {
        Capture::Plain => (0, 0),
        Capture::Sqlite { page_size } => (CAPTURE_SQLITE, page_size),
        Capture::RawSqlite => (CAPTURE_RAW_SQLITE, 0),
    };
    if kind != 0 {
        let mut value = vec![kind];
        varint::put(&mut value, page_size.into());
        items.push((EXT_CAPTURE, value));
    }
    varint::put(out, items.len() as u64);
    for (tag, value) in items {
        varint::put(out, tag);
        varint::put_bytes(out, &value);
    }
}

fn get_extensions(body: &mut Cursor<'_>, entry: &mut Entry) -> Result<(), FormatError> {
    let count = body.count(2)?;
    let mut last = None;
    for _ in 0..count {
        let tag = body.varint()?;
        if last.is_some_and(|last| tag <= last) {
            return Err(FormatError::Damaged("extensions do not ascend"));
        }
        last = Some(tag);
        let mut value = Cursor::new(body.bytes(limits::BLOB)?);
        match tag {
            EXT_XATTRS => entry.meta.xattrs = get_xattrs(&mut value)?,
            EXT_LINK_GROUP => {
                entry.link_group = value.varint()?;
                if entry.link_group == 0 {
                    return Err(FormatError::Damaged("link group is zero"));
                }
            }
            EXT_CAPTURE => get_capture(&mut value, &mut entry.kind)?,
            _ if tag % 2 == 1 => return Err(FormatError::Unsupported(format!("entry extension {tag}"))),
            _ => continue,
        }
        value.end()?;
    }
    Ok(())
}

fn get_capture(value: &mut Cursor<'_>, kind: &mut EntryKind) -> Result<(), FormatError> {
    let (how, page_size) = (value.u8()?, value.u32()?);
    let EntryKind::File(content) = kind else {
        return Err(FormatError::Damaged("only files are captured"));
    };
    content.capture = match (how, page_size) {
        (CAPTURE_SQLITE, 512..=65_536) if page_size.is_power_of_two() => Capture::Sqlite { page_size },
        (CAPTURE_RAW_SQLITE, 0) => Capture::RawSqlite,
        (CAPTURE_SQLITE | CAPTURE_RAW_SQLITE, _) => {
            return Err(FormatError::Damaged("page size is malformed"));
        }
        _ => return Err(FormatError::Unsupported(format!("capture kind {how}"))),
    };
    Ok(())
}

fn get_xattrs(value: &mut Cursor<'_>) -> Result<Vec<Xattr>, FormatError> {
    let count = value.count(2)?;
    if count > limits::XATTRS {
        return Err(FormatError::Damaged("extended attributes are outside the limits"));
    }
    let mut total = 0;
    let mut xattrs: Vec<Xattr> = Vec::with_capacity(count);
    for _ in 0..count {
        let name = value.bytes(limits::XATTR_VALUE)?.to_vec();
        let bad = name.is_empty() || name.contains(&0) || xattrs.last().is_some_and(|last| name <= last.name);
        if bad {
            return Err(FormatError::Damaged("extended attribute name is malformed"));
        }
        let value = value.bytes(limits::XATTR_VALUE)?.to_vec();
        total += name.len() + value.len();
        if total > limits::XATTRS_TOTAL {
            return Err(FormatError::Damaged("extended attributes are outside the limits"));
        }
        xattrs.push(Xattr { name, value });
    }
    Ok(xattrs)
}
