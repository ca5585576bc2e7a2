//! Years of daily backups of a changing tree with a policy of retention: what a repository comes to.

use std::io::Write as _;

use jiff::tz::TimeZone;

use super::*;
use crate::model::Policy;
use crate::ops::forget;
use crate::ops::retention::{Filter, Grouping};

/// Days that the suite can wait for; `EXUVIA_PRUNE_DAYS=3650` for ten years, which takes minutes.
const DAYS: u64 = 120;
/// What a prune may ask for and write, of so small a repository; of 3,650 prunes the worst asked 149 times and wrote
/// 4.4 MB, a third of what was needed then.
const REQUESTS: u64 = 200;

/// What a user's tree is like after so many days: documents of which one changes a day, a log that grows and
/// begins anew, a file that changes in places, a picture now and then.
fn live(world: &World, day: u64) {
    let dir = world.source("a");
    std::fs::create_dir_all(&dir).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    let documents = if day == 0 { 0..300 } else { day % 300..day % 300 + 1 };
    documents.for_each(|n| write(&format!("document {n}"), &noise(1_000_000 + n * 10_000 + day, 20_000)));
    let lines: Vec<u8> = (day / 90 * 90..=day).flat_map(|day| noise(2_000_000 + day, 8_000)).collect();
    write("log", &lines);
    if day == 0 {
        write("changing", &noise(3_000_000, 1 << 20));
    } else {
        let mut bytes = std::fs::read(dir.join("changing")).unwrap();
        let at = usize::try_from(day * 7919 % 250).unwrap() * 4096;
        bytes[at..at + 4096].copy_from_slice(&noise(4_000_000 + day, 4096));
        write("changing", &bytes);
    }
    if day % 20 == 3 {
        write(&format!("picture {}", day % 200), &noise(5_000_000 + day, 300_000));
    }
}

fn forget_old(world: &World, policy: &Policy) {
    let (repository, ..) = world.open("a");
    let now = jiff::Timestamp::from_second(world.clock.now().secs).unwrap().to_zoned(TimeZone::UTC);
    let monitor = Silent;
    let verdict =
        forget::judge(&repository, policy, Grouping::default(), &Filter::default(), &now, &monitor).unwrap();
    forget::run(&repository, &verdict.targets, &monitor).unwrap();
    let mut expected = world.expected.lock().unwrap();
    verdict.targets.iter().for_each(|target| drop(expected.remove(&target.id())));
}

/// Stored bytes of a repository, all told.
fn stored(world: &World) -> u64 {
    let folders = ["packs", "index", "snapshots", "gc", "accepted", "removed", "keys"];
    folders
        .iter()
        .flat_map(|folder| world.remote.memory.list(folder).unwrap())
        .map(|listed| listed.size)
        .sum()
}

/// What a repository comes to in which nothing but these snapshots was ever made.
fn made_anew(world: &World) -> u64 {
    let fresh = World::new();
    for content in world.expected.lock().unwrap().values() {
        let files: Vec<_> = content.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        fresh.snapshot("a", &files);
    }
    stored(&fresh)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}

#[test]
fn years_of_daily_backups_stay_near_what_is_needed() {
    let days = std::env::var("EXUVIA_PRUNE_DAYS").map_or(DAYS, |days| days.parse().unwrap());
    let policy = Policy { daily: 7, weekly: 4, monthly: 12, yearly: 10, ..Policy::default() };
    let world = World::new();
    let (mut worst, mut requests, mut written, mut prunes) = (0.0f64, 0, 0, 0);
    for day in 0..days {
        live(&world, day);
        world.backup("a");
        forget_old(&world, &policy);
        world.clock.pass(DAY - 1);
        let outcome = world.try_prune("a", |_| {}).unwrap();
        let counts =
            outcome.requests.iter().map(|(_, r)| (r.put + r.get + r.list + r.delete + r.stat, r.bytes_put));
        let (asked, put) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (requests, written, prunes) = (requests.max(asked), written.max(put), prunes + 1);
        // From then on: the first weeks' condemned packs have not had time to go.
        if day > 30 {
            let ratio = ratio(stored(&world), outcome.summary.used);
            worst = worst.max(ratio);
            assert!(ratio < 1.3, "{ratio} on day {day}: {:?}", outcome.summary);
            assert!(asked <= REQUESTS && put <= outcome.summary.used / 2, "{asked}, {put} on day {day}");
        }
    }
    // Days, weeks, months and years, of which some fall together.
    let expected = 7 + 2 + usize::try_from((days / 31).min(11) + days / 366).unwrap();
    let kept = world.expected.lock().unwrap().len();
    assert!((expected - 1..=7 + 4 + 12 + 10).contains(&kept), "{kept} snapshots, {expected} expected");
    let anew = ratio(stored(&world), made_anew(&world));
    assert!(anew < 1.3, "{anew} times a repository of these snapshots alone");
    let report = format!(
        "{days} days, {prunes} prunes: at most {worst:.2} times what is needed, in the end {anew:.2} times a repository \
         of the {kept} snapshots alone; {requests} requests and {written} bytes in a prune; {} bytes, {} packs, {} index \
         objects, {} gc records",
        world.pack_bytes(),
        world.names(Folder::Packs).len(),
        world.names(Folder::Index).len(),
        world.names(Folder::Gc).len()
    );
    writeln!(std::io::stderr(), "prunes: {report}").unwrap();
    world.is_whole();
}
