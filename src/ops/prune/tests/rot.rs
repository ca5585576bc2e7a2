//! Packs that rot between prunes, and remotes that fail while somebody looks at them.

use std::io;

use super::*;
use crate::model::{Classify, ErrorClass};
use crate::ops::{repair, scrub};
use crate::repo::{Damage, pack_name};

const LEN: usize = 200_000;

fn io_error(code: i32) -> impl FnMut(Verb, &str) -> Result<(), RemoteError> + Send + 'static {
    move |verb, name| match verb {
        Verb::Get if name.starts_with("packs/") => {
            Err(RemoteError::Io { verb, name: name.into(), source: io::Error::from_raw_os_error(code) })
        }
        _ => Ok(()),
    }
}

impl World {
    /// The repository as a machine sees it, with what it remembers.
    fn seen_by(&self, machine: &str) -> Repository {
        let cache = self.dir.path().join("cache of ".to_string() + machine);
        let caches = CachePlace { dir: &cache, keeps_key: true };
        Repository::open(Arc::clone(&self.remote) as _, &passphrase(), caches).unwrap()
    }

    fn check_by(&self, machine: &str) -> Result<check::Outcome, check::Error> {
        check::run(&self.seen_by(machine), check::ReadData::All, 1, &silent(), &self.clock())
    }

    /// Changes a byte of a pack, and not its length.
    fn rot(&self, pack: &ObjectId) {
        let name = pack_name(pack);
        let mut bytes = self.remote.memory.get(&name, 1 << 30).unwrap();
        bytes[1000] ^= 1;
        self.remote.memory.delete(&name).unwrap();
        self.remote.memory.put(&name, &bytes).unwrap();
    }
}

/// A prune has copied `kept` into a pack of its own, which has rotted since; the pack that `kept` was copied from is
/// condemned and still there.
fn rotten(seed: u64) -> (Arc<World>, ObjectId) {
    let world = World::new();
    let first = world.snapshot("a", &[("kept", noise(seed, LEN)), ("gone", noise(seed + 1000, LEN))]);
    world.snapshot("a", &[("kept", noise(seed, LEN))]);
    world.forget(first);
    world.prune();
    let own: Vec<_> = world.seen_by("pruner").cache().own_packs().into_iter().collect();
    let [copy] = own[..] else { panic!("{own:?}") };
    world.rot(&copy);
    (world, copy)
}

#[test]
fn a_prune_does_not_count_on_a_copy_that_it_knows_to_be_damaged() {
    let (world, copy) = rotten(1);
    let found = world.check_by("pruner").unwrap();
    let [problem] = &found.problems[..] else { panic!("{found:?}") };
    assert_eq!(problem.object, pack_name(&copy));
    assert!(problem.message.contains("condemned"), "{problem:?}");
    world.clock.pass(3 * DAY);
    world.prune_all();
    world.is_whole();
}

/// What another machine has found out says a gc record; which of two condemned packs is the sound one it does not say.
#[test]
fn of_packs_that_are_all_condemned_none_is_counted_on_alone() {
    for seed in 0..6 {
        let (world, copy) = rotten(seed);
        world.seen_by("other").condemn(world.clock.now(), vec![copy]).unwrap();
        world.clock.pass(3 * DAY);
        world.prune_all();
        world.is_whole();
    }
}

#[test]
fn a_repair_saves_what_is_elsewhere_only_in_condemned_packs() {
    let (world, copy) = rotten(1);
    let repository = world.seen_by("other");
    let which = repair::packs::Which::Named(vec![copy]);
    let repaired =
        repair::packs::run(&repository, &which, packer(), false, &silent(), &world.clock()).unwrap();
    let [pack] = &repaired.packs[..] else { panic!("{repaired:?}") };
    assert_eq!((pack.pack.clone(), pack.lost), (pack_name(&copy), 0));
    assert!(pack.saved > 0, "{pack:?}");
    assert_eq!(world.check_by("other").unwrap().problems, []);
    world.clock.pass(3 * DAY);
    world.prune_all();
    world.is_whole();
}

/// A disk that is not there for a while says nothing of what is on it.
#[test]
fn a_disk_that_fails_is_no_damage() {
    const EMFILE: i32 = 24;
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    world.remote.set(io_error(EMFILE));
    let failed = world.check_by("b").unwrap_err();
    let cache = world.dir.path().join("cache of c");
    let caches = CachePlace { dir: &cache, keeps_key: false };
    let remote: &dyn Remote = world.remote.as_ref();
    let scrubbed = scrub::run(remote, caches, check::ReadData::All, 1, &silent(), &world.clock());
    world.remote.clear();
    assert!(matches!(failed, check::Error::Repo(_)), "{failed}");
    assert!(matches!(scrubbed, Err(scrub::Error::Repo(_))), "{scrubbed:?}");
    for machine in ["b", "c"] {
        assert_eq!(world.seen_by(machine).cache().damage(), BTreeMap::new());
    }
    // A sector that cannot be read is damage, though.
    const EIO: i32 = 5;
    world.remote.set(io_error(EIO));
    let cache = world.dir.path().join("cache of b");
    let caches = CachePlace { dir: &cache, keeps_key: false };
    let found = scrub::run(remote, caches, check::ReadData::All, 1, &silent(), &world.clock()).unwrap();
    world.remote.clear();
    assert_eq!(found.problems.len(), 1);
    // It is looked at again before anything is given up.
    assert_eq!(world.seen_by("b").cache().damage().len(), 1);
    world.tree("b", &[("x", noise(1, LEN))]);
    world.backup("b");
    assert_eq!(world.names(Folder::Gc), Vec::<String>::new());
    assert_eq!(world.seen_by("b").cache().damage(), BTreeMap::new());
}

