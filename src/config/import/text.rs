//! Texts of `openclaw.json`, in which `${NAME}` stands for a variable.

use serde_json::Value as Json;

use crate::config::Environment;
use crate::config::draft::Value;
use crate::model::Secret;

/// A piece of a text.
#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(String),
}

/// A text of OpenClaw's configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Text(Vec<Part>);

impl Text {
    /// The text of a value: a string, or an object that names a variable as OpenClaw's own secrets do.
    pub(super) fn of(value: &Json) -> Result<Self, &'static str> {
        match value {
            Json::String(text) => Self::parse(text),
            Json::Object(map) => {
                let word = |key: &str| map.get(key).and_then(Json::as_str);
                match (word("source"), word("id")) {
                    (Some("env"), Some(name)) if is_variable(name) => {
                        Ok(Self(vec![Part::Variable(name.to_owned())]))
                    }
                    (Some(_), _) => Err("a secret that is not in the environment cannot be followed"),
                    _ => Err("it is no text"),
                }
            }
            _ => Err("it is no text"),
        }
    }

    /// OpenClaw knows `${NAME}` with capitals only, and `$${NAME}` for what is no reference.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut out = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push(before);
            let (escaped, inner) = match after.strip_prefix("${") {
                Some(inner) => (true, Some(inner)),
                None => (false, after.strip_prefix('{')),
            };
            let reference = inner.and_then(|inner| inner.split_once('}'));
            match reference {
                Some((name, after)) if is_variable(name) => {
                    if escaped {
                        out.push(&format!("${{{name}}}"));
                    } else {
                        out.0.push(Part::Variable(name.to_owned()));
                    }
                    rest = after;
                }
                Some((name, _)) if name.starts_with("pass:") || name.starts_with("gopass:") => {
                    return Err("a reference to a password store cannot be followed; use passphrase_command");
                }
                _ => {
                    out.push("$");
                    rest = after;
                }
            }
        }
        out.push(rest);
        Ok(out)
    }

    fn push(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Literal(last)) => last.push_str(text),
            _ => self.0.push(Part::Literal(text.to_owned())),
        }
    }

    /// A text that means itself.
    pub(super) fn literal(text: &str) -> Self {
        let mut out = Self::default();
        out.push(text);
        out
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, when no variable is in it.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// This folder below that one; either may be empty.
    pub(super) fn below(self, folder: &Self) -> Self {
        let mut out = folder.clone().without_slashes();
        let own = self.without_slashes();
        if !out.is_empty() && !own.is_empty() {
            out.push("/");
        }
        for part in own.0 {
            match part {
                Part::Literal(text) => out.push(&text),
                variable @ Part::Variable(_) => out.0.push(variable),
            }
        }
        out
    }

    /// `NAME:PATH`, with this as the path.
    pub(super) fn after_remote(self, name: &str) -> Self {
        let mut out = Self::literal(&format!("{name}:"));
        for part in self.0 {
            match part {
                Part::Literal(text) => out.push(&text),
                variable @ Part::Variable(_) => out.0.push(variable),
            }
        }
        out
    }

    /// Without slashes at its ends.
    pub(super) fn without_slashes(mut self) -> Self {
        if let Some(Part::Literal(text)) = self.0.first_mut() {
            *text = text.trim_start_matches('/').to_owned();
        }
        if let Some(Part::Literal(text)) = self.0.last_mut() {
            *text = text.trim_end_matches('/').to_owned();
        }
        self.0.retain(|part| *part != Part::Literal(String::new()));
        self
    }

    /// What comes before the first slash, and what comes after it.
    pub(super) fn split(self) -> (Self, Self) {
        let mut parts = self.without_slashes().0.into_iter();
        let (mut first, mut rest) = (Self::default(), Self::default());
        for part in parts.by_ref() {
            match part {
                Part::Literal(text) => match text.split_once('/') {
                    Some((before, after)) => {
                        first.push(before);
                        rest.push(after);
                        break;
                    }
                    None => first.push(&text),
                },
                variable @ Part::Variable(_) => first.0.push(variable),
            }
        }
        rest.0.extend(parts);
        (first, rest)
    }

    /// The text with the values of its variables, where all of them are set.
    pub(super) fn resolved(&self, env: &Environment) -> Option<String> {
        let part = |part: &Part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Variable(name) => env.get(name)?.into_string().ok(),
        };
        self.0.iter().map(part).collect()
    }

    /// The variables in it.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// For the configuration file.
    pub(super) fn value(&self) -> Value {
        if let Some(text) = self.plain() {
            return Value::text(text);
        }
        let part = |part: &Part| match part {
            Part::Literal(text) => text.replace('$', "$$"),
            Part::Variable(name) => format!("${{{name}}}"),
        };
        Value::Expression(Secret::new(self.0.iter().map(part).collect()))
    }

    /// A shell command that prints it, and fails when a variable is not set.
    pub(super) fn command(&self) -> String {
        let word = |part: &Part| match part {
            Part::Literal(text) => format!("'{}'", text.replace('\'', "'\\''")),
            Part::Variable(name) => format!("\"${{{name}:?is not set}}\""),
        };
        format!("printf %s {}", self.0.iter().map(word).collect::<String>())
    }
}

/// As OpenClaw has it.
fn is_variable(name: &str) -> bool {
    let word = |c: char| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit();
    name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> Text {
        Text::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_text_keeps_its_meaning() {
        for (openclaw, want) in [
            ("plain", Value::text("plain")),
            ("a$b$$", Value::text("a$b$$")),
            ("${lower} ${}", Value::text("${lower} ${}")),
            ("$${A}", Value::text("${A}")),
            ("${A_1}", Value::expression("${A_1}")),
            ("x$${A}$y/${B}", Value::expression("x$${A}$$y/${B}")),
            ("${A", Value::text("${A")),
            ("", Value::text("")),
        ] {
            assert_eq!(text(openclaw).value(), want, "{openclaw}");
        }
        assert_eq!(
            Text::of(&json!({"source": "env", "id": "K"})).unwrap().value(),
            Value::expression("${K}")
        );
        for other in [json!(3), json!({"source": "file", "id": "x"}), json!("${pass:a/b}"), json!({})] {
            assert!(Text::of(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn folders_are_put_together() {
        for (folder, own, want) in
            [("", "", ""), ("/a/", "", "a"), ("", "b/", "b"), ("a//", "/b", "a/b"), ("${A}", "x", "${A}/x")]
        {
            let whole = text(own).below(&text(folder));
            assert!(whole == text(want), "{folder} {own}");
        }
        for (whole, first, rest) in
            [("b", "b", ""), ("/b/c/d", "b", "c/d"), ("${B}/x${C}", "${B}", "x${C}"), ("a${B}", "a${B}", "")]
        {
            let (one, two) = text(whole).split();
            assert!(one == text(first) && two == text(rest), "{whole}");
        }
    }

    #[test]
    fn a_shell_prints_it() {
        let run = |openclaw: &str, set: bool| {
            let mut shell = std::process::Command::new("sh");
            shell.env_clear().args(["-c", &text(openclaw).command()]);
            if set {
                shell.env("P", "a b'\"$");
            }
            let output = shell.output().unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        };
        assert_eq!(run("${P}", true).as_deref(), Some("a b'\"$"));
        assert_eq!(run("it's $${P}: ${P}!", true).as_deref(), Some("it's ${P}: a b'\"$!"));
        assert_eq!(run("${P}", false), None);
    }
}
