//! Writes and removes the files of services, and runs the programs that start and stop them.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::programs::Programs;
use super::{
    Error, How, Installed, Kind, MARK, Note, Removed, Scope, Service, State, Uninstalled, crontab,
    folders_in, launchd, systemd,
};
use crate::fs;

/// More than any file of a service has, in bytes.
const MAX: u64 = 1 << 20;
/// Service files are no secret, and a service manager may run as another user.
const MODE: u32 = 0o644;

/// Where files of services belong to.
#[derive(Debug, Clone)]
pub struct Places {
    /// The user's home directory.
    pub home: PathBuf,
    /// The user's directory for configuration files.
    pub config_home: PathBuf,
}

impl Places {
    /// The file of a service, and the directory that is there for other reasons; cron has none.
    pub(super) fn file(&self, kind: Kind, scope: &Scope) -> Option<(PathBuf, PathBuf)> {
        let (base, below) = match (kind, scope) {
            (Kind::Systemd, Scope::User) => {
                (self.config_home.clone(), format!("systemd/user/{}", systemd::UNIT))
            }
            (Kind::Systemd, Scope::System { .. }) => ("/etc/systemd/system".into(), systemd::UNIT.to_owned()),
            (Kind::Launchd, Scope::User) => {
                (self.home.clone(), format!("Library/LaunchAgents/{}.plist", launchd::LABEL))
            }
            (Kind::Launchd, Scope::System { .. }) => {
                ("/Library/LaunchDaemons".into(), format!("{}.plist", launchd::LABEL))
            }
            (Kind::Cron, _) => return None,
        };
        Some((base.join(below), base))
    }
}

/// The home directory of a user of this machine.
pub fn home_of(user: &str) -> Result<PathBuf, Error> {
    fs::home_of(user).ok_or_else(|| Error::NoUser(user.escape_debug().collect()))
}

/// Installs the service, or brings it up to date.
pub fn install(
    service: &Service,
    scope: &Scope,
    kind: Kind,
    places: &Places,
    how: How,
) -> Result<Installed, Error> {
    let dry_run = how == How::Rehearse;
    may(scope, dry_run)?;
    let mut programs = Programs { dry: dry_run, ..Programs::default() };
    let Some((path, base)) = places.file(kind, scope) else {
        return install_job(service, scope, &mut programs);
    };
    let old = read(&path)?;
    let folders = old.as_deref().map_or_else(|| missing_between(&base, &path), folders_in);
    let text = text(kind, service, scope, folders, old.as_deref().unwrap_or_default())?;
    let changed = old.as_deref() != Some(text.as_str());
    if changed && !dry_run {
        write(&path, &text)?;
    }
    let shown = path.to_string_lossy().into_owned();
    let mut notes = Vec::new();
    let due = Due { reload: changed, restart: changed || how == How::Restart };
    let running = match kind {
        Kind::Launchd => start_launchd(&mut programs, scope, &shown, due)?,
        _ => start_systemd(&mut programs, scope, due, &mut notes)?,
    };
    Ok(Installed { kind, path: Some(path), text, changed, running, commands: programs.ran, notes })
}

/// Takes away what [`install`] made: of the `wanted` kind, or of every kind that is found.
pub fn uninstall(
    scope: &Scope,
    wanted: Option<Kind>,
    places: &Places,
    dry_run: bool,
) -> Result<Uninstalled, Error> {
    may(scope, dry_run)?;
    let (mut gone, mut unread) = (Vec::new(), None);
    for kind in Kind::ALL.into_iter().filter(|kind| wanted.is_none_or(|wanted| *kind == wanted)) {
        let mut programs = Programs { dry: dry_run, ..Programs::default() };
        let removed = match places.file(kind, scope) {
            None => match crontab_for(scope, wanted, &programs)? {
                Crontab::Text(old) => uninstall_job(scope, &old, &mut programs)?.then(|| (Vec::new(), None)),
                Crontab::None => None,
                Crontab::Unread(reason) => {
                    unread = Some(reason);
                    None
                }
            },
            Some((path, _)) => match read(&path)? {
                None => None,
                Some(text) => Some(uninstall_file(kind, scope, &path, &text, &mut programs)?),
            },
        };
        gone.extend(removed.map(|(removed, trouble)| Removed {
            kind,
            removed,
            commands: programs.ran,
            trouble,
        }));
    }
    Ok(Uninstalled { gone, unread })
}

