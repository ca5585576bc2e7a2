//! Where an OpenClaw state dir names itself, or the home it lies in, by absolute paths. Moved elsewhere
//! without these, it runs on, and the user's cron jobs, the workspace's setup or the list of plugins are
//! silently gone.
//!
//! Read from the schemas and the code of 2026.9.6 (state database 18, agent database 23). A version that
//! lacks a table or column has nothing there to be changed. Transcripts name directories too, as what
//! they were at the time: that is history and stays.

use std::sync::LazyLock;

use super::{Patterns, Profile};
use crate::fs::Dir;
use crate::model::RepoPath;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// One path.
    Path,
    /// JSON, in which some strings are paths.
    Json,
    /// The SHA-256, in lowercase hex, of a path that stands in a column of the first kind.
    Key,
}

/// A column of a database.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// Only rows in which this column has this value.
    pub only: Option<(&'static str, &'static str)>,
}

const fn place(table: &'static str, column: &'static str, holds: Holds) -> Place {
    Place { table, column, holds, only: None }
}

/// All places in databases.
pub const PLACES: [Place; 36] = [
    // The path of `cron/jobs.json`, a file that need not exist: jobs are looked up by it.
    place("cron_jobs", "store_key", Holds::Path),
    place("cron_run_receipts", "store_key", Holds::Path),
    place("cron_job_scratch", "store_key", Holds::Path),
    place("cron_job_runtime_authorities", "store_key", Holds::Path),
    place("workspace_setup_state", "workspace_path", Holds::Path),
    place("workspace_setup_state", "workspace_key", Holds::Key),
    place("workspace_generated_bootstrap_hashes", "workspace_key", Holds::Key),
    place("workspace_path_aliases", "alias_path", Holds::Path),
    place("workspace_path_aliases", "alias_key", Holds::Key),
    place("workspace_path_aliases", "workspace_path", Holds::Path),
    place("workspace_path_aliases", "workspace_key", Holds::Key),
    Place {
        table: "config_machine_state",
        column: "value_json",
        holds: Holds::Json,
        only: Some(("state_key", "plugins.installedIndex")),
    },
    place("config_health_entries", "config_path", Holds::Path),
    place("config_health_entries", "last_known_good_json", Holds::Json),
    place("config_health_entries", "last_promoted_good_json", Holds::Json),
    place("migration_sources", "source_path", Holds::Path),
    place("migration_sources", "report_json", Holds::Json),
    place("agent_databases", "path", Holds::Path),
    place("agent_database_leases", "path", Holds::Path),
    place("exec_approvals_config", "socket_path", Holds::Path),
    place("exec_approvals_config", "raw_json", Holds::Json),
    place("managed_outgoing_image_records", "original_media_root", Holds::Path),
    place("managed_outgoing_image_records", "record_json", Holds::Json),
    place("outbound_media_provenance", "realpath", Holds::Path),
    place("plugin_binding_approvals", "plugin_root", Holds::Path),
    place("sandbox_registry_entries", "entry_json", Holds::Json),
    place("session_groups", "cwd", Holds::Path),
    place("session_watch_cursors", "watcher_store_path", Holds::Path),
    place("skill_usage", "skill_file", Holds::Path),
    place("skill_workshop_proposal_rollbacks", "target_skill_file", Holds::Path),
    place("subagent_runs", "controller_store_path", Holds::Path),
    place("subagent_runs", "requester_store_path", Holds::Path),
    place("worktrees", "repo_root", Holds::Path),
    place("worktrees", "path", Holds::Path),
    // Of the agent databases. Whether an entry is valid does not hang on where its files lie, so what
    // triggers would note of a change is not wanted.
    place("session_nodes", "entry_json", Holds::Json),
    place("session_nodes", "legacy_acp_migration_json", Holds::Json),
];

/// JSON5 and JSON files whose strings are paths. The copies of the settings are what the application
/// falls back to; `sessions.json` is of the earlier trees.
const FILES: [&str; 6] = [
    "openclaw.json",
    "openclaw.json.last-good",
    "openclaw.json.bak*",
    "clawdbot.json",
    "exec-approvals.json",
    "agents/*/sessions/sessions.json",
];

/// The files that are there of a state dir and may name it, in manifest order.
#[must_use]
pub fn moved_files(profile: Profile, root: &Dir) -> Vec<RepoPath> {
    static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(FILES));
    if profile == Profile::OpenClaw { PATTERNS.files(root) } else { Vec::new() }
}
