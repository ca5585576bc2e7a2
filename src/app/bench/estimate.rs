//! What the speeds mean: how long a backup and a restore take, and which compression fits. Pure.
//!
//! The parts of a backup run side by side, so the slowest decides: reading (the walk and the bytes),
//! compressing (all that is done with bytes, reading them too, on all cores), the upload. Content that
//! occurs twice is not known, and so not taken off.

use std::time::Duration;

use super::probe::RemoteSpeed;
use super::sample::Tree;
use super::stages::{Level, Stages};
use super::timer::Rate;
use crate::repo::Compression;

/// What is estimated when there is nothing to back up: one GiB.
const INSTEAD: u64 = 1 << 30;
/// Small requests of a backup without changes: two listings and one upload.
const REQUESTS_UNCHANGED: f64 = 3.0;
/// Small requests of a first backup or a restore beside the packs, about.
const REQUESTS: f64 = 8.0;

/// What a first backup waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Walking and reading the state dir.
    Reading,
    /// Compressing, and what else the processor does.
    Compressing,
    /// The way to the repository.
    Upload,
}

/// What to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of files that this is about: the state dir's, or one GiB where it has none.
    pub bytes: u64,
    /// Bytes that are stored of them with the default compression.
    pub stored: u64,
    /// Time of a first backup with the default compression.
    pub first_backup: Duration,
    /// What that waits for.
    pub bound: Bound,
    /// The same with `fast`, where compressing is what it waits for and `fast` makes a difference.
    pub with_fast: Option<Duration>,
    /// Time of a backup without changes; `None` where there is no state dir.
    pub unchanged_backup: Option<Duration>,
    /// Time of a restore, without that of writing the files, which depends on the target.
    pub restore: Duration,
    /// The compression that fits.
    pub advice: Compression,
}

/// The parts of a first backup, in seconds.
struct Parts {
    reading: f64,
    compressing: f64,
    upload: f64,
}

impl Parts {
    fn longest(&self) -> f64 {
        self.reading.max(self.compressing).max(self.upload)
    }

    fn bound(&self) -> Bound {
        if self.upload > self.reading.max(self.compressing) {
            Bound::Upload
        } else if self.compressing >= self.reading {
            Bound::Compressing
        } else {
            Bound::Reading
        }
    }
}

/// Estimates.
pub(super) fn estimate(
    tree: Option<&Tree>,
    stages: &Stages,
    remote: Option<&RemoteSpeed>,
    threads: usize,
) -> Estimate {
    let tree = tree.filter(|tree| tree.bytes > 0);
    let bytes = tree.map_or(INSTEAD, |tree| tree.bytes);
    let walk = tree.map_or(0.0, |tree| tree.walk.time.as_secs_f64());
    let read = tree.and_then(|tree| tree.reading).map_or(0.0, |rate| rate.seconds(bytes));
    let cores = threads.max(1) as f64;
    let request = remote.map_or(0.0, |remote| remote.request.as_secs_f64());
    let transfer = |rate: fn(&RemoteSpeed) -> Rate, bytes| remote.map_or(0.0, |r| rate(r).seconds(bytes));
    let parts = |level: &Level| {
        let stored = level.stored(bytes);
        let work = [
            (stages.chunking, bytes),
            (stages.hashing, bytes),
            (level.rate, bytes),
            (stages.sealing, stored),
            (stages.naming, stored),
        ];
        let work: f64 = work.iter().map(|(rate, bytes)| rate.seconds(*bytes)).sum();
        Parts {
            reading: walk + read,
            compressing: (walk + read + work) / cores,
            upload: transfer(|remote| remote.upload, stored),
        }
    };
    let [fast, default, max] = &stages.compression;
    let (first, with_fast) = (parts(default), parts(fast));
    let beside = REQUESTS * request + stages.key.as_secs_f64();
    let stored = default.stored(bytes);
    let download = transfer(|remote| remote.download, stored);
    let opening = (stages.opening.seconds(bytes) + stages.hashing.seconds(bytes)) / cores;
    let unchanged = walk + REQUESTS_UNCHANGED * request + stages.cached_key.as_secs_f64();
    let gain = first.bound() == Bound::Compressing && with_fast.longest() < 0.9 * first.longest();
    Estimate {
        bytes,
        stored,
        first_backup: seconds(first.longest() + beside),
        bound: first.bound(),
        with_fast: gain.then(|| seconds(with_fast.longest() + beside)),
        unchanged_backup: tree.map(|_| seconds(unchanged)),
        restore: seconds(download.max(opening) + beside),
        advice: advice(&first, &parts(max)),
    }
}

