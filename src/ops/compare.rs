//! Two trees side by side: snapshots, or a snapshot and what a backup would store now.

mod links;

use std::collections::HashMap;

pub(super) use self::links::Links;
use super::content::{self, Verdict};
use crate::model::{Entry, EntryKind, ManifestRef, RepoPath};
use crate::repo::{BlobReader, ManifestReader, RepoError};

/// One path of either tree, or of both.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The entry of the old tree.
    pub old: Option<Entry>,
    /// The entry of the new tree.
    pub new: Option<Entry>,
    /// For a further name of a file of the old tree: its first name.
    pub old_link: Option<RepoPath>,
}

impl Pair {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        static ROOT: std::sync::LazyLock<RepoPath> = std::sync::LazyLock::new(RepoPath::root);
        self.old.as_ref().or(self.new.as_ref()).map_or(&ROOT, |entry| &entry.path)
    }
}

/// How the entries of one path differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only the new tree has it.
    Added,
    /// Only the old tree has it.
    Removed,
    /// It is a file in one and something else in the other.
    Type,
    /// File content, link target or device number.
    Content,
    /// It is another name of another file, as [`Links`] tells.
    Link,
    /// Only mode, owner, time or extended attributes.
    Metadata,
}

/// Names met of files with several.
#[derive(Default)]
struct Names(HashMap<u64, RepoPath>);

impl Names {
    /// The first name of the file, when this one is another.
    fn first(&mut self, entry: &Entry) -> Option<RepoPath> {
        if entry.link_group == 0 || entry.content().is_none() {
            return None;
        }
        let first = self.0.entry(entry.link_group).or_insert_with(|| entry.path.clone());
        (*first != entry.path).then(|| first.clone())
    }
}

/// Takes the pairs of a comparison, in manifest order.
pub type Each<'a> = dyn FnMut(Pair) -> Result<(), RepoError> + 'a;

/// Merges an old tree, read from the repository, with a new one that is told entry by entry.
pub struct Merge<'a> {
    reader: ManifestReader<'a>,
    next: Option<Entry>,
    names: Names,
}

impl<'a> Merge<'a> {
    /// Begins with the manifest of the old tree.
    pub fn new(blobs: &'a BlobReader<'a>, old: ManifestRef) -> Result<Self, RepoError> {
        let mut reader = ManifestReader::new(blobs, old);
        let next = reader.next_entry()?;
        Ok(Self { reader, next, names: Names::default() })
    }

    fn take(&mut self) -> Result<Option<Entry>, RepoError> {
        let following = if self.next.is_some() { self.reader.next_entry()? } else { None };
        Ok(std::mem::replace(&mut self.next, following))
    }

    fn removed(&mut self, each: &mut Each<'_>) -> Result<(), RepoError> {
        let Some(old) = self.take()? else { return Ok(()) };
        let old_link = self.names.first(&old);
        each(Pair { old: Some(old), new: None, old_link })
    }

    /// The next entry of the new tree; they come in manifest order.
    pub fn push(&mut self, new: &Entry, each: &mut Each<'_>) -> Result<(), RepoError> {
        while self.next.as_ref().is_some_and(|old| old.path < new.path) {
            self.removed(each)?;
        }
        let old =
            if self.next.as_ref().is_some_and(|old| old.path == new.path) { self.take()? } else { None };
        let old_link = old.as_ref().and_then(|old| self.names.first(old));
        each(Pair { old, new: Some(new.clone()), old_link })
    }

    /// The new tree has no more entries.
    pub fn finish(mut self, each: &mut Each<'_>) -> Result<(), RepoError> {
        while self.next.is_some() {
            self.removed(each)?;
        }
        Ok(())
    }
}

