//! Which repository is meant, and the one that is used when none is.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{self, CliError, Situation};
use super::global::{self, Context};
use super::key_file;
use super::passphrase::{self, Obtained};
use super::settings::{self, Origin};
use super::text;
use crate::app::{self, AppError, InitRequest, Location, LocationError, ScryptParams};
use crate::clock::{Clock, SystemClock};
use crate::config::Provider;
use crate::model::{Classify, ErrorClass};
use crate::report::Monitor;

/// The local repository that needs no configuration, and the file of its generated key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Default {
    pub(super) repository: PathBuf,
    pub(super) key_file: PathBuf,
}

/// A repository as the user means it.
pub(super) struct Place {
    pub(super) location: Location,
    /// Who named it.
    pub(super) origin: Origin,
    /// The arguments that name it again, without secrets.
    again: String,
    /// The configuration file holds the keys of its service, not rclone's own.
    described: bool,
    /// It is the embedded default, whether named or not.
    pub(super) default: Option<Default>,
    /// Nobody named a repository.
    pub(super) unconfigured: bool,
}

impl Place {
    pub(super) fn of(ctx: &Context) -> Result<Self, CliError> {
        let default = match (ctx.env.data_home(), ctx.env.config_home()) {
            (Some(data), Some(config)) => Some(Default {
                repository: global::absolute(&data.join("exuvia").join("repository"))?,
                key_file: global::absolute(&config.join("exuvia").join("default.key"))?,
            }),
            _ => None,
        };
        let (location, origin) = match (settings::repository(ctx), &ctx.config.remote, &default) {
            (Some((named, origin)), ..) => (locate(ctx, &named, &origin)?, origin),
            (None, Some(remote), _) => {
                let origin = Origin::of_file(ctx, Some(remote.line));
                let location = Location::configured(remote, &settings::Running::of(ctx)?.settings());
                (location.map_err(|e| not_a_name(&e, &origin))?, origin)
            }
            (None, None, Some(default)) => (Location::Local(default.repository.clone()), Origin::Default),
            (None, None, None) => return Err(global::no_home("--repo")),
        };
        let again = match (&location, &origin) {
            (Location::Local(path), _) => format!("--repo {}", text::shell_word(path.as_os_str())),
            // The name may be given by a whole table, or hold secrets.
            (_, Origin::File { path, .. }) => {
                format!("--config {}", text::shell_word(global::absolute(path)?.as_os_str()))
            }
            (remote, _) => format!("--repo {}", text::shell_word(remote.to_string().as_ref())),
        };
        let unconfigured = matches!(origin, Origin::Default);
        let table = ctx.config.remote.as_ref().filter(|_| settings::repository(ctx).is_none());
        let described = table.is_some_and(|remote| !matches!(remote.provider, Provider::Rclone { .. }));
        let here = |default: &Default| location == Location::Local(default.repository.clone());
        Ok(Self { default: default.filter(here), location, origin, again, described, unconfigured })
    }

