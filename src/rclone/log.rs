//! What rclone writes to its standard error: one JSON object a line, and now and then plain text.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;

/// Longer lines are cut: the reason stands at the beginning.
const MAX_LINE: usize = 16 * 1024;
/// Lines about objects that are kept; many times the number of requests under way.
const KEPT: usize = 256;
/// General complaints that are kept, for when rclone ends.
const COMPLAINTS: usize = 8;
/// A message is shown to people, in one line.
const MAX_MESSAGE: usize = 600;

/// One line of rclone's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// `debug`, `info`, `notice`, `warning`, `error`, `critical`; empty for plain text.
    pub level: String,
    /// What it says.
    pub message: String,
    /// The object or folder that it is about.
    pub object: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    object: Option<String>,
}

/// Understands one line. What is not JSON is plain text: rclone's last words, or those of Go's runtime.
#[must_use]
pub fn parse_line(line: &[u8]) -> Line {
    if let Ok(raw) = serde_json::from_slice::<Raw>(line) {
        return Line { level: raw.level, message: raw.msg, object: raw.object };
    }
    Line { level: String::new(), message: String::from_utf8_lossy(line).trim().to_string(), object: None }
}

/// Makes a message fit for people: one line, no control characters, not endless.
pub(super) fn one_line(message: &str) -> String {
    let words = message.split(|c: char| c.is_control() || c.is_whitespace()).filter(|w| !w.is_empty());
    let mut text = words.collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = text.char_indices().nth(MAX_MESSAGE) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

/// The last line that rclone writes about a failed request begins so, and what follows is the reason.
const FINAL: &[&str] = &[
    "GET request error: ",
    "Get request open error: ",
    "Get request: ",
    "HEAD request error: ",
    "Delete request error: ",
    "Delete request remove error: ",
    "Post request rcat error: ",
    "Post request: ",
    "list failed: ",
    "Didn't finish writing GET request ",
];
/// Further lines about one object, or one folder of a listing, that tell a reason, often in better words
/// than the last one.
const EARLIER: &[&str] = &["error listing: ", "Post request put error: "];
/// A folder went away while its parent was listed; rclone then ends the listing as if it were whole.
const VANISHED: &str = "error listing: directory not found";

fn after<'a>(message: &'a str, beginnings: &[&str]) -> Option<&'a str> {
    beginnings.iter().find_map(|b| message.strip_prefix(b))
}

/// True when a message shows the insides of rclone instead of words.
fn is_dump(reason: &str) -> bool {
    reason.contains(")(0x")
}

struct Kept {
    number: u64,
    object: String,
    message: String,
}

impl Kept {
    fn is_below(&self, folder: &str) -> bool {
        self.object.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }
}

#[derive(Default)]
struct State {
    number: u64,
    about: VecDeque<Kept>,
    complaints: VecDeque<String>,
    ended: bool,
}

/// The part of the log that may still be asked for. Bounded, whatever rclone writes.
#[derive(Default)]
pub(super) struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

