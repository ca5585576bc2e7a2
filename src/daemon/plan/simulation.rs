//! The planner on a machine that sleeps, whose clock is set, and whose jobs fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use proptest::prelude::*;

use super::tests::{rules, secs};
use super::*;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The daemon looks at the clock at least this often.
const LOOK: i64 = 30;

/// What happens to the machine, at a time that really passes.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It sleeps for so long: nothing runs, the clocks go on.
    Sleep(i64),
    /// The wall clock is set by so much.
    Jump(i64),
    /// The daemon is ended at once, and started again after so long. What it had in memory is lost.
    Crash(i64),
    /// Somebody fires a trigger of this name, and the daemon accepts it.
    Fire(&'static str),
}

/// One run: the job, why, and when by the wall clock and in truth.
type Run = (Job, Cause, i64, i64);

struct World {
    rules: Rules,
    records: Records,
    changes: Changes,
    begun: i64,
    /// Seconds that really passed.
    passed: i64,
    /// What the wall clock is ahead of the truth.
    ahead: i64,
    events: Vec<(i64, Event)>,
    /// From and to when, in truth, every job fails.
    broken: Vec<(i64, i64)>,
    /// How long a job takes.
    takes: i64,
    runs: Vec<Run>,
}

impl World {
    fn new(rules: Rules, begun: i64) -> Self {
        Self {
            rules,
            records: Records::default(),
            changes: None,
            begun,
            passed: 0,
            ahead: 0,
            events: Vec::new(),
            broken: Vec::new(),
            takes: 0,
            runs: Vec::new(),
        }
    }

    fn wall(&self) -> i64 {
        self.begun + self.passed + self.ahead
    }

    /// Lets time pass, and with it what happens to the machine. True when the daemon was ended.
    fn pass(&mut self, by: i64) -> bool {
        let (end, mut crashed) = (self.passed + by, false);
        while let Some(at) = self.events.iter().position(|(at, _)| *at <= self.passed.max(end)) {
            let (at, event) = self.events.remove(at);
            self.passed = self.passed.max(at);
            match event {
                Event::Sleep(length) => self.passed += length,
                Event::Jump(length) => self.ahead += length,
                Event::Fire(name) => {
                    let now = self.wall();
                    self.records.asked.entry(name.to_owned()).or_insert(now);
                }
                Event::Crash(length) => {
                    self.passed += length;
                    crashed = true;
                }
            }
        }
        self.passed = self.passed.max(end);
        crashed
    }

    fn go(&mut self, length: i64) {
        self.events.sort_by_key(|(at, _)| *at);
        while self.passed < length {
            let now = self.wall();
            settle(&self.rules, &mut self.records, now);
            match decide(&self.rules, &self.records, self.changes, false, now) {
                Step::Start(job, cause) => self.run(job, cause),
                Step::Wait { until, paused } => {
                    assert!(!paused);
                    let wait = until.map_or(LOOK, |until| until - now).clamp(1, LOOK);
                    if self.pass(wait) {
                        self.changes = None;
                    }
                }
            }
        }
    }

    fn run(&mut self, job: Job, cause: Cause) {
        let (now, truth) = (self.wall(), self.passed);
        begin(&mut self.records, &mut self.changes, job, &cause, now);
        self.runs.push((job, cause, now, truth));
        assert!(self.runs.len() < 100_000, "it runs without end");
        let crashed = self.pass(self.takes);
        let broken = self.broken.iter().any(|(from, to)| (*from..*to).contains(&truth));
        let (ending, failure) = match (crashed, broken) {
            (true, _) => (Ending::Stopped, None),
            (_, true) => (Ending::Failed, Some(Failure::new(self.wall(), "failed", "broken"))),
            _ => (Ending::Success, None),
        };
        let now = self.wall();
        end(&self.rules, &mut self.records, job, ending, failure, now);
    }

