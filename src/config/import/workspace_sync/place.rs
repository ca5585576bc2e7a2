//! Where the repository goes, and what opens the storage there.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::config::draft::{Draft, Value};
use crate::config::import::b2_backup::{OWN_FOLDER, OWN_FOLDER_WORDS};
use crate::config::import::block::Block;
use crate::config::import::rclone_conf::{self, Found};
use crate::config::import::text::Text;
use crate::config::import::{Fate, ImportError, Report, Site};

/// The services that have an object of their own.
const SERVICES: [&str; 5] = ["s3", "dropbox", "gdrive", "onedrive", "custom"];
/// What the plugin calls its remotes in an `rclone.conf` when nobody says otherwise.
const OF_BACKUP: &str = "backup";
const OF_SYNC: &str = "cloud";
/// Where the plugin keeps its `rclone.conf`, in the state dir.
const RCLONE_CONF: &str = ".config/rclone/rclone.conf";

/// A place in the storage of a provider.
pub(super) struct Destination {
    provider: String,
    /// Its folders, as far as they are known; several where it is not certain which is meant.
    paths: Vec<Vec<String>>,
}

impl Destination {
    /// What the workspace is synchronised with, when that is switched on.
    pub(super) fn of_sync(sync: &Block) -> Option<Self> {
        let text = |key: &str| sync.peek(key).and_then(Json::as_str).map(str::to_owned);
        let provider = text("provider").filter(|provider| provider != "off")?;
        let bucket = sync.peek(&provider).and_then(|service| service.get("bucket")).and_then(Json::as_str);
        let path = text("remotePath").unwrap_or_else(|| "openclaw-share".to_owned());
        // The plugin hands rclone the path alone, whose first folder is then the bucket; its documentation has
        // the bucket beside it.
        let paths = vec![folders(&[&path]), folders(&[bucket.unwrap_or_default(), &path])];
        Some(Self { provider, paths })
    }

    /// Whether a place lies in this one.
    pub(super) fn holds(&self, other: &Self) -> bool {
        let within = |path: &Vec<String>| self.paths.iter().any(|own| path.starts_with(own));
        self.provider == other.provider && other.paths.iter().any(within)
    }

    /// Its folders, for people.
    pub(super) fn shown(&self) -> String {
        self.paths.first().map(|path| path.join("/")).unwrap_or_default()
    }
}

fn folders(parts: &[&str]) -> Vec<String> {
    let folders = parts.iter().flat_map(|part| part.split('/'));
    folders.filter(|folder| !folder.is_empty()).map(str::to_owned).collect()
}

