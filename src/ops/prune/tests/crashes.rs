//! A prune that ends at each of its requests.

use std::collections::BTreeSet;

use super::*;

const LEN: usize = 150_000;

/// Something for each phase: packs to be removed, condemned, copied and put together, an orphan, index objects
/// to be merged, an acceptance to be dropped.
fn busy() -> Arc<World> {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    let second = world.snapshot("a", &[("y", noise(2, LEN)), ("z", noise(3, LEN))]);
    world.forget(first);
    world.try_prune("pruner", |_| {}).unwrap();
    let (repository, ..) = world.open("a");
    repository.publish_acceptance(world.clock.now(), &[first]).unwrap();
    let third = world.snapshot("a", &[("w", noise(4, LEN))]);
    world.snapshot("a", &[("z", noise(3, LEN))]);
    world.forget(second);
    world.forget(third);
    for n in 0..8 {
        world.snapshot("b", &[("v", noise(10 + n, 2_000))]);
    }
    // A backup that got no further than its packs; the prune that follows has seen them.
    world.remote.set(|verb, name| match verb {
        Verb::Put if name.starts_with("index/") => Err(failure(verb, name, Fault::Other)),
        _ => Ok(()),
    });
    world.tree("c", &[("u", noise(20, LEN))]);
    assert!(world.try_backup("c").is_err());
    world.remote.clear();
    world.try_prune("pruner", |request| request.dry_run = true).unwrap();
    world.clock.pass(3 * DAY);
    world
}

/// Runs a prune that fails at request `at`, once or from there on; tells whether it came so far.
fn cut(world: &World, at: u64, once: bool) -> bool {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    world.remote.set(move |verb, name| {
        let now = count.fetch_add(1, Ordering::Relaxed);
        if now == at || !once && now > at { Err(failure(verb, name, Fault::Other)) } else { Ok(()) }
    });
    let counting = Arc::new(Counting::new(Arc::clone(&world.remote) as _));
    let cache = world.dir.path().join("cache of pruner");
    let caches = CachePlace { dir: &cache, keeps_key: true };
    let opened = Repository::open(Arc::clone(&counting) as _, &passphrase(), caches);
    let result = opened.map_err(Error::from).and_then(|repository| {
        run(&repository, &counting, &Request::new(packer()), &silent(), &world.clock())
    });
    world.remote.clear();
    let came = asked.load(Ordering::Relaxed) > at;
    assert_eq!(came, result.is_err(), "{at}: {:?}", result.err());
    came
}

fn converges(world: &World) -> u64 {
    world.prune_all();
    world.is_whole();
    let left = world.try_prune("pruner", |r| r.dry_run = true).unwrap().summary;
    assert_eq!([left.condemn, left.delete, left.waiting, left.fresh, left.repack], [Amount::default(); 5]);
    assert_eq!(world.names(Folder::Accepted), [""; 0]);
    world.pack_bytes()
}

#[test]
fn a_prune_may_end_at_any_request() {
    let usual = converges(&busy());
    for once in [false, true] {
        let mut at = 0;
        loop {
            let world = busy();
            if !cut(&world, at, once) {
                break;
            }
            world.is_whole();
            let left = converges(&world);
            // Nothing is leaked for ever.
            assert!(left <= usual + 20_000, "{left} and not {usual} after {at}");
            at += 1;
        }
        assert!(at > 25, "{at}");
    }
}

/// Asks to stop at the n-th question.
struct Impatient(AtomicU64);

impl Monitor for Impatient {
    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(1))) == Ok(0)
    }
}

#[test]
fn a_prune_that_is_stopped_keeps_what_it_did() {
    let usual = converges(&busy());
    let mut kept = BTreeSet::new();
    for patience in 0.. {
        let world = busy();
        let names = [Folder::Packs, Folder::Index, Folder::Gc].map(|folder| world.names(folder));
        let counting = Arc::new(Counting::new(Arc::clone(&world.remote) as _));
        let cache = world.dir.path().join("cache of pruner");
        let caches = CachePlace { dir: &cache, keeps_key: true };
        let repository = Repository::open(Arc::clone(&counting) as _, &passphrase(), caches).unwrap();
        let monitor: Arc<dyn Monitor> = Arc::new(Impatient(AtomicU64::new(patience)));
        match run(&repository, &counting, &Request::new(packer()), &monitor, &world.clock()) {
            Err(Error::Interrupted) => {}
            Ok(_) => {
                assert!(patience > 5, "{patience}");
                // It was stopped before it had done anything, and later.
                assert_eq!(kept, BTreeSet::from([false, true]));
                return;
            }
            Err(e) => panic!("{e}"),
        }
        world.is_whole();
        kept.insert([Folder::Packs, Folder::Index, Folder::Gc].map(|folder| world.names(folder)) != names);
        let left = converges(&world);
        assert!(left <= usual + 20_000, "{left} and not {usual} after {patience}");
    }
}
