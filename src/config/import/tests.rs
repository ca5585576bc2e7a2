#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::Path;

use super::*;
use crate::config::{Login, Provider, RemoteConfig};
use crate::model::{Policy, Schedule};

const VARIABLES: &[(&str, &str)] = &[("HOME", "/h"), ("B2_BUCKET_NAME", "from-env")];

/// Imports a text that is the whole file.
fn whole(text: &str) -> Result<Import, ImportError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openclaw.json");
    std::fs::write(&path, text).unwrap();
    import(&path, None, Path::new("/s"), &Environment::of(VARIABLES))
}

/// The same, and what the draft says when it is read.
#[track_caller]
fn imported(text: &str) -> (Import, crate::config::Config) {
    let import = whole(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let checked = import.draft.check(Path::new("/c/config.toml"), &Environment::of(VARIABLES));
    let config = checked.unwrap_or_else(|e| panic!("{e}\n{:?}", import.draft)).config;
    assert_eq!(config.state_dir, Some("/s".into()));
    (import, config)
}

/// `key fate to`, of every key.
fn fates(import: &Import) -> Vec<String> {
    let mut rows: Vec<String> = import
        .answers
        .iter()
        .map(|a| format!("{} {} {}", a.key, a.fate.name(), a.to.as_deref().unwrap_or("-")))
        .collect();
    rows.sort();
    rows
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[track_caller]
fn remote(config: &crate::config::Config) -> &RemoteConfig {
    config.remote.as_ref().unwrap()
}

#[test]
fn b2_backup_as_its_readme_has_it() {
    let (import, config) = imported(
        r#"{ // mine
          "plugins": { "entries": { "openclaw-b2-backup": { "enabled": true, "config": {
            "keyId": "004a...", "applicationKey": "K004...", "bucket": "my-openclaw-backups" } } } },
          channels: { telegram: { token: "hunter2" } } }"#,
    );
    let remote = remote(&config);
    let provider = Provider::B2 { key_id: "004a...".into(), application_key: secret("K004...") };
    assert_eq!((&remote.provider, remote.bucket.as_deref()), (&provider, Some("my-openclaw-backups")));
    assert_eq!(remote.prefix, "exuvia/openclaw-backup");
    assert_eq!(config.schedule.backup.to_string(), "daily 00:00");
    assert!(config.start.auto_restore && config.retention.is_none());
    assert_eq!((import.plugin, &import.passphrase), (Plugin::B2Backup, &Passphrase::Generate));
    assert_eq!(
        fates(&import),
        [
            "applicationKey taken remote.secret",
            "bucket taken remote.bucket",
            "enabled not needed -",
            "keyId taken remote.key_id",
        ]
    );
    assert!(!format!("{import:?}").contains("K004"));
}

#[test]
fn every_key_of_b2_backup_is_answered_for() {
    let (import, config) = imported(
        "{keyId: '${KEY_ID}', applicationKey: 'k$1', bucket: 'b', region: 'us-west-004', prefix: '/agents/one/', \
         schedule: '30 3 * * 1-5', encrypt: false, keepSnapshots: 12, keepSafetySnapshots: 3, colour: 'red'}",
    );
    let remote = remote(&config);
    let provider = Provider::B2 { key_id: "{}".into(), application_key: secret("k$1") };
    assert_eq!((&remote.provider, remote.prefix.as_str()), (&provider, "exuvia/agents/one"));
    assert_eq!(config.schedule.backup.to_string(), "cron 30 3 * * 1-5");
    assert_eq!(config.retention, Some(Policy { last: 12, ..Policy::default() }));
    assert_eq!(
        fates(&import),
        [
            "applicationKey taken remote.secret",
            "bucket taken remote.bucket",
            "colour unknown -",
            "encrypt changed -",
            "keepSafetySnapshots not needed -",
            "keepSnapshots taken retention",
            "keyId taken remote.key_id",
            "prefix changed remote.prefix",
            "region not needed -",
            "schedule taken schedule.backup",
        ]
    );
    assert!(import.draft.render().contains("key_id = \"${KEY_ID}\""));
}

#[test]
fn b2_backup_in_its_other_places_and_forms() {
    let block = "keyId: 'i', applicationKey: 'k'";
    for text in [
        format!("{{plugins: {{entries: {{'b2-backup': {{config: {{{block}, bucket: 'b'}}}}}}}}}}"),
        format!("{{plugins: {{'openclaw-b2-backup': {{{block}, bucket: 'b'}}}}}}"),
        format!("{{'openclaw-b2-backup': {{config: {{{block}, bucket: 'b'}}}}}}"),
        format!("{{enabled: true, config: {{{block}, bucket: 'b'}}}}"),
        format!("{{{block}, bucket: 'b'}}"),
    ] {
        assert_eq!(remote(&imported(&text).1).bucket.as_deref(), Some("b"), "{text}");
    }
    // What is not in the block the plugin takes from the environment.
    assert_eq!(remote(&imported(&format!("{{{block}}}")).1).bucket.as_deref(), Some("from-env"));
    let missing = whole("{keyId: 'i', bucket: 'b'}").unwrap_err();
    assert!(missing.to_string().contains("applicationKey is missing"), "{missing}");
    let (import, config) = imported(&format!(
        "{{{block}, bucket: 'b', endpoint: 'http://127.0.0.1:9', region: 'r', schedule: '0 15 2 * * *', \
         keepSnapshots: 0}}"
    ));
    let Provider::S3 { endpoint, region, keys, .. } = &remote(&config).provider else { panic!("not S3") };
    assert_eq!((endpoint.as_deref(), region.as_deref()), (Some("http://127.0.0.1:9"), Some("r")));
    assert_eq!(keys, &Some(("i".to_owned(), secret("k"))));
    assert_eq!((config.schedule.backup.to_string().as_str(), &config.retention), ("cron 15 2 * * *", &None));
    let fates = fates(&import);
    assert!(fates.contains(&"schedule changed schedule.backup".to_owned()), "{fates:?}");
    for (schedule, want, fate) in [
        ("weekly", "weekly sun 00:00", Fate::Taken),
        ("@hourly", "cron 0 * * * *", Fate::Taken),
        ("every now and then", "daily 00:00", Fate::NotUnderstood),
        ("61 * * * *", "daily 00:00", Fate::NotUnderstood),
        ("${WHEN}", "daily 00:00", Fate::NotUnderstood),
    ] {
        let (import, config) = imported(&format!("{{{block}, bucket: 'b', schedule: '{schedule}'}}"));
        assert_eq!(config.schedule.backup.to_string(), want, "{schedule}");
        assert_eq!(import.answers.iter().find(|a| a.key == "schedule").unwrap().fate, fate, "{schedule}");
    }
}

const NESTED: &str = r#"{ "plugins": { "entries": { "openclaw-workspace-sync": { "enabled": true, "config": {
  "sync": { "provider": "dropbox", "mode": "mailbox", "remotePath": "", "localPath": "/", "interval": 180,
    "timeout": 1800, "onSessionStart": true, "notifyOnInbox": false, "exclude": [".git/**", "node_modules/**", "*.log"],
    "dropbox": { "token": "${DROPBOX_TOKEN}", "appFolder": true } },
  "backup": { "enabled": true, "provider": "s3", "bucket": "my-backups", "prefix": "agents/main/", "interval": 86400,
    "encrypt": true, "passphrase": "${BACKUP_PASSPHRASE}",
    "include": ["workspace", "config", "cron", "memory", "sessions", "transcripts"],
    "retain": { "daily": 7, "weekly": 4, "monthly": 6 },
    "s3": { "endpoint": "https://acc.r2.cloudflarestorage.com", "region": "auto",
      "accessKeyId": "${R2_KEY}", "secretAccessKey": "${R2_SECRET}" } } } } } } }"#;

