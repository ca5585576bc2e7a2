#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::Path;
use std::time::Duration;

use crate::config::{Config, Environment, LogFormat, OnCondition, ProfileSetting};
use crate::model::{Schedule, Secret};

fn whole(text: &str) -> Result<(Config, Option<usize>), String> {
    let env = Environment::of(&[("HOME", "/h"), ("URL", "https://u"), ("GLOB", "*.log"), ("N", "90")]);
    Config::parse(text, Path::new("/c/config.toml"), &env).map_err(|e| e.to_string())
}

#[track_caller]
fn parse(text: &str) -> Config {
    whole(text).unwrap().0
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text.to_owned()))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn backup() {
    let config = parse(
        "[backup]\ninclude = [\"config\", \"Memory,config\"]\nexclude = [\"*.tmp\", \"${GLOB}\"]\n\
         profile = \"openclaw\"\ntags = \"a\"\nskip_if_unchanged = true",
    );
    let backup = &config.backup;
    assert_eq!(backup.include, ["config", "memory"]);
    assert_eq!(backup.exclude, ["*.tmp", "*.log"]);
    assert_eq!((backup.profile, backup.skip_if_unchanged), (ProfileSetting::OpenClaw, true));
    assert_eq!(backup.tags, ["a"]);
    let shown: Vec<_> =
        config.settings.iter().map(|s| (s.key.as_str(), s.line, s.shown.as_deref())).collect();
    assert_eq!(shown[1], ("backup.exclude", 3, Some("*.tmp, *.log")));
    assert_eq!(config.line("backup.tags"), Some(5));
    assert_eq!(config.variables, ["GLOB"]);
}

#[test]
fn schedule() {
    let schedule = |text: &str| parse(&format!("[schedule]\n{text}")).schedule;
    let whole = schedule(
        "backup = 300\nprune = false\ncheck = \"cron 30 3 * * 1-5\"\ncheck_data = \"off\"\ndrill = \"2d\"\n\
         timezone = \"UTC\"\njitter = \"${N}\"\non_battery = \"pause\"\nlow_priority = false\nretries = 0\n\
         log_format = \"json\"",
    );
    assert_eq!(whole.backup, Schedule::Every(secs(300)));
    assert_eq!(whole.prune, Schedule::Off);
    assert_eq!(whole.check.to_string(), "cron 30 3 * * 1-5");
    assert_eq!(whole.drill, Schedule::Every(secs(2 * 86_400)));
    assert_eq!((whole.check_data, whole.jitter, whole.retries), (None, secs(90), 0));
    assert_eq!((whole.on_battery, whole.on_metered), (OnCondition::Pause, OnCondition::Run));
    assert_eq!((whole.log_format, whole.low_priority), (LogFormat::Json, false));
    assert!(whole.timezone.is_some_and(|zone| zone.iana_name() == Some("UTC")));
}

#[test]
fn start_waits_at_least_as_long_as_it_wants_quiet() {
    let start = |text: &str| parse(&format!("[start]\n{text}")).start;
    let one = start("auto_restore = true\nwatch = \"on\"\nwatch_quiet = \"1m\"\nwatch_max = 60");
    assert!(one.auto_restore && one.watch);
    assert_eq!((one.watch_quiet, one.watch_max), (secs(60), secs(60)));
    let long = start("watch_quiet = \"1h\"");
    assert_eq!((long.watch_quiet, long.watch_max), (secs(3600), secs(3600)));
}

#[test]
fn triggers_have_any_name() {
    let config = parse("[triggers]\nbefore-compaction = 0\nnightly-2 = \"10m\"");
    let triggers = &config.triggers;
    for (name, want) in [("before-compaction", 0), ("nightly-2", 600), ("gateway-stop", 0), ("x", 0)] {
        assert_eq!(triggers.debounce(name), secs(want), "{name}");
    }
    assert_eq!(parse("").triggers.debounce("before-compaction"), secs(300));
    assert_eq!(triggers.iter().count(), 2);
    assert_eq!(config.line("triggers.nightly-2"), Some(3));
}

