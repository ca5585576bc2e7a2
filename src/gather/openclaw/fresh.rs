//! Whether a state dir holds anything but what a fresh install creates.
//!
//! A directory that is *empty* in this sense may be replaced by a snapshot without asking. The rules are
//! the cautious ones: what is not known to come from an installer counts as the user's.
//!
//! For every application, nothing counts but directories without files, and `lost+found`.
//!
//! For OpenClaw these do not count either, as seen after `openclaw setup --baseline` and a first start
//! of `openclaw gateway` of 2026.9.6:
//!
//! - what every snapshot leaves out: `cache/`, `tmp/`, `tools/`, sockets, lock databases and so on;
//! - `openclaw.json` and its `.bak` and `.last-good` copies, when all that they set is where workspace
//!   and agents lie, the agents' names, how the gateway is reached, the two session catalogs that setup
//!   turns off, and notes of the program to itself (`meta`, `wizard`);
//! - `config-journal-fingerprint.key`;
//! - `state/openclaw.sqlite`, when the only rows are those of tables in which the program keeps book
//!   about itself, the jobs that it declares at its start, and a workspace whose setup was not finished;
//! - `agents/<id>/agent/openclaw-agent.sqlite`, when it has no rows but its schema's version;
//! - in `workspace/`: `BOOTSTRAP.md`, which an agent removes at its first conversation; the files that
//!   setup wrote, as long as their SHA-256 is the one that `workspace_generated_bootstrap_hashes` has; and
//!   a git repository without objects.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::Profile;
use crate::fs::{Dir, FileKind};
use crate::gather::{json5, sqlite};
use crate::model::RepoPath;

/// Longest file that is looked into, in bytes; what setup writes is a few KiB long.
const MAX_FILE: u64 = 1 << 20;

/// A sign that a state dir is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Where.
    pub path: RepoPath,
    /// What is there.
    pub what: String,
}

/// Settings that setup writes by itself, as the keys that lead to them; `*` is any one key, and what ends
/// in `**` goes for everything below.
const SETTINGS: [&str; 16] = [
    "$schema",
    "agents",
    "agents.defaults.workspace",
    "agents.entries.*.agentDir",
    "agents.entries.*.identity.name",
    "agents.entries.*.name",
    "agents.entries.*.workspace",
    "gateway.auth.mode",
    "gateway.auth.token",
    "gateway.bind",
    "gateway.mode",
    "gateway.port",
    "meta.**",
    "plugins.entries.anthropic.config.sessionCatalog.enabled",
    "plugins.entries.codex.config.sessionCatalog.enabled",
    "wizard.**",
];

/// Tables of the state database in which the program keeps book about itself.
const BOOKKEEPING: [&str; 16] = [
    "agent_database_leases",
    "agent_databases",
    "agent_provenance",
    "config_health_entries",
    "config_machine_state",
    "config_revision_keys",
    "device_identities",
    "diagnostic_events",
    "gateway_boot_lifecycle",
    "migration_runs",
    "migration_sources",
    "schema_meta",
    "state_leases",
    "workspace_generated_bootstrap_hashes",
    "workspace_path_aliases",
    // Looked at more closely.
    "workspace_setup_state",
];

/// Jobs that the program declares by itself, by the beginning of `declaration_key`.
const DECLARED: [&str; 3] = ["memory-core:", "heartbeat:", "skill-collection-review:"];

/// In a git repository that has nothing in it.
const EMPTY_GIT: [&str; 4] = ["HEAD", "config", "description", "info/exclude"];

impl Profile {
    /// The first sign that a state dir is in use; see the [module](self). `path` is the directory's, and
    /// names in `ours` at its top are passed over.
    ///
    /// # Errors
    ///
    /// When the directory itself cannot be listed. What cannot be looked at below counts as used.
    pub fn sign_of_use(self, root: &Dir, path: &Path, ours: &[&[u8]]) -> io::Result<Option<Sign>> {
        let mut visit = Visit { profile: self, path, generated: None };
        let mut todo = vec![RepoPath::root()];
        while let Some(at) = todo.pop() {
            let sign = |what: String| Ok(Some(Sign { path: at.clone(), what }));
            let listed = root.open_path(&at).and_then(|dir| Ok((dir.list()?, dir)));
            let (mut names, dir) = match listed {
                Ok(listed) => listed,
                Err(e) if at.is_root() => return Err(e),
                Err(e) => return sign(format!("cannot be looked at: {e}")),
            };
            names.sort();
            for name in names {
                if at.is_root() && (ours.contains(&name.as_slice()) || name == b"lost+found") {
                    continue;
                }
                let Ok(child) = at.join(&name) else { return sign("has a name that is too long".into()) };
                if self.leaves_out(&child) {
                    continue;
                }
                let what = match dir.stat_at(&name) {
                    Ok(stat) if stat.kind == FileKind::Directory => {
                        todo.push(child);
                        continue;
                    }
                    Ok(stat) if stat.kind == FileKind::File => visit.file(&dir, &child),
                    Ok(_) => Err("is there".to_owned()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => Err(format!("cannot be looked at: {e}")),
                };
                if let Err(what) = what {
                    return Ok(Some(Sign { path: child, what }));
                }
            }
        }
        Ok(None)
    }
}

struct Visit<'a> {
    profile: Profile,
    path: &'a Path,
    /// Name and SHA-256 of the files that setup wrote, once asked for.
    generated: Option<BTreeSet<(String, String)>>,
}

