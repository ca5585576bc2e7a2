//! Which paths become which.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Old places and the new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The longest old place first, so that the state dir goes before the home that it lies in.
    pairs: Vec<(String, String)>,
}

/// Names by which an application finds its state dir in any home.
fn is_in_home(name: &str) -> bool {
    name == ".openclaw" || name == ".clawdbot" || name.starts_with(".openclaw-")
}

/// A path without slashes at its end, if it can stand in a text and is no file system's root.
fn text(path: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(path).ok()?.trim_end_matches('/');
    (text.starts_with('/') && !text.contains('\0')).then_some(text)
}

impl Mapping {
    /// From the state dir of a snapshot to another one. Where both are at home somewhere
    /// (`HOME/.openclaw`), what lies in the old home goes to the new one. `None` when nothing moves, and
    /// when one of the two is no UTF-8: the application's texts cannot name such a place either.
    #[must_use]
    pub fn new(old: &[u8], new: &Path) -> Option<Self> {
        let (old, new) = (text(old)?, text(new.as_os_str().as_bytes())?);
        if old == new {
            return None;
        }
        let mut pairs = vec![(old.to_owned(), new.to_owned())];
        if let (Some((old_home, old_name)), Some((new_home, new_name))) =
            (old.rsplit_once('/'), new.rsplit_once('/'))
            && is_in_home(old_name)
            && is_in_home(new_name)
            // A home at the root would be in every path.
            && !old_home.is_empty()
            && old_home != new_home
        {
            let new_home = if new_home.is_empty() { "/" } else { new_home };
            pairs.push((old_home.to_owned(), new_home.to_owned()));
        }
        Some(Self { pairs })
    }

    /// The old state dir and the new one.
    #[must_use]
    pub fn places(&self) -> (&str, &str) {
        self.pairs.first().map_or(("", ""), |(old, new)| (old, new))
    }

    /// Where a path is now; `None` when it stays where it was. Only whole components count.
    #[must_use]
    pub fn apply(&self, path: &str) -> Option<String> {
        self.pairs.iter().find_map(|(old, new)| {
            let rest = path.strip_prefix(old.as_str())?;
            match rest.strip_prefix('/') {
                Some(below) if new == "/" => Some(format!("/{below}")),
                Some(_) => Some(format!("{new}{rest}")),
                None => rest.is_empty().then(|| new.clone()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn moved(old: &str, new: &str, path: &str) -> Option<String> {
        Mapping::new(old.as_bytes(), Path::new(new)).unwrap().apply(path)
    }

    #[test]
    fn whole_components_move() {
        for (path, want) in [
            ("/home/al/.openclaw", Some("/root/.openclaw")),
            ("/home/al/.openclaw/", Some("/root/.openclaw/")),
            ("/home/al/.openclaw/a b/c", Some("/root/.openclaw/a b/c")),
            ("/home/al/.openclaw-2/a", Some("/root/.openclaw-2/a")),
            ("/home/al/clawd", Some("/root/clawd")),
            ("/home/al", Some("/root")),
            ("/home/alice/.openclaw", None),
            ("/home/al.bak", None),
            ("see /home/al/.openclaw", None),
            ("~/.openclaw", None),
            ("home/al", None),
            ("", None),
        ] {
            assert_eq!(moved("/home/al/.openclaw", "/root/.openclaw", path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn a_home_moves_only_with_a_state_dir_that_is_at_home() {
        assert_eq!(moved("/home/al/.openclaw", "/data", "/home/al/x"), None);
        assert_eq!(moved("/data/", "/home/al/.openclaw", "/data/x").unwrap(), "/home/al/.openclaw/x");
        assert_eq!(moved("/.openclaw", "/root/.openclaw", "/etc/passwd"), None);
        assert_eq!(moved("/root/.openclaw", "/.openclaw", "/root/x").unwrap(), "/x");
        assert_eq!(moved("/root/.openclaw", "/root/.openclaw-2", "/root/x"), None);
        // The longer place wins although the shorter one fits too.
        assert_eq!(moved("/h/.openclaw", "/n/.openclaw-w", "/h/.openclaw/x").unwrap(), "/n/.openclaw-w/x");
        for (old, new) in [("/a", "/a"), ("/a/", "/a"), ("/", "/a"), ("a", "/b")] {
            assert_eq!(Mapping::new(old.as_bytes(), Path::new(new)), None, "{old}");
        }
        assert_eq!(Mapping::new(b"/a\xff", Path::new("/b")), None);
    }
}
