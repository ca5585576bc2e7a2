//! rclone as it is, in every version that the tests are given, and programs that only pretend.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

/// The programs to test with: `EXUVIA_TEST_RCLONE`, a list as in PATH, else the one in PATH.
pub(crate) fn programs() -> Vec<PathBuf> {
    let listed = std::env::var_os("EXUVIA_TEST_RCLONE");
    let programs: Vec<PathBuf> =
        listed.map_or_else(|| vec!["rclone".into()], |l| std::env::split_paths(&l).collect());
    for program in &programs {
        let settings = Settings { program: program.clone(), ..Settings::default() };
        let version = version(&settings, &environment());
        assert!(version.is_ok(), "install rclone, or name it in EXUVIA_TEST_RCLONE: {version:?}");
    }
    programs
}

/// The environment of the tests, without remotes that the machine's owner may have.
pub(crate) fn environment() -> Environment {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.push(("RCLONE_CONFIG".into(), "/dev/null".into()));
    Environment::new(variables)
}

fn target(program: &Path, spec: &str, env: &[(&str, &str)]) -> Target {
    Target {
        spec: Secret::new(spec.into()),
        env: env.iter().map(|(n, v)| ((*n).to_string(), Secret::new((*v).to_string()))).collect(),
        display: spec.into(),
        settings: Settings { program: program.into(), ..Settings::default() },
    }
}

fn never() -> bool {
    false
}

/// A program that is a few lines of shell.
fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn first_failure(target: &Target) -> Failure {
    let tried = Server::start(target, &environment()).map_err(Problem::from);
    match tried.and_then(|server| server.ask("index/a", Ask::Head, &never)) {
        Err(Problem::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let failure = first_failure(&target(Path::new("no-such-rclone"), "/tmp/x", &[]));
    assert_eq!(failure.fault, Fault::Setup);
    assert!(failure.message.contains("needs the program rclone"), "{}", failure.message);
    assert!(failure.message.contains("PATH ("), "{}", failure.message);
    let failure = first_failure(&target(Path::new("/nowhere/rclone"), "/tmp/x", &[]));
    assert!(failure.message.contains("/nowhere/rclone"), "{}", failure.message);
}

#[test]
fn programs_that_are_not_rclone_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("exit 3", "exit status: 3"),
        ("echo 'Fatal error: unknown flag: --stdio' >&2; exit 1", "unknown flag: --stdio"),
        ("cat /dev/zero | head -c 100000; exit 1", "rclone has ended"),
    ] {
        let failure = first_failure(&target(&script(dir.path(), text), "/tmp/x", &[]));
        assert_eq!(failure.fault, Fault::Setup, "{text}: {}", failure.message);
        assert!(failure.message.contains(expected), "{}", failure.message);
    }
    let program = script(dir.path(), "echo garbage");
    let settings = Settings { program, ..Settings::default() };
    assert_eq!(version(&settings, &environment()).unwrap_err().fault, Fault::Setup);
}

#[test]
fn old_versions_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { program: script(dir.path(), "echo rclone v1.59.2"), ..Settings::default() };
    assert!(version(&settings, &environment()).unwrap() < Version::OLDEST);
}

#[test]
fn commands_have_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let slow = target(&script(dir.path(), "exec sleep 60"), "/tmp/x", &[]);
    let failure = command(&slow, &environment(), &["about"], b"", Duration::from_millis(50)).unwrap_err();
    assert_eq!(failure.fault, Fault::Transient);
}

#[test]
fn commands_run_on_the_target() {
    for program in programs() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"12345").unwrap();
        let target = target(&program, dir.path().to_str().unwrap(), &[]);
        let run = |arguments: &[&str], stdin: &[u8]| {
            command(&target, &environment(), arguments, stdin, Duration::from_secs(30)).unwrap().success()
        };
        let listed = run(&["lsjson", REMOTE], b"").unwrap();
        assert!(String::from_utf8_lossy(&listed).contains("\"Size\":5"));
        run(&["rcat", &format!("{REMOTE}b")], b"from us").unwrap();
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"from us");
        assert!(run(&["cat", "nosuch:x"], b"").unwrap_err().message.contains("didn't find section"));
    }
}

#[test]
fn an_unknown_remote_is_a_matter_of_setup() {
    for program in programs() {
        let failure = first_failure(&target(&program, "nosuch:x", &[]));
        assert_eq!(failure.fault, Fault::Setup, "{}", failure.message);
        assert!(failure.message.contains("didn't find section in config file"), "{}", failure.message);
    }
}