/// What has the right hash and was not written as the index says is no better for a second look.
#[test]
fn a_pack_that_never_held_what_the_index_says_is_given_up() {
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    let pack = world.seen_by("a").list(Folder::Packs).unwrap()[0].id;
    world.seen_by("a").cache().change_damage(|noted| noted.extend([(pack, Damage::False)])).unwrap();
    world.backup("a");
    assert_eq!(world.names(Folder::Gc).len(), 1);
    world.is_whole();
}

/// The index objects are read twice where many blobs are in packs that are missing.
#[test]
fn an_index_that_fails_at_the_second_reading_is_not_taken_for_a_shorter_one() {
    let world = World::new();
    let files: Vec<(String, Vec<u8>)> = (0..150).map(|n| (format!("f{n}"), noise(n, 3000))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    world.snapshot("a", &files);
    for pack in world.names(Folder::Packs) {
        world.remote.memory.delete(&pack).unwrap();
    }
    let whole = world.check_by("b").unwrap().problems;
    assert!(!whole.is_empty());
    for at in 1..8 {
        let mut reads = 0;
        world.remote.set(move |verb, name| {
            reads += usize::from(verb == Verb::Get && name.starts_with("index/"));
            if reads == at { Err(failure(verb, name, Fault::Transient)) } else { Ok(()) }
        });
        let found = world.check_by("b");
        world.remote.clear();
        match found {
            Ok(found) => assert_eq!(found.problems, whole, "{at}"),
            Err(error) => assert_eq!(error.class(), ErrorClass::Failed, "{error}"),
        }
    }
}

/// Two packs rot; at the second one that is asked for the service fails.
fn rots_and_fails() -> Arc<World> {
    const EMFILE: i32 = 24;
    let world = World::new();
    world.snapshot("a", &[("x", noise(1, LEN))]);
    world.snapshot("a", &[("x", noise(1, LEN)), ("y", noise(2, LEN))]);
    for pack in world.seen_by("a").list(Folder::Packs).unwrap() {
        world.rot(&pack.id);
    }
    let (mut first, mut fail) = (None, io_error(EMFILE));
    world.remote.set(move |verb, name| {
        if verb == Verb::Get && name.starts_with("packs/") && first.get_or_insert(name.to_string()) != name {
            return fail(verb, name);
        }
        Ok(())
    });
    world
}

#[test]
fn what_was_found_before_a_failure_is_remembered() {
    let world = rots_and_fails();
    let failed = world.check_by("b");
    world.remote.clear();
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(world.seen_by("b").cache().damage().len(), 1);
    let world = rots_and_fails();
    let cache = world.dir.path().join("cache of b");
    let caches = CachePlace { dir: &cache, keeps_key: false };
    let remote: &dyn Remote = world.remote.as_ref();
    let failed = scrub::run(remote, caches, check::ReadData::All, 1, &silent(), &world.clock());
    world.remote.clear();
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(world.seen_by("b").cache().damage().len(), 1);
}

/// Does something as soon as the first pack is read.
fn while_packs_are_read(world: &Arc<World>, act: impl FnOnce(&World) + Send + 'static) {
    let (world_again, mut act) = (Arc::clone(world), Some(act));
    world.remote.set(move |verb, name| {
        if verb == Verb::Get
            && name.starts_with("packs/")
            && let Some(act) = act.take()
        {
            act(&world_again);
        }
        Ok(())
    });
}

/// Checks of all data last for hours; backups, merges and removals go on.
#[test]
fn a_long_check_sees_what_has_changed_meanwhile() {
    let world = World::new();
    let first = world.snapshot("a", &[("x", noise(1, LEN))]);
    world.snapshot("a", &[("y", noise(2, LEN))]);
    while_packs_are_read(&world, move |world| world.forget(first));
    let found = world.check_by("b").unwrap();
    world.remote.clear();
    assert_eq!((found.problems, found.snapshots), (Vec::new(), 1));

    let pack = world.seen_by("b").list(Folder::Packs).unwrap()[0].id;
    world.rot(&pack);
    while_packs_are_read(&world, |world| {
        let repository = world.seen_by("a");
        let objects = repository.list(Folder::Index).unwrap();
        repository.rewrite_index(&objects, &|_| false).unwrap();
        objects.iter().for_each(|object| repository.remove_pruned(object).unwrap());
    });
    let found = world.check_by("b");
    world.remote.clear();
    let found = found.unwrap();
    assert_eq!((found.packs, found.packs_read), (2, 2));
    assert!(found.problems.iter().all(|problem| problem.object == pack_name(&pack)), "{found:?}");
}

struct Stopped;

impl Monitor for Stopped {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_repair_that_was_stopped_says_so() {
    let (world, _) = rotten(1);
    let stopped: Arc<dyn Monitor> = Arc::new(Stopped);
    let which = repair::packs::Which::All;
    let repaired = repair::packs::run(&world.seen_by("b"), &which, packer(), false, &stopped, &world.clock());
    assert!(matches!(repaired, Err(repair::Error::Interrupted)), "{repaired:?}");
}
