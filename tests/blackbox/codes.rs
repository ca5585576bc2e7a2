//! Exit codes, and what they promise.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use crate::support::{
    PASSPHRASE, Place, Run, database, ended, files, names, noise, picture, prose, put, same, until,
    with_repository,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_missing_repository_is_10_and_nothing_is_made() {
    let mut place = Place::new();
    place.set("EXUVIA_PASSPHRASE", PASSPHRASE);
    place.write("tree/a", "a");
    for args in [
        &["backup", "tree"][..],
        &["backup", "--dry-run", "tree"],
        &["snapshots"],
        &["ls", "latest"],
        &["cat", "latest", "a"],
        &["restore", "--to", "out"],
        &["check"],
        &["drill"],
        &["status"],
        &["snapshots", "--accept", "latest"],
        &["forget", "--safety", "--yes", "00"],
        &["stats"],
        &["key", "list"],
    ] {
        let run = place.run(&[&["--json", "--repo", "nowhere"], args].concat()).exits(10);
        assert_eq!(run.error()["class"], "no-repository", "{args:?}");
        assert!(run.error()["hint"].as_str().unwrap().contains("mounted"), "{}", run.stderr);
    }
    assert_eq!(names(&place.path("")), ["home", "tree"]);
    assert!(names(&place.path("home")).is_empty());
}

#[test]
fn init_refuses_what_is_there() {
    let place = with_repository();
    let before = files(&place.path("repo"));
    let run = place.run(&["--json", "init", "--kdf-log-n", "15"]).exits(1);
    assert!(run.error()["message"].as_str().unwrap().contains("already"), "{}", run.stderr);
    assert_eq!(files(&place.path("repo")), before);

    // What has lost its marker is no place for a new repository.
    put(&place.path("tree"), "a", b"a");
    place.backup("tree");
    fs::rename(place.path("repo/exuvia.json"), place.path("marker")).unwrap();
    let before = files(&place.path("repo"));
    place.run(&["init", "--kdf-log-n", "15"]).exits(1);
    fs::remove_dir_all(place.path("repo/keys")).unwrap();
    place.run(&["init", "--kdf-log-n", "15"]).exits(1);
    assert_eq!(files(&place.path("repo")).len(), before.len() - 1);
    place.run(&["snapshots"]).exits(10);
}

#[test]
fn a_wrong_passphrase_is_12() {
    let mut place = with_repository();
    place.write("tree/a", "a");
    place.backup("tree");
    place.set("EXUVIA_PASSPHRASE", "wrong");
    let before = files(&place.path("repo"));
    for args in [
        &["backup", "tree"][..],
        &["snapshots"],
        &["ls", "latest"],
        &["restore", "--to", "out"],
        &["check"],
        &["stats"],
        &["key", "list"],
        &["key", "remove", "0"],
    ] {
        let run = place.run(&[&["--json"], args].concat()).exits(12);
        assert_eq!(run.error()["class"], "wrong-key", "{args:?}");
        assert!(run.error()["hint"].as_str().unwrap().contains("EXUVIA_PASSPHRASE"), "{}", run.stderr);
        assert_eq!(run.text(), "", "{args:?}");
    }
    assert_eq!(files(&place.path("repo")), before);
    assert!(!place.path("out").exists());
}

#[test]
fn snapshots_that_are_not_there() {
    let place = with_repository();
    let none = place.run(&["--json", "restore", "--to", "out"]).exits(1);
    assert!(none.error()["hint"].as_str().unwrap().contains("backup"), "{}", none.stderr);
    place.write("tree/a", "a");
    place.backup("tree");
    for snapshot in ["deadbeef", "latest~1", "2001-01-01"] {
        for args in [&["restore", snapshot, "--to", "out"][..], &["ls", snapshot], &["cat", snapshot, "a"]] {
            let run = place.run(&[&["--json"], args].concat()).exits(2);
            assert_eq!(run.error()["class"], "usage", "{args:?}");
        }
    }
    place.run(&["restore", "--to", "out", "--path", "nowhere"]).exits(2);
    place.run(&["cat", "latest", "nowhere"]).exits(2);
    assert!(!place.path("out").join("a").exists());
}

