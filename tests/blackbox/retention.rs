//! `forget` by a policy, and of regular snapshots by their ids.

use std::fs;
use std::sync::Arc;

use exuvia::app::Passphrase;
use exuvia::model::{Snapshot, SnapshotKind, Timestamp, WriterId};
use exuvia::repo::{CachePlace, Catalog, Repository};
use serde_json::{Value, json};

use crate::support::{PASSPHRASE, Place, files, names, put, with_repository};

const DAY: i64 = 86_400;

/// A place with one real snapshot `first` of three files, which tests multiply.
fn with_snapshot() -> (Place, String) {
    let mut place = with_repository();
    place.set("EXUVIA_STATE_DIR", "state").set("TZ", "UTC");
    for name in ["a", "b", "c", "d", "e"] {
        put(&place.path("state"), name, name.as_bytes());
    }
    let first = id(&place.run(&["--json", "backup"]).exits(0).summary());
    (place, first)
}

fn id(summary: &Value) -> String {
    summary["snapshot"].as_str().unwrap().to_owned()
}

fn open(place: &Place) -> Repository {
    let remote = Arc::new(exuvia::remote::Local::new(place.path("repo")));
    let passphrase = Passphrase::new(PASSPHRASE.as_bytes().to_vec());
    let cache = place.path("home/.cache/exuvia");
    Repository::open(remote, &passphrase, CachePlace { dir: &cache, keeps_key: true }).unwrap()
}

/// Publishes the first snapshot again, changed, as if another machine had made it.
fn publish(place: &Place, sequence: u64, change: impl Fn(&mut Snapshot)) -> String {
    const OTHER: WriterId = WriterId([7; 16]);
    let repository = open(place);
    let catalog = Catalog::load(&repository, SnapshotKind::Regular).unwrap();
    let records = catalog.entries().iter().map(|entry| repository.snapshot(entry).unwrap());
    let mut snapshot = records.into_iter().find(|snapshot| snapshot.writer != OTHER).unwrap();
    snapshot.writer = OTHER;
    snapshot.sequence = sequence;
    change(&mut snapshot);
    repository.publish_snapshot(&snapshot, true).unwrap().id.to_string()
}

/// A snapshot of so many days before the first one.
fn of_day(place: &Place, days: i64, change: impl Fn(&mut Snapshot)) -> String {
    publish(place, u64::try_from(20_000 - days).unwrap(), |snapshot| {
        snapshot.time.secs -= days * DAY;
        change(snapshot);
    })
}

