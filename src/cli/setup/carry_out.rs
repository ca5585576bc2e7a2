//! Does what was confirmed, step by step, and takes it back when a step fails. A snapshot that is published ends that:
//! from then on the repository holds something, and what opens it must stay.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use clap::{Args as _, FromArgMatches};
use serde::Serialize;
use zeroize::Zeroizing;

use super::plan::{Keep, Opens, Place, Plan};
use super::undo::Undo;
use super::{Setup, look, missing_above};
use crate::app::service::{How, Installed};
use crate::app::{self, InitRequest, Location, Passphrase, ScryptParams, Session};
use crate::cli::error::{CliError, Status};
use crate::cli::global::{Context, GlobalArgs};
use crate::cli::keyring::Item;
use crate::cli::output::Output;
use crate::cli::service::{self, Wanted};
use crate::cli::{
    backup, config_import, helper, interrupt, key_file, key_recovery, passphrase, settings, text,
};
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::config::draft::{DraftError, Replace};
use crate::model::{ErrorClass, RepositoryId};

/// The label of the first key.
const LABEL: &str = "setup";
/// Words of a recovery phrase that are asked for again.
const CONFIRMED: usize = 2;

/// What was done.
#[derive(Default)]
struct Done {
    /// The file that the new configuration took the place of.
    old_config: Option<PathBuf>,
    snapshot: Option<String>,
    complete: bool,
    service: Option<Installed>,
    /// What did not work, and is no reason to undo the rest.
    notes: Vec<String>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    config: String,
    state_dir: String,
    repository: &'a str,
    made: bool,
    passphrase_file: Option<String>,
    snapshot: Option<String>,
    service: Option<&'static str>,
    service_running: bool,
    notes: Vec<String>,
}

/// Does all of it.
pub(super) fn run(setup: &Setup<'_>, plan: &Plan) -> Result<Status, CliError> {
    let (location, name) = look::location(setup, &plan.place)?;
    let mut undo = Undo::default();
    // Whoever is impatient must not be left with half of it.
    interrupt::hold();
    match steps(setup, plan, &location, &name, &mut undo) {
        Ok(done) => {
            undo.keep();
            tell(setup, plan, &location, &name, &done)
        }
        Err(mut error) => {
            if error.class == ErrorClass::Interrupted {
                // Before the summary nothing was changed; by now something was.
                "interrupted".clone_into(&mut error.message);
            }
            setup.say("\nTaking back what was done ...");
            let left = undo.run();
            let undone = if left.is_empty() { "what was done before is undone" } else { "what is left:" };
            Err(left.into_iter().fold(error.hint(undone), CliError::hint))
        }
    }
}

/// Tries whether what the user named opens the repository that is there, if any; keeps nothing.
pub(super) fn try_passphrase(setup: &Setup<'_>, plan: &Plan) -> Result<(), CliError> {
    let (location, _) = look::location(setup, &plan.place)?;
    let (passphrase, source) = match &plan.opens {
        Opens::Generated(_) => {
            return Err(CliError::usage("there is a repository already, which a new key would not open")
                .hint("--passphrase-file names a file that holds its passphrase"));
        }
        Opens::File(path) => {
            let source = text::show(path);
            (passphrase::from_file(setup.ctx, path, &source)?.passphrase, source)
        }
        Opens::Typed(secret, _) => (typed(secret.expose()), "the terminal".to_owned()),
        Opens::Imported => (imported(setup, plan)?, "passphrase_command".to_owned()),
    };
    if !plan.exists {
        return Ok(());
    }
    let session = session(setup, setup.ctx, &location, passphrase)?;
    // A cache of its own, which is never made: the real one may have a key, and would have to keep or forget it.
    let session = Session { cache_dir: session.cache_dir.join("setup"), key_cache: false, ..session };
    app::unlock_with_any_key(&session).map_err(|e| look::explain(&e, &location, &source))
}

