//! Keys over a remote that fails, lies, or has somebody else at work.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use crate::crypto::{self, Passphrase, ScryptParams, spell_phrase};
use crate::format::key_description_v1::KeyKind;
use crate::format::key_v1::{self, Bundle, Randomness};
use crate::model::{Classify, ErrorClass, KeyId, ObjectId, Timestamp};
use crate::remote::{Listed, Memory, Remote, RemoteError, Verb};
use crate::repo::tests::{passphrase, repository_at};
use crate::repo::{CachePlace, RepoError, Repository, keys};

/// What is done in the place of a request; `None` leaves it to the remote.
pub(in crate::repo) type Trick = Box<dyn Fn(&Memory, &str) -> Option<Result<(), RemoteError>> + Send>;

/// A remote in memory whose next requests go another way.
#[derive(Default)]
pub(in crate::repo) struct Rigged {
    pub(in crate::repo) memory: Memory,
    /// `Some(Ok)` is for what fails only at times.
    pub(in crate::repo) get: Mutex<Option<Trick>>,
    pub(in crate::repo) put: Mutex<Option<Trick>>,
    pub(in crate::repo) delete: Mutex<Option<Trick>>,
    create: Mutex<Option<Trick>>,
}

impl Rigged {
    pub(in crate::repo) fn set(
        place: &Mutex<Option<Trick>>,
        trick: impl Fn(&Memory, &str) -> Option<Result<(), RemoteError>> + Send + 'static,
    ) {
        *place.lock().unwrap() = Some(Box::new(trick));
    }

    fn try_trick(&self, place: &Mutex<Option<Trick>>, name: &str) -> Option<Result<(), RemoteError>> {
        place.lock().unwrap().as_ref().and_then(|trick| trick(&self.memory, name))
    }

    pub(in crate::repo) fn honest(&self) {
        for place in [&self.get, &self.put, &self.delete, &self.create] {
            *place.lock().unwrap() = None;
        }
    }

    pub(in crate::repo) fn keys(&self) -> Vec<String> {
        self.memory.list("keys").unwrap().into_iter().map(|listed| listed.name).collect()
    }
}

pub(in crate::repo) fn refused(verb: Verb, name: &str) -> RemoteError {
    RemoteError::Io { verb, name: name.to_string(), source: ErrorKind::PermissionDenied.into() }
}

impl Remote for Rigged {
    fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        self.try_trick(&self.get, name).unwrap_or(Ok(()))?;
        self.memory.get(name, max)
    }
    fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
        self.memory.get_range(name, offset, len)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.try_trick(&self.put, name).unwrap_or_else(|| self.memory.put(name, bytes))
    }
    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        if let Some(done) = self.try_trick(&self.create, name) {
            return done;
        }
        self.memory.create(name, bytes)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
        self.memory.list(folder)
    }
    fn size(&self, name: &str) -> Result<u64, RemoteError> {
        self.memory.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.try_trick(&self.delete, name).unwrap_or_else(|| self.memory.delete(name))
    }
    fn location(&self) -> String {
        "rigged".into()
    }
}

pub(in crate::repo) const CHEAP: ScryptParams = ScryptParams { log_n: 10, r: 1, p: 1 };

pub(in crate::repo) fn text(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}

pub(in crate::repo) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// A repository of `passphrase()`, and its remote.
pub(in crate::repo) fn rigged(dir: &std::path::Path) -> (Arc<Rigged>, Repository) {
    let remote = Arc::new(Rigged::default());
    let repository = repository_at(&(Arc::clone(&remote) as Arc<dyn Remote>), dir);
    (remote, repository)
}

/// Opens as a machine does that has nothing but the passphrase.
pub(in crate::repo) fn opens(remote: &Arc<Rigged>, passphrase: &Passphrase) -> Result<(), RepoError> {
    let nowhere = tempfile::tempdir().unwrap();
    let handle: Arc<dyn Remote> = Arc::clone(remote) as _;
    Repository::open(handle, passphrase, CachePlace { dir: nowhere.path(), keeps_key: false }).map(drop)
}

