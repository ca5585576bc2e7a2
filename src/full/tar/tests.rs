//! Streams that were made by hand, above all such that programs would read in different ways.

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{collection, prop_assert_eq, proptest};

use super::header::{self, Block, MAGIC, NAME, PREFIX, SIZE, TYPE};
use super::{BLOCK, Member, MemberKind, Reader, TarError, Writer, pax};
use crate::full::Limits;
use crate::model::Timestamp;

type Read = (Member, Vec<u8>);

fn limits() -> Limits {
    Limits { members: 1_000, bytes: 1 << 40, ratio: u64::MAX, ratio_floor: 0 }
}

fn read_all(bytes: &[u8]) -> Result<Vec<Read>, TarError> {
    read_within(bytes, limits())
}

fn read_within(bytes: &[u8], limits: Limits) -> Result<Vec<Read>, TarError> {
    let mut reader = Reader::new(bytes, limits);
    let mut found = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut data = Vec::new();
        let mut piece = [0; 700];
        loop {
            match reader.read_data(&mut piece)? {
                0 => break,
                n => data.extend_from_slice(&piece[..n]),
            }
        }
        assert_eq!(data.len() as u64, member.size);
        found.push((member, data));
    }
    assert!(reader.next_member()?.is_none());
    Ok(found)
}

fn write_all(members: &[Read]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (member, data) in members {
        writer.member(member).unwrap();
        data.chunks(300).for_each(|piece| writer.data(piece).unwrap());
    }
    writer.finish().unwrap()
}

fn file(path: &[u8], data: &[u8]) -> Read {
    let member =
        Member { size: data.len() as u64, mode: 0o644, ..Member::new(path.to_vec(), MemberKind::File) };
    (member, data.to_vec())
}

fn problem<T: std::fmt::Debug>(result: Result<T, TarError>) -> String {
    match result.unwrap_err() {
        TarError::Damaged { what, .. } | TarError::Limit { what, .. } | TarError::Unwritable(what) => {
            what.to_owned()
        }
        TarError::Source(error) => panic!("{error}"),
    }
}

/// A block with a header, changed before the sum is made.
fn changed(name: &[u8], typeflag: u8, size: u64, change: impl FnOnce(&mut Block)) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[NAME][..name.len()].copy_from_slice(name);
    block[MAGIC].copy_from_slice(header::POSIX);
    block[TYPE] = typeflag;
    header::set_number(&mut block, SIZE, size);
    change(&mut block);
    header::set_sum(&mut block);
    block.to_vec()
}

fn head(name: &[u8], typeflag: u8, size: u64) -> Vec<u8> {
    changed(name, typeflag, size, |_| ())
}

/// Bytes filled up to whole blocks.
fn filled(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn extension(typeflag: u8, bytes: &[u8]) -> Vec<u8> {
    [head(b"extension", typeflag, bytes.len() as u64), filled(bytes)].concat()
}

fn records(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|(key, value)| pax::push(&mut bytes, key.as_bytes(), value.as_bytes()));
    bytes
}

fn extended(list: &[(&str, &str)]) -> Vec<u8> {
    extension(b'x', &records(list))
}

fn stream(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 2 * BLOCK]].concat()
}

