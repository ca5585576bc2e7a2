//! Which process is meant: numbers are given out again, also by containers that start anew.

use serde::{Deserialize, Serialize};

/// A process, told apart from later ones of the same number by what is known of its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, as the system counts; `None` where it does not tell.
    pub start: Option<u64>,
    /// Which start of which machine it belongs to; `None` where that is not known.
    pub boot: Option<String>,
}

impl Process {
    /// The process of this number, as it is now; `boot` is this start of this machine.
    #[must_use]
    pub fn of(pid: u32, boot: Option<String>) -> Self {
        Self { pid, start: started(pid), boot }
    }

    /// True while it runs; `boot` is this start of this machine. Where the system tells little, another process of
    /// the same number may be taken for it.
    #[must_use]
    pub fn is_alive(&self, boot: Option<&str>) -> bool {
        let same = |a: Option<&str>, b: Option<&str>| a.is_none() || b.is_none() || a == b;
        if !same(self.boot.as_deref(), boot) || !super::is_running(self.pid) {
            return false;
        }
        match (self.start, started(self.pid)) {
            (Some(then), Some(now)) => then == now,
            _ => true,
        }
    }

    /// Asks it to end, or ends it, if it is still the same.
    pub fn signal(&self, boot: Option<&str>, kill: bool) {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.is_alive(boot)) {
            let signal = if kill { rustix::process::Signal::KILL } else { rustix::process::Signal::TERM };
            // It may have ended just now.
            rustix::process::kill_process(pid, signal).ok();
        }
    }
}

/// Ends a process and all that it started in its group, or asks it alone to end.
pub fn stop_group(leader: u32, kill: bool) {
    let Some(pid) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) else { return };
    // They may have ended just now.
    if kill {
        rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
    } else {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
}

/// Makes a process, and the threads that it has, give way to others. False when that is not permitted.
pub fn give_way(leader: u32, nice: i32) -> bool {
    let pid = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::setpriority_pgrp(Some(pid), nice).is_ok())
}

/// Makes this process the first of a session of its own, so that it outlives whoever started it. False when
/// it is the first of a group already.
#[must_use]
pub fn own_session() -> bool {
    rustix::process::setsid().is_ok()
}

/// Ticks since the machine's start; field 22, counted after the name, which may hold anything.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn started(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn started(_: u32) -> Option<u64> {
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_a_process() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let boot = Some("boot".to_owned());
        let process = Process::of(child.id(), boot.clone());
        assert!(process.is_alive(boot.as_deref()) && process.is_alive(None));
        assert!(!process.is_alive(Some("another")), "of before the machine was started anew");
        let later = Process { start: process.start.map(|start| start + 1), ..process.clone() };
        assert!(!later.is_alive(boot.as_deref()) || process.start.is_none());
        later.signal(boot.as_deref(), true);
        process.signal(Some("another"), true);
        assert!(process.is_alive(boot.as_deref()));
        process.signal(boot.as_deref(), false);
        child.wait().unwrap();
        assert!(!process.is_alive(boot.as_deref()));
    }
}
