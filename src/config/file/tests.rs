#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::config::{Login, Provider};
use crate::model::Secret;

const VARIABLES: &[(&str, &str)] = &[("HOME", "/h"), ("KEY", "k$1"), ("DIR", "/d"), ("EMPTY", "")];

fn whole(text: &str) -> Result<(Config, Option<usize>), String> {
    Config::parse(text, Path::new("/c/config.toml"), &Environment::of(VARIABLES)).map_err(|e| e.to_string())
}

fn parse(text: &str) -> Result<Config, String> {
    whole(text).map(|(config, _)| config)
}

#[track_caller]
fn remote(text: &str) -> RemoteConfig {
    parse(&format!("[remote]\n{text}")).unwrap().remote.unwrap()
}

#[track_caller]
fn refused(text: &str, want: &str) {
    let error = parse(text).unwrap_err();
    assert_eq!(error, format!("/c/config.toml:{want}"), "{text}");
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn all_keys_are_read() {
    let config = parse(
        "repository = \"~/r\"\nstate_dir = \"/s\"\ncache_dir = \"cache\"\npassphrase_file = \"~/p\"\n\
         passphrase_command = \"pass show $${X} ${Y:-z}\"\nrclone_program = \"~/bin/rclone\"\nbwlimit = \"10M\"\n\
         tpslimit = 4\nconnections = \"3\"\ntimeout = \"2m\"\ndeadline = 90\n\
         shrink_alarm = 30\nprune_grace = \"3d\"\n",
    )
    .unwrap();
    let want = Config {
        file: Some("/c/config.toml".into()),
        repository: Some("/h/r".into()),
        state_dir: Some("/s".into()),
        cache_dir: Some("/c/cache".into()),
        passphrase_file: Some("/h/p".into()),
        passphrase_command: Some("pass show $${X} ${Y:-z}".into()),
        rclone_program: Some("/h/bin/rclone".into()),
        shrink_alarm: Some(30),
        prune_grace: Some(Duration::from_secs(3 * 86_400)),
        limits: Limits {
            bwlimit: Some("10M".into()),
            tpslimit: Some(4.0),
            connections: Some(3),
            timeout: Some(Duration::from_secs(120)),
            deadline: Some(Duration::from_secs(90)),
        },
        settings: config.settings.clone(),
        ..Config::default()
    };
    assert!(config == want);
    assert_eq!((config.line("cache_dir"), config.line("deadline")), (Some(3), Some(11)));
    assert_eq!(config.line("remote"), None);
    assert_eq!(parse("repository = \"rclone:a:b\"").unwrap().repository, Some("rclone:a:b".into()));
    assert_eq!(parse("").unwrap().repository, None);
    assert_eq!(parse("shrink_alarm = \"off\"").unwrap().shrink_alarm, Some(0));
    assert_eq!(parse("shrink_alarm = false").unwrap().shrink_alarm, Some(0));
    assert_eq!(parse("rclone_program = \"rclone-1.75\"").unwrap().rclone_program, Some("rclone-1.75".into()));
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, want) in [
        ("\nrepositry = \"x\"", "2: unknown key `repositry`; did you mean `repository`?"),
        ("state-dir = \"x\"", "1: unknown key `state-dir`; did you mean `state_dir`?"),
        ("repo = \"x\"", "1: unknown key `repo`; did you mean `repository`?"),
        ("\n\nstate_dir = 3", "3: `state_dir` must be a text that is not empty"),
        ("state_dir = \"\"", "1: `state_dir` must be a text that is not empty"),
        ("\nbucket = \"b\"", "2: unknown key `bucket`; it belongs into the table [remote]"),
        ("remote = \"b2:x\"", "1: `remote` must be a table: [remote]"),
        ("connections = 0", "1: `connections` must be a number of requests under way at once, from 1 to 64"),
        ("shrink_alarm = 101", "1: `shrink_alarm` must be a percentage from 0 to 100, or off"),
        ("timeout = true", "1: `timeout` must be a text or a number"),
        (
            "\ntimeout = \"2 weeks\"",
            "2: `timeout` must be a time such as 90s, 2m or 1h30m, from 1 s to 7 days",
        ),
    ] {
        refused(text, want);
    }
    assert!(parse("zzzz = 1").unwrap_err().contains("the keys are repository, state_dir"));
    assert!(parse("a = 1\nb = [").unwrap_err().starts_with("/c/config.toml:2: "));
}

