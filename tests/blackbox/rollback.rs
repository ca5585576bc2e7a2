//! Going back: the live state dir becomes what it was, nothing is lost, and an interrupted rollback says so
//! until it is finished or taken back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exuvia::app::{self, AppError, Location, Passphrase, RollbackRequest, RollbackTo, RolledBack, Session};
use exuvia::clock::SystemClock;
use exuvia::model::{Classify, ErrorClass};
use exuvia::report::{Monitor, Phase};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::{
    Numbers, PASSPHRASE, Picture, Place, Run, database, ended, files, insert, names, noise, picture, prose,
    put, same, until, with_repository,
};

/// A place whose state dir `tree` has something of everything, and its picture.
fn world() -> (Place, Picture) {
    let mut place = with_repository();
    let tree = place.path("tree");
    place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
    drop(database(&tree.join("state/main.sqlite"), 800, 4096));
    drop(database(&tree.join("gone.sqlite"), 20, 1024));
    for i in 0..30 {
        put(&tree, &format!("notes/{}/{i}.md", i % 5), &prose(i, 2000 + 100 * usize::try_from(i).unwrap()));
    }
    put(&tree, "log.jsonl", &prose(77, 300_000));
    put(&tree, "media/large", &noise(1, 3 << 20));
    put(&tree, "became-a-dir", b"file");
    put(&tree, "became-a-file/x/y", b"deep");
    put(&tree, "linked/a", b"one file, three names");
    fs::hard_link(tree.join("linked/a"), tree.join("linked/b")).unwrap();
    fs::hard_link(tree.join("linked/a"), tree.join("c")).unwrap();
    symlink("notes/1/1.md", tree.join("link")).unwrap();
    put(&tree, "secret", b"x");
    fs::set_permissions(tree.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    place.run(&["backup"]).exits(0);
    let picture = picture(&tree);
    (place, picture)
}

/// Changes the tree in every way.
fn mutate(place: &Place) -> Picture {
    let tree = place.path("tree");
    let db = Connection::open(tree.join("state/main.sqlite")).unwrap();
    insert(&db, 50);
    db.execute("delete from t where id < 10", []).unwrap();
    drop(db);
    fs::remove_file(tree.join("gone.sqlite")).unwrap();
    drop(database(&tree.join("new.sqlite"), 10, 4096));
    put(&tree, "notes/1/1.md", b"edited");
    put(&tree, "notes/0/added.md", b"added");
    fs::remove_dir_all(tree.join("notes/3")).unwrap();
    put(&tree, "extra/deep/er/file", b"x");
    let mut log = fs::read(tree.join("log.jsonl")).unwrap();
    log.extend_from_slice(b"one more line\n");
    fs::write(tree.join("log.jsonl"), log).unwrap();
    fs::rename(tree.join("media/large"), tree.join("media/moved")).unwrap();
    fs::remove_file(tree.join("became-a-dir")).unwrap();
    put(&tree, "became-a-dir/inside", b"now a directory");
    fs::remove_dir_all(tree.join("became-a-file")).unwrap();
    put(&tree, "became-a-file", b"now a file");
    fs::remove_file(tree.join("linked/b")).unwrap();
    put(&tree, "linked/b", b"on its own");
    put(&tree, "c", b"one file, two names now");
    fs::remove_file(tree.join("link")).unwrap();
    symlink("elsewhere", tree.join("link")).unwrap();
    fs::set_permissions(tree.join("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_dir(tree.join("empty")).unwrap();
    picture(&tree)
}

fn rollback(place: &Place, args: &[&str]) -> Run {
    place.run(&[&["--json", "rollback", "--yes"], args].concat())
}

#[track_caller]
fn is_clean(tree: &Path) {
    let left: Vec<_> = names(tree).into_iter().filter(|name| name.contains("exuvia")).collect();
    assert_eq!(left, [""; 0]);
}

fn links(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(&fs::metadata(path).unwrap())
}

#[test]
fn back_and_forth() {
    let (place, before) = world();
    let tree = place.path("tree");
    let after = mutate(&place);
    let summary = rollback(&place, &[]).exits(0).summary();
    same(&picture(&tree), &before, "after the rollback");
    assert_eq!((links(&tree.join("linked/a")), links(&tree.join("c"))), (3, 3));
    is_clean(&tree);
    assert_eq!(summary["errors"], Value::Array(vec![]), "{summary}");
    assert_eq!(summary["kept"], Value::Array(vec![]), "{summary}");
    // What was at hand was not fetched: the large file had only been moved.
    assert!(summary["bytes_local"].as_u64().unwrap() > 3 << 20, "{summary}");

    place.run(&["undo", "--yes"]).exits(0);
    same(&picture(&tree), &after, "after undo");
    assert_eq!((links(&tree.join("linked/a")), links(&tree.join("linked/b"))), (2, 1));
    place.run(&["undo", "--yes"]).exits(0);
    same(&picture(&tree), &before, "after the second undo");
    assert_eq!(place.snapshots().len(), 1, "safety snapshots stand by themselves");
    let safety = place.run(&["--json", "snapshots", "--safety"]).exits(0).summary();
    assert_eq!(safety.as_array().unwrap().len(), 3);
    let again = place.run(&["--json", "rollback", "--yes"]).exits(0).summary();
    assert_eq!((&again["done"], &again["changes"]), (&Value::Bool(false), &Value::from(0)), "{again}");
    place.is_sound();
    // The next backup knows what is there, and reads nothing.
    let next = place.run(&["--json", "backup"]).exits(0).summary();
    assert_eq!((&next["bytes_read"], &next["files_changed"]), (&Value::from(0), &Value::from(0)), "{next}");
    same(&place.restored(next["snapshot"].as_str().unwrap()), &before, "the next snapshot");
    place.run(&["--json", "rollback", "--yes", safety[0]["id"].as_str().unwrap()]).exits(0);
    same(&picture(&tree), &after, "to a safety snapshot by its id");
}

#[test]
fn a_dry_run_and_a_missing_answer_change_nothing() {
    let (place, _) = world();
    let after = mutate(&place);
    let run = place.run(&["--json", "rollback", "--dry-run"]).exits(0);
    let lines: Vec<Value> = run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let change = |path: &str| {
        lines.iter().find(|line| line["path"] == path).unwrap_or_else(|| panic!("{path}: {}", run.text()))
    };
    for (path, word) in [
        ("notes/3/3.md", "restore"),
        ("notes/0/added.md", "remove"),
        ("notes/1/1.md", "content"),
        ("became-a-dir", "type"),
        ("secret", "metadata"),
        ("state/main.sqlite", "content"),
        ("link", "content"),
        ("linked/b", "content"),
    ] {
        assert_eq!(change(path)["change"], word, "{path}");
    }
    assert_eq!(change("state/main.sqlite")["database"], true);
    let refused = place.run(&["--json", "rollback"]).exits(2);
    assert!(refused.error()["hint"].as_str().unwrap().contains("--yes"));
    place.run(&["undo", "--yes"]).exits(1);
    same(&picture(&place.path("tree")), &after, "untouched");
    assert_eq!(
        place.run(&["--json", "snapshots", "--safety"]).exits(0).summary().as_array().unwrap().len(),
        0
    );
}

#[test]
fn only_the_paths_asked_for() {
    let (place, before) = world();
    let after = mutate(&place);
    let tree = place.path("tree");
    rollback(&place, &["--path", "notes/1", "--path", "notes/3/3.md", "--path", "extra"]).exits(0);
    let now = picture(&tree);
    let inside = |path: &&std::path::PathBuf| {
        path.starts_with("notes/1")
            || path.as_path() == Path::new("notes/3/3.md")
            || path.starts_with("extra")
    };
    let only = |from: &Picture| -> Picture {
        from.iter().filter(|(path, _)| inside(path)).map(|(p, s)| (p.clone(), s.clone())).collect()
    };
    same(&only(&now), &only(&before), "what was asked for");
    assert!(!tree.join("notes/3/8.md").exists() && tree.join("notes/0/added.md").exists());
    // A later change elsewhere outlives the undo, which is limited as the rollback was.
    put(&tree, "since", b"kept");
    place.run(&["undo", "--yes"]).exits(0);
    let undone = picture(&tree);
    same(&only(&undone), &only(&after), "undone");
    assert!(tree.join("since").exists());
    rollback(&place, &["--path", "no/such"]).exits(2);
}

#[test]
fn directories_made_on_the_way_go_when_it_is_taken_back() {
    let (place, _) = world();
    let tree = place.path("tree");
    put(&tree, "far/away/from/here.md", b"deep");
    put(&tree, "near/by/here.md", b"deep too");
    place.run(&["backup"]).exits(0);
    fs::remove_dir_all(tree.join("far")).unwrap();
    fs::remove_dir_all(tree.join("near")).unwrap();
    let without = picture(&tree);
    let paths = ["--path", "far/away/from/here.md", "--path", "near/by/here.md"];
    rollback(&place, &paths).exits(0);
    assert_eq!(fs::read(tree.join("far/away/from/here.md")).unwrap(), b"deep");
    let made = picture(&tree);
    place.run(&["undo", "--yes"]).exits(0);
    let (mut now, mut wanted) = (picture(&tree), without);
    for picture in [&mut now, &mut wanted] {
        // Names came and went in it, and it was not asked for.
        picture.get_mut(Path::new("")).unwrap().forget_times();
    }
    same(&now, &wanted, "undone");
    place.run(&["undo", "--yes"]).exits(0);
    let mut again = picture(&tree);
    let mut made = made;
    for path in ["", "far", "far/away", "far/away/from", "near", "near/by"] {
        for picture in [&mut again, &mut made] {
            picture.get_mut(Path::new(path)).unwrap().forget_times();
        }
    }
    same(&again, &made, "made again");
    // What somebody has put into one of them stays, and so does what holds it.
    put(&tree, "far/away/later.md", b"mine");
    let plan = place.run(&["--json", "undo", "--yes"]).exits(0);
    assert!(!plan.text().contains("\"far/away\""), "{}", plan.text());
    assert_eq!(names(&tree.join("far/away")), ["later.md"]);
    assert!(!tree.join("near").exists());
    is_clean(&tree);
}

/// Which names of `dir` are names of one file: for each the number of the file.
fn inodes(dir: &Path) -> std::collections::BTreeMap<String, u64> {
    let inode = |name: &String| std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir.join(name)).unwrap());
    names(dir).into_iter().map(|name| (name.clone(), inode(&name))).collect()
}

/// The names of each file.
fn grouped(inodes: &std::collections::BTreeMap<String, u64>) -> Vec<String> {
    let mut groups: std::collections::BTreeMap<u64, Vec<&str>> = Default::default();
    inodes.iter().for_each(|(name, inode)| groups.entry(*inode).or_default().push(name));
    let mut groups: Vec<String> = groups.values().map(|names| names.join(" ")).collect();
    groups.sort();
    groups
}

/// Makes files, each of these names; what they hold is the same in all.
fn make_links(dir: &Path, groups: &[&str]) {
    let _ = fs::remove_dir_all(dir);
    for group in groups {
        let mut all = group.split(' ');
        let first = all.next().unwrap();
        put(dir, first, b"one content");
        set_time(&dir.join(first));
        all.for_each(|name| fs::hard_link(dir.join(first), dir.join(name)).unwrap());
    }
}

fn set_time(path: &Path) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn names_that_stay_are_not_linked_again() {
    // In the snapshot, now, and what is not touched by the way there.
    for (then, now, stays) in [
        (&["a b c"][..], &["b c"][..], "b c"),
        (&["b c"], &["a b c"], "b c"),
        (&["a b c"], &["a b"], "a b"),
        (&["a b c"], &["c"], "c"),
        (&["a b c"], &["a", "b c"], "a"),
        (&["a", "b c"], &["a b c"], "a"),
        (&["a b", "c d"], &["b", "d"], "b d"),
        (&["b c d"], &["a b", "c d"], "b"),
    ] {
        let mut place = with_repository();
        let tree = place.path("tree");
        place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
        make_links(&tree.join("x"), then);
        place.run(&["backup"]).exits(0);
        make_links(&tree.join("x"), now);
        let before = inodes(&tree.join("x"));
        let summary = rollback(&place, &[]).exits(0).summary();
        let after = inodes(&tree.join("x"));
        let case = format!("{now:?} to {then:?}: {before:?} {after:?} {summary}");
        assert_eq!(grouped(&after), then, "{case}");
        for name in stays.split(' ') {
            assert_eq!(after[name], before[name], "{name} of {case}");
        }
        place.run(&["undo", "--yes"]).exits(0);
        assert_eq!(grouped(&inodes(&tree.join("x"))), now, "{case}");
        is_clean(&tree);
    }
}

/// A path in the scope that is linked with one outside of it is no difference that could be mended.
#[test]
fn a_link_to_a_name_outside_of_the_scope_is_no_difference() {
    let mut place = with_repository();
    let tree = place.path("tree");
    place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
    make_links(&tree.join("x"), &["a b"]);
    place.run(&["backup"]).exits(0);
    make_links(&tree.join("x"), &["a", "b"]);
    let summary = rollback(&place, &["--path", "x/b"]).exits(0).summary();
    assert_eq!(summary["changes"], 0, "{summary}");
    fs::write(tree.join("x/b"), b"changed").unwrap();
    rollback(&place, &["--path", "x/b"]).exits(0);
    assert_eq!(fs::read(tree.join("x/b")).unwrap(), b"one content");
}

/// Something is mounted on a file that would have to be replaced: that is found out before anything changes.
#[test]
fn a_mount_on_a_file_is_found_before_anything_changes() {
    let (place, _) = world();
    let after = mutate(&place);
    let tree = place.path("tree");
    let mounts = "set -e; mount --bind other tree/notes/1/1.md; exec \"$0\" --json rollback --yes";
    fs::write(place.path("other"), b"mounted here").unwrap();
    let unshared = |script: &str| {
        let program = env!("CARGO_BIN_EXE_exuvia");
        let inner = place.command(&[""; 0]);
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, program]).current_dir(place.path("")).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).output()
    };
    let can = unshared("mount --bind other tree/notes/1/1.md").is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("not tested: nothing can be mounted here");
        return;
    }
    let refused = Run::from(unshared(mounts).unwrap()).exits(1);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("notes/1/1.md is a mount point"), "{message}");
    same(&picture(&tree), &after, "as it was");
    is_clean(&tree);
    let safety = place.run(&["--json", "snapshots", "--safety"]).exits(0).summary();
    assert_eq!(safety.as_array().unwrap().len(), 0);
}

