//! Each phase for itself.

use super::*;
use crate::model::BlobKind;
use crate::report::Phase;

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
fn packs_stay_condemned_for_two_days() {
    assert_eq!(super::super::GRACE.as_secs(), 172_800);
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
    // What is small depends on what new packs are to be like.
    let planned = |pack_size| {
        let outcome = world.try_prune("pruner", |r| {
            (r.dry_run, r.packer.pack_size) = (true, pack_size);
        });
        outcome.unwrap().summary.repack.packs
    };
    assert_eq!((planned(16 << 10), planned(1 << 20) >= 32), (0, true));
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
    world.clock.pass(1);
    repository.publish_acceptance(world.clock.now(), &[first]).unwrap();
    assert_eq!(world.prune().done.unwrap().acceptances, 0);
    world.forget(first);
    // A remote that fails is a reason to stop.
    world.remote.set(|verb, name| match verb {
        Verb::Get if name.starts_with("accepted/") => Err(failure(verb, name, Fault::Other)),
        _ => Ok(()),
    });
    assert!(matches!(world.try_prune("another", |_| {}), Err(Error::Repo(_))));
    world.remote.clear();
    assert_eq!(world.names(Folder::Accepted).len(), 3);
    // The first one was the try whether anything may be removed.
    assert_eq!(world.prune().done.unwrap().acceptances, 1);
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
    for copies in [1, 2] {
        let world = World::new();
        world.snapshot("a", &[("x", noise(1, LEN))]);
        let real = listed(&world).remove(0);
        // Of the manifest the thief says nothing: what is read on the way there is not what is doubtful.
        let data: Vec<_> = real.frames.iter().filter(|frame| frame.kind == BlobKind::Data).cloned().collect();
        for copy in 0..copies {
            // A pack of his, of which he says that it holds the same.
            let bytes = noise(7 + copy, usize::try_from(real.size).unwrap());
            let id = ObjectId(crate::crypto::sha256(&bytes));
            world.remote.memory.put(&crate::repo::pack_name(&id), &bytes).unwrap();
            claim(&world, &[crate::format::index_v1::PackInfo { id, frames: data.clone(), ..real.clone() }]);
        }
        // And a record that condemns the one that does.
        let (repository, ..) = world.open("thief");
        let old = Timestamp::from_secs(world.clock.now().secs - 10 * 86_400);
        repository.condemn(old, vec![real.id]).unwrap();
        match world.try_prune("pruner", |_| {}) {
            Err(Error::Damaged { .. }) => {}
            other => panic!("{:?}", other.map(|o| o.done)),
        }
        assert!(world.names(Folder::Packs).contains(&crate::repo::pack_name(&real.id)));
        // Later ones know better than to count on what was read.
        for _ in 0..copies {
            world.clock.pass(3 * DAY);
            drop(world.try_prune("pruner", |_| {}));
            assert!(world.names(Folder::Packs).contains(&crate::repo::pack_name(&real.id)));
        }
        world.prune_all();
        world.is_whole();
    }
}

#[test]
fn a_snapshot_that_cannot_be_read_now_is_not_taken_for_forgotten() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let second = world.snapshot("a", &[("y", noise(2, LEN))]).to_string();
    let folders = [Folder::Packs, Folder::Index, Folder::Gc];
    let before = folders.map(|folder| world.names(folder));
    world.remote.set(move |verb, name| match verb {
        Verb::Get if name.starts_with("snapshots/") && name.ends_with(&second) => {
            Err(failure(verb, name, Fault::Other))
        }
        _ => Ok(()),
    });
    let outcome = world.try_prune("pruner", |_| {});
    assert!(outcome.is_err(), "{:?}", outcome.map(|outcome| outcome.summary));
    world.remote.clear();
    assert_eq!(folders.map(|folder| world.names(folder)), before);
}

/// Publishes gc records of what is there again and again, as another prune may while this one copies.
fn busy(world: &Arc<World>, times: u64) -> Arc<AtomicU64> {
    let seen = Arc::new(AtomicU64::new(0));
    let (count, again) = (Arc::clone(&seen), Arc::clone(world));
    world.remote.set(move |verb, name| {
        if verb == Verb::Put && name.starts_with("packs/") {
            let before = count.fetch_add(1, Ordering::Relaxed);
            if before < times {
                let (repository, ..) = again.open("another");
                let gone = ObjectId(*blake3::hash(&before.to_le_bytes()).as_bytes());
                repository.condemn(again.clock.now(), vec![gone]).unwrap();
            }
        }
        Ok(())
    });
    seen
}

