//! Which processes have a file open.

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of its program, as the system shortens it.
    pub name: String,
}

/// The other processes that have the file with this device and inode number open, as far as this process
/// may see: those of the same user, or all for root. Empty where the system does not tell (it needs
/// Linux's `/proc`).
#[must_use]
pub fn holders(identity: (u64, u64)) -> Vec<Holder> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return linux(identity);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = identity;
        Vec::new()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn linux(identity: (u64, u64)) -> Vec<Holder> {
    use std::os::unix::fs::MetadataExt;

    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let open = files.flatten().any(|file| {
            std::fs::metadata(file.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == identity)
        });
        if open {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name = name.chars().filter(|c| !c.is_control()).collect();
            found.push(Holder { pid, name });
        }
    }
    found
}

/// True while a process of this number exists.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    // A process of somebody else's exists too.
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn who_has_a_file_open_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let identity = crate::fs::stat_file(file.as_file()).unwrap().identity();
        assert_eq!(holders(identity), [], "this process does not count");
        let mut child = std::process::Command::new("cat")
            .arg("-")
            .stdin(std::process::Stdio::piped())
            .stdout(file.reopen().unwrap())
            .spawn()
            .unwrap();
        let found = holders(identity);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [child.id()]);
        assert_eq!(holders(identity), []);
        assert!(is_running(std::process::id()) && !is_running(child.id()) && !is_running(0));
    }
}
