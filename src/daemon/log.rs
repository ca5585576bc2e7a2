//! One line for each event, as text or as JSON, for people, for the journal, and for programs.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::clock::Clock;

/// Longest line, in bytes, before it is cut.
const MAX_LINE: usize = 8_000;

/// How much an event matters, as `syslog(3)` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something did not work.
    Error,
    /// Somebody should look at it.
    Warning,
    /// What was done.
    Info,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// What the journal reads at the beginning of a line.
    fn prefix(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warning => "<4>",
            Self::Info => "<6>",
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// JSON instead of text.
    pub json: bool,
    /// The journal reads: it knows the time itself, and wants to be told the level.
    pub journal: bool,
}

/// Where the lines go.
pub struct Log {
    out: Mutex<(Style, Box<dyn Write + Send>)>,
    clock: Arc<dyn Clock>,
}

impl Log {
    /// A log that writes to `out`.
    #[must_use]
    pub fn new(style: Style, out: Box<dyn Write + Send>, clock: Arc<dyn Clock>) -> Self {
        Self { out: Mutex::new((style, out)), clock }
    }

    /// From now on lines look like this.
    pub fn restyle(&self, json: bool) {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).0.json = json;
    }

    /// Writes one event: its name, what it is about in fields, and the same in words.
    pub fn event(&self, level: Level, event: &str, fields: &[(&str, Value)], message: &str) {
        let now = jiff::Timestamp::from_second(self.clock.now().secs).unwrap_or_default();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let (style, out) = &mut *out;
        let line = render(*style, level, event, fields, message, now);
        // Whoever read it is gone; the records tell what was done all the same.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }

    /// The same in words only.
    pub fn say(&self, level: Level, event: &str, message: &str) {
        self.event(level, event, &[], message);
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    level: &'static str,
    event: &'a str,
    #[serde(flatten)]
    fields: BTreeMap<&'a str, &'a Value>,
    message: &'a str,
}

fn render(
    style: Style,
    level: Level,
    event: &str,
    fields: &[(&str, Value)],
    message: &str,
    now: jiff::Timestamp,
) -> String {
    let body = if style.json {
        let time = (!style.journal).then(|| now.to_string());
        let fields = fields.iter().map(|(name, value)| (*name, value)).collect();
        let line = Line { time, level: level.name(), event, fields, message: cut(message) };
        serde_json::to_string(&line).unwrap_or_default()
    } else {
        let text = plain(cut(message));
        if style.journal { text } else { format!("{now} {}: {text}", level.name()) }
    };
    format!("{}{body}\n", if style.journal { level.prefix() } else { "" })
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_LINE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One line, whatever the text comes from: no breaks, and nothing that a terminal would obey.
fn plain(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn lines_are_one_line_in_every_style() {
        let now = jiff::Timestamp::from_second(0).unwrap();
        let line = |json, journal, message: &str| {
            let style = Style { json, journal };
            render(style, Level::Error, "job-ended", &[("job", "backup".into())], message, now)
        };
        assert_eq!(line(false, false, "a\nb\x1b[31m"), "1970-01-01T00:00:00Z error: a b [31m\n");
        assert_eq!(line(false, true, "a"), "<3>a\n");
        assert_eq!(
            line(true, false, "a\nb"),
            r#"{"time":"1970-01-01T00:00:00Z","level":"error","event":"job-ended","job":"backup","message":"a\nb"}"#
                .to_owned()
                + "\n"
        );
        assert_eq!(
            line(true, true, "a"),
            "<3>".to_owned() + r#"{"level":"error","event":"job-ended","job":"backup","message":"a"}"# + "\n"
        );
        assert!(line(false, true, &"é".repeat(MAX_LINE)).len() <= MAX_LINE + 4);
    }
}