    /// Where it lies, when that is a directory here.
    pub(super) fn local_directory(&self) -> Option<PathBuf> {
        match &self.location {
            Location::Local(path) => Some(path.clone()),
            Location::Rclone(_) => None,
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        match &self.location {
            Location::Local(path) => text::show(path),
            remote => text::printable(remote.to_string().as_bytes()),
        }
    }

    /// What programs call it: the exact bytes of a path.
    pub(super) fn json_name(&self) -> text::JsonPath {
        match &self.location {
            Location::Local(path) => path.as_os_str().as_bytes().into(),
            remote => remote.to_string().as_bytes().into(),
        }
    }

    pub(super) fn situation(&self, passphrase: String) -> Situation {
        Situation {
            unmade: self.unmade(),
            remote: matches!(self.location, Location::Rclone(_)),
            configured: self.described,
            passphrase,
        }
    }

    /// What opens this repository.
    pub(super) fn passphrase(&self, ctx: &Context) -> Result<Obtained, CliError> {
        self.passphrase_from(ctx, true)
    }

    /// The same for who is about to store it in the keyring, and has no use for what is there.
    pub(super) fn passphrase_beside_keyring(&self, ctx: &Context) -> Result<Obtained, CliError> {
        self.passphrase_from(ctx, false)
    }

    fn passphrase_from(&self, ctx: &Context, keyring: bool) -> Result<Obtained, CliError> {
        if let Some(obtained) = passphrase::configured(ctx, Some(self.name()).filter(|_| keyring).as_deref())?
        {
            return Ok(obtained);
        }
        if let Some(obtained) = self.default_passphrase(ctx)? {
            return Ok(obtained);
        }
        // Nobody is asked to type, or told to look for, what opens a repository that is not there.
        if (self.default.is_some() || passphrase::can_ask()) && !self.exists()? {
            let message = format!("there is no repository at {}", self.name());
            let error = CliError::new(ErrorClass::NoRepository, message);
            return Err(error::no_repository(error, &self.situation(String::new())));
        }
        if passphrase::can_ask() {
            return passphrase::ask();
        }
        Err(match &self.default {
            Some(default) => CliError::usage(format!(
                "the key file of the default repository is missing: {}",
                text::show(&default.key_file)
            ))
            .hint("put it back from where you keep a copy; without it or another key nothing can be restored")
            .hint("another passphrase of the repository can be given with EXUVIA_PASSPHRASE_FILE"),
            None => passphrase::missing(),
        })
    }

    /// What opens the embedded default, if it is meant and was made.
    pub(super) fn default_passphrase(&self, ctx: &Context) -> Result<Option<Obtained>, CliError> {
        let default = self.default.as_ref().filter(|default| default.key_file.exists());
        default.map(|default| default.key(ctx)).transpose()
    }

    /// What the first key of a new repository is made from.
    pub(super) fn first_passphrase(&self, ctx: &Context) -> Result<Obtained, CliError> {
        if let Some(obtained) = passphrase::configured(ctx, None)? {
            passphrase::warn_if_short(ctx, &obtained);
            return Ok(obtained);
        }
        if self.default.is_none() && !passphrase::can_ask() {
            return Err(passphrase::missing());
        }
        // Before a key file is made that would open nothing, or anybody types for nothing.
        if self.exists()? {
            return Err(CliError::failed(format!("there is a repository at {} already", self.name())));
        }
        if let Some(default) = &self.default {
            return default.new_key(ctx);
        }
        let obtained = passphrase::ask_twice("Passphrase of the new repository")?;
        passphrase::warn_if_short(ctx, &obtained);
        Ok(obtained)
    }

    /// It is what the first backup makes. A directory that is there without a repository in it may be a
    /// disk that is not mounted, and is left alone; where a key file says that there was a repository,
    /// so may a directory that is missing.
    pub(super) fn unmade(&self) -> bool {
        let missing =
            |path: &Path| matches!(fs::symlink_metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound);
        let Location::Local(path) = &self.location else { return false };
        self.unconfigured && missing(path) && self.default.as_ref().is_none_or(|d| missing(&d.key_file))
    }

    /// Makes the embedded default if that is what is meant and it was never made.
    pub(super) fn make_default(&self, ctx: &Context) -> Result<(), CliError> {
        if !self.unmade() {
            return Ok(());
        }
        let obtained = self.first_passphrase(ctx)?;
        let params = default_params(&obtained);
        let request = InitRequest { label: "default".to_owned(), params };
        let session = ctx.quiet_session(self, &obtained)?;
        if let Err(e) = app::init(&session, &request) {
            // Another first backup may have been faster.
            return if self.exists()? { Ok(()) } else { Err(self.explain(&e)) };
        }
        ctx.output.announce(&self.made(&obtained));
        Ok(())
    }

    /// Tells where a new repository is, what opens it, and how to get everything back.
    pub(super) fn made(&self, obtained: &Obtained) -> String {
        let again = &self.again;
        let mut words = format!("made a repository: {}\n", self.name());
        let key_file =
            self.default.as_ref().map(|default| &default.key_file).filter(|_| obtained.default_key);
        match key_file {
            Some(key_file) => words.push_str(&format!(
                "its key file: {}\nKeep a copy of the key file elsewhere too: without it nothing can be restored.\n\
                 To restore: EXUVIA_PASSPHRASE_FILE={} exuvia {again} restore",
                text::show(key_file),
                text::shell_word(key_file.as_os_str()),
            )),
            None => words.push_str(&format!(
                "Keep its passphrase: without it nothing can be restored.\n\
                 To restore: exuvia {again} restore"
            )),
        }
        words
    }

    fn exists(&self) -> Result<bool, CliError> {
        let monitor: Arc<dyn Monitor> = Arc::new(crate::report::Silent);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        app::probe(&self.location, &monitor, &clock).map_err(|e| self.explain(&e))
    }

    fn explain(&self, e: &AppError) -> CliError {
        error::explain(e, &self.situation(String::new())).unwrap_or_else(|| CliError::failed(e.to_string()))
    }
}

/// Generated keys need no stretching.
pub(super) fn default_params(obtained: &Obtained) -> ScryptParams {
    if obtained.default_key { ScryptParams::GENERATED } else { ScryptParams::PASSPHRASE }
}

/// The only place that tells remotes from paths.
pub(super) fn locate(ctx: &Context, named: &OsStr, origin: &Origin) -> Result<Location, CliError> {
    if named.is_empty() {
        return Err(CliError::usage("the repository's name is empty"));
    }
    if !named.as_bytes().starts_with(app::SCHEME.as_bytes()) {
        return global::absolute(Path::new(named)).map(Location::Local);
    }
    let name = named.to_str().ok_or_else(|| CliError::usage("the name of a remote must be UTF-8"))?;
    let settings = settings::Running::of(ctx)?.settings();
    match Location::named(name, &settings) {
        Some(location) => location.map_err(|e| not_a_name(&e, origin)),
        None => global::absolute(Path::new(named)).map(Location::Local),
    }
}

fn not_a_name(error: &LocationError, origin: &Origin) -> CliError {
    let error = CliError::new(error.class(), format!("{}: {error}", origin.words()));
    error
        .hint("REMOTE is a remote of rclone.conf (`rclone listremotes` shows them), or :BACKEND,OPTION=VALUE")
        .hint("a value with a colon or a comma in it needs quotes: 'https://example.org:9000'")
}

impl Default {
    fn key(&self, ctx: &Context) -> Result<Obtained, CliError> {
        let source = format!("the key file {}", text::show(&self.key_file));
        let obtained = passphrase::from_file(ctx, &self.key_file, &source)?;
        Ok(Obtained { default_key: true, ..obtained })
    }

