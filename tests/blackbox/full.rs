//! Full archives from outside: beside the programs that users have, under writers and kills, against archives that
//! mean harm, and on their way into the repository and out of it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{
    Numbers, PASSPHRASE, Picture, Place, Run, Shape, database, ended, files, insert, names, noise, picture,
    prose, put, same, until, with_repository,
};

/// A place whose state dir is `state/.agent`.
fn with_state() -> (Place, PathBuf) {
    let mut place = with_repository();
    place.set("EXUVIA_STATE_DIR", "state/.agent");
    let state = place.path("state/.agent");
    fs::create_dir_all(&state).unwrap();
    (place, state)
}

/// A tree with all that a tar stream has to carry.
fn fill(state: &Path) {
    put(state, "openclaw.json", b"{}");
    put(state, "notes/long.md", &prose(1, 3 << 20));
    put(state, "notes/noise", &noise(2, 2 << 20));
    put(state, "empty", b"");
    put(state, OsStr::from_bytes(b"odd \n\\ name").to_str().unwrap(), b"odd");
    fs::write(state.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), b"bytes").unwrap();
    let deep = format!("{}/{}", "d".repeat(120), "e".repeat(200));
    put(state, &deep, b"a long name");
    fs::hard_link(state.join("notes/noise"), state.join("zz-second-name")).unwrap();
    symlink("notes/long.md", state.join("link")).unwrap();
    symlink("l".repeat(300), state.join("long-link")).unwrap();
    let sparse = fs::File::create(state.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 5 << 20).unwrap();
    insert(&database(&state.join("m/a.sqlite"), 400, 4096), 10);
}

/// Everything below a folder; the folder itself is whoever's who made it.
fn inside(dir: &Path) -> Picture {
    let mut picture = picture(dir);
    picture.remove(Path::new(""));
    picture
}

/// The same without times, of which many a tar stream has whole seconds only.
fn timeless(dir: &Path) -> Picture {
    let mut picture = inside(dir);
    picture.values_mut().for_each(Shape::forget_times);
    picture
}

fn list(place: &Place) -> Vec<Value> {
    place.run(&["--json", "full", "list"]).exits(0).summary().as_array().unwrap().clone()
}

fn name(summary: &Value) -> String {
    summary["archive"].as_str().unwrap().to_owned()
}

fn create(place: &Place, args: &[&str]) -> Value {
    let args: Vec<&str> = ["--json", "full", "create"].iter().chain(args).copied().collect();
    place.run(&args).exits(0).summary()
}

/// Runs a shell pipeline of the standard programs; any of its parts may fail it.
#[track_caller]
fn shell(dir: &Path, script: &str) {
    let run =
        Command::new("bash").arg("-c").arg(format!("set -euo pipefail; {script}")).current_dir(dir).output();
    let run = run.unwrap();
    assert!(run.status.success(), "{script}: {}", String::from_utf8_lossy(&run.stderr));
}

const DECRYPT: &str = "openssl enc -d -aes-256-cbc -pbkdf2 -iter 100000 -pass 'pass:correct horse'";
const ENCRYPT: &str = "openssl enc -aes-256-cbc -salt -pbkdf2 -iter 100000 -pass 'pass:correct horse'";

#[test]
fn an_archive_is_listed_verified_and_comes_back() {
    let (place, state) = with_state();
    fill(&state);
    let made = create(&place, &["--tag", "first"]);
    assert_eq!((&made["complete"], &made["form"]), (&true.into(), &"sealed".into()));
    assert_eq!(made["sqlite_databases"], 1);
    let listed = list(&place);
    assert_eq!(listed.len(), 1);
    for (key, wanted) in [("state", "complete"), ("form", "sealed"), ("name", &name(&made))] {
        assert_eq!(listed[0][key], wanted);
    }
    assert_eq!(listed[0]["tags"][0], "first");
    let verified = place.run(&["--json", "full", "verify"]).exits(0).summary();
    assert_eq!((&verified["ok"], &verified["databases_checked"]), (&true.into(), &1.into()));
    let restored = place.run(&["--json", "full", "restore"]).exits(0).summary();
    let target = place.path("state/.exuvia-restore").join(name(&made));
    assert_eq!(restored["target"], target.to_str().unwrap());
    same(&inside(&target), &inside(&state), "restored");
    let links = |path: &str| fs::metadata(target.join(path)).unwrap().ino();
    assert_eq!(links("notes/noise"), links("zz-second-name"));
    assert!(fs::metadata(target.join("sparse")).unwrap().blocks() < 4096, "holes stay holes");
    // A second one lies beside the first; a folder that is named must be new.
    place.run(&["full", "restore"]).exits(0);
    place.run(&["full", "restore", "--to", "state/.agent"]).exits(2);
    // A part of it.
    place.run(&["full", "restore", "--path", "notes", "--to", "part"]).exits(0);
    assert_eq!(names(&place.path("part")), ["notes"]);
    place.run(&["full", "restore", "--path", "nothing", "--to", "part2"]).exits(2);
    assert!(!place.path("part2").exists());
}

