//! What rclone is started with: its environment, its arguments, and which parts of both are secret.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::time::Duration;

use super::log::one_line;
use super::target::{Secret, Settings, Target};

/// The name under which rclone is told of the target, in its environment: what stands among the
/// arguments every user of the machine may read.
pub const REMOTE: &str = "exuviarepo:";
const VARIABLES: &str = "RCLONE_CONFIG_EXUVIAREPO_";

/// Variables that would change what rclone logs or does. Whole names.
const REMOVED: &[&str] = &[
    "RCLONE_ADDR",
    "RCLONE_APPEND_ONLY",
    "RCLONE_BASEURL",
    "RCLONE_CACHE_OBJECTS",
    "RCLONE_CERT",
    "RCLONE_DELETE_EXCLUDED",
    "RCLONE_DRY_RUN",
    "RCLONE_HTPASSWD",
    "RCLONE_IMMUTABLE",
    "RCLONE_INTERACTIVE",
    "RCLONE_KEY",
    "RCLONE_MAX_DEPTH",
    "RCLONE_PASS",
    "RCLONE_PRIVATE_REPOS",
    "RCLONE_QUIET",
    "RCLONE_STDIO",
    "RCLONE_SUFFIX",
    "RCLONE_USER",
    "RCLONE_USE_JSON_LOG",
    "RCLONE_VERBOSE",
];
/// The same, by their beginnings. Filters would make listings incomplete.
const REMOVED_FAMILIES: &[&str] = &[
    "EXUVIA_",
    "RCLONE_BACKUP_DIR",
    "RCLONE_CPUPROFILE",
    "RCLONE_CUTOFF",
    "RCLONE_DUMP",
    "RCLONE_EXCLUDE",
    "RCLONE_FILES_FROM",
    "RCLONE_FILTER",
    "RCLONE_HASH_FILTER",
    "RCLONE_IGNORE_CASE",
    "RCLONE_INCLUDE",
    "RCLONE_LOG",
    "RCLONE_MAX_AGE",
    "RCLONE_MAX_DURATION",
    "RCLONE_MAX_SIZE",
    "RCLONE_MAX_TRANSFER",
    "RCLONE_MEMPROFILE",
    "RCLONE_METADATA_",
    "RCLONE_METRICS",
    "RCLONE_MIN_AGE",
    "RCLONE_MIN_SIZE",
    "RCLONE_PROGRESS",
    "RCLONE_RC",
    "RCLONE_STATS",
    "RCLONE_SYSLOG",
    VARIABLES,
];
/// Options with these endings are no secrets, and a message without them would say nothing.
const PLAIN: &[&str] = &[
    "TYPE",
    "PROVIDER",
    "REGION",
    "VENDOR",
    "HOST",
    "PORT",
    "LOCATION_CONSTRAINT",
    "STORAGE_CLASS",
    "CHUNK_SIZE",
    "NO_CHECK_BUCKET",
    "RCLONE_CONFIG",
];
/// Plain too, unless a password stands before an `@`.
const ADDRESSES: &[&str] = &["URL", "ENDPOINT"];
/// Inherited options with these words in their names are secrets.
const SECRET_WORDS: &[&str] = &["PASS", "SECRET", "KEY", "TOKEN", "ACCOUNT", "AUTH", "SAS"];
/// Shorter texts occur by chance.
const MIN_SECRET: usize = 4;
const HIDDEN: &str = "***";

