//! Key objects: `format-spec/` section 4.

use zeroize::{Zeroize, Zeroizing};

use super::record::{self, Bytes, Extension, Extensions, List, Text};
use super::varint::Cursor;
use super::{FORMAT_VERSION, FormatError, limits};
use crate::crypto::{
    self, Keyring, MasterKey, Masters, Naming, Passphrase, ScryptParams, WriterIdentity, WriterKeys,
};
use crate::model::RepositoryId;

const MAGIC: &[u8; 8] = b"EXUVIKEY";
const KDF_SCRYPT: u8 = 1;
/// Bytes before the nonce: what the wrapped bundle is bound to.
const BOUND: usize = 80;
const FIXED: usize = 108;
/// Bytes of a nonce.
pub const NONCE: usize = 24;
/// Random bytes of a claim: salt, commitment, nonce, and 32 in the place of a bundle.
pub const CLAIM: usize = FIXED - 16 - 4 + 32;

/// What a key object protects.
#[derive(Clone)]
pub struct Bundle {
    /// The keys.
    pub secrets: Secrets,
    /// When this key object was made, seconds since 1970.
    pub created: i64,
    /// Free text for listings.
    pub label: String,
}

/// The keys of a bundle: what its holder may do.
#[derive(Clone)]
pub enum Secrets {
    /// Opens everything.
    Owner(Masters),
    /// Adds snapshots and reads none.
    Writer(Box<WriterKeys>),
}

impl Bundle {
    /// The sub-keys.
    #[must_use]
    pub fn keyring(&self) -> Keyring {
        match &self.secrets {
            Secrets::Owner(masters) => Keyring::of_owner(masters),
            Secrets::Writer(keys) => Keyring::of_writer(keys),
        }
    }

    /// The newest key generation that it has.
    #[must_use]
    pub fn generation(&self) -> u8 {
        match &self.secrets {
            Secrets::Owner(masters) => masters.generation(),
            Secrets::Writer(keys) => keys.generation(),
        }
    }
}

/// Bundle version of an owner.
const OWNER: u8 = 1;
/// Bundle version of a writer.
const WRITER: u8 = 2;
/// Tag of the extension that holds the later master keys of an owner.
const LATER: u16 = 1;
/// Later master keys, at most.
const MAX_LATER: usize = 255;

#[derive(bincode::Encode, bincode::Decode)]
struct OwnerWire {
    version: u8,
    repository: [u8; 16],
    master: [u8; 32],
    created: i64,
    label: Text,
    extensions: Extensions,
}

#[derive(bincode::Encode, bincode::Decode)]
struct LaterWire(List<[u8; 32], MAX_LATER>);

#[derive(bincode::Encode, bincode::Decode)]
struct WriterWire {
    version: u8,
    repository: [u8; 16],
    writer: [u8; 24],
    secret: [u8; 32],
    owner: [u8; 32],
    data_id: [u8; 32],
    meta_id: [u8; 32],
    content: [u8; 32],
    chunker: [u8; 32],
    index: List<[u8; 32], { MAX_LATER + 1 }>,
    created: i64,
    label: Text,
    extensions: Extensions,
}

impl Drop for OwnerWire {
    fn drop(&mut self) {
        self.master.zeroize();
        self.extensions.0.iter_mut().for_each(|extension| extension.value.0.zeroize());
    }
}

impl Drop for LaterWire {
    fn drop(&mut self) {
        self.0.0.zeroize();
    }
}

impl Drop for WriterWire {
    fn drop(&mut self) {
        let naming = [&mut self.data_id, &mut self.meta_id, &mut self.content, &mut self.chunker];
        naming.into_iter().for_each(Zeroize::zeroize);
        self.secret.zeroize();
        self.index.0.zeroize();
    }
}

fn encode(bundle: &Bundle, repository: RepositoryId) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    let (created, label) = (bundle.created, Text(bundle.label.clone()));
    match &bundle.secrets {
        Secrets::Owner(masters) => {
            let first = masters.first().ok_or(FormatError::Damaged("a bundle without a key"))?;
            let mut wire = OwnerWire {
                version: OWNER,
                repository: repository.0,
                master: first.0,
                created,
                label,
                extensions: List::default(),
            };
            if !masters.later().is_empty() {
                let later = LaterWire(List(masters.later().iter().map(|master| master.0).collect()));
                let mut value = record::encode_secret(&later, limits::KEY_OBJECT)?;
                let value = Bytes(std::mem::take(&mut *value));
                wire.extensions.0.push(Extension { tag: LATER, required: true, value });
            }
            record::encode_secret(&wire, limits::KEY_OBJECT)
        }
        Secrets::Writer(keys) => {
            let wire = WriterWire {
                version: WRITER,
                repository: repository.0,
                writer: keys.identity.id,
                secret: keys.identity.secret,
                owner: keys.identity.owner,
                data_id: keys.naming.data_id,
                meta_id: keys.naming.meta_id,
                content: keys.naming.content,
                chunker: keys.naming.chunker,
                index: List(keys.index.clone()),
                created,
                label,
                extensions: List::default(),
            };
            record::encode_secret(&wire, limits::KEY_OBJECT)
        }
    }
}

