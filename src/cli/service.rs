//! `exuvia service`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::error::{CliError, Status};
use super::global::{self, Context, GlobalArgs};
use super::output::Style;
use super::repository::Place;
use super::service_needs::Needs;
use super::settings::{self, Origin, Running};
use super::{passphrase, text};
use crate::app::Location;
use crate::app::service::{
    self as app, Error, How, Installed, Kind, Note, Places, Removed, Scope, Service, State, Uninstalled,
};
use crate::config::Environment;
use crate::model::{Classify, ErrorClass};

/// Keep the scheduler running: a service of systemd or launchd, or a line in a crontab
///
/// The service runs `exuvia daemon` with the settings that are in force here: the configuration file, and what
/// flags and environment say besides. No secret gets into its file; a passphrase must come from a file, a command,
/// or the keyring.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia service install\n  exuvia service status\n  sudo exuvia service install --system --user ann\n  exuvia service install --kind cron\n  exuvia service uninstall"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write the service and start it
    ///
    /// What is there already is brought up to date, and left alone when nothing differs. Says what was written and
    /// which commands were run. Exit code 1 when the service was written but could not be started.
    #[command(
        after_help = "Examples:\n  exuvia service install --dry-run\n  exuvia service install\n  sudo exuvia --config /etc/exuvia.toml service install --system --user ann"
    )]
    Install {
        #[command(flatten)]
        which: Which,
        /// Show what would be written and run
        #[arg(long, short = 'n')]
        dry_run: bool,
    },
    /// Stop the service and take away everything that `install` made
    #[command(after_help = "Examples:\n  exuvia service uninstall\n  sudo exuvia service uninstall --system")]
    Uninstall {
        #[command(flatten)]
        which: Which,
        /// Show what would be removed and run
        #[arg(long, short = 'n')]
        dry_run: bool,
    },
    /// Tell whether the service is installed, enabled and running, and as `install` would write it
    ///
    /// Exit code 0 when all of this is so, else 1.
    #[command(after_help = "Examples:\n  exuvia service status\n  exuvia --json service status")]
    Status {
        #[command(flatten)]
        which: Which,
    },
}

/// Which service is meant.
#[derive(clap::Args, Debug, Default)]
struct Which {
    /// A service of the machine, which runs from boot on; needs root
    #[arg(long)]
    system: bool,

    /// The user that a service of the machine runs as [default: who called sudo, else root]
    #[arg(long, value_name = "NAME", requires = "system")]
    user: Option<String>,

    /// What runs the scheduler [default: systemd on Linux, launchd on macOS, cron where there is neither]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    /// A unit
    Systemd,
    /// An agent
    Launchd,
    /// A line in the crontab: every five minutes `exuvia daemon --once` does what is due
    Cron,
}

impl Args {
    /// What was installed is taken away whatever the configuration has become.
    pub(super) fn needs_no_settings(&self) -> bool {
        matches!(self.command, Command::Uninstall { .. })
    }

