//! What a service needs and its surroundings may not have: variables, and a passphrase.

use super::error::CliError;
use super::global::Context;
use super::repository::Place;
use super::settings::{self, Origin};
use super::{passphrase, text};
use crate::app::Location;
use crate::app::service::{self as app, Kind, Places, Scope, Service};
use crate::config::{self, Provider};

/// By these rclone opens its own configuration, and finds what opens storage that nobody describes to it.
const OPENERS: [&str; 5] =
    ["RCLONE_CONFIG_PASS", "RCLONE_PASSWORD_COMMAND", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"];

/// How the service comes by the passphrase.
enum Source {
    /// From what its own file or the configuration file names, or the default repository's key file.
    Named,
    /// By this variable of the caller's, which may not stand in a service's file.
    Shell(&'static str),
    /// From the keyring alone.
    Keyring,
    /// Nobody says.
    Nowhere,
}

/// What a service needs beside its file.
pub(super) struct Needs {
    /// Variables without which the configuration cannot be read, or the passphrase command fails.
    variables: Vec<String>,
    /// Those that the passphrase command names, and that may be of no consequence.
    perhaps: Vec<String>,
    /// Those of this shell that rclone may need.
    openers: Vec<String>,
    /// The configuration file, for people.
    file: String,
    source: Source,
}

impl Needs {
    /// What a service with these settings needs.
    pub(super) fn of(ctx: &Context, service: &Service) -> Result<Self, CliError> {
        let source = source(ctx)?;
        let (mut variables, mut perhaps) = (ctx.config.variables.clone(), Vec::new());
        let command = ctx.config.passphrase_command.as_deref();
        let used = matches!(passphrase::source(ctx), Some(("passphrase_command", _, Origin::File { .. })));
        for (name, must) in command.filter(|_| used).map(config::shell_variables).unwrap_or_default() {
            if must { variables.push(name) } else { perhaps.push(name) }
        }
        let own = |name: &String| service.environment.iter().any(|(own, _)| own == name);
        // Of what a shell is given here by itself, most is there for a service, too.
        perhaps.retain(|name| ctx.env.get(name).is_some() && !own(name) && !variables.contains(name));
        variables.retain(|name| !own(name));
        variables.sort();
        variables.dedup();
        let file = ctx.config.file.as_deref().map(text::show).unwrap_or_default();
        let openers = openers(ctx)?;
        Ok(Self { variables, perhaps, openers, file, source })
    }

    /// What will not work as it stands.
    pub(super) fn warnings(&self, scope: &Scope, kind: Kind, places: &Places) -> Vec<String> {
        let mut found = Vec::new();
        match self.source {
            Source::Shell(name) => found.push(format!(
                "the service will not have the passphrase: {name} belongs to this shell, and may not stand in a \
                 service's file; passphrase_file or passphrase_command in the configuration file gives it to both"
            )),
            Source::Nowhere => found.push(
                "nothing says where the service is to find the passphrase: set passphrase_file or passphrase_command \
                 in the configuration file"
                    .to_owned(),
            ),
            Source::Keyring if kind == Kind::Cron || *scope != Scope::User => found.push(
                "the keyring belongs to your session, and neither cron nor a service of the machine has one: set \
                 passphrase_file or passphrase_command in the configuration file"
                    .to_owned(),
            ),
            _ => {}
        }
        let unsure = self.unsure(scope, kind, places);
        if !unsure.is_empty() {
            found.push(format!(
                "{} refers to {}, which the service may not have: whether it will cannot be asked here; without, it \
                 cannot read its settings",
                self.file,
                unsure.join(", ")
            ));
        }
        let perhaps = Self::missing(&self.perhaps, scope, kind, places);
        if !perhaps.is_empty() {
            found.push(format!(
                "passphrase_command in {} names {}, which the service may not have",
                self.file,
                perhaps.join(", ")
            ));
        }
        let openers = Self::missing(&self.openers, scope, kind, places);
        if !openers.is_empty() {
            found.push(format!(
                "{} is set in this shell, and the service will not have it: if the storage is opened by that, describe \
                 it in the table [remote]",
                openers.join(", ")
            ));
        }
        found
    }

    /// Those of its variables that it may have or not; where one is missing for certain, that is refused anyway.
    fn unsure(&self, scope: &Scope, kind: Kind, places: &Places) -> Vec<&str> {
        if self.variables.is_empty() {
            return Vec::new();
        }
        let there = app::variables(scope, kind, places, &self.variables);
        let names = self.variables.iter().map(String::as_str);
        names.filter(|name| !there.has(name) && there.may_have(name)).collect()
    }

    /// Those of the names that the service cannot be said to have.
    fn missing<'a>(names: &'a [String], scope: &Scope, kind: Kind, places: &Places) -> Vec<&'a str> {
        if names.is_empty() {
            return Vec::new();
        }
        let there = app::variables(scope, kind, places, names);
        names.iter().map(String::as_str).filter(|name| !there.has(name)).collect()
    }

    /// Refuses what would end at once.
    pub(super) fn check(&self, scope: &Scope, kind: Kind, places: &Places) -> Result<(), CliError> {
        if self.variables.is_empty() {
            return Ok(());
        }
        let there = app::variables(scope, kind, places, &self.variables);
        let missing: Vec<&str> =
            self.variables.iter().map(String::as_str).filter(|name| !there.may_have(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let error = CliError::usage(format!(
            "the service would not have {}, which {} refers to, and could not read its settings",
            missing.join(", "),
            self.file
        ));
        let error = error.hint(
            "write what it stands for into that file, which only you should be able to read (chmod 600), or for a \
             passphrase into a file that passphrase_file names",
        );
        Err(match app::drop_in(scope, kind, places) {
            Some(path) => error.hint(format!(
                "or give it to the service: {} with the lines [Service] and EnvironmentFile=FILE",
                text::show(&path)
            )),
            None => error,
        })
    }
}

fn source(ctx: &Context) -> Result<Source, CliError> {
    Ok(match passphrase::source(ctx) {
        Some(("passphrase_file", Some(_), _)) | Some((_, _, Origin::File { .. })) => Source::Named,
        Some((_, _, Origin::Environment(name))) => Source::Shell(name),
        Some(_) => Source::Named,
        None if settings::passphrase_keyring(ctx)?.0 => Source::Keyring,
        None if Place::of(ctx)?.default.is_some() => Source::Named,
        None => Source::Nowhere,
    })
}

/// Those that are set here and may open the storage.
fn openers(ctx: &Context) -> Result<Vec<String>, CliError> {
    let place = Place::of(ctx)?;
    let described = match &place.origin {
        Origin::File { .. } => ctx.config.remote.as_ref(),
        _ => None,
    };
    let by_itself = match described.map(|remote| &remote.provider) {
        None | Some(Provider::Rclone { .. } | Provider::S3 { keys: None, .. }) => true,
        Some(_) => false,
    };
    let remote = matches!(place.location, Location::Rclone(_));
    let set = OPENERS.into_iter().filter(|name| remote && by_itself && ctx.env.get(name).is_some());
    Ok(set.map(str::to_owned).collect())
}
