//! How hard to compress.

/// What zstd's level is chosen for.
///
/// Measured on a state dir of 1 GiB (transcripts, databases with vectors, text, media), as repository size
/// and wall time of a first backup on two cores: level 1 578 MiB and 2.3 s, level 2 555 MiB and 2.4 s,
/// level 12 530 MiB and 10 s. Level 3, other tools' default, is 1.6 % smaller than level 2 and takes a quarter
/// more processor time to compress (`benches/README.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As fast as it goes.
    Fast,
    /// Smaller than other tools' repositories, and faster than they.
    #[default]
    Default,
    /// As small as it gets in bearable time.
    Max,
    /// Like the default; harder while the remote is what everything waits for.
    Auto,
}

impl Compression {
    /// zstd's level to begin with.
    #[must_use]
    pub const fn level(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Default | Self::Auto => 2,
            Self::Max => 12,
        }
    }

    /// The highest level that may be used when the remote is slow.
    #[must_use]
    pub const fn highest(self) -> i32 {
        match self {
            Self::Auto => Self::Max.level(),
            other => other.level(),
        }
    }
}
