//! The local cache of one repository. Everything in it can be lost: it saves work, and each file is
//! checked before it is believed. Its format is private to this program and version.
//!
//! ```text
//! <cache>/<repository id>/writer           this client's writer id
//! <cache>/<repository id>/pending/<pack>   packs stored but not yet in a published index
//! <cache>/<repository id>/trees/<key>      the last manifest of a root, as change detection reads it
//! <cache>/<repository id>/pages/<key>      page hashes of a database
//! <cache>/<repository id>/objects/<name>   copies of small objects
//! <cache>/<repository id>/seen             listings
//! <cache>/<repository id>/sightings        when things were first seen that must get old
//! <cache>/<repository id>/index-table      what index objects say, sorted
//! <cache>/<repository id>/damage           packs that were found damaged
//! <cache>/<repository id>/reads            when each pack was last read to its end
//! <cache>/<repository id>/rotation         the objects of a new master key that is being made
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use super::RepoError;
use super::index::IdSet;
use crate::crypto;
use crate::format::index_v1::{self, PackInfo};
use crate::format::segment_v1::{self, Segment};
use crate::format::snapshot_v1;
use crate::fs::{TempFile, create_private_dir_all, write_atomic};
use crate::model::{BlobId, Entry, ObjectId, RepositoryId, Snapshot, Timestamp, WriterId};

const MODE: u32 = 0o600;
const TREE_MAGIC: &[u8; 8] = b"EXTREE01";
const PAGES_MAGIC: &[u8; 8] = b"EXPAGE01";
const MAX_SEGMENT: usize = crate::format::limits::BLOB;

/// The local cache.
pub struct Cache {
    dir: PathBuf,
    keeps_key: bool,
    writer: OnceLock<WriterId>,
    /// Held by who changes the list of damaged packs.
    pub(super) damage: Mutex<()>,
    /// What could not be written, and is still to be told.
    pub(super) troubles: Mutex<Vec<RepoError>>,
}

/// Where caches lie, and what may be in them.
#[derive(Debug, Clone, Copy)]
pub struct CachePlace<'a> {
    /// The user's cache directory for this program.
    pub dir: &'a Path,
    /// Whether the repository's key may be kept there, wrapped in the passphrase: it then opens in some
    /// 20 ms instead of 300.
    pub keeps_key: bool,
}

impl Cache {
    /// The cache of a repository below the user's cache directory; made when first written to.
    #[must_use]
    pub fn new(place: CachePlace<'_>, repository: RepositoryId) -> Self {
        let cache = Self {
            dir: place.dir.join(repository.to_string()),
            keeps_key: place.keeps_key,
            writer: OnceLock::new(),
            damage: Mutex::default(),
            troubles: Mutex::default(),
        };
        if !place.keeps_key {
            cache.forget_key();
            cache.forget_rotation();
        }
        cache
    }

    pub(super) fn keeps_key(&self) -> bool {
        self.keeps_key
    }

    /// The directory of this repository's cache.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// The directories that are ours: never backed up, never restored into.
    #[must_use]
    pub fn own_directories(&self) -> [PathBuf; 2] {
        [self.dir.clone(), self.dir.with_file_name(super::copies::LOCATIONS)]
    }

    fn folder(&self, name: &str) -> Result<PathBuf, RepoError> {
        let path = self.dir.join(name);
        create_private_dir_all(&path).map_err(|source| RepoError::Cache { path: path.clone(), source })?;
        Ok(path)
    }

    pub(super) fn write(&self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), RepoError> {
        let path = self.folder(folder)?;
        write_atomic(&path, name, bytes, MODE)
            .map_err(|source| RepoError::Cache { path: path.join(name), source })
    }

    /// This client's writer id, made at first use.
    pub fn writer(&self) -> Result<WriterId, RepoError> {
        if let Some(id) = self.writer.get() {
            return Ok(*id);
        }
        let path = self.dir.join("writer");
        let known = fs::read_to_string(&path).ok().and_then(|text| text.trim_end().parse().ok());
        let id = match known {
            Some(id) => id,
            None => {
                let fresh =
                    crypto::random().map_err(|e| RepoError::Cache { path, source: io::Error::other(e) })?;
                let id = WriterId(fresh);
                // A new writer counts from 1, whatever is left of another.
                self.note_sequence(0)?;
                self.write("", "writer", format!("{id}\n").as_bytes())?;
                id
            }
        };
        Ok(*self.writer.get_or_init(|| id))
    }