fn init(remote: &Arc<Rigged>, passphrase: &Passphrase, dir: &std::path::Path) -> Result<(), RepoError> {
    let handle: Arc<dyn Remote> = Arc::clone(remote) as _;
    let caches = CachePlace { dir, keeps_key: true };
    Repository::init(&handle, passphrase, caches, CHEAP, Timestamp::default(), "first").map(drop)
}

#[test]
fn every_owner_sees_what_all_keys_are() {
    let dir = tempfile::tempdir().unwrap();
    let (_, repository) = rigged(dir.path());
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(20), "phone").unwrap();
    repository.add_key(&text("two"), &text("three"), CHEAP, at(10), "desk").unwrap();
    for (holder, current) in [(passphrase(), "test"), (text("two"), "phone"), (text("three"), "desk")] {
        let keys = repository.keys(&holder).unwrap();
        let described = |key: &super::KeyInfo| {
            let described = key.description.clone().unwrap();
            (described.label, described.created, described.kind, key.current)
        };
        let row = |label: &str, created| (label.to_owned(), created, KeyKind::Owner, label == current);
        // In the order in which they were made.
        assert_eq!(
            keys.iter().map(described).collect::<Vec<_>>(),
            [row("test", 0), row("desk", 10), row("phone", 20)]
        );
        assert!(keys.iter().all(|key| key.problem.is_none() && key.cost.is_some() && key.size > 0));
    }
    assert!(matches!(repository.keys(&text("four")), Err(RepoError::WrongKey { keys: 3, .. })));
}

#[test]
fn what_is_there_is_not_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, _) = rigged(dir.path());
    let name = remote.keys().remove(0);
    let bytes = remote.memory.get(&name, 1 << 16).unwrap();
    let id = KeyId(crypto::sha256(&bytes));
    Rigged::set(&remote.put, |_, name| Some(Err(refused(Verb::Put, name))));
    keys::put_once(&*remote, &id, &bytes).unwrap();
    // What is there is something else.
    remote.memory.tamper(&name, b"torn".to_vec());
    assert!(keys::put_once(&*remote, &id, &bytes).is_err());
    remote.honest();
    remote.memory.delete(&name).unwrap();
    keys::put_once(&*remote, &id, &bytes).unwrap();
    assert_eq!(remote.memory.get(&name, 1 << 16).unwrap(), bytes);
}

#[test]
fn a_passphrase_has_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let again = repository.add_key(&passphrase(), &passphrase(), CHEAP, at(1), "again");
    assert!(matches!(again, Err(RepoError::KeyKnown { .. })), "{again:?}");
    assert_eq!(remote.keys().len(), 1);
}

#[test]
fn what_does_not_read_back_is_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    Rigged::set(&remote.put, |memory, name| {
        memory.tamper(name, b"torn".to_vec());
        Some(Ok(()))
    });
    let (old, new) = (passphrase(), text("new"));
    assert!(matches!(repository.add_key(&old, &new, CHEAP, at(1), ""), Err(RepoError::KeyReadBack { .. })));
    assert!(matches!(repository.change_key(&old, &new, CHEAP, at(1)), Err(RepoError::KeyReadBack { .. })));
    assert!(opens(&remote, &old).is_ok() && opens(&remote, &new).is_err());
    // What lies there is listed, and can be removed.
    remote.honest();
    let keys = repository.keys(&old).unwrap();
    let bad: Vec<KeyId> = keys.iter().filter(|key| key.problem.is_some()).map(|key| key.id).collect();
    assert_eq!((keys.len(), bad.len()), (3, 2));
    for id in bad {
        repository.remove_key(&repository.key_removal(&old, &id.to_string()).unwrap()).unwrap();
    }
    assert_eq!(remote.keys().len(), 1);
    // The first key of a repository is read back too.
    let fresh = Arc::new(Rigged::default());
    Rigged::set(&fresh.put, |_, _| Some(Ok(())));
    assert!(init(&fresh, &old, dir.path()).is_err());
    assert!(fresh.memory.size("exuvia.json").is_err(), "no marker without a key");
}

