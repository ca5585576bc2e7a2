//! Reads `openclaw.json`: JSON5, with `$include`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use super::ImportError;

/// One file is not larger: OpenClaw refuses larger ones, too.
const MAX_BYTES: u64 = 2 << 20;
/// Nor are all together.
const MAX_TOTAL: u64 = 16 << 20;
/// Nor are there more of them.
const MAX_FILES: usize = 256;
/// Includes within includes.
const MAX_INCLUDES: usize = 10;
/// Deepest nesting of a file.
const MAX_DEPTH: usize = 64;
const INCLUDE: &str = "$include";

/// Reads a file and what it includes.
pub(super) fn read(path: &Path) -> Result<Json, ImportError> {
    Reader { chain: Vec::new(), files: 0, bytes: 0 }.file(path)
}

struct Reader {
    /// The files that are being read, each included by the one before it.
    chain: Vec<PathBuf>,
    files: usize,
    bytes: u64,
}

impl Reader {
    fn file(&mut self, path: &Path) -> Result<Json, ImportError> {
        let refused = |what: &str| ImportError::Include { path: path.to_owned(), what: what.to_owned() };
        let read = |source| ImportError::Read { path: path.to_owned(), source };
        let real = path.canonicalize().map_err(read)?;
        if self.chain.contains(&real) {
            return Err(refused("it includes itself, by way of others or directly"));
        }
        if self.chain.len() > MAX_INCLUDES {
            return Err(refused("includes are nested more than 10 deep"));
        }
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(refused("more than 256 files are included"));
        }
        let text = text(&real).map_err(read)?;
        self.bytes += text.len() as u64;
        if self.bytes > MAX_TOTAL {
            return Err(refused("what is included is longer than 16 MiB"));
        }
        let parsed =
            parse(&text).map_err(|(line, what)| ImportError::Json { path: path.to_owned(), line, what })?;
        self.chain.push(real);
        let whole = self.resolve(parsed, path);
        self.chain.pop();
        whole
    }

    /// Puts in what is included. What stands beside an include wins over it.
    fn resolve(&mut self, value: Json, from: &Path) -> Result<Json, ImportError> {
        match value {
            Json::Array(items) => {
                let items: Result<_, _> = items.into_iter().map(|item| self.resolve(item, from)).collect();
                Ok(Json::Array(items?))
            }
            Json::Object(mut map) => {
                let include = map.remove(INCLUDE);
                let mut own = Map::new();
                for (key, value) in map {
                    own.insert(key, self.resolve(value, from)?);
                }
                let Some(include) = include else { return Ok(Json::Object(own)) };
                let included = self.included(&include, from)?;
                Ok(if own.is_empty() { included } else { merge(included, Json::Object(own)) })
            }
            other => Ok(other),
        }
    }

    /// A file, or several, each of which wins over those before it. Their paths start at the including file.
    fn included(&mut self, names: &Json, from: &Path) -> Result<Json, ImportError> {
        let folder = from.parent().unwrap_or(Path::new(""));
        match names {
            Json::String(name) => self.file(&folder.join(name)),
            Json::Array(names) => {
                let mut whole = Json::Object(Map::new());
                for name in names {
                    let one = name.as_str().ok_or_else(|| form(from))?;
                    whole = merge(whole, self.file(&folder.join(one))?);
                }
                Ok(whole)
            }
            _ => Err(form(from)),
        }
    }
}

fn form(path: &Path) -> ImportError {
    let what = "`$include` must be a path, or a list of paths".to_owned();
    ImportError::Include { path: path.to_owned(), what }
}

/// As OpenClaw does it: objects are merged, lists put together, anything else replaced.
fn merge(below: Json, above: Json) -> Json {
    match (below, above) {
        (Json::Object(mut below), Json::Object(above)) => {
            for (key, value) in above {
                let merged = match below.remove(&key) {
                    Some(old) => merge(old, value),
                    None => value,
                };
                below.insert(key, merged);
            }
            Json::Object(below)
        }
        (Json::Array(mut below), Json::Array(above)) => {
            below.extend(above);
            Json::Array(below)
        }
        (_, above) => above,
    }
}

fn text(path: &Path) -> io::Result<Zeroizing<String>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 2 MiB"));
    }
    Ok(text)
}

/// The value, or line and reason. The reason holds nothing of the file, in which there are secrets.
pub(super) fn parse(text: &str) -> Result<Json, (usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    json5::from_str::<Root>(text).map(|root| root.0).map_err(|e| {
        let line = e.position().map_or(1, |position| position.line + 1);
        let what = e.code().map_or_else(|| "it is nested too deeply".to_owned(), |code| code.to_string());
        (line, what)
    })
}