#[test]
fn every_kind_of_member_comes_back() {
    let long = vec![b'n'; 300];
    let deep = [vec![b'd'; 90], vec![b'e'; 90]].join(&b'/');
    let mut members = vec![
        file(b"a", b"some bytes"),
        file(b"empty", b""),
        file(b"a block", &[7; 512]),
        file(&long, &[8; 513]),
        file(&deep, b"cut at the slash"),
        file(b"odd \xff\n\x01 name", b"x"),
        (Member::new(b"dir".to_vec(), MemberKind::Directory), Vec::new()),
        (Member::new([b'd'; 100].to_vec(), MemberKind::Directory), Vec::new()),
        (Member::new(b"link".to_vec(), MemberKind::Symlink(b"../to".to_vec())), Vec::new()),
        (Member::new(b"long link".to_vec(), MemberKind::Symlink(long.clone())), Vec::new()),
        (Member::new(b"again".to_vec(), MemberKind::Hardlink(long.clone())), Vec::new()),
        (Member::new(b"pipe".to_vec(), MemberKind::Fifo), Vec::new()),
    ];
    let full = &mut members[0].0;
    full.mode = 0o6755;
    (full.uid, full.gid) = (1_000, 1 << 40);
    (full.user, full.group) = (b"somebody".to_vec(), vec![b'g'; 40]);
    full.mtime = Timestamp { secs: -2, nanos: 500_000_000 };
    full.xattrs = vec![(b"user.a=b%25".to_vec(), b"\0\n=".to_vec()), (b"user.b".to_vec(), Vec::new())];
    assert_eq!(read_all(&write_all(&members)).unwrap(), members);
    let bytes = write_all(&[]);
    assert_eq!(bytes, [0; 20 * BLOCK]);
    assert!(read_all(&bytes).unwrap().is_empty());
}

#[test]
fn what_fits_needs_no_extended_header() {
    let count = |member: &Read| {
        write_all(std::slice::from_ref(member)).chunks(BLOCK).filter(|b| b[TYPE] == b'x').count()
    };
    let deep = [vec![b'd'; 155], vec![b'e'; 100]].join(&b'/');
    for path in [&b"a"[..], &[b'a'; 100], "\u{e9}".as_bytes(), &deep] {
        assert_eq!(count(&file(path, b"")), 0, "{}", path.escape_ascii());
    }
    assert_eq!(count(&file(&[b'a'; 101], b"")), 1);
    assert_eq!(count(&file(&[&b"d"[..], &deep].concat(), b"")), 1);
}

#[test]
fn sizes_beyond_octal_are_said_twice() {
    let member = Member { size: 9 << 30, ..Member::new(b"large".to_vec(), MemberKind::File) };
    let mut writer = Writer::new(Vec::new());
    writer.member(&member).unwrap();
    assert_eq!(writer.left(), 9 << 30);
    assert_eq!(writer.written(), 3 * 512);
    let bytes = writer.get_ref().clone();
    let mut reader = Reader::new(bytes.as_slice(), limits());
    assert_eq!(reader.next_member().unwrap(), Some(member));
    // A program that knows nothing of extended headers finds the same in the header.
    let last = header::Header::parse(bytes[1_024..].try_into().unwrap()).unwrap();
    assert_eq!(last.size, 9 << 30);
    assert_eq!(problem(writer.finish()), "the last file has not got all of its data");
}

#[test]
fn the_writer_keeps_its_stream_whole() {
    let mut writer = Writer::new(Vec::new());
    let (member, _) = file(b"shrunk", &[1; 1_000]);
    writer.member(&member).unwrap();
    writer.data(&[1; 10]).unwrap();
    assert_eq!(problem(writer.member(&member)), "the file before it has not got all of its data");
    assert_eq!(problem(writer.data(&[1; 991])), "a file has more data than stated");
    assert_eq!(writer.pad_member().unwrap(), 990);
    assert_eq!(writer.pad_member().unwrap(), 0);
    for (member, what) in [
        (Member::new(Vec::new(), MemberKind::File), "its name is no name of a file"),
        (Member::new(b"a/".to_vec(), MemberKind::Directory), "its name is no name of a file"),
        (Member::new(b"a\0".to_vec(), MemberKind::File), "its name is no name of a file"),
        (Member::new(vec![b'a'; 65_536], MemberKind::File), "its name is no name of a file"),
        (Member::new(b"a".to_vec(), MemberKind::Symlink(Vec::new())), "its target is no name of a file"),
        (Member::new(b"a".to_vec(), MemberKind::Device), "devices and the like are not stored"),
        (Member { size: 1, ..Member::new(b"a".to_vec(), MemberKind::Fifo) }, "only files have data"),
    ] {
        assert_eq!(problem(writer.member(&member)), what);
    }
    let xattrs = vec![(b"user.a".to_vec(), vec![0; 3 << 20])];
    let member = Member { xattrs, ..Member::new(b"a".to_vec(), MemberKind::File) };
    assert_eq!(problem(writer.member(&member)), "its extended attributes are too large");
    let found = read_all(&writer.finish().unwrap()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, [vec![1; 10], vec![0; 990]].concat());
}

