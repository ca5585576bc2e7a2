//! Which remotes an `rclone.conf` has. Nothing else is read of it: rclone reads it itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Far more than any real file.
const MAX_BYTES: u64 = 1 << 20;

/// What a file says of a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no such file, or it has no remote of this name.
    Nothing,
    /// It has one, of this type; empty when that is not said.
    Remote(String),
    /// The file is encrypted, and may have any.
    Sealed,
}

/// Looks for a remote by its name.
pub(super) fn look(path: &Path, name: &str) -> Found {
    // Opening what is no file, such as a pipe, might take for ever.
    if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Found::Nothing;
    }
    let Ok(file) = File::open(path) else { return Found::Nothing };
    let (mut inside, mut found) = (false, Found::Nothing);
    for line in BufReader::new(file.take(MAX_BYTES)).lines().map_while(Result::ok) {
        let line = line.trim();
        if line.starts_with("RCLONE_ENCRYPT_V") {
            return Found::Sealed;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = section == name;
            if inside {
                found = Found::Remote(String::new());
            }
        } else if let Some((_, value)) =
            line.split_once('=').filter(|(key, _)| inside && key.trim() == "type")
        {
            return Found::Remote(value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn remotes_are_found_with_their_types() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rclone.conf");
        let remote = |kind: &str| Found::Remote(kind.to_owned());
        assert_eq!(look(&path, "a"), Found::Nothing);
        assert_eq!(look(dir.path(), "a"), Found::Nothing);
        std::fs::write(&path, "[a]\ntoken = type = x\n\n[b]\nprovider = y\ntype = s3 \n[c]\ntype=drive")
            .unwrap();
        for (name, want) in
            [("a", remote("")), ("b", remote("s3")), ("c", remote("drive")), ("d", Found::Nothing)]
        {
            assert_eq!(look(&path, name), want, "{name}");
        }
        std::fs::write(&path, "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabc").unwrap();
        assert_eq!(look(&path, "a"), Found::Sealed);
    }
}
