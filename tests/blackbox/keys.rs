//! Passphrases, recovery phrases, key files and the keyring, from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{PASSPHRASE, Place, Run, names, picture, put, same, with_repository};

/// Rows of `key list`.
fn keys(place: &Place) -> Vec<Value> {
    place.run(&["--json", "key", "list"]).exits(0).summary().as_array().unwrap().clone()
}

/// A key by its label.
fn labelled<'a>(keys: &'a [Value], label: &str) -> &'a Value {
    keys.iter().find(|key| key["label"] == label).unwrap_or_else(|| panic!("no key {label}: {keys:?}"))
}

fn id(key: &Value) -> &str {
    key["id"].as_str().unwrap()
}

/// Opens with a passphrase on a machine that has never seen the repository.
fn opens(place: &Place, passphrase: &str) -> Run {
    let mut elsewhere = Place::new();
    let repo = place.path("repo");
    elsewhere.set("EXUVIA_PASSPHRASE", passphrase).set("EXUVIA_REPO", repo.to_str().unwrap());
    elsewhere.run(&["snapshots"])
}

/// Puts a program into a directory that comes first in PATH.
fn program(place: &mut Place, name: &str, script: &str) {
    let path = place.write(&format!("bin/{name}"), script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    place.set("PATH", &path);
}

#[test]
fn every_key_tells_its_holders_what_it_is() {
    let mut place = with_repository();
    place.set("EXUVIA_NEW_PASSPHRASE", "another passphrase");
    place.run(&["key", "add", "--label", "phone", "--kdf-log-n", "15"]).exits(0);
    let listed = keys(&place);
    assert_eq!(listed.len(), 2);
    let (first, phone) = (labelled(&listed, "first"), labelled(&listed, "phone"));
    assert_eq!((&first["current"], &phone["current"]), (&true.into(), &false.into()));
    for key in [first, phone] {
        assert_eq!(
            (&key["kind"], &key["kdf_log_n"], &key["problem"]),
            (&"owner".into(), &15.into(), &Value::Null)
        );
    }
    // The holder of the other one sees the same.
    place.set("EXUVIA_PASSPHRASE", "another passphrase");
    let listed = keys(&place);
    assert_eq!(labelled(&listed, "phone")["current"], true);
    let table = place.run(&["key", "list"]).exits(0);
    assert!(table.text().contains("owner") && table.text().contains("first"), "{}", table.text());
    // A passphrase that is there already would be one key more that has to be removed some day.
    let run = place.run(&["key", "add", "--label", "again"]).exits(2);
    assert!(run.stderr.contains("has this passphrase already"), "{}", run.stderr);
}

#[test]
fn removing_a_key_is_asked_and_the_last_one_stays() {
    let mut place = with_repository();
    let first = id(&keys(&place)[0]).to_owned();
    let run = place.run(&["key", "remove", &first, "--yes", "--force"]).exits(2);
    assert!(run.stderr.contains("only one"), "{}", run.stderr);
    place.set("EXUVIA_NEW_PASSPHRASE", "another passphrase");
    place.run(&["key", "add", "--label", "two", "--kdf-log-n", "15"]).exits(0);
    let two = id(labelled(&keys(&place), "two")).to_owned();
    // Nobody is there to answer.
    let run = place.run(&["key", "remove", &two[..10]]).exits(2);
    assert!(run.stderr.contains("--yes"), "{}", run.stderr);
    let run = place.run(&["key", "remove", &first, "--yes"]).exits(2);
    assert!(run.stderr.contains("in use") && run.stderr.contains("--force"), "{}", run.stderr);
    assert_eq!(keys(&place).len(), 2);
    place.run(&["key", "remove", &first, "--yes", "--force"]).exits(0);
    // Not from the cache either, and not for a backup, which asks less than others.
    place.write("tree/a", "a");
    place.run(&["snapshots"]).exits(12);
    place.run(&["backup", "tree"]).exits(12);
    assert_eq!(opens(&place, PASSPHRASE).code, Some(12));
    opens(&place, "another passphrase").exits(0);
}

#[test]
fn an_old_passphrase_opens_nothing_on_this_machine() {
    let mut place = with_repository();
    place.write("tree/a", "a");
    place.backup("tree");
    place.set("EXUVIA_NEW_PASSPHRASE", "another passphrase");
    let changed = place.run(&["--json", "key", "change", "--kdf-log-n", "15"]).exits(0).summary();
    assert_eq!(changed["removed"].as_array().unwrap().len(), 1, "{changed}");
    for args in [&["snapshots"][..], &["backup", "tree"], &["restore", "--to", "out"]] {
        place.run(args).exits(12);
    }
    place.set("EXUVIA_PASSPHRASE", "another passphrase");
    place.backup("tree");
    place.is_sound();
}

#[test]
fn weak_passphrases_are_refused_or_warned_of() {
    let mut place = with_repository();
    place.write("empty", "\n");
    let run = place.run(&["key", "add", "--new-passphrase-file", "empty"]).exits(2);
    assert!(run.stderr.contains("is empty"), "{}", run.stderr);
    place.set("EXUVIA_NEW_PASSPHRASE", "short");
    let run = place.run(&["key", "add", "--kdf-log-n", "15"]).exits(0);
    assert!(
        run.stderr.contains("fewer than 12 characters") && !run.stderr.contains("short"),
        "{}",
        run.stderr
    );
    place.set("EXUVIA_NEW_PASSPHRASE", "longer than that");
    let run = place.run(&["key", "add", "--kdf-log-n", "15"]).exits(0);
    assert_eq!(run.stderr, "");
    place.set("EXUVIA_NEW_PASSPHRASE", "").set("EXUVIA_NEW_PASSPHRASE_COMMAND", "echo from a command");
    place.run(&["key", "add", "--kdf-log-n", "15"]).exits(0);
    opens(&place, "from a command").exits(0);
    place.set("EXUVIA_NEW_PASSPHRASE_COMMAND", "exit 7");
    let run = place.run(&["key", "add"]).exits(2);
    assert!(run.stderr.contains("EXUVIA_NEW_PASSPHRASE_COMMAND failed: exit status: 7"), "{}", run.stderr);
    place.set("EXUVIA_NEW_PASSPHRASE_COMMAND", "");
    let run = place.run(&["key", "add"]).exits(2);
    assert!(run.stderr.contains("--generate-key-file"), "{}", run.stderr);
}

#[test]
fn key_files_are_generated_private_and_never_overwritten() {
    let mut place = with_repository();
    place.write("tree/a", "a");
    place.backup("tree");
    let args = ["--json", "key", "add", "--label", "cron", "--generate-key-file", "keys/cron.key"];
    let added = place.run(&args).exits(0).summary();
    let file = place.path("keys/cron.key");
    assert_eq!(added["key_file"], file.to_str().unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&place.path("keys"))), (0o600, 0o700));
    let key = fs::read_to_string(&file).unwrap();
    assert!(key.len() == 65 && !added.to_string().contains(key.trim_end()));
    // 256 bits need no stretching.
    assert_eq!(labelled(&keys(&place), "cron")["kdf_log_n"], 10);

    let run = place.run(&args).exits(2);
    assert!(run.stderr.contains("no key is overwritten"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert!(run.stderr.contains("--new-passphrase-file"), "{}", run.stderr);
    let run = place.run(&["key", "add", "--generate-key-file", "repo/keys/mine"]).exits(2);
    assert!(run.stderr.contains("protects nothing"), "{}", run.stderr);
    assert_eq!(names(&place.path("repo/keys")).len(), 2);

    let mut elsewhere = Place::new();
    elsewhere
        .set("EXUVIA_PASSPHRASE_FILE", file.to_str().unwrap())
        .set("EXUVIA_REPO", place.path("repo").to_str().unwrap());
    same(&elsewhere.restored("latest"), &picture(&place.path("tree")), "by the key file");
    // Its mode is looked at whenever it is used.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    place.set("EXUVIA_PASSPHRASE", "").set("EXUVIA_PASSPHRASE_FILE", "keys/cron.key");
    let run = place.run(&["snapshots"]).exits(0);
    assert!(run.stderr.contains("open to other users"), "{}", run.stderr);
}

#[test]
fn a_change_to_a_key_file_that_was_cut_off_is_finished_by_the_same_command() {
    let mut place = with_repository();
    let old = fs::read_dir(place.path("repo/keys")).unwrap().next().unwrap().unwrap().path();
    let change = ["--json", "key", "change", "--generate-key-file", "new.key"];
    // Before anything was stored of it, the file opens nothing, and is somebody's.
    place.write("other.key", &format!("{}\n", "5".repeat(64)));
    place.run(&["key", "change", "--generate-key-file", "other.key"]).exits(2);
    // As it is when the old key could not be removed.
    let kept = fs::read(&old).unwrap();
    let new = place.run(&change).exits(0).summary()["id"].clone();
    fs::write(&old, kept).unwrap();
    let again = place.run(&change).exits(0).summary();
    assert_eq!((&again["id"], again["removed"].as_array().unwrap().len()), (&new, 1), "{again}");
    place.set("EXUVIA_PASSPHRASE", "").set("EXUVIA_PASSPHRASE_FILE", "new.key");
    assert_eq!(keys(&place).len(), 1);
}

/// The words of a printed grid.
fn words(printed: &str) -> Vec<String> {
    let letters = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
    printed.split_whitespace().filter(letters).map(str::to_owned).collect()
}

#[test]
fn a_recovery_phrase_restores_on_a_new_machine() {
    let place = with_repository();
    for i in 0..20u32 {
        put(&place.path("tree"), &format!("d{}/{i}", i % 3), format!("file {i}").as_bytes());
    }
    place.backup("tree");
    let wanted = picture(&place.path("tree"));
    let run = place.run(&["key", "recovery"]).exits(0);
    assert!(
        run.stderr.contains("no terminal") && run.stderr.contains("Write these words down"),
        "{}",
        run.stderr
    );
    let phrase = words(run.text());
    assert_eq!(phrase.len(), 12, "{}", run.text());
    // Nowhere but there.
    let listed = keys(&place);
    assert_eq!(labelled(&listed, "recovery")["kdf_log_n"], 10);
    assert!(!run.stderr.contains(&phrase.join(" ")));

    let plain = phrase.join(" ");
    let short: Vec<&str> = phrase.iter().map(|word| word.get(..4).unwrap_or(word)).collect();
    for typed in
        [plain.clone(), short.join("\n").to_uppercase(), format!("  {plain} \r\n"), run.text().to_owned()]
    {
        let mut elsewhere = Place::new();
        elsewhere.set("EXUVIA_PASSPHRASE", &typed).set("EXUVIA_REPO", place.path("repo").to_str().unwrap());
        same(&elsewhere.restored("latest"), &wanted, &typed);
        // From the cache of that machine, too.
        elsewhere.run(&["snapshots"]).exits(0);
    }
    // From a file, as a new machine would have it.
    let mut elsewhere = Place::new();
    let file = elsewhere.write("paper", &format!("{}\n", phrase.join("\n")));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    elsewhere.set("EXUVIA_PASSPHRASE_FILE", "paper").set("EXUVIA_REPO", place.path("repo").to_str().unwrap());
    same(&elsewhere.restored("latest"), &wanted, "from a file");

    // A slip is told, by place and not by word.
    let mut slipped = phrase.clone();
    slipped[4] = "moulting".to_owned();
    let run = opens(&place, &slipped.join(" ")).exits(12);
    assert!(run.stderr.contains("word 5 is not in the list"), "{}", run.stderr);
    assert!(phrase.iter().filter(|word| word.len() > 5).all(|word| !run.stderr.contains(word.as_str())));
    let run = opens(&place, &phrase[..11].join(" ")).exits(12);
    assert!(run.stderr.contains("11 words instead of 12"), "{}", run.stderr);
    let run = opens(&place, "just another passphrase").exits(12);
    assert!(!run.stderr.contains("recovery phrase"), "{}", run.stderr);

    // Without its key it is worth nothing.
    let recovery = id(labelled(&listed, "recovery")).to_owned();
    place.run(&["key", "remove", &recovery, "--yes"]).exits(0);
    assert_eq!(opens(&place, &plain).code, Some(12));
}

#[test]
fn a_recovery_phrase_that_nobody_saw_is_no_key() {
    let place = with_repository();
    // Where every write fails.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = place.command(&["key", "recovery"]).stdout(Stdio::from(full)).output().unwrap();
    let run: Run = output.into();
    let run = run.exits(1);
    assert!(
        run.stderr.contains("could not be printed") && run.stderr.contains("taken away"),
        "{}",
        run.stderr
    );
    assert_eq!(keys(&place).len(), 1);
    // In JSON for who asks for it.
    let summary = place.run(&["--json", "key", "recovery", "--label", "safe"]).exits(0).summary();
    opens(&place, summary["phrase"].as_str().unwrap()).exits(0);
    assert_eq!(id(labelled(&keys(&place), "safe")), summary["id"].as_str().unwrap());
}

/// Stands in for libsecret's tool: there is no session bus where tests run. It keeps secrets in files named by
/// their attributes, and notes its arguments.
const SECRET_TOOL: &str = r#"#!/bin/sh
store=$(dirname "$0")/secrets
mkdir -p "$store"
echo "$*" >> "$store/calls"
[ -e "$store/locked" ] && { echo "secret-tool: Cannot autolaunch D-Bus without X11" >&2; exit 1; }
[ -z "$EXUVIA_PASSPHRASE$EXUVIA_NEW_PASSPHRASE" ] || { echo "a secret in the environment" >&2; exit 1; }
call=$1; shift
case $1 in --label=*) shift ;; esac
item=$store/$(echo "$*" | tr ' /' '__')
case $call in
    store) cat > "$item" ;;
    lookup) [ -e "$item" ] || exit 1; cat "$item" ;;
    clear) rm -f "$item" ;;
    *) exit 2 ;;
