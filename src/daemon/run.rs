//! The daemon itself: waits for times, signals, requests and changes, and runs one job after the other.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::conditions;
use super::job::{Ending, Job};
use super::lock::{Claim, DaemonLock, Holder, JobLock};
use super::log::{Level, Log};
use super::notify::Hook;
use super::plan::{self, Cause, Pending, Step};
use super::prometheus;
use super::records::{Failure, Records, Running};
use super::settings::Settings;
use super::socket::{Asked, Request, Response, Server};
use super::watch::{Notice, Watcher};
use super::worker::{self, Order, Report, cause_name};
use crate::clock::Clock;
use crate::fs::{self, Process};

/// The clock is looked at so often, since it may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(20);
/// What power and network are is asked for so often, in seconds.
const CONDITIONS_EVERY: i64 = 60;
/// The lock's heartbeat, in seconds.
const HEARTBEAT: i64 = 60;
/// Events on their way.
const QUEUE: usize = 256;
/// The longest wait before a failed auto-restore is tried again, in seconds.
const RESTORE_WAIT: i64 = 3_600;
/// After so long the process ends, whatever is under way.
const END: Duration = Duration::from_millis(4_800);

/// What ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another one is there.
    #[error("{}", taken(.0.as_ref()))]
    Taken(Option<Holder>),
    /// It was told to end while another command was running a job of the state dir.
    #[error("another command is running a job of this state dir; stopped waiting for its end")]
    Stopped,
    /// Its own files cannot be written or read.
    #[error("{path}: {source}", path = .path.display())]
    Records {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
}

impl crate::model::Classify for DaemonError {
    fn class(&self) -> crate::model::ErrorClass {
        match self {
            Self::Taken(_) => crate::model::ErrorClass::Busy,
            Self::Stopped => crate::model::ErrorClass::Interrupted,
            Self::Records { .. } | Self::Signals(_) => crate::model::ErrorClass::Failed,
        }
    }
}

fn taken(holder: Option<&Holder>) -> String {
    match holder.filter(|holder| holder.process.pid > 0) {
        Some(holder) => {
            let since = jiff::Timestamp::from_second(holder.since).unwrap_or_default();
            format!("a daemon runs for this state dir already: process {}, since {since}", holder.process.pid)
        }
        None => "a daemon runs for this state dir already".to_owned(),
    }
}

/// Where the daemon of a state dir keeps what is its own.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of records and locks.
    pub folder: PathBuf,
    /// The socket.
    pub socket: PathBuf,
}

impl Places {
    fn failed(&self, source: io::Error) -> DaemonError {
        DaemonError::Records { path: self.folder.clone(), source }
    }

    fn make(&self) -> Result<(), DaemonError> {
        fs::create_private_dir_all(&self.folder).map_err(|e| self.failed(e))
    }
}

/// What the daemon is made of.
pub struct Parts {
    /// What it is told.
    pub settings: Settings,
    /// Reads the configuration again.
    pub reload: Box<dyn Fn() -> Result<Settings, String>>,
    /// Its files.
    pub places: Places,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its log.
    pub log: Arc<Log>,
}

enum Event {
    Terminate,
    Reload,
    Asked(Asked),
    Watched(Notice),
    Started(u32),
    Ended(Box<Report>),
    Restored(Box<Report>),
}

/// A job that runs, and who waits for it.
struct Current {
    job: Job,
    cause: Cause,
    stop: Arc<AtomicBool>,
    waiting: Vec<Sender<Response>>,
    _lock: JobLock,
}

/// Where the restore before everything else stands.
enum Restore {
    /// It is to be tried at this time, after so many failures.
    Due(i64, u32),
    /// It is being tried.
    Runs(u32, Arc<AtomicBool>),
    Done,
}

struct Daemon {
    settings: Arc<Settings>,
    reload: Box<dyn Fn() -> Result<Settings, String>>,
    places: Places,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
    lock: DaemonLock,
    records: Records,
    pending: Pending,
    /// Who waits for a trigger that waits itself.
    waiting: BTreeMap<String, Vec<Sender<Response>>>,
    current: Option<Current>,
    restore: Restore,
    watcher: Option<Watcher>,
    sender: Sender<Event>,
    hold: Option<&'static str>,
    looked_at: i64,
    beat_at: i64,
    stop: Arc<AtomicBool>,
}