/// A whole file.
struct Root(Json);

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(MAX_DEPTH).deserialize(deserializer).map(Root)
    }
}

/// A value that may be nested so deep yet: the parser recurses, and its stack has an end.
#[derive(Clone, Copy)]
struct Nested(usize);

impl Nested {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.inner::<A::Error>()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            map.insert(key, access.next_value_seed(inner)?);
        }
        Ok(Json::Object(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    #[test]
    fn json5_is_read_as_its_authors_write_it() {
        let text = "\u{feff}// agent\n{ a: 'x', \"b\": [1, -2.5, +3, 0x10, .5,], /* c */ c: { d: null, e: true, }, \
                    f: 'two \\\nlines', g: Infinity, h: 86400, a: \"\\u0041\" }\n";
        let want = json!({
            "a": "A", "b": [1, -2.5, 3, 16, 0.5], "c": {"d": null, "e": true}, "f": "two lines", "g": null, "h": 86400
        });
        assert_eq!(parse(text), Ok(want));
    }

    #[test]
    fn what_is_none_is_refused_without_repeating_it() {
        for text in ["", "{", "{a: 'hunter2\n'}", "{a 'hunter2'}", "{} hunter2", "\n\n{hunter2: hunter2}"] {
            let (line, what) = parse(text).unwrap_err();
            assert!(!what.contains("hunter2") && (1..=3).contains(&line), "{text}: {line} {what}");
        }
        assert_eq!(parse("\n\n{\n a: nonsense}").unwrap_err().0, 4);
        for (open, close) in [("[", "]"), ("{a:", "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert!(parse(&nested(MAX_DEPTH)).is_ok());
            let (_, what) = parse(&nested(MAX_DEPTH + 1)).unwrap_err();
            assert_eq!(what, "it is nested too deeply");
            assert!(parse(&open.repeat(1 << 20)).is_err());
        }
    }

    fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let path = dir.path().join(files[0].0);
        (dir, path)
    }

    #[test]
    fn includes_are_merged_below_what_stands_beside_them() {
        let (_dir, path) = files(&[
            (
                "openclaw.json",
                "{ $include: ['base.json5', './sub/more.json'], a: {x: 1}, list: [3], p: {$include: 'p.json'} }",
            ),
            ("base.json5", "{ a: {x: 0, y: 0}, list: [1], b: 'base' }"),
            ("sub/more.json", "{ \"$include\": \"deep.json\", list: [2], b: 'more' }"),
            ("sub/deep.json", "{ d: true, b: 'deep' }"),
            ("p.json", "[1, 2]"),
        ]);
        let want = json!({"a": {"x": 1, "y": 0}, "list": [1, 2, 3], "b": "more", "d": true, "p": [1, 2]});
        assert_eq!(read(&path).unwrap(), want);
    }

    #[test]
    fn includes_end() {
        let (dir, path) =
            files(&[("a", "{$include: 'b'}"), ("b", "{x: {$include: './c'}}"), ("c", "{$include: 'a'}")]);
        assert!(read(&path).unwrap_err().to_string().contains("includes itself"));
        // One file may be included twice, as long as that ends.
        let (_dir, path2) = files(&[("a", "{x: {$include: 'b'}, y: {$include: 'b'}}"), ("b", "{z: 1}")]);
        assert_eq!(read(&path2).unwrap(), json!({"x": {"z": 1}, "y": {"z": 1}}));
        for (text, want) in [
            ("{$include: 'none'}", "cannot read"),
            ("{$include: 3}", "must be a path"),
            ("{$include: [3]}", "must be a path"),
            ("{$include: '.'}", "no regular file"),
            ("{$include: '/dev/zero'}", "no regular file"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        for depth in [MAX_INCLUDES, MAX_INCLUDES + 1] {
            for i in 0..depth {
                std::fs::write(dir.path().join(format!("{i}")), format!("{{$include: '{}'}}", i + 1))
                    .unwrap();
            }
            std::fs::write(dir.path().join(depth.to_string()), "{x: 1}").unwrap();
            assert_eq!(read(&dir.path().join("0")).is_ok(), depth == MAX_INCLUDES);
        }
        let many = vec!["'b'"; MAX_FILES].join(",");
        let (_dir, path) = files(&[("a", &format!("{{$include: [{many}]}}")), ("b", "{}")]);
        assert!(read(&path).unwrap_err().to_string().contains("more than 256 files"));
        std::fs::write(&path, " ".repeat((2 << 20) + 1)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("longer than 2 MiB"));
    }
}
