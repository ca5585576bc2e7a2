//! What the wizard has to know of the machine and of the place where the repository is to be.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Setup;
use super::plan::{Place, Plan};
use super::wizard::{Facts, Found, Wizard};
use crate::app::{self, DoctorRequest, Location, Severity};
use crate::cli::error::{self, CliError, Situation};
use crate::cli::global::Context;
use crate::cli::helper;
use crate::cli::keyring::Item;
use crate::cli::progress::Screen;
use crate::cli::settings::{self, Running};
use crate::cli::{passphrase, text, units};
use crate::clock::{Clock, SystemClock};
use crate::config::Environment;
use crate::config::import::{self, Import, ImportError};
use crate::model::ErrorClass;
use crate::report::Monitor;

/// Entries of a state dir that are counted, so that a huge one delays nobody.
const COUNTED: u64 = 200_000;
/// How long rclone may take to say what it knows.
const ASKED: Duration = Duration::from_secs(20);
/// How long somebody may take to log in.
const LOGIN: Duration = Duration::from_secs(900);

/// The settings of an earlier plugin, as a configuration, if OpenClaw's own file has any.
pub(super) fn earlier(ctx: &Context) -> Result<Option<(Import, PathBuf)>, CliError> {
    let (state_dir, _) = settings::state_dir(ctx)?;
    let named = ctx.args.state_dir.is_some() || ctx.env.get("EXUVIA_STATE_DIR").is_some();
    let file = if named { Some(state_dir.join("openclaw.json")) } else { import::default_file(&ctx.env) };
    let Some(file) = file else { return Ok(None) };
    match import::import(&file, None, &state_dir, &ctx.env) {
        Ok(import) => Ok(Some((import, file))),
        Err(ImportError::Both(_)) => {
            ctx.output.say(&format!(
                "{} has settings of two earlier plugins; `exuvia config import --plugin` takes those of one",
                text::show(&file)
            ));
            Ok(None)
        }
        // Most have none, and a file that cannot be understood is not setup's business.
        Err(_) => Ok(None),
    }
}

/// What is known before anything is asked.
pub(super) fn facts(setup: &Setup<'_>) -> Result<Facts, CliError> {
    let ctx = setup.ctx;
    let (state_dir, _) = settings::state_dir(ctx)?;
    let plugin =
        |(import, file): &(Import, PathBuf)| format!("{} in {}", import.plugin.name(), text::show(file));
    let home = ctx.env.home();
    let data = ctx.env.data_home().unwrap_or_else(|| state_dir.with_file_name("exuvia"));
    Ok(Facts {
        state_dirs: state_dirs(&state_dir, home.as_deref()),
        state_dir,
        folder: data.join("exuvia").join("repository"),
        passphrase_file: free(&setup.config.with_file_name("passphrase")),
        home,
        remotes: remotes(ctx)?,
        keyring: keyring(&ctx.env),
        plugin: setup.import.as_ref().map(plugin),
        command: setup
            .import
            .as_ref()
            .is_some_and(|(import, _)| matches!(import.passphrase, import::Passphrase::Configured(_))),
    })
}

/// Folders of agents that no backup of the planned state dir takes.
pub(super) fn outside(setup: &Setup<'_>, plan: &Plan) -> Vec<import::Outside> {
    let env = &setup.ctx.env;
    let usual = env.openclaw_state().is_some_and(|usual| usual == plan.state_dir);
    let file = import::default_file(env).filter(|_| usual);
    import::outside(&file.unwrap_or_else(|| plan.state_dir.join("openclaw.json")), &plan.state_dir, env)
}

/// A path that nothing has yet.
fn free(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let others = (2..100).map(|n| path.with_file_name(format!("{name}-{n}")));
    let mut all = std::iter::once(path.to_path_buf()).chain(others);
    all.find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| path.to_path_buf())
}

/// State dirs that exist: the one that is meant, and those of OpenClaw and its profiles.
fn state_dirs(meant: &Path, home: Option<&Path>) -> Vec<(PathBuf, String)> {
    let mut all = vec![meant.to_path_buf()];
    if let Some(home) = home {
        all.extend([home.join(".openclaw"), home.join(".clawdbot")]);
        let profile = |name: &str| name.starts_with(".openclaw-");
        let found = fs::read_dir(home).into_iter().flatten().flatten();
        let mut profiles: Vec<PathBuf> =
            found.filter(|entry| entry.file_name().to_str().is_some_and(profile)).map(|e| e.path()).collect();
        profiles.sort();
        all.extend(profiles);
    }
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for path in all {
        if path.is_dir() && !found.iter().any(|(known, _)| *known == path) {
            let about = about(&path);
            found.push((path, about));
        }
    }
    found
}