#[test]
fn what_belongs_to_no_snapshot_is_not_touched() {
    let mut place = with_repository();
    let tree = place.path("tree");
    place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
    put(&tree, "a/one", b"1");
    put(&tree, "a/skipped.log", b"never stored");
    place.run(&["backup", "--exclude", "*.log"]).exits(0);
    put(&tree, "b/two", b"2");
    put(&tree, "b/deep/skipped.log", b"in a directory that has to go");
    fs::remove_file(tree.join("a/one")).unwrap();
    let run = place.run(&["rollback", "--yes"]).exits(0);
    assert!(run.stderr.contains("b/deep"), "{}", run.stderr);
    assert_eq!(fs::read(tree.join("a/one")).unwrap(), b"1");
    assert_eq!(fs::read(tree.join("a/skipped.log")).unwrap(), b"never stored");
    assert_eq!(names(&tree.join("b")), ["deep"]);
    assert_eq!(fs::read(tree.join("b/deep/skipped.log")).unwrap(), b"in a directory that has to go");
    put(&tree, "more", b"3");
    rollback(&place, &["--keep-extra"]).exits(0);
    assert!(tree.join("more").exists());
}

#[test]
fn a_database_in_use_changes_in_one_transaction() {
    let (place, before) = world();
    let tree = place.path("tree");
    let path = tree.join("state/main.sqlite");
    let count = |db: &Connection| -> (i64, i64) {
        db.query_row("select count(*), coalesce(sum(id), 0) from t", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    let writer = Connection::open(&path).unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    let old = count(&writer);
    insert(&writer, 500);
    let new = count(&writer);
    // Another process reads all the time, and says what it saw.
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        seen = set()\n\
        while True:\n\
        \x20   row = db.execute('select count(*), coalesce(sum(id), 0) from t').fetchone()\n\
        \x20   if row not in seen:\n\
        \x20       seen.add(row)\n\
        \x20       print(*row, flush=True)\n";
    let mut reader =
        Command::new("python3").args(["-c", script]).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let stdout = reader.stdout.take().unwrap();
    std::thread::scope(|scope| {
        let seen = &seen;
        scope.spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok) {
                let mut words = line.split(' ').map(|word| word.parse::<i64>().unwrap());
                seen.lock().unwrap().push((words.next().unwrap(), words.next().unwrap()));
            }
        });
        let has = |row| seen.lock().unwrap().contains(&row);
        until("the reader to begin", || has(new));
        let summary = rollback(&place, &[]).exits(0).summary();
        assert_eq!(summary["live_databases"][0]["path"], "state/main.sqlite", "{summary}");
        until("the reader to see the old rows", || has(old));
        reader.kill().unwrap();
    });
    reader.wait().unwrap();
    assert_eq!(*seen.lock().unwrap(), [new, old], "nothing in between");
    assert_eq!(count(&writer), old, "a connection that was open sees what was put back");
    insert(&writer, 1);
    let other = Connection::open(&path).unwrap();
    assert_eq!(count(&other).0, old.0 + 1, "the next write landed in it");
    other.execute("delete from t where id >= ?1", [old.0]).unwrap();
    drop((writer, other));
    let shape = |from: &Picture| from[Path::new("state/main.sqlite")].content().clone();
    assert_eq!(shape(&picture(&tree)), shape(&before));
}