    /// The service is another's, who may have variables that are not set here.
    pub(super) fn is_for_another(&self) -> bool {
        match &self.command {
            Command::Install { which, .. } | Command::Uninstall { which, .. } | Command::Status { which } => {
                which.system
            }
        }
    }
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Systemd => Self::Systemd,
            KindArg::Launchd => Self::Launchd,
            KindArg::Cron => Self::Cron,
        }
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct InstallSummary<'a> {
    r#type: &'static str,
    action: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    path: Option<text::JsonPath>,
    text: &'a str,
    changed: bool,
    running: bool,
    commands: &'a [String],
    notes: Vec<String>,
    dry_run: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct UninstallSummary {
    r#type: &'static str,
    action: &'static str,
    removed: Vec<text::JsonPath>,
    commands: Vec<String>,
    dry_run: bool,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct StatusSummary {
    r#type: &'static str,
    ok: bool,
    installed: bool,
    services: Vec<StatusRow>,
}

#[derive(Serialize)]
struct StatusRow {
    kind: &'static str,
    #[serde(flatten)]
    path: Option<text::JsonPath>,
    enabled: Option<bool>,
    running: Option<bool>,
    differs: bool,
    unreachable: Option<String>,
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let out = Self::new(error.class(), error.to_string());
        match error {
            Error::NotRoot => out.hint("run it with sudo; without --system it is a service of your own"),
            Error::Foreign { .. } => out.hint("move it away, or choose another --kind"),
            Error::Program { program: "crontab", .. } => {
                out.hint("is cron installed? in a container, let `exuvia daemon` be what it runs")
            }
            Error::Program { .. } => out.hint("`--kind cron` needs no service manager"),
            _ => out,
        }
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    match &args.command {
        Command::Install { which, dry_run } => {
            let wanted = Wanted::of(ctx, which)?;
            wanted.warnings().iter().for_each(|warning| ctx.output.warn(warning));
            let done = wanted.install(if *dry_run { How::Rehearse } else { How::Update })?;
            tell_installed(ctx, &done, *dry_run)?;
            let running = done.running || *dry_run;
            Ok(if running { Status::Done } else { Status::Bad(ErrorClass::Failed) })
        }
        Command::Uninstall { which, dry_run } => uninstall(ctx, which, *dry_run),
        Command::Status { which } => status(ctx, which),
    }
}

/// A service as it is wanted.
pub(super) struct Wanted {
    service: Service,
    scope: Scope,
    kind: Option<Kind>,
    places: Places,
    needs: Needs,
}

impl Wanted {
    /// The calling user's own, of the kind that fits.
    pub(super) fn own(ctx: &Context) -> Result<Self, CliError> {
        Self::of(ctx, &Which::default())
    }

    fn of(ctx: &Context, which: &Which) -> Result<Self, CliError> {
        let (scope, home) = scope_of(ctx, which)?;
        let theirs = home.map(|home| as_user(ctx, &home)).transpose()?;
        let ctx = theirs.as_ref().unwrap_or(ctx);
        let service = service(ctx)?;
        let needs = Needs::of(ctx, &service)?;
        Ok(Self { service, scope, kind: which.kind.map(Into::into), places: places(ctx)?, needs })
    }

    fn kind(&self) -> Kind {
        self.kind.unwrap_or_else(app::kind_here)
    }

    /// What will not work as it stands.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.needs.warnings(&self.scope, self.kind(), &self.places)
    }

    /// Refused where the daemon would end at once, for want of a variable.
    pub(super) fn install(&self, how: How) -> Result<Installed, CliError> {
        let kind = self.kind();
        self.needs.check(&self.scope, kind, &self.places)?;
        Ok(app::install(&self.service, &self.scope, kind, &self.places, how)?)
    }

    /// Whether there is one already, of whatever kind.
    pub(super) fn is_there(&self) -> Result<bool, CliError> {
        let states = app::status(&self.service, &self.scope, self.kind, &self.places)?;
        Ok(states.iter().any(State::is_found))
    }

    /// Takes away what [`Wanted::install`] made.
    pub(super) fn uninstall(&self) -> Result<(), CliError> {
        let Uninstalled { gone, .. } = app::uninstall(&self.scope, self.kind, &self.places, false)?;
        match gone.iter().find_map(still_running) {
            Some(trouble) => Err(CliError::failed(trouble)),
            None => Ok(()),
        }
    }
}

/// Whose service is meant; and the home directory of that user where it is not the calling one's.
fn scope_of(ctx: &Context, which: &Which) -> Result<(Scope, Option<PathBuf>), CliError> {
    if !which.system {
        return Ok((Scope::User, None));
    }
    let caller = || ctx.env.get("SUDO_USER").and_then(|name| name.into_string().ok());
    let user = which.user.clone().or_else(caller).unwrap_or_else(|| "root".to_owned());
    let home = app::home_of(&user)?;
    let theirs = Some(home).filter(|home| ctx.env.home().as_ref() != Some(home));
    Ok((Scope::System { user }, theirs))
}

/// The settings of a user whose home this is. What the caller's environment says is the caller's.
fn as_user(ctx: &Context, home: &Path) -> Result<Context, CliError> {
    let home = home.to_str().ok_or_else(|| CliError::usage("the user's home directory must be UTF-8"))?;
    let path = ctx.env.get("PATH").and_then(|path| path.into_string().ok()).unwrap_or_default();
    let args = GlobalArgs {
        repo: ctx.args.repo.clone(),
        state_dir: ctx.args.state_dir.clone(),
        config: ctx.args.config.clone(),
        bwlimit: ctx.args.bwlimit.clone(),
        ..ctx.args
    };
    Context::for_another(
        args,
        Environment::of(&[("HOME", home), ("PATH", &path)]),
        ctx.output.clone(),
        ctx.exit,
    )
}

fn places(ctx: &Context) -> Result<Places, CliError> {
    let home = ctx.env.home().ok_or_else(|| global::no_home("--kind cron"))?;
    let config_home = ctx.env.config_home().ok_or_else(|| global::no_home("--kind cron"))?;
    Ok(Places { home, config_home })
}

