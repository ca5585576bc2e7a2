//! Writer keys and new master keys, on two machines: homes of their own, one repository.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::Digest;

use crate::support::{
    PASSPHRASE, Place, Run, database, files, insert, noise, picture, prose, put, same, with_repository,
};

const WRITER: &str = "put only";

/// An owner's machine with a repository.
struct Owner(Place);

impl Owner {
    fn new() -> Self {
        Self(with_repository())
    }

    fn repository(&self) -> PathBuf {
        self.0.path("repo")
    }

    /// Another machine that opens the repository with this passphrase.
    fn machine(&self, passphrase: &str) -> Place {
        let mut place = Place::new();
        place.set("EXUVIA_PASSPHRASE", passphrase).set("EXUVIA_REPO", self.repository().to_str().unwrap());
        place
    }

    fn key_add(&self, passphrase: &str, more: &[&str]) -> Run {
        let file = self.0.write("new", passphrase);
        let args =
            ["--json", "key", "add", "--kdf-log-n", "15", "--new-passphrase-file", file.to_str().unwrap()];
        self.0.run(&[&args[..], more].concat())
    }

    /// A machine with a writer key.
    fn writer(&self) -> Place {
        let added = self.key_add(WRITER, &["--write-only", "--label", "vps"]).exits(0).summary();
        assert!(added["writer_key"].is_string(), "{added}");
        self.machine(WRITER)
    }

    /// Fails the test unless a snapshot, whoever made it, comes back as the directory that it is of.
    #[track_caller]
    fn gets_back(&self, backup: &Value, dir: &Path) {
        let id = backup["snapshot"].as_str().unwrap();
        same(&self.0.restored(id), &picture(dir), id);
    }
}

/// A tree with what is stored in different ways: small files, one that grows, one in many pieces, a database.
fn tree(place: &Place) -> PathBuf {
    let dir = place.path("state");
    for n in 0..20 {
        put(&dir, &format!("notes/{n}.md"), &prose(n, 2_000));
    }
    put(&dir, "log.jsonl", &prose(100, 50_000));
    put(&dir, "large", &noise(1, 3 << 20));
    drop(database(&dir.join("agent.sqlite"), 300, 4096));
    dir
}

fn int(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn a_writer_backs_up_and_an_owner_restores() {
    let owner = Owner::new();
    let writer = owner.writer();
    let dir = tree(&writer);
    let first = writer.backup("state");
    assert_eq!((&first["complete"], &first["parent"]), (&true.into(), &Value::Null));
    owner.gets_back(&first, &dir);

    // The next one reads what changed and no more, though nothing that is stored can be read.
    put(&dir, "log.jsonl", &[prose(100, 50_000), prose(101, 500)].concat());
    insert(&rusqlite::Connection::open(dir.join("agent.sqlite")).unwrap(), 5);
    let second = writer.backup("state");
    assert_eq!(
        (&second["parent"], &second["files_unmodified"]),
        (&first["snapshot"], &21.into()),
        "{second}"
    );
    assert!(int(&second, "bytes_added_stored") < 60_000, "{second}");
    owner.gets_back(&second, &dir);

    let idle = writer.backup("state");
    assert_eq!((&idle["unchanged"], &idle["files_unmodified"]), (&true.into(), &23.into()), "{idle}");
    assert_eq!(idle["remote_requests"]["get"], 0, "{idle}");
    owner.gets_back(&idle, &dir);
    owner.0.is_sound();

    // Owners see by whom it was made, and which key that is.
    let listed = owner.0.run(&["--json", "key", "list"]).exits(0).summary();
    let key = listed.as_array().unwrap().iter().find(|key| key["label"] == "vps").unwrap().clone();
    owner.0.backup("new");
    let rows = owner.0.run(&["--json", "snapshots"]).exits(0).summary();
    let by: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["writer_key"].is_string()).collect();
    assert_eq!(by.iter().filter(|by| **by).count(), 3, "{rows}");
    let by_key = rows.as_array().unwrap().iter().filter(|row| row["writer_key"] == key["writer_key"]);
    assert!(key["writer_key"].is_string() && by_key.count() == 3, "{key} {rows}");
    assert_eq!(by.len(), 4);
    assert!(owner.0.run(&["snapshots"]).exits(0).text().contains("by writer key "));
}