#[test]
fn variables_are_put_in_everywhere() {
    let config = parse("repository = \"${DIR}/r\"\nstate_dir = \"$${DIR}\"").unwrap();
    assert_eq!(config.repository, Some("/d/r".into()));
    assert_eq!(config.state_dir, Some("/c/${DIR}".into()));
    for (text, want) in [
        ("\nstate_dir = \"${NO}\"", "2: `state_dir` refers to the environment variable NO, which is not set"),
        (
            "[remote]\nbucket = \"${EMPTY}\"",
            "2: `bucket` refers to the environment variable EMPTY, which is not set",
        ),
        (
            "[remote]\n[remote.options]\npass = \"x${NO}\"",
            "3: `pass` refers to the environment variable NO, which is not set",
        ),
        (
            "state_dir = \"${NO\"",
            "1: `state_dir` has a `${` that names no variable; `$${` stands for these two characters",
        ),
    ] {
        refused(text, want);
    }
}

#[test]
fn b2_needs_three_fields() {
    let want = RemoteConfig {
        line: 1,
        provider: Provider::B2 { key_id: "id".into(), application_key: secret("k$1") },
        bucket: Some("b".into()),
        prefix: "exuvia".into(),
        options: Vec::new(),
    };
    let text = "provider = \"b2\"\nkey_id = \"id\"\napplication_key = \"${KEY}\"\nbucket = \"b\"";
    assert_eq!(remote(text), want);
    assert_eq!(remote(&format!("{text}\nprefix = \"/x/y/\"")).prefix, "x/y");
    assert_eq!(remote(&format!("{text}\nprefix = \"\"")).prefix, "");
}

#[test]
fn all_that_is_missing_is_named_at_once() {
    for (text, want) in [
        ("b2", "needs also bucket, key_id, application_key; "),
        ("s3", "needs also bucket; "),
        ("s3\"\nendpoint = \"https://x", "needs also bucket, key_id, secret; "),
        ("s3\"\nbucket = \"b\"\nkey_id = \"i", "needs also secret; "),
        ("dropbox", "needs also token; "),
        ("gdrive\"\napp_secret = \"s", "needs also token, app_key; "),
        ("onedrive", "needs also token, drive_id, drive_type; "),
        ("custom", "needs also rclone_type; "),
        ("rclone", "needs also remote; "),
    ] {
        let error = parse(&format!("\n[remote]\nprovider = \"{text}\"")).unwrap_err();
        let provider = text.split('"').next().unwrap();
        let want = format!("/c/config.toml:3: provider \"{provider}\" {want}");
        assert!(error.starts_with(&want), "{error}");
    }
}

#[test]
fn amazon_finds_its_keys_elsewhere() {
    let s3 = |more: &str| match remote(&format!("provider = \"s3\"\nbucket = \"b\"\n{more}")).provider {
        Provider::S3 { endpoint, keys, flavor, .. } => (endpoint, keys, flavor),
        other => panic!("{other:?}"),
    };
    assert_eq!(s3(""), (None, None, None));
    assert_eq!(s3("endpoint = \"s3.eu-west-1.amazonaws.com\"").1, None);
    assert_eq!(s3("endpoint = \"x\"\nflavor = \"AWS\"").1, None);
    let keys = Some(("i".to_owned(), secret("s")));
    assert_eq!(s3("access_key_id = \"i\"\nsecret_access_key = \"s\"").1, keys);
    assert_eq!(s3("key_id = \"i\"\nsecret = \"s\"\nendpoint = \"x\"").1, keys);
}

