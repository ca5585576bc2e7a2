//! `auto-restore`: when it acts and when it does not, and what is left when it is stopped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{
    Numbers, Picture, Place, Run, database, ended, files, names, noise, picture, prose, put, same, until,
    with_repository,
};

const FOLDER: &str = ".exuvia-auto-restore";
/// Where the state dir of the snapshots was, and where others are.
const OLD: &str = "home/.openclaw";

/// A place with a snapshot of a state dir; its picture.
fn backed_up(weight: usize) -> (Place, Picture) {
    let place = with_repository();
    let state = place.path(OLD);
    let db = database(&state.join("memory/main.sqlite"), 300, 4096);
    put(&state, "openclaw.json", b"{ channels: { telegram: {} } }");
    for i in 0..30 {
        put(&state, &format!("workspace/{}/{i}.md", i % 4), &prose(i, 3000));
    }
    put(&state, "media/noise", &noise(1, weight));
    std::os::unix::fs::symlink("workspace/1", state.join("link")).unwrap();
    fs::set_permissions(state.join("media"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o750)).unwrap();
    place.backup(OLD);
    let picture = picture(&state);
    drop(db);
    (place, picture)
}

/// Looks at a state dir without what is ours.
fn seen(dir: &Path) -> Picture {
    let mut found = picture(dir);
    found.retain(|path, _| !path.starts_with(FOLDER));
    found
}

/// Runs `auto-restore` on a directory, with `--json`.
fn auto(place: &Place, dir: &str) -> Run {
    place.run(&["--json", "--state-dir", dir, "auto-restore"])
}

#[track_caller]
fn restores(place: &Place, dir: &str, reason: &str, wanted: &Picture) -> Value {
    let summary = auto(place, dir).exits(0).summary();
    assert_eq!((&summary["restored"], &summary["reason"]), (&true.into(), &reason.into()), "{summary}");
    same(&seen(&place.path(dir)), wanted, dir);
    summary
}

#[track_caller]
fn leaves(place: &Place, dir: &str, reason: &str) -> Value {
    let before = place.path(dir).exists().then(|| seen(&place.path(dir)));
    let summary = auto(place, dir).exits(0).summary();
    assert_eq!((&summary["restored"], &summary["reason"]), (&false.into(), &reason.into()), "{summary}");
    if let Some(before) = before {
        // What is ours comes into the directory, and its time changes.
        let (mut after, mut before) = (seen(&place.path(dir)), before);
        after.remove(Path::new(""));
        before.remove(Path::new(""));
        same(&after, &before, dir);
    }
    summary
}

#[test]
fn a_missing_or_empty_state_dir_is_restored_once() {
    let (place, wanted) = backed_up(1000);
    let summary = restores(&place, "new/home/.openclaw", "missing", &wanted);
    assert_eq!((&summary["databases_checked"], &summary["set_aside"]), (&1.into(), &Value::Array(vec![])));
    assert_eq!(names(&place.path("new/home/.openclaw").join(FOLDER)), ["marker.json"]);
    fs::create_dir_all(place.path("volume/lost+found")).unwrap();
    fs::create_dir_all(place.path("volume/a/b")).unwrap();
    fs::remove_dir_all(place.path("volume/a")).unwrap();
    let mut with_lost = auto(&place, "volume").exits(0).summary();
    assert_eq!(with_lost["reason"].take(), "empty");
    let mut found = seen(&place.path("volume"));
    assert!(found.remove(Path::new("lost+found")).is_some());
    same(&found, &wanted, "volume");
    // Once more: it has been decided. Also when somebody has emptied it on purpose, and without a key.
    leaves(&place, "volume", "decided");
    for name in names(&place.path("volume")).iter().filter(|name| *name != FOLDER) {
        let path = place.path("volume").join(name);
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
            .unwrap();
    }
    let run = place.run(&["--state-dir", "volume", "--repo", "nowhere", "auto-restore"]).exits(0);
    assert!(run.text().contains("was restored already"), "{}", run.text());
    assert_eq!(names(&place.path("volume")), [FOLDER]);
    // Without its memory it is an empty directory like any other.
    fs::remove_dir_all(place.path("volume").join(FOLDER)).unwrap();
    restores(&place, "volume", "empty", &wanted);
}