#[test]
fn a_database_that_would_have_to_go_is_not_taken_from_its_user() {
    let (place, _) = world();
    let tree = place.path("tree");
    let path = tree.join("young.sqlite");
    drop(database(&path, 5, 4096));
    let mut holder = holder(&path);
    let refused = rollback(&place, &[]).exits(11);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("young.sqlite") && message.contains(&holder.id().to_string()), "{message}");
    assert!(path.exists());
    rollback(&place, &["--keep-extra"]).exits(0);
    assert!(path.exists());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    rollback(&place, &[]).exits(0);
    assert!(!path.exists() && !tree.join("young.sqlite-wal").exists());
}

/// A process that has a database open, until its input ends.
fn holder(path: &Path) -> std::process::Child {
    let script = "import sqlite3,sys\ndb=sqlite3.connect(sys.argv[1])\ndb.execute('select * from t').fetchone()\nprint(1,flush=True)\nsys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    holder
}

#[test]
fn a_rollback_that_changed_nothing_is_nothing_to_undo() {
    let (place, before) = world();
    let tree = place.path("tree");
    let after = mutate(&place);
    rollback(&place, &[]).exits(0);
    place.run(&["undo", "--yes"]).exits(0);
    // Somebody opens, while the rollback is at work, a database that would have to go.
    let children = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (path, opened) = (tree.join("new.sqlite"), Arc::clone(&children));
    let refused = try_meddled(&place, move || opened.lock().unwrap().push(holder(&path)));
    assert_eq!(refused.err().map(|e| e.class()), Some(ErrorClass::Busy));
    for mut child in children.lock().unwrap().drain(..) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    is_clean(&tree);
    let mut now = picture(&tree);
    // What the one who opened it left beside it.
    now.get_mut(Path::new("")).unwrap().forget_times();
    let mut wanted = after;
    wanted.get_mut(Path::new("")).unwrap().forget_times();
    same(&now, &wanted, "as it was");
    place.run(&["undo", "--yes"]).exits(0);
    let mut now = picture(&tree);
    now.get_mut(Path::new("")).unwrap().forget_times();
    let mut wanted = before;
    wanted.get_mut(Path::new("")).unwrap().forget_times();
    same(&now, &wanted, "undone is what was done before");
}

