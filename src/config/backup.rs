//! The table `[backup]`: what every backup of the state dir takes.

use ignore::gitignore::GitignoreBuilder;

use super::ConfigError;
use super::error::nearest;
use super::reader::{Fields, Key, Reader, Schema};
use super::values::{one_of, switch};

/// What every backup of the state dir takes; flags of `exuvia backup` win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupConfig {
    /// Names of include sets; everything when empty.
    pub include: Vec<String>,
    /// Patterns in gitignore's syntax, anchored at the state dir.
    pub exclude: Vec<String>,
    /// The application's rules of what to leave out.
    pub profile: ProfileSetting,
    /// Labels.
    pub tags: Vec<String>,
    /// Make no snapshot when nothing differs from the last one.
    pub skip_if_unchanged: bool,
}

/// The application's rules of what to leave out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProfileSetting {
    /// Those of the application that is recognised.
    #[default]
    Auto,
    /// OpenClaw's.
    OpenClaw,
    /// No rules.
    None,
}

/// The include sets, which [`crate::config`] does not know by itself: a test holds them against those of
/// the gatherer.
pub const INCLUDE_SETS: [&str; 13] = [
    "workspace",
    "config",
    "cron",
    "memory",
    "sessions",
    "credentials",
    "skills",
    "hooks",
    "extensions",
    "env",
    "agents",
    "pages",
    "transcripts",
];

pub(super) const SCHEMA: Schema = Schema {
    table: Some("backup"),
    about: "what every backup of the state dir takes; flags of `exuvia backup` win",
    tables: &[],
    keys: &[
        Key::list("include").says(
            "only these sets of OpenClaw's files",
            "workspace, config, cron, memory, sessions, credentials, skills, hooks, extensions, env, agents, \
             pages, transcripts",
            "",
            "[\"config\", \"memory\"]",
        ),
        Key::list("exclude").says(
            "what is left out; --exclude adds to it",
            "patterns in gitignore's syntax, anchored at the state dir",
            "",
            "[\"*.tmp\", \"/logs\"]",
        ),
        Key::text("profile").says(
            "the application's own rules of what to leave out",
            "auto (of the application that is recognised), openclaw, none",
            "auto",
            "\"openclaw\"",
        ),
        Key::list("tags").says("labels of each snapshot", "any texts", "", "[\"laptop\"]"),
        Key::switch("skip_if_unchanged").says(
            "make no snapshot when nothing differs from the last one",
            "true or false",
            "off",
            "true",
        ),
    ],
    synonyms: &[("excludes", "exclude"), ("includes", "include"), ("tag", "tags"), ("sets", "include")],
    elsewhere: (&[], ""),
};

pub(super) fn table(reader: &Reader<'_>, mut fields: Fields<'_, '_>) -> Result<BackupConfig, ConfigError> {
    let profile = fields.read(reader, "profile", |text| {
        let words = [
            ("auto", ProfileSetting::Auto),
            ("openclaw", ProfileSetting::OpenClaw),
            ("none", ProfileSetting::None),
        ];
        one_of(text, &words)
    })?;
    let skip = fields.read(reader, "skip_if_unchanged", switch)?;
    Ok(BackupConfig {
        include: include(reader, &mut fields)?,
        exclude: exclude(reader, &mut fields)?,
        profile: profile.unwrap_or_default(),
        tags: list(&mut fields, "tags"),
        skip_if_unchanged: skip.unwrap_or(false),
    })
}

fn list(fields: &mut Fields<'_, '_>, name: &str) -> Vec<String> {
    let field = fields.take(name);
    field.map(|field| field.items.iter().map(|item| item.to_string()).collect()).unwrap_or_default()
}

/// Patterns that a backup will understand: what is wrong with one shows before the first night.
fn exclude(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Result<Vec<String>, ConfigError> {
    let Some(field) = fields.take("exclude") else { return Ok(Vec::new()) };
    for item in &field.items {
        check_pattern(item).map_err(|what| {
            reader.error(field.line, format!("`exclude` has a pattern that cannot be understood: {what}"))
        })?;
    }
    Ok(field.items.iter().map(|item| item.to_string()).collect())
}

/// Whether a text is a pattern in gitignore's syntax; else what is wrong with it.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    let mut builder = GitignoreBuilder::new("");
    let added = builder.add_line(None, pattern).and_then(|builder| builder.build());
    added.map(drop).map_err(|e| e.to_string())
}

/// Names of sets, also with commas between them as `--include` takes them.
fn include(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Result<Vec<String>, ConfigError> {
    let Some(field) = fields.take("include") else { return Ok(Vec::new()) };
    let names = field.items.iter().flat_map(|item| item.split(',')).map(str::trim);
    let mut sets = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        let known = INCLUDE_SETS.iter().find(|set| set.eq_ignore_ascii_case(name));
        let Some(set) = known else {
            let help = match nearest(name, &INCLUDE_SETS) {
                Some(set) => format!("did you mean `{set}`?"),
                None => format!("the sets are {}", INCLUDE_SETS.join(", ")),
            };
            return Err(reader.error(field.line, format!("`include` names an unknown set `{name}`; {help}")));
        };
        if !sets.iter().any(|known| known == set) {
            sets.push((*set).to_owned());
        }
    }
    Ok(sets)
}