#[test]
fn a_used_state_dir_is_left_alone_whatever_becomes_of_it() {
    let (place, wanted) = backed_up(1000);
    put(&place.path("used"), "workspace/MEMORY.md", b"mine");
    // Neither repository nor passphrase is asked for.
    let run = place.run(&["--state-dir", "used", "--repo", "nowhere", "auto-restore"]).exits(0);
    assert!(run.text().contains("is in use (workspace/MEMORY.md is there)"), "{}", run.text());
    fs::remove_dir_all(place.path("used/workspace")).unwrap();
    leaves(&place, "used", "decided");
    assert_eq!(names(&place.path("used")), [FOLDER]);
    // A dry run decides nothing.
    put(&place.path("other"), "notes", b"mine");
    place.run(&["--state-dir", "other", "auto-restore", "--dry-run"]).exits(0);
    assert_eq!(names(&place.path("other")), ["notes"]);
    fs::remove_file(place.path("other/notes")).unwrap();
    let dry = place.run(&["--json", "--state-dir", "other", "auto-restore", "-n"]).exits(0).summary();
    assert_eq!((&dry["restored"], &dry["reason"]), (&false.into(), &"empty".into()));
    assert_eq!(names(&place.path("other")), [""; 0]);
    restores(&place, "other", "empty", &wanted);
}

/// What `openclaw setup` writes, in short.
fn fresh_install(dir: &Path) -> Connection {
    put(
        dir,
        "openclaw.json",
        b"{ \"meta\": { \"lastTouchedVersion\": \"2026.9.6\" }, \"gateway\": { \"mode\": \"local\" } }",
    );
    put(dir, "workspace/BOOTSTRAP.md", b"wake up");
    put(dir, "cache/x", b"x");
    put(dir, "tmp/openclaw-0/gateway.state.lock", b"{}");
    fs::create_dir_all(dir.join("state")).unwrap();
    fs::create_dir_all(dir.join("agents/main/sessions")).unwrap();
    let db = Connection::open(dir.join("state/openclaw.sqlite")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=wal; CREATE TABLE schema_meta (meta_key TEXT PRIMARY KEY) STRICT;
         CREATE TABLE task_runs (id TEXT) STRICT; CREATE TABLE t (id, body); INSERT INTO schema_meta VALUES ('primary')",
    )
    .unwrap();
    db
}

#[test]
fn a_fresh_install_makes_room_and_one_that_was_used_does_not() {
    let (place, mut wanted) = backed_up(1000);
    let dir = place.path("b/.openclaw");
    drop(fresh_install(&dir));
    let old_config = fs::read(dir.join("openclaw.json")).unwrap();
    let summary = auto(&place, "b/.openclaw").exits(0).summary();
    assert_eq!(summary["reason"], "fresh-install");
    // What the profile leaves out stays where it is.
    let mut found = seen(&dir);
    found.retain(|path, _| !path.starts_with("cache") && !path.starts_with("tmp"));
    wanted.remove(Path::new(""));
    found.remove(Path::new(""));
    same(&found, &wanted, "b");
    assert_eq!(fs::read(dir.join("cache/x")).unwrap(), b"x");
    let aside = summary["set_aside"].as_array().unwrap();
    let moved: Vec<_> = aside
        .iter()
        .map(|row| Path::new(row["path"].as_str().unwrap()).file_name().unwrap().to_owned())
        .collect();
    assert_eq!(moved, ["agents", "openclaw.json", "state", "workspace"]);
    let to = PathBuf::from(aside[1]["moved_to"].as_str().unwrap());
    assert!(to.starts_with(dir.canonicalize().unwrap().join(FOLDER)), "{}", to.display());
    assert_eq!(fs::read(to).unwrap(), old_config);
    // A row of a user's, even if only in the log.
    let used = place.path("c/.openclaw");
    let db = fresh_install(&used);
    db.execute_batch("INSERT INTO task_runs VALUES ('mine')").unwrap();
    let summary = leaves(&place, "c/.openclaw", "in-use");
    assert!(summary["message"].as_str().unwrap().contains("has rows in task_runs"), "{summary}");
}

