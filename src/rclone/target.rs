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

    /// The same remote in the folder above, and the name of this one there. None at the top of a remote.
    #[must_use]
    pub fn above(&self) -> Option<(Self, String)> {
        let spec = self.spec.expose().trim_end_matches('/');
        // The path is what follows the last colon, so that only it can have a slash after that.
        let at = spec.rfind(['/', ':'])?;
        let folder = spec.get(at + 1..).filter(|folder| !folder.is_empty())?;
        // A slash that ends the path is the root of a server; the home directory has none.
        let root = spec.get(..at).is_some_and(|above| above.ends_with(':'));
        let keeps = root || spec.as_bytes().get(at) == Some(&b':');
        let above = spec.get(..at + usize::from(keeps))?;
        let shown = self.display.trim_end_matches('/');
        let shown = shown.strip_suffix(folder).unwrap_or(shown);
        let display = if root { shown } else { shown.strip_suffix('/').unwrap_or(shown) }.to_string();
        Some((Self { spec: Secret::new(above.to_string()), display, ..self.clone() }, folder.to_string()))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_folder_above_is_of_the_same_remote() {
        let target = |spec: &str, display: &str| Target {
            spec: Secret::new(spec.to_string()),
            env: Vec::new(),
            display: display.to_string(),
            settings: Settings::default(),
        };
        for (spec, display, above, shown, folder) in [
            ("b2:x/y", "rclone:b2:x/y", "b2:x", "rclone:b2:x", "y"),
            ("b2:x/y/", "rclone:b2:x/y/", "b2:x", "rclone:b2:x", "y"),
            ("b2:x", "rclone:b2:x", "b2:", "rclone:b2:", "x"),
            (
                ":s3,endpoint='http://h:1/':x",
                "rclone::s3,…:x",
                ":s3,endpoint='http://h:1/':",
                "rclone::s3,…:",
                "x",
            ),
            ("sftp:/a", "rclone:sftp:/a", "sftp:/", "rclone:sftp:/", "a"),
        ] {
            let (parent, name) = target(spec, display).above().unwrap();
            assert_eq!(
                (parent.spec.expose(), parent.display.as_str(), name.as_str()),
                (above, shown, folder)
            );
        }
        assert!(target("b2:", "rclone:b2:").above().is_none());
    }
}
