//! `exuvia daemon`, and what it has in common with `trigger` and `status`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::error::{CliError, Status};
use super::global::{self, Context, no_home};
use super::repository::Place;
use super::settings;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, HookConfig, LogFormat, OnCondition};
use crate::daemon::job::Job;
use crate::daemon::log::{Log, Style};
use crate::daemon::plan::Rules;
use crate::daemon::{self, DaemonError, Hooks, Notices, Parts, Places, Settings, records, socket};
use crate::model::{Classify, ErrorClass, Schedule, Timestamp};

/// What is added to twice the interval of backups, when nothing else is promised.
const LATE: Duration = Duration::from_secs(600);

/// Run backups and what belongs to them by themselves, as the configuration says
///
/// Takes snapshots of the state dir, forgets and prunes, checks and drills, each in its time: see [schedule] in the
/// configuration file. Missed runs are caught up with once; failed ones are tried again. `exuvia trigger` and, with
/// `watch = true`, changes make snapshots too. Stays in the foreground and logs to stderr, one line for each event.
///
/// SIGTERM ends it within five seconds: a backup that is cut off loses nothing, and triggers that wait are kept. SIGHUP
/// has it read the configuration again. Exit code 11 means that another daemon runs for this state dir.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia daemon\n  exuvia daemon --once        # for cron: what is due now, then the end\n  exuvia daemon --log-format json\n  exuvia --config /etc/agent.toml daemon"
)]
pub(super) struct Args {
    /// Run what is due now, and end
    #[arg(long)]
    once: bool,

    /// How the log is written, whatever the configuration file says
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    // Without one that can be named, every job would fail.
    Place::of(ctx)?;
    let fixed =
        Fixed { program: program()?, json: args.log_format.as_deref().map(|format| format == "json") };
    let settings = fixed.settings(ctx)?;
    let places = places(ctx)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let log = Arc::new(log(ctx, settings.log_json, &clock));
    let again = again(ctx, fixed);
    let parts = Parts { settings, reload: Box::new(again), places, clock, log };
    if args.once {
        let good = daemon::once(parts).map_err(explain)?;
        return Ok(if good { Status::Done } else { Status::Bad(ErrorClass::Failed) });
    }
    daemon::run(parts).map_err(explain)?;
    Ok(Status::Done)
}

pub(super) fn explain(error: DaemonError) -> CliError {
    let hint = match &error {
        DaemonError::Taken(_) => "`exuvia status` shows what it does; SIGTERM ends it",
        DaemonError::Records { .. } => "XDG_STATE_HOME says where records are kept",
        DaemonError::Stopped | DaemonError::Signals(_) => {
            return CliError::new(error.class(), error.to_string());
        }
    };
    CliError::new(error.class(), error.to_string()).hint(hint)
}

/// What stays as it was at the start, however often the configuration is read.
struct Fixed {
    /// The name of this program: once another version lies in its place, the system knows it by that name no more.
    program: PathBuf,
    /// Lines of the log are JSON, where a flag says so.
    json: Option<bool>,
}

impl Fixed {
    fn settings(&self, ctx: &Context) -> Result<Settings, CliError> {
        let settings = settings_of(ctx, &ctx.config)?;
        let log_json = self.json.unwrap_or(settings.log_json);
        Ok(Settings { program: self.program.clone(), log_json, ..settings })
    }
}

fn program() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|e| CliError::failed(format!("cannot find the program's own place: {e}")))
}

/// Reads the configuration again, with the flags and the environment of the start.
fn again(ctx: &Context, fixed: Fixed) -> impl Fn() -> Result<Settings, String> + use<> {
    let args = ctx.args.clone();
    let (output, exit) = (ctx.output.clone(), ctx.exit);
    move || {
        let env = crate::config::Environment::of_process();
        let fresh = Context::new(args.clone(), env, output.clone(), exit);
        fresh.and_then(|fresh| fixed.settings(&fresh)).map_err(|e| e.message)
    }
}

/// Where the records, the locks and the socket of the state dir lie.
pub(super) fn places(ctx: &Context) -> Result<Places, CliError> {
    let home = ctx.env.state_home().ok_or_else(|| no_home("XDG_STATE_HOME"))?;
    let state_dir = ctx.state_dir()?;
    let folder = records::folder_of(&home, &state_dir);
    let socket = socket::path_of(ctx.env.runtime_dir().as_deref(), &folder, &state_dir);
    Ok(Places { folder, socket })
}

/// A log on stderr.
pub(super) fn log(ctx: &Context, json: bool, clock: &Arc<dyn Clock>) -> Log {
    let style = Style { json: json || ctx.output.json, journal: journal_reads(ctx) };
    Log::new(style, Box::new(std::io::stderr()), Arc::clone(clock))
}

/// True when stderr is what the variable says the journal reads: others may inherit the variable.
fn journal_reads(ctx: &Context) -> bool {
    let named = ctx.env.get("JOURNAL_STREAM").and_then(|value| value.into_string().ok());
    let is = std::fs::metadata("/dev/stderr").map(|meta| format!("{}:{}", meta.dev(), meta.ino()));
    named.is_some_and(|named| is.is_ok_and(|is| is == named))
}

