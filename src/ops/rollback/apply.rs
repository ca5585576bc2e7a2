//! Changing the state dir: what has to go, then what comes, then metadata, from the deepest up.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use super::database::{self, Marks};
use super::feasible;
use super::journal::{self, Journal};
use super::plan::{Plan, Step};
use super::stage::{NEW, OLD, remove_all};
use super::{Error, Request};
use crate::fs::{self, Dir, FileKind, OwnerNames, Stat, TempFile};
use crate::gather::sqlite;
use crate::model::{Capture, Entry, EntryKind, FileError, ObjectId, RepoPath, Timestamp};
use crate::ops::compare::Change;
use crate::ops::restore::{self, Dirs};
use crate::repo::{BlobReader, ManifestReader, PageTable};
use crate::report::{Monitor, Phase};

/// What the parts of a rollback share.
pub(super) struct Work<'a> {
    pub(super) blobs: &'a BlobReader<'a>,
    pub(super) request: &'a Request,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) root: &'a Arc<Dir>,
    /// The safety snapshot.
    pub(super) safety: ObjectId,
    /// Databases as they were before the safety snapshot.
    pub(super) marks: HashMap<RepoPath, Marks>,
    /// Page tables of databases as they are in the safety snapshot.
    pub(super) tables: &'a dyn Fn(&RepoPath) -> Option<PageTable>,
}

/// What was done.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) local: u64,
    /// Databases written in place, and the names of their images among what was made ready.
    pub(super) live: Vec<(RepoPath, Vec<u8>)>,
    pub(super) kept: Vec<(RepoPath, RepoPath)>,
    pub(super) since: Vec<RepoPath>,
    pub(super) errors: Vec<FileError>,
    /// Directories that stay because something is in them that no snapshot has.
    stay: BTreeSet<RepoPath>,
}

/// The folders that serve the steps.
struct Folders {
    new: Arc<Dir>,
    old: Arc<Dir>,
}

