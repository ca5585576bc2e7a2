//! Each phase for itself.

use super::*;
use crate::model::BlobKind;

const LEN: usize = 300_000;

#[test]
fn with_nothing_to_do_nothing_is_written() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let before = world.remote.memory.list("packs").unwrap();
    let outcome = world.prune();
    let done = outcome.done.unwrap();
    assert_eq!(done, super::super::Done::default());
    let requests: u64 = outcome.requests.iter().map(|(_, r)| r.put + r.delete).sum();
    assert_eq!(requests, 0);
    assert_eq!(world.remote.memory.list("packs").unwrap(), before);
    assert_eq!(world.names(Folder::Gc), [""; 0]);
    world.is_whole();
}

#[test]
fn an_empty_repository_is_pruned() {
    let world = World::new();
    assert_eq!(world.prune().summary.packs, Amount::default());
}

#[test]
fn what_no_snapshot_needs_is_condemned_then_removed() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let second = world.snapshot("a", &[("y", noise(2, LEN))]);
    let first = world.expected.lock().unwrap().keys().copied().find(|id| *id != second).unwrap();
    world.forget(first);

    let dry = world.try_prune("pruner", |r| r.dry_run = true).unwrap();
    assert_eq!((dry.summary.condemn.packs, dry.done), (1, None));
    assert_eq!(world.names(Folder::Gc), [""; 0]);

    let done = world.prune().done.unwrap();
    assert_eq!((done.condemned.packs, done.deleted.packs), (1, 0));
    assert_eq!((world.names(Folder::Packs).len(), world.names(Folder::Gc).len()), (2, 1));
    world.is_whole();

    // Too early.
    world.clock.pass(2 * DAY - 60);
    let outcome = world.prune();
    assert_eq!(outcome.summary.waiting.packs, 1);
    assert!(outcome.summary.until.unwrap() > world.clock.now());
    assert_eq!(world.names(Folder::Packs).len(), 2);

    world.clock.pass(61);
    let done = world.prune().done.unwrap();
    assert_eq!((done.condemned.packs, done.deleted.packs, done.rewritten), (0, 1, 1));
    // The newest record stays, and with it the name of what is gone.
    assert_eq!((world.names(Folder::Packs).len(), world.names(Folder::Gc).len()), (1, 1));
    let (repository, ..) = world.open("a");
    assert_eq!(world.names(Folder::Index).len(), 1, "{}", world.describe(&repository));
    world.is_whole();
    assert_eq!(world.prune().done.unwrap(), super::super::Done::default());
}

#[test]
fn packs_needed_in_part_are_copied_before_they_go() {
    let world = World::new();
    let (keep, waste) = (noise(1, LEN), noise(2, 2 * LEN));
    let first = world.snapshot("a", &[("keep", keep.clone()), ("waste", waste)]);
    world.snapshot("a", &[("keep", keep)]);
    world.forget(first);
    let before = world.pack_bytes();
    let outcome = world.prune();
    let done = outcome.done.unwrap();
    assert_eq!((done.repacked.packs, done.new_packs.packs), (1, 1));
    assert!(outcome.summary.copy < 400_000, "{:?}", outcome.summary);
    world.is_whole();
    world.clock.pass(3 * DAY);
    assert_eq!(world.prune().done.unwrap().deleted.packs, 1);
    world.is_whole();
    assert!(world.pack_bytes() < before / 2, "{} of {before}", world.pack_bytes());
    assert_eq!(world.prune().done.unwrap(), super::super::Done::default());
}

