//! What is right in each setting, and does not fit together.

use std::time::Duration;

use super::Config;
use crate::model::Schedule;

impl Config {
    /// What the tables say together that nobody can have meant: no mistakes, since each setting is valid.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut say = |key: &str, what: String| {
            if let (Some(file), Some(line)) = (&self.file, self.line(key)) {
                found.push(format!("{}:{line}: {what}", file.display()));
            }
        };
        let on = |schedule: &Schedule| *schedule != Schedule::Off;
        if on(&self.schedule.prune) && self.retention.is_none() {
            let what = "`prune` is scheduled, but there is no retention: no snapshot is ever removed, and prune frees \
                        only what `forget` or interrupted backups left";
            say("schedule.prune", what.to_owned());
        }
        if !on(&self.schedule.prune) && self.retention.is_some() {
            say("schedule.prune", "`prune` is off, so that nothing applies the retention".to_owned());
        }
        if !on(&self.schedule.check) {
            say("schedule.check_data", "`check_data` has no meaning while `check` is off".to_owned());
        }
        if let (Some(promise), Some(interval)) = (self.health.promise, pause(&self.schedule.backup))
            && promise <= interval
        {
            let what = "`promise` is not longer than the pause between two backups: `status` will say unhealthy \
                        before the next one is due";
            say("health.promise", what.to_owned());
        }
        if self.health.promise.is_some() && !on(&self.schedule.backup) && !self.start.watch {
            let what = "`promise` is given, but `backup` in [schedule] is off: only triggers make snapshots";
            say("health.promise", what.to_owned());
        }
        if !self.start.watch {
            for key in ["start.watch_quiet", "start.watch_max"] {
                say(key, format!("`{}` has no meaning while `watch` is off", &key["start.".len()..]));
            }
        }
        if self.health.ping_url.as_ref().is_some_and(|url| url.expose().starts_with("http://")) {
            let what = "`ping_url` begins with http://, so that whoever listens on the way learns it";
            say("health.ping_url", what.to_owned());
        }
        found
    }
}

/// The pause between two runs, where it is always the same.
fn pause(schedule: &Schedule) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    match schedule {
        Schedule::Off | Schedule::Cron(_) => None,
        Schedule::Every(interval) => Some(*interval),
        Schedule::Daily(_) => Some(DAY),
        Schedule::Weekly(..) => Some(7 * DAY),
    }
}
