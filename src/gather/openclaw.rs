//! What is known of an OpenClaw state dir: what to leave out, what is secret, where databases lie.
//!
//! Every pattern is anchored at a place that belongs to the application. A pattern that matched
//! anywhere would sooner or later drop something of the user's: `*.lock` drops `Cargo.lock`.

mod fresh;
mod places;

use std::path::Path;
use std::sync::LazyLock;

pub use fresh::Sign;
pub use places::{Holds, PLACES, Place, moved_files};

use super::anchored::Patterns;
use crate::fs::{Dir, FileKind};
use crate::model::RepoPath;

/// What application a state dir belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// None known: every file counts.
    #[default]
    None,
    /// OpenClaw, 2026.9 and the earlier trees that are still in use.
    OpenClaw,
}

/// Places where the application keeps databases.
const DATABASE_PLACES: [&str; 4] = ["state", "agents/*/agent", "agents/*/memory", "memory"];

/// Never to be opened, not even on request: databases that serve as locks. The application holds
/// them exclusively, and a lock of ours, however short, could make it believe that it has a rival.
const LOCKS: [&str; 3] =
    ["*.sqlite.generation-lock.sqlite", "*.generation-writer.sqlite", "*.reindex-lock.sqlite"];

/// Unfinished copies that the application makes beside its databases.
const COPIES: [&str; 3] = ["*.sqlite.backup-<uuid>", "*.sqlite.memory-reindex-<uuid>", "*.sqlite.tmp-<uuid>"];

/// Made anew by the application or its tools, or without meaning on another day: nothing here is the
/// user's.
const REBUILT: [&str; 17] = [
    "cache/",
    "plugin-skills/",
    "npm/",
    "npm-runtime/",
    "git/",
    "dev/",
    "tools/",
    "extensions/*/node_modules/",
    "sandbox/skills-workspaces/",
    "*.update-captures/",
    "*.sock",
    "*.pid",
    "state/*.sock",
    "state/*.pid",
    "browser/Singleton*",
    "browser/*/Singleton*",
    "browser/*/*/Singleton*",
];

/// Where secrets lie. The two kinds of database hold keys and sign-in data.
const SECRETS: [&str; 13] = [
    "openclaw.json*",
    ".env",
    ".env.*",
    "secrets.json",
    "secrets",
    "credentials",
    "identity",
    "state/*.sqlite*",
    "agents/*/agent/*.sqlite*",
    "agents/*/agent/auth*.json",
    "workspace/.env",
    "workspace-*/.env",
    "exec-approvals.json",
];

struct Compiled {
    never: Patterns,
    skip: Patterns,
    secrets: Patterns,
    databases: Patterns,
}

static OPENCLAW: LazyLock<Compiled> = LazyLock::new(|| {
    // A database is up to four files: itself and its `-wal`, `-shm`, `-journal`.
    let beside = |names: &[&str]| -> Vec<String> {
        let at = |place: &str, name: &str| [format!("{place}/{name}"), format!("{place}/{name}-*")];
        DATABASE_PLACES.iter().flat_map(|place| names.iter().flat_map(move |name| at(place, name))).collect()
    };
    let mut never = beside(&LOCKS);
    never.push("tmp/".to_owned());
    let mut skip = beside(&COPIES);
    skip.extend(REBUILT.iter().map(|&pattern| pattern.to_owned()));
    skip.extend(DATABASE_PLACES.iter().map(|place| format!("{place}/*.update-captures/")));
    Compiled {
        never: Patterns::new(never.iter().map(String::as_str)),
        skip: Patterns::new(skip.iter().map(String::as_str)),
        secrets: Patterns::new(SECRETS),
        databases: Patterns::new(DATABASE_GLOBS),
    }
});

/// Places of databases, as globs anchored at the root: see [`Profile::databases`].
pub const DATABASE_GLOBS: [&str; 4] =
    ["state/*.sqlite", "agents/*/agent/*.sqlite", "agents/*/memory/*.sqlite", "memory/*.sqlite"];

impl Profile {
    /// Tells from what is in a directory what application it belongs to.
    #[must_use]
    pub fn detect(dir: &Dir) -> Self {
        let is_file = |dir: &Dir, name: &[u8]| dir.stat_at(name).is_ok_and(|s| s.kind == FileKind::File);
        let state = || dir.open_dir(b"state").is_ok_and(|state| is_file(&state, b"openclaw.sqlite"));
        if is_file(dir, b"openclaw.json") || is_file(dir, b"clawdbot.json") || state() {
            Self::OpenClaw
        } else {
            Self::None
        }
    }

