//! What was done beside a daemon that could not be reached: it keeps the records in memory, so that nobody else
//! may write them. Whoever took a snapshot leaves a note beside them, which the daemon enters and takes away.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::job::{Ending, Job};
use super::log::{Level, Log};
use super::plan::{self, Rules};
use super::records::{Failure, Records, SnapshotRecord};
use super::socket;
use crate::fs;

/// The folder of notes; each has the name of a trigger.
const FOLDER: &str = "notes";
/// Far more than any real note.
const MAX_BYTES: u64 = 64 << 10;
/// Notes that are read at once.
const MAX_NOTES: usize = 64;

/// A backup that was run for a trigger. Times are seconds since 1970 by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) begun: i64,
    pub(super) ended: i64,
    pub(super) ending: Ending,
    #[serde(default)]
    pub(super) failure: Option<Failure>,
    #[serde(default)]
    pub(super) snapshot: Option<SnapshotRecord>,
    #[serde(default)]
    pub(super) duration_ms: Option<u64>,
    /// What the alarm is to be raised over.
    #[serde(default)]
    pub(super) alarms: Vec<String>,
}

/// Notes by the names of their triggers, and where they lie.
#[derive(Debug, Default)]
pub(super) struct Notes {
    found: BTreeMap<String, Note>,
    paths: Vec<PathBuf>,
}

/// Leaves a note; an earlier one for the same trigger gives way.
pub(super) fn leave(folder: &Path, trigger: &str, note: &Note) -> io::Result<()> {
    let folder = folder.join(FOLDER);
    fs::create_private_dir_all(&folder)?;
    fs::write_atomic(&folder, trigger, &serde_json::to_vec(note)?, 0o600)
}

impl Notes {
    /// Reads those that are there. What is no note is said to be none.
    pub(super) fn read(folder: &Path, log: &Log) -> Self {
        let mut notes = Self::default();
        // Most of the time nobody left any.
        let Ok(entries) = std::fs::read_dir(folder.join(FOLDER)) else { return notes };
        for entry in entries.flatten().take(MAX_NOTES) {
            let Some(name) =
                entry.file_name().to_str().filter(|name| socket::is_name(name)).map(str::to_owned)
            else {
                continue;
            };
            match read(&entry.path()) {
                Ok(note) => drop(notes.found.insert(name, note)),
                Err(e) => {
                    let message =
                        format!("{}: a note that cannot be read is removed: {e}", entry.path().display());
                    log.say(Level::Warning, "note-lost", &message);
                }
            }
            notes.paths.push(entry.path());
        }
        notes
    }

    /// Enters them into the records. What a backup that ended well told to raise the alarm over, if there was one.
    pub(super) fn enter(&self, rules: &Rules, records: &mut Records) -> Option<Vec<String>> {
        let mut in_order: Vec<_> = self.found.iter().collect();
        in_order.sort_by_key(|(_, note)| note.ended);
        let mut told = None;
        for (name, note) in in_order {
            if enter(rules, records, name, note) {
                told = Some(note.alarms.clone());
            }
        }
        told
    }

    /// Takes them away, once what they say is kept elsewhere.
    pub(super) fn remove(self) {
        // One that stays is entered again, which changes nothing.
        self.paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

fn read(path: &Path) -> io::Result<Note> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// True when the note's backup is the newest that ended well.
fn enter(rules: &Rules, records: &mut Records, trigger: &str, note: &Note) -> bool {
    let good = note.ending.is_good();
    if good {
        let last = records.triggers.get(trigger).copied().unwrap_or(i64::MIN);
        records.triggered(trigger, note.begun.max(last));
        // Its snapshot has what happened before it began.
        records.asked.retain(|_, asked| *asked >= note.begun);
    }
    let record = records.job(Job::Backup);
    if record.last_success.is_some_and(|time| time >= note.ended) {
        return false;
    }
    record.last_start = record.last_start.max(Some(note.begun));
    // What runs now runs on.
    let running = records.running.take();
    plan::end(rules, records, Job::Backup, note.ending, note.failure.clone(), note.ended);
    records.running = running;
    let record = records.job(Job::Backup);
    record.duration_ms = note.duration_ms;
    if good {
        record.snapshot.clone_from(&note.snapshot);
    }
    good
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::daemon::log::Style;
    use crate::daemon::plan::tests::rules;

    fn note(begun: i64, ending: Ending) -> Note {
        let failure = (ending == Ending::Failed).then(|| Failure::new(begun + 1, "failed", "no"));
        let snapshot = Some(SnapshotRecord { id: Some(begun.to_string()), ..SnapshotRecord::default() });
        Note {
            begun,
            ended: begun + 1,
            ending,
            failure,
            snapshot: snapshot.filter(|_| ending.is_good()),
            duration_ms: Some(5),
            alarms: vec!["shrunk".into()],
        }
    }

    #[test]
    fn notes_are_entered_in_their_order_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(Style::default(), Box::new(std::io::sink()), Arc::new(SystemClock::new()));
        let rules = rules(&[], "UTC");
        assert!(Notes::read(dir.path(), &log).is_empty());
        leave(dir.path(), "late", &note(100, Ending::Success)).unwrap();
        leave(dir.path(), "early", &note(50, Ending::Failed)).unwrap();
        for bad in ["NOT", "..", ".exuvia-tmp-1"] {
            let _ = std::fs::write(dir.path().join(FOLDER).join(bad), b"{}");
        }
        std::fs::write(dir.path().join(FOLDER).join("torn"), b"{\"begun\":").unwrap();
        let mut records = Records::default();
        records.asked = BTreeMap::from([("before".into(), 99), ("after".into(), 100)]);
        let mut changes = None;
        plan::begin(&mut records, &mut changes, Job::Check, &plan::Cause::Schedule, 3);
        let running = records.running.clone();
        let notes = Notes::read(dir.path(), &log);
        for _ in 0..2 {
            let told = notes.enter(&rules, &mut records);
            assert!(told.is_none_or(|told| told == ["shrunk"]));
        }
        notes.remove();
        assert!(Notes::read(dir.path(), &log).is_empty());
        assert_eq!(records.running, running);
        assert_eq!(records.asked, BTreeMap::from([("after".into(), 100)]));
        assert_eq!(records.triggers, BTreeMap::from([("late".into(), 100)]));
        let record = records.get(Job::Backup).unwrap();
        assert_eq!((record.last_success, record.failures, record.retry_at), (Some(101), 0, None));
        assert_eq!(record.snapshot.as_ref().unwrap().id.as_deref(), Some("100"));
        // One that is older than what the daemon did itself changes nothing more.
        leave(dir.path(), "old", &note(10, Ending::Failed)).unwrap();
        assert_eq!(Notes::read(dir.path(), &log).enter(&rules, &mut records), None);
        assert_eq!(records.get(Job::Backup).unwrap().failures, 0);
    }
}
