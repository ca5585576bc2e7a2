//! A running `rclone serve restic --stdio`.
//!
//! Its answers do not tell failures apart: version 1.60 answers 404 to whatever went wrong while an object
//! was looked up, later versions 500, and a deletion gets 404 in all of them. The reason is only in the log,
//! so every failed request waits for its line there. What rclone's `--timeout` and its pacers do (dead
//! connections, rate limits with their `Retry-After`) is left to them.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, Request, header};

use super::environment::{Environment, Scrubber, serve_arguments};
use super::fault::{Failure, Fault, Meaning, classify, meaning};
use super::http2::{Broken, Connection, Patience, Reply, Sending};
use super::listing::{BaseName, parse_listing};
use super::log::{Log, Mark};
use super::process::{Running, prepare, start};
use super::target::Target;
use super::version::Version;

/// Largest listing that is taken: some millions of objects.
const MAX_LISTING: u64 = 256 << 20;
/// How long the reason of a failure is waited for, in steps of a tenth of a second. rclone writes it
/// before it answers, so only the reading of it can be late.
const REASON_STEPS: u32 = 20;
/// The same for an answer that was cut, which need not have a reason.
const LOST_STEPS: u32 = 5;
/// How long a process that broke its connection has to tell why and to end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bodies of refusals are short.
const MAX_REFUSAL: u64 = 4 << 10;
/// The listing with sizes.
const LISTING: &str = "application/vnd.x.restic.rest.v2";

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// A whole object of at most so many bytes.
    Get {
        /// The bound.
        max: u64,
    },
    /// A part of an object; `len` is not 0.
    Range {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// An object's size.
    Head,
    /// To store an object, in place of what may be there.
    Post {
        /// All of it.
        body: &'a [u8],
    },
    /// To remove an object.
    Delete,
}

/// An answer to [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The bytes asked for: never more, and fewer only where the object ends.
    pub body: Vec<u8>,
    /// The length that rclone states.
    pub length: Option<u64>,
    /// The object has more bytes than may be taken.
    pub too_long: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// There is no such object.
    Missing,
    /// The object ends before the range asked for.
    OutOfRange,
    /// The service, or the way to it, failed.
    Failed(Failure),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// One process of rclone's and the connection to it. Ends when dropped.
pub struct Server {
    // Dropped in this order by `drop`: the closed connection is what tells rclone to end.
    connection: Option<Connection>,
    running: Mutex<Running>,
    log: Arc<Log>,
    scrubber: Scrubber,
    /// In milliseconds.
    idle: AtomicU64,
    /// It answered once, so its configuration is sound.
    answered: AtomicBool,
    usable: AtomicBool,
}

impl Server {
    /// Starts rclone. Whether it can reach the target shows with the first request.
    pub fn start(target: &Target, environment: &Environment) -> Result<Self, Failure> {
        let setup = |e: std::io::Error| Failure {
            message: format!("cannot speak with rclone: {e}"),
            fault: Fault::Setup,
        };
        // A socket rather than pipes: it closes when we end, however we end, and then rclone ends too.
        let (ours, theirs) = UnixStream::pair().map_err(setup)?;
        let mut command = prepare(&target.settings, environment, Some(target));
        command.args(serve_arguments(&target.settings));
        command.stdin(Stdio::from(OwnedFd::from(theirs.try_clone().map_err(setup)?)));
        command.stdout(Stdio::from(OwnedFd::from(theirs)));
        command.stderr(Stdio::piped());
        let mut child = start(&mut command, &target.settings.program, environment)?;
        // The command holds rclone's end of the socket; its end shows only when we let go of it.
        drop(command);
        let stderr = child.stderr.take();
        let running = Running::new(child);
        let log = Arc::new(Log::default());
        if let Some(stderr) = stderr {
            let log = log.clone();
            let follow = move || log.follow(stderr);
            std::thread::Builder::new().name("rclone log".into()).spawn(follow).map_err(setup)?;
        }
        Ok(Self {
            // A program that has ended already is found out, with its last words, by the first request.
            connection: Connection::open(ours).ok(),
            running: Mutex::new(running),
            log,
            scrubber: environment.scrubber(target),
            idle: AtomicU64::new(u64::try_from(target.settings.idle_timeout.as_millis()).unwrap_or(u64::MAX)),
            answered: AtomicBool::new(false),
            usable: AtomicBool::new(true),
        })
    }