fn decode(plain: &[u8], repository: RepositoryId) -> Result<Bundle, FormatError> {
    // Before the rest is decoded: another version has other fields.
    match plain.first() {
        Some(&OWNER) => decode_owner(plain, repository),
        Some(&WRITER) => decode_writer(plain, repository),
        Some(version) => Err(FormatError::Unsupported(format!("key bundle version {version}"))),
        None => Err(FormatError::Damaged("key bundle is empty")),
    }
}

const ANOTHERS: FormatError = FormatError::Damaged("key belongs to another repository");

fn decode_owner(plain: &[u8], repository: RepositoryId) -> Result<Bundle, FormatError> {
    let mut wire: OwnerWire = record::decode(plain)?;
    if wire.repository != repository.0 {
        return Err(ANOTHERS);
    }
    let mut masters = Masters::new(MasterKey::from_bytes(wire.master));
    if let Some(later) = record::known_extension(&wire.extensions, LATER)? {
        let LaterWire(later) = &record::decode(later)?;
        if later.0.is_empty() {
            return Err(FormatError::Damaged("key bundle lists no later keys"));
        }
        for master in &later.0 {
            let more = masters.with(MasterKey::from_bytes(*master));
            masters = more.ok_or(FormatError::Damaged("key bundle has too many keys"))?;
        }
    }
    let label = std::mem::take(&mut wire.label.0);
    Ok(Bundle { secrets: Secrets::Owner(masters), created: wire.created, label })
}

fn decode_writer(plain: &[u8], repository: RepositoryId) -> Result<Bundle, FormatError> {
    let mut wire: WriterWire = record::decode(plain)?;
    if wire.repository != repository.0 {
        return Err(ANOTHERS);
    }
    if wire.index.0.is_empty() {
        return Err(FormatError::Damaged("key bundle has no key of the index"));
    }
    record::check_extensions(&wire.extensions)?;
    let keys = WriterKeys {
        identity: WriterIdentity { id: wire.writer, secret: wire.secret, owner: wire.owner },
        naming: Naming {
            data_id: wire.data_id,
            meta_id: wire.meta_id,
            content: wire.content,
            chunker: wire.chunker,
        },
        index: std::mem::take(&mut wire.index.0),
    };
    let label = std::mem::take(&mut wire.label.0);
    Ok(Bundle { secrets: Secrets::Writer(Box::new(keys)), created: wire.created, label })
}

