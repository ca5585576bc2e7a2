//! Entries made ready in a folder of their own, to be renamed into their places.

use std::sync::Arc;

use super::plan::{Plan, PlannedFile};
use super::write::{self, Dirs};
use super::{Context, Error, Outcome, Request, finish};
use crate::fs::Dir;
use crate::model::{BlobId, Entry, RepoPath};
use crate::repo::{BlobReader, RepoError, load_slices};
use crate::report::Monitor;

/// Where bytes of blobs may be had without asking the repository.
pub trait Nearby: Sync {
    /// Fills `buffer` with the bytes of a blob from `offset` on; false when they are not here, or cannot be
    /// proved to be those.
    fn read(&self, id: &BlobId, offset: u32, buffer: &mut [u8]) -> bool;
}

/// What was made ready.
#[derive(Debug, Default)]
pub struct Staged {
    /// For each entry: what went wrong, and whether that is damage in the repository.
    pub failed: Vec<Option<(String, bool)>>,
    /// Bytes of content written.
    pub bytes: u64,
    /// Of these, bytes that were not asked of the repository.
    pub local: u64,
    /// The repository did not answer for as long as was to be waited.
    pub gone: bool,
}

/// Makes each entry, content and metadata, under its number as its name in the directory `into`, which is
/// empty. Directories, and devices that the request leaves out, are passed over. Files of a request that
/// keeps set-id bits keep them.
pub fn stage(
    blobs: &BlobReader<'_>,
    request: &Request,
    entries: &[&Entry],
    into: &Arc<Dir>,
    nearby: Option<&dyn Nearby>,
    monitor: &dyn Monitor,
) -> Result<Staged, Error> {
    let (repository, index) = (blobs.repository(), blobs.index());
    let context = Context { repository, request, blobs: BlobReader::new(repository, index), monitor, nearby };
    let mut staged = Staged { failed: vec![None; entries.len()], ..Staged::default() };
    let (mut plan, mut numbers) = (Plan::default(), Vec::new());
    let mut dirs = Dirs::new(into);
    for (number, entry) in entries.iter().enumerate() {
        let renamed = Entry { path: name(number)?, ..(*entry).clone() };
        if let Some(content) = entry.content() {
            match load_slices(content, blobs) {
                Ok(slices) => {
                    plan.files.push(PlannedFile { entry: renamed, slices, replaces: false });
                    numbers.push(number);
                }
                Err(e) => staged.failed[number] = Some((e.to_string(), true)),
            }
        } else if !entry.is_dir()
            && let Err(e) = finish::special(request, &mut dirs, &renamed)
        {
            staged.failed[number] = Some((format!("cannot be made: {e}"), false));
        }
    }
    let mut outcome = Outcome::default();
    let written = write::run(&context, into, &plan, &mut outcome)?;
    for (error, number) in outcome.errors.into_iter().zip(failures(&written.done, &numbers)) {
        staged.failed[number] = Some((error.message, outcome.damaged));
    }
    (staged.bytes, staged.local, staged.gone) = (outcome.bytes_written, written.local, written.gone);
    Ok(staged)
}

/// The numbers of the files that were not written, in order.
fn failures<'a>(done: &'a [bool], numbers: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
    done.iter().zip(numbers).filter(|(done, _)| !**done).map(|(_, number)| *number)
}

fn name(number: usize) -> Result<RepoPath, RepoError> {
    let what = "too many entries";
    RepoPath::new(number.to_string().into_bytes()).map_err(|_| RepoError::Manifest { what })
}
