//! Every kind of object, hurt in every way: it is told, nobody reads wrong bytes, and what can be had again is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Numbers;
use super::judge;
use super::world::{DAY, Op, Saved, Text, World, silent};
use crate::clock::Clock;
use crate::crypto::{seeded, sha256};
use crate::ops::check::{self, ReadData};
use crate::ops::history;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Delete,
    /// To so many eighths of its length.
    Truncate(usize),
    /// One bit, so many eighths into the object.
    Flip(usize),
    /// Two objects of a kind change places.
    Swap,
    /// Under its name stand the bytes of another one of its kind, which keeps its own.
    Replay,
    /// It is there twice, the second time under a name that no other object has.
    Duplicate,
    /// It is there under another name only.
    Rename,
}

const ACTIONS: [Action; 11] = [
    Action::Delete,
    Action::Truncate(0),
    Action::Truncate(4),
    Action::Truncate(7),
    Action::Flip(0),
    Action::Flip(3),
    Action::Flip(7),
    Action::Swap,
    Action::Replay,
    Action::Duplicate,
    Action::Rename,
];

const KINDS: [&str; 9] =
    ["exuvia.json", "keys/", "packs/", "index/", "snapshots/", "safety/", "gc/", "accepted/", "removed/"];

/// One whose absence shows only to who remembers it: nothing in the repository names it.
fn may_be_missed_by_nobody(kind: &str) -> bool {
    ["keys/", "snapshots/", "safety/", "gc/", "accepted/", "removed/"].contains(&kind)
}

/// A name of the same form that no object has.
fn other_name(name: &str) -> String {
    let other = sha256(name.as_bytes());
    let hex = data_encoding::HEXLOWER.encode(&other);
    match name.rsplit_once('/') {
        None => format!("{name}.copy"),
        Some((folder, _)) if folder.starts_with("packs/") => format!("packs/{}/{hex}", &hex[..2]),
        Some((folder, base)) => match base.rsplit_once('-') {
            Some((time, _)) => format!("{folder}/{time}-{hex}"),
            None => format!("{folder}/{hex}"),
        },
    }
}

/// A repository that has one of everything.
pub(super) fn rich(seed: u64) -> World {
    seeded::begin(seed);
    let mut numbers = Numbers::new(seed);
    let mut world = World::new(2);
    world.run(0, Op::Init);
    world.run(0, Op::AddKey);
    for n in 0..8 {
        world.write(0, &format!("many/{n}"), Text::new(n, 20_000));
    }
    for n in 0..3 {
        world.change(n % 2, &mut numbers);
        world.pass(3_600);
        world.run(n % 2, Op::Backup);
    }
    world.run(0, Op::Backup);
    (0..8).for_each(|n| world.remove(0, &format!("many/{n}")));
    world.pass(60);
    world.target = world.run(0, Op::Backup);
    world.run(0, Op::Accept);
    // Some safety snapshots are forgotten, so that prunes have something to condemn. Of each kind there are two
    // objects at least: what else could be in the place of one?
    for n in 0..4 {
        let text = world.fresh(30_000);
        world.write(1, "a.md", text);
        world.pass(60);
        let safety = world.run(1, Op::Safety);
        if n % 2 == 1 {
            world.target = safety;
            world.run(1, Op::Forget);
            world.pass(DAY);
            world.run(1, Op::Prune);
        }
    }
    for n in 0..8 {
        world.write(0, &format!("more/{n}"), Text::new(50 + n, 21_000));
    }
    world.run(0, Op::Backup);
    (0..8).for_each(|n| world.remove(0, &format!("more/{n}")));
    world.pass(60);
    world.target = world.run(0, Op::Backup);
    world.run(0, Op::Accept);
    let text = world.fresh(10_000);
    world.write(1, "a.md", text);
    world.run(1, Op::Backup);
    world
}

/// One bit of an object is another.
pub(super) fn flip(world: &World, name: &str, at: u64) {
    let mut bytes = world.provider.stored().get(name).unwrap().to_vec();
    bytes[usize::try_from(at).unwrap()] ^= 1;
    world.provider.plant(name, &bytes);
}

/// Hurts; returns the names of the objects that are not as they were. `None` when there is nothing to do it with.
fn hurt(world: &World, name: &str, kind: &str, action: Action) -> Option<Vec<String>> {
    let provider = &world.provider;
    let bytes = provider.stored().get(name).unwrap();
    let other = || {
        let mut all = provider.all().into_iter().filter(|other| other.starts_with(kind) && other != name);
        all.next()
    };
    let flipped = |at: usize| {
        let mut bytes = bytes.to_vec();
        let at = (bytes.len() * at / 8).min(bytes.len() - 1);
        bytes[at] ^= 0x10;
        bytes
    };
    let mut touched = vec![name.to_string()];
    match action {
        Action::Delete => drop(provider.remove(name)),
        Action::Truncate(eighths) => provider.plant(name, &bytes[..bytes.len() * eighths / 8]),
        Action::Flip(eighths) => provider.plant(name, &flipped(eighths)),
        Action::Swap | Action::Replay => {
            let other = other()?;
            let theirs = provider.stored().get(&other).unwrap();
            provider.plant(name, &theirs);
            if action == Action::Swap {
                provider.plant(&other, &bytes);
                touched.push(other);
            }
        }
        Action::Duplicate => {
            touched = vec![other_name(name)];
            provider.plant(&touched[0], &bytes);
        }
        Action::Rename => {
            touched.push(other_name(name));
            provider.remove(name);
            provider.plant(&touched[1], &bytes);
        }
    }
    Some(touched)
}