#[test]
fn workspace_sync_with_sync_and_backup() {
    let (import, config) = imported(NESTED);
    let Provider::S3 { endpoint, region, .. } = &remote(&config).provider else { panic!("not S3") };
    assert_eq!(endpoint.as_deref(), Some("https://acc.r2.cloudflarestorage.com"));
    assert_eq!((region.as_deref(), remote(&config).prefix.as_str()), (Some("auto"), "agents/main/exuvia"));
    assert_eq!(remote(&config).bucket.as_deref(), Some("my-backups"));
    assert_eq!(config.schedule.backup, Schedule::Every(std::time::Duration::from_secs(86_400)));
    let want = Policy { daily: 7, weekly: 4, monthly: 6, ..Policy::default() };
    assert_eq!(config.retention, Some(want));
    assert_eq!(config.backup.include, ["workspace", "config", "cron", "memory", "sessions", "transcripts"]);
    // As the plugin does, the backup leaves out what the sync leaves out.
    assert_eq!(config.backup.exclude, [".git", "node_modules", "*.log"]);
    assert_eq!(import.passphrase, Passphrase::Configured(vec!["BACKUP_PASSPHRASE".to_owned()]));
    assert_eq!(import.unset_variables(&Environment::of(VARIABLES)), ["BACKUP_PASSPHRASE"]);
    assert_eq!(import.unset_variables(&Environment::of(&[("BACKUP_PASSPHRASE", "x")])), [""; 0]);
    let command = config.passphrase_command.as_deref();
    assert_eq!(command, Some("printf %s \"${BACKUP_PASSPHRASE:?is not set}\""));
    assert_eq!(
        fates(&import),
        [
            "backup.bucket taken remote.bucket",
            "backup.enabled not needed -",
            "backup.encrypt not needed -",
            "backup.include taken backup.include",
            "backup.interval taken schedule.backup",
            "backup.passphrase taken passphrase_command",
            "backup.prefix changed remote.prefix",
            "backup.provider taken remote.provider",
            "backup.retain.daily taken retention.daily",
            "backup.retain.monthly taken retention.monthly",
            "backup.retain.weekly taken retention.weekly",
            "backup.s3.accessKeyId taken remote.key_id",
            "backup.s3.endpoint taken remote.endpoint",
            "backup.s3.region taken remote.region",
            "backup.s3.secretAccessKey taken remote.secret",
            "enabled not needed -",
            "sync.dropbox.appFolder later -",
            "sync.dropbox.token later -",
            "sync.exclude changed backup.exclude",
            "sync.interval later -",
            "sync.localPath later -",
            "sync.mode later -",
            "sync.notifyOnInbox later -",
            "sync.onSessionStart later -",
            "sync.provider later -",
            "sync.remotePath later -",
            "sync.timeout later -",
        ]
    );
}

