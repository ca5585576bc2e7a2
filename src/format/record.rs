//! Records: bincode 2 in its standard configuration, decoded without trusting any length.

use bincode::de::read::Reader;
use bincode::de::{BorrowDecode, BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use zeroize::Zeroizing;

use super::{FormatError, limits};

/// Encodes a record.
pub(super) fn encode<T: Encode>(record: &T) -> Result<Vec<u8>, FormatError> {
    bincode::encode_to_vec(record, bincode::config::standard())
        .map_err(|_| FormatError::TooLarge("record cannot be encoded"))
}

/// Encodes a record of secrets in one place, which is wiped; `max`: bytes that it may have.
pub(super) fn encode_secret<T: Encode>(record: &T, max: usize) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    let mut bytes = Zeroizing::new(vec![0; max]);
    let len = bincode::encode_into_slice(record, &mut bytes, bincode::config::standard())
        .map_err(|_| FormatError::TooLarge("record cannot be encoded"))?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Decodes a record that takes all of `bytes`.
pub(super) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, FormatError> {
    let config = bincode::config::standard().with_limit::<{ limits::RECORD_RAW }>();
    let (record, used) = bincode::decode_from_slice(bytes, config)
        .map_err(|_| FormatError::Damaged("record does not decode"))?;
    if used == bytes.len() { Ok(record) } else { Err(FormatError::Damaged("bytes are left over")) }
}

/// A list of at most `MAX` items. bincode's own `Vec` reserves what the count promises; this one
/// grows with what is there. A limit keeps items that are small as bytes and large in memory, such
/// as empty strings, from multiplying the size of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T, const MAX: usize = { usize::MAX }>(pub(super) Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Encode, const MAX: usize> Encode for List<T, MAX> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if self.0.len() > MAX {
            return Err(EncodeError::Other("list is too long"));
        }
        (self.0.len() as u64).encode(encoder)?;
        self.0.iter().try_for_each(|item| item.encode(encoder))
    }
}

impl<C, T: Decode<C>, const MAX: usize> Decode<C> for List<T, MAX> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let n = count::<C, D>(decoder, MAX)?;
        let mut items = Vec::new();
        for _ in 0..n {
            items.push(T::decode(decoder)?);
        }
        Ok(Self(items))
    }
}

impl<'de, C, T: BorrowDecode<'de, C>, const MAX: usize> BorrowDecode<'de, C> for List<T, MAX> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let n = count::<C, D>(decoder, MAX)?;
        let mut items = Vec::new();
        for _ in 0..n {
            items.push(T::borrow_decode(decoder)?);
        }
        Ok(Self(items))
    }
}

fn count<C, D: Decoder<Context = C>>(decoder: &mut D, max: usize) -> Result<usize, DecodeError> {
    let n = usize::try_from(u64::decode(decoder)?).map_err(|_| DecodeError::LimitExceeded)?;
    if n > max { Err(DecodeError::LimitExceeded) } else { Ok(n) }
}

/// A byte string, read in pieces so that a false length costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Encode for Bytes {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_slice().encode(encoder)
    }
}

impl<C> Decode<C> for Bytes {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        const PIECE: usize = 16 << 10;
        let n = usize::try_from(u64::decode(decoder)?).map_err(|_| DecodeError::LimitExceeded)?;
        decoder.claim_bytes_read(n)?;
        let mut bytes = Vec::new();
        while bytes.len() < n {
            let at = bytes.len();
            bytes.resize(n.min(at + PIECE), 0);
            decoder.reader().read(&mut bytes[at..])?;
        }
        Ok(Self(bytes))
    }
}

bincode::impl_borrow_decode!(Bytes);

/// A UTF-8 string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl Encode for Text {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_bytes().encode(encoder)
    }
}

impl<C> Decode<C> for Text {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        String::from_utf8(Bytes::decode(decoder)?.0)
            .map(Self)
            .map_err(|e| DecodeError::Utf8 { inner: e.utf8_error() })
    }
}

bincode::impl_borrow_decode!(Text);

/// A field of a later version of a record.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(super) struct Extension {
    pub(super) tag: u16,
    pub(super) required: bool,
    pub(super) value: Bytes,
}

/// The last field of every record.
pub(super) type Extensions = List<Extension, { limits::EXTENSIONS }>;

/// For records without known extensions: required ones are refused, optional ones skipped.
pub(super) fn check_extensions(extensions: &Extensions) -> Result<(), FormatError> {
    match extensions.0.iter().find(|e| e.required) {
        Some(e) => Err(unknown(e)),
        None => Ok(()),
    }
}

/// For a record that may have one known extension, `tag`: its value, if it is there. Of the others, required
/// ones are refused, optional ones skipped.
pub(super) fn known_extension(extensions: &Extensions, tag: u16) -> Result<Option<&[u8]>, FormatError> {
    known_extensions(extensions, [tag]).map(|[value]| value)
}

/// The same for several, in the order of `tags`.
pub(super) fn known_extensions<const N: usize>(
    extensions: &Extensions,
    tags: [u16; N],
) -> Result<[Option<&[u8]>; N], FormatError> {
    let mut found = [None; N];
    for extension in &extensions.0 {
        let at = tags.iter().position(|tag| *tag == extension.tag);
        let Some(value) = at.and_then(|at| found.get_mut(at)) else {
            if extension.required {
                return Err(unknown(extension));
            }
            continue;
        };
        if value.replace(extension.value.0.as_slice()).is_some() {
            return Err(FormatError::Damaged("an extension comes twice"));
        }
    }
    Ok(found)
}

fn unknown(extension: &Extension) -> FormatError {
    FormatError::Unsupported(format!("record extension {}", extension.tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_lengths_are_refused_without_memory() {
        // 2^60 items or bytes promised, none there.
        let promise = [253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(decode::<List<u64>>(&promise).is_err());
        assert!(decode::<Bytes>(&promise).is_err());
        assert!(decode::<Text>(&promise).is_err());
        assert!(decode::<Bytes>(&[251, 0xff, 0xff, 1]).is_err());
        assert_eq!(decode::<Bytes>(&[2, 1, 2, 3]), Err(FormatError::Damaged("bytes are left over")));
    }

    #[test]
    fn required_extensions_are_refused_and_optional_ones_skipped() {
        let list = |required| List(vec![Extension { tag: 9, required, value: Bytes(vec![1]) }]);
        assert!(check_extensions(&list(false)).is_ok());
        assert!(matches!(check_extensions(&list(true)), Err(FormatError::Unsupported(_))));
    }

    #[test]
    fn a_known_extension_is_found_once() {
        let one = |tag, required| Extension { tag, required, value: Bytes(vec![1]) };
        let find =
            |list: &[Extension]| known_extension(&List(list.to_vec()), 9).map(|v| v.map(<[u8]>::to_vec));
        assert_eq!(find(&[]), Ok(None));
        assert_eq!(find(&[one(1, false), one(9, true)]), Ok(Some(vec![1])));
        assert!(matches!(find(&[one(9, false), one(1, true)]), Err(FormatError::Unsupported(_))));
        assert!(matches!(find(&[one(9, false), one(9, false)]), Err(FormatError::Damaged(_))));
    }
}
