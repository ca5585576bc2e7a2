//! Extended headers: POSIX, *pax Extended Header*. Records of GNU tar's sparse files go on to `sparse`, extended
//! attributes come in the form of star, which GNU tar and bsdtar share.

use super::sparse::SparseRecords;
use crate::format::limits;
use crate::model::Timestamp;

/// Bytes of an extended header; the attributes of one file take 1 MiB at most.
pub(super) const MOST: u64 = 2 << 20;
/// Bytes of a path, of a link's target, and of the name of a user or group.
pub(super) const TEXT: usize = limits::SYMLINK;
const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";
const MALFORMED: &str = "an extended header is malformed";

/// What extended headers say of a member, in place of its header.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

impl Pax {
    /// Takes the records of one member.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        records(bytes, |key, value| self.record(key, value))
    }

    /// Takes records that hold from here on. What is a member's own cannot be said of all: programs would
    /// differ in which bytes are data.
    pub(super) fn take_global(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        records(bytes, |key, value| match key {
            b"uid" | b"gid" | b"uname" | b"gname" | b"mtime" => self.record(key, value),
            b"path" | b"linkpath" | b"size" => Err("a global header speaks of names or sizes"),
            _ if key.starts_with(SPARSE) => Err("a global header speaks of names or sizes"),
            _ => Ok(()),
        })
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"uname" => self.user = Some(text(value)?),
            b"gname" => self.group = Some(text(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {
                if let Some(key) = key.strip_prefix(SPARSE) {
                    self.sparse.record(key, value)?;
                } else if let Some(key) = key.strip_prefix(XATTR) {
                    self.xattr(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let key = text(&unescape(key))?;
        if key.is_empty() || value.len() > limits::XATTR_VALUE {
            return Err("an extended attribute is malformed");
        }
        // The later one counts, as for all records.
        self.xattrs.retain(|(other, _)| *other != key);
        if self.xattrs.len() == limits::XATTRS {
            return Err("a member has too many extended attributes");
        }
        self.xattrs.push((key, value.to_vec()));
        Ok(())
    }
}

/// Takes apart "length key=value\n", of which the length counts all of it.
fn records(
    mut bytes: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or(MALFORMED)?;
        let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| MALFORMED)?;
        let (record, rest) = bytes.split_at_checked(length).ok_or(MALFORMED)?;
        let body = record.get(space + 1..).and_then(|body| body.strip_suffix(b"\n")).ok_or(MALFORMED)?;
        let equals = body.iter().position(|&b| b == b'=').ok_or(MALFORMED)?;
        if equals == 0 {
            return Err(MALFORMED);
        }
        take(&body[..equals], &body[equals + 1..])?;
        bytes = rest;
    }
    Ok(())
}

fn text(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.len() > TEXT {
        return Err("a name in an extended header is too long");
    }
    if value.contains(&0) { Err("a name in an extended header has a NUL byte") } else { Ok(value.to_vec()) }
}

/// A name that cannot be empty. POSIX lets an empty value delete what the header says; nothing would be left.
pub(super) fn name(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.is_empty() { Err("a name in an extended header is empty") } else { text(value) }
}

/// Digits and nothing else.
pub(super) fn decimal(value: &[u8]) -> Result<u64, &'static str> {
    const ERROR: &str = "a number in an extended header is malformed";
    let digit = |b: &u8| b.is_ascii_digit().then(|| u64::from(b - b'0')).ok_or(ERROR);
    if value.is_empty() {
        return Err(ERROR);
    }
    let n = value
        .iter()
        .try_fold(0u64, |n, b| n.checked_mul(10).and_then(|n| n.checked_add(digit(b).ok()?)).ok_or(ERROR))?;
    if i64::try_from(n).is_ok() { Ok(n) } else { Err(ERROR) }
}

/// Seconds since 1970, with a sign and a fraction or without. What is finer than nanoseconds is dropped.
fn time(value: &[u8]) -> Result<Timestamp, &'static str> {
    let (negative, digits) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let dot = digits.iter().position(|&b| b == b'.');
    let (whole, fraction) = dot.map_or((digits, &b""[..]), |at| (&digits[..at], &digits[at + 1..]));
    let secs = decimal(whole)?.cast_signed();
    if dot.is_some() && (fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit)) {
        return Err("a time in an extended header is malformed");
    }
    let digit = |at| fraction.get(at).map_or(0, |b: &u8| u32::from(b - b'0'));
    let nanos = (0..9).fold(0, |n, at| n * 10 + digit(at));
    Ok(match (negative, nanos) {
        (false, _) => Timestamp { secs, nanos },
        (true, 0) => Timestamp::from_secs(-secs),
        (true, _) => Timestamp { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// GNU tar writes `=` and `%` in names of attributes so that the name ends where it should.
fn unescape(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match rest.get(..3) {
            Some(b"%3D") => (b'=', &rest[3..]),
            Some(b"%25") => (b'%', &rest[3..]),
            _ => (byte, after),
        };
        out.push(byte);
        rest = after;
    }
    out
}

fn escape(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len());
    for &byte in key {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            _ => out.push(byte),
        }
    }
    out
}

