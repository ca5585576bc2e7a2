//! Damaged repositories: a check tells, and no restore writes wrong content under a right name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia::app::{
    self, BackupRequest, CheckRequest, InitRequest, Location, Passphrase, ReadData, RestoreRequest,
    ScryptParams, Session,
};
use exuvia::clock::SystemClock;
use exuvia::report::Silent;

use crate::support::{Picture, database, files, insert, noise, picture, prose, put, same, with_repository};

/// A repository of two snapshots in a few thousand bytes.
struct Small {
    dir: tempfile::TempDir,
    passphrase: Passphrase,
    /// What each snapshot holds.
    snapshots: BTreeMap<String, Picture>,
}

fn session(dir: &Path, passphrase: &Passphrase) -> Session {
    Session {
        repository: Location::Local(dir.join("repo")),
        passphrase: passphrase.clone(),
        cache_dir: dir.join("cache"),
        key_cache: true,
        monitor: Arc::new(Silent),
        clock: Arc::new(SystemClock::new()),
        threads: 1,
    }
}

fn take(session: &Session, root: &Path) -> String {
    let request = BackupRequest::new(root.to_path_buf());
    let outcome = app::backup(session, &request).unwrap();
    assert!(outcome.snapshot.complete, "{:?}", outcome.errors);
    outcome.id.unwrap().to_string()
}

fn restore(session: &Session, snapshot: &str, target: &Path) -> Result<bool, String> {
    let request = RestoreRequest {
        snapshot: snapshot.to_owned(),
        target: Some(target.to_path_buf()),
        state_dir: target.to_path_buf(),
        paths: Vec::new(),
        dry_run: false,
        verify: false,
        owner: false,
        set_id: false,
        devices: false,
    };
    let (_, outcome) = app::restore(session, &request).map_err(|e| e.to_string())?;
    Ok(outcome.errors.is_empty())
}

impl Small {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        put(&tree, "a.md", &prose(1, 900));
        put(&tree, "b/c.bin", &noise(2, 300));
        put(&tree, "b/empty", b"");
        std::os::unix::fs::symlink("../a.md", tree.join("b/link")).unwrap();
        let db = database(&tree.join("d.sqlite"), 2, 512);
        let passphrase = Passphrase::new(b"first".to_vec());
        let session = session(dir.path(), &passphrase);
        let params = ScryptParams::GENERATED;
        app::init(&session, &InitRequest { label: "one".into(), params }).unwrap();
        app::key_add(&session, &Passphrase::new(b"second".to_vec()), params, "two").unwrap();
        let mut snapshots = BTreeMap::new();
        snapshots.insert(take(&session, &tree), picture(&tree));
        put(&tree, "a.md", &prose(3, 1000));
        insert(&db, 1);
        snapshots.insert(take(&session, &tree), picture(&tree));
        assert_eq!(snapshots.len(), 2);
        let mut small = Self { dir, passphrase, snapshots };
        // The key that is tried first: half as many derivations for thousands of openings.
        let keys = app::key_list(&session).unwrap();
        if keys.iter().min_by_key(|key| key.id).is_some_and(|key| !key.current) {
            small.passphrase = Passphrase::new(b"second".to_vec());
        }
        small
    }

    /// Names and contents of all objects.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let repo = self.dir.path().join("repo");
        let name = |path: &Path| path.strip_prefix(&repo).unwrap().to_str().unwrap().to_owned();
        files(&repo).into_keys().map(|path| (name(&path), fs::read(&path).unwrap())).collect()
    }

    /// A copy to be damaged, without a cache.
    fn copy(&self) -> Copy<'_> {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in self.objects() {
            put(&dir.path().join("repo"), &name, &bytes);
        }
        Copy { small: self, session: session(dir.path(), &self.passphrase), dir }
    }
}

struct Copy<'a> {
    small: &'a Small,
    dir: tempfile::TempDir,
    session: Session,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// The repository does not open, or a check finds something.
    Told,
    /// Nobody noticed, and every snapshot that is left is what it was; so many are left.
    Harmless(usize),
}