    /// The runs of a job, as local times.
    fn times(&self, job: Job) -> Vec<String> {
        let of_job = self.runs.iter().filter(|run| run.0 == job);
        of_job
            .map(|(_, cause, wall, _)| {
                let local =
                    jiff::Timestamp::from_second(*wall).unwrap().to_zoned(self.rules.timezone.clone());
                let what = if *cause == Cause::Retry { " retry" } else { "" };
                format!("{}{what}", local.strftime("%a %H:%M%:z"))
            })
            .collect()
    }
}

/// The week in which the clocks of Berlin are put forward, on Sunday the 29th.
#[test]
fn a_week_with_sleep_clock_changes_and_failures() {
    let schedules = [(Job::Backup, "1h"), (Job::Prune, "daily 02:30"), (Job::Check, "weekly sat 05:00")];
    let begun = secs("2026-03-23T08:00:00Z");
    let mut world = World::new(rules(&schedules, "Europe/Berlin"), begun);
    world.takes = 20;
    let at = |text: &str| secs(text) - begun;
    world.events = vec![
        // The night of Tuesday, over the time of the prune.
        (at("2026-03-24T22:00:10Z"), Event::Sleep(9 * HOUR)),
        // Two days of standing still, from Wednesday noon.
        (at("2026-03-25T11:00:10Z"), Event::Sleep(2 * DAY)),
        // The clock runs a month ahead for a quarter of an hour.
        (at("2026-03-27T14:00:10Z"), Event::Jump(30 * DAY)),
        (at("2026-03-27T14:15:10Z"), Event::Jump(-30 * DAY)),
        // Put back over the prune that just ran on Saturday, and put right later.
        (at("2026-03-28T01:31:00Z"), Event::Jump(-2 * HOUR)),
        (at("2026-03-28T09:00:00Z"), Event::Jump(2 * HOUR)),
    ];
    // The remote is away for half an hour on Sunday afternoon.
    world.broken = vec![(at("2026-03-29T12:00:00Z"), at("2026-03-29T12:30:00Z"))];
    world.go(at("2026-03-30T08:00:00Z"));

    assert_eq!(
        world.times(Job::Prune),
        [
            "Tue 02:30+01:00",
            // It slept: once, on waking up.
            "Wed 08:00+01:00",
            // Two were missed: once.
            "Fri 12:00+01:00",
            // The wrong month: one run when it began, none when it ended.
            "Sun 16:00+02:00",
            "Sat 02:30+01:00",
            // The clock skips the half hour.
            "Sun 03:00+02:00",
            "Mon 02:30+02:00",
        ]
    );
    assert_eq!(world.times(Job::Check), ["Sun 16:00+02:00", "Sat 05:00+01:00"]);

    // Backups: an hour apart in truth, but for sleep, jumps and retries.
    let backups: Vec<_> = world.runs.iter().filter(|run| run.0 == Job::Backup).collect();
    let retries = backups.iter().filter(|run| run.1 == Cause::Retry).count();
    assert_eq!(retries, 3, "{:?}", world.times(Job::Backup));
    let mut apart: Vec<i64> = backups.windows(2).map(|pair| pair[1].3 - pair[0].3).collect();
    apart.retain(|gap| !(HOUR..=HOUR + 60).contains(gap));
    let about = |gap: i64, want: i64| (want..=want + HOUR + 60).contains(&gap);
    for want in [9 * HOUR, 2 * DAY] {
        assert!(apart.iter().any(|gap| about(*gap, want)), "{want}: {apart:?}");
    }
    apart.retain(|gap| !about(*gap, 9 * HOUR) && !about(*gap, 2 * DAY));
    // The two jumps of the month, the one back in the night (an interval begins anew), the one forward, and
    // three retries with what is left of the hour.
    assert!(apart.len() <= 9 && apart.iter().all(|gap| (0..2 * HOUR).contains(gap)), "{apart:?}");
}

