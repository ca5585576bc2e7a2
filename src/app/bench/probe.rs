//! The way to the repository: how long a small request takes, and how fast bytes go there and back.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::sample::noise;
use super::timer::{Rate, Timer};
use super::{AppError, Location};
use crate::app::run::UPLOADS;
use crate::app::scratch;
use crate::fs;
use crate::remote::{Remote, RemoteError, Verb};
use crate::repo::RepoError;
use crate::report::{Monitor, Silent};

const SMALL: &str = "index/probe";
const SMALL_BYTES: usize = 64;
/// Long enough to see past the first round trips, short enough for a slow line.
const BIG_BYTES: usize = 4 << 20;
/// Each is a read and a listing.
const TRIPS: usize = 5;
/// Where one object takes longer, several at once tell nothing new and cost much.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSpeed {
    /// Where it leads, for people.
    pub location: String,
    /// Time of a small request, the median of some.
    pub request: Duration,
    /// Bytes stored, confirmed by the remote.
    pub upload: Rate,
    /// Bytes read.
    pub download: Rate,
    /// Objects that were under way at once, as in a backup.
    pub parallel: usize,
}

/// What came of it.
#[derive(Debug)]
pub enum RemoteOutcome {
    /// Nobody asked, or no repository is configured.
    NotAsked,
    /// The repository's directory is not there, and nothing was made: its disk may be missing.
    Missing,
    /// It was measured.
    Measured(RemoteSpeed),
    /// It could not be measured.
    Failed(AppError),
}

/// A probe that could not be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The object with all its folders.
    pub object: String,
    /// Why it is still there.
    pub reason: String,
}

/// Measures, and takes the probes away again.
pub(super) fn measure(timer: &Timer, location: &Location) -> (RemoteOutcome, Vec<Left>) {
    if let Location::Local(path) = location
        && fs::stat_path(path).is_err()
    {
        return (RemoteOutcome::Missing, Vec::new());
    }
    let folder = match scratch::fresh() {
        Ok(folder) => folder,
        Err(e) => {
            let failed = AppError::Measure { what: "the remote", message: e.to_string() };
            return (RemoteOutcome::Failed(failed), Vec::new());
        }
    };
    let below = |monitor| scratch::below(location, &folder, monitor, &timer.clock);
    let mut probe = Probe { timer, remote: below(&timer.monitor), tried: Vec::new() };
    let outcome = match probe.run(location) {
        Ok(speed) => RemoteOutcome::Measured(speed),
        Err(e) => RemoteOutcome::Failed(e),
    };
    if timer.monitor.cancelled() {
        // Who was told to stop asks for nothing any more, not even for a deletion.
        let silent: Arc<dyn Monitor> = Arc::new(Silent);
        probe.remote = below(&silent);
    }
    let left = probe.clean_up();
    drop(probe);
    scratch::remove_folders(location);
    (outcome, left)
}

fn altered(name: &str) -> RemoteError {
    let source = io::Error::other("what was read is not what was stored");
    RemoteError::Io { verb: Verb::Get, name: name.to_owned(), source }
}

struct Probe<'a> {
    timer: &'a Timer,
    remote: Arc<dyn Remote>,
    /// Objects that may be there.
    tried: Vec<String>,
}

