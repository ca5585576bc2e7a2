//! Every fault at every call of an operation.

use super::Numbers;
use super::client::Fault;
use super::judge;
use super::world::{DAY, Op, Tally, World};
use crate::crypto::seeded;
use crate::remote::Verb;

/// After one of so many faults it is tried whether anything leaks for ever.
const LEAKS: usize = 3;

/// A state of the world, and what is done next.
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) world: World,
    pub(super) machine: usize,
    pub(super) op: Op,
}

/// Fails the test, saying where.
struct Point<'a> {
    scenario: &'a str,
    op: Op,
    call: usize,
    verb: Verb,
    object: &'a str,
    fault: Fault,
}

impl Point<'_> {
    #[track_caller]
    fn wants<T>(&self, what: &str, result: Result<T, String>) -> T {
        let Self { scenario, op, call, verb, object, fault } = self;
        result.unwrap_or_else(|e| {
            panic!("{scenario}: {op:?}, {fault:?} at call {call} ({verb} {object}): {what}: {e}")
        })
    }
}

/// A torn object of these folders is in everybody's way until it is repaired.
fn blocks(object: &str) -> bool {
    ["index/", "accepted/", "gc/", "exuvia.json"].iter().any(|folder| object.starts_with(folder))
}

impl Scenario {
    /// Tries all faults at all calls; returns how many that were.
    pub(super) fn sweep(mut self) -> (usize, Tally) {
        let saved = self.world.save();
        self.world.tallied();
        let calls = self.world.attempt(self.machine, self.op, None);
        let tally = self.world.tallied();
        calls.result.unwrap_or_else(|e| panic!("{}: {:?} fails by itself: {e}", self.name, self.op));
        let mut points = 0;
        for (number, call) in calls.calls.iter().enumerate() {
            for (n, fault) in Fault::of(call.verb).iter().enumerate() {
                self.world.load(&saved);
                seeded::begin((number * 100 + n) as u64);
                self.point(number, (n, *fault), call.verb);
                points += 1;
            }
        }
        seeded::end();
        (points, tally)
    }

    fn point(&mut self, number: usize, (fault_number, fault): (usize, Fault), verb: Verb) {
        let Self { name, world, machine, op } = self;
        let reader = world.reader(*machine);
        let attempt = world.attempt(*machine, *op, Some((number, fault)));
        let object = attempt.calls[number].name.clone();
        let point = Point { scenario: name, op: *op, call: number, verb, object: &object, fault };
        if !matches!(fault, Fault::Orphan | Fault::OrphanCrash) {
            world.provider.settle();
        }
        let no_repository = !world.provider.all().iter().any(|name| name == "exuvia.json");
        if *op == Op::Init && fault.tears() && object == "exuvia.json" {
            // There is no repository: nothing was lost, and `init` says what is in its way.
            return;
        }
        if *op == Op::Init && no_repository {
            // What an interrupted one leaves is in nobody's way.
            world.pass(60);
            let again = world.attempt(*machine, *op, None);
            if !matches!(again.result, Err(ref e) if is_done_already(*op, e)) {
                point.wants("again", again.result);
            }
            world.provider.settle();
            point.wants(
                "after it ran again",
                judge::newcomer(world, "first").map(drop).map_err(|e| e.to_string()),
            );
            return;
        }
        let torn = (fault.tears() && verb == Verb::Put).then_some(object.as_str());
        if let Some(torn) = torn {
            if *op != Op::RepairIndex {
                point.wants("check", judge::check(world, Some(torn)));
            }
            if torn == "exuvia.json" {
                world.provider.remove(torn);
            } else if blocks(torn) {
                world.pass(60);
                point.wants("a repair", world.attempt(reader, Op::RepairIndex, None).result);
                let there = world.provider.all().iter().any(|name| name == torn);
                point.wants("a repair", if there { Err(format!("{torn} is still there")) } else { Ok(()) });
            }
        }
        // A listing that lags may well hide a snapshot.
        world.tallied();
        let torn = torn.filter(|torn| !blocks(torn));
        if *op == Op::RepairIndex {
            // Until it is done, what the index lacks cannot be read.
            let seen = judge::open(world).map_err(|e| e.to_string());
            point.wants("afterwards", seen.and_then(|seen| judge::nothing_is_wrong(world, &seen)));
        } else {
            point.wants("afterwards", judge::nothing_is_lost(world, reader, torn));
            point.wants("afterwards, check", judge::check(world, torn));
        }

        world.pass(60);
        let mut again = world.attempt(*machine, *op, None);
        if matches!(again.result, Err(ref e) if e.contains("the index must be repaired first")) {
            point.wants("a repair of the index", world.attempt(reader, Op::RepairIndex, None).result);
            again = world.attempt(*machine, *op, None);
        }
        if !matches!(again.result, Err(ref e) if is_done_already(*op, e)) {
            point.wants("again", again.result);
        }
        if matches!(op, Op::ChangeKey | Op::RemoveKey) {
            world.passphrase = "second";
        }
        world.provider.settle();
        point.wants("after it ran again", judge::nothing_is_lost(world, reader, torn));
        point.wants("after it ran again", world.nothing_vanished());
        let late = matches!(fault, Fault::Orphan | Fault::OrphanCrash) && object.starts_with("keys/");
        point.wants("after it ran again, goal", reached(world, *op, torn, late));

        world.lose_cache(*machine);
        world.pass(DAY);
        point.wants("a backup without a cache", world.attempt(*machine, Op::Backup, None).result);
        point.wants("at the end", judge::nothing_is_lost(world, reader, torn));
        point.wants("at the end", world.nothing_vanished());
        point.wants("at the end, check", judge::check(world, torn));
        if !(number + fault_number).is_multiple_of(LEAKS) {
            return;
        }
        // Nothing leaks for ever: prunes find all that is nobody's.
        if let Some(torn) = torn.filter(|torn| judge::is_torn(world, torn)) {
            world.provider.remove(torn);
        }
        point.wants("a prune", world.tidy(reader));
        point.wants("after prunes", judge::nothing_is_lost(world, reader, None));
        point.wants("after prunes, check", judge::check(world, None));
        if *op != Op::RepairSnapshots {
            point.wants("after prunes", judge::nothing_is_too_much(world));
        }
    }
}