#[test]
fn what_would_be_left_out_today_is_not_overwritten() {
    let mut place = with_repository();
    let tree = place.path("tree");
    place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
    put(&tree, "a/one", b"1");
    put(&tree, "a/gone", b"2");
    put(&tree, "b", b"3");
    drop(database(&tree.join("a/db.sqlite"), 5, 4096));
    place.run(&["backup"]).exits(0);
    put(&tree, ".exuviaignore", b"/a/\n");
    put(&tree, "a/one", b"changed, and in no snapshot");
    put(&tree, "b", b"changed");
    fs::remove_file(tree.join("a/gone")).unwrap();
    let db = Connection::open(tree.join("a/db.sqlite")).unwrap();
    insert(&db, 3);
    let run = place.run(&["rollback", "--yes"]).exits(0);
    assert!(run.text().contains("leave out today"), "{}", run.text());
    assert_eq!(fs::read(tree.join("a/one")).unwrap(), b"changed, and in no snapshot");
    assert!(!tree.join("a/gone").exists());
    assert_eq!(fs::read(tree.join("b")).unwrap(), b"3");
    let rows: i64 = db.query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 8);
    is_clean(&tree);
}

#[test]
fn a_log_of_another_database_is_not_left_beside_the_one_put_back() {
    let (place, before) = world();
    let tree = place.path("tree");
    // The database is damaged, and what lies beside it is older, or somebody else's.
    fs::write(tree.join("state/main.sqlite"), b"no database any more").unwrap();
    for suffix in ["-wal", "-journal"] {
        fs::write(tree.join(format!("state/main.sqlite{suffix}")), noise(3, 5000)).unwrap();
    }
    rollback(&place, &["--path", "state/main.sqlite"]).exits(0);
    assert_eq!(names(&tree.join("state")), ["main.sqlite"]);
    let content = |from: &Picture| from[Path::new("state/main.sqlite")].content().clone();
    assert_eq!(content(&picture(&tree)), content(&before));
}

