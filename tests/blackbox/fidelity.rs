//! What goes in comes out: names, content, metadata, links, holes; and a restore touches nothing else.

#![allow(clippy::cast_possible_truncation, reason = "test code")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::support::names;
use crate::tree::{
    Repo, assert_same, describe, is_root, mtime, noise, number, set_mtime, set_xattr, settle, sparse,
};

const ALL: u32 = 0o7777;
const NO_SET_ID: u32 = 0o1777;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn odd_names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        " leading and trailing ",
        "new\nline",
        "tab\there",
        "-dash",
        "--to",
        "quote'\"`$(x)",
        "back\\slash",
        "*?[glob]",
        "ünï-日本-🐚",
        "...",
        "~",
        "#hash!",
        "\u{1b}[31mred",
    ]
    .map(OsString::from)
    .to_vec();
    names.push(OsString::from_vec(b"not-utf8-\xff\xfe\x80".to_vec()));
    names.push(OsString::from_vec(b"\x01\x7f".to_vec()));
    names.push("n".repeat(255).into());
    names
}

fn sized(root: &Path) {
    let (k64, m1) = (64 << 10, 1 << 20);
    for size in [0, 1, 2, k64 - 1, k64, k64 + 1, m1 - 1, m1, m1 + 1, 5 * m1] {
        fs::write(root.join(format!("noise-{size}")), noise(size as u64, size)).unwrap();
        fs::write(root.join(format!("zero-{size}")), vec![0; size]).unwrap();
        let text: Vec<u8> = (0..size).map(|i| b"once upon a time\n"[i % 17]).collect();
        fs::write(root.join(format!("text-{size}")), text).unwrap();
    }
}

fn holes(root: &Path) {
    let m1 = 1 << 20;
    sparse(&root.join("all"), 3 * m1, &[]);
    sparse(&root.join("all-small"), 4096, &[]);
    sparse(&root.join("begin"), 3 * m1 + 5, &[(3 * m1, 5)]);
    sparse(&root.join("middle"), 4 * m1, &[(0, 70_000), (3 * m1, m1 as usize)]);
    sparse(&root.join("end"), 4 * m1 + 1, &[(0, 100_000)]);
    sparse(&root.join("many"), 16 * m1, &(0..80).map(|i| (i * 200_000, 100)).collect::<Vec<_>>());
    // Several slices in a file that would be one blob otherwise.
    sparse(&root.join("small-begin"), 12 << 10, &[(8 << 10, 4 << 10)]);
    sparse(&root.join("small-end"), 60 << 10, &[(0, 4 << 10)]);
    sparse(&root.join("small-middle"), 64 << 10, &[(0, 10), (60 << 10, 10)]);
}

