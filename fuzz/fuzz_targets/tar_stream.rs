//! Tar streams: what is taken of one comes back when it is written again.
#![no_main]

use exuvia::full::Limits;
use exuvia::full::tar::{Member, MemberKind, Reader, TarError, Writer};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let limits = Limits { members: 1_000, bytes: 1 << 20, ratio: u64::MAX, ratio_floor: 0 };
    let (mut reader, mut members) = (Reader::new(bytes, limits), Vec::new());
    while let Some(member) = reader.next_member()? {
        let (mut data, mut piece) = (Vec::new(), [0; 700]);
        loop {
            match reader.read_data(&mut piece)? {
                0 => break,
                n => data.extend_from_slice(&piece[..n]),
            }
        }
        assert_eq!(data.len() as u64, member.size);
        members.push((member, data));
    }
    Ok(members)
}

/// A fuzzer does not find the sums of headers by chance: every block that is not zeros gets its own.
fn with_sums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|b| *b != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fn check(bytes: &[u8]) {
    let Ok(mut members) = read(bytes) else { return };
    let mut writer = Writer::new(Vec::new());
    members.retain(|(member, data)| {
        // The earliest second of all has no room in an extended header.
        let first = member.mtime.secs == i64::MIN;
        if first || matches!(member.kind, MemberKind::Other(_)) || writer.member(member).is_err() {
            return false;
        }
        writer.data(data).expect("it has as much data as it says");
        true
    });
    let again = writer.finish().expect("the archive is whole");
    assert_eq!(read(&again).expect("what was written is read"), members);
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&with_sums(bytes));
});
