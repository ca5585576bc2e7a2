//! Paths inside a snapshot, as users write them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use super::error::CliError;
use super::global::Context;
use super::text;
use crate::model::RepoPath;

/// Takes `a/b`, `./a/b`, `/a/b`, and for whoever let a shell complete the live file's name, the
/// absolute path of something in the state dir.
pub(super) fn parse(ctx: &Context, path: &OsStr) -> Result<RepoPath, CliError> {
    let state_dir = ctx.state_dir().ok();
    within(Path::new(path), state_dir.as_deref())
}

fn within(path: &Path, state_dir: Option<&Path>) -> Result<RepoPath, CliError> {
    let inside = state_dir.and_then(|dir| path.strip_prefix(dir).ok()).unwrap_or(path);
    let wrong = |e: String| CliError::usage(format!("{}: {e}", text::show(path)));
    let mut out = RepoPath::root();
    for part in inside.components() {
        match part {
            Component::Normal(name) => out = out.join(name.as_bytes()).map_err(|e| wrong(e.to_string()))?,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(wrong("`..` has no meaning inside a snapshot".to_owned())),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn users_write_paths_in_several_ways() {
        let within = |path: &str| within(Path::new(path), Some(Path::new("/h/.openclaw")));
        for (path, want) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/a/b", "a/b"),
            ("/h/.openclaw/a/b", "a/b"),
            ("/h/.openclaw", ""),
            ("/h/.openclaw2/a", "h/.openclaw2/a"),
            ("/", ""),
            (".", ""),
        ] {
            assert_eq!(within(path).unwrap().as_bytes(), want.as_bytes(), "{path}");
        }
        assert!(within("a/../b").is_err());
    }
}
