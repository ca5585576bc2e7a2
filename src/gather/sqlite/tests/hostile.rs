//! Damaged databases, odd names, failing sinks, schemas that want more than we have.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::super::stream::Stream;
use super::*;

#[test]
fn what_is_no_sound_database_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    assert!(matches!(refused(&path), CaptureError::NotFound));
    drop(create(&path, "", 2000));
    let sound = fs::read(&path).unwrap();
    fs::write(&path, &sound[..sound.len() / 2]).unwrap();
    assert!(matches!(refused(&path), CaptureError::Corrupt(_)));
    fs::write(&path, sound.iter().map(|b| b ^ 0x5a).collect::<Vec<_>>()).unwrap();
    assert!(matches!(refused(&path), CaptureError::NotADatabase));
    // Damage below the header: the image is the same, and the check says so.
    let mut damaged = sound.clone();
    damaged[4096 * 5..4096 * 6].fill(0xff);
    fs::write(&path, &damaged).unwrap();
    let mut image = Image::default();
    let captured = capture(&path, &QUICK, &mut image).unwrap();
    let text = captured.integrity.unwrap().unwrap_err();
    assert!(!text.is_empty() && text.len() < 2000, "{text}");
    assert_eq!(image.bytes[100..], damaged[100..]);
    assert!(verify_file(&path, true).unwrap().is_err());
    fs::write(&path, &sound).unwrap();
    assert_eq!(verify_file(&path, false).unwrap(), Ok(()));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(refused(&link), CaptureError::CannotCapture(_)));
}

#[test]
fn a_pipe_beside_a_database_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(create(&path, "", 10));
    for suffix in ["-wal", "-journal", "-shm"] {
        let pipe = with_suffix(&path, suffix);
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(refused(&path), CaptureError::CannotCapture(_)), "{suffix}");
        fs::remove_file(pipe).unwrap();
    }
}

#[test]
fn the_sinks_error_and_panic_come_back() {
    struct Refusing(bool);
    impl PageSink for Refusing {
        fn begin(&mut self, _: u32, _: u32) -> io::Result<()> {
            if self.0 { Err(io::Error::other("begin")) } else { Ok(()) }
        }
        fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
            panic!("thrown by the sink")
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(create(&path, "PRAGMA journal_mode=WAL;", 5000));
    for nth in [0, 10, 500] {
        let mut left = nth;
        let mut image = Image {
            hook: Some(Box::new(move |_| {
                left -= 1;
                if left < 0 { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
            })),
            ..Image::default()
        };
        let error = capture(&path, &QUICK, &mut image).unwrap_err();
        assert!(matches!(error, CaptureError::Sink(e) if e.raw_os_error() == Some(28)));
    }
    let error = capture(&path, &QUICK, &mut Refusing(true)).unwrap_err();
    assert!(matches!(error, CaptureError::Sink(e) if e.to_string() == "begin"));
    let caught = std::panic::catch_unwind(|| capture(&path, &QUICK, &mut Refusing(false)));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"thrown by the sink"));
    assert_eq!(count_in(&capture_still(&path).1), 5000);
}

#[test]
fn names_are_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    drop(create(&plain, "PRAGMA journal_mode=WAL;", 10));
    for name in [&b"a?mode=rw#b%20c&d=e"[..], b"\xff\xfe \n'\"", "ä:;".as_bytes(), b"file:x"] {
        let path = dir.path().join(OsStr::from_bytes(name));
        fs::copy(&plain, &path).unwrap();
        assert_eq!(count_in(&capture_still(&path).1), 10, "{}", name.escape_ascii());
        assert_eq!(verify_file(&path, true).unwrap(), Ok(()));
    }
}

#[test]
fn paths_may_be_long() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    drop(create(&plain, "PRAGMA journal_mode=WAL;", 10));
    let mut deep = dir.path().to_path_buf();
    (0..15).for_each(|_| deep.push("d".repeat(250)));
    fs::create_dir_all(&deep).unwrap();
    for suffix in ["", "-journal"] {
        fs::copy(&plain, deep.join(format!("a.db{suffix}"))).unwrap();
    }
    let path = deep.join("a.db");
    assert!(matches!(refused(&path), CaptureError::HotJournal));
    fs::remove_file(with_suffix(&path, "-journal")).unwrap();
    assert_eq!(count_in(&capture_still(&path).1), 10);
    assert_eq!(verify_file(&path, false).unwrap(), Ok(()));
}