#[test]
fn little_waste_is_left_and_limits_are_kept() {
    let world = World::new();
    let (keep, waste) = (noise(1, LEN), noise(2, LEN / 2));
    let first = world.snapshot("a", &[("keep", keep.clone()), ("waste", waste)]);
    world.snapshot("a", &[("keep", keep)]);
    world.forget(first);
    let planned = |change: fn(&mut Request)| {
        let outcome = world.try_prune("pruner", |r| {
            r.dry_run = true;
            change(r);
        });
        outcome.unwrap().summary.repack.packs
    };
    assert_eq!(planned(|_| {}), 1);
    assert_eq!(planned(|r| r.max_unused = 90.0), 0);
    assert_eq!(planned(|r| r.max_repack = Some(1_000)), 0);
    assert_eq!(planned(|r| r.max_repack = Some(1 << 20)), 1);
}

#[test]
fn many_small_packs_and_index_objects_become_few() {
    let world = World::new();
    let mut files = Vec::new();
    let names: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
    for (n, name) in (0..40u64).zip(&names) {
        files.push((name.as_str(), noise(n, 5_000)));
        world.snapshot("a", &files);
    }
    let many = world.names(Folder::Packs).len();
    assert!(many >= 40, "{many}");
    let done = world.prune().done.unwrap();
    assert!(done.repacked.packs >= 32 && done.new_packs.packs == 1, "{done:?}");
    world.is_whole();
    world.clock.pass(3 * DAY);
    world.prune();
    assert!(world.names(Folder::Packs).len() < 10, "{:?}", world.names(Folder::Packs).len());
    assert!(world.names(Folder::Index).len() < 8, "{:?}", world.names(Folder::Index).len());
    world.is_whole();
}

#[test]
fn packs_in_no_index_are_left_alone_until_they_are_old() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    // A backup that got no further than its packs.
    world.tree("b", &[("y", noise(2, LEN))]);
    world.remote.set(|verb, name| match (verb, name) {
        (Verb::Put, name) if name.starts_with("index/") => Err(failure(verb, name, Fault::Other)),
        _ => Ok(()),
    });
    world.try_backup("b").unwrap_err();
    world.remote.clear();
    assert_eq!(world.names(Folder::Packs).len(), 2);
    let outcome = world.prune();
    assert_eq!((outcome.summary.fresh.packs, outcome.summary.condemn.packs), (1, 0));
    // Whoever looks for the first time knows nothing of its age.
    world.clock.pass(3 * DAY);
    assert_eq!(world.try_prune("another", |_| {}).unwrap().summary.fresh.packs, 1);
    assert_eq!(world.prune().done.unwrap().condemned.packs, 1);
    world.clock.pass(3 * DAY);
    assert_eq!(world.prune().done.unwrap().deleted.packs, 1);
    assert_eq!(world.names(Folder::Packs).len(), 1);
    world.is_whole();
    // It comes back, and does not count on what is gone.
    world.backup("b");
    world.is_whole();
}

#[test]
fn damage_is_no_waste() {
    for what in ["packs", "index", "snapshots"] {
        let world = World::new();
        let first = world.snapshot("a", &[("x", noise(1, LEN))]);
        world.snapshot("a", &[("y", noise(2, LEN))]);
        world.forget(first);
        for listed in world.remote.memory.list(what).unwrap() {
            world.remote.memory.tamper(&listed.name, b"damaged".to_vec());
        }
        std::fs::remove_dir_all(world.dir.path().join("cache of a")).unwrap();
        let before: Vec<_> = ["packs", "index", "gc"].map(|f| world.remote.memory.list(f).unwrap()).concat();
        match world.try_prune("pruner", |_| {}) {
            Err(e @ Error::Damaged { .. }) => assert!(e.to_string().ends_with("nothing was removed")),
            other => panic!("{what}: {other:?}"),
        }
        let after: Vec<_> = ["packs", "index", "gc"].map(|f| world.remote.memory.list(f).unwrap()).concat();
        assert_eq!(before, after);
    }
}