    /// False when another process should be started for the next request.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire) && self.running().ended().is_none()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process as if it had crashed.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.running().kill();
    }

    /// Makes it impatient only when it has started, which takes long on a busy machine.
    #[cfg(test)]
    pub(crate) fn set_idle(&self, idle: Duration) {
        self.idle.store(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The process's number.
    #[cfg(test)]
    pub(crate) fn id(&self) -> u32 {
        self.running().id()
    }

    /// Asks for one object. No two requests for one object may be under way at once: the log could not
    /// tell them apart.
    pub fn ask(
        &self,
        name: &str,
        ask: Ask<'_>,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Answer, Problem> {
        let (method, body, max): (_, &[u8], _) = match ask {
            Ask::Get { max } => (Method::GET, &[], max),
            Ask::Range { len, .. } => (Method::GET, &[], len),
            Ask::Head => (Method::HEAD, &[], 0),
            Ask::Post { body } => (Method::POST, body, MAX_REFUSAL),
            Ask::Delete => (Method::DELETE, &[], MAX_REFUSAL),
        };
        let mut request = request(method, &path_of(name)?)?;
        if let Ask::Range { offset, len } = ask {
            let last =
                len.checked_sub(1).and_then(|more| offset.checked_add(more)).ok_or(Problem::OutOfRange)?;
            request.headers_mut().insert(header::RANGE, value(&format!("bytes={offset}-{last}"))?);
        }
        if let Ask::Post { body } = ask {
            request.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
        }
        let mark = self.log.mark();
        let reply = self.exchange(name, mark, request, body, max, cancelled)?;
        match (reply.status, ask) {
            (200, Ask::Range { offset, .. }) if offset > 0 || reply.cut => {
                Err(self.failure("this backend cannot read parts of an object".into(), Fault::Setup).into())
            }
            (200..=299, _) => Ok(Answer { body: reply.body, length: reply.length, too_long: reply.cut }),
            (416, _) => Err(Problem::OutOfRange),
            _ => Err(self.refusal(name, mark, &reply, cancelled)),
        }
    }

    /// Begins to store an object whose length nobody knows yet. As with [`Server::ask`], it must be the only request
    /// for that object.
    pub fn begin(
        self: &Arc<Self>,
        name: &str,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Posting, Problem> {
        // Without a length in its head, rclone streams it on, or gathers it where a service wants to know.
        let request = request(Method::POST, &path_of(name)?)?;
        let mark = self.log.mark();
        let patience = Patience { cancelled, idle: self.idle() };
        let ended = || Broken::Lost { reason: "the connection has ended".into(), only_this: false };
        let connection = self.connection.as_ref().ok_or_else(ended);
        match connection.and_then(|c| c.begin(request, &patience)) {
            Ok(sending) => {
                let name = name.to_string();
                Ok(Posting { sending, server: Arc::clone(self), name, mark, ended: false })
            }
            Err(broken) => Err(self.broken(name, mark, broken, true, cancelled)),
        }
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.idle.load(Ordering::Relaxed))
    }

    /// Lists a folder and those below it; one that is not there is empty.
    pub fn list(
        &self,
        folder: &str,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<BaseName>, Problem> {
        let mut request = request(Method::GET, &format!("{}/", path_of(folder)?))?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(LISTING));
        let mark = self.log.mark();
        let reply = self.exchange(folder, mark, request, &[], MAX_LISTING, cancelled)?;
        match reply.status {
            200 if reply.cut => {
                let message = format!("the listing has more than {MAX_LISTING} bytes");
                Err(self.failure(message, Fault::Setup).into())
            }
            200 if self.log.listing_lost_a_folder(folder, mark) => {
                let message = "a folder was removed while it was listed".to_string();
                Err(self.failure(message, Fault::Transient).into())
            }
            200 => Ok(parse_listing(&reply.body)?),
            _ => match self.refusal(folder, mark, &reply, cancelled) {
                // rclone answers an empty listing where there is no folder, so this is something else.
                Problem::Missing | Problem::OutOfRange => {
                    Err(self.failure("the listing failed for an unknown reason".into(), Fault::Other).into())
                }
                Problem::Failed(listing) if listing.fault == Fault::Other => {
                    Err(Problem::Failed(self.probe(folder, cancelled).unwrap_or(listing)))
                }
                problem => Err(problem),
            },
        }
    }

    /// Of a failed listing rclone logs the insides of the error, without its text; looking for an object
    /// that does not exist meets the same obstacle and names it.
    fn probe(&self, folder: &str, cancelled: &(dyn Fn() -> bool + Sync)) -> Option<Failure> {
        match self.ask(&format!("{folder}/exuvia-probe"), Ask::Head, cancelled) {
            Err(Problem::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    fn failure(&self, message: String, fault: Fault) -> Failure {
        Failure { message: self.scrubber.clean(&message), fault }
    }

    fn exchange(
        &self,
        name: &str,
        mark: Mark,
        request: Request<()>,
        body: &[u8],
        max: u64,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Reply, Problem> {
        let patience = Patience { cancelled, idle: self.idle() };
        let ended = || Broken::Lost { reason: "the connection has ended".into(), only_this: false };
        let connection = self.connection.as_ref().ok_or_else(ended);
        let upload = request.method() == Method::POST;
        match connection.and_then(|c| c.exchange(request, body, max, &patience)) {
            Ok(reply) => {
                self.greet(&reply)?;
                Ok(reply)
            }
            Err(broken) => Err(self.broken(name, mark, broken, upload, cancelled)),
        }
    }

    fn broken(
        &self,
        name: &str,
        mark: Mark,
        broken: Broken,
        upload: bool,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Problem {
        match broken {
            Broken::Interrupted => interrupted().into(),
            Broken::Idle { all } => {
                if all || upload {
                    self.abandon();
                }
                let message = format!("no progress for {} s", self.idle().as_secs());
                self.failure(message, Fault::Transient).into()
            }
            Broken::Lost { reason, only_this } => {
                let problem = self.lost(name, mark, &reason, only_this, cancelled);
                if upload {
                    self.abandon();
                }
                problem
            }
        }
    }

    /// Ends the process, so that nothing goes on in it behind our back. After an upload that broke off
    /// rclone may still clean up what it takes for a torn object, and by then that is the one of the next
    /// try (restic's issue 3834).
    fn abandon(&self) {
        self.usable.store(false, Ordering::Release);
        self.running().kill();
    }

    /// The first answer tells rclone's version.
    fn greet(&self, reply: &Reply) -> Result<(), Failure> {
        if self.answered.load(Ordering::Acquire) {
            return Ok(());
        }
        let setup = |message: String| Err(self.failure(message, Fault::Setup));
        match reply.server.as_deref().map(|server| (Version::parse(server), server)) {
            Some((Some(version), _)) if version < Version::OLDEST => {
                setup(format!("rclone {version} is too old: {} or later is needed", Version::OLDEST))
            }
            Some((Some(_), _)) => {
                self.answered.store(true, Ordering::Release);
                Ok(())
            }
            Some((None, server)) => {
                setup(format!("the program does not answer as rclone does but as {server}"))
            }
            // Nothing that was tested leaves the header out; it would be no reason to give up.
            None => Ok(()),
        }
    }

    /// A request that got no answer, or not all of it: one stream was cut, or rclone has ended.
    fn lost(
        &self,
        name: &str,
        mark: Mark,
        lost: &str,
        only_this: bool,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Problem {
        // Is it only this request? Then rclone has said why. Version 1.60 cuts its own refusals of ranges by
        // stating the length of the range.
        if let Some(reason) = self.reason(name, mark, LOST_STEPS, cancelled) {
            return match meaning(&reason) {
                Meaning::Failed(Fault::Other) => self.failure(reason, Fault::Transient).into(),
                meaning => self.problem(reason, meaning),
            };
        }
        let cut = || self.failure(format!("the answer was cut short: {lost}"), Fault::Transient);
        if only_this {
            return cut().into();
        }
        self.usable.store(false, Ordering::Release);
        let limit = if cancelled() { Duration::ZERO } else { LAST_WORDS };
        let Some(status) = self.running().wait(limit) else { return cut().into() };
        self.log.wait_for_end(LAST_WORDS);
        let words = self.log.last_words();
        let answered = self.answered.load(Ordering::Acquire);
        let fault = match words.as_deref().map(classify) {
            // It was killed, or ran out of memory; the next one may do better.
            _ if answered => Fault::Transient,
            Some(Fault::Other) if status.code().is_some() => Fault::Setup,
            Some(fault) => fault,
            None if status.code().is_some() => Fault::Setup,
            None => Fault::Other,
        };
        let words = words.map(|w| format!(": {w}")).unwrap_or_default();
        let words = words.replace(&format!("Failed to create file system for \"{}\": ", super::REMOTE), "");
        self.failure(format!("rclone has ended ({status}){words}"), fault).into()
    }

    /// What rclone logs about a request that failed.
    fn reason(
        &self,
        name: &str,
        mark: Mark,
        mut steps: u32,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Option<String> {
        self.log.reason(name, mark, &mut || {
            steps = steps.saturating_sub(1);
            steps > 0 && !cancelled()
        })
    }

    fn problem(&self, reason: String, meaning: Meaning) -> Problem {
        match meaning {
            Meaning::Missing => Problem::Missing,
            Meaning::OutOfRange => Problem::OutOfRange,
            Meaning::Failed(fault) => self.failure(reason, fault).into(),
        }
    }

    /// A request that rclone refused.
    fn refusal(
        &self,
        name: &str,
        mark: Mark,
        reply: &Reply,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Problem {
        match self.reason(name, mark, REASON_STEPS, cancelled) {
            Some(reason) => {
                let meaning = meaning(&reason);
                self.problem(reason, meaning)
            }
            None if cancelled() => interrupted().into(),
            None => {
                let text = String::from_utf8_lossy(&reply.body);
                let message = format!("rclone answers {} without a reason: {text}", reply.status);
                self.failure(message, Fault::Other).into()
            }
        }
    }
}

/// An object on its way to rclone. Given up before its end, it is reset, so that rclone takes back what a service lets
/// it take back; the process then serves nothing else, and a later request starts another one.
pub struct Posting {
    // Before the server, which owns what it runs on.
    sending: Sending,
    server: Arc<Server>,
    name: String,
    mark: Mark,
    /// It has come to an end, a good or a bad one.
    ended: bool,
}

impl Posting {
    /// Sends the next bytes; waits while rclone takes none.
    pub fn write(&mut self, bytes: &[u8], cancelled: &(dyn Fn() -> bool + Sync)) -> Result<(), Problem> {
        let patience = Patience { cancelled, idle: self.server.idle() };
        match self.sending.send(bytes, &patience) {
            Ok(true) => Ok(()),
            // An answer before the end can only be a refusal.
            Ok(false) => Err(self.conclude(false, cancelled).err().unwrap_or_else(|| {
                let message = "rclone took an object for whole that was not".to_string();
                self.server.failure(message, Fault::Corrupt).into()
            })),
            Err(broken) => Err(self.server.broken(&self.name, self.mark, broken, true, cancelled)),
        }
    }

    /// Ends the object; tells how many bytes it has.
    pub fn finish(mut self, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<u64, Problem> {
        self.conclude(true, cancelled)?;
        Ok(self.sending.sent())
    }

    fn conclude(&mut self, whole: bool, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<(), Problem> {
        let patience = Patience { cancelled, idle: self.server.idle() };
        match self.sending.finish(whole, MAX_REFUSAL, &patience) {
            Ok(reply) => {
                self.server.greet(&reply)?;
                self.ended = true;
                match reply.status {
                    200..=299 => Ok(()),
                    _ => Err(self.server.refusal(&self.name, self.mark, &reply, cancelled)),
                }
            }
            Err(broken) => Err(self.server.broken(&self.name, self.mark, broken, true, cancelled)),
        }
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        if !self.ended {
            self.server.usable.store(false, Ordering::Release);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closes the socket.
        drop(self.connection.take());
        self.running().finish();
    }
}

fn interrupted() -> Failure {
    Failure { message: "stopped".into(), fault: Fault::Interrupted }
}

fn unusable(what: &str, e: &dyn std::fmt::Display) -> Failure {
    Failure { message: format!("{what}: {e}"), fault: Fault::Setup }
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|e| unusable("not a header", &e))
}

fn request(method: Method, path: &str) -> Result<Request<()>, Failure> {
    let uri = format!("http://localhost{path}");
    Request::builder().method(method).uri(uri).body(()).map_err(|e| unusable("not a request", &e))
}

/// The path of an object in a request. Refuses names that would leave the repository, and those below a
/// folder `data`, which rclone spreads over folders of its own.
pub fn path_of(name: &str) -> Result<String, Failure> {
    let sound = name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains('\0');
    if !sound || name == "data" || name.starts_with("data/") {
        let message = "no name for an object".to_string();
        return Err(Failure { message, fault: Fault::Setup });
    }
    let mut path = String::with_capacity(name.len() + 1);
    path.push('/');
    for byte in name.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                path.push(char::from(byte))
            }
            // Writing to a string cannot fail.
            _ => drop(write!(path, "%{byte:02X}")),
        }
    }
    Ok(path)
}
