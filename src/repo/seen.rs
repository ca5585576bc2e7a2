//! What this client saw of a repository when it last looked, so that the next backup need not look again
//! at what cannot have changed. `format-spec/` section 13, rule 4 says when it may be relied on.

use std::collections::BTreeSet;
use std::fs;

use super::layout::{self, Folder, ObjectInfo};
use super::{Cache, RepoError};
use crate::model::BlobId;

const NAME: &str = "seen";
const TITLE: &str = "exuvia-seen 1";

/// Listings of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Names of the snapshots whose packs the index objects of `index` list.
    pub snapshots: BTreeSet<String>,
    /// Names of the gc records, listed before `index` was.
    pub gc: BTreeSet<String>,
    /// The index objects; `None` when they must be listed anew.
    pub index: Option<Vec<ObjectInfo>>,
    /// Root segments of manifests of which every blob is in a pack that `index` lists and `gc` does not condemn: to
    /// look for each of them again would cost a backup of no change more than all the rest.
    pub sound: BTreeSet<BlobId>,
}

impl Seen {
    fn encode(&self) -> String {
        let mut text = format!("{TITLE}\n");
        let mut line = |words: [&str; 3]| {
            text.push_str(words.join(" ").trim_end());
            text.push('\n');
        };
        self.snapshots.iter().for_each(|name| line(["snapshot", name, ""]));
        self.gc.iter().for_each(|name| line(["gc", name, ""]));
        if let Some(index) = &self.index {
            line(["index-listed", "", ""]);
            index.iter().for_each(|object| line(["index", &object.name, &object.size.to_string()]));
        }
        self.sound.iter().for_each(|root| line(["sound", &root.to_string(), ""]));
        let hash = blake3::hash(text.as_bytes());
        text + hash.to_hex().as_str() + "\n"
    }

    /// `None` for anything but a whole text of [`Self::encode`].
    fn decode(text: &str) -> Option<Self> {
        let (body, hash) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        if blake3::hash(&text.as_bytes()[..=body.len()]).to_hex().as_str() != hash {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut seen = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            match (words.next()?, words.next(), words.next()) {
                ("snapshot", Some(name), None) => drop(seen.snapshots.insert(name.to_string())),
                ("gc", Some(name), None) => drop(seen.gc.insert(name.to_string())),
                ("sound", Some(root), None) => drop(seen.sound.insert(root.parse().ok()?)),
                ("index-listed", None, None) => seen.index = Some(Vec::new()),
                ("index", Some(name), Some(size)) => {
                    let (Folder::Index, None, id) = layout::parse_name(name)? else { return None };
                    let object = ObjectInfo { name: name.into(), time: None, id, size: size.parse().ok()? };
                    seen.index.as_mut()?.push(object);
                }
                _ => return None,
            }
        }
        Some(seen)
    }
}

impl Cache {
    /// What was seen last, if that is known.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        Seen::decode(&fs::read_to_string(self.directory().join(NAME)).ok()?)
    }

    /// Remembers what was seen.
    pub fn note_seen(&self, seen: &Seen) -> Result<(), RepoError> {
        self.write("", NAME, seen.encode().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::ObjectId;

    #[test]
    fn it_is_believed_whole_or_not_at_all() {
        let id = ObjectId([7; 32]);
        let object = ObjectInfo { name: layout::plain_name(Folder::Index, &id), time: None, id, size: 12 };
        for index in [None, Some(Vec::new()), Some(vec![object])] {
            let seen = Seen {
                snapshots: ["snapshots/a".to_string(), "snapshots/b".to_string()].into(),
                gc: ["gc/x".to_string()].into(),
                index,
                sound: [BlobId([9; 32])].into(),
            };
            let text = seen.encode();
            assert_eq!(Seen::decode(&text), Some(seen));
            assert_eq!(Seen::decode(&text.replace("gc/x", "gc/y")), None);
            assert_eq!(Seen::decode(&text[..text.len() / 2]), None);
        }
        assert_eq!(Seen::decode(""), None);
    }
}