#[test]
fn a_change_that_was_cut_off_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    Rigged::set(&remote.delete, |_, name| Some(Err(refused(Verb::Delete, name))));
    let (old, new) = (passphrase(), text("new"));
    let error = repository.change_key(&old, &new, CHEAP, at(1)).unwrap_err();
    assert!(matches!(error, RepoError::OldKeyStays { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Failed);
    assert!(opens(&remote, &old).is_ok() && opens(&remote, &new).is_ok());
    remote.honest();
    let change = repository.change_key(&old, &new, CHEAP, at(2)).unwrap();
    assert!(change.resumed && change.removed.len() == 1);
    assert_eq!(remote.keys().len(), 1);
    assert!(opens(&remote, &old).is_err() && opens(&remote, &new).is_ok());
    // Its label went with it.
    assert_eq!(repository.keys(&new).unwrap()[0].description.clone().unwrap().label, "test");
}

#[test]
fn a_changed_passphrase_opens_by_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    // A second key object of the same passphrase, as nothing makes it today.
    let bundle = super::keys::find(&*remote, repository.id(), &passphrase()).unwrap().bundle;
    let masters = super::keys::masters(&bundle).unwrap();
    super::keys::store(&*remote, repository.id(), &passphrase(), CHEAP, &bundle, masters).unwrap();
    let change = repository.change_key(&passphrase(), &text("new"), CHEAP, at(1)).unwrap();
    assert_eq!(change.removed.len(), 2);
    assert!(opens(&remote, &passphrase()).is_err() && opens(&remote, &text("new")).is_ok());
}

#[test]
fn of_two_who_remove_each_others_key_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "").unwrap();
    let keys = repository.keys(&passphrase()).unwrap();
    let of = |current| keys.iter().find(|key| key.current == current).unwrap().id;
    let (mine, theirs) = (of(true), of(false));
    let name = |key: KeyId| super::keys::name_of(&key);

    // They were faster, before we began to remove theirs.
    let removal = repository.key_removal(&passphrase(), &theirs.to_string()).unwrap();
    let object = remote.memory.get(&name(mine), 1 << 16).unwrap();
    remote.memory.delete(&name(mine)).unwrap();
    let error = repository.remove_key(&removal).unwrap_err();
    assert!(matches!(error, RepoError::KeysGone { put_back: false, .. }), "{error}");
    assert!(opens(&remote, &text("two")).is_ok());
    remote.memory.put(&name(mine), &object).unwrap();

    // They remove ours while we remove theirs.
    let ours = name(mine);
    Rigged::set(&remote.delete, move |memory, name| {
        memory.delete(&ours).unwrap();
        Some(memory.delete(name))
    });
    let error = repository.remove_key(&removal).unwrap_err();
    assert!(matches!(error, RepoError::KeysGone { put_back: true, .. }), "{error}");
    assert!(opens(&remote, &text("two")).is_ok());
}

#[test]
fn the_last_key_that_is_known_to_open_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let mine = repository.keys(&passphrase()).unwrap()[0].id.to_string();
    let last = |id: &str| match repository.key_removal(&passphrase(), id) {
        Err(RepoError::LastKey { .. }) => true,
        Ok(_) => false,
        Err(e) => panic!("{e}"),
    };
    assert!(last(&mine));
    // One that does not say what it is, as older programs made them, may be anything.
    let bundle = super::keys::find(&*remote, repository.id(), &passphrase()).unwrap().bundle;
    let bundle = Bundle { created: 5, label: "old".into(), ..bundle };
    let random = Randomness::generate().unwrap();
    let old = key_v1::seal(&bundle, repository.id(), &text("old"), CHEAP, &random).unwrap();
    let old_id = ObjectId(crypto::sha256(&old));
    remote.memory.put(&format!("keys/{old_id}"), &old).unwrap();
    let keys = repository.keys(&passphrase()).unwrap();
    assert!(
        keys.iter().any(|key| key.id.0 == old_id.0 && key.description.is_none() && key.problem.is_none())
    );
    assert!(last(&mine) && !last(&old_id.to_string()));
    // Its own passphrase knows it, and that the other is an owner's.
    assert!(repository.key_removal(&text("old"), &old_id.to_string()).is_ok());
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "").unwrap();
    assert!(!last(&mine));
    for id in ["", "nothing", "zz"] {
        assert!(matches!(repository.key_removal(&passphrase(), id), Err(RepoError::Key(_))), "{id}");
    }
}