/// Where the repository goes.
pub(super) fn remote(
    backup: &mut Block,
    mut sync: Option<&mut Block>,
    site: &Site<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<Destination, ImportError> {
    // Without a half of its own, a backup is reached as the sync is.
    let only_syncs = backup.is_empty();
    let service_of_sync = sync.as_deref().and_then(|sync| sync.peek("provider").cloned());
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
    let same_service = service_of_sync.is_some_and(|of_sync| of_sync == provider.as_str());
    if bucket.is_none() && is_bucket(&provider) && same_service {
        bucket = sync.as_deref_mut().and_then(|sync| bucket_of_sync(sync, report));
    }
    if let Some(prefix) = backup.text("prefix", report) {
        report.say(&prefix_key, Fate::Changed, Some("remote.prefix"), OWN_FOLDER_WORDS);
        folder = prefix.below(&folder);
    }
    let folder = Text::literal(OWN_FOLDER).below(&folder);
    let whole = match &bucket {
        Some(bucket) => folder.clone().below(bucket),
        None => folder.clone(),
    };
    if service.as_ref().is_some_and(|service| is_complete(&provider, service)) {
        for key in ["remoteName", "configPath"] {
            if backup.take(key).is_some() {
                report.unneeded(&backup.name(key), "what opens the storage stands in [remote]");
            }
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
        if is_bucket(&provider) && bucket.is_none() {
            let what = "the block does not say which bucket backups go to; set backup.bucket".to_owned();
            return Err(ImportError::Missing { key: "bucket", what });
        }
        let ways = Ways::of(backup, sync, only_syncs, report);
        named(&provider, &ways, &whole, site, draft, report)?;
        if let Some(service) = service {
            unneeded(service, "the remote of rclone.conf has it", report);
        }
    }
    let path = folders(&[&whole.plain().map(str::to_owned).unwrap_or_default()]);
    Ok(Destination { provider, paths: vec![path] })
}

/// For S3, rclone takes the first folder of a path for the bucket; so does the sync.
fn bucket_of_sync(sync: &mut Block, report: &mut Report) -> Option<Text> {
    let (bucket, _) = sync.text("remotePath", report)?.split();
    let words = "its first folder is the bucket";
    report.say(&sync.name("remotePath"), Fate::Changed, Some("remote.bucket"), words);
    Some(bucket)
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

/// The keys of a block that lead to a remote of an `rclone.conf`, the backup's own before those of the sync.
struct Ways {
    /// The remote that the backup's half names, which is then the only one.
    own: Option<(String, String)>,
    /// The one that the sync's half names.
    of_sync: Option<(String, String)>,
    /// The file that either names.
    file: Option<(Text, String)>,
    /// There is no half for backups.
    only_syncs: bool,
}

impl Ways {
    fn of(backup: &mut Block, mut sync: Option<&mut Block>, only_syncs: bool, report: &mut Report) -> Self {
        let name = |half: &mut Block, report: &mut Report| {
            Some((half.word("remoteName", report)?, half.name("remoteName")))
        };
        let path = |half: &mut Block, report: &mut Report| {
            Some((half.text("configPath", report)?, half.name("configPath")))
        };
        let own = name(backup, report);
        let of_sync = sync.as_deref_mut().filter(|_| own.is_none()).and_then(|sync| name(sync, report));
        let file = path(backup, report).or_else(|| sync.and_then(|sync| path(sync, report)));
        Self { own, of_sync, file, only_syncs }
    }

    /// The names to look for, the likeliest first.
    fn names(&self) -> Vec<&str> {
        if let Some((own, _)) = &self.own {
            return vec![own];
        }
        let mut names: Vec<&str> = self.of_sync.iter().map(|(name, _)| name.as_str()).collect();
        names.push(OF_SYNC);
        // The sync's may be opened by what the sync alone may use; a remote for backups is better.
        let at = if self.only_syncs { names.len() } else { 0 };
        names.insert(at, OF_BACKUP);
        names
    }
}

/// Takes a remote that an `rclone.conf` has.
fn named(
    provider: &str,
    ways: &Ways,
    path: &Text,
    site: &Site<'_>,
    draft: &mut Draft,
    report: &mut Report,
) -> Result<(), ImportError> {
    let names = ways.names();
    let likeliest = names.first().copied().unwrap_or(OF_BACKUP);
    let (name, value) = match &ways.file {
        Some((text, key)) => {
            report.taken(key, "remote.rclone_config");
            match text.plain().map(|plain| site.local(plain)) {
                Some(file) => (find(std::slice::from_ref(&file), &names, provider)?.1, shown(&file)),
                // What a variable leads to is not looked at.
                None => (likeliest.to_owned(), text.value()),
            }
        }
        // Without a file of the plugin's, rclone's own may have anything.
        None => {
            let mut files = vec![site.state_dir.join(RCLONE_CONF), site.folder.join(RCLONE_CONF)];
            files.dedup();
            let (file, name) = find(&files, &names, provider)?;
            (name, shown(&file))
        }
    };
    match [&ways.own, &ways.of_sync].into_iter().flatten().find(|(own, _)| *own == name) {
        Some((_, key)) => report.taken(key, "remote.remote"),
        None => report.note(format!("the remote [{name}] of the plugin's rclone.conf opens the storage")),
    }
    draft.set("remote.provider", Value::text("rclone"));
    draft.set("remote.remote", path.clone().after_remote(&name).value());
    draft.set("remote.rclone_config", value);
    Ok(())
}

/// The first file that has one of these remotes, and which.
fn find(files: &[PathBuf], names: &[&str], provider: &str) -> Result<(PathBuf, String), ImportError> {
    for file in files {
        for name in names {
            // A remote of the sync's opens the storage of backups only where both are with one service.
            let fits = match rclone_conf::look(file, name) {
                Found::Nothing => false,
                Found::Sealed => true,
                Found::Remote(kind) => names.len() == 1 || *name == OF_BACKUP || is_of(provider, &kind),
            };
            if fits {
                return Ok((file.clone(), (*name).to_owned()));
            }
        }
    }
    let place = files.first().map(|file| file.display().to_string()).unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| format!("[{name}]")).collect();
    let what = format!(
        "the block does not say what opens {provider}, and {place} has no remote {} for it; put the keys or the token \
         into the block, or let `rclone authorize` make the remote",
        names.join(" or ")
    );
    Err(ImportError::Missing { key: "backup", what })
}

/// Whether rclone's name for a kind of storage is that of a provider.
fn is_of(provider: &str, kind: &str) -> bool {
    match provider {
        "gdrive" => kind == "drive",
        "custom" => true,
        same => kind == same,
    }
}

fn shown(path: &Path) -> Value {
    let absolute: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Value::text(absolute.to_string_lossy())
}

fn unneeded(mut block: Block, words: &str, report: &mut Report) {
    for (key, _) in block.rest() {
        report.unneeded(&block.name(&key), words);
    }
}