impl Copy<'_> {
    fn object(&self, name: &str) -> PathBuf {
        self.dir.path().join("repo").join(name)
    }

    /// What comes of the damage; `what` names it.
    fn verdict(&self, what: &str) -> Verdict {
        match app::check(&self.session, &CheckRequest { read_data: ReadData::All }) {
            Err(_) => Verdict::Told,
            Ok(outcome) if !outcome.problems.is_empty() => Verdict::Told,
            Ok(_) => Verdict::Harmless(self.restores(what, true)),
        }
    }

    /// Restores all that is listed; what is written must be right, and be all when `whole`.
    fn restores(&self, what: &str, whole: bool) -> usize {
        let listed = match app::snapshots(&self.session, false) {
            Ok(listed) => listed,
            Err(e) if whole => panic!("{what}: a check found nothing, and yet {e}"),
            Err(_) => return 0,
        };
        for info in &listed {
            let id = info.id.to_string();
            let wanted = &self.small.snapshots[&id];
            let target = self.dir.path().join("restored");
            let done = restore(&self.session, &id, &target);
            if whole {
                assert_eq!(done, Ok(true), "{what}: a check found nothing");
                same(&picture(&target), wanted, what);
            } else if target.exists() {
                // Times of directories may be those of now, when not all was restored.
                for (path, shape) in picture(&target) {
                    assert!(shape.is_dir() || wanted.get(&path) == Some(&shape), "{what}: wrong {path:?}");
                }
            }
            if target.exists() {
                fs::remove_dir_all(&target).unwrap();
            }
        }
        listed.len()
    }
}

/// Calls `each` for all numbers below `count`, in threads that each have a copy of their own.
fn in_parallel(small: &Small, count: usize, each: impl Fn(&Copy<'_>, usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let copy = small.copy();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    each(&copy, number);
                }
            });
        }
    });
}

#[test]
fn every_byte_of_every_object_matters_or_does_no_harm() {
    let small = Small::new();
    let objects = small.objects();
    for folder in ["exuvia.json", "keys/", "packs/", "index/", "snapshots/"] {
        assert!(objects.keys().any(|name| name.starts_with(folder)), "{folder}");
    }
    let total: usize = objects.values().map(Vec::len).sum();
    assert!(total < 20_000, "{total} bytes");
    assert_eq!(small.copy().verdict("nothing"), Verdict::Harmless(2));
    let bytes: Vec<(&String, usize)> =
        objects.iter().flat_map(|(name, bytes)| (0..bytes.len()).map(move |at| (name, at))).collect();
    in_parallel(&small, bytes.len(), |copy, number| {
        let (name, at) = bytes[number];
        let file = File::options().write(true).open(copy.object(name)).unwrap();
        let old = objects[name][at];
        let new = old ^ (1 << (at % 8));
        file.write_all_at(&[new], at as u64).unwrap();
        let what = format!("byte {at} of {name}: {new} for {old}");
        let verdict = copy.verdict(&what);
        // Of the marker, the time is for people, and spaces and unknown keys mean nothing.
        assert!(
            verdict == Verdict::Told || name == "exuvia.json" && verdict == Verdict::Harmless(2),
            "{what}"
        );
        if number % 16 == 0 {
            copy.restores(&what, false);
        }
        file.write_all_at(&[old], at as u64).unwrap();
    });
}

#[test]
fn objects_that_are_cut_or_gone_are_missed() {
    let small = Small::new();
    let objects = small.objects();
    let names: Vec<&String> = objects.keys().collect();
    in_parallel(&small, names.len(), |copy, number| {
        let name = names[number];
        let (path, bytes) = (copy.object(name), &objects[name]);
        for len in [bytes.len() - 1, bytes.len() / 2, 0] {
            fs::write(&path, &bytes[..len]).unwrap();
            let what = format!("{name} cut to {len} bytes");
            let verdict = copy.verdict(&what);
            // The marker ends with a line feed that means nothing.
            let harmless = name == "exuvia.json" && len + 1 == bytes.len() && verdict == Verdict::Harmless(2);
            assert!(verdict == Verdict::Told || harmless, "{what}");
            copy.restores(&what, false);
        }
        let long = [bytes.as_slice(), b"\n"].concat();
        fs::write(&path, long).unwrap();
        let what = format!("{name} with a byte more");
        let verdict = copy.verdict(&what);
        assert!(verdict == Verdict::Told || name == "exuvia.json", "{what}: {verdict:?}");
        fs::remove_file(&path).unwrap();
        let what = format!("{name} removed");
        match copy.verdict(&what) {
            Verdict::Told => {}
            // A key is removed by its owner too, and so is a snapshot; the others do not suffer.
            Verdict::Harmless(left) => {
                let expected = if name.starts_with("snapshots/") { 1 } else { 2 };
                assert!(
                    left == expected && !name.starts_with("packs/") && !name.starts_with("index/"),
                    "{what}"
                );
            }
        }
        copy.restores(&what, false);
        fs::write(&path, bytes).unwrap();
    });
}

