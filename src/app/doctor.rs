//! Diagnosis: is everything there that a backup needs, and does the remote do what it must?

use std::sync::Arc;
use std::time::Duration;

use super::{AppError, Location, scratch};
use crate::fs;
use crate::model::{SnapshotKind, Timestamp};
use crate::rclone::{self, Environment, Target, Version};
use crate::remote::{Fault, Remote, RemoteError, contract};
use crate::repo::{CachePlace, Catalog, Folder, RepoError, Repository, parse_name};

use super::requests::DoctorRequest;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Works, but should be looked at.
    Warning,
    /// Backups or restores will fail.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub topic: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    pub message: String,
    /// For failures of a service: of which kind.
    pub fault: Option<Fault>,
}

/// Seconds between two clocks that matter to nobody; S3 services refuse requests from 900 on.
const SKEW: i64 = 60;
const SMALL_PROBE: usize = 64;
/// Long enough to see past the first round trips, short enough for a slow line.
const BIG_PROBE: usize = 4 << 20;
const ROUND_TRIPS: usize = 3;
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Looks at everything, and tells `each` what it finds as it goes.
pub fn doctor(request: &DoctorRequest, each: &mut dyn FnMut(&Finding)) {
    let mut doctor = Doctor { request, each };
    if let Location::Rclone(target) = &request.location
        && !doctor.program(target)
    {
        return;
    }
    let remote = super::run::remote(&request.location, &request.monitor, &request.clock);
    if !doctor.repository(&remote) || request.monitor.cancelled() {
        return;
    }
    match scratch::fresh() {
        Ok(folder) => doctor.scratch(&folder),
        Err(e) => doctor.say("remote", Severity::Problem, format!("no randomness: {e}")),
    }
}

struct Doctor<'a> {
    request: &'a DoctorRequest,
    each: &'a mut dyn FnMut(&Finding),
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

