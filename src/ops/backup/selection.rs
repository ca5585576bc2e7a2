//! What belongs to a snapshot, and the words that say so in its record.

use std::path::PathBuf;

use crate::gather::Profile;

/// Whether the application's own rules of what to leave out apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProfileChoice {
    /// Those of the application that is recognised in the directory, if any.
    #[default]
    Auto,
    /// No rules.
    None,
    /// OpenClaw's.
    OpenClaw,
}

/// What belongs to a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of include sets; everything when empty.
    pub include: Vec<String>,
    /// Patterns in gitignore syntax, anchored at the root.
    pub exclude: Vec<String>,
    /// Files of such patterns.
    pub exclude_files: Vec<PathBuf>,
    /// The application's rules.
    pub profile: ProfileChoice,
    /// Stay on the file system of the root.
    pub one_file_system: bool,
    /// Leave out what directories marked with a `CACHEDIR.TAG` hold.
    pub exclude_caches: bool,
}

impl Selection {
    /// The options that differ from the defaults, in the words of a snapshot's record; the profile is the
    /// one that applied.
    pub(super) fn words(&self, profile: Profile) -> Vec<String> {
        let mut words = vec![format!("profile={}", profile.name())];
        words.extend(self.include.iter().map(|s| format!("include={s}")));
        words.extend(self.exclude.iter().map(|p| format!("exclude={p}")));
        words.extend(self.exclude_files.iter().map(|p| format!("exclude-file={}", p.display())));
        words.extend(self.one_file_system.then(|| "one-file-system".to_string()));
        words.extend(self.exclude_caches.then(|| "exclude-caches".to_string()));
        words
    }

    /// The selection that a snapshot's record tells of; the first word that makes no sense otherwise.
    pub fn from_words(words: &[String]) -> Result<Self, &str> {
        let mut selection = Self { profile: ProfileChoice::None, ..Self::default() };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("profile", "none") => selection.profile = ProfileChoice::None,
                ("profile", "openclaw") => selection.profile = ProfileChoice::OpenClaw,
                ("include", set) => selection.include.push(set.to_string()),
                ("exclude", pattern) => selection.exclude.push(pattern.to_string()),
                ("exclude-file", path) => selection.exclude_files.push(PathBuf::from(path)),
                ("one-file-system", "") => selection.one_file_system = true,
                ("exclude-caches", "") => selection.exclude_caches = true,
                _ => return Err(word),
            }
        }
        Ok(selection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_known_by_its_words() {
        let selection = Selection {
            include: vec!["memory".into(), "config".into()],
            exclude: vec!["*.log".into(), "a=b".into()],
            exclude_files: vec!["/etc/x=y".into()],
            profile: ProfileChoice::OpenClaw,
            one_file_system: true,
            exclude_caches: true,
        };
        let words = selection.words(Profile::OpenClaw);
        assert_eq!(Selection::from_words(&words), Ok(selection));
        let none = Selection { profile: ProfileChoice::None, ..Selection::default() };
        assert_eq!(Selection::from_words(&none.words(Profile::None)), Ok(none));
        let future = vec!["profile=none".to_string(), "phase=of-the-moon".to_string()];
        assert_eq!(Selection::from_words(&future), Err("phase=of-the-moon"));
    }
}