#[test]
fn openssl_and_tar_read_our_archives() {
    let (place, state) = with_state();
    fill(&state);
    for (args, read) in [
        (&["--form", "openssl"][..], format!("{DECRYPT} -in repo/full/*.enc | tar xz -C out")),
        (&["--no-encrypt"], "tar xzf repo/full/*.tar.gz -C out".to_owned()),
        (&["--no-encrypt"], "gzip -dc < $(ls repo/full/*.tar.gz | tail -1) | tar x -C out".to_owned()),
    ] {
        let made = create(&place, args);
        fs::create_dir(place.path("out")).unwrap();
        shell(place.path("").as_path(), &read);
        shell(&place.path("repo/full"), &format!("sha256sum -c {}.sha256", name(&made)));
        same(&inside(&place.path("out/.agent")), &inside(&state), &read);
        fs::remove_dir_all(place.path("out")).unwrap();
    }
    // Parts of the state dir have names that begin in it.
    create(&place, &["--no-encrypt", "--include", "config"]);
    fs::create_dir(place.path("out")).unwrap();
    shell(place.path("").as_path(), "tar xzf $(ls repo/full/*.tar.gz | tail -1) -C out");
    assert_eq!(names(&place.path("out")), ["openclaw.json"]);
}

#[test]
fn archives_of_tar_and_openssl_are_read_by_us() {
    let (mut place, state) = with_state();
    fill(&state);
    // The database is captured by nobody here: without its log it is what tar can carry.
    fs::remove_dir_all(state.join("m")).unwrap();
    let old = place.path("old");
    fs::create_dir(&old).unwrap();
    for (number, format) in
        ["--format=gnu", "--format=pax", "--format=gnu -S", "--format=pax -S"].iter().enumerate()
    {
        let tar = format!("tar c {format} -C ../state .agent");
        shell(&old, &format!("{tar} | gzip > backup-2025010{}T000000Z.tar.gz", number + 1));
        shell(&old, &format!("{tar} | gzip | {ENCRYPT} > backup-2025020{}T000000Z.tar.gz.enc", number + 1));
    }
    let listed = place.run(&["--json", "full", "list", "--from", "old"]).exits(0).summary();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 8);
    // No repository is needed, and the passphrase is that of the archives.
    place
        .set("EXUVIA_REPO", "nowhere")
        .set("EXUVIA_FULL_PASSPHRASE", PASSPHRASE)
        .set("EXUVIA_PASSPHRASE", "x");
    for one in listed {
        assert_eq!(one["state"], "unverified");
        let name = one["name"].as_str().unwrap();
        place.run(&["full", "restore", name, "--from", "old", "--to", "out"]).exits(0);
        same(&timeless(&place.path("out/.agent")), &timeless(&state), name);
        fs::remove_dir_all(place.path("out")).unwrap();
        place.run(&["full", "verify", name, "--from", "old"]).exits(0);
    }
    place.set("EXUVIA_FULL_PASSPHRASE", "wrong");
    let run = place.run(&["--json", "full", "restore", "--from", "old", "--to", "out"]).exits(12);
    assert!(run.error()["message"].as_str().unwrap().contains("passphrase is wrong"), "{}", run.stderr);
    assert!(!place.path("out").exists());
}

