//! `exuvia setup`: the questions ([`wizard`]), what they come to ([`plan`]), the terminal that asks them
//! ([`terminal`]), and what is then done or undone ([`carry_out`], [`undo`]).

mod carry_out;
mod flags;
mod look;
mod plan;
mod questions;
mod terminal;
mod undo;
mod wizard;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use zeroize::Zeroizing;

use self::flags::Flags;
use self::plan::{Opens, Place, Plan};
use self::terminal::Terminal;
use self::wizard::{Ask, Form, Question, Step, Wizard};
use super::error::{CliError, Status};
use super::global::{self, Context, GlobalArgs};
use super::interrupt::{self, Exit, OnSignal};
use super::output::Output;
use super::text;
use crate::config::draft::Draft;
use crate::config::import::{Fate, Import, Passphrase};
use crate::config::{Config, Environment};
use crate::model::ErrorClass;

/// Set everything up: what, where to, passphrase, schedule, first snapshot, service
///
/// Asks one question after the other; each has a default, `?` explains it, `<` goes back. Nothing is written before
/// you have seen the summary and said yes, and if a step fails after that, or you press Ctrl-C, the steps before it
/// are undone. An existing repository is recognised, and opened instead of made.
///
/// With --yes nothing is asked: flags answer, and defaults where there is none. With --json the last line is a
/// summary.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia setup\n  exuvia setup --repo /mnt/backup/agent --schedule 15m\n  exuvia --repo /mnt/backup/agent setup --yes --generate-passphrase-file ~/.config/exuvia/key --no-service\n  exuvia --json setup --yes --remote-provider b2 --remote-bucket b --remote-key-id ID --remote-secret-file ./key"
)]
pub(super) struct Args {
    /// Ask nothing: flags and defaults answer
    #[arg(long, short = 'y')]
    yes: bool,

    /// Replace a configuration file that is there; it is kept beside the new one, with .old after its name, or .old-2
    /// and so on
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    flags: Flags,
}

/// Variables that win over the configuration file: with them, what is set up here would not be what is used.
const WINNERS: [&str; 5] = [
    "EXUVIA_REPO",
    "EXUVIA_PASSPHRASE",
    "EXUVIA_PASSPHRASE_FILE",
    "EXUVIA_PASSPHRASE_COMMAND",
    "EXUVIA_PASSPHRASE_KEYRING",
];

/// What is the same for all steps.
struct Setup<'a> {
    /// Without a configuration file: the one that is there, if any, says what was wanted before.
    ctx: &'a Context,
    /// The configuration file that is written.
    config: PathBuf,
    replace: bool,
    cancelled: Arc<AtomicBool>,
    /// `None` where nothing is asked.
    terminal: Option<Terminal>,
    /// What an earlier plugin's settings come to, and where they stand.
    import: Option<(Import, PathBuf)>,
}

pub(super) fn run(
    args: &Args,
    global: GlobalArgs,
    env: Environment,
    output: Output,
    exit: Exit,
) -> Result<Status, CliError> {
    let ctx = Context { args: global, env, config: Config::default(), output, exit };
    if let Some(name) = WINNERS.iter().find(|name| ctx.env.get(name).is_some()) {
        return Err(CliError::usage(format!("{name} is set, and would win over what setup writes")).hint(
            format!(
                "run it without: env -u {name} exuvia setup; --repo and --passphrase-file take an answer"
            ),
        ));
    }
    one_state_dir(&ctx)?;
    if ctx.output.json && !args.yes {
        return Err(CliError::usage("--json is for scripts, which nobody asks: give --yes too"));
    }
    let config = config_file(&ctx)?;
    if config.symlink_metadata().is_ok() && !args.force {
        return Err(CliError::usage(format!("there is a configuration already: {}", text::show(&config)))
            .hint("`exuvia config show` shows what it comes to; --force replaces it, and keeps the old one beside it"));
    }
    let cancelled = interrupt::listen(OnSignal::Ask, ctx.exit);
    let terminal = if args.yes { None } else { Some(terminal(&cancelled)?) };
    let import = look::earlier(&ctx)?;
    let setup = Setup { ctx: &ctx, config, replace: args.force, cancelled, terminal, import };
    let facts = look::facts(&setup)?;
    let given = args.flags.answers(&ctx, args.yes)?;
    let mut wizard = Wizard::new(facts, &given).map_err(CliError::usage)?;
    setup.adopt(&mut wizard)?;
    if setup.terminal.is_some() {
        setup.say(
            "Enter takes what stands in brackets, ? explains, < goes back, Ctrl-C ends without a trace.",
        );
    }
    let Some(plan) = setup.ask_all(&mut wizard, args.yes)? else {
        return Err(CliError::failed("nothing was changed"));
    };
    carry_out::run(&setup, &plan)
}

