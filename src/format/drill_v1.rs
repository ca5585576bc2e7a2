//! Results of drills, as the local cache keeps them. No part of a repository.

use super::record::{self, List, Text};
use super::snapshot_v1::timestamp;
use super::{FormatError, limits};
use crate::model::{DrillResult, ObjectId, Verdict};

const VERSION: u8 = 1;

#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    version: u8,
    secs: i64,
    nanos: u32,
    snapshot: [u8; 32],
    snapshot_secs: i64,
    snapshot_nanos: u32,
    verdict: u8,
    counts: [u64; 6],
    problems: List<Text, { limits::DRILL_PROBLEMS }>,
}

/// Encodes a result.
pub fn encode(result: &DrillResult) -> Result<Vec<u8>, FormatError> {
    record::encode(&Wire {
        version: VERSION,
        secs: result.time.secs,
        nanos: result.time.nanos,
        snapshot: result.snapshot.0,
        snapshot_secs: result.snapshot_time.secs,
        snapshot_nanos: result.snapshot_time.nanos,
        verdict: match result.verdict {
            Verdict::Good => 0,
            Verdict::Failed => 1,
            Verdict::Damaged => 2,
        },
        counts: [
            result.files,
            result.dirs,
            result.bytes,
            result.databases,
            result.problem_count,
            result.duration_ms,
        ],
        problems: List(result.problems.iter().cloned().map(Text).collect()),
    })
}

/// Decodes a result.
pub fn decode(bytes: &[u8]) -> Result<DrillResult, FormatError> {
    if bytes.first() != Some(&VERSION) {
        return Err(FormatError::Unsupported("result of a drill".to_owned()));
    }
    let wire: Wire = record::decode(bytes)?;
    let [files, dirs, size, databases, problem_count, duration_ms] = wire.counts;
    Ok(DrillResult {
        time: timestamp(wire.secs, wire.nanos)?,
        snapshot: ObjectId(wire.snapshot),
        snapshot_time: timestamp(wire.snapshot_secs, wire.snapshot_nanos)?,
        verdict: match wire.verdict {
            0 => Verdict::Good,
            1 => Verdict::Failed,
            2 => Verdict::Damaged,
            _ => return Err(FormatError::Damaged("no verdict of a drill")),
        },
        files,
        dirs,
        bytes: size,
        databases,
        problems: wire.problems.0.into_iter().map(|text| text.0).collect(),
        problem_count,
        duration_ms,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn results_come_back_whole_or_not_at_all() {
        for verdict in [Verdict::Good, Verdict::Failed, Verdict::Damaged] {
            let result = DrillResult {
                time: Timestamp { secs: -1, nanos: 999_999_999 },
                snapshot: ObjectId([7; 32]),
                snapshot_time: Timestamp::from_secs(5),
                verdict,
                files: 1,
                dirs: 2,
                bytes: u64::MAX,
                databases: 3,
                problems: vec!["a: is missing".to_owned(), String::new()],
                problem_count: 40_000,
                duration_ms: 251,
            };
            let bytes = encode(&result).unwrap();
            assert_eq!(decode(&bytes), Ok(result.clone()));
            for n in 0..bytes.len() {
                assert!(decode(&bytes[..n]).is_err(), "{n}");
            }
            let many = DrillResult { problems: vec![String::new(); limits::DRILL_PROBLEMS + 1], ..result };
            assert!(encode(&many).is_err());
            let newer = [&[2], &bytes[1..]].concat();
            assert!(matches!(decode(&newer), Err(FormatError::Unsupported(_))));
        }
    }

    /// A fuzzer that begins with what is refused at once finds nothing behind it.
    #[test]
    fn the_seeds_of_the_fuzz_target_are_taken() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/drill_result");
        let mut verdicts = Vec::new();
        for seed in std::fs::read_dir(dir).unwrap() {
            let bytes = std::fs::read(seed.unwrap().path()).unwrap();
            let result = decode(&bytes).unwrap();
            assert_eq!(encode(&result).unwrap(), bytes);
            verdicts.push(result.verdict);
        }
        assert!(verdicts.contains(&Verdict::Good) && verdicts.contains(&Verdict::Damaged), "{verdicts:?}");
    }
}