/// What there is: of the `wanted` kind, or of every kind that is found.
pub fn status(
    service: &Service,
    scope: &Scope,
    wanted: Option<Kind>,
    places: &Places,
) -> Result<Vec<State>, Error> {
    let programs = Programs::default();
    let mut found = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| wanted.is_none_or(|wanted| *kind == wanted)) {
        let Some((path, _)) = places.file(kind, scope) else {
            found.extend(state_of_job(crontab_for(scope, wanted, &programs)?, service)?);
            continue;
        };
        let Some(old) = read(&path)? else { continue };
        let differs = text(kind, service, scope, folders_in(&old), &old)? != old;
        let (enabled, running, unreachable) = match kind {
            Kind::Launchd => state_of_launchd(&programs, scope),
            _ => state_of_systemd(&programs, scope),
        };
        found.push(State { kind, path: Some(path), enabled, running, differs, unreachable });
    }
    Ok(found)
}

/// What a crontab says of our line; `None` where it has none.
fn state_of_job(crontab: Crontab, service: &Service) -> Result<Option<State>, Error> {
    let (kind, path, running) = (Kind::Cron, None, None);
    match crontab {
        Crontab::None => Ok(None),
        Crontab::Unread(reason) => {
            Ok(Some(State { kind, path, enabled: None, running, differs: false, unreachable: Some(reason) }))
        }
        Crontab::Text(text) => {
            let Some(job) = crontab::find(&text) else { return Ok(None) };
            let differs = job != crontab::job(service)?;
            Ok(Some(State { kind, path, enabled: Some(true), running, differs, unreachable: None }))
        }
    }
}

/// What a service manager has to do about a service that runs.
#[derive(Clone, Copy)]
struct Due {
    /// It must read the file again.
    reload: bool,
    /// It must start the service anew.
    restart: bool,
}

fn may(scope: &Scope, dry_run: bool) -> Result<(), Error> {
    let allowed = dry_run || *scope == Scope::User || fs::is_privileged();
    if allowed { Ok(()) } else { Err(Error::NotRoot) }
}

/// What can run the scheduler here.
#[must_use]
pub fn kind_here() -> Kind {
    if cfg!(target_os = "macos") {
        return Kind::Launchd;
    }
    let programs = Programs::default();
    let there = |program, argument| programs.look(program, &[argument]).is_ok();
    if !there("systemctl", "--version") && there("crontab", "-l") { Kind::Cron } else { Kind::Systemd }
}

/// What is to stand in the file. `old`: what stands there now.
fn text(kind: Kind, service: &Service, scope: &Scope, folders: usize, old: &str) -> Result<String, Error> {
    match kind {
        Kind::Launchd => launchd::property_list(service, scope, folders),
        Kind::Cron => crontab::job(service),
        Kind::Systemd => systemd::unit(service, scope, folders, old, |path| fs::stat_path(path).is_ok()),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { path: path.clone(), source }
}

/// A file of ours; `None` when there is none.
fn read(path: &Path) -> Result<Option<String>, Error> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes).map_err(failed(path))?;
    match String::from_utf8(bytes) {
        Ok(text) if text.contains(MARK) => Ok(Some(text)),
        _ => Err(Error::Foreign { path: path.to_path_buf() }),
    }
}

/// How many folders between the two are missing.
fn missing_between(base: &Path, path: &Path) -> usize {
    path.ancestors().skip(1).take_while(|folder| *folder != base && fs::stat_path(folder).is_err()).count()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(failed(path)(io::ErrorKind::InvalidInput.into()));
    };
    fs::create_private_dir_all(folder).map_err(failed(folder))?;
    fs::write_atomic(folder, name, text.as_bytes(), MODE).map_err(failed(path))
}

/// Also tells why it could not be stopped, if so.
fn uninstall_file(
    kind: Kind,
    scope: &Scope,
    path: &Path,
    text: &str,
    programs: &mut Programs,
) -> Result<(Vec<PathBuf>, Option<String>), Error> {
    let stopped = match kind {
        Kind::Launchd => stop_launchd(programs, scope),
        _ => stop_systemd(programs, scope),
    };
    // One that cannot be stopped would be started again by the files that stay.
    let mut trouble = stopped.err().map(|e| e.to_string());
    let mut removed = vec![path.to_path_buf()];
    if programs.dry {
        return Ok((removed, trouble));
    }
    // The links that systemctl makes when it enables a unit go with it, unless it could not be run.
    let links = ["default.target.wants", "multi-user.target.wants"].map(|folder| path.with_file_name(folder));
    for folder in links.iter().filter(|_| kind == Kind::Systemd) {
        let link = folder.join(systemd::UNIT);
        if link.is_symlink() && fs::remove_file(&link).is_ok() {
            removed.push(link);
            // Others may have links there.
            let _ = std::fs::remove_dir(folder);
        }
    }
    fs::remove_file(path).map_err(failed(path))?;
    for folder in path.ancestors().skip(1).take(folders_in(text)) {
        // By now somebody else may have put something there.
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
        removed.push(folder.to_path_buf());
    }
    if kind == Kind::Systemd && reachable(programs, scope).is_ok() {
        let reloaded = systemctl(programs, scope, &["daemon-reload"]);
        trouble = trouble.or(reloaded.err().map(|e| e.to_string()));
    }
    Ok((removed, trouble))
}