impl Doctor<'_> {
    fn say(&mut self, topic: &'static str, severity: Severity, message: impl Into<String>) {
        (self.each)(&Finding { topic, severity, message: message.into(), fault: None });
    }

    fn failed(&mut self, topic: &'static str, message: String, fault: Option<Fault>) {
        (self.each)(&Finding { topic, severity: Severity::Problem, message, fault });
    }

    fn failed_remotely(&mut self, topic: &'static str, error: &RemoteError) {
        let fault = if let RemoteError::Service { fault, .. } = error { Some(*fault) } else { None };
        self.failed(topic, error.to_string(), fault);
    }

    fn time<T>(&self, run: impl FnOnce() -> T) -> (T, Duration) {
        let started = self.request.clock.monotonic();
        let result = run();
        (result, self.request.clock.monotonic().saturating_sub(started))
    }

    /// rclone and its version; false when nothing can be done without it.
    fn program(&mut self, target: &Target) -> bool {
        let environment = Environment::new(fs::inherited_variables());
        let version = match rclone::version(&target.settings, &environment) {
            Ok(version) => version,
            Err(failure) => {
                self.failed("rclone", failure.message, Some(failure.fault));
                return false;
            }
        };
        let oldest = Version::OLDEST;
        if version < oldest {
            let message = format!("rclone {version} is too old; {oldest} or a newer one is needed");
            self.failed("rclone", message, Some(Fault::Setup));
            return false;
        }
        self.say("rclone", Severity::Good, format!("version {version}"));
        let backend = backend(target, &environment);
        if let Some(backend) = &backend {
            self.say("rclone", Severity::Good, format!("the remote is of kind {backend}"));
        }
        for fault in rclone::known_faults(version, backend.as_deref()) {
            let advice = if fault.corrupts {
                "; what it stored should be read back: exuvia check --read-data"
            } else {
                ""
            };
            let message = format!(
                "rclone {version} has a known fault, mended in {}: {} ({}){advice}",
                fault.fixed, fault.what, fault.source
            );
            self.say("rclone", Severity::Warning, message);
        }
        true
    }

    /// Whether the remote answers, and what is there; false when it does not answer.
    fn repository(&mut self, remote: &Arc<dyn Remote>) -> bool {
        let (probed, taken) = self.time(|| Repository::probe(remote.as_ref()));
        match probed {
            Ok(marker) => {
                let message = format!("{} holds repository {}", remote.location(), marker.id);
                self.say("repository", Severity::Good, message);
            }
            Err(RepoError::NoRepository { location }) => {
                let missing = remote.local_directory().is_some_and(|path| fs::stat_path(&path).is_err());
                let what = if missing { "does not exist" } else { "holds no repository" };
                self.say("repository", Severity::Note, format!("{location} {what}"));
                // Nothing is made where a disk may be missing.
                return !missing;
            }
            Err(RepoError::Remote(error)) => {
                self.failed_remotely("repository", &error);
                return false;
            }
            Err(error) => {
                self.failed("repository", error.to_string(), None);
                return true;
            }
        }
        self.say("repository", Severity::Good, format!("the first answer took {}", milliseconds(taken)));
        self.last_backup(remote.as_ref());
        self.passphrase(remote);
        true
    }

    /// Names tell the times of snapshots, so no passphrase is needed.
    fn last_backup(&mut self, remote: &dyn Remote) {
        let listed = match remote.list(Folder::Snapshots.name()) {
            Ok(listed) => listed,
            Err(error) => return self.failed_remotely("last backup", &error),
        };
        let times = listed.iter().filter_map(|l| parse_name(&l.name)).filter_map(|(_, time, _)| time);
        let Some(newest) = times.max() else {
            return self.say("last backup", Severity::Note, "there is no snapshot yet");
        };
        let now = self.request.clock.now().secs;
        let when = jiff::Timestamp::from_second(newest).unwrap_or_default();
        if newest > now + SKEW {
            let message =
                format!("the newest snapshot is from the future, {when}: is this machine's clock right?");
            return self.say("clock", Severity::Warning, message);
        }
        let age = jiff::SignedDuration::from_secs(now.saturating_sub(newest));
        self.say("last backup", Severity::Good, format!("{when}, {age:#} ago"));
    }

    fn passphrase(&mut self, remote: &Arc<dyn Remote>) {
        let Some(passphrase) = &self.request.passphrase else {
            return self.say("passphrase", Severity::Note, "none is configured, so none was tried");
        };
        let caches = CachePlace { dir: &self.request.cache_dir, keeps_key: self.request.key_cache };
        let opened = Repository::open(Arc::clone(remote), passphrase, caches);
        let repository = match opened {
            Ok(repository) => repository,
            Err(error) => {
                let fault = AppError::from(error);
                return self.failed("passphrase", fault.to_string(), fault.fault());
            }
        };
        self.say("passphrase", Severity::Good, "it opens the repository");
        if repository.writer_key().is_some() {
            let message = "it is a writer key: backups work, and restores need an owner key";
            return self.say("passphrase", Severity::Note, message);
        }
        let latest = Catalog::load(&repository, SnapshotKind::Regular)
            .and_then(|catalog| catalog.entries().last().map(|e| repository.snapshot(e)).transpose());
        match latest {
            Ok(Some(snapshot)) if !snapshot.complete => {
                let message = format!(
                    "the newest snapshot lacks {} paths that could not be read",
                    snapshot.error_count
                );
                self.say("last backup", Severity::Warning, message);
            }
            Ok(_) => {}
            Err(error) => self.failed("last backup", error.to_string(), None),
        }
    }

    /// Tries everything that backups and prunes do, in a folder of its own.
    fn scratch(&mut self, folder: &str) {
        let remote = self.below(folder);
        let mut left = Vec::new();
        if self.permissions(remote.as_ref(), &mut left) {
            self.speed(remote.as_ref(), &mut left);
            self.clock_skew(folder);
        }
        let deletes = self.clean_up(remote.as_ref(), &left);
        drop(remote);
        if self.request.remote_test && !self.request.monitor.cancelled() {
            self.contract(&format!("{folder}-test"), deletes);
        }
        scratch::remove_folders(&self.request.location);
    }

    fn below(&self, folder: &str) -> Arc<dyn Remote> {
        scratch::below(&self.request.location, folder, &self.request.monitor, &self.request.clock)
    }

    fn permissions(&mut self, remote: &dyn Remote, left: &mut Vec<&'static str>) -> bool {
        const NAME: &str = "index/probe";
        let bytes = vec![7; SMALL_PROBE];
        if let Err(error) = remote.put(NAME, &bytes) {
            self.failed_remotely("may store", &error);
            return false;
        }
        left.push(NAME);
        self.say("may store", Severity::Good, "yes");
        match remote.get(NAME, SMALL_PROBE as u64) {
            Ok(read) if read == bytes => self.say("may read", Severity::Good, "yes"),
            Ok(_) => self.failed("may read", "what was read is not what was stored".into(), None),
            Err(error) => self.failed_remotely("may read", &error),
        }
        match remote.list("index") {
            Ok(listed) if listed.iter().any(|l| l.name == NAME && l.size == SMALL_PROBE as u64) => {
                self.say("may list", Severity::Good, "yes");
            }
            Ok(_) => {
                self.failed("may list", "an object that was just stored is not in the listing".into(), None);
            }
            Err(error) => self.failed_remotely("may list", &error),
        }
        true
    }

    fn speed(&mut self, remote: &dyn Remote, left: &mut Vec<&'static str>) {
        const NAME: &str = "packs/sp/speed";
        let trips = (0..ROUND_TRIPS).filter_map(|_| {
            let (listed, taken) = self.time(|| remote.list("index"));
            listed.ok().map(|_| taken)
        });
        if let Some(best) = trips.min() {
            self.say("round trip", Severity::Good, milliseconds(best));
        }
        // What compresses would flatter a line that compresses.
        let mut bytes = vec![0; BIG_PROBE];
        blake3::Hasher::new().update(b"exuvia doctor").finalize_xof().fill(&mut bytes);
        let (stored, up) = self.time(|| remote.put(NAME, &bytes));
        left.push(NAME);
        if let Err(error) = stored {
            return self.failed_remotely("throughput", &error);
        }
        let (read, down) = self.time(|| remote.get(NAME, BIG_PROBE as u64));
        match read {
            Ok(read) if read == bytes => {
                let rate =
                    |time: Duration| BIG_PROBE as f64 / time.as_secs_f64().max(1e-6) / f64::from(1 << 20);
                let message =
                    format!("{:.1} MiB/s up, {:.1} MiB/s down, one object at a time", rate(up), rate(down));
                self.say("throughput", Severity::Good, message);
            }
            Ok(_) => self.failed("throughput", "what was read is not what was stored".into(), None),
            Err(error) => self.failed_remotely("throughput", &error),
        }
    }

    /// Compares our clock with the time that the service gave the probe.
    fn clock_skew(&mut self, folder: &str) {
        let Location::Rclone(target) = &self.request.location else { return };
        let environment = Environment::new(fs::inherited_variables());
        let place = format!("{}{folder}/index", rclone::REMOTE);
        let arguments = ["lsjson", "--use-server-modtime", place.as_str()];
        let now = self.request.clock.now();
        let listed = rclone::command(target, &environment, &arguments, b"", COMMAND_LIMIT);
        let Ok(listed) = listed.and_then(rclone::Output::success) else {
            return self.say("clock", Severity::Note, "the remote tells no times to compare with");
        };
        match modified(&listed).map(|theirs| skew(now, theirs)) {
            None => self.say("clock", Severity::Note, "the remote tells no times to compare with"),
            Some(0) => self.say("clock", Severity::Good, "agrees with the remote's"),
            Some(seconds) => {
                let word = if seconds > 0 { "ahead of" } else { "behind" };
                let message = format!("this machine's clock is {} s {word} the remote's", seconds.abs());
                self.say("clock", Severity::Warning, message);
            }
        }
    }

    /// Removes the probes; tells whether that is allowed.
    fn clean_up(&mut self, remote: &dyn Remote, left: &[&str]) -> bool {
        for name in left {
            match remote.delete(name) {
                Ok(()) => {}
                Err(RemoteError::Service { fault: Fault::Permission | Fault::Authentication, .. }) => {
                    let message = "no: backups work, and nobody who gets hold of these credentials can delete \
                                   them; prune needs others";
                    self.say("may delete", Severity::Note, message);
                    self.say(
                        "may delete",
                        Severity::Note,
                        format!("the probes stay in {}", remote.location()),
                    );
                    return false;
                }
                Err(error) => {
                    self.failed_remotely("may delete", &error);
                    return false;
                }
            }
        }
        if !left.is_empty() {
            self.say("may delete", Severity::Good, "yes");
        }
        true
    }

    fn contract(&mut self, folder: &str, deletes: bool) {
        let remote = self.below(folder);
        let options = contract::Options { deletes, ..contract::Options::GENTLE };
        let outcome = contract::run(remote.as_ref(), &options, &mut |name, result| {
            let (severity, message) = match result {
                Ok(()) => (Severity::Good, name.to_string()),
                Err(failure) => (Severity::Problem, format!("{name}: {failure}")),
            };
            (self.each)(&Finding { topic: "remote test", severity, message, fault: None });
        });
        for name in outcome.left_out {
            self.say(
                "remote test",
                Severity::Note,
                format!("{name}: not tried, since nothing may be deleted"),
            );
        }
        if !outcome.remaining.is_empty() {
            let message =
                format!("{} objects of the test stay in {}", outcome.remaining.len(), remote.location());
            self.say("remote test", Severity::Note, message);
        }
    }
}