esac
"#;

#[cfg(target_os = "linux")]
#[test]
fn the_keyring_keeps_the_passphrase() {
    let mut place = with_repository();
    program(&mut place, "secret-tool", SECRET_TOOL);
    let status = |place: &Place| {
        let summary = place.run(&["--json", "key", "keyring", "status"]).exits(0).summary();
        (summary["stored"].as_bool().unwrap(), summary["used"].as_bool().unwrap())
    };
    assert_eq!(status(&place), (false, false));
    // Only what opens the repository is stored.
    place.set("EXUVIA_PASSPHRASE", "wrong");
    place.run(&["key", "keyring", "store"]).exits(12);
    assert_eq!(status(&place), (false, false));
    place.set("EXUVIA_PASSPHRASE", PASSPHRASE);
    place.run(&["key", "keyring", "store"]).exits(0);
    assert_eq!(status(&place), (true, false));
    place.set("EXUVIA_PASSPHRASE", "");
    let run = place.run(&["snapshots"]).exits(2);
    assert!(run.stderr.contains("no passphrase is given"), "{}", run.stderr);
    place.set("EXUVIA_PASSPHRASE_KEYRING", "1");
    place.run(&["snapshots"]).exits(0);
    assert_eq!(status(&place), (true, true));
    // Not for another repository.
    place.run(&["--repo", "other", "snapshots"]).exits(2);
    // By the configuration file as well.
    place.set("EXUVIA_PASSPHRASE_KEYRING", "");
    place.write("home/.config/exuvia/config.toml", "passphrase_keyring = true\n");
    place.run(&["snapshots"]).exits(0);
    let shown = place.run(&["config", "show"]).exits(0);
    let row = shown.text().lines().find(|line| line.starts_with("passphrase_keyring")).unwrap();
    assert!(row.contains("on") && row.contains("config.toml:1"), "{row}");
    // What the environment names comes first.
    place.set("EXUVIA_PASSPHRASE", "wrong");
    place.run(&["snapshots"]).exits(12);
    place.set("EXUVIA_PASSPHRASE", "");

    // A change does not reach the keyring by itself, and says so.
    place.set("EXUVIA_NEW_PASSPHRASE", "another passphrase");
    let run = place.run(&["key", "change", "--kdf-log-n", "15"]).exits(0);
    assert!(run.stderr.contains("still has the old passphrase"), "{}", run.stderr);
    let run = place.run(&["snapshots"]).exits(12);
    assert!(run.stderr.contains("came from the keyring"), "{}", run.stderr);
    // What is there is not what is to be stored, and is not lost unseen: it may be that of another repository.
    let run = place.run(&["key", "keyring", "store", "--replace"]).exits(2);
    assert!(run.stderr.contains("no passphrase is given"), "{}", run.stderr);
    place.set("EXUVIA_PASSPHRASE", "another passphrase");
    let run = place.run(&["key", "keyring", "store"]).exits(2);
    assert!(
        run.stderr.contains("has another passphrase") && run.stderr.contains("--replace"),
        "{}",
        run.stderr
    );
    place.run(&["key", "keyring", "store", "--replace"]).exits(0);
    place.run(&["key", "keyring", "store"]).exits(0);
    place.set("EXUVIA_PASSPHRASE", "");
    place.run(&["snapshots"]).exits(0);

    // A keyring that cannot be reached is told of, and not taken for an empty one.
    place.write("bin/secrets/locked", "");
    let run = place.run(&["snapshots"]).exits(1);
    assert!(run.stderr.contains("Cannot autolaunch D-Bus"), "{}", run.stderr);
    fs::remove_file(place.path("bin/secrets/locked")).unwrap();

    place.run(&["key", "keyring", "forget"]).exits(0);
    assert_eq!(status(&place), (false, true));
    place.run(&["snapshots"]).exits(2);
    let calls = fs::read_to_string(place.path("bin/secrets/calls")).unwrap();
    assert!(calls.contains("lookup application exuvia repository") && !calls.contains(PASSPHRASE), "{calls}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_keyring_without_its_tool_says_what_to_install() {
    let mut place = with_repository();
    place.set("PATH", place.path("nothing").to_str().unwrap().to_owned().as_str());
    let run = place.run(&["key", "keyring", "store"]).exits(2);
    assert!(run.stderr.contains("libsecret-tools"), "{}", run.stderr);
}

#[test]
fn an_interrupted_init_is_begun_again() {
    let place = with_repository();
    fs::remove_file(place.path("repo/exuvia.json")).unwrap();
    let run = place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    assert!(run.stderr.contains("interrupted init"), "{}", run.stderr);
    place.write("tree/a", "a");
    place.backup("tree");
    let listed = keys(&place);
    let strange: Vec<&Value> = listed.iter().filter(|key| !key["problem"].is_null()).collect();
    assert_eq!((listed.len(), strange.len()), (2, 1), "{listed:?}");
    place.run(&["key", "remove", id(strange[0]), "--yes"]).exits(0);
    place.is_sound();
    // With packs in it, it is a repository that lost its marker.
    fs::remove_file(place.path("repo/exuvia.json")).unwrap();
    place.run(&["init"]).exits(1);
    assert!(!place.path("repo/exuvia.json").exists());
}
