//! The configuration file as users meet it: what it says, what is told of it, what is made of earlier plugins'.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::support::{Place, names, put};

const FILE: &str = "home/.config/exuvia/config.toml";

fn configured(text: &str) -> Place {
    let mut place = Place::new();
    let file = place.write(FILE, text);
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    place.set("EXUVIA_RCLONE", "/nowhere/rclone").set("EXUVIA_PASSPHRASE", "correct horse");
    place
}

fn row<'a>(rows: &'a Value, setting: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|row| row["setting"] == setting);
    found.unwrap_or_else(|| panic!("no row {setting}"))
}

#[test]
fn the_page_of_all_keys() {
    let place = Place::new();
    let page = place.run(&["config", "keys"]).exits(0).text().to_owned();
    let json = place.run(&["--json", "config", "keys"]).exits(0).summary();
    let rows = json.as_array().unwrap();
    assert!(rows.len() > 80, "{}", rows.len());
    for row in rows {
        let key = row["key"].as_str().unwrap();
        assert!(page.contains(&format!("\n  {key} = {}", row["example"].as_str().unwrap())), "{key}");
        assert!(
            page.contains(row["about"].as_str().unwrap()) && page.contains(row["takes"].as_str().unwrap())
        );
    }
    for table in
        ["remote", "remote.options", "retention", "backup", "schedule", "start", "triggers", "health"]
    {
        assert!(page.contains(&format!("\n[{table}]")), "{table}");
    }
    let schedule = place.run(&["--json", "config", "keys", "schedule"]).exits(0).summary();
    assert!(schedule.as_array().unwrap().iter().all(|row| row["table"] == "schedule"));
    let one = place.run(&["--json", "config", "keys", "health.ping_url"]).exits(0).summary();
    assert_eq!((one.as_array().unwrap().len(), &one[0]["default"]), (1, &Value::Null));
    place.run(&["config", "keys", "nonsense"]).exits(2);
}

#[test]
fn the_readme_names_the_page() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let settings = readme.split("\n### Settings\n").nth(1).unwrap().split("\n### ").next().unwrap();
    assert!(settings.contains("exuvia config keys"), "{settings}");
}

/// The configuration does not know the gatherer; here both are seen.
#[test]
fn the_sets_of_the_file_are_those_of_the_gatherer() {
    let sets = exuvia::gather::IncludeSet::ALL.map(exuvia::gather::IncludeSet::name);
    assert_eq!(sets, exuvia::config::INCLUDE_SETS);
}

/// What the file calls a part of the data is what `check` takes.
#[test]
fn parts_of_data_are_those_of_check() {
    for (part, good) in [
        ("2%", true),
        ("500M", true),
        ("1.5GiB", true),
        ("3/7", true),
        ("0%", false),
        ("8/7", false),
        ("x", false),
    ] {
        let place = configured(&format!("[schedule]\ncheck_data = \"{part}\"\n"));
        place.run(&["config", "check"]).exits(if good { 0 } else { 2 });
        // A repository is looked for only when the argument is right.
        let place = Place::new();
        place.run(&["check", "--read-data-subset", part]).exits(if good { 10 } else { 2 });
    }
}

#[test]
fn every_setting_is_shown_with_its_origin() {
    let text = "retention = 7\n[backup]\nexclude = [\"*.tmp\", \"/logs\"]\n[schedule]\nbackup = 900\nprune = false\n\
                [triggers]\nnightly = \"1m\"\n[health]\nping_url = \"https://hc-ping.com/hunter2\"\n\
                [hooks.prune]\npre = \"echo hunter2\"\n";
    let place = configured(text);
    let run = place.run(&["--json", "config", "show"]).exits(0);
    assert!(!run.text().contains("hunter2"));
    let rows = run.summary();
    let at = |line: u32| Value::from(format!("{}:{line}", place.path(FILE).display()));
    for (setting, value, from) in [
        ("backup.exclude", "*.tmp, /logs", at(3)),
        ("backup.profile", "auto", Value::Null),
        ("schedule.backup", "900", at(5)),
        ("schedule.prune", "off", at(6)),
        ("schedule.check", "weekly", Value::Null),
        ("triggers.nightly", "1m", at(8)),
        ("triggers.before-compaction", "5m", Value::Null),
        ("start.watch_quiet", "30s", Value::Null),
        ("hooks.backup.timeout", "10m", Value::Null),
    ] {
        let row = row(&rows, setting);
        assert_eq!((&row["value"], &row["from"]), (&value.into(), &from), "{setting}");
    }
    for (setting, from) in [("health.ping_url", at(10)), ("hooks.prune.pre", at(12))] {
        let row = row(&rows, setting);
        assert_eq!((&row["value"], &row["secret"], &row["from"]), (&Value::Null, &true.into(), &from));
    }
    let mut settings: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["setting"].as_str().unwrap()).collect();
    let count = settings.len();
    settings.sort_unstable();
    settings.dedup();
    assert_eq!(settings.len(), count, "a setting is shown twice");
}

