//! Whether an `rclone.conf` has a remote. Nothing else is read of it: rclone reads it itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Far more than any real file.
const MAX_BYTES: u64 = 1 << 20;

/// Whether the file is there and has a section of this name. An encrypted one may have any.
pub(super) fn has_remote(path: &Path, name: &str) -> bool {
    let Ok(file) = File::open(path) else { return false };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let lines = BufReader::new(file.take(MAX_BYTES)).lines();
    lines.map_while(Result::ok).any(|line| {
        let line = line.trim();
        line == format!("[{name}]") || line.starts_with("RCLONE_ENCRYPT_V")
    })
}
