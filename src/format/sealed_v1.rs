//! Sealed objects: the header that wraps an object's key, and record objects.
//! `format-spec/` section 5.

use super::varint::Cursor;
use super::{FORMAT_VERSION, FormatError, limits};
use crate::crypto::{
    self, FramePlace, FreshSecret, Keyring, OBJECT_NONCE, ObjectKey, ObjectKind, PROOF, PUBLIC_KEY, TAG,
    WRAPPED_KEY,
};
use crate::model::{RepositoryId, WriterKeyId};

/// Bytes of a header, of either wrap kind.
pub const HEADER: usize = 8 + OBJECT_NONCE + WRAPPED_KEY;
/// Plaintext bytes of a record object's frames but the last.
const PIECE: usize = 1 << 20;
const MAGIC: &[u8; 4] = b"EXUV";
/// The kinds of object that version 1 names.
const KINDS: std::ops::RangeInclusive<u8> = 1..=8;
const WRAP_SYMMETRIC: u8 = 1;
const WRAP_X25519: u8 = 2;

/// The random values of a sealed object; tests fix them.
pub struct Randomness {
    /// The object key; the secret that it is agreed on with, where a writer seals to the owner.
    pub key: ObjectKey,
    /// Nonce of its wrapping; not used where a writer seals to the owner.
    pub nonce: [u8; OBJECT_NONCE],
}

impl Randomness {
    /// Fresh values.
    pub fn generate() -> Result<Self, FormatError> {
        Ok(Self { key: ObjectKey::generate()?, nonce: crypto::random()? })
    }
}

/// Who sealed an object, as its header says. That is proved only when the header opens.
#[must_use]
pub fn sealed_by(header: &[u8]) -> Option<WriterKeyId> {
    let mut cursor = Cursor::new(header);
    let head = cursor.array::<8>().ok()?;
    let id = cursor.array::<{ PUBLIC_KEY + WriterKeyId::LEN }>().ok()?;
    (head[6] == WRAP_X25519).then(|| id[PUBLIC_KEY..].try_into().ok().map(WriterKeyId)).flatten()
}

/// The keys of one repository together with its id: what sealing and opening take.
#[derive(Clone)]
pub struct Sealer {
    /// The repository.
    pub repository: RepositoryId,
    /// Its sub-keys.
    pub keys: Keyring,
}

impl Sealer {
    /// The header of a new object, and the key that its frames are sealed with.
    pub fn begin(&self, kind: ObjectKind, random: &Randomness) -> Result<(Vec<u8>, ObjectKey), FormatError> {
        let wrap = if self.keys.seals_to_owner(kind) { WRAP_X25519 } else { WRAP_SYMMETRIC };
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[FORMAT_VERSION, kind as u8, wrap, self.keys.generation()]);
        if wrap == WRAP_X25519 {
            return self.to_owner(out, random);
        }
        let aad = self.header_aad(&out);
        out.extend_from_slice(&random.nonce);
        out.extend_from_slice(&self.keys.wrap_object_key(kind, &random.nonce, &aad, &random.key)?);
        Ok((out, random.key.clone()))
    }

    fn to_owner(&self, mut out: Vec<u8>, random: &Randomness) -> Result<(Vec<u8>, ObjectKey), FormatError> {
        let writer = self.keys.writer().ok_or(FormatError::WriterKey)?;
        let secret = FreshSecret::from_bytes(*random.key.bytes());
        out.extend_from_slice(&secret.public());
        out.extend_from_slice(&writer.0);
        let agreed = self.keys.agree_as_writer(&secret, &out, &self.repository.0)?;
        out.extend_from_slice(&agreed.proof);
        Ok((out, agreed.key))
    }

    /// Checks a header and returns the object's key.
    pub fn open_header(&self, kind: ObjectKind, bytes: &[u8]) -> Result<ObjectKey, FormatError> {
        let mut cursor = Cursor::new(bytes);
        let head = cursor.array::<8>()?;
        if &head[..4] != MAGIC {
            return Err(FormatError::Damaged("not a sealed object"));
        }
        if head[4] != FORMAT_VERSION {
            return Err(FormatError::Unsupported(format!("object version {}", head[4])));
        }
        if !KINDS.contains(&head[5]) {
            return Err(FormatError::Unsupported(format!("object kind {}", head[5])));
        }
        if head[5] != kind as u8 {
            return Err(FormatError::Damaged("object is of another kind than its name says"));
        }
        let generation = head[7];
        match head[6] {
            WRAP_SYMMETRIC => {
                let nonce = cursor.array()?;
                let wrapped = cursor.take(WRAPPED_KEY)?;
                let aad = self.header_aad(&head);
                Ok(self.keys.unwrap_object_key(kind, generation, &nonce, &aad, wrapped)?)
            }
            WRAP_X25519 if !kind.is_for_owner() => {
                Err(FormatError::Damaged("an object of this kind is never sealed to the owner"))
            }
            WRAP_X25519 => {
                let (public, writer) = (cursor.array()?, WriterKeyId(cursor.array()?));
                let proof = cursor.array()?;
                let start = bytes.get(..HEADER - PROOF).unwrap_or_default();
                let rest = &self.repository.0;
                Ok(self.keys.agree_as_owner(generation, &public, writer, start, rest)?.proved(&proof)?)
            }
            other => Err(FormatError::Unsupported(format!("wrap kind {other}"))),
        }
    }

    fn header_aad(&self, head: &[u8]) -> Vec<u8> {
        [head, &self.repository.0].concat()
    }

    /// Where frame `number` of an object stands.
    #[must_use]
    pub fn place(&self, kind: ObjectKind, number: u64, last: bool) -> FramePlace {
        FramePlace { repository: self.repository, kind, version: FORMAT_VERSION, number, last }
    }

    /// Seals a record as a whole object.
    pub fn seal_record(
        &self,
        kind: ObjectKind,
        record: &[u8],
        random: &Randomness,
    ) -> Result<Vec<u8>, FormatError> {
        if record.len() > limits::RECORD_RAW {
            return Err(FormatError::TooLarge("record"));
        }
        let body = pack_payload(record)?;
        let (mut out, key) = self.begin(kind, random)?;
        out.reserve(body.len() + (body.len() / PIECE + 1) * TAG);
        let count = body.len().div_ceil(PIECE);
        for (number, piece) in body.chunks(PIECE).enumerate() {
            let start = out.len();
            out.extend_from_slice(piece);
            key.seal(self.place(kind, number as u64, number + 1 == count), &mut out, start)?;
        }
        if out.len() > limits::RECORD_OBJECT { Err(FormatError::TooLarge("record object")) } else { Ok(out) }
    }

    /// Opens a record object.
    pub fn open_record(&self, kind: ObjectKind, bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
        if bytes.len() > limits::RECORD_OBJECT {
            return Err(FormatError::Damaged("record object is too long"));
        }
        let key = self.open_header(kind, bytes)?;
        let sealed = &bytes[HEADER..];
        // An empty last frame would be a second spelling of the same record.
        let last = sealed.len() % (PIECE + TAG);
        if sealed.is_empty() || (1..=TAG).contains(&last) {
            return Err(FormatError::Damaged("record object has an empty frame"));
        }
        let count = sealed.len().div_ceil(PIECE + TAG);
        let mut body = Vec::with_capacity(sealed.len());
        for (number, frame) in sealed.chunks(PIECE + TAG).enumerate() {
            let mut frame = frame.to_vec();
            key.open(self.place(kind, number as u64, number + 1 == count), &mut frame)?;
            body.extend_from_slice(&frame);
        }
        unpack_payload(&body, limits::RECORD_RAW)
    }
}