#[test]
fn the_night_in_which_the_clocks_are_put_back() {
    let schedules = [(Job::Backup, "cron 15 * * * *"), (Job::Prune, "daily 02:30")];
    let begun = secs("2026-10-24T20:00:00Z");
    let mut world = World::new(rules(&schedules, "Europe/Berlin"), begun);
    world.go(secs("2026-10-26T03:00:00Z") - begun);
    assert_eq!(world.times(Job::Prune), ["Sun 02:30+02:00", "Mon 02:30+01:00"]);
    let backups = world.times(Job::Backup);
    // The first at once, then every hour, also the one that the clock shows twice.
    assert_eq!(backups.len(), 1 + 31, "{backups:?}");
    assert!(
        backups.contains(&"Sun 02:15+02:00".to_owned()) && backups.contains(&"Sun 02:15+01:00".to_owned())
    );
}

#[test]
fn a_daemon_that_is_killed_again_and_again_finishes_what_it_began() {
    let begun = secs("2026-05-01T00:00:00Z");
    let mut world = World::new(rules(&[(Job::Backup, "daily 03:00")], "UTC"), begun);
    world.takes = 100;
    // In the middle of the run, twice.
    let three = 3 * HOUR;
    world.events =
        vec![(50, Event::Crash(10)), (three + 50, Event::Crash(30)), (three + 120, Event::Crash(600))];
    world.go(DAY);
    let times = world.times(Job::Backup);
    assert_eq!(
        times,
        [
            "Fri 00:00+00:00",
            "Fri 00:01+00:00 retry",
            "Fri 03:00+00:00",
            "Fri 03:01+00:00 retry",
            "Fri 03:12+00:00 retry"
        ]
    );
}

#[test]
fn a_trigger_outlives_the_daemon_that_accepted_it_and_is_run_once() {
    let begun = secs("2026-05-01T00:00:00Z");
    let mut world = World::new(rules(&[], "UTC"), begun);
    world.takes = 100;
    world.events = vec![
        // Before its run begins, and while it is under way.
        (10, Event::Fire("x")),
        (11, Event::Crash(600)),
        (650, Event::Crash(10)),
        (3_000, Event::Fire("y")),
    ];
    world.go(2 * HOUR);
    let causes: Vec<_> = world.runs.iter().map(|run| run.1.clone()).collect();
    let fired = |name: &str| Cause::Trigger { name: name.into(), late: false };
    assert_eq!(causes, [fired("x"), fired("x"), fired("y")], "{:?}", world.runs);
    assert!(world.records.asked.is_empty() && world.records.running.is_none());
}

/// When a schedule must run on a machine that only sleeps: at its times, and those that were slept through once,
/// on waking up. Found by looking at every second.
fn naive(schedule: &Schedule, tz: &TimeZone, begun: i64, length: i64, asleep: &[(i64, i64)]) -> Vec<i64> {
    let (mut found, mut missed) = (Vec::new(), false);
    let mut anchor = begun;
    let next = |anchor: i64| schedule.next_after(Timestamp::from_secs(anchor), tz).unwrap().secs;
    let mut due = next(anchor);
    for now in begun..begun + length {
        missed |= now >= due;
        let sleeps = asleep.iter().any(|(from, to)| (begun + from..begun + to).contains(&now));
        if missed && !sleeps {
            found.push(now);
            (missed, anchor) = (false, now);
            due = next(anchor);
        }
    }
    found
}

fn schedules() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "60",
        "17m",
        "1h",
        "7h",
        "daily 02:30",
        "daily 23:59",
        "weekly sun 02:15",
        "cron */20 * * * *",
        "cron 30 1-3 * * *",
        "cron 5 4 * * mon,sun",
        "cron 0 */6 28-31 * *",
    ])
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
    ])
}