#[test]
fn a_check_finds_mistakes_and_what_does_not_fit() {
    let place = configured("\n[schedule]\nbakup = \"1h\"\n");
    let error = place.run(&["--json", "config", "check"]).exits(2).error();
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with(":3: unknown key `bakup` in [schedule]; did you mean `backup`?"), "{message}");
    let place = configured("[schedule]\nprune = \"daily\"\n");
    let run = place.run(&["config", "check"]).exits(0);
    assert!(run.stderr.contains(":2: `prune` is scheduled, but there is no retention"), "{}", run.stderr);
    let summary = place.run(&["--json", "config", "check"]).exits(0).summary();
    assert_eq!((&summary["ok"], summary["warnings"].as_array().unwrap().len()), (&true.into(), 1));
    // It is no other command's business.
    assert_eq!(place.run(&["config", "show"]).exits(0).stderr, "");
}

#[test]
fn backups_of_the_state_dir_take_what_the_file_says() {
    let mut place = configured(
        "[backup]\nexclude = [\"*.tmp\"]\ntags = [\"laptop\"]\nskip_if_unchanged = true\nprofile = \"openclaw\"\n\
         include = [\"workspace\", \"config\"]\n",
    );
    place.set("EXUVIA_STATE_DIR", place.path("state").to_str().unwrap());
    let state = place.path("state");
    for name in ["workspace/a.md", "workspace/b.tmp", "workspace/c.log", "openclaw.json", "cron/jobs.json"] {
        put(&state, name, name.as_bytes());
    }
    let listed = |snapshot: &str| place.run(&["ls", "-R", snapshot]).exits(0).text().to_owned();
    place.run(&["backup"]).exits(0);
    let first = listed("latest");
    assert!(first.contains("a.md") && first.contains("c.log") && first.contains("openclaw.json"), "{first}");
    assert!(!first.contains("b.tmp") && !first.contains("cron"), "{first}");
    assert_eq!(place.run(&["--json", "backup"]).exits(0).summary()["snapshot"], Value::Null);
    // Flags win, and exclusions add up.
    let args = [
        "--json",
        "backup",
        "--include",
        "cron,workspace",
        "--exclude",
        "*.log",
        "--tag",
        "x",
        "--skip-if-unchanged=false",
    ];
    let id = place.run(&args).exits(0).summary()["snapshot"].as_str().unwrap().to_owned();
    let second = listed(&id);
    assert!(second.contains("a.md") && second.contains("jobs.json"), "{second}");
    assert!(
        !second.contains("b.tmp") && !second.contains("c.log") && !second.contains("openclaw.json"),
        "{second}"
    );
    let rows = place.run(&["--json", "snapshots"]).exits(0).summary();
    assert_eq!((&rows[0]["tags"][0], &rows[1]["tags"][0]), (&"laptop".into(), &"x".into()));
    // Another directory is not the file's business.
    put(&place.path("other"), "b.tmp", b"b");
    place.run(&["backup", "other"]).exits(0);
    assert!(listed("latest").contains("b.tmp"));
}

/// What the page calls a default is what is in force without the key.
#[test]
fn defaults_of_the_page_are_those_in_force() {
    let place = Place::new();
    let keys = place.run(&["--json", "config", "keys"]).exits(0).summary();
    let shown = place.run(&["--json", "config", "show"]).exits(0).summary();
    let home = place.path("home");
    let mut compared = 0;
    for key in keys.as_array().unwrap().iter().filter(|key| key["table"].is_null()) {
        let Some(default) = key["default"].as_str() else { continue };
        let default = default.rsplit(" or ").next().unwrap().replace('~', home.to_str().unwrap());
        let value = row(&shown, key["key"].as_str().unwrap())["value"].as_str();
        let no_limit = value.is_none() && ["off", "0"].contains(&default.as_str());
        assert!(no_limit || value == Some(&default), "{key}: {value:?}");
        compared += 1;
    }
    assert!(compared >= 13, "{compared}");
}