/// Compares two snapshots. What their manifests have in common is passed over without being read, so not
/// every pair of equal entries is told; a link's first name may be among what is not.
pub fn snapshots(
    blobs: &BlobReader<'_>,
    old: ManifestRef,
    new: ManifestRef,
    each: &mut Each<'_>,
) -> Result<(), RepoError> {
    let mut olds = ManifestReader::without_parents(blobs, old);
    let mut news = ManifestReader::without_parents(blobs, new);
    let mut names = Names::default();
    let (mut from, mut to) = (None, None);
    loop {
        if from.is_none() && to.is_none() {
            olds.skip_common(&mut news)?;
        }
        if from.is_none() {
            from = olds.next_entry()?;
        }
        if to.is_none() {
            to = news.next_entry()?;
        }
        let order = match (&from, &to) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(from), Some(to)) => from.path.cmp(&to.path),
        };
        let old = if order.is_le() { from.take() } else { None };
        let new = if order.is_ge() { to.take() } else { None };
        let old_link = old.as_ref().and_then(|old| names.first(old));
        each(Pair { old, new, old_link })?;
    }
}

/// How to see what the metadata of two entries leave open.
pub trait Settle {
    /// True when the contents, which have one length, are the same.
    fn same_content(&self, old: &Entry, new: &Entry) -> Result<bool, RepoError>;
}

/// Both trees are in the repository.
impl Settle for BlobReader<'_> {
    fn same_content(&self, old: &Entry, new: &Entry) -> Result<bool, RepoError> {
        let (Some(old), Some(new)) = (old.content(), new.content()) else { return Ok(false) };
        content::same_bytes(old, new, self).map_err(|e| match e {
            content::Error::Repo(e) => e,
            // A hasher takes everything.
            content::Error::Output(_) => RepoError::Worker,
        })
    }
}

/// What of the metadata counts.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Owner and group.
    pub owner: bool,
    /// Times of last modification of directories, which every change of a name in them sets.
    pub directory_times: bool,
}

/// How the entries of a pair differ; `None` when they are the same. Whether they are names of one file is
/// for [`Links`] to tell, which sees other pairs too.
pub fn change(
    pair: &Pair,
    blobs: &BlobReader<'_>,
    settle: &dyn Settle,
    attention: Attention,
) -> Result<Option<Change>, RepoError> {
    let (old, new) = match (&pair.old, &pair.new) {
        (Some(old), Some(new)) => (old, new),
        (Some(_), None) => return Ok(Some(Change::Removed)),
        (None, Some(_)) => return Ok(Some(Change::Added)),
        (None, None) => return Ok(None),
    };
    match (&old.kind, &new.kind) {
        (EntryKind::File(from), EntryKind::File(to)) => {
            let same = match content::compare(from, to, blobs)? {
                Verdict::Same => true,
                Verdict::Different => false,
                Verdict::Open => settle.same_content(old, new)?,
            };
            if !same {
                return Ok(Some(Change::Content));
            }
        }
        (EntryKind::Directory, EntryKind::Directory) | (EntryKind::Fifo, EntryKind::Fifo) => {}
        (EntryKind::Symlink(from), EntryKind::Symlink(to)) if from == to => {}
        (EntryKind::CharDevice(a, b), EntryKind::CharDevice(c, d))
        | (EntryKind::BlockDevice(a, b), EntryKind::BlockDevice(c, d))
            if (a, b) == (c, d) => {}
        (from, to) if std::mem::discriminant(from) == std::mem::discriminant(to) => {
            return Ok(Some(Change::Content));
        }
        _ => return Ok(Some(Change::Type)),
    }
    Ok((!same_metadata(old, new, attention)).then_some(Change::Metadata))
}

fn same_metadata(old: &Entry, new: &Entry, attention: Attention) -> bool {
    let (a, b) = (&old.meta, &new.meta);
    // A link's own mode means nothing.
    (a.mode == b.mode || matches!(old.kind, EntryKind::Symlink(_)))
        && (a.mtime == b.mtime || old.is_dir() && !attention.directory_times)
        && a.xattrs == b.xattrs
        && (a.owner == b.owner || !attention.owner)
}

#[cfg(test)]
mod tests;
