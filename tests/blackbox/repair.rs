//! Damage, and what becomes of it: a backup stores again what is still there, and repairs save the rest.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Place, database, files, insert, noise, picture, prose, put, same, with_repository};

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

/// `repair index` takes a pack that is gone out of the index: then nothing says any more what it held, neither to the
/// machine that repaired nor to one that knows of nothing.
#[test]
fn what_the_index_has_lost_is_stored_again_by_whoever_has_it() {
    for other_machine in [false, true] {
        let (place, _) = world();
        let (tree, cache) = (place.path("tree"), place.path("home/.cache/exuvia"));
        let other = place.path("cache of another");
        copy(&cache, &other);
        for pack in files(&place.path("repo/packs")).into_keys() {
            fs::remove_file(pack).unwrap();
        }
        place.run(&["repair", "index", "--yes"]).exits(0);
        if other_machine {
            fs::remove_dir_all(&cache).unwrap();
            fs::rename(&other, &cache).unwrap();
        }
        // One file is as it was, one grew, and of a database a page changed.
        fs::File::options().append(true).open(tree.join("big.bin")).unwrap().set_len((3 << 20) + 1).unwrap();
        insert(&rusqlite::Connection::open(tree.join("d.sqlite")).unwrap(), 1);
        place.backup("tree");
        same(&place.restored("latest"), &picture(&tree), "stored again");
    }
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
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

/// A restore that must come out whole, of a machine that never saw the repository.
fn is_whole(place: &Place, snapshot: &str, wanted: &crate::support::Picture, what: &str) {
    forget_caches(place);
    same(&place.restored(snapshot), wanted, what);
}

fn in_repo(place: &Place, folder: &str) -> Vec<PathBuf> {
    files(&place.path("repo").join(folder)).into_keys().collect()
}

#[test]
fn an_emptied_index_is_made_anew_from_the_packs() {
    let (place, first) = world();
    let tree = place.path("tree");
    let before = picture(&tree);
    put(&tree, "notes/b.md", &prose(3, 40_000));
    place.backup("tree");
    in_repo(&place, "index").iter().for_each(|path| fs::remove_file(path).unwrap());
    forget_caches(&place);
    check(&place, 13);
    place.run(&["restore", "--to", "out"]).exits(13);
    // Nothing is lost, though it looks like it: no repair may drop what is only not found.
    for what in ["snapshots", "packs"] {
        let refused = place.run(&["repair", what, "--yes"]).exits(13);
        assert!(refused.stderr.contains("repair index"), "{}", refused.stderr);
    }
    let plan = place.run(&["--json", "repair", "index", "--dry-run"]).exits(0).summary();
    assert_eq!((&plan["packs_unlisted"], &plan["objects_written"]), (&2.into(), &0.into()), "{plan}");
    assert!(in_repo(&place, "index").is_empty());
    // There is no terminal to ask on.
    place.run(&["repair", "index"]).exits(2);
    let done = place.run(&["--json", "repair", "index", "--yes"]).exits(0).summary();
    assert_eq!((&done["packs_indexed"], &done["objects_written"]), (&2.into(), &1.into()), "{done}");
    place.is_sound();
    is_whole(&place, &first, &before, "the first");
    is_whole(&place, "latest", &picture(&tree), "the second");
    assert_eq!(place.backup("tree")["bytes_added_raw"], 0);
    let again = place.run(&["repair", "index", "--yes"]).exits(0);
    assert!(again.text().contains("nothing to repair"), "{}", again.text());
}

#[test]
fn a_damaged_index_object_is_replaced_and_stays_until_told() {
    let (place, _) = world();
    let tree = place.path("tree");
    let object = in_repo(&place, "index").remove(0);
    flip(&object);
    forget_caches(&place);
    check(&place, 13);
    place.run(&["restore", "--to", "out"]).exits(13);
    place.run(&["repair", "index", "--yes"]).exits(0);
    assert!(object.exists());
    let checked = check(&place, 0);
    assert!(checked["notes"].to_string().contains("another one replaces it"), "{checked}");
    is_whole(&place, "latest", &picture(&tree), "beside the damaged object");
    put(&tree, "notes/b.md", &prose(3, 40_000));
    place.backup("tree");
    is_whole(&place, "latest", &picture(&tree), "and the next");
    let told = place.run(&["repair", "index", "--yes"]).exits(0);
    assert!(told.text().contains("nothing to repair"), "{}", told.text());
    place.run(&["repair", "index", "--delete-damaged", "--yes"]).exits(0);
    assert!(!object.exists());
    assert_eq!(check(&place, 0)["notes"], serde_json::json!([]));
    is_whole(&place, "latest", &picture(&tree), "without it");
}

#[test]
fn a_damaged_removal_record_stays_until_told() {
    let (place, first) = world();
    place.backup("tree");
    place.run(&["forget", "--yes", &first]).exits(0);
    let record = in_repo(&place, "removed").remove(0);
    check(&place, 0);
    flip(&record);
    check(&place, 13);
    place.run(&["repair", "index", "--yes"]).exits(0);
    assert!(record.exists());
    place.run(&["repair", "index", "--delete-damaged", "--yes"]).exits(0);
    assert!(!record.exists());
    check(&place, 0);
}

#[test]
fn packs_that_are_gone_leave_the_index() {
    let (place, _) = world();
    let tree = place.path("tree");
    fs::remove_file(largest(&place)).unwrap();
    check(&place, 13);
    place.backup("tree");
    let done = place.run(&["--json", "repair", "index", "--yes"]).exits(0).summary();
    assert_eq!(done["packs_gone"].as_array().unwrap().len(), 1, "{done}");
    let checked = check(&place, 0);
    assert!(!checked["notes"].to_string().contains("missing"), "{checked}");
    is_whole(&place, "latest", &picture(&tree), "healed");
    place.is_sound();
}

/// A damaged file that is not there any more: what else its pack held is saved, and it is left out.
#[test]
fn what_verifies_is_saved_and_what_is_lost_is_left_out() {
    let (place, first) = world();
    let tree = place.path("tree");
    let mut wanted = picture(&tree);
    // The middle of the pack is the middle of the file: there is nothing else of that size.
    let pack = largest(&place);
    flip(&pack);
    fs::remove_file(tree.join("big.bin")).unwrap();
    wanted.remove(Path::new("big.bin"));
    let hurt = place.run(&["--json", "check", "--read-data"]).exits(13).summary();
    assert_eq!(hurt["problems"][0]["path_count"], 1, "{hurt}");

    let before = files(&place.path("repo"));
    let plan = place.run(&["--json", "repair", "packs", "--dry-run"]).exits(0).summary();
    let (saved, lost) = (&plan["packs"][0]["blobs_saved"], &plan["packs"][0]["blobs_lost"]);
    assert!(saved.as_u64().unwrap() > 2 && lost.as_u64().unwrap() > 0, "{plan}");
    assert_eq!(files(&place.path("repo")), before, "a plan changes nothing");
    let done = place.run(&["--json", "repair", "packs", "--yes"]).exits(13).summary();
    assert_eq!((&done["packs"][0]["blobs_saved"], &done["packs"][0]["blobs_lost"]), (saved, lost));
    assert!(pack.exists(), "the original is kept");
    // All but what is lost does without it.
    let aside = place.path("aside");
    fs::rename(&pack, &aside).unwrap();
    forget_caches(&place);
    place.run(&["restore", &first, "--to", "out"]).exits(13);
    same(&picture(&place.path("out")), &wanted, "without the damaged pack");
    fs::rename(&aside, &pack).unwrap();
    forget_caches(&place);
    place.run(&["check", "--read-data"]).exits(13);

    let plan = place.run(&["--json", "repair", "snapshots", "--dry-run"]).exits(0).summary();
    assert_eq!(plan["snapshots"][0]["lost"][0]["path"], "big.bin", "{plan}");
    assert_eq!(place.snapshots().len(), 1);
    let done = place.run(&["--json", "repair", "snapshots", "--yes"]).exits(0).summary();
    let repaired = done["snapshots"][0]["repaired"].as_str().unwrap().to_owned();
    assert_eq!(place.snapshots(), [first.clone(), repaired.clone()], "it comes after the original");
    let rows = place.run(&["--json", "snapshots"]).exits(0).summary();
    assert_eq!((&rows[1]["complete"], &rows[1]["tags"][0]), (&false.into(), &"repaired".into()), "{rows}");
    is_whole(&place, &repaired, &wanted, "the repaired one");
    // Once is enough. A machine that has no cache must read the data to know of the damage.
    place.run(&["check", "--read-data"]).exits(13);
    let again = place.run(&["--json", "repair", "snapshots", "--yes"]).exits(0).summary();
    assert_eq!(again["snapshots"][0]["repaired_before"], true, "{again}");
    assert_eq!(place.snapshots().len(), 2);
    place.run(&["repair", "snapshots", "--forget-originals", "--yes"]).exits(0);
    assert_eq!(place.snapshots(), std::slice::from_ref(&repaired));
    place.is_sound();
    same(&place.restored(&repaired), &wanted, "after the original was forgotten");
    assert_eq!(
        place.run(&["--json", "repair", "snapshots"]).exits(0).summary()["snapshots"],
        serde_json::json!([])
    );
}

/// What is still there is stored again; then nothing is lost, and nothing need be left out.
#[test]
fn after_a_backup_there_is_nothing_to_leave_out() {
    let (place, first) = world();
    flip(&largest(&place));
    place.run(&["check", "--read-data"]).exits(13);
    place.backup("tree");
    let plan = place.run(&["--json", "repair", "snapshots", "--yes"]).exits(0).summary();
    assert_eq!(plan["snapshots"], serde_json::json!([]), "{plan}");
    is_whole(&place, &first, &picture(&place.path("tree")), "the first");
    let packs = place.run(&["--json", "repair", "packs", "--yes"]).exits(0).summary();
    assert_eq!(packs["packs_written"], 0, "{packs}");
}

#[test]
fn packs_are_named_by_id_and_strangers_refused() {
    let (place, _) = world();
    let pack = largest(&place);
    let id = pack.file_name().unwrap().to_str().unwrap();
    let whole = place.run(&["--json", "repair", "packs", id, "--yes"]).exits(0).summary();
    assert_eq!(whole["packs"], serde_json::json!([]), "{whole}");
    flip(&pack);
    let damaged = place.run(&["--json", "repair", "packs", id, "--dry-run"]).exits(0).summary();
    assert_eq!(damaged["packs"].as_array().unwrap().len(), 1, "{damaged}");
    for stranger in ["x", &"ab".repeat(32), "index/../packs"] {
        place.run(&["repair", "packs", stranger, "--dry-run"]).exits(2);
    }
}

/// A snapshot says of itself that it is what is left of another one; whether it is, is seen.
#[test]
fn originals_are_forgotten_only_for_what_has_all_that_is_left_of_them() {
    let (place, first) = world();
    let tree = place.path("tree");
    let mut left = picture(&tree);
    left.remove(Path::new("big.bin"));
    let pack = largest(&place);
    fs::remove_dir_all(tree.join("notes")).unwrap();
    put(&tree, "big.bin", &noise(9, 1 << 20));
    place.run(&["backup", "tree", "--tag", "repaired"]).exits(0);
    flip(&pack);
    place.run(&["check", "--read-data"]).exits(13);
    let done =
        place.run(&["--json", "repair", "snapshots", "--forget-originals", "--yes"]).exits(0).summary();
    assert_eq!(done["snapshots"][0]["repaired_before"], false, "{done}");
    let repaired = done["snapshots"][0]["repaired"].as_str().unwrap().to_owned();
    assert!(!place.snapshots().contains(&first));
    same(&place.restored(&repaired), &left, "what is left of the first");
}

/// What was lost when a repair looked may have come back since.
#[test]
fn a_repaired_snapshot_that_lacks_what_is_there_again_is_made_anew() {
    let (place, first) = world();
    let tree = place.path("tree");
    put(&tree, "other.bin", &noise(5, 2 << 20));
    let second = place.backup("tree")["snapshot"].as_str().unwrap().to_owned();
    place.run(&["forget", &first, "--yes"]).exits(0);
    let mut left = picture(&tree);
    left.remove(Path::new("big.bin"));
    let mut packs: Vec<_> = files(&place.path("repo/packs")).into_iter().collect();
    packs.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let (big, other) = (packs[0].0.clone(), packs[1].0.clone());
    flip(&big);
    flip(&other);
    place.run(&["check", "--read-data"]).exits(13);
    place.run(&["repair", "snapshots", "--yes"]).exits(0);
    flip(&other);
    place.run(&["check", "--read-data"]).exits(13);
    let done =
        place.run(&["--json", "repair", "snapshots", "--forget-originals", "--yes"]).exits(0).summary();
    let of_second = |s: &&Value| s["id"] == second.as_str();
    let found = done["snapshots"].as_array().unwrap().iter().find(of_second).unwrap();
    assert_eq!(found["repaired_before"], false, "{done}");
    let repaired = found["repaired"].as_str().unwrap().to_owned();
    same(&place.restored(&repaired), &left, "with what is there again");
    // Once is enough.
    let again = place.run(&["--json", "repair", "snapshots", "--yes"]).exits(0).summary();
    assert_eq!(again["snapshots"], serde_json::json!([]), "{again}");
}
