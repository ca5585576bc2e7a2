//! The block of `openclaw-workspace-sync`: nested (`sync` and `backup`), or flat.

use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use super::b2_backup::{OWN_FOLDER, OWN_FOLDER_WORDS};
use super::block::Block;
use super::rclone_conf::has_remote;
use super::text::Text;
use super::{Fate, ImportError, Passphrase, Report, Site};
use crate::config::INCLUDE_SETS;
use crate::config::draft::{Draft, Value};
use crate::model::Secret;

/// The shortest interval that the plugin keeps to, in seconds.
const SHORTEST: i64 = 300;
/// Keys that say where a backup goes or what it is; in a flat block they are at its top.
const BACKUP_ONLY: [&str; 6] = ["bucket", "prefix", "encrypt", "passphrase", "include", "retain"];
/// The services that have an object of their own.
const SERVICES: [&str; 5] = ["s3", "dropbox", "gdrive", "onedrive", "custom"];
/// All that says how a workspace is synchronised.
const SYNC: [&str; 22] = [
    "provider",
    "mode",
    "ingest",
    "ingestPath",
    "notifyOnInbox",
    "remotePath",
    "localPath",
    "interval",
    "timeout",
    "onSessionStart",
    "onSessionEnd",
    "remoteName",
    "configPath",
    "conflictResolve",
    "exclude",
    "copySymlinks",
    "enabled",
    "s3",
    "dropbox",
    "gdrive",
    "onedrive",
    "custom",
];
const LATER: &str = "workspace sync is not there yet; a later version has it";

/// The two halves of a block, in either form.
struct Halves {
    /// What says where backups go, and when.
    backup: Block,
    /// What says how the workspace is synchronised, and stands in where the other half says nothing.
    sync: Option<Block>,
}

