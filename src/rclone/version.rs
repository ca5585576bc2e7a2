//! rclone's version.

use std::fmt;

/// A released version of rclone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1, until there is a second.
    pub major: u32,
    /// What changes from release to release.
    pub minor: u32,
    /// A release of corrections.
    pub patch: u32,
}

impl Version {
    /// The oldest that the transport is tested with.
    pub const OLDEST: Self = Self { major: 1, minor: 60, patch: 0 };

    /// Finds `v1.60.1-DEV` in what `rclone version` prints or in the `Server` header of its answers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let after = |mark: &str| text.find(mark).and_then(|at| text.get(at + mark.len()..));
        let numbers = after("rclone v").or_else(|| after("rclone/v"))?;
        let end = numbers.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(numbers.len());
        let mut parts = numbers.get(..end)?.split('.').map(str::parse);
        let mut next = || parts.next()?.ok();
        Some(Self { major: next()?, minor: next()?, patch: next().unwrap_or(0) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        for (text, expected) in [
            ("rclone v1.60.1-DEV\n- os/version: debian 12.11 (64 bit)\n", "1.60.1"),
            ("rclone/v1.75.2", "1.75.2"),
            ("rclone v1.59", "1.59.0"),
            ("rclone v1.76.0-beta.8972.abc", "1.76.0"),
        ] {
            assert_eq!(Version::parse(text).unwrap().to_string(), expected);
        }
        for text in ["", "rclone", "rclone vX", "rclone v1", "nginx/1.2.3", "rclone v99999999999.1.1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(Version::parse("rclone v1.59.2").unwrap() < Version::OLDEST);
        assert!(Version::parse("rclone v1.100.0").unwrap() > Version::OLDEST);
    }
}
