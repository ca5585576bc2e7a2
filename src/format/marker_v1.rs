//! The marker `exuvia.json`: `format-spec/` section 3.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::{FORMAT_VERSION, FormatError, limits};
use crate::model::RepositoryId;

const MAGIC: &str = "exuvia-repository";

/// What a program is about to do; each has its own list of features that it must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read anything at all.
    Read,
    /// Add objects.
    Write,
    /// Judge the repository's soundness.
    Check,
    /// Remove objects.
    Delete,
}

#[derive(Debug, Default, serde::Deserialize)]
struct Features {
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    check: Vec<String>,
    #[serde(default)]
    delete: Vec<String>,
}

/// What every version of the format has in common.
#[derive(serde::Deserialize)]
struct Head {
    magic: String,
    format: u64,
}

#[derive(serde::Deserialize)]
struct Wire {
    id: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    features: Object<Features>,
}

/// A JSON object. Serde would also take an array of the fields' values in order, which the format
/// does not allow.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

/// A decoded marker.
#[derive(Debug)]
pub struct Marker {
    /// The repository's id.
    pub id: RepositoryId,
    /// When it was made, RFC 3339; only for people.
    pub created: String,
    features: Features,
}

impl Marker {
    /// The marker of a new repository.
    #[must_use]
    pub fn new(id: RepositoryId, created: String) -> Self {
        Self { id, created, features: Features::default() }
    }

    /// The bytes of `exuvia.json`.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let Features { read, write, check, delete } = &self.features;
        let json = serde_json::json!({
            "magic": MAGIC,
            "format": FORMAT_VERSION,
            "id": self.id.to_string(),
            "created": self.created,
            "features": { "read": read, "write": write, "check": check, "delete": delete },
        });
        let mut bytes = serde_json::to_vec_pretty(&json)
            .map_err(|_| FormatError::TooLarge("marker cannot be encoded"))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a marker; unknown keys are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > limits::MARKER {
            return Err(FormatError::Damaged("marker is too long"));
        }
        let text = str::from_utf8(bytes).map_err(|_| FormatError::Damaged("marker is not UTF-8"))?;
        // First what tells the version: another one may have other fields.
        let head: Head = parse(text)?;
        if head.magic != MAGIC {
            return Err(FormatError::Damaged("marker does not say exuvia-repository"));
        }
        if head.format != u64::from(FORMAT_VERSION) {
            return Err(FormatError::Unsupported(format!("repository format {}", head.format)));
        }
        let wire: Wire = parse(text)?;
        let id = wire.id.parse().map_err(|_| FormatError::Damaged("marker's id is malformed"))?;
        Ok(Self { id, created: wire.created, features: wire.features.0 })
    }

    /// Refuses features that this program does not know and `operation` needs.
    pub fn check(&self, operation: Operation) -> Result<(), FormatError> {
        let list = match operation {
            Operation::Read => &self.features.read,
            Operation::Write => &self.features.write,
            Operation::Check => &self.features.check,
            Operation::Delete => &self.features.delete,
        };
        match self.features.read.iter().chain(list).next() {
            Some(name) => Err(FormatError::Unsupported(format!(
                "feature {:?}",
                name.chars().take(64).collect::<String>()
            ))),
            None => Ok(()),
        }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, FormatError> {
    serde_json::from_str(text)
        .map(|Object(fields)| fields)
        .map_err(|_| FormatError::Damaged("marker is not the JSON expected"))
}
