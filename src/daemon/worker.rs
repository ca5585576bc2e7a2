//! Carrying out one job: the hooks around it, the program itself, and who is told of its end.

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::command::{self, Ended, Limits, Stream};
use super::job::{Ending, Job};
use super::log::{Level, Log};
use super::notify::{Hook, Ping, ping};
use super::plan::Cause;
use super::records::SnapshotRecord;
use super::settings::Settings;
use crate::clock::Clock;
use crate::fs;

/// How long a job has to end when it is asked to.
pub(super) const GRACE: Duration = Duration::from_secs(4);
/// How long the command after a job has when all shall end.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How far a job gives way.
const NICE: i32 = 10;
/// Longest line of a job, in bytes: its summary names every file that could not be read.
const MAX_LINE: usize = 256 << 20;
/// Longest list of a summary that is passed on, in bytes.
const MAX_LIST: usize = 64 << 10;
/// Warnings of one job that get into the log.
const MAX_WARNINGS: usize = 100;

/// What a job needs.
pub(super) struct Order {
    pub(super) settings: Arc<Settings>,
    pub(super) job: Job,
    pub(super) cause: Cause,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Arc<Log>,
    pub(super) stop: Arc<AtomicBool>,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) ending: Ending,
    /// Class and message, when it failed.
    pub(super) failure: Option<(String, String)>,
    /// What the program said last; long lists are cut.
    pub(super) summary: Option<Value>,
    /// What the alarm is to be raised over.
    pub(super) alarms: Vec<String>,
    pub(super) took: Duration,
}

impl Report {
    fn failed(class: &str, message: String) -> Self {
        let failure = Some((class.to_owned(), message));
        Self { ending: Ending::Failed, failure, ..Self::stopped() }
    }

    fn stopped() -> Self {
        let (alarms, took) = (Vec::new(), Duration::ZERO);
        Self { ending: Ending::Stopped, failure: None, summary: None, alarms, took }
    }

    /// What is kept of a backup's summary.
    pub(super) fn snapshot(&self) -> Option<SnapshotRecord> {
        let summary = self.summary.as_ref()?;
        let number = |key: &str| summary.get(key).and_then(Value::as_u64).unwrap_or(0);
        Some(SnapshotRecord {
            id: ["snapshot", "parent"].iter().find_map(|key| summary.get(*key)?.as_str().map(str::to_owned)),
            files: number("files"),
            bytes: number("bytes_scanned"),
            added: number("bytes_added_stored"),
            complete: summary.get("complete").and_then(Value::as_bool).unwrap_or(true),
        })
    }

    /// What is told by a backup that ended well; nobody else knows of it.
    pub(super) fn told(&self, job: Job) -> Option<&[String]> {
        (job == Job::Backup && self.ending.is_good()).then_some(self.alarms.as_slice())
    }
}

/// What the alarm is raised over: lists in the summary that are empty when all is well.
fn alarms(summary: &Value) -> Vec<String> {
    let has = |key: &str| summary.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let all = [("alarm", "shrunk"), ("vanished", "vanished")].into_iter();
    all.filter(|(key, _)| has(key)).map(|(_, name)| name.to_owned()).collect()
}

/// The summary as it is passed on: of each list as much as anybody reads, and how many were left out.
fn shortened(mut summary: Value) -> Value {
    let Some(fields) = summary.as_object_mut() else { return summary };
    let mut left_out = Vec::new();
    for (key, value) in fields.iter_mut() {
        let Some(list) = value.as_array_mut() else { continue };
        let mut bytes = 0;
        let fits = list.iter().take_while(|item| {
            bytes += item.to_string().len();
            bytes <= MAX_LIST
        });
        // A list that says something goes on saying it.
        let kept = fits.count().max(1);
        if kept < list.len() {
            left_out.push((format!("{key}_left_out"), (list.len() - kept).into()));
            list.truncate(kept);
        }
    }
    fields.extend(left_out);
    summary
}

impl Order {
    /// Does all of it; `started` gets the number of the job's process.
    pub(super) fn carry_out(&self, started: impl Fn(u32)) -> Report {
        self.ping(Ping::Start);
        let report = match self.before() {
            Ok(()) => self.run(&arguments(&self.settings, self.job, &self.cause), started),
            Err(_) if self.stop.load(Ordering::SeqCst) => Report::stopped(),
            Err(message) => Report::failed("hook", message),
        };
        let document = self.document(&report);
        self.after(report.ending, &document);
        let notices = &self.settings.notices;
        let (told, outcome) = match report.ending {
            Ending::Success | Ending::Incomplete => {
                (("health.on_success", &notices.on_success), Ping::Success)
            }
            Ending::Failed => (("health.on_failure", &notices.on_failure), Ping::Failure),
            Ending::Stopped => return report,
        };
        self.ping(outcome);
        if let (key, Some(command)) = told {
            self.hook(key, command.expose(), notices.timeout, &document, report.ending).run_and_tell(
                &self.stop,
                self.clock.as_ref(),
                &self.log,
            );
        }
        report
    }

