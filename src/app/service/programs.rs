//! Programs of the system that manage services: what they say is bounded in size and in time.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use super::Error;
use crate::model::SECRET_VARIABLES;

/// Most that is read of what a program says, in bytes; no crontab is larger.
const MAX: u64 = 1 << 20;
/// Starting a service takes no longer.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(5);
/// Longest message that is passed on, in characters.
const MESSAGE: usize = 300;

/// What a program said.
pub(super) struct Answer {
    pub(super) ok: bool,
    pub(super) stdout: Vec<u8>,
    /// One line.
    pub(super) stderr: String,
}

impl Answer {
    /// The first word of the first line.
    pub(super) fn word(&self) -> String {
        String::from_utf8_lossy(&self.stdout).split_whitespace().next().unwrap_or_default().to_owned()
    }
}

/// Runs programs, and remembers those that change something.
#[derive(Default)]
pub(super) struct Programs {
    /// Nothing is changed.
    pub(super) dry: bool,
    /// The commands that were run, or would be.
    pub(super) ran: Vec<String>,
}

impl Programs {
    /// Runs a program that only looks.
    pub(super) fn look(&self, program: &'static str, arguments: &[&str]) -> Result<Answer, Error> {
        run(program, arguments, None).map_err(|source| Error::Program { program, source })
    }

    /// Runs a program that changes something; what it says when it fails is the caller's to judge.
    pub(super) fn attempt(
        &mut self,
        program: &'static str,
        arguments: &[&str],
        input: Option<&[u8]>,
    ) -> Result<Answer, Error> {
        self.ran.push(spelled(program, arguments));
        if self.dry {
            return Ok(Answer { ok: true, stdout: Vec::new(), stderr: String::new() });
        }
        run(program, arguments, input).map_err(|source| Error::Program { program, source })
    }

    /// The same; it must succeed.
    pub(super) fn change(
        &mut self,
        program: &'static str,
        arguments: &[&str],
        input: Option<&[u8]>,
    ) -> Result<(), Error> {
        let answer = self.attempt(program, arguments, input)?;
        if answer.ok {
            return Ok(());
        }
        Err(Error::Command { command: spelled(program, arguments), message: answer.stderr })
    }
}

fn spelled(program: &str, arguments: &[&str]) -> String {
    let mut words = vec![program];
    words.extend(arguments);
    words.join(" ")
}

fn run(program: &str, arguments: &[&str], input: Option<&[u8]>) -> io::Result<Answer> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    // Words that we look for must not be translated.
    command.env("LC_ALL", "C");
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    // A terminal's Ctrl-C is for us: what it made us take back must not be cut short by it.
    command.process_group(0);
    let mut child = command.spawn()?;
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // A program that does not read its input has its reasons, which its output tells.
        scope.spawn(move || stdin.zip(input).map(|(mut stdin, input)| stdin.write_all(input)));
        let out = scope.spawn(move || read(out));
        let err = scope.spawn(move || read(err));
        let status = wait(&mut child);
        if status.is_err() {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
        }
        let gather = |reader: thread::ScopedJoinHandle<'_, Vec<u8>>| reader.join().unwrap_or_default();
        let (stdout, stderr) = (gather(out), gather(err));
        let status = status?;
        if stdout.len() as u64 > MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it says more than a MiB"));
        }
        let said = if stderr.trim_ascii().is_empty() { &stdout } else { &stderr };
        let mut stderr = one_line(&String::from_utf8_lossy(said));
        if stderr.is_empty() {
            stderr = status.to_string();
        }
        Ok(Answer { ok: status.success(), stdout, stderr })
    })
}

fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    for _ in 0..=(LIMIT.as_millis() / LOOK.as_millis()) {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(LOOK);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", LIMIT.as_secs())))
}

/// Reads a little more than is wanted, then lets the rest go by: a program must not wait for its reader.
fn read(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read before an error is what there is.
        drop((&mut from).take(MAX + 1).read_to_end(&mut bytes));
        drop(io::copy(&mut from, &mut io::sink()));
    }
    bytes
}

fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().map(plain).take(MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn programs_are_given_input_and_heard() {
        let answer = run("sh", &["-c", "tr a-z A-Z; echo no  way >&2; exit 3"], Some(b"said")).unwrap();
        assert_eq!((answer.ok, &answer.stdout[..], answer.stderr.as_str()), (false, &b"SAID"[..], "no way"));
        assert!(run("sh", &["-c", "exec <&-"], Some(&[b'x'; 1 << 17])).unwrap().ok);
        assert_eq!(run("/nowhere/at/all", &[], None).err().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(run("sh", &["-c", "head -c 2000000 /dev/zero"], None).is_err());
    }

    #[test]
    fn programs_do_not_hear_the_terminals_signals() {
        // The fifth field is the group, the first the process itself; none of ours has the name's parentheses.
        let answer =
            run("sh", &["-c", "cut -d ' ' -f 1,5 /proc/$$/stat 2>/dev/null || ps -o pid=,pgid= -p $$"], None);
        let said = String::from_utf8(answer.unwrap().stdout).unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!((words.len(), words.first()), (2, words.last()), "{said}");
    }

    #[test]
    fn a_dry_run_changes_nothing_and_tells_what_would_be_run() {
        let mut programs = Programs { dry: true, ..Programs::default() };
        programs.change("/nowhere/at/all", &["enable", "x"], None).unwrap();
        assert_eq!(programs.ran, ["/nowhere/at/all enable x"]);
        assert!(programs.look("/nowhere/at/all", &[]).is_err());
    }

    #[test]
    fn messages_are_one_short_line() {
        assert_eq!(one_line(" a\n\tb\u{1b}c "), "a b c");
        assert_eq!(one_line(&"x".repeat(1000)).len(), MESSAGE);
    }
}
