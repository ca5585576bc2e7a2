//! Reads the tables of the configuration file into fields, and says with its line what is wrong.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use zeroize::Zeroizing;

use super::error::nearest;
use super::values::{ReferenceError, expand, references};
use super::{ConfigError, Environment};

/// More values than these are no list that anybody wrote.
const LONGEST_LIST: usize = 1000;

/// How a key may be spelled that is known, what its value may be, and what the page of all keys says of it.
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
    /// Several texts; one alone will do.
    pub(super) list: bool,
    /// What the page of all keys says of it.
    pub(super) doc: Doc,
}

/// What users read of a key. Here, and nowhere else: the page of all keys, the file that is written for
/// them, and `config show` take it from here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doc {
    /// What it is for, in one line.
    pub(super) about: &'static str,
    /// What holds without it; empty for nothing.
    pub(super) default: &'static str,
    /// Which values it takes, with unit and range.
    pub(super) takes: &'static str,
    /// A value as it would stand in the file.
    pub(super) example: &'static str,
}

impl Doc {
    const NONE: Self = Self { about: "", default: "", takes: "", example: "" };
}

impl Key {
    /// A key of a text that is not empty.
    pub(super) const fn text(name: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            number: false,
            switch: false,
            may_be_empty: false,
            raw: false,
            list: false,
            doc: Doc::NONE,
        }
    }

    /// A key of a text that a shell will read.
    pub(super) const fn command(name: &'static str) -> Self {
        Self { raw: true, ..Self::text(name) }
    }

    /// A key of several texts.
    pub(super) const fn list(name: &'static str) -> Self {
        Self { list: true, ..Self::text(name) }
    }

    /// Documents it.
    pub(super) const fn says(
        self,
        about: &'static str,
        takes: &'static str,
        default: &'static str,
        example: &'static str,
    ) -> Self {
        Self { doc: Doc { about, default, takes, example }, ..self }
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
    /// What the page of all keys says of it.
    pub(super) about: &'static str,
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
    /// Of a list, all of its values, with commas between them.
    pub(super) text: Zeroizing<String>,
    /// The values of a list.
    pub(super) items: Vec<Zeroizing<String>>,
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

    /// Takes a field out, and understands its text.
    pub(super) fn read<T, E: std::fmt::Display>(
        &mut self,
        reader: &Reader<'_>,
        name: &str,
        understand: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(field) = self.take(name) else { return Ok(None) };
        let value = understand(&field.text);
        value.map(Some).map_err(|what| reader.error(field.line, format!("`{}` {what}", field.spelled)))
    }
}

/// The file while it is read.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    env: &'a Environment,
    /// The variables that it refers to, as far as it was read.
    variables: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str, env: &'a Environment) -> Self {
        Self { path, text, env, variables: RefCell::default() }
    }

    /// The variables that the file refers to, once it was read.
    pub(super) fn variables(self) -> Vec<String> {
        self.variables.into_inner().into_iter().collect()
    }
}

