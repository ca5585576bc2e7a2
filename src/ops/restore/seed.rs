//! After a restore: tells the cache what is in place, so that the next backup of the directory need
//! not read it all again.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Context;
use super::plan::Plan;
use super::write::{Dirs, Written};
use crate::crypto::ContentHasher;
use crate::fs::Dir;
use crate::model::{BlobId, BlobKind, Capture, Content, Entry, ObjectId, RepoPath, Snapshot, Timestamp};
use crate::ops::cache_keys;
use crate::repo::{BaselineWriter, FileMark, ManifestWriter, PageTable, RepoError, Repository, SegmentSink};

/// Puts leaf segments into the cache; none of them is in the repository.
struct CacheOnly(BaselineWriter);

impl SegmentSink for CacheOnly {
    fn store(&mut self, level: Option<u8>, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        if level == Some(0) {
            let failed = |source| RepoError::Cache { path: PathBuf::from("trees"), source };
            self.0.leaf(&bytes).map_err(failed)?;
        }
        Ok(BlobId(*blake3::hash(&bytes).as_bytes()))
    }
}

pub(super) fn run(
    context: &Context<'_>,
    root: &Arc<Dir>,
    home: &Path,
    plan: &Plan,
    written: &Written,
) -> io::Result<()> {
    let request = context.request;
    let done = plan.files.iter().zip(&written.done).filter(|(_, done)| **done).map(|(f, _)| &f.entry);
    let links = plan.links.iter().map(|(entry, _)| entry);
    let mut entries: Vec<&Entry> =
        done.chain(&plan.same).chain(links).chain(&plan.others).chain(&plan.dirs).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let seed = Seed {
        repository: context.repository,
        target: home,
        root,
        id: &request.id,
        snapshot: &request.snapshot,
        images: &|_| None,
        looked: None,
    };
    seed.write(entries.into_iter().map(|entry| Ok(entry.clone())))
}

/// A directory that was made as in a snapshot.
pub(in crate::ops) struct Seed<'a> {
    pub(in crate::ops) repository: &'a Repository,
    pub(in crate::ops) target: &'a Path,
    pub(in crate::ops) root: &'a Arc<Dir>,
    pub(in crate::ops) id: &'a ObjectId,
    pub(in crate::ops) snapshot: &'a Snapshot,
    /// The image of a database whose own file may say something else: it was written through its log.
    pub(in crate::ops) images: &'a dyn Fn(&RepoPath) -> Option<File>,
    /// When what is in place was last looked at: what has changed since must be read.
    pub(in crate::ops) looked: Option<Timestamp>,
}

impl Seed<'_> {
    /// Notes what is in place of these entries, which come in manifest order. One that is not, to its size and
    /// time, as its entry says will be read by the next backup.
    pub(in crate::ops) fn write(&self, entries: impl Iterator<Item = io::Result<Entry>>) -> io::Result<()> {
        let target = self.target.canonicalize()?;
        let cache = self.repository.cache();
        let baseline = cache.write_baseline(&cache_keys::tree(&target, &[])).map_err(io::Error::other)?;
        let mut sink = CacheOnly(baseline);
        let mut manifest = ManifestWriter::default();
        let mut dirs = Dirs::new(self.root);
        for entry in entries {
            let mut entry = entry?;
            let (stat, parent) = if entry.path.is_root() {
                (self.root.stat()?, Arc::clone(self.root))
            } else {
                let found = dirs
                    .parent_of(&entry.path)
                    .and_then(|parent| Ok((parent.stat_at(entry.path.name())?, parent)));
                match found {
                    Ok(found) => found,
                    // A device that was left out, or what somebody has taken away since.
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                    Err(e) => return Err(e),
                }
            };
            let owner = Arc::make_mut(&mut entry.meta.owner);
            (owner.uid, owner.gid) = (stat.uid, stat.gid);
            entry.unsettled = stat.mtime != entry.meta.mtime
                || self.looked.is_some_and(|looked| stat.ctime >= looked)
                || entry.content().is_some_and(|content| content.size != stat.size);
            entry.meta.mode = stat.mode;
            (entry.meta.mtime, entry.meta.ctime, entry.meta.inode) = (stat.mtime, stat.ctime, stat.inode);
            // As the walk will find it: other names may lie outside what was restored, or inside.
            entry.link_group =
                if entry.content().is_some() && stat.nlink > 1 { stat.inode.max(1) } else { 0 };
            if let Some(content) = entry.content()
                && let Capture::Sqlite { page_size } = content.capture
            {
                let (file, mark) = match (self.images)(&entry.path) {
                    Some(image) => (image, FileMark::ABSENT),
                    None => {
                        let (file, _) = parent.open_regular(entry.path.name())?;
                        let mark = FileMark {
                            size: stat.size,
                            mtime: stat.mtime,
                            ctime: stat.ctime,
                            inode: stat.inode,
                        };
                        (file, mark)
                    }
                };
                match self.page_table(file, &entry.path, content, page_size, mark)? {
                    Some(table) => {
                        let key = cache_keys::pages(&target, &entry.path);
                        cache.write_page_table(&key, &table).map_err(io::Error::other)?;
                    }
                    None => entry.unsettled = true,
                }
            }
            manifest.push(&entry, &mut sink).map_err(io::Error::other)?;
        }
        manifest.finish(&mut sink).map_err(io::Error::other)?;
        sink.0.finish(self.id, self.snapshot)
    }

    /// The page table of an image, if the file is that image.
    fn page_table(
        &self,
        mut file: File,
        path: &RepoPath,
        content: &Content,
        page_size: u32,
        main: FileMark,
    ) -> io::Result<Option<PageTable>> {
        let Some(binding) = cache_keys::binding(content) else { return Ok(None) };
        let keys = &self.repository.sealer().keys;
        let mut whole = content.hash.as_ref().map(|hash| ContentHasher::new(keys, hash.block_log2));
        let mut single = Vec::new();
        let mut pages = Vec::new();
        let mut page = vec![0; page_size as usize];
        let mut left = content.size;
        while left > 0 {
            file.read_exact(&mut page)?;
            pages.push(keys.block_hash(&page));
            match &mut whole {
                Some(hasher) => hasher.update(&page),
                // One blob, and so of a bounded size.
                None => single.extend_from_slice(&page),
            }
            left = left.saturating_sub(u64::from(page_size));
        }
        let is_it = match (whole, &content.hash) {
            (Some(hasher), Some(hash)) => hasher.finish() == hash.hash,
            _ => keys.blob_id(BlobKind::Data, &single).0 == binding,
        };
        let record = self.snapshot.databases.iter().find(|d| d.path == *path);
        Ok(is_it.then(|| PageTable {
            binding,
            main,
            wal: FileMark::ABSENT,
            page_size,
            checked: 0,
            user_version: record.map_or(0, |r| r.user_version),
            application_id: record.map_or(0, |r| r.application_id),
            captured: record.map_or(Timestamp::default(), |r| r.captured),
            pages,
        }))
    }
}
