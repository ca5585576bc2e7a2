//! The sink's side of the destination file: what SQLite writes, checked page by page.

use std::any::Any;
use std::io;

/// Offset of the page that SQLite uses for locks and never writes.
pub(super) const LOCK_BYTE: u64 = 0x4000_0000;

/// Takes the pages of a database image as SQLite hands them over.
///
/// All calls come on the thread that called [`capture()`](super::capture()).
pub trait PageSink {
    /// Starts an image of `page_count` pages of `page_size` bytes: its length is the product,
    /// whether or not the last page is written.
    ///
    /// Comes again when a capture had to be started anew because another process opened the
    /// database half-way: all that was written before is void then.
    fn begin(&mut self, page_size: u32, page_count: u32) -> io::Result<()>;

    /// Takes one page, `offset` bytes into the image.
    ///
    /// Pages ascend, except page 1, which comes late, and sometimes a few others. Each page comes
    /// exactly once; in images above 1 GiB the page that holds byte 2^30, used for locks only,
    /// never comes: it is to read as zeros.
    fn write(&mut self, offset: u64, page: &[u8]) -> io::Result<()>;
}

/// Why a stream can take no more.
pub(super) enum Failure {
    /// The sink failed.
    Sink(io::Error),
    /// The sink panicked.
    Panic(Box<dyn Any + Send>),
    /// SQLite did what the stream cannot represent.
    Protocol(String),
}

/// An image being written.
pub(super) struct Stream<'a> {
    sink: &'a mut dyn PageSink,
    page_size: u32,
    page_count: u32,
    /// One bit a page: 32 KiB for each GiB of 4 KiB pages.
    written: Vec<u64>,
    pages_written: u32,
    first_page: Vec<u8>,
    /// End of the last page written so far.
    end: u64,
    failure: Option<Failure>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(sink: &'a mut dyn PageSink) -> Self {
        Self {
            sink,
            page_size: 0,
            page_count: 0,
            written: Vec::new(),
            pages_written: 0,
            first_page: Vec::new(),
            end: 0,
            failure: None,
        }
    }

    /// True when the sink is ready for pages.
    pub(super) fn begin(&mut self, page_size: u32, page_count: u32) -> bool {
        (self.page_size, self.page_count) = (page_size, page_count);
        self.written = vec![0; (page_count as usize).div_ceil(64)];
        match self.sink.begin(page_size, page_count) {
            Ok(()) => true,
            Err(error) => self.fail(Failure::Sink(error)),
        }
    }

    /// Keeps the first failure: the later ones follow from it.
    pub(super) fn fail(&mut self, failure: Failure) -> bool {
        self.failure.get_or_insert(failure);
        false
    }

    fn refuse(&mut self, what: &str, offset: i64, len: usize) -> bool {
        self.fail(Failure::Protocol(format!("unexpected {what} of {len} bytes at {offset}")))
    }

    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// True when the page was taken.
    pub(super) fn write(&mut self, page: &[u8], offset: i64) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let size = u64::from(self.page_size);
        let Ok(at) = u64::try_from(offset) else { return self.refuse("write", offset, page.len()) };
        if size == 0 || page.len() as u64 != size || at % size != 0 || at / size >= u64::from(self.page_count)
        {
            return self.refuse("write", offset, page.len());
        }
        let index = at / size;
        let bit = 1 << (index % 64);
        let word = usize::try_from(index / 64).ok().and_then(|i| self.written.get_mut(i));
        let Some(word) = word.filter(|w| **w & bit == 0) else {
            return self.refuse("second write", offset, page.len());
        };
        *word |= bit;
        self.pages_written += 1;
        if index == 0 {
            self.first_page = page.to_vec();
        }
        self.end = self.end.max(at + size);
        match self.sink.write(at, page) {
            Ok(()) => true,
            Err(error) => self.fail(Failure::Sink(error)),
        }
    }

    /// Fills `buf`, which comes zeroed: `Some(false)` is a read past the end, `None` one that
    /// cannot be answered because the page has left.
    pub(super) fn read(&mut self, buf: &mut [u8], offset: i64) -> Option<bool> {
        if self.end == 0 {
            return Some(false);
        }
        let kept = usize::try_from(offset).ok().and_then(|at| self.first_page.get(at..at + buf.len()));
        if let Some(kept) = kept {
            buf.copy_from_slice(kept);
            return Some(true);
        }
        self.refuse("read", offset, buf.len());
        None
    }

    /// True when the new size is the present one: SQLite has no reason to ask for another.
    pub(super) fn truncate(&mut self, size: i64) -> bool {
        u64::try_from(size) == Ok(self.end) || self.refuse("truncation", size, 0)
    }

    pub(super) fn size(&self) -> i64 {
        i64::try_from(self.end).unwrap_or(i64::MAX)
    }

    /// Checks that every page has come.
    pub(super) fn finish(&mut self) -> Option<Failure> {
        let lock_page = LOCK_BYTE / u64::from(self.page_size.max(1));
        let expected = self.page_count - u32::from(lock_page < u64::from(self.page_count));
        (self.pages_written != expected)
            .then(|| Failure::Protocol(format!("{} of {expected} pages were written", self.pages_written)))
    }
}
