//! `daemon`: jobs by themselves, signals, restarts, hooks, and who is told.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Place, ended, files, put, until, with_repository};

/// A daemon that runs; killed when it is dropped.
pub(crate) struct Daemon {
    child: Option<Child>,
    log: PathBuf,
}

impl Daemon {
    /// Starts one; its log goes into a file, behind what is there.
    pub(crate) fn start(place: &Place) -> Self {
        Self::with(place, &["daemon"])
    }

    fn with(place: &Place, args: &[&str]) -> Self {
        let log = place.path("daemon.log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = place.command(args);
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child: Some(child), log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its log says this so many times.
    #[track_caller]
    pub(crate) fn says(&mut self, words: &str, times: usize) {
        let log = self.log.clone();
        until(&format!("{words} in {}", log.display()), || {
            let log = fs::read_to_string(&log).unwrap();
            assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "it ended: {log}");
            log.matches(words).count() >= times
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        let log = self.log.clone();
        assert!(self.ended().success(), "{}", fs::read_to_string(log).unwrap());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A repository and a state dir, with a configuration file.
pub(crate) fn with_config(config: &str) -> Place {
    let mut place = with_repository();
    place.set("EXUVIA_STATE_DIR", "state");
    put(&place.path("state"), "a", b"a");
    configure(&place, config);
    place
}

pub(crate) fn configure(place: &Place, config: &str) {
    place.write("home/.config/exuvia/config.toml", config);
}

/// What only backups run by themselves.
pub(crate) const QUIET: &str = "[schedule]\nprune = \"off\"\ncheck = \"off\"\n";

/// The records of the only state dir of a place.
pub(crate) fn records(place: &Place) -> Option<Value> {
    let home = place.path("home/.local/state/exuvia");
    let path = files(&home).into_keys().find(|path| path.ends_with("jobs.json"))?;
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Shell that waits until a file is there.
fn waits_for(path: &Path) -> String {
    format!("while [ ! -e '{}' ]; do sleep 0.05; done", path.display())
}

#[test]
fn snapshots_appear_retention_is_applied_and_a_kill_changes_nothing() {
    let mut place = with_config("retention = 2\n[schedule]\ncheck = \"off\"\n");
    place.set("EXUVIA_TEST_INTERVALS", "backup=1,prune=3");
    let mut daemon = Daemon::start(&place);
    let mut n = 0_u64;
    let mut seen: Vec<String> = Vec::new();
    // Until one that was there is gone, by the policy.
    until("a snapshot that was removed", || {
        n += 1;
        put(&place.path("state"), "a", &n.to_le_bytes());
        let there = place.snapshots();
        let gone = seen.iter().any(|id| !there.contains(id));
        seen.extend(there);
        gone
    });
    daemon.says("prune: success", 1);
    daemon.signal(Signal::KILL);
    daemon.ended();

    let before = place.snapshots();
    put(&place.path("state"), "b", b"b");
    let mut daemon = Daemon::start(&place);
    until("a snapshot of after the kill", || place.snapshots().iter().any(|id| !before.contains(id)));
    daemon.says("the daemon begins", 2);
    daemon.stop();
    assert!(fs::read_to_string(place.path("daemon.log")).unwrap().contains("the daemon ends"));
    let row = &place.run(&["--json", "snapshots"]).exits(0).summary()[0];
    assert_eq!(row["reason"], "schedule");
    place.is_sound();

    // Nobody but the user may see what was remembered.
    let folder = place.path("home/.local/state/exuvia");
    let folder = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&folder), mode(&folder.join("jobs.json")), mode(&folder.join("lock"))),
        (0o700, 0o600, 0o600)
    );
    assert!(!folder.join("jobs.json").to_string_lossy().is_empty());
    assert!(crate::support::names(&folder).iter().all(|name| !name.ends_with(".sock")));
}

#[test]
fn a_second_daemon_finds_the_first() {
    let place = with_config(QUIET);
    let mut first = Daemon::start(&place);
    first.says("backup: success", 1);
    for args in [&["--json", "daemon"][..], &["--json", "daemon", "--once"]] {
        let error = place.run(args).exits(11).error();
        let pid = first.child.as_ref().unwrap().id();
        assert!(error["message"].as_str().unwrap().contains(&format!("process {pid}")), "{error}");
        assert_eq!(error["class"], "busy");
    }
    // Another state dir is another matter, and so is the same once the first is gone, however it went.
    put(&place.path("other"), "a", b"a");
    place.run(&["--state-dir", "other", "daemon", "--once"]).exits(0);
    first.signal(Signal::KILL);
    first.ended();
    place.run(&["daemon", "--once"]).exits(0);
}

#[test]
fn once_does_what_is_due_and_no_more() {
    let place = with_config(QUIET);
    let run = place.run(&["daemon", "--once"]).exits(0);
    assert!(run.stderr.contains("backup: success"), "{}", run.stderr);
    assert_eq!(place.snapshots().len(), 1);
    let run = place.run(&["daemon", "--once"]).exits(0);
    assert!(!run.stderr.contains("backup"), "{}", run.stderr);
    assert_eq!(place.snapshots().len(), 1);

    // What fails is told, and is not tried again at once.
    let mut place = with_config(QUIET);
    place.set("EXUVIA_PASSPHRASE", "wrong");
    let run = place.run(&["daemon", "--once"]).exits(1);
    assert!(run.stderr.contains("backup: failed"), "{}", run.stderr);
    let record = &records(&place).unwrap()["jobs"]["backup"];
    assert_eq!((&record["failures"], &record["last_failure"]["class"]), (&1.into(), &"wrong-key".into()));
    assert!(record["retry_at"].is_i64());
    place.run(&["daemon", "--once"]).exits(0);
}

#[test]
fn a_hangup_does_not_keep_once_from_its_end() {
    let place = with_config("");
    let go = place.path("go");
    configure(&place, &format!("{QUIET}[hooks.backup]\npre = \"{}\"\n", waits_for(&go)));
    let mut daemon = Daemon::with(&place, &["daemon", "--once"]);
    daemon.says("backup: begins", 1);
    daemon.signal(Signal::HUP);
    daemon.says("the configuration was read again", 1);
    File::create(&go).unwrap();
    until("its end", || daemon.child.as_mut().unwrap().try_wait().unwrap().is_some());
    assert!(daemon.ended().success());
}

#[test]
fn a_job_that_is_under_way_does_not_hold_up_the_end_and_begins_anew() {
    let place = with_config("");
    let (started, again) = (place.path("started"), place.path("again"));
    // The job itself hangs, at its passphrase.
    let command = |go: &Path| {
        format!(
            "passphrase_command = \"echo $PPID >> '{}'; {}; echo correct horse\"\n{QUIET}",
            started.display(),
            waits_for(go)
        )
    };
    configure(&place, &command(&place.path("never")));
    let mut daemon = Daemon { child: None, log: place.path("daemon.log") };
    let begin = |daemon: &mut Daemon| {
        let file = File::options().create(true).append(true).open(&daemon.log).unwrap();
        let mut command = place.command(&["daemon"]);
        command.env_remove("EXUVIA_PASSPHRASE").stdout(Stdio::null()).stderr(file);
        daemon.child = Some(command.spawn().unwrap());
    };
    let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    begin(&mut daemon);
    until("the job", || lines(&started) == 1);
    // Its number is in the records, for those who come after.
    until("the record", || records(&place).is_some_and(|r| r["running"]["process"]["pid"].is_u64()));
    let pid = records(&place).unwrap()["running"]["process"]["pid"].clone();
    daemon.signal(Signal::TERM);
    assert!(daemon.child.take().unwrap().wait().unwrap().success(), "{}", daemon.log());
    let gone = |pid: &Value| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    };
    assert!(gone(&pid), "{}", daemon.log());
    let record = &records(&place).unwrap()["jobs"]["backup"];
    assert_eq!((&record["failures"], &record["last_failure"]), (&0.into(), &Value::Null));

    // Begun anew at once; this time the daemon is killed, and the job goes on.
    begin(&mut daemon);
    until("the job again", || lines(&started) == 2);
    until("the record again", || {
        records(&place)
            .is_some_and(|r| r["running"]["process"]["pid"].is_u64() && r["running"]["process"]["pid"] != pid)
    });
    let orphan = records(&place).unwrap()["running"]["process"]["pid"].clone();
    daemon.signal(Signal::KILL);
    daemon.child.take().unwrap().wait().unwrap();
    assert!(!gone(&orphan));
    configure(&place, &command(&again));
    File::create(&again).unwrap();
    begin(&mut daemon);
    daemon.says("backup: success", 1);
    assert!(gone(&orphan) && daemon.log().contains("begins anew"), "{}", daemon.log());
    daemon.stop();
    assert_eq!(place.run(&["--json", "snapshots"]).exits(0).summary().as_array().unwrap().len(), 1);
}

#[test]
fn a_hangup_reads_the_configuration_again_and_a_broken_one_changes_nothing() {
    let place = with_config(QUIET);
    let mut daemon = Daemon::start(&place);
    daemon.says("backup: success", 1);
    configure(&place, "[schedule]\nbackup = \"often\"\n");
    daemon.signal(Signal::HUP);
    daemon.says("what was in force stays", 1);
    assert!(daemon.log().contains("config.toml"), "{}", daemon.log());
    // It still listens, with what was in force.
    place.write("good.toml", QUIET);
    let run = place.run(&["--config", "good.toml", "--json", "status"]).exits(0).summary();
    assert!(run["daemon"]["pid"].is_u64() && run["jobs"]["backup"]["next"].is_string(), "{run}");
    configure(&place, &format!("{QUIET}log_format = \"json\"\n"));
    daemon.signal(Signal::HUP);
    daemon.says("\"event\":\"reloaded\"", 1);
    let log = daemon.log();
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&line["level"], &line["event"]), (&"info".into(), &"reloaded".into()));
    daemon.stop();
}