/// Some operations say so when there is nothing left to do.
fn is_done_already(op: Op, error: &str) -> bool {
    match op {
        Op::Init => error.contains("there is a repository"),
        Op::Forget => error.contains("no snapshot"),
        Op::AddKey | Op::AddWriter => error.contains("has this passphrase already"),
        Op::ChangeKey => error.contains("wrong passphrase"),
        _ => false,
    }
}

/// What an operation is for has come about.
fn reached(world: &World, op: Op, torn: Option<&str>, late: bool) -> Result<(), String> {
    let opens = |text| judge::newcomer(world, text).is_ok();
    let there = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_string()) };
    match op {
        Op::AddKey => there(opens("first") && opens("second"), "both passphrases open"),
        Op::ChangeKey | Op::RemoveKey => there(!opens("first") && opens("second"), "only the new one opens"),
        Op::Forget => {
            let target = world.target.unwrap().to_string();
            there(!world.provider.names("safety").iter().any(|name| name.ends_with(&target)), "it is gone")
        }
        Op::Init | Op::Backup | Op::Safety | Op::Prune => Ok(()),
        Op::Accept => judge::is_accepted(world, world.target.unwrap()),
        Op::Policy => judge::policy_holds(world),
        Op::Rotate => {
            let keys = judge::owner_keys(world)?;
            // One of an upload that nobody waited for may come later, and is of an older generation then.
            there(opens("first") && (keys == 1 || late && keys == 2), &format!("one key is left, of {keys}"))
        }
        Op::RepairIndex => judge::check(world, torn),
        Op::RepairPacks => judge::all_are_condemned(world),
        Op::RepairSnapshots | Op::ReplaceSnapshots => {
            judge::all_are_repaired(world, op == Op::RepairSnapshots)
        }
        Op::AddWriter => there(opens("first") && opens("writer"), "both passphrases open"),
    }
}

/// A world with a past.
pub(super) fn world(seed: u64, steps: usize) -> World {
    seeded::begin(seed);
    let mut numbers = Numbers::new(seed);
    let mut world = World::new(2);
    world.run(0, Op::Init);
    for _ in 0..steps {
        let machine = numbers.below(2);
        world.change(machine, &mut numbers);
        world.pass(3_600);
        if numbers.chance(20) {
            world.lose_cache(machine);
        }
        world.run(machine, if numbers.chance(15) { Op::Safety } else { Op::Backup });
    }
    world
}