/// What the service runs, with the settings that are in force here.
fn service(ctx: &Context) -> Result<Service, CliError> {
    let failed = |e| CliError::failed(format!("cannot tell where this program is: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let place = Place::of(ctx)?;
    let (state_dir, state_origin) = settings::state_dir(ctx)?;
    let mut environment = Vec::new();
    if let Some(file) = &ctx.config.file {
        environment.push(("EXUVIA_CONFIG", global::absolute(file)?.into_os_string()));
    }
    if let Some(name) = repository_variable(&place)? {
        environment.push(("EXUVIA_REPO", name));
    }
    if matches!(state_origin, Origin::Flag(_) | Origin::Environment(_)) {
        environment.push(("EXUVIA_STATE_DIR", state_dir.clone().into_os_string()));
    }
    if let (cache, Origin::Environment(_)) = settings::cache_dir(ctx)? {
        environment.push(("EXUVIA_CACHE_DIR", cache.into_os_string()));
    }
    let kept = ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "RCLONE_CONFIG"];
    for name in kept {
        if let Some(path) = ctx.env.path(name).filter(|path| path.is_absolute()) {
            environment.push((name, path.into_os_string()));
        }
    }
    if let Some(rclone) = rclone_variable(ctx, &place)? {
        environment.push(("EXUVIA_RCLONE", rclone.into_os_string()));
    }
    if let Some(("passphrase_file", Some(path), Origin::Environment(name))) = passphrase::source(ctx) {
        environment.push((name, global::absolute(Path::new(&path))?.into_os_string()));
    }
    environment.extend(amounts(ctx)?);
    let writes = writes(ctx, &place, &state_dir)?;
    Ok(Service { program, environment, writes, low_priority: ctx.config.schedule.low_priority })
}

/// Switches and limits that a flag or a variable gave; those of the file are the service's by themselves.
fn amounts(ctx: &Context) -> Result<Vec<(&'static str, OsString)>, CliError> {
    let running = Running::of(ctx)?;
    let switch = |on: bool| Some(if on { "on" } else { "off" }.to_owned());
    let (cache, cache_origin) = settings::key_cache(ctx)?;
    let (keyring, keyring_origin) = settings::passphrase_keyring(ctx)?;
    let (threads, threads_origin) = settings::threads(ctx)?;
    // No limit is said so where the file has one.
    let tpslimit = running.tpslimit.0.unwrap_or(0.0).to_string();
    let given = |origin: &Origin| matches!(origin, Origin::Flag(_) | Origin::Environment(_));
    let all = [
        ("EXUVIA_KEY_CACHE", switch(cache), cache_origin),
        ("EXUVIA_PASSPHRASE_KEYRING", switch(keyring), keyring_origin),
        ("EXUVIA_BWLIMIT", running.bwlimit.0, running.bwlimit.1),
        ("EXUVIA_TPSLIMIT", Some(tpslimit), running.tpslimit.1),
        ("EXUVIA_CONNECTIONS", Some(running.connections.0.to_string()), running.connections.1),
        ("EXUVIA_THREADS", Some(threads.to_string()), threads_origin),
    ];
    let all = all.into_iter().filter(|(_, _, origin)| given(origin));
    Ok(all.filter_map(|(name, value, _)| Some((name, OsString::from(value?)))).collect())
}

/// Every user of the machine may read a service's file.
fn repository_variable(place: &Place) -> Result<Option<OsString>, CliError> {
    match (&place.origin, &place.location) {
        (Origin::File { .. } | Origin::Default, _) => Ok(None),
        (_, Location::Local(path)) => Ok(Some(path.clone().into_os_string())),
        (_, Location::Rclone(target)) if target.display.contains(",…") => {
            Err(CliError::usage("the repository's name has parameters, which may be secrets, and cannot stand in a service's file")
                .hint("put it into the configuration file, as `repository`"))
        }
        (_, Location::Rclone(target)) => Ok(Some(target.display.clone().into())),
    }
}

/// A service manager looks for programs in fewer places than a shell does.
fn rclone_variable(ctx: &Context, place: &Place) -> Result<Option<PathBuf>, CliError> {
    if matches!(place.location, Location::Local(_)) {
        return Ok(None);
    }
    let (program, origin) = Running::of(ctx)?.program;
    if program.components().count() > 1 {
        let named = matches!(origin, Origin::Environment(_));
        return if named { global::absolute(&program).map(Some) } else { Ok(None) };
    }
    let path = ctx.env.get("PATH").unwrap_or_default();
    let mut found =
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(&program));
    Ok(found.find(|path| path.is_file()))
}

