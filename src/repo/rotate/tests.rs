//! Rotations that are cut off, and two of them at once.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use crate::crypto::{self, Keyring, MasterKey, Masters, ScryptParams};
use crate::format::key_description_v1::KeyKind;
use crate::format::key_v1::{self, Bundle, Secrets};
use crate::model::{Classify, ErrorClass, KeyId, ObjectId, WriterKeyId};
use crate::remote::{Remote, RemoteError, Verb};
use crate::repo::key_changes::tests::{CHEAP, Rigged, at, opens, refused, rigged, text};
use crate::repo::tests::passphrase;
use crate::repo::{CachePlace, Folder, RepoError, Repository, keys, record_name};

/// Another machine with a passphrase of its own.
fn second(remote: &Arc<Rigged>, repository: &Repository, dir: &std::path::Path) -> Repository {
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "two").unwrap();
    let handle: Arc<dyn Remote> = Arc::clone(remote) as _;
    Repository::open(handle, &text("two"), CachePlace { dir, keeps_key: true }).unwrap()
}

/// The generation that a passphrase opens for who has nothing else.
fn generation(repository: &Repository, of: &str) -> u8 {
    let passphrase = if of.is_empty() { passphrase() } else { text(of) };
    keys::find(repository.remote(), repository.id(), &passphrase).unwrap().bundle.generation()
}

fn masters(repository: &Repository) -> Masters {
    let bundle = keys::find(repository.remote(), repository.id(), &passphrase()).unwrap().bundle;
    keys::masters(&bundle).unwrap().clone()
}

/// Fails every store of a key object but the first `n`.
fn fail_after(remote: &Rigged, n: usize) {
    let left = Mutex::new(n);
    Rigged::set(&remote.put, move |_, name| {
        let mut left = left.lock().unwrap();
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                None
            }
            None => Some(Err(refused(Verb::Put, name))),
        }
    });
}

#[test]
fn who_waited_while_another_rotated_changes_nothing() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for deletes in [true, false] {
        let (remote, repository) = rigged(&ours.path().join(deletes.to_string()));
        let other = second(&remote, &repository, &theirs.path().join(deletes.to_string()));
        let plan = repository.plan_rotation(&passphrase()).unwrap();
        if !deletes {
            Rigged::set(&remote.delete, |_, name| Some(Err(refused(Verb::Delete, name))));
        }
        let new = other.rotate(&text("two"), other.plan_rotation(&text("two")).unwrap(), at(2)).unwrap();
        let before = remote.keys();
        let error = repository.rotate(&passphrase(), plan, at(3)).unwrap_err();
        let RepoError::RotationStopped { claim, left, source } = &error else { panic!("{error}") };
        assert!(matches!(**source, RepoError::NewerKey { .. } | RepoError::KeysChange), "{error}");
        assert_eq!(left.is_none(), deletes, "{error}");
        // What could not be removed is told, opens nothing, and is in nobody's way.
        let mut after = remote.keys();
        after.retain(|name| !before.contains(name));
        let claims = if deletes { vec![] } else { vec![keys::name_of(claim)] };
        assert_eq!(after, claims);
        assert_eq!(error.to_string().contains("could not be removed"), !deletes, "{error}");
        remote.honest();
        assert_eq!(generation(&other, "two"), 1);
        assert!(opens(&remote, &passphrase()).is_ok() != deletes);
        let again = other.rotate(&text("two"), other.plan_rotation(&text("two")).unwrap(), at(4)).unwrap();
        assert_eq!((again.generation, remote.keys().len()), (2, 1));
        assert!(again.removed.contains(&new.key) && again.left.is_empty());
    }
}

