//! `forget --safety`: exactly what is named, and nothing else.

use std::fs;
use std::sync::Arc;

use exuvia::app::Passphrase;
use exuvia::clock::{Clock, SystemClock};
use exuvia::model::{Reason, SnapshotKind};
use exuvia::ops::backup;
use exuvia::remote::Counting;
use exuvia::repo::{CachePlace, Catalog, PackerOptions, Repository};
use exuvia::report::{Monitor, Silent};
use serde_json::{Value, json};

use crate::support::{PASSPHRASE, Place, files, names, put, with_repository};

/// Takes a safety snapshot, as a rollback does before it begins.
fn safety(place: &Place, content: &[u8]) -> String {
    put(&place.path("state"), "a", content);
    let cache = place.path("home/.cache/exuvia");
    let counting = Arc::new(Counting::new(Arc::new(exuvia::remote::Local::new(place.path("repo")))));
    let passphrase = Passphrase::new(PASSPHRASE.as_bytes().to_vec());
    let caches = CachePlace { dir: &cache, keeps_key: true };
    let repository = Repository::open(Arc::clone(&counting) as _, &passphrase, caches).unwrap();
    let catalog = Catalog::load(&repository, SnapshotKind::Regular).unwrap();
    let request = backup::Request {
        kind: SnapshotKind::Safety,
        reason: Reason::Safety,
        ..backup::Request::new(place.path("state"), PackerOptions::new(1))
    };
    let (monitor, clock): (Arc<dyn Monitor>, Arc<dyn Clock>) =
        (Arc::new(Silent), Arc::new(SystemClock::new()));
    let outcome = backup::run(&repository, &catalog, &counting, &request, &monitor, &clock).unwrap();
    outcome.id.unwrap().to_string()
}

fn listed(place: &Place, args: &[&str]) -> Vec<String> {
    let rows = place.run(&[&["--json", "snapshots"], args].concat()).exits(0).summary();
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn exactly_what_is_named_is_removed() {
    let place = with_repository();
    put(&place.path("state"), "a", b"regular");
    let regular = place.backup("state")["snapshot"].as_str().unwrap().to_owned();
    let ids: Vec<String> = (0..3u8).map(|n| safety(&place, &[n])).collect();
    let rows = place.run(&["--json", "snapshots", "--safety"]).exits(0).summary();
    assert_eq!((&rows[0]["kind"], &rows[0]["reason"]), (&"safety".into(), &"safety".into()));
    assert_eq!(listed(&place, &["--safety"]), ids);
    let before = files(&place.path("repo"));

    // Nothing without an answer, and nothing when one name is wrong.
    for args in [
        &["forget", "--safety", &ids[0]][..],
        &["forget", "--safety", &ids[0], "--yes", &regular],
        &["forget", "--safety", "--yes", "latest"],
        &["forget", "--safety", "--yes", "0123456789"],
        &["forget", "--safety", "--yes", ""],
        &["forget", "--yes", &ids[0]],
        &["forget", "--safety", "--yes"],
    ] {
        place.run(args).exits(2);
        assert_eq!(files(&place.path("repo")), before, "{args:?}");
    }
    let run = place.run(&["--json", "forget", "--safety", &ids[0]]).exits(2);
    assert!(run.error()["hint"].as_str().unwrap().contains("--yes"), "{}", run.stderr);
    let run = place.run(&["--json", "forget", "--safety", "--yes", &regular]).exits(2);
    assert!(run.error()["hint"].as_str().unwrap().contains("snapshots --safety"), "{}", run.stderr);

    // By a unique beginning, and named twice.
    let run = place.run(&["--json", "forget", "--safety", "--yes", &ids[1][..12], &ids[1]]).exits(0);
    assert_eq!(run.summary(), json!({"type": "summary", "removed": [ids[1]]}));
    let gone: Vec<_> = before.keys().filter(|path| !path.exists()).collect();
    assert_eq!(gone.len(), 1);
    assert!(gone[0].to_str().unwrap().ends_with(&ids[1]), "{gone:?}");
    // In its place is the note that this was meant.
    assert_eq!(files(&place.path("repo")).len(), before.len());
    assert_eq!(names(&place.path("repo/removed")).len(), 1);
    assert_eq!(listed(&place, &["--safety"]), [ids[0].clone(), ids[2].clone()]);
    assert_eq!(listed(&place, &[]), [regular]);
    place.is_sound();
    // What is left can be restored.
    place.run(&["restore", &ids[0], "--to", "out"]).exits(0);
    assert_eq!(fs::read(place.path("out/a")).unwrap(), [0]);
    let run = place.run(&["forget", "--safety", "--yes", &ids[1]]).exits(2);
    assert!(run.stderr.contains("no snapshot matches"), "{}", run.stderr);
}

#[test]
fn a_damaged_record_can_be_removed() {
    let place = with_repository();
    put(&place.path("state"), "a", b"regular");
    place.backup("state");
    let id = safety(&place, b"x");
    let path = place.path("repo/safety").join(&names(&place.path("repo/safety"))[0]);
    fs::write(&path, b"damaged").unwrap();
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    let run = place.run(&["forget", "--safety", "-y", &id]).exits(0);
    assert!(run.text().starts_with("removed 1 safety snapshot: "), "{}", run.text());
    assert_eq!(names(&place.path("repo/safety")), [""; 0]);
}

/// The state before a rollback may be shrunken; that is why there is one.
#[test]
fn safety_snapshots_raise_no_alarm() {
    let place = with_repository();
    for n in 0..10 {
        put(&place.path("state"), &format!("{n}"), b"x");
    }
    place.backup("state");
    for n in 0..9 {
        fs::remove_file(place.path(&format!("state/{n}"))).unwrap();
    }
    safety(&place, b"x");
    let rows = place.run(&["--json", "snapshots", "--safety"]).exits(0).summary();
    assert_eq!((&rows[0]["alarm"], &rows[0]["accepted"]), (&json!([]), &Value::Null));
}