/// The variable wins over the file that is written: it must not say otherwise.
fn one_state_dir(ctx: &Context) -> Result<(), CliError> {
    let said = ctx.env.path("EXUVIA_STATE_DIR").map(|path| global::absolute(&path)).transpose()?;
    let flag = ctx.args.state_dir.as_deref().map(global::absolute).transpose()?;
    match (said, flag) {
        (Some(said), Some(flag)) if said != flag => Err(CliError::usage(format!(
            "EXUVIA_STATE_DIR is set to {}, and would win over --state-dir in what setup writes",
            text::show(&said)
        ))
        .hint("run it without: env -u EXUVIA_STATE_DIR exuvia setup")),
        _ => Ok(()),
    }
}

fn terminal(cancelled: &Arc<AtomicBool>) -> Result<Terminal, CliError> {
    Terminal::new(Arc::clone(cancelled)).ok_or_else(|| {
        CliError::usage("setup asks on a terminal, and there is none")
            .hint("with --yes flags and defaults answer; `exuvia setup --help` lists them")
    })
}

/// The configuration file that is written.
fn config_file(ctx: &Context) -> Result<PathBuf, CliError> {
    let named = ctx.args.config.clone().or_else(|| ctx.env.path("EXUVIA_CONFIG"));
    let default = || Some(ctx.env.config_home()?.join("exuvia").join("config.toml"));
    global::absolute(&named.or_else(default).ok_or_else(|| global::no_home("--config"))?)
}

