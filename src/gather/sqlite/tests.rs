#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::stamp::with_suffix;
use super::*;

const QUICK: CaptureOptions =
    CaptureOptions { integrity: IntegrityCheck::Quick, busy_timeout: Duration::ZERO };

type Hook<'a> = Box<dyn FnMut(u64) -> io::Result<()> + 'a>;

/// Assembles the image and notes what came.
#[derive(Default)]
struct Image<'a> {
    bytes: Vec<u8>,
    begun: u32,
    offsets: Vec<u64>,
    hook: Option<Hook<'a>>,
}

impl PageSink for Image<'_> {
    fn begin(&mut self, page_size: u32, page_count: u32) -> io::Result<()> {
        self.bytes = vec![0; page_size as usize * page_count as usize];
        self.offsets.clear();
        self.begun += 1;
        Ok(())
    }

    fn write(&mut self, offset: u64, page: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.bytes[at..at + page.len()].copy_from_slice(page);
        self.offsets.push(offset);
        self.hook.as_mut().map_or(Ok(()), |hook| hook(offset))
    }
}

/// The image as a database of its own, which `integrity_check` must pass.
fn opened(bytes: &[u8]) -> (TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, bytes).unwrap();
    assert_eq!(verify_file(&path, true).unwrap(), Ok(()));
    let connection = Connection::open(&path).unwrap();
    (dir, connection)
}

fn int(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, (), |row| row.get(0)).unwrap()
}

fn count_in(bytes: &[u8]) -> i64 {
    int(&opened(bytes).1, "SELECT count(*) FROM t")
}

fn create(path: &Path, pragmas: &str, rows: i64) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "{pragmas} CREATE TABLE t(n INTEGER PRIMARY KEY, s); CREATE TABLE u(n INTEGER PRIMARY KEY, s);
             CREATE INDEX i ON t(s); PRAGMA user_version=-3; PRAGMA application_id=77;"
        ))
        .unwrap();
    connection.execute_batch("BEGIN").unwrap();
    (1..=rows).for_each(|n| insert(&connection, n));
    connection.execute_batch("COMMIT").unwrap();
    connection
}

fn insert(connection: &Connection, n: i64) {
    for table in ["t", "u"] {
        let sql = format!("INSERT INTO {table} VALUES(?1, printf('%0200d', ?1))");
        connection.execute(&sql, [n]).unwrap();
    }
}

fn commit(connection: &Connection, n: i64) {
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    insert(connection, n);
    connection.execute_batch("COMMIT").unwrap();
}

/// Everything about a directory that a capture must leave alone.
fn listing(dir: &Path) -> BTreeMap<PathBuf, (String, u64, i64, i64, i64)> {
    let mut all = BTreeMap::new();
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    for path in names.chain([dir.to_path_buf()]) {
        let meta = fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let hash = format!("{} {}", bytes.len(), blake3::hash(&bytes));
        // SQLite run as root sets the owner of a `-shm` to what it is.
        let ctime = if path.to_string_lossy().ends_with("-shm") { 0 } else { meta.ctime_nsec() };
        all.insert(path, (hash, meta.ino(), meta.mtime(), meta.mtime_nsec(), ctime));
    }
    all
}

/// Captures a database that no connection of this process has open; nothing may change.
fn capture_still(path: &Path) -> (Captured, Vec<u8>) {
    let dir = path.parent().unwrap();
    let before = listing(dir);
    let mut image = Image::default();
    let captured = capture(path, &QUICK, &mut image).unwrap();
    assert_eq!(listing(dir), before);
    assert_eq!(image.begun, 1);
    assert_eq!(captured.integrity, Some(Ok(())));
    assert_eq!(captured.size, image.bytes.len() as u64);
    assert_eq!(captured.stamp, SourceStamp::read(path).unwrap());
    (captured, image.bytes)
}

fn refused(path: &Path) -> CaptureError {
    let dir = path.parent().unwrap();
    let before = listing(dir);
    let error = capture(path, &QUICK, &mut Image::default()).unwrap_err();
    assert_eq!(listing(dir), before);
    error
}

/// Copies a database away as a killed process would leave it.
fn leave_behind(source: &Path, to: &Path, suffixes: &[&str]) -> PathBuf {
    let target = to.join("left.db");
    for suffix in suffixes {
        fs::copy(with_suffix(source, suffix), with_suffix(&target, suffix)).unwrap();
    }
    target
}