impl Work<'_> {
    /// Leaves the note, makes everything ready, and applies the plan. Before the first change of the state
    /// dir errors are errors; after it they are collected.
    pub(super) fn run(&self, plan: &Plan, journal: &Journal) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        if plan.is_empty() && self.request.resumes.is_none() {
            return Ok(applied);
        }
        let failed = self.request.failed();
        let before = self.root.stat().map_err(&failed)?;
        fs::create_private_dir_all(&journal::folder(&self.request.root)).map_err(&failed)?;
        journal.write(&self.request.root).map_err(&failed)?;
        self.monitor.phase(Phase::Restore, Some(plan.bytes()));
        let ready = self.prepare().map_err(&failed).and_then(|(new, old)| {
            let staged = self.stage(plan, self.tables, &new)?;
            // Fetching may have taken a while.
            database::refuse(&self.request.root, plan)?;
            feasible::check(self.root, self.request, plan)?;
            Ok((Folders { new, old }, staged))
        });
        let (folders, (staged, names)) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                // Nothing has been changed yet: unless there was a mixture before, there is none now.
                if self.request.resumes.is_none() {
                    let cleared = self.clear();
                    cleared.and_then(|()| fs::set_times(self.root, before.mtime.into())).map_err(&failed)?;
                }
                return Err(error);
            }
        };
        (applied.bytes, applied.local) = (staged.bytes, staged.local);
        self.apply(plan, &names, &folders, &mut applied);
        note(&mut applied, &Step::root(), self.root.sync_file_system());
        Ok(applied)
    }

    fn apply(&self, plan: &Plan, names: &[Option<Vec<u8>>], folders: &Folders, applied: &mut Applied) {
        // From here on a request to stop is not heard: what is left takes less time than going back.
        for step in plan.steps.iter().rev().filter(|step| step.clears()) {
            let removed = self.remove(step, folders, applied);
            note(applied, step, removed);
        }
        let mut dirs = Dirs::new(self.root);
        for (step, name) in plan.steps.iter().zip(names) {
            let made = match (&step.want, name) {
                (Some(_), Some(name)) => self.place(step, name, &mut dirs, folders, applied),
                (Some(want), None) if want.is_dir() && step.change != Change::Metadata => dirs
                    .parent_of(&step.path)
                    .and_then(|parent| match parent.create_dir(step.path.name(), 0o700) {
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                        other => other,
                    }),
                _ => Ok(()),
            };
            note(applied, step, made);
        }
        for step in &plan.steps {
            let done = match (&step.link, &step.want) {
                (Some(first), Some(_)) if step.change != Change::Metadata => {
                    self.link(step, first, &mut dirs, folders, applied)
                }
                (_, Some(want)) if step.change == Change::Metadata && !want.is_dir() => {
                    self.metadata(step, want, &mut dirs)
                }
                _ => Ok(()),
            };
            note(applied, step, done);
        }
        self.directories(plan, applied);
    }

    /// Takes away what is there.
    fn remove(&self, step: &Step, folders: &Folders, applied: &mut Applied) -> io::Result<()> {
        let Some(have) = &step.have else { return Ok(()) };
        let parent = self.root.open_path(&step.path.parent().unwrap_or_default())?;
        let name = step.path.name();
        if have.is_dir() {
            return match parent.rmdir(name) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && step.want.is_none() => {
                    self.monitor.warning(Some(&step.path), "stays: something in it belongs to no snapshot");
                    applied.stay.insert(step.path.clone());
                    Ok(())
                }
                other => other,
            };
        }
        if super::plan::is_database(have) {
            let path = self.request.root.join(step.path.to_os_path());
            if let Some(holder) = database::holder(&path)? {
                return Err(in_use(&holder));
            }
        }
        if is_image(have) {
            return self.put_database_aside(step, &parent, folders, applied);
        }
        match parent.stat_at(name) {
            Ok(stat) if is_as_saved(have, &stat) => parent.unlink(name),
            Ok(_) => self.keep(&parent, &[name.to_vec()], &step.path, applied),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Renames what was made ready into its place.
    fn place(
        &self,
        step: &Step,
        ready: &[u8],
        dirs: &mut Dirs<'_>,
        folders: &Folders,
        applied: &mut Applied,
    ) -> io::Result<()> {
        let parent = dirs.parent_of(&step.path)?;
        let name = step.path.name();
        let there = match parent.stat_at(name) {
            Ok(stat) if stat.kind == FileKind::Directory => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(stat) => Some(stat),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let path = self.request.root.join(step.path.to_os_path());
        let is_file = there.is_some_and(|stat| stat.kind == FileKind::File);
        if step.is_database()
            && is_file
            && let Some(holder) = database::holder(&path)?
        {
            // A raw copy is no image: what belongs to it lies in other files.
            if !step.want.as_ref().is_some_and(is_image) {
                return Err(in_use(&holder));
            }
            let now = Marks::read(self.root, &step.path).ok();
            if self.marks.get(&step.path).copied() != now {
                let message =
                    "has been written to since the safety snapshot began; what came after it is replaced";
                self.monitor.warning(Some(&step.path), message);
            }
            sqlite::overwrite(&self.ready_path(ready)?, &path)
                .map_err(|e| io::Error::other(format!("{e}; it is open in {holder}")))?;
            applied.live.push((step.path.clone(), ready.to_vec()));
            applied.files += 1;
            return Ok(());
        }
        match (there, &step.have) {
            (Some(_), Some(have)) if is_image(have) => {
                self.put_database_aside(step, &parent, folders, applied)?;
            }
            (Some(stat), Some(have)) if is_as_saved(have, &stat) => {}
            (Some(_), _) => self.keep(&parent, &[name.to_vec()], &step.path, applied)?,
            (None, _) => {}
        }
        if step.want.as_ref().is_some_and(is_image) {
            // What is still beside it belongs to another database, and would be replayed into this one.
            self.keep(&parent, &database::companions(&parent, name), &step.path, applied)?;
        }
        self.move_into(ready, step, folders, &parent)?;
        applied.files += u64::from(step.want.as_ref().is_some_and(|want| want.content().is_some()));
        Ok(())
    }

    /// Gives what was made ready its name. On another file system, below a mount point, it is made once more
    /// beside its place.
    fn move_into(&self, ready: &[u8], step: &Step, folders: &Folders, parent: &Arc<Dir>) -> io::Result<()> {
        let name = step.path.name();
        match folders.new.rename_at(ready, parent, name) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
            other => return other,
        }
        let Some(want) = &step.want else { return Ok(()) };
        let aside = [TempFile::PREFIX.as_bytes(), b"rollback-", ready].concat();
        remove_all(parent, &aside)?;
        let request = self.restore_request();
        if want.content().is_some() {
            let (mut from, _) = folders.new.open_regular(ready)?;
            let mut file = parent.create_file(&aside, 0o600)?;
            io::copy(&mut from, &mut file)?;
            restore::apply_metadata(&request, &file, &want.meta)?;
            file.sync_all()?;
        } else {
            let path = RepoPath::new(aside.clone()).map_err(io::Error::other)?;
            restore::make_special(&request, parent, &Entry { path, ..want.clone() })?;
        }
        parent.rename_at(&aside, parent, name)
    }

    fn ready_path(&self, ready: &[u8]) -> io::Result<std::path::PathBuf> {
        let name = std::str::from_utf8(ready).map_err(io::Error::other)?;
        Ok(journal::folder(&self.request.root).join(NEW).join(name))
    }

    /// Moves a database that nobody has open, with what belongs to it, out of the way: for good where the
    /// safety snapshot has all of it.
    fn put_database_aside(
        &self,
        step: &Step,
        parent: &Dir,
        folders: &Folders,
        applied: &mut Applied,
    ) -> io::Result<()> {
        let name = step.path.name();
        let saved = self
            .marks
            .get(&step.path)
            .is_some_and(|marks| Marks::read(self.root, &step.path).is_ok_and(|now| now == *marks));
        let mut names = database::companions(parent, name);
        names.push(name.to_vec());
        if !saved {
            return self.keep(parent, &names, &step.path, applied);
        }
        for (n, name) in names.iter().enumerate() {
            // Until the end: renaming does not free what a process that came this moment reads.
            let aside = [step.path.as_bytes(), format!("/{n}").as_bytes()].concat();
            let aside = blake3::hash(&aside).to_hex();
            match parent.rename_at(name, &folders.old, aside.as_bytes()) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => parent.unlink(name)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Moves what the safety snapshot does not have to where it can be found.
    fn keep(
        &self,
        parent: &Dir,
        names: &[Vec<u8>],
        path: &RepoPath,
        applied: &mut Applied,
    ) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let folder = format!("exuvia-kept-{}", self.safety.short());
        let mut at = RepoPath::new(folder.into_bytes()).map_err(io::Error::other)?;
        make_dir(self.root, at.name())?;
        let mut dir = self.root.open_dir(at.name())?;
        for component in path.parent().unwrap_or_default().components() {
            make_dir(&dir, component)?;
            dir = dir.open_dir(component)?;
            at = at.join(component).map_err(io::Error::other)?;
        }
        for name in names {
            let kept = match rename_free(parent, name, &dir, name) {
                Ok(Some(to)) => at.join(&to),
                // Below a mount point: what is kept stays in its directory.
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                    let to = [&name[..], b".exuvia-kept"].concat();
                    let Some(to) = rename_free(parent, name, parent, &to)? else { continue };
                    path.parent().unwrap_or_default().join(&to)
                }
                other => match other? {
                    Some(to) => at.join(&to),
                    None => continue,
                },
            };
            let (kept, from) = (kept.map_err(io::Error::other)?, beside(path, name)?);
            self.monitor.warning(Some(&from), &format!("had changed, and is kept as {kept}"));
            applied.kept.push((from, kept));
        }
        Ok(())
    }

    /// Makes a further name of a file.
    fn link(
        &self,
        step: &Step,
        first: &RepoPath,
        dirs: &mut Dirs<'_>,
        folders: &Folders,
        applied: &mut Applied,
    ) -> io::Result<()> {
        let parent = dirs.parent_of(&step.path)?;
        let from = self.root.open_path(&first.parent().unwrap_or_default())?;
        let name = step.path.name();
        match parent.stat_at(name) {
            Ok(stat) if stat.identity() == from.stat_at(first.name())?.identity() => return Ok(()),
            Ok(stat) if stat.kind == FileKind::Directory => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(stat) if !step.have.as_ref().is_some_and(|have| is_as_saved(have, &stat)) => {
                self.keep(&parent, &[name.to_vec()], &step.path, applied)?;
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let ready = b"link";
        folders.new.hard_link_at(&from, first.name(), ready)?;
        folders.new.rename_at(ready, &parent, name)?;
        applied.files += 1;
        Ok(())
    }

    fn metadata(&self, step: &Step, want: &Entry, dirs: &mut Dirs<'_>) -> io::Result<()> {
        let parent = dirs.parent_of(&step.path)?;
        let request = self.restore_request();
        if let EntryKind::File(_) = want.kind {
            let (file, _) = parent.open_regular(step.path.name())?;
            if let Some(have) = &step.have {
                remove_extra_xattrs(&file, have, want)?;
            }
            return restore::apply_metadata(&request, &file, &want.meta);
        }
        let name = step.path.name();
        if request.owner {
            let (uid, gid) = OwnerNames::load().resolve(&want.meta.owner);
            fs::set_owner_at(&parent, name, uid, gid)?;
        }
        if !matches!(want.kind, EntryKind::Symlink(_)) {
            fs::set_mode_at(&parent, name, want.meta.mode, 0o7777)?;
        }
        fs::set_times_at(&parent, name, want.meta.mtime.into())
    }

    /// Metadata of all directories that are new, differ, or have had a name changed in them.
    fn directories(&self, plan: &Plan, applied: &mut Applied) {
        let mut touched = BTreeSet::new();
        let mut entries: Vec<(&Step, Entry)> = Vec::new();
        for step in &plan.steps {
            if let Some(want) = step.want.as_ref().filter(|want| want.is_dir()) {
                entries.push((step, want.clone()));
            }
            touched.extend(step.path.parent());
        }
        let own: BTreeSet<_> = entries.iter().map(|(step, _)| step.path.clone()).collect();
        touched.retain(|path| !own.contains(path) && self.concerns(path));
        let others = self.wanted(&touched).unwrap_or_else(|error| {
            note(applied, &Step::root(), Err(error));
            Vec::new()
        });
        let none = Step::root();
        entries.extend(others.into_iter().map(|entry| (&none, entry)));
        entries.sort_by(|a, b| b.1.path.cmp(&a.1.path));
        let request = self.restore_request();
        for (step, want) in entries.iter().filter(|(_, want)| !want.path.is_root()) {
            // One that could not be made has an error of its own already.
            let Ok(dir) = self.root.open_path(&want.path) else { continue };
            let extra = step.have.as_ref().map_or(Ok(()), |have| remove_extra_xattrs(&dir, have, want));
            let done = extra.and_then(|()| restore::apply_metadata(&request, &dir, &want.meta));
            if let Err(error) = done {
                applied.errors.push(FileError { path: want.path.clone(), message: error.to_string() });
            }
        }
    }

    fn concerns(&self, path: &RepoPath) -> bool {
        let scope = &self.request.scope;
        scope.is_empty() || scope.iter().any(|scope| path.starts_with(scope))
    }

    /// Entries of the snapshot at these paths.
    fn wanted(&self, paths: &BTreeSet<RepoPath>) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let Some(last) = paths.last() else { return Ok(found) };
        let mut reader = ManifestReader::new(self.blobs, self.request.snapshot.manifest);
        while let Some(entry) = reader.next_entry().map_err(io::Error::other)? {
            if entry.path > *last {
                break;
            }
            if paths.contains(&entry.path) && entry.is_dir() {
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// Looks at what a comparison made afterwards still finds.
    pub(super) fn judge(&self, plan: &Plan, again: &Plan, applied: &mut Applied) {
        for step in &again.steps {
            let known = applied.live.iter().any(|(path, _)| *path == step.path)
                || step.path.is_root()
                || applied.stay.contains(&step.path)
                || plan.leaves_out(&step.path)
                || step.path.as_bytes().starts_with(b"exuvia-kept-")
                || step.change == Change::Metadata && step.want.as_ref().is_some_and(Entry::is_dir);
            if known {
                continue;
            }
            let untouched = step.want.as_ref().is_some_and(|want| {
                let stat = self.root.open_path(&step.path.parent().unwrap_or_default());
                let stat = stat.and_then(|parent| parent.stat_at(step.path.name()));
                stat.is_ok_and(|stat| stat.mtime == want.meta.mtime && stat.size == want.size())
            });
            if untouched {
                let message = "is not as in the snapshot, though it was just put in place".to_string();
                applied.errors.push(FileError { path: step.path.clone(), message });
            } else {
                applied.since.push(step.path.clone());
            }
        }
    }

    /// Tells the cache what is in place, so that the next backup need not read it all again.
    ///
    /// `looked` is when the comparison began that found it so.
    pub(super) fn seed(&self, applied: &Applied, looked: Timestamp) -> io::Result<()> {
        let folder = self.root.open_dir(journal::FOLDER.as_bytes()).and_then(|f| f.open_dir(NEW.as_bytes()));
        let image = |path: &RepoPath| {
            let (_, name) = applied.live.iter().find(|(live, _)| live == path)?;
            folder.as_ref().ok()?.open_regular(name).ok().map(|(file, _)| file)
        };
        let seed = restore::Seed {
            repository: self.blobs.repository(),
            target: &self.request.root,
            root: self.root,
            id: &self.request.target,
            snapshot: &self.request.snapshot,
            images: &image,
            looked: Some(looked),
        };
        let mut reader = ManifestReader::new(self.blobs, self.request.snapshot.manifest);
        seed.write(std::iter::from_fn(|| reader.next_entry().map_err(io::Error::other).transpose()))
    }

    /// Removes the folder of the rollback: it is over.
    fn clear(&self) -> io::Result<()> {
        let name = journal::FOLDER.as_bytes();
        let folder = self.root.open_dir(name)?;
        for below in [NEW, OLD] {
            remove_all(&folder, below.as_bytes())?;
        }
        // The note last: until then whoever comes knows whose folder this is.
        remove_all(self.root, name)?;
        self.root.sync()
    }

    /// Ends the rollback, and gives the state dir itself its metadata.
    pub(super) fn finish(&self, plan: &Plan) -> io::Result<()> {
        match self.clear() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        if !self.request.scope.is_empty() || plan.is_empty() {
            return Ok(());
        }
        let root = self.wanted(&BTreeSet::from([RepoPath::root()]))?;
        match root.first() {
            Some(entry) => restore::apply_metadata(&self.restore_request(), self.root.as_ref(), &entry.meta),
            None => Ok(()),
        }
    }
}

impl Applied {
    /// Something went wrong that concerns the whole.
    pub(super) fn fail(&mut self, message: String) {
        self.errors.push(FileError { path: RepoPath::root(), message });
    }
}

fn note(applied: &mut Applied, step: &Step, result: io::Result<()>) {
    if let Err(error) = result {
        applied.errors.push(FileError { path: step.path.clone(), message: error.to_string() });
    }
}

/// Renames to a name that is free; tells it, or `None` when there was nothing to rename.
fn rename_free(parent: &Dir, name: &[u8], dir: &Dir, to: &[u8]) -> io::Result<Option<Vec<u8>>> {
    for n in 0.. {
        let to = if n == 0 { to.to_vec() } else { [to, format!(".{n}").as_bytes()].concat() };
        match parent.rename_new_at(name, dir, &to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => return other.map(|()| Some(to)),
        }
    }
    Ok(None)
}

fn in_use(holder: &str) -> io::Error {
    io::Error::other(format!("is open in {holder}"))
}

/// True for a consistent image of a database, which is all of it.
fn is_image(entry: &Entry) -> bool {
    entry.content().is_some_and(|content| matches!(content.capture, Capture::Sqlite { .. }))
}

fn make_dir(parent: &Dir, name: &[u8]) -> io::Result<()> {
    match parent.create_dir(name, 0o700) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn beside(path: &RepoPath, name: &[u8]) -> io::Result<RepoPath> {
    path.parent().unwrap_or_default().join(name).map_err(io::Error::other)
}

/// True when a file is still the one that the safety snapshot has.
fn is_as_saved(have: &Entry, stat: &Stat) -> bool {
    let kind = match have.kind {
        EntryKind::File(_) => FileKind::File,
        EntryKind::Symlink(_) => FileKind::Symlink,
        EntryKind::Directory => FileKind::Directory,
        EntryKind::Fifo => FileKind::Fifo,
        EntryKind::CharDevice(..) => FileKind::CharDevice,
        EntryKind::BlockDevice(..) => FileKind::BlockDevice,
    };
    stat.kind == kind
        && (kind != FileKind::File || stat.size == have.size())
        && (stat.mtime, stat.inode) == (have.meta.mtime, have.meta.inode)
        // A change of one name of a file sets this time in all.
        && (have.link_group != 0 || stat.ctime == have.meta.ctime)
}

fn remove_extra_xattrs(file: impl std::os::fd::AsFd, have: &Entry, want: &Entry) -> io::Result<()> {
    for xattr in &have.meta.xattrs {
        if !want.meta.xattrs.iter().any(|wanted| wanted.name == xattr.name) {
            fs::remove_xattr(file.as_fd(), &xattr.name)?;
        }
    }
    Ok(())
}
