//! Members out of a tar stream.

use std::io::{BufReader, Read};

use super::header::{Block, Header};
use super::pax::{self, Pax};
use super::sparse::{self, Map, MapReader, OldMap, Sparse};
use super::{BLOCK, Member, MemberKind, TarError};
use crate::full::Limits;
use crate::model::Timestamp;

const BUFFER: usize = 64 << 10;

/// Reads a tar stream member by member, in memory that neither its length nor its members decide.
///
/// What programs could read in two ways is an error, not a guess: see `format-spec/` section 16.1.
pub struct Reader<R: Read> {
    input: BufReader<R>,
    limits: Limits,
    /// Bytes of the stream that were read.
    at: u64,
    /// Where the headers of the current member began.
    member_at: u64,
    globals: Pax,
    /// Headers of any kind, and those that were members.
    headers: u64,
    members: u64,
    /// Sum of the sizes of all members so far.
    bytes: u64,
    /// What of it is no data but holes.
    holes: u64,
    data: Data,
    ended: bool,
}

/// The data of the current member.
#[derive(Default)]
struct Data {
    /// Pieces that are stored, from the next on, ascending.
    map: std::vec::IntoIter<(u64, u64)>,
    /// The piece that is being read.
    piece: (u64, u64),
    /// How much of the member was read.
    pos: u64,
    size: u64,
    /// Stored bytes that are still to come, and what fills the last block.
    stored: u64,
    filling: u64,
}