#[test]
fn nobody_can_use_the_key_of_a_rotation_that_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let masters = masters(&repository);
    let (foreign, object) = keys::claim(repository.id(), 1, &masters, at(1)).unwrap();
    let stored = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&stored);
    Rigged::set(&remote.put, move |memory, name| {
        // The other one is a moment behind.
        notes.lock().unwrap().push(name.to_owned());
        memory.put(&keys::name_of(&foreign), &object).unwrap();
        None
    });
    let plan = repository.plan_rotation(&passphrase()).unwrap();
    let error = repository.rotate(&passphrase(), plan, at(2)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Busy);
    let RepoError::RotationStopped { claim, left: None, source } = error else { panic!("{error}") };
    assert!(matches!(*source, RepoError::OtherRotation { key } if key == foreign), "{source}");
    assert_eq!(*stored.lock().unwrap(), [keys::name_of(&claim)], "no more than the claim was ever there");
    remote.honest();
    assert_eq!(generation(&repository, ""), 0);

    // The other one never comes back: until somebody says so, no rotation begins.
    let error = repository.plan_rotation(&passphrase()).err().unwrap();
    assert!(matches!(error, RepoError::OtherRotation { key } if key == foreign), "{error}");
    let shown = repository.keys(&passphrase()).unwrap();
    let kinds: Vec<_> = shown.iter().map(|key| key.description.as_ref().unwrap().kind).collect();
    assert!(kinds.contains(&KeyKind::Claim), "{kinds:?}");
    // Other changes of the keys go on.
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(3), "").unwrap();
    repository.remove_key(&repository.key_removal(&text("two"), &foreign.to_string()).unwrap()).unwrap();
    let plan = repository.plan_rotation(&passphrase()).unwrap();
    assert_eq!(repository.rotate(&passphrase(), plan, at(4)).unwrap().generation, 1);
    assert_eq!(remote.keys().len(), 1);
}

#[test]
fn a_rotation_that_was_cut_off_goes_on_with_the_same_key() {
    for stores in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let (remote, repository) = rigged(dir.path());
        // So is the way to take anything back.
        Rigged::set(&remote.delete, |_, name| Some(Err(refused(Verb::Delete, name))));
        fail_after(&remote, stores);
        let plan = repository.plan_rotation(&passphrase()).unwrap();
        let error = repository.rotate(&passphrase(), plan, at(2)).unwrap_err();
        remote.honest();
        assert_eq!(generation(&repository, ""), 0);
        let plan = repository.plan_rotation(&passphrase()).unwrap();
        assert!(plan.others.is_empty(), "its claim is no key of somebody else");
        let rotated = repository.rotate(&passphrase(), plan, at(3)).unwrap();
        match error {
            RepoError::RotationCut { key, .. } if stores == 1 => assert_eq!(key, rotated.key),
            RepoError::RotationStopped { left: Some(_), .. } if stores == 0 => {}
            other => panic!("{stores}: {other}"),
        }
        assert_eq!((remote.keys(), generation(&repository, "")), (vec![keys::name_of(&rotated.key)], 1));
        assert!(repository.cache().rotation().is_none());
        // The next one begins anew.
        let plan = repository.plan_rotation(&passphrase()).unwrap();
        assert_eq!(repository.rotate(&passphrase(), plan, at(4)).unwrap().generation, 2);
    }
}

#[test]
fn a_key_that_opens_what_no_other_does_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let first = masters(&repository);
    // As two rotations leave them of which neither saw the other.
    let made = |byte, phrase: &str| {
        let masters = first.clone().with(MasterKey::from_bytes([byte; 32])).unwrap();
        let secrets = Secrets::Owner(masters.clone());
        let bundle = Bundle { secrets, created: 5, label: String::new() };
        keys::store(&*remote, repository.id(), &text(phrase), CHEAP, &bundle, &masters).unwrap().0
    };
    let (one, other) = (made(1, "one"), made(2, "other"));
    let error = repository.plan_rotation(&text("one")).err().unwrap();
    assert!(matches!(error, RepoError::OtherMaster { key, generation: 1 } if key == other), "{error}");
    let error = repository.key_removal(&text("one"), &other.to_string()).unwrap_err();
    assert!(matches!(error, RepoError::OtherMaster { .. }), "{error}");
    let error = repository.key_removal(&text("one"), &one.to_string()).unwrap_err();
    assert!(matches!(error, RepoError::LastKey { .. }), "the other one does not open the same: {error}");
    assert_eq!(remote.keys().len(), 3);
}

#[test]
fn what_anybody_may_have_put_there_stops_no_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let (id, junk) = junk(CHEAP, 255);
    remote.memory.put(&keys::name_of(&id), &junk).unwrap();
    let plan = repository.plan_rotation(&passphrase()).unwrap();
    assert_eq!(plan.others, [id]);
    let rotated = repository.rotate(&passphrase(), plan, at(2)).unwrap();
    assert_eq!((rotated.generation, remote.keys().len()), (1, 1));
}