/// A tree with everything that a snapshot can hold.
fn everything(root: &Path) -> Vec<PathBuf> {
    let dir = |name: &str| {
        fs::create_dir_all(root.join(name)).unwrap();
        root.join(name)
    };
    dir("empty");
    dir("a/b/c/empty");
    let deep = dir(&vec!["level-of-a-deep-tree-with-rather-long-names-in-it"; 60].join("/"));
    fs::write(deep.join("bottom"), b"deep").unwrap();
    let odd = dir("odd");
    for name in odd_names() {
        fs::write(odd.join(&name), name.as_bytes()).unwrap();
    }
    let odd_dir = odd.join(OsStr::from_bytes(b"dir\xff\n"));
    fs::create_dir(&odd_dir).unwrap();
    fs::write(odd_dir.join("in"), b"in").unwrap();
    // `/` sorts before every other byte: names around it.
    for name in ["order/x", "order.x", "order-x", "order0"] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), name).unwrap();
    }
    sized(&dir("sizes"));
    holes(&dir("holes"));

    let links = dir("links");
    symlink("nowhere/at all", links.join("dangling")).unwrap();
    symlink("/etc/hostname", links.join("absolute")).unwrap();
    symlink("loop-b", links.join("loop-a")).unwrap();
    symlink("loop-a", links.join("loop-b")).unwrap();
    symlink(".", links.join("self")).unwrap();
    symlink("..", links.join("up")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\n"), links.join("odd")).unwrap();
    symlink("t".repeat(3000), links.join("long")).unwrap();

    fs::write(dir("hard/a").join("one"), noise(1, 100_000)).unwrap();
    fs::hard_link(root.join("hard/a/one"), root.join("hard/two")).unwrap();
    fs::hard_link(root.join("hard/a/one"), root.join("zz-three")).unwrap();
    fs::write(root.join("hard/empty-one"), b"").unwrap();
    fs::hard_link(root.join("hard/empty-one"), root.join("hard/empty-two")).unwrap();
    fs::write(root.parent().unwrap().join("outside"), b"one name is elsewhere").unwrap();
    fs::hard_link(root.parent().unwrap().join("outside"), root.join("hard/alone")).unwrap();

    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());

    let modes = dir("modes");
    for mode in [0o4755, 0o2755, 0o6711, 0o1777, 0o400, 0o444, 0o777, 0o600] {
        fs::write(modes.join(format!("f{mode:o}")), format!("{mode}")).unwrap();
        chmod(&modes.join(format!("f{mode:o}")), mode);
    }
    if is_root() {
        fs::write(modes.join("f000"), b"none").unwrap();
        chmod(&modes.join("f000"), 0);
        fs::write(dir("modes/d000").join("x"), b"x").unwrap();
        chmod(&modes.join("d000"), 0);
    }
    fs::write(dir("modes/d500").join("x"), b"x").unwrap();
    for (name, mode) in [("d1777", 0o1777), ("d400", 0o400), ("d2755", 0o2755), ("d500", 0o500)] {
        chmod(&dir(&format!("modes/{name}")), mode);
    }
    let attributed = [modes.clone(), root.join("sizes/noise-1"), root.join("zz-three")];
    for (n, path) in attributed.iter().enumerate() {
        // Where there are none, none come back: equal all the same.
        if set_xattr(path, "user.exuvia-test", &noise(n as u64, 200)) {
            assert!(set_xattr(path, "user.empty", b""));
        }
    }
    times(root)
}

/// Gives everything a time of its own, from the deepest up; returns all paths.
fn times(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut queue = vec![root.to_path_buf()];
    while let Some(path) = queue.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            queue.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push(path);
    }
    let some = [
        (-1, 999_999_999),
        (0, 0),
        (1_700_000_000, 1),
        (1_700_000_000, 123_456_789),
        (-86_400 * 365 * 30, 500_000_000),
        (2_147_483_648, 7),
        (4_294_967_296, 999_999_999),
    ];
    for (path, time) in all.iter().rev().zip(some.iter().cycle()) {
        set_mtime(path, time.0, time.1);
    }
    all
}

#[test]
fn everything_comes_back() {
    let repo = Repo::new();
    let all = everything(&repo.path("s"));
    let want = describe(&repo.path("s"), ALL);
    let summary = repo.backup(&[]);
    let count = |kind: &str| want.values().filter(|node| node.kind == kind).count() as u64;
    assert_eq!(number(&summary, "files"), count("100000"));
    assert_eq!(number(&summary, "dirs"), count("40000"));
    assert_eq!(want.len() + 1, all.len(), "only the socket is left out");
    assert_same(&describe(&repo.path("s"), ALL), &want);

    // Exactly with set-id bits, without them otherwise.
    let restored = repo.restore(&["--to", "set-id", "--set-id"]);
    assert_eq!(number(&restored, "files_written"), count("100000"));
    assert_same(&describe(&repo.path("set-id"), ALL), &want);
    repo.restore(&["--to", "plain", "--verify"]);
    let masked = describe(&repo.path("s"), NO_SET_ID);
    assert_same(&describe(&repo.path("plain"), ALL), &masked);
    assert_ne!(masked, want);

    // What is there is not written again.
    for extra in [&[][..], &["--verify"]] {
        let again = repo.restore(&[&["--to", "plain"], extra].concat());
        assert_eq!(number(&again, "bytes_written"), 0);
        assert_eq!(number(&again, "files_written"), 0, "{again}");
        assert_same(&describe(&repo.path("plain"), ALL), &masked);
    }

    // A backup of what was restored reads nothing.
    settle(&repo.path("set-id"));
    let next = repo.backup(&["--state-dir", "set-id"]);
    assert_eq!((number(&next, "bytes_read"), number(&next, "bytes_added_raw") / (1 << 20)), (0, 0), "{next}");
    assert_eq!(number(&next, "files_unmodified"), count("100000"));
    repo.restore(&["--to", "third", "--set-id"]);
    assert_same(&describe(&repo.path("third"), ALL), &want);
    repo.check();
}