    fn ping(&self, what: Ping) {
        if let Some(url) = self.settings.notices.ping_url.as_ref().filter(|_| self.job == Job::Backup) {
            ping(url.expose(), what, &self.stop, self.clock.as_ref(), &self.log);
        }
    }

    fn before(&self) -> Result<(), String> {
        let Some(hooks) = self.settings.hooks.get(&self.job) else { return Ok(()) };
        let Some(command) = &hooks.pre else { return Ok(()) };
        let key = format!("hooks.{}.pre", self.job);
        let variables = [("EXUVIA_JOB", self.job.name())];
        let hook = Hook {
            key: &key,
            command: command.expose(),
            timeout: hooks.timeout,
            variables: &variables,
            input: b"",
        };
        hook.run(&self.stop, self.clock.as_ref(), &self.log)
    }

    /// The command after a job always runs, also when all shall end: it may have something to clean up.
    fn after(&self, ending: Ending, document: &[u8]) {
        let Some(hooks) = self.settings.hooks.get(&self.job) else { return };
        let Some(command) = &hooks.post else { return };
        let key = format!("hooks.{}.post", self.job);
        let stopping = self.stop.load(Ordering::SeqCst);
        let timeout = if stopping { LAST_WORDS.min(hooks.timeout) } else { hooks.timeout };
        let go_on = AtomicBool::new(false);
        let stop = if stopping { &go_on } else { self.stop.as_ref() };
        self.hook(&key, command.expose(), timeout, document, ending).run_and_tell(
            stop,
            self.clock.as_ref(),
            &self.log,
        );
    }

    fn hook<'a>(
        &self,
        key: &'a str,
        command: &'a str,
        timeout: Duration,
        input: &'a [u8],
        ending: Ending,
    ) -> OwnedHook<'a> {
        // Who stopped it has not heard of a success.
        let result = if ending == Ending::Stopped { Ending::Failed } else { ending };
        OwnedHook {
            key,
            command,
            timeout,
            input,
            variables: [("EXUVIA_JOB", self.job.name()), ("EXUVIA_RESULT", result.name())],
        }
    }

    /// What commands can read.
    fn document(&self, report: &Report) -> Vec<u8> {
        let error =
            report.failure.as_ref().map(|(class, message)| json!({"class": class, "message": message}));
        let document = json!({
            "type": "summary",
            "job": self.job.name(),
            "result": report.ending.name(),
            "cause": cause_name(&self.cause),
            "state_dir": self.settings.state_dir.to_string_lossy(),
            "duration_ms": millis(report.took),
            "summary": report.summary,
            "error": error,
        });
        let mut bytes = document.to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }

    fn run(&self, arguments: &[OsString], started: impl Fn(u32)) -> Report {
        run_program(
            &self.settings,
            arguments,
            &self.stop,
            self.clock.as_ref(),
            &self.log,
            self.job.name(),
            started,
        )
    }
}

struct OwnedHook<'a> {
    key: &'a str,
    command: &'a str,
    timeout: Duration,
    input: &'a [u8],
    variables: [(&'a str, &'a str); 2],
}

impl OwnedHook<'_> {
    fn run_and_tell(&self, stop: &AtomicBool, clock: &dyn Clock, log: &Log) {
        let Self { key, command, timeout, input, variables } = self;
        Hook { key, command, timeout: *timeout, variables, input }.run_and_tell(stop, clock, log);
    }
}

/// The cause in a word, with the trigger's name.
pub(super) fn cause_name(cause: &Cause) -> String {
    match cause {
        Cause::Schedule => "schedule".to_owned(),
        Cause::Retry => "retry".to_owned(),
        Cause::Changes => "changes".to_owned(),
        Cause::Trigger { name, .. } => format!("trigger:{name}"),
    }
}

