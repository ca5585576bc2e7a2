//! Packs that were found damaged, in the local cache: what they held is stored again when its content is
//! still there (`format-spec/` section 14.8).
//!
//! ```text
//! <cache>/<repository id>/damage   one line for each pack, and the BLAKE3 hash of all of them
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::sync::PoisonError;

use super::{Cache, RepoError};
use crate::model::ObjectId;

const NAME: &str = "damage";
const TITLE: &str = "exuvia-damage 1";

/// What is known of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A listing does not have it.
    Missing,
    /// All of it was read, and it is not what it should be.
    Damaged,
    /// A part of it was read and was not what it should be: worth a closer look.
    Suspected,
    /// All of it was read: its bytes are those that its name was made from, and not what the index says. Another
    /// look at them says nothing new.
    False,
}

impl Damage {
    fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Suspected => "suspected",
            Self::False => "false",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Missing, Self::Damaged, Self::Suspected, Self::False]
            .into_iter()
            .find(|damage| damage.word() == word)
    }
}

fn encode(packs: &BTreeMap<ObjectId, Damage>) -> String {
    let mut text = format!("{TITLE}\n");
    packs.iter().for_each(|(pack, damage)| text.push_str(&format!("{} {pack}\n", damage.word())));
    let hash = blake3::hash(text.as_bytes());
    text + hash.to_hex().as_str() + "\n"
}

/// `None` for anything but a whole text of [`encode`].
fn decode(text: &str) -> Option<BTreeMap<ObjectId, Damage>> {
    let (body, hash) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    if blake3::hash(&text.as_bytes()[..=body.len()]).to_hex().as_str() != hash {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let line = |line: &str| {
        let (word, pack) = line.split_once(' ')?;
        Some((pack.parse().ok()?, Damage::from_word(word)?))
    };
    lines.map(line).collect()
}

impl Cache {
    /// The packs that were found damaged on this machine. A list that cannot be read is an empty one: what
    /// is damaged will be met again.
    #[must_use]
    pub fn damage(&self) -> BTreeMap<ObjectId, Damage> {
        let text = fs::read_to_string(self.directory().join(NAME)).ok();
        text.and_then(|text| decode(&text)).unwrap_or_default()
    }

    /// Changes the list.
    pub fn change_damage(
        &self,
        change: impl FnOnce(&mut BTreeMap<ObjectId, Damage>),
    ) -> Result<(), RepoError> {
        let _held = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.damage();
        let mut after = before.clone();
        change(&mut after);
        if after == before { Ok(()) } else { self.write("", NAME, encode(&after).as_bytes()) }
    }

    /// Notes a pack that did not hold what it should. One that cannot be noted is met again.
    pub(super) fn suspect(&self, pack: &ObjectId) {
        let noted = self.change_damage(|packs| {
            packs.entry(*pack).or_insert(Damage::Suspected);
        });
        drop(noted);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::RepositoryId;
    use crate::repo::CachePlace;

    #[test]
    fn the_list_is_believed_whole_or_not_at_all() {
        let packs: BTreeMap<_, _> = [
            (ObjectId([1; 32]), Damage::Missing),
            (ObjectId([2; 32]), Damage::Damaged),
            (ObjectId([3; 32]), Damage::Suspected),
            (ObjectId([4; 32]), Damage::False),
        ]
        .into();
        let text = encode(&packs);
        assert_eq!(decode(&text), Some(packs));
        assert_eq!(decode(&text.replace("missing", "damaged")), None);
        assert_eq!(decode(&text[..text.len() - 9]), None);
        assert_eq!(decode(""), None);
    }

    #[test]
    fn a_suspicion_takes_nothing_back() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(CachePlace { dir: dir.path(), keeps_key: false }, RepositoryId([7; 16]));
        assert!(cache.damage().is_empty());
        let pack = ObjectId([1; 32]);
        cache.change_damage(|packs| packs.extend([(pack, Damage::Missing)])).unwrap();
        cache.suspect(&pack);
        cache.suspect(&ObjectId([2; 32]));
        assert_eq!(
            cache.damage().into_iter().collect::<Vec<_>>(),
            [(pack, Damage::Missing), (ObjectId([2; 32]), Damage::Suspected)]
        );
        cache.change_damage(BTreeMap::clear).unwrap();
        assert!(cache.damage().is_empty());
    }
}
