//! Whether names of one file are still names of one file.

use std::collections::HashMap;

use super::Pair;
use crate::model::{Entry, RepoPath};

/// A file of one tree: what its names have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
enum File {
    Group(u64),
    Name(RepoPath),
}

impl File {
    fn of(entry: &Entry) -> Self {
        match entry.link_group {
            0 => Self::Name(entry.path.clone()),
            group => Self::Group(group),
        }
    }
}

/// Which file of the old tree is which of the new one, as far as names that both trees have tell. A name
/// that comes or goes beside others is no change of those.
#[derive(Default)]
pub(in crate::ops) struct Links {
    new_of: HashMap<File, File>,
    old_of: HashMap<File, File>,
}

impl Links {
    /// True when this name joined another file or left its own; to be asked of every pair, in order.
    pub(in crate::ops) fn differ(&mut self, pair: &Pair) -> bool {
        let (Some(old), Some(new)) = (&pair.old, &pair.new) else { return false };
        let files = old.content().is_some() && new.content().is_some();
        if !files || old.link_group == 0 && new.link_group == 0 {
            return false;
        }
        let (old, new) = (File::of(old), File::of(new));
        let known = self.new_of.entry(old.clone()).or_insert_with(|| new.clone());
        let there = *known == new;
        let back = *self.old_of.entry(new).or_insert_with(|| old.clone()) == old;
        !(there && back)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Content, EntryKind, Metadata};

    fn pair(path: &str, old: u64, new: u64) -> Pair {
        let entry = |link_group| Entry {
            path: RepoPath::new(path.into()).unwrap(),
            kind: EntryKind::File(Content::default()),
            meta: Metadata::default(),
            link_group,
            unsettled: false,
        };
        Pair { old: Some(entry(old)), new: Some(entry(new)), old_link: None }
    }

    #[test]
    fn only_names_that_part_or_meet_differ() {
        let differ = |pairs: &[(&str, u64, u64)]| -> Vec<bool> {
            let mut links = Links::default();
            pairs.iter().map(|(path, old, new)| links.differ(&pair(path, *old, *new))).collect()
        };
        assert_eq!(differ(&[("a", 5, 9), ("b", 5, 9)]), [false, false], "another number");
        assert_eq!(differ(&[("a", 0, 9)]), [false], "a name more elsewhere");
        assert_eq!(differ(&[("a", 5, 0)]), [false], "a name less elsewhere");
        assert_eq!(differ(&[("a", 5, 0), ("b", 5, 0)]), [false, true], "parted");
        assert_eq!(differ(&[("a", 0, 9), ("b", 0, 9)]), [false, true], "met");
        assert_eq!(differ(&[("a", 5, 8), ("b", 5, 9), ("c", 6, 9)]), [false, true, true], "swapped");
        assert_eq!(differ(&[("a", 0, 0)]), [false]);
    }
}