#[test]
fn a_needed_pack_that_is_missing_stops_everything() {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN)), ("waste", noise(2, LEN))]);
    let content = world.names(Folder::Packs);
    world.snapshot("a", &[("x", noise(1, LEN)), ("y", noise(3, LEN))]);
    world.forget(first);
    // Content of the second snapshot is in it, and nothing of its manifest: all that is read is there.
    world.remote.memory.delete(&content[0]).unwrap();
    let folders = [Folder::Packs, Folder::Index, Folder::Gc];
    let before = folders.map(|folder| world.names(folder));
    match world.try_prune("pruner", |_| {}) {
        Err(Error::Damaged { what }) => assert!(what.contains("missing"), "{what}"),
        other => panic!("{:?}", other.map(|outcome| outcome.summary)),
    }
    assert_eq!(folders.map(|folder| world.names(folder)), before);
}

#[test]
fn a_missing_pack_that_nobody_needs_is_condemned() {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    let content = world.names(Folder::Packs);
    world.snapshot("a", &[("y", noise(2, LEN))]);
    world.forget(first);
    world.remote.memory.delete(&content[0]).unwrap();
    // So that nobody counts on it.
    assert_eq!(world.prune().summary.condemn.packs, 1);
}

#[test]
fn where_nothing_may_be_removed_nothing_is_changed() {
    let world = World::new();
    let (keep, waste) = (noise(1, LEN), noise(2, 2 * LEN));
    let first = world.snapshot("a", &[("keep", keep.clone()), ("waste", waste)]);
    world.snapshot("a", &[("keep", keep)]);
    world.forget(first);
    world.remote.set(|verb, name| match verb {
        Verb::Delete => Err(failure(verb, name, Fault::Permission)),
        _ => Ok(()),
    });
    for _ in 0..3 {
        let outcome = world.prune();
        assert_eq!((outcome.denied.as_deref(), &outcome.done), (Some("no"), &None));
        assert_eq!(outcome.summary.repack.packs, 1);
        assert_eq!((world.names(Folder::Packs).len(), world.names(Folder::Gc).len()), (2, 0));
        // What the try left is used by the next one.
        assert_eq!(world.names(Folder::Accepted).len(), 1);
    }
    world.remote.clear();
    world.prune();
    assert_eq!(world.names(Folder::Accepted).len(), 0);
    world.is_whole();
}

#[test]
fn a_clock_that_jumps_removes_nothing() {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    world.snapshot("a", &[("y", noise(2, LEN))]);
    world.forget(first);
    world.prune();
    // Ten years, in no time.
    world.clock.jump(10 * 365 * 86_400);
    assert_eq!(world.prune().summary.delete.packs, 0);
    // And back: the record is of now, and not long enough ago.
    world.clock.jump(-10 * 365 * 86_400);
    assert_eq!(world.prune().summary.delete.packs, 0);
    world.clock.pass(3 * DAY);
    assert_eq!(world.prune().summary.delete.packs, 1);
    world.is_whole();
}

#[test]
fn a_record_from_the_future_holds_nothing_up_for_ever() {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    world.snapshot("a", &[("y", noise(2, LEN))]);
    world.forget(first);
    // A machine whose clock is a hundred years ahead.
    world.clock.jump(100 * 365 * 86_400);
    world.try_prune("wrong", |_| {}).unwrap();
    world.clock.jump(-100 * 365 * 86_400);
    assert_eq!(world.prune().done.unwrap().condemned.packs, 1);
    world.clock.pass(DAY);
    assert_eq!(world.prune().summary.waiting.packs, 1);
    world.clock.pass(2 * DAY);
    assert_eq!(world.prune().done.unwrap().deleted.packs, 1);
    world.is_whole();
}