/// The variables that this process was started with, taken as values.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Keeps what rclone may inherit: everything but our own passphrases and what would change how
    /// rclone behaves towards us.
    #[must_use]
    pub fn new(inherited: Vec<(OsString, OsString)>) -> Self {
        let removed = |name: &OsStr| {
            let name = name.to_string_lossy();
            REMOVED.contains(&name.as_ref()) || REMOVED_FAMILIES.iter().any(|family| name.starts_with(family))
        };
        let mut kept: Vec<_> = inherited.into_iter().filter(|(name, _)| !removed(name)).collect();
        // rclone 1.60 cannot use S3 when Amazon's name for a bundle of certificates is set; its own
        // means the same.
        if let Some(at) = kept.iter().position(|(name, _)| name == "AWS_CA_BUNDLE") {
            let (_, bundle) = kept.swap_remove(at);
            if !bundle.is_empty() && !kept.iter().any(|(name, _)| name == "RCLONE_CA_CERT") {
                kept.push(("RCLONE_CA_CERT".into(), bundle));
            }
        }
        Self(kept)
    }

    /// Where programs are looked for.
    pub(super) fn search_path(&self) -> Option<String> {
        let path = self.0.iter().find(|(name, _)| name == "PATH");
        path.map(|(_, value)| value.to_string_lossy().into_owned())
    }

    /// Gives `command` its environment.
    pub(super) fn apply(&self, command: &mut Command, target: Option<&Target>) {
        command.env_clear();
        command.envs(self.0.iter().map(|(name, value)| (name, value)));
        let Some(target) = target else { return };
        command.envs(target.env.iter().map(|(name, value)| (name, value.expose())));
        command.env(format!("{VARIABLES}TYPE"), "alias");
        command.env(format!("{VARIABLES}REMOTE"), with_slash(target.spec.expose()).expose());
    }

    /// What hides secrets in rclone's words.
    pub(super) fn scrubber(&self, target: &Target) -> Scrubber {
        let configured = target.env.iter().filter(|(name, v)| is_secret(name, v.expose()));
        let mut texts: Vec<String> = configured.map(|(_, value)| value.expose().to_string()).collect();
        let options = options(target.spec.expose());
        texts.extend(
            options.into_iter().filter(|(name, v)| is_secret(&name.to_uppercase(), v)).map(|(_, v)| v),
        );
        for (name, value) in &self.0 {
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
            let ours = name.starts_with("RCLONE_") || name.starts_with("AWS_");
            if ours && SECRET_WORDS.iter().any(|word| name.contains(word)) && !value.starts_with('/') {
                texts.push(value.into_owned());
            }
        }
        texts.retain(|text| text.len() >= MIN_SECRET && text != "true" && text != "false");
        // A secret that contains another must go first.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Scrubber(texts.into_iter().map(Secret::new).collect())
    }
}

fn is_secret(name: &str, value: &str) -> bool {
    !PLAIN.iter().any(|end| name.ends_with(end))
        && (value.contains('@') || !ADDRESSES.iter().any(|end| name.ends_with(end)))
}

/// Hides secrets and makes messages fit for people.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrubber(Vec<Secret>);

impl Scrubber {
    pub(super) fn clean(&self, message: &str) -> String {
        let mut text = message.to_string();
        for secret in &self.0 {
            text = text.replace(secret.expose(), HIDDEN);
        }
        one_line(&text)
    }
}

/// Splits a remote into what names it and the path on it; a plain local path has no name.
fn split(spec: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, c) in spec.char_indices() {
        match (quote, c) {
            (Some(q), _) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '/') if !spec.get(..at).is_some_and(|head| head.contains(',')) => return ("", spec),
            (None, ':') if at > 0 => return spec.split_at(at + 1),
            (None, _) => {}
        }
    }
    ("", spec)
}

/// With a slash at its end rclone takes a path for a folder without asking the service whether it is a
/// file. An empty path stays: on SFTP it is the home folder, and `/` is not.
pub(super) fn with_slash(spec: &str) -> Secret {
    let (_, path) = split(spec);
    let slash = if path.is_empty() || path.ends_with('/') { "" } else { "/" };
    Secret::new(format!("{spec}{slash}"))
}

/// The options of a connection string: `name,option=value,other="quoted":path`.
fn options(spec: &str) -> Vec<(String, String)> {
    let (head, _) = split(spec);
    let mut found = Vec::new();
    let mut rest = head.trim_end_matches(':');
    while let Some((_, after)) = rest.split_once(',') {
        let end = after.find(['=', ',']).unwrap_or(after.len());
        let (name, tail) = after.split_at(end);
        let Some(value) = tail.strip_prefix('=') else {
            rest = tail;
            continue;
        };
        let (value, tail) = unquote(value);
        found.push((name.to_string(), value));
        rest = tail;
    }
    found
}

/// Takes one value off the front: quoted, with quotes inside doubled, or as far as the next comma.
fn unquote(text: &str) -> (String, &str) {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let end = text.find(',').unwrap_or(text.len());
        let (value, tail) = text.split_at(end);
        return (value.to_string(), tail);
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            value.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            value.push(c);
            chars.next();
        } else {
            return (value, text.get(at + 1..).unwrap_or_default());
        }
    }
    (value, "")
}

/// The arguments of the long-lived process: only what versions 1.60 and 1.75 both know.
pub(super) fn serve_arguments(settings: &Settings) -> Vec<String> {
    let idle = settings.idle_timeout.as_secs().max(1);
    let connect = idle.min(CONNECT_LIMIT.as_secs());
    let mut arguments: Vec<String> =
        ["serve", "restic", "--stdio", "--use-json-log", "--log-level", "DEBUG", "--stats", "0"]
            .map(str::to_string)
            .to_vec();
    arguments.extend([
        "--ask-password=false".to_string(),
        format!("--contimeout={connect}s"),
        format!("--timeout={idle}s"),
        // Some more tries come from us, with longer waits between them.
        "--low-level-retries=3".to_string(),
        // Each request holds a connection; fewer of them in rclone would only make ours wait.
        format!("--checkers={}", settings.connections.max(1)),
    ]);
    arguments.extend(settings.bwlimit.iter().map(|limit| format!("--bwlimit={limit}")));
    arguments.extend(settings.tpslimit.iter().map(|limit| format!("--tpslimit={limit}")));
    arguments.push(REMOTE.to_string());
    arguments
}