/// The kind of a target's remote, where that can be known without reading secrets.
fn backend(target: &Target, environment: &Environment) -> Option<String> {
    let own = target.env.iter().find(|(name, _)| name == "RCLONE_CONFIG_EXUVIA_TYPE");
    if let Some((_, kind)) = own {
        return Some(kind.expose().to_string());
    }
    let name = target.spec.expose().split([':', ',']).find(|part| !part.is_empty())?;
    if target.spec.expose().starts_with(':') {
        return Some(name.to_string());
    }
    let listed = rclone::command(target, environment, &["listremotes", "--long"], b"", COMMAND_LIMIT);
    let listed = listed.and_then(rclone::Output::success).ok()?;
    String::from_utf8_lossy(&listed).lines().find_map(|line| {
        let (remote, kind) = line.split_once(':')?;
        let kind = kind.split_whitespace().next()?;
        (remote.trim() == name).then(|| kind.to_string())
    })
}

/// The time of the only object of a listing by `rclone lsjson`, in seconds since 1970.
fn modified(listing: &[u8]) -> Option<i64> {
    let objects: Vec<serde_json::Value> = serde_json::from_slice(listing).ok()?;
    let time: jiff::Timestamp = objects.first()?.get("ModTime")?.as_str()?.parse().ok()?;
    Some(time.as_second())
}

/// Seconds that we are ahead of the service; 0 when that is little.
fn skew(ours: Timestamp, theirs: i64) -> i64 {
    let seconds = ours.secs.saturating_sub(theirs);
    if seconds.abs() > SKEW { seconds } else { 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_of_the_service_are_compared() {
        let listing = br#"[
{"Path":"probe","Name":"probe","Size":64,"MimeType":"","ModTime":"2026-01-01T00:00:10.5Z","IsDir":false}
]"#;
        let theirs = modified(listing).unwrap();
        let at = |secs| Timestamp::from_secs(secs);
        assert_eq!(skew(at(theirs), theirs), 0);
        assert_eq!(skew(at(theirs - SKEW), theirs), 0);
        assert_eq!(skew(at(theirs + 3_600), theirs), 3_600);
        assert_eq!(skew(at(theirs - 90), theirs), -90);
        for wrong in [&b""[..], b"[]", b"{}", b"[{}]", br#"[{"ModTime":3}]"#, br#"[{"ModTime":"x"}]"#] {
            assert_eq!(modified(wrong), None);
        }
    }
}