#[test]
fn a_writer_reads_nothing_and_changes_nothing() {
    let owner = Owner::new();
    let writer = owner.writer();
    tree(&writer);
    let id = writer.backup("state")["snapshot"].as_str().unwrap().to_owned();
    let before = (files(&owner.repository()), picture(&writer.path("state")));
    let state = writer.path("state").to_str().unwrap().to_owned();
    let refused: &[&[&str]] = &[
        &["restore", "latest", "--to", "out"],
        &["restore", &id, "--to", "out"],
        &["ls", &id],
        &["ls", "latest"],
        &["cat", &id, "notes/1.md"],
        &["find", "*.md"],
        &["diff", &id],
        &["rollback", &id, "--yes"],
        &["rollback", "--dry-run"],
        &["drill"],
        &["stats"],
        &["forget", "--safety", &id, "--yes"],
        &["forget", &id, "--yes"],
        &["forget", "--keep-last", "1", "--yes"],
        &["forget", "--missing", "--yes"],
        &["prune"],
        &["repair", "index", "--yes"],
        &["repair", "packs", "--yes"],
        &["repair", "snapshots", "--yes"],
        &["key", "recovery"],
        &["key", "remove", "0", "--yes"],
        &["snapshots", "--accept", &id],
        &["check", "--read-data"],
        &["key", "list"],
        &["key", "add", "--write-only"],
        &["key", "add"],
        &["key", "change"],
        &["key", "rotate", "--yes"],
    ];
    for args in refused {
        let mut command = writer.command(&[&["--json", "--state-dir", &state], *args].concat());
        let run: Run = command.env("EXUVIA_NEW_PASSPHRASE", "another").output().unwrap().into();
        let run = run.exits(12);
        let error = run.error();
        assert_eq!(error["class"], "writer-key", "{args:?}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains("it can add snapshots, and read none"),
            "{error}"
        );
        assert!(error["hint"].as_str().unwrap().contains("owner key"), "{error}");
        assert_eq!(run.stdout, b"", "{args:?}");
    }
    assert_eq!((files(&owner.repository()), picture(&writer.path("state"))), before);
    assert!(!writer.path("out").exists());

    // Names and the index can be checked, and what cannot be is told.
    let check = writer.run(&["--json", "check"]).exits(0).summary();
    let told = |note: &Value| note.as_str().unwrap().contains("a writer key cannot read them");
    assert!(check["notes"].as_array().unwrap().iter().any(told), "{check}");
    assert_eq!((&check["packs"], &check["snapshots"]), (&1.into(), &0.into()), "{check}");
    let pack = before.0.keys().find(|path| path.to_str().unwrap().contains("/packs/")).unwrap();
    fs::rename(pack, writer.path("pack")).unwrap();
    writer.run(&["--json", "check"]).exits(13);
    fs::rename(writer.path("pack"), pack).unwrap();

    // What names tell is all that it sees.
    let rows = writer.run(&["--json", "snapshots"]).exits(0).summary();
    assert_eq!((&rows[0]["id"], &rows[0]["sealed"]), (&id.as_str().into(), &true.into()));
    for field in ["host", "paths", "files", "bytes", "tags"] {
        assert_eq!(rows[0][field], Value::Null, "{field}");
    }
    assert!(writer.run(&["snapshots"]).exits(0).text().contains("sealed"));
    let status = writer.run(&["--json", "--state-dir", &state, "status"]).exits(0).summary();
    assert_eq!(
        (&status["newest"]["id"], &status["healthy"]),
        (&id.as_str().into(), &true.into()),
        "{status}"
    );
}

#[test]
fn owner_and_writer_store_the_same_bytes_once() {
    let owner = Owner::new();
    let writer = owner.writer();
    let theirs = tree(&owner.0);
    let stored = int(&owner.0.backup("state"), "bytes_added_stored");
    let dir = tree(&writer);
    let again = writer.backup("state");
    assert!(int(&again, "bytes_added_stored") < stored / 50, "{again}");
    owner.gets_back(&again, &dir);

    put(&dir, "more", &noise(2, 2 << 20));
    put(&theirs, "other/more", &noise(2, 2 << 20));
    assert!(int(&writer.backup("state"), "bytes_added_stored") > 2 << 20);
    let back = owner.0.backup("state");
    assert!(int(&back, "bytes_added_stored") < 100_000, "{back}");
    owner.gets_back(&back, &theirs);
    owner.0.is_sound();
}