/// What the daemon is told.
pub(super) fn settings_of(ctx: &Context, config: &Config) -> Result<Settings, CliError> {
    let state_dir = ctx.state_dir()?;
    let schedule = &config.schedule;
    let hooks = [
        (Job::Backup, &config.hooks.backup),
        (Job::Prune, &config.hooks.prune),
        (Job::Check, &config.hooks.check),
        (Job::Drill, &config.hooks.drill),
        (Job::Full, &config.hooks.full),
    ];
    let health = &config.health;
    let mut unwatched = vec![settings::cache_dir(ctx)?.0];
    unwatched.extend(Place::of(ctx)?.local_directory());
    Ok(Settings {
        rules: rules(ctx, config, &state_dir)?,
        options: options(ctx, &state_dir)?,
        program: program()?,
        tags: config.backup.tags.clone(),
        forget: config.retention.is_some(),
        check_data: schedule.check_data.clone(),
        battery_pause: schedule.on_battery == OnCondition::Pause,
        metered_pause: schedule.on_metered == OnCondition::Pause,
        low_priority: schedule.low_priority,
        auto_restore: config.start.auto_restore,
        unwatched,
        hooks: hooks.into_iter().map(|(job, hooks)| (job, hooks_of(hooks))).collect(),
        notices: Notices {
            on_success: health.on_success.clone(),
            on_failure: health.on_failure.clone(),
            on_alarm: health.on_alarm.clone(),
            timeout: health.hook_timeout,
            ping_url: health.ping_url.clone(),
            prometheus_file: health.prometheus_file.clone(),
        },
        log_json: schedule.log_format == LogFormat::Json,
        state_dir,
    })
}

fn hooks_of(hooks: &HookConfig) -> Hooks {
    Hooks { pre: hooks.pre.clone(), post: hooks.post.clone(), timeout: hooks.timeout }
}

fn rules(ctx: &Context, config: &Config, state_dir: &std::path::Path) -> Result<Rules, CliError> {
    let schedule = &config.schedule;
    let mut schedules = BTreeMap::from([
        (Job::Backup, schedule.backup.clone()),
        (Job::Prune, schedule.prune.clone()),
        (Job::Check, schedule.check.clone()),
        (Job::Drill, schedule.drill.clone()),
        (Job::Full, schedule.full.clone()),
    ]);
    shorten(ctx, &mut schedules)?;
    let timezone = schedule.timezone.clone().unwrap_or_else(TimeZone::system);
    let start = &config.start;
    Ok(Rules {
        promise: promise(config, &schedules, &timezone),
        schedules,
        timezone,
        jitter: schedule.jitter,
        seed: daemon::seed(state_dir),
        retries: schedule.retries,
        debounce: config.triggers.iter().map(|(name, time)| (name.to_owned(), time)).collect(),
        watch: start.watch.then_some((start.watch_quiet, start.watch_max)),
    })
}

/// The age that the newest snapshot must not exceed: what the configuration promises, else twice the longest
/// pause between two backups, and ten minutes. Without a schedule nothing is promised.
fn promise(config: &Config, schedules: &BTreeMap<Job, Schedule>, timezone: &TimeZone) -> Option<Duration> {
    let now: Timestamp = SystemClock::new().now();
    config.health.promise.or_else(|| {
        let period = schedules.get(&Job::Backup)?.period(now, timezone)?;
        Some(period.saturating_mul(2).saturating_add(LATE))
    })
}

/// For tests only, and told to nobody: `EXUVIA_TEST_INTERVALS=backup=1,prune=2` sets intervals in seconds that the
/// configuration refuses as too short.
fn shorten(ctx: &Context, schedules: &mut BTreeMap<Job, Schedule>) -> Result<(), CliError> {
    let Some(text) = ctx.env.get("EXUVIA_TEST_INTERVALS") else { return Ok(()) };
    let wrong = || CliError::usage("EXUVIA_TEST_INTERVALS is for tests");
    for part in text.to_str().ok_or_else(wrong)?.split(',') {
        let (name, seconds) = part.split_once('=').ok_or_else(wrong)?;
        let job = Job::ALL.into_iter().find(|job| job.name() == name).ok_or_else(wrong)?;
        let seconds: u32 = seconds.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
        schedules.insert(job, Schedule::Every(Duration::from_secs(seconds.into())));
    }
    Ok(())
}

/// The options of this run that every job must have as well.
fn options(ctx: &Context, state_dir: &std::path::Path) -> Result<Vec<OsString>, CliError> {
    let args = &ctx.args;
    let mut options: Vec<OsString> = vec!["--state-dir".into(), state_dir.into()];
    if let Some(config) = &args.config {
        options.extend(["--config".into(), global::absolute(config)?.into_os_string()]);
    }
    let given = [
        ("--repo", args.repo.clone()),
        ("--threads", args.threads.map(|n| n.to_string().into())),
        ("--bwlimit", args.bwlimit.clone().map(OsString::from)),
        ("--tpslimit", args.tpslimit.map(|n| n.to_string().into())),
        ("--connections", args.connections.map(|n| n.to_string().into())),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            options.extend([name.into(), value]);
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn without_a_promise_it_follows_from_the_schedule() {
        let of = |schedule: &str, promise: Option<u64>| {
            let mut config = Config::default();
            config.health.promise = promise.map(Duration::from_secs);
            let schedules = BTreeMap::from([(Job::Backup, schedule.parse().unwrap())]);
            super::promise(&config, &schedules, &TimeZone::UTC).map(|promise| promise.as_secs())
        };
        assert_eq!(of("1h", None), Some(7_800));
        assert_eq!(of("daily 03:00", None), Some(2 * 86_400 + 600));
        assert_eq!(of("1h", Some(90_000)), Some(90_000));
        assert_eq!(of("off", None), None);
        assert_eq!(of("off", Some(60)), Some(60));
    }
}
