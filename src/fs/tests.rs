#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::model::{Owner, RepoPath, Timestamp, Xattr};

fn scratch() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

fn path(s: &str) -> RepoPath {
    RepoPath::new(s.as_bytes().to_vec()).unwrap()
}

const HOSTILE: [&[u8]; 8] = [b"", b".", b"..", b"/", b"a/b", b"../x", b"/etc", b"a\0b"];

#[test]
fn a_name_that_is_not_one_component_is_refused_by_every_method() {
    let (_temp, dir) = scratch();
    dir.create_file(b"a", 0o600).unwrap();
    for bad in HOSTILE {
        let results: Vec<(&str, io::Result<()>)> = vec![
            ("open_dir", dir.open_dir(bad).map(drop)),
            ("stat_at", dir.stat_at(bad).map(drop)),
            ("open_file", dir.open_file(bad).map(drop)),
            ("open_file_rw", dir.open_file_rw(bad).map(drop)),
            ("read_link_at", dir.read_link_at(bad).map(drop)),
            ("create_file", dir.create_file(bad, 0o600).map(drop)),
            ("create_dir", dir.create_dir(bad, 0o700)),
            ("symlink_at", dir.symlink_at(b"t", bad)),
            ("hard_link_at new", dir.hard_link_at(&dir, b"a", bad)),
            ("hard_link_at old", dir.hard_link_at(&dir, bad, b"n")),
            ("mkfifo", dir.mkfifo(bad, 0o600)),
            ("mknod", dir.mknod(bad, FileKind::CharDevice, 0o600, (1, 3))),
            ("rename_at old", dir.rename_at(bad, &dir, b"n")),
            ("rename_at new", dir.rename_at(b"a", &dir, bad)),
            ("rename_new_at", dir.rename_new_at(b"a", &dir, bad)),
            ("unlink", dir.unlink(bad)),
            ("rmdir", dir.rmdir(bad)),
            ("set_owner_at", set_owner_at(&dir, bad, 0, 0)),
            ("set_mode_at", set_mode_at(&dir, bad, 0o600, 0o777)),
            ("set_times_at", set_times_at(&dir, bad, Timestamp::from_secs(1).into())),
        ];
        for (method, result) in results {
            let kind = result.map_err(|e| e.kind());
            assert_eq!(kind, Err(ErrorKind::InvalidInput), "{method} {}", bad.escape_ascii());
        }
    }
    assert_eq!(dir.list().unwrap(), [b"a".to_vec()]);
}