/// What a check says: the objects that it names, in problems and in notes. By who has never been here, or by
/// one of the machines.
fn told(world: &World, machine: Option<usize>) -> Result<BTreeSet<String>, String> {
    let repository = match machine {
        None => judge::open(world).map_err(|e| e.to_string())?,
        Some(machine) => judge::open_with_cache(world, machine).map_err(|e| e.to_string())?.without_copies(),
    };
    let clock: Arc<dyn Clock> = Arc::clone(&world.machines[0].clock) as _;
    let outcome = check::run(&repository, ReadData::All, 1, &silent(), &clock).map_err(|e| e.to_string())?;
    let words = outcome.problems.iter().map(|problem| format!("{} {}", problem.object, problem.message));
    let missed = match machine {
        None => Vec::new(),
        Some(_) => history::audit(&repository, silent().as_ref()).map_err(|e| e.to_string())?.vanished,
    };
    let missed = missed.iter().map(|one| format!("{} is gone", one.id));
    Ok(words.chain(outcome.notes.iter().cloned()).chain(missed).collect())
}

/// Everything done to everything; returns how much that was.
pub(super) fn matrix(seed: u64) -> usize {
    let mut world = rich(seed);
    let before = told(&world, None).unwrap();
    let remembered = told(&world, Some(1)).unwrap();
    let saved = world.save();
    let mut done = 0;
    for kind in KINDS {
        world.load(&saved);
        let names: Vec<_> = world.provider.all().into_iter().filter(|name| name.starts_with(kind)).collect();
        assert!(!names.is_empty(), "no {kind}");
        for name in &names {
            for action in ACTIONS {
                seeded::begin(seed + done as u64);
                let hurt = one(&mut world, &saved, [&before, &remembered], name, kind, action);
                // There is one marker, and removal records are put together.
                let alone = ["exuvia.json", "removed/"].contains(&kind);
                assert!(hurt || alone, "nothing to {action:?} {name} with");
                done += usize::from(hurt);
            }
        }
    }
    seeded::end();
    done
}

/// Prunes of a damaged repository refuse, or what could be read before can be read afterwards.
fn nothing_more_is_lost(world: &mut World, what: &str) {
    let Ok(before) = judge::unreadable(world) else { return };
    drop(world.tidy(0));
    let after = judge::unreadable(world).unwrap_or_else(|e| panic!("{what}: after prunes: {e}"));
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(new.is_empty(), "{what}: prunes made unreadable {new:?}");
}

fn one(
    world: &mut World,
    saved: &Saved,
    [before, remembered]: [&BTreeSet<String>; 2],
    name: &str,
    kind: &str,
    action: Action,
) -> bool {
    world.load(saved);
    let Some(touched) = hurt(world, name, kind, action) else { return false };
    let what = format!("{action:?} of {name}");
    let memory = told(world, Some(1));
    world.load(saved);
    hurt(world, name, kind, action);
    let told = told(world, None);
    // One that nobody needs tells by a note. Whoever cannot open it at all is told so.
    match &told {
        // Who wants in with one passphrase does not depend on the key of another.
        Err(_) => {
            let locked_out = kind == "exuvia.json" || kind == "keys/" && touched.len() > 1;
            assert!(locked_out, "{what}: {told:?}");
        }
        Ok(told) => {
            let new: Vec<_> = told.difference(before).collect();
            let named = touched.iter().any(|name| new.iter().any(|line| line.contains(name.as_str())));
            let silent = action == Action::Delete && may_be_missed_by_nobody(kind)
                // What it says of its age is for people, and so are spaces.
                || kind == "exuvia.json" && matches!(action, Action::Duplicate | Action::Flip(_));
            assert!(named || silent || kind == "index/" && !new.is_empty(), "{what}: a check says {new:?}");
        }
    }
    if action == Action::Delete && ["snapshots/", "safety/"].contains(&kind) {
        let new: Vec<_> = memory.as_ref().unwrap().difference(remembered).collect();
        let id = &name[name.len() - 64..];
        let named = new.iter().any(|line| line.contains(id) || line.contains(&id[..8]));
        assert!(named, "{what}: who has seen it says {new:?}");
    }
    // Whatever is read is right.
    if let Ok(repository) = judge::open(world) {
        judge::nothing_is_wrong(world, &repository.without_copies())
            .unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    nothing_more_is_lost(world, &what);
    world.load(saved);
    hurt(world, name, kind, action);
    // What the source still has is stored again by who knows of the damage.
    if kind == "packs/" {
        for machine in 0..2 {
            judge::check_from(world, machine);
            world.pass(DAY);
            let made = world.attempt(machine, Op::Backup, None).result;
            let id = made.unwrap_or_else(|e| panic!("{what}: {e}")).unwrap();
            judge::reads(world, id).unwrap_or_else(|e| panic!("{what}: the next backup: {e}"));
        }
    }
    true
}
