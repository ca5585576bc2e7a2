//! What others ask of the daemon, and what they did beside it.

use crossbeam_channel::Sender;

use super::Daemon;
use crate::daemon::log::Level;
use crate::daemon::notes::Notes;
use crate::daemon::socket::{Request, Response};

/// Triggers that wait, and who waits for them, at most.
const MAX_WAITING: usize = 256;

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
            return self.waiting.push(answer);
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
        let notes = Notes::read(&self.places.folder, &self.log);
        if notes.is_empty() {
            return;
        }
        let told = notes.enter(&self.settings.rules, &mut self.records);
        self.raise_alarms(now, told.as_deref());
        self.save();
        notes.remove();
    }

    /// Tells those who wait for a run that this daemon does not begin any more.
    pub(super) fn send_away(&mut self) {
        for answer in std::mem::take(&mut self.waiting) {
            let message = "the daemon is ending; the trigger is kept, and run when a daemon begins again";
            let _ = answer.send(Response::failed("interrupted", message));
        }
    }
}