#[test]
fn a_stream_that_is_cut_off_is_refused() {
    let members = [file(b"a", &[1; 600]), file(&[b'n'; 200], b"bc")];
    let bytes = write_all(&members);
    // 2 blocks of zeros behind 1 + 2, and 3 + 1 of data; the rest only fills the record.
    let end = 9 * BLOCK;
    for len in 0..end {
        assert!(read_all(&bytes[..len]).is_err(), "{len}");
    }
    for len in [end, end + 1, bytes.len()] {
        assert_eq!(read_all(&bytes[..len]).unwrap(), members);
    }
    let garbage = [&bytes[..end], &[0xff; 100_000]].concat();
    assert_eq!(read_all(&garbage).unwrap(), members);
    let lone = [&bytes[..end - BLOCK], &bytes[..]].concat();
    assert_eq!(problem(read_all(&lone)), "a block of zeros stands between two members");
}

#[test]
fn names_of_all_formats_are_read() {
    let v7 = |name: &[u8], typeflag| changed(name, typeflag, 0, |block| block[MAGIC].fill(b'?'));
    let gnu = |name: &[u8]| {
        changed(name, b'0', 0, |block| {
            block[MAGIC].copy_from_slice(b"ustar  \0");
            block[PREFIX][..3].copy_from_slice(b"123");
        })
    };
    let prefixed = |end: &[u8]| {
        changed(b"name", b'0', 0, |block| {
            block[PREFIX][..131].fill(b'p');
            block[PREFIX][131..134].copy_from_slice(b"777");
            block[BLOCK - end.len()..].copy_from_slice(end);
        })
    };
    let name = |parts: &[Vec<u8>]| {
        let (member, _) = read_all(&stream(parts)).unwrap().remove(0);
        (member.path, member.kind)
    };
    let is = |path: &[u8], kind| (path.to_vec(), kind);
    assert_eq!(name(&[v7(b"a", 0)]), is(b"a", MemberKind::File));
    assert_eq!(name(&[v7(b"a//", 0)]), is(b"a", MemberKind::Directory));
    assert_eq!(name(&[v7(b"/", b'5')]), is(b"/", MemberKind::Directory));
    assert_eq!(name(&[head(b"c", b'7', 0)]), is(b"c", MemberKind::File));
    assert_eq!(name(&[head(b"v", b'V', 0)]), is(b"v", MemberKind::Other(b'V')));
    assert_eq!(name(&[head(b"d", b'3', 0)]), is(b"d", MemberKind::Device));
    assert_eq!(name(&[gnu(b"name")]), is(b"name", MemberKind::File));
    let (prefix, star) = ([&[b'p'; 131][..], b"777/name"].concat(), [&[b'p'; 131][..], b"/name"].concat());
    assert_eq!(name(&[prefixed(b"")]), is(&prefix, MemberKind::File));
    assert_eq!(name(&[prefixed(b"tar\0")]), is(&star, MemberKind::File));
    let long = [&[b'l'; 5_000][..], b"\0"].concat();
    let link = [extension(b'L', &long), extension(b'K', b"target\0"), head(b"short", b'2', 0)];
    assert_eq!(name(&link), is(&[b'l'; 5_000], MemberKind::Symlink(b"target".to_vec())));
    let both = [extension(b'L', b"gnu\0"), extended(&[("path", "pax")]), head(b"header", b'0', 0)];
    assert_eq!(name(&both), is(b"pax", MemberKind::File));
}

