//! A file of blocks, each with a checksum: what a lookup reads is checked, and nothing else need be.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::rows::Row;

/// Bytes of a block; one read of a file system.
pub(super) const BLOCK: usize = 4 << 10;
const SUM: usize = 16;
/// Bytes of a block's rows. Rows of 48 and of 20 bytes fill them.
pub(super) const ROOM: usize = BLOCK - SUM;
/// Blocks kept in memory, at most: those of 350,000 blobs.
const KEPT: usize = 4 << 10;

/// Differs in every file, so that no block passes for one of another file.
pub(super) type Nonce = [u8; 24];

/// Of a block whose checksum is zero yet: so it is a power of two long, which is hashed three times as fast.
/// Depends on the block's place too, so that no block passes for another one.
fn checksum(nonce: &Nonce, number: u64, block: &[u8]) -> [u8; SUM] {
    let mut key = [0; 32];
    key[..24].copy_from_slice(nonce);
    key[24..].copy_from_slice(&number.to_le_bytes());
    let mut sum = [0; SUM];
    sum.copy_from_slice(&blake3::keyed_hash(&key, block).as_bytes()[..SUM]);
    sum
}

/// The rows that share a block.
pub(super) const fn rows_per_block<R: Row>() -> u64 {
    (ROOM / R::SIZE) as u64
}

/// The blocks that so many rows take.
pub(super) const fn blocks_of<R: Row>(rows: u64) -> u64 {
    rows.div_ceil(rows_per_block::<R>())
}

type Kept = Mutex<Option<(u64, Arc<Vec<u8>>)>>;

/// Reads blocks.
pub(super) struct Blocks {
    file: File,
    nonce: Nonce,
    /// Block `n` is kept at `n` modulo the length.
    kept: Vec<Kept>,
}

impl Blocks {
    pub(super) fn new(file: File, nonce: Nonce) -> Self {
        let kept = std::iter::repeat_with(Kept::default).take(KEPT).collect();
        Self { file, nonce, kept }
    }

    /// The rows of a block.
    pub(super) fn get(&self, number: u64) -> io::Result<Arc<Vec<u8>>> {
        let slot = usize::try_from(number % KEPT as u64).map_err(io::Error::other)?;
        let lock = || self.kept[slot].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = lock().as_ref().filter(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(rows));
        }
        let rows = Arc::new(self.read(number)?);
        *lock() = Some((number, Arc::clone(&rows)));
        Ok(rows)
    }

    /// The same for who reads each block once.
    pub(super) fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK];
        self.file.read_exact_at(&mut block, number.saturating_mul(BLOCK as u64))?;
        let mut sum = [0; SUM];
        sum.swap_with_slice(&mut block[ROOM..]);
        if sum == checksum(&self.nonce, number, &block) { Ok(block) } else { Err(super::invalid()) }
    }
}

/// Writes blocks.
pub(super) struct BlockWriter<W> {
    out: W,
    nonce: Nonce,
    number: u64,
    rows: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(out: W, nonce: Nonce) -> Self {
        Self { out, nonce, number: 0, rows: Vec::with_capacity(BLOCK) }
    }

    /// Appends a row; tells whether it is the first of its block.
    pub(super) fn row<R: Row>(&mut self, row: &R) -> io::Result<bool> {
        if self.rows.len() + R::SIZE > ROOM {
            self.end_block()?;
        }
        let first = self.rows.is_empty();
        row.encode(&mut self.rows);
        Ok(first)
    }

    /// Rows of one kind share no block with those of another.
    pub(super) fn end_block(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.rows.resize(BLOCK, 0);
        let sum = checksum(&self.nonce, self.number, &self.rows);
        self.rows[ROOM..].copy_from_slice(&sum);
        self.out.write_all(&self.rows)?;
        self.rows.clear();
        self.number += 1;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end_block()?;
        Ok(self.out)
    }
}