#[test]
fn a_writer_without_its_cache_reads_everything_and_stores_nothing_twice() {
    let owner = Owner::new();
    let writer = owner.writer();
    let dir = tree(&writer);
    let first = writer.backup("state");
    fs::remove_dir_all(writer.path("home/.cache/exuvia")).unwrap();
    let again = writer.backup("state");
    assert_eq!((&again["parent"], &again["complete"]), (&Value::Null, &true.into()));
    assert_eq!(int(&again, "files_new"), int(&first, "files"));
    assert!(int(&again, "bytes_added_stored") < 20_000, "{again}");
    owner.gets_back(&again, &dir);
    // What it knows again is enough to go on from.
    put(&dir, "notes/new.md", b"new");
    let next = writer.backup("state");
    assert_eq!((&next["parent"], &next["files_new"]), (&again["snapshot"], &1.into()));
    owner.gets_back(&next, &dir);
    owner.0.is_sound();
}

/// The generation that an object in a folder is sealed under, by its header.
fn generation(repository: &Path, folder: &str, id: &str) -> u8 {
    let found = files(repository)
        .into_keys()
        .find(|path| path.starts_with(repository.join(folder)) && path.to_str().unwrap().ends_with(id));
    fs::read(found.unwrap()).unwrap()[7]
}

#[test]
fn after_a_rotation_old_and_new_snapshots_restore_and_nothing_is_stored_twice() {
    let owner = Owner::new();
    let writer = owner.writer();
    owner.key_add("second", &["--label", "second"]).exits(0);
    let (second, same_passphrase) = (owner.machine("second"), owner.machine(PASSPHRASE));
    let (ours, theirs) = (tree(&owner.0), tree(&writer));
    let old = [(owner.0.backup("state"), picture(&ours)), (writer.backup("state"), picture(&theirs))];
    let old_ones_come_back = || {
        for (backup, wanted) in &old {
            same(&owner.0.restored(backup["snapshot"].as_str().unwrap()), wanted, "from before the rotation");
        }
    };
    put(&same_passphrase.path("state"), "a", b"before");
    same_passphrase.backup("state");
    put(&second.path("state"), "a", b"before");
    second.backup("state");

    owner.0.run(&["key", "rotate"]).exits(2);
    assert_eq!(files(&owner.repository().join("keys")).len(), 3, "nobody said yes");
    let rotated = owner.0.run(&["--json", "key", "rotate", "--yes"]).exits(0).summary();
    assert_eq!((&rotated["generation"], rotated["removed"].as_array().unwrap().len()), (&1.into(), 3));
    assert_eq!(files(&owner.repository().join("keys")).len(), 1);

    put(&ours, "new", &prose(7, 10_000));
    let new = owner.0.backup("state");
    assert!(int(&new, "bytes_added_stored") < 20_000, "{new}");
    let id = new["snapshot"].as_str().unwrap();
    assert_eq!(generation(&owner.repository(), "snapshots", id), 1);
    owner.gets_back(&new, &ours);
    old_ones_come_back();

    // Who had the old key in his cache meets the new one.
    for (machine, what) in [(&writer, "writer"), (&second, "another passphrase")] {
        let run = machine.run(&["--json", "backup", "state"]).exits(12);
        assert_eq!(run.error()["class"], "wrong-key", "{what}");
        machine.run(&["--json", "backup", "state"]).exits(12);
        machine.run(&["--json", "snapshots"]).exits(12);
    }
    put(&same_passphrase.path("state"), "b", b"after");
    let went_on = same_passphrase.backup("state");
    assert_eq!(generation(&owner.repository(), "snapshots", went_on["snapshot"].as_str().unwrap()), 1);
    owner.gets_back(&went_on, &same_passphrase.path("state"));

    // A new writer key deduplicates against what was there before.
    owner.key_add("put only again", &["--write-only"]).exits(0);
    let again = owner.machine("put only again");
    let dir = tree(&again);
    let deduplicated = again.backup("state");
    assert!(int(&deduplicated, "bytes_added_stored") < 20_000, "{deduplicated}");
    owner.gets_back(&deduplicated, &dir);
    assert_eq!(owner.0.run(&["--json", "key", "rotate", "--yes"]).exits(0).summary()["generation"], 2);
    owner.gets_back(&deduplicated, &dir);
    old_ones_come_back();
    owner.0.is_sound();
}

