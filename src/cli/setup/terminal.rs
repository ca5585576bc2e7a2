//! The terminal of the wizard. Questions go to stderr, answers come from stdin, character by character: the terminal
//! is in a mode in which Ctrl-C is read as a key, so that it ends a question at once, whatever is hidden, and the
//! terminal is always left as it was found.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::error::CliError;
use crate::cli::text;
use crate::model::ErrorClass;

/// Longest answer, in bytes: a token of a drive has some thousand.
const LONGEST: usize = 16 << 10;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];
const CTRL_U: u8 = 21;
const ESCAPE: u8 = 27;

/// Asks and listens.
pub(super) struct Terminal {
    /// A signal asked to stop.
    cancelled: Arc<AtomicBool>,
}

/// What the user did instead of going on.
pub(super) fn interrupted() -> CliError {
    CliError::new(ErrorClass::Interrupted, "interrupted; nothing was changed")
}

impl Terminal {
    /// `None` where nobody can answer.
    pub(super) fn new(cancelled: Arc<AtomicBool>) -> Option<Self> {
        (io::stdin().is_terminal() && io::stderr().is_terminal()).then_some(Self { cancelled })
    }

    /// Says something.
    pub(super) fn say(&self, words: &str) {
        // A terminal that is gone will be noticed at the next question.
        let _ = writeln!(io::stderr().lock(), "{}", text::printable_lines(words));
    }

    /// Asks for a line; what is typed shows unless it is `hidden`. The end of the input is an interruption.
    pub(super) fn line(&self, prompt: &str, hidden: bool) -> Result<Zeroizing<String>, CliError> {
        let failed = |e: io::Error| CliError::failed(format!("cannot ask on the terminal: {e}"));
        let _raw = Raw::new().map_err(failed)?;
        let mut line = Line::new(hidden);
        echo(&text::printable(prompt.as_bytes())).map_err(failed)?;
        loop {
            if self.cancelled.load(Ordering::SeqCst) {
                echo("\r\n").map_err(failed)?;
                return Err(interrupted());
            }
            let mut bytes = Zeroizing::new([0u8; 256]);
            let stdin = io::stdin();
            // One byte at a time: what follows the end of a line is the answer to the next question.
            let read = match rustix::io::read(&stdin, &mut bytes[..1]) {
                Ok(read) => read,
                Err(rustix::io::Errno::INTR) => continue,
                // The terminal is gone.
                Err(_) => return Err(interrupted()),
            };
            if read == 0 {
                continue;
            }
            match line.take(bytes[0]) {
                Key::Nothing => {}
                Key::Shows(shown) => echo(&shown).map_err(failed)?,
                Key::Done => {
                    echo("\r\n").map_err(failed)?;
                    return Ok(line.text());
                }
                Key::Stop => {
                    echo("\r\n").map_err(failed)?;
                    return Err(interrupted());
                }
            }
        }
    }
}

fn echo(text: &str) -> io::Result<()> {
    let mut err = io::stderr().lock();
    err.write_all(text.as_bytes())?;
    err.flush()
}

/// What a byte did.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Nothing,
    /// To be written to the terminal.
    Shows(String),
    Done,
    Stop,
}

/// A line while it is typed.
struct Line {
    bytes: Zeroizing<Vec<u8>>,
    hidden: bool,
    /// Inside the code of a key that is no letter.
    escape: bool,
}

impl Line {
    fn new(hidden: bool) -> Self {
        // Never grown, so that no copy of a secret stays behind in freed memory.
        Self { bytes: Zeroizing::new(Vec::with_capacity(LONGEST)), hidden, escape: false }
    }

    fn take(&mut self, byte: u8) -> Key {
        if self.escape {
            // `ESC [ ... letter`
            self.escape = !(byte.is_ascii_alphabetic() || byte == b'~');
            return Key::Nothing;
        }
        match byte {
            b'\r' | b'\n' => Key::Done,
            CTRL_C => Key::Stop,
            CTRL_D if self.bytes.is_empty() => Key::Stop,
            ESCAPE => {
                self.escape = true;
                Key::Nothing
            }
            CTRL_U => {
                let count = std::str::from_utf8(&self.bytes).map_or(0, |text| text.chars().count());
                self.bytes.clear();
                self.shows("\u{8} \u{8}".repeat(count))
            }
            byte if BACKSPACE.contains(&byte) => {
                if self.bytes.is_empty() {
                    return Key::Nothing;
                }
                // The bytes of a character go together.
                while self.bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                self.shows("\u{8} \u{8}".to_owned())
            }
            byte if byte < b' ' || self.bytes.len() >= LONGEST => Key::Nothing,
            byte => {
                self.bytes.push(byte);
                // A character shows when it is whole.
                let tail = self.bytes.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0);
                match std::str::from_utf8(self.bytes.get(tail..).unwrap_or_default()) {
                    Ok(shown) => self.shows(shown.to_owned()),
                    Err(_) => Key::Nothing,
                }
            }
        }
    }

    fn shows(&self, shown: String) -> Key {
        if self.hidden { Key::Nothing } else { Key::Shows(shown) }
    }

    fn text(self) -> Zeroizing<String> {
        Zeroizing::new(String::from_utf8_lossy(&self.bytes).into_owned())
    }
}

/// The terminal in the mode for keys, until it is dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN);
        // A read returns after a tenth of a second, so that signals are noticed.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 1;
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn typed(bytes: &[u8], hidden: bool) -> (String, String, Key) {
        let mut line = Line::new(hidden);
        let (mut shown, mut last) = (String::new(), Key::Nothing);
        for &byte in bytes {
            match line.take(byte) {
                Key::Shows(text) => shown += &text,
                key => last = key,
            }
        }
        (line.text().to_string(), shown, last)
    }

    #[test]
    fn lines_are_edited() {
        assert_eq!(typed(b"ab\r", false), ("ab".into(), "ab".into(), Key::Done));
        assert_eq!(typed(b"ab\x7fc\n", false).0, "ac");
        assert_eq!(typed("é\u{7f}x\n".as_bytes(), false).0, "x");
        assert_eq!(typed("é\n".as_bytes(), false).1, "é");
        assert_eq!(typed(b"abc\x15d\n", false).0, "d");
        assert_eq!(typed(b"\x1b[A\x1b[3~x\x07\n", false).0, "x");
        assert_eq!(typed(b"\x7f\n", false).0, "");
        assert_eq!(typed(b"\xff\n", false).0, "\u{fffd}");
        assert_eq!(typed(&[b'x'; LONGEST + 9], false).0.len(), LONGEST);
    }

    #[test]
    fn secrets_do_not_show() {
        assert_eq!(typed(b"pass\x7fw\x15word\r", true), ("word".into(), String::new(), Key::Done));
    }

    #[test]
    fn control_c_and_the_end_of_the_input_stop() {
        assert_eq!(typed(b"ab\x03", false).2, Key::Stop);
        assert_eq!(typed(b"\x04", true).2, Key::Stop);
        assert_eq!(typed(b"a\x04", false).2, Key::Nothing);
    }
}