#[test]
fn a_running_gateway_is_asked_about() {
    let mut place = with_repository();
    let tree = place.path(".openclaw");
    place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
    put(&tree, "openclaw.json", b"{}");
    let db = database(&tree.join("state/openclaw.sqlite"), 10, 4096);
    place.run(&["backup"]).exits(0);
    insert(&db, 1);
    drop(db);
    put(&tree, "openclaw.json", b"{\"broken\": true}");
    let lock = format!("{{\"pid\":{},\"startTime\":1}}   ", std::process::id());
    let uid = rustix::process::geteuid().as_raw();
    put(&tree, &format!("tmp/openclaw-{uid}/gateway.state.lock"), lock.as_bytes());
    let refused = rollback(&place, &[]).exits(11);
    assert!(refused.error()["hint"].as_str().unwrap().contains("--live"));
    place.run(&["rollback", "--dry-run"]).exits(0);
    let run = place.run(&["rollback", "--yes", "--live"]).exits(0);
    assert!(run.text().contains("restart OpenClaw"), "{}", run.text());
    assert_eq!(fs::read(tree.join("openclaw.json")).unwrap(), b"{}");
}

/// Starts a rollback and kills it after so many looks at the journal; tells how often was looked when the
/// rollback was faster.
fn killed(place: &Place, args: &[&str], looks: u64) -> Option<u64> {
    let journal = place.path("tree/.exuvia-rollback/journal.json");
    let mut child = place.start(args);
    let mut seen = 0;
    while child.try_wait().unwrap().is_none() {
        seen += u64::from(journal.exists());
        if seen > looks {
            child.kill().unwrap();
            let run = ended(child);
            return (run.code == Some(0)).then_some(seen);
        }
        std::thread::yield_now();
    }
    ended(child).exits(0);
    Some(seen)
}

