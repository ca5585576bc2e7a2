//! What there is to do: the manifest compared with the target. Makes the directories on the way.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::{Context, Error, Outcome};
use crate::fs::{Dir, FileKind, Stat};
use crate::gather::sqlite;
use crate::model::{Capture, Content, Entry, EntryKind, RepoPath, Slice};
use crate::ops::content::has_content;
use crate::repo::{ManifestReader, load_slices};

/// A file to be written.
pub(super) struct PlannedFile {
    pub(super) entry: Entry,
    pub(super) slices: Vec<Slice>,
    /// Something has this name already: write beside it and rename.
    pub(super) replaces: bool,
}

/// All that a restore has to do.
#[derive(Default)]
pub(super) struct Plan {
    /// Files to be written, in manifest order.
    pub(super) files: Vec<PlannedFile>,
    /// Files with the right content; only their metadata is put right.
    pub(super) same: Vec<Entry>,
    /// Further names of files: the entry and the path of the first name.
    pub(super) links: Vec<(Entry, RepoPath)>,
    /// Symlinks, fifos and devices.
    pub(super) others: Vec<Entry>,
    /// Directories, in manifest order.
    pub(super) dirs: Vec<Entry>,
}

impl Plan {
    /// Bytes of content to be written.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.entry.size()).sum()
    }
}

struct OpenDir {
    path: RepoPath,
    /// `None` when it does not exist (dry run) or could not be made.
    dir: Option<Arc<Dir>>,
    /// Made by this run: nothing can be in it.
    fresh: bool,
}

pub(super) struct Planner<'a, 'b> {
    context: &'a Context<'a>,
    outcome: &'b mut Outcome,
    stack: Vec<OpenDir>,
    first_names: HashMap<u64, RepoPath>,
    plan: Plan,
}

impl<'a, 'b> Planner<'a, 'b> {
    pub(super) fn new(context: &'a Context<'a>, root: Option<Arc<Dir>>, outcome: &'b mut Outcome) -> Self {
        let fresh = root.as_ref().is_none_or(|dir| dir.list().is_ok_and(|names| names.is_empty()));
        let stack = vec![OpenDir { path: RepoPath::root(), dir: root, fresh }];
        Self { context, outcome, stack, first_names: HashMap::new(), plan: Plan::default() }
    }

    pub(super) fn plan(mut self) -> Result<Plan, Error> {
        let manifest = self.context.request.snapshot.manifest;
        let mut paths = self.context.request.paths.clone();
        paths.sort();
        // A path below another one is included in it.
        paths.dedup_by(|b, a| b.starts_with(a));
        if paths.is_empty() || paths.iter().any(RepoPath::is_root) {
            let mut reader = ManifestReader::new(&self.context.blobs, manifest);
            while let Some(entry) = reader.next_entry()? {
                self.entry(entry)?;
            }
            return Ok(self.plan);
        }
        for path in &paths {
            self.ancestors(path)?;
            let mut reader = ManifestReader::from(&self.context.blobs, manifest, path)?;
            let mut found = false;
            while let Some(entry) = reader.next_entry()?.filter(|e| e.path.starts_with(path)) {
                found = true;
                self.entry(entry)?;
            }
            if !found {
                return Err(Error::NoSuchPath(path.to_string()));
            }
        }
        Ok(self.plan)
    }

