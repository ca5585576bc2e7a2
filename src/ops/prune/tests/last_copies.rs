//! What is only in condemned packs, and index objects of which nothing is left but their successors.

use super::*;
use crate::ops::repair::index as repair_index;

const LEN: usize = 200_000;

/// Machines `a` and `b` store the same at the same time, each in a pack of its own. Both packs are condemned, and
/// then a snapshot turns up that was published by a writer who died before he could look.
fn pardoned_twice() -> Arc<World> {
    let world = World::new();
    ["a", "b"].iter().for_each(|machine| world.tree(machine, &[("x", noise(1, LEN))]));
    let again = Arc::clone(&world);
    world.remote.set(move |verb, name| {
        if verb == Verb::Put && name.starts_with("index/") {
            again.backup("b");
        }
        Ok(())
    });
    let first = world.backup("a");
    world.remote.clear();
    assert_eq!(world.names(Folder::Packs).len(), 2);
    let expected = world.expected.lock().unwrap().clone();
    let name = world.names(Folder::Snapshots).into_iter().find(|name| name.ends_with(&first.to_string()));
    let name = name.unwrap();
    let record = world.remote.memory.get(&name, 1 << 30).unwrap();
    expected.keys().for_each(|id| world.forget(*id));
    world.prune();
    world.clock.pass(3 * DAY);
    world.remote.memory.put(&name, &record).unwrap();
    world.expected.lock().unwrap().insert(first, expected[&first].clone());
    world
}

#[test]
fn of_what_only_condemned_packs_have_no_place_goes_before_it_is_copied() {
    let world = pardoned_twice();
    let outcome = world.prune();
    assert_eq!((outcome.summary.repack.packs, outcome.summary.delete.packs), (2, 0));
    assert_eq!(outcome.done.unwrap().deleted.packs, 0, "another prune may count on the other place");
    world.is_whole();
    world.prune_all();
    assert_eq!(world.names(Folder::Packs).len(), 1);
    world.is_whole();
}

fn repair(world: &World) {
    let (repository, ..) = world.open("repairer");
    let plan = repair_index::plan(&repository, false, &Silent).unwrap();
    let outcome = repair_index::run(&plan, 1, &silent(), &world.clock()).unwrap();
    assert_eq!((outcome.damaged.len(), outcome.written), (1, 1));
}

#[test]
fn an_index_object_that_another_one_replaces_may_be_unreadable() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let damaged = world.names(Folder::Index).remove(0);
    world.remote.memory.tamper(&damaged, b"junk".to_vec());
    let error = world.try_prune("pruner", |_| {}).unwrap_err();
    assert!(error.to_string().contains("the index cannot be read"), "{error}");
    repair(&world);
    let outcome = world.try_prune("pruner", |_| {}).unwrap();
    assert_eq!((outcome.summary.rewrite, outcome.done.unwrap().rewritten), (1, 1));
    assert!(!world.names(Folder::Index).contains(&damaged));
    assert_eq!(world.prune().summary.rewrite, 0);
    world.is_whole();
}

#[test]
fn a_merge_of_its_successor_still_replaces_it() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let damaged = world.names(Folder::Index).remove(0);
    world.remote.memory.tamper(&damaged, b"junk".to_vec());
    repair(&world);
    // Whoever wrote it has a copy.
    for n in 0..40 {
        world.snapshot("b", &[("x", noise(1, LEN)), ("y", noise(100 + n, 100))]);
    }
    let left = world.names(Folder::Index);
    assert!(left.len() < 30 && left.contains(&damaged), "{left:?}");
    world.is_whole();
}