#[test]
fn a_failure_leaves_no_trace_and_the_next_run_tries_again() {
    let (mut place, wanted) = backed_up(200_000);
    let dir = "new/.openclaw";
    fs::create_dir(place.path("empty")).unwrap();
    drop(fresh_install(&place.path("fresh/.openclaw")));
    let fresh = picture(&place.path("fresh/.openclaw"));
    let untouched = |place: &Place| {
        assert!(!place.path("new").exists());
        assert_eq!(names(&place.path("empty")), [""; 0]);
        let mut now = picture(&place.path("fresh/.openclaw"));
        let mut then = fresh.clone();
        // Names came and went in it.
        now.remove(Path::new(""));
        then.remove(Path::new(""));
        same(&now, &then, "fresh");
    };
    let fails = |place: &Place, args: &[&str], code: i32| {
        for dir in [dir, "empty", "fresh/.openclaw"] {
            let args = [&["--json", "--state-dir", dir, "auto-restore"], args].concat();
            let error = place.run(&args).exits(code).error();
            assert!(!error["message"].as_str().unwrap().is_empty());
        }
        untouched(place);
    };
    fails(&place, &["--repo", "nowhere"], 10);
    place.set("EXUVIA_RCLONE", "/nowhere/rclone");
    fails(&place, &["--repo", "rclone:nowhere:x"], 2);
    place.set("EXUVIA_PASSPHRASE", "wrong");
    fails(&place, &[], 12);
    place.set("EXUVIA_PASSPHRASE", crate::support::PASSPHRASE);
    // Damage: a byte in the middle of the only large pack.
    let (pack, size) = files(&place.path("repo/packs")).into_iter().max_by_key(|(_, size)| *size).unwrap();
    let whole = fs::read(&pack).unwrap();
    let mut broken = whole.clone();
    broken[usize::try_from(size / 2).unwrap()] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, broken).unwrap();
    fails(&place, &[], 13);
    fs::write(&pack, whole).unwrap();
    // A state dir that cannot be one.
    put(&place.path("file"), "x", b"");
    auto(&place, "file/x").exits(1);
    restores(&place, dir, "missing", &wanted);
    restores(&place, "empty", "empty", &wanted);
    assert_eq!(auto(&place, "fresh/.openclaw").exits(0).summary()["reason"], "fresh-install");
}

#[test]
fn without_a_fitting_snapshot_nothing_happens() {
    let place = with_repository();
    leaves(&place, "a/.openclaw", "no-snapshot");
    put(&place.path("notes"), "x", b"x");
    place.backup("notes");
    // Parts of a state dir are no state dir.
    put(&place.path(OLD), "openclaw.json", b"{}");
    put(&place.path(OLD), "workspace/x", b"x");
    place.run(&["backup", OLD, "--include", "config"]).exits(0);
    place.run(&["--state-dir", OLD, "backup", "home/.openclaw/workspace"]).exits(0);
    leaves(&place, "a/.openclaw", "no-snapshot");
    assert!(!place.path("a").exists());
    // And one that has a file missing is none either.
    place.backup(OLD);
    let wanted = picture(&place.path(OLD));
    let summary = restores(&place, "a/.openclaw", "missing", &wanted);
    assert_eq!(summary["snapshot"].as_str(), place.snapshots().last().map(String::as_str));
}

