//! An object as a stream of bytes, read in pieces.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use super::{Remote, RemoteError};

/// Bytes asked for with one request. One piece is being used while the next is on its way.
const PIECE: u64 = 8 << 20;

type Piece = Result<Vec<u8>, RemoteError>;

/// Reads an object from its beginning to its end. Each piece is a request of its own, which the remote tries again
/// where that helps, so that a connection that is cut costs a piece and not the whole.
pub struct ObjectReader {
    pieces: Option<Receiver<Piece>>,
    reader: Option<JoinHandle<()>>,
    piece: Vec<u8>,
    at: usize,
}

impl ObjectReader {
    /// Begins to read an object of `size` stored bytes.
    pub fn new(remote: Arc<dyn Remote>, name: &str, size: u64) -> io::Result<Self> {
        // Handed over directly, and only to who waits for it: never more than two pieces in memory.
        let (out, pieces) = bounded::<Piece>(0);
        let name = name.to_string();
        let read = move || {
            let mut at = 0;
            while at < size {
                let len = PIECE.min(size - at);
                let piece = remote.get_range(&name, at, len);
                at += len;
                let over = piece.is_err();
                if out.send(piece).is_err() || over {
                    return;
                }
            }
        };
        let reader = std::thread::Builder::new().name("object".into()).spawn(read)?;
        Ok(Self { pieces: Some(pieces), reader: Some(reader), piece: Vec::new(), at: 0 })
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.pieces.as_ref().map(Receiver::recv) {
                Some(Ok(Ok(piece))) => (self.piece, self.at) = (piece, 0),
                Some(Ok(Err(error))) => return Err(io::Error::other(error)),
                // The thread is at its end.
                Some(Err(_)) | None => return Ok(0),
            }
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        let (Some(from), Some(to)) = (rest.get(..n), buf.get_mut(..n)) else { return Ok(0) };
        to.copy_from_slice(from);
        self.at += n;
        Ok(n)
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        // Whatever it holds out, nobody takes it any more.
        drop(self.pieces.take());
        if let Some(reader) = self.reader.take() {
            // A panic of the thread was reported by it.
            drop(reader.join());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::remote::Memory;

    fn object(len: usize) -> (Arc<dyn Remote>, Vec<u8>) {
        let remote = Memory::default();
        let bytes: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
        remote.put("full/a", &bytes).unwrap();
        (Arc::new(remote), bytes)
    }

    #[test]
    fn an_object_is_read_over_the_borders_of_its_pieces() {
        for len in [0, 1, 8 << 20, (17 << 20) + 5] {
            let (remote, bytes) = object(len);
            let mut read = Vec::new();
            ObjectReader::new(remote, "full/a", len as u64).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{len}");
        }
    }

    #[test]
    fn an_object_that_is_shorter_than_told_is_an_error_and_no_early_end() {
        let (remote, _) = object(100);
        let mut read = Vec::new();
        let error = ObjectReader::new(remote, "full/a", 101).unwrap().read_to_end(&mut read).unwrap_err();
        assert!(error.to_string().contains("100 bytes where 101"), "{error}");
    }

    #[test]
    fn a_reader_may_be_dropped_in_the_midst() {
        let (remote, _) = object(40 << 20);
        let mut reader = ObjectReader::new(remote, "full/a", 40 << 20).unwrap();
        let mut head = [0; 3];
        reader.read_exact(&mut head).unwrap();
        assert_eq!(head, [0, 1, 2]);
    }
}
