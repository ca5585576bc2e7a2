//! Remotes by name and from the configuration file: what is understood, shown and refused. Nothing here
//! reaches a service; whoever would need rclone finds a program that is not there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::Place;

const SECRET: &str = "hunter2";
const B2: &str = "state_dir = \"/srv/state\"\nbwlimit = \"10M\"\n\n[remote]\nprovider = \"b2\"\nkey_id = \"0012\"\n\
                  application_key = \"${B2_KEY}\"\nbucket = \"my-bucket\"\ndeadline = \"10m\"\n";

fn configured(text: &str) -> Place {
    let mut place = Place::new();
    let file = place.write("home/.config/exuvia/config.toml", text);
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    place.set("EXUVIA_RCLONE", "/nowhere/rclone").set("EXUVIA_PASSPHRASE", "correct horse");
    place
}

fn row<'a>(rows: &'a Value, setting: &str) -> &'a Value {
    rows.as_array().unwrap().iter().find(|row| row["setting"] == setting).unwrap_or(&Value::Null)
}

#[test]
fn settings_are_shown_with_their_origin_and_without_secrets() {
    let mut place = configured(B2);
    place.set("B2_KEY", SECRET).set("EXUVIA_TPSLIMIT", "4");
    let run = place.run(&["--json", "--connections", "3", "config", "show"]).exits(0);
    assert!(!run.text().contains(SECRET) && run.stderr.is_empty(), "{}", run.stderr);
    let rows = run.summary();
    let file = place.path("home/.config/exuvia/config.toml").to_str().unwrap().to_owned();
    let at = |line: u32| format!("{file}:{line}");
    for (setting, value, origin, from) in [
        ("repository", "rclone:b2:my-bucket/exuvia", "file", at(4).as_str()),
        ("remote.key_id", "0012", "file", &at(6)),
        ("state_dir", "/srv/state", "file", &at(1)),
        ("bwlimit", "10M", "file", &at(2)),
        ("deadline", "10m", "file", &at(9)),
        ("connections", "3", "flag", "--connections"),
        ("tpslimit", "4", "environment", "EXUVIA_TPSLIMIT"),
        ("rclone_program", "/nowhere/rclone", "environment", "EXUVIA_RCLONE"),
    ] {
        let row = row(&rows, setting);
        assert_eq!(
            (&row["value"], &row["origin"], &row["from"]),
            (&value.into(), &origin.into(), &from.into())
        );
        assert_eq!(row["secret"], false);
    }
    assert_eq!(row(&rows, "timeout")["origin"], "default");
    for (setting, from) in [("remote.secret", at(7).as_str()), ("passphrase", "EXUVIA_PASSPHRASE")] {
        let row = row(&rows, setting);
        assert_eq!((&row["value"], &row["secret"], &row["from"]), (&Value::Null, &true.into(), &from.into()));
    }
    let text = place.run(&["config", "show"]).exits(0);
    assert!(text.text().contains("(set)") && !text.text().contains(SECRET), "{}", text.text());
    // A flag puts the table out of force.
    let rows = place.run(&["--json", "--repo", "here", "config", "show"]).exits(0).summary();
    assert_eq!(row(&rows, "repository")["from"], "--repo");
    assert_eq!(row(&rows, "remote.key_id"), &Value::Null);
}

#[test]
fn check_says_which_repository_is_used() {
    let mut place = configured(B2);
    let error = place.run(&["--json", "config", "check"]).exits(2).error();
    let file = place.path("home/.config/exuvia/config.toml").to_str().unwrap().to_owned();
    let want =
        format!("{file}:7: `application_key` refers to the environment variable B2_KEY, which is not set");
    assert_eq!(error["message"], want);
    place.set("B2_KEY", SECRET);
    let run = place.run(&["config", "check"]).exits(0);
    let want = format!("{file}: no mistakes\nrepository: rclone:b2:my-bucket/exuvia (from {file}:4)\n");
    assert_eq!(run.text(), want);
    let summary = place.run(&["--json", "--repo", "r", "config", "check"]).exits(0).summary();
    assert_eq!(
        (&summary["ok"], &summary["remote"], &summary["from"]),
        (&true.into(), &false.into(), &"--repo".into())
    );
}

