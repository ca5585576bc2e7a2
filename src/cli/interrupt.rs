//! What Ctrl-C, SIGTERM and SIGHUP do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
/// Does nothing where a signal is ignored or handled already, as under `nohup`: who started us so
/// wants it so, and a backup that is killed loses nothing that it published.
pub(super) fn listen(on_signal: OnSignal, exit: Exit) -> Arc<AtomicBool> {
    let cancelled = Arc::new(AtomicBool::new(on_signal == OnSignal::End));
    let flag = Arc::clone(&cancelled);
    let handler = move || {
        if flag.swap(true, Ordering::SeqCst) {
            exit(exit_code(ErrorClass::Interrupted).into());
        }
    };
    drop(ctrlc::try_set_handler(handler));
    if on_signal == OnSignal::End { Arc::new(AtomicBool::new(false)) } else { cancelled }
}
