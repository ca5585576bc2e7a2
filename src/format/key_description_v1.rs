//! What a key object says of itself to every holder of the master key: `format-spec/` section 4.4.

use super::key_v1::{NONCE, Parts, take_apart};
use super::record::{self, Extensions, List, Text};
use super::{FORMAT_VERSION, FormatError, limits};
use crate::crypto::{self, MasterKey};
use crate::model::RepositoryId;

/// Who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// It opens everything.
    Owner,
    /// It adds snapshots and reads none.
    Writer,
}

/// What a key object says of itself to every holder of the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What its bundle is.
    pub kind: KeyKind,
    /// When the key object was made, seconds since 1970.
    pub created: i64,
    /// Free text for listings.
    pub label: String,
}

#[derive(bincode::Encode, bincode::Decode)]
struct DescriptionWire {
    version: u8,
    kind: u8,
    created: i64,
    label: Text,
    extensions: Extensions,
}

/// Appends a description to a key object that has none.
pub fn append(
    object: &mut Vec<u8>,
    repository: RepositoryId,
    master: &MasterKey,
    description: &Description,
    nonce: &[u8; NONCE],
) -> Result<(), FormatError> {
    let wire = DescriptionWire {
        version: FORMAT_VERSION,
        kind: match description.kind {
            KeyKind::Owner => 0,
            KeyKind::Writer => 1,
        },
        created: description.created,
        label: Text(description.label.clone()),
        extensions: List::default(),
    };
    let aad = described(object, repository);
    let sealed = crypto::wrap(&master.description_key(), nonce, &aad, &record::encode(&wire)?)?;
    let len = u32::try_from(sealed.len()).map_err(|_| FormatError::TooLarge("key label"))?;
    object.extend_from_slice(nonce);
    object.extend_from_slice(&len.to_le_bytes());
    object.extend_from_slice(&sealed);
    if object.len() > limits::KEY_OBJECT { Err(FormatError::TooLarge("key label")) } else { Ok(()) }
}

/// Reads the description of a key object. `None` when there is none: older programs wrote none.
pub fn read(
    bytes: &[u8],
    repository: RepositoryId,
    master: &MasterKey,
) -> Result<Option<Description>, FormatError> {
    let Parts { body, description: Some((nonce, sealed)), .. } = take_apart(bytes)? else { return Ok(None) };
    let aad = described(&bytes[..body], repository);
    let plain = crypto::unwrap(&master.description_key(), &nonce, &aad, sealed)?;
    if let Some(&version) = plain.first().filter(|&&version| version != FORMAT_VERSION) {
        return Err(FormatError::Unsupported(format!("key description version {version}")));
    }
    let wire: DescriptionWire = record::decode(&plain)?;
    record::check_extensions(&wire.extensions)?;
    let kind = match wire.kind {
        0 => KeyKind::Owner,
        1 => KeyKind::Writer,
        other => return Err(FormatError::Unsupported(format!("key of kind {other}"))),
    };
    Ok(Some(Description { kind, created: wire.created, label: wire.label.0 }))
}

/// What a description is bound to: the whole object before it.
fn described(body: &[u8], repository: RepositoryId) -> Vec<u8> {
    [&crypto::sha256(body)[..], &repository.0].concat()
}
