//! The table `[remote]`: a storage service in the words that its users know.

use std::path::PathBuf;

use super::reader::{Field, Fields, Key, Reader, Schema};
use super::{ConfigError, error};
use crate::model::Secret;

/// A storage service as the configuration file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Where `[remote]` stands in the file.
    pub line: usize,
    /// Which service, and what opens it.
    pub provider: Provider,
    /// The bucket, for services that have them.
    pub bucket: Option<String>,
    /// The folder of the repository in bucket or drive; empty for all of it.
    pub prefix: String,
    /// Options of rclone that win over what the provider implies.
    pub options: Vec<(String, Secret)>,
}

/// A kind of storage service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// Anything that speaks the protocol of Amazon's S3.
    S3 {
        /// Its address; `None` for Amazon itself.
        endpoint: Option<String>,
        /// The region.
        region: Option<String>,
        /// Id and secret; `None` leaves it to what Amazon's tools find on this machine.
        keys: Option<(String, Secret)>,
        /// The class in which objects are stored.
        storage_class: Option<String>,
        /// rclone's name for the vendor.
        flavor: Option<String>,
    },
    /// Backblaze B2.
    B2 {
        /// The application key's id.
        key_id: String,
        /// The application key.
        application_key: Secret,
    },
    /// Dropbox.
    Dropbox(Login),
    /// Google Drive.
    Drive {
        /// What opens it.
        login: Login,
        /// The folder that stands for the root.
        root_folder_id: Option<String>,
    },
    /// Microsoft `OneDrive`.
    OneDrive {
        /// What opens it.
        login: Login,
        /// Which drive.
        drive_id: String,
        /// `personal`, `business` or `documentLibrary`.
        drive_type: String,
    },
    /// Any other backend of rclone.
    Custom {
        /// Its name.
        rclone_type: String,
    },
    /// A remote of the user's own `rclone.conf`, or a connection string, which may hold secrets.
    Rclone {
        /// `REMOTE:PATH`.
        remote: Secret,
        /// The `rclone.conf`, unless it is rclone's own.
        config: Option<PathBuf>,
    },
}

/// What opens a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// JSON, as `rclone authorize` prints it.
    pub token: Secret,
    /// The id of the user's own application.
    pub app_key: Option<String>,
    /// Its secret.
    pub app_secret: Option<Secret>,
}

/// What a repository's folder is called when nothing is said: a bucket or drive holds other things, too.
const PREFIX: &str = "exuvia";