/// Runs [`child`] in a process of its own; it lives until dropped.
struct Other(Child);

impl Other {
    fn start(path: &Path, task: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "gather::sqlite::tests::child", "--nocapture"])
            .env("EXUVIA_TEST_DB", path)
            .env("EXUVIA_TEST_TASK", task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("READY")));
        // The pipe stays open for what the test harness of the child still prints.
        std::mem::forget(lines);
        Self(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn child() {
    let Some(path) = std::env::var_os("EXUVIA_TEST_DB") else { return };
    let task = std::env::var("EXUVIA_TEST_TASK").unwrap();
    let connection = Connection::open(path).unwrap();
    let rows = int(&connection, "SELECT max(n) FROM t");
    match task.as_str() {
        "exclusive" => connection.execute_batch("BEGIN EXCLUSIVE").unwrap(),
        "hold" => commit(&connection, rows + 1),
        _ => {}
    }
    io::stdout().write_all(b"\nREADY\n").unwrap();
    io::stdout().flush().unwrap();
    if task == "write" {
        let mut n = rows;
        loop {
            n += 1;
            commit(&connection, n);
        }
    }
    let _ = io::stdin().read_line(&mut String::new());
}

#[test]
fn magic() {
    assert!(is_sqlite(b"SQLite format 3\0\x10\0"));
    assert!(!is_sqlite(b""));
    assert!(!is_sqlite(b"SQLite format 3"));
    assert!(!is_sqlite(b"SQLite format 4\0"));
}

#[test]
fn every_page_size_and_layout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    for pragmas in [
        "PRAGMA page_size=512;",
        "PRAGMA page_size=4096; PRAGMA journal_mode=WAL;",
        "PRAGMA page_size=65536;",
        "PRAGMA page_size=65536; PRAGMA journal_mode=WAL;",
        "PRAGMA auto_vacuum=2;",
        "PRAGMA auto_vacuum=1; PRAGMA page_size=1024;",
        "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('a b c');",
    ] {
        let connection = create(&path, pragmas, 3000);
        connection.execute_batch("DELETE FROM u WHERE n % 3 = 0; DELETE FROM u WHERE n > 1000;").unwrap();
        drop(connection);
        let (captured, image) = capture_still(&path);
        assert_eq!((captured.user_version.cast_signed(), captured.application_id), (-3, 77), "{pragmas}");
        assert_eq!(captured.notes, Vec::<String>::new());
        assert_eq!(count_in(&image), 3000, "{pragmas}");
        let source = fs::read(&path).unwrap();
        let changed: Vec<usize> = (0..source.len()).filter(|&i| source[i] != image[i]).collect();
        let fields = [24..28, 40..44, 92..100];
        assert!(changed.iter().all(|i| fields.iter().any(|f| f.contains(i))), "{pragmas} {changed:?}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn pages_come_once_and_nearly_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(create(&path, "PRAGMA page_size=512;", 20_000));
    let mut image = Image::default();
    let captured = capture(&path, &CaptureOptions::default(), &mut image).unwrap();
    assert_eq!(captured.integrity, None);
    let backwards = image.offsets.windows(2).filter(|w| w[1] < w[0]).count();
    // Page 1 and the few pages still in the cache at the end.
    assert!(backwards <= 3, "{backwards}");
    image.offsets.sort_unstable();
    assert!(image.offsets.iter().copied().eq((0..captured.size).step_by(512)));
}

#[test]
fn a_writer_thread_neither_waits_nor_mixes_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let writer = create(&path, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;", 5000);
    let (stop, committed) = (AtomicBool::new(false), AtomicI64::new(5000));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let n = committed.load(Ordering::SeqCst) + 1;
                commit(&writer, n);
                committed.store(n, Ordering::SeqCst);
            }
            drop(writer);
        });
        for _ in 0..20 {
            let before = committed.load(Ordering::SeqCst);
            let mut image = Image::default();
            let captured = capture(&path, &QUICK, &mut image).unwrap();
            let after = committed.load(Ordering::SeqCst) + 1;
            assert_eq!(captured.integrity, Some(Ok(())));
            let (_dir, image) = opened(&image.bytes);
            let rows = int(&image, "SELECT count(*) FROM t");
            assert!((before..=after).contains(&rows), "{before} {rows} {after}");
            assert_eq!(int(&image, "SELECT count(*) FROM u"), rows);
            assert_eq!(int(&image, "SELECT max(n) FROM u"), rows);
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn commits_and_checkpoints_between_pages_do_not_restart_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let writer = create(&path, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;", 5000);
    let mut n = 5000;
    let mut image = Image {
        hook: Some(Box::new(|_| {
            n += 1;
            commit(&writer, n);
            if n % 100 == 0 {
                writer.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
            }
            Ok(())
        })),
        ..Image::default()
    };
    capture(&path, &QUICK, &mut image).unwrap();
    assert_eq!(image.begun, 1);
    assert_eq!(count_in(&image.bytes), 5000);
    drop(image);
    assert!(n > 5100);
}

#[test]
fn a_writer_process_never_mixes_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(create(&path, "PRAGMA journal_mode=WAL;", 2000));
    let _other = Other::start(&path, "write");
    let mut last = 2000;
    for _ in 0..20 {
        let mut image = Image::default();
        let captured = capture(&path, &QUICK, &mut image).unwrap();
        assert_eq!(captured.integrity, Some(Ok(())));
        let (_dir, image) = opened(&image.bytes);
        let rows = int(&image, "SELECT count(*) FROM t");
        assert!(rows >= last);
        last = rows;
        assert_eq!(int(&image, "SELECT count(*) FROM u"), rows);
    }
}