#[test]
fn workspace_sync_in_its_flat_form() {
    let (import, config) = imported(
        "{provider: 's3', bucket: 'b', prefix: 'p', interval: 60, encrypt: true, passphrase: 'hunter $ 2', \
         include: ['workspace', 'config', 'nonsense'], retain: 5, exclude: ['**/cache/**', 'a/b', '!x', '{a,b}', '/**', 'x[z-a]'], \
         s3: {endpoint: 'http://h:1', region: 'us-east-1', accessKeyId: 'i', secretAccessKey: 's', bucket: 'other'}, \
         mode: 'mirror', unheard: {of: 1}}",
    );
    assert_eq!(config.schedule.backup, Schedule::Every(std::time::Duration::from_secs(300)));
    assert_eq!((remote(&config).bucket.as_deref(), remote(&config).prefix.as_str()), (Some("b"), "p/exuvia"));
    assert_eq!(config.backup.exclude, ["cache", "**/a/b", "\\!x", "\\{a,b\\}"]);
    assert_eq!(import.passphrase, Passphrase::Given(secret("hunter $ 2")));
    assert_eq!(config.retention, Some(Policy { last: 5, ..Policy::default() }));
    let answers = &import.answers;
    let interval = answers.iter().find(|a| a.key == "interval").unwrap();
    assert_eq!((interval.fate, interval.words.as_str()), (Fate::Changed, "60 became 300 seconds"));
    assert_eq!(
        fates(&import),
        [
            "bucket taken remote.bucket",
            "encrypt not needed -",
            "exclude changed backup.exclude",
            "exclude not understood -",
            "include not understood -",
            "include taken backup.include",
            "interval changed schedule.backup",
            "mode later -",
            "passphrase taken passphrase_file",
            "prefix changed remote.prefix",
            "provider taken remote.provider",
            "retain taken retention",
            "s3.accessKeyId taken remote.key_id",
            "s3.bucket not needed -",
            "s3.endpoint taken remote.endpoint",
            "s3.region taken remote.region",
            "s3.secretAccessKey taken remote.secret",
            "unheard unknown -",
        ]
    );
    assert!(!format!("{import:?}{:?}", import.draft).contains("hunter"));
}