/// What the command prints that was imported.
fn imported(setup: &Setup<'_>, plan: &Plan) -> Result<Passphrase, CliError> {
    let config = plan.draft(setup.base(&plan.place)).check(&setup.config, &setup.ctx.env)?.config;
    let missing = || CliError::usage("the settings of the earlier plugin do not say how to get a passphrase");
    let command = config.passphrase_command.ok_or_else(missing)?;
    let obtained = passphrase::from_command(command.as_ref(), "passphrase_command", helper::LIMIT)
        .map_err(|e| e.hint("--passphrase-file or --generate-passphrase-file says otherwise"))?;
    Ok(obtained.passphrase)
}

fn typed(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}

fn session(
    setup: &Setup<'_>,
    ctx: &Context,
    location: &Location,
    passphrase: Passphrase,
) -> Result<Session, CliError> {
    Ok(Session {
        repository: location.clone(),
        passphrase,
        cache_dir: settings::cache_dir(ctx)?.0,
        key_cache: settings::key_cache(ctx)?.0,
        monitor: look::screen(setup),
        clock: std::sync::Arc::new(SystemClock::new()),
        threads: settings::threads(ctx)?.0,
    })
}

/// Ends the work when the user asked for that.
fn go_on(setup: &Setup<'_>) -> Result<(), CliError> {
    match setup.cancelled.load(Ordering::SeqCst) {
        true => Err(CliError::new(ErrorClass::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

fn steps(
    setup: &Setup<'_>,
    plan: &Plan,
    location: &Location,
    name: &str,
    undo: &mut Undo<'_>,
) -> Result<Done, CliError> {
    let mut done = Done { complete: true, ..Done::default() };
    go_on(setup)?;
    note_folders(setup, plan, location, undo)?;
    let passphrase = keep_passphrase(setup, plan, name, undo)?;
    go_on(setup)?;
    done.old_config = write_config(setup, plan, undo)?;
    let ctx = configured(setup)?;
    let session = session(setup, &ctx, location, passphrase)?;
    go_on(setup)?;
    open_or_make(setup, plan, &session, undo)?;
    if plan.recovery {
        recovery(setup, &session)?;
    }
    go_on(setup)?;
    if plan.first_backup {
        done.complete = first_backup(setup, plan, &ctx, &session, &mut done)?;
        if done.snapshot.is_some() {
            undo.keep();
        }
    }
    if plan.service {
        go_on(setup).and_then(|()| install(setup, &ctx, &mut done, undo)).or_else(|e| {
            match done.snapshot {
                // All the rest is in place, and of use.
                Some(_) if e.class != ErrorClass::Interrupted => {
                    done.notes.push(format!("the service was not installed: {}", e.message));
                    done.notes.extend(e.hints);
                    Ok(())
                }
                Some(_) => {
                    done.notes.push(
                        "interrupted: the service was not installed; `exuvia service install` does it"
                            .to_owned(),
                    );
                    Ok(())
                }
                None => Err(e),
            }
        })?;
    }
    let outside = look::outside(setup, plan);
    done.notes.extend(outside.iter().map(config_import::outside_words));
    Ok(done)
}

/// Folders that are made on the way go when they are empty in the end.
fn note_folders(
    setup: &Setup<'_>,
    plan: &Plan,
    location: &Location,
    undo: &mut Undo<'_>,
) -> Result<(), CliError> {
    let cache = settings::cache_dir(setup.ctx)?.0;
    let mut files = vec![setup.config.clone(), cache.join("x")];
    files.extend(plan.opens.file().cloned());
    if let Location::Local(path) = location {
        files.push(path.join("x"));
    }
    let mut folders: Vec<PathBuf> = files.iter().flat_map(|file| missing_above(file)).collect();
    folders.sort();
    folders.dedup();
    // The first is undone last: a folder stands before what is in it.
    for folder in folders {
        undo.by(text::show(&folder), move || {
            match fs::remove_dir(&folder) {
                // By now somebody else may have put something there.
                Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                    Err("it is not empty".to_owned())
                }
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.to_string()),
                _ => Ok(()),
            }
        });
    }
    if cache.symlink_metadata().is_err() {
        undo.by(text::show(&cache), move || gone(fs::remove_dir_all(&cache)));
    }
    Ok(())
}

/// What is not there any more need not be removed.
fn gone(result: std::io::Result<()>) -> Result<(), String> {
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.to_string()),
        _ => Ok(()),
    }
}

