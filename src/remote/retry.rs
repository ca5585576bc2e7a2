//! A wrapper that tries again what may succeed later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Fault, Listed, Remote, RemoteError, Streaming};
use crate::clock::Clock;
use crate::report::Monitor;

/// Waiting is interrupted so often to see whether it should go on.
const TICK: Duration = Duration::from_millis(100);

/// When to try again, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Bound of the first wait; each further one is twice as long.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
    /// Tries of one request that fails although the service is there: others succeed meanwhile, or the
    /// failure is no matter of time.
    pub tries: u32,
    /// How long to go on while nothing at all succeeds.
    pub deadline: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            tries: 10,
            deadline: Duration::from_secs(15 * 60),
        }
    }
}

/// How waits pass; another one in tests.
type Sleep = Box<dyn Fn(Duration) + Send + Sync>;

/// Tries again what failed with a fault that may pass. [`Remote::create`] is made of requests that are
/// each tried again, so that a second try does not take the first one's object for somebody else's.
pub struct Retrying<R> {
    inner: R,
    policy: Policy,
    monitor: Arc<dyn Monitor>,
    clock: Arc<dyn Clock>,
    sleep: Sleep,
    /// When anything last succeeded, in milliseconds of the monotonic clock.
    success: AtomicU64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl<R: Remote> Retrying<R> {
    /// Wraps a remote.
    #[must_use]
    pub fn new(inner: R, policy: Policy, monitor: Arc<dyn Monitor>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            policy,
            monitor,
            clock,
            sleep: Box::new(std::thread::sleep),
            success: AtomicU64::new(0),
        }
    }

    fn attempt<T>(&self, mut request: impl FnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
        let began = millis(self.clock.monotonic());
        let mut tries = 0;
        loop {
            let error = match request() {
                Err(RemoteError::Service { verb, name, message, fault }) if fault.is_worth_retrying() => {
                    (verb, name, message, fault)
                }
                other => {
                    // Any answer of the service is a sign of life; but a failure that is no matter of
                    // time is none that others should wait for.
                    if matches!(other, Ok(_) | Err(RemoteError::NotFound { .. } | RemoteError::Size { .. })) {
                        self.success.fetch_max(millis(self.clock.monotonic()), Ordering::Relaxed);
                    }
                    return other;
                }
            };
            tries += 1;
            let (verb, name, message, fault) = error;
            let give_up =
                |message, fault| Err(RemoteError::Service { verb, name: name.clone(), message, fault });
            let now = millis(self.clock.monotonic());
            let success = self.success.load(Ordering::Relaxed);
            let counted = fault != Fault::Transient || success > began;
            if counted && tries >= self.policy.tries {
                return give_up(message, fault);
            }
            let wait = self.wait(tries);
            let silence = now.saturating_sub(success.max(began));
            if silence.saturating_add(millis(wait)) > millis(self.policy.deadline) {
                let minutes = silence / 60_000;
                return give_up(
                    format!("{message} (nothing succeeded for {minutes} minutes)"),
                    Fault::Deadline,
                );
            }
            let shown = millis(wait).div_ceil(1000);
            self.monitor.note(None, &format!("cannot {verb} {name}: {message}; trying again in {shown} s"));
            if !self.pause(wait) {
                return give_up("stopped".into(), Fault::Interrupted);
            }
        }
    }

    /// A random part of a bound that doubles, so that many clients do not come back at once.
    fn wait(&self, tries: u32) -> Duration {
        let doubled = self.policy.first_wait.saturating_mul(1 << (tries - 1).min(16));
        let bound = millis(doubled.min(self.policy.longest_wait));
        let mut random = [0; 8];
        // Without random numbers the whole bound is waited for.
        let part = getrandom::fill(&mut random).map_or(bound, |()| u64::from_le_bytes(random) % (bound + 1));
        Duration::from_millis(part)
    }