/// The random values of a key object; tests fix them.
pub struct Randomness {
    /// Salt of the key derivation.
    pub salt: [u8; 32],
    /// Nonce of the wrapping.
    pub nonce: [u8; NONCE],
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
    // Nothing else in it can be long.
    let plain = encode(bundle, repository).map_err(|_| FormatError::TooLarge("key label"))?;
    let mut out = Vec::with_capacity(FIXED + plain.len() + crypto::TAG);
    out.extend_from_slice(&head(params, bundle.generation()));
    out.extend_from_slice(&random.salt);
    out.extend_from_slice(&stretched.commitment());
    let wrapped = crypto::wrap(&stretched.kek, &random.nonce, &bound(&out, repository), &plain)?;
    out.extend_from_slice(&random.nonce);
    let len = u32::try_from(wrapped.len()).map_err(|_| FormatError::TooLarge("key label"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&wrapped);
    if out.len() > limits::KEY_OBJECT { Err(FormatError::TooLarge("key label")) } else { Ok(out) }
}

/// What a key object begins with.
fn head(params: ScryptParams, generation: u8) -> [u8; 16] {
    let mut head = [0; 16];
    let (magic, rest) = head.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    rest[..6].copy_from_slice(&[FORMAT_VERSION, KDF_SCRYPT, params.log_n, params.r, params.p, generation]);
    head
}

/// A key object of a generation that nothing opens, for [`crate::format::key_description_v1::KeyKind::Claim`].
#[must_use]
pub fn claim(generation: u8, random: &[u8; CLAIM]) -> Vec<u8> {
    // What costs least to who tries it.
    let (fixed, wrapped) = random.split_at(FIXED - 16 - 4);
    let params = ScryptParams { log_n: 10, r: 1, p: 1 };
    let len = [32, 0, 0, 0];
    [&head(params, generation), fixed, &len, wrapped].concat()
}

/// Opens a key object. [`FormatError::WrongKey`] means that the passphrase is another one's.
pub fn open(bytes: &[u8], repository: RepositoryId, passphrase: &Passphrase) -> Result<Bundle, FormatError> {
    let Parts { params, generation, salt, commitment, nonce, wrapped, .. } = take_apart(bytes)?;
    let stretched = crypto::stretch(passphrase, &salt, params)?;
    if !stretched.commits_to(&commitment) {
        return Err(FormatError::WrongKey);
    }
    let plain = crypto::unwrap(&stretched.kek, &nonce, &bound(&bytes[..BOUND], repository), wrapped)?;
    let bundle = decode(&plain, repository)?;
    if bundle.generation() != generation {
        return Err(FormatError::Damaged("key object names another generation than its bundle"));
    }
    Ok(bundle)
}

/// A key object, taken apart as far as its layout goes.
pub(super) struct Parts<'a> {
    params: ScryptParams,
    generation: u8,
    salt: [u8; 32],
    commitment: [u8; 32],
    nonce: [u8; NONCE],
    wrapped: &'a [u8],
    /// Length of all that comes before the description.
    pub(super) body: usize,
    /// Nonce and ciphertext of the description, if there is one.
    pub(super) description: Option<([u8; NONCE], &'a [u8])>,
}

pub(super) fn take_apart(bytes: &[u8]) -> Result<Parts<'_>, FormatError> {
    if bytes.len() > limits::KEY_OBJECT {
        return Err(FormatError::Damaged("key object is too long"));
    }
    let mut cursor = Cursor::new(bytes);
    if &cursor.array::<8>()? != MAGIC {
        return Err(FormatError::Damaged("not a key object"));
    }
    let [version, kdf, log_n, r, p, generation, zeros @ ..] = cursor.array::<8>()?;
    if version != FORMAT_VERSION {
        return Err(FormatError::Unsupported(format!("key object version {version}")));
    }
    if kdf != KDF_SCRYPT {
        return Err(FormatError::Unsupported(format!("key derivation {kdf}")));
    }
    if zeros != [0; 2] {
        return Err(FormatError::Damaged("key object's reserved bytes are not zero"));
    }
    let params = ScryptParams { log_n, r, p }.check()?;
    let salt = cursor.array()?;
    let commitment = cursor.array()?;
    let nonce = cursor.array()?;
    let len = u32::from_le_bytes(cursor.array()?) as usize;
    let wrapped = cursor.take(len)?;
    let body = FIXED + wrapped.len();
    let mut description = None;
    if bytes.len() > body {
        let nonce = cursor.array()?;
        let len = u32::from_le_bytes(cursor.array()?) as usize;
        description = Some((nonce, cursor.take(len)?));
    }
    cursor.end()?;
    Ok(Parts { params, generation, salt, commitment, nonce, wrapped, body, description })
}

/// The cost of opening a key object, log2 of scrypt's N, as far as its header tells.
#[must_use]
pub fn cost(bytes: &[u8]) -> Option<u8> {
    // After the magic, the version and the kind of derivation.
    bytes.get(MAGIC.len() + 2).copied()
}

/// The newest key generation of its bundle, as the header tells.
#[must_use]
pub fn generation(bytes: &[u8]) -> Option<u8> {
    bytes.get(MAGIC.len() + 5).copied()
}

/// The work factors of opening a key object, as its header tells; `None` beyond the limits.
#[must_use]
pub fn params(bytes: &[u8]) -> Option<ScryptParams> {
    let [log_n, r, p] = *bytes.get(MAGIC.len() + 2..)?.first_chunk()?;
    ScryptParams { log_n, r, p }.check().ok()
}

fn bound(head: &[u8], repository: RepositoryId) -> Vec<u8> {
    [head, &repository.0].concat()
}

/// Whether a key object can be taken apart, which needs no passphrase. What is wrapped in it stays unknown.
pub fn inspect(bytes: &[u8]) -> Result<(), FormatError> {
    take_apart(bytes).map(drop)
}
