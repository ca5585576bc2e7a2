//! Members into a tar stream.

use std::io::Write;

use super::header::{
    Block, CHECKSUM, DEVICE, GID, GROUP, LINK, MAGIC, MODE, MTIME, NAME, POSIX, PREFIX, SIZE, TYPE, UID,
    USER, most, set_number, set_sum,
};
use super::pax;
use super::{BLOCK, Member, MemberKind, TarError};
use crate::format::limits;
use crate::model::Timestamp;

/// POSIX: the stream is written in records of 20 blocks.
const RECORD: usize = 20 * BLOCK;
static ZEROS: [u8; RECORD] = [0; RECORD];

/// Writes a tar stream member by member: a header as in ustar, and an extended one before it only where that has no
/// room for something, so that old programs read most of it.
pub struct Writer<W: Write> {
    out: W,
    /// Bytes that were written.
    at: u64,
    /// Bytes that are still to come of the current file.
    left: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, at: 0, left: 0 }
    }

    /// Begins a member; the data of the one before must be complete. [`TarError::Unwritable`] leaves the
    /// stream as it was: the member may be left out.
    pub fn member(&mut self, member: &Member) -> Result<(), TarError> {
        if self.left > 0 {
            return Err(TarError::Unwritable("the file before it has not got all of its data"));
        }
        check(member)?;
        let (header, records) = headers(member)?;
        let mut bytes = Vec::with_capacity(records.len() + 3 * BLOCK);
        if !records.is_empty() {
            bytes.extend_from_slice(&extended(member, records.len() as u64));
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend_from_slice(&header);
        self.write(&bytes)?;
        self.left = member.size;
        Ok(())
    }

    /// Data of the current file; in all as much as its member stated.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        let len = bytes.len() as u64;
        let left =
            self.left.checked_sub(len).ok_or(TarError::Unwritable("a file has more data than stated"))?;
        self.write(bytes)?;
        self.left = left;
        if left == 0 { self.fill(BLOCK) } else { Ok(()) }
    }

    /// Fills a file whose source ended early with zeros, so that the stream stays whole; says with how many. Whoever
    /// calls it says that the archive is incomplete.
    pub fn pad_member(&mut self) -> Result<u64, TarError> {
        let missing = self.left;
        while self.left > 0 {
            let now = ZEROS.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.data(&ZEROS[..now])?;
        }
        Ok(missing)
    }

    /// Bytes that are still to come of the current file.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Bytes of the stream so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.at
    }

    /// What it is written to.
    #[must_use]
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Ends the archive and gives back what it was written to.
    pub fn finish(mut self) -> Result<W, TarError> {
        if self.left > 0 {
            return Err(TarError::Unwritable("the last file has not got all of its data"));
        }
        self.write(&[0; 2 * BLOCK])?;
        self.fill(RECORD)?;
        Ok(self.out)
    }

    /// Zeros up to the next multiple.
    fn fill(&mut self, multiple: usize) -> Result<(), TarError> {
        let missing = self.at.next_multiple_of(multiple as u64) - self.at;
        let missing = usize::try_from(missing).unwrap_or_default();
        self.write(&ZEROS[..missing.min(RECORD)])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn check(member: &Member) -> Result<(), TarError> {
    let bad_name = |name: &[u8]| name.is_empty() || name.contains(&0) || name.len() > pax::TEXT;
    let what = match &member.kind {
        _ if bad_name(&member.path) || member.path.ends_with(b"/") => "its name is no name of a file",
        MemberKind::Symlink(to) | MemberKind::Hardlink(to) if bad_name(to) => {
            "its target is no name of a file"
        }
        MemberKind::Device | MemberKind::Other(_) => "devices and the like are not stored",
        MemberKind::File if member.size > limits::FILE_SIZE => "it is too large",
        kind if !matches!(kind, MemberKind::File) && member.size > 0 => "only files have data",
        _ if [&member.user, &member.group]
            .into_iter()
            .any(|name| name.contains(&0) || name.len() > pax::TEXT) =>
        {
            "its owner has no name that can be written"
        }
        _ if member.uid.max(member.gid) > i64::MAX.unsigned_abs() => {
            "its owner has no number that can be written"
        }
        _ if member.xattrs.len() > limits::XATTRS => "it has too many extended attributes",
        _ if member.xattrs.iter().any(|(_, value)| value.len() > limits::XATTR_VALUE) => {
            "its extended attributes are too large"
        }
        _ if member.xattrs.iter().any(|(name, _)| bad_name(name)) => "an extended attribute has no name",
        _ => return Ok(()),
    };
    Err(TarError::Unwritable(what))
}

/// The header of a member, and the records of what it has no room for.
fn headers(member: &Member) -> Result<(Block, Vec<u8>), TarError> {
    let (typeflag, target) = match &member.kind {
        MemberKind::File | MemberKind::Device | MemberKind::Other(_) => (b'0', &b""[..]),
        MemberKind::Hardlink(to) => (b'1', to.as_slice()),
        MemberKind::Symlink(to) => (b'2', to.as_slice()),
        MemberKind::Directory => (b'5', &b""[..]),
        MemberKind::Fifo => (b'6', &b""[..]),
    };
    let (mut block, mut records) = ([0; BLOCK], Vec::new());
    let mut path = member.path.clone();
    if typeflag == b'5' {
        path.push(b'/');
    }
    if !set_path(&mut block, &path) {
        pax::push(&mut records, b"path", &path);
    }
    if !set_text(&mut block[LINK], target) {
        pax::push(&mut records, b"linkpath", target);
    }
    for (key, field, name) in [(&b"uname"[..], USER, &member.user), (b"gname", GROUP, &member.group)] {
        // These two end with a NUL in any case.
        if !set_text(&mut block[field.start..field.end - 1], name) {
            pax::push(&mut records, key, name);
        }
    }
    for (key, field, n) in
        [(&b"uid"[..], UID, member.uid), (b"gid", GID, member.gid), (b"size", SIZE, member.size)]
    {
        if n > most(&field) {
            pax::push(&mut records, key, n.to_string().as_bytes());
        }
        set_number(&mut block, field, n);
    }
    let mtime = member.mtime;
    if !set_time(&mut block, mtime) {
        let mtime = Timestamp { secs: mtime.secs.max(-i64::MAX), nanos: mtime.nanos };
        pax::push(&mut records, b"mtime", pax::time_text(mtime).as_bytes());
    }
    for (name, value) in &member.xattrs {
        pax::push_xattr(&mut records, name, value);
    }
    if records.len() as u64 > pax::MOST {
        return Err(TarError::Unwritable("its extended attributes are too large"));
    }
    set_number(&mut block, MODE, u64::from(member.mode & 0o7777));
    finish(&mut block, typeflag);
    Ok((block, records))
}

/// The header of the extended header itself. Its name is for programs that know of none.
fn extended(member: &Member, size: u64) -> Block {
    let mut block = [0; BLOCK];
    let name = member.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    set_text(&mut block[NAME], &[b"PaxHeaders/", &name[..name.len().min(80)]].concat());
    set_number(&mut block, MODE, 0o644);
    set_number(&mut block, UID, 0);
    set_number(&mut block, GID, 0);
    set_number(&mut block, SIZE, size);
    set_time(&mut block, member.mtime);
    finish(&mut block, b'x');
    block
}

fn finish(block: &mut Block, typeflag: u8) {
    block[TYPE] = typeflag;
    block[MAGIC].copy_from_slice(POSIX);
    block[DEVICE].copy_from_slice(b"0000000\x000000000\0");
    debug_assert!(block[CHECKSUM].iter().all(|&b| b == 0), "the sum comes last");
    set_sum(block);
}

/// Writes a name into a field, as much as there is room for; says whether that was all.
fn set_text(field: &mut [u8], text: &[u8]) -> bool {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
    n == text.len()
}

/// Writes a path into the name, or cut at a slash into prefix and name.
fn set_path(block: &mut Block, path: &[u8]) -> bool {
    if path.len() <= NAME.len() {
        return set_text(&mut block[NAME], path);
    }
    // The name is not empty, so that the slash at the end of a directory is none to cut at.
    let slashes = || path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    let fits =
        |at: &usize| (1..=PREFIX.len()).contains(at) && (1..=NAME.len()).contains(&(path.len() - at - 1));
    match slashes().find(fits) {
        Some(at) => set_text(&mut block[PREFIX], &path[..at]) && set_text(&mut block[NAME], &path[at + 1..]),
        None => {
            set_text(&mut block[NAME], path);
            false
        }
    }
}

/// Writes whole seconds, or the nearest that the field has room for; says whether that was all.
fn set_time(block: &mut Block, time: Timestamp) -> bool {
    let secs = u64::try_from(time.secs).unwrap_or(0).min(most(&MTIME));
    set_number(block, MTIME, secs);
    time.nanos == 0 && i64::try_from(secs) == Ok(time.secs)
}