#[test]
fn the_environment_is_enough() {
    let (mut place, wanted) = backed_up(1000);
    let machine = place.path("machine");
    fs::create_dir(&machine).unwrap();
    fs::rename(place.path("home"), place.path("old-home")).unwrap();
    place.set("HOME", machine.to_str().unwrap());
    place.set("EXUVIA_REPO", place.path("repo").to_str().unwrap());
    let run = place.run(&["auto-restore"]).exits(0);
    assert!(run.text().contains("was missing: restored"), "{}", run.text());
    same(&seen(&machine.join(".openclaw")), &wanted, "machine");
    // A backup does not take what is ours, and has nothing to do but look.
    let summary = place.run(&["--json", "backup"]).exits(0).summary();
    assert_eq!((&summary["files_new"], &summary["files_removed"]), (&0.into(), &0.into()), "{summary}");
    // What was renamed itself is looked at again: of files, that is one.
    assert_eq!((&summary["files_changed"], &summary["bytes_read"]), (&1.into(), &30.into()), "{summary}");
    assert!(!place.run(&["ls", "latest", "-R"]).exits(0).text().contains(FOLDER));
}

#[test]
fn two_at_once_restore_once() {
    let (place, wanted) = backed_up(3 << 20);
    for dir in ["twice/.openclaw", "empty"] {
        if dir == "empty" {
            fs::create_dir(place.path(dir)).unwrap();
        }
        let args = ["--json", "--state-dir", dir, "auto-restore"];
        let runs: Vec<_> = (0..4).map(|_| place.start(&args)).collect();
        let summaries: Vec<_> = runs.into_iter().map(|run| ended(run).exits(0).summary()).collect();
        let restored = summaries.iter().filter(|s| s["restored"] == true).count();
        let decided = summaries.iter().filter(|s| s["reason"] == "decided").count();
        assert_eq!((restored, decided), (1, 3), "{summaries:?}");
        same(&seen(&place.path(dir)), &wanted, dir);
    }
}

/// Entries below a directory, of what is there at the moment.
fn progress(dir: &Path) -> u64 {
    files(dir).len() as u64 + files(dir).values().sum::<u64>()
}