    /// False when it was cancelled.
    fn pause(&self, wait: Duration) -> bool {
        let mut left = wait;
        loop {
            if self.monitor.cancelled() {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            let step = left.min(TICK);
            (self.sleep)(step);
            left -= step;
        }
    }
}

impl<R: Remote> Remote for Retrying<R> {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.attempt(|| self.inner.get(name, max))
    }

    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.attempt(|| self.inner.get_range(name, offset, len))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.attempt(|| self.inner.put(name, bytes))
    }

    /// Beginning one is tried again; what was sent since is not kept, so nothing within it can be.
    fn stream(&self, name: &str) -> Result<Box<dyn Streaming>, RemoteError> {
        self.attempt(|| self.inner.stream(name))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.attempt(|| self.inner.list(folder))
    }

    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.attempt(|| self.inner.size(name))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.attempt(|| self.inner.delete(name))
    }

    fn sha256(&self, objects: &[(&str, u64)]) -> Result<Option<BTreeMap<String, [u8; 32]>>, RemoteError> {
        self.attempt(|| self.inner.sha256(objects))
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn parallel_requests(&self) -> usize {
        self.inner.parallel_requests()
    }

    fn local_directory(&self) -> Option<std::path::PathBuf> {
        self.inner.local_directory()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::model::Timestamp;
    use crate::remote::{Memory, Verb};

    #[derive(Default)]
    struct Fake {
        time: Mutex<Duration>,
        notes: Mutex<Vec<String>>,
        cancelled: AtomicBool,
    }

    impl Clock for Fake {
        fn now(&self) -> Timestamp {
            Timestamp { secs: 0, nanos: 0 }
        }

        fn monotonic(&self) -> Duration {
            *self.time.lock().unwrap()
        }
    }

    impl Monitor for Fake {
        fn note(&self, _: Option<&crate::model::RepoPath>, message: &str) {
            self.notes.lock().unwrap().push(message.to_string());
        }

        fn cancelled(&self) -> bool {
            self.cancelled.load(Ordering::Relaxed)
        }
    }

    /// Stands for a request that succeeds in a script of faults.
    const FINE: Fault = Fault::Deadline;

    /// Fails as told, then passes on.
    struct Scripted {
        faults: Mutex<Vec<Fault>>,
        inner: Memory,
        calls: AtomicU64,
    }

    impl Scripted {
        fn step(&self, verb: Verb, name: &str) -> Result<(), RemoteError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let Some(fault) = self.faults.lock().unwrap().pop() else { return Ok(()) };
            if fault == FINE {
                return Ok(());
            }
            Err(RemoteError::Service { verb, name: name.into(), message: "it failed".into(), fault })
        }
    }

    impl Remote for Scripted {
        fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
            self.step(Verb::Get, name)?;
            self.inner.get(name, max)
        }
        fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
            self.step(Verb::Get, name)?;
            self.inner.get_range(name, offset, len)
        }
        fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
            self.inner.put(name, bytes)?;
            self.step(Verb::Put, name)
        }
        fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
            self.step(Verb::List, folder)?;
            self.inner.list(folder)
        }
        fn size(&self, name: &str) -> Result<u64, RemoteError> {
            self.step(Verb::Stat, name)?;
            self.inner.size(name)
        }
        fn delete(&self, name: &str) -> Result<(), RemoteError> {
            self.step(Verb::Delete, name)?;
            self.inner.delete(name)
        }
        fn location(&self) -> String {
            "script".into()
        }
    }

    fn remote(faults: Vec<Fault>) -> (Retrying<Scripted>, Arc<Fake>) {
        let fake = Arc::new(Fake::default());
        let scripted =
            Scripted { faults: Mutex::new(faults), inner: Memory::default(), calls: AtomicU64::new(0) };
        let mut remote = Retrying::new(scripted, Policy::default(), fake.clone(), fake.clone());
        let time = fake.clone();
        remote.sleep = Box::new(move |wait| {
            assert!(wait <= TICK);
            *time.time.lock().unwrap() += wait;
        });
        (remote, fake)
    }

    fn fault_of<T: std::fmt::Debug>(result: Result<T, RemoteError>) -> Fault {
        match result {
            Err(RemoteError::Service { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_passes_is_tried_again_and_said() {
        let (remote, fake) = remote(vec![Fault::Transient, Fault::Corrupt, Fault::Other]);
        remote.put("index/a", b"x").unwrap();
        let notes = fake.notes.lock().unwrap();
        assert_eq!(notes.len(), 3);
        assert!(notes[0].starts_with("cannot store index/a: it failed; trying again in "), "{}", notes[0]);
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        use Fault::{Authentication, Interrupted, NoContainer, Permission, Quota, Setup};
        for fault in [Authentication, Permission, Quota, NoContainer, Setup, Interrupted] {
            let (remote, _) = remote(vec![fault; 2]);
            assert_eq!(fault_of(remote.list("index")), fault);
            assert_eq!(remote.inner.calls.load(Ordering::Relaxed), 1);
        }
        let (remote, _) = remote(vec![]);
        assert!(remote.get("a", 1).unwrap_err().is_not_found());
        assert_eq!(remote.inner.calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_service_that_is_away_is_waited_for_until_the_deadline() {
        let (remote, fake) = remote(vec![Fault::Transient; 10_000]);
        let result = remote.size("a");
        let Err(RemoteError::Service { message, fault: Fault::Deadline, .. }) = result else {
            panic!("{result:?}")
        };
        assert!(message.starts_with("it failed"), "{message}");
        let waited = *fake.time.lock().unwrap();
        let deadline = Policy::default().deadline;
        assert!(waited <= deadline && waited > deadline - Duration::from_secs(31), "{waited:?}");
        // The next operation has a deadline of its own.
        *fake.time.lock().unwrap() += Duration::from_secs(3600);
        *remote.inner.faults.lock().unwrap() = vec![Fault::Transient; 3];
        assert!(remote.size("a").unwrap_err().is_not_found());
    }

    #[test]
    fn one_object_that_keeps_failing_is_given_up() {
        let (remote, _) = remote(vec![Fault::Corrupt; 100]);
        assert_eq!(fault_of(remote.put("a", b"x")), Fault::Corrupt);
        assert_eq!(remote.inner.calls.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn creating_is_not_confused_by_its_own_first_try() {
        // The object is stored, and the answer is lost.
        let (remote, _) = remote(vec![]);
        *remote.inner.faults.lock().unwrap() = vec![Fault::Transient, FINE];
        remote.create("a", b"x").unwrap();
        assert!(matches!(remote.create("a", b"x"), Err(RemoteError::Exists { .. })));
    }

    #[test]
    fn waits_end_when_cancelled() {
        let (remote, fake) = remote(vec![Fault::Transient; 10]);
        fake.cancelled.store(true, Ordering::Relaxed);
        assert_eq!(fault_of(remote.delete("a")), Fault::Interrupted);
        assert_eq!(remote.inner.calls.load(Ordering::Relaxed), 1);
    }
}
