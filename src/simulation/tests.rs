//! What is simulated, and how much of it.

use std::io::Write as _;

use super::Numbers;
use super::damage;
use super::faults::{Scenario, world};
use super::histories::{Counts, History, outline};
use super::judge;
#[cfg(target_os = "linux")]
use super::power::Watched;
use super::world::{DAY, Op, Tally, Text, World};
use crate::format::sealed_v1::HEADER;
use crate::model::BlobKind;
use crate::repo::pack_name;

/// How much longer than usual: `EXUVIA_SIM_FACTOR`.
pub(super) fn factor() -> u64 {
    std::env::var("EXUVIA_SIM_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// Says how much was tried, past the test harness, which shows nothing of what passes.
pub(super) fn report(what: &str, tried: usize, least: usize) {
    let least = least * usize::try_from(factor()).unwrap();
    writeln!(std::io::stderr(), "simulation: {tried} {what}").unwrap();
    assert!(tried >= least, "{tried} {what}, where there were at least {least}");
}

/// Sweeps one scenario for each seed. Returns what the operation itself did, without faults.
fn sweep(name: &str, seeds: u64, least: usize, make: impl Fn(u64) -> (World, usize, Op)) -> Tally {
    let (mut points, mut all) = (0, Tally::default());
    for seed in 0..seeds * factor() {
        let (world, machine, op) = make(seed);
        let scenario = Scenario { name: format!("{name}, seed {seed}"), world, machine, op };
        let (tried, tally) = scenario.sweep();
        points += tried;
        all.condemned += tally.condemned;
        all.copied += tally.copied;
        all.deleted += tally.deleted;
    }
    report(&format!("fault points in {name}"), points, least);
    all
}

#[test]
fn faults_in_an_init() {
    sweep("an init", 3, 150, |_| (World::new(1), 0, Op::Init));
}

#[test]
fn faults_in_a_first_backup() {
    sweep("a first backup", 4, 360, |seed| {
        let mut world = world(seed, 0);
        let mut numbers = Numbers::new(seed);
        (0..4).for_each(|_| world.change(0, &mut numbers));
        (world, 0, Op::Backup)
    });
}

#[test]
fn faults_in_a_backup_of_a_change() {
    sweep("a backup of a change", 13, 900, |seed| {
        let mut world = world(seed, 4);
        let machine = usize::try_from(seed % 2).unwrap();
        world.change(machine, &mut Numbers::new(seed + 1_000));
        (world, machine, Op::Backup)
    });
}

#[test]
fn faults_in_a_backup_without_a_change() {
    sweep("a backup without a change", 3, 75, |seed| {
        let mut world = world(seed, 3);
        world.run(0, Op::Backup);
        (world, 0, Op::Backup)
    });
}

#[test]
fn faults_in_a_rollbacks_safety_snapshot() {
    sweep("a safety snapshot", 5, 330, |seed| {
        let mut world = world(seed, 3);
        world.change(0, &mut Numbers::new(seed + 1_000));
        (world, 0, Op::Safety)
    });
}

#[test]
fn faults_while_index_objects_are_merged() {
    sweep("a merge of index objects", 1, 300, |seed| {
        let mut world = world(seed, 1);
        while world.provider.names("index").len() < 31 {
            let text = world.fresh(100);
            world.write(0, "a.md", text);
            world.pass(600);
            world.run(0, Op::Backup);
        }
        let text = world.fresh(100);
        world.write(0, "a.md", text);
        (world, 0, Op::Backup)
    });
}

#[test]
fn faults_in_removing_a_safety_snapshot() {
    sweep("a forget", 4, 190, |seed| {
        let mut world = world(seed, 3);
        world.change(0, &mut Numbers::new(seed + 1_000));
        world.target = world.run(0, Op::Safety);
        (world, 0, Op::Forget)
    });
}

#[test]
fn faults_in_an_acceptance() {
    sweep("an acceptance", 3, 100, |seed| {
        let mut world = world(seed, 2);
        for n in 0..8 {
            world.write(0, &format!("many/{n}"), Text::new(n, 20_000));
        }
        world.run(0, Op::Backup);
        (0..8).for_each(|n| world.remove(0, &format!("many/{n}")));
        world.pass(60);
        world.target = world.run(0, Op::Backup);
        (world, 0, Op::Accept)
    });
}

#[test]
fn faults_in_changes_of_keys() {
    for (name, op) in
        [("a key added", Op::AddKey), ("a key changed", Op::ChangeKey), ("a key removed", Op::RemoveKey)]
    {
        sweep(name, 3, 95, |seed| {
            let mut world = world(seed, 2);
            if op == Op::RemoveKey {
                world.run(0, Op::AddKey);
                world.passphrase = "second";
            }
            (world, 0, op)
        });
    }
}

#[test]
fn faults_in_a_policy() {
    sweep("a policy", 8, 280, |seed| (world(seed, 7), 1, Op::Policy));
}

/// A world with packs that only forgotten snapshots needed, and some that are partly needed.
fn to_prune(seed: u64) -> World {
    let mut world = world(seed, 5);
    let mut numbers = Numbers::new(seed + 2_000);
    while world.promised.len() > 2 {
        world.target = Some(*numbers.pick(&world.promised));
        world.run(0, Op::Forget);
    }
    world
}

#[test]
fn faults_in_a_prune_that_condemns() {
    let done = sweep("a prune that condemns", 7, 750, |seed| (to_prune(seed), 0, Op::Prune));
    assert!(done.condemned >= 7 && done.copied >= 3, "{done:?}");
}

#[test]
fn faults_in_a_prune_that_deletes() {
    let done = sweep("a prune that deletes", 6, 700, |seed| {
        let mut world = to_prune(seed);
        world.run(0, Op::Prune);
        world.change(1, &mut Numbers::new(seed));
        world.run(1, Op::Backup);
        world.pass(3 * DAY);
        (world, 0, Op::Prune)
    });
    assert!(done.deleted >= 6, "{done:?}");
}

#[test]
fn faults_in_a_prune_of_an_older_one() {
    sweep("a later prune", 4, 250, |seed| {
        let mut world = to_prune(seed);
        for _ in 0..3 {
            world.run(1, Op::Prune);
            world.change(0, &mut Numbers::new(seed));
            world.pass(3 * DAY);
            world.run(0, Op::Backup);
        }
        (world, 0, Op::Prune)
    });
}

#[test]
fn damage_of_every_kind() {
    let tried = (0..factor()).map(damage::matrix).sum();
    report("kinds of damage", tried, 200);
}

/// Lives `count` histories.
fn histories(what: &str, first: u64, count: usize, machines: usize, faults: bool) {
    let count = count * usize::try_from(factor()).unwrap();
    let mut all = Counts::default();
    for seed in (first..).take(count) {
        all.add(&History::new(seed, machines, faults).run().1);
    }
    report(&format!("histories {what}: {all:?}"), count, 1);
    all.judge(count, faults);
}

#[test]
fn histories_of_two_machines() {
    histories("of two machines", 0, 600, 2, false);
}

#[test]
fn histories_of_three_machines() {
    histories("of three machines", 1_000_000, 400, 3, false);
}

#[test]
fn histories_of_two_machines_with_faults() {
    histories("of two machines with faults", 2_000_000, 600, 2, true);
}

#[test]
fn histories_of_three_machines_with_faults() {
    histories("of three machines with faults", 3_000_000, 400, 3, true);
}

#[test]
fn faults_in_adding_a_writer_key() {
    sweep("a writer key added", 2, 65, |seed| (world(seed, 2), 0, Op::AddWriter));
}

#[test]
fn faults_in_a_writers_backup() {
    sweep("a backup by a machine that can only write", 4, 220, |seed| {
        let mut world = world(seed, 3);
        world.run(0, Op::AddWriter);
        world.machines[1].writes_only = true;
        world.lose_cache(1);
        world.run(1, Op::Backup);
        world.change(1, &mut Numbers::new(seed + 1_000));
        (world, 1, Op::Backup)
    });
}

#[test]
fn histories_with_a_machine_that_can_only_write() {
    let count = 300 * usize::try_from(factor()).unwrap();
    let mut all = Counts::default();
    for seed in (4_000_000..).take(count) {
        all.add(&History::new(seed, 3, seed % 2 == 0).run_with_writer().1);
    }
    report(&format!("histories with a machine that can only write: {all:?}"), count, 300);
    all.judge(count, true);
}

#[test]
fn a_seed_always_makes_the_same_history() {
    for seed in 0..20 {
        let (once, again) = (History::new(seed, 3, true).run(), History::new(seed, 3, true).run());
        assert_eq!(outline(&once.0), outline(&again.0), "seed {seed}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn power_cuts() {
    let mut cuts = 0;
    for seed in 0..2 * factor() {
        let mut numbers = Numbers::new(seed);
        let mut watched = Watched::new(seed);
        watched.run(Op::Init);
        for n in 0..4 {
            watched.world.change(0, &mut numbers);
            watched.world.pass(60);
            let made = watched.run(if n == 1 { Op::Safety } else { Op::Backup });
            if n == 1 {
                watched.world.target = made;
            }
        }
        watched.run(Op::Backup);
        watched.run(Op::Forget);
        cuts += watched.cut_everywhere(0);
    }
    report("power cuts", cuts, 500);
}

#[cfg(target_os = "linux")]
#[test]
fn power_cuts_while_things_are_removed() {
    let mut cuts = 0;
    for seed in 0..factor() {
        let mut numbers = Numbers::new(seed);
        let mut watched = Watched::new(seed);
        watched.run(Op::Init);
        for _ in 0..4 {
            watched.world.change(0, &mut numbers);
            watched.world.pass(60);
            watched.run(Op::Backup);
        }
        watched.run(Op::AddWriter);
        watched.run(Op::Policy);
        watched.run(Op::Prune);
        watched.world.pass(3 * DAY);
        watched.world.change(0, &mut numbers);
        watched.run(Op::Backup);
        let done = watched.world.tallied();
        watched.run(Op::Prune);
        assert!(done.condemned > 0 && watched.world.tallied().deleted > 0, "{done:?}");
        watched.run(Op::ChangeKey);
        cuts += watched.cut_everywhere(5);
    }
    report("power cuts while things are removed", cuts, 300);
}

#[cfg(target_os = "linux")]
#[test]
fn power_cuts_while_index_objects_are_merged() {
    let mut watched = Watched::new(1);
    watched.run(Op::Init);
    for _ in 0..32 {
        let text = watched.world.fresh(100);
        watched.world.write(0, "a.md", text);
        watched.world.pass(60);
        watched.run(Op::Backup);
    }
    report("power cuts in a merge", watched.cut_everywhere(32), 100);
}

#[test]
fn faults_in_a_rotation_of_the_master_key() {
    sweep("a rotation of the master key", 4, 120, |seed| {
        let mut world = world(seed, 3);
        if seed % 2 == 1 {
            world.run(0, Op::AddKey);
        }
        (world, 0, Op::Rotate)
    });
}

#[test]
fn faults_in_a_repair_of_the_index() {
    sweep("a repair of the index", 4, 280, |seed| {
        let world = world(seed, 5);
        let objects = world.provider.names("index");
        for (n, name) in objects.iter().enumerate() {
            // Missing, damaged, and of every second one neither.
            match (n as u64 + seed) % 4 {
                0 => drop(world.provider.remove(name)),
                1 => damage::flip(&world, name, 100),
                _ => {}
            }
        }
        (world, 0, Op::RepairIndex)
    });
}

#[test]
fn faults_in_a_repair_of_packs() {
    sweep("a repair of packs", 2, 250, |seed| {
        let mut world = world(seed, 5);
        let packs = world.provider.names("packs");
        for pack in packs.into_iter().skip(usize::try_from(seed % 2).unwrap()).step_by(2) {
            // Its table of contents is gone: what it holds can be had by the index.
            let bytes = world.provider.remove(&pack).unwrap();
            world.provider.plant(&pack, &bytes[..bytes.len() - 9]);
            world.hurt.insert(pack);
        }
        (world, 0, Op::RepairPacks)
    });
}

/// A world in which the files in one pack are lost, but no manifest is, and what can be had of it was saved.
fn with_losses(seed: u64) -> World {
    let mut world = world(seed, 5);
    for pack in judge::packs(&world) {
        let Some(at) = pack.frames.iter().position(|frame| frame.kind == BlobKind::Data) else { continue };
        let before: u64 = pack.frames[..at].iter().map(|frame| u64::from(frame.stored)).sum();
        let name = pack_name(&pack.id);
        damage::flip(&world, &name, HEADER as u64 + before);
        let broken = judge::unreadable(&world).unwrap();
        if !broken.is_empty() {
            judge::check_from(&world, 0);
            world.promised.retain(|id| !broken.values().any(|broken| broken == id));
            world.hurt.extend(broken.into_keys().chain([name]));
            world.run(0, Op::RepairPacks);
            return world;
        }
    }
    panic!("no snapshot needs any file, with seed {seed}");
}

#[test]
fn faults_in_a_repair_of_snapshots() {
    sweep("a repair of snapshots", 2, 330, |seed| (with_losses(seed), 0, Op::RepairSnapshots));
}

#[test]
fn faults_in_a_repair_that_replaces_snapshots() {
    sweep("a repair that replaces snapshots", 2, 550, |seed| (with_losses(seed), 0, Op::ReplaceSnapshots));
}
