//! Backups and other prunes between any two requests.

use jiff::tz::TimeZone;

use super::*;
use crate::model::Policy;
use crate::ops::forget;
use crate::ops::retention::{Filter, Grouping};
use crate::repo::RepoError;

const LEN: usize = 200_000;

/// Calls `act` before request number `at` that follows; tells whether there were so many.
fn before_request(world: &Arc<World>, at: usize, act: impl Fn(&World) + Send + 'static) -> Arc<AtomicU64> {
    let asked = Arc::new(AtomicU64::new(0));
    let (count, world_again) = (Arc::clone(&asked), Arc::clone(world));
    world.remote.set(move |_, _| {
        if count.fetch_add(1, Ordering::Relaxed) == at as u64 {
            act(&world_again);
        }
        Ok(())
    });
    asked
}

/// Does for each request of `run` what `act` does, in a world of its own that `make` makes.
fn at_every_request(
    make: impl Fn() -> Arc<World>,
    act: impl Fn(&World) + Send + Copy + 'static,
    run: impl Fn(&World),
) -> usize {
    for at in 0.. {
        let world = make();
        let asked = before_request(&world, at, act);
        run(&world);
        world.remote.clear();
        if asked.load(Ordering::Relaxed) <= at as u64 {
            return at;
        }
        world.restores();
        world.prune_all();
        world.is_whole();
        let left = world.try_prune("pruner", |r| r.dry_run = true).unwrap().summary;
        assert_eq!(
            [left.condemn, left.delete, left.waiting, left.fresh, left.repack],
            [Amount::default(); 5]
        );
    }
    0
}

/// What `x` was is in packs that nobody needs any more; machine `b` is about to store it again.
fn doomed() -> Arc<World> {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    world.snapshot("a", &[("y", noise(2, LEN))]);
    world.forget(first);
    world.tree("b", &[("x", noise(1, LEN)), ("z", noise(3, LEN))]);
    world
}

fn store(world: &World) {
    world.backup("b");
}

fn prune_thrice(world: &World) {
    for _ in 0..3 {
        world.prune();
        world.clock.pass(3 * DAY);
    }
}

fn prune_thrice_at_once(world: &World) {
    for _ in 0..3 {
        world.try_prune("hasty", |r| r.grace = Duration::ZERO).unwrap();
    }
}

#[test]
fn prunes_between_any_two_requests_of_a_backup() {
    let backup: fn(&World) = store;
    assert!(at_every_request(doomed, prune_thrice, backup) > 8);
    // Even without any grace, which no user should ask for.
    at_every_request(doomed, prune_thrice_at_once, backup);
}

#[test]
fn one_prune_between_any_two_requests_of_a_backup() {
    at_every_request(doomed, |world| drop(world.prune()), store);
}

#[test]
fn what_a_backup_of_no_change_repeats_may_be_forgotten_and_removed() {
    let make = || {
        let world = World::new();
        world.snapshot("a", &[("other", noise(9, LEN))]);
        world.snapshot("b", &[("x", noise(1, LEN))]);
        world.backup("b");
        world
    };
    let forget = |world: &World| {
        let (repository, ..) = world.open("forgetter");
        let catalog = Catalog::load(&repository, SnapshotKind::Regular).unwrap();
        catalog.entries()[1..].iter().for_each(|entry| world.forget(entry.id));
        prune_thrice(world);
    };
    assert!(at_every_request(make, forget, store) >= 3);
}

#[test]
fn a_backup_between_any_two_requests_of_a_prune() {
    let backup: fn(&World) = store;
    assert!(at_every_request(doomed, backup, |world| drop(world.prune())) > 8);
    let condemned = || {
        let world = doomed();
        world.prune();
        world.clock.pass(3 * DAY);
        world
    };
    assert!(at_every_request(condemned, backup, |world| drop(world.prune())) > 8);
}

/// Packs of which some is needed: the prune copies.
fn partly() -> Arc<World> {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN)), ("y", noise(2, LEN))]);
    world.snapshot("a", &[("x", noise(1, LEN))]);
    world.forget(first);
    world.tree("b", &[("y", noise(2, LEN))]);
    world
}

#[test]
fn a_backup_of_what_is_left_behind_between_any_two_requests_of_a_prune() {
    let backup: fn(&World) = store;
    assert!(at_every_request(partly, backup, |world| drop(world.prune())) > 8);
    at_every_request(partly, prune_thrice, backup);
}