/// Where the scheduler and its jobs write.
fn writes(ctx: &Context, place: &Place, state_dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    // A restore is prepared beside the state dir, and so is a drill.
    let mut writes = vec![state_dir.parent().unwrap_or(state_dir).to_path_buf(), settings::cache_dir(ctx)?.0];
    if let Location::Local(path) = &place.location {
        writes.push(path.clone());
    }
    if let Some(default) = &place.default {
        writes.extend(default.key_file.parent().map(Path::to_path_buf));
    }
    let home = ctx.env.home();
    let state = ctx.env.path("XDG_STATE_HOME").filter(|path| path.is_absolute());
    writes.extend(state.or_else(|| home.as_ref().map(|home| home.join(".local/state"))));
    writes.extend(
        ctx.config.health.prometheus_file.as_ref().and_then(|file| file.parent().map(Path::to_path_buf)),
    );
    // rclone keeps renewed tokens there.
    let rclone = ctx.env.path("RCLONE_CONFIG").and_then(|file| file.parent().map(Path::to_path_buf));
    writes.extend(rclone.or_else(|| ctx.env.config_home().map(|config| config.join("rclone"))));
    // Where one of them is, a variable says that only the service has.
    if writes.iter().any(|path| ctx.config.is_elsewhere(path)) {
        writes.push(PathBuf::from("/"));
    }
    Ok(writes)
}

/// A note in words.
pub(super) fn words(note: &Note) -> String {
    match note {
        Note::Unreachable { message, own } => {
            let (where_to, scope) =
                if *own { ("a session of your own", " --user") } else { ("a booted system", "") };
            format!(
                "the service manager cannot be asked, so nothing was started: {message}\n\
                 In {where_to}: systemctl{scope} enable --now exuvia.service\n\
                 Where there is none (a container, a bare login): `exuvia service install --kind cron`, or let \
                 `exuvia daemon` be what runs there"
            )
        }
        Note::NotLingering { user } => format!(
            "the service ends when {user} logs out; `loginctl enable-linger {user}` lets it run on, and start at boot"
        ),
    }
}

fn tell_installed(ctx: &Context, done: &Installed, dry_run: bool) -> Result<(), CliError> {
    let notes: Vec<String> = done.notes.iter().map(words).collect();
    if ctx.output.json {
        return ctx.output.document(&InstallSummary {
            r#type: "summary",
            action: "installed",
            kind: done.kind.name(),
            path: done.path.as_deref().map(Into::into),
            text: &done.text,
            changed: done.changed,
            running: done.running,
            commands: &done.commands,
            notes,
            dry_run,
        });
    }
    ctx.output.summary(&installed_words(ctx, done, dry_run))?;
    notes.iter().for_each(|note| ctx.output.say(note));
    Ok(())
}

pub(super) fn installed_words(ctx: &Context, done: &Installed, dry_run: bool) -> String {
    let place = done.path.as_deref().map_or_else(|| "the crontab".to_owned(), text::show);
    let wrote = match (dry_run, done.changed) {
        (true, true) => "would write to",
        (true, false) => "would leave",
        (false, true) => "wrote to",
        (false, false) => "as it should be already:",
    };
    let mut lines = vec![format!("{wrote} {}", ctx.output.paint(Style::Bold, &place))];
    if done.changed {
        lines.extend(done.text.lines().map(|line| format!("  {}", text::printable(line.as_bytes()))));
    }
    let ran = if dry_run { "would run" } else { "ran" };
    lines.extend(done.commands.iter().map(|command| format!("{ran}: {command}")));
    if !dry_run {
        lines.push(match (done.kind, done.running) {
            (Kind::Cron, _) => "cron runs it every five minutes".to_owned(),
            (_, true) => "the service is running".to_owned(),
            (_, false) => ctx.output.paint(Style::Yellow, "the service is not running"),
        });
    }
    lines.join("\n")
}