#[test]
fn a_block_that_only_synchronises_opens_the_same_storage() {
    let (import, config) = imported(
        "{plugins: {entries: {'workspace-sync': {config: {provider: 'dropbox', mode: 'mailbox', remotePath: '', \
         localPath: '/', interval: 60, onSessionStart: true, dropbox: {appFolder: true, appKey: 'k', appSecret: \
         '${S}', token: '{\"access_token\":\"...\"}'}}}}}}",
    );
    let login = Login {
        token: secret("{\"access_token\":\"...\"}"),
        app_key: Some("k".into()),
        app_secret: Some(secret("{}")),
    };
    assert_eq!(remote(&config).provider, Provider::Dropbox(login));
    assert_eq!(remote(&config).prefix, "exuvia");
    // The interval is that of the sync.
    assert_eq!(config.schedule.backup.to_string(), "1d");
    // Its sync would delete the repository.
    assert!(
        import.notes.iter().any(|note| note.contains("deletes what it does not know")),
        "{:?}",
        import.notes
    );
    assert!(fates(&import).contains(&"interval later -".to_owned()));
}

#[test]
fn drives_and_other_backends() {
    let (_, config) = imported(
        "{backup: {provider: 'gdrive', remotePath: 'openclaw-sync', prefix: 'a', \
         gdrive: {token: '{}', teamDrive: '0AB', rootFolderId: 'f'}}}",
    );
    let login = Login { token: secret("{}"), app_key: None, app_secret: None };
    let drive = Provider::Drive { login: login.clone(), root_folder_id: Some("f".into()) };
    assert_eq!(
        (&remote(&config).provider, remote(&config).prefix.as_str()),
        (&drive, "openclaw-sync/a/exuvia")
    );
    assert_eq!(remote(&config).options, [("team_drive".to_owned(), secret("0AB"))]);
    let (import, config) = imported(
        "{backup: {provider: 'onedrive', onedrive: {token: '{}', driveId: 'd', driveType: 'sharepoint'}, s3: {bucket: \
         'x'}}}",
    );
    let want = Provider::OneDrive { login, drive_id: "d".into(), drive_type: "documentLibrary".into() };
    assert_eq!(remote(&config).provider, want);
    let fates = fates(&import);
    assert!(fates.contains(&"backup.onedrive.driveType changed remote.drive_type".to_owned()), "{fates:?}");
    assert!(fates.contains(&"backup.s3.bucket not needed -".to_owned()), "{fates:?}");
    let (_, config) = imported(
        "{sync: {provider: 'custom', remotePath: 'openclaw-sync', custom: {rcloneType: 'sftp', rcloneOptions: \
         {host: 'example.com', user: 'deploy', 'key-file': '/path/to/key', port: 22}}}}",
    );
    let one = remote(&config);
    assert_eq!(
        (&one.provider, one.prefix.as_str()),
        (&Provider::Custom { rclone_type: "sftp".into() }, "exuvia")
    );
    let mut options: Vec<_> =
        one.options.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    options.sort_unstable();
    assert_eq!(
        options,
        [("host", "example.com"), ("key_file", "/path/to/key"), ("port", "22"), ("user", "deploy")]
    );
}

