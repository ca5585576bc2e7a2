//! Where a repository is: from a name, or from what the configuration file says.

use std::fmt;
use std::path::PathBuf;

use crate::config::{Login, Provider, RemoteConfig};
use crate::model::{Classify, ErrorClass};
use crate::rclone::{Secret, Settings, Target};

/// What names of remotes begin with.
pub const SCHEME: &str = "rclone:";

/// What the remote that we describe to rclone is called there.
const GENERATED: &str = "exuvia";

/// Where a repository is.
#[derive(Debug, Clone, PartialEq)]
pub enum Location {
    /// A local directory.
    Local(PathBuf),
    /// Anything that rclone reaches.
    Rclone(Target),
}

/// Why a name is not that of a remote. No message repeats it: it may hold secrets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// There is no name between the first two colons, or no second colon.
    #[error("a remote is named rclone:REMOTE:PATH; {0}")]
    Form(&'static str),
    /// The part after the name of a backend cannot be understood.
    #[error("the connection string cannot be understood: {0}")]
    Connection(&'static str),
}

impl Classify for LocationError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

impl Location {
    /// The remote of a name that begins with `rclone:`; `None` for any other name.
    pub fn named(name: &str, settings: &Settings) -> Option<Result<Self, LocationError>> {
        let spec = name.strip_prefix(SCHEME)?;
        Some(target(spec, Vec::new(), settings).map(Self::Rclone))
    }

    /// The remote that the configuration file describes.
    pub fn configured(remote: &RemoteConfig, settings: &Settings) -> Result<Self, LocationError> {
        if let Provider::Rclone { remote, config } = &remote.provider {
            let spec = remote.expose();
            let file = config.as_ref().map(|path| Secret::new(path.to_string_lossy().into_owned()));
            let env = file.into_iter().map(|path| ("RCLONE_CONFIG".to_owned(), path)).collect();
            // Whoever copies the name from the command line means the same.
            return target(spec.strip_prefix(SCHEME).unwrap_or(spec), env, settings).map(Self::Rclone);
        }
        let options = Options::of(remote);
        let path = match (&remote.bucket, remote.prefix.trim_start_matches('/')) {
            (Some(bucket), "") => bucket.clone(),
            (Some(bucket), prefix) => format!("{bucket}/{prefix}"),
            (None, _) => remote.prefix.clone(),
        };
        Ok(Self::Rclone(Target {
            spec: Secret::new(format!("{GENERATED}:{path}")),
            display: format!("{SCHEME}{}:{path}", options.backend),
            env: options.into_environment(),
            settings: settings.clone(),
        }))
    }
}

/// For people: no secrets in it.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Rclone(target) => f.write_str(&target.display),
        }
    }
}

fn target(spec: &str, env: Vec<(String, Secret)>, settings: &Settings) -> Result<Target, LocationError> {
    let parts = split(spec)?;
    let dots = if parts.parameters { ",…" } else { "" };
    Ok(Target {
        spec: Secret::new(spec.to_owned()),
        env,
        display: format!("{SCHEME}{}{dots}:{}", parts.name, parts.path),
        settings: settings.clone(),
    })
}

/// The parts of `REMOTE:PATH`.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    /// A remote of `rclone.conf`, or `:backend`.
    name: &'a str,
    /// It has parameters of its own, which may be secrets.
    parameters: bool,
    path: &'a str,
}

/// Takes `name,parameter=value,parameter="a:b":path` apart. A value in quotes may hold colons and commas,
/// and its own quote when that is doubled.
fn split(spec: &str) -> Result<Parts<'_>, LocationError> {
    let at_backend = usize::from(spec.starts_with(':'));
    let plain = &spec[at_backend..];
    let end = plain
        .find([':', ',', '/'])
        .ok_or(LocationError::Form("a second colon is missing after the remote's name"))?;
    let name = &spec[..at_backend + end];
    if plain[end..].starts_with('/') {
        return Err(LocationError::Form(
            "there is no remote before the path; a local path needs no `rclone:`",
        ));
    }
    if end == 0 {
        return Err(LocationError::Form("the remote's name is missing"));
    }
    // What begins with a dash would be taken for an option of rclone.
    if plain.starts_with(['-', ' ']) || plain[..end].ends_with(' ') || name.contains(char::is_control) {
        return Err(LocationError::Form("the remote's name has characters that rclone does not allow"));
    }
    let mut rest = &plain[end..];
    let parameters = rest.starts_with(',');
    while let Some(parameter) = rest.strip_prefix(',') {
        rest = after_parameter(parameter)?;
    }
    // The loop and the search above leave only this.
    let path =
        rest.strip_prefix(':').ok_or(LocationError::Connection("there is no colon before the path"))?;
    Ok(Parts { name, parameters, path })
}

