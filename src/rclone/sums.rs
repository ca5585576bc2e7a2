//! SHA-256 of stored objects, from services that keep it or compute it where the bytes are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::environment::{Environment, REMOTE};
use super::fault::{Failure, Fault};
use super::once::command;
use super::target::Target;

const FEATURES_LIMIT: Duration = Duration::from_secs(60);
/// However many bytes there are to hash, a service answers within this and a second for each MiB.
const LEAST_LIMIT: Duration = Duration::from_secs(600);
const BYTES_PER_SECOND: u64 = 1 << 20;

#[derive(Deserialize)]
struct Features {
    #[serde(default, rename = "Hashes")]
    hashes: Option<Vec<String>>,
}

fn knows_sha256(json: &[u8]) -> Result<bool, Failure> {
    let features: Features = serde_json::from_slice(json).map_err(|e| Failure {
        message: format!("what the remote can do cannot be read: {e}"),
        fault: Fault::Other,
    })?;
    Ok(features.hashes.unwrap_or_default().iter().any(|hash| hash == "sha256"))
}

/// True when the service of a target has SHA-256 of its objects.
pub fn has_sha256(target: &Target, environment: &Environment) -> Result<bool, Failure> {
    let output = command(target, environment, &["backend", "features", REMOTE], b"", FEATURES_LIMIT)?;
    knows_sha256(&output.success()?)
}

/// The hashes that the service tells of these objects, of `bytes` together. Those that it does not have, or
/// not there, are left out.
pub fn sha256(
    target: &Target,
    environment: &Environment,
    names: &[&str],
    bytes: u64,
) -> Result<BTreeMap<String, [u8; 32]>, Failure> {
    let limit = LEAST_LIMIT + Duration::from_secs(bytes / BYTES_PER_SECOND);
    let list = names.join("\n") + "\n";
    let arguments = ["hashsum", "SHA256", REMOTE, "--files-from-raw", "-"];
    let output = command(target, environment, &arguments, list.as_bytes(), limit)?;
    let told = parse_sums(&String::from_utf8_lossy(&output.stdout));
    // A command that failed for some of them has told the others.
    if told.is_empty() { output.success().map(|_| told) } else { Ok(told) }
}

/// Lines of a hash, two spaces, and a name; others are passed over.
fn parse_sums(text: &str) -> BTreeMap<String, [u8; 32]> {
    let line = |line: &str| {
        let (sum, name) = line.split_once("  ")?;
        let sum = data_encoding::HEXLOWER_PERMISSIVE.decode(sum.as_bytes()).ok()?;
        Some((name.to_string(), sum.try_into().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn features_are_understood() {
        assert!(knows_sha256(br#"{"Name":"x","Hashes":["md5","sha1","sha256"],"Features":{}}"#).unwrap());
        assert!(!knows_sha256(br#"{"Hashes":["md5"]}"#).unwrap());
        assert!(!knows_sha256(br#"{"Hashes":null}"#).unwrap());
        assert!(!knows_sha256(b"{}").unwrap());
        assert!(knows_sha256(b"Error: no").is_err());
    }

    #[test]
    fn sums_are_understood() {
        let sum = "ab".repeat(32);
        let text =
            format!("{sum}  packs/ab/x\nUNSUPPORTED  a\n                  b\n{sum} c\n{}  d\n", &sum[2..]);
        let sums = parse_sums(&text);
        assert_eq!(sums.into_iter().collect::<Vec<_>>(), [("packs/ab/x".to_string(), [0xab; 32])]);
    }
}
