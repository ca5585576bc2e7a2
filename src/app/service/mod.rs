//! Keeps the scheduler running: as a service of systemd or launchd, or by a line in a crontab.
//!
//! The texts are made by pure functions, one file for each kind; [`manage`](self) writes them and runs the
//! programs that the system has for them, and tells which.

mod crontab;
mod launchd;
mod manage;
mod programs;
mod systemd;
mod variables;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use manage::{Places, home_of, install, kind_here, status, uninstall};
pub use variables::{Variables, drop_in, variables};

use crate::model::{Classify, ErrorClass};

/// What runs the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A unit of systemd.
    Systemd,
    /// An agent or a daemon of launchd, on macOS.
    Launchd,
    /// A line in a crontab, where there is neither.
    Cron,
}

impl Kind {
    /// All of them, the one that fits this system best first.
    pub const ALL: [Self; 3] = if cfg!(target_os = "macos") {
        [Self::Launchd, Self::Cron, Self::Systemd]
    } else {
        [Self::Systemd, Self::Cron, Self::Launchd]
    };

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
            Self::Cron => "cron",
        }
    }
}

/// Whose service it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The calling user's, run while that user's own service manager runs.
    User,
    /// The machine's, run from boot on under this user's name.
    System {
        /// The user that it runs as.
        user: String,
    },
}

/// What is to be run. Nothing in it is secret: unit files are open to everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// This program, by an absolute path.
    pub program: PathBuf,
    /// Variables that it needs to find its settings.
    pub environment: Vec<(&'static str, OsString)>,
    /// Directories below which it writes; they need not exist.
    pub writes: Vec<PathBuf>,
    /// Its work gives way to everything else.
    pub low_priority: bool,
}

/// How an installation goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It looks, and changes nothing.
    Rehearse,
    /// What differs is written, and what runs by an old file is started anew.
    Update,
    /// The same; and what runs is started anew in any case, since the settings that it read are others by now.
    Restart,
}

/// What a user must know who relies on the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The service manager cannot be asked, so that nothing was started.
    Unreachable {
        /// What its program said.
        message: String,
        /// It is the user's own.
        own: bool,
    },
    /// The service ends when the user logs out.
    NotLingering {
        /// The user.
        user: String,
    },
}

/// What an installation did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// What runs the scheduler.
    pub kind: Kind,
    /// The file that says so; a crontab has no name.
    pub path: Option<PathBuf>,
    /// What stands there.
    pub text: String,
    /// It was not there before, or was another text.
    pub changed: bool,
    /// It is running, or will be started by cron.
    pub running: bool,
    /// The commands that were run, in their order; of those that only look, none.
    pub commands: Vec<String>,
    /// What should be known.
    pub notes: Vec<Note>,
}

/// What a removal did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What ran the scheduler.
    pub kind: Kind,
    /// Files and folders that are gone.
    pub removed: Vec<PathBuf>,
    /// The commands that were run, in their order.
    pub commands: Vec<String>,
    /// It could not be stopped, for this reason: it may run until the system is started anew.
    pub trouble: Option<String>,
}

/// What became of everything that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uninstalled {
    /// What is gone.
    pub gone: Vec<Removed>,
    /// The crontab cannot be read, for this reason, and nobody can say whether a line of ours stands there.
    pub unread: Option<String>,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What runs the scheduler.
    pub kind: Kind,
    /// The file that says so.
    pub path: Option<PathBuf>,
    /// It will be started by itself; `None` where nobody can say.
    pub enabled: Option<bool>,
    /// It runs now; `None` where nobody can say, and for cron, which runs it now and then.
    pub running: Option<bool>,
    /// What stands there is not what an installation would write now.
    pub differs: bool,
    /// The service manager cannot be asked, or the crontab not be read, for this reason.
    pub unreachable: Option<String>,
}

impl State {
    /// It is there for certain; in a crontab that cannot be read it may be.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.kind != Kind::Cron || self.unreachable.is_none()
    }
}

