//! The command line: one file for each command, which turns its arguments into one request of
//! [`crate::app`] and shows the outcome. What scripts may rely on stands in `--help`.

mod confirm;
mod error;
mod global;
mod helper;
mod interrupt;
mod key_file;
mod key_keyring;
mod key_new;
mod key_recovery;
mod keyring;
mod losses;
mod output;
mod passphrase;
mod progress;
mod repository;
mod settings;
mod snap_path;
mod sources;
mod text;
mod units;
mod vanished;

mod auto_restore;
mod backup;
mod bench;
mod cat;
mod check;
mod completions;
mod config;
mod config_import;
mod config_keys;
mod daemon;
mod diff;
mod doctor;
mod drill;
mod find;
mod forget;
mod full;
mod init;
mod key;
mod key_rotate;
mod ls;
mod man;
mod prune;
mod repair;
mod restore;
mod rollback;
mod scrub;
mod service;
mod service_needs;
mod setup;
mod snapshots;
mod stats;
mod status;
mod status_jobs;
mod trigger;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use self::error::{CliError, Status, exit_code};
use self::global::{Context, GlobalArgs};
use self::output::Output;
use crate::config::Environment;
use crate::model::ErrorClass;

/// Encrypted, deduplicated snapshots of a state directory with live SQLite databases
#[derive(Parser, Debug)]
#[command(name = "exuvia", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = LONG)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  exuvia setup                      set everything up, question by question
  exuvia backup                     take a snapshot of the state dir
  exuvia snapshots                  list what there is
  exuvia restore                    put the newest one into a folder beside the state dir
  exuvia rollback --at '2 hours ago'   make the state dir as it was
  exuvia cat latest memory/today.md";

// Paragraphs are one line each: clap breaks them at the terminal's width.
const LONG: &str = "\
Examples:
  exuvia setup                      set everything up, question by question
  exuvia backup                     take a snapshot of the state dir
  exuvia snapshots                  list what there is
  exuvia restore                    put the newest one into a folder beside the state dir
  exuvia rollback --at '2 hours ago'   make the state dir as it was
  exuvia cat latest memory/today.md

Snapshots are named by `latest`, `latest~N` (N before the newest), an id or a unique beginning of one, or \
a time (`2026-02-15`, `2026-02-15T10:00`, `3 days ago`, `yesterday 14:00`, `last friday 6pm`), which means the newest snapshot at or before it.

Passphrase: EXUVIA_PASSPHRASE, EXUVIA_PASSPHRASE_FILE, EXUVIA_PASSPHRASE_COMMAND, passphrase_file or \
passphrase_command in the configuration file, the keyring of the operating system when EXUVIA_PASSPHRASE_KEYRING is on, \
or the terminal; in this order. A recovery phrase (`exuvia key recovery`) is a passphrase too.

A flag wins over the environment, the environment over the configuration file. Its keys, all optional: \
repository, state_dir, cache_dir, passphrase_file, passphrase_command, passphrase_keyring, key_cache, shrink_alarm, prune_grace, rclone_program, bwlimit, tpslimit, \
connections, timeout, deadline, retention, and the tables [remote], [retention], [backup], [full], [schedule], [start], [triggers], [health] and [hooks.JOB]. \
`exuvia config keys` explains all keys; `exuvia config show` shows what is in force, and where it comes from. What can be made again is cached in EXUVIA_CACHE_DIR, by default ~/.cache/exuvia.

Remotes (S3, B2, Dropbox, Google Drive, OneDrive, SFTP, WebDAV and all others of rclone) need the program \
rclone, from PATH or EXUVIA_RCLONE.

With no repository configured, `exuvia backup` makes one in the user's data directory, with a generated \
key in the user's configuration directory, and says where both are.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 done but some files could not be read, \
10 no repository, 11 busy, 12 wrong passphrase or key, 13 damage found, 130 interrupted.";

#[derive(Subcommand, Debug)]
enum Command {
    Setup(setup::Args),
    Init(init::Args),
    Backup(backup::Args),
    Snapshots(snapshots::Args),
    Ls(ls::Args),
    Cat(cat::Args),
    Diff(diff::Args),
    Find(find::Args),
    Restore(restore::Args),
    Rollback(rollback::Args),
    Undo(rollback::UndoArgs),
    Drill(drill::Args),
    Status(status::Args),
    Daemon(daemon::Args),
    Trigger(trigger::Args),
    Full(full::Args),
    Forget(forget::Args),
    Prune(prune::Args),
    AutoRestore(auto_restore::Args),
    Check(check::Args),
    Scrub(scrub::Args),
    Repair(repair::Args),
    Stats(stats::Args),
    Key(key::Args),
    Config(config::Args),
    Service(service::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the program. `exit` ends the process when the user asks a second time to stop.
pub fn main(exit: fn(i32)) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let env = Environment::of_process();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) => return ExitCode::from(refuse(&e, &args, &env)),
    };
    let GlobalArgs { json, quiet, verbose, no_progress, .. } = cli.global;
    let output = Output::new(json, quiet, verbose, !no_progress, &env);
    ExitCode::from(match dispatch(cli, env, output.clone(), exit) {
        Ok(status) => status.code(),
        Err(e) => {
            output.failure(&e);
            exit_code(e.class)
        }
    })
}