impl Setup<'_> {
    /// Says something that is no result.
    fn say(&self, words: &str) {
        match &self.terminal {
            Some(terminal) => terminal.say(words),
            None => self.ctx.output.say(words),
        }
    }

    /// Asks until everything is answered. `None` when the user does not want it after all.
    fn ask_all(&self, wizard: &mut Wizard, yes: bool) -> Result<Option<Plan>, CliError> {
        loop {
            match wizard.next() {
                Step::Ask(question) if question.ask == Ask::Confirm => {
                    let Some(plan) = wizard.plan() else {
                        return Err(CliError::failed("not everything was answered"));
                    };
                    if !self.opens(wizard, &plan)? {
                        continue;
                    }
                    if yes {
                        return Ok(Some(plan));
                    }
                    let name = look::location(self, &plan.place)?.1;
                    let left = look::outside(self, &plan).into_iter().map(|one| {
                        format!(
                            "\n  {:<15}{} ({}): it is not in the state dir",
                            "not backed up",
                            text::show(&one.path),
                            one.key
                        )
                    });
                    let left: String = left.collect();
                    self.say(&format!("\nThis will be done:\n{}{left}\n", plan.summary(&name, &self.config)));
                    self.ask(wizard, &question)?;
                    match wizard.confirmed() {
                        Some(true) => return Ok(Some(plan)),
                        Some(false) => return Ok(None),
                        None => {}
                    }
                }
                Step::Ask(question) => {
                    if yes {
                        answer_by_default(wizard, &question)?
                    } else {
                        self.ask(wizard, &question)?
                    }
                    if question.ask == Ask::Import {
                        self.adopt(wizard)?;
                    }
                }
                Step::Authorize(backend) => match look::authorize(self, backend) {
                    Ok(token) => wizard.answer(Ask::Token, &token).map_err(CliError::failed)?,
                    Err(e) => self.again(wizard, e)?,
                },
                Step::Look => match look::look(self, wizard) {
                    Ok(found) => wizard.found(found),
                    Err(e) => self.again(wizard, e)?,
                },
                Step::Done => return Ok(wizard.plan()),
            }
        }
    }

    /// The configuration that a plan begins with.
    fn base(&self, place: &Place) -> Draft {
        match (place, &self.import) {
            (Place::Imported, Some((import, _))) => import.draft.clone(),
            _ => Draft::new("Made by `exuvia setup`"),
        }
    }

    /// Tells what becomes of an earlier plugin's settings once they are to be used, and takes its passphrase for an
    /// answer.
    fn adopt(&self, wizard: &mut Wizard) -> Result<(), CliError> {
        let Some((import, _)) = self.import.as_ref().filter(|_| wizard.imported()) else { return Ok(()) };
        for answer in import.answers.iter().filter(|answer| answer.fate != Fate::Taken) {
            self.say(&format!("  {}: {}: {}", answer.key, answer.fate.name(), answer.words));
        }
        import.notes.iter().for_each(|note| self.say(&format!("  {note}")));
        // A file that is named on the command line wins.
        if let Passphrase::Given(secret) = &import.passphrase
            && !wizard.knows(Ask::Opens)
        {
            for (ask, text) in [(Ask::Opens, "typed"), (Ask::Typed, secret.expose())] {
                wizard.adopt(ask, text).map_err(CliError::usage)?;
            }
        }
        Ok(())
    }

    /// What opens a repository that is there must open it, and a command must print something. False when that is to be asked again.
    fn opens(&self, wizard: &mut Wizard, plan: &Plan) -> Result<bool, CliError> {
        if !plan.exists && plan.opens != Opens::Imported {
            return Ok(true);
        }
        match carry_out::try_passphrase(self, plan) {
            Ok(()) => Ok(true),
            Err(e) if self.terminal.is_none() || e.class == ErrorClass::Interrupted => Err(e),
            Err(e) => {
                self.say_error(&e);
                wizard.does_not_open();
                Ok(false)
            }
        }
    }

    /// The place cannot be used: another is asked for, where somebody can answer.
    fn again(&self, wizard: &mut Wizard, error: CliError) -> Result<(), CliError> {
        if self.terminal.is_none() || error.class == ErrorClass::Interrupted {
            return Err(error);
        }
        self.say_error(&error);
        wizard.again();
        Ok(())
    }

    fn say_error(&self, error: &CliError) {
        let hints: String = error.hints.iter().map(|hint| format!("\n  {hint}")).collect();
        self.say(&format!("That does not work: {}{hints}", error.message));
    }

    /// Asks one question until its answer can be taken, or the user goes back.
    fn ask(&self, wizard: &mut Wizard, question: &Question) -> Result<(), CliError> {
        let Some(terminal) = &self.terminal else {
            return Err(CliError::usage(format!("there is nobody to answer: {}", question.words)));
        };
        terminal.say(&format!("\n{}", question.words));
        if let Form::Choice(choices) = &question.form {
            for (number, (name, about)) in choices.iter().enumerate() {
                terminal.say(&format!("  {}) {name:<10} {about}", number + 1));
            }
        }
        loop {
            let text = self.line(terminal, question)?;
            match text.as_str() {
                "?" => terminal.say(question.help),
                "<" => {
                    if !wizard.back() {
                        terminal.say("This is the first question.");
                        continue;
                    }
                    return Ok(());
                }
                answer => match wizard.answer(question.ask, answer) {
                    Ok(()) => return Ok(()),
                    Err(why) => terminal.say(&format!("Please: {why}")),
                },
            }
        }
    }

    /// One answer; what is typed twice must be the same.
    fn line(&self, terminal: &Terminal, question: &Question) -> Result<Zeroizing<String>, CliError> {
        let default = match (&question.form, &question.default) {
            (Form::Hidden | Form::HiddenTwice, _) | (_, None) => "> ".to_owned(),
            (_, Some(default)) if default.is_empty() => "[none] > ".to_owned(),
            (_, Some(default)) => format!("[{default}] > "),
        };
        let hidden = matches!(question.form, Form::Hidden | Form::HiddenTwice);
        loop {
            let text = terminal.line(&default, hidden)?;
            if question.form != Form::HiddenTwice || ["", "?", "<"].contains(&text.as_str()) {
                return Ok(text);
            }
            if terminal.line("Again > ", true)? == text {
                if super::passphrase::is_short(text.as_bytes()) {
                    terminal.say(
                        "That is short: whoever gets at the repository can guess it. Five random words are better; \
                         < goes back.",
                    );
                }
                return Ok(text);
            }
            terminal.say("The two differ; once more, please.");
        }
    }
}

/// Takes the default, where there is one.
fn answer_by_default(wizard: &mut Wizard, question: &Question) -> Result<(), CliError> {
    let needed = || {
        CliError::usage(format!("--yes needs an answer: {}", question.words))
            .hint(format!("it is given by {}", question.flag))
    };
    let default = question.default.as_deref().ok_or_else(needed)?;
    wizard
        .answer(question.ask, default)
        .map_err(|why| CliError::usage(why).hint(format!("see {}", question.flag)))
}

/// The folders above a path that are missing, the deepest first.
fn missing_above(path: &Path) -> Vec<PathBuf> {
    path.ancestors()
        .skip(1)
        .take_while(|folder| folder.symlink_metadata().is_err())
        .map(Path::to_path_buf)
        .collect()
}
