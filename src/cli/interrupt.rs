//! What Ctrl-C, SIGTERM and SIGHUP do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::error::exit_code;
use crate::model::ErrorClass;

/// Ends the process. Only `main.rs` may name the function that does, and only an impatient user gets
/// here: objects are written whole or not at all, so what is lost is a temporary file.
pub(super) type Exit = fn(i32);

/// What the first signal does; a second one always ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnSignal {
    /// Asks the operation to stop where it is safe and to say what it did.
    Ask,
    /// Ends the process: there is nothing to finish.
    End,
}

/// Listens for signals from now on. Returns the flag that the first one sets.
///
/// A process has one listener: who listens again, a step of a longer work, gets the flag of the first.
///
/// Not under `nohup`: there a hangup must not reach us, and the three signals come as one. SIGTERM then
/// does what it always does, and a backup that is killed loses nothing that it published.
pub(super) fn listen(on_signal: OnSignal, exit: Exit) -> Arc<AtomicBool> {
    static LISTENER: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let cancelled = Arc::new(AtomicBool::new(false));
    if LISTENER.set(Arc::clone(&cancelled)).is_err() {
        return LISTENER.get().map_or(cancelled, Arc::clone);
    }
    let flag = Arc::clone(&cancelled);
    let handler = move || {
        if on_signal == OnSignal::End || flag.swap(true, Ordering::SeqCst) {
            exit(exit_code(ErrorClass::Interrupted).into());
        }
    };
    if !hangup_is_ignored() {
        // Without a handler a signal ends the process, which is safe too.
        drop(ctrlc::set_handler(handler));
    }
    cancelled
}

/// Only Linux says so without a system call that has no safe wrapper.
fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

fn ignores_hangup(status: &str) -> bool {
    // Signals are counted from 1, and SIGHUP is the first.
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_seen() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
