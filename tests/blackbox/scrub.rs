//! Damage that is found without a passphrase.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use crate::support::{Place, Run, files, noise, prose, put, with_repository};

fn world() -> Place {
    let place = with_repository();
    let tree = place.path("tree");
    for n in 0..4 {
        put(&tree, &format!("{n}.bin"), &noise(n, 300_000));
        put(&tree, "a.md", &prose(n, 30_000));
        place.backup("tree");
    }
    place
}

/// Runs `scrub` where nobody knows the passphrase.
fn scrub(place: &Place, args: &[&str], code: i32) -> Value {
    let args = [&["--json", "scrub"][..], args].concat();
    let output = place.command(&args).env_remove("EXUVIA_PASSPHRASE").output().unwrap();
    Run::from(output).exits(code).summary()
}

fn flip(path: &Path) {
    let at = fs::metadata(path).unwrap().len() / 2;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

#[test]
fn every_object_is_held_against_its_name() {
    let place = world();
    let all = scrub(&place, &[], 0);
    let objects: Vec<_> = files(&place.path("repo")).into_keys().collect();
    assert_eq!(all["objects"], objects.len() - 1, "all but the marker: {all}");
    assert_eq!((&all["packs_read"], &all["packs_unread"]), (&4.into(), &0.into()), "{all}");
    for path in objects.iter().filter(|path| !path.ends_with("exuvia.json")) {
        let bytes = fs::read(path).unwrap();
        flip(path);
        let whole = scrub(&place, &[], 13);
        let name = path.strip_prefix(place.path("repo")).unwrap().to_str().unwrap();
        assert_eq!(whole["problems"][0]["object"], name, "{whole}");
        assert_eq!(whole["problems"].as_array().unwrap().len(), 1, "{whole}");
        fs::write(path, bytes).unwrap();
        // What was found damaged is looked at again.
        scrub(&place, &["--subset", "1B"], 0);
    }
    fs::write(place.path("repo/exuvia.json"), "{}").unwrap();
    scrub(&place, &[], 13);
    fs::remove_file(place.path("repo/exuvia.json")).unwrap();
    let output = place.command(&["scrub"]).env_remove("EXUVIA_PASSPHRASE").output().unwrap();
    Run::from(output).exits(10);
}

#[test]
fn parts_cover_all_in_time_and_checks_know_of_it() {
    let place = world();
    // Packs of about the same size: a quarter is one of them, or two.
    for _ in 0..4 {
        scrub(&place, &["--subset", "25%"], 0);
    }
    let check = place.run(&["--json", "check"]).exits(0).summary();
    assert_eq!(check["packs_unread"], 0, "{check}");
    assert!(check["read_since"].is_string(), "{check}");
    fs::remove_dir_all(place.path("home/.cache/exuvia")).unwrap();
    let parts: u64 = (1..=3)
        .map(|n| scrub(&place, &["--subset", &format!("{n}/3")], 0)["packs_read"].as_u64().unwrap())
        .sum();
    assert_eq!(parts, 4);
    let said = place.run(&["check"]).exits(0);
    assert!(said.text().contains("all data read since"), "{}", said.text());
}

#[test]
fn what_a_scrub_finds_the_next_backup_heals() {
    let place = world();
    let pack = files(&place.path("repo/packs")).into_iter().max_by_key(|(_, size)| *size).unwrap().0;
    flip(&pack);
    scrub(&place, &[], 13);
    let healing = place.backup("tree");
    assert!(healing["bytes_added_raw"].as_u64().unwrap() >= 300_000, "{healing}");
}

/// A service that has SHA-256 is asked for it. rclone's own backend for local files computes all hashes.
#[test]
fn a_service_with_hashes_is_asked() {
    let mut place = world();
    let repo = place.path("repo");
    place.set("EXUVIA_REPO", &format!("rclone::local:{}", repo.display()));
    let all = scrub(&place, &[], 0);
    assert_eq!(all["objects_hashed_by_service"], all["objects"], "{all}");
    assert_eq!(all["bytes_read"], 0, "{all}");
    let pack = files(&repo.join("packs")).into_keys().next().unwrap();
    flip(&pack);
    let found = scrub(&place, &[], 13);
    let name = pack.strip_prefix(&repo).unwrap().to_str().unwrap();
    assert_eq!(found["problems"][0]["object"], name, "{found}");
}