pub(super) const KEYS: &[Key] = &[
    Key::text("provider").says(
        "the kind of storage",
        "s3, b2, dropbox, gdrive, onedrive, custom (any backend of rclone), rclone (a remote of rclone.conf)",
        "",
        "\"s3\"",
    ),
    Key::text("bucket").says("the bucket", "a name, without a folder", "", "\"my-bucket\""),
    Key { may_be_empty: true, ..Key::text("prefix") }.says(
        "the repository's folder in bucket or drive",
        "a path without `..`; \"\" for all of it",
        "exuvia",
        "\"agents/laptop\"",
    ),
    Key::text("endpoint").says(
        "address of a service that speaks S3",
        "a URL; none for Amazon",
        "",
        "\"https://ACCOUNT.r2.cloudflarestorage.com\"",
    ),
    Key::text("region").says("region of an S3 service", "its name", "", "\"eu-central-1\""),
    Key { aliases: &["access_key_id"], ..Key::text("key_id") }.says(
        "id of the access key (s3, b2)",
        "as the service shows it; at Amazon it may be left out",
        "",
        "\"${AWS_ACCESS_KEY_ID}\"",
    ),
    Key { aliases: &["application_key", "secret_access_key"], ..Key::text("secret") }.says(
        "the access key itself (s3, b2)",
        "a secret, or ${NAME} of a variable that holds it",
        "",
        "\"${AWS_SECRET_ACCESS_KEY}\"",
    ),
    Key::text("storage_class").says(
        "the class in which objects are stored (s3)",
        "the service's name for it",
        "",
        "\"STANDARD_IA\"",
    ),
    Key::text("flavor").says("the vendor of an S3 service", "rclone's name for it", "", "\"Minio\""),
    Key::text("token").says(
        "what opens a drive (dropbox, gdrive, onedrive)",
        "the JSON that `rclone authorize` prints; a secret",
        "",
        "\"${DROPBOX_TOKEN}\"",
    ),
    Key::text("app_key").says("id of an application of your own at the drive", "its id", "", "\"abc\""),
    Key::text("app_secret").says("secret of that application", "a secret", "", "\"${DROPBOX_APP_SECRET}\""),
    Key::text("root_folder_id").says(
        "the folder that stands for the root (gdrive)",
        "its id",
        "",
        "\"1AbC\"",
    ),
    Key::text("drive_id").says(
        "which drive (onedrive)",
        "its id, as `rclone config` shows it",
        "",
        "\"b!abc\"",
    ),
    Key::text("drive_type").says(
        "kind of that drive",
        "personal, business or documentLibrary",
        "",
        "\"personal\"",
    ),
    Key::text("rclone_type").says(
        "the backend (custom)",
        "rclone's name for it; its options go into [remote.options]",
        "",
        "\"sftp\"",
    ),
    Key::text("remote").says(
        "a remote of rclone.conf, or a connection string (rclone)",
        "REMOTE:PATH",
        "",
        "\"b2:my-bucket/agent\"",
    ),
    Key::text("rclone_config").says(
        "the rclone.conf that has that remote (rclone)",
        "a path; `~/` is the home directory",
        "rclone's own",
        "\"~/.openclaw/.config/rclone/rclone.conf\"",
    ),
    PROGRAM,
    BWLIMIT,
    TPSLIMIT,
    CONNECTIONS,
    TIMEOUT,
    DEADLINE,
];

pub(super) const PROGRAM: Key = Key::text("rclone_program").says(
    "the program rclone",
    "a path, or a name that is looked for in PATH",
    "rclone",
    "\"/usr/local/bin/rclone\"",
);
pub(super) const BWLIMIT: Key = Key::number("bwlimit").says(
    "bandwidth for a remote",
    "MiB a second as 10M; 512k:2M is up and down; \"08:00,512k 19:00,off\" a timetable; or off",
    "off",
    "\"4M\"",
);
pub(super) const TPSLIMIT: Key =
    Key::number("tpslimit").says("requests to a remote in each second", "0 (no limit) to 10000", "0", "10");
pub(super) const CONNECTIONS: Key =
    Key::number("connections").says("requests to a remote under way at once", "1 to 64", "8", "4");
pub(super) const TIMEOUT: Key = Key::number("timeout").says(
    "a request without progress for so long has failed",
    "seconds, or a time such as 90s or 2m; 1 s to 7 days",
    "2m",
    "\"5m\"",
);
pub(super) const DEADLINE: Key = Key::number("deadline").says(
    "how long an operation goes on trying while nothing succeeds",
    "seconds, or a time such as 90s or 2m; 1 s to 7 days",
    "15m",
    "\"1h\"",
);

pub(super) const SCHEMA: Schema = Schema {
    table: Some("remote"),
    about: "where the repository is, when it is with a storage service",
    tables: &["options"],
    keys: KEYS,
    synonyms: &[
        ("path", "prefix"),
        ("folder", "prefix"),
        ("app_folder", "prefix"),
        ("remote_path", "prefix"),
        ("root", "prefix"),
        ("account", "key_id"),
        ("account_id", "key_id"),
        ("access_key", "key_id"),
        ("key", "secret"),
        ("secret_key", "secret"),
        ("client_id", "app_key"),
        ("client_secret", "app_secret"),
        ("type", "provider"),
        ("url", "endpoint"),
        ("s3_provider", "flavor"),
        ("rclone_options", "options"),
        ("idle_timeout", "timeout"),
    ],
    elsewhere: (super::file::KEYS, "above [remote], at the top of the file"),
};

