//! Several machines at once, call by call in an order that the seed chooses, with faults, crashes, lost caches
//! and clocks that are set.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use super::Numbers;
use super::client::{Client, Deathbed, Trace};
use super::judge;
use super::turns::Turns;
use super::world::{DAY, Op, World, copy_dir};
use crate::crypto::seeded;
use crate::model::ObjectId;
use crate::remote::Remote;

/// Operations of one history.
const OPERATIONS: usize = 9;
/// An operation takes at most so long: a good part of the time that a prune waits.
const LONGEST: i64 = 30 * 3_600;

type Outcome = Result<Option<ObjectId>, String>;

/// An operation under way.
struct Running {
    op: Op,
    client: Arc<Client>,
    thread: JoinHandle<()>,
    outcome: Receiver<Outcome>,
    /// Seconds that passed since it began.
    lasted: i64,
}

/// After one of so many histories it is tried whether anything leaks for ever.
const LEAKS: u64 = 4;

/// What happened in histories.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Operations that came to an end.
    completed: usize,
    /// Of these, those that met a fault.
    faults: usize,
    /// Prunes that gave way to others.
    refused: usize,
    /// Packs that prunes condemned, copied from, removed.
    condemned: u64,
    copied: u64,
    deleted: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.faults += other.faults;
        self.refused += other.refused;
        self.condemned += other.condemned;
        self.copied += other.copied;
        self.deleted += other.deleted;
    }

    /// What so many histories are for did happen in them.
    pub(super) fn judge(&self, histories: usize, faults: bool) {
        assert!(self.completed >= histories * OPERATIONS, "{self:?}");
        assert!(self.refused * 50 <= self.completed, "{self:?}");
        assert!(self.faults * 12 >= self.completed || !faults, "{self:?}");
        for happened in [self.condemned, self.copied, self.deleted] {
            assert!(happened >= histories as u64 / 8, "{self:?}");
        }
    }
}

/// A history in the making.
pub(super) struct History {
    seed: u64,
    numbers: Numbers,
    pub(super) world: World,
    turns: Arc<Turns>,
    trace: Arc<Trace>,
    running: Vec<Option<Running>>,
    begun: usize,
    /// Seconds since everything had arrived that was on its way.
    unsettled: i64,
    faults: bool,
    counts: Counts,
}

impl History {
    /// `machines` of them; each operation may meet a fault if `faults`.
    pub(super) fn new(seed: u64, machines: usize, faults: bool) -> Self {
        seeded::begin(seed);
        let mut world = World::new(machines);
        world.run(0, Op::Init);
        Self {
            seed,
            numbers: Numbers::new(seed),
            world,
            turns: Arc::new(Turns::new(machines)),
            trace: Arc::default(),
            running: (0..machines).map(|_| None).collect(),
            begun: 0,
            unsettled: 0,
            faults,
            counts: Counts::default(),
        }
    }

    /// Lives it to its end. Panics, with seed and trace, when anything is lost.
    pub(super) fn run(self) -> (Arc<Trace>, Counts) {
        self.lived()
    }

    /// The same with a last machine that can only write.
    pub(super) fn run_with_writer(mut self) -> (Arc<Trace>, Counts) {
        self.world.run(0, Op::AddWriter);
        let last = self.world.machines.last_mut().unwrap();
        last.writes_only = true;
        self.lived()
    }

    fn lived(mut self) -> (Arc<Trace>, Counts) {
        loop {
            let idle: Vec<_> = (0..self.running.len()).filter(|n| self.running[*n].is_none()).collect();
            let busy: Vec<_> = (0..self.running.len()).filter(|n| self.running[*n].is_some()).collect();
            let more = self.begun < OPERATIONS;
            if more && !idle.is_empty() && (busy.is_empty() || self.numbers.chance(12)) {
                let machine = *self.numbers.pick(&idle);
                self.start(machine);
            } else if let Some(machine) = (!busy.is_empty()).then(|| *self.numbers.pick(&busy)) {
                self.turns.step(machine);
                self.end_if_done(machine);
            } else {
                break;
            }
            // Much of it goes by while nobody works.
            let often = if self.running.iter().all(Option::is_none) { 60 } else { 4 };
            if self.numbers.chance(often) {
                self.time_passes();
            }
        }
        self.finish();
        let tally = self.world.tallied();
        self.counts.condemned += tally.condemned;
        self.counts.copied += tally.copied;
        self.counts.deleted += tally.deleted;
        (self.trace, self.counts)
    }