/// Who has broken the file, or has none yet, is helped all the same.
#[test]
fn a_broken_configuration_is_in_nobodys_way() {
    let mut place = with_openclaw(&format!("{{'b2-backup': {{{B2}}}}}"));
    place.write(FILE, "nonsense = 1\n");
    place.run(&["config", "keys", "schedule"]).exits(0);
    place.run(&["config", "check"]).exits(2);
    place.run(&["config", "import", "--dry-run"]).exits(0);
    place.run(&["config", "import"]).exits(1);
    place.run(&["config", "import", "--force"]).exits(0);
    place.run(&["config", "check"]).exits(0);
    assert_eq!(fs::read_to_string(place.path(&format!("{FILE}.old"))).unwrap(), "nonsense = 1\n");
    // Where --config or the variable say, and what follows says so, too.
    let run = place.run(&["--config", "my new.toml", "config", "import"]).exits(0);
    let named = place.path("my new.toml");
    assert!(named.exists());
    let next = format!("`exuvia --config '{}' config check`", named.display());
    assert!(run.text().contains(&next), "{}", run.text());
    place.set("EXUVIA_CONFIG", place.path("other.toml").to_str().unwrap());
    let run = place.run(&["config", "import"]).exits(0);
    assert!(
        place.path("other.toml").exists() && run.text().contains("`exuvia config check`"),
        "{}",
        run.text()
    );
    let run = place.run(&["config", "import", "--output", "third.toml"]).exits(0);
    assert!(run.text().contains("third.toml config check`"), "{}", run.text());
}

#[test]
fn a_folder_of_an_agent_that_is_elsewhere_is_told_of() {
    let place = with_openclaw(&format!(
        "{{agents: {{defaults: {{workspace: '/data/it\\'s mine'}}}}, 'b2-backup': {{{B2}}}}}"
    ));
    let run = place.run(&["config", "import", "--dry-run"]).exits(0);
    assert!(run.stderr.contains(r"`exuvia backup '/data/it'\''s mine'`"), "{}", run.stderr);
    let summary = place.run(&["--json", "config", "import", "--dry-run"]).exits(0).summary();
    assert_eq!(summary["outside"][0]["key"], "agents.defaults.workspace");
    assert_eq!(summary["outside"][0]["path"], "/data/it's mine");
}

const B2: &str = "keyId: '004a', applicationKey: 'hunter2', bucket: 'my-openclaw-backups'";

fn with_openclaw(config: &str) -> Place {
    let place = Place::new();
    place.write("home/.openclaw/openclaw.json", config);
    place
}

