//! An image from its first byte to its last, for who cannot put pages into their places afterwards.
//!
//! SQLite's backup hands over page 1 last, since it sets fields of it at the end. So the pinned source is copied
//! twice: once for the number of pages and for page 1, and once for all others, in order. Both copies are of one read
//! transaction, and page 1 is compared when it comes again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::capture::{Pinned, Stop, attempts};
use super::stream::LOCK_BYTE;
use super::{CaptureError, CaptureOptions, Captured, PageSink};

/// Bytes of pages that came before their turn, at most: far more than SQLite's cache of 64 pages holds back.
const MAX_HELD: usize = 8 << 20;

/// Takes an image in the order of its bytes.
pub trait ImageSink {
    /// The image will have so many bytes. Comes before the first of them, and once: what goes wrong afterwards is an
    /// error of the capture.
    fn begin(&mut self, size: u64) -> io::Result<()>;

    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Streams a consistent image of the database at `path` to `sink`, as [`capture()`](super::capture()) does, but in
/// the order of its bytes and with its length known beforehand.
///
/// # Errors
///
/// Those of [`capture()`](super::capture()). Once the sink was told the length, the image is either whole or an error
/// is returned; nothing begins anew then.
pub fn capture_in_order(
    path: &Path,
    options: &CaptureOptions,
    sink: &mut dyn ImageSink,
) -> Result<Captured, CaptureError> {
    let mut begun = false;
    attempts(path, options, &mut |pinned| copy(pinned, &mut begun, sink))
}

fn copy(pinned: &Pinned<'_>, begun: &mut bool, sink: &mut dyn ImageSink) -> Result<u32, Stop> {
    if *begun {
        return Err(CaptureError::Unstable.into());
    }
    let mut first = FirstPage::default();
    let count = pinned.copy_to(&mut first)?;
    // The last moment at which it may begin anew.
    pinned.settled()?;
    *begun = true;
    let mut ordered = Ordered { first, sink, next: 0, size: 0, held: BTreeMap::new(), bytes: 0 };
    let again = pinned.copy_to(&mut ordered)?;
    ordered.finish().map_err(|e| Stop::from(CaptureError::Sink(e)))?;
    // The same transaction has the same number of pages.
    if again == count { Ok(count) } else { Err(CaptureError::Unstable.into()) }
}

/// Keeps page 1 alone.
#[derive(Default)]
struct FirstPage {
    page_size: u32,
    page_count: u32,
    page: Vec<u8>,
}

impl PageSink for FirstPage {
    fn begin(&mut self, page_size: u32, page_count: u32) -> io::Result<()> {
        *self = Self { page_size, page_count, page: Vec::new() };
        Ok(())
    }

    fn write(&mut self, offset: u64, page: &[u8]) -> io::Result<()> {
        if offset == 0 {
            self.page = page.to_vec();
        }
        Ok(())
    }
}

/// Puts pages in order.
struct Ordered<'a> {
    first: FirstPage,
    sink: &'a mut dyn ImageSink,
    /// Where the next page belongs.
    next: u64,
    size: u64,
    /// Pages that came before their turn, by their places.
    held: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

fn broken(what: &'static str) -> io::Error {
    io::Error::other(what)
}

impl Ordered<'_> {
    fn emit(&mut self, page: &[u8]) -> io::Result<()> {
        self.sink.write(page)?;
        self.next += page.len() as u64;
        Ok(())
    }

