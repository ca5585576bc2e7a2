//! The command line itself: usage, configuration, help.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{Place, names};

const COMMANDS: [&str; 18] = [
    "setup",
    "service",
    "init",
    "backup",
    "snapshots",
    "ls",
    "cat",
    "diff",
    "find",
    "restore",
    "check",
    "stats",
    "key",
    "config",
    "doctor",
    "bench",
    "completions",
    "man",
];

#[test]
fn help_and_version_are_results() {
    let place = Place::new();
    assert_eq!(place.run(&["--version"]).exits(0).text(), format!("exuvia {}\n", env!("CARGO_PKG_VERSION")));
    for flag in ["-h", "--help", "help"] {
        let run = place.run(&[flag]).exits(0);
        assert!(COMMANDS.iter().all(|command| run.text().contains(&format!("\n  {command} "))));
        assert!(run.text().contains("Examples:"));
        assert_eq!(run.stderr, "");
    }
    for command in COMMANDS {
        let run = place.run(&[command, "--help"]).exits(0);
        assert!(run.text().contains("Example"), "{command}");
    }
    assert!(names(&place.path("home")).is_empty());
}

#[test]
fn wrong_usage_is_2() {
    let place = Place::new();
    for args in [
        &[][..],
        &["--frobnicate"],
        &["backup", "--frobnicate"],
        &["backup", "--reason", "boredom"],
        &["check", "--read-data-subset", "10"],
        &["check", "--read-data-subset", "10%", "--read-data"],
        &["init", "--kdf-log-n", "14"],
        &["init", "--kdf-log-n", "21"],
        &["snapshots", "--quiet", "-v"],
        &["snapshots", "--threads", "0"],
        &["backup", "--passphrase", "x"],
        &["cat", "latest"],
    ] {
        let run = place.run(args).exits(2);
        assert_eq!(run.text(), "", "{args:?}");
        assert!(!run.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn errors_are_documents_with_json() {
    let place = Place::new();
    for args in [
        &["--json", "snapshots", "--frobnicate"][..],
        &["--json", "--repo", "rclone:b2:x", "snapshots"],
        &["--json", "--repo", "r", "init"],
        &["--json", "--config", "none.toml", "snapshots"],
        &["--json", "--repo", "", "snapshots"],
        &["--json", "cat", "latest", "a/../b"],
    ] {
        let run = place.run(args).exits(2);
        assert_eq!(run.text(), "", "{args:?}");
        let error = run.error();
        assert_eq!(error["type"], "error", "{args:?}");
        assert_eq!(error["class"], "usage", "{args:?}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{args:?}");
        assert!(error.get("hint").is_some(), "{args:?}");
    }
}

#[test]
fn a_missing_passphrase_names_the_ways_to_give_it() {
    let place = Place::new();
    for command in ["snapshots", "init", "check"] {
        let run = place.run(&["--repo", "r", command]).exits(2);
        assert!(run.stderr.starts_with("exuvia: no passphrase is given"), "{}", run.stderr);
        for way in
            ["EXUVIA_PASSPHRASE,", "EXUVIA_PASSPHRASE_FILE", "EXUVIA_PASSPHRASE_COMMAND", "passphrase_file"]
        {
            assert!(run.stderr.contains(way), "{way}");
        }
    }
    assert!(!place.path("r").exists());
}

#[test]
fn bad_sources_of_passphrases_are_refused() {
    let empty =
        Place::new().set("EXUVIA_PASSPHRASE_COMMAND", "true").run(&["--repo", "r", "snapshots"]).exits(2);
    assert!(empty.stderr.contains("is empty"), "{}", empty.stderr);
    let fails = Place::new()
        .set("EXUVIA_PASSPHRASE_COMMAND", "echo secret; echo why >&2; exit 4")
        .run(&["--repo", "r", "snapshots"])
        .exits(2);
    assert!(fails.stderr.starts_with("why\n") && fails.stderr.contains("exit status: 4"), "{}", fails.stderr);
    let none =
        Place::new().set("EXUVIA_PASSPHRASE_FILE", "nowhere").run(&["--repo", "r", "snapshots"]).exits(2);
    assert!(none.stderr.contains("nowhere"), "{}", none.stderr);
    // An empty variable counts as unset.
    let unset = Place::new().set("EXUVIA_PASSPHRASE", "").run(&["--repo", "r", "snapshots"]).exits(2);
    assert!(unset.stderr.contains("no passphrase is given"), "{}", unset.stderr);
    for run in [empty, fails, none, unset] {
        assert!(!run.stderr.contains("secret"));
    }
}

#[test]
fn a_passphrase_file_that_others_can_read_is_warned_of() {
    let mut place = Place::new();
    let file = place.write("pw", "secret\n");
    place.set("EXUVIA_PASSPHRASE_FILE", "pw");
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let run = place.run(&["--repo", "r", "snapshots"]);
        assert_eq!(run.stderr.contains("warning: "), warned, "{}", run.stderr);
        assert!(!run.stderr.contains("secret"));
    }
}

#[test]
fn the_configuration_file_is_checked() {
    let mut place = Place::new();
    place.write("home/.config/exuvia/config.toml", "\nrepositry = \"/r\"\n");
    let run = place.run(&["snapshots"]).exits(2);
    assert!(run.stderr.contains("config.toml:2: unknown key `repositry`; did you mean `repository`?"));
    // What needs no configuration works with a broken one.
    place.run(&["completions", "bash"]).exits(0);

    // One that is named wins.
    place.write("other.toml", "repository = \"there\"\n");
    for args in [&["--config", "other.toml", "snapshots"][..], &["snapshots", "--config", "other.toml"]] {
        let run = place.run(args).exits(2);
        assert!(run.stderr.contains("no passphrase is given"), "{}", run.stderr);
    }
    place.set("EXUVIA_CONFIG", "other.toml").run(&["snapshots"]).exits(2);
    let run = place.set("EXUVIA_CONFIG", "none.toml").run(&["snapshots"]).exits(2);
    assert!(run.stderr.contains("cannot read the configuration file none.toml"), "{}", run.stderr);
}

#[test]
fn a_backup_of_nothing_makes_nothing() {
    let place = Place::new();
    for args in [&["backup"][..], &["backup", "nowhere"], &["backup", "--state-dir", "nowhere"]] {
        let run = place.run(args).exits(1);
        assert!(run.stderr.contains("cannot read"), "{}", run.stderr);
    }
    assert!(names(&place.path("home")).is_empty());
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let mut place = Place::new();
    let taken = |place: &Place, args: &[&str], want: &str| {
        let run = place.run(args).exits(0);
        assert!(run.text().contains(&format!("repository: {want} (")), "{args:?}: {}", run.text());
    };
    place.write("home/.config/exuvia/config.toml", "repository = \"rclone:file:\"\n");
    taken(&place, &["config", "check"], "rclone:file:");
    place.set("EXUVIA_REPO", "rclone:variable:");
    taken(&place, &["config", "check"], "rclone:variable:");
    taken(&place, &["config", "check", "--repo", "rclone:flag:"], "rclone:flag:");
    place.set("EXUVIA_REPO", "");
    taken(&place, &["config", "check"], "rclone:file:");
}

#[test]
fn completions_are_written_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = place.run(&["completions", shell]).exits(0);
        assert!(run.text().contains("skip-if-unchanged"), "{shell}");
    }
    place.run(&["completions", "dos"]).exits(2);
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    place.run(&["man", "a/man1"]).exits(0);
    let pages = names(&place.path("a/man1"));
    assert!(pages.contains(&"exuvia.1".to_owned()));
    for command in COMMANDS.into_iter().chain([
        "key-list",
        "key-add",
        "key-remove",
        "key-change",
        "config-show",
        "config-check",
    ]) {
        assert!(pages.contains(&format!("exuvia-{command}.1")), "{command}: {pages:?}");
    }
    place.write("file", "");
    place.run(&["man", "file"]).exits(1);
}

#[test]
fn closed_outputs_are_no_panic() {
    let place = Place::new();
    // The reader's end is dropped at once.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        place.command(&["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = place.command(&["--json", "--repo", "r", "snapshots"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));
    // A full disk is an error, and it is said.
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let output = place.command(&["completions", "bash"]).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("exuvia: cannot write the output"));
    }
}
