//! Commands of rclone's that run once: for setup, diagnosis and scrubbing.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use super::environment::{Environment, REMOTE, Scrubber};
use super::fault::{Failure, Fault, classify};
use super::log::one_line;
use super::process::{Running, prepare, start};
use super::target::{Settings, Target};
use super::version::Version;

/// More than this of a command's output is an error: whoever wants more takes a listing apart.
const MAX_OUTPUT: u64 = 64 << 20;
const MAX_ERRORS: u64 = 64 << 10;
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error: one line, no secrets.
    pub stderr: String,
}

/// Runs `rclone ARGUMENTS` with `stdin` as its input. The target's place is [`REMOTE`] among the
/// arguments. A command that fails is no error here; one that does not end in time is.
pub fn command(
    target: &Target,
    environment: &Environment,
    arguments: &[&str],
    stdin: &[u8],
    limit: Duration,
) -> Result<Output, Failure> {
    let scrubber = environment.scrubber(target);
    run(&target.settings, environment, Some(target), &scrubber, arguments, stdin, limit)
}

/// Which version of rclone there is.
pub fn version(settings: &Settings, environment: &Environment) -> Result<Version, Failure> {
    let scrubber = Scrubber::default();
    let output = run(settings, environment, None, &scrubber, &["version"], b"", VERSION_LIMIT)?;
    Version::parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        let program = settings.program.display();
        let message = one_line(&format!("{program} does not answer as rclone does: {}", output.stderr));
        Failure { message, fault: Fault::Setup }
    })
}

fn run(
    settings: &Settings,
    environment: &Environment,
    target: Option<&Target>,
    scrubber: &Scrubber,
    arguments: &[&str],
    stdin: &[u8],
    limit: Duration,
) -> Result<Output, Failure> {
    let mut command = prepare(settings, environment, target);
    command.args(arguments).arg("--ask-password=false");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(&mut command, &settings.program, environment)?;
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut running = Running::new(child);
    std::thread::scope(|scope| {
        // A program that does not read its input has its reasons, which its output tells.
        scope.spawn(move || input.map(|mut input| input.write_all(stdin)));
        let out = scope.spawn(move || read(out, MAX_OUTPUT));
        let err = scope.spawn(move || read(err, MAX_ERRORS));
        let status = running.wait(limit);
        if status.is_none() {
            running.kill();
        }
        let gather = |reader: std::thread::ScopedJoinHandle<'_, Vec<u8>>| reader.join().unwrap_or_default();
        let (stdout, stderr) = (gather(out), scrubber.clean(&String::from_utf8_lossy(&gather(err))));
        let what = arguments.first().copied().unwrap_or_default();
        let failed = |message: String, fault| Err(Failure { message, fault });
        match status {
            None => {
                failed(format!("rclone {what} has not ended within {} s", limit.as_secs()), Fault::Transient)
            }
            Some(_) if stdout.len() as u64 > MAX_OUTPUT => {
                failed(format!("rclone {what} writes more than {MAX_OUTPUT} bytes"), Fault::Setup)
            }
            Some(status) => Ok(Output { code: status.code(), stdout, stderr }),
        }
    })
}

impl Output {
    /// The output of a command that succeeded; the failure of one that did not.
    pub fn success(self) -> Result<Vec<u8>, Failure> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        let fault = classify(&self.stderr);
        // rclone speaks of the remote by the name that we gave it, which tells people nothing.
        let message = self.stderr.replace(&format!("\"{REMOTE}\""), "the remote");
        Err(Failure { message, fault })
    }
}

/// Reads a little more than `max`, then lets the rest go by: a program must not wait for its reader.
fn read(from: Option<impl Read>, max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read before an error is what there is.
        drop((&mut from).take(max + 1).read_to_end(&mut bytes));
        drop(std::io::copy(&mut from, &mut std::io::sink()));
    }
    bytes
}
