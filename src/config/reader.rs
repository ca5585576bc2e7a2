//! Reads the tables of the configuration file into fields, and says with its line what is wrong.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::error::nearest;
use super::values::{ReferenceError, expand};
use super::{ConfigError, Environment};

/// How a key may be spelled that is known, and whether its value is a number.
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// Other names for the same, which users of storage services know.
    pub(super) aliases: &'static [&'static str],
    /// A number stands for itself, too.
    pub(super) number: bool,
    /// `true` and `false` stand for on and off.
    pub(super) switch: bool,
    /// No text is a value of its own.
    pub(super) may_be_empty: bool,
    /// Taken as it is: a shell, which has references of its own, will read it.
    pub(super) raw: bool,
}

impl Key {
    /// A key of a text that is not empty.
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name, aliases: &[], number: false, switch: false, may_be_empty: false, raw: false }
    }

    /// A key of something that is on or off.
    pub(super) const fn switch(name: &'static str) -> Self {
        Self { switch: true, ..Self::text(name) }
    }

    /// A key of a number, or of a text that means one.
    pub(super) const fn number(name: &'static str) -> Self {
        Self { number: true, ..Self::text(name) }
    }
}

/// The keys of a table, and what users may write in their place.
pub(super) struct Schema {
    /// `None` for the top of the file.
    pub(super) table: Option<&'static str>,
    /// Tables below this one.
    pub(super) tables: &'static [&'static str],
    pub(super) keys: &'static [Key],
    /// Words that other tools have for these keys.
    pub(super) synonyms: &'static [(&'static str, &'static str)],
    /// Keys of another table, and where that is.
    pub(super) elsewhere: (&'static [Key], &'static str),
}

/// A value of the file.
pub(super) struct Field {
    /// The key as it is spelled in the file.
    pub(super) spelled: String,
    /// Its name, whatever the spelling; options have none.
    pub(super) name: &'static str,
    pub(super) line: usize,
    pub(super) text: Zeroizing<String>,
    /// The whole text stands in the file, none of it in a variable.
    pub(super) literal: bool,
}

/// A table that was read.
#[derive(Default)]
pub(super) struct Fields<'t, 'i> {
    pub(super) fields: Vec<Field>,
    /// Tables in it: name, line, content.
    pub(super) tables: Vec<(&'static str, usize, &'t DeTable<'i>)>,
}

impl Fields<'_, '_> {
    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Field> {
        let at = self.fields.iter().position(|field| field.name == name)?;
        Some(self.fields.remove(at))
    }
}

/// The file while it is read.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) env: &'a Environment,
}