fn dispatch(cli: Cli, env: Environment, output: Output, exit: fn(i32)) -> Result<Status, CliError> {
    // These two must work whatever the configuration is.
    match &cli.command {
        Command::Completions(args) => return completions::run(args),
        Command::Man(args) => return man::run(args),
        // It writes the configuration that others read.
        Command::Setup(args) => return setup::run(args, cli.global, env, output, exit),
        _ => {}
    }
    let ctx = match &cli.command {
        Command::Config(args) if args.needs_no_settings() => Context::without(cli.global, env, output, exit),
        Command::Service(args) if args.needs_no_settings() => Context::without(cli.global, env, output, exit),
        Command::Service(args) if args.is_for_another() => {
            Context::for_another(cli.global, env, output, exit)?
        }
        _ => Context::new(cli.global, env, output, exit)?,
    };
    if !matches!(cli.command, Command::Rollback(_) | Command::Undo(_)) {
        rollback::warn_of_unfinished(&ctx);
    }
    match cli.command {
        Command::Init(args) => init::run(&args, &ctx),
        Command::Backup(args) => backup::run(args, &ctx),
        Command::Snapshots(args) => snapshots::run(&args, &ctx),
        Command::Ls(args) => ls::run(&args, &ctx),
        Command::Cat(args) => cat::run(&args, &ctx),
        Command::Diff(args) => diff::run(args, &ctx),
        Command::Find(args) => find::run(args, &ctx),
        Command::Restore(args) => restore::run(args, &ctx),
        Command::Rollback(args) => rollback::run(args, &ctx),
        Command::Undo(args) => rollback::undo(&args, &ctx),
        Command::Drill(args) => drill::run(args, &ctx),
        Command::Status(args) => status::run(&args, &ctx),
        Command::Daemon(args) => daemon::run(&args, &ctx),
        Command::Trigger(args) => trigger::run(&args, &ctx),
        Command::Full(args) => full::run(args, &ctx),
        Command::Forget(args) => forget::run(&args, &ctx),
        Command::Prune(args) => prune::run(&args, &ctx),
        Command::AutoRestore(args) => auto_restore::run(&args, &ctx),
        Command::Check(args) => check::run(&args, &ctx),
        Command::Scrub(args) => scrub::run(&args, &ctx),
        Command::Repair(args) => repair::run(&args, &ctx),
        Command::Stats(args) => stats::run(&args, &ctx),
        Command::Key(args) => key::run(&args, &ctx),
        Command::Config(args) => config::run(&args, &ctx),
        Command::Service(args) => service::run(&args, &ctx),
        Command::Doctor(args) => doctor::run(&args, &ctx),
        Command::Bench(args) => bench::run(&args, &ctx),
        Command::Completions(_) | Command::Man(_) | Command::Setup(_) => Ok(Status::Done),
    }
}

/// Help and version are asked for; anything else is wrong usage.
fn refuse(e: &clap::Error, args: &[OsString], env: &Environment) -> u8 {
    let asked = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    if json && !asked {
        let text = e.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut error = CliError::usage(message.trim_end());
        if !rest.trim().is_empty() {
            error = error.hint(rest.trim());
        }
        Output::new(true, false, 0, false, env).failure(&error);
    } else {
        // A reader that is gone needs no help.
        let _ = e.print();
    }
    if asked { 0 } else { exit_code(ErrorClass::Usage) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_parser_is_consistent_and_documented() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        fn undocumented(command: &clap::Command, out: &mut Vec<String>) {
            if command.get_about().is_none() {
                out.push(command.get_name().to_owned());
            }
            for arg in command.get_arguments().filter(|arg| arg.get_help().is_none()) {
                out.push(format!("{} {}", command.get_name(), arg.get_id()));
            }
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                undocumented(sub, out);
            }
        }
        let mut missing = Vec::new();
        undocumented(&command, &mut missing);
        assert_eq!(missing, [""; 0]);
    }
}