#[test]
fn prunes_between_any_two_requests_of_another() {
    for make in [doomed, partly] {
        let condemned = move || {
            let world = make();
            world.prune();
            world.clock.pass(3 * DAY);
            world
        };
        let prune = |world: &World| match world.try_prune("second", |_| {}) {
            // What the other one removes meanwhile may be in its way, and nothing else.
            Ok(_) | Err(Error::Changed) => {}
            Err(Error::Repo(RepoError::Remote(e))) if e.is_not_found() => {}
            Err(e) => panic!("{e}"),
        };
        at_every_request(make, |world| drop(world.prune()), prune);
        at_every_request(make, prune_thrice, prune);
        at_every_request(condemned, |world| drop(world.prune()), prune);
        at_every_request(condemned, prune_thrice, prune);
    }
}

/// A snapshot is published between our look at the snapshots and our gc record; nobody tells its writer.
#[test]
fn what_a_snapshot_needs_of_condemned_packs_is_copied_and_waits_anew() {
    let world = doomed();
    let again = Arc::clone(&world);
    world.remote.set(move |verb, name| {
        if verb == Verb::Put && name.starts_with("gc/") {
            again.backup("b");
        }
        Ok(())
    });
    world.prune();
    world.remote.clear();
    world.clock.pass(3 * DAY);
    let outcome = world.prune();
    assert!(outcome.summary.repack.packs >= 1 && outcome.done.unwrap().deleted.packs == 0);
    assert_eq!(world.prune().summary.delete.packs, 0);
    world.is_whole();
    world.clock.pass(3 * DAY);
    assert!(world.prune().done.unwrap().deleted.packs >= 1);
    world.is_whole();
}

/// A client that was asleep for long writes an index object with packs that are gone.
#[test]
fn an_index_object_that_comes_late_misleads_nobody() {
    let world = doomed();
    let late: Vec<_> = world.names(Folder::Index);
    let late: Vec<_> =
        late.iter().map(|name| (name.clone(), world.remote.memory.get(name, 1 << 30).unwrap())).collect();
    prune_thrice(&world);
    late.iter().for_each(|(name, bytes)| world.remote.memory.put(name, bytes).unwrap());
    // Later prunes do not forget.
    for n in 0..12 {
        let id = world.snapshot("c", &[("w", noise(100 + n, 1_000))]);
        world.forget(id);
        world.prune();
        late.iter().for_each(|(name, bytes)| world.remote.memory.put(name, bytes).unwrap());
        world.clock.pass(3 * DAY);
    }
    world.backup("b");
    world.prune_all();
    world.is_whole();
}

/// Of snapshots that are forgotten meanwhile nothing is said; where one cannot be asked for, nothing is known of any.
#[test]
fn a_policy_is_judged_while_others_forget_and_not_while_the_remote_fails() {
    let world = World::new();
    let ids = [1, 2, 3].map(|n| world.snapshot("a", &[("x", noise(n, 1_000))]));
    let judge = || {
        let cache = tempfile::tempdir().unwrap();
        let repository = world.stranger(cache.path());
        let policy = Policy { last: 1, ..Policy::default() };
        let now = jiff::Timestamp::from_second(world.clock.now().secs).unwrap().to_zoned(TimeZone::UTC);
        forget::judge(&repository, &policy, Grouping::default(), &Filter::default(), &now, &Silent)
    };
    let named = || {
        let cache = tempfile::tempdir().unwrap();
        let id = ids[0].to_string();
        forget::plan_regular(&world.stranger(cache.path()), &[id[..8].to_owned()], true, &Silent)
    };
    let verdict = judge().unwrap();
    assert_eq!((verdict.snapshots.len(), verdict.targets.len()), (3, 2));
    // The note of what is removed bears the time of the newest.
    assert_eq!(verdict.targets[1].time(), verdict.snapshots[1].1.time);
    assert_eq!(named().unwrap(), verdict.targets[..1]);

    let first = ids[0].to_string();
    let is_first = move |verb: Verb, name: &str| verb == Verb::Get && name.ends_with(&first);
    let gone = is_first.clone();
    world.remote.set(move |verb, name| match gone(verb, name) {
        true => Err(RemoteError::NotFound { name: name.into() }),
        false => Ok(()),
    });
    let verdict = judge().unwrap();
    assert_eq!((verdict.snapshots.len(), verdict.targets.len(), verdict.unreadable), (2, 1, 0));

    world.remote.set(move |verb, name| match is_first(verb, name) {
        true => Err(failure(verb, name, Fault::Other)),
        false => Ok(()),
    });
    assert!(matches!(judge(), Err(forget::Error::Repo(_))));
    assert!(matches!(named(), Err(forget::Error::Repo(_))));
}