#[test]
fn drives_and_others() {
    let token = "token = '{\"access_token\":\"t\"}'";
    let login = |app_key: Option<&str>| Login {
        token: secret("{\"access_token\":\"t\"}"),
        app_key: app_key.map(str::to_owned),
        app_secret: None,
    };
    let one = remote(&format!("provider = \"dropbox\"\n{token}"));
    assert_eq!((one.provider, one.prefix.as_str()), (Provider::Dropbox(login(None)), "exuvia"));
    let one = remote(&format!("provider = \"gdrive\"\n{token}\napp_key = \"a\"\nroot_folder_id = \"f\""));
    assert_eq!(one.provider, Provider::Drive { login: login(Some("a")), root_folder_id: Some("f".into()) });
    let one =
        remote(&format!("provider = \"onedrive\"\n{token}\ndrive_id = \"d\"\ndrive_type = \"personal\""));
    let want = Provider::OneDrive { login: login(None), drive_id: "d".into(), drive_type: "personal".into() };
    assert_eq!(one.provider, want);
    let one = remote(
        "provider = \"custom\"\nrclone_type = \"sftp\"\nprefix = \"/srv/x/\"\n\
         [remote.options]\nport = 22\nhost = \"h\"\ndisable_hashcheck = true\npass = \"\"",
    );
    assert_eq!(one.provider, Provider::Custom { rclone_type: "sftp".into() });
    assert_eq!(one.prefix, "/srv/x");
    let options: Vec<_> = one.options.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(options, [("port", "22"), ("host", "h"), ("disable_hashcheck", "true"), ("pass", "")]);
    let one = remote("provider = \"rclone\"\nremote = \"b2:x/y\"");
    assert_eq!(
        (one.provider, one.prefix),
        (Provider::Rclone { remote: secret("b2:x/y"), config: None }, String::new())
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, want) in [
        (
            "bucket = \"b\"",
            "1: [remote] needs `provider`: one of s3, b2, dropbox, gdrive, onedrive, custom, rclone",
        ),
        ("provider = \"r2\"", "2: there is no such provider; did you mean \"s3\"?"),
        ("provider = \"dropbx\"", "2: there is no such provider; did you mean \"dropbox\"?"),
        (
            "provider = \"sftp\"",
            "2: there is no such provider; it is one of s3, b2, dropbox, gdrive, onedrive, custom, rclone; any other \
             backend of rclone is \"custom\" with rclone_type",
        ),
        (
            "provider = \"b2\"\nendpoint = \"x\"",
            "3: `endpoint` has no meaning with provider \"b2\"; for the S3 interface of B2 the provider is \"s3\"",
        ),
        (
            "provider = \"rclone\"\nprefix = \"x\"",
            "3: `prefix` has no meaning with provider \"rclone\"; the path stands in `remote`, as in \"b2:bucket/path\"",
        ),
        (
            "provider = \"custom\"\naccess_key_id = \"x\"",
            "3: `access_key_id` has no meaning with provider \"custom\"; put it into [remote.options], with rclone's \
             name for `access_key_id`",
        ),
        (
            "provider = \"s3\"\nsecret = \"x\"\napplication_key = \"y\"",
            "4: `application_key` is given already, as `secret` in line 3",
        ),
        (
            "provider = \"s3\"\nbucket = \"b/c\"",
            "3: `bucket` must be the bucket's name alone; a folder in it goes into `prefix`",
        ),
        (
            "provider = \"s3\"\nprefix = \"a/../b\"",
            "3: `prefix` must be a folder without `..`, such as \"backups/agent\"",
        ),
        (
            "provider = \"dropbox\"\ntoken = \"abc\"",
            "3: `token` must be the JSON text that `rclone authorize` prints, from { to }; put it between '''",
        ),
        ("path = \"x\"", "2: unknown key `path` in [remote]; did you mean `prefix`?"),
        ("keyId = \"x\"", "2: unknown key `keyId` in [remote]; did you mean `key_id`?"),
        (
            "application-key = \"x\"",
            "2: unknown key `application-key` in [remote]; did you mean `application_key`?",
        ),
        (
            "cache_dir = \"x\"",
            "2: unknown key `cache_dir` in [remote]; it belongs above [remote], at the top of the file",
        ),
        ("options = \"x\"", "2: `options` must be a table: [remote.options]"),
        (
            "[remote.options]\n\"a b\" = 1",
            "3: `a b` cannot be an option of rclone; they are spelled as in rclone.conf, such as `chunk_size`",
        ),
        ("[remote.options]\nx = [1]", "3: `x` must be a text or a number"),
    ] {
        refused(&format!("[remote]\n{text}"), want);
    }
    refused(
        "repository = \"r\"\n[remote]\nprovider = \"rclone\"\nremote = \"a:b\"",
        "2: both [remote] and `repository` in line 1 say where the repository is; drop `repository` if the remote is \
         meant, or else this table",
    );
    refused(
        "bwlimit = \"1M\"\n[remote]\nbwlimit = \"1M\"",
        "3: `bwlimit` is given twice: at the top of the file and in [remote]",
    );
}

