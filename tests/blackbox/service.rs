//! The service that keeps the scheduler running. Nobody manages services where tests run: programs of the same
//! names, first in PATH, note how they are called. Their place in these tests is to be called.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Place, Run};

const SYSTEMCTL: &str = r#"#!/bin/sh
state=$(dirname "$0")/state
echo "systemctl $*" >>"$state/calls"
if [ -e "$state/nobus" ]; then
    echo "Failed to connect to bus: No medium found" >&2
    exit 1
fi
case "$*" in
*" disable "*) if [ -e "$state/stuck" ]; then echo "Job timed out" >&2; exit 1; fi ;;
esac
case "$*" in
*show-environment) if [ -e "$state/environment" ]; then cat "$state/environment"; fi ;;
*"is-enabled "*) if [ -e "$state/enabled" ]; then echo enabled; else echo disabled; exit 1; fi ;;
*"is-active "*) if [ -e "$state/active" ]; then echo active; else echo inactive; exit 3; fi ;;
*" enable --now "*) : >"$state/enabled"; : >"$state/active" ;;
*" disable --now "*) rm -f "$state/enabled" "$state/active" ;;
esac
"#;

const CRONTAB: &str = r#"#!/bin/sh
state=$(dirname "$0")/state
echo "crontab $*" >>"$state/calls"
case "$1" in
-l) if [ -e "$state/complaint" ]; then cat "$state/complaint" >&2; exit 1; fi
    if [ -e "$state/crontab" ]; then cat "$state/crontab"; else echo "no crontab for ann" >&2; exit 1; fi ;;
-r) rm "$state/crontab" ;;
-) cat >"$state/crontab" ;;
esac
"#;

const LOGINCTL: &str = "#!/bin/sh\necho Linger=no\n";

const LAUNCHCTL: &str = r#"#!/bin/sh
state=$(dirname "$0")/state
echo "launchctl $*" >>"$state/calls"
case "$1" in
getenv) if [ "$2" = "$(cat "$state/setenv" 2>/dev/null)" ]; then echo there; fi ;;
print) if [ -e "$state/loaded" ]; then printf 'x = {\n\tstate = running\n}\n'; else exit 113; fi ;;
bootstrap) : >"$state/loaded" ;;
bootout) rm "$state/loaded" ;;
esac
"#;