impl Probe<'_> {
    fn run(&mut self, location: &Location) -> Result<RemoteSpeed, AppError> {
        self.timer.go_on()?;
        self.tried.push(SMALL.to_owned());
        // This also brings up the connection, whose time belongs to no request.
        self.remote.put(SMALL, &[7; SMALL_BYTES]).map_err(RepoError::from)?;
        let request = self.request()?;
        let parallel = self.remote.parallel_requests().clamp(1, UPLOADS);
        let bytes = noise(0, BIG_BYTES);
        // One alone, then as many as there are in a backup.
        let names: Vec<_> = (0..=parallel).map(|n| format!("packs/sp/speed-{n}")).collect();
        let (one, many) = names.split_at(1);
        let many = if parallel > 1 { many } else { &[] };
        let remote = Arc::clone(&self.remote);
        let put = |name: &str| remote.put(name, &bytes);
        let upload = self.fastest(one, many, |probe, names| {
            probe.tried.extend_from_slice(names);
            probe.at_once(names, put)
        })?;
        let get = |name: &str| {
            let read = remote.get(name, BIG_BYTES as u64)?;
            if read == bytes { Ok(()) } else { Err(altered(name)) }
        };
        // Not all were stored where that took long.
        let many = if many.iter().all(|name| self.tried.contains(name)) { many } else { &[] };
        let download = self.fastest(one, many, |probe, names| probe.at_once(names, get))?;
        Ok(RemoteSpeed { location: location.to_string(), request, upload, download, parallel })
    }

    /// The time of a small request.
    fn request(&self) -> Result<Duration, AppError> {
        let mut times = Vec::new();
        for _ in 0..TRIPS {
            let get = || Ok(self.remote.get(SMALL, SMALL_BYTES as u64).map_err(RepoError::from)?);
            times.push(self.timer.time(get)?.1);
            let list = || Ok(self.remote.list("index").map_err(RepoError::from)?);
            times.push(self.timer.time(list)?.1);
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }

    /// The better rate of one object alone and of `many`, which are left out where one takes long.
    fn fastest(
        &mut self,
        one: &[String],
        many: &[String],
        mut run: impl FnMut(&mut Self, &[String]) -> Result<Rate, AppError>,
    ) -> Result<Rate, AppError> {
        let alone = run(self, one)?;
        if many.is_empty() || alone.time > PATIENCE {
            return Ok(alone);
        }
        let together = run(self, many)?;
        Ok(if together.per_second() > alone.per_second() { together } else { alone })
    }

    /// Does `work` with all objects at the same time.
    fn at_once(
        &self,
        names: &[String],
        work: impl Fn(&str) -> Result<(), RemoteError> + Sync,
    ) -> Result<Rate, AppError> {
        let work = &work;
        let all = || {
            thread::scope(|scope| {
                let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || work(name))).collect();
                threads.into_iter().try_for_each(|thread| {
                    let result = thread.join().map_err(|_| RepoError::Worker)?;
                    Ok(result.map_err(RepoError::from)?)
                })
            })
        };
        let ((), time) = self.timer.time(all)?;
        Ok(Rate { amount: (names.len() * BIG_BYTES) as u64, time })
    }

    /// Deletes the probes; tells which are left.
    fn clean_up(&self) -> Vec<Left> {
        let delete = |name: &String| {
            let error = self.remote.delete(name).err()?;
            let object = format!("{}/{name}", self.remote.location());
            Some(Left { object, reason: error.to_string() })
        };
        self.tried.iter().filter_map(delete).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::super::timer::tests::Ticking;
    use super::*;
    use crate::clock::Clock;

    fn timer() -> Timer {
        let clock: Arc<dyn Clock> = Arc::new(Ticking::default());
        Timer { clock, monitor: Arc::new(Silent) }
    }

    #[test]
    fn a_local_remote_is_measured_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("exuvia.json"), "x").unwrap();
        let location = Location::Local(dir.path().to_path_buf());
        let (outcome, left) = measure(&timer(), &location);
        let RemoteOutcome::Measured(speed) = outcome else { panic!("{outcome:?}") };
        assert_eq!((speed.parallel, speed.upload.amount), (1, BIG_BYTES as u64));
        assert_eq!(left, []);
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["exuvia.json"]);
    }

    #[test]
    fn nothing_is_made_where_nothing_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unmounted");
        let (outcome, _) = measure(&timer(), &Location::Local(path.clone()));
        assert!(matches!(outcome, RemoteOutcome::Missing) && !path.exists());
    }

    #[test]
    fn what_stays_behind_is_named() {
        let dir = tempfile::tempdir().unwrap();
        // A folder in the place of an object: it can be neither stored nor deleted.
        let remote = scratch::below(
            &Location::Local(dir.path().to_path_buf()),
            "doctor/x",
            &(Arc::new(Silent) as _),
            &(Arc::new(Ticking::default()) as _),
        );
        std::fs::create_dir_all(dir.path().join("doctor/x").join(SMALL)).unwrap();
        let timer = timer();
        let probe = Probe { timer: &timer, remote, tried: vec![SMALL.to_owned()] };
        let left = probe.clean_up();
        assert!(left.len() == 1 && left[0].object.ends_with("doctor/x/index/probe"), "{left:?}");
    }
}
