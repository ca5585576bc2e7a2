//! Databases in use: every snapshot holds one moment of each, whole, and costs what changed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::tree::{Repo, assert_same, describe, last, noise, number, settle};

const NO_SYNC: &str = "PRAGMA synchronous=OFF;";

fn open(path: &Path, pragmas: &str) -> Connection {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.execute_batch(&format!("{NO_SYNC} {pragmas}")).unwrap();
    connection
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn int(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, (), |row| row.get(0)).unwrap()
}

/// A hash of the schema and of all rows. The database must be sound and stand alone.
#[track_caller]
fn dump(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{}", path.display());
    rows(&connection)
}

fn rows(connection: &Connection) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut queue = vec!["SELECT name, sql FROM sqlite_schema ORDER BY name".to_owned()];
    let mut tables =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY 1").unwrap();
    let names = tables.query_map((), |row| row.get::<_, String>(0)).unwrap();
    queue.extend(names.map(|name| format!("SELECT * FROM \"{}\" ORDER BY 1", name.unwrap())));
    for sql in queue {
        hasher.update(sql.as_bytes());
        let mut statement = connection.prepare(&sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                match row.get_ref(column).unwrap() {
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => hasher.update(bytes),
                    other => hasher.update(format!("{other:?}").as_bytes()),
                };
            }
        }
    }
    hasher.finalize().to_string()
}

/// No companion lies beside a restored database.
#[track_caller]
fn alone(path: &Path) {
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!beside(path, suffix).exists(), "{}{suffix}", path.display());
    }
}

/// Rows of noise, two to a page.
fn fill(connection: &Connection, from: i64, to: i64) {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, b); BEGIN").unwrap();
    for n in from..to {
        let bytes = noise(n.unsigned_abs(), 1900);
        connection.execute("INSERT INTO t VALUES(?1, ?2)", (n, bytes)).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
}

/// Rows are committed all the time; each snapshot must hold a prefix of them.
fn witness(mode: &str) {
    const DATABASES: usize = 3;
    let repo = Repo::new();
    let name = |i: usize| format!("d{i}/live{i}.sqlite");
    let counts: [AtomicI64; DATABASES] = Default::default();
    let stop = AtomicBool::new(false);
    let make = "CREATE TABLE a(n INTEGER PRIMARY KEY, s); CREATE TABLE b(n INTEGER PRIMARY KEY, s);
        CREATE TABLE last(n); INSERT INTO last VALUES(0);";
    for i in 0..DATABASES {
        let connection = open(&repo.source(&name(i)), &format!("PRAGMA journal_mode={mode}; {make}"));
        fill(&connection, 0, 300);
    }
    let write = |i: usize, n: i64, connection: &Connection| {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for table in ["a", "b"] {
            let sql = format!("INSERT INTO {table} VALUES(?1, hex(randomblob(40)))");
            connection.execute(&sql, [n]).unwrap();
        }
        connection.execute("UPDATE last SET n=?1", [n]).unwrap();
        connection.execute("UPDATE t SET b=randomblob(1900) WHERE n=?1", [n % 300]).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        counts[i].store(n, Ordering::SeqCst);
    };
    let sample = || counts.each_ref().map(|count| count.load(Ordering::SeqCst));
    std::thread::scope(|scope| {
        for i in 0..DATABASES {
            let (repo, stop) = (&repo, &stop);
            let (write, name) = (&write, &name);
            scope.spawn(move || {
                let connection = open(&repo.source(&name(i)), "");
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    n += 1;
                    write(i, n, &connection);
                    std::thread::yield_now();
                }
            });
        }
        // The writers stop however this ends.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut windows = Vec::new();
            for _ in 0..6 {
                let before = sample();
                let summary = repo.backup(&[]);
                assert_eq!(number(&summary, "sqlite_databases"), 3);
                windows.push((before, sample(), summary["snapshot"].as_str().unwrap().to_owned()));
            }
            windows
        }));
        stop.store(true, Ordering::SeqCst);
        let windows = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for (before, after, id) in windows {
            repo.restore(&[&id, "--to", &id, "--verify"]);
            for i in 0..DATABASES {
                let path = repo.path(&id).join(name(i));
                alone(&path);
                dump(&path);
                let connection = Connection::open(&path).unwrap();
                let count = int(&connection, "SELECT count(*) FROM a");
                for same in ["count(*) FROM b", "max(n) FROM a", "max(n) FROM b", "n FROM last"] {
                    let got: Option<i64> =
                        connection.query_row(&format!("SELECT {same}"), (), |row| row.get(0)).unwrap();
                    assert_eq!(got.unwrap_or(0), count, "{same}");
                }
                // A commit may have been done that was not counted yet.
                assert!(before[i] <= count && count <= after[i] + 1, "{} {count} {}", before[i], after[i]);
            }
        }
        assert!(sample().iter().all(|&n| n > 0));
    });
    repo.check();
}

