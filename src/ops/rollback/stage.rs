//! New content, made ready in the folder of the rollback.

use std::io;
use std::sync::Arc;

use super::apply::Work;
use super::local::Local;
use super::plan::{Plan, Step};
use super::{Error, journal};
use crate::fs::Dir;
use crate::model::RepoPath;
use crate::ops::restore::{self, Staged};
use crate::repo::PageTable;

/// The folder, within that of the rollback, in which files wait.
pub(super) const NEW: &str = "new";
/// The folder into which what is replaced goes until the end.
pub(super) const OLD: &str = "old";

/// For each step the name of what was made ready, if it needs something.
pub(super) type Names = Vec<Option<Vec<u8>>>;

/// True where something is made ready: a file with content, a link, a fifo, a device.
pub(super) fn is_staged(step: &Step) -> bool {
    match &step.want {
        Some(want) if want.content().is_some() => step.writes_content(),
        Some(want) => !want.is_dir() && step.change != crate::ops::compare::Change::Metadata,
        None => false,
    }
}

impl Work<'_> {
    /// Empties the folder of the rollback, but for its note, and makes the folders in it.
    pub(super) fn prepare(&self) -> io::Result<(Arc<Dir>, Arc<Dir>)> {
        let folder = self.root.open_dir(journal::FOLDER.as_bytes())?;
        for name in [NEW, OLD] {
            remove_all(&folder, name.as_bytes())?;
            folder.create_dir(name.as_bytes(), 0o700)?;
        }
        let open = |name: &str| folder.open_dir(name.as_bytes()).map(Arc::new);
        Ok((open(NEW)?, open(OLD)?))
    }

    /// Fetches what the plan's steps need; what the n-th step needs gets the n-th of the names returned.
    pub(super) fn stage(
        &self,
        plan: &Plan,
        tables: &dyn Fn(&RepoPath) -> Option<PageTable>,
        into: &Arc<Dir>,
    ) -> Result<(Staged, Names), Error> {
        let needed = plan.bytes();
        let free = into.free_space().map_err(self.request.failed())?;
        if needed > free {
            return Err(Error::Full { path: self.request.root.clone(), needed, free });
        }
        let local = Local::of(plan, self.root, self.blobs, tables)?;
        let mut names = vec![None; plan.steps.len()];
        let (mut entries, mut paths) = (Vec::new(), Vec::new());
        for (step, name) in plan.steps.iter().zip(&mut names).filter(|(step, _)| is_staged(step)) {
            *name = Some(entries.len().to_string().into_bytes());
            entries.extend(step.want.as_ref());
            paths.push(&step.path);
        }
        let request = self.restore_request();
        let staged = restore::stage(self.blobs, &request, &entries, into, Some(&local), self.monitor);
        let staged = staged.map_err(|error| match error {
            restore::Error::Interrupted => Error::Interrupted,
            restore::Error::Repo(error) => error.into(),
            error => Error::Fetch {
                path: RepoPath::root(),
                message: error.to_string(),
                damaged: false,
                unreachable: false,
            },
        })?;
        for (failed, path) in staged.failed.iter().zip(paths) {
            if let Some((message, damaged)) = failed {
                let (path, message) = (path.clone(), message.clone());
                return Err(Error::Fetch { path, message, damaged: *damaged, unreachable: staged.gone });
            }
        }
        into.sync_file_system().map_err(self.request.failed())?;
        Ok((staged, names))
    }

    pub(super) fn restore_request(&self) -> restore::Request {
        let request = self.request;
        restore::Request {
            id: request.target,
            snapshot: request.snapshot.clone(),
            target: request.root.clone(),
            paths: Vec::new(),
            dry_run: false,
            verify: false,
            owner: request.owner,
            set_id: true,
            devices: request.devices,
            threads: request.packer.threads,
        }
    }
}

/// Removes a name and all below it, without following links; one that is not there is no error.
pub(super) fn remove_all(parent: &Dir, name: &[u8]) -> io::Result<()> {
    match parent.unlink(name) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A directory: what the error is called differs from system to system.
        Err(_) => {}
    }
    let dir = parent.open_dir(name)?;
    for below in dir.list()? {
        remove_all(&dir, &below)?;
    }
    parent.rmdir(name)
}