#[test]
fn what_this_sqlite_lacks_is_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    for (sql, note) in [
        ("INSERT INTO sqlite_schema VALUES('table','v','v',0,'CREATE VIRTUAL TABLE v USING vec0(x)');", ""),
        (
            "UPDATE sqlite_schema SET sql='CREATE TABLE u(n INTEGER PRIMARY KEY, s CHECK(app_fn(s)))' WHERE name='u';",
            "",
        ),
        ("UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(app_fn(s))' WHERE name='i';", "app_fn"),
        (
            "UPDATE sqlite_schema SET sql='CREATE INDEX i ON t(s COLLATE app_order)' WHERE name='i';",
            "app_order",
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('a');
             UPDATE sqlite_schema SET sql='CREATE VIRTUAL TABLE f USING fts5(x, tokenize=app)' WHERE name='f';",
            "f: SQL logic error",
        ),
    ] {
        let connection = create(&path, "", 100);
        connection.execute_batch(&format!("PRAGMA writable_schema=1; {sql}")).unwrap();
        drop(connection);
        let mut image = Image::default();
        let full = CaptureOptions { integrity: IntegrityCheck::Full, ..QUICK };
        let captured = capture(&path, &full, &mut image).unwrap();
        assert_eq!(captured.integrity, Some(Ok(())), "{sql}");
        assert_eq!(captured.notes.is_empty(), note.is_empty(), "{sql} {:?}", captured.notes);
        assert!(captured.notes.iter().all(|n| n.contains(note)), "{:?}", captured.notes);
        assert_eq!(verify_file(&path, true).unwrap(), Ok(()));
        fs::remove_file(&path).unwrap();
    }
    // A schema that cannot be parsed is copied none the less, and the check fails.
    let connection = create(&path, "", 100);
    connection
        .execute_batch(
            "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql='CREATE TABLE u(' WHERE name='u'",
        )
        .unwrap();
    drop(connection);
    let captured = capture(&path, &QUICK, &mut Image::default()).unwrap();
    assert!(captured.integrity.unwrap().unwrap_err().contains("malformed"));
}

#[test]
fn a_schema_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let connection = create(&path, "", 10);
    connection
        .execute_batch(
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM u; END;
             CREATE TABLE e(x CHECK(x > 0), y AS (x + 1)); INSERT INTO e VALUES(1);",
        )
        .unwrap();
    drop(connection);
    assert_eq!(count_in(&capture_still(&path).1), 10);
}

#[test]
fn the_lock_page_never_comes_and_is_not_missed() {
    struct Null;
    impl PageSink for Null {
        fn begin(&mut self, _: u32, _: u32) -> io::Result<()> {
            Ok(())
        }
        fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }
    const SIZE: i64 = 65536;
    let page = vec![0; 65536];
    let lock_page = 0x4000_0000 / SIZE;
    // Ends before, at and behind the page of byte 2^30; then one page short.
    for (count, missing) in
        [(lock_page, 0), (lock_page + 1, 0), (lock_page + 3, 0), (lock_page, 1), (lock_page + 3, 1)]
    {
        let mut null = Null;
        let mut stream = Stream::new(&mut null);
        assert!(stream.begin(65536, u32::try_from(count).unwrap()));
        for n in (0..count - missing).filter(|&n| n != lock_page) {
            assert!(stream.write(&page, n * SIZE));
        }
        assert_eq!(stream.finish().is_some(), missing > 0, "{count} {missing}");
    }
}

#[test]
fn a_stream_fails_loudly() {
    let attempts: [fn(&mut Stream<'_>) -> bool; 6] = [
        |s| s.write(&[0; 512], 512),
        |s| s.write(&[0; 512], 100),
        |s| s.write(&[0; 1024], 1024),
        |s| s.write(&[0; 512], 512 * 4),
        |s| s.read(&mut [0; 16], 600).is_some(),
        |s| s.truncate(512),
    ];
    for attempt in attempts {
        let mut image = Image::default();
        let mut stream = Stream::new(&mut image);
        assert_eq!(stream.read(&mut [0; 100], 0), Some(false));
        assert!(stream.begin(512, 4) && stream.write(&[7; 512], 0) && stream.write(&[8; 512], 512));
        let mut head = [0; 16];
        assert_eq!((stream.read(&mut head, 24), head), (Some(true), [7; 16]));
        assert!(stream.truncate(1024));
        assert!(!attempt(&mut stream));
        assert!(!stream.write(&[0; 512], 1024), "a failure is final");
        assert!(stream.take_failure().is_some());
    }
}