#[test]
fn keys_that_nobody_agreed_to_remove_are_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let plan = repository.plan_rotation(&passphrase()).unwrap();
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "").unwrap();
    let before = remote.keys();
    let error = repository.rotate(&passphrase(), plan, at(2)).unwrap_err();
    let RepoError::RotationStopped { source, .. } = error else { panic!("{error}") };
    assert!(matches!(*source, RepoError::KeysChange), "{source}");
    assert_eq!(remote.keys(), before);
}

/// A key object that nobody opens and anybody can write.
fn junk(params: ScryptParams, generation: u8) -> (KeyId, Vec<u8>) {
    let mut junk = key_v1::claim(generation, &[7; key_v1::CLAIM]);
    junk[10..13].copy_from_slice(&[params.log_n, params.r, params.p]);
    (KeyId(crypto::sha256(&junk)), junk)
}

#[test]
fn what_costs_most_to_try_is_tried_last() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, _) = rigged(dir.path());
    let (id, bytes) = junk(ScryptParams { log_n: 20, r: 8, p: 1 }, 255);
    remote.memory.put(&keys::name_of(&id), &bytes).unwrap();
    let order = keys::objects(&*remote, keys::names(&*remote).unwrap()).found;
    assert!(order.len() == 2 && order.last().is_some_and(|(last, _)| *last == id));
    // And not at all when another one opened.
    assert!(opens(&remote, &passphrase()).is_ok());
}

#[test]
fn of_a_passphrases_keys_the_newest_counts_whatever_it_costs() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let first = masters(&repository);
    let dear = ScryptParams { log_n: 11, r: 1, p: 1 };
    let later = first.clone().with(MasterKey::generate().unwrap()).unwrap();
    let secrets = Secrets::Owner(later.clone());
    let bundle = Bundle { secrets, created: 5, label: String::new() };
    keys::store(&*remote, repository.id(), &passphrase(), dear, &bundle, &later).unwrap();
    // A writer, who cannot tell what the others are, likewise.
    for (masters, params) in [(&first, CHEAP), (&later, dear)] {
        let writer = Keyring::of_owner(masters).for_writer(WriterKeyId([3; 24])).unwrap();
        let secrets = Secrets::Writer(Box::new(writer));
        let bundle = Bundle { secrets, created: 5, label: String::new() };
        keys::store(&*remote, repository.id(), &text("writer"), params, &bundle, masters).unwrap();
    }
    let order = keys::objects(&*remote, keys::names(&*remote).unwrap()).found;
    assert_eq!(key_v1::generation(&order[0].1), Some(0), "the cheap one is tried first");
    assert_eq!((generation(&repository, ""), generation(&repository, "writer")), (1, 1));
}

#[test]
fn a_generation_that_nobody_made_is_damage() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (remote, repository) = rigged(ours.path());
    let other = second(&remote, &repository, theirs.path());
    let mut planted = b"EXUV\x01\x04\x01\xff".to_vec();
    planted.resize(80, 7);
    let name = record_name(Folder::Gc, at(5), &ObjectId(crypto::sha256(&planted)));
    remote.memory.put(&name, &planted).unwrap();
    // Neither junk nor a rotation that has begun makes it true.
    for (id, bytes) in
        [junk(CHEAP, 255), keys::claim(repository.id(), 255, &masters(&repository), at(1)).unwrap()]
    {
        remote.memory.put(&keys::name_of(&id), &bytes).unwrap();
        let error = repository.condemned(&[name.clone()].into()).unwrap_err();
        assert!(error.class() == ErrorClass::Damaged && error.to_string().contains(&name), "{error}");
        assert!(repository.cache().key().is_some(), "the key that is kept here is as good as before");
        remote.memory.delete(&keys::name_of(&id)).unwrap();
    }
    remote.memory.delete(&name).unwrap();
    // After a rotation it is true.
    let plan = other.plan_rotation(&text("two")).unwrap();
    other.rotate(&text("two"), plan, at(6)).unwrap();
    let error = repository.condemned(&repository.gc_records().unwrap()).unwrap_err();
    assert!(error.is_rotated() && repository.cache().key().is_none(), "{error}");
}