#[test]
fn a_killed_rollback_is_finished_or_taken_back() {
    let (place, before) = world();
    let tree = place.path("tree");
    let after = mutate(&place);
    let roll = ["rollback", "--yes"];
    let mut typical = killed(&place, &roll, u64::MAX).unwrap();
    place.run(&["undo", "--yes"]).exits(0);
    let (mut numbers, mut kills, mut mixtures) = (Numbers::new(5), 0, 0);
    for round in 0..300 {
        if kills == 30 {
            break;
        }
        if let Some(looks) = killed(&place, &roll, numbers.below(typical)) {
            typical = looks.max(2);
            place.run(&["undo", "--yes"]).exits(0);
            same(&picture(&tree), &after, "undone");
            continue;
        }
        kills += 1;
        let unfinished = tree.join(".exuvia-rollback/journal.json").exists();
        if !unfinished {
            // It was over, or had not begun: either is an exact state.
            let now = picture(&tree);
            let whole = now == after || now == before;
            assert!(whole, "round {round}: a mixture that nobody tells of");
            if now == before {
                place.run(&["undo", "--yes"]).exits(0);
            }
            continue;
        }
        let told = place.run(&["snapshots"]).exits(0);
        assert!(told.stderr.contains("--continue"), "{}", told.stderr);
        place.run(&["rollback", "--yes", "latest"]).exits(11);
        place.run(&["undo", "--yes"]).exits(11);
        mixtures += u64::from(picture_without_ours(&tree) != after);
        if numbers.below(2) == 0 {
            // Killed once more on the way, now and then.
            if numbers.below(3) == 0 {
                killed(&place, &["rollback", "--yes", "--continue"], numbers.below(typical));
            }
            if tree.join(".exuvia-rollback").exists() {
                place.run(&["rollback", "--yes", "--continue"]).exits(0);
            }
            same(&picture(&tree), &before, &format!("round {round}: finished"));
            place.run(&["undo", "--yes"]).exits(0);
        } else {
            place.run(&["rollback", "--yes", "--abort"]).exits(0);
        }
        same(&picture(&tree), &after, &format!("round {round}: taken back"));
        is_clean(&tree);
    }
    assert_eq!(kills, 30);
    assert!(mixtures > 3, "only {mixtures} of them left a mixture");
    place.is_sound();
}

/// The tree as the application sees it.
fn picture_without_ours(tree: &Path) -> Picture {
    let mut picture = picture(tree);
    picture.retain(|path, _| !path.starts_with(".exuvia-rollback"));
    picture
}