    /// The directories that lead to a path, with their metadata; the target itself stays as it is.
    fn ancestors(&mut self, path: &RepoPath) -> Result<(), Error> {
        let mut above = Vec::new();
        let mut at = path.parent();
        while let Some(dir) = at.filter(|d| !d.is_root()) {
            at = dir.parent();
            above.push(dir);
        }
        for dir in above.into_iter().rev() {
            if self.plan.dirs.iter().any(|e| e.path == dir) {
                continue;
            }
            let manifest = self.context.request.snapshot.manifest;
            let entry = ManifestReader::find(&self.context.blobs, manifest, &dir)?;
            match entry.filter(Entry::is_dir) {
                Some(entry) => self.entry(entry)?,
                None => return Err(Error::NoSuchPath(path.to_string())),
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Error> {
        if self.context.monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        match &entry.kind {
            EntryKind::Directory => self.outcome.dirs += 1,
            EntryKind::File(_) => self.outcome.files += 1,
            _ => self.outcome.others += 1,
        }
        if entry.path.is_root() {
            self.plan.dirs.push(entry);
            return Ok(());
        }
        while self.stack.last().is_some_and(|d| !entry.path.starts_with(&d.path) && !d.path.is_root()) {
            self.stack.pop();
        }
        let Some(top) = self.stack.last() else { return Ok(()) };
        let (parent, fresh) = (top.dir.clone(), top.fresh);
        let existing = match &parent {
            Some(dir) if !fresh => match dir.stat_at(entry.path.name()) {
                Ok(stat) => Some(stat),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => {
                    self.outcome.fail(self.context.monitor, &entry.path, format!("cannot be looked at: {e}"));
                    return Ok(());
                }
            },
            _ => None,
        };
        match &entry.kind {
            EntryKind::Directory => self.directory(entry, parent.as_deref(), existing.as_ref()),
            EntryKind::File(_) => return self.file(entry, parent.as_deref(), existing.as_ref()),
            _ => self.plan.others.push(entry),
        }
        Ok(())
    }

    fn directory(&mut self, entry: Entry, parent: Option<&Dir>, existing: Option<&Stat>) {
        let is_dir = existing.is_some_and(|s| s.kind == FileKind::Directory);
        let name = entry.path.name();
        let open = || -> io::Result<Option<Dir>> {
            let Some(parent) = parent else { return Ok(None) };
            if self.context.request.dry_run {
                return if is_dir { parent.open_dir(name).map(Some) } else { Ok(None) };
            }
            if existing.is_some() && !is_dir {
                parent.unlink(name)?;
            }
            if !is_dir {
                parent.create_dir(name, 0o700)?;
            }
            parent.open_dir(name).map(Some)
        };
        let dir = match open() {
            Ok(dir) => dir.map(Arc::new),
            Err(e) => {
                self.outcome.fail(
                    self.context.monitor,
                    &entry.path,
                    format!("directory cannot be made: {e}"),
                );
                None
            }
        };
        self.stack.push(OpenDir { path: entry.path.clone(), dir, fresh: !is_dir });
        self.plan.dirs.push(entry);
    }

    fn file(&mut self, entry: Entry, parent: Option<&Dir>, existing: Option<&Stat>) -> Result<(), Error> {
        let context = self.context;
        if parent.is_none() && !context.request.dry_run {
            // The directory's own error stands already.
            return Ok(());
        }
        if entry.link_group != 0 {
            if let Some(first) = self.first_names.get(&entry.link_group) {
                self.plan.links.push((entry, first.clone()));
                return Ok(());
            }
            self.first_names.insert(entry.link_group, entry.path.clone());
        }
        let Some(content) = entry.content() else { return Ok(()) };
        let slices = match load_slices(content, &context.blobs) {
            Ok(slices) => slices,
            Err(e) => {
                self.outcome.damaged = true;
                self.outcome.fail(context.monitor, &entry.path, e.to_string());
                return Ok(());
            }
        };
        if existing.is_some_and(|s| s.kind == FileKind::Directory) {
            let message = "a directory is in its place; remove that first".to_string();
            self.outcome.fail(context.monitor, &entry.path, message);
            return Ok(());
        }
        if let (Some(parent), Some(stat)) = (parent, existing) {
            let database = content.capture != Capture::Plain;
            if database && self.in_use(&entry.path) {
                return Err(Error::DatabaseInUse {
                    path: context.request.target.join(entry.path.to_os_path()),
                });
            }
            // A database with a log beside it is not what its main file says.
            let has_log = database
                && [&b"-wal"[..], b"-journal"]
                    .iter()
                    .any(|s| parent.stat_at(&[entry.path.name(), s].concat()).is_ok_and(|s| s.size > 0));
            if !has_log && self.is_same(&entry, content, &slices, parent, stat) {
                self.outcome.files_unchanged += 1;
                self.plan.same.push(entry);
                return Ok(());
            }
        }
        self.plan.files.push(PlannedFile { replaces: existing.is_some(), entry, slices });
        Ok(())
    }

    fn in_use(&self, path: &RepoPath) -> bool {
        sqlite::is_open_elsewhere(&self.context.request.target.join(path.to_os_path())).unwrap_or(false)
    }

    /// True when the file in place has the content wanted: by size and time, or by its bytes.
    fn is_same(&self, entry: &Entry, content: &Content, slices: &[Slice], parent: &Dir, stat: &Stat) -> bool {
        if stat.kind != FileKind::File || stat.size != content.size {
            return false;
        }
        // A database's size and time tell nothing: a commit may have changed only its log.
        let telling = content.capture == Capture::Plain && !self.context.request.verify;
        if telling && stat.mtime == entry.meta.mtime {
            return true;
        }
        let Ok((file, _)) = parent.open_regular(entry.path.name()) else { return false };
        has_content(file, content.hash.as_ref(), slices, &self.context.blobs).unwrap_or(false)
    }
}