/// What the program is told for a job.
pub(super) fn arguments(settings: &Settings, job: Job, cause: &Cause) -> Vec<OsString> {
    let words: Vec<String> = match job {
        Job::Backup => backup(&settings.tags, cause),
        Job::Prune if settings.forget => vec!["forget".into(), "--yes".into(), "--prune".into()],
        Job::Prune => vec!["prune".into()],
        Job::Check => {
            let data =
                settings.check_data.iter().flat_map(|part| ["--read-data-subset".to_owned(), part.clone()]);
            std::iter::once("check".to_owned()).chain(data).collect()
        }
        Job::Drill => vec!["drill".into()],
        Job::Full => vec!["full".into(), "create".into(), "--prune".into()],
    };
    words.into_iter().map(OsString::from).collect()
}

/// Reasons that a snapshot knows have names of triggers; other names become a label.
fn backup(tags: &[String], cause: &Cause) -> Vec<String> {
    let mut words = vec!["backup".to_owned(), "--reason".to_owned()];
    match cause {
        Cause::Trigger { name, late } => {
            let known = matches!(name.as_str(), "before-compaction" | "gateway-stop");
            words.push(if known { name.clone() } else { "manual".to_owned() });
            if !known {
                // Labels on the command line take the place of those in the configuration.
                let own = format!("trigger:{name}");
                words.extend(tags.iter().chain([&own]).map(|tag| format!("--tag={tag}")));
            }
            if *late {
                words.push("--skip-if-unchanged".to_owned());
            }
        }
        Cause::Changes => words.extend(["schedule".to_owned(), "--skip-if-unchanged".to_owned()]),
        Cause::Schedule | Cause::Retry => words.push("schedule".to_owned()),
    }
    words
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Runs this program, puts its warnings into the log, and keeps its last words.
pub(super) fn run_program(
    settings: &Settings,
    arguments: &[OsString],
    stop: &AtomicBool,
    clock: &dyn Clock,
    log: &Log,
    what: &str,
    started: impl Fn(u32),
) -> Report {
    let limits = Limits { stop, time: None, grace: GRACE, line: MAX_LINE };
    let (mut summary, mut error, mut warnings) = (None, None, 0);
    let mut line = |stream: Stream, line: &[u8]| match (stream, serde_json::from_slice::<Value>(line)) {
        (Stream::Out, Ok(value)) => summary = Some(value),
        (Stream::Out, Err(_)) => {}
        (Stream::Err, Ok(value)) => {
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
            let path = text("path");
            if text("type") == "error" && path.is_empty() {
                error = Some((text("class").to_owned(), text("message").to_owned()));
            } else if matches!(text("type"), "error" | "warning") {
                warnings += 1;
                if warnings <= MAX_WARNINGS {
                    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
                    let message = format!("{what}: {place}{}", text("message"));
                    log.event(Level::Warning, "job-warning", &[("job", what.into())], &message);
                }
            }
        }
        (Stream::Err, Err(_)) => {
            let text = String::from_utf8_lossy(line).into_owned();
            // A panic, or a library that speaks by itself.
            if !text.trim().is_empty() {
                log.event(Level::Warning, "job-output", &[("job", what.into())], &format!("{what}: {text}"));
            }
        }
    };
    let started = |pid: u32| {
        if settings.low_priority {
            fs::give_way(pid, NICE);
        }
        started(pid);
    };
    let ended = start(settings, arguments, &limits, clock, &started, &mut line);
    match ended {
        Ok(ended) => judge(&ended, summary, error),
        Err(e) => Report::failed("failed", format!("cannot start {}: {e}", settings.program.display())),
    }
}

/// Through `ionice`, which no safe call replaces, where that is there.
fn start(
    settings: &Settings,
    arguments: &[OsString],
    limits: &Limits<'_>,
    clock: &dyn Clock,
    started: &impl Fn(u32),
    line: &mut impl FnMut(Stream, &[u8]),
) -> io::Result<Ended> {
    let complete = |command: &mut Command| {
        command.args(["--json", "--no-progress"]).args(&settings.options).args(arguments);
    };
    if settings.low_priority {
        let mut gentle = Command::new("ionice");
        gentle.args(["-t", "-c", "2", "-n", "7"]).arg(&settings.program);
        complete(&mut gentle);
        match command::run(&mut gentle, b"", limits, clock, started, &mut *line) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    let mut plain = Command::new(&settings.program);
    complete(&mut plain);
    command::run(&mut plain, b"", limits, clock, started, line)
}

fn judge(ended: &Ended, summary: Option<Value>, error: Option<(String, String)>) -> Report {
    let code = ended.status.and_then(|status| status.code());
    let ending = match code {
        Some(0) => Ending::Success,
        Some(3) => Ending::Incomplete,
        _ if ended.stopped => Ending::Stopped,
        _ => Ending::Failed,
    };
    let failure = (ending == Ending::Failed).then(|| {
        error.unwrap_or_else(|| {
            let problem = summary.as_ref().and_then(|summary| summary.get("problems")?.get(0).cloned());
            let problem = match problem {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => ended.words(),
            };
            (class_of(code).to_owned(), problem)
        })
    });
    let alarms = summary.as_ref().map(alarms).unwrap_or_default();
    Report { ending, failure, summary: summary.map(shortened), alarms, took: ended.took }
}

/// What scripts read from an exit code, for a program that said nothing.
fn class_of(code: Option<i32>) -> &'static str {
    match code {
        Some(2) => "usage",
        Some(10) => "no-repository",
        Some(11) => "busy",
        Some(12) => "wrong-key",
        Some(13) => "damaged",
        Some(130) => "interrupted",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_program_is_told_why() {
        let tags = ["laptop".to_owned()];
        let trigger = |name: &str, late| Cause::Trigger { name: name.into(), late };
        for (cause, want) in [
            (Cause::Schedule, "backup --reason schedule"),
            (Cause::Retry, "backup --reason schedule"),
            (Cause::Changes, "backup --reason schedule --skip-if-unchanged"),
            (trigger("gateway-stop", false), "backup --reason gateway-stop"),
            (trigger("before-compaction", true), "backup --reason before-compaction --skip-if-unchanged"),
            (trigger("session-end", false), "backup --reason manual --tag=laptop --tag=trigger:session-end"),
        ] {
            assert_eq!(backup(&tags, &cause).join(" "), want);
        }
    }

    fn ended(raw: i32, stopped: bool) -> Ended {
        use std::os::unix::process::ExitStatusExt;
        let status = Some(std::process::ExitStatus::from_raw(raw));
        Ended { status, stopped, timed_out: false, took: Duration::ZERO }
    }

    #[test]
    fn endings_are_told_apart() {
        let of = |raw, stopped| judge(&ended(raw, stopped), None, None).ending;
        assert_eq!(of(0, false), Ending::Success);
        assert_eq!(of(3 << 8, false), Ending::Incomplete);
        assert_eq!(of(130 << 8, true), Ending::Stopped);
        // It was done before it heard of it.
        assert_eq!(of(0, true), Ending::Success);
        let killed = judge(&ended(9, false), None, None);
        assert_eq!(killed.ending, Ending::Failed);
        assert!(killed.failure.unwrap().1.contains("signal"));
        let drill = Some(json!({"ok": false, "problems": ["a is not whole"]}));
        let drill = judge(&ended(13 << 8, false), drill, None);
        assert_eq!(drill.failure, Some(("damaged".into(), "a is not whole".into())));
        let said = judge(&ended(1 << 8, false), None, Some(("wrong-key".into(), "no".into())));
        assert_eq!(said.failure, Some(("wrong-key".into(), "no".into())));
    }

    #[test]
    fn a_summary_tells_what_is_kept() {
        let summary = json!({"snapshot": null, "parent": "p", "files": 3, "bytes_scanned": 9,
            "bytes_added_stored": 1, "complete": true, "alarm": [{}], "vanished": []});
        let report = judge(&ended(0, false), Some(summary), None);
        let want = SnapshotRecord { id: Some("p".into()), files: 3, bytes: 9, added: 1, complete: true };
        assert_eq!(report.snapshot(), Some(want));
        assert_eq!(report.told(Job::Backup), Some(["shrunk".to_owned()].as_slice()));
        assert_eq!(report.told(Job::Check), None);
        assert_eq!(judge(&ended(9, false), None, None).told(Job::Backup), None);
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let error = json!({"path": "p".repeat(4_000), "message": "no"});
        let many = vec![error.clone(); 500];
        let summary =
            json!({"files": 500, "errors": many, "vanished": [error], "alarm": [], "complete": false});
        let report = judge(&ended(3 << 8, false), Some(summary), None);
        let summary = report.summary.unwrap();
        let kept = summary["errors"].as_array().unwrap().len();
        assert!((10..20).contains(&kept), "{kept}");
        assert_eq!(summary["errors_left_out"], 500 - kept);
        assert_eq!((&summary["files"], &summary["complete"]), (&500.into(), &false.into()));
        assert!(summary.get("vanished_left_out").is_none() && summary.to_string().len() < 2 * MAX_LIST);
        assert_eq!((report.ending, report.alarms), (Ending::Incomplete, vec!["vanished".to_owned()]));
        // One item that is too long by itself is kept: an empty list would say that there was none.
        let long = json!({"errors": ["x".repeat(2 * MAX_LIST), "y"]});
        assert_eq!(shortened(long)["errors_left_out"], 1);
    }
}
