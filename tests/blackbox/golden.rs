//! Repositories that released programs made: whatever is in `tests/golden/` can be read for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;
use sha2::Digest;

use crate::support::{Place, files, names};

/// Formats that were released or are about to be. A folder for each of them is there, and no other.
const VERSIONS: [&str; 2] = ["v1", "v1-keys"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A copy to work with, and what it must hold.
fn opened(version: &str) -> (Place, Value) {
    let folder = golden().join(version);
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let mut place = Place::new();
    let repo = folder.join("repo");
    for (path, _) in files(&repo) {
        let to = place.path("repo").join(path.strip_prefix(&repo).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&path, to).unwrap();
    }
    place.set("EXUVIA_PASSPHRASE", expected["passphrase"].as_str().unwrap()).set("EXUVIA_REPO", "repo");
    (place, expected)
}

fn base64(text: &str) -> Vec<u8> {
    data_encoding::BASE64.decode(text.as_bytes()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}

fn rows(path: &Path) -> String {
    let database = Connection::open(path).unwrap();
    let mut query = database.prepare("select id, body from notes order by id").unwrap();
    let line =
        |row: &rusqlite::Row<'_>| Ok(format!("{} {}\n", row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let lines: Result<String, _> = query.query_map([], line).unwrap().collect();
    sha256(lines.unwrap().as_bytes())
}

/// Compares one path with what is written of it.
fn compare(path: &Path, entry: &Value) {
    let what = path.display();
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{what}: {e}"));
    let kind = meta.file_type();
    let found = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () => "file",
    };
    assert_eq!(found, text(&entry["type"]), "{what}");
    if found == "symlink" {
        assert_eq!(fs::read_link(path).unwrap().to_str(), entry["target"].as_str(), "{what}");
        return;
    }
    assert_eq!(Value::from(meta.mode() & 0o7777), entry["mode"], "{what}: mode");
    let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    assert_eq!(mtime.to_string(), text(&entry["mtime"]), "{what}: mtime");
    if found != "file" {
        return;
    }
    assert_eq!(sha256(&fs::read(path).unwrap()), text(&entry["sha256"]), "{what}: content");
    for (name, value) in entry["xattrs"].as_object().unwrap() {
        let found = exuvia::fs::read_xattrs(fs::File::open(path).unwrap()).unwrap();
        let found = found.into_iter().find(|attribute| attribute.name == name.as_bytes());
        assert_eq!(found.map(|attribute| attribute.value), Some(base64(text(value))), "{what}: {name}");
    }
}

/// Compares all of a restored directory.
fn same(root: &Path, entries: &Value) {
    let entries = entries.as_object().unwrap();
    let (mut wanted, mut links) = (BTreeSet::new(), BTreeMap::<u64, BTreeSet<u64>>::new());
    for (name, entry) in entries {
        let name = base64(name);
        let path = if name.is_empty() { root.to_path_buf() } else { root.join(OsStr::from_bytes(&name)) };
        compare(&path, entry);
        if let Some(group) = entry.get("links") {
            links.entry(group.as_u64().unwrap()).or_default().insert(fs::metadata(&path).unwrap().ino());
        }
        wanted.insert(path);
    }
    assert!(links.values().all(|inodes| inodes.len() == 1), "hard links: {links:?}");
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            assert!(wanted.contains(&entry.path()), "{} is too much", entry.path().display());
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    // Last: looking into a database may make files beside it.
    for (name, entry) in entries.iter().filter(|(_, entry)| entry.get("rows").is_some()) {
        let path = root.join(OsStr::from_bytes(&base64(name)));
        assert_eq!(rows(&path), text(&entry["rows"]), "{}", path.display());
    }
}

#[test]
fn no_version_is_ever_dropped() {
    let there = names(&golden()).into_iter().filter(|name| golden().join(name).is_dir());
    assert_eq!(there.collect::<Vec<_>>(), VERSIONS);
}

#[test]
fn every_snapshot_of_every_version_restores() {
    for version in names(&golden()).into_iter().filter(|name| golden().join(name).is_dir()) {
        let (place, expected) = opened(&version);
        let snapshots = expected["snapshots"].as_array().unwrap();
        assert!(!snapshots.is_empty());
        for snapshot in snapshots {
            place.run(&["restore", text(&snapshot["id"]), "--to", "restored"]).exits(0);
            same(&place.path("restored"), &snapshot["entries"]);
            fs::remove_dir_all(place.path("restored")).unwrap();
        }
    }
}

#[test]
fn every_version_is_sound_and_can_be_added_to() {
    for version in VERSIONS {
        let (place, expected) = opened(version);
        place.is_sound();
        let listed = place.run(&["--json", "snapshots"]).exits(0).summary();
        let listed: BTreeSet<_> =
            listed.as_array().unwrap().iter().map(|row| text(&row["id"])).map(str::to_owned).collect();
        for snapshot in
            expected["snapshots"].as_array().unwrap().iter().filter(|s| text(&s["name"]) != "safety")
        {
            assert!(listed.contains(text(&snapshot["id"])), "{}", snapshot["name"]);
        }
        place.write("state/new.md", "written long after");
        place.backup("state");
        place.is_sound();
        // What was stored before is still there after.
        let first = &expected["snapshots"][0];
        place.run(&["restore", text(&first["id"]), "--to", "restored"]).exits(0);
        same(&place.path("restored"), &first["entries"]);
    }
}
