//! `exuvia key keyring`.

use clap::Subcommand;
use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::keyring::Item;
use super::repository::Place;
use super::settings;
use crate::app;

/// Keep the passphrase in the keyring of the operating system
///
/// By the program secret-tool (libsecret: GNOME, KDE and others), on macOS by `security`. The passphrase is kept under
/// the repository's name as it is given here. It is used when EXUVIA_PASSPHRASE_KEYRING or passphrase_keyring in the
/// configuration file is on.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia key keyring store\n  exuvia key keyring store --replace\n  EXUVIA_PASSPHRASE_KEYRING=on exuvia snapshots\n  exuvia key keyring status\n  exuvia key keyring forget"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Store the passphrase, once it has opened the repository
    ///
    /// What the keyring has of it is not asked for: the passphrase comes from elsewhere, or from the terminal.
    Store {
        /// Also when the keyring has another one under the repository's name
        #[arg(long)]
        replace: bool,
    },
    /// Remove the passphrase from the keyring
    Forget,
    /// Say whether the keyring has the passphrase, and whether it is used
    Status,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    repository: String,
    /// The keyring has a passphrase for the repository.
    stored: bool,
    /// It is looked for there.
    used: bool,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let place = Place::of(ctx)?;
    let name = place.name();
    let item = Item::of(&name);
    let (stored, words) = match args.command {
        Command::Store { replace } => {
            let obtained = place.passphrase_beside_keyring(ctx)?;
            let passphrase = obtained.passphrase.clone();
            let opened = ctx.open_with(&place, obtained, OnSignal::End)?;
            opened.run(app::unlock_with_any_key)?;
            let other = item.look()?.filter(|kept| kept.as_bytes() != passphrase.as_bytes());
            if other.is_some() && !replace {
                return Err(another(&name));
            }
            item.store(&passphrase)?;
            (true, format!("stored the passphrase of {name} in the keyring"))
        }
        Command::Forget if item.forget()? => {
            (false, format!("removed the passphrase of {name} from the keyring"))
        }
        Command::Forget => (false, format!("the keyring has no passphrase of {name}")),
        Command::Status => match item.look()? {
            Some(_) => (true, format!("the keyring has a passphrase of {name}")),
            None => (false, format!("the keyring has no passphrase of {name}")),
        },
    };
    let used = settings::passphrase_keyring(ctx)?.0;
    if ctx.output.json {
        ctx.output.document(&Summary { r#type: "summary", repository: name, stored, used })?;
        return Ok(Status::Done);
    }
    let words = match (stored, used) {
        (true, false) => {
            format!(
                "{words}\nIt is used with EXUVIA_PASSPHRASE_KEYRING=on, or passphrase_keyring = true in the configuration file"
            )
        }
        _ => words,
    };
    ctx.output.summary(&words)?;
    Ok(Status::Done)
}

/// The keyring goes by names, and two repositories may have the same.
fn another(name: &str) -> CliError {
    CliError::usage(format!("the keyring has another passphrase of {name}"))
        .hint("--replace puts this one in its place")
        .hint("it may be that of another repository, which is called the same: what is left out of a name, such as the parameters of a connection string, tells no repositories apart")
}
