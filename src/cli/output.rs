//! Where words go. Results to stdout, everything else to stderr; a stream that nobody reads any more
//! is no fault; nothing from outside reaches a terminal unescaped.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::error::CliError;
use super::text;
use crate::config::Environment;
use crate::model::{ErrorClass, RepoPath};

/// How to speak, from flags and terminal.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) verbose: u8,
    /// A progress bar may be drawn on stderr.
    pub(super) bar: bool,
    color_out: bool,
    color_err: bool,
}

/// What a line on stderr is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Note,
    Warning,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Style {
    Bold,
    Dim,
    Red,
    Yellow,
}

/// A note, warning or error about one path, as `--json` shows it.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    /// Errors have one, like those that end a command; what sets them apart is the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(flatten)]
    path: Option<text::JsonPath>,
    message: &'a str,
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool, verbose: u8, progress: bool, env: &Environment) -> Self {
        let dumb = env.get("TERM").is_some_and(|term| term == "dumb");
        let color = !dumb && env.get("NO_COLOR").is_none();
        let terminal = io::stderr().is_terminal();
        Self {
            json,
            quiet,
            verbose,
            bar: progress && !json && !quiet && !dumb && terminal,
            color_out: color && io::stdout().is_terminal(),
            color_err: color && terminal,
        }
    }

    /// Whether names on stdout are read by a person rather than a program.
    pub(super) fn stdout_is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Colours a word of stdout.
    pub(super) fn paint(&self, style: Style, word: &str) -> String {
        paint(self.color_out, style, word)
    }

    /// Writes lines of results.
    pub(super) fn result(&self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        written(writeln!(out, "{text}").and_then(|()| out.flush()))
    }

    /// Writes the words about what was done, which a quiet run does without.
    pub(super) fn summary(&self, text: &str) -> Result<(), CliError> {
        if self.quiet { Ok(()) } else { self.result(text) }
    }

    /// Writes one JSON document on one line.
    pub(super) fn document(&self, document: &impl Serialize) -> Result<(), CliError> {
        let json = serde_json::to_string(document)
            .map_err(|e| CliError::failed(format!("cannot write the output: {e}")))?;
        self.result(&json)
    }

    /// Says something that is wanted now, whatever the verbosity, unless the run is quiet.
    pub(super) fn say(&self, message: &str) {
        if !self.quiet {
            self.announce(message);
        }
    }

    /// Says something that must not be missed, however quiet the run is.
    pub(super) fn announce(&self, message: &str) {
        if self.json {
            self.event(Level::Note, None, message);
        } else {
            err_line(&text::printable_lines(message));
        }
    }

    pub(super) fn warn(&self, message: &str) {
        self.line(Level::Warning, None, message);
    }

    /// A line about the work; `path` is that of an entry.
    pub(super) fn line(&self, level: Level, path: Option<&RepoPath>, message: &str) {
        if !self.shows(level) {
            return;
        }
        if self.json {
            return self.event(level, path, message);
        }
        let name = match level {
            Level::Note => level.name().to_owned(),
            Level::Warning => paint(self.color_err, Style::Yellow, level.name()),
            Level::Error => paint(self.color_err, Style::Red, level.name()),
        };
        let path = path.map(|path| text::show_entry(path) + ": ").unwrap_or_default();
        err_line(&format!("{name}: {path}{}", text::printable(message.as_bytes())));
    }

    pub(super) fn shows(&self, level: Level) -> bool {
        match level {
            Level::Note => self.verbose > 0,
            Level::Warning => !self.quiet,
            Level::Error => true,
        }
    }

    fn event(&self, level: Level, path: Option<&RepoPath>, message: &str) {
        let class = (level == Level::Error).then(|| ErrorClass::Failed.name());
        err_json(&Event { r#type: level.name(), class, path: path.map(Into::into), message });
    }

    /// The last words of a command that failed.
    pub(super) fn failure(&self, error: &CliError) {
        if self.json {
            return err_json(&error.document());
        }
        let name = paint(self.color_err, Style::Red, "exuvia");
        err_line(&format!("{name}: {}", text::printable_lines(&error.message)));
        for hint in &error.hints {
            err_line(&format!("hint: {}", text::printable_lines(hint)));
        }
    }
}

/// A pipe whose reader is gone took all it wanted.
pub(super) fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("cannot write the output: {e}")))
        }
        _ => Ok(()),
    }
}

/// There is nowhere left to report that stderr is closed.
fn err_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn err_json(document: &impl Serialize) {
    if let Ok(json) = serde_json::to_string(document) {
        err_line(&json);
    }
}

fn paint(color: bool, style: Style, word: &str) -> String {
    let code = match style {
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Red => "1;31",
        Style::Yellow => "1;33",
    };
    if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}

/// Columns as wide as their widest cell; the last one is not padded.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [usize],
}

impl Table {
    /// `right`: columns that are aligned to the right.
    pub(super) fn new(head: &[&str], right: &'static [usize]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()], right }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn render(&self, output: &Output) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines = Vec::with_capacity(self.rows.len());
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                let pad = " ".repeat(width - cell.chars().count());
                if self.right.contains(&column) {
                    line = line + &pad + cell;
                } else {
                    line = line + cell + &pad;
                }
            }
            let line = line.trim_end();
            lines.push(if number == 0 { output.paint(Style::Bold, line) } else { line.to_owned() });
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let output =
            Output { json: false, quiet: false, verbose: 0, bar: false, color_out: false, color_err: false };
        let mut table = Table::new(&["ID", "SIZE", "NAME"], &[1]);
        table.row(vec!["a".into(), "10 B".into(), "é".into()]);
        table.row(vec!["bcd".into(), "1 B".into(), String::new()]);
        assert_eq!(table.render(&output), "ID   SIZE  NAME\na    10 B  é\nbcd   1 B");
    }

    #[test]
    fn events_name_their_path_only_if_there_is_one() {
        let event =
            |path| serde_json::to_string(&Event { r#type: "note", class: None, path, message: "m" }).unwrap();
        assert_eq!(event(None), r#"{"type":"note","message":"m"}"#);
        let path = RepoPath::new(b"a/b".to_vec()).unwrap();
        assert_eq!(event(Some((&path).into())), r#"{"type":"note","path":"a/b","message":"m"}"#);
    }
}
