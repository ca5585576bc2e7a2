//! What is remembered of the jobs of one state dir, in a folder of its own: `jobs.json`.
//!
//! The file is written as a whole and put in place in one step, so that a crash leaves the old records or the
//! new ones. What a newer program added to it is not carried over. One that cannot be read is moved aside,
//! since the worst that its loss does is a run too many.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::job::Job;
use super::socket;
use crate::fs;

const NAME: &str = "jobs.json";
/// Far more than any real file.
const MAX_BYTES: u64 = 4 << 20;
const VERSION: u32 = 1;
/// Names of triggers that are remembered.
const MAX_TRIGGERS: usize = 64;
/// Longest message that is kept, in bytes.
const MAX_MESSAGE: usize = 2_000;

/// All that is remembered. Times are seconds since 1970 by the wall clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Records {
    version: u32,
    /// What each job did.
    pub jobs: BTreeMap<Job, JobRecord>,
    /// When each trigger last began a run that did not fail.
    pub triggers: BTreeMap<String, i64>,
    /// Triggers that were accepted and wait for their run, and when they were first fired.
    pub asked: BTreeMap<String, i64>,
    /// The job that runs, or that ran when everything ended.
    pub running: Option<Running>,
    /// What the alarm was raised over, so that it is raised once.
    pub alarms: Vec<String>,
    /// Why jobs wait that are due.
    pub paused: Option<String>,
    /// What the clock showed when it was last looked at.
    #[serde(skip)]
    pub clock: Option<i64>,
}

/// What one job did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRecord {
    /// Its next run is counted from here: the last start that the schedule asked for, or when it was first
    /// seen in the schedule.
    pub anchor: Option<i64>,
    /// When it was first seen in the schedule; of backups also when the age of the newest was first promised.
    pub seen: Option<i64>,
    /// The schedule has been seen, and never asked for a run.
    pub fresh: bool,
    /// When it last began, whoever asked.
    pub last_start: Option<i64>,
    /// When it last ended well.
    pub last_success: Option<i64>,
    /// When and why it last failed.
    pub last_failure: Option<Failure>,
    /// Failures since the last success.
    pub failures: u32,
    /// Failures since the schedule last asked.
    pub attempts: u32,
    /// When a failed run is tried again.
    pub retry_at: Option<i64>,
    /// The next run.
    pub next: Option<i64>,
    /// How long the last run took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What the last good backup made.
    pub snapshot: Option<SnapshotRecord>,
}

/// Why a job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// When.
    pub time: i64,
    /// The class of the error, as JSON has it.
    pub class: String,
    /// The message.
    pub message: String,
}

impl JobRecord {
    /// What the age of the newest snapshot is counted from: the last one, or when one was first to be taken.
    #[must_use]
    pub fn counts_from(&self) -> Option<i64> {
        self.last_success.or(self.seen).or(self.anchor)
    }
}

impl Failure {
    /// One whose texts are not longer than anybody reads.
    #[must_use]
    pub fn new(time: i64, class: &str, message: &str) -> Self {
        Self { time, class: cut(class), message: cut(message) }
    }
}

/// The newest snapshot, as the backup told of it: what is known while the remote cannot be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotRecord {
    /// Its id; the one before, when nothing had changed.
    pub id: Option<String>,
    /// Regular files.
    pub files: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Bytes that it added to the repository.
    pub added: u64,
    /// All could be read.
    pub complete: bool,
}

/// A job that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    /// Which.
    pub job: Option<Job>,
    /// The triggers that it is done for.
    pub triggers: Vec<String>,
    /// The process, once it is started.
    pub process: Option<fs::Process>,
}

impl Records {
    /// The record of a job.
    pub fn job(&mut self, job: Job) -> &mut JobRecord {
        self.jobs.entry(job).or_default()
    }

    /// The record of a job, if there is one.
    #[must_use]
    pub fn get(&self, job: Job) -> Option<&JobRecord> {
        self.jobs.get(&job)
    }

    /// Remembers that a trigger began a run; the oldest names make room.
    pub fn triggered(&mut self, name: &str, now: i64) {
        self.triggers.insert(name.to_owned(), now);
        while self.triggers.len() > MAX_TRIGGERS {
            let oldest = self.triggers.iter().min_by_key(|(_, time)| **time).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            self.triggers.remove(&oldest);
        }
    }