#[test]
fn records_do_not_pile_up_and_remember_what_is_gone() {
    let world = World::new();
    let mut gone = Vec::new();
    for n in 0..12 {
        let id = world.snapshot("a", &[("x", noise(n, 50_000))]);
        let packs = world.names(Folder::Packs);
        world.snapshot("a", &[("x", noise(n + 1, 50_000))]);
        world.forget(id);
        world.prune();
        world.clock.pass(3 * DAY);
        world.prune();
        gone.extend(packs.into_iter().filter(|name| !world.names(Folder::Packs).contains(name)));
    }
    assert!(gone.len() >= 12, "{}", gone.len());
    assert!(world.names(Folder::Gc).len() <= 2, "{:?}", world.names(Folder::Gc));
    let (repository, ..) = world.open("a");
    let named = repository.condemned(&repository.gc_records().unwrap()).unwrap();
    for name in gone {
        assert!(named.iter().any(|id| name.ends_with(&id.to_string())), "{name}");
    }
    world.is_whole();
}

#[test]
fn acceptances_of_snapshots_that_are_gone_go() {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, 1000))]);
    let second = world.snapshot("a", &[("y", noise(2, 1000))]);
    let (repository, ..) = world.open("a");
    repository.publish_acceptance(world.clock.now(), &[first]).unwrap();
    repository.publish_acceptance(world.clock.now(), &[first, second]).unwrap();
    assert_eq!(world.prune().done.unwrap().acceptances, 0);
    world.forget(first);
    world.prune();
    assert_eq!(world.names(Folder::Accepted).len(), 1);
    world.is_whole();
}

/// Writes an index object of one's own making, as the thief of a writer key can.
fn claim(world: &World, packs: &[crate::format::index_v1::PackInfo]) {
    let (repository, ..) = world.open("thief");
    repository.publish_index(packs).unwrap();
}

fn listed(world: &World) -> Vec<crate::format::index_v1::PackInfo> {
    let (repository, ..) = world.open("thief");
    let objects = repository.list(Folder::Index).unwrap();
    objects.iter().flat_map(|object| repository.read_index(object).unwrap().packs).collect()
}

#[test]
fn what_is_only_claimed_to_be_elsewhere_is_not_removed() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let before = listed(&world);
    world.tree("b", &[("y", noise(2, 2 * LEN))]);
    world.backup("b");
    let id = |pack: &&crate::format::index_v1::PackInfo| before.iter().all(|old| old.id != pack.id);
    let mut false_one = listed(&world).iter().find(id).unwrap().clone();
    // The same pack is said to hold what the first one holds: by an index object that comes alone.
    false_one.frames = before[0].frames.clone();
    let others: Vec<_> = world.names(Folder::Index);
    claim(&world, &[false_one]);
    match world.try_prune("pruner", |_| {}) {
        Err(Error::Damaged { what }) => assert!(what.contains("contradict"), "{what}"),
        other => panic!("{other:?}"),
    }
    assert!(others.iter().all(|name| world.names(Folder::Index).contains(name)));
}

#[test]
fn a_copy_is_read_before_it_is_the_only_one() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let real = listed(&world);
    // A pack of the thief's, of which he says that it holds the same.
    let bytes = noise(7, usize::try_from(real[0].size).unwrap());
    let id = ObjectId(crate::crypto::sha256(&bytes));
    world.remote.memory.put(&crate::repo::pack_name(&id), &bytes).unwrap();
    // Of the manifest he says nothing: what is read on the way there is not what is doubtful.
    let data = real[0].frames.iter().filter(|frame| frame.kind == BlobKind::Data).cloned().collect();
    claim(&world, &[crate::format::index_v1::PackInfo { id, frames: data, ..real[0].clone() }]);
    // And a record that condemns the one that does.
    let (repository, ..) = world.open("thief");
    let old = Timestamp::from_secs(world.clock.now().secs - 10 * 86_400);
    repository.condemn(old, vec![real[0].id]).unwrap();
    match world.try_prune("pruner", |_| {}) {
        Err(Error::Damaged { .. }) => {}
        other => panic!("{:?}", other.map(|o| o.done)),
    }
    assert!(world.names(Folder::Packs).contains(&crate::repo::pack_name(&real[0].id)));
    // The next one knows better than to count on it.
    world.clock.pass(3 * DAY);
    world.prune_all();
    world.is_whole();
}