impl Visit<'_> {
    /// Looks at a regular file; an error says what makes it the user's.
    fn file(&mut self, dir: &Dir, path: &RepoPath) -> Result<(), String> {
        let is_there = || Err("is there".to_owned());
        if self.profile == Profile::None {
            return is_there();
        }
        let text = String::from_utf8_lossy(path.as_bytes()).into_owned();
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["config-journal-fingerprint.key"] => Ok(()),
            [name] if is_config(name) => settings(dir, path.name()),
            ["state", name] => self.database(path, name, "openclaw.sqlite", state_rows),
            ["agents", _, "agent", name] => self.database(path, name, "openclaw-agent.sqlite", agent_rows),
            ["workspace", "BOOTSTRAP.md"] => Ok(()),
            ["workspace", ".git", inner @ ..] => {
                let inner = inner.join("/");
                let sample = inner.starts_with("hooks/") && inner.ends_with(".sample");
                if sample || EMPTY_GIT.contains(&inner.as_str()) { Ok(()) } else { is_there() }
            }
            ["workspace", name] => self.workspace_file(dir, name),
            _ => is_there(),
        }
    }

    fn database(
        &self,
        path: &RepoPath,
        name: &str,
        expected: &str,
        ask: fn(&Connection) -> rusqlite::Result<Option<String>>,
    ) -> Result<(), String> {
        let beside = name.strip_prefix(expected).ok_or("is there")?;
        match beside {
            "" => {}
            // They are read together with the database.
            "-wal" | "-shm" | "-journal" => return Ok(()),
            _ => return Err("is there".to_owned()),
        }
        match sqlite::read(&self.path.join(path.to_os_path()), ask) {
            Ok(None) => Ok(()),
            Ok(Some(table)) => Err(format!("has rows in {table}")),
            Err(e) => Err(format!("cannot be looked into: {e}")),
        }
    }

    fn workspace_file(&mut self, dir: &Dir, name: &str) -> Result<(), String> {
        let bytes = read(dir, name.as_bytes()).map_err(|e| format!("cannot be looked at: {e}"))?;
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes));
        let state = self.path.join("state/openclaw.sqlite");
        let generated = self.generated.get_or_insert_with(|| {
            sqlite::read(&state, |db| {
                let mut query =
                    db.prepare("SELECT filename, sha256 FROM main.workspace_generated_bootstrap_hashes")?;
                let rows = query.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect()
            })
            .unwrap_or_default()
        });
        if generated.contains(&(name.to_owned(), hash)) {
            Ok(())
        } else {
            Err("is not as setup wrote it".to_owned())
        }
    }
}

fn is_config(name: &str) -> bool {
    let rest = name.strip_prefix("openclaw.json");
    rest.is_some_and(|rest| matches!(rest, "" | ".last-good") || rest.starts_with(".bak"))
}