/// `default`, unless the upload is what everything waits for: then `max` where it keeps up with the
/// upload all the same, and `auto`, which is harder only as far as there is time, where it does not.
/// `fast` is never advised: only the user knows whether space is no concern.
fn advice(default: &Parts, max: &Parts) -> Compression {
    match (default.bound(), max.bound()) {
        (Bound::Upload, Bound::Upload) => Compression::Max,
        (Bound::Upload, _) => Compression::Auto,
        _ => Compression::Default,
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn rate(mib: u64) -> Rate {
        Rate { amount: mib * MIB, time: Duration::from_secs(1) }
    }

    fn level(compression: Compression, mib: u64, packed: u64) -> Level {
        Level { compression, rate: rate(mib), raw: 100, packed }
    }

    /// Nothing but zstd takes time.
    fn stages() -> Stages {
        let quick = rate(1 << 30);
        Stages {
            chunking: quick,
            hashing: quick,
            compression: [
                level(Compression::Fast, 400, 30),
                level(Compression::Default, 200, 25),
                level(Compression::Max, 20, 20),
            ],
            sealing: quick,
            naming: quick,
            opening: rate(500),
            key: Duration::ZERO,
            cached_key: Duration::from_millis(20),
        }
    }

    fn tree(mib: u64, reading: u64) -> Tree {
        Tree {
            root: PathBuf::new(),
            files: 10,
            bytes: mib * MIB,
            unreadable: 0,
            complete: true,
            walk: Rate { amount: 11, time: Duration::from_millis(50) },
            reading: Some(rate(reading)),
        }
    }

    fn remote(upload: u64) -> RemoteSpeed {
        RemoteSpeed {
            location: String::new(),
            request: Duration::from_millis(100),
            upload: rate(upload),
            download: rate(10 * upload),
            parallel: 1,
        }
    }

    fn is_about(time: Duration, wanted: f64) -> bool {
        (time.as_secs_f64() - wanted).abs() < 0.01 * wanted
    }

    #[test]
    fn the_slowest_part_decides() {
        let of = |tree: &Tree, remote: Option<&RemoteSpeed>| estimate(Some(tree), &stages(), remote, 2);
        // 4,000 MiB at 2 x 200 MiB/s after 1,000 MiB/s, or 100 MiB/s from the disk, or a quarter at 20 MiB/s.
        let compressing = of(&tree(4_000, 1_000), None);
        assert_eq!(compressing.bound, Bound::Compressing);
        assert!(is_about(compressing.first_backup, 12.0), "{compressing:?}");
        let reading = of(&tree(4_000, 100), Some(&remote(200)));
        assert_eq!(reading.bound, Bound::Reading);
        assert!(is_about(reading.first_backup, 40.05 + 0.8), "{reading:?}");
        let upload = of(&tree(4_000, 1_000), Some(&remote(20)));
        assert_eq!((upload.bound, upload.stored), (Bound::Upload, 1_000 * MIB));
        assert!(is_about(upload.first_backup, 50.0 + 0.8), "{upload:?}");
        // 1,000 MiB at 200 MiB/s against 4,000 MiB at 2 x 500.
        assert!(is_about(upload.restore, 5.0 + 0.8), "{upload:?}");
    }

    #[test]
    fn the_advice_follows_the_bound() {
        let of = |upload| estimate(Some(&tree(4_000, 1_000)), &stages(), Some(&remote(upload)), 2).advice;
        // 800 MiB of max take 100 s to make.
        assert_eq!(of(1), Compression::Max);
        assert_eq!(of(7), Compression::Max);
        assert_eq!(of(20), Compression::Auto);
        assert_eq!(of(1_000), Compression::Default);
        assert_eq!(estimate(None, &stages(), None, 2).advice, Compression::Default);
    }

    #[test]
    fn fast_is_told_of_where_it_helps() {
        let compressing = estimate(Some(&tree(4_000, 1_000)), &stages(), None, 2);
        assert!(compressing.with_fast.is_some_and(|time| is_about(time, 7.0)), "{compressing:?}");
        let reading = estimate(Some(&tree(4_000, 100)), &stages(), None, 2);
        assert_eq!(reading.with_fast, None);
    }

    #[test]
    fn no_change_costs_the_walk_and_three_requests() {
        let found = estimate(Some(&tree(4_000, 100)), &stages(), Some(&remote(10)), 2);
        assert_eq!(found.unchanged_backup, Some(Duration::from_millis(50 + 300 + 20)));
    }

    #[test]
    fn without_a_state_dir_it_is_about_one_gib() {
        for tree in [None, Some(&tree(0, 100))] {
            let found = estimate(tree, &stages(), None, 0);
            assert_eq!((found.bytes, found.unchanged_backup), (1 << 30, None));
            assert!(is_about(found.first_backup, 1_024.0 / 200.0), "{found:?}");
        }
    }
}
