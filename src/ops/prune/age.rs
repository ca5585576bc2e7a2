//! Whether something is old enough to be acted upon, however clocks have jumped.
//!
//! Two clocks must agree: the time in the record, by the clock of who wrote it, and our own since we first
//! saw it. Within one run of the machine ours is the clock that counts from its start, which nobody can set.
//! A client that has never pruned has nothing but the record; one that has treats what it never saw as new.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Boot, Clock};
use crate::model::Timestamp;
use crate::repo::{Repository, Sighting, Sightings};
use crate::report::Monitor;

/// When something may be acted upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Now.
    Due,
    /// Not before this, by the clock of today.
    Until(Timestamp),
    /// Its time lies in the future: nobody knows how old it is.
    Future,
}

/// Ages of what must get old.
pub(super) struct Ages {
    now: Timestamp,
    boot: Option<Boot>,
    grace: Duration,
    before: Option<Sightings>,
    /// What was asked for in this run, to be kept.
    seen: Sightings,
}

impl Ages {
    pub(super) fn new(repository: &Repository, clock: &Arc<dyn Clock>, grace: Duration) -> Self {
        Self {
            now: clock.now(),
            boot: clock.boot(),
            grace,
            before: repository.cache().sightings(),
            seen: Sightings::new(),
        }
    }

    fn after(&self, from: Timestamp, time: Duration) -> Timestamp {
        let secs = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp { secs: from.secs.saturating_add(secs), nanos: from.nanos }
    }

    fn here(&self) -> Sighting {
        Sighting { time: Timestamp::from_secs(self.now.secs), boot: self.boot.clone() }
    }

    /// How long to wait for something that we saw then.
    fn since(&self, sighting: &Sighting) -> Wait {
        let mut until = self.after(sighting.time, self.grace);
        if let (Some(then), Some(now)) = (&sighting.boot, &self.boot)
            && then.id == now.id
        {
            let passed = now.elapsed.saturating_sub(then.elapsed);
            // Notes are of whole seconds.
            let left = self.grace.saturating_sub(passed);
            if !left.is_zero() {
                until = until.max(self.after(self.now, left + Duration::from_millis(999)));
            }
        }
        if until.secs <= self.now.secs { Wait::Due } else { Wait::Until(until) }
    }

    /// A gc record, by its name and the time in it.
    pub(super) fn record(&mut self, name: &str, time: Timestamp) -> Wait {
        let first = match self.before.as_ref().map(|before| before.get(name)) {
            Some(Some(sighting)) => Some(sighting.clone()),
            // We have been here before, and it was not there.
            Some(None) => Some(self.here()),
            None => None,
        };
        self.seen.insert(name.to_string(), first.clone().unwrap_or_else(|| self.here()));
        if time > self.now {
            return Wait::Future;
        }
        let recorded = self.after(time, self.grace);
        let recorded = if recorded <= self.now { Wait::Due } else { Wait::Until(recorded) };
        match (recorded, first.map_or(Wait::Due, |first| self.since(&first))) {
            (Wait::Until(a), Wait::Until(b)) => Wait::Until(a.max(b)),
            (Wait::Due, other) => other,
            (recorded, _) => recorded,
        }
    }

    /// A pack that no index object lists: nothing but our own notes tells how long it has been there.
    pub(super) fn orphan(&mut self, name: String) -> Wait {
        let before = self.before.as_ref().and_then(|before| before.get(&name)).cloned();
        let first = before.unwrap_or_else(|| self.here());
        let wait = self.since(&first);
        self.seen.insert(name, first);
        wait
    }

    /// A record that we have just written.
    pub(super) fn written(&mut self, name: &str, clock: &Arc<dyn Clock>) {
        (self.now, self.boot) = (clock.now(), clock.boot());
        self.seen.insert(name.to_string(), self.here());
    }

    /// Notes what was seen, and forgets what is not there any more.
    pub(super) fn note(&self, repository: &Repository, monitor: &dyn Monitor) {
        if let Err(error) = repository.cache().note_sightings(&self.seen) {
            monitor.warning(None, &format!("{error}; what waits may have to wait longer"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(secs: i64, boot: Option<(&str, u64)>, before: Option<Sightings>) -> Ages {
        let boot = boot.map(|(id, secs)| Boot { id: id.into(), elapsed: Duration::from_secs(secs) });
        Ages {
            now: Timestamp::from_secs(secs),
            boot,
            grace: Duration::from_secs(HOUR),
            before,
            seen: Sightings::new(),
        }
    }

    fn secs(n: i64) -> Timestamp {
        Timestamp::from_secs(n)
    }

    #[test]
    fn a_record_gets_old() {
        let mut ages = at(10_000, None, None);
        assert_eq!(ages.record("gc/a", secs(10_000 - 3_600)), Wait::Due);
        assert_eq!(ages.record("gc/b", secs(10_000 - 3_599)), Wait::Until(secs(10_001)));
        assert_eq!(ages.record("gc/c", secs(10_001)), Wait::Future);
    }

    #[test]
    fn a_record_that_was_not_there_before_is_new_whatever_it_says() {
        let mut first = at(10_000, None, None);
        first.record("gc/a", secs(1));
        let mut ages = at(10_500, None, Some(first.seen.clone()));
        assert_eq!(ages.record("gc/old-clock", secs(1)), Wait::Until(secs(10_500 + 3_600)));
        assert_eq!(ages.record("gc/a", secs(1)), Wait::Until(secs(10_000 + 3_600)));
        let mut later = at(10_500 + 3_600, None, Some(ages.seen));
        assert_eq!(later.record("gc/old-clock", secs(1)), Wait::Due);
    }

    #[test]
    fn a_clock_that_jumps_does_not_make_anything_older() {
        let mut first = at(10_000, Some(("boot", 50)), None);
        first.record("gc/a", secs(10_000));
        first.orphan("packs/a".into());
        let seen = first.seen;
        // Ten seconds later the wall clock says that ten years have passed.
        let mut jumped = at(320_000_000, Some(("boot", 60)), Some(seen.clone()));
        let left = Wait::Until(secs(320_000_000 + 3_590));
        assert_eq!([jumped.record("gc/a", secs(10_000)), jumped.orphan("packs/a".into())], [left; 2]);
        let mut old = at(320_000_000, Some(("boot", 50 + HOUR)), Some(seen.clone()));
        assert_eq!([old.record("gc/a", secs(10_000)), old.orphan("packs/a".into())], [Wait::Due; 2]);
        // And a jump back.
        let mut back = at(5_000, Some(("other", 1)), Some(seen));
        assert_eq!(back.record("gc/a", secs(10_000)), Wait::Future);
        assert_eq!(back.orphan("packs/a".into()), Wait::Until(secs(13_600)));
    }

    #[test]
    fn without_grace_everything_is_old() {
        let mut ages =
            Ages { grace: Duration::ZERO, ..at(10_000, Some(("boot", 5)), Some(Sightings::new())) };
        assert_eq!(ages.record("gc/a", secs(10_000)), Wait::Due);
        assert_eq!(ages.orphan("packs/a".into()), Wait::Due);
    }
}