    /// The same, going by the directory's name too: `.openclaw`, `.openclaw-<profile>`, `.clawdbot`.
    #[must_use]
    pub fn detect_named(dir: &Dir, path: &Path) -> Self {
        match Self::of_name(path) {
            Self::None => Self::detect(dir),
            known => known,
        }
    }

    /// The same, going by nothing but the name, for a directory that need not exist.
    #[must_use]
    pub fn of_name(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == ".openclaw" || name == ".clawdbot" || name.starts_with(".openclaw-") {
            return Self::OpenClaw;
        }
        Self::None
    }

    /// The word used on the command line and in a snapshot's selection.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OpenClaw => "openclaw",
        }
    }

    /// True for what should not lie about readable: a restore keeps it to the owner.
    #[must_use]
    pub fn is_secret(self, path: &RepoPath) -> bool {
        self.compiled().is_some_and(|c| c.secrets.covers(path))
    }

    /// True for what a walk with this profile leaves out: what the application makes anew, and its
    /// lock databases.
    #[must_use]
    pub fn leaves_out(self, path: &RepoPath) -> bool {
        self.compiled().is_some_and(|c| c.never.covers(path) || c.skip.covers(path))
    }

    /// The databases in the places known to the application, in manifest order. They are captured
    /// before anything else, because other files are written after, and refer to, what is in them.
    /// Databases elsewhere are found by their content during the walk.
    #[must_use]
    pub fn databases(self, root: &Dir) -> Vec<RepoPath> {
        let Some(compiled) = self.compiled() else { return Vec::new() };
        let mut found = compiled.databases.files(root);
        found.retain(|path| !self.leaves_out(path));
        found
    }

    /// Patterns that no rule of the user can bring back.
    pub(super) fn never(self) -> Patterns {
        self.compiled().map(|c| c.never.clone()).unwrap_or_default()
    }

    /// Patterns that the user's rules may override.
    pub(super) fn skip(self) -> Patterns {
        self.compiled().map(|c| c.skip.clone()).unwrap_or_default()
    }

    fn compiled(self) -> Option<&'static Compiled> {
        match self {
            Self::None => None,
            Self::OpenClaw => Some(&OPENCLAW),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use super::*;
    use crate::gather::{Found, Gather, RuleOptions, Rules, SkipReason, TreeWalk, WalkOptions};

    const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn path(s: &str) -> RepoPath {
        RepoPath::new(s.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_applications_leftovers_are_left_out() {
        for place in ["state", "agents/main/agent", "agents/main/memory", "memory"] {
            for name in [
                "openclaw.sqlite.generation-lock.sqlite".to_owned(),
                "openclaw.sqlite.generation-lock.sqlite-journal".to_owned(),
                "x.generation-writer.sqlite".to_owned(),
                "main.reindex-lock.sqlite".to_owned(),
                format!("openclaw.sqlite.backup-{UUID}"),
                format!("main.sqlite.memory-reindex-{UUID}-wal"),
                format!("main.sqlite.tmp-{UUID}"),
                "x.update-captures/file".to_owned(),
            ] {
                assert!(Profile::OpenClaw.leaves_out(&path(&format!("{place}/{name}"))), "{place}/{name}");
            }
        }
        for other in [
            "tmp/openclaw-0/gateway.state.lock",
            "cache/x",
            "plugin-skills/a",
            "npm/a",
            "npm-runtime/a",
            "git/a",
            "dev/a",
            "tools/a",
            "extensions/x/node_modules/a/b.js",
            "sandbox/skills-workspaces/a",
            "gateway.sock",
            "gateway.pid",
            "browser/main/user-data/SingletonLock",
        ] {
            assert!(Profile::OpenClaw.leaves_out(&path(other)), "{other}");
            assert!(!Profile::None.leaves_out(&path(other)), "{other}");
        }
    }

    #[test]
    fn what_is_the_users_stays() {
        for kept in [
            "workspace/Cargo.lock",
            "workspace/poetry.lock",
            "workspace/notes.tmp.md",
            "workspace/tmp/x",
            "workspace/cache/x",
            "workspace/git/x",
            "workspace/app/node_modules/x/index.js",
            "workspace/server.pid",
            "workspace/memory/main.reindex-lock.sqlite",
            "workspace-2/tools/x",
            "gateway.lock",
            "cron/jobs.json.tmp",
            "agents/main/sessions/x.jsonl.lock",
            "agents/main/sessions/cold/abc.jsonl.zst",
            "state/openclaw.sqlite",
            "state/openclaw.sqlite-wal",
            "state/openclaw.sqlite.backup-before-upgrade",
            "state/openclaw-quarantine.sqlite",
            "logs/x",
            "models/x",
            "completions/x",
            "media/x",
            "extensions/x/index.js",
            "openclaw.json.last-good",
            "sandbox/x",
        ] {
            assert!(!Profile::OpenClaw.leaves_out(&path(kept)), "{kept}");
        }
    }

    #[test]
    fn secrets_are_known() {
        for secret in [
            "openclaw.json",
            "openclaw.json.bak.2",
            ".env",
            "secrets.json",
            "credentials/telegram/x",
            "identity/device.json",
            "state/openclaw.sqlite-wal",
            "agents/main/agent/openclaw-agent.sqlite",
        ] {
            assert!(Profile::OpenClaw.is_secret(&path(secret)), "{secret}");
        }
        assert!(!Profile::OpenClaw.is_secret(&path("workspace/openclaw.json")));
        assert!(!Profile::None.is_secret(&path("openclaw.json")));
    }

    #[test]
    fn a_state_dir_is_known_by_what_is_in_it_or_by_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for name in ["plain", "old", "new", ".openclaw-work", ".openclaw", "link"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("old/openclaw.json"), b"{}").unwrap();
        fs::create_dir(at("new/state")).unwrap();
        fs::write(at("new/state/openclaw.sqlite"), b"").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", at("link/openclaw.json")).unwrap();
        let detect = |name: &str| Profile::detect(&Dir::open(&at(name)).unwrap());
        assert_eq!(detect("old"), Profile::OpenClaw);
        assert_eq!(detect("new"), Profile::OpenClaw);
        for other in ["plain", ".openclaw", "link"] {
            assert_eq!(detect(other), Profile::None, "{other}");
        }
        for name in [".openclaw", ".openclaw-work", "old"] {
            let dir = Dir::open(&at(name)).unwrap();
            assert_eq!(Profile::detect_named(&dir, &at(name)), Profile::OpenClaw);
        }
    }

    fn state() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for name in [
            "openclaw.json",
            "cache/x",
            "tmp/lock.sqlite",
            "state/openclaw.sqlite",
            "state/openclaw.sqlite-wal",
            "state/openclaw.sqlite.generation-lock.sqlite",
            "agents/b/agent/openclaw-agent.sqlite",
            "agents/a/memory/main.sqlite",
            "agents/a/memory/main.sqlite.d/x.sqlite",
            "memory/main.sqlite",
            "workspace/app.sqlite",
        ] {
            fs::create_dir_all(temp.path().join(name).parent().unwrap()).unwrap();
            fs::write(temp.path().join(name), b"").unwrap();
        }
        temp
    }

    #[test]
    fn databases_are_found_in_their_places_and_locks_are_not_among_them() {
        let temp = state();
        let dir = Dir::open(temp.path()).unwrap();
        let expected = [
            "agents/a/memory/main.sqlite",
            "agents/b/agent/openclaw-agent.sqlite",
            "memory/main.sqlite",
            "state/openclaw.sqlite",
        ];
        assert_eq!(Profile::OpenClaw.databases(&dir), expected.map(path));
        assert!(Profile::None.databases(&dir).is_empty());
    }

    #[test]
    fn the_user_may_bring_back_a_cache_but_not_a_lock() {
        let temp = state();
        let walk = |excludes: &[&str]| {
            let excludes = excludes.iter().map(|&e| e.to_owned()).collect();
            let profile = Profile::OpenClaw;
            let options = RuleOptions { excludes, profile, ..RuleOptions::default() };
            let rules = Rules::compile(&options).unwrap();
            let options = WalkOptions { rules, ..WalkOptions::default() };
            let mut walk = TreeWalk::new(temp.path(), options).unwrap();
            let mut skipped = Vec::new();
            while let Some(found) = walk.next() {
                if let Found::Skipped { path, reason } = found {
                    assert_eq!(reason, SkipReason::Excluded);
                    skipped.push(path);
                }
            }
            skipped
        };
        let lock = "state/openclaw.sqlite.generation-lock.sqlite";
        assert_eq!(walk(&[]), ["cache", lock, "tmp"].map(path));
        assert_eq!(walk(&["!cache/", "!*.sqlite", "!tmp/"]), [lock, "tmp"].map(path));
    }
}