/// Rows are committed all the time; each archive must hold a prefix of them.
#[test]
fn databases_in_use_are_whole() {
    let (place, state) = with_state();
    put(&state, "before", &noise(1, 1 << 20));
    let path = state.join("m/live.sqlite");
    drop(database(&path, 3000, 4096));
    let (stop, written) = (AtomicBool::new(false), AtomicI64::new(0));
    let windows = std::thread::scope(|scope| {
        scope.spawn(|| {
            let db = Connection::open(&path).unwrap();
            db.busy_timeout(Duration::from_secs(20)).unwrap();
            db.execute_batch("create table if not exists n (n integer primary key)").unwrap();
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                db.execute_batch("begin immediate").unwrap();
                db.execute("insert into n values (?1)", [n]).unwrap();
                db.execute("update t set body = randomblob(200) where id = ?1", [n % 3000]).unwrap();
                db.execute_batch("commit").unwrap();
                written.store(n, Ordering::SeqCst);
            }
        });
        // The writer stops however this ends.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut windows = Vec::new();
            for form in ["sealed", "openssl", "sealed"] {
                let before = written.load(Ordering::SeqCst);
                let made = create(&place, &["--form", form]);
                windows.push((before, name(&made), written.load(Ordering::SeqCst)));
            }
            windows
        }));
        stop.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    for (before, name, after) in windows {
        let verified = place.run(&["--json", "full", "verify", &name]).exits(0).summary();
        assert_eq!(verified["databases_checked"], 1);
        place.run(&["full", "restore", &name, "--to", "out"]).exits(0);
        let restored = files(&place.path("out"));
        let image = restored.keys().find(|path| path.ends_with("m/live.sqlite")).unwrap();
        assert!(!image.with_extension("sqlite-wal").exists());
        let db = Connection::open(image).unwrap();
        let int = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let (count, last) = (int("select count(*) from n"), int("select coalesce(max(n), 0) from n"));
        assert_eq!(count, last, "no row is missing in between");
        assert!((before..=after + 1).contains(&last), "{before} <= {last} <= {after}");
        drop(db);
        fs::remove_dir_all(place.path("out")).unwrap();
    }
}

/// Every archive that is said to be whole is so.
fn all_are_sound(place: &Place, wanted: &Picture) -> usize {
    let mut whole = 0;
    for one in list(place) {
        let name = one["name"].as_str().unwrap();
        match one["state"].as_str().unwrap() {
            "complete" => {
                place.run(&["full", "verify", name]).exits(0);
                place.run(&["full", "restore", name, "--to", "sound"]).exits(0);
                let found = place.path("sound");
                let found = if found.join(".agent").exists() { found.join(".agent") } else { found };
                same(&inside(&found), wanted, name);
                fs::remove_dir_all(place.path("sound")).unwrap();
                whole += 1;
            }
            "partial" => drop(place.run(&["full", "restore", name, "--to", "sound"]).exits(13)),
            other => panic!("{name} is {other}"),
        }
    }
    whole
}

#[test]
fn archives_that_are_killed_never_look_whole() {
    const KILLS: u64 = 20;
    let (place, state) = with_state();
    put(&state, "a", &noise(1, 5 << 20));
    put(&state, "b", &prose(2, 1 << 20));
    let wanted = inside(&state);
    let mut numbers = Numbers::new(11);
    let size = create(&place, &[])["stored_bytes"].as_u64().unwrap();
    let (mut kills, mut finished) = (0, 1);
    for _ in 0..4 * KILLS {
        if kills == KILLS {
            break;
        }
        let form = if numbers.below(2) == 0 { "sealed" } else { "openssl" };
        let stored = || files(&place.path("repo/full")).into_values().sum::<u64>();
        let limit = stored() + numbers.below(size);
        let mut child = place.start(&["full", "create", "--form", form]);
        while stored() < limit && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        match ended(child).code {
            None => kills += 1,
            Some(code) => {
                assert_eq!(code, 0);
                finished += 1;
            }
        }
        let complete = list(&place).iter().filter(|one| one["state"] == "complete").count();
        // One that was killed in its last moment may be whole.
        assert!((finished..=finished + usize::try_from(kills).unwrap()).contains(&complete));
    }
    assert_eq!(kills, KILLS);
    assert!(all_are_sound(&place, &wanted) >= finished);
}

