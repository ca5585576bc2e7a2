//! The marker `exuvia.json`: `format-spec/` section 3.

use serde::{Deserialize, Serialize};

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

#[derive(Debug, Default, Serialize, Deserialize)]
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

#[derive(Serialize, Deserialize)]
struct Wire {
    magic: String,
    format: u64,
    id: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    features: Features,
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
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|_| FormatError::Damaged("marker is not the JSON expected"))?;
        if wire.magic != MAGIC {
            return Err(FormatError::Damaged("marker does not say exuvia-repository"));
        }
        if wire.format != u64::from(FORMAT_VERSION) {
            return Err(FormatError::Unsupported(format!("repository format {}", wire.format)));
        }
        let id = wire.id.parse().map_err(|_| FormatError::Damaged("marker's id is malformed"))?;
        Ok(Self { id, created: wire.created, features: wire.features })
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