#[test]
fn a_backup_of_a_mixture_says_so() {
    let (place, _) = world();
    mutate(&place);
    let tree = place.path("tree");
    while killed(&place, &["rollback", "--yes"], 1).is_some() {
        place.run(&["undo", "--yes"]).exits(0);
    }
    if tree.join(".exuvia-rollback/journal.json").exists() {
        let run = place.run(&["--json", "backup"]).exits(0);
        assert!(run.stderr.contains("--abort"), "{}", run.stderr);
        let rows = place.run(&["--json", "snapshots"]).exits(0).summary();
        let last = rows.as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["tags"], serde_json::json!(["interrupted-rollback"]));
        let listed = place.run(&["ls", last["id"].as_str().unwrap()]).exits(0);
        assert!(!listed.text().contains(".exuvia-rollback"));
    }
}

#[test]
fn nothing_is_changed_where_the_repository_is_damaged() {
    let (place, _) = world();
    let after = mutate(&place);
    // A pack that the state dir cannot stand in for.
    for (path, size) in files(&place.path("repo/packs")) {
        let mut bytes = fs::read(&path).unwrap();
        let middle = usize::try_from(size).unwrap() / 2;
        bytes[100..middle.max(200)].fill(0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let run = rollback(&place, &[]);
    assert!(matches!(run.code, Some(1 | 13)), "{:?} {}", run.code, run.stderr);
    same(&picture(&place.path("tree")), &after, "as it was");
    is_clean(&place.path("tree"));
}

#[test]
fn writers_go_on_meanwhile() {
    let (place, before) = world();
    let tree = place.path("tree");
    mutate(&place);
    let stop = Arc::new(AtomicBool::new(false));
    let path = tree.join("state/main.sqlite");
    let writer = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let db = Connection::open(path).unwrap();
            db.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                db.execute("insert into t (body) values (zeroblob(10))", []).unwrap();
                n += 1;
            }
            n
        })
    };
    let summary = rollback(&place, &[]).exits(0).summary();
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 0);
    assert_eq!(summary["errors"], Value::Array(vec![]), "{summary}");
    let db = Connection::open(tree.join("state/main.sqlite")).unwrap();
    let verdict: String = db.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    db.execute("delete from t where length(body) = 10", []).unwrap();
    drop(db);
    let (mut now, mut wanted) = (picture(&tree), before);
    for picture in [&mut now, &mut wanted] {
        // Its times, and those of its directory, are the writer's.
        picture.remove(Path::new("state"));
        picture.get_mut(Path::new("state/main.sqlite")).unwrap().forget_times();
    }
    same(&now, &wanted, "but for what was written since");
}

/// Does something at the moment at which the safety snapshot is taken and nothing has changed yet.
struct Meddler(Box<dyn Fn() + Send + Sync>);

impl Monitor for Meddler {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        if phase == Phase::Restore {
            (self.0)();
        }
    }
}

/// A rollback to the newest snapshot, through the library.
fn meddled(place: &Place, meddle: impl Fn() + Send + Sync + 'static) -> RolledBack {
    try_meddled(place, meddle).unwrap()
}

fn try_meddled(place: &Place, meddle: impl Fn() + Send + Sync + 'static) -> Result<RolledBack, AppError> {
    let session = Session {
        repository: Location::Local(place.path("repo")),
        passphrase: Passphrase::new(PASSPHRASE.as_bytes().to_vec()),
        cache_dir: place.path("home/.cache/exuvia"),
        key_cache: true,
        monitor: Arc::new(Meddler(Box::new(meddle))),
        clock: Arc::new(SystemClock::new()),
        threads: 2,
    };
    let request = RollbackRequest {
        state_dir: place.path("tree"),
        to: RollbackTo::Snapshot("latest".into()),
        paths: Vec::new(),
        keep_extra: false,
        dry_run: false,
        live: false,
        owner: false,
        devices: false,
    };
    app::rollback(&session, &request, &mut |_, _| Ok(true)).map(|outcome| outcome.done.unwrap())
}

