//! `exuvia doctor`.

use std::sync::Arc;

use serde::Serialize;

use super::error::{self, CliError, Situation, Status};
use super::global::Context;
use super::interrupt::{self, OnSignal};
use super::output::Style;
use super::passphrase::{self, Obtained};
use super::progress::Screen;
use super::repository::Place;
use super::{settings, text};
use crate::app::{self, DoctorRequest, Finding, Severity};
use crate::clock::SystemClock;
use crate::model::ErrorClass;

/// Find out why something does not work
///
/// Looks at the configuration, at rclone and its version, at the remote (is it reached, may it be written, read,
/// listed and deleted from, how fast is it), at the clock, the passphrase and the last backup. Small probes are
/// stored in a folder of their own and taken away again. Ends with exit code 1 when there is a problem.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia doctor\n  exuvia --repo rclone:b2:bucket/backup doctor --remote-test"
)]
pub(super) struct Args {
    /// Run the suite that every remote must pass: some 150 requests in a scratch folder
    #[arg(long)]
    remote_test: bool,
}

/// A finding as `--json` shows it.
#[derive(Serialize)]
struct JsonFinding<'a> {
    r#type: &'static str,
    topic: &'a str,
    severity: &'static str,
    message: &'a str,
    hint: Option<String>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    ok: bool,
    problems: u64,
    warnings: u64,
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Good => "good",
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Problem => "problem",
    }
}

/// Shows findings as they come, and counts them.
struct Report<'a> {
    ctx: &'a Context,
    situation: Situation,
    problems: u64,
    warnings: u64,
    /// The reader of the output went away, or it could not be written.
    failed: Option<CliError>,
}

impl Report<'_> {
    fn add(&mut self, finding: &Finding) {
        match finding.severity {
            Severity::Good | Severity::Note => {}
            Severity::Warning => self.warnings += 1,
            Severity::Problem => self.problems += 1,
        }
        let hints = finding.fault.map(|fault| error::hints(fault, &self.situation)).unwrap_or_default();
        let shown = if self.ctx.output.json {
            self.ctx.output.document(&JsonFinding {
                r#type: "finding",
                topic: finding.topic,
                severity: name(finding.severity),
                message: &finding.message,
                hint: (!hints.is_empty()).then(|| hints.join("\n")),
            })
        } else {
            self.ctx.output.result(&self.line(finding, &hints))
        };
        if let Err(e) = shown {
            self.failed.get_or_insert(e);
        }
    }

    fn line(&self, finding: &Finding, hints: &[String]) -> String {
        let output = &self.ctx.output;
        let mark = match finding.severity {
            Severity::Good => "ok     ".to_owned(),
            Severity::Note => "note   ".to_owned(),
            Severity::Warning => output.paint(Style::Yellow, "warning"),
            Severity::Problem => output.paint(Style::Red, "problem"),
        };
        let message = text::printable(finding.message.as_bytes());
        let mut line = format!("{mark}  {:<13} {message}", finding.topic);
        hints.iter().for_each(|hint| line.push_str(&format!("\n{:>24}{hint}", "")));
        line
    }

    fn say(&mut self, topic: &'static str, severity: Severity, message: String) {
        self.add(&Finding { topic, severity, message, fault: None });
    }

    /// What can be told without asking the remote.
    fn configuration(&mut self, place: &Place) {
        let config = &self.ctx.config;
        let file = config.file.as_deref().map_or_else(|| "no file".to_owned(), text::show);
        self.say("configuration", Severity::Good, file);
        let origin = place.origin.words();
        self.say("configuration", Severity::Good, format!("repository {} (from {origin})", place.name()));
        for warning in &config.warnings {
            self.say("configuration", Severity::Warning, warning.to_string());
        }
        match settings::state_dir(self.ctx) {
            Ok((path, _)) if path.is_dir() => {
                self.say("state dir", Severity::Good, text::show(&path));
            }
            Ok((path, _)) => {
                let message = format!(
                    "{} is no directory: `backup` without paths has nothing to do",
                    text::show(&path)
                );
                self.say("state dir", Severity::Warning, message);
            }
            Err(e) => self.say("state dir", Severity::Warning, e.message),
        }
    }

    /// What opens the repository, as far as nobody needs to be asked.
    fn passphrase(&mut self, place: &Place) -> Option<Obtained> {
        let obtained = match passphrase::configured(self.ctx, Some(&place.name())) {
            Ok(Some(obtained)) => Ok(Some(obtained)),
            Ok(None) => place.default_passphrase(self.ctx),
            Err(e) => Err(e),
        };
        obtained.unwrap_or_else(|e| {
            self.say("passphrase", Severity::Problem, e.message);
            None
        })
    }
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let place = Place::of(ctx)?;
    let situation = place.situation(String::new());
    let mut report = Report { ctx, situation, problems: 0, warnings: 0, failed: None };
    report.configuration(&place);
    let obtained = report.passphrase(&place);
    if let Some(obtained) = &obtained {
        report.situation.passphrase.clone_from(&obtained.source);
    }
    let cancelled = interrupt::listen(OnSignal::Ask, ctx.exit);
    let screen = Arc::new(Screen::new(ctx.output.clone(), Arc::clone(&cancelled)));
    let request = DoctorRequest {
        location: place.location.clone(),
        passphrase: obtained.map(|o| o.passphrase),
        cache_dir: settings::cache_dir(ctx)?.0,
        key_cache: settings::key_cache(ctx)?.0,
        remote_test: args.remote_test,
        monitor: Arc::<Screen>::clone(&screen),
        clock: Arc::new(SystemClock::new()),
    };
    app::doctor(&request, &mut |finding| report.add(finding));
    screen.finish();
    if let Some(e) = report.failed.take() {
        return Err(e);
    }
    if cancelled.load(std::sync::atomic::Ordering::SeqCst) {
        return Err(CliError::new(ErrorClass::Interrupted, "interrupted before everything was looked at"));
    }
    let (problems, warnings) = (report.problems, report.warnings);
    if ctx.output.json {
        ctx.output.document(&Summary { r#type: "summary", ok: problems == 0, problems, warnings })?;
    } else {
        ctx.output.summary(&match (problems, warnings) {
            (0, 0) => "everything looks good".to_owned(),
            (problems, warnings) => format!(
                "{}, {}",
                super::units::count(problems, "problem"),
                super::units::count(warnings, "warning")
            ),
        })?;
    }
    Ok(if problems == 0 { Status::Done } else { Status::Bad(ErrorClass::Failed) })
}