/// Answers every request, and tells which path was asked for.
fn listener() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, paths) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.find(String::is_empty);
            let _ =
                (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK");
            let _ = sender.send(first.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    });
    (port, paths)
}

#[test]
fn hooks_run_around_jobs_and_others_are_told() {
    let (port, paths) = listener();
    let place = with_config("");
    let out = |name: &str| place.path(name).display().to_string();
    let config = format!(
        "{QUIET}\n[hooks.backup]\npre = \"echo $EXUVIA_JOB >> '{}'; test ! -e '{}'\"\npost = \"cat > '{}'; echo $EXUVIA_RESULT >> '{}'\"\n\
         [health]\non_success = \"cat > '{}'\"\non_failure = \"cat > '{}'\"\nping_url = \"http://127.0.0.1:{port}/secret-id\"\n\
         prometheus_file = \"{}\"\n",
        out("pre"),
        out("refuse"),
        out("document"),
        out("post"),
        out("success"),
        out("failure"),
        out("exuvia.prom"),
    );
    configure(&place, &config);
    let run = place.run(&["daemon", "--once"]).exits(0);
    assert!(!run.stderr.contains("secret-id"), "{}", run.stderr);
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!((read("pre"), read("post")), ("backup\n".to_owned(), "success\n".to_owned()));
    assert_eq!([paths.recv().unwrap(), paths.recv().unwrap()], ["/secret-id/start", "/secret-id"]);
    let document: Value = serde_json::from_str(&read("success")).unwrap();
    let id = &place.snapshots()[0];
    assert_eq!((&document["job"], &document["result"]), (&"backup".into(), &"success".into()));
    assert_eq!(document["summary"]["snapshot"].as_str(), Some(id.as_str()));
    assert_eq!(serde_json::from_str::<Value>(&read("document")).unwrap(), document);
    let prometheus = read("exuvia.prom");
    assert!(prometheus.contains("exuvia_job_last_success_timestamp_seconds{job=\"backup\""), "{prometheus}");
    assert_eq!(fs::metadata(place.path("exuvia.prom")).unwrap().mode() & 0o777, 0o644);

    // A hook that refuses: no job, and a failure that is told.
    File::create(place.path("refuse")).unwrap();
    let error = place.run(&["--json", "trigger", "x"]).exits(1).error();
    assert!(error["message"].as_str().unwrap().contains("hooks.backup.pre"), "{error}");
    assert_eq!(place.snapshots().len(), 1);
    assert_eq!(read("post"), "success\nfailed\n");
    assert_eq!([paths.recv().unwrap(), paths.recv().unwrap()], ["/secret-id/start", "/secret-id/fail"]);
    let document: Value = serde_json::from_str(&read("failure")).unwrap();
    assert_eq!((&document["result"], &document["error"]["class"]), (&"failed".into(), &"hook".into()));
    // A service that is away is no failure, and its address is told to nobody.
    configure(&place, &format!("{QUIET}[health]\nping_url = \"http://127.0.0.1:1/secret-id\"\n"));
    let run = place.run(&["trigger", "x"]).exits(0);
    assert!(
        run.stderr.contains("the ping did not arrive") && !run.stderr.contains("secret-id"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_hook_that_hangs_is_ended_with_what_it_started() {
    let place = with_config("");
    let pid = place.path("pid");
    configure(
        &place,
        &format!(
            "{QUIET}[hooks.backup]\npre = \"sleep 1000 & echo $! > '{}'; wait\"\ntimeout = \"1s\"\n",
            pid.display()
        ),
    );
    let error = place.run(&["--json", "trigger", "x"]).exits(1).error();
    assert!(error["message"].as_str().unwrap().contains("took too long"), "{error}");
    let pid = fs::read_to_string(pid).unwrap();
    until("the end of what the hook started", || {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
}

#[test]
fn changes_make_a_snapshot_when_they_are_quiet() {
    let place = with_config(&format!(
        "{QUIET}backup = \"off\"\n[start]\nwatch = true\nwatch_quiet = \"1s\"\nwatch_max = \"5s\"\n"
    ));
    let mut daemon = Daemon::start(&place);
    let mut n = 0_u64;
    until("a snapshot of the changes", || {
        n += 1;
        // A watch that is being set up may miss the first.
        if n % 20 == 1 {
            put(&place.path("state"), "deep/er/b", &n.to_le_bytes());
        }
        !place.snapshots().is_empty()
    });
    daemon.says("begins (changes)", 1);
    daemon.stop();
}

#[test]
fn a_lost_state_dir_comes_back_before_anything_is_backed_up() {
    let place = with_config(&format!("{QUIET}[start]\nauto_restore = true\n"));
    place.run(&["backup"]).exits(0);
    fs::remove_dir_all(place.path("state")).unwrap();
    let mut daemon = Daemon::start(&place);
    daemon.says("backup: success", 1);
    assert_eq!(fs::read(place.path("state/a")).unwrap(), b"a");
    let log = daemon.log();
    assert!(log.find("auto-restore: begins").unwrap() < log.find("backup: begins").unwrap(), "{log}");
    daemon.stop();
    // One that fails keeps everything back.
    fs::remove_dir_all(place.path("state")).unwrap();
    let mut place = place;
    place.set("EXUVIA_PASSPHRASE", "wrong");
    let mut daemon = Daemon::start(&place);
    daemon.says("nothing is backed up before it succeeds", 1);
    // Not by a trigger either: when the second is accepted, the first has been looked at.
    for name in ["x", "y"] {
        place.run(&["trigger", name]).exits(0);
    }
    assert_eq!(daemon.log().matches("backup: begins").count(), 1);
    daemon.stop();
}

#[test]
fn the_journal_gets_levels_and_no_times() {
    let place = with_config(QUIET);
    let path = place.path("journal");
    let file = File::create(&path).unwrap();
    let meta = file.metadata().unwrap();
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    let mut command = place.command(&["daemon", "--once"]);
    assert!(command.env("JOURNAL_STREAM", &stream).stderr(file).status().unwrap().success());
    let log = fs::read_to_string(&path).unwrap();
    assert!(!log.is_empty() && log.lines().all(|line| line.starts_with("<6>")), "{log}");
    // Inherited from a service whose journal this is not.
    let output = place.command(&["daemon", "--once"]).env("JOURNAL_STREAM", stream).output().unwrap();
    assert!(!String::from_utf8(output.stderr).unwrap().contains("<6>"));
}

#[test]
fn an_upgrade_of_the_program_disturbs_no_daemon() {
    let place = with_config(QUIET);
    let program = place.path("exuvia");
    let install = || {
        let built = env!("CARGO_BIN_EXE_exuvia");
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    };
    install();
    let log = place.path("daemon.log");
    let template = place.command(&["daemon"]);
    let mut command = std::process::Command::new(&program);
    command.args(template.get_args()).env_clear().current_dir(place.path("")).stdin(Stdio::null());
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
    let mut daemon = Daemon { child: Some(child), log };
    daemon.says("backup: success", 1);
    fs::remove_file(&program).unwrap();
    install();
    daemon.signal(Signal::HUP);
    daemon.says("the configuration was read again", 1);
    place.run(&["trigger", "x", "--wait"]).exits(0);
    daemon.stop();
}

#[test]
fn alarms_are_told_whoever_ran_the_backup() {
    for args in [&["daemon", "--once"][..], &["trigger", "x"]] {
        let place = with_config("");
        let hook = format!("touch told; {}; cat >> alarms", waits_for(&place.path("go")));
        configure(&place, &format!("{QUIET}[health]\non_alarm = \"{hook}\"\n"));
        for n in 0..10 {
            put(&place.path("state"), &n.to_string(), &[n; 100]);
        }
        place.run(&["backup"]).exits(0);
        for n in 0..9 {
            fs::remove_file(place.path("state").join(n.to_string())).unwrap();
        }
        let child = place.start(args);
        until("the alarm", || place.path("told").exists());
        File::create(place.path("go")).unwrap();
        let run = ended(child).exits(0);
        assert!(run.stderr.contains("alarm: shrunk"), "{}", run.stderr);
        let told: Value = serde_json::from_slice(&fs::read(place.path("alarms")).unwrap()).unwrap();
        assert_eq!(told["alarm"], "shrunk");
        // Once.
        place.run(&["daemon", "--once"]).exits(0);
        assert_eq!(fs::read_to_string(place.path("alarms")).unwrap().lines().count(), 1);
    }
}

#[test]
fn commands_of_the_user_get_no_secrets_and_the_log_is_json_where_that_is_asked_for() {
    let place = with_config(&format!("{QUIET}[hooks.backup]\npre = \"env > env\"\n"));
    let run = place.run(&["daemon", "--once", "--log-format", "json"]).exits(0);
    for line in run.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["event"].is_string(), "{line}");
    }
    let env = fs::read_to_string(place.path("env")).unwrap();
    assert!(env.contains("EXUVIA_JOB=backup") && !env.contains("EXUVIA_PASSPHRASE"), "{env}");
}

#[test]
fn on_a_metered_network_what_is_due_waits() {
    let mut place = with_config(&format!("{QUIET}on_metered = \"pause\"\n"));
    let answer = place.path("answer");
    let busctl = place.write("bin/busctl", &format!("#!/bin/sh\nenv > env\ncat '{}'\n", answer.display()));
    fs::set_permissions(&busctl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    place.set("PATH", &path);
    fs::write(&answer, "u 1\n").unwrap();
    // The first backup of all waits, too: only the promise ends that.
    let run = place.run(&["daemon", "--once"]).exits(0);
    assert!(run.stderr.contains("what is due waits: the network is metered"), "{}", run.stderr);
    assert!(!run.stderr.contains("backup: begins"), "{}", run.stderr);
    assert!(!fs::read_to_string(place.path("env")).unwrap().contains("EXUVIA_PASSPHRASE"));
    fs::write(&answer, "u 2\n").unwrap();
    let run = place.run(&["daemon", "--once"]).exits(0);
    assert!(run.stderr.contains("backup: success"), "{}", run.stderr);
}
