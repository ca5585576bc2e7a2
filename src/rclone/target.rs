//! Which remote rclone is to reach, and how.

use std::path::PathBuf;
use std::time::Duration;

use super::environment::with_slash;
pub use crate::model::Secret;

/// A place that rclone reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// `REMOTE:PATH` as rclone takes it. A connection string may hold secrets, so it reaches rclone by
    /// its environment.
    pub spec: Secret,
    /// Further variables of rclone's environment: a remote that our own configuration describes.
    pub env: Vec<(String, Secret)>,
    /// The place in words for people: no secrets in it.
    pub display: String,
    /// How rclone is run.
    pub settings: Settings,
}

impl Target {
    /// The same remote, in a folder below.
    #[must_use]
    pub fn below(&self, folder: &str) -> Self {
        Self {
            spec: Secret::new(format!("{}{folder}", with_slash(self.spec.expose()).expose())),
            display: format!("{}/{folder}", self.display.trim_end_matches('/')),
            ..self.clone()
        }
    }
}

/// How rclone is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The program: a path, or a name that is looked for in PATH.
    pub program: PathBuf,
    /// Bandwidth limit in rclone's words (`--bwlimit`), as `10M` or `512k:1M`.
    pub bwlimit: Option<String>,
    /// Requests to the service for each second at most (`--tpslimit`).
    pub tpslimit: Option<f64>,
    /// Requests under way at once.
    pub connections: usize,
    /// A request without any progress for this long has failed.
    pub idle_timeout: Duration,
    /// How long an operation goes on trying while nothing succeeds.
    pub deadline: Duration,
}

impl Settings {
    /// Requests under way at once, when nothing else is said.
    pub const CONNECTIONS: usize = 8;
    /// rclone itself tries an upload again within this time.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
    /// Long enough for a router to start again, short enough for a schedule of minutes.
    pub const DEADLINE: Duration = Duration::from_secs(15 * 60);
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            program: "rclone".into(),
            bwlimit: None,
            tpslimit: None,
            connections: Self::CONNECTIONS,
            idle_timeout: Self::IDLE_TIMEOUT,
            deadline: Self::DEADLINE,
        }
    }
}