#[test]
fn a_remote_that_rclone_has_is_used_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join(".config/rclone/rclone.conf");
    std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
    std::fs::write(&conf, "[backup]\ntype = s3\n\n[other]\ntype = b2\n").unwrap();
    let path = dir.path().join("openclaw.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        import(&path, None, Path::new("/s"), &Environment::of(VARIABLES))
    };
    let config = |import: &Import| {
        import.draft.check(Path::new("/c/x.toml"), &Environment::of(VARIABLES)).unwrap().config
    };
    // The plugin's own place and name.
    let one = config(&read("{backup: {provider: 's3', bucket: 'b', prefix: 'p'}}").unwrap());
    let want = Provider::Rclone { remote: secret("backup:b/p/exuvia"), config: Some(conf.clone()) };
    assert_eq!(remote(&one).provider, want);
    let text = format!(
        "{{backup: {{provider: 's3', remotePath: 'b/q', remoteName: 'other', configPath: '{}'}}}}",
        conf.display()
    );
    let two = read(&text).unwrap();
    let want = Provider::Rclone { remote: secret("other:b/q/exuvia"), config: Some(conf) };
    assert_eq!(remote(&config(&two)).provider, want);
    let fates = fates(&two);
    assert!(fates.contains(&"backup.configPath taken remote.rclone_config".to_owned()), "{fates:?}");
    assert!(fates.contains(&"backup.remoteName taken remote.remote".to_owned()), "{fates:?}");
    let error = read("{backup: {provider: 's3', bucket: 'b', remoteName: 'third'}}").unwrap_err();
    assert!(error.to_string().contains("has no remote [third]"), "{error}");
}

/// A folder with `openclaw.json`, and a state dir elsewhere that has an `rclone.conf` of the plugin's.
fn with_rclone_conf(conf: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state/.config/rclone/rclone.conf");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, conf).unwrap();
    (dir, file)
}

fn imported_in(dir: &Path, text: &str) -> Result<(Import, crate::config::Config), ImportError> {
    let path = dir.join("openclaw.json");
    std::fs::write(&path, text).unwrap();
    let env = Environment::of(VARIABLES);
    let import = import(&path, None, &dir.join("state"), &env)?;
    let config = import.draft.check(Path::new("/c/x.toml"), &env).unwrap().config;
    Ok((import, config))
}

/// As the plugin's documentation begins: where to, and how; the token is in the plugin's own `rclone.conf`.
const DOCUMENTED: &str = r#"{ "plugins": { "entries": { "openclaw-workspace-sync": { "enabled": true, "config": {
  "provider": "dropbox", "mode": "mailbox", "remotePath": "", "localPath": "/", "interval": 60, "timeout": 1800,
  "onSessionStart": true, "onSessionEnd": false, "exclude": [".git/**", "node_modules/**", "*.log"] } } } } }"#;

#[test]
fn the_first_documented_example_is_imported() {
    let (dir, file) = with_rclone_conf("[cloud]\ntype = dropbox\ntoken = {}\n");
    let (import, config) = imported_in(dir.path(), DOCUMENTED).unwrap();
    let want = Provider::Rclone { remote: secret("cloud:exuvia"), config: Some(file) };
    assert_eq!(remote(&config).provider, want);
    assert!(import.notes.iter().any(|note| note.contains("[cloud]")), "{:?}", import.notes);
    assert!(import.notes.iter().any(|note| note.contains("deletes what it does not know")));
    // Beside openclaw.json, when the state dir has none.
    std::fs::rename(dir.path().join("state/.config"), dir.path().join(".config")).unwrap();
    let (_, config) = imported_in(dir.path(), DOCUMENTED).unwrap();
    let file = dir.path().join(".config/rclone/rclone.conf");
    let want = Provider::Rclone { remote: secret("cloud:exuvia"), config: Some(file.clone()) };
    assert_eq!(remote(&config).provider, want);
    std::fs::write(&file, "[cloud]\ntype = drive\n").unwrap();
    let error = imported_in(dir.path(), DOCUMENTED).unwrap_err();
    assert!(error.to_string().contains("has no remote [cloud] or [backup]"), "{error}");
}