fn remove_later(undo: &mut Undo<'_>, path: &Path) {
    let path = path.to_path_buf();
    undo.by(text::show(&path), move || gone(fs::remove_file(&path)));
}

/// The passphrase, kept where the plan says.
fn keep_passphrase(
    setup: &Setup<'_>,
    plan: &Plan,
    name: &str,
    undo: &mut Undo<'_>,
) -> Result<Passphrase, CliError> {
    let written = |path: &Path, result: std::io::Result<()>| {
        let shown = text::show(path);
        result.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                CliError::usage(format!("{shown} is there already; nothing is overwritten"))
                    .hint("--passphrase-file uses a file that is there")
            }
            _ => CliError::failed(format!("cannot write {shown}: {e}")),
        })
    };
    match &plan.opens {
        Opens::Generated(path) => {
            written(path, key_file::write(path))?;
            remove_later(undo, path);
            Ok(passphrase::from_file(setup.ctx, path, &text::show(path))?.passphrase)
        }
        Opens::File(path) => Ok(passphrase::from_file(setup.ctx, path, &text::show(path))?.passphrase),
        Opens::Typed(secret, Keep::File(path)) => {
            let mut line = Zeroizing::new(String::with_capacity(secret.expose().len() + 1));
            line.push_str(secret.expose());
            line.push('\n');
            written(path, key_file::write_text(path, line.as_bytes()))?;
            remove_later(undo, path);
            Ok(typed(secret.expose()))
        }
        Opens::Typed(secret, Keep::Keyring) => {
            let passphrase = typed(secret.expose());
            let item = Item::of(name);
            let before = item.look()?;
            item.store(&passphrase)?;
            let name = name.to_owned();
            undo.by("the passphrase in the keyring", move || {
                let item = Item::of(&name);
                match &before {
                    Some(before) => item.store(before),
                    None => item.forget().map(drop),
                }
                .map_err(|e| e.message)
            });
            Ok(passphrase)
        }
        Opens::Typed(secret, Keep::Nowhere) => Ok(typed(secret.expose())),
        Opens::Imported => imported(setup, plan),
    }
}

/// Writes the configuration; tells where the one is that it took the place of.
fn write_config(setup: &Setup<'_>, plan: &Plan, undo: &mut Undo<'_>) -> Result<Option<PathBuf>, CliError> {
    let draft = plan.draft(setup.base(&plan.place));
    let replace = if setup.replace { Replace::Yes } else { Replace::No };
    let failed = |e: DraftError| CliError::new(crate::model::Classify::class(&e), e.to_string());
    let written = draft.write(&setup.config, &setup.ctx.env, replace).map_err(failed)?;
    match written.old.clone() {
        None => remove_later(undo, &setup.config),
        Some(old) => {
            let path = setup.config.canonicalize().unwrap_or_else(|_| setup.config.clone());
            undo.by(text::show(&path), move || gone(fs::rename(&old, &path)));
        }
    }
    Ok(written.old)
}

/// The settings that are in force from now on.
fn configured(setup: &Setup<'_>) -> Result<Context, CliError> {
    let given = &setup.ctx.args;
    let args = GlobalArgs {
        repo: None,
        state_dir: None,
        config: Some(setup.config.clone()),
        bwlimit: given.bwlimit.clone(),
        ..*given
    };
    // The steps' own words would come between those of the summary.
    let output = match setup.ctx.output.json {
        true => Output::new(false, true, 0, false, &setup.ctx.env),
        false => setup.ctx.output.clone(),
    };
    Context::new(args, Environment::of_process(), output, setup.ctx.exit)
}

