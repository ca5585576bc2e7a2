//! Whether OpenClaw's gateway runs on a state dir.
//!
//! The gateway keeps lock files, `gateway.state.lock` and `gateway.<hash>.lock`, in `tmp/openclaw-<uid>/` of
//! the state dir or of the system: JSON with its process id and the state dir, padded with blanks
//! (OpenClaw 2026.9).

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Deserialize;

use crate::fs::{self, Dir};

/// Longest lock file read, in bytes.
const MAX: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    pid: u32,
    state_dir: Option<String>,
}

/// The process id of a gateway that runs on the state dir `root`, if there is one.
#[must_use]
pub fn running_gateway(root: &Path) -> Option<u32> {
    // The lock in the state dir's own folder is about no other; one in the system's may be.
    let inside = locks(&root.join("tmp")).into_iter().find(|lock| fs::is_running(lock.pid));
    let about = |lock: &Lock| lock.state_dir.as_deref().is_some_and(|dir| same_dir(Path::new(dir), root));
    inside
        .or_else(|| locks(Path::new("/tmp")).into_iter().find(|lock| about(lock) && fs::is_running(lock.pid)))
        .map(|lock| lock.pid)
}

fn same_dir(a: &Path, b: &Path) -> bool {
    let identity = |path| fs::stat_path(path).map(|stat| stat.identity()).ok();
    a.as_os_str().as_bytes() == b.as_os_str().as_bytes()
        || identity(a).is_some_and(|a| Some(a) == identity(b))
}

fn locks(tmp: &Path) -> Vec<Lock> {
    let folder = format!("openclaw-{}", fs::effective_uid());
    let Ok(dir) = Dir::open(tmp).and_then(|tmp| tmp.open_dir(folder.as_bytes())) else { return Vec::new() };
    let names = dir.list().unwrap_or_default();
    let is_lock = |name: &&Vec<u8>| name.starts_with(b"gateway.") && name.ends_with(b".lock");
    names.iter().filter(is_lock).filter_map(|name| read(&dir, name)).collect()
}

fn read(dir: &Dir, name: &[u8]) -> Option<Lock> {
    let mut text = String::new();
    dir.open_regular(name).ok()?.0.take(MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(text.trim_matches(|c: char| c.is_whitespace() || c == '\0')).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_runs_while_its_process_does() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join(format!("tmp/openclaw-{}", fs::effective_uid()));
        assert_eq!(running_gateway(dir.path()), None);
        std::fs::create_dir_all(&locks).unwrap();
        let write = |text: &str| std::fs::write(locks.join("gateway.state.lock"), text).unwrap();
        let me = std::process::id();
        write(&format!("{{\"pid\":{me},\"startTime\":17,\"stateDir\":\"/x\",\"port\":1}}      \n"));
        assert_eq!(running_gateway(dir.path()), Some(me));
        for stale in ["{\"pid\":4194303,\"startTime\":1}", "", "{}", "{\"pid\":\"x\"}"] {
            write(stale);
            assert_eq!(running_gateway(dir.path()), None, "{stale}");
        }
    }
}