#[test]
fn a_link_is_followed_in_no_component() {
    let (temp, dir) = scratch();
    fs::create_dir_all(temp.path().join("real/sub")).unwrap();
    fs::write(temp.path().join("real/file"), b"secret").unwrap();
    symlink("real", temp.path().join("link")).unwrap();
    symlink("real/file", temp.path().join("file-link")).unwrap();

    assert!(dir.open_path(&path("real/sub")).is_ok());
    assert!(dir.open_dir(b"link").is_err());
    assert!(dir.open_path(&path("link/sub")).is_err());
    assert!(dir.open_path(&path("link")).is_err());
    assert!(dir.open_file(b"file-link").is_err());
    assert!(dir.open_file_rw(b"file-link").is_err());
    assert_eq!(dir.create_file(b"file-link", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(dir.stat_at(b"link").unwrap().kind, FileKind::Symlink);
    assert_eq!(dir.read_link_at(b"link").unwrap(), b"real");
    // The user's own path may lead through a link.
    assert!(Dir::open(&temp.path().join("link/sub")).is_ok());

    let before = fs::metadata(temp.path().join("real/file")).unwrap();
    set_times_at(&dir, b"file-link", Timestamp::from_secs(77).into()).unwrap();
    set_owner_at(&dir, b"file-link", before.uid(), before.gid()).unwrap();
    assert!(set_mode_at(&dir, b"file-link", 0o777, 0o777).is_err());
    let after = fs::metadata(temp.path().join("real/file")).unwrap();
    assert_eq!((before.mtime(), before.mode()), (after.mtime(), after.mode()));
    assert_eq!(dir.stat_at(b"file-link").unwrap().mtime.secs, 77);
}

#[test]
fn a_hard_link_to_a_link_names_the_link() {
    let (temp, dir) = scratch();
    fs::write(temp.path().join("file"), b"x").unwrap();
    symlink("file", temp.path().join("link")).unwrap();
    dir.hard_link_at(&dir, b"file", b"file2").unwrap();
    dir.hard_link_at(&dir, b"link", b"link2").unwrap();
    assert_eq!(dir.stat_at(b"file").unwrap().identity(), dir.stat_at(b"file2").unwrap().identity());
    assert_eq!(dir.stat_at(b"file").unwrap().nlink, 2);
    assert_eq!(dir.stat_at(b"link2").unwrap().kind, FileKind::Symlink);
}

#[test]
fn names_are_bytes() {
    let (_temp, dir) = scratch();
    let odd: [&[u8]; 4] = [b"\xff\xfe", b" ", b"...", b"line\nbreak"];
    for name in odd {
        dir.create_file(name, 0o640).unwrap();
        assert_eq!(dir.stat_at(name).unwrap().kind, FileKind::File);
    }
    let mut names = dir.list().unwrap();
    names.sort();
    let mut expected: Vec<Vec<u8>> = odd.iter().map(|n| n.to_vec()).collect();
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn a_listing_is_complete_however_often_and_from_however_many_threads() {
    let (temp, dir) = scratch();
    for i in 0..3_000 {
        File::create(temp.path().join(format!("a rather long name to fill the buffer {i}"))).unwrap();
    }
    let dir = Arc::new(dir);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let dir = Arc::clone(&dir);
            std::thread::spawn(move || dir.list().unwrap().len())
        })
        .collect();
    assert!(threads.into_iter().all(|t| t.join().unwrap() == 3_000));
    assert_eq!(dir.list().unwrap().len(), 3_000);
}

#[test]
fn a_sorted_listing_is_in_byte_order_and_finds_names() {
    let (temp, dir) = scratch();
    let mut names = ["b", "a", "a-b", "aaaaaaaab", "aaaaaaaaa", "aaaaaaaa", "A", "é", "0"];
    for name in names {
        File::create(temp.path().join(name)).unwrap();
    }
    dir.create_dir(b"dir", 0o700).unwrap();
    let mut listing = Listing::new();
    dir.list_into(&mut listing).unwrap();
    listing.sort();
    names.sort_unstable();
    let listed: Vec<&[u8]> = listing.iter().map(|(n, _)| n).filter(|n| *n != b"dir").collect();
    assert_eq!(listed, names.map(str::as_bytes));
    assert!(matches!(listing.find(b"dir"), Some(FileKind::Directory | FileKind::Unknown)));
    assert_eq!(listing.find(b"di"), None);
    assert_eq!(listing.len(), names.len() + 1);
}

#[test]
fn every_kind_is_told_apart() {
    let (temp, dir) = scratch();
    dir.create_file(b"file", 0o4640).unwrap();
    dir.create_dir(b"dir", 0o700).unwrap();
    dir.symlink_at(b"/nowhere", b"link").unwrap();
    dir.mkfifo(b"fifo", 0o600).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("socket")).unwrap();
    for (name, kind) in [
        (&b"file"[..], FileKind::File),
        (b"dir", FileKind::Directory),
        (b"link", FileKind::Symlink),
        (b"fifo", FileKind::Fifo),
        (b"socket", FileKind::Socket),
    ] {
        assert_eq!(dir.stat_at(name).unwrap().kind, kind);
    }
    let null = Dir::open(Path::new("/dev")).unwrap().stat_at(b"null").unwrap();
    assert_eq!((null.kind, null.rdev), (FileKind::CharDevice, (1, 3)));
    // A fifo without a writer must not hold us up, nor pass for a file.
    assert_eq!(dir.open_regular(b"fifo").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(dir.mknod(b"no", FileKind::Socket, 0o600, (0, 0)).is_err());
}

#[test]
fn a_device_keeps_its_numbers() {
    let (_temp, dir) = scratch();
    match dir.mknod(b"null", FileKind::CharDevice, 0o600, (1, 3)) {
        Ok(()) => {
            let stat = dir.stat_at(b"null").unwrap();
            assert_eq!((stat.kind, stat.rdev), (FileKind::CharDevice, (1, 3)));
        }
        // Only root may make devices, and not in every container.
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
}

#[test]
fn times_keep_nanoseconds_before_and_after_1970() {
    let (_temp, dir) = scratch();
    let file = dir.create_file(b"file", 0o600).unwrap();
    dir.symlink_at(b"file", b"link").unwrap();
    dir.create_dir(b"dir", 0o700).unwrap();
    let sub = dir.open_dir(b"dir").unwrap();
    for time in [
        Timestamp { secs: 1_700_000_000, nanos: 123_456_789 },
        Timestamp { secs: -1, nanos: 999_999_999 },
        Timestamp { secs: -86_400, nanos: 1 },
        Timestamp::from_secs(0),
    ] {
        set_times(&file, time.into()).unwrap();
        set_times(&sub, time.into()).unwrap();
        set_times_at(&dir, b"link", Times { modified: time, accessed: Some(time) }).unwrap();
        assert_eq!(stat_file(&file).unwrap().mtime, time);
        assert_eq!(sub.stat().unwrap().mtime, time);
        assert_eq!(dir.stat_at(b"link").unwrap().mtime, time);
    }
    // A nanosecond count that the system would read as "now" or "leave it" must not get there.
    let odd = Timestamp { secs: 5, nanos: 0x3fff_ffff };
    assert_eq!(set_times(&file, odd.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn modes_are_masked_and_owners_checked() {
    let (_temp, dir) = scratch();
    let file = dir.create_file(b"file", 0o600).unwrap();
    set_mode(&file, 0o4755, 0o777).unwrap();
    assert_eq!(stat_file(&file).unwrap().mode, 0o755);
    set_mode(&file, 0o4755, 0o7777).unwrap();
    assert_eq!(stat_file(&file).unwrap().mode, 0o4755);
    dir.mkfifo(b"fifo", 0o600).unwrap();
    set_mode_at(&dir, b"fifo", 0o666, 0o777).unwrap();
    assert_eq!(dir.stat_at(b"fifo").unwrap().mode, 0o666);
    let stat = stat_file(&file).unwrap();
    set_owner(&file, stat.uid, stat.gid).unwrap();
    assert_eq!(set_owner(&file, u32::MAX, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(set_owner_at(&dir, b"file", 0, u32::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn xattrs_round_trip_sorted() {
    let (_temp, dir) = scratch();
    let file = dir.create_file(b"file", 0o600).unwrap();
    assert!(read_xattrs(&file).unwrap().iter().all(|x| !x.name.starts_with(b"user.")));
    let attr = |name: &[u8], value: &[u8]| Xattr { name: name.to_vec(), value: value.to_vec() };
    let wanted = [attr(b"user.a", b""), attr(b"user.b", &[0xff; 1_500]), attr(b"user.c", b"x\0y")];
    for xattr in wanted.iter().rev() {
        match set_xattr(&file, xattr) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => return,
            Err(error) => panic!("{error}"),
        }
    }
    let found = |file: &File| -> Vec<Xattr> {
        read_xattrs(file).unwrap().into_iter().filter(|x| x.name.starts_with(b"user.")).collect()
    };
    assert_eq!(found(&file), wanted);
    remove_xattr(&file, b"user.b").unwrap();
    remove_xattr(&file, b"user.b").unwrap();
    assert_eq!(found(&file).len(), 2);
    dir.create_dir(b"dir", 0o700).unwrap();
    let sub = dir.open_dir(b"dir").unwrap();
    set_xattr(&sub, &wanted[2]).unwrap();
    assert!(read_xattrs(&sub).unwrap().contains(&wanted[2]));
}

#[test]
fn data_ranges_cover_all_data() {
    const MIB: u64 = 1 << 20;
    let (_temp, dir) = scratch();
    let file = dir.create_file(b"sparse", 0o600).unwrap();
    file.set_len(16 * MIB).unwrap();
    assert!(data_ranges(&file, 0).unwrap().is_empty());
    file.write_all_at(b"head", 0).unwrap();
    file.write_all_at(b"middle", 8 * MIB).unwrap();
    let ranges = data_ranges(&file, 16 * MIB).unwrap();
    let holds = |at: u64| ranges.iter().any(|r| r.contains(&at));
    assert!(holds(0) && holds(3) && holds(8 * MIB) && holds(8 * MIB + 5), "{ranges:?}");
    assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
    assert!(ranges.iter().all(|r| r.start < r.end && r.end <= 16 * MIB));
    // What is not in a range reads as zeros.
    let mut at = 0;
    let mut buffer = vec![0; 16 << 20];
    for range in ranges.iter().cloned().chain(std::iter::once(16 * MIB..16 * MIB)) {
        let hole = usize::try_from(range.start - at).unwrap();
        file.read_exact_at(&mut buffer[..hole], at).unwrap();
        assert!(buffer[..hole].iter().all(|&b| b == 0));
        at = range.end;
    }
    // A size smaller than the file bounds the ranges.
    assert_eq!(data_ranges(&file, 2).unwrap(), std::iter::once(0..2).collect::<Vec<_>>());
}

#[test]
fn an_atomic_write_replaces_and_leaves_nothing_else() {
    let (temp, dir) = scratch();
    write_atomic(temp.path(), "config", b"one", 0o640).unwrap();
    assert_eq!(dir.stat_at(b"config").unwrap().mode, 0o640);
    let first = File::open(temp.path().join("config")).unwrap();
    write_atomic(temp.path(), "config", b"two, and longer", 0o600).unwrap();
    // Whoever has the old file open reads the old content whole.
    let mut old = String::new();
    (&first).read_to_string(&mut old).unwrap();
    assert_eq!(old, "one");
    assert_eq!(fs::read(temp.path().join("config")).unwrap(), b"two, and longer");
    assert_eq!(dir.stat_at(b"config").unwrap().mode, 0o600);
    assert_eq!(dir.list().unwrap(), [b"config".to_vec()]);
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
    let (temp, dir) = scratch();
    dir.create_dir(b"taken", 0o700).unwrap();
    write_atomic(temp.path(), "file", b"old", 0o600).unwrap();
    assert!(write_atomic(temp.path(), "taken", b"x", 0o600).is_err());
    assert!(write_atomic(temp.path(), "a/b", b"x", 0o600).is_err());
    assert!(write_atomic(temp.path(), "..", b"x", 0o600).is_err());
    assert_eq!(write_new(temp.path(), "file", b"new", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
    write_new(temp.path(), "fresh", b"new", 0o600).unwrap();
    // Dropped before it was complete.
    let mut unfinished = TempFile::new(temp.path()).unwrap();
    unfinished.file().write_all(b"half").unwrap();
    drop(unfinished);
    assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"old");
    let mut names = dir.list().unwrap();
    names.sort();
    assert_eq!(names, [b"file".to_vec(), b"fresh".to_vec(), b"taken".to_vec()]);
}

#[test]
fn an_atomic_write_onto_a_link_replaces_the_link() {
    let (temp, dir) = scratch();
    fs::write(temp.path().join("target"), b"kept").unwrap();
    symlink("target", temp.path().join("link")).unwrap();
    write_atomic(temp.path(), "link", b"new", 0o600).unwrap();
    assert_eq!(fs::read(temp.path().join("target")).unwrap(), b"kept");
    assert_eq!(dir.stat_at(b"link").unwrap().kind, FileKind::File);
}

#[test]
fn renaming_to_a_new_name_replaces_nothing() {
    let (_temp, dir) = scratch();
    for name in [b"a", b"b"] {
        dir.create_file(name, 0o600).unwrap();
    }
    assert_eq!(dir.rename_new_at(b"a", &dir, b"b").unwrap_err().kind(), ErrorKind::AlreadyExists);
    dir.rename_new_at(b"a", &dir, b"c").unwrap();
    assert!(dir.stat_at(b"a").is_err());
}

#[test]
fn private_directories_are_private() {
    let (temp, _dir) = scratch();
    let deep = temp.path().join("x/y");
    create_private_dir_all(&deep).unwrap();
    create_private_dir_all(&deep).unwrap();
    for made in [temp.path().join("x"), deep] {
        assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn parents_and_second_handles_are_the_same_directories() {
    let (_temp, dir) = scratch();
    dir.create_dir(b"sub", 0o700).unwrap();
    let sub = dir.open_dir(b"sub").unwrap();
    let identity = |d: &Dir| d.stat().unwrap().identity();
    assert_eq!(identity(&sub.open_parent().unwrap()), identity(&dir));
    assert_eq!(identity(&dir.open_path(&RepoPath::root()).unwrap()), identity(&dir));
    dir.sync().unwrap();
    dir.sync_file_system().unwrap();
}

#[test]
fn owner_names_tolerate_odd_files() {
    let passwd =
        b"root:x:0:0::/root:/bin/sh\n+nis:x:5:5\n\xff\xfe:x:6:6\nbroken\nalice:x:1000:1000:A:/h:/s\n\
        big:x:4294967295:0\nneg:x:-1:0\nalias:x:1000:1000\n:x:7:7";
    let names = OwnerNames::parse(passwd, b"wheel:x:0:\nstaff:x:50:alice,bob\n");
    assert_eq!(names.user(1000), Some("alice"));
    assert_eq!(names.group(50), Some("staff"));
    for uid in [5, 6, 7, u32::MAX] {
        assert_eq!(names.user(uid), None);
    }
    let owner = names.owner(1000, 99);
    assert_eq!((owner.user.as_str(), owner.group.as_str()), ("alice", ""));
    // By name first: elsewhere alice had another number.
    let foreign = Owner { uid: 501, gid: 20, user: "alice".into(), group: "nosuch".into() };
    assert_eq!(names.resolve(&foreign), (1000, 20));
    assert_eq!(OwnerNames::load().resolve(&Owner { uid: 3, gid: 4, ..Owner::default() }), (3, 4));
}

#[test]
fn the_machine_has_a_name_and_the_process_a_user() {
    assert!(!hostname().is_empty());
    assert!(!user_name().is_empty());
    assert!(raise_open_file_limit() > 0);
    assert_eq!(is_privileged(), effective_uid() == 0);
}

#[test]
fn stat_follows_only_the_path_of_the_user() {
    let (temp, dir) = scratch();
    dir.create_dir(b"real", 0o700).unwrap();
    symlink("real", temp.path().join("link")).unwrap();
    let real = dir.stat_at(b"real").unwrap().identity();
    assert_eq!(stat_path(&temp.path().join("link")).unwrap().identity(), real);
    assert_ne!(dir.stat_at(b"link").unwrap().identity(), real);
    assert!(stat_path(Path::new(std::ffi::OsStr::from_bytes(b"/nowhere/\xff"))).is_err());
}