#[test]
fn a_secret_in_an_open_file_is_warned_of() {
    let place = configured(&B2.replace("${B2_KEY}", SECRET));
    let file = place.path("home/.config/exuvia/config.toml");
    assert_eq!(place.run(&["config", "check"]).exits(0).stderr, "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let run = place.run(&["config", "check"]).exits(0);
    assert!(
        run.stderr.contains("holds a secret in line 7") && run.stderr.contains("chmod 600"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains(SECRET));
}

#[test]
fn names_that_are_no_remotes_are_explained() {
    let place = configured("");
    for (name, want) in [
        (
            "rclone:",
            "--repo: a remote is named rclone:REMOTE:PATH; a second colon is missing after the remote's name",
        ),
        (
            "rclone:b2",
            "--repo: a remote is named rclone:REMOTE:PATH; a second colon is missing after the remote's name",
        ),
        (
            "rclone::s3,key='hunter2:b",
            "--repo: the connection string cannot be understood: a quote is not closed",
        ),
    ] {
        let run = place.run(&["--json", "--repo", name, "snapshots"]).exits(2);
        assert_eq!(run.error()["message"], want);
        assert!(!run.stderr.contains(SECRET));
    }
    let run = place.run(&["--tpslimit", "many", "snapshots"]).exits(2);
    assert!(run.stderr.contains("requests a second"), "{}", run.stderr);
    let place = configured("[remote]\nprovider = \"rclone\"\nremote = \"nothing\"");
    let run = place.run(&["snapshots"]).exits(2);
    assert!(run.stderr.contains("config.toml:1: a remote is named"), "{}", run.stderr);
}

#[test]
fn limits_from_the_environment_are_checked() {
    let mut place = configured("");
    place.set("EXUVIA_CONNECTIONS", "many");
    let error = place.run(&["--json", "config", "check"]).exits(2).error();
    assert_eq!(
        error["message"],
        "EXUVIA_CONNECTIONS must be a number of requests under way at once, from 1 to 64"
    );
}

/// Every command takes a remote, and says what is missing when there is no rclone.
#[test]
fn without_rclone_the_user_is_told_where_to_get_it() {
    let mut place = configured("");
    place.set("EXUVIA_REPO", "rclone::s3,secret_access_key=hunter2:b/p").write("state/a", "a");
    for args in [
        &["--json", "init"][..],
        &["--json", "backup", "state"],
        &["--json", "snapshots"],
        &["--json", "restore"],
        &["--json", "check"],
        &["--json", "stats"],
        &["--json", "ls", "latest"],
        &["--json", "key", "list"],
    ] {
        let run = place.run(args).exits(2);
        let error = run.error();
        let hint = error["hint"].as_str().unwrap();
        assert!(
            hint.contains("https://rclone.org/install/") && hint.contains("EXUVIA_RCLONE"),
            "{args:?} {hint}"
        );
        assert!(!run.stderr.contains(SECRET), "{}", run.stderr);
    }
}

/// Whoever copies an example must get no error for it.
#[test]
fn the_examples_of_the_readme_are_right() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let examples: Vec<&str> =
        readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let providers: Vec<&str> = examples.iter().filter_map(|e| e.split("provider = \"").nth(1)).collect();
    for provider in ["s3", "b2", "dropbox", "gdrive", "onedrive", "custom", "rclone"] {
        assert!(providers.iter().any(|p| p.starts_with(&format!("{provider}\""))), "{provider}");
    }
    for example in examples {
        let mut place = configured(example);
        for reference in example.split("${").skip(1) {
            place.set(reference.split('}').next().unwrap(), "{}");
        }
        let run = place.run(&["config", "check"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{example}");
    }
}