#[test]
fn without_its_mark_an_archive_is_partial() {
    let (place, state) = with_state();
    put(&state, "a", &noise(1, 100_000));
    let first = name(&create(&place, &[]));
    let second = name(&create(&place, &["--form", "openssl"]));
    fs::remove_file(place.path("repo/full").join(format!("{second}.mark"))).unwrap();
    assert_eq!(list(&place)[1]["state"], "partial");
    // The newest whole one is the other; the partial one is taken only on request.
    let latest = place.run(&["--json", "full", "restore", "--to", "out"]).exits(0).summary();
    assert_eq!(latest["archive"], *first);
    place.run(&["full", "restore", &second, "--to", "out2"]).exits(13);
    place.run(&["full", "verify", &second]).exits(13);
    assert!(!place.path("out2").exists());
    place.run(&["full", "restore", &second, "--to", "out2", "--allow-partial"]).exits(0);
    same(&inside(&place.path("out2/.agent")), &inside(&state), "partial");
    // Only the mark is there.
    fs::remove_file(place.path("repo/full").join(&first)).unwrap();
    assert_eq!(list(&place)[0]["state"], "lost");
    let error = place.run(&["--json", "full", "restore", "--to", "out3"]).exits(1).error();
    assert!(error["message"].as_str().unwrap().contains("no whole full archive"));
}

#[test]
fn an_archive_that_was_changed_is_found_out() {
    let (place, state) = with_state();
    for n in 0..8 {
        put(&state, &format!("f{n}"), &noise(n, 1 << 20));
    }
    for form in ["sealed", "openssl"] {
        let name = name(&create(&place, &["--form", form]));
        let path = place.path("repo/full").join(&name);
        let good = fs::read(&path).unwrap();
        for at in [good.len() / 2, good.len() - 3] {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            place.run(&["full", "verify", &name]).exits(13);
            place.run(&["full", "restore", &name, "--to", "out"]).exits(13);
            assert!(!place.path("out").exists());
            let left = names(place.path("").as_path()).into_iter().find(|n| n.starts_with("out.partial"));
            fs::remove_dir_all(place.path(&left.unwrap())).unwrap();
        }
        // One that was cut has another length than its mark says.
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        place.run(&["full", "restore", &name, "--to", "out"]).exits(13);
        fs::write(&path, &good).unwrap();
        place.run(&["full", "verify", &name]).exits(0);
    }
    // The mark of another archive says nothing of this one.
    let (one, two) = (name(&create(&place, &[])), name(&create(&place, &[])));
    let mark = |name: &str| place.path("repo/full").join(format!("{name}.mark"));
    fs::copy(mark(&one), mark(&two)).unwrap();
    place.run(&["full", "verify", &two]).exits(13);
    assert_eq!(list(&place).last().unwrap()["state"], "damaged");
}

#[test]
fn a_writer_key_makes_archives_and_reads_none() {
    let (mut place, state) = with_state();
    put(&state, "a", b"content");
    place.write("writer.pass", "writer passphrase\n");
    place
        .run(&["key", "add", "--write-only", "--new-passphrase-file", "writer.pass", "--kdf-log-n", "15"])
        .exits(0);
    place.set("EXUVIA_PASSPHRASE", "writer passphrase");
    // It removes none either, which is no failure of what it made.
    place.write("home/.config/exuvia/config.toml", "[full]\nretention = 1\n");
    let name = name(&create(&place, &["--prune"]));
    assert_eq!(list(&place)[0]["state"], "sealed");
    place.run(&["full", "restore", &name, "--to", "out"]).exits(12);
    place.set("EXUVIA_PASSPHRASE", PASSPHRASE);
    place.run(&["full", "restore", &name, "--to", "out"]).exits(0);
    same(&inside(&place.path("out")), &inside(&state), "of a writer key");
    // Whatever opens the bytes, without the mark nothing tells whether they are what was stored.
    place.set("EXUVIA_PASSPHRASE", "writer passphrase");
    let plain = self::name(&create(&place, &["--no-encrypt"]));
    place.run(&["full", "verify", &plain]).exits(12);
    place.run(&["full", "restore", &plain, "--to", "plain"]).exits(12);
    place.run(&["full", "restore", &plain, "--to", "plain", "--allow-partial"]).exits(0);
    place.set("EXUVIA_PASSPHRASE", PASSPHRASE);
    place.run(&["full", "verify", &plain]).exits(0);
    fs::remove_file(place.path(&format!("repo/full/{plain}.mark"))).unwrap();
    fs::remove_file(place.path(&format!("repo/full/{plain}"))).unwrap();
    // What a stolen writer key adds pushes out none of the owner's.
    assert!(list(&place)[0]["writer_key"].is_string());
    let own = self::name(&create(&place, &[]));
    place.set("EXUVIA_PASSPHRASE", "writer passphrase");
    for _ in 0..3 {
        create(&place, &[]);
    }
    place.set("EXUVIA_PASSPHRASE", PASSPHRASE);
    place.run(&["full", "prune", "--keep-last", "1", "--yes"]).exits(0);
    let left = list(&place);
    assert_eq!((left.len(), left[0]["name"].as_str().unwrap()), (2, own.as_str()));
}