/// Runs until it is told to end.
pub fn run(parts: Parts) -> Result<(), DaemonError> {
    let (sender, events) = bounded(QUEUE);
    listen(&sender)?;
    let mut daemon = Daemon::start(parts, sender, &events)?;
    let server = daemon.serve();
    daemon.greet();
    daemon.watch();
    daemon.go(&events);
    drop(server);
    daemon.log.say(Level::Info, "daemon-ended", "the daemon ends");
    Ok(())
}

/// Runs what is due now, and ends. False when something failed.
pub fn once(parts: Parts) -> Result<bool, DaemonError> {
    let (sender, events) = bounded(QUEUE);
    listen(&sender)?;
    let mut daemon = Daemon::start(parts, sender, &events)?;
    let mut good = true;
    while !daemon.stop.load(Ordering::SeqCst) && daemon.begin_what_is_due() {
        while daemon.is_busy() {
            let Ok(event) = events.recv() else { break };
            if let Event::Ended(report) | Event::Restored(report) = &event {
                good &= report.ending.is_good();
            }
            daemon.handle(event);
        }
    }
    Ok(good && !daemon.stop.load(Ordering::SeqCst))
}

fn listen(events: &Sender<Event>) -> Result<(), DaemonError> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(DaemonError::Signals)?;
    let events = events.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGHUP { Event::Reload } else { Event::Terminate };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Waits until no other command runs a job.
fn wait_for_others(places: &Places, events: &Receiver<Event>) -> Result<JobLock, DaemonError> {
    loop {
        if let Some(lock) = JobLock::try_take(&places.folder).map_err(|e| places.failed(e))? {
            return Ok(lock);
        }
        if let Ok(Event::Terminate) = events.recv_timeout(Duration::from_millis(100)) {
            return Err(DaemonError::Stopped);
        }
    }
}

impl Daemon {
    fn start(parts: Parts, sender: Sender<Event>, events: &Receiver<Event>) -> Result<Self, DaemonError> {
        let Parts { settings, reload, places, clock, log } = parts;
        places.make()?;
        let claim = DaemonLock::claim(&places.folder, clock.as_ref()).map_err(|e| places.failed(e))?;
        let lock = match claim {
            Claim::Ours(lock) => lock,
            Claim::Taken(holder) => return Err(DaemonError::Taken(holder)),
        };
        let now = clock.now().secs;
        let restore = if settings.auto_restore { Restore::Due(now, 0) } else { Restore::Done };
        // A trigger that found no daemon may be at work: what it writes down comes first.
        let alone = wait_for_others(&places, events)?;
        let (records, wrong) = Records::load(&places.folder).map_err(|e| places.failed(e))?;
        if let Some(message) = wrong {
            log.say(Level::Warning, "records-lost", &message);
        }
        let mut daemon = Self {
            settings: Arc::new(settings),
            reload,
            places,
            clock,
            log,
            lock,
            records,
            pending: Pending::default(),
            waiting: BTreeMap::new(),
            current: None,
            restore,
            watcher: None,
            sender,
            hold: None,
            looked_at: i64::MIN,
            beat_at: now,
            stop: Arc::new(AtomicBool::new(false)),
        };
        daemon.put_right();
        drop(alone);
        Ok(daemon)
    }

    fn greet(&self) {
        let dir = self.settings.state_dir.display().to_string();
        let fields = [("state_dir", dir.clone().into()), ("pid", std::process::id().into())];
        self.log.event(Level::Info, "daemon-started", &fields, &format!("the daemon begins, for {dir}"));
    }

    fn now(&self) -> i64 {
        self.clock.now().secs
    }

    fn boot(&self) -> Option<String> {
        self.clock.boot().map(|boot| boot.id)
    }

    /// A job that ran when an earlier daemon was killed: it may still run, and nobody would hear of its end.
    fn put_right(&mut self) {
        let Some(Running { job: Some(job), process }) = self.records.running.take() else { return };
        let now = self.now();
        if let Some(process) = process {
            self.end_orphan(&process, job);
        }
        plan::end(&self.settings.rules, &mut self.records, job, Ending::Stopped, None, now);
        let message = format!("{job}: it was under way when the daemon was killed, and begins anew");
        self.log.event(Level::Warning, "job-interrupted", &[("job", job.name().into())], &message);
        self.save();
    }