/// A place with programs that only say that they manage services.
pub(crate) fn with_managers() -> Place {
    let mut place = Place::new();
    for (name, text) in
        [("systemctl", SYSTEMCTL), ("crontab", CRONTAB), ("loginctl", LOGINCTL), ("launchctl", LAUNCHCTL)]
    {
        let path = place.write(&format!("bin/{name}"), text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir(place.path("bin/state")).unwrap();
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    place.set("PATH", &path);
    place
}

/// The same with a repository to be, and a passphrase file.
fn place() -> Place {
    let mut place = with_managers();
    let config = place.path("the config");
    fs::create_dir(&config).unwrap();
    place.set("XDG_CONFIG_HOME", config.to_str().unwrap());
    place.write("the config/exuvia/config.toml", "repository = \"repo\"\npassphrase_file = \"pw\"\n");
    place.write("the config/exuvia/pw", "correct horse\n");
    for secret in ["config.toml", "pw"] {
        let path = place.path("the config/exuvia").join(secret);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    place
}

fn unit(place: &Place) -> PathBuf {
    place.path("the config/systemd/user/exuvia.service")
}

/// The calls that change something, since the last time.
pub(crate) fn calls(place: &Place) -> Vec<String> {
    let file = place.path("bin/state/calls");
    let calls = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(file);
    let looks = [
        "is-enabled",
        "is-active",
        "show-environment",
        "--version",
        "crontab -l",
        "launchctl print",
        "launchctl getenv",
    ];
    let changes = calls.lines().filter(|call| !looks.iter().any(|look| call.contains(look)));
    changes.map(str::to_owned).collect()
}

/// Every file and folder in a place, but for what the stand-ins keep.
pub(crate) fn everything(place: &Place) -> BTreeSet<PathBuf> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![place.path("")]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() && path != place.path("bin/state") {
                todo.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

fn json(place: &Place, args: &[&str]) -> Run {
    let mut all = vec!["--json"];
    all.extend(args);
    place.run(&all)
}

/// What `systemd-analyze verify` finds wrong with a unit; `None` where there is none to ask.
#[allow(clippy::print_stderr, reason = "a test that leaves a part of itself out says so")]
fn verified(unit: &Path, user: bool) -> Option<String> {
    let scope = if user { "--user" } else { "--system" };
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", scope]).arg(unit);
    let runtime = tempfile::tempdir().unwrap();
    command.env("XDG_RUNTIME_DIR", runtime.path());
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let ours = said.lines().filter(|line| line.contains("exuvia")).collect::<Vec<_>>().join("\n");
            Some(if output.status.success() { ours } else { said })
        }
        Err(e) => {
            eprintln!("SKIPPED: no systemd-analyze, so no unit was verified: {e}");
            None
        }
    }
}

#[test]
fn install_status_and_uninstall_leave_nothing_behind() {
    let place = place();
    let before = everything(&place);
    let status = place.run(&["service", "status"]).exits(1);
    assert!(status.text().contains("no service is installed"), "{}", status.text());

    let run = place.run(&["service", "install"]).exits(0);
    assert_eq!(
        calls(&place),
        ["systemctl --user daemon-reload", "systemctl --user enable --now exuvia.service"]
    );
    let text = fs::read_to_string(unit(&place)).unwrap();
    assert!(text.lines().all(|line| run.text().contains(line)), "{}", run.text());
    assert!(run.text().contains("ran: systemctl --user daemon-reload\n"), "{}", run.text());
    assert!(run.stderr.contains("loginctl enable-linger"), "{}", run.stderr);
    let program = env!("CARGO_BIN_EXE_exuvia");
    assert!(text.contains(&format!("ExecStart=\"{program}\" daemon\n")), "{text}");
    let config = place.path("the config/exuvia/config.toml");
    assert!(text.contains(&format!("Environment=\"EXUVIA_CONFIG={}\"\n", config.display())), "{text}");
    if let Some(wrong) = verified(&unit(&place), true) {
        assert_eq!(wrong, "");
    }
    let state = json(&place, &["service", "status"]).exits(0).summary();
    assert_eq!(state["services"][0]["enabled"], true);
    assert_eq!(state["services"][0]["differs"], false);

    // A second time there is nothing to do.
    let again = json(&place, &["service", "install"]).exits(0).summary();
    assert_eq!((again["changed"].as_bool(), again["running"].as_bool()), (Some(false), Some(true)));
    assert_eq!(calls(&place), [""; 0]);

    // Other settings: it says so, and is brought up to date.
    let other = ["--state-dir", "other", "service", "status"];
    let differs = place.run(&other).exits(1);
    assert!(differs.text().contains("it differs"), "{}", differs.text());
    place.run(&["--state-dir", "other", "service", "install"]).exits(0);
    assert_eq!(calls(&place), ["systemctl --user daemon-reload", "systemctl --user restart exuvia.service"]);
    let state_dir = format!("Environment=\"EXUVIA_STATE_DIR={}\"\n", place.path("other").display());
    assert!(fs::read_to_string(unit(&place)).unwrap().contains(&state_dir));
    place.run(&other).exits(0);

    fs::remove_file(place.path("bin/state/active")).unwrap();
    let stopped = place.run(&other).exits(1);
    assert!(stopped.text().contains("enabled, not running"), "{}", stopped.text());

    let run = json(&place, &["service", "uninstall"]).exits(0).summary();
    assert_eq!(
        calls(&place),
        ["systemctl --user disable --now exuvia.service", "systemctl --user daemon-reload"]
    );
    assert_eq!(run["removed"][0]["path"], unit(&place).to_str().unwrap());
    assert_eq!(everything(&place), before);
    place.run(&["service", "status"]).exits(1);
    let none = place.run(&["service", "uninstall"]).exits(0);
    assert_eq!((none.text(), calls(&place).len()), ("no service is installed\n", 0));
}

#[test]
fn folders_and_files_of_others_stay() {
    let place = place();
    let other = place.write("the config/systemd/user/other.service", "[Service]\n");
    place.run(&["service", "install"]).exits(0);
    place.run(&["service", "uninstall"]).exits(0);
    assert!(other.exists() && !unit(&place).exists());
    fs::remove_file(&other).unwrap();
    place.run(&["service", "install"]).exits(0);
    place.run(&["service", "uninstall"]).exits(0);
    // It was there before.
    assert!(unit(&place).parent().unwrap().exists());

    let theirs = place.write("the config/systemd/user/exuvia.service", "[Service]\nExecStart=/bin/true\n");
    for action in ["install", "uninstall", "status"] {
        let run = place.run(&["service", action]).exits(1);
        assert!(run.stderr.contains("was not written by exuvia"), "{}", run.stderr);
    }
    assert!(fs::read_to_string(theirs).unwrap().contains("/bin/true"));
}

#[test]
fn a_dry_run_only_looks() {
    let place = place();
    let before = everything(&place);
    let run = place.run(&["service", "install", "--dry-run"]).exits(0);
    assert!(run.text().contains("would run: systemctl --user enable --now exuvia.service"), "{}", run.text());
    assert_eq!((calls(&place).len(), everything(&place)), (0, before));
    place.run(&["service", "install"]).exits(0);
    let installed = (calls(&place).len(), everything(&place));
    let run = place.run(&["service", "uninstall", "--dry-run"]).exits(0);
    assert!(run.text().contains("would remove: "), "{}", run.text());
    assert_eq!((2, everything(&place)), installed);
    assert_eq!(calls(&place).len(), 0);
}

#[test]
fn without_a_service_manager_the_unit_is_written_and_said_not_to_run() {
    let place = place();
    let before = everything(&place);
    fs::write(place.path("bin/state/nobus"), "").unwrap();
    let run = place.run(&["service", "install"]).exits(1);
    assert!(run.stderr.contains("No medium found"), "{}", run.stderr);
    assert!(run.stderr.contains("--kind cron"), "{}", run.stderr);
    assert!(unit(&place).exists());
    let status = place.run(&["service", "status"]).exits(1);
    assert!(status.text().contains("cannot be asked"), "{}", status.text());
    // As a version of systemctl leaves it that needs no manager to enable a unit.
    let wants = place.path("the config/systemd/user/default.target.wants");
    fs::create_dir(&wants).unwrap();
    std::os::unix::fs::symlink(unit(&place), wants.join("exuvia.service")).unwrap();
    place.run(&["service", "uninstall"]).exits(0);
    assert_eq!(everything(&place), before);
}

#[test]
fn the_crontab_keeps_the_lines_of_others() {
    let place = place();
    let crontab = place.path("bin/state/crontab");
    let theirs = "MAILTO=ann\n0 3 * * * /usr/bin/other # 100%\n";
    fs::write(&crontab, theirs).unwrap();
    let cron = |action: &str| place.run(&["service", action, "--kind", "cron"]);
    cron("status").exits(1);
    let run = cron("install").exits(0);
    assert!(run.text().contains("cron runs it every five minutes"), "{}", run.text());
    let both = fs::read_to_string(&crontab).unwrap();
    let ours = both.strip_prefix(theirs).unwrap();
    assert!(
        ours.starts_with("*/5 * * * * XDG_CONFIG_HOME=") || ours.starts_with("*/5 * * * * EXUVIA_CONFIG=")
    );
    assert!(ours.contains(" --quiet daemon --once # exuvia service\n"), "{ours}");
    // The shell must read what was meant.
    let command = ours.strip_prefix("*/5 * * * * ").unwrap().replace("\\%", "%");
    let echo = command.replace(env!("CARGO_BIN_EXE_exuvia"), "env #");
    let said = Command::new("sh").args(["-c", &echo]).output().unwrap();
    let config = format!("EXUVIA_CONFIG={}\n", place.path("the config/exuvia/config.toml").display());
    assert!(String::from_utf8_lossy(&said.stdout).contains(&config), "{said:?}");
    cron("status").exits(0);
    cron("install").exits(0);
    assert_eq!(fs::read_to_string(&crontab).unwrap(), both);
    place.run(&["service", "uninstall"]).exits(0);
    assert_eq!(fs::read_to_string(&crontab).unwrap(), theirs);

    fs::remove_file(&crontab).unwrap();
    cron("install").exits(0);
    cron("uninstall").exits(0);
    assert!(!crontab.exists());
}

#[test]
fn launchd_is_told_of_its_file() {
    let place = place();
    let before = everything(&place);
    let launchd = |action: &str| place.run(&["service", action, "--kind", "launchd"]);
    launchd("install").exits(0);
    let file = place.path("home/Library/LaunchAgents/org.exuvia.daemon.plist");
    let bootstrap = calls(&place).pop().unwrap();
    assert!(bootstrap.starts_with("launchctl bootstrap gui/"), "{bootstrap}");
    assert!(bootstrap.ends_with(file.to_str().unwrap()), "{bootstrap}");
    launchd("status").exits(0);
    launchd("install").exits(0);
    assert_eq!(calls(&place), [""; 0]);
    launchd("uninstall").exits(0);
    assert_eq!(everything(&place), before);
}

#[test]
fn no_secret_gets_into_a_services_file() {
    let mut place = place();
    fs::remove_file(place.path("the config/exuvia/config.toml")).unwrap();
    place.set("EXUVIA_REPO", "repo").set("EXUVIA_PASSPHRASE", "hunter2");
    let run = place.run(&["service", "install"]).exits(0);
    assert!(run.stderr.contains("EXUVIA_PASSPHRASE belongs to this shell"), "{}", run.stderr);
    let text = fs::read_to_string(unit(&place)).unwrap();
    assert!(!text.contains("hunter2") && !run.text().contains("hunter2"), "{text}");
    assert!(text.contains(&format!("EXUVIA_REPO={}\"", place.path("repo").display())), "{text}");

    place.set("EXUVIA_REPO", "rclone::s3,secret_access_key=hunter2:bucket");
    let run = place.run(&["service", "install", "--dry-run"]).exits(2);
    assert!(run.stderr.contains("configuration file") && !run.stderr.contains("hunter2"), "{}", run.stderr);
}

#[test]
fn a_system_unit_is_closed_but_for_what_is_written() {
    let place = place();
    let run = json(
        &place,
        &[
            "--config",
            "the config/exuvia/config.toml",
            "service",
            "install",
            "--system",
            "--user",
            "root",
            "--dry-run",
        ],
    );
    let text = run.exits(0).summary()["text"].as_str().unwrap().to_owned();
    for wanted in
        ["User=root\n", "ProtectSystem=strict\n", "ReadWritePaths=\"-", "WantedBy=multi-user.target\n"]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // Names that systemd reads as something else unless they are escaped.
    let odd = place.path("odd 50% \"q\" \\b 'x' $HOME");
    fs::create_dir(&odd).unwrap();
    let file = place.write("units/exuvia.service", &text);
    if let Some(wrong) = verified(&file, false) {
        assert_eq!(wrong, "");
    }
    let state = odd.join("state");
    let args = ["--state-dir", state.to_str().unwrap(), "service", "install", "--dry-run"];
    for (scope, user) in [(&["--system", "--user", "root"][..], false), (&[], true)] {
        let run = json(&place, &[&args[..], scope].concat());
        let text = run.exits(0).summary()["text"].as_str().unwrap().to_owned();
        fs::write(&file, &text).unwrap();
        if let Some(wrong) = verified(&file, user) {
            assert_eq!(wrong, "", "{text}");
        }
    }
    let unknown = place.run(&["service", "install", "--system", "--user", "no-such-user", "-n"]).exits(2);
    assert!(unknown.stderr.contains("no user no-such-user"), "{}", unknown.stderr);
}

/// The daemon would read the configuration without the variables of this shell, and end at once.
#[test]
fn a_variable_that_the_service_will_not_have_is_refused_by_name() {
    let mut place = place();
    let config = "the config/exuvia/config.toml";
    place.write(
        config,
        "repository = \"${REPO}\"\npassphrase_command = \"printf %s \\\"${WORD:?is not set}\\\" # ${SSH_TTY} $HOME\"\n",
    );
    place.set("REPO", "/tmp/repo").set("WORD", "hunter2").set("SSH_TTY", "/dev/tty");
    let before = everything(&place);
    for args in [&["service", "install"][..], &["service", "install", "--dry-run"]] {
        let run = place.run(args).exits(2);
        assert!(run.stderr.contains("would not have REPO, WORD, which"), "{}", run.stderr);
        assert!(run.stderr.contains("exuvia.service.d/environment.conf"), "{}", run.stderr);
        assert!(run.stderr.contains("names SSH_TTY, which the service may not have"), "{}", run.stderr);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
    assert_eq!((everything(&place), calls(&place).len()), (before, 0));
    // The service manager may have them, or a file of the unit's own.
    place.write("bin/state/environment", "HOME=/root\nREPO=/tmp/repo\nWORD=$'a b'\n");
    place.run(&["service", "install", "--dry-run"]).exits(0);
    fs::remove_file(place.path("bin/state/environment")).unwrap();
    let own = place.write(
        "the config/systemd/user/exuvia.service.d/environment.conf",
        "[Service]\nEnvironmentFile=/home/ann/variables\n",
    );
    place.run(&["service", "install"]).exits(0);
    place.run(&["service", "uninstall"]).exits(0);
    assert!(own.exists());
    // Cron gets what stands in the crontab.
    let cron = ["service", "install", "--kind", "cron"];
    fs::write(place.path("bin/state/crontab"), "REPO=/tmp/repo\n").unwrap();
    let run = place.run(&cron).exits(2);
    assert!(run.stderr.contains("would not have WORD, which"), "{}", run.stderr);
    fs::write(place.path("bin/state/crontab"), "REPO=/tmp/repo\nWORD = x\n").unwrap();
    place.run(&cron).exits(0);
}

/// Another user's service may have what nobody has set here.
#[test]
fn a_system_service_has_variables_of_its_own() {
    let place = place();
    let config = "the config/exuvia/config.toml";
    place.write(config, "repository = \"${REPO}\"\npassphrase_file = \"${SECRETS}/pw\"\n");
    let run = |action: &[&str]| {
        place.run(
            &[&["--json", "--config", config, "service"], action, &["--system", "--user", "root"]].concat(),
        )
    };
    let install = ["install", "--dry-run"];
    let refused = run(&install).exits(2);
    assert!(refused.stderr.contains("would not have REPO, SECRETS, which"), "{}", refused.stderr);
    place.write("bin/state/environment", "REPO=/srv/r\nSECRETS=/srv/s\n");
    let text = run(&install).exits(0).summary()["text"].as_str().unwrap().to_owned();
    // Where the repository is, nobody knows here.
    assert!(text.contains("ProtectSystem=full\n"), "{text}");
    // With these, somebody looks at what there is, and takes it away.
    assert_eq!(run(&["status"]).exits(1).summary()["installed"], false);
    run(&["uninstall", "--dry-run"]).exits(0);
    place.write(config, "this is no configuration");
    run(&["uninstall", "--dry-run"]).exits(0);
}

#[test]
fn a_variable_that_nobody_can_be_asked_for_is_warned_of() {
    let mut place = place();
    place.write("the config/exuvia/config.toml", "repository = \"${REPO}\"\npassphrase_file = \"pw\"\n");
    place.set("REPO", "/tmp/repo");
    let launchd = ["service", "install", "--dry-run", "--kind", "launchd"];
    place.run(&launchd).exits(2);
    place.write("bin/state/setenv", "REPO");
    let run = place.run(&launchd).exits(0);
    assert!(!run.stderr.contains("REPO"), "{}", run.stderr);
    place.run(&["service", "install", "--dry-run"]).exits(2);
    fs::write(place.path("bin/state/nobus"), "").unwrap();
    let run = place.run(&["service", "install", "--dry-run"]).exits(0);
    assert!(run.stderr.contains("refers to REPO, which the service may not have"), "{}", run.stderr);
}

#[test]
fn files_go_even_when_the_service_cannot_be_stopped() {
    let place = place();
    let before = everything(&place);
    place.run(&["service", "install"]).exits(0);
    fs::write(place.path("bin/state/stuck"), "").unwrap();
    let run = place.run(&["service", "uninstall"]).exits(1);
    assert!(run.stderr.contains("may still run") && run.stderr.contains("Job timed out"), "{}", run.stderr);
    assert_eq!(everything(&place), before);
}

#[test]
fn limits_and_switches_of_this_shell_are_the_services_too() {
    let mut place = place();
    place.set("EXUVIA_KEY_CACHE", "off").set("EXUVIA_BWLIMIT", "1M").set("EXUVIA_THREADS", "3");
    place.set("EXUVIA_TPSLIMIT", "5");
    let args = ["--bwlimit", "2M", "--connections", "2", "service", "install"];
    place.run(&args).exits(0);
    let text = fs::read_to_string(unit(&place)).unwrap();
    for wanted in [
        "EXUVIA_KEY_CACHE=off",
        "EXUVIA_BWLIMIT=2M",
        "EXUVIA_CONNECTIONS=2",
        "EXUVIA_THREADS=3",
        "EXUVIA_TPSLIMIT=5",
    ] {
        assert!(text.contains(&format!("Environment=\"{wanted}\"\n")), "{wanted}: {text}");
    }
    place.set("EXUVIA_THREADS", "0");
    let run = place.run(&["service", "install"]).exits(2);
    assert!(run.stderr.contains("EXUVIA_THREADS must be a number from 1 to 1024"), "{}", run.stderr);
}

/// What opens the storage here may be nothing that the service has.
#[test]
fn what_only_this_shell_knows_of_the_storage_is_told_of() {
    let mut place = place();
    place.set("RCLONE_CONFIG_PASS", "hunter2").set("AWS_PROFILE", "backups");
    let warned = |config: &str| {
        place.write("the config/exuvia/config.toml", &format!("passphrase_file = \"pw\"\n{config}"));
        let stderr = place.run(&["service", "install", "--dry-run"]).exits(0).stderr;
        assert!(!stderr.contains("hunter2"), "{stderr}");
        stderr.contains("RCLONE_CONFIG_PASS, AWS_PROFILE is set in this shell")
    };
    assert!(warned("repository = \"rclone:there:agent\"\n"));
    assert!(warned("[remote]\nprovider = \"s3\"\nbucket = \"b\"\n"));
    let keys = "key_id = \"i\"\nsecret = \"s\"\nbucket = \"b\"\n";
    assert!(!warned(&format!("[remote]\nprovider = \"b2\"\n{keys}")));
    assert!(!warned("repository = \"repo\"\n"));
}

#[test]
fn a_keyring_is_no_help_where_there_is_no_session() {
    let place = place();
    place.write("the config/exuvia/config.toml", "repository = \"repo\"\npassphrase_keyring = true\n");
    let warned = |args: &[&str]| {
        let run = place.run(&[&["service", "install", "--dry-run"], args].concat()).exits(0);
        run.stderr.contains("the keyring belongs to your session")
    };
    assert!(warned(&["--kind", "cron"]) && !warned(&[]));
}

/// Whatever `crontab` says: who has no crontab has no line in it, and none is made in the place of one that cannot be
/// read.
#[test]
fn a_crontab_that_cannot_be_read_stops_nobody_else() {
    let place = place();
    let complaint = place.path("bin/state/complaint");
    fs::write(&complaint, "You (ann) are not allowed to use this program (crontab)\n").unwrap();
    let status = place.run(&["service", "status"]).exits(1);
    assert!(status.text().contains("no service is installed"), "{}", status.text());
    assert!(status.text().contains("cron: the crontab cannot be read"), "{}", status.text());
    assert_eq!(json(&place, &["service", "status"]).exits(1).summary()["installed"], false);
    place.run(&["service", "install"]).exits(0);
    place.run(&["service", "status"]).exits(0);
    // A line from before he was kept from it would run on.
    let run = place.run(&["service", "uninstall"]).exits(0);
    assert!(run.stderr.contains("may have a line"), "{}", run.stderr);
    let run = place.run(&["service", "uninstall"]).exits(1);
    assert!(run.stderr.contains("may have a line") && run.stderr.contains("not allowed"), "{}", run.stderr);
    assert!(!run.text().contains("no service is installed"), "{}", run.text());
    for action in ["install", "status", "uninstall"] {
        let run = place.run(&["service", action, "--kind", "cron"]).exits(1);
        assert!(run.stderr.contains("not allowed to use"), "{}", run.stderr);
    }
    // As BusyBox has it.
    fs::write(&complaint, "crontab: can't open 'ann': No such file or directory\n").unwrap();
    place.run(&["service", "install", "--kind", "cron"]).exits(0);
    assert!(place.path("bin/state/crontab").exists());
}
