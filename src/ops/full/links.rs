//! Files with several names, while an archive is made.

use std::collections::HashMap;
use std::hash::Hash;

/// Bytes that may be held, by estimate: a bound for memory, which about 80,000 files with several names come to.
const ROOM: usize = 16 << 20;
/// What an entry takes beside its name.
const ENTRY: usize = 128;

/// The first names of files with several, so that the further ones can be links to them.
///
/// What does not fit is not held: the further names of such a file become files of their own, with the same content.
pub(super) struct Links<K, V> {
    held: HashMap<K, Held<V>>,
    room: usize,
}

struct Held<V> {
    name: Vec<u8>,
    /// What the further names must have in common with the first.
    what: V,
    /// Names that are still to come, at most.
    left: u64,
}

impl<K: Eq + Hash, V: PartialEq> Links<K, V> {
    pub(super) fn new() -> Self {
        Self::with_room(ROOM)
    }

    fn with_room(room: usize) -> Self {
        Self { held: HashMap::new(), room }
    }

    /// Takes down the first name of a file that has at most `left` more.
    pub(super) fn first(&mut self, key: K, name: Vec<u8>, what: V, left: u64) {
        let Some(room) = self.room.checked_sub(ENTRY + name.len()).filter(|_| left > 0) else { return };
        self.room = room;
        self.forget(&key);
        self.held.insert(key, Held { name, what, left });
    }

    /// The first name of a file of which this is a further one. Known only if the two have `what` in common.
    pub(super) fn further(&mut self, key: &K, what: &V) -> Option<Vec<u8>> {
        let held = self.held.get_mut(key).filter(|held| held.what == *what)?;
        held.left -= 1;
        if held.left > 0 { Some(held.name.clone()) } else { self.forget(key) }
    }

    fn forget(&mut self, key: &K) -> Option<Vec<u8>> {
        let Held { name, .. } = self.held.remove(key)?;
        self.room += ENTRY + name.len();
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_until_its_last_name() {
        let mut links = Links::new();
        links.first(1, b"a".to_vec(), 'x', 2);
        links.first(2, b"alone".to_vec(), 'x', 0);
        assert_eq!(links.further(&2, &'x'), None);
        assert_eq!(links.further(&1, &'y'), None);
        assert_eq!(links.further(&1, &'x').as_deref(), Some(&b"a"[..]));
        assert_eq!(links.further(&1, &'x').as_deref(), Some(&b"a"[..]));
        assert_eq!(links.further(&1, &'x'), None);
        assert_eq!((links.held.len(), links.room), (0, ROOM));
    }

    #[test]
    fn what_does_not_fit_is_not_held_and_room_comes_back() {
        let mut links = Links::with_room(2 * (ENTRY + 1));
        for key in 0..1_000 {
            links.first(key, b"n".to_vec(), (), 1);
        }
        assert_eq!(links.held.len(), 2);
        assert_eq!(links.further(&2, &()), None);
        assert!(links.further(&0, &()).is_some());
        links.first(7, b"n".to_vec(), (), u64::MAX);
        assert!(links.further(&7, &()).is_some());
    }
}