/// A place in the log: what was written before it belongs to earlier requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(u64);

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until rclone closes its standard error.
    pub(super) fn follow(&self, stderr: impl Read) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut reader).take(MAX_LINE as u64).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let whole = line.ends_with(b"\n");
            self.add(if whole { parse_line(&line) } else { parse_cut(&line) });
            if !whole && skip_line(&mut reader).is_err() {
                break;
            }
        }
        self.state().ended = true;
        self.changed.notify_all();
    }

    fn add(&self, line: Line) {
        let mut state = self.state();
        state.number += 1;
        let number = state.number;
        match line.object {
            Some(object) if after(&line.message, FINAL).or(after(&line.message, EARLIER)).is_some() => {
                // Our own cancelling of an earlier request is not the reason for anything.
                if line.message.contains("context canceled") {
                    return;
                }
                if state.about.len() == KEPT {
                    state.about.pop_front();
                }
                state.about.push_back(Kept { number, object, message: line.message });
                self.changed.notify_all();
            }
            _ => {
                let complaint = matches!(line.level.as_str(), "" | "error" | "critical" | "fatal" | "panic");
                if complaint && !is_noise(&line.message) {
                    if state.complaints.len() == COMPLAINTS {
                        state.complaints.pop_front();
                    }
                    state.complaints.push_back(line.message);
                }
            }
        }
    }

    /// The end of the log now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.state().number)
    }

    /// The reason of a failed request on `object` that began at `mark`. The line may still be on its way
    /// when the answer is here; `patience` says whether to wait a little longer for it.
    pub(super) fn reason(
        &self,
        object: &str,
        mark: Mark,
        patience: &mut dyn FnMut() -> bool,
    ) -> Option<String> {
        const STEP: Duration = Duration::from_millis(100);
        let mut state = self.state();
        loop {
            let about = || state.about.iter().rev().filter(|k| k.number > mark.0);
            let last = about().filter(|k| k.object == object).find_map(|k| after(&k.message, FINAL));
            if last.is_some() || state.ended {
                let mut near = about().filter(|k| k.object == object || k.is_below(object));
                let earlier = near.find_map(|k| after(&k.message, EARLIER));
                let best = match (last, earlier) {
                    (Some(last), Some(earlier)) if is_dump(last) => Some(earlier),
                    (last, earlier) => last.or(earlier),
                };
                return best.map(str::to_string);
            }
            if !patience() {
                return None;
            }
            let before = state.number;
            let waited = self.changed.wait_timeout_while(state, STEP, |s| s.number == before && !s.ended);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// True when the listing of `folder` that began at `mark` may lack objects although it succeeded.
    pub(super) fn listing_lost_a_folder(&self, folder: &str, mark: Mark) -> bool {
        let state = self.state();
        state.about.iter().any(|k| k.number > mark.0 && k.is_below(folder) && k.message == VANISHED)
    }

    /// The last general complaint: what rclone said before it ended.
    pub(super) fn last_words(&self) -> Option<String> {
        self.state().complaints.back().map(|m| without_timestamp(m).to_string())
    }

    /// Waits until rclone has closed its standard error, so that its last words are all here.
    pub(super) fn wait_for_end(&self, limit: Duration) {
        let state = self.state();
        drop(self.changed.wait_timeout_while(state, limit, |s| !s.ended));
    }
}

/// Plain text that says nothing about a failure.
fn is_noise(message: &str) -> bool {
    message.is_empty()
        || message.contains(" DEBUG : ")
        || message.contains(" NOTICE: ")
        || message.contains("http: ")
}

/// Plain lines begin with the time of day, which is no part of the message.
fn without_timestamp(message: &str) -> &str {
    let digits =
        |text: &str, at: &[usize]| at.iter().all(|&i| text.as_bytes().get(i).is_some_and(u8::is_ascii_digit));
    match message.get(20..) {
        Some(rest) if digits(message, &[0, 1, 2, 3, 5, 6, 8, 9, 11, 12]) => rest.trim_start(),
        _ => message,
    }
}

/// A line that was cut is no JSON any more; its object and the beginning of its message are still there.
fn parse_cut(line: &[u8]) -> Line {
    let text = String::from_utf8_lossy(line);
    let field = |name: &str| {
        let rest = text.split_once(&format!("\"{name}\":\""))?.1;
        Some(rest.split_once("\",\"").map_or(rest, |(value, _)| value).to_string())
    };
    Line {
        level: field("level").unwrap_or_else(|| "debug".into()),
        message: field("msg").unwrap_or_default(),
        object: field("object"),
    }
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&b| b == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        let done = end.is_some() || buffer.is_empty();
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Log {
        let log = Log::default();
        log.follow(text.as_bytes());
        log
    }

    #[test]
    fn lines_of_both_versions_are_understood() {
        for line in [
            r#"{"level":"debug","msg":"GET request error: object not found","object":"packs/ab/nope","objectType":"string","source":"restic/restic.go:278","time":"2026-11-21T08:44:42.26"}"#,
            r#"{"time":"2026-11-21T08:43:53.99Z","level":"debug","msg":"GET request error: object not found","object":"packs/ab/nope","objectType":"string","source":"restic/restic.go:443"}"#,
        ] {
            let line = parse_line(line.as_bytes());
            assert_eq!(line.level, "debug");
            assert_eq!(line.message, "GET request error: object not found");
            assert_eq!(line.object.as_deref(), Some("packs/ab/nope"));
        }
        for (odd, message) in
            [(&b"panic: oops\n"[..], "panic: oops"), (b"\xff\xfe", "\u{fffd}\u{fffd}"), (b"", "")]
        {
            assert_eq!(parse_line(odd), Line { message: message.into(), ..Line::default() });
        }
    }

    #[test]
    fn the_reason_is_that_of_this_request() {
        let log = log(concat!(
            r#"{"level":"debug","msg":"GET request error: object not found","object":"a"}"#,
            "\n",
            r#"{"level":"debug","msg":"GET request error: read metadata failed: dial tcp: connection refused","object":"b"}"#,
            "\n",
        ));
        let never = &mut || false;
        assert_eq!(log.reason("a", Mark(0), never).as_deref(), Some("object not found"));
        assert_eq!(log.reason("a", Mark(1), never), None, "an earlier request's line");
        assert!(log.reason("b", Mark(1), never).unwrap().starts_with("read metadata failed"));
        assert_eq!(log.reason("c", Mark(0), never), None);
    }

    #[test]
    fn words_are_preferred_to_dumps() {
        let log = log(concat!(
            r#"{"level":"error","msg":"error listing: couldn't list files: dial tcp: connection refused","object":"index"}"#,
            "\n",
            r#"{"level":"error","msg":"list failed: &fmt.wrapError{msg:\"x\", err:(*url.Error)(0xc0006b9e30)} *fmt.wrapError","object":"index"}"#,
            "\n",
        ));
        let reason = log.reason("index", Mark(0), &mut || false).unwrap();
        assert_eq!(reason, "couldn't list files: dial tcp: connection refused");
    }

    #[test]
    fn folders_of_a_listing_are_seen() {
        let log = log(concat!(
            r#"{"level":"error","msg":"error listing: directory not found","object":"packs/ab"}"#,
            "\n",
            r#"{"level":"error","msg":"error listing: directory not found","object":"index"}"#,
            "\n",
        ));
        assert!(log.listing_lost_a_folder("packs", Mark(0)));
        assert!(!log.listing_lost_a_folder("packs", Mark(1)), "an earlier listing");
        assert!(!log.listing_lost_a_folder("index", Mark(0)), "a folder that is not there is empty");
        assert!(!log.listing_lost_a_folder("pack", Mark(0)));
    }

    #[test]
    fn memory_is_bounded() {
        let log = Log::default();
        let long = format!(
            "{{\"level\":\"error\",\"object\":\"long\",\"msg\":\"list failed: {}\"}}\nlast words\n",
            "x".repeat(1 << 20)
        );
        log.follow(long.as_bytes());
        assert!(log.reason("long", Mark(0), &mut || false).unwrap().len() < MAX_LINE);
        assert_eq!(log.last_words().as_deref(), Some("last words"));
        for i in 0..10_000 {
            log.add(Line {
                level: "error".into(),
                message: "list failed: x".into(),
                object: Some(i.to_string()),
            });
            log.add(Line { level: "error".into(), message: "x".into(), object: None });
        }
        let state = log.state();
        assert!(state.about.len() <= KEPT && state.complaints.len() <= COMPLAINTS);
    }

    #[test]
    fn last_words_have_no_time() {
        let log = log(
            "2026/11/21 08:45:03 Failed to create file system for \"exuviarepo:\": didn't find section in config file\n",
        );
        assert!(log.last_words().unwrap().starts_with("Failed to create"));
        let json = self::log(
            "{\"level\":\"critical\",\"msg\":\"Failed to create file system\",\"source\":\"cmd/cmd.go:102\"}\n",
        );
        assert_eq!(json.last_words().as_deref(), Some("Failed to create file system"));
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(
            one_line("Forbidden\n\tstatus code: 403,\u{1b}[31m x"),
            "Forbidden status code: 403, [31m x"
        );
        assert!(one_line(&"é".repeat(5000)).chars().count() <= MAX_MESSAGE + 3);
    }
}