    /// The highest sequence number that this client has used, 0 for none.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        fs::read_to_string(self.dir.join("sequence"))
            .ok()
            .and_then(|text| text.trim_end().parse().ok())
            .unwrap_or(0)
    }

    /// Remembers a sequence number.
    pub fn note_sequence(&self, sequence: u64) -> Result<(), RepoError> {
        self.write("", "sequence", format!("{sequence}\n").as_bytes())
    }

    /// Notes a pack that is about to be stored.
    pub fn note_pending(&self, pack: &PackInfo) -> Result<(), RepoError> {
        let object = index_v1::Index { packs: vec![pack.clone()], replaces: Vec::new() };
        let record = index_v1::encode(&object).map_err(RepoError::object("pack note"))?;
        self.write("pending", &pack.id.to_string(), &record)
    }

    /// The packs noted and not yet published; notes that do not decode are ignored.
    #[must_use]
    pub fn pending(&self) -> Vec<PackInfo> {
        let Ok(entries) = fs::read_dir(self.dir.join("pending")) else { return Vec::new() };
        let mut packs: Vec<PackInfo> = entries
            .flatten()
            .filter_map(|entry| index_v1::decode(&fs::read(entry.path()).ok()?).ok()?.packs.pop())
            .collect();
        packs.sort_by_key(|p| p.id);
        packs
    }

    /// Forgets a note.
    pub fn forget_pending(&self, pack: &ObjectId) {
        // A note that stays is found published, or missing, and forgotten by the next run.
        let _ = fs::remove_file(self.dir.join("pending").join(pack.to_string()));
    }

    /// Opens the last manifest of a root, if it is there and whole.
    #[must_use]
    pub fn baseline(&self, key: &str) -> Option<Baseline> {
        Baseline::open(&self.dir.join("trees").join(key)).ok()
    }

    /// Begins to write the manifest of a root; it takes its place when finished.
    pub fn write_baseline(&self, key: &str) -> Result<BaselineWriter, RepoError> {
        let folder = self.folder("trees")?;
        let begin = || {
            let mut writer = BaselineWriter {
                name: key.into(),
                file: BufWriter::new(TempFileWriter::new(&folder)?),
                ids: IdSet::default(),
            };
            writer.file.write_all(TREE_MAGIC)?;
            Ok(writer)
        };
        begin().map_err(|source| RepoError::Cache { path: folder.join(key), source })
    }

    /// The page table of a database.
    #[must_use]
    pub fn page_table(&self, key: &str) -> Option<PageTable> {
        PageTable::decode(&fs::read(self.dir.join("pages").join(key)).ok()?)
    }

    /// Keeps the page table of a database.
    pub fn write_page_table(&self, key: &str, table: &PageTable) -> Result<(), RepoError> {
        self.write("pages", key, &table.encode())
    }
}

/// A temporary file that hashes what is written.
struct TempFileWriter {
    temp: TempFile,
    hasher: blake3::Hasher,
}

impl TempFileWriter {
    fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { temp: TempFile::new(folder)?, hasher: blake3::Hasher::new() })
    }
}

impl Write for TempFileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.temp.file().write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.file().flush()
    }
}

/// Writes the leaf segments of a manifest to the cache.
pub struct BaselineWriter {
    name: String,
    file: BufWriter<TempFileWriter>,
    ids: IdSet,
}

impl BaselineWriter {
    /// Appends a leaf segment.
    pub fn leaf(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.write_all(&len.to_le_bytes())?;
        self.file.write_all(bytes)
    }

    /// Notes the id of a segment or slice list that the repository has.
    pub fn known(&mut self, id: BlobId) {
        self.ids.insert(id);
    }

    /// True when [`Self::known`] was told of this id.
    #[must_use]
    pub fn knows(&self, id: &BlobId) -> bool {
        self.ids.contains(id)
    }

    /// Puts the file in its place, as the manifest of a snapshot that is published.
    pub fn finish(mut self, id: &ObjectId, snapshot: &Snapshot) -> io::Result<()> {
        let record = snapshot_v1::encode(snapshot).map_err(io::Error::other)?;
        self.file.write_all(&0u32.to_le_bytes())?;
        self.file.write_all(&id.0)?;
        self.file.write_all(&(record.len() as u64).to_le_bytes())?;
        self.file.write_all(&record)?;
        self.file.write_all(&(self.ids.len() as u64).to_le_bytes())?;
        for id in &self.ids {
            self.file.write_all(&id.0)?;
        }
        let writer = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let TempFileWriter { mut temp, hasher } = writer;
        temp.file().write_all(hasher.finalize().as_bytes())?;
        temp.persist(&self.name, MODE)
    }
}

