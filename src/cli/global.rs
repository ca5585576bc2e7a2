//! Options that every command takes, and what they come to together with environment,
//! configuration file and defaults.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::error::{self, CliError, Situation};
use super::interrupt::{self, Exit, OnSignal};
use super::output::Output;
use super::passphrase::Obtained;
use super::progress::Screen;
use super::repository::Place;
use super::settings;
use crate::app::{AppError, Location, Passphrase, Session};
use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigError, Environment};
use crate::report::Monitor;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArgs {
    /// The repository: a local path, or rclone:REMOTE:PATH [env: EXUVIA_REPO] [default: one in
    /// ~/.local/share/exuvia]
    #[arg(short, long, value_name = "REPO", global = true)]
    pub(super) repo: Option<std::ffi::OsString>,

    /// The state dir [env: EXUVIA_STATE_DIR] [default: that of OpenClaw, ~/.openclaw]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) state_dir: Option<PathBuf>,

    /// The configuration file [env: EXUVIA_CONFIG] [default: ~/.config/exuvia/config.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,

    /// Write results as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,

    /// Draw no progress bar
    #[arg(long, global = true)]
    pub(super) no_progress: bool,

    /// Worker threads [env: EXUVIA_THREADS] [default: one for each processor]
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=i64::from(settings::MAX_THREADS)))]
    pub(super) threads: Option<u16>,

    /// Bandwidth for a remote: 10M (MiB a second), 512k:2M (up and down) [env: EXUVIA_BWLIMIT] [default: no
    /// limit]
    #[arg(long, value_name = "RATE", global = true, value_parser = config::bandwidth)]
    pub(super) bwlimit: Option<String>,

    /// Requests to a remote in each second [env: EXUVIA_TPSLIMIT] [default: no limit]
    #[arg(long, value_name = "N", global = true, value_parser = config::transactions)]
    pub(super) tpslimit: Option<f64>,

    /// Requests to a remote under way at once [env: EXUVIA_CONNECTIONS] [default: 8]
    #[arg(long, value_name = "N", global = true, value_parser = config::connections)]
    pub(super) connections: Option<usize>,
}

/// Settings that are settled, for one run of one command.
pub(super) struct Context {
    pub(super) args: GlobalArgs,
    pub(super) env: Environment,
    pub(super) config: Config,
    pub(super) output: Output,
    pub(super) exit: Exit,
}

impl Context {
    pub(super) fn new(
        args: GlobalArgs,
        env: Environment,
        output: Output,
        exit: Exit,
    ) -> Result<Self, CliError> {
        Self::by(args, env, output, exit, Config::load)
    }

    /// The same for somebody else, who may have variables that are not set here.
    pub(super) fn for_another(
        args: GlobalArgs,
        env: Environment,
        output: Output,
        exit: Exit,
    ) -> Result<Self, CliError> {
        Self::by(args, env, output, exit, Config::load_for_another)
    }

    fn by(
        args: GlobalArgs,
        env: Environment,
        output: Output,
        exit: Exit,
        load: impl Fn(&Environment, Option<&Path>) -> Result<Config, ConfigError>,
    ) -> Result<Self, CliError> {
        let named = args.config.clone().or_else(|| env.path("EXUVIA_CONFIG"));
        let config = load(&env, named.as_deref())?;
        config.warnings.iter().for_each(|warning| output.warn(warning));
        Ok(Self { args, env, config, output, exit })
    }

    /// The same for a command that has a use without a configuration file, or with one that cannot be used.
    pub(super) fn without(args: GlobalArgs, env: Environment, output: Output, exit: Exit) -> Self {
        let named = args.config.clone().or_else(|| env.path("EXUVIA_CONFIG"));
        let config = Config::load(&env, named.as_deref()).unwrap_or_default();
        Self { args, env, config, output, exit }
    }

    /// The state dir as an absolute path.
    pub(super) fn state_dir(&self) -> Result<PathBuf, CliError> {
        settings::state_dir(self).map(|(path, _)| path)
    }

    /// The repository that is configured, and what opens it.
    pub(super) fn open(&self, on_signal: OnSignal) -> Result<Opened, CliError> {
        let place = Place::of(self)?;
        let obtained = place.passphrase(self)?;
        self.open_with(&place, obtained, on_signal)
    }

    /// Signals are listened to from here on: at a passphrase prompt they do what they always do.
    pub(super) fn open_with(
        &self,
        place: &Place,
        obtained: Obtained,
        on_signal: OnSignal,
    ) -> Result<Opened, CliError> {
        let cancelled = interrupt::listen(on_signal, self.exit);
        let screen = Arc::new(Screen::new(self.output.clone(), cancelled));
        let situation = place.situation(obtained.source);
        let session = Session {
            repository: place.location.clone(),
            passphrase: obtained.passphrase,
            cache_dir: settings::cache_dir(self)?.0,
            key_cache: settings::key_cache(self)?.0,
            monitor: Arc::<Screen>::clone(&screen),
            clock: Arc::new(SystemClock::new()),
            threads: settings::threads(self)?.0,
        };
        Ok(Opened { session, screen, situation, default_key: obtained.default_key })
    }