/// Keys that say how rclone is run, not where; they may stand at the top of the file instead.
pub(super) const RUNNING: [&str; 6] =
    ["rclone_program", "bwlimit", "tpslimit", "connections", "timeout", "deadline"];

/// Fields whose text is shown to nobody.
const SECRETS: [&str; 4] = ["secret", "token", "app_secret", "remote"];

/// Options of rclone that tell no secret, so that the settings in use can be shown.
const HARMLESS: [&str; 10] = [
    "chunk_size",
    "host",
    "port",
    "provider",
    "region",
    "shell_type",
    "type",
    "upload_concurrency",
    "user",
    "vendor",
];

/// Which fields belong to a provider.
struct Kind {
    name: &'static str,
    fields: &'static [&'static str],
    /// Where to find what is missing.
    help: &'static str,
}

const LOGIN: &str = "`rclone authorize` with the kind of drive (dropbox, drive, onedrive) prints the token";

const KINDS: [Kind; 7] = [
    Kind {
        name: "s3",
        fields: &[
            "bucket",
            "prefix",
            "endpoint",
            "region",
            "key_id",
            "secret",
            "storage_class",
            "flavor",
            "options",
        ],
        help: "the keys may be left out only at Amazon, where rclone looks for them as Amazon's tools do",
    },
    Kind {
        name: "b2",
        fields: &["bucket", "prefix", "key_id", "secret", "options"],
        help: "Backblaze's web site shows both parts of an application key when it is made",
    },
    Kind { name: "dropbox", fields: &["prefix", "token", "app_key", "app_secret", "options"], help: LOGIN },
    Kind {
        name: "gdrive",
        fields: &["prefix", "token", "app_key", "app_secret", "root_folder_id", "options"],
        help: LOGIN,
    },
    Kind {
        name: "onedrive",
        fields: &["prefix", "token", "app_key", "app_secret", "drive_id", "drive_type", "options"],
        help: "`rclone config` finds all three and shows them; drive_type is personal, business or documentLibrary",
    },
    Kind {
        name: "custom",
        fields: &["bucket", "prefix", "rclone_type", "options"],
        help: "rclone_type is the name of a backend of rclone, such as sftp; [remote.options] holds its options",
    },
    Kind {
        name: "rclone",
        fields: &["remote", "rclone_config"],
        help: "it has the form REMOTE:PATH; `rclone listremotes` shows the names",
    },
];

/// Names that users may give to a provider.
const PROVIDER_WORDS: &[(&str, &str)] = &[
    ("r2", "s3"),
    ("aws", "s3"),
    ("minio", "s3"),
    ("cloudflare", "s3"),
    ("wasabi", "s3"),
    ("backblaze", "b2"),
    ("drive", "gdrive"),
    ("google", "gdrive"),
    ("googledrive", "gdrive"),
    ("google_drive", "gdrive"),
    ("one_drive", "onedrive"),
];

/// Whether the text of a field is kept from view.
pub(super) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// The same for an option.
pub(super) fn is_secret_option(name: &str) -> bool {
    !HARMLESS.contains(&name)
}

/// Whether an option's own name says that it is a secret.
pub(super) fn sounds_secret(text: &str) -> bool {
    ["pass", "secret", "token", "key", "credential"].iter().any(|word| text.contains(word))
}

/// Takes fields, and remembers which are missing.
struct Taker<'t, 'i> {
    fields: Fields<'t, 'i>,
    missing: Vec<&'static str>,
}

impl Taker<'_, '_> {
    fn text(&mut self, name: &str) -> Option<String> {
        self.fields.take(name).map(|field| field.text.to_string())
    }

    fn secret(&mut self, name: &str) -> Option<Secret> {
        self.fields.take(name).map(|mut field| Secret::new(std::mem::take(&mut *field.text)))
    }