/// The arguments with what says whose manager is meant.
pub(super) fn with_scope<'a>(scope: &Scope, arguments: &[&'a str]) -> Vec<&'a str> {
    let user = (*scope == Scope::User).then_some("--user");
    user.into_iter().chain(arguments.iter().copied()).collect()
}

fn systemctl(programs: &mut Programs, scope: &Scope, arguments: &[&str]) -> Result<(), Error> {
    programs.change("systemctl", &with_scope(scope, arguments), None)
}

/// Whether the service manager can be asked; else why not.
fn reachable(programs: &Programs, scope: &Scope) -> Result<(), String> {
    match programs.look("systemctl", &with_scope(scope, &["show-environment"])) {
        Ok(answer) if answer.ok => Ok(()),
        Ok(answer) => Err(answer.stderr),
        Err(e) => Err(e.to_string()),
    }
}

/// Whether the unit is enabled, and whether it runs.
fn asked(programs: &Programs, scope: &Scope) -> (Option<bool>, Option<bool>) {
    let ask = |verb, yes: &str| {
        let answer = programs.look("systemctl", &with_scope(scope, &[verb, systemd::UNIT])).ok()?;
        let word = answer.word();
        (!word.is_empty()).then(|| word == yes)
    };
    (ask("is-enabled", "enabled"), ask("is-active", "active"))
}

fn start_systemd(
    programs: &mut Programs,
    scope: &Scope,
    due: Due,
    notes: &mut Vec<Note>,
) -> Result<bool, Error> {
    if let Err(message) = reachable(programs, scope) {
        // Enabling is a link, which some versions can make without their manager; it starts what is there
        // when the manager does.
        drop(programs.attempt("systemctl", &with_scope(scope, &["enable", systemd::UNIT]), None));
        notes.push(Note::Unreachable { message, own: *scope == Scope::User });
        return Ok(false);
    }
    if due.reload {
        systemctl(programs, scope, &["daemon-reload"])?;
    }
    match asked(programs, scope) {
        (Some(true), Some(true)) if due.restart => systemctl(programs, scope, &["restart", systemd::UNIT])?,
        (Some(true), Some(true)) => {}
        _ => systemctl(programs, scope, &["enable", "--now", systemd::UNIT])?,
    }
    if *scope == Scope::User {
        let user = fs::user_name();
        let answer = programs.look("loginctl", &["show-user", &user, "--property=Linger"]);
        if answer.is_ok_and(|answer| answer.word() == "Linger=no") {
            notes.push(Note::NotLingering { user });
        }
    }
    Ok(programs.dry || asked(programs, scope).1 == Some(true))
}

fn stop_systemd(programs: &mut Programs, scope: &Scope) -> Result<(), Error> {
    if reachable(programs, scope).is_ok() {
        return systemctl(programs, scope, &["disable", "--now", systemd::UNIT]);
    }
    // Whatever it says: what it leaves is taken away by hand.
    drop(programs.attempt("systemctl", &with_scope(scope, &["disable", systemd::UNIT]), None));
    Ok(())
}

fn state_of_systemd(programs: &Programs, scope: &Scope) -> (Option<bool>, Option<bool>, Option<String>) {
    let (enabled, running) = asked(programs, scope);
    match reachable(programs, scope) {
        Ok(()) => (enabled, running, None),
        Err(message) => (enabled, None, Some(message)),
    }
}

/// Where launchd keeps the job.
fn domain(scope: &Scope) -> String {
    match scope {
        Scope::User => format!("gui/{}", fs::effective_uid()),
        Scope::System { .. } => "system".to_owned(),
    }
}

/// Whether launchd knows the job, and whether it runs.
fn state_of_launchd(programs: &Programs, scope: &Scope) -> (Option<bool>, Option<bool>, Option<String>) {
    let job = format!("{}/{}", domain(scope), launchd::LABEL);
    match programs.look("launchctl", &["print", &job]) {
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            let running = answer.ok && text.lines().any(|line| line.trim() == "state = running");
            (Some(answer.ok), Some(running), None)
        }
        Err(e) => (None, None, Some(e.to_string())),
    }
}

