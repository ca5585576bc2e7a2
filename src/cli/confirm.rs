//! Asks before something is done that cannot be taken back.

use std::io::{self, IsTerminal, Write};

use super::error::CliError;

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 100;

/// Asks on the terminal and returns the answer. Without one nobody can answer: then `yes`, the flag that says
/// so beforehand, must be given.
pub(super) fn ask(question: &str, yes: bool) -> Result<bool, CliError> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::usage("this is asked on a terminal, and there is none")
            .hint("--yes says yes beforehand"));
    }
    let failed = |e: io::Error| CliError::failed(format!("cannot ask on the terminal: {e}"));
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ").and_then(|()| err.flush()).map_err(failed)?;
    let mut answer = String::new();
    io::BufRead::read_line(&mut io::Read::take(io::stdin().lock(), LONGEST), &mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
