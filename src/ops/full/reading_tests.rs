//! What archives of other programs may ask of who reads them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::full::tar::{Member, MemberKind, Writer};
use crate::full::{Effort, Encoder};
use crate::model::{Classify, ErrorClass};
use crate::remote::{Memory, Remote};
use crate::report::{Monitor, Silent};

const NAME: &str = "backup-20240101T000000Z.tar.gz";
const EFFORT: Effort = Effort { level: Some(1), threads: 1 };

struct Found {
    place: Place,
    listed: Listed,
    dir: tempfile::TempDir,
}

/// The archive of a tar stream, in a place where archives have no marks.
fn found(gzip: &[u8]) -> Found {
    let remote = Arc::new(Memory::default());
    remote.put(&format!("old/{NAME}"), gzip).unwrap();
    let place = Place::foreign(remote, "old".into());
    let listed = Archives::load(&place).unwrap().choose("latest", &place).unwrap().clone();
    Found { place, listed, dir: tempfile::tempdir().unwrap() }
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::openssl(Vec::new(), None, EFFORT).unwrap();
    std::io::Write::write_all(&mut encoder, tar).unwrap();
    encoder.finish().unwrap().out
}

fn archive(members: &[(Member, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Encoder::openssl(Vec::new(), None, EFFORT).unwrap());
    for (member, data) in members {
        writer.member(&Member { size: data.len() as u64, mode: 0o755, ..member.clone() }).unwrap();
        writer.data(data).unwrap();
    }
    writer.finish().unwrap().finish().unwrap().out
}

fn file(path: &str) -> Member {
    Member::new(path.as_bytes().to_vec(), MemberKind::File)
}

fn monitor() -> Arc<dyn Monitor> {
    Arc::new(Silent)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

impl Found {
    fn restore(&self) -> Result<Restored, Error> {
        let request = RestoreRequest {
            target: self.dir.path().join("out"),
            paths: Vec::new(),
            partial: false,
            passphrase: None,
            forbidden: Vec::new(),
        };
        restore(&self.place, &self.listed, &request, &monitor(), &clock())
    }

    fn verify(&self) -> Result<Verified, Error> {
        let (scratch, state_dir) = (self.dir.path().to_path_buf(), self.dir.path().join("state"));
        let request = VerifyRequest { passphrase: None, scratch, state_dir };
        verify(&self.place, &self.listed, &request, &monitor(), &clock())
    }
}

/// A file of GNU tar's old sparse form that has this at its beginning, and then a hole.
fn sparse(name: &str, start: &[u8], size: &str) -> Vec<u8> {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{:011o}", start.len()).as_bytes());
    block[148..156].fill(b' ');
    block[156] = b'S';
    block[257..265].copy_from_slice(b"ustar  \0");
    block[386..409].copy_from_slice(format!("{:011o}\0{:011o}", 0, start.len()).as_bytes());
    block[483..483 + size.len()].copy_from_slice(size.as_bytes());
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let filling = vec![0; start.len().next_multiple_of(512) - start.len()];
    [block.as_slice(), start, &filling].concat()
}

#[test]
fn holes_take_neither_room_nor_time() {
    // 4 GiB less a byte each; one of them seems to be a database.
    let size = "37777777777";
    let tar = [sparse("a", b"start", size), sparse("b", b"SQLite format 3\0", size), vec![0; 1024]].concat();
    let found = found(&gzip(&tar));
    let verified = found.verify().unwrap();
    assert_eq!((verified.files, verified.bytes), (2, 2 * ((4 << 30) - 1)));
    assert_eq!((verified.databases, verified.problem_count), (0, 1), "{:?}", verified.problems);
    assert!(!verified.authenticated);
    let restored = found.restore().unwrap();
    assert_eq!((restored.files, restored.error_count), (2, 0), "{:?}", restored.errors);
    let stat = fs::metadata(found.dir.path().join("out/a")).unwrap();
    assert_eq!(stat.len(), (4 << 30) - 1);
    assert!(stat.blocks() * 512 < 1 << 20);
}

#[test]
fn holes_count_for_the_limit_of_what_few_bytes_may_stand_for() {
    // 64 GiB less a byte.
    let tar = [sparse("a", b"start", "777777777777"), vec![0; 1024]].concat();
    let found = found(&gzip(&tar));
    for error in [found.verify().unwrap_err(), found.restore().unwrap_err()] {
        assert!(error.to_string().contains("holes included"), "{error}");
        assert_eq!(error.class(), ErrorClass::Damaged);
    }
}

#[test]
fn links_and_folders_have_a_bound_of_memory() {
    let target = vec![b'x'; 60_000];
    let link = |n: u32| Member::new(format!("{n}").into_bytes(), MemberKind::Symlink(target.clone()));
    let few: Vec<_> =
        (0..10).map(|n| (Member::new(vec![b'a'; n + 1], MemberKind::Directory), &b""[..])).collect();
    assert_eq!(found(&archive(&few)).restore().unwrap().dirs, 10);
    let many: Vec<_> = (0..1_200).map(|n| (link(n), &b""[..])).collect();
    let error = found(&archive(&many)).restore().unwrap_err();
    assert!(error.to_string().contains("take more memory"), "{error}");
    assert_eq!(error.class(), ErrorClass::Damaged);
}

#[test]
fn attributes_that_cannot_be_set_cost_no_content() {
    // No system takes names of more than 255 bytes.
    let xattrs = vec![([&b"user."[..], &[b'n'; 300]].concat(), b"value".to_vec())];
    let folder = Member::new(b"folder".to_vec(), MemberKind::Directory);
    let members = [
        (Member { xattrs: xattrs.clone(), ..folder }, &b""[..]),
        (Member { xattrs, ..file("folder/a") }, &b"content"[..]),
        (file("folder/b"), &b"more"[..]),
    ];
    let found = found(&archive(&members));
    let restored = found.restore().unwrap();
    assert_eq!((restored.files, restored.dirs, restored.error_count), (2, 1, 2), "{:?}", restored.errors);
    let path = found.dir.path().join("out/folder/a");
    assert_eq!(fs::read(&path).unwrap(), b"content");
    // What could be set is set.
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn an_archive_whose_mark_these_keys_cannot_read_is_taken_only_on_request() {
    let mut found = found(&archive(&[(file("a"), &b"content"[..])]));
    found.listed.state = State::Sealed;
    for error in [found.verify().unwrap_err(), found.restore().unwrap_err()] {
        assert!(matches!(error, Error::NotWhole { .. }), "{error}");
    }
}

/// A database of which the newest of some page is in its log alone, and what is in the file is garbage.
fn torn(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let path = dir.join("live.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let sql =
        "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(a); INSERT INTO t VALUES(1);
        PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET a=2;";
    connection.execute_batch(sql).unwrap();
    let (mut image, log) = (fs::read(&path).unwrap(), fs::read(dir.join("live.db-wal")).unwrap());
    image[4096..8192].fill(0xff);
    (image, log)
}

#[test]
fn a_database_is_checked_with_the_log_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (image, log) = torn(dir.path());
    let (db, wal, other) = (file("x/a.db"), file("x/a.db-wal"), file("x/other"));
    let orders: [&[(Member, &[u8])]; 3] = [
        &[(db.clone(), &image[..]), (wal.clone(), &log[..])],
        &[(wal.clone(), &log[..]), (other.clone(), &b"other"[..]), (db.clone(), &image[..])],
        &[(db.clone(), &image[..]), (other, &b"other"[..]), (wal.clone(), &log[..])],
    ];
    for members in orders {
        let found = found(&archive(members));
        let verified = found.verify().unwrap();
        assert_eq!((verified.databases, verified.problem_count), (1, 0), "{:?}", verified.problems);
        assert!(fs::read_dir(found.dir.path()).unwrap().next().is_none());
    }
    // Elsewhere it is that of another.
    for members in [vec![(db.clone(), &image[..])], vec![(db, &image[..]), (file("y/a.db-wal"), &log[..])]] {
        let verified = found(&archive(&members)).verify().unwrap();
        assert_eq!((verified.databases, verified.problem_count), (0, 1));
    }
}