#[test]
fn the_size_of_an_extended_header_is_the_size() {
    // Whoever went by the header would take the data for members, or members for data: CVE-2025-62518.
    let inner = stream(&[head(b"smuggled", b'0', 0)]);
    let size = inner.len().to_string();
    for in_header in [0, 512, 1 << 30] {
        let bytes = stream(&[extended(&[("size", &size)]), head(b"outer", b'0', in_header), inner.clone()]);
        let found = read_all(&bytes).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.path.as_slice(), &found[0].1), (&b"outer"[..], &inner));
    }
    let none = stream(&[extended(&[("size", "0")]), head(b"outer", b'0', 512), head(b"next", b'0', 0)]);
    let found = read_all(&none).unwrap();
    assert_eq!(found.iter().map(|(m, _)| m.path.as_slice()).collect::<Vec<_>>(), [&b"outer"[..], b"next"]);
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    const SIZED: &str = "a member that cannot have data has a size";
    let x = |key, value| extended(&[(key, value)]);
    let file = || head(b"a", b'0', 0);
    let link = |typeflag, size| changed(b"a", typeflag, size, |block| block[header::LINK][0] = b'b');
    for (what, parts) in [
        (SIZED, vec![link(b'1', 512), vec![0; 512]]),
        (SIZED, vec![link(b'2', 1)]),
        (SIZED, vec![head(b"a", b'3', 1)]),
        (SIZED, vec![head(b"a", b'5', 512)]),
        (SIZED, vec![head(b"a", b'6', 512)]),
        (SIZED, vec![head(b"a/", b'0', 512)]),
        (SIZED, vec![x("path", "a/"), head(b"a", b'0', 512)]),
        (SIZED, vec![x("size", "512"), changed(b"a", b'5', 0, |_| ())]),
        ("a link has no target", vec![head(b"a", b'2', 0)]),
        ("a link has no target", vec![head(b"a", b'1', 0)]),
        ("a member has no name", vec![head(b"", b'0', 0)]),
        ("an extended header belongs to no member", vec![x("path", "a")]),
        ("an extended header belongs to no member", vec![extension(b'L', b"a\0")]),
        ("a member has two extended headers of one kind", vec![x("path", "a"), x("path", "b"), file()]),
        (
            "a member has two extended headers of one kind",
            vec![extension(b'L', b"a"), extension(b'L', b"b"), file()],
        ),
        ("an extended header is malformed", vec![extension(b'x', b"9 path=a"), file()]),
        ("a long name is malformed", vec![extension(b'L', b"a\0b\0"), file()]),
        ("a long name is malformed", vec![extension(b'L', b"\0"), file()]),
        ("a long name is too long", vec![extension(b'L', &[b'a'; 65_536]), file()]),
        ("an extended header is too long", vec![extension(b'L', &[b'a'; 65_537]), file()]),
        ("an extended header is too long", vec![head(b"x", b'x', 3 << 20)]),
        ("an extended header is too long", vec![head(b"g", b'g', 1 << 60)]),
        (
            "a global header speaks of names or sizes",
            vec![extension(b'g', &records(&[("size", "1")])), file()],
        ),
        ("a number in the header is negative", vec![changed(b"a", b'0', 0, |b| b[SIZE].fill(0xff))]),
        ("a number in the header is too large", vec![changed(b"a", b'0', 0, |b| b[SIZE].fill(0x80))]),
        ("a number in the header is not octal", vec![changed(b"a", b'0', 0, |b| b[SIZE].fill(b'9'))]),
        ("its files are larger than it may have bytes", vec![x("size", "9223372036854775807"), file()]),
    ] {
        assert_eq!(problem(read_all(&stream(&parts))), what);
    }
    let mut sum = file();
    sum[0] ^= 1;
    assert_eq!(problem(read_all(&stream(&[sum]))), "the checksum of the header is wrong");
}

