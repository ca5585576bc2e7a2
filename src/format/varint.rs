//! Variable-length integers of segments and a bounded cursor over outside bytes.

use super::FormatError;

/// Appends `value` in LEB128.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a signed number in zigzag form.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a length and the bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of a byte string and never beyond its end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
}

const SHORT: FormatError = FormatError::Damaged("ends too early");

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let (head, tail) = self.bytes.split_at_checked(n).ok_or(SHORT)?;
        self.bytes = tail;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(SHORT)?;
        self.bytes = tail;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        let (&first, tail) = self.bytes.split_first().ok_or(SHORT)?;
        self.bytes = tail;
        Ok(first)
    }

    pub(super) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for i in 0..10 {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                if byte == 0 && i > 0 {
                    return Err(FormatError::Damaged("integer is not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(FormatError::Damaged("integer exceeds 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, FormatError> {
        let v = self.varint()?;
        Ok((v >> 1).cast_signed() ^ -((v & 1).cast_signed()))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.varint()?).map_err(|_| FormatError::Damaged("integer exceeds 32 bits"))
    }

    /// A count of items that take at least `least` bytes each of what is left.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, FormatError> {
        let n = usize::try_from(self.varint()?).map_err(|_| SHORT)?;
        if n > self.remaining() / least.max(1) { Err(SHORT) } else { Ok(n) }
    }

    /// A length and that many bytes, at most `max`.
    pub(super) fn bytes(&mut self, max: usize) -> Result<&'a [u8], FormatError> {
        let n = self.count(1)?;
        if n > max {
            return Err(FormatError::Damaged("a length is beyond its limit"));
        }
        self.take(n)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn end(&self) -> Result<(), FormatError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(FormatError::Damaged("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip_in_one_spelling() {
        for v in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, v);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.varint(), Ok(v));
            assert_eq!(cursor.end(), Ok(()));
        }
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, v);
            assert_eq!(Cursor::new(&out).signed(), Ok(v));
        }
        let bad: [&[u8]; 5] = [
            &[],
            &[0x80],
            &[0x80, 0],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ];
        for bytes in bad {
            assert!(Cursor::new(bytes).varint().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn counts_never_promise_more_than_there_is() {
        assert!(Cursor::new(&[5, 1, 2, 3, 4]).count(1).is_err());
        assert_eq!(Cursor::new(&[4, 1, 2, 3, 4]).count(1), Ok(4));
        assert!(Cursor::new(&[3, 1, 2, 3, 4]).count(2).is_err());
        assert!(Cursor::new(&[2, 1, 2]).bytes(1).is_err());
        assert_eq!(Cursor::new(&[2, 1, 2]).bytes(2), Ok(&[1, 2][..]));
    }
}