fn needed_in_part() -> Arc<World> {
    let world = World::new();
    let (keep, waste) = (noise(1, LEN), noise(2, 2 * LEN));
    let first = world.snapshot("a", &[("keep", keep.clone()), ("waste", waste)]);
    world.snapshot("a", &[("keep", keep)]);
    world.forget(first);
    world
}

#[test]
fn who_copied_while_others_pruned_looks_again_and_not_for_ever() {
    let world = needed_in_part();
    let copies = busy(&world, 2);
    let done = world.prune().done.unwrap();
    world.remote.clear();
    assert_eq!((copies.load(Ordering::Relaxed), done.repacked.packs), (3, 1));
    world.is_whole();

    let world = needed_in_part();
    let copies = busy(&world, 100);
    assert!(matches!(world.try_prune("pruner", |_| {}), Err(Error::Changed)));
    world.remote.clear();
    assert_eq!(copies.load(Ordering::Relaxed), 3);
    world.is_whole();
}

#[test]
fn packs_that_a_prune_wrote_are_known_as_its_own_while_they_are_there() {
    let world = needed_in_part();
    let own = || {
        let cache = world.dir.path().join("cache of pruner");
        let caches = CachePlace { dir: &cache, keeps_key: true };
        let repository = Repository::open(Arc::clone(&world.remote) as _, &passphrase(), caches).unwrap();
        let packs = repository.cache().own_packs();
        (repository, packs)
    };
    let (repository, packs) = own();
    assert!(packs.is_empty());
    // Of one that is gone nothing is to be trusted any more.
    repository.cache().note_own_packs(&[ObjectId([9; 32])].into()).unwrap();
    assert_eq!(world.prune().done.unwrap().new_packs.packs, 1);
    let (_, packs) = own();
    let names: Vec<_> = packs.iter().map(crate::repo::pack_name).collect();
    assert!(names.len() == 1 && world.names(Folder::Packs).contains(&names[0]), "{names:?}");
    // They stay known when there is nothing to be done.
    world.prune();
    assert_eq!(own().1, packs);
}

#[test]
fn requests_are_counted_by_phase() {
    let world = needed_in_part();
    let outcome = world.prune();
    let phases: Vec<_> = outcome.requests.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases, [Phase::Look, Phase::Delete, Phase::Repack, Phase::Publish]);
    let counts: Vec<_> =
        outcome.requests.iter().map(|(_, r)| (r.put > 0, r.delete > 0, r.list > 0)).collect();
    assert!(counts[0].2 && counts[2].0 && !counts[1].0, "{counts:?}");
}

#[test]
fn a_gc_record_that_goes_while_it_is_listed_is_no_loss_and_one_that_cannot_be_read_is() {
    let world = needed_in_part();
    world.prune();
    let cache = tempfile::tempdir().unwrap();
    let repository = world.stranger(cache.path());
    assert_eq!(world.names(Folder::Gc).len(), 1);
    let again = Arc::clone(&world);
    world.remote.set(move |verb, name| {
        if verb == Verb::Get && name.starts_with("gc/") {
            again.remote.memory.delete(name).unwrap();
        }
        Ok(())
    });
    assert_eq!(repository.condemnations().unwrap(), []);
    world.remote.clear();
    repository.condemn(world.clock.now(), Vec::new()).unwrap();
    world.remote.set(|verb, name| match verb {
        Verb::Get if name.starts_with("gc/") => Err(failure(verb, name, Fault::Other)),
        _ => Ok(()),
    });
    let cache = tempfile::tempdir().unwrap();
    assert!(world.stranger(cache.path()).condemnations().is_err());
}