    fn time_passes(&mut self) {
        let longest = self.running.iter().flatten().map(|running| running.lasted).max();
        let most = longest.map_or(5 * DAY, |lasted| (LONGEST - lasted).max(1));
        let secs = 1 + i64::try_from(self.numbers.below(usize::try_from(most).unwrap())).unwrap();
        self.unsettled += secs;
        if self.unsettled > LONGEST {
            // A request whose sender has died does not arrive days later.
            self.world.provider.settle();
            self.unsettled = 0;
        }
        self.world.pass(secs);
        self.running.iter_mut().flatten().for_each(|running| running.lasted += secs);
        self.trace.note(format_args!("# {secs} s pass"));
        if self.numbers.chance(30) {
            // Somebody corrects a clock, by up to an hour either way.
            let machine = self.numbers.below(self.world.machines.len());
            let by = i64::try_from(self.numbers.below(7_200)).unwrap() - 3_600;
            self.world.machines[machine].clock.jump(by);
            self.trace.note(format_args!("# the clock of {machine} is set by {by} s"));
        }
    }

    fn choose(&mut self) -> Op {
        match self.numbers.below(20) {
            0 | 1 => Op::Safety,
            2..=5 if self.choose_target() => Op::Forget,
            6..=9 => Op::Prune,
            10 => Op::Policy,
            _ => Op::Backup,
        }
    }

    /// A snapshot that nobody is about to forget already.
    fn choose_target(&mut self) -> bool {
        let forgetting = self.running.iter().flatten().any(|running| running.op == Op::Forget);
        if forgetting || self.world.promised.len() < 2 {
            return false;
        }
        self.world.target = Some(*self.numbers.pick(&self.world.promised));
        true
    }

    fn start(&mut self, machine: usize) {
        let op = if self.world.machines[machine].writes_only { Op::Backup } else { self.choose() };
        if matches!(op, Op::Backup | Op::Safety) && self.numbers.chance(80) {
            let mut numbers = Numbers::new(self.numbers.next());
            self.world.change(machine, &mut numbers);
        }
        if self.numbers.chance(5) {
            self.world.lose_cache(machine);
            self.trace.note(format_args!("# machine {machine} loses its cache"));
        }
        self.begun += 1;
        // Which of two snapshots of one second is read first follows from their ids, and these from inodes too.
        self.world.pass(1);
        self.world.begin(machine);
        let mut client = Client::new(&self.world.provider);
        client.turns = Some((Arc::clone(&self.turns), machine));
        client.trace = Some((Arc::clone(&self.trace), format!("{machine} {op:?}")));
        if self.faults && self.numbers.chance(35) {
            let number = self.numbers.below(14);
            let choice = self.numbers.next();
            client.any = Some((number, choice));
        }
        let kept = self.world.path(&format!("deathbed{machine}"));
        client.deathbed = Some(Deathbed { cache: self.world.machines[machine].cache.clone(), kept });
        let client = Arc::new(client);
        if op == Op::Policy {
            let backups = (0..self.running.len()).filter(|n| {
                self.running[*n].as_ref().is_some_and(|running| matches!(running.op, Op::Backup | Op::Safety))
            });
            let backups: Vec<_> = backups.collect();
            self.world.expect_policy(&backups);
        }
        let job = self.world.job(machine, op);
        let (sender, outcome) = channel();
        let (turns, remote) = (Arc::clone(&self.turns), Arc::clone(&client) as Arc<dyn Remote>);
        let seed = self.numbers.next();
        self.turns.set_busy(machine, true);
        self.trace.note(format_args!("# {machine} begins {op:?}"));
        let thread = std::thread::spawn(move || {
            /// However it ends, who gives the turns must not wait for it.
            struct End(Arc<Turns>, usize);
            impl Drop for End {
                fn drop(&mut self) {
                    self.0.set_busy(self.1, false);
                }
            }
            let _end = End(turns, machine);
            seeded::begin(seed);
            let result = job.run(&remote).map_err(|e| e.to_string());
            drop(sender.send(result));
        });
        self.running[machine] = Some(Running { op, client, thread, outcome, lasted: 0 });
        self.turns.rest(machine);
        self.end_if_done(machine);
    }

