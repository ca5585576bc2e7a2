//! `prune`: the space of what is forgotten comes back, and nothing else changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Numbers, Picture, Place, ended, files, noise, picture, put, same, with_repository};

fn forget(place: &Place, id: &str) {
    place.run(&["forget", id, "--yes"]).exits(0);
}

fn bytes(place: &Place) -> u64 {
    files(&place.path("repo")).into_values().sum()
}

fn prune(place: &Place, args: &[&str]) -> Value {
    place.run(&[&["--json", "prune"], args].concat()).exits(0).summary()
}

fn id(backup: &Value) -> String {
    backup["snapshot"].as_str().unwrap().to_owned()
}

#[test]
fn the_space_of_what_is_forgotten_comes_back() {
    let place = with_repository();
    let tree = place.path("tree");
    put(&tree, "keep", &noise(1, 1 << 20));
    put(&tree, "waste", &noise(2, 3 << 20));
    let first = id(&place.backup("tree"));
    fs::remove_file(tree.join("waste")).unwrap();
    put(&tree, "more", &noise(3, 1 << 20));
    let second = id(&place.backup("tree"));
    let now = picture(&tree);
    forget(&place, &first);
    let (before, all) = (bytes(&place), files(&place.path("repo")));

    let dry = prune(&place, &["--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["done"]), (&true.into(), &Value::Null));
    assert_eq!(dry["plan"]["repack"]["packs"], 1, "{dry}");
    assert!(dry["unused_bytes"].as_u64().unwrap() >= 3 << 20, "{dry}");
    assert_eq!(files(&place.path("repo")), all);
    let text = place.run(&["prune", "-n"]).exits(0);
    assert!(text.text().contains("dry run: nothing was changed"), "{}", text.text());
    assert!(text.text().contains("to be condemned once 1."), "{}", text.text());

    let done = prune(&place, &[]);
    assert_eq!(done["done"]["repacked"]["packs"], 1, "{done}");
    // Nothing goes before its time.
    assert!(bytes(&place) >= before);
    let waits = prune(&place, &[]);
    assert_eq!(waits["waiting"]["packs"], 1, "{waits}");
    assert!(waits["waiting_until"].as_str().is_some(), "{waits}");
    let text = place.run(&["prune"]).exits(0);
    assert!(text.text().contains("condemned and waiting, until "), "{}", text.text());
    place.is_sound();

    let done = prune(&place, &["--grace", "0"]);
    assert_eq!(done["done"]["deleted"]["packs"], 1, "{done}");
    let deletes: u64 = done["phases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|phase| phase["phase"] == "delete")
        .map(|phase| phase["requests"]["delete"].as_u64().unwrap())
        .sum();
    assert!(deletes >= 2, "{done}");
    assert!(bytes(&place) < before - (5 << 19), "{} of {before}", bytes(&place));
    place.is_sound();
    same(&place.restored(&second), &now, "after the prune");
    // A machine that remembers the old index goes on.
    put(&tree, "waste", &noise(2, 3 << 20));
    let third = id(&place.backup("tree"));
    place.is_sound();
    same(&place.restored(&third), &picture(&tree), "after another backup");
}

#[test]
fn forgetting_and_pruning_in_one() {
    let place = with_repository();
    for n in 0..3 {
        put(&place.path("tree"), "a", &noise(n, 200_000));
        place.backup("tree");
    }
    let run = place.run(&["--json", "forget", "--keep-last", "1", "--yes", "--prune"]).exits(0);
    let lines: Vec<Value> = run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["removed"].as_array().unwrap().len(), 2, "{}", run.text());
    assert_eq!(lines[1]["done"]["condemned"]["packs"], 2, "{}", run.text());
    put(&place.path("tree"), "a", &noise(9, 200_000));
    place.backup("tree");
    let first = place.snapshots().remove(0);
    place.run(&["forget", &first, "--yes", "--prune", "--dry-run"]).exits(0);
    assert_eq!(place.snapshots().len(), 2);
    let run = place.run(&["forget", &first, "--yes", "--prune"]).exits(0);
    assert!(
        run.text().contains("removed 1 snapshot") && run.text().contains("condemned 1 pack"),
        "{}",
        run.text()
    );
    place.is_sound();
}

#[test]
fn wrong_usage_is_refused() {
    let place = with_repository();
    for args in [["--grace", "48"], ["--max-unused", "5"], ["--max-repack", "lots"]] {
        place.run(&[&["prune"][..], &args].concat()).exits(2);
    }
    fs::remove_file(place.path("repo/exuvia.json")).unwrap();
    place.run(&["prune"]).exits(10);
}

#[test]
fn a_damaged_repository_is_left_alone() {
    let place = with_repository();
    put(&place.path("tree"), "a", &noise(1, 100_000));
    let first = id(&place.backup("tree"));
    // It holds what the second snapshot needs, and nothing of its manifest.
    let pack = files(&place.path("repo/packs")).into_keys().next().unwrap();
    put(&place.path("tree"), "b", &noise(2, 100_000));
    place.backup("tree");
    forget(&place, &first);
    fs::remove_file(&pack).unwrap();
    let all = files(&place.path("repo"));
    let run = place.run(&["--json", "prune"]).exits(13);
    let error = run.error();
    assert!(error["message"].as_str().unwrap().ends_with("nothing was removed"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("exuvia check"), "{error}");
    assert_eq!(files(&place.path("repo")), all);
}

#[test]
fn temporary_files_of_yesterday_go() {
    let place = with_repository();
    put(&place.path("tree"), "a", b"x");
    let first = id(&place.backup("tree"));
    put(&place.path("tree"), "a", b"y");
    place.backup("tree");
    let (old, new) = (place.path("repo/packs/.exuvia-tmp-1-1"), place.path("repo/index/.exuvia-tmp-1-2"));
    for path in [&old, &new] {
        fs::write(path, b"part").unwrap();
    }
    // A day has 86,400 seconds.
    for (path, age) in [(&old, 90_000), (&new, 80_000)] {
        let then = fs::metadata(path).unwrap().modified().unwrap() - std::time::Duration::from_secs(age);
        fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }
    forget(&place, &first);
    let done = prune(&place, &[]);
    assert_eq!(done["done"]["temporary_files_removed"], 1, "{done}");
    assert!(!old.exists() && new.exists());
}

/// Names of objects in the folders that a prune changes; they come and go while they are read.
fn objects(place: &Place) -> BTreeSet<PathBuf> {
    fn below(dir: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                below(&entry.path(), found);
            } else {
                found.insert(entry.path());
            }
        }
    }
    let mut found = BTreeSet::new();
    ["packs", "index", "gc"].iter().for_each(|name| below(&place.path("repo").join(name), &mut found));
    found
}

#[test]
fn a_killed_prune_loses_nothing() {
    let place = with_repository();
    let tree = place.path("tree");
    let mut numbers = Numbers::new(11);
    let mut published = BTreeMap::<String, Picture>::new();
    let mut kills = 0;
    for round in 0..12u64 {
        put(&tree, &format!("stays/{}", round % 3), &noise(round, 400_000));
        put(&tree, "goes", &noise(1000 + round, 900_000));
        let backup = id(&place.backup("tree"));
        published.insert(backup, picture(&tree));
        if published.len() > 2 {
            let gone = published.keys().nth(usize::try_from(numbers.below(2)).unwrap()).unwrap().clone();
            forget(&place, &gone);
            published.remove(&gone);
        }
        // At once, or as soon as anything has changed and a little later.
        let all = objects(&place);
        let mut child = place.start(&["prune", "--grace", "0", "--max-unused", "0%"]);
        let patience = numbers.below(40);
        let mut after = 0;
        while child.try_wait().unwrap().is_none() && after < patience {
            after += u64::from(objects(&place) != all);
        }
        child.kill().unwrap();
        let run = ended(child);
        kills += u32::from(run.code.is_none());
        assert!(run.code.is_none() || run.code == Some(0), "{:?} {}", run.code, run.stderr);
        place.is_sound();
    }
    assert!(kills > 3, "{kills}");
    for _ in 0..3 {
        prune(&place, &["--grace", "0", "--max-unused", "0%"]);
    }
    place.is_sound();
    for (id, wanted) in &published {
        same(&place.restored(id), wanted, id);
    }
    let last = prune(&place, &["--dry-run", "--grace", "0", "--max-unused", "0%"]);
    assert_eq!((&last["unused_bytes"], &last["plan"]["delete"]["packs"]), (&0.into(), &0.into()), "{last}");
}