    /// What stands for a missing text is never used: the whole is refused.
    fn needs(&mut self, name: &'static str) -> String {
        self.text(name).unwrap_or_else(|| self.lack(name))
    }

    /// `called`: what people call it at this service.
    fn needs_secret(&mut self, name: &str, called: &'static str) -> Secret {
        self.secret(name).unwrap_or_else(|| Secret::new(self.lack(called)))
    }

    fn lack(&mut self, name: &'static str) -> String {
        self.missing.push(name);
        String::new()
    }

    fn login(&mut self) -> Login {
        let token = self.needs_secret("token", "token");
        let (app_key, app_secret) = (self.text("app_key"), self.secret("app_secret"));
        if app_key.is_none() && app_secret.is_some() {
            self.lack("app_key");
        }
        Login { token, app_key, app_secret }
    }
}

/// Makes a remote of the fields of `[remote]`; those of [`RUNNING`] have been taken out.
pub(super) fn resolve(
    reader: &Reader<'_>,
    line: usize,
    mut fields: Fields<'_, '_>,
    options: Vec<Field>,
) -> Result<RemoteConfig, ConfigError> {
    let Some(provider) = fields.take("provider") else {
        let message = format!("[remote] needs `provider`: one of {}", names());
        return Err(reader.error(line, message));
    };
    let kind = kind(reader, &provider)?;
    for field in &fields.fields {
        if !kind.fields.contains(&field.name) {
            return Err(reader.error(field.line, misplaced(kind, field)));
        }
    }
    if let Some(option) = options.first().filter(|_| !kind.fields.contains(&"options")) {
        let message = "[remote.options] has no meaning with provider \"rclone\"; options stand in rclone.conf, or in \
                       the connection string";
        return Err(reader.error(option.line, message));
    }
    let bucket = bucket(reader, &mut fields)?;
    let prefix = prefix(reader, kind, &mut fields)?;
    if let Some(token) =
        fields.fields.iter().find(|f| f.name == "token" && !f.text.trim_start().starts_with('{'))
    {
        let message =
            "`token` must be the JSON text that `rclone authorize` prints, from { to }; put it between '''";
        return Err(reader.error(token.line, message));
    }
    if let Some(backend) = fields.fields.iter().find(|f| f.name == "rclone_type" && !is_backend(&f.text)) {
        let message =
            "`rclone_type` must be the name of a backend of rclone, such as sftp, webdav or azureblob";
        return Err(reader.error(backend.line, message));
    }
    let mut taker = Taker { fields, missing: Vec::new() };
    let needs_bucket = matches!(kind.name, "s3" | "b2");
    if needs_bucket && bucket.is_none() {
        taker.lack("bucket");
    }
    let provider_is = match kind.name {
        "s3" => s3(&mut taker),
        "b2" => Provider::B2 {
            key_id: taker.needs("key_id"),
            application_key: taker.needs_secret("secret", "application_key"),
        },
        "dropbox" => Provider::Dropbox(taker.login()),
        "gdrive" => Provider::Drive { login: taker.login(), root_folder_id: taker.text("root_folder_id") },
        "onedrive" => Provider::OneDrive {
            login: taker.login(),
            drive_id: taker.needs("drive_id"),
            drive_type: taker.needs("drive_type"),
        },
        "custom" => Provider::Custom { rclone_type: taker.needs("rclone_type") },
        _ => Provider::Rclone {
            remote: taker.needs_secret("remote", "remote"),
            config: taker.text("rclone_config").map(PathBuf::from),
        },
    };
    if !taker.missing.is_empty() {
        let message =
            format!("provider \"{}\" needs also {}; {}", kind.name, taker.missing.join(", "), kind.help);
        return Err(reader.error(provider.line, message));
    }
    let options =
        options.into_iter().map(|mut o| (o.spelled, Secret::new(std::mem::take(&mut *o.text)))).collect();
    Ok(RemoteConfig { line, provider: provider_is, bucket, prefix, options })
}

