//! A remote that rclone reaches.
//!
//! What this transport cannot do: ask for the hash of a stored object. A stored object is confirmed by the
//! size that the backend reported for it, which rclone remembers, so the question costs the service
//! nothing; its name is the SHA-256 of its bytes, which scrubbing compares through `rclone hashsum` where
//! the service has it, or by reading. rclone also remembers the objects that it listed or stored: an object that another machine
//! removes meanwhile still has a size here, and only reading it tells. Rate limits are honoured by
//! rclone itself, whose backends wait as a service tells them (429, `Retry-After`).

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::retry::{Policy, Retrying};
use super::{Fault, Listed, Remote, RemoteError, Streaming, Verb};
use crate::clock::Clock;
use crate::fs::inherited_variables;
use crate::rclone::{
    self, Answer, Ask, BaseName, Environment, Failure, Posting, Problem, Server, Target, path_of,
};
use crate::report::Monitor;

/// The folder whose objects lie in folders of the first two characters of their names.
const SPREAD: &str = "packs";
/// Waiting for a turn is interrupted so often to see whether it should go on.
const TICK: Duration = Duration::from_millis(100);

/// Objects on any remote of rclone's. Failures that may pass are tried again.
pub struct Rclone {
    inner: Retrying<Service>,
}

impl Rclone {
    /// A remote at `target`; rclone is started by the first request.
    #[must_use]
    pub fn new(target: Target, monitor: Arc<dyn Monitor>, clock: Arc<dyn Clock>) -> Self {
        let policy = Policy { deadline: target.settings.deadline, ..Policy::default() };
        let service = Service::new(target, monitor.clone());
        Self { inner: Retrying::new(service, policy, monitor, clock) }
    }
}

impl Remote for Rclone {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get(name, max)
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.inner.get_range(name, offset, len)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.inner.put(name, bytes)
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        self.inner.stream(name)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.inner.list(folder)
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.inner.size(name)
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.inner.delete(name)
    }

    fn sha256(&self, objects: &[(&str, u64)]) -> Result<Option<BTreeMap<String, [u8; 32]>>, RemoteError> {
        self.inner.sha256(objects)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn parallel_requests(&self) -> usize {
        self.inner.parallel_requests()
    }
}

/// One try of each request, in a process of rclone's that is started when there is none. Clones share it.
#[derive(Clone)]
struct Service {
    target: Target,
    environment: Environment,
    monitor: Arc<dyn Monitor>,
    server: Arc<Mutex<Option<Arc<Server>>>>,
    turns: Arc<Turns>,
    /// Whether the service has hashes of the kind that names are made from; asked once.
    has_sha256: Arc<OnceLock<bool>>,
}

impl Service {
    fn new(target: Target, monitor: Arc<dyn Monitor>) -> Self {
        let turns = Arc::new(Turns::new(target.settings.connections));
        let environment = Environment::new(inherited_variables());
        let (server, has_sha256) = (Arc::default(), Arc::default());
        Self { target, environment, monitor, server, turns, has_sha256 }
    }

    /// The process at work; another one when the last has ended.
    fn server(&self) -> Result<Arc<Server>, Failure> {
        let mut slot = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = slot.as_ref().filter(|server| server.is_usable()) {
            return Ok(server.clone());
        }
        let server = Arc::new(Server::start(&self.target, &self.environment)?);
        let last = slot.replace(server.clone());
        // Others need not wait until it has ended.
        drop(slot);
        drop(last);
        Ok(server)
    }

    /// Waits for a turn on `name` and uses it.
    fn turn<T>(
        &self,
        name: &str,
        request: impl FnOnce(&Server, &(dyn Fn() -> bool + Sync)) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let cancelled = || self.monitor.cancelled();
        let Some(_turn) = self.turns.take(name, &cancelled) else { return Err(stopped().into()) };
        request(&*self.server()?, &cancelled)
    }

    fn ask(&self, verb: Verb, name: &str, ask: Ask<'_>) -> Result<Answer, RemoteError> {
        let answer = self.turn(name, |server, cancelled| server.ask(name, ask, cancelled));
        answer.map_err(|problem| match (problem, ask) {
            (Problem::Missing, Ask::Get { .. } | Ask::Range { .. } | Ask::Head) => {
                RemoteError::NotFound { name: name.to_string() }
            }
            // Where an upload finds something missing it is the folder or the bucket.
            (Problem::Missing, _) => failed(verb, name, "the folder does not exist", Fault::NoContainer),
            (Problem::OutOfRange, Ask::Range { offset, len }) => {
                self.short(name, offset.saturating_add(len), offset)
            }
            (Problem::OutOfRange, _) => failed(verb, name, "a range was refused", Fault::Other),
            (Problem::Failed(Failure { message, fault }), _) => failed(verb, name, &message, fault),
        })
    }

