//! An object of a plugin's block, whose keys are taken out one by one: what is left is unknown.

use serde_json::{Map, Value as Json};

use super::text::Text;
use super::{Fate, Report};

/// An object with its place in the block.
pub(super) struct Block {
    /// Stands before its keys: empty, or with a dot at its end.
    above: String,
    map: Map<String, Json>,
}

impl Block {
    pub(super) fn new(above: &str, map: Map<String, Json>) -> Self {
        Self { above: above.to_owned(), map }
    }

    /// What a key is called in the report.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.above)
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        // Nobody says anything with null.
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// A value that stays in it.
    pub(super) fn peek(&self, key: &str) -> Option<&Json> {
        self.map.get(key)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Json> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// An object in it.
    pub(super) fn object(&mut self, key: &str, report: &mut Report) -> Option<Self> {
        let name = self.name(key);
        match self.take(key)? {
            Json::Object(map) => Some(Self::new(&format!("{name}."), map)),
            _ => {
                report.wrong(&name, "it is no object");
                None
            }
        }
    }

    /// A text; an empty one says nothing.
    pub(super) fn text(&mut self, key: &str, report: &mut Report) -> Option<Text> {
        let value = self.take(key)?;
        match Text::of(&value) {
            Ok(text) if text.is_empty() => {
                report.unneeded(&self.name(key), "it is empty");
                None
            }
            Ok(text) => Some(text),
            Err(what) => {
                report.wrong(&self.name(key), what);
                None
            }
        }
    }

    /// One of the plugin's own words, in which no variable can be followed.
    pub(super) fn word(&mut self, key: &str, report: &mut Report) -> Option<String> {
        let text = self.text(key, report)?;
        let word = text.plain().map(str::to_owned);
        if word.is_none() {
            report.wrong(&self.name(key), "a variable cannot be followed here");
        }
        word
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &str, report: &mut Report) -> Option<i64> {
        let value = self.take(key)?;
        #[expect(clippy::cast_possible_truncation, reason = "bounded before")]
        let whole = value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| n as i64);
        if whole.is_none() {
            report.wrong(&self.name(key), "it is no whole number");
        }
        whole
    }

    /// A switch.
    pub(super) fn switch(&mut self, key: &str, report: &mut Report) -> Option<bool> {
        let value = self.take(key)?;
        if value.as_bool().is_none() {
            report.wrong(&self.name(key), "it is neither true nor false");
        }
        value.as_bool()
    }

    /// A list of texts without variables.
    pub(super) fn list(&mut self, key: &str, report: &mut Report) -> Option<Vec<String>> {
        let items = match self.take(key)? {
            Json::Array(items) => items,
            one @ Json::String(_) => vec![one],
            _ => {
                report.wrong(&self.name(key), "it is no list of texts");
                return None;
            }
        };
        let mut found = Vec::new();
        for item in items {
            match Text::of(&item).ok().and_then(|text| text.plain().map(str::to_owned)) {
                Some(text) if !text.is_empty() => found.push(text),
                Some(_) => {}
                None => report.wrong(&self.name(key), "one of its values is no plain text"),
            }
        }
        Some(found)
    }

    /// All of its keys in an object of options.
    pub(super) fn rest(&mut self) -> Vec<(String, Json)> {
        std::mem::take(&mut self.map).into_iter().collect()
    }

    /// Answers for what nobody took: `known` keys, and the others.
    pub(super) fn finish(self, known: &[&str], fate: Fate, words: &str, report: &mut Report) {
        for (key, value) in self.map {
            let name = format!("{}{key}", self.above);
            if known.contains(&key.as_str()) {
                // Each of the keys in it is one of the plugin's.
                match value {
                    Json::Object(map) if !map.is_empty() => {
                        map.keys()
                            .for_each(|inner| report.say(&format!("{name}.{inner}"), fate, None, words));
                    }
                    _ => report.say(&name, fate, None, words),
                }
            } else {
                report.say(&name, Fate::Unknown, None, "no known release of the plugin has it");
            }
        }
    }
}