#[test]
fn where_nothing_can_be_kept_everything_can_be_read_after_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(&dir.path().join("cache"));
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "").unwrap();
    // The cache is no folder.
    let nowhere = dir.path().join("file");
    std::fs::write(&nowhere, "").unwrap();
    let open = || {
        let handle: Arc<dyn Remote> = Arc::clone(&remote) as _;
        Repository::open(handle, &passphrase(), CachePlace { dir: &nowhere, keeps_key: true })
    };
    let rotating = open().unwrap();
    let rotated =
        rotating.rotate(&passphrase(), rotating.plan_rotation(&passphrase()).unwrap(), at(2)).unwrap();
    assert_eq!((rotated.removed.len(), rotated.left.len(), remote.keys().len()), (2, 0, 1));
    let opened = open().unwrap();
    assert_eq!(opened.sealer().keys.generation(), 1);
    for (told, repository) in [rotating, opened].iter().enumerate() {
        let troubles = repository.take_cache_troubles();
        assert!(!troubles.is_empty(), "{told}");
        assert!(troubles.iter().all(|error| matches!(error, RepoError::Cache { .. })), "{troubles:?}");
    }
}

#[test]
fn a_passphrase_costs_after_a_rotation_what_it_cost_before() {
    let dir = tempfile::tempdir().unwrap();
    let (_, repository) = rigged(dir.path());
    let dear = ScryptParams { log_n: 11, r: 1, p: 1 };
    repository.add_key(&passphrase(), &text("two"), dear, at(1), "").unwrap();
    assert_ne!(repository.plan_rotation(&passphrase()).unwrap().params, dear);
    assert_eq!(repository.plan_rotation(&text("two")).unwrap().params, dear);
}

#[test]
fn only_what_was_begun_for_the_next_generation_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (_, repository) = rigged(dir.path());
    let plan = repository.plan_rotation(&passphrase()).unwrap();
    let next = masters(&repository).with(MasterKey::from_bytes([1; 32])).unwrap();
    let bundle = Bundle { secrets: Secrets::Owner(next.clone()), created: 5, label: String::new() };
    let (_, key) = keys::seal(repository.id(), &passphrase(), CHEAP, &bundle, &next).unwrap();
    for (generation, goes_on) in [(1, true), (2, false), (0, false)] {
        let (_, claim) = keys::claim(repository.id(), generation, &next, at(1)).unwrap();
        repository.cache().note_rotation(&claim, &key);
        assert_eq!(repository.begun_rotation(&passphrase(), &plan).is_some(), goes_on, "{generation}");
    }
    // What looks like a claim is another key.
    repository.cache().note_rotation(&key, &key);
    assert!(repository.begun_rotation(&passphrase(), &plan).is_none());
}

#[test]
fn a_claim_that_is_gone_need_not_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    Rigged::set(&remote.delete, |_, name| Some(Err(RemoteError::NotFound { name: name.into() })));
    repository.withdraw(&KeyId([1; 32])).unwrap();
    Rigged::set(&remote.delete, |_, name| Some(Err(refused(Verb::Delete, name))));
    assert!(repository.withdraw(&KeyId([1; 32])).is_err());
}

#[test]
fn keys_that_change_while_a_rotation_claims_its_generation_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    type Tricks = fn(&Rigged, String, String);
    let gone: Tricks = |remote, current, _| {
        Rigged::set(&remote.put, move |memory, _| {
            memory.delete(&current).unwrap();
            None
        });
    };
    let vanishes: Tricks = |remote, _, other| {
        Rigged::set(&remote.get, move |_, name| {
            (name == other).then(|| Err(RemoteError::NotFound { name: name.into() }))
        });
    };
    let fails: Tricks = |remote, _, other| {
        Rigged::set(&remote.get, move |_, name| (name == other).then(|| Err(refused(Verb::Get, name))));
    };
    for (n, (trick, changed)) in [(gone, true), (vanishes, true), (fails, false)].into_iter().enumerate() {
        let (remote, repository) = rigged(&dir.path().join(n.to_string()));
        let current = remote.keys().remove(0);
        repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "").unwrap();
        let other = remote.keys().into_iter().find(|name| *name != current).unwrap();
        let plan = repository.plan_rotation(&passphrase()).unwrap();
        trick(&remote, current, other);
        let error = repository.rotate(&passphrase(), plan, at(2)).unwrap_err();
        let RepoError::RotationStopped { source, .. } = error else { panic!("{n}: {error}") };
        assert_eq!(matches!(*source, RepoError::KeysChange), changed, "{n}: {source}");
        remote.honest();
        assert_eq!(generation(&repository, "two"), 0);
    }
}
