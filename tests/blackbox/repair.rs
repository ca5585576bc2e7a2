//! Damage, and what becomes of it: a backup stores again what is still there, and repairs save the rest.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Place, database, files, noise, picture, prose, put, same, with_repository};

/// A place with a tree and one snapshot of it.
fn world() -> (Place, String) {
    let place = with_repository();
    let tree = place.path("tree");
    put(&tree, "big.bin", &noise(1, 3 << 20));
    put(&tree, "notes/a.md", &prose(2, 30_000));
    drop(database(&tree.join("d.sqlite"), 50, 4096));
    let first = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    (place, first)
}

/// The largest pack.
fn largest(place: &Place) -> PathBuf {
    let packs = files(&place.path("repo/packs"));
    packs.into_iter().max_by_key(|(_, size)| *size).unwrap().0
}

/// Changes the byte in the middle of a file.
fn flip(path: &Path) {
    let at = fs::metadata(path).unwrap().len() / 2;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

fn forget_caches(place: &Place) {
    fs::remove_dir_all(place.path("home/.cache/exuvia")).unwrap();
}

fn check(place: &Place, code: i32) -> Value {
    place.run(&["--json", "check"]).exits(code).summary()
}

#[test]
fn a_backup_heals_packs_that_are_gone() {
    let (place, _) = world();
    let tree = place.path("tree");
    fs::remove_file(largest(&place)).unwrap();
    // Nothing changed, and nobody knows of the loss yet: nothing is read.
    assert_eq!(place.backup("tree")["bytes_added_raw"], 0);
    check(&place, 13);
    let healing = place.run(&["--json", "backup", "tree"]).exits(0);
    assert!(healing.stderr.contains("stored again"), "{}", healing.stderr);
    assert!(healing.summary()["bytes_added_raw"].as_u64().unwrap() > 3 << 20);
    let checked = check(&place, 0);
    assert!(checked["notes"].to_string().contains("is missing, and no snapshot needs it"), "{checked}");
    assert_eq!(place.backup("tree")["bytes_added_raw"], 0, "once is enough");
    // Another machine knows nothing of the loss.
    forget_caches(&place);
    same(&place.restored("latest"), &picture(&tree), "healed");
    assert_eq!(place.backup("tree")["bytes_added_raw"], 0, "and stores nothing twice");
}

#[test]
fn a_backup_heals_packs_that_a_restore_found_damaged() {
    let (place, _) = world();
    let pack = largest(&place);
    flip(&pack);
    check(&place, 0);
    place.run(&["restore", "--to", "out"]).exits(13);
    let healing = place.run(&["--json", "backup", "tree"]).exits(0);
    assert!(healing.summary()["bytes_added_raw"].as_u64().unwrap() > 3 << 20);
    let checked = place.run(&["--json", "check", "--read-data"]).exits(0).summary();
    assert!(checked["notes"].to_string().contains("no snapshot needs it"), "{checked}");
    forget_caches(&place);
    same(&place.restored("latest"), &picture(&place.path("tree")), "healed");
}

/// A read that failed for another reason must not make the next backup store everything twice.
#[test]
fn a_pack_that_is_whole_after_all_is_not_given_up() {
    let (place, _) = world();
    let pack = largest(&place);
    let bytes = fs::read(&pack).unwrap();
    flip(&pack);
    place.run(&["restore", "--to", "out"]).exits(13);
    fs::write(&pack, bytes).unwrap();
    let backup = place.run(&["--json", "backup", "tree"]).exits(0);
    assert_eq!(backup.summary()["bytes_added_raw"], 0);
    assert!(!place.path("repo/gc").exists());
    place.is_sound();
}

#[test]
fn with_all_caches_gone_everything_works() {
    let (place, first) = world();
    let tree = place.path("tree");
    for command in [
        &["snapshots"][..],
        &["ls", "latest", "-R"],
        &["cat", &first, "notes/a.md"],
        &["diff", "latest"],
        &["find", "a.md"],
        &["check", "--read-data-subset", "10%"],
        &["stats"],
        &["key", "list"],
        &["drill"],
        &["status"],
    ] {
        forget_caches(&place);
        place
            .command(command)
            .arg("--state-dir")
            .arg(&tree)
            .output()
            .map(crate::support::Run::from)
            .unwrap()
            .exits(0);
    }
    forget_caches(&place);
    assert_eq!(place.backup("tree")["bytes_added_raw"], 0);
    // What the next change is compared with is found again too.
    put(&tree, "notes/b.md", &prose(3, 40_000));
    forget_caches(&place);
    assert!(place.backup("tree")["bytes_added_raw"].as_u64().unwrap() < 100_000);
    forget_caches(&place);
    same(&place.restored("latest"), &picture(&tree), "without caches");
}
