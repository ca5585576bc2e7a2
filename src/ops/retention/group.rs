//! Which snapshots are judged together, and which are judged at all.

use std::str::FromStr;

use crate::model::{Snapshot, WriterKeyId};

/// What snapshots must have in common to be judged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// The machine.
    pub host: bool,
    /// Root and paths.
    pub paths: bool,
    /// The sets of an application's files that they were limited to: a part of a directory cannot stand for
    /// all of it.
    pub sets: bool,
    /// All labels.
    pub tags: bool,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { host: true, paths: true, sets: true, tags: false }
    }
}

/// A word that names nothing to group by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing to group by; give some of host, paths, sets, tags, or `none`")]
pub struct GroupingError(String);

impl FromStr for Grouping {
    type Err = GroupingError;

    fn from_str(text: &str) -> Result<Self, GroupingError> {
        let mut grouping = Self { host: false, paths: false, sets: false, tags: false };
        if text.trim() == "none" {
            return Ok(grouping);
        }
        for word in text.split(',') {
            let flag = match word.trim() {
                "host" | "hosts" => &mut grouping.host,
                "path" | "paths" | "root" => &mut grouping.paths,
                "set" | "sets" => &mut grouping.sets,
                "tag" | "tags" => &mut grouping.tags,
                other => return Err(GroupingError(other.to_owned())),
            };
            *flag = true;
        }
        Ok(grouping)
    }
}

/// What the snapshots of a group have in common; `None` where they need not.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The machine.
    pub host: Option<String>,
    /// The root, and the paths asked for.
    pub paths: Option<(Vec<u8>, Vec<Vec<u8>>)>,
    /// The sets; empty for all files.
    pub sets: Option<Vec<String>>,
    /// The labels.
    pub tags: Option<Vec<String>>,
    /// The writer key that made them, if it was none of an owner: always theirs alone.
    pub writer_key: Option<WriterKeyId>,
}

impl Grouping {
    /// The group that a snapshot belongs to.
    #[must_use]
    pub fn key(self, snapshot: &Snapshot) -> Key {
        let sorted = |list: Vec<String>| {
            let mut list = list;
            list.sort();
            list
        };
        let sets = || snapshot.selection.iter().filter_map(|word| word.strip_prefix("include="));
        Key {
            host: self.host.then(|| snapshot.host.clone()),
            paths: self.paths.then(|| {
                let mut paths = snapshot.paths.clone();
                paths.sort();
                (snapshot.root.clone(), paths)
            }),
            sets: self.sets.then(|| sorted(sets().map(str::to_owned).collect())),
            tags: self.tags.then(|| sorted(snapshot.tags.clone())),
            writer_key: None,
        }
    }
}

/// Which snapshots are judged; others are neither removed nor counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one of these machines; of any when empty.
    pub hosts: Vec<String>,
    /// Of all of these paths.
    pub paths: Vec<Vec<u8>>,
    /// With every label of one of these lists; with any when empty.
    pub tags: Vec<Vec<String>>,
}

impl Filter {
    /// Whether a snapshot is judged.
    #[must_use]
    pub fn takes(&self, snapshot: &Snapshot) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
            && (self.tags.is_empty()
                || self.tags.iter().any(|all| all.iter().all(|tag| snapshot.tags.contains(tag))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_to_group_by() {
        assert_eq!("host,paths,sets".parse(), Ok(Grouping::default()));
        let none = Grouping { host: false, paths: false, sets: false, tags: false };
        assert_eq!("none".parse(), Ok(none));
        assert_eq!(" tags ".parse(), Ok(Grouping { tags: true, ..none }));
        for bad in ["", "hosst", "host,,tags", "host,none"] {
            assert!(bad.parse::<Grouping>().is_err(), "{bad}");
        }
    }
}