#[test]
fn listings_and_cat_agree_with_the_tree() {
    let repo = Repo::new();
    everything(&repo.path("s"));
    repo.backup(&[]);
    let json = |args: &[&str]| -> Vec<serde_json::Value> {
        serde_json::from_slice(&repo.run(&[&["--json", "ls"], args].concat()).exits(0).stdout).unwrap()
    };
    let exact = |row: &serde_json::Value| -> Vec<u8> {
        match row.get("path_base64").and_then(|exact| exact.as_str()) {
            Some(exact) => data_encoding::BASE64.decode(exact.as_bytes()).unwrap(),
            None => row["path"].as_str().unwrap().as_bytes().to_vec(),
        }
    };
    let want = describe(&repo.path("s"), ALL);
    let rows: BTreeMap<Vec<u8>, serde_json::Value> =
        json(&["-R", "latest"]).into_iter().map(|row| (exact(&row), row)).collect();
    let listed: Vec<_> = rows.keys().filter(|path| !path.is_empty()).collect();
    let there: Vec<_> = want.keys().filter(|path| !path.is_empty()).collect();
    assert_eq!(listed, there);
    for (path, row) in &rows {
        assert_eq!(row["size"].as_u64().unwrap(), want[path].size, "{row}");
        assert_eq!(row["mode"].as_u64().unwrap(), u64::from(want[path].mode), "{row}");
    }
    // Without -R: the names of one directory.
    let top = json(&["latest"]);
    let here = fs::read_dir(repo.path("s")).unwrap().count() - 1;
    assert_eq!(top.iter().filter(|row| !exact(row).is_empty()).count(), here);
    assert!(json(&["latest", "odd"]).len() > odd_names().len());
    assert_eq!(json(&["latest", "order.x"]).len(), 1);
    let plain = repo.run(&["ls", "-R", "latest"]).exits(0).stdout;
    for path in there.iter().filter(|path| !path.contains(&b'\n')) {
        assert!(plain.split(|&b| b == b'\n').any(|line| line == **path), "{}", path.escape_ascii());
    }

    for name in odd_names() {
        let path = Path::new("odd").join(&name);
        assert_eq!(repo.cat("latest", path.as_os_str()), name.as_bytes());
        repo.run(&[OsStr::new("ls"), OsStr::new("latest"), path.as_os_str()]).exits(0);
    }
    for path in
        ["sizes/noise-5242880", "sizes/text-65537", "sizes/zero-0", "holes/many", "holes/all", "zz-three"]
    {
        assert_eq!(repo.cat("latest", OsStr::new(path)), fs::read(repo.source(path)).unwrap(), "{path}");
    }
    repo.run(&["cat", "latest", "odd"]).exits(2);
    repo.run(&["cat", "latest", "no such"]).exits(2);
    repo.run(&["ls", "latest", "no such"]).exits(2);
}