/// `latest` is the newest, also of those of one second.
#[test]
fn the_latest_is_the_newest() {
    let place = with_repository();
    let mut taken = Vec::new();
    for round in 0..8 {
        place.write("tree/a", &format!("version {round}"));
        taken.push(place.backup("tree")["snapshot"].as_str().unwrap().to_owned());
        let run = place.run(&["cat", "latest", "a"]).exits(0);
        assert_eq!(run.text(), format!("version {round}"));
    }
    assert_eq!(place.snapshots(), taken);
    assert_eq!(place.run(&["cat", "latest~3", "a"]).exits(0).text(), "version 4");
}

#[test]
fn passphrases_come_from_files_and_commands_too() {
    let mut place = with_repository();
    let file = place.write("pw", &format!("{PASSPHRASE}\r\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    place.set("EXUVIA_PASSPHRASE", "").set("EXUVIA_PASSPHRASE_FILE", "pw");
    place.run(&["snapshots"]).exits(0);
    place.set("EXUVIA_PASSPHRASE_FILE", "").set("EXUVIA_PASSPHRASE_COMMAND", "cat pw");
    place.run(&["snapshots"]).exits(0);
    place.set("EXUVIA_PASSPHRASE_COMMAND", "echo wrong");
    place.run(&["snapshots"]).exits(12);
}

fn keys(place: &Place) -> Vec<(String, bool)> {
    let rows = place.run(&["--json", "key", "list"]).exits(0).summary();
    let row = |row: &Value| (row["id"].as_str().unwrap().to_owned(), row["current"].as_bool().unwrap());
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn keys_come_and_go() {
    let mut place = with_repository();
    place.write("tree/a", "a");
    let id = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    let wanted = picture(&place.path("tree"));
    let opens = |place: &mut Place, passphrase: &str| {
        place.set("EXUVIA_PASSPHRASE", passphrase);
        match place.run(&["snapshots"]).code {
            Some(0) => true,
            Some(12) => false,
            other => panic!("{other:?}"),
        }
    };
    let [(first, true)] = &keys(&place)[..] else { panic!("one key, in use") };
    // The last one, and the one in use, stay.
    place.run(&["key", "remove", first]).exits(2);
    place.set("EXUVIA_NEW_PASSPHRASE", "second");
    let added = place.run(&["--json", "key", "add", "--kdf-log-n", "15"]).exits(0).summary();
    let second = added["id"].as_str().unwrap().to_owned();
    place.run(&["key", "remove", first]).exits(2);
    place.run(&["key", "remove", ""]).exits(2);
    place.run(&["key", "remove", "nothing"]).exits(2);
    assert_eq!(keys(&place).len(), 2);
    assert!(opens(&mut place, PASSPHRASE) && opens(&mut place, "second") && !opens(&mut place, "third"));

    // Changed: the old passphrase opens nothing, the other key still does.
    place.set("EXUVIA_PASSPHRASE", "second").set("EXUVIA_NEW_PASSPHRASE", "third");
    place.run(&["key", "change", "--kdf-log-n", "15"]).exits(0);
    assert!(!opens(&mut place, "second") && opens(&mut place, PASSPHRASE) && opens(&mut place, "third"));
    assert!(keys(&place).iter().all(|(key, _)| *key != second));

    // Removed, by another key.
    place.run(&["key", "remove", &first[..12], "--yes"]).exits(0);
    assert!(!opens(&mut place, PASSPHRASE) && opens(&mut place, "third"));
    let [(third, true)] = &keys(&place)[..] else { panic!("one key, in use") };
    place.run(&["key", "remove", third]).exits(2);
    same(&place.restored(&id), &wanted, "what the old key stored");
    place.is_sound();
}

/// The program as somebody whom modes keep from reading: root reads everything.
pub(crate) fn as_nobody(place: &Place, args: &[&str]) -> Run {
    const NOBODY: u32 = 65_534;
    if !geteuid().is_root() {
        return place.run(args);
    }
    // Where the program was built, nobody may look.
    let program = place.path("program");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_exuvia"), &program).unwrap();
    }
    let mut todo = vec![place.path("")];
    while let Some(path) = todo.pop() {
        lchown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        if path.is_dir() {
            todo.extend(names(&path).iter().map(|name| path.join(name)));
        }
    }
    let like = place.command(args);
    let mut command = Command::new(program);
    command.args(args).env_clear().current_dir(place.path("")).uid(NOBODY).gid(NOBODY);
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().unwrap().into()
}

#[test]
fn a_file_that_cannot_be_read_makes_a_snapshot_incomplete() {
    let place = with_repository();
    let tree = place.path("tree");
    for name in ["a.md", "deep/secret.md", "deep/z.md", "shut/in/x.md", "shut/y.md"] {
        put(&tree, name, &prose(name.len() as u64, 3000));
    }
    drop(database(&tree.join("db.sqlite"), 5, 4096));
    let backup = |place: &Place| as_nobody(place, &["--json", "backup", "tree"]);
    let whole = backup(&place).exits(0).summary();
    assert_eq!((&whole["complete"], &whole["errors"]), (&true.into(), &Value::Array(vec![])));

    let shut = |path: &str, mode| {
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    shut("deep/secret.md", 0);
    shut("shut/in", 0);
    shut("db.sqlite", 0);
    // Whatever the modes are to readers other than root, they are part of what is wanted.
    let part = backup(&place).exits(3).summary();
    assert_eq!(part["complete"], false);
    let id = part["snapshot"].as_str().unwrap();
    let mut failed: Vec<&str> =
        part["errors"].as_array().unwrap().iter().map(|error| error["path"].as_str().unwrap()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["db.sqlite", "deep/secret.md", "shut/in"]);
    let rows = place.run(&["--json", "snapshots"]).exits(0).summary();
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap();
    assert_eq!((&row["complete"], &row["errors"]), (&false.into(), &3.into()));

    // The others are as they are; the last good version of a file is not passed off as this one.
    let mut wanted = picture_as_root(&tree);
    let kept = ["", "a.md", "deep", "deep/z.md", "shut", "shut/y.md"].map(Path::new);
    let found = place.restored(id);
    wanted.retain(|path, _| kept.contains(&path.as_path()));
    let mut rest = found.clone();
    rest.retain(|path, _| kept.contains(&path.as_path()));
    same(&rest, &wanted, "what could be read");
    for lost in ["deep/secret.md", "db.sqlite", "shut/in/x.md"] {
        assert!(!found.contains_key(Path::new(lost)), "{lost}");
        place.run(&["cat", id, lost]).exits(2);
    }
    place.run(&["cat", whole["snapshot"].as_str().unwrap(), "deep/secret.md"]).exits(0);

    for (path, mode) in [("deep/secret.md", 0o644), ("shut/in", 0o755), ("db.sqlite", 0o644)] {
        shut(path, mode);
    }
    let again = backup(&place).exits(0).summary();
    assert_eq!(again["complete"], true);
    same(&place.restored(again["snapshot"].as_str().unwrap()), &picture(&tree), "readable again");
    place.is_sound();
}

/// Looks at a tree in which some are shut; a user other than root cannot look at all of it.
fn picture_as_root(tree: &Path) -> crate::support::Picture {
    if geteuid().is_root() {
        return picture(tree);
    }
    let shut = ["deep/secret.md", "shut/in", "db.sqlite"].map(|path| tree.join(path));
    for path in &shut {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let found = picture(tree);
    for path in &shut {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    found
}

#[test]
fn an_interrupted_backup_is_130_and_does_no_harm() {
    let place = with_repository();
    let tree = place.path("tree");
    for i in 0..40 {
        put(&tree, &format!("{i}"), &noise(i, 2 << 20));
    }
    let temporary = |path: &Path| path.to_str().unwrap().contains(".exuvia-tmp-");
    let packs = || files(&place.path("repo/packs")).keys().filter(|path| !temporary(path)).count();
    for (round, signal) in [Signal::INT, Signal::TERM].into_iter().enumerate() {
        let before = packs();
        let child = place.start(&["--json", "backup", "tree"]);
        // Something is stored: the backup is in the middle.
        until("a pack", || packs() > before);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let run = ended(child).exits(130);
        assert_eq!((run.text(), &run.error()["class"]), ("", &"interrupted".into()), "round {round}");
        assert!(place.snapshots().is_empty());
        place.is_sound();
    }
    assert!(!files(&place.path("")).keys().any(|path| temporary(path)), "temporary files are left");
    let done = place.backup("tree");
    assert!(done["bytes_added_stored"].as_u64().unwrap() < 75 << 20, "nothing was used again: {done}");
    same(&place.restored(done["snapshot"].as_str().unwrap()), &picture(&tree), "after the interruptions");
    place.is_sound();
}

#[test]
fn the_embedded_default_needs_nothing() {
    let place = Place::new();
    let tree = place.path("tree");
    for i in 0..5u64 {
        put(&tree, &format!("d{}/{i}", i % 2), &prose(i, 5000));
    }
    let repo = place.path("home/.local/share/exuvia/repository");
    let key = place.path("home/.config/exuvia/default.key");
    // Looking makes nothing.
    place.run(&["snapshots"]).exits(10);
    place.run(&["backup", "--dry-run", "tree"]).exits(10);
    assert!(names(&place.path("home")).is_empty());

    let first = place.run(&["--json", "backup", "tree"]).exits(0);
    for word in [repo.to_str().unwrap(), key.to_str().unwrap(), "restore", "EXUVIA_PASSPHRASE_FILE="] {
        assert!(first.stderr.contains(word), "{word}: {}", first.stderr);
    }
    assert_eq!((mode(&key), mode(&repo)), (0o600, 0o700));
    let before = files(&repo);
    let second = place.run(&["--json", "backup", "tree"]).exits(0);
    assert!(!second.stderr.contains("default.key"), "{}", second.stderr);
    let summary = second.summary();
    assert_eq!((&summary["bytes_read"], &summary["bytes_added_stored"]), (&0.into(), &0.into()), "{summary}");
    assert_eq!(summary["files_unmodified"], 5, "{summary}");
    assert_eq!(summary["remote_requests"]["put"], 1, "{summary}");
    let new: Vec<_> = files(&repo).into_keys().filter(|path| !before.contains_key(path)).collect();
    assert!(new.len() == 1 && new[0].starts_with(repo.join("snapshots")), "{new:?}");

    // As the first run said: with the key file alone.
    let mut elsewhere = Place::new();
    elsewhere.set("EXUVIA_PASSPHRASE_FILE", key.to_str().unwrap()).set("EXUVIA_REPO", repo.to_str().unwrap());
    same(&elsewhere.restored("latest"), &picture(&tree), "elsewhere");

    // A disk that is not mounted is no first run: nothing new is begun in its place.
    let aside = place.path("aside");
    fs::rename(&repo, &aside).unwrap();
    for args in [&["backup", "tree"][..], &["snapshots"], &["restore", "--to", "out"]] {
        let run = place.run(args).exits(10);
        assert!(run.stderr.contains("mounted") && run.stderr.contains("init"), "{}", run.stderr);
        assert!(!repo.exists());
        // Nor where the mount point is left.
        fs::create_dir(&repo).unwrap();
        place.run(args).exits(10);
        assert!(names(&repo).is_empty());
        fs::remove_dir(&repo).unwrap();
    }
    fs::rename(&aside, &repo).unwrap();
    assert_eq!(place.snapshots().len(), 2);
    place.is_sound();
}

#[test]
fn a_default_repository_without_its_key_says_so() {
    let place = Place::new();
    place.write("tree/a", "a");
    place.backup("tree");
    let key = place.path("home/.config/exuvia/default.key");
    fs::rename(&key, place.path("kept")).unwrap();
    for args in [&["backup", "tree"][..], &["snapshots"]] {
        let run = place.run(args).exits(2);
        assert!(run.stderr.contains("default.key"), "{}", run.stderr);
    }
    assert!(!key.exists(), "a new key opens nothing");
    fs::rename(place.path("kept"), &key).unwrap();
    assert_eq!(place.snapshots().len(), 1);
}