    fn end_if_done(&mut self, machine: usize) {
        if self.turns.is_busy(machine) {
            return;
        }
        let Some(running) = self.running[machine].take() else { return };
        if running.thread.join().is_err() {
            self.fail("an operation panicked");
        }
        let result = running.outcome.recv().unwrap_or_else(|_| Err("no outcome".into()));
        let fault = running.client.met();
        self.trace.note(format_args!("# {machine} ends {:?}: {result:?}, fault {fault:?}", running.op));
        self.counts.completed += 1;
        self.counts.faults += usize::from(fault.is_some());
        match fault {
            Some(fault) if fault.kills() => {
                let kept = self.world.path(&format!("deathbed{machine}"));
                copy_dir(&kept, &self.world.machines[machine].cache);
            }
            None => {
                self.counts.refused +=
                    usize::from(matches!(&result, Err(e) if e.contains("keeps condemning")));
                if let Err(e) = &result
                    && !e.contains("no snapshot")
                    && !e.contains("keeps condemning")
                {
                    self.fail(&format!("{:?} failed by itself: {e}", running.op));
                }
                self.world.promise(running.op, &result);
            }
            Some(_) => self.world.promise(running.op, &result),
        }
        if let Err(e) = judge::published(&self.world) {
            self.fail(&e);
        }
    }

    /// All is quiet: what was on its way arrives, every machine takes a last backup, and everything is there.
    fn finish(&mut self) {
        self.world.provider.settle();
        self.world.pass(60);
        for machine in 0..self.world.machines.len() {
            if let Err(e) = self.world.attempt(machine, Op::Backup, None).result {
                self.fail(&format!("the last backup of {machine}: {e}"));
            }
            // Who can only write reads nothing back.
            let reader = if self.world.machines[machine].writes_only { 0 } else { machine };
            if let Err(e) = judge::nothing_is_lost(&self.world, reader, None) {
                self.fail(&format!("at the end: {e}"));
            }
        }
        if let Err(e) = judge::check(&self.world, None) {
            self.fail(&format!("at the end: {e}"));
        }
        if self.seed.is_multiple_of(LEAKS) {
            let tidy = self.world.tidy(0).and_then(|()| judge::nothing_is_lost(&self.world, 0, None));
            if let Err(e) = tidy.and_then(|()| judge::nothing_is_too_much(&self.world)) {
                self.fail(&format!("after prunes: {e}"));
            }
        }
        seeded::end();
    }

    fn fail(&self, what: &str) -> ! {
        // Threads that wait for their turn are left alone: the process ends with the test.
        panic!("history with seed {}: {what}\n{}", self.seed, self.trace.text())
    }
}

/// The calls of a trace without ids, which are random, and without what looking for one of several packs came to:
/// their order is that of their ids.
pub(super) fn outline(trace: &Trace) -> Vec<String> {
    let text = trace.text();
    let short = |line: &str| -> String {
        let words: Vec<_> = line.split(' ').map(|word| word.split('/').next().unwrap_or(word)).collect();
        let words = match words.iter().position(|word| *word == "up") {
            Some(at) => &words[..words.len().min(at + 2)],
            None if line.starts_with('#') => &words[..words.len().min(4)],
            None => &words[..],
        };
        words.join(" ")
    };
    text.lines().map(short).collect()
}