#[test]
fn global_headers_hold_until_others_say_otherwise() {
    let global = extension(b'g', &records(&[("uname", "all"), ("comment", "x"), ("mtime", "5")]));
    let parts = [
        global,
        head(b"a", b'0', 0),
        extended(&[("uname", "one")]),
        head(b"b", b'0', 0),
        head(b"c", b'0', 0),
    ];
    let found = read_all(&stream(&parts)).unwrap();
    let users: Vec<_> = found.iter().map(|(m, _)| (m.user.as_slice(), m.mtime.secs)).collect();
    assert_eq!(users, [(&b"all"[..], 5), (b"one", 5), (b"all", 5)]);
}

#[test]
fn limits_are_kept() {
    let three = [file(b"a", &[1; 100]), file(b"b", &[2; 100]), file(b"c", b"")];
    let bytes = write_all(&three);
    let with = |members, size| read_within(&bytes, Limits { members, bytes: size, ..limits() });
    assert_eq!(with(3, 10_240).unwrap(), three);
    assert_eq!(problem(with(3, 199)), "its files are larger than it may have bytes");
    let many: Vec<Read> = (0..9).map(|_| file(b"a", b"")).collect();
    let bytes = write_all(&many);
    let within = |members| read_within(&bytes, Limits { members, ..limits() });
    assert_eq!(within(9).unwrap(), many);
    assert_eq!(problem(within(8)), "it has more members than it may have");
    let global = vec![extension(b'g', b""); 1_010];
    let found = read_within(&stream(&global), Limits { members: 1, ..limits() });
    assert_eq!(problem(found), "it has more headers than its members need");
    let tail = [stream(&[head(b"a", b'0', 0)]), vec![0; 200_000]].concat();
    let found = read_within(&tail, Limits { bytes: 1_536, ..limits() });
    assert_eq!(problem(found), "more follows after its end than the archive may have bytes");
}

/// Octal numbers of a map as GNU tar's old form has them.
fn pieces(block: &mut [u8], pieces: &[(u64, u64)]) {
    for (at, (offset, length)) in pieces.iter().enumerate() {
        let text = format!("{offset:011o}\0{length:011o}\0");
        block[24 * at..24 * (at + 1)].copy_from_slice(text.as_bytes());
    }
}

fn old_sparse(first: &[(u64, u64)], more: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = changed(b"sparse", b'S', data.len() as u64, |block| {
        block[MAGIC].copy_from_slice(b"ustar  \0");
        pieces(&mut block[386..], first);
        block[482] = u8::from(!more.is_empty());
        block[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
    });
    let mut blocks = more.chunks(21).peekable();
    while let Some(list) = blocks.next() {
        let mut block = [0; BLOCK];
        pieces(&mut block, list);
        block[504] = u8::from(blocks.peek().is_some());
        bytes.extend_from_slice(&block);
    }
    [bytes, filled(data)].concat()
}

#[test]
fn sparse_files_have_their_holes() {
    let want = [vec![0; 1_000], vec![1; 24], vec![0; 500], vec![2; 3], vec![0; 10]].concat();
    let data = [vec![1; 24], vec![2; 3]].concat();
    let form = |records: &[(&str, &str)], data: &[u8]| {
        [extended(records), head(b"mangled", b'0', data.len() as u64), filled(data)].concat()
    };
    let in_data = [filled(b"2\n1000\n24\n1524\n3\n"), data.clone()].concat();
    for bytes in [
        old_sparse(&[(1_000, 24), (1_524, 3)], &[], 1_537, &data),
        old_sparse(&[(0, 0), (1_000, 20), (1_020, 4), (1_524, 1)], &[(1_525, 2), (1_537, 0)], 1_537, &data),
        form(
            &[
                ("path", "sparse"),
                ("GNU.sparse.size", "1537"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "1000"),
                ("GNU.sparse.numbytes", "24"),
                ("GNU.sparse.offset", "1524"),
                ("GNU.sparse.numbytes", "3"),
            ],
            &data,
        ),
        form(
            &[
                ("GNU.sparse.size", "1537"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.name", "sparse"),
                ("GNU.sparse.map", "1000,24,1524,3"),
            ],
            &data,
        ),
        form(
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "sparse"),
                ("GNU.sparse.realsize", "1537"),
            ],
            &in_data,
        ),
    ] {
        let next = head(b"next", b'0', 0);
        let found = read_all(&stream(&[bytes.clone(), next])).unwrap();
        assert_eq!(found[0].0.path, b"sparse");
        assert_eq!(found[0].1, want);
        assert_eq!(found[1].0.path, b"next");
        // Skipped it is as long as it is when it is read.
        let stream = stream(&[bytes, head(b"next", b'0', 0)]);
        let mut reader = Reader::new(stream.as_slice(), limits());
        reader.next_member().unwrap();
        reader.read_data(&mut [0; 1_010]).unwrap();
        assert_eq!(reader.next_member().unwrap().unwrap().path, b"next");
    }
    let many: Vec<(u64, u64)> = (0..60).map(|n| (n * 10, 1)).collect();
    let bytes = stream(&[old_sparse(&many[..4], &many[4..], 600, &[7; 60])]);
    let found = read_all(&bytes).unwrap();
    assert!(found[0].1.iter().enumerate().all(|(at, b)| *b == if at % 10 == 0 { 7 } else { 0 }));
    let nothing = stream(&[old_sparse(&[(1 << 20, 0)], &[], 1 << 20, b"")]);
    assert_eq!(read_all(&nothing).unwrap()[0].1, vec![0; 1 << 20]);
}

