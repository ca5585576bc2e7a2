//! Releases of rclone that a backup should not rely on.
//!
//! From rclone's changelog and issues, each with its source. Distributions may have put a correction into
//! an older version, so these are warnings. Read up to release 1.75.1.

use super::Version;

const fn v(minor: u32, patch: u32) -> Version {
    Version { major: 1, minor, patch }
}

/// A fault of some releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFault {
    /// The first release that has it.
    pub from: Version,
    /// The first that has it no more.
    pub fixed: Version,
    /// The kind of remote that it concerns; all when `None`.
    pub backend: Option<&'static str>,
    /// What it does.
    pub what: &'static str,
    /// Where it is told.
    pub source: &'static str,
    /// Data that it stores or returns is wrong without anybody noticing then.
    pub corrupts: bool,
}

/// All that are known, oldest first.
pub const KNOWN_FAULTS: &[KnownFault] = &[
    KnownFault {
        from: v(61, 0),
        fixed: v(61, 1),
        backend: None,
        what: "`serve restic` does not listen to its standard input, so nothing can be asked of it",
        source: "rclone issue 6646",
        corrupts: false,
    },
    KnownFault {
        from: v(0, 0),
        fixed: v(63, 0),
        backend: Some("zoho"),
        what: "reading a part of an object returns the wrong part",
        source: "changelog of 1.63.0",
        corrupts: true,
    },
    KnownFault {
        from: v(64, 0),
        fixed: v(65, 2),
        backend: Some("azureblob"),
        what: "larger objects may be stored with a block twice",
        source: "rclone issue 7590",
        corrupts: true,
    },
    KnownFault {
        from: v(64, 0),
        fixed: v(64, 1),
        backend: Some("b2"),
        what: "uploads in several parts are stored wrong",
        source: "rclone issue 7367",
        corrupts: true,
    },
    KnownFault {
        from: v(0, 0),
        fixed: v(67, 0),
        backend: Some("onedrive"),
        what: "objects that exist may be reported missing",
        source: "changelog of 1.67.0",
        corrupts: false,
    },
    KnownFault {
        from: v(67, 0),
        fixed: v(72, 0),
        backend: Some("ulozto"),
        what: "a page of an error may be returned as an object",
        source: "changelog of 1.72.0",
        corrupts: true,
    },
    KnownFault {
        from: v(73, 0),
        fixed: v(74, 0),
        backend: Some("drime"),
        what: "objects are stored in the wrong place, and long listings are wrong",
        source: "changelogs of 1.73.1, 1.73.2, 1.74.0",
        corrupts: true,
    },
    KnownFault {
        from: v(75, 0),
        fixed: v(75, 1),
        backend: Some("protondrive"),
        what: "an upload that is tried again is stored cut short",
        source: "rclone issue 9722",
        corrupts: true,
    },
];

/// The faults that a release has with a kind of remote. Without a kind those of all kinds only.
pub fn known_faults(version: Version, backend: Option<&str>) -> impl Iterator<Item = &'static KnownFault> {
    KNOWN_FAULTS.iter().filter(move |fault| {
        (fault.from..fault.fixed).contains(&version)
            && fault.backend.is_none_or(|wanted| backend == Some(wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_counts_from_its_first_release_to_the_one_that_ends_it() {
        let names = |version, backend| known_faults(version, backend).map(|f| f.source).collect::<Vec<_>>();
        assert_eq!(names(v(64, 0), Some("azureblob")), ["rclone issue 7590"]);
        assert_eq!(names(v(65, 1), Some("azureblob")), ["rclone issue 7590"]);
        assert!(names(v(65, 2), Some("azureblob")).is_empty());
        assert!(names(v(63, 1), Some("azureblob")).is_empty());
        assert!(names(v(65, 1), Some("s3")).is_empty());
        assert!(names(v(65, 1), None).is_empty());
        assert_eq!(names(v(61, 0), None), ["rclone issue 6646"]);
        assert_eq!(names(v(60, 1), Some("zoho")), ["changelog of 1.63.0"]);
    }

    #[test]
    fn every_fault_ends_after_it_begins() {
        assert!(KNOWN_FAULTS.iter().all(|fault| fault.from < fault.fixed));
    }
}
