//! Which snapshots of a repository this client has seen, and which of them vanished: its high-water mark. It is
//! more than a listing of the last time, since what vanished stays noted until that is explained.
//!
//! ```text
//! <cache>/<repository id>/history   lines of text, and the BLAKE3 hash of them
//! ```

use std::collections::BTreeMap;
use std::fs;

use super::layout::{self, Folder};
use super::{Cache, RepoError};
use crate::model::{SnapshotMark, WriterId};

const NAME: &str = "history";
const TITLE: &str = "exuvia-history 1";

/// Snapshots by the names of their records; the mark is there when somebody on this machine has read or written
/// the record.
pub type SeenSnapshots = BTreeMap<String, Option<SnapshotMark>>;

/// What this client has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Snapshots that were there when it last looked.
    pub seen: SeenSnapshots,
    /// Snapshots that were there once, and that nobody said to have removed.
    pub vanished: SeenSnapshots,
}

impl History {
    fn encode(&self) -> String {
        let mut text = format!("{TITLE}\n");
        for (word, list) in [("seen", &self.seen), ("vanished", &self.vanished)] {
            for (name, mark) in list {
                let mark = mark.map(|mark| format!(" {} {}", mark.writer, mark.sequence)).unwrap_or_default();
                text.push_str(&format!("{word} {name}{mark}\n"));
            }
        }
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
        let mut history = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            let list = match words.next()? {
                "seen" => &mut history.seen,
                "vanished" => &mut history.vanished,
                _ => return None,
            };
            let name = words.next()?;
            let (Folder::Snapshots | Folder::Safety, _, _) = layout::parse_name(name)? else { return None };
            let mark = match (words.next(), words.next(), words.next()) {
                (None, None, None) => None,
                (Some(writer), Some(sequence), None) => Some(SnapshotMark {
                    writer: writer.parse::<WriterId>().ok()?,
                    sequence: sequence.parse().ok()?,
                }),
                _ => return None,
            };
            list.insert(name.to_owned(), mark);
        }
        Some(history)
    }
}

impl Cache {
    /// What this client has seen; `None` when it has no memory of this repository.
    #[must_use]
    pub fn history(&self) -> Option<History> {
        History::decode(&fs::read_to_string(self.directory().join(NAME)).ok()?)
    }

    /// Remembers what this client has seen.
    pub fn note_history(&self, history: &History) -> Result<(), RepoError> {
        self.write("", NAME, history.encode().as_bytes())
    }

    /// Adds a snapshot that this client has just published.
    pub fn note_published(&self, name: &str, mark: SnapshotMark) -> Result<(), RepoError> {
        let mut history = self.history().unwrap_or_default();
        history.seen.insert(name.to_owned(), Some(mark));
        self.note_history(&history)
    }

    /// Forgets snapshots that this client is about to remove, and does not miss them.
    pub fn forget_snapshots<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), RepoError> {
        let Some(before) = self.history() else { return Ok(()) };
        let mut history = before.clone();
        for name in names {
            history.seen.remove(name);
            history.vanished.remove(name);
        }
        if history == before { Ok(()) } else { self.note_history(&history) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{ObjectId, Timestamp};

    #[test]
    fn it_is_believed_whole_or_not_at_all() {
        let name = |n: u8| {
            layout::record_name(Folder::Snapshots, Timestamp::from_secs(n.into()), &ObjectId([n; 32]))
        };
        let mark = Some(SnapshotMark { writer: WriterId([7; 16]), sequence: u64::MAX });
        let history = History {
            seen: [(name(1), mark), (name(2), None)].into(),
            vanished: [(name(3), mark), (name(4), None)].into(),
        };
        let text = history.encode();
        assert_eq!(History::decode(&text), Some(history));
        assert_eq!(History::decode(&text.replacen("seen", "gone", 1)), None);
        assert_eq!(History::decode(&text[..text.len() / 2]), None);
        assert_eq!(History::decode(""), None);
        let signed = |body: &str| {
            let hash = blake3::hash(body.as_bytes());
            History::decode(&format!("{body}{}\n", hash.to_hex()))
        };
        assert_eq!(signed(&format!("{TITLE}\n")), Some(History::default()));
        assert_eq!(signed(&format!("{TITLE}\nseen ../x\n")), None);
        assert_eq!(signed(&format!("{TITLE}\nseen {} 07\n", name(1))), None);
    }
}