/// What came before the header of a member and belongs to it.
#[derive(Default)]
struct Before {
    pax: Option<Pax>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, no more than `limits` allow.
    pub fn new(input: R, limits: Limits) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
            limits,
            at: 0,
            member_at: 0,
            globals: Pax::default(),
            headers: 0,
            members: 0,
            bytes: 0,
            holes: 0,
            data: Data::default(),
            ended: false,
        }
    }

    /// The next member; what is left of the data of the one before is skipped. `None` at the end of the archive, when
    /// `input` was read to its end too.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.skip(self.data.stored + self.data.filling)?;
        self.data = Data::default();
        self.member_at = self.at;
        let mut before = Before::default();
        loop {
            let block = self.block("it has no end: the two blocks of zeros are missing")?;
            if block.iter().all(|&b| b == 0) {
                self.end(&before)?;
                return Ok(None);
            }
            let header = Header::parse(&block).map_err(self.damaged())?;
            self.count_header()?;
            match header.typeflag {
                b'x' | b'X' => {
                    let bytes = self.extension(header.size, pax::MOST)?;
                    let mut pax = self.globals.clone();
                    pax.take(&bytes).map_err(self.damaged())?;
                    self.once(before.pax.replace(pax).is_none())?;
                }
                b'g' => {
                    let bytes = self.extension(header.size, pax::MOST)?;
                    self.globals.take_global(&bytes).map_err(self.damaged())?;
                }
                b'L' => {
                    let name = self.long_name(header.size)?;
                    self.once(before.path.replace(name).is_none())?;
                }
                b'K' => {
                    let name = self.long_name(header.size)?;
                    self.once(before.link.replace(name).is_none())?;
                }
                _ => return self.member(&block, header, before).map(Some),
            }
        }
    }

    /// Data of the current member, holes as zeros; 0 at its end.
    pub fn read_data(&mut self, out: &mut [u8]) -> Result<usize, TarError> {
        let left = self.data.size - self.data.pos;
        let (offset, length) = self.piece();
        let hole = offset - self.data.pos;
        let most = if hole > 0 { hole } else { length }.min(left);
        let room = usize::try_from(most).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..room];
        if out.is_empty() {
            return Ok(0);
        }
        if hole > 0 {
            out.fill(0);
            self.data.pos += room as u64;
            return Ok(room);
        }
        let n = read(&mut self.input, out)?;
        if n == 0 {
            return Err(self.error("it ends in the midst of the data of a member"));
        }
        self.at += n as u64;
        self.data.pos += n as u64;
        self.data.stored -= n as u64;
        self.data.piece = (self.data.pos, length - n as u64);
        Ok(n)
    }

    /// Passes over the hole that the data goes on with, if it does; gives its length. Who makes a file of it goes on so
    /// much further on, which takes no longer for a long hole than for a short one.
    pub fn skip_hole(&mut self) -> u64 {
        let hole = self.piece().0 - self.data.pos;
        self.data.pos += hole;
        hole
    }

    /// Bytes that came out of the archive so far, with the holes of the members up to the current one.
    pub fn unpacked(&self) -> u64 {
        self.at.saturating_add(self.holes)
    }

    /// The piece of data that is being read or comes next. Behind the last there is a hole up to the end.
    fn piece(&mut self) -> (u64, u64) {
        while self.data.piece.1 == 0 {
            self.data.piece = self.data.map.next().unwrap_or((self.data.size, u64::MAX));
        }
        self.data.piece
    }

    fn member(&mut self, block: &Block, header: Header, before: Before) -> Result<Member, TarError> {
        self.count_member()?;
        let mut pax = before.pax.unwrap_or_else(|| self.globals.clone());
        let sparse = std::mem::take(&mut pax.sparse);
        let named = sparse.name.clone();
        let sparse = sparse.finish().map_err(self.damaged())?;
        let path = named.or(pax.path).or(before.path).unwrap_or(header.path);
        let link = pax.link.or(before.link).unwrap_or(header.link);
        let (path, slash) = without_slash(path);
        if path.is_empty() {
            return Err(self.error("a member has no name"));
        }
        let kind = kind(header.typeflag, slash, link);
        if matches!(&kind, MemberKind::Symlink(to) | MemberKind::Hardlink(to) if to.is_empty()) {
            return Err(self.error("a link has no target"));
        }
        let stored = pax.size.unwrap_or(header.size);
        self.begin_data(block, &kind, header.typeflag, stored, sparse)?;
        Ok(Member {
            path,
            kind,
            mode: header.mode,
            uid: pax.uid.unwrap_or(header.uid),
            gid: pax.gid.unwrap_or(header.gid),
            user: pax.user.unwrap_or(header.user),
            group: pax.group.unwrap_or(header.group),
            mtime: pax.mtime.unwrap_or(Timestamp::from_secs(header.mtime)),
            size: self.data.size,
            xattrs: pax.xattrs,
        })
    }

    fn begin_data(
        &mut self,
        block: &Block,
        kind: &MemberKind,
        typeflag: u8,
        stored: u64,
        sparse: Sparse,
    ) -> Result<(), TarError> {
        let is_file = matches!(kind, MemberKind::File);
        // Some programs would take such a size for that of data, and some would not.
        if stored > 0 && !is_file && !matches!(kind, MemberKind::Other(_)) {
            return Err(self.error("a member that cannot have data has a size"));
        }
        if (typeflag == b'S' || !is_file) && !matches!(sparse, Sparse::Not) {
            return Err(self.error("a sparse file is of an unknown form, or of two"));
        }
        self.data.stored = stored;
        self.data.filling = stored.next_multiple_of(BLOCK as u64) - stored;
        let (size, map) = match sparse {
            Sparse::Not if typeflag == b'S' => self.old_map(block)?,
            Sparse::Not => (stored, vec![(0, stored)]),
            Sparse::Known(size, map) => (size, map),
            Sparse::InData(size) => (size, self.map_in_data()?),
        };
        self.count_bytes(size)?;
        sparse::check(&map, size, self.data.stored).map_err(self.damaged())?;
        self.holes = self.holes.saturating_add(size.saturating_sub(self.data.stored));
        self.data.size = size;
        self.data.map = map.into_iter();
        Ok(())
    }

    /// Form 1.0: the map is a part of what is stored.
    fn map_in_data(&mut self) -> Result<Map, TarError> {
        let mut map = MapReader::default();
        while self.data.stored >= BLOCK as u64 {
            let block = self.block("it ends in the midst of the map of a sparse file")?;
            self.data.stored -= BLOCK as u64;
            if let Some(map) = map.take(&block).map_err(self.damaged())? {
                return Ok(map);
            }
        }
        Err(self.error("the map of a sparse file is cut off"))
    }

    /// GNU tar's old form: more of the map may stand between header and data.
    fn old_map(&mut self, block: &Block) -> Result<(u64, Map), TarError> {
        let (mut map, mut more, size) = OldMap::begin(block).map_err(self.damaged())?;
        while more {
            let block = self.block("it ends in the midst of the map of a sparse file")?;
            more = map.extend(&block).map_err(self.damaged())?;
        }
        Ok((size, map.finish()))
    }

    /// After the first of the two blocks of zeros. What comes behind the second is nobody's, but read, so that
    /// whatever `input` checks at its end is checked.
    fn end(&mut self, before: &Before) -> Result<(), TarError> {
        if before.pax.is_some() || before.path.is_some() || before.link.is_some() {
            return Err(self.error("an extended header belongs to no member"));
        }
        let block = self.block("it has no end: the second block of zeros is missing")?;
        if block.iter().any(|&b| b != 0) {
            return Err(self.error("a block of zeros stands between two members"));
        }
        let mut rest = [0; 8 << 10];
        loop {
            let n = read(&mut self.input, &mut rest)?;
            if n == 0 {
                self.ended = true;
                return Ok(());
            }
            self.at += n as u64;
            if self.at > self.limits.bytes.saturating_add(BUFFER as u64) {
                return Err(self.limit("more follows after its end than the archive may have bytes"));
            }
        }
    }

    /// The content of an extension: bounded, and so taken into memory.
    fn extension(&mut self, size: u64, most: u64) -> Result<Vec<u8>, TarError> {
        if size > most {
            return Err(self.limit("an extended header is too long"));
        }
        let mut bytes = Vec::new();
        let n = (&mut self.input).take(size).read_to_end(&mut bytes)? as u64;
        self.at += n;
        if n < size {
            return Err(self.error("it ends in the midst of an extended header"));
        }
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(bytes)
    }

    /// A name of GNU tar, ended by a NUL.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut bytes = self.extension(size, pax::TEXT as u64 + 1)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let rest = bytes.split_off(end);
        if bytes.is_empty() || rest.iter().any(|&b| b != 0) {
            return Err(self.error("a long name is malformed"));
        }
        if bytes.len() > pax::TEXT {
            return Err(self.limit("a long name is too long"));
        }
        Ok(bytes)
    }

    fn once(&self, first: bool) -> Result<(), TarError> {
        if first { Ok(()) } else { Err(self.error("a member has two extended headers of one kind")) }
    }

    fn count_header(&mut self) -> Result<(), TarError> {
        self.headers += 1;
        // A member has three headers before its own at most; the others are global ones, which nobody needs many of.
        if self.headers > self.limits.members.saturating_mul(4).saturating_add(1_000) {
            return Err(self.limit("it has more headers than its members need"));
        }
        Ok(())
    }

    fn count_member(&mut self) -> Result<(), TarError> {
        self.members += 1;
        if self.members > self.limits.members {
            return Err(self.limit("it has more members than it may have"));
        }
        Ok(())
    }

    fn count_bytes(&mut self, size: u64) -> Result<(), TarError> {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(self.limit("its files are larger than it may have bytes"));
        }
        Ok(())
    }

    fn block(&mut self, missing: &'static str) -> Result<Block, TarError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match read(&mut self.input, &mut block[have..])? {
                0 => return Err(self.error(missing)),
                n => have += n,
            }
        }
        self.at += BLOCK as u64;
        Ok(block)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), TarError> {
        let n = std::io::copy(&mut (&mut self.input).take(bytes), &mut std::io::sink())?;
        self.at += n;
        if n == bytes { Ok(()) } else { Err(self.error("it ends in the midst of a member")) }
    }

    fn damaged(&self) -> impl Fn(&'static str) -> TarError + use<R> {
        let at = self.member_at;
        move |what| TarError::Damaged { at, what }
    }

    fn error(&self, what: &'static str) -> TarError {
        TarError::Damaged { at: self.member_at, what }
    }

    fn limit(&self, what: &'static str) -> TarError {
        TarError::Limit { at: self.member_at, what }
    }
}

fn read(input: &mut impl Read, out: &mut [u8]) -> Result<usize, TarError> {
    loop {
        match input.read(out) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return Ok(other?),
        }
    }
}

/// A name without the slashes at its end, and whether there were any. The root keeps its own.
fn without_slash(mut path: Vec<u8>) -> (Vec<u8>, bool) {
    let long = path.len();
    while path.len() > 1 && path.last() == Some(&b'/') {
        path.pop();
    }
    let slash = path.len() < long;
    (path, slash)
}

fn kind(typeflag: u8, slash: bool, link: Vec<u8>) -> MemberKind {
    match typeflag {
        // v7 had no type for directories.
        0 | b'0' if slash => MemberKind::Directory,
        // A contiguous file is one of the same content.
        0 | b'0' | b'7' | b'S' => MemberKind::File,
        b'1' => MemberKind::Hardlink(link),
        b'2' => MemberKind::Symlink(link),
        b'3' | b'4' => MemberKind::Device,
        b'5' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        other => MemberKind::Other(other),
    }
}