/// How much is in a directory; links are not followed.
fn about(dir: &Path) -> String {
    let (mut files, mut bytes, mut seen) = (0u64, 0u64, 0u64);
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            seen += 1;
            if seen > COUNTED {
                return format!("more than {}, {}", units::count(files, "file"), units::size(bytes));
            }
            // Gone by now, or closed: the backup will tell.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                todo.push(entry.path());
            } else {
                files += 1;
                bytes += meta.len();
            }
        }
    }
    format!("{}, {}", units::count(files, "file"), units::size(bytes))
}

/// rclone with a terminal of its own, and none of our secrets.
fn rclone(ctx: &Context) -> Result<Command, CliError> {
    let mut command = Command::new(Running::of(ctx)?.program.0);
    for name in passphrase::SECRETS {
        command.env_remove(name);
    }
    Ok(command)
}

/// The remotes that rclone has; `None` when it cannot be run. Without a configuration it has none, and would make a
/// folder for one.
fn remotes(ctx: &Context) -> Result<Option<Vec<String>>, CliError> {
    let (home, config) = (ctx.env.home(), ctx.env.config_home());
    let usual = [config.map(|c| c.join("rclone/rclone.conf")), home.map(|home| home.join(".rclone.conf"))];
    let mut places = std::iter::once(ctx.env.path("RCLONE_CONFIG")).chain(usual).flatten();
    if !places.any(|path| path.is_file()) {
        return Ok(Some(Vec::new()));
    }
    let mut command = rclone(ctx)?;
    command.args(["listremotes", "--ask-password=false"]).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(answer) = helper::ask(&mut command, None, ASKED) else { return Ok(None) };
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let names = text.lines().map(str::trim).filter(|name| name.len() > 1 && name.ends_with(':'));
    Ok(Some(names.map(|name| text::printable(name.as_bytes())).collect()))
}

/// Whether this session has a keyring that answers.
fn keyring(env: &Environment) -> bool {
    let session = cfg!(target_os = "macos") || env.get("DBUS_SESSION_BUS_ADDRESS").is_some();
    session && Item::of("exuvia setup").look().is_ok()
}

/// Logs in to a drive: rclone opens a browser, and prints a token, which nobody else gets to see.
pub(super) fn authorize(setup: &Setup<'_>, backend: &str) -> Result<Zeroizing<String>, CliError> {
    setup.say(&format!("rclone now asks for your leave to use {backend}. Ctrl-C ends it."));
    let mut command = rclone(setup.ctx)?;
    command.args(["authorize", backend]);
    let failed = |what: String| {
        CliError::failed(format!("no token: {what}")).hint(format!(
            "without a browser here, run `rclone authorize {backend}` where there is one, and paste the token"
        ))
    };
    let answer = helper::ask(&mut command, None, LOGIN).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => failed("rclone is not installed (https://rclone.org/install/)".to_owned()),
        _ => failed(e.to_string()),
    })?;
    if setup.cancelled.load(std::sync::atomic::Ordering::SeqCst) {
        return Err(super::terminal::interrupted());
    }
    if !answer.status.success() {
        return Err(failed(format!("rclone ended with {}", answer.status)));
    }
    token(&answer.stdout).ok_or_else(|| failed("rclone printed none".to_owned()))
}

/// The JSON object that `rclone authorize` prints among its words.
fn token(printed: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(printed).ok()?;
    let object = text.get(text.find('{')?..=text.rfind('}')?)?;
    let fields: serde_json::Value = serde_json::from_str(object).ok()?;
    fields.get("access_token")?;
    Some(Zeroizing::new(object.to_owned()))
}

/// The place as everything else knows it, and what it is called.
pub(super) fn location(setup: &Setup<'_>, place: &Place) -> Result<(Location, String), CliError> {
    let mut draft = setup.base(place);
    place.put(&mut draft);
    let config = draft.check(&setup.config, &setup.ctx.env)?.config;
    let location = match (&config.remote, config.repository) {
        (Some(remote), _) => Location::configured(remote, &Running::of(setup.ctx)?.settings())
            .map_err(|e| CliError::usage(e.to_string()))?,
        (None, Some(path)) => Location::Local(path.into()),
        (None, None) => return Err(CliError::usage("nothing says where the repository is")),
    };
    let name = match &location {
        Location::Local(path) => text::show(path),
        remote => text::printable(remote.to_string().as_bytes()),
    };
    Ok((location, name))
}

