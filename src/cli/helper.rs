//! Programs of the system that hold secrets: their answers are bounded in size and in time.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

/// Most that is read as a passphrase.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// How long a program may take. Somebody may have to find a token or to type a PIN; what runs at night must not
/// wait for that for ever.
pub(super) const LIMIT: Duration = Duration::from_secs(300);
/// Between two looks whether a program has ended that has closed its output.
const LOOK: Duration = Duration::from_millis(5);

/// What a program said.
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) stdout: Zeroizing<Vec<u8>>,
    /// Empty unless it was piped.
    pub(super) stderr: Zeroizing<Vec<u8>>,
}

/// Runs a program that is given `input`, if any, and says what it printed. One that takes longer than `limit` is
/// killed. Its error output goes where the command says.
pub(super) fn ask(command: &mut Command, input: Option<&[u8]>, limit: Duration) -> io::Result<Answer> {
    command.stdout(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn()?;
    let answer = listen(&mut child, input, limit);
    if answer.is_err() {
        // It may go on printing, or waiting, for ever.
        let _ = child.kill();
        let _ = child.wait();
    }
    answer
}

fn listen(child: &mut Child, input: Option<&[u8]>, limit: Duration) -> io::Result<Answer> {
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        match stdin.write_all(input) {
            // It did not want it; how it ends says more.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e),
            _ => {}
        }
    }
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs()));
    let stdout = stdout.recv_timeout(limit).map_err(late)??;
    let stderr = stderr.recv_timeout(limit).map_err(late)??;
    let mut looks = limit.as_millis() / LOOK.as_millis();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Answer { status, stdout, stderr });
        }
        looks = looks.checked_sub(1).ok_or_else(|| late(mpsc::RecvTimeoutError::Timeout))?;
        thread::sleep(LOOK);
    }
}

/// Reads in a thread of its own, so that nobody waits longer than he wants to.
fn reader(from: Option<impl Read + Send + 'static>) -> mpsc::Receiver<io::Result<Zeroizing<Vec<u8>>>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let read = from.map_or_else(|| Ok(Zeroizing::default()), read_bounded);
        // Nobody listens any more when the time was up.
        let _ = send.send(read);
    });
    receive
}

/// The buffer never grows, so that no copy of a secret stays behind in freed memory.
pub(super) fn read_bounded(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 64));
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 64 KiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str, input: Option<&[u8]>, limit: Duration) -> io::Result<Answer> {
        ask(Command::new("sh").args(["-c", script]).stderr(Stdio::piped()), input, limit)
    }

    #[test]
    fn programs_are_given_input_and_heard() {
        let answer = shell("tr a-z A-Z; echo no >&2; exit 3", Some(b"secret"), LIMIT).unwrap();
        assert_eq!((&answer.stdout[..], &answer.stderr[..]), (&b"SECRET"[..], &b"no\n"[..]));
        assert_eq!(answer.status.code(), Some(3));
        assert!(shell("exec <&-; true", Some(&[b'x'; 4096]), LIMIT).unwrap().status.success());
    }

    #[test]
    fn who_does_not_answer_in_time_is_killed() {
        for script in ["exec tail -f /dev/null", "exec >/dev/null 2>&1; exec tail -f /dev/null"] {
            let error = shell(script, None, Duration::from_millis(20)).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{script}");
        }
    }

    #[test]
    fn reading_ends_at_the_limit() {
        assert_eq!(read_bounded(&vec![b'a'; MAX_BYTES][..]).unwrap().len(), MAX_BYTES);
        assert!(read_bounded(io::repeat(b'a')).is_err());
        assert!(shell("yes", None, LIMIT).is_err());
    }
}
