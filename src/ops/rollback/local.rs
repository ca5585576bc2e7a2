//! Bytes that need not be fetched, because they are in the state dir: of files that are about to be
//! replaced or removed.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::Plan;
use crate::fs::Dir;
use crate::model::{BlobId, BlobKind, Capture, Entry, RepoPath, Slice};
use crate::ops::cache_keys;
use crate::ops::restore::Nearby;
use crate::repo::{BlobReader, PageTable, RepoError, load_slices};

/// Files kept open at once.
const KEPT_OPEN: usize = 16;

/// Where a part of a blob lies in a file.
struct Place {
    source: usize,
    /// First byte within the file.
    at: u64,
    /// First byte within the blob.
    offset: u32,
    len: u32,
}

struct Source {
    path: RepoPath,
    /// For a database: what each page of the captured image is. A page of the main file that is another is
    /// not used: the log has a newer one.
    pages: Option<PageTable>,
}

/// What is there of the blobs that are wanted. Nothing is handed out unverified.
pub(super) struct Local<'a> {
    root: &'a Dir,
    blobs: &'a BlobReader<'a>,
    places: HashMap<BlobId, Vec<Place>>,
    sources: Vec<Source>,
    /// Files read last, the newest at the end: threads read several at a time.
    open: Mutex<Vec<(usize, Arc<File>)>>,
}

impl<'a> Local<'a> {
    /// Of the files that `plan` finds in place. `tables` gives the page table of a database's image.
    pub(super) fn of(
        plan: &Plan,
        root: &'a Dir,
        blobs: &'a BlobReader<'a>,
        tables: &dyn Fn(&RepoPath) -> Option<PageTable>,
    ) -> Result<Self, RepoError> {
        let mut local =
            Self { root, blobs, places: HashMap::new(), sources: Vec::new(), open: Mutex::default() };
        for have in plan.steps.iter().filter_map(|step| step.have.as_ref()) {
            local.add(have, tables)?;
        }
        Ok(local)
    }

    fn add(
        &mut self,
        have: &Entry,
        tables: &dyn Fn(&RepoPath) -> Option<PageTable>,
    ) -> Result<(), RepoError> {
        let Some(content) = have.content() else { return Ok(()) };
        let pages = match content.capture {
            Capture::Sqlite { .. } => {
                let table = tables(&have.path).filter(|t| Some(t.binding) == cache_keys::binding(content));
                if table.is_none() {
                    return Ok(());
                }
                table
            }
            Capture::Plain | Capture::RawSqlite => None,
        };
        let source = self.sources.len();
        self.sources.push(Source { path: have.path.clone(), pages });
        let mut at = 0;
        for slice in load_slices(content, self.blobs)? {
            if let Slice::Blob { id, offset, len } = slice {
                self.places.entry(id).or_default().push(Place { source, at, offset, len });
            }
            at += slice.len();
        }
        Ok(())
    }

    fn file(&self, source: usize) -> Option<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(number, _)| *number == source) {
            return Some(Arc::clone(file));
        }
        let path = &self.sources[source].path;
        let parent = self.root.open_path(&path.parent().unwrap_or_default()).ok()?;
        let file = Arc::new(parent.open_regular(path.name()).ok()?.0);
        if open.len() == KEPT_OPEN {
            open.remove(0);
        }
        open.push((source, Arc::clone(&file)));
        Some(file)
    }

    fn read_pages(&self, place: &Place, offset: u32, buffer: &mut [u8]) -> Option<()> {
        let table = self.sources[place.source].pages.as_ref()?;
        let page_size = u64::from(table.page_size);
        let from = place.at + u64::from(offset - place.offset);
        let to = from + buffer.len() as u64;
        let (first, after) = (from / page_size, to.div_ceil(page_size));
        // All pages with one read: a request to the system costs more than the hash of a page.
        let mut pages = vec![0; usize::try_from((after - first) * page_size).ok()?];
        self.file(place.source)?.read_exact_at(&mut pages, first * page_size).ok()?;
        let expected = table.pages.get(usize::try_from(first).ok()?..usize::try_from(after).ok()?)?;
        let keys = &self.blobs.repository().sealer().keys;
        let mut found = pages.chunks_exact(table.page_size as usize).zip(expected);
        if !found.all(|(page, hash)| keys.block_hash(page) == *hash) {
            return None;
        }
        let begin = usize::try_from(from - first * page_size).ok()?;
        buffer.copy_from_slice(pages.get(begin..begin + buffer.len())?);
        Some(())
    }

    fn read_blob(&self, id: &BlobId, place: &Place, offset: u32, buffer: &mut [u8]) -> Option<()> {
        // Only a whole blob can be verified.
        let length = self.blobs.place(id).ok()?.length;
        if place.offset != 0 || place.len != length {
            return None;
        }
        let mut blob = vec![0; length as usize];
        self.file(place.source)?.read_exact_at(&mut blob, place.at).ok()?;
        if self.blobs.repository().sealer().keys.blob_id(BlobKind::Data, &blob) != *id {
            return None;
        }
        let from = offset as usize;
        buffer.copy_from_slice(blob.get(from..from + buffer.len())?);
        Some(())
    }
}

impl Nearby for Local<'_> {
    fn read(&self, id: &BlobId, offset: u32, buffer: &mut [u8]) -> bool {
        let Some(places) = self.places.get(id) else { return false };
        let end = u64::from(offset) + buffer.len() as u64;
        let holds = |p: &&Place| p.offset <= offset && end <= u64::from(p.offset) + u64::from(p.len);
        places.iter().filter(holds).any(|place| {
            let read = match self.sources[place.source].pages {
                Some(_) => self.read_pages(place, offset, buffer),
                None => self.read_blob(id, place, offset, buffer),
            };
            read.is_some()
        })
    }
}
