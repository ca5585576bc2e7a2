//! Backups that are killed: what was published stays, and what was stored is used by the next one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Numbers, Picture, Place, database, ended, files, insert, noise, picture, prose, put, same,
    with_repository,
};

/// Kills, in series that end with a backup that runs to its end.
const SERIES: u64 = 5;
const KILLS: u64 = 10;
/// Incompressible bytes that are new in each series; a pack holds 16 MiB.
const NEW_BYTES: usize = 22 << 20;

/// Stored bytes of the repository's packs that are whole.
fn packs(place: &Place) -> u64 {
    let whole = |path: &Path| !path.file_name().unwrap().to_str().unwrap().starts_with(".exuvia-tmp-");
    files(&place.path("repo/packs")).into_iter().filter(|(path, _)| whole(path)).map(|(_, size)| size).sum()
}

/// All bytes that a backup writes, unfinished ones too.
fn written(place: &Place) -> u64 {
    [place.path("repo"), place.path("home")].iter().flat_map(|dir| files(dir).into_values()).sum()
}

/// When to kill.
enum Moment {
    /// After so many looks: anywhere between the start and the end.
    Looks(u64),
    /// When so many bytes have been written: anywhere in the stores.
    Bytes(u64),
    /// When whole packs hold more than so many bytes: the next run must use them.
    Packs(u64),
}

/// Runs a backup and kills it; returns its summary when it was faster, and how often was looked.
fn killed(place: &Place, moment: &Moment) -> (Option<Value>, u64) {
    let mut child = place.start(&["--json", "backup", "tree"]);
    let mut looks = 0;
    loop {
        if child.try_wait().unwrap().is_some() {
            return (Some(ended(child).exits(0).summary()), looks);
        }
        let now = written(place);
        looks += 1;
        let due = match *moment {
            Moment::Looks(limit) => looks > limit,
            Moment::Bytes(limit) => now >= limit,
            Moment::Packs(size) => packs(place) > size,
        };
        if due {
            break;
        }
        // Out of the way of the one that is watched.
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    let run = ended(child);
    // It may have ended just before.
    let finished = (run.code == Some(0)).then(|| run.summary());
    assert!(finished.is_some() || run.code.is_none(), "{:?} {}", run.code, run.stderr);
    (finished, looks)
}

/// Notes which snapshots are new: they hold the tree as it is now.
fn note(place: &Place, published: &mut BTreeMap<String, Picture>, now: &Picture) {
    for id in place.snapshots() {
        published.entry(id).or_insert_with(|| now.clone());
    }
}

#[test]
fn a_killed_backup_loses_nothing() {
    let place = with_repository();
    let tree = place.path("tree");
    let databases =
        [database(&tree.join("a.sqlite"), 2000, 4096), database(&tree.join("m/b.sqlite"), 500, 1024)];
    for i in 0..40 {
        put(&tree, &format!("notes/{}/{i}.md", i % 7), &prose(i, 4000 + 700 * usize::try_from(i).unwrap()));
    }
    put(&tree, "log.txt", &prose(99, 3 << 20));
    std::os::unix::fs::symlink("notes/1/1.md", tree.join("link")).unwrap();
    let (mut numbers, mut published) = (Numbers::new(7), BTreeMap::new());
    let mut kills = 0;
    // How often a backup that is left alone is looked at.
    let mut typical = 200;
    for series in 0..SERIES {
        put(&tree, &format!("media/{}", series % 2), &noise(series, NEW_BYTES));
        insert(&databases[0], 300);
        let dry = place.run(&["--json", "backup", "--dry-run", "tree"]).exits(0).summary();
        let clean = dry["bytes_added_stored"].as_u64().unwrap();
        let before = packs(&place);
        // What there is to be stored since `before`.
        let mut due = clean;
        let mut killed_here = 0;
        // Some runs are faster than the hand that is to kill them.
        for round in 0..4 * KILLS {
            if killed_here == KILLS {
                break;
            }
            let new = usize::try_from(numbers.below(200_000)).unwrap();
            put(&tree, &format!("new/{series}-{round}"), &noise(1000 * series + round + 100, new));
            due += new as u64;
            insert(&databases[1], 3);
            let now = picture(&tree);
            let rest = due.saturating_sub(packs(&place) - before);
            let moment = if killed_here == 0 {
                Moment::Packs(packs(&place))
            } else if numbers.below(2) == 0 {
                Moment::Looks(numbers.below(typical))
            } else {
                Moment::Bytes(written(&place) + numbers.below(rest.max(1 << 16)))
            };
            let (finished, looks) = killed(&place, &moment);
            note(&place, &mut published, &now);
            if finished.is_none() {
                killed_here += 1;
                continue;
            }
            typical = looks.max(2);
            // Nothing is left to be stored: there shall be.
            put(&tree, "media/again", &noise(50 + 100 * series + round, NEW_BYTES / 2));
            due += NEW_BYTES as u64 / 2;
        }
        kills += killed_here;
        let left = packs(&place) - before;
        let now = picture(&tree);
        let last = place.backup("tree");
        let stored = last["bytes_added_stored"].as_u64().unwrap();
        // Each round's file and pages of a database come on top; so do the manifests of each round.
        let most = due * 13 / 10 + (1 << 20);
        assert!(left + stored <= most, "series {series}: {left} left, {stored} stored, {most} at most");
        assert!(stored < due / 2, "series {series}: {stored} stored again of {due}");
        note(&place, &mut published, &now);
        let id = last["snapshot"].as_str().unwrap();
        same(&place.restored(id), &now, id);
        place.is_sound();
    }
    assert_eq!(kills, SERIES * KILLS);
    for (id, wanted) in &published {
        same(&place.restored(id), wanted, id);
    }
    // What was left unfinished is in nobody's way, and old ones may be taken away by anybody.
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    let again = place.backup("tree");
    assert!(again["bytes_added_stored"].as_u64().unwrap() < 1 << 20, "{again}");
    same(&place.restored(again["snapshot"].as_str().unwrap()), &picture(&tree), "without a cache");
}