#[test]
fn an_archive_that_is_interrupted_leaves_nothing() {
    let (place, state) = with_state();
    put(&state, "a", &noise(1, 24 << 20));
    let mut child = place.start(&["--json", "full", "create"]);
    let stored = || files(&place.path("repo/full")).into_values().sum::<u64>();
    while stored() < 1 << 20 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = ended(child).exits(130);
    assert_eq!(run.error()["class"], "interrupted");
    assert!(files(&place.path("repo/full")).is_empty());
}

#[test]
fn the_daemon_makes_archives_and_keeps_those_that_its_rules_name() {
    let (mut place, state) = with_state();
    put(&state, "a", b"content");
    place.write(
        "home/.config/exuvia/config.toml",
        "[full]\nform = \"openssl\"\nretention = 2\n[schedule]\nbackup = \"off\"\nprune = \"off\"\ncheck = \"off\"\n",
    );
    place.write("pass", PASSPHRASE);
    for _ in 0..3 {
        create(&place, &["--prune"]);
    }
    assert_eq!(list(&place).len(), 2);
    // The commands of the daemon get no passphrase from the environment.
    let pass = place.path("pass").to_str().unwrap().to_owned();
    place.set("EXUVIA_PASSPHRASE_FILE", &pass).set("EXUVIA_TEST_INTERVALS", "full=1");
    let newest = || list(&place).last().unwrap()["name"].as_str().unwrap().to_owned();
    let before = newest();
    let daemon = place.start(&["daemon"]);
    until("an archive of the daemon", || newest() > before);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    ended(daemon);
    let made = newest();
    assert!(made.ends_with(".tar.gz.enc"), "{made}");
    place.run(&["full", "verify"]).exits(0);
}

/// A header of a tar stream as POSIX has it.
fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0001750");
    block[116..123].copy_from_slice(b"0001750");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn member(name: &[u8], kind: u8, data: &[u8], link: &[u8]) -> Vec<u8> {
    let mut member = header(name, kind, data.len() as u64, link);
    member.extend_from_slice(data);
    member.resize(member.len().div_ceil(512) * 512, 0);
    member
}

fn file(name: &str, data: &[u8]) -> Vec<u8> {
    member(name.as_bytes(), b'0', data, b"")
}

/// Packs members and puts them where archives of another program lie.
fn plant(place: &Place, members: &[Vec<u8>]) {
    let mut tar = members.concat();
    tar.extend_from_slice(&[0; 1024]);
    let archive = fs::File::create(place.path("evil/backup-20250101T000000Z.tar.gz")).unwrap();
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(archive).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(&tar).unwrap();
    assert!(gzip.wait().unwrap().success());
}

/// What a restore of planted members ends with; whatever that is, nothing outside of its folder is touched.
#[track_caller]
fn harmless(place: &Place, members: &[Vec<u8>]) -> Run {
    plant(place, members);
    let outside = |place: &Place| picture(&place.path("outside"));
    let before = outside(place);
    let run = place.run(&["--json", "full", "restore", "--from", "evil", "--to", "deep/er/out"]);
    same(&outside(place), &before, &run.stderr);
    let beside = names(&place.path("deep"));
    assert!(beside.is_empty() || beside == ["er"], "{beside:?}");
    for left in names(&place.path("deep/er")) {
        assert!(left == "out" || left.starts_with("out.partial"), "{left}");
    }
    run
}