    /// For a place that is read without any repository.
    pub(super) fn open_elsewhere(&self, location: Location, on_signal: OnSignal) -> Result<Opened, CliError> {
        let cancelled = interrupt::listen(on_signal, self.exit);
        let screen = Arc::new(Screen::new(self.output.clone(), cancelled));
        let situation = Situation {
            unmade: false,
            remote: matches!(location, Location::Rclone(_)),
            configured: false,
            passphrase: String::new(),
        };
        let session = Session {
            repository: location,
            passphrase: Passphrase::new(Vec::new()),
            cache_dir: settings::cache_dir(self)?.0,
            key_cache: false,
            monitor: Arc::<Screen>::clone(&screen),
            clock: Arc::new(SystemClock::new()),
            threads: settings::threads(self)?.0,
        };
        Ok(Opened { session, screen, situation, default_key: false })
    }

    /// Listens to a step that needs no repository.
    pub(super) fn quiet_monitor(&self) -> Arc<dyn Monitor> {
        Arc::new(Screen::new(self.output.clone(), Arc::new(AtomicBool::new(false))))
    }

    /// The same without signals and bar, for a step before the operation itself.
    pub(super) fn quiet_session(&self, place: &Place, obtained: &Obtained) -> Result<Session, CliError> {
        Ok(Session {
            repository: place.location.clone(),
            passphrase: obtained.passphrase.clone(),
            cache_dir: settings::cache_dir(self)?.0,
            key_cache: settings::key_cache(self)?.0,
            monitor: Arc::new(Screen::new(self.output.clone(), Arc::new(AtomicBool::new(false)))),
            clock: Arc::new(SystemClock::new()),
            threads: settings::threads(self)?.0,
        })
    }
}

/// What a use case needs, and what is needed to speak about its end.
pub(super) struct Opened {
    session: Session,
    screen: Arc<Screen>,
    situation: Situation,
    /// The passphrase is that of the generated key file.
    pub(super) default_key: bool,
}

impl Opened {
    /// Runs a use case. `None` when the reader of its output went away.
    pub(super) fn stream<T>(
        &self,
        run: impl FnOnce(&Session) -> Result<T, AppError>,
    ) -> Result<Option<T>, CliError> {
        let result = run(&self.session);
        self.screen.finish();
        match result {
            Ok(outcome) => Ok(Some(outcome)),
            Err(e) => error::explain(&e, &self.situation).map_or(Ok(None), Err),
        }
    }

    /// Runs a use case that writes no output of its own.
    pub(super) fn run<T>(&self, run: impl FnOnce(&Session) -> Result<T, AppError>) -> Result<T, CliError> {
        self.stream(run)?.ok_or_else(|| CliError::failed("the output was closed"))
    }

    /// Takes the bar away, where results are written before the use case ends.
    pub(super) fn clear(&self) {
        self.screen.finish();
    }

    /// The same; `advise` adds to what is said of a failure.
    pub(super) fn run_advised<T>(
        &self,
        advise: fn(CliError, &AppError) -> CliError,
        run: impl FnOnce(&Session) -> Result<T, AppError>,
    ) -> Result<T, CliError> {
        let result = run(&self.session);
        self.screen.finish();
        result.map_err(|e| match error::explain(&e, &self.situation) {
            Some(explained) => advise(explained, &e),
            None => CliError::failed("the output was closed"),
        })
    }

    /// Where the passphrase came from, in words.
    pub(super) fn source(&self) -> &str {
        &self.situation.passphrase
    }

    pub(super) fn warnings(&self) -> u64 {
        self.screen.warnings()
    }
}

pub(super) fn no_home(instead: &str) -> CliError {
    CliError::usage("HOME is not set, so there is no default").hint(format!("set HOME, or give {instead}"))
}

/// Makes a path absolute without following links, so that what is recorded is what the user wrote.
/// Only `..` after a link needs the file system to be understood.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    let failed = |e: std::io::Error| CliError::usage(format!("{}: {e}", super::text::show(path)));
    let whole = std::path::absolute(path).map_err(failed)?;
    if whole.components().any(|part| part == std::path::Component::ParentDir) {
        return match (whole.parent(), whole.file_name()) {
            (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(failed)?.join(name)),
            _ => whole.canonicalize().map_err(failed),
        };
    }
    // Puts away a slash at the end.
    Ok(whole.components().collect())
}
