//! What others ask of the daemon, and what they did beside it.

use crossbeam_channel::Sender;

use super::Daemon;
use crate::daemon::log::Level;
use crate::daemon::notes::{Note, Notes};
use crate::daemon::socket::{Request, Response};

/// Triggers that wait, and who waits for them, at most.
const MAX_WAITING: usize = 256;

/// Who waits for the run that a trigger asked for.
pub(super) struct Waiting {
    name: String,
    /// When it was fired, in seconds since 1970.
    pub(super) fired: i64,
    pub(super) answer: Sender<Response>,
}

impl Daemon {
    pub(super) fn answer(&mut self, request: Request, answer: Sender<Response>) {
        let (name, wait) = match request {
            Request::Ping | Request::Status => return drop(answer.send(self.state("here"))),
            Request::Trigger { name, wait } => (name, wait),
        };
        if self.is_stopping() {
            return drop(answer.send(Response::refused()));
        }
        let now = self.now();
        let fields = [("trigger", name.clone().into())];
        self.log.event(Level::Info, "triggered", &fields, &format!("trigger {name}"));
        if self.records.asked.len() >= MAX_WAITING || self.waiting.len() >= MAX_WAITING {
            return drop(answer.send(Response::failed("busy", "too many triggers wait already")));
        }
        if !self.records.asked.contains_key(&name) {
            self.records.asked.insert(name.clone(), now);
            // Whatever ends the daemon: what it accepted is run.
            self.save();
        }
        if wait {
            return self.waiting.push(Waiting { name, fired: now, answer });
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
            pending: self.records.asked.keys().cloned().collect(),
            ..Response::default()
        }
    }

    /// Enters what was done beside the daemon.
    pub(super) fn read_notes(&mut self, now: i64) {
        let notes = Notes::read(&self.places.folder);
        if notes.is_empty() {
            return;
        }
        // What one told stands until the next; so each is heard, also of several that are found at once.
        for told in notes.enter(&self.settings.rules, &mut self.records) {
            self.raise_alarms(now, Some(&told));
        }
        if let Some(note) = notes.newest_good() {
            self.release(note);
        }
        self.save();
        notes.remove(&self.log);
    }

    /// Answers those who wait for what the snapshot of a note has. Whoever fired later goes on waiting, for a run.
    fn release(&mut self, note: &Note) {
        let all = std::mem::take(&mut self.waiting);
        let (served, left): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|waiting| waiting.fired < note.begun);
        for waiting in served {
            let _ = waiting.answer.send(note.response());
        }
        for Waiting { name, fired, .. } in &left {
            // An earlier trigger of the same name had it asked for, and has its snapshot.
            self.records.asked.entry(name.clone()).or_insert(*fired);
        }
        self.waiting = left;
    }

    /// Tells those who wait for a run that this daemon does not begin any more.
    pub(super) fn send_away(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let message = "the daemon is ending; the trigger is kept, and run when a daemon begins again";
            let _ = waiting.answer.send(Response::failed("interrupted", message));
        }
    }
}