impl Reader<'_> {
    pub(super) fn error(&self, line: usize, message: impl Into<String>) -> ConfigError {
        ConfigError::Line { path: self.path.to_owned(), line, message: message.into() }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text.as_bytes().iter().take(span.start).filter(|&&byte| byte == b'\n').count()
    }

    /// Reads a table in which only known keys may stand.
    pub(super) fn table<'t, 'i>(
        &self,
        table: &'t DeTable<'i>,
        schema: &Schema,
    ) -> Result<Fields<'t, 'i>, ConfigError> {
        let mut rows: Vec<_> = table.iter().collect();
        // What is wrong first is told first.
        rows.sort_by_key(|(key, _)| key.span().start);
        let mut found = Fields::default();
        for (key, value) in rows {
            let line = self.line(&key.span());
            let spelled = key.get_ref().as_ref();
            if let Some(&name) = schema.tables.iter().find(|name| **name == spelled) {
                if let DeValue::Table(inner) = value.get_ref() {
                    found.tables.push((name, line, inner));
                    continue;
                }
                // Some may be said in one text, too.
                if !schema.keys.iter().any(|key| key.name == name) {
                    let whole =
                        schema.table.map_or_else(|| name.to_owned(), |table| format!("{table}.{name}"));
                    return Err(self.error(line, format!("`{spelled}` must be a table: [{whole}]")));
                }
            }
            let known = schema.keys.iter().find(|key| key.name == spelled || key.aliases.contains(&spelled));
            let known = known.ok_or_else(|| self.error(line, schema.unknown(spelled)))?;
            if let Some(first) = found.fields.iter().find(|field| field.name == known.name) {
                let message =
                    format!("`{spelled}` is given already, as `{}` in line {}", first.spelled, first.line);
                return Err(self.error(line, message));
            }
            found.fields.push(self.field(spelled, known, line, value.get_ref())?);
        }
        Ok(found)
    }

    /// Reads a table of rclone's options: any names, any simple values.
    pub(super) fn options(&self, table: &DeTable<'_>) -> Result<Vec<Field>, ConfigError> {
        const ANY: Key = Key { may_be_empty: true, ..Key::number("") };
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(key, _)| key.span().start);
        let mut found = Vec::new();
        for (key, value) in rows {
            let line = self.line(&key.span());
            let name = key.get_ref().as_ref();
            // It becomes part of the name of a variable.
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(good) {
                let message = format!(
                    "`{name}` cannot be an option of rclone; they are spelled as in rclone.conf, such as `chunk_size`"
                );
                return Err(self.error(line, message));
            }
            let on;
            let value = match value.get_ref() {
                DeValue::Boolean(flag) => {
                    on = DeValue::String(if *flag { "true" } else { "false" }.into());
                    &on
                }
                value => value,
            };
            found.push(self.field(name, &ANY, line, value)?);
        }
        Ok(found)
    }

    fn field(
        &self,
        spelled: &str,
        key: &Key,
        line: usize,
        value: &DeValue<'_>,
    ) -> Result<Field, ConfigError> {
        let text = match value {
            DeValue::String(text) if key.may_be_empty || !text.is_empty() => text.as_ref(),
            DeValue::Integer(number) if key.number && number.radix() == 10 => number.as_str(),
            DeValue::Float(number) if key.number => number.as_str(),
            DeValue::Boolean(on) if key.switch => {
                if *on {
                    "on"
                } else {
                    "off"
                }
            }
            // Where a number limits something, `false` is no limit; whether there can be none, its reader says.
            DeValue::Boolean(false) if key.number => "off",
            _ => {
                let wanted = match (key.number, key.may_be_empty) {
                    (true, _) => "a text or a number",
                    (_, true) => "a text",
                    _ => "a text that is not empty",
                };
                return Err(self.error(line, format!("`{spelled}` must be {wanted}")));
            }
        };
        let (text, literal) = if key.raw {
            (Zeroizing::new(text.to_owned()), true)
        } else {
            let expanded = expand(text, self.env).map_err(|e| self.reference(spelled, line, &e))?;
            (expanded.text, !expanded.referred)
        };
        Ok(Field { spelled: spelled.to_owned(), name: key.name, line, text, literal })
    }

    fn reference(&self, spelled: &str, line: usize, error: &ReferenceError) -> ConfigError {
        self.error(
            line,
            match error {
                ReferenceError::Unset(name) => {
                    format!("`{spelled}` refers to the environment variable {name}, which is not set")
                }
                ReferenceError::NotText(name) => {
                    format!("`{spelled}` refers to the environment variable {name}, which is not UTF-8")
                }
                ReferenceError::Form => {
                    format!("`{spelled}` has a `${{` that names no variable; `$${{` stands for these two characters")
                }
            },
        )
    }
}

impl Schema {
    fn unknown(&self, spelled: &str) -> String {
        let place = self.table.map(|table| format!(" in [{table}]")).unwrap_or_default();
        let names: Vec<&'static str> =
            self.keys.iter().map(|key| key.name).chain(self.tables.iter().copied()).collect();
        let (others, where_to) = &self.elsewhere;
        let help = if let Some((_, key)) = self.synonyms.iter().find(|(word, _)| *word == spelled) {
            format!("did you mean `{key}`?")
        } else if others.iter().any(|key| key.name == spelled || key.aliases.contains(&spelled)) {
            format!("it belongs {where_to}")
        } else {
            let spellings: Vec<&'static str> =
                names.iter().copied().chain(self.keys.iter().flat_map(|key| key.aliases).copied()).collect();
            nearest(spelled, &spellings).map_or_else(
                || format!("the keys are {}", names.join(", ")),
                |key| format!("did you mean `{key}`?"),
            )
        };
        format!("unknown key `{spelled}`{place}; {help}")
    }
}