fn open_or_make(
    setup: &Setup<'_>,
    plan: &Plan,
    session: &Session,
    undo: &mut Undo<'_>,
) -> Result<(), CliError> {
    let explain = |e| look::explain(&e, &session.repository, "the answers");
    if plan.exists {
        return app::unlock_with_any_key(session).map_err(explain);
    }
    let made: Rc<Cell<Option<RepositoryId>>> = Rc::default();
    let theirs = Rc::clone(&made);
    // Nobody can interrupt what takes things back.
    let later = Session { monitor: setup.ctx.quiet_monitor(), ..session.clone() };
    undo.by("the repository", move || {
        // Of one that could not be made nothing is ours for certain: the next `init` begins where this one ended.
        let Some(made) = theirs.get() else { return Ok(()) };
        match app::take_back(&later, made) {
            Ok(true) => Ok(()),
            Ok(false) => Err("it has a snapshot by now, and stays".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    });
    let params = match plan.opens {
        Opens::Generated(_) => ScryptParams::GENERATED,
        _ => ScryptParams::PASSPHRASE,
    };
    let id = app::init(session, &InitRequest { label: LABEL.to_owned(), params }).map_err(explain)?;
    made.set(Some(id));
    Ok(())
}

/// Shows a recovery phrase, and asks for two of its words, so that it was written down.
fn recovery(setup: &Setup<'_>, session: &Session) -> Result<(), CliError> {
    let Some(terminal) = &setup.terminal else { return Ok(()) };
    let explain = |e| look::explain(&e, &session.repository, "the answers");
    let recovery = app::key_recovery(session, "recovery").map_err(explain)?;
    let phrase = Zeroizing::new(String::from_utf8_lossy(recovery.phrase.as_bytes()).into_owned());
    let grid = key_recovery::grid(&phrase);
    recovery.prove(&Passphrase::new(grid.as_bytes().to_vec())).map_err(explain)?;
    terminal.say("\nWrite these words down, in this order, and keep them where this machine is not:\n");
    terminal.say(&grid);
    let words: Vec<&str> = phrase.split(' ').collect();
    for place in places(words.len())? {
        loop {
            let typed = terminal.line(&format!("Word {} of your paper > ", place + 1), false)?;
            if words.get(place).is_some_and(|word| typed.trim().eq_ignore_ascii_case(word)) {
                break;
            }
            terminal.say("That is another word. They stand above.");
        }
    }
    Ok(())
}

/// Different places, in order, that nobody can foresee.
fn places(words: usize) -> Result<Vec<usize>, CliError> {
    let mut found = std::collections::BTreeSet::new();
    while found.len() < CONFIRMED.min(words) {
        let mut byte = [0u8];
        getrandom::fill(&mut byte).map_err(|e| CliError::failed(format!("no randomness: {e}")))?;
        found.insert(usize::from(byte[0]) % words);
    }
    Ok(found.into_iter().collect())
}

/// False when some files could not be read.
fn first_backup(
    setup: &Setup<'_>,
    plan: &Plan,
    ctx: &Context,
    session: &Session,
    done: &mut Done,
) -> Result<bool, CliError> {
    if !plan.state_dir.is_dir() {
        let path = text::show(&plan.state_dir);
        done.notes.push(format!("no first snapshot: {path} is not there yet"));
        return Ok(true);
    }
    setup.say(&format!("\nTaking the first snapshot of {} ...", text::show(&plan.state_dir)));
    let wrong = |e: clap::Error| CliError::failed(e.to_string());
    let matches = backup::Args::augment_args(clap::Command::new("backup"))
        .try_get_matches_from(["backup"])
        .map_err(wrong)?;
    let status = backup::run(backup::Args::from_arg_matches(&matches).map_err(wrong)?, ctx)?;
    let quiet = Session { monitor: setup.ctx.quiet_monitor(), ..session.clone() };
    // A writer key sees none.
    let newest =
        app::snapshots(&quiet, false).ok().and_then(|all| all.last().map(|info| info.id.to_string()));
    done.snapshot = Some(newest.unwrap_or_default());
    Ok(status == Status::Done)
}

fn install(setup: &Setup<'_>, ctx: &Context, done: &mut Done, undo: &mut Undo<'_>) -> Result<(), CliError> {
    let wanted = Wanted::own(ctx)?;
    done.notes.extend(wanted.warnings());
    let before = wanted.is_there()?;
    // One that runs has read the settings that were there before.
    let how = if setup.replace { How::Restart } else { How::Update };
    let installed = match wanted.install(how) {
        Err(e) if !before => {
            // It may have been written before it could not be started.
            return Err(match wanted.uninstall() {
                Ok(()) => e,
                Err(left) => e.hint(format!("it could not be taken away again: {}", left.message)),
            });
        }
        done => done?,
    };
    if !before {
        undo.by("the service", move || wanted.uninstall().map_err(|e| e.message));
    }
    done.notes.extend(installed.notes.iter().map(service::words));
    done.service = Some(installed);
    Ok(())
}

fn tell(
    setup: &Setup<'_>,
    plan: &Plan,
    location: &Location,
    name: &str,
    done: &Done,
) -> Result<Status, CliError> {
    let running = done.service.as_ref().is_some_and(|service| service.running);
    if setup.ctx.output.json {
        setup.ctx.output.document(&Summary {
            r#type: "summary",
            config: setup.config.to_string_lossy().into_owned(),
            state_dir: plan.state_dir.to_string_lossy().into_owned(),
            repository: name,
            made: !plan.exists,
            passphrase_file: plan.opens.file().map(|path| path.to_string_lossy().into_owned()),
            snapshot: done.snapshot.clone(),
            service: done.service.as_ref().map(|service| service.kind.name()),
            service_running: running,
            notes: done.notes.clone(),
        })?;
    } else {
        setup.ctx.output.summary(&words(setup, plan, location, name, done))?;
        done.notes.iter().for_each(|note| setup.ctx.output.warn(note));
    }
    Ok(if done.complete { Status::Done } else { Status::Incomplete })
}

/// What is where, and the two commands to know.
fn words(setup: &Setup<'_>, plan: &Plan, location: &Location, name: &str, done: &Done) -> String {
    let mut lines = vec!["\nSet up.".to_owned()];
    let mut row = |what: &str, value: String| lines.push(format!("  {what:<15}{value}"));
    row("configuration", text::show(&setup.config));
    if let Some(old) = &done.old_config {
        row("", format!("the old one is {}", text::show(old)));
    }
    row("repository", name.to_owned());
    if let Some(file) = plan.opens.file() {
        row(
            "passphrase",
            format!("{}: keep a copy elsewhere, without it nothing can be restored", text::show(file)),
        );
    }
    if let Some(snapshot) = &done.snapshot {
        row("snapshot", snapshot.get(..8).unwrap_or(snapshot).to_owned());
    }
    if let Some(service) = &done.service {
        let path = service.path.as_deref().map_or_else(|| "a line in the crontab".to_owned(), text::show);
        let state = if service.running { "" } else { ", not running yet" };
        row("service", format!("{path}{state}"));
    }
    let default = setup.ctx.env.config_home().map(|home| home.join("exuvia").join("config.toml"));
    let config = match default.as_ref() == Some(&setup.config) {
        true => String::new(),
        false => format!(" --config {}", text::shell_word(setup.config.as_os_str())),
    };
    let again = match (location, &plan.place) {
        (Location::Local(path), _) => format!("--repo {}", text::shell_word(path.as_os_str())),
        (_, Place::Rclone(_)) if !name.contains(",…") => {
            format!("--repo {}", text::shell_word(name.as_ref()))
        }
        _ => "--config A-COPY-OF-THE-CONFIGURATION".to_owned(),
    };
    let state = text::shell_word(plan.state_dir.as_os_str());
    lines.push(format!(
        "Two commands to know:\n  exuvia{config} status\n  exuvia {again} restore --to {state}     on a new machine, with the \
         passphrase"
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_different_words_are_asked_for() {
        for _ in 0..200 {
            let places = places(12).unwrap();
            assert!(places.len() == 2 && places[0] < places[1] && places[1] < 12, "{places:?}");
        }
        assert_eq!(places(1).unwrap(), [0]);
    }
}
