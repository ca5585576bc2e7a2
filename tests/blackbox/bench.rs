//! `exuvia bench`: what it says, and that it leaves nothing behind. Not how fast anything is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Place, Run, files, noise, prose, put, with_repository};

const STAGES: [&str; 10] = [
    "walk_entries_per_s",
    "read_mib_per_s",
    "chunk_mib_per_s",
    "blake3_mib_per_s",
    "seal_mib_per_s",
    "sha256_mib_per_s",
    "open_mib_per_s",
    "key_derivation_ms",
    "cached_key_derivation_ms",
    "compress",
];

/// A state dir of two MiB, of which a half compresses.
fn with_state(place: &mut Place) {
    let dir = place.path("state");
    for n in 0..64 {
        put(&dir, &format!("notes/{n}.md"), &prose(n, 16 << 10));
        put(&dir, &format!("media/{n}.bin"), &noise(n, 16 << 10));
    }
    place.set("EXUVIA_STATE_DIR", dir.to_str().unwrap());
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number > 0.0)
}

fn repository(place: &Place) -> BTreeMap<PathBuf, u64> {
    files(&place.path("repo"))
}

fn has_stages(document: &Value, with_tree: bool) {
    for stage in STAGES {
        let value = &document["stages"][stage];
        match stage {
            "walk_entries_per_s" | "read_mib_per_s" if !with_tree => assert!(value.is_null(), "{stage}"),
            "compress" => {
                let levels = value.as_array().unwrap();
                let names: Vec<_> =
                    levels.iter().map(|level| level["compression"].as_str().unwrap()).collect();
                assert_eq!(names, ["fast", "default", "max"]);
                assert!(levels.iter().all(|l| positive(&l["mib_per_s"]) && positive(&l["ratio"])));
            }
            _ => assert!(positive(value), "{stage}: {value}"),
        }
    }
}

#[test]
fn a_state_dir_and_a_repository_are_measured() {
    let mut place = with_repository();
    with_state(&mut place);
    // It opens nothing.
    place.set("EXUVIA_PASSPHRASE", "");
    let before = repository(&place);
    let run = place.run(&["--json", "--threads", "2", "bench"]).exits(0);
    assert_eq!((run.text().lines().count(), run.stderr.as_str()), (1, ""));
    let found = run.summary();
    assert_eq!((&found["type"], &found["threads"]), (&"summary".into(), &2.into()));
    assert_eq!((&found["sample"], &found["sample_bytes"]), (&"state_dir".into(), &(2 << 20).into()));
    let tree = &found["state_dir"];
    assert_eq!((&tree["files"], &tree["bytes"]), (&128.into(), &(2 << 20).into()));
    assert_eq!((&tree["entries"], &tree["complete"]), (&131.into(), &true.into()));
    assert_eq!(tree["path"], place.path("state").to_str().unwrap());
    has_stages(&found, true);
    for field in ["request_ms", "upload_mib_per_s", "download_mib_per_s", "parallel"] {
        assert!(positive(&found["remote"][field]), "{field}: {found}");
    }
    assert_eq!(found["left"], Value::Array(Vec::new()));
    let estimate = &found["estimate"];
    assert_eq!(estimate["bytes"], 2 << 20);
    for field in ["stored_bytes", "first_backup_ms", "unchanged_backup_ms", "restore_ms"] {
        assert!(positive(&estimate[field]), "{field}: {estimate}");
    }
    let bound = estimate["first_backup_bound"].as_str().unwrap();
    assert!(["reading", "compressing", "upload"].contains(&bound));
    assert!(["default", "auto", "max"].contains(&estimate["compression"].as_str().unwrap()));
    assert_eq!(repository(&place), before);
    assert!(!place.path("repo/doctor").exists());
}

fn says(run: &Run, words: &[&str]) {
    for word in words {
        assert!(run.text().contains(word), "{word}: {}", run.text());
    }
}

#[test]
fn the_text_has_a_table_and_a_conclusion() {
    let mut place = with_repository();
    with_state(&mut place);
    let run = place.run(&["bench"]).exits(0);
    says(
        &run,
        &["STAGE", "walk ", "compress, max", " to 1", "upload ", "2.0 MiB in 128 files", "--compression "],
    );
    let quiet = place.run(&["--quiet", "bench", "--no-remote"]).exits(0);
    says(&quiet, &["STAGE", "compress, max"]);
    assert!(!quiet.text().contains("upload") && !quiet.text().contains("advice"), "{}", quiet.text());
}

#[test]
fn without_a_state_dir_the_sample_is_made_up() {
    let place = Place::new();
    let run = place.run(&["bench", "--no-remote", "--json"]).exits(0);
    let found = run.summary();
    assert_eq!((&found["sample"], &found["state_dir"]), (&"made_up".into(), &Value::Null));
    has_stages(&found, false);
    assert_eq!((&found["remote"], &found["estimate"]["unchanged_backup_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(found["estimate"]["bytes"], 1 << 30);
    let run = place.run(&["bench", "--state-dir", "nowhere"]).exits(0);
    says(&run, &["there is none at ", "nowhere", "first backup  1.0 GiB: ", "there is no repository yet"]);
    assert!(!place.path("home/.local").exists());
}

#[test]
fn a_remote_that_fails_does_not_take_the_rest_with_it() {
    let mut place = Place::new();
    place.set("EXUVIA_RCLONE", "/nowhere/rclone");
    let run = place.run(&["--json", "--repo", "rclone:b2:bucket", "bench"]).exits(2);
    let found = run.summary();
    has_stages(&found, false);
    assert_eq!(found["remote"], Value::Null);
    assert_eq!(run.error()["class"], "usage");
}
