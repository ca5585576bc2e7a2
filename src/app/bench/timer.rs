//! Taking the time.

use std::sync::Arc;
use std::time::Duration;

use crate::app::AppError;
use crate::clock::Clock;
use crate::report::Monitor;

/// How long one stage is measured: long enough to be repeated by a few percent.
const LIMIT: Duration = Duration::from_millis(300);

/// So much was done in that time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Bytes, or entries of a directory.
    pub amount: u64,
    /// How long it took.
    pub time: Duration,
}

impl Rate {
    /// Bytes or entries in one second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        // A clock that did not tick meanwhile must not make anything infinite.
        self.amount as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Seconds that `amount` takes at this rate; none where nothing was measured.
    pub(super) fn seconds(self, amount: u64) -> f64 {
        if self.amount == 0 { 0.0 } else { amount as f64 / self.per_second() }
    }
}

pub(super) struct Timer {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) monitor: Arc<dyn Monitor>,
}

impl Timer {
    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(super) fn since(&self, begun: Duration) -> Duration {
        self.now().saturating_sub(begun)
    }

    /// Refuses when the user asked to stop.
    pub(super) fn go_on(&self) -> Result<(), AppError> {
        if self.monitor.cancelled() { Err(AppError::Interrupted) } else { Ok(()) }
    }

    /// How long `work` takes.
    pub(super) fn time<T>(
        &self,
        work: impl FnOnce() -> Result<T, AppError>,
    ) -> Result<(T, Duration), AppError> {
        self.go_on()?;
        let begun = self.now();
        Ok((work()?, self.since(begun)))
    }

    /// Gives `work` one item after the other, again from the first when there are no more, until enough
    /// time has passed. `work` tells how many bytes it did.
    pub(super) fn rate<T: Copy>(
        &self,
        items: &[T],
        mut work: impl FnMut(T) -> Result<usize, AppError>,
    ) -> Result<Rate, AppError> {
        let begun = self.now();
        let mut rate = Rate::default();
        for item in items.iter().cycle() {
            self.go_on()?;
            rate.amount += work(*item)? as u64;
            rate.time = self.since(begun);
            if rate.time >= LIMIT {
                break;
            }
        }
        Ok(rate)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::model::{Classify, ErrorClass, Timestamp};

    /// A clock that goes on by 10 ms whenever it is looked at.
    #[derive(Default)]
    pub(in crate::app::bench) struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(10 * self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    #[derive(Default)]
    struct Stop(AtomicBool);

    impl Monitor for Stop {
        fn cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_rate_is_taken_for_a_bounded_time_and_can_be_stopped() {
        let stop = Arc::new(Stop::default());
        let timer = Timer { clock: Arc::new(Ticking::default()), monitor: Arc::<Stop>::clone(&stop) };
        let rate = timer.rate(&[1usize, 2], Ok).unwrap();
        assert_eq!(rate, Rate { amount: 45, time: LIMIT });
        assert!((rate.per_second() - 150.0).abs() < 1e-9 && (rate.seconds(300) - 2.0).abs() < 1e-9);
        assert_eq!(timer.rate(&[0usize; 0], Ok).unwrap(), Rate::default());
        stop.0.store(true, Ordering::Relaxed);
        let stopped = timer.rate(&[1usize], Ok).unwrap_err();
        assert_eq!(stopped.class(), ErrorClass::Interrupted);
    }

    #[test]
    fn nothing_measured_takes_no_time() {
        assert_eq!(Rate::default().seconds(5).to_bits(), 0f64.to_bits());
        assert!(Rate { amount: 1, time: Duration::ZERO }.per_second().is_finite());
    }
}
