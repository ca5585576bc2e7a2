//! When this client first saw things that must be old before they are acted upon: gc records, and packs that
//! no index object lists. A time in a record is the clock of whoever wrote it; these are our own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::{Cache, RepoError};
use crate::clock::Boot;
use crate::model::{ObjectId, Timestamp};

const NAME: &str = "sightings";
const TITLE: &str = "exuvia-sightings 1";

/// Beside it: packs that this client's prunes have written, so that they need not be read to be trusted.
const OWN: &str = "own-packs";

/// When something was first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// By the wall clock, to the second.
    pub time: Timestamp,
    /// By the clock that counts from the machine's start, where there is one.
    pub boot: Option<Boot>,
}

/// First sights, by names of objects.
pub type Sightings = BTreeMap<String, Sighting>;

fn encode(sightings: &Sightings) -> String {
    let mut text = format!("{TITLE}\n");
    for (name, Sighting { time, boot }) in sightings {
        let (id, elapsed) = boot.as_ref().map_or(("-", 0), |boot| (boot.id.as_str(), boot.elapsed.as_secs()));
        text.push_str(&format!("{name} {} {id} {elapsed}\n", time.secs));
    }
    let hash = blake3::hash(text.as_bytes());
    text + hash.to_hex().as_str() + "\n"
}

/// `None` for anything but a whole text of [`encode`].
fn decode(text: &str) -> Option<Sightings> {
    let (body, hash) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    if blake3::hash(&text.as_bytes()[..=body.len()]).to_hex().as_str() != hash {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (name, secs) = (words.next()?.to_string(), words.next()?.parse().ok()?);
        let (id, elapsed) = (words.next()?, words.next()?.parse().ok()?);
        let boot = (id != "-").then(|| Boot { id: id.into(), elapsed: Duration::from_secs(elapsed) });
        Some((name, Sighting { time: Timestamp::from_secs(secs), boot }))
    };
    lines.map(line).collect()
}

impl Cache {
    /// What was seen; `None` when this client never noted anything, or the note is damaged.
    #[must_use]
    pub fn sightings(&self) -> Option<Sightings> {
        decode(&fs::read_to_string(self.directory().join(NAME)).ok()?)
    }

    /// The packs that this client's prunes have written.
    #[must_use]
    pub fn own_packs(&self) -> BTreeSet<ObjectId> {
        let text = fs::read_to_string(self.directory().join(OWN)).unwrap_or_default();
        let Some((body, hash)) = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')) else {
            return BTreeSet::new();
        };
        if blake3::hash(body.as_bytes()).to_hex().as_str() != hash {
            return BTreeSet::new();
        }
        body.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Notes them.
    pub fn note_own_packs(&self, packs: &BTreeSet<ObjectId>) -> Result<(), RepoError> {
        let body: Vec<String> = packs.iter().map(ToString::to_string).collect();
        let body = body.join("\n");
        let hash = blake3::hash(body.as_bytes()).to_hex();
        self.write("", OWN, format!("{body}\n{hash}\n").as_bytes())
    }

    /// Notes what was seen.
    pub fn note_sightings(&self, sightings: &Sightings) -> Result<(), RepoError> {
        self.write("", NAME, encode(sightings).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_believed_whole_or_not_at_all() {
        let boot = Boot { id: "b-1".into(), elapsed: Duration::from_secs(77) };
        let sightings: Sightings = [
            ("gc/a".to_string(), Sighting { time: Timestamp::from_secs(-5), boot: Some(boot) }),
            ("packs/aa/b".to_string(), Sighting { time: Timestamp::from_secs(9), boot: None }),
        ]
        .into();
        let text = encode(&sightings);
        assert_eq!(decode(&text), Some(sightings));
        assert_eq!(decode(&text.replace("77", "78")), None);
        assert_eq!(decode(&text[..text.len() / 2]), None);
        assert_eq!(decode(&encode(&Sightings::new())), Some(Sightings::new()));
        assert_eq!(decode(""), None);
    }

    #[test]
    fn packs_are_known_as_our_own_by_a_whole_note_only() {
        let dir = crate::fs::scratch();
        let remote: std::sync::Arc<crate::remote::Memory> = std::sync::Arc::default();
        let repository = crate::repo::tests::repository(&remote, dir.path());
        let cache = repository.cache();
        assert_eq!(cache.own_packs(), BTreeSet::new());
        let packs = BTreeSet::from([ObjectId([1; 32]), ObjectId([0xab; 32])]);
        assert!(cache.note_own_packs(&packs).is_ok());
        assert_eq!(cache.own_packs(), packs);
        let path = cache.directory().join(OWN);
        let text = fs::read_to_string(&path).unwrap_or_default();
        // Whoever changes a digit could make us trust a pack that we never read.
        for bad in [text.replacen("ab", "ac", 1), text[1..].to_owned(), text.trim_end().to_owned()] {
            assert!(fs::write(&path, &bad).is_ok() && bad != text);
            assert_eq!(cache.own_packs(), BTreeSet::new(), "{bad}");
        }
    }
}