#[test]
fn health_and_hooks_keep_their_secrets() {
    let text = "[health]\npromise = \"25h\"\non_success = \"echo ${A:-b} $$\"\nping_url = \"https://hc-ping.com/x\"\n\
                prometheus_file = \"~/e.prom\"\nhook_timeout = 5\n\
                [hooks.backup]\npre = \"mount /mnt\"\ntimeout = \"1m\"\n[hooks.drill]\npost = \"x\"\n";
    let (config, line) = whole(text).unwrap();
    let health = &config.health;
    assert_eq!((health.promise, health.hook_timeout), (Some(secs(25 * 3600)), secs(5)));
    assert_eq!((&health.on_success, &health.on_failure), (&secret("echo ${A:-b} $$"), &None));
    assert_eq!(health.ping_url, secret("https://hc-ping.com/x"));
    assert_eq!(health.prometheus_file, Some("/h/e.prom".into()));
    assert_eq!((&config.hooks.backup.pre, config.hooks.backup.timeout), (&secret("mount /mnt"), secs(60)));
    assert_eq!((&config.hooks.drill.post, config.hooks.drill.timeout), (&secret("x"), secs(600)));
    assert_eq!(config.hooks.prune, crate::config::HookConfig::default());
    // Of the file that is open to others, this is what should not stand in it.
    assert_eq!(line, Some(4));
    let hidden: Vec<_> =
        config.settings.iter().filter(|s| s.shown.is_none()).map(|s| s.key.as_str()).collect();
    assert_eq!(hidden, ["health.on_success", "health.ping_url", "hooks.backup.pre", "hooks.drill.post"]);
    assert!(!format!("{:?} {:?}", config.health, config.hooks).contains("mount"));
    assert_eq!(whole("[health]\nping_url = \"${URL}\"").unwrap().1, None);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, want) in [
        (
            "[backup]\ninclude = [\"memry\"]",
            "2: `include` names an unknown set `memry`; did you mean `memory`?",
        ),
        ("[backup]\nexclude = [\"a\", 3]", "2: `exclude` must be a list of texts that are not empty"),
        ("[backup]\nexclude = [\"a\", \"\"]", "2: `exclude` must be a list of texts that are not empty"),
        (
            "[backup]\nexclude = [\n\"a\",\n\"${NO}\"]",
            "4: `exclude` refers to the environment variable NO, which is not set",
        ),
        (
            "[backup]\nexclude = [\"*.tmp\", \"a[z-a]\"]",
            "2: `exclude` has a pattern that cannot be understood: error parsing glob 'a[z-a]'",
        ),
        ("[backup]\nexclude = \"{a\"", "2: `exclude` has a pattern that cannot be understood"),
        ("[backup]\nexcludes = \"a\"", "2: unknown key `excludes` in [backup]; did you mean `exclude`?"),
        (
            "[backup]\nprofile = \"opnclaw\"",
            "2: `profile` must be one of auto, openclaw, none; did you mean `openclaw`?",
        ),
        ("[backup]\nskip_if_unchanged = 1", "2: `skip_if_unchanged` must be true or false"),
        ("backup = \"1h\"", "1: `backup` must be a table: [backup]"),
        ("[schedule]\nintervall = 5", "2: unknown key `intervall` in [schedule]; the keys are backup, prune"),
        ("[schedule]\ninterval = 5", "2: unknown key `interval` in [schedule]; did you mean `backup`?"),
        ("[schedule]\nbackup = 59", "2: `backup` must be an interval from 60 seconds to 366 days"),
        ("[schedule]\nbackup = \"hourly\"", "2: `backup` must be `off`, an interval"),
        ("[schedule]\ncheck = \"cron 61 * * * *\"", "2: `check` has `61` as the minute of a cron expression"),
        ("[schedule]\ncheck_data = \"0%\"", "2: `check_data` must be a percentage above 0"),
        ("[schedule]\ntimezone = \"Mars/Phobos\"", "2: `timezone` must be a name of this system's time zone"),
        ("[schedule]\njitter = \"2d\"", "2: `jitter` must be a time such as 0, 90s"),
        ("[schedule]\non_battery = \"stop\"", "2: `on_battery` must be one of run, pause"),
        ("[schedule]\nretries = 101", "2: `retries` must be a number from 0 to 100"),
        ("[start]\nwatch_quiet = 60\nwatch_max = 59", "3: `watch_max` must not be less than `watch_quiet`"),
        ("[start]\nwatch_quiet = 0", "2: `watch_quiet` must be a time such as 30s"),
        ("[triggers]\nBig = 1", "2: `Big` cannot be the name of a trigger; it has 1 to 32 characters"),
        ("[triggers]\n\"\" = 1", "2: `` cannot be the name of a trigger"),
        ("[triggers]\nx = \"soon\"", "2: `x` must be a time such as 0, 90s"),
        ("[health]\npromise = \"1s\"", "2: `promise` must be a time such as 25h"),
        ("[health]\nping_url = \"hc-ping.com/x\"", "2: `ping_url` must be an http:// or https:// address"),
        ("[health]\nping_url = \"https:///x\"", "2: `ping_url` must be an http:// or https:// address"),
        ("[health]\nping_url = \"https://a b\"", "2: `ping_url` must be an http:// or https:// address"),
        ("[health]\nprometheus_file = \"/x/y\"", "2: `prometheus_file` must be a path that ends in .prom"),
        ("[hooks]\npre = \"x\"", "2: unknown key `pre` in [hooks]; it belongs into the table of a job"),
        ("[hooks.bakup]\npre = \"x\"", "1: unknown key `bakup` in [hooks]; did you mean `backup`?"),
        ("[hooks.check]\nbefore = \"x\"", "2: unknown key `before` in [hooks.check]; did you mean `pre`?"),
    ] {
        let error = whole(text).map(|_| ()).unwrap_err();
        assert!(error.starts_with(&format!("/c/config.toml:{want}")), "{text}: {error}");
    }
    let long = format!("[backup]\ntags = [{}]", "\"a\", ".repeat(1001));
    assert!(whole(&long).unwrap_err().contains("`tags` has more than 1000 values"));
}