fn read(dir: &Dir, name: &[u8]) -> io::Result<Vec<u8>> {
    let (file, _) = dir.open_regular(name)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn settings(dir: &Dir, name: &[u8]) -> Result<(), String> {
    let bytes = read(dir, name).map_err(|e| format!("cannot be looked at: {e}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
    let leaves = json5::leaves(&text).map_err(|e| e.to_string())?;
    match leaves.iter().find(|leaf| !SETTINGS.iter().any(|known| is_setting(known, leaf))) {
        None => Ok(()),
        Some(leaf) => Err(format!("sets {}", leaf.join("."))),
    }
}

fn is_setting(known: &str, leaf: &[String]) -> bool {
    let mut leaf = leaf.iter();
    for part in known.split('.') {
        match (part, leaf.next()) {
            ("**", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(key)) if part == key => {}
            _ => return false,
        }
    }
    leaf.next().is_none()
}

/// Names of the ordinary tables, without those that SQLite itself keeps.
fn tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' \
               AND sql NOT LIKE 'CREATE VIRTUAL TABLE%' ORDER BY name";
    let mut query = db.prepare(sql)?;
    query.query_map((), |row| row.get(0))?.collect()
}

fn has_rows(db: &Connection, table: &str, condition: &str) -> rusqlite::Result<bool> {
    let table = table.replace('"', "\"\"");
    db.query_row(&format!("SELECT EXISTS (SELECT 1 FROM main.\"{table}\" WHERE {condition})"), (), |row| {
        row.get(0)
    })
}

/// The first table with rows of a user's.
fn state_rows(db: &Connection) -> rusqlite::Result<Option<String>> {
    let declared = DECLARED.map(|key| format!("declaration_key LIKE '{key}%'")).join(" OR ");
    let undeclared = format!("NOT coalesce({declared}, 0)");
    for table in tables(db)? {
        let condition = match table.as_str() {
            "workspace_setup_state" => "setup_completed_at IS NOT NULL",
            "cron_jobs" => undeclared.as_str(),
            table if BOOKKEEPING.contains(&table) => continue,
            _ => "1",
        };
        if has_rows(db, &table, condition)? {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

fn agent_rows(db: &Connection) -> rusqlite::Result<Option<String>> {
    for table in tables(db)? {
        // An empty full-text index has rows in these two.
        let index = table.ends_with("_fts_data") || table.ends_with("_fts_config");
        if table != "schema_meta" && !index && has_rows(db, &table, "1")? {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use super::*;

    /// A state dir as `openclaw setup --baseline` leaves it, in short.
    fn fresh() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            fs::create_dir_all(temp.path().join(name).parent().unwrap()).unwrap();
            fs::write(temp.path().join(name), text).unwrap();
        };
        let config = r#"{ "agents": { "defaults": { "workspace": "/w" }, "entries": { "main": { "name": "main",
            "workspace": "/w", "agentDir": "/a", "identity": { "name": "main" } } } }, "plugins": { "entries":
            { "codex": { "config": { "sessionCatalog": { "enabled": false } } } } },
            "meta": { "migrations": { "x": true }, "lastTouchedVersion": "2026.9.6" },
            "gateway": { "mode": "local" } }"#;
        put("openclaw.json", config);
        put("openclaw.json.bak", config);
        put("config-journal-fingerprint.key", "k");
        put("cache/x", "x");
        put("tmp/openclaw-0/gateway.lock.sqlite", "x");
        put("workspace/BOOTSTRAP.md", "wake up");
        put("workspace/SOUL.md", "soul");
        put("workspace/.git/HEAD", "ref: refs/heads/master");
        put("workspace/.git/hooks/commit-msg.sample", "#!/bin/sh");
        fs::create_dir_all(temp.path().join("workspace/.git/objects/pack")).unwrap();
        fs::create_dir_all(temp.path().join("agents/main/sessions")).unwrap();
        fs::create_dir_all(temp.path().join("state")).unwrap();
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(b"soul"));
        state(&temp)
            .execute_batch(&format!(
                "PRAGMA journal_mode=wal;
                 CREATE TABLE schema_meta (meta_key TEXT PRIMARY KEY) STRICT;
                 CREATE TABLE cron_jobs (store_key TEXT, declaration_key TEXT) STRICT;
                 CREATE TABLE task_runs (id TEXT) STRICT;
                 CREATE TABLE workspace_setup_state (workspace_key TEXT, setup_completed_at TEXT) STRICT;
                 CREATE TABLE workspace_generated_bootstrap_hashes (filename TEXT, sha256 TEXT) STRICT;
                 INSERT INTO schema_meta VALUES ('primary');
                 INSERT INTO cron_jobs VALUES ('/x', 'heartbeat:main');
                 INSERT INTO workspace_setup_state VALUES ('k', NULL);
                 INSERT INTO workspace_generated_bootstrap_hashes VALUES ('SOUL.md', '{hash}');"
            ))
            .unwrap();
        temp
    }

    fn state(temp: &tempfile::TempDir) -> Connection {
        Connection::open(temp.path().join("state/openclaw.sqlite")).unwrap()
    }

    fn sign(temp: &tempfile::TempDir, profile: Profile) -> Option<String> {
        let dir = Dir::open(temp.path()).unwrap();
        let sign = profile.sign_of_use(&dir, temp.path(), &[b".ours"]).unwrap();
        sign.map(|sign| format!("{} {}", sign.path, sign.what))
    }

    #[test]
    fn what_setup_leaves_is_no_use() {
        let temp = fresh();
        assert_eq!(sign(&temp, Profile::OpenClaw), None);
        // To an application that nobody knows all of it may be dear.
        assert!(sign(&temp, Profile::None).is_some());
        let empty = tempfile::tempdir().unwrap();
        fs::create_dir_all(empty.path().join("lost+found")).unwrap();
        fs::create_dir_all(empty.path().join("a/b")).unwrap();
        fs::create_dir_all(empty.path().join(".ours/c")).unwrap();
        fs::write(empty.path().join(".ours/c/file"), "x").unwrap();
        assert_eq!(sign(&empty, Profile::None), None);
        fs::write(empty.path().join("a/b/file"), "").unwrap();
        assert_eq!(sign(&empty, Profile::None).unwrap(), "a/b/file is there");
    }

    #[test]
    fn whatever_a_person_did_is_seen() {
        for (name, text, want) in [
            ("workspace/MEMORY.md", "x", "workspace/MEMORY.md is not as setup wrote it"),
            ("workspace/SOUL.md", "my soul", "workspace/SOUL.md is not as setup wrote it"),
            ("workspace/.git/index", "x", "workspace/.git/index is there"),
            ("workspace/.git/objects/ab/cd", "x", "workspace/.git/objects/ab/cd is there"),
            ("openclaw.json", "{ channels: { x: 1 } }", "openclaw.json sets channels.x"),
            ("openclaw.json", "{ agents: { defaults: { model: 'm' } } }", "sets agents.defaults.model"),
            ("openclaw.json.bak.1", "{ a", "openclaw.json.bak.1 not JSON5"),
            ("agents/main/sessions/a.jsonl", "{}", "agents/main/sessions/a.jsonl is there"),
            ("state/openclaw-quarantine.sqlite", "", "is there"),
            ("agents/main/agent/openclaw-agent.sqlite", "no database", "cannot be looked into"),
            ("credentials/x", "x", "credentials/x is there"),
            ("notes", "x", "notes is there"),
        ] {
            let temp = fresh();
            fs::create_dir_all(temp.path().join(name).parent().unwrap()).unwrap();
            fs::write(temp.path().join(name), text).unwrap();
            let found = sign(&temp, Profile::OpenClaw).unwrap_or_default();
            assert!(found.contains(want), "{name}: {found:?}");
        }
        let temp = fresh();
        std::os::unix::fs::symlink("/etc", temp.path().join("link")).unwrap();
        assert_eq!(sign(&temp, Profile::OpenClaw).unwrap(), "link is there");
    }

    #[test]
    fn rows_of_a_user_are_seen_also_in_a_log() {
        for (sql, table) in [
            ("INSERT INTO task_runs VALUES ('1')", "task_runs"),
            ("INSERT INTO cron_jobs VALUES ('/x', NULL)", "cron_jobs"),
            ("INSERT INTO cron_jobs VALUES ('/x', 'mine')", "cron_jobs"),
            ("UPDATE workspace_setup_state SET setup_completed_at = '2026'", "workspace_setup_state"),
            ("CREATE TABLE new (a); INSERT INTO new VALUES (1)", "new"),
        ] {
            let temp = fresh();
            let db = state(&temp);
            db.execute_batch(sql).unwrap();
            // Held open, so that the row is in the log only.
            let found = sign(&temp, Profile::OpenClaw).unwrap_or_default();
            assert_eq!(found, format!("state/openclaw.sqlite has rows in {table}"));
            drop(db);
            assert!(sign(&temp, Profile::OpenClaw).is_some());
        }
        let temp = fresh();
        fs::create_dir_all(temp.path().join("agents/a/agent")).unwrap();
        let agent = Connection::open(temp.path().join("agents/a/agent/openclaw-agent.sqlite")).unwrap();
        agent
            .execute_batch(
                "CREATE TABLE schema_meta (a); INSERT INTO schema_meta VALUES (1); CREATE TABLE s (a)",
            )
            .unwrap();
        assert_eq!(sign(&temp, Profile::OpenClaw), None);
        agent.execute_batch("INSERT INTO s VALUES (1)").unwrap();
        assert!(sign(&temp, Profile::OpenClaw).unwrap().ends_with("has rows in s"));
    }
}
