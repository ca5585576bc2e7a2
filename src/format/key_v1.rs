//! Key objects: `format-spec/` section 4.

use zeroize::Zeroizing;

use super::record::{self, Extensions, List, Text};
use super::varint::Cursor;
use super::{FORMAT_VERSION, FormatError, limits};
use crate::crypto::{self, MasterKey, Passphrase, ScryptParams};
use crate::model::RepositoryId;

const MAGIC: &[u8; 8] = b"EXUVIKEY";
const KDF_SCRYPT: u8 = 1;
/// Bytes before the nonce: what the wrapped bundle is bound to.
const BOUND: usize = 80;
const FIXED: usize = 108;

/// What a key object protects.
pub struct Bundle {
    /// The master key.
    pub master: MasterKey,
    /// When this key object was made, seconds since 1970.
    pub created: i64,
    /// Free text for listings.
    pub label: String,
}

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    version: u8,
    repository: [u8; 16],
    master: [u8; 32],
    created: i64,
    label: Text,
    extensions: Extensions,
}

/// The random values of a key object; tests fix them.
pub struct Randomness {
    /// Salt of the key derivation.
    pub salt: [u8; 32],
    /// Nonce of the wrapping.
    pub nonce: [u8; 24],
}

impl Randomness {
    /// Fresh values.
    pub fn generate() -> Result<Self, FormatError> {
        Ok(Self { salt: crypto::random()?, nonce: crypto::random()? })
    }
}

/// Wraps a bundle under a passphrase.
pub fn seal(
    bundle: &Bundle,
    repository: RepositoryId,
    passphrase: &Passphrase,
    params: ScryptParams,
    random: &Randomness,
) -> Result<Vec<u8>, FormatError> {
    let stretched = crypto::stretch(passphrase, &random.salt, params)?;
    let wire = Wire {
        version: FORMAT_VERSION,
        repository: repository.0,
        master: bundle.master.0,
        created: bundle.created,
        label: Text(bundle.label.clone()),
        extensions: List::default(),
    };
    let plain = Zeroizing::new(record::encode(&wire)?);
    let mut out = Vec::with_capacity(FIXED + plain.len() + crypto::TAG);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[FORMAT_VERSION, KDF_SCRYPT, params.log_n, params.r, params.p, 0, 0, 0]);
    out.extend_from_slice(&random.salt);
    out.extend_from_slice(&stretched.commitment());
    let wrapped = crypto::wrap(&stretched.kek, &random.nonce, &bound(&out, repository), &plain)?;
    out.extend_from_slice(&random.nonce);
    let len = u32::try_from(wrapped.len()).map_err(|_| FormatError::TooLarge("key label"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&wrapped);
    if out.len() > limits::KEY_OBJECT { Err(FormatError::TooLarge("key label")) } else { Ok(out) }
}

/// Opens a key object. [`FormatError::WrongKey`] means that the passphrase is another one's.
pub fn open(bytes: &[u8], repository: RepositoryId, passphrase: &Passphrase) -> Result<Bundle, FormatError> {
    if bytes.len() > limits::KEY_OBJECT {
        return Err(FormatError::Damaged("key object is too long"));
    }
    let mut cursor = Cursor::new(bytes);
    if &cursor.array::<8>()? != MAGIC {
        return Err(FormatError::Damaged("not a key object"));
    }
    let [version, kdf, log_n, r, p, zeros @ ..] = cursor.array::<8>()?;
    if version != FORMAT_VERSION {
        return Err(FormatError::Unsupported(format!("key object version {version}")));
    }
    if kdf != KDF_SCRYPT {
        return Err(FormatError::Unsupported(format!("key derivation {kdf}")));
    }
    if zeros != [0; 3] {
        return Err(FormatError::Damaged("key object's reserved bytes are not zero"));
    }
    let params = ScryptParams { log_n, r, p }.check()?;
    let salt = cursor.array()?;
    let commitment = cursor.array()?;
    let nonce = cursor.array()?;
    let len = u32::from_le_bytes(cursor.array()?) as usize;
    let wrapped = cursor.take(len)?;
    cursor.end()?;

    let stretched = crypto::stretch(passphrase, &salt, params)?;
    if !stretched.commits_to(&commitment) {
        return Err(FormatError::WrongKey);
    }
    let plain = crypto::unwrap(&stretched.kek, &nonce, &bound(&bytes[..BOUND], repository), wrapped)?;
    // Before the rest is decoded: another version may have other fields.
    if let Some(&version) = plain.first().filter(|&&version| version != FORMAT_VERSION) {
        return Err(FormatError::Unsupported(format!("key bundle version {version}")));
    }
    let mut wire: Wire = record::decode(&plain)?;
    let master = MasterKey::from_bytes(std::mem::take(&mut wire.master));
    if wire.repository != repository.0 {
        return Err(FormatError::Damaged("key belongs to another repository"));
    }
    record::check_extensions(&wire.extensions)?;
    Ok(Bundle { master, created: wire.created, label: wire.label.0 })
}

/// The cost of opening a key object, log2 of scrypt's N, as far as its header tells.
#[must_use]
pub fn cost(bytes: &[u8]) -> Option<u8> {
    // After the magic, the version and the kind of derivation.
    bytes.get(MAGIC.len() + 2).copied()
}

fn bound(head: &[u8], repository: RepositoryId) -> Vec<u8> {
    [head, &repository.0].concat()
}
