//! Header blocks: POSIX, *ustar Interchange Format*, and what v7 and GNU tar do otherwise.

use std::ops::Range;

use super::BLOCK;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const USER: Range<usize> = 265..297;
pub(super) const GROUP: Range<usize> = 297..329;
pub(super) const DEVICE: Range<usize> = 329..345;
pub(super) const PREFIX: Range<usize> = 345..500;
/// `star` keeps times behind a shorter prefix, and says so at the block's end.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_END: Range<usize> = 508..512;

/// Magic and version of POSIX.
pub(super) const POSIX: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";

pub(super) type Block = [u8; BLOCK];

/// What a header says before extended headers are looked at.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) typeflag: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
}

impl Header {
    /// Checks a block and reads it.
    pub(super) fn parse(block: &Block) -> Result<Self, &'static str> {
        check_sum(block)?;
        let magic = &block[MAGIC];
        // The version of POSIX is "00"; some programs leave it empty.
        let posix = magic[..6] == POSIX[..6];
        let named = posix || magic == GNU;
        let text_if = |yes: bool, field| if yes { text(&block[field]).to_vec() } else { Vec::new() };
        Ok(Self {
            path: path(block, posix),
            link: text(&block[LINK]).to_vec(),
            typeflag: block[TYPE],
            mode: u32::try_from(number(&block[MODE])? & 0o7777).unwrap_or_default(),
            uid: number(&block[UID])?,
            gid: number(&block[GID])?,
            size: number(&block[SIZE])?,
            mtime: signed(&block[MTIME])?,
            user: text_if(named, USER),
            group: text_if(named, GROUP),
        })
    }
}

fn path(block: &Block, posix: bool) -> Vec<u8> {
    let name = text(&block[NAME]);
    let star = &block[STAR_END] == b"tar\0";
    let prefix = text(&block[if star { STAR_PREFIX } else { PREFIX }]);
    if posix && !prefix.is_empty() { [prefix, name].join(&b'/') } else { name.to_vec() }
}

/// Bytes of a field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// A number that cannot be negative, in octal or, as GNU tar writes large ones, to the base 256.
pub(super) fn number(field: &[u8]) -> Result<u64, &'static str> {
    signed(field)?.try_into().map_err(|_| "a number in the header is negative")
}

fn signed(field: &[u8]) -> Result<i64, &'static str> {
    match field.first() {
        Some(0x80 | 0xff) => base_256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Result<i64, &'static str> {
    const ERROR: &str = "a number in the header is not octal";
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|b| !(b'0'..=b'7').contains(b)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|&b| b != 0 && b != b' ') {
        return Err(ERROR);
    }
    // A field without digits is what v7 leaves where nothing is to be said.
    digits.iter().try_fold(0i64, |n, b| n.checked_mul(8)?.checked_add(i64::from(b - b'0'))).ok_or(ERROR)
}

fn base_256(field: &[u8]) -> Result<i64, &'static str> {
    let negative = field[0] == 0xff;
    let fill = if negative { 0xff } else { 0 };
    let digits = &field[1..];
    let (high, low) = digits.split_at(digits.len().saturating_sub(8));
    let mut bytes = [fill; 8];
    bytes[8 - low.len()..].copy_from_slice(low);
    let n = i64::from_be_bytes(bytes);
    if high.iter().any(|&b| b != fill) || (n < 0) != negative {
        return Err("a number in the header is too large");
    }
    Ok(n)
}

/// The sum of all bytes with the field of the sum itself as spaces; old programs took bytes for signed.
fn check_sum(block: &Block) -> Result<(), &'static str> {
    let field = &block[CHECKSUM];
    let rest = || block[..CHECKSUM.start].iter().chain(&block[CHECKSUM.end..]);
    let spaces = 8 * i64::from(b' ');
    let unsigned: i64 = rest().map(|&b| i64::from(b)).sum();
    let signed: i64 = rest().map(|&b| i64::from(b.cast_signed())).sum();
    match octal(field)? - spaces {
        sum if sum == unsigned || sum == signed => Ok(()),
        _ => Err("the checksum of the header is wrong"),
    }
}

/// Writes the sum into a block that is complete otherwise.
pub(super) fn set_sum(block: &mut Block) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The largest number that octal digits and a NUL have room for.
pub(super) fn most(field: &Range<usize>) -> u64 {
    (1 << (3 * (field.len() - 1))) - 1
}

/// Writes a number in octal, or to the base 256 where it has no room.
pub(super) fn set_number(block: &mut Block, field: Range<usize>, n: u64) {
    let digits = field.len() - 1;
    if n <= most(&field) {
        block[field].copy_from_slice(format!("{n:0digits$o}\0").as_bytes());
        return;
    }
    let field = &mut block[field];
    field.fill(0);
    field[0] = 0x80;
    let bytes = n.to_be_bytes();
    let low = bytes.len().min(digits);
    field[digits + 1 - low..].copy_from_slice(&bytes[8 - low..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_to_the_base_256() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"00644 \0 ", Some(0o644)),
            (b"77777777", Some(0o7777_7777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"0x00644\0", None),
            (b"64\x0044\0\0\0", None),
            (b"0000644\x01", None),
            (b"777777777777777777777", Some(i64::MAX)),
            (b"1000000000000000000000", None),
            (b"\x80\0\0\0\0\0\0\x01", Some(1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xff\xff\xff\xff\x7f\0\0\0\0\0\0\0", None),
            (b"\x81\0\0\0\0\0\0\x01", None),
        ] {
            assert_eq!(signed(field).ok(), want, "{}", field.escape_ascii());
            let positive = want.and_then(|n| u64::try_from(n).ok());
            assert_eq!(number(field).ok(), positive, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for n in [0, 1, 0o777_7777, 0o1000_0000, (1 << 33) - 1, 1 << 33, 1 << 50, u64::MAX >> 8] {
            let mut block = [0; BLOCK];
            for field in [UID, SIZE] {
                set_number(&mut block, field.clone(), n);
                let want = if n >> 56 == 0 { n } else { n & ((1 << 56) - 1) };
                assert_eq!(number(&block[field]), Ok(want), "{n}");
            }
        }
    }

    #[test]
    fn sums_of_both_kinds_are_taken_and_others_refused() {
        let mut block = [0; BLOCK];
        block[..6].copy_from_slice(b"\xff\xfename");
        set_sum(&mut block);
        assert_eq!(check_sum(&block), Ok(()));
        for at in (0..BLOCK).filter(|at| !CHECKSUM.contains(at)) {
            let mut bad = block;
            bad[at] ^= 1;
            assert!(check_sum(&bad).is_err(), "{at}");
        }
        let signed: i64 = block.iter().map(|&b| i64::from(b.cast_signed())).sum::<i64>()
            - block[CHECKSUM].iter().map(|&b| i64::from(b)).sum::<i64>()
            + 8 * 32;
        block[CHECKSUM].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert_eq!(check_sum(&block), Ok(()));
        assert!(Header::parse(&[0; BLOCK]).is_err());
    }
}