#[test]
fn a_database_that_a_process_holds_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(create(&path, "PRAGMA journal_mode=WAL;", 100));
    assert!(!is_open_elsewhere(&path).unwrap());
    let other = Other::start(&path, "hold");
    let (captured, image) = capture_still(&path);
    assert!(captured.stamp.wal.is_some());
    assert_eq!(count_in(&image), 101);
    assert!(is_open_elsewhere(&path).unwrap());
    drop(other);
    assert!(!is_open_elsewhere(&path).unwrap());
    // Killed, not closed: the row is still in the WAL.
    assert_eq!(count_in(&capture_still(&path).1), 101);
}

#[test]
fn what_a_killed_process_leaves_is_captured_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let writer = create(&path, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;", 100);
    writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    commit(&writer, 101);
    for (suffixes, rows) in
        [(&["", "-wal"][..], 101), (&["", "-wal", "-shm"], 101), (&["", "-shm"], 100), (&[""], 100)]
    {
        let left = tempfile::tempdir().unwrap();
        let copy = leave_behind(&path, left.path(), suffixes);
        assert_eq!(count_in(&capture_still(&copy).1), rows, "{suffixes:?}");
    }
    // The last transaction is torn: what came before it counts.
    commit(&writer, 102);
    let left = tempfile::tempdir().unwrap();
    let copy = leave_behind(&path, left.path(), &["", "-wal"]);
    let wal = with_suffix(&copy, "-wal");
    let len = fs::metadata(&wal).unwrap().len();
    fs::File::options().write(true).open(&wal).unwrap().set_len(len - 10).unwrap();
    assert_eq!(count_in(&capture_still(&copy).1), 101);
    // An empty WAL is none, and is not deleted.
    fs::write(&wal, b"").unwrap();
    assert_eq!(capture_still(&copy).0.stamp.wal, None);
}

#[test]
fn a_database_opened_half_way_is_captured_anew() {
    for suffixes in [&[""][..], &["", "-wal"]] {
        let dir = tempfile::tempdir().unwrap();
        let origin = dir.path().join("a.db");
        let writer = create(&origin, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;", 2000);
        writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        commit(&writer, 2001);
        let left = tempfile::tempdir().unwrap();
        let path = leave_behind(&origin, left.path(), suffixes);
        let mut comer = None;
        let mut image = Image {
            hook: Some(Box::new(|_| {
                comer.get_or_insert_with(|| {
                    let connection = Connection::open(&path).unwrap();
                    commit(&connection, 3000);
                    connection.execute_batch("UPDATE t SET s=n; PRAGMA wal_checkpoint").unwrap();
                    connection
                });
                Ok(())
            })),
            ..Image::default()
        };
        let captured = capture(&path, &QUICK, &mut image).unwrap();
        assert_eq!((image.begun, captured.integrity), (2, Some(Ok(()))));
        let (_dir, copy) = opened(&image.bytes);
        assert_eq!(int(&copy, "SELECT max(n) FROM t WHERE s=n"), 3000);
    }
}

#[test]
fn a_hot_journal_is_reported_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let writer = create(&path, "", 2000);
    writer.execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE t SET s=n;").unwrap();
    let left = tempfile::tempdir().unwrap();
    let copy = leave_behind(&path, left.path(), &["", "-journal"]);
    assert!(matches!(refused(&copy), CaptureError::HotJournal));
    // A journal that was put out of use but kept is no obstacle.
    writer.execute_batch("ROLLBACK; PRAGMA journal_mode=PERSIST; DELETE FROM t WHERE n=1;").unwrap();
    drop(writer);
    assert!(with_suffix(&path, "-journal").exists());
    assert_eq!(count_in(&capture_still(&path).1), 1999);
}