/// A rotation that was cut off before it removed the older keys, and a holder of one of those.
#[test]
fn who_has_an_older_key_changes_none_of_the_newer_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "two").unwrap();
    Rigged::set(&remote.delete, |_, name| Some(Err(refused(Verb::Delete, name))));
    let plan = repository.plan_rotation(&passphrase()).unwrap();
    let newest = repository.rotate(&passphrase(), plan, at(2)).unwrap().key;
    remote.honest();
    let junk =
        [&b"EXUVIKEY\x01\x01\x0a\x01\x01\xff\0\0"[..], &[7; 88], &40u32.to_le_bytes(), &[7; 40]].concat();
    let junk_id = KeyId(crypto::sha256(&junk));
    remote.memory.put(&super::keys::name_of(&junk_id), &junk).unwrap();

    let before = remote.keys();
    let (two, three) = (text("two"), text("three"));
    let answers = [
        repository.key_removal(&two, &newest.to_string()).map(drop),
        repository.add_key(&two, &three, CHEAP, at(3), "").map(drop),
        repository.add_writer_key(&two, &three, CHEAP, at(3), "").map(drop),
        repository.change_key(&two, &three, CHEAP, at(3)).map(drop),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        let refused = matches!(answer, Err(RepoError::NewerKey { key, found: 0, seen: 1 }) if key == newest);
        assert!(refused, "{n}: {answer:?}");
    }
    assert_eq!(remote.keys(), before);
    // What anybody may have put there is in nobody's way.
    repository.remove_key(&repository.key_removal(&two, &junk_id.to_string()).unwrap()).unwrap();
    assert_eq!(remote.keys().len(), before.len() - 1);
    repository.add_key(&passphrase(), &three, CHEAP, at(3), "").unwrap();
}

#[test]
fn a_key_that_was_removed_here_is_never_kept_here_again() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    repository.add_key(&passphrase(), &text("two"), CHEAP, at(1), "").unwrap();
    let (id, kept) = repository.cache().key().unwrap();
    let removal = repository.key_removal(&text("two"), &id.to_string()).unwrap();
    repository.remove_key(&removal).unwrap();
    assert!(repository.cache().key().is_none());
    // As a backup does that opened the repository before and keeps its key after.
    repository.cache().keep_key(&id, &kept);
    assert!(repository.cache().key().is_none());
    assert!(super::keys::open_cached(repository.cache(), repository.id(), &passphrase()).is_none());
    let handle: Arc<dyn Remote> = Arc::clone(&remote) as _;
    let caches = CachePlace { dir: dir.path(), keeps_key: true };
    assert!(Repository::open(Arc::clone(&handle), &passphrase(), caches).is_err());
    assert!(Repository::open_for_backup(handle, &passphrase(), caches).is_err());
}

#[test]
fn a_recovery_phrase_opens_in_every_spelling() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, repository) = rigged(dir.path());
    let phrase = spell_phrase(&[9; 16]);
    let plain = String::from_utf8(phrase.as_bytes().to_vec()).unwrap();
    let short: Vec<&str> = plain.split(' ').map(|word| word.get(..4).unwrap_or(word)).collect();
    let spelled = short.join("\n").to_uppercase();
    // Stored in its one spelling, however it was given.
    repository.add_key(&passphrase(), &text(&spelled), CHEAP, at(1), "recovery").unwrap();
    for spelling in [plain.clone(), spelled.clone(), format!("  {plain}\r\n")] {
        assert!(opens(&remote, &text(&spelling)).is_ok(), "{spelling}");
    }
    let bundle = super::keys::find(&*remote, repository.id(), &phrase).unwrap();
    assert_eq!(bundle.passphrase.as_bytes(), plain.as_bytes());
    // From the cache, too.
    let caches = CachePlace { dir: dir.path(), keeps_key: true };
    for spelling in [&spelled, &plain, &spelled] {
        let handle: Arc<dyn Remote> = Arc::clone(&remote) as _;
        let repository = Repository::open(handle, &text(spelling), caches).unwrap();
        assert!(super::keys::open_cached(repository.cache(), repository.id(), &text(spelling)).is_some());
    }
    // One that is wrong opens nothing, and it is told why.
    let wrong = format!("{} exuvia", plain.rsplit_once(' ').unwrap().0);
    match opens(&remote, &text(&wrong)) {
        Err(RepoError::WrongKey { phrase: Some(problem), .. }) => {
            assert_eq!(problem, crypto::PhraseError::Unknown { number: 12 });
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(opens(&remote, &text("other")), Err(RepoError::WrongKey { phrase: None, .. })));
}