#[test]
fn what_changes_after_the_safety_snapshot_is_kept() {
    let (place, before) = world();
    let tree = place.path("tree");
    mutate(&place);
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("pipe"), 0o600.into()).unwrap();
    let dir = tree.clone();
    let done = meddled(&place, move || {
        fs::remove_file(dir.join("pipe")).unwrap();
        put(&dir, "pipe", b"no pipe any more");
        put(&dir, "notes/1/1.md", b"edited again");
        put(&dir, "notes/3/3.md", b"in the way of what comes back");
        put(&dir, "extra/deep/er/file", b"had to go");
        for name in ["new.sqlite", "state/main.sqlite"] {
            let db = Connection::open(dir.join(name)).unwrap();
            for _ in 0..7 {
                db.execute("insert into t (body) values ('late')", []).unwrap();
            }
        }
    });
    assert_eq!(done.errors, []);
    let kept = names(&tree).into_iter().find(|name| name.starts_with("exuvia-kept-")).unwrap();
    let kept = tree.join(kept);
    for (name, content) in [
        ("notes/1/1.md", &b"edited again"[..]),
        ("notes/3/3.md", b"in the way of what comes back"),
        ("extra/deep/er/file", b"had to go"),
        ("pipe", b"no pipe any more"),
    ] {
        assert_eq!(fs::read(kept.join(name)).unwrap(), content, "{name}");
        assert!(done.kept.iter().any(|(path, _)| path.to_os_path() == Path::new(name)), "{name}");
    }
    let rows = |path: &Path| -> i64 {
        Connection::open(path).unwrap().query_row("select count(*) from t", [], |row| row.get(0)).unwrap()
    };
    assert_eq!((rows(&kept.join("new.sqlite")), rows(&kept.join("state/main.sqlite"))), (17, 847));
    fs::remove_dir_all(kept).unwrap();
    let mut now = picture(&tree);
    now.get_mut(Path::new("")).unwrap().forget_times();
    let mut wanted = before;
    wanted.get_mut(Path::new("")).unwrap().forget_times();
    same(&now, &wanted, "as in the snapshot all the same");
}

#[test]
fn what_cannot_be_done_is_told_until_it_is() {
    let (place, before) = world();
    let tree = place.path("tree");
    let after = mutate(&place);
    let dir = tree.clone();
    let done = meddled(&place, move || put(&dir, "notes/3/3.md/in/the", b"way"));
    assert_eq!(done.errors.len(), 1, "{:?}", done.errors);
    assert_eq!(done.errors[0].path.to_os_path(), Path::new("notes/3/3.md"));
    assert!(place.run(&["snapshots"]).exits(0).stderr.contains("--continue"));
    // It is in the way of both ends; what it holds is in no snapshot but the one taken now.
    place.run(&["rollback", "--yes", "--continue"]).exits(0);
    same(&picture(&tree), &before, "finished");
    place.run(&["undo", "--yes"]).exits(0);
    same(&picture(&tree), &after, "undone to what was there before it all");
}

#[test]
fn a_backup_and_a_rollback_wait_for_each_other() {
    use rustix::fs::{FlockOperation, flock};
    let (place, _) = world();
    let after = mutate(&place);
    let dir = fs::File::open(place.path("tree")).unwrap();
    // As a backup holds it: others may, a rollback may not.
    flock(&dir, FlockOperation::LockShared).unwrap();
    rollback(&place, &[]).exits(11);
    place.run(&["backup"]).exits(0);
    // As a rollback holds it.
    flock(&dir, FlockOperation::LockExclusive).unwrap();
    rollback(&place, &["latest~1"]).exits(11);
    place.run(&["backup"]).exits(11);
    flock(&dir, FlockOperation::Unlock).unwrap();
    same(&picture(&place.path("tree")), &after, "as it was");
    rollback(&place, &["latest~1"]).exits(0);
}

#[test]
fn a_plan_that_could_not_be_finished_is_not_begun() {
    let mut place = with_repository();
    let tree = place.path("tree");
    place.set("EXUVIA_STATE_DIR", tree.to_str().unwrap());
    put(&tree, "a", b"a file");
    put(&tree, "b/c", b"deep");
    put(&tree, "d", b"1");
    place.run(&["backup", "--exclude", "*.log"]).exits(0);
    fs::remove_file(tree.join("a")).unwrap();
    put(&tree, "a/b/never-stored.log", b"stays");
    put(&tree, "d", b"2");
    let now = picture(&tree);
    let refused = rollback(&place, &[]).exits(1);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("a/b/never-stored.log"), "{message}");
    same(&picture(&tree), &now, "as it was");
    is_clean(&tree);
    rollback(&place, &["--path", "d"]).exits(0);
    assert_eq!(fs::read(tree.join("d")).unwrap(), b"1");
    fs::remove_dir_all(tree.join("b")).unwrap();
    put(&tree, "b", b"a file now");
    rollback(&place, &["--path", "b/c"]).exits(1);
    assert_eq!(fs::read(tree.join("b")).unwrap(), b"a file now");
    rollback(&place, &["--path", "b"]).exits(0);
    assert_eq!(fs::read(tree.join("b/c")).unwrap(), b"deep");
}