const CONNECT_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn names(environment: &Environment) -> Vec<String> {
        let mut names: Vec<_> = environment.0.iter().map(|(n, _)| n.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect())
    }

    fn target(spec: &str, env: &[(&str, &str)]) -> Target {
        Target {
            spec: Secret::new(spec.into()),
            env: env.iter().map(|(n, v)| ((*n).to_string(), Secret::new((*v).to_string()))).collect(),
            display: "x".into(),
            settings: Settings::default(),
        }
    }

    #[test]
    fn rclone_inherits_what_it_may() {
        let kept = environment(&[
            ("PATH", "/bin"),
            ("HOME", "/root"),
            ("EXUVIA_PASSPHRASE", "secret"),
            ("RCLONE_LOG_FILE", "/x"),
            ("RCLONE_VERBOSE", "2"),
            ("RCLONE_STATS_ONE_LINE", "true"),
            ("RCLONE_EXCLUDE", "*"),
            ("RCLONE_CONFIG", "/c"),
            ("RCLONE_S3_NO_CHECK_BUCKET", "true"),
            ("RCLONE_USER_AGENT", "x"),
            ("RCLONE_USER", "x"),
            ("AWS_CA_BUNDLE", "/ca.pem"),
            ("AWS_ACCESS_KEY_ID", "x"),
        ]);
        let expected = [
            "AWS_ACCESS_KEY_ID",
            "HOME",
            "PATH",
            "RCLONE_CA_CERT",
            "RCLONE_CONFIG",
            "RCLONE_S3_NO_CHECK_BUCKET",
            "RCLONE_USER_AGENT",
        ];
        assert_eq!(names(&kept), expected);
        let own = environment(&[("AWS_CA_BUNDLE", "/a"), ("RCLONE_CA_CERT", "/b")]);
        assert_eq!(own.0, [("RCLONE_CA_CERT".into(), "/b".into())]);
    }

    #[test]
    fn paths_get_one_slash() {
        for (spec, expected) in [
            ("b2:bucket/x", "b2:bucket/x/"),
            ("b2:bucket/x/", "b2:bucket/x/"),
            ("sftp:", "sftp:"),
            ("/local/a b", "/local/a b/"),
            ("relative/a:b", "relative/a:b/"),
            ("s3,secret=\"a:b\":bucket", "s3,secret=\"a:b\":bucket/"),
            (":s3,endpoint=\"http://x:1/\":bucket", ":s3,endpoint=\"http://x:1/\":bucket/"),
            (":local:/a", ":local:/a/"),
            (":s3,provider=Other:", ":s3,provider=Other:"),
        ] {
            assert_eq!(with_slash(spec).expose(), expected, "{spec}");
        }
    }

    #[test]
    fn secrets_are_hidden() {
        let target = target(
            ":sftp,host=example.org,user=someone,pass=\"p,a\"\"ss\",key_use_agent:dir",
            &[
                ("RCLONE_CONFIG_X_TYPE", "webdav"),
                ("RCLONE_CONFIG_X_PASS", "hunter22"),
                ("RCLONE_CONFIG_X_URL", "http://host/dav"),
                ("RCLONE_CONFIG_X_MORE", "abc"),
                ("RCLONE_CONFIG_X_FLAG", "true"),
            ],
        );
        let inherited = environment(&[("AWS_SECRET_ACCESS_KEY", "hunter22longer"), ("HOME", "/home/u")]);
        let scrubber = inherited.scrubber(&target);
        for (text, expected) in [
            ("webdav at http://host/dav: hunter22 refused", "webdav at http://host/dav: *** refused"),
            ("p,a\"ss of someone at example.org", "*** of *** at example.org"),
            ("hunter22longer\nabc true /home/u", "*** abc true /home/u"),
        ] {
            assert_eq!(scrubber.clean(text), expected);
        }
    }

    #[test]
    fn no_secret_is_an_argument() {
        let settings = Settings { bwlimit: Some("1M".into()), tpslimit: Some(2.5), ..Settings::default() };
        let arguments = serve_arguments(&settings);
        assert!(arguments.contains(&"--bwlimit=1M".to_string()));
        assert!(arguments.contains(&"--tpslimit=2.5".to_string()));
        assert_eq!(arguments.last().map(String::as_str), Some(REMOTE));
    }
}