fn s3(taker: &mut Taker<'_, '_>) -> Provider {
    let endpoint = taker.text("endpoint");
    let flavor = taker.text("flavor");
    let amazon = match (&flavor, &endpoint) {
        (Some(flavor), _) => flavor.eq_ignore_ascii_case("aws"),
        (None, Some(endpoint)) => endpoint.contains("amazonaws.com"),
        (None, None) => true,
    };
    let has = |name: &str| taker.fields.fields.iter().any(|field| field.name == name);
    let keys = (has("key_id") || has("secret") || !amazon)
        .then(|| (taker.needs("key_id"), taker.needs_secret("secret", "secret")));
    Provider::S3 {
        endpoint,
        region: taker.text("region"),
        keys,
        storage_class: taker.text("storage_class"),
        flavor,
    }
}

fn names() -> String {
    KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

fn kind(reader: &Reader<'_>, provider: &Field) -> Result<&'static Kind, ConfigError> {
    let given = provider.text.as_str();
    if let Some(kind) = KINDS.iter().find(|kind| kind.name == given) {
        return Ok(kind);
    }
    let lower = given.to_lowercase().replace('-', "_");
    let all: Vec<&'static str> = KINDS.iter().map(|kind| kind.name).collect();
    let meant = PROVIDER_WORDS.iter().find(|(word, _)| *word == lower).map(|(_, name)| *name);
    let meant = meant.or_else(|| error::nearest(given, &all).filter(|_| given.len() > 1));
    let help = match meant {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => {
            format!("it is one of {}; any other backend of rclone is \"custom\" with rclone_type", names())
        }
    };
    Err(reader.error(provider.line, format!("there is no such provider; {help}")))
}

fn misplaced(kind: &Kind, field: &Field) -> String {
    let help = match (kind.name, field.name) {
        ("rclone", "bucket" | "prefix") => "the path stands in `remote`, as in \"b2:bucket/path\"".to_owned(),
        ("b2", "endpoint" | "region") => "for the S3 interface of B2 the provider is \"s3\"".to_owned(),
        ("dropbox" | "gdrive" | "onedrive", "bucket") => "a drive has folders: use `prefix`".to_owned(),
        (_, "remote") => "a remote of your rclone.conf has the provider \"rclone\"".to_owned(),
        (_, "rclone_type") => "it goes with the provider \"custom\"".to_owned(),
        ("custom", _) => format!("put it into [remote.options], with rclone's name for `{}`", field.spelled),
        _ => format!("the keys for it are {}", kind.fields.join(", ")),
    };
    format!("`{}` has no meaning with provider \"{}\"; {help}", field.spelled, kind.name)
}

fn is_backend(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn bucket(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Result<Option<String>, ConfigError> {
    let Some(bucket) = fields.take("bucket") else { return Ok(None) };
    if bucket.text.contains(['/', '\\', ':']) || bucket.text.chars().any(char::is_control) {
        let message = "`bucket` must be the bucket's name alone; a folder in it goes into `prefix`";
        return Err(reader.error(bucket.line, message));
    }
    Ok(Some(bucket.text.to_string()))
}

fn prefix(reader: &Reader<'_>, kind: &Kind, fields: &mut Fields<'_, '_>) -> Result<String, ConfigError> {
    let Some(prefix) = fields.take("prefix") else {
        return Ok(if kind.name == "rclone" { String::new() } else { PREFIX.to_owned() });
    };
    if prefix.text.split('/').any(|part| part == "..") || prefix.text.chars().any(char::is_control) {
        return Err(
            reader.error(prefix.line, "`prefix` must be a folder without `..`, such as \"backups/agent\"")
        );
    }
    // On servers with a file system, a slash at the beginning means its root.
    let text = if kind.name == "custom" { &prefix.text } else { prefix.text.trim_start_matches('/') };
    let trimmed = text.trim_end_matches('/');
    Ok(if trimmed.is_empty() && text.starts_with('/') { "/" } else { trimmed }.to_owned())
}
