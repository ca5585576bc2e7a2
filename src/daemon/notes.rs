//! What was done beside a daemon that could not be reached: it keeps the records in memory, so that nobody else
//! may write them. Whoever took a snapshot leaves a note beside them, which the daemon enters and takes away.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job::{Ending, Job};
use super::log::{Level, Log};
use super::plan::{self, Rules};
use super::records::{Failure, Records, SnapshotRecord};
use super::socket::{self, Response};
use crate::fs;

/// The folder of notes. Each has a name that no other one gets, so that none takes the place of one that nobody
/// has read, and what is removed is what was read.
const FOLDER: &str = "notes";
/// Far more than any real note.
const MAX_BYTES: u64 = 64 << 10;
/// Longest summary whose lists are kept, in bytes; what else is in a note is far shorter.
const MAX_SUMMARY: usize = 32 << 10;
/// Notes that are read at once.
const MAX_NOTES: usize = 256;
/// Longest name of a note: that of a trigger, a time and the number of a process.
const MAX_FILE_NAME: usize = socket::MAX_NAME + 1 + 20 + 1 + 10;

/// A backup that was run for a trigger. Times are seconds since 1970 by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The trigger's name; without one it is the file's.
    #[serde(default)]
    pub(super) trigger: String,
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
    /// For those who waited for a snapshot; a long one without its lists.
    #[serde(default)]
    pub(super) summary: Option<Value>,
}

impl Note {
    /// What those are told who waited for the snapshot.
    pub(super) fn response(&self) -> Response {
        let message = "a snapshot was taken beside the daemon, and has what happened before it".to_owned();
        Response { ok: true, message, summary: self.summary.clone(), ..Response::default() }
    }
}

/// A summary as a note has room for it.
pub(super) fn brief(mut summary: Value) -> Value {
    if summary.to_string().len() > MAX_SUMMARY
        && let Some(fields) = summary.as_object_mut()
    {
        fields.retain(|_, value| !value.is_array());
    }
    summary
}

/// Notes in the order of their ends, and where they lie.
#[derive(Debug, Default)]
pub(super) struct Notes {
    found: Vec<Note>,
    paths: Vec<PathBuf>,
    /// What is said of those that cannot be read.
    bad: Vec<String>,
}

/// Leaves a note, beside any that are there.
pub(super) fn leave(folder: &Path, note: &Note) -> io::Result<()> {
    let folder = folder.join(FOLDER);
    fs::create_private_dir_all(&folder)?;
    let name = format!("{}-{}-{}", note.trigger, note.begun, std::process::id());
    fs::write_atomic(&folder, &name, &serde_json::to_vec(note)?, 0o600)
}

/// What is remembered of a state dir, with what no daemon has entered yet, for those who only look: nothing is
/// written or taken away.
#[must_use]
pub fn peek(folder: &Path, rules: &Rules) -> Records {
    let mut records = Records::peek(folder).unwrap_or_default();
    Notes::read(folder).enter(rules, &mut records);
    records
}

impl Notes {
    /// Reads those that are there.
    pub(super) fn read(folder: &Path) -> Self {
        let mut notes = Self::default();
        // Most of the time nobody left any.
        let Ok(entries) = std::fs::read_dir(folder.join(FOLDER)) else { return notes };
        let named = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| is_file_name(name))?;
            Some((name, entry.path()))
        });
        for (name, path) in named.take(MAX_NOTES) {
            match read(&path, &name) {
                Ok(note) => notes.found.push(note),
                Err(e) => notes.bad.push(format!("{}: a note that cannot be read: {e}", path.display())),
            }
            notes.paths.push(path);
        }
        notes.found.sort_by_key(|note| note.ended);
        notes
    }

    /// Enters them into the records. What each backup told to raise the alarm over that was the newest that ended
    /// well.
    pub(super) fn enter(&self, rules: &Rules, records: &mut Records) -> Vec<Vec<String>> {
        let newest = self.found.iter().filter(|note| enter(rules, records, note));
        newest.map(|note| note.alarms.clone()).collect()
    }

    /// The one that began last of those that made a snapshot.
    pub(super) fn newest_good(&self) -> Option<&Note> {
        self.found.iter().filter(|note| note.ending.is_good()).max_by_key(|note| note.begun)
    }

    /// Takes them away, once what they say is kept elsewhere, and says which said nothing.
    pub(super) fn remove(self, log: &Log) {
        for message in &self.bad {
            log.say(Level::Warning, "note-lost", &format!("{message}; it is removed"));
        }
        // One that stays is entered again, which changes nothing.
        self.paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// True for what may be a note; one that is being written has another name.
fn is_file_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_FILE_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

fn read(path: &Path, file_name: &str) -> io::Result<Note> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let mut note: Note = serde_json::from_slice(&bytes)?;
    if note.trigger.is_empty() {
        file_name.clone_into(&mut note.trigger);
    }
    // Names of triggers become arguments of programs.
    if !socket::is_name(&note.trigger) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it names no trigger"));
    }
    Ok(note)
}