#[test]
fn a_killed_run_is_made_good_by_the_next() {
    let (place, wanted) = backed_up(8 << 20);
    let whole: u64 = {
        restores(&place, "measure/.openclaw", "missing", &wanted);
        progress(&place.path("measure/.openclaw"))
    };
    let (mut numbers, mut killed, mut cut_off) = (Numbers::new(5), 0, 0);
    for round in 0..60 {
        if killed >= 24 {
            break;
        }
        let dir = format!("round-{round}/.openclaw");
        let path = place.path(&dir);
        let fresh = round % 2 == 0;
        if fresh {
            drop(fresh_install(&path));
        }
        // Anywhere while the tree is written, or soon after all of it is there.
        let limit = if round % 3 == 0 { whole } else { numbers.below(whole) };
        let marker = path.join(FOLDER).join("marker.json");
        let looks = if round % 3 == 0 { numbers.below(40) } else { 0 };
        let mut child = place.start(&["--json", "--state-dir", &dir, "auto-restore"]);
        let mut after = 0;
        let finished = loop {
            if child.try_wait().unwrap().is_some() {
                break true;
            }
            if marker.exists() && progress(&path) >= limit {
                after += 1;
                if after > looks {
                    break false;
                }
            }
        };
        if finished {
            continue;
        }
        child.kill().unwrap();
        if ended(child).code.is_some() {
            continue;
        }
        killed += 1;
        let summary = auto(&place, &dir).exits(0).summary();
        cut_off += u64::from(summary["reason"] == "cut-off");
        let mut found = seen(&path);
        if fresh {
            found.retain(|path, _| !path.starts_with("cache") && !path.starts_with("tmp"));
            assert_eq!(fs::read(path.join("cache/x")).unwrap(), b"x");
        }
        let mut wanted = wanted.clone();
        if fresh {
            // It holds more than the snapshot has.
            found.remove(Path::new(""));
            wanted.remove(Path::new(""));
        }
        same(&found, &wanted, &format!("{dir} {summary}"));
        leaves(&place, &dir, "decided");
        let ours = names(&path.join(FOLDER));
        assert!(ours.iter().all(|name| name == "marker.json" || name.starts_with("set-aside-")), "{ours:?}");
        if fresh {
            let aside = path.join(FOLDER).join(ours.iter().find(|name| name.starts_with("set-")).unwrap());
            assert_eq!(names(&aside), ["agents", "openclaw.json", "state", "workspace"]);
        }
        fs::set_permissions(path.join("media"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
    assert!(killed >= 8, "only {killed} runs were slow enough to be killed, {cut_off} of them at the end");
}

#[test]
fn a_run_that_was_cut_off_while_placing_goes_on_without_a_repository() {
    let (place, wanted) = backed_up(1000);
    restores(&place, "a/.openclaw", "missing", &wanted);
    // As it is in the middle of step 4: some of the tree in place, an application has begun to write.
    let dir = place.path("a/.openclaw");
    let ours = dir.join(FOLDER);
    fs::create_dir(ours.join("tree")).unwrap();
    for name in ["openclaw.json", "workspace"] {
        fs::rename(dir.join(name), ours.join("tree").join(name)).unwrap();
    }
    put(&dir, "workspace/AGENTS.md", b"half-started");
    let text = fs::read_to_string(ours.join("marker.json")).unwrap();
    fs::write(ours.join("marker.json"), text.replace("\"restored\"", "\"placing\"")).unwrap();
    let run = place.run(&["--json", "--state-dir", "a/.openclaw", "--repo", "nowhere", "auto-restore"]);
    let summary = run.exits(0).summary();
    assert_eq!((&summary["restored"], &summary["reason"]), (&true.into(), &"cut-off".into()));
    same(&seen(&dir), &wanted, "a");
    let aside = summary["set_aside"][0]["moved_to"].as_str().unwrap();
    assert_eq!(fs::read(Path::new(aside).join("AGENTS.md")).unwrap(), b"half-started");
}

#[test]
fn an_interrupted_run_undoes_what_it_did() {
    let (place, wanted) = backed_up(12 << 20);
    let dir = place.path("fresh/.openclaw");
    drop(fresh_install(&dir));
    let before = names(&dir);
    let mut interrupted = false;
    for _ in 0..10 {
        let mut child = place.start(&["--json", "--state-dir", "fresh/.openclaw", "auto-restore"]);
        until("the tree", || dir.join(FOLDER).join("tree").exists() || child.try_wait().unwrap().is_some());
        let id = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        let run = ended(child);
        if run.code == Some(130) {
            interrupted = true;
            assert_eq!(names(&dir), before);
            break;
        }
        // It was faster.
        fs::set_permissions(dir.join("media"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        drop(fresh_install(&dir));
    }
    assert!(interrupted);
    assert_eq!(auto(&place, "fresh/.openclaw").exits(0).summary()["reason"], "fresh-install");
    assert_eq!(wanted.get(Path::new("openclaw.json")), seen(&dir).get(Path::new("openclaw.json")));
}

#[test]
fn a_marker_that_nobody_understands_stops_it() {
    let (place, _) = backed_up(1000);
    put(&place.path("x").join(FOLDER), "marker.json", b"{\"version\":9}");
    let error = auto(&place, "x").exits(1).error();
    assert!(error["hint"].as_str().unwrap().contains("remove it"), "{error}");
    assert_eq!(names(&place.path("x")), [FOLDER]);
}

fn key(path: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(path.as_bytes()))
}

/// The places of a state dir that name it; the columns are those of OpenClaw 2026.9.6.
fn with_paths(dir: &Path, root: &str, home: &str) {
    put(dir, "openclaw.json", format!("// {root} is where it lies\n{{\n  agents: {{ defaults: {{ workspace: '{root}/workspace', }},\n    list: [\n      {{ id: \"main\", agentDir: \"{root}/agents/main/agent\", workspace: \"{home}/clawd\" }}, /* {root} */\n      {{ id: 'b', workspace: '{home}x/.openclaw/w' }},\n    ] }},\n}}\n").as_bytes());
    put(dir, "openclaw.json.last-good", format!("{{\"a\":\"{root}/workspace\"}}").as_bytes());
    put(
        dir,
        "agents/main/sessions/sessions.json",
        format!("{{\"k\":{{\"sessionFile\":\"{root}/agents/main/sessions/1.jsonl\"}}}}").as_bytes(),
    );
    put(dir, "agents/main/sessions/1.jsonl", format!("{{\"cwd\":\"{root}/workspace\"}}\n").as_bytes());
    put(dir, "workspace/notes.md", format!("{root}/workspace").as_bytes());
    fs::create_dir_all(dir.join("state")).unwrap();
    let db = Connection::open(dir.join("state/openclaw.sqlite")).unwrap();
    let workspace = format!("{root}/workspace");
    let k = key(&workspace);
    db.execute_batch(&format!(
        "PRAGMA journal_mode=wal; PRAGMA foreign_keys=off;
         CREATE TABLE cron_jobs (store_key TEXT NOT NULL, job_id TEXT NOT NULL, name TEXT, PRIMARY KEY (store_key, job_id)) STRICT;
         CREATE TABLE cron_job_scratch (store_key TEXT NOT NULL, job_id TEXT NOT NULL, PRIMARY KEY (store_key, job_id),
            FOREIGN KEY (store_key, job_id) REFERENCES cron_jobs(store_key, job_id) ON DELETE CASCADE) STRICT;
         CREATE TABLE cron_run_receipts (receipt_id TEXT PRIMARY KEY, store_key TEXT NOT NULL) STRICT;
         CREATE TABLE workspace_setup_state (workspace_key TEXT NOT NULL PRIMARY KEY, workspace_path TEXT) STRICT;
         CREATE TABLE workspace_generated_bootstrap_hashes (workspace_key TEXT NOT NULL, filename TEXT NOT NULL,
            PRIMARY KEY (workspace_key, filename), FOREIGN KEY (workspace_key) REFERENCES workspace_setup_state(workspace_key) ON DELETE CASCADE) STRICT;
         CREATE TABLE workspace_path_aliases (alias_key TEXT NOT NULL PRIMARY KEY, alias_path TEXT NOT NULL, workspace_key TEXT NOT NULL, workspace_path TEXT NOT NULL) STRICT;
         CREATE TABLE config_machine_state (state_key TEXT NOT NULL PRIMARY KEY, value_json TEXT NOT NULL) STRICT;
         CREATE TABLE config_health_entries (config_path TEXT NOT NULL PRIMARY KEY, last_known_good_json TEXT) STRICT;
         CREATE TABLE migration_sources (source_key TEXT NOT NULL PRIMARY KEY, source_path TEXT NOT NULL, report_json TEXT NOT NULL) STRICT;
         CREATE TABLE agent_databases (agent_id TEXT, path TEXT, PRIMARY KEY (agent_id, path)) STRICT, WITHOUT ROWID;
         CREATE TABLE plugin_state_entries (value_json TEXT);
         CREATE TABLE fired (x);
         CREATE TRIGGER hostile AFTER UPDATE ON cron_jobs BEGIN INSERT INTO fired VALUES (1); DELETE FROM cron_run_receipts; END;
         INSERT INTO cron_jobs VALUES ('{root}/cron/jobs.json', 'a', 'daily'), ('{root}/cron/jobs.json', 'b', 'weekly'), ('/elsewhere', 'c', '');
         INSERT INTO cron_job_scratch VALUES ('{root}/cron/jobs.json', 'a');
         INSERT INTO cron_run_receipts VALUES ('r', '{root}/cron/jobs.json');
         INSERT INTO workspace_setup_state VALUES ('{k}', '{workspace}'), ('0123', NULL);
         INSERT INTO workspace_generated_bootstrap_hashes VALUES ('{k}', 'SOUL.md');
         INSERT INTO workspace_path_aliases VALUES ('{}', '{home}/clawd', '{k}', '{workspace}');
         INSERT INTO config_machine_state VALUES ('plugins.installedIndex', '{{\"workspaceDir\":\"{workspace}\",\"plugins\":[{{\"manifestPath\":\"{root}/extensions/x/p.json\"}}]}}'),
            ('other', '\"{root}\"');
         INSERT INTO config_health_entries VALUES ('{root}/openclaw.json', '{{\"path\":\"{root}/openclaw.json\"}}');
         INSERT INTO migration_sources VALUES ('s', '{root}/cron/jobs.json', '{{}}');
         INSERT INTO agent_databases VALUES ('main', '{root}/agents/main/agent/openclaw-agent.sqlite');
         INSERT INTO plugin_state_entries VALUES ('{root}');",
        key(&format!("{home}/clawd"))
    ))
    .unwrap();
    fs::create_dir_all(dir.join("agents/main/agent")).unwrap();
    let agent = Connection::open(dir.join("agents/main/agent/openclaw-agent.sqlite")).unwrap();
    agent
        .execute_batch(&format!(
            "PRAGMA journal_mode=wal; CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, entry_json TEXT, entry_valid INT);
             CREATE TRIGGER entry AFTER UPDATE OF entry_json ON session_nodes BEGIN UPDATE session_nodes SET entry_valid = 0; END;
             CREATE TABLE transcript_events (event_json TEXT);
             INSERT INTO session_nodes VALUES ('main', '{{\"workspaceDir\":\"{root}/workspace\",\"label\":\"about {root}\"}}', 1);
             INSERT INTO transcript_events VALUES ('{{\"cwd\":\"{root}/workspace\"}}');"
        ))
        .unwrap();
}

/// All rows of a database as text, table by table.
fn rows(path: &Path) -> Vec<String> {
    let db = Connection::open(format!("file:{}?immutable=1", path.display())).unwrap();
    let mut query = db.prepare("select name from sqlite_schema where type = 'table' order by name").unwrap();
    let tables: Vec<String> = query.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut found = Vec::new();
    for table in tables {
        let mut query = db
            .prepare(&format!("select * from \"{table}\" order by 1, 2"))
            .or_else(|_| db.prepare(&format!("select * from \"{table}\" order by 1")))
            .unwrap();
        let columns = query.column_count();
        let mut all = query.query(()).unwrap();
        while let Some(row) = all.next().unwrap() {
            let cells: Vec<String> = (0..columns).map(|i| format!("{:?}", row.get_ref(i).unwrap())).collect();
            found.push(format!("{table}: {}", cells.join(" ")));
        }
    }
    found
}

#[test]
fn paths_move_to_the_new_home_and_nothing_else_changes() {
    let place = with_repository();
    let canonical = place.path("").canonicalize().unwrap();
    let home = |name: &str| canonical.join(name).to_str().unwrap().to_owned();
    // The first home's name begins the other's: components count.
    let (old, new) = (home("home/al"), home("home/alice"));
    with_paths(&place.path("home/al/.openclaw"), &format!("{old}/.openclaw"), &old);
    place.backup("home/al/.openclaw");
    let summary = auto(&place, "home/alice/.openclaw").exits(0).summary();
    // What would have been written there in the first place.
    with_paths(&place.path("wanted"), &format!("{new}/.openclaw"), &new);
    let at = |dir: &str, name: &str| fs::read_to_string(place.path(dir).join(name)).unwrap();
    let got = at("home/alice/.openclaw", "openclaw.json");
    let comments = |text: &str| {
        text.replace(&format!("// {new}"), &format!("// {old}"))
            .replace(&format!("/* {new}"), &format!("/* {old}"))
            .replace(&format!("'{new}x/"), &format!("'{old}x/"))
    };
    assert_eq!(got, comments(&at("wanted", "openclaw.json")));
    for name in ["openclaw.json.last-good", "agents/main/sessions/sessions.json"] {
        assert_eq!(at("home/alice/.openclaw", name), at("wanted", name));
    }
    // History, and what people wrote, stays.
    for name in ["agents/main/sessions/1.jsonl", "workspace/notes.md"] {
        assert_eq!(at("home/alice/.openclaw", name), at("home/al/.openclaw", name));
    }
    let stays = |row: &str| {
        ["plugin_state_entries", "transcript_events", "config_machine_state: Text([111"]
            .iter()
            .any(|t| row.starts_with(t))
    };
    for name in ["state/openclaw.sqlite", "agents/main/agent/openclaw-agent.sqlite"] {
        let changed = |dir: &str| {
            rows(&place.path(dir).join(name)).into_iter().filter(|row| !stays(row)).collect::<Vec<_>>()
        };
        let (got, mut wanted) = (changed("home/alice/.openclaw"), changed("wanted"));
        for row in wanted.iter_mut().filter(|row| row.starts_with("session_nodes")) {
            // The label is no path.
            let bytes = |text: &str| text.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
            *row = row.replace(&bytes(&format!("about {new}")), &bytes(&format!("about {old}")));
        }
        assert_eq!(got, wanted, "{name}");
        let folder = place.path("home/alice/.openclaw").join(name);
        assert_eq!(names(folder.parent().unwrap()), [folder.file_name().unwrap().to_str().unwrap()]);
    }
    let places: Vec<String> = summary["relocated"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            format!(
                "{} {} {}",
                row["path"].as_str().unwrap(),
                row["place"].as_str().unwrap_or("-"),
                row["count"]
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            "agents/main/sessions/sessions.json - 1",
            "openclaw.json - 3",
            "openclaw.json.last-good - 1",
            "agents/main/agent/openclaw-agent.sqlite session_nodes.entry_json 1",
            "state/openclaw.sqlite cron_jobs.store_key 2",
            "state/openclaw.sqlite cron_run_receipts.store_key 1",
            "state/openclaw.sqlite cron_job_scratch.store_key 1",
            "state/openclaw.sqlite workspace_setup_state.workspace_path 1",
            "state/openclaw.sqlite workspace_setup_state.workspace_key 1",
            "state/openclaw.sqlite workspace_generated_bootstrap_hashes.workspace_key 1",
            "state/openclaw.sqlite workspace_path_aliases.alias_path 1",
            "state/openclaw.sqlite workspace_path_aliases.alias_key 1",
            "state/openclaw.sqlite workspace_path_aliases.workspace_path 1",
            "state/openclaw.sqlite workspace_path_aliases.workspace_key 1",
            "state/openclaw.sqlite config_machine_state.value_json 1",
            "state/openclaw.sqlite config_health_entries.config_path 1",
            "state/openclaw.sqlite config_health_entries.last_known_good_json 1",
            "state/openclaw.sqlite migration_sources.source_path 1",
            "state/openclaw.sqlite agent_databases.path 1",
        ]
    );
    // The mode of a file that was changed is its own.
    let mode = |dir: &str| fs::metadata(place.path(dir).join("openclaw.json")).unwrap().mode();
    assert_eq!(mode("home/alice/.openclaw"), mode("home/al/.openclaw"));
    // Untouched on request, and where nothing moves.
    let run =
        place.run(&["--json", "--state-dir", "plain/.openclaw", "auto-restore", "--no-relocate"]).exits(0);
    assert_eq!(run.summary()["relocated"].as_array().unwrap().len(), 0);
    same_files(&place, "plain/.openclaw", "home/al/.openclaw");
    fs::rename(place.path("home/al"), place.path("home/gone")).unwrap();
    let summary = auto(&place, "home/al/.openclaw").exits(0).summary();
    assert_eq!(summary["relocated"].as_array().unwrap().len(), 0);
    same_files(&place, "home/al/.openclaw", "home/gone/.openclaw");
}

fn same_files(place: &Place, a: &str, b: &str) {
    for name in ["openclaw.json", "openclaw.json.last-good", "agents/main/sessions/sessions.json"] {
        assert_eq!(fs::read(place.path(a).join(name)).unwrap(), fs::read(place.path(b).join(name)).unwrap());
    }
    for name in ["state/openclaw.sqlite", "agents/main/agent/openclaw-agent.sqlite"] {
        assert_eq!(rows(&place.path(a).join(name)), rows(&place.path(b).join(name)));
    }
}