#[test]
fn maps_that_lie_are_refused() {
    const ORDER: &str = "the map of a sparse file is not in order";
    const DATA: &str = "a sparse file has not as much data as its map says";
    let old = |map: &[(u64, u64)], size, data: &[u8]| {
        problem(read_all(&stream(&[old_sparse(map, &[], size, data)])))
    };
    assert_eq!(old(&[(10, 2), (5, 1)], 100, b"abc"), ORDER);
    assert_eq!(old(&[(10, 2), (11, 1)], 100, b"abc"), ORDER);
    assert_eq!(old(&[(99, 2)], 100, b"ab"), ORDER);
    assert_eq!(old(&[(0, 2)], 100, b"abc"), DATA);
    assert_eq!(old(&[(0, 4)], 100, b"abc"), DATA);
    assert_eq!(old(&[(0, 1), (u64::MAX >> 31, 1)], 1 << 32, b"ab"), ORDER);
}

#[test]
fn forms_of_sparse_files_do_not_mix() {
    let with = |typeflag, list: &[(&str, &str)], data: &[u8]| {
        problem(read_all(&stream(&[extended(list), head(b"a", typeflag, data.len() as u64), filled(data)])))
    };
    const FORM: &str = "a sparse file is of an unknown form, or of two";
    const MAP: &str = "the map of a sparse file is malformed";
    let (major, minor) = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"));
    let (size, real) = (("GNU.sparse.size", "10"), ("GNU.sparse.realsize", "10"));
    let map = |text| ("GNU.sparse.map", text);
    assert_eq!(with(b'0', &[("GNU.sparse.major", "2"), minor, real], b""), FORM);
    assert_eq!(with(b'0', &[major, real], b""), FORM);
    assert_eq!(with(b'0', &[major, minor, real, size], b""), FORM);
    assert_eq!(with(b'0', &[major, minor, real, map("0,1")], b"a"), FORM);
    assert_eq!(with(b'0', &[real], b""), FORM);
    assert_eq!(with(b'5', &[size, map("10,0")], b""), FORM);
    assert_eq!(with(b'S', &[size, map("10,0")], b""), FORM);
    assert_eq!(with(b'0', &[major, minor], b""), MAP);
    assert_eq!(with(b'0', &[map("0,1")], b"a"), MAP);
    assert_eq!(with(b'0', &[size], b"a"), MAP);
    assert_eq!(with(b'0', &[size, map("0,1,2")], b"a"), MAP);
    assert_eq!(with(b'0', &[size, map("0,1"), map("1,1")], b"a"), MAP);
    assert_eq!(with(b'0', &[size, ("GNU.sparse.numblocks", "2"), map("0,1")], b"a"), MAP);
    assert_eq!(with(b'0', &[size, ("GNU.sparse.offset", "2")], b"a"), MAP);
    assert_eq!(with(b'0', &[size, ("GNU.sparse.offset", "2"), ("GNU.sparse.offset", "2")], b"a"), MAP);
    assert_eq!(with(b'0', &[size, ("GNU.sparse.numbytes", "2")], b"a"), MAP);
    let in_data = |text: &[u8]| with(b'0', &[major, minor, real], text);
    assert_eq!(in_data(b"1\n0\n1"), "the map of a sparse file is cut off");
    assert_eq!(in_data(&[b"1\n0\n1".to_vec(), vec![0; 507]].concat()), MAP);
    assert_eq!(in_data(&filled(b"x\n")), MAP);
    assert_eq!(in_data(&filled(b"-1\n")), MAP);
    assert_eq!(in_data(&filled(b"1048577\n")), "the map of a sparse file is too long");
    assert_eq!(in_data(&filled(b"2\n0\n1\n")), MAP);
}