/// Who removed a key object could put it back to make a machine seal under the key that was given up.
#[test]
fn a_key_that_was_given_up_is_not_taken_again() {
    let owner = Owner::new();
    owner.key_add("second", &[]).exits(0);
    put(&owner.0.path("state"), "a", b"1");
    owner.0.backup("state");
    let keys = owner.repository().join("keys");
    let old: Vec<_> = files(&keys).into_keys().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let put_back = || old.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    owner.0.run(&["key", "rotate", "--yes"]).exits(0);
    let (new, _) = files(&keys).pop_first().unwrap();
    let forget = || {
        fs::remove_dir_all(owner.0.path("home/.cache/exuvia/locations")).unwrap();
        let all = files(&owner.0.path("home/.cache/exuvia")).into_keys();
        all.filter(|path| path.ends_with("key")).for_each(|path| fs::remove_file(path).unwrap());
    };

    // Beside the new one it does no harm.
    put_back();
    forget();
    put(&owner.0.path("state"), "a", b"2");
    let id = owner.0.backup("state")["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(generation(&owner.repository(), "snapshots", &id), 1);
    // A machine that has seen nothing else notices when it meets what is new, and begins no other generation 1.
    let second = owner.machine("second");
    put(&second.path("state"), "a", b"3");
    for command in [&["backup", "state"][..], &["key", "rotate", "--yes"]] {
        let run = second.run(&[&["--json"], command].concat()).exits(12);
        assert_eq!(run.error()["class"], "wrong-key", "{command:?}");
    }

    let kept = owner.0.path("kept");
    fs::rename(&new, &kept).unwrap();
    forget();
    for command in [&["backup", "state"][..], &["snapshots"], &["key", "list"]] {
        let run = owner.0.run(&[&["--json"], command].concat()).exits(12);
        assert!(run.error()["message"].as_str().unwrap().contains("given up"), "{}", run.stderr);
    }
    fs::rename(&kept, &new).unwrap();
    let id = owner.0.backup("state")["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(generation(&owner.repository(), "snapshots", &id), 1);
    owner.0.is_sound();
}

/// The generation of an object stands in the open: anybody who can store objects can write any there.
#[test]
fn a_false_generation_is_damage_that_can_be_repaired() {
    let owner = Owner::new();
    put(&owner.0.path("state"), "a", b"1");
    owner.0.backup("state");
    let mut planted = b"EXUV\x01\x04\x01\xff".to_vec();
    planted.resize(80, 7);
    let id = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(&planted));
    let name = format!("gc/2026-02-19T00-00-00Z-{id}");
    put(&owner.repository(), &name, &planted);
    let check = owner.0.run(&["--json", "check"]).exits(13).summary();
    let told = |problem: &Value| problem["object"].as_str() == Some(name.as_str());
    assert!(check["problems"].as_array().unwrap().iter().any(told), "{check}");
    let run = owner.0.run(&["--json", "backup", "state"]).exits(13);
    assert!(run.error()["message"].as_str().unwrap().contains(&name), "{}", run.stderr);
    owner.0.run(&["repair", "index", "--delete-damaged", "--yes"]).exits(0);
    owner.0.backup("state");
    owner.0.is_sound();
}

/// It cannot read what owners say to have removed, so it keeps no account of what is gone once there is any of that.
#[test]
fn a_writer_neither_misses_nor_remembers_what_owners_forget() {
    let owner = Owner::new();
    let writer = owner.writer();
    put(&writer.path("state"), "a", b"first");
    let first = writer.backup("state")["snapshot"].as_str().unwrap().to_owned();
    writer.backup("state");
    owner.0.run(&["forget", "--yes", &first]).exits(0);
    let run = writer.run(&["--json", "backup", "state"]).exits(0);
    assert_eq!(run.summary()["vanished"], serde_json::json!([]), "{}", run.stderr);
    let history = files(&writer.path("home/.cache/exuvia"))
        .into_keys()
        .find(|path| path.ends_with("history"))
        .map(|path| fs::read_to_string(path).unwrap())
        .unwrap();
    assert!(!history.contains(&first), "{history}");
    assert_eq!(history.lines().filter(|line| line.starts_with("seen ")).count(), 2);
}

/// As long as owners have forgotten nothing, what is gone is told of.
#[test]
fn a_writer_tells_of_what_vanished_while_nobody_has_forgotten_anything() {
    let owner = Owner::new();
    let writer = owner.writer();
    put(&writer.path("state"), "a", b"first");
    writer.backup("state");
    writer.backup("state");
    let oldest = files(&owner.repository().join("snapshots")).into_keys().next().unwrap();
    fs::remove_file(oldest).unwrap();
    let run = writer.run(&["--json", "backup", "state"]).exits(0);
    assert_eq!(run.summary()["vanished"].as_array().map(Vec::len), Some(1), "{}", run.text());
}
