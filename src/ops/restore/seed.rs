//! After a restore: tells the cache what is in place, so that the next backup of the directory need
//! not read it all again.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::Context;
use super::plan::Plan;
use super::write::{Dirs, Written};
use crate::fs::Dir;
use crate::model::{BlobId, Capture, Content, Entry, RepoPath, Timestamp};
use crate::ops::cache_keys;
use crate::repo::{BaselineWriter, FileMark, ManifestWriter, PageTable, RepoError, SegmentSink};

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

pub(super) fn run(context: &Context<'_>, root: &Arc<Dir>, plan: &Plan, written: &Written) -> io::Result<()> {
    let request = context.request;
    let target = request.target.canonicalize()?;
    let key = cache_keys::tree(&target, &[]);
    let cache = context.repository.cache();
    let mut sink = CacheOnly(cache.write_baseline(&key).map_err(io::Error::other)?);
    let mut manifest = ManifestWriter::default();
    let done = plan.files.iter().zip(&written.done).filter(|(_, done)| **done).map(|(f, _)| &f.entry);
    let links = plan.links.iter().map(|(entry, _)| entry);
    let mut entries: Vec<&Entry> =
        done.chain(&plan.same).chain(links).chain(&plan.others).chain(&plan.dirs).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut dirs = Dirs::new(root);
    for entry in entries {
        let mut entry = entry.clone();
        let (stat, parent) = if entry.path.is_root() {
            (root.stat()?, Arc::clone(root))
        } else {
            let parent = dirs.parent_of(&entry.path)?;
            match parent.stat_at(entry.path.name()) {
                Ok(stat) => (stat, parent),
                // A device that was left out.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            }
        };
        let owner = Arc::make_mut(&mut entry.meta.owner);
        (owner.uid, owner.gid) = (stat.uid, stat.gid);
        entry.meta.mode = stat.mode;
        (entry.meta.mtime, entry.meta.ctime, entry.meta.inode) = (stat.mtime, stat.ctime, stat.inode);
        entry.unsettled = false;
        // As the walk will find it: other names may lie outside what was restored, or inside.
        entry.link_group = if entry.content().is_some() && stat.nlink > 1 { stat.inode.max(1) } else { 0 };
        if let Some(content) = entry.content()
            && let Capture::Sqlite { page_size } = content.capture
        {
            let mark = FileMark { size: stat.size, mtime: stat.mtime, ctime: stat.ctime, inode: stat.inode };
            if let Some(table) = page_table(context, &parent, &entry.path, content, page_size, mark)? {
                let key = cache_keys::pages(&target, &entry.path);
                cache.write_page_table(&key, &table).map_err(io::Error::other)?;
            }
        }
        manifest.push(&entry, &mut sink).map_err(io::Error::other)?;
    }
    manifest.finish(&mut sink).map_err(io::Error::other)?;
    sink.0.finish(&request.id, &request.snapshot)
}

fn page_table(
    context: &Context<'_>,
    parent: &Dir,
    path: &RepoPath,
    content: &Content,
    page_size: u32,
    main: FileMark,
) -> io::Result<Option<PageTable>> {
    let Some(binding) = cache_keys::binding(content) else { return Ok(None) };
    let (mut file, _) = parent.open_regular(path.name())?;
    let mut pages = Vec::new();
    let mut page = vec![0; page_size as usize];
    let mut left = content.size;
    while left > 0 {
        file.read_exact(&mut page)?;
        pages.push(context.repository.sealer().keys.block_hash(&page));
        left = left.saturating_sub(u64::from(page_size));
    }
    let record = context.request.snapshot.databases.iter().find(|d| d.path == *path);
    Ok(Some(PageTable {
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
