//! Which variables a service will have besides those in its own file.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::manage::{crontab_of, with_scope};
use super::programs::Programs;
use super::{Kind, Places, Scope};

/// What every service manager gives, and cron.
const ALWAYS: [&str; 4] = ["HOME", "LOGNAME", "PATH", "SHELL"];
/// What every session gets, by PAM; cron's are sessions, too.
const SESSIONS: &str = "/etc/environment";
/// More than any drop-in has, in bytes.
const MAX: u64 = 1 << 20;

/// The variables of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variables {
    /// These, and no others.
    Named(BTreeSet<String>),
    /// These, and perhaps others: who starts the service cannot be asked.
    AtLeast(BTreeSet<String>),
    /// The user has settings of the unit's own that give it others.
    Unknown,
}

impl Variables {
    /// Whether a variable can be counted on, or was taken care of by the user.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Named(names) | Self::AtLeast(names) => names.contains(name),
            Self::Unknown => true,
        }
    }

    /// Whether it is at least possible that there is a variable.
    #[must_use]
    pub fn may_have(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(name),
            Self::AtLeast(_) | Self::Unknown => true,
        }
    }
}

/// A file of the user's own that can give a unit variables; systemd alone has such.
#[must_use]
pub fn drop_in(scope: &Scope, kind: Kind, places: &Places) -> Option<PathBuf> {
    let (unit, _) = places.file(kind, scope).filter(|_| kind == Kind::Systemd)?;
    let mut folder = unit.into_os_string();
    folder.push(".d");
    Some(PathBuf::from(folder).join("environment.conf"))
}

/// The variables that a service gets of whoever starts it. `wanted`: those that matter.
#[must_use]
pub fn variables(scope: &Scope, kind: Kind, places: &Places, wanted: &[String]) -> Variables {
    let programs = Programs::default();
    let mut names: BTreeSet<String> = ALWAYS.map(str::to_owned).into();
    match kind {
        Kind::Systemd => {
            let folder = drop_in(scope, kind, places).and_then(|file| file.parent().map(Path::to_path_buf));
            if folder.is_some_and(|folder| sets_variables(&folder)) {
                return Variables::Unknown;
            }
            names.extend(["USER", "LANG", "XDG_RUNTIME_DIR"].map(str::to_owned));
            match programs.look("systemctl", &with_scope(scope, &["show-environment"])) {
                Ok(answer) if answer.ok => names.extend(assigned(&answer.stdout)),
                _ => return Variables::AtLeast(names),
            }
        }
        Kind::Launchd => {
            names.extend(["USER", "TMPDIR"].map(str::to_owned));
            let known = known_to_launchd(&programs, wanted, &mut names);
            // Who calls with sudo asks for the variables of a session, and not for those of the machine.
            if !known || *scope != Scope::User {
                return Variables::AtLeast(names);
            }
        }
        Kind::Cron => {
            names.extend(of_every_session(Path::new(SESSIONS)));
            let crontab = crontab_of(scope, &programs).ok().flatten();
            names.extend(crontab.map(|text| assigned(&text)).into_iter().flatten());
        }
    }
    Variables::Named(names)
}

/// Adds those that `launchctl setenv` set. False when nobody can be asked.
fn known_to_launchd(programs: &Programs, wanted: &[String], names: &mut BTreeSet<String>) -> bool {
    for name in wanted.iter().filter(|name| is_variable(name)) {
        match programs.look("launchctl", &["getenv", name]) {
            Ok(answer) if answer.ok && !answer.stdout.trim_ascii().is_empty() => {
                names.insert(name.clone());
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

/// The names in a file that PAM reads for whoever logs in, and for cron.
fn of_every_session(file: &Path) -> Vec<String> {
    let mut text = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX).read_to_end(&mut text));
    // Most systems have none, and what was read before an error is what there is.
    drop(read);
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().map(|line| line.trim_start().strip_prefix("export ").unwrap_or(line));
    lines.flat_map(|line| assigned(line.as_bytes())).collect()
}

/// The names on lines of the form `NAME=value`.
fn assigned(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text).into_owned();
    let names = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    names.filter(|name| is_variable(name)).map(str::to_owned).collect()
}

fn is_variable(name: &str) -> bool {
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    name.chars().all(word) && name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
}

/// Whether a drop-in in the folder has a word of variables; what it says of them is systemd's business.
fn sets_variables(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "conf")).any(|path| {
        let mut text = String::new();
        let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
        let read = is_file
            && std::fs::File::open(&path).and_then(|file| file.take(MAX).read_to_string(&mut text)).is_ok();
        let words = ["Environment", "PassEnvironment"];
        read && text.lines().any(|line| words.iter().any(|word| line.trim_start().starts_with(word)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_those_of_assignments() {
        let text = b"A=1\n B_2 = x=y\n*/5 * * * * X=1 cmd\n# C=2\n=3\n1D=4\nE\n\xff=1\n";
        assert_eq!(assigned(text), ["A", "B_2"]);
    }

    #[test]
    fn a_drop_in_with_variables_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!sets_variables(&dir.path().join("none")));
        std::fs::write(dir.path().join("a.conf"), "[Service]\nNice=5\n").unwrap();
        std::fs::write(dir.path().join("b.txt"), "[Service]\nEnvironment=A=1\n").unwrap();
        assert!(!sets_variables(dir.path()));
        for line in ["EnvironmentFile=/x", "Environment=A=1", " PassEnvironment=A B"] {
            std::fs::write(dir.path().join("c.conf"), format!("[Service]\n{line}\n")).unwrap();
            assert!(sets_variables(dir.path()), "{line}");
        }
    }

    #[test]
    fn what_every_session_has_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("environment");
        assert!(of_every_session(&file).is_empty());
        std::fs::write(&file, "# A=1\nB=\"x\"\n  export C=2\nexported\n").unwrap();
        assert_eq!(of_every_session(&file), ["B", "C"]);
    }

    #[test]
    fn what_nobody_can_be_asked_for_is_possible() {
        let names: BTreeSet<String> = ["A".to_owned()].into();
        let (all, some) = (Variables::Named(names.clone()), Variables::AtLeast(names));
        assert!(all.has("A") && all.may_have("A") && !all.has("B") && !all.may_have("B"));
        assert!(some.has("A") && some.may_have("A") && !some.has("B") && some.may_have("B"));
    }
}