/// Why a service cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it.
    #[error("{path}: {source}")]
    File {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file of that name is somebody else's.
    #[error("{path} was not written by exuvia")]
    Foreign {
        /// Its path.
        path: PathBuf,
    },
    /// A text that no file of a service can hold.
    #[error("{what} has characters that a service's file cannot hold: {text}")]
    Text {
        /// Whose text it is.
        what: String,
        /// The text.
        text: String,
    },
    /// A program of the system cannot be run.
    #[error("cannot run {program}: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A program of the system failed.
    #[error("`{command}` failed: {message}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        message: String,
    },
    /// A service of the machine is root's business.
    #[error("only root can manage a service of the whole machine")]
    NotRoot,
    /// There is no such user.
    #[error("there is no user {0}")]
    NoUser(String),
}

impl Classify for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Text { .. } | Self::NotRoot | Self::NoUser(_) => ErrorClass::Usage,
            _ => ErrorClass::Failed,
        }
    }
}

/// What stands in every file of ours, so that no other file is ever taken for one.
const MARK: &str = "written by `exuvia service install`";
/// Says in a file how many folders above it were made for it.
const FOLDERS: &str = "exuvia-folders:";

/// How many folders were made for the file with this text.
fn folders_in(text: &str) -> usize {
    let said = text.lines().find_map(|line| line.split_once(FOLDERS));
    // No path of ours is deeper; a number from outside must not walk up to the root.
    said.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0).min(3)
}

/// A text that stands on one line of a file that is read as UTF-8.
fn line(what: impl fmt::Display, text: &std::ffi::OsStr) -> Result<&str, Error> {
    match text.to_str().filter(|text| !text.contains(char::is_control)) {
        Some(text) => Ok(text),
        None => {
            Err(Error::Text { what: what.to_string(), text: text.to_string_lossy().escape_debug().collect() })
        }
    }
}

/// Directories, the nearest that exist, none of which lies in another.
fn roots(writes: &[PathBuf], exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let nearest = |path: &PathBuf| path.ancestors().find(|path| exists(path)).map(Path::to_path_buf);
    let mut all: Vec<PathBuf> = writes.iter().filter_map(nearest).collect();
    all.sort();
    // A directory sorts before what lies in it.
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in all {
        if !kept.iter().any(|root| path.starts_with(root)) {
            kept.push(path);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn roots_exist_and_hold_everything() {
        let there = ["/", "/home", "/home/ann", "/mnt", "/tmp"];
        let roots = |writes: &[&str]| {
            let writes: Vec<PathBuf> = writes.iter().map(PathBuf::from).collect();
            roots(&writes, |path| there.iter().any(|t| path == Path::new(t)))
        };
        assert_eq!(
            roots(&["/home/ann/.cache/exuvia", "/mnt/usb/repo", "/home/ann"]),
            [Path::new("/home/ann"), Path::new("/mnt")]
        );
        assert_eq!(roots(&["/data", "/tmp"]), [Path::new("/")]);
        // The name of one may begin with that of another.
        assert_eq!(roots(&["/home/ann", "/home/anna"]), [Path::new("/home")]);
    }

    #[test]
    fn what_no_line_can_hold_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(line("x", "/a b/é%".as_ref()).unwrap(), "/a b/é%");
        for bad in [&b"/a\nExecStart=/bin/sh"[..], b"/a\xff", b"/a\x1b"] {
            let error = line("the program", std::ffi::OsStr::from_bytes(bad)).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Usage);
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn the_number_of_folders_is_bounded() {
        assert_eq!(folders_in("# exuvia-folders: 2\n"), 2);
        assert_eq!(folders_in("<!-- exuvia-folders: 1 -->"), 1);
        for wrong in ["", "# exuvia-folders: x", "# exuvia-folders: -1", "# exuvia-folders:"] {
            assert_eq!(folders_in(wrong), 0, "{wrong}");
        }
        assert_eq!(folders_in("# exuvia-folders: 4000000"), 3);
    }
}
