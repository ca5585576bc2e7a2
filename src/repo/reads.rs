//! When this machine last read each pack to its end, so that checks of a part cover all in time.
//!
//! ```text
//! <cache>/<repository id>/reads   one line for each pack, and the BLAKE3 hash of all of them
//! ```

use std::collections::BTreeMap;
use std::fs;

use super::{Cache, RepoError};
use crate::model::ObjectId;

const NAME: &str = "reads";
const TITLE: &str = "exuvia-reads 1";

fn encode(reads: &BTreeMap<ObjectId, i64>) -> String {
    let mut text = format!("{TITLE}\n");
    reads.iter().for_each(|(pack, time)| text.push_str(&format!("{time} {pack}\n")));
    let hash = blake3::hash(text.as_bytes());
    text + hash.to_hex().as_str() + "\n"
}

fn decode(text: &str) -> Option<BTreeMap<ObjectId, i64>> {
    let (body, hash) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    if blake3::hash(&text.as_bytes()[..=body.len()]).to_hex().as_str() != hash {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let line = |line: &str| {
        let (time, pack) = line.split_once(' ')?;
        Some((pack.parse().ok()?, time.parse().ok()?))
    };
    lines.map(line).collect()
}

impl Cache {
    /// Packs that were read to their end and found good, and when, in seconds since 1970.
    #[must_use]
    pub fn reads(&self) -> BTreeMap<ObjectId, i64> {
        let text = fs::read_to_string(self.directory().join(NAME)).ok();
        text.and_then(|text| decode(&text)).unwrap_or_default()
    }

    /// Remembers that.
    pub fn note_reads(&self, reads: &BTreeMap<ObjectId, i64>) -> Result<(), RepoError> {
        self.write("", NAME, encode(reads).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_believed_whole_or_not_at_all() {
        let reads: BTreeMap<_, _> = [(ObjectId([1; 32]), 1_771_459_200), (ObjectId([2; 32]), -5)].into();
        let text = encode(&reads);
        assert_eq!(decode(&text), Some(reads));
        assert_eq!(decode(&text.replace("-5", "-6")), None);
        assert_eq!(decode(&text[..text.len() / 2]), None);
    }
}