    /// The key for a repository that is about to be made. A key that is there already may open older
    /// copies of a repository, so it is used again and never overwritten.
    fn new_key(&self, ctx: &Context) -> Result<Obtained, CliError> {
        match key_file::write(&self.key_file) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                let path = text::show(&self.key_file);
                return Err(CliError::failed(format!("cannot write the key file {path}: {e}")));
            }
            _ => {}
        }
        let obtained = self.key(ctx)?;
        if !key_file::is_key(obtained.passphrase.as_bytes()) {
            return Err(CliError::failed(format!(
                "{} is there already and is no generated key",
                text::show(&self.key_file)
            ))
            .hint("move it away, or configure a repository and a passphrase of your own"));
        }
        Ok(obtained)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::cli::global::GlobalArgs;
    use crate::cli::output::Output;
    use crate::config::Environment;

    fn context(repo: Option<&str>, config: &str) -> Context {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my config.toml");
        fs::write(&file, config).unwrap();
        let env = Environment::of(&[("HOME", "/home/ann"), ("KEY", "hunter2")]);
        let output = Output::new(false, false, 0, false, &env);
        let args = GlobalArgs {
            repo: repo.map(Into::into),
            config: Some(file),
            state_dir: None,
            json: false,
            quiet: false,
            verbose: 0,
            no_progress: false,
            threads: None,
            bwlimit: None,
            tpslimit: None,
            connections: None,
        };
        Context::new(args, env, output, |_| ()).unwrap()
    }

    /// What is said is for a screen and its history: it names the repository again, and no secret.
    #[test]
    fn how_to_restore_is_told_without_secrets() {
        let b2 = "[remote]\nprovider = \"b2\"\nkey_id = \"i\"\nsecret = \"${KEY}\"\nbucket = \"b\"";
        let own = "repository = \"rclone::b2,account=i,key=${KEY}:b\"";
        for (repo, config, name, again) in [
            (Some("/a/b/"), b2, "/a/b", "--repo /a/b"),
            (Some("rclone:b2:x/y"), b2, "rclone:b2:x/y", "--repo rclone:b2:x/y"),
            (Some("rclone::s3,key=hunter2:x"), "", "rclone::s3,…:x", "--repo 'rclone::s3,…:x'"),
            (None, b2, "rclone:b2:b/exuvia", "my config.toml'"),
            (None, own, "rclone::b2,…:b", "my config.toml'"),
            (
                None,
                "",
                "/home/ann/.local/share/exuvia/repository",
                "--repo /home/ann/.local/share/exuvia/repository",
            ),
        ] {
            let place = Place::of(&context(repo, config)).unwrap();
            assert_eq!(place.name(), name);
            assert!(place.again.ends_with(again), "{}", place.again);
            let configured = place.again.starts_with("--config '/");
            assert_eq!(configured, again.starts_with("my config"), "{}", place.again);
            assert_eq!(place.situation(String::new()).remote, name.starts_with("rclone:"));
            assert_eq!(place.described, repo.is_none() && config == b2);
            assert_eq!(place.unconfigured, name.starts_with("/home"));
        }
    }

    #[test]
    fn what_opens_the_default_opens_no_remote() {
        let remote = Place::of(&context(Some("rclone:b2:x"), "")).unwrap();
        assert!(remote.default.is_none() && !remote.unmade());
        let named = Place::of(&context(Some("/home/ann/.local/share/exuvia/repository"), "")).unwrap();
        assert!(named.default.is_some() && !named.unconfigured);
    }
}
