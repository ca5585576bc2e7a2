//! `exuvia key recovery`.

use std::io::{self, Write};

use serde::Serialize;
use zeroize::Zeroizing;

use super::error::{CliError, Status};
use super::global::{Context, Opened};
use super::interrupt::OnSignal;
use super::output::Output;
use super::repository::Place;
use crate::app::{self, Passphrase, Recovery};

/// Words on a line.
const COLUMNS: usize = 4;
/// Letters of the longest word.
const WIDTH: usize = 8;

/// Print a recovery phrase
///
/// Generates twelve words that open the repository, adds a key for them, proves that they open it as they are
/// printed, and prints them once. They are kept nowhere else: write them down, and keep the paper where the machine is
/// not. Wherever a passphrase is asked for, the words will do, in any case and spacing, also by their first four
/// letters.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia key recovery\n  exuvia key recovery --label 'safe at home'\n  exuvia --repo /mnt/agent restore --to ~/.openclaw     (asks for the passphrase: type the words)"
)]
pub(super) struct Args {
    /// Name of the key
    #[arg(long, value_name = "TEXT", default_value = "recovery")]
    label: String,
}

/// The only document that holds a secret; nobody gets it without having asked.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    action: &'static str,
    id: String,
    phrase: &'a str,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let place = Place::of(ctx)?;
    let obtained = place.passphrase(ctx)?;
    let opened = ctx.open_with(&place, obtained, OnSignal::End)?;
    let recovery = opened.run(|session| app::key_recovery(session, &args.label))?;
    let phrase = Zeroizing::new(String::from_utf8_lossy(recovery.phrase.as_bytes()).into_owned());
    let grid = grid(&phrase);
    // As people will type it: from what they see.
    let seen = if ctx.output.json { &phrase } else { &grid };
    if let Err(e) = opened.run(|_| recovery.prove(&Passphrase::new(seen.as_bytes().to_vec()))) {
        return Err(taken_back(&opened, recovery, e));
    }
    if !Output::stdout_is_terminal() {
        ctx.output.warn("the output is no terminal: where it goes, the phrase stays");
    }
    let id = recovery.key.to_string();
    let printed = match ctx.output.json {
        true => serde_json::to_string(&Summary { r#type: "summary", action: "added", id, phrase: &phrase })
            .map(Zeroizing::new)
            .map_err(io::Error::other)
            .and_then(|text| print(&text)),
        false => print(&grid),
    };
    if let Err(e) = printed {
        let error = CliError::failed(format!("the phrase could not be printed: {e}"));
        return Err(taken_back(&opened, recovery, error));
    }
    ctx.output.say(&format!(
        "Write these words down, in this order, and keep them where the machine is not. They open {}, like a \
         passphrase, and are not shown again. `exuvia key remove {}` makes them worthless.",
        place.name(),
        recovery.key.short()
    ));
    Ok(Status::Done)
}

/// Twelve numbered words in rows, on lines of their own.
pub(super) fn grid(phrase: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * phrase.len() + 200));
    for (number, word) in phrase.split(' ').enumerate() {
        let end = if (number + 1) % COLUMNS == 0 { "\n" } else { "" };
        text.push_str(&format!("{:>3}. {word}", number + 1));
        match end {
            "" => (word.len()..WIDTH).for_each(|_| text.push(' ')),
            end => text.push_str(end),
        }
    }
    text
}

/// A phrase that was not seen must not be taken for one that was.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn taken_back(opened: &Opened, recovery: Recovery, error: CliError) -> CliError {
    let key = recovery.key.short();
    match opened.run(|session| recovery.undo(session)) {
        Ok(()) => error.hint("its key was taken away again"),
        Err(e) => error.hint(format!("its key {key} is there, and could not be taken away: {}", e.message)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_printed_can_be_typed() {
        let phrase = "abandon ".repeat(11) + "about";
        let grid = grid(&phrase);
        assert_eq!(grid.lines().count(), 3);
        assert!(grid.contains("  1. abandon   2. abandon"), "{}", *grid);
        let read = app::read_phrase(&Passphrase::new(grid.as_bytes().to_vec())).unwrap().unwrap();
        assert_eq!(read.as_bytes(), phrase.as_bytes());
    }
}
