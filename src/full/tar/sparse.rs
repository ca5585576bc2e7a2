//! Maps of sparse files, in the four ways in which GNU tar writes them ("Storing Sparse Files" in its manual).

use super::header::{Block, number};
use super::pax::{decimal, name};

/// Pieces of data of one file. Each takes 16 bytes of memory.
pub(super) const MOST: usize = 1 << 20;
const ORDER: &str = "the map of a sparse file is not in order";
const MANY: &str = "the map of a sparse file is too long";
const MALFORMED: &str = "the map of a sparse file is malformed";

/// Offset and length of the pieces of a file that have data.
pub(super) type Map = Vec<(u64, u64)>;

/// Refuses a map that does not ascend, does not fit into the file, or has not as much data as is stored.
pub(super) fn check(map: &Map, size: u64, stored: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    for &(offset, length) in map {
        if offset < end {
            return Err(ORDER);
        }
        end = offset.checked_add(length).filter(|end| *end <= size).ok_or(ORDER)?;
        sum += length;
    }
    if sum == stored { Ok(()) } else { Err("a sparse file has not as much data as its map says") }
}

fn push(map: &mut Map, piece: (u64, u64)) -> Result<(), &'static str> {
    if map.len() == MOST {
        return Err(MANY);
    }
    map.push(piece);
    Ok(())
}

/// What extended headers say of a sparse file: forms 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    /// The file's own name, where the header has another.
    pub(super) name: Option<Vec<u8>>,
    /// The file's size: `size` in forms 0, `realsize` in form 1.0.
    size: Option<u64>,
    real_size: Option<u64>,
    blocks: Option<u64>,
    offset: Option<u64>,
    map: Map,
    has_map: bool,
}

/// What the records come to.
pub(super) enum Sparse {
    /// The file is not sparse.
    Not,
    /// Its size and map.
    Known(u64, Map),
    /// Its size; the map stands before its data.
    InData(u64),
}

impl SparseRecords {
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"realsize" => self.real_size = Some(decimal(value)?),
            b"numblocks" => self.blocks = Some(decimal(value)?),
            b"offset" => self.begin(decimal(value)?)?,
            b"numbytes" => {
                let offset = self.offset.take().ok_or(MALFORMED)?;
                push(&mut self.map, (offset, decimal(value)?))?;
            }
            b"map" => self.whole(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Form 0.0: pairs of records, whose order matters.
    fn begin(&mut self, offset: u64) -> Result<(), &'static str> {
        self.has_map = true;
        if self.offset.replace(offset).is_some() { Err(MALFORMED) } else { Ok(()) }
    }

    /// Form 0.1: all of it in one record.
    fn whole(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if std::mem::replace(&mut self.has_map, true) {
            return Err(MALFORMED);
        }
        let mut numbers = value.split(|&b| b == b',').map(decimal);
        while let Some(offset) = numbers.next() {
            push(&mut self.map, (offset?, numbers.next().ok_or(MALFORMED)??))?;
        }
        Ok(())
    }

    /// What all of it means. Records of two forms at once could be read in two ways.
    pub(super) fn finish(self) -> Result<Sparse, &'static str> {
        let form_0 = self.size.is_some() || self.blocks.is_some() || self.has_map;
        match (self.major, self.minor) {
            (Some(1), Some(0)) if !form_0 => Ok(Sparse::InData(self.real_size.ok_or(MALFORMED)?)),
            (None, None) if form_0 => {
                let count = self.blocks.is_none_or(|blocks| blocks == self.map.len() as u64);
                if self.offset.is_some() || !self.has_map || !count || self.real_size.is_some() {
                    return Err(MALFORMED);
                }
                Ok(Sparse::Known(self.size.ok_or(MALFORMED)?, self.map))
            }
            (None, None) if self.real_size.is_none() && self.name.is_none() => Ok(Sparse::Not),
            _ => Err("a sparse file is of an unknown form, or of two"),
        }
    }
}

/// Form 1.0: decimal numbers, a line each, before the data: how many pieces, then offset and length of each.
#[derive(Default)]
pub(super) struct MapReader {
    count: Option<u64>,
    offset: Option<u64>,
    number: Vec<u8>,
    map: Map,
}

impl MapReader {
    /// Takes a block; gives the map when it was the last. What follows in the block is filling.
    pub(super) fn take(&mut self, block: &Block) -> Result<Option<Map>, &'static str> {
        for &byte in block {
            if byte != b'\n' {
                // No number has more digits.
                if self.number.len() == 20 {
                    return Err(MALFORMED);
                }
                self.number.push(byte);
                continue;
            }
            let number = decimal(&self.number).map_err(|_| MALFORMED)?;
            self.number.clear();
            if self.number(number)? {
                return Ok(Some(std::mem::take(&mut self.map)));
            }
        }
        Ok(None)
    }

    fn number(&mut self, number: u64) -> Result<bool, &'static str> {
        let count = match (self.count, self.offset.take()) {
            (None, _) if number > MOST as u64 => return Err(MANY),
            (None, _) => *self.count.insert(number),
            (Some(count), None) => {
                self.offset = Some(number);
                count
            }
            (Some(count), Some(offset)) => {
                push(&mut self.map, (offset, number))?;
                count
            }
        };
        Ok(self.offset.is_none() && self.map.len() as u64 == count)
    }
}

/// The old form of GNU tar: up to four pieces in the header, and more in blocks after it.
#[derive(Default)]
pub(super) struct OldMap {
    map: Map,
    /// A piece that said nothing ends the list.
    ended: bool,
}

impl OldMap {
    /// The pieces of the header, whether a block follows, and the file's size.
    pub(super) fn begin(block: &Block) -> Result<(Self, bool, u64), &'static str> {
        let mut map = Self::default();
        map.pieces(&block[386..482])?;
        Ok((map, more(block[482])?, number(&block[483..495])?))
    }

    /// The pieces of another block, and whether one more follows.
    pub(super) fn extend(&mut self, block: &Block) -> Result<bool, &'static str> {
        self.pieces(&block[..504])?;
        more(block[504])
    }

    pub(super) fn finish(self) -> Map {
        self.map
    }

    fn pieces(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for piece in bytes.chunks_exact(24) {
            if piece.iter().all(|&b| b == 0) {
                self.ended = true;
            } else if self.ended {
                return Err(MALFORMED);
            } else {
                push(&mut self.map, (number(&piece[..12])?, number(&piece[12..])?))?;
            }
        }
        Ok(())
    }
}

fn more(flag: u8) -> Result<bool, &'static str> {
    match flag {
        0 | b'0' => Ok(false),
        1 | b'1' => Ok(true),
        _ => Err(MALFORMED),
    }
}