/// What follows `name=value` or `name`.
fn after_parameter(text: &str) -> Result<&str, LocationError> {
    const OPEN: LocationError = LocationError::Connection("there is no colon before the path");
    let key = text.find(['=', ',', ':']).ok_or(OPEN)?;
    if key == 0 {
        return Err(LocationError::Connection("a parameter has no name"));
    }
    let Some(value) = text[key..].strip_prefix('=') else { return Ok(&text[key..]) };
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        return value.find([',', ':']).map(|end| &value[end..]).ok_or(OPEN);
    };
    let mut rest = &value[1..];
    loop {
        let end = rest.find(quote).ok_or(LocationError::Connection("a quote is not closed"))?;
        rest = &rest[end + 1..];
        match rest.strip_prefix(quote) {
            Some(doubled) => rest = doubled,
            None if rest.starts_with([',', ':']) => return Ok(rest),
            None if rest.is_empty() => return Err(OPEN),
            None => return Err(LocationError::Connection("a closed quote is followed by more text")),
        }
    }
}

/// Options of the generated remote, in rclone's names.
struct Options {
    backend: String,
    values: Vec<(String, Secret)>,
    /// Nothing of the user's own `rclone.conf` may have a part in it.
    alone: bool,
}

impl Options {
    fn of(remote: &RemoteConfig) -> Self {
        let mut options = match &remote.provider {
            Provider::S3 { endpoint, region, keys, storage_class, flavor } => {
                let mut options = Self::new("s3");
                let flavor = flavor.as_deref().unwrap_or_else(|| flavor_of(endpoint.as_deref()));
                options.set("provider", flavor);
                options.set_if("endpoint", endpoint.as_deref());
                // Cloudflare has one region, and signatures need its name.
                let automatic = (flavor == "Cloudflare").then_some("auto");
                options.set_if("region", region.as_deref().or(automatic));
                options.set_if("storage_class", storage_class.as_deref());
                match keys {
                    Some((id, secret)) => {
                        options.set("access_key_id", id);
                        options.set("secret_access_key", secret.expose());
                    }
                    None => options.set("env_auth", "true"),
                }
                // The bucket is there: looking costs a request, and making one needs a permission that
                // keys for backups should not have.
                options.set("no_check_bucket", "true");
                options
            }
            Provider::B2 { key_id, application_key } => {
                let mut options = Self::new("b2");
                options.set("account", key_id);
                options.set("key", application_key.expose());
                // Objects are deleted only on request, to free space; hiding them would free none.
                options.set("hard_delete", "true");
                options
            }
            Provider::Dropbox(login) => Self::drive("dropbox", login),
            Provider::Drive { login, root_folder_id } => {
                let mut options = Self::drive("drive", login);
                options.set_if("root_folder_id", root_folder_id.as_deref());
                options
            }
            Provider::OneDrive { login, drive_id, drive_type } => {
                let mut options = Self::drive("onedrive", login);
                options.set("drive_id", drive_id);
                options.set("drive_type", drive_type);
                options
            }
            // It may stand on top of a remote of rclone.conf, as crypt does.
            Provider::Custom { rclone_type } => Self { alone: false, ..Self::new(rclone_type) },
            // Its options stand in rclone.conf.
            Provider::Rclone { .. } => Self { alone: false, ..Self::new("") },
        };
        for (name, value) in &remote.options {
            options.set(name, value.expose());
        }
        options
    }

    fn new(backend: &str) -> Self {
        let kind = ("type".to_owned(), Secret::new(backend.to_owned()));
        Self { backend: backend.to_owned(), values: vec![kind], alone: true }
    }

    fn drive(backend: &str, login: &Login) -> Self {
        let mut options = Self::new(backend);
        options.set("token", login.token.expose());
        options.set_if("client_id", login.app_key.as_deref());
        options.set_if("client_secret", login.app_secret.as_ref().map(|secret| secret.expose()));
        options
    }

    /// The last value counts.
    fn set(&mut self, name: &str, value: &str) {
        self.values.retain(|(n, _)| n != name);
        self.values.push((name.to_owned(), Secret::new(value.to_owned())));
    }

    fn set_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn into_environment(self) -> Vec<(String, Secret)> {
        let remote = GENERATED.to_uppercase();
        let name = |name: &str| format!("RCLONE_CONFIG_{remote}_{}", name.to_uppercase().replace('-', "_"));
        let mut env: Vec<_> = self.values.into_iter().map(|(n, value)| (name(&n), value)).collect();
        if self.alone {
            // A remote of the same name there would mix its options with these.
            env.push(("RCLONE_CONFIG".to_owned(), Secret::new("/dev/null".to_owned())));
        }
        env
    }
}

/// rclone's name for the vendor, where the address tells and it matters.
fn flavor_of(endpoint: Option<&str>) -> &'static str {
    let Some(endpoint) = endpoint else { return "AWS" };
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default().to_lowercase();
    let within = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|h| h.ends_with('.'));
    if within("amazonaws.com") || within("amazonaws.com.cn") {
        "AWS"
    } else if within("r2.cloudflarestorage.com") {
        "Cloudflare"
    } else {
        "Other"
    }
}

#[cfg(test)]
mod tests;
