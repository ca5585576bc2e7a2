//! The settings of the earlier plugins, as their users have them, become a configuration with which backups go
//! to the same storage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::servers::{BUCKET, KEY, Kind, SECRET, Service, Version};
use crate::support::{Place, picture, put, same};

/// As the documentation of openclaw-workspace-sync has it, but for the address.
const WORKSPACE_SYNC: &str = r#"{
  // my agent
  "plugins": { "entries": { "openclaw-workspace-sync": { "enabled": true, "config": {
    "sync": { "provider": "dropbox", "mode": "mailbox", "remotePath": "", "localPath": "/", "interval": 180,
              "timeout": 1800, "onSessionStart": true, "onSessionEnd": false,
              "exclude": [".git/**", "node_modules/**", "*.log"] },
    "backup": { "enabled": true, "provider": "s3", "bucket": "BUCKET", "prefix": "my-agent/", "interval": 60,
                "encrypt": true, "passphrase": "${BACKUP_PASSPHRASE}",
                "include": ["workspace", "config", "cron", "memory"],
                "retain": { "daily": 7, "weekly": 4, "monthly": 6 },
                "s3": { "endpoint": "ENDPOINT", "region": "us-east-1",
                        "accessKeyId": "${R2_ACCESS_KEY}", "secretAccessKey": "${R2_SECRET_KEY}" } } } } } } }"#;

/// The older form.
const FLAT: &str = r#"{ "plugins": { "entries": { "workspace-sync": { "enabled": true, "config": {
    "provider": "s3", "bucket": "BUCKET", "prefix": "flat", "interval": 3600, "encrypt": true,
    "passphrase": "correct horse battery", "retain": 7, "exclude": ["**/.DS_Store"],
    "s3": { "endpoint": "ENDPOINT", "region": "us-east-1", "accessKeyId": "ACCESS", "secretAccessKey": "SECRET" }
    } } } } }"#;

/// As the documentation of openclaw-b2-backup has it, with all that is optional; the address is one of its own
/// settings, which users of a proxy have.
const B2: &str = r#"{ "plugins": { "entries": { "openclaw-b2-backup": { "enabled": true, "config": {
    "keyId": "ACCESS", "applicationKey": "SECRET", "bucket": "BUCKET", "region": "us-east-1",
    "endpoint": "ENDPOINT", "schedule": "daily", "encrypt": true, "keepSnapshots": 10 } } } } }"#;

/// The same as most have it: by B2's own interface.
const NATIVE_B2: &str = r#"{ "plugins": { "entries": { "openclaw-b2-backup": { "enabled": true, "config": {
    "keyId": "ACCESS", "applicationKey": "SECRET", "bucket": "BUCKET", "prefix": "agents/one",
    "schedule": "daily" } } } } }"#;