    /// Reads the records of a folder; none when there are none. The second value says what was wrong with the
    /// file, which then lies beside it under another name.
    pub fn load(folder: &Path) -> io::Result<(Self, Option<String>)> {
        let path = folder.join(NAME);
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(MAX_BYTES + 1).read_to_string(&mut text).map(drop).or_else(not_text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Self::default(), None)),
            Err(e) => return Err(e),
        }
        let read = match serde_json::from_str::<Self>(&text) {
            Ok(records) if records.version == VERSION && text.len() as u64 <= MAX_BYTES => Ok(records),
            Ok(records) => Err(format!("it is of version {}", records.version)),
            Err(e) => Err(e.to_string()),
        };
        match read {
            Ok(records) => Ok((records.checked(), None)),
            Err(what) => {
                let aside = path.with_extension("json.unreadable");
                std::fs::rename(&path, &aside)?;
                let message =
                    format!("{} cannot be read, and is now {}: {what}", path.display(), aside.display());
                Ok((Self::default(), Some(message)))
            }
        }
    }

    /// The same for those who only look: what cannot be read is left where it is, and counts as nothing.
    #[must_use]
    pub fn peek(folder: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(folder.join(NAME)).ok()?.take(MAX_BYTES + 1).read_to_string(&mut text).ok()?;
        let records = serde_json::from_str::<Self>(&text).ok().filter(|records| records.version == VERSION);
        records.map(Self::checked)
    }

    /// Names of triggers become arguments of programs, so that only names may be some.
    fn checked(mut self) -> Self {
        self.triggers.retain(|name, _| socket::is_name(name));
        self.asked.retain(|name, _| socket::is_name(name));
        if let Some(running) = &mut self.running {
            running.triggers.retain(|name| socket::is_name(name));
        }
        self
    }

    /// Writes them.
    pub fn save(&mut self, folder: &Path) -> io::Result<()> {
        self.version = VERSION;
        let text = serde_json::to_vec_pretty(self)?;
        fs::write_atomic(folder, NAME, &text, 0o600)
    }
}

/// What is no text is no JSON either, and is told as such.
fn not_text(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::InvalidData { Ok(()) } else { Err(error) }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// What stands for a state dir in names of files: 16 hex digits. It is the same before the state dir exists and
/// after, also behind a link.
#[must_use]
pub fn id_of(state_dir: &Path) -> String {
    blake3::hash(fs::resolve_ahead(state_dir).as_os_str().as_bytes()).to_hex().as_str()[..16].to_owned()
}

/// The folder of the records of a state dir, below the user's folder for state.
#[must_use]
pub fn folder_of(state_home: &Path, state_dir: &Path) -> PathBuf {
    state_home.join("exuvia").join(id_of(state_dir))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn records_come_back_and_what_is_no_record_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Records::load(dir.path()).unwrap(), (Records::default(), None));
        let mut records = Records::default();
        records.job(Job::Backup).anchor = Some(5);
        records.job(Job::Prune).last_failure = Some(Failure::new(7, "failed", &"é".repeat(4_000)));
        records.triggered("gateway-stop", 9);
        records.asked.insert("session-end".into(), 10);
        records.save(dir.path()).unwrap();
        let (found, wrong) = Records::load(dir.path()).unwrap();
        assert_eq!((&found, wrong), (&records, None));
        assert_eq!(Records::peek(dir.path()).unwrap(), records);
        assert_eq!(found.get(Job::Prune).unwrap().last_failure.as_ref().unwrap().message.len(), MAX_MESSAGE);

        let path = dir.path().join(NAME);
        let newer = std::fs::read_to_string(&path).unwrap().replace("\"version\": 1", "\"version\": 2");
        for bad in [b"".as_slice(), b"{", b"[]", b"\xff\xfe", newer.as_bytes()] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Records::peek(dir.path()), None);
            let (found, wrong) = Records::load(dir.path()).unwrap();
            assert_eq!(found, Records::default());
            assert!(wrong.unwrap().contains("jobs.json.unreadable"));
            assert!(!path.exists());
        }
        // Names become arguments, whoever wrote them there.
        let names =
            br#"{"version":1,"asked":{"x":1,"X":2},"triggers":{"a b":1},"running":{"triggers":["y","Z"]}}"#;
        std::fs::write(&path, names).unwrap();
        let found = Records::load(dir.path()).unwrap().0;
        assert_eq!((found.asked.len(), found.triggers.len()), (1, 0));
        assert_eq!(found.running.unwrap().triggers, ["y"]);
        // Fields of others are no fault.
        std::fs::write(&path, br#"{"version":1,"more":[1],"jobs":{"backup":{"anchor":3,"x":{}}}}"#).unwrap();
        assert_eq!(Records::load(dir.path()).unwrap().0.get(Job::Backup).unwrap().anchor, Some(3));
    }

    #[test]
    fn only_so_many_triggers_are_remembered() {
        let mut records = Records::default();
        for n in 0..100 {
            records.triggered(&format!("t{n}"), n);
        }
        assert_eq!(records.triggers.len(), MAX_TRIGGERS);
        assert!(!records.triggers.contains_key("t35") && records.triggers.contains_key("t36"));
    }

    #[test]
    fn a_state_dir_keeps_its_records_when_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("disk")).unwrap();
        std::os::unix::fs::symlink("disk", base.join("link")).unwrap();
        std::os::unix::fs::symlink("disk/state", base.join("state")).unwrap();
        let paths = [base.join("link/state"), base.join("state"), base.join("disk/state")];
        let before: Vec<_> = paths.iter().map(|path| id_of(path)).collect();
        std::fs::create_dir(base.join("disk/state")).unwrap();
        let after: Vec<_> = paths.iter().map(|path| id_of(path)).collect();
        assert!(before == after && after.iter().all(|id| *id == after[0]), "{before:?} {after:?}");
    }
}