/// Days on which clocks are changed somewhere, and others.
fn days() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![
        "2026-03-07",
        "2026-03-28",
        "2026-04-04",
        "2026-10-03",
        "2026-10-24",
        "2026-10-31",
        "2028-02-28",
    ])
    .prop_map(|day| secs(&format!("{day}T00:00:00Z")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sleep_and_restarts_lose_and_repeat_nothing(
        schedule in schedules(),
        zone in zones(),
        day in days(),
        sleeps in prop::collection::vec((0_i64..3 * DAY, 1_i64..20 * HOUR, any::<bool>()), 0..4),
    ) {
        let mut world = World::new(rules(&[(Job::Check, schedule)], zone), day);
        // One after the other.
        let (mut asleep, mut free) = (Vec::new(), 1);
        let mut sleeps = sleeps;
        sleeps.sort_unstable();
        for (at, length, crash) in sleeps {
            let at = at.max(free);
            let event = if crash { Event::Crash(length) } else { Event::Sleep(length) };
            world.events.push((at, event));
            asleep.push((at, at + length));
            free = at + length + 1;
        }
        let length = 3 * DAY;
        world.go(length);
        let tz = TimeZone::get(zone).unwrap();
        let want = naive(&schedule.parse().unwrap(), &tz, day, length, &asleep);
        let found: Vec<i64> = world.runs.iter().map(|run| run.2).filter(|at| *at < day + length).collect();
        // Who is woken up looks at once; who looks from time to time may be as late as that.
        prop_assert_eq!(found.len(), want.len(), "{:?} {:?}", found, want);
        for (found, want) in found.iter().zip(&want) {
            prop_assert!((0..=LOOK).contains(&(found - want)), "{} {}", found, want);
        }
    }

    #[test]
    fn a_clock_that_is_set_at_will_repeats_no_time_and_delays_no_job_by_more_than_a_period(
        schedule in schedules(),
        zone in zones(),
        day in days(),
        jumps in prop::collection::vec((0_i64..4 * DAY, -3 * DAY..3 * DAY), 0..5),
        far in prop::option::of(0_i64..4 * DAY),
    ) {
        let mut world = World::new(rules(&[(Job::Check, schedule)], zone), day);
        world.events = jumps.iter().map(|(at, by)| (*at, Event::Jump(*by))).collect();
        if let Some(at) = far {
            // Two years ahead, for a moment.
            world.events.push((at, Event::Jump(730 * DAY)));
            world.events.push((at + 100, Event::Jump(-730 * DAY)));
        }
        let length = 5 * DAY;
        world.go(length);
        let tz = TimeZone::get(zone).unwrap();
        let schedule: Schedule = schedule.parse().unwrap();
        let period = i64::try_from(schedule.period(Timestamp::from_secs(day), &tz).unwrap().as_secs()).unwrap();
        // In truth, a run comes a period after the last, and what the clock was put back by later, but not more
        // than another period for each time.
        let late: i64 = jumps.iter().filter(|(_, by)| *by < 0).map(|(_, by)| period.min(-by)).sum();
        let late = late + far.map_or(0, |_| period);
        let mut truth: Vec<i64> = world.runs.iter().map(|run| run.3).collect();
        truth.insert(0, 0);
        truth.push(length);
        for pair in truth.windows(2) {
            prop_assert!(pair[1] - pair[0] <= period + late + 2 * LOOK + HOUR, "{:?} {}", pair, period);
        }
        // By the wall clock, two runs never stand for the same time of the schedule, unless the clock was put
        // back by more than a period in between.
        let back = jumps.iter().filter(|(_, by)| *by < 0).map(|(_, by)| -by).sum::<i64>() + far.map_or(0, |_| 730 * DAY);
        if back <= period && !matches!(schedule, Schedule::Every(_)) {
            for pair in world.runs.windows(2) {
                let next = schedule.next_after(Timestamp::from_secs(pair[0].2), &tz).unwrap().secs;
                prop_assert!(pair[1].2 >= next, "{:?}", pair);
            }
        }
        if matches!(schedule, Schedule::Every(_)) {
            // However the clock jumps: in truth no more runs than intervals and jumps forward.
            let most = length / period + 1 + i64::try_from(jumps.len()).unwrap() + 2;
            prop_assert!(i64::try_from(world.runs.len()).unwrap() <= most, "{} {}", world.runs.len(), most);
        }
    }
}