#[test]
fn a_summary_adds_up() {
    let planned = |world: &World, max_unused: f64| {
        let outcome = world.try_prune("pruner", |r| (r.dry_run, r.max_unused) = (true, max_unused));
        let summary = outcome.unwrap().summary;
        assert_eq!(summary.packs.bytes, world.pack_bytes());
        assert_eq!(summary.packs.packs, world.names(Folder::Packs).len() as u64);
        assert_eq!(summary.index_objects, world.names(Folder::Index).len() as u64);
        let (delete, waiting, fresh) = (summary.delete, summary.waiting, summary.fresh);
        let settled = summary.packs.bytes - delete.bytes - waiting.bytes - fresh.bytes;
        assert_eq!(summary.used + summary.unused, settled, "{summary:?}");
        assert!(summary.snapshots == 1 && summary.used > LEN as u64, "{summary:?}");
        summary
    };
    let world = needed_in_part();
    let bearing = planned(&world, 1_000.0);
    assert_eq!((bearing.repack.packs, bearing.copy, bearing.rewrite), (0, 0, 0));
    assert!(bearing.unused >= 2 * LEN as u64);
    let usual = planned(&world, 5.0);
    assert_eq!((usual.repack.packs, usual.unused), (1, bearing.unused));
    assert!((LEN as u64..LEN as u64 * 11 / 10).contains(&usual.copy), "{usual:?}");

    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    world.snapshot("a", &[("y", noise(2, LEN))]);
    world.forget(first);
    let condemn = planned(&world, 5.0);
    assert!(condemn.condemn.packs == 1 && condemn.condemn.bytes > LEN as u64, "{condemn:?}");
    assert_eq!(condemn.unused, condemn.condemn.bytes);
    world.prune();
    let waiting = planned(&world, 5.0);
    assert_eq!((waiting.waiting, waiting.unused), (condemn.condemn, 0));
    world.clock.pass(3 * DAY);
    let delete = planned(&world, 5.0);
    assert_eq!((delete.delete, delete.rewrite), (condemn.condemn, 1));
    assert_eq!(world.prune().done.unwrap().deleted, condemn.condemn);
}

#[test]
fn what_is_gone_already_is_not_condemned_again_for_a_clock_that_was_ahead() {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    let doomed = world.names(Folder::Packs);
    world.snapshot("a", &[("y", noise(2, LEN))]);
    world.forget(first);
    world.clock.jump(100 * 365 * 86_400);
    assert_eq!(world.try_prune("wrong", |_| {}).unwrap().done.unwrap().condemned.packs, 1);
    world.clock.jump(-100 * 365 * 86_400);
    doomed.iter().for_each(|name| world.remote.memory.delete(name).unwrap());
    let records = world.names(Folder::Gc);
    assert_eq!(world.prune().done.unwrap(), super::super::Done::default());
    assert_eq!(world.names(Folder::Gc), records);
    world.restores();
}

/// Asks `answer` before each read of a pack once the prune has tried whether it may remove anything: what
/// snapshots need has been read by then.
fn reads_at_work(world: &World, mut answer: impl FnMut(&str) -> Result<(), RemoteError> + Send + 'static) {
    let mut at_work = false;
    world.remote.set(move |verb, name| {
        at_work |= verb == Verb::Delete && name.starts_with("accepted/");
        let read = at_work && verb == Verb::Get && name.starts_with("packs/");
        if read { answer(name) } else { Ok(()) }
    });
}

#[test]
fn a_pack_that_cannot_be_copied_stays_and_a_remote_that_fails_ends_it() {
    let world = needed_in_part();
    reads_at_work(&world, |name| Err(failure(Verb::Get, name, Fault::Other)));
    assert!(matches!(world.try_prune("pruner", |_| {}), Err(Error::Repo(_))));
    world.remote.clear();

    let large = world.remote.memory.list("packs").unwrap().into_iter().max_by_key(|l| l.size).unwrap();
    let whole = world.remote.memory.get(&large.name, 1 << 30).unwrap();
    let mut damaged = whole.clone();
    damaged[1_000] ^= 1;
    world.remote.memory.tamper(&large.name, damaged);
    let done = world.prune().done.unwrap();
    assert_eq!(
        (done.damaged.len(), done.repacked, done.condemned),
        (1, Amount::default(), Amount::default())
    );
    world.clock.pass(3 * DAY);
    world.prune();
    assert!(world.names(Folder::Packs).contains(&large.name));
    world.remote.memory.tamper(&large.name, whole);
    world.is_whole();
}

/// Two machines store the same at the same time, and neither knows.
fn stored_twice() -> Arc<World> {
    let world = World::new();
    world.tree("a", &[("w", noise(8, 1_000)), ("x", noise(1, LEN))]);
    world.tree("b", &[("x", noise(1, LEN)), ("y", noise(2, LEN)), ("z", noise(3, LEN))]);
    let again = Arc::clone(&world);
    let mut first = true;
    world.remote.set(move |verb, name| {
        if verb == Verb::Put && name.starts_with("packs/") && std::mem::take(&mut first) {
            again.backup("a");
        }
        Ok(())
    });
    world.backup("b");
    world.remote.clear();
    world
}