/// The last manifest of a root, read from the cache.
pub struct Baseline {
    file: BufReader<File>,
    entries: std::vec::IntoIter<Entry>,
    done: bool,
    /// The snapshot whose manifest it is.
    pub id: ObjectId,
    /// Its record.
    pub snapshot: Snapshot,
    /// Ids of segments and slice lists that the repository has as long as it has the snapshot.
    pub known: IdSet,
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Baseline {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let body = size.checked_sub(32).ok_or_else(invalid)?;
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut (&mut file).take(body), &mut hasher)?;
        if array::<32>(&mut file)? != *hasher.finalize().as_bytes() {
            return Err(invalid());
        }
        // The trailer follows the leaves; walk over those to find it.
        let mut file = BufReader::with_capacity(256 << 10, reopen(file)?);
        if &array::<8>(&mut file)? != TREE_MAGIC {
            return Err(invalid());
        }
        loop {
            match u32::from_le_bytes(array(&mut file)?) {
                0 => break,
                len => file.seek_relative(len.into())?,
            }
        }
        let id = ObjectId(array(&mut file)?);
        let len = usize::try_from(u64::from_le_bytes(array(&mut file)?)).map_err(|_| invalid())?;
        let mut record = Vec::new();
        (&mut file).take(len as u64).read_to_end(&mut record)?;
        let snapshot = snapshot_v1::decode(&record).map_err(|_| invalid())?;
        let count = u64::from_le_bytes(array(&mut file)?);
        if count > body / 32 {
            return Err(invalid());
        }
        let known = (0..count).map(|_| array(&mut file).map(BlobId)).collect::<io::Result<IdSet>>()?;
        let mut file = BufReader::with_capacity(64 << 10, reopen(file.into_inner())?);
        array::<8>(&mut file)?;
        Ok(Self { file, entries: Vec::new().into_iter(), done: false, id, snapshot, known })
    }

    /// The next entry, in order.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            if self.done {
                return Ok(None);
            }
            let len = u32::from_le_bytes(array(&mut self.file)?) as usize;
            self.done = len == 0;
            if len > MAX_SEGMENT {
                return Err(invalid());
            }
            let mut bytes = vec![0; len];
            self.file.read_exact(&mut bytes)?;
            if len > 0 {
                match segment_v1::decode(&bytes) {
                    Ok(Segment::Leaf(entries)) => self.entries = entries.into_iter(),
                    _ => return Err(invalid()),
                }
            }
        }
    }
}

fn reopen(mut file: File) -> io::Result<File> {
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Stat data by which a file or its absence is recognised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileMark {
    /// Length in bytes; `u64::MAX` for a file that is not there.
    pub size: u64,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Time of last status change.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
}

impl FileMark {
    /// The mark of a file that does not exist.
    pub const ABSENT: Self =
        Self { size: u64::MAX, mtime: Timestamp::from_secs(0), ctime: Timestamp::from_secs(0), inode: 0 };
}

/// What is known of a database image: lets the next capture find equal pages, and lets an untouched
/// database be left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageTable {
    /// The image's content hash, or the id of its only blob: ties the table to an entry.
    pub binding: [u8; 32],
    /// The main file when the image was taken.
    pub main: FileMark,
    /// The `-wal` file when the image was taken.
    pub wal: FileMark,
    /// Page size in bytes.
    pub page_size: u32,
    /// When the last integrity check was made, in seconds since 1970; 0 for never.
    pub checked: i64,
    /// `PRAGMA user_version`.
    pub user_version: u32,
    /// `PRAGMA application_id`.
    pub application_id: u32,
    /// When the image was taken.
    pub captured: Timestamp,
    /// Hash of each page, in order.
    pub pages: Vec<[u8; 16]>,
}

impl PageTable {
    const MARK: usize = 8 + 12 + 12 + 8;
    const FIXED: usize = 8 + 32 + 2 * Self::MARK + 4 + 8 + 4 + 4 + 12;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::FIXED + 16 * self.pages.len() + 32);
        out.extend_from_slice(PAGES_MAGIC);
        out.extend_from_slice(&self.binding);
        for mark in [self.main, self.wal] {
            out.extend_from_slice(&mark.size.to_le_bytes());
            put_time(&mut out, mark.mtime);
            put_time(&mut out, mark.ctime);
            out.extend_from_slice(&mark.inode.to_le_bytes());
        }
        out.extend_from_slice(&self.page_size.to_le_bytes());
        out.extend_from_slice(&self.checked.to_le_bytes());
        out.extend_from_slice(&self.user_version.to_le_bytes());
        out.extend_from_slice(&self.application_id.to_le_bytes());
        put_time(&mut out, self.captured);
        out.extend_from_slice(self.pages.as_flattened());
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let (mut head, pages) = body.split_at_checked(Self::FIXED)?;
        if blake3::hash(body).as_bytes() != hash || &array::<8>(&mut head).ok()? != PAGES_MAGIC {
            return None;
        }
        let from = &mut head;
        Some(Self {
            binding: array(from).ok()?,
            main: get_mark(from)?,
            wal: get_mark(from)?,
            page_size: u32::from_le_bytes(array(from).ok()?),
            checked: i64::from_le_bytes(array(from).ok()?),
            user_version: u32::from_le_bytes(array(from).ok()?),
            application_id: u32::from_le_bytes(array(from).ok()?),
            captured: get_time(from)?,
            pages: pages.as_chunks::<16>().0.to_vec(),
        })
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.secs.to_le_bytes());
    out.extend_from_slice(&time.nanos.to_le_bytes());
}

fn get_mark(from: &mut &[u8]) -> Option<FileMark> {
    Some(FileMark {
        size: u64::from_le_bytes(array(from).ok()?),
        mtime: get_time(from)?,
        ctime: get_time(from)?,
        inode: u64::from_le_bytes(array(from).ok()?),
    })
}

fn get_time(from: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp {
        secs: i64::from_le_bytes(array(from).ok()?),
        nanos: u32::from_le_bytes(array(from).ok()?),
    })
}
