//! Running a program that is not waited for without end, and that says no more than we listen to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::clock::Clock;
use crate::fs;
use crate::model::SECRET_VARIABLES;

/// Longest line of a program that says little, in bytes; longer ones are left out.
pub(super) const LINE: usize = 1 << 20;
/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What it started may hold its outputs open when it has ended; that is not waited for.
const FAREWELL: Duration = Duration::from_millis(500);
/// Lines on their way to us, at most.
const QUEUE: usize = 64;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// When a program is ended by us.
pub(super) struct Limits<'a> {
    /// Set when everything shall end.
    pub(super) stop: &'a AtomicBool,
    /// How long it may take in all.
    pub(super) time: Option<Duration>,
    /// How long it has, once it was asked to end, before it is made to.
    pub(super) grace: Duration,
    /// Longest line that is kept, in bytes; longer ones come out empty.
    pub(super) line: usize,
}

/// A program that is not ours, and gets none of our secrets.
pub(super) fn stranger(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    command
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` when it did not end by itself.
    pub(super) status: Option<ExitStatus>,
    /// It was asked to end since everything shall.
    pub(super) stopped: bool,
    /// It took too long.
    pub(super) timed_out: bool,
    pub(super) took: Duration,
}

impl Ended {
    /// In words, for one that did not end well.
    pub(super) fn words(&self) -> String {
        match self.status {
            _ if self.timed_out => "it took too long and was ended".to_owned(),
            _ if self.stopped => "it was stopped".to_owned(),
            // `exit status: 3`, or `signal: 9 (SIGKILL)`.
            Some(status) => format!("it ended with {status}"),
            None => "it could not be ended".to_owned(),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.status.is_some_and(|status| status.success()) && !self.timed_out
    }
}

/// Runs a program in a process group of its own, hands it `input`, and every line of its outputs to `line`.
/// `started` gets its number.
pub(super) fn run(
    command: &mut Command,
    input: &[u8],
    limits: &Limits<'_>,
    clock: &dyn Clock,
    started: impl FnOnce(u32),
    mut line: impl FnMut(Stream, &[u8]),
) -> io::Result<Ended> {
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut child = command.spawn()?;
    let begun = clock.monotonic();
    started(child.id());
    let lines = listen(&mut child, input, limits.line);
    let mut ended = Ended { status: None, stopped: false, timed_out: false, took: Duration::ZERO };
    let mut asked: Option<Duration> = None;
    loop {
        let now = clock.monotonic();
        ended.took = now.saturating_sub(begun);
        if let Some(status) = child.try_wait()? {
            ended.status = Some(status);
            break;
        }
        if asked.is_none() {
            ended.stopped = limits.stop.load(Ordering::SeqCst);
            ended.timed_out = limits.time.is_some_and(|most| ended.took > most);
            if ended.stopped || ended.timed_out {
                fs::stop_group(child.id(), limits.grace.is_zero());
                asked = Some(now);
            }
        } else if asked.is_some_and(|asked| now.saturating_sub(asked) > limits.grace) {
            fs::stop_group(child.id(), true);
            // One that waits for a dead disk cannot be ended.
            if asked.is_some_and(|asked| now.saturating_sub(asked) > limits.grace + FAREWELL) {
                break;
            }
        }
        match lines.recv_timeout(LOOK) {
            Ok((stream, text)) => line(stream, &text),
            Err(RecvTimeoutError::Timeout) => {}
            // It has closed its outputs, and may go on.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
    }
    let last = clock.monotonic();
    while clock.monotonic().saturating_sub(last) < FAREWELL {
        match lines.recv_timeout(LOOK) {
            Ok((stream, text)) => line(stream, &text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if ended.timed_out || ended.stopped {
        // What it left running has no master any more.
        fs::stop_group(child.id(), true);
    }
    Ok(ended)
}

type Line = (Stream, Vec<u8>);

/// Threads that end when the program's outputs do.
fn listen(child: &mut Child, input: &[u8], longest: usize) -> Receiver<Line> {
    let (sender, receiver) = bounded(QUEUE);
    if let Some(out) = child.stdout.take() {
        let sender = sender.clone();
        std::thread::spawn(move || forward(out, Stream::Out, longest, &sender));
    }
    if let Some(err) = child.stderr.take() {
        std::thread::spawn(move || forward(err, Stream::Err, longest, &sender));
    }
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // Who does not read it does not want it.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    receiver
}

fn forward(from: impl Read, stream: Stream, longest: usize, to: &Sender<Line>) {
    let mut reader = BufReader::new(from);
    while let Ok(Some(line)) = bounded_line(&mut reader, longest) {
        // Nobody listens any more; what follows is read all the same, so that the program is not held up.
        let _ = to.send((stream, line));
    }
}

/// The next line without its end; `None` at the end of all. Lines that are longer than `most` come out empty.
pub(super) fn bounded_line(reader: &mut impl BufRead, most: usize) -> io::Result<Option<Vec<u8>>> {
    let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if buffer.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        too_long |= line.len() + part.len() > most;
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::clock::SystemClock;

    fn shell(script: &str, input: &[u8], limits: &Limits<'_>) -> (Ended, Vec<(Stream, String)>) {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        let ended = run(
            &mut command,
            input,
            limits,
            &SystemClock::new(),
            |_| {},
            |stream, line| {
                lines.push((stream, String::from_utf8_lossy(line).into_owned()));
            },
        );
        (ended.unwrap(), lines)
    }

    #[test]
    fn lines_have_a_limit() {
        let mut reader = BufReader::with_capacity(3, b"ab\nabcdefgh\n\nx".as_slice());
        let mut next = || bounded_line(&mut reader, 4).unwrap();
        assert_eq!(next(), Some(b"ab".to_vec()));
        assert_eq!(next(), Some(vec![]));
        assert_eq!(next(), Some(vec![]));
        assert_eq!(next(), Some(b"x".to_vec()));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_program_is_heard_and_its_end_is_told() {
        let stop = AtomicBool::new(false);
        let limits = Limits { stop: &stop, time: None, grace: Duration::ZERO, line: LINE };
        let (ended, lines) = shell("cat; echo b >&2; exit 3", b"a\n", &limits);
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert!(!ended.is_good() && ended.words().contains('3'), "{}", ended.words());
        assert!(lines.contains(&(Stream::Out, "a".into())) && lines.contains(&(Stream::Err, "b".into())));
        // What it leaves behind with open outputs is not waited for.
        let (ended, _) = shell("sleep 1000 & exit 0", b"", &limits);
        assert!(ended.is_good());
    }

    #[test]
    fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
        let stop = AtomicBool::new(false);
        let grace = Duration::from_millis(50);
        let limits = Limits { stop: &stop, time: Some(Duration::from_millis(100)), grace, line: LINE };
        let (ended, lines) = shell("trap '' TERM; sleep 1000 & echo $!; wait; wait", b"", &limits);
        assert!(ended.timed_out && !ended.is_good(), "{ended:?}");
        let pid: u32 = lines[0].1.trim().parse().unwrap();
        // A dead process may still be listed until somebody takes note of it.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ") || !fs::is_running(pid), "{status}");

        stop.store(true, Ordering::SeqCst);
        let limits = Limits { stop: &stop, time: None, grace: Duration::from_secs(60), line: LINE };
        let (ended, lines) = shell("trap 'echo bye; exit 0' TERM; echo on; sleep 1000 & wait", b"", &limits);
        assert!(ended.stopped, "{lines:?}");
    }
}