fn uninstall(ctx: &Context, which: &Which, dry_run: bool) -> Result<Status, CliError> {
    let (scope, theirs) = scope_of(ctx, which)?;
    let places = match theirs {
        Some(home) => Places { config_home: home.join(".config"), home },
        None => places(ctx)?,
    };
    let Uninstalled { gone, unread } = app::uninstall(&scope, which.kind.map(Into::into), &places, dry_run)?;
    let (status, troubles) = troubles(&gone, unread.as_deref());
    troubles.iter().for_each(|trouble| ctx.output.warn(trouble));
    let commands: Vec<String> = gone.iter().flat_map(|gone| gone.commands.iter().cloned()).collect();
    if ctx.output.json {
        let removed = gone.iter().flat_map(|gone| &gone.removed).map(|path| path.as_path().into()).collect();
        let summary =
            UninstallSummary { r#type: "summary", action: "uninstalled", removed, commands, dry_run };
        ctx.output.document(&summary)?;
        return Ok(status);
    }
    let (ran, removed) = if dry_run { ("would run", "would remove") } else { ("ran", "removed") };
    let mut lines: Vec<String> = commands.iter().map(|command| format!("{ran}: {command}")).collect();
    for gone in &gone {
        lines.extend(gone.removed.iter().map(|path| format!("{removed}: {}", text::show(path))));
        if gone.kind == Kind::Cron {
            lines.push(format!("{removed}: the line in the crontab"));
        }
    }
    if gone.is_empty() {
        let words = if unread.is_some() { "nothing was found" } else { "no service is installed" };
        lines.push(words.to_owned());
    }
    ctx.output.summary(&lines.join("\n"))?;
    Ok(status)
}

/// What did not go as it should, and what it comes to.
fn troubles(gone: &[Removed], unread: Option<&str>) -> (Status, Vec<String>) {
    let mut troubles: Vec<String> = gone.iter().filter_map(still_running).collect();
    let bad = !troubles.is_empty() || (gone.is_empty() && unread.is_some());
    troubles.extend(unread.map(unread_words));
    (if bad { Status::Bad(ErrorClass::Failed) } else { Status::Done }, troubles)
}

/// Of a service that is gone, but could not be stopped.
fn still_running(gone: &Removed) -> Option<String> {
    let trouble = gone.trouble.as_ref()?;
    Some(format!(
        "the service of {} was taken away, but may still run: {}",
        gone.kind.name(),
        text::printable(trouble.as_bytes())
    ))
}

fn unread_words(reason: &str) -> String {
    format!(
        "the crontab cannot be read, and may have a line that still runs `exuvia daemon`: {}; its administrator can \
         look, with `crontab -u USER -l`",
        text::printable(reason.as_bytes())
    )
}

fn is_well(state: &State) -> bool {
    let running = state.running == Some(true) || state.kind == Kind::Cron;
    state.enabled == Some(true) && running && !state.differs
}

fn status(ctx: &Context, which: &Which) -> Result<Status, CliError> {
    let wanted = Wanted::of(ctx, which)?;
    let states = app::status(&wanted.service, &wanted.scope, wanted.kind, &wanted.places)?;
    let ok = states.iter().any(is_well);
    if ctx.output.json {
        let services = states.iter().map(|state| StatusRow {
            kind: state.kind.name(),
            path: state.path.as_deref().map(Into::into),
            enabled: state.enabled,
            running: state.running,
            differs: state.differs,
            unreachable: state.unreachable.clone(),
        });
        let services: Vec<_> = services.collect();
        let installed = states.iter().any(State::is_found);
        ctx.output.document(&StatusSummary { r#type: "summary", ok, installed, services })?;
    } else {
        let mut lines: Vec<String> = states.iter().map(|state| state_words(ctx, state)).collect();
        if !states.iter().any(State::is_found) {
            lines.insert(0, "no service is installed; `exuvia service install` installs one".to_owned());
        }
        ctx.output.result(&lines.join("\n"))?;
    }
    Ok(if ok { Status::Done } else { Status::Bad(ErrorClass::Failed) })
}

fn state_words(ctx: &Context, state: &State) -> String {
    if let (false, Some(reason)) = (state.is_found(), &state.unreachable) {
        return format!("{}: {}", state.kind.name(), unread_words(reason));
    }
    let place = state.path.as_deref().map_or_else(|| "a line in the crontab".to_owned(), text::show);
    let mut words = format!("{}: installed ({place})", state.kind.name());
    if state.kind != Kind::Cron {
        let say = |what: Option<bool>, yes: &str, no: &str| match what {
            Some(true) => yes.to_owned(),
            Some(false) => ctx.output.paint(Style::Yellow, no),
            None => format!("perhaps {yes}"),
        };
        words += &format!(
            ", {}, {}",
            say(state.enabled, "enabled", "not enabled"),
            say(state.running, "running", "not running")
        );
    }
    if let Some(reason) = &state.unreachable {
        words += &format!("\nthe service manager cannot be asked: {}", text::printable(reason.as_bytes()));
    }
    if state.differs {
        words +=
            "\nit differs from what `exuvia service install` would write now, which brings it up to date";
    }
    words
}