#[test]
fn holes_count_towards_the_limit() {
    let hole = stream(&[old_sparse(&[(1 << 32, 0)], &[], 1 << 32, b"")]);
    let mut reader = Reader::new(hole.as_slice(), Limits { bytes: 1 << 30, ..limits() });
    assert_eq!(problem(reader.next_member()), "its files are larger than it may have bytes");
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        collection::vec(1u8.., 1..9),
        collection::vec(1u8.., 90..110),
        collection::vec(1u8.., 250..270)
    ]
    .prop_map(|mut name| {
        name.push(b'x');
        name
    })
}

fn member() -> impl Strategy<Value = Read> {
    let kind = prop_oneof![
        4 => Just(MemberKind::File),
        1 => Just(MemberKind::Directory),
        1 => Just(MemberKind::Fifo),
        1 => name().prop_map(MemberKind::Symlink),
        1 => name().prop_map(MemberKind::Hardlink),
    ];
    let owner = (any::<u32>(), 0..=i64::MAX.unsigned_abs(), 0u64..3_000_000);
    let names = (collection::vec(1u8.., 0..50), collection::vec(1u8.., 0..50));
    let time =
        (prop_oneof![any::<i64>(), -5i64..5, 0i64..1 << 34], prop_oneof![Just(0u32), 0u32..1_000_000_000]);
    let xattrs = collection::btree_map(name(), collection::vec(any::<u8>(), 0..20), 0..3);
    (name(), kind, owner, names, time, xattrs, collection::vec(any::<u8>(), 0..1_500)).prop_map(
        |(path, kind, (mode, uid, gid), (user, group), (secs, nanos), xattrs, data)| {
            let data = if kind == MemberKind::File { data } else { Vec::new() };
            let mtime = Timestamp { secs: secs.max(-i64::MAX), nanos };
            let xattrs = xattrs.into_iter().collect();
            let size = data.len() as u64;
            (Member { path, kind, mode: mode & 0o7777, uid, gid, user, group, mtime, size, xattrs }, data)
        },
    )
}

proptest! {
    #[test]
    fn members_come_back(members in collection::vec(member(), 0..6)) {
        prop_assert_eq!(read_all(&write_all(&members)).unwrap(), members);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in collection::vec(any::<u8>(), 0..3_000),
        flips in collection::vec((0usize..8_000, any::<u8>()), 0..6),
        members in collection::vec(member(), 1..3),
    ) {
        let _ = read_all(&bytes);
        bytes = write_all(&members);
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
            // With sums that fit, the fields themselves are reached.
            let start = at / BLOCK * BLOCK;
            let block: &mut Block = (&mut bytes[start..start + BLOCK]).try_into().unwrap();
            header::set_sum(block);
            let _ = read_within(&bytes, Limits { bytes: 1 << 20, ..limits() });
        }
    }
}
