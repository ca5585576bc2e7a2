//! One daemon for each state dir.
//!
//! The lock is one of the system's on the file `lock`, which ends with the process, however it ends. Some
//! network file systems know no such locks; there the record decides that stands in the file: process number,
//! start time and boot, and a heartbeat. So neither a crash nor a number that was given out again blocks anybody.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::fs::{Lock, LockFile, Process};

const NAME: &str = "lock";
/// Taken by whoever runs a job.
const JOB: &str = "job.lock";
/// Taken by the one that waits for the job to end.
const QUEUE: &str = "queue.lock";
/// A holder that has not been heard of for so long is gone, in seconds.
const SILENCE: i64 = 300;
/// How often a lock is tried that another has.
const LOOKS: u32 = 10;
/// How long between two tries.
const LOOK: Duration = Duration::from_millis(20);

/// Who holds a state dir.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// When it began, in seconds since 1970.
    pub since: i64,
    /// When it was last heard of.
    pub heartbeat: i64,
    /// Where it listens: callers may have another environment than it was started in.
    pub socket: Option<PathBuf>,
}

/// What became of the wish to be the daemon.
#[derive(Debug)]
pub enum Claim {
    /// We are.
    Ours(DaemonLock),
    /// Another is; who, if it says so.
    Taken(Option<Holder>),
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct DaemonLock {
    file: LockFile,
    holder: Holder,
}

impl DaemonLock {
    /// Tries to become the daemon of the state dir with this folder of records.
    pub fn claim(folder: &Path, clock: &dyn Clock) -> io::Result<Claim> {
        let mut file = LockFile::open(&folder.join(NAME))?;
        let mut got = file.lock(false)?;
        // Who only looks whether somebody is there holds it for a moment.
        for _ in 0..LOOKS {
            if got != Lock::Elsewhere {
                break;
            }
            std::thread::sleep(LOOK);
            got = file.lock(false)?;
        }
        let now = clock.now().secs;
        let boot = clock.boot().map(|boot| boot.id);
        let holder = read(&mut file)?;
        let taken = match got {
            Lock::Held => false,
            Lock::Elsewhere => true,
            Lock::Unsupported => holder.as_ref().is_some_and(|holder| is_there(holder, boot.as_deref(), now)),
        };
        if taken {
            return Ok(Claim::Taken(holder));
        }
        let process = Process::of(std::process::id(), boot);
        let mut lock = Self { file, holder: Holder { process, since: now, heartbeat: now, socket: None } };
        lock.write()?;
        Ok(Claim::Ours(lock))
    }

    /// Says that we are still there.
    pub fn beat(&mut self, now: i64) -> io::Result<()> {
        self.holder.heartbeat = now;
        self.write()
    }