fn start_launchd(programs: &mut Programs, scope: &Scope, path: &str, due: Due) -> Result<bool, Error> {
    let domain = domain(scope);
    let job = format!("{domain}/{}", launchd::LABEL);
    let (loaded, ..) = state_of_launchd(programs, scope);
    if loaded == Some(true) && due.restart {
        // It runs by the old file, or the old settings.
        programs.change("launchctl", &["bootout", &job], None)?;
    }
    if loaded != Some(true) || due.restart {
        programs.change("launchctl", &["enable", &job], None)?;
        programs.change("launchctl", &["bootstrap", &domain, path], None)?;
    }
    Ok(programs.dry || state_of_launchd(programs, scope).1 == Some(true))
}

fn stop_launchd(programs: &mut Programs, scope: &Scope) -> Result<(), Error> {
    let job = format!("{}/{}", domain(scope), launchd::LABEL);
    match state_of_launchd(programs, scope).0 {
        Some(true) => programs.change("launchctl", &["bootout", &job], None),
        _ => Ok(()),
    }
}

/// The arguments that say whose crontab is meant.
fn of_user<'a>(scope: &'a Scope, argument: &'a str) -> Vec<&'a str> {
    match scope {
        Scope::User => vec![argument],
        Scope::System { user } => vec!["-u", user, argument],
    }
}

/// The crontab; `None` where there is no cron.
pub(super) fn crontab_of(scope: &Scope, programs: &Programs) -> Result<Option<Vec<u8>>, Error> {
    let arguments = of_user(scope, "-l");
    match programs.look("crontab", &arguments) {
        Ok(answer) if answer.ok => Ok(Some(answer.stdout)),
        Ok(answer) if crontab::is_none(&answer.stderr) => Ok(Some(Vec::new())),
        Ok(answer) => {
            let command = format!("crontab {}", arguments.join(" "));
            Err(Error::Command { command, message: answer.stderr })
        }
        Err(Error::Program { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A crontab as far as it can be read.
enum Crontab {
    Text(Vec<u8>),
    /// There is no cron.
    None,
    /// It cannot be read, for this reason. A line in it may run nevertheless: who may use `crontab` no more keeps the
    /// one that he had.
    Unread(String),
}

/// The crontab for one who wants a service of this kind, or of any: then one that cannot be read stops no other.
fn crontab_for(scope: &Scope, wanted: Option<Kind>, programs: &Programs) -> Result<Crontab, Error> {
    match (crontab_of(scope, programs), wanted) {
        (Ok(Some(text)), _) => Ok(Crontab::Text(text)),
        (Ok(None), _) => Ok(Crontab::None),
        (Err(e), None) => Ok(Crontab::Unread(e.to_string())),
        (Err(e), Some(_)) => Err(e),
    }
}

fn install_job(service: &Service, scope: &Scope, programs: &mut Programs) -> Result<Installed, Error> {
    let job = crontab::job(service)?;
    let old = crontab_of(scope, programs)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not installed"))
        .map_err(|source| Error::Program { program: "crontab", source })?;
    let new = crontab::with(&old, Some(&job));
    let changed = new != old;
    if changed {
        programs.change("crontab", &of_user(scope, "-"), Some(&new))?;
    }
    let commands = std::mem::take(&mut programs.ran);
    Ok(Installed {
        kind: Kind::Cron,
        path: None,
        text: job,
        changed,
        running: true,
        commands,
        notes: Vec::new(),
    })
}

/// False when there was no line of ours in the crontab.
fn uninstall_job(scope: &Scope, old: &[u8], programs: &mut Programs) -> Result<bool, Error> {
    if crontab::find(old).is_none() {
        return Ok(false);
    }
    let new = crontab::with(old, None);
    if new.trim_ascii().is_empty() {
        programs.change("crontab", &of_user(scope, "-r"), None)?;
    } else {
        programs.change("crontab", &of_user(scope, "-"), Some(&new))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_missing_folders_count_as_made() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        let file = base.join("systemd/user/exuvia.service");
        assert_eq!(missing_between(base, &file), 2);
        std::fs::create_dir(base.join("systemd")).unwrap();
        assert_eq!(missing_between(base, &file), 1);
        write(&file, "x").unwrap();
        assert_eq!(missing_between(base, &file), 0);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("exuvia.service");
        assert!(read(&file).unwrap().is_none());
        std::fs::write(&file, "[Unit]\n").unwrap();
        assert!(matches!(read(&file), Err(Error::Foreign { .. })));
        std::fs::write(&file, format!("# {MARK}\n")).unwrap();
        assert!(read(&file).unwrap().is_some());
    }
}