    fn end_orphan(&self, process: &Process, job: Job) {
        let boot = self.boot();
        let begun = self.clock.monotonic();
        let mut killed = false;
        process.signal(boot.as_deref(), false);
        while process.is_alive(boot.as_deref()) {
            let passed = self.clock.monotonic().saturating_sub(begun);
            if passed > worker::GRACE * 2 {
                let message = format!("{job}: process {} of an earlier daemon does not end", process.pid);
                return self.log.say(Level::Warning, "job-interrupted", &message);
            }
            if passed > worker::GRACE && !killed {
                process.signal(boot.as_deref(), true);
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn serve(&self) -> Option<Server> {
        match Server::start(&self.places.socket, self.sender.clone(), Event::Asked) {
            Ok(server) => Some(server),
            Err(e) => {
                let path = self.places.socket.display();
                let message = format!("triggers do not reach this daemon: cannot listen on {path}: {e}");
                self.log.say(Level::Warning, "no-socket", &message);
                None
            }
        }
    }

    fn watch(&mut self) {
        self.watcher = self.settings.rules.watch.map(|_| {
            let sender = self.sender.clone();
            let mut unwatched = self.settings.unwatched.clone();
            unwatched.push(self.places.folder.clone());
            Watcher::start(&self.settings.state_dir, &unwatched, move |notice| {
                let _ = sender.send(Event::Watched(notice));
            })
        });
    }

    fn go(&mut self, events: &Receiver<Event>) {
        while !self.stop.load(Ordering::SeqCst) {
            let wait = if self.begin_what_is_due() { LOOK } else { self.wait() };
            match events.recv_timeout(wait) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What came meanwhile is one decision.
            while let Ok(event) = events.try_recv() {
                self.handle(event);
            }
        }
        let begun = self.clock.monotonic();
        while self.is_busy() {
            let left = END.saturating_sub(self.clock.monotonic().saturating_sub(begun));
            match events.recv_timeout(left) {
                Ok(event) => self.handle(event),
                // The next daemon puts it right.
                Err(_) => break,
            }
        }
        for answer in std::mem::take(&mut self.waiting).into_values().flatten() {
            let _ = answer.send(Response::failed("interrupted", "the daemon is ending"));
        }
    }

    fn is_busy(&self) -> bool {
        self.current.is_some() || matches!(self.restore, Restore::Runs(..))
    }

    /// Brings everything up to date, and begins what is due, if anything is. True when something was begun.
    fn begin_what_is_due(&mut self) -> bool {
        let now = self.now();
        self.beat(now);
        self.look_at_conditions(now);
        let mut changed = plan::settle(&self.settings.rules, &mut self.records, now);
        changed |= self.raise_alarms(now, None);
        if changed {
            self.save();
        }
        if self.is_busy() || self.stop.load(Ordering::SeqCst) {
            return false;
        }
        match self.restore {
            Restore::Due(at, failures) if at <= now => {
                self.begin_restore(failures);
                return true;
            }
            Restore::Done => {}
            // Nothing may be backed up that a restore would bring back.
            Restore::Due(..) | Restore::Runs(..) => return false,
        }
        let step = plan::decide(&self.settings.rules, &self.records, &self.pending, self.hold.is_some(), now);
        self.note_pause(&step);
        match step {
            Step::Start(job, cause) => self.begin(job, cause, now),
            Step::Wait { .. } => false,
        }
    }

    /// How long nothing will be due, as far as the clock goes on as it does.
    fn wait(&self) -> Duration {
        if self.is_busy() {
            return LOOK;
        }
        let now = self.now();
        let until = match self.restore {
            Restore::Due(at, _) => Some(at),
            _ => {
                let hold = self.hold.is_some();
                match plan::decide(&self.settings.rules, &self.records, &self.pending, hold, now) {
                    Step::Wait { until, .. } => until,
                    // Another command runs a job.
                    Step::Start(..) => Some(now + 1),
                }
            }
        };
        let left = until.and_then(|until| u64::try_from(until.saturating_sub(now)).ok());
        left.map_or(LOOK, |left| Duration::from_secs(left).clamp(Duration::from_millis(200), LOOK))
    }

    fn begin(&mut self, job: Job, cause: Cause, now: i64) -> bool {
        let lock = match JobLock::try_take(&self.places.folder) {
            Ok(Some(lock)) => lock,
            // A trigger that found no daemon; it is done soon.
            Ok(None) => return false,
            Err(e) => {
                let message = format!("{}: {e}", self.places.folder.display());
                self.log.say(Level::Error, "no-lock", &message);
                return false;
            }
        };
        plan::begin(&mut self.records, &mut self.pending, job, &cause, now);
        self.records.running = Some(Running { job: Some(job), process: None });
        self.save();
        let why = cause_name(&cause);
        let fields = [("job", job.name().into()), ("cause", why.clone().into())];
        self.log.event(Level::Info, "job-started", &fields, &format!("{job}: begins ({why})"));
        let waiting = match &cause {
            Cause::Trigger { name, .. } => self.waiting.remove(name).unwrap_or_default(),
            _ => Vec::new(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let order = Order {
            settings: Arc::clone(&self.settings),
            job,
            cause: cause.clone(),
            clock: Arc::clone(&self.clock),
            log: Arc::clone(&self.log),
            stop: Arc::clone(&stop),
        };
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let report = order.carry_out(|pid| drop(sender.send(Event::Started(pid))));
            let _ = sender.send(Event::Ended(Box::new(report)));
        });
        self.current = Some(Current { job, cause, stop, waiting, _lock: lock });
        true
    }

    fn begin_restore(&mut self, failures: u32) {
        let stop = Arc::new(AtomicBool::new(false));
        let (settings, clock, log) =
            (Arc::clone(&self.settings), Arc::clone(&self.clock), Arc::clone(&self.log));
        let (sender, ended) = (self.sender.clone(), Arc::clone(&stop));
        self.log.say(Level::Info, "restore-started", "auto-restore: begins");
        std::thread::spawn(move || {
            let arguments = ["auto-restore".into()];
            let clock = clock.as_ref();
            let report =
                worker::run_program(&settings, &arguments, &ended, clock, &log, "auto-restore", |_| {});
            let _ = sender.send(Event::Restored(Box::new(report)));
        });
        self.restore = Restore::Runs(failures, stop);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Terminate => self.terminate(),
            Event::Reload => self.reload(),
            Event::Asked((request, answer)) => self.answer(request, answer),
            Event::Watched(Notice::Changed) => {
                let now = self.now();
                let first = self.pending.changes.map_or(now, |(first, _)| first);
                self.pending.changes = Some((first, now));
            }
            Event::Watched(Notice::Trouble(message)) => self.log.say(Level::Warning, "watch", &message),
            Event::Started(pid) => {
                if let Some(running) = &mut self.records.running {
                    running.process = Some(Process::of(pid, self.clock.boot().map(|boot| boot.id)));
                    self.save();
                }
            }
            Event::Ended(report) => self.ended(&report),
            Event::Restored(report) => self.restored(&report),
        }
    }

    fn terminate(&mut self) {
        self.log.say(Level::Info, "stopping", "asked to end");
        self.stop.store(true, Ordering::SeqCst);
        if let Some(current) = &self.current {
            current.stop.store(true, Ordering::SeqCst);
        }
        if let Restore::Runs(_, stop) = &self.restore {
            stop.store(true, Ordering::SeqCst);
        }
    }

    fn reload(&mut self) {
        match (self.reload)() {
            Ok(settings) if settings.state_dir == self.settings.state_dir => {
                self.log.restyle(settings.log_json);
                self.settings = Arc::new(settings);
                self.looked_at = i64::MIN;
                self.watch();
                self.log.say(Level::Info, "reloaded", "the configuration was read again");
            }
            Ok(_) => {
                let message =
                    "the state dir is another one now; restart the daemon for that: what was in force stays";
                self.log.say(Level::Error, "reload-failed", message);
            }
            Err(message) => {
                let message = format!(
                    "the configuration cannot be used; what was in force stays, but jobs read it too, and fail until \
                     it is mended: {message}"
                );
                self.log.say(Level::Error, "reload-failed", &message);
            }
        }
    }

    fn answer(&mut self, request: Request, answer: Sender<Response>) {
        let (name, wait) = match request {
            Request::Ping => return drop(answer.send(self.state("here"))),
            Request::Status => return drop(answer.send(self.state("here"))),
            Request::Trigger { name, wait } => (name, wait),
        };
        let now = self.now();
        let fields = [("trigger", name.clone().into())];
        self.log.event(Level::Info, "triggered", &fields, &format!("trigger {name}"));
        if self.pending.triggers.len() >= QUEUE {
            return drop(answer.send(Response::failed("busy", "too many triggers wait already")));
        }
        self.pending.triggers.entry(name.clone()).or_insert(now);
        if wait {
            return self.waiting.entry(name).or_default().push(answer);
        }
        let deaf = self.settings.rules.debounce.get(&name).copied().unwrap_or_default();
        let last = self.records.triggers.get(&name).copied().unwrap_or(i64::MIN);
        let due = last.saturating_add_unsigned(deaf.as_secs());
        let mut response = self.state("a snapshot will be taken");
        if due > now {
            response.due = Some(due);
            response.message =
                "one was taken for this trigger just now; when its time is over, changes make another".into();
        }
        let _ = answer.send(response);
    }

    fn state(&self, message: &str) -> Response {
        Response {
            ok: true,
            message: message.to_owned(),
            pid: Some(std::process::id()),
            running: self.current.as_ref().map(|current| current.job.name().to_owned()),
            pending: self.pending.triggers.keys().cloned().collect(),
            ..Response::default()
        }
    }

    fn ended(&mut self, report: &Report) {
        let Some(current) = self.current.take() else { return };
        let now = self.now();
        let response =
            account(&self.settings, &mut self.records, &self.log, (current.job, &current.cause), report, now);
        self.raise_alarms(now, Some((current.job, report)));
        self.save();
        for answer in current.waiting {
            let _ = answer.send(response.clone());
        }
    }

    fn restored(&mut self, report: &Report) {
        let Restore::Runs(failures, _) = self.restore else { return };
        let message = report.summary.as_ref().and_then(|summary| summary.get("message")?.as_str());
        self.restore = match (&report.failure, report.ending) {
            (_, ending) if ending.is_good() => {
                let message = format!("auto-restore: {}", message.unwrap_or("done"));
                self.log.say(Level::Info, "restore-ended", &message);
                Restore::Done
            }
            // There is nothing to restore from, and a backup will tell if there should be.
            (Some((class, message)), _) if class == "no-repository" => {
                self.log.say(Level::Warning, "restore-ended", &format!("auto-restore: {message}"));
                Restore::Done
            }
            (failure, _) => {
                let words = failure.as_ref().map_or("it was stopped", |(_, message)| message.as_str());
                let message =
                    format!("auto-restore: failed, and nothing is backed up before it succeeds: {words}");
                self.log.say(Level::Error, "restore-failed", &message);
                let wait = (60_i64 << failures.min(6)).min(RESTORE_WAIT);
                Restore::Due(self.now().saturating_add(wait), failures.saturating_add(1))
            }
        };
    }

    /// Finds out what is not well and was before, and has the user's command tell of it. True when the list of
    /// what is not well changed.
    fn raise_alarms(&mut self, now: i64, ended: Option<(Job, &Report)>) -> bool {
        let alarms = alarms(&self.settings, &self.records, now, ended);
        let fresh: Vec<_> =
            alarms.iter().filter(|alarm| !self.records.alarms.contains(alarm)).cloned().collect();
        let changed = alarms != self.records.alarms;
        self.records.alarms = alarms;
        for alarm in fresh {
            let fields = [("alarm", alarm.clone().into())];
            self.log.event(Level::Error, "alarm", &fields, &format!("alarm: {alarm}"));
            self.run_alarm(&alarm);
        }
        changed
    }

    fn run_alarm(&self, alarm: &str) {
        let Some(command) = self.settings.notices.on_alarm.clone() else { return };
        let document = json!({
            "type": "alarm",
            "alarm": alarm,
            "state_dir": self.settings.state_dir.to_string_lossy(),
        });
        let (alarm, timeout) = (alarm.to_owned(), self.settings.notices.timeout);
        let (stop, clock, log) = (Arc::clone(&self.stop), Arc::clone(&self.clock), Arc::clone(&self.log));
        std::thread::spawn(move || {
            let variables = [("EXUVIA_ALARM", alarm.as_str())];
            let input = format!("{document}\n").into_bytes();
            let hook = Hook {
                key: "health.on_alarm",
                command: command.expose(),
                timeout,
                variables: &variables,
                input: &input,
            };
            hook.run_and_tell(&stop, clock.as_ref(), &log);
        });
    }

    fn look_at_conditions(&mut self, now: i64) {
        if (now - CONDITIONS_EVERY..=now).contains(&self.looked_at) {
            return;
        }
        self.looked_at = now;
        self.hold = conditions::hold(&self.settings, self.clock.as_ref());
    }

    fn note_pause(&mut self, step: &Step) {
        let waits = matches!(step, Step::Wait { paused: true, .. });
        let paused = self.hold.filter(|_| waits).map(str::to_owned);
        if paused != self.records.paused {
            if let Some(why) = &paused {
                self.log.say(Level::Info, "paused", &format!("what is due waits: {why}"));
            }
            self.records.paused = paused;
            self.save();
        }
    }

    fn beat(&mut self, now: i64) {
        if (now - HEARTBEAT..=now).contains(&self.beat_at) {
            return;
        }
        self.beat_at = now;
        if let Err(e) = self.lock.beat(now) {
            self.log.say(Level::Warning, "no-heartbeat", &format!("{}: {e}", self.places.folder.display()));
        }
    }

    /// Whoever cannot write records goes on with those in memory: backups matter more.
    fn save(&mut self) {
        save(&mut self.records, &self.places.folder, &self.settings, &self.log);
    }
}

/// Writes the records, and the file for Prometheus.
pub(super) fn save(records: &mut Records, folder: &Path, settings: &Settings, log: &Log) {
    if let Err(e) = records.save(folder) {
        log.say(Level::Error, "records-not-written", &format!("{}: {e}", folder.display()));
    }
    if let Some(path) = &settings.notices.prometheus_file
        && let Err(e) = prometheus::write(path, records, &settings.rules, &settings.state_dir)
    {
        log.say(Level::Warning, "prometheus-not-written", &format!("{}: {e}", path.display()));
    }
}

/// Enters how a job ended, and says so; the answer is for those who waited.
pub(super) fn account(
    settings: &Settings,
    records: &mut Records,
    log: &Log,
    (job, cause): (Job, &Cause),
    report: &Report,
    now: i64,
) -> Response {
    let failure = report.failure.as_ref().map(|(class, message)| Failure::new(now, class, message));
    plan::end(&settings.rules, records, job, report.ending, failure.clone(), now);
    let record = records.job(job);
    record.duration_ms = Some(worker::millis(report.took));
    if job == Job::Backup && report.ending.is_good() {
        record.snapshot = report.snapshot();
    }
    records.running = None;
    let level = if report.ending == Ending::Failed { Level::Error } else { Level::Info };
    let words = match &failure {
        Some(failure) => format!("{job}: failed: {}", failure.message),
        None => format!("{job}: {}{}", report.ending.name(), snapshot_words(job, report)),
    };
    let fields = [
        ("job", job.name().into()),
        ("cause", cause_name(cause).into()),
        ("result", report.ending.name().into()),
        ("duration_ms", worker::millis(report.took).into()),
    ];
    log.event(level, "job-ended", &fields, &words);
    match (failure, report.ending) {
        (Some(failure), _) => Response::failed(&failure.class, failure.message),
        (None, Ending::Stopped) => Response::failed("interrupted", "the daemon is ending"),
        (None, _) => {
            Response { ok: true, message: words, summary: report.summary.clone(), ..Response::default() }
        }
    }
}

fn snapshot_words(job: Job, report: &Report) -> String {
    match report.snapshot().filter(|_| job == Job::Backup) {
        Some(snapshot) => {
            let id = snapshot.id.unwrap_or_default();
            let short = id.get(..8).unwrap_or(&id);
            format!(", snapshot {short}, {} files, {} bytes added", snapshot.files, snapshot.added)
        }
        None => String::new(),
    }
}

/// What is not well, by the words of `status`.
fn alarms(settings: &Settings, records: &Records, now: i64, ended: Option<(Job, &Report)>) -> Vec<String> {
    let mut found = Vec::new();
    if overdue(settings, records, now) {
        found.push("overdue".to_owned());
    }
    for (job, name) in [(Job::Drill, "drill-failed"), (Job::Check, "check-failed")] {
        let failed =
            records.get(job).and_then(|record| record.last_failure.as_ref().map(|f| (f, record.failures)));
        if failed.is_some_and(|(failure, failures)| failures > 0 && failure.class == "damaged") {
            found.push(name.to_owned());
        }
    }
    match ended {
        Some((Job::Backup, report)) if report.ending.is_good() => {
            found.extend(report.alarms().into_iter().map(str::to_owned));
        }
        // What the last backup told stands until the next one.
        _ => {
            let told = records.alarms.iter().filter(|alarm| matches!(alarm.as_str(), "shrunk" | "vanished"));
            found.extend(told.cloned());
        }
    }
    found
}

/// True when the newest snapshot is older than was promised.
fn overdue(settings: &Settings, records: &Records, now: i64) -> bool {
    let (Some(promise), Some(record)) = (settings.rules.promise, records.get(Job::Backup)) else {
        return false;
    };
    let since = record.last_success.or(record.anchor).unwrap_or(now);
    now.saturating_sub(since) > i64::try_from(promise.as_secs()).unwrap_or(i64::MAX)
}
