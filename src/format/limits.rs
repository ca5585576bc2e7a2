//! The limits of `format-spec/` section 11, in bytes unless said otherwise.

/// The marker.
pub const MARKER: usize = 64 << 10;
/// A key object.
pub const KEY_OBJECT: usize = 64 << 10;
/// A record object as stored.
pub const RECORD_OBJECT: usize = 64 << 20;
/// A record after decompression.
pub const RECORD_RAW: usize = 256 << 20;
/// A pack.
pub const PACK: u64 = 1 << 30;
/// A table of contents, stored or raw.
pub const TOC: usize = 64 << 20;
/// Frames of a pack (count).
pub const PACK_FRAMES: usize = 1 << 20;
/// A frame before compression.
pub const FRAME_RAW: usize = 16 << 20;
/// Blobs of a frame (count).
pub const FRAME_BLOBS: usize = 1 << 20;
/// A blob.
pub const BLOB: usize = 16 << 20;
/// Entries or children of a segment (count). Writers end segments far earlier.
pub const SEGMENT_ENTRIES: usize = 1 << 16;
/// Paths of a segment together: as many of the longest as a writer puts into one.
pub const SEGMENT_PATHS: usize = 64 << 20;
/// Level of a node segment (count).
pub const LEVEL: u8 = 10;
/// A symlink's target.
pub const SYMLINK: usize = 65_535;
/// Extended attributes of an entry (count).
pub const XATTRS: usize = 1_000;
/// One extended attribute's value.
pub const XATTR_VALUE: usize = 64 << 10;
/// All extended attributes of an entry together.
pub const XATTRS_TOTAL: usize = 1 << 20;
/// A file.
pub const FILE_SIZE: u64 = 1 << 50;
/// Items of each list of a snapshot record but the errors (count).
pub const SNAPSHOT_LIST: usize = 1 << 20;
/// Extensions of a record (count).
pub const EXTENSIONS: usize = 1 << 10;
/// Problems that the remembered result of a drill lists (count).
pub const DRILL_PROBLEMS: usize = 100;
/// Errors listed in a snapshot record (count).
pub const SNAPSHOT_ERRORS: usize = 1_000;