#[test]
fn a_lock_is_waited_for_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(create(&path, "", 10));
    let other = Other::start(&path, "exclusive");
    assert!(is_open_elsewhere(&path).unwrap());
    assert!(matches!(refused(&path), CaptureError::Locked));
    drop(other);
    assert_eq!(count_in(&capture_still(&path).1), 10);
    let wal = dir.path().join("b.db");
    let holder = create(&wal, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;", 10);
    assert!(matches!(capture(&wal, &QUICK, &mut Image::default()), Err(CaptureError::Locked)));
    drop(holder);
}

type ImageHook<'a> = Box<dyn FnMut(usize) + 'a>;

/// An image taken in the order of its bytes; the hook is told how many bytes came.
#[derive(Default)]
struct InOrder<'a> {
    size: Option<u64>,
    bytes: Vec<u8>,
    hook: Option<ImageHook<'a>>,
}

impl ImageSink for InOrder<'_> {
    fn begin(&mut self, size: u64) -> io::Result<()> {
        assert_eq!(self.size.replace(size), None, "it begins once");
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        if let Some(hook) = &mut self.hook {
            hook(self.bytes.len());
        }
        Ok(())
    }
}

#[test]
fn an_image_in_order_is_the_image() {
    for pragmas in [
        "PRAGMA page_size=512;",
        "PRAGMA page_size=65536;",
        "PRAGMA auto_vacuum=FULL;",
        "PRAGMA journal_mode=WAL;",
    ] {
        for rows in [0, 3, 2000] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.db");
            drop(create(&path, pragmas, rows));
            let (captured, image) = capture_still(&path);
            let before = listing(dir.path());
            let mut sink = InOrder::default();
            let again = capture_in_order(&path, &QUICK, &mut sink).unwrap();
            assert_eq!(listing(dir.path()), before);
            assert!(sink.bytes == image, "{pragmas} {rows}");
            assert_eq!(
                (sink.size, again.size, again.page_count),
                (Some(captured.size), captured.size, captured.page_count)
            );
        }
    }
}

#[test]
fn commits_while_an_image_is_taken_in_order_do_not_mix_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let writer = create(&path, "PRAGMA journal_mode=WAL;", 2000);
    let mut n = 2000;
    let mut sink = InOrder {
        hook: Some(Box::new(|_| {
            n += 1;
            commit(&writer, n);
        })),
        ..InOrder::default()
    };
    capture_in_order(&path, &QUICK, &mut sink).unwrap();
    let bytes = std::mem::take(&mut sink.bytes);
    drop(sink);
    assert!(n > 2100, "it wrote meanwhile");
    assert_eq!(count_in(&bytes), 2000);
}

/// Before the first byte it begins anew, as any capture; afterwards it cannot.
#[test]
fn a_database_opened_half_way_through_an_image_in_order_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("a.db");
    let writer = create(&origin, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;", 2000);
    writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    commit(&writer, 2001);
    let left = tempfile::tempdir().unwrap();
    let path = leave_behind(&origin, left.path(), &["", "-wal"]);
    let mut comer = None;
    let mut sink = InOrder {
        hook: Some(Box::new(|_| {
            comer.get_or_insert_with(|| {
                let connection = Connection::open(&path).unwrap();
                commit(&connection, 3000);
                connection.execute_batch("UPDATE t SET s=n; PRAGMA wal_checkpoint").unwrap();
                connection
            });
        })),
        ..InOrder::default()
    };
    let result = capture_in_order(&path, &QUICK, &mut sink);
    assert!(result.is_err(), "{result:?}");
}