/// The monitor of a step that can be interrupted.
pub(super) fn screen(setup: &Setup<'_>) -> Arc<Screen> {
    Arc::new(Screen::new(setup.ctx.output.clone(), Arc::clone(&setup.cancelled)))
}

/// An error of the app in words, with hints.
pub(super) fn explain(error: &app::AppError, location: &Location, source: &str) -> CliError {
    let remote = matches!(location, Location::Rclone(_));
    let situation = Situation { unmade: false, remote, configured: remote, passphrase: source.to_owned() };
    error::explain(error, &situation).unwrap_or_else(|| CliError::failed(error.to_string()))
}

/// Looks what is at the place, and tries there what a backup does.
pub(super) fn look(setup: &Setup<'_>, wizard: &Wizard) -> Result<Found, CliError> {
    let place = wizard.place().ok_or_else(|| CliError::failed("no place was named"))?;
    let (location, name) = location(setup, &place)?;
    setup.say(&format!("\nLooking at {name} ..."));
    let monitor: Arc<dyn Monitor> = screen(setup);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let found = app::probe(&location, &monitor, &clock).map_err(|e| explain(&e, &location, ""))?;
    let missing = match &location {
        Location::Local(path) => path.symlink_metadata().is_err(),
        Location::Rclone(_) => false,
    };
    // A folder that is to be made is tried by making it.
    if !missing {
        try_out(setup, location, monitor, clock)?;
    }
    let words =
        if found { "There is a repository already." } else { "It can be used; no repository is there yet." };
    setup.say(words);
    Ok(if found { Found::Repository } else { Found::Nothing })
}

/// The probes of `exuvia doctor`: may it be stored to, read, listed.
fn try_out(
    setup: &Setup<'_>,
    location: Location,
    monitor: Arc<dyn Monitor>,
    clock: Arc<dyn Clock>,
) -> Result<(), CliError> {
    let remote = matches!(location, Location::Rclone(_));
    let request = DoctorRequest {
        location,
        passphrase: None,
        cache_dir: settings::cache_dir(setup.ctx)?.0,
        key_cache: false,
        remote_test: false,
        monitor: Arc::clone(&monitor),
        clock,
    };
    let situation = Situation { unmade: false, remote, configured: remote, passphrase: String::new() };
    let mut problem: Option<CliError> = None;
    app::doctor(&request, &mut |finding| {
        let shown = format!("  {}: {}", finding.topic, finding.message);
        match finding.severity {
            Severity::Problem => {
                let hints = finding.fault.map(|fault| error::hints(fault, &situation)).unwrap_or_default();
                let error = CliError::failed(format!("{}: {}", finding.topic, finding.message));
                problem.get_or_insert(hints.into_iter().fold(error, CliError::hint));
            }
            // What is well of a local folder goes without saying.
            Severity::Good if !remote => {}
            Severity::Note if finding.topic == "passphrase" || finding.topic == "repository" => {}
            _ => setup.say(&shown),
        }
    });
    if monitor.cancelled() {
        return Err(CliError::new(ErrorClass::Interrupted, "interrupted; nothing was changed"));
    }
    problem.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_token_is_found_among_words() {
        let printed = b"Paste the following into your remote machine --->\n{\"access_token\":\"a{b}\",\"expiry\":\"x\"}\n<---End paste\n";
        assert_eq!(*token(printed).unwrap(), "{\"access_token\":\"a{b}\",\"expiry\":\"x\"}");
        for wrong in [&b""[..], b"{}", b"} {", b"{\"a\":1}", b"\xff{\"access_token\":\"a\"}"] {
            assert!(token(wrong).is_none());
        }
    }

    #[test]
    fn state_dirs_are_found_with_their_sizes() {
        let home = tempfile::tempdir().unwrap();
        for dir in [".openclaw", ".openclaw-work", "other"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        fs::write(home.path().join(".openclaw/a"), [0; 1024]).unwrap();
        let found = state_dirs(&home.path().join(".openclaw"), Some(home.path()));
        let names: Vec<_> =
            found.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, [".openclaw", ".openclaw-work"]);
        assert_eq!(found[0].1, "1 file, 1.0 KiB");
        assert!(state_dirs(Path::new("/nowhere/at/all"), None).is_empty());
    }

    #[test]
    fn a_free_name_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        assert_eq!(free(&path), path);
        fs::write(&path, "").unwrap();
        assert_eq!(free(&path), dir.path().join("passphrase-2"));
    }
}