    /// Fewer bytes came than were asked for: because there are no more, or because the answer was cut.
    fn short(&self, name: &str, expected: u64, at_least: u64) -> RemoteError {
        match self.size(name) {
            Ok(found) if found >= expected => {
                failed(Verb::Get, name, "fewer bytes came than there are", Fault::Transient)
            }
            Ok(found) => RemoteError::Size { name: name.to_string(), expected, found },
            Err(e) if e.is_not_found() => e,
            // The range is wrong in any case.
            Err(_) => RemoteError::Size { name: name.to_string(), expected, found: at_least },
        }
    }

    /// Compares the size that the backend reported with that of what was sent.
    fn confirm(&self, name: &str, sent: u64) -> Result<(), RemoteError> {
        let stored = match self.ask(Verb::Put, name, Ask::Head) {
            Ok(answer) => answer.length,
            Err(e) if e.is_not_found() => {
                let message = "it is not there after it was stored";
                return Err(failed(Verb::Put, name, message, Fault::Corrupt));
            }
            Err(e) => return Err(e),
        };
        if stored == Some(sent) {
            return Ok(());
        }
        let stored = stored.map_or("an unknown number of".to_string(), |n| n.to_string());
        let message = format!("{stored} bytes are stored of {sent}");
        Err(failed(Verb::Put, name, &message, Fault::Corrupt))
    }

    /// Refuses what is no name before rclone is started for it.
    fn check(verb: Verb, name: &str) -> Result<(), RemoteError> {
        path_of(name).map(drop).map_err(|Failure { message, fault }| failed(verb, name, &message, fault))
    }
}

fn stopped() -> Failure {
    Failure { message: "stopped".to_string(), fault: Fault::Interrupted }
}

/// What a failed upload of unknown length says.
fn refused(name: &str, problem: Problem) -> RemoteError {
    match problem {
        Problem::Missing => failed(Verb::Put, name, "the folder does not exist", Fault::NoContainer),
        Problem::OutOfRange => failed(Verb::Put, name, "a range was refused", Fault::Other),
        Problem::Failed(Failure { message, fault }) => failed(Verb::Put, name, &message, fault),
    }
}

/// An object that is being streamed.
struct Posted {
    posting: Posting,
    turn: Turn,
    service: Service,
    name: String,
}

impl Streaming for Posted {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        let monitor = &self.service.monitor;
        self.posting.write(bytes, &|| monitor.cancelled()).map_err(|problem| refused(&self.name, problem))
    }

    fn finish(self: Box<Self>) -> Result<(), RemoteError> {
        let Self { posting, turn, service, name } = *self;
        let sent =
            posting.finish(&|| service.monitor.cancelled()).map_err(|problem| refused(&name, problem))?;
        // The question for its size is another request for the same object.
        drop(turn);
        service.confirm(&name, sent)
    }
}

fn failed(verb: Verb, name: &str, message: &str, fault: Fault) -> RemoteError {
    RemoteError::Service { verb, name: name.to_string(), message: message.to_string(), fault }
}