#[test]
fn a_service_that_is_away_is_not_an_absent_object() {
    for program in programs() {
        let env = [
            ("RCLONE_CONFIG_AWAY_TYPE", "webdav"),
            ("RCLONE_CONFIG_AWAY_URL", "http://127.0.0.1:1/"),
            ("RCLONE_CONFIG_AWAY_USER", "somebody"),
        ];
        let target = target(&program, "away:somebody/x", &env);
        for ask in [Ask::Get { max: 1 }, Ask::Head, Ask::Delete, Ask::Post { body: b"x" }] {
            // A process for each: its pacer waits longer with each failure.
            let server = Server::start(&target, &environment()).unwrap();
            match server.ask("index/a", ask, &never) {
                Err(Problem::Failed(Failure { message, fault: Fault::Transient })) => {
                    assert!(message.contains("connection refused"), "{message}");
                    assert!(!message.contains("somebody"), "{message}");
                }
                other => panic!("{ask:?}: {other:?}"),
            }
        }
        let server = Server::start(&target, &environment()).unwrap();
        let Err(Problem::Failed(failure)) = server.list("index", &never) else { panic!("no empty listing") };
        assert_eq!(failure.fault, Fault::Transient);
        assert!(failure.message.starts_with("couldn't list files"), "{}", failure.message);
    }
}

#[test]
fn a_request_in_flight_notices_cancelling_and_silence() {
    // Accepts connections and never says a word.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let env = [("RCLONE_CONFIG_MUTE_TYPE", "webdav"), ("RCLONE_CONFIG_MUTE_URL", url.as_str())];
    for program in programs() {
        let mut target = target(&program, "mute:x", &env);
        let server = Server::start(&target, &environment()).unwrap();
        let Err(Problem::Failed(failure)) = server.ask("index/a", Ask::Head, &|| true) else { panic!() };
        assert_eq!(failure.fault, Fault::Interrupted);
        let asked = std::sync::atomic::AtomicU32::new(0);
        let later = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2;
        let Err(Problem::Failed(failure)) = server.ask("index/a", Ask::Head, &later) else { panic!() };
        assert_eq!(failure.fault, Fault::Interrupted);
        assert!(server.is_usable());

        target.settings.idle_timeout = Duration::from_millis(300);
        let server = Server::start(&target, &environment()).unwrap();
        let Err(Problem::Failed(failure)) = server.ask("index/a", Ask::Head, &never) else { panic!() };
        assert_eq!(failure.fault, Fault::Transient);
        assert!(!server.is_usable(), "nothing moved at all");
    }
}

#[test]
fn nothing_is_left_behind() {
    for program in programs() {
        let dir = tempfile::tempdir().unwrap();
        let server =
            Server::start(&target(&program, dir.path().to_str().unwrap(), &[]), &environment()).unwrap();
        server.ask("index/a", Ask::Post { body: b"x" }, &never).unwrap();
        let process = PathBuf::from(format!("/proc/{}", server.id()));
        assert!(process.exists() || !cfg!(target_os = "linux"));
        drop(server);
        assert!(!process.exists());
    }
}

#[test]
fn names_are_escaped_and_checked() {
    assert_eq!(path_of("index/a-b_c.d").unwrap(), "/index/a-b_c.d");
    assert_eq!(path_of("full/a b%c?#+é").unwrap(), "/full/a%20b%25c%3F%23%2B%C3%A9");
    for name in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0", "data/ab", "data"] {
        assert!(path_of(name).is_err(), "{name:?}");
    }
}

/// Bytes that trickle are progress all the time; a request must notice all the same that nobody wants it.
#[test]
fn a_slow_upload_is_stopped_in_the_middle() {
    let body = vec![7; 8 << 20];
    for program in programs() {
        let dir = tempfile::tempdir().unwrap();
        let mut target = target(&program, dir.path().to_str().unwrap(), &[]);
        target.settings.bwlimit = Some("4M".into());
        let server = Server::start(&target, &environment()).unwrap();
        let asked = std::sync::atomic::AtomicU32::new(0);
        let cancelled = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 12;
        match server.ask("index/a", Ask::Post { body: &body }, &cancelled) {
            Err(Problem::Failed(failure)) => assert_eq!(failure.fault, Fault::Interrupted),
            other => panic!("{other:?}"),
        }
    }
}