#[test]
fn what_is_stored_twice_is_read_before_one_goes() {
    let world = stored_twice();
    reads_at_work(&world, |name| Err(failure(Verb::Get, name, Fault::Other)));
    assert!(matches!(world.try_prune("pruner", |_| {}), Err(Error::Repo(_))));
    // Another prune was faster: everything is looked at again.
    let reads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reads);
    reads_at_work(&world, move |name| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Err(RemoteError::NotFound { name: name.into() }),
        _ => Ok(()),
    });
    let done = world.prune().done.unwrap();
    world.remote.clear();
    assert!(reads.load(Ordering::Relaxed) > 1 && done.repacked.packs == 1, "{done:?}");
    world.is_whole();
    world.prune_all();
    world.is_whole();

    // What is read is not what the index says: what else has it stays.
    let world = stored_twice();
    let names = world.names(Folder::Packs);
    let packs: Vec<_> =
        names.iter().map(|name| (name, world.remote.memory.get(name, 1 << 30).unwrap())).collect();
    for (name, bytes) in &packs {
        let mut damaged = bytes.clone();
        damaged[1_000] ^= 1;
        world.remote.memory.tamper(name, damaged);
    }
    assert!(matches!(world.try_prune("pruner", |_| {}), Err(Error::Damaged { .. })));
    packs.iter().for_each(|(name, bytes)| world.remote.memory.tamper(name, bytes.clone()));
    assert_eq!(world.names(Folder::Gc), [""; 0]);
    world.is_whole();
}

#[test]
fn frames_are_copied_from_wherever_they_stand_in_a_pack() {
    let world = World::new();
    let names = ["a", "b", "c", "d", "e", "f"];
    let files: Vec<_> = (1..).zip(names).map(|(n, name)| (name, noise(n, 700_000))).collect();
    world.tree("a", &files);
    // All of it in one pack.
    let (repository, catalog, counting) = world.open("a");
    let options = PackerOptions { pack_size: 16 << 20, ..PackerOptions::new(1) };
    let request = backup::Request { alarm: None, ..backup::Request::new(world.source("a"), options) };
    let first = backup::run(&repository, &catalog, &counting, &request, &silent(), &world.clock()).unwrap();
    drop(repository);
    world.clock.pass(1);
    world.expected.lock().unwrap().insert(first.id.unwrap(), World::content(&world.source("a")));
    let packs = listed(&world);
    assert!(packs.len() == 1 && packs[0].frames.len() > 4, "{packs:?}");
    world.snapshot("a", &[files[1].clone(), files[4].clone()]);
    world.forget(first.id.unwrap());
    let done = world.prune().done.unwrap();
    assert_eq!(done.repacked.packs, 1);
    assert!(done.new_packs.bytes < 1_500_000, "{done:?}");
    world.is_whole();
    world.clock.pass(3 * DAY);
    assert_eq!(world.prune().done.unwrap().deleted.packs, 1);
    world.is_whole();
}

#[test]
fn what_is_condemned_later_delays_nothing_that_was_condemned_before() {
    let world = World::new();
    let ids: Vec<_> = (1..4).map(|n| world.snapshot("a", &[("x", noise(n, LEN))])).collect();
    world.forget(ids[0]);
    assert_eq!(world.prune().done.unwrap().condemned.packs, 1);
    world.clock.pass(DAY);
    world.forget(ids[1]);
    assert_eq!(world.prune().done.unwrap().condemned.packs, 1);
    for _ in 0..2 {
        world.clock.pass(DAY + 60);
        assert_eq!(world.prune().done.unwrap().deleted.packs, 1);
    }
    world.is_whole();
}

#[test]
fn many_records_of_what_is_gone_become_one() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let (repository, ..) = world.open("a");
    let mut gone = Vec::new();
    for (n, left) in (0..8u8).zip([1, 2, 3, 4, 5, 6, 7, 1]) {
        gone.push(ObjectId([n; 32]));
        repository.condemn(world.clock.now(), vec![ObjectId([n; 32])]).unwrap();
        world.clock.pass(1);
        world.prune();
        assert_eq!(world.names(Folder::Gc).len(), left);
    }
    let records = repository.condemnations().unwrap();
    assert_eq!(records[0].packs, gone);
}