/// True when the note's backup is the newest that ended well.
fn enter(rules: &Rules, records: &mut Records, note: &Note) -> bool {
    let good = note.ending.is_good();
    if good {
        let last = records.triggers.get(&note.trigger).copied().unwrap_or(i64::MIN);
        records.triggered(&note.trigger, note.begun.max(last));
        // Its snapshot has what happened before it began.
        records.asked.retain(|_, asked| *asked >= note.begun);
    }
    let record = records.job(Job::Backup);
    let failure = record.last_failure.as_ref().filter(|_| note.ending == Ending::Failed);
    if record.last_success.max(failure.map(|failure| failure.time)).is_some_and(|time| time >= note.ended) {
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
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::daemon::log::Style;
    use crate::daemon::plan::tests::rules;

    fn log() -> Log {
        Log::new(Style::default(), Box::new(std::io::sink()), Arc::new(SystemClock::new()))
    }

    fn note(trigger: &str, begun: i64, ending: Ending) -> Note {
        let failure = (ending == Ending::Failed).then(|| Failure::new(begun + 1, "failed", "no"));
        let snapshot = Some(SnapshotRecord { id: Some(begun.to_string()), ..SnapshotRecord::default() });
        Note {
            trigger: trigger.to_owned(),
            begun,
            ended: begun + 1,
            ending,
            failure,
            snapshot: snapshot.filter(|_| ending.is_good()),
            duration_ms: Some(5),
            alarms: vec!["shrunk".into()],
            summary: None,
        }
    }

    #[test]
    fn notes_are_entered_in_their_order_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(&[], "UTC");
        assert!(Notes::read(dir.path()).is_empty());
        leave(dir.path(), &note("late", 100, Ending::Success)).unwrap();
        leave(dir.path(), &note("early", 50, Ending::Failed)).unwrap();
        for bad in ["NOT", "..", ".exuvia-tmp-1"] {
            let _ = std::fs::write(dir.path().join(FOLDER).join(bad), b"{}");
        }
        std::fs::write(dir.path().join(FOLDER).join("torn"), b"{\"begun\":").unwrap();
        let mut records = Records::default();
        records.asked = BTreeMap::from([("before".into(), 99), ("after".into(), 100)]);
        let mut changes = None;
        plan::begin(&mut records, &mut changes, Job::Check, &plan::Cause::Schedule, 3);
        let running = records.running.clone();
        let notes = Notes::read(dir.path());
        assert_eq!(notes.enter(&rules, &mut records), [["shrunk"]]);
        assert_eq!(notes.enter(&rules, &mut records), [[""; 0]; 0]);
        notes.remove(&log());
        assert!(Notes::read(dir.path()).is_empty());
        assert_eq!(records.running, running);
        assert_eq!(records.asked, BTreeMap::from([("after".into(), 100)]));
        assert_eq!(records.triggers, BTreeMap::from([("late".into(), 100)]));
        let record = records.get(Job::Backup).unwrap();
        assert_eq!((record.last_success, record.failures, record.retry_at), (Some(101), 0, None));
        assert_eq!(record.snapshot.as_ref().unwrap().id.as_deref(), Some("100"));
        // One that is older than what the daemon did itself changes nothing more.
        leave(dir.path(), &note("old", 10, Ending::Failed)).unwrap();
        assert!(Notes::read(dir.path()).enter(&rules, &mut records).is_empty());
        assert_eq!(records.get(Job::Backup).unwrap().failures, 0);
        // One that failed later counts once, however often it is found.
        leave(dir.path(), &note("new", 200, Ending::Failed)).unwrap();
        for _ in 0..2 {
            assert!(Notes::read(dir.path()).enter(&rules, &mut records).is_empty());
            assert_eq!(records.get(Job::Backup).unwrap().failures, 1);
        }
    }

    #[test]
    fn a_note_neither_replaces_another_nor_is_removed_unread() {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(&[], "UTC");
        let last = Note { alarms: Vec::new(), ..note("x", 200, Ending::Success) };
        leave(dir.path(), &note("x", 100, Ending::Success)).unwrap();
        leave(dir.path(), &last).unwrap();
        let mut records = Records::default();
        let notes = Notes::read(dir.path());
        // This one comes while the others are being entered.
        leave(dir.path(), &note("x", 300, Ending::Failed)).unwrap();
        assert_eq!(notes.enter(&rules, &mut records), [vec!["shrunk".to_owned()], Vec::new()]);
        assert_eq!(notes.newest_good(), Some(&last));
        notes.remove(&log());
        assert_eq!(Notes::read(dir.path()).found, [note("x", 300, Ending::Failed)]);
    }

    #[test]
    fn who_only_looks_sees_what_nobody_has_entered() {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(&[], "UTC");
        assert_eq!(peek(dir.path(), &rules), Records::default());
        leave(dir.path(), &note("x", 100, Ending::Success)).unwrap();
        for _ in 0..2 {
            let records = peek(dir.path(), &rules);
            assert_eq!(records.get(Job::Backup).unwrap().last_success, Some(101));
            assert_eq!(records.triggers, BTreeMap::from([("x".into(), 100)]));
        }
        assert!(Records::peek(dir.path()).is_none());
    }

    #[test]
    fn a_long_summary_goes_without_its_lists() {
        let short = serde_json::json!({"complete": false, "unreadable": ["a"]});
        assert_eq!(brief(short.clone()), short);
        let long = serde_json::json!({"complete": false, "unreadable": ["a".repeat(MAX_SUMMARY)]});
        assert_eq!(brief(long), serde_json::json!({"complete": false}));
    }
}