    /// Says where we listen.
    pub(super) fn listens(&mut self, socket: &Path) -> io::Result<()> {
        // What is no text cannot be written down; those who share our environment find it all the same.
        self.holder.socket = socket.to_str().map(PathBuf::from);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let record = serde_json::to_vec(&self.holder)?;
        self.file.write(&record)
    }
}

impl Drop for DaemonLock {
    fn drop(&mut self) {
        // Where locks are unknown, an empty file says that nobody is there.
        let _ = self.file.write(b"");
    }
}

/// The daemon of a state dir, if one is there.
#[must_use]
pub fn holder(folder: &Path, clock: &dyn Clock) -> Option<Holder> {
    let path = folder.join(NAME);
    path.exists().then_some(())?;
    let mut file = LockFile::open(&path).ok()?;
    // Of those who only look, none takes another for the daemon.
    let got = file.share().ok()?;
    let holder = read(&mut file).ok()?;
    match got {
        Lock::Held => None,
        Lock::Elsewhere => Some(holder.unwrap_or_default()),
        Lock::Unsupported => {
            let boot = clock.boot().map(|boot| boot.id);
            holder.filter(|holder| is_there(holder, boot.as_deref(), clock.now().secs))
        }
    }
}

fn is_there(holder: &Holder, boot: Option<&str>, now: i64) -> bool {
    holder.process.is_alive(boot) && now.saturating_sub(holder.heartbeat).abs() < SILENCE
}

/// Half a record, which its writer was just at, is none.
fn read(file: &mut LockFile) -> io::Result<Option<Holder>> {
    let mut holder: Option<Holder> = serde_json::from_slice(&file.read()?).ok();
    if let Some(holder) = &mut holder {
        holder.socket = holder.socket.take().filter(|path| path.is_absolute());
    }
    Ok(holder)
}

/// The right to run a job of the state dir; held as long as it lives.
#[derive(Debug)]
pub struct JobLock(#[expect(dead_code, reason = "the lock is in the handle")] LockFile);

impl JobLock {
    /// Takes it if nobody has it. Where the system knows no locks, everybody gets it: two backups at once do
    /// no harm.
    pub fn try_take(folder: &Path) -> io::Result<Option<Self>> {
        take(folder, JOB)
    }

    /// Waits for it, unless somebody else waits already; who is `patient` waits for that one, too.
    pub(super) fn queue(folder: &Path, patient: bool, stop: &AtomicBool) -> io::Result<Turn> {
        if let Some(lock) = Self::try_take(folder)? {
            return Ok(Turn::Free(lock));
        }
        let mut first = take(folder, QUEUE)?;
        let behind = first.is_none();
        if behind && !patient {
            return Ok(Turn::Another);
        }
        while !stop.load(Ordering::SeqCst) {
            if first.is_none() {
                first = take(folder, QUEUE)?;
            } else if let Some(lock) = Self::try_take(folder)? {
                return Ok(Turn::Waited { lock, behind });
            }
            std::thread::sleep(LOOK);
        }
        Ok(Turn::Stopped)
    }
}

/// What became of the wish to run a job.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nobody ran one.
    Free(JobLock),
    /// Those before us are done; `behind`: one of them waited as we did.
    Waited {
        /// The right to run one now.
        lock: JobLock,
        /// Another had waited before us, and took along what we waited for.
        behind: bool,
    },
    /// Another waits already.
    Another,
    /// We were told to wait no longer.
    Stopped,
}

fn take(folder: &Path, name: &str) -> io::Result<Option<JobLock>> {
    let file = LockFile::open(&folder.join(name))?;
    Ok((file.lock(false)? != Lock::Elsewhere).then_some(JobLock(file)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn the_first_is_the_daemon_and_a_dead_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let clock = SystemClock::new();
        assert_eq!(holder(dir.path(), &clock), None);
        // What a crash left.
        std::fs::write(dir.path().join(NAME), r#"{"pid":1,"since":5}"#).unwrap();
        assert_eq!(holder(dir.path(), &clock), None);
        let Claim::Ours(mut lock) = DaemonLock::claim(dir.path(), &clock).unwrap() else { panic!() };
        lock.beat(77).unwrap();
        lock.listens(Path::new("/run/s.sock")).unwrap();
        let Claim::Taken(Some(by)) = DaemonLock::claim(dir.path(), &clock).unwrap() else { panic!() };
        assert_eq!((by.process.pid, by.heartbeat), (std::process::id(), 77));
        assert_eq!(by.socket.as_deref(), Some(Path::new("/run/s.sock")));
        assert_eq!(holder(dir.path(), &clock), Some(by));
        drop(lock);
        // Whoever looks at the same moment is no daemon.
        let looks = LockFile::open(&dir.path().join(NAME)).unwrap();
        assert_eq!(looks.share().unwrap(), Lock::Held);
        assert_eq!(holder(dir.path(), &clock), None);
        drop(looks);
        assert!(matches!(DaemonLock::claim(dir.path(), &clock).unwrap(), Claim::Ours(_)));
    }

    #[test]
    fn where_there_are_no_locks_the_record_decides() {
        let (now, boot) = (1_000, Some("b".to_owned()));
        let process = Process::of(std::process::id(), boot.clone());
        let holder = Holder { process, heartbeat: now - 10, ..Holder::default() };
        assert!(is_there(&holder, Some("b"), now));
        assert!(!is_there(&holder, Some("c"), now), "of before the machine was started anew");
        assert!(!is_there(&holder, Some("b"), now + SILENCE), "not heard of");
        let mut other = holder.clone();
        other.process.start = other.process.start.map(|start| start + 1);
        assert!(!is_there(&other, Some("b"), now) || other.process.start.is_none(), "another of this number");
    }

    #[test]
    fn one_runs_one_waits_and_the_others_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let first = JobLock::try_take(dir.path()).unwrap().unwrap();
        assert!(JobLock::try_take(dir.path()).unwrap().is_none());
        let (go, stop) = (AtomicBool::new(false), AtomicBool::new(true));
        let waits = take(dir.path(), QUEUE).unwrap().unwrap();
        assert!(matches!(JobLock::queue(dir.path(), false, &go).unwrap(), Turn::Another));
        assert!(matches!(JobLock::queue(dir.path(), true, &stop).unwrap(), Turn::Stopped));
        // A patient one waits for both.
        let folder = dir.path().to_owned();
        let third =
            std::thread::spawn(move || JobLock::queue(&folder, true, &AtomicBool::new(false)).unwrap());
        drop(first);
        drop(waits);
        assert!(!matches!(third.join().unwrap(), Turn::Another | Turn::Stopped));
        let first = JobLock::try_take(dir.path()).unwrap().unwrap();
        let folder = dir.path().to_owned();
        let second =
            std::thread::spawn(move || JobLock::queue(&folder, false, &AtomicBool::new(false)).unwrap());
        drop(first);
        assert!(!matches!(second.join().unwrap(), Turn::Another | Turn::Stopped));
        assert!(matches!(JobLock::queue(dir.path(), false, &go).unwrap(), Turn::Free(_)));
    }
}