/// Codec byte of bytes stored as they are.
pub(super) const STORED: u8 = 0;
/// Codec byte of one zstd frame.
pub(super) const ZSTD: u8 = 1;
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Prefixes a record with codec and raw length, compressed when that is shorter.
pub(super) fn pack_payload(record: &[u8]) -> Result<Vec<u8>, FormatError> {
    let raw = u32::try_from(record.len()).map_err(|_| FormatError::TooLarge("record"))?;
    let compressed =
        zstd::bulk::compress(record, 3).map_err(|_| FormatError::TooLarge("record cannot be compressed"))?;
    let (codec, payload) =
        if compressed.len() < record.len() { (ZSTD, compressed.as_slice()) } else { (STORED, record) };
    let mut body = Vec::with_capacity(5 + payload.len());
    body.push(codec);
    body.extend_from_slice(&raw.to_le_bytes());
    body.extend_from_slice(payload);
    Ok(body)
}

/// The reverse of [`pack_payload`]; `max` bounds the raw length.
pub(super) fn unpack_payload(body: &[u8], max: usize) -> Result<Vec<u8>, FormatError> {
    let mut cursor = Cursor::new(body);
    let codec = cursor.u8()?;
    let raw = u32::from_le_bytes(cursor.array()?) as usize;
    if raw > max {
        return Err(FormatError::Damaged("record is too long"));
    }
    decompress(codec, cursor.rest(), raw)
}

/// Undoes a codec; the result is exactly `raw` bytes.
pub(super) fn decompress(codec: u8, payload: &[u8], raw: usize) -> Result<Vec<u8>, FormatError> {
    let bytes = match codec {
        STORED => payload.to_vec(),
        ZSTD => {
            // zstd itself would go on to further frames and skip those that hold no data.
            if zstd::zstd_safe::find_frame_compressed_size(payload) != Ok(payload.len())
                || !payload.starts_with(ZSTD_MAGIC)
            {
                return Err(FormatError::Damaged("compressed data is not one frame"));
            }
            // A frame states its size; a lie is found before memory is taken for it.
            let stated = zstd::zstd_safe::get_frame_content_size(payload).ok().flatten();
            if stated.is_some_and(|n| n != raw as u64) {
                return Err(FormatError::Damaged("compressed data has another length than stated"));
            }
            zstd::bulk::decompress(payload, raw)
                .map_err(|_| FormatError::Damaged("compressed data is malformed"))?
        }
        other => return Err(FormatError::Unsupported(format!("codec {other}"))),
    };
    if bytes.len() == raw {
        Ok(bytes)
    } else {
        Err(FormatError::Damaged("data has another length than stated"))
    }
}
