//! The table `[full]`: full archives.

use std::path::PathBuf;

use super::ConfigError;
use super::reader::{Fields, Key, Reader, Schema};
use super::retention::retention;
use super::values::one_of;
use crate::model::{ArchiveForm, Policy, Secret};

/// How full archives are made and kept; flags of `exuvia full` win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullConfig {
    /// How its bytes are made.
    pub form: ArchiveForm,
    /// A file whose first line is the passphrase of the openssl form.
    pub passphrase_file: Option<PathBuf>,
    /// A shell command that prints it.
    pub passphrase_command: Option<Secret>,
    /// Which archives `full prune` keeps.
    pub retention: Option<Policy>,
}

impl Default for FullConfig {
    fn default() -> Self {
        Self { form: ArchiveForm::Sealed, passphrase_file: None, passphrase_command: None, retention: None }
    }
}

pub(super) const SCHEMA: Schema = Schema {
    table: Some("full"),
    about: "full archives: one tar stream each, of all that a backup would take; flags of `exuvia full` win",
    tables: &[],
    keys: &[
        Key::text("form").says(
            "sealed (authenticated, opened by exuvia), openssl (.tar.gz.enc for standard programs)",
            "sealed, openssl",
            "sealed",
            "\"openssl\"",
        ),
        Key::text("passphrase_file").says(
            "a file whose first line is the passphrase of the openssl form; only you should be able to read it",
            "a path",
            "the repository's passphrase",
            "\"~/.exuvia-full\"",
        ),
        Key::command("passphrase_command").says(
            "a command that prints the passphrase of the openssl form",
            "a shell command",
            "",
            "\"pass show backup/full\"",
        ),
        Key::number("retention").says(
            "which archives `full prune` keeps; the daemon prunes them after each archive that it makes",
            "so many of the newest, or rules such as {daily: 7, weekly: 4} in one text",
            "",
            "\"{daily: 7, monthly: 6}\"",
        ),
    ],
    synonyms: &[("retain", "retention"), ("passphrase", "passphrase_file")],
    elsewhere: (&[], ""),
};

pub(super) fn table(reader: &Reader<'_>, mut fields: Fields<'_, '_>) -> Result<FullConfig, ConfigError> {
    let mut config = FullConfig::default();
    let forms = [("sealed", ArchiveForm::Sealed), ("openssl", ArchiveForm::Openssl)];
    if let Some(form) = fields.read(reader, "form", |text| one_of(text, &forms))? {
        config.form = form;
    }
    let local = |text: &str| Ok::<_, &'static str>(reader.local(text));
    config.passphrase_file = fields.read(reader, "passphrase_file", local)?;
    let command = fields.take("passphrase_command");
    config.passphrase_command = command.map(|field| Secret::new(field.text.to_string()));
    config.retention = fields.read(reader, "retention", retention)?;
    Ok(config)
}