pub(super) fn read(
    block: Block,
    site: &Site<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<Passphrase, ImportError> {
    let Halves { mut backup, mut sync } = halves(block, report);
    let synced = sync.as_ref().and_then(Destination::of_sync);
    let place = remote(&mut backup, sync.as_mut(), site, draft, report)?;
    schedule(&mut backup, draft, report);
    include(&mut backup, draft, report);
    exclude(&mut backup, sync.as_mut(), draft, report);
    retain(&mut backup, draft, report);
    let passphrase = passphrase(&mut backup, site, draft, report);
    match backup.switch("enabled", report) {
        Some(false) => {
            draft.set("schedule.backup", Value::text("off"));
            let words = "the plugin made no backups, so `exuvia daemon` makes none until you change it";
            report.say(&backup.name("enabled"), Fate::Taken, Some("schedule.backup"), words);
        }
        Some(true) => report.unneeded(&backup.name("enabled"), "this program backs up when it is run"),
        None => {}
    }
    if let Some(synced) = synced
        && synced.holds(&place)
    {
        report.note(format!(
            "the plugin's workspace sync deletes what it does not know below its remotePath, and the repository \
             would lie there ({}): change remote.prefix, or the plugin's remotePath, before the first backup",
            place.path.join("/")
        ));
    }
    backup.finish(&SYNC, Fate::Later, LATER, report);
    if let Some(sync) = sync {
        sync.finish(&SYNC, Fate::Later, LATER, report);
    }
    report
        .note("the plugin's own snapshots stay where they are; this program makes a repository beside them");
    Ok(passphrase)
}

fn halves(mut block: Block, report: &mut Report) -> Halves {
    let flat = ["provider", "mode", "remotePath", "interval"].iter().any(|key| block.has(key));
    let flat = flat || BACKUP_ONLY.iter().any(|key| block.has(key));
    let backup = block.object("backup", report);
    let sync = block.object("sync", report);
    match (backup, sync) {
        (Some(backup), Some(sync)) => {
            block.finish(&SYNC, Fate::Later, LATER, report);
            Halves { backup, sync: Some(sync) }
        }
        (Some(backup), None) => Halves { backup, sync: Some(block) },
        (None, sync) if flat && sync.is_none() => {
            // Without a word of backups it says how to synchronise.
            if BACKUP_ONLY.iter().any(|key| block.has(key)) {
                Halves { backup: block, sync: None }
            } else {
                Halves { backup: Block::new("backup.", Map::new()), sync: Some(block) }
            }
        }
        (None, sync) => {
            block.finish(&SYNC, Fate::Later, LATER, report);
            Halves { backup: Block::new("backup.", Map::new()), sync }
        }
    }
}

/// A place in the storage of a provider.
struct Destination {
    provider: String,
    /// Its folders, as far as they are known.
    path: Vec<String>,
}

impl Destination {
    /// What the workspace is synchronised with, when that is switched on.
    fn of_sync(sync: &Block) -> Option<Self> {
        let text = |key: &str| sync.peek(key).and_then(Json::as_str).map(str::to_owned);
        let provider = text("provider").filter(|provider| provider != "off")?;
        let bucket = sync.peek(&provider).and_then(|service| service.get("bucket")).and_then(Json::as_str);
        let path = text("remotePath").unwrap_or_else(|| "openclaw-share".to_owned());
        Some(Self { path: folders(&[bucket.unwrap_or_default(), path.as_str()]), provider })
    }

    /// Whether a place lies in this one.
    fn holds(&self, other: &Self) -> bool {
        self.provider == other.provider && other.path.starts_with(&self.path)
    }
}

fn folders(parts: &[&str]) -> Vec<String> {
    let folders = parts.iter().flat_map(|part| part.split('/'));
    folders.filter(|folder| !folder.is_empty()).map(str::to_owned).collect()
}

/// Where the repository goes.
fn remote(
    backup: &mut Block,
    mut sync: Option<&mut Block>,
    site: &Site<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<Destination, ImportError> {
    let provider = provider(backup, sync.as_deref_mut(), report)?;
    let mut service = backup.object(&provider, report);
    if service.is_none() {
        service = sync.as_mut().and_then(|sync| sync.object(&provider, report));
    }
    for other in SERVICES.iter().filter(|other| **other != provider) {
        if let Some(other) = backup.object(other, report) {
            let words = format!("the provider is {provider}");
            unneeded(other, &words, report);
        }
    }
    let bucket_key = backup.name("bucket");
    let prefix_key = backup.name("prefix");
    let path_key = backup.name("remotePath");
    let mut bucket = backup.text("bucket", report);
    let of_service =
        service.as_mut().and_then(|service| Some((service.text("bucket", report)?, service.name("bucket"))));
    if bucket.is_some() {
        let (to, words) = match is_bucket(&provider) {
            true => ("remote.bucket", ""),
            false => ("remote.prefix", "a folder there"),
        };
        report.say(&bucket_key, Fate::Taken, Some(to), words);
    }
    match (&bucket, of_service) {
        (Some(_), Some((_, key))) => report.unneeded(&key, "the bucket beside it wins"),
        (None, Some((text, key))) => {
            report.taken(&key, "remote.bucket");
            bucket = Some(text);
        }
        (_, None) => {}
    }
    let mut folder = Text::default();
    if let Some(path) = backup.text("remotePath", report) {
        if bucket.is_some() {
            report.unneeded(&path_key, "the bucket wins");
        } else if is_bucket(&provider) {
            let (first, rest) = path.split();
            report.say(&path_key, Fate::Taken, Some("remote.bucket"), "bucket and folder");
            bucket = Some(first);
            folder = rest;
        } else {
            report.taken(&path_key, "remote.prefix");
            folder = path;
        }
    }
    if let Some(prefix) = backup.text("prefix", report) {
        report.say(&prefix_key, Fate::Changed, Some("remote.prefix"), OWN_FOLDER_WORDS);
        folder = prefix.below(&folder);
    }
    let folder = Text::literal(OWN_FOLDER).below(&folder);
    let remote_name = backup.word("remoteName", report);
    let config_path = backup.text("configPath", report).map(|text| (text, backup.name("configPath")));
    let from_sync = |sync: &mut Block, report: &mut Report| {
        Some((sync.text("configPath", report)?, sync.name("configPath")))
    };
    let config_path = config_path.or_else(|| sync.as_mut().and_then(|sync| from_sync(sync, report)));
    let whole = match &bucket {
        Some(bucket) => folder.clone().below(bucket),
        None => folder.clone(),
    };
    if service.as_ref().is_some_and(|service| is_complete(&provider, service)) {
        if remote_name.is_some() {
            report.unneeded(&backup.name("remoteName"), "what opens the storage stands in [remote]");
        }
        if let Some((_, key)) = &config_path {
            report.unneeded(key, "what opens the storage stands in [remote]");
        }
        let service = service.unwrap_or_else(|| Block::new("", Map::new()));
        fill(&provider, service, draft, report);
        if is_bucket(&provider) {
            if let Some(bucket) = &bucket {
                draft.set("remote.bucket", bucket.value());
            }
            draft.set("remote.prefix", folder.value());
        } else {
            draft.set("remote.prefix", whole.value());
        }
    } else {
        let name = remote_name.clone().unwrap_or_else(|| "backup".to_owned());
        named(&provider, &name, config_path, &whole, site, draft, report)?;
        if remote_name.is_some() {
            report.taken(&backup.name("remoteName"), "remote.remote");
        }
        if let Some(service) = service {
            unneeded(service, "the remote of rclone.conf has it", report);
        }
    }
    let path = folders(&[&whole.plain().map(str::to_owned).unwrap_or_default()]);
    Ok(Destination { provider, path })
}

/// Of the backup itself, or of the sync; the plugin takes `off` and nothing for S3.
fn provider(
    backup: &mut Block,
    sync: Option<&mut Block>,
    report: &mut Report,
) -> Result<String, ImportError> {
    let of_sync = sync.is_some() && !backup.has("provider");
    let half = match sync {
        Some(sync) if of_sync => sync,
        _ => &mut *backup,
    };
    let key = half.name("provider");
    let word = half.word("provider", report);
    match word.as_deref() {
        Some(word) if SERVICES.contains(&word) => {
            report.taken(&key, "remote.provider");
            return Ok(word.to_owned());
        }
        Some("off") => report.unneeded(&key, "it turns the sync off, not backups"),
        Some(_) => report.wrong(&key, "it is none of s3, dropbox, gdrive, onedrive, custom"),
        None => {}
    }
    let anywhere = ["s3", "bucket", "remoteName"].iter().any(|key| backup.has(key));
    if anywhere {
        return Ok("s3".to_owned());
    }
    let what = "the block does not say where backups go; set one of s3, dropbox, gdrive, onedrive, custom";
    Err(ImportError::Missing { key: "provider", what: what.to_owned() })
}

/// Services whose objects lie in buckets.
fn is_bucket(provider: &str) -> bool {
    provider == "s3"
}

/// Whether an object says all that opens the service. Otherwise `rclone.conf` does.
fn is_complete(provider: &str, service: &Block) -> bool {
    match provider {
        // Amazon's own tools find the keys elsewhere.
        "s3" => service.has("accessKeyId") || (service.has("region") && !service.has("endpoint")),
        "onedrive" => ["token", "driveId", "driveType"].iter().all(|key| service.has(key)),
        "custom" => service.has("rcloneType"),
        _ => service.has("token"),
    }
}

/// Takes what opens the service.
fn fill(provider: &str, mut service: Block, draft: &mut Draft, report: &mut Report) {
    draft.set("remote.provider", Value::text(provider));
    let keys: &[(&str, &str)] = match provider {
        "s3" => &[
            ("endpoint", "remote.endpoint"),
            ("region", "remote.region"),
            ("accessKeyId", "remote.key_id"),
            ("secretAccessKey", "remote.secret"),
        ],
        "dropbox" => {
            &[("token", "remote.token"), ("appKey", "remote.app_key"), ("appSecret", "remote.app_secret")]
        }
        "gdrive" => &[
            ("token", "remote.token"),
            ("teamDrive", "remote.options.team_drive"),
            ("rootFolderId", "remote.root_folder_id"),
        ],
        "onedrive" => &[("token", "remote.token"), ("driveId", "remote.drive_id")],
        _ => &[("rcloneType", "remote.rclone_type")],
    };
    for (key, to) in keys {
        if let Some(text) = service.text(key, report) {
            draft.set(to, text.value());
            report.taken(&service.name(key), to);
        }
    }
    if service.switch("appFolder", report).is_some() {
        report.unneeded(&service.name("appFolder"), "the token itself is limited to the folder, or is not");
    }
    if provider == "onedrive"
        && let Some(word) = service.word("driveType", report)
    {
        let (word, fate) = match word.as_str() {
            "sharepoint" => ("documentLibrary", Fate::Changed),
            other => (other, Fate::Taken),
        };
        draft.set("remote.drive_type", Value::text(word));
        let words = if fate == Fate::Changed { "rclone calls it documentLibrary" } else { "" };
        report.say(&service.name("driveType"), fate, Some("remote.drive_type"), words);
    }
    if let Some(mut options) = service.object("rcloneOptions", report) {
        for (key, value) in options.rest() {
            let name = options.name(&key);
            // As in rclone.conf; on command lines there are dashes.
            let to = format!("remote.options.{}", key.replace('-', "_"));
            let text = match &value {
                Json::Bool(_) | Json::Number(_) => Ok(Text::literal(&value.to_string())),
                other => Text::of(other),
            };
            match text {
                Ok(text) => {
                    draft.set(&to, text.value());
                    report.taken(&name, &to);
                }
                Err(what) => report.wrong(&name, what),
            }
        }
    }
    service.finish(&[], Fate::Unknown, "", report);
}

/// A remote that an `rclone.conf` has.
fn named(
    provider: &str,
    name: &str,
    config_path: Option<(Text, String)>,
    path: &Text,
    site: &Site<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<(), ImportError> {
    let own = site.folder.join(".config/rclone/rclone.conf");
    let (file, value) = match &config_path {
        Some((text, key)) => {
            report.taken(key, "remote.rclone_config");
            let plain = text.plain().map(|plain| match (plain.strip_prefix("~/"), site.env.home()) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => site.folder.join(plain),
            });
            let value = plain.as_ref().map_or_else(|| text.value(), |plain| shown(plain));
            (plain, Some(value))
        }
        None if has_remote(&own, name) => (Some(own.clone()), Some(shown(&own))),
        None => (None, None),
    };
    // What a variable leads to is not looked at; and without a file of the plugin's, rclone's own may do.
    let missing = match &file {
        Some(file) => !has_remote(file, name),
        None => config_path.is_none(),
    };
    if missing {
        let place = file.map_or_else(|| "an rclone.conf".to_owned(), |file| file.display().to_string());
        let what = format!(
            "the block does not say what opens {provider}, and {place} has no remote [{name}]; put the keys or the \
             token into the block, or let `rclone authorize` make the remote"
        );
        return Err(ImportError::Missing { key: "backup", what });
    }
    draft.set("remote.provider", Value::text("rclone"));
    draft.set("remote.remote", path.clone().after_remote(name).value());
    if let Some(value) = value {
        draft.set("remote.rclone_config", value);
    }
    Ok(())
}

fn shown(path: &std::path::Path) -> Value {
    let absolute: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Value::text(absolute.to_string_lossy())
}

fn unneeded(mut block: Block, words: &str, report: &mut Report) {
    for (key, _) in block.rest() {
        report.unneeded(&block.name(&key), words);
    }
}

fn schedule(backup: &mut Block, draft: &mut Draft, report: &mut Report) {
    const TO: &str = "schedule.backup";
    let key = backup.name("interval");
    if !backup.has("interval") {
        draft.set(TO, Value::text("1d"));
        report.note(format!("{key} is not in the block: schedule.backup is 1d, as the plugin has it"));
        return;
    }
    match backup.number("interval", report) {
        Some(0) => {
            draft.set(TO, Value::text("off"));
            report.say(&key, Fate::Taken, Some(TO), "off: by hand only");
        }
        Some(seconds @ 1..SHORTEST) => {
            draft.set(TO, Value::Number(SHORTEST));
            report.say(&key, Fate::Changed, Some(TO), format!("{seconds} became {SHORTEST} seconds"));
        }
        Some(seconds @ SHORTEST..=31_622_400) => {
            draft.set(TO, Value::Number(seconds));
            report.say(&key, Fate::Taken, Some(TO), format!("{seconds} seconds"));
        }
        Some(_) => {
            draft.set(TO, Value::text("1d"));
            report.wrong(&key, "it is no number of seconds up to 366 days; schedule.backup is 1d");
        }
        None => draft.set(TO, Value::text("1d")),
    }
}

fn include(backup: &mut Block, draft: &mut Draft, report: &mut Report) {
    let key = backup.name("include");
    let Some(names) = backup.list("include", report) else {
        report.note(format!(
            "{key} is not in the block: the plugin takes workspace, config, cron and memory, this program the whole \
             state dir"
        ));
        return;
    };
    if names.is_empty() {
        report.unneeded(&key, "it is empty: the whole state dir is taken");
    }
    let is_set = |name: &String| INCLUDE_SETS.contains(&name.as_str());
    let (sets, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_set);
    if !others.is_empty() {
        report.wrong(&key, &format!("{} is none of {}", others.join(", "), INCLUDE_SETS.join(", ")));
    }
    if !sets.is_empty() {
        report.say(&key, Fate::Taken, Some("backup.include"), sets.join(", "));
        draft.set("backup.include", Value::List(sets));
    }
}

fn exclude(backup: &mut Block, sync: Option<&mut Block>, draft: &mut Draft, report: &mut Report) {
    let half = match sync {
        Some(sync) if !backup.has("exclude") && sync.has("exclude") => sync,
        _ => backup,
    };
    let key = half.name("exclude");
    let Some(given) = half.list("exclude", report) else {
        report.note(format!(
            "{key} is not in the block: the plugin leaves out .git, node_modules, __pycache__, .venv and venv, this \
             program does not"
        ));
        return;
    };
    let patterns: Vec<String> = given.iter().map(|pattern| anywhere(pattern)).collect();
    let same = patterns == given;
    let words =
        if same { String::new() } else { format!("as the plugin means them: {}", patterns.join(", ")) };
    let fate = if same { Fate::Taken } else { Fate::Changed };
    report.say(&key, fate, Some("backup.exclude"), words);
    draft.set("backup.exclude", Value::List(patterns));
}

/// A pattern as the plugin hands it to `tar`, which finds it at any depth, in gitignore's words.
fn anywhere(pattern: &str) -> String {
    let plain = pattern.strip_prefix("**/").unwrap_or(pattern);
    let plain = plain.strip_suffix("/**").unwrap_or(plain);
    if plain.trim_end_matches('/').contains('/') {
        format!("**/{}", plain.trim_start_matches('/'))
    } else if plain.starts_with(['!', '#']) {
        format!("\\{plain}")
    } else {
        plain.to_owned()
    }
}

fn retain(backup: &mut Block, draft: &mut Draft, report: &mut Report) {
    let key = backup.name("retain");
    if backup.peek("retain").is_some_and(Json::is_object) {
        let Some(mut rules) = backup.object("retain", report) else { return };
        let (mut any, mut wrong) = (false, false);
        let mut kept = Vec::new();
        if !rules.has("daily") {
            kept.push(("retention.daily".to_owned(), 7));
            report.note(format!("{key} has no daily: retention.daily is 7, as the plugin has it"));
            any = true;
        }
        for rule in ["daily", "weekly", "monthly"] {
            let (name, said) = (rules.name(rule), rules.has(rule));
            match rules.number(rule, report) {
                Some(0) => report.unneeded(&name, "none are kept for it"),
                Some(number @ 1..=1_000_000) => {
                    let to = format!("retention.{rule}");
                    report.taken(&name, &to);
                    kept.push((to, number));
                    any = true;
                }
                Some(_) => {
                    report.wrong(&name, "it is no number of snapshots");
                    wrong = true;
                }
                // There, and no number at all: that was said.
                None => wrong |= said,
            }
        }
        if wrong {
            report.note(format!(
                "not all of {key} is understood: there is no retention, and all snapshots are kept"
            ));
        } else {
            kept.into_iter().for_each(|(to, number)| draft.set(&to, Value::Number(number)));
        }
        if !any && !wrong {
            draft.set("retention.last", Value::Number(1));
            report.note(format!("{key} keeps none by its rules: the newest is kept, as the plugin has it"));
        }
        rules.finish(&[], Fate::Unknown, "", report);
        return;
    }
    if !backup.has("retain") {
        report.note(format!(
            "{key} is not in the block: the plugin kept 7, this program keeps all until `retention` says otherwise"
        ));
        return;
    }
    match backup.number("retain", report) {
        Some(number @ 1..=1_000_000) => {
            draft.set("retention", Value::Number(number));
            report.taken(&key, "retention");
        }
        Some(number) if number < 1 => {
            draft.set("retention", Value::Number(1));
            report.say(&key, Fate::Changed, Some("retention"), "the newest is kept, as the plugin has it");
        }
        Some(_) => report.wrong(&key, "it is no number of snapshots; all are kept"),
        None => {}
    }
}

fn passphrase(backup: &mut Block, site: &Site<'_>, draft: &mut Draft, report: &mut Report) -> Passphrase {
    let encrypt = backup.switch("encrypt", report);
    let key = backup.name("encrypt");
    match encrypt {
        Some(true) => report.unneeded(&key, "everything is encrypted, always"),
        Some(false) => report.say(&key, Fate::Changed, None, "everything is encrypted, always"),
        None => {}
    }
    let key = backup.name("passphrase");
    let Some(text) = backup.text("passphrase", report) else { return Passphrase::Generate };
    match text.plain() {
        Some(plain) if plain.contains(['\n', '\r']) => {
            report.wrong(&key, "it has several lines; a new one is made");
            Passphrase::Generate
        }
        Some(plain) => {
            let words = "in a file that only you can read";
            report.say(&key, Fate::Taken, Some("passphrase_file"), words);
            Passphrase::Given(Secret::new(plain.to_owned()))
        }
        None => {
            draft.set("passphrase_command", Value::text(text.command()));
            report.say(&key, Fate::Taken, Some("passphrase_command"), "from the same variable");
            for name in text.variables().filter(|name| site.env.get(name).is_none()) {
                report.note(format!("{name}, which has the passphrase, is not set here"));
            }
            Passphrase::Configured
        }
    }
}
