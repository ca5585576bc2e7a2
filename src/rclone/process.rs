//! Starting and ending the program.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::environment::Environment;
use super::fault::{Failure, Fault};
use super::target::{Settings, Target};

/// How often an ending process is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// rclone ends by itself when its input does.
const FAREWELL: Duration = Duration::from_secs(2);
/// It may still have to end uploads that it began.
const TERMINATION: Duration = Duration::from_millis(500);

/// rclone with the environment that it may have, in a process group of its own: a terminal's Ctrl-C is
/// for us, and we end rclone when we are done.
pub(super) fn prepare(settings: &Settings, environment: &Environment, target: Option<&Target>) -> Command {
    let mut command = Command::new(&settings.program);
    environment.apply(&mut command, target);
    command.process_group(0);
    command
}

/// Starts a prepared command; `program` and where it was looked for are part of the failure.
pub(super) fn start(
    command: &mut Command,
    program: &Path,
    environment: &Environment,
) -> Result<Child, Failure> {
    command.spawn().map_err(|e| {
        let setup = |message: String| Failure { message, fault: Fault::Setup };
        let shown = program.display();
        if e.kind() != io::ErrorKind::NotFound {
            return setup(format!("cannot start {shown}: {e}"));
        }
        if program.components().count() > 1 {
            return setup(format!("this remote needs the program rclone, and there is none at {shown}"));
        }
        let path = environment.search_path().unwrap_or_default();
        setup(format!("this remote needs the program rclone, and there is no {shown} in PATH ({path})"))
    })
}

/// A running program that is never left behind.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its number.
    #[cfg(test)]
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Waits for its end for so long.
    pub(super) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        for _ in 0..=(limit.as_millis() / LOOK.as_millis()) {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(LOOK);
        }
        None
    }

    /// Ends it at once. One that waits for a dead disk cannot be ended, and is not waited for without end.
    pub(super) fn kill(&mut self) {
        // It may have ended just now.
        self.0.kill().ok();
        self.wait(FAREWELL);
    }

    /// Lets it end by itself, then asks, then insists.
    pub(super) fn finish(&mut self) {
        if self.wait(FAREWELL).is_some() {
            return;
        }
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // It may have ended just now.
            kill_process(pid, Signal::TERM).ok();
        }
        if self.wait(TERMINATION).is_none() {
            self.kill();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}