#[test]
fn what_does_not_fit_together_is_told() {
    for (text, want) in [
        ("[schedule]\nprune = \"daily\"", Some("2: `prune` is scheduled, but there is no retention")),
        ("retention = 7\n[schedule]\nprune = \"daily\"", None),
        ("retention = 7\n[schedule]\nprune = \"off\"", Some("3: `prune` is off")),
        ("", None),
        ("[schedule]\ncheck = \"off\"\ncheck_data = \"5%\"", Some("3: `check_data` has no meaning")),
        ("[health]\npromise = \"1h\"", Some("2: `promise` is not longer than the pause")),
        ("[health]\npromise = \"61m\"", None),
        ("[schedule]\nbackup = \"off\"\n[health]\npromise = \"1h\"", Some("4: `promise` is given, but")),
        ("[start]\nwatch_quiet = 5", Some("2: `watch_quiet` has no meaning while `watch` is off")),
        ("[start]\nwatch = true\nwatch_quiet = 5", None),
        ("[health]\nping_url = \"http://x/y\"", Some("2: `ping_url` begins with http://")),
    ] {
        let advice = parse(text).advice();
        match want {
            None => assert_eq!(advice, [""; 0], "{text}"),
            Some(want) => {
                assert_eq!(advice.len(), 1, "{text}: {advice:?}");
                assert!(advice[0].starts_with(&format!("/c/config.toml:{want}")), "{advice:?}");
            }
        }
    }
}