#[test]
fn rows_committed_during_a_backup_wal() {
    witness("WAL");
}

#[test]
fn rows_committed_during_a_backup_rollback_journal() {
    witness("DELETE");
}

#[test]
fn a_large_database_costs_what_changed() {
    let repo = Repo::new();
    let path = repo.source("big.sqlite");
    let connection = open(&path, "PRAGMA journal_mode=WAL;");
    fill(&connection, 0, 10_000);
    repo.backup(&[]);
    let size = fs::metadata(&path).unwrap().len();
    assert!(size > 18 << 20, "{size}");
    for n in 0..100 {
        connection.execute("UPDATE t SET b=randomblob(1900) WHERE n=?1", [(n * 7919) % 10_000]).unwrap();
    }
    let summary = repo.backup(&[]);
    let added = number(&summary, "bytes_added_raw");
    assert!(added < size / 100 * 15, "{added} of {size}");
    connection.execute_batch("DELETE FROM t WHERE n % 50 = 7; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    repo.backup(&[]);
    repo.restore(&["--to", "t"]);
    alone(&repo.path("t/big.sqlite"));
    assert_eq!(dump(&repo.path("t/big.sqlite")), rows(&connection));
    // What was restored is known: all of it again costs nothing, and some of it some.
    settle(&repo.path("t"));
    let next = repo.backup(&["--state-dir", "t"]);
    assert_eq!(number(&next, "bytes_read"), 0, "{next}");
    open(&repo.path("t/big.sqlite"), "UPDATE t SET b=randomblob(1900) WHERE n=5");
    let next = repo.backup(&["--state-dir", "t"]);
    let added = number(&next, "bytes_added_raw");
    assert!(added > 0 && added < 1 << 20, "{next}");
    repo.check();
}

#[test]
fn generations_of_a_database_all_restore() {
    let repo = Repo::new();
    let path = repo.source("gen.sqlite");
    let mut connection = open(&path, "PRAGMA journal_mode=WAL; PRAGMA auto_vacuum=2;");
    fill(&connection, 0, 1500);
    connection.execute_batch("CREATE TABLE z(n INTEGER PRIMARY KEY, b); CREATE INDEX zi ON z(b)").unwrap();
    let mut want = Vec::new();
    for round in 0..12i64 {
        let run = |sql: &str| connection.execute_batch(sql).unwrap();
        match round {
            1 => run("UPDATE t SET b=randomblob(1900) WHERE n % 100 = 3"),
            2 => run("DELETE FROM t WHERE n BETWEEN 200 AND 600"),
            3 | 9 => run("VACUUM"),
            4 => fill(&connection, 10_000, 10_700),
            5 => run("INSERT INTO z SELECT n, zeroblob(3000) FROM t; PRAGMA wal_checkpoint(TRUNCATE)"),
            6 => run("UPDATE t SET b=zeroblob(1900) WHERE n % 2 = 0; DELETE FROM z WHERE n % 3 = 0"),
            7 => {
                run("PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL");
            }
            8 => run("UPDATE z SET b=hex(randomblob(20)) WHERE n % 5 = 0; PRAGMA incremental_vacuum"),
            10 => run("DROP TABLE z; ALTER TABLE t ADD COLUMN c DEFAULT 5; PRAGMA user_version=9"),
            11 => run("DELETE FROM t"),
            _ => {}
        }
        want.push((repo.backup(&[])["snapshot"].as_str().unwrap().to_owned(), rows(&connection)));
        if round % 4 == 3 {
            // A program that is stopped and started.
            drop(connection);
            connection = open(&path, "");
        }
    }
    for (round, (id, want)) in want.iter().enumerate() {
        // Into a fresh place and over the one before.
        for target in [format!("fresh-{round}"), "over".to_owned()] {
            repo.restore(&[id, "--to", &target]);
            let path = repo.path(&target).join("gen.sqlite");
            alone(&path);
            assert_eq!(dump(&path), *want, "round {round} in {target}");
        }
    }
    repo.check();
}

/// What an application leaves that was killed: newest rows only in the log.
fn leave_wal(repo: &Repo, to: &Path, rows: i64) {
    let from = repo.path("elsewhere.sqlite");
    let connection = open(&from, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;");
    fill(&connection, 0, 20);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    fill(&connection, 1000, 1000 + rows);
    fs::copy(&from, to).unwrap();
    fs::copy(beside(&from, "-wal"), beside(to, "-wal")).unwrap();
    drop(connection);
    fs::remove_file(&from).unwrap();
}

#[test]
fn a_log_left_behind_is_part_of_the_database() {
    let repo = Repo::new();
    let path = repo.source("left.sqlite");
    leave_wal(&repo, &path, 30);
    settle(&repo.path("s"));
    let before = describe(&repo.path("s"), 0o7777);
    repo.backup(&[]);
    assert_same(&describe(&repo.path("s"), 0o7777), &before);
    repo.restore(&["--to", "t"]);
    let restored = repo.path("t/left.sqlite");
    alone(&restored);
    assert_eq!(int(&Connection::open(&restored).unwrap(), "SELECT count(*) FROM t"), 50);
    let again = repo.backup(&[]);
    assert_eq!(number(&again, "bytes_read"), 0, "{again}");
    // A change of the log alone is a change.
    leave_wal(&repo, &path, 31);
    repo.backup(&[]);
    repo.restore(&["--to", "u"]);
    assert_eq!(int(&Connection::open(repo.path("u/left.sqlite")).unwrap(), "SELECT max(n) FROM t"), 1030);
}

#[test]
fn an_open_database_at_rest_is_not_read_again() {
    let repo = Repo::new();
    let path = repo.source("rest.sqlite");
    let connection = open(&path, "PRAGMA journal_mode=WAL;");
    fill(&connection, 0, 100);
    assert!(beside(&path, "-wal").exists() && beside(&path, "-shm").exists());
    settle(&repo.path("s"));
    repo.backup(&[]);
    let (again, new, _) = repo.added(|| repo.backup(&[]));
    assert_eq!((number(&again, "bytes_read"), new.len()), (0, 1), "{again}");
    assert_eq!((number(&again, "files"), number(&again, "sqlite_databases")), (1, 1));
    // A commit shows in the log only, a checkpoint in the main file only.
    for change in
        ["UPDATE t SET b=1 WHERE n=1", "PRAGMA wal_checkpoint(PASSIVE)", "UPDATE t SET b=2 WHERE n=2"]
    {
        connection.execute_batch(change).unwrap();
        settle(&repo.path("s"));
        assert!(number(&repo.backup(&[]), "bytes_read") > 0, "{change}");
        let again = repo.backup(&[]);
        assert_eq!(number(&again, "bytes_read"), 0, "{change}: {again}");
    }
    repo.restore(&["--to", "t"]);
    assert_eq!(dump(&repo.path("t/rest.sqlite")), rows(&connection));
}

#[test]
fn what_is_no_good_database_is_copied_as_it_is() {
    let repo = Repo::new();
    let garbage = [b"SQLite format 3\0".as_slice(), &noise(1, 70_000)].concat();
    repo.put("garbage.sqlite", &garbage);
    repo.put("stub.sqlite", b"SQLite format 3\0");
    repo.put("empty.sqlite", b"");
    drop(open(&repo.source("good.sqlite"), "CREATE TABLE x(y)"));
    let run = repo.run(&["--json", "backup"]).exits(0);
    assert!(run.stderr.contains("garbage.sqlite") && run.stderr.contains("plain file"), "{}", run.stderr);
    assert!(!run.stderr.contains("good.sqlite"), "{}", run.stderr);
    assert_eq!(last(&run)["complete"], true);
    let list: serde_json::Value =
        serde_json::from_slice(&repo.run(&["--json", "ls", "latest"]).exits(0).stdout).unwrap();
    for row in list.as_array().unwrap() {
        assert_eq!(row["sqlite"] == true, row["path"] == "good.sqlite", "{row}");
    }
    repo.restore(&["--to", "t", "--verify"]);
    assert!(fs::read(repo.path("t/garbage.sqlite")).unwrap() == garbage);
    assert_eq!(fs::read(repo.path("t/stub.sqlite")).unwrap(), b"SQLite format 3\0");
    // It is told of each time, not only the first.
    let again = repo.run(&["backup"]).exits(0);
    assert!(again.stderr.contains("garbage.sqlite"), "{}", again.stderr);
}

#[test]
fn a_hot_journal_goes_with_its_database() {
    let repo = Repo::new();
    let from = repo.path("elsewhere.sqlite");
    let connection = open(&from, "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;");
    fill(&connection, 0, 200);
    let want = rows(&connection);
    // More than the cache holds: changed pages go to the file before the end of the transaction.
    connection.execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE t SET b=zeroblob(1900)").unwrap();
    for suffix in ["", "-journal"] {
        fs::copy(beside(&from, suffix), beside(&repo.source("hot.sqlite"), suffix)).unwrap();
    }
    drop(connection);
    let run = repo.run(&["--json", "backup"]).exits(0);
    assert!(run.stderr.contains("journal"), "{}", run.stderr);
    repo.restore(&["--to", "t"]);
    let source = describe(&repo.path("s"), 0o7777);
    assert_same(&describe(&repo.path("t"), 0o7777), &source);
    // Over itself, with one or the other changed: both end in place.
    for changed in ["", "-journal"] {
        fs::write(beside(&repo.path("t/hot.sqlite"), changed), b"something else").unwrap();
        repo.restore(&["--to", "t"]);
        let mut got = describe(&repo.path("t"), 0o7777);
        got.retain(|path, _| !path.windows(8).any(|part| part == b".before-"));
        let mtime = source[&b""[..]].clone();
        got.insert(Vec::new(), mtime);
        assert_same(&got, &source);
    }
    assert_eq!(dump(&repo.path("t/hot.sqlite")), want);
}

#[test]
fn old_companions_are_moved_aside() {
    let repo = Repo::new();
    drop({
        let connection = open(&repo.source("x.sqlite"), "PRAGMA journal_mode=WAL;");
        fill(&connection, 0, 60);
        connection
    });
    repo.backup(&[]);
    let want = dump(&repo.source("x.sqlite"));
    for main in [true, false] {
        let target = repo.path(&format!("t-{main}"));
        fs::create_dir(&target).unwrap();
        let path = target.join("x.sqlite");
        leave_wal(&repo, &path, 30);
        let log = fs::read(beside(&path, "-wal")).unwrap();
        fs::write(beside(&path, "-shm"), b"old").unwrap();
        if !main {
            fs::remove_file(&path).unwrap();
        }
        let summary = repo.restore(&["--to", target.to_str().unwrap()]);
        alone(&path);
        let moved = summary["moved_aside"].as_array().unwrap();
        assert_eq!(moved.len(), 2, "{summary}");
        let to = moved[0]["moved_to"].as_str().unwrap();
        assert!(fs::read(target.join(to)).unwrap() == log, "{to}");
        assert_eq!(dump(&path), want, "with a main file: {main}");
    }
    // The same main file, but the log says otherwise.
    repo.restore(&["--to", "u"]);
    let path = repo.path("u/x.sqlite");
    let connection = open(&path, "UPDATE t SET b=1");
    fs::copy(beside(&path, "-wal"), repo.path("wal")).unwrap();
    drop(connection);
    fs::remove_dir_all(repo.path("u")).unwrap();
    repo.restore(&["--to", "u"]);
    fs::copy(repo.path("wal"), beside(&path, "-wal")).unwrap();
    repo.restore(&["--to", "u"]);
    assert_eq!(dump(&path), want);
}

/// The other process of the next test; does nothing when it is not started by that.
#[test]
fn holds_a_database_open() {
    let Some(path) = std::env::var_os("EXUVIA_TEST_DATABASE") else { return };
    let connection = Connection::open(path).unwrap();
    // A lock of each mode, as one within a transaction has.
    connection.execute_batch("BEGIN").unwrap();
    assert!(int(&connection, "SELECT count(*) FROM t") > 0);
    println!("\nready");
    // Until the test is done.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_database_in_use_is_not_replaced() {
    in_use("WAL");
    in_use("DELETE");
}

fn in_use(mode: &str) {
    let repo = Repo::new();
    repo.put("a/new", b"new");
    repo.put("b", b"a file");
    let connection = open(&repo.source("z/x.sqlite"), &format!("PRAGMA journal_mode={mode};"));
    fill(&connection, 0, 50);
    repo.backup(&[]);
    repo.restore(&["--to", "t"]);
    let path = repo.path("t/z/x.sqlite");
    drop(open(&path, "UPDATE t SET b=1"));
    fs::remove_dir_all(repo.path("t/a")).unwrap();
    fs::write(repo.path("t/a"), b"in the way").unwrap();
    fs::write(repo.path("t/b"), b"changed").unwrap();

    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite_live::holds_a_database_open", "--nocapture"])
        .env("EXUVIA_TEST_DATABASE", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")));
    let before = describe(&repo.path("t"), 0o7777);
    let run = repo.run(&["--json", "restore", "--to", "t"]).exits(11);
    assert_eq!(run.error()["class"], "busy");
    assert!(run.stderr.contains("x.sqlite"), "{}", run.stderr);
    assert_same(&describe(&repo.path("t"), 0o7777), &before);
    // What is not in use can be restored.
    repo.restore(&["--to", "t", "--path", "b"]);
    assert_eq!(fs::read(repo.path("t/b")).unwrap(), b"a file");
    drop(other.stdin.take());
    lines.for_each(drop);
    assert!(other.wait().unwrap().success());

    repo.restore(&["--to", "t"]);
    assert_eq!(dump(&path), rows(&connection));
    assert_eq!(fs::read(repo.path("t/a/new")).unwrap(), b"new");
}

#[test]
fn modules_that_we_lack_are_no_damage() {
    let repo = Repo::new();
    let connection = open(&repo.source("vec.sqlite"), "PRAGMA journal_mode=WAL;");
    fill(&connection, 0, 50);
    connection
        .execute_batch(
            "PRAGMA writable_schema=1;
             INSERT INTO sqlite_schema VALUES('table','v','v',0,'CREATE VIRTUAL TABLE v USING vec0(e float[4])');
             PRAGMA writable_schema=0;",
        )
        .unwrap();
    let run = repo.run(&["--json", "backup", "--verify"]).exits(0);
    assert!(!run.stderr.contains("failed"), "{}", run.stderr);
    let summary = repo.restore(&["--to", "t", "--verify"]);
    assert_eq!((number(&summary, "databases_checked"), &summary["damaged"]), (1, &false.into()));
}

#[test]
fn damage_inside_a_database_is_told() {
    let repo = Repo::new();
    let path = repo.source("bad.sqlite");
    drop({
        let connection = open(&path, "PRAGMA journal_mode=DELETE;");
        fill(&connection, 0, 100);
        connection.execute_batch("CREATE INDEX i ON t(b)").unwrap();
        connection
    });
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2 / 4096 * 4096;
    bytes[at..at + 4096].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let run = repo.run(&["--json", "backup", "--verify"]).exits(0);
    assert!(run.stderr.contains("bad.sqlite"), "{}", run.stderr);
    // It is stored all the same, as it is.
    repo.restore(&["--to", "t"]);
    assert!(fs::read(repo.path("t/bad.sqlite")).unwrap()[at..] == bytes[at..]);
    repo.run(&["restore", "--to", "u", "--verify"]).exits(1);
}

#[test]
fn a_database_of_two_names_stays_one() {
    let repo = Repo::new();
    let path = repo.source("a.sqlite");
    let connection = open(&path, "PRAGMA journal_mode=DELETE;");
    fill(&connection, 0, 700);
    fs::hard_link(&path, repo.source("b.sqlite")).unwrap();
    for round in 0..3 {
        settle(&repo.path("s"));
        repo.backup(&[]);
        let target = format!("t{round}");
        repo.restore(&["--to", &target]);
        let inode = |name: &str| {
            let path = repo.path(&target).join(name);
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
        };
        assert_eq!(inode("a.sqlite"), inode("b.sqlite"));
        assert_eq!(dump(&repo.path(&target).join("b.sqlite")), rows(&connection));
        connection.execute("UPDATE t SET b=randomblob(1900) WHERE n % 90 = ?1", [round]).unwrap();
    }
}

#[test]
fn a_database_left_out_is_not_touched() {
    let repo = Repo::new();
    repo.put("openclaw.json", b"{}");
    let kept = open(&repo.source("state/openclaw.sqlite"), "PRAGMA journal_mode=WAL; CREATE TABLE x(y)");
    let out = open(&repo.source("memory/huge.sqlite"), "PRAGMA journal_mode=WAL;");
    fill(&out, 0, 1000);
    for args in [&["--exclude", "huge.sqlite*"][..], &["--exclude", "/memory"]] {
        let summary = last(&repo.run(&[&["--json", "backup"], args].concat()).exits(0));
        assert_eq!(number(&summary, "sqlite_databases"), 1);
        assert!(number(&summary, "bytes_added_raw") < 1 << 20, "{summary}");
    }
    // Taken once, it is known; left out again, it must not count.
    repo.run(&["backup"]).exits(0);
    fill(&out, 5000, 6000);
    repo.put(".exuviaignore", b"huge.*\n");
    let summary = last(&repo.run(&["--json", "backup"]).exits(0));
    assert_eq!(number(&summary, "sqlite_databases"), 1);
    assert!(number(&summary, "bytes_added_raw") < 1 << 20, "{summary}");
    kept.execute_batch("INSERT INTO x VALUES(1)").unwrap();
    repo.run(&["backup"]).exits(0);
    repo.restore(&["--to", "t"]);
    assert_eq!(dump(&repo.path("t/state/openclaw.sqlite")), rows(&kept));
    assert!(!repo.path("t/memory/huge.sqlite").exists());
    let names: BTreeMap<_, _> = describe(&repo.path("t"), 0);
    assert!(names.contains_key(&b".exuviaignore"[..]));
    assert_eq!(repo.cat("latest", OsStr::new("openclaw.json")), b"{}");
}