#[test]
fn parts_can_be_restored() {
    let repo = Repo::new();
    for name in ["a/one", "a/two", "a/sub/deep/three", "a-b/four", "a/sub/other", "top"] {
        set_mtime(&repo.put(name, name.as_bytes()), 1_600_000_000, 5);
    }
    for dir in ["a/sub/deep", "a/sub", "a", "a-b", ""] {
        set_mtime(&repo.source(dir), 1_500_000_000, 6);
    }
    let source = describe(&repo.path("s"), ALL);
    repo.backup(&[]);
    let expect = |target: &str, wanted: &[&str]| {
        let mut got = describe(&repo.path(target), ALL);
        let mut want = source.clone();
        want.retain(|path, _| wanted.iter().any(|wanted| wanted.as_bytes() == path));
        // The target directory is the user's.
        got.remove(&b""[..]);
        assert_same(&got, &want);
    };
    repo.restore(&["--to", "t1", "--path", "a/sub/deep/three"]);
    expect("t1", &["a", "a/sub", "a/sub/deep", "a/sub/deep/three"]);
    repo.restore(&["--to", "t2", "--path", "a/sub"]);
    expect("t2", &["a", "a/sub", "a/sub/deep", "a/sub/deep/three", "a/sub/other"]);
    repo.restore(&[
        "--to",
        "t3",
        "--path",
        "top",
        "--path",
        "a/sub/deep",
        "--path",
        "a/one",
        "--path",
        "a/sub/deep/three",
    ]);
    expect("t3", &["a", "a/sub", "a/sub/deep", "a/sub/deep/three", "a/one", "top"]);
    repo.restore(&["--to", "t4", "--path", "a-b"]);
    expect("t4", &["a-b", "a-b/four"]);
    let missing = repo.run(&["restore", "--to", "t5", "--path", "a/four"]).exits(2);
    assert!(missing.stderr.contains("a/four"), "{}", missing.stderr);

    // What is beside the part stays.
    fs::write(repo.path("t2/a/mine"), b"mine").unwrap();
    fs::write(repo.path("t2/a/sub/other"), b"changed").unwrap();
    repo.restore(&["--to", "t2", "--path", "a/sub/deep"]);
    assert_eq!(fs::read(repo.path("t2/a/mine")).unwrap(), b"mine");
    assert_eq!(fs::read(repo.path("t2/a/sub/other")).unwrap(), b"changed");
}

#[test]
fn a_dry_run_writes_nothing() {
    let repo = Repo::new();
    repo.put("a/b", b"1234");
    repo.put("c", b"12");
    repo.backup(&[]);
    let dry = repo.restore(&["--to", "t", "--dry-run"]);
    assert_eq!((number(&dry, "files_written"), number(&dry, "bytes_written")), (2, 6));
    assert!(!repo.path("t").exists());

    fs::create_dir(repo.path("t")).unwrap();
    fs::write(repo.path("t/a"), b"a file where a directory belongs").unwrap();
    let before = describe(&repo.path("t"), ALL);
    repo.restore(&["--to", "t", "--dry-run"]);
    assert_same(&describe(&repo.path("t"), ALL), &before);
    repo.restore(&["--dry-run"]);
    assert!(!repo.path(".exuvia-restore").exists());
}