/// Appends a record.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = body + 1;
    while length.to_string().len() + body != length {
        length = length.to_string().len() + body;
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Appends the record of an extended attribute.
pub(super) fn push_xattr(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    push(out, &[XATTR, &escape(name)].concat(), value);
}

/// A time as such records say it.
pub(super) fn time_text(time: Timestamp) -> String {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (secs, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if fraction == 0 { format!("{sign}{secs}") } else { format!("{sign}{secs}.{fraction:09}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bytes: &[u8]) -> Result<Pax, &'static str> {
        let mut pax = Pax::default();
        pax.take(bytes).map(|()| pax)
    }

    #[test]
    fn lengths_count_themselves() {
        for value in (0..120).chain([980, 985, 990, 991, 992, 993, 994, 995, 9_980, 9_990, 65_000]) {
            let mut bytes = Vec::new();
            push(&mut bytes, b"path", &vec![b'x'; value + 1]);
            push(&mut bytes, b"size", b"7");
            let pax = taken(&bytes).unwrap();
            assert_eq!((pax.path.unwrap().len(), pax.size), (value + 1, Some(7)));
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"9 path=a"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"99 path=a\n",
            b"9 path=a\n9 path=a",
            b"path=a\n",
            b" path=a\n",
            b"+9 path=a\n",
            b"-9 path=a\n",
            b"0 path=a\n",
            b"2 \n",
            b"3 \n\n",
            b"5 a=\0",
            b"4 =\n",
            b"6 =aa\n",
            b"8 patha\n",
            b"18446744073709551616 path=a\n",
            b"\0\0\0\0",
        ] {
            assert!(taken(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        let one = |key: &[u8], value: &[u8]| {
            let mut bytes = Vec::new();
            push(&mut bytes, key, value);
            taken(&bytes)
        };
        for (key, value) in [
            (&b"path"[..], &b""[..]),
            (b"linkpath", b""),
            (b"path", b"a\0b"),
            (b"uname", b"a\0b"),
            (b"size", b"a"),
            (b"size", b"-1"),
            (b"size", b"+1"),
            (b"size", b" 1"),
            (b"size", b""),
            (b"size", b"9223372036854775808"),
            (b"size", b"18446744073709551616"),
            (b"mtime", b"1."),
            (b"mtime", b".5"),
            (b"mtime", b"1.x"),
            (b"mtime", b"--1"),
            (b"SCHILY.xattr.", b"a"),
            (b"SCHILY.xattr.a\0b", b"a"),
            (b"GNU.sparse.name", b""),
            (b"GNU.sparse.numbytes", b"1"),
        ] {
            assert!(one(key, value).is_err(), "{} {}", key.escape_ascii(), value.escape_ascii());
        }
        let long = |key: &[u8], len| one(key, &vec![b'x'; len]);
        assert!(long(b"path", TEXT).is_ok() && long(b"path", TEXT + 1).is_err());
        assert!(
            long(b"SCHILY.xattr.user.a", 65_536).is_ok() && long(b"SCHILY.xattr.user.a", 65_537).is_err()
        );
    }

    #[test]
    fn later_records_win_and_unknown_ones_say_nothing() {
        let pax = taken(b"9 path=a\n9 path=b\n13 comment=x\n16 VENDOR.key=x\n").unwrap();
        assert_eq!(pax.path, Some(b"b".to_vec()));
        let pax = taken(b"22 SCHILY.xattr.u.a=1\n22 SCHILY.xattr.u.a=2\n").unwrap();
        assert_eq!(pax.xattrs, [(b"u.a".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn global_headers_name_nothing() {
        let global = |bytes: &[u8]| Pax::default().take_global(bytes);
        assert_eq!(global(b"13 comment=x\n9 uid=12\n"), Ok(()));
        for bytes in [&b"9 path=a\n"[..], b"14 linkpath=a\n", b"9 size=1\n", b"22 GNU.sparse.major=1\n"] {
            assert!(global(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn times_have_signs_and_fractions() {
        for (text, secs, nanos) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("9223372036854775807", i64::MAX, 0),
            ("-9223372036854775807.000000001", i64::MIN, 999_999_999),
        ] {
            let want = Timestamp { secs, nanos };
            assert_eq!(time(text.as_bytes()), Ok(want), "{text}");
            assert_eq!(time(time_text(want).as_bytes()), Ok(want), "{text}");
        }
        assert_eq!(time(b"1.1234567899"), Ok(Timestamp { secs: 1, nanos: 123_456_789 }));
        assert_eq!(time(b"00.10"), Ok(Timestamp { secs: 0, nanos: 100_000_000 }));
        assert_eq!(time_text(Timestamp { secs: -2, nanos: 500_000_000 }), "-1.500000000");
    }

    #[test]
    fn names_of_attributes_come_back() {
        for name in [&b"user.a"[..], b"user.=%3D%", b"%", b"="] {
            assert_eq!(unescape(&escape(name)), name);
        }
        assert_eq!(unescape(b"a%2"), b"a%2");
    }
}