#[test]
fn an_init_that_was_cut_off_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Arc::new(Rigged::default());
    Rigged::set(&remote.create, |_, name| Some(Err(refused(Verb::Put, name))));
    assert!(init(&remote, &passphrase(), dir.path()).is_err());
    remote.honest();
    let left = remote.keys();
    assert_eq!(left.len(), 1);
    // The same passphrase, whose commitment the key object left behind has as well.
    init(&remote, &passphrase(), dir.path()).unwrap();
    assert!(opens(&remote, &passphrase()).is_ok());
    assert!(matches!(opens(&remote, &text("other")), Err(RepoError::WrongKey { .. })));
    assert_eq!(Repository::stray_keys(&*remote).unwrap(), 1);
    let handle: Arc<dyn Remote> = Arc::clone(&remote) as _;
    let caches = CachePlace { dir: dir.path(), keeps_key: true };
    let repository = Repository::open(handle, &passphrase(), caches).unwrap();
    let keys = repository.keys(&passphrase()).unwrap();
    let strange: Vec<_> = keys.iter().filter(|key| key.problem.is_some()).collect();
    assert!(
        keys.len() == 2 && strange.len() == 1 && left[0].ends_with(&strange[0].id.to_string()),
        "{keys:?}"
    );
    repository
        .remove_key(&repository.key_removal(&passphrase(), &strange[0].id.to_string()).unwrap())
        .unwrap();
    assert_eq!(repository.keys(&passphrase()).unwrap().len(), 1);
}

#[test]
fn a_repository_that_lost_its_marker_is_not_built_upon() {
    for folder in ["packs/00", "index", "snapshots", "safety"] {
        let dir = tempfile::tempdir().unwrap();
        let (remote, _) = rigged(dir.path());
        remote.memory.delete("exuvia.json").unwrap();
        remote.memory.put(&format!("{folder}/x"), b"x").unwrap();
        let keys = remote.keys();
        let again = init(&remote, &passphrase(), dir.path());
        assert!(matches!(again, Err(RepoError::NotEmpty { .. })), "{folder}: {again:?}");
        assert_eq!(remote.keys(), keys);
    }
}

#[test]
fn of_two_inits_at_once_one_wins_and_the_other_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Arc::new(Rigged::default());
    // Somebody else's marker arrives just before ours.
    let other = Arc::new(Rigged::default());
    init(&other, &text("other"), dir.path()).unwrap();
    let marker = other.memory.get("exuvia.json", 1 << 16).unwrap();
    Rigged::set(&remote.create, move |memory, name| {
        memory.put(name, &marker).unwrap();
        Some(Err(RemoteError::Exists { name: name.to_string() }))
    });
    assert!(matches!(init(&remote, &passphrase(), dir.path()), Err(RepoError::Exists { .. })));
    assert!(remote.keys().is_empty(), "the loser's key opens nothing");

    // Our own marker arrived, and only the answer was lost.
    struct Twice(Memory);
    impl Remote for Twice {
        fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
            self.0.get(name, max)
        }
        fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Vec<u8>, RemoteError> {
            self.0.get_range(name, offset, len)
        }
        fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
            self.0.put(name, bytes)
        }
        fn create(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
            self.0.put(name, bytes)?;
            Err(RemoteError::Exists { name: name.to_string() })
        }
        fn list(&self, folder: &str) -> Result<Vec<Listed>, RemoteError> {
            self.0.list(folder)
        }
        fn size(&self, name: &str) -> Result<u64, RemoteError> {
            self.0.size(name)
        }
        fn delete(&self, name: &str) -> Result<(), RemoteError> {
            self.0.delete(name)
        }
        fn location(&self) -> String {
            "twice".into()
        }
    }
    let twice: Arc<dyn Remote> = Arc::new(Twice(Memory::default()));
    let caches = CachePlace { dir: dir.path(), keeps_key: false };
    Repository::init(&twice, &passphrase(), caches, CHEAP, Timestamp::default(), "").unwrap();
    assert!(Repository::open(twice, &passphrase(), caches).is_ok());
}
