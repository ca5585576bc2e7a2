//! Looking before deciding: `diff`, `find`, `ls`.

use std::ffi::OsStr;
use std::fs::{self, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde_json::Value;

use crate::codes::as_nobody;
use crate::support::{Place, Run, database, files, insert, noise, put, with_repository};

/// The lines of `--json`: what differs, and the summary.
fn lines(run: &Run) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    assert_eq!(summary["type"], "summary");
    assert!(lines.iter().all(|line| line["type"] == "change"));
    (lines, summary)
}

fn diff(place: &Place, args: &[&str]) -> (Vec<Value>, Value) {
    lines(&place.run(&[&["--json", "diff"], args].concat()).exits(0))
}

/// Change and path of each line.
fn told(lines: &[Value]) -> Vec<String> {
    lines
        .iter()
        .map(|l| format!("{} {}", l["change"].as_str().unwrap(), l["path"].as_str().unwrap()))
        .collect()
}

fn touch(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = fs::File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// A tree of every kind of entry, with a snapshot, and then changed in every way.
fn changed() -> Place {
    let place = with_repository();
    let tree = place.path("tree");
    for (name, content) in [
        ("gone.md", &b"gone\n"[..]),
        ("kept.md", b"kept\n"),
        ("longer.md", b"one\ntwo\nthree\n"),
        ("other.md", b"abc\n"),
        ("mode.md", b"mode\n"),
        ("touched.md", b"touched\n"),
        ("kind", b"a file\n"),
        ("dir/below.md", b"below\n"),
        ("quiet/x.md", b"x\n"),
        ("pair/a", b"linked\n"),
    ] {
        put(&tree, name, content);
    }
    fs::hard_link(tree.join("pair/a"), tree.join("pair/b")).unwrap();
    symlink("here", tree.join("link")).unwrap();
    place.backup("tree");

    fs::remove_file(tree.join("gone.md")).unwrap();
    put(&tree, "new/added.md", b"added\n");
    put(&tree, "longer.md", b"one\n2\nthree\nfour\n");
    // Of the same length.
    put(&tree, "other.md", b"abd\n");
    fs::set_permissions(tree.join("mode.md"), Permissions::from_mode(0o600)).unwrap();
    touch(&tree.join("touched.md"), 1_000_000);
    fs::remove_file(tree.join("kind")).unwrap();
    fs::create_dir(tree.join("kind")).unwrap();
    fs::remove_dir_all(tree.join("dir")).unwrap();
    fs::remove_file(tree.join("link")).unwrap();
    symlink("there", tree.join("link")).unwrap();
    fs::remove_file(tree.join("pair/b")).unwrap();
    put(&tree, "pair/b", b"linked\n");
    touch(&tree.join("quiet"), 2_000_000);
    place
}

const CHANGES: [&str; 10] = [
    "removed dir",
    "removed dir/below.md",
    "removed gone.md",
    "type kind",
    "content link",
    "content longer.md",
    "added new",
    "added new/added.md",
    "content other.md",
    "link pair/b",
];

#[test]
fn every_kind_of_change_is_told_against_the_live_directory_and_another_snapshot() {
    let place = changed();
    let before = files(&place.path("repo"));
    let changes = &CHANGES[..];
    let (found, live) = diff(&place, &[]);
    assert_eq!(told(&found), changes);
    assert_eq!(files(&place.path("repo")), before, "a look stores nothing");
    for (key, want) in
        [("added", 2), ("removed", 3), ("changed", 3), ("types", 1), ("links", 1), ("metadata", 2)]
    {
        assert_eq!(live[key], want, "{key}: {live}");
    }
    assert_eq!((&live["bytes_added"], &live["bytes_removed"]), (&6.into(), &11.into()));
    assert_eq!((&live["bytes_before"], &live["bytes_after"]), (&25.into(), &21.into()));
    assert_eq!(live["identical"], false);
    assert_eq!(live["live"]["path"], place.path("tree").canonicalize().unwrap().to_str().unwrap());
    let longer = &found[5];
    assert_eq!((&longer["old"]["size"], &longer["new"]["size"]), (&14.into(), &17.into()));
    assert_eq!((&longer["old"]["type"], &longer["database"]), (&"file".into(), &false.into()));

    place.backup("tree");
    let (between, summary) = diff(&place, &["latest~1", "latest"]);
    assert_eq!(told(&between), changes);
    for key in ["added", "removed", "changed", "types", "links", "metadata", "bytes_before", "bytes_after"] {
        assert_eq!(summary[key], live[key], "{key}");
    }
    assert_eq!(summary["new"], place.snapshots()[1].as_str());
    // The other way round.
    let (back, _) = diff(&place, &["latest", "latest~1"]);
    let turned = |change: &&str| {
        change.replace("added ", "- ").replace("removed ", "added ").replace("- ", "removed ")
    };
    assert_eq!(told(&back), changes.iter().map(turned).collect::<Vec<_>>());
}

#[test]
fn metadata_is_told_only_when_asked_for_and_never_a_directory_s_time() {
    let place = changed();
    let (found, summary) = diff(&place, &["--metadata"]);
    let metadata: Vec<_> = found.iter().filter(|line| line["change"] == "metadata").collect();
    assert_eq!(told(&found).len(), 12);
    assert_eq!(
        (&metadata[0]["path"], &metadata[0]["metadata"]),
        (&"mode.md".into(), &serde_json::json!(["mode"]))
    );
    assert_eq!(
        (&metadata[1]["path"], &metadata[1]["metadata"]),
        (&"touched.md".into(), &serde_json::json!(["mtime"]))
    );
    assert_eq!((metadata.len(), &summary["metadata"]), (2, &2.into()));

    // With nothing else, there is no difference, until somebody asks.
    place.backup("tree");
    touch(&place.path("tree/kept.md"), 3);
    touch(&place.path("tree/quiet"), 4);
    assert_eq!(diff(&place, &[]).1["identical"], true);
    place.run(&["diff", "--exit-code"]).exits(0);
    let run = place.run(&["diff", "--exit-code", "--metadata"]).exits(1);
    assert!(run.text().starts_with("U  kept.md  mtime\n"), "{}", run.text());
}

#[test]
fn people_get_a_line_for_each_path_and_a_summary() {
    let place = changed();
    let run = place.run(&["diff", "--exit-code"]).exits(1);
    for line in [
        "-  dir/\n",
        "-  gone.md  5 B\n",
        "T  kind  file, now dir\n",
        "M  link  -> here, now -> there\n",
        "M  longer.md  14 B, now 17 B\n",
        "+  new/\n+  new/added.md  6 B\n",
        "L  pair/b  linked otherwise\n",
        "\n2 added (6 B), 3 removed (11 B), 4 changed (25 B, now 21 B), 1 linked otherwise\n",
        "\n2 paths with other times, modes or attributes only (--metadata shows them)\n",
    ] {
        assert!(run.text().contains(line), "{line:?} is missing:\n{}", run.text());
    }
    assert!(!run.text().contains("kept.md") && !run.text().contains("touched.md"), "{}", run.text());
    let stat = place.run(&["diff", "--stat"]).exits(0);
    assert_eq!(stat.text().lines().count(), 3, "{}", stat.text());
    place.run(&["diff", "--quiet", "latest", "latest"]).exits(0);
    let none = place.run(&["diff", "--exit-code", "latest", "latest"]).exits(0);
    assert!(none.text().ends_with("\nno differences\n"), "{}", none.text());
    place.run(&["diff", "nothing"]).exits(2);
}

#[test]
fn a_part_can_be_compared() {
    let place = changed();
    for live in [true, false] {
        let sides: &[&str] = if live { &[] } else { &["latest~1", "latest"] };
        let part = |paths: &[&str]| {
            let paths: Vec<&str> = paths.iter().flat_map(|path| ["--path", path]).collect();
            told(&diff(&place, &[sides, &paths].concat()).0)
        };
        assert_eq!(part(&["pair"]), ["link pair/b"]);
        assert_eq!(part(&["new", "gone.md"]), ["removed gone.md", "added new", "added new/added.md"]);
        assert_eq!(part(&["kept.md"]), [""; 0]);
        let run = place.run(&[&["diff", "--path", "nowhere"], sides].concat()).exits(2);
        assert!(run.stderr.contains("nowhere: neither side has such a path"), "{}", run.stderr);
        place.backup("tree");
    }
}

#[test]
fn texts_are_compared_line_by_line() {
    let place = changed();
    let tree = place.path("tree");
    put(&tree, "esc\n--- a/x", b"a\x1b[2Jb\xff\n");
    put(&tree, "blob", &noise(1, 10_000));
    put(&tree, "large", &vec![b'x'; (4 << 20) + 1]);
    let run = place.run(&["diff", "--patch"]).exits(0);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(
        text.contains("--- a/longer.md\n+++ b/longer.md\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n+four\n"),
        "{text}"
    );
    assert!(text.contains("--- a/gone.md\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"), "{text}");
    assert!(text.contains("--- /dev/null\n+++ b/new/added.md\n@@ -0,0 +1 @@\n+added\n"), "{text}");
    for name in ["blob  9.8 KiB", "large  4.0 MiB"] {
        assert!(text.contains(&format!("+  {name}\n   binary files differ\n")), "{name}: {text}");
    }
    // To a program content goes as it is; a name must not pass for a part of a patch.
    assert!(text.contains("+++ b/esc\\n--- a/x\n"), "{text}");
    assert!(run.stdout.windows(9).any(|bytes| bytes == b"+a\x1b[2Jb\xff\n"), "{text}");

    let (found, _) = diff(&place, &["--patch"]);
    let line = |path: &str| found.iter().find(|line| line["path"] == path).unwrap();
    assert_eq!(line("other.md")["patch"], "@@ -1 +1 @@\n-abc\n+abd\n");
    assert_eq!((&line("blob")["binary"], line("blob").get("patch")), (&true.into(), None));
    assert_eq!(line("esc\n--- a/x")["patch_base64"], "QEAgLTAsMCArMSBAQAorYRtbMkpi/wo=");
    // Between snapshots it is the same.
    place.backup("tree");
    let (between, _) = diff(&place, &["--patch", "latest~1", "latest"]);
    assert_eq!(between, found);
}

/// Changes rows all over a table, so that its image keeps its length.
fn scatter(db: &Connection, n: i64) {
    let sql = format!("update t set body = zeroblob(length(body)) where id % 20 = {n}");
    db.execute_batch(&sql).unwrap();
}

#[test]
fn a_database_tells_which_tables_differ_and_by_how_many_rows() {
    let place = with_repository();
    let path = place.path("tree/db.sqlite");
    let db = database(&path, 4000, 4096);
    db.execute_batch(
        "create table kv (k text primary key, v) without rowid; insert into kv values ('a', 1), ('b', 2);
         create table dropped (x); insert into dropped values (1);
         create virtual table words using fts5(body); create table same (x); insert into same values (1);",
    )
    .unwrap();
    place.backup("tree");
    assert_eq!(diff(&place, &[]).1["identical"], true);

    scatter(&db, 3);
    insert(&db, 10);
    db.execute_batch(
        "update kv set v = 3 where k = 'b'; delete from t where id in (5, 6); drop table dropped;
         create table made (x); create index fast on same (x); insert into words values ('a word or two');",
    )
    .unwrap();
    let lines = "   table dropped: removed, 1 row removed\n   table kv: 1 row changed\n   table made: added\n   table t: 10 rows added, 2 rows removed, 200 rows changed\n   index fast: added\n";
    let want = |run: &Run| {
        let text = run.text();
        assert!(text.starts_with("M  db.sqlite  "), "{text}");
        assert!(text.contains("  database\n") && text.contains(lines), "{text}");
        assert!(text.contains("(-v shows them)\n") && !text.contains("words_content"), "{text}");
        assert!(text.contains(", 1 database\n"), "{text}");
    };
    want(&place.run(&["diff"]).exits(0));
    let loud = place.run(&["-v", "diff"]).exits(0);
    assert!(loud.text().contains("   table words_content: 1 row added\n"), "{}", loud.text());
    assert!(!place.run(&["diff", "--no-tables"]).exits(0).text().contains("table "));
    place.backup("tree");
    want(&place.run(&["diff", "latest~1", "latest"]).exits(0));

    let (found, summary) = diff(&place, &["latest~1", "latest", "--patch"]);
    assert_eq!((told(&found), &summary["databases"]), (vec!["content db.sqlite".to_owned()], &1.into()));
    let tables = found[0]["tables"].as_array().unwrap();
    let t = tables.iter().find(|table| table["name"] == "t").unwrap();
    assert_eq!(
        *t,
        serde_json::json!({"name": "t", "schema": null, "internal": false,
            "rows_added": 10, "rows_removed": 2, "rows_changed": 200})
    );
    assert!(found[0].get("patch").is_none(), "a database is no text");
    // The images that were compared are gone.
    let cache = files(&place.path("home/.cache"));
    assert!(!cache.keys().any(|path| path.to_str().unwrap().contains("scratch/")), "{cache:?}");
}

#[test]
fn an_image_of_the_same_length_with_pages_all_over_is_compared() {
    let place = with_repository();
    let db = database(&place.path("tree/db.sqlite"), 20_000, 4096);
    place.backup("tree");
    for n in [1, 2] {
        scatter(&db, n);
        let (found, _) = diff(&place, &[]);
        assert_eq!(found[0]["tables"][0]["rows_changed"], 1000, "{found:?}");
        assert_eq!(found[0]["old"]["size"], found[0]["new"]["size"]);
        place.backup("tree");
        assert_eq!(diff(&place, &[]).1["identical"], true);
        // Written, and the same.
        db.execute_batch("update t set body = body where id = 7").unwrap();
        assert_eq!(diff(&place, &[]).1["identical"], true);
        // Without the cache the image is cut otherwise: only its bytes tell that it is the same.
        fs::remove_dir_all(place.path("home/.cache")).unwrap();
        assert_eq!(diff(&place, &[]).1["identical"], true);
    }
}

#[test]
fn what_is_no_sound_database_any_more_is_said() {
    let place = with_repository();
    let path = place.path("tree/db.sqlite");
    drop(database(&path, 500, 4096));
    place.backup("tree");
    fs::write(&path, "no database").unwrap();
    drop(fs::remove_file(path.with_extension("sqlite-wal")));
    drop(fs::remove_file(path.with_extension("sqlite-shm")));
    let run = place.run(&["diff"]).exits(0);
    assert!(run.text().contains("   not compared: "), "{}", run.text());
    place.backup("tree");
    let (found, _) = diff(&place, &["latest~1", "latest"]);
    assert!(found[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{found:?}");
}

#[test]
fn what_cannot_be_read_is_not_passed_off_as_removed() {
    let place = with_repository();
    let tree = place.path("tree");
    for name in ["a.md", "shut/in/b.md", "c.md"] {
        put(&tree, name, b"text\n");
    }
    as_nobody(&place, &["backup", "tree"]).exits(0);
    fs::set_permissions(tree.join("shut/in"), Permissions::from_mode(0o000)).unwrap();
    fs::remove_file(tree.join("c.md")).unwrap();
    let run = as_nobody(&place, &["--json", "diff", "--exit-code"]).exits(3);
    fs::set_permissions(tree.join("shut/in"), Permissions::from_mode(0o755)).unwrap();
    let (found, summary) = lines(&run);
    assert_eq!(told(&found), ["removed c.md"]);
    assert_eq!(summary["errors"][0]["path"], "shut/in");
}

#[test]
fn the_live_directory_is_the_one_of_the_snapshot() {
    let mut place = with_repository();
    put(&place.path("tree"), "a/x.md", b"x\n");
    put(&place.path("tree"), "b/y.md", b"y\n");
    put(&place.path("elsewhere"), "a/x.md", b"x\n");
    place.run(&["backup", "tree/a", "tree/b/y.md"]).exits(0);
    // What the snapshot was not asked for is no difference; what it was asked for and is gone is one.
    put(&place.path("tree"), "b/other.md", b"other\n");
    put(&place.path("tree"), "c.md", b"c\n");
    assert_eq!(diff(&place, &[]).1["identical"], true);
    fs::remove_file(place.path("tree/b/y.md")).unwrap();
    assert_eq!(told(&diff(&place, &[]).0), ["removed b/y.md"]);
    // Another one only by name, whatever the default is.
    place.set("EXUVIA_STATE_DIR", "elsewhere");
    assert_eq!(told(&diff(&place, &[]).0), ["removed b/y.md"]);
    put(&place.path("elsewhere"), "a/z.md", b"z\n");
    let (found, summary) = diff(&place, &["--state-dir", "elsewhere"]);
    assert_eq!(told(&found), ["added a/z.md", "removed b", "removed b/y.md"]);
    assert!(summary["live"]["path"].as_str().unwrap().ends_with("/elsewhere"));
    // Or when the first is not here.
    fs::rename(place.path("tree"), place.path("gone")).unwrap();
    assert_eq!(told(&diff(&place, &[]).0), told(&found));
}

#[test]
fn what_a_snapshot_left_out_is_no_difference() {
    let place = with_repository();
    let tree = place.path("tree");
    for name in ["a.log", "a.md", "cache/x"] {
        put(&tree, name, b"x\n");
    }
    place.run(&["backup", "tree", "--exclude", "*.log", "--exclude", "cache/"]).exits(0);
    put(&tree, "b.log", b"x\n");
    put(&tree, "cache/y", b"x\n");
    put(&tree, "b.md", b"x\n");
    assert_eq!(told(&diff(&place, &[]).0), ["added b.md"]);
}

#[test]
fn names_that_are_no_text_keep_their_bytes() {
    let place = with_repository();
    let tree = place.path("tree");
    put(&tree, "a.md", b"x\n");
    place.backup("tree");
    let name = OsStr::from_bytes(b"\xff\x1b.md");
    fs::write(tree.join(name), "x\n").unwrap();
    let (found, _) = diff(&place, &[]);
    assert_eq!(
        (&found[0]["path"], &found[0]["path_base64"]),
        (&"\u{fffd}\u{1b}.md".into(), &"/xsubWQ=".into())
    );
    assert!(place.run(&["diff"]).exits(0).stdout.starts_with(b"+  \xff\x1b.md  2 B\n"));
    place.backup("tree");
    let found = find(&place, &["*.md", "--path", "."]);
    assert_eq!(found[1]["path_base64"], "/xsubWQ=");
}

fn find(place: &Place, args: &[&str]) -> Vec<Value> {
    place.run(&[&["--json", "find"], args].concat()).exits(0).summary().as_array().unwrap().clone()
}

#[test]
fn every_version_of_a_path_is_found() {
    let place = with_repository();
    let tree = place.path("tree");
    put(&tree, "memory/today.md", b"one\n");
    put(&tree, "memory/other.md", b"other\n");
    place.backup("tree");
    put(&tree, "new.md", b"new\n");
    place.backup("tree");
    put(&tree, "memory/today.md", b"one\ntwo\n");
    place.backup("tree");
    touch(&tree.join("memory/today.md"), 1_000);
    place.backup("tree");
    fs::remove_file(tree.join("memory/today.md")).unwrap();
    place.backup("tree");
    put(&tree, "memory/today.md", b"one\n");
    place.backup("tree");
    // Another directory in between.
    put(&place.path("second"), "today.md", b"second\n");
    place.backup("second");
    let ids = place.snapshots();

    let found = find(&place, &["today.md"]);
    assert_eq!(found.len(), 2);
    assert_eq!((&found[0]["path"], &found[1]["path"]), (&"memory/today.md".into(), &"today.md".into()));
    let versions: Vec<_> = found[0]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| {
            let id = |key: &str| ids.iter().position(|id| v[key]["id"] == id.as_str()).unwrap();
            (v["size"].as_u64().unwrap(), v["snapshots"].as_u64().unwrap(), id("first"), id("last"))
        })
        .collect();
    assert_eq!(versions, [(4, 2, 0, 1), (8, 2, 2, 3), (4, 1, 5, 5)]);
    assert!(found[0]["root"].as_str().unwrap().ends_with("/tree"));

    let run = place.run(&["find", "today.md"]).exits(0);
    let line = format!("        8 B  2 snapshots: {} ", &ids[2][..8]);
    assert!(run.text().contains(&line), "{line}: {}", run.text());
    assert!(run.text().contains("/second of "), "{}", run.text());
    assert!(run.text().ends_with("\n2 paths, 4 versions, in 7 snapshots\n"), "{}", run.text());

    let paths = |args: &[&str]| -> Vec<String> {
        find(&place, args).iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths(&["memory/*.md"]), ["memory/other.md", "memory/today.md"]);
    assert_eq!(paths(&["*.md", "--path", "memory"]), ["memory/other.md", "memory/today.md"]);
    assert_eq!(paths(&["TODAY.MD"]), [""; 0]);
    assert_eq!(paths(&["-i", "TODAY.MD", "--path", "memory"]), ["memory/today.md"]);
    assert_eq!(paths(&["m*/"]), ["memory"]);
    assert_eq!(paths(&["new.md", "--snapshot", &ids[0]]), [""; 0]);
    assert_eq!(paths(&["new.md", "--snapshot", &ids[0], "--snapshot", &ids[1]]), ["new.md"]);
    let since = find(&place, &["today.md", "--since", &ids[4], "--path", "memory"]);
    assert_eq!(since[0]["versions"].as_array().unwrap().len(), 1);
    place.run(&["find", "[z-a]"]).exits(2);
    place.run(&["find", "x", "--since", "nothing"]).exits(2);
}

#[test]
fn safety_snapshots_are_looked_into_when_asked() {
    let mut place = with_repository();
    let tree = place.path("tree");
    put(&tree, "a.md", b"one\n");
    place.backup("tree");
    put(&tree, "a.md", b"never backed up\n");
    place.set("EXUVIA_STATE_DIR", "tree");
    place.run(&["rollback", "latest", "--yes"]).exits(0);
    assert_eq!(diff(&place, &[]).1["identical"], true);
    let sizes = |args: &[&str]| -> Vec<u64> {
        let found = find(&place, args);
        found[0]["versions"].as_array().unwrap().iter().map(|v| v["size"].as_u64().unwrap()).collect()
    };
    assert_eq!(sizes(&["a.md"]), [4]);
    assert_eq!(sizes(&["a.md", "--safety"]), [4, 16]);
    let rows = place.run(&["--json", "snapshots", "--safety"]).exits(0).summary();
    let safety = rows.as_array().unwrap().iter().find(|row| row["kind"] == "safety").unwrap();
    let id = safety["id"].as_str().unwrap();
    assert_eq!(sizes(&["a.md", "--snapshot", id]), [16]);
    // What a rollback put aside can be compared too.
    assert_eq!(told(&diff(&place, &[id, "latest"]).0), ["content a.md"]);
}

#[test]
fn a_listing_tells_permissions_sizes_and_times() {
    let place = with_repository();
    put(&place.path("tree"), "a.md", b"text\n");
    touch(&place.path("tree/a.md"), 86_400 * 365);
    fs::set_permissions(place.path("tree/a.md"), Permissions::from_mode(0o640)).unwrap();
    place.backup("tree");
    for flag in ["-l", "--long"] {
        let run = place.run(&["ls", flag, "latest"]).exits(0);
        assert!(run.text().starts_with("-rw-r-----  "), "{}", run.text());
        assert!(run.text().ends_with("       5 B  1971-01-01 00:00  a.md\n"), "{}", run.text());
    }
}