#[test]
fn remotes_have_the_names_of_either_half_or_the_usual_ones() {
    let conf = "[backup]\ntype = s3\n[mine]\ntype = dropbox\n[cloud]\ntype = dropbox\n[own]\ntype = drive\n";
    let (dir, _) = with_rclone_conf(conf);
    let opened = |text: &str| {
        let (import, config) = imported_in(dir.path(), text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let Provider::Rclone { remote, .. } = &remote(&config).provider else { panic!("{text}") };
        (remote.expose().to_owned(), fates(&import))
    };
    for (text, want) in [
        ("{backup: {provider: 's3', bucket: 'b'}}", "backup:b/exuvia"),
        ("{backup: {remoteName: 'own', provider: 'gdrive'}}", "own:exuvia"),
        ("{sync: {provider: 'dropbox', remoteName: 'mine'}}", "mine:exuvia"),
        ("{sync: {provider: 'dropbox'}, backup: {prefix: 'p', enabled: true}}", "backup:p/exuvia"),
        ("{sync: {provider: 's3', remotePath: 'bucket/share'}}", "backup:bucket/exuvia"),
        ("{provider: 'dropbox', mode: 'mirror', remoteName: 'mine'}", "mine:exuvia"),
    ] {
        assert_eq!(opened(text).0, want, "{text}");
    }
    let (_, fates) = opened("{sync: {provider: 'dropbox', remoteName: 'mine', configPath: ''}}");
    assert!(fates.contains(&"sync.remoteName taken remote.remote".to_owned()), "{fates:?}");
    // A remote of another kind would be another place.
    let (dir, _) = with_rclone_conf("[cloud]\ntype = dropbox\n");
    let error =
        imported_in(dir.path(), "{sync: {provider: 'dropbox'}, backup: {provider: 's3', bucket: 'b'}}");
    assert!(error.unwrap_err().to_string().contains("has no remote [backup] or [cloud]"));
}

#[test]
fn a_sync_that_would_delete_the_repository_is_told_of() {
    let told = |sync: &str, backup: &str| {
        let s3 = "accessKeyId: 'i', secretAccessKey: 's'";
        let text = format!(
            "{{sync: {{provider: 's3', mode: 'mailbox', {sync}, s3: {{{s3}, bucket: 'b'}}}}, backup: {{provider: 's3', {backup}, \
             s3: {{{s3}}}}}}}"
        );
        let (import, _) = imported(&text);
        import.notes.iter().any(|note| note.contains("deletes what it does not know"))
    };
    // What the plugin hands rclone is the path alone: its first folder is the bucket.
    assert!(told("remotePath: 'b'", "bucket: 'b'"));
    assert!(told("remotePath: '/b/agents/'", "bucket: 'b', prefix: 'agents/one'"));
    assert!(told("remotePath: ''", "bucket: 'other'"));
    // And as its documentation has it.
    assert!(told("remotePath: 'agents'", "bucket: 'b', prefix: 'agents'"));
    assert!(!told("remotePath: 'b/share'", "bucket: 'b', prefix: 'agents'"));
    assert!(!told("remotePath: 'c'", "bucket: 'b'"));
}

#[test]
fn folders_of_agents_outside_of_the_state_dir_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(real.join("state/workspace")).unwrap();
    std::fs::create_dir(real.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(real.join("elsewhere"), real.join("state/linked")).unwrap();
    let path = real.join("openclaw.json");
    let state = real.join("state");
    let shown = real.display();
    std::fs::write(
        &path,
        format!(
            "{{agents: {{defaults: {{workspace: '{shown}/state/workspace'}}, \
             entries: {{a: {{workspace: '/data/a', agentDir: '~/agent'}}, b: {{workspace: '/data/a'}}, c: 3}}, \
             list: [{{id: 'x', workspace: '{shown}/state/linked'}}, {{workspace: '${{WORK}}/x'}}, {{workspace: '${{HOME}}/y'}}, 'y']}}, \
             agent: {{workspace: '{shown}/state/new'}}, b2: 1}}"
        ),
    )
    .unwrap();
    let found: Vec<String> = outside(&path, &state, &Environment::of(VARIABLES))
        .into_iter()
        .map(|one| format!("{} {}", one.key, one.path.display()))
        .collect();
    let linked = format!("agents.list[0].workspace {shown}/state/linked");
    let unset = format!("agents.list[1].workspace {shown}/${{WORK}}/x");
    assert_eq!(
        found,
        [
            "agents.entries.a.workspace /data/a",
            "agents.entries.a.agentDir /h/agent",
            linked.as_str(),
            unset.as_str(),
            "agents.list[2].workspace /h/y"
        ]
    );
    assert!(outside(&real.join("none"), &state, &Environment::of(VARIABLES)).is_empty());
    // Whoever imports a plugin's settings is told, too.
    std::fs::write(
        &path,
        "{agents: {defaults: {workspace: '/data/a'}}, 'b2-backup': {keyId: 'i', applicationKey: 'k', bucket: 'b'}}",
    )
    .unwrap();
    let import = import(&path, None, &state, &Environment::of(VARIABLES)).unwrap();
    assert_eq!(import.outside, [Outside { key: "agents.defaults.workspace".into(), path: "/data/a".into() }]);
}

#[test]
fn retention_is_what_the_plugin_made_of_it() {
    let policy = |retain: &str| {
        let text =
            format!("{{backup: {{provider: 'dropbox', dropbox: {{token: '{{}}'}}, retain: {retain}}}}}");
        imported(&text).1.retention
    };
    let last = |last| Some(Policy { last, ..Policy::default() });
    assert_eq!(policy("7"), last(7));
    assert_eq!(policy("0"), last(1));
    assert_eq!(policy("{weekly: 4}"), Some(Policy { daily: 7, weekly: 4, ..Policy::default() }));
    assert_eq!(policy("{daily: 0, weekly: 0}"), last(1));
    assert_eq!(policy("'seven'"), None);
    // One rule that is not understood, and nobody knows what the others were to keep beside it.
    for retain in [
        "{daily: '7'}",
        "{daily: 7.5}",
        "{daily: '7', weekly: 4}",
        "{weekly: -1}",
        "{daily: 0, monthly: true}",
    ] {
        assert_eq!(policy(retain), None, "{retain}");
    }
    assert_eq!(policy("7.5"), None);
}

#[test]
fn what_cannot_be_imported_is_said() {
    for (text, want) in [
        ("{channels: {}}", "has no settings of openclaw-workspace-sync or openclaw-b2-backup"),
        ("[1]", "has no settings of"),
        ("{a: }", "openclaw.json:1: this is not JSON5: "),
        (
            "{plugins: {entries: {'b2-backup': {config: {}}, 'workspace-sync': {config: {}}}}}",
            "has settings of both",
        ),
        ("{backup: {enabled: true}}", "provider is missing"),
        ("{provider: 'off'}", "provider is missing"),
        ("{provider: 'dropbox'}", "has no remote [cloud] or [backup] for it"),
        ("{backup: {provider: 'dropbox'}}", "has no remote [backup] or [cloud] for it"),
        ("{backup: {provider: 's3'}}", "bucket is missing"),
    ] {
        let error = whole(text).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
    let both = "{plugins: {entries: {'b2-backup': {config: {keyId: 'i', applicationKey: 'k', bucket: 'b'}}, \
                'workspace-sync': {config: {}}}}}";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    std::fs::write(&path, both).unwrap();
    let one = import(&path, Some(Plugin::B2Backup), Path::new("/s"), &Environment::of(VARIABLES)).unwrap();
    assert_eq!(one.plugin, Plugin::B2Backup);
}

/// Whatever stands in a block, it is answered for, and no value is repeated that could be a secret.
#[test]
fn values_of_a_wrong_kind_are_answered_for() {
    let keys = [
        "enabled",
        "bucket",
        "prefix",
        "remotePath",
        "remoteName",
        "configPath",
        "interval",
        "encrypt",
        "passphrase",
        "include",
        "exclude",
        "retain",
        "s3",
        "dropbox",
        "gdrive",
        "onedrive",
        "custom",
    ];
    for value in ["{hunter2: 'hunter2'}", "['hunter2', 3, {}]", "3.5", "-1", "true", "null", "''"] {
        for key in keys {
            let text = format!(
                "{{backup: {{provider: 's3', s3: {{accessKeyId: 'i', secretAccessKey: 's'}}, {key}: {value}}}}}"
            );
            let Ok(import) = whole(&text) else { continue };
            let told = import.answers.iter().any(|answer| answer.key.starts_with(&format!("backup.{key}")));
            assert!(told || value == "null" || (key == "s3"), "{text}: {:?}", import.answers);
            let words: String = import.answers.iter().map(|a| a.words.as_str()).collect();
            assert!(
                !words.replace("hunter2 is none of", "").contains("hunter2")
                    || key == "include"
                    || key == "exclude"
            );
        }
    }
}