#[test]
fn secrets_are_kept_from_view() {
    let text = "[remote]\nprovider = \"b2\"\nkey_id = \"id\"\napplication_key = \"hunter2\"\nbucket = \"b\"\n\
                [remote.options]\nchunk_size = \"8M\"\nwhatever = \"hunter2\"\n";
    let (config, secret) = whole(text).unwrap();
    assert_eq!(secret, Some(4));
    let shown: Vec<_> =
        config.settings.iter().map(|s| (s.key.as_str(), s.line, s.shown.as_deref())).collect();
    let want = [
        ("remote.provider", 2, Some("b2")),
        ("remote.key_id", 3, Some("id")),
        ("remote.secret", 4, None),
        ("remote.bucket", 5, Some("b")),
        ("remote.options.chunk_size", 7, Some("8M")),
        ("remote.options.whatever", 8, None),
    ];
    assert_eq!(shown, want);
    assert!(!format!("{config:?} {:?}", config.remote).contains("hunter2"));
    for (text, want) in [
        ("[remote]\nprovider = \"b2\"\nkey_id = \"id\"\nsecret = \"${KEY}\"\nbucket = \"b\"", None),
        ("repository = \"rclone:b2:x\"", None),
        ("repository = \"rclone::s3,secret_access_key=x:b\"", Some(1)),
        ("repository = \"rclone::s3,secret_access_key=${KEY}:b\"", None),
        ("passphrase_command = \"pass show token\"", None),
        (
            "[remote]\nprovider = \"custom\"\nrclone_type = \"sftp\"\n[remote.options]\nhost = \"h\"\npass = \"x\"",
            Some(6),
        ),
    ] {
        assert_eq!(whole(text).unwrap().1, want, "{text}");
    }
}

#[test]
fn only_an_open_file_with_a_secret_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let env = Environment::of(VARIABLES);
    let warnings = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        Config::load(&env, Some(&path)).unwrap().warnings.len()
    };
    let secret = "[remote]\nprovider = \"b2\"\nkey_id = \"id\"\nsecret = \"x\"\nbucket = \"b\"";
    assert_eq!(warnings(secret, 0o600), 0);
    assert_eq!(warnings(secret, 0o640), 1);
    assert_eq!(warnings(secret, 0o604), 1);
    assert_eq!(warnings(&secret.replace("\"x\"", "\"${KEY}\""), 0o644), 0);
}

#[test]
fn retention_is_a_table_or_one_text() {
    let policy = |text: &str| {
        let config = Config::parse(text, Path::new("/c/config.toml"), &Environment::of(&[("N", "7")]));
        config.map(|(config, _)| config.retention).map_err(|e| e.to_string())
    };
    let seven = Policy { last: 7, ..Policy::default() };
    for text in
        ["retention = 7", "retention = \"${N}\"", "retention = { last = 7 }", "[retention]\nkeep_last = 7"]
    {
        assert_eq!(policy(text), Ok(Some(seven.clone())), "{text}");
    }
    let gfs =
        Policy { daily: 7, weekly: 4, monthly: 6, within: Some("2d".parse().unwrap()), ..Policy::default() };
    let table = "[retention]\ndaily = 7\nweekly = \"4\"\nmonthly = 6\nwithin = \"2d\"\n[remote]\nprovider = \"rclone\"\nremote = \"a:b\"";
    assert_eq!(policy(table), Ok(Some(gfs.clone())));
    assert_eq!(policy("retention = '{daily: 7, weekly: 4, monthly: 6, within: 2d}'"), Ok(Some(gfs)));
    assert_eq!(policy("[retention]\ndaily = \"all\"").unwrap().unwrap().daily, u32::MAX);
    assert_eq!(policy("state_dir = \"x\""), Ok(None));
    for (text, want) in [
        ("retention = 0", "1: `retention` keeps nothing"),
        ("retention = true", "1: `retention` must be a text or a number"),
        ("[retention]", "1: [retention] keeps nothing; leave it out to keep everything"),
        ("[retention]\ndaily = -1", "2: `daily` must be a number from 0 to 1000000, or `all`"),
        ("[retention]\ndayly = 1", "2: unknown key `dayly` in [retention]; did you mean `daily`?"),
        ("[retention]\nwithin = \"7\"", "2: `within` must be a time such as"),
        ("[retention]\nlast = 1\nkeep_last = 2", "3: `keep_last` is given already, as `last` in line 2"),
    ] {
        let error = policy(text).unwrap_err();
        assert!(error.starts_with(&format!("/c/config.toml:{want}")), "{error}");
    }
}
