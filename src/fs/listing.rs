//! The names in a directory, in one allocation.

use std::io;

use rustix::fd::AsFd;

use super::FileKind;

/// What a listing tells of a name's type without asking for its metadata.
pub type NameKind = FileKind;

/// The names of one directory without `.` and `..`, each with its type as far as the file system
/// tells it ([`FileKind::Unknown`] where it does not).
///
/// The bytes of all names share one buffer: a directory of a million names costs two allocations,
/// and a walk that reuses a `Listing` soon costs none.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    bytes: Vec<u8>,
    names: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    /// The first eight bytes as a big-endian number: decides most comparisons without a look at the names.
    prefix: u64,
    start: usize,
    len: u16,
    kind: NameKind,
}

impl Listing {
    /// An empty listing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True when there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name at `index` and its type.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&[u8], NameKind)> {
        self.names.get(index).map(|span| (self.name(span), span.kind))
    }

    /// All names in their present order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], NameKind)> {
        self.names.iter().map(|span| (self.name(span), span.kind))
    }

    /// Sorts the names by their bytes.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        let name = |span: &Span| &bytes[span.start..span.start + usize::from(span.len)];
        self.names.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| name(a).cmp(name(b))));
    }

    /// The type of a name of a sorted listing; `None` when it is not there.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<NameKind> {
        let at = self.names.binary_search_by(|span| self.name(span).cmp(name)).ok()?;
        Some(self.names[at].kind)
    }

    /// Forgets the names and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.names.clear();
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.names.capacity() * size_of::<Span>()
    }

    fn name(&self, span: &Span) -> &[u8] {
        &self.bytes[span.start..span.start + usize::from(span.len)]
    }

    fn push(&mut self, name: &[u8], kind: NameKind) {
        // A name longer than 65,535 bytes exists on no system; not listing it is not an option, so
        // it is cut, and asking for its metadata then fails visibly.
        let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        if matches!(name, b"." | b"..") {
            return;
        }
        let mut prefix = [0; 8];
        let head = name.len().min(8);
        prefix[..head].copy_from_slice(&name[..head]);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&name[..usize::from(len)]);
        self.names.push(Span { prefix: u64::from_be_bytes(prefix), start, len, kind });
    }

    /// Adds the names of an open directory, read from the handle's present position.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn read(&mut self, dir: impl AsFd) -> io::Result<()> {
        use std::cell::RefCell;

        // 64 KiB hold some 2,000 names: one system call for nearly every directory. Kept from one
        // directory to the next, since a fresh buffer of this size costs more than a small listing.
        const BUFFER: usize = 64 * 1024;
        thread_local! {
            static ENTRIES: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(BUFFER));
        }
        ENTRIES.with_borrow_mut(|buffer| {
            let mut entries = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                match entry {
                    Ok(entry) => self.push(entry.file_name().to_bytes(), entry.file_type().into()),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })
    }

    /// Adds the names of an open directory, read from the handle's present position.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn read(&mut self, dir: impl AsFd) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            self.push(entry.file_name().to_bytes(), entry.file_type().into());
        }
        Ok(())
    }
}
