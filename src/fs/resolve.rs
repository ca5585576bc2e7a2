//! Paths whose end does not exist yet.

use std::path::{Path, PathBuf};

/// Links that are followed one after the other.
const MAX_LINKS: u32 = 40;

/// The path with links followed as far as it exists. A link to what does not exist is not followed.
#[must_use]
pub fn resolve(path: &Path) -> PathBuf {
    above(path, &|ancestor| ancestor.canonicalize().ok())
}

/// The path that [`resolve`] gives once all of it exists, as far as links already say it: those to what does not
/// exist are followed too.
#[must_use]
pub fn resolve_ahead(path: &Path) -> PathBuf {
    ahead(path, MAX_LINKS)
}

fn ahead(path: &Path, links: u32) -> PathBuf {
    above(path, &|ancestor| {
        let there = ancestor.canonicalize().ok();
        there.or_else(|| {
            let target = std::fs::read_link(ancestor).ok().filter(|_| links > 0)?;
            Some(ahead(&ancestor.parent()?.join(target), links - 1))
        })
    })
}

/// The first of the path and the folders above it that `found` knows, with what is below it.
fn above(path: &Path, found: &impl Fn(&Path) -> Option<PathBuf>) -> PathBuf {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if let Some(found) = found(ancestor) {
            return missing.iter().rev().fold(found, |path, name| path.join(name));
        }
        missing.extend(ancestor.file_name());
    }
    path.to_path_buf()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_does_not_exist_yet_is_found_where_it_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("real/later", base.join("ahead")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        assert_eq!(resolve(&base.join("link/a/b")), base.join("real/a/b"));
        assert_eq!(resolve(&base.join("ahead/a")), base.join("ahead/a"));
        assert_eq!(resolve_ahead(&base.join("ahead/a")), base.join("real/later/a"));
        assert_eq!(resolve_ahead(&base.join("link/a/b")), base.join("real/a/b"));
        assert!(resolve_ahead(&base.join("loop/a")).ends_with("loop/a"));
        std::fs::create_dir_all(base.join("real/later/a")).unwrap();
        assert_eq!(resolve_ahead(&base.join("ahead/a")), resolve(&base.join("ahead/a")));
    }
}
