//! The machine and the process.

use std::ffi::OsString;

use rustix::process::{Resource, Rlimit};

use super::OwnerNames;

/// Longest host or user name taken from the system.
const MAX_NAME: usize = 255;

/// Raises the number of files that this process may hold open as far as it is permitted, and tells it.
pub fn raise_open_file_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match rustix::process::setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        // macOS states "no limit" and refuses it; what was there before still holds.
        Err(_) => limit.current,
    };
    now.unwrap_or(u64::MAX)
}

/// Bytes that this user may still write to the file system that holds `path`.
pub fn free_bytes(path: &std::path::Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The variables that a program which we start would inherit.
#[must_use]
pub fn inherited_variables() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// The effective user id.
#[must_use]
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// True for root, who may give files to others and read what others may not.
#[must_use]
pub fn is_privileged() -> bool {
    effective_uid() == 0
}

fn bounded(mut name: String) -> String {
    name.retain(|c| !c.is_control());
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

/// The name of this machine.
#[must_use]
pub fn hostname() -> String {
    bounded(rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// What tells this machine from others: an id where the system has one, else its name.
#[must_use]
pub fn machine_id() -> String {
    let read = std::fs::read_to_string("/etc/machine-id").map(bounded).unwrap_or_default();
    if read.is_empty() { hostname() } else { read }
}

/// The name of the user that runs this process: from the environment, else from the database of
/// users, else the number.
#[must_use]
pub fn user_name() -> String {
    let named = |key: &str| std::env::var(key).ok().map(bounded).filter(|name| !name.is_empty());
    named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(|| {
        let uid = effective_uid();
        OwnerNames::load().user(uid).map_or_else(|| uid.to_string(), str::to_owned)
    })
}

/// Runs `f` in a thread without root's powers, so that tests of permissions hold for whoever runs
/// them. Files that `f` needs must be open to everyone.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn without_privilege<T: Send>(f: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if is_privileged() {
                // For this thread only: the system call knows no process.
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody)?;
            }
            Ok(f())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
