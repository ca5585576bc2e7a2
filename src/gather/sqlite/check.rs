//! Integrity checks, lenient towards what this SQLite does not have.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};

use super::CaptureError;
use super::capture::{classify, harden, resolve, uri};
use super::vfs::{forget_modules, open_source};

/// Messages kept of each kind, and their length in characters.
const MAX_MESSAGES: usize = 5;
const MAX_MESSAGE: usize = 200;

/// How errors begin that complain about our SQLite and not about the database: modules, functions,
/// collations and tokenizers that only the application registers, and what its schema may not use
/// here. Only the beginning counts: the rest may quote names from the schema.
const MISSING: [&str; 9] = [
    "no such module: ",
    "no such function: ",
    "unknown function: ",
    "no such collation sequence: ",
    "unknown tokenizer: ",
    "no such tokenizer: ",
    "error in tokenizer constructor",
    "unsafe use of ",
    // All that FTS5 says of a tokenizer that it meets only when it checks its index.
    "SQL logic error",
];

/// The verdict on a database, and what could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Report {
    failures: Vec<String>,
    failure_count: usize,
    pub(super) notes: Vec<String>,
}

impl Report {
    fn fail(&mut self, message: &str) {
        self.failure_count += 1;
        if self.failures.len() < MAX_MESSAGES {
            self.failures.push(shorten(message));
        }
    }

    /// An error that ended the check of a table early.
    fn error(&mut self, table: &str, error: &rusqlite::Error) {
        let text = message(error);
        if !is_missing(&text) {
            self.fail(&text);
        } else if self.notes.len() < MAX_MESSAGES {
            self.notes.push(shorten(&format!("{table}: {text}")));
        }
    }

    pub(super) fn verdict(&self) -> Result<(), String> {
        if self.failure_count == 0 {
            return Ok(());
        }
        let mut text = self.failures.join("; ");
        if self.failure_count > self.failures.len() {
            text.push_str("; and more");
        }
        Err(text)
    }
}

fn message(error: &rusqlite::Error) -> String {
    match error {
        // Without the statement, which is ours.
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn is_missing(message: &str) -> bool {
    MISSING.iter().any(|missing| message.starts_with(missing))
}

fn shorten(message: &str) -> String {
    message.trim().chars().take(MAX_MESSAGE).collect()
}

/// Checks a connection's main database within its present transaction.
pub(super) fn check(connection: &Connection, full: bool) -> Report {
    let pragma = if full { "integrity_check" } else { "quick_check" };
    let mut report = Report::default();
    if !full {
        // A full-text index compared with the text it was made from takes ten times as long as all
        // else, and a writer in rollback-journal mode would wait for it; it can be made anew from the
        // text. The tables that it is stored in are checked like any other.
        if let Err(error) = forget_modules(connection) {
            report.fail(&message(&error));
            return report;
        }
    }
    let whole = format!("PRAGMA main.{pragma}({})", MAX_MESSAGES + 1);
    match run(connection, &whole, &mut report).map_err(|error| message(&error)) {
        Ok(()) => return report,
        Err(text) if !is_missing(&text) => {
            report.fail(&text);
            return report;
        }
        // One table with something that we do not have stops the check of all: go one by one.
        Err(_) => report = Report::default(),
    }
    match tables(connection) {
        Err(error) => report.fail(&message(&error)),
        Ok(tables) => {
            for table in tables {
                let sql = format!("PRAGMA main.{pragma}(\"{}\")", table.replace('"', "\"\""));
                if let Err(error) = run(connection, &sql, &mut report) {
                    report.error(&table, &error);
                }
            }
        }
    }
    report
}

fn run(connection: &Connection, sql: &str, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        match row.get_ref(0)? {
            ValueRef::Text(b"ok") => {}
            ValueRef::Text(text) => report.fail(&String::from_utf8_lossy(text)),
            other => report.fail(&format!("unexpected answer of type {}", other.data_type())),
        }
    }
    Ok(())
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM main.sqlite_schema WHERE type='table'")?;
    let names = statement.query_map((), |row| row.get(0))?;
    names.collect()
}

/// Checks a database file that no process has open, such as one just restored: `full` with
/// `integrity_check`, else with `quick_check`.
///
/// A `-wal` or journal beside it is not looked at. The inner result is the verdict, with the same
/// leniency as in [`capture()`](super::capture()).
///
/// # Errors
///
/// When the file is missing, cannot be opened, or is no database.
pub fn verify_file(path: &Path, full: bool) -> Result<Result<(), String>, CaptureError> {
    let path = resolve(path)?;
    let attempt = || -> rusqlite::Result<Result<(), String>> {
        let connection = open_source(&uri(&path, &["mode=ro", "immutable=1"]))?;
        harden(&connection)?;
        connection.execute_batch("PRAGMA mmap_size=0; BEGIN; PRAGMA user_version;")?;
        Ok(check(&connection, full).verdict())
    };
    match attempt() {
        Ok(verdict) => Ok(verdict),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => Ok(Err(e.to_string())),
        Err(e) => Err(classify(&path, e)),
    }
}