#[test]
fn only_what_differs_is_written() {
    let repo = Repo::new();
    for n in 0..20 {
        repo.put(&format!("d{}/f{n}", n % 3), &noise(n, 1000 + 5000 * n as usize));
    }
    repo.backup(&[]);
    repo.restore(&["--to", "t"]);
    let at = |name: &str| repo.path("t").join(name);
    let inodes = |target: &str| -> BTreeMap<String, u64> {
        (0..20)
            .map(|n| format!("d{}/f{n}", n % 3))
            .map(|name| (name.clone(), fs::metadata(repo.path(target).join(name)).unwrap().ino()))
            .collect()
    };
    let before = inodes("t");
    // Content, size, gone, time only, mode only, and something more.
    fs::write(at("d0/f3"), noise(99, 16_000)).unwrap();
    fs::write(at("d1/f4"), b"short").unwrap();
    fs::remove_file(at("d2/f5")).unwrap();
    set_mtime(&at("d0/f6"), 1, 1);
    chmod(&at("d1/f7"), 0o777);
    fs::write(at("d1/extra"), b"extra").unwrap();
    let summary = repo.restore(&["--to", "t"]);
    assert_eq!(number(&summary, "files_written"), 3, "{summary}");
    assert_eq!(fs::read(at("d1/extra")).unwrap(), b"extra");
    fs::remove_file(at("d1/extra")).unwrap();
    let (source, _) = (mtime(&repo.source("d1")), ());
    set_mtime(&at("d1"), source.0, source.1);
    assert_same(&describe(&repo.path("t"), ALL), &describe(&repo.path("s"), ALL));
    let after = inodes("t");
    for (name, inode) in &before {
        let written = ["d0/f3", "d1/f4", "d2/f5"].contains(&name.as_str());
        assert!(written || after[name] == *inode, "{name}");
    }

    // Same size and time, other bytes: only --verify looks.
    let time = mtime(&at("d0/f9"));
    fs::write(at("d0/f9"), noise(98, 46_000)).unwrap();
    set_mtime(&at("d0/f9"), time.0, time.1);
    assert_eq!(number(&repo.restore(&["--to", "t"]), "files_written"), 0);
    assert_eq!(number(&repo.restore(&["--to", "t", "--verify"]), "files_written"), 1);
    assert_same(&describe(&repo.path("t"), ALL), &describe(&repo.path("s"), ALL));
}

#[test]
fn things_of_another_type_in_the_way() {
    let repo = Repo::new();
    repo.put("dir/file", b"file");
    repo.put("file", b"content");
    repo.put("other", b"other");
    symlink("target", repo.source("link")).unwrap();
    let want = describe(&repo.path("s"), ALL);
    repo.backup(&[]);

    // Files, links where a directory belongs; a file, a link and a fifo where files and links do.
    let target = repo.path("t");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("dir"), b"in the way").unwrap();
    symlink("elsewhere", target.join("file")).unwrap();
    fs::write(target.join("link"), b"in the way").unwrap();
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        target.join("other"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    );
    made.unwrap();
    repo.restore(&["--to", "t"]);
    assert_same(&describe(&target, ALL), &want);
    assert!(!target.join("elsewhere").exists() && !repo.path("elsewhere").exists());

    // Directories are not removed: what is in them might be dear to somebody.
    let target = repo.path("u");
    for name in ["file/precious", "link/precious"] {
        fs::create_dir_all(target.join(name).parent().unwrap()).unwrap();
        fs::write(target.join(name), b"precious").unwrap();
    }
    let run = repo.run(&["restore", "--to", "u"]).exits(1);
    assert!(run.stderr.contains("file") && run.stderr.contains("link"), "{}", run.stderr);
    assert_eq!(fs::read(target.join("file/precious")).unwrap(), b"precious");
    assert_eq!(fs::read(target.join("link/precious")).unwrap(), b"precious");
    assert_eq!(fs::read(target.join("dir/file")).unwrap(), b"file");
    assert_eq!(fs::read(target.join("other")).unwrap(), b"other");
}

#[test]
fn links_in_the_target_are_not_followed() {
    let repo = Repo::new();
    repo.put("dir/sub/file", b"new");
    repo.put("dir/file", b"new");
    repo.put("file", b"new");
    repo.backup(&[]);
    let outside = repo.path("outside");
    let target = repo.path("t");
    for (parts, way) in [(&[][..], "all"), (&["--path", "dir/sub"], "a part")] {
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("file"), b"old").unwrap();
        fs::write(outside.join("sub/file"), b"old").unwrap();
        let before = describe(&outside, ALL);
        fs::create_dir(&target).unwrap();
        symlink(&outside, target.join("dir")).unwrap();
        symlink(outside.join("file"), target.join("file")).unwrap();
        repo.restore(&[&["--to", "t"], parts].concat());
        assert_same(&describe(&outside, ALL), &before);
        assert!(fs::symlink_metadata(target.join("dir")).unwrap().is_dir(), "{way}");
        assert_eq!(fs::read(target.join("dir/sub/file")).unwrap(), b"new");
        fs::remove_dir_all(&target).unwrap();
    }

    // A link deeper down, and a dangling one where a new file goes.
    fs::create_dir_all(target.join("dir")).unwrap();
    symlink(&outside, target.join("dir/sub")).unwrap();
    symlink(outside.join("made"), target.join("file")).unwrap();
    let before = describe(&outside, ALL);
    repo.restore(&["--to", "t"]);
    assert_same(&describe(&outside, ALL), &before);
    assert_same(&describe(&target, ALL), &describe(&repo.path("s"), ALL));
}