    /// Hands on what is due now: pages that waited, and zeros for the page of the locks, which never comes.
    fn go_on(&mut self) -> io::Result<()> {
        let size = u64::from(self.first.page_size);
        while self.next < self.size {
            if let Some(page) = self.held.remove(&self.next) {
                self.bytes -= page.len();
                self.emit(&page)?;
            } else if (self.next..self.next + size).contains(&LOCK_BYTE) {
                self.emit(&vec![0; self.first.page.len()])?;
            } else {
                break;
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        match self.next == self.size && self.held.is_empty() {
            true => Ok(()),
            false => Err(broken("the image ended before its last page")),
        }
    }
}

impl PageSink for Ordered<'_> {
    fn begin(&mut self, page_size: u32, page_count: u32) -> io::Result<()> {
        let first = &self.first;
        if (first.page_size, first.page_count) != (page_size, page_count)
            || first.page.len() as u64 != u64::from(page_size)
        {
            return Err(broken("the database changed between two looks at one transaction"));
        }
        self.size = u64::from(page_size) * u64::from(page_count);
        self.sink.begin(self.size)?;
        let page = self.first.page.clone();
        self.emit(&page)?;
        self.go_on()
    }

    fn write(&mut self, offset: u64, page: &[u8]) -> io::Result<()> {
        if offset == 0 {
            return match page == self.first.page {
                true => Ok(()),
                false => Err(broken("the first page changed between two looks at one transaction")),
            };
        }
        if offset == self.next {
            self.emit(page)?;
            return self.go_on();
        }
        self.bytes += page.len();
        if offset < self.next || self.bytes > MAX_HELD {
            return Err(broken("the pages come in no order that can be waited for"));
        }
        self.held.insert(offset, page.to_vec());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Counts, and keeps what is no run of zeros.
    #[derive(Default)]
    struct Taken {
        size: Option<u64>,
        at: u64,
        pages: Vec<(u64, u8)>,
    }

    impl ImageSink for Taken {
        fn begin(&mut self, size: u64) -> io::Result<()> {
            assert_eq!(self.size.replace(size), None);
            Ok(())
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.pages.push((self.at, bytes[0]));
            self.at += bytes.len() as u64;
            Ok(())
        }
    }

    fn page(size: u32, value: u8) -> Vec<u8> {
        vec![value; size as usize]
    }

    /// Hands pages over in this order, given by their numbers from 0; page 1 comes where it is told.
    fn run(size: u32, count: u32, order: &[u32]) -> (Taken, io::Result<()>) {
        let mut taken = Taken::default();
        let first = FirstPage { page_size: size, page_count: count, page: page(size, 1) };
        let mut ordered =
            Ordered { first, sink: &mut taken, next: 0, size: 0, held: BTreeMap::new(), bytes: 0 };
        ordered.begin(size, count).unwrap();
        let all = order.iter().try_for_each(|n| {
            let value = u8::try_from(n % 250).unwrap() + 1;
            ordered.write(u64::from(*n) * u64::from(size), &page(size, value))
        });
        let result = all.and_then(|()| ordered.finish());
        (taken, result)
    }

    #[test]
    fn pages_come_out_in_order_whatever_comes_late() {
        for order in [&[1, 2, 3, 0][..], &[2, 3, 1, 0], &[0, 3, 2, 1], &[1, 3, 0, 2]] {
            let (taken, result) = run(512, 4, order);
            result.unwrap();
            assert_eq!((taken.size, taken.at), (Some(2048), 2048));
            assert_eq!(taken.pages, [(0, 1), (512, 2), (1024, 3), (1536, 4)], "{order:?}");
        }
    }

    #[test]
    fn the_page_of_the_locks_reads_as_zeros() {
        let size = 65_536;
        let lock = 16_384;
        for count in [lock + 1, lock + 2] {
            let order: Vec<u32> = (1..count).filter(|n| *n != lock).chain([0]).collect();
            let (taken, result) = run(size, count, &order);
            result.unwrap();
            assert_eq!(taken.at, u64::from(count) * u64::from(size));
            assert_eq!(taken.pages[lock as usize], (LOCK_BYTE, 0));
        }
    }

    #[test]
    fn a_page_that_is_missing_another_first_page_and_too_many_that_wait_are_errors() {
        assert!(run(512, 4, &[1, 3, 0]).1.is_err());
        let mut taken = Taken::default();
        let first = FirstPage { page_size: 512, page_count: 2, page: page(512, 1) };
        let mut ordered =
            Ordered { first, sink: &mut taken, next: 0, size: 0, held: BTreeMap::new(), bytes: 0 };
        ordered.begin(512, 2).unwrap();
        assert!(ordered.write(0, &page(512, 2)).is_err());
        let order: Vec<u32> = (2..200).collect();
        let error = run(65_536, 300, &order).1.unwrap_err();
        assert!(error.to_string().contains("no order"), "{error}");
    }
}