#[test]
fn archives_that_mean_harm_are_refused() {
    let place = with_repository();
    fs::create_dir(place.path("evil")).unwrap();
    put(&place.path("outside"), "victim", b"untouched");
    let outside = place.path("outside").to_str().unwrap().to_owned();
    let to = |path: &str| path.as_bytes().to_vec();
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("absolute", vec![file(&format!("{outside}/new"), b"x")]),
        ("..", vec![file("../../../outside/new", b"x")]),
        (".. within", vec![file("a/../../../../outside/new", b"x")]),
        ("empty", vec![file("", b"x")]),
        ("through a link", vec![member(b"l", b'2', b"", b"."), file("l/new", b"x")]),
        (
            "through a link of a link",
            vec![member(b"a", b'2', b"", b"b"), member(b"b", b'2', b"", b"c"), file("a/c/new", b"x")],
        ),
        ("over a link", vec![member(b"l", b'2', b"", b"x"), file("l", b"x")]),
        ("a folder over a link", vec![member(b"l", b'2', b"", b"x"), member(b"l/", b'5', b"", b"")]),
        ("a link over a file", vec![file("l", b"x"), member(b"l", b'2', b"", b"x")]),
        ("a hard link out", vec![member(b"h", b'1', b"", &to(&format!("{outside}/victim")))]),
        ("a hard link up", vec![member(b"h", b'1', b"", b"../../../outside/victim")]),
        ("a hard link to nothing", vec![member(b"h", b'1', b"", b"victim")]),
        ("a file as a folder", vec![file("a", b"x"), file("a/b", b"x")]),
        ("a folder as a file", vec![member(b"a/", b'5', b"", b""), file("a", b"x")]),
        (
            "a long name that leads up",
            vec![member(b"././@LongLink", b'L', b"../../../outside/new\0", b""), file("short", b"x")],
        ),
        (
            "a pax name that leads up",
            vec![member(b"pax", b'x', b"29 path=../../../outside/new\n", b""), file("short", b"x")],
        ),
        ("a pax record of no length", vec![member(b"pax", b'x', b"0 path=a\n", b""), file("short", b"x")]),
        ("a size that is not there", vec![header(b"huge", b'0', 0o77_777_777_777, b"")]),
        ("no header", vec![vec![b'x'; 512]]),
    ];
    for (what, members) in cases {
        let run = harmless(&place, &members);
        assert_eq!(run.code, Some(13), "{what}: {}", run.stderr);
        let message = run.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("backup-20250101T000000Z.tar.gz"), "{what}: {message}");
        drop(fs::remove_dir_all(place.path("deep")));
    }
    // What is left out, and said so.
    let members = vec![
        member(b"out", b'2', b"", outside.as_bytes()),
        member(b"up", b'2', b"", b"../.."),
        member(b"device", b'3', b"", b""),
        member(b"block", b'4', b"", b""),
        file("good", b"1"),
        file("good", b"2"),
    ];
    let run = harmless(&place, &members).exits(0);
    assert_eq!(run.summary()["left_out"], 4);
    assert_eq!(names(&place.path("deep/er/out")), ["good"]);
    assert_eq!(fs::read(place.path("deep/er/out/good")).unwrap(), b"2", "the last one counts");
    // Set-id bits are dropped.
    fs::remove_dir_all(place.path("deep")).unwrap();
    let mut set_id = header(b"tool", b'0', 0, b"");
    set_id[100..107].copy_from_slice(b"0006755");
    set_id[148..156].fill(b' ');
    let sum: u32 = set_id.iter().map(|&b| u32::from(b)).sum();
    set_id[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    harmless(&place, &[set_id]).exits(0);
    assert_eq!(fs::metadata(place.path("deep/er/out/tool")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn archives_become_deduplicated_history() {
    let (place, state) = with_state();
    put(&state, "media", &noise(1, 3 << 20));
    let db = database(&state.join("m/a.sqlite"), 2000, 4096);
    let mut wanted = Vec::new();
    for n in 0..10 {
        put(&state, "log", &prose(n, 200_000));
        put(&state, &format!("day/{n}"), &noise(100 + n, 20_000));
        insert(&db, 5);
        let form = ["sealed", "openssl", "sealed"][usize::try_from(n).unwrap() % 3];
        let made = create(&place, &["--form", form]);
        wanted.push((name(&made), made["time"].as_str().unwrap().to_owned(), inside(&state)));
    }
    let newest = fs::metadata(place.path("repo/full").join(&wanted[9].0)).unwrap().len();
    let passed = place.run(&["--json", "full", "import", "--all"]).exits(0).summary();
    let imported = passed["imported"].as_array().unwrap();
    assert_eq!((imported.len(), &passed["failed"]), (10, &Value::Array(Vec::new())));
    let snapshots = place.run(&["--json", "snapshots"]).exits(0).summary();
    assert_eq!(snapshots.as_array().unwrap().len(), 10);
    for ((archive, time, picture), row) in wanted.iter().zip(snapshots.as_array().unwrap()) {
        assert_eq!(row["time"], **time);
        let root = fs::canonicalize(&state).unwrap();
        assert_eq!(row["paths"][0], root.to_str().unwrap());
        let tags: Vec<&str> = row["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        assert!(
            tags.contains(&"imported")
                && tags.iter().any(|tag| tag.starts_with(&format!("archive={archive}#")))
        );
        place.run(&["restore", row["id"].as_str().unwrap(), "--to", "out"]).exits(0);
        same(&inside(&place.path("out")), picture, archive);
        // To the byte, databases included.
        place.run(&["full", "restore", archive, "--to", "of-archive"]).exits(0);
        let of = place.path("of-archive");
        let of = if of.join(".agent").exists() { of.join(".agent") } else { of };
        shell(place.path("").as_path(), &format!("diff -r out {}", of.display()));
        fs::remove_dir_all(place.path("out")).unwrap();
        fs::remove_dir_all(place.path("of-archive")).unwrap();
    }
    let packs: u64 = files(&place.path("repo/packs")).into_values().sum();
    assert!(packs < newest * 3 / 2 + 10 * 200_000, "{packs} stored, the newest has {newest}");
    // Again: nothing is left to do.
    let again = place.run(&["--json", "full", "import", "--all"]).exits(0).summary();
    assert_eq!(
        (again["imported"].as_array().unwrap().len(), again["known"].as_array().unwrap().len()),
        (0, 10)
    );
    place.is_sound();
    // A backup goes on from there, and is the newest.
    let id = place.run(&["--json", "backup"]).exits(0).summary()["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(*place.snapshots().last().unwrap(), id);
}

#[test]
fn archives_of_another_program_are_imported() {
    let (place, state) = with_state();
    put(&state, "a", b"one");
    fs::create_dir(place.path("old")).unwrap();
    shell(
        &place.path("state"),
        &format!("tar cz .agent | {ENCRYPT} > ../old/backup-20240229T120000Z.tar.gz.enc"),
    );
    let wanted = timeless(&state);
    let passed = place.run(&["--json", "full", "import", "--all", "--from", "old"]).exits(0).summary();
    assert_eq!(passed["imported"].as_array().unwrap().len(), 1, "{passed}");
    let rows = place.run(&["--json", "snapshots"]).exits(0).summary();
    assert_eq!(rows[0]["time"], "2024-02-29T12:00:00Z");
    place.run(&["restore", "--to", "out"]).exits(0);
    same(&timeless(&place.path("out")), &wanted, "imported");
    // Another machine's of the same second is another archive.
    put(&state, "a", &noise(1, 5_000));
    fs::create_dir(place.path("other")).unwrap();
    shell(
        &place.path("state"),
        &format!("tar cz .agent | {ENCRYPT} > ../other/backup-20240229T120000Z.tar.gz.enc"),
    );
    for (folder, imported) in [("other", 1), ("other", 0), ("old", 0)] {
        let passed = place.run(&["--json", "full", "import", "--all", "--from", folder]).exits(0).summary();
        assert_eq!(passed["imported"].as_array().unwrap().len(), imported, "{folder}: {passed}");
        assert_eq!(passed["known"].as_array().unwrap().len(), 1 - imported, "{folder}: {passed}");
    }
    assert_eq!(place.snapshots().len(), 2);
}

#[test]
fn snapshots_become_archives() {
    let (place, state) = with_state();
    fill(&state);
    place.run(&["backup"]).exits(0);
    let exported = place.run(&["--json", "full", "export"]).exits(0).summary();
    assert_eq!(exported["complete"], true);
    assert_eq!(list(&place)[0]["state"], "complete");
    place.run(&["full", "verify"]).exits(0);
    place.run(&["full", "restore", "--to", "out"]).exits(0);
    same(&inside(&place.path("out")), &inside(&state), "exported");
    place.run(&["full", "export", "--form", "openssl", "--to", "plain.tar.gz.enc"]).exits(0);
    place.run(&["full", "export", "--form", "openssl", "--to", "plain.tar.gz.enc"]).exits(1);
    fs::create_dir(place.path("by-tar")).unwrap();
    shell(place.path("").as_path(), &format!("{DECRYPT} -in plain.tar.gz.enc | tar xz -C by-tar"));
    same(&inside(&place.path("by-tar/.agent")), &inside(&state), "by tar");
    let out = place.run(&["full", "export", "--no-encrypt", "--to", "-"]).exits(0);
    fs::write(place.path("stdout.tar.gz"), &out.stdout).unwrap();
    shell(place.path("").as_path(), "tar tzf stdout.tar.gz | grep -x .agent/openclaw.json");
}

#[test]
fn archives_are_kept_by_rules() {
    let (place, state) = with_state();
    put(&state, "a", b"content");
    let all: Vec<String> = (0..5).map(|_| name(&create(&place, &["--form", "openssl"]))).collect();
    place.run(&["full", "prune"]).exits(2);
    let dry = place.run(&["--json", "full", "prune", "--keep-last", "2", "--dry-run"]).exits(0).summary();
    assert_eq!(dry["removed"].as_array().unwrap().len(), 3);
    assert_eq!(list(&place).len(), 5);
    // More would be removed than is kept.
    place.run(&["full", "prune", "--keep-last", "2"]).exits(2);
    // What was left by an upload long ago goes too, and what is not ours, or might not be, stays.
    let folder = place.path("repo/full");
    fs::write(folder.join("backup-20200101T000000Z.tar.zst.sealed"), b"torn").unwrap();
    fs::write(folder.join("backup-20200101T000000Z.tar.gz"), b"of another program").unwrap();
    fs::write(folder.join("notes.txt"), b"somebody's").unwrap();
    let done = place.run(&["--json", "full", "prune", "--policy", "2", "--yes"]).exits(0).summary();
    assert_eq!(done["partial_removed"], json!(["backup-20200101T000000Z.tar.zst.sealed"]));
    assert_eq!(done["unjudged"], json!(["backup-20200101T000000Z.tar.gz"]));
    let left: Vec<String> = list(&place).iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(left[0], "backup-20200101T000000Z.tar.gz");
    assert_eq!(left[1..], all[3..]);
    let objects = names(&folder);
    assert_eq!(objects.len(), 2 * 3 + 2, "{objects:?}");
    assert!(objects.contains(&"notes.txt".to_owned()));
}

#[test]
fn what_cannot_be_read_makes_an_archive_incomplete() {
    let (place, state) = with_state();
    put(&state, "good", b"content");
    // A name that no path of ours can have: longer than any.
    let mut deep = state.clone();
    for _ in 0..25 {
        deep.push("x".repeat(200));
    }
    let made = std::fs::create_dir_all(&deep);
    if made.is_ok() {
        fs::write(deep.join("f"), b"x").unwrap();
    }
    let socket = std::os::unix::net::UnixListener::bind(state.join("s"));
    let run = place.run(&["--json", "full", "create"]);
    drop(socket);
    let summary = run.summary();
    // A socket has no content, and is left out; the rest is there.
    assert_eq!(run.code, Some(if summary["complete"] == true { 0 } else { 3 }), "{}", run.stderr);
    place.run(&["full", "restore", "--to", "out"]).exits(0);
    assert_eq!(fs::read(place.path("out/good")).unwrap(), b"content");
}