#[test]
fn files_with_several_names() {
    let repo = Repo::new();
    let big = noise(5, 300_000);
    repo.put("a-hidden/a", &big);
    fs::hard_link(repo.source("a-hidden/a"), repo.source("b")).unwrap();
    fs::hard_link(repo.source("a-hidden/a"), repo.source("c")).unwrap();
    let content = |target: &str, want: &[u8]| {
        for name in ["a-hidden/a", "b", "c"] {
            let path = repo.path(target).join(name);
            assert!(!path.exists() || fs::read(path).unwrap() == want, "{target}/{name}");
        }
    };
    let inode = |target: &str, name: &str| fs::metadata(repo.path(target).join(name)).unwrap().ino();

    // One of the names is left out at first, while the file grows.
    repo.backup(&["--exclude", "a-hidden"]);
    let mut grown = big.clone();
    grown.extend_from_slice(&noise(6, 5000));
    fs::write(repo.source("b"), &grown).unwrap();
    repo.backup(&["--exclude", "a-hidden"]);
    repo.restore(&["--to", "t1"]);
    content("t1", &grown);
    assert_eq!(inode("t1", "b"), inode("t1", "c"));
    // A name that was not in the snapshot before, of a file that has not changed.
    settle(&repo.path("s"));
    repo.backup(&[]);
    repo.restore(&["--to", "t2"]);
    content("t2", &grown);
    assert_same(&describe(&repo.path("t2"), ALL), &describe(&repo.path("s"), ALL));

    // One name goes its own way.
    fs::remove_file(repo.source("c")).unwrap();
    repo.put("c", b"on its own");
    repo.backup(&[]);
    repo.restore(&["--to", "t2"]);
    assert_same(&describe(&repo.path("t2"), ALL), &describe(&repo.path("s"), ALL));
    assert_ne!(inode("t2", "b"), inode("t2", "c"));
    // And back again.
    repo.restore(&["latest~1", "--to", "t2"]);
    assert_eq!(inode("t2", "b"), inode("t2", "c"));
    content("t2", &grown);
    // Only one name is asked for.
    repo.restore(&["latest~1", "--to", "t3", "--path", "c"]);
    content("t3", &grown);
    assert_eq!(names(&repo.path("t3")), ["c"]);
    repo.check();
}

#[test]
fn a_restored_directory_needs_no_reading() {
    let repo = Repo::new();
    repo.put("f", &noise(1, 200_000));
    repo.put("g", b"small");
    // Its other name is not in the snapshot.
    fs::hard_link(repo.source("f"), repo.path("elsewhere")).unwrap();
    repo.backup(&[]);
    repo.restore(&["--to", "t"]);
    settle(&repo.path("t"));
    let summary = repo.backup(&["--state-dir", "t"]);
    assert_eq!(number(&summary, "bytes_read"), 0, "{summary}");
    // A change is seen all the same.
    fs::write(repo.path("t/g"), b"SMALL").unwrap();
    let summary = repo.backup(&["--state-dir", "t"]);
    assert_eq!((number(&summary, "bytes_read"), number(&summary, "files_changed")), (5, 1));
    assert_eq!(repo.cat("latest", OsStr::new("g")), b"SMALL");
}
