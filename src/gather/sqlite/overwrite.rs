//! Replacing the content of a database that other processes have open.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::CaptureError;
use super::capture::{classify, resolve, uri};

/// Tries for the write lock, and the pause between two.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the content of the database at `path` that of the file `image`, in one transaction of SQLite's
/// backup API: whoever reads sees the old content or the new one, and whoever writes next writes to the
/// new one. Waits for other writers for ten seconds.
///
/// `image` is a database file of its own, which nobody has open. The main file at `path` changes, or the
/// log beside it, as after any transaction; nothing is checkpointed.
///
/// # Errors
///
/// [`CaptureError::Locked`] when a writer, or in rollback-journal mode a reader, did not let go;
/// [`CaptureError::CannotCapture`] when the two differ in page size and `path` is in WAL mode, which SQLite
/// cannot change there. In each case the database is as it was.
pub fn overwrite(image: &Path, path: &Path) -> Result<(), CaptureError> {
    let (image, path) = (resolve(image)?, resolve(path)?);
    let failed = |error| classify(&path, error);
    let flags =
        OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let source = Connection::open_with_flags(
        uri(&image, &["mode=ro", "immutable=1"]),
        flags | OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .map_err(failed)?;
    let mut live =
        Connection::open_with_flags(uri(&path, &["mode=rw"]), flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(failed)?;
    live.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    live.busy_timeout(PAUSE).map_err(failed)?;
    let backup = Backup::new(&source, &mut live).map_err(failed)?;
    for _ in 0..ATTEMPTS {
        match backup.step(-1) {
            Ok(StepResult::Done) => return Ok(()),
            Ok(_) => thread::sleep(PAUSE),
            Err(error) if code(&error) == Some(ffi::SQLITE_READONLY) => {
                let what = "its page size is another than the snapshot's, and it is in use";
                return Err(CaptureError::CannotCapture(what.into()));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(CaptureError::Locked)
}

fn code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code & 0xff)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn database(path: &Path, mode: &str, page_size: u32, rows: i64) -> Connection {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "page_size", page_size).unwrap();
        db.pragma_update(None, "journal_mode", mode).unwrap();
        db.execute_batch("create table t (n)").unwrap();
        for n in 0..rows {
            db.execute("insert into t values (?1)", [n]).unwrap();
        }
        db
    }

    fn count(db: &Connection) -> i64 {
        db.query_row("select count(*) from t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn readers_see_old_or_new_and_the_next_write_lands_in_the_new() {
        for mode in ["wal", "delete"] {
            let dir = tempfile::tempdir().unwrap();
            let image = dir.path().join("image");
            drop(database(&image, mode, 4096, 3));
            let path = dir.path().join("live");
            let live = database(&path, mode, 4096, 500);
            let reader = Connection::open(&path).unwrap();
            assert_eq!((count(&live), count(&reader)), (500, 500));
            if mode == "wal" {
                reader.execute_batch("begin").unwrap();
                assert_eq!(count(&reader), 500);
            }
            overwrite(&image, &path).unwrap();
            if mode == "wal" {
                assert_eq!(count(&reader), 500, "a transaction that was open sees what it saw");
                reader.execute_batch("commit").unwrap();
            }
            assert_eq!((count(&live), count(&reader)), (3, 3));
            live.execute("insert into t values (9)", []).unwrap();
            assert_eq!(count(&reader), 4);
            let verdict: String = reader.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok");
        }
    }

    #[test]
    fn what_cannot_be_done_leaves_the_database_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        drop(database(&image, "wal", 8192, 3));
        let path = dir.path().join("live");
        let live = database(&path, "wal", 4096, 10);
        assert!(matches!(overwrite(&image, &path), Err(CaptureError::CannotCapture(_))));
        assert_eq!(count(&live), 10);
        assert!(overwrite(&image, &dir.path().join("nowhere")).is_err());
    }
}