#[test]
fn an_import_writes_what_only_its_owner_can_read() {
    let place =
        with_openclaw(&format!("{{plugins: {{entries: {{'openclaw-b2-backup': {{config: {{{B2}}}}}}}}}}}"));
    let rehearsal = place.run(&["config", "import", "--dry-run"]).exits(0);
    assert!(rehearsal.text().contains("dry run") && !place.path("home/.config").exists());
    let run = place.run(&["config", "import"]).exits(0);
    for text in [run.text(), &run.stderr, rehearsal.text(), &rehearsal.stderr] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(run.text().contains("applicationKey  taken"), "{}", run.text());
    let folder = place.path("home/.config/exuvia");
    assert_eq!(names(&folder), ["config.toml", "imported.key"]);
    for name in names(&folder) {
        assert_eq!(folder.join(&name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let text = fs::read_to_string(folder.join("config.toml")).unwrap();
    assert!(text.contains("secret = \"hunter2\"") && text.contains("# the access key itself"), "{text}");
    let rows = place.run(&["--json", "config", "show"]).exits(0).summary();
    assert_eq!(row(&rows, "repository")["value"], "rclone:b2:my-openclaw-backups/exuvia/openclaw-backup");
    assert_eq!(row(&rows, "passphrase_file")["value"], folder.join("imported.key").to_str().unwrap());
    assert_eq!(row(&rows, "state_dir")["value"], place.path("home/.openclaw").to_str().unwrap());
    place.run(&["config", "check"]).exits(0);
}

#[test]
fn an_import_replaces_only_when_asked_and_loses_no_key() {
    let place = with_openclaw(&format!("{{'b2-backup': {{{B2}}}}}"));
    place.run(&["config", "import"]).exits(0);
    let folder = place.path("home/.config/exuvia");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (config, key) = (read("config.toml"), read("imported.key"));
    let error = place.run(&["--json", "config", "import"]).exits(1).error();
    assert!(error["hint"].as_str().unwrap().contains("--force"), "{error}");
    let summary = place.run(&["--json", "config", "import", "--force"]).exits(0).summary();
    assert_eq!((read("config.toml.old"), read("imported.key")), (config.clone(), key.clone()));
    let keys = summary["keys"].as_array().unwrap();
    let secret = keys.iter().find(|row| row["key"] == "applicationKey").unwrap();
    assert_eq!((&secret["fate"], &secret["to"]), (&"taken".into(), &"remote.secret".into()));
    assert_eq!(summary["dry_run"], false);
    // A passphrase never takes the place of another.
    let block = |passphrase: &str| {
        format!(
            "{{backup: {{provider: 's3', bucket: 'b', passphrase: '{passphrase}', s3: {{accessKeyId: 'i', \
             secretAccessKey: 's'}}}}}}"
        )
    };
    for (passphrase, file) in
        [("one", "imported.passphrase"), ("two", "imported-2.passphrase"), ("one", "imported.passphrase")]
    {
        let file_of = place.write("block.json5", &block(passphrase));
        let run = place.run(&["--json", "config", "import", file_of.to_str().unwrap(), "--force"]).exits(0);
        let written = run.summary()["passphrase_file"]["path"].as_str().unwrap().to_owned();
        assert_eq!(written, folder.join(file).to_str().unwrap());
        assert_eq!(fs::read_to_string(written).unwrap(), format!("{passphrase}\n"));
    }
    assert_eq!(read("imported.key"), key);
    // Nor does what was kept of the configuration.
    assert_eq!(read("config.toml.old"), config);
    assert!(read("config.toml.old-3").contains("imported.passphrase"));
}

#[test]
fn an_import_that_cannot_be_right_writes_nothing() {
    let both = format!("{{'b2-backup': {{{B2}}}, 'workspace-sync': {{config: {{provider: 'off'}}}}}}");
    for (config, args, code, want) in [
        (both.as_str(), &[][..], 2, "--plugin workspace-sync or --plugin b2-backup"),
        ("{}", &[], 2, "has no settings of"),
        ("{hunter2: hunter2}", &[], 2, "is not JSON5"),
        (
            "{'workspace-sync': {backup: {provider: 's3', s3: {accessKeyId: 'i'}}}}",
            &[],
            2,
            "needs also bucket, secret",
        ),
        (
            "{'b2-backup': {keyId: 'i', applicationKey: 'k', bucket: 'a/b'}}",
            &[],
            2,
            "the bucket's name alone",
        ),
    ] {
        let place = with_openclaw(config);
        let run = place.run(&[&["config", "import"], args].concat()).exits(code);
        assert!(run.stderr.contains(want), "{config}: {}", run.stderr);
        assert!(!run.stderr.contains("hunter2") && !place.path("home/.config").exists());
    }
    let place = with_openclaw(&both);
    place.run(&["config", "import", "--plugin", "b2-backup", "--output", "here.toml"]).exits(0);
    assert!(place.path("here.toml").exists() && !place.path("home/.config").exists());
    let place = Place::new();
    let run = place.run(&["config", "import"]).exits(2);
    assert!(run.stderr.contains("config import FILE"), "{}", run.stderr);
}

#[test]
fn variables_that_are_not_set_are_told_of() {
    let config = "{$include: './backup.json5'}";
    let mut place = with_openclaw(config);
    place.write(
        "home/.openclaw/backup.json5",
        "{plugins: {entries: {'openclaw-workspace-sync': {config: {backup: {provider: 's3', bucket: 'b', passphrase: \
         '${BACKUP_PASSPHRASE}', s3: {accessKeyId: '${ID}', secretAccessKey: '${KEY}'}}}}}}}",
    );
    place.set("ID", "hunter2");
    let run = place.run(&["config", "import"]).exits(0);
    assert!(run.stderr.contains("repository: BACKUP_PASSPHRASE, KEY;"), "{}", run.stderr);
    let again = place.run(&["--json", "config", "import", "--force"]).exits(0).summary();
    assert_eq!(again["unset_variables"], serde_json::json!(["BACKUP_PASSPHRASE", "KEY"]));
    fs::remove_file(place.path(&format!("{FILE}.old"))).unwrap();
    let text = fs::read_to_string(place.path(FILE)).unwrap();
    assert!(text.contains("key_id = \"${ID}\"") && !text.contains("hunter2"), "{text}");
    assert_eq!(names(&place.path("home/.config/exuvia")), ["config.toml"]);
    let error = place.run(&["--json", "config", "check"]).exits(2).error();
    assert!(error["message"].as_str().unwrap().contains("variable KEY, which is not set"), "{error}");
}
