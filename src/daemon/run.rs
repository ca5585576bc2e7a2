//! The daemon itself: waits for times, signals, requests and changes, and runs one job after the other.

mod jobs;
#[cfg(test)]
mod tests;
mod triggers;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::jobs::{Current, Restore};
use self::triggers::Waiting;
use super::account;
use super::conditions;
use super::lock::{Claim, DaemonLock, Holder, JobLock};
use super::log::{Level, Log};
use super::plan::{self, Changes, Step};
use super::records::Records;
use super::settings::Settings;
use super::socket::{Asked, Server};
use super::watch::{Notice, Watcher};
use super::worker::Report;
use crate::clock::Clock;
use crate::fs;

/// The clock is looked at so often, since it may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(20);
/// What power and network are is asked for so often, in seconds.
const CONDITIONS_EVERY: i64 = 60;
/// The lock's heartbeat, in seconds.
const HEARTBEAT: i64 = 60;
/// Events on their way.
const QUEUE: usize = 256;
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
    /// The socket, by the environment of this process; a daemon says itself where it listens.
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
    /// Why jobs should wait.
    Conditions(Option<&'static str>),
    /// An alarm was told.
    Told,
}

/// What is known of whether this is a good moment.
#[derive(Default)]
struct Moment {
    /// Why jobs should wait.
    hold: Option<&'static str>,
    /// The system has answered; before, nothing that might have to wait is begun.
    known: bool,
    /// It is being asked.
    asking: bool,
    /// When it was last asked, in seconds since 1970.
    asked_at: Option<i64>,
}

struct Daemon {
    settings: Arc<Settings>,
    reload: Box<dyn Fn() -> Result<Settings, String>>,
    places: Places,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
    lock: DaemonLock,
    records: Records,
    changes: Changes,
    /// Who waits for triggers that wait themselves.
    waiting: Vec<Waiting>,
    current: Option<Current>,
    restore: Restore,
    watcher: Option<Watcher>,
    sender: Sender<Event>,
    moment: Moment,
    /// Alarms that are being told.
    telling: usize,
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
    daemon.finish(&events);
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
    while !daemon.is_stopping() && (daemon.begin_what_is_due() || !daemon.moment.known) {
        while daemon.is_busy() || !(daemon.moment.known || daemon.is_stopping()) {
            let Ok(event) = events.recv() else { break };
            if let Event::Ended(report) | Event::Restored(report) = &event {
                good &= report.ending.is_good();
            }
            daemon.handle(event);
        }
    }
    // Alarms are told once, so that this is the time.
    while daemon.telling > 0 && !daemon.is_stopping() {
        let Ok(event) = events.recv() else { break };
        daemon.handle(event);
    }
    Ok(good && !daemon.is_stopping())
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
            changes: None,
            waiting: Vec::new(),
            current: None,
            restore,
            watcher: None,
            sender,
            moment: Moment::default(),
            telling: 0,
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

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn serve(&mut self) -> Option<Server> {
        let path = &self.places.socket;
        let served = Server::start(path, self.sender.clone(), Event::Asked);
        match served.and_then(|server| self.lock.listens(path).map(|()| server)) {
            Ok(server) => Some(server),
            Err(e) => {
                let path = path.display();
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
        while !self.is_stopping() {
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
    }

    /// Waits for the end of what is under way, but not long.
    fn finish(&mut self, events: &Receiver<Event>) {
        let begun = self.clock.monotonic();
        while self.is_busy() || self.telling > 0 {
            let left = END.saturating_sub(self.clock.monotonic().saturating_sub(begun));
            match events.recv_timeout(left) {
                Ok(event) => self.handle(event),
                // The next daemon puts it right.
                Err(_) => break,
            }
        }
        self.send_away();
    }

    fn is_busy(&self) -> bool {
        self.current.is_some() || matches!(self.restore, Restore::Runs(..))
    }

    /// Brings everything up to date, and begins what is due, if anything is. True when something was begun.
    fn begin_what_is_due(&mut self) -> bool {
        let now = self.now();
        self.beat(now);
        self.look_at_conditions(now);
        self.read_notes(now);
        let mut changed = plan::settle(&self.settings.rules, &mut self.records, now);
        changed |= self.raise_alarms(now, None);
        if changed {
            self.save();
        }
        if self.is_busy() || self.is_stopping() {
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
        let step = self.decide(now);
        self.note_pause(&step);
        match step {
            Step::Start(job, cause) => self.begin(job, cause, now),
            Step::Wait { .. } => false,
        }
    }

    fn decide(&self, now: i64) -> Step {
        let hold = self.moment.hold.is_some() || !self.moment.known;
        plan::decide(&self.settings.rules, &self.records, self.changes, hold, now)
    }

    /// How long nothing will be due, as far as the clock goes on as it does.
    fn wait(&self) -> Duration {
        if self.is_busy() {
            return LOOK;
        }
        let now = self.now();
        let until = match self.restore {
            Restore::Due(at, _) => Some(at),
            _ => match self.decide(now) {
                Step::Wait { until, .. } => until,
                // Another command runs a job.
                Step::Start(..) => Some(now + 1),
            },
        };
        let left = until.and_then(|until| u64::try_from(until.saturating_sub(now)).ok());
        left.map_or(LOOK, |left| Duration::from_secs(left).clamp(Duration::from_millis(200), LOOK))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Terminate => self.terminate(),
            Event::Reload => self.reload(),
            Event::Asked((request, answer)) => self.answer(request, answer),
            Event::Watched(Notice::Changed) => {
                let now = self.now();
                let first = self.changes.map_or(now, |(first, _)| first);
                self.changes = Some((first, now));
            }
            Event::Watched(Notice::Trouble(message)) => self.log.say(Level::Warning, "watch", &message),
            Event::Started(pid) => self.started(pid),
            Event::Ended(report) => self.ended(&report),
            Event::Restored(report) => self.restored(&report),
            Event::Conditions(hold) => {
                (self.moment.hold, self.moment.known, self.moment.asking) = (hold, true, false);
            }
            Event::Told => self.telling = self.telling.saturating_sub(1),
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
                (self.moment.known, self.moment.asked_at) = (false, None);
                // Whoever waits until it is known waits for an answer that is under way.
                self.look_at_conditions(self.now());
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

    /// Has the system asked, which may take its time, whether jobs should wait.
    fn look_at_conditions(&mut self, now: i64) {
        let moment = &mut self.moment;
        if !self.settings.battery_pause && !self.settings.metered_pause {
            (moment.hold, moment.known) = (None, true);
            return;
        }
        let recent = moment.asked_at.is_some_and(|at| (now - CONDITIONS_EVERY..=now).contains(&at));
        if moment.asking || recent {
            return;
        }
        (moment.asking, moment.asked_at) = (true, Some(now));
        let (settings, clock) = (Arc::clone(&self.settings), Arc::clone(&self.clock));
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let hold = conditions::hold(&settings, clock.as_ref());
            let _ = sender.send(Event::Conditions(hold));
        });
    }

    fn note_pause(&mut self, step: &Step) {
        let waits = matches!(step, Step::Wait { paused: true, .. });
        let paused = self.moment.hold.filter(|_| waits).map(str::to_owned);
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

    fn save(&mut self) {
        account::save(&mut self.records, &self.places.folder, &self.settings, &self.log);
    }
}
