//! The tables of the file that say what runs by itself.

use toml::de::DeTable;

use super::file::{Config, Settings};
use super::reader::{Reader, Schema};
use super::{ConfigError, backup, full, health, hooks, schedule, start, triggers};

/// A table of the file: name, line, content.
type Table<'t, 'i> = (&'static str, usize, &'t DeTable<'i>);

/// Reads those of `tables` that are documented here; the others are somebody else's.
pub(super) fn read(
    reader: &Reader<'_>,
    tables: &[Table<'_, '_>],
    config: &mut Config,
    settings: &mut Settings,
) -> Result<(), ConfigError> {
    for (name, _, table) in tables {
        let mut fields = |schema: &Schema, above: &str, is_secret: fn(&str) -> bool| {
            let fields = reader.table(table, schema)?;
            settings.add(&fields.fields, above, is_command, is_secret);
            Ok::<_, ConfigError>(fields)
        };
        match *name {
            "backup" => {
                config.backup = backup::table(reader, fields(&backup::SCHEMA, "backup.", nothing)?)?;
            }
            "full" => config.full = full::table(reader, fields(&full::SCHEMA, "full.", nothing)?)?,
            "schedule" => {
                config.schedule = schedule::table(reader, fields(&schedule::SCHEMA, "schedule.", nothing)?)?;
            }
            "start" => config.start = start::table(reader, fields(&start::SCHEMA, "start.", nothing)?)?,
            "health" => {
                let fields = fields(&health::SCHEMA, "health.", health::is_secret)?;
                config.health = health::table(reader, fields)?;
            }
            "triggers" => {
                let found = triggers::names(reader, table)?;
                settings.add(&found, "triggers.", nothing, nothing);
                config.triggers = triggers::table(reader, &found)?;
            }
            "hooks" => {
                for (job, _, table) in fields(&hooks::SCHEMA, "hooks.", nothing)?.tables {
                    let fields = reader.table(table, &hooks::schema(job))?;
                    settings.add(&fields.fields, &format!("hooks.{job}."), is_command, nothing);
                    *config.hooks.job_mut(job) = hooks::job(reader, fields)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Commands are shown to nobody: what they need to reach somebody is often a secret.
fn is_command(name: &str) -> bool {
    matches!(name, "passphrase_command" | "on_success" | "on_failure" | "on_alarm" | "pre" | "post")
}

fn nothing(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests;