#[test]
fn objects_under_the_name_of_another_are_told() {
    let small = Small::new();
    let objects = small.objects();
    let names: Vec<&String> = objects.keys().collect();
    let pairs: Vec<(&String, &String)> = (0..names.len())
        .flat_map(|a| names[a + 1..].iter().map(move |b| (a, *b)))
        .map(|(a, b)| (names[a], b))
        .collect();
    let kind = |name: &str| name.split('/').next().unwrap().to_owned();
    for folder in ["keys", "packs", "index", "snapshots"] {
        assert!(pairs.iter().any(|(a, b)| kind(a) == folder && kind(b) == folder), "no two of {folder}");
    }
    in_parallel(&small, pairs.len(), |copy, number| {
        let (a, b) = pairs[number];
        fs::write(copy.object(a), &objects[b]).unwrap();
        fs::write(copy.object(b), &objects[a]).unwrap();
        let what = format!("{a} and {b} exchanged");
        assert_eq!(copy.verdict(&what), Verdict::Told, "{what}");
        copy.restores(&what, false);
        fs::write(copy.object(a), &objects[a]).unwrap();
        fs::write(copy.object(b), &objects[b]).unwrap();
    });
}

#[test]
fn a_snapshot_under_another_time_or_kind_is_told() {
    let small = Small::new();
    let copy = small.copy();
    for name in small.objects().keys().filter(|name| name.starts_with("snapshots/")) {
        let id = name.rsplit('-').next().unwrap();
        for other in [format!("snapshots/2001-01-01T00-00-00Z-{id}"), name.replace("snapshots/", "safety/")] {
            let (from, to) = (copy.object(name), copy.object(&other));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(&from, &to).unwrap();
            assert_eq!(copy.verdict(&other), Verdict::Told, "{other}");
            fs::rename(&to, &from).unwrap();
        }
    }
}

/// What a user meets: which paths a damaged pack hurts, and a restore of the rest.
#[test]
fn a_damaged_pack_names_whom_it_hurts() {
    let place = with_repository();
    let tree = place.path("tree");
    // In a pack of its own: frames are stored in the order in which threads are done with them.
    put(&tree, "m/big \u{e9}.bin", &noise(2, 6 << 20));
    let alone = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    put(&tree, "a.md", &prose(1, 30_000));
    put(&tree, "z.md", &prose(3, 30_000));
    let db = database(&tree.join("d.sqlite"), 50, 4096);
    let first = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    put(&tree, "z.md", &prose(4, 30_000));
    insert(&db, 5);
    let second = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    let wanted = picture(&tree);
    let big = Path::new("m/big \u{e9}.bin");

    let packs = files(&place.path("repo/packs"));
    let (pack, size) = packs.iter().max_by_key(|(_, size)| **size).unwrap();
    let file = File::options().read(true).write(true).open(pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, size / 2).unwrap();
    file.write_all_at(&[!byte[0]], size / 2).unwrap();

    // The structure is sound: only who reads the data can know.
    place.run(&["check"]).exits(0);
    let run = place.run(&["--json", "check", "--read-data"]).exits(13);
    let summary = run.summary();
    assert_eq!(summary["ok"], false);
    let problems = summary["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(problems[0]["object"].as_str().unwrap().ends_with(name), "{problems:?}");
    let mut hurt: Vec<&str> =
        problems[0]["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    hurt.sort_unstable();
    let mut expected: Vec<String> = [&alone, &first, &second]
        .iter()
        .map(|id| format!("{}:{}", &id[..hurt[0].find(':').unwrap()], big.display()))
        .collect();
    expected.sort();
    assert_eq!(hurt, expected);
    let words = place.run(&["check", "--read-data"]).exits(13);
    assert!(words.text().contains(&expected[0]) && words.text().contains(name), "{}", words.text());

    let run = place.run(&["restore", &second, "--to", "out"]).exits(13);
    assert!(run.stderr.contains("m/big \u{e9}.bin"), "{}", run.stderr);
    let found = picture(&place.path("out"));
    assert!(!found.contains_key(big), "a wrong file has the right name");
    let mut rest = wanted.clone();
    rest.remove(big);
    // Nothing else is missing or wrong, and nothing unfinished is left.
    same(&found, &rest, "the other files");
    // Over a tree that is whole, a restore that cannot finish a file leaves the old one alone.
    fs::write(place.path("out").join(big), b"mine").unwrap();
    place.run(&["restore", &second, "--to", "out"]).exits(13);
    assert_eq!(fs::read(place.path("out").join(big)).unwrap(), b"mine");
    // What is not hurt restores without a word.
    place.run(&["restore", &second, "--to", "part", "--path", "z.md", "--path", "d.sqlite"]).exits(0);
    // A backup that reads everything anew repairs nothing silently: the damage stays known.
    place.run(&["check", "--read-data"]).exits(13);
}
