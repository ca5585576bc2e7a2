//! What a key object says of itself to every holder of the master key: `format-spec/` section 4.4.

use super::key_v1::{NONCE, Parts, take_apart};
use super::record::{self, Bytes, Extension, Extensions, List, Text};
use super::{FORMAT_VERSION, FormatError, limits};
use crate::crypto::{self, FINGERPRINT, MasterKey};
use crate::model::{RepositoryId, WriterKeyId};

/// Who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// It opens everything.
    Owner,
    /// It adds snapshots and reads none.
    Writer,
    /// Nobody: a rotation that has begun, and that must be the only one of its generation.
    Claim,
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
    /// Of the newest master key that its bundle has, or was made from: two of one generation that differ here open
    /// different things. `None` where an older program made the object, and for a claim.
    pub fingerprint: Option<[u8; FINGERPRINT]>,
    /// The id by which snapshots name the writer key. `None` for other kinds, and where an older program made it.
    pub writer: Option<WriterKeyId>,
}

/// Tag of the extension that holds the fingerprint.
const FINGERPRINT_TAG: u16 = 1;
/// Tag of the extension that holds the writer key's id.
const WRITER_TAG: u16 = 2;

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
            KeyKind::Claim => 2,
        },
        created: description.created,
        label: Text(description.label.clone()),
        extensions: extensions(description),
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
    read_with(bytes, repository, &master.description_key())
}

/// The same by the key of descriptions.
pub fn read_with(
    bytes: &[u8],
    repository: RepositoryId,
    key: &[u8; 32],
) -> Result<Option<Description>, FormatError> {
    let Parts { body, description: Some((nonce, sealed)), .. } = take_apart(bytes)? else { return Ok(None) };
    let aad = described(&bytes[..body], repository);
    let plain = crypto::unwrap(key, &nonce, &aad, sealed)?;
    if let Some(&version) = plain.first().filter(|&&version| version != FORMAT_VERSION) {
        return Err(FormatError::Unsupported(format!("key description version {version}")));
    }
    let wire: DescriptionWire = record::decode(&plain)?;
    let [fingerprint, writer] = record::known_extensions(&wire.extensions, [FINGERPRINT_TAG, WRITER_TAG])?;
    let kind = match wire.kind {
        0 => KeyKind::Owner,
        1 => KeyKind::Writer,
        2 => KeyKind::Claim,
        other => return Err(FormatError::Unsupported(format!("key of kind {other}"))),
    };
    Ok(Some(Description {
        kind,
        created: wire.created,
        label: wire.label.0,
        fingerprint: fingerprint.map(exactly).transpose()?,
        writer: writer.map(exactly).transpose()?.map(WriterKeyId),
    }))
}

fn extensions(description: &Description) -> Extensions {
    let fingerprint = description.fingerprint.map(|bytes| (FINGERPRINT_TAG, bytes.to_vec()));
    let writer = description.writer.map(|id| (WRITER_TAG, id.0.to_vec()));
    let optional = |(tag, value)| Extension { tag, required: false, value: Bytes(value) };
    List(fingerprint.into_iter().chain(writer).map(optional).collect())
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], FormatError> {
    value.try_into().map_err(|_| FormatError::Damaged("an extension of a key description has another length"))
}

/// What a description is bound to: the whole object before it.
fn described(body: &[u8], repository: RepositoryId) -> Vec<u8> {
    [&crypto::sha256(body)[..], &repository.0].concat()
}
