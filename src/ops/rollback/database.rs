//! Databases: who has one open, what belongs to it, and how its content is replaced.

use std::io;
use std::path::Path;

use super::{Error, Plan, Step};
use crate::fs::{self, Dir, FileKind};
use crate::gather::sqlite;
use crate::model::{Capture, Entry, RepoPath};
use crate::ops::compare::Change;
use crate::repo::FileMark;

/// What may lie beside a database and belongs to it.
pub(super) const COMPANIONS: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];

/// By which a change of a database is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    main: FileMark,
    wal: FileMark,
}

impl Marks {
    /// The marks of a database as it is; of one that does not exist too.
    pub(super) fn read(root: &Dir, path: &RepoPath) -> io::Result<Self> {
        let parent = root.open_path(&path.parent().unwrap_or_default())?;
        let mark = |name: &[u8]| match parent.stat_at(name) {
            Ok(s) => Ok(FileMark { size: s.size, mtime: s.mtime, ctime: s.ctime, inode: s.inode }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(FileMark::ABSENT),
            Err(e) => Err(e),
        };
        Ok(Self { main: mark(path.name())?, wal: mark(&[path.name(), b"-wal"].concat())? })
    }
}

/// True when a part of the database may be in its log and not in its main file.
pub(super) fn has_log(parent: &Dir, name: &[u8]) -> bool {
    [&b"-wal"[..], b"-journal"]
        .iter()
        .any(|suffix| parent.stat_at(&[name, suffix].concat()).is_ok_and(|stat| stat.size > 0))
}

/// Who has the database open, in words; `None` when nobody has, as far as can be seen.
pub(super) fn holder(path: &Path) -> io::Result<Option<String>> {
    let stat = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => fs::stat_path(path)?,
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let named: Vec<String> = fs::holders(stat.identity())
        .iter()
        .map(|holder| format!("{} (process {})", holder.name, holder.pid))
        .collect();
    if !named.is_empty() {
        return Ok(Some(named.join(", ")));
    }
    Ok(sqlite::is_open_elsewhere(path)?.then(|| "another program".to_string()))
}

/// The name of the database that a companion is named after.
fn base(path: &RepoPath) -> Option<RepoPath> {
    let name = COMPANIONS.iter().find_map(|suffix| path.name().strip_suffix(*suffix))?;
    path.parent()?.join(name).ok()
}

/// True for the log, shared memory or journal of the database at `database`, by its name.
pub(super) fn is_companion(path: &RepoPath, database: &RepoPath) -> bool {
    base(path).as_ref() == Some(database)
}

/// True where one consistent image takes the place of another of the same page size: SQLite can do that under
/// who has the database open.
fn is_exchange(step: &Step) -> bool {
    let page_size = |entry: &Option<Entry>| match entry.as_ref().and_then(Entry::content)?.capture {
        Capture::Sqlite { page_size } => Some(page_size),
        Capture::Plain | Capture::RawSqlite => None,
    };
    page_size(&step.have).is_some() && page_size(&step.have) == page_size(&step.want)
}

/// Refuses a plan that would take a database, or a part of it, away from who has it open, or replace one of
/// which the safety snapshot has no consistent image while it is open.
pub(super) fn refuse(root: &Path, plan: &Plan) -> Result<(), Error> {
    for step in plan.steps.iter().filter(|step| step.change != Change::Metadata) {
        let database = match base(&step.path) {
            Some(base) => base,
            None if step.is_database() && !is_exchange(step) => step.path.clone(),
            None => continue,
        };
        if let Ok(Some(holder)) = holder(&root.join(database.to_os_path())) {
            return Err(Error::DatabaseInUse { path: database, holder });
        }
    }
    Ok(())
}

/// The names beside a database that belong to it and are there.
pub(super) fn companions(parent: &Dir, name: &[u8]) -> Vec<Vec<u8>> {
    let names = COMPANIONS.iter().map(|suffix| [name, suffix].concat());
    names.filter(|name| parent.stat_at(name).is_ok_and(|stat| stat.kind == FileKind::File)).collect()
}
