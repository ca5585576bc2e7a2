//! What is only in condemned packs.

use super::*;

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
    assert_eq!((outcome.summary.repack.packs, outcome.summary.delete.packs), (1, 0));
    assert_eq!(outcome.done.unwrap().deleted.packs, 0, "another prune may count on the other place");
    world.is_whole();
    world.prune_all();
    assert_eq!(world.names(Folder::Packs).len(), 1);
    world.is_whole();
}
