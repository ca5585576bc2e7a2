//! What Ctrl-C, SIGTERM and SIGHUP do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::exit_code;
use crate::model::ErrorClass;

/// Ends the process. Only `main.rs` may name the function that does, and only an impatient user gets
/// here: objects are written whole or not at all, so what is lost is a temporary file.
pub(super) type Exit = fn(i32);

/// What the first signal does; a second one ends the process, unless something is [held](hold).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnSignal {
    /// Asks the operation to stop where it is safe and to say what it did.
    Ask,
    /// Ends the process: there is nothing to finish.
    End,
}

/// So many signals end a process that takes back what it did: somebody means it.
const INSISTING: usize = 5;

/// What was begun must be brought to an end, or be taken back.
static HELD: AtomicBool = AtomicBool::new(false);

/// From now on the first signal asks, and those that follow change nothing: half of what is done or taken back would
/// be left. Who sends five of them ends the process nevertheless.
pub(super) fn hold() {
    HELD.store(true, Ordering::SeqCst);
}

/// Listens for signals from now on. Returns the flag that the first one sets.
///
/// A process has one listener: who listens again, a step of a longer work, gets the flag of the first.
///
/// Under `nohup` a hangup stays ignored.
pub(super) fn listen(on_signal: OnSignal, exit: Exit) -> Arc<AtomicBool> {
    static LISTENER: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let cancelled = Arc::new(AtomicBool::new(false));
    if LISTENER.set(Arc::clone(&cancelled)).is_err() {
        return LISTENER.get().map_or(cancelled, Arc::clone);
    }
    let flag = Arc::clone(&cancelled);
    let hangup = (!hangup_is_ignored()).then_some(SIGHUP);
    // Without a handler a signal ends the process, which is safe too.
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup)) {
        std::thread::spawn(move || {
            for (before, _) in signals.forever().enumerate() {
                flag.store(true, Ordering::SeqCst);
                if ends(on_signal, before + 1, HELD.load(Ordering::SeqCst)) {
                    exit(exit_code(ErrorClass::Interrupted).into());
                }
            }
        });
    }
    cancelled
}

/// Whether so many signals end the process.
fn ends(on_signal: OnSignal, signals: usize, held: bool) -> bool {
    match (on_signal, held) {
        (OnSignal::End, _) => true,
        (OnSignal::Ask, false) => signals >= 2,
        (OnSignal::Ask, true) => signals >= INSISTING,
    }
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

    #[test]
    fn what_is_held_ends_only_for_those_who_insist() {
        assert!(ends(OnSignal::End, 1, false));
        assert!(!ends(OnSignal::Ask, 1, false) && ends(OnSignal::Ask, 2, false));
        assert!(!ends(OnSignal::Ask, 4, true) && ends(OnSignal::Ask, 5, true));
    }
}