fn reasons(applied: &Value, id: &str) -> Vec<String> {
    let groups = applied["groups"].as_array().unwrap();
    let rows = groups.iter().flat_map(|group| group["snapshots"].as_array().unwrap());
    let row = rows.into_iter().find(|row| row["id"] == id).unwrap();
    row["reasons"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_policy_keeps_what_it_says() {
    let (place, first) = with_snapshot();
    let days: Vec<String> = (1..=9).map(|days| of_day(&place, days, |_| {})).collect();
    let before = files(&place.path("repo"));
    let run =
        place.run(&["--json", "forget", "--keep-daily", "3", "--keep-within", "4d", "--dry-run"]).exits(0);
    let applied = run.summary();
    assert_eq!(files(&place.path("repo")), before);
    assert_eq!((&applied["dry_run"], &applied["kept"]), (&true.into(), &5.into()));
    assert_eq!(reasons(&applied, &first), ["newest", "newest-complete", "daily", "within"]);
    assert_eq!(reasons(&applied, &days[1]), ["daily", "within"]);
    assert_eq!(reasons(&applied, &days[3]), ["within"]);
    assert_eq!(reasons(&applied, &days[4]), [""; 0]);
    // Oldest first.
    let gone: Vec<String> = days[4..].iter().rev().cloned().collect();
    assert_eq!(applied["removed"], json!(gone));
    let table = place.run(&["forget", "--keep-daily", "3", "--keep-within", "4d", "-n"]).exits(0);
    let text = table.text();
    assert!(text.contains("5 kept, 5 removed") && text.contains("would remove 5 of 10 snapshots"), "{text}");
    let row = |id: &str| text.lines().find(|line| line.starts_with(&id[..8])).unwrap().to_owned();
    assert!(row(&days[1]).ends_with("daily, within") && row(&days[8]).ends_with("(removed)"), "{text}");

    // As many as are kept: nobody is asked.
    let applied =
        place.run(&["--json", "forget", "--keep-daily", "3", "--keep-within", "4d"]).exits(0).summary();
    assert_eq!((&applied["dry_run"], &applied["removed"]), (&false.into(), &json!(gone)));
    let mut left: Vec<String> = days[..4].iter().rev().cloned().collect();
    left.push(first);
    assert_eq!(place.snapshots(), left);
    let removed: Vec<_> = before.keys().filter(|path| !path.exists()).collect();
    assert!(removed.iter().all(|path| path.starts_with(place.path("repo/snapshots"))), "{removed:?}");
    place.is_sound();
    let again = place.run(&["forget", "--keep-daily", "3", "--keep-within", "4d"]).exits(0);
    assert_eq!(again.text(), "removed 0 of 5 snapshots\n");
    place.restored("latest");
}

#[test]
fn whoever_would_remove_more_than_is_kept_is_asked() {
    let (place, first) = with_snapshot();
    (1..=4).for_each(|days| drop(of_day(&place, days, |_| {})));
    let before = files(&place.path("repo"));
    let run = place.run(&["--json", "forget", "--keep-last", "2"]).exits(2);
    assert!(run.error()["message"].as_str().unwrap().contains("would remove 3 of 5"), "{}", run.stderr);
    assert!(run.error()["hint"].as_str().unwrap().contains("--yes"), "{}", run.stderr);
    assert_eq!(files(&place.path("repo")), before);
    place.run(&["forget", "--keep-last", "3"]).exits(0);
    assert_eq!(place.snapshots().len(), 3);
    place.run(&["forget", "--keep-last", "1", "--yes"]).exits(0);
    assert_eq!(place.snapshots(), [first]);
}

#[test]
fn what_keeps_nothing_or_means_nothing_is_refused() {
    let (place, first) = with_snapshot();
    let before = files(&place.path("repo"));
    for args in [
        &["forget"][..],
        &["forget", "--yes"],
        &["forget", "--keep-last", "0", "--yes"],
        &["forget", "--policy", "0", "--yes"],
        &["forget", "--policy", "{}", "--yes"],
        &["forget", "--policy", "{dayly: 3}", "--yes"],
        &["forget", "--policy", "7", "--keep-last", "7"],
        &["forget", "--keep-daily", "-1"],
        &["forget", "--keep-within", "7"],
        &["forget", "--keep-tag", "", "--yes"],
        &["forget", "--keep-last", "1", "--keep-tag", "", "--yes"],
        &["forget", "--keep-last", "1", "--keep-tag", "a", "--keep-tag", " ,", "--yes"],
        &["forget", "--policy", "{last: 1, tags: ''}", "--yes"],
        &["forget", "--keep-last", "1", "--group-by", "hosts,colour"],
        &["forget", "--keep-last", "1", "--tag", ","],
        &["forget", "--keep-last", "1", &first],
        &["forget", "--keep-last", "1", "--safety", &first],
        &["forget", "--safety", "--keep-last", "1"],
        &["forget", "--host", "x", "--yes", &first],
        &["forget", "--keep-last", "1", "--force"],
        // It may be a number of snapshots to keep.
        &["forget", "--yes", &first[..7]],
        &["forget", "--yes", "latest"],
        &["forget", "--yes", "2026-02-15"],
        &["forget", &first],
    ] {
        place.run(args).exits(2);
        assert_eq!(files(&place.path("repo")), before, "{args:?}");
    }
}

#[test]
fn the_forms_of_other_tools_are_understood() {
    let (mut place, first) = with_snapshot();
    let days: Vec<String> = (1..=9).map(|days| of_day(&place, days, |_| {})).collect();
    let kept = |place: &Place, args: &[&str]| {
        let run = place.run(&[&["--json", "forget", "--dry-run"], args].concat()).exits(0);
        run.summary()["kept"].as_u64().unwrap()
    };
    assert_eq!(kept(&place, &["--policy", "7"]), 7);
    assert_eq!(kept(&place, &["--policy", "{daily: 4, weekly: 1, monthly: 1}"]), 4);
    assert_eq!(kept(&place, &["--policy", "{\"daily\": 5}"]), 5);
    for (text, want) in [
        ("retention = 3\n", 3),
        ("[retention]\ndaily = 6\n", 6),
        ("[retention]\nkeep_daily = 6\n", 6),
        ("[retention]\nkeep-last = 5\n", 5),
        ("retention = '{daily: 4}'\n", 4),
    ] {
        let path = place.write("config.toml", text);
        place.set("EXUVIA_CONFIG", path.to_str().unwrap());
        assert_eq!(kept(&place, &[]), want, "{text}");
        // Who gives rules gives all of them.
        assert_eq!(kept(&place, &["--keep-last", "2"]), 2, "{text}");
        let shown = place.run(&["config", "show"]).exits(0);
        assert!(shown.text().lines().any(|line| line.starts_with("retention")), "{}", shown.text());
    }
    // Each rule may be spelled as its flag is.
    for (rule, value) in [
        ("last", "3"),
        ("hourly", "3"),
        ("daily", "3"),
        ("weekly", "3"),
        ("monthly", "3"),
        ("yearly", "3"),
        ("within", "'2d'"),
        ("tags", "'a'"),
    ] {
        for name in [format!("keep_{rule}"), format!("keep-{rule}")] {
            place.write("config.toml", &format!("[retention]\n{name} = {value}\n"));
            let run = place.run(&["config", "check"]).exits(0);
            assert!(!run.text().contains("unknown"), "{}", run.text());
        }
    }
    place.write("config.toml", "retention = '{daily: 4}'\n");
    // That a rule of a flag keeps nothing does not turn to the file.
    place.run(&["forget", "--keep-last", "0", "--yes"]).exits(2);
    place.run(&["forget", "--yes"]).exits(0);
    assert_eq!(place.snapshots(), [days[2].clone(), days[1].clone(), days[0].clone(), first]);
}

#[test]
fn machines_and_directories_are_judged_apart() {
    let (place, first) = with_snapshot();
    let other = of_day(&place, 3, |s| s.host = "other".to_owned());
    let older = of_day(&place, 5, |s| s.host = "other".to_owned());
    let tagged = of_day(&place, 7, |s| s.tags = vec!["release".to_owned()]);
    let part = of_day(&place, 9, |s| s.selection.push("include=memory".to_owned()));
    let gone = |args: &[&str]| {
        let run =
            place.run(&[&["--json", "forget", "--dry-run", "--keep-last", "1"], args].concat()).exits(0);
        let gone = run.summary()["removed"].as_array().unwrap().clone();
        gone.iter().map(|id| id.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(gone(&[]), [tagged.clone(), older.clone()]);
    assert_eq!(gone(&["--host", "other"]), std::slice::from_ref(&older));
    assert_eq!(gone(&["--keep-tag", "release"]), std::slice::from_ref(&older));
    assert_eq!(gone(&["--tag", "release"]), [""; 0]);
    assert_eq!(gone(&["--path", "state"]), [tagged.clone(), older.clone()]);
    assert_eq!(gone(&["--path", "elsewhere"]), [""; 0]);
    assert_eq!(gone(&["--group-by", "none"]), [part, tagged, older, other]);
    assert_eq!(place.snapshots().last(), Some(&first));
}

#[test]
fn wrong_clocks_cost_nothing() {
    let (place, first) = with_snapshot();
    let days: Vec<String> = (1..=4).map(|days| of_day(&place, days, |_| {})).collect();
    let far = of_day(&place, -40 * 365, |_| {});
    let past = publish(&place, 90_000, |s| s.time = Timestamp::from_secs(1000));
    let applied = place
        .run(&["--json", "forget", "--keep-daily", "2", "--keep-within", "3d", "--yes"])
        .exits(0)
        .summary();
    assert_eq!(reasons(&applied, &far), ["future"]);
    assert_eq!(reasons(&applied, &past), ["written-last"]);
    assert_eq!(applied["removed"], json!([days[3]]));
    assert_eq!(place.snapshots(), [past, days[2].clone(), days[1].clone(), days[0].clone(), first, far]);
}

#[test]
fn what_cannot_be_read_stays_and_counts_for_nothing() {
    let (place, first) = with_snapshot();
    let days: Vec<String> = (1..=3).map(|days| of_day(&place, days, |_| {})).collect();
    let folder = place.path("repo/snapshots");
    let damaged = names(&folder).into_iter().find(|name| name.ends_with(&days[0])).unwrap();
    fs::write(folder.join(&damaged), b"damaged").unwrap();
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    let run = place.run(&["--json", "forget", "--keep-last", "2", "--yes"]).exits(0);
    let applied = run.summary();
    assert_eq!((&applied["unreadable"], &applied["kept"]), (&1.into(), &2.into()));
    assert_eq!(applied["removed"], json!([days[2]]));
    assert!(run.stderr.contains(&damaged), "{}", run.stderr);
    assert_eq!(names(&folder).len(), 3);
    // By its id it can be removed.
    place.run(&["forget", "--yes", "--force", &days[0]]).exits(0);
    assert_eq!(place.snapshots(), [days[1].clone(), first]);
}

#[test]
fn what_is_held_back_stays() {
    let (place, first) = with_snapshot();
    for name in ["a", "b", "c", "d"] {
        fs::remove_file(place.path("state").join(name)).unwrap();
    }
    let shrunk = id(&place.run(&["--json", "backup"]).exits(0).summary());
    let ids = [3, 2, 1].map(|n| {
        put(&place.path("state"), "e", &[n]);
        id(&place.run(&["--json", "backup"]).exits(0).summary())
    });
    let applied = place.run(&["--json", "forget", "--keep-last", "1", "--yes"]).exits(0).summary();
    assert_eq!(reasons(&applied, &first), ["held-back"]);
    assert_eq!(reasons(&applied, &shrunk), ["held-back"]);
    assert_eq!(place.snapshots(), [first.clone(), shrunk.clone(), ids[2].clone()]);
    for id in [&first, &shrunk] {
        let run = place.run(&["--json", "forget", "--yes", id]).exits(2);
        assert!(run.error()["hint"].as_str().unwrap().contains("--force"), "{}", run.stderr);
    }
    // Without the mark nothing holds the parent any more.
    let run = place.run(&["--json", "forget", "--yes", "--force", &shrunk[..8]]).exits(0);
    assert_eq!(run.summary(), json!({"type": "summary", "removed": [shrunk]}));
    place.run(&["forget", "--keep-last", "1", "--yes"]).exits(0);
    assert_eq!(place.snapshots(), [ids[2].clone()]);
    place.is_sound();
}

#[test]
fn backups_after_a_forget_know_what_is_there() {
    let (place, _) = with_snapshot();
    for n in 0..4u8 {
        put(&place.path("state"), "e", &[n; 3000]);
        place.run(&["backup"]).exits(0);
    }
    place.run(&["forget", "--keep-last", "1", "--yes"]).exits(0);
    // What only the forgotten ones had is stored already, and is not stored again.
    put(&place.path("state"), "f", &[1; 3000]);
    let summary = place.run(&["--json", "backup"]).exits(0).summary();
    assert!(summary["bytes_added_raw"].as_u64().unwrap() < 2000, "{summary}");
    assert!(summary["remote_requests"]["list"].as_u64().unwrap() <= 6, "{summary}");
    let summary = place.run(&["--json", "backup"]).exits(0).summary();
    assert_eq!(summary["remote_requests"]["list"], 2);
    // The one that the cache compares with is removed by its id.
    let newest = place.snapshots().pop().unwrap();
    place.run(&["forget", "--yes", &newest]).exits(0);
    let summary = place.run(&["--json", "backup"]).exits(0).summary();
    assert_ne!(summary["parent"], newest.as_str());
    place.is_sound();
    place.restored("latest");
}