impl Reader<'_> {
    pub(super) fn error(&self, line: usize, message: impl Into<String>) -> ConfigError {
        ConfigError::Line { path: self.path.to_owned(), line, message: message.into() }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text.as_bytes().iter().take(span.start).filter(|&&byte| byte == b'\n').count()
    }

    /// A path of the file: `~/` is the home directory, and relative ones start at the file's folder.
    pub(super) fn local(&self, value: &str) -> PathBuf {
        match (value.strip_prefix("~/"), self.env.home()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.path.parent().unwrap_or(Path::new("")).join(value),
        }
    }

    /// Reads a table in which only known keys may stand.
    pub(super) fn table<'t, 'i>(
        &self,
        table: &'t DeTable<'i>,
        schema: &Schema,
    ) -> Result<Fields<'t, 'i>, ConfigError> {
        let mut found = Fields::default();
        for (key, value) in in_order(table) {
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
        const ANY: Key = Key { may_be_empty: true, switch: true, ..Key::number("") };
        let mut found = self.open(table, &ANY, |name| {
            // It becomes part of the name of a variable.
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let good = !name.is_empty() && name.chars().all(good);
            (!good).then_some(
                "cannot be an option of rclone; they are spelled as in rclone.conf, such as `chunk_size`",
            )
        })?;
        for (field, value) in found.iter_mut().zip(in_order(table)) {
            if let DeValue::Boolean(on) = value.1.get_ref() {
                // In rclone's words.
                field.text = Zeroizing::new(on.to_string());
            }
        }
        Ok(found)
    }

    /// Reads a table in which any name may stand of which `refuse` has nothing bad to say.
    pub(super) fn open(
        &self,
        table: &DeTable<'_>,
        key: &Key,
        refuse: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Vec<Field>, ConfigError> {
        let mut found = Vec::new();
        for (name, value) in in_order(table) {
            let (line, name) = (self.line(&name.span()), name.get_ref().as_ref());
            if let Some(what) = refuse(name) {
                return Err(self.error(line, format!("`{name}` {what}")));
            }
            found.push(self.field(name, key, line, value.get_ref())?);
        }
        Ok(found)
    }

    /// The values of a list.
    fn list(
        &self,
        spelled: &str,
        key: &Key,
        line: usize,
        array: &[Spanned<DeValue<'_>>],
    ) -> Result<Field, ConfigError> {
        let wrong = || self.error(line, format!("`{spelled}` must be a list of texts that are not empty"));
        if array.len() > LONGEST_LIST {
            return Err(self.error(line, format!("`{spelled}` has more than {LONGEST_LIST} values")));
        }
        let mut items = Vec::new();
        for value in array {
            let DeValue::String(text) = value.get_ref() else { return Err(wrong()) };
            items.push(self.put_in(spelled, key, self.line(&value.span()), text)?);
        }
        let literal = items.iter().all(|(_, literal)| *literal);
        let items: Vec<_> = items.into_iter().map(|(text, _)| text).collect();
        if items.iter().any(|text| text.is_empty()) {
            return Err(wrong());
        }
        let text = Zeroizing::new(items.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(", "));
        Ok(Field { spelled: spelled.to_owned(), name: key.name, line, text, items, literal })
    }

    /// The text with what its references stand for, and whether it has none.
    fn put_in(
        &self,
        spelled: &str,
        key: &Key,
        line: usize,
        text: &str,
    ) -> Result<(Zeroizing<String>, bool), ConfigError> {
        if key.raw {
            return Ok((Zeroizing::new(text.to_owned()), true));
        }
        let expanded = expand(text, self.env).map_err(|e| self.reference(spelled, line, &e))?;
        self.variables.borrow_mut().extend(references(text));
        Ok((expanded.text, !expanded.referred))
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
            DeValue::Array(array) if key.list => return self.list(spelled, key, line, array),
            // Where a number limits something, `false` is no limit; whether there can be none, its reader says.
            DeValue::Boolean(false) if key.number => "off",
            _ => {
                let wanted = match (key.number, key.may_be_empty) {
                    (true, _) => "a text or a number",
                    (_, true) => "a text",
                    _ if key.switch => "true or false",
                    _ if key.list => "a list of texts that are not empty",
                    _ => "a text that is not empty",
                };
                return Err(self.error(line, format!("`{spelled}` must be {wanted}")));
            }
        };
        let (text, literal) = self.put_in(spelled, key, line, text)?;
        let items = if key.list { vec![text.clone()] } else { Vec::new() };
        Ok(Field { spelled: spelled.to_owned(), name: key.name, line, text, items, literal })
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

type Row<'t, 'i> = (&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>);

/// The keys of a table as they stand in the file: what is wrong first is told first.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Row<'t, 'i>> {
    let mut rows: Vec<_> = table.iter().collect();
    rows.sort_by_key(|(key, _)| key.span().start);
    rows
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
