//! Making a table: an older one and what is new, merged in sorted order.

use std::io::{self, BufWriter, Write};

use super::blocks::{BlockWriter, Nonce};
use super::rows::{BlobRow, PackRow};
use super::{Head, MAGIC, Source, Table, beginning};
use crate::crypto;
use crate::fs::TempFile;
use crate::model::{BlobId, RepositoryId};
use crate::repo::index::InMemory;
use crate::repo::{BlobPlace, FramePlaceInfo};

const MODE: u32 = 0o600;
const BUFFER: usize = 256 << 10;

/// Writes the table of `sources` to a file that then gets its name. What they say is in `older` and, where that
/// has it not, in `added`, whose packs are numbered after those of `older`.
pub(in crate::repo) fn write(
    (mut file, name): (TempFile, &str),
    repository: RepositoryId,
    mut sources: Vec<Source>,
    older: Option<&Table>,
    added: &InMemory,
) -> io::Result<()> {
    sources.sort_by_key(|source| source.id);
    let nonce: Nonce = crypto::random().map_err(io::Error::other)?;
    let (packs, numbers) = packs(older, added)?;
    let mut out = BlockWriter::new(BufWriter::with_capacity(BUFFER, file.file()), nonce);
    let mut head = Head {
        repository: repository.0,
        nonce,
        blobs: 0,
        frames: 0,
        packs: u32::try_from(packs.len()).map_err(io::Error::other)?,
        sources: sources.iter().map(|s| (s.id.0, s.replaces.iter().map(|id| id.0).collect())).collect(),
        fan_out: Vec::new(),
    };
    merged(older, added, |id, mut place| {
        place.pack = numbers.get(place.pack as usize).copied().ok_or_else(super::invalid)?;
        if out.row(&BlobRow { id, place })? {
            head.fan_out.push(beginning(&id));
        }
        head.blobs += 1;
        Ok(())
    })?;
    out.end_block()?;
    frames(older, added, |frame| {
        out.row(frame)?;
        head.frames += 1;
        Ok(())
    })?;
    out.end_block()?;
    for pack in &packs {
        out.row(pack)?;
    }
    let mut out = out.finish()?;
    let head = bincode::encode_to_vec(&head, bincode::config::standard()).map_err(io::Error::other)?;
    out.write_all(&head)?;
    out.write_all(&(head.len() as u64).to_le_bytes())?;
    out.write_all(blake3::hash(&head).as_bytes())?;
    out.write_all(MAGIC)?;
    out.flush()?;
    drop(out);
    file.persist(name, MODE)
}

/// All packs sorted by id, and what number each has now.
fn packs(older: Option<&Table>, added: &InMemory) -> io::Result<(Vec<PackRow>, Vec<u32>)> {
    let old = older.iter().flat_map(|table| (0..table.packs()).map(|n| table.pack_row(n)));
    let mut rows: Vec<PackRow> = old.collect::<io::Result<_>>()?;
    let mut frames = older.map_or(0, |table| table.head.frames);
    for pack in added.packs() {
        let first_frame = u32::try_from(frames).map_err(io::Error::other)?;
        let count = u32::try_from(pack.frames.len()).map_err(io::Error::other)?;
        rows.push(PackRow { id: pack.id, size: pack.size, first_frame, frames: count });
        frames += u64::from(count);
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&n| rows[n].id);
    let mut numbers = vec![0; rows.len()];
    for (now, &before) in (0u32..).zip(&order) {
        numbers[before] = now;
    }
    Ok((order.into_iter().map(|n| rows[n]).collect(), numbers))
}

/// Hands on every blob once, sorted by id.
fn merged(
    older: Option<&Table>,
    added: &InMemory,
    mut each: impl FnMut(BlobId, BlobPlace) -> io::Result<()>,
) -> io::Result<()> {
    let mut new: Vec<(&BlobId, &BlobPlace)> = added.blobs().collect();
    new.sort_unstable_by_key(|(id, _)| **id);
    let mut new = new.into_iter().peekable();
    for blob in older.iter().flat_map(|table| table.blobs()) {
        let (id, place) = blob?;
        while let Some((before, place)) = new.next_if(|(next, _)| **next < id) {
            each(*before, *place)?;
        }
        // In a pack of either; one place is enough.
        new.next_if(|(next, _)| **next == id);
        each(id, place)?;
    }
    new.try_for_each(|(id, place)| each(*id, *place))
}

/// Hands on every frame: those of `older` where they were, then those of the packs in `added`.
fn frames(
    older: Option<&Table>,
    added: &InMemory,
    mut each: impl FnMut(&FramePlaceInfo) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(table) = older {
        let first = table.head.first_frame_block();
        table.scan(first, table.head.frames).try_for_each(|frame| each(&frame?))?;
    }
    added.packs().iter().flat_map(|pack| &pack.frames).try_for_each(each)
}