impl Remote for Service {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        Self::check(Verb::Get, name)?;
        let answer = self.ask(Verb::Get, name, Ask::Get { max })?;
        let taken = answer.body.len() as u64;
        if answer.too_long {
            let found = answer.length.unwrap_or_else(|| max.saturating_add(1));
            return Err(RemoteError::Size { name: name.to_string(), expected: max, found });
        }
        if answer.length.is_some_and(|length| length != taken) {
            return Err(failed(Verb::Get, name, "the answer was cut short", Fault::Transient));
        }
        Ok(answer.body)
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        Self::check(Verb::Get, name)?;
        let expected = offset.saturating_add(len);
        // No range can be asked for that is empty, or that ends where no file does: rclone's offsets are signed.
        if len == 0 || i64::try_from(expected).is_err() {
            let found = self.size(name)?;
            let size = || RemoteError::Size { name: name.to_string(), expected, found };
            return if expected <= found { Ok(Vec::new()) } else { Err(size()) };
        }
        let answer = self.ask(Verb::Get, name, Ask::Range { offset, len })?;
        let taken = answer.body.len() as u64;
        if taken < len {
            return Err(self.short(name, expected, offset.saturating_add(taken)));
        }
        if answer.too_long {
            return Err(failed(Verb::Get, name, "more bytes came than were asked for", Fault::Transient));
        }
        Ok(answer.body)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        Self::check(Verb::Put, name)?;
        self.ask(Verb::Put, name, Ask::Post { body: bytes })?;
        self.confirm(name, bytes.len() as u64)
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        Self::check(Verb::Put, name)?;
        let cancelled = || self.monitor.cancelled();
        let begin = || -> Result<_, Problem> {
            let turn = self.turns.take_beside(name, &cancelled).ok_or_else(stopped)?;
            Ok((self.server()?.begin(name, &cancelled)?, turn))
        };
        let (posting, turn) = begin().map_err(|problem| refused(name, problem))?;
        let service = self.clone();
        Ok(Box::new(Posted { posting, turn, service, name: name.to_string() }))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        Self::check(Verb::List, folder)?;
        let found = self.turn(folder, |server, cancelled| server.list(folder, cancelled));
        match found {
            Ok(found) => Ok(found.into_iter().filter_map(|base| full_name(folder, base)).collect()),
            Err(Problem::Failed(Failure { message, fault })) => {
                Err(failed(Verb::List, folder, &message, fault))
            }
            Err(Problem::Missing | Problem::OutOfRange) => {
                Err(failed(Verb::List, folder, "the listing failed", Fault::Other))
            }
        }
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        Self::check(Verb::Stat, name)?;
        let answer = self.ask(Verb::Stat, name, Ask::Head)?;
        answer.length.ok_or_else(|| failed(Verb::Stat, name, "rclone does not tell its size", Fault::Other))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        Self::check(Verb::Delete, name)?;
        let gone = self.turn(name, |server, cancelled| server.ask(name, Ask::Delete, cancelled));
        match gone {
            Ok(_) | Err(Problem::Missing) => Ok(()),
            Err(Problem::Failed(Failure { message, fault })) => {
                Err(failed(Verb::Delete, name, &message, fault))
            }
            Err(Problem::OutOfRange) => Err(failed(Verb::Delete, name, "a range was refused", Fault::Other)),
        }
    }

    fn sha256(&self, objects: &[(&str, u64)]) -> Result<Option<BTreeMap<String, [u8; 32]>>, RemoteError> {
        // What it does not tell is read; there it shows if it is the service that fails.
        let ask = || rclone::has_sha256(&self.target, &self.environment).unwrap_or(false);
        if !*self.has_sha256.get_or_init(ask) {
            return Ok(None);
        }
        for (name, _) in objects {
            Self::check(Verb::Get, name)?;
        }
        let names: Vec<&str> = objects.iter().map(|(name, _)| *name).collect();
        let bytes = objects.iter().map(|(_, size)| size).sum();
        Ok(Some(rclone::sha256(&self.target, &self.environment, &names, bytes).unwrap_or_default()))
    }

    fn location(&self) -> String {
        self.target.display.clone()
    }

    fn parallel_requests(&self) -> usize {
        self.target.settings.connections.max(1)
    }
}

/// A listing has base names only. None for a name too short to lie where it should.
fn full_name(folder: &str, BaseName { name, size }: BaseName) -> Option<Listed> {
    let name = match name.get(..2) {
        Some(first) if folder == SPREAD => format!("{folder}/{first}/{name}"),
        None if folder == SPREAD => return None,
        _ => format!("{folder}/{name}"),
    };
    Some(Listed { name, size })
}

/// Lets so many requests through at once, and for each name only one: rclone's log tells requests apart by
/// their names, and two uploads of one object would get in each other's way.
struct Turns {
    limit: usize,
    busy: Mutex<Busy>,
    freed: Condvar,
}

#[derive(Default)]
struct Busy {
    names: HashSet<String>,
    /// Of these, so many are not counted.
    beside: usize,
}

struct Turn {
    turns: Arc<Turns>,
    name: String,
    counted: bool,
}

impl Turns {
    fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), busy: Mutex::default(), freed: Condvar::new() }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None when it was cancelled.
    fn take(self: &Arc<Self>, name: &str, cancelled: &dyn Fn() -> bool) -> Option<Turn> {
        self.wait(name, true, cancelled)
    }

    /// The same for an object that is streamed: it takes its time, and may be made of what other requests bring, so
    /// that it must not take a turn from them.
    fn take_beside(self: &Arc<Self>, name: &str, cancelled: &dyn Fn() -> bool) -> Option<Turn> {
        self.wait(name, false, cancelled)
    }

    fn wait(self: &Arc<Self>, name: &str, counted: bool, cancelled: &dyn Fn() -> bool) -> Option<Turn> {
        let mut busy = self.busy();
        loop {
            if cancelled() {
                return None;
            }
            let free = !counted || busy.names.len() - busy.beside < self.limit;
            if free && busy.names.insert(name.to_string()) {
                busy.beside += usize::from(!counted);
                return Some(Turn { turns: Arc::clone(self), name: name.to_string(), counted });
            }
            busy = self.freed.wait_timeout(busy, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut busy = self.turns.busy();
        busy.names.remove(&self.name);
        busy.beside -= usize::from(!self.counted);
        drop(busy);
        // All, since each waits for a name of its own.
        self.turns.freed.notify_all();
    }
}

#[cfg(test)]
mod tests;
