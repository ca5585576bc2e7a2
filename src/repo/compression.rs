//! How hard to compress.

/// What zstd's level is chosen for.
///
/// Measured on a state dir of 1 GiB (text, transcripts, databases, media) in frames of 1 MiB, as sizes
/// against those of level 3: level 1 +6 %, level 2 +1.5 %, level 12 -4 %; processor time of compression
/// -35 %, -20 % and four times as much (`benches/README.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As fast as it goes.
    Fast,
    /// Smaller than other tools' defaults, at two thirds of their cost.
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