/// There is no server of B2 for tests: what rclone is told of B2 is noted, and then told of a service that speaks S3,
/// by which the same account, key, bucket and folder are reached.
fn in_place_of_b2(place: &Place, port: u16) -> PathBuf {
    let script = format!(
        "#!/bin/sh\n\
         case \"$RCLONE_CONFIG_EXUVIA_TYPE\" in b2) ;; *) exec \"{real}\" \"$@\" ;; esac\n\
         {{ env | grep ^RCLONE_CONFIG_EXUVIA; echo \"$*\"; }} >\"{told}\"\n\
         export RCLONE_CONFIG_EXUVIA_TYPE=s3 RCLONE_CONFIG_EXUVIA_PROVIDER=Other\n\
         export RCLONE_CONFIG_EXUVIA_ENDPOINT=http://127.0.0.1:{port} RCLONE_CONFIG_EXUVIA_REGION=us-east-1\n\
         export RCLONE_CONFIG_EXUVIA_ACCESS_KEY_ID=\"$RCLONE_CONFIG_EXUVIA_ACCOUNT\"\n\
         export RCLONE_CONFIG_EXUVIA_SECRET_ACCESS_KEY=\"$RCLONE_CONFIG_EXUVIA_KEY\"\n\
         unset RCLONE_CONFIG_EXUVIA_ACCOUNT RCLONE_CONFIG_EXUVIA_KEY RCLONE_CONFIG_EXUVIA_HARD_DELETE\n\
         exec \"{real}\" \"$@\"\n",
        real = Version::New.program().display(),
        told = place.path("told").display(),
    );
    let path = place.path("rclone");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Imports, and does what the user is told to do next. Returns what was said.
fn import_and_back_up(kind: Kind, config: &str, prefix: &str, leaves_out: &str) -> String {
    let service = Service::start(kind);
    let mut place = Place::new();
    for (name, value) in service.env(Version::New, service.port()) {
        if name == "RCLONE_CONFIG" {
            place.set(&name, &value);
        }
    }
    place
        .set("EXUVIA_RCLONE", Version::New.program().to_str().unwrap())
        .set("BACKUP_PASSPHRASE", "of the earlier tool")
        .set("R2_ACCESS_KEY", KEY)
        .set("R2_SECRET_KEY", SECRET);
    if config == NATIVE_B2 {
        let program = in_place_of_b2(&place, service.port());
        place.set("EXUVIA_RCLONE", program.to_str().unwrap());
    }
    let native = config == NATIVE_B2;
    let config = config
        .replace("ENDPOINT", &format!("http://127.0.0.1:{}", service.port()))
        .replace("\"ACCESS\"", &format!("\"{KEY}\""))
        .replace("\"SECRET\"", &format!("\"{SECRET}\""))
        .replace("BUCKET", BUCKET);
    let state = place.path("home/.openclaw");
    put(&state, "openclaw.json", config.as_bytes());
    for name in
        ["workspace/MEMORY.md", "cron/jobs.json", "workspace/.git/HEAD", "agents/main/sessions/1.jsonl"]
    {
        put(&state, name, name.repeat(100).as_bytes());
    }
    // What the plugin has stored there so far is nobody's to touch.
    let earlier = (kind == Kind::S3).then(|| {
        let bucket = service.folder().ancestors().nth(2).unwrap().to_owned();
        let folder =
            prefix.split('/').filter(|part| *part != "exuvia").fold(bucket.clone(), |f, p| f.join(p));
        put(&folder, "backup-20260310T020000Z.tar.gz.enc", b"an older snapshot");
        (bucket.join(prefix), folder)
    });
    let said = place.run(&["config", "import"]).exits(0);
    place.run(&["config", "check"]).exits(0);
    let said = format!("{}{}", said.text(), said.stderr);
    assert!(!said.contains(SECRET) && !said.contains("correct horse"), "{said}");
    place.run(&["init", "--kdf-log-n", "15"]).exits(0);
    let summary = place.run(&["--json", "backup"]).exits(0).summary();
    assert_eq!(summary["complete"], true, "{summary}");
    if let Some((repository, folder)) = earlier {
        assert!(repository.join("exuvia.json").is_file(), "{}", repository.display());
        assert_eq!(
            fs::read(folder.join("backup-20260310T020000Z.tar.gz.enc")).unwrap(),
            b"an older snapshot"
        );
    }
    let mut wanted = picture(&state);
    wanted.retain(|path, _| leaves_out.is_empty() || !path.starts_with(leaves_out));
    let leaves_git = config.contains(".git/**");
    wanted.retain(|path, _| !leaves_git || !path.starts_with("workspace/.git"));
    place.run(&["restore", "--to", "restored"]).exits(0);
    let mut found = picture(&place.path("restored"));
    // Folders on the way to what a set may have are in a snapshot, too.
    for tree in [&mut wanted, &mut found] {
        tree.retain(|_, shape| !shape.is_dir());
    }
    same(&found, &wanted, "restored");
    place.is_sound();
    if native {
        let told = fs::read_to_string(place.path("told")).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        let (arguments, lines) = lines.split_last().unwrap();
        let place = format!("REPO_REMOTE=exuvia:{BUCKET}/{prefix}/");
        for wanted in ["_ACCOUNT=accesskey", "_HARD_DELETE=true", "_KEY=secretsecret", "_TYPE=b2", &place] {
            assert!(lines.contains(&format!("RCLONE_CONFIG_EXUVIA{wanted}").as_str()), "{wanted}: {told}");
        }
        assert!(!arguments.contains(SECRET), "{arguments}");
    }
    said
}

#[test]
fn workspace_sync_nested() {
    for kind in [Kind::S3, Kind::Moto] {
        let said = import_and_back_up(kind, WORKSPACE_SYNC, "my-agent/exuvia", "agents");
        assert!(
            said.contains("60 became 300 seconds") && said.contains("workspace sync is not there yet"),
            "{said}"
        );
    }
}

#[test]
fn workspace_sync_flat() {
    import_and_back_up(Kind::S3, FLAT, "flat/exuvia", "");
}

#[test]
fn b2_backup() {
    for kind in [Kind::S3, Kind::Moto] {
        let said = import_and_back_up(kind, B2, "exuvia/openclaw-backup", "");
        assert!(said.contains("a new key is in"), "{said}");
    }
}

#[test]
fn b2_backup_by_its_own_interface() {
    let said = import_and_back_up(Kind::S3, NATIVE_B2, "exuvia/agents/one", "");
    assert!(said.contains("a new key is in"), "{said}");
}
